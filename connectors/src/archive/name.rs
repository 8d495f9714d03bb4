//! Where the files of the archive stand:
//! `<archive>/<table>/job=<job>/date=<YYYY-MM-DD>/<generation>-<worker>-<sequence>.parquet`, and
//! under `.<name>.inprogress` until they are complete. What reads folders as columns (`job`,
//! `date`) decodes the percent signs by itself.

use chrono::{Days, NaiveDate};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::fs;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

const UNFINISHED: &str = ".inprogress";

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

/// The folder of one table, job and day.
pub(super) fn folder(archive: &Path, table: &str, job: &str, day: i32) -> PathBuf {
    archive.join(table).join(job_folder(job)).join(format!("date={}", date(day)))
}

/// The hidden name that a file has until it is complete.
pub(super) fn unfinished_name(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

/// Every unfinished file of `job`, in all tables.
pub(super) fn unfinished(archive: &Path, job: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for table in entries(archive)? {
        for date in entries(&table.join(job_folder(job)))? {
            found.extend(entries(&date)?.into_iter().filter(|path| is_unfinished(path)));
        }
    }
    Ok(found)
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED))
}

/// What a folder holds; nothing where it is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
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
            assert_eq!(folder(Path::new("/a"), "state", job, day), Path::new(expected));
        };
        check("press-line", 0, "/a/state/job=press-line/date=1970-01-01");
        check("press-line", 20_779, "/a/state/job=press-line/date=2026-11-22");
        check("press-line", -1, "/a/state/job=press-line/date=1969-12-31");
        check("a/b=c%d\n", 59, "/a/state/job=a%2Fb%3Dc%25d%0A/date=1970-03-01");
        check("Gr\u{fc}n", 11_016, "/a/state/job=Gr%C3%BCn/date=2000-02-29");
        check("..", i32::MAX, "/a/state/job=../date=day 2147483647");
    }
}
