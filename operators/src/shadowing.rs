//! Step 2, shadowing: physical event + model -> candidate state S'; numbers the update (rule 1.1).
//!
//! Per property the newest device time wins (rule 3.1), so a message that was overtaken on its way
//! does not undo a newer one. A clock that lies orders nothing (rule 3.3), and one that stepped
//! back does not freeze the twin (rule 3.4, see `StepDetector` below).

pub(crate) mod restore;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{ClaimedTime, Event};
use crate::model::{Kind, Model, Value};
use crate::time::SECOND_US;

/// What of a device time is believed (rule 3.3): `entanglement.clock` of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// How far ahead of its arrival a device time may be.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub ahead_max: std::time::Duration,
    /// How far behind its arrival a device time may be.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub behind_max: std::time::Duration,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self {
            ahead_max: std::time::Duration::from_secs(5),
            behind_max: std::time::Duration::from_secs(7 * 86_400),
        }
    }
}

/// [`ClockSettings`] in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockLimits {
    /// How far ahead of its arrival a device time may be.
    pub ahead_max_us: i64,
    /// How far behind its arrival a device time may be.
    pub behind_max_us: i64,
}

impl ClockLimits {
    /// Whether so much from device to arrival, on average, cannot be the way of the messages alone.
    pub fn is_wrong(&self, transport_us: f64) -> bool {
        transport_us < -(self.ahead_max_us as f64) || transport_us > self.behind_max_us as f64
    }
}

impl From<&ClockSettings> for ClockLimits {
    fn from(settings: &ClockSettings) -> Self {
        Self {
            ahead_max_us: crate::time::duration_us(settings.ahead_max),
            behind_max_us: crate::time::duration_us(settings.behind_max),
        }
    }
}

/// Where the time of an update is from, after judging (rule 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// The device's own time, believed.
    Device,
    /// The time of arrival, as the job asked.
    Arrival,
    /// The device's own time, not believed.
    Rejected,
}

impl TimeSource {
    /// The word in listeners and archive.
    pub fn word(self) -> &'static str {
        match self {
            TimeSource::Device => "device",
            TimeSource::Arrival => "arrival",
            TimeSource::Rejected => "rejected",
        }
    }
}

/// What shadowing made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Number of the update.
    pub update: u64,
    /// Where its time is from.
    pub time_source: TimeSource,
    /// It has properties, all of them older than what the twin has (rule 3.2).
    pub stale: bool,
    /// Some property was taken: the state is consolidated anew.
    pub has_state: bool,
    /// It is a live measurement, to be counted as an observation (rule 3.6).
    pub observed: bool,
}

/// Properties of one update, by number; kept from event to event so that nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Properties that were taken: their functions run (rule 6.1).
    pub taken: Vec<u16>,
    /// Properties whose value differs from before: `changed` of the digital event.
    pub changed: Vec<u16>,
}

impl Touched {
    /// Forgets the last update.
    pub fn clear(&mut self) {
        self.taken.clear();
        self.changed.clear();
    }
}

/// The part of a twin's record that shadowing owns: the number of its last update and its
/// properties.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shadow {
    update: u64,
    #[serde(with = "crate::packed")]
    slots: Box<[Slot]>,
    /// Values of the properties that are text, array or object; their slot has the index.
    #[allow(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in each of the many twins without texts"
    )]
    texts: Option<Box<Vec<String>>>,
    step: Option<Box<StepDetector>>,
}

/// One property: 16 bytes. What the bits mean is known from the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    bits: u64,
    ordered_at: i64,
}

/// `ordered_at` of a property that has no value yet.
const UNSET: i64 = i64::MIN;
/// `ordered_at` of a property whose value came with a time that was not believed.
const UNORDERED: i64 = i64::MIN + 1;

impl Shadow {
    /// No update yet, no value yet.
    pub fn new(model: &Model) -> Self {
        let unset = Slot { bits: 0, ordered_at: UNSET };
        Self {
            update: 0,
            slots: vec![unset; model.properties.len()].into_boxed_slice(),
            texts: None,
            step: None,
        }
    }

    pub(crate) fn warm(&self) -> u64 {
        self.slots.first().map_or(0, |slot| slot.bits)
    }

    /// Number of the last update.
    pub fn update(&self) -> u64 {
        self.update
    }

    /// The value of a property, if it has one.
    pub fn value(&self, model: &Model, property: u16) -> Option<Value<'_>> {
        let slot = self.slots.get(usize::from(property))?;
        if slot.ordered_at == UNSET {
            return None;
        }
        let text = || {
            let text = self.texts.as_ref().and_then(|texts| texts.get(slot.bits as usize));
            text.map_or("", String::as_str)
        };
        Some(match model.properties[usize::from(property)].kind {
            Kind::Double => Value::Double(f64::from_bits(slot.bits)),
            Kind::Integer => Value::Integer(slot.bits as i64),
            Kind::Boolean => Value::Boolean(slot.bits != 0),
            Kind::Enum(_) => Value::Enum(slot.bits as u16),
            Kind::String => Value::Text(text()),
            Kind::Array { .. } | Kind::Object => Value::Json(text()),
        })
    }

    /// Takes an event into the state, and notes in `touched` what it took and changed.
    pub fn apply(
        &mut self,
        event: &Event<'_>,
        model: &Model,
        clock: ClockLimits,
        touched: &mut Touched,
    ) -> Shadowed {
        self.update += 1;
        let head = event.head;
        let time_source = judge(event, clock);
        let believed = time_source != TimeSource::Rejected;
        let at = head.physical_at.0.max(UNORDERED + 1);
        if believed && self.is_older(event, at) {
            if !self.stepped_back(at, head.arrived_at.0) {
                return Shadowed {
                    update: self.update,
                    time_source,
                    stale: true,
                    has_state: false,
                    observed: head.live,
                };
            }
            self.order_anew(at);
        } else {
            self.step = None;
        }
        for (property, value) in event.properties() {
            let Some(slot) = self.slots.get(usize::from(property)) else {
                continue;
            };
            // A tie goes to the later position of the source, which is this one (rule 3.1).
            if believed && at < slot.ordered_at {
                continue;
            }
            let ordered_at = match (believed, slot.ordered_at) {
                (true, _) => at,
                (false, UNSET) => UNORDERED,
                (false, before) => before,
            };
            touched.taken.push(property);
            if self.set(model, property, value, ordered_at) {
                touched.changed.push(property);
            }
        }
        Shadowed {
            update: self.update,
            time_source,
            stale: false,
            has_state: !touched.taken.is_empty(),
            observed: head.live,
        }
    }

    /// Sets a property that a version of a function computed; whether its value differs from before. No
    /// device time orders it, so the version stands in the place of one.
    pub fn compute(&mut self, model: &Model, property: u16, value: Value<'_>, version: u32) -> bool {
        self.set(model, property, value, UNORDERED + i64::from(version))
    }

    /// The version of the function that gave a computed property its value.
    pub fn version(&self, property: u16) -> Option<u32> {
        let slot = self.slots.get(usize::from(property)).filter(|slot| slot.ordered_at != UNSET)?;
        u32::try_from(slot.ordered_at - UNORDERED).ok()
    }

    /// Takes the value of a property away; whether it had one.
    pub(crate) fn unset(&mut self, model: &Model, property: u16) -> bool {
        let slot = &mut self.slots[usize::from(property)];
        if slot.ordered_at == UNSET {
            return false;
        }
        let place = slot.bits;
        *slot = Slot { bits: 0, ordered_at: UNSET };
        if is_text(&model.properties[usize::from(property)].kind)
            && let Some(texts) = &mut self.texts
        {
            texts.swap_remove(place as usize);
            // The last text has taken its place.
            let moved = texts.len() as u64;
            for (slot, property) in self.slots.iter_mut().zip(&model.properties) {
                if slot.ordered_at != UNSET && slot.bits == moved && is_text(&property.kind) {
                    slot.bits = place;
                }
            }
        }
        true
    }

    fn set(&mut self, model: &Model, property: u16, value: Value<'_>, ordered_at: i64) -> bool {
        if !crate::batch::fits(&model.properties[usize::from(property)].kind, value) {
            return false;
        }
        let slot = &mut self.slots[usize::from(property)];
        let was_set = slot.ordered_at != UNSET;
        let bits = match value {
            Value::Double(number) => number.to_bits(),
            Value::Integer(number) => number as u64,
            Value::Boolean(flag) => u64::from(flag),
            Value::Enum(word) => u64::from(word),
            Value::Text(text) | Value::Json(text) => {
                let texts = self.texts.get_or_insert_default();
                slot.ordered_at = ordered_at;
                if !was_set {
                    slot.bits = texts.len() as u64;
                    texts.push(text.to_owned());
                    return true;
                }
                let before = &mut texts[slot.bits as usize];
                let differs = before != text;
                if differs {
                    text.clone_into(before);
                }
                return differs;
            }
        };
        let differs = !was_set || slot.bits != bits;
        *slot = Slot { bits, ordered_at };
        differs
    }

    /// Whether the event has properties and all are older than what the twin has (rule 3.2).
    fn is_older(&self, event: &Event<'_>, at: i64) -> bool {
        let mut any = false;
        for (property, _) in event.properties() {
            match self.slots.get(usize::from(property)) {
                Some(slot) if at < slot.ordered_at => any = true,
                Some(_) => return false,
                None => {}
            }
        }
        any
    }

    fn stepped_back(&mut self, device_us: i64, arrival_us: i64) -> bool {
        let detector = self.step.get_or_insert_with(|| Box::new(StepDetector::begin(device_us, arrival_us)));
        let stepped = detector.stale(device_us, arrival_us);
        if stepped {
            self.step = None;
        }
        stepped
    }

    /// After a step back: nothing that the twin has is newer than now.
    fn order_anew(&mut self, at: i64) {
        for slot in &mut self.slots {
            if slot.ordered_at > at {
                slot.ordered_at = at;
            }
        }
    }
}

/// Whether values of a kind stand among the texts.
fn is_text(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::Array { .. } | Kind::Object)
}

/// Rule 3.3: whether the time that the device claims is near enough to its arrival.
fn judge(event: &Event<'_>, clock: ClockLimits) -> TimeSource {
    if event.head.claimed == ClaimedTime::Arrival {
        return TimeSource::Arrival;
    }
    let behind_us = event.head.arrived_at.0.saturating_sub(event.head.physical_at.0);
    if behind_us < -clock.ahead_max_us || behind_us > clock.behind_max_us {
        TimeSource::Rejected
    } else {
        TimeSource::Device
    }
}

/// Tells a clock that stepped back from a backlog that is sent late (rule 3.4).
///
/// Both look alike at first: updates older than what the twin has. In a step they go on at about
/// the pace of arrival; a backlog is drained faster than it was measured. So a run of stale updates
/// is a step once it has [`STEP_UPDATES_MIN`] updates over at least [`STEP_SPAN_MIN_US`] of arrival,
/// with device times that never go back and span between a half and twice the arrival. Until then
/// its updates are stale; from then on they order state again. A backlog that is sent at the very
/// pace at which it was measured cannot be told from a step, and is taken for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StepDetector {
    first_device_us: i64,
    first_arrival_us: i64,
    last_device_us: i64,
    updates: u32,
}

/// Fewest stale updates in a row that make a step.
const STEP_UPDATES_MIN: u32 = 4;
/// Shortest time of arrival that a run of stale updates must span to make a step.
const STEP_SPAN_MIN_US: i64 = SECOND_US;

impl StepDetector {
    fn begin(device_us: i64, arrival_us: i64) -> Self {
        Self {
            first_device_us: device_us,
            first_arrival_us: arrival_us,
            last_device_us: device_us,
            updates: 0,
        }
    }

    /// Notes a stale update; whether the run shows a step back.
    fn stale(&mut self, device_us: i64, arrival_us: i64) -> bool {
        if device_us < self.last_device_us {
            *self = Self::begin(device_us, arrival_us);
        }
        self.last_device_us = device_us;
        self.updates = self.updates.saturating_add(1);
        let device_span_us = device_us.saturating_sub(self.first_device_us);
        let arrival_span_us = arrival_us.saturating_sub(self.first_arrival_us);
        self.updates >= STEP_UPDATES_MIN
            && arrival_span_us >= STEP_SPAN_MIN_US
            && device_span_us >= arrival_span_us / 2
            && device_span_us <= arrival_span_us.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests;
