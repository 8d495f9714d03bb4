//! When a twin is to be looked at: its ticks, and the wake that is set no later than the next of them.

use super::{Handled, NEVER_US};
use crate::entanglement::Terms;
use crate::life_cycle::Phase;
use crate::twin::Twin;

/// What a tick is for, in the order in which ticks of one instant run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Silent,
    Judge,
    Sample,
}

/// The next tick of a twin that is to be judged at `judged_us`, if nothing more is heard.
pub(super) fn next_tick(twin: &Twin, terms: &Terms, judged_us: Option<i64>) -> Option<(i64, Due)> {
    let silent = twin.life_cycle.unbinds_at(twin.entanglement.unbind_after_us(terms));
    let sample = twin.handled.wants_sample.then(|| next_sample(twin, terms));
    let due = [(silent, Due::Silent), (judged_us, Due::Judge), (sample, Due::Sample)];
    due.into_iter().filter_map(|(at_us, due)| Some((at_us?, due))).min()
}

/// The latest instant that anything of a twin was stamped with: its last update, step of life, or sample.
/// An update that comes when the wall clock was set back is not stamped before it (rule 2.2).
pub fn last_stamp_us(twin: &Twin, terms: &Terms) -> i64 {
    let Handled { digital_at, wants_sample, .. } = twin.handled;
    let last_us = digital_at.0.max(twin.life_cycle.since_us());
    match wants_sample || digital_at == Handled::default().digital_at {
        true => last_us,
        // Every update wants a sample; where none is wanted any more, it was taken.
        false => last_us.max(next_sample(twin, terms)),
    }
}

/// The next sample: the multiple of its interval after the last update (rules 2.4, 4.8).
pub(super) fn next_sample(twin: &Twin, terms: &Terms) -> i64 {
    (twin.handled.digital_at.0.div_euclid(terms.sample_us) + 1) * terms.sample_us
}

pub(super) fn next_judgement(twin: &Twin, terms: &Terms) -> Option<i64> {
    if twin.life_cycle.phase() == Phase::Bound {
        return twin.life_cycle.settles_at(twin.entanglement.settle_us(terms));
    }
    let (threshold, is_above) = waits_for(twin, terms)?;
    let since_us = twin.life_cycle.since_us().max(twin.handled.digital_at.0);
    twin.entanglement.next_crossing(since_us, terms, threshold, is_above)
}

/// The threshold that a judged twin may cross, and whether its ODTE is at or above it now.
pub(super) fn waits_for(twin: &Twin, terms: &Terms) -> Option<(f64, bool)> {
    match twin.life_cycle.phase() {
        Phase::Entangled => Some((terms.threshold, true)),
        Phase::Disentangled => Some((terms.threshold + terms.hysteresis, false)),
        Phase::Unbound | Phase::Bound | Phase::Done | Phase::Stopped => None,
    }
}

/// Sets the twin's wake after an update. To search for the next crossing at every update would be
/// dear, so the twin is woken no later than it may come, and looks again then. An update that is on
/// time only puts off what an entangled twin waits for: its timer may stay as it is.
pub(super) fn schedule(twin: &mut Twin, terms: &Terms, at_us: i64, may_hasten: bool) {
    twin.handled.wants_sample = true;
    let mut wanted_us = next_sample(twin, terms);
    if may_hasten || twin.life_cycle.phase() != Phase::Entangled {
        let silent_us = twin.life_cycle.unbinds_at(twin.entanglement.unbind_after_us(terms));
        let judged_us = earliest_judgement(twin, terms, at_us);
        wanted_us = wanted_us.min(silent_us.unwrap_or(NEVER_US)).min(judged_us.unwrap_or(NEVER_US));
    }
    twin.handled.wake_us = twin.handled.wake_us.min(wanted_us);
}

/// Sets the wake of a twin that was restored, perhaps under other terms: no later than its next tick,
/// which may have been due while the engine was down. Nothing else changes; where the terms are the
/// same, its digital events are those of a twin that was never interrupted.
pub fn rewake(twin: &mut Twin, terms: &Terms) {
    let at_us = twin.life_cycle.since_us().max(twin.handled.digital_at.0);
    let sample_us = twin.handled.wants_sample.then(|| next_sample(twin, terms));
    let silent_us = twin.life_cycle.unbinds_at(twin.entanglement.unbind_after_us(terms));
    let judged_us = earliest_judgement(twin, terms, at_us);
    let wanted_us = [sample_us, silent_us, judged_us].into_iter().flatten().min();
    twin.handled.wake_us = wanted_us.unwrap_or(NEVER_US);
}

/// No later than [`next_judgement`], and cheap.
pub(super) fn earliest_judgement(twin: &Twin, terms: &Terms, at_us: i64) -> Option<i64> {
    match waits_for(twin, terms) {
        // While the window fills, ODTE falls between two turns, but does not rise.
        Some((threshold, is_above)) if !is_above || twin.entanglement.is_full(at_us, terms) => {
            twin.entanglement.next_turn(at_us, terms, threshold, is_above)
        }
        _ => next_judgement(twin, terms),
    }
}
