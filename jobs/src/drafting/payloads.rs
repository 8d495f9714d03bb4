//! What stands in the payloads of a stream: its properties with their kinds, and the device's time.

use std::collections::{BTreeMap, BTreeSet};

use operators::time::parse_rfc3339;
use serde_json::Value;

use super::topics::{Shape, clean, unique};
use super::{Heard, units};

/// Messages of a topic that are looked at for its shape.
const SHAPE_MESSAGES: usize = 20;
/// Deepest value that is looked at.
const DEPTH_MAX: usize = 8;
/// Most values of a stream that are drafted.
const PROPERTIES_MAX: usize = 200;
/// Whole numbers that must have been seen, and nothing else, before a property is an integer.
const INTEGERS_MIN: usize = 10;
/// How often each word must have been seen, and how many there may be, for a text to be an enum.
const WORD_TIMES_MIN: usize = 4;
const WORDS_MAX: usize = 6;
/// How far from its arrival a number may be to be a time: a week late, a day ahead, microseconds.
const LATE_MAX_US: f64 = 7.0 * 86_400e6;
const AHEAD_MAX_US: f64 = 86_400e6;
/// The same for one whose name says nothing of time.
const CLOSE_US: f64 = 3_600e6;
/// Words of names that are of times.
const TIME_WORDS: [&str; 8] = ["timestamp", "time", "ts", "date", "datetime", "at", "epoch", "when"];

/// What was made of the payloads of a stream.
#[derive(Clone, Debug)]
pub(super) struct Payloads {
    /// How they are read, where it is not plain JSON: `decode` of the stream.
    pub decode: Option<&'static str>,
    /// Whether each holds many elements.
    pub elements: bool,
    /// Where the device's time stands, and how it is written.
    pub at: Option<At>,
    /// What else stands there.
    pub properties: Vec<PropertyDraft>,
    /// What was not taken, and why.
    pub left_out: Vec<String>,
    /// Seconds that 99 of 100 messages took at most on their way from the device; none where there is no time.
    pub late_seconds: Option<f64>,
}

/// The device's time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At {
    pub pointer: String,
    pub format: &'static str,
}

/// A property.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PropertyDraft {
    pub name: String,
    pub pointer: String,
    /// As a job file writes it: `type: double`.
    pub kind: String,
    pub unit: Option<&'static str>,
    /// What was seen, and what is not sure.
    pub seen: String,
}

/// Where values stand in the payloads of a topic.
pub(super) fn shape(messages: &[&Heard]) -> Shape {
    let mut shape = Shape::new();
    for message in messages.iter().take(SHAPE_MESSAGES) {
        match parse(&message.payload) {
            Some(Value::Array(items)) => items.iter().for_each(|item| places(item, &mut shape)),
            Some(value) => places(&value, &mut shape),
            None => _ = shape.insert("binary".into()),
        }
    }
    shape
}

fn places(value: &Value, shape: &mut Shape) {
    let mut found = Vec::new();
    leaves(value, String::new(), 0, &mut found);
    shape.extend(found.into_iter().map(|(pointer, _)| pointer));
}

/// JSON, or a text that is none; nothing of bytes that are no text.
fn parse(payload: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(payload).ok()?;
    let is_text = text.chars().all(|c| !c.is_control() || c.is_whitespace());
    let plain = || is_text.then(|| Value::String(text.trim().to_owned()));
    serde_json::from_str(text).ok().or_else(plain)
}

/// Values with their JSON Pointers; lists of scalars are values.
fn leaves(value: &Value, pointer: String, depth: usize, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(entries) if depth < DEPTH_MAX => {
            for (key, value) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{pointer}/{key}"), depth + 1, found);
            }
        }
        other => found.push((pointer, other.clone())),
    }
}

/// Values of one place.
#[derive(Default)]
struct Column {
    values: Vec<Value>,
    /// Of those that are live: their arrival beside them.
    live: Vec<(Value, i64)>,
    /// Whether each is a level of its topic.
    is_in_topic: bool,
}

/// Reads the payloads of a stream, or says why it cannot.
pub(super) fn read(messages: &[&Heard], stream: &str) -> Result<Payloads, String> {
    let parsed: Vec<(&Heard, Value)> =
        messages.iter().filter_map(|one| Some((*one, parse(&one.payload)?))).collect();
    let form = |value: &Value| -> usize {
        match value {
            Value::Object(_) => 0,
            Value::Array(items) if items.iter().any(Value::is_object) => 1,
            _ => 2,
        }
    };
    let mut counts = [0; 3];
    parsed.iter().for_each(|(_, value)| counts[form(value)] += 1);
    let unread = messages.len() - parsed.len();
    let most = (0..3).max_by_key(|form| counts[*form]).unwrap_or_default();
    if parsed.is_empty() || unread > parsed.len() {
        let is_sparkplug = messages.iter().any(|one| one.topic.starts_with("spBv1.0/"));
        return Err(if is_sparkplug { "Sparkplug B".into() } else { "the payloads are no text".into() });
    }
    let mut left_out = Vec::new();
    if counts[most] < messages.len() {
        left_out.push(format!(
            "{} of {} messages, which have another form",
            messages.len() - counts[most],
            messages.len()
        ));
    }
    let of_form = parsed.iter().filter(|(_, value)| form(value) == most);
    let elements: Vec<(&Heard, &Value)> = match most {
        1 => of_form
            .flat_map(|(heard, value)| value.as_array().into_iter().flatten().map(|one| (*heard, one)))
            .collect(),
        _ => of_form.map(|(heard, value)| (*heard, value)).collect(),
    };
    check_form(&elements, most)?;
    let (columns, order) = columns(&elements);
    let at = time(&columns);
    let mut properties: Vec<PropertyDraft> = Vec::new();
    let is_value = most == 2;
    for pointer in order {
        let column = &columns[&pointer];
        if at.as_ref().is_some_and(|(at, _)| at.pointer == pointer) {
            continue;
        }
        let shown = if pointer.is_empty() { "the payload" } else { &pointer };
        let kind = match kind(&pointer, column) {
            Ok(kind) if properties.len() < PROPERTIES_MAX => kind,
            Ok(_) => {
                left_out.push(format!("{shown}: more than {PROPERTIES_MAX} values"));
                continue;
            }
            Err(reason) => {
                left_out.push(format!("{shown}: {reason}"));
                continue;
            }
        };
        let taken: Vec<&str> = properties.iter().map(|one| one.name.as_str()).collect();
        let (name, unit) = match is_value {
            true => (clean(stream), units::of(stream)),
            false => named(&pointer, &taken),
        };
        properties.push(PropertyDraft { name, pointer, kind: kind.0, unit, seen: kind.1 });
    }
    if properties.is_empty() {
        return Err(format!("no value varies or can be read ({})", left_out.join("; ")));
    }
    let (at, late_seconds) = at.map_or((None, None), |(at, late)| (Some(at), Some(late)));
    Ok(Payloads {
        decode: is_value.then_some("value"),
        elements: most == 1,
        at: at.filter(|_| !is_value),
        properties,
        left_out,
        late_seconds,
    })
}

/// Forms that have a decoder of their own are said, not guessed at.
fn check_form(elements: &[(&Heard, &Value)], form: usize) -> Result<(), String> {
    let has = |value: &Value, keys: &[&str]| keys.iter().any(|key| value.get(key).is_some());
    let is_senml = |value: &Value| has(value, &["n", "bn"]) && has(value, &["v", "vs", "vb", "vd", "bv"]);
    if form == 1 && elements.iter().all(|(_, value)| is_senml(value)) {
        return Err("this looks like SenML: `decode: senml`, see docs/decoders.md".into());
    }
    let fields =
        |value: &Value| value.as_str().map(|text| text.split([',', ';']).count()).unwrap_or_default();
    if form == 2 && elements.iter().all(|(_, value)| fields(value) > 1) {
        return Err("this looks like lines of values: `decode: csv`, see docs/decoders.md".into());
    }
    Ok(())
}

/// Values by their place, and the places in the order in which they were seen.
fn columns(elements: &[(&Heard, &Value)]) -> (BTreeMap<String, Column>, Vec<String>) {
    let (mut columns, mut order) = (BTreeMap::new(), Vec::new());
    for (heard, element) in elements {
        let mut found = Vec::new();
        leaves(element, String::new(), 0, &mut found);
        for (pointer, value) in found.into_iter().filter(|(_, value)| !value.is_null()) {
            let column = columns.entry(pointer.clone()).or_insert_with(|| {
                order.push(pointer.clone());
                Column { is_in_topic: true, ..Column::default() }
            });
            let is_level = |text: &str| heard.topic.split('/').any(|level| level == text);
            column.is_in_topic &= value.as_str().is_some_and(is_level);
            if !heard.retained {
                column.live.push((value.clone(), heard.arrived_us));
            }
            column.values.push(value);
        }
    }
    (columns, order)
}

/// The device's time among the columns, and how late 99 of 100 messages were, in seconds.
fn time(columns: &BTreeMap<String, Column>) -> Option<(At, f64)> {
    let formats: [(&'static str, f64); 4] =
        [("unix_s", 1e6), ("unix_ms", 1e3), ("unix_us", 1.0), ("unix_ns", 1e-3)];
    let mut best: Option<((bool, f64), At, f64)> = None;
    for (pointer, column) in columns.iter().filter(|(_, column)| !column.live.is_empty()) {
        let last = pointer.rsplit('/').next().unwrap_or_default().to_lowercase();
        let mut words = last.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let is_named = words.any(|word| {
            TIME_WORDS.iter().any(|time| word == *time || word.ends_with("time") || word.starts_with("time"))
        });
        let rfc = ("rfc3339", column.late(|value| Some(parse_rfc3339(value.as_str()?)? as f64)));
        let numbers = formats
            .iter()
            .map(|(format, scale)| (*format, column.late(|value| Some(value.as_f64()? * scale))));
        for (format, late) in std::iter::once(rfc).chain(numbers) {
            let Some(late) = late else { continue };
            let is_near =
                |us: &f64| *us <= LATE_MAX_US && *us >= -AHEAD_MAX_US && (is_named || us.abs() <= CLOSE_US);
            if !late.iter().all(is_near) {
                continue;
            }
            let middle = late[late.len() / 2].abs();
            let rank = (is_named, -middle);
            if best.as_ref().is_none_or(|(other, ..)| rank > *other) {
                let p99 = late[(late.len() - 1) * 99 / 100] / 1e6;
                best = Some((rank, At { pointer: pointer.clone(), format }, p99));
            }
        }
    }
    best.map(|(_, at, late)| (at, late))
}

impl Column {
    /// How late each value is against its arrival, sorted, where each is a time.
    fn late(&self, time_us: impl Fn(&Value) -> Option<f64>) -> Option<Vec<f64>> {
        let late = self.live.iter().map(|(value, arrived_us)| Some(*arrived_us as f64 - time_us(value)?));
        let mut late = late.collect::<Option<Vec<f64>>>()?;
        late.sort_by(f64::total_cmp);
        Some(late)
    }
}

/// The kind of a property, as a job file writes it, and what was seen; or why it is none.
fn kind(pointer: &str, column: &Column) -> Result<(String, String), String> {
    let values = &column.values;
    let all = |is: fn(&Value) -> bool| values.iter().all(is);
    if all(Value::is_number) {
        let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
        let (least, most) =
            numbers.iter().fold((f64::MAX, f64::MIN), |(a, b), one| (a.min(*one), b.max(*one)));
        let is_whole = values.iter().all(|value| value.is_i64() || value.is_u64());
        let word = if is_whole && values.len() >= INTEGERS_MIN { "integer" } else { "double" };
        let seen = if least == most { format!("always {least}") } else { format!("{least} to {most}") };
        let doubt = if word == "integer" { "; ? whole so far: double, if a fraction may come" } else { "" };
        return Ok((format!("type: {word}"), format!("{seen}{doubt}")));
    }
    if all(Value::is_boolean) {
        return Ok(("type: boolean".into(), "true or false".into()));
    }
    if all(Value::is_string) {
        return text_kind(pointer, column);
    }
    if all(Value::is_array) {
        let items: Vec<&Value> =
            values.iter().flat_map(|value| value.as_array().into_iter().flatten()).collect();
        if !items.is_empty() && items.iter().all(|item| item.is_number()) {
            return Ok(("type: array, items: double".into(), "a list of numbers".into()));
        }
        return Err("a list of what is no number; `each` takes the elements of one apart".into());
    }
    Err("values of several kinds".into())
}

fn text_kind(pointer: &str, column: &Column) -> Result<(String, String), String> {
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    column.values.iter().filter_map(Value::as_str).for_each(|word| *words.entry(word).or_default() += 1);
    if column.is_in_topic && !pointer.is_empty() {
        return Err("it stands in the topic as well".into());
    }
    if let (1, Some((word, times))) = (words.len(), words.iter().next())
        && *times > 1
        && !pointer.is_empty()
    {
        return Err(format!("always {word:?}"));
    }
    let is_word = |word: &&str| {
        (1..=24).contains(&word.len())
            && word.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'))
    };
    let is_enum = (2..=WORDS_MAX).contains(&words.len())
        && words.values().all(|times| *times >= WORD_TIMES_MIN)
        && words.keys().all(is_word);
    if is_enum {
        let all: Vec<String> = words.keys().map(|word| super::writing::quoted(word)).collect();
        let seen = "? a word that is not listed is a dead letter".to_owned();
        return Ok((format!("type: enum, values: [{}]", all.join(", ")), seen));
    }
    let shown: Vec<String> = words.keys().take(3).map(|word| format!("{:?}", short(word))).collect();
    Ok(("type: string".into(), format!("such as {}", shown.join(", "))))
}

fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// The name of a property, by its place, and the unit that it tells.
fn named(pointer: &str, taken: &[&str]) -> (String, Option<&'static str>) {
    let token = pointer.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
    // Names of sensors are paths of their own: iot.sensor.temperature.
    let last = token.rsplit(['.', '/', ':']).find(|part| !part.is_empty()).unwrap_or("value");
    let name = clean(last);
    let name = match taken.contains(&name.as_str()) {
        true => unique(&clean(pointer), taken),
        false => name,
    };
    (name, units::of(last))
}

/// Gives properties of several streams of a type names of their own.
pub(super) fn tell_apart<'p>(streams: impl Iterator<Item = (String, &'p mut Payloads)>) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (stream, payloads) in streams {
        for property in &mut payloads.properties {
            if taken.contains(&property.name) {
                let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
                property.name = unique(&format!("{stream}_{}", property.name), &taken);
            }
            taken.insert(property.name.clone());
        }
    }
}
