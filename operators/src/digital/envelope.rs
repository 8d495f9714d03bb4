//! The digital event as JSON (rule 9). Written by hand into a buffer, as this is the hot path of
//! every listener; numbers and escapes are the libraries'.

use super::DigitalKind;
use crate::handler::{Entangled, Happened, HappenedValue, Lived, Of, State};
use crate::model::{Kind, Value};
use crate::time::{Rfc3339, is_writable};

/// Writes the envelopes of one job.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// `{"job":"press-line","twin":`
    prefix: Vec<u8>,
    /// `,"generation":3,"revision":`
    generation: Vec<u8>,
    /// For each type: `,"type":"press","kind":"`, and its property names as `"name":`.
    types: Vec<TypeTexts>,
    /// Version of the job's definition that is in force.
    definition: u64,
    clock: Rfc3339,
}

#[derive(Clone, Debug)]
struct TypeTexts {
    name: Vec<u8>,
    properties: Vec<Vec<u8>>,
}

impl Envelope {
    /// Envelopes of a job in this generation, whose types have these names and properties.
    pub fn new<'a>(
        job: &str,
        generation: u64,
        types: impl Iterator<Item = &'a crate::twin::TwinType>,
    ) -> Self {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let types = types.map(|one| TypeTexts {
            name: format!(",\"type\":{},\"kind\":\"", text(&one.name)).into_bytes(),
            properties: one
                .model
                .properties
                .iter()
                .map(|property| format!("{}:", text(&property.name)).into_bytes())
                .collect(),
        });
        Self {
            prefix: format!("{{\"job\":{},\"twin\":", text(job)).into_bytes(),
            generation: format!("\",\"generation\":{generation},\"revision\":").into_bytes(),
            types: types.collect(),
            definition: 1,
            clock: Rfc3339::default(),
        }
    }

    /// The version of the job's definition that is in force from now on; it is 1 at first.
    pub fn set_definition(&mut self, version: u64) {
        self.definition = version;
    }

    /// Appends the envelope of a state.
    pub fn state(&mut self, of: Of<'_>, state: &State<'_>, out: &mut Vec<u8>) {
        self.head(of, DigitalKind::State, out);
        let head = state.physical.event.head;
        key_integer(out, b",\"update\":", state.physical.shadowed.update);
        self.time(out, b",\"physical_at\":", head.physical_at.0);
        self.time(out, b",\"arrived_at\":", head.arrived_at.0);
        self.time(out, b",\"digital_at\":", state.physical.digital_at.0);
        out.extend_from_slice(b",\"changed\":[");
        let names = &self.types[usize::from(of.twin.twin_type)].properties;
        for (index, property) in state.changed.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let name = &names[usize::from(*property)];
            out.extend_from_slice(&name[..name.len() - 1]);
        }
        out.extend_from_slice(b"],\"properties\":{");
        let mut first = true;
        for (index, name) in names.iter().enumerate() {
            if let Some(value) = of.twin.shadow.value(&of.definition.model, index as u16) {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                let kind = &of.definition.model.properties[index].kind;
                write_value(kind, value, out);
            }
        }
        out.extend_from_slice(b"},\"lifecycle\":\"");
        out.extend_from_slice(of.twin.life_cycle.phase().word().as_bytes());
        out.push(b'"');
        key_number(out, b",\"odte\":", state.odte);
        out.push(b'}');
    }

    /// Appends the envelope of ODTE.
    pub fn entangled(&mut self, of: Of<'_>, entangled: &Entangled, out: &mut Vec<u8>) {
        self.head(of, DigitalKind::Entanglement, out);
        key_integer(out, b",\"change\":", u64::from(entangled.change));
        self.time(out, b",\"at\":", entangled.at_us);
        let measure = &entangled.measure;
        let terms = of.definition.terms_of(of.twin);
        let ms = |us: i64| us as f64 / 1e3;
        for (key, number) in [
            (&b",\"timeliness\":"[..], measure.timeliness),
            (b",\"reliability\":", measure.reliability),
            (b",\"reliability_unclamped\":", measure.reliability_unclamped),
            (b",\"availability\":", measure.availability),
            (b",\"odte\":", measure.odte),
            (b",\"received\":", measure.received),
            (b",\"on_time\":", measure.on_time),
            (b",\"expected\":", measure.expected),
            (b",\"desired_timeliness_ms\":", ms(terms.desired_timeliness_us)),
            (b",\"window_ms\":", ms(terms.window_us)),
            (b",\"threshold\":", terms.threshold),
        ] {
            key_number(out, key, number);
        }
        key_integer(out, b",\"definition\":", self.definition);
        let lateness = entangled.lateness;
        for (key, us) in [
            (&b",\"transport_ms\":"[..], lateness.map(|one| one.transport_us)),
            (b",\"compute_ms\":", lateness.map(|one| one.compute_us)),
            (b",\"clock_offset_ms\":", lateness.map(|one| one.transport_min_us)),
        ] {
            key_number(out, key, us.map_or(f64::NAN, |us| us / 1e3));
        }
        let mut profiles = of.twin.entanglement.measure_profiles(entangled.at_us, terms, measure).peekable();
        if profiles.peek().is_some() {
            out.extend_from_slice(b",\"profiles\":{");
            for (number, (profile, measure)) in profiles.enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write_text(&profile.name, out);
                key_number(out, b":{\"desired_timeliness_ms\":", ms(profile.desired_timeliness_us));
                key_number(out, b",\"timeliness\":", measure.timeliness);
                key_number(out, b",\"on_time\":", measure.on_time);
                key_number(out, b",\"odte\":", measure.odte);
                out.push(b'}');
            }
            out.push(b'}');
        }
        out.extend_from_slice(b",\"profile\":\"default\",\"lifecycle\":\"");
        out.extend_from_slice(of.twin.life_cycle.phase().word().as_bytes());
        out.extend_from_slice(b"\"}");
    }

    /// Appends the envelope of a step in a twin's life.
    pub fn lived(&mut self, of: Of<'_>, lived: &Lived, out: &mut Vec<u8>) {
        self.head(of, DigitalKind::Lifecycle, out);
        key_integer(out, b",\"change\":", u64::from(lived.change));
        self.time(out, b",\"at\":", lived.transition.at_us);
        for (key, word) in [
            (&b",\"from\":\""[..], lived.transition.from.word()),
            (b",\"to\":\"", lived.transition.to.word()),
            (b",\"reason\":\"", lived.transition.reason.word()),
        ] {
            out.extend_from_slice(key);
            out.extend_from_slice(word.as_bytes());
            out.push(b'"');
        }
        match lived.transition.incident {
            Some(incident) => key_integer(out, b",\"incident\":", incident),
            None => out.extend_from_slice(b",\"incident\":null"),
        }
        out.push(b'}');
    }

    /// Appends the envelope of an event.
    pub fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>, out: &mut Vec<u8>) {
        self.head(of, DigitalKind::Event, out);
        key_integer(out, b",\"update\":", of.twin.shadow.update());
        self.time(out, b",\"at\":", happened.digital_at.0);
        out.extend_from_slice(b",\"name\":");
        write_text(&of.definition.model.events[usize::from(happened.event)], out);
        key_integer(out, b",\"index\":", u64::from(happened.index));
        match happened.value {
            HappenedValue::Json(json) => {
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(json.as_bytes());
            }
            HappenedValue::Number(number) => key_number(out, b",\"value\":", number),
        }
        out.push(b'}');
    }

    /// What all envelopes begin with.
    fn head(&mut self, of: Of<'_>, kind: DigitalKind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        write_text(of.id, out);
        out.extend_from_slice(&self.types[usize::from(of.twin.twin_type)].name);
        out.extend_from_slice(kind.word().as_bytes());
        out.extend_from_slice(&self.generation);
        write_integer(of.twin.handled.revision, out);
    }

    /// A time that RFC 3339 cannot write is null (rule 3.3).
    fn time(&mut self, out: &mut Vec<u8>, key: &[u8], at_us: i64) {
        out.extend_from_slice(key);
        if is_writable(at_us) {
            out.push(b'"');
            self.clock.write(at_us, out);
            out.push(b'"');
        } else {
            out.extend_from_slice(b"null");
        }
    }
}

pub(crate) fn write_value(kind: &Kind, value: Value<'_>, out: &mut Vec<u8>) {
    match (value, kind) {
        (Value::Double(number), _) => write_number(number, out),
        (Value::Integer(number), _) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        (Value::Boolean(true), _) => out.extend_from_slice(b"true"),
        (Value::Boolean(false), _) => out.extend_from_slice(b"false"),
        (Value::Enum(word), Kind::Enum(words)) => {
            write_text(words.get(usize::from(word)).map_or("", String::as_str), out);
        }
        (Value::Enum(_), _) => out.extend_from_slice(b"null"),
        (Value::Text(text), _) => write_text(text, out),
        (Value::Json(json), _) => out.extend_from_slice(json.as_bytes()),
    }
}

/// A text as JSON. Most ids and words need no escape, which one look shows.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

fn write_integer(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number; JSON has no NaN and no infinity, they are null.
fn write_number(number: f64, out: &mut Vec<u8>) {
    if !number.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    // A whole number is written 1, not 1.0: the same to JSON, and what people expect to read.
    if number.fract() == 0.0 && number.abs() < 1e15 {
        out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    }
}

/// A number as listeners get it.
pub(super) fn number_text(number: f64) -> String {
    let mut text = Vec::new();
    write_number(number, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn key_integer(out: &mut Vec<u8>, key: &[u8], number: u64) {
    out.extend_from_slice(key);
    write_integer(number, out);
}

fn key_number(out: &mut Vec<u8>, key: &[u8], number: f64) {
    out.extend_from_slice(key);
    write_number(number, out);
}
