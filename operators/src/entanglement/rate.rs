//! How often messages are expected of a stream (R_e, rule 4.5): as a job says it, and compiled.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::settings::at_least;
use crate::model::{Kind, Model};
use crate::problem::Problem;

/// How often a stream's messages are expected (R_e, rule 4.5), as a job says it.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpectedRate {
    /// This many a second.
    Fixed(f64),
    /// A property says how long it is from one to the next.
    Period {
        /// Name of the property; its unit is one of time.
        period: String,
        /// This many a second, as long as the property has no value; nothing is expected where it is left out.
        otherwise: Option<f64>,
    },
    /// They come when something has changed; a silence longer than this is one too long.
    OnChange {
        /// The longest silence.
        silence_max: Duration,
    },
    /// Nothing is expected.
    None,
}

/// What a rate is told instead of one that cannot be read.
const RATE_HELP: &str = "write a number and a unit of time such as 0.2/s, 6/m or 30/h, or none";

impl ExpectedRate {
    /// Reads `0.2/s`, `6/m`, `30/h`, `100/d` or `none`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let help = || format!("`{text}` is no rate; {RATE_HELP}");
        let (number, unit) = text.split_once('/').ok_or_else(help)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(help()),
        };
        let number: f64 = number.trim().parse().map_err(|_| help())?;
        let per_second = number / seconds;
        if !(per_second.is_finite() && per_second > 0.0 && per_second <= 1e6) {
            return Err(format!(
                "`{text}` is no rate between 0 and 1,000,000 a second; for no expectation write none"
            ));
        }
        Ok(Self::Fixed(per_second))
    }

    /// The rate of a stream of a type with this model.
    pub fn resolve(&self, model: &Model) -> Result<Rate, Problem> {
        Ok(match self {
            Self::Fixed(per_second) => Rate::Fixed(per_second / 1e6),
            Self::None => Rate::None,
            Self::OnChange { silence_max } => {
                let silence_max_us = at_least(*silence_max, 1_000, "silence_max")
                    .map_err(|problem| problem.under("on_change"))?;
                Rate::OnChange { silence_max_us }
            }
            Self::Period { period, otherwise } => {
                let property = model.require_property(period).map_err(|problem| problem.under("period"))?;
                let found = &model.properties[usize::from(property)];
                let unit = found.unit.as_deref().unwrap_or_default();
                let us_per_unit = unit_us(unit)
                    .filter(|_| matches!(found.kind, Kind::Double | Kind::Integer))
                    .ok_or_else(|| {
                        let message = format!("`{period}` is no time from one message to the next");
                        let help =
                            "give the property a type of numbers and a unit of time: s, ms, us, min or h";
                        Problem::new(message, help).under("period")
                    })?;
                let otherwise = otherwise.map(|per_second| per_second / 1e6);
                Rate::Period { property, us_per_unit, otherwise }
            }
        })
    }
}

/// Microseconds of a unit of time (UCUM).
fn unit_us(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3_600e6,
        "d" => 86_400e6,
        _ => return None,
    })
}

impl std::fmt::Display for ExpectedRate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(per_second) => write!(formatter, "{per_second}/s"),
            Self::Period { period, .. } => write!(formatter, "period {period}"),
            Self::OnChange { silence_max } => {
                write!(
                    formatter,
                    "on change, silence_max {}",
                    humantime_serde::re::humantime::format_duration(*silence_max)
                )
            }
            Self::None => formatter.write_str("none"),
        }
    }
}

/// How a rate is written, for the schema of job files.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum RateForm {
    /// So many in a time, or none.
    Rate(#[schemars(extend("format" = "rate"))] String),
    /// As a property says, or on change.
    Parts(RateParts),
}

/// The rates that are maps in a job file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateParts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    #[serde(default, rename = "else", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rate"))]
    otherwise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_change: Option<OnChangeParts>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnChangeParts {
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    silence_max: Duration,
}

impl TryFrom<RateParts> for ExpectedRate {
    type Error = String;

    fn try_from(parts: RateParts) -> Result<Self, String> {
        match parts {
            RateParts { period: Some(period), otherwise, on_change: None } => {
                let otherwise = match otherwise.as_deref().map(Self::parse).transpose()? {
                    Some(Self::Fixed(per_second)) => Some(per_second),
                    _ => None,
                };
                Ok(Self::Period { period, otherwise })
            }
            RateParts { period: None, otherwise: None, on_change: Some(on_change) } => {
                Ok(Self::OnChange { silence_max: on_change.silence_max })
            }
            _ => Err("a rate is one of: 0.2/s, none, {period: PROPERTY, else: 0.2/s}, \
                      {on_change: {silence_max: 5m}}"
                .to_owned()),
        }
    }
}

impl Serialize for ExpectedRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rate = |per_second: &f64| format!("{per_second}/s");
        match self {
            Self::Fixed(_) | Self::None => serializer.collect_str(self),
            Self::Period { period, otherwise } => RateParts {
                period: Some(period.clone()),
                otherwise: otherwise.as_ref().map(rate),
                on_change: None,
            }
            .serialize(serializer),
            Self::OnChange { silence_max } => RateParts {
                period: None,
                otherwise: None,
                on_change: Some(OnChangeParts { silence_max: *silence_max }),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ExpectedRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ExpectedRate;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(
                    "a rate such as 0.2/s, {period: PROPERTY, else: 0.2/s}, {on_change: {silence_max: 5m}}, or none",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExpectedRate, E> {
                ExpectedRate::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ExpectedRate, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<ExpectedRate, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ExpectedRate, A::Error> {
                let parts = RateParts::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                ExpectedRate::try_from(parts).map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// R_e of a stream of a compiled type, in messages a microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rate {
    /// This many.
    Fixed(f64),
    /// One in as long as a property says.
    Period {
        /// Number of the property.
        property: u16,
        /// Microseconds of its unit.
        us_per_unit: f64,
        /// This many, as long as the property has no value.
        otherwise: Option<f64>,
    },
    /// When something has changed, with a silence of at most this.
    OnChange {
        /// Microseconds.
        silence_max_us: i64,
    },
    /// Nothing is expected.
    None,
}

impl Rate {
    /// Whether no number of messages is expected.
    pub fn is_unrated(&self) -> bool {
        matches!(self, Rate::None | Rate::OnChange { .. })
    }

    /// Messages a microsecond, as far as the type knows.
    pub fn per_us(&self) -> Option<f64> {
        match self {
            Rate::Fixed(per_us) => Some(*per_us),
            Rate::Period { otherwise, .. } => *otherwise,
            Rate::OnChange { .. } | Rate::None => None,
        }
    }

    /// The longest time from one message to the next (1/R_e of rule 4.5), as far as the type knows.
    pub(super) fn period_us(&self) -> Option<i64> {
        match self {
            Rate::OnChange { silence_max_us } => Some(*silence_max_us),
            other => other.per_us().map(|per_us| (1.0 / per_us).ceil() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, expected) in [
            ("1/s", Some(ExpectedRate::Fixed(1.0))),
            ("0.2/s", Some(ExpectedRate::Fixed(0.2))),
            ("6/m", Some(ExpectedRate::Fixed(0.1))),
            ("36/h", Some(ExpectedRate::Fixed(0.01))),
            ("none", Some(ExpectedRate::None)),
            ("0/s", None),
            ("-1/s", None),
            ("1", None),
            ("1/y", None),
            ("x/s", None),
            ("inf/s", None),
        ] {
            assert_eq!(ExpectedRate::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn rates_of_properties_and_changes_are_read() {
        for (json, expected) in [
            (r#"{"period": "p", "else": "0.2/s"}"#, Some("{\"period\":\"p\",\"else\":\"0.2/s\"}")),
            (r#"{"period": "p"}"#, Some("{\"period\":\"p\"}")),
            (r#"{"on_change": {"silence_max": "5m"}}"#, Some("{\"on_change\":{\"silence_max\":\"5m\"}}")),
            (r#"{"on_change": {}}"#, None),
            (r#"{"else": "1/s"}"#, None),
            (r#"{"period": "p", "on_change": {"silence_max": "5m"}}"#, None),
            (r#"{"period": "p", "else": "x"}"#, None),
            ("7", None),
        ] {
            let rate = serde_json::from_str::<ExpectedRate>(json).ok();
            let written = rate.map(|rate| serde_json::to_string(&rate).expect("it is data"));
            assert_eq!(written.as_deref(), expected, "{json}");
        }
    }
}
