//! The last messages of a job in memory, for those who follow it: a log that is bounded by bytes, and any number
//! of followers, each with its place in it.
//!
//! ```text
//!   sink ── batches ──► log (oldest are let go) ◄── place of each follower, who reads when it can
//! ```
//! A follower that is slow holds nothing up and costs no memory: what it reads is the log, and what the log has
//! let go, it has missed and is told of. Only messages that some follower wants need to be made ([`Gate`]).

mod interest;

pub use interest::{Filter, Gate, Interest, Keys, Seen};

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::message::MessageBatch;
use crate::queue::Weigh;
use crate::sink::{SinkHandle, SinkWork};

/// How much may wait for the log.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// How often followers are woken at most: many of them share one wake.
const WAKE_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is looked whether something is not wanted any more.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);
/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = size_of::<Message>();

/// The last messages, and who follows them.
pub struct Feed {
    log: Mutex<Log>,
    /// Number of the next message, for those who wait for it.
    next: watch::Sender<u64>,
    gate: Arc<Gate>,
    bytes_max: usize,
}

#[derive(Default)]
struct Log {
    messages: VecDeque<Message>,
    /// Number of the next message; the first is 0.
    next: u64,
    bytes: usize,
    /// When it was looked last whether something is not wanted any more.
    forgot_at: Option<Instant>,
}

/// A message of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number: one more than that of the message before.
    pub number: u64,
    /// Its topic.
    pub topic: Bytes,
    /// Its key.
    pub key: Bytes,
    /// What it says.
    pub payload: Bytes,
}

/// What a follower reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// How many messages were let go before it came to them.
    pub missed: u64,
    /// The next messages.
    pub messages: Vec<Message>,
    /// How many were left out for later ones with their topic and key.
    pub replaced: u64,
}

/// Reads the log from a place on.
pub struct Follower {
    feed: Arc<Feed>,
    filter: Filter,
    next: u64,
    /// What it has missed before its place, as it was not made; how many is not known.
    missed: u64,
    changed: watch::Receiver<u64>,
}

impl Feed {
    /// A log of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { log: Mutex::default(), next: watch::Sender::new(0), gate: Arc::default(), bytes_max })
    }

    /// Which messages are wanted: those that somebody follows, and a minute after.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Follows what the filter takes from the message after this one; from the next one on where none is named.
    /// Messages that others want come too.
    pub fn follow(self: &Arc<Self>, filter: Filter, after: Option<u64>) -> Follower {
        let log = self.log();
        let next = after.map_or(log.next, |number| number.saturating_add(1));
        let missed = u64::from(!self.gate.enter(&filter, next, log.next));
        drop(log);
        Follower { feed: self.clone(), filter, next, missed, changed: self.next.subscribe() }
    }

    /// A sink that writes into the log. One at a time.
    pub fn sink(self: &Arc<Self>, name: &str) -> SinkHandle {
        let feed = self.clone();
        let sink = SinkHandle::on_call(name, QUEUE_BYTES_MAX, move |work| feed.take(work));
        // Nothing can come between.
        sink.stats.set_connected(true);
        sink
    }

    fn take(&self, work: &SinkWork) {
        let mut has_taken = false;
        while let Some(batch) = work.queue.try_recv() {
            let (messages, weight) = (batch.len() as u64, batch.weight());
            let bytes = batch.bytes.len() as u64;
            self.add(batch);
            work.stats.add_published(messages, bytes);
            work.stats.batch_done(weight);
            has_taken = true;
        }
        if has_taken {
            self.next.send_replace(self.log().next);
            std::thread::sleep(WAKE_INTERVAL);
        }
    }

    fn add(&self, batch: MessageBatch) {
        let MessageBatch { bytes, entries, .. } = batch;
        let bytes = Bytes::from(bytes);
        let mut log = self.log();
        let now = Instant::now();
        if log.forgot_at.is_none_or(|at| now.saturating_duration_since(at) > FORGET_INTERVAL) {
            log.forgot_at = Some(now);
            self.gate.forget(now);
        }
        if self.gate.is_shut() {
            log.shut();
            return;
        }
        let mut begin = 0;
        for entry in entries {
            let [topic_end, key_end, payload_end] =
                [entry.topic_end, entry.key_end, entry.payload_end].map(|end| end as usize);
            let message = Message {
                number: log.next,
                topic: bytes.slice(begin..topic_end),
                key: bytes.slice(topic_end..key_end),
                payload: bytes.slice(key_end..payload_end),
            };
            begin = payload_end;
            log.push(message);
        }
        while log.bytes > self.bytes_max && log.pop() {}
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Message {
    fn weight(&self) -> usize {
        MESSAGE_BYTES + self.topic.len() + self.key.len() + self.payload.len()
    }
}

impl Log {
    fn push(&mut self, message: Message) {
        self.bytes += message.weight();
        self.next += 1;
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> bool {
        let oldest = self.messages.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, Message::weight);
        oldest.is_some()
    }

    /// Number of the oldest message that is there.
    fn first(&self) -> u64 {
        self.next - self.messages.len() as u64
    }

    /// From here on messages are not made: whoever comes back has missed some, if not how many.
    fn shut(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.next += 1;
    }
}

impl Follower {
    /// Waits for messages that are wanted. `most` are looked at in one go; where more than that wait, only the
    /// newest of each topic and key is read, but for those with a topic that `keeps` says yes to.
    pub async fn read(
        &mut self,
        most: usize,
        wanted: impl Fn(&Message) -> bool,
        keeps: impl Fn(&Message) -> bool,
    ) -> Read {
        loop {
            self.changed.mark_unchanged();
            let read = self.read_now(most, &wanted, &keeps);
            if read != Read::default() {
                return read;
            }
            if self.changed.changed().await.is_err() {
                // The feed is held by this follower, so its end of the watch is too.
                std::future::pending::<()>().await;
            }
        }
    }

    fn read_now(
        &mut self,
        most: usize,
        wanted: impl Fn(&Message) -> bool,
        keeps: impl Fn(&Message) -> bool,
    ) -> Read {
        let log = self.feed.log();
        let first = log.first();
        // A place that was never reached is of another log.
        let from = self.next.min(log.next);
        let missed = first.saturating_sub(from).max(std::mem::take(&mut self.missed));
        let from = from.max(first);
        let waiting = log.messages.range((from - first) as usize..);
        let is_behind = waiting.len() > most;
        let mut messages: Vec<Message> = waiting.filter(|message| wanted(message)).cloned().collect();
        self.next = log.next;
        drop(log);
        let before = messages.len();
        if is_behind {
            let mut seen = HashSet::new();
            messages.reverse();
            messages.retain(|message| {
                keeps(message) || seen.insert((message.topic.clone(), message.key.clone()))
            });
            messages.reverse();
        }
        Read { missed, replaced: (before - messages.len()) as u64, messages }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.gate.leave(&self.filter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Entry;

    fn batch(messages: &[(&str, &str, &str)]) -> MessageBatch {
        let mut batch = MessageBatch::default();
        for (topic, key, payload) in messages {
            let mut ends = [0; 3];
            for (end, text) in ends.iter_mut().zip([topic, key, payload]) {
                batch.bytes.extend_from_slice(text.as_bytes());
                *end = batch.bytes.len() as u32;
            }
            let [topic_end, key_end, payload_end] = ends;
            batch.entries.push(Entry { topic_end, key_end, payload_end, retain: false, revision: 0 });
        }
        batch
    }

    /// What is read now, as `key=payload` words, with what was missed and replaced.
    fn read(follower: &mut Follower, most: usize) -> (u64, u64, String) {
        let read =
            follower.read_now(most, |message| message.key != "hidden", |message| message.topic == "event");
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let words: Vec<_> =
            read.messages.iter().map(|one| format!("{}={}", text(&one.key), text(&one.payload))).collect();
        (read.missed, read.replaced, words.join(" "))
    }

    #[test]
    fn followers_read_from_their_place() {
        let feed = Feed::new(1 << 20);
        assert!(feed.gate().is_shut());
        let mut early = feed.follow(Filter::all(), None);
        assert!(!feed.gate().is_shut());
        feed.add(batch(&[("state", "a", "1"), ("state", "hidden", "2"), ("state", "b", "3")]));
        assert_eq!(read(&mut early, 9), (0, 0, "a=1 b=3".into()));
        feed.add(batch(&[("state", "a", "4")]));
        assert_eq!(read(&mut early, 9), (0, 0, "a=4".into()));
        let mut resumed = feed.follow(Filter::all(), Some(1));
        assert_eq!(read(&mut resumed, 9), (0, 0, "b=3 a=4".into()));
        let mut strange = feed.follow(Filter::all(), Some(u64::MAX));
        assert_eq!(read(&mut strange, 9), (0, 0, String::new()));
    }

    #[test]
    fn a_slow_follower_reads_the_newest_of_each() {
        let feed = Feed::new(1 << 20);
        let mut slow = feed.follow(Filter::all(), None);
        for n in 0..4 {
            let n = n.to_string();
            feed.add(batch(&[("state", "a", &n), ("event", "a", &n), ("state", "b", &n)]));
        }
        assert_eq!(read(&mut slow, 11), (0, 6, "a=0 a=1 a=2 a=3 a=3 b=3".into()));
    }

    #[test]
    fn what_the_log_lets_go_is_missed() {
        let feed = Feed::new(10 * (MESSAGE_BYTES + 7));
        let mut slow = feed.follow(Filter::all(), None);
        for n in 0..15 {
            feed.add(batch(&[("state", "a", &(n % 10).to_string())]));
        }
        assert_eq!(read(&mut slow, 99), (5, 0, "a=5 a=6 a=7 a=8 a=9 a=0 a=1 a=2 a=3 a=4".into()));
    }

    #[test]
    fn a_log_that_nobody_followed_is_shut() {
        let feed = Feed::new(1 << 20);
        drop(feed.follow(Filter::all(), None));
        assert!(!feed.gate().is_shut(), "it lingers");
        feed.add(batch(&[("state", "a", "1")]));
        feed.gate.forget(Instant::now() + 2 * interest::LINGER);
        feed.add(batch(&[("state", "a", "2")]));
        assert!(feed.gate().is_shut());
        let mut back = feed.follow(Filter::all(), Some(0));
        assert_eq!(read(&mut back, 9), (1, 0, String::new()), "what was not made is missed");
    }

    #[test]
    fn who_comes_back_for_more_than_was_wanted_is_told() {
        let feed = Feed::new(1 << 20);
        let of =
            |key: &'static str| Filter { classes: 1, keys: Keys::One(Bytes::from_static(key.as_bytes())) };
        let mut first = feed.follow(of("a"), None);
        feed.add(batch(&[("state", "a", "1"), ("state", "a", "2")]));
        assert_eq!(read(&mut first, 9), (0, 0, "a=1 a=2".into()));
        let mut same = feed.follow(of("a"), Some(0));
        assert_eq!(read(&mut same, 9), (0, 0, "a=2".into()));
        let mut other = feed.follow(of("b"), Some(0));
        assert_eq!(read(&mut other, 9), (1, 0, "a=2".into()), "messages of b were not made");
    }
}
