//! A version of a function that runs beside the one in force (a shadow run): which twins it sees, and what of a
//! twin is compared.

use std::sync::Arc;

use super::call::{OnLate, TrialSpec};
use super::{Augmentation, Emitted, EmittedValue, Failed, Functions, Outside, SHADOWING_PLACE, Target};
use crate::digital::write_value;
use crate::model::Model;
use crate::shadowing::Shadow;

/// A version that runs beside the one in force, compiled.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The function's name.
    pub name: Arc<str>,
    /// Percent of the twins that it runs for.
    pub percent: f64,
    /// It alone.
    pub functions: Functions,
    /// The function in force, by its number among those of the type.
    pub in_force: u16,
    /// Where the function in force has updates go on without it: its place among those outside.
    pub late: Option<u16>,
    targets: Vec<Target>,
    inputs: Vec<u16>,
}

/// What a version gave to an update: the values of what it writes, as JSON and in order, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Number of the update.
    pub update: u64,
    /// A value of each of [`Trial::targets`]; none where there is none.
    pub values: Result<Vec<Option<String>>, String>,
}

impl Trial {
    pub(super) fn new(
        in_force: u16,
        spec: &TrialSpec,
        mut functions: Functions,
        outside: &[Outside],
    ) -> Self {
        for outside in &mut functions.outside {
            // What it gives is compared update by update, so updates meet it in their order.
            outside.on_late = OnLate::Wait;
        }
        let late = outside.iter().position(|one| one.number() == in_force && one.on_late != OnLate::Wait);
        let numbers = functions.all.iter().map(|one| one.target);
        let targets = numbers.chain(functions.yields().flat_map(|one| one.targets.clone()));
        Self {
            name: functions.names[0].clone(),
            percent: spec.percent,
            in_force,
            late: late.map(|place| place as u16),
            targets: targets.collect(),
            inputs: functions.inputs(),
            functions,
        }
    }

    /// Which of its function's versions it is.
    pub fn version(&self) -> u32 {
        self.functions.versions().next().map_or(0, |(_, version, _)| version)
    }

    /// It, where it is called outside.
    pub fn outside(&self) -> Option<&Outside> {
        self.functions.outside.first()
    }

    /// Whether it runs for the twin whose id has this hash: always the same twins, and not those of some bins
    /// alone.
    pub fn sees(&self, hash: u64) -> bool {
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (mixed as f64) < self.percent / 100.0 * (1u64 << 32) as f64
    }

    /// What it remembers of a twin at first: what the version in force keeps of it, where both keep something.
    pub(crate) fn begin(&self, in_force: &Functions, augmentation: &Augmentation) -> Augmentation {
        let mut begun = Augmentation::new(&self.functions);
        if let Some(text) = in_force.kept_by(self.in_force, augmentation) {
            self.functions.keep(0, &mut begun, text);
        }
        begun
    }

    /// Names of what it writes: properties and events.
    pub fn targets<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a str> {
        self.targets.iter().map(|target| target.name(model))
    }

    /// Whether it runs on an update that took these properties.
    pub(crate) fn runs_on(&self, taken: &[u16]) -> bool {
        taken.iter().any(|property| self.inputs.contains(property))
    }

    /// What a twin has of what it writes, after an update for which the function with this number ran.
    pub(crate) fn given(
        &self,
        function: u16,
        update: u64,
        (shadow, model): (&Shadow, &Model),
        emitted: &[Emitted],
        failed: &[Failed],
    ) -> Given {
        let failure = failed.iter().find(|one| one.function == function);
        let values = match failure {
            Some(failed) => Err(failed.reason.clone()),
            None => Ok(self.targets.iter().map(|target| target.given(shadow, model, emitted)).collect()),
        };
        Given { update, values }
    }
}

impl Functions {
    /// All that are called: functions outside, those that are tried out, and step 2. What runs them stands in this
    /// order.
    pub fn called(&self) -> impl Iterator<Item = &Outside> {
        let trials = self.trials.iter().filter_map(Trial::outside);
        self.outside.iter().chain(trials).chain(&self.shadowing)
    }

    /// Where what runs a trial outside stands.
    pub fn runner_of(&self, trial: &Trial) -> usize {
        let before = self.trials.iter().take_while(|one| one.name != trial.name);
        self.outside.len() + before.filter(|one| one.outside().is_some()).count()
    }

    /// Where what runs the function outside with this place stands.
    pub fn runner_at(&self, place: u16) -> usize {
        match place {
            SHADOWING_PLACE => self.called().count() - 1,
            place => usize::from(place),
        }
    }

    /// Properties that some function runs on.
    fn inputs(&self) -> Vec<u16> {
        let numbers = self.all.iter().map(|one| one.input);
        let expressions = self.expressions.iter().flat_map(|one| one.inputs.iter().map(|(_, input)| *input));
        let hosted = self.hosted.iter().flat_map(|one| one.inputs.iter().copied());
        let outside = self.outside.iter().flat_map(|one| one.inputs.iter().copied());
        numbers.chain(expressions).chain(hosted).chain(outside).collect()
    }
}

impl Target {
    fn given(self, shadow: &Shadow, model: &Model, emitted: &[Emitted]) -> Option<String> {
        match self {
            Target::Property(number) => {
                let mut json = Vec::new();
                let kind = &model.properties[usize::from(number)].kind;
                write_value(kind, shadow.value(model, number)?, &mut json);
                Some(String::from_utf8_lossy(&json).into_owned())
            }
            Target::Event(event) => {
                let happened = emitted.iter().find(|one| one.event == event)?;
                Some(match &happened.value {
                    EmittedValue::Number(number) => number.to_string(),
                    EmittedValue::Json(json) => json.clone(),
                })
            }
        }
    }
}
