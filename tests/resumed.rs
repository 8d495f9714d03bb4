//! Recorded runs that are stopped half-way and go on elsewhere (rules 1.3 and 7): what both runs left
//! together is what one run leaves, whatever the number of workers before and after.
//!
//! ```text
//!   input ──► run --until <instant> on layout A ──► data folder ──► run on layout B
//!                   └──► archive + listener ◄───────────────────────────┘
//!                            == those of one run, generations set aside
//! ```

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cases::{Outcome, compare, run_on};
use crate::harness::archive;
use crate::harness::cluster::{LAYOUTS, Layout, run_job, run_job_with};

/// Where a run is stopped.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// At the arrival that stands in the middle of them all.
    Median,
    /// Between two arrivals, a third of the way.
    Between,
    /// At the first arrival: all is left to the second run.
    Before,
    /// Behind the last arrival: nothing is left but the end.
    After,
}

const ONE: Layout = Layout { processes: 1, workers: 1 };
const TWO: Layout = Layout { processes: 1, workers: 2 };
const FOUR: Layout = Layout { processes: 1, workers: 4 };
const TWO_BY_TWO: Layout = Layout { processes: 2, workers: 2 };

/// Where a run is stopped, and the layouts before and after.
const STOPS: [(Stop, Layout, Layout); 5] = [
    (Stop::Median, ONE, FOUR),
    (Stop::Between, FOUR, TWO_BY_TWO),
    (Stop::Median, TWO_BY_TWO, ONE),
    (Stop::Before, ONE, TWO),
    (Stop::After, TWO, ONE),
];

/// Runs what `prepare` puts into a folder in one go and in two, and compares.
pub fn check(prepare: impl Fn(&Path)) {
    let whole = without_generations(run_on(LAYOUTS[0], &prepare));
    for (stop, before, after) in STOPS {
        let work = tempfile::tempdir().expect("a temporary folder");
        prepare(work.path());
        let instant = stop.instant(&arrivals(work.path()));
        let how = format!("{before:?} until {instant} ({stop:?}), then {after:?}");
        run_job_with(work.path(), before, &["--until", &instant]);
        let summary = run_job(work.path(), after).json();
        assert_eq!(summary["generation"], 2, "{how}: {summary}");
        compare(&whole, &without_generations(Outcome::read(work.path(), summary)), &how);
    }
}

/// What listeners hear names the run that says it, which two runs cannot have in common with one.
fn without_generations(mut outcome: Outcome) -> Outcome {
    for line in &mut outcome.heard {
        let mut value: Value = serde_json::from_str(line).expect("it was read before");
        let payload = value["payload"].as_object_mut().expect("an envelope is an object");
        assert!(payload.shift_remove("generation").is_some(), "{line}");
        *line = format!("{value}\n");
    }
    outcome
}

/// An arrival as `--until` takes it.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Arrival {
    /// Milliseconds since 1970.
    Number(i64),
    /// A text of RFC 3339.
    Text(String),
}

/// The end of the year 9999: what claims to come later is a dead letter.
const MS_MAX: f64 = 253_402_300_800_000.0;

/// All arrivals that can be read, in their order; texts only where there are no numbers.
fn arrivals(work: &Path) -> Vec<Arrival> {
    let inputs = archive::files(work).into_iter();
    let inputs = inputs.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let text: String = inputs.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let mut arrivals: Vec<_> = text.lines().filter_map(arrival).collect();
    let is_number = |arrival: &Arrival| matches!(arrival, Arrival::Number(_));
    if arrivals.iter().any(is_number) {
        arrivals.retain(is_number);
    }
    arrivals.sort_by(|a, b| a.partial_cmp(b).expect("they are of one kind"));
    arrivals
}

fn arrival(line: &str) -> Option<Arrival> {
    let line: Value = serde_json::from_str(line).ok()?;
    match line.get("arrived_at")? {
        Value::Number(number) => {
            number.as_f64().filter(|ms| *ms < MS_MAX).map(|ms| Arrival::Number(ms.floor() as i64))
        }
        Value::String(text) => Some(Arrival::Text(text.clone())),
        _ => None,
    }
}

impl Stop {
    fn instant(self, arrivals: &[Arrival]) -> String {
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { return "1000".into() };
        let third = arrivals.len() / 3;
        let chosen = match self {
            Self::Median => &arrivals[arrivals.len() / 2],
            Self::Between => match (&arrivals[third], arrivals.get(third + 1)) {
                (Arrival::Number(before), Some(Arrival::Number(after))) => {
                    &Arrival::Number(before + (after - before) / 2)
                }
                (before, _) => before,
            },
            Self::Before => first,
            Self::After => match last {
                Arrival::Number(last) => &Arrival::Number(last + 1),
                Arrival::Text(_) => &Arrival::Text("2100-01-01T00:00:00Z".into()),
            },
        };
        match chosen {
            Arrival::Number(ms) => ms.to_string(),
            Arrival::Text(text) => text.clone(),
        }
    }
}

#[test]
fn stops_are_chosen_from_the_input() {
    let check = |arrivals: &[Arrival], expected: [&str; 4]| {
        let stops = [Stop::Before, Stop::Between, Stop::Median, Stop::After];
        assert_eq!(stops.map(|stop| stop.instant(arrivals)), expected, "{arrivals:?}");
    };
    let numbers = [1_000, 2_000, 3_001, 4_000].map(Arrival::Number);
    check(&numbers, ["1000", "2500", "3001", "4001"]);
    check(&numbers[..1], ["1000", "1000", "1000", "1001"]);
    check(&[], ["1000"; 4]);
    let [first, second, third] = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "2024-01-01T00:00:02Z"];
    let texts = [first, second, third].map(|text| Arrival::Text(text.into()));
    check(&texts, [first, second, second, "2100-01-01T00:00:00Z"]);
}

#[test]
fn arrivals_are_read_from_lines() {
    for (line, expected) in [
        (r#"{"arrived_at":1000,"topic":"a"}"#, Some(Arrival::Number(1_000))),
        (r#"{"arrived_at":1000.9}"#, Some(Arrival::Number(1_000))),
        (r#"{"arrived_at":"2024-01-01T00:00:00Z"}"#, Some(Arrival::Text("2024-01-01T00:00:00Z".into()))),
        (r#"{"arrived_at":253402300800000}"#, None),
        (r#"{"arrived_at":null}"#, None),
        (r#"{"topic":"a"}"#, None),
        ("{", None),
    ] {
        assert_eq!(arrival(line), expected, "{line}");
    }
}
