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

use crate::twin::Twin;

/// Version of the record. It grows when the bytes of a
/// record change their meaning.
pub const VERSION: u16 = 3;

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

impl Twin {
    /// Appends the twin's record.
    pub fn write(&self, out: &mut Vec<u8>) {
        let written = postcard::serialize_with_flavor(self, Appended(out));
        written.expect("a twin has only parts of known length, and a vector takes all bytes");
    }

    /// Reads a record that is exactly these bytes, of this version. What it says is not believed yet: see
    /// [`Layout::check`](crate::layout::Layout::check), and
    /// [`Adaptation::restore`](crate::adaptation::Adaptation::restore), which does both.
    pub fn read(bytes: &[u8], version: u16) -> Result<Self, SnapshotError> {
        match version {
            // Nothing waited when those were written, which is one byte at the end since.
            1 => Self::read_present(&[bytes, &[0]].concat()),
            2 => Self::read_second(bytes),
            VERSION => Self::read_present(bytes),
            _ => Err(SnapshotError::Unknown(version)),
        }
    }

    /// No event waited for step 2 when those were written. Where something waits, that is one byte at the end since.
    fn read_second(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let padded = [bytes, &[0]].concat();
        let (twin, rest): (Self, _) = postcard::take_from_bytes(&padded)?;
        match (rest.len(), twin.waiting.is_empty()) {
            (0, false) | (1, true) => Ok(twin),
            (length, _) => Err(SnapshotError::TooLong(length.saturating_sub(1))),
        }
    }

    fn read_present(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (twin, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() { Ok(twin) } else { Err(SnapshotError::TooLong(rest.len())) }
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
