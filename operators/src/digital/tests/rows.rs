//! Rows and schemas of the archive (rule 10), printed as columns and lines.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::decode::DeadLetter;
use crate::digital::{ROWS_MAX, RowsSettings, Table, TableRows};
use crate::fixture::twin_type;
use crate::time::{ArrivalTime, DAY_US, date_of};

const ON: RowsSettings = RowsSettings { physical: true };

/// A cell as text; `-` where it is null.
fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "-".into();
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Timestamp(..) => {
            format!("{}us", array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len()).map(|index| cell(&items, index)).collect();
            format!("[{}]", items.join(" "))
        }
        other => panic!("{other} is no type of a column"),
    }
}

fn kind(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(unit, Some(zone)) => format!("time({unit:?} {zone})"),
        DataType::List(item) => format!("list({})", kind(item.data_type())),
        other => other.to_string(),
    }
}

/// A line for each column: its name, type, and cells.
fn columns(rows: &RecordBatch) -> String {
    let mut found = String::new();
    for (field, array) in rows.schema().fields().iter().zip(rows.columns()) {
        let cells: Vec<String> = (0..rows.num_rows()).map(|row| cell(array, row)).collect();
        found += &format!("{} {}: {}\n", field.name(), kind(field.data_type()), cells.join(" | "));
    }
    found
}

fn batches(rows: &mut Rows, table: Table) -> Vec<TableRows> {
    rows.flush();
    rows.full().drain(..).filter(|batch| batch.table == table).collect()
}

fn check(definition: &TwinType, updates: &[Update], table: Table, expected: Expect) {
    let rows = Rows::new(ON, std::iter::once(definition), vec![]).expect("the columns do not clash");
    let mut both = Both::new(definition, rows);
    run("p", definition, updates, &mut both);
    let mut found = String::new();
    for batch in batches(&mut both.rows, table) {
        let day = date_of(batch.day);
        found += &format!("{} {}\n{}", table.word(), String::from_utf8_lossy(&day), columns(&batch.rows));
    }
    expected.assert_eq(&found);
}

/// A valve, whose property names clash with fixed columns and folders of the archive.
fn valve() -> TwinType {
    twin_type(
        "valve",
        r#"{
            "properties": {
                "position": {"type": "double"}, "twin": {"type": "string"}, "job": {"type": "integer"},
                "Date": {"type": "boolean"}, "mode": {"type": "enum", "values": ["idle", "run"]},
                "doubles": {"type": "array", "items": "double"},
                "integers": {"type": "array", "items": "integer"},
                "booleans": {"type": "array", "items": "boolean"},
                "texts": {"type": "array", "items": "string"}, "more": {"type": "object"}
            },
            "events": {"alarm": {"type": "object"}, "hot": {"type": "double"}},
            "functions": {"hot": {"threshold": {"of": "position", "above": 80}}},
            "entanglement": {"window": "10s", "desired_timeliness": "1s"},
            "streams": {"a": "1/s"}
        }"#,
    )
}

fn updates() -> Vec<Update> {
    let all = [
        ("position", json!(0.5)),
        ("twin", json!("a\"b")),
        ("job", json!(-3)),
        ("Date", json!(true)),
        ("mode", json!("run")),
        ("doubles", json!([1.5, -2])),
        ("integers", json!([1, -2])),
        ("booleans", json!([true, false])),
        ("texts", json!(["x", "y\"z"])),
        ("more", json!({"a": [1]})),
    ];
    let second =
        [("position", json!(81)), ("texts", json!([])), ("alarm", json!({"n": 1})), ("hot", json!(2))];
    vec![
        Update { physical_us: 500, arrived_us: 900, ..Update::at(1_000, &all) },
        Update { physical_us: i64::MAX / 2, ..Update::at(2_000, &second) },
        Update { physical_us: 100, live: false, ..Update::at(3_000, &[("twin", json!("stale"))]) },
        Update::at(4_000, &[("alarm", json!("only"))]),
    ]
}

#[test]
fn rule_10_physical_is_as_received() {
    check(
        &valve(),
        &updates(),
        Table::Physical,
        expect![[r#"
            physical 1970-01-01
            twin Utf8: p | p | p | p
            type Utf8: valve | valve | valve | valve
            update Int64: 1 | 2 | 3 | 4
            kind Utf8: update | update | update | update
            stream Utf8: a | a | a | a
            position Int64: 7 | 7 | 7 | 7
            physical_at time(Microsecond UTC): 500us | - | 100us | 4000us
            arrived_at time(Microsecond UTC): 900us | 2000us | 3000us | 4000us
            digital_at time(Microsecond UTC): 1000us | 2000us | 3000us | 4000us
            time_source Utf8: device | rejected | device | device
            observed Boolean: true | true | false | true
            stale Boolean: false | false | true | false
            up Boolean: - | - | - | -
            events Utf8: - | {"alarm":{"n":1},"hot":2} | - | {"alarm":"only"}
            property_position Float64: 0.5 | 81 | - | -
            property_twin Utf8: a"b | - | stale | -
            property_job Int64: -3 | - | - | -
            property_Date Boolean: true | - | - | -
            mode Utf8: run | - | - | -
            doubles list(Float64): [1.5 -2] | - | - | -
            integers list(Int64): [1 -2] | - | - | -
            booleans list(Boolean): [true false] | - | - | -
            texts list(Utf8): [x y"z] | [] | - | -
            more Utf8: {"a":[1]} | - | - | -
        "#]],
    );
}

#[test]
fn rule_10_state_is_consolidated_and_8_3_no_property_name_is_reserved() {
    check(
        &valve(),
        &updates(),
        Table::State,
        expect![[r#"
            state 1970-01-01
            twin Utf8: p | p
            type Utf8: valve | valve
            update Int64: 1 | 2
            revision Int64: 1 | 2
            physical_at time(Microsecond UTC): 500us | -
            arrived_at time(Microsecond UTC): 900us | 2000us
            digital_at time(Microsecond UTC): 1000us | 2000us
            lifecycle Utf8: bound | bound
            changed list(Utf8): [position twin job Date mode doubles integers booleans texts more] | [position texts]
            definition Int64: 1 | 1
            property_position Float64: 0.5 | 81
            property_twin Utf8: a"b | a"b
            property_job Int64: -3 | -3
            property_Date Boolean: true | true
            mode Utf8: run | run
            doubles list(Float64): [1.5 -2] | [1.5 -2]
            integers list(Int64): [1 -2] | [1 -2]
            booleans list(Boolean): [true false] | [true false]
            texts list(Utf8): [x y"z] | []
            more Utf8: {"a":[1]} | {"a":[1]}
        "#]],
    );
}

#[test]
fn rule_10_entanglement() {
    check(
        &valve(),
        &updates(),
        Table::Entanglement,
        expect![[r#"
            entanglement 1970-01-01
            twin Utf8: p
            type Utf8: valve
            at time(Microsecond UTC): 1000us
            change Int64: 2
            timeliness Float64: 1
            reliability Float64: 1
            availability Float64: 1
            odte Float64: 1
            received Float64: 1
            on_time Float64: 1
            expected Float64: 1
            transport_ms Float64: 0.4
            compute_ms Float64: 0.1
            clock_offset_ms Float64: 0.4
            desired_timeliness_ms Float64: 1000
            window_ms Float64: 10000
            profile Utf8: default
            definition Int64: 1
        "#]],
    );
}

#[test]
fn rule_10_lifecycle() {
    check(
        &valve(),
        &updates(),
        Table::Lifecycle,
        expect![[r#"
        lifecycle 1970-01-01
        twin Utf8: p
        type Utf8: valve
        at time(Microsecond UTC): 1000us
        change Int64: 1
        from Utf8: unbound
        to Utf8: bound
        reason Utf8: heard
        incident Int64: -
    "#]],
    );
}

#[test]
fn rule_10_events() {
    check(
        &valve(),
        &updates(),
        Table::Events,
        expect![[r#"
        events 1970-01-01
        twin Utf8: p | p | p | p
        type Utf8: valve | valve | valve | valve
        at time(Microsecond UTC): 2000us | 2000us | 2000us | 4000us
        update Int64: 2 | 2 | 2 | 4
        revision Int64: 2 | 2 | 2 | 2
        name Utf8: alarm | hot | hot | alarm
        index Int32: 0 | 0 | 1 | 0
        value Utf8: {"n":1} | 2 | 81 | "only"
    "#]],
    );
}

#[test]
fn rule_10_dead_letters() {
    let definition = valve();
    let mut rows = Rows::new(ON, std::iter::once(&definition), vec!["plant".into()]).expect("good");
    let letter = DeadLetter {
        at: ArrivalTime(5),
        source: 0,
        position: 9,
        topic: "a/b".into(),
        reason: "no JSON".into(),
        payload: "{".into(),
    };
    rows.dead_letter(&letter);
    rows.dead_letter(&DeadLetter { source: 7, ..letter });
    let found = batches(&mut rows, Table::DeadLetters);
    assert_eq!(found.len(), 1);
    expect![[r#"
        at time(Microsecond UTC): 5us | 5us
        source Utf8: plant | 
        position Int64: 9 | 9
        topic Utf8: a/b | a/b
        reason Utf8: no JSON | no JSON
        payload Utf8: { | {
    "#]]
    .assert_eq(&columns(&found[0].rows));
}

#[test]
fn rule_10_without_physical_nothing_is_kept_of_it() {
    let definition = valve();
    let settings = RowsSettings { physical: false };
    let rows = Rows::new(settings, std::iter::once(&definition), vec![]).expect("good");
    let mut both = Both::new(&definition, rows);
    run("p", &definition, &updates(), &mut both);
    both.rows.flush();
    let tables: Vec<&str> = both.rows.full().iter().map(|batch| batch.table.word()).collect();
    assert_eq!(tables, ["state", "entanglement", "lifecycle", "events"]);
}

#[test]
fn rule_10_a_batch_is_of_one_day() {
    let definition =
        twin_type("t", r#"{"properties": {"n": {"type": "integer"}}, "streams": {"a": "none"}}"#);
    let at = |at_us: i64| Update::at(at_us, &[("n", json!(at_us))]);
    let updates = [at(DAY_US - 2), at(DAY_US - 1), at(DAY_US), at(2 * DAY_US)];
    check(
        &definition,
        &updates,
        Table::Physical,
        expect![[r#"
        physical 1970-01-01
        twin Utf8: p | p
        type Utf8: t | t
        update Int64: 1 | 2
        kind Utf8: update | update
        stream Utf8: a | a
        position Int64: 7 | 7
        physical_at time(Microsecond UTC): 86399999998us | 86399999999us
        arrived_at time(Microsecond UTC): 86399999998us | 86399999999us
        digital_at time(Microsecond UTC): 86399999998us | 86399999999us
        time_source Utf8: device | device
        observed Boolean: true | true
        stale Boolean: false | false
        up Boolean: - | -
        events Utf8: - | -
        n Int64: 86399999998 | 86399999999
        physical 1970-01-02
        twin Utf8: p
        type Utf8: t
        update Int64: 3
        kind Utf8: update
        stream Utf8: a
        position Int64: 7
        physical_at time(Microsecond UTC): 86400000000us
        arrived_at time(Microsecond UTC): 86400000000us
        digital_at time(Microsecond UTC): 86400000000us
        time_source Utf8: device
        observed Boolean: true
        stale Boolean: false
        up Boolean: -
        events Utf8: -
        n Int64: 86400000000
        physical 1970-01-03
        twin Utf8: p
        type Utf8: t
        update Int64: 4
        kind Utf8: update
        stream Utf8: a
        position Int64: 7
        physical_at time(Microsecond UTC): 172800000000us
        arrived_at time(Microsecond UTC): 172800000000us
        digital_at time(Microsecond UTC): 172800000000us
        time_source Utf8: device
        observed Boolean: true
        stale Boolean: false
        up Boolean: -
        events Utf8: -
        n Int64: 172800000000
    "#]],
    );
}

#[test]
fn rule_10_a_batch_ends_when_it_is_full() {
    let definition =
        twin_type("t", r#"{"properties": {"n": {"type": "integer"}}, "streams": {"a": "none"}}"#);
    let rows = Rows::new(ON, std::iter::once(&definition), vec![]).expect("good");
    let mut both = Both::new(&definition, rows);
    let count = ROWS_MAX as i64 + 5;
    let updates: Vec<Update> = (0..count).map(|n| Update::at(n, &[("n", json!(n))])).collect();
    run("p", &definition, &updates, &mut both);
    let full: Vec<_> = both.rows.full().drain(..).map(|batch| (batch.table, batch.rows.num_rows())).collect();
    assert_eq!(full, [(Table::Physical, ROWS_MAX), (Table::State, ROWS_MAX)]);
    assert!(both.rows.waiting() >= 10);
    let rest = batches(&mut both.rows, Table::State);
    assert_eq!(rest.len(), 1);
    let updates = rest[0].rows.column(2).as_primitive::<Int64Type>();
    assert_eq!(updates.values().first(), Some(&(ROWS_MAX as i64 + 1)));
    assert_eq!(updates.values().last(), Some(&count));
    assert_eq!(both.rows.waiting(), 0);
}

#[test]
fn rule_8_3_types_share_a_column_or_clash() {
    for (first, second, expected) in [
        (r#"{"t": {"type": "double"}}"#, r#"{"t": {"type": "double"}, "u": {"type": "string"}}"#, "t, u"),
        (r#"{"t": {"type": "string"}}"#, r#"{"T": {"type": "object"}}"#, "t"),
        (r#"{"twin": {"type": "string"}}"#, r#"{"twin": {"type": "string"}}"#, "property_twin"),
        (
            r#"{"t": {"type": "double"}}"#,
            r#"{"t": {"type": "integer"}}"#,
            "second.properties.t: the archive's column `t` is wanted twice, with different meanings",
        ),
        (
            r#"{"twin": {"type": "string"}, "property_twin": {"type": "string"}}"#,
            "{}",
            "first.properties.property_twin: the archive's column `property_twin` is wanted twice, with different meanings",
        ),
        (
            r#"{"t": {"type": "double"}, "T": {"type": "double"}}"#,
            "{}",
            "first.properties.T: the archive's column `T` is wanted twice, with different meanings",
        ),
    ] {
        let of = |name, properties| twin_type(name, &format!("{{\"properties\": {properties}}}"));
        let types = [of("first", first), of("second", second)];
        let found = match Rows::new(ON, types.iter(), vec![]) {
            Ok(_) => {
                let columns = crate::digital::rows::property_columns(types.iter()).expect("it was good");
                columns.0.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
            }
            Err(problem) => format!("{}: {}", problem.path.join("."), problem.message),
        };
        assert_eq!(found, expected, "{first} {second}");
    }
}
