//! A payload that is one value and nothing around it, as many small devices send: `24.28`, `ON`, `true`.

use super::Scratch;
use super::element::{Element, Taken};
use super::settings::{AtSettings, StreamSettings};
use crate::batch::EventBatch;
use crate::problem::Problem;

/// What a stream of bare values must be.
pub(super) fn check(settings: &StreamSettings) -> Result<(), Problem> {
    if let Some(AtSettings::Pointer(_)) = settings.at {
        return Err(Problem::new("a bare value carries no device time", "write at: arrival").under("at"));
    }
    if settings.historical.is_some() {
        let message = "a bare value carries no flag of backfill";
        return Err(Problem::new(message, "leave `historical` out").under("historical"));
    }
    if let Some(second) = settings.properties.keys().nth(1) {
        let message = "a bare value is the value of one property";
        let help = "give each property a stream of its own, or send JSON";
        return Err(Problem::new(message, help).under(second).under("properties"));
    }
    Ok(())
}

/// The place of the value: the whole payload.
pub(super) fn place(pointer: &str) -> Result<Vec<String>, Problem> {
    match pointer {
        "" => Ok(Vec::new()),
        _ => Err(Problem::new(
            format!("`{pointer}` points into a payload that is one bare value"),
            "write \"\", the whole payload, or leave `decode: value` out if the payload is JSON",
        )),
    }
}

/// Decodes one message of one route.
// Its frame would be part of the one that JSON, the usual payload, is read in.
#[inline(never)]
pub(super) fn decode(
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let (plan, payload) = (&taken.route.plan, taken.message.payload);
    let Ok(text) = std::str::from_utf8(payload) else {
        return refuse("the payload is not UTF-8".into(), payload);
    };
    let mut element = Element::new(plan, events, &mut scratch.id);
    for leaf in 0..plan.leaves.len() {
        element.take_text(leaf, text);
    }
    element.finish(taken, 0).unwrap_or_else(|reason| refuse(reason, payload));
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::super::tests::{check, count, decoder, problem_of};

    /// One stream of bare values of one property, written so.
    fn read(property: &str, payload: &[u8], expected: Expect) {
        let stream = format!(
            r#"[{{"from": "plant", "topics": ["t/{{twin}}"], "decode": "value", "at": "arrival",
                 "properties": {{{property}}}, "expected_rate": "none"}}]"#
        );
        check(decoder(&stream), "t/p", payload, expected);
    }

    #[test]
    fn good_values() {
        for (property, payload, expected) in [
            (
                r#""temperature": """#,
                "24.28",
                expect!["p stream 0 at 5000000 Arrival: [(0, Double(24.28))] []"],
            ),
            (
                r#""temperature": """#,
                " -4e1\r\n",
                expect!["p stream 0 at 5000000 Arrival: [(0, Double(-40.0))] []"],
            ),
            (
                r#""count": """#,
                "9007199254740993",
                expect!["p stream 0 at 5000000 Arrival: [(2, Integer(9007199254740993))] []"],
            ),
            (r#""count": """#, "5.0", expect!["p stream 0 at 5000000 Arrival: [(2, Integer(5))] []"]),
            (r#""on": """#, "TRUE", expect!["p stream 0 at 5000000 Arrival: [(3, Boolean(true))] []"]),
            (
                r#""name": """#,
                " as it is\n",
                expect![[r#"p stream 0 at 5000000 Arrival: [(4, Text(" as it is\n"))] []"#]],
            ),
            (
                r#""name": """#,
                "24.28",
                expect![[r#"p stream 0 at 5000000 Arrival: [(4, Text("24.28"))] []"#]],
            ),
            (r#""mode": """#, "run\n", expect!["p stream 0 at 5000000 Arrival: [(5, Enum(1))] []"]),
            (
                r#""mode": {"pointer": "", "map": {"0": "idle", "1": "run"}}"#,
                "1",
                expect!["p stream 0 at 5000000 Arrival: [(5, Enum(1))] []"],
            ),
            (
                r#""on": {"pointer": "", "map": {"ON": true, "OFF": false}}"#,
                "OFF",
                expect!["p stream 0 at 5000000 Arrival: [(3, Boolean(false))] []"],
            ),
        ] {
            read(property, payload.as_bytes(), expected);
        }
    }

    #[test]
    fn bad_values() {
        for (property, payload, expected) in [
            (r#""temperature": """#, &b"much"[..], expect![[r#"dead: "much" is no double <- much"#]]),
            (r#""temperature": """#, b"", expect!["dead: the payload is empty <- "]),
            (r#""temperature": """#, b" ", expect![[r#"dead: "" is no double <-  "#]]),
            (r#""temperature": """#, b"nan", expect![[r#"dead: "nan" is no double <- nan"#]]),
            (r#""temperature": """#, b"-inf", expect![[r#"dead: "-inf" is no double <- -inf"#]]),
            (r#""temperature": """#, b"1e999", expect![[r#"dead: "1e999" is no double <- 1e999"#]]),
            (r#""temperature": """#, b"24,28", expect![[r#"dead: "24,28" is no double <- 24,28"#]]),
            (
                r#""temperature": """#,
                b"1001",
                expect!["dead: 1001 is outside the range [-100, 1000] <- 1001"],
            ),
            (
                r#""temperature": """#,
                b"24.28 Cel",
                expect![[r#"dead: "24.28 Cel" is no double <- 24.28 Cel"#]],
            ),
            (r#""temperature": """#, b"{\"v\":1}", expect![[r#"dead: "{\"v\":1}" is no double <- {"v":1}"#]]),
            (r#""count": """#, b"1.5", expect!["dead: 1.5 is no integer <- 1.5"]),
            (
                r#""count": """#,
                b"18446744073709551615",
                expect!["dead: 18446744073709551615 is no integer <- 18446744073709551615"],
            ),
            (r#""on": """#, b"1", expect![[r#"dead: "1" is no boolean <- 1"#]]),
            (r#""mode": """#, b"walk", expect![[r#"dead: "walk" is no value of its enum <- walk"#]]),
            (
                r#""mode": {"pointer": "", "map": {"0": "idle"}}"#,
                b"2",
                expect!["dead: `2` is not in the map <- 2"],
            ),
            (r#""name": """#, b"\xff", expect!["dead: the payload is not UTF-8 <- \u{fffd}"]),
        ] {
            read(property, payload, expected);
        }
    }

    #[test]
    fn a_value_may_be_an_event_too() {
        let stream = r#"[{"from": "plant", "topics": ["t/{twin}"], "decode": "value", "at": "arrival",
                          "properties": {"name": ""}, "events": {"door": ""}, "expected_rate": "none"}]"#;
        check(
            decoder(stream),
            "t/p",
            b"open",
            expect![[r#"p stream 0 at 5000000 Arrival: [(4, Text("open"))] [(0, "\"open\"")]"#]],
        );
        check(
            decoder(stream),
            "t/p",
            b"2.50",
            expect![[r#"p stream 0 at 5000000 Arrival: [(4, Text("2.50"))] [(0, "2.5")]"#]],
        );
    }

    #[test]
    fn streams_that_are_wrong() {
        for (stream, expected) in [
            (r#""at": "arrival", "properties": {"temperature": ""}"#, "good"),
            (
                r#""properties": {"temperature": ""}"#,
                "at: `at` is missing; add `at: arrival`, or `at: {pointer: /timestamp, format: unix_ms}`",
            ),
            (
                r#""at": {"pointer": "/ts", "format": "unix_s"}, "properties": {"temperature": ""}"#,
                "at: a bare value carries no device time; write at: arrival",
            ),
            (
                r#""at": "arrival", "properties": {"temperature": "/t"}"#,
                "properties.temperature: `/t` points into a payload that is one bare value; write \"\", the whole \
                 payload, or leave `decode: value` out if the payload is JSON",
            ),
            (
                r#""at": "arrival", "properties": {"temperature": "", "energy": ""}"#,
                "properties.energy: a bare value is the value of one property; give each property a stream of its \
                 own, or send JSON",
            ),
            (
                r#""at": "arrival", "properties": {"wave": ""}"#,
                "properties.wave: `wave` is of type array, and `decode: value` reads scalars; read it from a stream \
                 of JSON",
            ),
            (
                r#""at": "arrival", "each": "", "properties": {"temperature": ""}"#,
                "each: `each` is of JSON, and the stream has `decode: value`; leave `each` out",
            ),
            (
                r#""at": "arrival", "historical": "/old", "properties": {"temperature": ""}"#,
                "historical: a bare value carries no flag of backfill; leave `historical` out",
            ),
            (
                r#""at": "arrival", "twin": "/id", "properties": {"temperature": ""}"#,
                "twin: `/id` points into a payload that is one bare value; write \"\", the whole payload, or leave \
                 `decode: value` out if the payload is JSON",
            ),
        ] {
            assert_eq!(problem_of(&format!(r#""decode": "value", {stream}"#)), expected, "{stream}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes is one event or one dead letter, of every kind.
        #[test]
        fn any_payload_is_an_event_or_a_dead_letter(payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[-+0-9.eEnaif ]{0,12}".prop_map(String::into_bytes),
        ]) {
            for property in ["temperature", "count", "on", "name", "mode"] {
                let mut decoder = decoder(&format!(
                    r#"[{{"from": "plant", "topics": ["t/{{twin}}"], "decode": "value", "at": "arrival",
                         "properties": {{"{property}": ""}}, "expected_rate": "none"}}]"#
                ));
                let (events, dead_letters) = count(&mut decoder, &payload);
                prop_assert_eq!(events + dead_letters, 1);
            }
        }
    }
}
