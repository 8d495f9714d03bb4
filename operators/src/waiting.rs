//! Updates that wait for functions outside, and answers that are awaited (rule 6.2): a call is state of its
//! twin, not something that holds the dataflow up.
//!
//! ```text
//!   event ─► hold ─► S' (ahead) ─► calls ─ ─ ─ ─► answers ─► answer ─► take_ready ─► the twin's steps, in order
//!                      └ later updates of the twin stand behind it
//! ```
//! The twin's own record stays at its last consolidated update. What waits is kept as it came, and the shadow
//! that runs ahead is only there to say what functions are told; so a checkpoint keeps the events, and after a
//! restore the same calls are made again, with the same update and the same S'.
//!
//! Where a job would rather not wait (`on_late: previous` or `skip`), the update is consolidated at once and
//! the call is kept beside: its answer makes a state of its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::batch::{Event, EventBatch};
use crate::functions::{Augmentation, OnLate, Outcome, Outside, SHADOWING_PLACE, Told, write_body};
use crate::roster::Facts;
use crate::shadowing::{Shadow, Touched};
use crate::snapshot::{SnapshotError, require};
use crate::twin::TwinType;

mod unshadowed;

pub use unshadowed::Known;
use unshadowed::Unshadowed;

/// The part of a twin's record that holds what waits. Most twins wait for nothing: eight bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Waiting(Option<Box<Held>>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Held {
    /// Numbered, and not consolidated yet; the oldest first.
    updates: VecDeque<WaitingUpdate>,
    /// Calls of updates that did not wait.
    late: Vec<LateCall>,
    /// The shadow after the newest update that waits; made again after a restore.
    #[serde(skip)]
    ahead: Option<Shadow>,
    /// Events that wait for step 2. They stand last, as records of version 2 have none.
    unshadowed: VecDeque<Unshadowed>,
}

/// An update that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitingUpdate {
    /// The event as it came, alone in its batch.
    pub event: EventBatch,
    /// When it is consolidated, where that does not depend on its answers: recorded input.
    pub at_us: Option<i64>,
    calls: Vec<OpenCall>,
}

/// A call of a waiting update.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenCall {
    /// Its place among the functions outside.
    function: u16,
    outcome: Option<Outcome>,
    /// What is to be told in a call that is not made yet, as it waits for what the one before keeps.
    #[serde(skip)]
    put_off: Option<Vec<u8>>,
}

/// The parts of a twin that say what a function is told.
#[derive(Clone, Copy, Debug)]
pub struct SoFar<'a> {
    /// After its last consolidated update.
    pub shadow: &'a Shadow,
    /// What functions keep since then.
    pub augmentation: &'a Augmentation,
    /// What the roster says of it.
    pub facts: Facts<'a>,
}

/// A call of an update that did not wait for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LateCall {
    /// Number of the update.
    pub update: u64,
    /// The event's head, without its values.
    pub event: EventBatch,
    function: u16,
    body: Vec<u8>,
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The function's place among those outside of the type.
    pub function: u16,
    /// Number of the update.
    pub update: u64,
    /// What the function is told: a JSON object.
    pub body: Vec<u8>,
}

/// What came of an answer.
#[derive(Debug)]
pub enum Answered {
    /// An update that waits has it; perhaps the last that it waited for.
    Waiting,
    /// It is one of an update that went on without it.
    Late(LateCall, Outcome),
    /// Nobody waits for it any more.
    Forgotten,
}

impl Waiting {
    /// Whether updates wait.
    pub fn holds_updates(&self) -> bool {
        self.0.as_ref().is_some_and(|held| !held.updates.is_empty())
    }

    /// Whether nothing waits, and no answer is awaited.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The shadow after the newest update that waits, where one does.
    pub(crate) fn ahead(&self) -> Option<&Shadow> {
        self.0.as_ref()?.ahead.as_ref()
    }

    /// How many updates wait, and how many answers to others are awaited.
    pub fn counts(&self) -> (usize, usize) {
        let counts = |held: &Held| (held.updates.len() + held.unshadowed.len(), held.late.len());
        self.0.as_deref().map_or((0, 0), counts)
    }

    /// Holds an event where it has to wait, for an answer of its own or behind another; says which calls it
    /// makes. `false` where it may go on at once.
    pub fn hold(
        &mut self,
        so_far: SoFar<'_>,
        event: &Event<'_>,
        at_us: Option<i64>,
        definition: &TwinType,
        touched: &mut Touched,
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        let outside = definition.functions.outside();
        let waits = |one: &&Outside| one.on_late == OnLate::Wait;
        let is_behind = self.holds_updates();
        if !is_behind {
            let carried: Vec<u16> = event.properties().map(|(property, _)| property).collect();
            if !outside.iter().filter(waits).any(|one| one.runs_on(&carried)) {
                return false;
            }
        }
        let held = self.0.get_or_insert_default();
        let ahead = held.ahead.get_or_insert_with(|| so_far.shadow.clone());
        touched.clear();
        let shadowed = ahead.apply(event, &definition.model, definition.clock, touched);
        let mut calls = Vec::new();
        for (function, one) in (0..).zip(outside).filter(|(_, one)| waits(one) && one.runs_on(&touched.taken))
        {
            let (update, body) =
                (shadowed.update, body(event, shadowed.update, definition, ahead, so_far.facts));
            let mut call = OpenCall { function, outcome: None, put_off: None };
            let is_called = |waiting: &WaitingUpdate| waiting.call(function).is_some();
            match one.keeps() && held.updates.iter().any(is_called) {
                true => call.put_off = Some(body),
                false => {
                    let body = one.told(body, so_far.augmentation);
                    wanted.push(Wanted { function, update, body });
                }
            }
            calls.push(call);
        }
        if calls.is_empty() && !is_behind {
            // It is stale, or took nothing that a function asks for.
            held.ahead = None;
            self.let_go();
            return false;
        }
        let mut alone = EventBatch::default();
        alone.push(*event);
        held.updates.push_back(WaitingUpdate { event: alone, at_us, calls });
        let waiting_max = outside.iter().filter(waits).map(|one| one.waiting_max).min();
        if held.updates.len() > waiting_max.unwrap_or(usize::MAX) {
            held.updates[0].give_up("too many updates of the twin wait behind it");
        }
        true
    }

    /// Makes the calls of an update that does not wait for them; how many were not made, as enough answers
    /// are awaited already.
    pub fn call_late(
        &mut self,
        SoFar { shadow, augmentation, facts }: SoFar<'_>,
        event: &Event<'_>,
        definition: &TwinType,
        taken: &[u16],
        wanted: &mut Vec<Wanted>,
    ) -> u64 {
        let mut skipped = 0;
        for (function, outside) in (0..).zip(definition.functions.outside()) {
            if outside.on_late == OnLate::Wait || !outside.runs_on(taken) {
                continue;
            }
            let held = self.0.get_or_insert_default();
            let open = held.late.iter().filter(|call| call.function == function).count();
            let open_max = if outside.on_late == OnLate::Skip { 1 } else { outside.waiting_max };
            if open >= open_max {
                skipped += 1;
                continue;
            }
            let update = shadow.update();
            let body = outside.told(body(event, update, definition, shadow, facts), augmentation);
            let mut head = EventBatch::default();
            head.push(event.without_values());
            held.late.push(LateCall { update, event: head, function, body: body.clone() });
            wanted.push(Wanted { function, update, body });
        }
        self.let_go();
        skipped
    }

    /// Takes what became of the call of a function for an update; `done` is the number of the twin's last
    /// consolidated update.
    pub fn answer(&mut self, update: u64, function: u16, outcome: Outcome, done: u64) -> Answered {
        let Some(held) = &mut self.0 else { return Answered::Forgotten };
        if function == SHADOWING_PLACE {
            return match held.answer_unshadowed(update, outcome, done) {
                true => Answered::Waiting,
                false => Answered::Forgotten,
            };
        }
        let place = update.checked_sub(done + 1).and_then(|place| usize::try_from(place).ok());
        if let Some(waiting) = place.and_then(|place| held.updates.get_mut(place)) {
            let call = waiting.calls.iter_mut().find(|call| call.function == function);
            return match call.filter(|call| call.outcome.is_none()) {
                Some(call) => {
                    call.outcome = Some(outcome);
                    Answered::Waiting
                }
                None => Answered::Forgotten,
            };
        }
        let is_it = |call: &LateCall| call.update == update && call.function == function;
        let Some(place) = held.late.iter().position(is_it) else { return Answered::Forgotten };
        let call = held.late.swap_remove(place);
        // What older ones would still say is overtaken.
        held.late.retain(|other| other.function != function || other.update > update);
        self.let_go();
        Answered::Late(call, outcome)
    }

    /// Takes the oldest update that waits, if it has all answers.
    pub fn take_ready(&mut self) -> Option<WaitingUpdate> {
        let held = self.0.as_mut()?;
        if !held.updates.front()?.is_ready() {
            return None;
        }
        let update = held.updates.pop_front();
        if held.updates.is_empty() {
            held.ahead = None;
            self.let_go();
        }
        update
    }

    /// Makes the calls that have waited for what the calls before them keep. Updates that have all their answers
    /// were taken before.
    pub fn go_on(
        &mut self,
        SoFar { shadow, augmentation, .. }: SoFar<'_>,
        definition: &TwinType,
        wanted: &mut Vec<Wanted>,
    ) {
        let Some(held) = &mut self.0 else { return };
        for (function, one) in (0..).zip(definition.functions.outside()).filter(|(_, one)| one.keeps()) {
            let numbers = shadow.update() + 1..;
            let calls = numbers.zip(&mut held.updates).filter_map(|(update, waiting)| {
                Some((update, waiting.calls.iter_mut().find(|call| call.function == function)?))
            });
            let first = { calls }.next();
            if let Some((update, call)) = first
                && let Some(body) = call.put_off.take()
            {
                wanted.push(Wanted { function, update, body: one.told(body, augmentation) });
            }
        }
    }

    /// Nothing is waited for any more: every update is ready, without the answers that are not there.
    pub fn give_up(&mut self, reason: &str) {
        let Some(held) = &mut self.0 else { return };
        held.unshadowed.iter_mut().for_each(|event| event.give_up(reason));
        held.updates.iter_mut().for_each(|update| update.give_up(reason));
        held.late.clear();
        self.let_go();
    }

    /// After a restore: the shadow ahead is made again, and every call that has no answer is to be made
    /// again.
    pub fn resume(&mut self, so_far: SoFar<'_>, definition: &TwinType, wanted: &mut Vec<Wanted>) {
        let Some(held) = &mut self.0 else { return };
        let mut ahead = so_far.shadow.clone();
        let mut called = Vec::new();
        let mut touched = Touched::default();
        for waiting in &mut held.updates {
            let event = waiting.event.event(0);
            touched.clear();
            let shadowed = ahead.apply(&event, &definition.model, definition.clock, &mut touched);
            for call in &mut waiting.calls {
                let outside = &definition.functions.outside()[usize::from(call.function)];
                let is_behind = outside.keeps() && called.contains(&call.function);
                called.push(call.function);
                if call.outcome.is_some() {
                    continue;
                }
                let (function, update) = (call.function, shadowed.update);
                let body = body(&event, update, definition, &ahead, so_far.facts);
                match is_behind {
                    true => call.put_off = Some(body),
                    false => {
                        let body = outside.told(body, so_far.augmentation);
                        wanted.push(Wanted { function, update, body });
                    }
                }
            }
        }
        let late = held.late.iter();
        wanted.extend(late.map(|call| Wanted {
            function: call.function,
            update: call.update,
            body: call.body.clone(),
        }));
        held.ahead = (!held.updates.is_empty()).then_some(ahead);
        held.resume_unshadowed(so_far, definition, wanted);
        self.let_go();
    }

    fn let_go(&mut self) {
        let is_over =
            |held: &Held| held.updates.is_empty() && held.late.is_empty() && held.unshadowed.is_empty();
        if self.0.as_deref().is_some_and(is_over) {
            self.0 = None;
        }
    }

    /// Checks that what was decoded is of a type with so many properties, events, streams and functions
    /// outside.
    pub(crate) fn check(&self, sizes: Sizes) -> Result<(), SnapshotError> {
        let Some(held) = &self.0 else { return Ok(()) };
        let is_known = |function: u16| usize::from(function) < sizes.outside;
        for waiting in &held.updates {
            require(waiting.event.is_sound(sizes), "an update that waits is damaged")?;
            require(
                waiting.calls.iter().all(|call| is_known(call.function)),
                "an update waits for no function",
            )?;
        }
        for waiting in &held.unshadowed {
            require(waiting.event.is_sound(sizes), "an event that waits is damaged")?;
        }
        for call in &held.late {
            require(call.event.is_sound(sizes), "an update that was called for is damaged")?;
            require(is_known(call.function), "an answer of no function is awaited")?;
        }
        Ok(())
    }

    /// The same twin's updates under another job.
    pub(crate) fn adapt(mut self, change: &WaitingChange) -> Self {
        if let Some(held) = &mut self.0 {
            let number = |function: u16| change.outside.get(usize::from(function)).copied().flatten();
            for waiting in &mut held.updates {
                waiting.event = waiting.event.adapt(change);
                waiting.calls.retain_mut(|call| match number(call.function) {
                    Some(now) => {
                        call.function = now;
                        true
                    }
                    None => false,
                });
            }
            for waiting in &mut held.unshadowed {
                waiting.event = waiting.event.adapt(change);
            }
            held.late.retain_mut(|call| match number(call.function) {
                Some(now) => {
                    call.function = now;
                    call.event = call.event.adapt(change);
                    true
                }
                None => false,
            });
        }
        self.let_go();
        self
    }
}

impl WaitingUpdate {
    /// What became of its calls, each with the function's place among those outside.
    pub fn outcomes(&self) -> impl Iterator<Item = (u16, &Outcome)> {
        self.calls.iter().filter_map(|call| Some((call.function, call.outcome.as_ref()?)))
    }

    fn is_ready(&self) -> bool {
        self.calls.iter().all(|call| call.outcome.is_some())
    }

    fn call(&self, function: u16) -> Option<&OpenCall> {
        self.calls.iter().find(|call| call.function == function)
    }

    fn give_up(&mut self, reason: &str) {
        for call in self.calls.iter_mut().filter(|call| call.outcome.is_none()) {
            call.outcome = Some(Outcome::Failed(reason.to_owned()));
            call.put_off = None;
        }
    }
}

impl LateCall {
    /// The function's place among those outside.
    pub fn function(&self) -> u16 {
        self.function
    }
}

/// How many there are of what an event names by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) properties: usize,
    pub(crate) events: usize,
    pub(crate) streams: usize,
    pub(crate) outside: usize,
}

/// What the property with a number of before is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PropertyNow {
    pub(crate) number: u16,
    /// The words of an enum, by their numbers before.
    pub(crate) words: Option<Vec<Option<u16>>>,
}

/// What numbers of before are now; none where it is no longer there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WaitingChange {
    pub(crate) twin_type: u16,
    pub(crate) properties: Vec<Option<PropertyNow>>,
    pub(crate) events: Vec<Option<u16>>,
    pub(crate) streams: Vec<Option<u16>>,
    pub(crate) outside: Vec<Option<u16>>,
}

impl WaitingChange {
    /// Whether every number is what it was, but perhaps for that of the type.
    pub(crate) fn is_identity(&self) -> bool {
        let stay = |numbers: &[Option<u16>]| (0..).zip(numbers).all(|(number, now)| *now == Some(number));
        let is_same = |(number, property): (u16, &Option<PropertyNow>)| {
            property
                .as_ref()
                .is_some_and(|now| now.number == number && now.words.as_ref().is_none_or(|words| stay(words)))
        };
        (0..).zip(&self.properties).all(is_same)
            && [&self.events, &self.streams, &self.outside].into_iter().all(|one| stay(one))
    }
}

fn body(event: &Event<'_>, update: u64, definition: &TwinType, shadow: &Shadow, facts: Facts<'_>) -> Vec<u8> {
    write_body(&told(event, update, definition, facts), shadow, definition.functions.mapped())
}

fn told<'a>(event: &'a Event<'a>, update: u64, definition: &'a TwinType, facts: Facts<'a>) -> Told<'a> {
    Told { event, update, type_name: &definition.name, model: &definition.model, facts }
}

#[cfg(test)]
mod tests;
