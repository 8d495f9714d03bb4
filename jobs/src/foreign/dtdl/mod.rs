//! Interfaces of the Digital Twins Definition Language, versions 2 and 3.
//!
//! ```text
//!  Telemetry, Property ─► properties                Command, its request ─► actions
//!  Telemetry that is an Event ─► events             Relationship ─► relationships
//!  Component ─► what its interface has, each under the component's name: thermostat1_temperature
//! ```

mod library;
mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::rc::Rc;

use operators::model::KindName;
use operators::problem::suggestion;
use schemars::JsonSchema;
use serde::Deserialize;

use self::library::{Library, id_of, is_a, term};
use super::draft::{Draft, Left, Subject, description};
use super::files::{Files, Wrong};
use super::json::{Json, Value};

/// Most levels of interfaces that extend each other, as the language has it.
const DEPTH_MAX: usize = 10;

/// `model: {dtdl: ..}` of a type.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DtdlSettings {
    /// The file with the interface, from the folder of the job file on.
    pub file: Option<String>,
    /// Which of its interfaces it is, by its id; not needed where the file has one.
    pub interface: Option<String>,
}

/// What the elements of `contents` are.
const CLASSES: [&str; 5] = ["Telemetry", "Property", "Command", "Relationship", "Component"];
/// Keys of elements that are read, or say nothing of twins.
const READ: [&str; 13] = [
    "@type",
    "@id",
    "@context",
    "name",
    "displayName",
    "description",
    "comment",
    "schema",
    "unit",
    "request",
    "target",
    "writable",
    "response",
];
/// The same of interfaces.
const OF_INTERFACE: [&str; 9] =
    ["@context", "@id", "@type", "displayName", "description", "comment", "contents", "extends", "schemas"];

/// Reads an interface.
pub(super) fn read(files: &mut Files, path: &Path, settings: &DtdlSettings) -> Result<Draft, Wrong> {
    let file = files.open(path)?;
    let mut library = Library::new(files, path);
    library.add(file)?;
    let known: Vec<&str> = library.ids().collect();
    let wanted = match (&settings.interface, &known[..]) {
        (Some(id), _) => id.clone(),
        (None, [id]) => (*id).to_owned(),
        (None, _) => {
            let message = format!("the file has {} interfaces", known.len());
            let help = format!(
                "say which: model: {{dtdl: {{file: .., interface: ..}}}}; there are: {}",
                known.join(", ")
            );
            return Err(Wrong::at_job(message, help));
        }
    };
    let Some(interface) = library.known(&wanted) else {
        let message = format!("there is no interface `{wanted}` in the file");
        return Err(Wrong::at_job(message, suggestion(&wanted, known.iter().copied())));
    };
    let mut reading = Reading { library, draft: Draft::new(wanted), done: Vec::new() };
    reading.interface(&interface, &mut Vec::new(), "")?;
    reading.draft.finish()?;
    Ok(reading.draft)
}

struct Reading<'a> {
    library: Library<'a>,
    draft: Draft,
    /// What was read, with the prefix of its names: an interface may be extended in two ways.
    done: Vec<(String, String)>,
}

impl Reading<'_> {
    /// An interface and what it extends; its names begin with `prefix`.
    fn interface(&mut self, interface: &Json, chain: &mut Vec<String>, prefix: &str) -> Result<(), Wrong> {
        let id = id_of(interface);
        let read = (id.clone(), prefix.to_owned());
        if self.done.contains(&read) {
            return Ok(());
        }
        self.done.push(read);
        chain.push(id);
        for content in interface.items_of("contents") {
            self.content(content, prefix)?;
        }
        for member in interface.members().iter().filter(|one| !OF_INTERFACE.contains(&one.key.as_str())) {
            self.annotation(member.key_place, &member.key);
        }
        for base in interface.items_of("extends") {
            let base_id = base.text().map_or_else(|| id_of(base), str::to_owned);
            if let Some(begin) = chain.iter().position(|one| *one == base_id) {
                let circle: Vec<&str> = chain[begin..].iter().chain([&base_id]).map(String::as_str).collect();
                let message = format!("the interface extends itself: {}", circle.join(" -> "));
                return Err(Wrong::new(base.place, message, "take one of these `extends` out"));
            }
            if chain.len() >= DEPTH_MAX {
                let message = format!("more than {DEPTH_MAX} levels of interfaces extend each other");
                return Err(Wrong::new(
                    base.place,
                    message,
                    "DTDL allows no more; make the hierarchy flatter",
                ));
            }
            let found = match base.text() {
                Some(id) => self.library.find(id).map_err(|wrong| wrong.or_at(base.place))?,
                None => Some(Rc::new(base.clone())),
            };
            let Some(found) = found else {
                let message = format!("there is no interface `{base_id}`");
                return Err(Wrong::new(base.place, message, self.library.help(&base_id)));
            };
            self.interface(&found, chain, prefix)?;
        }
        chain.pop();
        Ok(())
    }

    fn content(&mut self, content: &Json, prefix: &str) -> Result<(), Wrong> {
        let types: Vec<&str> = content.items_of("@type").iter().filter_map(Json::text).map(term).collect();
        let Some(class) = CLASSES.into_iter().find(|class| types.contains(class)) else {
            let message = format!("`{}` is no kind of content", types.join(", "));
            let place = content.get("@type").map_or(content.place, |one| one.place);
            return Err(Wrong::new(place, message, suggestion(types.first().unwrap_or(&""), CLASSES)));
        };
        let Some(name) = content.text_of("name") else {
            return Err(Wrong::new(
                content.place,
                format!("the {class} has no name"),
                "add \"name\": \"..\"",
            ));
        };
        let place = content.get("name").map_or(content.place, |one| one.place);
        let what = match class {
            "Relationship" => "relationship",
            "Command" => "action",
            "Component" => "component",
            "Telemetry" if types.contains(&"Event") => "event",
            _ => "property",
        };
        let of = Subject { what, name: format!("{prefix}{name}"), place };
        match class {
            "Relationship" => self.relationship(content, &of),
            "Command" => self.command(content, &of),
            "Component" => return self.component(content, &of, prefix),
            _ => self.value(content, &of),
        }
        let has_unit = content.get("unit").is_some();
        for co_type in types.into_iter().filter(|one| *one != class && !(what == "event" && *one == "Event"))
        {
            // A quantity is told by its unit.
            if !has_unit {
                let said = "semantic types are not carried over";
                let help = "they change nothing about the values of twins";
                self.draft.gather(place, said, format!("`{co_type}`"), help);
            }
        }
        for member in content.members().iter().filter(|one| !READ.contains(&one.key.as_str())) {
            self.annotation(member.key_place, &member.key);
        }
        Ok(())
    }

    /// A Telemetry or Property.
    fn value(&mut self, content: &Json, of: &Subject) {
        let mut settings = match schema::settings(content, of, &self.library, &mut self.draft) {
            Ok(settings) => settings,
            Err(Left { place, why, help }) => return self.draft.refuse(of, place, &why, help),
        };
        settings.description = shown_of(content);
        if of.what == "event" {
            let kind = match settings.kind {
                KindName::Enum => KindName::String,
                kind => kind,
            };
            return self.draft.event(of, kind, settings.description);
        }
        self.draft.property(of, settings);
        if content.flag_of("writable") == Some(true) {
            self.draft.gather(
                of.place,
                "writing to properties is not carried over",
                format!("`{}`", of.name),
                "declare an action in the type for what is to be set",
            );
        }
    }

    fn command(&mut self, content: &Json, of: &Subject) {
        let mut input = None;
        if let Some(request) = content.get("request") {
            match schema::settings(request, of, &self.library, &mut self.draft) {
                Ok(settings) => input = Some(settings),
                Err(Left { place, why, help }) => {
                    let message =
                        format!("the request of the command `{}` is not carried over: {why}", of.name);
                    self.draft.note(of, place, message, help);
                }
            }
            if let Some(settings) = &mut input {
                settings.description = shown_of(request);
            }
        }
        if let Some(response) = content.member("response") {
            self.draft.gather(
                response.key_place,
                "what commands answer is not carried over",
                format!("`{}`", of.name),
                "an action has an input only",
            );
        }
        self.draft.action(of, input, shown_of(content));
    }

    fn relationship(&mut self, content: &Json, of: &Subject) {
        let target = content.text_of("target").map(|id| {
            let name = id.split(';').next().unwrap_or(id).rsplit(':').next().unwrap_or(id);
            (id.to_owned(), name.to_owned())
        });
        self.draft.relationship(of, target, shown_of(content));
    }

    /// What a component's interface has is its twin's, as there is one twin a device.
    fn component(&mut self, content: &Json, of: &Subject, prefix: &str) -> Result<(), Wrong> {
        if !prefix.is_empty() {
            let help = "DTDL allows none; have its interface among `contents` of the interface itself";
            self.draft.refuse(of, of.place, "it is a component of a component", help);
            return Ok(());
        }
        let Some(schema) = content.get("schema") else {
            return Err(Wrong::new(
                content.place,
                "the Component has no schema",
                "add \"schema\": \"dtmi:..\"",
            ));
        };
        let found = match &schema.value {
            Value::Text(id) => self.library.find(id).map_err(|wrong| wrong.or_at(schema.place))?,
            _ if is_a(schema, "Interface") => Some(Rc::new(schema.clone())),
            _ => None,
        };
        let Some(found) = found else {
            let id = schema.text().unwrap_or_default();
            let why = format!("there is no interface `{id}`");
            self.draft.refuse(of, schema.place, &why, self.library.help(id));
            return Ok(());
        };
        self.interface(&found, &mut Vec::new(), &format!("{}_", of.name))
    }

    fn annotation(&mut self, place: super::files::Place, key: &str) {
        let help = "they change nothing about the values of twins";
        self.draft.gather(place, "annotations are not carried over", format!("`{key}`"), help);
    }
}

/// What it means, for people: the description, or else the name for display; of several languages English, or else
/// the first.
fn shown_of(json: &Json) -> Option<String> {
    let said = |key: &str| {
        let value = json.get(key)?;
        let of_language = || value.text_of("en").or_else(|| value.members().first()?.value.text());
        value.text().or_else(of_language)
    };
    said("description").or_else(|| said("displayName")).and_then(description)
}
