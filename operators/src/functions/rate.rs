//! `rate`: the change of a property per unit of time, between one value and the next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `{rate: {of: energy, per: 1h}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// The property to compute from.
    pub of: String,
    /// The unit of time (default 1s).
    #[serde(default = "one_second", with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub per: std::time::Duration,
}

fn one_second() -> std::time::Duration {
    std::time::Duration::from_secs(1)
}

#[derive(Clone, Debug)]
pub(super) struct Rate {
    per_us: f64,
}

/// The last value and its time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Last {
    last: Option<(i64, f64)>,
}

impl RateSettings {
    pub(super) fn compile(&self) -> Result<Rate, Problem> {
        let per_us = super::positive_us(self.per, "per")? as f64;
        Ok(Rate { per_us })
    }
}

impl Rate {
    /// None for the first value, and where no time has passed.
    pub(super) fn call(&self, value: f64, at_us: i64, last: &mut Last) -> Option<f64> {
        let (last_us, last_value) = last.last.replace((at_us, value))?;
        let elapsed_us = at_us.saturating_sub(last_us);
        (elapsed_us > 0).then(|| (value - last_value) / elapsed_us as f64 * self.per_us)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn change_per_time() {
        expect![[r#"
            0 1 -> -
            2 5 -> 120.000
            2 6 -> -
            4 6 -> 0.000
            5 4 -> -120.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"rate": {"of": "t", "per": "1m"}}"#,
            "
            0 1
            2 5
            2 6
            4 6
            5 4
            ",
        ));
    }
}
