//! Lines of text with values in columns (RFC 4180), each line an element of its message.
//!
//! The parser of the `csv` crate, `csv-core`, reads lines into memory that is used again. It forgives
//! everything; what would shift values into other columns is refused here: a line with more or fewer fields
//! than there are columns, and one whose quotes do not pair.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::element::{Element, Taken};
use super::plan::Leaf;
use super::{ELEMENTS_MAX, Scratch};
use crate::batch::EventBatch;
use crate::problem::{Problem, suggestion};

/// Most fields of a line.
pub const FIELDS_MAX: usize = 1_024;

/// How lines are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvSettings {
    /// Names of the columns, from the left. Without them, columns are known by their numbers, from 0.
    pub columns: Vec<String>,
    /// What stands between fields: one ASCII character, a comma by default.
    pub separator: String,
}

impl Default for CsvSettings {
    fn default() -> Self {
        Self { columns: Vec::new(), separator: ",".into() }
    }
}

impl CsvSettings {
    /// Checks the settings themselves.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.separator()?;
        let problem = |message: String, help: &str| Err(Problem::new(message, help).under("columns"));
        if self.columns.len() > FIELDS_MAX {
            let message = format!("{} columns, at most {FIELDS_MAX}", self.columns.len());
            return problem(message, "send fewer values a line");
        }
        for (index, column) in self.columns.iter().enumerate() {
            if column.is_empty() {
                return problem(
                    format!("the column {index} has no name"),
                    "give it one, also where nothing is read from it",
                );
            }
            if self.columns[..index].contains(column) {
                return problem(
                    format!("two columns are called `{column}`"),
                    "give each column a name of its own",
                );
            }
        }
        Ok(())
    }

    fn separator(&self) -> Result<u8, Problem> {
        let is_apart =
            |byte: u8| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\0".contains(&byte);
        match *self.separator.as_bytes() {
            [byte] if is_apart(byte) => Ok(byte),
            _ => Err(Problem::new(
                format!("`{}` cannot separate fields", self.separator.escape_debug()),
                "write one ASCII character that is no letter, digit or quote, such as \";\" or \"\\t\"",
            )
            .under("separator")),
        }
    }

    /// The column that a setting of the stream names, as one step down from the line.
    pub(super) fn place(&self, pointer: &str) -> Result<Vec<String>, Problem> {
        self.column(pointer).map(|column| vec![column.to_string()])
    }

    fn column(&self, pointer: &str) -> Result<usize, Problem> {
        let Some(name) = pointer.strip_prefix('/') else {
            let help = match pointer {
                "" => "write the column with a slash before it, such as /temperature or /0".into(),
                _ => format!("begin it with a slash: /{pointer}"),
            };
            return Err(Problem::new(format!("`{pointer}` is no column"), help));
        };
        if !self.columns.is_empty() {
            let found = self.columns.iter().position(|column| column == name);
            return found.ok_or_else(|| {
                let known = self.columns.iter().map(String::as_str);
                Problem::new(format!("there is no column `{name}`"), suggestion(name, known))
            });
        }
        match name.parse::<usize>() {
            Ok(column) if column < FIELDS_MAX => Ok(column),
            Ok(_) => {
                let message =
                    format!("a line has at most {FIELDS_MAX} fields, and there is no column {name}");
                Err(Problem::new(message, "count columns from 0"))
            }
            Err(_) => Err(Problem::new(
                format!("the stream does not name its columns, so there is no `{name}`"),
                "name them, as in decode: {csv: {columns: [ts, temperature]}}, or write numbers from 0: /0",
            )),
        }
    }

    /// The settings, made ready to read.
    pub(super) fn compile(&self, leaves: &[Leaf]) -> Result<Lines, Problem> {
        let columns: Result<Vec<usize>, Problem> =
            leaves.iter().map(|leaf| self.column(&leaf.pointer)).collect();
        Ok(Lines {
            separator: self.separator()?,
            width: Some(self.columns.len()).filter(|width| *width > 0),
            columns: columns?,
        })
    }
}

/// How the lines of a stream are read, compiled.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    separator: u8,
    /// How many fields a line has, where the job names them.
    width: Option<usize>,
    /// The column of each leaf.
    columns: Vec<usize>,
}

/// Parsers, and memory for the fields of a line.
#[derive(Debug)]
pub(super) struct Fields {
    /// One a separator, made when it is first needed: that takes longer than a line.
    parsers: Vec<(u8, Reader)>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for Fields {
    fn default() -> Self {
        // One more than may be, to see that there are too many.
        Self { parsers: Vec::new(), text: Vec::new(), ends: vec![0; FIELDS_MAX + 1] }
    }
}

/// Nothing in it is worth a copy, and a copy of a `Reader` (csv-core 0.1.13) does not know its separators.
impl Clone for Fields {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Fields {
    /// The number of the parser of a separator, as it is before the first line.
    fn parser(&mut self, separator: u8) -> usize {
        let known = self.parsers.iter().position(|(other, _)| *other == separator);
        let index = known.unwrap_or_else(|| {
            self.parsers.push((separator, ReaderBuilder::new().delimiter(separator).build()));
            self.parsers.len() - 1
        });
        self.parsers[index].1.reset();
        index
    }

    fn get(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[column]]
    }
}

/// Decodes one message of one route.
// Its frame would be part of the one that JSON, the usual payload, is read in.
#[inline(never)]
pub(super) fn decode(
    lines: &Lines,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let (plan, payload) = (&taken.route.plan, taken.message.payload);
    let Scratch { id, fields, .. } = scratch;
    // Unquoted, a line has no more bytes than quoted.
    if fields.text.len() < payload.len() {
        fields.text.resize(payload.len(), 0);
    }
    if has_too_many_lines(lines, payload, fields) {
        return refuse(format!("more than {ELEMENTS_MAX} lines in one message; send fewer at once"), payload);
    }
    let parser = fields.parser(lines.separator);
    let (mut rest, mut index) = (payload, 0);
    while let Some((line, count)) = next_line(parser, &mut rest, fields) {
        let mut element = Element::new(plan, events, id);
        let read = match wrong_form(lines, line, count) {
            Some(reason) => Err(element.fail(reason)),
            None => match take_fields(&mut element, lines, fields, count) {
                Ok(()) => element.finish(taken, index),
                Err(reason) => Err(element.fail(reason)),
            },
        };
        if let Err(reason) = read {
            refuse(reason, line.trim_ascii());
        }
        index += 1;
    }
    if index == 0 {
        refuse("the payload has no line".into(), payload);
    }
}

fn take_fields(
    element: &mut Element<'_>,
    lines: &Lines,
    fields: &Fields,
    count: usize,
) -> Result<(), String> {
    for (leaf, column) in lines.columns.iter().enumerate() {
        // An empty field is a value that is not there, as is one behind the end of the line.
        if *column >= count || fields.get(*column).is_empty() {
            continue;
        }
        let text = std::str::from_utf8(fields.get(*column))
            .map_err(|_| format!("`{}`: the field is not UTF-8", element.plan.leaves[leaf].pointer))?;
        element.take_text(leaf, text);
    }
    Ok(())
}

/// What is wrong with a line before its values are looked at.
fn wrong_form(lines: &Lines, line: &[u8], count: usize) -> Option<String> {
    let fields = |count: usize| format!("{count} field{}", if count == 1 { "" } else { "s" });
    if line.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
        return Some("a quote is not closed, or stands inside of a field that is not quoted".into());
    }
    if count > FIELDS_MAX {
        return Some(format!("the line has more than {}", fields(FIELDS_MAX)));
    }
    match lines.width {
        Some(width) if width != count => {
            let columns = if width == 1 { "column" } else { "columns" };
            Some(format!("the line has {}, and the stream names {width} {columns}", fields(count)))
        }
        _ => None,
    }
}

/// Whether a message has more lines than may be. Most have fewer line breaks than that, which one quick
/// count shows; they are read twice otherwise, as breaks may stand in quotes, or between empty lines.
fn has_too_many_lines(lines: &Lines, payload: &[u8], fields: &mut Fields) -> bool {
    let breaks = payload.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    if breaks < ELEMENTS_MAX {
        return false;
    }
    let (parser, mut rest) = (fields.parser(lines.separator), payload);
    (0..=ELEMENTS_MAX).all(|_| next_line(parser, &mut rest, fields).is_some())
}

/// The next line that is not empty, as it came, and how many fields it has: where there are too many, one more than
/// may be.
fn next_line<'p>(parser: usize, rest: &mut &'p [u8], fields: &mut Fields) -> Option<(&'p [u8], usize)> {
    let Fields { parsers, text: texts, ends } = fields;
    let from = *rest;
    let (mut text, mut count, mut has_too_many) = (0, 0, false);
    loop {
        let (result, read, written, ended) =
            parsers[parser].1.read_record(rest, &mut texts[text..], &mut ends[count..]);
        *rest = &rest[read..];
        text += written;
        count += ended;
        match result {
            // The next call, which has nothing to read, ends the last line.
            ReadRecordResult::InputEmpty => {}
            // What is behind is read over, to the end of the line.
            ReadRecordResult::OutputEndsFull => (count, has_too_many) = (0, true),
            ReadRecordResult::Record => {
                let line = &from[..from.len() - rest.len()];
                return Some((line, if has_too_many { FIELDS_MAX + 1 } else { count }));
            }
            // There is room for the whole payload.
            ReadRecordResult::OutputFull | ReadRecordResult::End => return None,
        }
    }
}
