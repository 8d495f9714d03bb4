//! Steps 2 to 5 of one worker as the dataflow drives them: what comes in is worked off at once
//! (live) or in the order of its time (recorded), and so are ticks and walks, a stretch at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors::clock::Clock;
use operators::batch::EventBatch;
use timely::scheduling::Activator;

use crate::board::{Board, Heartbeat};
use crate::control::Control;
use crate::plan::TimeMode;
use crate::router::Parcel;
use crate::survey::Answer;
use crate::twins::{Stamp, Twins};

/// Ticks and steps of a walk that one activation works off.
const BUDGET: usize = 2_048;
/// How long rows wait for their batch to be full.
const ROWS_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may wait to go out before ticks and walks wait too.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Steps 2 to 5 on one worker.
pub struct Chain {
    /// The twins, their digital events included.
    pub twins: Twins,
    time: TimeMode,
    clock: Arc<dyn Clock>,
    start: Instant,
    board: Rc<RefCell<Board>>,
    /// Recorded events whose time is not closed yet: their engine time, source, and themselves.
    stash: Vec<(u64, u16, EventBatch)>,
    rows_at: Instant,
    heartbeat: Heartbeat,
}

impl Chain {
    /// No event yet.
    pub fn new(
        twins: Twins,
        time: TimeMode,
        clock: Arc<dyn Clock>,
        start: Instant,
        board: Rc<RefCell<Board>>,
    ) -> Self {
        Self {
            twins,
            time,
            clock,
            start,
            board,
            stash: Vec::new(),
            rows_at: start,
            heartbeat: Heartbeat::default(),
        }
    }

    /// News from other workers.
    pub fn hear(&mut self, control: Control) {
        match control {
            Control::SourceLost { source, at_us, incident } => {
                self.twins.source_lost(source, at_us, incident);
            }
            Control::SourceRestored { source, .. } => self.twins.source_restored(source),
            Control::Survey(number) => self.twins.survey(number),
            Control::Stop => self.tell_handler(|board| board.stop = true),
            Control::Drained { newest_us } => self.tell_handler(|board| {
                board.drained += 1;
                board.newest_us = board.newest_us.max(newest_us);
            }),
        }
    }

    fn tell_handler(&self, write: impl FnOnce(&mut Board)) {
        let mut board = self.board.borrow_mut();
        write(&mut board);
        if let Some(handler) = &board.handler {
            handler.activate();
        }
    }

    /// Live, events are worked off as they come; recorded ones wait for their time (rule 2.3).
    pub fn take(&mut self, time: u64, parcel: Parcel) {
        let Parcel { source, events, .. } = parcel;
        match self.time {
            TimeMode::Live => {
                let clock = &self.clock;
                let now_us = || clock.wall_us();
                self.twins.apply(&events, 0..events.len(), source, Stamp::Clock(&now_us));
            }
            TimeMode::Recorded => self.stash.push((time, source, events)),
        }
    }

    /// Works off what is due; answers to surveys that are complete.
    pub fn go_on(&mut self, closed: Option<u64>, has_ended: bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        let now_us = match self.time {
            TimeMode::Live => self.clock.wall_us(),
            TimeMode::Recorded => self.work_off_recorded(closed, has_ended),
        };
        if has_ended {
            self.twins.tick(now_us, self.time == TimeMode::Recorded, usize::MAX);
            self.twins.survey(0);
            while self.twins.is_sweeping() {
                answers.extend(self.twins.sweep(now_us, BUDGET));
            }
        } else if self.board.borrow().waiting_bytes < WAITING_BYTES_MAX {
            self.twins.tick(now_us, false, BUDGET);
            answers.extend(self.twins.sweep(now_us, BUDGET));
        }
        answers
    }

    /// Works off the stashed events whose time is closed, in order of (time, twin, source,
    /// position), and answers how far time has come.
    fn work_off_recorded(&mut self, closed: Option<u64>, has_ended: bool) -> i64 {
        let limit_us = closed.map_or(i64::MAX, |time| time as i64);
        let mut order: Vec<(i64, usize, usize)> = Vec::new();
        for (batch, (time, _, events)) in self.stash.iter().enumerate() {
            // Nothing of it is closed: the operator is activated far more often than time goes on.
            if *time as i64 >= limit_us {
                continue;
            }
            for (index, head) in events.heads().iter().enumerate() {
                // An arrival that goes back in its file is taken at the time that it had come to.
                let at_us = head.arrived_at.0.max(*time as i64);
                if at_us < limit_us {
                    order.push((at_us, batch, index));
                }
            }
        }
        let key = |(at_us, batch, index): &(i64, usize, usize)| {
            let (_, source, events) = &self.stash[*batch];
            let head = &events.heads()[*index];
            (*at_us, events.id(*index), *source, head.position, head.element)
        };
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let stash = std::mem::take(&mut self.stash);
        for run in order.chunk_by(|a, b| a.1 == b.1) {
            let (time, source, events) = &stash[run[0].1];
            let indexes = run.iter().map(|(_, _, index)| *index);
            self.twins.apply(events, indexes, *source, Stamp::Arrival { told_us: *time as i64 });
        }
        self.stash = still_open(stash, limit_us);
        match (closed, has_ended) {
            (Some(_), _) => limit_us - 1,
            (None, true) => self.board.borrow().newest_us.unwrap_or(0),
            // All records are there, and the newest arrival is yet to be told.
            (None, false) => i64::MIN / 2,
        }
    }

    /// The time under which events go out: nothing later may go out under an earlier one.
    pub fn held_time(&self, closed: Option<u64>) -> Option<u64> {
        match self.time {
            TimeMode::Live => Some(self.start.elapsed().as_millis() as u64),
            TimeMode::Recorded => closed,
        }
    }

    /// Whether rows leave though their batches are not full.
    pub fn is_time_for_rows(&mut self, has_ended: bool) -> bool {
        let now = Instant::now();
        let is_time = has_ended || now >= self.rows_at;
        if is_time {
            self.rows_at = now + ROWS_WAIT;
        }
        is_time
    }

    /// Has the operator activated again: at once while work is left, else at the next heartbeat.
    pub fn schedule(&mut self, activator: &Activator) {
        let can_go_on = self.board.borrow().waiting_bytes < WAITING_BYTES_MAX;
        if self.time == TimeMode::Live && can_go_on && self.twins.is_busy(self.clock.wall_us()) {
            activator.activate();
        }
        self.heartbeat.again(activator);
    }
}

/// What of the stash is at or after the limit.
fn still_open(stash: Vec<(u64, u16, EventBatch)>, limit_us: i64) -> Vec<(u64, u16, EventBatch)> {
    let mut open = Vec::new();
    for (time, source, events) in stash {
        let is_open = |at_us: i64| at_us.max(time as i64) >= limit_us;
        let count = events.heads().iter().filter(|head| is_open(head.arrived_at.0)).count();
        if count == events.len() {
            open.push((time, source, events));
        } else if count > 0 {
            let mut rest = EventBatch::default();
            for event in events.events().filter(|event| is_open(event.head.arrived_at.0)) {
                rest.push(event);
            }
            open.push((time, source, rest));
        }
    }
    open
}
