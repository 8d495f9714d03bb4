//! What is told of a version of a function that runs beside the one that runs.

use dataflows::metrics::TrialEntry;
use dataflows::trials::Difference;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::functions::Trial;

/// A version that runs beside the one that runs, and what has come of it since it does in this start of the job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShadowRun {
    /// Which version it is.
    pub version: u32,
    /// Percent of the twins that it is to run for.
    pub percent: f64,
    /// Twins that it has run for.
    pub twins: u64,
    /// Updates of twins that it did not run for, as there were too many.
    pub left_out: u64,
    /// Updates to which both versions gave something.
    pub compared: u64,
    /// Those to which they gave different things.
    pub different: u64,
    /// Updates to which it gave no good answer.
    pub failures: u64,
    /// Updates to which the other version gave nothing, or too late to be compared.
    pub unpaired: u64,
    /// Differences of each thing that it writes.
    pub properties: Vec<PropertyDifferences>,
    /// The newest differences, the newest last.
    pub samples: Vec<DifferenceSample>,
}

/// Differences of one property or event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PropertyDifferences {
    /// Its name.
    pub name: String,
    /// Updates after which it was different.
    pub different: u64,
    /// The largest difference between two numbers.
    pub largest: Option<f64>,
}

/// An update after which the twin would have been another one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DifferenceSample {
    /// Id of the twin.
    pub twin: String,
    /// Number of the update.
    pub update: u64,
    /// What the version that runs gave.
    pub now: GivenView,
    /// What the version beside it gave.
    pub shadow: GivenView,
}

/// What a version gave to an update.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GivenView {
    /// Values by name, as they were after the update; null where there is none.
    #[schema(value_type = Option<Object>)]
    pub values: Option<Map<String, Value>>,
    /// Why there are none.
    pub failure: Option<String>,
}

impl ShadowRun {
    /// As it was put, and as the run has it.
    pub(super) fn new(trial: Trial, running: Option<&TrialEntry>) -> Self {
        let counts = running.filter(|running| running.version == trial.version);
        let counts = counts.map(|running| running.stats.counts()).unwrap_or_default();
        let names: Vec<&str> = counts.targets.iter().map(|one| one.name.as_str()).collect();
        let given = |values: &Result<Vec<Option<String>>, String>| match values {
            Ok(values) => {
                let named = names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), json(value)));
                GivenView { values: Some(named.collect()), failure: None }
            }
            Err(reason) => GivenView { values: None, failure: Some(reason.clone()) },
        };
        let sample = |one: &Difference| DifferenceSample {
            twin: one.twin.clone(),
            update: one.update,
            now: given(&one.in_force),
            shadow: given(&one.trial),
        };
        let samples = counts.samples.iter().map(sample).collect();
        let properties = counts.targets.iter().map(|one| PropertyDifferences {
            name: one.name.clone(),
            different: one.different,
            largest: one.largest,
        });
        Self {
            version: trial.version,
            percent: trial.percent,
            twins: counts.twins,
            left_out: counts.left_out,
            compared: counts.compared,
            different: counts.different,
            failures: counts.failures,
            unpaired: counts.unpaired,
            properties: properties.collect(),
            samples,
        }
    }
}

fn json(value: &Option<String>) -> Value {
    let value = value.as_deref().map(serde_json::from_str);
    value.and_then(Result::ok).unwrap_or_default()
}
