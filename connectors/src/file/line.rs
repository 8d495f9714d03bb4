//! Cuts a file into lines without a copy a line, and reads a line into the parts of a message.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{ErrorKind, Read, Result};

/// Longer lines are not taken into memory.
pub(super) const LINE_BYTES_MAX: usize = 64_000_000;

const CHUNK_BYTES: usize = 256 << 10;

/// The years 1 to 9999: times that calendars can write and sums of times do not overflow.
const ARRIVAL_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// The next thing found in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A line that is not blank, without its end.
    Line(Bytes),
    /// A line over the limit, of which only the first bytes are here.
    TooLong { begin: Bytes },
    /// The lines of the last read are all given; the next call reads on.
    NeedsMore,
    /// No more lines.
    End,
}

/// The lines of a file, read in large pieces that the lines share.
pub(super) struct Lines<R> {
    file: R,
    chunk: Bytes,
    /// The rest of `chunk` holds no line end.
    is_partial: bool,
    is_at_end: bool,
    /// The line in hand was given as too long; what is left of it is dropped.
    is_skipping: bool,
    line_bytes_max: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(file: R) -> Self {
        Self {
            file,
            chunk: Bytes::new(),
            is_partial: true,
            is_at_end: false,
            is_skipping: false,
            line_bytes_max: LINE_BYTES_MAX,
        }
    }

    pub(super) fn next(&mut self) -> Result<Reading> {
        if self.is_partial {
            self.read_on()?;
        }
        while let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
            let line = self.chunk.split_to(end + 1).slice(..end);
            if std::mem::take(&mut self.is_skipping) || line.trim_ascii().is_empty() {
                continue;
            }
            return Ok(if end > self.line_bytes_max { self.too_long(&line) } else { Reading::Line(line) });
        }
        if self.is_at_end {
            let line = std::mem::take(&mut self.chunk);
            let is_nothing = self.is_skipping || line.trim_ascii().is_empty();
            return Ok(if is_nothing { Reading::End } else { Reading::Line(line) });
        }
        self.is_partial = true;
        if self.is_skipping {
            self.chunk = Bytes::new();
        } else if self.chunk.len() > self.line_bytes_max {
            self.is_skipping = true;
            let line = std::mem::take(&mut self.chunk);
            return Ok(self.too_long(&line));
        }
        Ok(Reading::NeedsMore)
    }

    fn too_long(&self, line: &Bytes) -> Reading {
        Reading::TooLong { begin: Bytes::copy_from_slice(&line[..line.len().min(1_024)]) }
    }

    /// Reads the next piece behind the line that was begun. Pieces grow with the line, so that a
    /// long one is not copied again and again.
    fn read_on(&mut self) -> Result<()> {
        let begun = self.chunk.len();
        let mut bytes = Vec::with_capacity(begun + CHUNK_BYTES.max(begun));
        bytes.extend_from_slice(&self.chunk);
        bytes.resize(bytes.capacity(), 0);
        let count = loop {
            match self.file.read(&mut bytes[begun..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        bytes.truncate(begun + count);
        self.chunk = bytes.into();
        self.is_partial = false;
        self.is_at_end = count == 0;
        Ok(())
    }
}

/// The parts of a message, as they stand in a line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// Recorded lines only.
    pub(super) arrived_at_us: Option<i64>,
    pub(super) retained: bool,
}

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default)]
    arrived_at: Option<&'a RawValue>,
    // A payload that is `null` is a payload.
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload_text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    retained: bool,
}

fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Line {
    /// Reads a line; the parts share its memory where they stand in it as they are. The error is
    /// the reason for the dead letter.
    pub(super) fn read(line: &Bytes, recorded: bool) -> std::result::Result<Self, String> {
        let parts: Parts = serde_json::from_slice(line)
            .map_err(|error| format!("not a JSON object of a message: {error}"))?;
        let arrived_at_us = if recorded { Some(arrival_us(parts.arrived_at)?) } else { None };
        let payload = match (parts.payload, parts.payload_text, parts.payload_base64) {
            (Some(json), None, None) => line.slice_ref(json.get().as_bytes()),
            (None, Some(text), None) => share(line, text),
            (None, None, Some(text)) => {
                let decoded = BASE64_STANDARD.decode(text.as_bytes());
                decoded.map_err(|error| format!("`payload_base64` is not base64: {error}"))?.into()
            }
            (None, None, None) => {
                return Err("no payload; give one of `payload`, `payload_text` and `payload_base64`".into());
            }
            _ => {
                return Err(
                    "more than one payload; give one of `payload`, `payload_text` and `payload_base64`"
                        .into(),
                );
            }
        };
        Ok(Self { topic: share(line, parts.topic), payload, arrived_at_us, retained: parts.retained })
    }
}

fn share(line: &Bytes, text: Cow<'_, str>) -> Bytes {
    match text {
        Cow::Borrowed(text) => line.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into_bytes().into(),
    }
}

fn arrival_us(raw: Option<&RawValue>) -> std::result::Result<i64, String> {
    let text = raw.ok_or("`arrived_at` is missing; recorded input needs it")?.get();
    let from_milliseconds = || {
        if let Ok(milliseconds) = text.parse::<i64>() {
            return milliseconds.checked_mul(1_000);
        }
        let microseconds = (text.parse::<f64>().ok()? * 1_000.0).round();
        // Beyond 2^53 a double does not tell one microsecond from the next.
        (microseconds.abs() < 9e15).then_some(microseconds as i64)
    };
    let from_text = || {
        let text: Cow<str> = serde_json::from_str(text).ok()?;
        Some(chrono::DateTime::parse_from_rfc3339(&text).ok()?.timestamp_micros())
    };
    let arrival_us = from_milliseconds()
        .or_else(from_text)
        .ok_or_else(|| "`arrived_at` is neither milliseconds since 1970 nor an RFC 3339 text".to_owned())?;
    if ARRIVAL_US.contains(&arrival_us) {
        Ok(arrival_us)
    } else {
        Err("`arrived_at` is not in the years 1 to 9999".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a file piece by piece, as a pipe does.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn check(pieces: &[&'static [u8]], expected: &[&str]) {
        let mut lines = Lines { line_bytes_max: 8, ..Lines::new(Pieces(pieces.to_vec())) };
        let mut got = Vec::new();
        loop {
            match lines.next().expect("no error in memory") {
                Reading::Line(line) => got.push(String::from_utf8_lossy(&line).into_owned()),
                Reading::TooLong { begin } => {
                    got.push(format!("too long: {}", String::from_utf8_lossy(&begin)))
                }
                Reading::NeedsMore => {}
                Reading::End => break,
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn lines_are_cut_wherever_the_reads_end() {
        check(&[], &[]);
        check(&[b"a\nb\n"], &["a", "b"]);
        check(&[b"a\n\n  \r\nb"], &["a", "b"]);
        check(&[b"12", b"34\n5", b"6\n", b"7"], &["1234", "56", "7"]);
        check(&[b"12345678\n"], &["12345678"]);
        check(&[b"123456789\nok\n"], &["too long: 123456789", "ok"]);
        check(&[b"12345", b"67890", b"more", b"more\nok"], &["too long: 1234567890", "ok"]);
        check(&[b"12345", b"67890", b"more"], &["too long: 1234567890"]);
        check(&[b"1234567890"], &["too long: 1234567890"]);
    }

    #[test]
    fn arrivals_are_milliseconds_or_text() {
        let us = |text: &str| arrival_us(Some(&RawValue::from_string(text.to_owned()).expect("JSON")));
        assert_eq!(us("0"), Ok(0));
        assert_eq!(us("-1"), Ok(-1_000));
        assert_eq!(us("1646847376150.25"), Ok(1_646_847_376_150_250));
        assert_eq!(us("1.6e12"), Ok(1_600_000_000_000_000));
        assert_eq!(us("\"1970-01-01T01:00:00.000001+01:00\""), Ok(1));
        for text in [
            "1e300",
            "9223372036854775807",
            "null",
            "\"\"",
            "\"12\"",
            "{}",
            "true",
            "253402300800000",
            "-62135596800001",
            "9223372036854775",
        ] {
            assert!(us(text).is_err(), "{text}");
        }
    }
}
