//! Where a digital event goes: `twins/{job}/{twin}/{kind}`, or `twins.{job}` where records have keys.

use super::DigitalKind;
use crate::bus::{Bus, check_records_topic};
use crate::id::encode_in_topic;
use crate::problem::Problem;

/// A topic with places for the job, the twin, its type and the kind of event.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicTemplate {
    bus: Bus,
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
    /// The default where the key of a record says of whom it is: one topic, which keeps all events of a twin in
    /// their order.
    pub const DEFAULT_OF_RECORDS: &str = "twins.{job}";

    /// The default on such a bus.
    pub fn default_of(bus: Bus) -> &'static str {
        match bus {
            Bus::Levels | Bus::LevelsAndHeaders => Self::DEFAULT,
            Bus::Records => Self::DEFAULT_OF_RECORDS,
        }
    }

    /// Reads a template of topics of such a bus; the job is known, and put in here.
    pub fn parse(template: &str, job: &str, bus: Bus) -> Result<Self, Problem> {
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
                Some("twin") if bus == Bus::Records => {
                    return Err(Problem::new(
                        "`{twin}` is no place in the topic of a Kafka listener: the key of each record is the \
                         twin's id",
                        format!("write {{job}}, {{type}} or {{kind}}, such as {}", Self::DEFAULT_OF_RECORDS),
                    ));
                }
                Some("twin") => Some(Part::Twin),
                Some("type") => Some(Part::Type),
                Some("kind") => Some(Part::Kind),
                _ => {
                    let places = match bus {
                        Bus::Levels | Bus::LevelsAndHeaders => "write {job}, {twin}, {type} or {kind}",
                        Bus::Records => "write {job}, {type} or {kind}",
                    };
                    let message = format!("`{}` is no place in a listener's topic", &rest[open..]);
                    return Err(Problem::new(message, places));
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
        let this = Self { bus, parts };
        match bus {
            Bus::Records => check_records_topic(template, &this.text())?,
            _ if template.is_empty() || template.contains(['+', '#', '\0']) => {
                return Err(Problem::new(
                    "a listener's topic is not empty and has no wildcard",
                    format!("write a topic such as {}", Self::DEFAULT),
                ));
            }
            Bus::Levels | Bus::LevelsAndHeaders => {}
        }
        Ok(this)
    }

    /// Whether its topics can be made for types of these names; on a bus of levels they always can.
    pub fn check_types<'a>(&self, types: impl IntoIterator<Item = &'a str>) -> Result<(), Problem> {
        if self.bus != Bus::Records {
            return Ok(());
        }
        for name in types {
            for kind in DigitalKind::ALL {
                let mut topic = Vec::new();
                self.write("", name, kind, &mut topic);
                let topic = String::from_utf8_lossy(&topic);
                check_records_topic(&topic, &topic).map_err(|problem| {
                    let message = format!("the topic for the type `{name}` cannot be: {}", problem.message);
                    Problem::new(
                        message,
                        "write a shorter topic without {type}, or give the type another name",
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Whether each twin has a topic of its own, so that a retained message says of whom it is.
    pub fn names_twin(&self) -> bool {
        self.parts.contains(&Part::Twin)
    }

    /// What stands in all of its topics.
    fn text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Twin | Part::Type | Part::Kind => String::new(),
        };
        self.parts.iter().map(text).collect()
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
        let separator = self.bus.separator();
        let levels: Vec<String> = pattern.split(separator).map(level).collect();
        levels.join(separator.encode_utf8(&mut [0; 4]))
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
        for (template, bus, expected, pattern) in [
            (TopicTemplate::DEFAULT, Bus::Levels, "twins/line%2F1/a%2Fb/state", "twins/line%2F1/+/+"),
            ("t", Bus::Levels, "t", "t"),
            ("{type}-{kind}/x", Bus::Levels, "press-state/x", "+/x"),
            ("{kind}.x.a-{type}", Bus::Records, "state.x.a-press", "+.x.+"),
        ] {
            assert_written(template, bus, "line/1", expected, pattern);
        }
        assert_written(
            TopicTemplate::default_of(Bus::Records),
            Bus::Records,
            "a.b",
            "twins.a.b",
            "twins.a.b",
        );
        for template in ["", "a/{x}", "a/{twin", "a/+", "#"] {
            assert!(TopicTemplate::parse(template, "j", Bus::Levels).is_err(), "{template}");
        }
    }

    fn assert_written(template: &str, bus: Bus, job: &str, expected: &str, pattern: &str) {
        let template = TopicTemplate::parse(template, job, bus).expect("good");
        let mut topic = Vec::new();
        template.write("a/b", "press", DigitalKind::State, &mut topic);
        assert_eq!(String::from_utf8_lossy(&topic), expected);
        assert_eq!(template.pattern(), pattern);
    }

    #[test]
    fn topics_of_records_are_kafkas() {
        let long = format!("{}{{kind}}", "x".repeat(250));
        for (template, message) in [
            (
                "twins.{twin}",
                "`{twin}` is no place in the topic of a Kafka listener: the key of each record is the twin's id",
            ),
            ("twins/{job}", "`twins/{job}` has a `/`, and Kafka's topics have none"),
            ("twins.{key}", "`{key}` is no place in a listener's topic"),
            ("twins.+", "`twins.+` has `+`, which Kafka's topics cannot have"),
            ("", "`` is no name of a topic in Kafka"),
            ("..", "`..` is no name of a topic in Kafka"),
            (&long, "the topic has 250 bytes, and Kafka's topics at most 249"),
        ] {
            let problem = TopicTemplate::parse(template, "j", Bus::Records).expect_err(template);
            assert_eq!(problem.message, message);
        }
    }

    #[test]
    fn names_of_types_must_fit_into_topics_of_records() {
        let long = "x".repeat(240);
        for (template, bus, name, expected) in [
            ("twins.{type}", Bus::Records, "press", None),
            ("twins", Bus::Records, "ü", None),
            ("twins/{type}", Bus::Levels, "ü", None),
            (
                "twins.{type}",
                Bus::Records,
                "ü",
                Some(
                    "the topic for the type `ü` cannot be: `twins.ü` has `ü`, which Kafka's topics cannot have",
                ),
            ),
            (
                "{type}",
                Bus::Records,
                "..",
                Some("the topic for the type `..` cannot be: `..` is no name of a topic in Kafka"),
            ),
            (
                &format!("{long}{{kind}}"),
                Bus::Records,
                "press",
                Some(
                    "the topic for the type `press` cannot be: the topic has 252 bytes, and Kafka's topics at most 249",
                ),
            ),
        ] {
            let template = TopicTemplate::parse(template, "j", bus).expect("good by itself");
            let found = template.check_types([name]).err().map(|problem| problem.message);
            assert_eq!(found.as_deref(), expected);
        }
    }
}
