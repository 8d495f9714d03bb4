//! JSON payloads, read along a stream's plan.
//!
//! Two ways, with one meaning. The usual one walks the text once, keeps what the plan names and
//! checks the rest, with no tree in between. A message with many elements, or a plan in which one
//! leaf stands inside another, is read into a tree first.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::element::{Element, Taken};
use super::scalar::Scalar;
use super::{NESTING_MAX, Scratch};
use crate::batch::EventBatch;
use crate::bus::Bus;

/// What is said of a record that a serializer with a schema registry wrote: byte 0, and the number of the schema
/// in four bytes.
const OF_REGISTRY: &str = "the payload is no JSON: it begins with byte 0, as one of a schema registry does; \
                           send plain JSON, without the registry's 5 bytes";

/// Decodes one message of one route.
pub(super) fn decode(
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let (plan, payload) = (&taken.route.plan, taken.message.payload);
    if let Err(reason) = check_form(taken) {
        return refuse(reason, payload);
    }
    if plan.each.is_none() && !plan.nested_leaves {
        let mut element = Element::new(plan, events, &mut scratch.id);
        let mut json = serde_json::Deserializer::from_slice(payload);
        let read =
            NodeSeed { node: 0, element: &mut element }.deserialize(&mut json).and_then(|()| json.end());
        let done = match read {
            Ok(()) => element.finish(taken, 0),
            Err(error) => Err(element.fail(malformed(&error))),
        };
        return done.unwrap_or_else(|reason| refuse(reason, payload));
    }
    let tree: Json = match serde_json::from_slice(payload) {
        Ok(tree) => tree,
        Err(error) => return refuse(malformed(&error), payload),
    };
    let Some(each) = &plan.each else {
        return decode_element(taken, scratch, events, refuse, (0, &tree));
    };
    let place = each.iter().try_fold(&tree, |place, token| child(place, token));
    match place {
        Some(Json::Array(elements)) => {
            for (index, element) in elements.iter().enumerate() {
                decode_element(taken, scratch, events, refuse, (index as u32, element));
            }
        }
        _ => refuse("there is no array where `each` says".into(), payload),
    }
}

/// What a payload must be before it is parsed: no record of a registry, and not nested too deep.
#[inline]
pub(super) fn check_form(taken: Taken<'_>) -> Result<(), String> {
    // No JSON begins with this byte, and what serializers with a registry write always does.
    if taken.route.plan.bus == Bus::Records && taken.message.payload.first() == Some(&0) {
        return Err(OF_REGISTRY.into());
    }
    match nests_too_deep(taken.message.payload) {
        true => Err(format!("the payload nests deeper than {NESTING_MAX} levels")),
        false => Ok(()),
    }
}

/// Decodes an element that was read into a tree.
fn decode_element(
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
    (index, tree): (u32, &Json),
) {
    let plan = &taken.route.plan;
    let mut element = Element::new(plan, events, &mut scratch.id);
    for leaf in 0..plan.leaves.len() {
        if let Some(value) = tree.pointer(&plan.leaves[leaf].pointer) {
            element.take_tree(leaf, value);
        }
    }
    if let Err(reason) = element.finish(taken, index) {
        refuse(reason, tree.to_string().as_bytes());
    }
}

fn child<'j>(place: &'j Json, token: &str) -> Option<&'j Json> {
    match place {
        Json::Object(object) => object.get(token),
        Json::Array(array) => array.get(token.parse::<usize>().ok()?),
        _ => None,
    }
}

pub(super) fn malformed(error: &serde_json::Error) -> String {
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

/// Reads what stands at a node of the plan.
struct NodeSeed<'a, 'r> {
    node: usize,
    element: &'a mut Element<'r>,
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
        self.element.plan.nodes[self.node].leaves.first().copied()
    }

    fn scalar<E>(self, scalar: Scalar<'_>) -> Result<(), E> {
        if let Some(leaf) = self.leaf() {
            self.element.take_scalar(leaf, scalar);
        }
        Ok(())
    }

    fn structure(self, leaf: usize, value: &Json) {
        self.element.take_structure(leaf, value);
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if let Some(leaf) = self.leaf() {
            self.element.take_null(leaf);
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
            let tree = match self.element.wants_structure(leaf) {
                true => Json::deserialize(MapAccessDeserializer::new(map))?,
                false => {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Json::Object(serde_json::Map::new())
                }
            };
            self.structure(leaf, &tree);
            return Ok(());
        }
        let plan = self.element.plan;
        let children = &plan.nodes[self.node].children;
        while let Some(child) = map.next_key_seed(KeySeed { children })? {
            match child {
                Some(node) => map.next_value_seed(NodeSeed { node, element: self.element })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some(leaf) = self.leaf() {
            let tree = match self.element.wants_structure(leaf) {
                true => Json::deserialize(SeqAccessDeserializer::new(seq))?,
                false => {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Json::Array(Vec::new())
                }
            };
            self.structure(leaf, &tree);
            return Ok(());
        }
        let plan = self.element.plan;
        let children = &plan.nodes[self.node].children;
        for index in 0usize.. {
            let child = children.iter().find(|(key, _)| key.parse() == Ok(index));
            let more = match child {
                Some((_, node)) => {
                    seq.next_element_seed(NodeSeed { node: *node, element: self.element })?.is_some()
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
