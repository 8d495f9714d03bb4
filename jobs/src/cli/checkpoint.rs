//! `twinloom checkpoint`: lists, shows, verifies and exports what a job keeps. The job may run meanwhile.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dataflows::checkpoint::inspect;
use dataflows::checkpoint::manifest::OutboxPart;
use dataflows::checkpoint::{CheckpointId, Manifest, SourceMark};
use operators::model::{Kind, Value};
use operators::twin::{Twin, TwinType};
use serde_json::{Map, json};

use super::Failure;
use super::kept::KeptArguments;
use super::output::Output;
use crate::summary::instant;

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// List the checkpoints of a job, oldest first
    List(KeptArguments),
    /// Show what a checkpoint consists of
    Show(OneArguments),
    /// Read all of a checkpoint, and say whether it is whole
    Verify(OneArguments),
    /// Write the twins of a checkpoint, one JSON object a line
    Export(ExportArguments),
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub(super) struct OneArguments {
    #[command(flatten)]
    kept: KeptArguments,
    /// The checkpoint, as `list` names it, such as 3-17 [default: the newest]
    #[arg(long, value_name = "ID")]
    id: Option<CheckpointId>,
}

/// Where the twins go.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    one: OneArguments,
    /// The file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn execute(command: &CheckpointCommand) -> Result<(), Failure> {
    match command {
        CheckpointCommand::List(kept) => list(kept),
        CheckpointCommand::Show(one) => show(one),
        CheckpointCommand::Verify(one) => verify(one),
        CheckpointCommand::Export(export) => self::export(export),
    }
}

fn list(arguments: &KeptArguments) -> Result<(), Failure> {
    let kept = arguments.open()?;
    let all = inspect::list(&*kept.store).map_err(Failure::of)?;
    if arguments.json {
        let all: Vec<_> = all
            .iter()
            .map(|(id, manifest)| match manifest {
                Ok(manifest) => summary(manifest),
                Err(error) => json!({"id": id.to_string(), "error": error.to_string()}),
            })
            .collect();
        println!("{}", serde_json::Value::Array(all));
        return Ok(());
    }
    if all.is_empty() {
        println!("no checkpoint in {}", kept.data.display());
    }
    for (id, manifest) in all {
        match manifest {
            Ok(manifest) => println!(
                "{:<10} {}  {} twins, {} bytes in {} objects",
                id.to_string(),
                instant(manifest.at_us),
                manifest.twins,
                manifest.bytes(),
                manifest.parts.len()
            ),
            Err(error) => println!("{:<10} not usable: {error}", id.to_string()),
        }
    }
    Ok(())
}

fn show(arguments: &OneArguments) -> Result<(), Failure> {
    let kept = arguments.kept.open()?;
    let manifest = kept.manifest(arguments.id)?;
    if arguments.kept.json {
        println!("{}", serde_json::to_string(&manifest).map_err(Failure::of)?);
        return Ok(());
    }
    println!("checkpoint {} of {}, {}", manifest.id, manifest.job, instant(manifest.at_us));
    println!(
        "  {} twins on {} workers, written by version {}",
        manifest.twins, manifest.workers, manifest.program
    );
    for part in &manifest.parts {
        println!("  object {}: {} records, {} bytes", part.name, part.records, part.bytes);
    }
    for source in &manifest.sources {
        println!("{}", source_lines(source, manifest.recorded));
    }
    for outbox in &manifest.outboxes {
        println!("{}", outbox_line(outbox));
    }
    for part in &manifest.archive {
        let open: u64 = part.segments.iter().map(|segment| segment.rows).sum();
        let (worker, planned) = (part.worker, part.files.len());
        println!(
            "  archive of worker {worker}: {open} rows wait for their file, {planned} files that may still have to be made"
        );
    }
    for one in &manifest.layout.types {
        println!("  type {}: {} properties", one.name, one.properties.len());
    }
    Ok(())
}

fn verify(arguments: &OneArguments) -> Result<(), Failure> {
    let kept = arguments.kept.open()?;
    let manifest = kept.manifest(arguments.id)?;
    inspect::verify(&*kept.store, &manifest).map_err(Failure::of)?;
    match arguments.kept.json {
        true => println!("{}", json!({"id": manifest.id.to_string(), "whole": true})),
        false => println!("checkpoint {} is whole: {} bytes read", manifest.id, manifest.bytes()),
    }
    Ok(())
}

fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let kept = arguments.one.kept.open()?;
    let manifest = kept.manifest(arguments.one.id)?;
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}; name another file", path.display()))
        })?)),
        None => Box::new(BufWriter::new(Output)),
    };
    let plan = kept.job.plan();
    let written = inspect::twins(&*kept.store, &manifest, &plan.types, |id, twin| {
        let definition = &plan.types[usize::from(twin.twin_type)];
        writeln!(out, "{}", line(id, &twin, definition))?;
        Ok(())
    });
    written.map_err(Failure::of)?;
    out.flush().map_err(Failure::of)
}

/// Where a source goes on: a line, and one for each of its partitions where it has some.
fn source_lines(source: &SourceMark, recorded: bool) -> String {
    let SourceMark { name, next, .. } = source;
    if recorded {
        return format!("  source {name} goes on at {}", instant(next.number() as i64));
    }
    let partitions: Vec<(&str, u64)> = next.parts().filter(|(partition, _)| !partition.is_empty()).collect();
    if next.is_begin() {
        return format!("  source {name} goes on at its begin");
    }
    if partitions.is_empty() {
        return format!("  source {name} goes on at position {next}");
    }
    let mut lines = format!("  source {name} goes on in {} partitions", partitions.len());
    for (partition, position) in partitions {
        lines += &format!("\n    {partition} at {position}");
    }
    lines
}

/// Messages that a checkpoint has for a sink. They may have been sent since it was written.
fn outbox_line(outbox: &OutboxPart) -> String {
    let OutboxPart { sink, process, id, part } = outbox;
    format!(
        "  outbox of checkpoint {id} for sink {sink}, process {process}: {} messages, {} bytes",
        part.records, part.bytes
    )
}

/// One line of the list, for programs.
fn summary(manifest: &Manifest) -> serde_json::Value {
    json!({
        "id": manifest.id.to_string(),
        "at": instant(manifest.at_us),
        "twins": manifest.twins,
        "bytes": manifest.bytes(),
        "objects": manifest.parts.len(),
        "workers": manifest.workers,
    })
}

/// A twin for programs.
fn line(id: &str, twin: &Twin, definition: &TwinType) -> serde_json::Value {
    let mut properties = Map::new();
    for (number, property) in (0u16..).zip(&definition.model.properties) {
        let Some(value) = twin.shadow.value(&definition.model, number) else { continue };
        properties.insert(property.name.clone(), value_of(value, &property.kind));
    }
    json!({
        "twin": id,
        "type": definition.name,
        "lifecycle": twin.life_cycle.phase().word(),
        "update": twin.shadow.update(),
        "revision": twin.handled.revision,
        "digital_at": instant(twin.handled.digital_at.0),
        "properties": properties,
    })
}

fn value_of(value: Value<'_>, kind: &Kind) -> serde_json::Value {
    match (value, kind) {
        (Value::Double(number), _) => json!(number),
        (Value::Integer(number), _) => json!(number),
        (Value::Boolean(flag), _) => json!(flag),
        (Value::Enum(word), Kind::Enum(words)) => json!(words.get(usize::from(word))),
        (Value::Enum(word), _) => json!(word),
        (Value::Text(text), _) => json!(text),
        // It was checked when it came in; a text is the honest answer where it is none all the same.
        (Value::Json(text), _) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use connectors::parts::PartInfo;
    use connectors::place::Place;

    use super::*;

    #[test]
    fn a_source_goes_on_where_its_place_says() {
        let partitions = [("plant.a/0".to_owned(), 7), ("plant.a/10".to_owned(), 0)];
        for (next, recorded, expected) in [
            (Place::at(42), false, "  source bus goes on at position 42"),
            (Place::default(), false, "  source bus goes on at its begin"),
            (Place::at(1_000_000), true, "  source bus goes on at 1970-01-01T00:00:01.000Z"),
            (
                partitions.into_iter().collect(),
                false,
                "  source bus goes on in 2 partitions\n    plant.a/0 at 7\n    plant.a/10 at 0",
            ),
        ] {
            let mark = SourceMark { name: "bus".into(), next, lost_us: None };
            assert_eq!(source_lines(&mark, recorded), expected);
        }
    }

    #[test]
    fn an_outbox_says_whose_it_is() {
        let part = PartInfo { name: "parts/x".into(), bytes: 900, records: 12, checksum: 1 };
        let id = CheckpointId { generation: 3, number: 17 };
        let outbox = OutboxPart { sink: "bus-exactly-once".into(), process: 1, id, part };
        assert_eq!(
            outbox_line(&outbox),
            "  outbox of checkpoint 3-17 for sink bus-exactly-once, process 1: 12 messages, 900 bytes"
        );
    }
}
