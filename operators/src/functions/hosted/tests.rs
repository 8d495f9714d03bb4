//! Functions whose host is ours: numbers and bodies, what is taken of their results, and what is refused.

use expect_test::{Expect, expect};
use indexmap::IndexMap;

use super::*;
use crate::fixture;
use crate::functions::{FunctionKind, FunctionSpec};
use crate::model::{ModelSettings, compile};
use crate::roster::{Facts, RosterBuilder};

/// A host whose functions are ours.
struct Fake {
    takes: Takes,
    numbers: fn(&[f64]) -> Result<Option<f64>, String>,
    body: fn(&str) -> Result<String, String>,
}

impl Host for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn takes(&self) -> Takes {
        self.takes
    }

    fn call_numbers(&self, inputs: &[f64]) -> Result<Option<f64>, String> {
        (self.numbers)(inputs)
    }

    fn call_body(&self, body: &[u8], answer: &mut Vec<u8>) -> Result<(), String> {
        let given = (self.body)(std::str::from_utf8(body).expect("a body is a text"))?;
        answer.clear();
        answer.extend_from_slice(given.as_bytes());
        Ok(())
    }
}

fn numbers(count: usize, numbers: fn(&[f64]) -> Result<Option<f64>, String>) -> Fake {
    Fake { takes: Takes::Numbers(count), numbers, body: |_| Err("it takes numbers".into()) }
}

fn body(body: fn(&str) -> Result<String, String>) -> Fake {
    Fake { takes: Takes::Body, numbers: |_| Err("it takes a body".into()), body }
}

fn model() -> Model {
    let properties = r#"{"t": {"type": "double"}, "n": {"type": "integer"}, "s": {"type": "string"},
        "f": {"type": "double", "range": [-100, 100]}, "i": {"type": "integer"}, "b": {"type": "boolean"},
        "g": {"type": "double"}}"#;
    compile(&ModelSettings {
        properties: serde_json::from_str(properties).expect("well formed"),
        events: serde_json::from_str(r#"{"hot": {"type": "double"}}"#).expect("well formed"),
        ..ModelSettings::default()
    })
    .expect("the model is good")
}

/// The functions of a type that maps `t`, `n` and `s`.
fn functions(all: Vec<(&str, Fake, &str)>) -> Result<Functions, String> {
    let spec = |(name, fake, call): (&str, Fake, &str)| {
        let kind = FunctionKind::Hosted(HostHandle(Arc::new(fake)));
        let call = serde_json::from_str(call).expect("well formed");
        (name.to_owned(), FunctionSpec { kind, call, version: 1, trial: None })
    };
    let specs: IndexMap<String, FunctionSpec> = all.into_iter().map(spec).collect();
    Functions::compile(&specs, &model(), &[0, 1, 2]).map_err(|problems| {
        let line = |one: &Problem| format!("{}: {} ({})", one.path.join("."), one.message, one.help);
        problems.iter().map(line).collect()
    })
}

/// What one function makes of updates, one after the other.
fn check(name: &str, fake: Fake, call: &str, updates: &[&str], expected: Expect) {
    let functions = functions(vec![(name, fake, call)]).expect("it is good");
    expected.assert_eq(&fixture::augmented(&functions, &model(), &[name], updates));
}

#[test]
fn numbers_come_in_the_order_of_the_job() {
    let weighed = |inputs: &[f64]| Ok(Some(inputs[0] - 10.0 * inputs[1]));
    let updates = [r#"{"n": 3}"#, r#"{"t": 7}"#, r#"{"s": "x"}"#, r#"{"t": 8, "n": 4}"#];
    check(
        "f",
        numbers(2, weighed),
        r#"{"of": ["t", "n"]}"#,
        &updates,
        expect![[r#"
        None its result is NaN
        Some(Double(-23.0))
        Some(Double(-23.0))
        Some(Double(-32.0))
    "#]],
    );
    check(
        "f",
        numbers(2, weighed),
        r#"{"of": ["n", "t"]}"#,
        &updates[..2],
        expect![[r#"
        None its result is NaN
        Some(Double(-67.0))
    "#]],
    );
    // What has no value yet is NaN, which a function may look at.
    let known = |inputs: &[f64]| Ok(Some(inputs.iter().filter(|one| !one.is_nan()).count() as f64));
    check(
        "i",
        numbers(2, known),
        r#"{"of": ["n", "t"]}"#,
        &updates,
        expect![[r#"
        Some(Integer(1))
        Some(Integer(2))
        Some(Integer(2))
        Some(Integer(2))
    "#]],
    );
}

#[test]
fn a_number_is_taken_where_it_may_be() {
    let same = |inputs: &[f64]| Ok(Some(inputs[0]).filter(|input| *input != 0.0));
    let updates = [r#"{"t": 50}"#, r#"{"t": 0}"#, r#"{"t": 200.5}"#, r#"{"t": 60}"#];
    check(
        "f",
        numbers(1, same),
        r#"{"of": ["t"]}"#,
        &updates,
        expect![[r#"
        Some(Double(50.0))
        Some(Double(50.0))
        Some(Double(50.0)) `f`: 200.5 is outside the range [-100, 100]
        Some(Double(60.0))
    "#]],
    );
    check(
        "i",
        numbers(1, same),
        r#"{"of": ["t"], "on_error": "skip"}"#,
        &updates,
        expect![[r#"
            Some(Integer(50))
            Some(Integer(50))
            None `i`: 200.5 is no integer
            Some(Integer(60))
        "#]],
    );
    check(
        "hot",
        numbers(1, same),
        r#"{"of": ["t"]}"#,
        &updates[..2],
        expect![[r#"
        None Json("50.0")
        None
    "#]],
    );
}

#[test]
fn what_fails_leaves_what_the_policy_says() {
    let fails = |inputs: &[f64]| match inputs[0] {
        0.0 => Err("trap: division by zero".into()),
        input if input < 0.0 => Ok(Some(f64::INFINITY)),
        input => Ok(Some(100.0 / input)),
    };
    let updates = [r#"{"t": 4}"#, r#"{"t": 0}"#, r#"{"t": 5}"#, r#"{"t": -1}"#];
    for (policy, expected) in [
        (
            "previous",
            expect![[r#"
            Some(Double(25.0))
            Some(Double(25.0)) trap: division by zero
            Some(Double(20.0))
            Some(Double(20.0)) its result is inf
        "#]],
        ),
        (
            "skip",
            expect![[r#"
            Some(Double(25.0))
            None trap: division by zero
            Some(Double(20.0))
            None its result is inf
        "#]],
        ),
        (
            "dead_letter",
            expect![[r#"
            Some(Double(25.0))
            Some(Double(25.0)) trap: division by zero [letter]
            Some(Double(20.0))
            Some(Double(20.0)) its result is inf [letter]
        "#]],
        ),
    ] {
        let call = format!(r#"{{"of": ["t"], "on_error": "{policy}"}}"#);
        check("f", numbers(1, fails), &call, &updates, expected);
    }
}

#[test]
fn a_body_is_what_functions_outside_are_told() {
    let told = |body: &str| Err(body.to_owned());
    check(
        "f",
        body(told),
        r#"{"of": ["s"]}"#,
        &[r#"{"t": 1}"#, r#"{"s": "x"}"#],
        expect![[r#"
        None
        None {"twin":"p","type":"press","update":2,"physical_at":"1970-01-01T00:00:02.000Z","arrived_at":"1970-01-01T00:00:02.000Z","properties":{"t":1,"s":"x"}}
    "#]],
    );
}

#[test]
fn rule_6_1_a_body_has_the_attributes_of_its_twin() {
    let attributes = r#"{"hall": "string", "floor": "integer", "heated": "boolean", "spare": "double"}"#;
    let model = compile(&ModelSettings {
        properties: serde_json::from_str(r#"{"t": {"type": "double"}, "f": {"type": "double"}}"#)
            .expect("good"),
        attributes: serde_json::from_str(attributes).expect("well formed"),
        ..ModelSettings::default()
    });
    let model = model.expect("the model is good");
    let kind = FunctionKind::Hosted(HostHandle(Arc::new(body(|body| Err(body.to_owned())))));
    let spec = FunctionSpec { kind, call: CallSettings::default(), version: 1, trial: None };
    let functions = Functions::compile(&IndexMap::from([("f".to_owned(), spec)]), &model, &[0]);
    let functions = functions.expect("it is good");
    let mut roster = RosterBuilder::default();
    roster.add(2, "p-1", 0, ["north \"2\"", "+3", "TRUE", ""].into_iter()).expect("a good row");
    let roster = roster.finish(false).expect("good rows");
    let told = |facts| {
        let found = fixture::augmented_of(facts, &functions, &model, &["f"], &[r#"{"t": 1}"#]);
        found.split_once("\"properties\":").expect("it is a body").1.trim().to_owned()
    };
    let expected = r#"{"t":1},"attributes":{"hall":"north \"2\"","floor":3,"heated":true}}"#;
    assert_eq!(told(Facts::of(roster.row(0))), expected);
    assert_eq!(told(Facts::default()), r#"{"t":1},"attributes":{}}"#);
}

#[test]
fn an_answer_is_taken_whole_or_not_at_all() {
    // What it is told last is what it answers.
    let echo = |body: &str| {
        let body: Json = serde_json::from_str(body).expect("a body is JSON");
        Ok(body["properties"]["s"].as_str().expect("it runs on `s`").to_owned())
    };
    let answers = [
        r#"{"f": 1, "g": 2.5, "hot": {"at": 3}}"#,
        "{}",
        r#"{"f": 4, "g": null}"#,
        r#"{"f": 5, "g": "many"}"#,
        r#"{"f": 6, "other": 1}"#,
        "[1]",
    ];
    let updates = answers.map(|answer| serde_json::json!({ "s": answer }).to_string());
    let call = r#"{"of": ["s"], "yields": ["f", "g", "hot"]}"#;
    let functions = functions(vec![("echo", body(echo), call)]).expect("it is good");
    let updates: Vec<&str> = updates.iter().map(String::as_str).collect();
    expect![[r#"
        Some(Double(1.0)) Some(Double(2.5)) Json("{\"at\":3}")
        Some(Double(1.0)) Some(Double(2.5))
        Some(Double(4.0)) Some(Double(2.5))
        Some(Double(4.0)) Some(Double(2.5)) `g`: "many" is no double
        Some(Double(4.0)) Some(Double(2.5)) the answer has `other`, and the function yields f, g, hot
        Some(Double(4.0)) Some(Double(2.5)) the answer is no JSON object: invalid type: sequence, expected a map at line 1 column 0
    "#]].assert_eq(&fixture::augmented(&functions, &model(), &["f", "g"], &updates));
}

#[test]
fn functions_do_not_see_what_others_write() {
    let length = |body: &str| Ok(format!(r#"{{"i": {}}}"#, body.len()));
    let first = |inputs: &[f64]| Ok(Some(inputs[0] + 1.0));
    let both = functions(vec![
        ("f", numbers(1, first), r#"{"of": ["t"]}"#),
        ("i", body(length), "{}"),
        ("again", body(|body| Ok(format!(r#"{{"g": {}}}"#, body.len()))), r#"{"yields": ["g"]}"#),
    ])
    .expect("they are good");
    let found = fixture::augmented(&both, &model(), &["f", "i", "g"], &[r#"{"t": 1}"#, r#"{"t": 2}"#]);
    expect![[r#"
        Some(Double(2.0)) Some(Integer(140)) Some(Double(140.0))
        Some(Double(3.0)) Some(Integer(140)) Some(Double(140.0))
    "#]]
    .assert_eq(&found);
}

#[test]
fn slips_are_found_before_the_job_runs() {
    let one = |name: &str, fake: Fake, call: &str| {
        let found = functions(vec![(name, fake, call)]).expect_err("it is wrong");
        format!("{call} => {found}\n")
    };
    let two = || numbers(2, |_| Ok(None));
    let found = [
        one("f", two(), "{}"),
        one("f", two(), r#"{"of": ["t"]}"#),
        one("f", two(), r#"{"of": ["t", "s"]}"#),
        one("f", two(), r#"{"of": ["t", "x"]}"#),
        one("f", two(), r#"{"of": ["t", "f"]}"#),
        one("f", two(), r#"{"of": ["t", "n"], "yields": ["f", "g"]}"#),
        one("b", two(), r#"{"of": ["t", "n"]}"#),
        one("nowhere", two(), r#"{"of": ["t", "n"]}"#),
        one("t", two(), r#"{"of": ["t", "n"]}"#),
        one("f", body(|_| Ok("{}".into())), r#"{"timeout": "1s"}"#),
        one("f", body(|_| Ok("{}".into())), r#"{"on_late": "skip"}"#),
    ];
    expect![[r#"
        {} => f.of: inputs of the function: 2, properties in `of`: 0 (name its inputs in their order: of: [temperature, pressure])
        {"of": ["t"]} => f.of: inputs of the function: 2, properties in `of`: 1 (name its inputs in their order: of: [temperature, pressure])
        {"of": ["t", "s"]} => f.of.1: the property `s` is no number (name a property of type double, integer or boolean)
        {"of": ["t", "x"]} => f.of.1: there is no property `x` (there are: b, f, g, i, n, s, t)
        {"of": ["t", "f"]} => f.of.1: `f` is computed by a function; functions see what the physical twin sent (name a property that a stream maps)
        {"of": ["t", "n"], "yields": ["f", "g"]} => f.yields: it gives one number, and `yields` names 2 (name one, or have the function take a JSON object and give another one)
        {"of": ["t", "n"]} => b: it gives a number, and `b` is none (declare b: {type: double})
        {"of": ["t", "n"]} => nowhere: there is no property `nowhere`, and no such event (declare it: properties: {nowhere: {type: double}}, or an event)
        {"of": ["t", "n"]} => t: `t` is written by a stream as well (give the function a property of its own)
        {"timeout": "1s"} => f: fake answers at once: nothing waits for it, and nothing is late (beside `fake` write of, yields, on_error and keeps, or spread: true to have it called; its limits stand under it)
        {"on_late": "skip"} => f: fake answers at once: nothing waits for it, and nothing is late (beside `fake` write of, yields, on_error and keeps, or spread: true to have it called; its limits stand under it)
    "#]].assert_eq(&found.concat());
}
