//! Functions that are put while a job runs, grafted into the document of its definition.

use super::functions::Trial;
use crate::definition::functions::{CALL_KEYS, WAITED_KEYS};
use crate::document::{self, Content, Document, Entry, Node, Span};
use crate::findings::Findings;

/// Where a function stands, or is to stand.
pub(super) struct Place<'a> {
    pub(super) twin_type: &'a str,
    pub(super) name: &'a str,
}

/// What becomes of a function.
pub(super) enum Graft<'a> {
    /// It stays as the definition has it.
    Stay,
    /// It is taken away.
    Remove,
    /// This takes its place, as YAML.
    Put(&'a str),
}

/// Has a document say what a version of a function says, and which version it is. `property` is the type of the
/// property of its name, where that came with it.
pub(super) fn graft(
    document: &mut Document,
    place: &Place<'_>,
    graft: Graft<'_>,
    property: Option<&str>,
    version: u32,
) -> Result<(), Findings> {
    let (name, span) = (place.name, place.span(document));
    let Some(twin_type) = document.root.child_mut("types").and_then(|types| types.child_mut(place.twin_type))
    else {
        return Ok(());
    };
    // What was declared with a version is there with later ones, so that they need not say it again.
    if !matches!(graft, Graft::Stay)
        && let Some(kind) = property
    {
        let properties = map_at(twin_type, "properties", span);
        if !properties.iter().any(|entry| entry.key == name) {
            let kind = entry("type", scalar(kind, span), span);
            properties.push(entry(name, Node { span, content: Content::Mapping(vec![kind]) }, span));
        }
    }
    let functions = map_at(twin_type, "augmentation", span);
    match graft {
        Graft::Stay => {}
        Graft::Remove => functions.retain(|entry| entry.key != name),
        Graft::Put(text) => {
            let node = parse_at(name, text, span)?;
            match functions.iter_mut().find(|entry| entry.key == name) {
                Some(entry) => entry.value = node,
                None => functions.push(entry(name, node, span)),
            }
        }
    }
    if let Some(function) = functions.iter_mut().find(|entry| entry.key == name) {
        set_version(&mut function.value, version, span);
    }
    Ok(())
}

/// Has a document say which version runs beside a function.
pub(super) fn graft_trial(
    document: &mut Document,
    place: &Place<'_>,
    trial: Trial,
    text: &str,
) -> Result<(), Findings> {
    let span = place.span(document);
    let mut function = parse_at(place.name, text, span)?;
    set_version(&mut function, trial.version, span);
    let types = document.root.child_mut("types").and_then(|types| types.child_mut(place.twin_type));
    let functions = types.and_then(|one| one.child_mut("augmentation"));
    if let Some(Node { content: Content::Mapping(entries), .. }) =
        functions.and_then(|functions| functions.child_mut(place.name))
    {
        let percent = Content::Scalar { text: trial.percent.to_string(), plain: true };
        let parts =
            vec![entry("percent", Node { span, content: percent }, span), entry("function", function, span)];
        entries.retain(|entry| entry.key != "trial");
        entries.push(entry("trial", Node { span, content: Content::Mapping(parts) }, span));
    }
    Ok(())
}

impl Place<'_> {
    fn span(&self, document: &Document) -> Span {
        document.locate(&["types", self.twin_type, "augmentation", self.name].map(str::to_owned))
    }
}

/// A text that is no part of the document: what is wrong with it is shown where it would stand.
fn parse_at(name: &str, text: &str, span: Span) -> Result<Node, Findings> {
    let function = document::parse(name, text).map_err(|all| Findings::new(name, text, all))?;
    let mut node = function.root;
    move_to(&mut node, span);
    Ok(node)
}

fn set_version(function: &mut Node, version: u32, span: Span) {
    if let Content::Mapping(entries) = &mut function.content {
        entries.retain(|entry| entry.key != "version");
        let version = Content::Scalar { text: version.to_string(), plain: true };
        entries.push(entry("version", Node { span, content: version }, span));
    }
}

/// The entries of a map under a key, which is made where it is missing.
fn map_at<'n>(node: &'n mut Node, key: &str, span: Span) -> &'n mut Vec<Entry> {
    if !matches!(node.content, Content::Mapping(_)) {
        node.content = Content::Mapping(Vec::new());
    }
    let Content::Mapping(entries) = &mut node.content else { unreachable!("it was made a map") };
    if !entries.iter().any(|entry| entry.key == key) {
        entries.push(entry(key, Node { span, content: Content::Mapping(Vec::new()) }, span));
    }
    let place = entries.iter().position(|entry| entry.key == key).expect("it is there");
    let value = &mut entries[place].value;
    if !matches!(value.content, Content::Mapping(_)) {
        value.content = Content::Mapping(Vec::new());
    }
    match &mut value.content {
        Content::Mapping(entries) => entries,
        _ => unreachable!("it was made a map"),
    }
}

fn entry(key: &str, value: Node, span: Span) -> Entry {
    Entry { key: key.to_owned(), key_span: span, value }
}

fn scalar(text: &str, span: Span) -> Node {
    Node { span, content: Content::Scalar { text: text.to_owned(), plain: false } }
}

fn move_to(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.content {
        Content::Mapping(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_span = span;
            move_to(&mut entry.value, span);
        }),
        Content::Sequence(items) => items.iter_mut().for_each(|item| move_to(item, span)),
        Content::Scalar { .. } => {}
    }
}

/// A source of this kind, `python` or `wasm`, in the place of a function that there may be: what stands beside that
/// stays.
pub(super) fn of_source(kind: &str, before: Option<Node>, code: &str) -> String {
    let span = Span::default();
    let mut function = before.unwrap_or(Node { span, content: Content::Mapping(Vec::new()) });
    let settings = map_at(&mut function, kind, span);
    settings.retain(|entry| entry.key != "code" && entry.key != "file");
    settings.push(entry("code", scalar(code, span), span));
    if let Content::Mapping(entries) = &mut function.content {
        // It may have been of another kind.
        let is_waited_for = kind != "wasm" || entries.iter().any(|entry| entry.key == "spread");
        let stays = |key: &str| CALL_KEYS.contains(&key) && (is_waited_for || !WAITED_KEYS.contains(&key));
        entries.retain(|entry| entry.key == kind || stays(&entry.key));
    }
    to_json(&function).to_string()
}

/// A node as JSON, which is YAML too.
fn to_json(node: &Node) -> serde_json::Value {
    match &node.content {
        // Whoever reads it decides what a word without quotes is; a number is one either way.
        Content::Scalar { text, plain: true } => {
            serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())
        }
        Content::Scalar { text, plain: false } => text.as_str().into(),
        Content::Sequence(items) => items.iter().map(to_json).collect(),
        Content::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_what_stands_beside_it() {
        let source = |kind, before, code| {
            let before = document::parse("q", before).expect("it is YAML");
            of_source(kind, Some(before.root), code)
        };
        let http = r#"{http: {url: "http://a"}, of: [t], timeout: 2s}"#;
        let text = source("python", http, "def f(state):\n    return {}\n");
        let expected = serde_json::json!({"of": ["t"], "timeout": "2s", "python": {"code": "def f(state):\n    return {}\n"}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), expected);
        assert_eq!(source("wasm", http, "(module)"), r#"{"of":["t"],"wasm":{"code":"(module)"}}"#);
        let module = "{wasm: {code: AGFzbQ==, fuel: 5000}, of: [t]}";
        assert_eq!(
            source("wasm", module, "(module)"),
            r#"{"wasm":{"fuel":5000,"code":"(module)"},"of":["t"]}"#
        );
        assert_eq!(of_source("python", None, "x"), r#"{"python":{"code":"x"}}"#);
    }
}
