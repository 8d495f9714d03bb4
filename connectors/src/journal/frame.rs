//! The bytes of a journal: the head of a file, and frames, each a group of records that were appended
//! together. Numbers are little-endian; `var` is a number in groups of seven bits, the lowest first.
//!
//! ```text
//!   file    head 12 | first position u64 | source is lost u8 | crc u32      then frames
//!   frame   length u32 | crc u32 | index u32 | unsynced u32 | arrived_at_us i64 | records
//!   record  flags u8 | [packet id u16] | [true length var] | topic length var | payload length var
//!                    | topic | payload | [headers]
//!   headers count var | of each: name length var | value length var | name | value
//!   lost    flags u8 | reason length var | reason          restored    flags u8
//!   released flags u8 | packet id u16
//! ```
//! `length` counts what follows the checksum, which covers all but itself. `index` is the place of the
//! first record in its file. `unsynced` is how many of the records before this frame were not known to
//! be durable when it was written: with it a reader can tell a tail that a crash tore, which nobody was
//! told of, from damage to what was promised. Version 2 has QoS 2 (`released`, and a flag) and headers.

use bytes::Bytes;

use crate::format::{Format, FormatError, HEAD_BYTES};
use crate::message::RawMessage;

pub(super) const FORMAT: Format = Format { magic: *b"twl-jrnl", version: 2 };

/// Bytes of a file before its first frame.
pub(super) const FILE_HEAD_BYTES: usize = HEAD_BYTES + 8 + 1 + 4;

/// Bytes of a frame before its length begins to count.
pub(super) const FRAME_HEAD_BYTES: usize = 8;

/// Bytes of a frame's body before its records.
pub(super) const BODY_HEAD_BYTES: usize = 16;

const RETAINED: u8 = 1;
const DUPLICATE: u8 = 1 << 1;
const HAS_PACKET_ID: u8 = 1 << 2;
const OVERSIZE: u8 = 1 << 3;
const LOST: u8 = 1 << 4;
const RESTORED: u8 = 1 << 5;
const RELEASED: u8 = LOST | RESTORED;
const EXACTLY_ONCE: u8 = 1 << 6;
const HAS_HEADERS: u8 = 1 << 7;

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message as it came.
    Message {
        /// What the broker numbered it with; 0 where it asks for no acknowledgement.
        packet_id: u16,
        /// It came at QoS 2: the broker may send it again until it has released the packet id.
        exactly_once: bool,
        /// The message, its position included.
        message: RawMessage,
    },
    /// The broker will not send again what it sent with a packet id.
    Released {
        /// The packet id.
        packet_id: u16,
    },
    /// The source was lost.
    Lost {
        /// When, microseconds since 1970 UTC.
        at_us: i64,
        /// Why, in words for a person.
        reason: String,
    },
    /// The source came back.
    Restored {
        /// When, microseconds since 1970 UTC.
        at_us: i64,
    },
}

impl Record {
    /// Whether the source is lost after this record, where the record says so.
    pub(super) fn is_loss(&self) -> Option<bool> {
        match self {
            Self::Message { .. } | Self::Released { .. } => None,
            Self::Lost { .. } => Some(true),
            Self::Restored { .. } => Some(false),
        }
    }
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    pub(super) first: u64,
    /// The source was lost when the file was begun.
    pub(super) is_lost: bool,
}

impl FileHead {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = FORMAT.head().to_vec();
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.push(u8::from(self.is_lost));
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let body = FORMAT.body(bytes)?;
        let damaged = |reason: &str| FormatError::Damaged(reason.to_owned());
        let (Some(first), Some(lost), Some(crc)) = (array(body, 0), body.get(8), array(body, 9)) else {
            return Err(damaged("it is cut off in its head"));
        };
        if crc32fast::hash(&bytes[..FILE_HEAD_BYTES - 4]) != u32::from_le_bytes(crc) {
            return Err(damaged("its head does not match its checksum"));
        }
        Ok(Self { first: u64::from_le_bytes(first), is_lost: *lost != 0 })
    }
}

/// What a frame says before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Place of its first record in the file.
    pub(super) index: u32,
    /// Records before it that were not known to be durable.
    pub(super) unsynced: u32,
    pub(super) arrived_at_us: i64,
}

/// Writes a frame over what `into` held; `names` are those of the headers of messages.
pub(super) fn encode(head: FrameHead, records: &[Record], names: &[String], into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    into.extend_from_slice(&head.index.to_le_bytes());
    into.extend_from_slice(&head.unsynced.to_le_bytes());
    into.extend_from_slice(&head.arrived_at_us.to_le_bytes());
    records.iter().for_each(|record| encode_record(record, names, into));
    let length = (into.len() - FRAME_HEAD_BYTES) as u32;
    into[..4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&length.to_le_bytes(), &into[FRAME_HEAD_BYTES..]);
    into[4..FRAME_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn encode_record(record: &Record, names: &[String], into: &mut Vec<u8>) {
    match record {
        Record::Message { packet_id, exactly_once, message } => {
            let has_headers = message.headers.iter().any(Option::is_some);
            let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
            into.push(
                flag(message.retained, RETAINED)
                    | flag(message.duplicate, DUPLICATE)
                    | flag(*packet_id != 0, HAS_PACKET_ID)
                    | flag(message.oversize.is_some(), OVERSIZE)
                    | flag(*exactly_once, EXACTLY_ONCE)
                    | flag(has_headers, HAS_HEADERS),
            );
            if *packet_id != 0 {
                into.extend_from_slice(&packet_id.to_le_bytes());
            }
            if let Some(length) = message.oversize {
                push_var(length, into);
            }
            push_var(message.topic.len() as u64, into);
            push_var(message.payload.len() as u64, into);
            into.extend_from_slice(&message.topic);
            into.extend_from_slice(&message.payload);
            if has_headers {
                encode_headers(&message.headers, names, into);
            }
        }
        Record::Released { packet_id } => {
            into.push(RELEASED);
            into.extend_from_slice(&packet_id.to_le_bytes());
        }
        Record::Lost { reason, .. } => {
            into.push(LOST);
            push_var(reason.len() as u64, into);
            into.extend_from_slice(reason.as_bytes());
        }
        Record::Restored { .. } => into.push(RESTORED),
    }
}

/// With their names: a later run may want others, or in another order.
fn encode_headers(headers: &[Option<Bytes>], names: &[String], into: &mut Vec<u8>) {
    let present = || headers.iter().zip(names).filter_map(|(value, name)| Some((value.as_ref()?, name)));
    push_var(present().count() as u64, into);
    for (value, name) in present() {
        push_var(name.len() as u64, into);
        push_var(value.len() as u64, into);
        into.extend_from_slice(name.as_bytes());
        into.extend_from_slice(value);
    }
}

/// The length that a frame's first bytes claim.
pub(super) fn length(bytes: &[u8]) -> Option<u64> {
    array(bytes, 0).map(|length| u64::from(u32::from_le_bytes(length)))
}

/// The head of a whole frame whose checksum matches.
pub(super) fn frame_head(frame: &[u8]) -> Result<FrameHead, &'static str> {
    let (Some(length), Some(crc)) = (array::<4>(frame, 0), array(frame, 4)) else {
        return Err("a frame is cut off");
    };
    let body = &frame[FRAME_HEAD_BYTES..];
    if body.len() < BODY_HEAD_BYTES {
        return Err("a frame is too short");
    }
    if checksum(&length, body) != u32::from_le_bytes(crc) {
        return Err("a frame does not match its checksum");
    }
    peek_head(frame).ok_or("a frame is cut off")
}

/// The head of a frame, whatever its checksum says.
pub(super) fn peek_head(frame: &[u8]) -> Option<FrameHead> {
    Some(FrameHead {
        index: u32::from_le_bytes(array(frame, 8)?),
        unsynced: u32::from_le_bytes(array(frame, 12)?),
        arrived_at_us: i64::from_le_bytes(array(frame, 16)?),
    })
}

/// The records of a whole frame; the first of them has the position `first`, and messages have the headers with these
/// names.
pub(super) fn records<'a>(
    frame: &Bytes,
    first: u64,
    arrived_at_us: i64,
    names: &'a [String],
) -> impl Iterator<Item = Result<Record, &'static str>> + use<'a> {
    let mut left = frame.slice(FRAME_HEAD_BYTES + BODY_HEAD_BYTES..);
    let mut position = first;
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let record = decode_record(&mut left, position, arrived_at_us, names);
        position += 1;
        if record.is_none() {
            left.clear();
        }
        Some(record.ok_or("a record cannot be read though its checksum matches"))
    })
}

fn decode_record(left: &mut Bytes, position: u64, arrived_at_us: i64, names: &[String]) -> Option<Record> {
    let flags = take(left, 1)?[0];
    match flags {
        LOST => {
            let length = take_var(left)?;
            let reason = take(left, length)?;
            Some(Record::Lost { at_us: arrived_at_us, reason: String::from_utf8_lossy(&reason).into_owned() })
        }
        RESTORED => Some(Record::Restored { at_us: arrived_at_us }),
        RELEASED => Some(Record::Released { packet_id: u16::from_le_bytes(array(&take(left, 2)?, 0)?) }),
        _ if flags & RELEASED != 0 => None,
        _ => {
            let has = |flag: u8| flags & flag != 0;
            let packet_id =
                if has(HAS_PACKET_ID) { u16::from_le_bytes(array(&take(left, 2)?, 0)?) } else { 0 };
            let oversize = if has(OVERSIZE) { Some(take_var(left)?) } else { None };
            let (topic, payload) = (take_var(left)?, take_var(left)?);
            let (topic, payload) = (take(left, topic)?, take(left, payload)?);
            let headers =
                if has(HAS_HEADERS) { decode_headers(left, names)? } else { vec![None; names.len()] };
            let message = RawMessage {
                position,
                arrived_at_us,
                topic,
                payload,
                headers,
                retained: has(RETAINED),
                duplicate: has(DUPLICATE),
                oversize,
                ..RawMessage::default()
            };
            Some(Record::Message { packet_id, exactly_once: has(EXACTLY_ONCE), message })
        }
    }
}

fn decode_headers(left: &mut Bytes, names: &[String]) -> Option<Vec<Option<Bytes>>> {
    let mut headers = vec![None; names.len()];
    for _ in 0..take_var(left)? {
        let (name, value) = (take_var(left)?, take_var(left)?);
        let (name, value) = (take(left, name)?, take(left, value)?);
        if let Some(place) = names.iter().position(|wanted| wanted.as_bytes() == name) {
            headers[place] = Some(value);
        }
    }
    Some(headers)
}

fn take(left: &mut Bytes, count: u64) -> Option<Bytes> {
    let count = usize::try_from(count).ok().filter(|count| *count <= left.len())?;
    Some(left.split_to(count))
}

fn push_var(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn take_var(left: &mut Bytes) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(left, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn checksum(length: &[u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
