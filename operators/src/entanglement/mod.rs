//! Step 4a, entanglement: how true a twin is, measured (rule 4).
//!
//! ODTE = T x R x A over the closed window [t - W, t] of digital time (Bellavista et al., FGCS
//! 2024, section 3.3): timeliness T, the share of updates that were fresh enough; reliability R, the
//! updates that came of those that were expected; availability A, the share of the time in which
//! the physical twin was not known to be down.

mod crossing;
mod expectation;
mod overrides;
mod profiles;
mod rate;
mod settings;
mod window;

use serde::{Deserialize, Serialize};

pub use expectation::Expectation;
pub use overrides::{Override, OverrideSettings};
pub use profiles::{DEFAULT, Profile, ProfileSettings};
pub(crate) use rate::RateForm;
pub use rate::{ExpectedRate, Rate};
pub(crate) use settings::WINDOW_US;
pub use settings::{EntanglementSettings, Terms, WarmUp};
pub(crate) use window::restore::WindowChange;
pub use window::{Lateness, Observation};

use crate::snapshot::{SnapshotError, is_time, require};
use window::{Counts, Window};

/// The part of a twin's record that entanglement owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entanglement {
    window: Window,
    /// [`NEVER_BOUND`] where it was not bound yet.
    first_bound_us: i64,
    /// Verdict of the last observation, for twins of which nothing is expected (rule 4.2).
    last_on_time: bool,
    /// What is expected, where that is more than an even rate. It has a place of its own in the record.
    #[serde(skip)]
    pub(crate) expectation: Option<Box<Expectation>>,
}

/// ODTE and what it is made of, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// T.
    pub timeliness: f64,
    /// R, at most 1.
    pub reliability: f64,
    /// R as it is, above 1 where more came than was expected.
    pub reliability_unclamped: f64,
    /// A.
    pub availability: f64,
    /// T x R x A.
    pub odte: f64,
    /// Observations in the window.
    pub received: f64,
    /// Those within T_d.
    pub on_time: f64,
    /// Observations that were expected of the stream that R is of.
    pub expected: f64,
}

/// An option would cost each twin eight bytes more.
const NEVER_BOUND: i64 = i64::MIN;

impl Default for Entanglement {
    fn default() -> Self {
        Self {
            window: Window::default(),
            first_bound_us: NEVER_BOUND,
            last_on_time: false,
            expectation: None,
        }
    }
}

impl Entanglement {
    pub(crate) fn warm(&self) -> u64 {
        self.window.warm()
    }

    /// Checks that what was decoded is of a twin with so many streams, whose window is this long and
    /// which was last consolidated at `digital_us`.
    pub(crate) fn check(&self, streams: usize, window_us: i64, digital_us: i64) -> Result<(), SnapshotError> {
        require(self.first_bound_us().is_none_or(is_time), "it was first bound at no time")?;
        self.expectation.as_ref().map_or(Ok(()), |one| one.check(streams, window_us, digital_us))?;
        self.window.check(streams, window_us, digital_us)
    }

    /// The same observations under a changed job, of a twin last consolidated at `digital_us`. A window
    /// that is longer now knows nothing of the time before the shorter one, so nothing is expected of
    /// that time: the twin counts as bound since then.
    pub(crate) fn adapt(mut self, change: &WindowChange, digital_us: i64) -> Self {
        if change.now_us > change.before_us && self.first_bound_us != NEVER_BOUND {
            self.first_bound_us = self.first_bound_us.max(digital_us.saturating_sub(change.before_us));
        }
        let adapt = |expectation: Box<Expectation>| Box::new(expectation.adapt(change));
        Self { window: self.window.adapt(change), expectation: self.expectation.map(adapt), ..self }
    }

    /// Notes that the twin was bound; only the first time counts (rule 4.3).
    pub fn bind(&mut self, at_us: i64) {
        if self.first_bound_us == NEVER_BOUND {
            self.first_bound_us = at_us;
        }
    }

    /// Whether the twin ever was bound.
    pub(crate) fn was_bound(&self) -> bool {
        self.first_bound_us().is_some()
    }

    /// When the twin was first bound, if it was.
    fn first_bound_us(&self) -> Option<i64> {
        (self.first_bound_us != NEVER_BOUND).then_some(self.first_bound_us)
    }

    /// Adds an observation (rule 4.1).
    pub fn observe(&mut self, observation: Observation, terms: &Terms) {
        self.last_on_time = observation.on_time;
        self.window.observe(observation, terms.window_us, terms.rates.len());
        if let Some(expectation) = &mut self.expectation {
            // A time down that no window touches any more is not searched for turns.
            expectation.advance(observation.at_us - terms.window_us);
        }
        if let Some(Rate::OnChange { .. }) = terms.rates.get(usize::from(observation.stream)) {
            self.expectation.get_or_insert_default().heard(observation.stream, observation.at_us);
        }
    }

    /// Drops what has left the window; the answers stay the same.
    pub fn advance(&mut self, at_us: i64, terms: &Terms) {
        self.window.advance(at_us, terms.window_us);
        if let Some(expectation) = &mut self.expectation {
            expectation.advance(at_us - terms.window_us);
            let windows = expectation.profiles.windows.iter_mut();
            windows.for_each(|window| window.advance(at_us, terms.window_us));
        }
    }

    /// The physical twin is known to be down, since `physical_us` as the news says; whether that is news.
    pub(crate) fn go_down(&mut self, at_us: i64, physical_us: i64, terms: &Terms) -> bool {
        self.advance(at_us, terms);
        self.expectation.get_or_insert_default().go_down(at_us, physical_us)
    }

    /// The physical twin is up; whether that is news.
    pub(crate) fn come_up(&mut self, at_us: i64) -> bool {
        self.expectation.as_mut().is_some_and(|expectation| expectation.come_up(at_us))
    }

    /// Since when the physical twin is known to be down, as the news of it says.
    pub fn down_physical_us(&self) -> Option<i64> {
        self.expectation.as_ref()?.down_physical_us()
    }

    /// A property says how many messages a microsecond a stream sends; whether that is news.
    pub(crate) fn pace(&mut self, stream: u8, at_us: i64, per_us: f64, terms: &Terms) -> bool {
        let expectation = self.expectation.get_or_insert_default();
        let is_news = expectation.pace(stream, at_us, per_us);
        if is_news {
            expectation.advance(at_us - terms.window_us);
        }
        is_news
    }

    /// How long the twin is Bound (rule 5.2).
    pub fn settle_us(&self, terms: &Terms) -> i64 {
        self.limits(terms).0
    }

    /// The longest silence of the bound twin (rule 5.4).
    pub fn unbind_after_us(&self, terms: &Terms) -> Option<i64> {
        self.limits(terms).1
    }

    fn limits(&self, terms: &Terms) -> (i64, Option<i64>) {
        match &self.expectation {
            None => (terms.settle_us, terms.unbind_after_us),
            Some(expectation) => terms.limits(|stream| expectation.pace_now(stream)),
        }
    }

    /// ODTE at an instant that is not before the last observation.
    pub fn measure(&self, at_us: i64, terms: &Terms) -> Measure {
        let counts = self.window.counts(at_us, terms.window_us);
        let timeliness = timeliness(&counts, self.last_on_time, terms);
        let (reliability_unclamped, expected) = self.reliability(&counts, at_us, terms);
        let reliability = reliability_unclamped.min(1.0);
        let availability = self.availability(at_us, terms);
        Measure {
            timeliness,
            reliability,
            reliability_unclamped,
            availability,
            odte: timeliness * reliability * availability,
            received: counts.received,
            on_time: counts.on_time,
            expected,
        }
    }

    /// Lateness of the window's observations, where it has any.
    pub fn lateness(&self, at_us: i64, terms: &Terms) -> Option<Lateness> {
        self.window.lateness(at_us, terms.window_us)
    }

    /// Where the time begins that is looked at: the window, or the first binding if that is later.
    fn since_us(&self, at_us: i64, terms: &Terms) -> i64 {
        self.first_bound_us().map_or(at_us, |first_us| first_us.clamp(at_us - terms.window_us, at_us))
    }

    /// U: the time in the window, since the first binding, during which the physical twin was not
    /// known to be down (rule 4.3).
    fn up_us(&self, at_us: i64, terms: &Terms) -> i64 {
        self.up_between(self.since_us(at_us, terms), at_us)
    }

    /// How long the physical twin was not known to be down between two instants.
    fn up_between(&self, from_us: i64, to_us: i64) -> i64 {
        match &self.expectation {
            None => to_us - from_us,
            Some(expectation) => expectation.up_us(from_us, to_us),
        }
    }

    /// A (rule 4.3). Known downs come with presence; without it a twin is available.
    fn availability(&self, at_us: i64, terms: &Terms) -> f64 {
        let since_us = self.since_us(at_us, terms);
        match at_us - since_us {
            0 => 1.0,
            all_us => self.up_between(since_us, at_us) as f64 / all_us as f64,
        }
    }

    /// The unclamped R and what was expected, of the stream where R is least (rules 4.4, 4.5).
    fn reliability(&self, counts: &Counts, at_us: i64, terms: &Terms) -> (f64, f64) {
        let since_us = match terms.expects_full_window {
            true => at_us - terms.window_us,
            false => self.since_us(at_us, terms),
        };
        let up_us = self.up_between(since_us, at_us);
        // It was down all the time: nothing was expected (rule 4.4).
        if up_us == 0 && since_us < at_us {
            return (1.0, 0.0);
        }
        let by_stream = match terms.rates.len() {
            1 => None,
            _ => Some(self.window.counts_by_stream(at_us, terms.window_us)),
        };
        let mut least: Option<(f64, f64)> = None;
        for (stream, rate) in (0u8..).zip(&terms.rates) {
            let received =
                || by_stream.as_ref().map_or(counts.received, |by_stream| by_stream[usize::from(stream)]);
            let (ratio, expected) = match rate {
                Rate::None => continue,
                Rate::Fixed(per_us) => {
                    let expected = (per_us * up_us as f64).max(1.0);
                    (received() / expected, expected)
                }
                Rate::Period { otherwise, .. } => {
                    let Some(expected) = self.expected(stream, *otherwise, since_us, at_us) else { continue };
                    (received() / expected, expected)
                }
                Rate::OnChange { silence_max_us } => match self.is_silent(stream, *silence_max_us, at_us) {
                    true => (0.0, 1.0),
                    false => continue,
                },
            };
            if least.is_none_or(|(least, _)| ratio < least) {
                least = Some((ratio, expected));
            }
        }
        least.unwrap_or((1.0, 0.0))
    }

    /// What is expected of a stream whose rate a property says; none where that is nothing.
    fn expected(&self, stream: u8, otherwise: Option<f64>, since_us: i64, at_us: i64) -> Option<f64> {
        let even = |per_us: f64| per_us * (at_us - since_us) as f64;
        let (expected, per_us) = match &self.expectation {
            None => (even(otherwise?), otherwise),
            Some(expectation) => (
                expectation.expected(stream, otherwise, since_us, at_us),
                expectation.pace_now(stream).or(otherwise),
            ),
        };
        let is_rated = expected > 0.0 || per_us.is_some_and(|per_us| per_us > 0.0);
        is_rated.then_some(expected.max(1.0))
    }

    fn is_silent(&self, stream: u8, silence_max_us: i64, at_us: i64) -> bool {
        let Some(first_us) = self.first_bound_us() else { return false };
        match &self.expectation {
            None => at_us > first_us.saturating_add(silence_max_us),
            Some(expectation) => expectation.is_silent(stream, silence_max_us, first_us, at_us),
        }
    }

    /// Whether a window has passed since the first binding.
    pub fn is_full(&self, at_us: i64, terms: &Terms) -> bool {
        self.first_bound_us().is_some_and(|first_us| at_us - first_us >= terms.window_us)
    }

    /// Whether the window holds its observations one by one.
    pub fn is_exact(&self) -> bool {
        matches!(self.window, Window::Exact(_))
    }
}

/// T of counts (rule 4.2).
fn timeliness(counts: &Counts, was_on_time: bool, terms: &Terms) -> f64 {
    match counts.received {
        received if received > 0.0 => counts.on_time / received,
        _ if was_on_time && terms.are_unrated() => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod oracle_of_plants;
#[cfg(test)]
mod tests;
