//! What the archive and a listener must have of a script, told from the script alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::script::Script;
use crate::harness::archive::{Archive, Table};

/// Tables whose rows are known by a twin and this number.
const KEYS: [(&str, &str); 4] =
    [("physical", "update"), ("state", "revision"), ("lifecycle", "change"), ("entanglement", "change")];

/// At any instant: no row is there twice.
pub fn check_visible(archive: &Archive) {
    for (name, number) in KEYS {
        let Some(table) = archive.get(name) else { continue };
        let mut seen = BTreeSet::new();
        for (twin, number) in table.cells("twin").into_iter().zip(table.cells(number)) {
            assert!(seen.insert((text(twin), integer(number))), "{name}: {twin} {number} is there twice");
        }
    }
}

/// At the end: every accepted element once, in its twin's order, with no gap in any number.
pub fn check_end(script: &Script, archive: &Archive, heard: &[Value]) {
    check_visible(archive);
    let (physical, states) =
        (by_twin(&archive["physical"], "update"), by_twin(&archive["state"], "revision"));
    let got: BTreeMap<_, Vec<i64>> = physical
        .iter()
        .map(|(twin, rows)| (twin.clone(), rows.iter().map(|row| integer(&row["n"])).collect()))
        .collect();
    assert_eq!(got, script.accepted, "accepted elements of each twin");
    for (twin, rows) in &physical {
        let consolidated: Vec<_> = rows.iter().filter(|row| row["stale"] == false).collect();
        let states = states.get(twin).map_or(&[][..], Vec::as_slice);
        let of = |row: &Row| (integer(&row["update"]), integer(&row["n"]));
        let got: Vec<_> = states.iter().map(of).collect();
        assert_eq!(got, consolidated.into_iter().map(of).collect::<Vec<_>>(), "states of {twin}");
        check_steps(twin, "update", rows);
        check_steps(twin, "revision", states);
        check_time(twin, "digital_at", rows);
        check_time(twin, "digital_at", states);
    }
    let mut changes: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for name in ["lifecycle", "entanglement"] {
        for (twin, rows) in archive.get(name).map(|table| by_twin(table, "change")).unwrap_or_default() {
            changes.entry(twin).or_default().extend(rows);
        }
    }
    for (twin, rows) in &mut changes {
        rows.sort_by_key(|row| integer(&row["change"]));
        check_steps(twin, "change", rows);
        check_time(twin, "at", rows);
        check_life(twin, rows);
    }
    check_letters(script, archive);
    check_heard(&states, heard);
}

/// What must not depend on what has happened to the engine: all but its own time.
pub fn lasting(archive: &Archive) -> Vec<Vec<Value>> {
    const COLUMNS: [&str; 9] =
        ["twin", "update", "stream", "position", "physical_at", "arrived_at", "time_source", "stale", "n"];
    let table = &archive["physical"];
    let cells = COLUMNS.map(|name| table.cells(name));
    (0..table.rows.len()).map(|row| cells.iter().map(|column| column[row].clone()).collect()).collect()
}

type Row = BTreeMap<String, Value>;

/// The rows of each twin in the order of a number.
fn by_twin(table: &Table, number: &str) -> BTreeMap<String, Vec<Row>> {
    let mut twins: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in &table.rows {
        let row: Row = table.columns.iter().cloned().zip(row.iter().cloned()).collect();
        twins.entry(text(&row["twin"])).or_default().push(row);
    }
    twins.values_mut().for_each(|rows| rows.sort_by_key(|row| integer(&row[number])));
    twins
}

fn check_steps(twin: &str, number: &str, rows: &[Row]) {
    let got: Vec<i64> = rows.iter().map(|row| integer(&row[number])).collect();
    let first = got.first().copied().unwrap_or(1);
    assert!(first <= 1, "{number} of {twin} begins with {first}");
    assert_eq!(got, (first..first + got.len() as i64).collect::<Vec<_>>(), "{number} of {twin}");
}

fn check_time(twin: &str, name: &str, rows: &[Row]) {
    let times: Vec<f64> = rows.iter().map(|row| text(&row[name]).parse().expect("a time")).collect();
    let back = times.windows(2).find(|pair| pair[1] < pair[0]);
    assert_eq!(back, None, "{name} of {twin} goes back");
}

/// Each step of a life begins where the one before has led.
fn check_life(twin: &str, rows: &[Row]) {
    let steps: Vec<_> =
        rows.iter().filter_map(|row| Some((text(row.get("from")?), text(row.get("to")?)))).collect();
    let broken = steps.windows(2).find(|pair| pair[0].1 != pair[1].0);
    assert_eq!(broken, None, "the life of {twin} has a hole");
}

fn check_letters(script: &Script, archive: &Archive) {
    let table = &archive["dead_letters"];
    let cells = table.cells("position").into_iter().zip(table.cells("payload"));
    let mut got: Vec<_> = cells.map(|(position, payload)| (integer(position), text(payload))).collect();
    let mut expected = script.dead_letters.clone();
    got.sort();
    expected.sort();
    assert_eq!(got, expected, "dead letters");
}

/// Of what was heard the latest generation holds: it is what the archive has. In one generation
/// nothing is heard twice, and nothing is left out in between.
fn check_heard(states: &BTreeMap<String, Vec<Row>>, heard: &[Value]) {
    let mut latest: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    let mut last: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for event in heard.iter().filter(|event| event["kind"] == "state") {
        let (twin, generation) = (text(&event["twin"]), integer(&event["generation"]));
        let revision = integer(&event["revision"]);
        if let Some(before) = last.insert((twin.clone(), generation), revision) {
            assert_eq!(revision, before + 1, "revisions of {twin} heard in generation {generation}");
        }
        let newest = latest.entry((twin, revision)).or_insert((0, 0));
        *newest = (*newest).max((generation, integer(&event["properties"]["n"])));
    }
    let got: BTreeMap<_, i64> = latest.into_iter().map(|(key, (_, n))| (key, n)).collect();
    let expected = states.iter().flat_map(|(twin, rows)| {
        rows.iter().map(|row| ((twin.clone(), integer(&row["revision"])), integer(&row["n"])))
    });
    assert_eq!(got, expected.collect(), "states heard");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))
}
