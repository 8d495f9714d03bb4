//! Envelopes (rule 9), each read back as JSON. A line for each key in the order in which it is
//! written, so that the tables show the order too.

use expect_test::{Expect, expect};
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::*;
use crate::digital::RowsSettings;
use crate::fixture::twin_type;
use crate::handler;

const NOON_US: i64 = 1_646_827_200_000_000;

fn device() -> TwinType {
    twin_type(
        "de\"vice",
        r#"{
            "properties": {
                "number": {"type": "double"}, "count": {"type": "integer"}, "on": {"type": "boolean"},
                "name": {"type": "string"}, "mode": {"type": "enum", "values": ["idle", "run"]},
                "list": {"type": "array", "items": "double"}, "more": {"type": "object"},
                "never": {"type": "double"}
            },
            "events": {"alarm": {"type": "object"}, "hot": {"type": "double"}},
            "functions": {"hot": {"threshold": {"of": "number", "above": 80}}},
            "entanglement": {"window": "10s", "desired_timeliness": "1s"},
            "streams": {"a": "1/s"}
        }"#,
    )
}

/// The envelopes of one kind that the updates lead to.
fn check(kind: &str, id: &str, updates: &[Update], expected: Expect) {
    let definition = device();
    let mut both = Both::new(&definition, rows(&definition));
    run(id, &definition, updates, &mut both);
    expected.assert_eq(&written(kind, &both));
}

fn rows(definition: &TwinType) -> Rows {
    let settings = RowsSettings { physical: true };
    Rows::new(settings, std::iter::once(definition), vec![]).expect("the columns do not clash")
}

/// A line for each key of each envelope of a kind.
fn written(kind: &str, both: &Both) -> String {
    let mut found = String::new();
    for envelope in &both.envelopes {
        let keys: IndexMap<String, Json> = serde_json::from_slice(envelope).expect("an envelope is JSON");
        if keys["kind"] == kind {
            for (key, value) in &keys {
                found += &format!("{key}: {value}\n");
            }
            found += "\n";
        }
    }
    found
}

#[test]
fn rule_9_a_state_has_values_of_every_kind() {
    let first = Update {
        physical_us: NOON_US - 250_001,
        arrived_us: NOON_US - 1_000,
        ..Update::at(
            NOON_US,
            &[
                ("number", json!(24.28)),
                ("count", json!(i64::MAX)),
                ("on", json!(true)),
                ("name", json!("a \"quoted\" name\n\\ \u{e9}\u{1}")),
                ("mode", json!("run")),
                ("list", json!([1.5, 2, -0.25])),
                ("more", json!({"a": [1, {"b": null}], "c": "\"d\""})),
            ],
        )
    };
    let then = Update::at(NOON_US + 1, &[("number", json!(81)), ("count", json!(-5)), ("on", json!(true))]);
    check(
        "state",
        "p/1 \"x\" \u{fc}",
        &[first, then],
        expect![[r#"
            job: "line \"1\""
            twin: "p/1 \"x\" ü"
            type: "de\"vice"
            kind: "state"
            generation: 3
            revision: 1
            update: 1
            physical_at: "2022-03-09T11:59:59.749999Z"
            arrived_at: "2022-03-09T11:59:59.999Z"
            digital_at: "2022-03-09T12:00:00.000Z"
            changed: ["number","count","on","name","mode","list","more"]
            properties: {"number":24.28,"count":9223372036854775807,"on":true,"name":"a \"quoted\" name\n\\ é\u0001","mode":"run","list":[1.5,2,-0.25],"more":{"a":[1,{"b":null}],"c":"\"d\""}}
            lifecycle: "bound"
            odte: 1

            job: "line \"1\""
            twin: "p/1 \"x\" ü"
            type: "de\"vice"
            kind: "state"
            generation: 3
            revision: 2
            update: 2
            physical_at: "2022-03-09T12:00:00.000001Z"
            arrived_at: "2022-03-09T12:00:00.000001Z"
            digital_at: "2022-03-09T12:00:00.000001Z"
            changed: ["number","count"]
            properties: {"number":81,"count":-5,"on":true,"name":"a \"quoted\" name\n\\ é\u0001","mode":"run","list":[1.5,2,-0.25],"more":{"a":[1,{"b":null}],"c":"\"d\""}}
            lifecycle: "bound"
            odte: 1

        "#]],
    );
}

#[test]
fn rule_9_doubles_are_the_shortest_that_read_back() {
    let numbers = [0.1, -0.0, 1e15, 123_456_789_012_345.0, 1e300, 5e-324, 1.0 / 3.0, -1e21, f64::MAX];
    let updates: Vec<Update> = numbers
        .iter()
        .zip(0..)
        .map(|(number, n)| Update::at(NOON_US + n, &[("number", json!(number))]))
        .collect();
    let definition = device();
    let mut both = Both::new(&definition, rows(&definition));
    run("p", &definition, &updates, &mut both);
    let states = both.envelopes.iter().filter_map(|envelope| {
        let envelope: Json = serde_json::from_slice(envelope).expect("an envelope is JSON");
        (envelope["kind"] == "state").then(|| envelope["properties"]["number"].as_f64())
    });
    assert_eq!(states.collect::<Vec<_>>(), numbers.map(Some));
}

#[test]
fn rule_3_3_a_time_that_cannot_be_written_is_null() {
    let update = Update {
        physical_us: i64::MAX / 2,
        ..Update::at(NOON_US, &[("number", json!(1)), ("alarm", json!({"open": true}))])
    };
    check(
        "state",
        "p",
        std::slice::from_ref(&update),
        expect![[r#"
        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "state"
        generation: 3
        revision: 1
        update: 1
        physical_at: null
        arrived_at: "2022-03-09T12:00:00.000Z"
        digital_at: "2022-03-09T12:00:00.000Z"
        changed: ["number"]
        properties: {"number":1}
        lifecycle: "bound"
        odte: 0

    "#]],
    );
    let early = Update { physical_us: i64::MIN, ..update };
    check(
        "entanglement",
        "p",
        &[early],
        expect![[r#"
            job: "line \"1\""
            twin: "p"
            type: "de\"vice"
            kind: "entanglement"
            generation: 3
            revision: 1
            change: 2
            at: "2022-03-09T12:00:00.000Z"
            timeliness: 0
            reliability: 1
            reliability_unclamped: 1
            availability: 1
            odte: 0
            received: 1
            on_time: 0
            expected: 1
            desired_timeliness_ms: 1000
            window_ms: 10000
            threshold: 0.9
            definition: 1
            transport_ms: 9223372036854776.0
            compute_ms: 0
            clock_offset_ms: 9223372036854776.0
            profile: "default"
            lifecycle: "bound"

        "#]],
    );
}

#[test]
fn rule_9_entanglement_says_what_odte_is_made_of() {
    let late = Update { physical_us: NOON_US - 1_500, arrived_us: NOON_US - 500, ..Update::at(NOON_US, &[]) };
    check(
        "entanglement",
        "p",
        &[Update { values: vec![("count".into(), json!(1))], ..late }],
        expect![[r#"
            job: "line \"1\""
            twin: "p"
            type: "de\"vice"
            kind: "entanglement"
            generation: 3
            revision: 1
            change: 2
            at: "2022-03-09T12:00:00.000Z"
            timeliness: 1
            reliability: 1
            reliability_unclamped: 1
            availability: 1
            odte: 1
            received: 1
            on_time: 1
            expected: 1
            desired_timeliness_ms: 1000
            window_ms: 10000
            threshold: 0.9
            definition: 1
            transport_ms: 1
            compute_ms: 0.5
            clock_offset_ms: 1
            profile: "default"
            lifecycle: "bound"

        "#]],
    );
}

#[test]
fn rule_9_a_step_of_life_has_its_reason_and_incident() {
    let definition = device();
    let mut both = Both::new(&definition, rows(&definition));
    let update = Update::at(NOON_US, &[("count", json!(1))]);
    let mut twin = run("p", &definition, &[update], &mut both);
    handler::source_lost("p", &mut twin, &definition, NOON_US + 1_000_000, 12, &mut both);
    expect![[r#"
        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "lifecycle"
        generation: 3
        revision: 1
        change: 1
        at: "2022-03-09T12:00:00.000Z"
        from: "unbound"
        to: "bound"
        reason: "heard"
        incident: null

        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "lifecycle"
        generation: 3
        revision: 1
        change: 3
        at: "2022-03-09T12:00:01.000Z"
        from: "bound"
        to: "unbound"
        reason: "source_lost"
        incident: 12

    "#]]
    .assert_eq(&written("lifecycle", &both));
    // Nothing is in the window any more: its lateness is not known.
    both.envelopes.clear();
    handler::tick("p", &mut twin, &definition, NOON_US + 60_000_000, &mut both);
    let update = Update { live: false, ..Update::at(NOON_US + 61_000_000, &[("count", json!(2))]) };
    apply("p", &mut twin, &definition, &update, false, &mut both);
    both.envelopes.clear();
    handler::tick("p", &mut twin, &definition, NOON_US + 90_000_000, &mut both);
    expect![[r#"
        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "entanglement"
        generation: 3
        revision: 2
        change: 6
        at: "2022-03-09T12:01:10.000Z"
        timeliness: 0
        reliability: 0
        reliability_unclamped: 0
        availability: 1
        odte: 0
        received: 0
        on_time: 0
        expected: 10
        desired_timeliness_ms: 1000
        window_ms: 10000
        threshold: 0.9
        definition: 1
        transport_ms: null
        compute_ms: null
        clock_offset_ms: null
        profile: "default"
        lifecycle: "unbound"

    "#]]
    .assert_eq(&written("entanglement", &both));
}

#[test]
fn rule_9_events_have_a_key_and_a_value_of_any_kind() {
    let values = [("number", json!(81.5)), ("alarm", json!({"by": "a \"b\"", "n": [1]})), ("hot", json!(7))];
    check(
        "event",
        "p",
        &[Update::at(NOON_US, &values)],
        expect![[r#"
        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "event"
        generation: 3
        revision: 1
        update: 1
        at: "2022-03-09T12:00:00.000Z"
        name: "alarm"
        index: 0
        value: {"by":"a \"b\"","n":[1]}

        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "event"
        generation: 3
        revision: 1
        update: 1
        at: "2022-03-09T12:00:00.000Z"
        name: "hot"
        index: 0
        value: 7

        job: "line \"1\""
        twin: "p"
        type: "de\"vice"
        kind: "event"
        generation: 3
        revision: 1
        update: 1
        at: "2022-03-09T12:00:00.000Z"
        name: "hot"
        index: 1
        value: 81.5

    "#]],
    );
}
