//! Functions that are called outside of the twin's own step (`http`, `python`): what is asked of them. How the
//! call goes out and comes back is not known here; how a twin waits for it is in `waiting.rs`.

use std::sync::Arc;

use super::call::{CallSettings, OnLate, WAITING_MAX};
use super::result::Yields;
use crate::batch::Event;
use crate::digital::{key_integer, write_text, write_value};
use crate::model::{Model, Value};
use crate::problem::Problem;
use crate::roster::Facts;
use crate::shadowing::Shadow;
use crate::time::{Rfc3339, duration_us, is_writable};

/// A function outside, compiled.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Its name in the job.
    pub name: Arc<str>,
    /// Its kind by the word of the job file.
    pub kind: &'static str,
    /// How long an answer is waited for, microseconds.
    pub timeout_us: i64,
    /// What becomes of an update while its answer is not there.
    pub on_late: OnLate,
    /// Most updates of one twin that wait for it.
    pub waiting_max: usize,
    /// Numbers of the properties that it runs on.
    pub(super) inputs: Vec<u16>,
    pub(super) yields: Yields,
}

impl Outside {
    pub(super) fn compile(
        name: &str,
        kind: &'static str,
        call: &CallSettings,
        inputs: Vec<u16>,
        yields: Yields,
    ) -> Result<Self, Problem> {
        let timeout_us = duration_us(call.timeout);
        if timeout_us == 0 {
            return Err(Problem::new("timeout is 0", "write a duration such as 2s").under("timeout"));
        }
        if !(1..=WAITING_MAX).contains(&call.waiting) {
            let message = format!("waiting is {}", call.waiting);
            let help = format!("write a number of updates from 1 to {WAITING_MAX}");
            return Err(Problem::new(message, help).under("waiting"));
        }
        if yields.kept.is_some() && call.on_late == OnLate::Previous {
            let message = "a function that keeps something is called once it has answered the call before";
            let help = "write on_late: wait, or skip";
            return Err(Problem::new(message, help).under("on_late"));
        }
        Ok(Self {
            name: name.into(),
            kind,
            timeout_us,
            on_late: call.on_late,
            waiting_max: call.waiting,
            inputs,
            yields,
        })
    }

    /// Which of its versions it is.
    pub fn version(&self) -> u32 {
        self.yields.version
    }

    /// Its number among the functions of its type.
    pub fn number(&self) -> u16 {
        self.yields.function
    }

    /// Whether it runs on an update that took these properties.
    pub fn runs_on(&self, taken: &[u16]) -> bool {
        taken.iter().any(|property| self.inputs.contains(property))
    }
}

/// What a function outside is told of an update, beside values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) event: &'a Event<'a>,
    /// Number of the update.
    pub(crate) update: u64,
    pub(crate) type_name: &'a str,
    pub(crate) model: &'a Model,
    pub(crate) facts: Facts<'a>,
}

/// Writes what a function outside is told of an update: a JSON object with the shadowed properties (S'), the
/// attributes, the twin, and the times of the update (rule 6.1).
pub(crate) fn write_body(told: &Told<'_>, shadow: &Shadow, mapped: &[u16]) -> Vec<u8> {
    let value = |property: &u16| Some((*property, shadow.value(told.model, *property)?));
    write_values(told, mapped.iter().filter_map(value))
}

/// The same with what the event itself carries.
pub(crate) fn write_event(told: &Told<'_>) -> Vec<u8> {
    write_values(told, told.event.properties())
}

fn write_values<'v>(told: &Told<'_>, values: impl Iterator<Item = (u16, Value<'v>)>) -> Vec<u8> {
    let Told { event, update, type_name, model, facts } = *told;
    let mut out = Vec::with_capacity(192 + 24 * values.size_hint().1.unwrap_or_default());
    out.extend_from_slice(b"{\"twin\":");
    write_text(event.id, &mut out);
    out.extend_from_slice(b",\"type\":");
    write_text(type_name, &mut out);
    key_integer(&mut out, b",\"update\":", update);
    let mut clock = Rfc3339::default();
    for (key, at_us) in [
        (&b",\"physical_at\":"[..], event.head.physical_at.0),
        (b",\"arrived_at\":", event.head.arrived_at.0),
    ] {
        out.extend_from_slice(key);
        match is_writable(at_us) {
            true => {
                out.push(b'"');
                clock.write(at_us, &mut out);
                out.push(b'"');
            }
            false => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b",\"properties\":{");
    let mut first = true;
    for (number, value) in values {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let property = &model.properties[usize::from(number)];
        write_text(&property.name, &mut out);
        out.push(b':');
        write_value(&property.kind, value, &mut out);
    }
    out.push(b'}');
    if !model.attributes.is_empty() {
        out.extend_from_slice(b",\"attributes\":{");
        write_attributes(facts, model, &mut out);
        out.push(b'}');
    }
    out.push(b'}');
    out
}

fn write_attributes(facts: Facts<'_>, model: &Model, out: &mut Vec<u8>) {
    let mut first = true;
    for (name, held) in facts.attributes(model) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        let (kind, value) = held.as_value();
        write_value(&kind, value, out);
    }
}
