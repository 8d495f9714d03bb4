//! What a user writes under `types.<name>` of a type's properties, events, attributes, relationships and actions.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of value, by their names in a job file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// A 64-bit floating-point number; NaN and infinities are no values.
    Double,
    /// A 64-bit integer; a number without a fraction is one.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// One of a list of words.
    Enum,
    /// A list of values of one scalar kind.
    Array,
    /// A JSON object, kept as it is.
    Object,
}

impl KindName {
    /// The word in a job file.
    pub fn word(self) -> &'static str {
        match self {
            KindName::Double => "double",
            KindName::Integer => "integer",
            KindName::Boolean => "boolean",
            KindName::String => "string",
            KindName::Enum => "enum",
            KindName::Array => "array",
            KindName::Object => "object",
        }
    }
}

/// A property of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PropertySettings {
    /// Kind of its values.
    #[serde(rename = "type")]
    pub kind: KindName,
    /// Unit as a UCUM code: `Cel`, `kW.h`, `[degF]`. For people and listeners; nothing is converted.
    #[serde(default)]
    pub unit: Option<String>,
    /// Least and greatest value of a number; outside it a value is refused.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// The words of an `enum`.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// Kind of the elements of an `array`.
    #[serde(default)]
    pub items: Option<KindName>,
    /// Most elements of an `array` (default 4,096).
    #[serde(default)]
    pub length_max: Option<usize>,
    /// What it means, for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// An event of a type: something that happened, with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSettings {
    /// Kind of its value.
    #[serde(rename = "type")]
    pub kind: KindName,
    /// What it means, for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// Where the other end of a relationship is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RelationshipFrom {
    /// A column of the roster.
    Roster(String),
    /// A property whose value it is, be it mapped by a stream or written by a function.
    Property(String),
}

/// A relationship to other twins, by their ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelationshipSettings {
    /// The type, or kind of thing, at the other end.
    pub to: String,
    /// Where the id at the other end is from.
    #[serde(default)]
    pub from: Option<RelationshipFrom>,
    /// What it means, for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// An action that the physical twin can carry out. Declared only, for now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionSettings {
    /// What it takes.
    #[serde(default)]
    pub input: Option<PropertySettings>,
    /// What it means, for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// The model of a type, as a user writes it.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(default)]
pub struct ModelSettings {
    /// Static facts of a twin, by name.
    pub attributes: IndexMap<String, KindName>,
    /// Properties by name.
    pub properties: IndexMap<String, PropertySettings>,
    /// Events by name.
    pub events: IndexMap<String, EventSettings>,
    /// Relationships by name.
    pub relationships: IndexMap<String, RelationshipSettings>,
    /// Actions by name.
    pub actions: IndexMap<String, ActionSettings>,
}
