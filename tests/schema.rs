//! The schema of job files: every job of this repository fits it, and a mistake that it can know of is refused by it as
//! by `validate`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jobs::document;
use jobs::job::Job;
use jsonschema::Validator;
use serde_json::Value;

use crate::harness::archive;
use crate::harness::program;

/// The schema, as the program prints it.
fn printed() -> Value {
    let shown = program::run(root(), &["schema"]).succeeded().stdout;
    serde_json::from_str(&shown).expect("the schema is JSON")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&jobs::schema::schema()).expect("it is a schema")
}

/// A job file as an editor reads it.
fn as_json(name: &str, text: &str) -> Value {
    let document = document::parse(name, text).unwrap_or_else(|found| panic!("{name}: {found:?}"));
    document::read(&document.root).expect("every tree is a value")
}

/// What the schema has against a job, with places.
fn against(validator: &Validator, job: &Value) -> Vec<String> {
    validator.iter_errors(job).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The job files of a folder.
fn jobs_of(folder: &str) -> Vec<PathBuf> {
    let files = archive::files(&root().join(folder)).into_iter();
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml");
    let is_job = |path: &PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.contains("\njob: ") || text.starts_with("job: "))
    };
    files.filter(is_yaml).filter(is_job).collect()
}

#[test]
fn the_schema_is_one_and_is_printed() {
    let schema = printed();
    assert_eq!(schema, jobs::schema::schema());
    jsonschema::meta::validate(&schema).expect("it fits the schema of schemas");
}

#[test]
fn every_job_of_the_repository_fits() {
    let validator = validator();
    let files: Vec<PathBuf> = ["examples", "tests/cases"].into_iter().flat_map(jobs_of).collect();
    let cases = fs::read_dir(root().join("tests/cases")).expect("the cases are there").count();
    assert!(files.len() > cases, "each case has a job, and there are examples: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a job is text");
        let found = against(&validator, &as_json(&file.display().to_string(), &text));
        assert!(found.is_empty(), "{}:\n{}", file.display(), found.join("\n"));
    }
}

#[test]
fn every_key_of_the_readers_is_in_the_schema() {
    let schema = jobs::schema::schema();
    let keys = |pointer: &str| -> BTreeSet<String> {
        let found = schema.pointer(pointer).and_then(Value::as_object);
        found.unwrap_or_else(|| panic!("no {pointer}")).keys().cloned().collect()
    };
    // What the readers know is told where a key is wrong.
    for (text, pointer) in [
        ("nonsense: 1", "/properties"),
        ("types: {a: {nonsense: 1}}", "/$defs/TypeSettings/properties"),
        ("types: {a: {augmentation: {f: {nonsense: 1}}}}", "/$defs/Function/properties"),
    ] {
        for key in keys(pointer) {
            let found = Job::parse("job.yaml", &text.replace("nonsense", &key), None);
            let found = found.err().map(|findings| findings.plain()).unwrap_or_default();
            let unknown = [format!("unknown key `{key}`"), format!("`{key}` comes later")];
            assert!(!unknown.iter().any(|one| found.contains(one)), "{pointer}: {key}: {found}");
        }
    }
}

const JOB: &str = "\
job: line
connections:
  plant: {mqtt: {url: mqtt://localhost:1883, qos: 1, keep_alive: 30s, max_payload: 64KiB}}
types:
  press:
    properties: {temperature: {type: double, unit: Cel, range: [-40, 200]}, mode: {type: enum, values: [idle, run]}, f: {type: double}, g: {type: double}}
    physical:
      telemetry:
        from: plant
        topics: [\"press/{twin}/t\"]
        at: {pointer: /ts, format: unix_ms}
        properties: {temperature: /t, mode: {pointer: /m, map: {0: idle, 1: run}}}
        decode: json
        expected_rate: 0.2/s
    augmentation:
      f: {linear: {of: temperature, factor: 1.8, offset: 32}}
      g: {http: {url: \"http://h/g\"}, of: [temperature], timeout: 2s, on_late: skip}
    entanglement: {window: 60s, threshold: 0.9, warm_up: full, clock: {ahead_max: 5s}}
digital:
  - {to: plant, kinds: [state], retain: true}
checkpoint: {interval: 10s}
limits: {twins: 1000, events: 1000/s, functions_time: 2s, on_overload: shed}
";

#[test]
fn what_is_right_is_taken_and_what_is_wrong_is_refused_as_by_validate() {
    let validator = validator();
    // What stands in the job, what takes its place, and whether that is right.
    for (before, after, is_good) in [
        ("job: line", "job: line", true),
        ("job: line", "job: 7", true),
        ("job: line", "job: [line]", false),
        ("job: line\n", "", false),
        ("job: line", "jobb: line", false),
        ("mqtt:", "mqttt:", false),
        ("qos: 1", "qos: one", false),
        ("qos: 1", "qoss: 1", false),
        ("keep_alive: 30s", "keep_alive: 30", false),
        ("keep_alive: 30s", "keep_alive: \"${KEEP}\"", false),
        ("keep_alive: 30s", "keep_alive: 1m 30s", true),
        ("max_payload: 64KiB", "max_payload: 65536", true),
        ("max_payload: 64KiB", "max_payload: much", false),
        ("type: double, unit", "type: doubel, unit", false),
        ("type: double, unit: Cel", "unit: Cel", false),
        ("range: [-40, 200]", "range: [-40]", false),
        ("range: [-40, 200]", "range: [-40, hot]", false),
        ("values: [idle, run]", "values: {idle: 0}", false),
        ("from: plant\n        ", "", false),
        ("topics: [\"press/{twin}/t\"]", "topics: press", false),
        ("format: unix_ms", "format: unix", false),
        ("at: {pointer: /ts, format: unix_ms}", "at: arrival", true),
        ("at: {pointer: /ts, format: unix_ms}", "at: departure", false),
        ("{pointer: /m, map: {0: idle, 1: run}}", "{pointer: /m, mapp: {0: idle}}", false),
        ("decode: json", "decode: {csv: {columns: [t, m, ts], separator: \";\"}}", true),
        ("decode: json", "decode: {csv: {colums: [t]}}", false),
        ("decode: json", "decode: yaml", false),
        ("expected_rate: 0.2/s", "expected_rate: 6/m", true),
        ("expected_rate: 0.2/s", "expected_rate: none", true),
        ("expected_rate: 0.2/s", "expected_rate: 5", false),
        ("        expected_rate: 0.2/s\n", "", false),
        (
            "linear: {of: temperature, factor: 1.8, offset: 32}",
            "linear: {of: temperature, offset: 32}",
            false,
        ),
        ("linear:", "linaer:", false),
        ("factor: 1.8", "factor: much", false),
        ("timeout: 2s", "timeout: soon", false),
        ("timeout: 2s", "timeuot: 2s", false),
        ("on_late: skip", "on_late: hurry", false),
        ("http: {url: \"http://h/g\"}, of", "of", false),
        (
            "http: {url: \"http://h/g\"}",
            "http: {url: \"http://h/g\"}, mean: {of: temperature, window: 1m}",
            false,
        ),
        ("http: {url: \"http://h/g\"}", "python: {code: \"def g(state): return {}\"}", true),
        ("http: {url: \"http://h/g\"}", "python: {processes: 1}", false),
        ("threshold: 0.9", "treshold: 0.9", false),
        ("warm_up: full", "warm_up: half", false),
        ("ahead_max: 5s", "ahead: 5s", false),
        ("kinds: [state]", "kinds: [stat]", false),
        ("retain: true", "retain: yes", false),
        ("digital:\n  - {to: plant", "digital:\n  - {too: plant", false),
        ("digital:\n  - {to: plant, kinds: [state], retain: true}", "digital: {to: plant}", false),
        ("interval: 10s", "interval: 10s, store: s3://bucket/prefix", true),
        ("checkpoint: {interval: 10s}", "archive: {}", false),
        ("checkpoint: {interval: 10s}", "archive: {path: ./a, roll: 128MB/10m, retain: 90d}", true),
        ("checkpoint: {interval: 10s}", "archive: {path: ./a, roll: 128}", false),
        ("twins: 1000,", "twins: many,", false),
        ("events: 1000/s", "events: 1000", false),
        ("events: 1000/s", "bytes: 1MB/s", true),
        ("events: 1000/s", "dead_letters: 10/s", true),
        ("on_overload: shed", "on_overload: panic", false),
    ] {
        assert!(JOB.contains(before), "{before}");
        let text = JOB.replacen(before, after, 1);
        let schema = against(&validator, &as_json("job.yaml", &text));
        let findings = Job::parse("job.yaml", &text, None).err();
        let shown = findings.as_ref().map(|findings| findings.plain()).unwrap_or_default();
        assert_eq!(findings.is_none(), is_good, "validate: {after}: {shown}");
        assert_eq!(schema.is_empty(), is_good, "schema: {after}: {schema:?}");
    }
}
