//! Models from elsewhere: a type may take its properties, events, relationships and actions from a Thing Model of the
//! Web of Things or from an interface in DTDL.
//!
//! ```text
//!  model: {wot: FILE} ─► files ─► json ─► wot  ─┐
//!  model: {dtdl: FILE} ─────────────────► dtdl ─┴─► draft ─┬─► declares: {..}, in the place of FILE
//!                                                          └─► notes: what is not carried over, with place and reason
//! ```
//!
//! What a file declares is put into the job, as sources of functions are: so that the job is one text wherever it
//! goes, and a job that runs does not hang on a file that changes.

mod draft;
mod dtdl;
mod files;
mod json;
#[cfg(test)]
mod tests;
mod units;
mod wot;

use std::path::Path;

use serde::de::DeserializeOwned;

pub use self::dtdl::DtdlSettings;
pub use self::wot::WotSettings;

use self::draft::Draft;
use self::files::{Files, Wrong};
use crate::document::{self, Content, Document, Entry, Node, Span};
use crate::findings::{Finding, Findings, Severity};
use crate::sources::Piece;

/// A language that models are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Thing Models of the W3C's Web of Things.
    Wot,
    /// The Digital Twins Definition Language.
    Dtdl,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 2] = [Language::Wot, Language::Dtdl];

    /// The word of a job file.
    pub fn word(self) -> &'static str {
        match self {
            Language::Wot => "wot",
            Language::Dtdl => "dtdl",
        }
    }

    /// What it is called among people.
    pub fn name(self) -> &'static str {
        match self {
            Language::Wot => "WoT Thing Model",
            Language::Dtdl => "DTDL",
        }
    }
}

/// What the models of a document come to.
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// What stands in the job's text in the place of files.
    pub pieces: Vec<Piece>,
    /// What was not carried over, by file.
    pub notes: Vec<Findings>,
}

/// A model that was read, and where the job names it.
struct Read {
    type_name: String,
    language: Language,
    at: At,
    /// The file, as the job names it.
    file: String,
    draft: Draft,
    files: Files,
}

/// Where a job names a file.
#[derive(Clone, Copy)]
struct At {
    /// The key `file`; none where the file's name is all that is said.
    key: Option<Span>,
    file: Span,
}

/// Reads the models that the types of a document name, from this folder, and has the document say what they declare.
pub(crate) fn read(document: &mut Document, folder: &Path) -> Result<Models, Findings> {
    let (mut reads, mut wrong) = (Vec::new(), Findings::new(&document.name, &document.text, Vec::new()));
    for (type_name, language, entry) in named(document) {
        match read_one(&type_name, language, entry, folder) {
            Some(Ok(read)) => reads.push(read),
            Some(Err(Refused::Job(finding))) => wrong.all.push(finding),
            Some(Err(Refused::Model(findings))) => wrong.others.push(findings),
            // It names no file, which the definition's reader will tell.
            None => {}
        }
    }
    if wrong.errors() > 0 {
        return Err(wrong);
    }
    lead_to_types(&mut reads);
    let mut models = Models::default();
    for read in reads {
        models.pieces.extend(replace(document, &read));
        models.notes.extend(notes(&read));
    }
    Ok(models)
}

enum Refused {
    /// What the job says is wrong.
    Job(Finding),
    /// What a model file says is.
    Model(Findings),
}

/// The entries of the languages in `model`, by type.
fn named(document: &Document) -> Vec<(String, Language, &Entry)> {
    let types = document.find(&["types"]).map_or(&[][..], entries);
    let mut found = Vec::new();
    for twin_type in types {
        let model = twin_type.value.child("model").map_or(&[][..], entries);
        let language = |entry: &Entry| Language::ALL.into_iter().find(|one| one.word() == entry.key);
        if let [one] = model
            && let Some(language) = language(one)
        {
            found.push((twin_type.key.clone(), language, one));
        }
    }
    found
}

fn entries(node: &Node) -> &[Entry] {
    match &node.content {
        Content::Mapping(entries) => entries,
        Content::Scalar { .. } | Content::Sequence(_) => &[],
    }
}

fn read_one(
    type_name: &str,
    language: Language,
    entry: &Entry,
    folder: &Path,
) -> Option<Result<Read, Refused>> {
    let (at, file) = match &entry.value.content {
        Content::Scalar { text, .. } if !entry.value.is_null() => {
            (At { key: None, file: entry.value.span }, text.clone())
        }
        _ => {
            let file = entries(&entry.value).iter().find(|entry| entry.key == "file")?;
            let Content::Scalar { text, .. } = &file.value.content else { return None };
            (At { key: Some(file.key_span), file: file.value.span }, text.clone())
        }
    };
    let mut files = Files::default();
    let path = |named: &Option<String>| folder.join(named.as_ref().unwrap_or(&file));
    let draft = match language {
        Language::Wot => settings(type_name, entry)
            .map(|settings: WotSettings| wot::read(&mut files, &path(&settings.file), folder, &settings)),
        Language::Dtdl => settings(type_name, entry)
            .map(|settings: DtdlSettings| dtdl::read(&mut files, &path(&settings.file), &settings)),
    };
    Some(match draft {
        Err(finding) => Err(Refused::Job(finding)),
        Ok(Err(wrong)) => Err(refused(wrong, type_name, entry, at, &files)),
        Ok(Ok(draft)) => Ok(Read { type_name: type_name.to_owned(), language, at, file, draft, files }),
    })
}

/// What a job says of a model; a file's name alone says nothing more.
fn settings<S: DeserializeOwned + Default>(type_name: &str, entry: &Entry) -> Result<S, Finding> {
    if let Content::Scalar { .. } = entry.value.content {
        return Ok(S::default());
    }
    document::read(&entry.value).map_err(|error| Finding {
        severity: Severity::Error,
        span: error.span.unwrap_or(entry.key_span),
        path: [format!("types.{type_name}.model.{}", entry.key)]
            .into_iter()
            .chain(error.path)
            .collect::<Vec<_>>()
            .join("."),
        message: error.message,
        help: error.help,
    })
}

fn refused(wrong: Wrong, type_name: &str, entry: &Entry, at: At, files: &Files) -> Refused {
    let Wrong { place, message, help } = wrong;
    let severity = Severity::Error;
    match place {
        None => {
            let path = format!("types.{type_name}.model.{}", entry.key);
            Refused::Job(Finding { severity, span: at.file, path, message, help })
        }
        Some(place) => {
            let (path, text) = files.shown(place.file);
            let finding = Finding { severity, span: files.span(place), path: String::new(), message, help };
            Refused::Model(Findings::new(&path.display().to_string(), text, vec![finding]))
        }
    }
}

/// Relationships to a model lead to the type of the job that it is the model of, where there is one.
fn lead_to_types(reads: &mut [Read]) {
    let types: Vec<(String, String)> =
        reads.iter().map(|read| (read.draft.id.clone(), read.type_name.clone())).collect();
    for Draft { model, targets, .. } in reads.iter_mut().map(|read| &mut read.draft) {
        for (name, target) in targets {
            let found = types.iter().find(|(id, _)| id == target);
            if let (Some((_, type_name)), Some(one)) = (found, model.relationships.get_mut(name)) {
                one.to.clone_from(type_name);
            }
        }
    }
}

/// Puts what a model declares in the place of its file, in the document and in its text.
fn replace(document: &mut Document, read: &Read) -> Vec<Piece> {
    let declares = crate::definition::DECLARES;
    let text = read.draft.text(&read.file);
    let mut value = document::parse("declares", &text)
        .map_or_else(|_| unreachable!("declarations are JSON of known keys"), |document| document.root);
    stand_at(&mut value, read.at.file);
    let path = ["types", &read.type_name, "model", read.language.word()];
    let mut node = Some(&mut document.root);
    for key in path {
        node = node.and_then(|node| node.child_mut(key));
    }
    let Some(node) = node else { return Vec::new() };
    match read.at.key {
        None => {
            let entry = Entry { key: declares.into(), key_span: read.at.file, value };
            node.content = Content::Mapping(vec![entry]);
            vec![Piece { span: read.at.file, text: format!("{{{declares}: {text}}}") }]
        }
        Some(key) => {
            if let Content::Mapping(entries) = &mut node.content
                && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "file")
            {
                *entry = Entry { key: declares.into(), key_span: entry.key_span, value };
            }
            vec![Piece { span: key, text: declares.into() }, Piece { span: read.at.file, text }]
        }
    }
}

/// Has all of a value stand where the job names the file that it is of.
fn stand_at(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(items) => items.iter_mut().for_each(|item| stand_at(item, span)),
        Content::Mapping(entries) => {
            for entry in entries {
                entry.key_span = span;
                stand_at(&mut entry.value, span);
            }
        }
    }
}

/// What of a model is not carried over, by file.
fn notes(read: &Read) -> Vec<Findings> {
    let mut by_file: Vec<(usize, Vec<Finding>)> = Vec::new();
    for note in &read.draft.notes {
        let finding = Finding {
            severity: Severity::Note,
            span: read.files.span(note.place),
            path: note.path.clone(),
            message: note.message.clone(),
            help: note.help.clone(),
        };
        match by_file.iter_mut().find(|(file, _)| *file == note.place.file) {
            Some((_, findings)) => findings.push(finding),
            None => by_file.push((note.place.file, vec![finding])),
        }
    }
    let shown = |(file, findings)| {
        let (path, text) = read.files.shown(file);
        Findings::new(&path.display().to_string(), text, findings)
    };
    by_file.into_iter().map(shown).collect()
}
