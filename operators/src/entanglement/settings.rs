//! `types.<type>.entanglement`: how fresh, how complete and how available a twin must be.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::window::SUB_WINDOWS;
use crate::problem::Problem;
use crate::shadowing::ClockSettings;
use crate::time::duration_us;

/// Parameters of ODTE and life cycle of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EntanglementSettings {
    /// The sliding window that is looked at.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// T_d: an update is on time when it is no older than this once it is in the twin.
    #[serde(with = "humantime_serde")]
    pub desired_timeliness: Duration,
    /// O_Th: entangled is an ODTE of at least this, in (0, 1].
    pub threshold: f64,
    /// How far above the threshold ODTE must be before a disentangled twin is entangled again.
    pub hysteresis: f64,
    /// How long a twin is Bound before it is judged (default: the window, or three messages).
    #[serde(with = "humantime_serde")]
    pub settle: Option<Duration>,
    /// A silence longer than this unbinds the twin (default: the window, or ten messages).
    #[serde(with = "humantime_serde")]
    pub unbind_after: Option<Duration>,
    /// How often ODTE is announced and archived while the twin is updated.
    #[serde(with = "humantime_serde")]
    pub sample: Duration,
    /// What is expected of a twin that was bound less than a window ago.
    pub warm_up: WarmUp,
    /// What of a device's clock is believed.
    pub clock: ClockSettings,
}

impl Default for EntanglementSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            desired_timeliness: Duration::from_secs(1),
            threshold: 0.9,
            hysteresis: 0.0,
            settle: None,
            unbind_after: None,
            sample: Duration::from_secs(10),
            warm_up: WarmUp::Bound,
            clock: ClockSettings::default(),
        }
    }
}

/// Over which time messages are expected while the window is not full (rule 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// Since the first binding.
    Bound,
    /// Over the full window from the first second on, as in the paper's code.
    Full,
}

/// How often a stream's messages are expected (R_e, rule 4.5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpectedRate {
    /// This many a second.
    Fixed(f64),
    /// Nothing is expected.
    None,
}

impl ExpectedRate {
    /// Reads `0.2/s`, `6/m`, `30/h`, `100/d` or `none`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let help = || {
            format!(
                "`{text}` is no rate; write a number and a unit of time such as 0.2/s, 6/m or 30/h, or none"
            )
        };
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

    /// Messages a microsecond.
    pub fn per_us(self) -> Option<f64> {
        match self {
            Self::Fixed(per_second) => Some(per_second / 1e6),
            Self::None => None,
        }
    }
}

impl std::fmt::Display for ExpectedRate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(per_second) => write!(formatter, "{per_second}/s"),
            Self::None => formatter.write_str("none"),
        }
    }
}

impl Serialize for ExpectedRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExpectedRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = ExpectedRate;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(
                    "a rate such as 0.2/s, or none (rates from a property and on change come later)",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExpectedRate, E> {
                ExpectedRate::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// [`EntanglementSettings`] of a type, compiled with the rates of its streams. Times are
/// microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// W.
    pub window_us: i64,
    /// T_d.
    pub desired_timeliness_us: i64,
    /// O_Th.
    pub threshold: f64,
    /// Added to O_Th on the way back to entangled.
    pub hysteresis: f64,
    /// How long Bound lasts.
    pub settle_us: i64,
    /// The longest silence of a bound twin; none where nothing is expected of it.
    pub unbind_after_us: Option<i64>,
    /// Interval of the samples.
    pub sample_us: i64,
    /// Whether the full window is expected from the start.
    pub expects_full_window: bool,
    /// R_e of each stream, in messages a microsecond.
    pub rates: Box<[Option<f64>]>,
}

impl Terms {
    /// Compiles the settings with the rates of the type's streams.
    pub fn compile(settings: &EntanglementSettings, rates: &[ExpectedRate]) -> Result<Self, Problem> {
        let window_us = at_least(settings.window, WINDOW_US.start, "window")?;
        let desired_timeliness_us = at_least(settings.desired_timeliness, 1, "desired_timeliness")?;
        let sample_us = at_least(settings.sample, 1_000, "sample")?;
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        if !is_share(settings.threshold) {
            let message = format!("the threshold {} is not in (0, 1]", settings.threshold);
            return Err(Problem::new(message, "write threshold: 0.9").under("threshold"));
        }
        if settings.hysteresis < 0.0 || !is_share(settings.threshold + settings.hysteresis) {
            return Err(Problem::new(
                "threshold and hysteresis together are not in (0, 1]",
                "write a smaller hysteresis, such as 0.02",
            )
            .under("hysteresis"));
        }
        let rates: Box<[Option<f64>]> = rates.iter().map(|rate| rate.per_us()).collect();
        // The longest 1/R_e over the streams (rule 4.5).
        let period_us = rates.iter().flatten().map(|per_us| (1.0 / per_us).ceil() as i64).max();
        Ok(Self {
            window_us,
            desired_timeliness_us,
            threshold: settings.threshold,
            hysteresis: settings.hysteresis,
            settle_us: match (settings.settle, period_us) {
                (Some(settle), _) => duration_us(settle),
                (None, Some(period_us)) => window_us.min(period_us.saturating_mul(3)),
                (None, None) => 0,
            },
            unbind_after_us: match (settings.unbind_after, period_us) {
                (Some(after), _) => Some(duration_us(after)),
                (None, Some(period_us)) => Some(window_us.max(period_us.saturating_mul(10))),
                (None, None) => None,
            },
            sample_us,
            expects_full_window: settings.warm_up == WarmUp::Full,
            rates,
        })
    }

    /// What is likely not meant, though it is allowed (rule 4.9).
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for per_us in self.rates.iter().flatten() {
            let expected = per_us * self.window_us as f64;
            if expected < 10.0 {
                warnings.push(Problem::new(
                    format!("the window expects {expected:.1} updates, fewer than 10"),
                    "write a longer window, so that one update more or less says little",
                ));
            }
            if 1.0 / expected > 1.0 - self.threshold {
                warnings.push(Problem::new(
                    format!(
                        "one missing message of {expected:.1} takes ODTE below the threshold {}",
                        self.threshold
                    ),
                    "write a longer window or a lower threshold",
                ));
            }
        }
        warnings
    }
}

/// How long a window may be: at least a microsecond a sub-window, and at most a tenth of the range of
/// 64 bits, so that sums of times never overflow.
pub(crate) const WINDOW_US: std::ops::Range<i64> = SUB_WINDOWS as i64..i64::MAX / 10;

fn at_least(duration: Duration, least_us: i64, key: &str) -> Result<i64, Problem> {
    let found_us = duration_us(duration);
    if (least_us..WINDOW_US.end).contains(&found_us) {
        return Ok(found_us);
    }
    Err(Problem::new(
        format!("`{key}` is too short or too long"),
        format!("write a duration of at least {least_us}us, such as 60s"),
    )
    .under(key))
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
    fn rules_5_2_and_5_4_defaults_follow_from_window_and_rate() {
        let terms = |rates: &[&str]| {
            let rates: Vec<_> = rates.iter().map(|rate| ExpectedRate::parse(rate).expect("a rate")).collect();
            Terms::compile(&EntanglementSettings::default(), &rates).expect("good")
        };
        let seconds =
            |terms: Terms| (terms.settle_us / 1_000_000, terms.unbind_after_us.map(|us| us / 1_000_000));
        assert_eq!(seconds(terms(&["1/s"])), (3, Some(60)));
        assert_eq!(seconds(terms(&["0.01/s"])), (60, Some(1_000)));
        assert_eq!(seconds(terms(&["1/s", "0.1/s"])), (30, Some(100)));
        assert_eq!(seconds(terms(&["none", "1/s"])), (3, Some(60)));
        assert_eq!(seconds(terms(&["none"])), (0, None));
    }

    #[test]
    fn rule_4_9_warnings() {
        let warnings = |window: u64, threshold: f64| {
            let settings =
                EntanglementSettings { window: Duration::from_secs(window), threshold, ..Default::default() };
            let terms = Terms::compile(&settings, &[ExpectedRate::Fixed(1.0)]).expect("good");
            terms.warnings().len()
        };
        assert_eq!(warnings(60, 0.9), 0);
        assert_eq!(warnings(9, 0.5), 1);
        assert_eq!(warnings(20, 0.96), 1);
        assert_eq!(warnings(5, 0.9), 2);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [
            r#"{"window": "0s"}"#,
            r#"{"desired_timeliness": "0s"}"#,
            r#"{"threshold": 0}"#,
            r#"{"threshold": 1.1}"#,
            r#"{"threshold": 0.9, "hysteresis": 0.2}"#,
            r#"{"hysteresis": -0.1}"#,
        ] {
            let parsed: EntanglementSettings = serde_json::from_str(settings).expect("well formed");
            assert!(Terms::compile(&parsed, &[]).is_err(), "{settings}");
        }
    }
}
