//! Walks over all twins of a worker, a stretch at a time, so that other work goes on in between: those
//! of a lost source are unbound, a question is answered.

use std::collections::HashSet;
use std::sync::Arc;

use operators::entanglement::Terms;
use operators::handler::{self, NEVER_US};
use operators::view::{self, TwinView};

use super::{SourceState, Twins};
use crate::ask::{Collecting, PartOfReply};
use crate::bins::Slot;

/// A walk over all twins, a stretch at a time, so that other work goes on in between.
pub(super) struct Sweep {
    next: Slot,
    purpose: Purpose,
}

enum Purpose {
    /// All sources of these types are lost.
    Lost {
        types: Vec<u16>,
        at_us: i64,
        incident: u64,
        /// Twins that were unbound before the walk came to them, as something came for them.
        early: HashSet<Slot>,
    },
    /// Each wakes by its new terms.
    Rewake,
    /// Those of a new roster are enrolled, from this row on.
    Enroll(usize),
    /// Each goes by the terms of its class.
    Classify,
    /// All end.
    End { at_us: i64, dismiss: bool },
    /// The question with this number is answered.
    Ask(u64, Box<Collecting>),
}

impl Twins {
    /// Whether a walk goes on.
    pub fn is_sweeping(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// A source was lost: twins that have no other are unbound, in a walk.
    pub fn source_lost(&mut self, source: u16, at_us: i64, incident: u64) {
        self.sources[usize::from(source)] = SourceState { is_lost: true, lost_us: Some(at_us) };
        let is_lost = |source: &u16| self.sources[usize::from(*source)].is_lost;
        let types: Vec<u16> = (0u16..)
            .zip(self.types.iter())
            .filter(|(_, one)| one.sources.contains(&source) && one.sources.iter().all(is_lost))
            .map(|(number, _)| number)
            .collect();
        if !types.is_empty() {
            let purpose = Purpose::Lost { types, at_us, incident, early: HashSet::new() };
            self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose });
        }
    }

    /// A source is back. Its twins are bound again by what they send.
    pub fn source_restored(&mut self, source: u16) {
        self.sources[usize::from(source)].is_lost = false;
    }

    /// Has twins go by other terms from now on, and wake by them, in a walk.
    pub(crate) fn set_terms(&mut self, terms: Vec<Terms>) {
        let types = Arc::make_mut(&mut self.types);
        types.iter_mut().zip(terms).for_each(|(one, terms)| one.terms = terms);
        self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose: Purpose::Rewake });
    }

    /// Takes over the newest roster of the process, in two walks.
    pub(crate) fn renew_roster(&mut self) {
        self.enrolment.renew();
        self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose: Purpose::Enroll(0) });
        self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose: Purpose::Classify });
    }

    /// Ends one twin: it is retired, or dismissed.
    pub(crate) fn end_one(&mut self, id: &str, at_us: i64, dismiss: bool) {
        if let Some(slot) = self.bins.find(operators::id::hash(id.as_bytes()), id) {
            self.catch_up(slot);
            self.end(slot, at_us, dismiss);
        }
    }

    /// Ends all twins that there are, in a walk.
    pub(crate) fn end_all(&mut self, at_us: i64, dismiss: bool) {
        self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose: Purpose::End { at_us, dismiss } });
    }

    /// Begins to answer the question with this number, in a walk.
    pub(crate) fn ask(&mut self, number: u64, collecting: Collecting) {
        let purpose = Purpose::Ask(number, Box::new(collecting));
        self.sweeps.push_back(Sweep { next: Slot::FIRST, purpose });
    }

    /// The twin with this id, as it is now.
    pub(crate) fn view(&self, id: &str, now_us: i64) -> Option<Box<TwinView>> {
        let slot = self.bins.find(operators::id::hash(id.as_bytes()), id)?;
        let (id, twin) = self.bins.get(slot)?;
        let definition = &self.types[usize::from(twin.twin_type)];
        let view = view::view(id, twin, definition, now_us);
        let view = self.with_row(view, &definition.model);
        Some(Box::new(TwinView { events: self.digital.last_events.of(id), ..view }))
    }

    /// Goes on with the oldest walk, over at most `budget` twins; the number and the answer of a question
    /// whose walk has come to its end.
    pub(crate) fn sweep(&mut self, now_us: i64, budget: usize) -> Option<(u64, PartOfReply)> {
        let mut sweep = self.sweeps.pop_front()?;
        self.report();
        if let Purpose::Enroll(from) = sweep.purpose {
            let to = from.saturating_add(budget).min(self.enrolment.len());
            self.enroll(from..to);
            if to < self.enrolment.len() {
                sweep.purpose = Purpose::Enroll(to);
                self.sweeps.push_front(sweep);
            }
            return None;
        }
        for _ in 0..budget {
            let Some(slot) = self.bins.next(sweep.next) else {
                return self.finish(sweep, now_us);
            };
            match &mut sweep.purpose {
                Purpose::Lost { types, at_us, incident, early } => {
                    if !early.remove(&slot) {
                        self.lose(slot, types, *at_us, *incident);
                    }
                }
                // Classes depend on terms as well.
                Purpose::Rewake => {
                    if !self.classify(slot) {
                        self.rewake(slot);
                    }
                }
                Purpose::Classify => _ = self.classify(slot),
                Purpose::Enroll(_) => {}
                Purpose::End { at_us, dismiss } => {
                    let (at_us, dismiss) = (*at_us, *dismiss);
                    self.end(slot, at_us, dismiss);
                }
                Purpose::Ask(_, collecting) => {
                    if let Some((id, twin)) = self.bins.get(slot) {
                        let definition = &self.types[usize::from(twin.twin_type)];
                        let attributes = || self.enrolment.attributes(id, &definition.model);
                        collecting.add(id, twin, definition, attributes, now_us);
                    }
                }
            }
            sweep.next = slot.after();
        }
        self.sweeps.push_front(sweep);
        None
    }

    fn finish(&self, sweep: Sweep, now_us: i64) -> Option<(u64, PartOfReply)> {
        let Purpose::Ask(number, mut collecting) = sweep.purpose else { return None };
        if let Collecting::Survey(answer) = &mut *collecting {
            answer.at_us = now_us;
            answer.lateness = self.lateness.clone();
            answer.compute = self.compute.clone();
            answer.events = self.totals.events;
            answer.dead_letters = self.totals.dead_letters;
            answer.digital_events = self.totals.digital_events;
        }
        Some((number, collecting.finish()))
    }

    /// Ends the walks that change twins at once: a checkpoint cuts here, and what has begun belongs
    /// before the cut.
    pub(super) fn finish_losses(&mut self) {
        let (losses, others) = std::mem::take(&mut self.sweeps)
            .into_iter()
            .partition(|sweep| !matches!(sweep.purpose, Purpose::Ask(..)));
        self.sweeps = losses;
        while !self.sweeps.is_empty() {
            self.sweep(0, usize::MAX);
        }
        self.sweeps = others;
    }

    /// A walk over lost twins may not have come to this one yet; what it would do comes before
    /// anything later, once.
    pub(super) fn catch_up(&mut self, slot: Slot) {
        for index in 0..self.sweeps.len() {
            let sweep = &mut self.sweeps[index];
            if let Purpose::Lost { types, at_us, incident, early } = &mut sweep.purpose
                && slot >= sweep.next
                && early.insert(slot)
            {
                let (types, at_us, incident) = (types.clone(), *at_us, *incident);
                self.lose(slot, &types, at_us, incident);
            }
        }
    }

    pub(super) fn rewake(&mut self, slot: Slot) {
        self.will_change(slot);
        let Some((_, twin)) = self.bins.get_mut(slot) else { return };
        handler::rewake(twin, self.types[usize::from(twin.twin_type)].terms.of_class(twin.class));
        let wake_us = twin.handled.wake_us;
        if wake_us != NEVER_US {
            self.wheel.enter(wake_us, slot);
        }
    }

    fn end(&mut self, slot: Slot, at_us: i64, dismiss: bool) {
        self.will_change(slot);
        self.give_up_calls(slot, "the twin is over", at_us);
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        handler::end(id, twin, definition, at_us, dismiss, &mut self.digital);
    }

    /// Unbinds a twin of a lost source. It may have been heard after the loss: by a backlog that was
    /// worked off before the news came.
    fn lose(&mut self, slot: Slot, types: &[u16], at_us: i64, incident: u64) {
        let twin_type = self.bins.get(slot).map(|(_, twin)| twin.twin_type);
        if !twin_type.is_some_and(|twin_type| types.contains(&twin_type)) {
            return;
        }
        self.will_change(slot);
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let wake_before_us = twin.handled.wake_us;
        let definition = &self.types[usize::from(twin.twin_type)];
        handler::source_lost(id, twin, definition, at_us, incident, &mut self.digital);
        let wake_us = twin.handled.wake_us;
        if wake_us != wake_before_us && wake_us != NEVER_US {
            self.wheel.enter(wake_us, slot);
        }
    }
}
