//! What the suite stands on: the program as a child process, brokers, clients of them, a browser, and
//! the archive read back.
//!
//! Everything that is started is ended by its own id when its handle is dropped, and every wait has
//! a bound, so that a test that fails neither hangs nor leaves anything behind.

pub mod archive;
pub mod broker;
pub mod browser;
pub mod certificates;
pub mod chance;
pub mod client;
pub mod cluster;
pub mod endpoint;
pub mod http;
pub mod kafka;
pub mod program;
pub mod site;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; what waits this long has failed.
pub const LONG: Duration = Duration::from_secs(90);

/// How long a poll rests between two looks.
const REST: Duration = Duration::from_millis(10);

/// Polls until `look` finds something; fails with `what` when the bound is reached.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    in_time(look).unwrap_or_else(|| panic!("waited {LONG:?} for: {what}"))
}

/// Polls until `look` finds something; none when the bound is reached.
pub fn in_time<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= LONG {
            return found;
        }
        std::thread::sleep(REST);
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
