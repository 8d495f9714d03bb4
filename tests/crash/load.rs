//! A fleet that speaks all the while, whatever becomes of the engine: bursts, each as soon as the brokers
//! have the one before. Every second twin speaks to Kafka where there is one, all others at QoS 1. Of each
//! twin it knows how far it has come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::oracle::Sent;
use crate::harness::chance::Chance;
use crate::harness::client::Client;
use crate::harness::kafka::records::{Message, Producer};
use crate::harness::until;

/// The most messages of a burst.
const BURST_MAX: u64 = 12;

/// A thread that publishes until it is ended.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Speaker>>,
}

#[derive(Default)]
struct Shared {
    /// Messages that the broker acknowledged.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
    /// How far each twin is, for those who look while it speaks.
    sent: Mutex<Sent>,
}

/// Who takes messages of every second twin, and in which topic.
pub struct Records {
    /// A producer that knows what was acknowledged.
    pub producer: Producer,
    /// The topic.
    pub topic: String,
}

/// Who speaks for all twins.
struct Speaker {
    client: Client,
    records: Option<Records>,
    chance: Chance,
    sent: Sent,
    /// Messages of all twins.
    all: i64,
}

/// The id of a twin of the fleet.
pub fn twin(number: u64) -> String {
    format!("d-{number}")
}

/// The topic on which a twin speaks.
pub fn topic(twin: &str) -> String {
    format!("device/{twin}/n")
}

impl Load {
    /// Begins to speak for this many twins.
    pub fn start(client: Client, records: Option<Records>, twins: u64, seed: u64) -> Self {
        let sent: Sent = (0..twins).map(|number| (twin(number), 0)).collect();
        let shared = Arc::new(Shared { sent: Mutex::new(sent.clone()), ..Shared::default() });
        let mut speaker = Speaker { client, records, chance: Chance::new(seed), sent, all: 0 };
        let known = shared.clone();
        let thread = std::thread::spawn(move || {
            while !known.is_over.load(Ordering::SeqCst) {
                let number = speaker.burst();
                known.acknowledged.fetch_add(number, Ordering::SeqCst);
                known.sent.lock().expect("nothing panics while it is locked").clone_from(&speaker.sent);
            }
            speaker
        });
        Self { shared, thread: Some(thread) }
    }

    /// Waits until this many more messages are acknowledged by the broker.
    pub fn until_more(&self, messages: u64) {
        let acknowledged = || self.shared.acknowledged.load(Ordering::SeqCst);
        let wanted = acknowledged() + messages;
        until("the broker to acknowledge", || {
            let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
            assert!(!ended, "the load ended early");
            (acknowledged() >= wanted).then_some(())
        });
    }

    /// What was acknowledged so far.
    pub fn sent(&self) -> Sent {
        self.shared.sent.lock().expect("nothing panics while it is locked").clone()
    }

    /// Ends with a last message of every twin; all that was sent, acknowledged to the last.
    pub fn finish(mut self) -> Sent {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it is finished once");
        let mut speaker = thread.join().expect("the broker is there all the while");
        let twins: Vec<_> = speaker.sent.keys().cloned().collect();
        speaker.publish(&twins);
        speaker.sent
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A test that fails is told by its own panic.
            let _ = thread.join();
        }
    }
}

impl Speaker {
    /// A burst of some twins; how many messages it was.
    fn burst(&mut self) -> u64 {
        let number = 1 + self.chance.below(BURST_MAX);
        let twins = self.sent.len() as u64;
        // Some speak more than others.
        let chosen = (0..number).map(|_| twin(self.chance.below(twins).min(self.chance.below(twins))));
        let chosen: Vec<_> = chosen.collect();
        self.publish(&chosen);
        number
    }

    fn publish(&mut self, twins: &[String]) {
        let mut messages = Vec::new();
        for twin in twins {
            let n = self.sent.get_mut(twin).expect("it is one of the fleet");
            *n += 1;
            self.all += 1;
            let payload = format!(r#"{{"n":{n},"all":{}}}"#, self.all);
            match &self.records {
                Some(records) if speaks_to_kafka(twin) => {
                    records.producer.send(&records.topic, &Message::new(twin, &payload));
                }
                _ => messages.push((topic(twin), payload)),
            }
        }
        self.client.publish_all(&messages);
        if let Some(records) = &self.records {
            records.producer.flush();
        }
    }
}

/// Whether a twin is one of those that speak to Kafka.
fn speaks_to_kafka(twin: &str) -> bool {
    twin.ends_with(['1', '3', '5', '7', '9'])
}

/// How many messages these are.
pub fn count(sent: &BTreeMap<String, i64>) -> u64 {
    sent.values().map(|last| *last as u64).sum()
}
