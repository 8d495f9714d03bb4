//! Definition -> plan: what was checked, with the means to open sources and sinks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use connectors::function::wasm::WasmSettings;
use connectors::function::{http, python};
use connectors::sink::SinkSetup;
use connectors::source::SourceSetup;
use connectors::{file, kafka, mqtt, webhook};
use dataflows::plan::{
    ArchivePlan, CheckpointPlan, FunctionPlan, Limits, OpenFunction, OpenSink, OpenSource, Plan, SinkPlan,
    SourcePlan,
};
use dataflows::spread::{self, Form};
use operators::decode::Decoder;
use operators::functions::{CallSettings, SHADOWING, Takes};

use crate::checks::{Checked, SinkOf, client_id, group};
use crate::definition::functions::{FunctionDefinition, KindDefinition, Sourced};
use crate::definition::{ConnectionSettings, Definition, TypeSettings};
use crate::wasm;

/// Puts a plan together.
pub(crate) fn plan(definition: &Definition, checked: Checked) -> Plan {
    let identities: HashMap<&str, String> = definition
        .connections
        .iter()
        .filter_map(|(name, connection)| match connection {
            ConnectionSettings::Mqtt(mqtt) => Some((name.as_str(), client_id(definition, name, mqtt))),
            ConnectionSettings::Kafka(kafka) => Some((name.as_str(), group(definition, name, kafka))),
            ConnectionSettings::File(_) | ConnectionSettings::Webhook(_) => None,
        })
        .collect();
    let identity = |name: &str| identities.get(name).cloned().unwrap_or_default();
    let sources = checked.sources.into_iter().enumerate().map(|(source, (name, routes))| {
        let connection = &definition.connections[&name];
        SourcePlan {
            decoder: Decoder::new(source as u16, routes),
            is_shared: matches!(connection, ConnectionSettings::Kafka(_)),
            open: open_source(connection, identity(&name)),
            name,
        }
    });
    let sinks = checked.sinks.into_iter().map(|sink| {
        let connection = &definition.connections[&sink.connection];
        SinkPlan {
            name: sink.name(),
            is_keyed: matches!(connection, ConnectionSettings::Kafka(_)),
            open: open_sink(&sink, connection, identity(&sink.connection)),
        }
    });
    let functions = checked.types.iter().map(|one| open_functions(&definition.types[&one.name]));
    Plan {
        job: definition.job.clone(),
        functions: functions.collect(),
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
        roster: checked.roster,
        limits: Limits {
            twins_max: definition.limits.twins,
            dead_letters_per_second_max: definition.limits.dead_letters,
            in_flight_bytes_max: usize::try_from(definition.limits.in_flight.as_u64()).unwrap_or(usize::MAX),
            rates: definition.limits.rates(),
            overload: definition.limits.on_overload.into(),
            priority: definition.limits.priority.into(),
        },
    }
}

/// Functions outside of a type, in the order of the job; behind them those that are tried out, and step 2.
fn open_functions(settings: &TypeSettings) -> Vec<FunctionPlan> {
    let in_force = settings.augmentation.iter();
    let tried_out = settings.augmentation.iter().filter_map(|(name, function)| {
        let trial = function.trial.as_ref()?;
        Some((name, &trial.function))
    });
    let functions = in_force.map(|(name, function)| (name.as_str(), function));
    let tried_out = tried_out.map(|(name, function)| (name.as_str(), function));
    let shadowing = settings.shadow.iter().map(|function| (SHADOWING, function));
    let all = functions.chain(tried_out).chain(shadowing);
    all.filter_map(|(name, function)| open_function(name, function)).collect()
}

fn open_function(name: &str, function: &FunctionDefinition) -> Option<FunctionPlan> {
    let name = name.to_owned();
    let open: OpenFunction = match function.kind.clone() {
        KindDefinition::Inside(_) => return None,
        KindDefinition::Wasm(_) if !function.call.spread => return None,
        KindDefinition::Wasm(module) => open_spread(&name, module, &function.call),
        KindDefinition::Http(settings) => Box::new(move || Ok(http::start(&settings)?)),
        KindDefinition::Python(python) => {
            let name = name.clone();
            Box::new(move || Ok(python::start(&name, &python.code, python.settings)?))
        }
    };
    Some(FunctionPlan { name, open })
}

/// One that is spread has a thread for each core at most.
fn open_spread(name: &str, module: Sourced<WasmSettings>, call: &CallSettings) -> OpenFunction {
    let (name, of) = (name.to_owned(), call.of.clone());
    let yields = call.yields.first().unwrap_or(&name).clone();
    Box::new(move || {
        let host = wasm::host(&module).map_err(|problem| problem.message)?;
        let form = match host.0.takes() {
            Takes::Body => Form::Body,
            Takes::Numbers(_) => Form::Numbers { of, yields },
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(spread::start(&name, host, form, threads))
    })
}

/// `identity` is how the source shows itself: a client id, or a group.
fn open_source(connection: &ConnectionSettings, identity: String) -> OpenSource {
    let connection = connection.clone();
    Box::new(move |setup: SourceSetup| {
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => mqtt::source::start(setup, &mqtt, &identity)?,
            ConnectionSettings::Kafka(settings) => kafka::source::start(setup, &settings, &identity)?,
            ConnectionSettings::File(file) => file::source::start(setup, &file)?,
            ConnectionSettings::Webhook(_) => return Err("a webhook is no source".into()),
        })
    })
}

/// Sinks are each process's own, so each has a client id, or a file, of its own (rule 7.9).
fn open_sink(sink: &SinkOf, connection: &ConnectionSettings, identity: String) -> OpenSink {
    let (name, exactly_once, connection) = (sink.name(), sink.exactly_once, connection.clone());
    Box::new(move |setup: SinkSetup| {
        let process = setup.process;
        Ok(match connection {
            ConnectionSettings::Mqtt(mqtt) => {
                mqtt::sink::start(&name, &mqtt, &format!("{identity}-sink-{process}"))?.into()
            }
            ConnectionSettings::Kafka(settings) if exactly_once => {
                kafka::outbox::start(setup, &settings)?.into()
            }
            ConnectionSettings::Kafka(settings) => kafka::sink::start(&setup, &settings)?.into(),
            ConnectionSettings::Webhook(settings) => webhook::start(&name, &settings)?.into(),
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
    use operators::digital::DigitalKind;

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
        assert!(!plan.sources[0].is_shared && !plan.sinks[0].is_keyed);
        assert_eq!((plan.limits.twins_max, plan.limits.dead_letters_per_second_max), (7, 3));
    }

    /// A connection may be read, published to at least once, and published to exactly once.
    #[test]
    fn a_kafka_connection_is_a_source_and_two_sinks() {
        let text = include_str!("../../examples/both-buses.yaml")
            .replace("\ndigital:\n", "\ndigital:\n  - {to: bus, topic: other, kinds: [event]}\n");
        let plan = Job::parse("both-buses.yaml", &text, None).expect("the example is valid").plan();
        let sources: Vec<_> = plan
            .sources
            .iter()
            .map(|source| (source.name.as_str(), source.is_shared, source.decoder.filters().join(" ")))
            .collect();
        assert_eq!(
            sources,
            [
                ("floor", false, "press/+/telemetry".to_owned()),
                ("bus", true, "plant.+.maintenance".to_owned())
            ]
        );
        let sinks: Vec<_> = plan.sinks.iter().map(|sink| (sink.name.as_str(), sink.is_keyed)).collect();
        assert_eq!(sinks, [("bus", true), ("floor", false), ("bus-exactly-once", true)]);
        let mut topics = Vec::new();
        for listener in &plan.listeners {
            let mut topic = Vec::new();
            listener.topic.write("p/1", "press", DigitalKind::State, &mut topic);
            let topic = String::from_utf8_lossy(&topic).into_owned();
            topics.push((listener.sink, topic, listener.retains(DigitalKind::State)));
        }
        let expected =
            [(0, "other", false), (1, "twins/both-buses/p%2F1/state", true), (2, "twins.both-buses", false)];
        assert_eq!(topics, expected.map(|(sink, topic, retains)| (sink, topic.to_owned(), retains)));
    }
}
