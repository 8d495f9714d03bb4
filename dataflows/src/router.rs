//! Which worker owns a twin: bin -> worker through a table, the same on every worker.
//!
//! Events travel in parcels, one a destination: a parcel is one record of the dataflow, its events
//! are packed, and the exchange has nothing to do but to deliver it.

use operators::batch::EventBatch;
use operators::id::{BINS, bin};
use serde::{Deserialize, Serialize};

/// Events on their way to one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// Number of the worker.
    pub to: u32,
    /// Number of the source that they are from.
    pub source: u16,
    /// The events.
    pub events: EventBatch,
}

/// The owner of each bin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinTable {
    owners: Vec<u32>,
}

impl BinTable {
    /// Bins dealt out evenly, the table that a run begins with.
    pub fn even(workers: usize) -> Self {
        Self { owners: (0..BINS).map(|bin| (bin * workers / BINS) as u32).collect() }
    }

    /// The worker that owns a bin.
    pub fn owner_of(&self, bin: u16) -> u32 {
        self.owners[usize::from(bin)]
    }

    /// The worker that owns the twin with this hash.
    pub fn owner(&self, hash: u64) -> u32 {
        self.owners[bin(hash)]
    }
}

/// Sorts events into parcels.
pub struct Router {
    table: BinTable,
    open: Vec<EventBatch>,
}

impl Router {
    /// A router for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { table: BinTable::even(workers), open: vec![EventBatch::default(); workers] }
    }

    /// The worker that owns the twin with this hash.
    pub fn owner(&self, hash: u64) -> u32 {
        self.table.owner(hash)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.open.len()
    }

    /// Whether all twins live on one worker, and sorting can be left out.
    pub fn is_trivial(&self) -> bool {
        self.open.len() == 1
    }

    /// Sorts `events` into parcels of source `source`, and leaves it empty.
    pub fn route(&mut self, source: u16, events: &mut EventBatch, mut give: impl FnMut(Parcel)) {
        if events.is_empty() {
            return;
        }
        if self.is_trivial() {
            let events = events.take();
            return give(Parcel { to: 0, source, events });
        }
        for event in events.events() {
            self.open[self.table.owner(event.head.hash) as usize].push(event);
        }
        events.clear();
        for (to, open) in self.open.iter_mut().enumerate() {
            if !open.is_empty() {
                let events = open.take();
                give(Parcel { to: to as u32, source, events });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_dealt_out_evenly() {
        for workers in [1, 2, 3, 4, 7, 8] {
            let table = BinTable::even(workers);
            let mut counts = vec![0; workers];
            table.owners.iter().for_each(|owner| counts[*owner as usize] += 1);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
        }
    }
}
