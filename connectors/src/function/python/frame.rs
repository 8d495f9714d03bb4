//! What engine and driver say to each other; `driver.py` has the other half. All numbers are little-endian.
//!
//! ```text
//!   to the driver     length u32 │ setup: JSON
//!                     length u32 │ calls u32 │ of each: milliseconds left u32, bytes u32 │ their bodies
//!   from the driver   outcome u8 │ length u32 │ JSON or text
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Outcome and length.
const HEAD_BYTES: usize = 5;
/// Most bytes of a record that holds a text.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// What the driver is told first.
#[derive(Serialize)]
pub(super) struct Setup<'a> {
    /// The function's name, which stands for its file in tracebacks.
    pub(super) name: &'a str,
    /// Source of the user's module.
    pub(super) source: &'a str,
    /// Limit of memory in bytes.
    pub(super) memory: u64,
    /// Most bytes of an answer.
    pub(super) output_max: u64,
}

impl Setup<'_> {
    /// The frame with it.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        serde_json::to_writer(&mut frame, self).expect("texts and numbers are JSON, and memory takes all");
        close(&mut frame);
        frame
    }
}

/// Makes a frame of calls: how long each has left, and its body.
pub(super) fn calls<'a>(
    frame: &mut Vec<u8>,
    calls: impl ExactSizeIterator<Item = (Duration, &'a [u8])> + Clone,
) {
    frame.clear();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&(calls.len() as u32).to_le_bytes());
    for (left, body) in calls.clone() {
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        frame.extend_from_slice(&left_ms.to_le_bytes());
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    }
    calls.for_each(|(_, body)| frame.extend_from_slice(body));
    close(frame);
}

fn close(frame: &mut [u8]) {
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
}

/// What comes from the driver.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// The user's module is loaded.
    Ready,
    /// It cannot be.
    Refused(Refusal),
    /// A JSON object.
    Value(Vec<u8>),
    /// An exception, or no answer: what and where.
    Error(String),
    /// The answer would have had so many bytes.
    TooLarge(String),
    /// The limit of memory was reached; the process ends.
    Memory,
    /// The call was not begun, as its time was over.
    Expired,
}

/// Why a module is refused.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Refusal {
    /// What is wrong.
    pub(super) message: String,
    /// Line in the user's source, from 1.
    pub(super) line: Option<u32>,
    /// Column of a syntax error, from 1.
    #[serde(default)]
    pub(super) column: Option<u32>,
    /// Something that it imports is missing.
    #[serde(default)]
    pub(super) is_import: bool,
    /// It needs more memory than it may have.
    #[serde(default)]
    pub(super) is_memory: bool,
}

/// What came is no record: somebody else writes to the driver's descriptors.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("what its process wrote is no answer; leave file descriptors alone that the function has not opened")]
pub(super) struct Damaged;

/// Puts together what comes in pieces.
pub(super) struct Records {
    bytes: Vec<u8>,
    taken: usize,
    answer_max: usize,
}

impl Records {
    pub(super) fn new(answer_max: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, answer_max }
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The next record, where it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Damaged> {
        let Some((head, rest)) = self.bytes[self.taken..].split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [outcome, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        let length_max = if outcome == 2 { self.answer_max } else { TEXT_BYTES_MAX };
        if outcome > 6 || length > length_max {
            return Err(Damaged);
        }
        let Some(text) = rest.get(..length) else { return Ok(None) };
        let record = match outcome {
            0 => Record::Ready,
            1 => Record::Refused(refusal(text)),
            2 => Record::Value(text.to_vec()),
            3 => Record::Error(String::from_utf8_lossy(text).into_owned()),
            4 => Record::TooLarge(String::from_utf8_lossy(text).into_owned()),
            5 => Record::Memory,
            _ => Record::Expired,
        };
        self.taken += HEAD_BYTES + length;
        Ok(Some(record))
    }

    /// Whether a record has begun that is not whole.
    pub(super) fn is_partial(&self) -> bool {
        self.taken < self.bytes.len()
    }
}

fn refusal(text: &[u8]) -> Refusal {
    // Text with half of a surrogate pair is none for us.
    let as_it_is = || Refusal { message: String::from_utf8_lossy(text).into_owned(), ..Refusal::default() };
    serde_json::from_slice(text).unwrap_or_else(|_| as_it_is())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: u8, text: &[u8]) -> Vec<u8> {
        [&[outcome][..], &(text.len() as u32).to_le_bytes(), text].concat()
    }

    #[test]
    fn records_are_put_together_whatever_the_pieces() {
        let bytes = [record(0, b""), record(2, b"{}"), record(3, b"no"), record(6, b"")].concat();
        for size in 1..=bytes.len() {
            let (mut records, mut found) = (Records::new(2), Vec::new());
            for piece in bytes.chunks(size) {
                records.push(piece);
                while let Some(record) = records.next().expect("they are records") {
                    found.push(record);
                }
            }
            let expected = [
                Record::Ready,
                Record::Value(b"{}".to_vec()),
                Record::Error("no".to_owned()),
                Record::Expired,
            ];
            assert_eq!((found.as_slice(), records.is_partial()), (&expected[..], false), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_record_is_damage() {
        for bytes in [record(7, b""), record(2, b"{  }"), record(3, &[0; TEXT_BYTES_MAX + 1])] {
            let mut records = Records::new(3);
            records.push(&bytes);
            assert_eq!(records.next(), Err(Damaged));
        }
    }

    #[test]
    fn a_frame_tells_each_call_its_time_and_length() {
        let mut frame = vec![9; 3];
        let bodies = [(Duration::from_millis(7), &b"{}"[..]), (Duration::MAX, b"{\"a\":1}")];
        calls(&mut frame, bodies.into_iter());
        let numbers: Vec<u32> =
            frame[..24].chunks(4).map(|four| u32::from_le_bytes(four.try_into().expect("four"))).collect();
        assert_eq!(numbers, [29, 2, 7, 2, u32::MAX, 7]);
        assert_eq!(&frame[24..], b"{}{\"a\":1}");
    }
}
