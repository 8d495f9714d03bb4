//! The roster of a job (rule 5.1): a file of the twins that there are, by CSV or JSON, read before the job runs and
//! whenever it changes.
//!
//! ```text
//!  presses.csv   id,kind,class,line_id          presses.json  [{"id": "p-1", "kind": "press", "class": "servo"}, ..]
//!                p-1,press,servo,line-1
//!     └── rows, by the names of columns ─► types, attributes, relationships ─► operators::roster::Roster
//! ```
//!
//! Columns that no type asks for say nothing. One that a type asks for and that is not there is a mistake, as is a
//! doubled id: a fleet that is half there is worse than one that does not start.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use indexmap::IndexMap;
use operators::model::{KindName, ModelSettings, RelationshipFrom};
use operators::problem::{Problem, suggestion};
use operators::roster::{Roster, RosterBuilder};
use operators::view::Held;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::definition::{Definition, TypeSettings};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// How often the file is looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// `roster`: twins that are there before they speak.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RosterSettings {
    /// The file: CSV with a line of names, or JSON, an array of objects. From the folder of the job file on.
    pub file: PathBuf,
    /// The column with the twins' ids.
    pub twin: String,
    /// The column with the names of their types; it may be left out where the job has one type.
    #[serde(default, rename = "type")]
    pub twin_type: Option<String>,
    /// What becomes of messages of twins that it does not name.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// What becomes of messages of twins that the roster does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// They are twins as well.
    #[default]
    Accept,
    /// They are dead letters.
    DeadLetter,
}

/// Reads the roster of a definition; an empty one where it has none. Problems are those of `roster`.
pub(crate) fn read(definition: &Definition) -> Result<Roster, Problem> {
    let Some(settings) = &definition.roster else { return Ok(Roster::default()) };
    let path = &settings.file;
    let failed = |reason: String| {
        let message = format!("cannot read `{}`: {reason}", path.display());
        Problem::new(message, "name a file of CSV or JSON, from the folder of the job file on").under("file")
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(failed(format!("it is no file, or has more than {FILE_BYTES_MAX} bytes")));
    }
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut rows = Rows { settings, types: &definition.types, builder: RosterBuilder::default() };
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    match is_json {
        true => rows.read_json(BufReader::new(file))?,
        false => rows.read_csv(BufReader::new(file))?,
    }
    let is_closed = settings.on_unknown == OnUnknown::DeadLetter;
    let wrong = |error: operators::roster::RosterError| {
        Problem::new(format!("`{}`: {error}", path.display()), "give each twin one row").under("file")
    };
    rows.builder.finish(is_closed).map_err(wrong)
}

/// What a type asks of a row.
struct Wanted<'d> {
    number: u16,
    /// Places of its columns: attributes with their kinds, then relationships.
    columns: Vec<(usize, &'d str, Option<KindName>)>,
}

struct Rows<'d> {
    settings: &'d RosterSettings,
    types: &'d IndexMap<String, TypeSettings>,
    builder: RosterBuilder,
}

impl<'d> Rows<'d> {
    fn wrong(&self, message: String, help: impl Into<String>) -> Problem {
        Problem::new(format!("`{}`: {message}", self.settings.file.display()), help).under("file")
    }

    /// The place of a column that the job asks for.
    fn column(&self, names: &[String], name: &str, asks: &str) -> Result<usize, Problem> {
        names.iter().position(|one| one == name).ok_or_else(|| {
            let message = format!("there is no column `{name}`, which {asks}");
            self.wrong(message, suggestion(name, names.iter().map(String::as_str)))
        })
    }

    /// What each type asks of the columns, by its name.
    fn wanted(&self, names: &[String]) -> Result<IndexMap<&'d str, Wanted<'d>>, Problem> {
        let mut wanted = IndexMap::new();
        for (number, (type_name, settings)) in (0u16..).zip(self.types) {
            let ModelSettings { attributes, relationships, .. } = &settings.model;
            let mut columns = Vec::new();
            for (name, kind) in attributes {
                let place = self.column(names, name, &format!("type `{type_name}` has as an attribute"))?;
                columns.push((place, name.as_str(), Some(*kind)));
            }
            for (name, relationship) in relationships {
                let Some(RelationshipFrom::Roster(column)) = &relationship.from else { continue };
                let asks = format!("`{name}` of type `{type_name}` is from");
                columns.push((self.column(names, column, &asks)?, name.as_str(), None));
            }
            wanted.insert(type_name.as_str(), Wanted { number, columns });
        }
        Ok(wanted)
    }

    fn read_csv(&mut self, input: impl std::io::Read) -> Result<(), Problem> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
        let help = "write CSV as in RFC 4180, with the names of the columns in the first line";
        let names = reader.headers().map_err(|error| self.wrong(error.to_string(), help))?;
        let names: Vec<String> =
            names.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let wanted = self.wanted(&names)?;
        let (id, twin_type) = self.fixed(&names)?;
        let mut record = csv::StringRecord::new();
        // The names stand in the first row.
        for row in 2u32.. {
            match reader.read_record(&mut record) {
                Ok(true) => {
                    self.take(row, &wanted, id, twin_type, |place| record.get(place).unwrap_or_default())?
                }
                Ok(false) => break,
                Err(error) => return Err(self.wrong(error.to_string(), help)),
            }
        }
        Ok(())
    }

    fn read_json(&mut self, input: impl std::io::Read) -> Result<(), Problem> {
        let help = "write an array of objects: [{\"id\": \"p-1\"}]";
        let rows: Vec<IndexMap<String, Json>> =
            serde_json::from_reader(input).map_err(|error| self.wrong(error.to_string(), help))?;
        let mut names: Vec<String> = Vec::new();
        for name in rows.iter().flat_map(|row| row.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let wanted = self.wanted(&names)?;
        let (id, twin_type) = self.fixed(&names)?;
        for (row, json) in (1u32..).zip(&rows) {
            let cells: Vec<String> = names.iter().map(|name| text(json.get(name))).collect();
            self.take(row, &wanted, id, twin_type, |place| &cells[place])?;
        }
        Ok(())
    }

    /// The columns of ids and types.
    fn fixed(&self, names: &[String]) -> Result<(usize, Option<usize>), Problem> {
        let id = self.column(names, &self.settings.twin, "has the ids of twins")?;
        let of_type = self.settings.twin_type.as_ref();
        let twin_type = of_type.map(|name| self.column(names, name, "has the names of types")).transpose()?;
        if twin_type.is_none() && self.types.len() > 1 {
            let message = "the roster does not say of which types its twins are";
            return Err(Problem::new(message, "add type: COLUMN, with the column of their names"));
        }
        Ok((id, twin_type))
    }

    fn take<'c>(
        &mut self,
        row: u32,
        wanted: &IndexMap<&str, Wanted<'_>>,
        id: usize,
        twin_type: Option<usize>,
        cell: impl Fn(usize) -> &'c str,
    ) -> Result<(), Problem> {
        let name = twin_type.map(&cell);
        let of_type = match name {
            Some(name) => wanted.get(name),
            None => wanted.first().map(|(_, one)| one),
        };
        let Some(Wanted { number, columns }) = of_type else {
            let name = name.unwrap_or_default();
            let message = format!("row {row}: there is no type `{name}`");
            return Err(self.wrong(message, suggestion(name, wanted.keys().copied())));
        };
        for (place, name, kind) in columns {
            let (text, Some(kind)) = (cell(*place), kind) else { continue };
            let is_other = matches!(kind, KindName::Double | KindName::Integer | KindName::Boolean);
            if is_other && !text.is_empty() && matches!(Held::read(*kind, text), Held::Text(_)) {
                let message = format!("row {row}: `{name}` is `{text}`, which is no {}", kind.word());
                return Err(self.wrong(message, "write such a value, or nothing"));
            }
        }
        let cells = columns.iter().map(|(place, ..)| cell(*place));
        let added = self.builder.add(row, cell(id), *number, cells);
        added.map_err(|error| self.wrong(error.to_string(), "write an id of up to 256 bytes"))
    }
}

/// A value of JSON as a cell.
fn text(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Looks whether the file of a roster has changed, now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    definition: Definition,
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    looked_at: Instant,
}

impl Watch {
    /// That of a definition's roster, where it has one that was read a moment ago.
    pub(crate) fn new(definition: &Definition) -> Option<Self> {
        let path = definition.roster.as_ref()?.file.clone();
        let seen = stamp(&path);
        Some(Self { definition: definition.clone(), path, seen, looked_at: Instant::now() })
    }

    /// The roster, read again, where its file has changed. One that is no good is told once, and the one before
    /// goes on.
    pub(crate) fn look(&mut self) -> Option<Arc<Roster>> {
        if self.looked_at.elapsed() < LOOK {
            return None;
        }
        self.looked_at = Instant::now();
        let stamp = stamp(&self.path);
        // A file that is gone for a moment is about to be replaced.
        if stamp.is_none() || stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        match read(&self.definition) {
            Ok(roster) => {
                tracing::info!(twins = roster.len(), file = %self.path.display(), "roster read again");
                Some(Arc::new(roster))
            }
            Err(problem) => {
                let file = self.path.display();
                tracing::warn!(%file, "the roster has changed, and the one before goes on: {}", problem.message);
                None
            }
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const JOB: &str = r#"
job: line
connections: {plant: {mqtt: {url: mqtt://localhost:1883}}}
roster: {file: ROSTER, twin: id, type: kind}
types:
  press:
    attributes: {class: string, weight: double}
    relationships: {partOf: {to: line, from: {roster: line_id}}}
    properties: {t: {type: double}}
    physical: {s: {from: plant, topics: ["press/{twin}"], at: arrival, properties: {t: /t}, expected_rate: 1/s}}
  meter:
    properties: {p: {type: double}}
    physical: {s: {from: plant, topics: ["meter/{twin}"], at: arrival, properties: {p: /p}, expected_rate: 1/s}}
"#;

    fn check(name: &str, content: &str, expected: Expect) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("it can be written");
        let text = JOB.replace("ROSTER", &path.display().to_string());
        let document = crate::document::parse("job.yaml", &text).expect("it is YAML");
        let (definition, _) = crate::definition::read(&document);
        let found = match read(&definition) {
            Ok(roster) => {
                let mut lines: Vec<String> = (0..roster.len())
                    .filter_map(|place| roster.row(place))
                    .map(|row| {
                        format!(
                            "{} type {} {:?}\n",
                            row.id(),
                            row.twin_type(),
                            [0, 1, 2].map(|n| row.cell(n))
                        )
                    })
                    .collect();
                lines.sort();
                lines.concat()
            }
            Err(problem) => format!("{}\n{}\n", problem.message, problem.help),
        };
        expected.assert_eq(&found.replace(&folder.path().display().to_string(), "."));
    }

    #[test]
    fn files_are_read() {
        check(
            "r.csv",
            "id,kind,line_id,class,weight,colour\np-1,press,line-1,servo,12.5,red\n\"p,2\",press,,,,\nm-1, meter ,x,y,1,z\n",
            expect![[r#"
                m-1 type 1 [None, None, None]
                p,2 type 0 [None, None, None]
                p-1 type 0 [Some("servo"), Some("12.5"), Some("line-1")]
            "#]],
        );
        check(
            "r.json",
            r#"[{"id": "p-1", "kind": "press", "class": "servo", "weight": 3, "line_id": null}, {"id": 7, "kind": "meter"}]"#,
            expect![[r#"
                7 type 1 [None, None, None]
                p-1 type 0 [Some("servo"), Some("3"), None]
            "#]],
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_row() {
        for (content, expected) in [
            (
                "id,kind,class,weight,line_id\na,press,x,1,l\na,press,x,1,l\n",
                expect![[r#"
                `./r.csv`: rows 2 and 3 are both of the twin `a`
                give each twin one row
            "#]],
            ),
            (
                "id,kind,class,wieght,line_id\n",
                expect![[r#"
                `./r.csv`: there is no column `weight`, which type `press` has as an attribute
                did you mean `wieght`?
            "#]],
            ),
            (
                "kind,class,weight,line_id\n",
                expect![[r#"
                `./r.csv`: there is no column `id`, which has the ids of twins
                did you mean `kind`?
            "#]],
            ),
            (
                "id,kind,class,weight,line_id\na,pres,x,1,l\n",
                expect![[r#"
                `./r.csv`: row 2: there is no type `pres`
                did you mean `press`?
            "#]],
            ),
            (
                "id,kind,class,weight,line_id\na,press,x,much,l\n",
                expect![[r#"
                `./r.csv`: row 2: `weight` is `much`, which is no double
                write such a value, or nothing
            "#]],
            ),
            (
                "id,kind,class,weight,line_id\na,press\n",
                expect![[r#"
                `./r.csv`: CSV error: record 1 (line: 2, byte: 29): found record with 2 fields, but the previous record has 5 fields
                write CSV as in RFC 4180, with the names of the columns in the first line
            "#]],
            ),
            (
                "id,kind,class,weight,line_id\n,press,x,1,l\n",
                expect![[r#"
                `./r.csv`: row 2: the twin id is empty
                write an id of up to 256 bytes
            "#]],
            ),
        ] {
            check("r.csv", content, expected);
        }
        check(
            "r.json",
            "{}",
            expect![[r#"
            `./r.json`: invalid type: map, expected a sequence at line 1 column 1
            write an array of objects: [{"id": "p-1"}]
        "#]],
        );
    }
}
