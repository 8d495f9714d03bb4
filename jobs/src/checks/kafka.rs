//! Kafka connections: their settings, their groups, and that no listener feeds a stream of its own cluster.

use connectors::kafka::KafkaSettings;
use operators::bus::Bus;
use operators::decode::{StreamSettings, TopicPattern};
use operators::digital::TopicTemplate;
use operators::problem::Problem;

use super::Found;
use super::connections::broker;
use crate::definition::secrets::is_pending;
use crate::definition::{ConnectionSettings, Definition, DigitalSettings};

/// What is wrong with a connection by itself. Secrets that are not put in yet are not judged.
pub(super) fn check_settings(settings: &KafkaSettings) -> Option<Problem> {
    let mut known = settings.clone();
    for broker in known.brokers.iter_mut().filter(|broker| is_pending(broker)) {
        *broker = "localhost:9092".into();
    }
    known.options.retain(|_, value| !value.is(is_pending));
    known.check().err().map(|reason| of_reason(settings, &reason))
}

/// The component says what is wrong as `what; what to write instead`; its words begin with the key.
fn of_reason(settings: &KafkaSettings, reason: &str) -> Problem {
    let (message, help) = reason.rsplit_once("; ").unwrap_or((reason, "see docs/kafka.md"));
    let help = match help.starts_with("write ") || help.starts_with("remove ") {
        true => help.to_owned(),
        false => format!("remove it: {help}"),
    };
    let is_named = |name: &str| message.contains(&format!("`{name}`"));
    let mut problem = Problem::new(message, help);
    let key = ["brokers", "max_payload", "queue", "outbox", "options"]
        .into_iter()
        .find(|key| message.starts_with(key));
    let inner = match key {
        Some("brokers") => settings.brokers.iter().position(|one| is_named(one)).map(|one| one.to_string()),
        Some("options") => settings.options.keys().find(|one| is_named(one)).cloned(),
        _ => None,
    };
    for key in inner.into_iter().chain(key.map(str::to_owned)) {
        problem = problem.under(key);
    }
    problem
}

/// Default group of a connection: the job's name is enough where there is but one cluster.
pub(crate) fn group(definition: &Definition, name: &str, settings: &KafkaSettings) -> String {
    if let Some(group) = &settings.group {
        return group.clone();
    }
    let is_kafka = |one: &&ConnectionSettings| matches!(one, ConnectionSettings::Kafka(_));
    match definition.connections.values().filter(is_kafka).count() {
        1 => format!("twinloom-{}", definition.job),
        _ => format!("twinloom-{}-{name}", definition.job),
    }
}

/// Two that show their offsets of one topic in one group would overwrite each other's.
pub(super) fn check_groups(definition: &Definition, sources: &[String], found: &mut Found) {
    let mut known: Vec<(&str, &KafkaSettings, String)> = Vec::new();
    for name in sources {
        let Some(settings) = cluster_of(definition, name) else { continue };
        let group = group(definition, name, settings);
        let other = known.iter().find(|(other, cluster, other_group)| {
            *other_group == group
                && is_same_cluster(cluster, settings)
                && read_the_same(definition, other, name)
        });
        if let Some((other, ..)) = other {
            let message =
                format!("`{other}` reads the same topics of the same cluster in the same group `{group}`");
            let help = "give each connection a group of its own, or read the topics through one connection";
            let problem = Problem::new(message, help).under("group").under("kafka");
            found.error(problem.under(name).under("connections"));
        }
        known.push((name, settings, group));
    }
}

fn read_the_same(definition: &Definition, one: &str, other: &str) -> bool {
    let patterns = |name: &str| -> Vec<TopicPattern> {
        streams(definition)
            .filter(|(.., stream)| stream.from == name)
            .flat_map(|(.., stream)| stream.topics())
            .filter_map(|topic| TopicPattern::parse(&topic, Bus::Records).ok())
            .collect()
    };
    let others = patterns(other);
    patterns(one).iter().any(|pattern| others.iter().any(|other| pattern.overlaps(other)))
}

/// The problem with a listener whose topics a stream of the same cluster reads.
pub(super) fn fed(
    definition: &Definition,
    cluster: &KafkaSettings,
    digital: &DigitalSettings,
) -> Option<Problem> {
    let topic = digital.topic(Bus::Records);
    let written = written(definition, digital, topic)?;
    for (type_name, stream_name, stream) in streams(definition) {
        let from = cluster_of(definition, &stream.from);
        if !from.is_some_and(|from| is_same_cluster(from, cluster)) {
            continue;
        }
        let feeds = |read: &&String| {
            let read = TopicPattern::parse(read, Bus::Records);
            read.is_ok_and(|read| written.iter().any(|topic| read.matches(topic, &mut Vec::new())))
        };
        if let Some(read) = stream.topics.iter().find(feeds) {
            return Some(Problem::new(
                format!(
                    "`{topic}` feeds the stream `{stream_name}` of type `{type_name}`, which reads `{read}`"
                ),
                format!(
                    "write to a topic that no stream reads, such as {}",
                    TopicTemplate::default_of(Bus::Records)
                ),
            ));
        }
    }
    None
}

/// All topics that a listener's events can go to: there are but few.
fn written(definition: &Definition, digital: &DigitalSettings, topic: &str) -> Option<Vec<String>> {
    let template = TopicTemplate::parse(topic, &definition.job, Bus::Records).ok()?;
    let mut topics = Vec::new();
    for name in definition.types.keys() {
        for kind in &digital.kinds {
            let mut topic = Vec::new();
            template.write("", name, *kind, &mut topic);
            topics.push(String::from_utf8_lossy(&topic).into_owned());
        }
    }
    Some(topics)
}

/// All streams, with the name of their type and their own.
fn streams(definition: &Definition) -> impl Iterator<Item = (&str, &str, &StreamSettings)> {
    definition.types.iter().flat_map(|(type_name, settings)| {
        let of_type = settings.physical.iter();
        of_type.map(|(name, stream)| (type_name.as_str(), name.as_str(), stream))
    })
}

fn cluster_of<'a>(definition: &'a Definition, name: &str) -> Option<&'a KafkaSettings> {
    match definition.connections.get(name)? {
        ConnectionSettings::Kafka(settings) => Some(settings),
        ConnectionSettings::Mqtt(_) | ConnectionSettings::File(_) | ConnectionSettings::Webhook(_) => None,
    }
}

/// Clusters are the same where they have a broker in common.
fn is_same_cluster(one: &KafkaSettings, other: &KafkaSettings) -> bool {
    let brokers: Vec<String> = other.brokers.iter().map(|one| broker(one)).collect();
    one.brokers.iter().any(|one| brokers.contains(&broker(one)))
}

#[cfg(test)]
mod tests;
