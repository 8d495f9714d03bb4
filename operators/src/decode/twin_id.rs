//! Where the id of a message's twin is: in its payload, or in a template over what stands around it.
//!
//! ```text
//!  "{site}-{key}"            captures of the topic ─┐
//!  "{header.device}"         key of the record ─────┼─► id, checked where the event is finished (rule 8.1)
//!                            headers of the record ─┘
//! ```

use bytes::Bytes;

use super::TopicPattern;
use crate::bus::Bus;
use crate::problem::Problem;

/// Most headers that one template may name: a source looks for each of them in every record.
pub const HEADERS_MAX: usize = 8;

/// The place of the record's key.
pub(super) const KEY: &str = "key";
/// How the place of a header begins.
const HEADER: &str = "header.";

/// Where the id of a message's twin is from.
#[derive(Clone, Debug, PartialEq)]
pub enum TwinSource {
    /// From what stands around the payload: the topic, and the record's key and headers.
    Template(IdTemplate),
    /// From the payload (the leaf `Target::Twin`).
    Payload,
}

/// An id made of text, captures and, of a record, its key and headers: `{site}-{key}`.
#[derive(Clone, Debug, PartialEq)]
pub struct IdTemplate {
    /// For each pattern of the stream, the parts: captures differ in place between patterns.
    parts: Vec<Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Capture(usize),
    Key,
    Header(HeaderPlace),
}

/// A header, and its place among those that the source is asked for.
#[derive(Clone, Debug, PartialEq)]
struct HeaderPlace {
    name: String,
    place: usize,
}

/// What a record says of itself beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub headers: &'a [Option<Bytes>],
}

/// The template of a stream that names none: a record has its key, unless the topics say whose it is.
pub(super) fn template_default(bus: Bus, patterns: &[TopicPattern]) -> &'static str {
    let names_twin = |pattern: &TopicPattern| pattern.captures().any(|capture| capture == "twin");
    match bus {
        Bus::Records if !patterns.iter().any(names_twin) => "{key}",
        Bus::Records | Bus::Levels | Bus::LevelsAndHeaders => "{twin}",
    }
}

/// What to write where a template names nothing that changes from twin to twin.
pub(super) fn template_help(bus: Bus) -> &'static str {
    match bus {
        Bus::Levels => "write a template over the topic's captures (\"{site}-{device}\"), or a pointer (/id)",
        Bus::LevelsAndHeaders => {
            "write a template over the topic's captures and user properties (\"{site}-{header.device}\"), or a \
             pointer (/id)"
        }
        Bus::Records => {
            "write the record's key or a header (\"{key}\", \"{header.device}\"), captures of the topic \
             (\"{site}-{key}\"), or a pointer (/id)"
        }
    }
}

impl IdTemplate {
    /// Reads a template against the patterns of its stream.
    pub(super) fn parse(template: &str, patterns: &[TopicPattern], bus: Bus) -> Result<Self, Problem> {
        let all: Result<Vec<_>, Problem> =
            patterns.iter().map(|pattern| parse_parts(template, pattern, bus)).collect();
        let this = Self { parts: all? };
        let mut names = Vec::new();
        this.headers(|header| {
            if !names.contains(&header.name) {
                names.push(header.name.clone());
            }
        });
        if names.len() > HEADERS_MAX {
            let message = format!("`{template}` names {} headers, at most {HEADERS_MAX}", names.len());
            return Err(Problem::new(message, "send the id in one header or in the key"));
        }
        Ok(this)
    }

    /// Whether it names a header.
    pub(super) fn has_headers(&self) -> bool {
        self.parts.iter().flatten().any(|part| matches!(part, Part::Header(_)))
    }

    fn headers(&self, mut give: impl FnMut(&HeaderPlace)) {
        for part in self.parts.iter().flatten() {
            if let Part::Header(header) = part {
                give(header);
            }
        }
    }

    /// Finds each header's place in the list, and adds those that are not there yet.
    pub(super) fn place_headers(&mut self, list: &mut Vec<String>) {
        for part in self.parts.iter_mut().flatten() {
            if let Part::Header(header) = part {
                header.place = list.iter().position(|name| *name == header.name).unwrap_or_else(|| {
                    list.push(header.name.clone());
                    list.len() - 1
                });
            }
        }
    }

    /// Appends the id of a message that came by the topic that the pattern with this index took.
    pub(super) fn fill(
        &self,
        pattern: usize,
        captured: &[&str],
        record: Record<'_>,
        id: &mut String,
    ) -> Result<(), String> {
        let mut buffer = String::new();
        for part in &self.parts[pattern] {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::Capture(index) => {
                    id.push_str(crate::id::decode_from_topic(captured[*index], &mut buffer));
                }
                Part::Key => {
                    let key = record.key.ok_or("the record has no key, and the twin id is taken from it")?;
                    id.push_str(text_of(key).ok_or("the record's key, taken as twin id, is not UTF-8")?);
                }
                Part::Header(HeaderPlace { name, place }) => {
                    let Some(Some(value)) = record.headers.get(*place) else {
                        return Err(format!(
                            "the record has no header `{name}`, and the twin id is taken from it"
                        ));
                    };
                    let text = text_of(value);
                    id.push_str(text.ok_or_else(|| {
                        format!("the record's header `{name}`, taken as twin id, is not UTF-8")
                    })?);
                }
            }
        }
        Ok(())
    }
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn parse_parts(template: &str, pattern: &TopicPattern, bus: Bus) -> Result<Vec<Part>, Problem> {
    let captures: Vec<&str> = pattern.captures().collect();
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        if open > 0 {
            parts.push(Part::Text(rest[..open].into()));
        }
        let Some(close) = rest[open..].find('}') else {
            return Err(Problem::new(format!("`{template}` has an open brace"), "write captures as {name}"));
        };
        let name = &rest[open + 1..open + close];
        parts.push(match captures.iter().position(|capture| *capture == name) {
            Some(index) => Part::Capture(index),
            None => parse_record_part(name, bus).ok_or_else(|| unknown(name, pattern, bus))?,
        });
        rest = &rest[open + close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts)
}

fn parse_record_part(name: &str, bus: Bus) -> Option<Part> {
    match name.strip_prefix(HEADER) {
        _ if !bus.has_headers() => None,
        Some(header) if !header.is_empty() => {
            Some(Part::Header(HeaderPlace { name: header.into(), place: 0 }))
        }
        _ => (name == KEY && bus == Bus::Records).then_some(Part::Key),
    }
}

/// The problem with a place that a message has not.
fn unknown(name: &str, pattern: &TopicPattern, bus: Bus) -> Problem {
    let is_of_record = name == KEY || name.starts_with(HEADER);
    let message = match bus {
        Bus::Levels if is_of_record && name != KEY => {
            format!("MQTT 3.1.1 has no user properties, which `{{{name}}}` is of; MQTT 5 has (version: 5)")
        }
        Bus::Levels | Bus::LevelsAndHeaders if name == KEY => {
            format!("MQTT has no keys; `{{{name}}}` is of a record of Kafka")
        }
        Bus::Levels | Bus::LevelsAndHeaders | Bus::Records => {
            format!("the topic `{}` has no capture {{{name}}}", pattern.filter())
        }
    };
    let help = match bus {
        Bus::Levels => {
            "write {twin} as a level of every topic, or say with `twin:` where the id is \
             (a template such as \"{site}-{device}\", or a pointer such as /deviceId)"
        }
        Bus::LevelsAndHeaders => {
            "write {twin} as a level of every topic, or say with `twin:` where the id is \
             ({header.NAME} for a user property, a template such as \"{site}-{device}\", or a pointer such as /deviceId)"
        }
        Bus::Records => {
            "write it as a level of every topic, or say with `twin:` where the id is \
             ({key}, {header.NAME}, a template such as \"{site}-{key}\", or a pointer such as /deviceId)"
        }
    };
    Problem::new(message, help)
}
