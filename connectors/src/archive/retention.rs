//! Old history goes: files of days that lie further back than the archive retains.

use super::ArchiveError;
use super::file::Place;
use super::files::remove_file;
use super::name::{self, FileName};
use std::time::Duration;
use tracing::{info, warn};

const INTERVAL_US: i64 = 3_600_000_000;

const DAY_US: i64 = 86_400_000_000;

/// Whether it is time to look again. A clock that was set back makes it time, too.
pub(super) fn is_due(last_us: Option<i64>, now_us: i64) -> bool {
    last_us.is_none_or(|last_us| now_us < last_us || now_us - last_us >= INTERVAL_US)
}

/// Removes the files of all days that ended longer ago than `retain`. What cannot be removed stays
/// until the next time.
pub(super) fn remove_old(place: &Place, retain: Duration, now_us: i64) {
    match try_remove_old(place, retain, now_us) {
        Ok(0) => {}
        Ok(files) => info!(files, "archive files older than the archive retains removed"),
        Err(error) => warn!(%error, "old archive files not removed; tried again in an hour"),
    }
}

fn try_remove_old(place: &Place, retain: Duration, now_us: i64) -> Result<u64, ArchiveError> {
    let Place { disk, archive, job, .. } = place;
    let folders =
        name::day_folders(&**disk, archive, job).map_err(ArchiveError::io("look through", archive))?;
    let mut removed = 0;
    for folder in
        folders.iter().filter(|folder| name::day_of(folder).is_some_and(|day| is_over(day, retain, now_us)))
    {
        // Only what is named as ours: what else stands in the folder is somebody's.
        let files = disk.list(folder).map_err(ArchiveError::io("look through", folder))?;
        for file in files.iter().filter(|file| FileName::parse(file).is_some()) {
            remove_file(place, file)?;
            removed += 1;
        }
        // It stays where something else stands in it, or a file is just being made.
        _ = disk.remove_folder(folder);
    }
    Ok(removed)
}

fn is_over(day: i32, retain: Duration, now_us: i64) -> bool {
    let end_us = (i128::from(day) + 1) * i128::from(DAY_US);
    end_us + retain.as_micros() as i128 <= i128::from(now_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_over_when_its_last_row_is_too_old() {
        let check = |day: i32, retain_days: u64, now_day: f64, expected: bool| {
            let retain = Duration::from_secs(retain_days * 86_400);
            let now_us = (now_day * DAY_US as f64) as i64;
            assert_eq!(is_over(day, retain, now_us), expected, "{day} {retain_days} {now_day}");
        };
        check(100, 90, 190.99, false);
        check(100, 90, 191.0, true);
        check(100, 0, 100.5, false);
        check(-1, 1, 1.0, true);
        check(i32::MAX, 1, 20_000.0, false);
    }

    #[test]
    fn it_is_looked_at_once_an_hour() {
        let check = |last_us: Option<i64>, now_us: i64, expected: bool| {
            assert_eq!(is_due(last_us, now_us), expected, "{last_us:?} {now_us}");
        };
        check(None, 0, true);
        check(Some(0), INTERVAL_US - 1, false);
        check(Some(0), INTERVAL_US, true);
        check(Some(5), 4, true);
    }
}
