//! Functions of `augmentation`: one key says what kind it is, and beside it stands what is of all kinds.
//!
//! ```yaml
//! quality: {http: {url: http://functions/quality}, of: [temperature], timeout: 2s}
//! heat_index: {wasm: {file: heat_index.wasm}, of: [temperature, humidity]}
//! ```

use connectors::function::http::HttpSettings;
use connectors::function::python::PythonSettings;
use connectors::function::wasm::WasmSettings;
use operators::functions::{CallSettings, FunctionSettings};
use serde::de::DeserializeOwned;

use super::reader::Reader;
use crate::document::{Content, Entry, Node, unknown};

/// Keys that stand beside the kind.
pub(crate) const CALL_KEYS: [&str; 8] =
    ["of", "yields", "timeout", "on_late", "on_error", "waiting", "keeps", "spread"];
/// Those of them that are of functions that are waited for, as one in process is with `spread` only.
pub(crate) const WAITED_KEYS: [&str; 3] = ["timeout", "on_late", "waiting"];
/// Which version of the function it is. The job server writes it where a function was put while its job runs.
const VERSION: &str = "version";
/// A version that runs beside it, which the job server writes too.
const TRIAL: &str = "trial";
/// Kinds that are part of the twin's own step.
const INSIDE: [&str; 7] = ["linear", "mean", "ewma", "rate", "threshold", "outlier", "cel"];
/// Kinds that run a user's code in process.
const HOSTED: [&str; 1] = ["wasm"];
/// Kinds that are called.
const OUTSIDE: [&str; 2] = ["http", "python"];

/// A function, as a job file says it.
#[derive(Clone, Debug)]
pub struct FunctionDefinition {
    /// What it does, or where it is called.
    pub kind: KindDefinition,
    /// What stands beside that.
    pub call: CallSettings,
    /// Which of its versions it is, from 1.
    pub version: u32,
    /// Another version that runs beside it.
    pub trial: Option<Box<TrialDefinition>>,
}

/// A version of a function that runs beside the one in force.
#[derive(Clone, Debug)]
pub struct TrialDefinition {
    /// Percent of the twins that it runs for.
    pub percent: f64,
    /// The function.
    pub function: FunctionDefinition,
}

/// What a function does, or where it is called.
#[derive(Clone, Debug)]
pub enum KindDefinition {
    /// Part of the twin's own step.
    Inside(FunctionSettings),
    /// Behind an HTTP endpoint.
    Http(HttpSettings),
    /// Python, in processes of its own.
    Python(Sourced<PythonSettings>),
    /// A module in WebAssembly, on the worker's own thread.
    Wasm(Sourced<WasmSettings>),
}

/// A function with a source.
#[derive(Clone, Debug)]
pub struct Sourced<S> {
    /// The source, or base64 of it where it is no text.
    pub code: String,
    /// How it is run.
    pub settings: S,
}

impl KindDefinition {
    /// The word of the job file.
    pub fn word(&self) -> &'static str {
        match self {
            KindDefinition::Inside(settings) => settings.word(),
            KindDefinition::Http(_) => "http",
            KindDefinition::Python(_) => "python",
            KindDefinition::Wasm(_) => "wasm",
        }
    }
}

impl FunctionDefinition {
    /// Whether it leaves the worker of its twin, and comes back.
    pub fn is_called(&self) -> bool {
        match self.kind {
            KindDefinition::Inside(_) => false,
            KindDefinition::Http(_) | KindDefinition::Python(_) => true,
            KindDefinition::Wasm(_) => self.call.spread,
        }
    }
}

/// Reads one function.
pub(super) fn read(reader: &mut Reader, entry: &Entry) -> Option<FunctionDefinition> {
    let Content::Mapping(entries) = &entry.value.content else {
        let help = "write its kind and settings: {linear: {of: temperature, factor: 1.8}}";
        reader.problem(entry.shown_span(), format!("`{}` is no function", entry.key), help.into());
        return None;
    };
    let (own, entries): (Vec<Entry>, Vec<Entry>) =
        entries.iter().cloned().partition(|entry| [VERSION, TRIAL].contains(&entry.key.as_str()));
    let (beside, kinds): (Vec<Entry>, Vec<Entry>) =
        entries.iter().cloned().partition(|entry| CALL_KEYS.contains(&entry.key.as_str()));
    let known: Vec<&str> = INSIDE.into_iter().chain(HOSTED).chain(OUTSIDE).collect();
    let mut are_known = true;
    for kind in kinds.iter().filter(|kind| !known.contains(&kind.key.as_str())) {
        let all: Vec<&str> = known.iter().copied().chain(CALL_KEYS).chain([VERSION]).collect();
        let (message, help) = unknown("key", &kind.key, &all);
        reader.problem_at(&kind.key, kind.key_span, message, help);
        are_known = false;
    }
    let [kind] = &kinds[..] else {
        if are_known {
            let message = format!("`{}` has {} kinds, a function has one", entry.key, kinds.len());
            reader.problem(entry.shown_span(), message, format!("write one of {}", known.join(", ")));
        }
        return None;
    };
    let settings = match kind.key.as_str() {
        "http" => reader.under(kind, Reader::value).map(KindDefinition::Http),
        "python" => {
            let help = "write {file: quality.py}, or the source itself under `code`";
            reader.under(kind, |reader, entry| sourced(reader, entry, help)).map(KindDefinition::Python)
        }
        "wasm" => {
            let help = "write {file: quality.wasm}, or under `code` its text, or base64 of it";
            reader.under(kind, |reader, entry| sourced(reader, entry, help)).map(KindDefinition::Wasm)
        }
        word if INSIDE.contains(&word) => {
            let alone = Node { span: entry.value.span, content: Content::Mapping(vec![kind.clone()]) };
            reader.read(&alone, kind.shown_span()).map(KindDefinition::Inside)
        }
        _ => None,
    };
    let beside = Node { span: entry.value.span, content: Content::Mapping(beside) };
    let call = reader.read(&beside, entry.shown_span());
    let version = match own.iter().find(|entry| entry.key == VERSION) {
        Some(entry) => reader.under(entry, Reader::value)?,
        None => 1,
    };
    let trial = match own.iter().find(|entry| entry.key == TRIAL) {
        Some(entry) => Some(Box::new(reader.under(entry, trial)?)),
        None => None,
    };
    Some(FunctionDefinition { kind: settings?, call: call?, version, trial })
}

/// `{percent: 10, function: {...}}`.
fn trial(reader: &mut Reader, entry: &Entry) -> Option<TrialDefinition> {
    let part = |key: &str| match &entry.value.content {
        Content::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
        Content::Scalar { .. } | Content::Sequence(_) => None,
    };
    let (Some(percent), Some(function)) = (part("percent"), part("function")) else {
        let help = "write {percent: 10, function: {...}}";
        reader.problem(
            entry.shown_span(),
            "what is tried out has a percent and a function".into(),
            help.into(),
        );
        return None;
    };
    let value: f64 = reader.under(percent, Reader::value)?;
    if !(value > 0.0 && value <= 100.0) {
        let help = "write more than 0 and at most 100";
        reader.problem(percent.shown_span(), format!("{value} is no percentage of the twins"), help.into());
        return None;
    }
    Some(TrialDefinition { percent: value, function: read(reader, function)? })
}

/// The source stands among the settings; `help` says how.
fn sourced<S: DeserializeOwned>(reader: &mut Reader, entry: &Entry, help: &str) -> Option<Sourced<S>> {
    let no_source = || format!("a function in {} has a source", entry.key);
    let Content::Mapping(entries) = &entry.value.content else {
        reader.problem(entry.shown_span(), no_source(), help.into());
        return None;
    };
    if let Some(file) = entries.iter().find(|entry| entry.key == "file") {
        let message =
            "a file is read by the command line, where the job file stands; there is none here".into();
        let help =
            "use `twinloom run`, `validate` or `apply` with the job file, or write the source under `code`";
        reader.problem_at("file", file.key_span, message, help.into());
        return None;
    }
    let (code, settings): (Vec<Entry>, Vec<Entry>) =
        entries.iter().cloned().partition(|entry| entry.key == "code");
    let Some(code) = code.first() else {
        reader.problem(entry.shown_span(), no_source(), help.into());
        return None;
    };
    let code = reader.under(code, Reader::value);
    let settings = Node { span: entry.value.span, content: Content::Mapping(settings) };
    let settings = reader.read(&settings, entry.shown_span());
    Some(Sourced { code: code?, settings: settings? })
}
