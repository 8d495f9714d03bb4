//! Tables of what becomes of a twin when its job has changed, and property tests: a job that is the same
//! changes nothing, and one that changes and changes back loses only what the other did not have.

mod properties;

use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};

use super::*;
use crate::fixture::{Update, apply, twin_type};
use crate::handler::tests::Recorder;
use crate::model::{Kind, Value};

const SECOND_US: i64 = 1_000_000;

/// The type before; cases change it by replacing text.
const PRESS: &str = r#"{
    "properties": {
        "t": {"type": "double"}, "n": {"type": "integer"}, "name": {"type": "string"},
        "mode": {"type": "enum", "values": ["idle", "run", "fault"]},
        "v": {"type": "array", "items": "double"}, "m": {"type": "double"}, "e": {"type": "double"}
    },
    "events": {"hot": {"type": "double"}},
    "functions": {
        "m": {"mean": {"of": "t", "window": "1m"}},
        "e": {"ewma": {"of": "t", "half_life": "1s"}},
        "hot": {"threshold": {"of": "t", "above": 25}}
    },
    "entanglement": {"window": "10s"},
    "streams": {"a": "1/s", "b": "none", "c": "none"}
}"#;

fn changed(changes: &[(&str, &str)]) -> String {
    let mut text = PRESS.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in the type");
        text = text.replace(from, to);
    }
    text
}

/// A twin of [`PRESS`] with a value of each property, which was updated at 0, 1 and 2 s, each time
/// on another stream.
fn twin(definition: &TwinType) -> Twin {
    let mut twin = Twin::new(0, definition);
    for (second, t) in [(0, 10.0), (1, 20.0), (2, 30.0)] {
        let values = [
            ("t", json!(t)),
            ("n", json!(7)),
            ("name", json!("the press")),
            ("mode", json!("run")),
            ("v", json!([1.5])),
        ];
        let update = Update { stream: second as u16, ..Update::at(second * SECOND_US, &values) };
        apply("p", &mut twin, definition, &update, false, &mut Recorder::default());
    }
    twin
}

/// The values of a twin's properties as JSON, by name.
pub(super) fn values(twin: &Twin, definition: &TwinType) -> Vec<(String, Json)> {
    let properties = (0..).zip(&definition.model.properties);
    let value = |(number, property): (u16, &crate::model::Property)| {
        let json = match (twin.shadow.value(&definition.model, number)?, &property.kind) {
            (Value::Double(number), _) => json!(number),
            (Value::Integer(number), _) => json!(number),
            (Value::Boolean(flag), _) => json!(flag),
            (Value::Enum(word), Kind::Enum(words)) => json!(words[usize::from(word)]),
            (Value::Enum(_), _) => panic!("a word of no enum"),
            (Value::Text(text), _) => json!(text),
            (Value::Json(text), _) => serde_json::from_str(text).expect("it was written as JSON"),
        };
        Some((property.name.clone(), json))
    };
    properties.filter_map(value).collect()
}

fn told(twin: &Twin, definition: &TwinType) -> String {
    let values = values(twin, definition);
    let values: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let measure = twin.entanglement.measure(twin.handled.digital_at.0, &definition.terms);
    format!(
        "update {} revision {} change {} {} | {} | received {} of {:.1}, R {:.3}\n",
        twin.shadow.update(),
        twin.handled.revision,
        twin.handled.change,
        twin.life_cycle.phase().word(),
        values.join(" "),
        measure.received,
        measure.expected,
        measure.reliability_unclamped
    )
}

/// What a changed job says of the checkpoint, the twin under it, and the same after one more update,
/// of `t`, `n` and `name` where it has them.
fn check(changes: &[(&str, &str)], expected: Expect) {
    let (before, now) = (twin_type("press", PRESS), twin_type("press", &changed(changes)));
    let mut bytes = Vec::new();
    twin(&before).write(&mut bytes);
    expected.assert_eq(&restored(&before, &now, &bytes));
}

fn restored(before: &TwinType, now: &TwinType, bytes: &[u8]) -> String {
    let layout = Layout::of(std::slice::from_ref(before));
    let types = [now.clone()];
    let (adaptation, warnings) = match Adaptation::new(&layout, &types) {
        Ok(adaptation) => adaptation,
        Err(problems) => return problems.iter().map(|problem| format!("refused: {problem}\n")).collect(),
    };
    let mut lines: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    if adaptation.is_identity() {
        lines += "as it was\n";
    }
    let mut twin = adaptation.restore(bytes).expect("it is a good record");
    Layout::of(&types).check(&twin).expect("it is one of its type now");
    lines += &told(&twin, now);
    let has = |name: &str| now.model.properties.iter().any(|property| property.name == name);
    let values = [("t", json!(40.0)), ("n", json!(8)), ("name", json!("it"))];
    let values: Vec<_> = values.into_iter().filter(|(name, _)| has(name)).collect();
    let mut recorder = Recorder::default();
    apply("p", &mut twin, now, &Update::at(3 * SECOND_US, &values), false, &mut recorder);
    let events = recorder.lines.iter().filter(|line| line.contains(" event "));
    lines + &told(&twin, now) + &events.map(|line| format!("{line}\n")).collect::<String>()
}

#[test]
fn the_same_job_changes_nothing() {
    check(
        &[],
        expect![[r#"
        as it was
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
    // What is not in a layout may change: the terms, units, what a function makes of its memory.
    check(
        &[
            (r#""window": "10s""#, r#""window": "10s", "threshold": 0.5, "desired_timeliness": "1ms""#),
            (r#""above": 25"#, r#""above": 25, "clear": 5"#),
            (r#""t": {"type": "double"}"#, r#""t": {"type": "double", "unit": "Cel", "range": [0, 1000]}"#),
        ],
        expect![[r#"
            as it was
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 6 entangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
        "#]],
    );
}

#[test]
fn properties_are_known_by_name() {
    check(
        &[
            (r#""n": {"type": "integer"}, "#, ""),
            (r#""t":"#, r#""x": {"type": "string"}, "n": {"type": "integer"}, "t":"#),
        ],
        expect![[r#"
            update 3 revision 3 change 2 bound | n=7 t=30.0 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | n=8 t=40.0 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
        "#]],
    );
    check(
        &[(r#""name": {"type": "string"},"#, "")],
        expect![[r#"
        warning: press: the property `name` is no longer in the job, its values are dropped
        update 3 revision 3 change 2 bound | t=30.0 n=7 mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
    check(
        &[(r#""m": {"type": "double"}, "#, ""), (r#""m": {"mean": {"of": "t", "window": "1m"}},"#, "")],
        expect![[r#"
            warning: press: the property `m` is no longer in the job, its values are dropped
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] e=31.25 | received 4 of 3.0, R 0.667
        "#]],
    );
}

#[test]
fn a_property_of_another_kind_is_refused() {
    check(
        &[
            (r#""n": {"type": "integer"}"#, r#""n": {"type": "double"}"#),
            (r#""items": "double""#, r#""items": "string""#),
        ],
        expect![[r#"
            refused: the property `n` of `press` was integer in the checkpoint and is double now; give the property another name, or start with --fresh, which begins with empty twins and keeps the checkpoint
            refused: the property `v` of `press` was array of double in the checkpoint and is array of string now; give the property another name, or start with --fresh, which begins with empty twins and keeps the checkpoint
        "#]],
    );
}

#[test]
fn words_are_known_by_their_text() {
    check(
        &[(r#"["idle", "run", "fault"]"#, r#"["fault", "off", "run", "idle"]"#)],
        expect![[r#"
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
    check(
        &[(r#"["idle", "run", "fault"]"#, r#"["idle", "run", "fault", "off"]"#)],
        expect![[r#"
        as it was
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
    check(
        &[(r#"["idle", "run", "fault"]"#, r#"["fault", "off"]"#)],
        expect![[r#"
        warning: press: the property `mode` no longer has the word `idle`, it is unset where that was its value
        warning: press: the property `mode` no longer has the word `run`, it is unset where that was its value
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
}

#[test]
fn a_function_keeps_its_memory_where_it_means_the_same() {
    // The order of functions may change.
    check(
        &[
            (r#""m": {"mean": {"of": "t", "window": "1m"}},"#, ""),
            (r#""above": 25}}"#, r#""above": 25}}, "m": {"mean": {"of": "t", "window": "1m"}}"#),
        ],
        expect![[r#"
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
        "#]],
    );
    check(
        &[
            (r#""window": "1m""#, r#""window": "2m""#),
            (r#""half_life": "1s""#, r#""half_life": "2s""#),
            (r#""above": 25"#, r#""above": 35"#),
        ],
        expect![[r#"
            warning: press: the function `m` begins with no memory: window_us was 60000000 and is 120000000
            warning: press: the function `e` begins with no memory: half_life_us was 1000000 and is 2000000
            warning: press: the function `hot` begins with no memory: above was 25 and is 35
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=40.0 e=40.0 | received 4 of 3.0, R 0.667
            3s         event update 4 revision 4 hot[0] 40
        "#]],
    );
    check(
        &[
            (r#""mean": {"of": "t", "window": "1m"}"#, r#""ewma": {"of": "t", "half_life": "1m"}"#),
            (r#""e": {"ewma": {"of": "t""#, r#""e": {"ewma": {"of": "n""#),
            (r#""above": 25"#, r#""below": 25"#),
        ],
        expect![[r#"
            warning: press: the function `m` begins with no memory: its kind was mean and is ewma
            warning: press: the function `e` begins with no memory: it was of `t` and is of `n`
            warning: press: the function `hot` begins with no memory: above was 25 and is not set
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=40.0 e=8.0 | received 4 of 3.0, R 0.667
        "#]],
    );
    // One that remembers nothing has nothing to lose; one that is new has nothing yet.
    check(
        &[
            (r#""mean": {"of": "t", "window": "1m"}"#, r#""linear": {"of": "t", "factor": 2}"#),
            (r#""e": {"type": "double"}"#, r#""e": {"type": "double"}, "r": {"type": "double"}"#),
            (r#""hot": {"threshold""#, r#""r": {"rate": {"of": "n"}}, "hot": {"threshold""#),
        ],
        expect![[r#"
            warning: press: the function `m` begins with no memory: its kind was mean and is linear
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=80.0 e=31.25 | received 4 of 3.0, R 0.667
        "#]],
    );
}

#[test]
fn observations_follow_their_stream() {
    check(
        &[(
            r#"{"a": "1/s", "b": "none", "c": "none"}"#,
            r#"{"c": "none", "a": "1/s", "d": "none", "b": "none"}"#,
        )],
        expect![[r#"
            update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
            update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.333
        "#]],
    );
    // Those of a stream that is gone count for the whole only, and where one is left for that one.
    check(
        &[(r#""a": "1/s", "b": "none", "c": "none""#, r#""c": "1/s", "b": "none""#)],
        expect![[r#"
        warning: press: the stream `a` is no longer in the job, its observations are no stream's until they leave the window
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
    check(
        &[(r#""a": "1/s", "b": "none", "c": "none""#, r#""x": "1/s""#)],
        expect![[r#"
        warning: press: the stream `a` is no longer in the job, its observations are no stream's until they leave the window
        warning: press: the stream `b` is no longer in the job, its observations are no stream's until they leave the window
        warning: press: the stream `c` is no longer in the job, its observations are no stream's until they leave the window
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 1.500
        update 4 revision 4 change 4 entangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 1.333
    "#]],
    );
}

#[test]
fn a_changed_window_holds_what_both_hold() {
    check(
        &[(r#""window": "10s""#, r#""window": "1s""#)],
        expect![[r#"
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 2 of 1.0, R 0.000
        update 4 revision 4 change 6 entangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 2 of 1.0, R 1.000
    "#]],
    );
    // Its ticks are longer than a microsecond.
    check(
        &[(r#""window": "10s""#, r#""window": "24h""#)],
        expect![[r#"
        update 3 revision 3 change 2 bound | t=30.0 n=7 name="the press" mode="run" v=[1.5] m=20.0 e=22.5 | received 3 of 2.0, R 0.500
        update 4 revision 4 change 4 disentangled | t=40.0 n=8 name="it" mode="run" v=[1.5] m=25.0 e=31.25 | received 4 of 3.0, R 0.667
    "#]],
    );
}

#[test]
fn types_are_known_by_name() {
    let of = |names: &[&str]| -> Vec<TwinType> { names.iter().map(|name| twin_type(name, PRESS)).collect() };
    let layout = Layout::of(&of(&["press", "valve"]));
    let (adaptation, warnings) =
        Adaptation::new(&layout, &of(&["pump", "valve", "press"])).expect("a type more");
    assert!(warnings.is_empty() && !adaptation.is_identity());
    let mut twin = twin(&of(&["press"])[0]);
    for (before, now) in [(0, 2), (1, 1)] {
        twin.twin_type = before;
        assert_eq!(adaptation.apply(twin.clone()).twin_type, now);
    }
    let problems = Adaptation::new(&layout, &of(&["press", "pump"])).expect_err("a type less");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    expect!["the checkpoint has twins of the type `valve`, which the job no longer has; give the type its name back, or start with --fresh, which begins with empty twins and keeps the checkpoint"].assert_eq(&problems.join("\n"));
}

#[test]
fn a_layout_that_no_job_has_is_refused() {
    let types = [twin_type("press", PRESS)];
    let layout = Layout::of(&types);
    let streams: Vec<String> = (0..17).map(|number| format!("s{number}")).collect();
    for (window_us, streams) in [(0, vec![]), (-1, vec![]), (i64::MAX, vec![]), (10 * SECOND_US, streams)] {
        let mut damaged = layout.clone();
        damaged.types[0] = TypeLayout { window_us, streams, ..damaged.types[0].clone() };
        let problems = Adaptation::new(&damaged, &types).expect_err("no job has that");
        assert!(matches!(problems[..], [LayoutProblem::Damaged { .. }]), "{problems:?}");
    }
}

#[test]
fn a_record_of_another_layout_is_refused() {
    let types = [twin_type("press", PRESS)];
    let (adaptation, _) = Adaptation::new(&Layout::of(&types), &types).expect("nothing has changed");
    for (changes, expected) in [
        (
            vec![
                (r#""m": {"type": "double"}, "#, ""),
                (r#""m": {"mean": {"of": "t", "window": "1m"}},"#, ""),
            ],
            "it has other properties",
        ),
        (vec![(r#""n": {"type": "integer"}"#, r#""n": {"type": "object"}"#)], "a text is of no property"),
        (
            vec![(r#""e": {"ewma": {"of": "t", "half_life": "1s"}},"#, "")],
            "it remembers what its functions do not",
        ),
        (
            vec![(r#""c": "none"}"#, r#""c": "none", "d": "none"}"#)],
            "an observation is of no stream of its type",
        ),
    ] {
        let other = twin_type("press", &changed(&changes));
        let mut twin = twin(&other);
        if expected.contains("stream") {
            let update = Update { stream: 3, ..Update::at(3 * SECOND_US, &[("t", json!(1.0))]) };
            apply("p", &mut twin, &other, &update, false, &mut Recorder::default());
        }
        let mut bytes = Vec::new();
        twin.write(&mut bytes);
        let found = adaptation.restore(&bytes).expect_err("it is no record of this layout");
        assert_eq!(found, SnapshotError::Contradiction(expected));
    }
}
