//! Step 5, the digital event handler: what listeners and archive get of a twin.
//!
//! [`Envelope`] writes the JSON of rule 9, [`Rows`] fills the tables of rule 10. Where both go is
//! decided in the dataflow.

mod columns;
mod envelope;
mod rows;
mod tables;
mod topic;

pub use envelope::Envelope;
pub(crate) use envelope::{key_integer, write_text, write_value};
pub use rows::{ROWS_MAX, Rows, RowsSettings, Table, TableRows};
pub use topic::TopicTemplate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of digital event (rule 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DigitalKind {
    /// A new state.
    State,
    /// ODTE and its parts.
    Entanglement,
    /// A step in the twin's life.
    Lifecycle,
    /// Something happened.
    Event,
}

impl DigitalKind {
    /// All kinds.
    pub const ALL: [DigitalKind; 4] =
        [DigitalKind::State, DigitalKind::Entanglement, DigitalKind::Lifecycle, DigitalKind::Event];

    /// The word in topics and envelopes.
    pub fn word(self) -> &'static str {
        match self {
            DigitalKind::State => "state",
            DigitalKind::Entanglement => "entanglement",
            DigitalKind::Lifecycle => "lifecycle",
            DigitalKind::Event => "event",
        }
    }

    /// Whether a broker keeps the last one for late listeners, unless a job says otherwise: all
    /// that speak of how the twin is, not of what happened once.
    pub fn is_retained(self) -> bool {
        self != DigitalKind::Event
    }
}

#[cfg(test)]
mod tests;
