//! Property tests against an oracle that keeps every observation.
//!
//! Method: chance makes a stream of observations and instants to read at. The oracle keeps all of
//! them and answers each question from the text of rule 4, by filtering and counting, without any
//! of the code under test. Exact windows must agree to rounding; a coarse one must lie between the
//! oracle's answers for the window without and with the whole of its partly expired sub-window.

use proptest::prelude::*;

use super::*;
use crate::life_cycle::{Judgement, judge};

#[derive(Default)]
struct Oracle {
    seen: Vec<Observation>,
    first_bound_us: Option<i64>,
}

impl Oracle {
    fn inside(&self, since_us: i64, at_us: i64) -> impl Iterator<Item = &Observation> {
        let inside = move |seen: &&Observation| seen.at_us >= since_us && seen.at_us <= at_us;
        self.seen.iter().filter(inside)
    }

    fn odte(&self, at_us: i64, terms: &Terms) -> (f64, f64, f64) {
        let since_us = at_us - terms.window_us;
        let received = self.inside(since_us, at_us).count();
        let on_time = self.inside(since_us, at_us).filter(|seen| seen.on_time).count();
        let timeliness = match received {
            0 if terms.are_unrated() => {
                f64::from(u8::from(self.seen.last().is_some_and(|seen| seen.on_time)))
            }
            0 => 0.0,
            _ => on_time as f64 / received as f64,
        };
        let up_us = match self.first_bound_us {
            _ if terms.expects_full_window => terms.window_us,
            Some(first_us) => (at_us - first_us).min(terms.window_us),
            None => 0,
        };
        let mut reliability = 1.0f64;
        for (stream, per_us) in terms.rates.iter().enumerate() {
            if let Rate::Fixed(per_us) = per_us {
                let of_stream = |seen: &&Observation| usize::from(seen.stream) == stream;
                let received = self.inside(since_us, at_us).filter(of_stream).count() as f64;
                let expected = per_us * (up_us as f64).max(1.0 / per_us);
                reliability = reliability.min(received / expected);
            }
        }
        (timeliness, reliability, timeliness * reliability)
    }
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let rates = prop::collection::vec(prop::option::of(0.05f64..50.0), 1..4);
    (1_000i64..60_000, rates, any::<bool>()).prop_map(|(window_ms, rates, full)| Terms {
        window_us: window_ms * 1_000,
        desired_timeliness_us: 1_000_000,
        threshold: 0.9,
        hysteresis: 0.0,
        settle_us: 0,
        unbind_after_us: None,
        sample_us: 10_000_000,
        expects_full_window: full,
        rates: rates
            .iter()
            .map(|rate| rate.map_or(Rate::None, |per_second| Rate::Fixed(per_second / 1e6)))
            .collect(),
        settle_is_given: true,
        unbind_is_given: true,
        profiles: Box::default(),
        overrides: Box::default(),
    })
}

/// Gap to the one before, lateness, stream.
fn any_stream(gap_us: std::ops::Range<i64>) -> impl Strategy<Value = Vec<(i64, i64, u8)>> {
    prop::collection::vec((gap_us, 0i64..2_000_000, 0u8..3), 1..200)
}

fn feed(
    terms: &Terms,
    stream: &[(i64, i64, u8)],
    mut each: impl FnMut(&Entanglement, &Oracle, i64) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let (mut entanglement, mut oracle) = (Entanglement::default(), Oracle::default());
    let mut at_us = 1_700_000_000_000_000;
    for (gap_us, late_us, number) in stream {
        at_us += gap_us;
        entanglement.bind(at_us);
        oracle.first_bound_us.get_or_insert(at_us);
        let observation = Observation {
            at_us,
            transport_us: *late_us,
            compute_us: 0,
            on_time: *late_us <= terms.desired_timeliness_us,
            stream: number % terms.rates.len() as u8,
        };
        entanglement.observe(observation, terms);
        oracle.seen.push(observation);
        each(&entanglement, &oracle, at_us)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_exact_window_agrees_with_the_oracle(
        terms in any_terms(),
        stream in any_stream(0..40_000_000),
        later_us in 0i64..100_000_000,
    ) {
        // Sparse enough that few windows hold more than 64: those are the next test's.
        feed(&terms, &stream, |entanglement, oracle, at_us| {
            if !matches!(entanglement.window, Window::Exact(_)) {
                return Ok(());
            }
            for at_us in [at_us, at_us + later_us] {
                let measure = entanglement.measure(at_us, &terms);
                let (timeliness, reliability, odte) = oracle.odte(at_us, &terms);
                prop_assert!((measure.timeliness - timeliness).abs() < 1e-9, "T at {at_us}");
                prop_assert!((measure.reliability - reliability).abs() < 1e-9, "R at {at_us}");
                prop_assert!((measure.odte - odte).abs() < 1e-9, "ODTE at {at_us}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_coarse_window_lies_within_one_sub_window_of_the_oracle(
        terms in any_terms(),
        stream in any_stream(0..400_000),
        later_us in 0i64..70_000_000,
    ) {
        feed(&terms, &stream, |entanglement, oracle, at_us| {
            let width_us = (terms.window_us + 63) / 64;
            for at_us in [at_us, at_us + later_us] {
                let measure = entanglement.measure(at_us, &terms);
                let since_us = at_us - terms.window_us;
                let least = oracle.inside(since_us + width_us, at_us).count() as f64;
                let most = oracle.inside(since_us - width_us, at_us).count() as f64;
                prop_assert!(
                    (least..=most).contains(&(measure.received + 1e-6).min(most)),
                    "{} of {least}..{most} at {at_us}", measure.received
                );
                prop_assert!(measure.on_time <= measure.received + 1e-6);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_crossing_is_the_first_instant_on_the_other_side(
        terms in any_terms(),
        stream in any_stream(0..20_000_000),
    ) {
        feed(&terms, &stream, |entanglement, oracle, at_us| {
            if !matches!(entanglement.window, Window::Exact(_)) {
                return Ok(());
            }
            // The oracle's candidates: just after each observation leaves, and a fine sweep of the
            // warm-up in between.
            let is_above = entanglement.measure(at_us, &terms).odte >= terms.threshold;
            let found = entanglement.next_crossing(at_us, &terms, terms.threshold, is_above);
            let other_side = |at_us| (oracle.odte(at_us, &terms).2.min(1.0) >= terms.threshold) != is_above;
            let end_us = at_us + terms.window_us + 1;
            if let Some(found_us) = found {
                prop_assert!(found_us > at_us);
                // Rounding may differ by the last bit on the border itself.
                prop_assert!(other_side(found_us) || other_side(found_us + 1));
            }
            let until_us = found.unwrap_or(end_us).min(end_us);
            let leaves = oracle.seen.iter().map(|seen| seen.at_us + terms.window_us + 1);
            let sweep = (1..50).map(|part| at_us + (until_us - at_us) * part / 50);
            for candidate_us in leaves.chain(sweep) {
                if candidate_us > at_us && candidate_us < until_us - 1 {
                    prop_assert!(!other_side(candidate_us), "{candidate_us} before {found:?}");
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_judgement_has_hysteresis(odte in 0.0f64..1.0, threshold in 0.1f64..0.9, hysteresis in 0.0f64..0.1) {
        let from_below = judge(odte, threshold, hysteresis, Judgement::Disentangled);
        let from_above = judge(odte, threshold, hysteresis, Judgement::Entangled);
        prop_assert_eq!(from_above == Judgement::Entangled, odte >= threshold);
        prop_assert_eq!(from_below == Judgement::Entangled, odte >= threshold + hysteresis);
    }
}
