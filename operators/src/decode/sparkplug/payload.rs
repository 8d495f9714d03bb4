//! A payload of Sparkplug B (the schema of Eclipse Tahu), read in place: names and texts stay where they are in the
//! message, so what is read has no lifetime and its memory is used again.

use std::ops::Range;

use quick_protobuf::{BytesReader, Writer};

use super::METRICS_PER_MESSAGE_MAX;

/// How a compressed payload names itself (section 6.4.5 of the specification).
const COMPRESSED: &[u8] = b"SPBV1.0_COMPRESSED";

/// The fields of a payload, each with its wire type.
mod payload_tag {
    pub const TIMESTAMP: u32 = 1 << 3;
    pub const METRIC: u32 = 2 << 3 | 2;
    pub const SEQ: u32 = 3 << 3;
    pub const UUID: u32 = 4 << 3 | 2;
}

/// The fields of a metric, each with its wire type.
mod metric_tag {
    pub const NAME: u32 = 1 << 3 | 2;
    pub const ALIAS: u32 = 2 << 3;
    pub const TIMESTAMP: u32 = 3 << 3;
    pub const DATATYPE: u32 = 4 << 3;
    pub const IS_HISTORICAL: u32 = 5 << 3;
    pub const IS_NULL: u32 = 7 << 3;
    pub const INT: u32 = 10 << 3;
    pub const LONG: u32 = 11 << 3;
    pub const FLOAT: u32 = 12 << 3 | 5;
    pub const DOUBLE: u32 = 13 << 3 | 1;
    pub const BOOLEAN: u32 = 14 << 3;
    pub const STRING: u32 = 15 << 3 | 2;
    pub const BYTES: u32 = 16 << 3 | 2;
    pub const DATASET: u32 = 17 << 3 | 2;
    pub const TEMPLATE: u32 = 18 << 3 | 2;
    pub const EXTENSION: u32 = 19 << 3 | 2;
}

/// The metric by which a host asks an edge node to be born again.
const REBIRTH: &str = "Node Control/Rebirth";

/// A part of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    start: u32,
    end: u32,
}

impl Part {
    fn of(payload: &[u8], bytes: &[u8]) -> Self {
        // Where a slice of the payload begins in it. A payload is far below 4 GiB, the most that MQTT can send.
        let start = (bytes.as_ptr() as usize - payload.as_ptr() as usize) as u32;
        Self { start, end: start + bytes.len() as u32 }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The text of the part; it was found to be UTF-8 when it was read.
    pub fn text(self, payload: &[u8]) -> &str {
        std::str::from_utf8(&payload[self.range()]).unwrap_or_default()
    }
}

/// What a metric holds, as it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Raw {
    #[default]
    None,
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Boolean(bool),
    Text(Part),
    /// Something that is not carried, and what to say of it.
    Structure(&'static str),
}

/// One metric, as it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Metric {
    pub name: Option<Part>,
    pub alias: Option<u64>,
    pub timestamp_ms: Option<u64>,
    /// Its number in the specification; 0 where it is not said.
    pub datatype: u32,
    pub is_historical: bool,
    pub is_null: bool,
    pub value: Raw,
}

/// One payload. Its memory is used again for the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Payload {
    pub timestamp_ms: Option<u64>,
    pub seq: Option<u64>,
    pub metrics: Vec<Metric>,
}

impl Payload {
    /// Reads a payload in the place of the last, or says why it is none.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), String> {
        self.timestamp_ms = None;
        self.seq = None;
        self.metrics.clear();
        let mut reader = BytesReader::from_bytes(payload);
        while !reader.is_eof() {
            let tag = reader.next_tag(payload).map_err(malformed)?;
            match tag {
                payload_tag::TIMESTAMP => {
                    self.timestamp_ms = Some(reader.read_uint64(payload).map_err(malformed)?);
                }
                payload_tag::SEQ => self.seq = Some(reader.read_uint64(payload).map_err(malformed)?),
                payload_tag::METRIC => {
                    if self.metrics.len() == METRICS_PER_MESSAGE_MAX {
                        return Err(format!("more than {METRICS_PER_MESSAGE_MAX} metrics in one message"));
                    }
                    let bytes = reader.read_bytes(payload).map_err(malformed)?;
                    self.metrics.push(Metric::read(payload, bytes).map_err(malformed)?);
                }
                payload_tag::UUID => {
                    if reader.read_bytes(payload).map_err(malformed)? == COMPRESSED {
                        return Err("the payload is compressed, which is not read; have the edge node send \
                                    payloads as they are"
                            .into());
                    }
                }
                other => reader.read_unknown(payload, other).map_err(malformed)?,
            }
        }
        Ok(())
    }

    /// The number of the edge node's connection, which its birth and its death carry.
    pub fn bd_seq(&self, payload: &[u8]) -> Option<u64> {
        let is_named = |metric: &&Metric| metric.name.is_some_and(|name| name.text(payload) == "bdSeq");
        match self.metrics.iter().find(is_named)?.value {
            Raw::Int(number) => Some(number.into()),
            Raw::Long(number) => Some(number),
            _ => None,
        }
    }
}

impl Metric {
    /// Reads a metric, which is a message of its own: it is read as a slice, so that a wrong length in it reaches
    /// nothing behind it.
    fn read(payload: &[u8], metric: &[u8]) -> quick_protobuf::Result<Self> {
        let mut this = Self::default();
        let mut reader = BytesReader::from_bytes(metric);
        while !reader.is_eof() {
            let tag = reader.next_tag(metric)?;
            match tag {
                metric_tag::NAME => {
                    let name = reader.read_string(metric)?;
                    this.name = Some(Part::of(payload, name.as_bytes()));
                }
                metric_tag::ALIAS => this.alias = Some(reader.read_uint64(metric)?),
                metric_tag::TIMESTAMP => this.timestamp_ms = Some(reader.read_uint64(metric)?),
                metric_tag::DATATYPE => this.datatype = reader.read_uint32(metric)?,
                metric_tag::IS_HISTORICAL => this.is_historical = reader.read_bool(metric)?,
                metric_tag::IS_NULL => this.is_null = reader.read_bool(metric)?,
                metric_tag::INT => this.value = Raw::Int(reader.read_uint32(metric)?),
                metric_tag::LONG => this.value = Raw::Long(reader.read_uint64(metric)?),
                metric_tag::FLOAT => this.value = Raw::Float(reader.read_float(metric)?),
                metric_tag::DOUBLE => this.value = Raw::Double(reader.read_double(metric)?),
                metric_tag::BOOLEAN => this.value = Raw::Boolean(reader.read_bool(metric)?),
                metric_tag::STRING => {
                    let text = reader.read_string(metric)?;
                    this.value = Raw::Text(Part::of(payload, text.as_bytes()));
                }
                metric_tag::BYTES | metric_tag::DATASET | metric_tag::TEMPLATE | metric_tag::EXTENSION => {
                    reader.read_bytes(metric)?;
                    this.value = Raw::Structure(match tag {
                        metric_tag::BYTES => "bytes are not carried",
                        metric_tag::DATASET => "a dataset is not carried",
                        metric_tag::TEMPLATE => "a template is not carried",
                        _ => "an extension is not carried",
                    });
                }
                other => reader.read_unknown(metric, other)?,
            }
        }
        Ok(this)
    }
}

/// What is wrong with bytes that are no payload.
fn malformed(error: quick_protobuf::Error) -> String {
    let what = match error {
        quick_protobuf::Error::UnexpectedEndOfBuffer => "it is cut off",
        quick_protobuf::Error::Utf8(_) => "a text in it is not UTF-8",
        _ => "it is no message of Protocol Buffers",
    };
    format!("no payload of Sparkplug B: {what}")
}

/// The payload of the command that asks an edge node to be born again.
pub(super) fn rebirth(at_ms: u64) -> Vec<u8> {
    let mut metric = Vec::new();
    let mut writer = Writer::new(&mut metric);
    let written = writer
        .write_with_tag(metric_tag::NAME, |writer| writer.write_string(REBIRTH))
        .and_then(|()| writer.write_with_tag(metric_tag::TIMESTAMP, |writer| writer.write_uint64(at_ms)))
        .and_then(|()| {
            writer.write_with_tag(metric_tag::DATATYPE, |writer| writer.write_uint32(super::value::BOOLEAN))
        })
        .and_then(|()| writer.write_with_tag(metric_tag::BOOLEAN, |writer| writer.write_bool(true)));
    let mut payload = Vec::new();
    let mut writer = Writer::new(&mut payload);
    written
        .and_then(|()| writer.write_with_tag(payload_tag::TIMESTAMP, |writer| writer.write_uint64(at_ms)))
        .and_then(|()| writer.write_with_tag(payload_tag::METRIC, |writer| writer.write_bytes(&metric)))
        .expect("a vector takes all bytes");
    payload
}
