//! The archive as others see it: what is visible after which step, read back with the Parquet crate.

mod history;
mod simulation;
mod starts;
mod support;

use super::*;
use crate::disk::{DiskFile, Fault, SystemDisk};
use std::io::Write;
use std::path::Path;
use support::{ARCHIVE, LONG, SEGMENTS, Site, batch, batch_of, checkpoint, kilobytes};

#[test]
fn rows_come_back_from_complete_files() {
    let site = Site { generation: 7, ..Site::new() };
    site.restore(Committed::Nothing).expect("restored");
    let archive = start(ArchiveSetup { job: "a/b".into(), ..site.setup(2, Vec::new()) }).expect("started");
    for (table, day, range) in
        [("state", 0, 0..10), ("physical", 0, 0..5), ("state", 1, 10..20), ("state", 0, 20..5_020)]
    {
        archive.offer(batch(table, day, range)).expect("room");
    }
    let part = checkpoint(&archive, 1, true);
    assert_eq!((part.worker, part.sequence, part.segments.len(), part.files.len()), (2, 3, 0, 3));
    let stats = archive.stats.clone();
    let closed = ArchiveClosed { rows: 5_025, files: 3, rows_uncommitted: 0 };
    assert_eq!(archive.close(LONG).expect("closed"), closed);
    let expected = [
        "physical/job=a%2Fb/date=1970-01-01/7-2-2.parquet",
        "state/job=a%2Fb/date=1970-01-01/7-2-1.parquet",
        "state/job=a%2Fb/date=1970-01-02/7-2-3.parquet",
    ];
    assert_eq!(site.files(ARCHIVE), expected);
    assert_eq!(site.numbers(expected[1]), (0..10).chain(20..5_020).collect::<Vec<_>>());
    assert_eq!(site.numbers(expected[2]), (10..20).collect::<Vec<_>>());
    assert_eq!(site.files(SEGMENTS), [""; 0]);
    let sizes = expected.iter().map(|name| site.disk.len(&Path::new(ARCHIVE).join(name)).expect("the file"));
    assert_eq!(stats.bytes.load(Ordering::Relaxed), sizes.sum::<u64>());
    assert_eq!((stats.rows.load(Ordering::Relaxed), stats.files.load(Ordering::Relaxed)), (5_025, 3));
    assert_eq!(
        (stats.failures.load(Ordering::Relaxed), stats.in_flight_bytes.load(Ordering::Relaxed)),
        (0, 0)
    );
}

#[test]
fn it_works_on_the_machines_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new();
    site.settings.path = folder.path().join("archive");
    let segments = folder.path().join("data/segments");
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let mut part = ArchivePart::default();
    for (number, last) in [(1, false), (2, true)] {
        let parts = [part];
        let committed = if number == 1 { Committed::Nothing } else { Committed::Newest(&parts) };
        let adopted = restore(&disk, &site.settings, "j", &segments, committed).expect("restored");
        let setup = ArchiveSetup { disk: disk.clone(), segments: segments.clone(), ..site.setup(0, adopted) };
        let archive = start(setup).expect("started");
        archive.offer(batch("state", 0, number * 10..number * 10 + 3)).expect("room");
        part = checkpoint(&archive, number as u64, last);
        archive.offer(batch("state", 0, 100..103)).expect("room");
        let closed = archive.close(LONG).expect("closed");
        assert_eq!((closed.files, closed.rows_uncommitted), (u64::from(last), 3));
        site.generation += 1;
        part.segments.iter_mut().for_each(|segment| segment.began_us -= 1);
    }
    let file = site.settings.path.join("state/job=j/date=1970-01-01/1-0-1.parquet");
    assert!(!file.exists(), "it was the second run that planned the file");
    let bytes = std::fs::read(file.with_file_name("2-0-1.parquet")).expect("the file");
    assert!(bytes.ends_with(b"PAR1"));
}

#[test]
fn a_file_says_where_it_comes_from() {
    let site = Site { generation: 3, ..Site::new() };
    let mut writer = site.drive(0, Vec::new());
    writer.offer(batch("state", 0, 0..1));
    let part = writer.checkpoint(1, true);
    let reader = site.reader("state/job=j/date=1970-01-01/3-0-1.parquet");
    let pairs = reader.metadata().file_metadata().key_value_metadata().expect("metadata");
    let segment = part.files[0].segments[0].name.as_str();
    for (key, value) in [
        ("twinloom.format", "1"),
        ("twinloom.job", "j"),
        ("twinloom.generation", "3"),
        ("twinloom.segments", segment),
    ] {
        let pair = pairs.iter().find(|pair| pair.key == key).expect(key);
        assert_eq!(pair.value.as_deref(), Some(value), "{key}");
    }
}

#[test]
fn only_what_is_committed_becomes_visible() {
    let site = Site::new();
    let mut writer = site.drive(0, Vec::new());
    writer.offer(batch("state", 0, 0..3));
    let part = writer.boundary(1, true).expect("a part");
    assert_eq!(part.files[0].rows, 3);
    assert!(!writer.writer.has_work());
    assert_eq!(site.files(ARCHIVE), [""; 0]);
    // A checkpoint that comes to nothing: the next one lists what it planned.
    writer.offer(batch("state", 0, 3..5));
    let part = writer.boundary(2, false).expect("a part");
    assert_eq!((part.files[0].rows, part.segments[0].rows), (3, 2));
    writer.commit(2);
    let file = "state/job=j/date=1970-01-01/1-0-1.parquet";
    assert_eq!(site.visible(), [(file.to_owned(), vec![0, 1, 2])].into());
}

fn scatter(number: i64) -> i64 {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) as i64
}

#[test]
fn files_roll_by_size() {
    let mut site = Site::new();
    site.settings.roll = kilobytes(200);
    // Numbers that an encoding makes little of, so that files are not much smaller than their segments.
    let rows = |range: std::ops::Range<i64>| range.map(scatter);
    let mut writer = site.drive(0, Vec::new());
    for part in 0..10 {
        writer.offer(batch_of("state", 0, rows(part * 20_000..part * 20_000 + 19_000)));
        writer.offer(batch_of("state", 0, rows(part * 20_000 + 19_000..(part + 1) * 20_000)));
        if part != 3 {
            writer.checkpoint(part as u64, false);
        }
    }
    let grown = writer.writer.files.sequence();
    writer.checkpoint(10, true);
    let path = |sequence: u64| format!("state/job=j/date=1970-01-01/1-0-{sequence}.parquet");
    let found: Vec<i64> =
        (1..=writer.writer.files.sequence()).flat_map(|sequence| site.numbers(&path(sequence))).collect();
    assert_eq!(found, rows(0..200_000).collect::<Vec<_>>());
    let size = |sequence| site.disk.len(&Path::new(ARCHIVE).join(path(sequence))).expect("the file");
    let sizes: Vec<u64> = (1..=grown).map(size).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| (100_000..600_000).contains(size)), "{sizes:?}");
}

#[test]
fn files_roll_by_age_though_no_row_comes() {
    let check = |step_us: i64, expected: usize| {
        let site = Site::with_roll("10m");
        let mut writer = site.drive(0, Vec::new());
        writer.offer(batch("state", 0, 0..3));
        writer.checkpoint(1, false);
        site.clock.advance(step_us);
        writer.checkpoint(2, false);
        assert_eq!(site.visible().len(), expected, "{step_us}");
    };
    check(599_999_999, 0);
    check(600_000_000, 1);
    check(-1, 0);
}

#[test]
fn a_clock_that_steps_back_does_not_keep_a_file_open() {
    let site = Site::with_roll("10m");
    let mut writer = site.drive(0, Vec::new());
    site.clock.set(1_000_000_000_000_000);
    writer.offer(batch("state", 0, 0..3));
    site.clock.set(0);
    writer.checkpoint(1, false);
    site.clock.set(600_000_000);
    writer.checkpoint(2, false);
    assert_eq!(site.visible().len(), 1);
}

#[test]
fn ten_events_a_second_make_six_files_an_hour_whatever_the_interval() {
    for interval in [1, 7, 10, 60, 420] {
        let site = Site::new();
        let mut writer = site.drive(0, Vec::new());
        let mut number = 0;
        for second in 0..3_600_i64 {
            site.clock.set(second * 1_000_000);
            writer.offer(batch("state", 0, second * 10..(second + 1) * 10));
            if second % interval == interval - 1 {
                number += 1;
                writer.checkpoint(number, false);
            }
        }
        let visible = site.visible();
        assert!((3..=6).contains(&visible.len()), "every {interval} s: {} files", visible.len());
        writer.checkpoint(number + 1, true);
        let mut rows: Vec<i64> = site.visible().into_values().flatten().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..36_000).collect::<Vec<_>>(), "every {interval} s");
    }
}

#[test]
fn many_days_at_once_need_few_handles() {
    let site = Site::new();
    let mut writer = site.drive(0, Vec::new());
    for round in 0..4 {
        for day in 0..100 {
            let from = i64::from(day) * 40_000 + round * 10_000;
            writer.offer(batch("state", day, from..from + 10_000));
            writer.offer(batch("other", 0, from..from + 1));
        }
        assert!(writer.handles() <= 8 + 1, "{}", writer.handles());
    }
    let part = writer.checkpoint(1, false);
    assert_eq!((part.files.len(), part.segments.len()), (92, 8 + 1));
    assert_eq!(site.visible().len(), 92);
    writer.checkpoint(2, true);
    let mut rows: Vec<i64> = site
        .visible()
        .into_iter()
        .filter(|(path, _)| path.starts_with("state"))
        .flat_map(|(_, rows)| rows)
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..4_000_000).collect::<Vec<_>>());
}

#[test]
fn a_new_schema_begins_a_new_file() {
    let site = Site::new();
    let mut writer = site.drive(0, Vec::new());
    writer.offer(batch("state", 0, 0..2));
    let narrow = batch("state", 0, 2..4).rows.project(&[1]).expect("one column");
    writer.offer(ArchiveBatch { table: "state", day: 0, rows: narrow });
    writer.checkpoint(1, true);
    assert_eq!(site.visible().into_values().collect::<Vec<_>>(), [[0, 1], [2, 3]]);
}

#[test]
fn a_file_that_cannot_be_made_is_made_later() {
    let site = Site::new();
    // A file stands where the table's folder has to be.
    let in_the_way = Path::new("/archive/state");
    site.disk.make_folder(Path::new(ARCHIVE)).expect("made");
    let mut file: Box<dyn DiskFile> = site.disk.create(in_the_way).expect("made");
    file.write_all(b"in the way").expect("written");
    let archive = site.start();
    archive.offer(batch("state", 0, 0..3)).expect("room");
    archive.offer(batch("other", 0, 0..1)).expect("room");
    let part = checkpoint(&archive, 1, true);
    let stats = archive.stats.clone();
    let text = archive.close(LONG).expect_err("a file is not made").to_string();
    assert!(
        text.contains("1 files with 3 rows") && text.contains("safe") && text.contains("state"),
        "{text}"
    );
    // At the commit, and once more at the end.
    assert_eq!((stats.failures.load(Ordering::Relaxed), stats.files.load(Ordering::Relaxed)), (2, 1));
    assert_eq!(site.alarm.reason(), None);
    site.disk.remove(in_the_way).expect("removed");
    assert_eq!(site.restore(Committed::Newest(&[part])).expect("restored"), []);
    assert_eq!(site.visible().into_values().collect::<Vec<_>>(), [vec![0], vec![0, 1, 2]]);
    assert_eq!(site.files(SEGMENTS), [""; 0]);
}

#[test]
fn a_file_that_fails_is_made_afresh_at_the_next_commit() {
    // At each write and sync that making a file takes.
    for fault in [Fault::WriteFails, Fault::SyncFails, Fault::ShortWrite] {
        for nth in 1..20 {
            let site = Site::new();
            let mut writer = site.drive(0, Vec::new());
            writer.offer(batch("state", 0, 0..3));
            writer.boundary(1, true).expect("a part");
            site.disk.plan(fault, nth);
            writer.commit(1);
            writer.commit(2);
            assert_eq!(site.visible().into_values().collect::<Vec<_>>(), [[0, 1, 2]], "{fault:?} {nth}");
            assert_eq!(site.files(ARCHIVE).len(), 1, "{fault:?} {nth}");
            writer.commit(3);
            assert_eq!(site.files(SEGMENTS), [""; 0], "{fault:?} {nth}");
        }
    }
}

#[test]
fn a_segment_that_cannot_be_written_ends_the_run() {
    for fault in [Fault::WriteFails, Fault::SyncFails] {
        let site = Site::new();
        let archive = site.start();
        archive.offer(batch("state", 0, 0..3)).expect("room");
        site.disk.plan(fault, 1);
        let (sent, replied) = std::sync::mpsc::channel();
        archive.boundary(1, false, Box::new(move |part| sent.send(part).expect("it is waited for")));
        assert!(replied.recv_timeout(LONG).is_err(), "a part without rows that were taken would lose them");
        let reason = site.alarm.reason().expect("the alarm is raised").to_owned();
        assert!(reason.contains(SEGMENTS) && reason.contains("next start"), "{reason}");
        // What comes afterwards is let pass, so that the run can end.
        archive.offer(batch("state", 0, 3..5)).expect("room");
        archive.committed(1);
        let text = archive.close(LONG).expect_err("rows are not kept").to_string();
        assert!(text.contains("last checkpoint"), "{text}");
        assert_eq!(site.files(ARCHIVE), [""; 0]);
    }
}

#[test]
fn rows_that_were_not_committed_are_told_at_the_end() {
    let site = Site::new();
    let archive = site.start();
    archive.offer(batch("state", 0, 0..3)).expect("room");
    checkpoint(&archive, 1, false);
    archive.offer(batch("state", 0, 3..8)).expect("room");
    let closed = ArchiveClosed { rows: 0, files: 0, rows_uncommitted: 5 };
    assert_eq!(archive.close(LONG).expect("closed"), closed);
}

#[test]
fn a_dropped_writer_leaves_no_file() {
    let site = Site::new();
    let archive = site.start();
    archive.offer(batch("state", 0, 0..3)).expect("room");
    checkpoint(&archive, 1, false);
    drop(archive);
    assert_eq!(site.files(ARCHIVE), [""; 0]);
    assert_eq!(site.files(SEGMENTS).len(), 1);
}

#[test]
fn settings_are_read() {
    let read = |text: &str| serde_json::from_str::<ArchiveSettings>(text);
    let settings = read(r#"{"path": "a", "retain": "90d"}"#).expect("good");
    assert_eq!(settings.retain, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(read(r#"{"path": "a"}"#).expect("good").retain, None);
    assert!(read(r#"{"path": "a", "retain": "often"}"#).is_err());
}
