//! The messages between the queue and the broker's acknowledgement, in order.
//!
//! ```text
//!   front                                                        back
//!   [ done | sent, waits for its ack | handed to the client | to hand over ]   then the rest of a batch
//! ```

use crate::message::{MessageBatch, Receipt};
use crate::queue::Weigh;
use crate::sink::SinkStats;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The longest topic that the protocol can say.
const TOPIC_BYTES_MAX: usize = 65_535;

/// Messages in flight, at most `messages_max` (a batch is taken whole, so more may wait in it).
pub(super) struct Window {
    messages_max: usize,
    messages: VecDeque<Message>,
    /// How many from the front were handed to the client on this connection.
    handed: usize,
    /// How many from the front the client has written to the socket on this connection.
    sent: usize,
    /// For each batch that is not done: how many of its messages are not, its weight and receipt.
    batches: VecDeque<(usize, usize, Receipt)>,
    stats: Arc<SinkStats>,
}

struct Message {
    topic: Bytes,
    payload: Bytes,
    retain: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    ToSend,
    /// Written with this packet id, and not acknowledged.
    Sent(u16),
    /// Acknowledged, or written where nothing acknowledges.
    Published,
    /// Not publishable, or not taken by the broker.
    Refused,
}

impl Window {
    pub(super) fn new(messages_max: usize, stats: Arc<SinkStats>) -> Self {
        Self { messages_max, messages: VecDeque::new(), handed: 0, sent: 0, batches: VecDeque::new(), stats }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the next batch may be admitted.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < self.messages_max
    }

    /// Takes a batch in; gives the topics that cannot be published to.
    pub(super) fn admit(&mut self, batch: MessageBatch) -> Vec<String> {
        let weight = batch.weight();
        let is_valid = |topic: &str| {
            !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && !topic.contains(['+', '#', '\0'])
        };
        let verdicts: Vec<bool> = batch.iter().map(|message| is_valid(message.topic)).collect();
        let invalid = batch.iter().zip(&verdicts).filter(|(_, valid)| !**valid);
        let invalid: Vec<String> =
            invalid.map(|(message, _)| message.topic.chars().take(200).collect()).collect();
        let valid_count = batch.len() - invalid.len();
        let MessageBatch { bytes, entries, receipt } = batch;
        let bytes = Bytes::from(bytes);
        let mut begin = 0;
        for (entry, valid) in entries.iter().zip(verdicts) {
            let (topic_end, end) = (entry.topic_end as usize, entry.payload_end as usize);
            if valid {
                // MQTT has no keys.
                let payload_begin = (entry.key_end as usize).clamp(topic_end, bytes.len());
                // A valid topic is not empty, so its ends lie within the bytes; the payload's may not.
                let end = end.clamp(payload_begin, bytes.len());
                let (topic, payload) = (bytes.slice(begin..topic_end), bytes.slice(payload_begin..end));
                self.messages.push_back(Message {
                    topic,
                    payload,
                    retain: entry.retain,
                    state: State::ToSend,
                });
            }
            begin = end;
        }
        if valid_count > 0 {
            self.batches.push_back((valid_count, weight, receipt));
        } else {
            self.stats.batch_done(weight);
        }
        invalid
    }

    /// The next message to hand to the client, where the window has room for it.
    pub(super) fn next_to_send(&mut self) -> Option<(String, Bytes, bool)> {
        while self.handed < self.messages_max {
            let message = self.messages.get(self.handed)?;
            self.handed += 1;
            if message.state == State::ToSend {
                let topic = String::from_utf8_lossy(&message.topic).into_owned();
                return Some((topic, message.payload.clone(), message.retain));
            }
        }
        None
    }

    /// The message handed over last is not taken by the client, ever.
    pub(super) fn refuse_last(&mut self) {
        if let Some(message) = self.handed.checked_sub(1).and_then(|last| self.messages.get_mut(last)) {
            message.state = State::Refused;
        }
    }

    /// The client has written the next message, in the order in which they were handed over.
    pub(super) fn sent(&mut self, packet_id: u16) {
        while let Some(message) = self.messages.get_mut(self.sent) {
            self.sent += 1;
            if message.state == State::ToSend {
                message.state = if packet_id == 0 { State::Published } else { State::Sent(packet_id) };
                return;
            }
        }
    }

    /// The broker has taken a message.
    pub(super) fn acknowledged(&mut self, packet_id: u16) {
        self.answered(packet_id, State::Published);
    }

    /// The broker does not take a message, ever.
    pub(super) fn refused(&mut self, packet_id: u16) {
        self.answered(packet_id, State::Refused);
    }

    fn answered(&mut self, packet_id: u16, state: State) {
        // Brokers acknowledge in order, so the message is nearly always the first that waits.
        let message = self.messages.iter_mut().find(|message| message.state == State::Sent(packet_id));
        if let Some(message) = message {
            message.state = state;
        }
    }

    /// A new connection: what was not acknowledged is to be sent again, in order.
    pub(super) fn send_again(&mut self) {
        for message in &mut self.messages {
            if matches!(message.state, State::Sent(_)) {
                message.state = State::ToSend;
            }
        }
        self.handed = 0;
        self.sent = 0;
    }

    /// Lets go of what is done at the front, and counts it.
    pub(super) fn settle(&mut self) {
        let (mut published, mut bytes) = (0, 0);
        while let Some(message) = self.messages.front()
            && matches!(message.state, State::Published | State::Refused)
        {
            if message.state == State::Published {
                published += 1;
                bytes += (message.topic.len() + message.payload.len()) as u64;
            }
            self.messages.pop_front();
            self.handed = self.handed.saturating_sub(1);
            self.sent = self.sent.saturating_sub(1);
            self.settle_one_of_batch();
        }
        if published > 0 {
            self.stats.add_published(published, bytes);
        }
    }

    fn settle_one_of_batch(&mut self) {
        let Some((left, weight, _)) = self.batches.front_mut() else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.stats.batch_done(*weight);
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn window(messages_max: usize, topics: &[&str]) -> (Window, Vec<String>) {
        let mut window = Window::new(messages_max, Arc::default());
        let mut batch = MessageBatch::default();
        for topic in topics {
            assert!(batch.push(topic, topic.as_bytes(), false));
        }
        let invalid = window.admit(batch);
        (window, invalid)
    }

    fn hand_all(window: &mut Window) -> String {
        std::iter::from_fn(|| window.next_to_send()).map(|(topic, _, _)| topic).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn acknowledgements_free_the_window_from_the_front() {
        let (mut window, _) = window(2, &["a", "b", "c"]);
        assert_eq!(hand_all(&mut window), "a b");
        window.sent(1);
        window.sent(2);
        window.acknowledged(2);
        window.settle();
        assert_eq!(hand_all(&mut window), "", "b waits behind a");
        window.acknowledged(1);
        window.settle();
        assert_eq!(hand_all(&mut window), "c");
        assert_eq!(window.stats.published.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_new_connection_sends_again_what_was_not_acknowledged() {
        let (mut window, _) = window(10, &["a", "b", "c", "d"]);
        assert_eq!(hand_all(&mut window), "a b c d");
        (1..=3).for_each(|packet_id| window.sent(packet_id));
        window.acknowledged(1);
        window.acknowledged(3);
        window.settle();
        window.send_again();
        assert_eq!(hand_all(&mut window), "b d");
        window.sent(1);
        window.sent(2);
        window.acknowledged(1);
        window.acknowledged(2);
        window.settle();
        assert!(window.is_empty());
        assert_eq!(window.stats.published.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn topics_that_cannot_be_published_to_do_not_stop_the_others() {
        let (mut window, invalid) = window(10, &["a/+", "b", "", "c#"]);
        assert_eq!(invalid, ["a/+", "", "c#"]);
        assert_eq!(hand_all(&mut window), "b");
        window.refuse_last();
        window.settle();
        assert!(window.is_empty() && window.batches.is_empty());
        assert_eq!(window.stats.published.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_acknowledgements_sent_is_published() {
        let (mut window, _) = window(10, &["a", "b"]);
        assert_eq!(hand_all(&mut window), "a b");
        window.sent(0);
        window.settle();
        assert_eq!(window.stats.published.load(Ordering::Relaxed), 1);
        window.sent(0);
        window.settle();
        assert!(window.is_empty());
    }
}
