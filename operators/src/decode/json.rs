//! JSON payloads, read along a stream's plan.
//!
//! Two ways, with one meaning. The usual one walks the text once, keeps what the plan names and
//! checks the rest, with no tree in between. A message with many elements, or a plan in which one
//! leaf stands inside another, is read into a tree first.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::plan::{Captured, PropertyTarget, StreamPlan, Target};
use super::scalar::{Scalar, check_structure, device_time, kind_name, number_scalar, scalar_json, typed};
use super::twin_id::{Record, TwinSource};
use super::{Message, NESTING_MAX, Route};
use crate::batch::{ClaimedTime, EventBatch, HeadParts, Mark};
use crate::bus::Bus;
use crate::model::{Kind, Value};
use crate::time::DeviceTime;

/// What is said of a record that a serializer with a schema registry wrote: byte 0, and the number of the schema
/// in four bytes.
const OF_REGISTRY: &str = "the payload is no JSON: it begins with byte 0, as one of a schema registry does; \
                           send plain JSON, without the registry's 5 bytes";

/// Memory that is used again for each message.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    id: String,
}

/// Decodes one message of one route.
pub(super) fn decode(
    route: &Route,
    message: &Message<'_>,
    captured: &Captured<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    // No JSON begins with this byte, and what serializers with a registry write always does.
    if route.plan.bus == Bus::Records && message.payload.first() == Some(&0) {
        return refuse(OF_REGISTRY.into(), message.payload);
    }
    if nests_too_deep(message.payload) {
        let reason = format!("the payload nests deeper than {NESTING_MAX} levels");
        return refuse(reason, message.payload);
    }
    let plan = &route.plan;
    if plan.each.is_none() && !plan.nested_leaves {
        let mut reader = Reader::new(plan, events, scratch);
        let mut json = serde_json::Deserializer::from_slice(message.payload);
        let read = NodeSeed { node: 0, reader: &mut reader }.deserialize(&mut json).and_then(|()| json.end());
        let done = match read {
            Ok(()) => reader.finish(route, message, captured, 0),
            Err(error) => Err(reader.fail(malformed(&error))),
        };
        return done.unwrap_or_else(|reason| refuse(reason, message.payload));
    }
    let tree: Json = match serde_json::from_slice(message.payload) {
        Ok(tree) => tree,
        Err(error) => return refuse(malformed(&error), message.payload),
    };
    let Some(each) = &plan.each else {
        return decode_element(route, message, captured, scratch, events, refuse, (0, &tree));
    };
    let place = each.iter().try_fold(&tree, |place, token| child(place, token));
    match place {
        Some(Json::Array(elements)) => {
            for (index, element) in elements.iter().enumerate() {
                let element = (index as u32, element);
                decode_element(route, message, captured, scratch, events, refuse, element);
            }
        }
        _ => refuse("there is no array where `each` says".into(), message.payload),
    }
}

/// Decodes an element that was read into a tree.
fn decode_element(
    route: &Route,
    message: &Message<'_>,
    captured: &Captured<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
    (index, element): (u32, &Json),
) {
    let mut reader = Reader::new(&route.plan, events, scratch);
    for leaf in 0..route.plan.leaves.len() {
        if let Some(value) = element.pointer(&route.plan.leaves[leaf].pointer) {
            reader.take_tree(leaf, value);
        }
    }
    if let Err(reason) = reader.finish(route, message, captured, index) {
        refuse(reason, element.to_string().as_bytes());
    }
}

fn child<'j>(place: &'j Json, token: &str) -> Option<&'j Json> {
    match place {
        Json::Object(object) => object.get(token),
        Json::Array(array) => array.get(token.parse::<usize>().ok()?),
        _ => None,
    }
}

fn malformed(error: &serde_json::Error) -> String {
    format!("malformed JSON: {error}")
}

/// Whether brackets outside of strings nest deeper than allowed. Most payloads have fewer
/// brackets than that, which one quick count shows.
fn nests_too_deep(payload: &[u8]) -> bool {
    let opening = |byte: &&u8| matches!(**byte, b'{' | b'[');
    if payload.iter().filter(opening).count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Collects one element's values; ends in an event of the batch, or in a reason.
struct Reader<'r> {
    plan: &'r StreamPlan,
    events: &'r mut EventBatch,
    id: &'r mut String,
    mark: Mark,
    physical_at: Option<DeviceTime>,
    is_historical: bool,
    problem: Option<String>,
}

impl<'r> Reader<'r> {
    fn new(plan: &'r StreamPlan, events: &'r mut EventBatch, scratch: &'r mut Scratch) -> Self {
        scratch.id.clear();
        Self {
            plan,
            mark: events.begin(),
            events,
            id: &mut scratch.id,
            physical_at: None,
            is_historical: false,
            problem: None,
        }
    }

    /// Takes back what was read.
    fn fail(&mut self, reason: String) -> String {
        self.events.take_back(self.mark);
        reason
    }

    fn finish(
        mut self,
        route: &Route,
        message: &Message<'_>,
        captured: &Captured<'_>,
        element: u32,
    ) -> Result<(), String> {
        if let Some(problem) = self.problem.take() {
            return Err(self.fail(problem));
        }
        if let TwinSource::Template(template) = &self.plan.twin {
            let record = Record { key: message.key, headers: message.headers };
            if let Err(reason) = template.fill(captured.pattern, &captured.texts, record, self.id) {
                return Err(self.fail(reason));
            }
        }
        if let Err(error) = crate::id::check(self.id) {
            return Err(self.fail(error.to_string()));
        }
        let (physical_at, claimed) = match (self.plan.has_device_time, self.physical_at) {
            (false, _) => (DeviceTime(message.arrived_at.0), ClaimedTime::Arrival),
            (true, Some(at)) => (at, ClaimedTime::Device),
            (true, None) => return Err(self.fail("the device time is missing".into())),
        };
        if self.events.pushed(self.mark) == 0 {
            return Err(self.fail("none of the mapped values is there".into()));
        }
        let parts = HeadParts {
            position: message.position,
            element,
            physical_at,
            claimed,
            arrived_at: message.arrived_at,
            twin_type: route.twin_type,
            stream: route.stream,
            live: !message.retained && !self.is_historical,
        };
        self.events.finish(self.mark, self.id, parts);
        Ok(())
    }

    fn wrong(&mut self, leaf: usize, message: impl std::fmt::Display) {
        if self.problem.is_none() {
            let pointer = &self.plan.leaves[leaf].pointer;
            self.problem = Some(format!("`{pointer}`: {message}"));
        }
    }

    fn take_scalar(&mut self, leaf: usize, scalar: Scalar<'_>) {
        let plan = self.plan;
        match &plan.leaves[leaf].target {
            Target::DeviceTime => match device_time(scalar, plan.time_format) {
                Some(at) => self.physical_at = Some(at),
                None => self.wrong(leaf, "the device time cannot be read"),
            },
            Target::Twin => match scalar {
                Scalar::Text(text) => text.clone_into(self.id),
                Scalar::Unsigned(number) => *self.id = number.to_string(),
                Scalar::Signed(number) => *self.id = number.to_string(),
                _ => self.wrong(leaf, "a twin id is text or an integer"),
            },
            Target::Historical => match scalar {
                Scalar::Bool(flag) => self.is_historical = flag,
                _ => self.wrong(leaf, "the backfill flag is true or false"),
            },
            Target::Event(event) => {
                let json = scalar_json(scalar).to_string();
                self.events.push_event(self.mark, *event, &json);
            }
            Target::Property(target) => self.take_property(leaf, target, scalar),
        }
    }

    fn take_property(&mut self, leaf: usize, target: &PropertyTarget, scalar: Scalar<'_>) {
        if !target.map.is_empty() {
            let key = match scalar {
                Scalar::Text(text) => text.to_owned(),
                other => scalar_json(other).to_string(),
            };
            let Some(meaning) = target.map.get(&key) else {
                return self.wrong(leaf, format_args!("`{key}` is not in the map"));
            };
            return match meaning {
                Json::Bool(flag) => self.take_value(leaf, target, Scalar::Bool(*flag)),
                Json::String(text) => self.take_value(leaf, target, Scalar::Text(text)),
                Json::Number(number) => self.take_value(leaf, target, number_scalar(number)),
                _ => self.wrong(leaf, "the map's value is no scalar"),
            };
        }
        self.take_value(leaf, target, scalar);
    }

    fn take_value(&mut self, leaf: usize, target: &PropertyTarget, scalar: Scalar<'_>) {
        match typed(&target.property.kind, scalar) {
            Some(value) => {
                if let (Some([least, greatest]), Some(number)) = (target.property.range, value.as_number())
                    && !(least..=greatest).contains(&number)
                {
                    let message = format!("{number} is outside the range [{least}, {greatest}]");
                    return self.wrong(leaf, message);
                }
                self.events.push_property(self.mark, target.index, value);
            }
            None => {
                let message = format!("{} is no {}", scalar_json(scalar), kind_name(&target.property.kind));
                self.wrong(leaf, message);
            }
        }
    }

    fn take_tree(&mut self, leaf: usize, value: &Json) {
        match value {
            Json::Null => self.take_null(leaf),
            Json::Bool(flag) => self.take_scalar(leaf, Scalar::Bool(*flag)),
            Json::Number(number) => self.take_scalar(leaf, number_scalar(number)),
            Json::String(text) => self.take_scalar(leaf, Scalar::Text(text)),
            Json::Array(_) | Json::Object(_) => self.take_structure(leaf, value),
        }
    }

    /// A `null` is a value that is not there; for an event it is a value.
    fn take_null(&mut self, leaf: usize) {
        if let Target::Event(event) = self.plan.leaves[leaf].target {
            self.events.push_event(self.mark, event, "null");
        }
    }

    fn take_structure(&mut self, leaf: usize, value: &Json) {
        let plan = self.plan;
        match &plan.leaves[leaf].target {
            Target::Event(event) => {
                self.events.push_event(self.mark, *event, &value.to_string());
            }
            Target::Property(target) => match check_structure(&target.property.kind, value) {
                Ok(()) => {
                    let text = value.to_string();
                    self.events.push_property(self.mark, target.index, Value::Json(&text));
                }
                Err(message) => self.wrong(leaf, message),
            },
            Target::DeviceTime | Target::Twin | Target::Historical => {
                self.wrong(leaf, "an array or object stands where a scalar should");
            }
        }
    }

    /// Whether a structure at this leaf is wanted; otherwise it need not be built.
    fn wants_structure(&self, leaf: usize) -> bool {
        match &self.plan.leaves[leaf].target {
            Target::Event(_) => true,
            Target::Property(target) => {
                matches!(target.property.kind, Kind::Array { .. } | Kind::Object)
            }
            Target::DeviceTime | Target::Twin | Target::Historical => false,
        }
    }
}

/// Reads what stands at a node of the plan.
struct NodeSeed<'a, 'r> {
    node: usize,
    reader: &'a mut Reader<'r>,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl NodeSeed<'_, '_> {
    /// The leaf that stands here; a plan for this way of reading has at most one a node.
    fn leaf(&self) -> Option<usize> {
        self.reader.plan.nodes[self.node].leaves.first().copied()
    }

    fn scalar<E>(self, scalar: Scalar<'_>) -> Result<(), E> {
        if let Some(leaf) = self.leaf() {
            self.reader.take_scalar(leaf, scalar);
        }
        Ok(())
    }

    fn structure(self, leaf: usize, value: &Json) {
        self.reader.take_structure(leaf, value);
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if let Some(leaf) = self.leaf() {
            self.reader.take_null(leaf);
        }
        Ok(())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.scalar(Scalar::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.scalar(Scalar::Signed(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some(leaf) = self.leaf() {
            let tree = match self.reader.wants_structure(leaf) {
                true => Json::deserialize(MapAccessDeserializer::new(map))?,
                false => {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Json::Object(serde_json::Map::new())
                }
            };
            self.structure(leaf, &tree);
            return Ok(());
        }
        let plan = self.reader.plan;
        let children = &plan.nodes[self.node].children;
        while let Some(child) = map.next_key_seed(KeySeed { children })? {
            match child {
                Some(node) => map.next_value_seed(NodeSeed { node, reader: self.reader })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some(leaf) = self.leaf() {
            let tree = match self.reader.wants_structure(leaf) {
                true => Json::deserialize(SeqAccessDeserializer::new(seq))?,
                false => {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Json::Array(Vec::new())
                }
            };
            self.structure(leaf, &tree);
            return Ok(());
        }
        let plan = self.reader.plan;
        let children = &plan.nodes[self.node].children;
        for index in 0usize.. {
            let child = children.iter().find(|(key, _)| key.parse() == Ok(index));
            let more = match child {
                Some((_, node)) => {
                    seq.next_element_seed(NodeSeed { node: *node, reader: self.reader })?.is_some()
                }
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Finds a key among the children of a node, without a copy of it.
struct KeySeed<'a> {
    children: &'a [(String, usize)],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.children.iter().find(|(known, _)| known == key).map(|(_, node)| *node))
    }
}
