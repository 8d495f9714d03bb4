//! How the fleet of a job is, in all that the live screen shows; and the same for the metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use connectors::clock::{Clock, SystemClock};
use dataflows::{Percentiles, Survey, Worst};
use operators::life_cycle::Phase;
use prometheus_client::metrics::MetricType;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::metrics::{Number, Sheet, add};
use super::problem::Problem;
use super::{Api, Path};
use crate::live::{LiveJob, Overview};
use crate::summary::instant;

/// How the fleet of a job is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FleetView {
    /// The job.
    pub(crate) job: String,
    /// When it was looked.
    at: String,
    /// Accepted physical events since the start.
    pub(crate) events: u64,
    /// Physical events a second, of late.
    pub(crate) events_per_second: f64,
    /// Messages and elements that could not be taken since the start.
    pub(crate) dead_letters: u64,
    /// Known twins.
    twins: u64,
    /// Twins by phase: unbound, bound, entangled, disentangled, done, stopped.
    phases: [u64; 6],
    /// Mean ODTE of the twins that are measured.
    odte_mean: f64,
    /// What 95 % of them have at least.
    odte_p05: f64,
    /// Twins by ODTE, in tenths; the last are those of 0.9 and more.
    odte_histogram: [u64; 10],
    /// From the device's timestamp to the twin's new state, since the start.
    lateness_ms: SpreadView,
    /// From arrival to the twin's new state, since the start.
    compute_ms: SpreadView,
    /// The least entangled twins, least first.
    worst: Vec<WorstView>,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SpreadView {
    /// Half are at most this.
    p50: f64,
    /// 99 % are at most this.
    p99: f64,
}

/// A twin that is not well entangled, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct WorstView {
    twin: String,
    #[schema(value_type = String)]
    lifecycle: Phase,
    odte: f64,
    timeliness: f64,
    reliability: f64,
    availability: f64,
    /// Mean of arrival - device in the window; null where that is empty.
    transport_ms: Option<f64>,
    /// Mean of digital - arrival in the window; null where that is empty.
    compute_ms: Option<f64>,
}

impl FleetView {
    fn new(job: &LiveJob, overview: Option<Overview>) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let metrics = job.running.as_ref().map(|one| &one.metrics);
        let none = || Arc::new(Survey { at_us: SystemClock.wall_us(), ..Survey::default() });
        let (survey, events_per_second) =
            overview.map_or_else(|| (none(), 0.0), |one| (one.survey, one.events_per_second));
        Self {
            job: job.name.clone(),
            at: instant(survey.at_us),
            events: metrics.map_or(0, |metrics| metrics.events.load(Relaxed)),
            events_per_second,
            dead_letters: metrics.map_or(0, |metrics| metrics.dead_letters.load(Relaxed)),
            twins: survey.twins,
            phases: survey.phases,
            odte_mean: survey.odte_mean,
            odte_p05: survey.odte_p05,
            odte_histogram: survey.odte_histogram,
            lateness_ms: survey.lateness_ms.into(),
            compute_ms: survey.compute_ms.into(),
            worst: survey.worst.iter().cloned().map(Into::into).collect(),
        }
    }

    /// The survey that it was made of, without what it does not say.
    pub(crate) fn survey(&self) -> Survey {
        Survey {
            at_us: operators::time::parse_rfc3339(&self.at).unwrap_or_default(),
            twins: self.twins,
            phases: self.phases,
            odte_mean: self.odte_mean,
            odte_p05: self.odte_p05,
            odte_histogram: self.odte_histogram,
            lateness_ms: self.lateness_ms.into(),
            compute_ms: self.compute_ms.into(),
            worst: self.worst.iter().cloned().map(Into::into).collect(),
            ..Survey::default()
        }
    }
}

impl From<Percentiles> for SpreadView {
    fn from(Percentiles { p50, p99 }: Percentiles) -> Self {
        Self { p50, p99 }
    }
}

impl From<SpreadView> for Percentiles {
    fn from(SpreadView { p50, p99 }: SpreadView) -> Self {
        Self { p50, p99 }
    }
}

impl From<Worst> for WorstView {
    fn from(worst: Worst) -> Self {
        let Worst { twin, phase, odte, timeliness, reliability, availability, transport_ms, compute_ms } =
            worst;
        Self { twin, lifecycle: phase, odte, timeliness, reliability, availability, transport_ms, compute_ms }
    }
}

impl From<WorstView> for Worst {
    fn from(worst: WorstView) -> Self {
        let WorstView {
            twin,
            lifecycle,
            odte,
            timeliness,
            reliability,
            availability,
            transport_ms,
            compute_ms,
        } = worst;
        Self { twin, phase: lifecycle, odte, timeliness, reliability, availability, transport_ms, compute_ms }
    }
}

/// How the fleet of a job is: phases, ODTE, lateness, and the least entangled twins.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/fleet", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = FleetView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<FleetView>, Problem> {
    let job = api.job(&job)?;
    Ok(Json(FleetView::new(&job, job.overview().await)))
}

/// Writes down how the fleet was when it was last looked at, so that a scrape asks nobody.
pub(super) fn fill(sheet: &mut Sheet, survey: &Survey) {
    // Twins that are Done or Stopped are not measured.
    if survey.phases[..4].iter().any(|count| *count > 0) {
        for (name, help, measure) in [
            ("odte_mean", "mean ODTE of the twins when they were last looked at", survey.odte_mean),
            ("odte_p05", "ODTE that 95 % of the twins have at least", survey.odte_p05),
        ] {
            add(sheet, name, help, None, MetricType::Gauge, [(None, Number::Measure(measure))].into_iter());
        }
    }
    for (name, help, spread) in [
        (
            "lateness_milliseconds",
            "from the device's time to the new state, since the start",
            survey.lateness_ms,
        ),
        ("compute_milliseconds", "from arrival to the new state, since the start", survey.compute_ms),
    ] {
        let values = [("0.5", spread.p50), ("0.99", spread.p99)].into_iter();
        let values =
            values.map(|(of, value)| (Some(vec![("quantile", of.to_owned())]), Number::Measure(value)));
        add(sheet, name, help, None, MetricType::Gauge, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_of_what_is_answered() {
        let survey = crate::summary::tests::survey();
        let overview = Overview { survey: Arc::new(survey.clone()), events_per_second: 2.5 };
        let definition = crate::definition::Definition { job: "line".into(), ..Default::default() };
        let parts = crate::live::LiveParts {
            status: crate::live::Status::Running,
            reason: None,
            version: 1,
            running: None,
            history: None,
        };
        let job = LiveJob::new(&definition, parts, None);
        let text = serde_json::to_string(&FleetView::new(&job, Some(overview))).expect("JSON");
        let view: FleetView = serde_json::from_str(&text).expect("it reads what it writes");
        assert_eq!((view.job.as_str(), view.events_per_second), ("line", 2.5));
        assert_eq!(view.survey(), Survey { causes: Default::default(), ..survey });
    }
}
