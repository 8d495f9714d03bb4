//! `/metrics`, `/health/live` and `/health/ready` of one run, on a loopback port.
//!
//! Loopback only: whoever reaches it needs no token, so it must not be reached from outside.

mod metrics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use dataflows::Metrics;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Dropped to end the server.
    _stop: oneshot::Sender<()>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Others could reach it.
    #[error(
        "--listen {0} can be reached from outside; write a loopback address such as 127.0.0.1:9464 (tokens and TLS come later)"
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

struct Shared {
    metrics: Arc<Metrics>,
    registry: Registry,
    is_ending: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("is_ending", &self.is_ending).finish_non_exhaustive()
    }
}

/// Whether a server may listen there.
pub fn check(address: SocketAddr) -> Result<(), ServerError> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(ServerError::NotLoopback(address)),
    }
}

impl Server {
    /// Starts to answer.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<Self, ServerError> {
        check(address)?;
        let failed = |error: io::Error| ServerError::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let shared = Arc::new(Shared {
            registry: metrics::registry(metrics.clone()),
            metrics,
            is_ending: AtomicBool::new(false),
        });
        let router = router(shared.clone());
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::select! {
                served = axum::serve(listener, router) => served,
                _ = stopped => Ok(()),
            }
        };
        let thread = std::thread::Builder::new().name("server".into());
        let body = move || {
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!(%error, "server ended");
            }
        };
        thread.spawn(body).map_err(failed)?;
        tracing::info!(%address, "metrics and health are served");
        Ok(Self { address, shared, _stop: stop })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The run is about to end: it is not ready any more.
    pub fn ending(&self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(show_ready))
        .with_state(shared)
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match metrics::encode(&shared.registry) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], format!("{error}\n"))
        }
    }
}

async fn show_ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.unready() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

impl Shared {
    /// Why the run is not ready, if it is not.
    fn unready(&self) -> Option<String> {
        if self.is_ending.load(Ordering::Relaxed) {
            return Some("the run is ending".into());
        }
        let sources = self.metrics.sources();
        let lost = sources.iter().find(|(_, stats)| !stats.connected.load(Ordering::Relaxed));
        lost.map(|(name, _)| format!("the source {name} is not reached"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        answer
    }

    #[test]
    fn metrics_and_health_are_served_on_loopback() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(address, Arc::new(Metrics::default())).expect("a free port");
        for (path, status, text) in [
            ("/metrics", "200", "twinloom_events_total 0"),
            ("/health/live", "200", "live"),
            ("/health/ready", "200", "ready"),
            ("/", "404", ""),
        ] {
            let answer = ask(server.address(), path);
            let first = answer.lines().next().unwrap_or_default();
            assert!(first.contains(status) && answer.contains(text), "{path}: {answer}");
        }
        server.ending();
        assert!(ask(server.address(), "/health/ready").contains("503"));
    }

    #[test]
    fn what_others_could_reach_is_refused() {
        for (address, is_good) in [
            ("127.0.0.1:9464", true),
            ("[::1]:9464", true),
            ("0.0.0.0:9464", false),
            ("192.168.1.2:9464", false),
        ] {
            assert_eq!(check(address.parse().expect("an address")).is_ok(), is_good, "{address}");
        }
    }
}
