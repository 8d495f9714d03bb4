//! A write-ahead log of the messages of one source that cannot be read again (rules 7.1 and 7.2): what
//! is in it and synced may be acknowledged, and survives whatever happens to the process.
//!
//! ```text
//!            append ──► newest file ──► sync thread ──► synced: may be acknowledged
//!   source                  |
//!            replay ◄── files, <first position>.journal ──► truncate: what a checkpoint has
//! ```
//! Positions count from 1, without a gap, over restarts. A group of records that were appended together
//! is one frame. A new file is begun only when the one before it is durable as a whole, so only the
//! newest can have a torn end, which opening leaves out; damage anywhere else is an error. After a write
//! or a sync that failed nothing is written, synced or called durable any more: the alarm ends the run.

mod frame;
mod scan;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};

use crate::alarm::Alarm;
use crate::disk::{self, Disk, DiskFile, make_durable_folder};
use crate::failpoint::{self, Failpoint};
use crate::format::FormatError;
use crate::queue::Waker;

pub use frame::Record;
pub use scan::Replay;

use frame::{FileHead, FrameHead};
use scan::{Frames, JournalFile, PIECE_BYTES};
use sync::{Syncer, Unsynced};

/// How much a source keeps until a checkpoint has it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// Bytes on disk at which the source stops reading until a checkpoint frees some; it may be passed
    /// by what one read brings.
    #[schemars(with = "String", extend("format" = "size"))]
    pub size: ByteSize,
    /// Bytes at which a new file is begun; what a checkpoint has is removed in whole files. At most a
    /// quarter of `size` is used.
    #[schemars(with = "String", extend("format" = "size"))]
    pub file: ByteSize,
}

/// What a journal is opened with.
#[derive(Clone)]
pub struct JournalSetup {
    /// Name of the source.
    pub name: String,
    /// A folder of its own; it is made where it is missing.
    pub folder: PathBuf,
    /// Where that folder is.
    pub disk: Arc<dyn Disk>,
    /// Its bounds.
    pub settings: JournalSettings,
    /// Raised when something cannot be kept.
    pub alarm: Arc<Alarm>,
    /// Called when [`Journal::synced`] has moved, or the journal has failed.
    pub waker: Waker,
    /// Names of the headers of its messages, in their order.
    pub headers: Vec<String>,
}

/// Why a journal cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error(
        "cannot {action} {}: {error}; free space on the disk or check it, then start again: what was acknowledged is kept",
        path.display()
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file of another kind, or of a newer version.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: FormatError,
    },
    /// Acknowledged messages cannot be read.
    #[error(
        "{} is damaged at byte {offset}: {reason}; restore it from a copy, or move the whole folder away to go on without the messages in it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the part begins that cannot be read.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The journal begins after the place to start from.
    #[error(
        "the journal in {} begins at message {first}, and the checkpoint goes on at {next}; restore the missing files from a copy, or move the whole folder away to go on without them",
        folder.display()
    )]
    Missing {
        /// The journal's folder.
        folder: PathBuf,
        /// Its first position.
        first: u64,
        /// The position asked for.
        next: u64,
    },
    /// It has failed before, and has said so.
    #[error("the journal has failed before; start again")]
    Failed,
}

impl JournalError {
    fn io(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), error }
    }
}

/// An open journal; dropping it syncs and closes it.
pub struct Journal {
    name: String,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    headers: Arc<[String]>,
    bytes_max: u64,
    file_bytes_max: u64,
    /// The oldest first; records are written to the last.
    files: VecDeque<JournalFile>,
    /// The end of the last file.
    end: Option<Box<dyn DiskFile>>,
    next: u64,
    is_lost: bool,
    syncer: Syncer,
    /// A frame, kept for its memory.
    buffer: Vec<u8>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { size: ByteSize::gb(1), file: ByteSize::mb(16) }
    }
}

impl JournalSettings {
    /// Says what cannot work, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        match self.size.as_u64() < 1_000_000 || self.file.as_u64() == 0 {
            true => Err("journal cannot be this small; write for example {size: 1GB, file: 16MB}".into()),
            false => Ok(()),
        }
    }

    fn file_bytes_max(&self) -> u64 {
        // The place of a record in its file has 32 bits, and no record is shorter than a byte.
        self.file.as_u64().min(self.size.as_u64() / 4).min(1 << 30)
    }
}

impl Journal {
    /// Opens the journal in a folder. Leaves out the torn end of a crash, makes all that is good durable,
    /// and shows every record with its position to `visit`, in order.
    pub fn open(setup: JournalSetup, mut visit: impl FnMut(u64, &Record)) -> Result<Self, JournalError> {
        let JournalSetup { name, folder, disk, settings, alarm, waker, headers } = setup;
        let headers: Arc<[String]> = headers.into();
        let made = make_durable_folder(&*disk, &folder);
        made.map_err(|error| JournalError::io("make", &folder, error))?;
        let mut found = Found { files: VecDeque::new(), next: 1, is_lost: false, newest_is_lost: false };
        let files = JournalFile::list(&*disk, &folder)?;
        let newest = files.len().saturating_sub(1);
        for (index, file) in files.into_iter().enumerate() {
            found.scan(&disk, file, &headers, index == newest, &mut visit)?;
        }
        if let Some(newest) = found.files.back() {
            renew(&*disk, newest, found.newest_is_lost)
                .map_err(|error| JournalError::io("renew", &newest.path, error))?;
        }
        disk.sync_folder(&folder).map_err(|error| JournalError::io("sync", &folder, error))?;
        let syncer = Syncer::start(&name, disk.clone(), &folder, alarm, waker, found.next - 1);
        let mut journal = Self {
            syncer,
            name,
            folder,
            disk,
            headers,
            bytes_max: settings.size.as_u64(),
            file_bytes_max: settings.file_bytes_max(),
            files: found.files,
            end: None,
            next: found.next,
            is_lost: found.is_lost,
            buffer: Vec::new(),
        };
        if let Some(newest) = journal.files.back() {
            let (path, disk) = (newest.path.clone(), journal.disk.clone());
            let open = || disk.append(&path).map_err(|error| JournalError::io("open", &path, error));
            let (end, file) = (open()?, open()?);
            journal.end = Some(end);
            journal.syncer.begin(Unsynced { path: path.clone(), file, is_new: false });
        }
        Ok(journal)
    }

    /// Position of the oldest record, or of the next one where there is none.
    pub fn first(&self) -> u64 {
        self.files.front().map_or(self.next, |file| file.first)
    }

    /// Position of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The last position that is durable; what has one up to it may be acknowledged.
    pub fn synced(&self) -> u64 {
        self.syncer.synced()
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.syncer.syncs()
    }

    /// Whether the last news of the source were of its loss.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether its source must wait for a checkpoint.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// Whether something could not be kept; the alarm has said what.
    pub fn has_failed(&self) -> bool {
        self.syncer.has_failed()
    }

    /// Goes on at `next`, as a checkpoint says. A journal that ends before it has lost what was never
    /// acknowledged, or is a new one; what it holds is in the checkpoint.
    pub fn go_on_at(&mut self, next: u64) -> Result<(), JournalError> {
        if next != 0 && next < self.first() {
            return Err(JournalError::Missing { folder: self.folder.clone(), first: self.first(), next });
        }
        if next <= self.next {
            return Ok(());
        }
        if self.next > 1 {
            warn!(source = %self.name, ended_at = self.next, next, "journal ends before the checkpoint; going on at the checkpoint");
        }
        self.end = None;
        while let Some(file) = self.files.front() {
            self.disk.remove(&file.path).map_err(|error| JournalError::io("remove", &file.path, error))?;
            self.files.pop_front();
        }
        self.sync_folder()?;
        self.next = next;
        self.syncer.skip_to(next - 1);
        Ok(())
    }

    /// Appends records that came together; gives the position of the first. It is written when this
    /// returns, and durable when [`Self::synced`] says so.
    pub fn append(&mut self, arrived_at_us: i64, records: &[Record]) -> Result<u64, JournalError> {
        if self.has_failed() {
            return Err(JournalError::Failed);
        }
        let first = self.next;
        if records.is_empty() {
            return Ok(first);
        }
        if self.files.back().is_none_or(|file| file.bytes >= self.file_bytes_max) {
            self.begin_file()?;
        }
        let (Some(file), Some(end)) = (self.files.back_mut(), &mut self.end) else {
            return Err(JournalError::Failed);
        };
        let unsynced = first - 1 - self.syncer.synced();
        let head = FrameHead {
            index: (first - file.first) as u32,
            unsynced: u32::try_from(unsynced).unwrap_or(u32::MAX),
            arrived_at_us,
        };
        frame::encode(head, records, &self.headers, &mut self.buffer);
        let written = failpoint::hit(Failpoint::JournalAppend).and_then(|()| end.write_all(&self.buffer));
        if let Err(error) = written {
            return Err(self.syncer.fail("write to", &file.path, error));
        }
        file.bytes += self.buffer.len() as u64;
        self.next += records.len() as u64;
        self.is_lost = records.iter().rev().find_map(Record::is_loss).unwrap_or(self.is_lost);
        self.syncer.written(self.next - 1);
        // One message of 100 MB is no reason to keep 100 MB.
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        Ok(first)
    }

    /// Waits until everything that was appended is durable.
    pub fn wait_synced(&self) -> Result<(), JournalError> {
        self.syncer.wait()
    }

    /// The records from `position` on that are there now. They must not be truncated before they are
    /// read.
    pub fn read_from(&self, position: u64) -> Replay {
        Replay::new(self.disk.clone(), self.files.clone(), self.headers.clone(), position)
    }

    /// Removes the files that hold nothing from `position` on.
    pub fn truncate_before(&mut self, position: u64) -> Result<(), JournalError> {
        let is_old = self.files.back().is_some_and(|newest| newest.bytes >= self.file_bytes_max);
        if position >= self.next && is_old && !self.has_failed() {
            self.begin_file()?;
        }
        if self.files.get(1).is_none_or(|second| second.first > position) {
            return Ok(());
        }
        // The name of the newest file tells where to go on; it must not go with those before it.
        self.sync_folder()?;
        while self.files.get(1).is_some_and(|second| second.first <= position) {
            let path = self.files[0].path.clone();
            let removed = failpoint::hit(Failpoint::JournalRemove).and_then(|()| self.disk.remove(&path));
            removed.map_err(|error| JournalError::io("remove", &path, error))?;
            self.files.pop_front();
            // One after the other, so that a loss of power leaves no gap between two files.
            self.sync_folder()?;
        }
        Ok(())
    }

    /// Begins a new file, once all of the one before it is durable. It has its name only when its head is
    /// durable too, so that no crash leaves a file that cannot be told from a strange one.
    fn begin_file(&mut self) -> Result<(), JournalError> {
        self.syncer.wait()?;
        let path = JournalFile::path_of(&self.folder, self.next);
        let head = FileHead { first: self.next, is_lost: self.is_lost }.encode();
        let made = failpoint::hit(Failpoint::JournalFile).and_then(|()| {
            let beside = disk::unfinished(&path);
            let mut end = self.disk.create(&beside)?;
            end.write_all(&head)?;
            end.sync()?;
            self.disk.rename(&beside, &path)?;
            Ok((end, self.disk.append(&path)?))
        });
        let (end, file) = made.map_err(|error| self.syncer.fail("make", &path, error))?;
        self.end = Some(end);
        self.syncer.begin(Unsynced { path: path.clone(), file, is_new: true });
        self.files.push_back(JournalFile { path, first: self.next, bytes: head.len() as u64 });
        Ok(())
    }

    fn sync_folder(&self) -> Result<(), JournalError> {
        self.disk.sync_folder(&self.folder).map_err(|error| JournalError::io("sync", &self.folder, error))
    }
}

/// Writes the newest file again, as far as it is good. The process before may have written more than it
/// synced, or its sync may have failed, after which the system shows what the disk does not have; and
/// what is found here is acknowledged when its sender sends it again. Its head says the version of what will follow.
fn renew(disk: &dyn Disk, file: &JournalFile, is_lost: bool) -> io::Result<()> {
    failpoint::hit(Failpoint::JournalFile)?;
    let beside = disk::unfinished(&file.path);
    let mut renewed = disk.create(&beside)?;
    let head = FileHead { first: file.first, is_lost }.encode();
    renewed.write_all(&head)?;
    let mut at = head.len() as u64;
    while at < file.bytes {
        let end = (at + PIECE_BYTES).min(file.bytes);
        renewed.write_all(&disk.read_range(&file.path, at..end)?)?;
        at = end;
    }
    renewed.sync()?;
    disk.rename(&beside, &file.path)
}

/// Memory that is kept for the next frame.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// What opening has found so far.
struct Found {
    files: VecDeque<JournalFile>,
    next: u64,
    is_lost: bool,
    /// What the head of the last file says.
    newest_is_lost: bool,
}

impl Found {
    fn scan(
        &mut self,
        disk: &Arc<dyn Disk>,
        mut file: JournalFile,
        headers: &Arc<[String]>,
        is_newest: bool,
        visit: &mut impl FnMut(u64, &Record),
    ) -> Result<(), JournalError> {
        if !self.files.is_empty() && file.first != self.next {
            let reason =
                format!("it begins at message {}, and the file before it ends at {}", file.first, self.next);
            return Err(JournalError::Damaged { path: file.path, offset: 0, reason });
        }
        self.next = file.first;
        let (head, mut frames) = Frames::open(disk, file.clone(), headers.clone())?;
        (self.is_lost, self.newest_is_lost) = (head.is_lost, head.is_lost);
        let mut records = VecDeque::new();
        loop {
            let read = frames.next().and_then(|frame| match frame {
                Some(frame) => frames.records(&frame, &mut records).map(|()| true),
                None => Ok(false),
            });
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(JournalError::Damaged { reason, .. }) if is_newest && !frames.was_durable()? => {
                    let (at, cut) = (frames.offset(), file.bytes - frames.offset());
                    info!(file = %file.path.display(), at, cut_bytes = cut, reason, "torn end of a journal left out");
                    file.bytes = at;
                    break;
                }
                Err(error) => return Err(error),
            }
            for record in records.drain(..) {
                visit(self.next, &record);
                self.is_lost = record.is_loss().unwrap_or(self.is_lost);
                self.next += 1;
            }
        }
        self.next = frames.next_position();
        self.files.push_back(file);
        Ok(())
    }
}
