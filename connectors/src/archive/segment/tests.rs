//! Segments: their bytes, as they are written and as they are read when they are not what they were.

use super::*;
use crate::disk::SimDisk;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, StringArray, types::Int32Type};
use arrow_schema::{DataType, Field, Schema};

const FOLDER: &str = "/segments";

const GOLDEN: &str = include_str!("golden.hex");

fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let texts: StringArray =
        numbers.clone().map(|number| (number % 3 > 0).then(|| format!("p-{number}"))).collect();
    let values: Float64Array =
        numbers.clone().map(|number| (number % 2 > 0).then_some(number as f64)).collect();
    let kinds: DictionaryArray<Int32Type> =
        numbers.clone().map(|number| ["a", "b"][number as usize % 2]).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers)),
        Arc::new(texts),
        Arc::new(values),
        Arc::new(kinds),
    ];
    let fields: Vec<Field> = ["n", "text", "value", "kind"]
        .into_iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns that fit the schema")
}

fn write(disk: &SimDisk, batches: &[RecordBatch]) -> SegmentWriter {
    disk.make_folder(Path::new(FOLDER)).expect("made");
    let schema = batches[0].schema();
    let mut writer = SegmentWriter::new(Path::new(FOLDER), "1-0-1-0.segment".into(), &schema).expect("begun");
    for batch in batches {
        writer.append(disk, batch, &mut Vec::new()).expect("written");
        writer.release().expect("synced");
    }
    writer
}

fn read(disk: &SimDisk, bytes: u64) -> Result<Vec<RecordBatch>, ArchiveError> {
    let path = Path::new(FOLDER).join("1-0-1-0.segment");
    let mut reader = SegmentReader::open(Arc::new(disk.clone()), path, bytes)?;
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        found.push(batch);
    }
    Ok(found)
}

/// A segment with these bytes.
fn place(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(0);
    disk.make_folder(Path::new(FOLDER)).expect("made");
    let mut file = disk.create(&Path::new(FOLDER).join("1-0-1-0.segment")).expect("made");
    file.write_all(bytes).expect("written");
    disk
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

fn golden() -> Vec<u8> {
    let digits: Vec<u32> = GOLDEN.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The golden file has the first two columns, as the encoding of dictionaries is of no concern here.
fn golden_rows() -> [RecordBatch; 2] {
    [0..3, 3..5].map(|range| rows(range).project(&[0, 1]).expect("two columns"))
}

#[test]
fn rows_come_back_as_they_were() {
    let check = |batches: &[RecordBatch]| {
        let disk = SimDisk::new(0);
        let writer = write(&disk, batches);
        assert_eq!(writer.rows, batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
        assert_eq!(writer.bytes, disk.len(&writer.path).expect("the file"));
        let found = read(&disk, writer.bytes).expect("rows");
        let joined = |batches: &[RecordBatch]| {
            arrow_select::concat::concat_batches(&batches[0].schema(), batches).expect("joined")
        };
        assert_eq!(joined(&found), joined(batches));
    };
    check(&[rows(0..1)]);
    check(&[rows(0..10), rows(10..11), rows(11..500)]);
    check(&[rows(0..100).slice(40, 30), rows(3..4).slice(0, 1)]);
    check(&[rows(0..5).project(&[2]).expect("a column"), rows(5..6).project(&[2]).expect("a column")]);
}

#[test]
fn large_batches_are_read_in_pieces() {
    let disk = SimDisk::new(0);
    let large = rows(0..200_000).project(&[0, 1]).expect("two columns");
    let writer = write(&disk, std::slice::from_ref(&large));
    let found = read(&disk, writer.bytes).expect("rows");
    assert!(found.len() >= 4 && found.iter().all(|piece| piece.num_rows() <= 50_000), "{}", found.len());
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 200_000);
}

#[test]
fn the_schema_stands_once() {
    let disk = SimDisk::new(0);
    let one = write(&disk, &[rows(0..1)]).bytes;
    let many: Vec<RecordBatch> = (0..11).map(|number| rows(number..number + 1)).collect();
    let each = (write(&SimDisk::new(0), &many).bytes - one) / 10;
    assert!(each + 250 < one, "{each} bytes for each row, {one} for the first");
}

#[test]
fn the_golden_segment_is_written_and_read() {
    let disk = SimDisk::new(0);
    let writer = write(&disk, &golden_rows());
    let bytes = disk.read(&writer.path).expect("the file");
    assert!(bytes == golden(), "the format has changed:\n{}", hex(&bytes));
    assert_eq!(read(&place(&golden()), bytes.len() as u64).expect("rows"), golden_rows());
}

#[test]
fn every_cut_is_noticed() {
    let bytes = golden();
    let frame_ends: Vec<usize> =
        (1..=2).map(|count| write(&SimDisk::new(0), &golden_rows()[..count]).bytes as usize).collect();
    for cut in 0..bytes.len() {
        let disk = place(&bytes[..cut]);
        // The file is cut, and the checkpoint does not know.
        assert!(read(&disk, bytes.len() as u64).is_err(), "{cut}");
        // What is committed ends in the middle of a frame.
        let found = read(&place(&bytes), cut as u64);
        assert_eq!(found.is_ok(), frame_ends.contains(&cut), "{cut}");
    }
    // What comes behind the committed bytes is none of the checkpoint's.
    let longer = [&bytes[..], b"half a frame"].concat();
    assert_eq!(read(&place(&longer), bytes.len() as u64).expect("rows"), golden_rows());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = golden();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = read(&place(&flipped), bytes.len() as u64).expect_err("a flipped bit");
        assert!(matches!(error, ArchiveError::Segment { .. }), "bit {bit}: {error}");
    }
}

#[test]
fn schemas_are_kept_whole() {
    let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        Field::new("at", time, false),
        Field::new("position", DataType::Float64, true),
        Field::new("up", DataType::Boolean, true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(arrow_array::TimestampMicrosecondArray::from(vec![5]).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![None])),
        Arc::new(arrow_array::BooleanArray::from(vec![Some(true)])),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns that fit the schema");
    let disk = SimDisk::new(0);
    let writer = write(&disk, std::slice::from_ref(&batch));
    let path = writer.path.clone();
    let reader = SegmentReader::open(Arc::new(disk), path, writer.bytes).expect("a segment");
    assert_eq!(*reader.schema(), schema);
}
