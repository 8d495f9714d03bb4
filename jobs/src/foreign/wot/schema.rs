//! Data schemas of Thing Models, which are a part of JSON Schema: what of one a property's settings can say.

use operators::model::{self, ARRAY_ELEMENTS_MAX, KindName, PropertySettings};

use super::super::draft::{Draft, Left, Subject, plain};
use super::super::json::{Json, Value};
use super::super::units;
use super::shown_of;

/// Keys that are read, or say nothing of values.
const READ: [&str; 19] = [
    "type",
    "title",
    "titles",
    "description",
    "descriptions",
    "unit",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "items",
    "maxItems",
    "readOnly",
    "writeOnly",
    "observable",
    "forms",
    "uriVariables",
    "enum",
    "oneOf",
];
/// Keys that demand something of values which is not checked here.
const UNCHECKED: [&str; 11] = [
    "const",
    "format",
    "multipleOf",
    "minItems",
    "uniqueItems",
    "properties",
    "required",
    "minLength",
    "maxLength",
    "pattern",
    "contentEncoding",
];
/// What to do about a property that has no kind here.
const DECLARE: &str = "declare it in the type, with a kind that fits";

/// The settings of a property with such a schema.
pub(super) fn settings(schema: &Json, of: &Subject, draft: &mut Draft) -> Result<PropertySettings, Left> {
    if !schema.is_map() {
        return Err(Left::new(schema.place, "its schema is not a map", DECLARE));
    }
    let mut settings = match words(schema, of, draft) {
        Some(words) => PropertySettings { values: Some(words), ..plain(KindName::Enum) },
        None => match word_of_kind(schema)? {
            "boolean" => plain(KindName::Boolean),
            "string" => plain(KindName::String),
            "object" => plain(KindName::Object),
            "number" => plain(KindName::Double),
            "integer" => plain(KindName::Integer),
            "array" => array(schema, of, draft)?,
            "null" => return Err(Left::new(schema.place, "a value that is always null is none", DECLARE)),
            word => {
                let why = match is_placeholder(word) {
                    true => format!("its `type` is the placeholder {word}"),
                    false => format!("`{word}` is no type of a data schema"),
                };
                let place = schema.get("type").map_or(schema.place, |one| one.place);
                return Err(Left::new(place, why, help_of(word, DECLARE)));
            }
        },
    };
    if matches!(settings.kind, KindName::Double | KindName::Integer) {
        settings.range = range(schema, of, draft);
    }
    if let Some(unit) = schema.get("unit") {
        settings.unit = unit_of(unit, of, draft);
    }
    settings.description = shown_of(schema);
    leftovers(schema, &settings, of, draft);
    Ok(settings)
}

fn is_placeholder(text: &str) -> bool {
    text.contains("{{")
}

/// What to do about a text that may be a placeholder.
fn help_of(text: &str, otherwise: &str) -> String {
    match text.split_once("{{").and_then(|(_, rest)| rest.split_once("}}")) {
        Some((name, _)) => {
            format!("say what stands for it: model: {{wot: {{file: .., placeholders: {{{name}: ..}}}}}}")
        }
        None => otherwise.to_owned(),
    }
}

/// The type, or what else shows it.
fn word_of_kind(schema: &Json) -> Result<&str, Left> {
    let has = |keys: &[&str]| keys.iter().any(|key| schema.get(key).is_some());
    match schema.get("type") {
        Some(kind) => match &kind.value {
            Value::Text(word) => return Ok(word),
            // As JSON Schema has it, where one of them is `null`.
            Value::List(all) => {
                let words: Vec<&str> =
                    all.iter().filter_map(Json::text).filter(|word| *word != "null").collect();
                match words[..] {
                    [word] => return Ok(word),
                    _ => return Err(Left::new(kind.place, "it may be of several types", DECLARE)),
                }
            }
            _ => return Err(Left::new(kind.place, "its `type` is no word", DECLARE)),
        },
        None if has(&["properties", "required"]) => return Ok("object"),
        None if has(&["items", "minItems", "maxItems"]) => return Ok("array"),
        None if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) => {
            return Ok("number");
        }
        None if has(&["pattern", "minLength", "maxLength", "contentEncoding"]) => return Ok("string"),
        None => {}
    }
    let sample = schema.get("const").or_else(|| schema.items_of("enum").first());
    match sample.map(|sample| &sample.value) {
        Some(Value::Text(_)) => Ok("string"),
        Some(Value::Boolean(_)) => Ok("boolean"),
        Some(Value::Number(number)) if number.is_f64() => Ok("number"),
        Some(Value::Number(_)) => Ok("integer"),
        _ => Err(Left::new(schema.place, "it has no `type`, so it may be anything", DECLARE)),
    }
}

/// The words of an enum: texts of `enum`, or constants of `oneOf`, of which numbers have titles.
fn words(schema: &Json, of: &Subject, draft: &mut Draft) -> Option<Vec<String>> {
    let texts = |items: &mut dyn Iterator<Item = Option<String>>| -> Option<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        for word in items {
            let word = word?;
            if !words.contains(&word) {
                words.push(word);
            }
        }
        (!words.is_empty()).then_some(words)
    };
    let text = |json: &Json| json.text().map(str::to_owned);
    if let Some(words) = texts(&mut schema.items_of("enum").iter().map(text)) {
        return Some(words);
    }
    let choices = schema.items_of("oneOf");
    if let Some(words) = texts(&mut choices.iter().map(|one| one.get("const").and_then(text))) {
        return Some(words);
    }
    let words = texts(&mut choices.iter().map(|one| {
        one.get("const")?.number()?;
        one.text_of("title").map(str::to_owned)
    }))?;
    if words.len() < choices.len() {
        return None;
    }
    let sent = choices.iter().filter_map(|one| match &one.get("const")?.value {
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    let place = schema.member("oneOf").map_or(schema.place, |one| one.key_place);
    draft.needs_map(of, place, sent.zip(&words));
    Some(words)
}

fn array(schema: &Json, of: &Subject, draft: &mut Draft) -> Result<PropertySettings, Left> {
    let scalars = "an array holds numbers, booleans or texts, all of one kind";
    let mut kinds: Vec<KindName> = Vec::new();
    for item in schema.items_of("items") {
        let kind = match word_of_kind(item)? {
            "number" => KindName::Double,
            "integer" => KindName::Integer,
            "boolean" => KindName::Boolean,
            "string" => KindName::String,
            _ => return Err(Left::new(item.place, scalars, DECLARE)),
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        let bounded =
            ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "pattern", "unit"];
        for member in item.members().iter().filter(|one| bounded.contains(&one.key.as_str())) {
            let message = format!("`{}` of the elements of `{}` is not checked", member.key, of.name);
            draft.note(of, member.shown(), message, "elements have a kind only");
        }
    }
    let [kind] = kinds[..] else {
        let place = schema.member("items").map_or(schema.place, |one| one.key_place);
        return Err(Left::new(place, scalars, DECLARE));
    };
    let length = schema.get("maxItems").and_then(Json::number);
    let fits = |length: &f64| (1.0..=ARRAY_ELEMENTS_MAX as f64).contains(length);
    if let Some(member) = schema.member("maxItems").filter(|_| length.filter(fits).is_none()) {
        let message =
            format!("`maxItems` of `{}` is not kept: an array has 1 to {ARRAY_ELEMENTS_MAX}", of.name);
        let given = member.value.text().unwrap_or_default();
        draft.note(of, member.shown(), message, help_of(given, "longer ones are dead letters"));
    }
    let length_max = length.filter(fits).map(|length| length as usize);
    Ok(PropertySettings { items: Some(kind), length_max, ..plain(KindName::Array) })
}

/// Least and greatest value. One that is not said is what a number can be.
fn range(schema: &Json, of: &Subject, draft: &mut Draft) -> Option<[f64; 2]> {
    let is_integer = word_of_kind(schema).is_ok_and(|word| word == "integer");
    let mut bounds = [f64::MIN, f64::MAX];
    for (key, side, is_exclusive) in [
        ("minimum", 0, false),
        ("exclusiveMinimum", 0, true),
        ("maximum", 1, false),
        ("exclusiveMaximum", 1, true),
    ] {
        let Some(member) = schema.member(key) else { continue };
        let Some(number) = member.value.number() else {
            let given = member.value.text().unwrap_or_default();
            let message = format!("`{key}` of the {} `{}` is no number", of.what, of.name);
            draft.note(of, member.shown(), message, help_of(given, "write a number"));
            continue;
        };
        let step = if side == 0 { 1.0 } else { -1.0 };
        let bound = match is_exclusive {
            true if is_integer => (number * step).floor().mul_add(step, step),
            true => {
                let message = format!("the range of the {} `{}` includes {number}", of.what, of.name);
                draft.note(of, member.shown(), message, "a range has both its ends");
                number
            }
            false => number,
        };
        bounds[side] = if side == 0 { bounds[0].max(bound) } else { bounds[1].min(bound) };
    }
    // Of numbers in a list, the range is kept.
    let listed: Vec<f64> = schema.items_of("enum").iter().filter_map(Json::number).collect();
    if let Some(member) = schema.member("enum")
        && !listed.is_empty()
    {
        let message =
            format!("of the numbers that the {} `{}` may be, only the range is kept", of.what, of.name);
        draft.note(of, member.key_place, message, "declare it as an enum in the type, with words for them");
        bounds = [
            listed.iter().copied().fold(f64::INFINITY, f64::min).max(bounds[0]),
            listed.iter().copied().fold(f64::NEG_INFINITY, f64::max).min(bounds[1]),
        ];
    }
    if bounds == [f64::MIN, f64::MAX] {
        return None;
    }
    if bounds[0] >= bounds[1] {
        let message =
            format!("the range of the {} `{}` holds no two numbers, so it is left out", of.what, of.name);
        draft.note(of, of.place, message, "declare it in the type with a range: [-40, 200]");
        return None;
    }
    Some(bounds)
}

fn unit_of(unit: &Json, of: &Subject, draft: &mut Draft) -> Option<String> {
    let text = unit.text().unwrap_or_default();
    if let Some(code) = units::of_text(text) {
        if matches!(code.as_str(), "C" | "F") {
            let meant = if code == "C" { ("coulomb", "Cel") } else { ("farad", "[degF]") };
            let message = format!("the unit `{code}` of `{}` is {} as a UCUM code", of.name, meant.0);
            draft.note(of, unit.place, message, format!("if degrees are meant, write {}", meant.1));
        }
        return Some(code);
    }
    match model::check_unit(text) {
        Ok(()) if !is_placeholder(text) => {
            let message = format!("the unit `{text}` of `{}` is not known, and is kept as it is", of.name);
            draft.note(of, unit.place, message, "write a UCUM code, such as Cel, kW.h or % (see ucum.org)");
            Some(text.to_owned())
        }
        _ => {
            let message =
                format!("the unit `{text}` of `{}` is not carried over: it is no UCUM code", of.name);
            let help = help_of(text, "write a UCUM code, such as Cel, kW.h or % (see ucum.org)");
            draft.note(of, unit.place, message, help);
            None
        }
    }
}

/// What a schema demands or says beyond a property's settings.
fn leftovers(schema: &Json, settings: &PropertySettings, of: &Subject, draft: &mut Draft) {
    let mut unchecked = Vec::new();
    for member in schema.members() {
        let key = member.key.as_str();
        let is_choice = match key {
            "oneOf" => settings.kind != KindName::Enum,
            "enum" => !matches!(settings.kind, KindName::Enum | KindName::Double | KindName::Integer),
            _ => false,
        };
        if is_choice || UNCHECKED.contains(&key) {
            unchecked.push(member);
        } else if !READ.contains(&key) {
            super::annotation(draft, member);
        }
    }
    if let Some(first) = unchecked.first() {
        let keys: Vec<String> = unchecked.iter().map(|member| format!("`{}`", member.key)).collect();
        let message = format!("of the {} `{}` this is not checked: {}", of.what, of.name, keys.join(", "));
        let help = match settings.kind {
            KindName::Object => "an object is kept as it is, whatever its fields are",
            _ => "a value of the kind is taken; where it must be more, a function can judge it",
        };
        draft.note(of, first.shown(), message, help);
    }
}
