//! Job files that are wrong: what `validate` says, with line, column and what to write instead; its
//! exit codes; and that `run` refuses the same before it touches anything.

mod kafka;
mod models;
mod wasm;

use expect_test::{Expect, expect};

use crate::command::{GOOD, folder, write};
use crate::harness::archive;
use crate::harness::program::run;

/// Validates the good job with one piece changed; everything it says, and its exit code.
fn check(from: &str, to: &str, expected: Expect) {
    check_piece(GOOD, from, to, expected);
}

/// The same of another good job.
fn check_piece(good: &str, from: &str, to: &str, expected: Expect) {
    assert_eq!(good.matches(from).count(), 1, "`{from}` must name one piece of the good job");
    let folder = folder();
    write(folder.path(), "job.yaml", &good.replace(from, to));
    let ended = run(folder.path(), &["validate", "job.yaml"]);
    let code = ended.code.expect("no signal ended it");
    expected.assert_eq(&format!("{}{}exit {code}\n", ended.stderr, ended.stdout));
    // What validate refuses, run refuses, before it touches anything.
    if code != 0 {
        let ended = run(folder.path(), &["run", "job.yaml"]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let left = archive::files(folder.path());
        assert_eq!(left.len(), 1, "run left something behind: {left:?}");
    }
}

#[test]
fn a_good_job_is_valid_without_broker_and_secrets() {
    check(
        "job: line",
        "job: line",
        expect![[r#"
        job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
        exit 0
    "#]],
    );
}

#[test]
fn words_that_are_not_known() {
    check(
        "    entanglement: {window",
        "    entanglment: {window",
        expect![[r#"
        job.yaml:22:5: unknown key `entanglment`
          help: did you mean `entanglement`?
        exit 78
    "#]],
    );
    check(
        "{to: log, kinds: [state]}",
        "{to: log, kind: [state]}",
        expect![[r#"
        job.yaml:24:15: unknown key `kind`
          help: did you mean `kinds`?
        exit 78
    "#]],
    );
    check(
        "type: double, unit: Cel",
        "type: doubel, unit: Cel",
        expect![[r#"
        job.yaml:8:17: unknown word `doubel`
          help: did you mean `double`?
        exit 78
    "#]],
    );
    check(
        "kinds: [state]",
        "kinds: [states]",
        expect![[r#"
        job.yaml:24:23: unknown word `states`
          help: did you mean `state`?
        exit 78
    "#]],
    );
    check(
        "format: unix_ms",
        "format: unix",
        expect![[r#"
        job.yaml:16:9: the value has none of the forms that it may have
          help: write `arrival`, or {pointer: /timestamp, format: unix_ms}
        exit 78
    "#]],
    );
    check(
        "linear:",
        "liner:",
        expect![[r#"
        job.yaml:20:11: unknown key `liner`
          help: did you mean `linear`?
        exit 78
    "#]],
    );
}

#[test]
fn names_that_are_not_there() {
    check(
        "of: t, factor",
        "of: temperature, factor",
        expect![[r#"
        job.yaml:20:24: there is no property `temperature`
          help: there are: f, mode, t
        exit 78
    "#]],
    );
    check(
        "from: plant",
        "from: plnt",
        expect![[r#"
        job.yaml:3:3: warning: nothing uses the connection `plant`
          help: name it in the `from` of a stream or the `to` of a listener, or remove it
        job.yaml:14:15: there is no connection `plnt`
          help: did you mean `plant`?
        exit 78
    "#]],
    );
    check(
        "to: log",
        "to: lag",
        expect![[r#"
        job.yaml:4:3: warning: nothing uses the connection `log`
          help: name it in the `from` of a stream or the `to` of a listener, or remove it
        job.yaml:24:10: there is no connection `lag`
          help: did you mean `log`?
        exit 78
    "#]],
    );
    check(
        "{t: /t, mode: /mode}",
        "{t: /t, mood: /mode}",
        expect![[r#"
        job.yaml:17:35: there is no property `mood`
          help: did you mean `mode`?
        exit 78
    "#]],
    );
    check(
        "hot: {threshold",
        "cold: {threshold",
        expect![[r#"
        job.yaml:21:7: threshold emits an event, and there is no event `cold`
          help: declare it: events: {cold: {type: double}}
        exit 78
    "#]],
    );
}

#[test]
fn names_that_are_there_twice() {
    check(
        "      f: {type: double}\n",
        "      f: {type: double}\n      t: {type: double}\n",
        expect![[r#"
        job.yaml:10:7: `t` stands here twice
          help: the first is on line 8: rename or remove one
        exit 78
    "#]],
    );
    check(
        "events: {hot:",
        "events: {f: {type: double}, hot:",
        expect![[r#"
        job.yaml:11:14: `f` is the name of a property as well
          help: give the event a name of its own
        exit 78
    "#]],
    );
    check(
        "      hot: {threshold",
        "      f: {ewma: {of: t, half_life: 1s}}\n      hot: {threshold",
        expect![[r#"
            job.yaml:21:7: two functions write `f`
              help: the first is on line 20: give each a property of its own
            exit 78
        "#]],
    );
    check(
        "{t: /t, mode: /mode}",
        "{t: /t, f: /f}",
        expect![[r#"
        job.yaml:20:7: `f` is written by a stream as well
          help: give the function a property of its own
        exit 78
    "#]],
    );
}

#[test]
fn units_that_are_wrong() {
    check(
        "window: 60s",
        "window: 60x",
        expect![[r#"
        job.yaml:22:28: `60x` is not a duration
          help: write a number with its unit, such as 250ms, 60s or 5m
        exit 78
    "#]],
    );
    check(
        "window: 60s",
        "window: 60",
        expect![[r#"
        job.yaml:22:28: `60` is not a duration
          help: write a number with its unit, such as 250ms, 60s or 5m
        exit 78
    "#]],
    );
    check(
        "expected_rate: 1/s",
        "expected_rate: 1",
        expect![[r#"
        job.yaml:18:24: `1` is no rate
          help: write a number and a unit of time such as 0.2/s, 6/m or 30/h, or none
        exit 78
    "#]],
    );
    check(
        "roll: 128MB/10m",
        "roll: 128/10m",
        expect![[r#"
        job.yaml:25:32: `128` is no size or age to roll at, or one too many
          help: write for example 128MB/10m, 128MB or 10m
        exit 78
    "#]],
    );
    check(
        "unit: Cel",
        "unit: °C",
        expect![[r#"
        job.yaml:8:31: `°C` is no UCUM code
          help: write unit: "Cel"
        exit 78
    "#]],
    );
    check(
        "threshold: 0.9}",
        "threshold: 90}",
        expect![[r#"
        job.yaml:22:68: the threshold 90 is not in (0, 1]
          help: write threshold: 0.9
        exit 78
    "#]],
    );
    check(
        "[-40, 200]",
        "[200, -40]",
        expect![[r#"
        job.yaml:8:36: the range is empty
          help: write the lesser value first: [-40, 200]
        exit 78
    "#]],
    );
}

#[test]
fn parts_that_do_not_fit_together() {
    // A listener topic that feeds a source.
    check(
        "{to: log, kinds: [state]}",
        "{to: plant, topic: \"press/{twin}/{kind}\"}",
        expect![[r#"
        job.yaml:4:3: warning: nothing uses the connection `log`
          help: name it in the `from` of a stream or the `to` of a listener, or remove it
        job.yaml:24:24: `press/{twin}/{kind}` feeds the stream `telemetry` of type `press`, which reads `press/{twin}/state`
          help: write to a topic that no stream reads, such as twins/{job}/{twin}/{kind}
        exit 78
    "#]],
    );
    check(
        "job: line",
        "job: two words",
        expect![[r#"
        job.yaml:1:6: `two words` is no name of a job
          help: write letters, digits, `-`, `_` or `.` (not first), up to 64
        exit 78
    "#]],
    );
    check(
        "mqtt://localhost:1883",
        "ws://localhost/mqtt?x=1",
        expect![[r#"
        job.yaml:3:23: the url has more than host and port
          help: write mqtt://host or mqtt://host:port (topics are given apart from it)
        exit 78
    "#]],
    );
    check(
        "[\"press/{twin}/state\"]",
        "[\"press/+/state\"]",
        expect![[r#"
        job.yaml:15:9: the topic `press/+/state` has no capture {twin}
          help: write {twin} as a level of every topic, or say with `twin:` where the id is (a template such as "{site}-{device}", or a pointer such as /deviceId)
        exit 78
    "#]],
    );
    check(
        "at: {pointer: /at, format",
        "at: {pointer: at, format",
        expect![[r#"
        job.yaml:16:23: `at` is no JSON Pointer
          help: begin it with a slash: /at
        exit 78
    "#]],
    );
    check(
        "log: {file: {path: log.jsonl}}",
        "log: {file: {path: log.jsonl}}\n  idle: {file: {path: idle.jsonl}}",
        expect![[r#"
            job.yaml:5:3: warning: nothing uses the connection `idle`
              help: name it in the `from` of a stream or the `to` of a listener, or remove it
            job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
            exit 0
        "#]],
    );
    check(
        "window: 60s, desired",
        "window: 5s, desired",
        expect![[r#"
        job.yaml:22:28: warning: the window expects 5.0 updates, fewer than 10
          help: write a longer window, so that one update more or less says little
        job.yaml:22:28: warning: one missing message of 5.0 takes ODTE below the threshold 0.9
          help: write a longer window or a lower threshold
        job.yaml is valid: 1 type, 1 stream, 2 functions, 1 listener
        exit 0
    "#]],
    );
}

#[test]
fn files_that_are_no_jobs() {
    for (text, wanted) in [
        ("", "job.yaml:1:1:"),
        ("job: [\n", "job.yaml:1:6:"),
        ("- job\n", "job.yaml:1:1:"),
        ("job: a\njob: b\n", "job.yaml:2:1:"),
        ("job: \"\t\n", "job.yaml:"),
        ("&a [*a]\n", "job.yaml:1:"),
    ] {
        let folder = folder();
        write(folder.path(), "job.yaml", text);
        let ended = run(folder.path(), &["validate", "job.yaml"]);
        assert_eq!(ended.code, Some(78), "{text:?}: {ended:?}");
        assert!(ended.stderr.contains(wanted) && ended.stderr.contains("help: "), "{text:?}: {ended:?}");
    }
    let missing = run(folder().path(), &["validate", "nowhere.yaml"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("cannot read nowhere.yaml"), "{missing:?}");
}

#[test]
fn findings_can_be_read_by_programs() {
    let folder = folder();
    let bad = GOOD.replace("window: 60s", "window: 60x").replace("of: t, factor", "of: x, factor");
    write(folder.path(), "job.yaml", &bad);
    let ended = run(folder.path(), &["validate", "job.yaml", "--json"]);
    assert_eq!(ended.code, Some(78));
    let findings = ended.json();
    let findings = findings.as_array().expect("a list");
    // All of them at once, in the order of the text.
    let lines: Vec<_> = findings.iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!(lines, [Some(20), Some(22)], "{findings:?}");
    for finding in findings {
        for key in ["severity", "line", "column", "path", "message", "help"] {
            assert!(!finding[key].is_null(), "{key} in {finding}");
        }
    }
}
