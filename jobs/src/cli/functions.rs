//! `twinloom function ...`: functions of a job while it runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Failure;
use super::remote::{RemoteArguments, path, with_query};

/// Differences that are shown of a shadow run.
const SAMPLES_SHOWN: usize = 5;

/// What to do with functions.
#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    /// List those of a job, with their versions and failures
    List(ListArguments),
    /// Put one in the place of one that there is, or a new one; it is checked before anything changes
    Put(PutArguments),
    /// Have the version in a shadow run take the place of the one that runs
    Promote(FunctionArguments),
    /// End a shadow run; the version that runs goes on
    Drop(FunctionArguments),
    /// Go back to the version before the one that runs
    Rollback(FunctionArguments),
    /// Take one away; its property keeps its last value
    Remove(FunctionArguments),
}

/// Which job.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// The job's name
    job: String,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// Which function.
#[derive(Debug, Args)]
pub(super) struct FunctionArguments {
    /// The job's name
    job: String,
    /// The function's name
    function: String,
    /// The type of twin, where several are possible
    #[arg(long = "type", value_name = "TYPE")]
    twin_type: Option<String>,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What is put.
#[derive(Debug, Args)]
pub(super) struct PutArguments {
    #[command(flatten)]
    function: FunctionArguments,
    /// A source in Python (.py), a module in WebAssembly (.wasm, .wat), or a function as it stands in a job file
    /// (.yaml)
    file: PathBuf,
    /// Declare the property of the function's name, of this type
    #[arg(long, value_name = "TYPE")]
    property: Option<String>,
    /// Run it beside the version that runs, for so many of the twins, such as 10%; `list` shows what differs
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    shadow: Option<f64>,
}

/// `10%`, or `10`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    let percent = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    percent.ok_or_else(|| "write a percentage of the twins, such as 10%".to_owned())
}

pub(super) fn execute(command: &FunctionCommand) -> Result<(), Failure> {
    match command {
        FunctionCommand::List(ListArguments { job, remote }) => list(job, remote),
        FunctionCommand::Put(arguments) => put(arguments),
        FunctionCommand::Promote(arguments) => post(arguments, "promote"),
        FunctionCommand::Rollback(arguments) => post(arguments, "rollback"),
        FunctionCommand::Drop(arguments) => {
            let FunctionArguments { job, function, remote, .. } = arguments;
            let path = path(&["jobs", job, "functions", function, "shadow"]);
            remote.delete(&with_type(&path, arguments, &[]))?;
            if !remote.json {
                println!("the shadow run of function {function} has ended");
            }
            Ok(())
        }
        FunctionCommand::Remove(arguments) => {
            let FunctionArguments { job, function, remote, .. } = arguments;
            remote.delete(&with_type(&path(&["jobs", job, "functions", function]), arguments, &[]))?;
            if !remote.json {
                println!("function {function} is removed");
            }
            Ok(())
        }
    }
}

fn post(arguments: &FunctionArguments, what: &str) -> Result<(), Failure> {
    let FunctionArguments { job, function, remote, .. } = arguments;
    let path = path(&["jobs", job, "functions", function, what]);
    let put: Value = remote.post(&with_type(&path, arguments, &[]), "")?;
    show(remote, &put);
    Ok(())
}

fn put(PutArguments { function: arguments, file, property, shadow }: &PutArguments) -> Result<(), Failure> {
    let FunctionArguments { job, function, remote, .. } = arguments;
    let body = std::fs::read(file)
        .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", file.display())))?;
    let language = match file.extension().and_then(|end| end.to_str()) {
        Some("py") => "python",
        Some("wasm" | "wat") => "wasm",
        Some("yaml" | "yml" | "json") => "yaml",
        _ => {
            let file = file.display();
            return Err(Failure::Usage(format!("{file}: name a .py, .wasm, .wat or .yaml file")));
        }
    };
    let mut more = vec![("language", language)];
    more.extend(property.as_deref().map(|kind| ("property", kind)));
    let shadow = shadow.map(|percent| percent.to_string());
    more.extend(shadow.as_deref().map(|percent| ("shadow", percent)));
    let path = with_type(&path(&["jobs", job, "functions", function]), arguments, &more);
    let put: Value = remote.put(&path, &body)?;
    show(remote, &put);
    Ok(())
}

fn list(job: &str, remote: &RemoteArguments) -> Result<(), Failure> {
    let all: Value = remote.get(&path(&["jobs", job, "functions"]))?;
    if remote.json {
        println!("{all}");
        return Ok(());
    }
    let functions = all["functions"].as_array().cloned().unwrap_or_default();
    if functions.is_empty() {
        println!("job {job} has no function");
    }
    for one in &functions {
        let word = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        let drift = if one["is_drift"] == true { ", not as the definition says" } else { "" };
        let version = one["version"].as_u64().map_or("removed".to_owned(), |version| format!("v{version}"));
        println!(
            "{:<24} {:<9} {version:<8} {:>9} calls {:>7} open {:>7} failures{drift}",
            format!("{}/{}", word("type"), word("function")),
            word("kind"),
            one["calls"],
            one["open"],
            one["failures"],
        );
        if one["is_breaker_open"] == true {
            println!("  its circuit breaker is open: calls fail at once");
        }
        if one["held"].as_u64() > Some(0) {
            println!("  waited {} times for functions' time, which `limits` bound", one["held"]);
        }
        if let Some(reason) = one["last_failure"].as_str() {
            println!("  failed last: {reason}");
        }
        if one["shadow"].is_object() {
            list_shadow(&one["shadow"]);
        }
    }
    Ok(())
}

/// What has come of a shadow run, and its newest differences.
fn list_shadow(shadow: &Value) {
    println!(
        "  shadow run of v{} on {} % of the twins ({} so far): {} of {} updates differ, {} failures, {} unpaired",
        shadow["version"],
        shadow["percent"].as_f64().unwrap_or_default(),
        shadow["twins"],
        shadow["different"],
        shadow["compared"],
        shadow["failures"],
        shadow["unpaired"],
    );
    let all = |key: &str| shadow[key].as_array().cloned().unwrap_or_default();
    for one in all("properties").iter().filter(|one| one["different"] != 0) {
        let largest = one["largest"].as_f64().map_or(String::new(), |by| format!(", by {by} at most"));
        println!("    {}: {} differ{largest}", one["name"].as_str().unwrap_or_default(), one["different"]);
    }
    let given = |one: &Value| match one["failure"].as_str() {
        Some(reason) => format!("no answer ({reason})"),
        None => one["values"].to_string(),
    };
    for one in all("samples").iter().rev().take(SAMPLES_SHOWN) {
        let twin = one["twin"].as_str().unwrap_or_default();
        println!("    {twin}, update {}: {} -> {}", one["update"], given(&one["now"]), given(&one["shadow"]));
    }
}

fn show(remote: &RemoteArguments, put: &Value) {
    if remote.json {
        println!("{put}");
        return;
    }
    let word = |key: &str| put[key].as_str().unwrap_or_default();
    let how = match word("how") {
        "live" => "on all workers at once",
        _ => "at a checkpoint",
    };
    println!(
        "function {}/{} is at version {}, applied {how}",
        word("type"),
        word("function"),
        put["version"]
    );
    if put["shadow"].is_u64() {
        println!("version {} runs beside it; `function list` shows what differs", put["shadow"]);
    }
}

/// A path with its parameters.
fn with_type(path: &str, arguments: &FunctionArguments, more: &[(&str, &str)]) -> String {
    let twin_type = arguments.twin_type.as_deref().map(|one| ("type", one));
    let all = more.iter().copied().chain(twin_type).map(|(name, value)| (name, value.to_owned()));
    with_query(path, &all.collect::<Vec<_>>())
}
