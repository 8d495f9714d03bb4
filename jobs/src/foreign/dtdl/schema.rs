//! Schemas of DTDL: what of one a property's settings can say.

use operators::model::{KindName, PropertySettings};

use super::super::draft::{Draft, Left, Subject, plain};
use super::super::json::{Json, Value};
use super::super::units;
use super::library::{Library, is_a, term};

/// What to do about a property that has no kind here.
const DECLARE: &str = "declare it in the type, with a kind that fits";
/// Schemas by their names, and what they are here. Dates and times are texts, GeoJSON is an object.
const NAMES: [(&str, KindName); 16] = [
    ("boolean", KindName::Boolean),
    ("date", KindName::String),
    ("dateTime", KindName::String),
    ("double", KindName::Double),
    ("duration", KindName::String),
    ("float", KindName::Double),
    ("integer", KindName::Integer),
    ("long", KindName::Integer),
    ("string", KindName::String),
    ("time", KindName::String),
    ("lineString", KindName::Object),
    ("multiLineString", KindName::Object),
    ("multiPoint", KindName::Object),
    ("multiPolygon", KindName::Object),
    ("point", KindName::Object),
    ("polygon", KindName::Object),
];

/// The settings of what an element says with `schema` and `unit`.
pub(super) fn settings(
    element: &Json,
    of: &Subject,
    library: &Library<'_>,
    draft: &mut Draft,
) -> Result<PropertySettings, Left> {
    let Some(schema) = element.get("schema") else {
        return Err(Left::new(element.place, "it has no schema", "add \"schema\": \"double\""));
    };
    let mut settings = of_schema(schema, of, library, draft)?;
    if let Some(unit) = element.get("unit") {
        let name = term(unit.text().unwrap_or_default());
        settings.unit = units::of_quantity(name).map(str::to_owned);
        if settings.unit.is_none() {
            let why = match units::has_no_code(name) {
                true => "UCUM has no code for it",
                false => "it is none of quantitativeTypes",
            };
            let message =
                format!("the unit `{name}` of the {} `{}` is not carried over: {why}", of.what, of.name);
            draft.note(
                of,
                unit.place,
                message,
                "declare the property in the type, with a UCUM code as its unit",
            );
        }
    }
    Ok(settings)
}

fn of_schema(
    schema: &Json,
    of: &Subject,
    library: &Library<'_>,
    draft: &mut Draft,
) -> Result<PropertySettings, Left> {
    if let Value::Text(text) = &schema.value {
        let name = term(text);
        if let Some((_, kind)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(plain(*kind));
        }
        return match library.schema(text) {
            Some(found) => of_complex(&found, of, library, draft),
            None => {
                let known: Vec<&str> = NAMES.iter().take(10).map(|(name, _)| *name).collect();
                let why = format!("there is no schema `{text}`");
                let help =
                    format!("write one of {}, or add it to `schemas` of the interface", known.join(", "));
                Err(Left::new(schema.place, why, help))
            }
        };
    }
    of_complex(schema, of, library, draft)
}

fn of_complex(
    schema: &Json,
    of: &Subject,
    library: &Library<'_>,
    draft: &mut Draft,
) -> Result<PropertySettings, Left> {
    if is_a(schema, "Enum") {
        let (words, sent) = words(schema)?;
        if let Some(sent) = sent {
            let place = schema.member("enumValues").map_or(schema.place, |one| one.key_place);
            draft.needs_map(of, place, sent.into_iter().zip(&words));
        }
        return Ok(PropertySettings { values: Some(words), ..plain(KindName::Enum) });
    }
    if is_a(schema, "Array") {
        let Some(element) = schema.get("elementSchema") else {
            return Err(Left::new(
                schema.place,
                "the array does not say of what",
                "add \"elementSchema\": \"double\"",
            ));
        };
        let items = of_element(element, library)?;
        return Ok(PropertySettings { items: Some(items), ..plain(KindName::Array) });
    }
    for (class, parts) in [("Object", "fields"), ("Map", "mapValue")] {
        if is_a(schema, class) {
            if let Some(parts) = schema.member(parts) {
                let message =
                    format!("what `{}` says of the {} `{}` is not checked", parts.key, of.what, of.name);
                draft.note(
                    of,
                    parts.key_place,
                    message,
                    "an object is kept as it is, whatever its fields are",
                );
            }
            return Ok(plain(KindName::Object));
        }
    }
    let place = schema.get("@type").map_or(schema.place, |one| one.place);
    Err(Left::new(place, "its schema is no Array, Enum, Map or Object", DECLARE))
}

/// The kind of the elements of an array.
fn of_element(element: &Json, library: &Library<'_>) -> Result<KindName, Left> {
    let none = || Left::new(element.place, "an array holds numbers, booleans or texts", DECLARE);
    let found;
    let complex = match &element.value {
        Value::Text(text) => {
            let name = term(text);
            match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, KindName::Object)) => return Err(none()),
                Some((_, kind)) => return Ok(*kind),
                None => found = library.schema(text).ok_or_else(none)?,
            }
            &*found
        }
        _ => element,
    };
    match (is_a(complex, "Enum"), complex.text_of("valueSchema").map(term)) {
        (true, Some("string")) => Ok(KindName::String),
        (true, Some("integer")) => Ok(KindName::Integer),
        _ => Err(none()),
    }
}

/// The words of an enum; where it is sent as numbers, these too. Where it is sent as texts, they are the words.
type Words = (Vec<String>, Option<Vec<String>>);

fn words(schema: &Json) -> Result<Words, Left> {
    let (mut words, mut sent) = (Vec::new(), Vec::new());
    for one in schema.items_of("enumValues") {
        let value = one.get("enumValue").map(|value| &value.value);
        match (value, one.text_of("name")) {
            (Some(Value::Text(text)), _) => words.push(text.clone()),
            (Some(Value::Number(number)), Some(name)) => {
                words.push(name.to_owned());
                sent.push(number.to_string());
            }
            _ => return Err(Left::new(one.place, "its enum has a value without name or number", DECLARE)),
        }
    }
    let is_mixed = !sent.is_empty() && sent.len() < words.len();
    let is_doubled = words.iter().enumerate().any(|(index, word)| words[..index].contains(word));
    if words.is_empty() || is_mixed || is_doubled {
        let place = schema.member("enumValues").map_or(schema.place, |one| one.key_place);
        return Err(Left::new(
            place,
            "its enum has no words, the same twice, or texts beside numbers",
            DECLARE,
        ));
    }
    Ok((words, (!sent.is_empty()).then_some(sent)))
}
