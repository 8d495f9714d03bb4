//! What a worker gathers in a walk over its twins. Memory is bounded by the answer, not by the fleet.

use std::collections::BTreeMap;

use operators::twin::{Twin, TwinType};
use operators::view::{self, TwinSummary};

use super::{GROUPS_MAX, Group, NAMED_MAX, PartOfReply, Question, Selection};
use crate::survey::Answer;

/// An answer in the making.
pub(crate) enum Collecting {
    Survey(Box<Answer>),
    /// The first twins of a selection, by id.
    List(Selection, BTreeMap<String, TwinSummary>),
    Troubles(Vec<Group>),
}

impl Collecting {
    /// What a question asks to be gathered; none where it asks for one twin, or the archive.
    pub(crate) fn new(question: Question) -> Option<Self> {
        match question {
            Question::Survey => Some(Self::Survey(Box::default())),
            Question::Twin(_) | Question::Recent { .. } => None,
            Question::List(selection) => Some(Self::List(selection, BTreeMap::new())),
            Question::Troubles => Some(Self::Troubles(Vec::new())),
        }
    }

    /// Takes a twin into account; `attributes` are looked for only where they are asked for.
    pub(crate) fn add(
        &mut self,
        id: &str,
        twin: &Twin,
        definition: &TwinType,
        attributes: impl FnOnce() -> Vec<(String, String)>,
        at_us: i64,
    ) {
        match self {
            Self::Survey(answer) => answer.add(id, twin, definition, at_us),
            Self::List(selection, first) => {
                if selection.takes(id, twin, definition)
                    && (first.len() < selection.limit
                        || first.last_key_value().is_some_and(|(last, _)| id < last.as_str()))
                {
                    let summary = view::summary(id, twin, definition, at_us);
                    if selection.odte_max.is_none_or(|most| summary.odte <= most) {
                        first.insert(id.to_owned(), summary);
                        if first.len() > selection.limit {
                            first.pop_last();
                        }
                    }
                }
            }
            Self::Troubles(groups) => {
                let summary = view::summary(id, twin, definition, at_us);
                if summary.cause.is_trouble() {
                    add_group(
                        groups,
                        Group {
                            cause: summary.cause,
                            prefix: prefix(id).to_owned(),
                            shared: attributes(),
                            twins: 1,
                            since_us: twin.life_cycle.since_us(),
                            named: vec![summary.twin],
                            twin_type: summary.twin_type,
                        },
                    );
                }
            }
        }
    }

    /// What was gathered.
    pub(crate) fn finish(self) -> PartOfReply {
        match self {
            Self::Survey(answer) => PartOfReply::Survey(answer),
            Self::List(selection, first) => PartOfReply::List(selection.limit, first.into_values().collect()),
            Self::Troubles(groups) => PartOfReply::Troubles(groups),
        }
    }
}

impl Selection {
    /// Whether a twin is of the selection, as far as that costs nothing.
    fn takes(&self, id: &str, twin: &Twin, definition: &TwinType) -> bool {
        let phase = twin.life_cycle.phase();
        self.after.as_deref().is_none_or(|after| id > after)
            && id.starts_with(&self.prefix)
            && self.twin_type.as_ref().is_none_or(|name| *name == definition.name)
            && (self.phases.is_empty() || self.phases.contains(&phase))
    }
}

/// What an id shares with those of its neighbours.
fn prefix(id: &str) -> &str {
    id.rfind(['-', '_', '.', ':', '/']).map_or("", |end| &id[..end])
}

/// Adds a group to others.
pub(super) fn add_group(groups: &mut Vec<Group>, group: Group) {
    let is_same = |one: &Group| {
        (one.cause, &one.twin_type, &one.prefix) == (group.cause, &group.twin_type, &group.prefix)
    };
    let place = groups.iter().position(is_same);
    let place = match place {
        Some(place) => place,
        None if groups.len() < GROUPS_MAX => {
            groups.push(group);
            return;
        }
        // There are too many to tell apart: the last one is that of all others of its cause.
        None => match groups.iter().rposition(|one| one.cause == group.cause) {
            Some(place) => place,
            None => return,
        },
    };
    let into = &mut groups[place];
    into.shared.retain(|attribute| group.shared.contains(attribute));
    into.twins += group.twins;
    into.since_us = into.since_us.min(group.since_us);
    into.named.extend(group.named);
    into.named.sort_unstable();
    into.named.truncate(NAMED_MAX);
}

#[cfg(test)]
mod tests {
    use operators::view::Cause;

    use super::*;

    #[test]
    fn a_group_has_the_attributes_that_all_of_its_twins_share() {
        let mut groups = Vec::new();
        let of = |twin: &str, hall: &str, attributes: &[(&str, &str)]| Group {
            cause: Cause::Silent,
            twin_type: "press".into(),
            prefix: hall.into(),
            shared: attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            twins: 1,
            since_us: 7,
            named: vec![twin.into()],
        };
        for group in [
            of("n-1", "n", &[("hall", "north"), ("class", "servo")]),
            of("n-2", "n", &[("hall", "north"), ("class", "hydraulic")]),
            of("s-1", "s", &[("hall", "south"), ("class", "servo")]),
            of("n-3", "n", &[("hall", "north"), ("class", "servo")]),
            of("x-1", "x", &[("hall", "north")]),
            // The roster does not name it.
            of("x-2", "x", &[]),
        ] {
            add_group(&mut groups, group);
        }
        let found = groups.iter().map(|one| (one.twins, one.shared.clone()));
        let north = ("hall".to_owned(), "north".to_owned());
        let south = [("hall".to_owned(), "south".to_owned()), ("class".to_owned(), "servo".to_owned())];
        assert_eq!(found.collect::<Vec<_>>(), [(3, vec![north]), (1, south.to_vec()), (2, Vec::new())]);
    }
}
