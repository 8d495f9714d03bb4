//! What runs in this process, for those who look at it: the server, and through it people and programs.
//!
//! ```text
//!   run, service ── a job starts, ends ──► board ◄── server: who runs, how are its twins
//!                                            │
//!                    asker, metrics, feed, archive of each job
//! ```

mod history;
mod job;

pub use history::{History, HistoryError, Period, Rows};
pub use job::{LiveJob, LiveParts, Overview, Running, Sample, Status};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The jobs of this process, by name.
#[derive(Default)]
pub struct Board {
    jobs: RwLock<BTreeMap<String, Arc<LiveJob>>>,
}

impl Board {
    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<LiveJob>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The one with this name.
    pub fn find(&self, job: &str) -> Option<Arc<LiveJob>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(job).cloned()
    }

    /// Shows a job as it is from now on.
    pub fn put(&self, job: Arc<LiveJob>) {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(job.name.clone(), job);
    }

    /// Shows a job no more.
    pub fn remove(&self, job: &str) {
        self.jobs.write().unwrap_or_else(PoisonError::into_inner).remove(job);
    }
}
