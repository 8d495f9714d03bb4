//! A small MQTT client of the suite's own, so that the program's client is not tested against
//! itself: connect, subscribe, publish at QoS 0, 1 and 2, collect what comes. It speaks 3.1.1, and of 5 the
//! properties of messages.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::until;

/// A client that is connected.
pub struct Client {
    socket: TcpStream,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
    next_id: u16,
    version: u8,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
    /// For how many seconds more it is worth something, where its sender said so.
    pub expiry_s: Option<u32>,
}

/// What came so far.
#[derive(Default)]
struct Heard {
    is_connected: bool,
    messages: Vec<Message>,
    acknowledged: HashSet<u16>,
}

const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const V3: u8 = 4;
const V5: u8 = 5;
const RETAIN: u8 = 1;
const QOS_2: u8 = 4;
const QOS_1: u8 = 2;
/// A will, at QoS 1, that the broker keeps.
const WILL: u8 = 0x04 | 0x08 | 0x20;

impl Client {
    /// Connects, with a user and password where the broker asks for them.
    pub fn connect(port: u16, id: &str, login: Option<(&str, &str)>) -> Self {
        Self::connect_by(V3, port, id, login, None)
    }

    /// Connects with a last will, a topic and a payload that the broker keeps.
    pub fn connect_with_will(port: u16, id: &str, will: (&str, &str)) -> Self {
        Self::connect_by(V3, port, id, None, Some(will))
    }

    /// Connects by MQTT 5.
    pub fn connect_by_5(port: u16, id: &str) -> Self {
        Self::connect_by(V5, port, id, None, None)
    }

    fn connect_by(
        version: u8,
        port: u16,
        id: &str,
        login: Option<(&str, &str)>,
        will: Option<(&str, &str)>,
    ) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        socket.set_nodelay(true).expect("a TCP socket");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let reader = {
            let mut socket = socket.try_clone().expect("the socket has a second handle");
            let heard = heard.clone();
            std::thread::spawn(move || while let Ok(()) = read_packet(&mut socket, version, &heard) {})
        };
        let mut client = Self { socket, heard, reader: Some(reader), next_id: 0, version };
        // Clean session; no keep-alive, as a test is short.
        let flags = 2 | if login.is_some() { 0xc0 } else { 0 } | if will.is_some() { WILL } else { 0 };
        let mut body =
            [&text("MQTT")[..], &[version, flags, 0, 0], client.no_properties(), &text(id)].concat();
        if let Some((topic, payload)) = will {
            body.extend([client.no_properties(), &text(topic), &text(payload)].concat());
        }
        if let Some((user, password)) = login {
            body.extend([text(user), text(password)].concat());
        }
        client.send(0x10, &body);
        until("the broker to welcome a client", || client.heard().is_connected.then_some(()));
        client
    }

    /// Is gone without a word, as a device that lost its power: its will is what remains.
    pub fn vanish(self) {
        // One that the broker has cut already is as gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Subscribes at QoS 1, and waits until the subscription stands.
    pub fn subscribe(&mut self, filter: &str) {
        let id = self.id();
        self.send(SUBSCRIBE, &[&id.to_be_bytes()[..], self.no_properties(), &text(filter), &[1]].concat());
        self.until_acknowledged(id);
    }

    /// Publishes at QoS 1, and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, payload.as_ref(), 0);
    }

    /// Publishes what the broker keeps for late listeners.
    pub fn publish_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, payload.as_ref(), RETAIN);
    }

    /// Publishes at QoS 0.
    pub fn publish_once(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send(PUBLISH, &[&text(topic)[..], payload.as_ref()].concat());
    }

    /// Publishes many at QoS 1, in their order, and waits until the broker has them all.
    pub fn publish_all(&mut self, messages: &[(String, String)]) {
        let sent = |(topic, payload): &(String, String)| self.send_at_qos_1(topic, payload.as_bytes(), 0);
        let ids = messages.iter().map(sent).collect();
        self.until_taken(ids);
    }

    /// Publishes at QoS 2; gives the packet id, which [`Self::until_taken`] waits for.
    pub fn publish_exactly_once(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> u16 {
        let id = self.id();
        let body = [&text(topic)[..], &id.to_be_bytes(), self.no_properties(), payload.as_ref()].concat();
        self.send(PUBLISH | QOS_2, &body);
        id
    }

    /// Waits until the broker has all of these messages.
    pub fn until_taken(&self, mut ids: Vec<u16>) {
        until("the broker's acknowledgements", || {
            let acknowledged = &mut self.heard().acknowledged;
            ids.retain(|id| !acknowledged.remove(id));
            ids.is_empty().then_some(())
        });
    }

    /// Publishes at QoS 1 by MQTT 5, with user properties.
    pub fn publish_with_properties(&mut self, topic: &str, payload: &str, properties: &[(&str, &str)]) {
        let id = self.id();
        let of = |(name, value): &(&str, &str)| [&[0x26][..], &text(name), &text(value)].concat();
        let properties: Vec<u8> = properties.iter().flat_map(of).collect();
        let length = u8::try_from(properties.len()).ok().filter(|length| *length < 128);
        let length = [length.expect("the case's properties are short")];
        let parts = [&text(topic)[..], &id.to_be_bytes(), &length, &properties, payload.as_bytes()];
        self.send(PUBLISH | QOS_1, &parts.concat());
        self.until_acknowledged(id);
    }

    fn publish_with(&mut self, topic: &str, payload: &[u8], flags: u8) {
        let id = self.send_at_qos_1(topic, payload, flags);
        self.until_acknowledged(id);
    }

    /// What stands in a packet of MQTT 5 where it has no properties.
    fn no_properties(&self) -> &'static [u8] {
        if self.version == V5 { &[0] } else { &[] }
    }

    fn send_at_qos_1(&mut self, topic: &str, payload: &[u8], flags: u8) -> u16 {
        let id = self.id();
        let body = [&text(topic)[..], &id.to_be_bytes(), self.no_properties(), payload].concat();
        self.send(PUBLISH | QOS_1 | flags, &body);
        id
    }

    /// The messages that came so far.
    pub fn messages(&self) -> Vec<Message> {
        self.heard().messages.clone()
    }

    /// The messages that came behind the first `number`.
    pub fn messages_after(&self, number: usize) -> Vec<Message> {
        self.heard().messages[number..].to_vec()
    }

    /// Waits for a message that `is_it`.
    pub fn until_heard(&self, what: &str, is_it: impl Fn(&Message) -> bool) -> Message {
        until(what, || self.heard().messages.iter().find(|message| is_it(message)).cloned())
    }

    /// Waits until `number` messages that `is_it` came.
    pub fn until_heard_times(&self, number: usize, what: &str, is_it: impl Fn(&Message) -> bool) {
        until(what, || {
            let count = self.heard().messages.iter().filter(|message| is_it(message)).count();
            (count >= number).then_some(())
        });
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("nothing panics while it is locked")
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    fn until_acknowledged(&self, id: u16) {
        until("the broker's acknowledgement", || self.heard().acknowledged.remove(&id).then_some(()));
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut length = body.len();
        while length > 127 {
            packet.push((length % 128) as u8 | 128);
            length /= 128;
        }
        packet.push(length as u8);
        packet.extend_from_slice(body);
        self.socket.write_all(&packet).expect("the broker reads on");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A connection that is gone needs no end.
        let _ = self.socket.write_all(&[0xe0, 0]);
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Message {
    /// The payload as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Whether its JSON has this text at a key.
    pub fn says(&self, key: &str, wanted: &str) -> bool {
        self.json()[key] == wanted
    }
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("the case's texts are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn read_packet(socket: &mut TcpStream, version: u8, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut byte = [0; 1];
    socket.read_exact(&mut byte)?;
    let [kind] = byte;
    let (mut length, mut shift) = (0, 0);
    loop {
        socket.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let mut answer = None;
    {
        let mut heard = heard.lock().expect("nothing panics while it is locked");
        match kind & 0xf0 {
            0x20 if body[1] == 0 => heard.is_connected = true,
            0x20 => return Err(ErrorKind::PermissionDenied.into()),
            // PUBACK, PUBCOMP, SUBACK.
            0x40 | 0x70 | 0x90 => _ = heard.acknowledged.insert(number(0)),
            // PUBREC is answered with PUBREL.
            0x50 => answer = Some([0x62, body[0], body[1]]),
            PUBLISH => {
                let topic_end = 2 + usize::from(number(0));
                let has_id = kind & 6 != 0;
                let mut payload = topic_end + if has_id { 2 } else { 0 };
                let mut expiry_s = None;
                if version == V5 {
                    (payload, expiry_s) = read_properties(&body, payload);
                }
                heard.messages.push(Message {
                    topic: String::from_utf8_lossy(&body[2..topic_end]).into_owned(),
                    payload: body[payload..].to_vec(),
                    retained: kind & RETAIN != 0,
                    expiry_s,
                });
                let puback = || [0x40, body[topic_end], body[topic_end + 1]];
                answer = has_id.then(puback);
            }
            _ => {}
        }
    }
    match answer {
        Some([kind, high, low]) => socket.write_all(&[kind, 2, high, low]),
        None => Ok(()),
    }
}

/// Where the properties of a message end, and for how long it is worth something. A topic alias is not asked for, so
/// that the broker sends none.
fn read_properties(body: &[u8], at: usize) -> (usize, Option<u32>) {
    let length = usize::from(body[at]);
    assert!(length < 128, "the case's properties are short");
    let (mut at, end) = (at + 1, at + 1 + length);
    let payload = end;
    let mut expiry_s = None;
    let text_end = |at: usize| at + 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    while at < end {
        at = match body[at] {
            0x02 => {
                expiry_s = body[at + 1..at + 5].try_into().ok().map(u32::from_be_bytes);
                at + 5
            }
            0x26 => text_end(text_end(at + 1)),
            other => panic!("property {other:#x} is not known to the suite"),
        };
    }
    (payload, expiry_s)
}

/// Whether something listens on a loopback port.
pub fn listens(port: u16) -> bool {
    let address = ([127, 0, 0, 1], port).into();
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
