//! The last values of a property, over a time and up to a number.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Most values that a function remembers of a twin.
pub(super) const SAMPLES_MAX: usize = 4_096;

/// How many, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub window_us: i64,
    pub samples_max: usize,
}

impl Bounds {
    pub(super) fn new(window: std::time::Duration, samples_max: usize) -> Result<Self, Problem> {
        if !(1..=SAMPLES_MAX).contains(&samples_max) {
            return Err(Problem::new(
                format!("samples_max is {samples_max}"),
                format!("write a number from 1 to {SAMPLES_MAX}"),
            )
            .under("samples_max"));
        }
        let window_us = super::positive_us(window, "window")?;
        Ok(Self { window_us, samples_max })
    }
}

/// Values with their times, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples {
    values: VecDeque<(i64, f64)>,
}

impl Samples {
    /// Drops what has left the window that ends at `at_us`.
    pub(super) fn advance(&mut self, at_us: i64, bounds: Bounds) {
        let since_us = at_us.saturating_sub(bounds.window_us);
        while self.values.front().is_some_and(|(at_us, _)| *at_us < since_us) {
            self.values.pop_front();
        }
    }

    /// Adds a value; the oldest makes room where there are too many.
    pub(super) fn push(&mut self, value: f64, at_us: i64, bounds: Bounds) {
        if self.values.len() >= bounds.samples_max {
            self.values.pop_front();
        }
        self.values.push_back((at_us, value));
    }

    /// The values, oldest first: the fixed order of their sums (rule 6.4).
    pub(super) fn values(&self) -> impl ExactSizeIterator<Item = f64> {
        self.values.iter().map(|(_, value)| *value)
    }
}
