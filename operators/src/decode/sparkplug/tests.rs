//! Tables of edge nodes that behave, and of those that do not.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::super::tests::{decoder, message, model, problem_of};
use super::super::{Decoder, Request, StreamPlan, StreamSettings};
use super::encoder::{BOOLEAN, DOUBLE, INT32, Metric, STRING, bd_seq, payload};
use crate::batch::EventBatch;
use crate::bus::Bus;
use crate::time::ArrivalTime;

/// Streams of devices and of edge nodes, of one group.
const STREAMS: &str = r#"[
    {"from": "plant", "decode": "sparkplug_b", "group": "g", "twin": "{edge}:{device}", "expected_rate": "none",
     "properties": {"temperature": "Temp", "count": "Count", "on": "Breaker/Closed",
                    "mode": {"pointer": "Mode", "map": {"0": "idle", "1": "run"}}}, "events": {"door": "Door"}},
    {"from": "plant", "decode": "sparkplug_b", "group": "g", "twin": "{edge}", "expected_rate": "none",
     "properties": {"name": "Firmware"}}]"#;

/// One decoder, and what has come of what it read.
struct Site {
    decoder: Decoder,
    said: String,
    at: ArrivalTime,
    position: u64,
}

impl Site {
    fn new() -> Self {
        Self { decoder: decoder(STREAMS), said: String::new(), at: ArrivalTime(50_000_000), position: 0 }
    }

    /// An edge node `e` with the device `d`, both born.
    fn born() -> Self {
        let mut site = Self::new();
        site.hear("NBIRTH/e", &node_birth(0, 1)).hear("DBIRTH/e/d", &device_birth(1));
        site.said.clear();
        site
    }

    fn hear(&mut self, topic: &str, payload: &[u8]) -> &mut Self {
        let topic = format!("spBv1.0/g/{topic}");
        let mut message = message(&topic, payload);
        (message.arrived_at, message.position) = (self.at, self.position);
        self.position += 1;
        self.read(&message)
    }

    fn read(&mut self, message: &super::Message<'_>) -> &mut Self {
        let (mut events, mut dead_letters) = (EventBatch::default(), Vec::new());
        self.decoder.decode(message, &mut events, &mut dead_letters);
        for event in events.events() {
            let Some(is_up) = event.presence() else { continue };
            let (is, head) = (if is_up { "up" } else { "down" }, event.head);
            self.say(format!("{} {is} at {} {:?}", event.id, head.physical_at.0, head.claimed));
        }
        for event in events.events().filter(|event| event.presence().is_none()) {
            let (properties, happened): (Vec<_>, Vec<_>) =
                (event.properties().collect(), event.events().collect());
            let live = if event.head.live { "" } else { " not live" };
            let (stream, at) = (event.head.stream, event.head.physical_at.0);
            self.say(format!(
                "{} stream {stream} at {at} {:?}{live}: {properties:?} {happened:?}",
                event.id, event.head.claimed
            ));
        }
        for letter in dead_letters {
            self.say(format!("dead: {}", letter.reason));
        }
        for Request { topic, payload } in self.decoder.take_requests() {
            self.say(format!("to {topic}: {}", payload.escape_ascii()));
        }
        self
    }

    fn say(&mut self, line: String) {
        self.said += &line;
        self.said.push('\n');
    }

    fn after(&mut self, seconds: i64) -> &mut Self {
        self.at.0 += seconds * 1_000_000;
        self
    }

    fn check(&mut self, expected: Expect) -> &mut Self {
        expected.assert_eq(&std::mem::take(&mut self.said));
        self
    }
}

fn node_birth(seq: u64, connection: u64) -> Vec<u8> {
    payload(
        Some(seq),
        40_000,
        &[bd_seq(connection), Metric::named("Firmware").alias(90).of(STRING).text("1.4")],
    )
}

fn device_birth(seq: u64) -> Vec<u8> {
    let metrics = [
        Metric::named("Temp").alias(1).of(DOUBLE).double(20.5),
        Metric::named("Count").alias(2).of(INT32).int(-3),
        Metric::named("Breaker/Closed").alias(3).of(BOOLEAN).boolean(true),
        Metric::named("Mode").alias(4).of(INT32).int(1),
        Metric::named("Other").alias(5).of(DOUBLE).double(1.0),
        Metric::named("Door").of(STRING).null(),
    ];
    payload(Some(seq), 41_000, &metrics)
}

fn death(connection: u64) -> Vec<u8> {
    payload(None, 39_000, &[bd_seq(connection)])
}

fn temperature(seq: u64, celsius: f64) -> Vec<u8> {
    payload(Some(seq), 42_000, &[Metric::with_alias(1).double(celsius)])
}

#[test]
fn births_data_and_deaths() {
    Site::new()
        .hear("NBIRTH/e", &node_birth(0, 1))
        .hear("DBIRTH/e/d", &device_birth(1))
        .hear("DDATA/e/d", &temperature(2, 21.0))
        .hear("NDATA/e", &payload(Some(3), 43_000, &[Metric::with_alias(90).at(42_500).text("1.5")]))
        .hear("DDATA/e/d", &payload(Some(4), 43_000, &[Metric::named("Door").text("open")]))
        .hear("DDEATH/e/d", &payload(Some(5), 44_000, &[]))
        .hear("DBIRTH/e/d", &device_birth(6))
        .hear("NDEATH/e", &death(1))
        .check(expect![[r#"
            e up at 40000000 Device
            e stream 1 at 40000000 Device: [(4, Text("1.4"))] []
            e:d up at 41000000 Device
            e:d stream 0 at 41000000 Device: [(0, Double(20.5)), (2, Integer(-3)), (3, Boolean(true)), (5, Enum(1))] [(0, "null")]
            e:d stream 0 at 42000000 Device: [(0, Double(21.0))] []
            e stream 1 at 42500000 Device: [(4, Text("1.5"))] []
            e:d stream 0 at 43000000 Device: [] [(0, "\"open\"")]
            e:d down at 44000000 Device
            e:d up at 41000000 Device
            e:d stream 0 at 41000000 Device: [(0, Double(20.5)), (2, Integer(-3)), (3, Boolean(true)), (5, Enum(1))] [(0, "null")]
            e:d down at 50000000 Arrival
            e down at 50000000 Arrival
        "#]]);
}

#[test]
fn sequence_numbers_go_round() {
    let mut site = Site::new();
    site.hear("NBIRTH/e", &node_birth(254, 1)).hear("DBIRTH/e/d", &device_birth(255));
    site.said.clear();
    site.hear("DDATA/e/d", &temperature(0, 1.0)).hear("DDATA/e/d", &temperature(1, 2.0)).check(expect![[
        r#"
        e:d stream 0 at 42000000 Device: [(0, Double(1.0))] []
        e:d stream 0 at 42000000 Device: [(0, Double(2.0))] []
    "#
    ]]);
}

#[test]
fn a_stream_that_starts_in_the_middle_asks_for_a_birth_once_in_a_while() {
    Site::new()
        .hear("DDATA/e/d", &temperature(7, 1.0))
        .after(9)
        .hear("NDATA/e", &temperature(8, 1.0))
        .hear("DDATA/other/d", &temperature(1, 1.0))
        .after(1)
        .hear("DBIRTH/e/d", &device_birth(9))
        .hear("NDEATH/e", &death(1))
        .hear("NBIRTH/e", &node_birth(0, 2))
        .hear("DDATA/e/d", &temperature(1, 1.0))
        .check(expect![[r#"
            dead: the stream begins in the middle: the birth of the edge node was not heard
            to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
            dead: the stream begins in the middle: the birth of the edge node was not heard
            dead: the stream begins in the middle: the birth of the edge node was not heard
            to spBv1.0/g/NCMD/other: \x08\xf8\xcc\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xf8\xcc\x03 \x0bp\x01
            dead: the stream begins in the middle: the birth of the edge node was not heard
            to spBv1.0/g/NCMD/e: \x08\xe0\xd4\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xe0\xd4\x03 \x0bp\x01
            e up at 40000000 Device
            e stream 1 at 40000000 Device: [(4, Text("1.4"))] []
            dead: the device has no birth certificate; its edge node must be born again
        "#]]);
}

#[test]
fn a_gap_is_closed_by_a_birth() {
    Site::born()
        .hear("DDATA/e/d", &temperature(2, 21.0))
        .hear("DDATA/e/d", &temperature(2, 21.0))
        .hear("DDATA/e/d", &temperature(4, 22.0))
        .hear("DDATA/e/d", &temperature(5, 23.0))
        .hear("NBIRTH/e", &node_birth(0, 1))
        .hear("DDATA/e/d", &temperature(1, 23.5))
        .hear("DBIRTH/e/d", &device_birth(2))
        .hear("DDATA/e/d", &temperature(3, 24.0))
        .check(expect![[r#"
            e:d stream 0 at 42000000 Device: [(0, Double(21.0))] []
            dead: sequence number 2 came a second time
            dead: sequence number 4 where 3 should follow: messages of the edge node were lost
            to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
            dead: not taken, as messages of the edge node were lost before; it must be born again
            e up at 40000000 Device
            e stream 1 at 40000000 Device: [(4, Text("1.4"))] []
            dead: the device has no birth certificate; its edge node must be born again
            e:d up at 41000000 Device
            e:d stream 0 at 41000000 Device: [(0, Double(20.5)), (2, Integer(-3)), (3, Boolean(true)), (5, Enum(1))] [(0, "null")]
            e:d stream 0 at 42000000 Device: [(0, Double(24.0))] []
        "#]]);
}

#[test]
fn who_is_not_born_again_is_down() {
    // With its edge node, on the same connection: it has some time.
    Site::born()
        .hear("NBIRTH/e", &node_birth(0, 1))
        .hear("NDATA/e", &payload(Some(1), 43_000, &[]))
        .after(10)
        .hear("NDATA/e", &payload(Some(2), 43_000, &[]))
        .check(expect![[r#"
            e up at 40000000 Device
            e stream 1 at 40000000 Device: [(4, Text("1.4"))] []
            e:d down at 60000000 Arrival
        "#]]);
    // After another connection whose end was not heard.
    Site::born().hear("NBIRTH/e", &node_birth(0, 2)).check(expect![[r#"
        e:d down at 50000000 Arrival
        e up at 40000000 Device
        e stream 1 at 40000000 Device: [(4, Text("1.4"))] []
    "#]]);
}

#[test]
fn the_death_of_an_earlier_connection_fells_nobody() {
    Site::born().hear("NDEATH/e", &death(7)).hear("DDATA/e/d", &temperature(2, 21.0)).check(expect![[r#"
        dead: the death is of the connection with bdSeq 7, and the edge node was born with 1 since
        e:d stream 0 at 42000000 Device: [(0, Double(21.0))] []
    "#]]);
    Site::born().hear("NDEATH/e", &death(1)).hear("DDATA/e/d", &temperature(2, 21.0)).check(expect![[r#"
        e:d down at 50000000 Arrival
        e down at 50000000 Arrival
        dead: the edge node is dead; it must be born again before it speaks
        to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
    "#]]);
}

#[test]
fn metrics_are_taken_one_by_one() {
    let metrics = [
        Metric::with_alias(1).at(42_000).double(21.0),
        Metric::with_alias(2).at(42_000).text("many"),
        Metric::with_alias(77).at(42_000).double(1.0),
        Metric::with_alias(3).at(41_500).boolean(false),
        Metric::with_alias(4).at(41_500).int(9),
        Metric::with_alias(1).at(30_000).double(19.0).historical(),
        Metric::with_alias(2).at(42_000).null(),
        Metric::with_alias(5).at(42_000).double(3.0),
        Metric::named("Never").of(DOUBLE).double(3.0),
    ];
    Site::born().hear("DDATA/e/d", &payload(Some(2), 43_000, &metrics)).check(expect![[r#"
        e:d stream 0 at 30000000 Device not live: [(0, Double(19.0))] []
        e:d stream 0 at 41500000 Device: [(3, Boolean(false))] []
        e:d stream 0 at 42000000 Device: [(0, Double(21.0))] []
        dead: the alias 77 is not in the birth certificate, and 1 more
        dead: `Mode`: `9` is not in the map
        dead: `Count`: the value is no Int32
        to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
    "#]]);
    let structure = [Metric::with_alias(1).template(), Metric::with_alias(1).double(f64::NAN)];
    Site::born()
        .hear("DDATA/e/d", &payload(Some(2), 43_000, &structure))
        .hear("DDATA/e/d", &payload(Some(3), 43_000, &[Metric::with_alias(5).double(2.0)]))
        .hear("DDATA/e/d", &payload(Some(4), 43_000, &[Metric::with_alias(1).null()]))
        .check(expect![[r#"
            dead: `Temp`: a template is not carried
            dead: `Temp`: null is no double
        "#]]);
}

#[test]
fn births_that_are_wrong() {
    let twice = [Metric::named("Temp").alias(1), Metric::named("Count").alias(1)];
    let nameless = [Metric::with_alias(1)];
    let foreign = [Metric::named("Pressure").alias(9).of(DOUBLE).double(1.0)];
    Site::born()
        .hear("DBIRTH/e/x", &payload(Some(2), 1, &twice))
        .hear("DBIRTH/e/x", &payload(Some(3), 1, &nameless))
        .hear("DBIRTH/e/x", &payload(Some(4), 1, &foreign))
        .hear("NBIRTH/e", &payload(None, 1, &[bd_seq(1)]))
        .check(expect![[r#"
            dead: alias 1 stands for `Count` and for `Temp`
            to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
            dead: a metric of the birth has no name
            dead: no stream maps a metric of this birth certificate
            dead: the birth has no sequence number from 0 to 255
        "#]]);
}

#[test]
fn messages_that_are_none() {
    let mut site = Site::born();
    let birth = node_birth(0, 1);
    let mut retained = message("spBv1.0/g/NBIRTH/e", &birth);
    retained.retained = true;
    site.read(&retained)
        .hear("DDATA/e/d", b"\x12\xff")
        .hear("DDATA/e/d", b"{\"v\":1}")
        .hear("DDATA/e/d", b"\x22\x12SPBV1.0_COMPRESSED")
        .hear("DDATA/e/d", &payload(None, 1, &[]))
        .hear("DDATA/e/d", &payload(Some(256), 1, &[]))
        .hear("DDATA/e/", &temperature(2, 1.0))
        .hear("DDATA/e", &temperature(2, 1.0))
        .check(expect![[r#"
            dead: a retained message, which Sparkplug does not know: it is older than what was heard since; have its publisher retain nothing, and remove it from the broker
            dead: no payload of Sparkplug B: it is cut off
            dead: no payload of Sparkplug B: it is no message of Protocol Buffers
            dead: the payload is compressed, which is not read; have the edge node send payloads as they are
            dead: the message has no sequence number from 0 to 255
            dead: the message has no sequence number from 0 to 255
            dead: the names of edge nodes and devices have 1 to 256 bytes
            dead: no stream of the job takes this topic
        "#]]);
}

#[test]
fn what_is_remembered_goes_on() {
    let mut before = Site::born();
    let records: Vec<_> = before.decoder.memory().records().collect();
    let mut after = Site::new();
    for record in &records {
        after.decoder.restore(record, |topic| topic == "spBv1.0/g/NBIRTH/e").expect("a record");
    }
    let data = [temperature(2, 21.0), temperature(4, 22.0)];
    for site in [&mut before, &mut after] {
        site.hear("DDATA/e/d", &data[0]).hear("DDATA/e/d", &data[1]);
        site.hear("NDEATH/e", &death(1));
    }
    assert!(before.said.contains("Double(21.0)"), "{}", before.said);
    assert_eq!(before.said, after.said);

    let mut other = Site::new();
    other.decoder.restore(&records[0], |_| false).expect("a record");
    other.hear("DDATA/e/d", &data[0]).check(expect![[r#"
        dead: the stream begins in the middle: the birth of the edge node was not heard
        to spBv1.0/g/NCMD/e: \x08\xd0\x86\x03\x12\x1e\n\x14Node Control/Rebirth\x18\xd0\x86\x03 \x0bp\x01
    "#]]);
}

#[test]
fn all_of_an_edge_node_has_one_lane() {
    let key = decoder(STREAMS).lane_key();
    let of = |topic: &str| key.of(format!("spBv1.0/g/{topic}").as_bytes());
    assert_eq!(of("NBIRTH/e"), of("DDATA/e/d"));
    assert_eq!(of("NDEATH/e"), of("DBIRTH/e/x"));
    assert_ne!(of("NBIRTH/e"), of("NBIRTH/other"));
    // With a stream of the same twins that is sorted otherwise there is but one.
    let mixed = format!(
        r#"{}, {{"from": "plant", "topics": ["t/{{twin}}"], "at": "arrival", "properties": {{"name": "/n"}},
                "expected_rate": "none"}}]"#,
        STREAMS.trim_end_matches(']')
    );
    let key = decoder(&mixed).lane_key();
    assert_eq!(key.of(b"spBv1.0/g/NBIRTH/e"), key.of(b"t/e"));
}

#[test]
fn only_what_twins_are_made_of_is_subscribed_to() {
    expect![[r#"
        [
            "spBv1.0/g/DDATA/+/+",
            "spBv1.0/g/NDATA/+",
            "spBv1.0/g/DBIRTH/+/+",
            "spBv1.0/g/NBIRTH/+",
            "spBv1.0/g/DDEATH/+/+",
            "spBv1.0/g/NDEATH/+",
        ]
    "#]]
    .assert_debug_eq(&decoder(STREAMS).filters());
}

/// What is said of a stream of Sparkplug that is wrong.
fn problem(stream: &str) -> String {
    let all = format!(r#"{{"from": "plant", "expected_rate": "none", "decode": "sparkplug_b", {stream}}}"#);
    let settings: StreamSettings = serde_json::from_str(&all).expect("well formed");
    match StreamPlan::compile(&settings, &model(), Bus::Levels) {
        Ok(_) => "good".into(),
        Err(problem) => format!("{}: {}; {}", problem.path.join("."), problem.message, problem.help),
    }
}

#[test]
fn streams_that_are_wrong() {
    for (stream, expected) in [
        (r#""group": "g", "properties": {"temperature": "Temp"}"#, "good"),
        (r#""group": "g", "at": "arrival", "properties": {"temperature": "Temp"}"#, "good"),
        (
            r#""topics": ["a/{edge}"], "group": "g", "properties": {"temperature": "Temp"}"#,
            "topics: the topics of Sparkplug are known; leave `topics` out: the group says them",
        ),
        (
            r#""properties": {"temperature": "Temp"}"#,
            "group: `group` is missing: the group of Sparkplug that the stream reads; add group: plant7",
        ),
        (
            r#""group": "a/b", "properties": {"temperature": "Temp"}"#,
            "group: `a/b` is no group of Sparkplug; write its name, without / + # { }",
        ),
        (
            r#""group": "g", "twin": "/id", "properties": {"temperature": "Temp"}"#,
            "twin: `/id` points into a payload, and Sparkplug names its devices by topics; write \"{edge}:{device}\", \
             or \"{edge}\" for what edge nodes say of themselves",
        ),
        (
            r#""group": "g", "historical": "/h", "properties": {"temperature": "Temp"}"#,
            "historical: metrics of Sparkplug say themselves which are historical; leave `historical` out",
        ),
        (
            r#""group": "g", "at": {"pointer": "/t", "format": "unix_s"},
               "properties": {"temperature": "Temp"}"#,
            "at: metrics of Sparkplug say their times themselves; leave `at` out, or write at: arrival where the \
             devices' clocks are not to be used",
        ),
        (
            r#""group": "g", "properties": {"temperature": "Temp", "energy": "Temp"}"#,
            "properties.energy: `energy` and `temperature` are filled by the same metric; let a function make one of \
             the other, such as energy: {cel: \"temperature\"}",
        ),
        (
            r#""group": "g", "properties": {"wave": "Wave"}"#,
            "properties.wave: `wave` is of type array, and `decode: sparkplug_b` reads scalars; read it from a stream \
             of JSON",
        ),
        (
            r#""group": "g", "properties": {"temperature": ""}"#,
            "properties.temperature: a metric of Sparkplug has a name; write it, such as Power/Active",
        ),
    ] {
        assert_eq!(problem(stream), expected, "{stream}");
    }
    assert_eq!(
        problem_of(r#""group": "g", "at": "arrival", "properties": {"temperature": "/t"}"#),
        "group: `group` is of Sparkplug, and the stream has `decode: json`; leave `group` out, or write decode: \
         sparkplug_b",
    );
}

/// Any bytes, and messages that have been changed here and there.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(node_birth(0, 1)),
        Just(device_birth(1)),
        Just(temperature(2, 1.0)),
        Just(death(1)),
        (0u64..4).prop_map(|seq| payload(Some(seq), 5, &[Metric::with_alias(1).null()])),
    ];
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        good.clone(),
        (good, changes).prop_map(|(mut payload, changes)| {
            for (place, byte) in changes {
                let place = place.index(payload.len());
                payload[place] = byte;
            }
            payload
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever edge nodes say, in whatever order: nothing breaks, and who reads on from what was remembered in between
    /// reads the same.
    #[test]
    fn any_messages_in_any_order(messages in proptest::collection::vec((0usize..6, any_payload()), 1..24)) {
        let topics = ["NBIRTH/e", "DBIRTH/e/d", "DDATA/e/d", "NDATA/e", "NDEATH/e", "DDEATH/e/d"];
        let (mut whole, mut parted) = (Site::new(), Site::new());
        for (number, (topic, payload)) in messages.iter().enumerate() {
            if payload.is_empty() {
                continue;
            }
            whole.hear(topics[*topic], payload);
            parted.hear(topics[*topic], payload);
            if number % 5 == 4 {
                let memory = parted.decoder.memory();
                parted.decoder = decoder(STREAMS);
                for record in memory.records() {
                    parted.decoder.restore(&record, |_| true).expect("a record that was written");
                }
            }
        }
        prop_assert_eq!(whole.said, parted.said);
    }
}
