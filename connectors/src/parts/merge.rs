//! Making one object of several: of an id that more than one has, the newest record stays.

use std::collections::{BTreeSet, HashSet};

use super::record::framed;
use super::{PartError, PartInfo, PartReader, PartWriter};
use crate::failpoint::{self, Failpoint};
use crate::store::Store;

/// Merges objects, oldest first, into one of this name; bin by bin, with the records of one bin in
/// memory. The objects stay, and so must their names: the new one is called otherwise.
pub fn merge(store: &dyn Store, parts: &[PartInfo], name: &str) -> Result<PartInfo, PartError> {
    let failed = |source| PartError::Store { name: name.to_owned(), source };
    let readers: Vec<PartReader> =
        parts.iter().map(|info| PartReader::open(store, info)).collect::<Result<_, _>>()?;
    let bins: BTreeSet<u16> = readers.iter().flat_map(PartReader::bins).collect();
    failpoint::hit(Failpoint::Compaction).map_err(failed)?;
    let mut writer = PartWriter::begin(store, name).map_err(failed)?;
    let mut merged = Vec::new();
    for bin in bins {
        let mut blocks = Vec::with_capacity(readers.len());
        for reader in &readers {
            blocks.extend(reader.block(bin)?.map(|block| (&reader.name, block)));
        }
        let (mut seen, mut count) = (HashSet::new(), 0);
        merged.clear();
        // From the newest on, so that the first record of an id is the one that stays. The set only
        // says whether an id was seen: the order is that of the objects, whatever the hashes are.
        for (name, block) in blocks.iter().rev() {
            let records: Vec<_> =
                framed(block).collect::<Result<_, _>>().map_err(|e| PartError::format(name, e))?;
            for record in records.iter().rev().filter(|record| seen.insert(record.id)) {
                merged.extend_from_slice(record.frame);
                count += 1;
            }
        }
        writer.block(bin, count, &merged).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}
