//! Step 1 in the dataflow: lanes of sources -> physical events, in parcels for their owners.
//!
//! ```text
//!  lane ─ drain ─► decode ─► events ─► router ─► parcels        (to the owner of each twin)
//!    ▲               └─────► dead letters                       (kept by this worker)
//!    └── admission: bytes in flight, released as the probe passes (rule 7.5)
//! ```
//!
//! Each lane has an engine time of its own. Live it is the time since the start, under the number of
//! the last checkpoint that cut the lane; recorded it is the arrival up to which its source has told
//! everything (rule 2.3).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors::message::{Intake, RawMessage};
use connectors::place::Place;
use connectors::queue::Receiver;
use connectors::source::{Request, WayBack};
use operators::batch::EventBatch;
use operators::decode::{DeadLetter, Decoder, Memory, Message};
use operators::time::ArrivalTime;
use tracing::{debug, warn};

use crate::control::Control;
use crate::epoch;
use crate::plan::{Priority, TimeMode};
use crate::put_off::PutOff;
use crate::quarantine::{self, InHand};
use crate::quota::{Overload, Quotas};

/// Bytes that a lane may hand over in one activation, so that one lane does not starve a worker.
const DRAIN_BYTES_MAX: usize = 128 * 1024;
/// Bytes that a lane looks at in one activation while most of them are dropped.
const SHED_BYTES_MAX: usize = 1024 * 1024;
/// Messages that were put off and are taken in one activation, as jobs beside it wait for that.
const PUT_OFF_MAX: usize = 512;

/// One lane of a source.
pub struct Lane {
    /// Number of the source.
    pub source: u16,
    name: String,
    receiver: Receiver<Intake>,
    decoder: Decoder,
    /// What the decoder says to the devices goes there.
    way_back: Option<WayBack>,
    admission: Admission,
    intake: Vec<Intake>,
    time: TimeMode,
    /// Live: milliseconds since the start, as the worker last told.
    millis: u64,
    /// Number of the last checkpoint that has cut this lane.
    number: u64,
    /// What its source must be started from to have again what came after that cut.
    next: Place,
    /// What its source must be started from to have what it did not hand over, once it has ended.
    end: Option<Place>,
    /// What its decoder remembered at that cut, and at the end.
    memories: [Memory; 2],
    /// Positions that are not taken any more (rule 7.8).
    quarantined: Arc<BTreeSet<u64>>,
    /// The engine time up to which all is told, for recorded sources.
    told: u64,
    has_ended: bool,
    letters_max: LetterLimit,
    drain_bytes_max: usize,
    quotas: Quotas,
    /// Messages that wait for their turn.
    put_off: PutOff,
    /// Messages that were dropped since it was last asked.
    shed: u64,
}

/// What a lane may take and keep.
#[derive(Clone, Debug)]
pub struct LaneLimits {
    /// Bytes under way in the engine (rule 7.5).
    pub in_flight_bytes_max: usize,
    /// Dead letters that are kept.
    pub dead_letters_per_second_max: u32,
    /// How much is worked off in one go.
    pub priority: Priority,
    /// How much may be worked off a second.
    pub quotas: Quotas,
}

/// How it goes on with a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// What comes next wakes the worker.
    Idle,
    /// There may be more.
    More,
    /// There may be more, which may be taken after this time.
    After(Duration),
}

/// What one activation of a lane yields, in order of engine time.
#[derive(Default)]
pub struct Yield {
    /// Events, ready to be routed.
    pub events: EventBatch,
    /// What could not be taken.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters over the limit.
    pub dead_letters_dropped: u64,
    /// News of the source.
    pub control: Vec<Control>,
}

impl Lane {
    /// A lane of the source with this number and name.
    pub fn new(
        source: u16,
        name: &str,
        receiver: Receiver<Intake>,
        decoder: Decoder,
        time: TimeMode,
        limits: LaneLimits,
        quarantined: Arc<BTreeSet<u64>>,
    ) -> Self {
        Self {
            source,
            name: name.to_owned(),
            receiver,
            decoder,
            way_back: None,
            admission: Admission::new(limits.in_flight_bytes_max),
            intake: Vec::new(),
            time,
            millis: 0,
            number: 0,
            next: Place::default(),
            end: None,
            memories: Default::default(),
            quarantined,
            told: 0,
            has_ended: false,
            letters_max: LetterLimit::new(time, limits.dead_letters_per_second_max),
            drain_bytes_max: match limits.priority {
                Priority::Low => DRAIN_BYTES_MAX / 4,
                Priority::Normal => DRAIN_BYTES_MAX,
                Priority::High => DRAIN_BYTES_MAX * 4,
            },
            quotas: limits.quotas,
            put_off: PutOff::default(),
            shed: 0,
        }
    }

    /// Has the worker told when there is something to do.
    pub fn set_waker(&self, waker: connectors::queue::Waker) {
        self.receiver.set_waker(waker);
    }

    /// Has what its decoder says to the devices sent there.
    pub fn set_way_back(&mut self, way_back: WayBack) {
        self.way_back = Some(way_back);
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Bytes that are under way.
    pub fn in_flight_bytes(&self) -> usize {
        self.admission.bytes
    }

    /// Gives back what the dataflow is done with.
    pub fn release(&mut self, is_done: impl Fn(u64) -> bool) {
        self.admission.release(is_done);
    }

    /// The engine time of what is taken in now; never goes back.
    pub fn now(&self) -> u64 {
        match self.time {
            TimeMode::Live => epoch::live(self.number, self.millis),
            TimeMode::Recorded => self.told,
        }
    }

    /// Tells how long the run lasts, in milliseconds.
    pub fn go_on_to(&mut self, millis: u64) {
        self.millis = self.millis.max(millis);
    }

    /// Number of the last checkpoint that has cut it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What its source must be started from to have all that came after the checkpoint with this number,
    /// which has cut the lane, or came after its end; none where it ended without saying so.
    pub fn mark(&self, number: u64) -> Option<Place> {
        if self.number == number { Some(self.next.clone()) } else { self.end.clone() }
    }

    /// Takes what its decoder remembered where [`Lane::mark`] says.
    pub fn take_memory(&mut self, number: u64) -> Memory {
        std::mem::take(&mut self.memories[usize::from(self.number != number)])
    }

    /// What its source must be started from to have what it did not hand over, once it has ended.
    pub fn end(&self) -> Option<Place> {
        self.end.clone()
    }

    /// Takes in what is there, as far as it is admitted. Each stretch of one engine time
    /// ([`Lane::now`]) is given to `give`.
    pub fn advance(&mut self, buffer: &mut Yield, mut give: impl FnMut(&Lane, &mut Yield)) -> Progress {
        if self.has_ended || !self.admission.admits(self.now()) {
            return Progress::Idle;
        }
        let wait = match self.quotas.are_none() {
            true => Duration::ZERO,
            false => self.quotas.wait(Instant::now()),
        };
        let drain_bytes_max = match (wait, self.quotas.overload) {
            (Duration::ZERO, _) => self.drain_bytes_max,
            (wait, Overload::Wait) => return Progress::After(wait),
            // It is looked at, so that the source does not wait.
            (_, Overload::NewestPerTwin | Overload::Shed) => SHED_BYTES_MAX,
        };
        let (mut bytes, mut taken_bytes, mut messages) = (0, 0, 0);
        if wait.is_zero() {
            // All of them once quotas are lifted, as what comes then is not put off behind them.
            let most = if self.quotas.are_none() { usize::MAX } else { PUT_OFF_MAX };
            (messages, bytes) = self.take_put_off(most, buffer);
        }
        // Where what is more waits, one activation may take more than there is, which the next ones pay for.
        let messages_max = match self.quotas.overload {
            Overload::Wait => usize::MAX,
            // Those that were put off come first, so that no twin goes back.
            _ if !wait.is_zero() || !self.put_off.is_empty() => 0,
            Overload::NewestPerTwin | Overload::Shed => self.quotas.messages(),
        };
        let mut intake = std::mem::take(&mut self.intake);
        let drained_bytes = self.receiver.drain(drain_bytes_max, &mut intake);
        let is_empty = intake.is_empty();
        for item in intake.drain(..) {
            let item = match item {
                Intake::Message(message) if messages >= messages_max => {
                    self.put_off(message);
                    continue;
                }
                Intake::Message(message) => {
                    messages += 1;
                    Intake::Message(message)
                }
                // What was before a cut is in it.
                Intake::Boundary { .. } | Intake::End { .. } => {
                    let (put_off, put_off_bytes) = self.take_put_off(usize::MAX, buffer);
                    (messages, bytes) = (messages + put_off, bytes + put_off_bytes);
                    item
                }
                other => other,
            };
            if let Intake::Advance { .. } | Intake::Boundary { .. } | Intake::End { .. } = item {
                taken_bytes += bytes;
                self.admission.take(self.now(), std::mem::take(&mut bytes));
                give(self, buffer);
            }
            bytes += self.take(item, buffer);
        }
        self.intake = intake;
        self.admission.take(self.now(), bytes);
        self.quotas.take(messages, taken_bytes + bytes);
        give(self, buffer);
        if is_empty && self.receiver.is_closed() {
            // A source that was stopped may end without saying so.
            self.has_ended = true;
        }
        // What comes after a lane was emptied wakes the worker by itself.
        match drained_bytes >= drain_bytes_max {
            true => Progress::More,
            false if !self.put_off.is_empty() => Progress::After(self.quotas.wait(Instant::now())),
            false => Progress::Idle,
        }
    }

    /// What is there is worked off at once: the run ends.
    pub fn lift_quotas(&mut self) {
        self.quotas = Quotas::default();
    }

    /// Messages that were dropped since it was last asked.
    pub fn take_shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }

    /// Drops a message that is more than the job may have, or an older one of its twin instead.
    fn put_off(&mut self, message: RawMessage) {
        let is_dropped = self.quotas.overload != Overload::NewestPerTwin || self.put_off.put(message);
        self.shed += u64::from(is_dropped);
    }

    /// The messages that were put off first, now that they may be taken.
    fn take_put_off(&mut self, messages_max: usize, buffer: &mut Yield) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        while messages < messages_max
            && let Some(message) = self.put_off.take()
        {
            messages += 1;
            bytes += self.decode(&message, buffer);
        }
        (messages, bytes)
    }

    /// Takes one item; its weight.
    fn take(&mut self, item: Intake, buffer: &mut Yield) -> usize {
        let source = self.source;
        match item {
            Intake::Message(message) => return self.decode(&message, buffer),
            Intake::Unreadable { position, arrived_at_us, reason, payload } => {
                let at = ArrivalTime(arrived_at_us);
                let message = Message {
                    position,
                    arrived_at: at,
                    topic: b"",
                    payload: &payload,
                    retained: false,
                    oversize: None,
                    key: None,
                    headers: &[],
                };
                buffer.dead_letters.push(DeadLetter::of(&message, source, reason, &payload));
                buffer.dead_letters_dropped += self.letters_max.enforce(at, &mut buffer.dead_letters);
            }
            Intake::Advance { to_us } => self.told = self.told.max(to_us.max(0) as u64),
            Intake::Boundary { number, next } => {
                (self.number, self.next) = (number, next);
                self.memories[0] = self.decoder.memory();
            }
            Intake::End { newest_us, next } => {
                self.memories[1] = self.decoder.memory();
                (self.has_ended, self.end) = (true, Some(next));
                buffer.control.push(Control::Drained { newest_us });
            }
            // The incident is numbered by whoever tells the others.
            Intake::Lost { at_us, reason } => {
                warn!(source = %self.name, %reason, "source lost");
                buffer.control.push(Control::SourceLost { source, at_us, incident: 0 });
            }
            Intake::Restored { at_us } => {
                buffer.control.push(Control::SourceRestored { source, at_us });
            }
        }
        0
    }

    fn decode(&mut self, raw: &RawMessage, buffer: &mut Yield) -> usize {
        let at = ArrivalTime(raw.arrived_at_us);
        let message = Message {
            position: raw.position,
            arrived_at: at,
            topic: &raw.topic,
            payload: &raw.payload,
            retained: raw.retained,
            oversize: raw.oversize,
            key: raw.key.as_deref(),
            headers: &raw.headers,
        };
        let letters_before = buffer.dead_letters.len();
        if !self.quarantined.is_empty() && self.quarantined.contains(&raw.position) {
            let reason = "quarantined: the process died on it twice".into();
            buffer.dead_letters.push(DeadLetter::of(&message, self.source, reason, &raw.payload));
            return raw.topic.len() + raw.payload.len();
        }
        let (source, position) = (self.source, raw.position);
        quarantine::take_in_hand(Some(InHand { source, position, operator: "decode" }));
        self.decoder.decode(&message, &mut buffer.events, &mut buffer.dead_letters);
        if buffer.dead_letters.len() > letters_before {
            buffer.dead_letters_dropped += self.letters_max.enforce(at, &mut buffer.dead_letters);
        }
        quarantine::take_in_hand(None);
        for operators::decode::Request { topic, payload } in self.decoder.take_requests() {
            let is_sent = self.way_back.as_ref().is_some_and(|way| way.send(Request { topic, payload }));
            if !is_sent {
                // It is made again while there is reason for it, and each time there is a dead letter that says why.
                debug!(source = %self.name, "request to a device dropped");
            }
        }
        raw.topic.len() + raw.payload.len()
    }
}

/// Which bytes are under way, by engine time.
struct Admission {
    bytes: usize,
    bytes_max: usize,
    by_time: VecDeque<(u64, usize)>,
}

impl Admission {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, by_time: VecDeque::new() }
    }

    /// Whether more may be taken at a time. What is under way at that very time is released only
    /// after time has gone on, so it holds nothing back when it is all there is.
    fn admits(&self, time: u64) -> bool {
        let only_this_time = || self.by_time.iter().all(|(other, _)| *other >= time);
        self.bytes < self.bytes_max || only_this_time()
    }

    fn take(&mut self, time: u64, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.bytes += bytes;
        match self.by_time.back_mut() {
            Some((last, sum)) if *last == time => *sum += bytes,
            _ => self.by_time.push_back((time, bytes)),
        }
    }

    fn release(&mut self, is_done: impl Fn(u64) -> bool) {
        while let Some((time, bytes)) = self.by_time.front() {
            if !is_done(*time) {
                return;
            }
            self.bytes -= bytes;
            self.by_time.pop_front();
        }
    }
}

/// How many dead letters a second are kept (rule 8.2). Recorded input keeps all, as what is kept
/// must not depend on how many workers read it.
struct LetterLimit {
    per_second_max: Option<u32>,
    second: i64,
    kept: u32,
}

impl LetterLimit {
    fn new(time: TimeMode, per_second_max: u32) -> Self {
        let per_second_max = (time == TimeMode::Live).then_some(per_second_max);
        Self { per_second_max, second: 0, kept: 0 }
    }

    /// Drops the last letters where there are too many; how many.
    fn enforce(&mut self, at: ArrivalTime, letters: &mut Vec<DeadLetter>) -> u64 {
        let Some(most) = self.per_second_max else { return 0 };
        let second = at.0.div_euclid(operators::time::SECOND_US);
        if second != self.second {
            (self.second, self.kept) = (second, 0);
        }
        let new = letters.iter().rev().take_while(|letter| letter.at == at).count();
        let allowed = (most - self.kept.min(most)) as usize;
        let dropped = new.saturating_sub(allowed);
        letters.truncate(letters.len() - dropped);
        self.kept += (new - dropped) as u32;
        dropped as u64
    }
}
