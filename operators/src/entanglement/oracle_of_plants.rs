//! Property tests of what is expected of real devices: that are down now and then, that report on change, and whose
//! rate a property says.
//!
//! Method: chance makes a history of observations, times down and rates. The oracle keeps all of it, cuts the window
//! into the stretches between any two instants at which anything happened, and sums up over them as rules 4.3 to 4.5
//! say, without any of the code under test.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Happening {
    Heard { stream: u8, on_time: bool },
    Down,
    Up,
    Pace(f64),
}

#[derive(Default)]
struct Oracle {
    history: Vec<(i64, Happening)>,
}

impl Oracle {
    fn bound_us(&self) -> Option<i64> {
        self.history
            .iter()
            .find(|(_, what)| !matches!(what, Happening::Down | Happening::Pace(_)))
            .map(|(at, _)| *at)
    }

    /// The last thing of a kind at or before an instant.
    fn last<T>(&self, at_us: i64, pick: impl Fn(&Happening) -> Option<T>) -> Option<(i64, T)> {
        let before = self.history.iter().filter(|(at, _)| *at <= at_us);
        before.filter_map(|(at, what)| Some((*at, pick(what)?))).next_back()
    }

    fn is_down(&self, at_us: i64) -> bool {
        let last = self.last(at_us, |what| match what {
            Happening::Down => Some(true),
            Happening::Up => Some(false),
            _ => None,
        });
        last.is_some_and(|(_, is_down)| is_down)
    }

    /// Sums something over the stretches of a time in which it was up.
    fn sum(&self, from_us: i64, to_us: i64, value: impl Fn(i64) -> f64) -> f64 {
        let mut cuts: Vec<i64> = self.history.iter().map(|(at, _)| *at).collect();
        cuts.extend([from_us, to_us]);
        cuts.retain(|cut| (from_us..=to_us).contains(cut));
        cuts.sort_unstable();
        let stretches = cuts.windows(2).filter(|ends| !self.is_down(ends[0]));
        stretches.map(|ends| value(ends[0]) * (ends[1] - ends[0]) as f64).sum()
    }

    fn measure(&self, at_us: i64, terms: &Terms) -> (f64, f64, f64) {
        let window_us = at_us - terms.window_us;
        let inside = self.history.iter().filter(|(at, _)| (window_us..=at_us).contains(at));
        let heard: Vec<(u8, bool)> = inside
            .filter_map(|(_, what)| match what {
                Happening::Heard { stream, on_time } => Some((*stream, *on_time)),
                _ => None,
            })
            .collect();
        let unrated = terms.rates.iter().all(Rate::is_unrated);
        let last_on_time = self.last(at_us, |what| match what {
            Happening::Heard { on_time, .. } => Some(*on_time),
            _ => None,
        });
        let timeliness = match heard.len() {
            0 if unrated && last_on_time.is_some_and(|(_, on_time)| on_time) => 1.0,
            0 => 0.0,
            all => heard.iter().filter(|(_, on_time)| *on_time).count() as f64 / all as f64,
        };
        let bound_us = self.bound_us().unwrap_or(at_us);
        let since_us = window_us.max(bound_us).min(at_us);
        let up_us = self.sum(since_us, at_us, |_| 1.0);
        let availability = if since_us == at_us { 1.0 } else { up_us / (at_us - since_us) as f64 };
        let mut reliability = 1.0f64;
        for (stream, rate) in (0u8..).zip(&terms.rates) {
            let received = heard.iter().filter(|(of, _)| *of == stream).count() as f64;
            let ratio = match *rate {
                Rate::None => continue,
                Rate::Fixed(per_us) => received / (per_us * up_us).max(1.0),
                Rate::Period { otherwise, .. } => {
                    let pace = |at_us| {
                        let last = self.last(at_us, |what| match what {
                            Happening::Pace(per_us) => Some(*per_us),
                            _ => None,
                        });
                        last.map(|(_, per_us)| per_us).or(otherwise).unwrap_or(0.0)
                    };
                    let expected = self.sum(since_us, at_us, pace);
                    if expected <= 0.0 && pace(at_us) <= 0.0 {
                        continue;
                    }
                    received / expected.max(1.0)
                }
                Rate::OnChange { silence_max_us } => {
                    let news = self.last(at_us, |what| match what {
                        Happening::Heard { stream: of, .. } if *of == stream => Some(()),
                        Happening::Up => Some(()),
                        _ => None,
                    });
                    let news_us = news.map_or(bound_us, |(at, ())| at.max(bound_us));
                    f64::from(u8::from(self.is_down(at_us) || at_us - news_us <= silence_max_us))
                }
            };
            reliability = reliability.min(ratio);
        }
        if up_us == 0.0 && since_us < at_us {
            reliability = 1.0;
        }
        (timeliness, reliability, availability)
    }
}

fn any_rate() -> impl Strategy<Value = Rate> {
    prop_oneof![
        Just(Rate::None),
        (0.05f64..2.0).prop_map(|per_second| Rate::Fixed(per_second / 1e6)),
        (1_000_000i64..100_000_000).prop_map(|silence_max_us| Rate::OnChange { silence_max_us }),
        prop::option::of(0.05e-6f64..2e-6).prop_map(|otherwise| Rate::Period {
            property: 0,
            us_per_unit: 1.0,
            otherwise
        }),
    ]
}

fn any_terms() -> impl Strategy<Value = Terms> {
    (5_000i64..60_000, prop::collection::vec(any_rate(), 1..4), 0.05f64..1.0).prop_map(
        |(window_ms, rates, threshold)| Terms {
            window_us: window_ms * 1_000,
            threshold,
            ..Terms::compile(&EntanglementSettings::default(), &rates).expect("good")
        },
    )
}

/// Whole milliseconds, so that many things fall on one instant of another's border.
fn any_history() -> impl Strategy<Value = Vec<(i64, Happening)>> {
    let what = prop_oneof![
        12 => (0u8..3, prop::bool::weighted(0.8)).prop_map(|(stream, on_time)| Happening::Heard { stream, on_time }),
        2 => Just(Happening::Down),
        3 => Just(Happening::Up),
        2 => prop_oneof![Just(0.0), 0.05e-6f64..2e-6].prop_map(Happening::Pace),
    ];
    prop::collection::vec((1i64..20_000, what), 1..60)
}

fn feed(
    terms: &Terms,
    history: &[(i64, Happening)],
    mut each: impl FnMut(&Entanglement, &Oracle, i64) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let (mut entanglement, mut oracle) = (Entanglement::default(), Oracle::default());
    let mut at_us = 1_700_000_000_000_000;
    for (gap_ms, what) in history {
        at_us += gap_ms * 1_000;
        let mut what = *what;
        match &mut what {
            Happening::Heard { stream, on_time } => {
                *stream %= terms.rates.len() as u8;
                entanglement.bind(at_us);
                let observation =
                    Observation { at_us, transport_us: 0, compute_us: 0, on_time: *on_time, stream: *stream };
                entanglement.observe(observation, terms);
            }
            Happening::Down => _ = entanglement.go_down(at_us, at_us, terms),
            Happening::Up => {
                let is_news = entanglement.come_up(at_us);
                let is_first = !entanglement.was_bound();
                entanglement.bind(at_us);
                if !is_news && !is_first {
                    continue;
                }
            }
            Happening::Pace(per_us) => {
                let periods =
                    (0u8..).zip(&terms.rates).filter(|(_, rate)| matches!(rate, Rate::Period { .. }));
                for (stream, _) in periods {
                    entanglement.pace(stream, at_us, *per_us, terms);
                }
            }
        }
        oracle.history.push((at_us, what));
        each(&entanglement, &oracle, at_us)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odte_agrees_with_the_oracle(
        terms in any_terms(),
        history in any_history(),
        later_us in 0i64..100_000_000,
    ) {
        feed(&terms, &history, |entanglement, oracle, at_us| {
            for at_us in [at_us, at_us + later_us] {
                let found = entanglement.measure(at_us, &terms);
                let (timeliness, reliability, availability) = oracle.measure(at_us, &terms);
                prop_assert!((found.timeliness - timeliness).abs() < 1e-9, "T at {at_us}");
                prop_assert!((found.availability - availability).abs() < 1e-9, "A at {at_us}");
                let reliability = reliability.min(1.0);
                prop_assert!((found.reliability - reliability).abs() < 1e-9, "R at {at_us}: {found:?} {reliability}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_kept_is_sound_and_bounded(terms in any_terms(), history in any_history()) {
        feed(&terms, &history, |entanglement, _, at_us| {
            let checked = entanglement.check(terms.rates.len(), terms.window_us, at_us);
            prop_assert!(checked.is_ok(), "{checked:?}");
            Ok(())
        })?;
    }

    #[test]
    fn a_crossing_is_the_first_instant_on_the_other_side(terms in any_terms(), history in any_history()) {
        feed(&terms, &history, |entanglement, _, at_us| {
            // A twin that is known to be down is bound no more, and not judged.
            if entanglement.down_physical_us().is_some() || !entanglement.was_bound() {
                return Ok(());
            }
            let odte = |at_us: i64| entanglement.measure(at_us, &terms).odte;
            let is_above = odte(at_us) >= terms.threshold;
            let found = entanglement.next_crossing(at_us, &terms, terms.threshold, is_above);
            let other_side = |at_us: i64| (odte(at_us) >= terms.threshold) != is_above;
            if let Some(found_us) = found {
                prop_assert!(found_us > at_us && other_side(found_us) && !other_side(found_us - 1));
            }
            let until_us = found.unwrap_or(at_us + 3 * terms.window_us + 300_000_000);
            if !is_above || entanglement.is_full(at_us, &terms) {
                let turn_us = entanglement.next_turn(at_us, &terms, terms.threshold, is_above);
                prop_assert!(found.is_none() || turn_us.is_some_and(|turn_us| turn_us <= until_us));
            }
            for part in 1..60 {
                let candidate_us = at_us + (until_us - 1 - at_us) * part / 60;
                // A peak that only just touches the threshold is no crossing that anybody could tell.
                let is_clear = (odte(candidate_us) - terms.threshold).abs() > 1e-9;
                prop_assert!(!is_clear || !other_side(candidate_us), "{candidate_us} before {found:?}");
            }
            Ok(())
        })?;
    }
}
