//! Tree -> settings structs, through serde, with the place of the first mistake.
//!
//! A plain scalar has no type of its own: where a struct wants text, `0123` and `on` stay what they
//! are; where it wants a number or boolean, they must be one.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::mistake::{ValueError, shown};
use super::{Content, Entry, Node, Span};

/// Reads a value.
pub fn read<T: DeserializeOwned>(node: &Node) -> Result<T, ValueError> {
    T::deserialize(node)
}

/// The type of a plain scalar where nobody says what it should be.
fn unexpected(node: &Node) -> Unexpected<'_> {
    match &node.content {
        Content::Scalar { .. } if node.is_null() => Unexpected::Unit,
        Content::Scalar { text, .. } => Unexpected::Str(text),
        Content::Sequence(_) => Unexpected::Seq,
        Content::Mapping(_) => Unexpected::Map,
    }
}

fn float(text: &str) -> Option<f64> {
    match text.trim_start_matches(['+', '-']) {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        digits if digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') => {
            text.parse().ok()
        }
        _ => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Reads a number of one kind from the text of a scalar.
macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match &self.content {
                Content::Scalar { text, plain: true } if text.parse::<$type>().is_ok() => {
                    visitor.$visit(text.parse::<$type>().unwrap_or_default())
                }
                _ => Err(ValueError::invalid_type(unexpected(self), &stringify!($type))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match &self.content {
            Content::Mapping(_) => self.deserialize_map(visitor),
            Content::Sequence(_) => self.deserialize_seq(visitor),
            Content::Scalar { text, plain: false } => visitor.visit_str(text),
            Content::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Content::Scalar { text, .. } => {
                if let Some(flag) = boolean(text) {
                    visitor.visit_bool(flag)
                } else if let Ok(number) = text.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = text.parse::<i64>() {
                    visitor.visit_i64(number)
                } else if let Some(number) = float(text) {
                    visitor.visit_f64(number)
                } else {
                    visitor.visit_str(text)
                }
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => visitor.visit_str(text),
            _ => Err(ValueError::invalid_type(unexpected(self), &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match &self.content {
            Content::Scalar { text, plain: true } => match boolean(text) {
                Some(flag) => visitor.visit_bool(flag),
                None => Err(ValueError::invalid_type(unexpected(self), &"a boolean")),
            },
            _ => Err(ValueError::invalid_type(unexpected(self), &"a boolean")),
        }
    }

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match &self.content {
            Content::Scalar { text, plain: true } => match float(text) {
                Some(number) => visitor.visit_f64(number),
                None => Err(ValueError::invalid_type(unexpected(self), &"f64")),
            },
            _ => Err(ValueError::invalid_type(unexpected(self), &"f64")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Content::Sequence(items) = &self.content else {
            return Err(ValueError::invalid_type(unexpected(self), &"a sequence"));
        };
        let mut left = Items { items: items.iter(), index: 0 };
        let value = visitor.visit_seq(&mut left)?;
        match left.items.len() {
            0 => Ok(value),
            more => {
                let fewer = format!("a list of {}", items.len() - more);
                Err(ValueError::invalid_length(items.len(), &fewer.as_str()))
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Content::Mapping(entries) = &self.content else {
            return Err(ValueError::invalid_type(unexpected(self), &"a map"));
        };
        visitor.visit_map(Entries { entries: entries.iter(), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            Content::Mapping(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant { entry: &entries[0] })
            }
            Content::Mapping(entries) if entries.len() > 1 => Err(ValueError {
                span: Some(entries[1].key_span),
                ..ValueError::new(
                    format!("`{}` stands beside `{}`", entries[1].key, entries[0].key),
                    format!("write one of: {}", variants.join(", ")),
                )
            }),
            _ => Err(ValueError::new(
                format!("{} says nothing", shown(unexpected(self))),
                format!("write one of: {}", variants.join(", ")),
            )),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'de> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        self.index += 1;
        let under = |error: ValueError| error.under(&(self.index - 1).to_string(), item.first_span());
        seed.deserialize(item).map(Some).map_err(under)
    }
}

/// The entries of a map.
struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key: de::value::StrDeserializer<'_, ValueError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.under(&entry.key, entry.key_span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        let Some(entry) = self.value.take() else {
            return Err(ValueError::custom("a value was asked for before its key"));
        };
        seed.deserialize(&entry.value).map_err(|error| error.under(&entry.key, entry.shown_span()))
    }
}

impl Entry {
    /// The value where it is short, else the key.
    pub(crate) fn shown_span(&self) -> Span {
        match self.value.content {
            Content::Scalar { .. } if !self.value.is_null() => self.value.span,
            _ => self.key_span,
        }
    }
}

/// `{variant: value}`.
struct Variant<'de> {
    entry: &'de Entry,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ValueError> {
        let name: de::value::StrDeserializer<'_, ValueError> = self.entry.key.as_str().into_deserializer();
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(error.under(&self.entry.key, self.entry.key_span)),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        let message = format!("`{}` takes no settings", self.entry.key);
        Err(ValueError::new(message, format!("write just {}", self.entry.key)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ValueError> {
        let under = |error: ValueError| error.under(&self.entry.key, self.entry.shown_span());
        seed.deserialize(&self.entry.value).map_err(under)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.entry.value.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.entry.value.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde::Deserialize;

    use super::super::parse;
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    enum Choice {
        Plain,
        Rich(Rich),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rich {
        text: Option<String>,
        number: Option<f64>,
        count: Option<u8>,
        flag: Option<bool>,
        range: Option<[f64; 2]>,
        #[serde(default, with = "humantime_serde")]
        wait: Option<Duration>,
        size: Option<bytesize::ByteSize>,
        map: Option<BTreeMap<String, serde_json::Value>>,
    }

    fn found(text: &str) -> String {
        let document = parse("job.yaml", text).expect("well formed");
        match read::<Choice>(&document.root) {
            Ok(Choice::Plain) => "plain".into(),
            Ok(Choice::Rich(rich)) => {
                let shown = format!("{rich:?}").replace("None", "-");
                shown.replace("Some", "")
            }
            Err(error) => {
                let span = error.span.unwrap_or_default();
                let path = error.path.join(".");
                format!("{}:{} {path}: {} ({})", span.line, span.column, error.message, error.help)
            }
        }
    }

    #[test]
    fn values_are_read_as_what_they_should_be() {
        for (text, expected) in [
            ("plain", "plain"),
            ("rich: {text: 0123, flag: true, number: 1}", "text: (\"0123\")"),
            ("rich: {text: on}", "text: (\"on\")"),
            ("rich: {number: -.inf}", "number: (-inf)"),
            ("rich: {wait: 1m 30s, size: 64KiB}", "wait: (90s), size: (64.0 KiB (65536 bytes))"),
            ("rich: {map: {0: idle, b: 1.5, c: [x]}}", "\"0\": String(\"idle\"), \"b\": Number(1.5)"),
            ("rich: {range: [-40, 2e2]}", "range: ([-40.0, 200.0])"),
            ("rich: {text: , count: ~}", "text: -"),
        ] {
            let found = found(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn mistakes_say_where_and_what_instead() {
        for (text, expected) in [
            ("rich: {txt: a}", "1:8 rich.txt: unknown key `txt` (did you mean `text`?)"),
            (
                "rich: {actuate: a}",
                "1:8 rich.actuate: `actuate` comes later; this version does not do it (leave `actuate` out for now)",
            ),
            ("rch: {}", "1:1 rch: unknown word `rch` (did you mean `rich`?)"),
            ("{rich: {}, plain: {}}", "1:12 : `plain` stands beside `rich` (write one of: plain, rich)"),
            ("rich: {number: many}", "1:16 rich.number: `many` is not a number (write a number)"),
            ("rich: {count: 256}", "1:15 rich.count: `256` is not a whole number (write a whole number)"),
            ("rich: {flag: on}", "1:14 rich.flag: `on` is not a boolean (write true or false)"),
            (
                "rich: {wait: 60x}",
                "1:14 rich.wait: `60x` is not a duration (write a number with its unit, such as 250ms, 60s or 5m)",
            ),
            (
                "rich: {wait: 60}",
                "1:14 rich.wait: `60` is not a duration (write a number with its unit, such as 250ms, 60s or 5m)",
            ),
            (
                "rich: {size: 1 lot}",
                "1:14 rich.size: `1 lot` is not a size (write a size with its unit, such as 128MB or 64KiB)",
            ),
            ("rich: {range: [1, 2, 3]}", "1:8 rich.range: the list has 3 elements (write a list of 2)"),
            ("rich: {range: [1, b]}", "1:19 rich.range.1: `b` is not a number (write a number)"),
            ("rich: [a]", "1:1 rich: a list is not a map (write keys and values: {key: value})"),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }
}
