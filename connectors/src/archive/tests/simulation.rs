//! Chance against an oracle, on a disk that loses power.
//!
//! Rows are numbered in the order in which they are offered, and a run that goes on from a checkpoint
//! offers those behind it again, as the engine does. So the oracle is one number for a checkpoint:
//! visible files and open segments together have to hold each number below it exactly once. It is
//! asked after every commit and after every start, whatever the last run was doing when it ended.

use super::support::{Driver, Site, batch};
use crate::archive::*;
use crate::disk::Fault;
use std::path::Path;

const TABLES: [&str; 2] = ["state", "physical"];

/// A seeded generator, splitmix64.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A committed checkpoint.
#[derive(Clone)]
struct Manifest {
    generation: u64,
    parts: Vec<ArchivePart>,
    next: i64,
}

struct World {
    site: Site,
    chance: Chance,
    writers: Vec<Driver>,
    /// The number of the next row.
    next: i64,
    boundary: u64,
    /// The checkpoints that are kept, the newest last.
    kept: Vec<Manifest>,
    starts: u64,
    falls_back: u64,
    /// Whether the power may go at a start, too.
    is_safe: bool,
}

impl World {
    fn new(seed: u64, is_safe: bool) -> Self {
        let mut chance = Chance(seed);
        let mut site = Site::with_roll("6KB/20s");
        site.disk = crate::disk::SimDisk::new(seed);
        site.fallbacks = chance.below(3) as usize;
        site.generation = 0;
        let mut world = Self {
            site,
            chance,
            writers: Vec::new(),
            next: 0,
            boundary: 0,
            kept: Vec::new(),
            starts: 0,
            falls_back: 0,
            is_safe,
        };
        world.start(0);
        world
    }

    fn is_off(&self) -> bool {
        self.site.disk.is_folder(Path::new("/")).is_err()
    }

    /// Goes on from a kept checkpoint, after as many falls of the power on the way as chance wants.
    fn start(&mut self, skipped: usize) {
        self.kept.truncate(self.kept.len() - skipped);
        let manifest = self.kept.last().cloned();
        self.kept = manifest.iter().cloned().collect();
        let committed = match &manifest {
            None => Committed::Nothing,
            Some(Manifest { parts, generation, .. }) if skipped > 0 => {
                Committed::Older { parts, generation: *generation }
            }
            Some(Manifest { parts, .. }) => Committed::Newest(parts),
        };
        self.next = manifest.as_ref().map_or(0, |manifest| manifest.next);
        let adopted = loop {
            self.starts += 1;
            if !self.is_safe && self.chance.one_in(2) {
                self.site.disk.plan(Fault::PowerOff, 1 + self.chance.below(30));
            }
            match self.site.restore(committed) {
                Ok(adopted) => break adopted,
                Err(error) => assert!(self.is_off(), "restore: {error}"),
            }
            self.site.disk = self.site.disk.crash();
        };
        if !self.is_off() {
            self.look(&adopted);
        }
        self.site.generation += 1;
        self.site.alarm = Arc::default();
        let count = 1 + self.chance.below(3) as usize;
        let mut shares = vec![Vec::new(); count];
        for segment in adopted {
            shares[self.chance.below(count as u64) as usize].push(segment);
        }
        let (disk, writers) = (&self.site.disk, shares.into_iter().enumerate());
        self.writers = writers
            .map(|(worker, adopted)| {
                let setup = ArchiveSetup { disk: Arc::new(disk.clone()), ..self.site.setup(worker, adopted) };
                super::support::Driver::try_new(setup)
            })
            .map_while(Result::ok)
            .collect();
        assert!(self.writers.len() == count || self.is_off());
    }

    /// The oracle.
    fn look(&self, open: &[SegmentRef]) {
        let visible = self.site.visible().into_values().flatten();
        let open = open.iter().flat_map(|segment| self.site.numbers_in(segment));
        let mut found: Vec<i64> = visible.chain(open).collect();
        found.sort_unstable();
        let committed = self.kept.last().map_or(0, |manifest| manifest.next);
        let expected: Vec<i64> = (0..committed).collect();
        assert!(found == expected, "generation {}: {found:?} are not 0..{committed}", self.site.generation);
    }

    /// The oracle while writers run: segments whose file is not visible yet count.
    fn look_at_run(&self) {
        let manifest = self.kept.last().expect("it is committed");
        let is_hidden =
            |plan: &&FilePlan| self.site.disk.len(&Path::new(super::ARCHIVE).join(&plan.path)).is_err();
        let hidden = manifest.parts.iter().flat_map(|part| part.files.iter().filter(is_hidden));
        let open = manifest.parts.iter().flat_map(|part| &part.segments);
        let segments: Vec<_> = hidden.flat_map(|plan| &plan.segments).chain(open).cloned().collect();
        self.look(&segments);
    }

    fn offer(&mut self) {
        let worker = self.chance.below(self.writers.len() as u64) as usize;
        let table = TABLES[self.chance.below(2) as usize];
        // Mostly today; now and then a replay of many days.
        let day = if self.chance.one_in(3) { self.chance.below(14) as i32 } else { 0 };
        // Now and then more than is held in memory.
        let count = if self.chance.one_in(150) { 30_000 } else { 1 + self.chance.below(40) as i64 };
        self.writers[worker].offer(batch(table, day, self.next..self.next + count));
        self.next += count;
    }

    fn checkpoint(&mut self, last: bool) {
        self.boundary += 1;
        let number = self.boundary;
        let parts =
            self.writers.iter_mut().map(|writer| writer.boundary(number, last)).collect::<Option<Vec<_>>>();
        // A checkpoint that comes to nothing is as good as none.
        let Some(parts) = parts.filter(|_| !self.is_off() && !self.chance.one_in(8)) else { return };
        self.kept.push(Manifest { generation: self.site.generation, parts, next: self.next });
        if self.kept.len() > self.site.fallbacks + 1 {
            self.kept.remove(0);
        }
        for index in 0..self.writers.len() {
            // All hear of it, or the run ends before.
            self.writers[index].commit(number);
            if !self.is_off() {
                self.look_at_run();
            }
        }
    }

    /// Ends the run, by its own will, by a kill or by a loss of power, and starts the next one.
    fn restart(&mut self) {
        if self.chance.one_in(4) {
            self.checkpoint(true);
        }
        self.site.disk = if self.chance.one_in(3) { self.site.disk.kill() } else { self.site.disk.crash() };
        self.writers.clear();
        let newer = self.kept.len().saturating_sub(1) as u64;
        let skipped = if self.chance.one_in(3) { self.chance.below(newer + 1) } else { 0 };
        self.falls_back += skipped;
        self.start(skipped as usize);
    }

    fn step(&mut self) {
        self.site.clock.advance(self.chance.below(5_000_000) as i64 - 500_000);
        match self.chance.below(30) {
            0 => self.site.disk.plan(Fault::PowerOff, 1 + self.chance.below(60)),
            1 => self.site.disk.plan(Fault::WriteFails, 1 + self.chance.below(60)),
            2 => self.site.disk.plan(Fault::SyncFails, 1 + self.chance.below(60)),
            3 => self.site.disk.plan(Fault::ShortWrite, 1 + self.chance.below(60)),
            4 => self.restart(),
            5..10 => self.checkpoint(false),
            _ => self.offer(),
        }
        if self.is_off() || self.site.alarm.reason().is_some() {
            self.restart();
        }
    }
}

#[test]
fn every_committed_row_is_there_once() {
    let (mut starts, mut falls_back, mut rows) = (0, 0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed, false);
        for _ in 0..200 {
            world.step();
        }
        world.restart();
        starts += world.starts;
        falls_back += world.falls_back;
        rows += world.next;
    }
    // Chance was not idle.
    assert!(starts > 1_000 && falls_back > 50 && rows > 20_000, "{starts} {falls_back} {rows}");
}

/// The same few checkpoints, with the power off at each of their operations, and now and then at one of
/// the start that follows.
#[test]
fn the_power_may_go_at_any_operation() {
    let script = |off_at: Option<u64>| {
        let mut world = World::new(0, true);
        world.site.fallbacks = 1;
        world.writers = (0..2).map(|worker| world.site.drive(worker, Vec::new())).collect();
        let before = world.site.disk.operations();
        if let Some(off_at) = off_at {
            world.site.disk.plan(Fault::PowerOff, off_at);
        }
        for checkpoint in 0..4 {
            for _ in 0..8 {
                world.offer();
            }
            world.site.clock.advance(15_000_000);
            world.checkpoint(checkpoint == 3);
        }
        let operations = world.site.disk.operations() - before;
        world.is_safe = false;
        (world, operations)
    };
    let (_, operations) = script(None);
    assert!(operations > 100, "{operations}");
    for off_at in 1..=operations {
        for skipped in 0..2 {
            let (mut world, _) = script(Some(off_at));
            if skipped < world.kept.len().max(1) {
                world.site.disk = world.site.disk.crash();
                world.start(skipped);
            }
        }
    }
}
