//! Source, sink and outbox against the library's own mock of a cluster: what they do with what a cluster
//! answers. What is promised of a real one is proved with a real one, in the suite.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{KafkaSettings, OnGap, Start, outbox, sink, source};
use crate::alarm::Alarm;
use crate::disk::SimDisk;
use crate::message::{Intake, MessageBatch, Outgoing, RawMessage};
use crate::outbox::{OutboxId, OutboxWriter, Unsent};
use crate::parts::PartInfo;
use crate::place::Place;
use crate::queue::Received;
use crate::sink::SinkSetup;
use crate::source::{SourceHandle, SourceSetup};
use crate::store::{FolderStore, Store};

/// Far longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(1).expect("a mock starts");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).expect("a topic is made");
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        Self { producer: config.create().expect("a producer starts"), mock }
    }

    fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(&self.mock.bootstrap_servers().split(',').collect::<Vec<_>>())
    }

    fn send(&self, topic: &str, partition: i32, key: Option<&str>, payload: &str, headers: &[(&str, &str)]) {
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(Header { key, value: Some(*value) });
        }
        let record = BaseRecord::to(topic).partition(partition).payload(payload).headers(all);
        let record = BaseRecord { key, ..record };
        self.producer.send(record).expect("there is room");
        self.producer.flush(LONG).expect("it is delivered");
    }

    /// Everything in a topic: partition, key, payload, headers.
    fn all(&self, topic: &str, partitions: i32, count: usize) -> Vec<(i32, String, String, Vec<String>)> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.mock.bootstrap_servers());
        config.set("group.id", "reader").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().expect("a consumer starts");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("good");
        }
        consumer.assign(&list).expect("assigned");
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let show = |message: BorrowedMessage<'_>| {
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            let headers = headers.map(|header| format!("{}={}", header.key, text(header.value))).collect();
            (message.partition(), text(message.key()), text(message.payload()), headers)
        };
        let until = Instant::now() + LONG;
        let mut found = Vec::new();
        while found.len() < count {
            assert!(Instant::now() < until, "{} of {count} in {topic}", found.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                found.push(show(message));
            }
        }
        // What is too much comes at once, if there is any.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(500)) {
            found.push(show(message));
        }
        found
    }
}

fn setup(filters: &[&str], lanes: usize, next: Place) -> SourceSetup {
    SourceSetup {
        lanes,
        next,
        headers: vec!["device".into()],
        ..SourceSetup::new("bus", filters, PathBuf::new())
    }
}

/// The next messages of all lanes, in the order of each.
fn messages(source: &SourceHandle, count: usize) -> Vec<RawMessage> {
    let (until, mut found) = (Instant::now() + LONG, Vec::new());
    while found.len() < count {
        assert!(Instant::now() < until, "{} of {count}", found.len());
        for lane in &source.lanes {
            if let Received::Item(Intake::Message(message)) = lane.recv_timeout(Duration::from_millis(10)) {
                found.push(message);
            }
        }
    }
    found
}

fn payloads(messages: &[RawMessage]) -> BTreeSet<String> {
    messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

/// The place of a boundary, from all lanes; what comes before it is dropped.
fn cut(source: &SourceHandle, number: u64) -> Place {
    source.boundary(number);
    let mut all = Place::default();
    for lane in &source.lanes {
        loop {
            match lane.recv_timeout(LONG) {
                Received::Item(Intake::Boundary { number: found, next }) => {
                    assert_eq!(found, number);
                    all.merge(&next);
                    break;
                }
                Received::Item(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    all
}

#[test]
fn records_come_from_all_partitions_each_in_its_order() {
    let cluster = Cluster::new(&[("plant.a", 3), ("plant.b", 2), ("other", 1)]);
    for number in 0..30 {
        cluster.send("plant.a", number % 3, Some(&format!("p-{number}")), &format!("a{number:02}"), &[]);
        cluster.send("plant.b", number % 2, None, &format!("b{number:02}"), &[("device", "d"), ("x", "y")]);
        cluster.send("other", 0, None, "not ours", &[]);
    }
    let source = source::start(setup(&["plant.+"], 4, Place::default()), &cluster.settings(), "g");
    let source = source.expect("started");
    let found = messages(&source, 60);
    assert_eq!(payloads(&found).len(), 60);
    let mut last: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for message in &found {
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        let is_a = payload.starts_with('a');
        assert_eq!(message.topic, if is_a { "plant.a" } else { "plant.b" });
        assert_eq!(message.key.is_some(), is_a);
        let device = message.headers.first().expect("one was asked for").as_deref();
        assert_eq!(device, (!is_a).then_some(&b"d"[..]));
        // What stands above the offset tells partitions apart.
        let before = last.insert(message.position >> 48, (message.position, payload.clone()));
        assert!(before.is_none_or(|before| before < (message.position, payload)));
    }
    assert_eq!(last.len(), 5);
    let place = cut(&source, 1);
    assert_eq!(place.parts().map(|(_, next)| next).sum::<u64>(), 60);
    assert_eq!(
        (place.of("plant.a/0"), place.of("plant.b/1"), place.of("other/0")),
        (Some(10), Some(15), None)
    );
}

#[test]
fn a_run_goes_on_where_the_checkpoint_says_on_another_layout_too() {
    let cluster = Cluster::new(&[("t", 4)]);
    for number in 0..40 {
        cluster.send("t", number % 4, None, &format!("{number}"), &[]);
    }
    let first = source::start(setup(&["t"], 1, Place::default()), &cluster.settings(), "g").expect("started");
    messages(&first, 40);
    let place = cut(&first, 1);
    drop(first);
    for number in 40..80 {
        cluster.send("t", number % 4, None, &format!("{number}"), &[]);
    }
    let second = source::start(setup(&["t"], 3, place.clone()), &cluster.settings(), "g").expect("started");
    let found = payloads(&messages(&second, 40));
    assert_eq!(found, (40..80).map(|number| number.to_string()).collect());
    // A checkpoint that is made while the cluster is not reached forgets nothing.
    let nowhere = KafkaSettings::new(&["127.0.0.1:1"]);
    let third = source::start(setup(&["t"], 2, place.clone()), &nowhere, "g").expect("started");
    assert_eq!(cut(&third, 2), place);
}

#[test]
fn where_a_topic_is_begun() {
    let cluster = Cluster::new(&[("t", 1)]);
    (0..10).for_each(|number| cluster.send("t", 0, None, &format!("{number}"), &[]));
    let begin = |start: Start, first: &str| {
        let settings = KafkaSettings { start, ..cluster.settings() };
        let source = source::start(setup(&["t"], 1, Place::default()), &settings, "fresh").expect("started");
        if start == Start::Latest {
            wait_for(|| cut(&source, 1).of("t/0") == Some(10));
            cluster.send("t", 0, None, "10", &[]);
        }
        assert_eq!(messages(&source, 1)[0].payload, first, "{start:?}");
    };
    begin(Start::Earliest, "0");
    begin(Start::Stored, "0");
    begin(Start::Latest, "10");
    let source =
        source::start(setup(&["t"], 1, Place::default()), &cluster.settings(), "known").expect("started");
    messages(&source, 11);
    let place: Place = [("t/0".to_owned(), 7)].into_iter().collect();
    source.committed(&place, &place);
    let settings = KafkaSettings { start: Start::Stored, ..cluster.settings() };
    wait_for(|| {
        let source = source::start(setup(&["t"], 1, Place::default()), &settings, "known").expect("started");
        messages(&source, 1)[0].payload == "7"
    });
}

fn wait_for(mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !is_true() {
        assert!(Instant::now() < until, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_gone_ends_the_run_or_is_passed_over_as_the_job_says() {
    for (on_gap, goes_on) in [(OnGap::Stop, false), (OnGap::Skip, true)] {
        let cluster = Cluster::new(&[("t", 1)]);
        (0..3).for_each(|number| cluster.send("t", 0, None, &format!("{number}"), &[]));
        let alarm = Arc::new(Alarm::default());
        let place: Place = [("t/0".to_owned(), 9)].into_iter().collect();
        let setup = SourceSetup { alarm: alarm.clone(), ..setup(&["t"], 1, place) };
        let settings = KafkaSettings { on_gap, ..cluster.settings() };
        let source = source::start(setup, &settings, "g").expect("started");
        if goes_on {
            assert_eq!(payloads(&messages(&source, 3)).len(), 3);
            assert_eq!(alarm.reason(), None);
        } else {
            wait_for(|| alarm.reason().is_some());
            let reason = alarm.reason().unwrap_or_default();
            assert!(reason.contains("t/0") && reason.contains("on_gap: skip"), "{reason}");
        }
    }
}

#[test]
fn a_payload_over_the_limit_is_cut_and_marked() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.send("t", 0, Some("k"), &"x".repeat(10_000), &[]);
    cluster.send("t", 0, Some("k"), "", &[]);
    let settings = KafkaSettings { max_payload: bytesize::ByteSize::kb(5), ..cluster.settings() };
    let source = source::start(setup(&["t"], 1, Place::default()), &settings, "g").expect("started");
    let found = messages(&source, 2);
    assert_eq!((found[0].oversize, found[0].payload.len()), (Some(10_000), 1_024));
    assert_eq!((found[1].oversize, found[1].payload.len()), (None, 0));
}

#[test]
fn a_cluster_that_is_away_is_told_of_once() {
    let source =
        source::start(setup(&["t"], 2, Place::default()), &KafkaSettings::new(&["127.0.0.1:1"]), "g");
    let source = source.expect("started");
    let lost = source.lanes[0].recv_timeout(LONG);
    assert!(
        matches!(&lost, Received::Item(Intake::Lost { reason, .. }) if reason.contains("no broker answers")),
        "{lost:?}"
    );
    assert!(!source.stats.connected.load(Ordering::Relaxed));
    source.stop();
    let end = source.lanes[0].recv_timeout(LONG);
    assert!(matches!(end, Received::Item(Intake::End { .. })), "{end:?}");
}

fn sink_setup(store: &Arc<dyn Store>, generation: u64, unsent: Vec<Unsent>) -> SinkSetup {
    SinkSetup {
        name: "bus".into(),
        job: "press".into(),
        process: 0,
        generation,
        store: store.clone(),
        unsent,
        alarm: Arc::default(),
    }
}

fn store() -> Arc<dyn Store> {
    Arc::new(FolderStore::new(Arc::new(SimDisk::new(1)), PathBuf::from("s")))
}

fn batch(numbers: std::ops::Range<u64>) -> MessageBatch {
    let mut batch = MessageBatch::default();
    for revision in numbers {
        let (key, payload) = (format!("p-{}", revision % 3), format!("event {revision:03}"));
        let (key, payload) = (key.as_bytes(), payload.as_bytes());
        assert!(batch.push_keyed(Outgoing { topic: "twins", key, payload, retain: false, revision }));
    }
    batch
}

/// Each event once, those of a twin in order and in one partition, with the headers of this generation.
fn check_events(found: &[(i32, String, String, Vec<String>)], count: u64, generation: impl Fn(u64) -> u64) {
    let mut by_key: BTreeMap<&str, Vec<(i32, &str)>> = BTreeMap::new();
    for (partition, key, payload, headers) in found {
        let revision: u64 = payload.trim_start_matches("event ").parse().expect("a number");
        let expected = [format!("generation={}", generation(revision)), format!("revision={revision}")];
        assert_eq!(*headers, expected, "{payload}");
        by_key.entry(key).or_default().push((*partition, payload));
    }
    assert_eq!(found.len() as u64, count);
    for events in by_key.values() {
        assert!(events.is_sorted() && events.iter().all(|event| event.0 == events[0].0), "{events:?}");
    }
}

#[test]
fn a_sink_publishes_under_the_key_with_generation_and_revision() {
    let cluster = Cluster::new(&[("twins", 4)]);
    let sink = sink::start(&sink_setup(&store(), 5, Vec::new()), &cluster.settings()).expect("started");
    for first in (0..100).step_by(10) {
        sink.offer(batch(first..first + 10)).expect("there is room");
    }
    let closed = sink.close(LONG);
    assert_eq!((closed.published, closed.unpublished), (100, 0));
    check_events(&cluster.all("twins", 4, 100), 100, |_| 5);
}

#[test]
fn a_topic_that_is_not_there_is_waited_for() {
    let cluster = Cluster::new(&[]);
    let settings = KafkaSettings::new(&["127.0.0.1:1"]);
    let sink = sink::start(&sink_setup(&store(), 1, Vec::new()), &settings).expect("started");
    sink.offer(batch(0..10)).expect("there is room");
    let closed = sink.close(Duration::from_millis(200));
    assert_eq!((closed.published, closed.unpublished), (0, 10));
    drop(cluster);
}

fn outbox_part(store: &Arc<dyn Store>, name: &str, batch: &MessageBatch) -> PartInfo {
    let mut writer = OutboxWriter::begin(&**store, name).expect("begun");
    writer.add(batch).expect("added");
    writer.finish().expect("finished")
}

/// Markers and fencing are not in the mock; a real cluster has them, in the suite.
#[test]
fn an_outbox_goes_out_once_its_checkpoint_holds() {
    let (cluster, store) = (Cluster::new(&[("twins", 4)]), store());
    let parts: Vec<PartInfo> = (0..4_u64)
        .map(|number| outbox_part(&store, &format!("parts/{number}"), &batch(number * 10..number * 10 + 10)))
        .collect();
    let first = outbox::start(sink_setup(&store, 1, Vec::new()), &cluster.settings()).expect("started");
    first.prepared(1, parts[0].clone());
    first.prepared(1, parts[1].clone());
    first.prepared(2, parts[2].clone());
    first.committed(1);
    wait_for(|| first.sent() == Some(1));
    check_events(&cluster.all("twins", 4, 20), 20, |_| 1);
    // The second checkpoint did not hold: its outbox is not sent.
    drop(first);
    // The next run finds two that were not sent, one of a process that there is not any more.
    let unsent = |number: u64, partition: u32, part: &PartInfo| Unsent {
        partition,
        id: OutboxId { generation: 1, number },
        parts: vec![part.clone()],
    };
    let found = vec![unsent(2, 0, &parts[2]), unsent(2, 3, &parts[3])];
    let second = outbox::start(sink_setup(&store, 2, found), &cluster.settings()).expect("started");
    wait_for(|| second.sent() == Some(0));
    let closed = second.close(LONG);
    assert_eq!((closed.published, closed.unpublished), (0, 0), "what earlier runs offered is not counted");
    check_events(&cluster.all("twins", 4, 40), 40, |_| 1);
}
