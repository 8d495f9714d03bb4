//! Jobs on a real Kafka: what goes in and out, what becomes of them when the cluster is struck, and what is
//! said of what cannot be taken. That nothing is lost when they die is shown by the crash suite.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::archive::Archive;
use crate::harness::kafka::Kafka;
use crate::harness::kafka::records::{Message, Record};
use crate::harness::program::{Ended, Running, start, twinloom};
use crate::harness::site::{metric, rows};
use crate::harness::{archive, free_port, until};

/// A job whose names are its own; pieces of it are changed by tests.
const JOB: &str = r#"
job: NAME
checkpoint: {interval: 200ms}
connections:
  bus: {kafka: {brokers: ["BROKERS"]}}
types:
  device:
    properties: {n: {type: integer}}
    physical:
      telemetry: {from: bus, topics: [NAME.in], at: arrival, properties: {n: /n}, expected_rate: none}
    entanglement: {window: 60s, settle: 0s}
digital: [{to: bus, topic: NAME.out, kinds: [state], exactly_once: true}]
archive: {path: archive, roll: 64KB/300ms}
"#;

/// A job in a folder of its own, and its topics.
struct Line {
    name: String,
    folder: tempfile::TempDir,
}

impl Line {
    /// A job with some pieces changed; its topics are made, with this many partitions.
    fn new(kafka: &Kafka, partitions: usize, changes: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("line-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let line = Self { folder: tempfile::tempdir().expect("a temporary folder"), name };
        if partitions > 0 {
            kafka.topic(&line.input(), partitions);
            kafka.topic(&line.output(), 2);
        }
        line.write(kafka, changes);
        line
    }

    fn write(&self, kafka: &Kafka, changes: &[(&str, &str)]) {
        let mut job = JOB.to_owned();
        for (from, to) in changes {
            assert_eq!(job.matches(from).count(), 1, "`{from}` must name one piece of the job");
            job = job.replace(from, to);
        }
        let job = job.replace("NAME", &self.name).replace("BROKERS", &kafka.brokers());
        std::fs::write(self.folder.path().join("job.yaml"), job).expect("the folder is ours");
    }

    fn input(&self) -> String {
        format!("{}.in", self.name)
    }

    fn output(&self) -> String {
        format!("{}.out", self.name)
    }

    fn run(&self, more: &[&str]) -> Running {
        self.run_on("data", more)
    }

    fn run_on(&self, data: &str, more: &[&str]) -> Running {
        let arguments = ["run", "job.yaml", "--json", "--data", data, "--workers", "2"];
        start(&mut twinloom(self.folder.path(), &[&arguments[..], more].concat()))
    }

    fn archive(&self) -> Archive {
        archive::read(&self.folder.path().join("archive"))
    }

    /// Numbers of one twin, from 1 on behind those before.
    fn send(&self, kafka: &Kafka, twin: &str, numbers: std::ops::RangeInclusive<i64>) {
        let payloads: Vec<String> = numbers.map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        kafka.produce(&self.input(), payloads.iter().map(|payload| Message::new(twin, payload)));
    }

    /// Waits until the topic of states has this many records.
    fn until_out(&self, kafka: &Kafka, count: usize) -> Vec<Record> {
        until(&format!("{count} states"), || {
            let records = kafka.kcat(&self.output());
            assert!(records.len() <= count, "{} states, and {count} were sent", records.len());
            (records.len() == count).then_some(records)
        })
    }
}

/// What the states say, sorted: twin, revision, value, and their headers.
fn states(records: &[Record]) -> Vec<(String, i64, i64)> {
    let read = |record: &Record| {
        let json: Value = serde_json::from_str(record.payload.as_deref().expect("a payload")).expect("JSON");
        let twin = json["twin"].as_str().expect("an id").to_owned();
        assert_eq!(record.key.as_deref(), Some(twin.as_str()), "the key is the twin's id");
        let expected = ["generation", "revision"].map(|name| (name.to_owned(), json[name].to_string()));
        assert_eq!(record.headers, expected);
        (
            twin,
            json["revision"].as_i64().expect("a number"),
            json["properties"]["n"].as_i64().expect("a number"),
        )
    };
    let mut states: Vec<_> = records.iter().map(read).collect();
    states.sort_unstable();
    states
}

/// The states of a twin whose numbers were 1, 2, 3 and so on.
fn counted(twin: &str, last: i64) -> Vec<(String, i64, i64)> {
    (1..=last).map(|n| (twin.to_owned(), n, n)).collect()
}

fn stop(job: Running) -> Ended {
    job.signal("TERM");
    job.wait().succeeded()
}

/// What a run says that ends by itself, and cannot go on.
fn check_refused(job: Running, parts: &[&str]) {
    let ended = job.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` is not in {}", ended.stderr);
    }
}

#[test]
fn partitions_that_are_added_are_read_from_their_begin() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[]);
    let job = line.run(&[]);
    line.send(kafka, "a", 1..=5);
    line.until_out(kafka, 5);
    kafka.add_partitions(&line.input(), 4);
    for partition in 1..4 {
        let twin = format!("b-{partition}");
        let message = Message { partition: Some(partition), ..Message::new(&twin, r#"{"n":1}"#) };
        kafka.produce(&line.input(), [message]);
    }
    let out = line.until_out(kafka, 8);
    assert_eq!(states(&out).len(), 8);
    stop(job);
    assert_eq!(rows(&line.archive(), "physical"), 8);
}

#[test]
fn a_second_engine_fences_the_first_which_ends() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[]);
    let first = line.run(&[]);
    line.send(kafka, "a", 1..=3);
    line.until_out(kafka, 3);
    let mut second = line.run_on("other", &[]);
    second.until_logged("job runs");
    // The first has something to send, and learns that it may not any more.
    until("the first to end", || {
        line.send(kafka, "b", 1..=1);
        first.log().contains("cannot go on").then_some(())
    });
    check_refused(first, &["another engine runs this job on this cluster; end one of them"]);
    drop(second);
}

#[test]
fn a_cluster_that_is_killed_under_load_comes_back_and_nothing_is_lost_or_repeated() {
    let mut kafka = Kafka::started();
    let line = Line::new(&kafka, 2, &[]);
    let port = free_port();
    let job = line.run(&["--listen", &format!("127.0.0.1:{port}")]);
    line.send(&kafka, "a", 1..=200);
    line.until_out(&kafka, 200);
    let producer = kafka.producer();
    for n in 201..=400 {
        producer.send(&line.input(), &Message::new("a", &format!(r#"{{"n":{n}}}"#)));
        if n == 300 {
            kafka.kill();
        }
    }
    until("the loss to be noticed", || {
        metric(port, r#"twinloom_source_connected{source="bus"}"#).filter(|connected| *connected == 0.0)
    });
    kafka.start();
    producer.flush();
    let out = line.until_out(&kafka, 400);
    assert_eq!(states(&out), counted("a", 400));
    let lag = |partition| {
        metric(
            port,
            &format!(r#"twinloom_source_lag{{source="bus",partition="{}/{partition}"}}"#, line.input()),
        )
    };
    until("the lag of each partition to be shown", || lag(0).zip(lag(1)));
    stop(job);
}

/// Retention has removed what was to come: the run ends and says how much, or goes on as the job says.
#[test]
fn records_that_are_gone_are_told_of_and_passed_over_only_where_the_job_allows_it() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[]);
    let job = line.run(&[]);
    line.send(kafka, "a", 1..=10);
    line.until_out(kafka, 10);
    stop(job);
    line.send(kafka, "a", 11..=30);
    kafka.delete_records(&line.input(), 0, 25);
    let place = format!("15 records of {}/0 are gone", line.input());
    check_refused(line.run(&[]), &[&place, "on_gap: skip"]);
    line.write(kafka, &[(r#""BROKERS"]"#, r#""BROKERS"], on_gap: skip"#)]);
    let port = free_port();
    let job = line.run(&["--listen", &format!("127.0.0.1:{port}")]);
    let out = line.until_out(kafka, 15);
    assert_eq!(states(&out).last(), Some(&("a".to_owned(), 15, 30)));
    assert_eq!(metric(port, r#"twinloom_source_gone_total{source="bus"}"#), Some(15.0));
    stop(job);
}

#[test]
fn a_topic_that_is_deleted_is_said_and_one_that_is_made_is_read() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 0, &[("topics: [NAME.in]", "topics: [\"NAME.+.in\"]")]);
    kafka.topic(&line.output(), 1);
    let mut job = line.run(&[]);
    job.until_logged("topic is not there; waiting for it to be made");
    let topic = format!("{}.x.in", line.name);
    kafka.topic(&topic, 1);
    kafka.produce(&topic, [Message::new("a", r#"{"n":1}"#)]);
    line.until_out(kafka, 1);
    kafka.delete_topic(&topic);
    job.until_logged("topic was deleted");
    let other = format!("{}.y.in", line.name);
    kafka.topic(&other, 1);
    kafka.produce(&other, [Message::new("a", r#"{"n":2}"#)]);
    assert_eq!(states(&line.until_out(kafka, 2)), counted("a", 2));
    stop(job);
}

/// One clear reason each, in the table of dead letters, and what can be taken is.
#[test]
fn what_cannot_be_taken_is_a_dead_letter_with_its_reason() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[(r#""BROKERS"]"#, r#""BROKERS"], max_payload: 2KB"#)]);
    let (long, large) = ("x".repeat(300), format!(r#"{{"n":1,"rest":"{}"}}"#, "y".repeat(4_000)));
    let good = Message::new("a", r#"{"n":1}"#);
    let cases: &[(Message<'_>, &str)] = &[
        (Message { key: None, ..good }, "key"),
        (Message { key: Some(b"\xff\xfe"), ..good }, "UTF-8"),
        (Message { key: Some(long.as_bytes()), ..good }, "256"),
        (Message { key: Some(b"a\nb"), ..good }, "control"),
        (Message { key: Some(b""), ..good }, "empty"),
        (Message { payload: None, ..good }, "tombstone"),
        (Message { payload: Some(b"not JSON"), ..good }, "JSON"),
        (Message { payload: Some(b"\x00\x00\x00\x00\x07{\"n\":1}"), ..good }, "schema registry"),
        (Message { payload: Some(large.as_bytes()), ..good }, "max_payload"),
    ];
    let job = line.run(&[]);
    kafka.produce(&line.input(), cases.iter().map(|(message, _)| *message).chain([good]));
    assert_eq!(states(&line.until_out(kafka, 1)), counted("a", 1));
    stop(job);
    let archive = line.archive();
    let letters = archive.get("dead_letters").expect("there are some");
    let at = |name: &str| letters.column(name).expect("rule 10 has it");
    let mut reasons: Vec<(i64, &str)> = letters
        .rows
        .iter()
        .map(|row| {
            (row[at("position")].as_i64().expect("a number"), row[at("reason")].as_str().expect("a text"))
        })
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), cases.len(), "{reasons:?}");
    for ((_, reason), (_, word)) in reasons.iter().zip(cases) {
        assert!(reason.contains(word), "`{word}` is not in `{reason}`");
    }
}

/// 100 MB of zeros in a record of some hundred bytes: it is one dead letter, and the run goes on.
#[test]
fn a_record_that_unpacks_to_very_much_is_a_dead_letter() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[]);
    let producer = kafka.producer_with(&[("compression.type", "gzip"), ("message.max.bytes", "200000000")]);
    let bomb = vec![b'0'; 100_000_000];
    producer.send(&line.input(), &Message { payload: Some(&bomb), ..Message::new("a", "") });
    producer.flush();
    line.send(kafka, "a", 1..=1);
    let job = line.run(&[]);
    assert_eq!(states(&line.until_out(kafka, 1)), counted("a", 1));
    stop(job);
    let archive = line.archive();
    let letters = archive.get("dead_letters").expect("there is one");
    assert_eq!(letters.rows.len(), 1);
    let reason = letters.cells("reason")[0].as_str().expect("a text");
    assert!(reason.contains("100000000 bytes"), "{reason}");
}

#[test]
fn wrong_credentials_are_named() {
    let kafka = Kafka::with_login("line", "right");
    let login = "\"BROKERS\"], options: {security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, \
                 sasl.username: line, sasl.password: PASSWORD}";
    let line = Line::new(&kafka, 1, &[(r#""BROKERS"]"#, &login.replace("PASSWORD", "wrong-word"))]);
    let mut job = line.run(&[]);
    job.until_logged("the cluster refuses the user or password; check the `sasl.*` options");
    assert!(!job.log().contains("wrong-word"), "{}", job.log());
    drop(job);
    line.write(&kafka, &[(r#""BROKERS"]"#, &login.replace("PASSWORD", "right"))]);
    let job = line.run(&[]);
    line.send(&kafka, "a", 1..=1);
    line.until_out(&kafka, 1);
    stop(job);
}

#[test]
fn tls_works_with_the_right_certificate_and_is_named_without() {
    let kafka = Kafka::with_tls();
    let options = |certificate: &str| {
        format!("\"BROKERS\"], options: {{security.protocol: ssl, ssl.ca.location: {certificate}}}")
    };
    let right = options(&kafka.certificate().display().to_string());
    let line = Line::new(&kafka, 1, &[(r#""BROKERS"]"#, &right)]);
    let job = line.run(&[]);
    line.send(&kafka, "a", 1..=3);
    assert_eq!(states(&line.until_out(&kafka, 3)), counted("a", 3));
    stop(job);
    // The system's certificates know nothing of this one.
    line.write(&kafka, &[(r#""BROKERS"]"#, "\"BROKERS\"], options: {security.protocol: ssl}")]);
    let mut job = line.run(&[]);
    job.until_logged("certificate verify failed");
    job.until_logged("check the `ssl.*` options");
    drop(job);
    line.write(&kafka, &[(r#""BROKERS"]"#, &options("/nowhere.pem"))]);
    check_refused(line.run(&[]), &["ssl.ca.location"]);
}

/// A byte of a batch has changed on the broker's disk: in the middle, where the client passes over it by itself,
/// and at the end, where it would ask for it for ever.
#[test]
fn damaged_batches_are_dead_letters_and_all_others_are_taken() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 1, &[]);
    line.send(kafka, "a", 1..=3);
    line.send(kafka, "b", 101..=103);
    line.send(kafka, "a", 4..=6);
    line.send(kafka, "b", 104..=106);
    kafka.damage(&line.input(), 0, r#"{"n":102}"#);
    kafka.damage(&line.input(), 0, r#"{"n":106}"#);
    let job = line.run(&[]);
    assert_eq!(states(&line.until_out(kafka, 6)), counted("a", 6));
    line.send(kafka, "a", 7..=9);
    assert_eq!(states(&line.until_out(kafka, 9)), counted("a", 9));
    stop(job);
    let archive = line.archive();
    let letters = archive.get("dead_letters").expect("there are some");
    let reason = letters.column("reason").expect("rule 10 has it");
    let reasons: Vec<&str> = letters.rows.iter().map(|row| row[reason].as_str().expect("a text")).collect();
    let expected = |from: u32, to: u32| {
        let key = format!("{}/0", line.input());
        format!("the records of {key} from {from} to {to} cannot be read: their checksum is wrong")
    };
    assert_eq!(reasons, [expected(3, 5), expected(9, 11)]);
}

#[test]
fn a_cluster_that_begins_no_transactions_is_named() {
    // Its log of transactions wants three copies, and there is one broker.
    let kafka = Kafka::with(&[("transaction.state.log.replication.factor", "3")]);
    let line = Line::new(&kafka, 1, &[]);
    let mut job = line.run(&[]);
    job.until_logged("begins no transactions: its brokers are older than 0.11, or fewer than");
}

/// Rule 7.9: each partition is read by one of two processes.
#[test]
fn two_processes_share_the_partitions() {
    let kafka = Kafka::shared();
    let line = Line::new(kafka, 8, &[]);
    let hosts = format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port());
    std::fs::write(line.folder.path().join("hosts"), hosts).expect("the folder is ours");
    let jobs = ["0", "1"].map(|process| line.run(&["--hosts", "hosts", "--process", process]));
    for partition in 0..8 {
        let twin = format!("t-{partition}");
        let messages = [1, 2].map(|n| format!(r#"{{"n":{n}}}"#));
        kafka.produce(
            &line.input(),
            messages
                .iter()
                .map(|payload| Message { partition: Some(partition), ..Message::new(&twin, payload) }),
        );
    }
    let out = line.until_out(kafka, 16);
    let expected: Vec<_> = (0..8).flat_map(|partition| counted(&format!("t-{partition}"), 2)).collect();
    assert_eq!(states(&out), expected);
    jobs[0].signal("TERM");
    jobs.into_iter().for_each(|job| drop(job.wait().succeeded()));
    assert_eq!(rows(&line.archive(), "physical"), 16);
}
