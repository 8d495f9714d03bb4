//! Property tests of when a twin is woken.
//!
//! Method: chance makes a stream of updates, and how often a worker looks at the twin in between.
//! The reference looks for ticks before every update and at the end, and relies on no wake. However
//! often a worker ticks, and where it ticks only at the wake that the twin asked for, the sequence of
//! digital events must be the same, to the last digit. What a twin asks for must never be later than
//! its next tick.

use proptest::prelude::*;

use super::tests::Recorder;
use super::*;
use crate::batch::ClaimedTime;
use crate::fixture::{Update, apply, twin_type};

/// Gap to the update before, lateness, stream, and whether it is live and may bind.
type Step = (i64, i64, u16, bool, bool);

#[derive(Clone, Debug)]
struct Case {
    definition: TwinType,
    updates: Vec<Update>,
    /// The source is lost before the update with this number.
    lost_before: usize,
    end_us: i64,
}

fn any_type() -> impl Strategy<Value = TwinType> {
    let rate = prop_oneof![Just("none".to_owned()), (1u32..200).prop_map(|rate| format!("{rate}/s"))];
    let streams = prop::collection::vec(rate, 1..4);
    let window_ms = prop_oneof![200u32..2_000, 2_000u32..20_000];
    (window_ms, streams, any::<bool>(), 10u32..=80, 0u32..=20, 0u32..3, 100u32..3_000).prop_map(
        |(window_ms, rates, full, threshold, hysteresis, settle, sample_ms)| {
            let streams: Vec<String> = (0..).zip(&rates).map(|(n, rate)| format!("\"s{n}\":\"{rate}\"")).collect();
            let warm_up = if full { "full" } else { "bound" };
            let settle = match settle {
                0 => "\"settle\":\"0s\",",
                1 => "\"settle\":\"300ms\",",
                _ => "",
            };
            twin_type(
                "any",
                &format!(
                    r#"{{"properties": {{"t": {{"type": "double"}}}},
                    "entanglement": {{"window": "{window_ms}ms", "desired_timeliness": "100ms", {settle}
                        "threshold": {}, "hysteresis": {}, "sample": "{sample_ms}ms", "warm_up": "{warm_up}"}},
                    "streams": {{{}}}}}"#,
                    f64::from(threshold) / 100.0,
                    f64::from(hysteresis) / 100.0,
                    streams.join(",")
                ),
            )
        },
    )
}

/// Mostly dense, with a pause now and then; mostly on time, live and binding.
fn any_step() -> impl Strategy<Value = Step> {
    let gap_us = prop_oneof![8 => 0i64..20_000, 3 => 20_000i64..400_000, 1 => 400_000i64..30_000_000];
    let late_us = prop_oneof![3 => Just(0i64), 1 => Just(150_000i64)];
    (gap_us, late_us, 0u16..3, prop::bool::weighted(0.97), prop::bool::weighted(0.97))
}

fn any_case() -> impl Strategy<Value = Case> {
    let steps = prop::collection::vec(any_step(), 1..250);
    (any_type(), steps, 0usize..500).prop_map(|(definition, steps, lost_before)| {
        let mut at_us = 1_700_000_000_000_000;
        let streams = definition.streams.len() as u16;
        let updates: Vec<Update> = steps
            .iter()
            .map(|(gap_us, late_us, stream, live, binds)| {
                at_us += gap_us;
                Update {
                    physical_us: at_us - late_us,
                    claimed: ClaimedTime::Device,
                    stream: stream % streams,
                    live: *live,
                    binds: *binds,
                    ..Update::at(at_us, &[("t", 1.0.into())])
                }
            })
            .collect();
        Case { definition, updates, lost_before, end_us: at_us + 40_000_000 }
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

/// Runs a case; answers its digital events, or what is wrong with a wake.
fn run(case: &Case, look: Look) -> Result<Vec<String>, String> {
    let definition = &case.definition;
    let mut twin = Twin::new(0, definition);
    let mut recorder = Recorder::default();
    let mut now_us = case.updates[0].digital_us;
    for (number, update) in case.updates.iter().enumerate() {
        idle(&mut twin, definition, &mut now_us, update.digital_us, look, &mut recorder);
        if number == case.lost_before {
            source_lost("p", &mut twin, definition, update.digital_us, 7, &mut recorder);
        }
        apply("p", &mut twin, definition, update, matches!(look, Look::Always), &mut recorder);
        let judged_us = next_judgement(&twin, &definition.terms);
        let due_us = next_tick(&twin, &definition.terms, judged_us).map_or(NEVER_US, |(at_us, _)| at_us);
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
        step_us in 1_000i64..50_000,
    ) {
        let expected = run(&case, Look::Always).map_err(TestCaseError::fail)?;
        for look in [Look::Late, Look::Wake, Look::Every(step_us)] {
            let found = run(&case, look).map_err(TestCaseError::fail)?;
            let first = expected.iter().zip(&found).find(|(a, b)| a != b);
            prop_assert!(first.is_none(), "{first:?}");
            prop_assert_eq!(expected.len(), found.len());
        }
    }
}
