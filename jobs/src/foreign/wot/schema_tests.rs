//! Data schemas of Thing Models: what is written, and what it comes to.

use expect_test::{Expect, expect};

use crate::foreign::tests::check;

/// A model with this one property.
fn check_property(schema: &str, expected: Expect) {
    let model = format!("{{\"@type\": \"tm:ThingModel\", \"properties\": {{\"p\":\n{schema}}}}}");
    check(&[("m.json", &model)], "{wot: m.json}", expected);
}

#[test]
fn data_schemas() {
    check_property(
        r#"{"type": "integer", "minimum": 0, "maximum": 100, "unit": "percent", "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"integer","unit":"%","range":[0.0,100.0]}
        "#]],
    );
    check_property(
        r#"{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2.5, "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"integer","range":[1.0,2.0]}
        "#]],
    );
    check_property(
        r#"{"type": "number", "exclusiveMinimum": 0, "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"double","range":[0.0,1.7976931348623157e+308]}
        m.json:2:40: note: the range of the property `p` includes 0
          help: a range has both its ends
    "#]],
    );
    check_property(
        r#"{"type": "number", "minimum": 5, "maximum": 5, "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"double"}
        m.json:1:43: note: the range of the property `p` holds no two numbers, so it is left out
          help: declare it in the type with a range: [-40, 200]
    "#]],
    );
    check_property(
        r#"{"type": "string", "enum": ["on", "off", "on"], "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"enum","values":["on","off"]}
    "#]],
    );
    check_property(
        r#"{"enum": ["on", "off"], "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"enum","values":["on","off"]}
    "#]],
    );
    check_property(
        r#"{"type": "integer", "enum": [1, 4, 2], "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"integer","range":[1.0,4.0]}
        m.json:2:21: note: of the numbers that the property `p` may be, only the range is kept
          help: declare it as an enum in the type, with words for them
    "#]],
    );
    check_property(
        r#"{"oneOf": [{"const": 0, "title": "idle"}, {"const": 1, "title": "run"}], "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"enum","values":["idle","run"]}
            m.json:2:2: note: the property `p` is sent as a number, and has words here
              help: where a stream maps it, write {pointer: .., map: {0: idle, 1: run}}
        "#]],
    );
    check_property(
        r#"{"type": "string", "oneOf": [{"const": "a"}, {"const": "b"}], "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"enum","values":["a","b"]}
        "#]],
    );
    check_property(
        r#"{"type": "string", "pattern": "^a", "maxLength": 5, "title": "Name", "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"string","description":"Name"}
            m.json:2:31: note: of the property `p` this is not checked: `pattern`, `maxLength`
              help: a value of the kind is taken; where it must be more, a function can judge it
        "#]],
    );
    check_property(
        r#"{"type": "array", "items": {"type": "number"}, "maxItems": 64, "minItems": 1, "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"array","items":"double","length_max":64}
            m.json:2:76: note: of the property `p` this is not checked: `minItems`
              help: a value of the kind is taken; where it must be more, a function can judge it
        "#]],
    );
    check_property(
        r#"{"type": "array", "items": [{"type": "integer"}, {"type": "integer", "minimum": 0}], "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"array","items":"integer"}
            m.json:2:81: note: `minimum` of the elements of `p` is not checked
              help: elements have a kind only
        "#]],
    );
    check_property(
        r#"{"type": "array", "items": {"type": "object"}, "readOnly": true}"#,
        expect![[r#"
        m.json:2:28: note: the property `p` is not carried over: an array holds numbers, booleans or texts, all of one kind
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"type": "array", "readOnly": true}"#,
        expect![[r#"
        m.json:2:1: note: the property `p` is not carried over: an array holds numbers, booleans or texts, all of one kind
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"type": "array", "items": {"type": "string"}, "maxItems": 9999, "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"array","items":"string"}
            m.json:2:60: note: `maxItems` of `p` is not kept: an array has 1 to 4096
              help: longer ones are dead letters
        "#]],
    );
    check_property(
        r#"{"type": "object", "properties": {"x": {"type": "number"}}, "readOnly": true}"#,
        expect![[r#"
            properties.p: {"type":"object"}
            m.json:2:20: note: of the property `p` this is not checked: `properties`
              help: an object is kept as it is, whatever its fields are
        "#]],
    );
    check_property(
        r#"{"type": ["string", "null"], "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"string"}
    "#]],
    );
    check_property(
        r#"{"type": ["string", "integer"], "readOnly": true}"#,
        expect![[r#"
        m.json:2:10: note: the property `p` is not carried over: it may be of several types
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"type": "null", "readOnly": true}"#,
        expect![[r#"
        m.json:2:1: note: the property `p` is not carried over: a value that is always null is none
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"type": "{{KIND}}", "readOnly": true}"#,
        expect![[r#"
        m.json:2:10: note: the property `p` is not carried over: its `type` is the placeholder {{KIND}}
          help: say what stands for it: model: {wot: {file: .., placeholders: {KIND: ..}}}
    "#]],
    );
    check_property(
        r#"{"type": "float", "readOnly": true}"#,
        expect![[r#"
        m.json:2:10: note: the property `p` is not carried over: `float` is no type of a data schema
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"title": "anything", "readOnly": true}"#,
        expect![[r#"
        m.json:2:1: note: the property `p` is not carried over: it has no `type`, so it may be anything
          help: declare it in the type, with a kind that fits
    "#]],
    );
    check_property(
        r#"{"type": "string", "writeOnly": true}"#,
        expect![[r#"
        m.json:1:43: note: the property `p` is not carried over: it is write-only, so no twin would ever have a value
          help: declare an action in the type, if it is to be set
    "#]],
    );
    check_property(
        r#"{"type": "number", "unit": "bananas", "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"double","unit":"bananas"}
        m.json:2:28: note: the unit `bananas` of `p` is not known, and is kept as it is
          help: write a UCUM code, such as Cel, kW.h or % (see ucum.org)
    "#]],
    );
    check_property(
        r#"{"type": "number", "unit": "two bananas", "readOnly": true}"#,
        expect![[r#"
        properties.p: {"type":"double"}
        m.json:2:28: note: the unit `two bananas` of `p` is not carried over: it is no UCUM code
          help: write a UCUM code, such as Cel, kW.h or % (see ucum.org)
    "#]],
    );
    check_property(
        r#"{"type": "boolean", "forms": [{"href": "/p"}], "om2:thing": 1}"#,
        expect![[r#"
        properties.p: {"type":"boolean"}
        m.json:1:43: note: writing to properties is not carried over: `p`
          help: declare an action in the type for what is to be set
        m.json:2:21: note: how a Thing is spoken to is not carried over: `forms`
          help: the type's streams and the job's connections say it: topics, pointers, brokers
        m.json:2:48: note: annotations are not carried over: `om2:thing`
          help: they change nothing about the values of twins
    "#]],
    );
    check_property(
        r#"17"#,
        expect![[r#"
        m.json:1:43: note: writing to properties is not carried over: `p`
          help: declare an action in the type for what is to be set
        m.json:2:1: note: the property `p` is not carried over: its schema is not a map
          help: declare it in the type, with a kind that fits
    "#]],
    );
}
