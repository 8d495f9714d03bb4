//! Shadow runs: a version of a function on live updates, beside the one in force.
//!
//! ```text
//!   update ─┬─► twin ─ steps 2 to 5 ─► what the version in force gave ──┐
//!           └─► its trial twin ─ steps 2 and 3, this version alone ─────┴─► pairs ─► compared, and forgotten
//! ```
//! A trial twin has a shadow, memories and waiting updates of its own, so what a version gives never reaches the
//! twin, and a slow one holds nobody up. It is no state of the job: after a restart it begins from the twin again.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::batch::Event;
use crate::functions::{Augmentation, Functions, Given, Outcome, Trial};
use crate::roster::Facts;
use crate::shadowing::Shadow;
use crate::steps::{Scratch, compute};
use crate::twin::{Twin, TwinType};
use crate::waiting::{SoFar, Waiting};

/// Updates whose other half is awaited, of one trial on one worker.
const PAIRS_MAX: usize = 65_536;

/// What runs beside one twin.
#[derive(Debug)]
pub struct TrialTwin {
    /// The twin's last update before it.
    begun: u64,
    shadow: Shadow,
    augmentation: Augmentation,
    waiting: Waiting,
}

/// What a trial twin goes by.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The trial.
    pub trial: &'a Trial,
    /// The type of trial twins, of [`trial_type`].
    pub definition: &'a TwinType,
    /// What the roster says of the twin.
    pub facts: Facts<'a>,
}

/// The type of trial twins: that of the twin, with the version that is tried out as its only function.
pub fn trial_type(definition: &TwinType, trial: &Trial) -> TwinType {
    TwinType { functions: trial.functions.clone(), ..definition.clone() }
}

impl TrialTwin {
    /// Begins beside a twin, from how it is, and from what the version in force keeps. `functions` are those of the
    /// twin.
    pub fn new(twin: &Twin, functions: &Functions, trial: &Trial) -> Self {
        let shadow = twin.waiting.ahead().unwrap_or(&twin.shadow).clone();
        let augmentation = trial.begin(functions, &twin.augmentation);
        Self { begun: shadow.update(), shadow, augmentation, waiting: Waiting::default() }
    }

    /// Whether it has an update of its twin.
    pub fn has(&self, update: u64) -> bool {
        update > self.begun
    }

    /// Takes an update of its twin. What is given is appended; calls that are to be made stand in the scratch.
    pub fn take(
        &mut self,
        event: &Event<'_>,
        beside: Beside<'_>,
        scratch: &mut Scratch,
        given: &mut Vec<Given>,
    ) {
        let Scratch { touched, wanted, .. } = scratch;
        let so_far = SoFar { shadow: &self.shadow, augmentation: &self.augmentation, facts: beside.facts };
        if self.waiting.hold(so_far, event, None, beside.definition, touched, wanted) {
            // It may have been one too many.
            self.release(beside, scratch, given);
        } else {
            self.consolidate(event, std::iter::empty(), beside, scratch, given);
        }
    }

    /// Takes what became of a call for an update.
    pub fn answer(
        &mut self,
        (update, function, outcome): (u64, u16, Outcome),
        beside: Beside<'_>,
        scratch: &mut Scratch,
        given: &mut Vec<Given>,
    ) {
        self.waiting.answer(update, function, outcome, self.shadow.update());
        self.release(beside, scratch, given);
    }

    fn release(&mut self, beside: Beside<'_>, scratch: &mut Scratch, given: &mut Vec<Given>) {
        while let Some(update) = self.waiting.take_ready() {
            let event = update.event.event(0);
            self.consolidate(&event, update.outcomes(), beside, scratch, given);
        }
        let so_far = SoFar { shadow: &self.shadow, augmentation: &self.augmentation, facts: beside.facts };
        self.waiting.go_on(so_far, beside.definition, &mut scratch.wanted);
    }

    fn consolidate<'o>(
        &mut self,
        event: &Event<'_>,
        outcomes: impl Iterator<Item = (u16, &'o Outcome)>,
        Beside { trial, definition, facts }: Beside<'_>,
        scratch: &mut Scratch,
        given: &mut Vec<Given>,
    ) {
        let (shadow, augmentation) = (&mut self.shadow, &mut self.augmentation);
        compute(shadow, augmentation, definition, (event, facts), outcomes, scratch);
        if trial.runs_on(&scratch.touched.taken) {
            let (shadow, update) = ((&self.shadow, &definition.model), self.shadow.update());
            given.push(trial.given(0, update, shadow, &scratch.emitted, &scratch.failed));
        }
    }
}

/// What the version in force gave to the twin's last update, where the one that is tried out runs on it. An update
/// that went on without the answer has nothing to compare yet.
pub fn in_force(twin: &Twin, definition: &TwinType, trial: &Trial, scratch: &Scratch) -> Option<Given> {
    let is_known = trial.late.is_none() && trial.runs_on(&scratch.touched.taken);
    is_known.then(|| given_to(twin, definition, trial, twin.shadow.update(), scratch))
}

/// The same of an answer that came later, for an update that had gone on without it.
pub fn in_force_late(
    twin: &Twin,
    definition: &TwinType,
    trial: &Trial,
    (update, function): (u64, u16),
    scratch: &Scratch,
) -> Option<Given> {
    (trial.late == Some(function)).then(|| given_to(twin, definition, trial, update, scratch))
}

fn given_to(twin: &Twin, definition: &TwinType, trial: &Trial, update: u64, scratch: &Scratch) -> Given {
    let shadow = (&twin.shadow, &definition.model);
    trial.given(trial.in_force, update, shadow, &scratch.emitted, &scratch.failed)
}

/// Which of the two versions gave something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one in force.
    InForce,
    /// The one that is tried out.
    Trial,
}

/// What two versions gave to one update: that in force, and that which is tried out.
pub type Pair = (Given, Given);

/// What one version gave, until the other has given something for the same update. Bounded: of more, the oldest
/// are let go.
#[derive(Debug)]
pub struct Pairs<K> {
    halves: HashMap<(K, u64), (Side, Given)>,
    order: VecDeque<(K, u64)>,
}

impl<K> Default for Pairs<K> {
    fn default() -> Self {
        Self { halves: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> Pairs<K> {
    /// Puts in what one version gave to an update of a twin. The pair where it is one now, and how many halves were
    /// let go of.
    pub fn put(&mut self, twin: K, side: Side, given: Given) -> (Option<Pair>, u64) {
        let key = (twin, given.update);
        match self.halves.remove(&key) {
            Some((Side::InForce, other)) if side == Side::Trial => return (Some((other, given)), 0),
            Some((Side::Trial, other)) if side == Side::InForce => return (Some((given, other)), 0),
            Some(_) | None => {}
        }
        self.halves.insert(key, (side, given));
        self.order.push_back(key);
        let mut gone = 0;
        while self.halves.len() > PAIRS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            gone += u64::from(self.halves.remove(&oldest).is_some());
        }
        if self.order.len() > 2 * PAIRS_MAX {
            self.order.retain(|key| self.halves.contains_key(key));
        }
        (None, gone)
    }
}

#[cfg(test)]
mod tests;
