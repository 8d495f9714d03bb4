//! Where twins live: bins of twins, each with one owner.
//!
//! ```text
//!  hash of the id ── top 10 bits ──► bin ── table ──► worker          (router.rs)
//!                                     └── index ──► slot: id, record  (here)
//! ```
//!
//! A bin is the unit in which state is kept, restored and counted, so everything of a twin is in it and
//! nothing of it outside. Slots never leave their worker. A bin that has no twin costs eight bytes.
//!
//! A bin also knows which of its twins have changed since the last checkpoint (`dirty`), and which of
//! them the checkpoint that is being written still has to write (`due`): two bits a twin.

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
    dirty: Bits,
    due: Bits,
}

/// A bit for each twin of a bin, and how many are set.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    set: usize,
}

/// Records of a chunk: a little less than a page, which allocators hand out without a rest.
const CHUNK: usize = 4_096 / size_of::<Twin>();
/// Twins whose memory is fetched together when a bin is written.
const WARM: usize = 32;

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

    /// Notes that a twin changes.
    pub fn mark(&mut self, slot: Slot) {
        if let Some(bin) = self.bins[slot.bin()].as_deref_mut() {
            bin.dirty.set(slot.index());
        }
    }

    /// Notes that every twin changed.
    pub fn mark_all(&mut self) {
        for bin in self.bins.iter_mut().flatten() {
            (0..bin.len).for_each(|index| bin.dirty.set(index));
        }
    }

    /// A checkpoint cuts here: twins that have changed are due to be written. Answers how many.
    pub fn cut(&mut self) -> usize {
        let bins = self.bins.iter_mut().flatten();
        bins.map(|bin| {
            bin.due = std::mem::take(&mut bin.dirty);
            bin.due.set
        })
        .sum()
    }

    /// Whether a twin is due to be written; it is not any more.
    pub fn take_due(&mut self, slot: Slot) -> bool {
        self.bins[slot.bin()].as_deref_mut().is_some_and(|bin| bin.due.take(slot.index()))
    }

    /// The next bin from `from` on with twins that are due.
    pub fn next_due(&self, from: usize) -> Option<usize> {
        let is_due = |bin: &Option<Box<Bin>>| bin.as_ref().is_some_and(|bin| bin.due.set > 0);
        (from..self.bins.len()).find(|number| is_due(&self.bins[*number]))
    }

    /// Gives the twins of a bin that are due, with their ids; they are not any more.
    pub fn take_all_due(&mut self, number: usize, mut give: impl FnMut(&str, &Twin)) {
        let Some(bin) = self.bins[number].as_deref_mut() else { return };
        let due: Vec<Slot> =
            std::mem::take(&mut bin.due).ones().map(|index| Slot::new(number, index)).collect();
        for slots in due.chunks(WARM) {
            self.warm(slots.iter().copied());
            for (id, twin) in slots.iter().filter_map(|slot| self.get(*slot)) {
                give(id, twin);
            }
        }
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

    /// Number of its bin.
    pub fn bin(self) -> usize {
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

impl Bits {
    fn set(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (index % 64);
        self.set += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Whether a bit is set; it is not any more.
    fn take(&mut self, index: usize) -> bool {
        let bit = 1 << (index % 64);
        match self.words.get_mut(index / 64) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.set -= 1;
                true
            }
            _ => false,
        }
    }

    /// Numbers of the bits that are set, in their order.
    fn ones(&self) -> impl Iterator<Item = usize> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(number, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| number * 64 + bit)
        })
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
            presence: None,
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
    fn a_cut_gives_what_changed_once() {
        let mut bins = Bins::default();
        let insert = |bins: &mut Bins, id: &str| bins.insert(operators::id::hash(id.as_bytes()), id, twin());
        let slots: Vec<Slot> = (0..300).map(|n| insert(&mut bins, &format!("twin-{n}"))).collect();
        let due = |bins: &mut Bins| {
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some(number) = bins.next_due(from) {
                bins.take_all_due(number, |id, _| found.push(id.to_owned()));
                from = number + 1;
            }
            found.sort();
            found
        };
        assert_eq!((bins.cut(), due(&mut bins)), (0, vec![]));
        [7, 9, 7].iter().for_each(|n| bins.mark(slots[*n]));
        assert_eq!(bins.cut(), 2);
        // What changes after the cut is due at the next one.
        bins.mark(slots[8]);
        assert!(bins.take_due(slots[7]) && !bins.take_due(slots[7]) && !bins.take_due(slots[8]));
        assert_eq!(due(&mut bins), ["twin-9"]);
        assert_eq!((bins.cut(), due(&mut bins)), (1, vec!["twin-8".to_owned()]));
        bins.mark_all();
        assert_eq!((bins.cut(), due(&mut bins).len()), (300, 300));
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
