//! Where the files of the archive stand:
//! `<archive>/<table>/job=<job>/date=<YYYY-MM-DD>/<generation>-<worker>-<sequence>.parquet`, and
//! under `.<name>.inprogress` until they are complete. What reads folders as columns (`job`,
//! `date`) decodes the percent signs by itself.

use crate::disk::Disk;
use chrono::{Days, NaiveDate};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::fmt;
use std::io::Result;
use std::path::{Path, PathBuf};

/// What a file system, or the reading of `job=...`, would mind in a name.
const MINDED: &AsciiSet = &CONTROLS
    .add(b'/')
    .add(b'\\')
    .add(b'=')
    .add(b'%')
    .add(b':')
    .add(b'*')
    .add(b'?')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'|');

/// The name of a Parquet file: who made it, and its place among the files of its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) generation: u64,
    pub(super) worker: usize,
    pub(super) sequence: u64,
}

impl FileName {
    /// Reads the name at the end of a path; `None` where it is none of ours.
    pub(super) fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        let mut numbers = name.split('-');
        let generation = numbers.next()?.parse().ok()?;
        let worker = numbers.next()?.parse().ok()?;
        let sequence = numbers.next()?.parse().ok()?;
        let name = Self { generation, worker, sequence };
        // Written again, so that `+1-0-01.parquet` is nobody's.
        (name.to_string() == path.file_name()?.to_str()?).then_some(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}.parquet", self.generation, self.worker, self.sequence)
    }
}

/// The folder of one table, job and day, below the archive's.
pub(super) fn folder(table: &str, job: &str, day: i32) -> String {
    format!("{table}/{}/date={}", job_folder(job), date(day))
}

/// The folders of all days of `job`, in all tables.
pub(super) fn day_folders(disk: &dyn Disk, archive: &Path, job: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for table in disk.list(archive)? {
        found.extend(disk.list(&table.join(job_folder(job)))?);
    }
    Ok(found)
}

/// The day of such a folder, where it is one of a calendar.
pub(super) fn day_of(folder: &Path) -> Option<i32> {
    let date = folder.file_name()?.to_str()?.strip_prefix("date=")?;
    let date: NaiveDate = date.parse().ok()?;
    date.signed_duration_since(NaiveDate::default()).num_days().try_into().ok()
}

fn job_folder(job: &str) -> String {
    format!("job={}", utf8_percent_encode(job, MINDED))
}

fn date(day: i32) -> String {
    let epoch = NaiveDate::default();
    let days = Days::new(u64::from(day.unsigned_abs()));
    let date = if day < 0 { epoch.checked_sub_days(days) } else { epoch.checked_add_days(days) };
    // A day beyond what a calendar shows still gets a folder, so that its rows are kept.
    date.map_or_else(|| format!("day {day}"), |date| date.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_by_table_job_and_day() {
        let check = |job: &str, day: i32, expected: &str| {
            let folder = folder("state", job, day);
            assert_eq!(folder, expected);
            let is_of_calendar = !folder.contains("date=day ");
            assert_eq!(day_of(Path::new(&folder)), is_of_calendar.then_some(day));
        };
        check("press-line", 0, "state/job=press-line/date=1970-01-01");
        check("press-line", 20_779, "state/job=press-line/date=2026-11-22");
        check("press-line", -1, "state/job=press-line/date=1969-12-31");
        check("a/b=c%d\n", 59, "state/job=a%2Fb%3Dc%25d%0A/date=1970-03-01");
        check("Gr\u{fc}n", 11_016, "state/job=Gr%C3%BCn/date=2000-02-29");
        check("..", i32::MAX, "state/job=../date=day 2147483647");
    }

    #[test]
    fn files_are_named_by_generation_worker_and_sequence() {
        let check = |name: &str, expected: Option<(u64, usize, u64)>| {
            let expected =
                expected.map(|(generation, worker, sequence)| FileName { generation, worker, sequence });
            assert_eq!(FileName::parse(&Path::new("a/date=1970-01-01").join(name)), expected, "{name}");
        };
        check("7-2-13.parquet", Some((7, 2, 13)));
        for strange in
            ["7-2.parquet", "7-2-13-1.parquet", "7-2-x.parquet", "+7-2-13.parquet", "7-2-013.parquet"]
        {
            check(strange, None);
        }
        check(".7-2-13.parquet.inprogress", None);
        check("notes.txt", None);
    }
}
