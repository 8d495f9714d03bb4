//! Reading an object by bin, with every byte checked before it is believed.

use super::record::framed;
use super::{CLOSING, Entry, FOOT_BYTES, FORMAT, PartError, PartInfo, index_checksum, part};
use crate::format::HEAD_BYTES;
use crate::store::Store;

/// How much of the end is read at first; it holds the index of about two thousand bins.
const END_BYTES: u64 = 64 * 1024;

/// An object of which head and index were read.
pub struct PartReader<'a> {
    store: &'a dyn Store,
    pub(super) name: String,
    /// Sorted by bin.
    index: Vec<Entry>,
}

impl<'a> PartReader<'a> {
    /// Reads head and index, and sees that they are those that were written.
    pub fn open(store: &'a dyn Store, info: &PartInfo) -> Result<PartReader<'a>, PartError> {
        let name = &*info.name;
        let read = |start: u64, end: u64| {
            store.read_range(name, start..end).map_err(|error| PartError::of(name, error))
        };
        let damaged = |what: &str| PartError::damaged(name, what);
        if info.bytes < (HEAD_BYTES + FOOT_BYTES) as u64 {
            return Err(damaged("its size in the manifest is too small"));
        }
        let head = read(0, HEAD_BYTES as u64)?;
        FORMAT.body(&head).map_err(|source| PartError::format(name, source))?;
        let mut end = read(info.bytes - info.bytes.min(END_BYTES), info.bytes)?;
        let foot = end.split_off(end.len() - FOOT_BYTES);
        let length = u64::from(u32::from_le_bytes(part(&foot, 0)));
        if foot[8..] != CLOSING {
            return Err(damaged("its end is not the end that was written"));
        }
        let blocks_end = (info.bytes - FOOT_BYTES as u64).checked_sub(length);
        let blocks_end = blocks_end.filter(|end| *end >= HEAD_BYTES as u64);
        let blocks_end = blocks_end.ok_or_else(|| damaged("its index is longer than the object"))?;
        let index = match (end.len() as u64).checked_sub(length) {
            Some(before) => end.split_off(before as usize),
            None => read(blocks_end, info.bytes - FOOT_BYTES as u64)?,
        };
        let checksum = index_checksum(&head, &index);
        if checksum != u32::from_le_bytes(part(&foot, 4)) {
            return Err(damaged("the checksum of its index is wrong"));
        }
        if checksum != info.checksum {
            return Err(damaged("it is whole, but not the one that the manifest means"));
        }
        let (entries, rest) = index.as_chunks::<{ Entry::BYTES }>();
        let index: Vec<Entry> = entries.iter().map(Entry::read).collect();
        if !rest.is_empty() || !is_plausible(&index, blocks_end, info.records) {
            return Err(damaged("its index contradicts itself"));
        }
        Ok(PartReader { store, name: info.name.clone(), index })
    }

    /// The bins that have records, in their order.
    pub fn bins(&self) -> impl Iterator<Item = u16> {
        self.index.iter().map(|entry| entry.bin)
    }

    /// The records of a bin, their checksum verified; none where it has none.
    pub fn block(&self, bin: u16) -> Result<Option<Vec<u8>>, PartError> {
        let Ok(at) = self.index.binary_search_by_key(&bin, |entry| entry.bin) else { return Ok(None) };
        let entry = self.index[at];
        let range = entry.offset..entry.offset + entry.length;
        let block = self.store.read_range(&self.name, range);
        let block = block.map_err(|error| PartError::of(&self.name, error))?;
        if crc32fast::hash(&block) != entry.checksum {
            return Err(PartError::damaged(&self.name, &format!("the checksum of bin {bin} is wrong")));
        }
        Ok(Some(block))
    }
}

/// Whether bins ascend, and blocks lie side by side from the head to the index. The checksum has
/// passed, so this is about objects that were written wrongly.
fn is_plausible(index: &[Entry], blocks_end: u64, records: u64) -> bool {
    let mut spans: Vec<(u64, u64)> = index.iter().map(|entry| (entry.offset, entry.length)).collect();
    spans.sort_unstable();
    let end =
        spans.iter().try_fold(
            HEAD_BYTES as u64,
            |at, (offset, length)| {
                if at == *offset { at.checked_add(*length) } else { None }
            },
        );
    let counted: u64 = index.iter().map(|entry| u64::from(entry.count)).sum();
    end == Some(blocks_end) && counted == records && index.is_sorted_by(|one, two| one.bin < two.bin)
}

/// Reads everything, one block at a time, and sees that it is what was written.
pub fn verify(store: &dyn Store, info: &PartInfo) -> Result<(), PartError> {
    let name = &*info.name;
    if store.size(name).map_err(|error| PartError::of(name, error))? != info.bytes {
        return Err(PartError::damaged(name, "its size is not the one in the manifest"));
    }
    let reader = PartReader::open(store, info)?;
    for entry in &reader.index {
        let block = reader.block(entry.bin)?.unwrap_or_default();
        let mut count = 0;
        for record in framed(&block) {
            record.map_err(|source| PartError::format(name, source))?;
            count += 1;
        }
        if count != u64::from(entry.count) {
            let what = format!("bin {} has {count} records, and {} in the index", entry.bin, entry.count);
            return Err(PartError::damaged(name, &what));
        }
    }
    Ok(())
}
