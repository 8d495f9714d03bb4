//! Where a digital event goes: `twins/{job}/{twin}/{kind}`.

use super::DigitalKind;
use crate::id::encode_in_topic;
use crate::problem::Problem;

/// A topic with places for the job, the twin, its type and the kind of event.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Twin,
    Type,
    Kind,
}

impl TopicTemplate {
    /// The default of rule 9.
    pub const DEFAULT: &str = "twins/{job}/{twin}/{kind}";

    /// Reads a template; the job is known, and put in here.
    pub fn parse(template: &str, job: &str) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            text.push_str(&rest[..open]);
            let place = rest[open..].find('}').map(|close| &rest[open + 1..open + close]);
            let part = match place {
                Some("job") => {
                    encode_in_topic(job, &mut text);
                    None
                }
                Some("twin") => Some(Part::Twin),
                Some("type") => Some(Part::Type),
                Some("kind") => Some(Part::Kind),
                _ => {
                    return Err(Problem::new(
                        format!("`{}` is no place in a listener's topic", &rest[open..]),
                        "write {job}, {twin}, {type} or {kind}",
                    ));
                }
            };
            if let Some(part) = part {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(part);
            }
            rest = &rest[open + place.map_or(0, str::len) + 2..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        if template.is_empty() || template.contains(['+', '#', '\0']) {
            return Err(Problem::new(
                "a listener's topic is not empty and has no wildcard",
                format!("write a topic such as {}", Self::DEFAULT),
            ));
        }
        Ok(Self { parts })
    }

    /// Whether each twin has a topic of its own, so that a retained message says of whom it is.
    pub fn names_twin(&self) -> bool {
        self.parts.contains(&Part::Twin)
    }

    /// The pattern that takes all topics of this template: a source must not read them.
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => pattern.push_str(text),
                Part::Twin | Part::Type | Part::Kind => pattern.push('+'),
            }
        }
        // A level of text and place becomes a wildcard as a whole.
        let level = |level: &str| {
            if level.contains('+') { "+".into() } else { level.to_owned() }
        };
        pattern.split('/').map(level).collect::<Vec<String>>().join("/")
    }

    /// Appends the topic of a twin's event.
    pub fn write(&self, twin: &str, twin_type: &str, kind: DigitalKind, topic: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.extend_from_slice(text.as_bytes()),
                Part::Kind => topic.extend_from_slice(kind.word().as_bytes()),
                Part::Twin => encode(twin, topic),
                Part::Type => encode(twin_type, topic),
            }
        }
    }
}

fn encode(id: &str, topic: &mut Vec<u8>) {
    if id.bytes().any(|byte| matches!(byte, b'/' | b'+' | b'#' | b'%')) {
        let mut encoded = String::new();
        encode_in_topic(id, &mut encoded);
        topic.extend_from_slice(encoded.as_bytes());
    } else {
        topic.extend_from_slice(id.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_written() {
        for (template, expected, pattern) in [
            (TopicTemplate::DEFAULT, "twins/line%2F1/a%2Fb/state", "twins/line%2F1/+/+"),
            ("t", "t", "t"),
            ("{type}-{kind}/x", "press-state/x", "+/x"),
        ] {
            let template = TopicTemplate::parse(template, "line/1").expect("good");
            let mut topic = Vec::new();
            template.write("a/b", "press", DigitalKind::State, &mut topic);
            assert_eq!(String::from_utf8_lossy(&topic), expected);
            assert_eq!(template.pattern(), pattern);
        }
        for template in ["", "a/{x}", "a/{twin", "a/+", "#"] {
            assert!(TopicTemplate::parse(template, "j").is_err(), "{template}");
        }
    }
}
