//! Step 4a, entanglement: how true a twin is, measured (rule 4).
//!
//! ODTE = T x R x A over the closed window [t - W, t] of digital time (Bellavista et al., FGCS
//! 2024, section 3.3): timeliness T, the share of updates that were fresh enough; reliability R, the
//! updates that came of those that were expected; availability A, the share of the time in which
//! the physical twin was not known to be down.

mod settings;
mod window;

use serde::{Deserialize, Serialize};

pub(crate) use settings::WINDOW_US;
pub use settings::{EntanglementSettings, ExpectedRate, Terms, WarmUp};
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
        Self { window: Window::default(), first_bound_us: NEVER_BOUND, last_on_time: false }
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
        self.window.check(streams, window_us, digital_us)
    }

    /// The same observations under a changed job, of a twin last consolidated at `digital_us`. A window
    /// that is longer now knows nothing of the time before the shorter one, so nothing is expected of
    /// that time: the twin counts as bound since then.
    pub(crate) fn adapt(mut self, change: &WindowChange, digital_us: i64) -> Self {
        if change.now_us > change.before_us && self.first_bound_us != NEVER_BOUND {
            self.first_bound_us = self.first_bound_us.max(digital_us.saturating_sub(change.before_us));
        }
        Self { window: self.window.adapt(change), ..self }
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
    }

    /// Drops what has left the window; the answers stay the same.
    pub fn advance(&mut self, at_us: i64, terms: &Terms) {
        self.window.advance(at_us, terms.window_us);
    }

    /// ODTE at an instant that is not before the last observation.
    pub fn measure(&self, at_us: i64, terms: &Terms) -> Measure {
        let counts = self.window.counts(at_us, terms.window_us);
        let timeliness = match counts.received {
            received if received > 0.0 => counts.on_time / received,
            _ if terms.rates.iter().all(Option::is_none) && self.last_on_time => 1.0,
            _ => 0.0,
        };
        let (reliability_unclamped, expected) = self.reliability(&counts, at_us, terms);
        let reliability = reliability_unclamped.min(1.0);
        // Known downs come with presence; without it a twin is available (rule 4.3).
        let availability = 1.0;
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

    /// U: the time in the window, since the first binding, during which the physical twin was not
    /// known to be down (rule 4.3).
    fn up_us(&self, at_us: i64, terms: &Terms) -> i64 {
        let bound_us = self.first_bound_us().map_or(0, |first_us| at_us - first_us);
        bound_us.clamp(0, terms.window_us)
    }

    /// The unclamped R and what was expected, of the stream where R is least (rules 4.4, 4.5).
    fn reliability(&self, counts: &Counts, at_us: i64, terms: &Terms) -> (f64, f64) {
        let up_us = match terms.expects_full_window {
            true => terms.window_us,
            false => self.up_us(at_us, terms),
        };
        let by_stream = match terms.rates.len() {
            1 => None,
            _ => Some(self.window.counts_by_stream(at_us, terms.window_us)),
        };
        let mut least: Option<(f64, f64)> = None;
        for (stream, per_us) in terms.rates.iter().enumerate() {
            let Some(per_us) = per_us else { continue };
            let expected = (per_us * up_us as f64).max(1.0);
            let received = by_stream.as_ref().map_or(counts.received, |by_stream| by_stream[stream]);
            let ratio = received / expected;
            if least.is_none_or(|(least, _)| ratio < least) {
                least = Some((ratio, expected));
            }
        }
        least.unwrap_or((1.0, 0.0))
    }

    /// Whether a window has passed since the first binding.
    pub fn is_full(&self, at_us: i64, terms: &Terms) -> bool {
        self.first_bound_us().is_some_and(|first_us| at_us - first_us >= terms.window_us)
    }

    /// An instant after `at_us` up to which ODTE, if nothing more is heard, stays on its side of
    /// `threshold`: mostly the next at which something leaves the window, which costs no search. Not
    /// for an entangled twin whose window fills, as what is expected of it grows all the time.
    pub fn next_turn(&self, at_us: i64, terms: &Terms, threshold: f64, is_above: bool) -> Option<i64> {
        let turn_us = self.window.turning_points(at_us, terms.window_us).next()?;
        // Sub-windows leave evenly, so ODTE may cross on the way.
        let before = match self.window {
            Window::Coarse(_) => self.crossing_between(at_us, turn_us - 1, terms, threshold, is_above),
            Window::Exact(_) => None,
        };
        before.or(Some(turn_us))
    }

    /// Whether the window holds its observations one by one.
    pub fn is_exact(&self) -> bool {
        matches!(self.window, Window::Exact(_))
    }

    /// The first instant after `at_us` at which ODTE, if nothing more is heard, is on the other
    /// side of `threshold` (rule 4.8). `is_above` says on which side it is now.
    ///
    /// Between two instants at which something leaves the window, ODTE changes one way only (what
    /// is expected grows while the window fills), but for a peak that a coarse window may have; so
    /// each such stretch is looked at at its ends and its peak, and searched by halves where they
    /// differ.
    pub fn next_crossing(&self, at_us: i64, terms: &Terms, threshold: f64, is_above: bool) -> Option<i64> {
        let crossed = |at_us: i64| (self.measure(at_us, terms).odte >= threshold) != is_above;
        let filled_us = self.first_bound_us().map(|first_us| first_us + terms.window_us);
        // A full window of single observations changes nowhere but where one leaves.
        let is_exact = self.is_exact();
        let mut from_us = at_us;
        let mut points = self.window.turning_points(at_us, terms.window_us);
        loop {
            let point = points.next();
            // The last instant of this stretch: just before the next one, or when U is full.
            let last_us = match (point, filled_us) {
                (Some(point_us), _) => point_us - 1,
                (None, Some(filled_us)) => filled_us.max(from_us),
                (None, None) => from_us,
            };
            let is_filling = filled_us.is_none_or(|filled_us| from_us < filled_us);
            if is_filling || !is_exact {
                let crossing = self.crossing_between(from_us, last_us, terms, threshold, is_above);
                if crossing.is_some() {
                    return crossing;
                }
            }
            let point_us = point?;
            if crossed(point_us) {
                return Some(point_us);
            }
            from_us = point_us;
        }
    }

    /// The first crossing in a stretch in which nothing leaves at once.
    fn crossing_between(
        &self,
        from_us: i64,
        last_us: i64,
        terms: &Terms,
        threshold: f64,
        is_above: bool,
    ) -> Option<i64> {
        if last_us <= from_us {
            return None;
        }
        let crossed = |at_us: i64| (self.measure(at_us, terms).odte >= threshold) != is_above;
        let peak_us = self.peak_between(from_us, last_us, terms);
        let end_us = [peak_us, Some(last_us)].into_iter().flatten().find(|end_us| crossed(*end_us))?;
        let guess_us = self.crossing_guess(from_us, terms, threshold);
        Some(first_true(from_us, end_us, guess_us, crossed))
    }

    /// Where ODTE may rise and fall within a stretch of a coarse window: while more was received than
    /// is expected, late observations that leave raise T; from where it is no more, R falls.
    fn peak_between(&self, from_us: i64, last_us: i64, terms: &Terms) -> Option<i64> {
        if self.is_exact() {
            return None;
        }
        let surplus = |at_us: i64| {
            let measure = self.measure(at_us, terms);
            measure.received - measure.expected
        };
        let (before, after) = (surplus(from_us), surplus(last_us));
        let is_between = before > 0.0 && after < 0.0;
        is_between.then(|| from_us + (before / (before - after) * (last_us - from_us) as f64) as i64)
    }

    /// About when ODTE falls to `threshold` while the window fills and nothing leaves it: it is then
    /// the counts of now over an expectation that grows with time.
    fn crossing_guess(&self, from_us: i64, terms: &Terms, threshold: f64) -> i64 {
        let measure = self.measure(from_us, terms);
        let up_us = self.up_us(from_us, terms) as f64;
        let odte_unclamped = measure.timeliness * measure.reliability_unclamped * measure.availability;
        // What is expected is proportional to the time up, from one message on.
        let up_us_per_expected = if measure.expected > 1.0 { up_us } else { period_us_max(terms) };
        let grown = up_us_per_expected * odte_unclamped / threshold;
        self.first_bound_us.saturating_add(grown as i64)
    }
}

/// The longest 1/R_e.
fn period_us_max(terms: &Terms) -> f64 {
    let periods_us = terms.rates.iter().flatten().map(|per_us| 1.0 / per_us);
    periods_us.fold(0.0, f64::max)
}

/// The first instant in (`from_us`, `to_us`] at which `holds`, which holds at the end. A guess that
/// is right within a few microseconds saves most of the search.
fn first_true(mut from_us: i64, mut to_us: i64, guess_us: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (before_us, after_us) = (guess_us.saturating_sub(2), guess_us.saturating_add(2));
    if before_us > from_us && before_us < to_us && !holds(before_us) {
        from_us = before_us;
    }
    if after_us > from_us && after_us < to_us && holds(after_us) {
        to_us = after_us;
    }
    while to_us - from_us > 1 {
        let middle_us = from_us + (to_us - from_us) / 2;
        if holds(middle_us) {
            to_us = middle_us;
        } else {
            from_us = middle_us;
        }
    }
    to_us
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
