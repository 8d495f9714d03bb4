//! `model` of a type: its declarations come from a file of another language, as `model: {wot: FILE}` and
//! `model: {dtdl: FILE}` say. Where the job file is opened the file is read ([`crate::foreign`]), and what it declares
//! takes the place of its name (`declares`); here that is read as if it stood in the type.

use indexmap::IndexMap;
use operators::model::ModelSettings;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::reader::Reader;
use crate::document::{Content, Entry, Node};
use crate::foreign::{DtdlSettings, Language, WotSettings};

/// Key under which stands what a file declares.
pub(crate) const DECLARES: &str = "declares";
/// Keys of what a file declares.
const GROUPS: [&str; 5] = ["from", "properties", "events", "relationships", "actions"];

/// How a model from elsewhere is named, for the schema of job files.
#[derive(JsonSchema)]
#[schemars(rename = "Model", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ModelForm {
    /// A Thing Model of W3C's Web of Things.
    #[schemars(default)]
    wot: Option<FileForm<WotSettings>>,
    /// An interface in DTDL.
    #[schemars(default)]
    dtdl: Option<FileForm<DtdlSettings>>,
}

/// A file, or a file with what else is to be said.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum FileForm<S> {
    File(String),
    Settings(S),
}

/// Where part of a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What language the file is in.
    pub language: Language,
    /// The file, as the job names it.
    pub file: String,
    /// How many properties, events, relationships and actions it declares.
    pub counts: [usize; 4],
}

/// Reads `model`: where it comes from, and what it declares.
pub(super) fn read(reader: &mut Reader, entry: &Entry) -> Option<(Origin, ModelSettings)> {
    let known: Vec<&str> = Language::ALL.iter().map(|language| language.word()).collect();
    let entries = reader.keys(&entry.value, entry.key_span, &known)?;
    let [one] = entries else {
        if entries.iter().all(|entry| known.contains(&entry.key.as_str())) {
            let message = format!("a type has one model from elsewhere, not {}", entries.len());
            let help = "write {wot: FILE} for a Thing Model, or {dtdl: FILE} for an interface in DTDL";
            reader.problem(entry.shown_span(), message, help.into());
        }
        return None;
    };
    let language = *Language::ALL.iter().find(|language| language.word() == one.key)?;
    reader.under(one, |reader, entry| match language {
        Language::Wot => of_language::<WotSettings>(reader, entry, language),
        Language::Dtdl => of_language::<DtdlSettings>(reader, entry, language),
    })
}

fn of_language<S: DeserializeOwned>(
    reader: &mut Reader,
    entry: &Entry,
    language: Language,
) -> Option<(Origin, ModelSettings)> {
    let no_file = "a file is read by the command line, where the job file stands; there is none here";
    let help = "use `twinloom run`, `validate` or `apply` with the job file";
    let Content::Mapping(entries) = &entry.value.content else {
        reader.problem(entry.shown_span(), no_file.into(), help.into());
        return None;
    };
    let (declares, settings): (Vec<Entry>, Vec<Entry>) =
        entries.iter().cloned().partition(|entry| entry.key == DECLARES);
    let Some(declares) = declares.first() else {
        match entries.iter().find(|entry| entry.key == "file") {
            Some(file) => reader.problem_at("file", file.key_span, no_file.into(), help.into()),
            None => reader.problem(
                entry.shown_span(),
                format!("`{}` names no file", entry.key),
                format!("write {}: FILE, or {{file: FILE}} with what else is to be said", entry.key),
            ),
        }
        return None;
    };
    let settings = Node { span: entry.value.span, content: Content::Mapping(settings) };
    _ = reader.read::<S>(&settings, entry.shown_span());
    reader.under(declares, |reader, entry| declared(reader, entry, language))
}

fn declared(reader: &mut Reader, entry: &Entry, language: Language) -> Option<(Origin, ModelSettings)> {
    let (mut file, mut model) = (String::new(), ModelSettings::default());
    for entry in reader.keys(&entry.value, entry.key_span, &GROUPS)? {
        reader.under(entry, |reader, entry| {
            match entry.key.as_str() {
                "from" => file = reader.value(entry).unwrap_or_default(),
                "properties" => model.properties = reader.map(entry),
                "events" => model.events = reader.map(entry),
                "relationships" => model.relationships = reader.map(entry),
                "actions" => model.actions = reader.map(entry),
                _ => {}
            }
            Some(())
        });
    }
    let counts = [model.properties.len(), model.events.len(), model.relationships.len(), model.actions.len()];
    Some((Origin { language, file, counts }, model))
}

/// Fills a type's model with what a file declares. What the type itself says goes before it, by name; properties and
/// events share their names.
pub(super) fn fill(own: &mut ModelSettings, mut declared: ModelSettings) {
    declared.properties.retain(|name, _| !own.events.contains_key(name));
    declared.events.retain(|name, _| !own.properties.contains_key(name));
    under(&mut own.properties, declared.properties);
    under(&mut own.events, declared.events);
    under(&mut own.relationships, declared.relationships);
    under(&mut own.actions, declared.actions);
}

/// Puts a group under another: its order comes first, the other's values hold.
fn under<S>(own: &mut IndexMap<String, S>, declared: IndexMap<String, S>) {
    let own_values = std::mem::replace(own, declared);
    own.extend(own_values);
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::job::Job;

    const JOB: &str = r#"
job: line
connections: {plant: {mqtt: {url: "mqtt://localhost:1883"}}}
types:
  press:
    model: MODEL
    properties:
      own: {type: double, unit: Cel}
      over: {type: integer}
    physical:
      s: {from: plant, topics: ["{twin}"], at: arrival, properties: {over: /o, t: /t}, expected_rate: none}
"#;

    fn check(model: &str, expected: Expect) {
        let text = JOB.replace("MODEL", model);
        let found = match Job::parse("job.yaml", &text, None) {
            Ok(job) => {
                format!("{:#?}\n", job.definition.types["press"].origin)
                    + &format!(
                        "{:?}\n",
                        job.definition.types["press"].model.properties.keys().collect::<Vec<_>>()
                    )
                    + &format!("{:?}\n", job.definition.types["press"].model.properties["over"].kind)
                    + &format!(
                        "{:?}\n",
                        job.definition.types["press"].model.events.keys().collect::<Vec<_>>()
                    )
            }
            Err(findings) => findings.plain(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn what_the_type_says_goes_before_its_file() {
        check(
            r#"{wot: {declares: {"from": "press.tm.json", "properties": {"over": {"type": "double"}, "t": {"type": "double"}}, "events": {"own": {"type": "object"}, "hot": {"type": "double"}}}}}"#,
            expect![[r#"
                Some(
                    Origin {
                        language: Wot,
                        file: "press.tm.json",
                        counts: [
                            2,
                            2,
                            0,
                            0,
                        ],
                    },
                )
                ["over", "t", "own"]
                Integer
                ["hot"]
            "#]],
        );
    }

    #[test]
    fn a_model_is_one_of_a_known_language_with_a_file() {
        check(
            "{wot: press.tm.json}",
            expect![[r#"
            job.yaml:6:18: a file is read by the command line, where the job file stands; there is none here
              help: use `twinloom run`, `validate` or `apply` with the job file
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "{dtdl: {file: press.json}}",
            expect![[r#"
            job.yaml:6:20: a file is read by the command line, where the job file stands; there is none here
              help: use `twinloom run`, `validate` or `apply` with the job file
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "{wot: {placeholders: {A: 1}}}",
            expect![[r#"
            job.yaml:6:13: `wot` names no file
              help: write wot: FILE, or {file: FILE} with what else is to be said
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "{wto: press.tm.json}",
            expect![[r#"
            job.yaml:6:13: unknown key `wto`
              help: did you mean `wot`?
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "{wot: a, dtdl: b}",
            expect![[r#"
            job.yaml:6:5: a type has one model from elsewhere, not 2
              help: write {wot: FILE} for a Thing Model, or {dtdl: FILE} for an interface in DTDL
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "press.tm.json",
            expect![[r#"
            job.yaml:6:5: this is not a map
              help: write keys and values: wot, dtdl
            job.yaml:11:83: there is no property `t`
              help: there are: over, own
        "#]],
        );
        check(
            "{wot: {declares: {properties: {t: {type: double}}}, file: x, copy: y}}",
            expect![[r#"
            job.yaml:6:73: unknown key `copy`
              help: there are: copies, file, optional, placeholders
        "#]],
        );
    }
}
