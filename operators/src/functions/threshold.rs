//! `threshold`: an event when a value crosses a limit, once until it has come back behind a second
//! one. The gap between the two (hysteresis) keeps a noisy value from raising a storm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `{threshold: {of: temperature, above: 80, clear: 75}}`, or `below` with a greater `clear`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdSettings {
    /// The property to watch.
    pub of: String,
    /// Raised when the value is greater than this.
    #[serde(default)]
    pub above: Option<f64>,
    /// Raised when the value is less than this.
    #[serde(default)]
    pub below: Option<f64>,
    /// Raised again only after the value was here or further back (default: the limit itself).
    #[serde(default)]
    pub clear: Option<f64>,
}

#[derive(Clone, Debug)]
pub(super) struct Threshold {
    /// 1 to watch for greater values, -1 for lesser: both are then the same comparison.
    pub(super) sign: f64,
    pub(super) limit: f64,
    clear: f64,
}

/// Whether the limit is crossed and not cleared since.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Raised {
    raised: bool,
}

impl ThresholdSettings {
    pub(super) fn compile(&self) -> Result<Threshold, Problem> {
        let (sign, limit) = match (self.above, self.below) {
            (Some(above), None) => (1.0, super::finite(above, "above")?),
            (None, Some(below)) => (-1.0, -super::finite(below, "below")?),
            _ => {
                return Err(Problem::new("a threshold has one limit", "write either above: 80 or below: 10"));
            }
        };
        let clear = match self.clear {
            Some(clear) => sign * super::finite(clear, "clear")?,
            None => limit,
        };
        if clear > limit {
            return Err(Problem::new(
                "clear lies beyond the limit",
                "write a clear that is less than above, or greater than below",
            )
            .under("clear"));
        }
        Ok(Threshold { sign, limit, clear })
    }
}

impl Threshold {
    pub(super) fn call(&self, value: f64, raised: &mut Raised) -> Option<f64> {
        let signed = self.sign * value;
        if raised.raised {
            raised.raised = signed > self.clear;
            return None;
        }
        raised.raised = signed > self.limit;
        raised.raised.then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn one_event_until_cleared() {
        expect![[r#"
            0 79 -> -
            1 81 -> 81.000
            2 78 -> -
            3 82 -> -
            4 75 -> -
            5 80 -> -
            6 81 -> 81.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"threshold": {"of": "t", "above": 80, "clear": 75}}"#,
            "
            0 79
            1 81
            2 78
            3 82
            4 75
            5 80
            6 81
            ",
        ));
    }

    #[test]
    fn below_is_the_same_from_the_other_side() {
        expect![[r#"
            0 10 -> -
            1 9 -> 9.000
            2 11 -> -
            3 9 -> -
            4 12 -> -
            5 9 -> 9.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"threshold": {"of": "t", "below": 10, "clear": 12}}"#,
            "
            0 10
            1 9
            2 11
            3 9
            4 12
            5 9
            ",
        ));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for settings in [
            r#"{"of": "t"}"#,
            r#"{"of": "t", "above": 1, "below": 0}"#,
            r#"{"of": "t", "above": 80, "clear": 85}"#,
            r#"{"of": "t", "below": 10, "clear": 5}"#,
        ] {
            let settings: ThresholdSettings = serde_json::from_str(settings).expect("well formed");
            assert!(settings.compile().is_err(), "{settings:?}");
        }
    }
}
