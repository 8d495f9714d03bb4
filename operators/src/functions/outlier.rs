//! `outlier`: an event on a value that is far from the recent ones, by the robust z-score
//! `|x - median| / (1.4826 x MAD)` (Iglewicz and Hoaglin, "How to Detect and Handle Outliers",
//! 1993): one wild value does not hide the next, as it would with mean and standard deviation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::samples::{Bounds, Samples};
use crate::problem::Problem;

/// `{outlier: {of: temperature, window: 5m, sigma: 4}}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierSettings {
    /// The property to watch.
    pub of: String,
    /// How far back values are compared with, by the times of the updates.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub window: std::time::Duration,
    /// How many standard deviations away is far (default 3.5).
    #[serde(default = "sigma")]
    pub sigma: f64,
    /// With fewer values than this nothing is far (default 8).
    #[serde(default = "samples_min")]
    pub samples_min: usize,
    /// Most values that are remembered a twin (default 256, at most 4,096).
    #[serde(default = "samples_max")]
    pub samples_max: usize,
}

fn sigma() -> f64 {
    3.5
}

fn samples_min() -> usize {
    8
}

fn samples_max() -> usize {
    256
}

#[derive(Clone, Debug)]
pub(super) struct Outlier {
    pub(super) bounds: Bounds,
    sigma: f64,
    samples_min: usize,
}

/// Makes the median absolute deviation of normal values their standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// The same for the mean absolute deviation, which serves where more than half the values agree.
const MEAN_AD_TO_SIGMA: f64 = 1.253_314;

impl OutlierSettings {
    pub(super) fn compile(&self) -> Result<Outlier, Problem> {
        let bounds = Bounds::new(self.window, self.samples_max)?;
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(Problem::new("sigma is not above 0", "write sigma: 3.5").under("sigma"));
        }
        if !(2..=self.samples_max).contains(&self.samples_min) {
            let help = format!("write a number from 2 to samples_max ({})", self.samples_max);
            return Err(Problem::new("samples_min can never be met", help).under("samples_min"));
        }
        Ok(Outlier { bounds, sigma: self.sigma, samples_min: self.samples_min })
    }
}

impl Outlier {
    /// The value, where it is an outlier. It is remembered either way, so that a lasting change
    /// becomes the new normal.
    pub(super) fn call(&self, value: f64, at_us: i64, samples: &mut Samples) -> Option<f64> {
        samples.advance(at_us, self.bounds);
        let is_outlier = self.is_outlier(value, samples);
        samples.push(value, at_us, self.bounds);
        is_outlier.then_some(value)
    }

    fn is_outlier(&self, value: f64, samples: &Samples) -> bool {
        if samples.values().len() < self.samples_min {
            return false;
        }
        let mut sorted: Vec<f64> = samples.values().collect();
        let middle = median(&mut sorted);
        let mut deviations: Vec<f64> = sorted.iter().map(|one| (one - middle).abs()).collect();
        let mean_deviation = deviations.iter().sum::<f64>() / deviations.len() as f64;
        let sigma = match median(&mut deviations) {
            0.0 => MEAN_AD_TO_SIGMA * mean_deviation,
            deviation => MAD_TO_SIGMA * deviation,
        };
        // Values that never varied say nothing of what is far.
        sigma > 0.0 && (value - middle).abs() > self.sigma * sigma
    }
}

/// The median; sorts the values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn a_value_far_from_the_recent_ones_is_an_outlier() {
        expect![[r#"
            0 20 -> -
            1 21 -> -
            2 19 -> -
            3 20 -> -
            4 60 -> 60.000
            5 21 -> -
            6 24 -> 24.000
            7 22 -> -
        "#]]
        .assert_eq(&super::super::table(
            r#"{"outlier": {"of": "t", "window": "1m", "sigma": 2, "samples_min": 4}}"#,
            "
            0 20
            1 21
            2 19
            3 20
            4 60
            5 21
            6 24
            7 22
            ",
        ));
    }

    #[test]
    fn values_that_never_varied_have_no_outlier() {
        expect![[r#"
            0 1 -> -
            1 1 -> -
            2 5 -> -
            3 1 -> -
            4 9 -> 9.000
        "#]]
        .assert_eq(&super::super::table(
            r#"{"outlier": {"of": "t", "window": "1m", "sigma": 3, "samples_min": 2}}"#,
            "
            0 1
            1 1
            2 5
            3 1
            4 9
            ",
        ));
    }
}
