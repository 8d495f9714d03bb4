//! Objects of keyed records in bins: what a checkpoint is made of, without a word on what the records
//! mean. An object is written front to back and read by bin, so that a restore on another number of
//! workers reads only what it takes over.
//!
//! ```text
//!   head | block | block | ... | index | index length u32 | index checksum u32 | closing magic
//!            |                     '-- of each block: bin u16, records u32, offset u64, length u64, crc u32
//!            '-- records, one behind the other: id length u16, length u32, id, bytes
//! ```
//! Numbers are little-endian. The index is sorted by bin, its checksum covers the head and its length
//! too, and it holds the checksums of the blocks: who knows it knows every byte.

mod merge;
mod read;
mod record;
#[cfg(test)]
mod tests;
mod write;

use std::io;

use serde::{Deserialize, Serialize};

use crate::format::{Format, FormatError};

pub use merge::merge;
pub use read::{PartReader, verify};
pub use record::{ID_BYTES_MAX, push_record, records};
pub use write::PartWriter;

/// What names an object and tells whether it is the one that was written; it stands in a manifest.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PartInfo {
    /// The name in the store.
    pub name: String,
    /// The size of the object.
    pub bytes: u64,
    /// How many records it has.
    pub records: u64,
    /// The checksum of its index, which holds those of the blocks.
    pub checksum: u32,
}

/// Why an object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The store failed.
    #[error("`{name}` cannot be read or written: {source}; see that the store can be reached and has room")]
    Store {
        /// The object.
        name: String,
        /// What the store said.
        source: io::Error,
    },
    /// It is missing or not what was written.
    #[error("`{name}` cannot be used: {source}; go back to an older checkpoint")]
    Format {
        /// The object.
        name: String,
        /// What is wrong.
        source: FormatError,
    },
}

impl PartError {
    /// An object that is missing or too short is one that is damaged; the rest is the store's.
    fn of(name: &str, source: io::Error) -> PartError {
        match source.kind() {
            io::ErrorKind::NotFound => PartError::damaged(name, "it is missing"),
            io::ErrorKind::UnexpectedEof => PartError::damaged(name, "it is cut off"),
            _ => PartError::Store { name: name.to_owned(), source },
        }
    }

    fn format(name: &str, source: FormatError) -> PartError {
        PartError::Format { name: name.to_owned(), source }
    }

    fn damaged(name: &str, what: &str) -> PartError {
        PartError::format(name, FormatError::Damaged(what.to_owned()))
    }
}

const FORMAT: Format = Format { magic: *b"twl-part", version: 1 };

/// The last bytes of an object.
const CLOSING: [u8; 8] = *b"part-end";

/// Index length, index checksum, closing magic.
const FOOT_BYTES: usize = 16;

/// One line of the index.
#[derive(Clone, Copy, Debug)]
struct Entry {
    bin: u16,
    count: u32,
    offset: u64,
    length: u64,
    checksum: u32,
}

impl Entry {
    const BYTES: usize = 26;

    fn push(&self, index: &mut Vec<u8>) {
        index.extend_from_slice(&self.bin.to_le_bytes());
        index.extend_from_slice(&self.count.to_le_bytes());
        index.extend_from_slice(&self.offset.to_le_bytes());
        index.extend_from_slice(&self.length.to_le_bytes());
        index.extend_from_slice(&self.checksum.to_le_bytes());
    }

    fn read(bytes: &[u8; Entry::BYTES]) -> Entry {
        Entry {
            bin: u16::from_le_bytes(part(bytes, 0)),
            count: u32::from_le_bytes(part(bytes, 2)),
            offset: u64::from_le_bytes(part(bytes, 6)),
            length: u64::from_le_bytes(part(bytes, 14)),
            checksum: u32::from_le_bytes(part(bytes, 22)),
        }
    }
}

/// `N` of the bytes, from a place that the caller knows is there.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

/// The checksum of an index.
fn index_checksum(head: &[u8], index: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(index);
    hasher.update(&(index.len() as u32).to_le_bytes());
    hasher.finalize()
}
