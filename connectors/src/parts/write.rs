//! Writing an object, front to back.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use super::{CLOSING, Entry, FOOT_BYTES, FORMAT, PartInfo, index_checksum};
use crate::failpoint::{self, Failpoint};
use crate::format::HEAD_BYTES;
use crate::store::{Store, StoreWriter};

/// Bins may be small and many, writes should be neither.
const BUFFER_BYTES: usize = 256 * 1024;

/// An object that is being written; dropped before it is finished it leaves nothing.
pub struct PartWriter {
    name: String,
    writer: BufWriter<Box<dyn StoreWriter>>,
    index: BTreeMap<u16, Entry>,
    offset: u64,
    records: u64,
}

impl PartWriter {
    /// Begins an object of this name.
    pub fn begin(store: &dyn Store, name: &str) -> io::Result<PartWriter> {
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, store.create(name)?);
        writer.write_all(&FORMAT.head())?;
        let (name, offset) = (name.to_owned(), HEAD_BYTES as u64);
        Ok(PartWriter { name, writer, index: BTreeMap::new(), offset, records: 0 })
    }

    /// Writes the records of a bin, which [`push_record`](super::push_record) framed; a bin comes once,
    /// in any order, and one without records need not come.
    pub fn block(&mut self, bin: u16, count: u32, records: &[u8]) -> io::Result<()> {
        failpoint::hit(Failpoint::PartWrite)?;
        if count == 0 && records.is_empty() {
            return Ok(());
        }
        let (offset, length, checksum) = (self.offset, records.len() as u64, crc32fast::hash(records));
        if self.index.insert(bin, Entry { bin, count, offset, length, checksum }).is_some() {
            let twice = format!("bin {bin} came twice for `{}`", self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, twice));
        }
        self.writer.write_all(records)?;
        self.offset += length;
        self.records += u64::from(count);
        Ok(())
    }

    /// Completes the object, which is durable when this returns.
    pub fn finish(mut self) -> io::Result<PartInfo> {
        failpoint::hit(Failpoint::PartFinish)?;
        let mut index = Vec::with_capacity(self.index.len() * Entry::BYTES);
        self.index.values().for_each(|entry| entry.push(&mut index));
        let checksum = index_checksum(&FORMAT.head(), &index);
        self.writer.write_all(&index)?;
        self.writer.write_all(&(index.len() as u32).to_le_bytes())?;
        self.writer.write_all(&checksum.to_le_bytes())?;
        self.writer.write_all(&CLOSING)?;
        self.writer.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
        let bytes = self.offset + (index.len() + FOOT_BYTES) as u64;
        Ok(PartInfo { name: self.name, bytes, records: self.records, checksum })
    }
}
