//! The four times of a twin (rule 2.1), as four types, so that none is taken for another.
//!
//! All are microseconds: device, arrival and digital time since 1970 UTC, engine time since the
//! job's start. Durations are `i64` microseconds and say so in their name (`_us`).

use serde::{Deserialize, Serialize};

/// When the physical twin says that it happened (`physical_at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceTime(pub i64);

/// When the engine took the message from its source (`arrived_at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArrivalTime(pub i64);

/// When the twin's new state was consolidated (`digital_at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DigitalTime(pub i64);

/// Progress of the dataflow, the timestamp of its epochs; never shown to a user as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EngineTime(pub u64);

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY_US: i64 = 86_400 * SECOND_US;

/// The first instant of the year 0001, and the last of the year 9999, which RFC 3339 can write.
const WRITABLE_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A duration of the settings in microseconds; beyond 292,000 years it saturates.
pub fn duration_us(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Days since 1970 of an instant, the `date` of its archive folder.
pub fn day_of(at_us: i64) -> i32 {
    at_us.div_euclid(DAY_US) as i32
}

/// Whether RFC 3339 can write this instant (years 0001 to 9999).
pub fn is_writable(at_us: i64) -> bool {
    WRITABLE_US.contains(&at_us)
}

/// Writes instants as RFC 3339, UTC. Keeps the date of the last instant, as most share one.
#[derive(Clone, Debug)]
pub struct Rfc3339 {
    day: i32,
    date: [u8; 10],
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Self { day: 0, date: *b"1970-01-01" }
    }
}

impl Rfc3339 {
    /// Appends `at_us` with milliseconds, or microseconds where it has some. An instant that
    /// cannot be written saturates at the years 0001 and 9999; check [`is_writable`] first.
    pub fn write(&mut self, at_us: i64, out: &mut Vec<u8>) {
        let at_us = at_us.clamp(*WRITABLE_US.start(), *WRITABLE_US.end());
        let day = day_of(at_us);
        if day != self.day {
            self.date = date_of(day);
            self.day = day;
        }
        let in_day_us = at_us.rem_euclid(DAY_US);
        let (second, micro) = (in_day_us / SECOND_US, (in_day_us % SECOND_US) as u32);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        out.extend_from_slice(&self.date);
        let mut text = *b"T00:00:00.000";
        two_digits(&mut text[1..], hour as u32);
        two_digits(&mut text[4..], minute as u32);
        two_digits(&mut text[7..], second as u32);
        three_digits(&mut text[10..], micro / 1000);
        out.extend_from_slice(&text);
        if micro % 1000 != 0 {
            let mut rest = [0; 3];
            three_digits(&mut rest, micro % 1000);
            out.extend_from_slice(&rest);
        }
        out.push(b'Z');
    }
}

/// The date of a day since 1970, as `YYYY-MM-DD`.
pub fn date_of(day: i32) -> [u8; 10] {
    let epoch = jiff::civil::date(1970, 1, 1);
    let date = epoch.saturating_add(jiff::Span::new().days(day.clamp(-719_162, 2_932_896)));
    let mut text = *b"0000-00-00";
    let year = date.year().max(0) as u32;
    two_digits(&mut text, year / 100);
    two_digits(&mut text[2..], year % 100);
    two_digits(&mut text[5..], date.month() as u32);
    two_digits(&mut text[8..], date.day() as u32);
    text
}

/// Reads an RFC 3339 instant with any offset; `None` where it is not one.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|timestamp| timestamp.as_microsecond())
}

fn two_digits(out: &mut [u8], number: u32) {
    out[0] = b'0' + (number / 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

fn three_digits(out: &mut [u8], number: u32) {
    out[0] = b'0' + (number / 100) as u8;
    two_digits(&mut out[1..], number % 100);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(at_us: i64) -> String {
        let mut out = Vec::new();
        Rfc3339::default().write(at_us, &mut out);
        String::from_utf8(out).expect("digits are UTF-8")
    }

    #[test]
    fn instants_are_written_and_read_back() {
        for (at_us, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_646_847_376_104_000, "2022-03-09T17:36:16.104Z"),
            (1_646_847_376_104_250, "2022-03-09T17:36:16.104250Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (253_402_200_000_000_000, "9999-12-30T20:00:00.000Z"),
        ] {
            assert_eq!(written(at_us), text);
            assert_eq!(parse_rfc3339(text), Some(at_us), "{text}");
        }
    }

    #[test]
    fn instants_out_of_range_saturate() {
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(written(i64::MIN), "0001-01-01T00:00:00.000Z");
        assert!(!is_writable(i64::MAX) && !is_writable(i64::MIN) && is_writable(0));
    }

    #[test]
    fn offsets_are_read() {
        assert_eq!(parse_rfc3339("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
