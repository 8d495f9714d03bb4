//! Scalars and structures of a payload, as values of the kinds of the model (rule 3.7).

use serde_json::Value as Json;

use super::settings::TimeFormat;
use crate::model::{Kind, KindName, Value};
use crate::time::{DeviceTime, parse_rfc3339};

/// A scalar of a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

/// A number of a tree.
pub(crate) fn number_scalar(number: &serde_json::Number) -> Scalar<'static> {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => Scalar::Unsigned(number),
        (_, Some(number)) => Scalar::Signed(number),
        _ => Scalar::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The scalar as JSON, to be shown or looked up.
pub(crate) fn scalar_json(scalar: Scalar<'_>) -> Json {
    match scalar {
        Scalar::Bool(flag) => flag.into(),
        Scalar::Unsigned(number) => number.into(),
        Scalar::Signed(number) => number.into(),
        Scalar::Float(number) => number.into(),
        Scalar::Text(text) => text.into(),
    }
}

/// What a text is that has no form of its own, such as a field of a line: a finite number, true or false, or a text.
pub(crate) fn any_scalar(text: &str) -> Scalar<'_> {
    match text {
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        _ => number(text).unwrap_or(Scalar::Text(text)),
    }
}

/// The same, where it is known what it should be; what it is not stays a text. Space around it counts where it
/// may be meant, in strings only.
pub(crate) fn scalar_of_kind<'a>(kind: &Kind, text: &'a str) -> Scalar<'a> {
    let trimmed = text.trim_ascii();
    let wanted = match kind {
        Kind::Double | Kind::Integer => number(trimmed),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(Scalar::Bool(true)),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(Scalar::Bool(false)),
        Kind::Boolean | Kind::Enum(_) => None,
        Kind::String | Kind::Array { .. } | Kind::Object => return Scalar::Text(text),
    };
    wanted.unwrap_or(Scalar::Text(trimmed))
}

/// The finite number that a text is; integers keep all their digits.
fn number(text: &str) -> Option<Scalar<'static>> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(Scalar::Unsigned(number));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Scalar::Signed(number));
    }
    // Words such as `inf` and `nan` are numbers to the parser, and none to us.
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Scalar::Float)
}

/// The scalar as a value of a kind, if it is one.
#[inline]
pub(crate) fn typed<'a>(kind: &Kind, scalar: Scalar<'a>) -> Option<Value<'a>> {
    Some(match (kind, scalar) {
        (Kind::Double, Scalar::Float(number)) if number.is_finite() => Value::Double(number),
        (Kind::Double, Scalar::Unsigned(number)) => Value::Double(number as f64),
        (Kind::Double, Scalar::Signed(number)) => Value::Double(number as f64),
        (Kind::Integer, Scalar::Unsigned(number)) => Value::Integer(i64::try_from(number).ok()?),
        (Kind::Integer, Scalar::Signed(number)) => Value::Integer(number),
        // 5.0 is the integer 5, as far as a double counts without gaps.
        (Kind::Integer, Scalar::Float(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Value::Integer(number as i64)
        }
        (Kind::Boolean, Scalar::Bool(flag)) => Value::Boolean(flag),
        (Kind::String, Scalar::Text(text)) => Value::Text(text),
        (Kind::Enum(words), Scalar::Text(text)) => {
            Value::Enum(words.iter().position(|word| word == text)? as u16)
        }
        _ => return None,
    })
}

/// What a kind is called in a reason.
pub(crate) fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Integer => "integer",
        Kind::Boolean => "boolean",
        Kind::String => "string",
        Kind::Enum(_) => "value of its enum",
        Kind::Array { .. } => "array",
        Kind::Object => "object",
    }
}

/// Whether a number is in the range of its property, or why not.
pub(crate) fn check_range(range: Option<[f64; 2]>, number: f64) -> Result<(), String> {
    match range {
        Some([least, greatest]) if !(least..=greatest).contains(&number) => {
            Err(format!("{number} is outside the range [{least}, {greatest}]"))
        }
        _ => Ok(()),
    }
}

/// Whether an array or object is a value of a kind, or why not.
pub(crate) fn check_structure(kind: &Kind, value: &Json) -> Result<(), String> {
    match (kind, value) {
        (Kind::Object, Json::Object(_)) => Ok(()),
        (Kind::Array { items, length_max }, Json::Array(elements)) => {
            if elements.len() > *length_max {
                return Err(format!("{} elements, at most {length_max}", elements.len()));
            }
            let fits = |element: &Json| match items {
                KindName::Double => element.as_f64().is_some_and(f64::is_finite),
                KindName::Integer => element.as_i64().is_some(),
                KindName::Boolean => element.is_boolean(),
                _ => element.is_string(),
            };
            match elements.iter().find(|element| !fits(element)) {
                Some(element) => Err(format!("the element {element} is of the wrong type")),
                None => Ok(()),
            }
        }
        (_, Json::Array(_)) => Err(format!("an array is no {}", kind_name(kind))),
        _ => Err(format!("an object is no {}", kind_name(kind))),
    }
}

/// The device time; one that 64 bits of microseconds cannot hold saturates, and is then judged by
/// rule 3.3 like any time that is far off.
#[inline]
pub(crate) fn device_time(scalar: Scalar<'_>, format: TimeFormat) -> Option<DeviceTime> {
    let (times, divided_by) = match format {
        TimeFormat::UnixS => (1_000_000, 1),
        TimeFormat::UnixMs => (1_000, 1),
        TimeFormat::UnixUs => (1, 1),
        TimeFormat::UnixNs => (1, 1_000),
        TimeFormat::Rfc3339 => {
            let Scalar::Text(text) = scalar else {
                return None;
            };
            return parse_rfc3339(text).map(DeviceTime);
        }
    };
    let at_us = match scalar {
        Scalar::Unsigned(number) => {
            i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(times) / divided_by
        }
        Scalar::Signed(number) => number.saturating_mul(times).div_euclid(divided_by),
        Scalar::Float(number) if number.is_finite() => {
            (number * times as f64 / divided_by as f64).round() as i64
        }
        _ => return None,
    };
    Some(DeviceTime(at_us))
}
