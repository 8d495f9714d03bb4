//! Each mistake that a job file may have: what is written, and what is said of it.

use crate::findings::Severity;
use crate::job::Job;

pub(super) const BASE: &str = "job: first
connections:
  plant: {mqtt: {url: mqtt://localhost:1883}}
types:
  device:
    properties:
      t: {type: double, unit: Cel}
      f: {type: double}
      n: {type: string}
    physical:
      tele:
        from: plant
        topics: [\"device/{twin}/state\"]
        at: {pointer: /ts, format: unix_ms}
        properties: {t: /t}
        expected_rate: 1/s
    augmentation:
      f: {linear: {of: t, factor: 1.8}}
    entanglement: {window: 60s}
digital:
  - {to: plant}
archive: {path: ./archive}
";

/// What is found where `from` of the base is replaced by `to`, a line each.
fn found(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from} is in the base");
    let text = BASE.replacen(from, to, 1);
    let findings = match Job::parse("job.yaml", &text, None) {
        Ok(job) => job.warnings,
        Err(findings) => findings,
    };
    let line = |finding: &crate::findings::Finding| {
        let word = match finding.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        };
        let span = finding.span;
        format!("{}:{} {word}{} ({})", span.line, span.column, finding.message, finding.help)
    };
    findings.all.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn check(cases: &[(&str, &str, &str)]) {
    let mut wrong = String::new();
    for (from, to, expected) in cases {
        let found = found(from, to);
        if found != *expected {
            wrong += &format!("{from:?} -> {to:?}\n found {found}\n not   {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn good_definitions_pass() {
    check(&[
        ("job: first", "job: first", ""),
        ("path: ./archive", "path: ./archive, roll: 128MB/10m, physical: false", ""),
        ("archive:", "limits: {twins: 1000, dead_letters: 10/s, in_flight: 1MB}\narchive:", ""),
        ("{to: plant}", "{to: plant, topic: \"d/{twin}/{kind}\", kinds: [event], retain: false}", ""),
        ("url: mqtt://localhost:1883", "url: \"${BROKER}\", user: \"${USER}\", password: \"${file:/x}\"", ""),
        ("expected_rate: 1/s", "expected_rate: none", ""),
    ]);
}

#[test]
fn forms() {
    check(&[
        (
            "job: first",
            "jobb: first",
            "1:1 unknown key `jobb` (did you mean `job`?)\n1:1 `job` is missing (add `job: my-job`)",
        ),
        ("job: first", "job: first\nroster: {file: x}", "2:1 `twin` is missing (add `twin: ...`)"),
        (
            "job: first",
            "job: a/b",
            "1:6 `a/b` is no name of a job (write letters, digits, `-`, `_` or `.` (not first), up to 64)",
        ),
        (
            "job: first",
            "job: \"\"",
            "1:6 `` is no name of a job (write letters, digits, `-`, `_` or `.` (not first), up to 64)",
        ),
        ("window: 60s", "windw: 60s", "19:20 unknown key `windw` (did you mean `window`?)"),
        (
            "window: 60s",
            "window: 60x",
            "19:28 `60x` is not a duration (write a number with its unit, such as 250ms, 60s or 5m)",
        ),
        (
            "window: 60s",
            "window: 60s, actuate: {}",
            "19:33 `actuate` comes later; this version does not do it (leave `actuate` out for now)",
        ),
        (
            "1/s",
            "1 per s",
            "16:24 `1 per s` is no rate (write a number and a unit of time such as 0.2/s, 6/m or 30/h, or none)",
        ),
        ("1/s", "{period: p}", "16:33 there is no property `p` (there are: f, n, t)"),
        ("unit: Cel", "unit: °C", "7:31 `°C` is no UCUM code (write unit: \"Cel\")"),
        ("type: double, unit: Cel", "type: dubble", "7:17 unknown word `dubble` (did you mean `double`?)"),
        (
            "format: unix_ms",
            "format: millis",
            "14:9 the value has none of the forms that it may have (write `arrival`, or {pointer: /timestamp, format: unix_ms})",
        ),
        (
            "path: ./archive",
            "path: ./a, roll: 12q",
            "22:28 `12q` is no size or age to roll at, or one too many (write for example 128MB/10m, 128MB or 10m)",
        ),
        (
            "path: ./archive",
            "path: ./a, retain: 90",
            "22:30 `90` is not a duration (write a number with its unit, such as 250ms, 60s or 5m)",
        ),
        (
            "archive:",
            "limits: {dead_letters: 10}\narchive:",
            "22:24 `10` is no whole number a second (write for example 1000/s)",
        ),
        (
            "archive:",
            "limits: {in_flight: 1 lot}\narchive:",
            "22:21 `1 lot` is not a size (write a size with its unit, such as 128MB or 64KiB)",
        ),
        (
            "archive:",
            "limits: {in_flight: 1B}\narchive:",
            "22:21 the limit `in_flight` is too low to run (write at least 64KiB, such as 64MB)",
        ),
        (
            "      n: {type: string}",
            "      t: {type: string}",
            "9:7 `t` stands here twice (the first is on line 7: rename or remove one)",
        ),
        ("- {to: plant}", "- {too: plant}", "21:6 unknown key `too` (did you mean `to`?)"),
        ("  - {to: plant}", "  {to: plant}", "20:1 `digital` is not a list (write a list: `- {to: plant}`)"),
    ]);
}

#[test]
fn types() {
    check(&[
        ("{of: t, factor", "{of: tt, factor", "18:24 there is no property `tt` (there are: f, n, t)"),
        (
            "{of: t, factor",
            "{of: n, factor",
            "18:24 the property `n` is no number (name a property of type double, integer or boolean)",
        ),
        (
            "      f: {linear",
            "      f: {linear: {of: t, factor: 2}}\n      f: {linear",
            "19:7 two functions write `f` (the first is on line 18: give each a property of its own)",
        ),
        (
            "      f: {linear",
            "      t: {linear",
            "18:24 `t` is computed by a function; functions see what the physical twin sent (name a property that a stream maps)",
        ),
        (
            "{linear: {of: t, factor: 1.8}}",
            "{python: {}}",
            "18:11 a function in python has a source (write {file: quality.py}, or the source itself under `code`)",
        ),
        (
            "{t: /t}",
            "{t: /t, f: /f}",
            "18:7 `f` is written by a stream as well (give the function a property of its own)",
        ),
        ("{t: /t}", "{u: /t}", "15:25 there is no property `u` (there are: f, n, t)"),
        ("{t: /t}", "{t: t}", "15:25 `t` is no JSON Pointer (begin it with a slash: /t)"),
        ("from: plant", "from: plnt", "12:15 there is no connection `plnt` (did you mean `plant`?)"),
        (
            "device/{twin}/state",
            "device/+/state",
            "13:9 the topic `device/+/state` has no capture {twin} (write {twin} as a level of every topic, or say with `twin:` where the id is (a template such as \"{site}-{device}\", or a pointer such as /deviceId))",
        ),
        ("window: 60s", "threshold: 2", "19:31 the threshold 2 is not in (0, 1] (write threshold: 0.9)"),
        (
            "window: 60s",
            "window: 5s",
            "19:28 warning: the window expects 5.0 updates, fewer than 10 (write a longer window, so that one update more or less says little)\n19:28 warning: one missing message of 5.0 takes ODTE below the threshold 0.9 (write a longer window or a lower threshold)",
        ),
    ]);
}

#[test]
fn connections() {
    check(&[
        (
            "url: mqtt://localhost:1883",
            "url: ws://localhost/mqtt?x=1",
            "3:23 the url has more than host and port (write mqtt://host or mqtt://host:port (topics are given apart from it))",
        ),
        (
            "url: mqtt://localhost:1883",
            "url: mqtt://a, qos: 3",
            "3:38 qos 3 is not offered (use 0 (at most once), 1 (at least once) or 2 (exactly once))",
        ),
        (
            "url: mqtt://localhost:1883",
            "url: mqtt://a, version: 4",
            "3:42 there is no MQTT 4 here (write version: 5, or version: 3.1.1)",
        ),
        (
            "url: mqtt://localhost:1883",
            "url: mqtt://a, session_expiry: 1h",
            "3:49 session_expiry is of MQTT 5 (write version: 5 beside it)",
        ),
        (
            "topics: [\"device/{twin}",
            "topics: [\"$share/g/device/{twin}",
            "13:18 warning: `$share/g/device/{twin}/state` is shared: the broker deals a twin's messages out among the group (take it for messages whose order does not matter: others of the group may have the ones between, so that the order of a twin's messages is not kept, and R counts what came here)",
        ),
        (
            "url: mqtt://localhost:1883",
            "url: \"${}\"",
            "3:23 `${}` names no secret (write ${NAME} or ${file:/run/secrets/name}; a plain ${ is written $${)",
        ),
        (
            "{mqtt: {url: mqtt://localhost:1883}}",
            "{http: {}}",
            "3:11 unknown word `http` (there are: file, kafka, mqtt, webhook)",
        ),
        (
            "types:",
            "  other: {mqtt: {url: mqtt://b}}\ntypes:",
            "4:3 warning: nothing uses the connection `other` (name it in the `from` of a stream or the `to` of a listener, or remove it)",
        ),
        ("to: plant}", "to: plnt}", "21:10 there is no connection `plnt` (did you mean `plant`?)"),
        (
            "to: plant}",
            "to: plant, kinds: []}",
            "21:17 the kinds are empty, or one stands there twice (list each kind that is wanted once: state, entanglement, lifecycle, event)",
        ),
        (
            "to: plant}",
            "to: plant, topic: \"a/{x}\"}",
            "21:24 `{x}` is no place in a listener's topic (write {job}, {twin}, {type} or {kind})",
        ),
        (
            "to: plant}",
            "to: plant, topic: \"device/{twin}/{kind}\"}",
            "21:24 `device/{twin}/{kind}` feeds the stream `tele` of type `device`, which reads `device/{twin}/state` (write to a topic that no stream reads, such as twins/{job}/{twin}/{kind})",
        ),
        (
            "to: plant}",
            "to: plant, exactly_once: true}",
            "21:31 MQTT has no transactions, so events cannot come exactly once (leave `exactly_once` out (each event comes at least once, a repeat has a higher generation), or send to a Kafka connection)",
        ),
    ]);
}

/// Cases that replace the whole file.
fn check_file(text: &str, expected: &str) {
    let findings = match Job::parse("job.yaml", text, None) {
        Ok(job) => job.warnings,
        Err(findings) => findings,
    };
    let lines: Vec<String> = findings
        .all
        .iter()
        .map(|one| format!("{}:{} {} {}", one.span.line, one.span.column, one.path, one.message))
        .collect();
    assert_eq!(lines.join("\n"), expected, "{text}");
}

#[test]
fn types_without_streams_never_live() {
    check_file(
        "job: j\nconnections: {a: {mqtt: {url: mqtt://a}}}\ntypes: {d: {properties: {t: {type: double}}}}",
        "2:15 connections.a nothing uses the connection `a`\n3:9 types.d the type has no stream: its twins would never live",
    );
    check_file(
        "job: j\nconnections: {}\ntypes: {}",
        "2:1 connections the job has no connection\n3:1 types the job has no type",
    );
}

/// A job of two sources and a listener, each said in a line.
fn two(first: &str, second: &str, listener: &str, topic: &str) -> String {
    let stream = |from: &str, topic: &str| {
        format!(
            "{{from: {from}, topics: [\"{topic}\"], at: arrival, properties: {{t: /t}}, expected_rate: none}}"
        )
    };
    format!(
        "job: j\nconnections:\n  a: {first}\n  b: {second}\n  c: {listener}\ntypes:\n  x:\n    properties: {{t: {{type: double}}}}\n    physical:\n      s: {}\n  y:\n    properties: {{t: {{type: double}}}}\n    physical:\n      s: {}\ndigital:\n  - {{to: c, topic: \"{topic}\"}}\n",
        stream("a", "x/{twin}"),
        stream("b", "+/{twin}"),
    )
}

#[test]
fn connections_must_agree() {
    let (a, b) = ("{mqtt: {url: mqtt://a}}", "{mqtt: {url: mqtt://b}}");
    let c = "{file: {path: /nowhere/out}}";
    for (first, second, listener, topic, expected) in [
        (a, b, c, "t", ""),
        (
            "{file: {path: i, clock: recorded}}",
            b,
            c,
            "t",
            "14:17 types.y.physical.s.from `b` and `a` have different clocks: one is recorded, one is live",
        ),
        ("{file: {path: i}}", b, c, "t", ""),
        (
            "{file: {path: i}}",
            b,
            "{file: {path: ./i}}",
            "t",
            "16:10 digital.0.to `./i` is read by the source `a`",
        ),
        (
            "{mqtt: {url: mqtt://a, client_id: z}}",
            "{mqtt: {url: mqtt://A:1883, client_id: z}}",
            c,
            "t",
            "4:45 connections.b.mqtt.client_id `a` has the same client id on the same broker",
        ),
        (
            a,
            "{mqtt: {url: mqtt://localhost}}",
            "{mqtt: {url: mqtt://127.0.0.1:1883/}}",
            "q/{twin}",
            "16:20 digital.0.topic `q/{twin}` feeds the stream `s` of type `y`, which reads `+/{twin}`",
        ),
        (a, b, "{mqtt: {url: mqtt://b:1884}}", "q/{twin}", ""),
    ] {
        check_file(&two(first, second, listener, topic), expected);
    }
    let same = two(a, a, c, "t").replace("from: b", "from: a");
    check_file(
        &same,
        "4:3 connections.b nothing uses the connection `b`\n14:20 types.y.physical.s.topics type `y` claims topics of type `x`",
    );
}

#[test]
fn functions_and_streams_have_limits() {
    let streams: String = (0..17)
        .map(|n| format!("      s{n}: {{from: plant, topics: [\"a{n}/{{twin}}\"], at: arrival, properties: {{t: /t}}, expected_rate: none}}\n"))
        .collect();
    let found = found("      tele:\n", &format!("{streams}      tele:\n"));
    assert!(found.contains("10:5 18 streams, at most 16 (split the type in two)"), "{found}");
}

#[test]
fn the_examples_are_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(folder).expect("the examples are there");
    let mut names = Vec::new();
    for file in files.map(|file| file.expect("a file of the folder")) {
        // Cases of a job are no job.
        if file.path().to_string_lossy().ends_with(".test.yaml") {
            continue;
        }
        // One with files beside it has a folder of its own.
        let path = if file.path().is_dir() { file.path().join("job.yaml") } else { file.path() };
        let job = Job::open(&path, None).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        assert_eq!(job.warnings.errors(), 0, "{}", path.display());
        names.push(file.file_name());
    }
    assert!(names.len() >= 2, "{names:?}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = BASE
        .replace("unit: Cel", "unti: Cel")
        .replace("window: 60s", "window: 60")
        .replace("to: plant", "to: plan")
        .replace("mqtt://localhost:1883", "http://localhost")
        .replace("path: ./archive", "pth: x");
    check_file(
        &text,
        "3:23 connections.plant.mqtt.url http:// is not MQTT\n7:25 types.device.properties.t.unti unknown key `unti`\n19:28 types.device.entanglement.window `60` is not a duration\n21:10 digital.0.to there is no connection `plan`\n22:11 archive.pth unknown key `pth`",
    );
}

#[test]
fn whatever_is_cut_off_or_put_in_is_judged() {
    let first = include_str!("../../../examples/first.yaml");
    let code: String = first
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for (cut, character) in code.char_indices() {
        let (before, after) = (&code[..cut], &code[cut + character.len_utf8()..]);
        for text in [
            before.to_owned(),
            format!("{before}{after}"),
            format!("{before}: {after}"),
            format!("{before}\"{after}"),
            format!("{before}é[{after}"),
            format!("{before}\r{after}"),
        ] {
            if let Err(findings) = Job::parse("job.yaml", &text, None) {
                assert!(findings.errors() > 0);
                for finding in &findings.all {
                    assert!(finding.span.line > 0 && finding.span.column > 0, "{finding:?}");
                    assert!(!finding.help.is_empty() && !finding.message.is_empty(), "{finding:?}");
                    let end = finding.span.offset + finding.span.length;
                    assert!(text.get(finding.span.offset..end).is_some(), "{finding:?} in {text}");
                }
            }
        }
    }
}

#[test]
fn a_webhook_is_written_to_only() {
    check(&[
        (
            "plant: {mqtt: {url: mqtt://localhost:1883}}",
            "plant: {mqtt: {url: mqtt://localhost:1883}}\n  hook: {webhook: {url: \"https://example.com/in\", group: 5s}}",
            "4:3 warning: nothing uses the connection `hook` (name it in the `from` of a stream or the `to` of a listener, or remove it)",
        ),
        (
            "plant: {mqtt: {url: mqtt://localhost:1883}}",
            "plant: {webhook: {url: \"ftp://x\"}}",
            "3:26 url `ftp://x` is no address of a webhook (write https://host/path)\n\
             12:15 `plant` is a webhook, which nothing comes from (read from an mqtt, kafka or file connection)",
        ),
    ]);
}

#[test]
fn limits_and_what_is_shared_are_checked() {
    check(&[
        (
            "job: first",
            "job: first\nshared: [plant]\ntenant: acme\nlimits: {events: 10/s, bytes: 1MB/s, on_overload: shed, priority: high, functions_time: 500ms}",
            "",
        ),
        (
            "job: first",
            "job: first\nshared: [plan]",
            "2:10 there is no connection `plan` (did you mean `plant`?)",
        ),
        (
            "job: first",
            "job: first\nlimits: {events: 10}",
            "2:18 `10` is no rate of messages (write for example 1000/s)",
        ),
        (
            "job: first",
            "job: first\nlimits: {functions_time: 5}",
            "2:26 `5` is no time a second (write for example 2s, which is two calls at a time, or 500ms)",
        ),
        (
            "job: first",
            "job: first\nlimits: {on_overload: drop}",
            "2:23 unknown word `drop` (there are: newest_per_twin, shed, wait)",
        ),
    ]);
}
