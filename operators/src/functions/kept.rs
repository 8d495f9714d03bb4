//! What a function of a user keeps of one twin from one update to the next: a JSON value that it answers beside
//! what it writes, and is told with the next update.
//!
//! ```text
//!   {"twin": .., "properties": {..}, "kept": {"sum": 4.5}}  ──►  {"mean": 1.5, "kept": {"sum": 6.0}}
//! ```
//! It is a part of the twin's record, so it is in checkpoints and goes where the twin goes.

use serde_json::Value as Json;

use super::call::{CallSettings, KEEPS_MAX};
use super::{Augmentation, Functions, Memory, Outside};
use crate::problem::Problem;
use crate::snapshot::{SnapshotError, require};

/// The key under which it stands beside what else is told, and among what is answered.
pub(super) const KEY: &str = "kept";

/// Where what a function keeps stands, and how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The place among the memories of the twin.
    pub(super) place: usize,
    bytes_max: usize,
}

impl Kept {
    /// What the settings beside a function say; its place is known when all functions are.
    pub(super) fn compile(call: &CallSettings, yields: &[&str]) -> Result<Option<Self>, Problem> {
        let Some(bytes_max) = call.keeps else { return Ok(None) };
        let bytes_max = usize::try_from(bytes_max.as_u64()).unwrap_or(usize::MAX);
        if !(1..=KEEPS_MAX).contains(&bytes_max) {
            let message = format!("it keeps {bytes_max} bytes of a twin");
            let help = format!("write a size from 1B to {} kB, such as 1kB", KEEPS_MAX >> 10);
            return Err(Problem::new(message, help).under("keeps"));
        }
        if yields.contains(&KEY) {
            let message = "what it keeps is answered under `kept`, and so is a property";
            return Err(Problem::new(message, "give the property another name").under("keeps"));
        }
        Ok(Some(Self { place: 0, bytes_max }))
    }

    /// Checks what a function wants kept, as it is kept.
    pub(super) fn text(self, value: &Json) -> Result<String, String> {
        if value.is_null() {
            return Ok(String::new());
        }
        let text = value.to_string();
        match text.len() <= self.bytes_max {
            true => Ok(text),
            false => Err(format!("it wants {} bytes kept, at most {}", text.len(), self.bytes_max)),
        }
    }
}

impl Augmentation {
    /// What is kept at a place, as JSON.
    pub(super) fn kept(&self, kept: Kept) -> &str {
        match self.memories.as_ref().and_then(|memories| memories.get(kept.place)) {
            Some(Memory::Kept(text)) if !text.is_empty() => text,
            _ => "null",
        }
    }

    pub(super) fn keep(&mut self, kept: Kept, text: String) {
        if let Some(memory @ Memory::Kept(_)) = self.memory(Some(kept.place)) {
            *memory = Memory::Kept(text);
        }
    }
}

impl Functions {
    /// What a function with this number keeps of a twin, as JSON; none where it keeps nothing.
    pub(crate) fn kept_by<'a>(&self, number: u16, augmentation: &'a Augmentation) -> Option<&'a str> {
        let kept = self.yields().find(|one| one.function == number)?.kept?;
        Some(augmentation.kept(kept))
    }

    /// Has a function with this number keep what another version kept, where it may.
    pub(super) fn keep(&self, number: u16, augmentation: &mut Augmentation, text: &str) {
        let kept = self.yields().find(|one| one.function == number).and_then(|one| one.kept);
        if let Some(kept) = kept.filter(|kept| text.len() <= kept.bytes_max && text != "null") {
            augmentation.keep(kept, text.to_owned());
        }
    }
}

/// The JSON object that a function is told, with what it keeps.
pub(super) fn with_kept(mut body: Vec<u8>, kept: Kept, augmentation: &Augmentation) -> Vec<u8> {
    body.pop();
    for part in [",\"", KEY, "\":", augmentation.kept(kept), "}"] {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

impl Outside {
    /// Whether it keeps something of a twin, so that its next call waits for the answer to the one before.
    pub(crate) fn keeps(&self) -> bool {
        self.yields.kept.is_some()
    }

    /// The JSON object that it is told, with what it keeps.
    pub(crate) fn told(&self, body: Vec<u8>, augmentation: &Augmentation) -> Vec<u8> {
        match self.yields.kept {
            Some(kept) => with_kept(body, kept, augmentation),
            None => body,
        }
    }
}

/// Checks what was read of a checkpoint: it is sent on as it is.
pub(super) fn check(text: &str) -> Result<(), SnapshotError> {
    let is_json = text.is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    require(text.len() <= KEEPS_MAX && is_json, "what a function keeps is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::twin_type;
    use crate::functions::{FunctionKind, FunctionSpec, OnLate};

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let parts = r#"{"properties": {"t": {"type": "double"}, "q": {"type": "double"}, "kept": {"type": "double"}},
                        "streams": {"s": "none"}}"#;
        let model = twin_type("press", parts).model;
        let keeps = |text: &str| CallSettings { keeps: text.parse().ok(), ..CallSettings::default() };
        for (call, expected) in [
            (keeps("1kB"), ""),
            (keeps("0B"), "it keeps 0 bytes"),
            (keeps("1MB"), "write a size from 1B to 64 kB"),
            (CallSettings { yields: vec!["kept".into()], ..keeps("1kB") }, "give the property another name"),
            (CallSettings { on_late: OnLate::Previous, ..keeps("1kB") }, "on_late: wait, or skip"),
        ] {
            let spec = FunctionSpec { kind: FunctionKind::Outside("http"), call, version: 1, trial: None };
            let compiled =
                Functions::compile(&indexmap::IndexMap::from([("q".to_owned(), spec)]), &model, &[0]);
            let said = compiled
                .err()
                .map_or(String::new(), |problems| format!("{}; {}", problems[0].message, problems[0].help));
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        }
    }

    #[test]
    fn what_is_read_is_json_and_no_longer_than_anything_kept() {
        let long = format!("\"{}\"", "x".repeat(KEEPS_MAX));
        for (text, is_good) in
            [("", true), ("{\"a\":[1]}", true), ("{", false), ("1}", false), (&*long, false)]
        {
            assert_eq!(check(text).is_ok(), is_good, "{text:.20}");
        }
    }
}
