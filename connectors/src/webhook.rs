//! Posts messages to an HTTP endpoint as JSON, those of a short while together: one request a topic, so that a
//! thousand twins that are lost at once are one call, not a thousand.
//!
//! ```json
//! {"topic": "twins/line/alarms", "messages": [{...}, {...}]}
//! ```
//! Each comes at least once and in the order of its twin. An endpoint that does not answer is tried again, and
//! what waits for it waits on; one that refuses (4xx) would refuse again, so what it refused is counted and let go.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};
use ureq::Agent;

use crate::endpoint;
use crate::message::{MessageBatch, Outgoing};
use crate::queue::{Received, Weigh};
use crate::reminder::Reminder;
use crate::secret::Secret;
use crate::sink::{SinkHandle, SinkWork};

/// How much may wait for the endpoint.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of messages after which a request is made, though more may come.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Pauses between attempts, from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often a pause looks whether the sink is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// An HTTP endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where messages are posted: `http://` or `https://`.
    pub url: String,
    /// How long messages are gathered for one request.
    #[serde(default = "group_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub group: Duration,
    /// How long an answer may take.
    #[serde(default = "timeout_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub timeout: Duration,
    /// How long an endpoint that does not answer is tried before its messages are let go and counted.
    #[serde(default = "give_up_after_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub give_up_after: Duration,
    /// Headers, such as `Authorization: "Bearer ${TOKEN}"`; their values are not shown.
    #[serde(default)]
    pub headers: IndexMap<String, Secret>,
}

fn group_default() -> Duration {
    Duration::from_secs(1)
}

fn timeout_default() -> Duration {
    Duration::from_secs(10)
}

fn give_up_after_default() -> Duration {
    Duration::from_secs(600)
}

/// Why there is no sink.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// A setting that cannot work.
    #[error("{name}: {reason}")]
    Settings {
        /// The connector's name.
        name: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("{name}: cannot start its thread: {error}; raise the limit of threads (ulimit -u)")]
    Thread {
        /// The connector's name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl WebhookSettings {
    /// Says what cannot work, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        if !endpoint::is_url(&self.url) {
            return Err(format!("url `{}` is no address of a webhook; write https://host/path", self.url));
        }
        endpoint::headers(&self.headers).map(drop)
    }
}

/// Starts a sink. An endpoint that is away is no error: it is tried again.
pub fn start(name: &str, settings: &WebhookSettings) -> Result<SinkHandle, WebhookError> {
    settings.check().map_err(|reason| WebhookError::Settings { name: name.to_owned(), reason })?;
    let settings = settings.clone();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(settings.timeout))
        // Where a redirect leads was not asked for by whoever wrote the job.
        .max_redirects(0)
        .build();
    let agent = Agent::from(config);
    let handle = SinkHandle::start(name, QUEUE_BYTES_MAX, move |work| {
        Webhook { work, settings, agent, trouble: Reminder::default() }.run();
    });
    handle.map_err(|error| WebhookError::Thread { name: name.to_owned(), error })
}

struct Webhook {
    work: SinkWork,
    settings: WebhookSettings,
    agent: Agent,
    trouble: Reminder,
}

/// What became of a request.
enum Outcome {
    Taken,
    /// It would not be taken another time either.
    Refused(String),
    /// It may be taken another time.
    Failed(String),
}

impl Webhook {
    /// Runs until the queue is closed; what is in it then is still posted.
    fn run(mut self) {
        self.work.stats.set_connected(true);
        while let Some(first) = self.work.queue.recv() {
            let batches = self.gather(first);
            for (topic, messages) in by_topic(&batches) {
                self.post(topic, &messages);
            }
            let weight = batches.iter().map(Weigh::weight).sum();
            // With the batches go their receipts.
            drop(batches);
            self.work.stats.batch_done(weight);
        }
        self.work.stats.set_connected(false);
    }

    /// What comes within the time of a group.
    fn gather(&self, first: MessageBatch) -> Vec<MessageBatch> {
        let until = Instant::now() + self.settings.group;
        let mut bytes = first.bytes.len();
        let mut batches = vec![first];
        while bytes < REQUEST_BYTES_MAX {
            let left = until.saturating_duration_since(Instant::now());
            match self.work.queue.recv_timeout(left) {
                Received::Item(batch) => {
                    bytes += batch.bytes.len();
                    batches.push(batch);
                }
                Received::Timeout | Received::Closed => break,
            }
        }
        batches
    }

    /// Posts until it is taken, refused, or given up.
    fn post(&mut self, topic: &str, messages: &[&[u8]]) {
        let body = body(topic, messages);
        let began = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            match self.try_post(&body) {
                Outcome::Taken => {
                    if !self.work.stats.connected.load(Ordering::Relaxed) {
                        info!(sink = %self.work.name, "webhook answers again");
                        self.work.stats.set_connected(true);
                        self.trouble.reset();
                    }
                    self.work.stats.add_published(messages.len() as u64, body.len() as u64);
                    return;
                }
                Outcome::Refused(reason) => return self.let_go(messages.len(), &reason),
                Outcome::Failed(reason) => {
                    self.work.stats.set_connected(false);
                    if began.elapsed() >= self.settings.give_up_after {
                        return self.let_go(messages.len(), &reason);
                    }
                    if let Some(times) = self.trouble.due() {
                        warn!(sink = %self.work.name, reason, times, "webhook does not take messages; retrying");
                    }
                    if !self.pause(pause) {
                        return self.let_go(messages.len(), &reason);
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    fn try_post(&self, body: &[u8]) -> Outcome {
        let mut request = self.agent.post(&self.settings.url).header("Content-Type", "application/json");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.reveal());
        }
        match request.send(body) {
            Ok(response) => match response.status() {
                status if status.is_success() => Outcome::Taken,
                // It asks to be asked later.
                status if matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error() => {
                    Outcome::Failed(format!("it answers {status}"))
                }
                status => Outcome::Refused(format!("it answers {status}")),
            },
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Whether it may go on after a pause: not where the sink is to end.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.work.stop.is_asked() {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL.min(until.saturating_duration_since(Instant::now())));
        }
        true
    }

    fn let_go(&mut self, messages: usize, reason: &str) {
        self.work.stats.add_failures(messages as u64);
        warn!(sink = %self.work.name, reason, messages, "messages not taken by the webhook; they are let go");
    }
}

/// The payloads of each topic, in their order.
fn by_topic(batches: &[MessageBatch]) -> BTreeMap<&str, Vec<&[u8]>> {
    let mut topics: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for Outgoing { topic, payload, .. } in batches.iter().flat_map(MessageBatch::iter) {
        topics.entry(topic).or_default().push(payload);
    }
    topics
}

/// The body of a request. Payloads are JSON as they are.
fn body(topic: &str, messages: &[&[u8]]) -> Vec<u8> {
    let mut body = b"{\"topic\":".to_vec();
    body.extend_from_slice(serde_json::Value::from(topic).to_string().as_bytes());
    body.extend_from_slice(b",\"messages\":[");
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(message);
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;
    use crate::message::Entry;

    fn batch(messages: &[(&str, &str)]) -> MessageBatch {
        let mut batch = MessageBatch::default();
        for (topic, payload) in messages {
            batch.bytes.extend_from_slice(topic.as_bytes());
            let topic_end = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(payload.as_bytes());
            let payload_end = batch.bytes.len() as u32;
            batch.entries.push(Entry {
                topic_end,
                key_end: topic_end,
                payload_end,
                retain: false,
                revision: 0,
            });
        }
        batch
    }

    /// An endpoint that answers with these statuses, one after the other, and tells what it was sent.
    fn endpoint(statuses: &'static [u16]) -> (String, mpsc::Receiver<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for status in statuses {
                let (socket, _) = listener.accept().expect("a connection");
                let mut reader = BufReader::new(socket);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    reader.read_line(&mut head).expect("a line of the head");
                }
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                let mut body = vec![0; length.expect("a length")];
                reader.read_exact(&mut body).expect("a body");
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                reader.into_inner().write_all(answer.as_bytes()).expect("it is written");
                tell.send((head, String::from_utf8_lossy(&body).into_owned())).expect("somebody listens");
            }
        });
        (url, told)
    }

    fn settings(url: &str) -> WebhookSettings {
        let json = format!(r#"{{"url": "{url}", "group": "50ms", "headers": {{"X-Token": "secret"}}}}"#);
        serde_json::from_str(&json).expect("they are settings")
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn messages_of_a_topic_are_one_request() {
        let (url, told) = endpoint(&[200, 204]);
        let sink = start("hook", &settings(&url)).expect("it starts");
        sink.offer(batch(&[("a", "1"), ("b", "{\"x\":2}"), ("a", "3")])).expect("there is room");
        let mut bodies: Vec<String> = (0..2)
            .map(|_| {
                let (head, body) = told.recv_timeout(LONG).expect("a request");
                assert!(head.starts_with("POST /hook ") && head.contains("secret"), "{head}");
                body
            })
            .collect();
        bodies.sort();
        let expected = [r#"{"topic":"a","messages":[1,3]}"#, r#"{"topic":"b","messages":[{"x":2}]}"#];
        assert_eq!(bodies, expected);
        let closed = sink.close(LONG);
        assert_eq!((closed.published, closed.unpublished), (3, 0));
    }

    #[test]
    fn what_fails_is_tried_again_and_what_is_refused_is_let_go() {
        let (url, told) = endpoint(&[503, 200, 400, 200]);
        let sink = start("hook", &settings(&url)).expect("it starts");
        for (payload, requests) in [("1", 2), ("2", 1), ("3", 1)] {
            sink.offer(batch(&[("a", payload)])).expect("there is room");
            for _ in 0..requests {
                let (_, body) = told.recv_timeout(LONG).expect("a request");
                assert_eq!(body, format!(r#"{{"topic":"a","messages":[{payload}]}}"#));
            }
        }
        let stats = sink.stats.clone();
        sink.close(LONG);
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((read(&stats.published), read(&stats.failures)), (2, 1));
    }

    #[test]
    fn settings_that_cannot_work_are_told() {
        for (json, expected) in [
            (r#"{"url": "https://example.com/a"}"#, None),
            (r#"{"url": "ftp://example.com"}"#, Some("url")),
            (r#"{"url": "nowhere"}"#, Some("url")),
            (r#"{"url": "http://a", "headers": {"a b": "c"}}"#, Some("headers")),
            (r#"{"url": "http://a", "headers": {"a": "b\nc"}}"#, Some("headers")),
        ] {
            let settings: WebhookSettings = serde_json::from_str(json).expect("they are settings");
            let found = settings.check().err();
            match expected {
                None => assert_eq!(found, None, "{json}"),
                Some(word) => assert!(found.is_some_and(|reason| reason.starts_with(word)), "{json}"),
            }
        }
        let shown = format!("{:?}", settings("http://a"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
