//! When a file of the archive is complete, as one setting: `128MB/10m`.

use bytesize::ByteSize;
use humantime_serde::re::humantime;
use serde::de::{Deserialize, Deserializer, Error};
use std::str::FromStr;
use std::time::Duration;

/// A file is complete when it has this size or this age, whichever comes first; at least one of
/// the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The size of a file at which the next begins, about.
    pub size: Option<ByteSize>,
    /// The time since its first row after which a file is complete.
    pub age: Option<Duration>,
}

impl Default for Roll {
    fn default() -> Self {
        Self { size: Some(ByteSize::mb(128)), age: Some(Duration::from_secs(600)) }
    }
}

impl FromStr for Roll {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut roll = Self { size: None, age: None };
        for part in text.split('/').map(str::trim) {
            // `10m` would do as a size too, and `128M` as an age of months: what ends in B is a size,
            // and what ends in M is left to nobody's guess.
            let size = part.ends_with(['B', 'b']).then(|| part.parse::<ByteSize>().ok()).flatten();
            let age = (!part.ends_with('M')).then(|| part.parse::<humantime::Duration>().ok()).flatten();
            if let Some(size) = size.filter(|size| size.as_u64() > 0)
                && roll.size.is_none()
            {
                roll.size = Some(size);
            } else if let Some(age) = age.filter(|age| !age.is_zero())
                && roll.age.is_none()
            {
                roll.age = Some(*age);
            } else {
                return Err(format!(
                    "`{part}` is no size or age to roll at, or one too many; write for example 128MB/10m, 128MB or 10m"
                ));
            }
        }
        Ok(roll)
    }
}

impl<'de> Deserialize<'de> for Roll {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, u64)>) {
        let roll = text.parse::<Roll>();
        let got = roll.as_ref().ok().map(|roll| {
            (roll.size.map_or(0, |size| size.as_u64()), roll.age.map_or(0, |age| age.as_millis() as u64))
        });
        assert_eq!(got, expected, "{text}: {roll:?}");
    }

    #[test]
    fn a_roll_is_a_size_an_age_or_both() {
        check("128MB/10m", Some((128_000_000, 600_000)));
        check("128MB", Some((128_000_000, 0)));
        check("10m", Some((0, 600_000)));
        check("500ms / 1KiB", Some((1024, 500)));
        check("1h 30m/2GB", Some((2_000_000_000, 5_400_000)));
        check("128M", None);
        check("", None);
        check("ten", None);
        check("10m/20m", None);
        check("1MB/2MB", None);
        check("0s", None);
        check("0MB", None);
        check("1MB/1m/1m", None);
        check("128MB/", None);
    }

    #[test]
    fn a_roll_is_read_from_settings() {
        let roll: Roll = serde_json::from_str("\"1MB/1s\"").expect("a roll");
        assert_eq!(roll, Roll { size: Some(ByteSize::mb(1)), age: Some(Duration::from_secs(1)) });
        assert!(serde_json::from_str::<Roll>("5").is_err());
    }
}
