//! The twin graph on timely: the paper's steps as operators, the same on every worker.
//!
//! ```text
//!   sources ─► physical event handler ──parcels──► [ shadowing ─► augmentation ─► twin handler
//!                 │        ▲                          ─► digital event handler ] ──► publish ─► probe
//!                 │        └── stop, boundary ┐          │  ▲                          │
//!                 └── control, boundaries, broadcast ────┘  └─ what waits to go out ───┘
//!                                                        └──── answers ──► worker 0
//!   recorder ─► durable parts ─► commit checkpoint (worker 0) ─► committed, broadcast
//! ```
//!
//! The bracket is one keyed operator (`chain.rs`, `twins.rs`). Parcels and control are exchanged; all else
//! stays on its worker. Operators of one worker share a `Board`; workers share nothing. Step 1 has a file
//! of its own (`handler.rs`), and so have the operators of checkpoints (`checkpoint/streams.rs`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use connectors::alarm::Alarm;
use connectors::archive::ArchiveHandle;
use connectors::clock::Clock;
use connectors::outbox::OutboxHandle;
use connectors::place::Place;
use connectors::queue::{Sender, Waker};
use connectors::source::SourceHandle;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Operator, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::progress::Antichain;
use timely::scheduling::SyncActivator;

use crate::ask::{Answered, Replies};
use crate::board::Board;
use crate::chain::{Chain, ChainParts, Frontiers};
use crate::checkpoint::{self, CommitParts, CommitterPort, Mailbox, Memories, Part, PartMessage};
use crate::control::{Addressed, Command};
use crate::digital::Delivery;
use crate::engine::Alive;
use crate::handler::{Coordinator, HandlerStreams, PhysicalEventHandler, physical_event_handler};
use crate::ingest::Lane;
use crate::metrics::Metrics;
use crate::plan::TimeMode;
use crate::publish::{Outlets, SinkPort};
use crate::pulse::Pulse;
use crate::quarantine;
use crate::router::{Parcel, Router};
use crate::stall::StallWatch;
use crate::twins::Twins;

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// How soon a connector that was full is offered a batch again.
const RETRY: Duration = Duration::from_millis(5);
/// How long a run that is to stop waits for sinks that take nothing.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What one worker needs to build its part of the graph.
pub struct Parts {
    /// The job's number among those of its process.
    pub job_number: u32,
    /// Its lanes.
    pub lanes: Vec<Lane>,
    /// The sources themselves with their numbers, on the first worker of the process that opened them.
    pub sources: Vec<(u16, SourceHandle)>,
    /// Where sources that were left alone are to go on, each with its number; on the first worker.
    pub parked: Vec<(u16, Place)>,
    /// What their decoders remember.
    pub parked_memories: Memories,
    /// How many workers have lanes, in all processes.
    pub workers_with_lanes: usize,
    /// What the process asks, on its first worker.
    pub commands: Option<mpsc::Receiver<Command>>,
    /// Its twins.
    pub twins: Twins,
    /// The sinks of its process.
    pub sinks: Vec<SinkPort>,
    /// Those that send from outboxes, on the first worker of the process.
    pub outboxes: Vec<Arc<OutboxHandle>>,
    /// Its archive.
    pub archive: Option<Arc<ArchiveHandle>>,
    /// Takes its part of checkpoints.
    pub recorder: Sender<PartMessage>,
    /// Where its recorder puts the parts.
    pub parts: Arc<Mailbox<Part>>,
    /// Whether its process is the only one.
    pub is_alone: bool,
    /// How often checkpoints are commanded, on worker 0; only at the end where it says nothing.
    pub interval: Option<Duration>,
    /// Completes checkpoints, on worker 0.
    pub committer: Option<CommitterPort>,
    /// What is raised where the run cannot go on.
    pub alarm: Arc<Alarm>,
    /// Where recorded input is to stop.
    pub until_us: Option<i64>,
    /// Counts messages that no sink takes when the run ends.
    pub unpublished: Arc<AtomicU64>,
    /// Where the answers of all workers go, on worker 0.
    pub replies: Option<Replies>,
    /// Whose clock rules.
    pub time: TimeMode,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When the run began; live engine time counts from here.
    pub start: Instant,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// Whether the job is at rest.
    pub pulse: Arc<Pulse>,
}

/// Builds the graph, which holds `alive` until it has gone. `wake` is given what wakes the worker for the
/// commands of its process.
pub fn build(scope: Scope<'_, u64>, parts: Parts, alive: Alive, wake: impl FnOnce(SyncActivator)) {
    let board = Rc::new(RefCell::new(Board::default()));
    let probe = ProbeHandle::new();
    let outlets = Outlets::new(parts.sinks, parts.archive.clone(), parts.unpublished, parts.recorder.clone());
    let (time, start) = (parts.time, parts.start);
    let stats = parts.committer.as_ref().map(|committer| committer.stats.clone());
    let handler = PhysicalEventHandler {
        job_number: parts.job_number,
        lanes: parts.lanes,
        sources: parts.sources,
        parked: parts.parked,
        parked_memories: parts.parked_memories,
        workers_with_lanes: parts.workers_with_lanes,
        commands: parts.commands,
        router: Router::new(scope.peers()),
        time,
        start,
        coordinator: stats.map(|stats| Coordinator::new(parts.interval, start, stats, parts.is_alone)),
        incidents: 0,
        metrics: parts.metrics,
        pulse: parts.pulse.clone(),
        board: board.clone(),
        probe: probe.clone(),
        stall: StallWatch::new(scope.index(), start),
    };
    let chain_parts = ChainParts {
        job_number: parts.job_number,
        peers: scope.peers() as u32,
        time,
        clock: parts.clock,
        start,
        board: board.clone(),
        recorder: parts.recorder,
        until_us: parts.until_us,
        pulse: parts.pulse,
    };
    let commit_parts = CommitParts {
        parts: parts.parts,
        archive: parts.archive,
        outboxes: parts.outboxes,
        committer: parts.committer,
        alarm: parts.alarm,
    };
    let streams = physical_event_handler(scope, handler, wake);
    let (deliveries, answers) = chained_steps(scope, streams, Chain::new(parts.twins, chain_parts));
    // What has left the operators of the worker has passed the probe.
    publish(deliveries, outlets, board.clone(), alive).probe_with(&probe);
    collect_answers(answers, parts.replies);
    checkpoint::commit(scope, commit_parts, board);
}

type ChainStreams<'scope> = (StreamVec<'scope, u64, Delivery>, StreamVec<'scope, u64, Addressed<Answered>>);

fn chained_steps<'scope>(
    scope: Scope<'scope, u64>,
    streams: HandlerStreams<'scope>,
    mut chain: Chain,
) -> ChainStreams<'scope> {
    let HandlerStreams { parcels, letters, control, boundaries } = streams;
    let mut builder = OperatorBuilder::new("ShadowingToDigitalEvents".into(), scope);
    let address = builder.operator_info().address;
    chain.twins.inbox().set_waker(waker(scope.worker().sync_activator_for(address.to_vec())));
    chain.wakes(scope.worker().sync_activator_for(address.to_vec()));
    let activator = scope.activator_for(address);
    let mut parcels_in = builder.new_input(parcels, Exchange::new(|parcel: &Parcel| u64::from(parcel.to)));
    let mut letters_in = builder.new_input(letters, Pipeline);
    let mut control_in = builder.new_input(control, Exchange::new(Addressed::address));
    let mut boundaries_in = builder.new_input(boundaries, Exchange::new(Addressed::address));
    // Events go out under a capability that the operator holds, as ticks have no input to go with.
    let (deliveries_out, deliveries) = builder.new_output_connection([]);
    let (answers_out, answers) = builder.new_output_connection([]);
    let mut deliveries_out = OutputBuilder::<_, Builder<Delivery>>::from(deliveries_out);
    let mut answers_out = OutputBuilder::<_, Builder<Addressed<Answered>>>::from(answers_out);
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop().zip(capabilities.pop());
        move |frontiers| {
            quarantine::go_on_duty(chain.job_number);
            boundaries_in.for_each(|_, data| data.drain(..).for_each(|one| chain.hear_boundary(one.what)));
            letters_in.for_each(|time, data| {
                let time = time.least().copied().unwrap_or_default();
                data.drain(..).for_each(|letters| chain.take_letters(time, letters));
            });
            control_in.for_each(|time, data| {
                let time = time.least().copied().unwrap_or_default();
                data.drain(..).for_each(|one| chain.hear(time, one.what));
            });
            parcels_in.for_each(|time, data| {
                let time = time.least().copied().unwrap_or_default();
                data.drain(..).for_each(|parcel| chain.take(time, parcel));
            });
            let Some((answers_cap, deliveries_cap)) = held.as_mut() else { return };
            let least = |input: usize| frontiers[input].frontier().first().copied();
            let frontiers =
                Frontiers { parcels: least(0), letters: least(1), control: least(2), boundaries: least(3) };
            let answer = chain.go_on(frontiers);
            let has_ended = frontiers.have_ended() && !chain.is_held();
            chain.report();
            let mut out = deliveries_out.activate();
            let mut session = out.session(&*deliveries_cap);
            let all_rows = chain.is_time_for_rows(has_ended);
            chain.twins.digital.take(all_rows, |delivery| session.give(delivery));
            drop(session);
            for answer in answer {
                answers_out.activate().session(&*answers_cap).give(Addressed { to: 0, what: answer });
            }
            if has_ended {
                held = None;
                return;
            }
            if let Some(time) = chain.held_time(frontiers) {
                deliveries_cap.downgrade(&time.max(*deliveries_cap.time()));
                answers_cap.downgrade(&time.max(*answers_cap.time()));
                chain.tell(*deliveries_cap.time());
            }
            chain.schedule(&activator);
        }
    });
    (deliveries, answers)
}

/// Wakes an operator from another thread. A worker that is gone has nothing to be woken for.
fn waker(activator: SyncActivator) -> Waker {
    Arc::new(move || {
        let _ = activator.activate();
    })
}

/// Step 5's way out.
fn publish<'scope>(
    deliveries: StreamVec<'scope, u64, Delivery>,
    mut outlets: Outlets<Capability<u64>>,
    board: Rc<RefCell<Board>>,
    alive: Alive,
) -> StreamVec<'scope, u64, ()> {
    let scope = deliveries.scope();
    let mut builder = OperatorBuilder::new("Publish".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut deliveries_in = builder.new_input(deliveries, Pipeline);
    let (_out, done) = builder.new_output_connection::<Vec<()>, _>([(0, Antichain::from_elem(0))]);
    builder.build(move |_| {
        let mut give_up_at = None;
        move |_frontiers| {
            let _held = &alive;
            deliveries_in.for_each(|time, data| {
                if let Some(capability) = time.retain_least(0) {
                    data.drain(..).for_each(|delivery| outlets.put(&capability, delivery));
                }
            });
            outlets.flush();
            let mut board = board.borrow_mut();
            if board.stop && outlets.is_waiting() {
                let now = Instant::now();
                if now >= *give_up_at.get_or_insert(now + STOP_WAIT) {
                    outlets.give_up();
                }
            }
            board.waiting_bytes = outlets.waiting_bytes();
            board.waiting_for = outlets.waits_for().map(str::to_owned);
            if outlets.is_waiting() {
                activator.activate_after(RETRY);
            }
        }
    });
    done
}

/// Puts the answers of all workers together on worker 0, and hands each to whoever asked.
fn collect_answers<'scope>(answers: StreamVec<'scope, u64, Addressed<Answered>>, replies: Option<Replies>) {
    let mut open: BTreeMap<u64, (u32, Answered)> = BTreeMap::new();
    answers.sink(Exchange::new(Addressed::address), "CollectAnswers", move |(input, _frontier)| {
        input.for_each(|_, data| {
            for Addressed { what: answer, .. } in data.drain(..) {
                let (number, workers) = (answer.number, answer.workers);
                let count = match open.entry(number) {
                    Entry::Vacant(entry) => entry.insert((1, answer)).0,
                    Entry::Occupied(mut entry) => {
                        let (count, sum) = entry.get_mut();
                        sum.part.merge(answer.part);
                        *count += 1;
                        *count
                    }
                };
                if count == workers
                    && let Some((_, sum)) = open.remove(&number)
                    && let Some(replies) = &replies
                {
                    replies.give(sum);
                }
            }
        });
    });
}
