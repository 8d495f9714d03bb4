//! The source against a broker that follows a script: what it acknowledges and when, what it knows
//! again after a restart, where it is cut, and when it stops reading.

use super::super::tests::{LONG, setup, wait_for};
use super::*;
use crate::disk::{Fault, SimDisk};
use crate::journal::JournalSettings;
use bytesize::ByteSize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

struct Broker {
    listener: TcpListener,
}

/// A client's connection, with its first packets answered.
struct Peer {
    stream: TcpStream,
    /// What it subscribed to, and from, as sent.
    subscribe: Vec<u8>,
    unsubscribe: Vec<u8>,
}

impl Broker {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    fn settings(&self) -> MqttSettings {
        let port = self.listener.local_addr().expect("bound").port();
        MqttSettings::new(format!("mqtt://127.0.0.1:{port}"))
    }

    /// Takes a connection up to its subscription.
    fn accept(&self, session_present: bool) -> Peer {
        let stream = self.listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let mut peer = Peer { stream, subscribe: Vec::new(), unsubscribe: Vec::new() };
        assert_eq!(peer.packet().0 >> 4, 1, "CONNECT comes first");
        peer.send(&[0x20, 2, u8::from(session_present), 0]);
        while peer.subscribe.is_empty() {
            let (kind, body) = peer.packet();
            match kind >> 4 {
                8 => {
                    peer.send(&[0x90, 3, body[0], body[1], 1]);
                    peer.subscribe = body;
                }
                10 => {
                    peer.send(&[0xb0, 2, body[0], body[1]]);
                    peer.unsubscribe = body;
                }
                other => panic!("packet {other} before the subscription"),
            }
        }
        peer
    }
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the client reads");
    }

    fn publish(&mut self, packet_id: u16, payload: &[u8], duplicate: bool) {
        self.publish_at(1, packet_id, payload, duplicate);
    }

    fn publish_at(&mut self, qos: u8, packet_id: u16, payload: &[u8], duplicate: bool) {
        let topic = b"s/0";
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x30 | qos << 1 | u8::from(duplicate) << 3];
        match length < 128 {
            true => packet.push(length as u8),
            false => packet.extend([(length % 128) as u8 | 0x80, (length / 128) as u8]),
        }
        packet.extend([0, topic.len() as u8]);
        packet.extend(topic);
        packet.extend(packet_id.to_be_bytes());
        packet.extend(payload);
        self.send(&packet);
    }

    /// The packet ids of the next acknowledgements.
    fn acknowledged(&mut self, count: usize) -> Vec<u16> {
        self.answered(0x40, count)
    }

    /// The packet ids of the next messages of QoS 2 that have arrived.
    fn received(&mut self, count: usize) -> Vec<u16> {
        self.answered(0x50, count)
    }

    fn answered(&mut self, answer: u8, count: usize) -> Vec<u16> {
        let next = || {
            let (kind, body) = self.packet();
            assert_eq!(kind, answer, "PUBACK, or PUBREC, is awaited");
            u16::from_be_bytes([body[0], body[1]])
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// PUBREL, which is answered at once.
    fn release(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[0x62, 2, high, low]);
        assert_eq!(self.packet(), (0x70, vec![high, low]), "PUBCOMP is awaited");
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).expect("a packet");
            assert!(head[1] < 0x80 || head[0] >> 4 == 1, "short packets only");
            let mut body = vec![0; head[1].into()];
            self.stream.read_exact(&mut body).expect("a packet");
            if head[0] != 0xc0 {
                return (head[0], body);
            }
        }
    }
}

fn open(broker: &Broker, folder: &Path, next: u64) -> SourceHandle {
    let setup = SourceSetup { next: Place::at(next), ..setup("s", 1, folder) };
    start(setup, &broker.settings(), "client").expect("started")
}

fn text(intake: Intake) -> String {
    match intake {
        Intake::Message(message) => {
            format!("{} {}", message.position, String::from_utf8_lossy(&message.payload))
        }
        Intake::Lost { .. } => "lost".into(),
        Intake::Restored { .. } => "restored".into(),
        Intake::Boundary { number, next } => format!("boundary {number} next {}", next.number()),
        Intake::End { next, .. } => format!("end next {}", next.number()),
        other => format!("{other:?}"),
    }
}

/// What comes next out of the only lane.
fn check(source: &SourceHandle, expected: &[&str]) {
    let got: Vec<_> = expected.iter().map_while(|_| source.lanes[0].recv()).map(text).collect();
    assert_eq!(got, expected);
}

fn repeats(source: &SourceHandle) -> u64 {
    source.stats.repeats.load(Ordering::Relaxed)
}

#[test]
fn a_repeat_in_the_same_session_is_acknowledged_and_dropped() {
    let (broker, folder) = (Broker::new(), tempfile::tempdir().expect("a folder"));
    let source = open(&broker, folder.path(), 0);
    let mut peer = broker.accept(false);
    for (packet_id, payload) in [(1, b"a"), (2, b"b"), (3, b"c")] {
        peer.publish(packet_id, payload, false);
    }
    assert_eq!(peer.acknowledged(3), [1, 2, 3]);
    check(&source, &["1 a", "2 b", "3 c"]);
    drop(peer);
    check(&source, &["lost"]);
    let mut peer = broker.accept(true);
    for (packet_id, payload) in [(2, b"b"), (3, b"C"), (4, b"d")] {
        peer.publish(packet_id, payload, true);
    }
    assert_eq!(peer.acknowledged(3), [2, 3, 4]);
    check(&source, &["restored", "6 C", "7 d"]);
    assert_eq!(repeats(&source), 1);
    source.stop();
    check(&source, &["end next 8"]);
    drop((source, peer));

    // The next run reads from the journal what came, and goes on in the session.
    let source = open(&broker, folder.path(), 6);
    check(&source, &["6 C", "7 d"]);
    let mut peer = broker.accept(true);
    for (packet_id, payload) in [(3, b"C"), (4, b"d"), (5, b"e")] {
        peer.publish(packet_id, payload, true);
    }
    assert_eq!(peer.acknowledged(3), [3, 4, 5]);
    check(&source, &["8 e"]);
    assert_eq!((repeats(&source), source.stats.replayed.load(Ordering::Relaxed)), (2, 2));
    drop((source, peer));

    // A session that the broker has forgotten has packet ids of its own, also after one more restart.
    for (next, expected) in [(9, "9 e"), (10, "10 e")] {
        let source = open(&broker, folder.path(), next);
        let mut peer = broker.accept(false);
        peer.publish(5, b"e", true);
        assert_eq!(peer.acknowledged(1), [5]);
        check(&source, &[expected]);
        assert_eq!(repeats(&source), 0);
        drop((source, peer));
    }
}

/// Rule 7.2 at QoS 2: what may come again is known, over a restart, a checkpoint that has it and a journal that could
/// let go of it; and once the broker has released it the same bytes are another message.
#[test]
fn at_qos_2_a_message_is_known_until_it_is_released() {
    let (broker, folder) = (Broker::new(), tempfile::tempdir().expect("a folder"));
    let journal = JournalSettings { size: ByteSize::mb(1), file: ByteSize::b(100) };
    let settings = MqttSettings { qos: 2, journal, ..broker.settings() };
    let open = |next: u64| {
        let setup = SourceSetup { next: Place::at(next), ..setup("s", 1, folder.path()) };
        start(setup, &settings, "client").expect("started")
    };
    let source = open(0);
    let mut peer = broker.accept(false);
    for packet_id in [1, 2, 3] {
        peer.publish_at(2, packet_id, b"same", false);
    }
    // One at QoS 1 among them is acknowledged as such.
    peer.publish(4, b"one", false);
    let mut answers: Vec<u8> = (0..4).map(|_| peer.packet().0).collect();
    answers.sort_unstable();
    assert_eq!(answers, [0x40, 0x50, 0x50, 0x50]);
    check(&source, &["1 same", "2 same", "3 same", "4 one"]);
    peer.release(1);
    drop(peer);
    check(&source, &["lost"]);

    // On the same run: 2 was answered and comes again; 1 is another message with the bytes of the one before.
    let mut peer = broker.accept(true);
    check(&source, &["restored"]);
    peer.publish_at(2, 2, b"same", true);
    peer.publish_at(2, 1, b"same", true);
    assert_eq!(peer.received(2).len(), 2);
    check(&source, &["8 same"]);
    // A checkpoint has all of it, and the journal still has what is held.
    source.boundary(1);
    check(&source, &["boundary 1 next 9"]);
    source.committed(&Place::at(9), &Place::at(9));
    source.boundary(2);
    check(&source, &["boundary 2 next 9"]);
    drop((source, peer));

    // On another run, which begins behind them.
    let source = open(9);
    let mut peer = broker.accept(true);
    for packet_id in [2, 3, 1] {
        peer.publish_at(2, packet_id, b"same", true);
    }
    peer.publish_at(2, 5, b"new", true);
    assert_eq!(peer.received(4), [2, 3, 1, 5]);
    assert_eq!(repeats(&source), 3);
    check(&source, &["9 new"]);
    for packet_id in [2, 3, 1, 5] {
        peer.release(packet_id);
    }
    // What is not known, as it was released before a restart, is answered as well.
    peer.release(77);
    peer.publish_at(2, 2, b"same", true);
    assert_eq!(peer.received(1), [2]);
    check(&source, &["14 same"]);
    drop((source, peer));
}

#[test]
fn filters_that_are_no_longer_read_are_unsubscribed() {
    let (broker, folder) = (Broker::new(), tempfile::tempdir().expect("a folder"));
    let run = |filters: &[&str], session_present| {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let setup = SourceSetup { filters, ..setup("s", 1, folder.path()) };
        let source = start(setup, &broker.settings(), "client").expect("started");
        let peer = broker.accept(session_present);
        drop(source);
        let has = |body: &[u8], filter: &str| body.windows(3).any(|part| part == filter.as_bytes());
        ["a/#", "b/#"].map(|filter| (has(&peer.subscribe, filter), has(&peer.unsubscribe, filter)))
    };
    assert_eq!(run(&["a/#", "b/#"], false), [(true, false), (true, false)]);
    assert_eq!(run(&["a/#"], true), [(true, false), (false, true)]);
    assert_eq!(run(&["b/#"], false), [(false, false), (true, false)]);
    assert_eq!(run(&["b/#"], true), [(false, false), (true, false)]);
}

#[test]
fn boundaries_are_answered_idle_in_a_replay_and_without_a_broker() {
    let (broker, folder) = (Broker::new(), tempfile::tempdir().expect("a folder"));
    let source = open(&broker, folder.path(), 0);
    source.boundary(1);
    check(&source, &["boundary 1 next 1"]);
    let mut peer = broker.accept(false);
    for packet_id in 1..=100 {
        peer.publish(packet_id, &[b'x'; 1_000], false);
    }
    assert_eq!(peer.acknowledged(100).last(), Some(&100));
    source.boundary(2);
    let all: Vec<_> = (0..101).map_while(|_| source.lanes[0].recv()).map(text).collect();
    assert_eq!(all.last().map(String::as_str), Some("boundary 2 next 101"));
    drop((source, peer));

    // The broker is away, and the lane holds a fifth of what is replayed.
    let settings = MqttSettings { queue: ByteSize::kb(20), ..broker.settings() };
    drop(broker);
    let source = start(setup("s", 1, folder.path()), &settings, "client").expect("started");
    wait_for(|| source.lanes[0].bytes() > 15_000);
    source.boundary(3);
    let (mut taken, mut cut) = (0, None);
    while taken < 100 {
        match source.lanes[0].recv().expect("all is replayed") {
            Intake::Message(message) => {
                taken += 1;
                assert_eq!(message.position, taken);
            }
            Intake::Boundary { number: 3, next } => cut = Some((taken, next)),
            other => panic!("{other:?}"),
        }
    }
    let cut = cut.unwrap_or_else(|| match source.lanes[0].recv() {
        Some(Intake::Boundary { next, .. }) => (taken, next),
        other => panic!("{other:?}"),
    });
    assert_eq!(Place::at(cut.0 + 1), cut.1);
    check(&source, &["lost"]);
    source.boundary(4);
    check(&source, &["boundary 4 next 102"]);
    source.stop();
    check(&source, &["end next 102"]);
    assert_eq!(source.lanes[0].recv(), None);
}

#[test]
fn a_full_journal_holds_the_broker_back_until_a_checkpoint_frees_it() {
    let (broker, folder) = (Broker::new(), tempfile::tempdir().expect("a folder"));
    let journal = JournalSettings { size: ByteSize::mb(1), file: ByteSize::kb(100) };
    let settings = MqttSettings { journal, ..broker.settings() };
    let source = start(setup("s", 1, folder.path()), &settings, "client").expect("started");
    let mut peer = broker.accept(false);
    let stream = peer.stream.try_clone().expect("a handle");
    let mut writing = Peer { stream, subscribe: Vec::new(), unsubscribe: Vec::new() };
    let writer = std::thread::spawn(move || {
        (1..=12_000).for_each(|packet_id| writing.publish(packet_id, &[b'x'; 1_000], false));
    });
    let (mut taken, mut checkpoints) = (0, 0);
    while taken < 12_000 {
        wait_for(|| source.stats.journal_full.load(Ordering::Relaxed) || source.lanes[0].bytes() > 0);
        checkpoints += 1;
        source.boundary(checkpoints);
        let next = loop {
            match source.lanes[0].recv().expect("the source lives") {
                Intake::Message(message) => {
                    taken += 1;
                    assert_eq!(message.position, taken);
                }
                Intake::Boundary { next, .. } => break next,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(next, Place::at(taken + 1));
        assert!(source.stats.journal_bytes.load(Ordering::Relaxed) < 1_500_000);
        if source.stats.journal_full.load(Ordering::Relaxed) {
            source.committed(&next, &next);
        }
    }
    writer.join().expect("all is written");
    assert_eq!(peer.acknowledged(12_000).last(), Some(&12_000));
    assert!(checkpoints > 5, "{checkpoints}");
}

#[test]
fn nothing_is_acknowledged_that_cannot_be_synced() {
    let (broker, disk) = (Broker::new(), SimDisk::new(3));
    let setup = SourceSetup { disk: Arc::new(disk.clone()), ..setup("s", 1, Path::new("s")) };
    let alarm = setup.alarm.clone();
    let source = start(setup, &broker.settings(), "client").expect("started");
    let mut peer = broker.accept(false);
    peer.publish(1, b"a", false);
    assert_eq!(peer.acknowledged(1), [1]);
    disk.plan(Fault::SyncFails, 1);
    peer.publish(2, b"b", false);
    wait_for(|| alarm.reason().is_some());
    source.stop();
    check(&source, &["1 a", "2 b"]);
    assert_eq!(source.lanes[0].recv(), None, "no end, as if the input had one");
    assert_eq!(peer.packet().0 >> 4, 14, "DISCONNECT, and no PUBACK before it");
    drop(source);

    let setup =
        SourceSetup { disk: Arc::new(disk.kill()), ..super::super::tests::setup("s", 1, Path::new("s")) };
    let source = start(setup, &broker.settings(), "client").expect("started");
    check(&source, &["1 a", "2 b"]);
    let mut peer = broker.accept(true);
    peer.publish(2, b"b", true);
    assert_eq!((peer.acknowledged(1), repeats(&source)), (vec![2], 1));
}
