//! Sources of functions that stand in files beside the job file (`python: {file: quality.py}`): they are put into
//! the job, so that it is one text wherever it goes, and a running job does not hang on a file that changes. What
//! is no text, a module in WebAssembly, is put there as base64.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::document::{Content, Document, Entry, Node, Span};
use crate::findings::{Finding, Severity};

/// Longest source, in bytes.
const SOURCE_BYTES_MAX: u64 = 1 << 20;
/// How a module in WebAssembly begins that is no text.
const MODULE_MAGIC: &[u8] = b"\0asm";
/// Kinds of function that have a source.
const KINDS: [&str; 2] = ["python", "wasm"];

/// A piece of a job's text, and what stands there instead.
#[derive(Debug)]
pub(crate) struct Piece {
    pub span: Span,
    pub text: String,
}

/// Reads the files that a document names, from this folder, and has the document say what is in them.
pub(crate) fn read(document: &mut Document, folder: &Path) -> Result<Vec<Piece>, Vec<Finding>> {
    let (mut pieces, mut findings) = (Vec::new(), Vec::new());
    for (path, entry) in files(&mut document.root) {
        let Content::Scalar { text: file, .. } = &entry.value.content else { continue };
        match read_file(&folder.join(file)) {
            Ok(code) => {
                entry.key = "code".into();
                pieces.push(Piece { span: entry.key_span, text: entry.key.clone() });
                // A JSON text is a YAML text in double quotes.
                let text = serde_json::Value::from(code.as_str()).to_string();
                pieces.push(Piece { span: entry.value.span, text });
                entry.value.content = Content::Scalar { text: code, plain: false };
            }
            Err(reason) => findings.push(Finding {
                severity: Severity::Error,
                span: entry.value.span,
                path: path.join("."),
                message: format!("cannot read `{file}`: {reason}"),
                help: "name a file from the folder of the job file on".into(),
            }),
        }
    }
    pieces.extend(anchor_roster(&mut document.root, folder));
    if findings.is_empty() { Ok(pieces) } else { Err(findings) }
}

/// Has the document name the file of its roster from the root on, as a roster may be too long to be put into it.
fn anchor_roster(root: &mut Node, folder: &Path) -> Option<Piece> {
    let roster = children(root).iter_mut().find(|entry| entry.key == "roster")?;
    let file = children(&mut roster.value).iter_mut().find(|entry| entry.key == "file")?;
    let Content::Scalar { text, .. } = &file.value.content else { return None };
    let path = std::path::absolute(folder.join(text)).ok()?.to_str()?.to_owned();
    file.value.content = Content::Scalar { text: path.clone(), plain: false };
    Some(Piece { span: file.value.span, text: serde_json::Value::from(path).to_string() })
}

/// The text of a job with what its files hold instead of their names.
pub(crate) fn inlined(text: &str, mut pieces: Vec<Piece>) -> String {
    let mut text = text.to_owned();
    // From the end, so that places before it stay what they are.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.span.offset));
    for Piece { span, text: instead } in pieces {
        text.replace_range(span.offset..span.offset + span.length, &instead);
    }
    text
}

fn read_file(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > SOURCE_BYTES_MAX {
        return Err(format!("it is no file, or has more than {SOURCE_BYTES_MAX} bytes"));
    }
    text_of(std::fs::read(path).map_err(|error| error.to_string())?)
}

/// What stands in a job for the bytes of a source: they themselves where they are a text, else base64 of them.
pub(crate) fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        return Err(format!("it has more than {SOURCE_BYTES_MAX} bytes"));
    }
    if bytes.starts_with(MODULE_MAGIC) {
        return Ok(BASE64_STANDARD.encode(bytes));
    }
    String::from_utf8(bytes).map_err(|_| "it is neither a text nor a module in WebAssembly".to_owned())
}

/// The entries that name a file, each with its path.
fn files(root: &mut Node) -> Vec<(Vec<String>, &mut Entry)> {
    let mut found = Vec::new();
    for twin_type in children(root).iter_mut().filter(|entry| entry.key == "types") {
        for twin_type in children(&mut twin_type.value) {
            let type_name = twin_type.key.clone();
            for part in children(&mut twin_type.value) {
                match part.key.as_str() {
                    "augmentation" => {
                        for function in children(&mut part.value) {
                            found.extend(files_of(&[&type_name, "augmentation"], function));
                        }
                    }
                    "shadow" => found.extend(files_of(&[&type_name], part)),
                    _ => {}
                }
            }
        }
    }
    found
}

/// Those of one function, which stands in `place` of the types.
fn files_of<'d>(
    place: &[&str],
    function: &'d mut Entry,
) -> impl Iterator<Item = (Vec<String>, &'d mut Entry)> + use<'d> {
    let above: Vec<String> = ["types"].iter().chain(place).map(|key| (*key).to_owned()).collect();
    let name = function.key.clone();
    let kinds = children(&mut function.value).iter_mut();
    kinds.filter(|entry| KINDS.contains(&entry.key.as_str())).filter_map(move |kind| {
        let path = above.iter().cloned().chain([name.clone(), kind.key.clone(), "file".to_owned()]);
        let file = children(&mut kind.value).iter_mut().find(|entry| entry.key == "file")?;
        Some((path.collect(), file))
    })
}

fn children(node: &mut Node) -> &mut [Entry] {
    match &mut node.content {
        Content::Mapping(entries) => entries,
        Content::Sequence(_) | Content::Scalar { .. } => &mut [],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    const JOB: &str = "types:\n  press:\n    augmentation:\n      q: {python: {file: q.py, processes: 2}, of: [t]}\n      \
                       r:\n        python:\n          file: \"sub/r.py\" # here\n      \
                       w: {wasm: {file: w.wasm, fuel: 5000}}\n";

    #[test]
    fn files_become_sources_in_the_document_and_in_its_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("sub")).expect("the folder is ours");
        let q = "def f(state):\n    return {\"q\": \"a\\tb: {}\"}\n";
        std::fs::write(folder.path().join("q.py"), q).expect("the folder is ours");
        std::fs::write(folder.path().join("sub/r.py"), "# none").expect("the folder is ours");
        std::fs::write(folder.path().join("w.wasm"), b"\0asm\x01\xff\0\0").expect("the folder is ours");
        let mut document = parse("job.yaml", JOB).expect("it is YAML");
        let pieces = read(&mut document, folder.path()).expect("all are there");
        let inlined = inlined(JOB, pieces);
        for document in [document, parse("job.yaml", &inlined).expect("it is YAML")] {
            let code = |name: &str, kind: &str| {
                let node = document.find(&["types", "press", "augmentation", name, kind, "code"]);
                match node.map(|node| &node.content) {
                    Some(Content::Scalar { text, .. }) => text.clone(),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(code("q", "python"), q);
            assert_eq!(code("r", "python"), "# none");
            assert_eq!(code("w", "wasm"), "AGFzbQH/AAA=");
        }
        assert!(inlined.contains("processes: 2") && inlined.contains("# here"), "{inlined}");
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_its_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut document = parse("job.yaml", JOB).expect("it is YAML");
        let findings = read(&mut document, folder.path()).expect_err("none is there");
        assert_eq!((findings.len(), findings[0].span.line), (3, 4));
        assert!(findings[0].message.starts_with("cannot read `q.py`"), "{findings:?}");
        std::fs::write(folder.path().join("q.py"), b"\xff").expect("the folder is ours");
        let mut document = parse("job.yaml", JOB).expect("it is YAML");
        let findings = read(&mut document, folder.path()).expect_err("it is no text");
        assert!(findings[0].message.ends_with("neither a text nor a module in WebAssembly"), "{findings:?}");
    }
}
