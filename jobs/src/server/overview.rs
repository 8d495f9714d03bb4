//! All jobs at a glance, once and as they change.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use connectors::clock::{Clock, SystemClock};
use futures_util::stream::{self, Stream};

use super::problem::Problem;
use super::shapes::{JobView, OverviewView, TrendView};
use super::{Api, Path};
use crate::summary::instant;

/// How often an overview is sent.
const INTERVAL: Duration = Duration::from_secs(1);

impl Api {
    async fn look(&self) -> OverviewView {
        let mut jobs = Vec::new();
        for job in self.board.all() {
            jobs.push(JobView::new(&job, job.overview().await.as_ref()));
        }
        OverviewView { at: instant(SystemClock.wall_us()), jobs }
    }
}

/// All jobs, and how their fleets are.
#[utoipa::path(get, path = "/v1/overview", tag = "jobs", responses((status = 200, body = OverviewView)))]
pub(super) async fn overview(State(api): State<Arc<Api>>) -> Json<OverviewView> {
    Json(api.look().await)
}

/// The same, once a second, as server-sent events `overview`.
#[utoipa::path(
    get, path = "/v1/overview/stream", tag = "jobs",
    responses((status = 200, description = "events `overview`", content_type = "text/event-stream", body = String))
)]
pub(super) async fn stream(
    State(api): State<Arc<Api>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold((api, false), async |(api, is_later)| {
        if is_later {
            tokio::time::sleep(INTERVAL).await;
        }
        let overview = api.look().await;
        let event = Event::default().event("overview").json_data(overview).unwrap_or_default();
        Some((Ok(event), (api, true)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// How the fleet of a job was in the last time, a sample every 5 s.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/trend", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = TrendView), (status = 400, body = Problem),
              (status = 404, body = Problem))
)]
pub(super) async fn trend(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<TrendView>, Problem> {
    let job = api.job(&job)?;
    Ok(Json(TrendView { samples: job.trend().into_iter().map(Into::into).collect() }))
}
