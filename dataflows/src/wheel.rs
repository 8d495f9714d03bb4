//! When to look at which twin again: a calendar of slots, coarse on purpose.
//!
//! A twin knows its next tick to the microsecond and its tick is stamped with that time (rule
//! 2.4), so the calendar only has to be early enough: it is kept in days of 100 ms. An entry is
//! never taken out; one that is out of date finds a twin that is not due, and is dropped.

use std::collections::BTreeMap;

use crate::bins::Slot;

/// Width of a calendar day.
pub const DAY_US: i64 = 100_000;

/// Slots by the calendar day of their next tick.
#[derive(Default)]
pub struct Wheel {
    days: BTreeMap<i64, Vec<Slot>>,
    /// Entries of a day that has passed and was not worked off yet.
    due: Vec<Slot>,
}

impl Wheel {
    /// Enters a slot that wants to be looked at, at `wake_us`.
    pub fn enter(&mut self, wake_us: i64, slot: Slot) {
        self.days.entry(wake_us.div_euclid(DAY_US)).or_default().push(slot);
    }

    /// Takes one slot of a day up to `last_day`.
    pub fn next_due(&mut self, last_day: i64) -> Option<Slot> {
        if self.due.is_empty() {
            let day = self.days.first_entry()?;
            if *day.key() > last_day {
                return None;
            }
            self.due = day.remove();
        }
        self.due.pop()
    }

    /// When the first slot wants to be looked at: the end of its day; none where no slot does.
    pub fn first_us(&self) -> Option<i64> {
        match self.due.is_empty() {
            true => self.days.first_key_value().map(|(day, _)| (day + 1).saturating_mul(DAY_US)),
            false => Some(i64::MIN),
        }
    }

    /// Whether some slot waits to be worked off.
    pub fn is_due(&self, last_day: i64) -> bool {
        let first = self.days.first_key_value();
        !self.due.is_empty() || first.is_some_and(|(day, _)| *day <= last_day)
    }
}

/// The last day that is over at `now_us`: all its ticks are due.
pub fn last_day_over(now_us: i64) -> i64 {
    (now_us + 1).div_euclid(DAY_US) - 1
}

/// The day that `now_us` is in: some of its ticks may be due.
pub fn day_of(now_us: i64) -> i64 {
    now_us.div_euclid(DAY_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_when_their_day_is_over() {
        let slot = Slot::of_index;
        let mut wheel = Wheel::default();
        wheel.enter(250_000, slot(1));
        wheel.enter(50_000, slot(2));
        assert_eq!(wheel.first_us(), Some(100_000));
        assert!(!wheel.is_due(last_day_over(99_998)));
        assert_eq!(wheel.next_due(last_day_over(99_999)), Some(slot(2)));
        assert_eq!(wheel.next_due(last_day_over(250_000)), None);
        assert_eq!(wheel.next_due(day_of(250_000)), Some(slot(1)));
        assert_eq!(wheel.next_due(i64::MAX), None);
        assert_eq!(wheel.first_us(), None);
    }
}
