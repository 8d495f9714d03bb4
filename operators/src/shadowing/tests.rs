//! Rules 3.1 to 3.4 and 3.6 as tables: device time, arrival, properties, and what became of them.

use expect_test::{Expect, expect};

use super::*;
use crate::batch::{EventBatch, HeadParts};
use crate::model::{ModelSettings, compile};
use crate::time::{ArrivalTime, DeviceTime};

fn model() -> Model {
    compile(&ModelSettings {
        properties: serde_json::from_str(
            r#"{"t": {"type": "double"}, "e": {"type": "double"}, "name": {"type": "string"}}"#,
        )
        .expect("the case is well formed"),
        ..ModelSettings::default()
    })
    .expect("the model is good")
}

/// Each line is `device arrival property=value ...` in seconds; answers what became of it.
fn check(lines: &str, expected: Expect) {
    let model = model();
    let mut shadow = Shadow::new(&model);
    let mut touched = Touched::default();
    let limits = ClockLimits::from(&ClockSettings::default());
    let mut found = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let mut time = || {
            let seconds: f64 = words.next().expect("a time").parse().expect("a number");
            (seconds * 1e6) as i64
        };
        let (device, arrival) = (time(), time());
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        for word in words {
            let (name, value) = word.split_once('=').expect("name=value");
            let property = model.property(name).expect("a property");
            match value.parse() {
                Ok(number) => batch.push_property(mark, property, Value::Double(number)),
                Err(_) => batch.push_property(mark, property, Value::Text(value)),
            }
        }
        let parts = HeadParts {
            position: 1,
            element: 0,
            physical_at: DeviceTime(device),
            claimed: ClaimedTime::Device,
            arrived_at: ArrivalTime(arrival),
            twin_type: 0,
            stream: 0,
            live: true,
        };
        batch.finish(mark, "p", parts);
        touched.clear();
        let shadowed = shadow.apply(&batch.event(0), &model, limits, &mut touched);
        let values: Vec<String> = (0..3)
            .map(|property| match shadow.value(&model, property) {
                Some(Value::Double(number)) => number.to_string(),
                Some(Value::Text(text)) => text.to_owned(),
                _ => "-".to_owned(),
            })
            .collect();
        let stale = if shadowed.stale { " stale" } else { "" };
        found += &format!(
            "{} {}{stale} [{}] changed {:?}\n",
            shadowed.update,
            shadowed.time_source.word(),
            values.join(" "),
            touched.changed
        );
    }
    expected.assert_eq(&found);
}

#[test]
fn rule_1_1_every_accepted_input_is_numbered_and_3_1_the_newest_device_time_wins() {
    check(
        "
        1 1 t=1 e=1
        2 2 t=2
        1.5 3 t=9 e=3
        2 4 t=4
        2 5 t=4 name=x
        ",
        expect![[r#"
            1 device [1 1 -] changed [0, 1]
            2 device [2 1 -] changed [0]
            3 device [2 3 -] changed [1]
            4 device [4 3 -] changed [0]
            5 device [4 3 x] changed [2]
        "#]],
    );
}

#[test]
fn rule_3_2_an_update_that_is_older_in_all_it_has_is_stale() {
    check(
        "
        2 2 t=2
        1 3 t=1
        3 4 t=3
        ",
        expect![[r#"
            1 device [2 - -] changed [0]
            2 device stale [2 - -] changed []
            3 device [3 - -] changed [0]
        "#]],
    );
}

#[test]
fn rule_3_3_a_time_far_off_orders_nothing_but_its_value_is_taken() {
    check(
        "
        100 100 t=1
        105 100 t=2
        105.1 100 t=3
        104 101 t=4
        105 101 t=5
        -700000 100 t=6
        1e30 100 e=7
        106 102 t=8 e=8
        ",
        expect![[r#"
            1 device [1 - -] changed [0]
            2 device [2 - -] changed [0]
            3 rejected [3 - -] changed [0]
            4 device stale [3 - -] changed []
            5 device [5 - -] changed [0]
            6 rejected [6 - -] changed [0]
            7 rejected [6 7 -] changed [1]
            8 device [8 8 -] changed [0, 1]
        "#]],
    );
}

#[test]
fn rule_3_4_a_clock_that_steps_back_does_not_freeze_the_twin() {
    check(
        "
        1000 1000 t=1
        400 1001 t=2
        401 1002 t=3
        402 1003 t=4
        403 1004 t=5
        404 1005 t=6
        ",
        expect![[r#"
            1 device [1 - -] changed [0]
            2 device stale [1 - -] changed []
            3 device stale [1 - -] changed []
            4 device stale [1 - -] changed []
            5 device [5 - -] changed [0]
            6 device [6 - -] changed [0]
        "#]],
    );
}

#[test]
fn rule_3_4_a_backlog_sent_late_does_not_overwrite_newer_state() {
    check(
        "
        1000 1000 t=1
        400 1001 t=2
        410 1001.3 t=3
        420 1001.6 t=4
        430 1002 t=5
        440 1002.3 t=6
        1003 1003 t=7
        450 1003.1 t=8
        ",
        expect![[r#"
            1 device [1 - -] changed [0]
            2 device stale [1 - -] changed []
            3 device stale [1 - -] changed []
            4 device stale [1 - -] changed []
            5 device stale [1 - -] changed []
            6 device stale [1 - -] changed []
            7 device [7 - -] changed [0]
            8 device stale [7 - -] changed []
        "#]],
    );
}
