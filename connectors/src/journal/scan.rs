//! Reads the files of a journal: all of them when it is opened, from a position on for a replay. Never
//! more than a piece of a file is held, and never less than one frame.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::JournalError;
use super::frame::{self, BODY_HEAD_BYTES, FILE_HEAD_BYTES, FRAME_HEAD_BYTES, FileHead, FrameHead, Record};
use crate::disk::Disk;
use crate::format::FormatError;

/// How much of a file is read at once.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

const EXTENSION: &str = "journal";

/// A file of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JournalFile {
    pub(super) path: PathBuf,
    /// Position of its first record.
    pub(super) first: u64,
    pub(super) bytes: u64,
}

impl JournalFile {
    pub(super) fn path_of(folder: &Path, first: u64) -> PathBuf {
        folder.join(format!("{first:020}.{EXTENSION}"))
    }

    /// The journal's files in a folder, in order.
    pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<Self>, JournalError> {
        let paths = disk.list(folder).map_err(|error| JournalError::io("list", folder, error))?;
        let mut found = Vec::new();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let Some(first) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) else { continue };
            let bytes = disk.len(&path).map_err(|error| JournalError::io("read", &path, error))?;
            found.push(Self { path, first, bytes });
        }
        found.sort_by_key(|file| file.first);
        Ok(found)
    }
}

/// Reads the frames of one file, in order.
pub(super) struct Frames {
    disk: Arc<dyn Disk>,
    file: JournalFile,
    /// Where the next frame begins, and with it `buffer`.
    offset: u64,
    buffer: Bytes,
    next: u64,
    /// Names of the headers of messages.
    headers: Arc<[String]>,
}

/// A frame that was read.
pub(super) struct Frame {
    pub(super) head: FrameHead,
    pub(super) first: u64,
    pub(super) bytes: Bytes,
}

impl Frames {
    /// Begins with the head of the file, which must be a good one.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        file: JournalFile,
        headers: Arc<[String]>,
    ) -> Result<(FileHead, Self), JournalError> {
        let next = file.first;
        let mut frames = Self { disk: disk.clone(), file, offset: 0, buffer: Bytes::new(), next, headers };
        let bytes = frames.peek((FILE_HEAD_BYTES as u64).min(frames.file.bytes))?;
        let head = FileHead::decode(&bytes).and_then(|head| match head.first == frames.file.first {
            true => Ok(head),
            false => Err(FormatError::Damaged("its name and its head name different positions".into())),
        });
        let head = head.map_err(|error| match error {
            FormatError::Damaged(reason) => frames.damaged(&reason),
            reason => JournalError::Format { path: frames.file.path.clone(), reason },
        })?;
        frames.skip(FILE_HEAD_BYTES);
        Ok((head, frames))
    }

    /// The next frame; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, JournalError> {
        let left = self.file.bytes - self.offset;
        if left == 0 {
            return Ok(None);
        }
        let head = self.peek(left.min(FRAME_HEAD_BYTES as u64))?;
        let length = frame::length(&head).unwrap_or(u64::MAX);
        let bytes = match length.checked_add(FRAME_HEAD_BYTES as u64) {
            Some(bytes) if bytes <= left => self.peek(bytes)?,
            _ => return Err(self.damaged("a frame is cut off")),
        };
        let head = frame::frame_head(&bytes).map_err(|reason| self.damaged(reason))?;
        if u64::from(head.index) != self.next - self.file.first {
            return Err(self.damaged("a frame does not follow the one before it"));
        }
        self.skip(bytes.len());
        Ok(Some(Frame { head, first: self.next, bytes }))
    }

    /// Takes the records of a frame apart; the next frame begins after the last of them. Nothing else is
    /// in `into` before.
    pub(super) fn records(&mut self, frame: &Frame, into: &mut VecDeque<Record>) -> Result<(), JournalError> {
        let headers = self.headers.clone();
        for record in frame::records(&frame.bytes, frame.first, frame.head.arrived_at_us, &headers) {
            match record {
                Ok(record) => into.push_back(record),
                Err(reason) => {
                    into.clear();
                    (self.offset, self.next) = (self.offset - frame.bytes.len() as u64, frame.first);
                    return Err(self.damaged(reason));
                }
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Position after the last record that was read.
    pub(super) fn next_position(&self) -> u64 {
        self.next
    }

    /// Where the last good frame ends.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a later frame proves that the record which should begin here was durable once: then the
    /// place is damaged, and not the torn end of what was being written in a crash.
    pub(super) fn was_durable(&self) -> Result<bool, JournalError> {
        let rest = self.disk.read_range(&self.file.path, self.offset..self.file.bytes);
        let rest = rest.map_err(|error| JournalError::io("read", &self.file.path, error))?;
        let missing = self.next - self.file.first;
        Ok((1..rest.len().saturating_sub(FRAME_HEAD_BYTES + BODY_HEAD_BYTES)).any(|at| {
            let candidate = &rest[at..];
            // Cheap conditions first: hardly a place that begins no frame passes them.
            let Some(bytes) = frame::length(candidate).map(|length| length as usize + FRAME_HEAD_BYTES)
            else {
                return false;
            };
            let claims =
                |head: FrameHead| u64::from(head.index).saturating_sub(head.unsynced.into()) > missing;
            bytes <= candidate.len()
                && frame::peek_head(candidate).is_some_and(claims)
                && frame::frame_head(&candidate[..bytes]).is_ok()
        }))
    }

    fn damaged(&self, reason: &str) -> JournalError {
        JournalError::Damaged { path: self.file.path.clone(), offset: self.offset, reason: reason.to_owned() }
    }

    /// The next `count` bytes, which the file has.
    fn peek(&mut self, count: u64) -> Result<Bytes, JournalError> {
        if (self.buffer.len() as u64) < count {
            let end = (self.offset + count.max(PIECE_BYTES)).min(self.file.bytes);
            let bytes = self.disk.read_range(&self.file.path, self.offset..end);
            self.buffer = bytes.map_err(|error| JournalError::io("read", &self.file.path, error))?.into();
        }
        Ok(self.buffer.slice(..count as usize))
    }

    fn skip(&mut self, count: usize) {
        self.offset += count as u64;
        _ = self.buffer.split_to(count);
    }
}

/// The records of a journal from a position on, in order; it ends with the first error.
pub struct Replay {
    disk: Arc<dyn Disk>,
    files: VecDeque<JournalFile>,
    headers: Arc<[String]>,
    frames: Option<Frames>,
    records: VecDeque<Record>,
    /// Position of the first record in `records`.
    position: u64,
    from: u64,
}

impl Replay {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        mut files: VecDeque<JournalFile>,
        headers: Arc<[String]>,
        from: u64,
    ) -> Self {
        while files.get(1).is_some_and(|second| second.first <= from) {
            files.pop_front();
        }
        Self { disk, files, headers, frames: None, records: VecDeque::new(), position: 0, from }
    }

    fn read(&mut self) -> Result<Option<(u64, Record)>, JournalError> {
        loop {
            if let Some(record) = self.records.pop_front() {
                self.position += 1;
                if self.position > self.from {
                    return Ok(Some((self.position - 1, record)));
                }
                continue;
            }
            let Some(frames) = &mut self.frames else {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                self.frames = Some(Frames::open(&self.disk, file, self.headers.clone())?.1);
                continue;
            };
            match frames.next()? {
                Some(frame) => {
                    self.position = frame.first;
                    frames.records(&frame, &mut self.records)?;
                }
                None => self.frames = None,
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Record), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if let Some(Err(_)) = &read {
            self.files.clear();
            self.frames = None;
            self.records.clear();
        }
        read
    }
}
