//! A stream's mapping, compiled: which parts of a payload are what.

use indexmap::IndexMap;

use super::list::{DecodeSettings, Format};
use super::presence::{PresenceSettings, Words};
use super::settings::{AtSettings, MappingSettings, StreamSettings, TimeFormat};
use super::twin_id::{IdTemplate, TwinSource, template_default, template_help};
use super::{NESTING_MAX, TopicPattern};
use crate::bus::Bus;
use crate::model::{Kind, Model, Property};
use crate::problem::{Problem, suggestion};

/// What to write where nothing says when a message was true.
const AT_HELP: &str = "add `at: arrival`, or `at: {pointer: /timestamp, format: unix_ms}`";

/// A stream, compiled.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    pub(super) bus: Bus,
    /// What reads its payloads.
    pub(super) format: Format,
    pub(super) patterns: Vec<TopicPattern>,
    pub(super) twin: TwinSource,
    pub(super) has_device_time: bool,
    pub(super) time_format: TimeFormat,
    /// Pointer to the array of elements, as its tokens.
    pub(super) each: Option<Vec<String>>,
    pub(super) leaves: Vec<Leaf>,
    /// Where the leaves are; node 0 is the payload, or the element of `each`.
    pub(super) nodes: Vec<Node>,
    /// A leaf stands inside another: the payload is read whole before it is taken apart.
    pub(super) nested_leaves: bool,
}

/// What a part of the payload is.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub pointer: String,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    DeviceTime,
    Twin,
    Historical,
    Property(PropertyTarget),
    Event(u16),
}

#[derive(Clone, Debug)]
pub(super) struct PropertyTarget {
    pub index: u16,
    pub property: Property,
    /// What values mean, by their text.
    pub map: IndexMap<String, serde_json::Value>,
}

/// A place in the payload: its children by key (or index), and the leaf that stands here.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub children: Vec<(String, usize)>,
    pub leaves: Vec<usize>,
}

impl StreamPlan {
    /// Compiles a stream that comes by such a bus against its type's model, or says what is wrong with it.
    pub fn compile(settings: &StreamSettings, model: &Model, bus: Bus) -> Result<Self, Problem> {
        settings.decode.check(settings)?;
        let topics = settings.topics();
        if topics.is_empty() {
            let help = match bus {
                Bus::Levels | Bus::LevelsAndHeaders => "add topics: [\"device/{twin}/telemetry\"]",
                Bus::Records => "add topics: [plant.telemetry]",
            };
            return Err(Problem::new("the stream has no topic", help).under("topics"));
        }
        if bus == Bus::Records && settings.decode == DecodeSettings::SparkplugB {
            let message = format!("Sparkplug comes by MQTT, and `{}` has records", settings.from);
            return Err(Problem::new(message, "read it from an mqtt connection").under("from"));
        }
        let mut patterns = Vec::new();
        for (index, topic) in topics.iter().enumerate() {
            let pattern = TopicPattern::parse(topic, bus)
                .map_err(|problem| problem.under(index.to_string()).under("topics"))?;
            patterns.push(pattern);
        }
        if settings.properties.is_empty() && settings.events.is_empty() {
            return Err(Problem::new(
                "the stream maps nothing",
                "add properties: {temperature: /data/temperature}, or events",
            ));
        }
        let mut builder = PlanBuilder::new(&settings.decode);
        let (has_device_time, time_format) = match &settings.at {
            None if settings.decode.has_device_time() => (true, TimeFormat::UnixMs),
            None => return Err(Problem::new("`at` is missing", AT_HELP).under("at")),
            Some(AtSettings::Arrival(_)) => (false, TimeFormat::UnixMs),
            Some(AtSettings::Pointer(at)) => {
                builder
                    .add(&at.pointer, Target::DeviceTime)
                    .map_err(|problem| problem.under("pointer").under("at"))?;
                (true, at.format)
            }
        };
        let twin = compile_twin(settings, &patterns, bus, &mut builder)
            .map_err(|(key, problem)| problem.under(key))?;
        if let Some(pointer) = &settings.historical {
            builder.add(pointer, Target::Historical).map_err(|problem| problem.under("historical"))?;
        }
        for (name, mapping) in &settings.properties {
            compile_mapping(name, mapping, model, &mut builder)
                .map_err(|problem| problem.under(name).under("properties"))?;
        }
        for (name, pointer) in &settings.events {
            let target = model.require_event(name).map(Target::Event);
            target
                .and_then(|target| builder.add(pointer, target))
                .map_err(|problem| problem.under(name).under("events"))?;
        }
        let each = match &settings.each {
            Some(pointer) => Some(tokens(pointer).map_err(|problem| problem.under("each"))?),
            None => None,
        };
        Ok(Self {
            bus,
            format: settings.decode.compile(settings, &builder.leaves)?,
            patterns,
            twin,
            has_device_time,
            time_format,
            each,
            nested_leaves: builder.has_nested_leaves(),
            leaves: builder.leaves,
            nodes: builder.nodes,
        })
    }

    /// Compiles where presence comes from, or says what is wrong with it.
    pub fn compile_presence(settings: &PresenceSettings, bus: Bus) -> Result<Self, Problem> {
        let pattern = TopicPattern::parse(&settings.topic, bus).map_err(|problem| problem.under("topic"))?;
        let patterns = vec![pattern];
        let template = settings.twin.as_deref();
        let key = if template.is_some() { "twin" } else { "topic" };
        let template = template.unwrap_or(template_default(bus, &patterns));
        let twin = IdTemplate::parse(template, &patterns, bus).map_err(|problem| problem.under(key))?;
        Ok(Self {
            bus,
            format: Format::Presence(Box::new(Words::compile(settings)?)),
            patterns,
            twin: TwinSource::Template(twin),
            has_device_time: false,
            time_format: TimeFormat::UnixMs,
            each: None,
            leaves: Vec::new(),
            nodes: vec![Node::default()],
            nested_leaves: false,
        })
    }

    /// The stream's topic patterns.
    pub fn patterns(&self) -> &[TopicPattern] {
        &self.patterns
    }

    /// Whether both streams may make a twin of the same device.
    pub fn claims_what(&self, other: &StreamPlan) -> bool {
        match (self.format.metrics(), other.format.metrics()) {
            (Some(one), Some(other)) => one.share(other),
            _ => self.overlaps(other),
        }
    }

    /// Whether some topic is taken by both streams.
    pub(super) fn overlaps(&self, other: &StreamPlan) -> bool {
        let overlaps = |a: &TopicPattern| other.patterns.iter().any(|b| a.overlaps(b));
        self.patterns.iter().any(overlaps)
    }

    /// Whether one of the stream's patterns takes a topic; see [`StreamPlan::matching`].
    pub(super) fn takes<'t>(&self, topic: &'t str, captured: &mut Captured<'t>) -> bool {
        match self.matching(topic, &mut captured.texts) {
            Some(pattern) => {
                captured.pattern = pattern;
                true
            }
            None => false,
        }
    }

    /// The index of the first pattern that takes a topic, and its captures.
    pub(super) fn matching<'t>(&self, topic: &'t str, texts: &mut Vec<&'t str>) -> Option<usize> {
        self.patterns.iter().position(|pattern| pattern.matches(topic, texts))
    }
}

/// The captures of a topic, and the pattern that took it.
#[derive(Clone, Debug, Default)]
pub(super) struct Captured<'t> {
    pub texts: Vec<&'t str>,
    pub pattern: usize,
}

fn compile_twin(
    settings: &StreamSettings,
    patterns: &[TopicPattern],
    bus: Bus,
    builder: &mut PlanBuilder<'_>,
) -> Result<TwinSource, (&'static str, Problem)> {
    match settings.twin.as_deref() {
        Some(pointer) if pointer.starts_with('/') => {
            if settings.decode.twin(pointer).map_err(|problem| ("twin", problem))?.is_none() {
                builder.add(pointer, Target::Twin).map_err(|problem| ("twin", problem))?;
            }
            Ok(TwinSource::Payload)
        }
        Some(template) if !template.contains('{') => {
            Err(("twin", Problem::new(format!("`{template}` would be one id for all"), template_help(bus))))
        }
        template => {
            let known = settings.decode.id_patterns(settings, bus).map_err(|problem| ("group", problem))?;
            let (patterns, default) = match &known {
                Some((patterns, default)) => (&patterns[..], *default),
                None => (patterns, template_default(bus, patterns)),
            };
            let key = if template.is_some() { "twin" } else { "topics" };
            IdTemplate::parse(template.unwrap_or(default), patterns, bus)
                .map(TwinSource::Template)
                .map_err(|problem| (key, problem))
        }
    }
}

fn compile_mapping(
    name: &str,
    mapping: &MappingSettings,
    model: &Model,
    builder: &mut PlanBuilder<'_>,
) -> Result<(), Problem> {
    let index = model.require_property(name)?;
    let property = model.properties[usize::from(index)].clone();
    builder.decode.check_property(&property)?;
    let map = match mapping {
        MappingSettings::Pointer(_) => IndexMap::new(),
        MappingSettings::Mapped(mapped) => mapped.map.clone(),
    };
    if let Kind::Enum(words) = &property.kind {
        for (from, to) in &map {
            let word = to.as_str().unwrap_or_default();
            if !words.iter().any(|one| one == word) {
                return Err(Problem::new(
                    format!("`{to}` is no value of `{name}`"),
                    suggestion(word, words.iter().map(String::as_str)),
                )
                .under(from)
                .under("map"));
            }
        }
    }
    let target = Target::Property(PropertyTarget { index, property, map });
    builder.add(mapping.pointer(), target)
}

/// Collects leaves into the tree of places.
struct PlanBuilder<'s> {
    decode: &'s DecodeSettings,
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
}

impl<'s> PlanBuilder<'s> {
    fn new(decode: &'s DecodeSettings) -> Self {
        Self { decode, nodes: vec![Node::default()], leaves: Vec::new() }
    }

    fn add(&mut self, pointer: &str, target: Target) -> Result<(), Problem> {
        let mut node = 0;
        for token in self.decode.place(pointer)? {
            let known = self.nodes[node].children.iter().find(|(key, _)| *key == token);
            node = match known {
                Some((_, child)) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.push((token, child));
                    child
                }
            };
        }
        self.nodes[node].leaves.push(self.leaves.len());
        self.leaves.push(Leaf { pointer: pointer.into(), target });
        Ok(())
    }

    fn has_nested_leaves(&self) -> bool {
        let nested =
            |node: &Node| node.leaves.len() > 1 || (!node.leaves.is_empty() && !node.children.is_empty());
        self.nodes.iter().any(nested)
    }
}

/// The reference tokens of a JSON Pointer (RFC 6901, section 4).
pub(super) fn tokens(pointer: &str) -> Result<Vec<String>, Problem> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err(Problem::new(
            format!("`{pointer}` is no JSON Pointer"),
            format!("begin it with a slash: /{}", pointer.replace('.', "/")),
        ));
    };
    let tokens: Vec<String> =
        rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    if tokens.len() > NESTING_MAX {
        return Err(Problem::new(
            format!("the pointer has {} levels", tokens.len()),
            format!("a payload may nest {} levels", NESTING_MAX),
        ));
    }
    Ok(tokens)
}
