//! A simulated fleet: what each device measures, when it says so, and what the network does to it.
//!
//! ```text
//!  measure (every period, phases spread) ─► lost? ─► delay + jitter ─► send
//!            timestamp is taken here
//! ```
//!
//! A plain struct: time is passed in. By its seed it decides what is sent; when it is sent depends
//! on the caller's clock. The network is that of `tc-netem`: a delay with uniform jitter, each
//! device's next one correlated with its last, so that messages may overtake each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use connectors::message::{MessageBatch, Outgoing};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod template;

pub use self::template::Template;
use self::template::Words;

/// What to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSettings {
    /// How many devices.
    pub twins: u32,
    /// Time between two measurements of a device.
    pub period: Duration,
    /// Mean delay on the way to the broker.
    pub delay: Duration,
    /// How much more or less it may be.
    pub jitter: Duration,
    /// How much of a delay's deviation is that of the device's last, 0 to 1.
    pub correlation: f64,
    /// Share of the messages that never arrive, 0 to 1.
    pub loss: f64,
    /// What chance begins with.
    pub seed: u64,
    /// How far the devices' clocks are ahead, microseconds; below 0 they are behind.
    pub skew_us: i64,
    /// Beginning of the devices' ids.
    pub prefix: String,
    /// How a message says which device it is of.
    pub addresses: Addresses,
    /// What a message says.
    pub payload: Template,
}

/// How a message says which device it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Each device has a topic of its own, as on MQTT.
    Topics(Template),
    /// All write to [`RECORDS_TOPIC`], under their id as the key, as on Kafka.
    Keys,
}

/// The topic of a fleet whose messages have keys.
pub const RECORDS_TOPIC: &str = "device.telemetry";

/// The topic of the paper's device.
pub const TOPIC: &str = "device/{twin}/telemetry/device_state";

/// What the paper's device says.
pub const PAYLOAD: &str = r#"{"timestamp":{at},"type":"iot.sensor.state.aggregated","data":{"iot.sensor.temperature":{temperature},"iot.sensor.energy":{energy}}}"#;

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            twins: 100,
            period: Duration::from_secs(1),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            correlation: 0.0,
            loss: 0.0,
            seed: 1,
            skew_us: 0,
            prefix: "device".into(),
            addresses: Addresses::Topics(Template::new(TOPIC)),
            payload: Template::new(PAYLOAD),
        }
    }
}

/// The fleet, and what is under way.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    period_us: i64,
    devices: Vec<Device>,
    random: SmallRng,
    /// The next measurement of each device: when, and which.
    measurements: BinaryHeap<Reverse<(i64, u32)>>,
    /// Messages on their way: when they arrive, a number that keeps equals in order, and what.
    under_way: BinaryHeap<Reverse<(i64, u64, Sample)>>,
    /// How many were measured.
    measured: u64,
    /// How many were lost on the way.
    lost: u64,
}

/// One device.
#[derive(Clone, Debug)]
struct Device {
    temperature_hundredths: i32,
    energy_hundredths: i32,
    /// The deviation of its last delay, -1 to 1.
    deviation: f64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    device: u32,
    at_ms: i64,
    temperature_hundredths: i32,
    energy_hundredths: i32,
}

impl Fleet {
    /// A fleet that has measured nothing yet. Device `n` of `N` measures first at `n / N` of the
    /// period, so that messages come evenly.
    pub fn new(settings: FleetSettings) -> Self {
        let mut random = SmallRng::seed_from_u64(settings.seed);
        let period_us = i64::try_from(settings.period.as_micros()).unwrap_or(i64::MAX).max(1);
        let devices = (0..settings.twins).map(|_| Device {
            temperature_hundredths: random.random_range(1_800..2_600),
            energy_hundredths: random.random_range(300..600),
            deviation: 0.0,
        });
        let devices = devices.collect();
        let first_us = |device: u32| {
            let phase = f64::from(device) / f64::from(settings.twins.max(1));
            (period_us as f64 * phase) as i64
        };
        let measurements = (0..settings.twins).map(|device| Reverse((first_us(device), device))).collect();
        Self {
            settings,
            period_us,
            devices,
            random,
            measurements,
            under_way: BinaryHeap::new(),
            measured: 0,
            lost: 0,
        }
    }

    /// The next instant at which something is to be done, microseconds since the start.
    pub fn next_due_us(&self) -> Option<i64> {
        let measurement = self.measurements.peek().map(|Reverse((at_us, _))| *at_us);
        let message = self.under_way.peek().map(|Reverse((at_us, ..))| *at_us);
        measurement.into_iter().chain(message).min()
    }

    /// Does what is due `now_us` after the start; messages that arrive go to `out`. `wall_us` is
    /// the wall clock, which stamps what is measured.
    pub fn advance(&mut self, now_us: i64, wall_us: i64, out: &mut MessageBatch) {
        while let Some(&Reverse((due_us, device))) = self.measurements.peek()
            && due_us <= now_us
        {
            self.measurements.pop();
            self.measurements.push(Reverse((due_us.saturating_add(self.period_us), device)));
            self.measure(device, now_us, wall_us.saturating_add(self.settings.skew_us).div_euclid(1_000));
        }
        while let Some(&Reverse((due_us, _, sample))) = self.under_way.peek()
            && due_us <= now_us
        {
            self.under_way.pop();
            self.write(sample, out);
        }
    }

    /// How many messages were measured so far, those that were lost included.
    pub fn measured(&self) -> u64 {
        self.measured
    }

    /// How many messages were lost on the way so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn measure(&mut self, device: u32, now_us: i64, at_ms: i64) {
        let random = &mut self.random;
        let state = &mut self.devices[device as usize];
        let walk = |value: i32, step: i32, range: std::ops::RangeInclusive<i32>| {
            (value + step).clamp(*range.start(), *range.end())
        };
        state.temperature_hundredths =
            walk(state.temperature_hundredths, random.random_range(-20..=20), -1_000..=6_000);
        state.energy_hundredths = walk(state.energy_hundredths, random.random_range(-5..=5), 0..=2_000);
        let correlation = self.settings.correlation;
        let uniform = random.random_range(-1.0..=1.0);
        state.deviation = correlation * state.deviation + (1.0 - correlation) * uniform;
        let jitter_us = self.settings.jitter.as_micros() as f64 * state.deviation;
        let delay_us = (self.settings.delay.as_micros() as f64 + jitter_us).max(0.0) as i64;
        // Drawn also where nothing is ever lost, so that a seed means the same values with and without.
        let is_lost = random.random::<f64>() < self.settings.loss;
        let sample = Sample {
            device,
            at_ms,
            temperature_hundredths: state.temperature_hundredths,
            energy_hundredths: state.energy_hundredths,
        };
        self.measured += 1;
        if is_lost {
            self.lost += 1;
        } else {
            let arrives_us = now_us.saturating_add(delay_us);
            self.under_way.push(Reverse((arrives_us, self.measured, sample)));
        }
    }

    fn write(&self, sample: Sample, out: &mut MessageBatch) {
        let width = self.settings.twins.saturating_sub(1).max(1).ilog10() as usize + 1;
        let prefix = &self.settings.prefix;
        let words = Words {
            twin: format!("{prefix}-{:0width$}", sample.device),
            at: sample.at_ms.to_string(),
            temperature: hundredths(sample.temperature_hundredths),
            energy: hundredths(sample.energy_hundredths),
        };
        let payload = self.settings.payload.fill(&words);
        let topic;
        let (topic, key) = match &self.settings.addresses {
            Addresses::Topics(template) => {
                topic = template.fill(&words);
                (topic.as_str(), "")
            }
            Addresses::Keys => (RECORDS_TOPIC, words.twin.as_str()),
        };
        let payload = payload.as_bytes();
        // A batch holds 4 GiB; what is due at one instant is far from that.
        _ = out.push_keyed(Outgoing { topic, key: key.as_bytes(), payload, retain: false, revision: 0 });
    }
}

/// A number of hundredths with two decimals.
fn hundredths(number: i32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", number.abs() / 100, number.abs() % 100)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const START_US: i64 = 1_646_847_376_104_000;

    /// What arrives when, where the caller wakes exactly when something is due.
    fn run(settings: FleetSettings, until_us: i64) -> Vec<(i64, String, String)> {
        let mut fleet = Fleet::new(settings);
        let mut arrived = Vec::new();
        let mut batch = MessageBatch::default();
        while let Some(due_us) = fleet.next_due_us().filter(|due_us| *due_us < until_us) {
            fleet.advance(due_us, START_US + due_us, &mut batch);
            for message in batch.iter() {
                assert!(!message.retain);
                let payload = String::from_utf8_lossy(message.payload).into_owned();
                arrived.push((due_us, message.topic.to_owned(), payload));
            }
            batch.clear();
        }
        arrived
    }

    fn check(settings: FleetSettings, until_us: i64, expected: Expect) {
        let lines = run(settings, until_us).into_iter().map(|(at_us, topic, payload)| {
            let payload: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
            let late_us = START_US + at_us - payload["timestamp"].as_i64().unwrap_or(0) * 1_000;
            let twin = topic.split('/').nth(1).unwrap_or_default();
            format!("{at_us} {twin} late {late_us}\n")
        });
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn messages_are_those_of_the_papers_device() {
        let settings = FleetSettings { twins: 1, ..FleetSettings::default() };
        let (at_us, topic, payload) = run(settings, 1).remove(0);
        assert_eq!((at_us, topic.as_str()), (0, "device/device-0/telemetry/device_state"));
        let begin = r#"{"timestamp":1646847376104,"type":"iot.sensor.state.aggregated","data":{"iot.sensor.temperature":"#;
        assert!(payload.starts_with(begin), "{payload}");
        let payload: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
        for key in ["iot.sensor.temperature", "iot.sensor.energy"] {
            assert!(payload["data"][key].is_f64(), "{key}");
        }
    }

    #[test]
    fn devices_of_another_make_have_topics_messages_and_clocks_of_their_own() {
        let settings = FleetSettings {
            twins: 1,
            skew_us: 7_200_000_000,
            addresses: Addresses::Topics(Template::new("meters/{twin}/power")),
            payload: Template::new(r#"[{"ts": {at}, "of": "{twin}", "kind": {kind}}]"#),
            ..FleetSettings::default()
        };
        let (_, topic, payload) = run(settings, 1).remove(0);
        assert_eq!(topic, "meters/device-0/power");
        assert_eq!(payload, r#"[{"ts": 1646854576104, "of": "device-0", "kind": {kind}}]"#);
    }

    #[test]
    fn phases_are_spread_over_the_period() {
        let settings = FleetSettings { twins: 4, ..FleetSettings::default() };
        check(
            settings,
            1_500_000,
            expect![[r#"
            0 device-0 late 0
            250000 device-1 late 0
            500000 device-2 late 0
            750000 device-3 late 0
            1000000 device-0 late 0
            1250000 device-1 late 0
        "#]],
        );
    }

    #[test]
    fn a_delay_comes_after_the_timestamp() {
        let settings = FleetSettings {
            twins: 2,
            delay: Duration::from_millis(600),
            prefix: "p".into(),
            ..FleetSettings::default()
        };
        check(
            settings,
            1_200_000,
            expect![[r#"
            600000 p-0 late 600000
            1100000 p-1 late 600000
        "#]],
        );
    }

    #[test]
    fn jitter_stays_in_its_range_and_messages_overtake() {
        let settings = FleetSettings {
            twins: 1,
            period: Duration::from_millis(10),
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(60),
            ..FleetSettings::default()
        };
        let arrived = run(settings, 10_000_000);
        let stamps: Vec<i64> = arrived
            .iter()
            .map(|(_, _, payload)| {
                let payload: serde_json::Value = serde_json::from_str(payload).expect("JSON");
                payload["timestamp"].as_i64().expect("milliseconds")
            })
            .collect();
        assert!(stamps.windows(2).any(|pair| pair[0] > pair[1]), "some overtake");
        for ((at_us, ..), stamp_ms) in arrived.iter().zip(&stamps) {
            let late_us = START_US + at_us - stamp_ms * 1_000;
            assert!((0..=110_000).contains(&late_us), "{late_us}");
        }
    }

    #[test]
    fn correlated_delays_change_less() {
        let mean_change = |correlation: f64| {
            let settings = FleetSettings {
                twins: 1,
                delay: Duration::from_millis(50),
                jitter: Duration::from_millis(50),
                correlation,
                ..FleetSettings::default()
            };
            let late: Vec<i64> =
                run(settings, 2_000_000_000).iter().map(|(at_us, ..)| at_us % 1_000_000).collect();
            let changes = late.windows(2).map(|pair| (pair[1] - pair[0]).abs());
            changes.sum::<i64>() / late.len() as i64
        };
        assert!(mean_change(0.9) * 2 < mean_change(0.0));
    }

    #[test]
    fn loss_is_a_share_and_a_seed_decides_what_is_sent() {
        let settings = FleetSettings { twins: 10, loss: 0.25, seed: 7, ..FleetSettings::default() };
        let first = run(settings.clone(), 1_000_000_000);
        let share = first.len() as f64 / 10_000.0;
        assert!((share - 0.75).abs() < 0.02, "{share}");
        assert_eq!(first, run(settings.clone(), 1_000_000_000));
        assert_ne!(first, run(FleetSettings { seed: 8, ..settings }, 1_000_000_000));
    }

    #[test]
    fn a_caller_that_wakes_late_stamps_when_it_measures() {
        let mut fleet = Fleet::new(FleetSettings { twins: 1, ..FleetSettings::default() });
        let mut batch = MessageBatch::default();
        fleet.advance(2_000_500, START_US + 2_000_500, &mut batch);
        assert_eq!(batch.len(), 3);
        for message in batch.iter() {
            let payload: serde_json::Value = serde_json::from_slice(message.payload).expect("JSON");
            assert_eq!(payload["timestamp"], 1_646_847_378_104_i64);
        }
        assert_eq!((fleet.measured(), fleet.lost()), (3, 0));
        assert_eq!(fleet.next_due_us(), Some(3_000_000));
    }

    #[test]
    fn hundredths_are_written() {
        for (number, expected) in [(2428, "24.28"), (5, "0.05"), (-5, "-0.05"), (-1230, "-12.30")] {
            assert_eq!(hundredths(number), expected);
        }
    }
}
