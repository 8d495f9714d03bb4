//! Functions of a job, as they are opened at its start and as they are changed while it runs.
//!
//! ```text
//!   new functions ─► those that are as they were keep what runs them ─► handover ─► news, of one epoch, to all workers
//!        └─ refused where twins would have to change: memories or the places of calls are others
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use connectors::function::FunctionRunner;
use operators::adaptation::Adaptation;
use operators::functions::{SHADOWING_PLACE, Trial};
use operators::layout::Layout;
use operators::twin::TwinType;

use crate::calls::{Handover, NewFunctions, OpenFunctions};
use crate::metrics::{FunctionEntry, Metrics, TrialEntry};
use crate::plan::{FunctionPlan, TimeMode};
use crate::run::RunError;
use crate::trials::TrialStats;

/// What a run changes its functions by.
pub(crate) struct FunctionChange {
    pub(crate) time: TimeMode,
    pub(crate) handover: Arc<Handover>,
    /// What the records of twins rely on, as it is now.
    pub(crate) layout: Arc<Mutex<Layout>>,
}

/// Opens what runs the functions outside, and counts for all functions; one that is of the same version as before
/// keeps both.
pub(crate) fn open_functions(
    plans: Vec<Vec<FunctionPlan>>,
    types: &[TwinType],
    metrics: &Metrics,
) -> Result<OpenFunctions, RunError> {
    let before = metrics.functions();
    let (mut open, mut entries) = (OpenFunctions::default(), Vec::new());
    let mut plans = plans.into_iter();
    for one in types {
        let known =
            |name: &str| before.iter().find(|entry| entry.twin_type == one.name && entry.name == name);
        let trials = one.functions.trials();
        let mut runners: Vec<Arc<dyn FunctionRunner>> = Vec::new();
        for (plan, outside) in plans.next().unwrap_or_default().into_iter().zip(one.functions.called()) {
            let FunctionPlan { name, open } = plan;
            let kept = known(&name).and_then(|entry| entry.runner_of(outside.version()));
            runners.push(match kept {
                Some(runner) => runner,
                None => open().map_err(|error| RunError::Function { name, error })?,
            });
        }
        let runner = |place: Option<usize>| runners.get(place?).cloned();
        let trial_entry = |trial: &Trial| {
            let version = trial.version();
            let kept = known(&trial.name).and_then(|entry| entry.trial.clone());
            let stats = kept.filter(|kept| kept.version == version).map(|kept| kept.stats);
            let place = trial.outside().map(|_| one.functions.runner_of(trial));
            let targets = || TrialStats::new(trial.targets(&one.model));
            TrialEntry { version, stats: stats.unwrap_or_else(|| Arc::new(targets())), runner: runner(place) }
        };
        let mut of_type = Vec::new();
        for (name, version, _) in one.functions.versions() {
            let outside = one.functions.outside().iter().position(|outside| outside.name == *name);
            let shadowing = one.functions.shadowing().filter(|one| one.name == *name);
            let place = outside.or(shadowing.map(|_| one.functions.runner_at(SHADOWING_PLACE)));
            of_type.push(FunctionEntry {
                twin_type: one.name.clone(),
                name: name.to_string(),
                version,
                stats: known(name).map(|entry| entry.stats.clone()).unwrap_or_default(),
                runner: runner(place),
                trial: trials.iter().find(|trial| trial.name == *name).map(trial_entry),
            });
        }
        let number =
            |entry: &FunctionEntry| one.functions.names().iter().position(|name| **name == *entry.name);
        of_type.sort_by_key(number);
        let stats_of = |trial: &Trial| {
            let entry = of_type.iter().find(|entry| *entry.name == *trial.name);
            entry.and_then(|entry| entry.trial.as_ref()).map(|trial| trial.stats.clone())
        };
        open.trials.push(trials.iter().filter_map(stats_of).collect());
        open.stats.push(of_type.iter().map(|entry| entry.stats.clone()).collect());
        open.outside.push(runners);
        entries.extend(of_type);
    }
    metrics.set_functions(entries);
    Ok(open)
}

impl FunctionChange {
    /// Whether the twins may go from the functions that run to those of these types without any of them having to
    /// change.
    pub(crate) fn is_possible(&self, types: &[TwinType]) -> bool {
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        Adaptation::new(&layout, types).is_ok_and(|(adaptation, _)| adaptation.is_identity())
    }

    /// Puts functions into the handover; the number by which workers take them.
    pub(crate) fn put(
        &self,
        mut types: Vec<TwinType>,
        plans: Vec<Vec<FunctionPlan>>,
        metrics: &Metrics,
    ) -> Result<u64, RunError> {
        if self.time == TimeMode::Recorded {
            types.iter_mut().for_each(|one| one.functions.wait_for_all());
        }
        let open = open_functions(plans, &types, metrics)?;
        // A checkpoint that cuts before the change may say so too, as what it has is understood by both.
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Layout::of(&types);
        let types = types.into_iter().map(|one| one.functions).collect();
        Ok(self.handover.put(NewFunctions { types, open }))
    }
}
