//! The suite's Kafka (`tests/harness/kafka`), for benches: what it asks of its surroundings, and nothing
//! besides, so that a bench does not take in the whole harness.
//!
//! ```ignore
//! #[allow(dead_code, reason = "each bench uses a part of it")]
//! #[path = "common/kafka.rs"]
//! mod kafka;
//! use kafka::harness::Kafka;
//! ```

use std::net::TcpListener;
use std::time::{Duration, Instant};

#[path = "../../tests/harness/kafka/mod.rs"]
pub mod harness;

/// Looks again and again until something is found; a bench that waits for two minutes has failed.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited for {what}, which does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
