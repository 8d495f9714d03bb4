//! Changes as server-sent events: those of a job, or of one twin. They come from the job's feed, a log in memory
//! that is bounded: who is slow costs nothing, and is told of what it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use connectors::feed::{self, Follower, Keys, Message};
use futures_util::stream::{self, Stream};
use operators::digital::DigitalKind;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::problem::{Kind, Problem};
use super::{Api, Path, Query};
use crate::live::LiveJob;

/// Messages that a client may be behind; beyond, it gets the newest of each twin only, or is cut off.
const BEHIND_MAX: usize = 1_024;

/// What is followed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Only these kinds, with commas: `state,entanglement,lifecycle,event`
    kinds: Option<String>,
    /// Those of twins whose id begins so
    prefix: Option<String>,
    /// Those of twins of this type
    #[serde(rename = "type")]
    twin_type: Option<String>,
    /// What becomes of a client that is slow: `newest` (default) leaves out states that a later one of the twin
    /// replaces, `cut` ends the stream
    slow: Option<String>,
}

/// Which messages of a feed a client wants.
struct Filter {
    twin: Option<String>,
    prefix: String,
    twin_type: Option<String>,
    kinds: Vec<DigitalKind>,
    cuts: bool,
}

impl Filter {
    fn new(params: StreamParams, twin: Option<String>) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
        let cuts = match params.slow.as_deref() {
            None | Some("newest") => false,
            Some("cut") => true,
            Some(other) => return Err(bad(format!("slow={other} is not known; write newest or cut"))),
        };
        let kinds = match params.kinds.as_deref() {
            None => DigitalKind::ALL.to_vec(),
            Some(text) => {
                let words = text.split(',').map(str::trim);
                let kind = |word: &str| {
                    DigitalKind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
                        bad(format!(
                            "there is no kind `{word}`; write state, entanglement, lifecycle or event"
                        ))
                    })
                };
                words.map(kind).collect::<Result<_, _>>()?
            }
        };
        let (prefix, twin_type) = (params.prefix.unwrap_or_default(), params.twin_type);
        Ok(Self { twin, prefix, twin_type, kinds, cuts })
    }

    /// What must be made for it.
    fn of_feed(&self) -> feed::Filter {
        let keys = match &self.twin {
            Some(twin) => Keys::One(twin.clone().into_bytes().into()),
            None => Keys::Prefix(self.prefix.clone().into_bytes().into()),
        };
        let classes = self.kinds.iter().fold(0, |classes, kind| classes | 1 << *kind as u32);
        feed::Filter { classes, keys }
    }

    fn wants(&self, message: &Message) -> bool {
        // The key first, as most clients follow few twins.
        let is_it = self.twin.as_ref().is_none_or(|twin| message.key == twin.as_bytes());
        if !is_it || !message.key.starts_with(self.prefix.as_bytes()) {
            return false;
        }
        let (twin_type, kind) = topic(message);
        self.twin_type.as_ref().is_none_or(|wanted| twin_type == wanted)
            && self.kinds.iter().any(|wanted| wanted.word() == kind)
    }
}

/// Type and kind, of which the topics of a feed are made.
fn topic(message: &Message) -> (&str, &str) {
    let topic = std::str::from_utf8(&message.topic).unwrap_or_default();
    topic.rsplit_once('.').unwrap_or(("", topic))
}

/// Changes of all twins of a job.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/stream", tag = "streams", params(("job" = String, Path), StreamParams),
    responses((status = 200, description = "events named by their kind; `missed` says how many are gone",
               content_type = "text/event-stream", body = String),
              (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn of_job(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
    Query(params): Query<StreamParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let job = api.job(&job)?;
    Ok(follow(job, Filter::new(params, None)?, &headers))
}

/// Changes of one twin.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins/{twin}/stream", tag = "streams",
    params(("job" = String, Path), ("twin" = String, Path), StreamParams),
    responses((status = 200, description = "events named by their kind; `missed` says how many are gone",
               content_type = "text/event-stream", body = String),
              (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn of_twin(
    State(api): State<Arc<Api>>,
    Path((job, twin)): Path<(String, String)>,
    Query(params): Query<StreamParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let job = api.job(&job)?;
    Ok(follow(job, Filter::new(params, Some(twin))?, &headers))
}

/// A client's place in a feed.
struct Client {
    job: Arc<LiveJob>,
    follower: Follower,
    filter: Filter,
    ready: VecDeque<Event>,
    is_over: bool,
}

fn follow(
    job: Arc<LiveJob>,
    filter: Filter,
    headers: &HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let follower = job.feed().follow(filter.of_feed(), last.and_then(|id| job.event_number(id)));
    let client = Client { job, follower, filter, ready: VecDeque::new(), is_over: false };
    let events = stream::unfold(client, async |mut client| {
        let event = client.next().await?;
        Some((Ok(event), client))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

impl Client {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if self.is_over {
                return None;
            }
            self.read().await;
        }
        self.ready.pop_front()
    }

    async fn read(&mut self) {
        let filter = &self.filter;
        let keeps = |message: &Message| {
            let kind = topic(message).1;
            kind == DigitalKind::Lifecycle.word() || kind == DigitalKind::Event.word()
        };
        let most = if filter.cuts { usize::MAX } else { BEHIND_MAX };
        let read = self.follower.read(most, |message| filter.wants(message), keeps).await;
        if read.missed > 0 || (filter.cuts && read.messages.len() > BEHIND_MAX) {
            let missed = json!({"missed": read.missed, "cut": filter.cuts});
            self.ready.push_back(Event::default().event("missed").data(missed.to_string()));
            if filter.cuts {
                self.is_over = true;
                return;
            }
        }
        for message in read.messages {
            let Ok(json) = std::str::from_utf8(&message.payload) else { continue };
            let kind = topic(&message).1;
            let event = Event::default().event(kind).id(self.job.event_id(message.number)).data(json);
            self.ready.push_back(event);
        }
    }
}
