//! Tables for expressions: updates in, what is computed and emitted out.

use expect_test::{Expect, expect};
use indexmap::IndexMap;

use super::*;
use crate::fixture;
use crate::functions::{FunctionSettings, Functions};
use crate::model::{ModelSettings, compile};
use crate::roster::{Facts, RosterBuilder};

fn model() -> Model {
    let properties = r#"{"t": {"type": "double"}, "n": {"type": "integer"}, "mode": {"type": "enum",
        "values": ["idle", "run"]}, "v": {"type": "array", "items": "double"}, "s": {"type": "string"},
        "f": {"type": "double", "range": [-100, 100]}, "i": {"type": "integer"}, "b": {"type": "boolean"},
        "w": {"type": "enum", "values": ["low", "high"]}, "l": {"type": "array", "items": "double"}}"#;
    compile(&ModelSettings {
        properties: serde_json::from_str(properties).expect("well formed"),
        events: serde_json::from_str(r#"{"hot": {"type": "double"}}"#).expect("well formed"),
        ..ModelSettings::default()
    })
    .expect("the model is good")
}

fn functions(name: &str, text: &str) -> Result<Functions, String> {
    let settings = FunctionSettings::Cel(CelSettings(text.to_owned()));
    let all = indexmap::IndexMap::from([(name.to_owned(), settings)]);
    Functions::compile(&all, &model(), &[0, 1, 2, 3, 4]).map_err(|problems| {
        let line = |one: &Problem| format!("{}: {} ({})", one.path.join("."), one.message, one.help);
        problems.iter().map(line).collect()
    })
}

/// What a function makes of updates, one after the other.
fn check(name: &str, text: &str, updates: &[&str], expected: Expect) {
    let functions = functions(name, text).expect("it is good");
    expected.assert_eq(&fixture::augmented(&functions, &model(), &[name], updates));
}

#[test]
fn rule_6_1_an_expression_sees_the_attributes_of_its_twin() {
    let properties = r#"{"t": {"type": "double"}, "f": {"type": "string"}}"#;
    let attributes = r#"{"hall": "string", "t_max": "double", "spare": "boolean"}"#;
    let model = compile(&ModelSettings {
        properties: serde_json::from_str(properties).expect("well formed"),
        attributes: serde_json::from_str(attributes).expect("well formed"),
        ..ModelSettings::default()
    });
    let model = model.expect("the model is good");
    let mut roster = RosterBuilder::default();
    roster.add(2, "p-1", 0, ["north", "80.5", "true"].into_iter()).expect("a good row");
    roster.add(3, "p-2", 0, ["south"].into_iter()).expect("a good row");
    let roster = roster.finish(false).expect("good rows");
    let text = "t_max == null ? 'unknown' : spare == true && t > t_max ? 'hot in ' + hall : 'fine'";
    let settings = FunctionSettings::Cel(CelSettings(text.to_owned()));
    let functions = Functions::compile(&IndexMap::from([("f".to_owned(), settings)]), &model, &[0]);
    let functions = functions.expect("it is good");
    assert!(functions.see_facts());
    let augmented = |id: &str| {
        let facts = Facts::of(roster.find(crate::id::hash(id.as_bytes()), id));
        fixture::augmented_of(facts, &functions, &model, &["f"], &[r#"{"t": 90}"#, r#"{"t": 10}"#])
    };
    assert_eq!(augmented("p-1"), "Some(Text(\"hot in north\"))\nSome(Text(\"fine\"))\n");
    assert_eq!(augmented("p-2"), "Some(Text(\"unknown\"))\nSome(Text(\"unknown\"))\n");
    assert_eq!(augmented("p-3"), augmented("p-2"));
}

#[test]
fn an_expression_computes_a_property() {
    check(
        "f",
        "t * 1.8 + 32.0",
        &[r#"{"t": 10}"#, r#"{"n": 1}"#, r#"{"t": 20}"#],
        expect![[r#"
        Some(Double(50.0))
        Some(Double(50.0))
        Some(Double(68.0))
    "#]],
    );
    check(
        "i",
        "n / (n - 2)",
        &[r#"{"n": 4}"#, r#"{"n": 2}"#, r#"{"n": 3}"#],
        expect![[r#"
        Some(Integer(2))
        Some(Integer(2)) Division by zero of Int(2)
        Some(Integer(3))
    "#]],
    );
    check(
        "f",
        "t",
        &[r#"{"t": 10}"#, r#"{"t": 200}"#],
        expect![[r#"
        Some(Double(10.0))
        Some(Double(10.0)) `f`: 200 is outside the range [-100, 100]
    "#]],
    );
    check(
        "w",
        "mode == 'run' && t > 5.0 ? 'high' : 'low'",
        &[r#"{"mode": "run"}"#, r#"{"t": 9}"#],
        expect![[r#"
            None
            Some(Enum(1))
        "#]],
    );
    check(
        "l",
        "v.map(x, x * 2.0)",
        &[r#"{"v": [1.5, 2.0]}"#],
        expect![[r#"
        Some(Json("[3.0,4.0]"))
    "#]],
    );
    check(
        "b",
        "s.startsWith('a') || size(s) > 3",
        &[r#"{"s": "abc"}"#, r#"{"s": "b"}"#],
        expect![[r#"
        Some(Boolean(true))
        Some(Boolean(false))
    "#]],
    );
    check(
        "f",
        "previous == null ? t : previous * 0.5 + t * 0.5",
        &[r#"{"t": 10}"#, r#"{"t": 20}"#],
        expect![[r#"
            Some(Double(10.0))
            Some(Double(15.0))
        "#]],
    );
    check(
        "f",
        "t / (t - 1.0)",
        &[r#"{"t": 2}"#, r#"{"t": 1}"#],
        expect![[r#"
            Some(Double(2.0))
            Some(Double(2.0)) the result is infinite, or no number
        "#]],
    );
    check(
        "i",
        "n + device_time",
        &[r#"{"n": 1}"#],
        expect![[r#"
        Some(Integer(1001))
    "#]],
    );
}

#[test]
fn an_expression_emits_an_event() {
    check(
        "hot",
        "t > 80.0 ? t : null",
        &[r#"{"t": 10}"#, r#"{"t": 90}"#],
        expect![[r#"
        None
        None Json("90.0")
    "#]],
    );
    check(
        "hot",
        "t > 80.0",
        &[r#"{"t": 10}"#, r#"{"t": 90}"#],
        expect![[r#"
        None
        None Json("true")
    "#]],
    );
}

#[test]
fn slips_are_found_before_the_job_runs() {
    let found: Vec<String> = [
        ("f", "t +"),
        ("f", "tt * 2.0"),
        ("f", "t * 2"),
        ("f", "f + t"),
        ("f", "1.0 + 2.0"),
        ("f", "t > 1.0"),
        ("i", "t"),
        ("b", "nothing(t)"),
        ("nowhere", "t"),
        ("f", "v.map(x, x * y)[0]"),
    ]
    .iter()
    .map(|(name, text)| format!("{text} => {}\n", functions(name, text).expect_err(text)))
    .collect();
    expect![[r#"
        t + => f.cel: the expression cannot be read at its character 4: Syntax error: mismatched input '<EOF>' (write for example temperature * 1.8 + 32.0)
        tt * 2.0 => f.cel: there is no property `tt` (there are: device_time, mode, n, previous, s, t, v)
        t * 2 => f.cel: the kinds do not go together: Unsupported binary operator 'mul': Float(1.5), Int(2) (operands are of one kind: write 2.0 beside a double and 2 beside an integer, or double(n))
        f + t => f.cel: `f` is mapped by no stream; functions see what the physical twin sent (name a property that a stream maps)
        1.0 + 2.0 => f.cel: the expression names no property, so nothing would make it run (name a property that a stream maps)
        t > 1.0 => f.cel: the expression gives true, which is no value of `f` (give a number such as 1.5, or declare another type)
        t => i.cel: the expression gives 1.5, which is no value of `i` (give an integer: int(x), or declare another type)
        nothing(t) => b.cel: there is no function `nothing` (see the list of functions at github.com/google/cel-spec, or use python)
        t => nowhere: there is no property `nowhere`, and no such event (declare it: properties: {nowhere: {type: double}}, or an event)
        v.map(x, x * y)[0] => f.cel: there is no property `y` (there are: device_time, mode, n, previous, s, t, v)
    "#]].assert_eq(&found.concat());
}

/// Loops inside of loops multiply; a worker is not held up by them.
#[test]
fn loops_inside_of_loops_have_a_limit() {
    let list = |length: usize| format!("{{\"v\": {:?}}}", vec![1.5; length]);
    let (short, long) = (list(40), list(400));
    let updates = [short.as_str(), long.as_str()];
    let limited = |text: &str, expected: Expect| check("b", text, &updates, expected);
    limited(
        "v.all(x, v.all(y, v.all(z, x + y + z > 0.0)))",
        expect![[r#"
            Some(Boolean(true))
            Some(Boolean(true)) too_large: its loops inside of loops go over more than 100000 items
        "#]],
    );
    limited(
        "size({'a': [v.map(x, v.filter(y, y > x))]}.a) == 1",
        expect![[r#"
            Some(Boolean(true))
            Some(Boolean(true)) too_large: its loops inside of loops go over more than 100000 items
        "#]],
    );
    // One after the other, they add up.
    limited(
        "v.map(x, x * 2.0).filter(x, x > 1.0).all(x, x in v || x > 2.0)",
        expect![[r#"
            Some(Boolean(true))
            Some(Boolean(true))
        "#]],
    );
    check(
        "b",
        "{'a': v, 'b': v}.all(k, v.exists(x, x > 1.0))",
        &[&long],
        expect![[r#"
        Some(Boolean(true))
    "#]],
    );
}
