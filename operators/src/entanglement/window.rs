//! The observations of a sliding window, compactly: exact up to 64 of them, 64 sub-windows beyond
//! (rule 4.7).
//!
//! A slow twin has a dozen observations in its window and costs 12 bytes each; a fast one costs
//! the same 2 KB however fast it is. Once it has left the exact form a window comes back to it when
//! it has run empty.

pub(crate) mod restore;

use serde::{Deserialize, Serialize};

/// Most observations that are kept one by one.
pub const EXACT_MAX: usize = 64;
/// Sub-windows of a window with more.
pub const SUB_WINDOWS: usize = 64;
/// Sub-windows that a closed window can touch: the partly expired one as well.
const RING: usize = SUB_WINDOWS + 1;

/// One observation, as the twin handler makes it (rule 4.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When it was consolidated; never before the one before.
    pub at_us: i64,
    /// Arrival - device: negative where the device's clock is ahead.
    pub transport_us: i64,
    /// Digital - arrival.
    pub compute_us: i64,
    /// Its lateness is within T_d.
    pub on_time: bool,
    /// Number of its stream.
    pub stream: u8,
}

/// Observations of a window by stream; they may have a fraction as [`Counts`] may.
pub type ByStreamCounts = [f64; crate::model::STREAMS_MAX];

/// What a window holds at an instant. Counts may have a fraction: the partly expired sub-window
/// counts pro rata.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Observations of any stream.
    pub received: f64,
    /// Those within T_d.
    pub on_time: f64,
}

/// The lateness of a window's observations, in its two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Mean of arrival - device.
    pub transport_us: f64,
    /// Mean of digital - arrival.
    pub compute_us: f64,
    /// Least arrival - device: the clock offset (rule 3.5).
    pub transport_min_us: f64,
}

/// A sliding window of observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Window {
    /// One by one.
    Exact(Exact),
    /// In sub-windows.
    Coarse(Coarse),
}

/// Observations one by one, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    /// Instant that the observations' times are counted from.
    base_us: i64,
    #[serde(with = "crate::packed")]
    kept: Vec<Kept>,
    on_time: u32,
}

/// An observation in 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kept {
    /// Ticks since the base; see [`tick_shift`].
    ticks: u32,
    /// Microseconds; exact up to 16 s, to 7 digits beyond.
    transport_us: f32,
    /// Late (1 bit), stream (4 bits), compute in microseconds (27 bits, saturating at 134 s).
    packed: u32,
}

const LATE_BIT: u32 = 1 << 31;
const STREAM_SHIFT: u32 = 27;
const COMPUTE_MAX: u32 = (1 << STREAM_SHIFT) - 1;

/// Counts in sub-windows of equal width, by absolute number of the sub-window. What every update
/// needs stands in the twin's record; of the ring it touches the newest and the oldest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coarse {
    newest: i64,
    /// Sums over the ring.
    received: u32,
    on_time: u32,
    ring: Box<[SubWindow]>,
    by_stream: Option<Box<ByStream>>,
}

/// Observations by sub-window and stream, for types with more than one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ByStream {
    streams: usize,
    received: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct SubWindow {
    received: u32,
    on_time: u32,
    transport_min_us: f32,
    /// Sums over the sub-window's observations.
    transport_us: f32,
    compute_us: f32,
}

/// How many bits finer than the ticks of an exact window a microsecond is. Windows up to 35 minutes
/// are kept to the microsecond, a day to 64 of them.
fn tick_shift(window_us: i64) -> u32 {
    (64 - (window_us as u64).leading_zeros()).saturating_sub(31)
}

/// Width of a sub-window; 64 of them are at least the window.
fn width_us(window_us: i64) -> i64 {
    (window_us + SUB_WINDOWS as i64 - 1) / SUB_WINDOWS as i64
}

impl Default for Window {
    fn default() -> Self {
        Window::Exact(Exact::default())
    }
}

impl Window {
    /// Reads the oldest and the newest of what it holds.
    pub fn warm(&self) -> u64 {
        match self {
            Window::Exact(exact) => {
                let ends = [exact.kept.first(), exact.kept.last()];
                ends.into_iter().flatten().map(|kept| u64::from(kept.ticks)).sum()
            }
            Window::Coarse(coarse) => {
                let ends = [Coarse::slot(coarse.newest), Coarse::slot(coarse.newest + 1)];
                ends.into_iter().map(|slot| u64::from(coarse.ring[slot].received)).sum()
            }
        }
    }

    /// Adds an observation; what has left the window that ends with it is dropped.
    pub fn observe(&mut self, observation: Observation, window_us: i64, streams: usize) {
        self.advance(observation.at_us, window_us);
        match self {
            Window::Exact(exact) if exact.kept.len() < EXACT_MAX => {
                exact.push(observation, window_us);
            }
            Window::Exact(exact) => {
                let mut coarse = Coarse::new(observation.at_us.div_euclid(width_us(window_us)), streams);
                for kept in &exact.kept {
                    coarse.push(exact.read(kept, window_us), window_us);
                }
                coarse.push(observation, window_us);
                *self = Window::Coarse(coarse);
            }
            Window::Coarse(coarse) => coarse.push(observation, window_us),
        }
    }

    /// Drops what has left the window that ends at `at_us`.
    pub fn advance(&mut self, at_us: i64, window_us: i64) {
        match self {
            Window::Exact(exact) => exact.advance(at_us - window_us, window_us),
            Window::Coarse(coarse) => {
                coarse.advance(at_us.div_euclid(width_us(window_us)));
                if coarse.received == 0 {
                    *self = Window::default();
                }
            }
        }
    }

    /// What the window that ends at `at_us` holds; not before the last observation.
    pub fn counts(&self, at_us: i64, window_us: i64) -> Counts {
        match self {
            Window::Exact(exact) => exact.counts(at_us - window_us, window_us),
            Window::Coarse(coarse) => coarse.counts(at_us, window_us),
        }
    }

    /// The same by stream, for types that have more than one.
    pub fn counts_by_stream(&self, at_us: i64, window_us: i64) -> ByStreamCounts {
        let mut counts = ByStreamCounts::default();
        match self {
            Window::Exact(exact) => exact.count_by_stream(at_us - window_us, window_us, &mut counts),
            Window::Coarse(coarse) => coarse.count_by_stream(at_us, window_us, &mut counts),
        }
        counts
    }

    /// The lateness of what the window that ends at `at_us` holds; none where it is empty.
    pub fn lateness(&self, at_us: i64, window_us: i64) -> Option<Lateness> {
        let mut sum = LatenessSum::default();
        match self {
            Window::Exact(exact) => {
                for kept in &exact.kept {
                    let seen = exact.read(kept, window_us);
                    if seen.at_us >= at_us - window_us {
                        let transport_us = f64::from(kept.transport_us);
                        sum.add(1.0, transport_us, seen.compute_us as f64, transport_us);
                    }
                }
            }
            Window::Coarse(coarse) => coarse.lateness(at_us, window_us, &mut sum),
        }
        sum.mean()
    }

    /// The instants after `at_us` between which the counts stay as they are (exact), or change
    /// evenly (sub-windows): at each of them something leaves the window. At most 65, in order.
    pub fn turning_points(&self, at_us: i64, window_us: i64) -> impl Iterator<Item = i64> + '_ {
        let exact = match self {
            Window::Exact(exact) => Some(exact),
            Window::Coarse(_) => None,
        };
        let expiries = exact.into_iter().flat_map(move |exact| {
            let leaves_at = move |kept: &Kept| exact.read(kept, window_us).at_us + window_us + 1;
            exact.kept.iter().map(leaves_at)
        });
        let width_us = width_us(window_us);
        let oldest = (at_us - window_us).div_euclid(width_us);
        let last = match self {
            Window::Exact(_) => oldest,
            Window::Coarse(coarse) => coarse.newest + 1,
        };
        let borders = (oldest + 1..=last).map(move |number| number * width_us + window_us);
        expiries.chain(borders).filter(move |point| *point > at_us)
    }
}

impl Exact {
    fn push(&mut self, observation: Observation, window_us: i64) {
        let shift = tick_shift(window_us);
        if self.kept.is_empty() {
            self.base_us = observation.at_us;
        }
        let mut ticks = (observation.at_us - self.base_us) >> shift;
        if ticks > i64::from(u32::MAX) {
            // All that is kept lies within one window, which 31 bits of ticks can count.
            let first = self.kept[0].ticks;
            self.base_us += i64::from(first) << shift;
            self.kept.iter_mut().for_each(|kept| kept.ticks -= first);
            ticks = (observation.at_us - self.base_us) >> shift;
        }
        let late = if observation.on_time { 0 } else { LATE_BIT };
        let compute = observation.compute_us.clamp(0, i64::from(COMPUTE_MAX)) as u32;
        if self.kept.len() == self.kept.capacity() {
            // Grown by little, and to what allocators hand out anyway, multiples of 32 bytes: this
            // is most of a slow twin's memory.
            let bytes = ((self.kept.len() + 1) * size_of::<Kept>()).next_multiple_of(32);
            self.kept.reserve_exact(bytes / size_of::<Kept>() - self.kept.len());
        }
        self.kept.push(Kept {
            ticks: ticks as u32,
            transport_us: observation.transport_us as f32,
            packed: late | u32::from(observation.stream & 15) << STREAM_SHIFT | compute,
        });
        self.on_time += u32::from(observation.on_time);
    }

    fn read(&self, kept: &Kept, window_us: i64) -> Observation {
        Observation {
            at_us: self.base_us + (i64::from(kept.ticks) << tick_shift(window_us)),
            transport_us: kept.transport_us as i64,
            compute_us: i64::from(kept.packed & COMPUTE_MAX),
            on_time: kept.packed & LATE_BIT == 0,
            stream: (kept.packed >> STREAM_SHIFT & 15) as u8,
        }
    }

    fn advance(&mut self, since_us: i64, window_us: i64) {
        let left = |kept: &&Kept| self.read(kept, window_us).at_us < since_us;
        let expired = self.kept.iter().take_while(left).count();
        if expired > 0 {
            let gone = self.kept.drain(..expired);
            let on_time = gone.filter(|kept| kept.packed & LATE_BIT == 0).count();
            self.on_time -= on_time as u32;
        }
    }

    fn counts(&self, since_us: i64, window_us: i64) -> Counts {
        let mut counts = Counts { received: self.kept.len() as f64, on_time: f64::from(self.on_time) };
        // They are in order: after the first that is inside nothing has left.
        let seen = self.kept.iter().map(|kept| self.read(kept, window_us));
        for left in seen.take_while(|seen| seen.at_us < since_us) {
            counts.received -= 1.0;
            counts.on_time -= f64::from(u8::from(left.on_time));
        }
        counts
    }

    fn count_by_stream(&self, since_us: i64, window_us: i64, counts: &mut ByStreamCounts) {
        let seen = self.kept.iter().map(|kept| self.read(kept, window_us));
        for inside in seen.filter(|seen| seen.at_us >= since_us) {
            counts[usize::from(inside.stream)] += 1.0;
        }
    }
}

impl Coarse {
    fn new(newest: i64, streams: usize) -> Self {
        let by_stream = || Box::new(ByStream { streams, received: vec![0; RING * streams] });
        Self {
            newest,
            received: 0,
            on_time: 0,
            ring: vec![SubWindow::default(); RING].into_boxed_slice(),
            by_stream: (streams > 1).then(by_stream),
        }
    }

    fn slot(number: i64) -> usize {
        number.rem_euclid(RING as i64) as usize
    }

    fn advance(&mut self, newest: i64) {
        let steps = (newest - self.newest).clamp(0, RING as i64);
        for number in newest - steps + 1..=newest {
            let slot = Self::slot(number);
            let gone = std::mem::take(&mut self.ring[slot]);
            self.received -= gone.received;
            self.on_time -= gone.on_time;
            if let Some(by_stream) = &mut self.by_stream {
                by_stream.row_mut(slot).fill(0);
            }
        }
        self.newest = self.newest.max(newest);
    }

    fn push(&mut self, observation: Observation, window_us: i64) {
        let number = observation.at_us.div_euclid(width_us(window_us));
        if self.newest - number >= RING as i64 {
            return;
        }
        let slot = Self::slot(number);
        let sub = &mut self.ring[slot];
        let transport_us = observation.transport_us as f32;
        sub.transport_min_us = match sub.received {
            0 => transport_us,
            _ => sub.transport_min_us.min(transport_us),
        };
        sub.received = sub.received.saturating_add(1);
        sub.on_time = sub.on_time.saturating_add(u32::from(observation.on_time));
        sub.transport_us += transport_us;
        sub.compute_us += observation.compute_us as f32;
        self.received = self.received.saturating_add(1);
        self.on_time = self.on_time.saturating_add(u32::from(observation.on_time));
        if let Some(by_stream) = &mut self.by_stream {
            // After a restore some may be of a stream that is gone, and so of none.
            if let Some(received) = by_stream.row_mut(slot).get_mut(usize::from(observation.stream)) {
                *received = received.saturating_add(1);
            }
        }
    }

    /// How much of a sub-window lies in the window that begins at `since_us`.
    fn share(number: i64, since_us: i64, width_us: i64) -> f64 {
        let inside_us = (number + 1) * width_us - since_us;
        (inside_us as f64 / width_us as f64).clamp(0.0, 1.0)
    }

    fn counts(&self, at_us: i64, window_us: i64) -> Counts {
        let (width_us, since_us) = (width_us(window_us), at_us - window_us);
        let mut counts = Counts { received: f64::from(self.received), on_time: f64::from(self.on_time) };
        // Usually one sub-window has left in part; more where nothing came for a while.
        let mut number = self.newest - SUB_WINDOWS as i64;
        while number <= self.newest && number * width_us < since_us {
            let gone = 1.0 - Self::share(number, since_us, width_us);
            let sub = &self.ring[Self::slot(number)];
            counts.received -= gone * f64::from(sub.received);
            counts.on_time -= gone * f64::from(sub.on_time);
            number += 1;
        }
        counts
    }

    fn count_by_stream(&self, at_us: i64, window_us: i64, counts: &mut ByStreamCounts) {
        let (width_us, since_us) = (width_us(window_us), at_us - window_us);
        let Some(by_stream) = &self.by_stream else { return };
        for number in self.newest - SUB_WINDOWS as i64..=self.newest {
            let share = Self::share(number, since_us, width_us);
            let row = by_stream.row(Self::slot(number));
            for (count, received) in counts.iter_mut().zip(row) {
                *count += share * f64::from(*received);
            }
        }
    }

    fn lateness(&self, at_us: i64, window_us: i64, sum: &mut LatenessSum) {
        let (width_us, since_us) = (width_us(window_us), at_us - window_us);
        for number in self.newest - SUB_WINDOWS as i64..=self.newest {
            let sub = &self.ring[Self::slot(number)];
            let share = Self::share(number, since_us, width_us);
            if sub.received > 0 && share > 0.0 {
                sum.add(
                    share * f64::from(sub.received),
                    share * f64::from(sub.transport_us),
                    share * f64::from(sub.compute_us),
                    f64::from(sub.transport_min_us),
                );
            }
        }
    }
}

impl ByStream {
    fn row(&self, slot: usize) -> &[u32] {
        &self.received[slot * self.streams..][..self.streams]
    }

    fn row_mut(&mut self, slot: usize) -> &mut [u32] {
        &mut self.received[slot * self.streams..][..self.streams]
    }
}

#[derive(Debug, Default)]
struct LatenessSum {
    count: f64,
    transport_us: f64,
    compute_us: f64,
    transport_min_us: Option<f64>,
}

impl LatenessSum {
    fn add(&mut self, count: f64, transport_us: f64, compute_us: f64, transport_min_us: f64) {
        self.count += count;
        self.transport_us += transport_us;
        self.compute_us += compute_us;
        let least = self.transport_min_us.map_or(transport_min_us, |least| least.min(transport_min_us));
        self.transport_min_us = Some(least);
    }

    fn mean(self) -> Option<Lateness> {
        Some(Lateness {
            transport_min_us: self.transport_min_us?,
            transport_us: self.transport_us / self.count,
            compute_us: self.compute_us / self.count,
        })
    }
}
