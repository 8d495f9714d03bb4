//! Topic patterns of a job file: `device/{twin}/telemetry/+`.
//!
//! `{name}` captures one level, `+` skips one, a last `#` takes the rest (MQTT 3.1.1, 4.7). Topics of records
//! have the same with a dot between levels: `plant.{site}.telemetry`.
//!
//! `$share/<group>/<pattern>` has the broker deal the messages out among those who subscribe in the same group (MQTT
//! 5, 4.8.2); the messages' topics do not show it.

use super::twin_id::KEY;
use crate::bus::{Bus, check_records_topic};
use crate::problem::Problem;

/// How a pattern begins whose messages are shared.
const SHARED: &str = "$share/";

/// A pattern, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicPattern {
    bus: Bus,
    /// Who shares the messages, where they are shared.
    group: Option<String>,
    levels: Vec<Level>,
    /// Whether it ends in `#`.
    takes_rest: bool,
}

/// A level of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Level {
    Exactly(String),
    Any,
    Capture(String),
}

impl TopicPattern {
    /// Reads a pattern of topics of such a bus.
    pub fn parse(pattern: &str, bus: Bus) -> Result<Self, Problem> {
        let problem = |message: String, help: &str| Err(Problem::new(message, help));
        // A slash is the likeliest mistake, and would be taken for a mix of text and wildcard.
        if bus == Bus::Records && (pattern.is_empty() || pattern.contains('/')) {
            check_records_topic(pattern, "")?;
        }
        if pattern.is_empty() || pattern.len() > 65_535 || pattern.contains('\0') {
            return problem(
                "a topic has 1 to 65,535 bytes and no NUL".into(),
                "write a topic such as device/{twin}/telemetry",
            );
        }
        let (group, pattern) = match pattern.strip_prefix(SHARED) {
            Some(shared) if bus != Bus::Records => {
                let (group, pattern) = shared.split_once('/').unwrap_or((shared, ""));
                if group.is_empty() || pattern.is_empty() || group.contains(['+', '#', '{', '}']) {
                    return problem(
                        format!("`{SHARED}{shared}` names no group and topic"),
                        "write $share/GROUP/TOPIC, the group without wildcards: $share/plant/device/{twin}/state",
                    );
                }
                (Some(group.to_owned()), pattern)
            }
            _ => (None, pattern),
        };
        let mut levels: Vec<Level> = Vec::new();
        let texts: Vec<&str> = pattern.split(bus.separator()).collect();
        let mut takes_rest = false;
        for (index, text) in texts.iter().enumerate() {
            let level = match *text {
                "#" if index + 1 == texts.len() => {
                    takes_rest = true;
                    break;
                }
                "+" => Level::Any,
                _ if text.starts_with('{') && text.ends_with('}') => {
                    let name = &text[1..text.len() - 1];
                    let is_new = !levels.iter().any(|one| *one == Level::Capture(name.into()));
                    if name.is_empty() || name.contains(['{', '}']) || !is_new {
                        return problem(
                            format!("`{text}` names no capture of its own"),
                            "give each {capture} of a topic a different name",
                        );
                    }
                    if bus == Bus::Records && name == KEY {
                        return problem(
                            format!("`{text}` is the key of the record, not a part of its topic"),
                            "give the capture another name",
                        );
                    }
                    Level::Capture(name.into())
                }
                _ if text.contains(['#', '+', '{', '}']) => {
                    return problem(
                        format!("the level `{text}` mixes text and wildcard"),
                        "a wildcard or {capture} is a whole level; `#` only the last",
                    );
                }
                _ => Level::Exactly((*text).into()),
            };
            levels.push(level);
        }
        if bus == Bus::Records {
            check_records_topic(pattern, &exact_text(&levels, bus))?;
        }
        Ok(Self { bus, group, levels, takes_rest })
    }

    /// The group in which its messages are dealt out, where they are.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &Level> {
        self.levels.iter()
    }

    /// Whether it takes all below its levels as well.
    pub(super) fn takes_rest(&self) -> bool {
        self.takes_rest
    }

    /// The names of the captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The filter that a broker understands; of records, what their source understands: `plant.+.telemetry`.
    pub fn filter(&self) -> String {
        let mut levels: Vec<&str> = Vec::new();
        for level in &self.levels {
            levels.push(match level {
                Level::Exactly(text) => text,
                Level::Any | Level::Capture(_) => "+",
            });
        }
        if self.takes_rest {
            levels.push("#");
        }
        let filter = levels.join(self.bus.separator().encode_utf8(&mut [0; 4]));
        match &self.group {
            Some(group) => format!("{SHARED}{group}/{filter}"),
            None => filter,
        }
    }

    /// Whether the pattern takes a topic; the texts of its captures go to `captured`, in order.
    pub fn matches<'t>(&self, topic: &'t str, captured: &mut Vec<&'t str>) -> bool {
        captured.clear();
        let separator = self.bus.separator();
        let mut rest = Some(topic);
        for level in &self.levels {
            let Some(text) = rest else { return false };
            let (here, after) = match text.split_once(separator) {
                Some((here, after)) => (here, Some(after)),
                None => (text, None),
            };
            match level {
                Level::Exactly(exactly) if exactly == here => {}
                Level::Exactly(_) => return false,
                Level::Any => {}
                Level::Capture(_) => captured.push(here),
            }
            rest = after;
        }
        // `a/#` takes `a` as well as all below it.
        let is_internal = topic.starts_with(self.bus.internal_prefix())
            && !matches!(self.levels.first(), Some(Level::Exactly(_)));
        !is_internal && (self.takes_rest || rest.is_none())
    }

    /// Whether some topic is taken by both patterns: a listener must not write what a source reads.
    pub fn overlaps(&self, other: &TopicPattern) -> bool {
        let mut index = 0;
        loop {
            match (self.levels.get(index), other.levels.get(index)) {
                (None, None) => return true,
                (Some(Level::Exactly(a)), Some(Level::Exactly(b))) if a != b => return false,
                (Some(_), Some(_)) => index += 1,
                (None, Some(_)) => return self.takes_rest,
                (Some(_), None) => return other.takes_rest,
            }
        }
    }
}

/// What of a pattern stands in every topic that it takes.
fn exact_text(levels: &[Level], bus: Bus) -> String {
    let text = |level: &Level| match level {
        Level::Exactly(text) => text.clone(),
        Level::Any | Level::Capture(_) => String::new(),
    };
    let texts: Vec<String> = levels.iter().map(text).collect();
    texts.join(bus.separator().encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        TopicPattern::parse(text, Bus::Levels).expect("the case is well formed")
    }

    fn records(text: &str) -> TopicPattern {
        TopicPattern::parse(text, Bus::Records).expect("the case is well formed")
    }

    #[test]
    fn topics_are_matched_and_captured() {
        for (text, filter, topic, expected) in [
            ("device/{twin}/state", "device/+/state", "device/p-1/state", Some(vec!["p-1"])),
            ("device/{twin}/state", "device/+/state", "device/p-1/other", None),
            ("device/{twin}/state", "device/+/state", "device/p-1", None),
            ("device/{twin}/state", "device/+/state", "device/p-1/state/x", None),
            ("{site}/+/{twin}/#", "+/+/+/#", "s/x/t/y/z", Some(vec!["s", "t"])),
            ("a/#", "a/#", "a", Some(vec![])),
            ("#", "#", "$SYS/broker", None),
            ("device/{twin}", "device/+", "device/", Some(vec![""])),
            ("$share/g/device/{twin}", "$share/g/device/+", "device/a", Some(vec!["a"])),
            ("$share/g/device/{twin}", "$share/g/device/+", "$share/g/device/a", None),
            ("$share/g//{twin}", "$share/g//+", "/a", Some(vec!["a"])),
            ("$share/g/#", "$share/g/#", "$SYS/broker", None),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.filter(), filter);
            let mut captured = Vec::new();
            let matched = pattern.matches(topic, &mut captured);
            assert_eq!(matched.then_some(captured), expected, "{text} on {topic}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for text in [
            "",
            "a/#/b",
            "a/b+",
            "a/{}",
            "{x}/{x}",
            "a/{b}c",
            "a/{{b}}",
            "$share/g",
            "$share//a",
            "$share/+/a",
            "$share/g/",
        ] {
            assert!(TopicPattern::parse(text, Bus::Levels).is_err(), "{text}");
        }
    }

    #[test]
    fn topics_of_records_have_dots() {
        for (text, filter, topic, expected) in [
            ("telemetry", "telemetry", "telemetry", Some(vec![])),
            ("plant.{site}.telemetry", "plant.+.telemetry", "plant.s-1.telemetry", Some(vec!["s-1"])),
            ("plant.{site}.telemetry", "plant.+.telemetry", "plant.s.1.telemetry", None),
            ("plant.+.{twin}.#", "plant.+.+.#", "plant.a.b.c.d", Some(vec!["b"])),
            ("#", "#", "__consumer_offsets", None),
            ("#", "#", "_schemas", Some(vec![])),
            ("__own.#", "__own.#", "__own.x", Some(vec![])),
        ] {
            let pattern = records(text);
            assert_eq!(pattern.filter(), filter);
            let mut captured = Vec::new();
            let matched = pattern.matches(topic, &mut captured);
            assert_eq!(matched.then_some(captured), expected, "{text} on {topic}");
        }
        let long = format!("{}.{{site}}", "x".repeat(249));
        for (text, message) in [
            ("", "`` is no name of a topic in Kafka"),
            ("plant/{site}", "`plant/{site}` has a `/`, and Kafka's topics have none"),
            ("plant x.#", "`plant x.#` has ` `, which Kafka's topics cannot have"),
            ("plant.{key}", "`{key}` is the key of the record, not a part of its topic"),
            ("plant.a{x}", "the level `a{x}` mixes text and wildcard"),
            ("plant.#.x", "the level `#` mixes text and wildcard"),
            (&long, "the topic has 250 bytes, and Kafka's topics at most 249"),
        ] {
            let problem = TopicPattern::parse(text, Bus::Records).expect_err(text);
            assert_eq!(problem.message, message);
        }
        assert!(records("plant.+.x").overlaps(&records("plant.#")));
        assert!(!records("plant.+.x").overlaps(&records("plant.x")));
    }

    #[test]
    fn overlaps_are_seen() {
        for (a, b, expected) in [
            ("device/{twin}/state", "device/+/+", true),
            ("twins/j/{twin}/state", "device/+/state", false),
            ("twins/j/{twin}/state", "#", true),
            ("a/b", "a/#", true),
            ("a", "a/#", true),
            ("a/b", "a", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} and {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} and {a}");
        }
    }
}
