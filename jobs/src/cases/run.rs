//! A case on the engine: the job's own plan, fed from the case, heard in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use connectors::archive::{self, ArchiveError, ArchiveSettings, KeptLetter};
use connectors::disk::{Disk, SystemDisk};
use connectors::memory;
use connectors::message::{MessageBatch, RawMessage};
use connectors::source::SourceSetup;
use dataflows::ask::{Question, Reply, Selection};
use dataflows::plan::{ArchivePlan, CheckpointPlan, ListenerPlan, Plan, SinkPlan, SourcePlan, TimeMode};
use dataflows::{Run, RunError, RunOptions};
use operators::bus::Bus;
use operators::digital::{DigitalKind, TopicTemplate};
use serde_json::Value;

use super::answers::Answers;
use super::file::{Case, Given};
use crate::definition::Definition;
use crate::definition::functions::{FunctionDefinition, KindDefinition};
use crate::job::Job;
use crate::server::TwinView;

/// How long the engine may take for a case, functions included.
const CASE_MAX: Duration = Duration::from_secs(120);
/// How long between two looks whether time has come to its end.
const REST: Duration = Duration::from_millis(1);
/// The calendar of the engine has days of a tenth of a second: twins are looked at as they are at the end of one.
const DAY_US: i64 = 100_000;
/// Most twins that are listed where one is not there.
const TWINS_MAX: usize = 10_000;
/// Most dead letters that are read.
const LETTERS_MAX: usize = 100_000;

/// What there was.
#[derive(Debug, Default)]
pub struct Seen {
    /// Twins at the end, by id, as `twinloom twin get` shows them.
    pub twins: BTreeMap<String, Value>,
    /// Digital events, those of each twin in their order.
    pub events: Vec<Value>,
    /// What could not be taken, in the order of its arrival.
    pub dead_letters: Vec<KeptLetter>,
    /// Messages that no stream of the job takes.
    pub untaken: Vec<Given>,
    /// Topic filters of the job.
    pub filters: Vec<String>,
}

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// There is no folder for what it keeps meanwhile.
    #[error("no temporary folder: {0}; name one in TMPDIR")]
    Folder(std::io::Error),
    /// The engine.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The dead letters.
    #[error(transparent)]
    Letters(#[from] ArchiveError),
    /// It takes for ever.
    #[error("the job has not come to the end of the case in {CASE_MAX:?}; a function may not answer")]
    TooLong,
}

/// Runs a case.
pub fn run(job: Job, case: &Case) -> Result<Seen, CaseError> {
    let folder = tempfile::Builder::new().prefix("twinloom-test-").tempdir().map_err(CaseError::Folder)?;
    let (definition, mut plan) = (job.definition.clone(), job.plan());
    let mut seen = Seen::default();
    let fed = feed(&mut plan.sources, &case.messages, &mut seen);
    // In the last microsecond of a day all that is due in it has been done.
    let end_us = (case.until_us.div_euclid(DAY_US) + 1) * DAY_US - 1;
    let mut holds = Vec::new();
    for (source, messages) in plan.sources.iter_mut().zip(fed) {
        let (hold, held) = mpsc::channel();
        holds.push(hold);
        source.is_shared = false;
        source.open = Box::new(move |setup: SourceSetup| {
            let messages =
                messages.iter().zip(1..).map(|(given, position)| raw(given, position, &setup.headers));
            let messages = messages.collect();
            Ok(memory::recorded(&setup.name, setup.lanes, setup.lane_of, messages, end_us, held)?)
        });
    }
    let heard = listen(&mut plan);
    stand_in(&mut plan, &definition, case);
    let archive = folder.path().join("archive");
    let settings = ArchiveSettings {
        path: archive.clone(),
        roll: Default::default(),
        compression: Default::default(),
        retain: None,
    };
    plan.archive = Some(ArchivePlan { settings, physical: false });
    plan.checkpoint = CheckpointPlan { interval: None, retain: 1, store: None };
    plan.time = TimeMode::Recorded;
    let data = folder.path().join("data");
    let run = dataflows::start(plan, RunOptions::new(1, &data))?;
    let twins = look(&run, &definition.job, end_us);
    drop(holds);
    let Some(twins) = twins else {
        match run.failure().is_some() {
            true => drop(run.wait()?),
            // It may never end, as it waits for an answer; the program ends, and it with it.
            false => std::mem::forget(run),
        }
        return Err(CaseError::TooLong);
    };
    run.wait()?;
    seen.twins = twins;
    seen.events = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    seen.dead_letters = letters(&archive, &data, &definition.job)?;
    Ok(seen)
}

/// Which messages each source takes, as its subscriptions would bring them.
fn feed(sources: &mut [SourcePlan], messages: &[Given], seen: &mut Seen) -> Vec<Vec<Given>> {
    let mut fed: Vec<Vec<Given>> = vec![Vec::new(); sources.len()];
    for given in messages {
        let mut is_taken = false;
        for (source, fed) in sources.iter_mut().zip(&mut fed) {
            if source.decoder.takes(&given.topic) {
                is_taken = true;
                fed.push(given.clone());
            }
        }
        if !is_taken {
            seen.untaken.push(given.clone());
        }
    }
    seen.filters = sources.iter().flat_map(|source| source.decoder.filters()).collect();
    fed
}

fn raw(given: &Given, position: u64, wanted: &[String]) -> RawMessage {
    let header = |name: &String| given.headers.get(name).map(|value| Bytes::from(value.clone()));
    RawMessage {
        position,
        arrived_at_us: given.arrived_us,
        topic: Bytes::from(given.topic.clone()),
        key: given.key.clone().map(Bytes::from),
        headers: wanted.iter().map(header).collect(),
        payload: Bytes::from(given.payload.clone()),
        retained: given.retained,
        ..RawMessage::default()
    }
}

/// Has the job's digital events heard by us, and by nobody else.
fn listen(plan: &mut Plan) -> Arc<Mutex<Vec<Value>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    let each = move |batch: &MessageBatch| {
        let events = batch.iter().filter_map(|message| serde_json::from_slice(message.payload).ok());
        hear.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    };
    plan.sinks = vec![SinkPlan {
        name: "test".into(),
        is_keyed: true,
        open: Box::new(move |_| Ok(memory::sink("test", each)?.into())),
    }];
    plan.listeners = vec![ListenerPlan {
        sink: 0,
        topic: TopicTemplate::parse("{type}.{kind}", "", Bus::Records).expect("a template of known places"),
        kinds: DigitalKind::ALL.to_vec(),
        retain: None,
        gate: None,
    }];
    heard
}

/// Functions behind HTTP answer as the case says.
fn stand_in(plan: &mut Plan, definition: &Definition, case: &Case) {
    let is_http = |function: &FunctionDefinition| matches!(function.kind, KindDefinition::Http(_));
    for (twin_type, functions) in plan.types.iter().zip(&mut plan.functions) {
        let settings = &definition.types[&twin_type.name];
        for function in functions {
            let named = settings.augmentation.get(&function.name).or(settings.shadow.as_ref());
            if named.is_some_and(is_http) {
                let name = &function.name;
                let answers = case.answers.get(name).cloned().unwrap_or_default();
                function.open = Box::new(move || Ok(Arc::new(Answers::new(answers))));
            }
        }
    }
}

/// The twins once time has come to `end_us`, where it stands until the sources may end.
fn look(run: &Run, job: &str, end_us: i64) -> Option<BTreeMap<String, Value>> {
    let (asker, begin) = (run.asker(), Instant::now());
    let left = || CASE_MAX.saturating_sub(begin.elapsed());
    loop {
        if left().is_zero() || run.is_finished() || run.failure().is_some() {
            return None;
        }
        match asker.ask_within(Question::Survey, left()) {
            Some(Reply::Survey(survey)) if survey.at_us >= end_us => break,
            _ => std::thread::sleep(REST),
        }
    }
    let selection = Selection { limit: TWINS_MAX, ..Selection::default() };
    let Some(Reply::List(all)) = asker.ask_within(Question::List(selection), left()) else { return None };
    let mut twins = BTreeMap::new();
    for summary in all {
        let question = Question::Twin(summary.twin.clone());
        let Some(Reply::Twin(Some(view))) = asker.ask_within(question, left()) else { return None };
        let view = serde_json::to_value(TwinView::of(job, run.generation(), *view));
        twins.insert(summary.twin, view.expect("texts and finite numbers are always JSON"));
    }
    Some(twins)
}

fn letters(archive: &Path, data: &Path, job: &str) -> Result<Vec<KeptLetter>, ArchiveError> {
    let segments = data.join(dataflows::SEGMENTS);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let mut letters = archive::dead_letters(&disk, archive, &segments, job, &[], LETTERS_MAX, |_| true)?;
    letters.sort();
    Ok(letters)
}
