//! What a crash test stands on: a broker that lives all the while, a job on one process or several in
//! a folder of its own, and a listener that hears every digital event.

use std::path::PathBuf;

use connectors::failpoint;

use super::load::{Load, Records, topic};
use super::oracle::{self, Heard, Sent, Verdict};
use crate::harness::archive::Archive;
use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::kafka::Kafka;
use crate::harness::program::{Ended, Running, start, twinloom};
use crate::harness::site::{Site, bind, listener};
use crate::harness::{LONG, free_port, in_time};

/// Checkpoints, files of the journal and of the archive follow each other so closely that a run of a
/// second has several of each.
const JOB: &str = r#"
job: crash
checkpoint: {interval: 300ms}
connections:
  plant: {mqtt: {url: "URL", qos: 1, journal: {file: 16KB}}}
types:
  device:
    properties: {n: {type: integer}, all: {type: integer}}
    physical:
      telemetry:
        from: plant
        topics: ["device/{twin}/n"]
        at: arrival
        properties: {n: /n, all: /all}
        expected_rate: 5/s
    entanglement: {window: 5s, settle: 0s, sample: 1s}
digital: [{to: plant}]
archive: {path: archive, roll: 64KB/500ms}
"#;

/// What a job has besides where a Kafka is there: every second twin speaks to it, and it hears all digital
/// events exactly once.
const KAFKA: [(&str, &str); 3] = [
    ("types:\n", "  bus: {kafka: {brokers: [\"BROKERS\"]}}\ntypes:\n"),
    (
        "    entanglement:",
        "      records:\n        from: bus\n        topics: [IN]\n        at: arrival\n        \
         properties: {n: /n, all: /all}\n        expected_rate: none\n    entanglement:",
    ),
    ("[{to: plant}]", "[{to: plant}, {to: bus, topic: OUT, exactly_once: true}]"),
];

/// The twin that speaks before all others, until the job is bound; it is not judged, as what it says
/// before the job has a session is lost.
const PROBE: &str = "probe";

/// How many twins there are.
const TWINS: u64 = 40;

/// The signal of `abort`.
pub const SIGABRT: i32 = 6;
/// The signal of `kill -9`.
pub const SIGKILL: i32 = 9;

/// A job and what is around it.
pub struct Fleet {
    /// The job's folder.
    pub site: Site,
    /// Its broker, which is never stopped.
    pub broker: Broker,
    /// Hears all digital events.
    pub listener: Client,
    /// What its topics and its job are called in Kafka, where there is one; it is never stopped.
    kafka: Option<(&'static Kafka, String)>,
    processes: usize,
}

/// A failpoint that is armed in one process.
#[derive(Clone, Debug)]
pub struct Armed {
    /// The process.
    pub process: usize,
    /// The value of the variable: `<name>:<time>:<action>`.
    pub failpoint: String,
}

impl Fleet {
    /// A fleet whose job runs on this many processes, on MQTT alone.
    pub fn new(processes: usize) -> Self {
        Self::of(JOB, processes)
    }

    /// The same on MQTT and Kafka.
    pub fn on_both_buses(processes: usize) -> Self {
        // Transactional ids have the job's name in them, and the broker is there for all.
        let (kafka, name) = (Kafka::shared(), format!("crash-{processes}"));
        kafka.topic(&format!("{name}.in"), 4);
        kafka.topic(&format!("{name}.out"), 3);
        let job = KAFKA.iter().fold(JOB.to_owned(), |job, (place, with)| job.replacen(place, with, 1));
        let job = job.replace("job: crash", &format!("job: {name}")).replace("BROKERS", &kafka.brokers());
        let job = job.replace("[IN]", &format!("[{name}.in]")).replace("OUT", &format!("{name}.out"));
        Self { kafka: Some((kafka, name)), ..Self::of(&job, processes) }
    }

    /// The same for a job of another name.
    pub fn named(job: &str) -> Self {
        Self::of(&JOB.replace("job: crash", &format!("job: {job}")), 1)
    }

    fn of(job: &str, processes: usize) -> Self {
        let broker = Broker::started();
        let site = Site::of(job, &broker);
        let listener = listener(&broker);
        Self { site, broker, listener, kafka: None, processes }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.site.path().join("data")
    }

    /// Starts all processes, some of them with a failpoint.
    pub fn start(&self, armed: &[Armed]) -> Vec<Running> {
        // Each run has ports of its own: those of one that was killed are not free at once.
        let hosts: Vec<_> = (0..self.processes).map(|_| format!("127.0.0.1:{}\n", free_port())).collect();
        std::fs::write(self.site.path().join("hosts"), hosts.concat()).expect("the folder is ours");
        let workers = if self.processes == 1 { "2" } else { "1" };
        let start_one = |process: usize| {
            let arguments = ["run", "job.yaml", "--json", "--data", "data", "--workers", workers];
            let mut command = twinloom(self.site.path(), &arguments);
            if self.processes > 1 {
                command.args(["--hosts", "hosts", "--process", &process.to_string()]);
            }
            match armed.iter().find(|armed| armed.process == process) {
                Some(armed) => command.env(failpoint::VARIABLE, &armed.failpoint),
                None => command.env_remove(failpoint::VARIABLE),
            };
            start(&mut command)
        };
        (0..self.processes).map(start_one).collect()
    }

    /// The same for a job of one process.
    pub fn start_alone(&self, armed: &[Armed]) -> Running {
        assert_eq!(self.processes, 1);
        self.start(armed).remove(0)
    }

    /// Starts for the first time, waits until the job has its session at the broker, and lets the
    /// fleet speak.
    pub fn begin(&self, seed: u64) -> (Vec<Running>, Load) {
        let mut run = self.start(&[]);
        // One that refuses to start is known at once by this.
        run[0].until_logged("broker connected");
        bind(&mut self.broker.client(PROBE), &self.listener, &topic(PROBE), r#"{"n":0,"all":0}"#);
        let records = self
            .kafka
            .as_ref()
            .map(|(kafka, name)| Records { producer: kafka.producer(), topic: format!("{name}.in") });
        (run, Load::start(self.broker.client("fleet"), records, TWINS, seed))
    }

    /// Judges what others can see while no process runs: complete files, and in them a begin of every
    /// twin's history.
    pub fn verdict_of_begin(&self, sent: &Sent) -> Verdict {
        oracle::judge_begin(sent, &self.without_probe(), &self.records())
    }

    /// All committed records of the topic that has each digital event once, those of a twin in their order.
    fn records(&self) -> Vec<Heard> {
        let Some((kafka, name)) = &self.kafka else { return Vec::new() };
        let records = kafka.kcat(&format!("{name}.out")).into_iter();
        let events = records.filter_map(|record| oracle::read(&serde_json::from_str(&record.payload?).ok()?));
        events.filter(|one| one.twin != PROBE).collect()
    }

    /// Waits until the listener has heard the last of every twin; where one never comes, the oracle
    /// will say what is missing.
    pub fn until_through(&self, sent: &Sent) {
        let (mut seen, mut left) = (0, sent.clone());
        let look = || {
            let messages = self.listener.messages_after(seen);
            seen += messages.len();
            for one in oracle::heard(&messages) {
                if one.n.is_some() && one.n == left.get(&one.twin).copied() {
                    left.remove(&one.twin);
                }
            }
            left.is_empty().then_some(())
        };
        if in_time(look).is_none() {
            println!("crash: waited {LONG:?}, and did not hear the last message of every twin");
        }
    }

    /// Ends a run cleanly, and judges all that it and those before it left.
    pub fn end(&self, run: Vec<Running>, sent: &Sent) -> Verdict {
        self.until_through(sent);
        stop(run);
        assert_eq!(self.site.unfinished(), 0);
        self.verdict(sent)
    }

    /// Waits until the processes of a run have met: until then one waits long for another that died.
    pub fn until_met(&self, run: &mut [Running]) {
        if self.processes > 1 {
            run.iter_mut().for_each(|process| process.until_logged("processes have met"));
        }
    }

    /// Judges what is there.
    pub fn verdict(&self, sent: &Sent) -> Verdict {
        let heard = oracle::heard(&self.listener.messages());
        let heard: Vec<_> = heard.into_iter().filter(|one| one.twin != PROBE).collect();
        let mut verdict = oracle::judge(sent, &self.without_probe(), &heard);
        if self.kafka.is_some() {
            verdict.judge_records(&self.without_probe(), &self.records());
        }
        verdict
    }

    fn without_probe(&self) -> Archive {
        let mut archive = self.site.archive();
        for table in archive.values_mut() {
            if let Some(twin) = table.column("twin") {
                table.rows.retain(|row| row[twin] != PROBE);
            }
        }
        archive
    }
}

/// Waits until all processes have ended.
pub fn wait(run: Vec<Running>) -> Vec<Ended> {
    run.into_iter().map(Running::wait).collect()
}

/// Kills a process as `kill -9` does, and waits until all have ended: without it the others cannot
/// go on.
pub fn kill(run: Vec<Running>, process: usize) {
    run[process].signal("KILL");
    let ended = wait(run);
    assert_eq!(ended[process].signal, Some(SIGKILL), "{:?}", ended[process]);
    let other = ended.iter().enumerate().find(|(number, one)| *number != process && one.code == Some(0));
    assert!(other.is_none(), "it ended as if nothing had happened: {other:?}");
}

/// Ends a run cleanly, once it runs: before that, a signal is a kill.
pub fn stop(mut run: Vec<Running>) {
    run[0].until_logged("job runs");
    run[0].signal("TERM");
    wait(run).into_iter().for_each(|ended| drop(ended.succeeded()));
}
