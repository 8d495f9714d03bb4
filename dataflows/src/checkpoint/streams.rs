//! Checkpoints in the dataflow: parts travel to worker 0, the news of a complete one to every worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use connectors::alarm::Alarm;
use connectors::archive::ArchiveHandle;
use connectors::outbox::OutboxHandle;
use connectors::place::Place;
use connectors::queue::Sender;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::committer::{CheckpointPhase, CheckpointStats, Commit};
use super::{Committed, Mailbox, Part};
use crate::board::Board;
use crate::control::Addressed;

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// What a worker takes part in checkpoints with.
pub(crate) struct CommitParts {
    /// Where its recorder puts its parts.
    pub(crate) parts: Arc<Mailbox<Part>>,
    /// Its archive, which makes files of what is committed.
    pub(crate) archive: Option<Arc<ArchiveHandle>>,
    /// What sends from outboxes, on the first worker of the process.
    pub(crate) outboxes: Vec<Arc<OutboxHandle>>,
    /// The committer, on worker 0.
    pub(crate) committer: Option<CommitterPort>,
    /// What is raised where a checkpoint cannot be made.
    pub(crate) alarm: Arc<Alarm>,
}

/// The committer as its operator sees it.
pub struct CommitterPort {
    /// Takes checkpoints of which all parts are there.
    pub commits: Sender<Commit>,
    /// Tells of those that are complete.
    pub committed: Arc<Mailbox<Committed>>,
    /// Numbers to show.
    pub stats: Arc<CheckpointStats>,
}

/// Builds the three operators.
pub(crate) fn commit<'scope>(scope: Scope<'scope, u64>, parts: CommitParts, board: Rc<RefCell<Board>>) {
    let CommitParts { parts, archive, outboxes, committer, alarm } = parts;
    let durable = durable_parts(scope, parts);
    let committed = commit_all(durable, committer, alarm);
    committed.sink(Exchange::new(Addressed::address), "Committed", move |(input, _frontier)| {
        input.for_each(|_, data| {
            for Addressed { what: committed, .. } in data.drain(..) {
                if let Some(archive) = &archive {
                    archive.committed(committed.number);
                }
                outboxes.iter().for_each(|outbox| outbox.committed(committed.number));
                let mut board = board.borrow_mut();
                board.committed = Some(committed);
                if let Some(handler) = &board.handler {
                    handler.activate();
                }
            }
        });
    });
}

/// The parts of this worker, as its recorder has them.
fn durable_parts<'scope>(
    scope: Scope<'scope, u64>,
    parts: Arc<Mailbox<Part>>,
) -> StreamVec<'scope, u64, Addressed<Part>> {
    let mut builder = OperatorBuilder::new("DurableParts".into(), scope);
    let address = builder.operator_info().address;
    parts.wakes(scope.worker().sync_activator_for(address.to_vec()));
    let (out, stream) = builder.new_output_connection([]);
    let mut out = OutputBuilder::<_, Builder<Addressed<Part>>>::from(out);
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop();
        move |_frontiers| {
            let Some(capability) = &held else { return };
            let found = parts.take();
            let is_last = found.iter().any(|part| part.last);
            let mut out = out.activate();
            let mut session = out.session(capability);
            found.into_iter().for_each(|what| session.give(Addressed { to: 0, what }));
            drop(session);
            if is_last {
                held = None;
            }
        }
    });
    stream
}

/// On worker 0: once all parts of a checkpoint are there, it is committed; the news goes to every worker.
fn commit_all<'scope>(
    parts: StreamVec<'scope, u64, Addressed<Part>>,
    mut committer: Option<CommitterPort>,
    alarm: Arc<Alarm>,
) -> StreamVec<'scope, u64, Addressed<Committed>> {
    let scope = parts.scope();
    let peers = scope.peers();
    let mut builder = OperatorBuilder::new("CommitCheckpoint".into(), scope);
    let address = builder.operator_info().address;
    if let Some(committer) = &committer {
        committer.committed.wakes(scope.worker().sync_activator_for(address.to_vec()));
    }
    let mut parts_in = builder.new_input(parts, Exchange::new(Addressed::address));
    let (out, stream) = builder.new_output_connection([]);
    let mut out = OutputBuilder::<_, Builder<Addressed<Committed>>>::from(out);
    let mut open: BTreeMap<u64, Vec<Part>> = BTreeMap::new();
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop().filter(|_| committer.is_some());
        capabilities.clear();
        move |_frontiers| {
            parts_in.for_each(|_, data| {
                for Addressed { what: part, .. } in data.drain(..) {
                    let number = part.number;
                    let parts = open.entry(number).or_default();
                    parts.push(part);
                    if let Some(committer) = &committer {
                        committer.stats.set_phase(CheckpointPhase::Writing);
                    }
                    if parts.len() < peers {
                        continue;
                    }
                    let parts = open.remove(&number).unwrap_or_default();
                    let Some(commit) = complete(number, parts) else {
                        alarm.raise(
                            "a source ended without saying where, so no checkpoint can be made of it; \
                             start again: the run goes on from the checkpoint before",
                        );
                        continue;
                    };
                    if let Some(committer) = &committer {
                        // A committer that has ended has raised the alarm.
                        let _ = committer.commits.send_over_bound(commit);
                    }
                }
            });
            let (Some(port), Some(capability)) = (&committer, &held) else { return };
            let mut out = out.activate();
            let mut session = out.session(capability);
            let mut is_last = false;
            for committed in port.committed.take() {
                is_last |= committed.last;
                for to in 0..peers as u32 {
                    session.give(Addressed { to, what: committed.clone() });
                }
            }
            drop(session);
            if is_last {
                (held, committer) = (None, None);
            }
        }
    });
    stream
}

/// All that a manifest says of a checkpoint; none where the place of a source is not known.
fn complete(number: u64, parts: Vec<Part>) -> Option<Commit> {
    let first = parts.first()?;
    let mut places = vec![Place::default(); first.lost_us.len()];
    match first.at_us {
        // Recorded sources go on at the instant of the cut.
        Some(at_us) => places.fill(Place::at(at_us.max(0) as u64)),
        // Each worker knows how far its own lanes have come.
        None => {
            for part in &parts {
                for (source, place) in part.marks.as_ref()? {
                    places.get_mut(usize::from(*source))?.merge(place);
                }
            }
        }
    }
    Some(Commit { number, last: first.last, places, parts })
}
