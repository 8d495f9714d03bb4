//! What was expected, beside what there was: a pattern is met by what has at least its keys, with such values.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::file::Case;
use super::run::Seen;
use crate::document::{self, Content, Entry, Node};

/// Most events that are shown where none is as expected.
const SHOWN_MAX: usize = 5;

/// Something that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The line of the file of cases that expected it.
    pub line: usize,
    /// What it is of.
    pub path: String,
    /// What was expected.
    pub expected: String,
    /// What there was.
    pub found: String,
}

/// What was not as a case expects.
pub(super) fn compare(case: &Case, seen: &Seen) -> Vec<Difference> {
    let mut all = Comparison { differences: Vec::new() };
    for given in &seen.untaken {
        let found = format!("no stream takes it; there are: {}", seen.filters.join(", "));
        all.add(given.span.line, "given", format!("the topic {}", given.topic), found);
    }
    // A topic that nobody takes is told once, however often it is given.
    all.differences.dedup();
    let part = |key: &str| case.expect.as_ref().and_then(|expect| expect.child(key));
    entries(part("twins")).iter().for_each(|entry| all.twin(entry, seen));
    all.events(items(part("events")), seen);
    items(part("never")).iter().for_each(|pattern| all.never(pattern, seen));
    let line = part("dead_letters").map_or(case.span.line, |node| node.first_span().line);
    all.dead_letters(items(part("dead_letters")), line, seen);
    all.differences
}

fn entries(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.content) {
        Some(Content::Mapping(entries)) => entries,
        _ => &[],
    }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.content) {
        Some(Content::Sequence(items)) => items,
        _ => &[],
    }
}

struct Comparison {
    differences: Vec<Difference>,
}

impl Comparison {
    fn add(&mut self, line: usize, path: impl Into<String>, expected: String, found: String) {
        self.differences.push(Difference { line, path: path.into(), expected, found });
    }

    fn twin(&mut self, entry: &Entry, seen: &Seen) {
        let (id, line) = (&entry.key, entry.key_span.line);
        let path = format!("twins.{id}");
        match (seen.twins.get(id), is_none(&entry.value)) {
            (None, true) => {}
            (Some(twin), true) => self.add(line, path, "no such twin".into(), twin["lifecycle"].to_string()),
            (None, false) => {
                let ids: Vec<&str> = seen.twins.keys().take(SHOWN_MAX).map(String::as_str).collect();
                let found = match ids.is_empty() {
                    true => "there is no twin".to_owned(),
                    false => format!("there are {} twins: {}", seen.twins.len(), ids.join(", ")),
                };
                self.add(line, path, "a twin".into(), found);
            }
            (Some(twin), false) => {
                for (node, path, expected, found) in misses(&entry.value, twin, &path) {
                    self.add(node.first_span().line, path, expected, found);
                }
            }
        }
    }

    /// Each pattern is met behind the one before, of the same twin where it names one.
    fn events(&mut self, patterns: &[Node], seen: &Seen) {
        let mut from: HashMap<Option<String>, usize> = HashMap::new();
        for pattern in patterns {
            let twin = pattern.child("twin").and_then(text).map(str::to_owned);
            let begin = from.get(&twin).copied().unwrap_or_default();
            let behind = seen.events.iter().enumerate().skip(begin);
            match behind.clone().find(|(_, event)| meets(pattern, event)) {
                Some((index, _)) => _ = from.insert(twin, index + 1),
                None => {
                    let is_alike = |key: &str, event: &Value| {
                        pattern.child(key).is_none_or(|node| meets(node, &event[key]))
                    };
                    let alike = behind.map(|(_, event)| event);
                    let alike = alike.filter(|event| is_alike("twin", event) && is_alike("kind", event));
                    let alike: Vec<String> = alike.map(Value::to_string).collect();
                    self.add(
                        pattern.first_span().line,
                        "events",
                        shown(pattern),
                        listed(&alike, "no such event"),
                    );
                }
            }
        }
    }

    fn never(&mut self, pattern: &Node, seen: &Seen) {
        let found: Vec<String> =
            seen.events.iter().filter(|event| meets(pattern, event)).map(Value::to_string).collect();
        if !found.is_empty() {
            let expected = format!("no event {}", shown(pattern));
            self.add(pattern.first_span().line, "never", expected, listed(&found, ""));
        }
    }

    /// These and no others, in their order.
    fn dead_letters(&mut self, patterns: &[Node], line: usize, seen: &Seen) {
        let letters = seen.dead_letters.iter().map(|letter| {
            json!({ "source": letter.source, "topic": letter.topic, "reason": letter.reason, "payload": letter.payload })
        });
        let letters: Vec<Value> = letters.collect();
        for (index, pattern) in patterns.iter().enumerate() {
            let line = pattern.first_span().line;
            let Some(letter) = letters.get(index) else {
                self.add(line, "dead_letters", shown(pattern), "no dead letter".into());
                continue;
            };
            let holds =
                |entry: &Entry| match (entry.key.as_str(), text(&entry.value), letter[&entry.key].as_str()) {
                    ("reason" | "payload", Some(part), Some(whole)) => whole.contains(part),
                    _ => meets(&entry.value, &letter[&entry.key]),
                };
            if !entries(Some(pattern)).iter().all(holds) {
                self.add(line, "dead_letters", shown(pattern), letter.to_string());
            }
        }
        for letter in letters.iter().skip(patterns.len()) {
            self.add(line, "dead_letters", "no further dead letter".into(), letter.to_string());
        }
    }
}

fn listed(all: &[String], none: &str) -> String {
    let more = match all.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        more => format!("\n and {more} more"),
    };
    match all.is_empty() {
        true => none.to_owned(),
        false => format!("{}{more}", all[..all.len().min(SHOWN_MAX)].join("\n ")),
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn is_none(node: &Node) -> bool {
    node.is_null() || text(node) == Some("none")
}

fn shown(node: &Node) -> String {
    document::read::<Value>(node).map_or_else(|error| error.to_string(), |value| value.to_string())
}

fn meets(pattern: &Node, value: &Value) -> bool {
    misses(pattern, value, "").is_empty()
}

/// Where a value is not as the pattern says: the part of the pattern, its path, what it expects and what there is.
fn misses<'n>(pattern: &'n Node, value: &Value, path: &str) -> Vec<(&'n Node, String, String, String)> {
    let miss = || vec![(pattern, path.to_owned(), shown(pattern), value.to_string())];
    match &pattern.content {
        Content::Mapping(entries) => match value.as_object() {
            None => miss(),
            Some(object) => {
                let of = |entry: &'n Entry| {
                    let path = format!("{path}.{}", entry.key);
                    let found = object.get(&entry.key).unwrap_or(&Value::Null);
                    misses(&entry.value, found, path.trim_start_matches('.'))
                };
                entries.iter().flat_map(of).collect()
            }
        },
        Content::Sequence(items) => match value.as_array().filter(|array| array.len() == items.len()) {
            None => miss(),
            Some(array) => {
                let pairs = items.iter().zip(array).enumerate();
                pairs
                    .flat_map(|(index, (item, value))| misses(item, value, &format!("{path}.{index}")))
                    .collect()
            }
        },
        Content::Scalar { text, plain } => match is_such(text, *plain, value) {
            true => Vec::new(),
            false => miss(),
        },
    }
}

/// Whether a value is such as a word says: `24`, `24.3`, `">= 0.9"`, `entangled`, `true`, `null`.
fn is_such(word: &str, plain: bool, value: &Value) -> bool {
    if let (Some(found), Some((compare, limit))) = (value.as_f64(), comparison(word)) {
        return compare(found, limit);
    }
    if plain {
        match (word, value) {
            ("null" | "~" | "", _) => return value.is_null(),
            ("true" | "false", Value::Bool(flag)) => return *flag == (word == "true"),
            _ => {}
        }
        if let (Ok(expected), Some(found)) = (word.parse::<f64>(), value.as_f64()) {
            return is_number(word, expected, found);
        }
    }
    value.as_str() == Some(word)
}

/// A number is met by what is rounded to it where it has a point, and by itself alone where it has none.
fn is_number(word: &str, expected: f64, found: f64) -> bool {
    match word.split_once('.') {
        Some((_, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let half = 0.5 * 10f64.powi(-(digits.len() as i32));
            (found - expected).abs() <= half * (1.0 + 1e-9)
        }
        _ => found == expected,
    }
}

type Compare = fn(f64, f64) -> bool;

/// `>= 0.9` and the like.
fn comparison(word: &str) -> Option<(Compare, f64)> {
    let all: [(&str, Compare); 4] = [
        (">=", |found, limit| found >= limit),
        ("<=", |found, limit| found <= limit),
        (">", |found, limit| found > limit),
        ("<", |found, limit| found < limit),
    ];
    let (sign, compare) = all.into_iter().find(|(sign, _)| word.starts_with(sign))?;
    Some((compare, word[sign.len()..].trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn values_are_such_as_words_say() {
        for (word, value, expected) in [
            ("24", json!(24), true),
            ("24", json!(24.0), true),
            ("24", json!(24.3), false),
            ("24.3", json!(24.28), true),
            ("24.3", json!(24.36), false),
            ("24.30", json!(24.28), false),
            ("-1e3", json!(-1000), true),
            (">= 0.9", json!(0.9), true),
            ("> 0.9", json!(0.9), false),
            ("< 0.5", json!(0.25), true),
            ("<= 0.5", json!("0.25"), false),
            ("entangled", json!("entangled"), true),
            ("entangled", json!("bound"), false),
            ("true", json!(true), true),
            ("true", json!("true"), true),
            ("false", json!(true), false),
            ("null", json!(null), true),
            ("null", json!(0), false),
            ("24", json!("24"), true),
        ] {
            assert_eq!(is_such(word, true, &value), expected, "{word} {value}");
        }
        assert!(!is_such("24", false, &json!(24)), "what stands in quotes is a text");
    }

    fn found(expect: &str, seen: &Seen) -> String {
        let text = format!("cases:\n  a:\n    expect:\n{expect}");
        let cases = super::super::read("t.yaml", &text).unwrap_or_else(|found| panic!("{}", found.plain()));
        let differences = compare(&cases[0], seen);
        let line = |one: &Difference| {
            format!("{} {}: expected {}, found {}\n", one.line, one.path, one.expected, one.found)
        };
        differences.iter().map(line).collect()
    }

    #[test]
    fn what_differs_is_told_with_the_line_that_expected_it() {
        let event = |twin: &str, kind: &str, revision: u64| json!({ "twin": twin, "kind": kind, "revision": revision });
        let mut seen = Seen::default();
        seen.twins
            .insert("a".into(), json!({ "lifecycle": "bound", "odte": 0.5, "properties": { "t": 20.0 } }));
        seen.events = vec![event("a", "state", 1), event("b", "state", 1), event("a", "state", 2)];
        let good = "      twins: {a: {lifecycle: bound, odte: 0.5, properties: {t: 20, u: null}}, c: none}\n      \
                    events: [{twin: a, revision: 1}, {twin: a, revision: 2}, {twin: b}]\n      never: [{kind: event}]\n";
        assert_eq!(found(good, &seen), "");
        let bad = "      twins:\n        a: {lifecycle: entangled,\n            properties: {t: 21}}\n        b: {}\n        a2: none\n      \
                   events:\n        - {twin: a, revision: 2}\n        - {twin: a, revision: 1}\n      never:\n        - {twin: b}\n      \
                   dead_letters:\n        - {reason: bad}\n";
        expect![[r#"
            5 twins.a.lifecycle: expected "entangled", found "bound"
            6 twins.a.properties.t: expected 21, found 20.0
            7 twins.b: expected a twin, found there are 1 twins: a
            11 events: expected {"twin":"a","revision":1}, found no such event
            13 never: expected no event {"twin":"b"}, found {"twin":"b","kind":"state","revision":1}
            15 dead_letters: expected {"reason":"bad"}, found no dead letter
        "#]]
        .assert_eq(&found(bad, &seen));
    }
}
