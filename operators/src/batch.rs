//! Physical events between step 1 and step 2: packed, so that a thousand of them are three
//! allocations and cross a socket in three pieces.
//!
//! ```text
//!  heads  [ twin, times, position, stream | cells 0..2 ][ ... | cells 2..3 ] ...
//!  cells  [ temperature 24.28 ][ energy 4.67 ][ mode 1 ] ...
//!  text   p-0417p-0418"text of a string property"{"json":"of an object"} ...
//! ```

use serde::{Deserialize, Serialize};

use crate::model::{Kind, Value};
use crate::time::{ArrivalTime, DeviceTime};
use crate::waiting::{Sizes, WaitingChange};

/// What an event says of its device time (rule 3.3, before it is judged).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimedTime {
    /// The message carried it.
    Device,
    /// The job asked for `at: arrival`.
    Arrival,
}

/// One normalised physical event; its values and texts stand in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Hash of the twin's id.
    pub hash: u64,
    /// Position in its source.
    pub position: u64,
    /// Time that the physical twin claims.
    pub physical_at: DeviceTime,
    /// Time at which the engine took the message.
    pub arrived_at: ArrivalTime,
    id_start: u32,
    cell_start: u32,
    id_len: u16,
    cell_len: u16,
    /// Which element of its message this is; orders the events of one position.
    pub element: u32,
    /// Number of the type in the job.
    pub twin_type: u16,
    /// Number of the stream in the type.
    pub stream: u16,
    /// Where `physical_at` is from.
    pub claimed: ClaimedTime,
    /// A live measurement. Retained messages and backfill are not (rule 3.6).
    pub live: bool,
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum CellKind {
    Double,
    Integer,
    Boolean,
    Enum,
    Text,
    Json,
    /// The value of an event, as JSON; the index is the event's.
    Event,
    /// The physical twin is up, or down: all that the event says (rule 4.3).
    Presence,
}

/// One value of an event: 16 bytes, texts stand in the batch's text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    bits: u64,
    index: u16,
    kind: CellKind,
}

/// Many physical events, packed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    heads: Vec<Head>,
    cells: Vec<Cell>,
    text: String,
}

/// One physical event, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Numbers and times.
    pub head: &'a Head,
    /// The twin's id.
    pub id: &'a str,
    cells: &'a [Cell],
    text: &'a str,
}

/// The parts of an event's head that step 1 knows; where its values stand is added by the batch.
#[derive(Clone, Copy, Debug)]
pub struct HeadParts {
    /// Position in its source.
    pub position: u64,
    /// Which element of its message this is.
    pub element: u32,
    /// Time that the physical twin claims.
    pub physical_at: DeviceTime,
    /// Where that is from.
    pub claimed: ClaimedTime,
    /// Time at which the engine took the message.
    pub arrived_at: ArrivalTime,
    /// Number of the type in the job.
    pub twin_type: u16,
    /// Number of the stream in the type.
    pub stream: u16,
    /// A live measurement.
    pub live: bool,
}

impl From<&Head> for HeadParts {
    fn from(head: &Head) -> Self {
        Self {
            position: head.position,
            element: head.element,
            physical_at: head.physical_at,
            claimed: head.claimed,
            arrived_at: head.arrived_at,
            twin_type: head.twin_type,
            stream: head.stream,
            live: head.live,
        }
    }
}

/// Where an event that is being written began, so that it can be taken back whole.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    cells: usize,
    text: usize,
}

impl EventBatch {
    /// How many events.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes that it holds, as a measure of what is in flight.
    pub fn weight(&self) -> usize {
        self.heads.len() * size_of::<Head>() + self.cells.len() * size_of::<Cell>() + self.text.len()
    }

    /// An empty batch with room for as much as this one holds.
    pub fn like(&self) -> Self {
        Self {
            heads: Vec::with_capacity(self.heads.len()),
            cells: Vec::with_capacity(self.cells.len()),
            text: String::with_capacity(self.text.len()),
        }
    }

    /// Takes the events out; what is left has room for as many again.
    pub fn take(&mut self) -> Self {
        let room = self.like();
        std::mem::replace(self, room)
    }

    /// Forgets all events, keeps the memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.cells.clear();
        self.text.clear();
    }

    /// The heads alone, for a pass that looks twins up before their events are read.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The id of an event's twin.
    pub fn id(&self, index: usize) -> &str {
        self.event(index).id
    }

    /// The event at `index`, in the order of [`EventBatch::finish`].
    pub fn event(&self, index: usize) -> Event<'_> {
        let head = &self.heads[index];
        let id = part(&self.text, head.id_start, u32::from(head.id_len));
        let start = head.cell_start as usize;
        Event { head, id, cells: &self.cells[start..start + usize::from(head.cell_len)], text: &self.text }
    }

    /// All events in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.len()).map(|index| self.event(index))
    }

    /// Begins an event: values are pushed, then it is finished or taken back.
    pub fn begin(&self) -> Mark {
        Mark { cells: self.cells.len(), text: self.text.len() }
    }

    /// Takes back what was pushed since `mark`.
    pub fn take_back(&mut self, mark: Mark) {
        self.cells.truncate(mark.cells);
        self.text.truncate(mark.text);
    }

    /// How many values were pushed since `mark`.
    pub fn pushed(&self, mark: Mark) -> usize {
        self.cells.len() - mark.cells
    }

    /// Adds the value of a property; a second one for the same property replaces the first, as a
    /// JSON key that stands twice means its last value.
    pub fn push_property(&mut self, mark: Mark, property: u16, value: Value<'_>) {
        let (kind, bits) = match value {
            Value::Double(number) => (CellKind::Double, number.to_bits()),
            Value::Integer(number) => (CellKind::Integer, number as u64),
            Value::Boolean(flag) => (CellKind::Boolean, u64::from(flag)),
            Value::Enum(word) => (CellKind::Enum, u64::from(word)),
            Value::Text(text) => (CellKind::Text, self.push_text(text)),
            Value::Json(text) => (CellKind::Json, self.push_text(text)),
        };
        self.push_cell(mark, Cell { bits, index: property, kind });
    }

    /// Adds an event of the physical twin, its value as JSON.
    pub fn push_event(&mut self, mark: Mark, event: u16, json: &str) {
        let bits = self.push_text(json);
        self.push_cell(mark, Cell { bits, index: event, kind: CellKind::Event });
    }

    /// Makes the event one that says that the physical twin is up or down, and nothing else.
    pub fn push_presence(&mut self, mark: Mark, is_up: bool) {
        self.push_cell(mark, Cell { bits: u64::from(is_up), index: 0, kind: CellKind::Presence });
    }

    /// Ends an event: from here on it is part of the batch.
    pub fn finish(&mut self, mark: Mark, id: &str, parts: HeadParts) {
        let id_start = self.text.len() as u32;
        self.text.push_str(id);
        self.heads.push(Head {
            hash: crate::id::hash(id.as_bytes()),
            position: parts.position,
            physical_at: parts.physical_at,
            arrived_at: parts.arrived_at,
            id_start,
            cell_start: mark.cells as u32,
            id_len: id.len() as u16,
            cell_len: self.pushed(mark) as u16,
            element: parts.element,
            twin_type: parts.twin_type,
            stream: parts.stream,
            claimed: parts.claimed,
            live: parts.live,
        });
    }

    /// Copies an event of another batch to the end of this one.
    pub fn push(&mut self, event: Event<'_>) {
        let cell_start = self.cells.len() as u32;
        for cell in event.cells {
            let mut cell = *cell;
            if cell.kind.is_text() {
                cell.bits = self.push_text(cell.text(event.text));
            }
            self.cells.push(cell);
        }
        let id_start = self.text.len() as u32;
        self.text.push_str(event.id);
        let cell_len = event.cells.len() as u16;
        self.heads.push(Head { id_start, cell_start, cell_len, ..*event.head });
    }

    /// Whether it holds one event that names only what there is, in texts that there are.
    pub(crate) fn is_sound(&self, sizes: Sizes) -> bool {
        let [head] = &self.heads[..] else { return false };
        let (start, len) = (head.cell_start as usize, usize::from(head.cell_len));
        let is_known = |cell: &Cell| match cell.kind {
            CellKind::Event => usize::from(cell.index) < sizes.events,
            CellKind::Presence => true,
            _ => usize::from(cell.index) < sizes.properties,
        };
        usize::from(head.stream) < sizes.streams
            && start.checked_add(len).is_some_and(|end| end <= self.cells.len())
            && self.cells.iter().all(is_known)
    }

    /// The same events under another model: what is no longer there is left out.
    pub(crate) fn adapt(&self, change: &WaitingChange) -> Self {
        let mut adapted = Self::default();
        for event in self.events() {
            let mark = adapted.begin();
            for cell in event.cells {
                let mut cell = *cell;
                let (index, words) = match cell.kind {
                    CellKind::Event => (known(&change.events, cell.index), &None),
                    CellKind::Presence => (Some(0), &None),
                    _ => match change.properties.get(usize::from(cell.index)) {
                        Some(Some(now)) => (Some(now.number), &now.words),
                        _ => (None, &None),
                    },
                };
                let Some(index) = index else { continue };
                cell.index = index;
                if let Some(words) = words {
                    let Some(word) = known(words, cell.bits as u16) else { continue };
                    cell.bits = u64::from(word);
                }
                if cell.kind.is_text() {
                    cell.bits = adapted.push_text(cell.text(event.text));
                }
                adapted.cells.push(cell);
            }
            let stream = known(&change.streams, event.head.stream);
            let id_start = adapted.text.len() as u32;
            adapted.text.push_str(event.id);
            adapted.heads.push(Head {
                id_start,
                cell_start: mark.cells as u32,
                cell_len: adapted.pushed(mark) as u16,
                twin_type: change.twin_type,
                // What a removed stream has sent is taken, and is no observation any more.
                stream: stream.unwrap_or(0),
                live: event.head.live && stream.is_some(),
                ..*event.head
            });
        }
        adapted
    }

    fn push_cell(&mut self, mark: Mark, cell: Cell) {
        let group = |cell: &Cell| (cell.kind == CellKind::Event, cell.kind == CellKind::Presence, cell.index);
        let same = self.cells[mark.cells..].iter_mut().find(|other| group(other) == group(&cell));
        match same {
            Some(other) => *other = cell,
            None => self.cells.push(cell),
        }
    }

    /// Appends a text; the cell's bits say where it stands.
    fn push_text(&mut self, text: &str) -> u64 {
        let start = self.text.len() as u64;
        self.text.push_str(text);
        start << 32 | text.len() as u64
    }
}

impl<'a> Event<'a> {
    /// Property numbers and values that the event carries.
    pub fn properties(&self) -> impl Iterator<Item = (u16, Value<'a>)> + use<'a> {
        let text = self.text;
        self.cells.iter().filter_map(move |cell| Some((cell.index, cell.value(text)?)))
    }

    /// Event numbers and values (JSON) that the event carries.
    pub fn events(&self) -> impl Iterator<Item = (u16, &'a str)> + use<'a> {
        let text = self.text;
        let events = self.cells.iter().filter(|cell| cell.kind == CellKind::Event);
        events.map(move |cell| (cell.index, cell.text(text)))
    }
}

impl<'a> Event<'a> {
    /// What the event says of whether the physical twin is up, where it is such an event.
    pub fn presence(&self) -> Option<bool> {
        let [cell] = self.cells else { return None };
        (cell.kind == CellKind::Presence).then_some(cell.bits != 0)
    }

    /// The same event without its values.
    pub(crate) fn without_values(self) -> Self {
        Self { cells: &[], ..self }
    }
}

/// What a number is now.
fn known(numbers: &[Option<u16>], number: u16) -> Option<u16> {
    numbers.get(usize::from(number)).copied().flatten()
}

impl CellKind {
    fn is_text(self) -> bool {
        matches!(self, CellKind::Text | CellKind::Json | CellKind::Event)
    }
}

impl Cell {
    fn value<'a>(&self, text: &'a str) -> Option<Value<'a>> {
        Some(match self.kind {
            CellKind::Double => Value::Double(f64::from_bits(self.bits)),
            CellKind::Integer => Value::Integer(self.bits as i64),
            CellKind::Boolean => Value::Boolean(self.bits != 0),
            CellKind::Enum => Value::Enum(self.bits as u16),
            CellKind::Text => Value::Text(self.text(text)),
            CellKind::Json => Value::Json(self.text(text)),
            CellKind::Event | CellKind::Presence => return None,
        })
    }

    fn text<'a>(&self, text: &'a str) -> &'a str {
        part(text, (self.bits >> 32) as u32, self.bits as u32)
    }
}

/// A part of the batch's text. Checked, as a batch may come from another process; one that is
/// damaged reads as empty rather than taking the engine down.
fn part(text: &str, start: u32, len: u32) -> &str {
    text.get(start as usize..start as usize + len as usize).unwrap_or("")
}

/// Whether a value is of the kind that a property has; what a decoder must make sure of.
pub fn fits(kind: &Kind, value: Value<'_>) -> bool {
    match (kind, value) {
        (Kind::Double, Value::Double(_))
        | (Kind::Integer, Value::Integer(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::String, Value::Text(_))
        | (Kind::Array { .. } | Kind::Object, Value::Json(_)) => true,
        (Kind::Enum(words), Value::Enum(word)) => usize::from(word) < words.len(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: HeadParts = HeadParts {
        position: 7,
        element: 0,
        physical_at: DeviceTime(1),
        claimed: ClaimedTime::Device,
        arrived_at: ArrivalTime(2),
        twin_type: 0,
        stream: 0,
        live: true,
    };

    #[test]
    fn what_is_pushed_is_read_back() {
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        batch.push_property(mark, 0, Value::Double(24.28));
        batch.push_property(mark, 1, Value::Text("idle"));
        batch.push_property(mark, 0, Value::Double(25.0));
        batch.push_event(mark, 0, "{\"open\":true}");
        batch.finish(mark, "p-1", PARTS);

        let taken_back = batch.begin();
        batch.push_property(taken_back, 0, Value::Text("no number"));
        batch.take_back(taken_back);

        let mark = batch.begin();
        batch.push_property(mark, 2, Value::Integer(-1));
        batch.finish(mark, "p-2", PARTS);

        let mut copy = EventBatch::default();
        for event in batch.events() {
            copy.push(event);
        }
        for batch in [&batch, &copy] {
            assert_eq!(batch.len(), 2);
            let event = batch.event(0);
            assert_eq!(event.id, "p-1");
            assert_eq!(event.head.hash, crate::id::hash(b"p-1"));
            let properties: Vec<_> = event.properties().collect();
            assert_eq!(properties, [(0, Value::Double(25.0)), (1, Value::Text("idle"))]);
            assert_eq!(event.events().collect::<Vec<_>>(), [(0, "{\"open\":true}")]);
            let properties: Vec<_> = batch.event(1).properties().collect();
            assert_eq!(properties, [(2, Value::Integer(-1))]);
        }
    }
}
