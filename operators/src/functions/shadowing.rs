//! Step 2 as a function outside (`shadow: {http: ...}`): told what a message has mapped, it answers what the twin is
//! to take instead. So an event becomes an update once that is known, and what functions of step 3 see is S' then.

use serde_json::{Map, Value as Json};

use super::call::{CallSettings, FunctionSpec, OnError};
use super::result::{Failed, Outcome, Yields, value_of};
use super::{FunctionKind, Functions, Outside, Target};
use crate::batch::{Event, EventBatch, HeadParts};
use crate::model::Model;
use crate::problem::Problem;

/// The name by which it is known, beside those of `augmentation`.
pub const SHADOWING: &str = "shadow";
/// The number that stands for it among those of the functions outside.
pub const SHADOWING_PLACE: u16 = u16::MAX;

impl Functions {
    /// With step 2 as a function outside.
    pub fn with_shadowing(mut self, spec: &FunctionSpec) -> Result<Self, Problem> {
        let FunctionKind::Outside(kind) = spec.kind else {
            let message = "step 2 is a function that is called: http, python, or wasm with spread: true";
            return Err(Problem::new(
                message,
                "write for example {http: {url: \"http://127.0.0.1:8000/shadow\"}}",
            ));
        };
        let call = &spec.call;
        let plain = CallSettings {
            timeout: call.timeout,
            on_error: call.on_error,
            waiting: call.waiting,
            spread: call.spread,
            ..CallSettings::default()
        };
        if plain != *call || call.on_error == OnError::Skip || spec.trial.is_some() {
            let message = "it is told of all that a message maps, writes what streams map, and is waited for";
            return Err(Problem::new(
                message,
                "beside its kind write timeout, waiting, and on_error: previous or dead_letter",
            ));
        }
        if self.names.iter().any(|name| &**name == SHADOWING) {
            let message = "a function of `augmentation` is called `shadow` as well";
            return Err(Problem::new(message, "give that one another name"));
        }
        let function = self.names.len() as u16;
        let targets = self.mapped.iter().map(|property| Target::Property(*property)).collect();
        let yields = Yields { function, version: spec.version, targets, on_error: call.on_error, kept: None };
        self.names.push(SHADOWING.into());
        self.shadowing = Some(Outside::compile(SHADOWING, kind, call, self.mapped.clone(), yields)?);
        Ok(self)
    }

    /// Step 2, where it is a function outside.
    pub fn shadowing(&self) -> Option<&Outside> {
        self.shadowing.as_ref()
    }

    /// The function outside with this place.
    pub fn called_at(&self, place: u16) -> Option<&Outside> {
        match place {
            SHADOWING_PLACE => self.shadowing.as_ref(),
            place => self.outside.get(usize::from(place)),
        }
    }
}

impl Outside {
    /// The event as the function would have it taken; as one that carries nothing where it gave no good answer.
    pub(crate) fn shadowed(
        &self,
        event: Event<'_>,
        outcome: &Outcome,
        model: &Model,
    ) -> (EventBatch, Option<Failed>) {
        let values = match outcome {
            Outcome::Answered(_, json) => self.values(json, model),
            Outcome::Failed(reason) => Err(reason.clone()),
        };
        let (values, failed) = match values {
            Ok(values) => (values, None),
            Err(reason) => {
                let is_letter = self.yields.on_error == OnError::DeadLetter;
                (Vec::new(), Some(Failed { function: self.yields.function, reason, is_letter }))
            }
        };
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        for (property, value) in &values {
            let (kind, text) = (&model.properties[usize::from(*property)].kind, value.to_string());
            if let Some(value) = value_of(kind, value, &text) {
                batch.push_property(mark, *property, value);
            }
        }
        event.events().for_each(|(number, json)| batch.push_event(mark, number, json));
        batch.finish(mark, event.id, HeadParts::from(event.head));
        (batch, failed)
    }

    /// What it answered, checked: a value of what streams map, each. `null` is none.
    fn values(&self, json: &[u8], model: &Model) -> Result<Vec<(u16, Json)>, String> {
        let object = serde_json::from_slice::<Map<String, Json>>(json);
        let object = object.map_err(|error| format!("the answer is no JSON object: {error}"))?;
        let mut values = Vec::with_capacity(object.len());
        for (name, value) in object {
            let property = model.property(&name).filter(|property| self.inputs.contains(property));
            let property =
                property.ok_or_else(|| format!("the answer has `{name}`, which no stream maps"))?;
            Target::Property(property).check(&value, model)?;
            if !value.is_null() {
                values.push((property, value));
            }
        }
        Ok(values)
    }
}
