//! What the operators of one worker share. A worker is one thread, so this is no channel between workers: those
//! have only the dataflow.

use std::collections::BTreeMap;

use connectors::place::Place;
use timely::scheduling::Activator;

use crate::checkpoint::{Committed, Memories};
use crate::control::Boundary;

/// Instead of a boundary's number: the end of all sources.
pub const END: u64 = u64::MAX;

/// The places of sources by their numbers, as the lanes of one worker know them.
pub type Marks = Option<Vec<(u16, Place)>>;

/// What the operators of one worker tell each other.
#[derive(Default)]
pub struct Board {
    /// The run is to end.
    pub stop: bool,
    /// Workers whose lanes have ended.
    pub drained: usize,
    /// Newest arrival of recorded input, microseconds since 1970.
    pub newest_us: Option<i64>,
    /// Bytes that wait to go out.
    pub waiting_bytes: usize,
    /// The connector that takes nothing, where one does not.
    pub waiting_for: Option<String>,
    /// The time under which the steps put out now.
    pub steps_time: u64,
    /// The boundary that was heard last, for the sources and lanes of this worker.
    pub boundary: Option<Boundary>,
    /// The sources were asked for it.
    pub is_cut_asked: bool,
    /// What the sources of this worker's lanes must be started from to have all that came after the boundary
    /// with this number, or after the end ([`END`]), each with the number of its source; none where a source
    /// ended without saying so.
    pub marks: BTreeMap<u64, Marks>,
    /// What these lanes remember of what came before it.
    pub memories: BTreeMap<u64, Memories>,
    /// A checkpoint was committed.
    pub committed: Option<Committed>,
    /// Activates the physical event handler, for what it reads here.
    pub handler: Option<Activator>,
}
