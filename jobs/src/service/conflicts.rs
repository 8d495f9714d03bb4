//! What two jobs of one server must not both do, unless one says that it is meant (`shared: [connection]`): write
//! the same topics, make twins of their own of the same messages, or show themselves to a broker as one client.

use std::fmt;

use connectors::kafka::KafkaSettings;
use operators::decode::TopicPattern;
use operators::digital::TopicTemplate;

use crate::checks::{broker, client_id, group};
use crate::definition::{ConnectionSettings, Definition};

/// Something that two jobs may not both do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where it stands in the job that is applied.
    pub path: String,
    /// The other job.
    pub job: String,
    /// Where it stands there.
    pub other_path: String,
    /// What both do.
    pub what: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, job, other_path, what } = self;
        write!(formatter, "`{path}` and `{other_path}` of job `{job}` {what}")
    }
}

/// A place of a job that reads or writes topics.
struct Use<'a> {
    path: String,
    connection: &'a str,
    settings: &'a ConnectionSettings,
    topics: Vec<TopicPattern>,
}

/// The conflicts of a job with another one.
pub(super) fn between(job: &Definition, other: &Definition) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (mine, theirs, what) in [
        (written(job), written(other), "write the same topics"),
        (read(job), read(other), "read the same messages into twins of their own"),
    ] {
        for one in &mine {
            for another in &theirs {
                let is_shared = is_shared(job, one.connection) || is_shared(other, another.connection);
                // Of a group that both are in each message comes to one of them only.
                let meet = |topic: &TopicPattern, with: &TopicPattern| {
                    topic.overlaps(with) && (topic.group().is_none() || topic.group() != with.group())
                };
                let overlap =
                    || one.topics.iter().any(|topic| another.topics.iter().any(|with| meet(topic, with)));
                if !is_shared && is_same_place(one.settings, another.settings) && overlap() {
                    conflicts.push(conflict(&one.path, other, &another.path, what));
                }
            }
        }
    }
    conflicts.extend(identities(job, other));
    conflicts
}

fn conflict(path: &str, other: &Definition, other_path: &str, what: &str) -> Conflict {
    Conflict {
        path: path.to_owned(),
        job: other.job.clone(),
        other_path: other_path.to_owned(),
        what: format!("{what}; change one of them, or say `shared: [CONNECTION]` where it is meant"),
    }
}

fn is_shared(job: &Definition, connection: &str) -> bool {
    job.shared.iter().any(|name| name == connection)
}

/// Listeners, and the topics that they write.
fn written(job: &Definition) -> Vec<Use<'_>> {
    let listeners = job.digital.iter().enumerate().filter_map(|(index, listener)| {
        let settings = job.connections.get(&listener.to)?;
        let bus = settings.bus();
        let template = TopicTemplate::parse(listener.topic(bus), &job.job, bus).ok()?;
        let topics = TopicPattern::parse(&template.pattern(), bus).into_iter().collect();
        Some(Use { path: format!("digital.{index}"), connection: &listener.to, settings, topics })
    });
    listeners.collect()
}

/// Streams, and the topics that they read.
fn read(job: &Definition) -> Vec<Use<'_>> {
    let types = job.types.iter();
    let inputs = types.flat_map(|(name, one)| one.inputs().map(move |input| (name, input)));
    let uses = inputs.filter_map(|(twin_type, input)| {
        let (connection, settings) = job.connections.get_key_value(input.from)?;
        let bus = settings.bus();
        let topics = input.topics.iter().filter_map(|topic| TopicPattern::parse(topic, bus).ok());
        let path = format!("types.{twin_type}.{}", input.path());
        Some(Use { path, connection, settings, topics: topics.collect() })
    });
    uses.collect()
}

/// Clients that a broker would take for one, and groups that would share a place.
fn identities(job: &Definition, other: &Definition) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for (name, settings) in &job.connections {
        for (other_name, other_settings) in &other.connections {
            if !is_same_place(settings, other_settings) {
                continue;
            }
            let (key, is_same) = match (settings, other_settings) {
                (ConnectionSettings::Mqtt(one), ConnectionSettings::Mqtt(another)) => {
                    ("client_id", client_id(job, name, one) == client_id(other, other_name, another))
                }
                (ConnectionSettings::Kafka(one), ConnectionSettings::Kafka(another)) => {
                    ("group", group(job, name, one) == group(other, other_name, another))
                }
                _ => continue,
            };
            if is_same {
                conflicts.push(Conflict {
                    path: format!("connections.{name}"),
                    job: other.job.clone(),
                    other_path: format!("connections.{other_name}"),
                    what: format!("have the same {key}; give each one of its own"),
                });
            }
        }
    }
    conflicts
}

/// Whether two connections lead to the same bus.
fn is_same_place(one: &ConnectionSettings, other: &ConnectionSettings) -> bool {
    match (one, other) {
        (ConnectionSettings::Mqtt(one), ConnectionSettings::Mqtt(other)) => {
            broker(&one.url) == broker(&other.url)
        }
        (ConnectionSettings::Kafka(one), ConnectionSettings::Kafka(other)) => {
            let names = |settings: &KafkaSettings| -> Vec<String> {
                settings.brokers.iter().map(|name| broker(name)).collect()
            };
            let others = names(other);
            names(one).iter().any(|name| others.contains(name))
        }
        // A file of recorded input may be read by many.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    const JOB: &str = include_str!("../../../examples/first.yaml");

    fn definition(pieces: &[(&str, &str)]) -> Definition {
        let mut text = JOB.to_owned();
        for (from, to) in pieces {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        Job::parse("job.yaml", &text, None).expect("it is valid").definition
    }

    #[test]
    fn what_two_jobs_must_not_both_do() {
        let name = ("job: first-twins", "job: second");
        let other_topics = ("device/{twin}/telemetry", "plant/{twin}/telemetry");
        let one = definition(&[]);
        for (pieces, expected) in [
            (
                &[name][..],
                &[
                    "`types.device.physical.telemetry` and `types.device.physical.telemetry` of job `first-twins` read the same messages",
                ][..],
            ),
            (&[name, other_topics], &[]),
            (&[name, ("mqtt://localhost:1883", "mqtt://elsewhere:1883")], &[]),
            (&[("job: first-twins", "job: second\nshared: [plant]")], &[]),
            (
                &[
                    name,
                    other_topics,
                    (
                        "url: mqtt://localhost:1883",
                        "url: \"mqtt://127.0.0.1\", client_id: twinloom-first-twins",
                    ),
                ],
                &["`connections.plant` and `connections.plant` of job `first-twins` have the same client_id"],
            ),
            (
                &[
                    name,
                    other_topics,
                    ("{to: plant,", "{to: plant, topic: \"twins/first-twins/{twin}/state\","),
                ],
                &["`digital.0` and `digital.0` of job `first-twins` write the same topics"],
            ),
        ] {
            let found: Vec<String> =
                between(&definition(pieces), &one).iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{pieces:?}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}");
            }
        }
    }
}
