//! Recorded cases as data (rule 2.3): what goes in, and all that comes out, in archive and
//! listeners, is the same on 1, 2 and 4 workers and on 2 processes of 2 workers.
//!
//! ```text
//!   cases/<name>/job.yaml, input*.jsonl ──► run on each layout ──► archive + listener as text
//!                                                                    == each other
//!                                                                    == cases/<name>/expected.txt
//! ```
//! `resumed` does the same to runs that are stopped half-way and go on elsewhere.
//!
//! Each `job.yaml` begins with the rules of SEMANTICS that its case shows. After a change that is
//! meant, `UPDATE_EXPECT=1 cargo test --release --test suite cases` writes the expected files anew;
//! read their difference before it is committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use serde_json::Value;

use crate::harness::archive::{self, Archive};
use crate::harness::cluster::{LAYOUTS, Layout, run_job};

/// Two tests a case, run through and stopped half-way, and the list of them all.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
        mod stopped_half_way {
            $(
                #[test]
                fn $name() {
                    crate::resumed::check(super::prepare(stringify!($name)));
                }
            )*
        }
    };
}

cases! {
    bursts,
    day_change,
    dead_letters,
    decoders,
    empty_input,
    expressions,
    functions,
    happenings,
    ids,
    kinds,
    late_twins,
    lying_clocks,
    models,
    modules,
    not_observed,
    one_message,
    out_of_order,
    papers_device,
    plants,
    repeated_keys,
    roster,
    silent_twin,
    spread,
    stale_and_equal,
    streams,
    two_types,
}

/// What one run of a case left behind.
pub struct Outcome {
    /// The archive's tables.
    pub archive: Archive,
    /// The listener's lines, those of each twin together and in their order.
    pub heard: Vec<String>,
    /// What the program wrote at its end.
    pub summary: Value,
}

fn check(name: &str) {
    let first = check_layouts(prepare(name));
    let text = archive::show(&first.archive) + &first.heard.concat();
    expect_file![cases().join(name).join("expected.txt")].assert_eq(&text);
}

/// What puts a case into a folder.
fn prepare(name: &str) -> impl Fn(&Path) {
    let folder = cases().join(name);
    move |work| {
        let files = fs::read_dir(&folder).expect("the case has a folder");
        let files = files.map(|entry| entry.expect("readable").path());
        for file in files.filter(|path| path.extension().is_some_and(|end| end != "txt")) {
            let name = file.file_name().expect("a file has a name");
            fs::copy(&file, work.join(name)).expect("the folder is ours");
        }
    }
}

/// Runs what `prepare` puts into a folder on every layout, and compares.
pub fn check_layouts(prepare: impl Fn(&Path)) -> Outcome {
    let mut outcomes = LAYOUTS.iter().map(|layout| (layout, run_on(*layout, &prepare)));
    let (_, first) = outcomes.next().expect("there is a layout");
    for (layout, other) in outcomes {
        compare(&first, &other, &format!("{layout:?}"));
    }
    first
}

/// Runs what `prepare` puts into a folder, in one go.
pub fn run_on(layout: Layout, prepare: impl Fn(&Path)) -> Outcome {
    let work = tempfile::tempdir().expect("a temporary folder");
    prepare(work.path());
    let summary = run_job(work.path(), layout).json();
    let outcome = Outcome::read(work.path(), summary);
    let job = fs::read_to_string(work.path().join("job.yaml")).expect("every case has one");
    for (key, table) in [("events", "physical"), ("dead_letters", "dead_letters")] {
        let rows = outcome.archive.get(table).map_or(0, |table| table.rows.len());
        let (is_kept, summary) = (!job.contains(&format!("{table}: false")), &outcome.summary);
        assert!(!is_kept || summary[key] == rows, "{rows} rows of {table} on {layout:?}: {summary}");
    }
    outcome
}

impl Outcome {
    /// What a run that has ended left in its folder.
    pub fn read(work: &Path, summary: Value) -> Self {
        let files = archive::files(&work.join("archive"));
        let unfinished = files.iter().filter(|file| file.extension().is_some_and(|end| end == "inprogress"));
        assert_eq!(unfinished.count(), 0, "files that are not complete are left: {summary}");
        Self { heard: heard(work), archive: archive::read(&work.join("archive")), summary }
    }
}

/// The listener's lines by twin: of all processes, which each have a file of their own (rule 7.9).
/// Only the order within a twin is promised; a run that goes on says what comes later.
fn heard(folder: &Path) -> Vec<String> {
    let is_heard = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("heard"))
    };
    let files = archive::files(folder).into_iter().filter(is_heard);
    let text: String =
        files.map(|file| fs::read_to_string(file).expect("a listener's file is text")).collect();
    let order = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let payload = &line["payload"];
        let twin = payload["twin"].as_str().expect("an envelope names its twin").to_owned();
        (twin, payload["generation"].as_u64().expect("an envelope names its generation"))
    };
    let mut lines: Vec<_> = text.lines().map(|line| (order(line), format!("{line}\n"))).collect();
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Fails at the first row or line in which two outcomes differ.
pub fn compare(first: &Outcome, other: &Outcome, how: &str) {
    let tables: BTreeSet<_> = first.archive.keys().chain(other.archive.keys()).collect();
    for name in tables {
        let (a, b) = (first.archive.get(name), other.archive.get(name));
        let (a, b) = (a.cloned().unwrap_or_default(), b.cloned().unwrap_or_default());
        let differs = a.rows.iter().zip(&b.rows).find(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: 1 worker and {how}; columns {:?}", a.columns);
        assert_eq!((a.rows.len(), a.columns), (b.rows.len(), b.columns), "{name}: {how}");
    }
    let differs = first.heard.iter().zip(&other.heard).find(|(a, b)| a != b);
    assert_eq!(differs, None, "the listener: 1 worker and {how}");
    assert_eq!(first.heard.len(), other.heard.len(), "the listener: {how}");
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

#[test]
fn every_folder_is_a_case() {
    let folders = fs::read_dir(cases()).expect("the cases are there");
    let folders = folders.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    let listed: BTreeSet<_> = CASES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(folders.collect::<BTreeSet<_>>(), listed);
}
