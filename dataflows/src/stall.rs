//! Says who holds everything up: bytes are under way, and for a while nothing has left the worker.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::board::Board;

/// How long nothing may move before it is said.
const STALL_MIN: Duration = Duration::from_secs(10);

/// Watches what leaves a worker.
pub struct StallWatch {
    worker: usize,
    passed: Option<u64>,
    moved_at: Instant,
    is_said: bool,
}

impl StallWatch {
    /// Watches the worker with this number.
    pub fn new(worker: usize, now: Instant) -> Self {
        Self { worker, passed: None, moved_at: now, is_said: false }
    }

    /// Looks how far the worker has come; `bytes` are under way.
    pub fn look(&mut self, passed: Option<u64>, bytes: usize, board: &Board) {
        if passed != self.passed || bytes == 0 {
            if std::mem::take(&mut self.is_said) {
                info!(worker = self.worker, stalled = ?self.moved_at.elapsed(), "goes on again");
            }
            (self.passed, self.moved_at) = (passed, Instant::now());
        } else if !self.is_said && self.moved_at.elapsed() >= STALL_MIN {
            self.is_said = true;
            warn!(worker = self.worker, holder = %holder(board), bytes, "stalled");
        }
    }
}

/// Who holds the oldest capability of a worker, in words.
pub fn holder(board: &Board) -> String {
    match (&board.waiting_for, board.stop) {
        (Some(connector), _) => format!("`{connector}` takes nothing"),
        (None, true) => "the end of the run".into(),
        (None, false) => "the steps of the twins".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_said_once_and_ends_when_something_moves() {
        let start = Instant::now().checked_sub(2 * STALL_MIN).expect("the machine runs longer than that");
        let mut watch = StallWatch::new(0, start);
        let board = Board { waiting_for: Some("plant".into()), ..Board::default() };
        watch.passed = Some(7);
        watch.look(Some(7), 10, &board);
        assert!(watch.is_said);
        watch.look(Some(8), 10, &board);
        assert!(!watch.is_said);
        watch.look(Some(8), 10, &board);
        assert!(!watch.is_said, "it has only just moved");
    }

    #[test]
    fn the_holder_is_named() {
        let board = |waiting: Option<&str>, stop| Board {
            waiting_for: waiting.map(str::to_owned),
            stop,
            ..Board::default()
        };
        assert_eq!(holder(&board(Some("plant"), true)), "`plant` takes nothing");
        assert_eq!(holder(&board(None, true)), "the end of the run");
        assert_eq!(holder(&board(None, false)), "the steps of the twins");
    }
}
