//! What can be read of a twin at an instant: its state, where in its life it is, how true it is, and why it is
//! not truer.

use serde::{Deserialize, Serialize};

use crate::entanglement::{Lateness, Measure};
use crate::life_cycle::Phase;
use crate::model::{Kind, KindName, Model, Value};
use crate::twin::{Twin, TwinType};

/// A twin as it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwinView {
    /// Its id, type, phase and ODTE.
    pub summary: TwinSummary,
    /// The instant that it is true at, microseconds since 1970.
    pub at_us: i64,
    /// When it came into its phase, if it ever left the first.
    pub since_us: Option<i64>,
    /// When it was last heard, if it was.
    pub heard_us: Option<i64>,
    /// Number of its last update.
    pub update: u64,
    /// Number of its last entanglement or life-cycle event.
    pub change: u32,
    /// Properties that have a value, by name, in the order of the model.
    pub properties: Vec<(String, Held)>,
    /// What ODTE is made of.
    pub measure: Measure,
    /// T_d (microseconds) and ODTE of each profile, by name.
    pub profiles: Vec<(String, i64, Measure)>,
    /// Lateness of the window's observations; none where it is empty.
    pub lateness: Option<Lateness>,
    /// T_d, microseconds.
    pub desired_timeliness_us: i64,
    /// O_Th.
    pub threshold: f64,
    /// W, microseconds.
    pub window_us: i64,
    /// The longest silence of a bound twin, microseconds.
    pub unbind_after_us: Option<i64>,
    /// What its functions have written.
    pub functions: Vec<FunctionView>,
    /// Updates that wait for answers of functions, and answers that are awaited beside.
    pub waiting: (usize, usize),
    /// What the roster says of it, by name; none here, as whoever owns the twin knows the roster.
    pub attributes: Vec<(String, Held)>,
    /// Who it belongs to; none here either.
    pub relationships: Vec<Related>,
    /// Its last events, newest last; none here, as whoever owns the twin keeps them.
    pub events: Vec<Event>,
}

/// A relationship of a twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Related {
    /// Its name.
    pub name: String,
    /// The type, or kind of thing, at the other end.
    pub to: String,
    /// The id at the other end.
    pub twin: String,
}

/// An event that has happened to a twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// Number of the update that it came with.
    pub update: u64,
    /// Number of the state that it is of.
    pub revision: u64,
    /// Its name.
    pub name: String,
    /// Its value; none where that is too long to be kept.
    pub value: Option<Held>,
}

/// What a function has written of a twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionView {
    /// Its name.
    pub function: String,
    /// The version that runs.
    pub version: u32,
    /// The properties that it writes, each with the version that gave it its value, where it has one.
    pub properties: Vec<(String, Option<u32>)>,
    /// What it keeps of the twin, as JSON; none where it keeps nothing.
    pub kept: Option<String>,
}

/// The line of a twin in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwinSummary {
    /// Its id.
    pub twin: String,
    /// Its type.
    pub twin_type: String,
    /// Where in its life it is.
    pub phase: Phase,
    /// What keeps it from being entangled.
    pub cause: Cause,
    /// ODTE.
    pub odte: f64,
    /// T.
    pub timeliness: f64,
    /// R.
    pub reliability: f64,
    /// A.
    pub availability: f64,
    /// Number of its state.
    pub revision: u64,
    /// When that was consolidated, microseconds since 1970.
    pub digital_at_us: Option<i64>,
}

/// A value that was taken out of a twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Held {
    /// A finite number.
    Double(f64),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// Text, or the word of an enum.
    Text(String),
    /// An array or object, as compact JSON.
    Json(String),
}

/// What keeps a twin from being entangled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: it is entangled.
    Nothing,
    /// It was bound a moment ago and is not judged yet.
    Settling,
    /// It is known, and was never heard.
    NeverHeard,
    /// It has been silent for longer than it may.
    Silent,
    /// All its sources are lost.
    SourceLost,
    /// Messages take too long from the device to the engine.
    LateInTransport,
    /// Messages take too long in the engine.
    LateInCompute,
    /// Fewer messages come than are expected.
    MessagesMissing,
    /// It is retired, or its job cancelled.
    Over,
    /// Its presence says that it is down.
    Down,
    /// It was down for a part of the window.
    WasDown,
    /// Its messages claim times that are not believed.
    ClockWrong,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Cause; 12] = [
        Cause::Nothing,
        Cause::Settling,
        Cause::NeverHeard,
        Cause::Silent,
        Cause::SourceLost,
        Cause::LateInTransport,
        Cause::LateInCompute,
        Cause::MessagesMissing,
        Cause::Over,
        Cause::Down,
        Cause::WasDown,
        Cause::ClockWrong,
    ];

    /// The word in answers.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Nothing => "nothing",
            Cause::Settling => "settling",
            Cause::NeverHeard => "never_heard",
            Cause::Silent => "silent",
            Cause::SourceLost => "source_lost",
            Cause::LateInTransport => "late_in_transport",
            Cause::LateInCompute => "late_in_compute",
            Cause::MessagesMissing => "messages_missing",
            Cause::Over => "over",
            Cause::Down => "down",
            Cause::WasDown => "was_down",
            Cause::ClockWrong => "clock_wrong",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_trouble(self) -> bool {
        !matches!(self, Cause::Nothing | Cause::Settling | Cause::Over)
    }

    /// What keeps a twin from being entangled, with ODTE as measured at this instant.
    pub fn of(twin: &Twin, definition: &TwinType, at_us: i64, measure: &Measure) -> Self {
        let terms = definition.terms_of(twin);
        let life = &twin.life_cycle;
        match life.phase() {
            Phase::Entangled => Cause::Nothing,
            Phase::Bound => Cause::Settling,
            Phase::Done | Phase::Stopped => Cause::Over,
            Phase::Unbound if twin.entanglement.down_physical_us().is_some() => Cause::Down,
            Phase::Unbound if !twin.entanglement.was_bound() => Cause::NeverHeard,
            // It was unbound at the end of its silence, or else earlier: because of its sources.
            Phase::Unbound => match life.silent_from(twin.entanglement.unbind_after_us(terms)) {
                Some(silent_us) if life.since_us() >= silent_us => Cause::Silent,
                _ => Cause::SourceLost,
            },
            Phase::Disentangled if measure.received <= 0.0 => Cause::Silent,
            Phase::Disentangled if measure.availability < measure.timeliness.min(measure.reliability) => {
                Cause::WasDown
            }
            Phase::Disentangled if measure.timeliness > measure.reliability => Cause::MessagesMissing,
            Phase::Disentangled => match twin.entanglement.lateness(at_us, terms) {
                Some(one) if definition.clock.is_wrong(one.transport_us) => Cause::ClockWrong,
                Some(one) if one.compute_us > one.transport_us => Cause::LateInCompute,
                _ => Cause::LateInTransport,
            },
        }
    }
}

/// Reads the line of a twin at an instant; not before its last update, which is what it knows.
pub fn summary(id: &str, twin: &Twin, definition: &TwinType, at_us: i64) -> TwinSummary {
    let at_us = at_us.max(twin.handled.digital_at.0);
    let measure = twin.entanglement.measure(at_us, definition.terms_of(twin));
    summarize(id, twin, definition, at_us, &measure)
}

fn summarize(id: &str, twin: &Twin, definition: &TwinType, at_us: i64, measure: &Measure) -> TwinSummary {
    TwinSummary {
        twin: id.to_owned(),
        twin_type: definition.name.clone(),
        phase: twin.life_cycle.phase(),
        cause: Cause::of(twin, definition, at_us, measure),
        odte: measure.odte,
        timeliness: measure.timeliness,
        reliability: measure.reliability,
        availability: measure.availability,
        revision: twin.handled.revision,
        digital_at_us: known(twin.handled.digital_at.0),
    }
}

/// Reads a twin at an instant; not before its last update, which is what it knows.
pub fn view(id: &str, twin: &Twin, definition: &TwinType, at_us: i64) -> TwinView {
    let at_us = at_us.max(twin.handled.digital_at.0);
    let terms = definition.terms_of(twin);
    let measure = twin.entanglement.measure(at_us, terms);
    let properties = (0u16..).zip(&definition.model.properties).filter_map(|(number, property)| {
        let value = twin.shadow.value(&definition.model, number)?;
        Some((property.name.clone(), Held::of(&property.kind, value)))
    });
    let was_heard = twin.shadow.update() > 0;
    let profiles = twin.entanglement.measure_profiles(at_us, terms, &measure);
    let profiles =
        profiles.map(|(profile, measure)| (profile.name.clone(), profile.desired_timeliness_us, measure));
    TwinView {
        summary: summarize(id, twin, definition, at_us, &measure),
        at_us,
        since_us: (twin.life_cycle.since_us() != 0).then(|| twin.life_cycle.since_us()),
        heard_us: was_heard.then(|| twin.life_cycle.heard_us()).filter(|heard_us| *heard_us != 0),
        update: twin.shadow.update(),
        change: twin.handled.change,
        properties: properties.collect(),
        profiles: profiles.collect(),
        measure,
        lateness: twin.entanglement.lateness(at_us, terms),
        desired_timeliness_us: terms.desired_timeliness_us,
        threshold: terms.threshold,
        window_us: terms.window_us,
        unbind_after_us: twin.entanglement.unbind_after_us(terms),
        functions: functions(twin, definition),
        waiting: twin.waiting.counts(),
        attributes: Vec::new(),
        relationships: links(twin, &definition.model),
        events: Vec::new(),
    }
}

/// Relationships that properties tell.
fn links(twin: &Twin, model: &Model) -> Vec<Related> {
    let links = model.links.iter().filter_map(|link| {
        let kind = &model.properties[usize::from(link.property)].kind;
        match Held::of(kind, twin.shadow.value(model, link.property)?) {
            Held::Text(twin) if !twin.is_empty() => {
                Some(Related { name: link.name.clone(), to: link.to.clone(), twin })
            }
            _ => None,
        }
    });
    links.collect()
}

fn functions(twin: &Twin, definition: &TwinType) -> Vec<FunctionView> {
    let written = |property: u16| {
        let name = definition.model.properties[usize::from(property)].name.clone();
        (name, twin.shadow.version(property))
    };
    let names = definition.functions.names();
    let number =
        |function: &str| names.iter().position(|name| **name == *function).map(|number| number as u16);
    let kept = |function: &str| {
        let kept = definition.functions.kept_by(number(function)?, &twin.augmentation)?;
        Some(kept.to_owned())
    };
    let functions = definition.functions.versions().map(|(function, version, properties)| FunctionView {
        function: function.to_string(),
        version,
        properties: properties.into_iter().map(written).collect(),
        kept: kept(function),
    });
    functions.collect()
}

impl Held {
    /// A value that is written as text; it stays text where it is none of the kind.
    pub fn read(kind: KindName, text: &str) -> Self {
        let text = text.trim();
        let read = match kind {
            KindName::Double => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Held::Double),
            KindName::Integer => text.parse().ok().map(Held::Integer),
            KindName::Boolean => text.to_ascii_lowercase().parse().ok().map(Held::Boolean),
            _ => None,
        };
        read.unwrap_or_else(|| Held::Text(text.to_owned()))
    }

    /// The same as a value, with its kind.
    pub(crate) fn as_value(&self) -> (Kind, Value<'_>) {
        match self {
            Held::Double(number) => (Kind::Double, Value::Double(*number)),
            Held::Integer(number) => (Kind::Integer, Value::Integer(*number)),
            Held::Boolean(flag) => (Kind::Boolean, Value::Boolean(*flag)),
            Held::Text(text) => (Kind::String, Value::Text(text)),
            Held::Json(json) => (Kind::Object, Value::Json(json)),
        }
    }

    fn of(kind: &Kind, value: Value<'_>) -> Self {
        match (value, kind) {
            (Value::Double(number), _) => Held::Double(number),
            (Value::Integer(number), _) => Held::Integer(number),
            (Value::Boolean(flag), _) => Held::Boolean(flag),
            (Value::Enum(word), Kind::Enum(words)) => {
                Held::Text(words.get(usize::from(word)).cloned().unwrap_or_default())
            }
            (Value::Enum(word), _) => Held::Integer(i64::from(word)),
            (Value::Text(text), _) => Held::Text(text.to_owned()),
            (Value::Json(json), _) => Held::Json(json.to_owned()),
        }
    }
}

/// An instant, where it is one.
fn known(at_us: i64) -> Option<i64> {
    (at_us != i64::MIN).then_some(at_us)
}

#[cfg(test)]
mod tests;
