//! The whole engine in process, on a disk that fails and a clock that lies: it is struck again and
//! again, and at the end nothing is lost and nothing is there twice (rule 7).
//!
//! ```text
//!   seed ─► script ─────► source, read again from where the checkpoint says
//!       └─► strikes ──┐              │
//!                     ▼              ▼
//!         start ─► struck ─► the disk that is left ─► start on other workers ─► .. ─► clean end ─► oracle
//! ```
//! `SEED=7` plays one seed, `SEEDS=200` plays more than the suite does. Threads are not simulated, so a
//! seed draws the same script and strikes, at about the same place.

mod engine;
mod oracle;
mod script;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connectors::disk::Fault;
use dataflows::run::RunError;

use crate::harness::chance::Chance;
use engine::Site;
use script::{MESSAGES, Script};

/// Seeds that the suite plays.
const SEEDS: u64 = 16;
/// Strikes of a seed.
const STRIKES: u64 = 4;

/// What happens to a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Strike {
    /// Stopped cleanly, to go on on another layout.
    Stop,
    /// The process is killed.
    Kill,
    /// The machine loses power between two operations.
    PowerLoss,
    /// The machine goes off within an operation.
    PowerOff,
    /// A sync fails.
    SyncFails,
    /// A write fails.
    WriteFails,
    /// The disk is full.
    Full,
    /// Killed, and a bit of the newest checkpoint is flipped.
    BitFlip,
}

const ALL: [Strike; 8] = [
    Strike::Stop,
    Strike::Kill,
    Strike::PowerLoss,
    Strike::PowerOff,
    Strike::SyncFails,
    Strike::WriteFails,
    Strike::Full,
    Strike::BitFlip,
];

#[test]
fn nothing_is_lost_whatever_strikes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SEEDS").unwrap_or(SEEDS)).collect(),
    };
    // Runs mostly wait for the disk and for each other.
    let (left, right) = seeds.split_at(seeds.len() / 2);
    std::thread::scope(|scope| {
        let halves = [left, right].map(|seeds| scope.spawn(|| seeds.iter().for_each(|seed| check(*seed))));
        let ended = halves.map(|half| half.join());
        assert!(ended.iter().all(Result::is_ok), "a seed failed, see above");
    });
}

/// Says the seed of a test that panics.
struct SaysSeed(u64);

impl Drop for SaysSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("play it again with SEED={}", self.0);
        }
    }
}

fn check(seed: u64) {
    let _says = SaysSeed(seed);
    let script = Arc::new(Script::new(seed));
    let mut chance = Chance::new(seed ^ 0x5eed);
    let mut site = Site::new(seed, script.clone());
    for round in 0..STRIKES {
        // Every seed begins elsewhere in the list, so that a few seeds have all of it.
        let strike = ALL[((seed * 3 + round) % ALL.len() as u64) as usize];
        if chance.one_in(3) {
            site.disk.slow(Duration::from_micros(200));
        }
        eprintln!("seed {seed}: {strike:?}");
        play(&mut site, strike, round, &mut chance);
        oracle::check_visible(&site.archive());
        // Clocks are set while the engine is down, most of all.
        site.clock.advance(chance.below(4 * 3_600_000_000) as i64 - 2 * 3_600_000_000);
    }
    site.progress.ends.store(true, Ordering::SeqCst);
    let run = site.start(1 + chance.below(3) as usize, seed).expect("the disk is whole again");
    site.end_of(run);
    let heard = site.heard.lock().expect("the sink has ended");
    let archive = site.archive();
    oracle::check_end(&script, &archive, &heard);
    let calm = undisturbed(seed, script.clone());
    assert_eq!(oracle::lasting(&archive), calm, "what a run has that nothing strikes");
}

/// What the archive has after one run that nothing strikes.
fn undisturbed(seed: u64, script: Arc<Script>) -> Vec<Vec<serde_json::Value>> {
    let site = Site::new(seed, script);
    site.progress.ends.store(true, Ordering::SeqCst);
    site.end_of(site.start(1, seed).expect("an empty disk is fine"));
    oracle::lasting(&site.archive())
}

/// One run and what strikes it; then the disk is as the next run finds it.
fn play(site: &mut Site, strike: Strike, round: u64, chance: &mut Chance) {
    let workers = 1 + chance.below(3) as usize;
    let seed = chance.below(1 << 40);
    // A short write is no failure: what is left is written with the next one.
    site.disk.plan(Fault::ShortWrite, 1 + chance.below(60));
    let nth = 1 + chance.below(60);
    let reason = match strike {
        Strike::PowerOff => {
            site.disk.plan(Fault::PowerOff, nth * 3);
            "machine is off"
        }
        Strike::SyncFails => {
            site.disk.plan(Fault::SyncFails, nth);
            "os error 5"
        }
        Strike::WriteFails => {
            site.disk.plan(Fault::WriteFails, nth);
            "os error 28"
        }
        Strike::Full => {
            site.disk.limit(site.used_bytes() + chance.below(40_000));
            "os error 28"
        }
        Strike::Kill | Strike::PowerLoss | Strike::BitFlip | Strike::Stop => "machine is off",
    };
    let goal = (round + 1) * MESSAGES / (STRIKES + 2) + chance.below(MESSAGES / STRIKES / 2);
    let ended = match site.start(workers, seed) {
        Err(error) => error.to_string(),
        Ok(run) => {
            let left = match strike {
                Strike::Stop => {
                    site.see_given(&run, goal);
                    run.stopper().stop();
                    site.end_of(run);
                    site.disk = site.disk.kill();
                    return;
                }
                Strike::Kill | Strike::BitFlip => {
                    site.see_given(&run, goal);
                    Some(site.disk.kill())
                }
                Strike::PowerLoss => {
                    site.see_given(&run, goal);
                    Some(site.disk.crash())
                }
                Strike::SyncFails | Strike::WriteFails => {
                    // Where it struck a Parquet file, that is made afresh and the run goes on.
                    site.see_given(&run, goal);
                    let ended = site.stopped_or_failed(run);
                    site.disk = if chance.one_in(2) { site.disk.crash() } else { site.disk.kill() };
                    assert!(ended.is_none_or(|ended| ended.contains(reason)), "{strike:?}");
                    return;
                }
                _ => None,
            };
            let reason = site.reason_of(run);
            if let Some(left) = left {
                site.disk = left;
            }
            reason
        }
    };
    assert!(ended.contains(reason), "{strike:?}: the run ended with `{ended}`, which is not `{reason}`");
    // After a failure of the disk the machine may well be started anew.
    site.disk = match strike {
        Strike::Kill | Strike::BitFlip | Strike::PowerLoss => site.disk.clone(),
        Strike::PowerOff => site.disk.crash(),
        _ if chance.one_in(2) => site.disk.crash(),
        _ => site.disk.kill(),
    };
    site.disk.limit(u64::MAX);
    if strike == Strike::BitFlip {
        flip(site, chance);
    }
}

/// Flips a bit of the newest manifest or object. The next start takes the checkpoint before; where
/// none is whole it says so, and is happy once the bit is back.
fn flip(site: &mut Site, chance: &mut Chance) {
    use connectors::disk::Disk;
    let files = site.checkpoint_files();
    let folder = if chance.one_in(2) { "manifest" } else { "part" };
    let newest = files.iter().rfind(|path| path.to_string_lossy().contains(folder)).or(files.last());
    let Some(path) = newest else { return };
    let bit = chance.below(site.disk.len(path).expect("it is there") * 8);
    site.disk.flip_bit(path, bit).expect("the bit is there");
    match site.start(1, bit) {
        Ok(run) => {
            site.see_given(&run, 1);
            let left = site.disk.kill();
            site.reason_of(run);
            site.disk = left;
        }
        Err(RunError::Restore(error)) => {
            let text = error.to_string();
            assert!(text.contains("checkpoint"), "{text}");
            site.disk.flip_bit(path, bit).expect("the bit is there");
        }
        Err(other) => panic!("a flipped bit of a checkpoint ended the start with: {other}"),
    }
}
