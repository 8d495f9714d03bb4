//! Thing Models of the W3C's Web of Things, version 1.1.
//!
//! ```text
//!  properties ─► properties      actions, `input` ─► actions
//!  events, `data` ─► events      links: tm:submodel, and those to other Things ─► relationships
//! ```
//!
//! How a Thing is spoken to (`forms`, `security`) is not carried over: here streams and connections say that.

mod resolve;
mod schema;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

use std::path::Path;

use indexmap::IndexMap;
use operators::model::KindName;
use schemars::JsonSchema;
use serde::Deserialize;

use self::resolve::Resolver;
use super::draft::{Draft, Left, Subject, description};
use super::files::{Files, Wrong};
use super::json::{Json, Member};

/// `model: {wot: ..}` of a type.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WotSettings {
    /// The Thing Model, from the folder of the job file on.
    pub file: Option<String>,
    /// What stands for the placeholders of the model, `{{NAME}}`, by their names.
    #[serde(default)]
    pub placeholders: IndexMap<String, serde_json::Value>,
    /// Whether what the model calls optional is taken; it is by default.
    pub optional: Option<bool>,
    /// Files that are copies of what the model names by URL, as nothing is fetched.
    #[serde(default)]
    pub copies: IndexMap<String, String>,
}

/// Keys of a model and its parts that say how a Thing is spoken to.
const BINDINGS: [&str; 7] =
    ["forms", "base", "security", "securityDefinitions", "schemaDefinitions", "uriVariables", "profile"];
/// Keys of a model that say nothing of its twins, or are read elsewhere.
const OF_MODEL: [&str; 18] = [
    "@context",
    "@type",
    "id",
    "title",
    "titles",
    "description",
    "descriptions",
    "version",
    "created",
    "modified",
    "support",
    "links",
    "properties",
    "actions",
    "events",
    "tm:optional",
    "tm:required",
    "$schema",
];
/// Keys of actions and events that are read, or say nothing of twins.
const OF_AFFORDANCES: [&str; 8] =
    ["title", "titles", "description", "descriptions", "forms", "uriVariables", "input", "data"];
/// What a link may be for that leads to no other Thing.
const NO_THINGS: [&str; 9] = [
    "type",
    "icon",
    "service-doc",
    "alternate",
    "privacy-policy",
    "license",
    "author",
    "describedby",
    "manifest",
];

/// Reads a Thing Model; `folder` is that of the job.
pub(super) fn read(
    files: &mut Files,
    path: &Path,
    folder: &Path,
    settings: &WotSettings,
) -> Result<Draft, Wrong> {
    let file = files.open(path)?;
    let id = files.get(file).canonical.display().to_string();
    let model = Resolver::new(files, folder, settings).model(file)?;
    let mut reading = Reading { files, draft: Draft::new(id), model: &model };
    let is_taken =
        |group: &str, name: &str| settings.optional != Some(false) || !is_optional(&model, group, name);
    for member in group(&model, "properties")?.iter().filter(|one| is_taken("properties", &one.key)) {
        reading.property(member);
    }
    for member in group(&model, "events")?.iter().filter(|one| is_taken("events", &one.key)) {
        reading.event(member);
    }
    for member in group(&model, "actions")?.iter().filter(|one| is_taken("actions", &one.key)) {
        reading.action(member);
    }
    for link in model.items_of("links") {
        reading.link(link);
    }
    reading.rest();
    reading.draft.finish()?;
    Ok(reading.draft)
}

/// The members of a group of affordances.
fn group<'m>(model: &'m Json, key: &str) -> Result<&'m [Member], Wrong> {
    match model.get(key) {
        Some(group) if group.is_map() => Ok(group.members()),
        Some(group) => {
            let message = format!("`{key}` is not a map");
            Err(Wrong::new(group.place, message, "write names and what they are: {\"temperature\": {..}}"))
        }
        None => Ok(&[]),
    }
}

fn is_optional(model: &Json, group: &str, name: &str) -> bool {
    let pointer = format!("/{group}/{}", name.replace('~', "~0").replace('/', "~1"));
    model.items_of("tm:optional").iter().any(|one| one.text() == Some(&pointer))
}

struct Reading<'a> {
    files: &'a Files,
    draft: Draft,
    model: &'a Json,
}

impl Reading<'_> {
    fn property(&mut self, member: &Member) {
        let of = Subject { what: "property", name: member.key.clone(), place: member.key_place };
        if member.value.flag_of("writeOnly") == Some(true) {
            let help = "declare an action in the type, if it is to be set";
            self.draft.refuse(
                &of,
                member.key_place,
                "it is write-only, so no twin would ever have a value",
                help,
            );
            return;
        }
        if member.value.flag_of("readOnly") != Some(true) {
            self.draft.gather(
                member.key_place,
                "writing to properties is not carried over",
                format!("`{}`", of.name),
                "declare an action in the type for what is to be set",
            );
        }
        match schema::settings(&member.value, &of, &mut self.draft) {
            Ok(settings) => self.draft.property(&of, settings),
            Err(Left { place, why, help }) => self.draft.refuse(&of, place, &why, help),
        }
        self.bindings(&member.value);
    }

    fn event(&mut self, member: &Member) {
        let of = Subject { what: "event", name: member.key.clone(), place: member.key_place };
        let (kind, shown) = match member.value.get("data") {
            None => (KindName::Object, None),
            Some(data) => match schema::settings(data, &of, &mut self.draft) {
                Ok(settings) => {
                    if settings.unit.is_some() || settings.range.is_some() {
                        self.draft.gather(
                            member.key_place,
                            "units and ranges of events are not carried over",
                            format!("`{}`", of.name),
                            "an event has a kind only; describe the rest in its description",
                        );
                    }
                    let kind = match settings.kind {
                        KindName::Enum => KindName::String,
                        kind => kind,
                    };
                    (kind, settings.description)
                }
                Err(Left { place, why, help }) => return self.draft.refuse(&of, place, &why, help),
            },
        };
        self.draft.event(&of, kind, shown_of(&member.value).or(shown));
        self.leftovers(&member.value);
    }

    fn action(&mut self, member: &Member) {
        let of = Subject { what: "action", name: member.key.clone(), place: member.key_place };
        let mut input = None;
        if let Some(schema) = member.value.get("input") {
            match schema::settings(schema, &of, &mut self.draft) {
                Ok(settings) => input = Some(settings),
                Err(Left { place, why, help }) => {
                    let message = format!("the input of the action `{}` is not carried over: {why}", of.name);
                    self.draft.note(&of, place, message, help);
                }
            }
        }
        self.draft.action(&of, input, shown_of(&member.value));
        self.leftovers(&member.value);
    }

    /// A link that leads to another Thing is a relationship.
    fn link(&mut self, link: &Json) {
        let rel = link.text_of("rel").unwrap_or_default();
        let Some(href) = link.text_of("href") else { return };
        let media = link.text_of("type").unwrap_or_default();
        let is_thing = media.is_empty() || media.contains("td+json") || media.contains("tm+json");
        let stem = href.rsplit('/').next().unwrap_or(href).split('.').next().unwrap_or(href);
        let name = match rel {
            "tm:submodel" => link.text_of("instanceName").unwrap_or(stem),
            rel if is_thing && !rel.is_empty() && !NO_THINGS.contains(&rel) => rel,
            _ => {
                let help = "they lead to no other twin";
                return self.draft.gather(link.place, "links are not carried over", format!("`{rel}`"), help);
            }
        };
        let place = link.get("instanceName").or(link.get("rel")).map_or(link.place, |one| one.place);
        let of = Subject { what: "relationship", name: name.to_owned(), place };
        let from = &self.files.get(link.place.file).path;
        let file = from.parent().unwrap_or(Path::new(".")).join(href).canonicalize();
        let id = file.map_or_else(|_| href.to_owned(), |path| path.display().to_string());
        self.draft.relationship(&of, Some((id, stem.to_owned())), None);
    }

    /// What the model says beside its affordances.
    fn rest(&mut self) {
        self.bindings(self.model);
        for member in self.model.members() {
            let key = member.key.as_str();
            if !OF_MODEL.contains(&key) && !BINDINGS.contains(&key) {
                annotation(&mut self.draft, member);
            }
        }
    }

    /// Keys of an action or event that are not carried over.
    fn leftovers(&mut self, affordance: &Json) {
        self.bindings(affordance);
        for member in affordance.members().iter().filter(|one| !OF_AFFORDANCES.contains(&one.key.as_str())) {
            annotation(&mut self.draft, member);
        }
    }

    fn bindings(&mut self, json: &Json) {
        for member in json.members().iter().filter(|one| BINDINGS.contains(&one.key.as_str())) {
            self.draft.gather(
                member.key_place,
                "how a Thing is spoken to is not carried over",
                format!("`{}`", member.key),
                "the type's streams and the job's connections say it: topics, pointers, brokers",
            );
        }
    }
}

/// What says more about something in a way that twins have no place for.
fn annotation(draft: &mut Draft, member: &Member) {
    draft.gather(
        member.key_place,
        "annotations are not carried over",
        format!("`{}`", member.key),
        "they change nothing about the values of twins",
    );
}

/// What it means, for people: the description, or else the title.
fn shown_of(json: &Json) -> Option<String> {
    json.text_of("description").or_else(|| json.text_of("title")).and_then(description)
}
