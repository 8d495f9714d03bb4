//! What the interface answers, as JSON. Times are RFC 3339 texts in UTC; what is not known is null.

use std::collections::BTreeMap;

use dataflows::Survey;
use dataflows::ask::Group;
use dataflows::metrics::FunctionEntry;
use operators::entanglement::Measure;
use operators::life_cycle::Phase;
use operators::view::{self, Cause, FunctionView, Held};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::live::{LiveJob, Overview, Sample, Status};
use crate::summary::instant;

/// Twins by where in their life they are.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Phases {
    unbound: u64,
    bound: u64,
    entangled: u64,
    disentangled: u64,
    done: u64,
    stopped: u64,
}

impl From<[u64; 6]> for Phases {
    fn from([unbound, bound, entangled, disentangled, done, stopped]: [u64; 6]) -> Self {
        Self { unbound, bound, entangled, disentangled, done, stopped }
    }
}

/// How many twins are not entangled for one cause.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CauseCount {
    /// The cause.
    cause: &'static str,
    /// How many.
    twins: u64,
}

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobView {
    /// Its name.
    job: String,
    /// What it does.
    status: Status,
    /// Why it does not run, where it does not.
    reason: Option<String>,
    /// How often its definition was changed; 1 is the first.
    version: u64,
    /// Number of its last start.
    generation: Option<u64>,
    /// Who it belongs to.
    tenant: Option<String>,
    /// Known twins.
    twins: u64,
    /// Twins by where in their life they are.
    phases: Phases,
    /// Mean ODTE; null where no twin is measured.
    odte_mean: Option<f64>,
    /// What 95 % of the twins have at least.
    odte_p05: Option<f64>,
    /// Accepted physical events since the start.
    events: u64,
    /// Physical events a second, of late.
    events_per_second: f64,
    /// Messages and elements that could not be taken since the start.
    dead_letters: u64,
    /// Messages that were dropped since the start, as the job had more than it may have.
    shed: u64,
    /// What keeps twins from being entangled.
    causes: Vec<CauseCount>,
}

impl JobView {
    pub(super) fn new(job: &LiveJob, overview: Option<&Overview>) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let survey = overview.map(|one| &*one.survey);
        // Twins that are Done or Stopped are not measured.
        let has_some = |survey: &&Survey| survey.phases[..4].iter().any(|count| *count > 0);
        let of = |read: fn(&Survey) -> f64| survey.filter(has_some).map(read);
        let metrics = job.running.as_ref().map(|one| &one.metrics);
        let causes = Cause::ALL.into_iter().zip(survey.map_or([0; Cause::ALL.len()], |survey| survey.causes));
        let is_shown =
            |(cause, twins): &(Cause, u64)| *twins > 0 && !matches!(cause, Cause::Nothing | Cause::Over);
        Self {
            job: job.name.clone(),
            status: job.status,
            reason: job.reason.clone(),
            version: job.version,
            generation: job.running.as_ref().map(|one| one.generation),
            tenant: job.tenant.clone(),
            twins: survey.map_or(0, |survey| survey.twins),
            phases: survey.map_or([0; 6], |survey| survey.phases).into(),
            odte_mean: of(|survey| survey.odte_mean),
            odte_p05: of(|survey| survey.odte_p05),
            events: metrics.map_or(0, |metrics| metrics.events.load(Relaxed)),
            events_per_second: overview.map_or(0.0, |one| one.events_per_second),
            dead_letters: metrics.map_or(0, |metrics| metrics.dead_letters.load(Relaxed)),
            shed: metrics.map_or(0, |metrics| metrics.shed.load(Relaxed)),
            causes: causes
                .filter(is_shown)
                .map(|(cause, twins)| CauseCount { cause: cause.word(), twins })
                .collect(),
        }
    }
}

/// All jobs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OverviewView {
    /// When it was looked.
    pub(super) at: String,
    /// The jobs, by name.
    pub(super) jobs: Vec<JobView>,
}

/// How a fleet was at an instant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SampleView {
    at: String,
    odte_mean: f64,
    phases: Phases,
}

impl From<Sample> for SampleView {
    fn from(sample: Sample) -> Self {
        Self { at: instant(sample.at_us), odte_mean: sample.odte_mean, phases: sample.phases.into() }
    }
}

/// How a fleet was of late.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrendView {
    /// At most 720, oldest first.
    pub(super) samples: Vec<SampleView>,
}

/// The line of a twin in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SummaryView {
    twin: String,
    #[serde(rename = "type")]
    twin_type: String,
    lifecycle: &'static str,
    /// What keeps it from being entangled.
    cause: &'static str,
    odte: f64,
    timeliness: f64,
    reliability: f64,
    availability: f64,
    revision: u64,
    digital_at: Option<String>,
}

impl From<view::TwinSummary> for SummaryView {
    fn from(twin: view::TwinSummary) -> Self {
        Self {
            twin: twin.twin,
            twin_type: twin.twin_type,
            lifecycle: twin.phase.word(),
            cause: twin.cause.word(),
            odte: twin.odte,
            timeliness: twin.timeliness,
            reliability: twin.reliability,
            availability: twin.availability,
            revision: twin.revision,
            digital_at: twin.digital_at_us.map(instant),
        }
    }
}

/// Twins of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TwinList {
    /// Ordered by id.
    pub(super) twins: Vec<SummaryView>,
    /// The `cursor` of the twins behind these, where there may be some.
    pub(super) next: Option<String>,
}

/// A twin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TwinView {
    job: String,
    twin: String,
    #[serde(rename = "type")]
    twin_type: String,
    /// Number of the job's start.
    generation: u64,
    /// Number of its state.
    revision: u64,
    /// Number of its last update.
    update: u64,
    /// Number of its last entanglement or life-cycle event.
    change: u32,
    lifecycle: &'static str,
    /// Since when it is in this phase.
    since: Option<String>,
    /// The instant that all this is true at.
    at: String,
    /// When its state was consolidated.
    digital_at: Option<String>,
    /// When it was last heard.
    heard_at: Option<String>,
    /// Values by name.
    #[schema(value_type = Object)]
    properties: Map<String, Value>,
    /// ODTE by other T_d, by the names of the profiles.
    profiles: BTreeMap<String, ProfileView>,
    /// What the roster says of it, by name.
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    /// Who it belongs to, as the roster says.
    relationships: Vec<RelationshipView>,
    odte: f64,
    timeliness: f64,
    reliability: f64,
    availability: f64,
    /// Updates in the window.
    received: f64,
    /// Those of them that were on time.
    on_time: f64,
    /// Updates that were expected.
    expected: f64,
    /// Mean of arrival - device.
    transport_ms: Option<f64>,
    /// Mean of digital - arrival.
    compute_ms: Option<f64>,
    /// Least arrival - device.
    clock_offset_ms: Option<f64>,
    desired_timeliness_ms: f64,
    threshold: f64,
    window_ms: f64,
    /// Its last events, at most five, newest last: of the start of the job, of the twins that had events last. All
    /// are in the history's table `events`.
    events: Vec<EventView>,
}

/// ODTE of a twin by a T_d of its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProfileView {
    desired_timeliness_ms: f64,
    odte: f64,
    timeliness: f64,
    /// Updates in the window that were on time.
    on_time: f64,
}

/// A relationship of a twin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RelationshipView {
    name: String,
    /// The type, or kind of thing, at the other end.
    to: String,
    /// The id at the other end.
    twin: String,
}

impl From<view::Related> for RelationshipView {
    fn from(related: view::Related) -> Self {
        let view::Related { name, to, twin } = related;
        Self { name, to, twin }
    }
}

/// An event that has happened to a twin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    at: String,
    /// Number of the update that it came with.
    update: u64,
    /// Number of the state that it is of.
    revision: u64,
    name: String,
    /// Null where it is longer than 1,024 bytes.
    value: Value,
}

impl From<view::Event> for EventView {
    fn from(event: view::Event) -> Self {
        let view::Event { at_us, update, revision, name, value } = event;
        let value = value.as_ref().map_or(Value::Null, json_of);
        Self { at: instant(at_us), update, revision, name, value }
    }
}

fn ms(us: i64) -> f64 {
    us as f64 / 1e3
}

impl TwinView {
    pub(super) fn new(job: &LiveJob, twin: view::TwinView) -> Self {
        let generation = job.running.as_ref().map_or(0, |one| one.generation);
        Self::of(&job.name, generation, twin)
    }

    /// A twin of a job, in this generation.
    pub(crate) fn of(job: &str, generation: u64, twin: view::TwinView) -> Self {
        let lateness = |read: fn(&operators::entanglement::Lateness) -> f64| {
            twin.lateness.as_ref().map(|lateness| read(lateness) / 1e3)
        };
        Self {
            job: job.to_owned(),
            generation,
            update: twin.update,
            change: twin.change,
            since: twin.since_us.map(instant),
            at: instant(twin.at_us),
            digital_at: twin.summary.digital_at_us.map(instant),
            heard_at: twin.heard_us.map(instant),
            transport_ms: lateness(|one| one.transport_us),
            compute_ms: lateness(|one| one.compute_us),
            clock_offset_ms: lateness(|one| one.transport_min_us),
            profiles: twin.profiles.into_iter().map(profile).collect(),
            attributes: twin.attributes.iter().map(|(name, held)| (name.clone(), json_of(held))).collect(),
            relationships: twin.relationships.into_iter().map(Into::into).collect(),
            properties: twin.properties.iter().map(|(name, held)| (name.clone(), json_of(held))).collect(),
            odte: twin.measure.odte,
            timeliness: twin.measure.timeliness,
            reliability: twin.measure.reliability,
            availability: twin.measure.availability,
            received: twin.measure.received,
            on_time: twin.measure.on_time,
            expected: twin.measure.expected,
            desired_timeliness_ms: ms(twin.desired_timeliness_us),
            threshold: twin.threshold,
            window_ms: ms(twin.window_us),
            events: twin.events.into_iter().map(EventView::from).collect(),
            twin: twin.summary.twin,
            twin_type: twin.summary.twin_type,
            revision: twin.summary.revision,
            lifecycle: twin.summary.phase.word(),
        }
    }
}

fn profile((name, desired_timeliness_us, measure): (String, i64, Measure)) -> (String, ProfileView) {
    let Measure { odte, timeliness, on_time, .. } = measure;
    (name, ProfileView { desired_timeliness_ms: ms(desired_timeliness_us), odte, timeliness, on_time })
}

/// A value as JSON.
pub(super) fn json_of(held: &Held) -> Value {
    match held {
        Held::Double(number) => json!(number),
        Held::Integer(number) => json!(number),
        Held::Boolean(flag) => json!(flag),
        Held::Text(text) => json!(text),
        // It was checked when it came in; a text is the honest answer where it is none all the same.
        Held::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

/// A property of a twin.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PropertyView {
    pub(super) name: String,
    /// Null where it has no value yet.
    pub(super) value: Value,
    pub(super) unit: Option<String>,
    /// Number of the state that it is of.
    pub(super) revision: u64,
    /// The instant that this is true at.
    pub(super) at: String,
}

/// Twins that are in trouble for one cause, and what they share.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupView {
    /// The group in words.
    verdict: String,
    cause: &'static str,
    #[serde(rename = "type")]
    twin_type: String,
    /// What their ids begin with.
    prefix: String,
    /// The attributes that all of them have, as the roster writes them.
    attributes: BTreeMap<String, String>,
    twins: u64,
    /// Since when the first of them is in its phase.
    since: String,
    /// Some of them.
    named: Vec<String>,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            verdict: super::why::of_group(&group),
            cause: group.cause.word(),
            twin_type: group.twin_type,
            prefix: group.prefix,
            attributes: group.shared.into_iter().collect(),
            twins: group.twins,
            since: instant(group.since_us),
            named: group.named,
        }
    }
}

/// Which twins of a job are in trouble.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Troubles {
    /// Largest group first; none where no twin is in trouble.
    pub(super) groups: Vec<GroupView>,
}

/// Why a twin is as it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WhyView {
    /// The answer in words.
    pub(super) verdict: String,
    /// What keeps it from being entangled.
    pub(super) cause: &'static str,
    /// The twin, with the counts that T, R and A are made of and their parameters.
    pub(super) twin: TwinView,
    /// Groups of others with the same cause.
    pub(super) others: Vec<GroupView>,
    /// Its functions, and which version of each gave a property its value.
    pub(super) functions: Vec<FunctionOfTwin>,
    /// Updates that wait for answers of functions.
    pub(super) updates_waiting: u64,
    /// Its last updates as they came, newest last, with source and position; empty without an archive.
    #[schema(value_type = Vec<Object>)]
    pub(super) updates: Vec<Map<String, Value>>,
    /// The last steps of its life, newest last; empty without an archive.
    #[schema(value_type = Vec<Object>)]
    pub(super) lifecycle: Vec<Map<String, Value>>,
}

/// A function, as far as a twin is concerned.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionOfTwin {
    /// Its name.
    function: String,
    /// The version that runs.
    version: u32,
    /// Whether its circuit breaker is open: calls fail at once.
    is_breaker_open: bool,
    /// The properties that it writes, each with the version that gave it its value; null where it has none.
    properties: BTreeMap<String, Option<u32>>,
    /// What it keeps of the twin from one update to the next; null where it keeps nothing.
    #[schema(value_type = Object, nullable)]
    kept: Value,
}

impl FunctionOfTwin {
    /// As a twin has it, and as the run has it.
    pub(super) fn new(one: FunctionView, twin_type: &str, entries: &[FunctionEntry]) -> Self {
        let entry = entries.iter().find(|entry| entry.twin_type == twin_type && entry.name == one.function);
        let status = entry.and_then(|entry| entry.runner.as_ref()).map(|runner| runner.status());
        Self {
            function: one.function,
            version: one.version,
            is_breaker_open: status.is_some_and(|status| status.is_open),
            properties: one.properties.into_iter().collect(),
            kept: one.kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default(),
        }
    }
}

/// Rows of a twin's history.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HistoryView {
    /// Newest last; columns as in the archive.
    #[schema(value_type = Vec<Object>)]
    pub(super) rows: Vec<Map<String, Value>>,
}

/// The phase of that name.
pub(super) fn phase(word: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.word() == word)
}
