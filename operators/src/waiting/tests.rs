//! Tables for updates that wait: a script of updates and answers in, the states of the twin out.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::adaptation::Adaptation;
use crate::fixture::{self, twin_type};
use crate::handler::{self, DigitalEvents, Entangled, Happened, HappenedValue, Lived, Of, Physical, State};
use crate::layout::Layout;
use crate::steps::{self, Scratch, Update};
use crate::time::DigitalTime;
use crate::twin::Twin;

/// States and events as lines.
#[derive(Default)]
struct Lines(String);

impl DigitalEvents for Lines {
    fn physical(&mut self, _: Of<'_>, _: &Physical<'_>) {}
    fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        let (model, shadow) = (&of.definition.model, &of.twin.shadow);
        let value = |name: &str| {
            let number = model.property(name).expect("a property");
            match shadow.value(model, number) {
                Some(value) => format!("{:?}/{}", value.as_number(), shadow.version(number).unwrap_or(0)),
                None => "-".into(),
            }
        };
        let update = state.physical.shadowed.update;
        self.0 += &format!(
            "  update {update} revision {} at {}: t {} q {}\n",
            of.twin.handled.revision,
            state.physical.digital_at.0 / 1_000_000,
            value("t"),
            value("q")
        );
    }
    fn entangled(&mut self, _: Of<'_>, _: &Entangled) {}
    fn lived(&mut self, _: Of<'_>, _: &Lived) {}
    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        let HappenedValue::Json(json) = happened.value else { return };
        let name = &of.definition.model.events[usize::from(happened.event)];
        self.0 += &format!("  event {name} {json}\n");
    }
}

/// A twin that is driven as a worker drives it.
struct Driven {
    definition: TwinType,
    twin: Twin,
    scratch: Scratch,
    second: i64,
    out: Lines,
}

impl Driven {
    fn new(call: &str) -> Self {
        let definition = definition(call);
        let twin = Twin::new(0, &definition);
        Self { definition, twin, scratch: Scratch::default(), second: 0, out: Lines::default() }
    }

    /// An update of `t` or `n`.
    fn update(&mut self, name: &str, value: i64) {
        self.second += 1;
        let update = fixture::Update::at(self.second * 1_000_000, &[(name, json!(value))]);
        let batch = update.batch("p", &self.definition.model);
        let event = batch.event(0);
        let Scratch { touched, wanted, .. } = &mut self.scratch;
        let so_far = SoFar {
            shadow: &self.twin.shadow,
            augmentation: &self.twin.augmentation,
            facts: Facts::default(),
        };
        if self.twin.waiting.hold(so_far, &event, None, &self.definition, touched, wanted) {
            self.release();
        } else {
            self.consolidate(&event, &[]);
        }
        self.note_calls();
    }

    fn note_calls(&mut self) {
        for Wanted { function, update, body } in self.scratch.wanted.drain(..) {
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let kept = body.get("kept").map_or(String::new(), |kept| format!(" kept {kept}"));
            self.out.0 += &format!("  call {function} of update {update}: {}{kept}\n", body["properties"]);
        }
    }

    fn answer(&mut self, update: u64, outcome: &str) {
        self.second += 1;
        self.out.0 += &format!("answer {update}: {outcome}\n");
        let outcome = match outcome.starts_with('{') {
            true => Outcome::Answered(
                self.definition.functions.outside()[0].version(),
                outcome.as_bytes().to_vec(),
            ),
            false => Outcome::Failed(outcome.to_owned()),
        };
        match self.twin.waiting.answer(update, 0, outcome, self.twin.shadow.update()) {
            Answered::Waiting => self.release(),
            Answered::Late(call, outcome) => {
                let at = DigitalTime(self.second * 1_000_000);
                let (late, scratch) = ((&call, &outcome), &mut self.scratch);
                steps::apply_late("p", &mut self.twin, &self.definition, late, at, scratch, &mut self.out);
                self.note_failed();
            }
            Answered::Forgotten => self.out.0 += "  forgotten\n",
        }
    }

    fn release(&mut self) {
        while let Some(update) = self.twin.waiting.take_ready() {
            let outcomes: Vec<_> = update.outcomes().map(|(number, one)| (number, one.clone())).collect();
            self.consolidate(&update.event.event(0), &outcomes);
        }
        let so_far = SoFar {
            shadow: &self.twin.shadow,
            augmentation: &self.twin.augmentation,
            facts: Facts::default(),
        };
        self.twin.waiting.go_on(so_far, &self.definition, &mut self.scratch.wanted);
        self.note_calls();
    }

    fn consolidate(&mut self, event: &Event<'_>, outcomes: &[(u16, Outcome)]) {
        let digital_at = DigitalTime(self.second * 1_000_000);
        let update = Update { event: *event, digital_at, binds: true, facts: Facts::default() };
        let outcomes = outcomes.iter().map(|(number, outcome)| (*number, outcome));
        handler::tick("p", &mut self.twin, &self.definition, digital_at.0, &mut self.out);
        let (twin, definition) = (&mut self.twin, &self.definition);
        let applied =
            steps::apply("p", twin, definition, &update, outcomes, &mut self.scratch, &mut self.out);
        if applied.skipped > 0 {
            self.out.0 += "  not called\n";
        }
        self.note_failed();
    }

    fn note_failed(&mut self) {
        for failed in self.scratch.failed.drain(..) {
            self.out.0 += &format!("  failed: {}\n", failed.reason);
        }
    }

    /// Through a checkpoint and back, perhaps under another job.
    fn restore(&mut self, call: &str) {
        let layout = Layout::of(std::slice::from_ref(&self.definition));
        self.definition = definition(call);
        let types = [self.definition.clone()];
        let (adaptation, _) = Adaptation::new(&layout, &types).expect("it fits");
        let mut record = Vec::new();
        self.twin.write(&mut record);
        self.twin = adaptation.restore(&record).expect("it is a good record");
        self.out.0 += "restored\n";
        let so_far = SoFar {
            shadow: &self.twin.shadow,
            augmentation: &self.twin.augmentation,
            facts: Facts::default(),
        };
        self.twin.waiting.resume(so_far, &self.definition, &mut self.scratch.wanted);
        self.note_calls();
    }
}

fn definition(call: &str) -> TwinType {
    let parts = format!(
        r#"{{"properties": {{"t": {{"type": "double"}}, "n": {{"type": "integer"}}, "q": {{"type": "double"}}}},
            "events": {{"bad": {{"type": "double"}}}},
            "outside": {{"q": {call}}}, "streams": {{"s": "none"}}}}"#
    );
    twin_type("press", &parts)
}

fn check(call: &str, script: impl FnOnce(&mut Driven), expected: Expect) {
    let mut driven = Driven::new(call);
    script(&mut driven);
    expected.assert_eq(&driven.out.0);
    if driven.twin.waiting.counts() == (0, 0) {
        assert!(driven.twin.waiting.is_empty(), "it costs something though nothing waits");
    }
}

#[test]
fn rule_6_2_updates_wait_and_go_on_in_their_order() {
    check(
        r#"{"of": ["t"]}"#,
        |twin| {
            twin.update("n", 7);
            twin.update("t", 1);
            twin.update("n", 8);
            twin.update("t", 2);
            twin.answer(4, r#"{"q": 20}"#);
            twin.answer(2, r#"{"q": 10}"#);
            twin.answer(2, r#"{"q": 99}"#);
        },
        expect![[r#"
              update 1 revision 1 at 1: t - q -
              call 0 of update 2: {"t":1,"n":7}
              call 0 of update 4: {"t":2,"n":8}
            answer 4: {"q": 20}
            answer 2: {"q": 10}
              update 2 revision 2 at 6: t Some(1.0)/0 q Some(10.0)/3
              update 3 revision 3 at 6: t Some(1.0)/0 q Some(10.0)/3
              update 4 revision 4 at 6: t Some(2.0)/0 q Some(20.0)/3
            answer 2: {"q": 99}
              forgotten
        "#]],
    );
}

#[test]
fn rule_6_2_calls_in_flight_are_made_again_after_a_restore() {
    check(
        r#"{"of": ["t"]}"#,
        |twin| {
            twin.update("t", 1);
            twin.update("t", 2);
            twin.update("t", 3);
            twin.answer(2, r#"{"q": 20}"#);
            twin.restore(r#"{"of": ["t"]}"#);
            twin.answer(1, r#"{"q": 10}"#);
            // What waits still waits, though the function would not make it wait now.
            twin.restore(r#"{"of": ["t"], "on_late": "previous"}"#);
            twin.answer(3, r#"{"q": 30}"#);
        },
        expect![[r#"
              call 0 of update 1: {"t":1}
              call 0 of update 2: {"t":2}
              call 0 of update 3: {"t":3}
            answer 2: {"q": 20}
            restored
              call 0 of update 1: {"t":1}
              call 0 of update 3: {"t":3}
            answer 1: {"q": 10}
              update 1 revision 1 at 5: t Some(1.0)/0 q Some(10.0)/3
              update 2 revision 2 at 5: t Some(2.0)/0 q Some(20.0)/3
            restored
              call 0 of update 3: {"t":3}
            answer 3: {"q": 30}
              update 3 revision 3 at 6: t Some(3.0)/0 q Some(30.0)/3
              call 0 of update 3: {"t":3}
        "#]],
    );
}

#[test]
fn a_function_that_keeps_something_is_told_it_by_call_after_call() {
    check(
        r#"{"of": ["t"], "keeps": "20B"}"#,
        |twin| {
            twin.update("t", 1);
            twin.update("t", 2);
            twin.update("n", 7);
            twin.update("t", 3);
            twin.answer(1, r#"{"q": 10, "kept": {"sum": 1}}"#);
            // What it keeps is in the checkpoint, and so is what waits for it.
            twin.restore(r#"{"of": ["t"], "keeps": "20B"}"#);
            twin.answer(2, r#"{"q": 20}"#);
            twin.answer(4, r#"{"q": 30, "kept": {"sum": 1000000000000000}}"#);
            twin.update("t", 4);
            twin.answer(5, r#"{"kept": null}"#);
            twin.update("t", 5);
            twin.update("t", 6);
            twin.answer(6, "timeout");
        },
        expect![[r#"
              call 0 of update 1: {"t":1} kept null
            answer 1: {"q": 10, "kept": {"sum": 1}}
              update 1 revision 1 at 5: t Some(1.0)/0 q Some(10.0)/3
              call 0 of update 2: {"t":2} kept {"sum":1}
            restored
              call 0 of update 2: {"t":2} kept {"sum":1}
            answer 2: {"q": 20}
              update 2 revision 2 at 6: t Some(2.0)/0 q Some(20.0)/3
              update 3 revision 3 at 6: t Some(2.0)/0 q Some(20.0)/3
              call 0 of update 4: {"t":3,"n":7} kept {"sum":1}
            answer 4: {"q": 30, "kept": {"sum": 1000000000000000}}
              update 4 revision 4 at 7: t Some(3.0)/0 q Some(20.0)/3
              failed: it wants 24 bytes kept, at most 20
              call 0 of update 5: {"t":4,"n":7} kept {"sum":1}
            answer 5: {"kept": null}
              update 5 revision 5 at 9: t Some(4.0)/0 q Some(20.0)/3
              call 0 of update 6: {"t":5,"n":7} kept null
            answer 6: timeout
              update 6 revision 6 at 12: t Some(5.0)/0 q Some(20.0)/3
              failed: timeout
              call 0 of update 7: {"t":6,"n":7} kept null
        "#]],
    );
    check(
        r#"{"of": ["t"], "keeps": "1kB", "on_late": "skip"}"#,
        |twin| {
            twin.update("t", 1);
            twin.answer(1, r#"{"q": 10, "kept": [1]}"#);
            twin.update("t", 2);
            twin.restore(r#"{"of": ["t"], "keeps": "2kB", "on_late": "skip"}"#);
        },
        expect![[r#"
              update 1 revision 1 at 1: t Some(1.0)/0 q -
              call 0 of update 1: {"t":1} kept null
            answer 1: {"q": 10, "kept": [1]}
              update 1 revision 2 at 2: t Some(1.0)/0 q Some(10.0)/3
              update 2 revision 3 at 3: t Some(2.0)/0 q Some(10.0)/3
              call 0 of update 2: {"t":2} kept [1]
            restored
              call 0 of update 2: {"t":2} kept [1]
        "#]],
    );
    // One more than may wait: the oldest goes on, and the call behind it is made.
    let (answered, waiting) = (r#"{"q": 1, "kept": 1}"#, r#"{"of": ["t"], "keeps": "9B", "waiting": 2}"#);
    check(
        waiting,
        |twin| {
            (1..=4).for_each(|t| twin.update("t", t));
            twin.answer(3, answered);
            twin.answer(2, answered);
        },
        expect![[r#"
              call 0 of update 1: {"t":1} kept null
              update 1 revision 1 at 3: t Some(1.0)/0 q -
              failed: too many updates of the twin wait behind it
              call 0 of update 2: {"t":2} kept null
              update 2 revision 2 at 4: t Some(2.0)/0 q -
              failed: too many updates of the twin wait behind it
              call 0 of update 3: {"t":3} kept null
            answer 3: {"q": 1, "kept": 1}
              update 3 revision 3 at 5: t Some(3.0)/0 q Some(1.0)/3
              call 0 of update 4: {"t":4} kept 1
            answer 2: {"q": 1, "kept": 1}
              forgotten
        "#]],
    );
}

#[test]
fn an_update_that_did_not_wait_has_a_state_more_by_its_answer() {
    check(
        r#"{"of": ["t"], "on_late": "previous"}"#,
        |twin| {
            twin.update("t", 1);
            twin.update("t", 2);
            twin.restore(r#"{"of": ["t"], "on_late": "previous"}"#);
            twin.answer(2, r#"{"q": 20}"#);
            twin.answer(1, r#"{"q": 10}"#);
            twin.update("t", 3);
            twin.answer(3, r#"{"q": 20}"#);
        },
        expect![[r#"
              update 1 revision 1 at 1: t Some(1.0)/0 q -
              call 0 of update 1: {"t":1}
              update 2 revision 2 at 2: t Some(2.0)/0 q -
              call 0 of update 2: {"t":2}
            restored
              call 0 of update 1: {"t":1}
              call 0 of update 2: {"t":2}
            answer 2: {"q": 20}
              update 2 revision 3 at 3: t Some(2.0)/0 q Some(20.0)/3
            answer 1: {"q": 10}
              forgotten
              update 3 revision 4 at 5: t Some(3.0)/0 q Some(20.0)/3
              call 0 of update 3: {"t":3}
            answer 3: {"q": 20}
        "#]],
    );
    check(
        r#"{"of": ["t"], "on_late": "skip"}"#,
        |twin| {
            twin.update("t", 1);
            twin.update("t", 2);
            twin.answer(1, r#"{"q": 10}"#);
            twin.update("t", 3);
        },
        expect![[r#"
              update 1 revision 1 at 1: t Some(1.0)/0 q -
              call 0 of update 1: {"t":1}
              update 2 revision 2 at 2: t Some(2.0)/0 q -
              not called
            answer 1: {"q": 10}
              update 1 revision 3 at 3: t Some(2.0)/0 q Some(10.0)/3
              update 3 revision 4 at 4: t Some(3.0)/0 q Some(10.0)/3
              call 0 of update 3: {"t":3}
        "#]],
    );
}

#[test]
fn what_is_no_good_answer_is_dealt_with_as_the_job_says() {
    let script = |twin: &mut Driven| {
        twin.update("t", 1);
        twin.answer(1, r#"{"q": 10, "bad": 3}"#);
        for (update, outcome) in
            [(2, "timeout: no answer in time"), (3, r#"{"q": "x"}"#), (4, r#"{"r": 1}"#), (5, "{"), (6, "{}")]
        {
            twin.update("t", update);
            twin.answer(update as u64, outcome);
        }
    };
    check(
        r#"{"of": ["t"], "yields": ["q", "bad"]}"#,
        script,
        expect![[r#"
          call 0 of update 1: {"t":1}
        answer 1: {"q": 10, "bad": 3}
          update 1 revision 1 at 2: t Some(1.0)/0 q Some(10.0)/3
          event bad 3
          call 0 of update 2: {"t":2}
        answer 2: timeout: no answer in time
          update 2 revision 2 at 4: t Some(2.0)/0 q Some(10.0)/3
          failed: timeout: no answer in time
          call 0 of update 3: {"t":3}
        answer 3: {"q": "x"}
          update 3 revision 3 at 6: t Some(3.0)/0 q Some(10.0)/3
          failed: `q`: "x" is no double
          call 0 of update 4: {"t":4}
        answer 4: {"r": 1}
          update 4 revision 4 at 8: t Some(4.0)/0 q Some(10.0)/3
          failed: the answer has `r`, and the function yields q, bad
          call 0 of update 5: {"t":5}
        answer 5: {
          update 5 revision 5 at 10: t Some(5.0)/0 q Some(10.0)/3
          failed: the answer is no JSON object: EOF while parsing an object at line 1 column 1
          call 0 of update 6: {"t":6}
        answer 6: {}
          update 6 revision 6 at 12: t Some(6.0)/0 q Some(10.0)/3
    "#]],
    );
    check(
        r#"{"of": ["t"], "yields": ["q", "bad"], "on_error": "skip"}"#,
        script,
        expect![[r#"
          call 0 of update 1: {"t":1}
        answer 1: {"q": 10, "bad": 3}
          update 1 revision 1 at 2: t Some(1.0)/0 q Some(10.0)/3
          event bad 3
          call 0 of update 2: {"t":2}
        answer 2: timeout: no answer in time
          update 2 revision 2 at 4: t Some(2.0)/0 q -
          failed: timeout: no answer in time
          call 0 of update 3: {"t":3}
        answer 3: {"q": "x"}
          update 3 revision 3 at 6: t Some(3.0)/0 q -
          failed: `q`: "x" is no double
          call 0 of update 4: {"t":4}
        answer 4: {"r": 1}
          update 4 revision 4 at 8: t Some(4.0)/0 q -
          failed: the answer has `r`, and the function yields q, bad
          call 0 of update 5: {"t":5}
        answer 5: {
          update 5 revision 5 at 10: t Some(5.0)/0 q -
          failed: the answer is no JSON object: EOF while parsing an object at line 1 column 1
          call 0 of update 6: {"t":6}
        answer 6: {}
          update 6 revision 6 at 12: t Some(6.0)/0 q -
    "#]],
    );
}

#[test]
fn more_than_may_wait_go_on_without_their_answers() {
    check(
        r#"{"of": ["t"], "waiting": 2}"#,
        |twin| {
            (1..=4).for_each(|value| twin.update("t", value));
            twin.out.0 += "given up\n";
            twin.twin.waiting.give_up("the twin is over");
            twin.release();
        },
        expect![[r#"
              call 0 of update 1: {"t":1}
              call 0 of update 2: {"t":2}
              update 1 revision 1 at 3: t Some(1.0)/0 q -
              failed: too many updates of the twin wait behind it
              call 0 of update 3: {"t":3}
              update 2 revision 2 at 4: t Some(2.0)/0 q -
              failed: too many updates of the twin wait behind it
              call 0 of update 4: {"t":4}
            given up
              update 3 revision 3 at 4: t Some(3.0)/0 q -
              failed: the twin is over
              update 4 revision 4 at 4: t Some(4.0)/0 q -
              failed: the twin is over
        "#]],
    );
}
