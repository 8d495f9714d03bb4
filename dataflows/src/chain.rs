//! Steps 2 to 5 of one worker as the dataflow drives them: what comes in is worked off at once
//! (live) or in the order of its time (recorded), and so are ticks and walks, a stretch at a time.
//!
//! Checkpoints cut here. Live, what overtakes a boundary waits in the stash until all that belongs before
//! it has come; recorded, everything waits for its time, and a boundary is one.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors::clock::Clock;
use connectors::queue::Sender;
use operators::batch::EventBatch;
use operators::decode::DeadLetter;
use timely::scheduling::{Activator, SyncActivator};

use crate::ask::{Answered, Collecting, LAST, PartOfReply, Question};
use crate::board::{Board, END, Marks};
use crate::checkpoint::{Memories, PartMessage};
use crate::control::{Boundary, Control};
use crate::epoch;
use crate::look::{Look, Looked};
use crate::plan::TimeMode;
use crate::pulse::{BEAT, Heartbeat, Pulse};
use crate::router::Parcel;
use crate::stash::{self, Stashed};
use crate::twins::{Stamp, Twins};

/// Ticks and steps of a walk that one activation works off.
const BUDGET: usize = 2_048;
/// How soon a recorder that was full is offered more.
const RETRY: Duration = Duration::from_millis(5);
/// How long rows wait for their batch to be full.
const ROWS_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may wait to go out before ticks and walks wait too.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Recorded events that are worked off before their calls are waited for.
const CALLS_STRETCH: usize = 4_096;
/// Before every instant: nothing is due.
const BEFORE_ALL: i64 = i64::MIN / 2;

/// Dead letters of a lane, and how many more there were.
pub type Letters = (Vec<DeadLetter>, u64);

/// How far the inputs of the chain have come: the least time that each may still bring; none where one
/// has ended.
#[derive(Clone, Copy, Debug)]
pub struct Frontiers {
    /// Physical events.
    pub parcels: Option<u64>,
    /// Dead letters.
    pub letters: Option<u64>,
    /// News.
    pub control: Option<u64>,
    /// Boundaries of checkpoints.
    pub boundaries: Option<u64>,
}

impl Frontiers {
    /// Whether nothing more will come.
    pub fn have_ended(&self) -> bool {
        [self.parcels, self.letters, self.control, self.boundaries].iter().all(Option::is_none)
    }

    /// Recorded: the time before which all is there; none where all is.
    fn closed(&self) -> Option<u64> {
        [self.parcels, self.letters, self.boundaries].into_iter().flatten().min()
    }

    /// Live: whether all that belongs before a checkpoint is there.
    fn have_reached(&self, number: u64) -> bool {
        let inputs = [self.parcels, self.letters, self.control];
        inputs.into_iter().flatten().all(|time| epoch::number(time) >= number)
    }
}

/// Steps 2 to 5 on one worker.
pub struct Chain {
    /// The job's number among those of its process.
    pub job_number: u32,
    /// How many workers there are.
    peers: u32,
    /// The twins, their digital events included.
    pub twins: Twins,
    time: TimeMode,
    clock: Arc<dyn Clock>,
    start: Instant,
    board: Rc<RefCell<Board>>,
    recorder: Sender<PartMessage>,
    /// Events that are not to be worked off yet: their engine time, source, and themselves.
    stash: Vec<Stashed>,
    stashed_letters: Vec<(u64, Letters)>,
    stashed_control: Vec<(u64, Control)>,
    /// Boundaries that were commanded and not reached, in their order.
    announced: VecDeque<Boundary>,
    /// Number of the last checkpoint that has cut this worker.
    number: u64,
    /// Recorded input from here on is left to the next run.
    until_us: Option<i64>,
    /// The last checkpoint has cut: nothing more is done.
    is_over: bool,
    rows_at: Instant,
    heartbeat: Heartbeat,
    pulse: Arc<Pulse>,
    /// How many workers answer each of the questions that are open, by their numbers.
    asked: HashMap<u64, u32>,
    /// Questions about one twin, each with its number.
    twins_asked: Vec<(u64, String)>,
    /// What the archive answers.
    looked: Arc<Looked>,
}

/// What a chain is made of beside its twins.
pub struct ChainParts {
    /// The job's number among those of its process.
    pub job_number: u32,
    /// How many workers there are.
    pub peers: u32,
    /// Whose clock rules.
    pub time: TimeMode,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When the run began.
    pub start: Instant,
    /// What the operators of the worker share.
    pub board: Rc<RefCell<Board>>,
    /// Takes the worker's part of checkpoints.
    pub recorder: Sender<PartMessage>,
    /// Where recorded input is to stop.
    pub until_us: Option<i64>,
    /// Whether the job is at rest.
    pub pulse: Arc<Pulse>,
}

impl Chain {
    /// No event yet.
    pub fn new(twins: Twins, parts: ChainParts) -> Self {
        let ChainParts { job_number, peers, time, clock, start, board, recorder, until_us, pulse } = parts;
        Self {
            job_number,
            peers,
            twins,
            time,
            clock,
            start,
            board,
            recorder,
            stash: Vec::new(),
            stashed_letters: Vec::new(),
            stashed_control: Vec::new(),
            announced: VecDeque::new(),
            number: 0,
            until_us,
            is_over: false,
            rows_at: start,
            heartbeat: Heartbeat::default(),
            pulse,
            asked: HashMap::new(),
            twins_asked: Vec::new(),
            looked: Looked::shared(),
        }
    }

    /// What wakes the worker for the archive's answers.
    pub fn wakes(&self, activator: SyncActivator) {
        self.looked.wakes(activator);
    }

    /// A checkpoint is to be made.
    pub fn hear_boundary(&mut self, boundary: Boundary) {
        self.announced.push_back(boundary);
        self.tell_handler(|board| (board.boundary, board.is_cut_asked) = (Some(boundary), false));
    }

    /// News from other workers, in the order of the checkpoints that they belong to.
    pub fn hear(&mut self, time: u64, control: Control) {
        let is_state = matches!(
            control,
            Control::SourceLost { .. }
                | Control::SourceRestored { .. }
                | Control::EndTwins { .. }
                | Control::EndTwin { .. }
                | Control::Roster
                | Control::Terms { .. }
                | Control::Functions(_)
        );
        if is_state && self.time == TimeMode::Live && epoch::number(time) > self.number {
            return self.stashed_control.push((time, control));
        }
        match control {
            Control::SourceLost { source, at_us, incident } => {
                self.twins.source_lost(source, at_us, incident);
            }
            Control::SourceRestored { source, .. } => self.twins.source_restored(source),
            Control::Terms { definition, terms } => {
                self.twins.digital.set_definition(definition);
                self.twins.set_terms(terms);
            }
            Control::Functions(number) => self.twins.set_functions(number),
            Control::EndTwins { at_us, dismiss } => self.twins.end_all(at_us, dismiss),
            Control::EndTwin { id, at_us, dismiss } => self.twins.end_one(&id, at_us, dismiss),
            Control::Roster => self.twins.renew_roster(),
            Control::Ask(number, workers, question) => {
                self.asked.insert(number, workers);
                match question {
                    Question::Twin(id) => self.twins_asked.push((number, id)),
                    Question::Recent { table, twin } => {
                        let answers = self.looked.clone();
                        self.twins.digital.look(Look { number, table, twin, answers });
                    }
                    other => {
                        let collecting = Collecting::new(other);
                        collecting.into_iter().for_each(|one| self.twins.ask(number, one));
                    }
                }
            }
            Control::Stop => self.tell_handler(|board| board.stop = true),
            Control::Drained { newest_us } => self.tell_handler(|board| {
                board.drained += 1;
                board.newest_us = board.newest_us.max(newest_us);
            }),
        }
    }

    /// Dead letters of this worker's lanes.
    pub fn take_letters(&mut self, time: u64, letters: Letters) {
        match self.time {
            TimeMode::Live if epoch::number(time) <= self.number => self.keep_letters(letters),
            _ => self.stashed_letters.push((time, letters)),
        }
    }

    fn keep_letters(&mut self, (letters, dropped): Letters) {
        letters.iter().for_each(|letter| self.twins.dead_letter(letter));
        self.twins.dead_letters_dropped(dropped);
    }

    fn tell_handler(&self, write: impl FnOnce(&mut Board)) {
        let mut board = self.board.borrow_mut();
        write(&mut board);
        if let Some(handler) = &board.handler {
            handler.activate();
        }
    }

    /// Live, events are worked off as they come; recorded ones wait for their time (rule 2.3).
    pub fn take(&mut self, time: u64, parcel: Parcel) {
        let Parcel { source, events, .. } = parcel;
        match self.time {
            TimeMode::Live if epoch::number(time) <= self.number => self.apply_now(source, &events),
            _ => self.stash.push((time, source, events)),
        }
    }

    fn apply_now(&mut self, source: u16, events: &EventBatch) {
        let clock = &self.clock;
        let now_us = || clock.wall_us();
        self.twins.apply(events, 0..events.len(), source, Stamp::Clock(&now_us));
    }

    /// Works off what is due, checkpoints included; this worker's answers to questions.
    pub fn go_on(&mut self, frontiers: Frontiers) -> Vec<Answered> {
        let mut answers = Vec::new();
        if self.twins.are_waiting() {
            self.twins.take_answers(self.clock.wall_us());
        }
        let now_us = match self.time {
            TimeMode::Live => self.work_off_live(frontiers),
            TimeMode::Recorded => self.work_off_recorded(frontiers),
        };
        if frontiers.have_ended() && !self.is_held() {
            if !self.is_over {
                self.twins.tick(now_us, self.time == TimeMode::Recorded, usize::MAX);
                let at_us = (self.time == TimeMode::Recorded).then_some(i64::MAX);
                self.cut(Boundary { number: self.number + 1, at_us, last: true });
            }
            let survey = Collecting::new(Question::Survey);
            survey.into_iter().for_each(|one| self.twins.ask(LAST, one));
            while self.twins.is_sweeping() {
                answers.extend(self.twins.sweep(now_us, BUDGET));
            }
        } else if self.board.borrow().waiting_bytes < WAITING_BYTES_MAX {
            if !self.is_over {
                self.twins.tick(now_us, false, BUDGET);
            }
            answers.extend(self.twins.sweep(now_us, BUDGET));
            self.twins.write_bin();
        }
        answers.extend(self.looked.take());
        for (number, id) in std::mem::take(&mut self.twins_asked) {
            answers.push((number, PartOfReply::Twin(self.twins.view(&id, now_us))));
        }
        let answered = |(number, part): (u64, PartOfReply)| {
            let workers = self.asked.remove(&number).unwrap_or(self.peers);
            Answered { number, workers, part }
        };
        answers.into_iter().map(answered).collect()
    }

    /// Cuts where a boundary is reached, and then works off what had overtaken it.
    fn work_off_live(&mut self, frontiers: Frontiers) -> i64 {
        while let Some(boundary) = self.announced.front().copied()
            && frontiers.have_reached(boundary.number)
        {
            self.announced.pop_front();
            self.cut(boundary);
            for (time, letters) in std::mem::take(&mut self.stashed_letters) {
                self.take_letters(time, letters);
            }
            for (time, control) in std::mem::take(&mut self.stashed_control) {
                self.hear(time, control);
            }
            for (time, source, events) in std::mem::take(&mut self.stash) {
                self.take(time, Parcel { to: 0, source, events });
            }
        }
        self.clock.wall_us()
    }

    /// Whether time stands still: recorded input waits for the answers of functions (rule 2.3).
    pub fn is_held(&self) -> bool {
        self.time == TimeMode::Recorded && self.twins.are_waiting()
    }

    /// Works off recorded input up to each boundary, and then up to where it is closed. Answers how far
    /// time has come.
    fn work_off_recorded(&mut self, frontiers: Frontiers) -> i64 {
        let closed_us = frontiers.closed().map_or(i64::MAX, |time| time as i64);
        loop {
            let announced_us = self.announced.front().and_then(|boundary| boundary.at_us);
            let wanted = [announced_us, self.until_us].into_iter().flatten().min();
            let Some(at_us) = wanted.filter(|at_us| *at_us <= closed_us && !self.is_over) else { break };
            if !self.work_off_until(at_us) {
                return BEFORE_ALL;
            }
            let boundary = match self.announced.front().copied() {
                Some(boundary) if announced_us == Some(at_us) => {
                    self.announced.pop_front();
                    boundary
                }
                _ => Boundary { number: self.number + 1, at_us: Some(at_us), last: true },
            };
            self.cut(boundary);
        }
        if self.is_over {
            // What is left belongs to the next run.
            self.stash.clear();
            self.stashed_letters.clear();
        } else if !self.work_off_until(closed_us) {
            return BEFORE_ALL;
        }
        match frontiers.closed() {
            Some(_) => closed_us - 1,
            None if frontiers.have_ended() => self.board.borrow().newest_us.unwrap_or(0),
            // All records are there, and the newest arrival is yet to be told.
            None => BEFORE_ALL,
        }
    }

    /// A checkpoint cuts here.
    fn cut(&mut self, boundary: Boundary) {
        // The part of the one before is with the recorder as a rule, as its manifest is there.
        while self.twins.is_writing() {
            self.twins.write_bin_waiting();
        }
        self.number = boundary.number;
        self.is_over = boundary.last;
        // A recorder that has ended has raised the alarm.
        let (marks, memories) = self.marks(boundary.number);
        let _ = self.recorder.send_over_bound(PartMessage::Begin(boundary, marks, memories));
        self.twins.cut(self.recorder.clone());
        self.twins.digital.boundary(boundary);
        while boundary.last && self.twins.is_writing() {
            self.twins.write_bin_waiting();
        }
    }

    /// Where the sources of this worker's lanes are cut. Their handler has noted it before it let time go on
    /// to the boundary; lanes that ended before they were cut are cut by their end.
    fn marks(&self, number: u64) -> (Marks, Memories) {
        let mut board = self.board.borrow_mut();
        let marks = board.marks.remove(&number).or_else(|| board.marks.get(&END).cloned());
        let memories = board.memories.remove(&number).or_else(|| board.memories.get(&END).cloned());
        (marks.unwrap_or_else(|| Some(Vec::new())), memories.unwrap_or_default())
    }

    /// Works off the stashed events before an instant; `false` where it has to wait for answers first.
    fn work_off_until(&mut self, limit_us: i64) -> bool {
        while !self.is_held() {
            if self.work_off_stretch(limit_us) {
                return !self.is_held();
            }
        }
        false
    }

    /// Works off stashed events before an instant, in order of (time, twin, source, position); whether all of
    /// them. Where functions are called, only so many at once.
    fn work_off_stretch(&mut self, limit_us: i64) -> bool {
        let mut order = stash::before(&self.stash, limit_us);
        let mut stretch_us = limit_us;
        if self.twins.call_outside() && order.len() > CALLS_STRETCH {
            let (before, (at_us, ..), _) = order.select_nth_unstable(CALLS_STRETCH);
            // What is of one instant stays together.
            let first_us = before.iter().map(|(at_us, ..)| *at_us).min().unwrap_or(*at_us);
            stretch_us = (*at_us).max(first_us + 1);
            order.retain(|(at_us, ..)| *at_us < stretch_us);
        }
        let key = |(at_us, batch, index): &(i64, usize, usize)| {
            let (_, source, events) = &self.stash[*batch];
            let head = &events.heads()[*index];
            (*at_us, events.id(*index), *source, head.position, head.element)
        };
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let stash = std::mem::take(&mut self.stash);
        for run in order.chunk_by(|a, b| a.1 == b.1) {
            let (time, source, events) = &stash[run[0].1];
            let indexes = run.iter().map(|(_, _, index)| *index);
            self.twins.apply(events, indexes, *source, Stamp::Arrival { told_us: *time as i64 });
        }
        self.stash = stash::still_open(stash, stretch_us);
        for (time, (letters, dropped)) in std::mem::take(&mut self.stashed_letters) {
            let is_closed = |letter: &DeadLetter| letter.at.0.max(time as i64) < stretch_us;
            let (closed, open): (Vec<_>, Vec<_>) = letters.into_iter().partition(is_closed);
            self.keep_letters((closed, dropped));
            if !open.is_empty() {
                self.stashed_letters.push((time, (open, 0)));
            }
        }
        stretch_us == limit_us
    }

    /// The time under which events go out: nothing later may go out under an earlier one.
    pub fn held_time(&self, frontiers: Frontiers) -> Option<u64> {
        match self.time {
            TimeMode::Live => Some(epoch::live(self.number, self.start.elapsed().as_millis() as u64)),
            TimeMode::Recorded if self.is_held() => None,
            TimeMode::Recorded => frontiers.closed(),
        }
    }

    /// Tells the other operators of the worker how far this one has come.
    pub fn tell(&self, time: u64) {
        self.board.borrow_mut().steps_time = time;
    }

    /// Whether rows leave though their batches are not full.
    pub fn is_time_for_rows(&mut self, has_ended: bool) -> bool {
        let now = Instant::now();
        let is_time = has_ended || now >= self.rows_at;
        if is_time {
            self.rows_at = now + ROWS_WAIT;
        }
        is_time
    }

    /// Counts what was done. It is something that a checkpoint would keep, so the job is not at rest.
    pub fn report(&mut self) {
        self.twins.report();
        if self.twins.take_counted() {
            self.pulse.is_busy();
        }
    }

    /// Has the operator activated again: at once while work is left, else at the next heartbeat. Its part in how
    /// far time has come goes on with that of the physical event handlers, which activate it.
    pub fn schedule(&mut self, activator: &Activator) {
        let can_go_on = self.board.borrow().waiting_bytes < WAITING_BYTES_MAX;
        let now_us = self.clock.wall_us();
        let has_ticks = self.time == TimeMode::Live && self.twins.is_busy(now_us);
        if can_go_on && (has_ticks || self.twins.can_write()) {
            activator.activate();
        } else if self.twins.is_writing() {
            activator.activate_after(RETRY);
        }
        let rest = if self.time == TimeMode::Live { self.twins.rest(now_us) } else { BEAT };
        self.heartbeat.again(activator, rest);
    }
}
