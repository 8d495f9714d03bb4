//! A function behind HTTP, in this process: it answers after the delay of a network, and late while it starts.
//!
//! ```text
//!  request ─► is it cold? then wait until it has started, as all do that come meanwhile ─► delay ─► answer
//! ```
//! The delay is a timer that keeps nobody busy, and is rounded up to the timer's whole milliseconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// What its thread is called, so that its CPU can be told from the engine's.
pub const THREAD: &str = "endpoint";

/// An endpoint on a port of its own, until it is dropped.
pub struct Endpoint {
    /// Where it is called.
    pub url: String,
    function: Arc<Function>,
    runtime: Option<Runtime>,
}

struct Function {
    delay: Duration,
    cold_start: Duration,
    warm: Mutex<Warm>,
}

enum Warm {
    Cold,
    From(Instant),
}

impl Endpoint {
    /// One that is warm, and answers after `delay`.
    pub fn start(delay: Duration, cold_start: Duration) -> Self {
        let warm = Mutex::new(Warm::From(Instant::now()));
        let function = Arc::new(Function { delay, cold_start, warm });
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name(THREAD).enable_all().build();
        let runtime = runtime.expect("the system gives a thread");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        // Else a small answer may wait for an acknowledgement.
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("it is a socket"));
        let router = Router::new().route("/f", post(answer)).with_state(function.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url: format!("http://{address}/f"), function, runtime: Some(runtime) }
    }

    /// Has it start anew with the next request.
    pub fn chill(&self) {
        *self.function.warm.lock().unwrap_or_else(PoisonError::into_inner) = Warm::Cold;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Function {
    /// When it is there for who comes now.
    fn warm_at(&self) -> Instant {
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        match *warm {
            Warm::From(at) => at,
            Warm::Cold => {
                let at = Instant::now() + self.cold_start;
                *warm = Warm::From(at);
                at
            }
        }
    }
}

async fn answer(State(function): State<Arc<Function>>, Json(body): Json<Value>) -> Json<Value> {
    let wait = function.warm_at().saturating_duration_since(Instant::now()) + function.delay;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let one = |call: &Value| {
        let t = call["properties"]["t"].as_f64().expect("a call has the property that the function is of");
        json!({"f": t * 1.8 + 32.0})
    };
    Json(match &body {
        // A batch is events, and is answered in their order.
        Value::Array(events) => events.iter().map(|event| one(&event["data"])).collect(),
        call => one(call),
    })
}
