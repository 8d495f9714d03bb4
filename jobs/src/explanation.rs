//! What a job is made of (`twinloom explain`): the steps that it was written in, the operators that run them, what a
//! twin costs, and what is promised from each source to each listener.

use std::fmt::Write;
use std::time::Duration;

use dataflows::plan::{Plan, SourcePlan};
use operators::digital::DigitalKind;
use operators::functions::SHADOWING;
use operators::id::BINS;
use operators::twin::{Twin, TwinType};

use crate::checks::is_shared;
use crate::definition::functions::FunctionDefinition;
use crate::definition::{ConnectionSettings, Definition, Input, Origin, TypeSettings};
use crate::findings::Findings;

/// Bytes of a property in a twin's record, beside its text.
const PROPERTY_BYTES: usize = 16;
/// Width of what stands before a line's text.
const MARGIN: usize = 27;

/// The explanation of a job that is valid, of its definition and its plan, and of what is not carried over from its
/// model files.
pub fn explain(definition: &Definition, plan: &Plan, notes: &[Findings]) -> String {
    let mut page = Page::default();
    models(definition, notes, &mut page);
    page.title("steps");
    steps(definition, &plan.types, &mut page);
    page.title("operators of each worker");
    operators(definition, plan, &mut page);
    page.title("state of a twin");
    for one in &plan.types {
        let settings = &definition.types[&one.name];
        page.entry(&one.name, &state(one, settings));
    }
    page.title("promises");
    promises(definition, plan, &mut page);
    page.text
}

/// Text in two columns.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        _ = writeln!(self.text, "{gap}{title}");
    }

    fn entry(&mut self, name: &str, text: &str) {
        _ = writeln!(self.text, "  {name:<width$} {text}", width = MARGIN - 2);
    }

    fn list(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        let mut name = name;
        for line in lines {
            self.entry(std::mem::take(&mut name), &line);
        }
    }
}

/// Models from elsewhere: what they declare, and what of them is not carried over.
fn models(definition: &Definition, notes: &[Findings], page: &mut Page) {
    let origins: Vec<(&String, &Origin)> =
        definition.types.iter().filter_map(|(name, one)| Some((name, one.origin.as_ref()?))).collect();
    if origins.is_empty() {
        return;
    }
    page.title("models");
    for (name, Origin { language, file, counts }) in origins {
        let [properties, events, relationships, actions] = counts;
        let declares = format!(
            "{properties} properties, {events} events, {relationships} relationships, {actions} actions"
        );
        page.entry(name, &format!("{file} ({}): {declares}", language.name()));
    }
    let line = |findings: &Findings| {
        let name = findings.name.clone();
        let lines = findings
            .all
            .iter()
            .map(move |one| format!("{name}:{}:{}: {}", one.span.line, one.span.column, one.message));
        lines.collect::<Vec<_>>()
    };
    page.list("not carried over", notes.iter().flat_map(line));
}

fn steps(definition: &Definition, types: &[TwinType], page: &mut Page) {
    let all = || definition.types.iter();
    let input = |(twin_type, input): (&String, Input<'_>)| {
        format!("{twin_type}.{} from {}: {}", input.name(), input.from, input.topics.join(", "))
    };
    let inputs = all().flat_map(|(name, one)| one.inputs().map(move |input| (name, input)));
    page.list("1 physical event handler", inputs.map(input));
    let shadowing = |(name, one): (&String, &TypeSettings)| match &one.shadow {
        Some(function) => format!("{name}: what {} {} answers", SHADOWING, place(function)),
        None => {
            let streams = one.physical.values().flat_map(|stream| stream.properties.keys());
            let mut properties: Vec<&str> = streams.map(String::as_str).collect();
            properties.sort_unstable();
            properties.dedup();
            format!("{name}: {}", properties.join(", "))
        }
    };
    page.list("2 shadowing", all().map(shadowing));
    let function = |(twin_type, (name, function)): (&String, (&String, &FunctionDefinition))| {
        format!("{twin_type}.{name} {}", place(function))
    };
    let functions = all().flat_map(|(name, one)| one.augmentation.iter().map(move |one| (name, one)));
    page.list("3 augmentation", functions.map(function));
    let judged = |one: &TwinType| {
        let duration = |micros: i64| Duration::from_micros(micros.unsigned_abs());
        let terms = &one.terms;
        let (window, on_time) = (duration(terms.window_us), duration(terms.desired_timeliness_us));
        let name = &one.name;
        format!(
            "{name}: ODTE over {window:?}, on time within {on_time:?}, entangled from {}",
            terms.threshold
        )
    };
    page.list("4 twin handler", types.iter().map(judged));
    let listeners = definition.digital.iter().map(|one| {
        let kinds: Vec<&str> = one.kinds.iter().copied().map(DigitalKind::word).collect();
        let bus = definition.connections.get(&one.to).map(ConnectionSettings::bus);
        let topic = bus.map_or_else(String::new, |bus| format!("{} ", one.topic(bus)));
        format!("{}: {topic}({})", one.to, kinds.join(", "))
    });
    page.list("5 digital event handler", listeners);
}

/// Where a function runs, and what becomes of an update meanwhile.
fn place(function: &FunctionDefinition) -> String {
    let word = function.kind.word();
    match function.is_called() {
        false => format!("({word}): on the worker of its twin"),
        true => {
            let late = format!("{:?}", function.call.on_late).to_lowercase();
            format!("({word}): called, comes back; on_late {late}, at most {} wait", function.call.waiting)
        }
    }
}

fn operators(definition: &Definition, plan: &Plan, page: &mut Page) {
    let mut sources: Vec<&SourcePlan> = plan.sources.iter().collect();
    sources.sort_unstable_by_key(|source| &source.name);
    let source = |source: &SourcePlan| match source.is_shared {
        true => format!("{}: each process reads a share of the partitions", source.name),
        false => format!("{}: read by the first process, decoded on all its workers", source.name),
    };
    page.list("PhysicalEventHandler", sources.into_iter().map(source));
    page.entry("", &format!("│ by the twin's id: a hash of 64 bits, {BINS} bins, each owned by one worker"));
    page.entry("ShadowingToDigitalEvents", "steps 2 to 5, chained, as they share their key");
    page.entry("", "│ on the same worker");
    page.entry("Publish, Commit", "sinks and archive; checkpoints");
    let functions = definition.types.values().flat_map(|one| {
        let shadowing = one.shadow.iter().map(|function| (SHADOWING, function));
        one.augmentation.iter().map(|(name, function)| (name.as_str(), function)).chain(shadowing)
    });
    let called: Vec<&str> =
        functions.filter(|(_, function)| function.is_called()).map(|(name, _)| name).collect();
    if !called.is_empty() {
        page.entry("beside the workers", &called.join(", "));
    }
}

fn state(one: &TwinType, settings: &TypeSettings) -> String {
    let properties = one.model.properties.len();
    let record = size_of::<Twin>();
    let least = record + properties * PROPERTY_BYTES;
    let mut text = format!(
        "{least} bytes and its id at least: a record of {record}, {properties} properties of {PROPERTY_BYTES}; texts, \
         and the observations of {:?}",
        Duration::from_micros(one.terms.window_us.unsigned_abs())
    );
    let keeping: Vec<String> = settings
        .augmentation
        .iter()
        .filter_map(|(name, function)| {
            Some(format!("{name} keeps up to {}", function.call.keeps?.display().si()))
        })
        .collect();
    if !keeping.is_empty() {
        _ = write!(text, "; {}", keeping.join(", "));
    }
    text
}

fn promises(definition: &Definition, plan: &Plan, page: &mut Page) {
    for source in plan.sources.iter().map(|source| &source.name) {
        let connection = &definition.connections[source];
        page.entry(&format!("{source} -> twins"), taken(connection));
        let streams = definition.types.values().flat_map(|one| one.physical.values());
        let mut topics = streams
            .filter(|stream| stream.from == *source)
            .flat_map(|stream| stream.topics.iter().filter(|topic| is_shared(definition, stream, topic)));
        if let Some(topic) = topics.next() {
            let text = "the order of a twin's messages is not promised, as the broker deals them out among the group";
            page.entry("", &format!("{topic}: {text}"));
        }
        for listener in &definition.digital {
            let to = definition.connections.get(&listener.to);
            let promise = match to {
                _ if listener.exactly_once => {
                    "each digital event exactly once, in a transaction with its checkpoint"
                }
                Some(ConnectionSettings::Mqtt(mqtt)) if mqtt.qos == 0 => {
                    "digital events at most once on their way to the broker (qos: 0)"
                }
                Some(ConnectionSettings::Webhook(_)) => {
                    "digital events at least once, grouped; after a crash those since the last checkpoint come again"
                }
                _ => {
                    "digital events at least once; after a crash those since the last checkpoint come again, with a \
                      higher generation"
                }
            };
            page.entry(&format!("{source} -> {}", listener.to), promise);
        }
        if definition.archive.is_some() {
            page.entry(
                &format!("{source} -> archive"),
                "each row exactly once; a file that is visible is final",
            );
        }
    }
}

/// What is promised from a source to the state of twins.
fn taken(connection: &ConnectionSettings) -> &'static str {
    match connection {
        ConnectionSettings::Mqtt(mqtt) if mqtt.qos == 0 => {
            "at most once (qos: 0): what is sent while nobody listens, or just before a crash, is lost"
        }
        ConnectionSettings::Mqtt(mqtt) if mqtt.qos == 2 => {
            "each message once (qos: 2): it is on disk before it is acknowledged, and kept until the broker will not \
             send it again"
        }
        ConnectionSettings::Mqtt(_) => {
            "each message once: it is on disk before it is acknowledged, and known when it is sent again"
        }
        ConnectionSettings::Kafka(_) => "each record once: offsets are part of the checkpoint",
        ConnectionSettings::File(_) | ConnectionSettings::Webhook(_) => {
            "each line once: a restart goes on from the checkpoint"
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::job::Job;

    #[test]
    fn the_examples_are_explained() {
        let text = include_str!("../../examples/both-buses.yaml");
        let job = Job::parse("both-buses.yaml", text, None).expect("the example is valid");
        let definition = job.definition.clone();
        expect![[r#"
            steps
              1 physical event handler  press.telemetry from floor: press/{twin}/telemetry
                                        press.maintenance from bus: plant.{site}.maintenance
              2 shadowing               press: energy, temperature, wear
              4 twin handler            press: ODTE over 60s, on time within 1s, entangled from 0.9
              5 digital event handler   floor: twins/{job}/{twin}/{kind} (state, lifecycle)
                                        bus: twins.{job} (state, event)

            operators of each worker
              PhysicalEventHandler      bus: each process reads a share of the partitions
                                        floor: read by the first process, decoded on all its workers
                                        │ by the twin's id: a hash of 64 bits, 1024 bins, each owned by one worker
              ShadowingToDigitalEvents  steps 2 to 5, chained, as they share their key
                                        │ on the same worker
              Publish, Commit           sinks and archive; checkpoints

            state of a twin
              press                     240 bytes and its id at least: a record of 192, 3 properties of 16; texts, and the observations of 60s

            promises
              floor -> twins            each message once: it is on disk before it is acknowledged, and known when it is sent again
              floor -> floor            digital events at least once; after a crash those since the last checkpoint come again, with a higher generation
              floor -> bus              each digital event exactly once, in a transaction with its checkpoint
              floor -> archive          each row exactly once; a file that is visible is final
              bus -> twins              each record once: offsets are part of the checkpoint
              bus -> floor              digital events at least once; after a crash those since the last checkpoint come again, with a higher generation
              bus -> bus                each digital event exactly once, in a transaction with its checkpoint
              bus -> archive            each row exactly once; a file that is visible is final
        "#]].assert_eq(&super::explain(&definition, &job.plan(), &[]));
    }
}
