//! The draft as text: a job file, with what was seen beside what was made of it.

use std::fmt::Write;

use super::{Listened, StreamDraft, TypeDraft};

/// Where comments stand, where there is room.
const COMMENT_COLUMN: usize = 46;
/// Twins that are named.
const TWINS_SHOWN: usize = 3;
/// A window expects at least so many messages of the slowest stream.
const WINDOW_MESSAGES: f64 = 20.0;

pub(super) fn write(
    types: &[TypeDraft],
    left_out: &[String],
    messages: usize,
    listened: &Listened,
) -> String {
    let mut out = String::new();
    let Listened { connection, url, filter, seconds } = listened;
    _ = writeln!(
        out,
        "# Drafted by `twinloom init` from {seconds:.0} s of {filter} at {url}: {messages} messages."
    );
    _ = writeln!(
        out,
        "# What is marked with ? is a guess. Then: twinloom validate, twinloom try, twinloom run."
    );
    for one in left_out {
        _ = writeln!(out, "# Left out: {one}");
    }
    _ = writeln!(out, "job: drafted");
    _ = writeln!(out, "connections:\n  broker: {connection}");
    _ = writeln!(out, "types:");
    types.iter().for_each(|one| write_type(one, &mut out));
    _ = writeln!(out, "digital:\n  - {{to: broker, kinds: [state, entanglement, lifecycle, event]}}");
    _ = writeln!(out, "archive: {{path: ./archive}}");
    out
}

fn write_type(one: &TypeDraft, out: &mut String) {
    let named: Vec<&str> = one.twins.iter().take(TWINS_SHOWN).map(String::as_str).collect();
    let more = if one.twins.len() > TWINS_SHOWN { ", .." } else { "" };
    line(out, &format!("  {}:", one.name), &format!("{} seen: {}{more}", one.twins.len(), named.join(", ")));
    for doubt in &one.doubts {
        _ = writeln!(out, "    # ? {doubt}");
    }
    _ = writeln!(out, "    properties:");
    for property in one.streams.iter().flat_map(|stream| &stream.payloads.properties) {
        let unit = property.unit.map_or(String::new(), |unit| format!(", unit: {}", quoted(unit)));
        let text = format!("      {}: {{{}{unit}}}", property.name, property.kind);
        line(out, &text, &property.seen);
    }
    _ = writeln!(out, "    physical:");
    one.streams.iter().for_each(|stream| write_stream(stream, out));
    write_entanglement(one, out);
}

fn write_stream(stream: &StreamDraft, out: &mut String) {
    let StreamDraft { name, topics, payloads, rate } = stream;
    _ = writeln!(out, "      {name}:\n        from: broker");
    let topics: Vec<String> = topics.iter().map(|topic| always_quoted(topic)).collect();
    _ = writeln!(out, "        topics: [{}]", topics.join(", "));
    if let Some(decode) = payloads.decode {
        line(out, &format!("        decode: {decode}"), "the payload is the value itself");
    }
    if payloads.elements {
        line(out, "        each: \"\"", "each message is a list of measurements");
    }
    match &payloads.at {
        Some(at) => {
            let text = format!("        at: {{pointer: {}, format: {}}}", quoted(&at.pointer), at.format);
            let late = payloads.late_seconds.map_or(String::new(), |late| match late < -1.0 {
                true => format!("? {:.1} s ahead of arrival: is the device's clock right", -late),
                false => format!("99 of 100 arrive within {:.3} s", late.max(0.0)),
            });
            line(out, &text, &late);
        }
        None => line(out, "        at: arrival", "no time of the device was found"),
    }
    _ = writeln!(out, "        properties:");
    for property in &payloads.properties {
        _ = writeln!(out, "          {}: {}", property.name, quoted(&property.pointer));
    }
    line(out, &format!("        expected_rate: {}", rate.text), &rate.seen);
    for one in &payloads.left_out {
        _ = writeln!(out, "        # left out: {}", one.replace(['\n', '\r'], " "));
    }
}

/// A window in which the slowest stream is heard often enough to be judged, and a timeliness that what was seen keeps.
fn write_entanglement(one: &TypeDraft, out: &mut String) {
    let slowest = one.streams.iter().filter_map(|stream| stream.rate.period).fold(0.0, f64::max);
    let window = (slowest * WINDOW_MESSAGES).max(60.0);
    let late = one.streams.iter().filter_map(|stream| stream.payloads.late_seconds).fold(0.0, f64::max);
    let punctual = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0].into_iter().find(|seconds| late * 2.0 <= *seconds);
    let (punctual, doubt) = match punctual {
        Some(seconds) => (seconds, ""),
        None => (60.0, "? messages are later than that"),
    };
    let text = format!(
        "    entanglement: {{window: {}, desired_timeliness: {punctual}s, threshold: 0.9}}",
        duration(window)
    );
    line(out, &text, doubt);
}

/// Seconds, in the unit in which they are read most easily; rounded up.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        seconds if seconds > 3_600 => format!("{}h", seconds.div_ceil(3_600)),
        seconds if seconds > 120 => format!("{}m", seconds.div_ceil(60)),
        seconds => format!("{seconds}s"),
    }
}

/// A line with a comment beside it, where there is one.
fn line(out: &mut String, text: &str, comment: &str) {
    let comment = comment.replace(['\n', '\r'], " ");
    match comment.is_empty() {
        true => _ = writeln!(out, "{text}"),
        false => _ = writeln!(out, "{text:<COMMENT_COLUMN$}  # {comment}"),
    }
}

/// A text as YAML reads it back, without quotes where it needs none.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.'));
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_other =
        ["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    match is_plain && is_word && !is_other {
        true => text.to_owned(),
        false => always_quoted(text),
    }
}

/// A JSON text is a YAML text in double quotes.
fn always_quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
