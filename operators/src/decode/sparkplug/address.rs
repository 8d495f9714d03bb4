//! The topics of Sparkplug: who speaks, and what kind of message it is.
//!
//! ```text
//!   spBv1.0 / plant7 / DDATA / gateway-1 / meter-3
//!             group    kind    edge node   device, of the kinds that begin with D
//! ```

use super::NAME_BYTES_MAX;

/// The first level of all topics.
const NAMESPACE: &str = "spBv1.0";

/// The kinds of messages that speak of twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NodeBirth,
    NodeData,
    NodeDeath,
    DeviceBirth,
    DeviceData,
    DeviceDeath,
}

impl Kind {
    /// All of them, the usual ones first, as topics are looked up in this order.
    pub const ALL: [Kind; 6] = [
        Kind::DeviceData,
        Kind::NodeData,
        Kind::DeviceBirth,
        Kind::NodeBirth,
        Kind::DeviceDeath,
        Kind::NodeDeath,
    ];

    /// Its level of a topic.
    pub fn word(self) -> &'static str {
        match self {
            Kind::NodeBirth => "NBIRTH",
            Kind::NodeData => "NDATA",
            Kind::NodeDeath => "NDEATH",
            Kind::DeviceBirth => "DBIRTH",
            Kind::DeviceData => "DDATA",
            Kind::DeviceDeath => "DDEATH",
        }
    }

    pub fn is_birth(self) -> bool {
        matches!(self, Kind::NodeBirth | Kind::DeviceBirth)
    }

    pub fn is_death(self) -> bool {
        matches!(self, Kind::NodeDeath | Kind::DeviceDeath)
    }

    /// Whose message it is.
    pub fn level(self) -> Level {
        match self {
            Kind::NodeBirth | Kind::NodeData | Kind::NodeDeath => Level::Node,
            Kind::DeviceBirth | Kind::DeviceData | Kind::DeviceDeath => Level::Device,
        }
    }

    /// The topics of a group with this kind of message, as a job file would write them.
    pub fn topics(self, group: &str) -> String {
        match self.level() {
            Level::Node => format!("{NAMESPACE}/{group}/{}/{{edge}}", self.word()),
            Level::Device => format!("{NAMESPACE}/{group}/{}/{{edge}}/{{device}}", self.word()),
        }
    }
}

/// Who has metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// An edge node itself.
    Node,
    /// A device behind one.
    Device,
}

/// A topic, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'t> {
    pub group: &'t str,
    pub kind: Kind,
    pub edge: &'t str,
    /// Empty of an edge node's own messages.
    pub device: &'t str,
}

impl<'t> Address<'t> {
    /// Reads a topic; none of one that speaks of no twin.
    pub fn parse(topic: &'t str) -> Option<Self> {
        let mut levels = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?.split('/');
        let (group, word, edge) = (levels.next()?, levels.next()?, levels.next()?);
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
        let device = match kind.level() {
            Level::Node => "",
            Level::Device => levels.next()?,
        };
        levels.next().is_none().then_some(Self { group, kind, edge, device })
    }

    /// What is wrong with the names.
    pub fn check(self) -> Result<(), String> {
        let is_good = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
        match is_good(self.edge) && (self.kind.level() == Level::Node || is_good(self.device)) {
            true => Ok(()),
            false => Err(format!("the names of edge nodes and devices have 1 to {NAME_BYTES_MAX} bytes")),
        }
    }
}

/// What an edge node is known by.
pub(super) fn key(group: &str, edge: &str, key: &mut String) {
    key.clear();
    key.push_str(group);
    key.push('/');
    key.push_str(edge);
}

/// A topic of the edge node with this key.
pub(super) fn topic_of(key: &str, word: &str) -> Option<String> {
    let (group, edge) = key.split_once('/')?;
    Some(format!("{NAMESPACE}/{group}/{word}/{edge}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_taken_apart() {
        for (topic, expected) in [
            ("spBv1.0/g/NBIRTH/e", Some((Kind::NodeBirth, "e", ""))),
            ("spBv1.0/g/DDATA/e/d", Some((Kind::DeviceData, "e", "d"))),
            ("spBv1.0/g/DDATA/e", None),
            ("spBv1.0/g/NDATA/e/d", None),
            ("spBv1.0/g/DDATA/e/d/x", None),
            ("spBv1.0/g/NCMD/e", None),
            ("spBv1.0/STATE/host", None),
            ("spAv1.0/g/NBIRTH/e", None),
            ("spBv1.0", None),
        ] {
            let address = Address::parse(topic);
            let taken = address.map(|address| (address.kind, address.edge, address.device));
            assert_eq!(taken, expected, "{topic}");
        }
        let long = format!("spBv1.0/g/NDATA/{}", "e".repeat(257));
        for (topic, expected) in
            [("spBv1.0/g/DDATA/e/d", true), ("spBv1.0/g/DDATA/e/", false), (&long, false)]
        {
            assert_eq!(Address::parse(topic).map(|one| one.check().is_ok()), Some(expected), "{topic}");
        }
        let mut text = String::new();
        key("g", "e", &mut text);
        assert_eq!(topic_of(&text, "NCMD").as_deref(), Some("spBv1.0/g/NCMD/e"));
    }
}
