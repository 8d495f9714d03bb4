//! What the operators of one worker share, and how each of them keeps looking at the time. A worker is
//! one thread, so this is no channel between workers: those have only the dataflow.

use std::time::{Duration, Instant};

use timely::scheduling::Activator;

/// How often an operator that has nothing to do looks at the time.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What the operators of one worker tell each other.
#[derive(Default)]
pub struct Board {
    /// The run is to end.
    pub stop: bool,
    /// Workers whose lanes have ended.
    pub drained: usize,
    /// Newest arrival of recorded input, microseconds since 1970.
    pub newest_us: Option<i64>,
    /// Bytes that wait to go out.
    pub waiting_bytes: usize,
    /// Activates the physical event handler, for what it reads here.
    pub handler: Option<Activator>,
}

/// Has an operator activated now and then, however often it is activated in between.
#[derive(Default)]
pub struct Heartbeat {
    next: Option<Instant>,
}

impl Heartbeat {
    /// Asks for the next beat, unless it was asked for.
    pub fn again(&mut self, activator: &Activator) {
        let now = Instant::now();
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + HEARTBEAT);
            activator.activate_after(HEARTBEAT);
        }
    }
}
