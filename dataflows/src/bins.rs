//! Where twins live: bins of twins, each with one owner.
//!
//! ```text
//!  hash of the id ── top 10 bits ──► bin ── table ──► worker          (router.rs)
//!                                     └── index ──► slot: id, record  (here)
//! ```
//!
//! A bin is the unit in which state will be kept, moved and counted, so everything of a twin is in
//! it and nothing of it outside. Slots never leave their worker. A bin that has no twin costs
//! eight bytes.

use hashbrown::HashTable;
use operators::id::BINS;
use operators::twin::Twin;

/// Where a twin stands on its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of its bin.
    pub bin: u16,
    /// Its place in the bin.
    pub index: u32,
}

/// The bins of one worker.
pub struct Bins {
    bins: Vec<Option<Box<Bin>>>,
    twins: usize,
}

/// The twins of one bin.
#[derive(Default)]
pub struct Bin {
    index: HashTable<u32>,
    ids: Ids,
    twins: Vec<Twin>,
}

/// Ids, packed: 4 bytes a twin and the id itself.
#[derive(Default)]
struct Ids {
    bytes: Vec<u8>,
    /// Where each id ends in `bytes`.
    ends: Vec<u32>,
}

impl Default for Bins {
    fn default() -> Self {
        let mut bins = Vec::new();
        bins.resize_with(BINS, || None);
        Self { bins, twins: 0 }
    }
}

impl Bins {
    /// How many twins.
    pub fn len(&self) -> usize {
        self.twins
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.twins == 0
    }

    /// Where the twin with this id stands, if it is known. Ids are compared byte by byte: a hash
    /// may be shared.
    pub fn find(&self, hash: u64, id: &str) -> Option<Slot> {
        let number = operators::id::bin(hash);
        let bin = self.bins[number].as_deref()?;
        let same = |index: &u32| bin.ids.bytes_of(*index as usize) == id.as_bytes();
        let index = *bin.index.find(hash, same)?;
        Some(Slot { bin: number as u16, index })
    }

    /// Adds a twin that [`Bins::find`] did not find.
    pub fn insert(&mut self, hash: u64, id: &str, twin: Twin) -> Slot {
        let number = operators::id::bin(hash);
        let bin = self.bins[number].get_or_insert_with(Default::default);
        let index = bin.twins.len() as u32;
        bin.ids.push(id);
        grow_by_an_eighth(&mut bin.twins);
        bin.twins.push(twin);
        let ids = &bin.ids;
        let hash_of = |index: &u32| operators::id::hash(ids.bytes_of(*index as usize));
        bin.index.insert_unique(hash, index, hash_of);
        self.twins += 1;
        Slot { bin: number as u16, index }
    }

    /// The twin in a slot, and its id.
    pub fn get_mut(&mut self, slot: Slot) -> Option<(&str, &mut Twin)> {
        let bin = self.bins[usize::from(slot.bin)].as_deref_mut()?;
        let index = slot.index as usize;
        let twin = bin.twins.get_mut(index)?;
        Some((bin.ids.get(index), twin))
    }

    /// The twin in a slot, and its id.
    pub fn get(&self, slot: Slot) -> Option<(&str, &Twin)> {
        let bin = self.bins[usize::from(slot.bin)].as_deref()?;
        let index = slot.index as usize;
        Some((bin.ids.get(index), bin.twins.get(index)?))
    }

    /// The first slot at or after `from`, in the order of bins and places.
    pub fn next(&self, from: Slot) -> Option<Slot> {
        let len = |bin: &Option<Box<Bin>>| bin.as_ref().map_or(0, |bin| bin.twins.len());
        if (from.index as usize) < len(&self.bins[usize::from(from.bin)]) {
            return Some(from);
        }
        let mut later = self.bins.iter().enumerate().skip(usize::from(from.bin) + 1);
        let (bin, _) = later.find(|(_, bin)| len(bin) > 0)?;
        Some(Slot { bin: bin as u16, index: 0 })
    }
}

impl Slot {
    /// Before all slots.
    pub const FIRST: Slot = Slot { bin: 0, index: 0 };

    /// The place after this one.
    #[must_use]
    pub fn after(self) -> Self {
        Self { index: self.index + 1, ..self }
    }
}

/// Doubling would leave a third of a million twins' memory unused.
fn grow_by_an_eighth<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(4 + vec.len() / 8);
    }
}

impl Ids {
    fn push(&mut self, id: &str) {
        if self.bytes.capacity() - self.bytes.len() < id.len() {
            self.bytes.reserve_exact(id.len() * 4 + self.bytes.len() / 8);
        }
        self.bytes.extend_from_slice(id.as_bytes());
        grow_by_an_eighth(&mut self.ends);
        self.ends.push(self.bytes.len() as u32);
    }

    fn bytes_of(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        };
        &self.bytes[start..self.ends[index] as usize]
    }

    fn get(&self, index: usize) -> &str {
        std::str::from_utf8(self.bytes_of(index)).expect("only texts are pushed")
    }
}

#[cfg(test)]
mod tests {
    use operators::entanglement::{EntanglementSettings, Terms};
    use operators::twin::TwinType;

    use super::*;

    fn twin() -> Twin {
        let definition = TwinType {
            name: "device".into(),
            model: Default::default(),
            clock: (&operators::shadowing::ClockSettings::default()).into(),
            functions: Default::default(),
            terms: Terms::compile(&EntanglementSettings::default(), &[]).expect("good"),
            sources: Vec::new(),
            streams: Vec::new(),
        };
        Twin::new(0, &definition)
    }

    #[test]
    fn twins_are_found_by_id_and_walked_in_order() {
        let mut bins = Bins::default();
        let ids: Vec<String> = (0..5_000).map(|number| format!("twin-{number}")).collect();
        for id in &ids {
            let hash = operators::id::hash(id.as_bytes());
            assert_eq!(bins.find(hash, id), None);
            bins.insert(hash, id, twin());
        }
        for id in &ids {
            let hash = operators::id::hash(id.as_bytes());
            let slot = bins.find(hash, id).expect("it was inserted");
            assert_eq!(bins.get(slot).map(|(id, _)| id), Some(id.as_str()));
        }
        let mut walked = 0;
        let mut from = Slot::FIRST;
        while let Some(slot) = bins.next(from) {
            walked += 1;
            from = slot.after();
        }
        assert_eq!(walked, ids.len());
    }

    #[test]
    fn two_ids_with_one_hash_are_two_twins() {
        let mut bins = Bins::default();
        let a = bins.insert(7, "a", twin());
        assert_eq!(bins.find(7, "b"), None);
        let b = bins.insert(7, "b", twin());
        assert_eq!((bins.find(7, "a"), bins.find(7, "b")), (Some(a), Some(b)));
    }
}
