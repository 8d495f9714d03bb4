//! Functions of a type, from what a job says: each is checked by itself, then against what the others write.

use super::hosted::Hosted;
use super::kept::Kept;
use super::result::Yields;
use super::{
    CallSettings, Entry, FUNCTIONS_MAX, Function, FunctionKind, FunctionSettings, FunctionSpec, Functions,
    Outside, Target, Trial,
};
use crate::model::{Kind, Model};
use crate::problem::Problem;

pub(super) struct Compiler<'a> {
    specs: Vec<(&'a str, FunctionSpec)>,
    model: &'a Model,
    mapped: &'a [u16],
    /// Properties that some function writes.
    computed: Vec<u16>,
    functions: Functions,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(specs: Vec<(&'a str, FunctionSpec)>, model: &'a Model, mapped: &'a [u16]) -> Self {
        let computed = specs.iter().flat_map(|(name, spec)| {
            let names = written(name, &spec.call);
            names.into_iter().filter_map(|name| model.property(name)).collect::<Vec<_>>()
        });
        let computed = computed.collect();
        Self { specs, model, mapped, computed, functions: Functions::default() }
    }

    pub(super) fn compile(mut self) -> Result<Functions, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.specs.len() > FUNCTIONS_MAX {
            problems.push(Problem::new(
                format!("{} functions, at most {FUNCTIONS_MAX}", self.specs.len()),
                "split the type in two",
            ));
        }
        for (name, spec) in std::mem::take(&mut self.specs) {
            self.functions.names.push(name.into());
            if let Err(problem) = self.add(name, &spec).and_then(|()| self.add_trial(name, &spec)) {
                problems.push(problem.under(name));
            }
        }
        self.functions.mapped = self.mapped.to_vec();
        self.functions.place_kept();
        if problems.is_empty() { Ok(self.functions) } else { Err(problems) }
    }

    fn add(&mut self, name: &str, spec: &FunctionSpec) -> Result<(), Problem> {
        match &spec.kind {
            FunctionKind::Inside(FunctionSettings::Cel(settings)) => {
                let call = &spec.call;
                let is_plain = CallSettings { on_error: call.on_error, ..CallSettings::default() } == *call;
                if !is_plain {
                    let message =
                        "an expression says itself what it runs on, writes one thing and waits for nothing";
                    return Err(Problem::new(message, "beside `cel` write on_error, or nothing"));
                }
                let yields = self.yields(&[name], spec)?;
                let expression = settings.compile(self.model, &self.seen(), yields);
                self.functions.expressions.push(expression.map_err(|problem| problem.under("cel"))?);
            }
            FunctionKind::Inside(settings) => self.add_number(name, settings, spec)?,
            FunctionKind::Hosted(host) => {
                let yields = self.yields(&written(name, &spec.call), spec)?;
                let inputs = self.inputs(&spec.call)?;
                let hosted = Hosted::compile(host, &spec.call, inputs, yields, self.model)?;
                self.functions.hosted.push(hosted);
            }
            FunctionKind::Outside(kind) => {
                let yields = self.yields(&written(name, &spec.call), spec)?;
                let inputs = self.inputs(&spec.call)?;
                let outside = Outside::compile(name, kind, &spec.call, inputs, yields)?;
                self.functions.outside.push(outside);
            }
        }
        Ok(())
    }

    /// The version that runs beside a function, compiled as if it stood alone.
    fn add_trial(&mut self, name: &'a str, spec: &FunctionSpec) -> Result<(), Problem> {
        let Some(trial) = &spec.trial else { return Ok(()) };
        for other in written(name, &trial.function.call) {
            let is_other = |property: &u16| self.model.property(other) == Some(*property);
            let is_own = written(name, &spec.call).contains(&other);
            if !is_own && self.computed.iter().any(is_other) {
                return Err(written_by_another(other));
            }
        }
        let alone = Self::new(vec![(name, trial.function.clone())], self.model, self.mapped);
        let functions = alone.compile().map_err(|mut problems| problems.swap_remove(0))?;
        self.functions.trials.push(Trial::new(self.number(), trial, functions, &self.functions.outside));
        Ok(())
    }

    fn add_number(
        &mut self,
        name: &str,
        settings: &FunctionSettings,
        spec: &FunctionSpec,
    ) -> Result<(), Problem> {
        let Some((kind, of, function)) = number(settings) else { return Ok(()) };
        if spec.call != CallSettings::default() {
            let message = format!("{kind} is computed at once and cannot fail; it has no settings beside it");
            return Err(Problem::new(message, format!("write all its settings under `{kind}`")));
        }
        let model = self.model;
        let input = model.require_number(of).map_err(|problem| problem.under("of").under(kind))?;
        self.is_seen(of, input).map_err(|problem| problem.under("of").under(kind))?;
        let function = function.map_err(|problem| problem.under(kind))?;
        let target = number_target(name, kind, &function, model, self.mapped)?;
        let memory = function.memory().map(|_| self.functions.memories);
        self.functions.memories += usize::from(memory.is_some());
        let (number, version) = (self.number(), spec.version);
        self.functions.all.push(Entry { number, target, input, version, function, memory });
        Ok(())
    }

    /// The number of the function that is being added.
    fn number(&self) -> u16 {
        self.functions.names.len() as u16 - 1
    }

    /// What functions may see.
    fn seen(&self) -> Vec<u16> {
        self.mapped.iter().copied().filter(|property| !self.computed.contains(property)).collect()
    }

    fn is_seen(&self, name: &str, property: u16) -> Result<(), Problem> {
        match self.computed.contains(&property) {
            true => Err(Problem::new(
                format!("`{name}` is computed by a function; functions see what the physical twin sent"),
                "name a property that a stream maps",
            )),
            false => Ok(()),
        }
    }

    /// The properties that a function runs on that says so beside its kind.
    fn inputs(&self, call: &CallSettings) -> Result<Vec<u16>, Problem> {
        if call.of.is_empty() {
            return Ok(self.seen());
        }
        let input = |(index, name): (usize, &String)| {
            let property = self.model.require_property(name);
            let seen = property.and_then(|property| self.is_seen(name, property).map(|()| property));
            seen.map_err(|problem| problem.under(index.to_string()).under("of"))
        };
        call.of.iter().enumerate().map(input).collect()
    }

    /// What a function writes: properties of any kind, and events.
    fn yields(&self, names: &[&str], spec: &FunctionSpec) -> Result<Yields, Problem> {
        let mut targets = Vec::new();
        for name in names {
            let target = match (self.model.property(name), self.model.event(name)) {
                (Some(property), _) if self.mapped.contains(&property) => {
                    return Err(written_twice(name));
                }
                (Some(property), _) => Target::Property(property),
                (None, Some(event)) => Target::Event(event),
                (None, None) => {
                    let problem = self.model.require_property(name).err();
                    let help = format!("declare it: properties: {{{name}: {{type: double}}}}, or an event");
                    let message = problem.map_or(String::new(), |problem| problem.message);
                    return Err(Problem::new(format!("{message}, and no such event"), help));
                }
            };
            let is_property = |other: &&u16| Target::Property(**other) == target;
            if self.computed.iter().filter(is_property).count() > 1 || targets.contains(&target) {
                return Err(written_by_another(name));
            }
            targets.push(target);
        }
        let kept = Kept::compile(&spec.call, names)?;
        let on_error = spec.call.on_error;
        Ok(Yields { function: self.number(), version: spec.version, targets, on_error, kept })
    }
}

impl Functions {
    /// What users' functions keep stands behind the memories of the others.
    fn place_kept(&mut self) {
        let hosted = self.hosted.iter_mut().map(|one| &mut one.yields);
        let all = hosted.chain(self.outside.iter_mut().map(|one| &mut one.yields));
        for kept in all.filter_map(|one| one.kept.as_mut()) {
            kept.place = self.memories;
            self.memories += 1;
        }
    }
}

/// The names of what a function writes.
fn written<'s>(name: &'s str, call: &'s CallSettings) -> Vec<&'s str> {
    match call.yields.is_empty() {
        true => vec![name],
        false => call.yields.iter().map(String::as_str).collect(),
    }
}

/// The kind's name, its input, and the function or what is wrong with its settings; none where it is not one of
/// one number.
pub(super) fn number(settings: &FunctionSettings) -> Option<(&'static str, &str, Result<Function, Problem>)> {
    Some(match settings {
        FunctionSettings::Linear(s) => ("linear", &s.of, s.compile().map(Function::Linear)),
        FunctionSettings::Mean(s) => ("mean", &s.of, s.compile().map(Function::Mean)),
        FunctionSettings::Ewma(s) => ("ewma", &s.of, s.compile().map(Function::Ewma)),
        FunctionSettings::Rate(s) => ("rate", &s.of, s.compile().map(Function::Rate)),
        FunctionSettings::Threshold(s) => ("threshold", &s.of, s.compile().map(Function::Threshold)),
        FunctionSettings::Outlier(s) => ("outlier", &s.of, s.compile().map(Function::Outlier)),
        FunctionSettings::Cel(_) => return None,
    })
}

fn number_target(
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
    match mapped.contains(&property) {
        true => Err(written_twice(name)),
        false => Ok(Target::Property(property)),
    }
}

fn written_by_another(name: &str) -> Problem {
    let message = format!("`{name}` is written by another function as well");
    Problem::new(message, "have each function write properties of its own")
}

fn written_twice(name: &str) -> Problem {
    Problem::new(
        format!("`{name}` is written by a stream as well"),
        "give the function a property of its own",
    )
}
