//! The archive as others see it: files read back with the Parquet crate.

use super::*;
use arrow_array::{Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytesize::ByteSize;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;

const LONG: Duration = Duration::from_secs(60);

fn settings(path: &Path, roll: Roll) -> ArchiveSettings {
    ArchiveSettings { path: path.to_owned(), roll, compression: Compression::Snappy }
}

fn batch(table: &'static str, day: i32, numbers: std::ops::Range<i64>) -> ArchiveBatch {
    let fields = vec![Field::new("twin", DataType::Utf8, false), Field::new("n", DataType::Int64, false)];
    let twins: StringArray = numbers.clone().map(|number| Some(format!("p-{}", number % 100))).collect();
    let numbers = Int64Array::from_iter_values(numbers);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(twins), Arc::new(numbers)]);
    ArchiveBatch { table, day, rows: rows.expect("columns that fit the schema") }
}

/// Every file under `folder`, hidden ones too, by its path below it.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).expect("below the root").display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn numbers(path: &Path) -> Vec<i64> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("the file")).expect("Parquet");
    let batches = reader.build().expect("a reader").map(|batch| batch.expect("rows"));
    batches
        .flat_map(|batch| {
            let column = batch.column_by_name("n").expect("the column").clone();
            column.as_any().downcast_ref::<Int64Array>().expect("integers").values().to_vec()
        })
        .collect()
}

#[test]
fn rows_come_back_from_complete_files() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path(), "a/b").expect("prepared");
    let archive = start(&settings(folder.path(), Roll::default()), "a/b", 7, 2).expect("started");
    for (table, day, range) in
        [("state", 0, 0..10), ("physical", 0, 0..5), ("state", 1, 10..20), ("state", 0, 20..5_020)]
    {
        archive.offer(batch(table, day, range)).expect("room");
    }
    let stats = archive.stats.clone();
    assert_eq!(archive.close(LONG).expect("closed"), ArchiveClosed { rows: 5_025, files: 3 });
    let expected = [
        "physical/job=a%2Fb/date=1970-01-01/7-2-1.parquet",
        "state/job=a%2Fb/date=1970-01-01/7-2-1.parquet",
        "state/job=a%2Fb/date=1970-01-02/7-2-2.parquet",
    ];
    assert_eq!(files(folder.path()), expected);
    assert_eq!(numbers(&folder.path().join(expected[1])), (0..10).chain(20..5_020).collect::<Vec<_>>());
    assert_eq!(numbers(&folder.path().join(expected[2])), (10..20).collect::<Vec<_>>());
    let sizes = expected.iter().map(|name| folder.path().join(name).metadata().expect("the file").len());
    assert_eq!(stats.bytes.load(Ordering::Relaxed), sizes.sum::<u64>());
    assert_eq!((stats.rows.load(Ordering::Relaxed), stats.files.load(Ordering::Relaxed)), (5_025, 3));
    assert_eq!(
        (stats.failures.load(Ordering::Relaxed), stats.in_flight_bytes.load(Ordering::Relaxed)),
        (0, 0)
    );
}

#[test]
fn a_file_says_where_it_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = start(&settings(folder.path(), Roll::default()), "press-line", 3, 0).expect("started");
    archive.offer(batch("state", 0, 0..1)).expect("room");
    archive.close(LONG).expect("closed");
    let file = File::open(folder.path().join("state/job=press-line/date=1970-01-01/3-0-1.parquet"))
        .expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let pairs = reader.metadata().file_metadata().key_value_metadata().expect("metadata");
    let pairs: BTreeMap<_, _> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_deref())).collect();
    let expected = [("twinloom.format", "1"), ("twinloom.job", "press-line"), ("twinloom.generation", "3")];
    for (key, value) in expected {
        assert_eq!(pairs.get(key), Some(&Some(value)), "{key}");
    }
}

#[test]
fn files_roll_by_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let roll = Roll { size: Some(ByteSize::kb(10)), age: None };
    let archive = start(&settings(folder.path(), roll), "j", 1, 0).expect("started");
    for part in 0..10 {
        archive.offer(batch("state", 0, part * 5_000..(part + 1) * 5_000)).expect("room");
    }
    let closed = archive.close(LONG).expect("closed");
    assert!(closed.files > 1 && closed.rows == 50_000, "{closed:?}");
    let day = folder.path().join("state/job=j/date=1970-01-01");
    let rows: Vec<i64> = (1..=closed.files)
        .flat_map(|sequence| numbers(&day.join(format!("1-0-{sequence}.parquet"))))
        .collect();
    assert_eq!(rows, (0..50_000).collect::<Vec<_>>());
}

#[test]
fn files_roll_by_age_though_no_row_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let roll = Roll { size: None, age: Some(Duration::from_millis(20)) };
    let archive = start(&settings(folder.path(), roll), "j", 1, 0).expect("started");
    archive.offer(batch("state", 0, 0..3)).expect("room");
    while archive.stats.files.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(files(folder.path()), ["state/job=j/date=1970-01-01/1-0-1.parquet"]);
    assert_eq!(archive.close(LONG).expect("closed"), ArchiveClosed { rows: 3, files: 1 });
}

#[test]
fn only_eight_files_of_a_table_are_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = start(&settings(folder.path(), Roll::default()), "j", 1, 0).expect("started");
    for day in 0..10 {
        archive.offer(batch("state", day, 0..1)).expect("room");
        archive.offer(batch("other", 0, 0..1)).expect("room");
    }
    while archive.in_flight_bytes() > 0 {
        std::thread::yield_now();
    }
    let is_hidden = |name: &&String| name.contains("/.");
    let found = files(folder.path());
    assert_eq!(found.iter().filter(is_hidden).count(), 8 + 1, "{found:?}");
    assert_eq!(found.iter().filter(|name| !is_hidden(name)).count(), 2, "{found:?}");
    assert_eq!(archive.close(LONG).expect("closed"), ArchiveClosed { rows: 20, files: 11 });
}

#[test]
fn a_new_schema_begins_a_new_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = start(&settings(folder.path(), Roll::default()), "j", 1, 0).expect("started");
    archive.offer(batch("state", 0, 0..2)).expect("room");
    let narrow = batch("state", 0, 2..4).rows.project(&[1]).expect("one column");
    archive.offer(ArchiveBatch { table: "state", day: 0, rows: narrow }).expect("room");
    assert_eq!(archive.close(LONG).expect("closed"), ArchiveClosed { rows: 4, files: 2 });
}

#[test]
fn a_visible_file_is_never_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    for range in [0..2, 2..4] {
        // The same generation twice, as when the data folder was removed and the archive was not.
        let archive = start(&settings(folder.path(), Roll::default()), "j", 1, 0).expect("started");
        archive.offer(batch("state", 0, range)).expect("room");
        archive.close(LONG).expect("closed");
    }
    let day = folder.path().join("state/job=j/date=1970-01-01");
    assert_eq!(numbers(&day.join("1-0-1.parquet")), [0, 1]);
    assert_eq!(numbers(&day.join("1-0-2.parquet")), [2, 3]);
}

#[test]
fn leftovers_of_the_job_are_removed_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let touch = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "x").expect("written");
    };
    let kept = [
        "note.txt",
        "state/job=j/date=1970-01-01/1-0-1.parquet",
        "state/job=k/date=1970-01-01/.1-0-2.parquet.inprogress",
    ];
    kept.into_iter().for_each(touch);
    touch("state/job=j/date=1970-01-01/.1-0-2.parquet.inprogress");
    touch("physical/job=j/date=1970-01-02/.1-1-1.parquet.inprogress");
    prepare(folder.path(), "j").expect("prepared");
    assert_eq!(files(folder.path()), kept);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = prepare(&file.path().join("archive"), "j").expect_err("a file is no folder").to_string();
    assert!(text.contains(&file.path().display().to_string()), "{text}");
}

#[test]
fn rows_that_cannot_be_written_are_counted_and_said_at_the_close() {
    let folder = tempfile::tempdir().expect("a folder");
    // A file stands where the table's folder has to be.
    fs::write(folder.path().join("state"), "in the way").expect("written");
    let archive = start(&settings(folder.path(), Roll::default()), "j", 1, 0).expect("started");
    archive.offer(batch("state", 0, 0..3)).expect("room");
    archive.offer(batch("other", 0, 0..1)).expect("room");
    let stats = archive.stats.clone();
    let text = archive.close(LONG).expect_err("rows are lost").to_string();
    assert!(text.contains("3 rows are lost") && text.contains("state"), "{text}");
    assert_eq!((stats.failures.load(Ordering::Relaxed), stats.files.load(Ordering::Relaxed)), (3, 1));
}

#[test]
fn dropping_a_writer_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = start(&settings(folder.path(), Roll::default()), "j", 1, 0).expect("started");
    archive.offer(batch("state", 0, 0..3)).expect("room");
    while archive.in_flight_bytes() > 0 {
        std::thread::yield_now();
    }
    drop(archive);
    assert_eq!(files(folder.path()), [""; 0]);
}
