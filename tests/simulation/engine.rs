//! The engine on a simulated disk: a job over the scripted source, as often as it is started.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connectors::archive::{ArchiveSettings, Compression};
use connectors::clock::ManualClock;
use connectors::disk::SimDisk;
use connectors::memory;
use dataflows::plan::{
    ArchivePlan, CheckpointPlan, Limits, ListenerPlan, Plan, SinkPlan, SourcePlan, TimeMode,
};
use dataflows::run::{Run, RunError, RunOptions};
use indexmap::IndexMap;
use operators::bus::Bus;
use operators::decode::{Decoder, Route, StreamPlan, StreamSettings};
use operators::digital::{DigitalKind, TopicTemplate};
use operators::entanglement::{EntanglementSettings, Terms};
use operators::functions::{FunctionSpec, Functions};
use operators::model::{ModelSettings, compile};
use operators::twin::{StreamOf, TwinType};
use serde_json::Value;

use super::script::{BEGIN_US, Progress, Script, play};
use crate::harness::archive::{self, Archive};
use crate::harness::chance::Chance;
use crate::harness::until;

/// What outlives the runs of a job.
pub struct Site {
    /// The disk as the next run finds it.
    pub disk: SimDisk,
    /// Whose time stamps.
    pub clock: ManualClock,
    /// What the source has done.
    pub progress: Arc<Progress>,
    /// Digital events in the order in which they were heard.
    pub heard: Arc<Mutex<Vec<Value>>>,
    script: Arc<Script>,
    /// Lock and generation are on the machine's own disk.
    folder: tempfile::TempDir,
}

impl Site {
    /// An empty disk, and a script that nobody has read.
    pub fn new(seed: u64, script: Arc<Script>) -> Site {
        Site {
            disk: SimDisk::new(seed),
            clock: ManualClock::new(BEGIN_US),
            progress: Arc::default(),
            heard: Arc::default(),
            script,
            folder: tempfile::tempdir().expect("the machine has a folder for tests"),
        }
    }

    /// Starts the job; the seed is that of the source.
    pub fn start(&self, workers: usize, seed: u64) -> Result<Run, RunError> {
        let options = RunOptions {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(self.clock.clone()),
            ..RunOptions::new(workers, self.folder.path())
        };
        dataflows::start(self.plan(seed), options)
    }

    /// Waits until a run that has a reason to end has ended; the reason.
    pub fn reason_of(&self, run: Run) -> String {
        until("the run ends by itself", || run.is_finished().then_some(()));
        let failure = run.failure().map(str::to_owned);
        match run.wait() {
            Err(RunError::Stopped(reason)) => {
                assert_eq!(failure.as_ref(), Some(&reason), "the alarm says what the run ends with");
                reason
            }
            other => panic!("a run that had to stop ended with {other:?}; its alarm says {failure:?}"),
        }
    }

    /// Stops a run, and waits for its end; what it failed by, if it did.
    pub fn stopped_or_failed(&self, run: Run) -> Option<String> {
        run.stopper().stop();
        until("the run ends", || run.is_finished().then_some(()));
        run.wait().err().map(|error| error.to_string())
    }

    /// Waits for the clean end of a run.
    pub fn end_of(&self, run: Run) {
        until("the run ends", || run.is_finished().then_some(()));
        let summary = run.wait().unwrap_or_else(|error| panic!("the run did not end well: {error}"));
        assert_eq!(summary.unpublished, 0);
    }

    /// Waits until the source has handed over so many messages.
    pub fn see_given(&self, run: &Run, number: u64) {
        let given = || self.progress.given.load(Ordering::SeqCst) >= number || run.is_finished();
        until("the source hands over", || given().then_some(()));
    }

    /// All that is visible of the archive.
    pub fn archive(&self) -> Archive {
        archive::read_on(&self.disk, &self.archive_path())
    }

    /// Files of checkpoints, manifests last, each in the order of their names.
    pub fn checkpoint_files(&self) -> Vec<PathBuf> {
        archive::files_on(&self.disk, &self.folder.path().join("checkpoints"))
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        use connectors::disk::Disk;
        let files = archive::files_on(&self.disk, self.folder.path());
        files.iter().map(|file| self.disk.len(file).expect("it is there")).sum()
    }

    fn archive_path(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn plan(&self, seed: u64) -> Plan {
        let (definition, decoder) = machine();
        let (script, progress, clock) = (self.script.clone(), self.progress.clone(), self.clock.clone());
        let heard = self.heard.clone();
        let settings = ArchiveSettings {
            path: self.archive_path(),
            roll: "2KB".parse().expect("a size"),
            compression: Compression::None,
            retain: None,
        };
        Plan {
            job: "simulated".into(),
            types: vec![definition],
            functions: Vec::new(),
            sources: vec![SourcePlan {
                name: "script".into(),
                decoder,
                is_shared: false,
                open: Box::new(move |setup| {
                    play(script, progress, clock, Chance::new(seed), setup).map_err(Into::into)
                }),
            }],
            sinks: vec![SinkPlan {
                name: "ear".into(),
                is_keyed: false,
                open: Box::new(move |_| {
                    let each = move |batch: &connectors::message::MessageBatch| {
                        let events = batch.iter().map(|message| {
                            serde_json::from_slice::<Value>(message.payload).expect("an event is JSON")
                        });
                        heard.lock().expect("no test panics with it").extend(events);
                    };
                    memory::sink("ear", each).map(Into::into).map_err(Into::into)
                }),
            }],
            listeners: vec![ListenerPlan {
                sink: 0,
                topic: TopicTemplate::parse(TopicTemplate::DEFAULT, "simulated", Bus::Levels)
                    .expect("the default is good"),
                kinds: DigitalKind::ALL.to_vec(),
                retain: None,
                gate: None,
            }],
            archive: Some(ArchivePlan { settings, physical: true }),
            checkpoint: CheckpointPlan {
                interval: Some(Duration::from_millis(4)),
                ..CheckpointPlan::default()
            },
            time: TimeMode::Live,
            roster: Default::default(),
            limits: Limits::default(),
        }
    }
}

/// The one type of twin, and what reads its messages.
fn machine() -> (TwinType, Decoder) {
    let properties = serde_json::from_str(r#"{"n": {"type": "integer"}}"#).expect("well formed");
    let model =
        compile(&ModelSettings { properties, ..ModelSettings::default() }).expect("the model is good");
    let stream = |text: &str| serde_json::from_str::<StreamSettings>(text).expect("well formed");
    let streams = [
        stream(
            r#"{"from": "script", "topics": ["state/{twin}"], "at": {"pointer": "/at", "format": "unix_ms"},
                "properties": {"n": "/n"}, "expected_rate": "1/s"}"#,
        ),
        stream(
            r#"{"from": "script", "topics": ["burst/{twin}"], "at": {"pointer": "/at", "format": "unix_ms"},
                "each": "", "properties": {"n": "/n"}, "expected_rate": "none"}"#,
        ),
    ];
    let entanglement: EntanglementSettings =
        serde_json::from_str(r#"{"window": "20s", "desired_timeliness": "1s"}"#).expect("well formed");
    let rates =
        streams.each_ref().map(|stream| stream.expected_rate.resolve(&model).expect("the rate is good"));
    let route = |(number, stream): (usize, &StreamSettings)| Route {
        twin_type: 0,
        stream: number as u16,
        plan: StreamPlan::compile(stream, &model, Bus::Levels).expect("the stream is good"),
    };
    let decoder = Decoder::new(0, streams.iter().enumerate().map(route).collect());
    let definition = TwinType {
        name: "machine".into(),
        functions: Functions::compile::<FunctionSpec>(&IndexMap::new(), &model, &[0]).expect("there is none"),
        clock: (&entanglement.clock).into(),
        terms: Terms::compile(&entanglement, &rates).expect("the terms are good"),
        sources: vec![0],
        streams: ["state", "burst"].map(|name| StreamOf { name: name.into(), source: 0 }).to_vec(),
        presence: None,
        model,
    };
    (definition, decoder)
}
