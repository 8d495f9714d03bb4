//! What the properties of a restored twin must be like, and how they move to a changed model.

use super::{Shadow, Slot, UNSET};
use crate::packed::Packed;
use crate::snapshot::{SnapshotError, require};

/// What the bits of a property's slot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// A finite double.
    Double,
    /// Any integer.
    Integer,
    /// 0 or 1.
    Flag,
    /// The index of one of so many words.
    Word(usize),
    /// The index of a text.
    Text,
}

/// Where the value of a property comes from when the model has changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The property is new.
    Nowhere,
    /// The bits of the property with this number.
    Bits(usize),
    /// The text of the property with this number.
    Text(usize),
    /// The word of the property with this number; words by their number before.
    Word(usize, Vec<Option<u16>>),
}

impl Packed for Slot {
    const BYTES: usize = 16;

    fn pack(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.bits.to_le_bytes());
        out[8..].copy_from_slice(&self.ordered_at.to_le_bytes());
    }

    fn unpack(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self { bits: word(0), ordered_at: word(8) as i64 }
    }
}

impl Shadow {
    /// Checks that a decoded shadow is one of properties with such slots.
    pub(crate) fn check(&self, properties: impl ExactSizeIterator<Item = Bits>) -> Result<(), SnapshotError> {
        // Rows and revisions are 64-bit integers with a sign.
        require(self.update <= i64::MAX as u64, "the number of its update is out of range")?;
        require(self.slots.len() == properties.len(), "it has other properties")?;
        let texts = self.texts.as_ref().map_or(0, |texts| texts.len());
        let mut owned = vec![false; texts];
        for (slot, bits) in self.slots.iter().zip(properties).filter(|(slot, _)| slot.ordered_at != UNSET) {
            match bits {
                Bits::Double => require(f64::from_bits(slot.bits).is_finite(), "a double is not finite")?,
                Bits::Integer => {}
                Bits::Flag => require(slot.bits <= 1, "a boolean is neither true nor false")?,
                Bits::Word(words) => require(slot.bits < words as u64, "a word is not in its enum")?,
                Bits::Text => {
                    let owner = owned.get_mut(slot.bits as usize).filter(|is_owned| !**is_owned);
                    *owner
                        .ok_or(SnapshotError::Contradiction("a text is not there, or of two properties"))? =
                        true;
                }
            }
        }
        require(owned.iter().all(|is_owned| *is_owned), "a text is of no property")?;
        Ok(())
    }

    /// The same twin's properties under another model. Their texts move; nothing is copied.
    pub(crate) fn adapt(mut self, origins: &[Origin]) -> Self {
        let mut texts = Vec::new();
        let set =
            |from: usize, slots: &[Slot]| slots.get(from).copied().filter(|slot| slot.ordered_at != UNSET);
        let slots = origins.iter().map(|origin| {
            let moved = match origin {
                Origin::Nowhere => None,
                Origin::Bits(from) => set(*from, &self.slots),
                Origin::Word(from, words) => set(*from, &self.slots).and_then(|slot| {
                    let word = words.get(slot.bits as usize).copied().flatten()?;
                    Some(Slot { bits: u64::from(word), ..slot })
                }),
                Origin::Text(from) => set(*from, &self.slots).and_then(|slot| {
                    let text = self.texts.as_mut()?.get_mut(slot.bits as usize)?;
                    texts.push(std::mem::take(text));
                    Some(Slot { bits: texts.len() as u64 - 1, ..slot })
                }),
            };
            moved.unwrap_or(Slot { bits: 0, ordered_at: UNSET })
        });
        let slots = slots.collect();
        texts.shrink_to_fit();
        Self { slots, texts: (!texts.is_empty()).then(|| Box::new(texts)), ..self }
    }
}
