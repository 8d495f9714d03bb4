//! Step 4, the twin handler: S'' -> new state S, in three small steps: entanglement, life cycle,
//! consolidation. Whatever it decides goes to step 5 through [`DigitalEvents`].
//!
//! It also owns the ticks of a twin (rule 2.4): the end of Bound, silence, the next instant at
//! which ODTE may cross the threshold, and the samples of ODTE. A twin knows when it wants to be
//! woken; ticks that are due run before an update, stamped with their nominal time.

mod presence;
mod wake;

use serde::{Deserialize, Serialize};

use crate::batch::Event;
use crate::entanglement::{Lateness, Measure, Observation, Terms};
use crate::functions::{Emitted, EmittedValue, FUNCTIONS_MAX};
use crate::life_cycle::{Reason, Transition};
use crate::shadowing::{Shadowed, TimeSource};
use crate::snapshot::{SnapshotError, is_time, require};
use crate::time::DigitalTime;
use crate::twin::{Twin, TwinType};
use presence::{follow_rates, is_before_down, presence};
use wake::{Due, next_judgement, next_tick, schedule};
pub use wake::{last_stamp_us, rewake};

/// Nothing to wake a twin for.
pub const NEVER_US: i64 = i64::MAX;

/// The part of a twin's record that the twin handler owns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// Grows by one for every consolidated state, and for nothing else (rule 1.2).
    pub revision: u64,
    /// When the last update was consolidated.
    pub digital_at: DigitalTime,
    /// When a timer will look at the twin; [`NEVER_US`] where none is set.
    pub wake_us: i64,
    /// Counts entanglement and life-cycle events (rule 1.2).
    pub change: u32,
    /// The twin was updated since its last sample.
    wants_sample: bool,
    /// How long before it was consolidated that had arrived by which the twin was heard last, in units of [`LAG_US`],
    /// rounded up. It is of no use after a restart, when sources are found anew.
    #[serde(skip)]
    lag: u16,
}

/// Unit of the time that a message waits before it is consolidated, microseconds.
const LAG_US: i64 = 10_000;

impl Handled {
    /// The twin is heard by what arrived then.
    fn note_arrival(&mut self, physical: &Physical<'_>) {
        let lag_us = physical.digital_at.0.saturating_sub(physical.event.head.arrived_at.0).max(0);
        self.lag = u16::try_from(lag_us.saturating_add(LAG_US - 1) / LAG_US).unwrap_or(u16::MAX);
    }

    /// The earliest that it can have arrived by which the twin was heard at this time; none where it waited for long.
    fn arrived_us(&self, heard_us: i64) -> Option<i64> {
        (self.lag < u16::MAX).then(|| heard_us.saturating_sub(i64::from(self.lag) * LAG_US))
    }

    /// Checks that what was decoded is of a twin with so many updates.
    pub(crate) fn check(&self, updates: u64) -> Result<(), SnapshotError> {
        let digital_us = self.digital_at.0;
        // One for the update itself, and one for each answer that came after it.
        let revisions_max = updates.saturating_mul(1 + FUNCTIONS_MAX as u64);
        require(self.revision <= revisions_max, "it has more revisions than its updates can have made")?;
        let is_fresh = digital_us == i64::MIN && !self.wants_sample;
        require(is_time(digital_us) || is_fresh, "it was updated at no time")
    }
}

impl Default for Handled {
    fn default() -> Self {
        Self {
            revision: 0,
            digital_at: DigitalTime(i64::MIN),
            wake_us: NEVER_US,
            change: 0,
            wants_sample: false,
            lag: 0,
        }
    }
}

/// Whose event it is.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// Id of the twin.
    pub id: &'a str,
    /// Its type.
    pub definition: &'a TwinType,
    /// Its record, after what happened.
    pub twin: &'a Twin,
}

/// A physical event as it was taken: a row of the archive's `physical`.
#[derive(Clone, Copy, Debug)]
pub struct Physical<'a> {
    /// The event.
    pub event: Event<'a>,
    /// What shadowing made of it.
    pub shadowed: Shadowed,
    /// When it was consolidated.
    pub digital_at: DigitalTime,
}

/// A new state: kind `state`.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// The update that it is of.
    pub physical: &'a Physical<'a>,
    /// Numbers of the properties whose value differs from before.
    pub changed: &'a [u16],
    /// ODTE at this instant.
    pub odte: f64,
}

/// ODTE at a change of the life cycle, or a sample: kind `entanglement`.
#[derive(Clone, Copy, Debug)]
pub struct Entangled {
    /// When, in digital time.
    pub at_us: i64,
    /// Number of the change.
    pub change: u32,
    /// ODTE and its parts.
    pub measure: Measure,
    /// Lateness of the window's observations; none where it is empty.
    pub lateness: Option<Lateness>,
}

/// A step in the life of the twin: kind `lifecycle`.
#[derive(Clone, Copy, Debug)]
pub struct Lived {
    /// What happened.
    pub transition: Transition,
    /// Number of the change.
    pub change: u32,
}

/// An event of the twin: kind `event`. Its key is (generation, update, name, index).
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// When, in digital time.
    pub digital_at: DigitalTime,
    /// Number of the event in the type.
    pub event: u16,
    /// Which of this name in this update.
    pub index: u32,
    /// Its value.
    pub value: HappenedValue<'a>,
}

/// The value of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HappenedValue<'a> {
    /// JSON, from the physical twin.
    Json(&'a str),
    /// A number, from a function.
    Number(f64),
}

/// Step 5 as step 4 sees it: where digital events go.
pub trait DigitalEvents {
    /// A physical event was accepted.
    fn physical(&mut self, of: Of<'_>, physical: &Physical<'_>);
    /// A twin has a new state.
    fn state(&mut self, of: Of<'_>, state: &State<'_>);
    /// A twin's entanglement is announced.
    fn entangled(&mut self, of: Of<'_>, entangled: &Entangled);
    /// A twin's life went on.
    fn lived(&mut self, of: Of<'_>, lived: &Lived);
    /// A twin's event happened.
    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl DigitalEvents for Nobody {
    fn physical(&mut self, _: Of<'_>, _: &Physical<'_>) {}
    fn state(&mut self, _: Of<'_>, _: &State<'_>) {}
    fn entangled(&mut self, _: Of<'_>, _: &Entangled) {}
    fn lived(&mut self, _: Of<'_>, _: &Lived) {}
    fn happened(&mut self, _: Of<'_>, _: &Happened<'_>) {}
}

/// An update after augmentation (S''), as step 4 takes it.
#[derive(Clone, Copy, Debug)]
pub struct Augmented<'a> {
    /// The physical event and what shadowing made of it.
    pub physical: Physical<'a>,
    /// Numbers of the properties whose value differs from before.
    pub changed: &'a [u16],
    /// Events of functions.
    pub emitted: &'a [Emitted],
    /// Whether it may bind the twin: an update that came before its source was lost may not.
    pub binds: bool,
}

/// Consolidates an update, and announces what came of it.
pub fn consolidate(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    update: &Augmented<'_>,
    out: &mut impl DigitalEvents,
) {
    let terms = definition.terms_of(twin);
    let Augmented { physical, changed, emitted, binds } = update;
    let at_us = physical.digital_at.0;
    let shadowed = physical.shadowed;
    let mut hastens = observe(twin, definition, physical) | follow_rates(twin, definition, at_us);
    let mut transitions = [None, None];
    if let Some(is_up) = physical.event.presence() {
        (transitions[0], hastens) = (presence(twin, definition, physical, is_up, *binds), true);
    } else if shadowed.observed && *binds && !is_before_down(twin, physical) {
        hastens |= twin.entanglement.come_up(at_us);
        transitions[0] = twin.life_cycle.heard(at_us, Reason::Heard);
        twin.handled.note_arrival(physical);
        twin.entanglement.bind(at_us);
    }
    let measure = twin.entanglement.measure(at_us, terms);
    transitions[1] = judge(twin, terms, at_us, &measure);

    twin.handled.digital_at = physical.digital_at;
    if shadowed.has_state {
        twin.handled.revision += 1;
    }
    let of = Of { id, definition, twin };
    out.physical(of, physical);
    if shadowed.has_state {
        out.state(of, &State { physical, changed, odte: measure.odte });
    }
    announce_events(of, physical, emitted, out);
    for transition in transitions.into_iter().flatten() {
        announce(id, twin, definition, transition, &measure, out);
    }
    schedule(twin, terms, at_us, hastens || transitions[1].is_some());
}

/// Announces what a function wrote after its update had been consolidated: a state of its own where a value
/// changed. It is no observation, as nothing was heard.
pub(crate) fn recompute(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    answer: &Augmented<'_>,
    out: &mut impl DigitalEvents,
) {
    let terms = definition.terms_of(twin);
    let Augmented { physical, changed, emitted, .. } = answer;
    let at_us = physical.digital_at.0;
    let measure = twin.entanglement.measure(at_us, terms);
    if !changed.is_empty() {
        twin.handled.digital_at = physical.digital_at;
        twin.handled.revision += 1;
    }
    let of = Of { id, definition, twin };
    if !changed.is_empty() {
        out.state(of, &State { physical, changed, odte: measure.odte });
    }
    announce_events(of, physical, emitted, out);
    if !changed.is_empty() {
        schedule(twin, terms, at_us, false);
    }
}

/// When something that comes at `now_us` is consolidated; ticks that are due by then have run. It is not before a
/// tick that has run already, as the wall clock may have stepped back since (rule 2.2).
pub fn stamp(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    now_us: i64,
    out: &mut impl DigitalEvents,
) -> DigitalTime {
    let terms = definition.terms_of(twin);
    let digital_us = now_us.max(last_stamp_us(twin, terms));
    if twin.handled.wake_us <= digital_us {
        tick(id, twin, definition, digital_us, out);
    }
    DigitalTime(digital_us)
}

/// Runs the ticks that are due at or before `now_us`, in order of their nominal times.
pub fn tick(id: &str, twin: &mut Twin, definition: &TwinType, now_us: i64, out: &mut impl DigitalEvents) {
    let terms = definition.terms_of(twin);
    let mut judged_us = next_judgement(twin, terms);
    loop {
        let next = next_tick(twin, terms, judged_us);
        let Some((at_us, due)) = next.filter(|(at_us, _)| *at_us <= now_us) else {
            twin.handled.wake_us = next.map_or(NEVER_US, |(at_us, _)| at_us);
            return;
        };
        let measure = twin.entanglement.measure(at_us, terms);
        let transition = match due {
            Due::Silent => {
                // No crossing is searched for until it is heard again: what has left may go.
                twin.entanglement.advance(at_us, terms);
                twin.life_cycle.unbind(at_us, Reason::Silent, None)
            }
            Due::Judge => judge(twin, terms, at_us, &measure),
            Due::Sample => {
                twin.handled.wants_sample = false;
                announce_entanglement(id, twin, definition, at_us, &measure, out);
                None
            }
        };
        if let Some(transition) = transition {
            announce(id, twin, definition, transition, &measure, out);
            judged_us = next_judgement(twin, terms);
        }
    }
}

/// All sources of the twin were lost at `at_us` (rules 5.4, 5.5). One that was heard by what arrived after that stays
/// bound: the source was back before the news of its loss had come.
pub fn source_lost(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    at_us: i64,
    incident: u64,
    out: &mut impl DigitalEvents,
) {
    let terms = definition.terms_of(twin);
    let heard_us = twin.life_cycle.heard_us();
    if twin.handled.arrived_us(heard_us).is_some_and(|arrived_us| arrived_us > at_us) {
        return;
    }
    let at_us = at_us.max(twin.handled.digital_at.0);
    tick(id, twin, definition, at_us, out);
    if let Some(transition) = twin.life_cycle.unbind(at_us, Reason::SourceLost, Some(incident)) {
        let measure = twin.entanglement.measure(at_us, terms);
        announce(id, twin, definition, transition, &measure, out);
        let next = next_tick(twin, terms, None);
        twin.handled.wake_us = next.map_or(NEVER_US, |(at_us, _)| at_us);
    }
}

/// The twin is retired at `at_us`, or dismissed (rule 5.6).
pub fn end(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    at_us: i64,
    dismiss: bool,
    out: &mut impl DigitalEvents,
) {
    let terms = definition.terms_of(twin);
    let at_us = at_us.max(last_stamp_us(twin, terms));
    tick(id, twin, definition, at_us, out);
    let measure = twin.entanglement.measure(at_us, terms);
    let mut transitions = [twin.life_cycle.retire(at_us), None];
    if dismiss {
        transitions[1] = twin.life_cycle.dismiss(at_us);
    }
    for transition in transitions.into_iter().flatten() {
        announce(id, twin, definition, transition, &measure, out);
    }
    twin.handled.wake_us = NEVER_US;
}

/// Step 4a: the update as an observation (rules 4.1, 3.3). Whether ODTE may cross the threshold earlier
/// for it: it was late, or the window went over to sub-windows, which leave bit by bit.
fn observe(twin: &mut Twin, definition: &TwinType, physical: &Physical<'_>) -> bool {
    let terms = definition.terms_of(twin);
    if !physical.shadowed.observed {
        return false;
    }
    let head = physical.event.head;
    let transport_us = head.arrived_at.0.saturating_sub(head.physical_at.0);
    let compute_us = physical.digital_at.0.saturating_sub(head.arrived_at.0);
    let lateness_us = transport_us.saturating_add(compute_us);
    let on_time =
        physical.shadowed.time_source != TimeSource::Rejected && lateness_us <= terms.desired_timeliness_us;
    let observation = Observation {
        at_us: physical.digital_at.0,
        transport_us,
        compute_us,
        on_time,
        stream: head.stream as u8,
    };
    let was_exact = twin.entanglement.is_exact();
    twin.entanglement.observe(observation, terms);
    let is_believed = physical.shadowed.time_source != TimeSource::Rejected;
    twin.entanglement.observe_profiles(observation, is_believed.then_some(lateness_us), terms);
    !on_time || twin.entanglement.is_exact() != was_exact
}

/// Step 4b: what ODTE means for the life of the twin.
fn judge(twin: &mut Twin, terms: &Terms, at_us: i64, measure: &Measure) -> Option<Transition> {
    let Terms { threshold, hysteresis, .. } = *terms;
    let settle_us = twin.entanglement.settle_us(terms);
    twin.life_cycle.measured(at_us, measure.odte, threshold, hysteresis, settle_us)
}

/// The events of the physical twin, then those of functions; numbered by name.
fn announce_events(of: Of<'_>, physical: &Physical<'_>, emitted: &[Emitted], out: &mut impl DigitalEvents) {
    let heard = physical.event.events().map(|(event, json)| (event, HappenedValue::Json(json)));
    let computed = emitted.iter().map(|one| match &one.value {
        EmittedValue::Number(number) => (one.event, HappenedValue::Number(*number)),
        EmittedValue::Json(json) => (one.event, HappenedValue::Json(json)),
    });
    let mut seen: Vec<u16> = Vec::new();
    for (event, value) in heard.chain(computed) {
        let index = seen.iter().filter(|other| **other == event).count() as u32;
        seen.push(event);
        let digital_at = physical.digital_at;
        out.happened(of, &Happened { digital_at, event, index, value });
    }
}

/// A transition and the ODTE that it came with.
fn announce(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    transition: Transition,
    measure: &Measure,
    out: &mut impl DigitalEvents,
) {
    twin.handled.change = twin.handled.change.wrapping_add(1);
    let change = twin.handled.change;
    out.lived(Of { id, definition, twin }, &Lived { transition, change });
    announce_entanglement(id, twin, definition, transition.at_us, measure, out);
}

fn announce_entanglement(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    at_us: i64,
    measure: &Measure,
    out: &mut impl DigitalEvents,
) {
    let terms = definition.terms_of(twin);
    twin.handled.change = twin.handled.change.wrapping_add(1);
    let entangled = Entangled {
        at_us,
        change: twin.handled.change,
        measure: *measure,
        lateness: twin.entanglement.lateness(at_us, terms),
    };
    out.entangled(Of { id, definition, twin }, &entangled);
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod wakes;
