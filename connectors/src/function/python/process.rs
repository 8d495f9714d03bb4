//! A process of a function, its descriptors, and its end.
//!
//! It dies with the engine: the system kills it when the thread that started it is gone, and where the system
//! cannot, it ends when it looks at its channel. So a process stays with the thread that started it.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tracing::info;

use super::frame::{Damaged, Record, Records, Refusal, Setup};
use super::output::{Output, Said};
use super::{PythonError, PythonSettings};

const DRIVER: &str = include_str!("driver.py");
/// What of the engine's environment the user's code sees.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV"];
/// How long a frame may take to be taken. The driver reads whenever one is sent.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Bytes that are read at once: what a pipe holds.
const PIECE_BYTES: usize = 1 << 16;
/// Pieces that are read before something else is looked at.
const PIECES_MAX: usize = 64;

/// Why a wait was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There is something to take.
    Told,
    /// There may be something.
    Timeout,
    /// It has closed its channel: it has ended, or is about to.
    Closed,
}

/// A running process.
pub(super) struct Process {
    name: String,
    child: Child,
    channel: Arc<UnixStream>,
    answers: PipeReader,
    output: PipeReader,
    said: Output,
    records: Records,
    piece: Vec<u8>,
    has_been_ended: bool,
}

impl Process {
    /// Starts one and tells it its source; `is_ready` says when it has loaded it.
    pub(super) fn start(name: &str, source: &str, settings: &PythonSettings) -> Result<Self, PythonError> {
        let (channel, channel_theirs) = UnixStream::pair().map_err(PythonError::System)?;
        let (answers, answers_theirs) = io::pipe().map_err(PythonError::System)?;
        let (output, output_theirs) = io::pipe().map_err(PythonError::System)?;
        let child = Command::new(&settings.interpreter)
            .args(["-c", DRIVER])
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            // The order of a set of texts would be another one in each process.
            .env("PYTHONHASHSEED", "0")
            .stdin(OwnedFd::from(channel_theirs))
            .stdout(answers_theirs)
            .stderr(output_theirs)
            // A group of its own, which ends with all that the user's code has started, and which the
            // terminal's Ctrl-C does not reach.
            .process_group(0)
            .spawn()
            .map_err(|error| PythonError::interpreter(settings, error))?;
        let output_max = settings.output_max.as_u64();
        let process = Self {
            name: name.to_owned(),
            child,
            channel: Arc::new(channel),
            answers,
            output,
            said: Output::default(),
            records: Records::new(output_max as usize),
            piece: vec![0; PIECE_BYTES],
            has_been_ended: false,
        };
        ioctl_fionbio(&process.answers, true).map_err(|error| PythonError::System(error.into()))?;
        ioctl_fionbio(&process.output, true).map_err(|error| PythonError::System(error.into()))?;
        process.channel.set_write_timeout(Some(SEND_MAX)).map_err(PythonError::System)?;
        let setup = Setup { name, source, memory: settings.memory.as_u64(), output_max };
        // Where it has ended already, that is what is seen next.
        let _ = process.send(&setup.frame());
        Ok(process)
    }

    /// Its channel: who shuts it down ends the process and any wait for it.
    pub(super) fn channel(&self) -> &Arc<UnixStream> {
        &self.channel
    }

    /// Its number.
    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a frame; only when all that was sent before is answered.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&*self.channel).write_all(frame)
    }

    /// Waits until there is something to take, no longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Woken {
        let mut watched =
            [PollFd::new(&*self.channel, PollFlags::IN), PollFd::new(&self.answers, PollFlags::IN)];
        // Answers come without a word; it is the rest of one that is worth waking for.
        let count = if self.records.is_partial() { 2 } else { 1 };
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut watched[..count], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Woken::Timeout,
            Ok(_) => {}
            Err(_) => return Woken::Closed,
        }
        if watched[0].revents().is_empty() {
            return Woken::Told;
        }
        match (&*self.channel).read(&mut [0; 64]) {
            Ok(0) => Woken::Closed,
            Ok(_) => Woken::Told,
            Err(error) if error.kind() == ErrorKind::Interrupted => Woken::Timeout,
            Err(_) => Woken::Closed,
        }
    }

    /// Takes the records that are whole. Never waits.
    pub(super) fn take(&mut self, records: &mut Vec<Record>) -> Result<(), Damaged> {
        for _ in 0..PIECES_MAX {
            // Nothing there and nothing to come are the same here; the channel tells them apart.
            let bytes = self.answers.read(&mut self.piece).unwrap_or(0);
            self.records.push(&self.piece[..bytes]);
            while let Some(record) = self.records.next()? {
                records.push(record);
            }
            if bytes < PIECE_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Tells what it has printed, a pipe's fill at most; whether there was something. Never waits: who prints
    /// more than is looked at waits for us.
    pub(super) fn tell_output(&mut self) -> bool {
        let bytes = self.output.read(&mut self.piece).unwrap_or(0);
        if bytes > 0 {
            let said = self.said.push(&self.piece[..bytes], Instant::now());
            self.tell(said);
        }
        bytes > 0
    }

    fn tell(&self, said: Vec<Said>) {
        for one in said {
            match one {
                Said::Line(line) => info!(function = %self.name, line, "function prints"),
                Said::Skipped(lines) => info!(function = %self.name, lines, "more was printed, not shown"),
            }
        }
    }

    /// One step of its start: whether it is ready, after a wait of no more than `wait`.
    pub(super) fn is_ready(&mut self, wait: Duration, interpreter: &str) -> Result<bool, PythonError> {
        let has_ended = self.wait(wait) == Woken::Closed || self.has_ended();
        let mut records = Vec::new();
        let is_whole = self.take(&mut records);
        self.tell_output();
        match (records.pop(), is_whole) {
            (Some(Record::Ready), Ok(())) => Ok(true),
            (Some(Record::Refused(refusal)), Ok(())) => Err(refused(refusal, interpreter)),
            (None, Ok(())) if has_ended => Err(PythonError::Died(self.end())),
            (None, Ok(())) => Ok(false),
            (_, Err(damaged)) => Err(PythonError::Died(damaged.to_string())),
            (Some(_), Ok(())) => Err(PythonError::Died(Damaged.to_string())),
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(&self.child);
        self.has_been_ended || matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
    }

    /// Ends it, and all that it has started; says how it ended, and what it said last.
    pub(super) fn end(&mut self) -> String {
        // The group first, while its leader still holds the number.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let status = self.child.wait();
        self.has_been_ended = true;
        self.tell_output();
        let said = self.said.end(Instant::now());
        self.tell(said);
        let how = status.map_or_else(|error| error.to_string(), how_it_ended);
        match self.said.last() {
            "" => how,
            last => format!("{how}; it printed last: {last}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_been_ended {
            self.end();
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its process ended with exit code {code}"),
        (None, Some(9)) => "its process was killed (signal 9); the system may be short of memory".to_owned(),
        (None, Some(signal)) => format!("its process ended by signal {signal}"),
        (None, None) => "its process ended".to_owned(),
    }
}

fn refused(refusal: Refusal, interpreter: &str) -> PythonError {
    let Refusal { mut message, line, column, is_import, is_memory } = refusal;
    if is_import {
        message.push_str(&format!(
            "; install it for `{interpreter}`, or write another `interpreter` or PYTHONPATH"
        ));
    }
    if is_memory {
        message.push_str("; it needs more than its `memory`, write more");
    }
    PythonError::Source { message, line, column }
}
