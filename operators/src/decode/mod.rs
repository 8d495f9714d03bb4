//! Step 1, the physical event handler: a raw message -> 0..n normalised physical events.
//!
//! ```text
//!  topic ─► routes (streams whose pattern takes it) ─► decoder (`list`) ─ values ─► element ─► EventBatch
//!                                                                                      └─────► DeadLetter
//! ```
//!
//! What cannot be read is a dead letter with its reason (rule 3.7), never an error: a fleet has
//! always one device that speaks nonsense.

mod csv;
mod element;
mod json;
mod list;
mod plan;
mod presence;
mod routes;
pub(crate) mod scalar;
mod senml;
mod settings;
mod sparkplug;
mod topic;
mod twin_id;
mod value;

pub use csv::{CsvSettings, FIELDS_MAX};
pub use list::DecodeSettings;
pub use plan::StreamPlan;
pub use presence::{PresenceSettings, Word};
pub use settings::{
    ArrivalWord, AtPointer, AtSettings, MappedSettings, MappingSettings, StreamSettings, TimeFormat,
};
pub use sparkplug::{Memory, MemoryError, Request};
pub use topic::TopicPattern;
pub use twin_id::{HEADERS_MAX, IdTemplate, TwinSource};

use bytes::Bytes;

use crate::batch::EventBatch;
use crate::bus::Bus;
use crate::time::ArrivalTime;
use element::Taken;
use plan::Captured;
use routes::Routes;
use sparkplug::{Mapped, Sparkplug};
use twin_id::Record;

/// Deepest nesting of a payload (rule 8.2).
pub const NESTING_MAX: usize = 32;
/// Most elements of a message, where it is no JSON of a form of the user's own.
pub const ELEMENTS_MAX: usize = crate::model::ARRAY_ELEMENTS_MAX;
/// How much of a payload a dead letter keeps.
pub const DEAD_LETTER_PAYLOAD_BYTES_MAX: usize = 1_024;
/// How long the reason of a dead letter may be: a value that is shown in it may be a long one.
pub const DEAD_LETTER_REASON_BYTES_MAX: usize = 1_024;

/// What is said of a record with a key and nothing else.
const TOMBSTONE: &str = "the payload is empty: a tombstone says that the topic keeps nothing of this key any \
                         longer; the twin stays as it is";

/// A message as it came from a source.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Position in its source.
    pub position: u64,
    /// When it was taken.
    pub arrived_at: ArrivalTime,
    /// Topic, as bytes: a broker may send what is no UTF-8.
    pub topic: &'a [u8],
    /// Key of the record, where its bus has keys and it has one.
    pub key: Option<&'a [u8]>,
    /// The headers of [`Decoder::headers`], in that order; none of a bus that has none.
    pub headers: &'a [Option<Bytes>],
    /// Payload; only its beginning where `oversize` is set.
    pub payload: &'a [u8],
    /// The broker kept it for late listeners: not a live measurement (rule 3.6).
    pub retained: bool,
    /// True length of a payload over the limit of its source.
    pub oversize: Option<u64>,
}

/// What could not be taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// When it arrived.
    pub at: ArrivalTime,
    /// Number of the source in the job.
    pub source: u16,
    /// Position in that source.
    pub position: u64,
    /// Topic, as far as it is text.
    pub topic: String,
    /// What is wrong with it.
    pub reason: String,
    /// The beginning of the payload or element, as far as it is text.
    pub payload: String,
}

impl DeadLetter {
    /// Everything of the message but the reason.
    pub fn of(message: &Message<'_>, source: u16, mut reason: String, payload: &[u8]) -> Self {
        reason.truncate(reason.floor_char_boundary(DEAD_LETTER_REASON_BYTES_MAX));
        let payload = &payload[..payload.len().min(DEAD_LETTER_PAYLOAD_BYTES_MAX)];
        Self {
            at: message.arrived_at,
            source,
            position: message.position,
            topic: String::from_utf8_lossy(message.topic).into_owned(),
            reason,
            payload: String::from_utf8_lossy(payload).into_owned(),
        }
    }
}

/// A stream that takes the messages of some topics of one source.
#[derive(Clone, Debug)]
pub struct Route {
    /// Number of the type in the job.
    pub twin_type: u16,
    /// Number of the stream in the type.
    pub stream: u16,
    /// What of the payload is what.
    pub plan: StreamPlan,
}

impl Route {
    /// Whether it reads what edge nodes of Sparkplug say, which has an order of its own.
    fn is_of_nodes(&self) -> bool {
        self.plan.format.metrics().is_some()
    }
}

/// Decodes the messages of one source.
#[derive(Clone, Debug)]
pub struct Decoder {
    source: u16,
    routes: Routes,
    headers: Vec<String>,
    scratch: Scratch,
    /// What is remembered of edge nodes, where streams read Sparkplug.
    sparkplug: Sparkplug,
}

/// Memory that is used again for each message.
#[derive(Clone, Debug, Default)]
struct Scratch {
    /// The twin's id.
    id: String,
    /// The fields of a line of CSV.
    fields: csv::Fields,
    /// The metrics of a message that a stream maps.
    mapped: Vec<Mapped>,
    /// Places of the streams that may take a message.
    places: Vec<usize>,
}

impl Decoder {
    /// A decoder of the streams that come from the source with this number.
    pub fn new(source: u16, mut routes: Vec<Route>) -> Self {
        let mut headers = Vec::new();
        for route in &mut routes {
            if let TwinSource::Template(template) = &mut route.plan.twin {
                template.place_headers(&mut headers);
            }
        }
        let mut groups: Vec<String> = Vec::new();
        for metrics in routes.iter().filter_map(|route| route.plan.format.metrics()) {
            if !groups.iter().any(|group| group == metrics.group()) {
                groups.push(metrics.group().to_owned());
            }
        }
        let (routes, sparkplug) = (Routes::new(routes), Sparkplug::new(groups));
        Self { source, routes, headers, scratch: Scratch::default(), sparkplug }
    }

    /// The filters to subscribe to, each once.
    pub fn filters(&self) -> Vec<String> {
        let mut filters = Vec::new();
        for route in self.routes.all() {
            for pattern in &route.plan.patterns {
                let filter = pattern.filter();
                if !filters.contains(&filter) {
                    filters.push(filter);
                }
            }
        }
        filters
    }

    /// The headers that the streams want, by name, each once.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// A number that is the same for all topics that may speak of one twin, so that a source may
    /// hand its messages to several workers and keep each twin's order. Where some id stands in
    /// payloads or records, or one topic speaks of two twins, it is the same for all. (A source of records
    /// deals its lanes out by partition.)
    pub fn lane_key(&self) -> LaneKey {
        let routes = self.routes.all();
        let beside_topic = |route: &Route| match &route.plan.twin {
            TwinSource::Payload => true,
            TwinSource::Template(template) => route.plan.bus == Bus::Records || template.has_headers(),
        };
        let ambiguous = |(index, route): (usize, &Route)| {
            routes[..index].iter().any(|other| match (route.is_of_nodes(), other.is_of_nodes()) {
                // All of an edge node has one lane.
                (true, true) => false,
                // It is the lane of other streams of their twins only if there is but one.
                (one, other_one) if one != other_one && other.twin_type == route.twin_type => true,
                _ => other.plan.twin != route.plan.twin && other.plan.overlaps(&route.plan),
            })
        };
        let one_lane = routes.iter().any(beside_topic) || routes.iter().enumerate().any(ambiguous);
        LaneKey { routes: if one_lane { Routes::default() } else { self.routes.clone() } }
    }

    /// Whether some stream takes messages of this topic.
    pub fn takes(&self, topic: &str) -> bool {
        self.routes.all().iter().any(|route| route.plan.takes(topic, &mut Captured::default()))
    }

    /// Appends the events of a message to `events`, and what is wrong to `dead_letters`.
    pub fn decode(
        &mut self,
        message: &Message<'_>,
        events: &mut EventBatch,
        dead_letters: &mut Vec<DeadLetter>,
    ) {
        let source = self.source;
        let mut refuse = |reason: String, payload: &[u8]| {
            dead_letters.push(DeadLetter::of(message, source, reason, payload));
        };
        if let Some(bytes) = message.oversize {
            return refuse(
                format!("the payload has {bytes} bytes, more than the source's max_payload"),
                message.payload,
            );
        }
        let Ok(topic) = std::str::from_utf8(message.topic) else {
            return refuse("the topic is not UTF-8".into(), message.payload);
        };
        if message.payload.is_empty() {
            let reason = match message.key {
                Some(_) => TOMBSTONE,
                None => "the payload is empty",
            };
            return refuse(reason.into(), message.payload);
        }
        if let Some(reason) = self.sparkplug.hear(topic, message) {
            refuse(reason, message.payload);
        }
        let mut captured = Captured::default();
        let mut is_taken = false;
        let mut places = std::mem::take(&mut self.scratch.places);
        self.routes.candidates(topic, &mut places);
        for route in places.iter().map(|place| &self.routes.all()[*place]) {
            if route.plan.takes(topic, &mut captured) {
                is_taken = true;
                let taken = Taken { route, message, captured: &captured };
                let format = &route.plan.format;
                format.decode(taken, &self.sparkplug, &mut self.scratch, events, &mut refuse);
            }
        }
        self.scratch.places = places;
        let streams = self.routes.all().iter().filter_map(|route| route.plan.format.metrics());
        if self.sparkplug.is_unmapped(topic, streams) {
            refuse("no stream maps a metric of this birth certificate".into(), message.payload);
        }
        if !is_taken {
            refuse("no stream of the job takes this topic".into(), message.payload);
        }
    }
}

/// What a decoder that remembers has beside its messages: what it would say, and what a checkpoint keeps.
impl Decoder {
    /// Messages to the devices that are to be published, since it was last asked.
    pub fn take_requests(&mut self) -> Vec<Request> {
        self.sparkplug.take_requests()
    }

    /// What it remembers of the messages so far, at once and without copying what is large.
    pub fn memory(&self) -> Memory {
        self.sparkplug.memory()
    }

    /// Remembers a record of an earlier [`Memory`], where the topic that it is of is its own, as `owns` says.
    pub fn restore(&mut self, record: &[u8], owns: impl Fn(&str) -> bool) -> Result<(), MemoryError> {
        self.sparkplug.restore(record, owns)
    }
}

/// See [`Decoder::lane_key`].
#[derive(Clone, Debug)]
pub struct LaneKey {
    /// None where all has one lane.
    routes: Routes,
}

impl LaneKey {
    /// The key of a topic.
    pub fn of(&self, topic: &[u8]) -> u64 {
        let Ok(topic) = std::str::from_utf8(topic) else {
            return 0;
        };
        let mut captured = Vec::new();
        let key = self.routes.find_map(topic, |route| {
            let index = route.plan.matching(topic, &mut captured)?;
            if route.is_of_nodes() {
                // The edge node is the first capture of all topics of Sparkplug.
                return Some(crate::id::hash(captured.first().copied().unwrap_or_default().as_bytes()));
            }
            let TwinSource::Template(template) = &route.plan.twin else { return None };
            let mut id = String::new();
            // Only records can lack a part of their id, and those have one lane.
            let _ = template.fill(index, &captured, Record::default(), &mut id);
            Some(crate::id::hash(id.as_bytes()))
        });
        key.unwrap_or(0)
    }
}

#[cfg(test)]
mod csv_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod senml_tests;
#[cfg(test)]
mod tests;
