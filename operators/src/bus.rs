//! The two kinds of bus that messages come by, as far as topics and ids differ between them.
//!
//! ```text
//!                      topic                 whose message it is
//!  Levels              plant/press-7/state   a level of the topic              MQTT 3.1.1, files
//!  LevelsAndHeaders    plant/press-7/state   the same, or a user property      MQTT 5
//!  Records             plant.telemetry       the key of the record             Kafka
//! ```

use crate::problem::Problem;

/// Longest name of a topic of records, in bytes.
pub const RECORDS_TOPIC_BYTES_MAX: usize = 249;

/// How a bus names its topics, and where it says whose a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// Topics of levels between `/`, as MQTT has them; a message is known by its topic.
    #[default]
    Levels,
    /// The same topics; a message has headers beside its payload, as MQTT 5 has them (user properties).
    LevelsAndHeaders,
    /// Topics of records, as Kafka has them, with levels between `.`; a record has a key and headers.
    Records,
}

impl Bus {
    /// What stands between two levels of a topic.
    pub fn separator(self) -> char {
        match self {
            Bus::Levels | Bus::LevelsAndHeaders => '/',
            Bus::Records => '.',
        }
    }

    /// Whether a message has headers.
    pub fn has_headers(self) -> bool {
        self != Bus::Levels
    }

    /// How the topics begin that belong to the bus itself: no wildcard takes them.
    pub(crate) fn internal_prefix(self) -> &'static str {
        match self {
            Bus::Levels | Bus::LevelsAndHeaders => "$",
            Bus::Records => "__",
        }
    }
}

/// What is wrong with the text of a topic of records; `topic` is what is shown of it. Places and wildcards
/// are taken out of `text`, so that it may be shorter than the topic will be.
pub(crate) fn check_records_topic(topic: &str, text: &str) -> Result<(), Problem> {
    if topic.contains('/') {
        return Err(Problem::new(
            format!("`{topic}` has a `/`, and Kafka's topics have none"),
            format!("write a dot between levels: {}", topic.replace('/', ".")),
        ));
    }
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(other) = text.chars().find(|c| !is_known(*c)) {
        return Err(Problem::new(
            format!("`{topic}` has `{}`, which Kafka's topics cannot have", other.escape_debug()),
            "write letters, digits, `.`, `_` or `-`",
        ));
    }
    if text.len() > RECORDS_TOPIC_BYTES_MAX {
        return Err(Problem::new(
            format!(
                "the topic has {} bytes, and Kafka's topics at most {RECORDS_TOPIC_BYTES_MAX}",
                text.len()
            ),
            "write a shorter topic",
        ));
    }
    if matches!(topic, "" | "." | "..") {
        return Err(Problem::new(
            format!("`{topic}` is no name of a topic in Kafka"),
            "write a topic such as plant.telemetry",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_records_are_checked() {
        for (topic, expected) in [
            ("plant.tele-metry_2", None),
            (
                "plant/x/y",
                Some(
                    "`plant/x/y` has a `/`, and Kafka's topics have none; write a dot between levels: plant.x.y",
                ),
            ),
            (
                "a b",
                Some(
                    "`a b` has ` `, which Kafka's topics cannot have; write letters, digits, `.`, `_` or `-`",
                ),
            ),
            (
                "ä",
                Some("`ä` has `ä`, which Kafka's topics cannot have; write letters, digits, `.`, `_` or `-`"),
            ),
            ("", Some("`` is no name of a topic in Kafka; write a topic such as plant.telemetry")),
            ("..", Some("`..` is no name of a topic in Kafka; write a topic such as plant.telemetry")),
        ] {
            let found = check_records_topic(topic, topic).err();
            let found = found.map(|problem| format!("{}; {}", problem.message, problem.help));
            assert_eq!(found.as_deref(), expected);
        }
        assert!(check_records_topic("x", &"x".repeat(249)).is_ok());
        let long = check_records_topic("x", &"x".repeat(250)).expect_err("too long by one");
        assert_eq!(long.message, "the topic has 250 bytes, and Kafka's topics at most 249");
    }
}
