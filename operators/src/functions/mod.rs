//! Step 3, augmentation: independent functions, S' -> more properties and events: S''.
//!
//! A function runs when an update carries one of its inputs, sees S' and its own memory of the
//! twin, and nothing else (rule 6.1); so their order does not matter. Those of one number are listed in
//! [`FunctionSettings`], `Function` and the two matches below it: a new one is one file and one
//! line in each. Expressions (`cel`) and functions with a host (`hosted.rs`) see more than one number, and
//! functions outside (`outside.rs`) are called by the dataflow; a twin holds the updates that wait for them
//! ([`Waiting`](crate::waiting)).

mod call;
mod cel;
mod compile;
mod ewma;
mod hosted;
mod kept;
mod linear;
mod mean;
mod outlier;
mod outside;
mod rate;
pub(crate) mod restore;
mod result;
mod samples;
mod shadowing;
mod threshold;
mod trial;

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::call::{
    CallSettings, FunctionKind, FunctionSpec, KEEPS_MAX, OnError, OnLate, TrialSpec, WAITING_MAX,
};
pub use self::cel::CelSettings;
pub use self::ewma::EwmaSettings;
pub use self::hosted::{Host, HostHandle, Takes};
pub use self::linear::LinearSettings;
pub use self::mean::MeanSettings;
pub use self::outlier::OutlierSettings;
pub use self::outside::Outside;
pub(crate) use self::outside::{Told, write_body, write_event};
pub use self::rate::RateSettings;
pub use self::restore::{FunctionLayout, MemoryKind};
pub use self::result::{Failed, Outcome, Written};
pub use self::shadowing::{SHADOWING, SHADOWING_PLACE};
pub use self::threshold::ThresholdSettings;
pub use self::trial::{Given, Trial};

use self::compile::Compiler;
use self::result::Yields;
use crate::batch::Event;
use crate::decode::scalar::check_range;
use crate::model::{Model, Value};
use crate::problem::Problem;
use crate::roster::Facts;

/// Most functions of a type (rule 8.2).
pub const FUNCTIONS_MAX: usize = 64;

/// A function of `augmentation`, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionSettings {
    /// factor x value + offset.
    Linear(LinearSettings),
    /// Mean over a sliding window.
    Mean(MeanSettings),
    /// Exponentially weighted moving average.
    Ewma(EwmaSettings),
    /// Change per unit of time.
    Rate(RateSettings),
    /// Event when a limit is crossed.
    Threshold(ThresholdSettings),
    /// Event on a value far from the recent ones.
    Outlier(OutlierSettings),
    /// An expression over properties.
    Cel(CelSettings),
}

impl FunctionSettings {
    /// The word of the job file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Mean(_) => "mean",
            Self::Ewma(_) => "ewma",
            Self::Rate(_) => "rate",
            Self::Threshold(_) => "threshold",
            Self::Outlier(_) => "outlier",
            Self::Cel(_) => "cel",
        }
    }
}

/// A function of one number, compiled.
#[derive(Clone, Debug)]
enum Function {
    Linear(linear::Linear),
    Mean(mean::Mean),
    Ewma(ewma::Ewma),
    Rate(rate::Rate),
    Threshold(threshold::Threshold),
    Outlier(outlier::Outlier),
}

/// What a function remembers of one twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Memory {
    Samples(samples::Samples),
    Ewma(ewma::Average),
    Rate(rate::Last),
    Threshold(threshold::Raised),
    /// JSON, of a user's function; empty where there is nothing.
    Kept(String),
}

/// What a function writes: a property, or an event of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Property(u16),
    Event(u16),
}

/// The functions of a type, compiled.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    all: Vec<Entry>,
    memories: usize,
    expressions: Vec<cel::Expression>,
    hosted: Vec<hosted::Hosted>,
    outside: Vec<Outside>,
    /// Versions that run beside others.
    trials: Vec<Trial>,
    /// Step 2, where it is a function outside.
    shadowing: Option<Outside>,
    /// Properties that functions may see: those that streams map.
    mapped: Vec<u16>,
    /// Names by their numbers.
    names: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Entry {
    number: u16,
    target: Target,
    input: u16,
    version: u32,
    function: Function,
    /// Where its memory stands among those of the twin.
    memory: Option<usize>,
}

/// The part of a twin's record that functions own. Functions that remember nothing cost nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Augmentation {
    #[allow(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in each of the many twins that remember nothing"
    )]
    memories: Option<Box<Vec<Memory>>>,
}

/// The update on which functions run.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The event.
    pub event: &'a Event<'a>,
    /// The type of the twin, by its name.
    pub type_name: &'a str,
    /// The time of the update: the device's where it is believed, else that of arrival.
    pub at_us: i64,
    /// What the roster says of the twin.
    pub facts: Facts<'a>,
}

/// An event that a function emitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// Number of the event in the type.
    pub event: u16,
    /// Its value.
    pub value: EmittedValue,
}

/// The value of an event that a function emitted.
#[derive(Clone, Debug, PartialEq)]
pub enum EmittedValue {
    /// A number.
    Number(f64),
    /// Anything, as JSON.
    Json(String),
}

impl Functions {
    /// Compiles the functions of a type, or lists every mistake in them. `mapped` are the
    /// properties that streams write.
    pub fn compile<F: Clone + Into<FunctionSpec>>(
        settings: &IndexMap<String, F>,
        model: &Model,
        mapped: &[u16],
    ) -> Result<Self, Vec<Problem>> {
        let specs = settings.iter().map(|(name, spec)| (name.as_str(), spec.clone().into()));
        Compiler::new(specs.collect(), model, mapped).compile()
    }

    /// Names of the functions, by their numbers.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Recorded input waits for every answer, however long it takes (rule 2.3).
    pub fn wait_for_all(&mut self) {
        for outside in self.outside.iter_mut().chain(&mut self.shadowing) {
            (outside.on_late, outside.waiting_max) = (OnLate::Wait, usize::MAX);
        }
    }

    /// Functions that are called outside, in the order of the job.
    pub fn outside(&self) -> &[Outside] {
        &self.outside
    }

    /// Versions that run beside those in force.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// What each function is: its name, its version, and the properties that it writes.
    pub fn versions(&self) -> impl Iterator<Item = (&Arc<str>, u32, Vec<u16>)> {
        let written = |targets: &[Target]| targets.iter().filter_map(|one| one.property()).collect();
        let all = self.all.iter().map(move |one| (one.number, one.version, written(&[one.target])));
        let others = self.yields().map(move |one| (one.function, one.version, written(&one.targets)));
        let shadowing = self.shadowing.iter().map(|one| (one.number(), one.version(), Vec::new()));
        all.chain(others)
            .chain(shadowing)
            .map(|(number, version, targets)| (&self.names[usize::from(number)], version, targets))
    }

    /// Whether one of them is told what the roster says of the twin, where it says something.
    pub(crate) fn see_facts(&self) -> bool {
        !self.outside.is_empty()
            || self.shadowing.is_some()
            || self.hosted.iter().any(hosted::Hosted::takes_body)
            || self.expressions.iter().any(cel::Expression::names_attributes)
    }

    /// Properties that functions may see.
    pub(crate) fn mapped(&self) -> &[u16] {
        &self.mapped
    }

    /// Numbers of the properties that functions write.
    pub fn computed(&self) -> impl Iterator<Item = u16> {
        let others = self.yields().flat_map(|one| &one.targets);
        self.all.iter().map(|entry| &entry.target).chain(others).filter_map(|target| target.property())
    }

    /// What those write that are not of one number.
    fn yields(&self) -> impl Iterator<Item = &Yields> {
        let expressions = self.expressions.iter().map(|one| &one.yields);
        let hosted = self.hosted.iter().map(|one| &one.yields);
        expressions.chain(hosted).chain(self.outside.iter().map(|one| &one.yields))
    }

    /// Runs the functions in process whose input the update took. Answers how many results were no
    /// finite number, or outside the range of their property, and were not taken.
    pub fn run(&self, model: &Model, occasion: &Occasion<'_>, written: &mut Written<'_>) -> u64 {
        let at_us = occasion.at_us;
        let mut refused = 0;
        for entry in &self.all {
            if !written.touched.taken.contains(&entry.input) {
                continue;
            }
            let Some(value) = written.shadow.value(model, entry.input).and_then(Value::as_number) else {
                continue;
            };
            let memory = written.augmentation.memory(entry.memory);
            let Some(result) = entry.function.call(value, at_us, memory) else {
                continue;
            };
            match entry.target {
                Target::Event(event) => {
                    written.emitted.push(Emitted { event, value: EmittedValue::Number(result) });
                }
                Target::Property(property) if is_allowed(model, property, result) => {
                    if written.shadow.compute(model, property, Value::Double(result), entry.version) {
                        written.touched.changed.push(property);
                    }
                }
                Target::Property(_) => refused += 1,
            }
        }
        for expression in &self.expressions {
            let is_input = |(_, number): &(String, u16)| written.touched.taken.contains(number);
            if expression.inputs.iter().any(is_input) {
                expression.run(model, occasion, written);
            }
        }
        self.run_hosted(occasion, model, written);
        refused
    }

    /// Takes what became of the call of a function outside. `index` is its place in [`Functions::outside`].
    pub fn take(&self, index: u16, outcome: &Outcome, model: &Model, written: &mut Written<'_>) {
        if let Some(outside) = self.outside.get(usize::from(index)) {
            outside.yields.take(outcome, model, written);
        }
    }
}

impl Augmentation {
    /// Nothing remembered yet.
    pub fn new(functions: &Functions) -> Self {
        if functions.memories == 0 {
            return Self::default();
        }
        let numbers = functions.all.iter().filter_map(|entry| entry.function.memory());
        let kept = functions.yields().filter(|one| one.kept.is_some());
        let memories = numbers.chain(kept.map(|_| Memory::Kept(String::new())));
        Self { memories: Some(Box::new(memories.collect())) }
    }

    pub(crate) fn warm(&self) -> u64 {
        self.memories.as_ref().map_or(0, |memories| memories.len() as u64)
    }

    fn memory(&mut self, index: Option<usize>) -> Option<&mut Memory> {
        self.memories.as_mut()?.get_mut(index?)
    }
}

impl Target {
    fn property(&self) -> Option<u16> {
        match self {
            Target::Property(property) => Some(*property),
            Target::Event(_) => None,
        }
    }
}

impl Function {
    /// The memory of a twin that the function has not seen yet; none where it needs none.
    fn memory(&self) -> Option<Memory> {
        match self {
            Function::Linear(_) => None,
            Function::Mean(_) | Function::Outlier(_) => Some(Memory::Samples(Default::default())),
            Function::Ewma(_) => Some(Memory::Ewma(Default::default())),
            Function::Rate(_) => Some(Memory::Rate(Default::default())),
            Function::Threshold(_) => Some(Memory::Threshold(Default::default())),
        }
    }

    /// The result for a value at a time, if there is one.
    fn call(&self, value: f64, at_us: i64, memory: Option<&mut Memory>) -> Option<f64> {
        match (self, memory) {
            (Function::Linear(linear), _) => Some(linear.call(value)),
            (Function::Mean(mean), Some(Memory::Samples(samples))) => Some(mean.call(value, at_us, samples)),
            (Function::Ewma(ewma), Some(Memory::Ewma(average))) => Some(ewma.call(value, at_us, average)),
            (Function::Rate(rate), Some(Memory::Rate(last))) => rate.call(value, at_us, last),
            (Function::Threshold(threshold), Some(Memory::Threshold(raised))) => {
                threshold.call(value, raised)
            }
            (Function::Outlier(outlier), Some(Memory::Samples(samples))) => {
                outlier.call(value, at_us, samples)
            }
            _ => None,
        }
    }

    fn emits(&self) -> bool {
        matches!(self, Function::Threshold(_) | Function::Outlier(_))
    }
}

fn is_allowed(model: &Model, property: u16, result: f64) -> bool {
    result.is_finite() && check_range(model.properties[usize::from(property)].range, result).is_ok()
}

/// A duration of the settings that must not be 0.
fn positive_us(duration: std::time::Duration, key: &str) -> Result<i64, Problem> {
    match crate::time::duration_us(duration) {
        0 => Err(Problem::new(format!("{key} is 0"), "write a duration such as 60s").under(key)),
        duration_us => Ok(duration_us),
    }
}

/// A number of the settings that must be finite.
fn finite(number: f64, key: &str) -> Result<f64, Problem> {
    match number.is_finite() {
        true => Ok(number),
        false => {
            let message = format!("{key} is no finite number");
            Err(Problem::new(message, "write a number such as 1.8").under(key))
        }
    }
}

/// Runs one function over a table of `second value` lines; what it answered, a line each.
#[cfg(test)]
fn table(settings: &str, lines: &str) -> String {
    let settings: FunctionSettings = serde_json::from_str(settings).expect("well formed");
    let (_, _, function) = compile::number(&settings).expect("it is of one number");
    let function = function.expect("the settings are good");
    let mut memory = function.memory();
    let mut found = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (second, value) = line.split_once(' ').expect("second value");
        let second: f64 = second.parse().expect("a number");
        let value = value.trim().parse().expect("a number");
        let answer = match function.call(value, (second * 1e6) as i64, memory.as_mut()) {
            Some(result) => format!("{result:.3}"),
            None => "-".to_owned(),
        };
        found += &format!("{second} {value} -> {answer}\n");
    }
    found
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::model::{ModelSettings, compile as compile_model};

    fn check(functions: &str, expected: Expect) {
        let model = compile_model(&ModelSettings {
            properties: serde_json::from_str(
                r#"{"t": {"type": "double"}, "f": {"type": "double"}, "n": {"type": "string"}, "i": {"type": "integer"}}"#,
            )
            .expect("well formed"),
            events: serde_json::from_str(r#"{"hot": {"type": "double"}}"#).expect("well formed"),
            ..ModelSettings::default()
        })
        .expect("the model is good");
        let settings: IndexMap<String, FunctionSettings> =
            serde_json::from_str(functions).expect("well formed");
        let found = match Functions::compile(&settings, &model, &[0, 3]) {
            Ok(functions) => format!("good, {} memories", functions.memories),
            Err(problems) => problems
                .iter()
                .map(|one| format!("{}: {} ({})", one.path.join("."), one.message, one.help))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn functions_are_checked() {
        check(
            r#"{"f": {"linear": {"of": "t", "factor": 1.8, "offset": 32}}, "hot": {"threshold": {"of": "t", "above": 80}}}"#,
            expect!["good, 1 memories"],
        );
        check(
            r#"{"f": {"linear": {"of": "x", "factor": 1}}}"#,
            expect!["f.linear.of: there is no property `x` (there are: f, i, n, t)"],
        );
        check(
            r#"{"f": {"linear": {"of": "n", "factor": 1}}}"#,
            expect![
                "f.linear.of: the property `n` is no number (name a property of type double, integer or boolean)"
            ],
        );
        check(
            r#"{"t": {"linear": {"of": "i", "factor": 1}}}"#,
            expect!["t: `t` is written by a stream as well (give the function a property of its own)"],
        );
        check(
            r#"{"f": {"linear": {"of": "f", "factor": 1}}}"#,
            expect![
                "f.linear.of: `f` is computed by a function; functions see what the physical twin sent (name a property that a stream maps)"
            ],
        );
        check(
            r#"{"cold": {"threshold": {"of": "t", "below": 0}}}"#,
            expect![
                "cold: threshold emits an event, and there is no event `cold` (declare it: events: {cold: {type: double}})"
            ],
        );
        check(
            r#"{"f": {"mean": {"of": "t", "window": "0s"}}}"#,
            expect!["f.mean.window: window is 0 (write a duration such as 60s)"],
        );
    }
}
