//! Models from elsewhere, as the command line tells of them: what is not carried over, and what is wrong in a file.

use expect_test::{Expect, expect};

use crate::command::{folder, write};
use crate::harness::program::run;

const JOB: &str = r#"job: line
connections: {plant: {file: {path: input.jsonl, clock: recorded}}}
types:
  press:
    model: {wot: press.tm.json}
    physical:
      s: {from: plant, topics: ["press/{twin}"], at: arrival, properties: {t: /t}, expected_rate: none}
archive: {path: archive}
"#;
const PRESS: &str = r#"{
  "@type": "tm:ThingModel",
  "links": [{"rel": "tm:extends", "href": "base.tm.json"}],
  "properties": {
    "t": {"type": "number", "unit": "°C", "multipleOf": 0.5, "readOnly": true}
  }
}
"#;
const BASE: &str = r#"{"@type": "tm:ThingModel", "properties": {
  "anything": {"readOnly": true}
}}
"#;

/// What a command says of the job, with these files beside it, and its exit code.
fn check(base: &str, command: &[&str], expected: Expect) {
    let folder = folder();
    for (name, text) in
        [("job.yaml", JOB), ("press.tm.json", PRESS), ("base.tm.json", base), ("input.jsonl", "")]
    {
        write(folder.path(), name, text);
    }
    let ended = run(folder.path(), command);
    let code = ended.code.expect("no signal ended it");
    let said = format!("{}{}", ended.stderr, ended.stdout);
    let said = said.split("\nsteps").next().expect("a text has a beginning").trim_end();
    expected.assert_eq(&format!("{said}\nexit {code}\n"));
}

#[test]
fn what_is_not_carried_over_is_listed() {
    check(
        BASE,
        &["validate", "job.yaml"],
        expect![[r#"
        base.tm.json:2:15: note: the property `anything` is not carried over: it has no `type`, so it may be anything
          help: declare it in the type, with a kind that fits
        press.tm.json:5:57: note: of the property `t` this is not checked: `multipleOf`
          help: a value of the kind is taken; where it must be more, a function can judge it
        job.yaml is valid: 1 type, 1 stream, 0 functions, 0 listeners
        exit 0
    "#]],
    );
    check(
        BASE,
        &["validate", "--json", "job.yaml"],
        expect![[r#"
        [
          {
            "file": "base.tm.json",
            "severity": "note",
            "line": 2,
            "column": 15,
            "path": "properties.anything",
            "message": "the property `anything` is not carried over: it has no `type`, so it may be anything",
            "help": "declare it in the type, with a kind that fits"
          },
          {
            "file": "press.tm.json",
            "severity": "note",
            "line": 5,
            "column": 57,
            "path": "properties.t",
            "message": "of the property `t` this is not checked: `multipleOf`",
            "help": "a value of the kind is taken; where it must be more, a function can judge it"
          }
        ]
        exit 0
    "#]],
    );
    check(
        BASE,
        &["explain", "job.yaml"],
        expect![[r#"
        models
          press                     press.tm.json (WoT Thing Model): 1 properties, 0 events, 0 relationships, 0 actions
          not carried over          base.tm.json:2:15: the property `anything` is not carried over: it has no `type`, so it may be anything
                                    press.tm.json:5:57: of the property `t` this is not checked: `multipleOf`
        exit 0
    "#]],
    );
}

#[test]
fn models_that_extend_each_other_are_refused() {
    let circle = BASE.replace(
        "tm:ThingModel\",",
        "tm:ThingModel\",\n\"links\": [{\"rel\": \"tm:extends\", \"href\": \"press.tm.json\"}],",
    );
    check(
        &circle,
        &["validate", "job.yaml"],
        expect![[r#"
        base.tm.json:2:41: the model is made of itself: press.tm.json -> base.tm.json -> press.tm.json
          help: take one of these links out
        exit 78
    "#]],
    );
    check(
        &circle,
        &["run", "job.yaml"],
        expect![[r#"
        base.tm.json:2:41: the model is made of itself: press.tm.json -> base.tm.json -> press.tm.json
          help: take one of these links out
        exit 78
    "#]],
    );
}
