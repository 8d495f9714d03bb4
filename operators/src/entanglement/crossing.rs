//! When ODTE may cross its threshold, if nothing more is heard (rule 4.8): from one turn to the next it changes one
//! way only, or has one peak, so a few looks and a search by halves find the instant.

use super::{Entanglement, Expectation, Rate, Terms};

impl Entanglement {
    /// Whether what is expected may take turns of its own.
    fn has_own_turns(&self, terms: &Terms) -> bool {
        self.expectation.is_some() || !terms.are_steady()
    }

    /// Whether a full window changes nowhere but where something leaves it at once: neither sub-windows nor a time
    /// down or a former rate leave it bit by bit.
    fn is_even(&self, at_us: i64, terms: &Terms) -> bool {
        let since_us = at_us - terms.window_us;
        self.is_exact() && self.expectation.as_deref().is_none_or(|expectation| expectation.is_even(since_us))
    }

    /// Whether it was down at some time that counts.
    fn was_down(&self) -> bool {
        self.expectation.as_ref().is_some_and(|expectation| expectation.was_down())
    }

    /// The instants after `at_us` between which ODTE changes one way only, or has one peak.
    fn turning_points<'a>(&'a self, at_us: i64, terms: &Terms) -> impl Iterator<Item = i64> + use<'a> {
        let of_window = self.window.turning_points(at_us, terms.window_us);
        let own = self.has_own_turns(terms).then(|| {
            let mut points: Vec<i64> = self.window.turning_points(at_us, terms.window_us).collect();
            let first_us = self.first_bound_us().unwrap_or(at_us);
            let empty = Expectation::default();
            let expectation = self.expectation.as_deref().unwrap_or(&empty);
            expectation.turning_points(terms, first_us, &mut points);
            points.retain(|point| *point > at_us);
            points.sort_unstable();
            points.dedup();
            points
        });
        let is_plain = own.is_none();
        of_window.take_while(move |_| is_plain).chain(own.into_iter().flatten())
    }

    /// An instant after `at_us` up to which ODTE, if nothing more is heard, stays on its side of
    /// `threshold`: mostly the next at which something leaves the window, which costs no search. Not
    /// for an entangled twin whose window fills, as what is expected of it grows all the time.
    pub fn next_turn(&self, at_us: i64, terms: &Terms, threshold: f64, is_above: bool) -> Option<i64> {
        let turn_us = self.turning_points(at_us, terms).next()?;
        // Sub-windows leave evenly, and so does a time down, so ODTE may cross on the way.
        let before = match self.is_even(at_us, terms) {
            false => self.crossing_between(at_us, turn_us - 1, terms, threshold, is_above),
            true => None,
        };
        before.or(Some(turn_us))
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
        let is_even = self.is_even(at_us, terms);
        let mut from_us = at_us;
        let mut points = self.turning_points(at_us, terms);
        loop {
            let point = points.next();
            // The last instant of this stretch: just before the next one, or when U is full.
            let last_us = match (point, filled_us) {
                (Some(point_us), _) => point_us - 1,
                (None, Some(filled_us)) => filled_us.max(from_us),
                (None, None) => from_us,
            };
            let is_filling = filled_us.is_none_or(|filled_us| from_us < filled_us);
            if is_filling || !is_even {
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
        let end_us = match self.was_down() {
            true if crossed(last_us) => last_us,
            true if is_above => return None,
            true => self
                .own_peak_between(from_us, last_us, terms, threshold)
                .filter(|peak_us| crossed(*peak_us))?,
            false => {
                let peak_us = self.peak_between(from_us, last_us, terms);
                [peak_us, Some(last_us)].into_iter().flatten().find(|end_us| crossed(*end_us))?
            }
        };
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

    /// Where ODTE is highest within a stretch, of a twin that was down: A rises and R falls as time goes on, so the
    /// lesser of what they allow has one peak. (In sub-windows T moves as well; then it is near the highest.) None
    /// where it cannot come to the threshold anyway.
    fn own_peak_between(
        &self,
        mut from_us: i64,
        mut last_us: i64,
        terms: &Terms,
        threshold: f64,
    ) -> Option<i64> {
        let (first, last) = (self.measure(from_us, terms), self.measure(last_us, terms));
        // One stream's R goes one way; the least of several may be greatest in between.
        let reliability = match terms.rates.iter().filter(|rate| !rate.is_unrated()).count() {
            0 | 1 => first.reliability.max(last.reliability),
            _ => 1.0,
        };
        let most = first.timeliness.max(last.timeliness) * first.availability.max(last.availability);
        if most * reliability < threshold {
            return None;
        }
        let odte = |at_us: i64| self.measure(at_us, terms).odte;
        while last_us - from_us > 2 {
            let third_us = (last_us - from_us) / 3;
            let (left_us, right_us) = (from_us + third_us, last_us - third_us);
            if odte(left_us) < odte(right_us) {
                from_us = left_us;
            } else {
                last_us = right_us;
            }
        }
        Some(from_us + (last_us - from_us) / 2)
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
    let periods_us = terms.rates.iter().filter_map(Rate::per_us).map(|per_us| 1.0 / per_us);
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
