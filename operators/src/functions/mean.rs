//! `mean`: the mean of a property's values over a sliding window, the present one included.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::samples::{Bounds, Samples};
use crate::problem::Problem;

/// `{mean: {of: temperature, window: 5m}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanSettings {
    /// The property to compute from.
    pub of: String,
    /// How far back values count, by the times of the updates.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub window: std::time::Duration,
    /// Most values that are remembered a twin (default 256, at most 4,096).
    #[serde(default = "samples_max")]
    pub samples_max: usize,
}

fn samples_max() -> usize {
    256
}

#[derive(Clone, Debug)]
pub(super) struct Mean {
    pub(super) bounds: Bounds,
}

impl MeanSettings {
    pub(super) fn compile(&self) -> Result<Mean, Problem> {
        let bounds = Bounds::new(self.window, self.samples_max)?;
        Ok(Mean { bounds })
    }
}

impl Mean {
    pub(super) fn call(&self, value: f64, at_us: i64, samples: &mut Samples) -> f64 {
        samples.advance(at_us, self.bounds);
        samples.push(value, at_us, self.bounds);
        let values = samples.values();
        let count = values.len() as f64;
        values.sum::<f64>() / count
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn the_window_slides() {
        expect![[r#"
            0 1 -> 1.000
            5 3 -> 2.000
            10 5 -> 3.000
            11 7 -> 5.000
            60 9 -> 9.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"mean": {"of": "t", "window": "10s"}}"#,
            "
            0 1
            5 3
            10 5
            11 7
            60 9
            ",
        ));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        expect![[r#"
            0 1 -> 1.000
            1 2 -> 1.500
            2 6 -> 4.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"mean": {"of": "t", "window": "10s", "samples_max": 2}}"#,
            "
            0 1
            1 2
            2 6
            ",
        ));
    }
}
