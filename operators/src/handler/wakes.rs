//! Property tests of when a twin is woken.
//!
//! Method: chance makes a stream of updates, and how often a worker looks at the twin in between.
//! The reference looks for ticks before every update and at the end, and relies on no wake. However
//! often a worker ticks, and where it ticks only at the wake that the twin asked for, the sequence of
//! digital events must be the same, to the last digit. What a twin asks for must never be later than
//! its next tick.
//!
//! A twin may be written as a record and restored from it at any of these updates: no one must notice.

use proptest::prelude::*;

use super::tests::Recorder;
use super::*;
use crate::adaptation::Adaptation;
use crate::batch::ClaimedTime;
use crate::fixture::{Update, apply, twin_type};
use crate::layout::Layout;

/// See [`any_step`].
type Step = (f64, i64, u16, bool, bool, Option<bool>);

#[derive(Clone, Debug)]
struct Case {
    definition: TwinType,
    updates: Vec<Update>,
    gap_us: i64,
    /// The source is lost before the update with this number.
    lost_before: usize,
    end_us: i64,
}

/// A type whose updates come about every `gap_us`: what it expects is near what comes, so that ODTE
/// crosses its threshold often, and its window holds a few updates or hundreds.
fn any_type(gap_us: i64) -> impl Strategy<Value = TwinType> {
    // 0 is no expectation, negative so many gaps of silence on change, above 2 a period from a property.
    let share = prop_oneof![1 => Just(0.0), 8 => 0.3f64..1.3, 1 => -100.0f64..-3.0, 1 => Just(9.0)];
    let updates = prop_oneof![5i64..60, 50i64..90, 60i64..400];
    let settings = (any::<bool>(), 30u32..=90, prop_oneof![Just(0u32), 1u32..=10], 0u32..3, 1i64..500);
    (updates, prop::collection::vec(share, 1..4), settings).prop_map(
        move |(updates, shares, (full, threshold, hysteresis, settle, sample))| {
            let rate = |share: &f64| match *share {
                0.0 => "\"none\"".to_owned(),
                9.0 => "{\"period\": \"period\", \"else\": \"1/s\"}".to_owned(),
                share if share < 0.0 => {
                    let silence_us = 1_000.max((-share * gap_us as f64) as i64);
                    format!("{{\"on_change\": {{\"silence_max\": \"{silence_us}us\"}}}}")
                }
                share => format!("\"{}/s\"", share * 1e6 / gap_us as f64 / shares.len() as f64),
            };
            let streams = (0..).zip(&shares).map(|(n, share)| format!("\"s{n}\": {}", rate(share)));
            let streams: Vec<String> = streams.collect();
            let warm_up = if full { "full" } else { "bound" };
            let settle = match settle {
                0 => "\"settle\": \"0s\",".to_owned(),
                1 => format!("\"settle\": \"{}us\",", 7 * gap_us),
                _ => String::new(),
            };
            twin_type(
                "any",
                &format!(
                    r#"{{
                        "properties": {{
                            "t": {{"type": "double"}}, "period": {{"type": "integer", "unit": "us"}}
                        }},
                        "entanglement": {{
                            "window": "{}us", "desired_timeliness": "100ms", "sample": "{}us", {settle}
                            "threshold": {}, "hysteresis": {}, "warm_up": "{warm_up}"
                        }},
                        "streams": {{{}}}
                    }}"#,
                    gap_us * updates,
                    1_000.max(gap_us * sample),
                    f64::from(threshold) / 100.0,
                    f64::from(hysteresis) / 100.0,
                    streams.join(", ")
                ),
            )
        },
    )
}

/// Gap to the update before in gaps, lateness, stream, whether it is live and may bind, and whether it is one of
/// presence. Mostly even, with a pause now and then; mostly on time, live and binding.
fn any_step() -> impl Strategy<Value = Step> {
    let gaps = prop_oneof![40 => 0.0f64..2.0, 3 => 2.0f64..30.0, 1 => 30.0f64..500.0];
    let late_us = prop_oneof![7 => Just(0i64), 1 => Just(150_000i64)];
    let presence = prop_oneof![30 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))];
    (gaps, late_us, 0u16..3, prop::bool::weighted(0.97), prop::bool::weighted(0.97), presence)
}

fn any_case() -> impl Strategy<Value = Case> {
    let gap_us = 500i64..20_000;
    let types = gap_us.prop_flat_map(|gap_us| (Just(gap_us), any_type(gap_us)));
    let steps = prop::collection::vec(any_step(), 1..400);
    (types, steps, 0usize..1_000).prop_map(|((gap_us, definition), steps, lost_before)| {
        let mut at_us = 1_700_000_000_000_000;
        let streams = definition.streams.len() as u16;
        let updates: Vec<Update> = steps
            .iter()
            .enumerate()
            .map(|(number, (gaps, late_us, stream, live, binds, presence))| {
                at_us += (gaps * gap_us as f64) as i64;
                Update {
                    physical_us: at_us - late_us,
                    claimed: ClaimedTime::Device,
                    stream: stream % streams,
                    live: *live,
                    binds: *binds,
                    presence: *presence,
                    // Now and then the device says that it sends twice as often, or half.
                    ..match number % 23 {
                        0 => Update::at(at_us, &[("period", (gap_us * [1, 2][number / 23 % 2]).into())]),
                        _ => Update::at(at_us, &[("t", 1.0.into())]),
                    }
                }
            })
            .collect();
        Case { definition, updates, gap_us, lost_before, end_us: at_us + 1_000 * gap_us }
    })
}

/// When a worker looks at the twin between two updates.
#[derive(Clone, Copy)]
enum Look {
    /// Before every update, wanted or not.
    Always,
    /// Every so many microseconds, and before an update where the wake says so.
    Every(i64),
    /// Only when the wake says so.
    Wake,
    /// Only before an update, where the wake says so.
    Late,
}

/// Runs a case; answers its digital events, or what is wrong with a wake. Before each update whose
/// number `interrupts` names, the twin is restored from its record.
fn run(case: &Case, look: Look, interrupts: impl Fn(usize) -> bool) -> Result<Vec<String>, String> {
    let definition = &case.definition;
    let types = [definition.clone()];
    let (adaptation, _) = Adaptation::new(&Layout::of(&types), &types).expect("nothing has changed");
    let mut bytes = Vec::new();
    let mut twin = Twin::new(0, definition);
    let mut recorder = Recorder::default();
    let mut now_us = case.updates[0].digital_us;
    for (number, update) in case.updates.iter().enumerate() {
        if interrupts(number) {
            bytes.clear();
            twin.write(&mut bytes);
            twin = adaptation.restore(&bytes).expect("it was written");
        }
        idle(&mut twin, definition, &mut now_us, update.digital_us, look, &mut recorder);
        if number == case.lost_before {
            source_lost("p", &mut twin, definition, update.digital_us, 7, &mut recorder);
        }
        apply("p", &mut twin, definition, update, matches!(look, Look::Always), &mut recorder);
        let judged_us = next_judgement(&twin, definition.terms_of(&twin));
        let due_us =
            next_tick(&twin, definition.terms_of(&twin), judged_us).map_or(NEVER_US, |(at_us, _)| at_us);
        if twin.handled.wake_us > due_us {
            let wake_us = twin.handled.wake_us;
            return Err(format!("after update {number}: woken at {wake_us}, and due at {due_us}"));
        }
    }
    idle(&mut twin, definition, &mut now_us, case.end_us, look, &mut recorder);
    tick("p", &mut twin, definition, case.end_us, &mut recorder);
    Ok(recorder.lines)
}

fn idle(
    twin: &mut Twin,
    definition: &TwinType,
    now_us: &mut i64,
    until_us: i64,
    look: Look,
    recorder: &mut Recorder,
) {
    match look {
        Look::Always | Look::Late => {}
        Look::Every(step_us) => {
            while *now_us + step_us < until_us {
                *now_us += step_us;
                tick("p", twin, definition, *now_us, recorder);
            }
        }
        Look::Wake => {
            while twin.handled.wake_us < until_us {
                tick("p", twin, definition, twin.handled.wake_us, recorder);
            }
        }
    }
    *now_us = until_us;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_digital_events_are_the_same_however_often_a_worker_looks(
        case in any_case(),
        step_gaps in 0.1f64..20.0,
    ) {
        let step_us = (step_gaps * case.gap_us as f64) as i64;
        let expected = run(&case, Look::Always, |_| false).map_err(TestCaseError::fail)?;
        for look in [Look::Late, Look::Wake, Look::Every(step_us)] {
            let found = run(&case, look, |_| false).map_err(TestCaseError::fail)?;
            let first = expected.iter().zip(&found).find(|(a, b)| a != b);
            prop_assert!(first.is_none(), "{first:?}");
            prop_assert_eq!(expected.len(), found.len());
        }
    }

    #[test]
    fn the_digital_events_are_the_same_when_the_twin_is_restored(
        case in any_case(),
        step_gaps in 0.1f64..20.0,
        interrupted in prop::collection::vec(prop::bool::weighted(0.1), 400),
    ) {
        let step_us = (step_gaps * case.gap_us as f64) as i64;
        let expected = run(&case, Look::Always, |_| false).map_err(TestCaseError::fail)?;
        for look in [Look::Always, Look::Late, Look::Wake, Look::Every(step_us)] {
            let found = run(&case, look, |number| interrupted[number]).map_err(TestCaseError::fail)?;
            let first = expected.iter().zip(&found).find(|(a, b)| a != b);
            prop_assert!(first.is_none(), "{first:?}");
            prop_assert_eq!(expected.len(), found.len());
        }
    }
}
