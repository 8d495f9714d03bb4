//! The archive at a start: whatever the last run was doing when it ended, afterwards the visible
//! files and the open segments hold every committed row once, and no other.
//!
//! ```text
//!   files that the checkpoint lists ──► made, where they are not visible ──► their segments removed
//!   open segments that it lists     ──► cut to their committed length ──► adopted by the writers
//!   everything else of the last run ──► removed: hidden files, segments; after a fall back, files
//! ```
//! Every step may be cut short and done again.

use super::file::{self, Place};
use super::files::{remove, remove_file};
use super::name::{self, FileName};
use super::{ArchiveError, ArchivePart, ArchiveSettings, FilePlan, SegmentRef};
use crate::disk::{self, Disk};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{info, warn};

/// What a start goes on from.
#[derive(Clone, Copy, Debug)]
pub enum Committed<'a> {
    /// No checkpoint was ever committed in this data folder. So it has made no file: files of the job
    /// that are visible are of an earlier data folder and stay; only hidden files and all segments
    /// are removed. Not for a data folder whose checkpoints are all damaged: its files are visible.
    Nothing,
    /// The newest checkpoint that was committed, by the parts of all its workers.
    Newest(&'a [ArchivePart]),
    /// An older checkpoint, as the newer ones are damaged: what was made after it is removed, as its
    /// rows will be made again.
    Older {
        /// The parts of all its workers.
        parts: &'a [ArchivePart],
        /// The generation of the run that wrote it.
        generation: u64,
    },
}

impl<'a> Committed<'a> {
    fn parts(self) -> &'a [ArchivePart] {
        match self {
            Self::Nothing => &[],
            Self::Newest(parts) | Self::Older { parts, .. } => parts,
        }
    }
}

/// Brings the archive of `job` to the state of a checkpoint, and gives the open segments, which the
/// writers of this run adopt. Called once at a start, before any writer. It also makes the folders
/// and proves that the archive can be written.
///
/// The segments of the files that the checkpoint lists are removed, and with them the way back to the
/// checkpoints before it: the engine has read all of a checkpoint before it goes on from it.
pub fn restore(
    disk: &Arc<dyn Disk>,
    settings: &ArchiveSettings,
    job: &str,
    segments: &Path,
    committed: Committed<'_>,
) -> Result<Vec<SegmentRef>, ArchiveError> {
    let place = Place {
        disk: disk.clone(),
        archive: settings.path.clone(),
        segments: segments.to_owned(),
        job: job.to_owned(),
        compression: settings.compression,
    };
    let open: Vec<SegmentRef> = committed.parts().iter().flat_map(|part| part.segments.clone()).collect();
    let files: Vec<&FilePlan> = committed.parts().iter().flat_map(|part| &part.files).collect();
    prepare(&place)?;
    // Looked at before anything is removed.
    open.iter().try_for_each(|segment| prove(&place, segment))?;
    let folders = name::day_folders(&**disk, &place.archive, job);
    let folders = folders.map_err(ArchiveError::io("look through", &place.archive))?;
    if let Committed::Older { parts, generation } = committed {
        remove_files_beyond(&place, &folders, parts, generation)?;
    }
    let hidden = remove_hidden(&place, &folders)?;
    let mut made = 0;
    for plan in &files {
        made += u64::from(make(&place, plan)?);
    }
    for segment in &open {
        cut(&place, segment)?;
    }
    let left = remove_all_but(&place, &open)?;
    if made + hidden + left > 0 {
        info!(
            job,
            made,
            hidden,
            segments = left,
            "archive repaired: files made, hidden files and segments removed"
        );
    }
    Ok(open)
}

/// Makes the folders and proves that the archive can be written.
fn prepare(place: &Place) -> Result<(), ArchiveError> {
    for folder in [&place.archive, &place.segments] {
        place.disk.make_folder(folder).map_err(ArchiveError::io("make the folder", folder))?;
        for above in folder.ancestors().skip(1) {
            // It may be one that we may not read, which then was there before.
            _ = place.disk.sync_folder(above);
        }
    }
    let probe = place.archive.join(format!(".probe-{}", std::process::id()));
    let prove = || {
        let mut file = place.disk.create(&probe)?;
        file.write_all(b"twinloom")?;
        file.sync()?;
        place.disk.remove(&probe)
    };
    prove().map_err(ArchiveError::io("write to the folder", &place.archive))
}

/// Whether a segment still has what is committed of it.
fn prove(place: &Place, segment: &SegmentRef) -> Result<(), ArchiveError> {
    let path = place.segments.join(&segment.name);
    match place.disk.len(&path) {
        Ok(bytes) if bytes >= segment.bytes => Ok(()),
        Ok(bytes) => Err(ArchiveError::damaged(
            &path,
            format!("{} bytes are committed, {bytes} are there", segment.bytes),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(ArchiveError::Missing { path }),
        Err(error) => Err(ArchiveError::io("look at the segment", &path)(error)),
    }
}

/// Removes visible files that were made after an older checkpoint.
///
/// Their names alone do not tell: where the data folder was once removed and the archive was not,
/// files of the earlier data folder may have the same generations. But a file that was made after a
/// checkpoint still has its segments (they are kept as long as a start may go back), and the names of
/// segments are unique. So only a file that names a segment which is there is removed.
fn remove_files_beyond(
    place: &Place,
    folders: &[PathBuf],
    parts: &[ArchivePart],
    generation: u64,
) -> Result<(), ArchiveError> {
    let is_beyond = |name: FileName| {
        let part = parts.iter().find(|part| part.worker == name.worker);
        let sequence = part.map_or(0, |part| part.sequence);
        name.generation > generation || (name.generation == generation && name.sequence > sequence)
    };
    let present = names(place)?;
    let mut removed = 0;
    for folder in folders {
        let mut is_changed = false;
        for path in list(place, folder)? {
            if FileName::parse(&path).is_some_and(is_beyond)
                && file::origin(&*place.disk, &path)?.iter().any(|name| present.contains(name))
            {
                remove_file(place, &path)?;
                (is_changed, removed) = (true, removed + 1);
            }
        }
        if is_changed {
            // Before the segments go, which tell that the files are ours.
            place.disk.sync_folder(folder).map_err(ArchiveError::io("sync the folder", folder))?;
        }
    }
    if removed > 0 {
        warn!(
            job = place.job,
            files = removed,
            "archive files newer than the checkpoint removed; their rows will be made again"
        );
    }
    Ok(())
}

fn remove_hidden(place: &Place, folders: &[PathBuf]) -> Result<u64, ArchiveError> {
    let mut removed = 0;
    for folder in folders {
        for path in list(place, folder)?.iter().filter(|path| disk::is_unfinished(path)) {
            remove_file(place, path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes a file that a checkpoint lists; tells whether it had to.
fn make(place: &Place, plan: &FilePlan) -> Result<bool, ArchiveError> {
    let path = place.path(plan);
    if place.is_visible(&path) {
        file::confirm(place, &path)?;
        return Ok(false);
    }
    let is_there = |segment: &SegmentRef| place.disk.len(&place.segments.join(&segment.name)).is_ok();
    if !plan.segments.iter().all(is_there) {
        // Segments go only after their file is visible for good: so it was, and somebody removed it.
        warn!(file = %path.display(), rows = plan.rows, "archive file was removed by somebody; it is not made again");
        return Ok(false);
    }
    file::make(place, plan)?;
    Ok(true)
}

fn cut(place: &Place, segment: &SegmentRef) -> Result<(), ArchiveError> {
    let path = place.segments.join(&segment.name);
    let bytes = place.disk.len(&path).map_err(ArchiveError::io("look at the segment", &path))?;
    if bytes > segment.bytes {
        place.disk.truncate(&path, segment.bytes).map_err(ArchiveError::io("cut the segment", &path))?;
    }
    Ok(())
}

/// Removes all segments but those that are open.
fn remove_all_but(place: &Place, open: &[SegmentRef]) -> Result<u64, ArchiveError> {
    let mut over = names(place)?;
    for segment in open {
        over.remove(&segment.name);
    }
    if !over.is_empty() {
        remove(place, &over.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(over.len() as u64)
}

/// The names of all segments that are there.
fn names(place: &Place) -> Result<BTreeSet<String>, ArchiveError> {
    let paths = list(place, &place.segments)?.into_iter();
    let names = paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Ok(names.filter(|name| name.ends_with(".segment")).collect())
}

fn list(place: &Place, folder: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    place.disk.list(folder).map_err(ArchiveError::io("look through", folder))
}
