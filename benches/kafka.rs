//! Records of the paper's device from a real Kafka, and digital events back to it.
//!
//! ```text
//!   bare consumer   Kafka ─► librdkafka ─► parsed                                 what the others stand beside
//!   in              Kafka ─► source ─► all steps
//!   in and out      Kafka ─► source ─► all steps ─► sink, archive ─► Kafka, Parquet
//!   exactly once    the same, with a checkpoint a second and transactions after each
//! ```
//! Prints records per CPU second of this process (the library's threads included, the broker's not), each
//! from the same topic, in turn, `--runs` times (3); then ratios of the medians.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod common;
#[allow(dead_code, reason = "each bench uses a part of it")]
#[path = "common/kafka.rs"]
mod kafka;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Job, Messages, RECORDS_TOPIC as TOPIC, argument, cpu_seconds};
use connectors::archive::ArchiveSettings;
use connectors::kafka::{KafkaSettings, outbox, sink, source};
use dataflows::RunOptions;
use dataflows::plan::{ArchivePlan, OpenSink, Plan, SinkPlan};
use kafka::harness::Kafka;
use kafka::harness::records::Message;
use operators::bus::Bus;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 4;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Bare,
    In,
    InAndOut,
    PlainEachSecond,
    ExactlyOnceEachSecond,
}

const CASES: [Case; 5] =
    [Case::Bare, Case::In, Case::InAndOut, Case::PlainEachSecond, Case::ExactlyOnceEachSecond];

fn main() {
    let count: u64 = argument("--messages").map_or(1_000_000, |text| text.parse().expect("a number"));
    let twins: usize = argument("--twins").map_or(10_000, |text| text.parse().expect("a number"));
    let runs: usize = argument("--runs").map_or(3, |text| text.parse().expect("a number"));
    let only = argument("--only");
    let kafka = Kafka::started();
    fill(&kafka, count, twins);
    println!("{count} records of {twins} twins in {PARTITIONS} partitions, {runs} runs");
    let mut rates = vec![Vec::new(); CASES.len()];
    for run in 0..runs {
        for (case, rates) in CASES.iter().zip(&mut rates) {
            if only.as_ref().is_some_and(|only| *only != format!("{case:?}")) {
                continue;
            }
            let start = Instant::now();
            let cpu_seconds = match case {
                Case::Bare => bare(&kafka, count),
                _ => engine(&kafka, *case, count, run),
            };
            let rate = count as f64 / cpu_seconds;
            println!(
                "{case:?}: {rate:.0} records/CPU s ({cpu_seconds:.2} CPU s in {:.2} s)",
                start.elapsed().as_secs_f64()
            );
            rates.push(rate);
        }
    }
    if only.is_some() {
        return;
    }
    let median = |case: Case| {
        let mut rates = rates[CASES.iter().position(|one| *one == case).expect("all are listed")].clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    for (what, ratio, promised) in [
        ("in beside bare", median(Case::In) / median(Case::Bare), "at least 0.67"),
        ("in and out beside bare", median(Case::InAndOut) / median(Case::Bare), "at least 0.33"),
        (
            "CPU of exactly once beside plain",
            median(Case::PlainEachSecond) / median(Case::ExactlyOnceEachSecond),
            "at most 1.15",
        ),
    ] {
        println!("{what}: {ratio:.2}  promised {promised}");
    }
}

/// The paper's messages, the twin's id as the key.
fn fill(kafka: &Kafka, count: u64, twins: usize) {
    kafka.topic(TOPIC, PARTITIONS as usize);
    let messages = Messages::new(twins, 10_000);
    let producer = kafka.producer_with(&[("linger.ms", "50"), ("queue.buffering.max.messages", "2000000")]);
    for number in 0..count {
        let message = messages.message(number, 0);
        let topic = std::str::from_utf8(&message.topic).expect("topics are text");
        let id = topic.split('/').nth(1).expect("the id is the second level");
        let payload = Some(&message.payload[..]);
        producer.send(TOPIC, &Message { key: Some(id.as_bytes()), payload, ..Message::default() });
    }
    producer.flush();
}

/// What a message says, as a bare consumer would read it.
#[derive(Deserialize)]
struct Parsed {
    timestamp: i64,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "iot.sensor.temperature")]
    temperature: f64,
    #[serde(rename = "iot.sensor.energy")]
    energy: f64,
}

/// A consumer that parses, and does nothing with what it has.
fn bare(kafka: &Kafka, count: u64) -> f64 {
    let before = cpu_seconds();
    let mut config = kafka.config();
    config.set("group.id", "bare").set("enable.auto.commit", "false").set("check.crcs", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer starts");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a good offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut taken, mut sum) = (0, 0.0);
    while taken < count {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else { panic!("{taken} of {count} came") };
        let message = message.expect("the broker is well");
        let parsed: Parsed = serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
        sum += parsed.data.temperature + parsed.data.energy + parsed.timestamp as f64;
        taken += 1;
    }
    assert!(sum > 0.0);
    cpu_seconds() - before
}

fn settings(kafka: &Kafka) -> KafkaSettings {
    KafkaSettings::new(&[&kafka.brokers()])
}

fn engine(kafka: &Kafka, case: Case, count: u64, run: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let before = cpu_seconds();
    let plan = plan(kafka, case, run, &folder);
    let running =
        dataflows::start(plan, RunOptions::new(1, folder.path().join("data"))).expect("the run starts");
    let metrics = running.metrics();
    kafka::until("all records to be taken", || {
        (metrics.events.load(Ordering::Relaxed) >= count).then_some(())
    });
    running.stopper().stop();
    let summary = running.wait().expect("the run ends well");
    assert_eq!((summary.events, summary.unpublished), (count, 0));
    cpu_seconds() - before
}

fn plan(kafka: &Kafka, case: Case, run: usize, folder: &tempfile::TempDir) -> Plan {
    let is_each_second = matches!(case, Case::PlainEachSecond | Case::ExactlyOnceEachSecond);
    let job = Job {
        interval: is_each_second.then_some(Duration::from_secs(1)),
        bus: Bus::Records,
        ..Job::default()
    };
    let from = settings(kafka);
    let source = move |setup| source::start(setup, &from, "bench").map_err(std::io::Error::other);
    let no_sink = || connectors::memory::sink("none", |_| {});
    let archive = (case != Case::In).then(|| ArchivePlan {
        settings: ArchiveSettings {
            path: folder.path().join("archive"),
            roll: Default::default(),
            compression: Default::default(),
            retain: None,
        },
        physical: true,
    });
    let mut plan = job.plan(source, no_sink, archive);
    plan.sources[0].is_shared = true;
    if case == Case::In {
        (plan.sinks, plan.listeners) = (Vec::new(), Vec::new());
        return plan;
    }
    let topic = format!("twins.{case:?}.{run}");
    kafka.topic(&topic, PARTITIONS as usize);
    let to = settings(kafka);
    let open: OpenSink = match case {
        Case::ExactlyOnceEachSecond => Box::new(move |setup| Ok(outbox::start(setup, &to)?.into())),
        _ => Box::new(move |setup| Ok(sink::start(&setup, &to)?.into())),
    };
    plan.job = format!("bench-{case:?}-{run}");
    plan.sinks = vec![SinkPlan { name: "bus".into(), is_keyed: true, open }];
    plan.listeners[0].topic = common::records_topic(&topic);
    plan
}
