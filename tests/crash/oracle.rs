//! What must be there, computed from what was sent alone: the archive and the listener are judged by
//! it, and every finding says which twin and number it is about.
//!
//! ```text
//!   sent: twin ──► 1, 2, .. last ──┐
//!   archive: physical, state,      ├──► Verdict { lost, repeated, wrong }
//!            lifecycle, entanglement
//!   heard: (twin, number, generation)
//!   records: the same, each once
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::archive::{Archive, Table};
use crate::harness::client::Message;

/// What the broker acknowledged: of each twin the numbers from 1 to this one.
pub type Sent = BTreeMap<String, i64>;

/// A message: a twin and its number.
pub type Number = (String, i64);

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    /// Messages that a table lacks.
    pub lost: BTreeSet<Number>,
    /// Messages that a table has more than once.
    pub repeated: BTreeSet<Number>,
    /// Everything else, in words.
    pub wrong: Vec<String>,
}

/// A digital event as a listener heard it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The twin.
    pub twin: String,
    /// Its kind.
    pub kind: String,
    /// The run that said it.
    pub generation: i64,
    /// What it is known by in its kind: a revision, or a change.
    pub number: i64,
    /// The number of the message whose state it is; of states only.
    pub n: Option<i64>,
}

/// Tables of one row a message.
const BY_MESSAGE: [&str; 2] = ["physical", "state"];
/// Tables that share a twin's counter of changes.
const BY_CHANGE: [&str; 2] = ["entanglement", "lifecycle"];

/// Judges what is visible at any instant: of each twin a begin of its history, without a hole.
pub fn judge_begin(sent: &Sent, archive: &Archive, records: &[Heard]) -> Verdict {
    let mut verdict = Verdict::default();
    for name in BY_MESSAGE {
        let rows = by_twin(archive.get(name));
        let newest = |twin: &String| rows.get(twin).and_then(|rows| rows.iter().map(|row| row.n).max());
        let begun = sent.keys().filter_map(|twin| Some((twin.clone(), newest(twin)?)));
        verdict.judge_table(name, &begun.collect(), &rows);
    }
    verdict.judge_changes(archive);
    verdict.judge_dead_letters(archive);
    verdict.judge_once(records);
    verdict
}

/// Judges what is there when all is through.
pub fn judge(sent: &Sent, archive: &Archive, heard: &[Heard]) -> Verdict {
    let mut verdict = Verdict::default();
    for name in BY_MESSAGE {
        verdict.judge_table(name, sent, &by_twin(archive.get(name)));
    }
    let changes = verdict.judge_changes(archive);
    changes.iter().for_each(|(twin, changes)| verdict.judge_steps(twin, "change", changes));
    verdict.judge_dead_letters(archive);
    verdict.judge_heard(archive, heard);
    verdict
}

/// Reads what a listener heard; events that are numbered otherwise are left out.
pub fn heard(messages: &[Message]) -> Vec<Heard> {
    messages.iter().filter_map(|message| read(&message.json())).collect()
}

/// Reads a digital event; none of one that is numbered otherwise.
pub fn read(json: &Value) -> Option<Heard> {
    let kind = json["kind"].as_str()?.to_owned();
    let number = match kind.as_str() {
        "state" => json["revision"].as_i64()?,
        "lifecycle" | "entanglement" => json["change"].as_i64()?,
        _ => return None,
    };
    Some(Heard {
        twin: json["twin"].as_str()?.to_owned(),
        generation: json["generation"].as_i64()?,
        n: json["properties"]["n"].as_i64(),
        number,
        kind,
    })
}

/// A row of a table with one row a message.
#[derive(Clone, Copy, Debug)]
struct Row {
    update: i64,
    /// Of `state` only.
    revision: Option<i64>,
    n: i64,
}

/// The rows of each twin in the order of `update`.
fn by_twin(table: Option<&Table>) -> BTreeMap<String, Vec<Row>> {
    let mut twins: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let Some(table) = table else { return twins };
    let at = |name: &str| table.column(name).unwrap_or_else(|| panic!("the table has no column {name}"));
    let (twin, update, n, revision) = (at("twin"), at("update"), at("n"), table.column("revision"));
    for row in &table.rows {
        let revision = revision.map(|column| integer(&row[column]));
        let row_read = Row { update: integer(&row[update]), n: integer(&row[n]), revision };
        twins.entry(text(&row[twin])).or_default().push(row_read);
    }
    twins.values_mut().for_each(|rows| rows.sort_by_key(|row| row.update));
    twins
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("a number of the crash suite is an integer: {value}"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a twin has an id").to_owned()
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_good(&self) -> bool {
        *self == Self::default()
    }

    /// The first findings, and how many there are.
    pub fn show(&self) -> String {
        let few = |numbers: &BTreeSet<Number>| format!("{:?}", numbers.iter().take(5).collect::<Vec<_>>());
        let wrong: Vec<_> = self.wrong.iter().take(20).map(String::as_str).collect();
        format!(
            "{} lost {}, {} repeated {}, {} wrong:\n{}",
            self.lost.len(),
            few(&self.lost),
            self.repeated.len(),
            few(&self.repeated),
            self.wrong.len(),
            wrong.join("\n")
        )
    }

    /// Each message once, in its order, its updates and revisions counted without gap or repeat.
    fn judge_table(&mut self, name: &str, sent: &Sent, twins: &BTreeMap<String, Vec<Row>>) {
        let none = Vec::new();
        for (twin, last) in sent {
            let rows = twins.get(twin).unwrap_or(&none);
            let mut times: BTreeMap<i64, usize> = BTreeMap::new();
            rows.iter().for_each(|row| *times.entry(row.n).or_default() += 1);
            let lost = (1..=*last).filter(|n| !times.contains_key(n));
            self.lost.extend(lost.map(|n| (twin.clone(), n)));
            let repeated = times.iter().filter(|(_, times)| **times > 1);
            self.repeated.extend(repeated.map(|(n, _)| (twin.clone(), *n)));
            let invented = times.keys().filter(|n| !(1..=*last).contains(*n));
            self.wrong.extend(invented.map(|n| format!("{name}: {twin}: n {n} was never sent")));
            let swapped = rows.windows(2).filter(|pair| pair[1].n < pair[0].n);
            self.wrong.extend(swapped.map(|pair| {
                format!("{name}: {twin}: n {} comes after n {} by `update`", pair[1].n, pair[0].n)
            }));
            let steps = |of: fn(&Row) -> Option<i64>| rows.iter().filter_map(of).collect::<Vec<_>>();
            self.judge_steps(twin, &format!("{name}: update"), &steps(|row| Some(row.update)));
            self.judge_steps(twin, &format!("{name}: revision"), &steps(|row| row.revision));
        }
        let strangers = twins.keys().filter(|twin| !sent.contains_key(*twin));
        self.wrong.extend(strangers.map(|twin| format!("{name}: {twin} was never sent")));
    }

    /// Numbers in their order must be 1, 2, 3 and so on.
    fn judge_steps(&mut self, twin: &str, what: &str, numbers: &[i64]) {
        let mut before = 0;
        for number in numbers {
            match number - before {
                1 => {}
                0 => self.wrong.push(format!("{twin}: {what} {number} is there twice")),
                _ => self.wrong.push(format!("{twin}: {what} {number} follows {before}")),
            }
            before = *number;
        }
    }

    /// No change is there twice; all changes of each twin, sorted.
    fn judge_changes(&mut self, archive: &Archive) -> BTreeMap<String, Vec<i64>> {
        let mut changes: BTreeMap<String, BTreeMap<i64, Vec<&str>>> = BTreeMap::new();
        for name in BY_CHANGE {
            let Some(table) = archive.get(name) else { continue };
            for (twin, change) in table.cells("twin").into_iter().zip(table.cells("change")) {
                changes.entry(text(twin)).or_default().entry(integer(change)).or_default().push(name);
            }
        }
        for (twin, changes) in &changes {
            let repeated = changes.iter().filter(|(_, tables)| tables.len() > 1);
            self.wrong.extend(
                repeated.map(|(change, tables)| format!("{twin}: change {change} stands in {tables:?}")),
            );
        }
        changes.into_iter().map(|(twin, changes)| (twin, changes.into_keys().collect())).collect()
    }

    /// All that is sent can be read.
    fn judge_dead_letters(&mut self, archive: &Archive) {
        let Some(table) = archive.get("dead_letters") else { return };
        for (topic, reason) in table.cells("topic").into_iter().zip(table.cells("reason")) {
            self.wrong.push(format!("dead letter of {topic}: {reason}"));
        }
    }

    /// Each event is there once; the states of a twin are 1, 2, 3 and so on, in the order in which they stand.
    fn judge_once(&mut self, records: &[Heard]) {
        let mut seen: BTreeSet<(&str, &str, i64)> = BTreeSet::new();
        let mut states: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for one in records {
            if !seen.insert((&one.twin, &one.kind, one.number)) {
                let number = one.n.unwrap_or(one.number);
                self.repeated.insert((one.twin.clone(), number));
                self.wrong.push(format!("record again: {one:?}"));
            }
            if one.kind == "state" {
                states.entry(&one.twin).or_default().push(one.number);
            }
        }
        for (twin, revisions) in &states {
            self.judge_steps(twin, "record: revision", revisions);
        }
    }

    /// Each event once, and all of them: the states and changes that the archive has.
    pub fn judge_records(&mut self, archive: &Archive, records: &[Heard]) {
        self.judge_once(records);
        let known: BTreeMap<(&str, &str, i64), &Heard> =
            records.iter().map(|one| ((one.twin.as_str(), one.kind.as_str(), one.number), one)).collect();
        for (twin, rows) in &by_twin(archive.get("state")) {
            for row in rows {
                let revision = row.revision.expect("a state has one");
                if known.get(&(twin, "state", revision)).and_then(|one| one.n) != Some(row.n) {
                    self.lost.insert((twin.clone(), row.n));
                    self.wrong.push(format!("record: {twin}: revision {revision} is not as in the archive"));
                }
            }
        }
        for name in BY_CHANGE {
            let Some(table) = archive.get(name) else { continue };
            for (twin, change) in table.cells("twin").into_iter().zip(table.cells("change")) {
                let (twin, change) = (text(twin), integer(change));
                if !known.contains_key(&(twin.as_str(), name, change)) {
                    self.wrong.push(format!("record: {twin}: {name} {change} is missing"));
                }
            }
        }
    }

    /// Every revision is heard, again only from a later run, and at last as the archive has it.
    fn judge_heard(&mut self, archive: &Archive, heard: &[Heard]) {
        let mut known: BTreeMap<(&str, &str, i64), &Heard> = BTreeMap::new();
        let mut last: BTreeMap<&str, &Heard> = BTreeMap::new();
        for one in heard {
            let before = known.insert((&one.twin, &one.kind, one.number), one);
            if let Some(before) = before.filter(|before| before.generation >= one.generation) {
                self.wrong.push(format!("heard again without a higher generation: {before:?}, {one:?}"));
            }
            if one.kind == "state" {
                last.insert(&one.twin, one);
            }
        }
        for (twin, rows) in &by_twin(archive.get("state")) {
            for row in rows {
                let revision = row.revision.expect("a state has one");
                match known.get(&(twin.as_str(), "state", revision)) {
                    None => self.wrong.push(format!("{twin}: revision {revision} was never heard")),
                    Some(one) if one.n != Some(row.n) => {
                        self.wrong.push(format!("{twin}: {one:?} is n {} in the archive", row.n));
                    }
                    Some(_) => {}
                }
            }
            let newest = rows.last().and_then(|row| row.revision);
            let heard_last = last.get(twin.as_str()).map(|one| one.number);
            if newest != heard_last {
                self.wrong.push(format!("{twin}: last heard {heard_last:?}, last archived {newest:?}"));
            }
        }
    }
}
