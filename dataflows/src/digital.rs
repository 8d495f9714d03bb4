//! Step 5 in the dataflow: digital events become messages for listeners and rows for the archive,
//! collected until the worker has worked off what it was given.

use connectors::feed::Seen;
use connectors::message::{Entry, MessageBatch};
use operators::decode::DeadLetter;
use operators::digital::{DigitalKind, Envelope, Rows, TableRows};
use operators::handler::{DigitalEvents, Entangled, Happened, Lived, Of, Physical, State};

use crate::control::Boundary;
use crate::last_events::LastEvents;
use crate::look::Look;
use crate::plan::ListenerPlan;

/// What goes out of a worker.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Messages for the sink with this number.
    Messages(usize, MessageBatch),
    /// Rows for the archive.
    Rows(TableRows),
    /// A checkpoint cuts here: what went before belongs to it.
    Boundary(Boundary),
    /// The archive is asked what it has of what went before.
    Look(Look),
}

/// Bytes of messages for one sink after which a batch is handed on.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Collects the digital events of one worker.
pub struct Digital {
    envelope: Envelope,
    listeners: Vec<ListenerPlan>,
    /// What was wanted of each listener when an event was last told, and whether that is.
    seen: Vec<(Seen, bool)>,
    batches: Vec<MessageBatch>,
    /// Whether the messages of each sink have a key.
    are_keyed: Vec<bool>,
    rows: Option<Rows>,
    full: Vec<Delivery>,
    json: Vec<u8>,
    /// The last events of twins.
    pub last_events: LastEvents,
    /// Digital events by kind since they were last taken.
    pub counts: [u64; 4],
    /// Changes of the number of twins by phase since they were last taken.
    pub phases: [i64; 6],
}

impl Digital {
    /// Collects for these listeners, and the archive if there is one. `are_keyed` says of each sink whether its
    /// messages have a key.
    pub fn new(
        envelope: Envelope,
        listeners: Vec<ListenerPlan>,
        are_keyed: &[bool],
        rows: Option<Rows>,
    ) -> Self {
        Self {
            envelope,
            seen: vec![Default::default(); listeners.len()],
            listeners,
            batches: vec![MessageBatch::default(); are_keyed.len()],
            are_keyed: are_keyed.to_vec(),
            rows,
            full: Vec::new(),
            json: Vec::new(),
            last_events: LastEvents::default(),
            counts: [0; 4],
            phases: [0; 6],
        }
    }

    /// A checkpoint cuts here.
    pub fn boundary(&mut self, boundary: Boundary) {
        self.give_behind_all(Delivery::Boundary(boundary));
    }

    /// The archive is asked what it has.
    pub fn look(&mut self, look: Look) {
        self.give_behind_all(Delivery::Look(look));
    }

    fn give_behind_all(&mut self, delivery: Delivery) {
        let mut before = Vec::new();
        self.take(true, |delivery| before.push(delivery));
        before.push(delivery);
        self.full = before;
    }

    /// The version of the job's definition that is in force from now on.
    pub fn set_definition(&mut self, version: u64) {
        self.envelope.set_definition(version);
        if let Some(rows) = &mut self.rows {
            rows.set_definition(version);
        }
    }

    /// A row of `dead_letters`.
    pub fn dead_letter(&mut self, letter: &DeadLetter) {
        if let Some(rows) = &mut self.rows {
            rows.dead_letter(letter);
        }
    }

    /// Takes what is ready: all messages, and the rows of full batches, or all of them when
    /// `all_rows`.
    pub fn take(&mut self, all_rows: bool, mut give: impl FnMut(Delivery)) {
        self.full.drain(..).for_each(&mut give);
        for (sink, batch) in self.batches.iter_mut().enumerate() {
            if !batch.is_empty() {
                give(Delivery::Messages(sink, take_batch(batch)));
            }
        }
        if let Some(rows) = &mut self.rows {
            if all_rows {
                rows.flush();
            }
            rows.full().drain(..).for_each(|rows| give(Delivery::Rows(rows)));
        }
    }

    /// Whether rows wait for their batch to be full.
    pub fn has_waiting_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.waiting() > 0)
    }

    /// Counts an event, and gives it to its listeners; it is encoded once, if at all.
    fn tell(&mut self, of: Of<'_>, kind: DigitalKind, encode: impl FnOnce(&mut Envelope, &mut Vec<u8>)) {
        self.counts[kind as usize] += 1;
        let mut is_wanted = false;
        for (listener, (seen, wants)) in self.listeners.iter().zip(&mut self.seen) {
            *wants = listener.wants(kind, of.id, seen);
            is_wanted |= *wants;
        }
        if !is_wanted {
            return;
        }
        self.json.clear();
        encode(&mut self.envelope, &mut self.json);
        for (listener, _) in self.listeners.iter().zip(&self.seen).filter(|(_, (_, wants))| *wants) {
            let batch = &mut self.batches[listener.sink];
            if batch.bytes.len() > BATCH_BYTES_MAX {
                self.full.push(Delivery::Messages(listener.sink, take_batch(batch)));
            }
            listener.topic.write(of.id, &of.definition.name, kind, &mut batch.bytes);
            let topic_end = batch.bytes.len() as u32;
            if self.are_keyed[listener.sink] {
                batch.bytes.extend_from_slice(of.id.as_bytes());
            }
            let key_end = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(&self.json);
            let payload_end = batch.bytes.len() as u32;
            let (retain, revision) = (listener.retains(kind), of.twin.handled.revision);
            batch.entries.push(Entry { topic_end, key_end, payload_end, retain, revision });
        }
    }
}

/// Takes a batch out; what is left has room for as much again, as the next is often alike.
fn take_batch(batch: &mut MessageBatch) -> MessageBatch {
    let room = MessageBatch {
        bytes: Vec::with_capacity(batch.bytes.len()),
        entries: Vec::with_capacity(batch.entries.len()),
        ..MessageBatch::default()
    };
    std::mem::replace(batch, room)
}

impl DigitalEvents for Digital {
    fn physical(&mut self, of: Of<'_>, physical: &Physical<'_>) {
        if let Some(rows) = &mut self.rows {
            rows.physical(of, physical);
        }
    }

    fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        if let Some(rows) = &mut self.rows {
            rows.state(of, state);
        }
        self.tell(of, DigitalKind::State, |envelope, out| envelope.state(of, state, out));
    }

    fn entangled(&mut self, of: Of<'_>, entangled: &Entangled) {
        if let Some(rows) = &mut self.rows {
            rows.entangled(of, entangled);
        }
        self.tell(of, DigitalKind::Entanglement, |envelope, out| {
            envelope.entangled(of, entangled, out);
        });
    }

    fn lived(&mut self, of: Of<'_>, lived: &Lived) {
        self.phases[lived.transition.from as usize] -= 1;
        self.phases[lived.transition.to as usize] += 1;
        if let Some(rows) = &mut self.rows {
            rows.lived(of, lived);
        }
        self.tell(of, DigitalKind::Lifecycle, |envelope, out| envelope.lived(of, lived, out));
    }

    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        if let Some(rows) = &mut self.rows {
            rows.happened(of, happened);
        }
        self.last_events.add(of, happened);
        self.tell(of, DigitalKind::Event, |envelope, out| envelope.happened(of, happened, out));
    }
}
