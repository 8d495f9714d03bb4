//! What a function gives, as JSON, on its way into the twin: all of it, or nothing where a part of it is no
//! value of what it is for.

use serde_json::{Map, Value as Json};

use super::call::OnError;
use super::kept::{KEY, Kept};
use super::{Augmentation, Emitted, EmittedValue, Target};
use crate::decode::scalar::{Scalar, check_range, check_structure, kind_name, number_scalar, typed};
use crate::model::{Kind, Model, Property, Value};
use crate::shadowing::{Shadow, Touched};

/// What becomes of a call, as a twin keeps it until its update is consolidated.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// This version of the function answered this: a JSON object.
    Answered(u32, Vec<u8>),
    /// There is no answer, and why.
    Failed(String),
}

/// A function that gave no good answer to an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The function, by its number; see [`Functions::names`](super::Functions::names).
    pub function: u16,
    /// What went wrong.
    pub reason: String,
    /// Whether it is to be kept as a dead letter.
    pub is_letter: bool,
}

/// The part of a twin that functions write, and what they have written.
pub struct Written<'a> {
    /// S' on the way to S''.
    pub shadow: &'a mut Shadow,
    /// What functions remember.
    pub augmentation: &'a mut Augmentation,
    /// Properties that were taken, and those that changed.
    pub touched: &'a mut Touched,
    /// Events.
    pub emitted: &'a mut Vec<Emitted>,
    /// Functions that gave no good answer.
    pub failed: &'a mut Vec<Failed>,
}

/// What a function writes, and how what it gives is taken.
#[derive(Clone, Debug)]
pub(super) struct Yields {
    /// The function's number.
    pub(super) function: u16,
    pub(super) version: u32,
    pub(super) targets: Vec<Target>,
    pub(super) on_error: OnError,
    pub(super) kept: Option<Kept>,
}

impl Yields {
    /// Takes what became of a call.
    pub(super) fn take(&self, outcome: &Outcome, model: &Model, written: &mut Written<'_>) {
        match outcome {
            Outcome::Failed(reason) => self.fail(reason.clone(), model, written),
            Outcome::Answered(version, json) => self.take_answer(*version, json, model, written),
        }
    }

    /// Takes what is to be a JSON object of all that it writes, from this version of the function.
    pub(super) fn take_answer(&self, version: u32, json: &[u8], model: &Model, written: &mut Written<'_>) {
        let taken = match serde_json::from_slice::<Map<String, Json>>(json) {
            Ok(object) => self.take_object(version, object, model, written),
            Err(error) => Err(format!("the answer is no JSON object: {error}")),
        };
        if let Err(reason) = taken {
            self.fail(reason, model, written);
        }
    }

    fn take_object(
        &self,
        version: u32,
        mut object: Map<String, Json>,
        model: &Model,
        written: &mut Written<'_>,
    ) -> Result<(), String> {
        let mut values = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let value = object.remove(target.name(model)).unwrap_or(Json::Null);
            target.check(&value, model)?;
            values.push(value);
        }
        let kept = match self.kept.and_then(|kept| Some((kept, object.remove(KEY)?))) {
            Some((kept, value)) => Some((kept, kept.text(&value)?)),
            None => None,
        };
        if let Some(name) = object.keys().next() {
            let known: Vec<&str> = self.targets.iter().map(|target| target.name(model)).collect();
            return Err(format!("the answer has `{name}`, and the function yields {}", known.join(", ")));
        }
        if let Some((kept, text)) = kept {
            written.augmentation.keep(kept, text);
        }
        let pairs = self.targets.iter().zip(&values);
        pairs.for_each(|(target, value)| set(*target, value, version, model, written));
        Ok(())
    }

    /// Takes the one value of a function that writes one thing.
    pub(super) fn take_one(&self, value: &Json, model: &Model, written: &mut Written<'_>) {
        let target = self.targets[0];
        match target.check(value, model) {
            Ok(()) => set(target, value, self.version, model, written),
            Err(reason) => self.fail(reason, model, written),
        }
    }

    /// Applies the function's policy to what went wrong.
    pub(super) fn fail(&self, reason: String, model: &Model, written: &mut Written<'_>) {
        if self.on_error == OnError::Skip {
            for target in &self.targets {
                if let Target::Property(number) = *target
                    && written.shadow.unset(model, number)
                {
                    written.touched.changed.push(number);
                }
            }
        }
        let is_letter = self.on_error == OnError::DeadLetter;
        written.failed.push(Failed { function: self.function, reason, is_letter });
    }
}

/// Writes a value that was checked. `null` is none.
fn set(target: Target, value: &Json, version: u32, model: &Model, written: &mut Written<'_>) {
    match target {
        _ if value.is_null() => {}
        Target::Event(event) => {
            let value = EmittedValue::Json(value.to_string());
            written.emitted.push(Emitted { event, value });
        }
        Target::Property(number) => {
            let kind = &model.properties[usize::from(number)].kind;
            let text = if value.is_array() || value.is_object() { value.to_string() } else { String::new() };
            let Some(value) = value_of(kind, value, &text) else { return };
            if written.shadow.compute(model, number, value, version) {
                written.touched.changed.push(number);
            }
        }
    }
}

/// A value that was checked, as a property of this kind has it. `text` is its JSON, where it is an array or object.
pub(super) fn value_of<'v>(kind: &Kind, value: &'v Json, text: &'v str) -> Option<Value<'v>> {
    match scalar(value) {
        Some(scalar) => typed(kind, scalar),
        None => Some(Value::Json(text)),
    }
}

impl Target {
    pub(super) fn name(self, model: &Model) -> &str {
        match self {
            Target::Property(number) => &model.properties[usize::from(number)].name,
            Target::Event(number) => &model.events[usize::from(number)],
        }
    }

    /// Whether a value may be written there, or why not. `null` always may: it is none.
    pub(super) fn check(self, value: &Json, model: &Model) -> Result<(), String> {
        match self {
            Target::Property(number) if !value.is_null() => {
                let property = &model.properties[usize::from(number)];
                check(property, value).map_err(|reason| format!("`{}`: {reason}", property.name))
            }
            Target::Property(_) | Target::Event(_) => Ok(()),
        }
    }
}

fn check(property: &Property, value: &Json) -> Result<(), String> {
    let Some(scalar) = scalar(value) else {
        return match property.kind {
            Kind::Array { .. } | Kind::Object => check_structure(&property.kind, value),
            _ => Err(format!("an array or object is no {}", kind_name(&property.kind))),
        };
    };
    let number = match typed(&property.kind, scalar) {
        Some(value) => value.as_number(),
        None => return Err(format!("{value} is no {}", kind_name(&property.kind))),
    };
    number.map_or(Ok(()), |number| check_range(property.range, number))
}

fn scalar(value: &Json) -> Option<Scalar<'_>> {
    match value {
        Json::Bool(flag) => Some(Scalar::Bool(*flag)),
        Json::Number(number) => Some(number_scalar(number)),
        Json::String(text) => Some(Scalar::Text(text)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
