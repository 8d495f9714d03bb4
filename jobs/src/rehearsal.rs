//! What a job would do with messages, step by step (`twinloom try`): the same decoder and the same steps as in the
//! engine, on twins that were never heard before, with listeners that only show.
//!
//! ```text
//!   topic, payload ─► decoder ─► steps of the twin ─► digital events      a line for all that happens on the way
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use dataflows::plan::{ListenerPlan, Plan, SourcePlan};
use operators::batch::{Event, EventBatch};
use operators::decode::{DeadLetter, Message};
use operators::digital::{DigitalKind, Envelope};
use operators::handler::{DigitalEvents, Entangled, Happened, Lived, Of, Physical, State};
use operators::model::{Kind, Model, Value};
use operators::roster::{Facts, Roster};
use operators::shadowing::TimeSource;
use operators::steps::{self, Scratch, Update};
use operators::time::{ArrivalTime, DigitalTime};
use operators::twin::{Twin, TwinType};
use operators::waiting::{SoFar, Wanted};

use crate::summary::instant;

/// A job that is rehearsed.
pub struct Rehearsal {
    types: Vec<TwinType>,
    sources: Vec<SourcePlan>,
    roster: Arc<Roster>,
    twins: BTreeMap<String, Twin>,
    heard: Heard,
    shown: String,
}

/// A message as a device sends it.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// The key of its record, on a bus that has keys.
    pub key: Option<&'a str>,
    /// Its payload.
    pub payload: &'a [u8],
    /// When it comes, microseconds since 1970.
    pub at_us: i64,
}

impl Rehearsal {
    /// Nothing heard yet.
    pub fn new(plan: Plan) -> Self {
        let envelope = Envelope::new(&plan.job, 1, plan.types.iter());
        let sinks = plan.sinks.iter().map(|sink| sink.name.clone()).collect();
        let heard = Heard { envelope, sinks, listeners: plan.listeners, lines: String::new() };
        let (twins, shown) = (BTreeMap::new(), String::new());
        Self { types: plan.types, sources: plan.sources, roster: plan.roster, twins, heard, shown }
    }

    /// What the job does with a message, as text. Each source that has a stream for its topic takes it.
    pub fn take(&mut self, tried: Tried<'_>) -> String {
        self.shown.clear();
        let mut nobody = Vec::new();
        for number in 0..self.sources.len() {
            let (mut events, mut letters) = (EventBatch::default(), Vec::new());
            let source = &mut self.sources[number];
            let absent = vec![None; source.decoder.headers().len()];
            let message = Message {
                position: 0,
                arrived_at: ArrivalTime(tried.at_us),
                topic: tried.topic.as_bytes(),
                key: tried.key.map(str::as_bytes),
                headers: &absent,
                payload: tried.payload,
                retained: false,
                oversize: None,
            };
            let is_taken = source.decoder.takes(tried.topic);
            source.decoder.decode(&message, &mut events, &mut letters);
            match is_taken {
                true => {
                    _ = writeln!(self.shown, "from {}", source.name);
                    self.steps(&events, &letters);
                }
                false => nobody.push(format!("{} ({})", source.name, source.decoder.filters().join(", "))),
            }
        }
        if nobody.len() == self.sources.len() {
            let topic = tried.topic;
            _ = writeln!(self.shown, "no stream takes the topic {topic}; there are: {}", nobody.join("; "));
        }
        std::mem::take(&mut self.shown)
    }

    fn steps(&mut self, events: &EventBatch, letters: &[DeadLetter]) {
        for letter in letters {
            _ = writeln!(self.shown, "  1 dead letter: {}", letter.reason);
        }
        for event in events.events() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event<'_>) {
        let definition = &self.types[usize::from(event.head.twin_type)];
        let model = &definition.model;
        let shown = &mut self.shown;
        let stream = definition.stream(event.head.stream).map_or("", |stream| stream.name.as_str());
        let values = event.properties().map(|(property, value)| named(model, property, value));
        let happened =
            event.events().map(|(event, json)| format!("{} {json}", model.events[usize::from(event)]));
        let carried: Vec<String> = values.chain(happened).collect();
        _ = writeln!(
            shown,
            "  1 {stream}: {} `{}` at {}",
            definition.name,
            event.id,
            instant(event.head.physical_at.0)
        );
        _ = writeln!(shown, "      {}", carried.join(", "));

        let twin = self.twins.entry(event.id.to_owned());
        let twin = twin.or_insert_with(|| Twin::new(event.head.twin_type, definition));
        let mut scratch = Scratch::default();
        let row = self.roster.find(event.head.hash, event.id);
        let row = row.filter(|row| row.twin_type() == event.head.twin_type);
        twin.class = row.map_or(0, |row| row.class(&definition.terms));
        let facts = Facts::of(row);
        let mut calls = calls_that_wait(twin, &event, definition, facts);
        let digital_at = DigitalTime(event.head.arrived_at.0.max(twin.handled.digital_at.0));
        let update = Update { event, digital_at, binds: true, facts };
        self.heard.lines.clear();
        let none = std::iter::empty();
        let applied = steps::apply(event.id, twin, definition, &update, none, &mut scratch, &mut self.heard);
        calls.append(&mut scratch.wanted);

        let names = |properties: &[u16]| -> String {
            let name = |property: &u16| model.properties[usize::from(*property)].name.as_str();
            let names: Vec<&str> = properties.iter().map(name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let time = match applied.shadowed.time_source {
            _ if applied.shadowed.stale => "; stale: older than what the twin has",
            TimeSource::Rejected => "; the device's time is not believed, and the update is late",
            TimeSource::Device | TimeSource::Arrival => "",
        };
        let number = applied.shadowed.update;
        _ = writeln!(shown, "  2 update {number} takes {}{time}", names(&scratch.touched.taken));
        let computed: Vec<u16> = definition.functions.computed().collect();
        let written = scratch.touched.changed.iter().filter(|property| computed.contains(property));
        let written = written
            .filter_map(|property| Some(named(model, *property, twin.shadow.value(model, *property)?)));
        let written: Vec<String> = written.collect();
        let written = if written.is_empty() { "nothing new".to_owned() } else { written.join(", ") };
        _ = writeln!(shown, "  3 functions write {written}");
        for Wanted { function, body, .. } in calls {
            let Some(outside) = definition.functions.called_at(function) else { continue };
            let told = String::from_utf8_lossy(&body);
            _ = writeln!(shown, "      {} ({}) would be called with {told}", outside.name, outside.kind);
        }
        for failed in &scratch.failed {
            let name = &definition.functions.names()[usize::from(failed.function)];
            _ = writeln!(shown, "      {name} failed: {}", failed.reason);
        }
        if applied.refused > 0 {
            _ = writeln!(shown, "      {} results outside of their range were not taken", applied.refused);
        }
        let measure = twin.entanglement.measure(digital_at.0, definition.terms_of(twin));
        let (phase, revision) = (twin.life_cycle.phase().word(), twin.handled.revision);
        _ = writeln!(shown, "  4 {phase}, revision {revision}, ODTE {:.3}", measure.odte);
        shown.push_str(&self.heard.lines);
    }
}

/// The calls for whose answers the update would wait. Nobody answers here, so it goes on without.
fn calls_that_wait(twin: &Twin, event: &Event<'_>, definition: &TwinType, facts: Facts<'_>) -> Vec<Wanted> {
    let (mut scratch, mut waiting) = (Scratch::default(), twin.waiting.clone());
    let so_far = SoFar { shadow: &twin.shadow, augmentation: &twin.augmentation, facts };
    if definition.functions.shadowing().is_some() {
        waiting.hold_unshadowed(so_far, event, None, definition, &mut scratch.wanted);
    }
    waiting.hold(so_far, event, None, definition, &mut scratch.touched, &mut scratch.wanted);
    scratch.wanted
}

/// `name = value`.
fn named(model: &Model, property: u16, value: Value<'_>) -> String {
    let property = &model.properties[usize::from(property)];
    let value = match (value, &property.kind) {
        (Value::Double(number), _) => number.to_string(),
        (Value::Integer(number), _) => number.to_string(),
        (Value::Boolean(flag), _) => flag.to_string(),
        (Value::Enum(word), Kind::Enum(words)) => words[usize::from(word)].clone(),
        (Value::Enum(word), _) => word.to_string(),
        (Value::Text(text), _) => format!("{text:?}"),
        (Value::Json(json), _) => json.to_owned(),
    };
    format!("{} = {value}", property.name)
}

/// Step 5: what listeners would hear.
struct Heard {
    envelope: Envelope,
    sinks: Vec<String>,
    listeners: Vec<ListenerPlan>,
    lines: String,
}

impl Heard {
    fn tell(&mut self, of: Of<'_>, kind: DigitalKind, encode: impl FnOnce(&mut Envelope, &mut Vec<u8>)) {
        let mut json = Vec::new();
        encode(&mut self.envelope, &mut json);
        for listener in self.listeners.iter().filter(|listener| listener.kinds.contains(&kind)) {
            let mut topic = Vec::new();
            listener.topic.write(of.id, &of.definition.name, kind, &mut topic);
            let (topic, json) = (String::from_utf8_lossy(&topic), String::from_utf8_lossy(&json));
            _ = writeln!(self.lines, "  5 {} {topic}\n      {json}", self.sinks[listener.sink]);
        }
    }
}

impl DigitalEvents for Heard {
    fn physical(&mut self, _: Of<'_>, _: &Physical<'_>) {}

    fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        self.tell(of, DigitalKind::State, |envelope, out| envelope.state(of, state, out));
    }

    fn entangled(&mut self, of: Of<'_>, entangled: &Entangled) {
        self.tell(of, DigitalKind::Entanglement, |envelope, out| envelope.entangled(of, entangled, out));
    }

    fn lived(&mut self, of: Of<'_>, lived: &Lived) {
        self.tell(of, DigitalKind::Lifecycle, |envelope, out| envelope.lived(of, lived, out));
    }

    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        self.tell(of, DigitalKind::Event, |envelope, out| envelope.happened(of, happened, out));
    }
}
