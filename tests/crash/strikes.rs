//! How a run is struck: by `kill -9` at a moment of chance, or by itself at a durable step.

use std::fmt;

use connectors::failpoint::Failpoint;

use super::fleet::{self, Armed, Fleet, SIGABRT};
use super::load::Load;
use crate::harness::chance::Chance;

/// The most messages after a start before a process is killed: some starts do not live to take one,
/// others see several checkpoints.
const KILL_AFTER_MAX: u64 = 900;

/// One death of a run.
#[derive(Clone, Debug)]
pub enum Strike {
    /// `kill -9` when the broker has taken this many more messages.
    Kill {
        /// The process that is killed.
        process: usize,
        /// Messages since the start.
        after: u64,
    },
    /// A failpoint that aborts.
    Failpoint(Armed),
}

/// At which time a failpoint may strike at the latest, so that a run comes to it soon.
fn time_max(point: Failpoint) -> u64 {
    match point {
        Failpoint::JournalAppend | Failpoint::JournalSync | Failpoint::JournalAcknowledge => 60,
        Failpoint::SegmentAppend | Failpoint::SegmentSync => 6,
        Failpoint::PartWrite | Failpoint::PartFinish => 4,
        Failpoint::ManifestWrite | Failpoint::ManifestCommitted => 4,
        Failpoint::OutboxFinish | Failpoint::TransactionBegin | Failpoint::TransactionMarker => 3,
        Failpoint::TransactionCommit | Failpoint::TransactionCommitted => 3,
        Failpoint::TransactionSend => 40,
        Failpoint::ParquetWrite | Failpoint::ParquetRename | Failpoint::ParquetRemove => 3,
        // Once a start, or seldom.
        _ => 1,
    }
}

impl Strike {
    /// A kill of any process.
    pub fn kill(chance: &mut Chance, processes: usize) -> Self {
        let process = chance.below(processes as u64) as usize;
        // Small numbers are more likely: a start that is killed must be as good as none.
        let after = chance.below(KILL_AFTER_MAX).min(chance.below(KILL_AFTER_MAX));
        Self::Kill { process, after }
    }

    /// A failpoint that aborts a process at a time of chance.
    pub fn failpoint(chance: &mut Chance, point: Failpoint, process: usize) -> Self {
        let time = 1 + chance.below(time_max(point));
        Self::Failpoint(Armed { process, failpoint: format!("{}:{time}:abort", point.name()) })
    }

    /// Starts a run that dies by this, and waits until all its processes have ended.
    pub fn strike(&self, fleet: &Fleet, load: &Load) {
        match self {
            Self::Kill { process, after } => {
                let mut run = fleet.start(&[]);
                fleet.until_met(&mut run);
                load.until_more(*after);
                fleet::kill(run, *process);
            }
            Self::Failpoint(armed) => armed.strike(fleet),
        }
    }

    /// Whether it can strike at the first start of all only: a session is noted once.
    pub fn is_of_the_first_start(&self) -> bool {
        matches!(self, Self::Failpoint(armed) if armed.failpoint.starts_with(Failpoint::JournalSession.name()))
    }

    /// Strikes before anything was sent.
    pub fn strike_first(&self, fleet: &Fleet) {
        if let Self::Failpoint(armed) = self {
            armed.strike(fleet);
        }
    }
}

impl Armed {
    fn strike(&self, fleet: &Fleet) {
        let ended = fleet::wait(fleet.start(std::slice::from_ref(self)));
        let struck = &ended[self.process];
        assert_eq!(struck.signal, Some(SIGABRT), "{} did not strike: {struck:?}", self.failpoint);
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { process, after } => {
                write!(formatter, "kill -9 of process {process} after {after} messages")
            }
            Self::Failpoint(Armed { process, failpoint }) => {
                write!(formatter, "{failpoint} in process {process}")
            }
        }
    }
}
