//! History is complete up to the row that was offered last, and has each row once, whatever of checkpoints and
//! files happens between the steps of reading it.

use super::support::{ARCHIVE, Driver, SEGMENTS, Site};
use crate::archive::*;
use crate::disk::Disk;
use arrow_array::{Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::path::Path;
use std::sync::mpsc;

const DAY_US: i64 = 86_400_000_000;
const TWINS: [&str; 3] = ["a", "b", "c"];

/// Rows of all twins in turn, numbered from `from` on, each a minute after the one before.
fn rows(from: i64, count: i64) -> Vec<ArchiveBatch> {
    let at = |number: i64| number * 60_000_000;
    let numbers: Vec<i64> = (from..from + count).collect();
    let days = numbers.chunk_by(|a, b| at(*a).div_euclid(DAY_US) == at(*b).div_euclid(DAY_US));
    let batch = |numbers: &[i64]| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = vec![
            Field::new("twin", DataType::Utf8, false),
            Field::new("at", time, false),
            Field::new("n", DataType::Int64, false),
        ];
        let twins: StringArray = numbers.iter().map(|one| Some(TWINS[*one as usize % 3])).collect();
        let times: TimestampMicrosecondArray = numbers.iter().map(|one| Some(at(*one))).collect();
        let ns = Int64Array::from(numbers.to_vec());
        let columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(twins), Arc::new(times), Arc::new(ns)];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        let day = at(numbers[0]).div_euclid(DAY_US) as i32;
        ArchiveBatch { table: "lifecycle", day, rows: rows.expect("columns that fit the schema") }
    };
    days.map(batch).collect()
}

/// Chance that is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A writer, and how far it has come.
struct Story {
    driver: Driver,
    offered: i64,
    boundaries: u64,
    committed: u64,
}

impl Story {
    /// Something happens.
    fn go_on(&mut self, dice: &mut Dice) {
        match dice.roll(4) {
            0 | 1 => {
                let count = 1 + dice.roll(400) as i64;
                rows(self.offered, count).into_iter().for_each(|batch| self.driver.offer(batch));
                self.offered += count;
            }
            2 if self.boundaries == self.committed => {
                self.boundaries += 1;
                self.driver.boundary(self.boundaries, false).expect("a part");
            }
            _ if self.boundaries > self.committed => {
                self.committed += 1;
                self.driver.commit(self.committed);
            }
            _ => {}
        }
    }

    fn look(&mut self, twin: &str) -> Recent {
        let (sent, replied) = mpsc::channel();
        let reply = Box::new(move |recent| sent.send(recent).expect("it is waited for"));
        self.driver.writer.take(Order::Look { table: "lifecycle".into(), twin: twin.into(), reply });
        replied.recv().expect("a reply")
    }
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(super::support::numbers).collect()
}

fn check(seed: u64, fallbacks: usize, roll: &str) -> usize {
    let mut dice = Dice(seed + 1);
    let site = Site { fallbacks, ..Site::with_roll(roll) };
    let disk: Arc<dyn Disk> = Arc::new(site.disk.clone());
    // Files of another run whose data folder was removed: they have the same generation, and later numbers.
    let old = Site { generation: site.generation, ..site.clone() };
    let mut before = old.drive(0, Vec::new());
    for number in 1..=3 {
        rows((number - 1) * 50, 50).into_iter().for_each(|batch| before.offer(batch));
        before.checkpoint(number as u64, true);
    }
    let mut story = Story { driver: site.drive(0, Vec::new()), offered: 150, boundaries: 0, committed: 0 };
    let mut gone = 0;
    for _ in 0..60 {
        story.go_on(&mut dice);
        let twin = TWINS[dice.roll(3) as usize];
        let listed = listed(&*disk, Path::new(ARCHIVE), "j", "lifecycle").expect("it is listed");
        story.go_on(&mut dice);
        let (recent, offered) = (story.look(twin), story.offered);
        story.go_on(&mut dice);
        story.go_on(&mut dice);
        let expected: Vec<i64> = (0..offered).filter(|number| TWINS[*number as usize % 3] == twin).collect();
        for rows_max in [usize::MAX, 70] {
            let wanted = Wanted {
                table: "lifecycle".into(),
                twin: twin.into(),
                from_us: i64::MIN,
                to_us: i64::MAX,
                rows_max,
            };
            let recent = std::slice::from_ref(&recent);
            let read = history(&disk, Path::new(ARCHIVE), Path::new(SEGMENTS), "j", &listed, recent, &wanted);
            match read {
                Ok(batches) => {
                    let mut found = numbers(&batches);
                    found.drain(..found.len().saturating_sub(rows_max));
                    let newest = &expected[expected.len().saturating_sub(rows_max)..];
                    assert_eq!(found, newest, "seed {seed}, {offered} rows");
                }
                Err(error) => {
                    assert!(error.is_gone(), "seed {seed}: {error}");
                    gone += 1;
                }
            }
        }
    }
    gone
}

#[test]
fn each_row_is_read_once_whatever_happens_meanwhile() {
    let mut gone = 0;
    for seed in 0..40 {
        gone += check(seed, 0, ["1KB", "20KB", "128MB/10m"][seed as usize % 3]);
        // Where a start may fall back, segments stay for long enough.
        assert_eq!(check(seed, 2, ["1KB", "20KB", "128MB/10m"][seed as usize % 3]), 0);
    }
    assert!(gone > 0, "a reader that is too slow is told");
}
