//! The suite's Kafka, before anything is built on it: that it keeps what it acknowledged, hides what
//! was aborted, and can be struck in the ways that the engine must bear.
//!
//! ```text
//!   producer ──► Kafka (killed, started again, grown, trimmed) ──► kcat
//! ```

use crate::harness::kafka::Kafka;
use crate::harness::kafka::records::{Message, Record};

/// What kcat reads, a line a record, with partition and offset.
fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let Record { partition, offset, key, headers, payload } = record;
        let (key, payload) = (key.as_deref().unwrap_or("null"), payload.as_deref().unwrap_or("null"));
        let headers: String = headers.iter().map(|(name, value)| format!(" {name}:{value}")).collect();
        format!("{partition}/{offset} {key}={payload}{headers}")
    };
    records.iter().map(line).collect()
}

fn check(records: &[Record], expected: &[&str]) {
    assert_eq!(lines(records), expected);
}

fn numbered(kafka: &Kafka, topic: &str, numbers: std::ops::Range<usize>) {
    let payloads: Vec<String> = numbers.map(|number| number.to_string()).collect();
    kafka.produce(topic, payloads.iter().map(|payload| Message::new("k", payload)));
}

fn payloads(records: &[Record]) -> Vec<usize> {
    let number = |record: &Record| record.payload.as_deref().and_then(|text| text.parse().ok());
    records.iter().map(|record| number(record).expect("a number was sent")).collect()
}

#[test]
fn what_is_produced_is_read() {
    let kafka = Kafka::shared();
    kafka.topic("produced", 3);
    let at = |partition, message| Message { partition: Some(partition), ..message };
    kafka.produce(
        "produced",
        [
            at(2, Message::new("press-1", "hot \"and\" {wet}")),
            at(0, Message { key: None, ..Message::new("", "no key") }),
            at(2, Message { payload: None, ..Message::new("press-1", "") }),
            at(2, Message { headers: &[("revision", b"7"), ("generation", b"1")], ..Message::new("", "") }),
        ],
    );
    check(
        &kafka.kcat("produced"),
        &[
            "0/0 null=no key",
            "2/0 press-1=hot \"and\" {wet}",
            "2/1 press-1=null",
            "2/2 = revision:7 generation:1",
        ],
    );
}

#[test]
fn a_transaction_that_is_aborted_is_seen_by_those_who_do_not_mind() {
    let kafka = Kafka::shared();
    kafka.topic("aborted", 1);
    let producer = kafka.transactional("aborts");
    for (name, is_committed) in [("kept", true), ("dropped", false), ("kept too", true)] {
        producer.begin();
        producer.send("aborted", &Message::new("k", name));
        producer.flush();
        match is_committed {
            true => producer.commit().expect("nobody is in its way"),
            false => producer.abort(),
        }
    }
    // Each transaction ends in a marker, which takes an offset.
    check(&kafka.kcat("aborted"), &["0/0 k=kept", "0/4 k=kept too"]);
    check(&kafka.kcat_uncommitted("aborted"), &["0/0 k=kept", "0/2 k=dropped", "0/4 k=kept too"]);
}

#[test]
fn a_second_producer_of_an_id_fences_the_first() {
    let kafka = Kafka::shared();
    kafka.topic("fenced", 1);
    let first = kafka.transactional("the-one");
    first.begin();
    first.send("fenced", &Message::new("k", "first"));
    let second = kafka.transactional("the-one");
    assert!(first.commit().is_err(), "the first may not commit");
    second.begin();
    second.send("fenced", &Message::new("k", "second"));
    second.commit().expect("the second is the one");
    let read: Vec<_> = kafka.kcat("fenced").into_iter().map(|record| record.payload).collect();
    assert_eq!(read, [Some("second".to_owned())]);
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_a_stop() {
    let mut kafka = Kafka::started();
    kafka.topic("survives", 1);
    numbered(&kafka, "survives", 0..1_000);
    kafka.kill();
    assert_eq!(kafka.process(), None);
    kafka.start();
    assert_eq!(payloads(&kafka.kcat("survives")), Vec::from_iter(0..1_000));
    numbered(&kafka, "survives", 1_000..1_500);
    kafka.stop();
    kafka.start();
    assert_eq!(payloads(&kafka.kcat("survives")), Vec::from_iter(0..1_500));
}

/// A producer goes on over a kill by itself, and each message is there once.
#[test]
fn a_producer_bears_a_kill() {
    let mut kafka = Kafka::started();
    kafka.topic("borne", 1);
    let producer = kafka.producer();
    for number in 0..200 {
        producer.send("borne", &Message::new("k", &number.to_string()));
        if number == 100 {
            kafka.kill();
        }
    }
    kafka.start();
    producer.flush();
    let acknowledged = producer.acknowledged();
    let records = kafka.kcat("borne");
    assert_eq!(payloads(&records), Vec::from_iter(0..200));
    for place in &acknowledged {
        let record = records.iter().find(|record| record.offset == place.offset).expect("it is there");
        assert_eq!(
            (record.partition, payloads(std::slice::from_ref(record))),
            (place.partition, vec![place.number])
        );
    }
    assert_eq!(acknowledged.len(), 200);
}

#[test]
fn topics_grow_and_go() {
    let kafka = Kafka::shared();
    assert_eq!(kafka.partitions("grows"), None);
    kafka.topic("grows", 1);
    assert_eq!(kafka.partitions("grows"), Some(1));
    kafka.add_partitions("grows", 4);
    assert_eq!(kafka.partitions("grows"), Some(4));
    kafka.produce("grows", [Message { partition: Some(3), ..Message::new("k", "there") }]);
    check(&kafka.kcat("grows"), &["3/0 k=there"]);
    kafka.delete_topic("grows");
    assert_eq!(kafka.partitions("grows"), None);
}

#[test]
fn records_are_deleted_below_an_offset() {
    let kafka = Kafka::shared();
    kafka.topic("trimmed", 2);
    let both = [0, 1].map(|partition| Message { partition: Some(partition), ..Message::new("k", "v") });
    kafka.produce("trimmed", both.into_iter().cycle().take(20));
    assert_eq!(kafka.watermarks("trimmed", 0), (0, 10));
    kafka.delete_records("trimmed", 0, 8);
    assert_eq!((kafka.watermarks("trimmed", 0), kafka.watermarks("trimmed", 1)), ((8, 10), (0, 10)));
    assert_eq!(kafka.kcat("trimmed").len(), 12);
}

#[test]
fn a_login_is_asked_for() {
    let kafka = Kafka::with_login("line", "s3cret-word");
    kafka.topic("guarded", 1);
    kafka.produce("guarded", [Message::new("k", "v")]);
    check(&kafka.kcat("guarded"), &["0/0 k=v"]);
}

/// Small segments and a short retention in one topic, as a test of lost offsets needs it.
#[test]
fn retention_removes_records_while_it_runs() {
    let kafka = Kafka::shared();
    kafka.topic_with("retained", 1, &[("segment.bytes", "1048576"), ("retention.bytes", "1048576")]);
    let payload = "x".repeat(100_000);
    kafka.produce("retained", (0..60).map(|_| Message::new("k", &payload)));
    let first = crate::harness::until("old records to go", || {
        Some(kafka.watermarks("retained", 0).0).filter(|first| *first > 0)
    });
    assert!(first < 60, "the last segment stays: {first}");
}

/// A killed test leaves no Java behind and no folder: the system closes its pipe to the watchman.
#[test]
fn the_watchman_ends_a_broker_whose_owner_has_gone() {
    let mut kafka = Kafka::started();
    assert!(kafka.folder().exists());
    let status = kafka.abandon();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    assert!(!kafka.folder().exists(), "{} is removed", kafka.folder().display());
}
