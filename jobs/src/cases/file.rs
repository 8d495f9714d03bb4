//! The file of cases, read with the place of everything, so that what differs is told with its line.

use std::time::Duration;

use humantime_serde::re::humantime;
use indexmap::IndexMap;
use operators::time::parse_rfc3339;
use serde_json::Value;

use crate::definition::Reader;
use crate::document::{self, Content, Document, Entry, Node, Span};
use crate::findings::Findings;
use crate::summary::instant as instant_text;

/// When a case begins that does not say so.
const BEGIN_DEFAULT: &str = "2026-01-01T00:00:00Z";
/// Most messages of a case.
const MESSAGES_MAX: u64 = 100_000;

const KEYS: [&str; 2] = ["begin", "cases"];
const CASE_KEYS: [&str; 5] = ["begin", "given", "until", "answers", "expect"];
const GIVEN_KEYS: [&str; 9] =
    ["at", "late", "every", "times", "topic", "key", "headers", "payload", "retained"];
pub(super) const EXPECT_KEYS: [&str; 4] = ["twins", "events", "never", "dead_letters"];

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What devices say, in the order of its arrival.
    pub messages: Vec<Given>,
    /// How far time goes, microseconds since 1970.
    pub until_us: i64,
    /// What functions behind HTTP answer, each call the next; the last again and again.
    pub answers: IndexMap<String, Vec<Value>>,
    /// What is to be then.
    pub(super) expect: Option<Node>,
}

/// A message of a device.
#[derive(Clone, Debug)]
pub struct Given {
    /// Where it stands.
    pub span: Span,
    /// When it arrives, microseconds since 1970.
    pub arrived_us: i64,
    /// Its topic.
    pub topic: String,
    /// The key of its record.
    pub key: Option<String>,
    /// Headers of its record.
    pub headers: IndexMap<String, String>,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
}

/// Reads a file of cases, or lists what is wrong with it.
pub fn read(name: &str, text: &str) -> Result<Vec<Case>, Findings> {
    let document = document::parse(name, text).map_err(|all| Findings::new(name, text, all))?;
    let mut reader = Reader::default();
    let cases = cases(&mut reader, &document);
    let findings = reader.into_findings();
    match findings.is_empty() {
        true => Ok(cases),
        false => Err(Findings::new(name, text, findings)),
    }
}

fn cases(reader: &mut Reader, document: &Document) -> Vec<Case> {
    let top = Span { line: 1, column: 1, ..Span::default() };
    let Some(entries) = reader.keys(&document.root, top, &KEYS) else { return Vec::new() };
    let begin = entries.iter().find(|entry| entry.key == "begin");
    let begin_us = begin.and_then(|entry| instant(reader, entry, None));
    let begin_us = begin_us.or_else(|| parse_rfc3339(BEGIN_DEFAULT)).unwrap_or_default();
    let Some(all) = entries.iter().find(|entry| entry.key == "cases") else {
        let help = "write cases: {a name: {given: [..], expect: {..}}}";
        reader.problem(top, "there are no cases".into(), help.into());
        return Vec::new();
    };
    let mut cases = Vec::new();
    for entry in reader.entries(all) {
        cases.extend(reader.under(entry, |reader, entry| case(reader, entry, begin_us)));
    }
    cases
}

fn case(reader: &mut Reader, entry: &Entry, begin_us: i64) -> Option<Case> {
    let entries = reader.keys(&entry.value, entry.key_span, &CASE_KEYS)?;
    let find = |key: &str| entries.iter().find(|entry| entry.key == key);
    let begin_us = match find("begin") {
        Some(begin) => instant(reader, begin, None)?,
        None => begin_us,
    };
    let mut messages = Vec::new();
    match find("given").map(|given| (given, &given.value.content)) {
        Some((_, Content::Sequence(items))) => {
            items.iter().for_each(|item| given(reader, item, begin_us, &mut messages));
        }
        Some((given, _)) => {
            let help = "write a list: - {at: 0s, topic: .., payload: ..}";
            reader.problem(given.shown_span(), "`given` is no list of messages".into(), help.into());
        }
        None => {}
    }
    // Devices send in the order of the file; what is late arrives later.
    messages.sort_by_key(|message| message.arrived_us);
    let last_us = messages.last().map_or(begin_us, |message| message.arrived_us);
    let until_us = match find("until") {
        Some(until) => instant(reader, until, Some(begin_us))?,
        None => last_us,
    };
    if let (Some(until), true) = (find("until"), until_us < last_us) {
        let help = "write a later `until`, or leave it out";
        reader.problem(until.shown_span(), "a message arrives after `until`".into(), help.into());
    }
    let answers = find("answers").map(|answers| self::answers(reader, answers)).unwrap_or_default();
    let expect = find("expect");
    if let Some(expect) = expect {
        reader.under(expect, |reader, expect| {
            reader.keys(&expect.value, expect.key_span, &EXPECT_KEYS).map(|_| ())
        });
    }
    let (name, expect) = (entry.key.clone(), expect.map(|expect| expect.value.clone()));
    Some(Case { name, span: entry.key_span, messages, until_us, answers, expect })
}

/// One entry of `given`: a message, or as many as it says.
fn given(reader: &mut Reader, item: &Node, begin_us: i64, messages: &mut Vec<Given>) {
    let span = item.first_span();
    let Some(entries) = reader.keys(item, span, &GIVEN_KEYS) else { return };
    let find = |key: &str| entries.iter().find(|entry| entry.key == key);
    let (Some(topic), Some(payload)) = (find("topic"), find("payload")) else {
        let help = "write {at: 0s, topic: device/d-1/t, payload: {t: 20}}";
        return reader.problem(span, "a message has a topic and a payload".into(), help.into());
    };
    let at_us = match find("at") {
        Some(at) => instant(reader, at, Some(begin_us)),
        None => Some(begin_us),
    };
    let mut time = |key: &str| match find(key) {
        Some(entry) => duration(reader, entry),
        None => Some(0),
    };
    let (Some(at_us), Some(late_us), Some(every_us)) = (at_us, time("late"), time("every")) else { return };
    let times = find("times").map_or(Some(1), |times| reader.under(times, Reader::value::<u64>));
    let topic = reader.under(topic, Reader::value::<String>);
    let key = find("key").map(|key| reader.under(key, Reader::value::<String>));
    let headers =
        find("headers").map(|headers| reader.under(headers, Reader::value::<IndexMap<String, String>>));
    let retained = find("retained").map(|retained| reader.under(retained, Reader::value::<bool>));
    let (Some(times), Some(topic)) = (times, topic) else { return };
    if times > MESSAGES_MAX.saturating_sub(messages.len() as u64) || (times > 1 && find("every").is_none()) {
        let help =
            format!("write how far apart they are, {{every: 1s, times: 60}}, and at most {MESSAGES_MAX}");
        return reader.problem(span, "these are no messages one after the other".into(), help);
    }
    for number in 0..times {
        let Some(sent_us) = every_us.checked_mul(number as i64).and_then(|after| at_us.checked_add(after))
        else {
            return;
        };
        messages.push(Given {
            span,
            arrived_us: sent_us.saturating_add(late_us),
            topic: topic.clone(),
            key: key.clone().flatten(),
            headers: headers.clone().flatten().unwrap_or_default(),
            payload: payload_of(&payload.value, Sent { at_us: sent_us, number }),
            retained: retained.flatten().unwrap_or_default(),
        });
    }
}

/// What a payload may say of its message.
#[derive(Clone, Copy)]
struct Sent {
    at_us: i64,
    number: u64,
}

impl Sent {
    /// The words that stand for it, with what they stand for.
    fn words(self) -> [(&'static str, String); 6] {
        let us = self.at_us;
        [
            ("$at.unix_s", (us as f64 / 1e6).to_string()),
            ("$at.unix_ms", us.div_euclid(1_000).to_string()),
            ("$at.unix_us", us.to_string()),
            ("$at.unix_ns", (i128::from(us) * 1_000).to_string()),
            ("$at.rfc3339", instant_text(us)),
            ("$number", self.number.to_string()),
        ]
    }

    fn fill(self, text: &str) -> String {
        self.words().iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    }

    /// In JSON, a text that is such a word alone is a number, where it stands for one.
    fn fill_json(self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains('$') => {
                let is_word = self.words().iter().any(|(word, _)| word == text) && text != "$at.rfc3339";
                let filled = self.fill(text);
                let number = is_word.then(|| serde_json::from_str(&filled).ok()).flatten();
                *value = number.unwrap_or(Value::String(filled));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_json(item)),
            Value::Object(entries) => entries.values_mut().for_each(|value| self.fill_json(value)),
            _ => {}
        }
    }
}

/// A map or list is JSON, everything else the text as it stands.
fn payload_of(node: &Node, sent: Sent) -> Vec<u8> {
    match &node.content {
        Content::Scalar { text, .. } => sent.fill(text).into_bytes(),
        Content::Mapping(_) | Content::Sequence(_) => {
            let mut value: Value = document::read(node).expect("every tree is a value");
            sent.fill_json(&mut value);
            value.to_string().into_bytes()
        }
    }
}

fn answers(reader: &mut Reader, entry: &Entry) -> IndexMap<String, Vec<Value>> {
    let mut answers = IndexMap::new();
    for entry in reader.entries(entry) {
        let answer = reader.under(entry, Reader::value::<Value>);
        let all = match answer {
            Some(Value::Array(all)) if !all.is_empty() => all,
            Some(one @ Value::Object(_)) => vec![one],
            _ => {
                let help = "write what it answers: {cost: {cost: 3.5}}, or a list of that, one a call";
                let message = format!("`{}` has no answer", entry.key);
                reader.problem(entry.shown_span(), message, help.into());
                continue;
            }
        };
        answers.insert(entry.key.clone(), all);
    }
    answers
}

/// `1646847376104`, `2022-03-09T17:36:16.104Z`, or, after a begin, `90s`.
fn instant(reader: &mut Reader, entry: &Entry, begin_us: Option<i64>) -> Option<i64> {
    let text: String = reader.under(entry, Reader::value)?;
    let after = |begin_us: i64| Some(begin_us.saturating_add(micros(humantime::parse_duration(&text).ok()?)));
    let millis = || text.parse::<i64>().ok()?.checked_mul(1_000);
    let found = begin_us.and_then(after).or_else(|| parse_rfc3339(&text)).or_else(millis);
    if found.is_none() {
        let from_begin = if begin_us.is_some() { "1.5s after the begin as 1500ms, " } else { "" };
        let help = format!("write {from_begin}2022-03-09T17:36:16.104Z, or milliseconds since 1970");
        reader.problem(entry.shown_span(), format!("`{text}` is no instant"), help);
    }
    found
}

fn duration(reader: &mut Reader, entry: &Entry) -> Option<i64> {
    let text: String = reader.under(entry, Reader::value)?;
    let found = humantime::parse_duration(&text).ok().map(micros);
    if found.is_none() {
        let help = "write a number with its unit, such as 250ms, 60s or 5m";
        reader.problem(entry.shown_span(), format!("`{text}` is not a duration"), help.into());
    }
    found
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(text: &str) -> String {
        match read("job.test.yaml", text) {
            Ok(cases) => cases
                .iter()
                .flat_map(|case| &case.messages)
                .map(|one| {
                    let payload = String::from_utf8_lossy(&one.payload).into_owned();
                    format!("{} {} {payload}\n", one.arrived_us, one.topic)
                })
                .collect(),
            Err(findings) => findings.plain(),
        }
    }

    #[test]
    fn messages_are_repeated_late_and_say_when_they_were_sent() {
        let text = "begin: 1970-01-01T00:00:10Z\ncases:\n  a:\n    given:\n      - {at: 1s, every: 500ms, times: 3, late: 1200ms, topic: t, payload: {ts: $at.unix_ms, n: $number, text: \"n $number\"}}\n      - {at: 2s, topic: u, payload: \"$at.unix_s;$at.rfc3339\"}\n";
        expect![[r#"
            12000000 u 12;1970-01-01T00:00:12.000Z
            12200000 t {"ts":11000,"n":0,"text":"n 0"}
            12700000 t {"ts":11500,"n":1,"text":"n 1"}
            13200000 t {"ts":12000,"n":2,"text":"n 2"}
        "#]]
        .assert_eq(&shown(text));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let text = "cases:\n  a:\n    given:\n      - {topic: t}\n      - {at: soon, topic: t, payload: 1}\n      - {times: 5, topic: t, payload: 1}\n      - {tipoc: t, topic: t, payload: 1}\n      - {at: 1m, topic: t, payload: 1}\n    until: 30s\n    expect: {twin: {}}\n    answers: {f: 1}\n";
        expect![[r#"
            job.test.yaml:4:10: a message has a topic and a payload
              help: write {at: 0s, topic: device/d-1/t, payload: {t: 20}}
            job.test.yaml:5:14: `soon` is no instant
              help: write 1.5s after the begin as 1500ms, 2022-03-09T17:36:16.104Z, or milliseconds since 1970
            job.test.yaml:6:10: these are no messages one after the other
              help: write how far apart they are, {every: 1s, times: 60}, and at most 100000
            job.test.yaml:7:10: unknown key `tipoc`
              help: did you mean `topic`?
            job.test.yaml:9:12: a message arrives after `until`
              help: write a later `until`, or leave it out
            job.test.yaml:10:14: unknown key `twin`
              help: did you mean `twins`?
            job.test.yaml:11:18: `f` has no answer
              help: write what it answers: {cost: {cost: 3.5}}, or a list of that, one a call
        "#]]
        .assert_eq(&shown(text));
        assert!(shown("caess: {}").contains("there are no cases"));
    }
}
