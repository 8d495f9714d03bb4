//! What a restored window must be like, and how it moves to another length or other streams.
//!
//! Observations are never judged again: a verdict that was counted stays (T_d may have changed). Those
//! of a stream that is gone are no stream's from then on; in the counts of the whole they stay until
//! they leave the window. A type that is left with one stream takes the whole for that stream's,
//! so that a stream with a new name begins with what came under the old one.

use super::{
    ByStream, Coarse, EXACT_MAX, Exact, Kept, LATE_BIT, Observation, RING, SUB_WINDOWS, SubWindow, Window,
    width_us,
};
use crate::model::STREAMS_MAX;
use crate::packed::Packed;
use crate::snapshot::{SnapshotError, is_time, require};

/// The stream of an observation whose stream is gone: the last number there is. A type with so many
/// streams has none to spare, and such an observation leaves the window.
const NO_STREAM: u8 = STREAMS_MAX as u8 - 1;

/// How windows of a type have changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WindowChange {
    /// Their length before.
    pub(crate) before_us: i64,
    /// Their length now.
    pub(crate) now_us: i64,
    /// Number now of each stream before; none where it is gone.
    pub(crate) streams: Vec<Option<u8>>,
    /// Streams now.
    pub(crate) streams_now: usize,
}

impl WindowChange {
    /// Whether a window of this type may stay as it is.
    pub(crate) fn is_identity(&self) -> bool {
        let same = |(number, now): (usize, &Option<u8>)| now.map(usize::from) == Some(number);
        self.before_us == self.now_us
            && self.streams.len() == self.streams_now
            && self.streams.iter().enumerate().all(same)
    }

    /// The number now of a stream before; none where its observations cannot be kept.
    fn stream(&self, before: u8) -> Option<u8> {
        let now = self.streams.get(usize::from(before)).copied().flatten();
        now.or((self.streams_now < STREAMS_MAX).then_some(NO_STREAM))
    }
}

impl Packed for Kept {
    const BYTES: usize = 12;

    fn pack(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.ticks.to_le_bytes());
        out[4..8].copy_from_slice(&self.transport_us.to_le_bytes());
        out[8..].copy_from_slice(&self.packed.to_le_bytes());
    }

    fn unpack(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self { ticks: word(0), transport_us: f32::from_bits(word(4)), packed: word(8) }
    }
}

impl Window {
    /// Checks that a decoded window of this length is one of a twin with so many streams that was last
    /// consolidated at `digital_us`.
    pub(crate) fn check(&self, streams: usize, window_us: i64, digital_us: i64) -> Result<(), SnapshotError> {
        match self {
            Window::Exact(exact) if exact.kept.is_empty() => {
                require(is_time(exact.base_us), "a window begins at no time")?;
                require(exact.on_time == 0, "an empty window has observations that were on time")
            }
            Window::Exact(exact) => exact.check(streams, window_us, digital_us),
            Window::Coarse(coarse) => coarse.check(streams, window_us, digital_us),
        }
    }

    /// The same observations in a window of another length, or by other streams.
    ///
    /// What the shorter of both windows held, the window holds. One in sub-windows stays so; each goes
    /// with its observations to the one in which it begins, so that for a window's time counts are
    /// off by a part of a sub-window.
    pub(crate) fn adapt(self, change: &WindowChange) -> Self {
        match self {
            Window::Exact(exact) => Window::Exact(exact.adapt(change)),
            Window::Coarse(coarse) => coarse.adapt(change).map_or_else(Window::default, Window::Coarse),
        }
    }
}

impl Exact {
    fn check(&self, streams: usize, window_us: i64, digital_us: i64) -> Result<(), SnapshotError> {
        require(self.kept.len() <= EXACT_MAX, "a window has too many single observations")?;
        require(is_time(self.base_us), "a window begins at no time")?;
        require(self.kept.is_sorted_by_key(|kept| kept.ticks), "observations are out of order")?;
        let newest = self.kept.last().map(|kept| self.read(kept, window_us).at_us);
        require(newest.is_none_or(|at_us| at_us <= digital_us), "an observation is newer than its twin")?;
        let on_time = self.kept.iter().filter(|kept| kept.packed & LATE_BIT == 0).count();
        require(self.on_time as usize == on_time, "a window miscounts what was on time")?;
        let has_stream = |kept: &Kept| {
            let stream = self.read(kept, window_us).stream;
            usize::from(stream) < streams || stream == NO_STREAM
        };
        require(self.kept.iter().all(has_stream), "an observation is of no stream of its type")?;
        require(self.kept.iter().all(|kept| kept.transport_us.is_finite()), "a lateness is not finite")
    }

    fn adapt(self, change: &WindowChange) -> Self {
        let seen = self.kept.iter().map(|kept| self.read(kept, change.before_us));
        // What a shorter window has let go must go: its ticks may not reach so far.
        let since_us = seen.clone().next_back().map_or(0, |newest| newest.at_us - change.now_us);
        let mut adapted = Self { kept: Vec::with_capacity(self.kept.len()), ..Self::default() };
        for observation in seen.filter(|seen| seen.at_us >= since_us) {
            if let Some(stream) = change.stream(observation.stream) {
                adapted.push(Observation { stream, ..observation }, change.now_us);
            }
        }
        adapted.kept.shrink_to_fit();
        adapted
    }
}

impl Coarse {
    fn check(&self, streams: usize, window_us: i64, digital_us: i64) -> Result<(), SnapshotError> {
        require(is_time(digital_us), "a window has observations of a twin that was never updated")?;
        // Silence may have moved a window on by less than its length.
        let ahead = self.newest.saturating_sub(digital_us.div_euclid(width_us(window_us)));
        require(ahead <= RING as i64, "a window is ahead of its twin")?;
        let begins_us = self.newest.checked_sub(RING as i64);
        let begins_us = begins_us.and_then(|number| number.checked_mul(width_us(window_us)));
        require(begins_us.is_some_and(is_time), "a window begins at no time")?;
        require(self.ring.len() == RING, "a window has too many or too few sub-windows")?;
        let sum = |part: fn(&SubWindow) -> u32| {
            let sum: u64 = self.ring.iter().map(|sub| u64::from(part(sub))).sum();
            u32::try_from(sum).unwrap_or(u32::MAX)
        };
        require(sum(|sub| sub.received) == self.received, "a window miscounts its observations")?;
        require(sum(|sub| sub.on_time) == self.on_time, "a window miscounts what was on time")?;
        for sub in &self.ring {
            require(sub.on_time <= sub.received, "more observations were on time than there are")?;
            let lateness = [sub.transport_min_us, sub.transport_us, sub.compute_us];
            require(lateness.iter().all(|part| part.is_finite()), "a lateness is not finite")?;
        }
        let fits = match &self.by_stream {
            None => streams <= 1,
            Some(by_stream) => {
                streams > 1 && by_stream.streams == streams && by_stream.received.len() == RING * streams
            }
        };
        require(fits, "a window counts for other streams")
    }

    /// None where nothing is left.
    fn adapt(self, change: &WindowChange) -> Option<Self> {
        let (before_us, now_us) = (width_us(change.before_us), width_us(change.now_us));
        let number_now = |number: i64| (number * before_us).div_euclid(now_us);
        let sub = |number: i64| &self.ring[Self::slot(number)];
        // Silence may have moved the window past its newest observation, and a narrower one too far.
        let numbers = self.newest - SUB_WINDOWS as i64..=self.newest;
        let newest = numbers.clone().rev().find(|number| sub(*number).received > 0)?;
        let mut adapted = Self::new(number_now(newest), change.streams_now);
        for number in numbers {
            let (sub, to) = (sub(number), number_now(number));
            if sub.received == 0 || adapted.newest - to >= RING as i64 {
                continue;
            }
            let slot = Self::slot(to);
            adapted.ring[slot].add(sub);
            adapted.received = adapted.received.saturating_add(sub.received);
            adapted.on_time = adapted.on_time.saturating_add(sub.on_time);
            let Some(by_stream) = &mut adapted.by_stream else { continue };
            let whole = [sub.received];
            let row = self.by_stream.as_ref().map_or(&whole[..], |before| before.row(Self::slot(number)));
            by_stream.add(slot, row, &change.streams);
        }
        Some(adapted)
    }
}

impl SubWindow {
    fn add(&mut self, other: &Self) {
        self.transport_min_us = match self.received {
            0 => other.transport_min_us,
            _ => self.transport_min_us.min(other.transport_min_us),
        };
        self.received = self.received.saturating_add(other.received);
        self.on_time = self.on_time.saturating_add(other.on_time);
        self.transport_us += other.transport_us;
        self.compute_us += other.compute_us;
    }
}

impl ByStream {
    /// Adds the counts of the streams before to those of a sub-window.
    fn add(&mut self, slot: usize, before: &[u32], streams: &[Option<u8>]) {
        let row = self.row_mut(slot);
        for (received, stream) in before.iter().zip(streams) {
            let count = stream.and_then(|stream| row.get_mut(usize::from(stream)));
            if let Some(count) = count {
                *count = count.saturating_add(*received);
            }
        }
    }
}

#[cfg(test)]
mod tests;
