//! Definition -> plan: what was checked, with the means to open sources and sinks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use connectors::sink::SinkSetup;
use connectors::source::SourceSetup;
use connectors::{file, mqtt};
use dataflows::plan::{
    ArchivePlan, CheckpointPlan, Limits, OpenSink, OpenSource, Plan, SinkPlan, SourcePlan,
};
use operators::decode::Decoder;

use crate::checks::{Checked, client_id};
use crate::definition::{ConnectionSettings, Definition};

/// Puts a plan together.
pub(crate) fn plan(definition: &Definition, checked: Checked) -> Plan {
    let client_ids: HashMap<&str, String> = definition
        .connections
        .iter()
        .filter_map(|(name, connection)| match connection {
            ConnectionSettings::Mqtt(mqtt) => Some((name.as_str(), client_id(definition, name, mqtt))),
            ConnectionSettings::File(_) => None,
        })
        .collect();
    let client_id = |name: &str| client_ids.get(name).cloned().unwrap_or_default();
    let sources = checked.sources.into_iter().enumerate().map(|(source, (name, routes))| SourcePlan {
        decoder: Decoder::new(source as u16, routes),
        is_shared: false,
        open: open_source(&definition.connections[&name], client_id(&name)),
        name,
    });
    let sinks = checked.sinks.into_iter().map(|name| SinkPlan {
        is_keyed: false,
        open: open_sink(&name, &definition.connections[&name], client_id(&name)),
        name,
    });
    Plan {
        job: definition.job.clone(),
        types: checked.types,
        sources: sources.collect(),
        sinks: sinks.collect(),
        listeners: checked.listeners,
        archive: definition
            .archive
            .as_ref()
            .map(|history| ArchivePlan { settings: history.archive(), physical: history.physical }),
        checkpoint: CheckpointPlan {
            interval: Some(definition.checkpoint.interval),
            retain: definition.checkpoint.retain,
            store: definition.checkpoint.store.clone(),
        },
        time: checked.time,
        limits: Limits {
            twins_max: definition.limits.twins,
            dead_letters_per_second_max: definition.limits.dead_letters,
            in_flight_bytes_max: usize::try_from(definition.limits.in_flight.as_u64()).unwrap_or(usize::MAX),
        },
    }
}

fn open_source(connection: &ConnectionSettings, client_id: String) -> OpenSource {
    let connection = connection.clone();
    Box::new(move |setup: SourceSetup| {
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => mqtt::source::start(setup, &mqtt, &client_id)?,
            ConnectionSettings::File(file) => file::source::start(setup, &file)?,
        })
    })
}

/// Sinks are each process's own, so each has a client id, or a file, of its own (rule 7.9).
fn open_sink(name: &str, connection: &ConnectionSettings, client_id: String) -> OpenSink {
    let (name, connection) = (name.to_owned(), connection.clone());
    Box::new(move |setup: SinkSetup| {
        let process = setup.process;
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => {
                mqtt::sink::start(&name, &mqtt, &format!("{client_id}-sink-{process}"))?.into()
            }
            ConnectionSettings::File(mut file) => {
                file.path = path_of_process(&file.path, process);
                file::sink::start(&name, &file)?.into()
            }
        })
    })
}

/// `out.jsonl` is that of the first process, `out-1.jsonl` of the second.
fn path_of_process(path: &Path, process: usize) -> PathBuf {
    if process == 0 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{process}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn each_process_writes_a_file_of_its_own() {
        for (path, process, expected) in
            [("a/out.jsonl", 0, "a/out.jsonl"), ("a/out.jsonl", 1, "a/out-1.jsonl"), ("out", 12, "out-12")]
        {
            assert_eq!(path_of_process(Path::new(path), process), Path::new(expected));
        }
    }

    #[test]
    fn the_plan_is_the_definition_in_numbers() {
        let text = include_str!("../../examples/first.yaml")
            .replace("archive: {path: ./archive}", "archive: {path: a, physical: false}")
            .replace("job: first-twins", "limits: {twins: 7, dead_letters: 3/s}\njob: first-twins");
        let plan = Job::parse("first.yaml", &text, None).expect("the example is valid").plan();
        assert_eq!(plan.job, "first-twins");
        assert_eq!(plan.types.len(), 1);
        assert_eq!(plan.types[0].sources, [0]);
        assert_eq!(plan.types[0].streams[0].name, "telemetry");
        assert_eq!(plan.sources.len(), 1);
        assert_eq!(plan.sources[0].name, "plant");
        assert_eq!(plan.sources[0].decoder.filters(), ["device/+/telemetry/device_state"]);
        assert_eq!(plan.sinks.len(), 1);
        assert_eq!(plan.listeners[0].kinds.len(), 4);
        assert!(!plan.archive.as_ref().expect("an archive").physical);
        assert_eq!((plan.limits.twins_max, plan.limits.dead_letters_per_second_max), (7, 3));
    }
}
