//! A segment: rows of one table, day and schema on their way to a Parquet file, in a form that can be
//! appended to, synced and cut at any checkpoint.
//!
//! ```text
//!   head (`twl-segm`, version) | frame | frame | ...
//!   frame = length u32 | crc u32 | bytes        little-endian, one batch of rows each
//! ```
//! The bytes of all frames together are one Arrow IPC stream. Its schema comes first, so it stands
//! once a file, in the first frame. Where the stream ends is said by the checkpoint, not by the file.

use super::ArchiveError;
use crate::disk::{Disk, DiskFile};
use crate::failpoint::{self, Failpoint};
use crate::format::{Format, HEAD_BYTES};
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::{ArrowError, SchemaRef};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: Format = Format { magic: *b"twl-segm", version: 1 };

const FRAME_HEAD_BYTES: usize = 8;

/// What a frame may claim to have, so that a length that lies is no large allocation.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Larger batches are written in pieces, so that who reads them needs little memory.
const PIECE_BYTES: usize = 1 << 20;

/// Columns begin at multiples of this many bytes; the usual 64 would make a small batch twice as large.
const ALIGNMENT: usize = 8;

/// A segment that is being written.
pub(super) struct SegmentWriter {
    /// Its file in the folder of segments.
    pub(super) name: String,
    /// What of it is written.
    pub(super) bytes: u64,
    /// The rows in that.
    pub(super) rows: u64,
    path: PathBuf,
    encoder: StreamEncoder,
    /// `None` until the first row, and while other segments need the handle more.
    file: Option<Box<dyn DiskFile>>,
    is_dirty: bool,
}

impl SegmentWriter {
    /// A segment whose file is made with its first row.
    pub(super) fn new(folder: &Path, name: String, schema: &SchemaRef) -> Result<Self, ArchiveError> {
        let path = folder.join(&name);
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5);
        let encoder = options.and_then(|options| StreamEncoder::try_new_with_options(schema, options));
        let encoder = encoder.map_err(|error| ArchiveError::rows(&path, &error))?;
        Ok(Self { name, bytes: 0, rows: 0, path, encoder, file: None, is_dirty: false })
    }

    /// Why rows cannot be written to it.
    pub(super) fn unfit(&self, error: &ArrowError) -> ArchiveError {
        ArchiveError::rows(&self.path, error)
    }

    pub(super) fn has_handle(&self) -> bool {
        self.file.is_some()
    }

    /// Writes rows behind those that are there. After an error the file may end in half a frame: it
    /// must not be written again.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        rows: &RecordBatch,
        scratch: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        scratch.clear();
        if self.bytes == 0 {
            scratch.extend(FORMAT.head());
        }
        let pieces = rows.get_array_memory_size().div_ceil(PIECE_BYTES);
        let piece_rows = rows.num_rows().div_ceil(pieces.max(1)).max(1);
        for from in (0..rows.num_rows()).step_by(piece_rows) {
            let piece = rows.slice(from, piece_rows.min(rows.num_rows() - from));
            self.push_frame(&piece, scratch).map_err(|error| self.unfit(&error))?;
        }
        self.write(disk, scratch).map_err(ArchiveError::io("write to the segment", &self.path))?;
        self.bytes += scratch.len() as u64;
        self.rows += rows.num_rows() as u64;
        self.is_dirty = true;
        Ok(())
    }

    fn push_frame(&mut self, rows: &RecordBatch, frames: &mut Vec<u8>) -> Result<(), ArrowError> {
        let head = frames.len();
        frames.extend([0; FRAME_HEAD_BYTES]);
        for buffer in self.encoder.encode(rows)? {
            frames.extend_from_slice(&buffer);
        }
        let (head, body) = frames[head..].split_at_mut(FRAME_HEAD_BYTES);
        if body.len() > FRAME_BYTES_MAX {
            return Err(ArrowError::IpcError(format!("{} bytes are too many for one row", body.len())));
        }
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        Ok(())
    }

    fn write(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        failpoint::hit(Failpoint::SegmentAppend)?;
        let file = match &mut self.file {
            Some(file) => file,
            none if self.bytes == 0 => none.insert(disk.create(&self.path)?),
            none => none.insert(disk.append(&self.path)?),
        };
        file.write_all(bytes)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> Result<(), ArchiveError> {
        if let Some(file) = self.file.as_mut().filter(|_| self.is_dirty) {
            let synced = failpoint::hit(Failpoint::SegmentSync).and_then(|()| file.sync());
            synced.map_err(ArchiveError::io("sync the segment", &self.path))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Gives the handle back. Synced before: who opens the file again might not be told of an error.
    pub(super) fn release(&mut self) -> Result<(), ArchiveError> {
        self.sync()?;
        self.file = None;
        Ok(())
    }
}

/// Reads the committed rows of a segment, with the memory of one frame.
pub(super) struct SegmentReader {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    decoder: StreamDecoder,
    schema: SchemaRef,
    /// The batch of the first frame, which had to be read for the schema.
    first: Option<RecordBatch>,
    /// Head of the next frame, which was read together with the one before.
    frame_head: [u8; FRAME_HEAD_BYTES],
    /// Where the bytes of the next frame begin.
    at: u64,
    end: u64,
}

impl SegmentReader {
    /// Opens the first `bytes` of a segment.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf, bytes: u64) -> Result<Self, ArchiveError> {
        let mut reader = Self {
            disk,
            path,
            decoder: StreamDecoder::new(),
            schema: SchemaRef::new(arrow_schema::Schema::empty()),
            first: None,
            frame_head: [0; FRAME_HEAD_BYTES],
            at: (HEAD_BYTES + FRAME_HEAD_BYTES) as u64,
            end: bytes,
        };
        let head = reader.read(0, reader.at.min(bytes))?;
        let body =
            FORMAT.body(&head).map_err(|error| ArchiveError::Segment { path: reader.path.clone(), error })?;
        reader.frame_head =
            body.try_into().map_err(|_| reader.damaged("it is cut off in its first frame"))?;
        reader.first = reader.next_frame()?;
        reader.schema = reader.decoder.schema().ok_or_else(|| reader.damaged("it has no schema"))?;
        Ok(reader)
    }

    /// What its rows look like.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` behind the last.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArchiveError> {
        match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.next_frame(),
        }
    }

    fn next_frame(&mut self) -> Result<Option<RecordBatch>, ArchiveError> {
        if self.at == self.end + FRAME_HEAD_BYTES as u64 {
            return Ok(None);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = self.frame_head;
        let (length, crc) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
        let frame_end = self.at + u64::from(length);
        if length as usize > FRAME_BYTES_MAX || frame_end > self.end {
            return Err(self.damaged(format!("the frame at byte {} is longer than what is left", self.at)));
        }
        // With the head of the next frame, so that each frame is one read.
        let mut bytes = self.read(self.at, (frame_end + FRAME_HEAD_BYTES as u64).min(self.end))?;
        let next_head = bytes.split_off(length as usize);
        if crc32fast::hash(&bytes) != crc {
            return Err(self.damaged(format!("the frame at byte {} has another checksum", self.at)));
        }
        let batch = self.decode(bytes)?;
        if frame_end < self.end {
            let whole = next_head.as_slice().try_into();
            self.frame_head = whole.map_err(|_| self.damaged("it is cut off in the head of a frame"))?;
        }
        self.at = frame_end + FRAME_HEAD_BYTES as u64;
        Ok(Some(batch))
    }

    fn decode(&mut self, bytes: Vec<u8>) -> Result<RecordBatch, ArchiveError> {
        let mut buffer = Buffer::from_vec(bytes);
        let mut found = None;
        while !buffer.is_empty() {
            let decoded = self.decoder.decode(&mut buffer);
            let decoded = decoded.map_err(|error| self.damaged(error.to_string()))?;
            if decoded.is_some() && std::mem::replace(&mut found, decoded).is_some() {
                return Err(self.damaged("a frame has more than one batch"));
            }
        }
        found.ok_or_else(|| self.damaged("a frame has no rows"))
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, ArchiveError> {
        self.disk.read_range(&self.path, from..to).map_err(ArchiveError::io("read the segment", &self.path))
    }

    fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::damaged(&self.path, what)
    }
}

#[cfg(test)]
mod tests;
