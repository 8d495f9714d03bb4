//! Jobs: which there are, and how they are changed. What changes is done by the service, on a thread that may
//! wait.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures_util::StreamExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Kind, Problem};
use super::shapes::JobView;
use super::{Api, Path};
use crate::service::{Applied, Changes, Service, ServiceError};

/// Longest job file, or function, that is taken.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How much of a body that is too long is read.
const READ_BYTES_MAX: usize = 64 << 20;

/// Jobs by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobList {
    jobs: Vec<JobView>,
}

/// All jobs.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", responses((status = 200, body = JobList)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<JobList> {
    let mut jobs = Vec::new();
    for job in api.board.all() {
        jobs.push(JobView::new(&job, job.overview().await.as_ref()));
    }
    Json(JobList { jobs })
}

/// One job.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = JobView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let job = api.job(&job)?;
    Ok(Json(JobView::new(&job, job.overview().await.as_ref())))
}

/// The definition of a job as it was applied.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/definition", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, description = "YAML", content_type = "text/plain", body = String),
              (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn definition(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    api.job(&job)?;
    let text = changed(&api, move |service| service.definition(&job)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// What applying a definition would change. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/plan", tag = "jobs",
    request_body(content = String, content_type = "application/yaml", description = "a job file"),
    responses((status = 200, body = Changes), (status = 409, body = Problem), (status = 413, body = Problem),
              (status = 422, body = Problem))
)]
pub(super) async fn plan(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Changes>, Problem> {
    let text = body.text()?;
    Ok(Json(changed(&api, move |service| service.plan(&text)).await?))
}

/// Applies a definition: the job is made, or changed with its twins kept. The same one again changes nothing.
#[utoipa::path(
    put, path = "/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path)),
    request_body(content = String, content_type = "application/yaml", description = "a job file"),
    responses((status = 200, body = Applied), (status = 201, body = Applied), (status = 400, body = Problem),
              (status = 409, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn apply(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Applied>), Problem> {
    let text = body.text()?;
    let applied = changed(&api, move |service| service.apply(&job, &text)).await?;
    let status = if applied.is_new() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(applied)))
}

/// Stops hearing the physical twins; the twins live on, and answer.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/pause", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = JobView), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<JobView>, Problem> {
    steer(api, job, Service::pause).await
}

/// Hears the physical twins again, from where it stopped.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/resume", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = JobView), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<JobView>, Problem> {
    steer(api, job, Service::resume).await
}

/// Ends a job for good: its twins are Done, and still answer.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/cancel", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = JobView), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<JobView>, Problem> {
    steer(api, job, Service::cancel).await
}

/// Lets go of a job that was cancelled: its twins are Stopped, and its state is removed. Its archive stays.
#[utoipa::path(
    delete, path = "/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 400, body = Problem),
              (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn dismiss(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<StatusCode, Problem> {
    api.job(&job)?;
    changed(&api, move |service| service.dismiss(&job)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a request brings.
pub(super) struct Body(Result<Vec<u8>, Problem>);

impl Body {
    pub(super) fn bytes(self) -> Result<Vec<u8>, Problem> {
        self.0
    }

    pub(super) fn text(self) -> Result<String, Problem> {
        text(self.0?)
    }
}

/// A body that is to be a text.
pub(super) fn text(body: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(body).map_err(|_| Problem::new(Kind::BadRequest, "the body is no text in UTF-8"))
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(read(request).await))
    }
}

/// Reads a body. Of one that is too long the rest is read as well, within reason: a client that is cut off while it
/// sends may never see the answer.
async fn read(request: Request) -> Result<Vec<u8>, Problem> {
    let mut chunks = request.into_body().into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0);
    while length <= READ_BYTES_MAX
        && let Some(chunk) = chunks.next().await
    {
        let chunk = chunk.map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
        length += chunk.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&chunk);
        }
    }
    match length {
        0..=BODY_BYTES_MAX => Ok(bytes),
        _ => Err(Problem::new(Kind::TooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes"))),
    }
}

async fn steer(
    api: Arc<Api>,
    name: String,
    change: fn(&Service, &str) -> Result<(), ServiceError>,
) -> Result<Json<JobView>, Problem> {
    api.job(&name)?;
    let job = name.clone();
    changed(&api, move |service| change(service, &name)).await?;
    show(State(api), Path(job)).await
}

/// Has the service do something, where it holds up nobody.
pub(super) async fn changed<T: Send + 'static>(
    api: &Api,
    change: impl FnOnce(&Service) -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, Problem> {
    let service = api.service()?;
    match tokio::task::spawn_blocking(move || change(&service)).await {
        Ok(outcome) => outcome.map_err(Problem::from),
        Err(error) => Err(Problem::new(Kind::Internal, error.to_string())),
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let kind = match &error {
            ServiceError::Unknown(_) => Kind::UnknownJob,
            ServiceError::Invalid(findings) => return Problem::of_findings(findings),
            ServiceError::OtherName { .. } => Kind::BadRequest,
            ServiceError::Refused(_) | ServiceError::Conflicts(_) | ServiceError::NotStarted(_) => {
                Kind::Refused
            }
            ServiceError::NotNow(_) => Kind::NotNow,
            ServiceError::Disk { .. } => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}
