//! The roster: twins that are there before they speak (rule 5.1), with the static facts that their devices never
//! tell: attributes, and who they belong to.
//!
//! ```text
//!  rows of a file ─► RosterBuilder ─► Roster: one text, 24 bytes a twin and 8 a cell; found by hash
//!                                       │
//!                      enrolled, Unbound, on the worker that owns each ─► its class: which terms are its own
//! ```

use crate::entanglement::Terms;
use crate::id;
use crate::model::Model;
use crate::view::Held;

/// Twins with their attributes and relationships.
#[derive(Debug, Default)]
pub struct Roster {
    text: String,
    /// In the order of hash and id.
    entries: Vec<Entry>,
    cells: Vec<Cell>,
    /// Twins that it does not name are not taken.
    pub is_closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    id: Cell,
    /// Its first cell.
    cells: u32,
    twin_type: u16,
    /// How many cells.
    count: u16,
    /// Row in the file, from 1.
    row: u32,
}

/// A part of the text; an empty one is no value.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    start: u32,
    length: u32,
}

/// One twin of a roster.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    roster: &'a Roster,
    entry: &'a Entry,
}

/// What the roster says of a twin, as its functions see it (rule 6.1); nothing of one that it does not name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a>(Option<Row<'a>>);

/// Why rows make no roster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// An id is none.
    #[error("row {row}: {reason}")]
    Id {
        /// The row, from 1.
        row: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// Two rows are of one twin.
    #[error("rows {first} and {second} are both of the twin `{id}`")]
    Doubled {
        /// The twin.
        id: String,
        /// The earlier row.
        first: u32,
        /// The later one.
        second: u32,
    },
    /// It is longer than 32 bits can count.
    #[error("the roster has more than 4 GB of text")]
    TooLong,
}

/// Puts a roster together.
#[derive(Debug, Default)]
pub struct RosterBuilder(Roster);

impl RosterBuilder {
    /// Adds the twin of a row; its cells are the type's attributes, then its relationships.
    pub fn add<'c>(
        &mut self,
        row: u32,
        id: &str,
        twin_type: u16,
        cells: impl Iterator<Item = &'c str>,
    ) -> Result<(), RosterError> {
        id::check(id).map_err(|error| RosterError::Id { row, reason: error.to_string() })?;
        let roster = &mut self.0;
        let first = roster.cells.len();
        let hash = id::hash(id.as_bytes());
        let id = roster.push(id)?;
        for cell in cells {
            let cell = roster.push(cell)?;
            roster.cells.push(cell);
        }
        let count = (roster.cells.len() - first) as u16;
        roster.entries.push(Entry { hash, id, cells: first as u32, twin_type, count, row });
        Ok(())
    }

    /// The roster; a closed one takes no other twins.
    pub fn finish(self, is_closed: bool) -> Result<Roster, RosterError> {
        let Roster { text, mut entries, cells, .. } = self.0;
        let id = |entry: &Entry| entry.id.of(&text);
        entries.sort_unstable_by(|a, b| (a.hash, id(a), a.row).cmp(&(b.hash, id(b), b.row)));
        let doubled = entries.windows(2).filter(|pair| id(&pair[0]) == id(&pair[1]));
        // The first in the file, so that the message is the same each time.
        if let Some(pair) = doubled.min_by_key(|pair| pair[1].row) {
            let id = id(&pair[0]).to_owned();
            return Err(RosterError::Doubled { id, first: pair[0].row, second: pair[1].row });
        }
        Ok(Roster { text, entries, cells, is_closed })
    }
}

impl Roster {
    /// How many twins.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The twin at a place, in the order of hashes.
    pub fn row(&self, place: usize) -> Option<Row<'_>> {
        self.entries.get(place).map(|entry| Row { roster: self, entry })
    }

    /// The twin with this id.
    pub fn find(&self, hash: u64, id: &str) -> Option<Row<'_>> {
        let key = |entry: &Entry| (entry.hash, entry.id.of(&self.text));
        let found = self.entries.binary_search_by(|entry| key(entry).cmp(&(hash, id)));
        self.row(found.ok()?)
    }

    fn push(&mut self, text: &str) -> Result<Cell, RosterError> {
        let start = u32::try_from(self.text.len()).map_err(|_| RosterError::TooLong)?;
        self.text.push_str(text);
        u32::try_from(self.text.len()).map_err(|_| RosterError::TooLong)?;
        Ok(Cell { start, length: text.len() as u32 })
    }
}

impl Cell {
    fn of(self, text: &str) -> &str {
        &text[self.start as usize..][..self.length as usize]
    }
}

impl<'a> Row<'a> {
    /// Hash of the id.
    pub fn hash(self) -> u64 {
        self.entry.hash
    }

    /// The twin's id.
    pub fn id(self) -> &'a str {
        self.entry.id.of(&self.roster.text)
    }

    /// Number of its type.
    pub fn twin_type(self) -> u16 {
        self.entry.twin_type
    }

    /// The text of a cell; none where the row has no value there.
    pub fn cell(self, place: usize) -> Option<&'a str> {
        let place = (place < usize::from(self.entry.count)).then_some(self.entry.cells as usize + place)?;
        Some(self.roster.cells[place].of(&self.roster.text)).filter(|text| !text.is_empty())
    }

    /// Which of the overrides of its type's terms are its own, from 1; 0 where none is.
    pub fn class(self, terms: &Terms) -> u8 {
        let holds = |place: u16, value: &str| self.cell(usize::from(place)) == Some(value);
        let is_of = |one: &crate::entanglement::Override| {
            one.conditions.iter().all(|(place, value)| holds(*place, value))
        };
        terms.overrides.iter().position(is_of).map_or(0, |place| place as u8 + 1)
    }
}

impl<'a> Facts<'a> {
    /// What a row says.
    pub fn of(row: Option<Row<'a>>) -> Self {
        Self(row)
    }

    /// The attribute at a place of the model; none where the row has no value there.
    pub fn attribute(self, model: &Model, place: usize) -> Option<Held> {
        let (_, kind) = model.attributes.get(place)?;
        Some(Held::read(*kind, self.0?.cell(place)?))
    }

    /// The attributes that have a value, by their names.
    pub fn attributes(self, model: &Model) -> impl Iterator<Item = (&str, Held)> {
        let names = model.attributes.iter().map(|(name, _)| name.as_str());
        names.enumerate().filter_map(move |(place, name)| Some((name, self.attribute(model, place)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(rows: &[(&str, &[&str])]) -> Result<Roster, RosterError> {
        let mut builder = RosterBuilder::default();
        for (row, (id, cells)) in (2u32..).zip(rows) {
            builder.add(row, id, row as u16 % 2, cells.iter().copied())?;
        }
        builder.finish(false)
    }

    #[test]
    fn twins_are_found_with_their_cells() {
        let roster = roster(&[("p-1", &["servo", "", "line-1"]), ("p-2", &[]), ("p-3", &["hydraulic"])]);
        let roster = roster.expect("it is good");
        let found = |id: &str| {
            let row = roster.find(id::hash(id.as_bytes()), id)?;
            Some((row.id(), row.twin_type(), [0, 1, 2].map(|place| row.cell(place))))
        };
        assert_eq!(found("p-1"), Some(("p-1", 0, [Some("servo"), None, Some("line-1")])));
        assert_eq!(found("p-2"), Some(("p-2", 1, [None, None, None])));
        assert_eq!(found("p-3"), Some(("p-3", 0, [Some("hydraulic"), None, None])));
        assert_eq!(found("p-4"), None);
        let all: Vec<_> = (0..roster.len()).filter_map(|place| roster.row(place)).map(Row::id).collect();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn bad_rows_are_named() {
        let error = |rows| roster(rows).expect_err("it is bad").to_string();
        assert_eq!(error(&[("a", &[]), ("b", &[]), ("a", &[])]), "rows 2 and 4 are both of the twin `a`");
        assert!(error(&[("a", &[]), ("", &[])]).starts_with("row 3: "));
    }
}
