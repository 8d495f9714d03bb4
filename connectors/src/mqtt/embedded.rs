//! A small broker inside the process, for the demo and for fast tests: QoS 0 and 1, retained
//! messages, loopback only, nothing on disk.

use super::MqttError;
use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Memory of each subscription's log. A subscriber that falls behind by more than the log holds
/// misses messages, as a small broker has to.
const LOG_SEGMENT_BYTES: usize = 8 << 20;
const LOG_SEGMENTS: usize = 10;
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const START_MAX: Duration = Duration::from_secs(10);

/// A broker that lives until the process ends.
#[derive(Debug)]
pub struct Broker {
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Broker {
    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// Starts a broker on a free port of 127.0.0.1, and waits until it takes connections.
pub fn start() -> Result<Broker, MqttError> {
    let failed = |reason: String| MqttError::Embedded { reason };
    let address = free_address().map_err(|error| failed(error.to_string()))?;
    let mut broker = rumqttd::Broker::new(config(address));
    let serve = move || broker.start().map_err(|error| error.to_string());
    // The broker has no way to end, so its thread is not waited for.
    let thread = std::thread::Builder::new().name("mqtt-embedded".into()).spawn(serve);
    let thread = thread.map_err(|error| failed(error.to_string()))?;
    let started_at = Instant::now();
    while TcpStream::connect(address).is_err() {
        if thread.is_finished() || started_at.elapsed() > START_MAX {
            let reason = if thread.is_finished() { thread.join().ok().and_then(Result::err) } else { None };
            return Err(failed(reason.unwrap_or_else(|| format!("nothing listens on {address}"))));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Broker { port: address.port() })
}

/// A port that the system says is free. Another process may take it before the broker does, which
/// the broker then reports.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: PAYLOAD_BYTES_MAX,
        max_inflight_count: 1_000,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "embedded".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections,
    };
    let router = RouterConfig {
        max_connections: 1_000,
        max_outgoing_packet_count: 200,
        max_segment_size: LOG_SEGMENT_BYTES,
        max_segment_count: LOG_SEGMENTS,
        ..RouterConfig::default()
    };
    Config { router, v4: Some(HashMap::from([("embedded".to_owned(), server)])), ..Config::default() }
}
