//! Source and sink against the embedded broker; outages are made with a proxy that can be cut.

use super::embedded::{self, Broker};
use super::{MqttSettings, Version, sink, source};
use crate::clock::ManualClock;
use crate::message::{Intake, MessageBatch, RawMessage};
use crate::place::Place;
use crate::queue::{Received, Refused};
use crate::secret::Secret;
use crate::sink::{Closed, SinkHandle};
use crate::source::{LaneOf, SourceHandle, SourceSetup};
use bytesize::ByteSize;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything takes; a test that waits this long has failed.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| embedded::start().expect("a broker on a free port"))
}

pub(super) fn settings(port: u16) -> MqttSettings {
    MqttSettings::new(format!("mqtt://127.0.0.1:{port}"))
}

/// A source with a journal of its own.
struct Opened {
    handle: SourceHandle,
    _folder: TempDir,
}

impl Deref for Opened {
    type Target = SourceHandle;

    fn deref(&self) -> &SourceHandle {
        &self.handle
    }
}

fn open_source(settings: &MqttSettings, name: &str, lanes: usize) -> Opened {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = setup(name, lanes, folder.path());
    let handle = source::start(setup, settings, name).expect("started");
    Opened { handle, _folder: folder }
}

pub(super) fn setup(name: &str, lanes: usize, folder: &Path) -> SourceSetup {
    let lane_of: LaneOf = Arc::new(|topic: &[u8]| usize::from(*topic.last().unwrap_or(&0)));
    let clock = Arc::new(ManualClock::new(42));
    SourceSetup { lanes, lane_of, clock, ..SourceSetup::new(name, &[&format!("{name}/#")], folder) }
}

pub(super) fn batch(messages: &[(&str, &[u8], bool)]) -> MessageBatch {
    let mut batch = MessageBatch::default();
    messages.iter().for_each(|(topic, payload, retain)| assert!(batch.push(topic, payload, *retain)));
    batch
}

pub(super) fn next(source: &SourceHandle, lane: usize) -> Intake {
    match source.lanes[lane].recv_timeout(LONG) {
        Received::Item(intake) => intake,
        other => panic!("{other:?} instead of an item"),
    }
}

pub(super) fn next_message(source: &SourceHandle, lane: usize) -> RawMessage {
    match next(source, lane) {
        Intake::Message(message) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

/// Publishes probes until one arrives: from then on the subscription stands.
pub(super) fn wait_until_subscribed(sink: &SinkHandle, source: &SourceHandle, name: &str) {
    let topic = format!("{name}/0");
    loop {
        sink.offer(batch(&[(&topic, b"probe", false)])).expect("room");
        if let Received::Item(intake) = source.lanes[0].recv_timeout(Duration::from_millis(50)) {
            assert!(matches!(intake, Intake::Message(_)), "{intake:?}");
            break;
        }
    }
    sink.offer(batch(&[(&topic, b"last probe", false)])).expect("room");
    while next_message(source, 0).payload != "last probe" {}
}

pub(super) fn wait_for(flag: impl Fn() -> bool) {
    while !flag() {
        std::thread::yield_now();
    }
}

#[test]
fn messages_come_in_order_in_their_lanes() {
    for qos in [0, 1] {
        let name = format!("order{qos}");
        let settings = MqttSettings { qos, ..settings(broker().port) };
        let source = open_source(&settings, &name, 2);
        let sink = sink::start("out", &settings, &format!("{name}-sink")).expect("started");
        wait_until_subscribed(&sink, &source, &name);
        for part in 0..20 {
            let mut batch = MessageBatch::default();
            for number in part * 100..(part + 1) * 100 {
                assert!(batch.push(&format!("{name}/{}", number % 2), number.to_string().as_bytes(), false));
            }
            sink.offer(batch).expect("room");
        }
        for lane in [0, 1] {
            for number in 0..1_000 {
                let message = next_message(&source, lane);
                let expected = (2 * number + lane).to_string();
                assert_eq!((&message.payload[..], message.arrived_at_us), (expected.as_bytes(), 42));
                assert_eq!(message.topic, format!("{name}/{lane}"));
            }
        }
        let closed = sink.close(LONG);
        assert!(closed.published >= 2_000 && closed.unpublished == 0, "{closed:?}");
        assert!(source.stats.messages.load(Ordering::Relaxed) >= 2_000);
    }
}

#[test]
fn positions_count_from_one_and_retained_messages_say_so() {
    let settings = settings(broker().port);
    let sink = sink::start("out", &settings, "retained-sink").expect("started");
    sink.offer(batch(&[("retained/0", b"kept", true)])).expect("room");
    assert_eq!(sink.close(LONG), Closed { published: 1, unpublished: 0 });
    let source = open_source(&settings, "retained", 1);
    let message = next_message(&source, 0);
    assert_eq!((message.position, &message.payload[..], message.retained), (1, &b"kept"[..], true));
}

#[test]
fn a_payload_over_the_limit_is_handed_on_cut() {
    let settings = MqttSettings { max_payload: ByteSize::b(2_000), ..settings(broker().port) };
    let source = open_source(&settings, "large", 1);
    let sink = sink::start("out", &settings, "large-sink").expect("started");
    wait_until_subscribed(&sink, &source, "large");
    let huge = vec![b'x'; 5_000_000];
    sink.offer(batch(&[("large/0", &huge, false), ("large/0", &huge[..2_000], false)])).expect("room");
    let message = next_message(&source, 0);
    assert_eq!((message.oversize, message.payload.len()), (Some(5_000_000), 1_024));
    let message = next_message(&source, 0);
    assert_eq!((message.oversize, message.payload.len()), (None, 2_000));
}

#[test]
fn a_bad_topic_is_a_failure_and_no_end() {
    let sink = sink::start("out", &settings(broker().port), "topic-sink").expect("started");
    sink.offer(batch(&[("a/+", b"", false), ("", b"", false), ("topic/0", b"", false)])).expect("room");
    let stats = sink.stats.clone();
    assert_eq!(sink.close(LONG), Closed { published: 1, unpublished: 2 });
    assert_eq!(stats.failures.load(Ordering::Relaxed), 2);
}

#[test]
fn a_full_lane_holds_the_broker_back_and_nothing_is_lost() {
    let settings = MqttSettings { queue: ByteSize::kb(20), ..settings(broker().port) };
    let source = open_source(&settings, "full", 1);
    let sink = sink::start("out", &self::settings(broker().port), "full-sink").expect("started");
    wait_until_subscribed(&sink, &source, "full");
    let payload = [b'x'; 1_000];
    let messages: Vec<(&str, &[u8], bool)> = (0..2_000).map(|_| ("full/0", &payload[..], false)).collect();
    sink.offer(batch(&messages)).expect("room");
    wait_for(|| sink.in_flight_bytes() == 0);
    assert!(source.lanes[0].bytes() < 40_000);
    let first = next_message(&source, 0).position;
    for position in first + 1..first + 2_000 {
        assert_eq!(next_message(&source, 0).position, position);
    }
}

#[test]
fn a_lane_that_stays_full_does_not_cost_the_connection() {
    let proxy = Proxy::new();
    proxy.set_open(true);
    let settings =
        MqttSettings { queue: ByteSize::kb(5), keep_alive: Duration::from_secs(1), ..settings(proxy.port()) };
    let source = open_source(&settings, "patient", 1);
    let sink = sink::start("out", &self::settings(broker().port), "patient-sink").expect("started");
    wait_until_subscribed(&sink, &source, "patient");
    let payload = [b'x'; 1_000];
    let messages: Vec<(&str, &[u8], bool)> = (0..1_000).map(|_| ("patient/0", &payload[..], false)).collect();
    sink.offer(batch(&messages)).expect("room");
    wait_for(|| source.lanes[0].bytes() > 0);
    let taken = source.stats.messages.load(Ordering::Relaxed);
    // One ping every third of the keep-alive time is a sign of life; six are longer than the one and a
    // half times after which a broker gives a client up.
    let pings = proxy.pings();
    wait_for(|| proxy.pings() >= pings + 6);
    assert!(source.stats.messages.load(Ordering::Relaxed) < taken + 500, "nothing is read meanwhile");
    for _ in 0..1_000 {
        next_message(&source, 0);
    }
    assert_eq!(source.stats.reconnects.load(Ordering::Relaxed), 0);
}

#[test]
fn a_stopped_source_closes_its_lanes() {
    let source = open_source(&settings(broker().port), "stop", 2);
    wait_for(|| source.stats.connected.load(Ordering::Relaxed));
    source.stop();
    for lane in &source.lanes {
        assert_eq!(lane.recv(), Some(Intake::End { newest_us: None, next: Place::at(1) }));
        assert_eq!(lane.recv(), None);
    }
}

#[test]
fn an_absent_broker_is_one_incident() {
    let proxy = Proxy::new();
    let source = open_source(&settings(proxy.port()), "absent", 2);
    assert!(matches!(next(&source, 0), Intake::Lost { at_us: 42, .. }));
    let refused_at_first = proxy.refused();
    wait_for(|| proxy.refused() > refused_at_first + 1);
    proxy.set_open(true);
    assert_eq!(next(&source, 0), Intake::Restored { at_us: 42 });
    wait_for(|| source.stats.connected.load(Ordering::Relaxed));
    assert_eq!(source.lanes[1].try_recv(), None);
    assert_eq!(source.stats.reconnects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_source_subscribes_again_after_an_outage() {
    let proxy = Proxy::new();
    proxy.set_open(true);
    let source = open_source(&settings(proxy.port()), "again", 1);
    let sink = sink::start("out", &settings(broker().port), "again-sink").expect("started");
    wait_until_subscribed(&sink, &source, "again");
    proxy.set_open(false);
    assert!(matches!(next(&source, 0), Intake::Lost { .. }));
    proxy.set_open(true);
    assert!(matches!(next(&source, 0), Intake::Restored { .. }));
    wait_until_subscribed(&sink, &source, "again");
}

#[test]
fn a_sink_sends_again_what_an_outage_swallowed() {
    let proxy = Proxy::new();
    proxy.set_open(true);
    let source = open_source(&settings(broker().port), "resend", 1);
    let sink = sink::start("out", &settings(proxy.port()), "resend-sink").expect("started");
    wait_until_subscribed(&sink, &source, "resend");
    for number in 0..3_000 {
        sink.offer(batch(&[("resend/0", number.to_string().as_bytes(), false)])).expect("room");
        if number % 1_000 == 500 {
            proxy.set_open(false);
        } else if number % 1_000 == 999 {
            proxy.set_open(true);
        }
    }
    // Some may come twice, none may be missing, and what comes first comes in order.
    let mut seen = 0;
    while seen < 3_000 {
        let message = next_message(&source, 0);
        let text = std::str::from_utf8(&message.payload).expect("a number");
        if let Ok(number) = text.parse::<u32>() {
            assert!(number <= seen, "{number} came before {seen}");
            seen = seen.max(number + 1);
        }
    }
    assert_eq!(sink.close(LONG).unpublished, 0);
}

#[test]
fn a_sink_without_a_broker_refuses_when_it_is_full_and_closes_in_time() {
    let proxy = Proxy::new();
    let settings = MqttSettings { queue: ByteSize::kb(10), ..settings(proxy.port()) };
    let sink = sink::start("out", &settings, "lonely").expect("started");
    let mut offered = 0;
    loop {
        match sink.offer(batch(&[("t", &[0; 1_000], false)])) {
            Ok(()) => offered += 1,
            Err(Refused::Full(batch)) => break assert_eq!(batch.len(), 1),
            Err(Refused::Closed(_)) => panic!("the sink has ended"),
        }
    }
    assert!(sink.in_flight_bytes() >= 9_000);
    assert_eq!(sink.close(Duration::from_millis(50)), Closed { published: 0, unpublished: offered });
}

#[test]
fn wrong_credentials_are_said_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let connects = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = [0; 200];
            let count = stream.read(&mut bytes).unwrap_or(0);
            connects.lock().expect("not poisoned").extend_from_slice(&bytes[..count]);
            // CONNACK, with "bad user name or password".
            _ = stream.write_all(&[0x20, 2, 0, 4]);
        }
    });
    let settings =
        MqttSettings { user: Some("u".into()), password: Some(Secret::new("hunter2")), ..settings(port) };
    let source = open_source(&settings, "rejected", 1);
    let Intake::Lost { reason, .. } = next(&source, 0) else { panic!("no incident") };
    assert!(reason.contains("check `user` and `password`") && !reason.contains("hunter2"), "{reason}");
    let sent = seen.lock().expect("not poisoned").clone();
    assert!(sent.windows(7).any(|part| part == b"hunter2"), "the password is sent to the broker");
}

/// A broker of MQTT 5 says why it ends a connection.
#[test]
fn a_session_that_is_taken_over_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            _ = stream.read(&mut [0; 200]);
            // CONNACK, and DISCONNECT with "session taken over".
            _ = stream.write_all(&[0x20, 3, 0, 0, 0, 0xe0, 2, 0x8e, 0]);
            // Until the client has gone.
            while stream.read(&mut [0; 200]).is_ok_and(|count| count > 0) {}
        }
    });
    let settings = MqttSettings { version: Version::V5, ..settings(port) };
    let source = open_source(&settings, "taken", 1);
    let Intake::Lost { reason, .. } = next(&source, 0) else { panic!("no incident") };
    assert!(reason.contains("our client id `taken` and has taken the session over"), "{reason}");
    assert!(source.stats.takeovers.load(Ordering::Relaxed) >= 1);
}

/// A broker of MQTT 5 may send a topic once, and its number from then on.
#[test]
fn a_topic_alias_of_the_broker_is_put_back_into_its_topic() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 200];
        let count = stream.read(&mut bytes).expect("a CONNECT");
        // Topic alias maximum: how many the client takes.
        assert!(bytes[..count].windows(3).any(|part| part == [0x22, 0, 64]), "{:?}", &bytes[..count]);
        // CONNACK; SUBACK with the packet id of the SUBSCRIBE.
        stream.write_all(&[0x20, 3, 0, 0, 0]).expect("it listens");
        _ = stream.read(&mut bytes).expect("a SUBSCRIBE");
        stream.write_all(&[0x90, 4, bytes[2], bytes[3], 0, 0]).expect("it listens");
        for (topic, payload) in [("alias/a", b'1'), ("alias/b", b'2'), ("", b'3')] {
            let alias = if topic == "alias/b" { 2 } else { 1 };
            let mut body = vec![0, topic.len() as u8];
            body.extend_from_slice(topic.as_bytes());
            body.extend_from_slice(&[3, 0x23, 0, alias, payload]);
            stream.write_all(&[0x30, body.len() as u8]).expect("it listens");
            stream.write_all(&body).expect("it listens");
        }
        // Until the client has gone.
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    let settings = MqttSettings { version: Version::V5, ..settings(port) };
    let source = open_source(&settings, "alias", 1);
    for (topic, payload) in [("alias/a", "1"), ("alias/b", "2"), ("alias/a", "3")] {
        let message = next_message(&source, 0);
        assert_eq!((&message.topic[..], &message.payload[..]), (topic.as_bytes(), payload.as_bytes()));
    }
}

/// Stands between a client and the broker; closed, it refuses and cuts connections.
struct Proxy {
    address: SocketAddr,
    shared: Arc<ProxyShared>,
}

#[derive(Default)]
struct ProxyShared {
    is_open: AtomicBool,
    refused: AtomicU64,
    /// Pings of clients that came alone.
    pings: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(ProxyShared::default());
        let proxied = shared.clone();
        std::thread::spawn(move || {
            listener.incoming().for_each(|stream| proxied.serve(stream.expect("a connection")))
        });
        Self { address, shared }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    fn pings(&self) -> u64 {
        self.shared.pings.load(Ordering::SeqCst)
    }

    fn set_open(&self, is_open: bool) {
        let mut streams = self.shared.streams.lock().expect("not poisoned");
        self.shared.is_open.store(is_open, Ordering::SeqCst);
        for stream in streams.drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl ProxyShared {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            self.pings.fetch_add(u64::from(bytes[..count] == [0xc0, 0]), Ordering::SeqCst);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        _ = to.shutdown(Shutdown::Both);
    }

    fn serve(self: &Arc<Self>, client: TcpStream) {
        let mut streams = self.streams.lock().expect("not poisoned");
        if !self.is_open.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let server = TcpStream::connect(("127.0.0.1", broker().port)).expect("the broker");
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
            let shared = self.clone();
            std::thread::spawn(move || shared.carry(from, to));
        }
        streams.extend([client, server]);
    }
}
