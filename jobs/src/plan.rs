//! Definition -> plan: what was checked, with the means to open sources and sinks.

use std::collections::HashMap;

use connectors::{file, mqtt};
use dataflows::plan::{ArchivePlan, Limits, OpenSink, OpenSource, Plan, SinkPlan, SourcePlan, SourcePort};
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
        open: open_source(&name, &definition.connections[&name], client_id(&name)),
        name,
    });
    let sinks = checked.sinks.into_iter().map(|name| SinkPlan {
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
        time: checked.time,
        limits: Limits {
            twins_max: definition.limits.twins,
            dead_letters_per_second_max: definition.limits.dead_letters,
            in_flight_bytes_max: usize::try_from(definition.limits.in_flight.as_u64()).unwrap_or(usize::MAX),
        },
    }
}

fn open_source(name: &str, connection: &ConnectionSettings, client_id: String) -> OpenSource {
    let (name, connection) = (name.to_owned(), connection.clone());
    Box::new(move |port: SourcePort| {
        let SourcePort { filters, lanes, lane_of, clock } = port;
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => {
                mqtt::source::start(&name, &mqtt, &client_id, filters, lanes, lane_of, clock)?
            }
            ConnectionSettings::File(file) => file::source::start(&name, &file, lanes, lane_of, clock)?,
        })
    })
}

/// Sinks are each process's own, so each has a client id of its own (rule 7.9).
fn open_sink(name: &str, connection: &ConnectionSettings, client_id: String) -> OpenSink {
    let (name, connection) = (name.to_owned(), connection.clone());
    Box::new(move |process: usize| {
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => {
                mqtt::sink::start(&name, &mqtt, &format!("{client_id}-sink-{process}"))?
            }
            ConnectionSettings::File(file) => file::sink::start(&name, &file)?,
        })
    })
}
