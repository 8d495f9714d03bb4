//! Models that are good, and what is said of those that are not.

use super::*;

fn check(properties: &str, expected: &str) {
    let settings = ModelSettings {
        properties: serde_json::from_str(properties).expect("the case is well formed"),
        ..ModelSettings::default()
    };
    let found = match compile(&settings) {
        Ok(_) => "good".to_owned(),
        Err(problems) => problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path.join("."), problem.message))
            .collect::<Vec<_>>()
            .join("; "),
    };
    assert_eq!(found, expected, "{properties}");
}

#[test]
fn models_are_checked() {
    check(r#"{"t": {"type": "double", "unit": "Cel", "range": [-40, 200]}}"#, "good");
    check(r#"{"m": {"type": "enum", "values": ["idle", "run"]}}"#, "good");
    check(r#"{"v": {"type": "array", "items": "double", "length_max": 64}}"#, "good");
    check(r#"{"position": {"type": "double"}}"#, "good");
    check(r#"{"t": {"type": "double", "unit": "°C"}}"#, "properties.t.unit: `°C` is no UCUM code");
    check(r#"{"t": {"type": "double", "range": [2, 1]}}"#, "properties.t.range: the range is empty");
    check(
        r#"{"t": {"type": "string", "range": [1, 2]}}"#,
        "properties.t.range: `range` belongs to the type double or integer",
    );
    check(r#"{"m": {"type": "enum"}}"#, "properties.m: an enum lists its words");
    check(
        r#"{"m": {"type": "enum", "values": ["a", "a"]}}"#,
        "properties.m.values.1: `a` stands in the list twice",
    );
    check(r#"{"v": {"type": "array"}}"#, "properties.v: an array says of what");
    check(
        r#"{"v": {"type": "array", "items": "double", "length_max": 5000}}"#,
        "properties.v.length_max: an array has 1 to 4096 elements",
    );
    check(r#"{"a b": {"type": "double"}}"#, "properties.a b: `a b` is no name");
}

#[test]
fn relationships_come_from_columns_and_from_properties_that_are_text() {
    let compiled = |relationships: &str| {
        let properties = r#"{"line": {"type": "string"}, "t": {"type": "double"}}"#;
        compile(&ModelSettings {
            properties: serde_json::from_str(properties).expect("well formed"),
            relationships: serde_json::from_str(relationships).expect("well formed"),
            ..ModelSettings::default()
        })
    };
    let good = r#"{"on": {"to": "line", "from": {"property": "line"}}, "in": {"to": "hall", "from": {"roster": "h"}},
                   "beside": {"to": "press"}}"#;
    let model = compiled(good).expect("it is good");
    assert_eq!(model.links, [Link { name: "on".into(), to: "line".into(), property: 0 }]);
    assert_eq!(model.relationships.len(), 1);
    for (property, expected) in
        [("t", "the property `t` is no text, as ids are"), ("l", "there is no property `l`")]
    {
        let bad = format!(r#"{{"on": {{"to": "line", "from": {{"property": "{property}"}}}}}}"#);
        let problems = compiled(&bad).expect_err("it is bad");
        assert_eq!(problems[0].path.join("."), "relationships.on.from.property");
        assert_eq!(problems[0].message, expected);
    }
}

#[test]
fn a_name_that_is_not_there_is_suggested() {
    let settings = ModelSettings {
        properties: serde_json::from_str(
            r#"{"temperature": {"type": "double"}, "name": {"type": "string"}}"#,
        )
        .expect("the case is well formed"),
        ..ModelSettings::default()
    };
    let model = compile(&settings).expect("the model is good");
    let problem = model.require_number("temprature").expect_err("it is mistyped");
    assert_eq!(problem.help, "did you mean `temperature`?");
    let problem = model.require_number("name").expect_err("it is text");
    assert_eq!(problem.message, "the property `name` is no number");
}
