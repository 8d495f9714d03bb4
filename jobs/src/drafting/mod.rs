//! A job file drafted from messages that were heard (`twinloom init --from`).
//!
//! ```text
//!  Heard.. ─ topics ─► which level is the twin; types, streams ─ payloads ─► properties, device time ─┐
//!                                                               └ rates ──► how often ─────────────────┴─ writing ─► text
//! ```
//! It is a draft: what was seen stands beside what was made of it, and what is not sure is marked. Pure: messages in,
//! text out.

mod payloads;
mod rates;
mod topics;
mod units;
mod writing;

use std::collections::BTreeMap;

use self::payloads::Payloads;
use self::rates::Rate;
use self::topics::{Level, Shape};

/// A message that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// When it arrived, microseconds since 1970.
    pub arrived_us: i64,
    /// Whether the broker had kept it from before.
    pub retained: bool,
}

/// Where and how long it was listened.
#[derive(Clone, Debug)]
pub struct Listened {
    /// Settings of the connection, as a job file writes them: `{mqtt: {url: ..}}`.
    pub connection: String,
    /// Where that is, for people.
    pub url: String,
    /// What was subscribed to.
    pub filter: String,
    /// How long, in seconds.
    pub seconds: f64,
}

/// Why nothing can be drafted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Nobody spoke.
    #[error("nothing was heard on {0}; check the filter, or listen longer with --for 60s")]
    Silence(String),
    /// What was heard is in no form that is understood here.
    #[error("{0} messages were heard, and none has values that can be drafted: {1}")]
    Nothing(usize, String),
}

/// A type of twin, as it is drafted.
struct TypeDraft {
    name: String,
    /// Ids of its twins, and whether it was clear which level they are.
    twins: Vec<String>,
    doubts: Vec<String>,
    streams: Vec<StreamDraft>,
}

/// One of its streams.
struct StreamDraft {
    name: String,
    topics: Vec<String>,
    payloads: Payloads,
    rate: Rate,
}

/// Drafts a job from what was heard.
pub fn draft(heard: &[Heard], listened: &Listened) -> Result<String, DraftError> {
    // What other jobs say of their twins, and what brokers say of themselves, is no device's.
    let is_device = |topic: &str| !topic.starts_with("twins/") && !topic.starts_with('$');
    let messages: Vec<&Heard> =
        heard.iter().filter(|one| is_device(&one.topic) && !one.payload.is_empty()).collect();
    if messages.is_empty() {
        return Err(DraftError::Silence(listened.filter.clone()));
    }
    let mut by_topic: BTreeMap<&str, Vec<&Heard>> = BTreeMap::new();
    for message in &messages {
        by_topic.entry(&message.topic).or_default().push(message);
    }
    let shapes: Vec<(&str, Shape)> =
        by_topic.iter().map(|(topic, messages)| (*topic, payloads::shape(messages))).collect();
    let mut types = Vec::new();
    let mut left_out = Vec::new();
    for level in topics::levels(&shapes) {
        let drafted = type_draft(&level, &by_topic, &types, &mut left_out);
        types.extend(drafted);
    }
    if types.is_empty() {
        return Err(DraftError::Nothing(messages.len(), left_out.join("; ")));
    }
    Ok(writing::write(&types, &left_out, messages.len(), listened))
}

fn type_draft(
    level: &Level,
    by_topic: &BTreeMap<&str, Vec<&Heard>>,
    others: &[TypeDraft],
    left_out: &mut Vec<String>,
) -> Option<TypeDraft> {
    let mut streams: Vec<StreamDraft> = Vec::new();
    for (suffix, of_twins) in &level.streams {
        let pattern = level.pattern(suffix);
        let all: Vec<&Heard> =
            of_twins.iter().filter_map(|topic| by_topic.get(topic.as_str())).flatten().copied().collect();
        let name =
            topics::stream_name(suffix, &streams.iter().map(|one| one.name.as_str()).collect::<Vec<_>>());
        let payloads = match payloads::read(&all, &name) {
            Ok(payloads) => payloads,
            Err(reason) => {
                left_out.push(format!("{pattern}: {reason}"));
                continue;
            }
        };
        let arrivals = of_twins.iter().filter_map(|topic| by_topic.get(topic.as_str()));
        let rate = rates::rate(arrivals.map(|messages| messages.as_slice()), payloads.elements);
        streams.push(StreamDraft { name, topics: vec![pattern], payloads, rate });
    }
    payloads::tell_apart(streams.iter_mut().map(|one| (one.name.clone(), &mut one.payloads)));
    let taken: Vec<&str> = others.iter().map(|one| one.name.as_str()).collect();
    let draft = TypeDraft {
        name: topics::unique(&level.name, &taken),
        twins: level.twins.clone(),
        doubts: level.doubts.clone(),
        streams,
    };
    (!draft.streams.is_empty()).then_some(draft)
}

#[cfg(test)]
mod tests;
