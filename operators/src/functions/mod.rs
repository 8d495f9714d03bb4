//! Step 3, augmentation: independent functions, S' -> more properties and events: S''.
//!
//! A function runs when an update carries one of its inputs, sees S' and its own memory of the
//! twin, and nothing else (rule 6.1); so their order does not matter. All of them are listed in
//! [`FunctionSettings`], `Function` and the two matches below it: a new one is one file and one
//! line in each.

mod ewma;
mod linear;
mod mean;
mod outlier;
mod rate;
pub(crate) mod restore;
mod samples;
mod threshold;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use self::ewma::EwmaSettings;
pub use self::linear::LinearSettings;
pub use self::mean::MeanSettings;
pub use self::outlier::OutlierSettings;
pub use self::rate::RateSettings;
pub use self::restore::{FunctionLayout, MemoryKind};
pub use self::threshold::ThresholdSettings;

use crate::model::{Kind, Model, Value};
use crate::problem::Problem;
use crate::shadowing::{Shadow, Touched};

/// Most functions of a type (rule 8.2).
pub const FUNCTIONS_MAX: usize = 64;

/// A function of `augmentation`, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// A function, compiled.
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
}

#[derive(Clone, Debug)]
struct Entry {
    target: Target,
    input: u16,
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

/// An event that a function emitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Emitted {
    /// Number of the event in the type.
    pub event: u16,
    /// Its value.
    pub value: f64,
}

impl Functions {
    /// Compiles the functions of a type, or lists every mistake in them. `mapped` are the
    /// properties that streams write.
    pub fn compile(
        settings: &IndexMap<String, FunctionSettings>,
        model: &Model,
        mapped: &[u16],
    ) -> Result<Self, Vec<Problem>> {
        let mut functions = Self::default();
        let mut problems = Vec::new();
        if settings.len() > FUNCTIONS_MAX {
            problems.push(Problem::new(
                format!("{} functions, at most {FUNCTIONS_MAX}", settings.len()),
                "split the type in two",
            ));
        }
        let computed: Vec<u16> = settings.keys().filter_map(|name| model.property(name)).collect();
        for (name, settings) in settings {
            match functions.add(name, settings, model, mapped, &computed) {
                Ok(()) => {}
                Err(problem) => problems.push(problem.under(name)),
            }
        }
        if problems.is_empty() { Ok(functions) } else { Err(problems) }
    }

    fn add(
        &mut self,
        name: &str,
        settings: &FunctionSettings,
        model: &Model,
        mapped: &[u16],
        computed: &[u16],
    ) -> Result<(), Problem> {
        let (kind, of, function) = compile(settings);
        let input = model.require_number(of).map_err(|problem| problem.under("of").under(kind))?;
        if computed.contains(&input) {
            return Err(Problem::new(
                format!("`{of}` is computed by a function; functions see what the physical twin sent"),
                "name a property that a stream maps",
            )
            .under("of")
            .under(kind));
        }
        let function = function.map_err(|problem| problem.under(kind))?;
        let target = compile_target(name, kind, &function, model, mapped)?;
        let memory = function.memory().map(|_| self.memories);
        self.memories += usize::from(memory.is_some());
        self.all.push(Entry { target, input, function, memory });
        Ok(())
    }

    /// Numbers of the properties that functions write.
    pub fn computed(&self) -> impl Iterator<Item = u16> {
        self.all.iter().filter_map(|entry| match entry.target {
            Target::Property(property) => Some(property),
            Target::Event(_) => None,
        })
    }

    /// Runs the functions whose input the update took. `at_us` is the time of the update: the
    /// device's where it is believed, else that of arrival. Answers how many results were no
    /// finite number, or outside the range of their property, and were not taken.
    pub fn run(
        &self,
        shadow: &mut Shadow,
        augmentation: &mut Augmentation,
        model: &Model,
        at_us: i64,
        touched: &mut Touched,
        emitted: &mut Vec<Emitted>,
    ) -> u64 {
        let mut refused = 0;
        for entry in &self.all {
            if !touched.taken.contains(&entry.input) {
                continue;
            }
            let Some(value) = shadow.value(model, entry.input).and_then(Value::as_number) else {
                continue;
            };
            let memory = augmentation.memory(entry.memory);
            let Some(result) = entry.function.call(value, at_us, memory) else {
                continue;
            };
            match entry.target {
                Target::Event(event) => emitted.push(Emitted { event, value: result }),
                Target::Property(property) if is_allowed(model, property, result) => {
                    if shadow.compute(model, property, Value::Double(result)) {
                        touched.changed.push(property);
                    }
                }
                Target::Property(_) => refused += 1,
            }
        }
        refused
    }
}

impl Augmentation {
    /// Nothing remembered yet.
    pub fn new(functions: &Functions) -> Self {
        if functions.memories == 0 {
            return Self::default();
        }
        let memories = functions.all.iter().filter_map(|entry| entry.function.memory());
        Self { memories: Some(Box::new(memories.collect())) }
    }

    pub(crate) fn warm(&self) -> u64 {
        self.memories.as_ref().map_or(0, |memories| memories.len() as u64)
    }

    fn memory(&mut self, index: Option<usize>) -> Option<&mut Memory> {
        self.memories.as_mut()?.get_mut(index?)
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

/// The kind's name, its input, and the function or what is wrong with its settings.
fn compile(settings: &FunctionSettings) -> (&'static str, &str, Result<Function, Problem>) {
    match settings {
        FunctionSettings::Linear(s) => ("linear", &s.of, s.compile().map(Function::Linear)),
        FunctionSettings::Mean(s) => ("mean", &s.of, s.compile().map(Function::Mean)),
        FunctionSettings::Ewma(s) => ("ewma", &s.of, s.compile().map(Function::Ewma)),
        FunctionSettings::Rate(s) => ("rate", &s.of, s.compile().map(Function::Rate)),
        FunctionSettings::Threshold(s) => ("threshold", &s.of, s.compile().map(Function::Threshold)),
        FunctionSettings::Outlier(s) => ("outlier", &s.of, s.compile().map(Function::Outlier)),
    }
}

fn compile_target(
    name: &str,
    kind: &str,
    function: &Function,
    model: &Model,
    mapped: &[u16],
) -> Result<Target, Problem> {
    if function.emits() {
        return model.require_event(name).map(Target::Event).map_err(|problem| {
            Problem::new(
                format!("{kind} emits an event, and {}", problem.message),
                format!("declare it: events: {{{name}: {{type: double}}}}"),
            )
        });
    }
    let property = model.require_property(name)?;
    if model.properties[usize::from(property)].kind != Kind::Double {
        return Err(Problem::new(
            format!("{kind} computes a double, and `{name}` is none"),
            format!("declare {name}: {{type: double}}"),
        ));
    }
    if mapped.contains(&property) {
        return Err(Problem::new(
            format!("`{name}` is written by a stream as well"),
            "give the function a property of its own",
        ));
    }
    Ok(Target::Property(property))
}

fn is_allowed(model: &Model, property: u16, result: f64) -> bool {
    let range = model.properties[usize::from(property)].range;
    result.is_finite() && range.is_none_or(|[least, greatest]| (least..=greatest).contains(&result))
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
    let (_, _, function) = compile(&settings);
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
        let settings = serde_json::from_str(functions).expect("well formed");
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
