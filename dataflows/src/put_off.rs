//! Messages that wait for their turn, of each topic and key the newest.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use connectors::message::RawMessage;

type Key = (Bytes, Option<Bytes>);

/// The newest message of each topic and key. Who came first is first, whatever came of it since.
#[derive(Default)]
pub struct PutOff {
    order: VecDeque<Key>,
    newest: HashMap<Key, RawMessage>,
}

impl PutOff {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Puts a message off; whether it takes the place of an older one, which is dropped.
    pub fn put(&mut self, message: RawMessage) -> bool {
        match self.newest.entry((message.topic.clone(), message.key.clone())) {
            Entry::Occupied(mut entry) => {
                entry.insert(message);
                true
            }
            Entry::Vacant(entry) => {
                self.order.push_back(entry.key().clone());
                entry.insert(message);
                false
            }
        }
    }

    /// Takes the one that has waited longest.
    pub fn take(&mut self) -> Option<RawMessage> {
        let first = self.order.pop_front()?;
        self.newest.remove(&first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_comes_in_the_order_of_the_first() {
        let mut put_off = PutOff::default();
        let message = |topic: &'static str, position| RawMessage {
            topic: Bytes::from_static(topic.as_bytes()),
            position,
            ..RawMessage::default()
        };
        let replaced = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)]
            .map(|(topic, position)| put_off.put(message(topic, position)));
        assert_eq!(replaced, [false, false, true, false, true]);
        let positions = |put_off: &mut PutOff| {
            std::iter::from_fn(|| put_off.take()).map(|one| one.position).collect::<Vec<_>>()
        };
        assert_eq!(put_off.take().map(|one| one.position), Some(3));
        put_off.put(message("a", 6));
        assert_eq!(positions(&mut put_off), [5, 4, 6]);
        assert!(put_off.is_empty() && put_off.newest.is_empty());
    }
}
