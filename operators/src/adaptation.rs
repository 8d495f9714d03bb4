//! How the twins of a checkpoint fit a job that has changed since.
//!
//! ```text
//!  Layout before ──┐                 ┌── refused: a type is gone, the kind of a property has changed
//!                  ├── new ──────────┼── warnings: what is dropped, what begins anew
//!  types now ──────┘                 └── Adaptation ── restore(bytes) ──► Twin of the job as it is now
//! ```
//!
//! Types, properties, functions and streams are known by their names, so their order may change. A
//! property that was added has no value yet; one that is gone is dropped. Words of an enum are known by
//! their text. A function goes on with its memory where its kind, its input and what else gives that
//! memory a meaning are the same; else it begins anew. Observations of a stream that is gone, and those of
//! a window whose length has changed, stay as far as they can. Numbers, life cycle and times
//! are kept, and so are verdicts under another T_d.
//!
//! One time is not kept: a twin whose window is longer now than its observations reach counts as bound
//! since they begin, as no one knows what came before.

use std::collections::HashMap;

use crate::entanglement::{Terms, WINDOW_US, WindowChange};
use crate::functions::restore::MemoryOrigin;
use crate::handler;
use crate::layout::{FunctionLayout, Layout, PropertyLayout, TypeLayout};
use crate::model::{KindName, STREAMS_MAX};
use crate::shadowing::restore::Origin;
use crate::snapshot::{SnapshotError, VERSION};
use crate::twin::{Twin, TwinType};
use crate::waiting::{PropertyNow, WaitingChange};

/// Why the twins of a checkpoint cannot be those of the job, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutProblem {
    /// The kind of a property has changed.
    #[error(
        "the property `{property}` of `{twin_type}` was {was} in the checkpoint and is {is} now; give the \
         property another name, or start with --fresh, which begins with empty twins and keeps the checkpoint"
    )]
    KindChanged {
        /// Name of the type.
        twin_type: String,
        /// Name of the property.
        property: String,
        /// Its kind in the checkpoint.
        was: String,
        /// Its kind in the job.
        is: String,
    },
    /// A type is no longer there.
    #[error(
        "the checkpoint has twins of the type `{twin_type}`, which the job no longer has; give the type its \
         name back, or start with --fresh, which begins with empty twins and keeps the checkpoint"
    )]
    TypeGone {
        /// Name of the type.
        twin_type: String,
    },
    /// The layout is not one that a job could have written.
    #[error(
        "the checkpoint's layout of `{twin_type}` is damaged: {what}; restore from an earlier checkpoint, or \
         start with --fresh, which begins with empty twins and keeps the checkpoint"
    )]
    Damaged {
        /// Name of the type.
        twin_type: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What to do with each twin of a checkpoint.
#[derive(Clone, Debug)]
pub struct Adaptation {
    before: Layout,
    /// By the numbers of the types before.
    types: Vec<TypeAdaptation>,
}

/// What to do with each twin of a type. Parts that may stay as they are have nothing to do.
#[derive(Clone, Debug)]
struct TypeAdaptation {
    /// Number of the type before and now.
    from: u16,
    to: u16,
    /// By the numbers of the properties now.
    properties: Option<Vec<Origin>>,
    /// By the numbers of the memories now.
    memories: Option<Vec<MemoryOrigin>>,
    /// For what waits.
    waiting: Option<WaitingChange>,
    window: Option<WindowChange>,
    /// By the numbers of the profiles now, those before.
    profiles: Option<Vec<Option<usize>>>,
    /// The terms now, under which the twin is woken.
    terms: Terms,
}

impl Adaptation {
    /// Compares the layout of a checkpoint with the types of a job. Answers what is lost as well, a
    /// sentence each, or everything that stands in the way.
    pub fn new(before: &Layout, now: &[TwinType]) -> Result<(Self, Vec<String>), Vec<LayoutProblem>> {
        let layout = Layout::of(now);
        let (mut types, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (number, type_before) in before.types.iter().enumerate() {
            let place = layout.types.iter().position(|one| one.name == type_before.name);
            let Some(place) = place else {
                problems.push(LayoutProblem::TypeGone { twin_type: type_before.name.clone() });
                continue;
            };
            let mut comparison = Comparison {
                before: type_before,
                now: &layout.types[place],
                warnings: &mut warnings,
                problems: &mut problems,
            };
            comparison.check_before();
            types.push(TypeAdaptation {
                from: number as u16,
                to: place as u16,
                properties: comparison.properties(),
                memories: comparison.memories(),
                waiting: comparison.waiting(place as u16, number as u16),
                window: comparison.window(),
                profiles: comparison.profiles(),
                terms: now[place].terms.clone(),
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok((Self { before: before.clone(), types }, warnings))
    }

    /// Whether all twins stay as they are, but for when they are woken, and their records are as they are written
    /// now.
    pub fn is_identity(&self) -> bool {
        self.before.records == VERSION && self.types.iter().all(TypeAdaptation::is_identity)
    }

    /// Reads the record of a twin, checks it against the layout that it was written under, and adapts it.
    pub fn restore(&self, bytes: &[u8]) -> Result<Twin, SnapshotError> {
        let twin = Twin::read(bytes, self.before.records)?;
        self.before.check(&twin)?;
        Ok(self.apply(twin))
    }

    /// The same twin under the job as it is now, woken in time for its next tick. It must be a twin that
    /// passed [`Layout::check`] of the layout before; one of a type that the layout does not have is
    /// left as it is.
    pub fn apply(&self, twin: Twin) -> Twin {
        match self.types.get(usize::from(twin.twin_type)) {
            Some(adaptation) => adaptation.apply(twin),
            None => twin,
        }
    }
}

impl TypeAdaptation {
    fn is_identity(&self) -> bool {
        self.from == self.to
            && self.properties.is_none()
            && self.memories.is_none()
            && self.waiting.is_none()
            && self.window.is_none()
            && self.profiles.is_none()
    }

    fn apply(&self, mut twin: Twin) -> Twin {
        twin.twin_type = self.to;
        if let Some(origins) = &self.properties {
            twin.shadow = twin.shadow.adapt(origins);
        }
        if let Some(origins) = &self.memories {
            twin.augmentation = twin.augmentation.adapt(origins);
        }
        if let Some(change) = &self.waiting {
            twin.waiting = twin.waiting.adapt(change);
        }
        if let Some(change) = &self.window {
            twin.entanglement = twin.entanglement.adapt(change, twin.handled.digital_at.0);
        }
        if let (Some(before), Some(expectation)) = (&self.profiles, &mut twin.entanglement.expectation) {
            expectation.adapt_profiles(before);
        }
        handler::rewake(&mut twin, &self.terms);
        twin
    }
}

/// A type before and now, and what is found in comparing the two.
struct Comparison<'a> {
    before: &'a TypeLayout,
    now: &'a TypeLayout,
    warnings: &'a mut Vec<String>,
    problems: &'a mut Vec<LayoutProblem>,
}

impl Comparison<'_> {
    /// A manifest has a checksum, but is text: what comes of it must not panic.
    fn check_before(&mut self) {
        let what = if !WINDOW_US.contains(&self.before.window_us) {
            "its window is no duration"
        } else if self.before.streams.len() > STREAMS_MAX {
            "it has too many streams"
        } else {
            return;
        };
        self.problems.push(LayoutProblem::Damaged { twin_type: self.now.name.clone(), what });
    }

    fn warn(&mut self, what: String) {
        self.warnings.push(format!("{}: {what}", self.now.name));
    }

    fn properties(&mut self) -> Option<Vec<Origin>> {
        let (before, now) = (self.before, self.now);
        let numbers = numbers(before.properties.iter().map(|property| property.name.as_str()));
        let origins: Vec<Origin> = now
            .properties
            .iter()
            .map(|property| {
                let from = numbers.get(property.name.as_str());
                from.map_or(Origin::Nowhere, |from| self.origin(*from, property))
            })
            .collect();
        for gone in &before.properties {
            if !now.properties.iter().any(|property| property.name == gone.name) {
                self.warn(format!(
                    "the property `{}` is no longer in the job, its values are dropped",
                    gone.name
                ));
            }
        }
        let stays = |(number, origin): (usize, &Origin)| match origin {
            Origin::Nowhere => false,
            Origin::Bits(from) | Origin::Text(from) => *from == number,
            Origin::Word(from, words) => {
                let stays = |(word, to): (usize, &Option<u16>)| to.map(usize::from) == Some(word);
                *from == number && words.iter().enumerate().all(stays)
            }
        };
        let stay = before.properties.len() == now.properties.len() && origins.iter().enumerate().all(stays);
        (!stay).then_some(origins)
    }

    fn origin(&mut self, from: usize, now: &PropertyLayout) -> Origin {
        let before = &self.before.properties[from];
        if (before.kind, before.items) != (now.kind, now.items) {
            self.problems.push(LayoutProblem::KindChanged {
                twin_type: self.now.name.clone(),
                property: now.name.clone(),
                was: before.kind_text(),
                is: now.kind_text(),
            });
            return Origin::Nowhere;
        }
        match now.kind {
            KindName::Double | KindName::Integer | KindName::Boolean => Origin::Bits(from),
            KindName::String | KindName::Array | KindName::Object => Origin::Text(from),
            KindName::Enum => {
                let numbers = numbers(now.values.iter().map(String::as_str));
                let words: Vec<Option<u16>> = before
                    .values
                    .iter()
                    .map(|word| numbers.get(word.as_str()).map(|number| *number as u16))
                    .collect();
                for (word, _) in before.values.iter().zip(&words).filter(|(_, to)| to.is_none()) {
                    self.warn(format!(
                        "the property `{}` no longer has the word `{word}`, it is unset where that was its value",
                        now.name
                    ));
                }
                Origin::Word(from, words)
            }
        }
    }

    fn memories(&mut self) -> Option<Vec<MemoryOrigin>> {
        let before: Vec<_> = self.before.functions.iter().filter(|one| one.memory.is_some()).collect();
        let mut origins = Vec::new();
        for function in &self.now.functions {
            let from = before.iter().position(|one| one.target == function.target);
            if let Some(change) = from.and_then(|from| change(before[from], function)) {
                self.warn(format!("the function `{}` begins with no memory: {change}", function.target));
            }
            let Some(kind) = function.memory else { continue };
            origins.push(match from.filter(|from| before[*from] == function) {
                Some(from) => MemoryOrigin::Kept(from),
                None => MemoryOrigin::Begun(kind),
            });
        }
        let stay = before.len() == origins.len()
            && (0..).zip(&origins).all(|(number, origin)| *origin == MemoryOrigin::Kept(number));
        (!stay).then_some(origins)
    }

    /// What waits names properties, events, streams and functions by their numbers.
    fn waiting(&mut self, twin_type: u16, twin_type_before: u16) -> Option<WaitingChange> {
        let (before, now) = (self.before, self.now);
        let places = |before: &[String], now: &[String]| {
            let now = numbers(now.iter().map(String::as_str));
            before.iter().map(|name| now.get(name.as_str()).map(|number| *number as u16)).collect()
        };
        let names = |properties: &[PropertyLayout]| properties.iter().map(|one| one.name.clone()).collect();
        let (before_names, now_names): (Vec<String>, Vec<String>) =
            (names(&before.properties), names(&now.properties));
        let to: Vec<Option<u16>> = places(&before_names, &now_names);
        let words = |from: usize, to: u16| {
            let (from, to) = (&before.properties[from], &now.properties[usize::from(to)]);
            (from.kind == KindName::Enum).then(|| places(&from.values, &to.values))
        };
        let property = |(from, to): (usize, Option<u16>)| {
            to.map(|number| PropertyNow { number, words: words(from, number) })
        };
        let mut streams: Vec<Option<u16>> = places(&before.streams, &now.streams);
        // Presence has the number behind them.
        streams.push(Some(now.streams.len() as u16));
        let change = WaitingChange {
            twin_type,
            properties: to.into_iter().enumerate().map(property).collect(),
            events: places(&before.events, &now.events),
            streams,
            outside: places(&before.called, &now.called),
        };
        (twin_type != twin_type_before || !change.is_identity()).then_some(change)
    }

    /// A profile that is new begins with no observations.
    fn profiles(&self) -> Option<Vec<Option<usize>>> {
        let place = |name: &String| self.before.profiles.iter().position(|before| before == name);
        (self.before.profiles != self.now.profiles).then(|| self.now.profiles.iter().map(place).collect())
    }

    fn window(&mut self) -> Option<WindowChange> {
        let now = numbers(self.now.streams.iter().map(String::as_str));
        let number = |name: &String| now.get(name.as_str()).map(|number| *number as u8);
        let change = WindowChange {
            before_us: self.before.window_us,
            now_us: self.now.window_us,
            streams: self.before.streams.iter().map(number).collect(),
            streams_now: self.now.streams.len(),
        };
        for gone in self.before.streams.iter().filter(|name| !now.contains_key(name.as_str())) {
            self.warn(format!(
                "the stream `{gone}` is no longer in the job, its observations are no stream's until they leave \
                 the window"
            ));
        }
        (!change.is_identity()).then_some(change)
    }
}

/// Why the memory of a function cannot be gone on with, in words; none where it can.
fn change(before: &FunctionLayout, now: &FunctionLayout) -> Option<String> {
    if before == now {
        return None;
    }
    if before.kind != now.kind {
        return Some(format!("its kind was {} and is {}", before.kind, now.kind));
    }
    if before.of != now.of {
        return Some(format!("it was of `{}` and is of `{}`", before.of, now.of));
    }
    let keys = before.settings.keys().chain(now.settings.keys());
    let mut changed = keys.filter(|key| before.settings.get(*key) != now.settings.get(*key));
    let key = changed.next().map_or("its memory", String::as_str);
    let value = |one: &FunctionLayout| one.settings.get(key).map_or("not set".to_owned(), f64::to_string);
    Some(format!("{key} was {} and is {}", value(before), value(now)))
}

/// Numbers by name; of names that stand there twice, the first.
fn numbers<'a>(
    names: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator,
) -> HashMap<&'a str, usize> {
    names.enumerate().rev().map(|(number, name)| (name, number)).collect()
}

#[cfg(test)]
mod tests;
