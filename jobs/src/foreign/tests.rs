//! Models in job files: what they come to is shown as `group.name: settings`, then what is not carried over. Files of
//! the specifications are in `tests/models`; what else is needed is written beside its test.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::*;
use crate::document::parse;
use crate::job::Job;

/// The folder of files of a specification.
pub(super) fn specification(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models").join(name)
}

/// What a type with this `model` comes to, in a folder.
pub(super) fn check_in(folder: &Path, model: &str, expected: Expect) {
    expected.assert_eq(&outcome(folder, &format!("types:\n  press:\n    model: {model}\n")));
}

/// The same in a folder with these files.
pub(super) fn check(files: &[(&str, &str)], model: &str, expected: Expect) {
    let folder = folder(files);
    check_in(folder.path(), model, expected);
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("the folder is ours");
    }
    folder
}

fn outcome(folder: &Path, text: &str) -> String {
    let mut document = parse("job.yaml", text).expect("it is YAML");
    let models = match read(&mut document, folder) {
        Ok(models) => models,
        Err(findings) => return findings.plain().replace(&format!("{}/", folder.display()), ""),
    };
    let mut shown = String::new();
    for piece in &models.pieces {
        let text = piece.text.strip_prefix("{declares: ").and_then(|text| text.strip_suffix('}'));
        let Ok(declared) = serde_json::from_str::<serde_json::Value>(text.unwrap_or(&piece.text)) else {
            continue;
        };
        for (group, names) in declared.as_object().into_iter().flatten() {
            for (name, settings) in names.as_object().into_iter().flatten() {
                shown += &format!("{group}.{name}: {settings}\n");
            }
        }
    }
    let notes: String = models.notes.iter().map(Findings::plain).collect();
    shown + &notes.replace(&format!("{}/", folder.display()), "")
}

const PRESS: &str = r#"{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel",
    "properties": {"t": {"type": "number", "unit": "celsius", "readOnly": true, "pattern": "x"}},
    "links": [{"rel": "tm:submodel", "href": "line.tm.json", "instanceName": "partOf"}]}"#;
const LINE: &str = r#"{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel",
    "properties": {"speed": {"type": "number", "minimum": 0, "readOnly": true}}}"#;
const JOB: &str = "job: two
connections: {plant: {mqtt: {url: \"mqtt://localhost:1883\"}}}
types:
  press:
    model: {wot: press.tm.json}   # beside
    physical:
      s: {from: plant, topics: [\"press/{twin}\"], at: arrival, properties: {t: /t}, expected_rate: none}
  conveyor:
    model:
      wot:
        optional: false
        file: \"line.tm.json\"
    physical:
      s: {from: plant, topics: [\"line/{twin}\"], at: arrival, properties: {speed: /v}, expected_rate: none}
";

#[test]
fn a_job_has_its_models_in_its_text() {
    let folder = folder(&[("press.tm.json", PRESS), ("line.tm.json", LINE), ("job.yaml", JOB)]);
    let job = Job::open(&folder.path().join("job.yaml"), None).expect("it is good");
    expect![[r#"
        job: two
        connections: {plant: {mqtt: {url: "mqtt://localhost:1883"}}}
        types:
          press:
            model: {wot: {declares: {"from":"press.tm.json","properties":{"t":{"type":"double","unit":"Cel"}},"relationships":{"partOf":{"to":"conveyor"}}}}}   # beside
            physical:
              s: {from: plant, topics: ["press/{twin}"], at: arrival, properties: {t: /t}, expected_rate: none}
          conveyor:
            model:
              wot:
                optional: false
                declares: {"from":"line.tm.json","properties":{"speed":{"type":"double","range":[0.0,1.7976931348623157e+308]}}}
            physical:
              s: {from: plant, topics: ["line/{twin}"], at: arrival, properties: {speed: /v}, expected_rate: none}
    "#]].assert_eq(&job.text);
    // The text alone is the same job.
    let again = Job::parse("job.yaml", &job.text, None).expect("it is good");
    let models = |job: &Job| -> Vec<_> {
        job.definition.types.values().map(|one| (one.model.clone(), one.origin.clone())).collect()
    };
    assert_eq!(models(&again), models(&job));
    let notes: Vec<String> = job.warnings.others.iter().map(Findings::plain).collect();
    assert!(notes.concat().contains("press.tm.json:2:"), "{notes:?}");
    assert_eq!(job.warnings.without_notes().plain(), "");
    let explained = crate::explanation::explain(&job.definition.clone(), &again.plan(), &job.warnings.others);
    let models = explained.split("\nsteps").next().expect("there is a part before the steps");
    expect![[r#"
        models
          press                     press.tm.json (WoT Thing Model): 1 properties, 0 events, 1 relationships, 0 actions
          conveyor                  line.tm.json (WoT Thing Model): 1 properties, 0 events, 0 relationships, 0 actions
          not carried over          press.tm.json:2:92: of the property `t` this is not checked: `pattern`
    "#]].assert_eq(&models.replace(&format!("{}/", folder.path().display()), ""));
}

#[test]
fn a_model_that_cannot_be_read_is_told_with_its_place() {
    check(
        &[],
        "{wot: press.tm.json}",
        expect![[r#"
        job.yaml:3:18: cannot read `press.tm.json`: No such file or directory (os error 2)
          help: name a file from the folder on of the file that names it
    "#]],
    );
    check(
        &[("m.json", "{\"@type\": \"tm:ThingModel\",\n  \"properties\": {,}}")],
        "{wot: m.json}",
        expect![[r#"
            m.json:2:18: the JSON cannot be read: key must be a string
              help: mend the JSON here, or just before; comments and trailing commas are none
        "#]],
    );
    check(
        &[("m.json", "")],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:1: the JSON cannot be read: EOF while parsing a value
          help: mend the JSON here, or just before; comments and trailing commas are none
    "#]],
    );
    check(
        &[("m.json", "[{\"a\": 1, \"a\": 2}]")],
        "{dtdl: {file: m.json}}",
        expect![[r#"
        m.json:1:11: `a` stands here twice
          help: rename or remove one
    "#]],
    );
    check(
        &[("m.json", "{}")],
        "{wot: {file: m.json, optinal: true}}",
        expect![[r#"
        job.yaml:3:33: unknown key `optinal`
          help: did you mean `optional`?
    "#]],
    );
    check(
        &[("m.json", &format!("[{}]", " ".repeat(1 << 20)))],
        "{dtdl: m.json}",
        expect![[r#"
        job.yaml:3:19: cannot read `m.json`: it is no file, or has more than 1048576 bytes
          help: name a file from the folder on of the file that names it
    "#]],
    );
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    check(
        &[("m.json", &deep)],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:128: the JSON cannot be read: recursion limit exceeded
          help: mend the JSON here, or just before; comments and trailing commas are none
    "#]],
    );
}

#[test]
fn a_type_has_at_most_1024_properties() {
    let properties: Vec<String> = (0..1_025).map(|n| format!("\"p{n}\": {{\"type\": \"number\"}}")).collect();
    let model = format!("{{\"@type\": \"tm:ThingModel\", \"properties\": {{{}}}}}", properties.join(", "));
    check(
        &[("m.json", &model)],
        "{wot: m.json}",
        expect![[r#"
        job.yaml:3:18: 1025 properties, at most 1024
          help: split the type in two, or map what belongs together to one property of type object
    "#]],
    );
}

#[test]
fn files_that_are_no_models_do_no_harm() {
    let text = format!("{PRESS}{LINE}");
    let mut chance = 88_172_645_463_325_252_u64;
    let mut next = move |below: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % below as u64) as usize
    };
    let sample = std::fs::read_to_string(specification("dtdl/Elements.json")).expect("it is there");
    for source in [PRESS, LINE, &text, &sample] {
        for _ in 0..300 {
            let mut bytes = source.as_bytes().to_vec();
            for _ in 0..=next(3) {
                let (at, length) = (next(bytes.len()), next(40));
                match next(3) {
                    0 => _ = bytes.splice(at..(at + length).min(bytes.len()), *b"\"x\""),
                    1 => bytes[at] = b"{}[]\",:0"[next(8)],
                    _ => _ = bytes.drain(at..(at + length).min(bytes.len())),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let folder = folder(&[("m.json", &changed)]);
            for language in Language::ALL {
                let text = format!("types: {{a: {{model: {{{}: m.json}}}}}}", language.word());
                // Whatever it is, it is read or refused, and what was read is good.
                let shown = outcome(folder.path(), &text);
                assert!(shown.lines().all(|line| !line.is_empty()), "{changed}\n{shown}");
            }
        }
    }
}
