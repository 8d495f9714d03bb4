//! Step 1 alone: the paper's device as JSON, and the same two values as data of Sparkplug B, which are called by their
//! aliases and follow each other's sequence.
//!
//! Prints messages per CPU second; median of `--runs` (9). What is compared runs in turn, so that a machine that changes
//! its pace changes both.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
#[path = "../operators/src/decode/sparkplug/encoder.rs"]
#[allow(dead_code, reason = "each bench uses a part of it")]
mod encoder;

use std::hint::black_box;

use bytes::Bytes;
use common::{Job, Messages, argument, cpu_seconds, stream_of};
use encoder::{DOUBLE, Metric, bd_seq, payload};
use operators::batch::EventBatch;
use operators::bus::Bus;
use operators::decode::{Decoder, Message, Route, StreamPlan, StreamSettings};
use operators::model::{ModelSettings, compile};
use operators::time::ArrivalTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Devices, all behind one edge node, or each behind its own.
const DEVICES: usize = 1_000;
/// Messages of a run; a multiple of 256, so that the sequence of each edge node closes.
const MESSAGES: usize = 256 * DEVICES;
/// Metrics of a device beside the two that a stream maps.
const OTHERS: u64 = 48;

const AT_MS: u64 = 1_646_847_376_104;

/// A decoder and its messages.
struct Case {
    name: &'static str,
    decoder: Decoder,
    messages: Vec<(Bytes, Bytes)>,
    rates: Vec<f64>,
}

/// The paper's device, beside so many types whose devices are silent.
fn json(name: &'static str, others: u16) -> Case {
    let (definition, _) = Job::default().compile();
    let route = |twin_type: u16, topic: &str| {
        let stream = stream_of(topic);
        let plan = StreamPlan::compile(&stream, &definition.model, Bus::Levels).expect("the stream is good");
        Route { twin_type, stream: 0, plan }
    };
    let silent = (0..others).map(|other| route(other + 1, &format!("device/{{twin}}/type-{other}/state")));
    let all = silent.chain([route(0, "device/{twin}/telemetry/device_state")]).collect();
    let decoder = Decoder::new(0, all);
    let messages = Messages::new(DEVICES, MESSAGES);
    let message = |number| {
        let message = messages.message(number, 1);
        (message.topic, message.payload)
    };
    Case { name, decoder, messages: (0..MESSAGES as u64).map(message).collect(), rates: Vec::new() }
}

fn sparkplug(name: &'static str, edges: usize) -> Case {
    let settings = ModelSettings {
        properties: serde_json::from_str(
            r#"{"temperature": {"type": "double"}, "energy": {"type": "double"}}"#,
        )
        .expect("well formed"),
        ..ModelSettings::default()
    };
    let model = compile(&settings).expect("the model is good");
    let stream: StreamSettings = serde_json::from_str(
        r#"{"from": "memory", "decode": "sparkplug_b", "group": "g", "expected_rate": "none",
            "properties": {"temperature": "Sensor/Temperature", "energy": "Sensor/Energy"}}"#,
    )
    .expect("well formed");
    let plan = StreamPlan::compile(&stream, &model, Bus::Levels).expect("the stream is good");
    let mut decoder = Decoder::new(0, vec![Route { twin_type: 0, stream: 0, plan }]);
    let mut seqs = vec![0u8; edges];
    for edge in 0..edges {
        let payload = payload(Some(0), AT_MS, &[bd_seq(0)]);
        hear(&mut decoder, format!("spBv1.0/g/NBIRTH/gateway-{edge}").as_bytes(), &payload);
    }
    let mut next = |edge: usize| {
        seqs[edge] = seqs[edge].wrapping_add(1);
        Some(u64::from(seqs[edge]))
    };
    let alias = |device: usize, metric: u64| (device as u64) * 64 + metric;
    for device in 0..DEVICES {
        let edge = device % edges;
        let named =
            |name: &str, metric| Metric::named(name).alias(alias(device, metric)).of(DOUBLE).double(20.5);
        let mut metrics = vec![named("Sensor/Temperature", 0), named("Sensor/Energy", 1)];
        metrics.extend((0..OTHERS).map(|number| named(&format!("Other/{number}"), 2 + number)));
        let topic = format!("spBv1.0/g/DBIRTH/gateway-{edge}/device-{device}");
        hear(&mut decoder, topic.as_bytes(), &payload(next(edge), AT_MS, &metrics));
    }
    let message = |number: usize| {
        let (device, edge) = (number % DEVICES, number % DEVICES % edges);
        let value = number as f64 / 100.0;
        let metrics = [0, 1].map(|metric| Metric::with_alias(alias(device, metric)).at(AT_MS).double(value));
        let topic = format!("spBv1.0/g/DDATA/gateway-{edge}/device-{device}");
        (Bytes::from(topic), Bytes::from(payload(next(edge), AT_MS, &metrics)))
    };
    let messages = (0..MESSAGES).map(message).collect();
    Case { name, decoder, messages, rates: Vec::new() }
}

fn hear(decoder: &mut Decoder, topic: &[u8], payload: &[u8]) {
    let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
    decode(decoder, topic, payload, &mut events, &mut dead_letters);
    assert!(dead_letters.is_empty(), "{dead_letters:?}");
}

fn decode(
    decoder: &mut Decoder,
    topic: &[u8],
    payload: &[u8],
    events: &mut EventBatch,
    dead_letters: &mut Vec<operators::decode::DeadLetter>,
) {
    let message = Message {
        position: 7,
        arrived_at: ArrivalTime(AT_MS as i64 * 1_000),
        topic,
        key: None,
        headers: &[],
        payload,
        retained: false,
        oversize: None,
    };
    decoder.decode(&message, events, dead_letters);
}

impl Case {
    fn run(&mut self) {
        let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
        let (mut count, begin) = (0, cpu_seconds());
        for batch in self.messages.chunks(256) {
            for (topic, payload) in batch {
                decode(&mut self.decoder, topic, payload, &mut events, &mut dead_letters);
            }
            count += black_box(&events).len();
            events.clear();
        }
        let seconds = cpu_seconds() - begin;
        assert_eq!((count, dead_letters.len()), (MESSAGES, 0), "{}: {:?}", self.name, dead_letters.first());
        self.rates.push(MESSAGES as f64 / seconds);
    }

    fn median(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates[self.rates.len() / 2]
    }
}

fn main() {
    let runs = argument("--runs").map_or(9, |runs| runs.parse().expect("--runs is a number"));
    let mut cases = [
        json("json, the paper's device", 0),
        json("the same beside 100 silent types", 100),
        sparkplug("sparkplug_b, one edge node", 1),
        sparkplug("sparkplug_b, an edge node a device", DEVICES),
    ];
    for _ in 0..runs {
        cases.iter_mut().for_each(Case::run);
    }
    let json = cases[0].median();
    for case in &mut cases {
        let rate = case.median();
        println!("{:<36} {:>12.0} messages a CPU second, {:.2} of json", case.name, rate, rate / json);
    }
}
