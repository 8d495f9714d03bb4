//! Calls of functions outside, on their way out of one worker and back (rule 6.2).
//!
//! ```text
//!  twin holds its update ── Wanted ──► Calls ── ticket ──► function (threads of its own)
//!        ▲                              │  ▲                       │
//!        └──── whose it is, outcome ◄───┘  └── inbox, wakes ◄──────┘
//! ```
//! Nothing here is kept: after a restore the twins want their calls again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connectors::function::{Answer, Call, CallKey, Failure, FunctionRunner, Inbox};
use operators::functions::{Functions, Outcome, Outside, Trial};
use operators::twin::TwinType;
use operators::waiting::Wanted;

use crate::bins::Slot;
use crate::metrics::{FunctionStats, add};
use crate::plan::TimeMode;
use crate::trials::TrialStats;

/// How long an answer to recorded input is waited for: its deadline does not run (rule 2.3).
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// The functions outside of each type, as a process opened them, and what is counted of each function.
#[derive(Clone, Default)]
pub struct OpenFunctions {
    /// By type, then by the function's place among those outside of the type; behind them those that are tried out, and
    /// step 2.
    pub(crate) outside: Vec<Vec<Arc<dyn FunctionRunner>>>,
    /// By type, then by the function's number.
    pub(crate) stats: Vec<Vec<Arc<FunctionStats>>>,
    /// By type, then by the place among the trials of the type.
    pub(crate) trials: Vec<Vec<Arc<TrialStats>>>,
}

/// Functions that are to take the place of others while the job runs, on their way to the workers: what runs
/// them is of this process, so news of them carry a number only.
pub struct Handover {
    /// Workers of the process.
    workers: usize,
    state: Mutex<Offers>,
}

#[derive(Default)]
struct Offers {
    last: u64,
    /// By number, with how many workers have not taken it yet.
    waiting: BTreeMap<u64, (NewFunctions, usize)>,
}

/// Functions of all types that are to take the place of others.
#[derive(Clone)]
pub struct NewFunctions {
    /// By type.
    pub(crate) types: Vec<Functions>,
    pub(crate) open: OpenFunctions,
}

/// Changes that may be on their way at once. A worker that missed an older one takes a newer one, which is whole.
const HANDOVERS_MAX: usize = 16;

impl Handover {
    /// Nothing to hand over yet to so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, state: Mutex::default() }
    }

    /// Puts functions in; the number that they are taken by.
    pub(crate) fn put(&self, functions: NewFunctions) -> u64 {
        let mut offers = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        offers.last += 1;
        let number = offers.last;
        offers.waiting.insert(number, (functions, self.workers));
        while offers.waiting.len() > HANDOVERS_MAX {
            offers.waiting.pop_first();
        }
        number
    }

    /// Takes those with this number, once a worker; none where newer ones have come since. What all have taken is let
    /// go of, so that what runs functions that were replaced ends with its last call.
    pub(crate) fn take(&self, number: u64) -> Option<NewFunctions> {
        let mut offers = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (functions, left) = offers.waiting.get_mut(&number)?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Some(functions.clone());
        }
        offers.waiting.remove(&number).map(|(functions, _)| functions)
    }
}

/// The calls of one worker.
pub struct Calls {
    job: Arc<str>,
    types: Vec<Arc<str>>,
    functions: OpenFunctions,
    handover: Arc<Handover>,
    time: TimeMode,
    inbox: Arc<Inbox>,
    /// Whose each is that was made and is not answered.
    open: HashMap<u64, Of>,
    next_ticket: u64,
    /// Recorded: what a function had no room for yet.
    refused: VecDeque<(Arc<dyn FunctionRunner>, Call)>,
}

/// What a call is of.
pub(crate) struct Of {
    pub(crate) slot: Slot,
    pub(crate) twin_type: u16,
    pub(crate) update: u64,
    /// The function's place among those outside of the type.
    pub(crate) function: u16,
    /// Which of its versions.
    pub(crate) version: u32,
    /// Where it is tried out: the function's name.
    pub(crate) trial: Option<Arc<str>>,
    /// What runs it: one that was replaced is there until it has answered.
    _runner: Arc<dyn FunctionRunner>,
}

impl Calls {
    /// None yet.
    pub fn new(
        job: &str,
        types: &[TwinType],
        functions: OpenFunctions,
        handover: Arc<Handover>,
        time: TimeMode,
    ) -> Self {
        Self {
            job: job.into(),
            types: types.iter().map(|one| one.name.as_str().into()).collect(),
            functions,
            handover,
            time,
            inbox: Arc::default(),
            open: HashMap::new(),
            next_ticket: 0,
            refused: VecDeque::new(),
        }
    }

    /// Takes functions that take the place of others; calls that are open are answered by those that they were
    /// made of.
    pub(crate) fn take_over(&mut self, number: u64) -> Option<Vec<Functions>> {
        let NewFunctions { types, open } = self.handover.take(number)?;
        self.functions = open;
        Some(types)
    }

    /// What comes of the trials of each type.
    pub(crate) fn trials(&self) -> &[Vec<Arc<TrialStats>>] {
        &self.functions.trials
    }

    /// Where answers come in.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Whether an answer is awaited.
    pub(crate) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// What is counted of a function, by its number in the type.
    pub(crate) fn stats(&self, twin_type: u16, number: u16) -> Option<&Arc<FunctionStats>> {
        self.functions.stats.get(usize::from(twin_type))?.get(usize::from(number))
    }

    /// Makes a call. One that has no room fails, as if its answer had come; recorded, it waits for room.
    pub(crate) fn make(
        &mut self,
        slot: Slot,
        twin_type: u16,
        twin: &str,
        definition: &TwinType,
        wanted: Wanted,
    ) {
        let functions = &definition.functions;
        let Some(outside) = functions.called_at(wanted.function) else { return };
        if let Some(stats) = self.stats(twin_type, outside.number()) {
            add(&stats.calls, 1);
        }
        let place = functions.runner_at(wanted.function);
        self.send(slot, twin_type, twin, (outside, place, None), wanted);
    }

    /// Makes a call of a function that is tried out.
    pub(crate) fn try_out(
        &mut self,
        slot: Slot,
        twin_type: u16,
        twin: &str,
        (functions, trial): (&Functions, &Trial),
        wanted: Wanted,
    ) {
        if let Some(outside) = trial.outside() {
            let (place, name) = (functions.runner_of(trial), Some(trial.name.clone()));
            self.send(slot, twin_type, twin, (outside, place, name), wanted);
        }
    }

    fn send(
        &mut self,
        slot: Slot,
        twin_type: u16,
        twin: &str,
        (outside, place, trial): (&Outside, usize, Option<Arc<str>>),
        wanted: Wanted,
    ) {
        let Wanted { function, update, body } = wanted;
        let runner = self.functions.outside.get(usize::from(twin_type));
        let Some(runner) = runner.and_then(|all| all.get(place)).cloned() else { return };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let version = outside.version();
        let of = Of { slot, twin_type, update, function, version, trial, _runner: runner.clone() };
        self.open.insert(ticket, of);
        let patience = match self.time {
            TimeMode::Live => Duration::from_micros(outside.timeout_us.unsigned_abs()),
            TimeMode::Recorded => FOR_EVER,
        };
        let key = CallKey {
            job: self.job.clone(),
            twin: twin.to_owned(),
            twin_type: self.types[usize::from(twin_type)].clone(),
            update,
            function: outside.name.clone(),
            version,
        };
        let call = Call {
            ticket,
            key: Arc::new(key),
            body,
            deadline: Instant::now() + patience,
            inbox: self.inbox.clone(),
        };
        if !self.refused.is_empty() {
            return self.refused.push_back((runner, call));
        }
        match (runner.call(call), self.time) {
            (Ok(()), _) => {}
            (Err(call), TimeMode::Recorded) => self.refused.push_back((runner, call)),
            (Err(call), TimeMode::Live) => {
                let result = Err(Failure::unavailable("too many calls wait for the function"));
                self.inbox.put([Answer { ticket: call.ticket, result }]);
            }
        }
    }

    /// Takes the answers that have come, each with what it is of.
    pub(crate) fn take(&mut self) -> Vec<(Of, Outcome)> {
        let answers = self.inbox.take();
        let mut taken = Vec::with_capacity(answers.len());
        for Answer { ticket, result } in answers {
            let Some(of) = self.open.remove(&ticket) else { continue };
            let outcome = match result {
                Ok(json) => Outcome::Answered(of.version, json),
                Err(failure) => Outcome::Failed(failure.to_string()),
            };
            taken.push((of, outcome));
        }
        while let Some((runner, call)) = self.refused.pop_front() {
            if let Err(call) = runner.call(call) {
                self.refused.push_front((runner, call));
                break;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_workers_have_taken_is_let_go_of() {
        let handover = Handover::new(2);
        let stats = Arc::new(FunctionStats::default());
        let functions = || {
            let open = OpenFunctions { stats: vec![vec![stats.clone()]], ..OpenFunctions::default() };
            NewFunctions { types: Vec::new(), open }
        };
        let numbers = [handover.put(functions()), handover.put(functions())];
        assert_eq!((numbers, Arc::strong_count(&stats)), ([1, 2], 3));
        assert!(handover.take(1).is_some() && handover.take(1).is_some() && handover.take(1).is_none());
        assert_eq!(Arc::strong_count(&stats), 2);
        assert!(handover.take(2).is_some());
        assert_eq!(Arc::strong_count(&stats), 2);
        assert!(handover.take(2).is_some());
        assert_eq!((Arc::strong_count(&stats), handover.put(functions())), (1, 3));
        // One that never takes any does not keep them all.
        (0..40).for_each(|_| _ = handover.put(functions()));
        assert_eq!(Arc::strong_count(&stats), 1 + HANDOVERS_MAX);
        assert!(handover.take(3).is_none());
    }
}
