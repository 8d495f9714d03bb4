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

/// Where a twin stands on its worker: its bin (10 bits) and its place in the bin (22 bits), in four
/// bytes, as timers keep several of them a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

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
    /// Records in chunks of [`CHUNK`], so that a bin grows without moving what it has.
    chunks: Vec<Vec<Twin>>,
    len: usize,
}

/// Records of a chunk: a little less than a page, which allocators hand out without a rest.
const CHUNK: usize = 4_096 / size_of::<Twin>();

/// Ids, packed: 4 bytes a twin and the id itself.
#[derive(Default)]
struct Ids {
    text: String,
    /// Where each id ends in `text`.
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
        let same = |index: &u32| bin.ids.get(*index as usize) == id;
        let index = *bin.index.find(within(hash), same)?;
        Some(Slot::new(number, index as usize))
    }

    /// The slot that most likely holds the twin with this hash, without a look at its id: what to
    /// [`Bins::warm`] before it is found.
    pub fn guess(&self, hash: u64) -> Option<Slot> {
        let number = operators::id::bin(hash);
        let bin = self.bins[number].as_deref()?;
        let index = *bin.index.iter_hash(within(hash)).next()?;
        Some(Slot::new(number, index as usize))
    }

    /// Reads what will be needed of these twins into the cache: first their records, then what the
    /// records point to. The reads of one pass do not wait for each other, as those of one update
    /// after the other would.
    pub fn warm(&self, slots: impl Iterator<Item = Slot> + Clone) {
        for slot in slots.clone() {
            let Some(bin) = self.bins[slot.bin()].as_deref() else { continue };
            let twin = bin.twin(slot.index());
            let words =
                twin.map(|twin| (twin.handled.wake_us, twin.shadow.update(), twin.life_cycle.heard_us()));
            std::hint::black_box((words, bin.ids.ends.get(slot.index()).copied()));
        }
        for slot in slots {
            let Some(bin) = self.bins[slot.bin()].as_deref() else { continue };
            let id = bin.ids.text.as_bytes().get(bin.ids.range(slot.index()).start).copied();
            std::hint::black_box((id, bin.twin(slot.index()).map(Twin::warm)));
        }
    }

    /// Adds a twin that [`Bins::find`] did not find.
    pub fn insert(&mut self, hash: u64, id: &str, twin: Twin) -> Slot {
        let number = operators::id::bin(hash);
        let bin = self.bins[number].get_or_insert_with(Default::default);
        let index = bin.len as u32;
        bin.ids.push(id);
        bin.push(twin);
        let ids = &bin.ids;
        let hash_of = |index: &u32| within(operators::id::hash(ids.get(*index as usize).as_bytes()));
        bin.index.insert_unique(within(hash), index, hash_of);
        self.twins += 1;
        Slot::new(number, index as usize)
    }

    /// The twin in a slot, and its id.
    pub fn get_mut(&mut self, slot: Slot) -> Option<(&str, &mut Twin)> {
        let bin = self.bins[slot.bin()].as_deref_mut()?;
        let index = slot.index();
        let twin = bin.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?;
        Some((bin.ids.get(index), twin))
    }

    /// The twin in a slot, and its id.
    pub fn get(&self, slot: Slot) -> Option<(&str, &Twin)> {
        let bin = self.bins[slot.bin()].as_deref()?;
        let index = slot.index();
        Some((bin.ids.get(index), bin.twin(index)?))
    }

    /// The first slot at or after `from`, in the order of bins and places.
    pub fn next(&self, from: Slot) -> Option<Slot> {
        let len = |bin: &Option<Box<Bin>>| bin.as_ref().map_or(0, |bin| bin.len);
        if from.index() < len(&self.bins[from.bin()]) {
            return Some(from);
        }
        let mut later = self.bins.iter().enumerate().skip(from.bin() + 1);
        let (bin, _) = later.find(|(_, bin)| len(bin) > 0)?;
        Some(Slot::new(bin, 0))
    }
}

impl Slot {
    /// Before all slots.
    pub const FIRST: Slot = Slot(0);
    const INDEX_BITS: u32 = u32::BITS - BINS.trailing_zeros();

    fn new(bin: usize, index: usize) -> Self {
        Self((bin as u32) << Self::INDEX_BITS | index as u32)
    }

    fn bin(self) -> usize {
        (self.0 >> Self::INDEX_BITS) as usize
    }

    fn index(self) -> usize {
        (self.0 & ((1 << Self::INDEX_BITS) - 1)) as usize
    }

    /// The place after this one.
    #[must_use]
    pub fn after(self) -> Self {
        Self(self.0 + 1)
    }

    /// A slot of the first bin, for tests of what only carries slots.
    #[cfg(test)]
    pub(crate) fn of_index(index: usize) -> Self {
        Self::new(0, index)
    }
}

/// The hash inside a bin. The table tells its entries apart by the top bits, which all twins of a
/// bin share, so those are put last.
fn within(hash: u64) -> u64 {
    hash.rotate_left(BINS.trailing_zeros())
}

impl Bin {
    fn push(&mut self, twin: Twin) {
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk grows as it is filled: most bins of a small fleet hold one twin.
            let room = if self.len == 0 { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(twin);
        }
        self.len += 1;
    }

    fn twin(&self, index: usize) -> Option<&Twin> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }
}

impl Ids {
    fn push(&mut self, id: &str) {
        // Doubling would leave a third of it unused.
        if self.text.capacity() - self.text.len() < id.len() {
            self.text.reserve_exact(id.len() * 4 + self.text.len() / 4);
        }
        self.text.push_str(id);
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(4 + self.ends.len() / 4);
        }
        self.ends.push(self.text.len() as u32);
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start as usize..self.ends[index] as usize
    }

    fn get(&self, index: usize) -> &str {
        &self.text[self.range(index)]
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
