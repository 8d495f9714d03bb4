//! Questions that are answered in walks, and walks that end twins.

use operators::life_cycle::Phase;

use super::*;
use crate::ask::{Collecting, PartOfReply, Question, Reply, Selection};
use crate::survey::Answer;

pub(super) fn ask(twins: &mut Twins, number: u64) {
    twins.ask(number, Collecting::new(Question::Survey).expect("a survey is gathered"));
}

/// The survey that a walk has come to the end of.
pub(super) fn surveyed(answer: Option<(u64, PartOfReply)>) -> (u64, Answer) {
    match answer {
        Some((number, PartOfReply::Survey(answer))) => (number, *answer),
        other => panic!("no survey: {other:?}"),
    }
}

/// The answer to a question, walked in steps of two twins.
fn answered(twins: &mut Twins, question: Question, now_us: i64) -> Reply {
    twins.ask(1, Collecting::new(question).expect("it is gathered in a walk"));
    loop {
        if let Some((_, part)) = twins.sweep(now_us, 2) {
            return part.reply();
        }
    }
}

/// The ids that a selection lists.
fn listed(twins: &mut Twins, selection: Selection) -> String {
    match answered(twins, Question::List(selection), 2_000_000) {
        Reply::List(list) => list.iter().map(|one| one.twin.as_str()).collect::<Vec<_>>().join(" "),
        other => panic!("no list: {other:?}"),
    }
}

#[test]
fn a_survey_walks_while_updates_go_on() {
    let mut twins = worker(10);
    let clock = || 1_000_000;
    update(&mut twins, clock(), &["press", "a", "b", "c"]);
    ask(&mut twins, 1);
    assert!(twins.sweep(clock(), 2).is_none());
    update(&mut twins, clock(), &["press", "a", "b", "c"]);
    let (number, answer) = surveyed(twins.sweep(clock(), 9));
    assert_eq!((number, answer.twins, answer.events), (1, 3, 6));
    assert!(!twins.is_sweeping() && twins.sweep(clock(), 9).is_none());
}

#[test]
fn lists_are_by_id_and_go_on_behind_a_cursor() {
    let mut twins = worker(100);
    update(&mut twins, 1_000_000, &["press", "p-3", "p-1", "q-2", "p-10"]);
    update(&mut twins, 1_000_000, &["valve", "v-1"]);
    let all = || Selection { limit: 100, ..Selection::default() };
    assert_eq!(listed(&mut twins, all()), "p-1 p-10 p-3 q-2 v-1");
    assert_eq!(listed(&mut twins, Selection { limit: 2, ..all() }), "p-1 p-10");
    let after = |id: &str| Some(id.to_owned());
    assert_eq!(listed(&mut twins, Selection { limit: 2, after: after("p-10"), ..all() }), "p-3 q-2");
    assert_eq!(listed(&mut twins, Selection { prefix: "p-1".into(), ..all() }), "p-1 p-10");
    assert_eq!(listed(&mut twins, Selection { twin_type: after("valve"), ..all() }), "v-1");
    assert_eq!(listed(&mut twins, Selection { phases: vec![Phase::Done], ..all() }), "");
    assert_eq!(listed(&mut twins, Selection { odte_max: Some(-1.0), ..all() }), "");
}

#[test]
fn twins_in_trouble_are_grouped_by_what_they_share() {
    let mut twins = worker(100);
    update(&mut twins, 1_000_000, &["press", "hall-1/p-1", "hall-1/p-2", "hall-2/p-1"]);
    update(&mut twins, 1_000_000, &["pump", "well"]);
    twins.source_lost(0, 1_500_000, 7);
    while twins.is_sweeping() {
        twins.sweep(1_500_000, 9);
    }
    let Reply::Troubles(groups) = answered(&mut twins, Question::Troubles, 2_000_000) else {
        panic!("no troubles")
    };
    let found: Vec<_> = groups
        .iter()
        .map(|group| (group.cause.word(), group.prefix.as_str(), group.twins, group.named.join(" ")))
        .collect();
    let expected = [
        ("source_lost", "hall-1/p", 2, "hall-1/p-1 hall-1/p-2".to_owned()),
        ("source_lost", "hall-2/p", 1, "hall-2/p-1".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn twins_that_are_ended_answer_and_take_nothing_more() {
    let mut twins = worker(100);
    update(&mut twins, 1_000_000, &["press", "a", "b", "c"]);
    for (dismiss, phase) in [(false, Phase::Done), (true, Phase::Stopped)] {
        twins.end_all(2_000_000, dismiss);
        ask(&mut twins, 3);
        // The survey was asked for after it, so it is answered after it.
        let (_, survey) = surveyed(std::iter::from_fn(|| Some(twins.sweep(2_000_000, 1))).flatten().next());
        assert_eq!(survey.phases[phase as usize], 3);
    }
    update(&mut twins, 3_000_000, &["press", "a"]);
    let view = twins.view("a", 3_000_000).expect("it is still known");
    assert_eq!((view.summary.phase, view.update), (Phase::Stopped, 1));
    assert_eq!(twins.view("nobody", 0), None);
}
