//! The model of a twin type: its properties, events, attributes, relationships and actions.
//!
//! The settings are what a user writes under `types.<name>`; [`Model`] is the same, compiled: names
//! are numbers (their index), so that an event carries no text that every event would repeat.

mod settings;

pub use settings::{
    ActionSettings, EventSettings, KindName, ModelSettings, PropertySettings, RelationshipFrom,
    RelationshipSettings,
};

use crate::problem::{Problem, suggestion};

/// Most properties of a type (rule 8.2).
pub const PROPERTIES_MAX: usize = 1_024;
/// Most streams of a type (rule 8.2).
pub const STREAMS_MAX: usize = 16;
/// Most elements of an array (rule 8.2), unless a property sets `length_max` lower.
pub const ARRAY_ELEMENTS_MAX: usize = 4_096;

/// Kind of a property, compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// See [`KindName::Double`].
    Double,
    /// See [`KindName::Integer`].
    Integer,
    /// See [`KindName::Boolean`].
    Boolean,
    /// See [`KindName::String`].
    String,
    /// The words, in their order.
    Enum(Vec<String>),
    /// Kind of the elements, and how many there may be.
    Array {
        /// Kind of the elements; a scalar kind.
        items: KindName,
        /// Most elements.
        length_max: usize,
    },
    /// See [`KindName::Object`].
    Object,
}

/// A property, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name in listeners and archive.
    pub name: String,
    /// Kind of its values.
    pub kind: Kind,
    /// UCUM code of its unit.
    pub unit: Option<String>,
    /// Least and greatest value of a number.
    pub range: Option<[f64; 2]>,
}

/// A value of a property, wherever it stands: read in place, never copied to look at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A finite number.
    Double(f64),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// Index of the word in its enum.
    Enum(u16),
    /// Text.
    Text(&'a str),
    /// An array or object, as compact JSON.
    Json(&'a str),
}

impl Value<'_> {
    /// The number that functions compute with; `None` for text and structures.
    pub fn as_number(self) -> Option<f64> {
        match self {
            Value::Double(number) => Some(number),
            Value::Integer(number) => Some(number as f64),
            Value::Boolean(flag) => Some(f64::from(u8::from(flag))),
            Value::Enum(_) | Value::Text(_) | Value::Json(_) => None,
        }
    }
}

/// The model of a type, compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Properties; their index is their number everywhere.
    pub properties: Vec<Property>,
    /// Names of events; their index is their number everywhere.
    pub events: Vec<String>,
    /// Names and kinds of attributes, which the roster tells.
    pub attributes: Vec<(String, KindName)>,
    /// Relationships that the roster tells, behind the attributes of a row.
    pub relationships: Vec<Relationship>,
    /// Relationships that are values of properties.
    pub links: Vec<Link>,
}

/// A relationship, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Relationship {
    /// Its name.
    pub name: String,
    /// The type, or kind of thing, at the other end.
    pub to: String,
    /// The roster's column with the id at the other end.
    pub column: String,
}

/// A relationship whose other end a property names, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The type, or kind of thing, at the other end.
    pub to: String,
    /// The property.
    pub property: u16,
}

impl Model {
    /// The number of a property.
    pub fn property(&self, name: &str) -> Option<u16> {
        let index = self.properties.iter().position(|one| one.name == name)?;
        Some(index as u16)
    }

    /// The number of an event.
    pub fn event(&self, name: &str) -> Option<u16> {
        let index = self.events.iter().position(|one| one == name)?;
        Some(index as u16)
    }

    /// The number of a property that a setting names, or the problem with what there is.
    pub fn require_property(&self, name: &str) -> Result<u16, Problem> {
        self.property(name).ok_or_else(|| {
            let known = self.properties.iter().map(|one| one.name.as_str());
            Problem::new(format!("there is no property `{name}`"), suggestion(name, known))
        })
    }

    /// The number of an event that a setting names, or the problem with what there is.
    pub fn require_event(&self, name: &str) -> Result<u16, Problem> {
        self.event(name).ok_or_else(|| {
            let known = self.events.iter().map(String::as_str);
            Problem::new(format!("there is no event `{name}`"), suggestion(name, known))
        })
    }

    /// The number of a property of kind string or enum.
    fn require_text(&self, name: &str) -> Result<u16, Problem> {
        let index = self.require_property(name)?;
        match self.properties[usize::from(index)].kind {
            Kind::String | Kind::Enum(_) => Ok(index),
            _ => Err(Problem::new(
                format!("the property `{name}` is no text, as ids are"),
                "name a property of type string or enum",
            )),
        }
    }

    /// The number of a property of kind double, integer or boolean.
    pub fn require_number(&self, name: &str) -> Result<u16, Problem> {
        let index = self.require_property(name)?;
        match self.properties[usize::from(index)].kind {
            Kind::Double | Kind::Integer | Kind::Boolean => Ok(index),
            _ => Err(Problem::new(
                format!("the property `{name}` is no number"),
                "name a property of type double, integer or boolean",
            )),
        }
    }
}

/// Compiles a model, or lists every mistake in it.
pub fn compile(settings: &ModelSettings) -> Result<Model, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut properties = Vec::with_capacity(settings.properties.len());
    if settings.properties.len() > PROPERTIES_MAX {
        problems.push(
            Problem::new(
                format!("{} properties, at most {PROPERTIES_MAX}", settings.properties.len()),
                "split the type in two, or map what belongs together to one property of type object",
            )
            .under("properties"),
        );
    }
    for (name, property) in &settings.properties {
        let checked = check_name(name).and_then(|()| compile_property(name, property));
        match checked {
            Ok(property) => properties.push(property),
            Err(problem) => problems.push(problem.under(name).under("properties")),
        }
    }
    for name in settings.events.keys() {
        if let Err(problem) = check_name(name) {
            problems.push(problem.under(name).under("events"));
        } else if settings.properties.contains_key(name) {
            problems.push(
                Problem::new(
                    format!("`{name}` is the name of a property as well"),
                    "give the event a name of its own",
                )
                .under(name)
                .under("events"),
            );
        }
    }
    let others = [
        ("attributes", settings.attributes.keys().collect::<Vec<_>>()),
        ("relationships", settings.relationships.keys().collect()),
        ("actions", settings.actions.keys().collect()),
    ];
    for (group, names) in others {
        for name in names {
            if let Err(problem) = check_name(name) {
                problems.push(problem.under(name).under(group));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut model = Model {
        properties,
        events: settings.events.keys().cloned().collect(),
        attributes: settings.attributes.iter().map(|(name, kind)| (name.clone(), *kind)).collect(),
        ..Model::default()
    };
    for (name, RelationshipSettings { to, from, .. }) in &settings.relationships {
        let (name, to) = (name.clone(), to.clone());
        match from {
            Some(RelationshipFrom::Roster(column)) => {
                model.relationships.push(Relationship { name, to, column: column.clone() });
            }
            Some(RelationshipFrom::Property(property)) => match model.require_text(property) {
                Ok(property) => model.links.push(Link { name, to, property }),
                Err(problem) => {
                    problems.push(problem.under("property").under("from").under(&name).under("relationships"))
                }
            },
            None => {}
        }
    }
    if problems.is_empty() { Ok(model) } else { Err(problems) }
}

/// Names become columns and JSON keys; a letter or `_` first, then letters, digits, `_`, `-`, `.`.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let rest = chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if first && rest && name.len() <= 128 {
        return Ok(());
    }
    Err(Problem::new(
        format!("`{name}` is no name"),
        "begin with a letter or `_`, go on with letters, digits, `_`, `-` or `.`, up to 128 bytes",
    ))
}

fn compile_property(name: &str, settings: &PropertySettings) -> Result<Property, Problem> {
    if let Some(unit) = &settings.unit {
        check_unit(unit).map_err(|problem| problem.under("unit"))?;
    }
    let only = |key: &str, present: bool, kind: &str| match present {
        true => Err(Problem::new(
            format!("`{key}` belongs to the type {kind}"),
            format!("leave `{key}` out, or change the type"),
        )
        .under(key)),
        false => Ok(()),
    };
    let is_number = matches!(settings.kind, KindName::Double | KindName::Integer);
    let is_array = settings.kind == KindName::Array;
    only("range", settings.range.is_some() && !is_number, "double or integer")?;
    only("values", settings.values.is_some() && settings.kind != KindName::Enum, "enum")?;
    only("items", settings.items.is_some() && !is_array, "array")?;
    only("length_max", settings.length_max.is_some() && !is_array, "array")?;
    if let Some([least, greatest]) = settings.range
        && (least.is_nan() || greatest.is_nan() || least >= greatest)
    {
        return Err(
            Problem::new("the range is empty", "write the lesser value first: [-40, 200]").under("range")
        );
    }
    Ok(Property {
        name: name.to_owned(),
        kind: compile_kind(settings)?,
        unit: settings.unit.clone(),
        range: settings.range,
    })
}

fn compile_kind(settings: &PropertySettings) -> Result<Kind, Problem> {
    Ok(match settings.kind {
        KindName::Double => Kind::Double,
        KindName::Integer => Kind::Integer,
        KindName::Boolean => Kind::Boolean,
        KindName::String => Kind::String,
        KindName::Object => Kind::Object,
        KindName::Enum => Kind::Enum(compile_words(settings.values.as_deref().unwrap_or(&[]))?),
        KindName::Array => Kind::Array {
            items: match settings.items {
                Some(KindName::Double | KindName::Integer | KindName::Boolean | KindName::String) => {
                    settings.items.unwrap_or(KindName::Double)
                }
                None => {
                    return Err(Problem::new(
                        "an array says of what",
                        "add `items: double` (or integer, boolean, string)",
                    ));
                }
                Some(_) => {
                    return Err(Problem::new(
                        "an array holds scalars",
                        "write items: double, integer, boolean or string; for more, use type object",
                    )
                    .under("items"));
                }
            },
            length_max: match settings.length_max.unwrap_or(ARRAY_ELEMENTS_MAX) {
                length @ 1..=ARRAY_ELEMENTS_MAX => length,
                _ => {
                    return Err(Problem::new(
                        format!("an array has 1 to {ARRAY_ELEMENTS_MAX} elements"),
                        format!("write a length_max of at most {ARRAY_ELEMENTS_MAX}"),
                    )
                    .under("length_max"));
                }
            },
        },
    })
}

fn compile_words(words: &[String]) -> Result<Vec<String>, Problem> {
    if words.is_empty() || words.len() > usize::from(u16::MAX) {
        return Err(Problem::new("an enum lists its words", "add `values: [idle, run, fault]`"));
    }
    for (index, word) in words.iter().enumerate() {
        if words[..index].contains(word) {
            return Err(Problem::new(format!("`{word}` stands in the list twice"), "list each word once")
                .under(index.to_string())
                .under("values"));
        }
    }
    Ok(words.to_vec())
}

/// UCUM codes are printable ASCII without spaces; the usual slips get the code that was meant.
pub fn check_unit(unit: &str) -> Result<(), Problem> {
    const MEANT: [(&str, &str); 9] = [
        ("°C", "Cel"),
        ("C°", "Cel"),
        ("celsius", "Cel"),
        ("°F", "[degF]"),
        ("fahrenheit", "[degF]"),
        ("kWh", "kW.h"),
        ("µs", "us"),
        ("Ω", "Ohm"),
        ("rpm", "{rpm}"),
    ];
    if let Some((_, code)) = MEANT.iter().find(|(slip, _)| slip.eq_ignore_ascii_case(unit)) {
        return Err(Problem::new(format!("`{unit}` is no UCUM code"), format!("write unit: \"{code}\"")));
    }
    let balanced = unit.matches('[').count() == unit.matches(']').count()
        && unit.matches('{').count() == unit.matches('}').count();
    if unit.is_empty() || !unit.bytes().all(|byte| byte.is_ascii_graphic()) || !balanced {
        return Err(Problem::new(
            format!("`{unit}` is no UCUM code"),
            "write a UCUM code such as Cel, kW.h, m/s, [degF], or % (see ucum.org)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
