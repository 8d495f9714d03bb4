//! Versions of functions that run beside those in force, for some of the twins of one worker.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use operators::batch::Event;
use operators::functions::{Given, Outcome, Trial};
use operators::steps::Scratch;
use operators::trial::{self, Beside, Pairs, Side, TrialTwin, trial_type};
use operators::twin::{Twin, TwinType};

use super::Twins;
use crate::bins::Slot;
use crate::calls::{Calls, Of};
use crate::trials::TrialStats;

/// Twins of one worker that a trial may run for.
const TWINS_MAX: usize = 10_000;

/// All that run.
#[derive(Default)]
pub(super) struct Trials {
    /// By type, then by place among the trials of the type.
    by_type: Vec<Vec<Running>>,
    scratch: Scratch,
    given: Vec<Given>,
}

/// One that runs.
struct Running {
    /// The function's name, and the version.
    is_of: (Arc<str>, u32),
    /// The type of its twins.
    definition: TwinType,
    twins: HashMap<Slot, TrialTwin>,
    pairs: Pairs<Slot>,
    stats: Arc<TrialStats>,
}

impl Trials {
    /// Those of these types; one that ran before goes on.
    pub(super) fn renewed(self, types: &[TwinType], calls: &Calls) -> Self {
        let mut before = self.by_type;
        before.resize_with(types.len(), Vec::new);
        let of_type = |(number, (one, mut before)): (usize, (&TwinType, Vec<Running>))| {
            let trials = one.functions.trials().iter().zip(calls.trials().get(number).into_iter().flatten());
            let running = |(trial, stats): (&Trial, &Arc<TrialStats>)| {
                let is_of = (trial.name.clone(), trial.version());
                let place = before.iter().position(|one| one.is_of == is_of);
                let (twins, pairs) = match place.map(|place| before.swap_remove(place)) {
                    Some(kept) => (kept.twins, kept.pairs),
                    None => Default::default(),
                };
                Running { is_of, definition: trial_type(one, trial), twins, pairs, stats: stats.clone() }
            };
            trials.map(running).collect()
        };
        let by_type: Vec<Vec<Running>> = types.iter().zip(before).enumerate().map(of_type).collect();
        let are_none = by_type.iter().all(Vec::is_empty);
        Self { by_type: if are_none { Vec::new() } else { by_type }, ..Self::default() }
    }

    /// Whether none runs.
    pub(super) fn are_none(&self) -> bool {
        self.by_type.is_empty()
    }
}

impl Running {
    /// Takes what one version gave to an update.
    fn put(&mut self, slot: Slot, id: &str, side: Side, given: Given) {
        if !self.twins.get(&slot).is_some_and(|twin| twin.has(given.update)) {
            return;
        }
        let (pair, gone) = self.pairs.put(slot, side, given);
        self.stats.unpaired(gone);
        if let Some(pair) = pair {
            self.stats.compare(id, pair);
        }
    }
}

impl Twins {
    /// Has the versions that are tried out take an event, before its twin does.
    pub(super) fn try_out(&mut self, slot: Slot, event: &Event<'_>) {
        let Some((id, twin)) = self.bins.get(slot) else { return };
        let twin_type = twin.twin_type;
        let functions = &self.types[usize::from(twin_type)].functions;
        let enrolment = &self.enrolment;
        let Trials { by_type, scratch, given } = &mut self.trials;
        for (trial, running) in functions.trials().iter().zip(&mut by_type[usize::from(twin_type)]) {
            if !trial.sees(event.head.hash) {
                continue;
            }
            let are_enough = running.twins.len() >= TWINS_MAX;
            let beside = match running.twins.entry(slot) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(_) if are_enough => {
                    running.stats.left_out();
                    continue;
                }
                Entry::Vacant(entry) => {
                    running.stats.twin();
                    entry.insert(TrialTwin::new(twin, functions, trial))
                }
            };
            let facts = enrolment.facts(id, &running.definition);
            let goes_by = Beside { trial, definition: &running.definition, facts };
            beside.take(event, goes_by, scratch, given);
            for wanted in scratch.wanted.drain(..) {
                self.calls.try_out(slot, twin_type, id, (functions, trial), wanted);
            }
            given.drain(..).for_each(|given| running.put(slot, id, Side::Trial, given));
        }
    }

    /// Takes the answer to a call of a version that is tried out.
    pub(super) fn take_trial_answer(&mut self, of: &Of, name: &str, outcome: Outcome) {
        let Of { slot, twin_type, update, function, version, .. } = *of;
        let Trials { by_type, scratch, given } = &mut self.trials;
        let all = by_type.get_mut(usize::from(twin_type)).map_or(&mut [][..], Vec::as_mut_slice);
        let trials = self.types[usize::from(twin_type)].functions.trials();
        let is_it =
            |(_, running): &(_, &mut Running)| &*running.is_of.0 == name && running.is_of.1 == version;
        // It may have been dropped since the call was made.
        let Some((trial, running)) = trials.iter().zip(all).find(is_it) else { return };
        let Some(beside) = running.twins.get_mut(&slot) else { return };
        let Some((id, _)) = self.bins.get(slot) else { return };
        let facts = self.enrolment.facts(id, &running.definition);
        let goes_by = Beside { trial, definition: &running.definition, facts };
        beside.answer((update, function, outcome), goes_by, scratch, given);
        given.drain(..).for_each(|given| running.put(slot, id, Side::Trial, given));
    }

    /// Notes what the versions in force gave to the update that a twin took last.
    pub(super) fn note_in_force(&mut self, slot: Slot) {
        self.note(slot, trial::in_force);
    }

    /// The same of an answer to an update that did not wait for it.
    pub(super) fn note_in_force_late(&mut self, slot: Slot, update: u64, function: u16) {
        self.note(slot, |twin, definition, one, scratch| {
            trial::in_force_late(twin, definition, one, (update, function), scratch)
        });
    }

    fn note(&mut self, slot: Slot, given: impl Fn(&Twin, &TwinType, &Trial, &Scratch) -> Option<Given>) {
        let Some((id, twin)) = self.bins.get(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        let running = &mut self.trials.by_type[usize::from(twin.twin_type)];
        for (one, running) in definition.functions.trials().iter().zip(running) {
            if let Some(given) = given(twin, definition, one, &self.scratch.steps) {
                running.put(slot, id, Side::InForce, given);
            }
        }
    }
}
