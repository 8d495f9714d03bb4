//! Step 1 in the dataflow, the physical event handler: lanes -> physical events, dead letters, news. On
//! worker 0 it also commands the checkpoints.
//!
//! ```text
//!   worker 0: time for a checkpoint ─► boundary, broadcast ─► chains ─► board of each worker
//!   process 0: the sources are asked ─► boundary in each lane ─► the lane goes on under its number
//!   every worker: all its lanes have gone on ─► so does its control
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use connectors::place::Place;
use connectors::source::SourceHandle;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::scheduling::SyncActivator;

use crate::ask::Question;
use crate::board::{Board, END};
use crate::chain::Letters;
use crate::checkpoint::committer::{CheckpointPhase, CheckpointStats};
use crate::checkpoint::{Committed, Memories};
use crate::control::{Addressed, Boundary, Command, Control};
use crate::epoch;
use crate::ingest::{Lane, Progress, Yield};
use crate::metrics::{Metrics, add};
use crate::plan::TimeMode;
use crate::pulse::{BEAT, Heartbeat, Pulse, REST};
use crate::quarantine;
use crate::router::{Parcel, Router};
use crate::stall::StallWatch;

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// Step 1 of one worker.
pub(crate) struct PhysicalEventHandler {
    /// The job's number among those of its process.
    pub(crate) job_number: u32,
    /// Its lanes.
    pub(crate) lanes: Vec<Lane>,
    /// The sources themselves with their numbers, on the first worker of the process that opened them.
    pub(crate) sources: Vec<(u16, SourceHandle)>,
    /// Where sources that were left alone are to go on, each with its number; on the first worker.
    pub(crate) parked: Vec<(u16, Place)>,
    /// What their decoders remember.
    pub(crate) parked_memories: Memories,
    /// How many workers have lanes, in all processes.
    pub(crate) workers_with_lanes: usize,
    /// What the process asks, on its first worker.
    pub(crate) commands: Option<mpsc::Receiver<Command>>,
    /// Which worker owns which twin.
    pub(crate) router: Router,
    /// Whose clock rules.
    pub(crate) time: TimeMode,
    /// When the run began.
    pub(crate) start: Instant,
    /// Commands checkpoints, on worker 0.
    pub(crate) coordinator: Option<Coordinator>,
    /// Incidents so far.
    pub(crate) incidents: u64,
    /// The process's counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the job is at rest.
    pub(crate) pulse: Arc<Pulse>,
    /// What the operators of this worker share.
    pub(crate) board: Rc<RefCell<Board>>,
    /// What has left the worker's operators.
    pub(crate) probe: ProbeHandle<u64>,
    /// Says who holds everything up, where somebody does.
    pub(crate) stall: StallWatch,
}

/// Commands checkpoints: one at a time, an interval after the one before began.
pub(crate) struct Coordinator {
    interval: Option<Duration>,
    begun_at: Instant,
    number: u64,
    is_under_way: bool,
    has_commanded_last: bool,
    stats: Arc<CheckpointStats>,
    /// Whether all that happens in the run is counted here, so that one in which nothing happens is seen.
    sees_all: bool,
    /// How much had happened when the last one was commanded.
    seen: Option<u64>,
}

impl Coordinator {
    /// A coordinator that commands a checkpoint every `interval`; none but the last where there is none.
    pub(crate) fn new(
        interval: Option<Duration>,
        start: Instant,
        stats: Arc<CheckpointStats>,
        sees_all: bool,
    ) -> Self {
        Self {
            interval,
            begun_at: start,
            number: 0,
            is_under_way: false,
            has_commanded_last: false,
            stats,
            sees_all,
            seen: None,
        }
    }

    /// The boundary to command now, if it is time for one and something has happened since the last one, as
    /// `happened` counts. `at_us` is the instant up to which recorded
    /// input is told; `stops` says that it is to end there.
    fn command(&mut self, at_us: Option<i64>, stops: bool, happened: u64) -> Option<Boundary> {
        // Live input ends by its sources, and is cut once they have.
        let last = stops && at_us.is_some();
        let is_due = self.interval.is_some_and(|interval| self.begun_at.elapsed() >= interval);
        if self.is_under_way || self.has_commanded_last || (stops && !last) || !(is_due || last) {
            return None;
        }
        self.begun_at = Instant::now();
        if self.sees_all && !last && self.seen == Some(happened) {
            return None;
        }
        self.seen = Some(happened);
        self.is_under_way = true;
        self.has_commanded_last = last;
        self.number += 1;
        self.stats.set_phase(CheckpointPhase::Aligning);
        Some(Boundary { number: self.number, at_us, last })
    }

    /// How long nothing is to be done as time goes on: until the next checkpoint, where one is to be.
    fn rest(&self, metrics: &Metrics) -> Duration {
        match self.interval {
            Some(interval) if !self.sees_all || self.seen != Some(metrics.happened()) => {
                interval.saturating_sub(self.begun_at.elapsed())
            }
            _ => REST,
        }
    }

    /// A checkpoint holds.
    fn committed(&mut self) {
        self.stats.duration_us.store(self.begun_at.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.is_under_way = false;
    }
}

/// What step 1 puts out.
pub(crate) struct HandlerStreams<'scope> {
    /// Physical events for their owners.
    pub(crate) parcels: StreamVec<'scope, u64, Parcel>,
    /// Dead letters, kept by this worker.
    pub(crate) letters: StreamVec<'scope, u64, Letters>,
    /// News for all workers.
    pub(crate) control: StreamVec<'scope, u64, Addressed<Control>>,
    /// Boundaries for all workers, from worker 0.
    pub(crate) boundaries: StreamVec<'scope, u64, Addressed<Boundary>>,
}

/// The capabilities of one lane.
struct LaneCaps {
    parcels: Capability<u64>,
    letters: Capability<u64>,
    control: Capability<u64>,
}

impl LaneCaps {
    fn go_on_to(&mut self, time: u64) {
        self.parcels.downgrade(&time);
        self.letters.downgrade(&time);
        self.control.downgrade(&time);
    }
}

/// Builds the operator. `wake` is given what wakes the worker for the commands of its process.
pub(crate) fn physical_event_handler<'scope>(
    scope: Scope<'scope, u64>,
    mut handler: PhysicalEventHandler,
    wake: impl FnOnce(SyncActivator),
) -> HandlerStreams<'scope> {
    let mut builder = OperatorBuilder::new("PhysicalEventHandler".into(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    handler.board.borrow_mut().handler = Some(scope.activator_for(address.clone()));
    handler.pulse.wakes(scope.worker().sync_activator_for(address.to_vec()));
    let (parcels_out, parcels) = builder.new_output_connection([]);
    let (letters_out, letters) = builder.new_output_connection([]);
    let (control_out, control) = builder.new_output_connection([]);
    let (boundaries_out, boundaries) = builder.new_output_connection([]);
    let mut parcels_out = OutputBuilder::<_, Builder<Parcel>>::from(parcels_out);
    let mut letters_out = OutputBuilder::<_, Builder<Letters>>::from(letters_out);
    let mut control_out = OutputBuilder::<_, Builder<Addressed<Control>>>::from(control_out);
    let mut boundaries_out = OutputBuilder::<_, Builder<Addressed<Boundary>>>::from(boundaries_out);
    wake(scope.worker().sync_activator_for(address.to_vec()));
    for lane in &handler.lanes {
        let activator = scope.worker().sync_activator_for(address.to_vec());
        lane.set_waker(Arc::new(move || {
            // A worker that has ended needs no waking.
            let _ = activator.activate();
        }));
    }
    let peers = scope.peers() as u32;
    builder.build(move |mut capabilities| {
        let mut boundaries_cap = capabilities.pop().filter(|_| handler.coordinator.is_some());
        let mut control_cap = capabilities.pop();
        let (letters_cap, parcels_cap) = (capabilities.pop(), capabilities.pop());
        // One of each a lane, as each has its own time; none where there is no lane.
        let caps = || {
            let (parcels, letters) = parcels_cap.clone().zip(letters_cap.clone())?;
            Some(LaneCaps { parcels, letters, control: control_cap.clone()? })
        };
        let mut lane_caps: Vec<Option<LaneCaps>> = handler.lanes.iter().map(|_| caps()).collect();
        drop((parcels_cap, letters_cap, capabilities));
        let mut buffer = Yield::default();
        let mut was_drained = handler.lanes.is_empty();
        if was_drained {
            handler.mark(END, Lane::end);
        }
        let mut heartbeat = Heartbeat::default();
        move |_frontiers| {
            quarantine::go_on_duty(handler.job_number);
            let Some(capability) = control_cap.as_mut() else { return };
            let mut news = handler.asked();
            let boundary = handler.command_checkpoint();
            if let (Some(boundary), Some(capability)) = (boundary, &boundaries_cap) {
                let mut out = boundaries_out.activate();
                let mut session = out.session(capability);
                (0..peers).for_each(|to| session.give(Addressed { to, what: boundary }));
            }
            handler.obey();
            let mut has_more = false;
            let is_ending = handler.board.borrow().stop;
            let mut wait: Option<Duration> = None;
            let millis = handler.start.elapsed().as_millis() as u64;
            for (index, held) in lane_caps.iter_mut().enumerate() {
                let Some(caps) = held else { continue };
                let PhysicalEventHandler { lanes, probe, router, board, incidents, metrics, .. } =
                    &mut handler;
                let lane = &mut lanes[index];
                lane.go_on_to(millis);
                if is_ending {
                    lane.lift_quotas();
                }
                caps.go_on_to(lane.now());
                lane.release(|time| !probe.less_equal(&time));
                let progress = lane.advance(&mut buffer, |lane, stretch| {
                    caps.go_on_to(lane.now());
                    let mut out = parcels_out.activate();
                    let mut session = out.session(&caps.parcels);
                    router.route(lane.source, &mut stretch.events, |parcel| session.give(parcel));
                    drop(session);
                    if !stretch.dead_letters.is_empty() || stretch.dead_letters_dropped > 0 {
                        let letters = std::mem::take(&mut stretch.dead_letters);
                        let dropped = std::mem::take(&mut stretch.dead_letters_dropped);
                        letters_out.activate().session(&caps.letters).give((letters, dropped));
                    }
                    for control in stretch.control.drain(..) {
                        match control {
                            // Lanes end one by one; the worker tells when all have.
                            Control::Drained { newest_us } => {
                                let mut board = board.borrow_mut();
                                board.newest_us = board.newest_us.max(newest_us);
                            }
                            other => {
                                let what = number(other, incidents, metrics);
                                let mut out = control_out.activate();
                                let mut session = out.session(&caps.control);
                                (0..peers).for_each(|to| session.give(Addressed { to, what: what.clone() }));
                            }
                        }
                    }
                });
                match progress {
                    Progress::Idle => {}
                    Progress::More => has_more = true,
                    Progress::After(after) => wait = Some(wait.map_or(after, |wait| wait.min(after))),
                }
                add(&metrics.shed, lane.take_shed());
                caps.go_on_to(lane.now());
                if lane.has_ended() {
                    *held = None;
                }
            }
            if !was_drained && handler.lanes.iter().all(Lane::has_ended) {
                was_drained = true;
                news.push((None, Control::Drained { newest_us: handler.board.borrow().newest_us }));
                handler.mark(END, Lane::end);
            }
            if !news.is_empty() {
                let mut out = control_out.activate();
                let mut session = out.session(&*capability);
                for (to, what) in news {
                    match to {
                        Some(to) => session.give(Addressed { to, what }),
                        None => (0..peers).for_each(|to| session.give(Addressed { to, what: what.clone() })),
                    }
                }
            }
            handler.go_on(capability, boundaries_cap.as_mut(), millis);
            handler.measure();
            if handler.is_over(was_drained) {
                (control_cap, boundaries_cap) = (None, None);
                return;
            }
            if has_more {
                activator.activate();
            } else if let Some(wait) = wait {
                activator.activate_after(wait);
            }
            heartbeat.again(&activator, handler.rest(has_more));
        }
    });
    HandlerStreams { parcels, letters, control, boundaries }
}

impl PhysicalEventHandler {
    /// What the process asks of one worker, or of all.
    fn asked(&self) -> Vec<(Option<u32>, Control)> {
        let commands = self.commands.iter().flat_map(mpsc::Receiver::try_iter);
        let news = commands.map(|command| match command {
            Command::Stop => (None, Control::Stop),
            Command::Functions(number) => (None, Control::Functions(number)),
            Command::Terms { definition, terms } => (None, Control::Terms { definition, terms }),
            Command::EndTwin { id, at_us, dismiss } => {
                let owner = self.router.owner(operators::id::hash(id.as_bytes()));
                (Some(owner), Control::EndTwin { id, at_us, dismiss })
            }
            Command::Roster => (None, Control::Roster),
            Command::EndTwins { at_us, dismiss } => (None, Control::EndTwins { at_us, dismiss }),
            Command::Ask(number, Question::Twin(id)) => {
                let owner = self.router.owner(operators::id::hash(id.as_bytes()));
                (Some(owner), Control::Ask(number, 1, Question::Twin(id)))
            }
            Command::Ask(number, question) => {
                (None, Control::Ask(number, self.router.workers() as u32, question))
            }
        });
        news.collect()
    }

    /// The boundary that worker 0 commands now, if it is time for one.
    fn command_checkpoint(&mut self) -> Option<Boundary> {
        let told_us = self.told_us();
        let mut board = self.board.borrow_mut();
        let committed = board.committed.take();
        if let Some(Committed { places, released, .. }) = &committed {
            for (number, source) in &self.sources {
                let of = |places: &[Place]| places.get(usize::from(*number)).cloned().unwrap_or_default();
                source.committed(&of(places), &of(released));
            }
        }
        let coordinator = self.coordinator.as_mut()?;
        if committed.is_some() {
            coordinator.committed();
        }
        // Input that has ended is cut by its end.
        if self.lanes.iter().all(Lane::has_ended) && self.workers_with_lanes > 0 {
            return None;
        }
        match self.time {
            TimeMode::Live => coordinator.command(None, board.stop, self.metrics.happened()),
            // Time that goes on is something that happens.
            TimeMode::Recorded => {
                let told_us = told_us?;
                coordinator.command(Some(told_us), board.stop, told_us as u64)
            }
        }
    }

    /// How long nothing is to be done as time goes on.
    fn rest(&self, has_more: bool) -> Duration {
        let is_busy = has_more
            || self.lanes.iter().any(|lane| lane.in_flight_bytes() > 0)
            || self.coordinator.as_ref().is_some_and(|coordinator| coordinator.is_under_way)
            || self.board.borrow().stop;
        if is_busy {
            self.pulse.is_busy();
        }
        match self.time {
            TimeMode::Live if self.pulse.rests() => {
                self.coordinator.as_ref().map_or(REST, |coordinator| coordinator.rest(&self.metrics))
            }
            _ => BEAT,
        }
    }

    /// Recorded: the instant before which all sources have told everything.
    fn told_us(&self) -> Option<i64> {
        let open = self.lanes.iter().filter(|lane| !lane.has_ended());
        open.map(|lane| lane.now() as i64).min()
    }

    /// Does what the other workers ask: cuts the sources, stops them.
    fn obey(&mut self) {
        let mut board = self.board.borrow_mut();
        if let Some(boundary) = board.boundary
            && self.time == TimeMode::Live
            && !board.is_cut_asked
        {
            board.is_cut_asked = true;
            self.sources.iter().for_each(|(_, source)| source.boundary(boundary.number));
        }
        // Recorded input stops at a boundary, which is commanded first.
        let may_stop = match &self.coordinator {
            Some(coordinator) if self.time == TimeMode::Recorded => {
                coordinator.has_commanded_last || self.told_us().is_none()
            }
            _ => true,
        };
        if board.stop && may_stop {
            self.sources.iter().for_each(|(_, source)| source.stop());
        }
    }

    /// Time goes on for what is not of a lane. Under the number of a boundary it does so once all lanes
    /// have.
    fn go_on(
        &mut self,
        control: &mut Capability<u64>,
        boundaries: Option<&mut Capability<u64>>,
        millis: u64,
    ) {
        match self.time {
            TimeMode::Live => {
                let open = || self.lanes.iter().filter(|lane| !lane.has_ended());
                let heard = self.board.borrow().boundary.map_or(0, |boundary| boundary.number);
                let number = open().map(Lane::number).min().unwrap_or(heard).min(heard);
                let time = epoch::live(number, millis).max(*control.time());
                if number > epoch::number(*control.time()) {
                    self.mark(number, |lane| lane.mark(number));
                }
                control.downgrade(&time);
                if let Some(boundaries) = boundaries {
                    boundaries.downgrade(&time.max(*boundaries.time()));
                }
            }
            TimeMode::Recorded => {
                // A boundary is never commanded at an instant before this one.
                if let (Some(boundaries), Some(told_us)) = (boundaries, self.told_us()) {
                    boundaries.downgrade(&(told_us as u64).max(*boundaries.time()));
                }
            }
        }
    }

    /// Notes for the checkpoint what the source of each lane must be started from.
    fn mark(&mut self, number: u64, next: impl Fn(&Lane) -> Option<Place>) {
        let lanes = self.lanes.iter().map(|lane| Some((lane.source, next(lane)?)));
        let marks = lanes.chain(self.parked.iter().cloned().map(Some)).collect();
        let memories = self.lanes.iter_mut().map(|lane| (lane.source, lane.take_memory(number)));
        let memories = memories.chain(self.parked_memories.iter().cloned()).collect();
        let mut board = self.board.borrow_mut();
        board.marks.insert(number, marks);
        board.memories.insert(number, memories);
    }

    /// Whether no worker has anything more to tell: all lanes have ended, or there never was one
    /// and the run is to stop.
    fn is_over(&self, was_drained: bool) -> bool {
        let board = self.board.borrow();
        let all_drained = board.drained >= self.workers_with_lanes;
        was_drained && all_drained && (self.workers_with_lanes > 0 || board.stop)
    }

    fn measure(&mut self) {
        let bytes: usize = self.lanes.iter().map(Lane::in_flight_bytes).sum();
        let passed = self.probe.with_frontier(|frontier| frontier.first().copied());
        self.stall.look(passed, bytes, &self.board.borrow());
        if self.commands.is_some() {
            self.metrics.in_flight_bytes.store(bytes as i64, Ordering::Relaxed);
            let shown = |time: u64| match self.time {
                TimeMode::Live => epoch::millis(time),
                TimeMode::Recorded => time,
            };
            let lanes = self.lanes.iter().filter(|lane| !lane.has_ended()).map(Lane::now).min();
            let times = [lanes, Some(self.board.borrow().steps_time), passed];
            for (shows, time) in self.metrics.frontiers.iter().zip(times) {
                if let Some(time) = time {
                    shows.store(shown(time), Ordering::Relaxed);
                }
            }
        }
    }
}

/// Numbers a new incident.
fn number(control: Control, incidents: &mut u64, metrics: &Metrics) -> Control {
    let Control::SourceLost { source, at_us, .. } = control else { return control };
    *incidents += 1;
    metrics.incidents.fetch_add(1, Ordering::Relaxed);
    Control::SourceLost { source, at_us, incident: *incidents }
}
