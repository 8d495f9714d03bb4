//! The engine's counters in the text format of OpenMetrics, read anew at each scrape; and, where they are asked for,
//! the measures of a job's twins, which their owners answer.

mod twins;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use connectors::function::Status;
use dataflows::Metrics;
use dataflows::checkpoint::committer::CheckpointPhase;
use dataflows::metrics::{FunctionEntry, FunctionStats, OPERATORS};
use indexmap::IndexMap;
use operators::digital::DigitalKind;
use operators::life_cycle::Phase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text as encoding};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::{Kind, Problem};
use super::{Api, Query};

/// Content type of what [`Sheet::text`] writes.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is measured.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsParams {
    /// A job whose twins are measured one by one as well, the first 10,000 by id; `twinloom_twins_left_out` says how
    /// many more there are
    twins: Option<String>,
}

/// The metrics of all jobs, in the text format of OpenMetrics. Where there may be several, each value says whose it is.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", params(MetricsParams),
    responses((status = 200, content_type = "application/openmetrics-text", body = String),
              (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Query(params): Query<MetricsParams>,
) -> Result<Response, Problem> {
    // Jobs are told apart where there may be several.
    let name = |job: &str| api.service.is_some().then(|| job.to_owned());
    let mut sheet = Sheet::default();
    for job in api.board.all() {
        let Some(running) = &job.running else { continue };
        sheet.job = name(&job.name);
        fill(&mut sheet, &running.metrics);
        if let Some(survey) = job.last_survey() {
            super::fleet::fill(&mut sheet, &survey);
        }
    }
    if let Some(job) = params.twins {
        let job = api.job(&job)?;
        sheet.job = name(&job.name);
        twins::fill(&mut sheet, &job).await?;
    }
    let text = sheet.text().map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

impl Sheet {
    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("twinloom");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        encoding::encode(&mut out, &registry)?;
        Ok(out)
    }
}

/// The families of metrics, in the order of the first job; a family has the values of all jobs.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    families: IndexMap<&'static str, Family>,
    /// The job that is being filled in, where it is named.
    job: Option<String>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    values: Vec<(Labels, Number)>,
}

pub(super) type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Count(u64),
    Level(i64),
    Measure(f64),
    Total(f64),
}

impl Number {
    fn encode(self, metric: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Number::Count(count) => ConstCounter::new(count).encode(metric),
            Number::Level(level) => ConstGauge::new(level).encode(metric),
            Number::Total(total) => ConstCounter::new(total).encode(metric),
            Number::Measure(measure) => ConstGauge::new(measure).encode(metric),
        }
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, family) in &self.families {
            let mut metric =
                encoder.encode_descriptor(name, family.help, family.unit.as_ref(), family.kind)?;
            for (labels, number) in &family.values {
                if labels.is_empty() {
                    // Nothing else is of its name.
                    number.encode(metric)?;
                    break;
                }
                number.encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

/// Values with the label that tells each from others of its name; one without a label stands alone.
type Labelled<T> = Vec<(Option<Labels>, T)>;

/// Writes the metrics of a job down.
fn fill(sheet: &mut Sheet, metrics: &Metrics) {
    for (name, help, counter) in [
        ("events", "accepted physical events", &metrics.events),
        ("events_stale", "physical events with older properties only", &metrics.stale),
        ("dead_letters", "messages and elements that could not be taken", &metrics.dead_letters),
        ("messages_shed", "messages dropped as the job had more than it may have", &metrics.shed),
        ("dead_letters_dropped", "dead letters over the limit, not kept", &metrics.dead_letters_dropped),
        ("function_results_refused", "results that are no value of their property", &metrics.refused_results),
        ("function_calls_skipped", "calls not made as answers were awaited", &metrics.calls_skipped),
        ("events_done", "updates of twins that are done", &metrics.done_dropped),
        ("incidents", "losses of a source", &metrics.incidents),
    ] {
        counters(sheet, name, help, None, vec![(None, load(counter))]);
    }
    let kinds = DigitalKind::ALL.iter().zip(&metrics.digital_events);
    let kinds = kinds.map(|(kind, count)| (label("kind", kind.word()), load(count))).collect();
    counters(sheet, "digital_events", "digital events made", None, kinds);
    let twins = vec![(None, level(&metrics.twins))];
    gauges(sheet, "twins", "known twins", None, twins);
    let phases = Phase::ALL.iter().zip(&metrics.phases);
    let phases = phases.map(|(phase, count)| (label("phase", phase.word()), level(count))).collect();
    gauges(sheet, "twins_phase", "twins by phase of their life", None, phases);
    let bytes = vec![(None, level(&metrics.in_flight_bytes))];
    gauges(sheet, "in_flight", "physical events under way", Some(Unit::Bytes), bytes);
    let frontiers = OPERATORS.iter().zip(&metrics.frontiers).map(|(operator, frontier)| {
        let time = i64::try_from(load(frontier)).unwrap_or(i64::MAX);
        (label("operator", operator), time)
    });
    gauges(sheet, "frontier", "engine time that each has come to", None, frontiers.collect());
    functions(sheet, metrics);
    checkpoints(sheet, metrics);
    sources(sheet, metrics);
    sinks(sheet, metrics);
    archives(sheet, metrics);
}

fn functions(sheet: &mut Sheet, metrics: &Metrics) {
    let all = metrics.functions();
    if all.is_empty() {
        return;
    }
    let named = |entry: &FunctionEntry| label("function", &format!("{}/{}", entry.twin_type, entry.name));
    type Read = fn(&FunctionStats) -> &AtomicU64;
    type Measure = fn(&Status) -> u64;
    let counted: [(&str, &str, Read); 3] = [
        ("function_calls", "calls that went out", |stats| &stats.calls),
        ("function_failures", "updates that a function gave no good answer to", |stats| &stats.failures),
        ("function_answers_forgotten", "answers that nobody waited for any more", |stats| &stats.forgotten),
    ];
    for (name, help, read) in counted {
        let values = all.iter().map(|entry| (named(entry), load(read(&entry.stats)))).collect();
        counters(sheet, name, help, None, values);
    }
    let meters: Vec<_> =
        all.iter().filter_map(|entry| Some((named(entry), entry.runner.as_ref()?.meter()?))).collect();
    let spent =
        meters.iter().map(|(label, meter)| (label.clone(), Number::Total(meter.spent().as_secs_f64())));
    let help = "time of its requests, or of its processes with calls";
    add(sheet, "function_time", help, Some(Unit::Seconds), MetricType::Counter, spent);
    let held = meters.iter().map(|(label, meter)| (label.clone(), meter.held())).collect();
    counters(sheet, "function_holds", "times that calls waited as functions' time was used up", None, held);
    let status: Vec<_> =
        all.iter().filter_map(|entry| Some((named(entry), entry.runner.as_ref()?.status()))).collect();
    let measured: [(&str, &str, Measure); 3] = [
        ("function_calls_open", "calls that are not answered", |status| status.in_flight),
        ("function_instances", "processes or instances held", |status| status.instances),
        ("function_breaker_open", "1 while calls fail at once", |status| status.is_open.into()),
    ];
    for (name, help, read) in measured {
        let values = status
            .iter()
            .map(|(label, status)| (label.clone(), i64::try_from(read(status)).unwrap_or(i64::MAX)));
        gauges(sheet, name, help, None, values.collect());
    }
    let versions = all.iter().map(|entry| (named(entry), i64::from(entry.version))).collect();
    gauges(sheet, "function_version", "version that runs", None, versions);
}

fn checkpoints(sheet: &mut Sheet, metrics: &Metrics) {
    let Some(stats) = metrics.checkpoints() else { return };
    let completed = vec![(None, load(&stats.completed))];
    counters(sheet, "checkpoints", "checkpoints completed", None, completed);
    let at_us = stats.at_us.load(Ordering::Relaxed);
    let at = vec![(None, at_us / 1_000_000)];
    gauges(sheet, "checkpoint_timestamp", "when the last one was cut", Some(Unit::Seconds), at);
    let millis = vec![(None, (load(&stats.duration_us) / 1_000) as i64)];
    gauges(sheet, "checkpoint_duration_milliseconds", "from command to manifest", None, millis);
    let bytes = vec![(None, load(&stats.bytes) as i64)];
    gauges(sheet, "checkpoint", "objects that the last one added", Some(Unit::Bytes), bytes);
    let is_in = |phase| i64::from(stats.phase() == phase);
    let phases = CheckpointPhase::ALL.map(|phase| (label("phase", phase.word()), is_in(phase)));
    gauges(sheet, "checkpoint_phase", "1 at what a checkpoint waits for", None, phases.into())
}

fn sources(sheet: &mut Sheet, metrics: &Metrics) {
    let sources = metrics.sources();
    let each = |value: &dyn Fn(&connectors::source::SourceStats) -> u64| -> Labelled<u64> {
        sources.iter().map(|(name, stats)| (label("source", name), value(stats))).collect()
    };
    let messages = each(&|stats| load(&stats.messages));
    counters(sheet, "source_messages", "messages taken", None, messages);
    let bytes = each(&|stats| load(&stats.bytes));
    counters(sheet, "source", "payloads taken", Some(Unit::Bytes), bytes);
    let reconnects = each(&|stats| load(&stats.reconnects));
    counters(sheet, "source_reconnects", "connections that came back", None, reconnects);
    let repeats = each(&|stats| load(&stats.repeats));
    counters(sheet, "source_repeats", "messages that had been taken before, dropped", None, repeats);
    let takeovers = each(&|stats| load(&stats.takeovers));
    let help = "times that another client took the session over, or seems to have";
    counters(sheet, "source_takeovers", help, None, takeovers);
    let gone = each(&|stats| load(&stats.gone));
    counters(sheet, "source_gone", "messages that the bus removed before they were taken", None, gone);
    let requests = each(&|stats| load(&stats.requests));
    counters(sheet, "source_requests", "requests to devices that were published", None, requests);
    let lags = sources.iter().flat_map(|(name, stats)| {
        stats.lags().into_iter().map(|(partition, lag)| {
            let labels = vec![("source", name.clone()), ("partition", partition)];
            (Some(labels), i64::try_from(lag).unwrap_or(i64::MAX))
        })
    });
    gauges(sheet, "source_lag", "messages that wait in a partition", None, lags.collect());
    let syncs = each(&|stats| load(&stats.journal_syncs));
    counters(sheet, "journal_syncs", "times that the journal was synced", None, syncs);
    let level = |all: Labelled<u64>| all.into_iter().map(|(label, on)| (label, on as i64)).collect();
    let bytes = level(each(&|stats| load(&stats.journal_bytes)));
    gauges(sheet, "journal", "bytes of the journal on disk", Some(Unit::Bytes), bytes);
    let full = level(each(&|stats| u64::from(stats.journal_full.load(Ordering::Relaxed))));
    gauges(sheet, "journal_full", "1 where the journal waits for a checkpoint", None, full);
    let connected = level(each(&|stats| u64::from(stats.connected.load(Ordering::Relaxed))));
    gauges(sheet, "source_connected", "1 where the source is reached", None, connected)
}

fn sinks(sheet: &mut Sheet, metrics: &Metrics) {
    let sinks = metrics.sinks();
    let each = |value: &dyn Fn(&connectors::sink::SinkStats) -> u64| -> Labelled<u64> {
        sinks.iter().map(|(name, stats)| (label("sink", name), value(stats))).collect()
    };
    let published = each(&|stats| load(&stats.published));
    counters(sheet, "sink_published", "digital events published", None, published);
    let bytes = each(&|stats| load(&stats.bytes));
    counters(sheet, "sink", "topics and payloads published", Some(Unit::Bytes), bytes);
    let failures = each(&|stats| load(&stats.failures));
    counters(sheet, "sink_failures", "digital events that cannot be published", None, failures);
    let connected = each(&|stats| u64::from(stats.connected.load(Ordering::Relaxed)));
    let connected = connected.into_iter().map(|(label, on)| (label, on as i64)).collect();
    gauges(sheet, "sink_connected", "1 where the sink is reached", None, connected)
}

fn archives(sheet: &mut Sheet, metrics: &Metrics) {
    let archives = metrics.archives();
    let sum = |value: &dyn Fn(&connectors::archive::ArchiveStats) -> u64| -> Labelled<u64> {
        vec![(None, archives.iter().map(|stats| value(stats)).sum())]
    };
    let rows = sum(&|stats| load(&stats.rows));
    counters(sheet, "archive_rows", "rows taken by files", None, rows);
    let files = sum(&|stats| load(&stats.files));
    counters(sheet, "archive_files", "files complete", None, files);
    let failures = sum(&|stats| load(&stats.failures));
    counters(sheet, "archive_failures", "rows that were lost", None, failures);
    let bytes = sum(&|stats| load(&stats.bytes));
    counters(sheet, "archive", "files complete", Some(Unit::Bytes), bytes)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn level(gauge: &AtomicI64) -> i64 {
    gauge.load(Ordering::Relaxed)
}

fn label(name: &'static str, value: &str) -> Option<Labels> {
    Some(vec![(name, value.to_owned())])
}

fn counters(
    sheet: &mut Sheet,
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    values: Labelled<u64>,
) {
    let values = values.into_iter().map(|(label, value)| (label, Number::Count(value)));
    add(sheet, name, help, unit, MetricType::Counter, values);
}

fn gauges(
    sheet: &mut Sheet,
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    values: Labelled<i64>,
) {
    let values = values.into_iter().map(|(label, value)| (label, Number::Level(value)));
    add(sheet, name, help, unit, MetricType::Gauge, values);
}

pub(super) fn add(
    sheet: &mut Sheet,
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    values: impl Iterator<Item = (Option<Labels>, Number)>,
) {
    let Sheet { families, job } = sheet;
    let family = families.entry(name).or_insert(Family { help, unit, kind, values: Vec::new() });
    family.values.extend(values.map(|(labels, number)| {
        let job = job.iter().map(|job| ("job", job.clone()));
        (job.chain(labels.unwrap_or_default()).collect(), number)
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(are_named: bool) -> String {
        let mut sheet = Sheet::default();
        for job in ["a", "b"] {
            let metrics = Arc::new(Metrics::default());
            metrics.events.store(42, Ordering::Relaxed);
            metrics.phases[2].store(7, Ordering::Relaxed);
            sheet.job = are_named.then(|| job.to_owned());
            fill(&mut sheet, &metrics);
            if !are_named {
                break;
            }
        }
        sheet.text().expect("writing to a text cannot fail")
    }

    #[test]
    fn names_begin_with_twinloom_and_units_come_last() {
        let text = shown(false);
        for line in [
            "twinloom_events_total 42",
            "twinloom_twins_phase{phase=\"entangled\"} 7",
            "twinloom_digital_events_total{kind=\"state\"} 0",
            "twinloom_in_flight_bytes 0",
            "twinloom_archive_bytes_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        let named = text.lines().filter(|line| !line.starts_with('#'));
        assert!(named.into_iter().all(|line| line.starts_with("twinloom_")), "{text}");
    }

    #[test]
    fn jobs_are_told_apart_and_each_family_is_described_once() {
        let text = shown(true);
        for line in [
            "twinloom_events_total{job=\"a\"} 42",
            "twinloom_events_total{job=\"b\"} 42",
            "twinloom_twins_phase{job=\"b\",phase=\"entangled\"} 7",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE twinloom_events ").count(), 1);
    }
}
