//! What people watch a server with: the dashboard and the alerts of `ops`, and `twinloom top`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jobs::document;
use serde_json::{Value, json};

use super::Site;
use crate::harness::endpoint::Endpoint;
use crate::harness::until;

/// Labels that Prometheus itself puts to what it scrapes; `job` is the engine's own where there may be several.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn ops(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a text names: metrics, and labels of them.
#[derive(Debug, Default)]
struct Named {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Named {
    /// Takes what stands under these keys, wherever they are.
    fn walk(&mut self, value: &Value, keys: &[&str]) {
        match value {
            Value::Object(entries) => entries.iter().for_each(|(key, value)| match value {
                Value::String(text) if keys.contains(&key.as_str()) => self.take(text),
                other => self.walk(other, keys),
            }),
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, keys)),
            _ => {}
        }
    }

    fn take(&mut self, text: &str) {
        for (at, _) in text.match_indices("twinloom_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let rest = &text[at + name.len()..];
            if let Some((selector, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                let labels = selector.split(',').filter_map(|one| one.split(['=', '!']).next());
                self.labels.extend(labels.map(|label| label.trim().to_owned()));
            }
            self.metrics.insert(name);
        }
        for (before, after) in [("by (", ")"), ("on (", ")"), ("{{", "}}"), ("$labels.", " ")] {
            for (at, _) in text.match_indices(before) {
                let inside = text[at + before.len()..].split(after).next().unwrap_or_default();
                let words = inside.split(',').map(|word| word.trim().trim_end_matches(['}', ')', '`']));
                let is_label = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                self.labels.extend(words.filter(is_label).map(str::to_owned));
            }
        }
        self.labels.remove("");
    }
}

#[test]
fn names_are_found_in_expressions() {
    let mut named = Named::default();
    named.take(r#"sum by (job, source) (rate(twinloom_a_total{job=~"$job", kind!="x"}[5m])) > twinloom_b"#);
    named.take("{{ $labels.sink }} of {{partition}} is {{ $value | humanize }}");
    assert_eq!(named.metrics, BTreeSet::from(["twinloom_a_total".to_owned(), "twinloom_b".to_owned()]));
    let labels = ["job", "kind", "partition", "sink", "source"].map(str::to_owned);
    assert_eq!(named.labels, BTreeSet::from(labels));
}

/// Names of what is measured, with the labels that each has; a family may have no value yet.
fn measured(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a family has a type");
            let suffix = if kind == "counter" { "_total" } else { "" };
            names.insert(format!("{name}{suffix}"));
        } else if let Some((_, rest)) = line.split_once('{') {
            let (inside, _) = rest.split_once("} ").expect("labels are closed");
            labels.extend(inside.split("\",").filter_map(|one| Some(one.split_once('=')?.0.to_owned())));
        }
    }
    (names, labels)
}

/// All that the dashboard and the alerts name is what a running job shows.
#[test]
fn dashboard_and_alerts_name_what_there_is() {
    let endpoint = Endpoint::start(|body| (200, json!({"f": body["properties"]["t"]}).to_string()));
    let mut site = Site::new();
    let function = format!("{{http: {{url: \"{}\"}}, of: [t]}}", endpoint.url);
    let function = ("{linear: {of: t, factor: 2, offset: 0}}", function.as_str());
    let listener = ("archive: {path", "digital: [{to: plant}]\narchive: {path");
    assert_eq!(site.apply(&[function, listener]).status, 201);
    site.bind("a");
    site.publish("b", 3);
    site.settled("b", 3);
    // Whoever looks at the fleet leaves how it is for the next scrape.
    until("a survey with twins", || {
        (site.get("/v1/jobs/line/fleet").json()["phases"][2].as_u64()? > 0).then_some(())
    });
    let (names, mut labels) = measured(&site.get("/metrics?twins=line").body);
    // A value a partition is Kafka's; there is none here.
    labels.extend(OF_PROMETHEUS.iter().chain(&["partition"]).map(|label| (*label).to_owned()));

    let dashboard: Value =
        serde_json::from_str(&ops("grafana/twinloom.json")).expect("the dashboard is JSON");
    let alerts = ops("prometheus/alerts.yaml");
    let alerts = document::parse("alerts.yaml", &alerts).unwrap_or_else(|found| panic!("{found:?}"));
    let alerts: Value = document::read(&alerts.root).expect("every tree is a value");
    let mut of_dashboard = Named::default();
    of_dashboard.walk(&dashboard, &["expr", "legendFormat", "query", "definition"]);
    let mut of_alerts = Named::default();
    of_alerts.walk(&alerts, &["expr", "summary", "description"]);
    for (what, named, least) in [("dashboard", of_dashboard, 30), ("alerts", of_alerts, 12)] {
        assert!(named.metrics.len() >= least, "{what}: {named:?}");
        let unknown: Vec<_> = named.metrics.difference(&names).collect();
        assert!(unknown.is_empty(), "{what} names {unknown:?}, and there is {names:?}");
        let unknown: Vec<_> = named.labels.difference(&labels).collect();
        assert!(unknown.is_empty(), "{what} has the labels {unknown:?}, and there are {labels:?}");
    }
    let ids: BTreeSet<_> = panels(&dashboard).map(|panel| panel["id"].to_string()).collect();
    assert_eq!(ids.len(), panels(&dashboard).count(), "each panel has an id of its own");
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().into_iter().flatten()
}

/// The checker of Prometheus, as Debian has it (`.ci/promtool`).
fn promtool() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let path =
        std::env::var_os("TWINLOOM_PROMTOOL").map_or(home.join(".cache/twinloom/promtool"), PathBuf::from);
    assert!(path.exists(), "no {}: run make test, or .ci/promtool", path.display());
    path
}

#[test]
fn alerts_do_what_their_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/prometheus");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = Command::new(promtool()).current_dir(&folder).args(arguments).output();
        let output = output.expect("it can be started");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{arguments:?}: {said:?}");
    }
}

#[test]
fn top_shows_the_fleet_of_a_job() {
    let mut site = Site::with_job();
    site.publish("b", 3);
    site.settled("b", 3);
    let shown = until("both twins on the screen", || {
        let shown = site.command(&["top", "line", "--once"]);
        shown.contains("entangled 2").then_some(shown)
    });
    assert!(shown.starts_with("twinloom  line  "), "{shown}");
    for piece in
        ["events ", "dead letters 0", "ODTE      mean 1.000", "0.9 to 1.0", "none: all twins are at 1.000"]
    {
        assert!(shown.contains(piece), "{piece} in {shown}");
    }
    let fleet: Value = serde_json::from_str(&site.command(&["top", "line", "--json"])).expect("JSON");
    assert_eq!((&fleet["twins"], &fleet["phases"]), (&json!(2), &json!([0, 0, 2, 0, 0, 0])));
}
