//! A question to the archive that goes the way of the rows, behind all of them: what is answered has every row that
//! was made before it was asked.
//!
//! ```text
//!   question ─► chain: rows so far, then the look ─► publish ─► archive writer ─► mailbox ─► chain ─► answer
//! ```

use std::fmt;
use std::sync::Arc;

use connectors::archive::{ArchiveHandle, Recent};

use crate::ask::PartOfReply;
use crate::checkpoint::Mailbox;

/// Numbers of questions, and what a worker answers.
pub(crate) type Looked = Mailbox<(u64, PartOfReply)>;

/// What an archive writer is asked.
#[derive(Clone)]
pub struct Look {
    /// Number of the question.
    pub(crate) number: u64,
    /// The table.
    pub(crate) table: String,
    /// The twin.
    pub(crate) twin: String,
    /// Where the answer goes.
    pub(crate) answers: Arc<Looked>,
}

impl Look {
    /// Asks the writer; where there is none, there is nothing to tell.
    pub(crate) fn ask(self, archive: Option<&Arc<ArchiveHandle>>) {
        let Self { number, table, twin, answers } = self;
        let answer = move |recent: Vec<Recent>| answers.put((number, PartOfReply::Recent(recent)));
        match archive {
            Some(archive) => archive.look(&table, &twin, move |recent| answer(vec![recent])),
            None => answer(Vec::new()),
        }
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, table, twin, .. } = self;
        let mut shown = formatter.debug_struct("Look");
        shown.field("number", number).field("table", table).field("twin", twin).finish_non_exhaustive()
    }
}
