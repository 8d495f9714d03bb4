//! What ARCHITECTURE promises of the sources, kept true: which crate knows what, imports that point
//! down only, files that can be read in a sitting, and habits that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates from the top down, and which of the crates below each may depend on.
const HOUSE: [(&str, &[&str]); 4] = [
    ("jobs", &["dataflows", "operators", "connectors"]),
    ("dataflows", &["operators", "connectors"]),
    ("operators", &[]),
    ("connectors", &[]),
];

/// What must not stand in the sources of a crate, tests included, and why.
const FOREIGN: [(&str, &[&str], &str); 4] = [
    (
        "operators",
        &[
            "timely",
            "tokio",
            "rumqttc",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "connectors::",
            "dataflows::",
        ],
        "operators have no clock, no I/O and no engine",
    ),
    ("connectors", &["timely", "operators::", "dataflows::"], "connectors know nothing of twins"),
    ("jobs", &["timely", "rumqttc::"], "only dataflows knows the engine, only connectors the client"),
    ("dataflows", &["rumqttc", "tokio", "parquet::"], "dataflows knows connectors as handles only"),
];

/// What must not stand in sources outside of their tests.
const UNFINISHED: [&str; 7] = [".unwrap()", "todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "#[ignore"];

const LINES_MAX: usize = 500;

/// A file of the project.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The file without its tests, which stand at its end.
    fn without_tests(&self) -> &str {
        let is_test = self.path.components().any(|part| part.as_os_str() == "tests")
            || self.path.file_name().is_some_and(|name| name == "tests.rs");
        match self.text.find("#[cfg(test)]\nmod tests {") {
            _ if is_test => "",
            Some(end) => &self.text[..end],
            None => &self.text,
        }
    }

    /// Lines of code that are not comments, with their numbers.
    fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the project.
fn sources(folder: &str) -> Vec<Source> {
    let files = crate::harness::archive::files(&root().join(folder));
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("a source is text"),
            path: path.strip_prefix(root()).expect("it was found below").to_owned(),
        })
        .collect()
}

fn all_sources() -> Vec<Source> {
    let folders =
        ["src", "operators", "connectors", "dataflows", "jobs", "tests", "benches", "fuzz/fuzz_targets"];
    folders.iter().flat_map(|folder| sources(folder)).collect()
}

/// Fails with all that was found, so that one look shows everything.
fn check(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn the_house_is_found() {
    for (name, _) in HOUSE {
        assert!(!sources(name).is_empty(), "no source of {name}");
    }
}

#[test]
fn crates_know_only_what_they_may() {
    let mut found = Vec::new();
    for (name, words, reason) in FOREIGN {
        for source in sources(&format!("{name}/src")) {
            for (line, text) in Source::code(&source.text) {
                for word in words.iter().filter(|word| names(text, word)) {
                    found.push(format!("{}:{line}: `{word}`: {reason}", source.path.display()));
                }
            }
        }
    }
    check("foreign words", found);
}

/// Whether a line has a word that does not go on before it.
fn names(line: &str, word: &str) -> bool {
    let goes_on = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        let ends = word.ends_with(':') || !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ends && !goes_on(&line[..at])
    })
}

#[test]
fn words_are_found_whole() {
    for (line, word, expected) in [
        ("use std::time::{Duration, Instant};", "Instant", true),
        ("let at = std::time::Instant::now();", "Instant", true),
        ("fn is_instantaneous() {}", "Instant", false),
        ("struct Instants;", "Instant", false),
        ("use timely::dataflow;", "timely", true),
        ("let untimely = 1;", "timely", false),
        ("use operators::twin;", "operators::", true),
        ("mod my_operators::x", "operators::", false),
    ] {
        assert_eq!(names(line, word), expected, "`{word}` in `{line}`");
    }
}

#[test]
fn imports_point_down() {
    let mut found = Vec::new();
    for (name, below) in HOUSE {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("every crate has one");
        for (other, _) in HOUSE {
            let depends =
                manifest.lines().any(|line| names(line.split(['.', ' ', '=']).next().unwrap_or(""), other));
            if depends && !below.contains(&other) {
                found.push(format!("{name} depends on {other}"));
            }
        }
        let knows_engine = manifest.lines().any(|line| line.starts_with("timely"));
        if knows_engine != (name == "dataflows") {
            found.push(format!("{name}: only dataflows depends on timely"));
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{name} does not take the workspace's lints (missing_docs, unsafe_code)"));
        }
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has one");
    for lint in ["missing_docs = \"warn\"", "unsafe_code = \"deny\""] {
        if !workspace.contains(lint) {
            found.push(format!("the workspace lacks the lint {lint}"));
        }
    }
    check("the house", found);
}

#[test]
fn every_file_says_why_it_exists() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let found = all_sources().into_iter().filter(silent);
    check("files without a `//!`", found.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn every_file_can_be_read_in_a_sitting() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path.display()))
    };
    check("files over 500 lines", all_sources().iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for source in all_sources().iter().filter(|source| !source.path.ends_with("tests/tidy.rs")) {
        for (line, text) in Source::code(source.without_tests()) {
            for word in UNFINISHED.iter().filter(|word| text.contains(**word)) {
                found.push(format!("{}:{line}: `{word}`", source.path.display()));
            }
        }
        let ignored = Source::code(&source.text).find(|(_, line)| line.contains("#[ignore"));
        found.extend(ignored.map(|(line, _)| format!("{}:{line}: an ignored test", source.path.display())));
    }
    check("unfinished", found);
}

/// A test that sleeps is slow where it passes and wrong where the machine is busy. The one place to
/// rest between two looks is the harness.
#[test]
fn tests_do_not_sleep() {
    let mut found = Vec::new();
    let harness = Path::new("tests/harness/mod.rs");
    let this = Path::new("tests/tidy.rs");
    for source in all_sources().iter().filter(|source| source.path != harness && source.path != this) {
        let tests = source.text.len() - source.without_tests().len();
        let tests = &source.text[source.text.len() - tests..];
        if Source::code(tests).any(|(_, line)| line.contains("sleep(")) {
            found.push(source.path.display().to_string());
        }
    }
    check("tests that sleep", found);
}
