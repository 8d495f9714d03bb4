//! What a start finds, and what it makes of it.

use super::support::{ARCHIVE, Driver, SEGMENTS, Site, batch};
use crate::archive::*;
use std::io::Write;
use std::path::Path;

const DAY: &str = "state/job=j/date=1970-01-01";

fn touch(site: &Site, path: &str) {
    let path = Path::new(ARCHIVE).join(path);
    site.disk.make_folder(path.parent().expect("a folder")).expect("made");
    site.disk.create(&path).expect("made").write_all(b"x").expect("written");
}

/// A run that made checkpoints 1 and 2, three rows each, and took three more.
fn run(site: &Site, worker: usize, adopted: Vec<SegmentRef>, last: bool) -> (Driver, [ArchivePart; 2]) {
    let mut writer = site.drive(worker, adopted);
    let mut next = site.generation as i64 * 1_000 + worker as i64 * 100;
    let mut offer = |writer: &mut Driver| {
        writer.offer(batch("state", 0, next..next + 3));
        next += 3;
    };
    offer(&mut writer);
    let first = writer.checkpoint(1, false);
    offer(&mut writer);
    let second = writer.checkpoint(2, last);
    offer(&mut writer);
    (writer, [first, second])
}

#[test]
fn an_archive_of_an_earlier_data_folder_is_kept() {
    let site = Site::new();
    let kept = [
        "note.txt",
        &*format!("{DAY}/1-0-1.parquet"),
        "state/job=k/date=1970-01-01/.1-0-2.parquet.inprogress",
    ];
    kept.into_iter().for_each(|path| touch(&site, path));
    touch(&site, &format!("{DAY}/.1-0-2.parquet.inprogress"));
    touch(&site, "physical/job=j/date=1970-01-02/.1-1-1.parquet.inprogress");
    site.drive(0, Vec::new());
    touch(&site, "../data/segments/1-0-1-f.segment");
    assert_eq!(site.restore(Committed::Nothing).expect("restored"), []);
    assert_eq!(site.files(ARCHIVE), kept);
    assert_eq!(site.files(SEGMENTS), [""; 0]);
    // The same generation again: no visible file is replaced.
    let mut writer = site.drive(0, Vec::new());
    writer.offer(batch("state", 0, 0..2));
    assert_eq!(writer.checkpoint(1, true).files[0].path, format!("{DAY}/1-0-2.parquet"));
}

#[test]
fn rows_go_on_where_the_checkpoint_was() {
    let mut site = Site::new();
    let (writer, [_, second]) = run(&site, 0, Vec::new(), false);
    let parts = [second];
    // Written, and not committed.
    drop(writer);
    for generation in 2..6 {
        site.generation = generation;
        let adopted = site.restore(Committed::Newest(&parts)).expect("restored");
        assert_eq!(adopted, parts[0].segments);
        assert_eq!(site.numbers_in(&adopted[0]), (1_000..1_006).collect::<Vec<_>>());
        assert_eq!(site.files(SEGMENTS).len(), 1);
        drop(site.drive(0, adopted));
    }
}

#[test]
fn restarts_make_no_flood_of_files() {
    let mut site = Site::new();
    let mut parts = Vec::new();
    for generation in 1..10 {
        site.generation = generation;
        let committed = if parts.is_empty() { Committed::Nothing } else { Committed::Newest(&parts) };
        let adopted = site.restore(committed).expect("restored");
        let (_, [_, second]) = run(&site, 0, adopted, false);
        assert_eq!((second.segments.len(), second.files.len()), (generation as usize, 0));
        parts = vec![second];
        site.clock.advance(60_000_000);
    }
    // Ten minutes after the first row of the first run they are all in one file.
    site.generation = 10;
    let mut writer = site.drive(0, site.restore(Committed::Newest(&parts)).expect("restored"));
    site.clock.advance(60_000_000);
    writer.checkpoint(1, false);
    let expected: Vec<i64> =
        (1..10).flat_map(|generation| generation * 1_000..generation * 1_000 + 6).collect();
    assert_eq!(site.visible(), [(format!("{DAY}/10-0-1.parquet"), expected)].into());
    assert_eq!(site.files(SEGMENTS), [""; 0]);
}

#[test]
fn segments_of_other_workers_and_schemas_are_adopted() {
    let mut site = Site::new();
    let mut parts = Vec::new();
    for worker in 0..3 {
        let (mut writer, _) = run(&site, worker, Vec::new(), false);
        let narrow = batch("state", 0, 5..7).rows.project(&[1]).expect("one column");
        writer.offer(ArchiveBatch { table: "state", day: 0, rows: narrow });
        parts.push(writer.checkpoint(3, false));
    }
    site.generation = 2;
    let mut writer = site.drive(0, site.restore(Committed::Newest(&parts)).expect("restored"));
    writer.checkpoint(1, true);
    let mut rows: Vec<Vec<i64>> = site.visible().into_values().collect();
    rows.iter_mut().for_each(|rows| rows.sort_unstable());
    let expected = [1_000..1_009, 1_100..1_109, 1_200..1_209].into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(rows, [expected, vec![5, 5, 5, 6, 6, 6]]);
}

#[test]
fn a_file_that_was_planned_is_made_at_the_start() {
    let site = Site::new();
    let mut writer = site.drive(0, Vec::new());
    writer.offer(batch("state", 0, 0..3));
    let parts = [writer.boundary(1, true).expect("a part")];
    touch(&site, &format!("{DAY}/.1-0-1.parquet.inprogress"));
    // As often as it is started.
    for _ in 0..2 {
        assert_eq!(site.restore(Committed::Newest(&parts)).expect("restored"), []);
        assert_eq!(site.visible(), [(format!("{DAY}/1-0-1.parquet"), vec![0, 1, 2])].into());
        assert_eq!((site.files(ARCHIVE).len(), site.files(SEGMENTS).len()), (1, 0));
    }
    // Somebody who removes it has removed it.
    site.disk.remove(&Path::new(ARCHIVE).join(&parts[0].files[0].path)).expect("removed");
    site.restore(Committed::Newest(&parts)).expect("restored");
    assert_eq!(site.files(ARCHIVE), [""; 0]);
}

#[test]
fn files_newer_than_an_older_checkpoint_are_removed() {
    let site = Site { fallbacks: 1, ..Site::new() };
    // Of an earlier data folder, with names as this one gives them.
    let foreign = Site::new();
    foreign.clock.set(77);
    let mut writer = foreign.drive(0, Vec::new());
    writer.offer(batch("state", 3, 50..51));
    writer.checkpoint(1, true);
    let path = "state/job=j/date=1970-01-04/1-0-1.parquet";
    let later = "state/job=j/date=1970-01-04/9-0-1.parquet";
    let bytes = foreign.disk.read(&Path::new(ARCHIVE).join(path)).expect("the file");
    for path in [path, later] {
        touch(&site, path);
        let mut file = site.disk.create(&Path::new(ARCHIVE).join(path)).expect("made");
        file.write_all(&bytes).expect("written");
    }
    let (_, [first, second]) = run(&site, 0, Vec::new(), true);
    let (_, [other_first, _]) = run(&site, 1, Vec::new(), true);
    assert_eq!(second.files.len(), 1);
    assert_eq!(site.visible().len(), 2 + 2);
    let parts = [first, other_first];
    let adopted = site.restore(Committed::Older { parts: &parts, generation: 1 }).expect("restored");
    assert_eq!(site.files(ARCHIVE), [path, later]);
    assert_eq!(
        adopted.iter().flat_map(|segment| site.numbers_in(segment)).collect::<Vec<_>>(),
        [1_000, 1_001, 1_002, 1_100, 1_101, 1_102]
    );
}

#[test]
fn a_file_that_an_older_checkpoint_lists_stays() {
    let site = Site { fallbacks: 1, ..Site::new() };
    let (mut writer, [_, second]) = run(&site, 0, Vec::new(), true);
    let third = writer.checkpoint(3, true);
    assert_eq!((second.files.len(), third.files.len()), (1, 2));
    // The segments of the first file are gone, those of the second are not.
    assert_eq!(site.files(SEGMENTS).len(), 1);
    site.restore(Committed::Older { parts: &[second], generation: 1 }).expect("restored");
    let expected = [(format!("{DAY}/1-0-1.parquet"), (1_000..1_006).collect::<Vec<_>>())];
    assert_eq!(site.visible(), expected.into());
}

#[test]
fn a_segment_that_is_not_as_committed_is_named() {
    let check = |spoil: &dyn Fn(&Site, &Path), expected: &str| {
        let site = Site::new();
        let (_, [_, second]) = run(&site, 0, Vec::new(), false);
        let path = Path::new(SEGMENTS).join(&second.segments[0].name);
        spoil(&site, &path);
        let text = site.restore(Committed::Newest(&[second])).expect_err("not as committed").to_string();
        assert!(text.contains(expected) && text.contains(&path.display().to_string()), "{text}");
        // Nothing was changed before it was seen.
        assert!(site.files(ARCHIVE).is_empty());
    };
    check(&|site, path| site.disk.remove(path).expect("removed"), "missing");
    check(&|site, path| site.disk.truncate(path, 40).expect("cut"), "40 are there");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let site = Site::new();
    site.disk.make_folder(Path::new("/")).expect("made");
    site.disk.create(Path::new(ARCHIVE)).expect("made");
    let text = site.restore(Committed::Nothing).expect_err("a file is no folder").to_string();
    assert!(text.contains(ARCHIVE), "{text}");
}

#[test]
fn old_days_go_and_others_stay() {
    const DAY_US: i64 = 86_400_000_000;
    let mut site = Site::new();
    site.settings.retain = Some(std::time::Duration::from_secs(10 * 86_400));
    site.clock.set(20 * DAY_US);
    let days = |site: &Site| -> Vec<String> {
        site.visible().into_keys().map(|path| path.rsplit('/').nth(1).expect("a day").to_owned()).collect()
    };
    let mut writers = [1, 0].map(|worker| site.drive(worker, Vec::new()));
    touch(&site, "state/job=j/date=1970-01-03/note.txt");
    for day in [5, 9, 10, 15] {
        writers[0].offer(batch("state", day, 0..1));
    }
    writers[0].checkpoint(1, true);
    let all = ["date=1970-01-06", "date=1970-01-10", "date=1970-01-11", "date=1970-01-16"];
    let without_note = |site: &Site| {
        site.disk.remove(Path::new("/archive/state/job=j/date=1970-01-03/note.txt")).expect("it stays");
        assert_eq!(site.disk.list(Path::new("/archive/state/job=j")).expect("a folder").len(), 3);
        days(site)
    };
    // Only worker 0 removes.
    writers[1].checkpoint(1, false);
    assert_eq!(without_note(&site), all[2..]);
    // Once an hour.
    site.clock.set(21 * DAY_US);
    writers[1].checkpoint(2, false);
    assert_eq!(days(&site), all[3..]);
    site.clock.advance(DAY_US / 48);
    writers[0].offer(batch("state", 5, 0..1));
    writers[0].checkpoint(2, true);
    writers[1].checkpoint(3, false);
    assert_eq!(days(&site).len(), 2);
    site.clock.advance(DAY_US / 48);
    writers[1].checkpoint(4, false);
    assert_eq!(days(&site), all[3..]);
}
