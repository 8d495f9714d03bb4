//! A stream of Sparkplug, checked and made ready: of which group, of edge nodes or of devices, and which metrics.

use std::collections::HashMap;

use super::address::{Kind, Level};
use super::certificate::Certificate;
use crate::bus::Bus;
use crate::decode::TopicPattern;
use crate::decode::plan::Leaf;
use crate::decode::settings::{AtSettings, StreamSettings};
use crate::problem::Problem;

/// The twin of a stream that names none: a device.
const TWIN: &str = "{edge}:{device}";
/// The capture of a topic that makes a stream one of devices.
const DEVICE: &str = "{device}";

/// Which metrics a stream reads, and whose.
#[derive(Clone, Debug)]
pub struct Metrics {
    group: String,
    pub(super) level: Level,
    /// The leaves at each name.
    leaves: HashMap<String, Vec<usize>>,
}

impl Metrics {
    /// Makes a stream ready that was checked.
    pub(in crate::decode) fn compile(settings: &StreamSettings, leaves: &[Leaf]) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, leaf) in leaves.iter().enumerate() {
            by_name.entry(leaf.pointer.clone()).or_default().push(index);
        }
        Self { group: settings.group.clone().unwrap_or_default(), level: level(settings), leaves: by_name }
    }

    /// The group that it is of.
    pub(in crate::decode) fn group(&self) -> &str {
        &self.group
    }

    /// Whether the stream reads what those of this level say in a group.
    pub(super) fn reads(&self, group: &str, level: Level) -> bool {
        self.group == group && self.level == level
    }

    /// The leaves at a metric.
    pub(super) fn leaves(&self, name: &str) -> &[usize] {
        self.leaves.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the stream maps a metric of a birth certificate: else it is of another type of device.
    pub(super) fn has_some_of(&self, certificate: &Certificate) -> bool {
        certificate.names().any(|name| self.leaves.contains_key(name))
    }

    /// Whether both streams may take the same device for a twin.
    pub(in crate::decode) fn share(&self, other: &Metrics) -> bool {
        self.group == other.group
            && self.level == other.level
            && self.leaves.keys().any(|name| other.leaves.contains_key(name))
    }
}

/// Whose metrics a stream reads.
fn level(settings: &StreamSettings) -> Level {
    match settings.twin.as_deref().unwrap_or(TWIN).contains(DEVICE) {
        true => Level::Device,
        false => Level::Node,
    }
}

/// What a stream of Sparkplug must be.
pub(in crate::decode) fn check(settings: &StreamSettings) -> Result<(), Problem> {
    if !settings.topics.is_empty() {
        let help = "leave `topics` out: the group says them";
        return Err(Problem::new("the topics of Sparkplug are known", help).under("topics"));
    }
    match settings.group.as_deref() {
        None => {
            let message = "`group` is missing: the group of Sparkplug that the stream reads";
            return Err(Problem::new(message, "add group: plant7").under("group"));
        }
        Some(group) if group.is_empty() || group.contains(['/', '+', '#', '{', '}', '\0']) => {
            let message = format!("`{group}` is no group of Sparkplug");
            return Err(Problem::new(message, "write its name, without / + # { }").under("group"));
        }
        Some(_) => {}
    }
    if let Some(AtSettings::Pointer(_)) = settings.at {
        let help = "leave `at` out, or write at: arrival where the devices' clocks are not to be used";
        return Err(Problem::new("metrics of Sparkplug say their times themselves", help).under("at"));
    }
    if settings.historical.is_some() {
        let message = "metrics of Sparkplug say themselves which are historical";
        return Err(Problem::new(message, "leave `historical` out").under("historical"));
    }
    if let Some(twin) = settings.twin.as_deref().filter(|twin| twin.starts_with('/')) {
        let message = format!("`{twin}` points into a payload, and Sparkplug names its devices by topics");
        let help = "write \"{edge}:{device}\", or \"{edge}\" for what edge nodes say of themselves";
        return Err(Problem::new(message, help).under("twin"));
    }
    settings.check_places_differ("metric")
}

/// The topics that a stream reads, as a job file would write them; none where it says no group.
pub(in crate::decode) fn topics(settings: &StreamSettings) -> Vec<String> {
    let group = settings.group.as_deref().filter(|group| !group.contains('/'));
    group.map(|group| Kind::ALL.map(|kind| kind.topics(group)).to_vec()).unwrap_or_default()
}

/// The patterns that the twin's id is made by, one for each topic: of whatever kind a message is, its twin is named
/// alike. With them the template itself, where the stream leaves it out.
pub(in crate::decode) fn id_patterns(
    settings: &StreamSettings,
    bus: Bus,
) -> Result<(Vec<TopicPattern>, &'static str), Problem> {
    let kind = match level(settings) {
        Level::Node => Kind::NodeBirth,
        Level::Device => Kind::DeviceBirth,
    };
    let group = settings.group.as_deref().unwrap_or_default();
    let pattern = TopicPattern::parse(&kind.topics(group), bus)?;
    Ok((vec![pattern; Kind::ALL.len()], TWIN))
}

/// The name of a metric, as one step. It has slashes of its own.
pub(in crate::decode) fn place(name: &str) -> Result<Vec<String>, Problem> {
    match name.is_empty() {
        false => Ok(vec![name.into()]),
        true => Err(Problem::new("a metric of Sparkplug has a name", "write it, such as Power/Active")),
    }
}
