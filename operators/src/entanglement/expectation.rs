//! What is expected of a physical twin over time, where that is more than an even rate: when it was known to be
//! down (rule 4.3), how often a property says that it reports, and how long a stream that reports on change has
//! been silent (rule 4.5).
//!
//! ```text
//!  known down    ──────▓▓▓▓▓────────────▓▓──────►      U: the rest of the window
//!  rate           0.2/s │      1/s               │     expected: the sum of rate x U over its stretches
//!  on change     ─x───────x───────────────x───── │     silent since the last x, or since it came up
//! ```
//!
//! A twin of a type with even rates and without presence keeps nothing here.

use serde::{Deserialize, Serialize};

use super::profiles::{PROFILES_MAX, Profiles};
use super::rate::Rate;
use super::settings::Terms;
use super::window::restore::WindowChange;
use crate::model::STREAMS_MAX;
use crate::snapshot::{SnapshotError, is_time, require};

/// Most times down that are told apart in a window; of more, the oldest two become one.
pub const DOWNS_MAX: usize = 64;
/// Most changes of rates that are told apart in a window; of more, the oldest is forgotten.
pub const PACES_MAX: usize = 64;

/// When it never happened.
const NEVER_US: i64 = i64::MIN / 4;

/// What a twin's record has of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Times in which it was known to be down, and no longer is; the oldest first.
    downs: Vec<Stretch>,
    /// It is known to be down now.
    down: Option<Down>,
    /// When it last came up; 0 where it was never down.
    up_us: i64,
    /// When each stream was last heard, where some stream reports on change.
    heard_us: Vec<i64>,
    /// What a property said of the rates of streams, in the order of time.
    paces: Vec<Pace>,
    /// The observations by other T_d.
    pub(super) profiles: Profiles,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stretch {
    from_us: i64,
    to_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Down {
    /// Since when, in digital time.
    since_us: i64,
    /// When that was, as the news of it says.
    physical_us: i64,
}

/// A rate, from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pace {
    stream: u8,
    since_us: i64,
    /// Messages a microsecond; 0 where none is expected.
    per_us: f64,
}

impl Expectation {
    /// Since when it is known to be down, as the news of it says.
    pub fn down_physical_us(&self) -> Option<i64> {
        self.down.map(|down| down.physical_us)
    }

    /// The physical twin is known to be down; whether that is news.
    pub fn go_down(&mut self, at_us: i64, physical_us: i64) -> bool {
        let is_news = self.down.is_none();
        if is_news {
            self.down = Some(Down { since_us: at_us, physical_us });
        }
        is_news
    }

    /// The physical twin is up again; whether that is news.
    pub fn come_up(&mut self, at_us: i64) -> bool {
        let Some(down) = self.down.take() else { return false };
        if self.downs.len() == DOWNS_MAX {
            self.downs[1].from_us = self.downs[0].from_us;
            self.downs.remove(0);
        }
        self.up_us = at_us.max(down.since_us);
        self.downs.push(Stretch { from_us: down.since_us, to_us: self.up_us });
        true
    }

    /// A stream was heard.
    pub fn heard(&mut self, stream: u8, at_us: i64) {
        let stream = usize::from(stream);
        if self.heard_us.len() <= stream {
            self.heard_us.resize(stream + 1, NEVER_US);
        }
        self.heard_us[stream] = at_us;
    }

    /// A property says how often a stream reports; whether that is news.
    pub fn pace(&mut self, stream: u8, at_us: i64, per_us: f64) -> bool {
        let last = self.paces.iter().rev().find(|pace| pace.stream == stream);
        let is_news = last.is_none_or(|last| last.per_us != per_us);
        if is_news {
            if self.paces.len() == PACES_MAX {
                self.paces.remove(0);
            }
            self.paces.push(Pace { stream, since_us: at_us, per_us });
        }
        is_news
    }

    /// Messages a microsecond that a property last asked of a stream.
    pub fn pace_now(&self, stream: u8) -> Option<f64> {
        self.paces.iter().rev().find(|pace| pace.stream == stream).map(|pace| pace.per_us)
    }

    /// Forgets what no window that begins at `since_us` or later touches.
    pub fn advance(&mut self, since_us: i64) {
        let gone = self.downs.iter().take_while(|down| down.to_us < since_us).count();
        self.downs.drain(..gone);
        let Self { paces, .. } = self;
        let is_over = |paces: &[Pace], index: usize| {
            let next = paces[index + 1..].iter().find(|next| next.stream == paces[index].stream);
            next.is_some_and(|next| next.since_us <= since_us)
        };
        while !paces.is_empty() && is_over(paces, 0) {
            paces.remove(0);
        }
    }

    /// Whether it was down, or is.
    pub fn was_down(&self) -> bool {
        !self.downs.is_empty() || self.down.is_some()
    }

    /// Whether what is expected has gone on evenly since an instant: it was not down, and no rate has changed.
    pub fn is_even(&self, since_us: i64) -> bool {
        !self.was_down() && self.paces.iter().all(|pace| pace.since_us <= since_us)
    }

    /// How long it was not known to be down between two instants.
    pub fn up_us(&self, from_us: i64, to_us: i64) -> i64 {
        let overlap = |from: i64, to: i64| (to.min(to_us) - from.max(from_us)).max(0);
        let downs: i64 = self.downs.iter().map(|down| overlap(down.from_us, down.to_us)).sum();
        let down = self.down.map_or(0, |down| overlap(down.since_us, i64::MAX));
        ((to_us - from_us).max(0) - downs - down).max(0)
    }

    /// What is expected of a stream between two instants, where its rate may have changed.
    pub fn expected(&self, stream: u8, otherwise: Option<f64>, from_us: i64, to_us: i64) -> f64 {
        let (mut sum, mut since_us, mut per_us) = (0.0, from_us, otherwise.unwrap_or(0.0));
        for pace in self.paces.iter().filter(|pace| pace.stream == stream) {
            if pace.since_us > since_us {
                sum += per_us * self.up_us(since_us, pace.since_us.min(to_us)) as f64;
                since_us = pace.since_us.min(to_us);
            }
            per_us = pace.per_us;
        }
        sum + per_us * self.up_us(since_us, to_us) as f64
    }

    /// Whether a stream that reports on change has been silent for too long; never while it is down.
    pub fn is_silent(&self, stream: u8, silence_max_us: i64, bound_us: i64, at_us: i64) -> bool {
        let breaks = self.breaks_at(stream, silence_max_us, bound_us);
        breaks.is_some_and(|breaks_us| at_us >= breaks_us)
    }

    /// When the silence of a stream becomes too long, if nothing more is heard of it.
    fn breaks_at(&self, stream: u8, silence_max_us: i64, bound_us: i64) -> Option<i64> {
        if self.down.is_some() {
            return None;
        }
        let heard_us = self.heard_us.get(usize::from(stream)).copied().unwrap_or(NEVER_US);
        Some(heard_us.max(self.up_us).max(bound_us).saturating_add(silence_max_us).saturating_add(1))
    }

    /// Appends the instants at which what is expected changes its course, but for what the window does itself.
    pub fn turning_points(&self, terms: &Terms, bound_us: i64, out: &mut Vec<i64>) {
        let leaves = |at_us: i64| [at_us + terms.window_us, at_us + terms.window_us + 1];
        out.extend(self.downs.iter().flat_map(|down| [down.from_us, down.to_us]).flat_map(leaves));
        out.extend(self.paces.iter().flat_map(|pace| leaves(pace.since_us)));
        for (stream, rate) in (0u8..).zip(&terms.rates) {
            if let Rate::OnChange { silence_max_us } = rate {
                out.extend(self.breaks_at(stream, *silence_max_us, bound_us));
            }
        }
        out.push(bound_us.saturating_add(terms.window_us));
    }

    /// Checks that what was decoded is of a twin with so many streams.
    pub(crate) fn check(&self, streams: usize, window_us: i64, digital_us: i64) -> Result<(), SnapshotError> {
        require(self.profiles.windows.len() <= PROFILES_MAX, "it has too many profiles")?;
        let mut windows = self.profiles.windows.iter();
        windows.try_for_each(|window| window.check(streams, window_us, digital_us))?;
        require(self.downs.len() <= DOWNS_MAX, "it was down too often")?;
        let ends = self.downs.iter().flat_map(|down| [down.from_us, down.to_us]);
        require(ends.clone().is_sorted() && ends.into_iter().all(is_time), "it was down at no time")?;
        let is_down = |down: &Down| is_time(down.since_us) && is_time(down.physical_us);
        require(self.down.as_ref().is_none_or(is_down), "it is down since no time")?;
        require(is_time(self.up_us), "it came up at no time")?;
        require(self.heard_us.len() <= STREAMS_MAX, "more streams were heard than there may be")?;
        require(self.heard_us.iter().all(|at_us| is_time(*at_us)), "a stream was heard at no time")?;
        require(self.paces.len() <= PACES_MAX, "it has too many rates")?;
        let is_pace = |pace: &Pace| {
            is_time(pace.since_us)
                && pace.per_us.is_finite()
                && pace.per_us >= 0.0
                && usize::from(pace.stream) < streams.max(1)
        };
        require(self.paces.iter().all(is_pace), "a rate is none")?;
        require(self.paces.is_sorted_by_key(|pace| pace.since_us), "rates are out of order")
    }

    /// The same of a twin whose profiles have other numbers now: for each now, the one before.
    pub(crate) fn adapt_profiles(&mut self, before: &[Option<usize>]) {
        let Profiles { windows, last_on_time } = std::mem::take(&mut self.profiles);
        for (number, before) in before.iter().enumerate() {
            let window = before.and_then(|before| windows.get(before)).cloned();
            self.profiles.windows.push(window.unwrap_or_default());
            let was_on_time = before.is_some_and(|before| last_on_time >> before & 1 == 1);
            self.profiles.last_on_time |= u8::from(was_on_time) << number;
        }
    }

    /// The same of a twin whose streams have other numbers now.
    pub(crate) fn adapt(mut self, change: &WindowChange) -> Self {
        let now = |stream: usize| change.streams.get(stream).copied().flatten();
        let heard = std::mem::take(&mut self.heard_us);
        for (stream, at_us) in heard.into_iter().enumerate() {
            if let Some(stream) = now(stream) {
                self.heard(stream, at_us);
            }
        }
        let windows = std::mem::take(&mut self.profiles.windows);
        self.profiles.windows = windows.into_iter().map(|window| window.adapt(change)).collect();
        self.paces.retain_mut(|pace| match now(usize::from(pace.stream)) {
            Some(stream) => {
                pace.stream = stream;
                true
            }
            None => false,
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_3_up_is_what_is_not_known_to_be_down() {
        let mut expectation = Expectation::default();
        assert!(expectation.go_down(10, 9) && !expectation.go_down(12, 12));
        assert_eq!((expectation.up_us(0, 20), expectation.down_physical_us()), (10, Some(9)));
        assert!(expectation.come_up(15) && !expectation.come_up(16));
        expectation.go_down(30, 30);
        for (from_us, to_us, up_us) in
            [(0, 20, 15), (12, 20, 5), (12, 14, 0), (15, 30, 15), (20, 40, 10), (35, 40, 0), (20, 10, 0)]
        {
            assert_eq!(expectation.up_us(from_us, to_us), up_us, "{from_us} to {to_us}");
        }
        expectation.advance(16);
        assert_eq!(expectation.up_us(0, 20), 20, "the first time down is forgotten");
    }

    #[test]
    fn times_down_are_bounded() {
        let mut expectation = Expectation::default();
        for number in 0..100 {
            expectation.go_down(number * 10, 0);
            expectation.come_up(number * 10 + 1);
        }
        assert_eq!(expectation.downs.len(), DOWNS_MAX);
        assert_eq!(expectation.up_us(400, 1_000), 600 - 60);
        expectation.check(1, 60, 1_000).expect("it is sound");
    }

    #[test]
    fn rule_4_5_what_is_expected_is_the_sum_over_stretches() {
        let mut expectation = Expectation::default();
        assert!(expectation.pace(0, 10, 0.5) && !expectation.pace(0, 12, 0.5));
        assert!(expectation.pace(1, 15, 7.0) && expectation.pace(0, 20, 2.0));
        for (otherwise, from_us, to_us, expected) in [
            (None, 10, 20, 5.0),
            (None, 0, 20, 5.0),
            (Some(1.0), 0, 20, 15.0),
            (Some(1.0), 5, 8, 3.0),
            (None, 15, 30, 2.5 + 20.0),
            (None, 25, 30, 10.0),
        ] {
            let found = expectation.expected(0, otherwise, from_us, to_us);
            assert_eq!(found, expected, "{otherwise:?}, {from_us} to {to_us}");
        }
        expectation.go_down(22, 22);
        expectation.come_up(24);
        assert_eq!(expectation.expected(0, None, 10, 30), 5.0 + 16.0, "nothing is expected while it is down");
        expectation.advance(20);
        assert_eq!(expectation.expected(0, Some(9.0), 20, 30), 16.0);
        assert_eq!(expectation.pace_now(0), Some(2.0));
    }

    #[test]
    fn rule_4_5_a_stream_on_change_may_be_silent_for_so_long() {
        let mut expectation = Expectation::default();
        let silent = |expectation: &Expectation, at_us| expectation.is_silent(0, 10, 100, at_us);
        assert!(!silent(&expectation, 110) && silent(&expectation, 111), "since it was bound");
        expectation.heard(0, 105);
        assert!(!silent(&expectation, 115) && silent(&expectation, 116), "since it was heard");
        expectation.go_down(112, 112);
        assert!(!silent(&expectation, 999), "nothing is expected of it while it is down");
        expectation.come_up(200);
        assert!(!silent(&expectation, 210) && silent(&expectation, 211), "since it came up");
    }
}
