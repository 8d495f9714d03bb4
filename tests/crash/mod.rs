//! Nothing lost, shown on the real program (rules 1.3 and 7): it is killed at moments of chance and at
//! every durable step, started again each time, and judged by an oracle that knows only what was sent.
//!
//! ```text
//!   load ── QoS 1 ──► mosquitto ──► twinloom run ──► mosquitto ──► listener ──┐
//!    └───── acks ───► Kafka ────────►  ▲  │  └──► Kafka ──► kcat ─────────────┤
//!    │                                 │  └──► archive ───────────────────────┤
//!    │             kill -9, failpoints, and again                             ▼
//!    └── what was acknowledged ─────────────────────────────────────────► oracle
//! ```
//! `make crash KILLS=20` runs it alone; `SEED=7` plays a run again, as far as its moments go.
//!
//! - `load`, `fleet`, `strikes`: who speaks, what it is said to, and how it is struck
//! - `oracle`: what must be there
//! - `damage`: disks that are full or fail, files that were changed, folders of others
//! - `poison`: a record on which the program dies each time

mod damage;
mod fleet;
mod load;
mod oracle;
mod oracle_tests;
mod poison;
mod strikes;

use std::sync::Mutex;

use connectors::failpoint::Failpoint;

use fleet::Fleet;
use load::count;
use oracle::{Sent, Verdict};
use strikes::Strike;

use crate::harness::chance::Chance;

/// Kills of chance in a run of all tests; each failpoint strikes besides.
const KILLS_DEFAULT: u64 = 6;
const SEED_DEFAULT: u64 = 1;

/// Where a file named by this variable takes the last line, so that `make crash` ends with it.
const LINE_VARIABLE: &str = "CRASH_LINE";

/// What all runs of this suite came to.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    kills: usize,
    messages: u64,
    lost: usize,
    repeated: usize,
}

static TOTALS: Mutex<Totals> = Mutex::new(Totals { kills: 0, messages: 0, lost: 0, repeated: 0 });

#[test]
fn one_process_that_dies_loses_nothing() {
    check(1, |chance| Failpoint::ALL.iter().map(|point| Strike::failpoint(chance, *point, 0)).collect());
}

/// Rule 7.9: where one process is killed all end, and all are started again.
#[test]
fn one_of_two_processes_that_dies_loses_nothing() {
    check(2, |chance| {
        // Steps that each process takes, and some of those that only the first one does.
        let strikes = [
            (Failpoint::SegmentAppend, 0),
            (Failpoint::SegmentAppend, 1),
            (Failpoint::PartWrite, 0),
            (Failpoint::PartWrite, 1),
            (Failpoint::ParquetRename, 1),
            (Failpoint::ManifestWrite, 0),
            (Failpoint::ManifestCommitted, 0),
            (Failpoint::TransactionSend, 1),
            (Failpoint::TransactionCommit, 0),
            (Failpoint::TransactionCommitted, 1),
        ];
        strikes.map(|(point, process)| Strike::failpoint(chance, point, process)).into()
    });
}

/// Strikes in an order of chance, judges what can be seen after each, and all of it at the end.
fn check(processes: usize, failpoints: impl Fn(&mut Chance) -> Vec<Strike>) {
    let (kills, seed) = (number("KILLS", KILLS_DEFAULT), number("SEED", SEED_DEFAULT));
    let _replay = Replay { kills, seed };
    let mut chance = Chance::new(seed);
    let mut strikes = failpoints(&mut chance);
    strikes.extend((0..kills).map(|_| Strike::kill(&mut chance, processes)));
    chance.shuffle(&mut strikes);

    let fleet = Fleet::on_both_buses(processes);
    let (first, strikes): (Vec<_>, Vec<_>) = strikes.into_iter().partition(Strike::is_of_the_first_start);
    first.iter().for_each(|strike| strike.strike_first(&fleet));
    let (run, load) = fleet.begin(seed);
    // The first end is a clean one: a session outlives it as well.
    load.until_more(500);
    fleet::stop(run);
    for (done, strike) in strikes.iter().enumerate() {
        println!("crash: {processes} process(es), {} of {}: {strike}", done + 1, strikes.len());
        strike.strike(&fleet, &load);
        let sent = load.sent();
        judged(done + 1, &sent, &fleet.verdict_of_begin(&sent), &format!("after {strike}"));
    }
    let run = fleet.start(&[]);
    let sent = load.finish();
    let verdict = fleet.end(run, &sent);
    judged(strikes.len(), &sent, &verdict, "at the end");
    report(strikes.len(), &sent, &verdict);
}

/// Fails where something was found, after it has been counted.
fn judged(kills: usize, sent: &Sent, verdict: &Verdict, when: &str) {
    if !verdict.is_good() {
        report(kills, sent, verdict);
        panic!("{when}: {}", verdict.show());
    }
}

/// Adds to the totals, and says what they are now.
fn report(kills: usize, sent: &Sent, verdict: &Verdict) {
    let mut totals = TOTALS.lock().expect("nothing panics while it is locked");
    totals.kills += kills;
    totals.messages += count(sent);
    totals.lost += verdict.lost.len();
    totals.repeated += verdict.repeated.len();
    let Totals { kills, messages, lost, repeated } = *totals;
    let line = format!("crash: {kills} kills, {messages} messages, {lost} lost, {repeated} repeated");
    println!("{line}");
    if let Some(path) = std::env::var_os(LINE_VARIABLE) {
        std::fs::write(path, line + "\n").expect("the caller's file can be written");
    }
}

/// A number of the environment.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    if text.is_empty() {
        return default;
    }
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}

/// Says how a run that fails is played again.
struct Replay {
    kills: u64,
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("crash: failed; again with `make crash KILLS={} SEED={}`", self.kills, self.seed);
        }
    }
}
