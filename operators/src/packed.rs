//! Lists of small values of one size as plain bytes, little-endian, one after the other: for
//! `#[serde(with = "crate::packed")]` on the two lists that are most of a twin's record. One copy is
//! several times as fast as a varint for each number in them, and takes no more bytes.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// A value of always the same number of bytes.
pub(crate) trait Packed: Sized {
    /// How many.
    const BYTES: usize;

    /// Writes the value to exactly so many bytes.
    fn pack(&self, out: &mut [u8]);

    /// Reads it from exactly so many. Any bytes are a value.
    fn unpack(bytes: &[u8]) -> Self;
}

/// Up to so many bytes are put together without an allocation: 64 observations, or 48 properties.
const ON_STACK_MAX: usize = 768;

pub(crate) fn serialize<L, T, S>(list: &L, serializer: S) -> Result<S::Ok, S::Error>
where
    L: Deref<Target = [T]>,
    T: Packed,
    S: Serializer,
{
    let length = list.len() * T::BYTES;
    let (mut on_stack, mut on_heap) = ([0; ON_STACK_MAX], Vec::new());
    let bytes = match on_stack.get_mut(..length) {
        Some(bytes) => bytes,
        None => {
            on_heap.resize(length, 0);
            &mut on_heap[..]
        }
    };
    for (value, out) in list.iter().zip(bytes.chunks_exact_mut(T::BYTES)) {
        value.pack(out);
    }
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, L, T, D>(deserializer: D) -> Result<L, D::Error>
where
    L: Deref<Target = [T]> + From<Vec<T>>,
    T: Packed,
    D: Deserializer<'de>,
{
    deserializer.deserialize_bytes(Bytes(PhantomData)).map(L::from)
}

struct Bytes<T>(PhantomData<T>);

impl<T: Packed> Visitor<'_> for Bytes<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "values of {} bytes", T::BYTES)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
        let values = bytes.chunks_exact(T::BYTES);
        match values.remainder() {
            [] => Ok(values.map(T::unpack).collect()),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }
}
