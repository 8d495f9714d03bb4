//! Text -> tree. What would make a job file mean something else than it shows is refused here:
//! keys that stand twice, several documents, tags, and aliases that multiply.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};

use super::{Content, Document, Entry, Node, Span};
use crate::findings::{Finding, Severity};

/// Deepest nesting of a file.
const DEPTH_MAX: usize = 64;
/// Most values of a file, those that aliases repeat included.
const NODES_MAX: usize = 100_000;

/// Reads a file's text, or lists what is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Document, Vec<Finding>> {
    let mut builder = Builder::default();
    match builder.run(text) {
        Err(finding) => builder.findings.push(finding),
        Ok(()) if builder.root.is_none() => builder.findings.push(problem(
            Span { line: 1, column: 1, ..Span::default() },
            "the file is empty",
            "write a first job file with `twinloom init`",
        )),
        Ok(()) => {}
    }
    match builder.root {
        Some(root) if builder.findings.is_empty() => {
            Ok(Document { name: name.to_owned(), text: text.to_owned(), root })
        }
        _ => Err(builder.findings),
    }
}

/// A collection that is being read.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, in a map.
    key: Option<(String, Span)>,
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    findings: Vec<Finding>,
}

impl Builder {
    fn run(&mut self, text: &str) -> Result<(), Finding> {
        let marks = Marks::new(text);
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let mark = error.marker();
                let at = marks.span(text, mark.index(), mark.index());
                problem(at, &format!("the YAML cannot be read: {}", error.info()), &advice(text, at))
            })?;
            let at = marks.span(text, span.start.index(), span.end.index());
            self.take(event, at)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, at: Span) -> Result<(), Finding> {
        let (content, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (Content::Scalar { text: text.into_owned(), plain }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (Content::Sequence(Vec::new()), anchor, tag),
            Event::MappingStart(_, anchor, tag) => (Content::Mapping(Vec::new()), anchor, tag),
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser closes only what it opened.
                let Some(open) = self.open.pop() else { return Ok(()) };
                return self.add(open.node, open.anchor);
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                return Err(problem(at, "a second document begins", "write one job a file"));
            }
            _ => return Ok(()),
        };
        if tag.is_some() {
            return Err(problem(at, "tags are not understood", "leave the tag (!...) out"));
        }
        let node = Node { span: at, content };
        if matches!(node.content, Content::Scalar { .. }) {
            return self.add(node, anchor);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Span) -> Result<(), Finding> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(problem(at, "the alias stands inside what it repeats", "write it out"));
        };
        if self.open.len() + depth(node) > DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.nodes += size(node);
        let node = node.clone();
        self.add(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Finding> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("the file has more than {NODES_MAX} values");
            return Err(problem(node.span, &message, "split the job in several"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping(entries) => match open.key.take() {
                Some((key, key_span)) => {
                    let first = entries.iter().find(|entry| entry.key == key);
                    if let Some(first) = first {
                        let line = first.key_span.line;
                        self.findings.push(self.repeated(&key, key_span, line));
                    } else {
                        entries.push(Entry { key, key_span, value: node });
                    }
                }
                None => match node.content {
                    Content::Scalar { text, .. } => open.key = Some((text, node.span)),
                    _ => return Err(problem(node.span, "a key is one word", "quote the key")),
                },
            },
            Content::Scalar { .. } => {}
        }
        Ok(())
    }

    fn repeated(&self, key: &str, key_span: Span, line: usize) -> Finding {
        let path: Vec<&str> = self
            .open
            .iter()
            .filter_map(|open| open.key.as_ref().map(|(key, _)| key.as_str()))
            .chain([key])
            .collect();
        let is_function = path.len() > 1 && path[path.len() - 2] == "augmentation";
        let (message, help) = match is_function {
            true => (
                format!("two functions write `{key}`"),
                format!("the first is on line {line}: give each a property of its own"),
            ),
            false => (
                format!("`{key}` stands here twice"),
                format!("the first is on line {line}: rename or remove one"),
            ),
        };
        Finding { path: path.join("."), ..problem(key_span, &message, &help) }
    }
}

fn problem(span: Span, message: &str, help: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        span,
        path: String::new(),
        message: message.to_owned(),
        help: help.to_owned(),
    }
}

fn too_deep(at: Span) -> Finding {
    problem(at, &format!("the file nests deeper than {DEPTH_MAX} levels"), "write it flatter")
}

/// The usual reasons why a file is no YAML, by the line that it happened on.
fn advice(text: &str, at: Span) -> String {
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    let indent: &str = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        "indent with spaces, not tabs".into()
    } else {
        "check indentation, brackets and quotes here and on the line before; quote texts that hold `: `, `#`, `{` or `[`".into()
    }
}

fn depth(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 0,
        Content::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Content::Mapping(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}

fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
    }
}

/// Byte offsets of characters: the parser counts characters.
struct Marks {
    /// Byte offset of every line's first character, and the number of characters before it.
    lines: Vec<(usize, usize)>,
}

impl Marks {
    fn new(text: &str) -> Self {
        let mut lines = vec![(0, 0)];
        for (characters, (offset, character)) in text.char_indices().enumerate() {
            if character == '\n' {
                lines.push((offset + 1, characters + 1));
            }
        }
        Self { lines }
    }

    /// The piece between two counts of characters, cut at the end of its first line.
    fn span(&self, text: &str, start: usize, end: usize) -> Span {
        let line = self.lines.partition_point(|(_, before)| *before <= start).max(1);
        let (line_offset, before) = self.lines[line - 1];
        let rest = &text[line_offset..];
        let line_text = rest.lines().next().unwrap_or_default();
        let byte = |count: usize| {
            let found = line_text.char_indices().nth(count);
            found.map_or(line_text.len(), |(offset, _)| offset)
        };
        let column = (start - before).min(line_text.chars().count());
        let (from, to) = (byte(column), byte(end.saturating_sub(before)));
        let piece = line_text.get(from..to).unwrap_or_default().trim_end();
        Span { offset: line_offset + from, length: piece.len(), line, column: column + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match parse("job.yaml", text) {
            Ok(_) => "good".to_owned(),
            Err(findings) => findings
                .iter()
                .map(|one| format!("{}:{} {}: {}", one.span.line, one.span.column, one.path, one.message))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        assert!(found.starts_with(expected), "{text:?}\nfound {found}\nnot   {expected}");
    }

    #[test]
    fn what_is_no_job_file_is_refused() {
        for (text, expected) in [
            ("a: 1\nb: {c: [1, 2]}", "good"),
            ("a: &x {b: 1}\nc: *x", "good"),
            ("", "1:1 : the file is empty"),
            ("# only a comment", "1:1 : the file is empty"),
            ("a: 1\na: 2", "2:1 a: `a` stands here twice"),
            ("t: {x: {b: 1, b: 2}}", "1:15 t.x.b: `b` stands here twice"),
            ("augmentation: {f: 1, f: 2}", "1:22 augmentation.f: two functions write `f`"),
            ("a: 1\n---\nb: 2", "2:1 : a second document"),
            ("a: !!python/object x", "1:"),
            ("a: &x [*x]", "1:8 : the alias stands inside"),
            ("a: *nowhere", "1:4 : the YAML cannot be read"),
            ("a:\n\tb: 1", "2:"),
            ("a: [1, 2", "1:"),
            ("? {a: b}\n: c", "1:3 : a key is one word"),
        ] {
            check(text, expected);
        }
        check(&("[".repeat(70) + &"]".repeat(70)), "1:65 : the file nests deeper");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..8 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        check(&laughs, "4:9 : the file has more than 100000 values");
    }

    #[test]
    fn columns_count_characters_and_offsets_bytes() {
        let text = "größe: {ü: é}\nb: x";
        let document = parse("job.yaml", text).expect("well formed");
        let span = document.locate(&["größe".into(), "ü".into()]);
        assert_eq!((span.line, span.column), (1, 12));
        assert_eq!(&text[span.offset..span.offset + span.length], "é");
        assert_eq!(document.locate(&["b".into()]).line, 2);
    }
}
