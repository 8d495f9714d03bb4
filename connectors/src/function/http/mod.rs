//! `http`: functions behind an HTTP endpoint, as Fission, Knative, OpenFaaS and Azure Functions serve them.
//!
//! ```text
//!  calls ─► queue, bounded ─► dispatcher ─ a permit each ─► request ─► answer, or again after a pause
//!                                │  `concurrency` of them, on one thread for all functions of the process;
//!                                │  while the job has functions' time left
//!                                └─ breaker open: failed at once, the endpoint is left in peace
//! ```
//! A call is a CloudEvent 1.0 (HTTP protocol binding 1.0.2): in binary mode, with its attributes as headers and
//! the data as the body, so that a handler that knows nothing of CloudEvents gets plain JSON; structured; or
//! many in one batch. The answer is a JSON object, or a CloudEvent whose data is one.

mod breaker;
mod event;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indexmap::IndexMap;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use self::breaker::Breaker;
use super::allowance::{Spending, USED_UP};
use super::{ANSWER_BYTES_MAX, Answer, Call, Failure, FailureKind, FunctionRunner, Meter, Status};
use crate::endpoint;
use crate::secret::Secret;

/// Most requests of one function that are under way.
const CONCURRENCY_MAX: usize = 10_000;
/// Most calls in one request.
const BATCH_MAX: usize = 1_000;
/// The pause before the last of many attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A function behind HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Where it is called: `http://` or `https://`.
    pub url: String,
    /// How a call is written.
    #[serde(default)]
    pub format: HttpFormat,
    /// Most calls in one request; more than one are a CloudEvents batch, of what waits when a request can go.
    #[serde(default = "batch_default")]
    pub batch: usize,
    /// Most requests that are under way.
    #[serde(default = "concurrency_default")]
    pub concurrency: usize,
    /// Most calls that wait for their request; one more fails.
    #[serde(default = "queue_default")]
    pub queue: usize,
    /// How often a request that failed is made again, while its calls are waited for.
    #[serde(default = "retries_default")]
    pub retries: u32,
    /// The pause before it is made again; each next one is twice as long, up to 5 s.
    #[serde(default = "pause_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub pause: Duration,
    /// How long one attempt may take; all of them together take no longer than the function's `timeout`.
    #[serde(default = "attempt_default", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub attempt: Duration,
    /// When the endpoint is left in peace.
    #[serde(default)]
    pub breaker: BreakerSettings,
    /// Most bytes of an answer to one call.
    #[serde(default = "answer_max_default")]
    #[schemars(with = "String", extend("format" = "size"))]
    pub answer_max: ByteSize,
    /// Headers, such as `Authorization: "Bearer ${TOKEN}"`; their values are not shown.
    #[serde(default)]
    pub headers: IndexMap<String, Secret>,
}

/// How a call is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpFormat {
    /// The data alone is the body; what the event says of itself are headers.
    #[default]
    Binary,
    /// The whole event is the body.
    Structured,
}

/// When a function is not called any more for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Attempts that failed in a row, after which calls fail at once.
    pub failures: u32,
    /// How long, before one call is let through to try.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 10, pause: Duration::from_secs(10) }
    }
}

fn batch_default() -> usize {
    1
}

fn concurrency_default() -> usize {
    64
}

fn queue_default() -> usize {
    10_000
}

fn retries_default() -> u32 {
    2
}

fn pause_default() -> Duration {
    Duration::from_millis(100)
}

fn attempt_default() -> Duration {
    Duration::from_secs(10)
}

fn answer_max_default() -> ByteSize {
    ByteSize::b(ANSWER_BYTES_MAX as u64)
}

/// Why there is no function.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A setting that cannot work.
    #[error("{0}")]
    Settings(String),
    /// The thread or the client that all functions share.
    #[error("cannot start what makes HTTP requests: {0}")]
    Start(String),
}

impl HttpSettings {
    /// Says what cannot work, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        if !endpoint::is_url(&self.url) {
            let url = &self.url;
            return Err(format!("url `{url}` is no address of a function; write http://host/path"));
        }
        for (key, number, max) in [
            ("batch", self.batch, BATCH_MAX),
            ("concurrency", self.concurrency, CONCURRENCY_MAX),
            ("queue", self.queue, 1_000_000),
        ] {
            if !(1..=max).contains(&number) {
                return Err(format!("{key} is {number}; write a number from 1 to {max}"));
            }
        }
        if self.attempt.is_zero() || self.breaker.failures == 0 || self.answer_max.as_u64() == 0 {
            return Err("attempt, breaker.failures and answer_max are more than 0; leave them out for \
                        10s, 10 and 1MB"
                .into());
        }
        endpoint::headers(&self.headers).map(drop)
    }
}

/// A function behind HTTP, ready to be called.
pub struct HttpFunction {
    shared: Arc<Shared>,
    calls: mpsc::UnboundedSender<Call>,
}

struct Shared {
    settings: HttpSettings,
    headers: Vec<(HeaderName, HeaderValue)>,
    client: Client,
    breaker: Breaker,
    meter: Arc<Meter>,
    /// There may be functions' time again.
    is_allowed: Arc<Notify>,
    /// Calls that were taken and not answered.
    in_flight: AtomicU64,
}

/// Gets a function ready. One that is away is no error: its calls fail, and are tried again.
pub fn start(settings: &HttpSettings) -> Result<Arc<HttpFunction>, HttpError> {
    settings.check().map_err(HttpError::Settings)?;
    let runtime = runtime()?;
    let is_allowed = Arc::<Notify>::default();
    let waiting = is_allowed.clone();
    let shared = Arc::new(Shared {
        meter: Arc::new(Meter::new(Arc::new(move || waiting.notify_waiters()))),
        is_allowed,
        headers: endpoint::headers(&settings.headers).map_err(HttpError::Settings)?,
        client: client()?,
        breaker: Breaker::new(settings.breaker),
        in_flight: AtomicU64::new(0),
        settings: settings.clone(),
    });
    let (calls, received) = mpsc::unbounded_channel();
    runtime.spawn(dispatch(shared.clone(), received));
    Ok(Arc::new(HttpFunction { shared, calls }))
}

/// The thread that makes the requests of all functions of the process, from the first of them on.
fn runtime() -> Result<&'static Runtime, HttpError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(1).thread_name("functions-http").enable_all();
        builder.build().map_err(|error| error.to_string())
    });
    runtime.as_ref().map_err(|error| HttpError::Start(error.clone()))
}

/// The client of all functions of the process: to read the certificates that the system trusts takes tens of
/// milliseconds, which a new version of a function should not.
fn client() -> Result<Client, HttpError> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        // Where a redirect leads was not asked for by whoever wrote the job.
        let builder = Client::builder().redirect(Policy::none()).no_proxy();
        let builder = builder.user_agent(concat!("twinloom/", env!("CARGO_PKG_VERSION")));
        builder.build().map_err(|error| error.to_string())
    });
    client.clone().map_err(HttpError::Start)
}

impl FunctionRunner for HttpFunction {
    fn call(&self, call: Call) -> Result<(), Call> {
        let settings = &self.shared.settings;
        let room = (settings.queue + settings.concurrency * settings.batch) as u64;
        let in_flight = &self.shared.in_flight;
        let add = |number: u64| (number < room).then_some(number + 1);
        if in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return Err(call);
        }
        self.calls.send(call).map_err(|refused| {
            in_flight.fetch_sub(1, Ordering::Relaxed);
            refused.0
        })
    }

    fn status(&self) -> Status {
        Status {
            in_flight: self.shared.in_flight.load(Ordering::Relaxed),
            is_open: self.shared.breaker.is_open(Instant::now()),
            instances: 0,
        }
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.shared.meter)
    }
}

/// Deals out calls to requests, until the function is let go of.
async fn dispatch(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<Call>) {
    let permits = Arc::new(Semaphore::new(shared.settings.concurrency));
    while let Some(first) = calls.recv().await {
        // It is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Some(spending) = shared.begin(first.deadline).await else {
            shared.fail(vec![first], &Failure::new(FailureKind::Timeout, USED_UP));
            continue;
        };
        let mut batch = vec![first];
        while batch.len() < shared.settings.batch
            && let Ok(call) = calls.try_recv()
        {
            batch.push(call);
        }
        tokio::spawn(answer(shared.clone(), batch, permit, spending));
    }
}

/// Has calls answered, each once.
async fn answer(
    shared: Arc<Shared>,
    mut calls: Vec<Call>,
    permit: OwnedSemaphorePermit,
    mut spending: Spending,
) {
    let mut pause = shared.settings.pause;
    let mut left = shared.settings.retries;
    loop {
        let now = Instant::now();
        let (open, over) = by_deadline(calls, now);
        shared.fail(over, &Failure::new(FailureKind::Timeout, "no answer in time"));
        calls = open;
        let Some(until) = calls.iter().map(|call| call.deadline).max() else { return };
        if !shared.breaker.lets_through(now) {
            let message = "the endpoint has failed too often and is left in peace for a while";
            return shared.fail(calls, &Failure::unavailable(message));
        }
        let patience = shared.settings.attempt.min(until - now);
        let outcome = match tokio::time::timeout(patience, shared.request(&calls)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Again(Failure::new(FailureKind::Timeout, "no answer in time")),
        };
        drop(spending);
        match outcome {
            Outcome::Answered(answers) => {
                shared.breaker.succeeded();
                return shared.give(calls, answers);
            }
            Outcome::Refused(failure) => {
                // It answers, and says no.
                shared.breaker.succeeded();
                return shared.fail(calls, &failure);
            }
            Outcome::Again(failure) => {
                if shared.breaker.failed(Instant::now())
                    && let Some(call) = calls.first()
                {
                    let (job, function) = (&call.key.job, &call.key.function);
                    warn!(%job, %function, %failure, "function fails; its calls fail at once for a while");
                }
                if left == 0 || Instant::now() + pause >= until {
                    return shared.fail(calls, &failure);
                }
                left -= 1;
            }
        }
        // The permit is kept: a function that fails is not called more often for it.
        let _ = &permit;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        spending = loop {
            let Some(first) = calls.iter().map(|call| call.deadline).min() else { return };
            if let Some(begun) = shared.begin(first).await {
                break begun;
            }
            let (open, over) = by_deadline(calls, Instant::now());
            shared.fail(over, &Failure::new(FailureKind::Timeout, USED_UP));
            calls = open;
        };
    }
}

/// What came of a request.
enum Outcome {
    /// One result a call, in their order.
    Answered(Vec<Result<Vec<u8>, Failure>>),
    /// It would be refused another time, too.
    Refused(Failure),
    /// It may be answered another time.
    Again(Failure),
}

/// Calls that are waited for at this instant, and those for which it is too late.
fn by_deadline(calls: Vec<Call>, now: Instant) -> (Vec<Call>, Vec<Call>) {
    calls.into_iter().partition(|call| call.deadline > now)
}

impl Shared {
    /// Waits until there is functions' time for a request, but not past an instant.
    async fn begin(&self, until: Instant) -> Option<Spending> {
        let mut is_held = false;
        loop {
            // Before it is asked, so that no end goes by unheard.
            let mut allowed = std::pin::pin!(self.is_allowed.notified());
            allowed.as_mut().enable();
            let wait = match self.meter.begin() {
                Ok(spending) => return Some(spending),
                Err(wait) => wait,
            };
            if !std::mem::replace(&mut is_held, true) {
                self.meter.hold();
            }
            let now = Instant::now();
            if now >= until {
                return None;
            }
            // Woken or not, it asks again.
            let _ = tokio::time::timeout(wait.min(until - now), allowed).await;
        }
    }

    async fn request(&self, calls: &[Call]) -> Outcome {
        let message = event::encode(calls, self.settings.format, self.settings.batch > 1);
        let mut request = self.client.post(&self.settings.url).header(CONTENT_TYPE, message.content_type);
        for (name, value) in message.headers {
            request = request.header(name, value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = match request.body(message.body).send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Again(Failure::new(FailureKind::Error, causes(&error))),
        };
        let status = response.status();
        if status.is_success() {
            return self.read(calls, response).await;
        }
        let hint =
            if status.is_redirection() { "; redirects are not followed, call where it leads" } else { "" };
        let failure = Failure::new(FailureKind::Error, format!("the endpoint answers {status}{hint}"));
        match status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            true => Outcome::Again(failure),
            false => Outcome::Refused(failure),
        }
    }

    /// Reads a good answer, as far as it may go.
    async fn read(&self, calls: &[Call], mut response: Response) -> Outcome {
        let bytes_max = self.settings.answer_max.as_u64().saturating_mul(calls.len() as u64);
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    let message = format!("the answer has more than {bytes_max} bytes");
                    return Outcome::Refused(Failure::new(FailureKind::TooLarge, message));
                }
                Ok(None) => break,
                Err(error) => return Outcome::Again(Failure::new(FailureKind::Error, causes(&error))),
            }
        }
        match event::decode(calls, &content_type, body) {
            Ok(answers) => Outcome::Answered(answers),
            Err(reason) => Outcome::Refused(Failure::new(FailureKind::Error, reason)),
        }
    }

    fn give(&self, calls: Vec<Call>, answers: Vec<Result<Vec<u8>, Failure>>) {
        self.in_flight.fetch_sub(calls.len() as u64, Ordering::Relaxed);
        for (call, result) in calls.into_iter().zip(answers) {
            call.inbox.put([Answer { ticket: call.ticket, result }]);
        }
    }

    fn fail(&self, calls: Vec<Call>, failure: &Failure) {
        let answers = calls.iter().map(|_| Err(failure.clone())).collect();
        self.give(calls, answers);
    }
}

/// An error and what is behind it, in a line, without the address, which the user knows and which may have a
/// secret in it.
fn causes(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_connect() => "cannot connect".to_owned(),
        () if error.is_body() || error.is_decode() => "the answer broke off".to_owned(),
        () => "the request failed".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    let mut last = None;
    while let Some(one) = source {
        last = Some(one.to_string());
        source = one.source();
    }
    if let Some(last) = last {
        text += ": ";
        text += &last;
    }
    text
}
