//! Connections: their settings, who uses them, and what must not be joined.

use std::path::{Path, PathBuf};

use connectors::file::{FileClock, FileSettings};
use connectors::mqtt::MqttSettings;
use connectors::webhook::WebhookSettings;
use dataflows::plan::TimeMode;
use operators::bus::Bus;
use operators::decode::TopicPattern;
use operators::digital::TopicTemplate;
use operators::problem::{Problem, suggestion};

use super::listeners::SinkOf;
use super::{Found, kafka};
use crate::definition::secrets::is_pending;
use crate::definition::{ConnectionSettings, Definition, TypeSettings};

/// Names of the connections that some stream reads, in their order: their index is the number of
/// the source.
pub(super) fn sources(definition: &Definition, found: &mut Found) -> Vec<String> {
    let is_read = |name: &str| {
        let mut inputs = definition.types.values().flat_map(TypeSettings::inputs);
        inputs.any(|input| input.from == name)
    };
    if definition.connections.is_empty() && !definition.unread.contains("connections") {
        let help = "add `plant: {mqtt: {url: mqtt://localhost:1883}}`";
        found.error(Problem::new("the job has no connection", help).under("connections"));
    }
    definition.connections.keys().filter(|name| is_read(name)).cloned().collect()
}

/// The problem with a name that no connection has.
pub(super) fn unknown(definition: &Definition, name: &str) -> Option<Problem> {
    let is_known = definition.connections.contains_key(name);
    let is_unread = definition.unread.contains(&format!("connections.{name}"));
    if is_known || is_unread {
        return None;
    }
    let known: Vec<&str> = definition.connections.keys().map(String::as_str).collect();
    let help = suggestion(name, known.iter().copied());
    Some(Problem::new(format!("there is no connection `{name}`"), help))
}

/// What each connection says of itself.
pub(super) fn check_settings(definition: &Definition, found: &mut Found) {
    for (name, connection) in &definition.connections {
        if let Some(problem) = check_name(name) {
            found.error(problem.under(name).under("connections"));
        }
        match connection {
            ConnectionSettings::Mqtt(mqtt) => {
                if let Err(reason) = with_known_url(mqtt).check() {
                    let problem = of_reason(&reason).under("mqtt");
                    found.error(problem.under(name).under("connections"));
                }
            }
            ConnectionSettings::Kafka(settings) => {
                if let Some(problem) = kafka::check_settings(settings) {
                    found.error(problem.under("kafka").under(name).under("connections"));
                }
            }
            ConnectionSettings::File(file) if file.path.as_os_str().is_empty() => {
                let problem = Problem::new("the path is empty", "write path: input.jsonl");
                let problem = problem.under("path").under("file");
                found.error(problem.under(name).under("connections"));
            }
            ConnectionSettings::Webhook(webhook) => {
                if let Err(reason) = with_known_webhook(webhook).check() {
                    let (message, help) = reason.split_once("; ").unwrap_or((&reason, "see docs/server.md"));
                    let key = if message.starts_with("headers") { "headers" } else { "url" };
                    let problem = Problem::new(message, help).under(key).under("webhook");
                    found.error(problem.under(name).under("connections"));
                }
            }
            ConnectionSettings::File(_) => {}
        }
    }
    check_client_ids(definition, found);
}

/// Connections that nobody uses.
pub(super) fn check_use(definition: &Definition, sources: &[String], sinks: &[SinkOf], found: &mut Found) {
    let is_unread = |part: &str| definition.unread.contains(part);
    if is_unread("types") || is_unread("digital") {
        return;
    }
    for name in definition.connections.keys() {
        if !sources.contains(name) && !sinks.iter().any(|sink| sink.connection == *name) {
            let help = "name it in the `from` of a stream or the `to` of a listener, or remove it";
            let problem = Problem::new(format!("nothing uses the connection `{name}`"), help);
            found.warning(problem.under(name).under("connections"));
        }
    }
}

/// What a listener writes must not be read again by a source, or the job feeds itself for ever.
pub(super) fn check_loops(definition: &Definition, found: &mut Found) {
    let mut written: Vec<(&str, PathBuf)> = Vec::new();
    for (index, digital) in definition.digital.iter().enumerate() {
        let at = |problem: Problem, key: &str| problem.under(key).under(index.to_string()).under("digital");
        match definition.connections.get(&digital.to) {
            Some(ConnectionSettings::Mqtt(mqtt)) => {
                if let Some(problem) = fed(definition, mqtt, digital.topic(Bus::Levels)) {
                    found.error(at(problem, "topic"));
                }
            }
            Some(ConnectionSettings::Kafka(cluster)) => {
                if let Some(problem) = kafka::fed(definition, cluster, digital) {
                    found.error(at(problem, "topic"));
                }
            }
            Some(ConnectionSettings::File(file)) => {
                let path = absolute(&file.path);
                if let Some(source) = reads(definition, &path) {
                    let message = format!("`{}` is read by the source `{source}`", file.path.display());
                    found.error(at(Problem::new(message, "write to a file of its own"), "to"));
                }
                let other = written.iter().find(|(to, known)| *to != digital.to && *known == path);
                if let Some((other, _)) = other {
                    let message = format!("the connection `{other}` writes the same file");
                    found.error(at(Problem::new(message, "write to a file of its own"), "to"));
                }
                written.push((&digital.to, path));
            }
            Some(ConnectionSettings::Webhook(_)) | None => {}
        }
    }
}

/// Whose clock rules; records and live messages have no time in common.
pub(super) fn time_mode(definition: &Definition, found: &mut Found) -> TimeMode {
    let mut first: Option<(TimeMode, &str)> = None;
    for (name, settings) in &definition.types {
        for input in settings.inputs() {
            let mode = match definition.connections.get(input.from) {
                Some(ConnectionSettings::File(FileSettings { clock: FileClock::Recorded, .. })) => {
                    TimeMode::Recorded
                }
                Some(_) => TimeMode::Live,
                None => continue,
            };
            let (known, from) = *first.get_or_insert((mode, input.from));
            if known != mode {
                let problem = Problem::new(
                    format!(
                        "`{}` and `{from}` have different clocks: one is recorded, one is live",
                        input.from
                    ),
                    "a job has one clock: read all files with clock: recorded, or all sources live",
                );
                let problem = input.under(problem.under("from"));
                found.error(problem.under(name).under("types"));
            }
        }
    }
    first.map_or(TimeMode::Live, |(mode, _)| mode)
}

/// Default client id of a connection: the job's name is enough where there is but one broker.
pub(crate) fn client_id(definition: &Definition, name: &str, mqtt: &MqttSettings) -> String {
    if let Some(client_id) = &mqtt.client_id {
        return client_id.clone();
    }
    let is_mqtt = |one: &&ConnectionSettings| matches!(one, ConnectionSettings::Mqtt(_));
    match definition.connections.values().filter(is_mqtt).count() {
        1 => format!("twinloom-{}", definition.job),
        _ => format!("twinloom-{}-{name}", definition.job),
    }
}

/// A broker ends the older of two connections with one client id, which then comes back, and so on.
fn check_client_ids(definition: &Definition, found: &mut Found) {
    let mut known: Vec<(String, &str)> = Vec::new();
    for (name, connection) in &definition.connections {
        let ConnectionSettings::Mqtt(mqtt) = connection else { continue };
        let client_id = client_id(definition, name, mqtt);
        let other =
            known.iter().find(|(id, other)| *id == client_id && is_same_broker(definition, other, &mqtt.url));
        if let Some((_, other)) = other {
            let message = format!("`{other}` has the same client id on the same broker");
            let problem = Problem::new(message, "give each connection a client_id of its own");
            let problem = problem.under("client_id").under("mqtt");
            found.error(problem.under(name).under("connections"));
        }
        known.push((client_id, name));
    }
}

fn is_same_broker(definition: &Definition, name: &str, url: &str) -> bool {
    match definition.connections.get(name) {
        Some(ConnectionSettings::Mqtt(mqtt)) => broker(&mqtt.url) == broker(url),
        _ => false,
    }
}

/// The problem with a listener's topic that a source of the same broker reads.
fn fed(definition: &Definition, mqtt: &MqttSettings, topic: &str) -> Option<Problem> {
    let written = TopicTemplate::parse(topic, &definition.job, Bus::Levels).ok()?;
    let written = TopicPattern::parse(&written.pattern(), Bus::Levels).ok()?;
    for (type_name, settings) in &definition.types {
        for input in settings.inputs() {
            if !is_same_broker(definition, input.from, &mqtt.url) {
                continue;
            }
            let feeds = |read: &&String| {
                TopicPattern::parse(read, Bus::Levels).is_ok_and(|read| read.overlaps(&written))
            };
            if let Some(read) = input.topics.iter().find(feeds) {
                return Some(Problem::new(
                    format!(
                        "`{topic}` feeds the stream `{}` of type `{type_name}`, which reads `{read}`",
                        input.name()
                    ),
                    "write to a topic that no stream reads, such as twins/{job}/{twin}/{kind}",
                ));
            }
        }
    }
    None
}

/// The source that reads a file, if one does.
fn reads<'a>(definition: &'a Definition, path: &Path) -> Option<&'a str> {
    let mut inputs = definition.types.values().flat_map(TypeSettings::inputs);
    let found = inputs.find(|input| match definition.connections.get(input.from) {
        Some(ConnectionSettings::File(file)) => absolute(&file.path) == path,
        _ => false,
    });
    found.map(|input| input.from)
}

/// A path that two spellings of one file share; links are followed where the file exists.
fn absolute(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

/// Host and port, in the one spelling that is compared. Behind websockets there may be a path, which makes no other
/// broker.
pub(crate) fn broker(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('/').map_or(rest, |(host, _)| host);
    let rest = rest.to_ascii_lowercase();
    let with_port = match rest.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => rest,
        _ => format!("{rest}:1883"),
    };
    for spelling in ["127.0.0.1:", "[::1]:"] {
        if let Some(port) = with_port.strip_prefix(spelling) {
            return format!("localhost:{port}");
        }
    }
    with_port
}

/// The settings with a url that can be checked, where its secrets are not put in yet.
fn with_known_url(mqtt: &MqttSettings) -> MqttSettings {
    let mut known = mqtt.clone();
    if is_pending(&known.url) {
        known.url = "mqtt://localhost".into();
    }
    known
}

/// The settings with a url and headers that can be checked, where their secrets are not put in yet.
fn with_known_webhook(webhook: &WebhookSettings) -> WebhookSettings {
    let mut known = webhook.clone();
    if is_pending(&known.url) {
        known.url = "https://localhost".into();
    }
    known
}

/// The component says what is wrong as `what; what to write instead`; its words name the key.
fn of_reason(reason: &str) -> Problem {
    let (message, help) = reason.split_once("; ").unwrap_or((reason, "see examples/first.yaml"));
    let help = match help.starts_with("use ") || help.starts_with("write ") || help.starts_with("add ") {
        true => help.to_owned(),
        false => format!("write mqtt://host or mqtt://host:port ({help})"),
    };
    let keys = [
        "keep_alive",
        "max_payload",
        "qos",
        "password",
        "journal",
        "session_expiry",
        "receive_maximum",
        "message_expiry",
    ];
    let key =
        keys.into_iter().find(|key| message.starts_with(key) || message.starts_with(&format!("a {key}")));
    Problem::new(message, help).under(key.unwrap_or("url"))
}

fn check_name(name: &str) -> Option<Problem> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.chars().all(is_known) && (1..=64).contains(&name.len()) {
        return None;
    }
    let help = "write letters, digits, `-`, `_` or `.`, up to 64";
    Some(Problem::new(format!("`{name}` is no name of a connection"), help))
}
