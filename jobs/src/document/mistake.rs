//! What is said of a value that is not what its settings struct wants: what is wrong, and what to
//! write instead, from what serde tells.

use std::fmt::Display;

use operators::problem::suggestion;
use serde::de::{self, Expected, Unexpected};

use super::Span;

/// A value that is not what its settings struct wants.
#[derive(Debug)]
pub struct ValueError {
    /// Keys and indexes down to it.
    pub path: Vec<String>,
    /// Where it stands; `None` where the caller knows better.
    pub span: Option<Span>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// What the design has a place for and this version does not do.
const LATER: &str = "actuate";

/// What is an option of the client library in a Kafka connection, and a key elsewhere.
const OF_KAFKA: [(&str, &str); 6] = [
    ("url", "write brokers: [\"localhost:9092\"]"),
    ("client_id", "write `group`, the name that tools for lag show"),
    ("user", "write it as an option: options: {sasl.username: me}"),
    ("password", "write it as an option: options: {sasl.password: \"${PASSWORD}\"}"),
    ("ca", "write it as an option: options: {ssl.ca.location: certs/ca.pem}"),
    ("compression", "write it as an option: options: {compression.type: zstd}"),
];

/// What to say of a key that is not known.
pub(crate) fn unknown(what: &str, key: &str, known: &[&str]) -> (String, String) {
    let of_kafka = OF_KAFKA.iter().find(|(word, _)| *word == key && known.contains(&"brokers"));
    if let Some((_, help)) = of_kafka {
        return (format!("unknown {what} `{key}`"), (*help).into());
    }
    if key == LATER {
        let message = format!("`{key}` comes later; this version does not do it");
        return (message, format!("leave `{key}` out for now"));
    }
    (format!("unknown {what} `{key}`"), suggestion(key, known.iter().copied()))
}

impl ValueError {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: Vec::new(), span: None, message: message.into(), help: help.into() }
    }

    /// One level out: remembers the key, and the place where none is known yet.
    pub(super) fn under(mut self, key: &str, span: Span) -> Self {
        self.path.insert(0, key.to_owned());
        self.span.get_or_insert(span);
        self
    }
}

impl Display for ValueError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for ValueError {}

/// What to write where something else was expected.
fn advice(expected: &str) -> String {
    match expected {
        "a duration" => "write a number with its unit, such as 250ms, 60s or 5m".into(),
        "parsable string" | "an integer or string" => {
            "write a size with its unit, such as 128MB or 64KiB".into()
        }
        "a boolean" => "write true or false".into(),
        "a sequence" => "write a list: [a, b]".into(),
        "a map" => "write keys and values: {key: value}".into(),
        other if other.starts_with("struct ") => "write keys and values: {key: value}".into(),
        other => format!("write {other}"),
    }
}

fn name_of(expected: &str) -> String {
    match expected {
        "parsable string" | "an integer or string" => "a size".into(),
        "f64" => "a number".into(),
        "a string" => "a text".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number".into(),
        "i8" | "i16" | "i32" | "i64" => "an integer".into(),
        other if other.starts_with("struct ") || other.starts_with("enum ") => "a map".into(),
        other => other.into(),
    }
}

pub(super) fn shown(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Bool(flag) => format!("`{flag}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Float(number) => format!("`{number}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Map | Unexpected::StructVariant => "a map".into(),
        Unexpected::Seq => "a list".into(),
        other => other.to_string(),
    }
}

impl de::Error for ValueError {
    /// Components write `what is wrong; what to write instead`, or just the latter.
    fn custom<T: Display>(message: T) -> Self {
        let text = message.to_string();
        if text.starts_with("write ") {
            return Self::new("the value has none of the forms that it may have", text);
        }
        match text.split_once("; ") {
            Some((message, help)) => Self::new(message, help),
            None => Self::new(text, "see examples/first.yaml"),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let name = name_of(&expected);
        let help = if name == expected { advice(&expected) } else { advice(&name) };
        Self::new(format!("{} is not {name}", shown(unexpected)), help)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        Self::new(format!("{} is not {}", shown(unexpected), name_of(&expected)), advice(&expected))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("the list has {length} elements"), format!("write {expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let (message, help) = unknown("word", variant, expected);
        Self::new(message, help)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (message, help) = unknown("key", field, expected);
        Self::new(message, help)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"), format!("add `{field}: ...`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` stands here twice"), "remove one")
    }
}
