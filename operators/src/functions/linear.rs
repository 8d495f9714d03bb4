//! `linear`: factor x value + offset. Converts units, calibrates sensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `{linear: {of: temperature, factor: 1.8, offset: 32}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearSettings {
    /// The property to compute from.
    pub of: String,
    /// What it is multiplied by.
    pub factor: f64,
    /// What is added.
    #[serde(default)]
    pub offset: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Linear {
    factor: f64,
    offset: f64,
}

impl LinearSettings {
    pub(super) fn compile(&self) -> Result<Linear, Problem> {
        Ok(Linear {
            factor: super::finite(self.factor, "factor")?,
            offset: super::finite(self.offset, "offset")?,
        })
    }
}

impl Linear {
    pub(super) fn call(&self, value: f64) -> f64 {
        self.factor * value + self.offset
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn celsius_becomes_fahrenheit() {
        expect![[r#"
            0 0 -> 32.000
            1 24.28 -> 75.704
            2 -40 -> -40.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"linear": {"of": "t", "factor": 1.8, "offset": 32}}"#,
            "
            0 0
            1 24.28
            2 -40
            ",
        ));
    }
}
