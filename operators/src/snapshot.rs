//! A twin's record as bytes: what a checkpoint keeps of it.
//!
//! ```text
//!  Twin ── write ──► bytes ── read ──► Twin ── Layout::check ──► Adaptation::apply ──► Twin
//!                                      whole   one that its type    of the job as it
//!                                              could have written   is now
//! ```
//!
//! The bytes are those of postcard: the parts of the record in their order, numbers as varints. They
//! say nothing of the model, which a checkpoint keeps once, as a [`Layout`](crate::layout::Layout)
//! with their [`VERSION`], and carry no head and no checksum, which belong to the file that they stand in. A reader trusts neither: damaged bytes are an error, or a twin that contradicts its
//! layout, never a panic, now or at a later update.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::entanglement::{Entanglement, Expectation};
use crate::functions::Augmentation;
use crate::handler::Handled;
use crate::life_cycle::LifeCycle;
use crate::shadowing::Shadow;
use crate::twin::Twin;
use crate::waiting::Waiting;

/// Version of the record. It grows when the bytes of a
/// record change their meaning.
pub const VERSION: u16 = 4;

/// Why the bytes are not the record of a twin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// They are cut, or no values of the record's parts.
    #[error("the record of a twin is damaged: {0}; restore from an earlier checkpoint")]
    Encoding(#[from] postcard::Error),
    /// The record ends before its bytes do.
    #[error("the record of a twin is damaged: {0} bytes follow it; restore from an earlier checkpoint")]
    TooLong(usize),
    /// It is of a version that this program does not know.
    #[error(
        "the record of a twin is of version {0}; this program reads up to version {VERSION}: use a newer one"
    )]
    Unknown(u16),
    /// It is a record, but not one that its type could have written.
    #[error("the record of a twin contradicts its type: {0}; restore from an earlier checkpoint")]
    Contradiction(&'static str),
}

/// Instants of a twin lie within half the range of 64 bits, so that an interval more or less never
/// overflows.
const TIME_US_MAX: i64 = i64::MAX / 2;

/// Whether an instant may stand in a twin's record.
pub(crate) fn is_time(at_us: i64) -> bool {
    (-TIME_US_MAX..=TIME_US_MAX).contains(&at_us)
}

/// An error where something that a twin's code relies on does not hold.
pub(crate) fn require(holds: bool, otherwise: &'static str) -> Result<(), SnapshotError> {
    if holds { Ok(()) } else { Err(SnapshotError::Contradiction(otherwise)) }
}

/// A twin's record, in the order of its bytes: what came with a later version stands behind what was there.
#[derive(Serialize)]
struct Written<'a> {
    twin_type: u16,
    shadow: &'a Shadow,
    augmentation: &'a Augmentation,
    entanglement: &'a Entanglement,
    life_cycle: &'a LifeCycle,
    handled: &'a Handled,
    /// Since version 2.
    waiting: &'a Waiting,
    /// Since version 4.
    expectation: &'a Option<Box<Expectation>>,
}

/// The same as it is read.
#[derive(Deserialize)]
struct Record {
    twin_type: u16,
    shadow: Shadow,
    augmentation: Augmentation,
    entanglement: Entanglement,
    life_cycle: LifeCycle,
    handled: Handled,
    waiting: Waiting,
    expectation: Option<Box<Expectation>>,
}

impl<'a> From<&'a Twin> for Written<'a> {
    fn from(twin: &'a Twin) -> Self {
        let Twin { twin_type, class: _, shadow, augmentation, entanglement, life_cycle, handled, waiting } =
            twin;
        let expectation = &entanglement.expectation;
        Self {
            twin_type: *twin_type,
            shadow,
            augmentation,
            entanglement,
            life_cycle,
            handled,
            waiting,
            expectation,
        }
    }
}

impl From<Record> for Twin {
    fn from(record: Record) -> Self {
        let Record { twin_type, shadow, augmentation, life_cycle, handled, waiting, .. } = record;
        let mut entanglement = record.entanglement;
        entanglement.expectation = record.expectation;
        Self { twin_type, class: 0, shadow, augmentation, entanglement, life_cycle, handled, waiting }
    }
}

impl Twin {
    /// Appends the twin's record.
    pub fn write(&self, out: &mut Vec<u8>) {
        let written = postcard::serialize_with_flavor(&Written::from(self), Appended(out));
        written.expect("a twin has only parts of known length, and a vector takes all bytes");
    }

    /// Reads a record that is exactly these bytes, of this version. What it says is not believed yet: see
    /// [`Layout::check`](crate::layout::Layout::check), and
    /// [`Adaptation::restore`](crate::adaptation::Adaptation::restore), which does both.
    pub fn read(bytes: &[u8], version: u16) -> Result<Self, SnapshotError> {
        match version {
            // Nothing waited when those were written, and nothing but an even rate was expected: each is one byte
            // at the end since.
            1 => Self::read_present(&[bytes, &[0, 0]].concat()),
            2 => Self::read_second(bytes),
            3 => Self::read_present(&[bytes, &[0]].concat()),
            VERSION => Self::read_present(bytes),
            _ => Err(SnapshotError::Unknown(version)),
        }
    }

    /// No event waited for step 2 when those were written. Where something waits, that is one byte behind it since.
    fn read_second(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let padded = [bytes, &[0, 0]].concat();
        let (record, rest): (Record, _) = postcard::take_from_bytes(&padded)?;
        match (rest.len(), record.waiting.is_empty()) {
            (0, false) | (1, true) => Ok(record.into()),
            (length, _) => Err(SnapshotError::TooLong(length.saturating_sub(1))),
        }
    }

    fn read_present(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (record, rest): (Record, _) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() { Ok(record.into()) } else { Err(SnapshotError::TooLong(rest.len())) }
    }
}

/// Bytes at the end of a vector that is there already: nothing is allocated for a record.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
