//! What a run did, for people and for programs.

use std::path::Path;

use dataflows::{Percentiles, Summary, Survey};
use operators::life_cycle::Phase;
use operators::time::Rfc3339;
use serde::Serialize;
use serde::ser::SerializeMap;

/// What a run did. Programs read it as one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the job.
    pub job: String,
    /// Which start of the job on its data folder it was.
    pub generation: u64,
    /// Twins at the last instant of load; `None` in a process other than the first.
    pub twins: Option<u64>,
    /// Accepted physical events: the rows of the archive's `physical`.
    pub events: u64,
    /// Messages and elements that could not be taken.
    pub dead_letters: u64,
    /// Events a second of load.
    pub events_per_second: f64,
    /// From the device's timestamp to the twin's new state.
    pub latency_ms: Option<Spread>,
    /// From arrival to the twin's new state.
    pub compute_ms: Option<Spread>,
    /// How true the twins were at the last instant of load.
    pub odte: Option<Odte>,
    /// Twins by phase at the last instant of load.
    pub lifecycle: Option<LifeCycleCounts>,
    /// Digital events made.
    pub digital_events: u64,
    /// Digital events that listeners did not get.
    pub unpublished: u64,
    /// Rows in the archive's files.
    pub archive_rows: u64,
    /// Root folder of the archive.
    pub archive: Option<String>,
    /// How long the load lasted.
    pub seconds: f64,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half are at most this.
    pub p50: f64,
    /// 99 % are at most this.
    pub p99: f64,
}

/// ODTE over the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Odte {
    /// Its mean.
    pub mean: f64,
    /// What 95 % of the twins have at least.
    pub p05: f64,
}

/// Twins by phase, in the order of [`Phase::ALL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LifeCycleCounts(pub [u64; 6]);

impl Serialize for LifeCycleCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (phase, count) in Phase::ALL.iter().zip(self.0) {
            map.serialize_entry(phase.word(), &count)?;
        }
        map.end()
    }
}

impl From<Percentiles> for Spread {
    fn from(percentiles: Percentiles) -> Self {
        Self { p50: rounded(percentiles.p50), p99: rounded(percentiles.p99) }
    }
}

/// To a ten-thousandth: more digits say nothing.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

impl Report {
    /// Puts together what is known at the end. `survey` is from the last instant of load, which
    /// lasted `seconds`.
    pub fn new(
        job: &str,
        generation: u64,
        summary: &Summary,
        survey: Option<&Survey>,
        seconds: f64,
        archive: Option<&Path>,
    ) -> Self {
        let absolute = |path: &Path| {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            path.display().to_string()
        };
        Self {
            job: job.to_owned(),
            generation,
            twins: survey.map(|survey| survey.twins),
            events: summary.events,
            dead_letters: summary.dead_letters,
            events_per_second: match seconds > 0.0 {
                true => rounded(summary.events as f64 / seconds),
                false => 0.0,
            },
            latency_ms: survey.map(|survey| survey.lateness_ms.into()),
            compute_ms: survey.map(|survey| survey.compute_ms.into()),
            odte: survey
                .map(|survey| Odte { mean: rounded(survey.odte_mean), p05: rounded(survey.odte_p05) }),
            lifecycle: survey.map(|survey| LifeCycleCounts(survey.phases)),
            digital_events: summary.digital_events,
            unpublished: summary.unpublished,
            archive_rows: summary.archive_rows,
            archive: archive.map(absolute),
            seconds: rounded(seconds),
        }
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and finite numbers are always JSON")
    }

    /// A few lines for a person.
    pub fn text(&self) -> String {
        let mut out =
            format!("{} ended after {:.1} s (generation {})\n", self.job, self.seconds, self.generation);
        let mut line = |name: &str, text: String| out += &format!("  {name:<9} {text}\n");
        line(
            "events",
            format!(
                "{} accepted, {:.0}/s; {} dead letters; {} digital events, {} unpublished",
                thousands(self.events),
                self.events_per_second,
                thousands(self.dead_letters),
                thousands(self.digital_events),
                thousands(self.unpublished),
            ),
        );
        if let (Some(twins), Some(LifeCycleCounts(counts))) = (self.twins, self.lifecycle) {
            line("twins", format!("{}: {}", thousands(twins), phases(&counts)));
        }
        // Of no twins there is nothing to say.
        let has_twins = self.twins.is_some_and(|twins| twins > 0);
        if let Some(odte) = self.odte.filter(|_| has_twins) {
            line("odte", format!("mean {:.3}; 95 % have at least {:.3}", odte.mean, odte.p05));
        }
        if let (true, Some(latency), Some(compute)) = (has_twins, self.latency_ms, self.compute_ms) {
            line(
                "latency",
                format!(
                    "p50 {:.2} ms, p99 {:.2} ms; of that compute p50 {:.2} ms, p99 {:.2} ms",
                    latency.p50, latency.p99, compute.p50, compute.p99
                ),
            );
        }
        if let Some(archive) = &self.archive {
            line("archive", format!("{archive} ({} rows)", thousands(self.archive_rows)));
        }
        out
    }

    /// The line that opens the archive.
    pub fn duckdb(&self) -> Option<String> {
        let archive = self.archive.as_ref()?;
        let quoted = archive.replace('\'', "''");
        Some(format!(
            "duckdb -c \"select twin, count(*), avg(temperature) from read_parquet('{quoted}/state/**/*.parquet', hive_partitioning=true) group by 1 order by 1 limit 5\""
        ))
    }
}

/// `12 entangled, 3 unbound`: the phases that some twin is in.
pub(crate) fn phases(counts: &[u64; 6]) -> String {
    let named: Vec<String> = Phase::ALL
        .iter()
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(phase, count)| format!("{} {}", thousands(*count), phase.word()))
        .collect();
    match named.is_empty() {
        true => "none yet".into(),
        false => named.join(", "),
    }
}

/// A number with a comma every three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An instant as RFC 3339.
pub(crate) fn instant(at_us: i64) -> String {
    let mut text = Vec::new();
    Rfc3339::default().write(at_us, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;

    use super::*;

    pub(crate) fn survey() -> Survey {
        Survey {
            at_us: 0,
            twins: 1_000,
            causes: Default::default(),
            phases: [1, 0, 990, 9, 0, 0],
            odte_mean: 0.987_654_3,
            odte_p05: 0.95,
            odte_histogram: [9, 0, 0, 0, 0, 0, 0, 0, 1, 990],
            lateness_ms: Percentiles { p50: 1.25, p99: 4.5 },
            compute_ms: Percentiles { p50: 0.05, p99: 0.4 },
            worst: Vec::new(),
        }
    }

    fn summary() -> Summary {
        Summary {
            survey: None,
            events: 30_000,
            dead_letters: 2,
            digital_events: 33_000,
            unpublished: 0,
            archive_rows: 63_000,
            seconds: 31.0,
        }
    }

    #[test]
    fn programs_read_one_object() {
        let report = Report::new("j", 3, &summary(), Some(&survey()), 30.0, Some(Path::new("/nowhere/it's")));
        expect![[r#"{"job":"j","generation":3,"twins":1000,"events":30000,"dead_letters":2,"events_per_second":1000.0,"latency_ms":{"p50":1.25,"p99":4.5},"compute_ms":{"p50":0.05,"p99":0.4},"odte":{"mean":0.9877,"p05":0.95},"lifecycle":{"unbound":1,"bound":0,"entangled":990,"disentangled":9,"done":0,"stopped":0},"digital_events":33000,"unpublished":0,"archive_rows":63000,"archive":"/nowhere/it's","seconds":30.0}"#]]
        .assert_eq(&report.to_json());
        assert!(report.duckdb().expect("an archive").contains("'/nowhere/it''s/state/**/*.parquet'"));
    }

    #[test]
    fn people_read_lines() {
        let report = Report::new("j", 3, &summary(), Some(&survey()), 30.0, Some(Path::new("/nowhere/a")));
        expect![[r#"
            j ended after 30.0 s (generation 3)
              events    30,000 accepted, 1000/s; 2 dead letters; 33,000 digital events, 0 unpublished
              twins     1,000: 1 unbound, 990 entangled, 9 disentangled
              odte      mean 0.988; 95 % have at least 0.950
              latency   p50 1.25 ms, p99 4.50 ms; of that compute p50 0.05 ms, p99 0.40 ms
              archive   /nowhere/a (63,000 rows)
        "#]]
        .assert_eq(&report.text());
        let other = Report::new("j", 3, &summary(), None, 0.0, None);
        assert_eq!(other.text().lines().count(), 2);
        assert!(other.to_json().contains("\"twins\":null"));
    }
}
