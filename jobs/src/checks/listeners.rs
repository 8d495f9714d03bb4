//! Listeners: where their events go, through which sink, and what their connection cannot do for them.

use std::collections::HashSet;

use dataflows::plan::ListenerPlan;
use operators::digital::{DigitalKind, TopicTemplate};
use operators::problem::Problem;

use super::{Found, connections};
use crate::definition::{ConnectionSettings, Definition, DigitalSettings};

/// A sink: a connection, and how it is published to. One connection may be two sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOf {
    /// Name of the connection.
    pub connection: String,
    /// Whether events go out exactly once, with checkpoints.
    pub exactly_once: bool,
}

impl SinkOf {
    /// What the sink is called in checkpoints and metrics.
    pub fn name(&self) -> String {
        match self.exactly_once {
            true => format!("{}-exactly-once", self.connection),
            false => self.connection.clone(),
        }
    }
}

/// The sinks, and who listens through them.
pub(super) fn compile(definition: &Definition, found: &mut Found) -> (Vec<SinkOf>, Vec<ListenerPlan>) {
    let (mut sinks, mut listeners) = (Vec::<SinkOf>::new(), Vec::new());
    for (index, digital) in definition.digital.iter().enumerate() {
        let at = |problem: Problem, key: &str| problem.under(key).under(index.to_string()).under("digital");
        if let Some(problem) = connections::unknown(definition, &digital.to) {
            found.error(at(problem, "to"));
            continue;
        }
        check_kinds(digital).into_iter().for_each(|problem| found.error(at(problem, "kinds")));
        let sink = SinkOf { connection: digital.to.clone(), exactly_once: digital.exactly_once };
        let sink = sinks.iter().position(|known| *known == sink).unwrap_or_else(|| {
            sinks.push(sink);
            sinks.len() - 1
        });
        // One that was not read has been told of; what its listeners may say is not known.
        let Some(connection) = definition.connections.get(&digital.to) else { continue };
        check_retain(connection, digital, found, |problem| at(problem, "retain"));
        if let Some(problem) = check_exactly_once(connection, digital) {
            found.error(at(problem, "exactly_once"));
        }
        let topic = TopicTemplate::parse(digital.topic(connection.bus()), &definition.job, connection.bus());
        let types = definition.types.keys().map(String::as_str);
        match topic.and_then(|topic| topic.check_types(types).map(|()| topic)) {
            Ok(topic) => {
                let (kinds, retain) = (digital.kinds.clone(), digital.retain);
                listeners.push(ListenerPlan { sink, topic, kinds, retain, gate: None });
            }
            // A default that cannot be is the job's name's fault, which has been told.
            Err(_) if digital.topic.is_none() => {}
            Err(problem) => found.error(at(problem, "topic")),
        }
    }
    check_names(&sinks, found);
    (sinks, listeners)
}

fn check_kinds(digital: &DigitalSettings) -> Option<Problem> {
    let mut kinds = HashSet::new();
    if !digital.kinds.is_empty() && digital.kinds.iter().all(|kind| kinds.insert(kind.word())) {
        return None;
    }
    let words: Vec<_> = DigitalKind::ALL.iter().map(|kind| kind.word()).collect();
    let help = format!("list each kind that is wanted once: {}", words.join(", "));
    Some(Problem::new("the kinds are empty, or one stands there twice", help))
}

fn check_retain(
    connection: &ConnectionSettings,
    digital: &DigitalSettings,
    found: &mut Found,
    at: impl Fn(Problem) -> Problem,
) {
    match (connection, digital.retain) {
        (ConnectionSettings::File(_), Some(true)) => {
            let help = "leave `retain` out: a file keeps every event";
            found.warning(at(Problem::new("a file retains nothing", help)));
        }
        (ConnectionSettings::Webhook(_), Some(true)) => {
            let help = "leave `retain` out: an endpoint keeps what it likes";
            found.warning(at(Problem::new("a webhook retains nothing", help)));
        }
        (ConnectionSettings::Kafka(_), Some(_)) => found.error(at(Problem::new(
            "Kafka keeps records as the settings of their topic say, and has no retained ones",
            "leave `retain` out; a topic with cleanup.policy=compact keeps the last record of each key, so give \
             each kind a topic of its own: topic: twins.{job}.{kind}",
        ))),
        _ => {}
    }
}

fn check_exactly_once(connection: &ConnectionSettings, digital: &DigitalSettings) -> Option<Problem> {
    let message = match connection {
        _ if !digital.exactly_once => return None,
        ConnectionSettings::Kafka(_) => return None,
        ConnectionSettings::Mqtt(_) => "MQTT has no transactions, so events cannot come exactly once",
        ConnectionSettings::Webhook(_) => "a webhook has no transactions, so events cannot come exactly once",
        ConnectionSettings::File(_) => "a file has no transactions, so events cannot come exactly once",
    };
    let help = "leave `exactly_once` out (each event comes at least once, a repeat has a higher generation), or \
                send to a Kafka connection";
    Some(Problem::new(message, help))
}

/// A sink has its own name in checkpoints, which another connection must not have.
fn check_names(sinks: &[SinkOf], found: &mut Found) {
    for (index, sink) in sinks.iter().enumerate() {
        let name = sink.name();
        if let Some(other) = sinks[..index].iter().find(|other| other.name() == name) {
            let plain = if sink.exactly_once { other } else { sink };
            let message = format!("`{name}` is the name of another sink as well");
            let problem = Problem::new(message, "give the connection a name without -exactly-once");
            found.error(problem.under(&plain.connection).under("connections"));
        }
    }
}
