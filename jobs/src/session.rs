//! The life of a run as the command line sees it: it goes on until somebody asks for its end, its
//! time is over, or its input is.

use std::time::{Duration, Instant};

use dataflows::Run;

use crate::signals::Signals;

/// How often a run is asked whether it has ended by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long twins may take to say how they are.
pub(crate) const SURVEY_WAIT: Duration = Duration::from_secs(5);

/// Why a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A signal.
    Asked,
    /// The duration is over.
    Duration,
    /// It ended by itself: its input is over, or another process asked.
    Finished,
}

/// Waits for the end; `on_tick` is called every `interval` until then.
pub(crate) fn until_end(
    run: &Run,
    signals: &Signals,
    duration: Option<Duration>,
    interval: Duration,
    mut on_tick: impl FnMut(&Run),
) -> End {
    let start = Instant::now();
    let mut ticks = 0;
    loop {
        let elapsed = start.elapsed();
        let left = duration.map(|duration| duration.saturating_sub(elapsed));
        if left.is_some_and(|left| left.is_zero()) {
            return End::Duration;
        }
        if run.is_finished() || run.failure().is_some() {
            return End::Finished;
        }
        let due = (elapsed.as_secs_f64() / interval.as_secs_f64()) as u64;
        if due > ticks {
            ticks = due;
            on_tick(run);
        }
        if signals.wait(LOOK_INTERVAL.min(left.unwrap_or(LOOK_INTERVAL))) {
            return End::Asked;
        }
    }
}
