//! The files that a model is made of: each read once, within limits, and kept with its text, so that what is said of
//! it can be shown with line and column.

use std::path::{Path, PathBuf};

use super::json::{self, Json};
use crate::document::Span;

/// Longest model file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files of a model, those that it is made of included.
const FILES_MAX: usize = 64;

/// A place in one of the files of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file.
    pub file: usize,
    /// Bytes before it.
    pub offset: usize,
    /// Its bytes.
    pub length: usize,
}

/// Why there is no model.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    /// Where it stands; where the job names the file if there is no better place.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Wrong {
    /// Something that is wrong at a place.
    pub fn new(place: Place, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), help: help.into() }
    }

    /// Something that is wrong with the file that the job names.
    pub fn at_job(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place: None, message: message.into(), help: help.into() }
    }

    /// The same, at this place where none was known.
    pub fn or_at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }
}

/// A file of a model.
#[derive(Debug)]
pub(super) struct File {
    /// Its path, from where the program stands.
    pub path: PathBuf,
    /// The same without links and dots, which tells files apart.
    pub canonical: PathBuf,
    /// Its text.
    pub text: String,
    /// What is in it.
    pub root: Json,
}

/// All files of a model.
#[derive(Debug, Default)]
pub(super) struct Files {
    all: Vec<File>,
    /// The text of a file that is no JSON, so that the place of the mistake can be shown.
    broken: Option<(PathBuf, String)>,
}

impl Files {
    /// A file that was read.
    pub fn get(&self, file: usize) -> &File {
        &self.all[file]
    }

    /// Path and text of a file.
    pub fn shown(&self, file: usize) -> (&Path, &str) {
        match (self.all.get(file), &self.broken) {
            (Some(file), _) => (&file.path, &file.text),
            (None, Some((path, text))) => (path, text),
            (None, None) => unreachable!("a place is of a file that was read"),
        }
    }

    /// The number of a file, which is read if it was not yet.
    pub fn open(&mut self, path: &Path) -> Result<usize, Wrong> {
        let cannot = |reason: String| {
            let message = format!("cannot read `{}`: {reason}", path.display());
            Wrong::at_job(message, "name a file from the folder on of the file that names it")
        };
        let canonical = path.canonicalize().map_err(|error| cannot(error.to_string()))?;
        if let Some(known) = self.all.iter().position(|file| file.canonical == canonical) {
            return Ok(known);
        }
        if self.all.len() >= FILES_MAX {
            return Err(cannot(format!("the model would be made of more than {FILES_MAX} files")));
        }
        let metadata = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(cannot(format!("it is no file, or has more than {FILE_BYTES_MAX} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| cannot("it is no UTF-8".into()))?;
        // A mark that some editors write before the text.
        let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
        match json::parse(self.all.len(), &text) {
            Ok(root) => {
                self.all.push(File { path: path.to_owned(), canonical, text, root });
                Ok(self.all.len() - 1)
            }
            Err(wrong) => {
                self.broken = Some((path.to_owned(), text));
                Err(wrong)
            }
        }
    }

    /// Line and column of a place.
    pub fn span(&self, place: Place) -> Span {
        let (_, text) = self.shown(place.file);
        let before = &text[..place.offset];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Span {
            offset: place.offset,
            length: place.length,
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }
}
