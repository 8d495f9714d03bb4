//! How the fleet is: each worker answers for its twins, the answers are added up on worker 0.

use operators::life_cycle::Phase;
use operators::twin::{Twin, TwinType};
use operators::view::Cause;
use serde::{Deserialize, Serialize};

/// How many of the least entangled twins are named.
pub const WORST_MAX: usize = 10;
/// ODTE is counted in steps of a thousandth.
const STEPS: usize = 1_001;

/// How the fleet is; by default that of no twin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// When the last worker answered, microseconds since 1970.
    pub at_us: i64,
    /// Known twins.
    pub twins: u64,
    /// Twins by phase, in the order of [`Phase::ALL`].
    pub phases: [u64; 6],
    /// Twins by what keeps them from being entangled, in the order of [`Cause::ALL`].
    pub causes: [u64; Cause::ALL.len()],
    /// Mean ODTE of the twins that are neither Done nor Stopped.
    pub odte_mean: f64,
    /// The ODTE that 95 % of them have at least, to a thousandth.
    pub odte_p05: f64,
    /// Twins by ODTE, in tenths; the last holds 0.9 to 1.0.
    pub odte_histogram: [u64; 10],
    /// Digital - physical of all observations since the start.
    pub lateness_ms: Percentiles,
    /// Digital - arrival of all observations since the start.
    pub compute_ms: Percentiles,
    /// The least entangled twins, least first.
    pub worst: Vec<Worst>,
}

/// Percentiles of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50: f64,
    /// 99 % are at most this.
    pub p99: f64,
}

/// A twin that is not well entangled, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Its id.
    pub twin: String,
    /// Where in its life it is.
    pub phase: Phase,
    /// ODTE.
    pub odte: f64,
    /// T.
    pub timeliness: f64,
    /// R.
    pub reliability: f64,
    /// A.
    pub availability: f64,
    /// Mean of arrival - device in the window.
    pub transport_ms: Option<f64>,
    /// Mean of digital - arrival in the window.
    pub compute_ms: Option<f64>,
}

/// One worker's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub(crate) at_us: i64,
    pub(crate) twins: u64,
    pub(crate) phases: [u64; 6],
    causes: [u64; Cause::ALL.len()],
    /// Accepted physical events since the start.
    pub(crate) events: u64,
    /// Dead letters since the start.
    pub(crate) dead_letters: u64,
    /// Digital events since the start.
    pub(crate) digital_events: u64,
    odte_sum: f64,
    odte_count: u64,
    odte_steps: Vec<u64>,
    pub(crate) lateness: Delays,
    pub(crate) compute: Delays,
    worst: Vec<Worst>,
}

impl Answer {
    /// Adds a twin as it is at an instant; not before its last update, which is what it knows.
    pub(crate) fn add(&mut self, id: &str, twin: &Twin, definition: &TwinType, at_us: i64) {
        let terms = definition.terms_of(twin);
        let at_us = at_us.max(twin.handled.digital_at.0);
        let measure = twin.entanglement.measure(at_us, terms);
        let phase = twin.life_cycle.phase();
        self.causes[Cause::of(twin, definition, at_us, &measure) as usize] += 1;
        self.count(phase, measure.odte, || {
            let lateness = twin.entanglement.lateness(at_us, terms);
            Worst {
                twin: id.to_owned(),
                phase,
                odte: measure.odte,
                timeliness: measure.timeliness,
                reliability: measure.reliability,
                availability: measure.availability,
                transport_ms: lateness.map(|one| one.transport_us / 1e3),
                compute_ms: lateness.map(|one| one.compute_us / 1e3),
            }
        });
    }

    fn count(&mut self, phase: Phase, odte: f64, worst: impl FnOnce() -> Worst) {
        self.twins += 1;
        self.phases[phase as usize] += 1;
        if phase >= Phase::Done {
            return;
        }
        self.odte_sum += odte;
        self.odte_count += 1;
        self.odte_steps.resize(STEPS, 0);
        self.odte_steps[((odte * 1000.0) as usize).min(STEPS - 1)] += 1;
        let is_worse =
            self.worst.len() < WORST_MAX || self.worst.last().is_some_and(|least| odte < least.odte);
        if odte < 1.0 && is_worse {
            self.worst.push(worst());
            self.keep_worst();
        }
    }

    /// Adds another worker's answer to the same question.
    pub fn merge(&mut self, other: Answer) {
        self.at_us = self.at_us.max(other.at_us);
        self.twins += other.twins;
        self.phases.iter_mut().zip(other.phases).for_each(|(sum, count)| *sum += count);
        self.causes.iter_mut().zip(other.causes).for_each(|(sum, count)| *sum += count);
        self.events += other.events;
        self.dead_letters += other.dead_letters;
        self.digital_events += other.digital_events;
        self.odte_sum += other.odte_sum;
        self.odte_count += other.odte_count;
        self.odte_steps.resize(STEPS, 0);
        self.odte_steps.iter_mut().zip(&other.odte_steps).for_each(|(sum, count)| *sum += count);
        self.lateness.merge(&other.lateness);
        self.compute.merge(&other.compute);
        self.worst.extend(other.worst);
        self.keep_worst();
    }

    fn keep_worst(&mut self) {
        self.worst.sort_by(|a, b| a.odte.total_cmp(&b.odte).then_with(|| a.twin.cmp(&b.twin)));
        self.worst.truncate(WORST_MAX);
    }

    /// What the answers of all workers say together.
    pub fn survey(self) -> Survey {
        let mut odte_histogram = [0; 10];
        for (step, count) in self.odte_steps.iter().enumerate() {
            odte_histogram[(step / 100).min(9)] += count;
        }
        let twentieth = self.odte_count.div_ceil(20).max(1);
        let mut seen = 0;
        let p05 = self.odte_steps.iter().position(|count| {
            seen += count;
            seen >= twentieth
        });
        Survey {
            at_us: self.at_us,
            twins: self.twins,
            phases: self.phases,
            causes: self.causes,
            odte_mean: match self.odte_count {
                0 => 0.0,
                count => self.odte_sum / count as f64,
            },
            odte_p05: p05.unwrap_or(0) as f64 / 1000.0,
            odte_histogram,
            lateness_ms: self.lateness.percentiles_ms(),
            compute_ms: self.compute.percentiles_ms(),
            worst: self.worst,
        }
    }
}

/// How long something took, counted in steps that grow with it: within 3 % from a microsecond on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    counts: Vec<u64>,
}

/// Steps between a power of two and the next.
const STEPS_PER_OCTAVE: u64 = 32;

impl Delays {
    /// Adds a delay; a negative one counts as 0.
    pub fn add(&mut self, delay_us: i64) {
        let step = Self::step(delay_us.max(0) as u64);
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
    }

    fn merge(&mut self, other: &Delays) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    /// The number of a delay's step: exact below 64, then 32 to the octave.
    fn step(delay_us: u64) -> usize {
        if delay_us < 2 * STEPS_PER_OCTAVE {
            return delay_us as usize;
        }
        let octave = u64::from(delay_us.ilog2()) - 5;
        (octave * STEPS_PER_OCTAVE + (delay_us >> octave)) as usize
    }

    /// The middle of a step.
    fn value_us(step: usize) -> f64 {
        let step = step as u64;
        if step < 2 * STEPS_PER_OCTAVE {
            return step as f64;
        }
        let octave = step / STEPS_PER_OCTAVE - 1;
        let low = (step - octave * STEPS_PER_OCTAVE) << octave;
        low as f64 + (1u64 << octave) as f64 / 2.0
    }

    /// The delay that this share of all is at most, in microseconds.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        step.map_or(0.0, Self::value_us)
    }

    fn percentiles_ms(&self) -> Percentiles {
        Percentiles { p50: self.quantile_us(0.5) / 1e3, p99: self.quantile_us(0.99) / 1e3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(twin: &str, odte: f64) -> Worst {
        Worst {
            twin: twin.into(),
            phase: Phase::Disentangled,
            odte,
            timeliness: odte,
            reliability: 1.0,
            availability: 1.0,
            transport_ms: None,
            compute_ms: None,
        }
    }

    #[test]
    fn answers_add_up() {
        let answer = |from: u32, to: u32| {
            let mut answer = Answer::default();
            for number in from..to {
                let odte = f64::from(number) / 100.0;
                answer.count(Phase::Disentangled, odte, || worst(&number.to_string(), odte));
            }
            answer.count(Phase::Done, 0.0, || worst("done", 0.0));
            answer
        };
        let mut all = answer(0, 50);
        all.merge(answer(50, 100));
        let survey = all.survey();
        assert_eq!(survey.twins, 102);
        assert_eq!(survey.phases, [0, 0, 0, 100, 2, 0]);
        assert!((survey.odte_mean - 0.495).abs() < 1e-9);
        assert_eq!(survey.odte_p05, 0.04);
        assert_eq!(survey.odte_histogram, [10; 10]);
        let named: Vec<_> = survey.worst.iter().map(|one| one.twin.as_str()).collect();
        assert_eq!(named, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }

    #[test]
    fn delays_are_counted_within_three_percent() {
        for delay_us in [0, 1, 63, 64, 65, 100, 999, 12_345, 1_000_000, 86_400_000_000_i64] {
            let mut delays = Delays::default();
            delays.add(delay_us);
            let found = delays.quantile_us(0.5);
            let error = (found - delay_us as f64).abs();
            assert!(error <= delay_us as f64 * 0.03 + 0.5, "{delay_us}: {found}");
        }
    }
}
