//! Twins of a job one by one. They are many, so they are shown to who asks for them, and no more than a database of
//! metrics takes from one scrape.

use std::sync::atomic::Ordering;

use dataflows::ask::{Question, Reply, Selection};
use operators::view::TwinSummary;
use prometheus_client::metrics::MetricType;

use super::super::problem::Problem;
use super::super::twins::no_answer;
use super::{Labels, Number, Sheet, add};
use crate::live::LiveJob;

/// Most twins that are shown.
const TWINS_MAX: usize = 10_000;

/// Writes the twins of a job down, as their owners answer.
pub(super) async fn fill(sheet: &mut Sheet, job: &LiveJob) -> Result<(), Problem> {
    let selection = Selection { limit: TWINS_MAX, ..Selection::default() };
    let Some(Reply::List(twins)) = job.ask(Question::List(selection)).await else {
        return Err(no_answer(job));
    };
    let known = job.running.as_ref().map_or(0, |one| one.metrics.twins.load(Ordering::Relaxed));
    write(sheet, &twins, known);
    Ok(())
}

/// Writes these twins down, of so many.
fn write(sheet: &mut Sheet, twins: &[TwinSummary], known: i64) {
    let left_out = match twins.len() {
        // The count is of another instant than the answer.
        TWINS_MAX => (known - TWINS_MAX as i64).max(0),
        _ => 0,
    };
    let help = "twins of the job that are not shown one by one, as only the first 10000 are";
    let values = [(None, Number::Level(left_out))].into_iter();
    add(sheet, "twins_left_out", help, None, MetricType::Gauge, values);
    type Read = fn(&TwinSummary) -> Number;
    let measures: [(&str, &str, Read); 6] = [
        ("twin_odte", "ODTE: timeliness x reliability x availability", |twin| Number::Measure(twin.odte)),
        ("twin_timeliness", "share of updates that were on time", |twin| Number::Measure(twin.timeliness)),
        ("twin_reliability", "share of expected updates that came", |twin| Number::Measure(twin.reliability)),
        ("twin_availability", "share of time that it was available", |twin| {
            Number::Measure(twin.availability)
        }),
        ("twin_phase", PHASES, |twin| Number::Level(twin.phase as i64)),
        ("twin_revision", "number of its state", |twin| {
            Number::Level(i64::try_from(twin.revision).unwrap_or(i64::MAX))
        }),
    ];
    for (name, help, read) in measures {
        let values = twins.iter().map(|twin| (Some(labels(twin)), read(twin)));
        add(sheet, name, help, None, MetricType::Gauge, values);
    }
}

/// What the numbers of the phases are.
const PHASES: &str = "0 unbound, 1 bound, 2 entangled, 3 disentangled, 4 done, 5 stopped";

fn labels(twin: &TwinSummary) -> Labels {
    vec![("type", twin.twin_type.clone()), ("twin", twin.twin.clone())]
}

#[cfg(test)]
mod tests {
    use operators::life_cycle::Phase;
    use operators::view::Cause;

    use super::*;

    fn twin(id: &str, phase: Phase) -> TwinSummary {
        TwinSummary {
            twin: id.into(),
            twin_type: "press".into(),
            phase,
            cause: Cause::Nothing,
            odte: 0.25,
            timeliness: 0.5,
            reliability: 0.5,
            availability: 1.0,
            revision: 7,
            digital_at_us: None,
        }
    }

    fn shown(twins: &[TwinSummary], known: i64) -> String {
        let mut sheet = Sheet { job: Some("line".into()), ..Sheet::default() };
        write(&mut sheet, twins, known);
        sheet.text().expect("writing to a text cannot fail")
    }

    #[test]
    fn each_twin_has_its_measures_under_its_id_however_that_is_written() {
        let text = shown(&[twin("p-1", Phase::Entangled), twin("a\"b\\c", Phase::Done)], 2);
        for line in [
            "twinloom_twin_odte{job=\"line\",type=\"press\",twin=\"p-1\"} 0.25",
            "twinloom_twin_timeliness{job=\"line\",type=\"press\",twin=\"p-1\"} 0.5",
            "twinloom_twin_availability{job=\"line\",type=\"press\",twin=\"p-1\"} 1.0",
            "twinloom_twin_revision{job=\"line\",type=\"press\",twin=\"p-1\"} 7",
            "twinloom_twin_phase{job=\"line\",type=\"press\",twin=\"p-1\"} 2",
            r#"twinloom_twin_phase{job="line",type="press",twin="a\"b\\c"} 4"#,
            "twinloom_twins_left_out{job=\"line\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let twins: Vec<_> = (0..TWINS_MAX).map(|n| twin(&format!("p-{n}"), Phase::Bound)).collect();
        for (known, left_out) in [(10_250, 250), (9_999, 0)] {
            let line = format!("twinloom_twins_left_out{{job=\"line\"}} {left_out}");
            assert!(shown(&twins, known).lines().any(|one| one == line), "{line}");
        }
    }

    #[test]
    fn the_numbers_of_phases_are_explained() {
        let explained = Phase::ALL.map(|phase| format!("{} {}", phase as i64, phase.word())).join(", ");
        assert_eq!(explained, PHASES);
    }
}
