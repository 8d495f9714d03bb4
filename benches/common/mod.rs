//! What the benches share: the paper's job as a plan, its messages from memory, and honest clocks.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use connectors::clock::{Clock, SystemClock};
use connectors::memory;
use connectors::message::RawMessage;
use connectors::sink::SinkHandle;
use connectors::source::{SourceHandle, SourceSetup};
use cpu_time::ProcessTime;
use dataflows::plan::{
    ArchivePlan, CheckpointPlan, Limits, ListenerPlan, Plan, SinkPlan, SourcePlan, TimeMode,
};
use operators::bus::Bus;
use operators::decode::{Decoder, Route, StreamPlan, StreamSettings};
use operators::digital::{DigitalKind, TopicTemplate};
use operators::entanglement::{EntanglementSettings, Terms};
use operators::functions::{FunctionSettings, Functions};
use operators::model::{ModelSettings, compile};
use operators::twin::{StreamOf, TwinType};
use std::time::Duration;

/// What a bench changes in the paper's job.
pub struct Job {
    /// Extra entanglement settings, as JSON.
    pub entanglement: String,
    /// `expected_rate` of its stream.
    pub rate: String,
    /// Augmentation, as JSON.
    pub augmentation: String,
    /// Between checkpoints; one at the end only where there is none.
    pub interval: Option<Duration>,
    /// The bus that its messages come by.
    pub bus: Bus,
    /// Whether its devices say that they are there, on `device/{twin}/status`.
    pub presence: bool,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            // A fleet that is entangled from its first message on, so that what is measured is updates.
            entanglement: r#"{"window": "60s", "desired_timeliness": "60s", "settle": "0s"}"#.into(),
            rate: "0.1/s".into(),
            augmentation:
                r#"{"temperature_f": {"linear": {"of": "temperature", "factor": 1.8, "offset": 32}},
                              "smooth": {"ewma": {"of": "energy", "half_life": "30s"}}}"#
                    .into(),
            interval: None,
            bus: Bus::Levels,
            presence: false,
        }
    }
}

impl Job {
    /// The type of the paper's device, and the decoder of its messages.
    pub fn compile(&self) -> (TwinType, Decoder) {
        let settings = ModelSettings {
            properties: serde_json::from_str(
                r#"{"temperature": {"type": "double"}, "energy": {"type": "double"},
                    "temperature_f": {"type": "double"}, "smooth": {"type": "double"}}"#,
            )
            .expect("well formed"),
            ..ModelSettings::default()
        };
        let mut settings = settings;
        let augmentation: indexmap::IndexMap<String, FunctionSettings> =
            serde_json::from_str(&self.augmentation).expect("well formed");
        // A property that nothing writes would only be paid for.
        settings.properties.retain(|name, _| {
            !["smooth", "temperature_f"].contains(&name.as_str()) || augmentation.contains_key(name)
        });
        let model = compile(&settings).expect("the model is good");
        let topic = match self.bus {
            Bus::Levels | Bus::LevelsAndHeaders => "device/{twin}/telemetry/device_state",
            Bus::Records => RECORDS_TOPIC,
        };
        let stream = StreamSettings {
            expected_rate: serde_json::from_value(self.rate.clone().into()).expect("a rate"),
            ..stream_of(topic)
        };
        let entanglement: EntanglementSettings =
            serde_json::from_str(&self.entanglement).expect("well formed");
        let plan = StreamPlan::compile(&stream, &model, self.bus).expect("the stream is good");
        let rate = stream.expected_rate.resolve(&model).expect("the rate is good");
        let definition = TwinType {
            name: "device".into(),
            functions: Functions::compile(&augmentation, &model, &[0, 1]).expect("the functions are good"),
            model,
            clock: (&entanglement.clock).into(),
            terms: Terms::compile(&entanglement, &[rate]).expect("the terms are good"),
            sources: vec![0],
            streams: vec![StreamOf { name: "telemetry".into(), source: 0 }],
            presence: self.presence.then(|| StreamOf { name: "presence".into(), source: 0 }),
        };
        let route = |stream, plan| Route { twin_type: 0, stream, plan };
        let presence = self.presence.then(|| route(1, presence()));
        let decoder = Decoder::new(0, [route(0, plan)].into_iter().chain(presence).collect());
        (definition, decoder)
    }

    /// The job as a plan over this source and sink.
    pub fn plan(
        &self,
        open: impl FnOnce(SourceSetup) -> std::io::Result<SourceHandle> + Send + 'static,
        sink: impl FnOnce() -> std::io::Result<SinkHandle> + Send + 'static,
        archive: Option<ArchivePlan>,
    ) -> Plan {
        let (definition, decoder) = self.compile();
        Plan {
            job: "bench".into(),
            types: vec![definition],
            functions: Vec::new(),
            sources: vec![SourcePlan {
                name: "memory".into(),
                decoder,
                is_shared: false,
                open: Box::new(|port| open(port).map_err(Into::into)),
            }],
            sinks: vec![SinkPlan {
                name: "memory".into(),
                is_keyed: false,
                open: Box::new(|_| sink().map(Into::into).map_err(Into::into)),
            }],
            listeners: vec![ListenerPlan {
                sink: 0,
                topic: TopicTemplate::parse(TopicTemplate::DEFAULT, "bench", Bus::Levels)
                    .expect("the default is good"),
                kinds: DigitalKind::ALL.to_vec(),
                retain: None,
                gate: None,
            }],
            archive,
            checkpoint: CheckpointPlan { interval: self.interval, ..CheckpointPlan::default() },
            time: TimeMode::Live,
            roster: Default::default(),
            limits: Limits::default(),
        }
    }
}

/// The stream of the paper's device, on this topic.
pub fn stream_of(topic: &str) -> StreamSettings {
    let text = format!(
        r#"{{"from": "memory", "topics": ["{topic}"],
            "at": {{"pointer": "/timestamp", "format": "unix_ms"}},
            "properties": {{"temperature": "/data/iot.sensor.temperature", "energy": "/data/iot.sensor.energy"}},
            "expected_rate": "none"}}"#
    );
    serde_json::from_str(&text).expect("well formed")
}

fn presence() -> StreamPlan {
    let settings =
        r#"{"from": "memory", "topic": "device/{twin}/status", "up": "online", "down": "offline"}"#;
    let settings = serde_json::from_str(settings).expect("well formed");
    StreamPlan::compile_presence(&settings, Bus::Levels).expect("presence is good")
}

/// The topic of messages that come as records.
pub const RECORDS_TOPIC: &str = "device.telemetry";

/// The topic of a listener on a bus of records.
pub fn records_topic(topic: &str) -> TopicTemplate {
    TopicTemplate::parse(topic, "bench", Bus::Records).expect("a good topic")
}

/// Messages of the paper's device, made before they are measured.
pub struct Messages {
    topics: Bytes,
    topic_ends: Vec<u32>,
    payloads: Bytes,
    payload_ends: Vec<u32>,
}

impl Messages {
    /// `payloads` different payloads, for `twins` twins with ids of 16 bytes.
    pub fn new(twins: usize, payloads: usize) -> Self {
        let now_ms = SystemClock.wall_us() / 1_000;
        let (mut topics, mut topic_ends) = (Vec::new(), Vec::new());
        for twin in 0..twins {
            topics.extend_from_slice(format!("device/plant-7-p{twin:07}/telemetry/device_state").as_bytes());
            topic_ends.push(topics.len() as u32);
        }
        let (mut bytes, mut payload_ends) = (Vec::new(), Vec::new());
        for payload in 0..payloads {
            let temperature = 20.0 + (payload * 37 % 1_000) as f64 / 100.0;
            let energy = 4.0 + (payload * 91 % 500) as f64 / 100.0;
            let text = format!(
                "{{\"timestamp\":{now_ms},\"type\":\"iot.sensor.state.aggregated\",\"data\":{{\"iot.sensor.temperature\":{temperature:.2},\"iot.sensor.energy\":{energy:.2}}}}}"
            );
            bytes.extend_from_slice(text.as_bytes());
            payload_ends.push(bytes.len() as u32);
        }
        Self { topics: topics.into(), topic_ends, payloads: bytes.into(), payload_ends }
    }

    /// The message with this number, of a twin in a scattered order.
    pub fn message(&self, number: u64, arrived_at_us: i64) -> RawMessage {
        // A step that shares no factor with the number of twins visits each as often.
        let twin = (number.wrapping_mul(1_000_003) % self.topic_ends.len() as u64) as usize;
        let payload = (number % self.payload_ends.len() as u64) as usize;
        RawMessage {
            position: number + 1,
            arrived_at_us,
            topic: cut(&self.topics, &self.topic_ends, twin),
            payload: cut(&self.payloads, &self.payload_ends, payload),
            ..RawMessage::default()
        }
    }
}

fn cut(bytes: &Bytes, ends: &[u32], index: usize) -> Bytes {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    bytes.slice(start..ends[index] as usize)
}

/// Messages that a source takes from its socket at once.
pub const BATCH: u64 = 64;

/// Holds back a flood until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets the flood go on.
    pub fn open(&self) {
        *self.0.0.lock().expect("nothing panics under this lock") = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let mut is_open = self.0.0.lock().expect("nothing panics under this lock");
        while !*is_open {
            is_open = self.0.1.wait(is_open).expect("nothing panics under this lock");
        }
    }
}

/// A source that yields messages as fast as they are taken: `warm` of them before the gate, and
/// `count` behind it.
pub fn flood(
    messages: Arc<Messages>,
    warm: u64,
    count: u64,
    gate: Gate,
) -> impl FnOnce(SourceSetup) -> std::io::Result<SourceHandle> + Send + 'static {
    flood_some(messages, warm, count, u64::MAX, gate)
}

/// The same, but behind the gate only the first `busy` twins speak.
pub fn flood_some(
    messages: Arc<Messages>,
    warm: u64,
    count: u64,
    busy: u64,
    gate: Gate,
) -> impl FnOnce(SourceSetup) -> std::io::Result<SourceHandle> + Send + 'static {
    move |port| {
        let clock = port.clock;
        let batches = |from: u64, to: u64| {
            let starts = (from..to).step_by(BATCH as usize);
            starts.map(move |start| start..to.min(start + BATCH))
        };
        let ranges = batches(0, warm).map(Some).chain([None]).chain(batches(warm, warm + count).map(Some));
        let stream = ranges.map(move |numbers| match numbers {
            None => {
                gate.pass();
                Vec::new()
            }
            Some(numbers) => {
                let now_us = clock.wall_us();
                let twin = |number: u64| if number < warm { number } else { number % busy };
                numbers.map(|number| messages.message(twin(number), now_us)).collect()
            }
        });
        memory::source("memory", port.lanes, port.lane_of, stream)
    }
}

/// CPU seconds of this process.
pub fn cpu_seconds() -> f64 {
    ProcessTime::now().as_duration().as_secs_f64()
}

/// Resident bytes of this process.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// The most bytes that were resident since [`reset_peak`].
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// Forgets the peak so far; resident bytes now.
pub fn reset_peak() -> u64 {
    // "5" resets the high-water mark (proc_pid_clear_refs(5)); where it cannot, the peak is the whole run's.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    resident_bytes()
}

/// The value of `--name VALUE` among the arguments.
pub fn argument(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|one| one == name)?;
    arguments.get(place + 1).cloned()
}
