//! Sensor Measurement Lists as JSON (RFC 8428): a pack of records, resolved one by one.
//!
//! ```text
//!  [{"bn": "p-1:", "bt": 1.7e9, "n": "t", "v": 20}, {"n": "t", "t": 5, "v": 21}, {"n": "mode", "t": 5, "vs": "run"}]
//!     base fields hold from their record on ──► name, time and value of each record (section 4.6)
//!     records of one twin and one time      ──► one event, in the order of time
//! ```
//!
//! A bad record is a dead letter by itself; where a pack cannot be resolved, it is one as a whole. Records that
//! the stream does not name are passed over, as are sums (`s`), units and update times.

use indexmap::IndexSet;
use serde_json::{Map, Value as Json};

use super::element::{Element, Taken};
use super::plan::StreamPlan;
use super::scalar::{Scalar, number_scalar};
use super::settings::{AtSettings, StreamSettings};
use super::{ELEMENTS_MAX, Scratch, json};
use crate::batch::{ClaimedTime, EventBatch};
use crate::problem::Problem;
use crate::time::{ArrivalTime, DeviceTime};

/// Times below it are relative to now (section 4.5.3).
const ABSOLUTE_S_MIN: f64 = 268_435_456.0;
/// The version of the format that is understood (section 4.4).
const VERSION: u64 = 10;
/// The fields that hold a value, of which a record has one.
const VALUES: [&str; 4] = ["v", "vs", "vb", "vd"];
/// What may stand between a base name and what it is the base of.
const SEPARATORS: [char; 5] = [':', '/', '.', '-', '_'];

/// Which part of a record's name is the twin's, where the twin is not known from the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TwinName {
    /// The base name, without a separator at its end.
    Base,
    /// The whole name.
    Whole,
}

impl TwinName {
    /// Reads the stream's `twin`, where it points into the payload.
    pub fn parse(twin: &str) -> Result<Self, Problem> {
        match twin {
            "/bn" => Ok(TwinName::Base),
            "/n" => Ok(TwinName::Whole),
            _ => Err(Problem::new(
                format!("`{twin}` is no name in a record of SenML"),
                "write /bn (the base name), /n (the whole name), or a template over the topic (\"{twin}\")",
            )),
        }
    }

    /// The name as id, and what of the name is left to tell properties apart.
    fn split<'p>(self, base: &'p str, name: &'p str) -> (String, &'p str) {
        match self {
            TwinName::Base => (base.strip_suffix(SEPARATORS).unwrap_or(base).into(), name),
            TwinName::Whole => (format!("{base}{name}"), ""),
        }
    }
}

/// What a stream of SenML must be.
pub(super) fn check(settings: &StreamSettings) -> Result<(), Problem> {
    if let Some(AtSettings::Pointer(_)) = settings.at {
        let help = "leave `at` out, or write at: arrival where the devices' clocks are not to be used";
        return Err(Problem::new("records of SenML say their times themselves", help).under("at"));
    }
    if settings.historical.is_some() {
        let message = "records of SenML carry no flag of backfill";
        return Err(Problem::new(message, "leave `historical` out").under("historical"));
    }
    settings.check_places_differ("record")
}

/// The name of a record, as one step down from the pack. A name may have slashes of its own.
pub(super) fn place(pointer: &str) -> Result<Vec<String>, Problem> {
    match pointer.strip_prefix('/') {
        Some(name) => Ok(vec![name.into()]),
        None if pointer.is_empty() => Ok(vec![String::new()]),
        None => Err(Problem::new(
            format!("`{pointer}` is no name of a record"),
            format!("begin it with a slash: /{pointer}"),
        )),
    }
}

/// What holds for a record and those behind it.
struct Base<'p> {
    name: &'p str,
    time_s: f64,
    value: f64,
}

/// A record that the stream names, resolved.
struct Measurement<'p> {
    at: DeviceTime,
    claimed: ClaimedTime,
    /// Number of the twin's id among those of the pack.
    twin: usize,
    leaves: &'p [usize],
    value: Scalar<'p>,
    record: &'p Json,
}

/// Decodes one message of one route.
// Its frame would be part of the one that JSON, the usual payload, is read in.
#[inline(never)]
pub(super) fn decode(
    twin: Option<TwinName>,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let payload = taken.message.payload;
    let records = match read(taken) {
        Ok(records) => records,
        Err(reason) => return refuse(reason, payload),
    };
    let mut refused = false;
    let mut refuse_record = |reason: String, record: &Json| {
        refused = true;
        refuse(reason, record.to_string().as_bytes());
    };
    let mut pack =
        Pack { plan: &taken.route.plan, arrived_at: taken.message.arrived_at, twin, ids: IndexSet::new() };
    let mut base = Base { name: "", time_s: 0.0, value: 0.0 };
    let mut measurements = Vec::new();
    for record in &records {
        let resolved = match record {
            // Base fields were checked with the pack.
            Json::Object(fields) => {
                base.learn(fields);
                pack.resolve(&base, fields, record)
            }
            _ => Err("a record is an object".into()),
        };
        match resolved {
            Ok(measurement) => measurements.extend(measurement),
            Err(reason) => refuse_record(reason, record),
        }
    }
    measurements.sort_by_key(|one| (one.at, one.twin));
    let mut index = 0;
    for group in measurements.chunk_by(|one, next| (one.at, one.twin) == (next.at, next.twin)) {
        if take(group, &pack, taken, scratch, events, index, &mut refuse_record) {
            index += 1;
        }
    }
    if index == 0 && !refused && !records.is_empty() {
        refuse("none of the mapped values is there".into(), payload);
    }
}

/// The records of a pack that can be resolved.
fn read(taken: Taken<'_>) -> Result<Vec<Json>, String> {
    json::check_form(taken)?;
    let tree = serde_json::from_slice(taken.message.payload).map_err(|error| json::malformed(&error))?;
    let Json::Array(records) = tree else {
        return Err("a pack of SenML is an array of records".into());
    };
    if records.len() > ELEMENTS_MAX {
        return Err(format!("{} records in one pack, at most {ELEMENTS_MAX}", records.len()));
    }
    for (index, record) in records.iter().enumerate() {
        let Json::Object(fields) = record else { continue };
        if let Some(problem) = unresolvable(fields) {
            return Err(format!("record {}: {problem}; the pack cannot be resolved", index + 1));
        }
    }
    Ok(records)
}

/// What in a record makes the whole pack unreadable: something that must be understood and is not (section 4.4), or
/// a bad base field, as it holds for others.
fn unresolvable(fields: &Map<String, Json>) -> Option<String> {
    for (label, value) in fields {
        let wanted = match (label.as_str(), value) {
            ("bn" | "bu", Json::String(_)) | ("bt" | "bv" | "bs", Json::Number(_)) => continue,
            ("bn" | "bu", _) => "text",
            ("bt" | "bv" | "bs", _) => "a number",
            ("bver", _)
                if value.as_f64().is_some_and(|version| (1.0..=VERSION as f64).contains(&version)) =>
            {
                continue;
            }
            ("bver", _) => {
                return Some(format!("`bver` is {value}, and versions up to {VERSION} are understood"));
            }
            _ if label.ends_with('_') => {
                return Some(format!("`{label}` must be understood, as its name says, and is not known"));
            }
            _ => continue,
        };
        return Some(format!("`{label}` is {value}, which is not {wanted}"));
    }
    None
}

impl<'p> Base<'p> {
    fn learn(&mut self, fields: &'p Map<String, Json>) {
        if let Some(Json::String(name)) = fields.get("bn") {
            self.name = name;
        }
        if let Some(time_s) = fields.get("bt").and_then(Json::as_f64) {
            self.time_s = time_s;
        }
        if let Some(value) = fields.get("bv").and_then(Json::as_f64) {
            self.value = value;
        }
    }
}

/// A pack that is being resolved.
struct Pack<'p> {
    plan: &'p StreamPlan,
    arrived_at: ArrivalTime,
    twin: Option<TwinName>,
    ids: IndexSet<String>,
}

impl<'p> Pack<'p> {
    /// A record's name, time and value, where the stream names it; or why it has none.
    fn resolve(
        &mut self,
        base: &Base<'p>,
        fields: &'p Map<String, Json>,
        record: &'p Json,
    ) -> Result<Option<Measurement<'p>>, String> {
        let name = match fields.get("n") {
            None => "",
            Some(Json::String(name)) => name,
            Some(_) => return Err("`n` is no text".into()),
        };
        let (id, rest) = match self.twin {
            Some(twin) => twin.split(base.name, name),
            None => (String::new(), name),
        };
        let Some(leaves) = self.leaves(base.name, name, rest) else { return Ok(None) };
        let Some(value) = value(base, fields)? else { return Ok(None) };
        let (at, claimed) = self.time(base, fields)?;
        let (twin, _) = self.ids.insert_full(id);
        Ok(Some(Measurement { at, claimed, twin, leaves, value, record }))
    }

    /// The leaves of the stream at a record's whole name, or else at what is left of it behind the twin's part.
    fn leaves(&self, base: &str, name: &str, rest: &str) -> Option<&'p [usize]> {
        let places = &self.plan.nodes[0].children;
        let whole = places.iter().find(|(place, _)| place.strip_prefix(base) == Some(name));
        let (_, node) = whole.or_else(|| places.iter().find(|(place, _)| place == rest))?;
        Some(&self.plan.nodes[*node].leaves)
    }

    /// When a record was measured (section 4.5.3).
    fn time(&self, base: &Base<'_>, fields: &Map<String, Json>) -> Result<(DeviceTime, ClaimedTime), String> {
        let time_s = match fields.get("t") {
            None => base.time_s,
            Some(time_s) => base.time_s + time_s.as_f64().ok_or("`t` is no number")?,
        };
        let (arrived_us, time_us) = (self.arrived_at.0, (time_s * 1e6).round() as i64);
        match time_s {
            _ if !time_s.is_finite() => Err("`bt` and `t` add up to no time".into()),
            // The device knows no time: it was about now.
            0.0 => Ok((DeviceTime(arrived_us), ClaimedTime::Arrival)),
            _ if time_s < ABSOLUTE_S_MIN => {
                Ok((DeviceTime(arrived_us.saturating_add(time_us)), ClaimedTime::Device))
            }
            _ => Ok((DeviceTime(time_us), ClaimedTime::Device)),
        }
    }
}

/// The value of a record; none of one that has only a sum, or only base fields.
fn value<'p>(base: &Base<'_>, fields: &'p Map<String, Json>) -> Result<Option<Scalar<'p>>, String> {
    let mut values = VALUES.into_iter().filter(|label| fields.contains_key(*label));
    let Some(label) = values.next() else {
        let is_base = !fields.contains_key("n") && fields.keys().any(|label| label.starts_with('b'));
        return match fields.contains_key("s") || is_base {
            true => Ok(None),
            false => Err("the record has no value".into()),
        };
    };
    if let Some(other) = values.next() {
        return Err(format!("the record has two values, `{label}` and `{other}`"));
    }
    Ok(Some(match (label, &fields[label]) {
        ("v", Json::Number(number)) if base.value == 0.0 => number_scalar(number),
        ("v", Json::Number(number)) => {
            let sum = number.as_f64().unwrap_or(f64::NAN) + base.value;
            if !sum.is_finite() {
                return Err("`bv` and `v` add up to no number".into());
            }
            Scalar::Float(sum)
        }
        ("v", _) => return Err("`v` is no number".into()),
        ("vs", Json::String(text)) => Scalar::Text(text),
        ("vs", _) => return Err("`vs` is no text".into()),
        ("vb", Json::Bool(flag)) => Scalar::Bool(*flag),
        ("vb", _) => return Err("`vb` is neither true nor false".into()),
        (_, Json::String(data)) if is_base64url(data) => Scalar::Text(data),
        _ => return Err("`vd` is no base64url without padding".into()),
    }))
}

/// Whether a text is base64 with the alphabet of URLs and without padding (RFC 4648, section 5).
fn is_base64url(text: &str) -> bool {
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() % 4 != 1 && text.bytes().all(is_of_alphabet)
}

/// Makes one event of the records of one twin and one time, and a dead letter of each that is bad. Whether there is
/// an event.
fn take(
    group: &[Measurement<'_>],
    pack: &Pack<'_>,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    index: u32,
    refuse: &mut impl FnMut(String, &Json),
) -> bool {
    let mut element = Element::new(pack.plan, events, &mut scratch.id);
    element.at = Some((group[0].at, group[0].claimed));
    if pack.twin.is_some() {
        pack.ids[group[0].twin].clone_into(element.id);
    }
    let mut good = Vec::with_capacity(group.len());
    for measurement in group {
        // A property stands before the events of the same place, and only it can be refused: so what is refused has
        // left nothing behind.
        for leaf in measurement.leaves {
            element.take_scalar(*leaf, measurement.value);
            if element.problem.is_some() {
                break;
            }
        }
        match element.problem.take() {
            Some(reason) => refuse(reason, measurement.record),
            None => good.push(measurement.record),
        }
    }
    if good.is_empty() {
        return false;
    }
    match element.finish(taken, index) {
        Ok(()) => true,
        Err(reason) => {
            good.into_iter().for_each(|record| refuse(reason.clone(), record));
            false
        }
    }
}
