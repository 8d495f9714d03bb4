//! The thread of a process: takes a batch of calls, has the process answer them, and buries and replaces a
//! process that dies.
//!
//! ```text
//!   next ─► start, where none lives ─► send ─► exchange ─► all answered ─► next
//!              │                                  │ too late, died, out of memory
//!              ▼                                  ▼
//!           not started: fail the batch        bury: fail the guilty call, the others again
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{self, Record};
use super::process::{Process, Woken};
use super::shared::{Done, NOT_FREE, STOPPED, Shared, failed};
use crate::function::{Answer, Call, Failure, FailureKind};

/// How long a process may take to load the user's module. It is not the calls' time.
const START_MAX: Duration = Duration::from_secs(60);
/// What a call is let run at least before its process is ended. Under load most calls begin shortly before their
/// deadline, and ending a process for each would leave no time for anything else.
const RUN_MIN: Duration = Duration::from_millis(100);
/// How long a process that says nothing is left alone, at first and at most: it writes answers without a word.
const TICKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(64));

/// A thread with its process.
pub(super) struct Slot {
    shared: Arc<Shared>,
    process: Option<Process>,
    /// Calls in the order in which the process works on them; none where one was answered as too late.
    batch: VecDeque<Option<Call>>,
    /// The first deadline in the batch.
    first_deadline: Option<Instant>,
    frame: Vec<u8>,
    records: Vec<Record>,
    done: Vec<Done>,
}

/// Why a process is no more.
enum Death {
    /// It did not load the module.
    NotStarted(String),
    /// It had nothing to do.
    Idle,
    /// The call that it was working on did not end in time.
    Late,
    /// The limit of memory was reached, and its call has been answered.
    Memory,
    /// It ended, or does not say what it should.
    Broken(Option<String>),
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            process: None,
            batch: VecDeque::new(),
            first_deadline: None,
            frame: Vec::new(),
            records: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Until the function is stopped, or nobody has called it for a while.
    pub(super) fn run(mut self) {
        while let Some((calls, _spending)) = self.shared.next() {
            self.batch.extend(calls.into_iter().map(Some));
            self.first_deadline = None;
            while !self.batch.is_empty() && !self.shared.is_stopping() {
                if let Err(death) = self.work() {
                    self.bury(death);
                }
            }
        }
    }

    fn work(&mut self) -> Result<(), Death> {
        self.start()?;
        let now = Instant::now();
        self.fail_late(now, NOT_BEGUN);
        self.batch.retain(Option::is_some);
        let (Some(process), false) = (&self.process, self.batch.is_empty()) else { return Ok(()) };
        let calls: Vec<&Call> = self.batch.iter().flatten().collect();
        let told = calls.iter().map(|call| (call.deadline.saturating_duration_since(now), &call.body[..]));
        frame::calls(&mut self.frame, told);
        process.send(&self.frame).map_err(|_| Death::Broken(None))?;
        self.exchange()
    }

    /// Starts a process where none lives.
    fn start(&mut self) -> Result<(), Death> {
        match &self.process {
            Some(process) if process.has_ended() => return Err(Death::Idle),
            Some(_) => return Ok(()),
            None => {}
        }
        let shared = self.shared.clone();
        let not_started = |error: super::PythonError| Death::NotStarted(error.to_string());
        let process = Process::start(&shared.name, &shared.source, &shared.settings).map_err(not_started)?;
        let may_live = shared.lives(process.channel());
        let process = self.process.insert(process);
        if !may_live {
            return Err(Death::NotStarted(STOPPED.to_owned()));
        }
        let (began, mut tick) = (Instant::now(), TICKS.0);
        while !process.is_ready(tick, &shared.settings.interpreter).map_err(not_started)? {
            let now = Instant::now();
            if now - began >= START_MAX {
                return Err(not_started(super::PythonError::Slow(START_MAX)));
            }
            shared.expire(now, NOT_FREE);
            tick = (tick * 2).min(TICKS.1);
        }
        Ok(())
    }

    /// Takes the answers to what was sent.
    fn exchange(&mut self) -> Result<(), Death> {
        let (mut began, mut tick) = (Instant::now(), TICKS.0);
        while !self.batch.is_empty() {
            let now = Instant::now();
            self.fail_late(now, "it did not answer in time");
            let mut until = self.first_deadline.map_or(now + tick, |first| first.min(now + tick));
            if matches!(self.batch.front(), Some(None)) {
                // What nobody waits for any more is let go on for a moment.
                let end = began + RUN_MIN;
                if now >= end {
                    return Err(Death::Late);
                }
                until = until.min(end);
            }
            let process = self.process.as_mut().expect("a frame was sent to it");
            let woken = process.wait(until.saturating_duration_since(now));
            // Asked first: what an ended process has written is all there.
            let has_ended = woken == Woken::Closed || woken == Woken::Timeout && process.has_ended();
            let taken = process.take(&mut self.records);
            let has_printed = process.tell_output();
            let is_quiet = self.records.is_empty();
            self.deliver()?;
            taken.map_err(|damaged| Death::Broken(Some(damaged.to_string())))?;
            if has_ended && !self.batch.is_empty() {
                return Err(Death::Broken(None));
            }
            if !is_quiet {
                began = Instant::now();
            } else if woken == Woken::Timeout {
                self.shared.expire(now, NOT_FREE);
            }
            tick = if is_quiet && !has_printed { (tick * 2).min(TICKS.1) } else { TICKS.0 };
        }
        Ok(())
    }

    /// Answers the calls that the records are about.
    fn deliver(&mut self) -> Result<(), Death> {
        let mut death = None;
        for record in self.records.drain(..) {
            let Some(call) = self.batch.pop_front() else { break };
            let failure = |kind, message: String| Err(Failure { kind, message });
            let result = match record {
                Record::Value(body) => Ok(body),
                Record::Error(message) => failure(FailureKind::Error, message),
                Record::TooLarge(bytes) => failure(
                    FailureKind::TooLarge,
                    format!("its answer has {bytes} bytes; return less, or raise `output_max`"),
                ),
                Record::Memory => {
                    death = Some(Death::Memory);
                    failure(FailureKind::Trap, MEMORY.to_owned())
                }
                Record::Expired => failure(FailureKind::Timeout, NOT_BEGUN.to_owned()),
                Record::Ready | Record::Refused(_) => {
                    death = Some(Death::Broken(Some(frame::Damaged.to_string())));
                    failure(FailureKind::Trap, frame::Damaged.to_string())
                }
            };
            if let Some(Call { ticket, inbox, .. }) = call {
                self.done.push((inbox, Answer { ticket, result }));
            }
        }
        self.shared.answer(&mut self.done);
        death.map_or(Ok(()), Err)
    }

    /// Fails the calls of the batch for which it is too late; one that runs still has its place in it.
    fn fail_late(&mut self, now: Instant, of_first: &str) {
        if self.first_deadline.is_some_and(|first| now < first) {
            return;
        }
        for (index, entry) in self.batch.iter_mut().enumerate() {
            if let Some(call) = entry.take_if(|call| call.deadline <= now) {
                let message = if index == 0 { of_first } else { NOT_BEGUN };
                self.done.push(failed(call, FailureKind::Timeout, message));
            }
        }
        self.first_deadline = self.batch.iter().flatten().map(|call| call.deadline).min();
        self.shared.answer(&mut self.done);
    }

    /// A process is no more: fails the call that it died of; the others stay, for the next one.
    fn bury(&mut self, death: Death) {
        let mut ended = String::new();
        if let Some(mut process) = self.process.take() {
            ended = process.end();
            self.shared.is_gone(process.channel());
        }
        if self.shared.is_stopping() {
            return;
        }
        let cause = match death {
            Death::NotStarted(reason) => {
                self.fail_all(&reason);
                reason
            }
            Death::Idle => ended,
            Death::Late => {
                self.batch.pop_front();
                "a call did not end in time".to_owned()
            }
            Death::Memory => MEMORY.to_owned(),
            Death::Broken(reason) => {
                let reason = reason.unwrap_or(ended);
                if let Some(call) = self.batch.pop_front().flatten() {
                    self.done.push(failed(call, FailureKind::Trap, &reason));
                }
                reason
            }
        };
        self.batch.retain(Option::is_some);
        self.first_deadline = None;
        if let Some(message) = self.shared.died(&cause, Instant::now()) {
            self.fail_all(&message);
        }
        self.shared.answer(&mut self.done);
    }

    fn fail_all(&mut self, message: &str) {
        let calls = self.batch.drain(..).flatten();
        self.done.extend(calls.map(|call| failed(call, FailureKind::Unavailable, message)));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let channel = process.channel().clone();
            drop(process);
            self.shared.is_gone(&channel);
        }
        self.fail_all(STOPPED);
        self.shared.answer(&mut self.done);
    }
}

const MEMORY: &str = "it needed more than its `memory`; its process was replaced";
const NOT_BEGUN: &str = "its time was over before it was begun";
