//! Document -> definition, part by part, so that a mistake in one part hides none in another.

use indexmap::IndexMap;
use serde::de::DeserializeOwned;

use super::functions::FunctionDefinition;
use super::{Definition, TypeSettings};
use crate::document::{Content, Document, Entry, Node, Span, read as read_value};
use crate::findings::{Finding, Severity};

const KEYS: [&str; 10] = [
    "job",
    "tenant",
    "shared",
    "connections",
    "roster",
    "types",
    "digital",
    "archive",
    "checkpoint",
    "limits",
];
const TYPE_KEYS: [&str; 11] = [
    "model",
    "attributes",
    "properties",
    "events",
    "relationships",
    "actions",
    "physical",
    "presence",
    "shadow",
    "augmentation",
    "entanglement",
];

/// Reads a definition; what cannot be read is left out of it and listed.
pub(crate) fn read(document: &Document) -> (Definition, Vec<Finding>) {
    let mut reader = Reader::default();
    let mut definition = Definition::default();
    let Some(entries) = reader.keys(&document.root, Span { line: 1, column: 1, ..Span::default() }, &KEYS)
    else {
        return (definition, reader.findings);
    };
    for entry in entries {
        reader.path.push(entry.key.clone());
        match entry.key.as_str() {
            "job" => definition.job = reader.value(entry).unwrap_or_default(),
            "tenant" => definition.tenant = reader.value(entry),
            "shared" => definition.shared = reader.list(entry),
            "connections" => definition.connections = reader.map(entry),
            "roster" => definition.roster = reader.value(entry),
            "types" => definition.types = types(&mut reader, entry),
            "digital" => definition.digital = reader.list(entry),
            "archive" => definition.archive = reader.value(entry),
            "checkpoint" => definition.checkpoint = reader.value(entry).unwrap_or_default(),
            "limits" => definition.limits = reader.value(entry).unwrap_or_default(),
            _ => {}
        }
        reader.path.pop();
    }
    for (key, help) in [
        ("job", "add `job: my-job`"),
        ("connections", "add `connections: {plant: {mqtt: {url: mqtt://localhost:1883}}}`"),
        ("types", "add `types:` with a type of twin, as in examples/first.yaml"),
    ] {
        if !entries.iter().any(|entry| entry.key == key) {
            let at = Span { line: 1, column: 1, ..Span::default() };
            reader.path.push(key.to_owned());
            reader.problem(at, format!("`{key}` is missing"), help.into());
            reader.path.pop();
        }
    }
    definition.unread = reader.unread;
    (definition, reader.findings)
}

fn types(reader: &mut Reader, entry: &Entry) -> IndexMap<String, TypeSettings> {
    let mut types = IndexMap::new();
    for entry in reader.entries(entry) {
        reader.path.push(entry.key.clone());
        if let Some(entries) = reader.keys(&entry.value, entry.key_span, &TYPE_KEYS) {
            types.insert(entry.key.clone(), one_type(reader, entries));
        }
        reader.path.pop();
    }
    types
}

fn one_type(reader: &mut Reader, entries: &[Entry]) -> TypeSettings {
    let mut settings = TypeSettings::default();
    let mut origin = None;
    for entry in entries {
        reader.path.push(entry.key.clone());
        match entry.key.as_str() {
            "model" => origin = super::models::read(reader, entry),
            "attributes" => settings.model.attributes = reader.map(entry),
            "properties" => settings.model.properties = reader.map(entry),
            "events" => settings.model.events = reader.map(entry),
            "relationships" => settings.model.relationships = reader.map(entry),
            "actions" => settings.model.actions = reader.map(entry),
            "physical" => settings.physical = reader.map(entry),
            "presence" => settings.presence = reader.value(entry),
            // The path has its key already.
            "shadow" => settings.shadow = super::functions::read(reader, entry),
            "augmentation" => settings.augmentation = functions(reader, entry),
            "entanglement" => settings.entanglement = reader.value(entry).unwrap_or_default(),
            _ => {}
        }
        reader.path.pop();
    }
    if let Some((origin, declared)) = origin {
        super::models::fill(&mut settings.model, declared);
        settings.origin = Some(origin);
    }
    settings
}

fn functions(reader: &mut Reader, entry: &Entry) -> IndexMap<String, FunctionDefinition> {
    let mut functions = IndexMap::new();
    for entry in reader.entries(entry) {
        if let Some(function) = reader.under(entry, super::functions::read) {
            functions.insert(entry.key.clone(), function);
        }
    }
    functions
}

#[derive(Default)]
pub(crate) struct Reader {
    /// Keys down to what is being read.
    path: Vec<String>,
    findings: Vec<Finding>,
    unread: std::collections::BTreeSet<String>,
}

impl Reader {
    /// What was wrong.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Reads an entry, with its key as a part of the path.
    pub(crate) fn under<T>(
        &mut self,
        entry: &Entry,
        read: impl FnOnce(&mut Self, &Entry) -> Option<T>,
    ) -> Option<T> {
        self.path.push(entry.key.clone());
        let value = read(self, entry);
        self.path.pop();
        value
    }

    /// One value, read whole.
    pub(crate) fn value<T: DeserializeOwned>(&mut self, entry: &Entry) -> Option<T> {
        self.read(&entry.value, entry.shown_span())
    }

    /// A map of which each value is read by itself.
    pub(super) fn map<T: DeserializeOwned>(&mut self, entry: &Entry) -> IndexMap<String, T> {
        let mut map = IndexMap::new();
        for entry in self.entries(entry) {
            self.path.push(entry.key.clone());
            if let Some(value) = self.value(entry) {
                map.insert(entry.key.clone(), value);
            }
            self.path.pop();
        }
        map
    }

    /// A list of which each item is read by itself.
    fn list<T: DeserializeOwned>(&mut self, entry: &Entry) -> Vec<T> {
        let Content::Sequence(items) = &entry.value.content else {
            let help = "write a list: `- {to: plant}`";
            self.problem(entry.shown_span(), format!("`{}` is not a list", entry.key), help.into());
            return Vec::new();
        };
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.path.push(index.to_string());
            list.extend(self.read::<T>(item, item.first_span()));
            self.path.pop();
        }
        list
    }

    /// The entries of a map.
    pub(crate) fn entries<'d>(&mut self, entry: &'d Entry) -> &'d [Entry] {
        if let Content::Mapping(entries) = &entry.value.content {
            return entries;
        }
        let help = format!("write keys and values under it, or leave `{}` out", entry.key);
        self.problem(entry.shown_span(), format!("`{}` is not a map", entry.key), help);
        &[]
    }

    /// The entries of a map whose keys are known.
    pub(crate) fn keys<'d>(&mut self, node: &'d Node, at: Span, known: &[&str]) -> Option<&'d [Entry]> {
        let Content::Mapping(entries) = &node.content else {
            let help = format!("write keys and values: {}", known.join(", "));
            self.problem(at, "this is not a map".into(), help);
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let (message, help) = crate::document::unknown("key", &entry.key, known);
            self.problem_at(&entry.key, entry.key_span, message, help);
        }
        Some(entries)
    }

    pub(super) fn read<T: DeserializeOwned>(&mut self, node: &Node, at: Span) -> Option<T> {
        match read_value(node) {
            Ok(value) => Some(value),
            Err(error) => {
                let depth = self.path.len();
                self.path.extend(error.path);
                self.problem(error.span.unwrap_or(at), error.message, error.help);
                self.path.truncate(depth);
                None
            }
        }
    }

    /// Notes a problem of a key.
    pub(super) fn problem_at(&mut self, key: &str, span: Span, message: String, help: String) {
        self.path.push(key.to_owned());
        self.problem(span, message, help);
        self.path.pop();
    }

    /// Notes a problem, and that everything around it was not read whole.
    pub(crate) fn problem(&mut self, span: Span, message: String, help: String) {
        for depth in 1..=self.path.len() {
            self.unread.insert(self.path[..depth].join("."));
        }
        let path = self.path.join(".");
        self.findings.push(Finding { severity: Severity::Error, span, path, message, help });
    }
}
