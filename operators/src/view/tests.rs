//! What is read of a twin after a script of updates: its cause, whatever brought it there.

use serde_json::json;

use super::*;
use crate::fixture::{Update, apply, twin_type};
use crate::handler::{self, Nobody};

const S: i64 = 1_000_000;

/// A message a second, window 10 s, T_d 1 s.
fn press() -> TwinType {
    twin_type(
        "press",
        r#"{
            "properties": {"t": {"type": "double"}, "mode": {"type": "enum", "values": ["off", "on"]},
                           "n": {"type": "integer"}, "list": {"type": "array", "items": "integer"}},
            "entanglement": {"window": "10s", "threshold": 0.8, "desired_timeliness": "1s"},
            "streams": {"a": "1/s"}
        }"#,
    )
}

/// Updates at these seconds, each this late in transport and in compute, then ticks up to `until` seconds.
fn led(seconds: &[i64], transport_us: i64, compute_us: i64, until: i64) -> (TwinType, Twin) {
    let definition = press();
    let mut twin = Twin::new(0, &definition);
    for second in seconds {
        let digital_us = second * S;
        let arrived_us = digital_us - compute_us;
        let physical_us = arrived_us - transport_us;
        let update = Update { physical_us, arrived_us, ..Update::at(digital_us, &[("t", json!(1.5))]) };
        apply("p", &mut twin, &definition, &update, false, &mut Nobody);
    }
    handler::tick("p", &mut twin, &definition, until * S, &mut Nobody);
    (definition, twin)
}

#[test]
fn the_cause_is_what_is_low() {
    let all: Vec<i64> = (1..=20).collect();
    let every_third: Vec<i64> = (1..=20).step_by(3).collect();
    for (seconds, transport_us, compute_us, until, phase, cause) in [
        (&[][..], 0, 0, 5, Phase::Unbound, Cause::NeverHeard),
        (&[1], 0, 0, 1, Phase::Bound, Cause::Settling),
        (&all, 0, 0, 20, Phase::Entangled, Cause::Nothing),
        (&all, 2 * S, 0, 20, Phase::Disentangled, Cause::LateInTransport),
        (&all, S / 10, 2 * S, 20, Phase::Disentangled, Cause::LateInCompute),
        (&all, -3_600 * S, 0, 20, Phase::Disentangled, Cause::ClockWrong),
        (&all, 8 * 86_400 * S, 0, 20, Phase::Disentangled, Cause::ClockWrong),
        (&every_third, 0, 0, 20, Phase::Disentangled, Cause::MessagesMissing),
        (&all, 0, 0, 29, Phase::Disentangled, Cause::MessagesMissing),
        (&all, 0, 0, 40, Phase::Unbound, Cause::Silent),
    ] {
        let (definition, twin) = led(seconds, transport_us, compute_us, until);
        let found = view("p", &twin, &definition, until * S).summary;
        assert_eq!(
            (found.phase, found.cause),
            (phase, cause),
            "{seconds:?} late {transport_us} {compute_us}"
        );
        assert_eq!(found, summary("p", &twin, &definition, until * S));
    }
}

#[test]
fn a_lost_source_is_told_from_silence() {
    let (definition, mut twin) = led(&[1, 2, 3], 0, 0, 4);
    handler::source_lost("p", &mut twin, &definition, 5 * S, 1, &mut Nobody);
    for at in [5, 50] {
        assert_eq!(summary("p", &twin, &definition, at * S).cause, Cause::SourceLost, "at {at} s");
    }
}

#[test]
fn values_are_read_by_name_in_the_order_of_the_model() {
    let definition = press();
    let mut twin = Twin::new(0, &definition);
    let values = [("list", json!([1, 2])), ("mode", json!("on")), ("n", json!(7))];
    apply("p", &mut twin, &definition, &Update::at(3 * S, &values), false, &mut Nobody);
    let found = view("p", &twin, &definition, 0);
    let expected = [
        ("mode".to_owned(), Held::Text("on".into())),
        ("n".to_owned(), Held::Integer(7)),
        ("list".to_owned(), Held::Json("[1,2]".into())),
    ];
    assert_eq!(found.properties, expected);
    // It knows nothing of the time before its last update.
    assert_eq!((found.at_us, found.update, found.summary.revision), (3 * S, 1, 1));
    assert_eq!((found.since_us, found.heard_us), (Some(3 * S), Some(3 * S)));
}
