//! Versions of functions: what a job's definition says of each, and what was put in its place while the job runs.
//!
//! ```text
//!   version 1 (definition) ─ put ─► 2 ─ put ─► 3 ─ rollback ─► 2 ─ apply ─► 4 (definition)
//! ```
//! They are kept beside the definition, so a restart goes on with what was put. A definition that is applied rules
//! again: what was put is rolled back, which `plan` shows before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::graft::{Graft, Place, graft, graft_trial};
use crate::definition::secrets::from_environment;
use crate::document::{self, Node, Span};
use crate::findings::{Finding, Findings, Severity};
use crate::job::Job;

/// Versions of one function that are kept.
const VERSIONS_MAX: usize = 16;

/// The functions of a job that have had more than one version, by type and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct FunctionVersions(BTreeMap<String, Versions>);

/// The versions of one function, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Versions {
    twin_type: String,
    name: String,
    active: u32,
    all: Vec<Version>,
    /// The one that runs beside the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<Trial>,
}

/// A version that runs beside the active one, in a shadow run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which it is.
    pub version: u32,
    /// Percent of the twins that it runs for.
    pub percent: f64,
}

impl Eq for Trial {}

/// One version of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number, from 1.
    pub version: u32,
    /// When it came, microseconds since 1970; of the first, when it was first replaced.
    pub at_us: i64,
    /// Where it is from.
    pub source: Source,
    /// Whether it has only run beside others so far, and is none to go back to.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_trial: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Where a version is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The job's definition, as it was then.
    Definition,
    /// It was put there: what would stand in the definition, as YAML, and the type of a property that was not
    /// declared.
    Put {
        /// The function.
        text: String,
        /// Type of the property of its name, where it came with the function.
        property: Option<String>,
    },
    /// It was removed.
    Removed,
}

impl FunctionVersions {
    /// Each function that is not what the definition says, with its version.
    pub(super) fn drift(&self) -> impl Iterator<Item = (&str, &str, &Version)> {
        self.0.values().filter_map(|one| {
            let active = one.active()?;
            let is_drift = active.source != Source::Definition;
            is_drift.then_some((one.twin_type.as_str(), one.name.as_str(), active))
        })
    }

    /// The versions of a function, oldest first, and which of them runs; none where it has only had one.
    pub(super) fn of(&self, twin_type: &str, name: &str) -> Option<(u32, &[Version])> {
        self.0.get(&key(twin_type, name)).map(|one| (one.active, &one.all[..]))
    }

    /// Functions that were removed.
    pub(super) fn removed(&self) -> impl Iterator<Item = (&str, &str)> {
        let removed = self.drift().filter(|(_, _, version)| version.source == Source::Removed);
        removed.map(|(twin_type, name, _)| (twin_type, name))
    }

    /// Each function beside which another version runs.
    pub(super) fn trials(&self) -> impl Iterator<Item = (&str, &str, Trial)> {
        self.0.values().filter_map(|one| Some((one.twin_type.as_str(), one.name.as_str(), one.trial?)))
    }

    /// The version that runs beside a function; none where none does.
    pub(super) fn trial_of(&self, twin_type: &str, name: &str) -> Option<Trial> {
        self.0.get(&key(twin_type, name))?.trial
    }

    /// With a version more, which runs.
    pub(super) fn with(mut self, twin_type: &str, name: &str, source: Source, at_us: i64) -> Self {
        let one = self.versions(twin_type, name, at_us);
        one.active = one.add(source, at_us, false);
        self
    }

    /// With a version more, which runs beside the one that runs, for some percent of the twins.
    pub(super) fn with_trial(
        mut self,
        twin_type: &str,
        name: &str,
        text: String,
        percent: f64,
        at_us: i64,
    ) -> Self {
        let one = self.versions(twin_type, name, at_us);
        let version = one.add(Source::Put { text, property: None }, at_us, true);
        one.trial = Some(Trial { version, percent });
        self
    }

    /// With the version that runs beside a function in its place; none where none does.
    pub(super) fn promoted(mut self, twin_type: &str, name: &str) -> Option<Self> {
        let one = self.0.get_mut(&key(twin_type, name))?;
        one.active = one.trial.take()?.version;
        let promoted = one.all.iter_mut().find(|version| version.version == one.active)?;
        promoted.is_trial = false;
        Some(self)
    }

    /// Without the version that runs beside a function; none where none does.
    pub(super) fn dropped(mut self, twin_type: &str, name: &str) -> Option<Self> {
        self.0.get_mut(&key(twin_type, name))?.trial.take()?;
        Some(self)
    }

    fn versions(&mut self, twin_type: &str, name: &str, at_us: i64) -> &mut Versions {
        self.0.entry(key(twin_type, name)).or_insert_with(|| Versions {
            twin_type: twin_type.to_owned(),
            name: name.to_owned(),
            active: 1,
            all: vec![Version { version: 1, at_us, source: Source::Definition, is_trial: false }],
            trial: None,
        })
    }

    /// With the version that ran before the one that runs; none where there is no such.
    pub(super) fn rolled_back(mut self, twin_type: &str, name: &str) -> Option<Self> {
        let one = self.0.get_mut(&key(twin_type, name))?;
        let before = one.all.iter().filter(|version| version.version < one.active && !version.is_trial);
        one.active = before.map(|version| version.version).max()?;
        Some(self)
    }

    /// After a definition was applied: it rules again, and alone. Functions that it changes have a version more.
    pub(super) fn applied(mut self, changed: &[(String, String)], at_us: i64) -> Self {
        self.0.values_mut().for_each(|one| one.trial = None);
        let drifted: Vec<(String, String)> =
            self.drift().map(|(twin_type, name, _)| (twin_type.to_owned(), name.to_owned())).collect();
        let changed = changed.iter().filter(|one| !drifted.contains(one));
        for (twin_type, name) in changed.chain(&drifted) {
            self = self.with(twin_type, name, Source::Definition, at_us);
        }
        self
    }

    /// What is in force for a function, as it stands in a job file; none where there is none.
    pub(super) fn in_force(
        &self,
        definition: &str,
        twin_type: &str,
        name: &str,
    ) -> Result<Option<Node>, Findings> {
        let parse = |name: &str, text: &str| {
            document::parse(name, text).map_err(|all| Findings::new(name, text, all))
        };
        let active = self.0.get(&key(twin_type, name)).and_then(Versions::active);
        match active.map(|version| &version.source) {
            Some(Source::Put { text, .. }) => Ok(Some(parse(name, text)?.root)),
            Some(Source::Definition | Source::Removed) | None => {
                let document = parse("job.yaml", definition)?;
                Ok(document.find(&["types", twin_type, "augmentation", name]).cloned())
            }
        }
    }

    /// The job that a definition and these versions make.
    pub(super) fn job(&self, text: &str) -> Result<Job, Findings> {
        let name = "job.yaml";
        let mut document = document::parse(name, text).map_err(|all| Findings::new(name, text, all))?;
        for one in self.0.values() {
            let Some(active) = one.active() else { continue };
            let place = Place { twin_type: &one.twin_type, name: &one.name };
            let change = match &active.source {
                Source::Definition => Graft::Stay,
                Source::Removed => Graft::Remove,
                Source::Put { text, .. } => Graft::Put(text),
            };
            graft(&mut document, &place, change, one.property(), one.active)?;
            if let Some((trial, text)) = one.trial() {
                graft_trial(&mut document, &place, trial, text)?;
            }
        }
        Job::from_document(document, Some(&from_environment))
    }
}

impl Versions {
    /// The type of the property that came with the one that runs, or one before.
    fn property(&self) -> Option<&str> {
        let until = self.all.iter().filter(|version| version.version <= self.active);
        let mut declared = until.filter_map(|version| match &version.source {
            Source::Put { property, .. } => property.as_deref(),
            Source::Definition | Source::Removed => None,
        });
        declared.next_back()
    }

    /// Adds a version; its number.
    fn add(&mut self, source: Source, at_us: i64, is_trial: bool) -> u32 {
        let version = self.all.last().map_or(1, |last| last.version + 1);
        self.all.push(Version { version, at_us, source, is_trial });
        if self.all.len() > VERSIONS_MAX {
            let trial = self.trial.map(|trial| trial.version);
            let may_go = |one: &Version| one.version != self.active && Some(one.version) != trial;
            let oldest = self.all.iter().position(may_go).unwrap_or_default();
            self.all.remove(oldest);
        }
        version
    }

    /// The version that runs beside, and the function that it is.
    fn trial(&self) -> Option<(Trial, &str)> {
        let trial = self.trial?;
        match &self.all.iter().find(|one| one.version == trial.version)?.source {
            Source::Put { text, .. } => Some((trial, text)),
            Source::Definition | Source::Removed => None,
        }
    }

    fn active(&self) -> Option<&Version> {
        self.all.iter().find(|version| version.version == self.active)
    }
}

fn key(twin_type: &str, name: &str) -> String {
    format!("{twin_type}/{name}")
}

/// The type that has a function, or is to have one; a problem where a job has several and none is named.
pub(super) fn type_of(job: &Job, name: &str, twin_type: Option<&str>) -> Result<String, String> {
    let types = &job.definition.types;
    if let Some(twin_type) = twin_type {
        return match types.contains_key(twin_type) {
            true => Ok(twin_type.to_owned()),
            false => Err(format!("there is no type `{twin_type}`; there are {}", names(types.keys()))),
        };
    }
    let having: Vec<&String> =
        types.iter().filter(|(_, one)| one.augmentation.contains_key(name)).map(|(name, _)| name).collect();
    match (&having[..], types.len()) {
        ([one], _) => Ok((*one).clone()),
        ([], 1) => Ok(types.keys().next().cloned().unwrap_or_default()),
        _ => Err(format!("several types are possible: {}; name one", names(types.keys()))),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What is wrong with a request, as findings.
pub(super) fn finding(name: &str, text: &str, message: String, help: &str) -> Findings {
    let at = Span { line: 1, column: 1, ..Span::default() };
    let finding =
        Finding { severity: Severity::Error, span: at, path: name.into(), message, help: help.into() };
    Findings::new(name, text, vec![finding])
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = include_str!("../../../examples/first.yaml");

    #[test]
    fn versions_go_on_and_back() {
        let put = |text: &str| Source::Put { text: text.into(), property: None };
        let versions = FunctionVersions::default();
        let versions =
            versions.with("device", "f", put("{cel: \"a\"}"), 1).with("device", "f", put("{cel: \"b\"}"), 2);
        assert_eq!(versions.of("device", "f").map(|(active, all)| (active, all.len())), Some((3, 3)));
        let back = versions.clone().rolled_back("device", "f").expect("there is one before");
        assert_eq!(back.of("device", "f").map(|(active, _)| active), Some(2));
        let first = back.rolled_back("device", "f").expect("there is one before");
        assert_eq!((first.drift().count(), first.clone().rolled_back("device", "f")), (0, None));
        let applied = versions.applied(&[("device".into(), "g".into())], 9);
        assert_eq!(applied.of("device", "f").map(|(active, _)| active), Some(4));
        assert_eq!(applied.of("device", "g").map(|(active, _)| active), Some(2));
        assert_eq!(applied.drift().count(), 0);
        let many = (0..40).fold(FunctionVersions::default(), |all, n| all.with("device", "f", put("{}"), n));
        assert_eq!(many.of("device", "f").map(|(active, all)| (active, all.len())), Some((41, VERSIONS_MAX)));
    }

    #[test]
    fn a_version_runs_beside_another_until_it_is_promoted_or_dropped() {
        let cel = |text: &str| format!("{{cel: \"{text}\"}}");
        let put = Source::Put { text: cel("temperature * 2.0"), property: None };
        let versions = FunctionVersions::default().with("device", "temperature_f", put, 1);
        let tried = versions.with_trial("device", "temperature_f", cel("temperature * 3.0"), 12.5, 2);
        let job = tried.job(JOB).expect("it is good");
        let function = &job.definition.types["device"].augmentation["temperature_f"];
        let trial = function.trial.as_ref().expect("one runs beside");
        assert_eq!((function.version, trial.function.version, trial.percent), (2, 3, 12.5));
        assert_eq!(job.plan().types[0].functions.trials()[0].version(), 3);
        let json = serde_json::to_string(&tried).expect("it is JSON");
        assert_eq!(serde_json::from_str::<FunctionVersions>(&json).expect("it is read"), tried);

        let promoted = tried.clone().promoted("device", "temperature_f").expect("one runs beside");
        assert_eq!(promoted.of("device", "temperature_f").map(|(active, _)| active), Some(3));
        assert_eq!(
            (promoted.trials().count(), promoted.clone().promoted("device", "temperature_f")),
            (0, None)
        );
        let back = promoted.rolled_back("device", "temperature_f").expect("there is one before");
        assert_eq!(back.of("device", "temperature_f").map(|(active, _)| active), Some(2));

        // One that was dropped is none to go back to.
        let dropped = tried.clone().dropped("device", "temperature_f").expect("one runs beside");
        let put = Source::Put { text: cel("temperature * 4.0"), property: None };
        let later = dropped.with("device", "temperature_f", put, 3);
        assert_eq!(later.of("device", "temperature_f").map(|(active, _)| active), Some(4));
        let back = later.rolled_back("device", "temperature_f").expect("there is one before");
        assert_eq!(back.of("device", "temperature_f").map(|(active, _)| active), Some(2));
        assert_eq!(tried.clone().applied(&[], 9).trials().count(), 0);

        // Many that are tried out push out none that runs.
        let many = (0..40).fold(tried, |all, n| {
            all.with_trial("device", "temperature_f", cel("temperature * 5.0"), 1.0, n)
        });
        let (active, all) = many.of("device", "temperature_f").expect("it is known");
        assert!(active == 2 && all.len() == VERSIONS_MAX && all.iter().any(|one| one.version == 2));
        let bad = many.with_trial("device", "temperature_f", cel("temprature * 3.0"), 1.0, 50);
        let findings = bad.job(JOB).expect_err("it is mistyped");
        assert!(format!("{findings:?}").contains("temprature"), "{findings:?}");
    }

    #[test]
    fn a_version_takes_the_place_of_what_the_definition_says() {
        let put = Source::Put { text: "{cel: \"temperature * 2.0\"}".into(), property: None };
        let new = Source::Put { text: "{cel: \"energy > 1.0\"}".into(), property: Some("boolean".into()) };
        let versions = FunctionVersions::default()
            .with("device", "temperature_f", put, 1)
            .with("device", "busy", new, 2);
        let job = versions.job(JOB).expect("it is good");
        let functions = &job.definition.types["device"].augmentation;
        assert_eq!((functions["temperature_f"].version, functions["busy"].version), (2, 2));
        assert!(job.definition.types["device"].model.properties.contains_key("busy"));
        let removed = versions.with("device", "temperature_f", Source::Removed, 3);
        let job = removed.job(JOB).expect("it is good");
        assert!(!job.definition.types["device"].augmentation.contains_key("temperature_f"));
        assert_eq!(removed.removed().collect::<Vec<_>>(), [("device", "temperature_f")]);
        let bad = Source::Put { text: "{cel: \"temprature * 2.0\"}".into(), property: None };
        let findings = removed.with("device", "temperature_f", bad, 4).job(JOB).expect_err("it is mistyped");
        assert!(format!("{findings:?}").contains("temprature"), "{findings:?}");
    }
}
