//! Questions about the twins of a running job, answered by the workers that own them.
//!
//! ```text
//!  Asker ── command ──► first worker ── control ──► owner of the twin, or all workers
//!    ▲                                                   │ at once, or in a walk over its twins
//!    └── reply, once all have answered ◄── worker 0 ◄────┘
//! ```

mod asker;
mod collecting;

pub use asker::{Asker, Replies};
pub(crate) use collecting::Collecting;

use connectors::archive::Recent;
use operators::life_cycle::Phase;
use operators::view::{Cause, TwinSummary, TwinView};
use serde::{Deserialize, Serialize};

use crate::survey::{Answer, Survey};

/// Number of the survey that all workers answer when they end.
pub(crate) const LAST: u64 = 0;
/// Most groups that are told apart; what is in none of them is counted as others.
const GROUPS_MAX: usize = 1_000;
/// How many twins of a group are named.
const NAMED_MAX: usize = 3;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// How the fleet is.
    Survey,
    /// How the twin with this id is.
    Twin(String),
    /// Which twins there are.
    List(Selection),
    /// Which twins are in trouble, grouped by cause and by what they share.
    Troubles,
    /// What the archive has that may be in no visible file.
    Recent {
        /// Of this table.
        table: String,
        /// And, of what is in memory, of this twin.
        twin: String,
    },
}

/// Which twins are listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Those whose id comes after this one, in the order of bytes.
    pub after: Option<String>,
    /// Most that are listed.
    pub limit: usize,
    /// Those whose id begins so.
    pub prefix: String,
    /// Those of this type.
    pub twin_type: Option<String>,
    /// Those in one of these phases; in any where none is named.
    pub phases: Vec<Phase>,
    /// Those whose ODTE is at most this.
    pub odte_max: Option<f64>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// How the fleet is.
    Survey(Box<Survey>),
    /// How the twin is; none where there is no such twin.
    Twin(Option<Box<TwinView>>),
    /// The first twins of the selection, by id.
    List(Vec<TwinSummary>),
    /// Groups of twins in trouble, largest first.
    Troubles(Vec<Group>),
    /// What each archive writer has; nothing where the job has no archive.
    Recent(Vec<Recent>),
}

/// Twins that are in trouble for one cause, and share what is said here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Why.
    pub cause: Cause,
    /// Their type.
    pub twin_type: String,
    /// What their ids begin with, up to the last `-`, `_`, `.`, `:` or `/`; empty where it is nothing.
    pub prefix: String,
    /// The attributes that all of them have, with their values as the roster writes them.
    pub shared: Vec<(String, String)>,
    /// How many.
    pub twins: u64,
    /// Since when the first of them is in its phase, microseconds since 1970.
    pub since_us: i64,
    /// Some of them, by id.
    pub named: Vec<String>,
}

/// A worker's part of an answer, on its way to worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// Number of the question.
    pub(crate) number: u64,
    /// How many workers answer it.
    pub(crate) workers: u32,
    /// What this one says.
    pub(crate) part: PartOfReply,
}

/// What one worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PartOfReply {
    /// Of its twins.
    Survey(Box<Answer>),
    /// The twin, where it is its own.
    Twin(Option<Box<TwinView>>),
    /// How many are wanted, and the first of its own.
    List(usize, Vec<TwinSummary>),
    /// Groups of its own.
    Troubles(Vec<Group>),
    /// What its archive has.
    Recent(Vec<Recent>),
}

impl PartOfReply {
    /// Adds what another worker says to the same question.
    pub(crate) fn merge(&mut self, other: PartOfReply) {
        match (self, other) {
            (PartOfReply::Survey(sum), PartOfReply::Survey(other)) => sum.merge(*other),
            (PartOfReply::List(limit, all), PartOfReply::List(_, more)) => {
                all.extend(more);
                all.sort_by(|a, b| a.twin.cmp(&b.twin));
                all.truncate(*limit);
            }
            (PartOfReply::Troubles(all), PartOfReply::Troubles(more)) => {
                more.into_iter().for_each(|group| collecting::add_group(all, group));
            }
            (PartOfReply::Recent(all), PartOfReply::Recent(more)) => all.extend(more),
            (PartOfReply::Twin(found), PartOfReply::Twin(other)) => *found = found.take().or(other),
            // One question has one kind of answer.
            _ => {}
        }
    }

    /// The answer, once all have said theirs.
    pub(crate) fn reply(self) -> Reply {
        match self {
            PartOfReply::Survey(sum) => Reply::Survey(Box::new(sum.survey())),
            PartOfReply::Twin(twin) => Reply::Twin(twin),
            PartOfReply::List(_, twins) => Reply::List(twins),
            PartOfReply::Recent(recent) => Reply::Recent(recent),
            PartOfReply::Troubles(mut groups) => {
                groups.sort_by(|a, b| b.twins.cmp(&a.twins).then_with(|| a.prefix.cmp(&b.prefix)));
                Reply::Troubles(groups)
            }
        }
    }
}
