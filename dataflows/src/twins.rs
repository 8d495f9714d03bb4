//! Steps 2 to 5, chained: the planner puts them into one keyed operator, because they share their
//! key and nothing of them leaves the process. Measured, a chain costs a quarter of the same steps
//! as separate operators that are joined again.
//!
//! This is the operator without the dataflow around it (that is `graph.rs`): it owns the twins of
//! one worker, and is told of events, of time, and of news from other workers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use connectors::failpoint;
use operators::batch::{Event, EventBatch};
use operators::decode::DeadLetter;
use operators::functions::Outcome;
use operators::handler::{self, NEVER_US};
use operators::life_cycle::Phase;
use operators::steps;
use operators::twin::{Twin, TwinType};

use crate::bins::{Bins, Slot};
use crate::calls::Calls;
use crate::digital::Digital;
use crate::metrics::{Metrics, add};
use crate::quarantine::{self, InHand};
use crate::survey::Delays;
use crate::wheel::{self, Wheel};

mod calls;
pub(crate) mod enrolment;
mod snapshot;
mod trials;
mod walks;

use enrolment::{Enrolment, RosterPort};
use snapshot::Snapshot;
use trials::Trials;
use walks::Sweep;

/// Events that are looked up together: the memory of one is fetched while another's is awaited.
const CHUNK: usize = 64;
/// How long the calendar is not looked at.
const TICK_REST_MAX: Duration = Duration::from_secs(10);

/// The twins of one worker.
pub struct Twins {
    types: Arc<Vec<TwinType>>,
    bins: Bins,
    wheel: Wheel,
    /// Step 5.
    pub digital: Digital,
    /// Step 3, outside.
    calls: Calls,
    /// Versions of functions that run beside those in force.
    trials: Trials,
    /// Twins that were restored with updates that wait.
    resumed: Vec<Slot>,
    sources: Vec<SourceState>,
    /// Twins that are there before they speak.
    enrolment: Enrolment,
    sweeps: VecDeque<Sweep>,
    /// The checkpoint that is being written.
    snapshot: Option<Snapshot>,
    twins_max: u64,
    lateness: Delays,
    compute: Delays,
    counts: Counts,
    /// Something was counted since it was last asked.
    has_counted: bool,
    totals: Totals,
    metrics: Arc<Metrics>,
    scratch: Scratch,
}

/// Counts since the start, for surveys.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    events: u64,
    dead_letters: u64,
    digital_events: u64,
}

/// What stamps updates (rule 2.2).
#[derive(Clone, Copy)]
pub enum Stamp<'a> {
    /// Live: the wall clock.
    Clock(&'a dyn Fn() -> i64),
    /// Recorded: the event's arrival. One that goes back in its source is stamped with the time that
    /// the source had come to: ticks up to there may have run, on some layouts and not on others.
    Arrival {
        /// That time, microseconds since 1970.
        told_us: i64,
    },
}

impl Stamp<'_> {
    fn now_us(self) -> i64 {
        match self {
            Stamp::Clock(now_us) => now_us(),
            Stamp::Arrival { told_us } => told_us,
        }
    }
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, Default)]
struct SourceState {
    is_lost: bool,
    /// When it was last lost; an update that arrived before does not bind (rule 5.4).
    lost_us: Option<i64>,
}

#[derive(Default)]
struct Counts {
    events: u64,
    stale: u64,
    refused_results: u64,
    calls_skipped: u64,
    done_dropped: u64,
    dead_letters: u64,
    twins: i64,
}

#[derive(Default)]
struct Scratch {
    slots: Vec<Option<Slot>>,
    due: Vec<Slot>,
    steps: steps::Scratch,
}

impl Twins {
    /// No twin yet. `twins_max` is this worker's share of the job's limit.
    pub fn new(
        types: Arc<Vec<TwinType>>,
        sources: usize,
        digital: Digital,
        calls: Calls,
        twins_max: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let trials = Trials::default().renewed(&types, &calls);
        Self {
            types,
            trials,
            bins: Bins::default(),
            wheel: Wheel::default(),
            digital,
            calls,
            resumed: Vec::new(),
            sources: vec![SourceState::default(); sources],
            enrolment: Enrolment::new(RosterPort::default(), 1, 0),
            sweeps: VecDeque::new(),
            snapshot: None,
            twins_max,
            lateness: Delays::default(),
            compute: Delays::default(),
            counts: Counts::default(),
            has_counted: false,
            totals: Totals::default(),
            metrics,
            scratch: Scratch::default(),
        }
    }

    /// Takes the events with these indexes, in this order.
    pub fn apply(
        &mut self,
        events: &EventBatch,
        order: impl Iterator<Item = usize>,
        source: u16,
        stamp: Stamp<'_>,
    ) {
        let mut order = order.peekable();
        let mut chunk = [0usize; CHUNK];
        while order.peek().is_some() {
            let mut len = 0;
            while len < CHUNK
                && let Some(index) = order.next()
            {
                chunk[len] = index;
                len += 1;
            }
            self.apply_chunk(events, &chunk[..len], source, stamp);
        }
    }

    fn apply_chunk(&mut self, events: &EventBatch, chunk: &[usize], source: u16, stamp: Stamp<'_>) {
        let mut slots = std::mem::take(&mut self.scratch.slots);
        slots.clear();
        // Records are scattered over memory. The first passes only fetch, so that the misses of a
        // chunk overlap; one event after the other would wait for each of them.
        let heads = events.heads();
        slots.extend(chunk.iter().map(|index| self.bins.guess(heads[*index].hash)));
        self.bins.warm(slots.iter().flatten().copied());
        slots.clear();
        slots.extend(chunk.iter().map(|index| self.find_or_insert(&events.event(*index), source)));
        let mut now_us = stamp.now_us();
        for (place, (index, slot)) in chunk.iter().zip(&slots).enumerate() {
            if place % 16 == 15 {
                now_us = stamp.now_us();
            }
            if let Some(slot) = *slot {
                let event = events.event(*index);
                let position = event.head.position;
                quarantine::take_in_hand(Some(InHand { source, position, operator: "steps of the twin" }));
                if failpoint::poisoned().is_some_and(|twin| twin == event.id) {
                    panic!("failpoint event.poison");
                }
                let at_us = match stamp {
                    Stamp::Clock(_) => None,
                    Stamp::Arrival { .. } => Some(now_us.max(event.head.arrived_at.0)),
                };
                self.apply_event(slot, event, at_us.unwrap_or(now_us), at_us);
            }
        }
        quarantine::take_in_hand(None);
        self.scratch.slots = slots;
    }

    /// The slot of an event's twin; a twin that speaks for the first time gets one.
    fn find_or_insert(&mut self, event: &Event<'_>, source: u16) -> Option<Slot> {
        let head = event.head;
        let slot = self.bins.find(head.hash, event.id);
        if usize::from(head.twin_type) >= self.types.len() {
            self.refuse(event, source, "the event is of an unknown type".into());
            return None;
        }
        let Some(slot) = slot else {
            if self.bins.len() as u64 >= self.twins_max {
                let reason = format!("the worker has its limit of {} twins", self.twins_max);
                self.refuse(event, source, reason);
                return None;
            }
            return match self.newcomer(head.hash, event.id, head.twin_type) {
                Ok(twin) => Some(self.insert(head.hash, event.id, twin)),
                Err(reason) => {
                    self.refuse(event, source, reason);
                    None
                }
            };
        };
        let twin_type = self.bins.get(slot).map_or(head.twin_type, |(_, twin)| twin.twin_type);
        if twin_type != head.twin_type {
            let name = |twin_type: u16| &self.types[usize::from(twin_type)].name;
            let reason = format!("the twin is of type `{}`, not `{}`", name(twin_type), name(head.twin_type));
            self.refuse(event, source, reason);
            return None;
        }
        Some(slot)
    }

    fn insert(&mut self, hash: u64, id: &str, twin: Twin) -> Slot {
        self.counts.twins += 1;
        self.digital.phases[twin.life_cycle.phase() as usize] += 1;
        self.bins.insert(hash, id, twin)
    }

    /// Takes a dead letter of step 1: counted, and a row unless there are too many.
    pub fn dead_letter(&mut self, letter: &DeadLetter) {
        self.counts.dead_letters += 1;
        self.digital.dead_letter(letter);
    }

    /// Counts dead letters of which no row is kept.
    pub fn dead_letters_dropped(&mut self, number: u64) {
        self.counts.dead_letters += number;
        add(&self.metrics.dead_letters_dropped, number);
    }

    fn refuse(&mut self, event: &Event<'_>, source: u16, reason: String) {
        self.dead_letter(&DeadLetter {
            at: event.head.arrived_at,
            source,
            position: event.head.position,
            topic: String::new(),
            reason,
            payload: event.id.to_owned(),
        });
    }

    /// One event through steps 2 to 5, unless it has to wait for an answer. `at_us` is when it is consolidated,
    /// where that does not depend on the answer.
    fn apply_event(&mut self, slot: Slot, event: Event<'_>, now_us: i64, at_us: Option<i64>) {
        self.catch_up(slot);
        self.will_change(slot);
        let Some((_, twin)) = self.bins.get(slot) else { return };
        if twin.life_cycle.phase() >= Phase::Done {
            self.counts.done_dropped += 1;
            return;
        }
        let functions = &self.types[usize::from(twin.twin_type)].functions;
        if functions.shadowing().is_some() || twin.waiting.holds_unshadowed() {
            return self.hold_unshadowed(slot, &event, at_us, now_us);
        }
        let may_wait = !functions.outside().is_empty() || !twin.waiting.is_empty();
        self.apply_known(slot, event, now_us, at_us, may_wait);
    }

    /// The same of one whose values are known; `may_wait` is whether there may be an answer to wait for.
    fn apply_known(&mut self, slot: Slot, event: Event<'_>, now_us: i64, at_us: Option<i64>, may_wait: bool) {
        if !self.trials.are_none() {
            self.try_out(slot, &event);
        }
        if !may_wait || !self.hold(slot, &event, at_us, now_us) {
            self.consolidate(slot, event, now_us, std::iter::empty());
        }
    }

    /// One event through steps 2 to 5, with the answers that it has waited for.
    fn consolidate<'o>(
        &mut self,
        slot: Slot,
        event: Event<'_>,
        now_us: i64,
        outcomes: impl Iterator<Item = (u16, &'o Outcome)>,
    ) {
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        let wake_before_us = twin.handled.wake_us;
        let digital_at = handler::stamp(id, twin, definition, now_us, &mut self.digital);
        let head = event.head;
        let source = definition.stream(head.stream).map(|stream| usize::from(stream.source));
        let lost_us = source.and_then(|source| self.sources[source].lost_us);
        let binds = lost_us.is_none_or(|lost_us| head.arrived_at.0 > lost_us);
        let facts = self.enrolment.facts(id, definition);
        let update = steps::Update { event, digital_at, binds, facts };
        let (scratch, out) = (&mut self.scratch.steps, &mut self.digital);
        let applied = steps::apply(id, twin, definition, &update, outcomes, scratch, out);

        self.counts.events += 1;
        self.counts.stale += u64::from(applied.shadowed.stale);
        self.counts.refused_results += applied.refused;
        self.counts.calls_skipped += applied.skipped;
        if applied.shadowed.observed {
            self.lateness.add(digital_at.0.saturating_sub(head.physical_at.0));
            self.compute.add(digital_at.0.saturating_sub(head.arrived_at.0));
        }
        let twin_type = twin.twin_type;
        if !self.trials.are_none() {
            self.note_in_force(slot);
        }
        self.enter_wake(slot, wake_before_us);
        if !self.scratch.steps.wanted.is_empty() {
            self.make_calls(slot);
        }
        self.count_failed(twin_type, &event);
    }

    /// Enters a twin into the calendar where it is to be woken at another time than before.
    fn enter_wake(&mut self, slot: Slot, wake_before_us: i64) {
        let wake_us = self.bins.get(slot).map_or(NEVER_US, |(_, twin)| twin.handled.wake_us);
        if wake_us != wake_before_us && wake_us != NEVER_US {
            self.wheel.enter(wake_us, slot);
        }
    }

    /// Runs ticks that are due, at most `budget` of them. Live, a day of the calendar is worked off
    /// once it is over; at the end of recorded input, the day that it ends in as well.
    pub fn tick(&mut self, now_us: i64, is_end: bool, budget: usize) {
        let last_day = match is_end {
            true => wheel::day_of(now_us),
            false => wheel::last_day_over(now_us),
        };
        let mut left = budget;
        while left > 0 {
            let mut slots = std::mem::take(&mut self.scratch.due);
            slots.clear();
            slots.extend(std::iter::from_fn(|| self.wheel.next_due(last_day)).take(left.min(CHUNK)));
            self.bins.warm(slots.iter().copied());
            slots.iter().for_each(|slot| self.tick_one(*slot, now_us));
            left -= slots.len();
            let is_last = slots.is_empty();
            self.scratch.due = slots;
            if is_last {
                return;
            }
        }
    }

    fn tick_one(&mut self, slot: Slot, now_us: i64) {
        self.catch_up(slot);
        let Some((_, twin)) = self.bins.get(slot) else { return };
        // Where it is not due, another entry of the calendar is.
        if twin.handled.wake_us > now_us {
            return;
        }
        self.will_change(slot);
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        handler::tick(id, twin, definition, now_us, &mut self.digital);
        if twin.handled.wake_us != NEVER_US {
            self.wheel.enter(twin.handled.wake_us, slot);
        }
    }

    /// Whether ticks or walks wait to be worked off.
    pub fn is_busy(&self, now_us: i64) -> bool {
        !self.sweeps.is_empty() || self.can_write() || self.wheel.is_due(wheel::last_day_over(now_us))
    }

    /// How long nothing is to be done as time goes on.
    pub fn rest(&self, now_us: i64) -> Duration {
        if !self.sweeps.is_empty() || self.snapshot.is_some() || self.digital.has_waiting_rows() {
            return Duration::ZERO;
        }
        match self.wheel.first_us() {
            // Not longer, as the wall clock may be put forward.
            Some(at_us) => {
                Duration::from_micros(at_us.saturating_sub(now_us).max(0) as u64).min(TICK_REST_MAX)
            }
            None => Duration::MAX,
        }
    }

    /// Adds what was counted since the last time to the process's metrics.
    pub fn report(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let counts = std::mem::take(&mut self.counts);
        self.has_counted |= counts.events + counts.done_dropped + counts.dead_letters > 0;
        add(&self.metrics.events, counts.events);
        add(&self.metrics.stale, counts.stale);
        add(&self.metrics.refused_results, counts.refused_results);
        add(&self.metrics.calls_skipped, counts.calls_skipped);
        add(&self.metrics.done_dropped, counts.done_dropped);
        add(&self.metrics.dead_letters, counts.dead_letters);
        if counts.twins != 0 {
            self.metrics.twins.fetch_add(counts.twins, Relaxed);
        }
        let digital = std::mem::take(&mut self.digital.counts);
        self.totals.events += counts.events;
        self.totals.dead_letters += counts.dead_letters;
        self.totals.digital_events += digital.iter().sum::<u64>();
        for (counter, number) in self.metrics.digital_events.iter().zip(digital) {
            add(counter, number);
        }
        let phases = std::mem::take(&mut self.digital.phases);
        for (gauge, change) in self.metrics.phases.iter().zip(phases) {
            if change != 0 {
                gauge.fetch_add(change, Relaxed);
            }
        }
        self.has_counted |= digital.iter().any(|count| *count > 0);
    }

    /// Whether anything was counted since it was last asked.
    pub fn take_counted(&mut self) -> bool {
        std::mem::take(&mut self.has_counted)
    }
}

#[cfg(test)]
mod tests;
