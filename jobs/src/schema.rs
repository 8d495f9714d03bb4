//! The JSON Schema of the job file, which editors complete and check by (`twinloom schema`).
//!
//! ```text
//!  settings structs, with their docs ─ derive(JsonSchema) ─► schema ─ as a YAML file reads it ─► text
//! ```
//! It is made of the structs that the file is read into, so it has their keys, their kinds and their words. Three
//! things are said here, as serde does not know them of a struct: the forms of texts that have one (`format` of a
//! field names it), that a choice is made by a key, and how a function is put together, which has a reader of its own.

use std::borrow::Cow;

use connectors::function::http::HttpSettings;
use connectors::function::python::PythonSettings;
use connectors::function::wasm::WasmSettings;
use operators::functions::{CallSettings, FunctionSettings};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::definition::Definition;
use crate::definition::functions::FunctionDefinition;

/// Forms of texts, by the words that fields name them by, and the expressions that they match.
const FORMS: [(&str, &str); 6] = [
    // What each unit may be called is left to who reads it.
    ("time", r"(\d+(\.\d+)?\s*[a-zA-Zµ]+\s*)+|0"),
    ("size", r"\d+(\.\d+)?\s*([kKmMgGtTpP]i?)?[bB]?"),
    ("rate", r"none|\d+(\.\d+)?([eE]-?\d+)?\s*/\s*(s|m|min|h|d)"),
    ("count a second", r"\d+(\.\d+)?\s*/s"),
    ("size a second", r"\d+(\.\d+)?\s*([kKmMgGtTpP]i?)?[bB]?\s*/s"),
    ("roll", r"\s*\d[^/]*[a-zA-Z]\s*(/\s*\d[^/]*[a-zA-Z]\s*)?"),
];

/// The schema of a job file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(as_yaml_reads_it));
    settings.into_generator().into_root_schema_for::<Definition>().to_value()
}

/// What serde says of a struct, as it is of a file that people write.
fn as_yaml_reads_it(schema: &mut Schema) {
    choose_by_key(schema);
    let Some(object) = schema.as_object_mut() else { return };
    let form = object.get("format").and_then(Value::as_str).map(str::to_owned);
    let known = FORMS.iter().find(|(word, _)| Some(*word) == form.as_deref());
    if form.is_some() {
        // Those of numbers say how many bits they have.
        object.remove("format");
    }
    let is_bound = ["enum", "const", "pattern"].iter().any(|key| object.contains_key(*key));
    if let Some((word, pattern)) = known {
        object.insert("pattern".into(), Value::from(format!("^({pattern})$")));
        if *word == "size" {
            allow(object, &["integer"]);
            // It would be rounded, as `976.6 KiB` for 1MB.
            object.remove("default");
        }
        if object.get("default").is_some_and(|default| !default.is_string()) {
            object.remove("default");
        }
    } else if !is_bound && may_be(object, "string") {
        // A plain scalar has no type of its own: where text is wanted it is one.
        allow(object, &["number", "boolean"]);
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = without_links(description);
    }
}

/// `[`X`]` of the docs as `X`, on one line.
fn without_links(description: &str) -> String {
    let text = description.replace("[`", "`").replace("`]", "`");
    let paragraphs = text.split("\n\n").map(|lines| lines.split('\n').collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn may_be(object: &Map<String, Value>, kind: &str) -> bool {
    match object.get("type") {
        Some(Value::String(word)) => word == kind,
        Some(Value::Array(words)) => words.iter().any(|word| word == kind),
        _ => false,
    }
}

fn allow(object: &mut Map<String, Value>, kinds: &[&str]) {
    let before = match object.get("type") {
        Some(Value::Array(words)) => words.clone(),
        Some(word) => vec![word.clone()],
        None => return,
    };
    let kinds = before.into_iter().chain(kinds.iter().map(|kind| Value::from(*kind)));
    object.insert("type".into(), kinds.collect());
}

/// Choices that are each a map with one key are one map, of which one key is taken: an editor then offers the keys, and
/// what is wrong below one of them is told as that.
fn choose_by_key(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let Some(keys) = choices.iter().map(only_key).collect::<Option<Vec<_>>>() else { return };
    let keys: Map<String, Value> = keys.into_iter().collect();
    schema.remove("oneOf");
    for (key, value) in [
        ("type", json!("object")),
        ("properties", Value::Object(keys)),
        ("additionalProperties", json!(false)),
        ("minProperties", json!(1)),
        ("maxProperties", json!(1)),
    ] {
        schema.insert(key.into(), value);
    }
}

/// The key of a choice that is a map with one, and what stands under it.
fn only_key(choice: &Value) -> Option<(String, Value)> {
    let properties = choice["properties"].as_object().filter(|properties| properties.len() == 1)?;
    let (key, value) = properties.iter().next()?;
    let mut value = value.clone();
    if let (Some(object), Some(description)) = (value.as_object_mut(), choice.get("description")) {
        object.insert("description".into(), description.clone());
    }
    Some((key.clone(), value))
}

/// One key says what kind it is, and beside it stands what is of all kinds (see `definition::functions`).
impl JsonSchema for FunctionDefinition {
    fn schema_name() -> Cow<'static, str> {
        "Function".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inside = FunctionSettings::json_schema(generator);
        let choices = inside.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let mut kinds: Map<String, Value> = choices.filter_map(only_key).collect();
        kinds.insert("http".into(), generator.subschema_for::<HttpSettings>().to_value());
        kinds.insert("python".into(), sourced::<PythonSettings>(generator));
        kinds.insert("wasm".into(), sourced::<WasmSettings>(generator));
        let one: Vec<Value> = kinds.keys().map(|kind| json!({ "required": [kind] })).collect();

        let mut schema = CallSettings::json_schema(generator);
        let function = generator.subschema_for::<FunctionDefinition>();
        let mut own = kinds;
        own.insert("version".into(), json!({ "type": "integer", "minimum": 1, "description":
            "Which of its versions it is; the job server writes it where a function was put while its job runs." }));
        own.insert("trial".into(), json!({ "type": "object", "required": ["percent", "function"],
            "description": "A version that runs beside it, for so many percent of the twins; the job server writes it.",
            "properties": { "percent": { "type": "number", "exclusiveMinimum": 0, "maximum": 100 }, "function": function } }));
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            own.append(properties);
            *properties = own;
        }
        schema.insert("oneOf".into(), Value::Array(one));
        schema.insert(
            "description".into(),
            "What it does, or where it is called, and what stands beside that.".into(),
        );
        schema
    }
}

/// Settings among which a source stands, or the file that has it.
fn sourced<S: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = S::json_schema(generator);
    let file = json!({ "type": "string", "description": "The file that has its source, from the folder of the job file on." });
    let code =
        json!({ "type": "string", "description": "The source itself; base64 of it where it is no text." });
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("file".into(), file);
        properties.insert("code".into(), code);
    }
    let one = json_schema!({ "oneOf": [{ "required": ["file"] }, { "required": ["code"] }] });
    schema.insert("oneOf".into(), one.get("oneOf").cloned().unwrap_or_default());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands at a pointer, behind references.
    fn at<'s>(schema: &'s Value, pointer: &str) -> &'s Value {
        pointer.split('/').filter(|part| !part.is_empty()).fold(schema, |found, part| {
            let below = &found[part];
            match below["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
                Some(reference) => schema.pointer(reference).expect("references lead somewhere"),
                None => below,
            }
        })
    }

    #[test]
    fn descriptions_are_the_docs_of_the_structs() {
        let schema = schema();
        for (pointer, description) in [
            ("properties/job", "Its name: letters, digits, `-`, `_`, `.`, up to 64 bytes."),
            (
                "properties/connections/additionalProperties/properties/mqtt/properties/qos",
                "Quality of service: 0 at most once, 1 at least once, 2 exactly once.",
            ),
            ("properties/limits/properties/twins", "Most twins."),
            (
                "properties/types/additionalProperties/properties/augmentation/additionalProperties/properties/linear/properties/factor",
                "What it is multiplied by.",
            ),
        ] {
            assert_eq!(at(&schema, pointer)["description"], description, "{pointer}");
        }
    }

    #[test]
    fn what_the_file_says_of_itself_is_in_the_schema() {
        let schema = schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["required"], json!(["job", "connections", "types"]));
        assert_eq!(schema["additionalProperties"], false);
        let window = "properties/types/additionalProperties/properties/entanglement/properties/window";
        assert_eq!(at(&schema, window)["default"], "1m");
        assert!(at(&schema, window)["pattern"].is_string());
        // References lead somewhere, and what fields call their forms is understood.
        let text = schema.to_string();
        assert!(!text.contains("\"format\":\""), "{text}");
    }

    #[test]
    fn a_choice_is_a_map_with_one_key() {
        let mut schema = json_schema!({ "oneOf": [
            { "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "description": "one" },
            { "type": "object", "properties": { "b": { "type": "null" } }, "required": ["b"] },
        ] });
        choose_by_key(&mut schema);
        let expected = json!({ "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
            "properties": { "a": { "type": "string", "description": "one" }, "b": { "type": "null" } } });
        assert_eq!(schema.to_value(), expected);
    }
}
