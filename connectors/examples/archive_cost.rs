//! What archiving costs: CPU time a row, of all threads, for two tables as a job writes them, with a
//! checkpoint every now and then.
//! Run with `cargo run --release -p twinloom-connectors --example archive_cost -- [rows a batch] [snappy|none]`.
//! It measures and judges nothing.

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use connectors::alarm::Alarm;
use connectors::archive::{self, ArchiveBatch, ArchiveSettings, ArchiveSetup, Compression, Roll};
use connectors::clock::SystemClock;
use connectors::disk::SystemDisk;
use connectors::queue::Refused;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS_A_TABLE: usize = 4_000_000;
/// As many as a job makes in some seconds under load.
const ROWS_A_CHECKPOINT: usize = 500_000;
const TABLES: [&str; 2] = ["physical", "state"];
const TEXTS: [&str; 4] = ["twin", "type", "kind", "changed"];
const NUMBERS: [&str; 2] = ["update", "revision"];
const TIMES: [&str; 3] = ["physical_at", "arrived_at", "digital_at"];
const VALUES: [&str; 3] = ["temperature", "pressure", "temperature_f"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let batch_rows = arguments.next().map_or(1_000, |text| text.parse().expect("a number of rows a batch"));
    let compression =
        if arguments.next().as_deref() == Some("none") { Compression::None } else { Compression::Snappy };
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ArchiveSettings {
        path: folder.path().join("archive"),
        roll: Roll::default(),
        compression,
        retain: None,
    };
    let setup = ArchiveSetup {
        settings,
        job: "cost".to_owned(),
        generation: 1,
        worker: 0,
        segments: folder.path().join("segments"),
        adopted: Vec::new(),
        fallbacks: 1,
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock),
        alarm: Arc::new(Alarm::default()),
    };
    // Some batches again and again, so that making them does not count.
    let batches: Vec<RecordBatch> =
        (0..500).map(|part| rows(&schema(), part * batch_rows, batch_rows)).collect();
    let archive = archive::start(setup).expect("started");
    let main_thread = std::thread::current();
    archive.set_waker(Arc::new(move || main_thread.unpark()));
    let (wall, cpu) = (Instant::now(), cpu_time());
    for part in 0..ROWS_A_TABLE / batch_rows {
        for table in TABLES {
            let mut batch = ArchiveBatch { table, day: 20_000, rows: batches[part % batches.len()].clone() };
            while let Err(Refused::Full(refused)) = archive.offer(batch) {
                batch = refused;
                std::thread::park();
            }
        }
        let checkpoint = (part * batch_rows / ROWS_A_CHECKPOINT) as u64;
        if checkpoint < ((part + 1) * batch_rows / ROWS_A_CHECKPOINT) as u64 {
            let last = part + 1 == ROWS_A_TABLE / batch_rows;
            archive.boundary(checkpoint, last, Box::new(|_| {}));
            archive.committed(checkpoint);
        }
    }
    let stats = archive.stats.clone();
    let closed = archive.close(Duration::from_secs(600)).expect("closed");
    let (wall, cpu) = (wall.elapsed(), cpu_time() - cpu);
    let bytes = stats.bytes.load(std::sync::atomic::Ordering::Relaxed);
    let per_row = |duration: Duration| duration.as_nanos() as u64 / closed.rows;
    println!(
        "{} rows in {} files, batches of {batch_rows}, {compression:?}: CPU {} ns a row, wall {} ns a row, {:.1} bytes a row",
        closed.rows,
        closed.files,
        per_row(cpu),
        per_row(wall),
        bytes as f64 / closed.rows as f64
    );
}

fn schema() -> SchemaRef {
    let fields = |names: &[&str], data_type: &DataType| -> Vec<Field> {
        names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect()
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let groups = [
        fields(&TEXTS, &DataType::Utf8),
        fields(&NUMBERS, &DataType::Int64),
        fields(&TIMES, &time),
        fields(&VALUES, &DataType::Float64),
    ];
    Arc::new(Schema::new(groups.concat()))
}

/// Rows of 10,000 twins that report in turn.
fn rows(schema: &SchemaRef, from: usize, count: usize) -> RecordBatch {
    let mut texts = TEXTS.map(|_| StringBuilder::new());
    let mut numbers = NUMBERS.map(|_| Int64Builder::new());
    let mut times = TIMES.map(|_| TimestampMicrosecondBuilder::new());
    let mut values = VALUES.map(|_| Float64Builder::new());
    for row in from..from + count {
        let mixed = mix(row as u64);
        for (builder, text) in texts.iter_mut().zip([
            &*format!("p-{:05}", mixed % 10_000),
            "press",
            "update",
            "temperature,pressure",
        ]) {
            builder.append_value(text);
        }
        numbers.iter_mut().for_each(|builder| builder.append_value((row / 10_000) as i64));
        for (index, builder) in times.iter_mut().enumerate() {
            builder.append_value(1_728_000_000_000_000 + 5 * row as i64 + (mixed >> (50 + index)) as i64);
        }
        for (index, builder) in values.iter_mut().enumerate() {
            builder.append_value(20.0 + ((mixed >> (20 + 8 * index)) % 1_000) as f64 / 100.0);
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    columns.extend(texts.map(|mut builder| Arc::new(builder.finish()) as ArrayRef));
    columns.extend(numbers.map(|mut builder| Arc::new(builder.finish()) as ArrayRef));
    columns.extend(times.map(|mut builder| Arc::new(builder.finish().with_timezone("UTC")) as ArrayRef));
    columns.extend(values.map(|mut builder| Arc::new(builder.finish()) as ArrayRef));
    RecordBatch::try_new(schema.clone(), columns).expect("columns that fit the schema")
}

/// A number that looks random, so that compression finds no pattern that real values do not have.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number ^ (number >> 32)
}

/// CPU time of the process so far, user and system, in the kernel's hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("the fields after the name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
