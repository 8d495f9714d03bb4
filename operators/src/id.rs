//! Ids of twins (rule 8.1): what one may be, its hash, its bin, and how it stands in a topic.

use std::fmt::Write;

/// Longest id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 256;

/// Bins of a job; the bin of a twin is the top bits of its hash.
pub const BINS: usize = 1 << BIN_BITS;
const BIN_BITS: u32 = 10;

/// The seed of version 1 of the hash. It is a format: state that was written under it is found
/// again only under it.
const HASH_SEED: u64 = 0x7477_696e_6c6f_6f6d;

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("the twin id is empty")]
    Empty,
    /// Over [`ID_BYTES_MAX`].
    #[error("the twin id has {0} bytes, more than {ID_BYTES_MAX}")]
    TooLong(usize),
    /// A character below U+0020, or U+007F to U+009F.
    #[error("the twin id has a control character")]
    Control,
}

/// Whether a text may be the id of a twin.
pub fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(id.len()));
    }
    // Printable ASCII, the usual case, needs no decoding.
    if id.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(());
    }
    if id.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
}

/// The 64-bit hash that travels between workers: XXH3 with a fixed seed, version 1.
pub fn hash(id: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(id, HASH_SEED)
}

/// The bin of a twin, from the top bits of its hash.
pub fn bin(hash: u64) -> usize {
    (hash >> (u64::BITS - BIN_BITS)) as usize
}

/// Appends an id to a topic: `/ + # %` become `%2F %2B %23 %25`.
pub fn encode_in_topic(id: &str, topic: &mut String) {
    for char in id.chars() {
        if matches!(char, '/' | '+' | '#' | '%') {
            // Writing to a String cannot fail.
            let _ = write!(topic, "%{:02X}", u32::from(char));
        } else {
            topic.push(char);
        }
    }
}

/// Takes an id out of a topic level: the four codes of [`encode_in_topic`] are undone, any other
/// `%` stands for itself.
pub fn decode_from_topic<'a>(level: &'a str, buffer: &'a mut String) -> &'a str {
    if !level.contains('%') {
        return level;
    }
    buffer.clear();
    let mut rest = level;
    while let Some(position) = rest.find('%') {
        buffer.push_str(&rest[..position]);
        rest = &rest[position..];
        let code = rest.get(1..3).map(str::to_ascii_uppercase);
        let char = match code.as_deref() {
            Some("2F") => '/',
            Some("2B") => '+',
            Some("23") => '#',
            Some("25") => '%',
            _ => {
                buffer.push('%');
                rest = &rest[1..];
                continue;
            }
        };
        buffer.push(char);
        rest = &rest[3..];
    }
    buffer.push_str(rest);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_up_to_256_bytes_without_control_characters() {
        for (id, expected) in [
            ("p-0417", Ok(())),
            ("a/b c ü 日本", Ok(())),
            ("", Err(IdError::Empty)),
            ("a\tb", Err(IdError::Control)),
            ("a\u{85}b", Err(IdError::Control)),
        ] {
            assert_eq!(check(id), expected, "{id:?}");
        }
        assert_eq!(check(&"x".repeat(256)), Ok(()));
        assert_eq!(check(&"x".repeat(257)), Err(IdError::TooLong(257)));
    }

    #[test]
    fn the_hash_is_a_format() {
        assert_eq!(hash(b"p-0417"), 5_233_652_374_107_497_423);
    }

    #[test]
    fn bins_are_used_evenly() {
        let mut counts = vec![0u32; BINS];
        for number in 0..102_400 {
            counts[bin(hash(format!("twin-{number}").as_bytes()))] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)));
    }

    #[test]
    fn ids_stand_encoded_in_topics() {
        for (id, level) in [("plain", "plain"), ("a/b+c#d%e", "a%2Fb%2Bc%23d%25e"), ("ü 日本", "ü 日本")]
        {
            let mut topic = String::new();
            encode_in_topic(id, &mut topic);
            assert_eq!(topic, level);
            assert_eq!(decode_from_topic(level, &mut String::new()), id);
        }
        assert_eq!(decode_from_topic("50%", &mut String::new()), "50%");
        assert_eq!(decode_from_topic("%2f%zz%2", &mut String::new()), "/%zz%2");
    }
}
