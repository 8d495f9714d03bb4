//! Events that wait for step 2, where that is a function outside: each becomes an update of its twin when its values
//! are known, in the order in which they came.
//!
//! ```text
//!   event ─► hold_unshadowed ─ ─ ─ ► answer ─► take_shadowed ─► hold, or the steps of the twin
//! ```
//! The number of an update is known before: all events before it become updates too, be it without values.

use serde::{Deserialize, Serialize};

use super::{Held, SoFar, Waiting, Wanted, told};
use crate::batch::{Event, EventBatch};
use crate::functions::{Failed, Outcome, SHADOWING_PLACE, write_event};
use crate::roster::Facts;
use crate::twin::TwinType;

/// An event that waits for step 2.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Unshadowed {
    /// The event as it came, alone in its batch.
    pub(super) event: EventBatch,
    /// When it is consolidated, where that does not depend on the answer.
    at_us: Option<i64>,
    outcome: Option<Outcome>,
}

/// An event whose values are known.
#[derive(Debug)]
pub struct Known {
    /// The event, alone in its batch.
    pub event: EventBatch,
    /// When it is consolidated, where that does not depend on answers.
    pub at_us: Option<i64>,
    /// Why it has no values.
    pub failed: Option<Failed>,
}

impl Waiting {
    /// Whether events wait for step 2.
    pub fn holds_unshadowed(&self) -> bool {
        self.0.as_ref().is_some_and(|held| !held.unshadowed.is_empty())
    }

    /// Holds an event of a type whose step 2 is a function outside, and asks for its call.
    pub fn hold_unshadowed(
        &mut self,
        so_far: SoFar<'_>,
        event: &Event<'_>,
        at_us: Option<i64>,
        definition: &TwinType,
        wanted: &mut Vec<Wanted>,
    ) {
        let held = self.0.get_or_insert_default();
        let update = held.number(so_far, held.unshadowed.len());
        let mut alone = EventBatch::default();
        alone.push(*event);
        held.unshadowed.push_back(Unshadowed { event: alone, at_us, outcome: None });
        let Some(function) = definition.functions.shadowing() else { return };
        wanted.push(call(event, update, definition, so_far.facts));
        if held.unshadowed.len() > function.waiting_max {
            held.unshadowed[0].give_up("too many events of the twin wait behind it");
        }
    }

    /// Takes the oldest event that waits for step 2, if its values are known. Where the step is no longer a
    /// function, they are those that it came with.
    pub fn take_shadowed(&mut self, definition: &TwinType) -> Option<Known> {
        let held = self.0.as_mut()?;
        let function = definition.functions.shadowing();
        if held.unshadowed.front()?.outcome.is_none() && function.is_some() {
            return None;
        }
        let Unshadowed { event, at_us, outcome } = held.unshadowed.pop_front()?;
        self.let_go();
        Some(match (function, outcome) {
            (Some(function), Some(outcome)) => {
                let (event, failed) = function.shadowed(event.event(0), &outcome, &definition.model);
                Known { event, at_us, failed }
            }
            _ => Known { event, at_us, failed: None },
        })
    }
}

impl Held {
    /// The number that the event at a place among those that wait for step 2 has as an update.
    fn number(&self, SoFar { shadow, .. }: SoFar<'_>, place: usize) -> u64 {
        shadow.update() + (self.updates.len() + place) as u64 + 1
    }

    /// Takes the answer of step 2 for an update; whether one waits for it. `done` is the number of the twin's last
    /// consolidated update.
    pub(super) fn answer_unshadowed(&mut self, update: u64, outcome: Outcome, done: u64) -> bool {
        let before = done + self.updates.len() as u64 + 1;
        let place = update.checked_sub(before).and_then(|place| usize::try_from(place).ok());
        let waiting = place.and_then(|place| self.unshadowed.get_mut(place));
        match waiting.filter(|waiting| waiting.outcome.is_none()) {
            Some(waiting) => {
                waiting.outcome = Some(outcome);
                true
            }
            None => false,
        }
    }

    /// After a restore: the calls that are to be made again.
    pub(super) fn resume_unshadowed(
        &self,
        so_far: SoFar<'_>,
        definition: &TwinType,
        wanted: &mut Vec<Wanted>,
    ) {
        if definition.functions.shadowing().is_none() {
            return;
        }
        for (place, waiting) in self.unshadowed.iter().enumerate().filter(|(_, one)| one.outcome.is_none()) {
            let update = self.number(so_far, place);
            wanted.push(call(&waiting.event.event(0), update, definition, so_far.facts));
        }
    }
}

impl Unshadowed {
    pub(super) fn give_up(&mut self, reason: &str) {
        self.outcome.get_or_insert_with(|| Outcome::Failed(reason.to_owned()));
    }
}

fn call(event: &Event<'_>, update: u64, definition: &TwinType, facts: Facts<'_>) -> Wanted {
    let body = write_event(&told(event, update, definition, facts));
    Wanted { function: SHADOWING_PLACE, update, body }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::adaptation::Adaptation;
    use crate::fixture::{self, twin_type};
    use crate::functions::{CallSettings, FunctionKind, FunctionSpec, Functions, OnError};
    use crate::layout::Layout;
    use crate::snapshot::VERSION;
    use crate::steps::{Scratch, compute};
    use crate::twin::Twin;

    fn definition() -> TwinType {
        let parts = r#"{"properties": {"t": {"type": "double", "range": [0, 50]}, "n": {"type": "integer"}, "l": {"type": "array", "items": "integer"}},
                        "events": {"rang": {"type": "object"}}, "streams": {"s": "none"}}"#;
        let plain = twin_type("press", parts);
        let call = CallSettings { waiting: 4, on_error: OnError::DeadLetter, ..CallSettings::default() };
        let spec = FunctionSpec { kind: FunctionKind::Outside("http"), call, version: 1, trial: None };
        let functions =
            Functions::compile(&IndexMap::<String, FunctionSpec>::new(), &plain.model, &[0, 1, 2]);
        let functions = functions.expect("there are none").with_shadowing(&spec);
        TwinType { functions: functions.expect("it is good"), ..plain }
    }

    struct Driven {
        definition: TwinType,
        twin: Twin,
        out: String,
    }

    impl Driven {
        fn event(&mut self, values: &[(&str, serde_json::Value)]) {
            let batch = fixture::Update::at(1_000_000, values).batch("p", &self.definition.model);
            let mut wanted = Vec::new();
            let so_far = SoFar {
                shadow: &self.twin.shadow,
                augmentation: &self.twin.augmentation,
                facts: Facts::default(),
            };
            let waiting = &mut self.twin.waiting;
            waiting.hold_unshadowed(so_far, &batch.event(0), None, &self.definition, &mut wanted);
            self.note(wanted);
            self.take();
        }

        fn note(&mut self, wanted: Vec<Wanted>) {
            for Wanted { update, body, .. } in wanted {
                let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                self.out += &format!("call {update}: {}\n", body["properties"]);
            }
        }

        fn answer(&mut self, update: u64, answer: &str) {
            let outcome = match answer.starts_with('{') {
                true => Outcome::Answered(1, answer.into()),
                false => Outcome::Failed(answer.into()),
            };
            let done = self.twin.shadow.update();
            let answered = self.twin.waiting.answer(update, SHADOWING_PLACE, outcome, done);
            self.out += &format!("answer {update}: {answered:?}\n");
            self.take();
        }

        fn take(&mut self) {
            while let Some(Known { event, failed, .. }) = self.twin.waiting.take_shadowed(&self.definition) {
                let mut scratch = Scratch::default();
                let Twin { shadow, augmentation, .. } = &mut self.twin;
                let none = std::iter::empty();
                let known = (&event.event(0), Facts::default());
                compute(shadow, augmentation, &self.definition, known, none, &mut scratch);
                let shown = |number| format!("{:?}", self.twin.shadow.value(&self.definition.model, number));
                let values: Vec<String> = (0..3).map(shown).collect();
                let events = event.event(0).events().count();
                self.out +=
                    &format!("  update {}: {} events {events}", self.twin.shadow.update(), values.join(" "));
                self.out += &failed
                    .map_or("\n".into(), |failed| format!(" ({}, {})\n", failed.reason, failed.is_letter));
            }
        }

        /// Through a checkpoint and back, under this type.
        fn restore(&mut self, definition: TwinType) {
            let layout = Layout::of(std::slice::from_ref(&self.definition));
            self.definition = definition;
            let types = [self.definition.clone()];
            let (adaptation, _) = Adaptation::new(&layout, &types).expect("it fits");
            let mut record = Vec::new();
            self.twin.write(&mut record);
            self.twin = adaptation.restore(&record).expect("it is a good record");
            self.out += "restored\n";
            let mut wanted = Vec::new();
            let so_far = SoFar {
                shadow: &self.twin.shadow,
                augmentation: &self.twin.augmentation,
                facts: Facts::default(),
            };
            self.twin.waiting.resume(so_far, &self.definition, &mut wanted);
            self.note(wanted);
            self.take();
        }
    }

    #[test]
    fn events_become_updates_in_their_order_with_the_values_of_the_function() {
        let definition = definition();
        let twin = Twin::new(0, &definition);
        let mut driven = Driven { definition: definition.clone(), twin, out: String::new() };
        driven.event(&[("t", json!(1)), ("rang", json!({"by": "door"}))]);
        driven.event(&[("n", json!(7))]);
        driven.event(&[("t", json!(2))]);
        driven.answer(2, r#"{"n": 70, "t": null, "l": [1, 2]}"#);
        driven.restore(definition.clone());
        driven.answer(1, r#"{"t": 1.5}"#);
        driven.answer(1, r#"{"t": 9}"#);
        // A value out of range, one that no stream maps, one of the wrong kind, and no answer.
        driven.answer(3, r#"{"t": 51}"#);
        for (update, answer) in [(4, r#"{"q": 1}"#), (5, r#"{"n": "x"}"#), (6, "timeout"), (7, "{}")] {
            driven.event(&[("t", json!(update))]);
            driven.answer(update, answer);
        }
        // One more than may wait.
        (0..5).for_each(|n| driven.event(&[("n", json!(n))]));
        // Where step 2 is no function any more, they go on as they came.
        let without = TwinType { functions: Functions::default(), ..definition };
        driven.restore(without);
        assert!(driven.twin.waiting.is_empty());
        expect![[r#"
            call 1: {"t":1}
            call 2: {"n":7}
            call 3: {"t":2}
            answer 2: Waiting
            restored
            call 1: {"t":1}
            call 3: {"t":2}
            answer 1: Waiting
              update 1: Some(Double(1.5)) None None events 1
              update 2: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0
            answer 1: Forgotten
            answer 3: Waiting
              update 3: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0 (`t`: 51 is outside the range [0, 50], true)
            call 4: {"t":4}
            answer 4: Waiting
              update 4: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0 (the answer has `q`, which no stream maps, true)
            call 5: {"t":5}
            answer 5: Waiting
              update 5: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0 (`n`: "x" is no integer, true)
            call 6: {"t":6}
            answer 6: Waiting
              update 6: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0 (timeout, true)
            call 7: {"t":7}
            answer 7: Waiting
              update 7: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0
            call 8: {"n":0}
            call 9: {"n":1}
            call 10: {"n":2}
            call 11: {"n":3}
            call 12: {"n":4}
              update 8: Some(Double(1.5)) Some(Integer(70)) Some(Json("[1,2]")) events 0 (too many events of the twin wait behind it, true)
            restored
              update 9: Some(Double(1.5)) Some(Integer(1)) Some(Json("[1,2]")) events 0
              update 10: Some(Double(1.5)) Some(Integer(2)) Some(Json("[1,2]")) events 0
              update 11: Some(Double(1.5)) Some(Integer(3)) Some(Json("[1,2]")) events 0
              update 12: Some(Double(1.5)) Some(Integer(4)) Some(Json("[1,2]")) events 0
        "#]].assert_eq(&driven.out);
    }

    #[test]
    fn rule_7_7_records_of_version_2_are_read() {
        let definition = definition();
        let mut twin = Twin::new(0, &definition);
        let mut record = Vec::new();
        twin.write(&mut record);
        assert_eq!(record.pop(), Some(0), "nothing but an even rate is expected");
        assert!(Twin::read(&record, 2).expect("it is good").waiting.is_empty());
        let late = CallSettings { of: vec!["t".into()], ..CallSettings::default() };
        let spec = FunctionSpec { kind: FunctionKind::Outside("http"), call: late, version: 1, trial: None };
        let specs = IndexMap::from([("l".to_owned(), spec)]);
        let functions = Functions::compile(&specs, &definition.model, &[0, 1]).expect("it is good");
        let definition = TwinType { functions, ..definition };
        let batch = fixture::Update::at(1_000_000, &[("t", json!(1))]).batch("p", &definition.model);
        let (mut scratch, so_far) = (
            Scratch::default(),
            SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts: Facts::default() },
        );
        let Scratch { touched, wanted, .. } = &mut scratch;
        assert!(twin.waiting.hold(so_far, &batch.event(0), None, &definition, touched, wanted));
        record.clear();
        twin.write(&mut record);
        let expectation = record.pop();
        assert_eq!((expectation, record.pop()), (Some(0), Some(0)), "no event waits for step 2");
        assert_eq!(Twin::read(&record, 2).expect("it is good").waiting.counts(), (1, 0));
        record.push(0);
        assert!(Twin::read(&record, 2).is_err());
        record.push(0);
        assert_eq!(Twin::read(&record, VERSION).expect("it is good").waiting.counts(), (1, 0));
    }
}
