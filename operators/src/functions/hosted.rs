//! Functions in process whose code is a user's (`wasm`): called on the worker's own thread, chained with the
//! twin's other steps (rule 6.3), and done when they return. What runs the code, and what keeps it within its
//! limits, is a [`Host`]; nothing more is known of it here.
//!
//! ```text
//!   numbers   values of `of` in their order, NaN where there is none ──► a number, or none
//!   body      the JSON object that functions outside are told too    ──► a JSON object
//! ```

use std::fmt;
use std::sync::Arc;

use serde_json::{Number, Value as Json};

use super::call::CallSettings;
use super::kept::with_kept;
use super::result::{Written, Yields};
use super::{Functions, Occasion, Target, Told, write_body};
use crate::model::{Kind, Model, Value};
use crate::problem::Problem;

/// Runs the code of one function, for all workers: any of them may call it at any time. A call ends by itself,
/// and what is kept from one to the next is of no twin.
pub trait Host: Send + Sync {
    /// The word of its kind in a job file.
    fn kind(&self) -> &'static str;

    /// What the function is called with.
    fn takes(&self) -> Takes;

    /// Calls a function that takes numbers, with as many as it takes. The result is none where it has none.
    fn call_numbers(&self, inputs: &[f64]) -> Result<Option<f64>, String>;

    /// Calls a function that takes a JSON object. Puts another one into `answer`, in place of what it had.
    fn call_body(&self, body: &[u8], answer: &mut Vec<u8>) -> Result<(), String>;
}

/// What a function is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// So many numbers.
    Numbers(usize),
    /// A JSON object.
    Body,
}

impl Takes {
    /// Whether what stands beside a function goes with what it takes, or what to write instead.
    pub fn check(self, call: &CallSettings) -> Result<(), Problem> {
        let Takes::Numbers(count) = self else { return Ok(()) };
        if call.keeps.is_some() {
            let message = "a function that takes numbers keeps nothing";
            let help = "have it take a JSON object and give another one";
            return Err(Problem::new(message, help).under("keeps"));
        }
        if call.of.len() != count {
            let message = format!("inputs of the function: {count}, properties in `of`: {}", call.of.len());
            let help = "name its inputs in their order: of: [temperature, pressure]";
            return Err(Problem::new(message, help).under("of"));
        }
        if call.yields.len() > 1 {
            let message = format!("it gives one number, and `yields` names {}", call.yields.len());
            let help = "name one, or have the function take a JSON object and give another one";
            return Err(Problem::new(message, help).under("yields"));
        }
        Ok(())
    }
}

/// A host, as settings hold it. Two are the same where they are one.
#[derive(Clone)]
pub struct HostHandle(pub Arc<dyn Host>);

impl PartialEq for HostHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostHandle({}, {:?})", self.0.kind(), self.0.takes())
    }
}

/// A function with a host, compiled.
#[derive(Clone, Debug)]
pub(super) struct Hosted {
    host: HostHandle,
    takes: Takes,
    /// Numbers of the properties that it runs on; where it takes numbers, they are what it is called with.
    pub(super) inputs: Vec<u16>,
    pub(super) yields: Yields,
}

impl Hosted {
    /// Checks that what stands beside it goes with what it takes. `inputs` are the properties that it runs on.
    pub(super) fn compile(
        host: &HostHandle,
        call: &CallSettings,
        inputs: Vec<u16>,
        yields: Yields,
        model: &Model,
    ) -> Result<Self, Problem> {
        let kind = host.0.kind();
        let plain = CallSettings {
            of: call.of.clone(),
            yields: call.yields.clone(),
            on_error: call.on_error,
            keeps: call.keeps,
            ..CallSettings::default()
        };
        if plain != *call {
            let message = format!("{kind} answers at once: nothing waits for it, and nothing is late");
            let help = format!(
                "beside `{kind}` write of, yields, on_error and keeps, or spread: true to have it called; its limits \
                 stand under it"
            );
            return Err(Problem::new(message, help));
        }
        let takes = host.0.takes();
        takes.check(call)?;
        if let Takes::Numbers(_) = takes {
            check_numbers(call, &yields, model)?;
        }
        Ok(Self { host: host.clone(), takes, inputs, yields })
    }

    pub(super) fn takes_body(&self) -> bool {
        self.takes == Takes::Body
    }

    fn runs_on(&self, taken: &[u16]) -> bool {
        taken.iter().any(|property| self.inputs.contains(property))
    }

    fn run_numbers(&self, model: &Model, written: &mut Written<'_>) {
        let number = |property: &u16| {
            let value = written.shadow.value(model, *property);
            value.and_then(Value::as_number).unwrap_or(f64::NAN)
        };
        let inputs: Vec<f64> = self.inputs.iter().map(number).collect();
        match self.host.0.call_numbers(&inputs) {
            Ok(None) => {}
            Ok(Some(result)) => match Number::from_f64(result) {
                Some(number) => self.yields.take_one(&Json::Number(number), model, written),
                None => self.yields.fail(format!("its result is {result}"), model, written),
            },
            Err(reason) => self.yields.fail(reason, model, written),
        }
    }

    fn run_body(&self, body: &[u8], model: &Model, written: &mut Written<'_>) {
        let mut answer = Vec::new();
        let called = match self.yields.kept {
            Some(kept) => {
                let body = with_kept(body.to_vec(), kept, written.augmentation);
                self.host.0.call_body(&body, &mut answer)
            }
            None => self.host.0.call_body(body, &mut answer),
        };
        match called {
            Ok(()) => self.yields.take_answer(self.yields.version, &answer, model, written),
            Err(reason) => self.yields.fail(reason, model, written),
        }
    }
}

impl Functions {
    /// Runs the functions with a host whose input the update took.
    pub(super) fn run_hosted(&self, occasion: &Occasion<'_>, model: &Model, written: &mut Written<'_>) {
        // The same for all: what one writes, another does not see.
        let mut body: Option<Vec<u8>> = None;
        for hosted in &self.hosted {
            match hosted.takes {
                _ if !hosted.runs_on(&written.touched.taken) => {}
                Takes::Numbers(_) => hosted.run_numbers(model, written),
                Takes::Body => {
                    let body = body.get_or_insert_with(|| {
                        let shadow = &*written.shadow;
                        let Occasion { event, type_name, facts, .. } = *occasion;
                        let told = Told { event, update: shadow.update(), type_name, model, facts };
                        write_body(&told, shadow, &self.mapped)
                    });
                    hosted.run_body(body, model, written);
                }
            }
        }
    }
}

/// Numbers come from properties that are numbers, in an order that the job says, and one goes where one may be.
fn check_numbers(call: &CallSettings, yields: &Yields, model: &Model) -> Result<(), Problem> {
    for (index, name) in call.of.iter().enumerate() {
        model.require_number(name).map_err(|problem| problem.under(index.to_string()).under("of"))?;
    }
    match yields.targets[0] {
        Target::Property(number) => match &model.properties[usize::from(number)] {
            property if matches!(property.kind, Kind::Double | Kind::Integer) => Ok(()),
            property => {
                let message = format!("it gives a number, and `{}` is none", property.name);
                Err(Problem::new(message, format!("declare {}: {{type: double}}", property.name)))
            }
        },
        Target::Event(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
