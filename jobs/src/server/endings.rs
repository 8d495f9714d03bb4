//! Twins that end one by one, by hand (rule 5.6).

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use dataflows::Ending;

use super::jobs::changed;
use super::problem::Problem;
use super::shapes::TwinView;
use super::twins::{ReadParams, answer};
use super::{Api, Path};

/// Retires a twin: it is Done, takes no more updates, and still answers.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/twins/{twin}/retire", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path)),
    responses((status = 200, body = TwinView), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn retire(
    State(api): State<Arc<Api>>,
    Path((job, twin)): Path<(String, String)>,
) -> Result<Response, Problem> {
    end(&api, &job, &twin, Ending::Retire).await
}

/// Lets go of a twin: it is Stopped, which only a new start on an empty data folder undoes.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/twins/{twin}/dismiss", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path)),
    responses((status = 200, body = TwinView), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn dismiss(
    State(api): State<Arc<Api>>,
    Path((job, twin)): Path<(String, String)>,
) -> Result<Response, Problem> {
    end(&api, &job, &twin, Ending::Dismiss).await
}

async fn end(api: &Api, job: &str, twin: &str, ending: Ending) -> Result<Response, Problem> {
    let live = api.job(job)?;
    // Nobody is retired who is not there.
    let there = answer(&live, twin, ReadParams::default(), &HeaderMap::new()).await?;
    drop(there);
    let (name, id) = (job.to_owned(), twin.to_owned());
    changed(api, move |service| service.end_twin(&name, &id, ending)).await?;
    answer(&live, twin, ReadParams::default(), &HeaderMap::new()).await
}
