//! Tables for versions that are tried out: updates and answers in, what is compared out.

use expect_test::{Expect, expect};
use indexmap::IndexMap;
use serde_json::json;

use super::*;
use crate::fixture::{Update, twin_type};
use crate::functions::{
    CallSettings, CelSettings, FunctionKind, FunctionSettings, FunctionSpec, Functions, OnLate, TrialSpec,
};
use crate::handler::Nobody;
use crate::steps;
use crate::time::DigitalTime;

fn spec(kind: FunctionKind, version: u32) -> FunctionSpec {
    FunctionSpec { kind, call: CallSettings::default(), version, trial: None }
}

fn cel(text: &str, version: u32) -> FunctionSpec {
    spec(FunctionKind::Inside(FunctionSettings::Cel(CelSettings(text.into()))), version)
}

fn outside(version: u32, on_late: OnLate) -> FunctionSpec {
    let call = CallSettings { of: vec!["t".into()], on_late, ..CallSettings::default() };
    FunctionSpec { call, ..spec(FunctionKind::Outside("http"), version) }
}

/// The function `q` in force, and another version beside it.
fn definition(in_force: FunctionSpec, trial: FunctionSpec) -> TwinType {
    let parts = r#"{"properties": {"t": {"type": "double"}, "n": {"type": "integer"}, "q": {"type": "double"}},
                    "streams": {"s": "none"}}"#;
    let plain = twin_type("press", parts);
    let trial = Some(Box::new(TrialSpec { percent: 100.0, function: trial }));
    let specs = IndexMap::from([("q".to_owned(), FunctionSpec { trial, ..in_force })]);
    let functions = Functions::compile(&specs, &plain.model, &[0, 1]).expect("they are good");
    TwinType { functions, ..plain }
}

/// A twin and what runs beside it, driven as a worker does.
struct Driven {
    definition: TwinType,
    beside_type: TwinType,
    twin: Twin,
    beside: TrialTwin,
    scratch: Scratch,
    pairs: Pairs<u8>,
    second: i64,
    out: String,
}

impl Driven {
    fn new(in_force: FunctionSpec, trial: FunctionSpec) -> Self {
        let definition = definition(in_force, trial);
        let beside_type = trial_type(&definition, &definition.functions.trials()[0]);
        let twin = Twin::new(0, &definition);
        let functions = &definition.functions;
        let beside = TrialTwin::new(&twin, functions, &functions.trials()[0]);
        let (scratch, pairs) = (Scratch::default(), Pairs::default());
        Self { definition, beside_type, twin, beside, scratch, pairs, second: 0, out: String::new() }
    }

    fn update(&mut self, name: &str, value: i64) {
        self.second += 1;
        let update = Update::at(self.second * 1_000_000, &[(name, json!(value))]);
        let batch = update.batch("p", &self.definition.model);
        let event = batch.event(0);
        let trial = self.definition.functions.trials()[0].clone();
        let mut scratch = Scratch::default();
        let mut given = Vec::new();
        let facts = Facts::default();
        let goes_by = Beside { trial: &trial, definition: &self.beside_type, facts };
        self.beside.take(&event, goes_by, &mut scratch, &mut given);
        self.out += &format!("{name} = {value}, calls beside: {}\n", scratch.wanted.len());
        given.into_iter().for_each(|given| self.put(Side::Trial, given));
        let digital_at = DigitalTime(self.second * 1_000_000);
        let update = steps::Update { event, digital_at, binds: true, facts };
        let (twin, none) = (&mut self.twin, std::iter::empty());
        steps::apply("p", twin, &self.definition, &update, none, &mut self.scratch, &mut Nobody);
        if let Some(given) = in_force(&self.twin, &self.definition, &trial, &self.scratch) {
            self.put(Side::InForce, given);
        }
    }

    fn answer(&mut self, update: u64, answer: &str) {
        let trial = self.definition.functions.trials()[0].clone();
        let outcome = match answer.starts_with('{') {
            true => Outcome::Answered(9, answer.as_bytes().to_vec()),
            false => Outcome::Failed(answer.to_owned()),
        };
        self.out += &format!("answer {update} beside: {answer}\n");
        let (mut scratch, mut given) = (Scratch::default(), Vec::new());
        let answer = (update, 0, outcome);
        let goes_by = Beside { trial: &trial, definition: &self.beside_type, facts: Facts::default() };
        self.beside.answer(answer, goes_by, &mut scratch, &mut given);
        given.into_iter().for_each(|given| self.put(Side::Trial, given));
    }

    /// The answer to a call of the version in force, for an update that went on without it.
    fn answer_late(&mut self, update: u64, q: f64) {
        let trial = self.definition.functions.trials()[0].clone();
        self.out += &format!("answer {update}: {q}\n");
        let outcome = Outcome::Answered(1, format!("{{\"q\": {q}}}").into_bytes());
        let answered = self.twin.waiting.answer(update, 0, outcome, self.twin.shadow.update());
        let crate::waiting::Answered::Late(call, outcome) = answered else { panic!("it is late") };
        let (late, at) = ((&call, &outcome), DigitalTime(self.second * 1_000_000));
        let (twin, scratch) = (&mut self.twin, &mut self.scratch);
        steps::apply_late("p", twin, &self.definition, late, at, scratch, &mut Nobody);
        let of = (update, call.function());
        let given = in_force_late(&self.twin, &self.definition, &trial, of, &self.scratch);
        self.put(Side::InForce, given.expect("it is of the function"));
    }

    fn put(&mut self, side: Side, given: Given) {
        if let (Some((in_force, trial)), gone) = self.pairs.put(0, side, given) {
            let shown = |given: &Given| match &given.values {
                Ok(values) => values[0].clone().unwrap_or_else(|| "-".into()),
                Err(reason) => format!("failed: {reason}"),
            };
            self.out += &format!("  update {}: {} | {}\n", trial.update, shown(&in_force), shown(&trial));
            assert_eq!((in_force.update, gone), (trial.update, 0));
        }
    }
}

fn check(in_force: FunctionSpec, trial: FunctionSpec, script: impl FnOnce(&mut Driven), expected: Expect) {
    let mut driven = Driven::new(in_force, trial);
    script(&mut driven);
    expected.assert_eq(&driven.out);
    assert_eq!(driven.twin.shadow.version(2), Some(1), "the twin has what the version in force gave");
}

#[test]
fn two_expressions_are_compared_at_each_update_that_one_runs_on() {
    check(
        cel("t * 2.0", 1),
        cel("previous == null ? t : previous + t + 0.0 * double(n)", 2),
        |twin| {
            for (name, value) in [("t", 1), ("n", 4), ("t", 2), ("n", 5), ("t", 3)] {
                twin.update(name, value);
            }
        },
        expect![[r#"
            t = 1, calls beside: 0
              update 1: 2 | -
            n = 4, calls beside: 0
              update 2: 2 | 1
            t = 2, calls beside: 0
              update 3: 4 | 3
            n = 5, calls beside: 0
              update 4: 4 | 5
            t = 3, calls beside: 0
              update 5: 6 | 8
        "#]],
    );
}

#[test]
fn a_slow_one_is_compared_update_by_update_and_its_failures_are_told() {
    check(
        cel("t * 2.0", 1),
        outside(9, OnLate::Previous),
        |twin| {
            twin.update("t", 1);
            twin.update("n", 7);
            twin.update("t", 2);
            twin.answer(3, r#"{"q": 4}"#);
            twin.answer(1, r#"{"q": 2.5}"#);
            twin.update("t", 3);
            twin.answer(4, "timeout");
            twin.answer(4, r#"{"q": 6}"#);
        },
        expect![[r#"
            t = 1, calls beside: 1
            n = 7, calls beside: 0
            t = 2, calls beside: 1
            answer 3 beside: {"q": 4}
            answer 1 beside: {"q": 2.5}
              update 1: 2 | 2.5
              update 3: 4 | 4
            t = 3, calls beside: 1
            answer 4 beside: timeout
              update 4: 6 | failed: timeout
            answer 4 beside: {"q": 6}
        "#]],
    );
}

#[test]
fn where_the_version_in_force_is_late_its_answer_is_what_is_compared() {
    check(
        outside(1, OnLate::Previous),
        cel("t * 2.0", 2),
        |twin| {
            twin.update("t", 1);
            twin.update("t", 2);
            twin.answer_late(1, 2.0);
            twin.answer_late(2, 5.0);
        },
        expect![[r#"
            t = 1, calls beside: 0
            t = 2, calls beside: 0
            answer 1: 2
              update 1: 2 | 2
            answer 2: 5
              update 2: 5 | 4
        "#]],
    );
}

#[test]
fn it_begins_from_the_twin_as_it_is_and_knows_nothing_of_before() {
    let mut driven = Driven::new(cel("t * 2.0", 1), cel("t * 3.0", 2));
    driven.update("t", 1);
    let functions = &driven.definition.functions;
    let beside = TrialTwin::new(&driven.twin, functions, &functions.trials()[0]);
    assert!(!beside.has(1) && beside.has(2));
}

#[test]
fn halves_are_bounded() {
    let given = |update| Given { update, values: Ok(Vec::new()) };
    let mut pairs = Pairs::<u8>::default();
    let gone: u64 =
        (0..PAIRS_MAX as u64 + 10).map(|update| pairs.put(1, Side::InForce, given(update)).1).sum();
    assert_eq!(gone, 10);
    assert_eq!(pairs.put(1, Side::Trial, given(3)).0, None, "it was let go of");
    assert!(pairs.put(1, Side::Trial, given(PAIRS_MAX as u64)).0.is_some());
    // What was paired does not push out what waits.
    let mut pairs = Pairs::<u8>::default();
    pairs.put(1, Side::InForce, given(0));
    for update in 1..4 * PAIRS_MAX as u64 {
        assert_eq!(pairs.put(1, Side::InForce, given(update)), (None, 0));
        assert!(pairs.put(1, Side::Trial, given(update)).0.is_some());
    }
    assert!(pairs.order.len() <= 2 * PAIRS_MAX + 1);
    assert!(pairs.put(1, Side::Trial, given(0)).0.is_some());
}

#[test]
fn a_share_of_the_twins_is_always_the_same_and_about_as_large_as_said() {
    let plain = definition(cel("t * 2.0", 1), cel("t * 3.0", 2));
    let mut trial = plain.functions.trials()[0].clone();
    let hashes: Vec<u64> = (0..10_000).map(|n| crate::id::hash(format!("p-{n}").as_bytes())).collect();
    for (percent, least, most) in [(100.0, 10_000, 10_000), (10.0, 900, 1_100), (0.5, 30, 75)] {
        trial.percent = percent;
        let seen = hashes.iter().filter(|hash| trial.sees(**hash)).count();
        assert!((least..=most).contains(&seen), "{percent} %: {seen}");
    }
}
