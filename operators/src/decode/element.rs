//! One element of a message, as its values are collected; whatever decoder found them, they are judged
//! alike (rule 3.7).
//!
//! ```text
//!  decoder ── a value at a leaf of the plan ──► Element ── finish ──► one event of the batch
//!                                                  └─────────────────► or the reason why there is none
//! ```

use serde_json::Value as Json;

use super::plan::{Captured, PropertyTarget, StreamPlan, Target};
use super::scalar::{
    Scalar, any_scalar, check_range, check_structure, device_time, kind_name, number_scalar, scalar_json,
    scalar_of_kind, typed,
};
use super::twin_id::{Record, TwinSource};
use super::{Message, Route};
use crate::batch::{ClaimedTime, EventBatch, HeadParts, Mark};
use crate::model::{Kind, Value};
use crate::time::DeviceTime;

/// A message, and the route that takes it.
#[derive(Clone, Copy)]
pub(super) struct Taken<'a> {
    pub route: &'a Route,
    pub message: &'a Message<'a>,
    pub captured: &'a Captured<'a>,
}

/// Collects one element's values; ends in an event of the batch, or in a reason.
pub(super) struct Element<'r> {
    pub plan: &'r StreamPlan,
    events: &'r mut EventBatch,
    /// The twin's id, where a decoder finds it beside the leaves.
    pub id: &'r mut String,
    mark: Mark,
    /// Device time, and where it is from.
    pub at: Option<(DeviceTime, ClaimedTime)>,
    /// Backfill: not an observation (rule 3.6).
    pub is_historical: bool,
    /// What is wrong with what was taken.
    pub problem: Option<String>,
}

impl<'r> Element<'r> {
    #[inline]
    pub fn new(plan: &'r StreamPlan, events: &'r mut EventBatch, id: &'r mut String) -> Self {
        id.clear();
        Self { plan, mark: events.begin(), events, id, at: None, is_historical: false, problem: None }
    }

    /// The element says whether the twin is up, which is no measurement.
    pub fn say_presence(&mut self, is_up: bool) {
        self.events.push_presence(self.mark, is_up);
        self.is_historical = true;
    }

    /// Whether no value was taken.
    pub fn is_empty(&self) -> bool {
        self.events.pushed(self.mark) == 0
    }

    /// Takes back what was read.
    pub fn fail(&mut self, reason: String) -> String {
        self.events.take_back(self.mark);
        reason
    }

    /// Ends the element, the one with this index in its message.
    #[inline]
    pub fn finish(mut self, taken: Taken<'_>, index: u32) -> Result<(), String> {
        let Taken { route, message, captured } = taken;
        if let Some(problem) = self.problem.take() {
            return Err(self.fail(problem));
        }
        if let TwinSource::Template(template) = &self.plan.twin {
            let record = Record { key: message.key, headers: message.headers };
            if let Err(reason) = template.fill(captured.pattern, &captured.texts, record, self.id) {
                return Err(self.fail(reason));
            }
        }
        if let Err(error) = crate::id::check(self.id) {
            return Err(self.fail(error.to_string()));
        }
        let (physical_at, claimed) = match (self.plan.has_device_time, self.at) {
            (false, _) => (DeviceTime(message.arrived_at.0), ClaimedTime::Arrival),
            (true, Some(at)) => at,
            (true, None) => return Err(self.fail("the device time is missing".into())),
        };
        if self.is_empty() {
            return Err(self.fail("none of the mapped values is there".into()));
        }
        let parts = HeadParts {
            position: message.position,
            element: index,
            physical_at,
            claimed,
            arrived_at: message.arrived_at,
            twin_type: route.twin_type,
            stream: route.stream,
            live: !message.retained && !self.is_historical,
        };
        self.events.finish(self.mark, self.id, parts);
        Ok(())
    }

    fn wrong(&mut self, leaf: usize, message: impl std::fmt::Display) {
        if self.problem.is_none() {
            self.problem = Some(match self.plan.leaves[leaf].pointer.as_str() {
                "" => message.to_string(),
                pointer => format!("`{pointer}`: {message}"),
            });
        }
    }

    /// Takes what stands at a leaf.
    #[inline]
    pub fn take_scalar(&mut self, leaf: usize, scalar: Scalar<'_>) {
        let plan = self.plan;
        match &plan.leaves[leaf].target {
            Target::DeviceTime => match device_time(scalar, plan.time_format) {
                Some(at) => self.at = Some((at, ClaimedTime::Device)),
                None => self.wrong(leaf, "the device time cannot be read"),
            },
            Target::Twin => match scalar {
                Scalar::Text(text) => text.clone_into(self.id),
                Scalar::Unsigned(number) => *self.id = number.to_string(),
                Scalar::Signed(number) => *self.id = number.to_string(),
                _ => self.wrong(leaf, "a twin id is text or an integer"),
            },
            Target::Historical => match scalar {
                Scalar::Bool(flag) => self.is_historical = flag,
                _ => self.wrong(leaf, "the backfill flag is true or false"),
            },
            Target::Event(event) => {
                let json = scalar_json(scalar).to_string();
                self.events.push_event(self.mark, *event, &json);
            }
            Target::Property(target) => self.take_property(leaf, target, scalar),
        }
    }

    fn take_property(&mut self, leaf: usize, target: &PropertyTarget, scalar: Scalar<'_>) {
        if !target.map.is_empty() {
            let key = match scalar {
                Scalar::Text(text) => text.to_owned(),
                other => scalar_json(other).to_string(),
            };
            let Some(meaning) = target.map.get(&key) else {
                return self.wrong(leaf, format_args!("`{key}` is not in the map"));
            };
            return match meaning {
                Json::Bool(flag) => self.take_value(leaf, target, Scalar::Bool(*flag)),
                Json::String(text) => self.take_value(leaf, target, Scalar::Text(text)),
                Json::Number(number) => self.take_value(leaf, target, number_scalar(number)),
                _ => self.wrong(leaf, "the map's value is no scalar"),
            };
        }
        self.take_value(leaf, target, scalar);
    }

    fn take_value(&mut self, leaf: usize, target: &PropertyTarget, scalar: Scalar<'_>) {
        match typed(&target.property.kind, scalar) {
            Some(value) => {
                if let Some(number) = value.as_number()
                    && let Err(message) = check_range(target.property.range, number)
                {
                    return self.wrong(leaf, message);
                }
                self.events.push_property(self.mark, target.index, value);
            }
            None => {
                let message = format!("{} is no {}", scalar_json(scalar), kind_name(&target.property.kind));
                self.wrong(leaf, message);
            }
        }
    }

    /// Takes a text that says by no form of its own what it is: the property's kind decides.
    pub fn take_text(&mut self, leaf: usize, text: &str) {
        let scalar = match &self.plan.leaves[leaf].target {
            Target::Twin => Scalar::Text(text.trim_ascii()),
            Target::DeviceTime | Target::Historical | Target::Event(_) => any_scalar(text.trim_ascii()),
            Target::Property(target) if !target.map.is_empty() => Scalar::Text(text.trim_ascii()),
            Target::Property(target) => scalar_of_kind(&target.property.kind, text),
        };
        self.take_scalar(leaf, scalar);
    }

    /// Takes what stands at a leaf, be it a scalar or not.
    pub fn take_tree(&mut self, leaf: usize, value: &Json) {
        match value {
            Json::Null => self.take_null(leaf),
            Json::Bool(flag) => self.take_scalar(leaf, Scalar::Bool(*flag)),
            Json::Number(number) => self.take_scalar(leaf, number_scalar(number)),
            Json::String(text) => self.take_scalar(leaf, Scalar::Text(text)),
            Json::Array(_) | Json::Object(_) => self.take_structure(leaf, value),
        }
    }

    /// A `null` is a value that is not there; for an event it is a value.
    pub fn take_null(&mut self, leaf: usize) {
        if let Target::Event(event) = self.plan.leaves[leaf].target {
            self.events.push_event(self.mark, event, "null");
        }
    }

    /// Takes an array or object.
    pub fn take_structure(&mut self, leaf: usize, value: &Json) {
        let plan = self.plan;
        match &plan.leaves[leaf].target {
            Target::Event(event) => {
                self.events.push_event(self.mark, *event, &value.to_string());
            }
            Target::Property(target) => match check_structure(&target.property.kind, value) {
                Ok(()) => {
                    let text = value.to_string();
                    self.events.push_property(self.mark, target.index, Value::Json(&text));
                }
                Err(message) => self.wrong(leaf, message),
            },
            Target::DeviceTime | Target::Twin | Target::Historical => {
                self.wrong(leaf, "an array or object stands where a scalar should");
            }
        }
    }

    /// Whether a structure at this leaf is wanted; otherwise it need not be built.
    pub fn wants_structure(&self, leaf: usize) -> bool {
        match &self.plan.leaves[leaf].target {
            Target::Event(_) => true,
            Target::Property(target) => {
                matches!(target.property.kind, Kind::Array { .. } | Kind::Object)
            }
            Target::DeviceTime | Target::Twin | Target::Historical => false,
        }
    }
}
