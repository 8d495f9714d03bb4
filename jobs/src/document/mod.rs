//! A YAML file as a tree that knows where everything stands.
//!
//! ```text
//!  text ─ parse ─► Node (line and column of every key and value) ─ values ─► settings structs (serde)
//!                    └─ locate(path) ─► Span, for problems that are found later
//! ```
//!
//! The settings structs belong to the components and know nothing of lines; so the tree is kept
//! beside them, and a path (`types`, `device`, `physical`, ...) leads from any problem back to the text.

mod mistake;
mod parse;
mod values;

pub use mistake::ValueError;
pub(crate) use mistake::unknown;
pub use parse::parse;
pub use values::read;

use crate::findings::{Finding, Severity};
use operators::problem::Problem;

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is called in messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its content.
    pub root: Node,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A word, number or text. Its type is decided by whoever reads it.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// Whether it stood without quotes, so that it may be a number, a boolean or nothing.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in their order.
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Bytes before it.
    pub offset: usize,
    /// Its bytes.
    pub length: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
}

impl Document {
    /// The value at a path, if there is one.
    pub fn find(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.child(key))
    }

    /// Puts a text in the place of a value; `false` where there is no such value.
    pub fn set(&mut self, path: &[&str], text: &str) -> bool {
        let found = path.iter().try_fold(&mut self.root, |node, key| node.child_mut(key));
        let Some(node) = found else { return false };
        node.content = Content::Scalar { text: text.to_owned(), plain: false };
        true
    }

    /// Where the value at a path stands, or its nearest ancestor that exists. A map or list is
    /// shown by its key, as it may go on for many lines.
    pub fn locate(&self, path: &[String]) -> Span {
        let mut node = &self.root;
        let mut span = Span { length: 0, ..node.span };
        for key in path {
            let (next, key_span) = match &node.content {
                Content::Mapping(entries) => match entries.iter().find(|entry| entry.key == *key) {
                    Some(entry) => (&entry.value, entry.key_span),
                    None => break,
                },
                Content::Sequence(items) => {
                    match key.parse::<usize>().ok().and_then(|index| items.get(index)) {
                        Some(item) => (item, item.first_span()),
                        None => break,
                    }
                }
                Content::Scalar { .. } => break,
            };
            node = next;
            span = match node.content {
                Content::Scalar { .. } if !node.is_null() => node.span,
                _ => key_span,
            };
        }
        span
    }

    /// A problem with its place in the text.
    pub fn finding(&self, severity: Severity, problem: Problem) -> Finding {
        Finding {
            severity,
            span: self.locate(&problem.path),
            path: problem.path.join("."),
            message: problem.message,
            help: problem.help,
        }
    }
}

impl Node {
    /// The value under a key of a map, or at an index of a list.
    pub fn child(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            Content::Sequence(items) => items.get(key.parse::<usize>().ok()?),
            Content::Scalar { .. } => None,
        }
    }

    pub(crate) fn child_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.content {
            Content::Mapping(entries) => {
                entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
            }
            Content::Sequence(items) => items.get_mut(key.parse::<usize>().ok()?),
            Content::Scalar { .. } => None,
        }
    }

    /// Whether nothing is said: `key:`, `key: ~`, `key: null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Calls `change` with every text in the tree; the answer takes its place.
    pub fn change_texts<E>(
        &mut self,
        change: &mut impl FnMut(&str, Span) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        match &mut self.content {
            Content::Scalar { text, plain } => {
                if let Some(changed) = change(text, self.span)? {
                    *text = changed;
                    *plain = false;
                }
            }
            Content::Sequence(items) => {
                for item in items {
                    item.change_texts(change)?;
                }
            }
            Content::Mapping(entries) => {
                for entry in entries {
                    entry.value.change_texts(change)?;
                }
            }
        }
        Ok(())
    }

    /// The span of what stands first in it.
    pub(crate) fn first_span(&self) -> Span {
        match &self.content {
            Content::Mapping(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            Content::Sequence(items) => items.first().map_or(self.span, Node::first_span),
            Content::Scalar { .. } => self.span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_lines_and_columns() {
        let text = "job: first\ntypes:\n  a: {x: 1, y: [p, qq]}\n  b:\n    - k: v\n";
        let document = parse("job.yaml", text).expect("well formed");
        for (path, expected) in [
            ("", (1, 1, "")),
            ("job", (1, 6, "first")),
            ("job.below", (1, 6, "first")),
            ("types", (2, 1, "types")),
            ("types.a", (3, 3, "a")),
            ("types.a.y", (3, 13, "y")),
            ("types.a.y.1", (3, 20, "qq")),
            ("types.a.z", (3, 3, "a")),
            ("types.b.0", (5, 7, "k")),
            ("types.b.0.k", (5, 10, "v")),
        ] {
            let keys: Vec<String> =
                path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
            let span = document.locate(&keys);
            let found = &text[span.offset..span.offset + span.length];
            assert_eq!((span.line, span.column, found), expected, "{path}");
        }
    }

    #[test]
    fn a_text_is_replaced() {
        let mut document = parse("job.yaml", "a: {b: 1}").expect("well formed");
        assert!(document.set(&["a", "b"], "2"));
        assert!(!document.set(&["a", "c"], "2"));
        let found = document.find(&["a", "b"]).map(|node| &node.content);
        assert!(matches!(found, Some(Content::Scalar { text, plain: false }) if text == "2"));
    }
}
