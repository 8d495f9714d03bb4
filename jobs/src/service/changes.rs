//! What applying a definition would change, place by place: what stands in both files is compared as it was
//! written, so layout, comments and order of keys are no change.

use std::collections::BTreeMap;
use std::fmt::Write;

use operators::adaptation::Adaptation;
use operators::layout::Layout;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ServiceError;
use super::functions::{FunctionVersions, Source};
use super::record::{Record, Wanted};
use crate::document::{self, Content, Node};

/// Longest value that is shown.
const SHOWN_MAX: usize = 120;

/// When a change comes to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// At once, while the job runs.
    Live,
    /// At a checkpoint: the job stops hearing, and goes on under the new definition with its twins as they were.
    Checkpoint,
    /// Not at all.
    Refused,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::Live => "live",
            How::Checkpoint => "at a checkpoint",
            How::Refused => "refused",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Keys down to what changes, with dots.
    path: String,
    /// What it was; none where it is new.
    before: Option<String>,
    /// What it will be; none where it is removed.
    after: Option<String>,
    /// When it comes to hold.
    how: How,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What applying a definition changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// The job is not there yet.
    pub is_new: bool,
    /// What changes, in the order of the paths.
    pub changes: Vec<Change>,
    /// What else comes of it.
    pub notes: Vec<String>,
}

impl Changes {
    /// Whether all of it can be done while the job runs.
    pub(super) fn are_live(&self) -> bool {
        self.changes.iter().all(|change| change.how == How::Live)
    }

    /// An error where something is refused.
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        let refused: Vec<String> = self
            .changes
            .iter()
            .filter(|change| change.how == How::Refused)
            .map(|change| {
                format!("{}: {}", change.path, change.why.as_deref().unwrap_or("cannot be changed"))
            })
            .collect();
        match refused.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::Refused(refused.join("; "))),
        }
    }

    /// The plan for people.
    pub fn text(&self, job: &str) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        match (self.is_new, self.changes.is_empty()) {
            (true, _) => _ = writeln!(text, "+ job {job} is new"),
            (false, true) => _ = writeln!(text, "job {job}: no change"),
            (false, false) => _ = writeln!(text, "~ job {job}: {} changes", self.changes.len()),
        }
        for Change { path, before, after, how, why } in &self.changes {
            let line = match (before, after) {
                (None, Some(after)) => format!("  + {path}: {after}"),
                (Some(before), None) => format!("  - {path}: {before}"),
                (before, after) => {
                    let shown = |value: &Option<String>| value.clone().unwrap_or_default();
                    format!("  ~ {path}: {} -> {}", shown(before), shown(after))
                }
            };
            let why = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            _ = writeln!(text, "{line}    ({}{why})", how.word());
        }
        self.notes.iter().for_each(|note| _ = writeln!(text, "  ! {note}"));
        text
    }
}

/// Compares a definition with what is kept of its job, where there is one.
pub(super) fn of(record: Option<&Record>, after: &str) -> Result<Changes, ServiceError> {
    let Some(record) = record else { return between(None, &FunctionVersions::default(), after) };
    let mut changes = between(Some(&record.text), &record.functions, after)?;
    match record.wanted {
        Wanted::Running => {}
        Wanted::Paused => changes.notes.insert(0, PAUSED.into()),
        Wanted::Done => changes.notes.insert(0, CANCELLED.into()),
    }
    Ok(changes)
}

/// What is told of a job that was paused.
const PAUSED: &str = "paused by hand: apply leaves it so, `twinloom job resume` has it hear its twins again";
/// What is told of a job that was cancelled.
const CANCELLED: &str =
    "cancelled: a changed file is refused until the job is dismissed, or has another name";

/// Compares a definition with the one before. Both are valid.
/// What was put in the place of a function goes with it.
fn between(before: Option<&str>, functions: &FunctionVersions, after: &str) -> Result<Changes, ServiceError> {
    let Some(before) = before else {
        return Ok(Changes { is_new: true, changes: Vec::new(), notes: Vec::new() });
    };
    let (old, new) = (leaves(before)?, leaves(after)?);
    let mut changes = Vec::new();
    for path in old.keys().chain(new.keys().filter(|path| !old.contains_key(*path))) {
        let (was, will_be) = (old.get(path), new.get(path));
        if was != will_be {
            let shown = |value: Option<&String>| value.map(|value| show(path, value));
            changes.push(Change {
                path: path.clone(),
                before: shown(was),
                after: shown(will_be),
                how: how(path),
                why: None,
            });
        }
    }
    for (twin_type, name, version) in functions.drift() {
        changes.push(Change {
            path: format!("types.{twin_type}.augmentation.{name}"),
            before: Some(format!("version {}, {}", version.version, drift_word(&version.source))),
            after: Some("as the definition says".into()),
            how: How::Checkpoint,
            why: None,
        });
    }
    for (twin_type, name, trial) in functions.trials() {
        changes.push(Change {
            path: format!("types.{twin_type}.augmentation.{name}.shadow"),
            before: Some(format!("version {} on {} % of the twins", trial.version, trial.percent)),
            after: None,
            how: How::Checkpoint,
            why: None,
        });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let mut notes = Vec::new();
    if !changes.is_empty() {
        match adaptation(before, functions, after)? {
            Ok((is_identity, warnings)) => {
                notes = warnings;
                if is_identity {
                    changes
                        .iter_mut()
                        .filter(|one| is_function(&one.path))
                        .for_each(|one| one.how = How::Live);
                }
            }
            Err(problems) => refuse(&mut changes, problems),
        }
    }
    Ok(Changes { is_new: false, changes, notes })
}

/// Keys of `entanglement` that twins can go by from one moment to the next. (The window, and what is expected of
/// streams, are how observations are kept.)
const LIVE_TERMS: [&str; 6] =
    ["desired_timeliness", "threshold", "hysteresis", "settle", "unbind_after", "sample"];

/// When a change of this place comes to hold.
fn how(path: &str) -> How {
    let keys: Vec<&str> = path.split('.').collect();
    match keys[..] {
        ["types", _, "entanglement", key] if LIVE_TERMS.contains(&key) => How::Live,
        ["shared"] => How::Live,
        _ => How::Checkpoint,
    }
}

/// Whether a place is of a function.
fn is_function(path: &str) -> bool {
    let keys: Vec<&str> = path.split('.').collect();
    matches!(keys[..], ["types", _, "augmentation", _, ..])
}

fn drift_word(source: &Source) -> &'static str {
    match source {
        Source::Definition => "as the definition said",
        Source::Put { .. } => "put while the job runs",
        Source::Removed => "removed while the job runs",
    }
}

/// Functions that changes are of, by type and name.
pub(super) fn functions_of(changes: &Changes) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for change in changes.changes.iter().filter(|change| is_function(&change.path)) {
        let mut keys = change.path.split('.').map(str::to_owned);
        if let (Some(twin_type), Some(name)) = (keys.nth(1), keys.nth(1))
            && !found.contains(&(twin_type.clone(), name.clone()))
        {
            found.push((twin_type, name));
        }
    }
    found
}

type Adapted = Result<(bool, Vec<String>), Vec<String>>;

/// Whether twins of one definition can become those of another: whether they stay as they are, and what is lost by
/// it, or why they cannot.
fn adaptation(before: &str, functions: &FunctionVersions, after: &str) -> Result<Adapted, ServiceError> {
    let types = |text: &str, functions: &FunctionVersions| {
        let job = functions.job(text).map_err(ServiceError::Invalid)?;
        Ok::<_, ServiceError>(job.plan().types)
    };
    let now = types(after, &FunctionVersions::default())?;
    let adapted = Adaptation::new(&Layout::of(&types(before, functions)?), &now);
    Ok(match adapted {
        Ok((adaptation, warnings)) => Ok((adaptation.is_identity(), warnings)),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    })
}

/// Marks what is the reason for a problem; where that is not found, one more change says it.
fn refuse(changes: &mut Vec<Change>, problems: Vec<String>) {
    for problem in problems {
        let is_it = |change: &&mut Change| {
            let is_named = |key: &str| problem.contains(&format!("`{key}`"));
            let mut keys = change.path.split('.');
            let (group, twin_type) = (keys.next(), keys.next());
            // A property of the type itself, or of its model from elsewhere.
            let mut keys = keys.skip_while(|key| matches!(*key, "model" | "wot" | "dtdl" | "declares"));
            group == Some("types") && [twin_type, keys.nth(1)].iter().all(|key| key.is_some_and(is_named))
        };
        match changes.iter_mut().find(is_it) {
            Some(change) => (change.how, change.why) = (How::Refused, Some(problem)),
            None => changes.push(Change {
                path: "types".into(),
                before: None,
                after: None,
                how: How::Refused,
                why: Some(problem),
            }),
        }
    }
}

/// What stands at each place of a file; a list of words is one value.
fn leaves(text: &str) -> Result<BTreeMap<String, String>, ServiceError> {
    let document = document::parse("job.yaml", text)
        .map_err(|all| ServiceError::Invalid(crate::findings::Findings::new("job.yaml", text, all)))?;
    let mut leaves = BTreeMap::new();
    add(&document.root, &mut Vec::new(), &mut leaves);
    Ok(leaves)
}

fn add(node: &Node, path: &mut Vec<String>, leaves: &mut BTreeMap<String, String>) {
    let scalar = |node: &Node| match &node.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    match &node.content {
        Content::Scalar { text, .. } => _ = leaves.insert(path.join("."), text.clone()),
        Content::Sequence(items) if items.iter().all(|item| scalar(item).is_some()) => {
            let words: Vec<String> = items.iter().filter_map(scalar).collect();
            leaves.insert(path.join("."), format!("[{}]", words.join(", ")));
        }
        Content::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                add(item, path, leaves);
                path.pop();
            }
        }
        Content::Mapping(entries) if entries.is_empty() => {
            leaves.insert(path.join("."), "{}".into());
        }
        Content::Mapping(entries) => {
            for entry in entries {
                path.push(entry.key.clone());
                add(&entry.value, path, leaves);
                path.pop();
            }
        }
    }
}

/// A value as it is shown: one that may be a secret is not.
fn show(path: &str, value: &str) -> String {
    let key = path.rsplit('.').next().unwrap_or_default();
    let is_secret = ["password", "secret", "token", "key"].iter().any(|word| key.contains(word))
        || path.contains(".options.")
        || path.contains(".headers.");
    // A source has many lines; that it has changed is what matters.
    let value = value.lines().next().unwrap_or_default();
    match value.char_indices().nth(SHOWN_MAX) {
        _ if is_secret && !value.starts_with("${") => "***".into(),
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const JOB: &str = include_str!("../../../examples/first.yaml");

    /// The plan from the first example to one with these pieces changed.
    fn check(pieces: &[(&str, &str)], expected: Expect) {
        let mut after = JOB.to_owned();
        for (from, to) in pieces {
            assert!(after.contains(from), "{from}");
            after = after.replace(from, to);
        }
        let changes = between(Some(JOB), &FunctionVersions::default(), &after).expect("both are valid");
        expected.assert_eq(&changes.text("first-twins"));
    }

    #[test]
    fn the_same_again_is_no_change() {
        check(
            &[("# What a twin is.", "# Other words.")],
            expect![[r#"
            job first-twins: no change
        "#]],
        );
        let new = between(None, &FunctionVersions::default(), JOB).expect("it is valid");
        assert!(new.is_new && new.text("a").starts_with("+ job a is new"));
    }

    #[test]
    fn changes_are_named_by_their_place() {
        check(
            &[("desired_timeliness: 1s", "desired_timeliness: 200ms"), ("kinds: [state, ", "kinds: [")],
            expect![[r#"
                ~ job first-twins: 2 changes
                  ~ digital.0.kinds: [state, entanglement, lifecycle, event] -> [entanglement, lifecycle, event]    (at a checkpoint)
                  ~ types.device.entanglement.desired_timeliness: 1s -> 200ms    (live)
            "#]],
        );
    }

    #[test]
    fn a_changed_kind_of_value_is_refused() {
        check(
            &[("energy: {type: double, unit: kW.h}", "energy: {type: string}")],
            expect![[r#"
            ~ job first-twins: 2 changes
              ~ types.device.properties.energy.type: double -> string    (refused: the property `energy` of `device` was double in the checkpoint and is string now; give the property another name, or start with --fresh, which begins with empty twins and keeps the checkpoint)
              - types.device.properties.energy.unit: kW.h    (at a checkpoint)
        "#]],
        );
    }

    #[test]
    fn what_a_model_file_changes_is_named_by_its_place() {
        let with_model = |energy: &str| {
            let model = format!("model: {{wot: {{declares: {{properties: {{energy: {energy}}}}}}}}}");
            let job: Vec<&str> = JOB.split('\n').filter(|line| !line.contains("energy: {type:")).collect();
            let at =
                job.iter().position(|line| line.starts_with("  device:")).expect("the example has a type");
            [&job[..=at], &[&format!("    {model}")], &job[at + 1..]].concat().join("\n")
        };
        let (before, after) = (with_model("{type: double}"), with_model("{type: string}"));
        let changes = between(Some(&before), &FunctionVersions::default(), &after).expect("both are valid");
        expect![[r#"
            ~ job first-twins: 1 changes
              ~ types.device.model.wot.declares.properties.energy.type: double -> string    (refused: the property `energy` of `device` was double in the checkpoint and is string now; give the property another name, or start with --fresh, which begins with empty twins and keeps the checkpoint)
        "#]].assert_eq(&changes.text("first-twins"));
    }

    #[test]
    fn what_was_done_by_hand_is_told() {
        let record = Record::new(std::path::Path::new("data"), "first-twins", JOB, 0);
        for (wanted, expected) in [
            (Wanted::Running, ""),
            (Wanted::Paused, "  ! paused by hand: apply leaves it so,"),
            (Wanted::Done, "  ! cancelled:"),
        ] {
            let changes = of(Some(&record.wanting(wanted)), JOB).expect("it is valid");
            let text = changes.text("first-twins");
            let told = text.strip_prefix("job first-twins: no change\n").expect("it is none");
            assert!(told.starts_with(expected) && told.is_empty() == expected.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (path, value, expected) in [
            ("connections.plant.mqtt.password", "hunter2", "***"),
            ("connections.plant.mqtt.password", "${PASSWORD}", "${PASSWORD}"),
            ("connections.bus.kafka.options.sasl.username", "me", "***"),
            ("types.a.entanglement.window", "60s", "60s"),
        ] {
            assert_eq!(show(path, value), expected, "{path}");
        }
        assert_eq!(show("job", &"x".repeat(200)).chars().count(), SHOWN_MAX + 1);
    }
}
