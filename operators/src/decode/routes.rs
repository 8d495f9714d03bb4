//! The streams of a source, found by topic: a message costs what its own streams cost, however many others are silent.
//!
//! ```text
//!   patterns   press/{twin}/state    press/+/log/#      levels of a topic are followed down the tree; each stream
//!   tree       press ─┬─ + ─┬─ state ● stream 0          that may take it is then asked
//!                     │     └─ log ● and all below: 1
//! ```

use std::collections::BTreeMap;

use super::Route;
use super::topic::Level;

/// So few streams are asked one by one.
const FEW: usize = 4;

/// Streams, in the order of the job, and the tree of their patterns.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    /// The first node is the root; there is none where the streams are few.
    nodes: Vec<Node>,
    separator: char,
}

#[derive(Clone, Debug, Default)]
struct Node {
    exactly: BTreeMap<Box<str>, usize>,
    /// Behind a level that may be anything.
    any: Option<usize>,
    /// Places of the streams with a pattern that ends here.
    ends: Vec<usize>,
    /// Places of those with a pattern that takes this level and all below.
    rest: Vec<usize>,
}

impl Routes {
    pub(super) fn new(all: Vec<Route>) -> Self {
        let separator = all.first().map_or('/', |route| route.plan.bus.separator());
        let nodes = if all.len() > FEW { tree(&all) } else { Vec::new() };
        Self { all, nodes, separator }
    }

    pub(super) fn all(&self) -> &[Route] {
        &self.all
    }

    /// What is found first in a stream that may take a topic.
    pub(super) fn find_map<T>(&self, topic: &str, mut look: impl FnMut(&Route) -> Option<T>) -> Option<T> {
        if self.nodes.is_empty() {
            return self.all.iter().find_map(look);
        }
        let mut places = Vec::new();
        self.candidates(topic, &mut places);
        places.into_iter().find_map(|place| look(&self.all[place]))
    }

    /// Puts down the places of the streams that may take a topic, in their order, each once.
    pub(super) fn candidates(&self, topic: &str, places: &mut Vec<usize>) {
        places.clear();
        if self.nodes.is_empty() {
            return places.extend(0..self.all.len());
        }
        self.follow(0, Some(topic), places);
        places.sort_unstable();
        places.dedup();
    }

    fn follow(&self, node: usize, topic: Option<&str>, places: &mut Vec<usize>) {
        let node = &self.nodes[node];
        places.extend(&node.rest);
        let Some(topic) = topic else { return places.extend(&node.ends) };
        let (level, rest) = match topic.split_once(self.separator) {
            Some((level, rest)) => (level, Some(rest)),
            None => (topic, None),
        };
        for next in node.exactly.get(level).into_iter().chain(&node.any) {
            self.follow(*next, rest, places);
        }
    }
}

fn tree(routes: &[Route]) -> Vec<Node> {
    let mut nodes = vec![Node::default()];
    for (place, route) in routes.iter().enumerate() {
        for pattern in &route.plan.patterns {
            let end = pattern.levels().fold(0, |node, level| below(&mut nodes, node, level));
            let places = if pattern.takes_rest() { &mut nodes[end].rest } else { &mut nodes[end].ends };
            places.push(place);
        }
    }
    nodes
}

/// The node behind a level of a pattern.
fn below(nodes: &mut Vec<Node>, node: usize, level: &Level) -> usize {
    let new = nodes.len();
    let next = match level {
        Level::Exactly(text) => *nodes[node].exactly.entry(text.as_str().into()).or_insert(new),
        Level::Any | Level::Capture(_) => *nodes[node].any.get_or_insert(new),
    };
    if next == new {
        nodes.push(Node::default());
    }
    next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Captured, StreamPlan};
    use super::*;
    use crate::bus::Bus;
    use crate::model::{ModelSettings, compile};

    fn routes(patterns: &[String]) -> Routes {
        let model = compile(&ModelSettings {
            properties: serde_json::from_str(r#"{"t": {"type": "double"}}"#).expect("well formed"),
            ..ModelSettings::default()
        });
        let model = model.expect("the model is good");
        let route = |pattern: &String| {
            let settings = format!(
                r#"{{"from": "m", "topics": ["{pattern}"], "twin": "/id", "at": "arrival", "expected_rate": "none",
                    "properties": {{"t": "/t"}}}}"#
            );
            let settings = serde_json::from_str(&settings).expect("well formed");
            let plan = StreamPlan::compile(&settings, &model, Bus::Levels).expect("the stream is good");
            Route { twin_type: 0, stream: 0, plan }
        };
        Routes::new(patterns.iter().map(route).collect())
    }

    /// Few levels, so that patterns and topics meet.
    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["a", "b", "", "$x"][..])
    }

    fn pattern() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 1 => Just("+"), 1 => Just("{c}")];
        let levels = (prop::collection::vec(level, 1..4), any::<bool>());
        levels.prop_filter_map("a pattern", |(mut levels, takes_rest)| {
            levels.extend(takes_rest.then_some("#"));
            let is_good = levels.iter().filter(|level| **level == "{c}").count() < 2 && levels != [""];
            is_good.then(|| levels.join("/"))
        })
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_takes_a_topic(
            patterns in prop::collection::vec(pattern(), FEW + 1..20),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..5), 1..20),
        ) {
            let routes = routes(&patterns);
            let mut places = vec![99];
            for topic in topics.iter().map(|levels| levels.join("/")).filter(|topic| !topic.is_empty()) {
                let takes = |place: &usize| routes.all()[*place].plan.takes(&topic, &mut Captured::default());
                routes.candidates(&topic, &mut places);
                places.retain(takes);
                let asked: Vec<usize> = (0..patterns.len()).filter(takes).collect();
                prop_assert_eq!(&places, &asked, "{} of {:?}", topic, patterns);
            }
        }
    }
}
