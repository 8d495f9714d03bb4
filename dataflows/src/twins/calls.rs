//! Twins that wait for functions outside: updates are held, their calls go out, and what is answered lets them
//! go on in their order.

use std::sync::Arc;

use connectors::function::Inbox;
use operators::batch::Event;
use operators::decode::DeadLetter;
use operators::functions::{Outcome, SHADOWING_PLACE};
use operators::handler;
use operators::life_cycle::Phase;
use operators::steps::{self, Scratch};
use operators::waiting::{Answered, SoFar};

use super::Twins;
use crate::bins::Slot;
use crate::calls::Of;
use crate::metrics::add;

impl Twins {
    /// Where the answers of functions come in.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        self.calls.inbox()
    }

    /// Whether updates wait for answers.
    pub(crate) fn are_waiting(&self) -> bool {
        self.calls.are_open() || !self.resumed.is_empty()
    }

    /// Has twins of each type run the functions with this number from their next update on. Memories and places of
    /// calls are as they were, so nothing of a twin has to change.
    pub(crate) fn set_functions(&mut self, number: u64) {
        let Some(functions) = self.calls.take_over(number) else { return };
        let types = Arc::make_mut(&mut self.types);
        types.iter_mut().zip(functions).for_each(|(one, functions)| one.functions = functions);
        self.trials = std::mem::take(&mut self.trials).renewed(&self.types, &self.calls);
    }

    /// Whether twins of some type call functions outside.
    pub(crate) fn call_outside(&self) -> bool {
        self.types.iter().any(|one| one.functions.called().next().is_some())
    }

    /// Takes the answers that have come. `now_us` stamps what goes on by them.
    pub(crate) fn take_answers(&mut self, now_us: i64) {
        for slot in std::mem::take(&mut self.resumed) {
            self.release(slot, now_us);
            self.release_unshadowed(slot, now_us);
        }
        for (of, outcome) in self.calls.take() {
            self.take_answer(of, outcome, now_us);
        }
    }

    /// Holds an event that has to wait, and makes its calls; `false` where it may go on. `at_us` is when it is
    /// consolidated, where that is known.
    pub(super) fn hold(&mut self, slot: Slot, event: &Event<'_>, at_us: Option<i64>, now_us: i64) -> bool {
        let Some((id, twin)) = self.bins.get_mut(slot) else { return false };
        let definition = &self.types[usize::from(twin.twin_type)];
        let Scratch { touched, wanted, .. } = &mut self.scratch.steps;
        let facts = self.enrolment.facts(id, definition);
        let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
        if !twin.waiting.hold(so_far, event, at_us, definition, touched, wanted) {
            return false;
        }
        self.make_calls(slot);
        // It may have been one too many.
        self.release(slot, now_us);
        true
    }

    /// Holds an event until step 2, which is a function outside, has its values.
    pub(super) fn hold_unshadowed(&mut self, slot: Slot, event: &Event<'_>, at_us: Option<i64>, now_us: i64) {
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        let facts = self.enrolment.facts(id, definition);
        let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
        let wanted = &mut self.scratch.steps.wanted;
        twin.waiting.hold_unshadowed(so_far, event, at_us, definition, wanted);
        self.make_calls(slot);
        // It may have been one too many.
        self.release_unshadowed(slot, now_us);
    }

    /// Takes the events whose values are known, in their order.
    fn release_unshadowed(&mut self, slot: Slot, now_us: i64) {
        while let Some((_, twin)) = self.bins.get_mut(slot)
            && let twin_type = twin.twin_type
            && let Some(known) = twin.waiting.take_shadowed(&self.types[usize::from(twin_type)])
        {
            self.will_change(slot);
            let event = known.event.event(0);
            self.apply_known(slot, event, known.at_us.unwrap_or(now_us), known.at_us, true);
            self.scratch.steps.failed.extend(known.failed);
            self.count_failed(twin_type, &event);
        }
    }

    /// Makes the calls that a step has asked for.
    pub(super) fn make_calls(&mut self, slot: Slot) {
        let Some((id, twin)) = self.bins.get(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        for wanted in self.scratch.steps.wanted.drain(..) {
            self.calls.make(slot, twin.twin_type, id, definition, wanted);
        }
    }

    /// After a restore: makes the calls of a twin again that were not answered. Updates whose functions are gone go
    /// on with the next answers that are taken.
    pub(super) fn resume_calls(&mut self, slot: Slot) {
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        let facts = self.enrolment.facts(id, definition);
        let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
        twin.waiting.resume(so_far, definition, &mut self.scratch.steps.wanted);
        self.make_calls(slot);
        self.resumed.push(slot);
    }

    /// Nothing is waited for any more: what waits goes on without its answers.
    pub(super) fn give_up_calls(&mut self, slot: Slot, reason: &str, now_us: i64) {
        if let Some((_, twin)) = self.bins.get_mut(slot)
            && !twin.waiting.is_empty()
        {
            twin.waiting.give_up(reason);
            self.release(slot, now_us);
            // Those that had no values yet are updates now, and may wait in their turn.
            self.release_unshadowed(slot, now_us);
            if let Some((_, twin)) = self.bins.get_mut(slot) {
                twin.waiting.give_up(reason);
            }
            self.release(slot, now_us);
        }
    }

    fn take_answer(&mut self, of: Of, outcome: Outcome, now_us: i64) {
        let Of { slot, update, function, .. } = of;
        if let Some(name) = &of.trial {
            return self.take_trial_answer(&of, name, outcome);
        }
        self.catch_up(slot);
        self.will_change(slot);
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        match twin.waiting.answer(update, function, outcome, twin.shadow.update()) {
            Answered::Waiting if function == SHADOWING_PLACE => self.release_unshadowed(slot, now_us),
            Answered::Waiting => self.release(slot, now_us),
            Answered::Late(call, outcome) if twin.life_cycle.phase() < Phase::Done => {
                let wake_before_us = twin.handled.wake_us;
                let digital_at = handler::stamp(id, twin, definition, now_us, &mut self.digital);
                let (scratch, out) = (&mut self.scratch.steps, &mut self.digital);
                steps::apply_late(id, twin, definition, (&call, &outcome), digital_at, scratch, out);
                if !self.trials.are_none() {
                    self.note_in_force_late(slot, update, function);
                }
                self.enter_wake(slot, wake_before_us);
                self.count_failed(of.twin_type, &call.event.event(0));
            }
            Answered::Late(..) | Answered::Forgotten => {
                let number = definition.functions.called_at(function);
                let stats = number.and_then(|one| self.calls.stats(of.twin_type, one.number()));
                stats.into_iter().for_each(|stats| add(&stats.forgotten, 1));
            }
        }
    }

    /// Consolidates the updates of a twin that have all their answers, in their order.
    fn release(&mut self, slot: Slot, now_us: i64) {
        self.will_change(slot);
        while let Some((_, twin)) = self.bins.get_mut(slot)
            && let Some(update) = twin.waiting.take_ready()
        {
            let now_us = update.at_us.unwrap_or(now_us);
            self.consolidate(slot, update.event.event(0), now_us, update.outcomes());
        }
        if let Some((id, twin)) = self.bins.get_mut(slot) {
            let definition = &self.types[usize::from(twin.twin_type)];
            let facts = self.enrolment.facts(id, definition);
            let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
            twin.waiting.go_on(so_far, definition, &mut self.scratch.steps.wanted);
            self.make_calls(slot);
        }
    }

    /// Counts the functions that gave no good answer to an event, and keeps what a job wants kept.
    pub(super) fn count_failed(&mut self, twin_type: u16, event: &Event<'_>) {
        for failed in std::mem::take(&mut self.scratch.steps.failed) {
            let definition = &self.types[usize::from(twin_type)];
            if let Some(stats) = self.calls.stats(twin_type, failed.function) {
                stats.fail(&failed.reason);
            }
            if failed.is_letter {
                let name = &definition.functions.names()[usize::from(failed.function)];
                self.dead_letter(&DeadLetter {
                    at: event.head.arrived_at,
                    source: definition.stream(event.head.stream).map_or(0, |stream| stream.source),
                    position: event.head.position,
                    topic: String::new(),
                    reason: format!("the function `{name}` failed: {}", failed.reason),
                    payload: event.id.to_owned(),
                });
            }
        }
    }
}
