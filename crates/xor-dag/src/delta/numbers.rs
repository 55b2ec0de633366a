//! Bytes and numbers as bits for the range coder, each bit under a model of its own place.
#![deny(clippy::arithmetic_side_effects)]

use super::range_coder::{Bit, BitCoder};

/// The bits of a symbol from the highest down, each modelled under those before it: `SIZE` is two to their number.
#[derive(Clone, Debug)]
pub(crate) struct Tree<const SIZE: usize>([Bit; SIZE]);

impl<const SIZE: usize> Tree<SIZE> {
    pub(crate) const NEW: Self = Self([Bit::NEW; SIZE]);

    /// Codes a symbol below `SIZE`.
    #[inline]
    pub(crate) fn code(&mut self, coder: &mut impl BitCoder, symbol: usize) -> usize {
        // The node begins with a one, which ends up in front of the symbol's bits.
        let mut node = 1;
        let mut mask = SIZE >> 1;
        while mask > 0 {
            let Some(model) = self.0.get_mut(node) else { break };
            node = node << 1 | usize::from(coder.code(model, symbol & mask != 0));
            mask >>= 1;
        }
        node & SIZE.wrapping_sub(1)
    }
}

/// Classes of numbers: by how many bits they have.
const CLASSES: usize = 64;

/// A number of any size: its bit length as a symbol, the bits below the highest one after it.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    class: Tree<CLASSES>,
    /// The first two bits below the highest, by class.
    below: [[Bit; 4]; CLASSES],
}

impl Number {
    pub(crate) const NEW: Self = Self { class: Tree::NEW, below: [[Bit::NEW; 4]; CLASSES] };

    /// The largest number that can be coded: more than a value can have bytes.
    #[cfg(test)]
    const MAX: u64 = (1 << 40) - 2;

    /// Codes a number up to [`Number::MAX`].
    pub(crate) fn code(&mut self, coder: &mut impl BitCoder, number: u64) -> u64 {
        let number = number.saturating_add(1);
        let bits = usize::try_from(63_u32.saturating_sub(number.leading_zeros())).unwrap_or_default();
        let bits = self.class.code(coder, bits);
        let mut value = 1_u64;
        let Some(below) = self.below.get_mut(bits) else { return 0 };
        for at in (0..bits).rev() {
            let bit = number >> at & 1 == 1;
            let model = match bits.saturating_sub(at) {
                1 => below.get_mut(1),
                2 => below.get_mut(usize::from(value & 1 == 1).saturating_add(2)),
                _ => None,
            };
            let bit = match model {
                Some(model) => coder.code(model, bit),
                None => coder.code_flat(bit),
            };
            value = value << 1 | u64::from(bit);
        }
        value.saturating_sub(1)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::super::range_coder::{RangeDecoder, RangeEncoder};
    use super::*;

    proptest! {
        #[test]
        fn numbers_and_symbols_come_back(
            numbers in prop::collection::vec((0_u32..41, any::<u64>(), any::<u8>()), 0..200),
        ) {
            let numbers: Vec<(u64, usize)> = numbers
                .into_iter()
                .map(|(bits, number, byte)| ((number & ((1 << bits) - 1)).min(Number::MAX), byte.into()))
                .collect();
            let mut out = Vec::new();
            let (mut number, mut tree) = (Number::NEW, Tree::<256>::NEW);
            let mut encoder = RangeEncoder::new(&mut out);
            for (value, byte) in &numbers {
                prop_assert_eq!(number.code(&mut encoder, *value), *value);
                prop_assert_eq!(tree.code(&mut encoder, *byte), *byte);
            }
            encoder.finish();
            let (mut number, mut tree) = (Number::NEW, Tree::<256>::NEW);
            let mut decoder = RangeDecoder::new(&out);
            for (value, byte) in numbers {
                prop_assert_eq!(number.code(&mut decoder, 0), value);
                prop_assert_eq!(tree.code(&mut decoder, 0), byte);
            }
            prop_assert!(decoder.is_empty() && !decoder.is_past_the_end());
        }
    }
}
