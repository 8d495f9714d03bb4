//! What comes of a version of a function that runs beside the one in force: counts, and the newest differences.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use operators::functions::Given;
use operators::trial::Pair;

/// Differences that are kept, the newest.
const SAMPLES_MAX: usize = 20;
/// Bytes of a value that are kept of a difference.
const VALUE_BYTES_MAX: usize = 1_024;

/// What has come of a trial in one process. Workers add to it.
pub struct TrialStats(Mutex<TrialCounts>);

/// Counts of a trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrialCounts {
    /// Twins that it runs for.
    pub twins: u64,
    /// Updates of more twins than it may run for.
    pub left_out: u64,
    /// Updates to which both versions gave something.
    pub compared: u64,
    /// Those to which they gave different things.
    pub different: u64,
    /// Updates to which the version that is tried out gave no good answer.
    pub failures: u64,
    /// Updates to which the other version gave nothing, or too late.
    pub unpaired: u64,
    /// What each thing that it writes comes to.
    pub targets: Vec<TargetCounts>,
    /// The newest differences, the newest last.
    pub samples: VecDeque<Difference>,
}

/// Differences of one property or event.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetCounts {
    /// Its name.
    pub name: String,
    /// Updates after which it was different.
    pub different: u64,
    /// The largest difference between two numbers.
    pub largest: Option<f64>,
}

/// An update after which a twin would have been another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Id of the twin.
    pub twin: String,
    /// Number of the update.
    pub update: u64,
    /// What the version in force gave: values as JSON in the order of the targets, or why there are none.
    pub in_force: Result<Vec<Option<String>>, String>,
    /// The same of the version that is tried out.
    pub trial: Result<Vec<Option<String>>, String>,
}

impl TrialStats {
    /// Nothing yet, of a trial that writes what has these names.
    pub fn new<'a>(targets: impl Iterator<Item = &'a str>) -> Self {
        let none = |name: &str| TargetCounts { name: name.to_owned(), different: 0, largest: None };
        Self(Mutex::new(TrialCounts { targets: targets.map(none).collect(), ..TrialCounts::default() }))
    }

    /// The counts now.
    pub fn counts(&self) -> TrialCounts {
        self.locked().clone()
    }

    pub(crate) fn twin(&self) {
        self.locked().twins += 1;
    }

    pub(crate) fn left_out(&self) {
        self.locked().left_out += 1;
    }

    pub(crate) fn unpaired(&self, number: u64) {
        if number > 0 {
            self.locked().unpaired += number;
        }
    }

    /// Compares what two versions gave to one update of a twin.
    pub(crate) fn compare(&self, twin: &str, (in_force, trial): Pair) {
        let mut counts = self.locked();
        counts.compared += 1;
        counts.failures += u64::from(trial.values.is_err());
        let is_different = match (&in_force.values, &trial.values) {
            (Ok(before), Ok(after)) => {
                for (target, (before, after)) in counts.targets.iter_mut().zip(before.iter().zip(after)) {
                    target.compare(before.as_deref(), after.as_deref());
                }
                before != after
            }
            (Err(_), Err(_)) => false,
            _ => true,
        };
        if !is_different {
            return;
        }
        counts.different += 1;
        if counts.samples.len() == SAMPLES_MAX {
            counts.samples.pop_front();
        }
        let update = trial.update;
        let (in_force, trial) = (shown(in_force), shown(trial));
        counts.samples.push_back(Difference { twin: twin.to_owned(), update, in_force, trial });
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, TrialCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetCounts {
    fn compare(&mut self, before: Option<&str>, after: Option<&str>) {
        if before == after {
            return;
        }
        self.different += 1;
        let number = |text: Option<&str>| text?.parse::<f64>().ok();
        if let (Some(before), Some(after)) = (number(before), number(after)) {
            let difference = (after - before).abs();
            self.largest = Some(self.largest.map_or(difference, |largest| largest.max(difference)));
        }
    }
}

/// What is kept of it: values that are long are left out.
fn shown(given: Given) -> Result<Vec<Option<String>>, String> {
    let short = |value: Option<String>| {
        value.map(|value| match value.len() > VALUE_BYTES_MAX {
            true => format!("\"({} bytes)\"", value.len()),
            false => value,
        })
    };
    given.values.map(|values| values.into_iter().map(short).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: Result<&[Option<&str>], &str>) -> Given {
        let values = values.map(|values| values.iter().map(|value| value.map(str::to_owned)).collect());
        Given { update: 7, values: values.map_err(str::to_owned) }
    }

    #[test]
    fn what_differs_is_counted_by_property_and_kept() {
        let stats = TrialStats::new(["q", "word"].into_iter());
        let same = given(Ok(&[Some("1.5"), None]));
        for (in_force, trial) in [
            (same.clone(), same.clone()),
            (same.clone(), given(Ok(&[Some("-2.5"), None]))),
            (same.clone(), given(Ok(&[Some("1.25"), Some("\"high\"")]))),
            (same.clone(), given(Err("timeout"))),
            (given(Err("timeout")), given(Err("another"))),
        ] {
            stats.compare("p-1", (in_force, trial));
        }
        let counts = stats.counts();
        assert_eq!((counts.compared, counts.different, counts.failures), (5, 3, 2));
        let targets: Vec<_> =
            counts.targets.iter().map(|one| (one.name.as_str(), one.different, one.largest)).collect();
        assert_eq!(targets, [("q", 2, Some(4.0)), ("word", 1, None)]);
        assert_eq!(counts.samples.len(), 3);
        assert_eq!(counts.samples[2].trial, Err("timeout".to_owned()));
        let long = format!("\"{}\"", "x".repeat(5_000));
        for _ in 0..30 {
            stats.compare("p-2", (same.clone(), given(Ok(&[Some(&long), None]))));
        }
        let samples = stats.counts().samples;
        assert_eq!(samples.len(), SAMPLES_MAX);
        assert_eq!(samples[0].trial, Ok(vec![Some("\"(5002 bytes)\"".to_owned()), None]));
    }
}
