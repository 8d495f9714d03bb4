//! One record in a block: an id and its bytes, with six bytes before them.

use super::part;
use crate::format::FormatError;

/// The longest id (rule 8.1).
pub const ID_BYTES_MAX: usize = 256;

/// Id length u16, length u32.
const PREFIX_BYTES: usize = 6;

/// Appends a record whose bytes `write` appends; nothing is copied.
///
/// # Panics
/// Where the id is longer than [`ID_BYTES_MAX`] or the record is 4 GiB, which callers have refused
/// long before.
pub fn push_record(records: &mut Vec<u8>, id: &str, write: impl FnOnce(&mut Vec<u8>)) {
    assert!(id.len() <= ID_BYTES_MAX, "an id has at most {ID_BYTES_MAX} bytes");
    records.extend_from_slice(&(id.len() as u16).to_le_bytes());
    let length_at = records.len();
    records.extend_from_slice(&[0; 4]);
    records.extend_from_slice(id.as_bytes());
    let start = records.len();
    write(records);
    let length = records.len().checked_sub(start).expect("a record is appended, and nothing taken away");
    let length = u32::try_from(length).expect("a record is smaller than 4 GiB");
    records[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The records of a block: ids and bytes. After an error there are no more.
pub fn records(block: &[u8]) -> impl Iterator<Item = Result<(&str, &[u8]), FormatError>> {
    framed(block).map(|record| record.map(|record| (record.id, record.bytes)))
}

/// A record, and how it stands in its block.
pub(super) struct Framed<'a> {
    pub id: &'a str,
    pub bytes: &'a [u8],
    pub frame: &'a [u8],
}

pub(super) fn framed(block: &[u8]) -> impl Iterator<Item = Result<Framed<'_>, FormatError>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = first(rest);
        rest = record.as_ref().map_or(&[], |record| &rest[record.frame.len()..]);
        Some(record)
    })
}

fn first(block: &[u8]) -> Result<Framed<'_>, FormatError> {
    let damaged = |what: &str| FormatError::Damaged(format!("a record {what}"));
    if block.len() < PREFIX_BYTES {
        return Err(damaged("is cut off"));
    }
    let id_bytes = usize::from(u16::from_le_bytes(part(block, 0)));
    let length = u32::from_le_bytes(part(block, 2)) as usize;
    if id_bytes > ID_BYTES_MAX {
        return Err(damaged("has an id that is too long"));
    }
    let bytes_at = PREFIX_BYTES + id_bytes;
    let frame = block.get(..bytes_at.saturating_add(length)).ok_or_else(|| damaged("is cut off"))?;
    let id =
        str::from_utf8(&frame[PREFIX_BYTES..bytes_at]).map_err(|_| damaged("has an id that is no text"))?;
    Ok(Framed { id, bytes: &frame[bytes_at..], frame })
}
