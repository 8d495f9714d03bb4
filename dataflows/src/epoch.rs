//! Engine time (rule 2.1): what timely orders the dataflow by.
//!
//! ```text
//!   live       number of the last checkpoint begun, 26 bits | milliseconds since the start, 38 bits
//!   recorded   microseconds since 1970, of the records' arrival
//! ```
//! Live, a checkpoint cuts every source at a boundary, and what comes after it travels under a higher
//! number. So the frontier says by itself when all that belongs to a checkpoint has come: no clocks are
//! compared, and what overtakes the boundary is known by its number. In 26 bits there is room for two
//! years of a checkpoint a second, in 38 for eight years of one run. Recorded, a boundary is an instant
//! of the records (see `control::Boundary`).

/// Bits of the milliseconds.
const MILLIS_BITS: u32 = 38;
const MILLIS_MAX: u64 = (1 << MILLIS_BITS) - 1;

/// The live engine time after so many checkpoints, so long after the start.
pub fn live(number: u64, millis: u64) -> u64 {
    number << MILLIS_BITS | millis.min(MILLIS_MAX)
}

/// Number of the last checkpoint begun at a live engine time.
pub fn number(time: u64) -> u64 {
    time >> MILLIS_BITS
}

/// Milliseconds since the start at a live engine time.
pub fn millis(time: u64) -> u64 {
    time & MILLIS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_checkpoint_is_later_whatever_the_clock() {
        for (before, after) in [((0, 5), (0, 6)), ((0, 1 << 37), (1, 0)), ((7, u64::MAX), (8, 3))] {
            let (a, b) = (live(before.0, before.1), live(after.0, after.1));
            assert!(a < b, "{before:?} {after:?}");
            assert_eq!((number(a), number(b)), (before.0, after.0));
        }
    }
}
