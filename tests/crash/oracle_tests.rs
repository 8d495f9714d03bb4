//! The oracle itself: on made-up tables it finds each way in which a history can be wrong, and only
//! that.

use serde_json::{Value, json};

use super::oracle::{Heard, Sent, Verdict, judge, judge_begin};
use crate::harness::archive::{Archive, Table};

/// A history of two twins that is right: `a` sent 3 messages, `b` one.
struct History {
    physical: Vec<(&'static str, i64, i64)>,
    state: Vec<(&'static str, i64, i64, i64)>,
    lifecycle: Vec<(&'static str, i64)>,
    entanglement: Vec<(&'static str, i64)>,
    dead_letters: usize,
    heard: Vec<Heard>,
}

impl History {
    fn right() -> Self {
        let state = vec![("a", 1, 1, 1), ("a", 2, 2, 2), ("a", 3, 3, 3), ("b", 1, 1, 1)];
        Self {
            physical: state.iter().map(|(twin, update, _, n)| (*twin, *update, *n)).collect(),
            lifecycle: vec![("a", 1), ("a", 3), ("b", 1)],
            entanglement: vec![("a", 2), ("b", 2)],
            dead_letters: 0,
            heard: state.iter().map(|(twin, _, revision, n)| said(twin, 1, *revision, *n)).collect(),
            state,
        }
    }

    fn archive(&self) -> Archive {
        let physical =
            self.physical.iter().map(|(twin, update, n)| vec![json!(twin), json!(update), json!(n)]);
        let state = self
            .state
            .iter()
            .map(|(twin, update, revision, n)| vec![json!(twin), json!(update), json!(revision), json!(n)]);
        let changes = |changes: &[(&str, i64)]| -> Vec<Vec<Value>> {
            changes.iter().map(|(twin, change)| vec![json!(twin), json!(change)]).collect()
        };
        let letter = vec![json!("device/a/n"), json!("malformed")];
        Archive::from([
            table("physical", &["twin", "update", "n"], physical.collect()),
            table("state", &["twin", "update", "revision", "n"], state.collect()),
            table("lifecycle", &["twin", "change"], changes(&self.lifecycle)),
            table("entanglement", &["twin", "change"], changes(&self.entanglement)),
            table("dead_letters", &["topic", "reason"], vec![letter; self.dead_letters]),
        ])
    }
}

fn table(name: &str, columns: &[&str], rows: Vec<Vec<Value>>) -> (String, Table) {
    (name.to_owned(), Table { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows })
}

fn said(twin: &str, generation: i64, revision: i64, n: i64) -> Heard {
    Heard { twin: twin.into(), kind: "state".into(), generation, number: revision, n: Some(n) }
}

fn sent() -> Sent {
    Sent::from([("a".into(), 3), ("b".into(), 1)])
}

/// What a verdict says: how many are lost and repeated, and the words.
fn shown(verdict: &Verdict) -> (usize, usize, String) {
    (verdict.lost.len(), verdict.repeated.len(), verdict.wrong.join("; "))
}

/// Changes a right history, and compares what the oracle then says: nothing but `words`, which are
/// all to be there; none stand for a history that is right.
fn check(
    change: impl Fn(&mut History),
    judge: impl Fn(&History) -> Verdict,
    (lost, repeated, words): (usize, usize, &[&str]),
) {
    let mut history = History::right();
    change(&mut history);
    let verdict = judge(&history);
    let found = shown(&verdict);
    assert_eq!((found.0, found.1), (lost, repeated), "{found:?}, expected {words:?}");
    assert_eq!(verdict.wrong.len(), words.len(), "{found:?}, expected {words:?}");
    words.iter().for_each(|word| assert!(found.2.contains(word), "{word} is not in {found:?}"));
    assert_eq!(verdict.is_good(), (lost, repeated, words.len()) == (0, 0, 0));
}

/// A change of a right history, and what is to be found then: lost, repeated, and words.
type Case = (fn(&mut History), usize, usize, &'static [&'static str]);

#[test]
fn each_fault_of_a_whole_history_is_found() {
    let cases: &[Case] = &[
        (|_| {}, 0, 0, &[]),
        // A row that is lost at the end, and one in the middle, which is a gap too.
        (|h| _ = h.physical.remove(2), 1, 0, &[]),
        (|h| _ = h.physical.remove(1), 1, 0, &["a: physical: update 3 follows 1"]),
        (|h| _ = h.physical.remove(3), 1, 0, &[]),
        (
            |h| _ = h.state.remove(1),
            1,
            0,
            &["a: state: update 3 follows 1", "a: state: revision 3 follows 1"],
        ),
        (|h| (h.state.clear(), h.physical.clear()).0, 4, 0, &[]),
        // A row twice, as itself and as another update.
        (|h| h.physical.push(("a", 3, 3)), 0, 1, &["a: physical: update 3 is there twice"]),
        (|h| h.physical.push(("a", 4, 3)), 0, 1, &[]),
        (|h| h.state.push(("a", 4, 3, 3)), 0, 1, &["a: state: revision 3 is there twice"]),
        // A gap, a step back, and a swap of which nothing is lost.
        (|h| h.physical[2].1 = 5, 0, 0, &["a: physical: update 5 follows 2"]),
        (
            |h| h.state[2].2 = 4,
            0,
            0,
            &["a: state: revision 4 follows 2", "a: revision 4 was never heard", "last archived Some(4)"],
        ),
        (|h| (h.physical[0].2, h.physical[1].2) = (2, 1), 0, 0, &["physical: a: n 1 comes after n 2"]),
        // What nobody sent.
        (|h| h.physical.push(("a", 4, 4)), 0, 0, &["physical: a: n 4 was never sent"]),
        (|h| h.physical.push(("c", 1, 1)), 0, 0, &["physical: c was never sent"]),
        (|h| h.dead_letters = 1, 0, 0, &["dead letter of \"device/a/n\": \"malformed\""]),
        // Changes: twice in a table, in both, and a gap.
        (|h| h.lifecycle.push(("a", 1)), 0, 0, &["a: change 1 stands in"]),
        (|h| h.entanglement.push(("a", 3)), 0, 0, &["a: change 3 stands in"]),
        (|h| h.lifecycle.push(("b", 4)), 0, 0, &["b: change 4 follows 2"]),
        // The listener: nothing, again in the same run, in a later one, in an earlier one.
        (|h| _ = h.heard.remove(0), 0, 0, &["a: revision 1 was never heard"]),
        (|h| h.heard.push(said("b", 1, 1, 1)), 0, 0, &["without a higher generation"]),
        (|h| h.heard.push(said("b", 2, 1, 1)), 0, 0, &[]),
        (|h| h.heard.insert(0, said("b", 2, 1, 1)), 0, 0, &["without a higher generation"]),
        // What was heard in a run that died may differ; what was heard last may not.
        (|h| (h.heard[3].n = Some(7), h.heard.push(said("b", 2, 1, 1))).1, 0, 0, &[]),
        (|h| h.heard.push(said("b", 2, 1, 7)), 0, 0, &["is n 1 in the archive"]),
        (|h| h.heard.push(said("a", 2, 2, 2)), 0, 0, &["last heard Some(2), last archived Some(3)"]),
    ];
    for (change, lost, repeated, words) in cases {
        check(
            change,
            |history| judge(&sent(), &history.archive(), &history.heard),
            (*lost, *repeated, words),
        );
    }
}

#[test]
fn a_begin_may_end_anywhere_and_has_no_hole() {
    let cases: &[Case] = &[
        (|_| {}, 0, 0, &[]),
        (|h| (h.state.clear(), h.physical.clear(), h.lifecycle.clear()).0, 0, 0, &[]),
        // Tables need not be equally far, and nor do twins.
        (|h| _ = h.physical.remove(2), 0, 0, &[]),
        (|h| (h.physical.remove(3), h.state.truncate(1)).1, 0, 0, &[]),
        (|h| _ = h.lifecycle.remove(0), 0, 0, &[]),
        (|h| _ = h.physical.remove(1), 1, 0, &["a: physical: update 3 follows 1"]),
        (|h| h.physical.push(("a", 3, 3)), 0, 1, &["a: physical: update 3 is there twice"]),
        (|h| h.entanglement.push(("a", 2)), 0, 0, &["a: change 2 stands in"]),
        (|h| (h.physical[0].2, h.physical[1].2) = (2, 1), 0, 0, &["physical: a: n 1 comes after n 2"]),
        (|h| h.dead_letters = 1, 0, 0, &["dead letter"]),
    ];
    for (change, lost, repeated, words) in cases {
        check(change, |history| judge_begin(&sent(), &history.archive(), &[]), (*lost, *repeated, words));
    }
}

#[test]
fn each_event_is_recorded_once() {
    type Change = fn(&mut Vec<Heard>);
    let cases: &[(Change, usize, usize, &[&str])] = &[
        (|_| {}, 0, 0, &[]),
        (|records| _ = records.remove(0), 1, 0, &["revision 2 follows 0", "a: revision 1 is not as in"]),
        (|records| records.push(said("b", 2, 1, 1)), 0, 1, &["record again", "revision 1 is there twice"]),
        (
            |records| records.swap(0, 1),
            0,
            0,
            &["revision 2 follows 0", "revision 1 follows 2", "3 follows 1"],
        ),
        (|records| records[1].n = Some(9), 1, 0, &["a: revision 2 is not as in"]),
        (|records| records.retain(|one| one.kind == "state"), 0, 0, &["is missing"; 5]),
    ];
    for (change, lost, repeated, words) in cases {
        let history = History::right();
        let change_of = |kind: &str, twin: &str, number: i64| Heard {
            kind: kind.into(),
            n: None,
            ..said(twin, 1, number, 0)
        };
        let mut records = history.heard.clone();
        records.extend(history.lifecycle.iter().map(|(twin, number)| change_of("lifecycle", twin, *number)));
        let measured = history.entanglement.iter();
        records.extend(measured.map(|(twin, number)| change_of("entanglement", twin, *number)));
        change(&mut records);
        check(
            |_| {},
            |history| {
                let mut verdict = Verdict::default();
                verdict.judge_records(&history.archive(), &records);
                verdict
            },
            (*lost, *repeated, words),
        );
    }
}
