//! The archive as others see it: Parquet files under `<table>/job=<job>/date=<day>/`, read into
//! rows of JSON values that can be compared and shown.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, cast::AsArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use connectors::disk::Disk;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// The tables of an archive, by name.
pub type Archive = BTreeMap<String, Table>;

/// One table, its rows in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The cells. Times are texts of seconds since 1970.
    pub rows: Vec<Vec<Value>>,
}

/// What rows are sorted by, as far as their table has it.
const KEYS: [&str; 9] =
    ["twin", "update", "change", "name", "index", "source", "position", "reason", "payload"];

/// Reads all complete files of an archive.
pub fn read(archive: &Path) -> Archive {
    collect(archive, files(archive), |file| fs::read(file))
}

/// The same on a disk of any kind.
pub fn read_on(disk: &dyn Disk, archive: &Path) -> Archive {
    collect(archive, files_on(disk, archive), |file| disk.read(file))
}

fn collect(archive: &Path, files: Vec<PathBuf>, load: impl Fn(&Path) -> std::io::Result<Vec<u8>>) -> Archive {
    let mut tables = Archive::new();
    for file in files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.expect("a file has a name");
        if name.starts_with('.') || !name.ends_with(".parquet") {
            continue;
        }
        let below = file.strip_prefix(archive).expect("it was found below");
        let table = below.components().next().expect("a file stands in a table");
        let table = tables.entry(table.as_os_str().to_string_lossy().into_owned()).or_default();
        let bytes = load(&file).expect("a complete file can be read");
        read_file(&file, bytes.into(), table);
    }
    tables.values_mut().for_each(Table::sort);
    tables
}

/// Every file below a folder, hidden ones too; none where the folder is missing.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The same on a disk of any kind.
pub fn files_on(disk: &dyn Disk, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in disk.list(folder).expect("the folder can be read") {
        match disk.is_folder(&path).expect("the disk is on") {
            true => found.extend(files_on(disk, &path)),
            false => found.push(path),
        }
    }
    found
}

fn read_file(path: &Path, bytes: Bytes, table: &mut Table) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    let reader = reader.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for batch in reader {
        let batch = batch.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let columns: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert!(table.columns.is_empty() || table.columns == columns, "{}", path.display());
        table.columns = columns;
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column, row)).collect();
            table.rows.push(cells);
        }
        check_day(path, table, batch.num_rows());
    }
}

/// The day of a folder is the day of its rows: by `digital_at`, else by `at`.
fn check_day(path: &Path, table: &Table, new: usize) {
    let column = ["digital_at", "at"].iter().find_map(|name| table.column(name));
    let column = column.expect("every table has a time");
    let folder = path.parent().and_then(Path::file_name).expect("a file stands in a day");
    for row in &table.rows[table.rows.len() - new..] {
        let seconds: f64 = row[column].as_str().and_then(|text| text.parse().ok()).expect("a time");
        let day = format!("date={}", date((seconds / 86_400.0).floor() as i64));
        assert_eq!(folder.to_string_lossy(), day, "{}", path.display());
    }
}

/// The civil date of a number of days since 1970, by counting.
fn date(days: i64) -> String {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, days);
    while left < 0 {
        year -= 1;
        left += 365 + i64::from(is_leap(year));
    }
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

/// One value of a column.
fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            seconds(column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            (0..values.len()).map(|index| cell(&values, index)).collect()
        }
        other => panic!("rule 10 knows no column of {other}"),
    }
}

/// Microseconds as seconds, without needless zeros.
fn seconds(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let (whole, part) = (us.unsigned_abs() / 1_000_000, us.unsigned_abs() % 1_000_000);
    let text = format!("{sign}{whole}.{part:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Table {
    /// Number of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// The cells of a column.
    pub fn cells(&self, name: &str) -> Vec<&Value> {
        let column = self.column(name).unwrap_or_else(|| panic!("no column {name}"));
        self.rows.iter().map(|row| &row[column]).collect()
    }

    /// Rows whose cells are these texts.
    pub fn count(&self, wanted: &[(&str, &str)]) -> usize {
        let columns: Vec<_> = wanted
            .iter()
            .map(|(name, text)| (self.column(name).expect("the table has the column"), *text))
            .collect();
        let is_wanted = |row: &&Vec<Value>| columns.iter().all(|(column, text)| row[*column] == *text);
        self.rows.iter().filter(is_wanted).count()
    }

    fn sort(&mut self) {
        let keys: Vec<usize> = KEYS.iter().filter_map(|key| self.column(key)).collect();
        self.rows.sort_by(|a, b| {
            let by_key = keys.iter().map(|key| compare(&a[*key], &b[*key]));
            by_key.fold(Ordering::Equal, Ordering::then)
        });
    }

    /// The table as aligned text; columns without any value are only named.
    fn show(&self, name: &str, text: &mut String) {
        let is_empty = |column: &usize| self.rows.iter().all(|row| row[*column].is_null());
        let (empty, full): (Vec<usize>, Vec<usize>) = (0..self.columns.len()).partition(is_empty);
        writeln!(text, "{name}, {} rows", self.rows.len()).expect("text takes all");
        let titles = full.iter().map(|column| self.columns[*column].clone()).collect::<Vec<_>>();
        let mut lines = vec![titles];
        lines.extend(self.rows.iter().map(|row| full.iter().map(|column| shown(&row[*column])).collect()));
        let width = |place: usize| lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..full.len()).map(width).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(text, "  {}", line.trim_end()).expect("text takes all");
        }
        if !empty.is_empty() {
            let names: Vec<_> = empty.iter().map(|column| self.columns[*column].as_str()).collect();
            writeln!(text, "  (no value: {})", names.join(", ")).expect("text takes all");
        }
        text.push('\n');
    }
}

/// The archive as text.
pub fn show(archive: &Archive) -> String {
    let mut text = String::new();
    archive.iter().for_each(|(name, table)| table.show(name, &mut text));
    text
}

/// Longest text of a cell that is shown whole.
const SHOWN_CHARS_MAX: usize = 60;

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            let begin: String = text.chars().take(24).collect();
            format!("{begin:?}.. {} bytes", text.len())
        }
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() || text.contains(char::is_whitespace) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.as_str().cmp(&b.as_str()),
    }
}
