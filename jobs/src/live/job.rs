//! One job as it is seen from outside. It is made anew when something of the job changes; what those who follow
//! it hold on to, the feed and the trend, goes on.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use connectors::clock::{Clock, SystemClock};
use connectors::feed::Feed;
use dataflows::ask::{Asker, Question, Reply};
use dataflows::plan::{ListenerPlan, Plan, SinkPlan};
use dataflows::{Metrics, Run, Survey};
use operators::bus::Bus;
use operators::digital::{DigitalKind, TopicTemplate};
use tokio::sync::oneshot;

use super::History;
use crate::definition::Definition;

/// Bytes of digital events that a job keeps for those who follow it.
const FEED_BYTES_MAX: usize = 8 << 20;
/// The name of the sink that the feed is.
const FEED: &str = "stream";
/// Topics of a feed: type and kind.
const FEED_TOPIC: &str = "{type}.{kind}";
/// Samples of the trend: an hour of them, where they are 5 s apart.
const SAMPLES_MAX: usize = 720;
/// How old a survey may be that is shown again. For a large fleet it is longer, as a survey looks at every twin.
const SURVEY_AGE: Duration = Duration::from_millis(900);
/// Twins that are surveyed a second at most, so that looking costs few percent of a core.
const SURVEYED_PER_SECOND: u64 = 100_000;
/// How long workers may take to answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It hears its physical twins.
    Running,
    /// It hears nothing; its twins answer.
    Paused,
    /// It was cancelled: its twins are Done, and answer.
    Done,
    /// Its input is over.
    Ended,
    /// It cannot go on.
    Failed,
}

/// A job as it is seen.
pub struct LiveJob {
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    pub tenant: Option<String>,
    /// What it does.
    pub status: Status,
    /// Why it does not run, where it does not.
    pub reason: Option<String>,
    /// How often its definition was changed; 1 is the first.
    pub version: u64,
    /// Its run, where it has one.
    pub running: Option<Running>,
    /// Units of the properties that have one, by type and property.
    pub units: Vec<(String, String, String)>,
    /// Names of its properties, by type.
    pub properties: Vec<(String, Vec<String>)>,
    /// Where its history is, where it has an archive.
    pub history: Option<History>,
    lasting: Arc<Lasting>,
}

/// A run that answers.
#[derive(Clone)]
pub struct Running {
    /// Number of the start.
    pub generation: u64,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Asks it.
    pub asker: Asker,
}

impl From<&Run> for Running {
    fn from(run: &Run) -> Self {
        Self { generation: run.generation(), metrics: run.metrics(), asker: run.asker() }
    }
}

/// What goes on while the job changes.
struct Lasting {
    feed: Arc<Feed>,
    /// Tells its feed from that of an earlier process.
    boot: i64,
    trend: Mutex<VecDeque<Sample>>,
    surveyed: Mutex<Option<Surveyed>>,
}

struct Surveyed {
    at: Instant,
    survey: Arc<Survey>,
    events: u64,
    events_per_second: f64,
}

/// How the fleet was.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// Mean ODTE.
    pub odte_mean: f64,
    /// Twins by phase.
    pub phases: [u64; 6],
}

/// How the fleet is.
#[derive(Clone)]
pub struct Overview {
    /// The last survey.
    pub survey: Arc<Survey>,
    /// Physical events a second since the survey before.
    pub events_per_second: f64,
}

/// What a job is made of that is seen.
pub struct LiveParts {
    /// What it does.
    pub status: Status,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Version of its definition.
    pub version: u64,
    /// Its run.
    pub running: Option<Running>,
    /// Where its history is.
    pub history: Option<History>,
}

impl LiveJob {
    /// A job that was not seen before; with one that was, its followers go on.
    pub fn new(definition: &Definition, parts: LiveParts, before: Option<&LiveJob>) -> Self {
        let LiveParts { status, reason, version, running, history } = parts;
        let lasting = before.map_or_else(|| Arc::new(Lasting::new()), |before| before.lasting.clone());
        // What was surveyed of the run before says nothing of this one.
        *lasting.surveyed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut units = Vec::new();
        let mut properties = Vec::new();
        for (name, one) in &definition.types {
            properties.push((name.clone(), one.model.properties.keys().cloned().collect()));
            for (property, settings) in &one.model.properties {
                if let Some(unit) = &settings.unit {
                    units.push((name.clone(), property.clone(), unit.clone()));
                }
            }
        }
        Self {
            name: definition.job.clone(),
            tenant: definition.tenant.clone(),
            status,
            reason,
            version,
            running,
            units,
            properties,
            history,
            lasting,
        }
    }

    /// Has a plan write into this job's feed, while somebody follows.
    pub fn tap(&self, plan: &mut Plan) {
        let feed = self.lasting.feed.clone();
        plan.listeners.push(ListenerPlan {
            sink: plan.sinks.len(),
            topic: TopicTemplate::parse(FEED_TOPIC, "", Bus::Records).expect("a template of known places"),
            kinds: DigitalKind::ALL.to_vec(),
            retain: None,
            gate: Some(feed.gate()),
        });
        plan.sinks.push(SinkPlan {
            name: FEED.into(),
            is_keyed: true,
            open: Box::new(move |_| Ok(feed.sink(FEED).into())),
        });
    }

    /// The digital events that are made while somebody follows.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.lasting.feed
    }

    /// The id of the message with this number, for whoever wants to go on behind it.
    pub fn event_id(&self, number: u64) -> String {
        format!("{}-{number}", self.lasting.boot)
    }

    /// The number of a message with such an id; 0 where the id is of another process, so that what lies between
    /// is missed, and that is told.
    pub fn event_number(&self, id: &str) -> Option<u64> {
        let (boot, number) = id.split_once('-')?;
        let number = number.parse().ok()?;
        match boot.parse() == Ok(self.lasting.boot) {
            true => Some(number),
            false => Some(0),
        }
    }

    /// Asks the run; none where there is none, or it takes too long.
    pub async fn ask(&self, question: Question) -> Option<Reply> {
        let asker = &self.running.as_ref()?.asker;
        let (reply, replied) = oneshot::channel();
        let number = asker.ask(question, move |answer| {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        });
        match tokio::time::timeout(ANSWER_MAX, replied).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                asker.forget(number);
                None
            }
        }
    }

    /// How the fleet is; the answer may be a moment old.
    pub async fn overview(&self) -> Option<Overview> {
        if let Some(surveyed) = &*self.surveyed()
            && surveyed.at.elapsed() < survey_age(surveyed.survey.twins)
        {
            return Some(surveyed.overview());
        }
        let Some(survey) = self.survey().await else {
            return self.surveyed().as_ref().map(Surveyed::overview);
        };
        let events = self.running.as_ref().map_or(0, |one| one.metrics.events.load(Ordering::Relaxed));
        let mut surveyed = self.surveyed();
        let now = Instant::now();
        let events_per_second = surveyed.as_ref().map_or(0.0, |before| {
            // A new run counts from 0.
            events.saturating_sub(before.events) as f64 / (now - before.at).as_secs_f64().max(1e-3)
        });
        let new = Surveyed { at: now, survey: Arc::new(*survey), events, events_per_second };
        Some(surveyed.insert(new).overview())
    }

    /// How the fleet was when it was last looked at, if it was.
    pub fn last_survey(&self) -> Option<Arc<Survey>> {
        self.surveyed().as_ref().map(|surveyed| surveyed.survey.clone())
    }

    /// Asks for a survey; of a job without twins nobody needs to be asked.
    async fn survey(&self) -> Option<Box<Survey>> {
        let twins = self.running.as_ref().map(|one| one.metrics.twins.load(Ordering::Relaxed));
        if twins == Some(0) {
            let at_us = SystemClock.wall_us();
            return Some(Box::new(Survey { at_us, ..Survey::default() }));
        }
        match self.ask(Question::Survey).await {
            Some(Reply::Survey(survey)) => Some(survey),
            _ => None,
        }
    }

    /// Adds a sample to the trend, where one is due: the more twins, the rarer.
    pub async fn sample(&self, interval: Duration) {
        let Some(Overview { survey, .. }) = self.overview().await else { return };
        let mut trend = self.lasting.trend.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = trend.back().is_none_or(|last| {
            survey.at_us.saturating_sub(last.at_us) >= interval.as_micros() as i64 * 9 / 10
        });
        if is_due {
            if trend.len() == SAMPLES_MAX {
                trend.pop_front();
            }
            trend.push_back(Sample {
                at_us: survey.at_us,
                odte_mean: survey.odte_mean,
                phases: survey.phases,
            });
        }
    }

    /// The samples of the last time, oldest first.
    pub fn trend(&self) -> Vec<Sample> {
        self.lasting.trend.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn surveyed(&self) -> MutexGuard<'_, Option<Surveyed>> {
        self.lasting.surveyed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surveyed {
    fn overview(&self) -> Overview {
        Overview { survey: self.survey.clone(), events_per_second: self.events_per_second }
    }
}

impl Lasting {
    fn new() -> Self {
        Self {
            feed: Feed::new(FEED_BYTES_MAX),
            boot: SystemClock.wall_us(),
            trend: Mutex::default(),
            surveyed: Mutex::default(),
        }
    }
}

/// How long a survey of so many twins is shown again.
fn survey_age(twins: u64) -> Duration {
    SURVEY_AGE.max(Duration::from_secs(twins / SURVEYED_PER_SECOND))
}
