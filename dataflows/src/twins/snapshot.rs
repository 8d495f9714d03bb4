//! Writing twins into a checkpoint while they live on.
//!
//! ```text
//!   cut ─► twins that have changed are due ─► a bin at a time ─► block of records ─► recorder (thread)
//!                        '─► one that is about to change is written first, as it was at the cut
//! ```
//! So a checkpoint of a million twins stops nobody: what it costs is spread over many activations, and
//! what it says is the state of one instant.

use std::collections::BTreeMap;

use connectors::parts::push_record;
use connectors::queue::{Refused, Sender};
use operators::handler::NEVER_US;
use operators::twin::Twin;

use super::{SourceState, Twins};
use crate::bins::Slot;
use crate::checkpoint::PartMessage;

/// A checkpoint that is being written.
pub(super) struct Snapshot {
    /// Bins before this one are written.
    next_bin: usize,
    /// Twins that were about to change before the walk came to their bin.
    early: BTreeMap<usize, Block>,
    /// What the recorder had no room for yet.
    refused: Option<PartMessage>,
    recorder: Sender<PartMessage>,
    /// Bytes of the largest block so far: the next is begun with room for as much, as bins are alike.
    block_bytes: usize,
}

/// Records of one bin.
#[derive(Default)]
struct Block {
    count: u32,
    records: Vec<u8>,
}

impl Block {
    fn push(&mut self, id: &str, twin: &Twin) {
        push_record(&mut self.records, id, |records| twin.write(records));
        self.count += 1;
    }
}

impl Twins {
    /// A checkpoint cuts here: from now on twins that have changed are written to the recorder as they
    /// are at this instant. Losses of sources that came before it are finished first.
    pub fn cut(&mut self, recorder: Sender<PartMessage>) {
        self.finish_losses();
        self.bins.cut();
        let (next_bin, early, refused, block_bytes) = Default::default();
        self.snapshot = Some(Snapshot { next_bin, early, refused, recorder, block_bytes });
    }

    /// Whether the recorder may take more of the checkpoint that is being written.
    pub fn can_write(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.refused.is_none())
    }

    /// Whether a checkpoint is being written.
    pub fn is_writing(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Writes the next bin with twins that are due; ends the checkpoint's part after the last one. Never
    /// waits.
    pub fn write_bin(&mut self) {
        let message = self.next_message();
        let (Some(snapshot), Some(message)) = (&mut self.snapshot, message) else { return };
        let is_end = matches!(message, PartMessage::Written { .. });
        match snapshot.recorder.try_send(message) {
            Err(Refused::Full(message)) => snapshot.refused = Some(message),
            // A recorder that has ended has raised the alarm.
            Ok(()) | Err(Refused::Closed(_)) if is_end => self.snapshot = None,
            Ok(()) | Err(Refused::Closed(_)) => {}
        }
    }

    /// The same, and waits until the recorder has room.
    pub fn write_bin_waiting(&mut self) {
        let message = self.next_message();
        let (Some(snapshot), Some(message)) = (&mut self.snapshot, message) else { return };
        let is_end = matches!(message, PartMessage::Written { .. });
        // A recorder that has ended has raised the alarm.
        let has_ended = snapshot.recorder.send(message).is_err();
        if is_end || has_ended {
            self.snapshot = None;
        }
    }

    fn next_message(&mut self) -> Option<PartMessage> {
        let snapshot = self.snapshot.as_mut()?;
        let refused = snapshot.refused.take();
        let written = || PartMessage::Written {
            lost_us: self.sources.iter().map(|one| one.lost_us).collect(),
            twins: self.bins.len() as u64,
        };
        if refused.is_some() {
            return refused;
        }
        let due = self.bins.next_due(snapshot.next_bin);
        let early = snapshot.early.first_key_value().map(|(number, _)| *number);
        let Some(number) = [due, early].into_iter().flatten().min() else { return Some(written()) };
        let mut block = snapshot.early.remove(&number).unwrap_or_default();
        block.records.reserve(snapshot.block_bytes.saturating_sub(block.records.len()));
        self.bins.take_all_due(number, |id, twin| block.push(id, twin));
        snapshot.block_bytes = snapshot.block_bytes.max(block.records.len());
        snapshot.next_bin = number + 1;
        Some(PartMessage::Block { bin: number as u16, count: block.count, records: block.records })
    }

    /// To be called before a twin changes: the checkpoint that is being written gets it as it was, and
    /// the next one will get it as it will be.
    pub(super) fn will_change(&mut self, slot: Slot) {
        if let Some(snapshot) = &mut self.snapshot
            && self.bins.take_due(slot)
            && let Some((id, twin)) = self.bins.get(slot)
        {
            snapshot.early.entry(slot.bin()).or_default().push(id, twin);
        }
        self.bins.mark(slot);
    }

    /// Takes over a twin from a checkpoint, each once.
    pub fn restore(&mut self, id: &str, twin: Twin) {
        let hash = operators::id::hash(id.as_bytes());
        let (wake_us, waits) = (twin.handled.wake_us, !twin.waiting.is_empty());
        let slot = self.insert(hash, id, twin);
        if waits {
            self.resume_calls(slot);
        }
        if wake_us != NEVER_US {
            self.wheel.enter(wake_us, slot);
        }
    }

    /// Takes over when sources were lost, in the order of the job.
    pub fn restore_losses(&mut self, lost_us: impl Iterator<Item = Option<i64>>) {
        for (state, lost_us) in self.sources.iter_mut().zip(lost_us) {
            *state = SourceState { is_lost: false, lost_us };
        }
    }

    /// The next checkpoint has to write every twin: what earlier ones have of them is of another job.
    pub fn mark_all(&mut self) {
        self.bins.mark_all();
    }
}
