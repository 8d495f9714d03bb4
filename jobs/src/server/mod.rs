//! The digital interface of a process: jobs and twins over HTTP, streams of their changes, one page for the
//! browser, metrics and health.
//!
//! ```text
//!   /v1/jobs …                 jobs: what runs; with a service also plan, apply, pause, resume, cancel, dismiss
//!   /v1/jobs/{job}/twins …     twins: their owners answer, through the board's asker
//!   …/stream                   stream: the feed of a job, as server-sent events
//!   /  /metrics  /health  /openapi.json
//! ```
//! Loopback only: whoever reaches it needs no token, so it must not be reached from outside.

mod endings;
mod fleet;
mod functions;
mod jobs;
mod listener;
mod metrics;
mod overview;
mod page;
mod problem;
mod query;
mod shapes;
mod stream;
mod twins;
mod why;

pub(crate) use fleet::FleetView;
pub(crate) use shapes::TwinView;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::{Semaphore, oneshot};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::live::{Board, LiveJob, Status};
use crate::service::Service;
use listener::Limited;
use problem::{Kind, Problem};
pub(crate) use query::{Path, Query};

/// Connections that are served at once, where the system lets the process have as many files twice.
const CONNECTIONS_MAX: usize = 4_096;
/// Reads of history that go on at once.
const READERS_MAX: usize = 2;
/// How often the fleets are looked at for their trend.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    api: Arc<Api>,
    /// Dropped to end the server.
    _stop: oneshot::Sender<()>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Others could reach it.
    #[error(
        "--listen {0} can be reached from outside; write a loopback address such as 127.0.0.1:{port} (tokens and TLS come later)",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// What the handlers work with.
pub(crate) struct Api {
    board: Arc<Board>,
    /// Changes jobs; a `run` has none.
    service: Option<Arc<Service>>,
    is_ending: AtomicBool,
    readers: Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("is_ending", &self.is_ending).finish_non_exhaustive()
    }
}

/// How many connections are served at once: half of the files that the process may open, as the engine needs
/// some, too. The system's limit is raised as far as it goes first.
fn connections_max() -> usize {
    let files = rlimit::increase_nofile_limit(4 * CONNECTIONS_MAX as u64).unwrap_or(1_024);
    CONNECTIONS_MAX.min(usize::try_from(files / 2).unwrap_or(CONNECTIONS_MAX))
}

/// Whether a server may listen there.
pub fn check(address: SocketAddr) -> Result<(), ServerError> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(ServerError::NotLoopback(address)),
    }
}

impl Server {
    /// Starts to answer for the jobs of a board, which a service may change.
    pub fn start(
        address: SocketAddr,
        board: Arc<Board>,
        service: Option<Arc<Service>>,
    ) -> Result<Self, ServerError> {
        check(address)?;
        let failed = |error: io::Error| ServerError::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let api = Arc::new(Api {
            board,
            service,
            is_ending: AtomicBool::new(false),
            readers: Semaphore::new(READERS_MAX),
        });
        let router = router(api.clone());
        let (stop, stopped) = oneshot::channel();
        let sampled = api.clone();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let listener = Limited::new(listener, connections_max());
            tokio::select! {
                served = axum::serve(listener, router) => served,
                () = sampled.sample() => Ok(()),
                _ = stopped => Ok(()),
            }
        };
        let thread = std::thread::Builder::new().name("server".into());
        let body = move || {
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!(%error, "server ended");
            }
            // What still reads files is not waited for.
            runtime.shutdown_background();
        };
        thread.spawn(body).map_err(failed)?;
        tracing::info!(%address, "serving http://{address}/");
        Ok(Self { address, api, _stop: stop })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process is about to end: it is not ready any more.
    pub fn ending(&self) {
        self.api.is_ending.store(true, Ordering::Relaxed);
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Twinloom",
    description = "Digital twins of a fleet, and the jobs that keep them. Errors are problem+json (RFC 9457).",
    license(name = "Apache-2.0")
))]
struct Description;

/// The interface and its description, from one list.
fn described() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(overview::overview))
        .routes(routes!(overview::stream))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::plan))
        .routes(routes!(jobs::show, jobs::apply, jobs::dismiss))
        .routes(routes!(jobs::definition))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::cancel))
        .routes(routes!(functions::list))
        .routes(routes!(functions::put, functions::remove))
        .routes(routes!(functions::rollback))
        .routes(routes!(functions::promote))
        .routes(routes!(functions::drop_shadow))
        .routes(routes!(overview::trend))
        .routes(routes!(fleet::show))
        .routes(routes!(stream::of_job))
        .routes(routes!(twins::why_all))
        .routes(routes!(twins::list))
        .routes(routes!(twins::read))
        .routes(routes!(endings::retire))
        .routes(routes!(endings::dismiss))
        .routes(routes!(twins::property))
        .routes(routes!(twins::history))
        .routes(routes!(twins::why_one))
        .routes(routes!(stream::of_twin))
        .routes(routes!(twins::read_alias))
        .routes(routes!(metrics::show))
}

/// Gives every answer that is an error its content type.
fn with_problems(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for path in description.paths.paths.values_mut() {
        let operations =
            [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten();
        for (status, response) in operations.flat_map(|one| &mut one.responses.responses) {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
                && let Some(content) = response.content.shift_remove("application/json")
            {
                response.content.insert("application/problem+json".into(), content);
            }
        }
    }
    description
}

fn router(api: Arc<Api>) -> Router {
    let (router, description) = described().split_for_parts();
    let description = with_problems(description);
    router
        .merge(page::routes())
        .route("/openapi.json", get(async move || Json(description)))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(show_ready))
        .fallback(async |uri: Uri| {
            Problem::new(
                Kind::NoPath,
                format!("there is nothing at {}; /openapi.json says what there is", uri.path()),
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::NoMethod, "see /openapi.json for what can be done here")
        })
        .layer(middleware::from_fn(guard))
        .with_state(api)
}

/// What holds for every request and answer.
async fn guard(request: Request, next: Next) -> Response {
    if !is_for_us(request.headers()) {
        let detail = "the request is not for this machine's own name; use 127.0.0.1 or localhost";
        return Problem::new(Kind::BadRequest, detail).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

/// Whether a request comes from this machine by its own name: a page of another origin may make a browser send
/// requests to loopback, under a name of its own even.
fn is_for_us(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
    text(header::HOST).is_none_or(is_local) && origin.is_none_or(is_local)
}

/// Whether `host` or `host:port` is this machine as only itself can call it.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn show_ready(State(api): State<Arc<Api>>) -> (StatusCode, String) {
    match api.unready() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

impl Api {
    /// The job with this name.
    fn job(&self, name: &str) -> Result<Arc<LiveJob>, Problem> {
        self.board.find(name).ok_or_else(|| {
            Problem::new(Kind::UnknownJob, format!("there is no job `{name}`; /v1/jobs lists them"))
        })
    }

    /// What changes jobs.
    fn service(&self) -> Result<Arc<Service>, Problem> {
        self.service.clone().ok_or_else(|| {
            let detail = "this process runs one job, from the command line; `twinloom serve` takes changes";
            Problem::new(Kind::NotNow, detail)
        })
    }

    /// Why the process is not ready, if it is not.
    fn unready(&self) -> Option<String> {
        if self.is_ending.load(Ordering::Relaxed) {
            return Some("the run is ending".into());
        }
        // A server is ready for its other jobs, whatever one of them waits for.
        let jobs = if self.service.is_some() { Vec::new() } else { self.board.all() };
        let sources = jobs.iter().filter_map(|job| Some(job.running.as_ref()?.metrics.sources()));
        let mut lost = sources.flatten().filter(|(_, stats)| !stats.connected.load(Ordering::Relaxed));
        lost.next().map(|(name, stats)| match stats.trouble() {
            Some(trouble) => format!("the source {name} is not reached: {trouble}"),
            None => format!("the source {name} is not reached"),
        })
    }

    /// Looks at the fleets now and then, for their trend.
    async fn sample(&self) {
        loop {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            for job in self.board.all() {
                if job.status == Status::Running {
                    job.sample(SAMPLE_INTERVAL).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
