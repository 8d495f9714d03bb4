//! `types.<type>.entanglement`: how fresh, how complete and how available a twin must be.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::overrides::{Override, OverrideSettings};
use super::profiles::{self, Profile, ProfileSettings};
use super::rate::Rate;
use super::window::SUB_WINDOWS;
use crate::problem::Problem;
use crate::shadowing::ClockSettings;
use crate::time::duration_us;

/// Parameters of ODTE and life cycle of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntanglementSettings {
    /// The sliding window that is looked at.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub window: Duration,
    /// T_d: an update is on time when it is no older than this once it is in the twin.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub desired_timeliness: Duration,
    /// O_Th: entangled is an ODTE of at least this, in (0, 1].
    pub threshold: f64,
    /// How far above the threshold ODTE must be before a disentangled twin is entangled again.
    pub hysteresis: f64,
    /// How long a twin is Bound before it is judged (default: the window, or three messages).
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub settle: Option<Duration>,
    /// A silence longer than this unbinds the twin (default: the window, or ten messages).
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("format" = "time"))]
    pub unbind_after: Option<Duration>,
    /// How often ODTE is announced and archived while the twin is updated.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub sample: Duration,
    /// What is expected of a twin that was bound less than a window ago.
    pub warm_up: WarmUp,
    /// What of a device's clock is believed.
    pub clock: ClockSettings,
    /// Other T_d by which the same observations are judged, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub profiles: IndexMap<String, ProfileSettings>,
    /// Other parameters of twins with certain attributes; the first that fits counts.
    #[serde(rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideSettings>,
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
            profiles: IndexMap::new(),
            overrides: Vec::new(),
        }
    }
}

/// Over which time messages are expected while the window is not full (rule 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// Since the first binding.
    Bound,
    /// Over the full window from the first second on, as in the paper's code.
    Full,
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
    /// R_e of each stream.
    pub rates: Box<[Rate]>,
    /// The job says `settle` itself.
    pub(crate) settle_is_given: bool,
    /// The job says `unbind_after` itself.
    pub(crate) unbind_is_given: bool,
    /// Other T_d.
    pub profiles: Box<[Profile]>,
    /// Those of twins with certain attributes.
    pub overrides: Box<[Override]>,
}

impl Terms {
    /// Compiles the settings with the rates of the type's streams.
    pub fn compile(settings: &EntanglementSettings, rates: &[Rate]) -> Result<Self, Problem> {
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
        // The longest 1/R_e over the streams (rule 4.5).
        let period_us = rates.iter().filter_map(Rate::period_us).max();
        Ok(Self {
            window_us,
            desired_timeliness_us,
            threshold: settings.threshold,
            hysteresis: settings.hysteresis,
            settle_us: match settings.settle {
                Some(settle) => duration_us(settle),
                None => settle_default_us(window_us, period_us),
            },
            unbind_after_us: match settings.unbind_after {
                Some(after) => Some(duration_us(after)),
                None => unbind_default_us(window_us, period_us),
            },
            sample_us,
            expects_full_window: settings.warm_up == WarmUp::Full,
            rates: rates.into(),
            settle_is_given: settings.settle.is_some(),
            unbind_is_given: settings.unbind_after.is_some(),
            profiles: profiles::compile(&settings.profiles).map_err(|problem| problem.under("profiles"))?,
            overrides: Box::default(),
        })
    }

    /// The terms of the twins of a class, as the roster says it.
    pub fn of_class(&self, class: u8) -> &Self {
        match class {
            0 => self,
            class => self.overrides.get(usize::from(class) - 1).map_or(self, |one| &one.terms),
        }
    }

    /// Whether a number of messages is expected of no stream (rule 4.2).
    pub fn are_unrated(&self) -> bool {
        self.rates.iter().all(Rate::is_unrated)
    }

    /// Whether what is expected is the same all the time.
    pub fn are_steady(&self) -> bool {
        self.rates.iter().all(|rate| matches!(rate, Rate::Fixed(_) | Rate::None))
    }

    /// `settle` and `unbind_after` of a twin whose streams have these rates now, in messages a microsecond:
    /// those of properties replace what the type knows.
    pub(crate) fn limits(&self, pace: impl Fn(u8) -> Option<f64>) -> (i64, Option<i64>) {
        let period_us = |(stream, rate): (u8, &Rate)| match (rate, pace(stream)) {
            (Rate::Period { .. }, Some(per_us)) => {
                (per_us > 0.0).then(|| (1.0 / per_us).ceil().min(i64::MAX as f64 / 100.0) as i64)
            }
            (rate, _) => rate.period_us(),
        };
        let period_us = (0u8..).zip(&self.rates).filter_map(period_us).max();
        let settle_us = match self.settle_is_given {
            true => self.settle_us,
            false => settle_default_us(self.window_us, period_us),
        };
        let unbind_after_us = match self.unbind_is_given {
            true => self.unbind_after_us,
            false => unbind_default_us(self.window_us, period_us),
        };
        (settle_us, unbind_after_us)
    }

    /// What is likely not meant, though it is allowed (rule 4.9).
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for per_us in self.rates.iter().filter_map(Rate::per_us) {
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

/// Rule 5.2.
fn settle_default_us(window_us: i64, period_us: Option<i64>) -> i64 {
    period_us.map_or(0, |period_us| window_us.min(period_us.saturating_mul(3)))
}

/// Rule 5.4.
fn unbind_default_us(window_us: i64, period_us: Option<i64>) -> Option<i64> {
    period_us.map(|period_us| window_us.max(period_us.saturating_mul(10)))
}

/// How long a window may be: at least a microsecond a sub-window, and at most a tenth of the range of
/// 64 bits, so that sums of times never overflow.
pub(crate) const WINDOW_US: std::ops::Range<i64> = SUB_WINDOWS as i64..i64::MAX / 10;

pub(super) fn at_least(duration: Duration, least_us: i64, key: &str) -> Result<i64, Problem> {
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
    use super::super::rate::ExpectedRate;
    use super::*;
    use crate::model::Model;

    #[test]
    fn rules_5_2_and_5_4_defaults_follow_from_window_and_rate() {
        let terms = |rates: &[&str]| {
            let rate = |text: &&str| match text.strip_prefix("on change ") {
                Some(silence) => Rate::OnChange { silence_max_us: silence.parse().expect("a number") },
                None => {
                    ExpectedRate::parse(text).expect("a rate").resolve(&Model::default()).expect("it is one")
                }
            };
            let rates: Vec<_> = rates.iter().map(rate).collect();
            Terms::compile(&EntanglementSettings::default(), &rates).expect("good")
        };
        let seconds =
            |terms: Terms| (terms.settle_us / 1_000_000, terms.unbind_after_us.map(|us| us / 1_000_000));
        assert_eq!(seconds(terms(&["1/s"])), (3, Some(60)));
        assert_eq!(seconds(terms(&["0.01/s"])), (60, Some(1_000)));
        assert_eq!(seconds(terms(&["1/s", "0.1/s"])), (30, Some(100)));
        assert_eq!(seconds(terms(&["none", "1/s"])), (3, Some(60)));
        assert_eq!(seconds(terms(&["none"])), (0, None));
        assert_eq!(seconds(terms(&["on change 300000000"])), (60, Some(3_000)));
        let follows = |terms: Terms, per_us| {
            let (settle_us, unbind_us) = terms.limits(|_| Some(per_us));
            (settle_us / 1_000_000, unbind_us.map(|us| us / 1_000_000))
        };
        let period = Rate::Period { property: 0, us_per_unit: 1e3, otherwise: None };
        let with_period = Terms::compile(&EntanglementSettings::default(), &[period]).expect("good");
        assert_eq!(seconds(with_period.clone()), (0, None));
        assert_eq!(follows(with_period.clone(), 1e-7), (30, Some(100)), "one in ten seconds");
        assert_eq!(follows(with_period, 0.0), (0, None), "nothing is expected");
    }

    #[test]
    fn rule_4_9_warnings() {
        let warnings = |window: u64, threshold: f64| {
            let settings =
                EntanglementSettings { window: Duration::from_secs(window), threshold, ..Default::default() };
            let terms = Terms::compile(&settings, &[Rate::Fixed(1e-6)]).expect("good");
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
