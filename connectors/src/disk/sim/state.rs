//! What a simulated disk holds: what reads show, and what of it a loss of power would leave.
//!
//! ```text
//!   names     ──sync_folder──►  durable names     changes wait in order; a crash lets some of them come
//!   contents  ──sync────────►  durable bytes      a crash leaves a prefix of the rest, its end maybe torn
//! ```
//! It is as hard as a file system may be: a change of a name comes as a whole and never before an
//! earlier one of the same name, and nothing else is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(u64),
}

type Names = BTreeMap<PathBuf, Node>;

/// One change of names; a rename is both sides of it.
#[derive(Clone, Debug)]
struct Change {
    gone: Option<PathBuf>,
    made: Option<(PathBuf, Node)>,
}

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    /// How many of the written bytes are durable.
    synced: usize,
    /// What the file was before it was emptied, while that is not durable yet.
    before: Option<Vec<u8>>,
    /// Bytes that a failed sync dropped: reads show them, the disk never had them.
    holes: Vec<Range<usize>>,
}

/// Files and names.
#[derive(Clone, Debug)]
pub(super) struct State {
    chance: u64,
    names: Names,
    durable: Names,
    waiting: Vec<Change>,
    contents: BTreeMap<u64, Content>,
    next: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            chance: seed,
            names: Names::new(),
            durable: Names::new(),
            waiting: Vec::new(),
            contents: BTreeMap::new(),
            next: 0,
        }
    }

    /// A number below `bound`; the generator is splitmix64.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Folder) } else { self.names.get(path).copied() }
    }

    pub(super) fn children(&self, folder: &Path) -> Vec<PathBuf> {
        let below = self.names.range(folder.to_owned()..).take_while(|(path, _)| path.starts_with(folder));
        below.filter(|(path, _)| path.parent() == Some(folder)).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn make_folder(&mut self, path: &Path) {
        self.change(Change { gone: None, made: Some((path.to_owned(), Node::Folder)) });
    }

    /// A new and empty file under a name that is free.
    pub(super) fn make_file(&mut self, path: &Path) -> u64 {
        let file = self.next;
        self.next += 1;
        self.contents.insert(file, Content::default());
        self.change(Change { gone: None, made: Some((path.to_owned(), Node::File(file))) });
        file
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, file: u64) {
        self.change(Change { gone: Some(from.to_owned()), made: Some((to.to_owned(), Node::File(file))) });
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Change { gone: Some(path.to_owned()), made: None });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.waiting.push(change);
    }

    /// Makes the names in a folder durable, and forgets files that nothing names any more.
    pub(super) fn sync_folder(&mut self, folder: &Path) {
        let waiting = std::mem::take(&mut self.waiting);
        let (come, wait): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|change| change.folder() == Some(folder));
        come.iter().for_each(|change| change.apply(&mut self.durable));
        self.waiting = wait;
        let made = self.waiting.iter().filter_map(|change| change.made.as_ref().map(|(_, node)| node));
        let named: BTreeSet<u64> = made
            .chain(self.names.values())
            .chain(self.durable.values())
            .filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None })
            .collect();
        self.contents.retain(|file, _| named.contains(file));
    }

    pub(super) fn bytes(&self, file: u64) -> &[u8] {
        self.contents.get(&file).map_or(&[], |content| &content.written)
    }

    /// All bytes of files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.names.values();
        files.map(|node| if let Node::File(file) = node { self.bytes(*file).len() as u64 } else { 0 }).sum()
    }

    pub(super) fn empty(&mut self, file: u64) {
        let content = self.contents.entry(file).or_default();
        let durable = content.durable();
        content.before.get_or_insert(durable);
        content.written.clear();
        content.holes.clear();
        content.synced = 0;
    }

    pub(super) fn write(&mut self, file: u64, bytes: &[u8]) {
        self.contents.entry(file).or_default().written.extend_from_slice(bytes);
    }

    pub(super) fn sync(&mut self, file: u64) {
        let content = self.contents.entry(file).or_default();
        content.synced = content.written.len();
        content.before = None;
    }

    /// A sync that fails drops what was to be synced, and the next one has nothing to do.
    pub(super) fn fail_sync(&mut self, file: u64) {
        let content = self.contents.entry(file).or_default();
        content.holes.push(content.synced..content.written.len());
        content.synced = content.written.len();
        content.before = None;
    }

    pub(super) fn truncate(&mut self, file: u64, len: usize) {
        let content = self.contents.entry(file).or_default();
        content.written.resize(len, 0);
        content.holes.iter_mut().for_each(|hole| *hole = hole.start.min(len)..hole.end.min(len));
        self.sync(file);
    }

    pub(super) fn flip(&mut self, file: u64, bit: u64) -> bool {
        let content = self.contents.entry(file).or_default();
        let byte = content.written.get_mut((bit / 8) as usize);
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// What a loss of power leaves, all of it durable.
    pub(super) fn crash(&self) -> State {
        let mut chance = self.clone();
        let mut durable = self.durable.clone();
        let mut held = BTreeSet::new();
        for change in &self.waiting {
            if change.names().any(|name| held.contains(name)) || chance.coin() {
                held.extend(change.names().cloned());
            } else {
                change.apply(&mut durable);
            }
        }
        // What is in a folder whose own name was lost is lost with it.
        let is_there = |path: &Path| is_root(path) || durable.get(path) == Some(&Node::Folder);
        let all = durable.iter().filter(|(path, _)| path.ancestors().skip(1).all(is_there));
        let names: Names = all.map(|(path, node)| (path.clone(), *node)).collect();
        let mut contents = BTreeMap::new();
        for node in names.values() {
            let Node::File(file) = *node else { continue };
            let written = self.contents.get(&file).map(|content| content.crash(&mut chance));
            let written = written.unwrap_or_default();
            contents.insert(file, Content { synced: written.len(), written, ..Content::default() });
        }
        let durable = names.clone();
        State { chance: chance.chance, names, durable, waiting: Vec::new(), contents, next: self.next }
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((made, node)) = &self.made {
            names.insert(made.clone(), *node);
        }
    }

    fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.gone.iter().chain(self.made.iter().map(|(made, _)| made))
    }

    /// The folder whose sync makes it durable: a rename is where it went.
    fn folder(&self) -> Option<&Path> {
        self.made.as_ref().map(|(made, _)| made).or(self.gone.as_ref())?.parent()
    }
}

impl Content {
    /// What is durable for sure.
    fn durable(&self) -> Vec<u8> {
        let mut bytes = self.written[..self.synced].to_vec();
        for hole in &self.holes {
            bytes[hole.clone()].fill(0);
        }
        bytes
    }

    fn crash(&self, chance: &mut State) -> Vec<u8> {
        if let Some(before) = &self.before
            && chance.coin()
        {
            return before.clone();
        }
        let mut bytes = self.durable();
        let lost_end = self.holes.last().filter(|hole| hole.end == self.written.len() && !hole.is_empty());
        if let Some(hole) = lost_end
            && chance.coin()
        {
            bytes.truncate(hole.start);
            return bytes;
        }
        let unsynced = &self.written[self.synced..];
        let kept = chance.below(unsynced.len() + 1);
        bytes.extend_from_slice(&unsynced[..kept]);
        let torn = chance.below(kept.min(64) + 1);
        let end = bytes.len();
        match chance.below(4) {
            0 => bytes[end - torn..].fill(0),
            1 if torn > 0 => bytes[end - torn] ^= 1 << chance.below(8),
            _ => {}
        }
        bytes
    }
}

/// The folders that are always there: the root, and the one that a relative name alone stands in.
fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}
