//! The twin graph on timely: the paper's steps as operators, the same on every worker.
//!
//! ```text
//!   sources ─► physical event handler ──parcels──► [ shadowing ─► augmentation ─► twin handler
//!                 │        ▲                          ─► digital event handler ] ──► publish ─► probe
//!                 │        └─── stop ──┐                 │  ▲                          │
//!                 └──── control, broadcast ──────────────┘  └─ what waits to go out ───┘
//!                                                        └──── answers ──► worker 0
//! ```
//!
//! The bracket is one keyed operator (`twins.rs`). Parcels and control are exchanged; all else
//! stays on its worker. Operators of one worker share a `Board`; workers share nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use connectors::archive::ArchiveHandle;
use connectors::clock::Clock;
use connectors::sink::SinkHandle;
use connectors::source::SourceHandle;
use operators::decode::DeadLetter;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Operator, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::progress::Antichain;
use timely::scheduling::SyncActivator;

use crate::board::{Board, Heartbeat};
use crate::chain::Chain;
use crate::control::{Addressed, Command, Control};
use crate::digital::Delivery;
use crate::ingest::{Lane, Yield};
use crate::metrics::Metrics;
use crate::plan::TimeMode;
use crate::publish::Outlets;
use crate::router::{Parcel, Router};
use crate::survey::Answer;
use crate::twins::Twins;

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// How soon a connector that was full is offered a batch again.
const RETRY: Duration = Duration::from_millis(5);
/// How long a run that is to stop waits for sinks that take nothing.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What one worker needs to build its part of the graph.
pub struct Parts {
    /// Its lanes.
    pub lanes: Vec<Lane>,
    /// The sources themselves, on the first worker of the process that opened them.
    pub sources: Vec<SourceHandle>,
    /// How many workers have lanes, in all processes.
    pub workers_with_lanes: usize,
    /// What the process asks, on its first worker.
    pub commands: Option<mpsc::Receiver<Command>>,
    /// Its twins.
    pub twins: Twins,
    /// The sinks of its process.
    pub sinks: Vec<Arc<SinkHandle>>,
    /// Its archive.
    pub archive: Option<Arc<ArchiveHandle>>,
    /// Counts messages that no sink takes when the run ends.
    pub unpublished: Arc<AtomicU64>,
    /// Where the answers of all workers go, on worker 0.
    pub answers: Option<mpsc::Sender<Answer>>,
    /// Whose clock rules.
    pub time: TimeMode,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When the run began; live engine time counts from here.
    pub start: Instant,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
}

/// Builds the graph; the probe passes what has left the worker's operators. `wake` is given what
/// wakes the worker for the commands of its process.
pub fn build<'scope>(
    scope: Scope<'scope, u64>,
    parts: Parts,
    wake: impl FnOnce(SyncActivator),
) -> ProbeHandle<u64> {
    let board = Rc::new(RefCell::new(Board::default()));
    let probe = ProbeHandle::new();
    let Parts {
        lanes,
        sources,
        workers_with_lanes,
        commands,
        twins,
        sinks,
        archive,
        unpublished,
        answers,
        time,
        clock,
        start,
        metrics,
    } = parts;
    let outlets = Outlets::new(sinks, archive, unpublished);
    let handler = PhysicalEventHandler {
        lanes,
        sources,
        workers_with_lanes,
        commands,
        router: Router::new(scope.peers()),
        time,
        start,
        incidents: 0,
        metrics: metrics.clone(),
        board: board.clone(),
        probe: probe.clone(),
    };
    let (parcels, letters, control) = physical_event_handler(scope, handler, wake);
    let chain = Chain::new(twins, time, clock, start, board.clone());
    let (deliveries, replies) = chained_steps(scope, parcels, letters, control, chain);
    publish(deliveries, outlets, board).probe_with(&probe);
    collect_answers(replies, answers);
    probe
}

/// Step 1: sources -> physical events, dead letters, news.
struct PhysicalEventHandler {
    lanes: Vec<Lane>,
    sources: Vec<SourceHandle>,
    workers_with_lanes: usize,
    commands: Option<mpsc::Receiver<Command>>,
    router: Router,
    time: TimeMode,
    start: Instant,
    incidents: u64,
    metrics: Arc<Metrics>,
    board: Rc<RefCell<Board>>,
    probe: ProbeHandle<u64>,
}

/// Dead letters of a lane, and how many more there were.
type Letters = (Vec<DeadLetter>, u64);

type HandlerStreams<'scope> = (
    StreamVec<'scope, u64, Parcel>,
    StreamVec<'scope, u64, Letters>,
    StreamVec<'scope, u64, Addressed<Control>>,
);

fn physical_event_handler<'scope>(
    scope: Scope<'scope, u64>,
    mut handler: PhysicalEventHandler,
    wake: impl FnOnce(SyncActivator),
) -> HandlerStreams<'scope> {
    let mut builder = OperatorBuilder::new("PhysicalEventHandler".into(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    handler.board.borrow_mut().handler = Some(scope.activator_for(address.clone()));
    let (parcels_out, parcels) = builder.new_output_connection([]);
    let (letters_out, letters) = builder.new_output_connection([]);
    let (control_out, control) = builder.new_output_connection([]);
    let mut parcels_out = OutputBuilder::<_, Builder<Parcel>>::from(parcels_out);
    let mut letters_out = OutputBuilder::<_, Builder<Letters>>::from(letters_out);
    let mut control_out = OutputBuilder::<_, Builder<Addressed<Control>>>::from(control_out);
    wake(scope.worker().sync_activator_for(address.to_vec()));
    for lane in &handler.lanes {
        let activator = scope.worker().sync_activator_for(address.to_vec());
        lane.set_waker(Arc::new(move || {
            // A worker that has ended needs no waking.
            let _ = activator.activate();
        }));
    }
    let peers = scope.peers();
    builder.build(move |mut capabilities| {
        let mut control_cap = capabilities.pop();
        let letters_cap = capabilities.pop();
        let parcels_cap = capabilities.pop();
        // One of each a lane, as each has its own time; none where there is no lane.
        let mut lane_caps: Vec<Option<(Capability<u64>, Capability<u64>)>> =
            handler.lanes.iter().map(|_| parcels_cap.clone().zip(letters_cap.clone())).collect();
        let mut buffer = Yield::default();
        let mut was_drained = handler.lanes.is_empty();
        let mut heartbeat = Heartbeat::default();
        drop((parcels_cap, letters_cap));
        move |_frontiers| {
            let Some(control_capability) = control_cap.as_mut() else { return };
            let mut news: Vec<Control> = handler.obey();
            let mut has_more = false;
            let epoch = handler.epoch();
            for (index, capabilities) in lane_caps.iter_mut().enumerate() {
                let lane = &mut handler.lanes[index];
                let Some((parcels_cap, letters_cap)) = capabilities else { continue };
                if let Some(epoch) = epoch {
                    parcels_cap.downgrade(&epoch.max(*parcels_cap.time()));
                    letters_cap.downgrade(&epoch.max(*letters_cap.time()));
                }
                let probe = &handler.probe;
                lane.release(|time| !probe.less_equal(&time));
                let router = &mut handler.router;
                has_more |= lane.advance(epoch, &mut buffer, |lane, stretch| {
                    if epoch.is_none() {
                        parcels_cap.downgrade(&lane.told);
                        letters_cap.downgrade(&lane.told);
                    }
                    let mut out = parcels_out.activate();
                    let mut session = out.session(parcels_cap);
                    router.route(lane.source, &mut stretch.events, |parcel| session.give(parcel));
                    drop(session);
                    if !stretch.dead_letters.is_empty() || stretch.dead_letters_dropped > 0 {
                        let letters = std::mem::take(&mut stretch.dead_letters);
                        let dropped = std::mem::take(&mut stretch.dead_letters_dropped);
                        letters_out.activate().session(letters_cap).give((letters, dropped));
                    }
                });
                if epoch.is_none() {
                    parcels_cap.downgrade(&lane.told);
                    letters_cap.downgrade(&lane.told);
                }
                if lane.has_ended() {
                    *capabilities = None;
                }
            }
            for control in buffer.control.drain(..) {
                match control {
                    // Lanes end one by one; the worker tells when all have.
                    Control::Drained { newest_us } => {
                        handler.newest(newest_us);
                    }
                    other => news.push(handler.number(other)),
                }
            }
            if !was_drained && handler.lanes.iter().all(Lane::has_ended) {
                was_drained = true;
                news.push(Control::Drained { newest_us: handler.newest(None) });
            }
            if !news.is_empty() {
                let mut out = control_out.activate();
                let mut session = out.session(&*control_capability);
                for what in news {
                    for to in 0..peers as u32 {
                        session.give(Addressed { to, what: what.clone() });
                    }
                }
            }
            if let Some(epoch) = epoch {
                control_capability.downgrade(&epoch.max(*control_capability.time()));
            }
            handler.measure();
            if handler.is_over(was_drained) {
                control_cap = None;
                return;
            }
            if has_more {
                activator.activate();
            }
            heartbeat.again(&activator);
        }
    });
    (parcels, letters, control)
}

impl PhysicalEventHandler {
    /// Does what the process and the other workers ask.
    fn obey(&mut self) -> Vec<Control> {
        let commands = self.commands.iter().flat_map(mpsc::Receiver::try_iter);
        let news = commands.map(|command| match command {
            Command::Stop => Control::Stop,
            Command::Survey(number) => Control::Survey(number),
        });
        let news = news.collect();
        if self.board.borrow().stop {
            self.sources.iter().for_each(SourceHandle::stop);
        }
        news
    }

    /// The engine time of what is taken in now; none where lanes have their own.
    fn epoch(&self) -> Option<u64> {
        (self.time == TimeMode::Live).then(|| self.start.elapsed().as_millis() as u64)
    }

    /// Numbers a new incident.
    fn number(&mut self, control: Control) -> Control {
        match control {
            Control::SourceLost { source, at_us, .. } => {
                self.incidents += 1;
                self.metrics.incidents.fetch_add(1, Ordering::Relaxed);
                Control::SourceLost { source, at_us, incident: self.incidents }
            }
            other => other,
        }
    }

    fn newest(&self, newest_us: Option<i64>) -> Option<i64> {
        let mut board = self.board.borrow_mut();
        board.newest_us = board.newest_us.max(newest_us);
        board.newest_us
    }

    /// Whether no worker has anything more to tell: all lanes have ended, or there never was one
    /// and the run is to stop.
    fn is_over(&self, was_drained: bool) -> bool {
        let board = self.board.borrow();
        let all_drained = board.drained >= self.workers_with_lanes;
        was_drained && all_drained && (self.workers_with_lanes > 0 || board.stop)
    }

    fn measure(&self) {
        let bytes: usize = self.lanes.iter().map(Lane::in_flight_bytes).sum();
        if self.commands.is_some() {
            self.metrics.in_flight_bytes.store(bytes as i64, Ordering::Relaxed);
            self.probe.with_frontier(|frontier| {
                if let Some(time) = frontier.first() {
                    self.metrics.frontier.store(*time, Ordering::Relaxed);
                }
            });
        }
    }
}

type ChainStreams<'scope> = (StreamVec<'scope, u64, Delivery>, StreamVec<'scope, u64, Addressed<Answer>>);

fn chained_steps<'scope>(
    scope: Scope<'scope, u64>,
    parcels: StreamVec<'scope, u64, Parcel>,
    letters: StreamVec<'scope, u64, Letters>,
    control: StreamVec<'scope, u64, Addressed<Control>>,
    mut chain: Chain,
) -> ChainStreams<'scope> {
    let mut builder = OperatorBuilder::new("ShadowingToDigitalEvents".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let to_owner = |parcel: &Parcel| u64::from(parcel.to);
    let mut parcels_in = builder.new_input(parcels, Exchange::new(to_owner));
    let mut letters_in = builder.new_input(letters, Pipeline);
    let to_all = |control: &Addressed<Control>| u64::from(control.to);
    let mut control_in = builder.new_input(control, Exchange::new(to_all));
    // Events go out under a capability that the operator holds, as ticks have no input to go with.
    let (deliveries_out, deliveries) = builder.new_output_connection([]);
    let (answers_out, answers) = builder.new_output_connection([]);
    let mut deliveries_out = OutputBuilder::<_, Builder<Delivery>>::from(deliveries_out);
    let mut answers_out = OutputBuilder::<_, Builder<Addressed<Answer>>>::from(answers_out);
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop().zip(capabilities.pop());
        move |frontiers| {
            letters_in.for_each(|_, data| {
                for (letters, dropped) in data.drain(..) {
                    letters.iter().for_each(|letter| chain.twins.dead_letter(letter));
                    chain.twins.dead_letters_dropped(dropped);
                }
            });
            control_in.for_each(|_, data| data.drain(..).for_each(|one| chain.hear(one.what)));
            parcels_in.for_each(|time, data| {
                let time = time.least().copied().unwrap_or_default();
                data.drain(..).for_each(|parcel| chain.take(time, parcel));
            });
            let Some((answers_cap, deliveries_cap)) = held.as_mut() else { return };
            let has_ended = frontiers.iter().all(|frontier| frontier.is_empty());
            let closed = frontiers[0].frontier().first().copied();
            let answer = chain.go_on(closed, has_ended);
            chain.twins.report();
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
            if let Some(time) = chain.held_time(closed) {
                deliveries_cap.downgrade(&time.max(*deliveries_cap.time()));
                answers_cap.downgrade(&time.max(*answers_cap.time()));
            }
            chain.schedule(&activator);
        }
    });
    (deliveries, answers)
}

/// Step 5's way out.
fn publish<'scope>(
    deliveries: StreamVec<'scope, u64, Delivery>,
    mut outlets: Outlets<Capability<u64>>,
    board: Rc<RefCell<Board>>,
) -> StreamVec<'scope, u64, ()> {
    let scope = deliveries.scope();
    let mut builder = OperatorBuilder::new("Publish".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut deliveries_in = builder.new_input(deliveries, Pipeline);
    let (_out, done) = builder.new_output_connection::<Vec<()>, _>([(0, Antichain::from_elem(0))]);
    builder.build(move |_| {
        let mut give_up_at = None;
        move |_frontiers| {
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
            if outlets.is_waiting() {
                activator.activate_after(RETRY);
            }
        }
    });
    done
}

/// Adds up the answers of all workers on worker 0, and hands each sum to the process.
fn collect_answers<'scope>(
    replies: StreamVec<'scope, u64, Addressed<Answer>>,
    answers: Option<mpsc::Sender<Answer>>,
) {
    let peers = replies.scope().peers();
    let to_first = |answer: &Addressed<Answer>| u64::from(answer.to);
    let mut open: BTreeMap<u64, (usize, Answer)> = BTreeMap::new();
    replies.sink(Exchange::new(to_first), "CollectAnswers", move |(input, _frontier)| {
        input.for_each(|_, data| {
            for Addressed { what: answer, .. } in data.drain(..) {
                let number = answer.number;
                let (count, sum) = open.entry(number).or_insert_with(|| (0, Answer::to(number)));
                *count += 1;
                sum.merge(answer);
                if *count == peers
                    && let Some((_, sum)) = open.remove(&number)
                    && let Some(answers) = &answers
                {
                    // Nobody waits any more where the process is ending.
                    let _ = answers.send(sum);
                }
            }
        });
    });
}
