//! Packs of SenML, good and bad: the forms of RFC 8428 and their limits.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::tests::{check, count, decoder, problem_of};
use super::{Decoder, ELEMENTS_MAX};

/// A stream that names a record of each kind, with `extra` settings.
fn packs(extra: &str) -> Decoder {
    decoder(&format!(
        r#"[{{"from": "plant", "topics": ["t/{{twin}}"], "decode": "senml", "expected_rate": "none",
             "properties": {{"temperature": "/t", "count": "/n", "on": "/on", "name": "/sub/name",
                            "mode": {{"pointer": "/mode", "map": {{"0": "idle", "run": "run"}}}}}},
             "events": {{"door": "/on"}} {extra}}}]"#
    ))
}

fn table(cases: Vec<(&str, Expect)>, extra: &str) {
    for (payload, expected) in cases {
        check(packs(extra), "t/p", payload.as_bytes(), expected);
    }
}

#[test]
fn values_names_and_bases() {
    let cases: Vec<(&str, Expect)> = vec![
        (
            r#"[{"n": "t", "u": "Cel", "v": 23.1}]"#,
            expect!["p stream 0 at 5000000 Arrival: [(0, Double(23.1))] []"],
        ),
        (
            r#"[{"bn": "urn:dev:ow:1:", "n": "t", "v": 1}, {"n": "n", "v": 2}, {"n": "on", "vb": true}]"#,
            expect![[
                r#"p stream 0 at 5000000 Arrival: [(0, Double(1.0)), (2, Integer(2)), (3, Boolean(true))] [(0, "true")]"#
            ]],
        ),
        (
            r#"[{"n": "mode", "v": 0}, {"n": "sub/name", "vs": "x"}]"#,
            expect![[r#"p stream 0 at 5000000 Arrival: [(5, Enum(0)), (4, Text("x"))] []"#]],
        ),
        (
            r#"[{"n": "mode", "vs": "run"}, {"n": "sub/name", "vd": "-_8"}]"#,
            expect![[r#"p stream 0 at 5000000 Arrival: [(5, Enum(1)), (4, Text("-_8"))] []"#]],
        ),
        // A base name may hold the begin of what is named, and change on the way.
        (
            r#"[{"bn": "sub/", "n": "name", "vs": "x"}, {"bn": "", "n": "t", "v": 1}]"#,
            expect![[r#"p stream 0 at 5000000 Arrival: [(4, Text("x")), (0, Double(1.0))] []"#]],
        ),
        (
            r#"[{"bv": 20, "n": "t", "v": 1.5}, {"n": "n", "v": 1}, {"bv": 0, "n": "on", "vb": false}]"#,
            expect![[
                r#"p stream 0 at 5000000 Arrival: [(0, Double(21.5)), (2, Integer(21)), (3, Boolean(false))] [(0, "false")]"#
            ]],
        ),
        // Sums, units, times of the next update and what nobody has mapped are passed over.
        (
            r#"[{"bs": 1, "bu": "W", "n": "t", "v": 1, "s": 7, "ut": 5, "more": []}, {"n": "n", "s": 3}]"#,
            expect!["p stream 0 at 5000000 Arrival: [(0, Double(1.0))] []"],
        ),
        (
            r#"[{"bn": "a:", "bt": 0, "bver": 10}, {"n": "t", "v": 1}, {"n": "other", "v": "?"}]"#,
            expect!["p stream 0 at 5000000 Arrival: [(0, Double(1.0))] []"],
        ),
        (r#"[]"#, expect![]),
    ];
    table(cases, "");
}

#[test]
fn times() {
    let cases: Vec<(&str, Expect)> = vec![
        // The example of section 5.1.2: a base time, and steps back from it.
        (
            r#"[{"bt": 1.276020076001e+09, "n": "t", "v": 120.1}, {"n": "t", "t": -5, "v": 1.2}, {"n": "t", "t": -4, "v": 1.3}, {"n": "n", "t": -5, "v": 3}]"#,
            expect![[r#"
                p stream 0 at 1276020071001000 Device: [(0, Double(1.2)), (2, Integer(3))] []
                p stream 0 at 1276020072001000 Device: [(0, Double(1.3))] []
                p stream 0 at 1276020076001000 Device: [(0, Double(120.1))] []"#]],
        ),
        // Relative to now, which is the arrival at 5 s; zero knows no time.
        (
            r#"[{"n": "t", "t": -2.5, "v": 1}, {"n": "t", "v": 2}, {"n": "t", "t": 1, "v": 3}]"#,
            expect![[r#"
            p stream 0 at 2500000 Device: [(0, Double(1.0))] []
            p stream 0 at 5000000 Arrival: [(0, Double(2.0))] []
            p stream 0 at 6000000 Device: [(0, Double(3.0))] []"#]],
        ),
        (
            r#"[{"n": "t", "t": 268435455, "v": 1}, {"n": "t", "t": 268435456, "v": 2}]"#,
            expect![[r#"
            p stream 0 at 268435456000000 Device: [(0, Double(2.0))] []
            p stream 0 at 268435460000000 Device: [(0, Double(1.0))] []"#]],
        ),
        (
            r#"[{"bt": 1e9, "n": "t", "t": -1e9, "v": 1}]"#,
            expect!["p stream 0 at 5000000 Arrival: [(0, Double(1.0))] []"],
        ),
        (
            r#"[{"n": "t", "t": 1e300, "v": 1}, {"n": "t", "t": -1e300, "v": 1}]"#,
            expect![[r#"
            p stream 0 at -9223372036849775808 Device: [(0, Double(1.0))] []
            p stream 0 at 9223372036854775807 Device: [(0, Double(1.0))] []"#]],
        ),
        // Of two values of one property at one time, the last holds.
        (
            r#"[{"n": "t", "v": 1}, {"n": "t", "v": 2}]"#,
            expect!["p stream 0 at 5000000 Arrival: [(0, Double(2.0))] []"],
        ),
    ];
    table(cases, "");
    check(
        packs(r#", "at": "arrival""#),
        "t/p",
        br#"[{"n": "t", "t": 1e9, "v": 1}]"#,
        expect!["p stream 0 at 5000000 Arrival: [(0, Double(1.0))] []"],
    );
}

#[test]
fn twins_of_names() {
    let pack = r#"[{"bn": "press-1:", "n": "t", "v": 1}, {"bn": "press-2/", "n": "t", "v": 2},
                   {"bn": "press-1:", "n": "n", "v": 3}, {"n": "t", "t": -1, "v": 4}]"#;
    table(
        vec![
            (
                pack,
                expect![[r#"
        press-1 stream 0 at 4000000 Device: [(0, Double(4.0))] []
        press-1 stream 0 at 5000000 Arrival: [(0, Double(1.0)), (2, Integer(3))] []
        press-2 stream 0 at 5000000 Arrival: [(0, Double(2.0))] []"#]],
            ),
            (r#"[{"n": "t", "v": 1}]"#, expect![[r#"dead: the twin id is empty <- {"n":"t","v":1}"#]]),
        ],
        r#", "twin": "/bn""#,
    );
    let single = decoder(
        r#"[{"from": "plant", "topics": ["t"], "decode": "senml", "twin": "/n", "expected_rate": "none",
             "properties": {"temperature": ""}}]"#,
    );
    check(
        single,
        "t",
        br#"[{"bn": "urn:dev:ow:", "n": "1", "v": 1}, {"n": "2", "v": 2}]"#,
        expect![[r#"
        urn:dev:ow:1 stream 0 at 5000000 Arrival: [(0, Double(1.0))] []
        urn:dev:ow:2 stream 0 at 5000000 Arrival: [(0, Double(2.0))] []"#]],
    );
}

#[test]
fn a_bad_record_is_a_dead_letter() {
    let cases: Vec<(&str, Expect)> = vec![
        (
            r#"[{"n": "t", "vs": "much"}, {"n": "n", "v": 1}, {"n": "on", "v": 1}]"#,
            expect![[r#"
            p stream 0 at 5000000 Arrival: [(2, Integer(1))] []
            dead: `/t`: "much" is no double <- {"n":"t","vs":"much"}
            dead: `/on`: 1 is no boolean <- {"n":"on","v":1}"#]],
        ),
        (
            r#"[{"n": "t", "v": "1"}, {"n": "t", "v": null}, {"n": "on", "vb": 1}, {"n": "mode", "vs": 0}]"#,
            expect![[r#"
                dead: `v` is no number <- {"n":"t","v":"1"}
                dead: `v` is no number <- {"n":"t","v":null}
                dead: `vb` is neither true nor false <- {"n":"on","vb":1}
                dead: `vs` is no text <- {"n":"mode","vs":0}"#]],
        ),
        (
            r#"[{"n": "t"}, {"n": "t", "v": 1, "vs": "1"}, {"n": "sub/name", "vd": "a+b="}]"#,
            expect![[r#"
            dead: the record has no value <- {"n":"t"}
            dead: the record has two values, `v` and `vs` <- {"n":"t","v":1,"vs":"1"}
            dead: `vd` is no base64url without padding <- {"n":"sub/name","vd":"a+b="}"#]],
        ),
        (
            r#"[{"n": "t", "v": 1, "t": "now"}, {"n": 7, "v": 1}, 7, {"n": "n", "v": 1}]"#,
            expect![[r#"
            p stream 0 at 5000000 Arrival: [(2, Integer(1))] []
            dead: `t` is no number <- {"n":"t","v":1,"t":"now"}
            dead: `n` is no text <- {"n":7,"v":1}
            dead: a record is an object <- 7"#]],
        ),
        (
            r#"[{"n": "t", "v": 1001}, {"n": "mode", "v": 2}]"#,
            expect![[r#"
            dead: `/t`: 1001 is outside the range [-100, 1000] <- {"n":"t","v":1001}
            dead: `/mode`: `2` is not in the map <- {"n":"mode","v":2}"#]],
        ),
        (
            r#"[{"bt": 1e308, "n": "t", "t": 1e308, "v": 1}, {"bv": 1e308, "n": "n", "t": -1, "v": 1e308}]"#,
            expect![[r#"
                dead: `bt` and `t` add up to no time <- {"bt":1e+308,"n":"t","t":1e+308,"v":1}
                dead: `bv` and `v` add up to no number <- {"bv":1e+308,"n":"n","t":-1,"v":1e+308}"#]],
        ),
    ];
    table(cases, "");
    check(
        packs(""),
        "t/\u{1}",
        br#"[{"n": "t", "v": 1}, {"n": "n", "v": 1}]"#,
        expect![[r#"
        dead: the twin id has a control character <- {"n":"t","v":1}
        dead: the twin id has a control character <- {"n":"n","v":1}"#]],
    );
}

#[test]
fn a_pack_that_cannot_be_resolved_is_one() {
    let cases: Vec<(&str, Expect)> = vec![
        (
            r#"{"n": "t", "v": 1}"#,
            expect![[r#"dead: a pack of SenML is an array of records <- {"n": "t", "v": 1}"#]],
        ),
        (
            r#"[{"n": "t", "v": 1}, {"n": "n", "v": 1, "must_": 1}]"#,
            expect![[
                r#"dead: record 2: `must_` must be understood, as its name says, and is not known; the pack cannot be resolved <- [{"n": "t", "v": 1}, {"n": "n", "v": 1, "must_": 1}]"#
            ]],
        ),
        (
            r#"[{"bver": 11, "n": "t", "v": 1}]"#,
            expect![[
                r#"dead: record 1: `bver` is 11, and versions up to 10 are understood; the pack cannot be resolved <- [{"bver": 11, "n": "t", "v": 1}]"#
            ]],
        ),
        (
            r#"[{"bver": "10", "n": "t", "v": 1}]"#,
            expect![[
                r#"dead: record 1: `bver` is "10", and versions up to 10 are understood; the pack cannot be resolved <- [{"bver": "10", "n": "t", "v": 1}]"#
            ]],
        ),
        (
            r#"[{"n": "t", "v": 1}, {"bn": 7, "n": "t", "v": 1}]"#,
            expect![[
                r#"dead: record 2: `bn` is 7, which is not text; the pack cannot be resolved <- [{"n": "t", "v": 1}, {"bn": 7, "n": "t", "v": 1}]"#
            ]],
        ),
        (
            r#"[{"bt": "now", "n": "t", "v": 1}]"#,
            expect![[
                r#"dead: record 1: `bt` is "now", which is not a number; the pack cannot be resolved <- [{"bt": "now", "n": "t", "v": 1}]"#
            ]],
        ),
        (
            r#"[{"n": "other", "v": 1}, {"n": "t", "s": 1}]"#,
            expect![[
                r#"dead: none of the mapped values is there <- [{"n": "other", "v": 1}, {"n": "t", "s": 1}]"#
            ]],
        ),
        (
            r#"[{"n": "t", "v": 1e999}]"#,
            expect![[
                r#"dead: malformed JSON: number out of range at line 1 column 22 <- [{"n": "t", "v": 1e999}]"#
            ]],
        ),
        (
            r#"[{"n": "t", "v": 1}"#,
            expect![[
                r#"dead: malformed JSON: EOF while parsing a list at line 1 column 19 <- [{"n": "t", "v": 1}"#
            ]],
        ),
    ];
    table(cases, "");
    let nested = format!(r#"[{{"n": "t", "v": 1, "x": {}{}}}]"#, "[".repeat(31), "]".repeat(31));
    check(
        packs(""),
        "t/p",
        nested.as_bytes(),
        expect![[
            r#"dead: the payload nests deeper than 32 levels <- [{"n": "t", "v": 1, "x": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}]"#
        ]],
    );
}

#[test]
fn records_are_limited() {
    let pack = |records: usize| {
        let records: Vec<_> = (0..records).map(|at| json!({"n": "t", "t": -1 - at as i64, "v": 1})).collect();
        serde_json::to_vec(&records).expect("a list is JSON")
    };
    assert_eq!(count(&mut packs(""), &pack(ELEMENTS_MAX)), (ELEMENTS_MAX, 0));
    assert_eq!(count(&mut packs(""), &pack(ELEMENTS_MAX + 1)), (0, 1));
}

#[test]
fn streams_that_are_wrong() {
    let mut found = String::new();
    for stream in [
        r#""properties": {"temperature": "/t"}"#,
        r#""at": "arrival", "properties": {"temperature": "/t"}"#,
        r#""at": {"pointer": "/t", "format": "unix_s"}, "properties": {"temperature": "/t"}"#,
        r#""properties": {"temperature": "t"}"#,
        r#""properties": {"temperature": "/t", "count": "/t"}"#,
        r#""properties": {"temperature": "/t"}, "twin": "/id""#,
        r#""properties": {"temperature": "/t"}, "each": "/e""#,
        r#""properties": {"temperature": "/t"}, "historical": "/h""#,
        r#""properties": {"wave": "/w"}"#,
    ] {
        found += &format!("{}\n", problem_of(&format!(r#""decode": "senml", {stream}"#)));
    }
    expect![[r#"
        good
        good
        at: records of SenML say their times themselves; leave `at` out, or write at: arrival where the devices' clocks are not to be used
        properties.temperature: `t` is no name of a record; begin it with a slash: /t
        properties.count: `count` and `temperature` are filled by the same record; let a function make one of the other, such as count: {cel: "temperature"}
        twin: `/id` is no name in a record of SenML; write /bn (the base name), /n (the whole name), or a template over the topic ("{twin}")
        each: `each` is of JSON, and the stream has `decode: senml`; leave `each` out
        historical: records of SenML carry no flag of backfill; leave `historical` out
        properties.wave: `wave` is of type array, and `decode: senml` reads scalars; read it from a stream of JSON
    "#]].assert_eq(&found);
}

/// A record as devices send them, good or bad.
fn record() -> impl Strategy<Value = serde_json::Value> {
    let value = prop_oneof![
        any::<f64>().prop_map(|number| json!({"v": number})),
        "[a-z]{0,4}".prop_map(|text| json!({"vs": text})),
        any::<bool>().prop_map(|flag| json!({"vb": flag})),
        "[a-zA-Z0-9_=-]{0,4}".prop_map(|data| json!({"vd": data})),
        Just(json!({})),
        Just(json!({"v": 1, "vs": "one"})),
    ];
    (value, "(t|n|on|mode|sub/name)", proptest::option::of(-1e10..1e10f64)).prop_map(
        |(mut record, name, time)| {
            record["n"] = name.into();
            if let Some(time) = time {
                record["t"] = time.into();
            }
            record
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where no two records have the same time, each is one event or one dead letter.
    #[test]
    fn each_record_is_an_event_or_a_dead_letter(records in proptest::collection::vec(record(), 1..20)) {
        let mut records = records;
        for (index, record) in records.iter_mut().enumerate() {
            record["t"] = (-1 - index as i64).into();
        }
        let payload = serde_json::to_vec(&records).expect("a list is JSON");
        let (events, dead_letters) = count(&mut packs(""), &payload);
        prop_assert_eq!(events + dead_letters, records.len());
    }

    /// Events come in the order of time, and what two packs say apart they say together.
    #[test]
    fn packs_are_in_order(records in proptest::collection::vec(record(), 1..20)) {
        let (mut events, mut dead_letters) = (crate::batch::EventBatch::default(), Vec::new());
        let payload = serde_json::to_vec(&records).expect("a list is JSON");
        let message = super::tests::message("t/p", &payload);
        packs("").decode(&message, &mut events, &mut dead_letters);
        let times: Vec<_> = events.heads().iter().map(|head| head.physical_at).collect();
        prop_assert!(times.is_sorted_by(|a, b| a < b), "{:?}", times);
        let alone: usize = records
            .iter()
            .map(|record| count(&mut packs(""), &serde_json::to_vec(&[record]).expect("a list is JSON")).1)
            .sum();
        prop_assert_eq!(dead_letters.len(), alone);
    }

    #[test]
    fn any_bytes_say_something(payload in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        r#"\[(\{("(bn|bt|bv|n|v|t|x_)":("t"|1|-5e9|null|\[\]),?){0,4}\},?){0,4}\]?"#.prop_map(String::into_bytes),
    ]) {
        for mut decoder in [packs(""), packs(r#", "twin": "/bn""#), packs(r#", "twin": "/n""#)] {
            let (events, dead_letters) = count(&mut decoder, &payload);
            prop_assert!(events + dead_letters > 0 || payload == b"[]");
        }
    }
}
