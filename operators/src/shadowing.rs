//! Step 2, shadowing: physical event + model -> candidate state S'; numbers the update (rule 1.1).
//!
//! Per property the newest device time wins (rule 3.1), so a message that was overtaken on its way
//! does not undo a newer one. A clock that lies orders nothing (rule 3.3), and one that stepped
//! back does not freeze the twin (rule 3.4, see [`StepDetector`]).

use serde::{Deserialize, Serialize};

use crate::batch::{ClaimedTime, Event};
use crate::model::{Kind, Model, Value};
use crate::time::SECOND_US;

/// What of a device time is believed (rule 3.3): `entanglement.clock` of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// How far ahead of its arrival a device time may be.
    #[serde(with = "humantime_serde")]
    pub ahead_max: std::time::Duration,
    /// How far behind its arrival a device time may be.
    #[serde(with = "humantime_serde")]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Sets a property that a function computed; whether its value differs from before. Its
    /// ordering time is that of the update.
    pub fn compute(&mut self, model: &Model, property: u16, value: Value<'_>) -> bool {
        self.set(model, property, value, UNORDERED)
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
        self.updates += 1;
        let device_span_us = device_us - self.first_device_us;
        let arrival_span_us = arrival_us.saturating_sub(self.first_arrival_us);
        self.updates >= STEP_UPDATES_MIN
            && arrival_span_us >= STEP_SPAN_MIN_US
            && device_span_us >= arrival_span_us / 2
            && device_span_us <= arrival_span_us.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::batch::{EventBatch, HeadParts};
    use crate::model::{ModelSettings, compile};
    use crate::time::{ArrivalTime, DeviceTime};

    fn model() -> Model {
        compile(&ModelSettings {
            properties: serde_json::from_str(
                r#"{"t": {"type": "double"}, "e": {"type": "double"}, "name": {"type": "string"}}"#,
            )
            .expect("the case is well formed"),
            ..ModelSettings::default()
        })
        .expect("the model is good")
    }

    /// Each line is `device arrival property=value ...` in seconds; answers what became of it.
    fn check(lines: &str, expected: Expect) {
        let model = model();
        let mut shadow = Shadow::new(&model);
        let mut touched = Touched::default();
        let limits = ClockLimits::from(&ClockSettings::default());
        let mut found = String::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let mut time = || {
                let seconds: f64 = words.next().expect("a time").parse().expect("a number");
                (seconds * 1e6) as i64
            };
            let (device, arrival) = (time(), time());
            let mut batch = EventBatch::default();
            let mark = batch.begin();
            for word in words {
                let (name, value) = word.split_once('=').expect("name=value");
                let property = model.property(name).expect("a property");
                match value.parse() {
                    Ok(number) => batch.push_property(mark, property, Value::Double(number)),
                    Err(_) => batch.push_property(mark, property, Value::Text(value)),
                }
            }
            let parts = HeadParts {
                position: 1,
                element: 0,
                physical_at: DeviceTime(device),
                claimed: ClaimedTime::Device,
                arrived_at: ArrivalTime(arrival),
                twin_type: 0,
                stream: 0,
                live: true,
            };
            batch.finish(mark, "p", parts);
            touched.clear();
            let shadowed = shadow.apply(&batch.event(0), &model, limits, &mut touched);
            let values: Vec<String> = (0..3)
                .map(|property| match shadow.value(&model, property) {
                    Some(Value::Double(number)) => number.to_string(),
                    Some(Value::Text(text)) => text.to_owned(),
                    _ => "-".to_owned(),
                })
                .collect();
            let stale = if shadowed.stale { " stale" } else { "" };
            found += &format!(
                "{} {}{stale} [{}] changed {:?}\n",
                shadowed.update,
                shadowed.time_source.word(),
                values.join(" "),
                touched.changed
            );
        }
        expected.assert_eq(&found);
    }

    #[test]
    fn rule_1_1_every_accepted_input_is_numbered_and_3_1_the_newest_device_time_wins() {
        check(
            "
            1 1 t=1 e=1
            2 2 t=2
            1.5 3 t=9 e=3
            2 4 t=4
            2 5 t=4 name=x
            ",
            expect![[r#"
                1 device [1 1 -] changed [0, 1]
                2 device [2 1 -] changed [0]
                3 device [2 3 -] changed [1]
                4 device [4 3 -] changed [0]
                5 device [4 3 x] changed [2]
            "#]],
        );
    }

    #[test]
    fn rule_3_2_an_update_that_is_older_in_all_it_has_is_stale() {
        check(
            "
            2 2 t=2
            1 3 t=1
            3 4 t=3
            ",
            expect![[r#"
                1 device [2 - -] changed [0]
                2 device stale [2 - -] changed []
                3 device [3 - -] changed [0]
            "#]],
        );
    }

    #[test]
    fn rule_3_3_a_time_far_off_orders_nothing_but_its_value_is_taken() {
        check(
            "
            100 100 t=1
            105 100 t=2
            105.1 100 t=3
            104 101 t=4
            105 101 t=5
            -700000 100 t=6
            1e30 100 e=7
            106 102 t=8 e=8
            ",
            expect![[r#"
                1 device [1 - -] changed [0]
                2 device [2 - -] changed [0]
                3 rejected [3 - -] changed [0]
                4 device stale [3 - -] changed []
                5 device [5 - -] changed [0]
                6 rejected [6 - -] changed [0]
                7 rejected [6 7 -] changed [1]
                8 device [8 8 -] changed [0, 1]
            "#]],
        );
    }

    #[test]
    fn rule_3_4_a_clock_that_steps_back_does_not_freeze_the_twin() {
        check(
            "
            1000 1000 t=1
            400 1001 t=2
            401 1002 t=3
            402 1003 t=4
            403 1004 t=5
            404 1005 t=6
            ",
            expect![[r#"
                1 device [1 - -] changed [0]
                2 device stale [1 - -] changed []
                3 device stale [1 - -] changed []
                4 device stale [1 - -] changed []
                5 device [5 - -] changed [0]
                6 device [6 - -] changed [0]
            "#]],
        );
    }

    #[test]
    fn rule_3_4_a_backlog_sent_late_does_not_overwrite_newer_state() {
        check(
            "
            1000 1000 t=1
            400 1001 t=2
            410 1001.3 t=3
            420 1001.6 t=4
            430 1002 t=5
            440 1002.3 t=6
            1003 1003 t=7
            450 1003.1 t=8
            ",
            expect![[r#"
                1 device [1 - -] changed [0]
                2 device stale [1 - -] changed []
                3 device stale [1 - -] changed []
                4 device stale [1 - -] changed []
                5 device stale [1 - -] changed []
                6 device stale [1 - -] changed []
                7 device [7 - -] changed [0]
                8 device stale [7 - -] changed []
            "#]],
        );
    }
}
