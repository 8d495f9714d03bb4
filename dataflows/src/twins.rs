//! Steps 2 to 5, chained: the planner puts them into one keyed operator, because they share their
//! key and nothing of them leaves the process. Measured, a chain costs a quarter of the same steps
//! as separate operators that are joined again.
//!
//! This is the operator without the dataflow around it (that is `graph.rs`): it owns the twins of
//! one worker, and is told of events, of time, and of news from other workers.

use std::collections::VecDeque;
use std::sync::Arc;

use connectors::failpoint;
use operators::batch::{Event, EventBatch};
use operators::decode::DeadLetter;
use operators::functions::Emitted;
use operators::handler::{self, Augmented, NEVER_US, Physical};
use operators::life_cycle::Phase;
use operators::shadowing::{TimeSource, Touched};
use operators::time::DigitalTime;
use operators::twin::{Twin, TwinType};

use crate::bins::{Bins, Slot};
use crate::digital::Digital;
use crate::metrics::{Metrics, add};
use crate::quarantine::{self, InHand};
use crate::survey::Delays;
use crate::wheel::{self, Wheel};

mod snapshot;
mod walks;

use snapshot::Snapshot;
use walks::Sweep;

/// Events that are looked up together: the memory of one is fetched while another's is awaited.
const CHUNK: usize = 64;

/// The twins of one worker.
pub struct Twins {
    types: Arc<Vec<TwinType>>,
    bins: Bins,
    wheel: Wheel,
    /// Step 5.
    pub digital: Digital,
    sources: Vec<SourceState>,
    sweeps: VecDeque<Sweep>,
    /// The checkpoint that is being written.
    snapshot: Option<Snapshot>,
    twins_max: u64,
    lateness: Delays,
    compute: Delays,
    counts: Counts,
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
    done_dropped: u64,
    dead_letters: u64,
    twins: i64,
}

#[derive(Default)]
struct Scratch {
    slots: Vec<Option<Slot>>,
    due: Vec<Slot>,
    touched: Touched,
    emitted: Vec<Emitted>,
}

impl Twins {
    /// No twin yet. `twins_max` is this worker's share of the job's limit.
    pub fn new(
        types: Arc<Vec<TwinType>>,
        sources: usize,
        digital: Digital,
        twins_max: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            types,
            bins: Bins::default(),
            wheel: Wheel::default(),
            digital,
            sources: vec![SourceState::default(); sources],
            sweeps: VecDeque::new(),
            snapshot: None,
            twins_max,
            lateness: Delays::default(),
            compute: Delays::default(),
            counts: Counts::default(),
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
                    Stamp::Clock(_) => now_us,
                    Stamp::Arrival { .. } => now_us.max(event.head.arrived_at.0),
                };
                self.apply_event(slot, event, at_us);
            }
        }
        quarantine::take_in_hand(None);
        self.scratch.slots = slots;
    }

    /// The slot of an event's twin; a twin that speaks for the first time gets one.
    fn find_or_insert(&mut self, event: &Event<'_>, source: u16) -> Option<Slot> {
        let head = event.head;
        let slot = self.bins.find(head.hash, event.id);
        let Some(definition) = self.types.get(usize::from(head.twin_type)) else {
            self.refuse(event, source, "the event is of an unknown type".into());
            return None;
        };
        let Some(slot) = slot else {
            if self.bins.len() as u64 >= self.twins_max {
                let reason = format!("the worker has its limit of {} twins", self.twins_max);
                self.refuse(event, source, reason);
                return None;
            }
            let twin = Twin::new(head.twin_type, definition);
            return Some(self.insert(head.hash, event.id, twin));
        };
        let twin_type = self.bins.get(slot).map_or(head.twin_type, |(_, twin)| twin.twin_type);
        if twin_type != head.twin_type {
            let name = &self.types[usize::from(twin_type)].name;
            let reason = format!("the twin is of type `{name}`, not `{}`", definition.name);
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

    /// One event through steps 2 to 5.
    fn apply_event(&mut self, slot: Slot, event: Event<'_>, now_us: i64) {
        self.catch_up(slot);
        self.will_change(slot);
        let Some((id, twin)) = self.bins.get_mut(slot) else { return };
        let definition = &self.types[usize::from(twin.twin_type)];
        if twin.life_cycle.phase() >= Phase::Done {
            self.counts.done_dropped += 1;
            return;
        }
        let wake_before_us = twin.handled.wake_us;
        // Not before a tick that has run: the wall clock may have stepped back since (rule 2.2).
        let last_us = handler::last_stamp_us(twin, &definition.terms);
        let digital_at = DigitalTime(now_us.max(last_us));
        if wake_before_us <= digital_at.0 {
            handler::tick(id, twin, definition, digital_at.0, &mut self.digital);
        }

        // Step 2: shadowing.
        let Scratch { touched, emitted, .. } = &mut self.scratch;
        touched.clear();
        emitted.clear();
        let shadowed = twin.shadow.apply(&event, &definition.model, definition.clock, touched);

        // Step 3: augmentation.
        let head = event.head;
        let at_us = match shadowed.time_source {
            TimeSource::Rejected => head.arrived_at.0,
            TimeSource::Device | TimeSource::Arrival => head.physical_at.0,
        };
        self.counts.refused_results += definition.functions.run(
            &mut twin.shadow,
            &mut twin.augmentation,
            &definition.model,
            at_us,
            touched,
            emitted,
        );

        // Step 4: the twin handler, which hands on to step 5, the digital event handler.
        let source = definition.streams[usize::from(head.stream)].source;
        let lost_us = self.sources[usize::from(source)].lost_us;
        let update = Augmented {
            physical: Physical { event, shadowed, digital_at },
            changed: &touched.changed,
            emitted,
            binds: lost_us.is_none_or(|lost_us| head.arrived_at.0 > lost_us),
        };
        handler::consolidate(id, twin, definition, &update, &mut self.digital);

        self.counts.events += 1;
        self.counts.stale += u64::from(shadowed.stale);
        if shadowed.observed {
            self.lateness.add(digital_at.0.saturating_sub(head.physical_at.0));
            self.compute.add(digital_at.0.saturating_sub(head.arrived_at.0));
        }
        let wake_us = twin.handled.wake_us;
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

    /// Whether nothing is to be done as time goes on.
    pub fn is_idle(&self) -> bool {
        self.sweeps.is_empty()
            && self.snapshot.is_none()
            && self.wheel.is_empty()
            && !self.digital.has_waiting_rows()
    }

    /// Adds what was counted since the last time to the process's metrics.
    pub fn report(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let counts = std::mem::take(&mut self.counts);
        add(&self.metrics.events, counts.events);
        add(&self.metrics.stale, counts.stale);
        add(&self.metrics.refused_results, counts.refused_results);
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
    }
}

#[cfg(test)]
mod tests;
