//! The journal on a disk that loses power, gets full and fails, against an oracle: what was called
//! durable is there afterwards, in order and unchanged, what was written survives a kill, and nothing
//! is there that was never appended.

use super::*;
use crate::disk::{Fault, SimDisk};

/// A small generator of numbers, so that a seed is all there is to say of a run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn on(disk: &SimDisk) -> (JournalSetup, Arc<Alarm>) {
    let setup = small(Path::new("in/journal"));
    (JournalSetup { disk: Arc::new(disk.clone()), ..setup.clone() }, setup.alarm)
}

/// A disk with the folder that the engine has made.
fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    make_durable_folder(&disk, Path::new("in/journal")).expect("no fault");
    disk
}

/// What the oracle knows.
#[derive(Default)]
struct Known {
    /// Every record that may be there, from position 1 on.
    appended: Vec<Record>,
    /// Up to here all must be there, whatever happens.
    promised: u64,
    /// Up to here all must be there while the machine stays on; after a loss of power, what is promised.
    written: u64,
    /// Before this nothing need be there.
    truncated: u64,
}

impl Known {
    /// Compares what was found, and takes it for what is there.
    fn check(&mut self, journal: &Journal, kept: &Kept, case: &str) {
        assert!(journal.first() <= self.truncated.max(1), "{case}: begins at {}", journal.first());
        assert!(
            journal.next() > self.promised,
            "{case}: {} promised, next {}",
            self.promised,
            journal.next()
        );
        assert_eq!(kept.len() as u64, journal.next() - journal.first(), "{case}");
        for ((position, record), expected) in kept.iter().zip(journal.first()..) {
            assert_eq!(*position, expected, "{case}");
            assert_eq!(Some(record), self.appended.get(expected as usize - 1), "{case}: {expected}");
        }
        self.appended.truncate(journal.next() as usize - 1);
        (self.promised, self.written) = (journal.next() - 1, journal.next() - 1);
        assert_eq!(journal.synced(), self.promised, "{case}");
    }

    /// Appends, waits and truncates by chance until something fails, or for so many steps.
    fn live(&mut self, journal: &mut Journal, chance: &mut Chance, steps: u64) {
        for _ in 0..steps {
            let at_us = chance.below(1_000) as i64;
            let count = 1 + chance.below(3);
            let records: Vec<_> = (0..count).map(|_| some_record(journal.next(), at_us, chance)).collect();
            let expected = numbered(records.clone(), journal.next());
            match journal.append(at_us, &records) {
                Ok(_) => {
                    self.appended.extend(expected);
                    self.written = self.appended.len() as u64;
                }
                Err(_) => {
                    // What failed may be there in part, as whole frames.
                    self.appended.extend(expected);
                    break;
                }
            }
            if chance.below(3) == 0 && journal.wait_synced().is_err() {
                break;
            }
            if chance.below(8) == 0 {
                let position = journal.synced() + 1 - chance.below(journal.synced() + 1);
                self.truncated = self.truncated.max(position);
                if journal.truncate_before(position).is_err() {
                    break;
                }
            }
        }
        self.promised = self.promised.max(journal.synced());
    }
}

fn some_record(position: u64, at_us: i64, chance: &mut Chance) -> Record {
    match chance.below(10) {
        0 => Record::Lost { at_us, reason: format!("reason {position}") },
        1 => Record::Restored { at_us },
        _ => {
            let payload = vec![b'a' + chance.below(26) as u8; chance.below(300) as usize];
            let mut record = message(chance.below(60_000) as u16, "topic", &payload);
            if let Record::Message { message, .. } = &mut record {
                message.arrived_at_us = at_us;
            }
            record
        }
    }
}

fn numbered(mut records: Vec<Record>, first: u64) -> Vec<Record> {
    for (record, number) in records.iter_mut().zip(first..) {
        if let Record::Message { message, .. } = record {
            message.position = number;
        }
    }
    records
}

#[test]
fn what_was_promised_survives_power_off_at_every_operation() {
    let operations = {
        let disk = disk(1);
        let (mut journal, _) = opened(on(&disk).0);
        Known::default().live(&mut journal, &mut Chance(1), 40);
        drop(journal);
        disk.operations()
    };
    assert!(operations > 60, "{operations}");
    for nth in 1..=operations {
        let (disk, mut known, case) = (disk(nth), Known::default(), format!("operation {nth}"));
        disk.plan(Fault::PowerOff, nth);
        if let Ok((mut journal, _)) = open(on(&disk).0) {
            known.live(&mut journal, &mut Chance(1), 40);
        }
        known.written = known.promised;
        let disk = disk.crash();
        let (mut journal, kept) = opened(on(&disk).0);
        known.check(&journal, &kept, &case);
        known.live(&mut journal, &mut Chance(nth), 5);
        drop(journal);
        let (journal, kept) = opened(on(&disk.kill()).0);
        known.check(&journal, &kept, &case);
    }
}

#[test]
fn many_lives_with_every_fault_lose_and_invent_nothing() {
    for seed in 0..150 {
        let (mut disk, mut known, mut chance) = (disk(seed), Known::default(), Chance(seed));
        for number in 0..8 {
            let case = format!("seed {seed}, life {number}");
            let fault = [Fault::PowerOff, Fault::WriteFails, Fault::ShortWrite, Fault::SyncFails];
            let fault = fault[chance.below(4) as usize];
            disk.plan(fault, 1 + chance.below(60));
            let (setup, alarm) = on(&disk);
            // Held until the end, so that what is not synced yet is not.
            let life = open(setup).map(|(mut journal, kept)| {
                known.check(&journal, &kept, &case);
                let steps = chance.below(40);
                known.live(&mut journal, &mut chance, steps);
                if journal.has_failed() {
                    let reason = alarm.reason().expect("a failure is said").to_owned();
                    assert!(
                        reason.contains("journal of press") && reason.contains("start again"),
                        "{reason}"
                    );
                    let synced = journal.synced();
                    assert!(journal.append(1, &[message(1, "t", b"x")]).is_err(), "{case}");
                    assert!(journal.wait_synced().is_err() && journal.synced() == synced, "{case}");
                }
                journal
            });
            disk = match chance.below(2) {
                0 => {
                    known.written = known.promised;
                    disk.crash()
                }
                _ => disk.kill(),
            };
            drop(life);
        }
        let (journal, kept) = opened(on(&disk).0);
        known.check(&journal, &kept, &format!("seed {seed}, at the end"));
    }
}

#[test]
fn a_full_disk_leaves_a_torn_end_that_nothing_follows() {
    let disk = SimDisk::new(5);
    let (setup, alarm) = on(&disk);
    let (mut journal, _) = opened(setup);
    let kept = keep(&mut journal, 1, vec![message(1, "t", &[b'x'; 100])]);
    disk.limit(journal.bytes() + 50);
    assert!(journal.append(2, &[message(2, "t", &[b'y'; 100])]).is_err());
    assert!(journal.append(3, &[message(3, "t", b"z")]).is_err(), "though it would fit");
    let reason = alarm.reason().expect("said").to_owned();
    assert!(reason.contains("write to") && reason.contains("free space"), "{reason}");
    drop(journal);
    disk.limit(u64::MAX);
    let (mut journal, found) = opened(on(&disk.kill()).0);
    assert_eq!((&found, journal.next()), (&kept, 2));
    assert_eq!(keep(&mut journal, 4, vec![message(4, "t", b"on")])[0].0, 2);
}
