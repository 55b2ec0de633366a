//! Rice codes: ascending positions as gaps, each gap its high part in unary and its low `k` bits as they are.
//!
//! For changes that fall anywhere with equal chance the gaps are geometric, and a Rice code with the right `k` is within a few
//! per cent of what any code can do (R. F. Rice, "Some Practical Universal Noiseless Coding Techniques", 1979).
#![deny(clippy::arithmetic_side_effects)]

/// The most low bits of a gap that are written as they are.
pub(crate) const LOW_BITS_MAX: u8 = 32;

/// The bits of `count` positions below `end`, at most, with `low_bits` of each gap as they are.
fn bits(count: usize, end: usize, low_bits: u8) -> usize {
    // The high parts of all gaps together are no more than that of the end; each gap has a stop bit.
    let fixed = count.saturating_mul(usize::from(low_bits).saturating_add(1));
    fixed.saturating_add(end.checked_shr(u32::from(low_bits)).unwrap_or(0))
}

/// The best number of low bits for `count` positions below `end`, and the bytes that they then take at most.
pub(crate) fn plan(count: usize, end: usize) -> (u8, usize) {
    let best = (0..=LOW_BITS_MAX).map(|low_bits| (low_bits, bits(count, end, low_bits)));
    let (low_bits, bits) = best.min_by_key(|(_, bits)| *bits).unwrap_or_default();
    (low_bits, bits.div_ceil(8))
}

/// Writes ascending positions, the first bit of the code into the lowest bit of the first byte.
pub(crate) struct GapWriter<'a> {
    out: &'a mut Vec<u8>,
    low_bits: u8,
    /// The least that the next position can be.
    next: u64,
    pending: u64,
    pending_bits: u32,
}

impl<'a> GapWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, low_bits: u8) -> Self {
        Self { out, low_bits: low_bits.min(LOW_BITS_MAX), next: 0, pending: 0, pending_bits: 0 }
    }

    /// Writes a position that is greater than those before.
    pub(crate) fn put(&mut self, position: u64) {
        let gap = position.saturating_sub(self.next);
        self.next = position.saturating_add(1);
        let mut high = gap >> self.low_bits;
        while high >= 24 {
            self.bits(0, 24);
            high = high.saturating_sub(24);
        }
        let high = u32::try_from(high).unwrap_or_default();
        // Zeros, then the stop bit.
        self.bits(1 << high, high.saturating_add(1));
        self.bits(gap & (1_u64 << self.low_bits).wrapping_sub(1), u32::from(self.low_bits));
    }

    #[inline]
    fn bits(&mut self, value: u64, count: u32) {
        // Fewer than 32 bits wait, and at most 32 come.
        self.pending |= value << self.pending_bits;
        self.pending_bits = self.pending_bits.saturating_add(count);
        if self.pending_bits >= 32 {
            self.flush(4);
        }
    }

    #[inline]
    fn flush(&mut self, bytes: u32) {
        let pending = self.pending.to_le_bytes();
        self.out
            .extend_from_slice(pending.get(..usize::try_from(bytes).unwrap_or_default()).unwrap_or_default());
        self.pending = self.pending.checked_shr(bytes.saturating_mul(8)).unwrap_or(0);
        self.pending_bits = self.pending_bits.saturating_sub(bytes.saturating_mul(8));
    }

    /// Writes what waits, the last byte filled with zeros.
    pub(crate) fn finish(mut self) {
        self.flush(self.pending_bits.div_ceil(8));
    }
}

/// Reads what [`GapWriter`] wrote.
#[derive(Clone, Copy)]
pub(crate) struct GapReader<'a> {
    rest: &'a [u8],
    low_bits: u8,
    next: u64,
    pending: u64,
    pending_bits: u32,
}

impl<'a> GapReader<'a> {
    /// `None` for more low bits than there can be.
    pub(crate) fn new(code: &'a [u8], low_bits: u8) -> Option<Self> {
        let reader = Self { rest: code, low_bits, next: 0, pending: 0, pending_bits: 0 };
        (low_bits <= LOW_BITS_MAX).then_some(reader)
    }

    /// Makes at least 56 bits wait, if there are so many; never more than 63.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(word) = self.rest.first_chunk::<8>() {
            // As many whole bytes as there is room for; what stands above them is the beginning of the next, which comes
            // to the same place again.
            self.pending |= u64::from_le_bytes(*word) << (self.pending_bits & 63);
            let taken = (63 ^ (self.pending_bits & 63)) >> 3;
            self.pending_bits |= 56;
            self.rest = self.rest.get(usize::try_from(taken).unwrap_or_default()..).unwrap_or_default();
            return;
        }
        while self.pending_bits < 56
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.pending |= u64::from(*byte) << self.pending_bits;
            (self.pending_bits, self.rest) = (self.pending_bits.wrapping_add(8), rest);
        }
    }

    /// Takes bits, at most 63 and no more than wait.
    #[inline(always)]
    fn take(&mut self, count: u32) {
        self.pending >>= count & 63;
        self.pending_bits = self.pending_bits.wrapping_sub(count);
    }

    /// The next position; `None` if the code ends before, or leaves what can be counted.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "kept in registers by the loop around it, places are read in half the time"
    )]
    pub(crate) fn next(&mut self) -> Option<u64> {
        self.fill();
        let low_bits = u32::from(self.low_bits);
        let zeros = self.pending.trailing_zeros();
        let bits = zeros.wrapping_add(1).wrapping_add(low_bits);
        if bits > self.pending_bits {
            // By value, so that the reader of the loop around this stays in registers.
            let (reader, position) = (*self).long_gap()?;
            *self = reader;
            return Some(position);
        }
        // Mostly all of a gap waits: at most 63 bits, of which at most 32 are low ones, so that nothing is shifted out.
        let low = (self.pending >> (zeros.wrapping_add(1) & 63)) & (1_u64 << low_bits).wrapping_sub(1);
        self.take(bits);
        self.advance(u64::from(zeros) << low_bits | low)
    }

    /// The position behind a gap.
    #[inline(always)]
    fn advance(&mut self, gap: u64) -> Option<u64> {
        let position = self.next.checked_add(gap)?;
        self.next = position.checked_add(1)?;
        Some(position)
    }

    /// The reader behind a gap, whatever its length, and the position behind it.
    #[cold]
    fn long_gap(mut self) -> Option<(Self, u64)> {
        let mut high = 0_u64;
        loop {
            self.fill();
            let zeros = self.pending.trailing_zeros().min(self.pending_bits);
            high = high.checked_add(u64::from(zeros))?;
            if zeros < self.pending_bits {
                self.take(zeros.saturating_add(1));
                break;
            }
            if self.pending_bits == 0 {
                return None;
            }
            self.take(zeros);
        }
        self.fill();
        let low_bits = u32::from(self.low_bits);
        if self.pending_bits < low_bits {
            return None;
        }
        let low = self.pending & (1_u64 << low_bits).wrapping_sub(1);
        self.take(low_bits);
        let position = self.advance(high.checked_mul(1 << low_bits)?.checked_add(low)?)?;
        Some((self, position))
    }

    /// Whether only the zeros that fill the last byte are left.
    pub(crate) fn is_finished(&self) -> bool {
        self.rest.is_empty() && self.pending_bits < 8 && self.pending == 0
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(positions: &[u64], low_bits: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = GapWriter::new(&mut out, low_bits);
        positions.iter().for_each(|position| writer.put(*position));
        writer.finish();
        out
    }

    fn read(code: &[u8], count: usize, low_bits: u8) -> Option<Vec<u64>> {
        let mut reader = GapReader::new(code, low_bits)?;
        let positions = (0..count).map(|_| reader.next()).collect::<Option<Vec<_>>>()?;
        reader.is_finished().then_some(positions)
    }

    /// The reference: the code as a text of zeros and ones.
    fn reference(positions: &[u64], low_bits: u8) -> Vec<u8> {
        let (mut text, mut next) = (String::new(), 0);
        for position in positions {
            let gap = position - next;
            next = position + 1;
            text.extend((0..gap >> low_bits).map(|_| '0').chain(['1']));
            text.extend((0..low_bits).map(|bit| if gap >> bit & 1 == 1 { '1' } else { '0' }));
        }
        let bits: Vec<u8> = text.bytes().map(|bit| bit - b'0').collect();
        bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |all, bit| all << 1 | bit)).collect()
    }

    #[test]
    fn examples_bit_by_bit() {
        assert_eq!(write(&[0], 0), [0b1]);
        assert_eq!(write(&[3], 0), [0b1000]);
        assert_eq!(write(&[5], 1), [0b1100], "two zeros, stop, low bit 1");
        assert_eq!(write(&[0, 1, 2], 0), [0b111]);
        assert_eq!(read(&[0b1100], 1, 1), Some(vec![5]));
        assert_eq!(read(&[0b0010_1100], 1, 1), None, "a bit that belongs to no position");
        assert_eq!(read(&[0b1100, 0], 1, 1), None, "a byte too many");
        assert_eq!(read(&[0b1], 1, 8), None, "low bits that are not there");
        assert_eq!(read(&[], 1, 0), None);
        assert!(GapReader::new(&[], 33).is_none());
    }

    proptest! {
        #[test]
        fn positions_come_back_and_take_no_more_than_planned(
            gaps in prop::collection::vec(prop_oneof![0_u64..3, 0_u64..500, 0_u64..70_000], 0..200),
            low_bits in 0_u8..=32,
        ) {
            let mut next = 0;
            let positions: Vec<u64> =
                gaps.iter().map(|gap| { let position = next + gap; next = position + 1; position }).collect();
            let short = positions.iter().take_while(|position| **position < 100_000).copied().collect::<Vec<_>>();
            prop_assert_eq!(write(&short, low_bits), reference(&short, low_bits));
            let code = write(&positions, low_bits.max(4));
            prop_assert_eq!(read(&code, positions.len(), low_bits.max(4)), Some(positions.clone()));
            let (best, most) = plan(positions.len(), usize::try_from(next).unwrap());
            let code = write(&positions, best);
            prop_assert!(code.len() <= most, "{} bytes, planned {}", code.len(), most);
            prop_assert_eq!(read(&code, positions.len(), best), Some(positions.clone()));
            if let Some(cut) = code.split_last().map(|(_, cut)| cut) {
                prop_assert_eq!(read(cut, positions.len(), best), None);
            }
        }
    }
}
