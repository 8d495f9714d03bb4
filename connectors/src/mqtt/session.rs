//! What a source remembers of its session at the broker: since which message of the journal it goes
//! on, and what was subscribed to in it.
//!
//! ```text
//!   <folder>/session   head 12 | crc32 u32 of the rest | since u64 | count u32 | texts
//!                      texts: url, client id, filters; each is length u32 | bytes
//! ```
//! It is replaced as a whole, before the broker is told what it says.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk};
use crate::failpoint::{self, Failpoint};
use crate::format::{Format, FormatError};

const FORMAT: Format = Format { magic: *b"twl-sess", version: 1 };

const NAME: &str = "session";

/// A session that the broker keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Messages of the journal before this one came in other sessions.
    pub(super) since: u64,
    /// The broker that keeps it.
    pub(super) url: String,
    /// What the broker keeps it under.
    pub(super) client_id: String,
    /// What it may be subscribed to.
    pub(super) filters: Vec<String>,
}

/// Why a session's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The disk refused.
    #[error("cannot {action} {}: {error}; check that the folder may be written and the disk is not full", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {reason}; remove it: messages that the broker sends again may then be taken twice", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FormatError,
    },
}

impl Session {
    /// The session that an earlier run has left in a folder.
    pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<Option<Self>, SessionError> {
        let path = folder.join(NAME);
        match disk.read(&path) {
            Ok(bytes) => match Self::decode(&bytes) {
                Ok(session) => Ok(Some(session)),
                Err(reason) => Err(SessionError::Format { path, reason }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SessionError::Io { action: "read", path, error }),
        }
    }

    /// Writes it, durably.
    pub(super) fn write(&self, disk: &dyn Disk, folder: &Path) -> Result<(), SessionError> {
        let path = folder.join(NAME);
        let written = failpoint::hit(Failpoint::JournalSession)
            .and_then(|()| disk::replace(disk, &path, &self.encode()));
        written.map_err(|error| SessionError::Io { action: "write", path, error })
    }

    /// Whether it is kept by this broker under this name.
    pub(super) fn is_of(&self, url: &str, client_id: &str) -> bool {
        self.url == url && self.client_id == client_id
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = self.since.to_le_bytes().to_vec();
        body.extend_from_slice(&(self.filters.len() as u32 + 2).to_le_bytes());
        for text in [&self.url, &self.client_id].into_iter().chain(&self.filters) {
            body.extend_from_slice(&(text.len() as u32).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        [&FORMAT.head()[..], &crc32fast::hash(&body).to_le_bytes(), &body].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let damaged = || FormatError::Damaged("it does not match its checksum".into());
        let (crc, body) = FORMAT.body(bytes)?.split_first_chunk().ok_or_else(damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        Self::decode_body(body).ok_or_else(|| FormatError::Damaged("its parts do not fit".into()))
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (since, body) = body.split_first_chunk()?;
        let (count, mut body) = body.split_first_chunk()?;
        let mut texts = Vec::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (length, rest) = body.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            texts.push(String::from_utf8(text.to_vec()).ok()?);
            body = rest;
        }
        let mut texts = texts.into_iter();
        let (url, client_id) = (texts.next()?, texts.next()?);
        let session = Self { since: u64::from_le_bytes(*since), url, client_id, filters: texts.collect() };
        body.is_empty().then_some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    fn example() -> Session {
        Session {
            since: 258,
            url: "mqtt://h".into(),
            client_id: "c".into(),
            filters: vec!["a/#".into(), "b".into()],
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let expected = [
            &b"twl-sess\x01\0\0\0"[..],
            &crc32fast::hash(&example().encode()[16..]).to_le_bytes(),
            b"\x02\x01\0\0\0\0\0\0\x04\0\0\0\x08\0\0\0mqtt://h\x01\0\0\0c\x03\0\0\0a/#\x01\0\0\0b",
        ];
        assert_eq!(example().encode(), expected.concat());
        assert_eq!(Session::decode(&expected.concat()), Ok(example()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = example().encode();
        for length in 0..whole.len() {
            assert!(Session::decode(&whole[..length]).is_err(), "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Session::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn it_is_read_back_and_a_strange_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || Session::read(&SystemDisk, folder.path());
        assert_eq!(read().expect("none yet"), None);
        example().write(&SystemDisk, folder.path()).expect("written");
        assert_eq!(read().expect("read"), Some(example()));
        std::fs::write(folder.path().join(NAME), b"twl-sess\x02\0\0\0").expect("written");
        let error = read().expect_err("refused").to_string();
        assert!(error.contains("session") && error.contains("run the newer version"), "{error}");
    }
}
