//! The head that every durable file of ours begins with (rule 7.7): who it is of, and which version.
//!
//! ```text
//!   magic 8 bytes | version u32, little-endian | body, with checksums of its own
//! ```
//! A small file, written as a whole, has one: `length u32 | crc u32 | bytes` ([`Format::seal`]).

/// A durable format: its magic, and the version that this program writes.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Eight letters at the begin of the file.
    pub magic: [u8; 8],
    /// The newest version that this program knows.
    pub version: u32,
}

/// Bytes of a head.
pub const HEAD_BYTES: usize = 12;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file.
    #[error("it is no {0} file")]
    Foreign(String),
    /// A version from the future.
    #[error("it has format {found}, and this version knows {known}; run the newer version")]
    Newer {
        /// The version found.
        found: u32,
        /// The newest one known.
        known: u32,
    },
    /// Cut, or with wrong bytes.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl Format {
    /// The head of a new file.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&self.magic);
        head[8..].copy_from_slice(&self.version.to_le_bytes());
        head
    }

    /// What follows the head, if it is ours.
    pub fn body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(FormatError::Damaged("it is cut off in its head".into()));
        };
        if head[..8] != self.magic {
            return Err(FormatError::Foreign(String::from_utf8_lossy(&self.magic).trim().to_owned()));
        }
        let mut version = [0; 4];
        version.copy_from_slice(&head[8..]);
        match u32::from_le_bytes(version) {
            0 => Err(FormatError::Damaged("its version never was".into())),
            found if found > self.version => Err(FormatError::Newer { found, known: self.version }),
            _ => Ok(body),
        }
    }
}

impl Format {
    /// A whole file: head, length, checksum and these bytes.
    pub fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        let (length, crc) = ((bytes.len() as u32).to_le_bytes(), crc32fast::hash(bytes).to_le_bytes());
        [&self.head()[..], &length, &crc, bytes].concat()
    }

    /// The bytes that were sealed, if all of them are there and none has changed.
    pub fn unseal<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let damaged = |reason: &str| FormatError::Damaged(reason.to_owned());
        let (length, rest) =
            self.body(file)?.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
        let (crc, bytes) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
        if bytes.len() != u32::from_le_bytes(*length) as usize {
            return Err(damaged("its length is wrong"));
        }
        if crc32fast::hash(bytes) != u32::from_le_bytes(*crc) {
            return Err(damaged("its checksum is wrong"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_a_strange_one_refused() {
        let format = Format { magic: *b"twl-test", version: 2 };
        let with = |version: u32| [&b"twl-test"[..], &version.to_le_bytes(), b"body"].concat();
        assert_eq!([&format.head()[..], b"body"].concat(), with(2));
        assert_eq!(format.body(&with(1)), Ok(&b"body"[..]));
        assert_eq!(format.body(&with(3)), Err(FormatError::Newer { found: 3, known: 2 }));
        assert!(matches!(format.body(&with(0)), Err(FormatError::Damaged(_))));
        assert!(matches!(format.body(b"twl-oops\x01\0\0\0"), Err(FormatError::Foreign(_))));
        assert!(matches!(format.body(b"twl-test\x01"), Err(FormatError::Damaged(_))));
    }

    #[test]
    fn what_is_sealed_is_whole_or_refused() {
        let format = Format { magic: *b"twl-test", version: 1 };
        let whole = format.seal(b"body");
        assert_eq!(format.unseal(&whole), Ok(&b"body"[..]));
        for length in 0..whole.len() {
            assert!(format.unseal(&whole[..length]).is_err(), "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(format.unseal(&bytes).is_err(), "bit {bit}");
        }
    }
}
