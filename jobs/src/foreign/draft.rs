//! What a model file comes to: the declarations that a type is filled with, and what could not be carried over, each
//! with its place and the reason.
//!
//! ```text
//!  wot, dtdl ─► Draft ─┬─ text ─► the job (`declares`), where it is read as if it had been written there
//!                      └─ notes ─► validate, explain
//! ```

use std::collections::HashMap;

use indexmap::IndexMap;
use operators::model::{
    self, ActionSettings, EventSettings, KindName, ModelSettings, PropertySettings, RelationshipSettings,
};
use operators::problem::Problem;
use serde_json::Value;

use super::files::{Place, Wrong};

/// Most words that one note lists.
const WORDS_MAX: usize = 8;
/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 512;
/// What a relationship leads to where the file does not say.
const ANYTHING: &str = "any";

/// Something that was not carried over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Note {
    /// Where it stands.
    pub place: Place,
    /// Keys down to it, with dots.
    pub path: String,
    /// What, and why.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Something of a model file that is being read.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// What it is: `property`, `event`, `action`.
    pub what: &'static str,
    /// Its name here.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

impl Subject {
    fn path(&self) -> String {
        format!("{}.{}", group_of(self.what), self.name)
    }
}

/// The key of a job file under which such things stand.
fn group_of(what: &str) -> &'static str {
    match what {
        "event" => "events",
        "action" => "actions",
        "relationship" => "relationships",
        _ => "properties",
    }
}

/// What is said once of many things, such as that they have a key that means nothing here.
#[derive(Debug)]
struct Gathered {
    place: Place,
    words: Vec<String>,
    help: &'static str,
}

/// What a model file comes to.
#[derive(Debug)]
pub(super) struct Draft {
    /// What tells the model apart from others, so that relationships of others may lead to its type.
    pub id: String,
    /// The declarations.
    pub model: ModelSettings,
    /// What was not carried over.
    pub notes: Vec<Note>,
    /// What relationships lead to, by their names, as [`Draft::id`] of another model.
    pub targets: IndexMap<String, String>,
    places: HashMap<(&'static str, String), Place>,
    gathered: IndexMap<&'static str, Gathered>,
}

impl Draft {
    pub fn new(id: String) -> Self {
        Self {
            id,
            model: ModelSettings::default(),
            notes: Vec::new(),
            targets: IndexMap::new(),
            places: HashMap::new(),
            gathered: IndexMap::new(),
        }
    }

    /// Notes what is not carried over of a subject.
    pub fn note(&mut self, of: &Subject, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.notes.push(Note { place, path: of.path(), message: message.into(), help: help.into() });
    }

    /// Notes that a subject is not carried over at all.
    pub fn refuse(&mut self, of: &Subject, place: Place, why: &str, help: impl Into<String>) {
        self.note(of, place, format!("the {} `{}` is not carried over: {why}", of.what, of.name), help);
    }

    /// Notes that the words of an enum are sent as numbers.
    pub fn needs_map<'w>(
        &mut self,
        of: &Subject,
        place: Place,
        words: impl Iterator<Item = (String, &'w String)>,
    ) {
        let pairs: Vec<String> = words.map(|(sent, word)| format!("{sent}: {word}")).collect();
        let message = format!("the {} `{}` is sent as a number, and has words here", of.what, of.name);
        let help = format!("where a stream maps it, write {{pointer: .., map: {{{}}}}}", pairs.join(", "));
        self.note(of, place, message, help);
    }

    /// One more of those of which the same is said.
    pub fn gather(&mut self, place: Place, said: &'static str, word: impl Into<String>, help: &'static str) {
        let gathered = self.gathered.entry(said);
        let gathered = gathered.or_insert_with(|| Gathered { place, words: Vec::new(), help });
        let word = word.into();
        if !gathered.words.contains(&word) {
            gathered.words.push(word);
        }
    }

    /// Declares a property.
    pub fn property(&mut self, of: &Subject, settings: PropertySettings) {
        if self.is_free(of) {
            self.model.properties.insert(of.name.clone(), settings);
        }
    }

    /// Declares an event.
    pub fn event(&mut self, of: &Subject, kind: KindName, description: Option<String>) {
        if self.is_free(of) {
            self.model.events.insert(of.name.clone(), EventSettings { kind, description });
        }
    }

    /// Declares an action.
    pub fn action(&mut self, of: &Subject, input: Option<PropertySettings>, description: Option<String>) {
        if self.is_free(of) {
            self.model.actions.insert(of.name.clone(), ActionSettings { input, description });
        }
    }

    /// Declares a relationship to what `target` tells apart; it is called `name` where no type of the job is it.
    pub fn relationship(
        &mut self,
        of: &Subject,
        target: Option<(String, String)>,
        description: Option<String>,
    ) {
        if !self.is_free(of) {
            return;
        }
        let to = match target {
            Some((id, name)) => {
                self.targets.insert(of.name.clone(), id);
                name
            }
            None => ANYTHING.to_owned(),
        };
        self.model
            .relationships
            .insert(of.name.clone(), RelationshipSettings { to, from: None, description });
    }

    /// Whether a name is one here, and not taken; remembers where it stands.
    fn is_free(&mut self, of: &Subject) -> bool {
        if let Err(Problem { help, .. }) = model::check_name(&of.name) {
            self.refuse(of, of.place, "that is no name here", help);
            return false;
        }
        let name = &of.name;
        let taken = |group: &str| self.places.contains_key(&(group_of(group), name.clone()));
        // Properties and events are outcomes of functions alike, so they share their names.
        let other = match of.what {
            "event" => taken("property").then_some("a property"),
            "property" => taken("event").then_some("an event"),
            _ => None,
        };
        let other = other.or_else(|| taken(of.what).then_some("another"));
        if let Some(other) = other {
            let help = "declare it in the type under a name of its own";
            self.refuse(of, of.place, &format!("{other} has that name"), help);
            return false;
        }
        self.places.insert((group_of(of.what), name.clone()), of.place);
        true
    }

    /// Ends it: what was gathered becomes notes, and what is declared is checked whole.
    pub fn finish(&mut self) -> Result<(), Wrong> {
        for (said, Gathered { place, words, help }) in std::mem::take(&mut self.gathered) {
            let more = words.len().saturating_sub(WORDS_MAX);
            let mut listed = words[..words.len() - more].join(", ");
            if more > 0 {
                listed += &format!(" and {more} more");
            }
            let message = format!("{said}: {listed}");
            self.notes.push(Note { place, path: String::new(), message, help: help.to_owned() });
        }
        let Err(problems) = model::compile(&self.model) else { return Ok(()) };
        let Some(problem) = problems.into_iter().next() else { return Ok(()) };
        let place = match &problem.path[..] {
            [_, name, ..] => {
                self.places.iter().find(|((_, known), _)| known == name).map(|(_, place)| *place)
            }
            _ => None,
        };
        Err(Wrong { place, message: problem.message, help: problem.help })
    }

    /// The declarations as a value of a job file, on one line; `from` says what they come from.
    pub fn text(&self, from: &str) -> String {
        let model = &self.model;
        let groups = [
            ("properties", json(&model.properties)),
            ("events", json(&model.events)),
            ("relationships", json(&model.relationships)),
            ("actions", json(&model.actions)),
        ];
        let mut text = serde_json::Map::new();
        text.insert("from".into(), from.into());
        for (group, value) in
            groups.into_iter().filter(|(_, value)| value.as_object().is_some_and(|map| !map.is_empty()))
        {
            text.insert(group.into(), value);
        }
        Value::Object(text).to_string()
    }
}

/// Settings as JSON, without what they do not say.
fn json<S: serde::Serialize>(settings: &IndexMap<String, S>) -> Value {
    let mut json = serde_json::to_value(settings).expect("names and settings are always JSON");
    drop_nulls(&mut json);
    json
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

/// A text for people, without what a job file cannot show.
pub(super) fn description(text: &str) -> Option<String> {
    let shown = |c: char| match c {
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => None,
        c if c.is_control() => Some(' '),
        c => Some(c),
    };
    let clean: String = text.chars().filter_map(shown).take(DESCRIPTION_MAX).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// A property of a kind, of which nothing more is said.
pub(super) fn plain(kind: KindName) -> PropertySettings {
    PropertySettings {
        kind,
        unit: None,
        range: None,
        values: None,
        items: None,
        length_max: None,
        description: None,
    }
}

/// Why something of a model file is not carried over.
#[derive(Debug)]
pub(super) struct Left {
    /// Where that stands.
    pub place: Place,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

impl Left {
    pub fn new(place: Place, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place, why: why.into(), help: help.into() }
    }
}
