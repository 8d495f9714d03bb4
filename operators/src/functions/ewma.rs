//! `ewma`: the exponentially weighted moving average, by time: after one half-life without news a
//! value has half its weight. Right for uneven intervals too, where a fixed alpha is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `{ewma: {of: temperature, half_life: 30s}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EwmaSettings {
    /// The property to compute from.
    pub of: String,
    /// After this time a value weighs half.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub half_life: std::time::Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Ewma {
    pub(super) half_life_us: f64,
}

/// The average so far, and the time of its last value.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Average {
    last: Option<(i64, f64)>,
}

impl EwmaSettings {
    pub(super) fn compile(&self) -> Result<Ewma, Problem> {
        let half_life_us = super::positive_us(self.half_life, "half_life")? as f64;
        Ok(Ewma { half_life_us })
    }
}

impl Ewma {
    pub(super) fn call(&self, value: f64, at_us: i64, average: &mut Average) -> f64 {
        let mean = match average.last {
            None => value,
            Some((last_us, mean)) => {
                let elapsed_us = at_us.saturating_sub(last_us).max(0) as f64;
                let kept = (-elapsed_us / self.half_life_us).exp2();
                kept * mean + (1.0 - kept) * value
            }
        };
        average.last = Some((at_us, mean));
        mean
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn after_a_half_life_half_is_forgotten() {
        expect![[r#"
            0 0 -> 0.000
            10 8 -> 4.000
            20 8 -> 6.000
            20 100 -> 6.000
            40 8 -> 7.500
        "#]]
        .assert_eq(&super::super::table(
            r#"{"ewma": {"of": "t", "half_life": "10s"}}"#,
            "
            0 0
            10 8
            20 8
            20 100
            40 8
            ",
        ));
    }
}
