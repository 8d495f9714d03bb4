//! History as a reader has it: every row that was made when it was asked for, each once, whatever of checkpoints and
//! files happens meanwhile; and the definition that was in force.

use serde_json::{Value, json};

use super::Site;
use crate::harness::until;

/// The rows of a table.
fn rows(site: &Site, query: &str) -> Vec<Value> {
    let answer = site.get(&format!("/v1/jobs/line/twins/b/history?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["rows"].as_array().expect("a list").clone()
}

fn column(rows: &[Value], name: &str) -> Vec<i64> {
    rows.iter().map(|row| row[name].as_i64().expect("a number")).collect()
}

/// Publishes and reads again and again: the newest state is there as soon as the twin shows it.
fn follow(site: &mut Site, t: std::ops::RangeInclusive<i64>) {
    for t in t {
        site.publish("b", t);
        let revision = site.settled("b", t);
        let states = rows(site, "table=state&limit=1000");
        assert_eq!(column(&states, "revision"), (1..=revision).collect::<Vec<_>>(), "t is {t}");
        assert_eq!(states.last().expect("there are some")["t"], json!(t as f64));
        assert_eq!(
            column(&rows(site, "table=physical&limit=1000"), "update"),
            (1..=revision).collect::<Vec<_>>()
        );
        let newest = rows(site, "table=state&limit=3");
        assert_eq!(column(&newest, "revision"), ((revision - 2).max(1)..=revision).collect::<Vec<_>>());
    }
}

#[test]
fn it_has_the_newest_row_before_any_checkpoint() {
    let mut site = Site::new();
    assert_eq!(site.apply(&[("interval: 100ms", "interval: 1h")]).status, 201);
    site.bind("a");
    follow(&mut site, 1..=5);
    let why = site.get("/v1/jobs/line/twins/b/why").json();
    assert_eq!(column(why["updates"].as_array().expect("a list"), "update"), [1, 2, 3, 4, 5]);
    let step = &rows(&site, "table=lifecycle")[0];
    assert_eq!((&step["from"], &step["to"]), (&json!("unbound"), &json!("bound")));
}

#[test]
fn it_has_each_row_once_through_checkpoints_files_and_a_death() {
    let mut site = Site::with_job();
    // With a checkpoint in 100 ms and a file in 300 ms, some become visible while this is read.
    follow(&mut site, 1..=80);
    site.kill();
    site.start();
    site.settled("b", 80);
    follow(&mut site, 81..=120);
    assert_eq!(site.ask("POST", "/v1/jobs/line/cancel", "").json()["status"], "done");
    let states = rows(&site, "table=state&limit=1000");
    assert_eq!(column(&states, "revision"), (1..=120).collect::<Vec<_>>());
}

#[test]
fn rows_say_which_definition_was_in_force() {
    let mut site = Site::with_job();
    site.publish("b", 1);
    site.settled("b", 1);
    let live = ("desired_timeliness: 10s", "desired_timeliness: 1us");
    assert_eq!(site.apply(&[live]).json()["changes"][0]["how"], "live");
    site.publish("b", 2);
    site.settled("b", 2);
    let function = ("factor: 2", "factor: 3");
    assert_eq!(site.apply(&[live, function]).json()["changes"][0]["how"], "live");
    until("the job to hear again", || {
        site.publish("b", 3);
        (site.twin("b")["properties"]["f"] == 9.0).then_some(())
    });
    let states = rows(&site, "table=state&limit=1000");
    let definitions = column(&states, "definition");
    assert_eq!(&definitions[..3], [1, 2, 3]);
    assert!(definitions[3..].iter().all(|version| *version == 3), "{definitions:?}");
    // What judged a twin goes with the terms that it was judged by.
    let judged = rows(&site, "table=entanglement&limit=1000");
    for row in &judged {
        let is_first = row["desired_timeliness_ms"] == json!(10_000.0);
        assert_eq!(row["definition"] == 1, is_first, "{row}");
    }
    assert!(judged.iter().any(|row| row["definition"] == 2), "{judged:?}");
}

#[test]
fn a_twin_shows_its_last_events() {
    let mut site = Site::new();
    let hot = "      f: {linear: {of: t, factor: 2, offset: 0}}\n      hot: {threshold: {of: t, above: 10}}";
    let function = ("      f: {linear: {of: t, factor: 2, offset: 0}}", hot);
    let event = ("    physical:\n", "    events: {hot: {type: double}}\n    physical:\n");
    let applied = site.apply(&[function, event]);
    assert_eq!(applied.status, 201, "{}", applied.body);
    site.bind("a");
    for number in 0..7 {
        // Up and down again, so that each time is news.
        for t in [20 + number, 0] {
            site.publish("b", t);
            site.settled("b", t);
        }
    }
    let events = site.twin("b")["events"].as_array().expect("a list").clone();
    let in_history: Vec<Value> = rows(&site, "table=events");
    assert_eq!(column(&events, "update"), column(&in_history[in_history.len() - 5..], "update"));
    assert!(events.iter().all(|event| event["name"] == "hot"), "{events:?}");
}
