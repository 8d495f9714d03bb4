//! What the tests of several steps share: a type from a few words of JSON, and a twin of it that is
//! led through steps 2 to 4 as a worker does.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::batch::{ClaimedTime, Event, EventBatch, HeadParts};
use crate::entanglement::{EntanglementSettings, ExpectedRate, Rate, Terms};
use crate::functions::{
    Augmentation, CallSettings, FunctionKind, FunctionSettings, FunctionSpec, Functions, Occasion, Written,
};
use crate::handler::{self, DigitalEvents};
use crate::model::{EventSettings, Kind, Model, ModelSettings, PropertySettings, Value, compile};
use crate::roster::Facts;
use crate::shadowing::{ClockSettings, Shadow, Touched};
use crate::steps;
use crate::time::{ArrivalTime, DeviceTime, DigitalTime};
use crate::twin::{StreamOf, Twin, TwinType};

/// Parts of a job file that make a type.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parts {
    properties: IndexMap<String, PropertySettings>,
    events: IndexMap<String, EventSettings>,
    functions: IndexMap<String, FunctionSettings>,
    /// Names of functions that are called outside, and what stands beside their kind.
    outside: IndexMap<String, CallSettings>,
    entanglement: EntanglementSettings,
    /// The rate of each.
    streams: IndexMap<String, ExpectedRate>,
}

/// A type with these [`Parts`], as JSON.
pub(crate) fn twin_type(name: &str, parts: &str) -> TwinType {
    let parts: Parts = serde_json::from_str(parts).expect("the case is well formed");
    let Parts { properties, events, functions, outside, entanglement: settings, streams } = parts;
    let model = compile(&ModelSettings { properties, events, ..ModelSettings::default() });
    let model = model.expect("the model is good");
    let mut specs: IndexMap<String, FunctionSpec> =
        functions.into_iter().map(|(name, settings)| (name, settings.into())).collect();
    for (name, call) in outside {
        specs.insert(
            name,
            FunctionSpec { kind: FunctionKind::Outside("http"), call, version: 3, trial: None },
        );
    }
    // What no function writes, streams do.
    let is_mapped = |number: &u16| !specs.contains_key(&model.properties[usize::from(*number)].name);
    let mapped: Vec<u16> = match specs.values().any(|spec| spec.call != CallSettings::default()) {
        true => (0..model.properties.len() as u16).filter(is_mapped).collect(),
        false => Vec::new(),
    };
    let rate = |rate: &ExpectedRate| rate.resolve(&model).expect("the rate is good");
    let rates: Vec<Rate> = streams.values().map(rate).collect();
    TwinType {
        name: name.to_owned(),
        functions: Functions::compile(&specs, &model, &mapped).expect("the functions are good"),
        model,
        clock: (&settings.clock).into(),
        terms: Terms::compile(&settings, &rates).expect("the settings are good"),
        sources: vec![0],
        streams: streams.into_keys().map(|name| StreamOf { name, source: 0 }).collect(),
        presence: Some(StreamOf { name: "presence".into(), source: 0 }),
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
    /// It says that the physical twin is up, or down, and nothing else.
    pub(crate) presence: Option<bool>,
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
            presence: None,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    /// A batch of this one event.
    pub(crate) fn batch(&self, id: &str, model: &Model) -> EventBatch {
        let mut batch = EventBatch::default();
        let mark = batch.begin();
        if let Some(is_up) = self.presence {
            batch.push_presence(mark, is_up);
        }
        for (name, json) in self.values.iter().filter(|_| self.presence.is_none()) {
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
            live: self.live && self.presence.is_none(),
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
    let update = steps::Update { event, digital_at, binds: update.binds, facts: Facts::default() };
    let mut scratch = steps::Scratch::default();
    steps::apply(id, twin, definition, &update, std::iter::empty(), &mut scratch, out);
}

/// What functions make of updates, a second after another: a line for each, with the values of what is named,
/// events, and failures, those for a dead letter marked.
pub(crate) fn augmented(functions: &Functions, model: &Model, names: &[&str], updates: &[&str]) -> String {
    augmented_of(Facts::default(), functions, model, names, updates)
}

/// The same of a twin that the roster knows.
pub(crate) fn augmented_of(
    facts: Facts<'_>,
    functions: &Functions,
    model: &Model,
    names: &[&str],
    updates: &[&str],
) -> String {
    let mut shadow = Shadow::new(model);
    let mut found = String::new();
    for (second, update) in (1i64..).zip(updates) {
        let values: serde_json::Map<String, Json> = serde_json::from_str(update).expect("well formed");
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let at_us = second * 1_000_000;
        let batch = Update::at(at_us, &values).batch("p", model);
        let event = batch.event(0);
        let (mut touched, mut emitted, mut failed) = (Touched::default(), Vec::new(), Vec::new());
        shadow.apply(&event, model, (&ClockSettings::default()).into(), &mut touched);
        let mut augmentation = Augmentation::default();
        let mut written = Written {
            augmentation: &mut augmentation,
            shadow: &mut shadow,
            touched: &mut touched,
            emitted: &mut emitted,
            failed: &mut failed,
        };
        let occasion = Occasion { event: &event, type_name: "press", at_us, facts };
        functions.run(model, &occasion, &mut written);
        let value = |name: &&str| {
            let value = model.property(name).and_then(|number| shadow.value(model, number));
            format!("{value:?}")
        };
        let values: Vec<String> = names.iter().map(value).collect();
        let emitted = emitted.iter().map(|one| format!(" {:?}", one.value)).collect::<String>();
        let letter = |is_letter: bool| if is_letter { " [letter]" } else { "" };
        let failed = failed.iter().map(|one| format!(" {}{}", one.reason, letter(one.is_letter)));
        found += &format!("{}{emitted}{}\n", values.join(" "), failed.collect::<String>());
    }
    found
}
