//! Twins of the roster: there before they speak, on the worker that owns each (rule 5.1).
//!
//! ```text
//!   start: each worker enrols its own ─► Unbound, with its class
//!   the file has changed: a new roster in the port ─► news to all workers ─► each enrols what is new, in a walk,
//!                                                     and looks at the classes of all it has, in another
//! ```

use std::sync::{Arc, Mutex};

use operators::model::Model;
use operators::roster::{Facts, Roster, Row};
use operators::twin::{Twin, TwinType};
use operators::view::{Related, TwinView};
use tracing::warn;

use super::Twins;
use crate::bins::Slot;
use crate::router::BinTable;
use crate::run::lock;

/// The newest roster of a process.
pub(crate) type RosterPort = Arc<Mutex<Arc<Roster>>>;

/// What a worker knows of the roster.
pub(crate) struct Enrolment {
    port: RosterPort,
    roster: Arc<Roster>,
    table: BinTable,
    worker: u32,
}

impl Enrolment {
    /// That of a worker among so many, which has enrolled nobody yet.
    pub(crate) fn new(port: RosterPort, peers: usize, worker: usize) -> Self {
        let roster = lock(&port).clone();
        Self { port, roster, table: BinTable::even(peers), worker: worker as u32 }
    }

    /// Takes the newest roster.
    pub(super) fn renew(&mut self) {
        self.roster = lock(&self.port).clone();
    }

    fn owns(&self, row: Row<'_>) -> bool {
        self.table.owner(row.hash()) == self.worker
    }

    /// What the roster says of a twin.
    fn row(&self, id: &str) -> Option<Row<'_>> {
        self.roster.find(operators::id::hash(id.as_bytes()), id)
    }

    /// What the functions of a twin see of the roster; it is not looked for where none of them does.
    pub(super) fn facts(&self, id: &str, definition: &TwinType) -> Facts<'_> {
        Facts::of(definition.sees_facts().then(|| self.row(id)).flatten())
    }

    /// The attributes of a twin, as the roster writes them.
    pub(super) fn attributes(&self, id: &str, model: &Model) -> Vec<(String, String)> {
        let Some(row) = (!model.attributes.is_empty()).then(|| self.row(id)).flatten() else {
            return Vec::new();
        };
        let cell =
            |(place, (name, _)): (usize, &(String, _))| Some((name.clone(), row.cell(place)?.to_owned()));
        model.attributes.iter().enumerate().filter_map(cell).collect()
    }

    /// How many rows there are, of all workers.
    pub(super) fn len(&self) -> usize {
        self.roster.len()
    }
}

impl Twins {
    /// Whose twins the roster names.
    pub(crate) fn set_enrolment(&mut self, enrolment: Enrolment) {
        self.enrolment = enrolment;
    }

    /// Enrols all twins of the roster that the worker owns, and gives those that were restored their classes.
    pub(crate) fn enroll_all(&mut self) {
        let rows = self.enrolment.len();
        if rows == 0 {
            return;
        }
        self.enroll(0..rows);
        let mut next = Slot::FIRST;
        while let Some(slot) = self.bins.next(next) {
            self.classify(slot);
            next = slot.after();
        }
    }

    /// Enrols the twins of these rows, as far as the worker owns them and does not have them.
    pub(super) fn enroll(&mut self, rows: std::ops::Range<usize>) {
        let roster = self.enrolment.roster.clone();
        for row in rows.filter_map(|place| roster.row(place)) {
            if !self.enrolment.owns(row) {
                continue;
            }
            let Some(definition) = self.types.get(usize::from(row.twin_type())) else { continue };
            match self.bins.find(row.hash(), row.id()).and_then(|slot| self.bins.get(slot)) {
                Some((id, twin)) if twin.twin_type != row.twin_type() => {
                    let is = &self.types[usize::from(twin.twin_type)].name;
                    warn!(twin = id, is, roster = %definition.name, "the twin is of another type than in the roster");
                }
                Some(_) => {}
                None if self.bins.len() as u64 >= self.twins_max => {
                    warn!(twins_max = self.twins_max, "the roster has more twins than the worker may have");
                    return;
                }
                None => {
                    let mut twin = Twin::new(row.twin_type(), definition);
                    twin.class = row.class(&definition.terms);
                    self.insert(row.hash(), row.id(), twin);
                }
            }
        }
    }

    /// Has a twin go by the terms of its class; whether they are others than before.
    pub(super) fn classify(&mut self, slot: Slot) -> bool {
        let Some((id, twin)) = self.bins.get_mut(slot) else { return false };
        let row = self.enrolment.row(id);
        let terms = &self.types[usize::from(twin.twin_type)].terms;
        let class = row.filter(|row| row.twin_type() == twin.twin_type).map_or(0, |row| row.class(terms));
        let has_changed = twin.class != class;
        twin.class = class;
        if has_changed {
            self.rewake(slot);
        }
        has_changed
    }

    /// A twin that speaks for the first time, as the roster has it; none where it may not be there.
    pub(super) fn newcomer(&self, hash: u64, id: &str, twin_type: u16) -> Result<Twin, String> {
        let definition = &self.types[usize::from(twin_type)];
        let roster = &self.enrolment.roster;
        let mut twin = Twin::new(twin_type, definition);
        match roster.find(hash, id) {
            Some(row) if row.twin_type() == twin_type => twin.class = row.class(&definition.terms),
            Some(row) => {
                let known = self.types.get(usize::from(row.twin_type())).map_or("", |one| &one.name);
                return Err(format!("the roster says that the twin is of type `{known}`"));
            }
            None if roster.is_closed => {
                return Err("the roster does not have this twin, and has on_unknown: dead_letter".into());
            }
            None => {}
        }
        Ok(twin)
    }

    /// A view with what the roster says of its twin.
    pub(super) fn with_row(&self, mut view: TwinView, model: &Model) -> TwinView {
        if let Some(row) = self.enrolment.row(&view.summary.twin) {
            let known = Facts::of(Some(row));
            view.attributes = known.attributes(model).map(|(name, held)| (name.to_owned(), held)).collect();
            view.relationships.splice(..0, relationships(row, model));
        }
        view
    }
}

fn relationships(row: Row<'_>, model: &Model) -> Vec<Related> {
    let known = model.relationships.iter().enumerate().filter_map(|(place, one)| {
        let twin = row.cell(model.attributes.len() + place)?.to_owned();
        Some(Related { name: one.name.clone(), to: one.to.clone(), twin })
    });
    known.collect()
}
