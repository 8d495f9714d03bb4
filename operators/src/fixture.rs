//! What the tests of several steps share: a type from a few words of JSON, and a twin of it that is
//! led through steps 2 to 4 as a worker does.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::batch::{ClaimedTime, Event, EventBatch, HeadParts};
use crate::entanglement::{EntanglementSettings, ExpectedRate, Terms};
use crate::functions::{FunctionSettings, Functions};
use crate::handler::{self, Augmented, DigitalEvents, Physical};
use crate::model::{EventSettings, Kind, Model, ModelSettings, PropertySettings, Value, compile};
use crate::shadowing::{TimeSource, Touched};
use crate::time::{ArrivalTime, DeviceTime, DigitalTime};
use crate::twin::{StreamOf, Twin, TwinType};

/// Parts of a job file that make a type.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parts {
    properties: IndexMap<String, PropertySettings>,
    events: IndexMap<String, EventSettings>,
    functions: IndexMap<String, FunctionSettings>,
    entanglement: EntanglementSettings,
    /// The rate of each.
    streams: IndexMap<String, ExpectedRate>,
}

/// A type with these [`Parts`], as JSON.
pub(crate) fn twin_type(name: &str, parts: &str) -> TwinType {
    let parts: Parts = serde_json::from_str(parts).expect("the case is well formed");
    let Parts { properties, events, functions, entanglement: settings, streams } = parts;
    let model = compile(&ModelSettings { properties, events, ..ModelSettings::default() });
    let model = model.expect("the model is good");
    let rates: Vec<ExpectedRate> = streams.values().copied().collect();
    TwinType {
        name: name.to_owned(),
        functions: Functions::compile(&functions, &model, &[]).expect("the functions are good"),
        model,
        clock: (&settings.clock).into(),
        terms: Terms::compile(&settings, &rates).expect("the settings are good"),
        sources: vec![0],
        streams: streams.into_keys().map(|name| StreamOf { name, source: 0 }).collect(),
    }
}

/// One physical event, as step 1 would make it.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) physical_us: i64,
    pub(crate) claimed: ClaimedTime,
    pub(crate) arrived_us: i64,
    pub(crate) digital_us: i64,
    pub(crate) stream: u16,
    pub(crate) live: bool,
    pub(crate) binds: bool,
    /// Values of properties and events, by name.
    pub(crate) values: Vec<(String, Json)>,
}

impl Update {
    /// A live update on the first stream that took no time on its way.
    pub(crate) fn at(at_us: i64, values: &[(&str, Json)]) -> Self {
        Self {
            physical_us: at_us,
            claimed: ClaimedTime::Device,
            arrived_us: at_us,
            digital_us: at_us,
            stream: 0,
            live: true,
            binds: true,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    /// A batch of this one event.
    pub(crate) fn batch(&self, id: &str, model: &Model) -> EventBatch {
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        for (name, json) in &self.values {
            let text = json.to_string();
            match model.property(name) {
                Some(property) => {
                    let kind = &model.properties[usize::from(property)].kind;
                    batch.push_property(mark, property, value(kind, json, &text));
                }
                None => batch.push_event(mark, model.event(name).expect("a property or event"), &text),
            }
        }
        let parts = HeadParts {
            position: 7,
            element: 0,
            physical_at: DeviceTime(self.physical_us),
            claimed: self.claimed,
            arrived_at: ArrivalTime(self.arrived_us),
            twin_type: 0,
            stream: self.stream,
            live: self.live,
        };
        batch.finish(mark, id, parts);
        batch
    }
}

fn value<'a>(kind: &Kind, json: &'a Json, text: &'a str) -> Value<'a> {
    match kind {
        Kind::Double => Value::Double(json.as_f64().expect("a number")),
        Kind::Integer => Value::Integer(json.as_i64().expect("an integer")),
        Kind::Boolean => Value::Boolean(json.as_bool().expect("a truth value")),
        Kind::String => Value::Text(json.as_str().expect("a text")),
        Kind::Enum(words) => {
            let word = words.iter().position(|word| json == word).expect("a word of the enum");
            Value::Enum(word as u16)
        }
        Kind::Array { .. } | Kind::Object => Value::Json(text),
    }
}

/// Leads an update through steps 2 to 4. Ticks that are due run before it; those that are due are
/// known from the twin's wake, or, where `tick_always`, looked for.
pub(crate) fn apply(
    id: &str,
    twin: &mut Twin,
    definition: &TwinType,
    update: &Update,
    tick_always: bool,
    out: &mut impl DigitalEvents,
) {
    let digital_at = DigitalTime(update.digital_us.max(twin.handled.digital_at.0));
    if tick_always || twin.handled.wake_us <= digital_at.0 {
        handler::tick(id, twin, definition, digital_at.0, out);
    }
    let batch = update.batch(id, &definition.model);
    let event: Event<'_> = batch.event(0);
    let (mut touched, mut emitted) = (Touched::default(), Vec::new());
    let shadowed = twin.shadow.apply(&event, &definition.model, definition.clock, &mut touched);
    let at_us = match shadowed.time_source {
        TimeSource::Rejected => update.arrived_us,
        TimeSource::Device | TimeSource::Arrival => update.physical_us,
    };
    let (shadow, memory) = (&mut twin.shadow, &mut twin.augmentation);
    definition.functions.run(shadow, memory, &definition.model, at_us, &mut touched, &mut emitted);
    let augmented = Augmented {
        physical: Physical { event, shadowed, digital_at },
        changed: &touched.changed,
        emitted: &emitted,
        binds: update.binds,
    };
    handler::consolidate(id, twin, definition, &augmented, out);
}
