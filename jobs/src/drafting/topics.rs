//! Which level of the topics is the twin: the one that varies, and whose subtrees look alike.
//!
//! ```text
//!  device/p-1/state    device/p-2/state    device/p-1/door
//!         └── ids: they vary, and below them the same stands ──┘    types: by what stands below; streams: by how
//! ```

use std::collections::{BTreeMap, BTreeSet};

/// What the payloads of a topic look like: where values stand in them.
pub(super) type Shape = BTreeSet<String>;

/// How much of two shapes must be the same for them to look alike.
const ALIKE: f64 = 0.5;
/// How many of the names at a level must have a sibling that looks alike for them to be ids.
const ALIKE_SHARE: f64 = 0.8;
/// Most levels that are looked at.
const DEPTH_MAX: usize = 32;

/// A type of twin, as topics show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// Its name.
    pub name: String,
    /// Levels before the twin.
    pub before: Vec<String>,
    /// Ids of the twins.
    pub twins: Vec<String>,
    /// Topics by what stands behind the twin.
    pub streams: BTreeMap<Vec<String>, Vec<String>>,
    /// What is not sure.
    pub doubts: Vec<String>,
}

impl Level {
    /// The topics of a stream, with the twin's place.
    pub(super) fn pattern(&self, suffix: &[String]) -> String {
        let before = self.before.iter().map(String::as_str);
        before.chain(["{twin}"]).chain(suffix.iter().map(String::as_str)).collect::<Vec<_>>().join("/")
    }
}

/// A tree of topics.
#[derive(Default)]
struct Tree {
    shape: Option<Shape>,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    /// What stands below, each with its shape.
    fn below(&self, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, Shape>) {
        if let Some(shape) = &self.shape {
            found.insert(path.clone(), shape.clone());
        }
        for (name, child) in &self.children {
            path.push(name.clone());
            child.below(path, found);
            path.pop();
        }
    }

    fn all_below(&self) -> BTreeMap<Vec<String>, Shape> {
        let mut found = BTreeMap::new();
        self.below(&mut Vec::new(), &mut found);
        found
    }
}

/// The types that topics show, with their shapes.
pub(super) fn levels(topics: &[(&str, Shape)]) -> Vec<Level> {
    let mut tree = Tree::default();
    for (topic, shape) in topics {
        let mut node = &mut tree;
        for name in topic.split('/').take(DEPTH_MAX) {
            node = node.children.entry(name.to_owned()).or_default();
        }
        node.shape = Some(shape.clone());
    }
    let mut found = Vec::new();
    look(&tree, &mut Vec::new(), &mut found);
    found
}

fn look(tree: &Tree, before: &mut Vec<String>, found: &mut Vec<Level>) {
    let ids = ids(tree);
    if ids.is_empty() && tree.children.values().any(|child| child.children.is_empty()) {
        // Values of one device stand here, and nothing says which of the levels before it is the twin.
        found.extend(lone(tree.all_below().into_keys(), before));
        return;
    }
    found.extend(types_of(&ids, before));
    for (name, child) in tree.children.iter().filter(|(name, _)| !ids.contains_key(name.as_str())) {
        match child.children.is_empty() {
            // What stands beside twins is of the level before them.
            true => found.extend(lone([vec![name.clone()]].into_iter(), before)),
            false => {
                before.push(name.clone());
                look(child, before, found);
                before.pop();
            }
        }
    }
}

/// The names at a level that are of twins; none where it is none of twins.
fn ids(tree: &Tree) -> BTreeMap<&str, &Tree> {
    let below: Vec<_> = tree.children.values().map(Tree::all_below).collect();
    let has_alike = |index: usize| {
        below.iter().enumerate().any(|(other, shapes)| other != index && are_alike(&below[index], shapes))
    };
    let alike: Vec<bool> = (0..below.len()).map(has_alike).collect();
    let count = alike.iter().filter(|is_alike| **is_alike).count();
    // One that has said little yet is a twin beside many.
    let are_all = count as f64 >= ALIKE_SHARE * below.len() as f64;
    let children = tree.children.iter().zip(alike).filter(|(_, is_alike)| *is_alike || are_all);
    let ids: BTreeMap<&str, &Tree> = children.map(|((name, child), _)| (name.as_str(), child)).collect();
    match count > 1 && are_names_of_twins(&ids, are_all) {
        true => ids,
        false => BTreeMap::new(),
    }
}

/// Whether names below which the same stands are ids.
fn are_names_of_twins(ids: &BTreeMap<&str, &Tree>, are_all: bool) -> bool {
    fn are_numbered<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> bool {
        let all = names.len();
        names.filter(|name| has_digit(name)).count() * 2 > all
    }
    let is_numbered = are_numbered(ids.keys().copied());
    if is_numbered || !are_all {
        return is_numbered;
    }
    // Plain values under plain names are those of one device: home/temperature, home/humidity.
    let is_value =
        |child: &&Tree| child.children.is_empty() && child.shape.iter().flatten().all(String::is_empty);
    // Where names further down are numbered, those are the ids: press/1, press/2, meter/1, meter/2.
    let is_group =
        |child: &&Tree| child.children.len() > 1 && are_numbered(child.children.keys().map(String::as_str));
    !ids.values().all(is_value) && !ids.values().all(is_group)
}

fn has_digit(name: &str) -> bool {
    name.contains(|c: char| c.is_ascii_digit())
}

/// Whether below two names about the same stands.
fn are_alike(a: &BTreeMap<Vec<String>, Shape>, b: &BTreeMap<Vec<String>, Shape>) -> bool {
    // A device may not have said all yet: what the one with fewer streams has, the other has too.
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let common =
        few.iter().filter(|(path, shape)| many.get(*path).is_some_and(|other| share(shape, other) >= ALIKE));
    common.count() as f64 >= ALIKE * few.len() as f64
}

fn share(a: &Shape, b: &Shape) -> f64 {
    match a.union(b).count() {
        0 => 1.0,
        all => a.intersection(b).count() as f64 / all as f64,
    }
}

/// The types among twins: those that share a topic behind their id are of one type, as no topic can tell them apart.
fn types_of(twins: &BTreeMap<&str, &Tree>, before: &[String]) -> Vec<Level> {
    let mut types: Vec<(BTreeSet<Vec<String>>, Vec<&str>)> = Vec::new();
    for (id, child) in twins {
        let mut suffixes: BTreeSet<Vec<String>> = child.all_below().into_keys().collect();
        let mut ids = vec![*id];
        types.retain_mut(|(others, other_ids)| {
            let is_other = others.is_disjoint(&suffixes);
            if !is_other {
                suffixes.append(others);
                ids.append(other_ids);
            }
            is_other
        });
        ids.sort_unstable();
        types.push((suffixes, ids));
    }
    let is_alone = types.len() == 1;
    let level = |(suffixes, ids): (BTreeSet<Vec<String>>, Vec<&str>)| {
        let mut level = Level { before: before.to_vec(), ..Level::default() };
        level.name = match is_alone {
            true => singular(before.last().map_or("device", String::as_str)),
            false => {
                begin_of(&ids).unwrap_or_else(|| singular(before.last().map_or("device", String::as_str)))
            }
        };
        for suffix in suffixes {
            let topic = |id: &&str| {
                let path = before.iter().map(String::as_str).chain([*id]);
                path.chain(suffix.iter().map(String::as_str)).collect::<Vec<_>>().join("/")
            };
            level.streams.insert(suffix.clone(), ids.iter().map(topic).collect());
        }
        if ids.len() == 1 {
            level.doubts.push("only one twin was heard, so that this is the twin's level is a guess".into());
        }
        let kinds: BTreeSet<_> = ids.iter().filter_map(|id| begin_of(&[*id])).collect();
        if is_alone && kinds.len() > 1 && kinds.len() * 2 <= ids.len() {
            let kinds: Vec<_> = kinds.into_iter().collect();
            level.doubts.push(format!(
                "ids begin with {}: if these are several types, give them topics of their own",
                kinds.join(", ")
            ));
        }
        level.twins = ids.into_iter().map(str::to_owned).collect();
        level
    };
    types.into_iter().map(level).collect()
}

/// One device: the twin is the level that looks most like an id, the last with a digit, else the last but the values.
fn lone(below: impl Iterator<Item = Vec<String>>, before: &[String]) -> Option<Level> {
    let topics: Vec<Vec<String>> = below.map(|path| before.iter().cloned().chain(path).collect()).collect();
    let first = topics.first()?;
    // What several topics share is before the twin's streams.
    let shared = if topics.len() == 1 { first.as_slice() } else { before };
    let place = shared.iter().rposition(|name| has_digit(name)).or(before.len().checked_sub(1)).unwrap_or(0);
    let mut level = Level { before: first[..place].to_vec(), ..Level::default() };
    level.name = singular(level.before.last().map_or("device", String::as_str));
    level.twins = vec![first[place].clone()];
    level.doubts.push("only one twin was heard, so that this is the twin's level is a guess".into());
    for topic in &topics {
        level.streams.entry(topic[place + 1..].to_vec()).or_default().push(topic.join("/"));
    }
    Some(level)
}

/// What ids begin with, before digits and signs.
fn begin_of(ids: &[&str]) -> Option<String> {
    let begin = |id: &&str| -> String { id.chars().take_while(|c| c.is_ascii_alphabetic()).collect() };
    let first = begin(ids.first()?);
    let is_shared = ids.iter().all(|id| begin(id) == first);
    (is_shared && first.len() > 1).then(|| first.to_lowercase())
}

fn singular(name: &str) -> String {
    let name = clean(name);
    match name.strip_suffix('s') {
        Some(one) if one.len() > 2 && !one.ends_with(['s', 'u', 'i']) => one.to_owned(),
        _ => name,
    }
}

/// A name of a type, stream or property made of any text.
pub(super) fn clean(text: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name: String = text.chars().map(keep).take(30).collect();
    let name = name.trim_matches('_').to_owned();
    match name.chars().next() {
        None => "value".into(),
        Some(first) if first.is_alphabetic() => name,
        Some(_) => format!("v{name}"),
    }
}

/// A name that none of these is.
pub(super) fn unique(name: &str, taken: &[&str]) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|one| !taken.contains(&one.as_str()))
        .unwrap_or_default()
}

/// The name of a stream, by what stands behind the twin.
pub(super) fn stream_name(suffix: &[String], taken: &[&str]) -> String {
    let short = suffix.last().map_or("telemetry".into(), |last| clean(last));
    match taken.contains(&short.as_str()) {
        true => unique(&clean(&suffix.join("_")), taken),
        false => short,
    }
}
