//! Sparkplug B (Eclipse Sparkplug 3.0): edge nodes that are born, speak of themselves and their devices, and die.
//!
//! ```text
//!  message ─► payload ─► edge node: births, aliases, sequence ─┬─► for each stream: metrics by name ─► events
//!                                │                             └─► up and down, of those whose metrics it maps
//!                                ├─► dead letter: what does not follow the birth without a gap
//!                                └─► request: be born again, at most one an edge node and interval
//! ```
//!
//! Unlike other decoders it remembers: what an edge node says means something only by what it said at its birth. The
//! memory is that of a source's lane, to which all of an edge node comes, and a checkpoint keeps it ([`Memory`]).
//!
//! Metrics of one message and one time are one event. A bad metric is a dead letter by itself, as in SenML. Data that
//! has none of a stream's metrics says nothing to it, as devices report only what has changed.

mod address;
mod certificate;
mod node;
mod payload;
mod plan;
mod record;
mod told;
mod value;

use std::collections::HashMap;

use address::{Address, Kind};
use certificate::Names;
use node::{EdgeNode, Heard};
use payload::Payload;

pub(super) use plan::{Metrics, check, id_patterns, place, topics};
pub use record::MemoryError;
pub(super) use told::{Mapped, decode};

use super::Message;
use crate::time::{ArrivalTime, SECOND_US};

/// Most metrics of a message.
const METRICS_PER_MESSAGE_MAX: usize = 65_536;
/// Most metrics of an edge node and its devices together.
const METRICS_PER_NODE_MAX: usize = 262_144;
/// Most edge nodes of a lane of a source.
const NODES_MAX: usize = 65_536;
/// Longest name of an edge node or a device.
const NAME_BYTES_MAX: usize = 256;
/// Between two requests to one edge node; also how long its devices have to be born again after it was.
const REBIRTH_INTERVAL_US: i64 = 10 * SECOND_US;

/// No metric of a birth certificate.
const UNKNOWN: u32 = u32::MAX;

/// A message to an edge node, to be published as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// What a lane knows of the edge nodes that speak in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparkplug {
    /// The groups that streams read.
    groups: Vec<String>,
    nodes: HashMap<Box<str>, EdgeNode>,
    names: Names,
    requests: Vec<Request>,
    /// The message in hand; none where it is no message of Sparkplug, or is refused.
    heard: Option<Heard>,
    payload: Payload,
    /// Which metric of the birth certificate each metric of the payload is.
    metrics: Vec<u32>,
    /// The key of the edge node in hand.
    key: String,
}

/// What is remembered of edge nodes, at one moment. It shares with the decoder what is large.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    nodes: Vec<(Box<str>, EdgeNode)>,
}

impl Memory {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A record for each edge node, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        nodes.into_iter().map(|(key, node)| record::write(key, node))
    }
}

impl Sparkplug {
    /// What hears these groups.
    pub fn new(groups: Vec<String>) -> Self {
        Self { groups, ..Self::default() }
    }

    /// Hears a message before streams are asked what they take of it. What is given is what of it, or that all of it,
    /// is not taken.
    pub fn hear(&mut self, topic: &str, message: &Message<'_>) -> Option<String> {
        if self.groups.is_empty() {
            return None;
        }
        self.heard = None;
        let address = Address::parse(topic)?;
        if !self.groups.iter().any(|group| group == address.group) {
            return None;
        }
        self.take(address, message).err()
    }

    fn take(&mut self, address: Address<'_>, message: &Message<'_>) -> Result<(), String> {
        address.check()?;
        if message.retained {
            return Err(
                "a retained message, which Sparkplug does not know: it is older than what was heard since; \
                        have its publisher retain nothing, and remove it from the broker"
                    .into(),
            );
        }
        self.payload.read(message.payload)?;
        address::key(address.group, address.edge, &mut self.key);
        if !self.nodes.contains_key(self.key.as_str()) {
            if self.nodes.len() >= NODES_MAX {
                return Err(format!("{NODES_MAX} edge nodes are followed, and no more"));
            }
            self.nodes.insert(self.key.as_str().into(), EdgeNode::default());
        }
        let Some(node) = self.nodes.get_mut(self.key.as_str()) else { return Ok(()) };
        let at = message.arrived_at;
        let heard = node.hear(address, (&self.payload, message.payload), at, &mut self.names);
        match heard {
            Ok(heard) => {
                self.heard = Some(heard);
                self.find_metrics(message)
            }
            Err(refusal) => {
                if refusal.asks {
                    self.ask(at);
                }
                Err(refusal.reason)
            }
        }
    }

    /// Finds the metrics of the message in hand in the birth certificate.
    fn find_metrics(&mut self, message: &Message<'_>) -> Result<(), String> {
        self.metrics.clear();
        let Some(Heard { kind, certificate: Some(certificate), .. }) = &self.heard else { return Ok(()) };
        if kind.is_death() {
            return Ok(());
        }
        let (mut unknown, mut first) = (0, None);
        for metric in &self.payload.metrics {
            let found = certificate.find(metric, message.payload);
            if found.is_none() {
                unknown += 1;
                first = first.or(Some(metric));
            }
            self.metrics.push(found.unwrap_or(UNKNOWN));
        }
        let Some(metric) = first else { return Ok(()) };
        let what = match (metric.name, metric.alias) {
            (Some(name), _) => format!("the metric `{}`", name.text(message.payload)),
            (None, Some(alias)) => format!("the alias {alias}"),
            (None, None) => "a metric without name and alias".into(),
        };
        let others = match unknown {
            1 => String::new(),
            _ => format!(", and {} more", unknown - 1),
        };
        self.ask(message.arrived_at);
        Err(format!("{what} is not in the birth certificate{others}"))
    }

    /// Asks the edge node in hand to be born again, unless it was asked just now.
    fn ask(&mut self, at: ArrivalTime) {
        let Some(node) = self.nodes.get_mut(self.key.as_str()) else { return };
        if let Some(topic) = address::topic_of(&self.key, "NCMD")
            && node.ask(at)
        {
            let at_ms = u64::try_from(at.0 / 1_000).unwrap_or_default();
            self.requests.push(Request { topic, payload: payload::rebirth(at_ms) });
        }
    }

    /// Whether the message in hand is a birth that has metrics, and none that one of these streams maps.
    pub fn is_unmapped<'a>(&self, topic: &str, mut streams: impl Iterator<Item = &'a Metrics>) -> bool {
        let Some(Heard { kind, certificate: Some(certificate), .. }) = &self.heard else { return false };
        let Some(address) = Address::parse(topic).filter(|_| kind.is_birth()) else { return false };
        let mut is_asked = false;
        let is_mapped = streams.any(|metrics| {
            let concerns = metrics.reads(address.group, kind.level());
            is_asked |= concerns;
            concerns && metrics.has_some_of(certificate)
        });
        is_asked && !is_mapped
    }

    /// The messages to edge nodes since it was last asked.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// What is to be remembered.
    pub fn memory(&self) -> Memory {
        Memory { nodes: self.nodes.iter().map(|(key, node)| (key.clone(), node.clone())).collect() }
    }

    /// Remembers an edge node, if the topics of it are one's own.
    pub fn restore(&mut self, record: &[u8], owns: impl Fn(&str) -> bool) -> Result<(), MemoryError> {
        let (key, node) = record::read(record, &mut self.names)?;
        let is_read = self.groups.iter().any(|group| key.split('/').next() == Some(group.as_str()));
        let topic = address::topic_of(&key, Kind::NodeBirth.word());
        if is_read && topic.is_some_and(|topic| owns(&topic)) {
            self.nodes.insert(key, node);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "others have it too, and use other parts")]
mod encoder;
#[cfg(test)]
mod tests;
