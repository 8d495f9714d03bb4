//! What a Thing Model is made of, put together: models that it extends, definitions that it takes from elsewhere, and
//! what stands for its placeholders.
//!
//! ```text
//!  tm:extends ─► the other model, whole ─┐
//!  tm:ref ─► the definition ─────────────┴─ JSON Merge Patch (RFC 7396) ─► placeholders ─► one model
//! ```
//!
//! Nothing is fetched: what stands behind a URL may be another thing tomorrow, and a job must be the same wherever it
//! is read. A copy beside the job takes its place (`copies`).

use std::path::Path;

use operators::problem::suggestion;
use percent_encoding::percent_decode_str;

use super::super::files::{Files, Place, Wrong};
use super::super::json::{Json, Member, Value};
use super::WotSettings;

/// Longest chain of models and definitions that lead to each other.
const CHAIN_MAX: usize = 32;
/// Most values of a model, those that are taken from elsewhere counted each time.
const VALUES_MAX: usize = 100_000;

pub(super) struct Resolver<'a> {
    files: &'a mut Files,
    folder: &'a Path,
    settings: &'a WotSettings,
    /// What is being put together: file and JSON Pointer, none for a whole model.
    chain: Vec<(usize, Option<String>)>,
    values: usize,
}

impl<'a> Resolver<'a> {
    pub fn new(files: &'a mut Files, folder: &'a Path, settings: &'a WotSettings) -> Self {
        Self { files, folder, settings, chain: Vec::new(), values: 0 }
    }

    /// The whole model of a file.
    pub fn model(mut self, file: usize) -> Result<Json, Wrong> {
        let start = self.files.get(file).root.place;
        let mut model = self.whole(file, start)?;
        let mut names = Vec::new();
        self.fill(&mut model, &mut names);
        if let Some(unknown) = self.settings.placeholders.keys().find(|name| !names.contains(*name)) {
            let message = format!("the model has no placeholder `{unknown}`");
            return Err(Wrong::at_job(message, suggestion(unknown, names.iter().map(String::as_str))));
        }
        Ok(model)
    }

    /// A model with all that it extends.
    fn whole(&mut self, file: usize, from: Place) -> Result<Json, Wrong> {
        let root = self.files.get(file).root.clone();
        self.check_type(&root)?;
        self.enter(file, None, from)?;
        let own = self.with_references(root.clone())?;
        let (extends, links): (Vec<Json>, Vec<Json>) =
            own.items_of("links").iter().cloned().partition(is_extension);
        let mut base: Option<Json> = None;
        for link in &extends {
            let Some(href) = link.get("href") else {
                return Err(Wrong::new(
                    link.place,
                    "the link has no `href`",
                    "write the file that it leads to",
                ));
            };
            let other = self.locate(href.text().unwrap_or_default(), href.place)?;
            let other = self.whole(other, href.place)?;
            base = Some(match base {
                Some(base) => {
                    let links = other.items_of("links").to_vec();
                    over_with(base, other.clone(), links, &other)
                }
                None => other,
            });
        }
        self.chain.pop();
        Ok(match base {
            Some(base) => over_with(base, own, links, &root),
            None => own,
        })
    }

    fn check_type(&self, root: &Json) -> Result<(), Wrong> {
        let is_model = root.items_of("@type").iter().any(|one| one.text() == Some("tm:ThingModel"));
        if is_model {
            return Ok(());
        }
        let place = root.get("@type").map_or(root.place, |one| one.place);
        let name = self.files.get(place.file).path.display().to_string();
        let message = format!("`{name}` is no Thing Model");
        Err(Wrong::new(
            place,
            message,
            "one says \"@type\": \"tm:ThingModel\"; a Thing Description is of one Thing",
        ))
    }

    /// One step further; refuses one that was taken before.
    fn enter(&mut self, file: usize, pointer: Option<String>, from: Place) -> Result<(), Wrong> {
        let step = (file, pointer);
        let name = |(file, pointer): &(usize, Option<String>)| {
            let path = &self.files.get(*file).path;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match pointer {
                Some(pointer) => format!("{name}#{pointer}"),
                None => name.into_owned(),
            }
        };
        if let Some(begin) = self.chain.iter().position(|one| *one == step) {
            let circle: Vec<String> = self.chain[begin..].iter().chain([&step]).map(name).collect();
            let message = format!("the model is made of itself: {}", circle.join(" -> "));
            return Err(Wrong::new(from, message, "take one of these links out"));
        }
        if self.chain.len() >= CHAIN_MAX {
            let message = format!("more than {CHAIN_MAX} models and definitions lead to each other");
            return Err(Wrong::new(from, message, "put some of them into one file"));
        }
        self.values += match &step {
            (file, None) => self.files.get(*file).root.size(),
            (file, Some(pointer)) => self.files.get(*file).root.at(pointer).map_or(0, Json::size),
        };
        if self.values > VALUES_MAX {
            let message = format!("the model grows to more than {VALUES_MAX} values");
            return Err(Wrong::new(from, message, "refer to smaller definitions, or fewer times"));
        }
        self.chain.push(step);
        Ok(())
    }

    /// The file behind a link.
    fn locate(&mut self, uri: &str, from: Place) -> Result<usize, Wrong> {
        let path = match self.settings.copies.get(uri) {
            Some(copy) => self.folder.join(copy),
            None if uri.contains("://") || uri.starts_with("urn:") || uri.starts_with("data:") => {
                let message = format!("`{uri}` is not fetched");
                let help = format!(
                    "keep a copy beside the job and name it: model: {{wot: {{file: .., copies: {{\"{uri}\": copy.tm.json}}}}}}"
                );
                return Err(Wrong::new(from, message, help));
            }
            None => {
                let beside = self.files.get(from.file).path.parent().unwrap_or(Path::new("."));
                beside.join(&*percent_decode_str(uri).decode_utf8_lossy())
            }
        };
        self.files.open(&path).map_err(|wrong| wrong.or_at(from))
    }

    /// A value with what its `tm:ref` lead to.
    fn with_references(&mut self, json: Json) -> Result<Json, Wrong> {
        let Json { place, value } = json;
        let value = match value {
            Value::List(items) => Value::List(
                items.into_iter().map(|item| self.with_references(item)).collect::<Result<_, _>>()?,
            ),
            Value::Map(mut members) => {
                let reference = members.iter().position(|member| member.key == "tm:ref");
                let reference = reference.map(|index| members.remove(index).value);
                for member in &mut members {
                    let value = std::mem::replace(&mut member.value, Json { place, value: Value::Null });
                    member.value = self.with_references(value)?;
                }
                let own = Json { place, value: Value::Map(members) };
                return match reference {
                    Some(reference) => Ok(over(self.referred(&reference)?, own)),
                    None => Ok(own),
                };
            }
            other => other,
        };
        Ok(Json { place, value })
    }

    fn referred(&mut self, reference: &Json) -> Result<Json, Wrong> {
        let from = reference.place;
        let text = reference.text().unwrap_or_default();
        let Some((uri, pointer)) = text.split_once('#').filter(|(_, pointer)| pointer.starts_with('/'))
        else {
            let help = "write file and place: base.tm.json#/properties/temperature";
            return Err(Wrong::new(from, format!("`{text}` leads to no definition"), help));
        };
        let pointer = percent_decode_str(pointer).decode_utf8_lossy().into_owned();
        let file = match uri {
            "" => from.file,
            uri => self.locate(uri, from)?,
        };
        let found = self.files.get(file).root.at(&pointer).cloned();
        // It may be one that the other model has from a third.
        let is_under_way = self.chain.contains(&(file, None));
        let (found, is_whole) = match found {
            Some(found) => (Some(found), false),
            None if is_under_way => (None, false),
            None => (self.whole(file, from)?.at(&pointer).cloned(), true),
        };
        let Some(found) = found else {
            let path = self.files.get(file).path.display().to_string();
            let message = format!("there is no `{pointer}` in `{path}`");
            return Err(Wrong::new(
                from,
                message,
                "write the place of a definition: #/properties/temperature",
            ));
        };
        if is_whole {
            return Ok(found);
        }
        self.enter(file, Some(pointer), from)?;
        let found = self.with_references(found)?;
        self.chain.pop();
        Ok(found)
    }

    /// Puts values for placeholders; lists those that the model has.
    fn fill(&self, json: &mut Json, names: &mut Vec<String>) {
        match &mut json.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.fill(item, names)),
            Value::Map(members) => members.iter_mut().for_each(|member| self.fill(&mut member.value, names)),
            Value::Text(text) if text.contains("{{") => {
                let mut filled = String::new();
                let mut rest = text.as_str();
                while let Some((before, behind)) = rest.split_once("{{") {
                    let Some((name, behind)) = behind.split_once("}}") else { break };
                    names.push(name.to_owned());
                    filled += before;
                    match self.settings.placeholders.get(name) {
                        // The placeholder is all of it: so it is of the type that is given.
                        Some(value) if before.is_empty() && behind.is_empty() && filled.is_empty() => {
                            json.value = value_of(value, json.place);
                            return;
                        }
                        Some(serde_json::Value::String(value)) => filled += value,
                        Some(value) => filled += &value.to_string(),
                        None => filled += &format!("{{{{{name}}}}}"),
                    }
                    rest = behind;
                }
                filled += rest;
                *text = filled;
            }
            _ => {}
        }
    }
}

/// Whether a link leads to a model that this one extends. One of the specification's examples writes `extends`.
fn is_extension(link: &Json) -> bool {
    matches!(link.text_of("rel"), Some("tm:extends" | "extends"))
}

/// What a job file says, at a place of the model.
fn value_of(value: &serde_json::Value, place: Place) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Boolean(*flag),
        serde_json::Value::Number(number) => Value::Number(number.clone()),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => {
            Value::List(items.iter().map(|item| Json { place, value: value_of(item, place) }).collect())
        }
        serde_json::Value::Object(map) => {
            let member = |(key, value): (&String, &serde_json::Value)| Member {
                key: key.clone(),
                key_place: place,
                value: Json { place, value: value_of(value, place) },
            };
            Value::Map(map.iter().map(member).collect())
        }
    }
}

/// A model over the one that it extends: links are of both, and what one of them calls optional stays so, unless the
/// other takes its definition over by itself.
fn over_with(base: Json, own: Json, links: Vec<Json>, root: &Json) -> Json {
    let is_taken_over = |pointer: &Json| {
        let own = pointer.text().and_then(|pointer| root.at(pointer));
        own.is_some_and(|definition| definition.get("tm:ref").is_some())
    };
    let optional: Vec<Json> =
        base.items_of("tm:optional").iter().filter(|one| !is_taken_over(one)).cloned().collect();
    let optional = optional.into_iter().chain(own.items_of("tm:optional").iter().cloned()).collect();
    let all_links = base.items_of("links").iter().filter(|link| !is_extension(link)).cloned().chain(links);
    let (place, all_links) = (own.place, all_links.collect());
    let mut model = over(base, own);
    if let Value::Map(members) = &mut model.value {
        members.retain(|member| member.key != "links" && member.key != "tm:optional");
        for (key, items) in [("links", all_links), ("tm:optional", optional)] {
            let value = Json { place, value: Value::List(items) };
            members.push(Member { key: key.into(), key_place: place, value });
        }
    }
    model
}

/// A value over another, by JSON Merge Patch (RFC 7396).
fn over(target: Json, patch: Json) -> Json {
    let Value::Map(changes) = patch.value else { return patch };
    let mut members = match target.value {
        Value::Map(members) => members,
        _ => Vec::new(),
    };
    for change in changes {
        let known = members.iter().position(|member| member.key == change.key);
        match (known, &change.value.value) {
            (Some(index), Value::Null) => _ = members.remove(index),
            (None, Value::Null) => {}
            (Some(index), _) => {
                let nothing = Json { place: change.key_place, value: Value::Null };
                let before = std::mem::replace(&mut members[index].value, nothing);
                members[index] = Member { value: over(before, change.value), ..change };
            }
            (None, _) => {
                let nothing = Json { place: change.key_place, value: Value::Null };
                members.push(Member { value: over(nothing, change.value), ..change });
            }
        }
    }
    Json { place: patch.place, value: Value::Map(members) }
}
