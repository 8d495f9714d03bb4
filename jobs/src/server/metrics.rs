//! The engine's counters in the text format of OpenMetrics, read anew at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dataflows::Metrics;
use dataflows::checkpoint::committer::CheckpointPhase;
use dataflows::metrics::OPERATORS;
use operators::digital::DigitalKind;
use operators::life_cycle::Phase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Content type of what [`encode`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry that shows these counters.
pub(super) fn registry(metrics: Arc<Metrics>) -> Registry {
    let mut registry = Registry::with_prefix("twinloom");
    registry.register_collector(Box::new(Shown(metrics)));
    registry
}

/// All metrics as text.
pub(super) fn encode(registry: &Registry) -> Result<String, fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

struct Shown(Arc<Metrics>);

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shown")
    }
}

/// Values with the label that tells each from others of its name; one without a label stands alone.
type Labelled<T> = Vec<(Option<Vec<(&'static str, String)>>, T)>;

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let metrics = &self.0;
        for (name, help, counter) in [
            ("events", "accepted physical events", &metrics.events),
            ("events_stale", "physical events with older properties only", &metrics.stale),
            ("dead_letters", "messages and elements that could not be taken", &metrics.dead_letters),
            ("dead_letters_dropped", "dead letters over the limit, not kept", &metrics.dead_letters_dropped),
            (
                "function_results_refused",
                "results that are no value of their property",
                &metrics.refused_results,
            ),
            ("events_done", "updates of twins that are done", &metrics.done_dropped),
            ("incidents", "losses of a source", &metrics.incidents),
        ] {
            counters(&mut encoder, name, help, None, vec![(None, load(counter))])?;
        }
        let kinds = DigitalKind::ALL.iter().zip(&metrics.digital_events);
        let kinds = kinds.map(|(kind, count)| (label("kind", kind.word()), load(count))).collect();
        counters(&mut encoder, "digital_events", "digital events made", None, kinds)?;
        let twins = vec![(None, level(&metrics.twins))];
        gauges(&mut encoder, "twins", "known twins", None, twins)?;
        let phases = Phase::ALL.iter().zip(&metrics.phases);
        let phases = phases.map(|(phase, count)| (label("phase", phase.word()), level(count))).collect();
        gauges(&mut encoder, "twins_phase", "twins by phase of their life", None, phases)?;
        let bytes = vec![(None, level(&metrics.in_flight_bytes))];
        gauges(&mut encoder, "in_flight", "physical events under way", Some(Unit::Bytes), bytes)?;
        let frontiers = OPERATORS.iter().zip(&metrics.frontiers).map(|(operator, frontier)| {
            let time = i64::try_from(load(frontier)).unwrap_or(i64::MAX);
            (label("operator", operator), time)
        });
        gauges(&mut encoder, "frontier", "engine time that each has come to", None, frontiers.collect())?;
        self.checkpoints(&mut encoder)?;
        self.sources(&mut encoder)?;
        self.sinks(&mut encoder)?;
        self.archives(&mut encoder)
    }
}

impl Shown {
    fn checkpoints(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stats) = self.0.checkpoints() else { return Ok(()) };
        let completed = vec![(None, load(&stats.completed))];
        counters(encoder, "checkpoints", "checkpoints completed", None, completed)?;
        let at_us = stats.at_us.load(Ordering::Relaxed);
        let at = vec![(None, at_us / 1_000_000)];
        gauges(encoder, "checkpoint_timestamp", "when the last one was cut", Some(Unit::Seconds), at)?;
        let millis = vec![(None, (load(&stats.duration_us) / 1_000) as i64)];
        gauges(encoder, "checkpoint_duration_milliseconds", "from command to manifest", None, millis)?;
        let bytes = vec![(None, load(&stats.bytes) as i64)];
        gauges(encoder, "checkpoint", "objects that the last one added", Some(Unit::Bytes), bytes)?;
        let is_in = |phase| i64::from(stats.phase() == phase);
        let phases = CheckpointPhase::ALL.map(|phase| (label("phase", phase.word()), is_in(phase)));
        gauges(encoder, "checkpoint_phase", "1 at what a checkpoint waits for", None, phases.into())
    }

    fn sources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sources = self.0.sources();
        let each = |value: &dyn Fn(&connectors::source::SourceStats) -> u64| -> Labelled<u64> {
            sources.iter().map(|(name, stats)| (label("source", name), value(stats))).collect()
        };
        let messages = each(&|stats| load(&stats.messages));
        counters(encoder, "source_messages", "messages taken", None, messages)?;
        let bytes = each(&|stats| load(&stats.bytes));
        counters(encoder, "source", "payloads taken", Some(Unit::Bytes), bytes)?;
        let reconnects = each(&|stats| load(&stats.reconnects));
        counters(encoder, "source_reconnects", "connections that came back", None, reconnects)?;
        let repeats = each(&|stats| load(&stats.repeats));
        counters(encoder, "source_repeats", "messages that had been taken before, dropped", None, repeats)?;
        let gone = each(&|stats| load(&stats.gone));
        counters(encoder, "source_gone", "messages that the bus removed before they were taken", None, gone)?;
        let lags = sources.iter().flat_map(|(name, stats)| {
            stats.lags().into_iter().map(|(partition, lag)| {
                let labels = vec![("source", name.clone()), ("partition", partition)];
                (Some(labels), i64::try_from(lag).unwrap_or(i64::MAX))
            })
        });
        gauges(encoder, "source_lag", "messages that wait in a partition", None, lags.collect())?;
        let syncs = each(&|stats| load(&stats.journal_syncs));
        counters(encoder, "journal_syncs", "times that the journal was synced", None, syncs)?;
        let level = |all: Labelled<u64>| all.into_iter().map(|(label, on)| (label, on as i64)).collect();
        let bytes = level(each(&|stats| load(&stats.journal_bytes)));
        gauges(encoder, "journal", "bytes of the journal on disk", Some(Unit::Bytes), bytes)?;
        let full = level(each(&|stats| u64::from(stats.journal_full.load(Ordering::Relaxed))));
        gauges(encoder, "journal_full", "1 where the journal waits for a checkpoint", None, full)?;
        let connected = level(each(&|stats| u64::from(stats.connected.load(Ordering::Relaxed))));
        gauges(encoder, "source_connected", "1 where the source is reached", None, connected)
    }

    fn sinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sinks = self.0.sinks();
        let each = |value: &dyn Fn(&connectors::sink::SinkStats) -> u64| -> Labelled<u64> {
            sinks.iter().map(|(name, stats)| (label("sink", name), value(stats))).collect()
        };
        let published = each(&|stats| load(&stats.published));
        counters(encoder, "sink_published", "digital events published", None, published)?;
        let bytes = each(&|stats| load(&stats.bytes));
        counters(encoder, "sink", "topics and payloads published", Some(Unit::Bytes), bytes)?;
        let failures = each(&|stats| load(&stats.failures));
        counters(encoder, "sink_failures", "digital events that cannot be published", None, failures)?;
        let connected = each(&|stats| u64::from(stats.connected.load(Ordering::Relaxed)));
        let connected = connected.into_iter().map(|(label, on)| (label, on as i64)).collect();
        gauges(encoder, "sink_connected", "1 where the sink is reached", None, connected)
    }

    fn archives(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let archives = self.0.archives();
        let sum = |value: &dyn Fn(&connectors::archive::ArchiveStats) -> u64| -> Labelled<u64> {
            vec![(None, archives.iter().map(|stats| value(stats)).sum())]
        };
        let rows = sum(&|stats| load(&stats.rows));
        counters(encoder, "archive_rows", "rows taken by files", None, rows)?;
        let files = sum(&|stats| load(&stats.files));
        counters(encoder, "archive_files", "files complete", None, files)?;
        let failures = sum(&|stats| load(&stats.failures));
        counters(encoder, "archive_failures", "rows that were lost", None, failures)?;
        let bytes = sum(&|stats| load(&stats.bytes));
        counters(encoder, "archive", "files complete", Some(Unit::Bytes), bytes)
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn level(gauge: &AtomicI64) -> i64 {
    gauge.load(Ordering::Relaxed)
}

fn label(name: &'static str, value: &str) -> Option<Vec<(&'static str, String)>> {
    Some(vec![(name, value.to_owned())])
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: Labelled<u64>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    for (label, value) in values {
        let counter = ConstCounter::new(value);
        match label {
            Some(label) => counter.encode(metric.encode_family(&label)?)?,
            None => return counter.encode(metric),
        }
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: Labelled<i64>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (label, value) in values {
        let gauge = ConstGauge::new(value);
        match label {
            Some(label) => gauge.encode(metric.encode_family(&label)?)?,
            None => return gauge.encode(metric),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_twinloom_and_units_come_last() {
        let metrics = Arc::new(Metrics::default());
        metrics.events.store(42, Ordering::Relaxed);
        metrics.phases[2].store(7, Ordering::Relaxed);
        let text = encode(&registry(metrics)).expect("writing to a text cannot fail");
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
}
