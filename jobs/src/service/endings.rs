//! Jobs and twins that end (rule 5.6).

use connectors::clock::{Clock, SystemClock};
use dataflows::ask::Question;
use dataflows::{Ending, Run};
use tracing::{info, warn};

use super::record::Wanted;
use super::{ENDING_MAX, Service, ServiceError, finish};
use crate::live::Status;

impl Service {
    /// Ends a job: its twins are Done, and answer.
    pub fn cancel(&self, name: &str) -> Result<(), ServiceError> {
        self.steer(name, Wanted::Done)
    }

    /// Lets go of a job that was cancelled, and of all that is kept of it but its archive.
    pub fn dismiss(&self, name: &str) -> Result<(), ServiceError> {
        let mut jobs = self.jobs();
        let Some(held) = jobs.get(name) else { return Err(ServiceError::Unknown(name.to_owned())) };
        let is_over =
            held.record.wanted == Wanted::Done || matches!(held.live.status, Status::Ended | Status::Failed);
        if !is_over {
            return Err(ServiceError::NotNow(format!("`{name}` runs; cancel it first")));
        }
        let Some(held) = jobs.remove(name) else { return Ok(()) };
        if let Some(run) = held.run {
            end_twins(&run, Ending::Dismiss);
            finish(name, run);
        }
        held.record.remove()?;
        self.board.remove(name);
        info!(job = name, "job dismissed");
        Ok(())
    }

    /// Ends one twin of a job; what is asked after it is answered after it.
    pub fn end_twin(&self, name: &str, twin: &str, ending: Ending) -> Result<(), ServiceError> {
        let jobs = self.jobs();
        let held = jobs.get(name).ok_or_else(|| ServiceError::Unknown(name.to_owned()))?;
        let Some(run) = &held.run else {
            return Err(ServiceError::NotNow(format!("`{name}` does not run")));
        };
        run.end_twin(twin, ending, SystemClock.wall_us());
        Ok(())
    }
}

/// Ends all twins of a run, and waits until they have.
pub(super) fn end_twins(run: &Run, ending: Ending) {
    run.end_twins(ending, SystemClock.wall_us());
    // What is asked after it is answered after it.
    if run.asker().ask_within(Question::Survey, ENDING_MAX).is_none() {
        warn!("twins are not ended yet; their job goes on with that");
    }
}
