//! An adaptive binary range coder: each yes or no costs what it was to be expected to cost.
//!
//! The coder narrows an interval of 32 bits by the probability of each bit and gives out the bytes on which both ends agree
//! (G. N. N. Martin, "Range encoding", 1979; the binary form is that of the PAQ family). Probabilities learn from what was
//! coded, so that no tables have to be sent, which would be most of a short delta.
#![deny(clippy::arithmetic_side_effects)]

/// Bytes that may be read past the end, as zeros: the encoder leaves zeros out.
const ZEROS_MAX: u8 = 8;

/// Bits after which a probability follows at its slowest pace.
const SETTLED: u8 = 30;

/// How far a probability moves with a bit, in parts of 65,536, by how many bits came before: 1/2, 1/3 and so on.
const PARTS: [i32; 31] = [
    32_768, 21_845, 16_384, 13_107, 10_922, 9_362, 8_192, 7_281, 6_553, 5_957, 5_461, 5_041, 4_681, 4_369,
    4_096, 3_855, 3_640, 3_449, 3_276, 3_120, 2_978, 2_849, 2_730, 2_621, 2_520, 2_427, 2_340, 2_259, 2_184,
    2_114, 2_048,
];

/// How likely a bit is 1, learned from those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bit {
    /// In parts of 65,536.
    ones: u16,
    seen: u8,
}

impl Bit {
    pub(crate) const NEW: Self = Self { ones: 1 << 15, seen: 0 };

    /// Learns a bit: the first ones count much, those after [`SETTLED`] little.
    #[inline]
    pub(crate) fn learn(&mut self, bit: bool) {
        let part = PARTS.get(usize::from(self.seen)).copied().unwrap_or_default();
        // No bit is ever certain: both ends are out of reach.
        let goal = if bit { 65_504 } else { 32 };
        let way = i32::from(self.ones).wrapping_sub(goal).wrapping_mul(part) >> 16;
        self.ones = u16::try_from(i32::from(self.ones).wrapping_sub(way)).unwrap_or(1 << 15);
        self.seen = self.seen.saturating_add(1).min(SETTLED);
    }
}

/// Codes bits one way or the other: what is written to an encoder is what a decoder gives back, so that both ways share
/// all code above.
pub(crate) trait BitCoder {
    /// Codes `bit` under what `model` expects, and lets it learn. A decoder does not look at `bit`.
    fn code(&mut self, model: &mut Bit, bit: bool) -> bool;

    /// Codes a bit that nothing is known of.
    fn code_flat(&mut self, bit: bool) -> bool;
}

/// Both ends of the interval.
#[derive(Clone, Copy, Debug)]
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const ALL: Self = Self { low: 0, high: u32::MAX };

    /// Where the ones end; it is below the upper end, because the ends differ in their first byte.
    #[inline]
    fn split(self, ones: u16) -> u32 {
        let range = u64::from(self.high.wrapping_sub(self.low));
        let part = range.wrapping_mul(u64::from(ones)) >> 16;
        // The part of a range of 32 bits has no more.
        self.low.wrapping_add(u32::try_from(part).unwrap_or_default())
    }

    #[inline]
    fn narrow(&mut self, split: u32, bit: bool) {
        if bit {
            self.high = split;
        } else {
            self.low = split.wrapping_add(1);
        }
    }

    /// Moves on by a byte on which both ends agree, and gives it.
    #[inline]
    fn shift(&mut self) -> Option<u8> {
        let [first, ..] = self.low.to_be_bytes();
        if first != self.high.to_be_bytes()[0] {
            return None;
        }
        self.low <<= 8;
        self.high = self.high << 8 | 0xFF;
        Some(first)
    }
}

/// Writes bits as bytes behind what is in `out`.
#[derive(Debug)]
pub(crate) struct RangeEncoder<'a> {
    out: &'a mut Vec<u8>,
    interval: Interval,
}

impl<'a> RangeEncoder<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, interval: Interval::ALL }
    }

    /// Bytes so far, with those before.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes as many bytes as single out the interval, with zeros behind them.
    pub(crate) fn finish(self) {
        let Interval { low, high } = self.interval;
        let masks = [0, 0xFF00_0000, 0xFFFF_0000, 0xFFFF_FF00, u32::MAX];
        let bytes = masks.iter().position(|mask| high & mask >= low).unwrap_or(4);
        self.out.extend(high.to_be_bytes().iter().take(bytes));
    }

    #[inline]
    fn put(&mut self, ones: u16, bit: bool) {
        let split = self.interval.split(ones);
        self.interval.narrow(split, bit);
        while let Some(byte) = self.interval.shift() {
            self.out.push(byte);
        }
    }
}

impl BitCoder for RangeEncoder<'_> {
    #[inline]
    fn code(&mut self, model: &mut Bit, bit: bool) -> bool {
        self.put(model.ones, bit);
        model.learn(bit);
        bit
    }

    #[inline]
    fn code_flat(&mut self, bit: bool) -> bool {
        self.put(1 << 15, bit);
        bit
    }
}

/// Reads what [`RangeEncoder`] wrote.
#[derive(Debug)]
pub(crate) struct RangeDecoder<'a> {
    rest: &'a [u8],
    zeros: u8,
    interval: Interval,
    value: u32,
}

impl<'a> RangeDecoder<'a> {
    pub(crate) fn new(code: &'a [u8]) -> Self {
        let mut decoder = Self { rest: code, zeros: 0, interval: Interval::ALL, value: 0 };
        (0..4).for_each(|_| decoder.pull());
        decoder
    }

    /// Whether more was read than was there: what comes out then was never put in.
    pub(crate) fn is_past_the_end(&self) -> bool {
        self.zeros > ZEROS_MAX
    }

    /// Whether all bytes were read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn pull(&mut self) {
        let byte = match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                *byte
            }
            None => {
                self.zeros = self.zeros.saturating_add(1);
                0
            }
        };
        self.value = self.value << 8 | u32::from(byte);
    }

    #[inline]
    fn get(&mut self, ones: u16) -> bool {
        let split = self.interval.split(ones);
        let bit = self.value <= split;
        self.interval.narrow(split, bit);
        while self.interval.shift().is_some() {
            self.pull();
        }
        bit
    }
}

impl BitCoder for RangeDecoder<'_> {
    #[inline]
    fn code(&mut self, model: &mut Bit, _: bool) -> bool {
        let bit = self.get(model.ones);
        model.learn(bit);
        bit
    }

    #[inline]
    fn code_flat(&mut self, _: bool) -> bool {
        self.get(1 << 15)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(bits: &[(bool, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut encoder, mut models) = (RangeEncoder::new(&mut out), [Bit::NEW; 4]);
        for (bit, model) in bits {
            match models.get_mut(*model) {
                Some(model) => encoder.code(model, *bit),
                None => encoder.code_flat(*bit),
            };
        }
        encoder.finish();
        out
    }

    fn decode(code: &[u8], asked: &[(bool, usize)]) -> Option<Vec<bool>> {
        let (mut decoder, mut models) = (RangeDecoder::new(code), [Bit::NEW; 4]);
        let bits = asked.iter().map(|(_, model)| match models.get_mut(*model) {
            Some(model) => decoder.code(model, false),
            None => decoder.code_flat(true),
        });
        let bits = bits.collect();
        (!decoder.is_past_the_end() && decoder.is_empty()).then_some(bits)
    }

    proptest! {
        #[test]
        fn bits_come_back(bits in prop::collection::vec((prop::bool::weighted(0.9), 0_usize..5), 0..3_000)) {
            let code = encode(&bits);
            let expected: Vec<bool> = bits.iter().map(|(bit, _)| *bit).collect();
            prop_assert_eq!(decode(&code, &bits), Some(expected));
        }
    }

    #[test]
    fn what_is_expected_costs_little_and_what_is_unknown_a_bit() {
        let always = encode(&[(true, 0); 10_000]);
        assert!(always.len() < 60, "{} bytes", always.len());
        // Each bit twice as often 1: 0.92 bits each.
        let mostly: Vec<_> =
            (0_u32..30_000).map(|at| (at.wrapping_mul(2_654_435_761) >> 16 < 43_690, 0)).collect();
        let len = encode(&mostly).len();
        assert!((3_300..3_560).contains(&len), "{len} bytes");
        let flat: Vec<_> = (0..8_000).map(|at: usize| (at.is_multiple_of(3), 4)).collect();
        assert!((1_000..1_003).contains(&encode(&flat).len()), "{}", encode(&flat).len());
    }

    #[test]
    fn a_probability_follows_the_average_and_never_reaches_the_ends() {
        for (seen, part) in (2..).zip(PARTS) {
            assert_eq!(part, 65_536 / seen);
        }
        for bit in [false, true] {
            let mut model = Bit::NEW;
            (0..100_000).for_each(|_| model.learn(bit));
            assert!((1..=u16::MAX - 1).contains(&model.ones), "{}", model.ones);
            assert!(if bit { model.ones > 65_000 } else { model.ones < 600 }, "{}", model.ones);
        }
    }

    #[test]
    fn nothing_costs_nothing_and_an_end_is_noticed() {
        assert_eq!(encode(&[]), [0; 0]);
        let bits: Vec<_> = (0..400).map(|at: usize| (at % 3 == 1, 4)).collect();
        let code = encode(&bits);
        assert_eq!(decode(&code[..code.len() - 9], &bits), None);
        assert_eq!(decode(&[&code[..], &[0; 5]].concat(), &bits), None);
    }
}
