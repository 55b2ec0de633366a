//! Rice codes: ascending positions as gaps, each gap its high part in unary and its low `k` bits as they are.
//!
//! For changes that fall anywhere with equal chance the gaps are geometric, and a Rice code with the right `k` is within a few
//! per cent of what any code can do (R. F. Rice, "Some Practical Universal Noiseless Coding Techniques", 1979).
//!
//! The low bits of all gaps stand before the high parts of all. So where a gap ends does not have to be known before the next
//! can be looked for, and the processor is busy with several at a time: half the time of one behind the other.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::disk_len;

/// The most low bits of a gap that are written as they are.
pub(crate) const LOW_BITS_MAX: u8 = 32;

/// The bytes of `count` positions below `end`, at most, with `low_bits` of each gap as they are.
fn bytes(count: usize, end: usize, low_bits: u8) -> usize {
    // The high parts of all gaps together are no more than that of the end; each gap has a stop bit.
    let highs = count.saturating_add(end.checked_shr(u32::from(low_bits)).unwrap_or(0));
    lows_len(count, low_bits).unwrap_or(usize::MAX).saturating_add(highs.div_ceil(8))
}

/// The best number of low bits for `count` positions below `end`, and the bytes that they then take at most.
pub(crate) fn plan(count: usize, end: usize) -> (u8, usize) {
    let all = (0..=LOW_BITS_MAX).map(|low_bits| (low_bits, bytes(count, end, low_bits)));
    all.min_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

/// Bytes of the low bits of `count` gaps; `None` for more than can be counted.
fn lows_len(count: usize, low_bits: u8) -> Option<usize> {
    Some(count.checked_mul(usize::from(low_bits))?.div_ceil(8))
}

/// Bits on their way into bytes, the first into the lowest bit.
#[derive(Default)]
struct Pending {
    bits: u64,
    count: u32,
}

impl Pending {
    /// Adds at most 32 bits, and gives out the four bytes that are complete then, if so many are.
    #[inline]
    fn put(&mut self, bits: u64, count: u32) -> Option<[u8; 4]> {
        // Fewer than 32 bits wait.
        self.bits |= bits << self.count;
        self.count = self.count.saturating_add(count);
        if self.count < 32 {
            return None;
        }
        let [a, b, c, d, ..] = self.bits.to_le_bytes();
        self.bits >>= 32;
        self.count = self.count.saturating_sub(32);
        Some([a, b, c, d])
    }

    /// What waits, the last byte filled with zeros.
    fn rest(&self) -> ([u8; 8], usize) {
        (self.bits.to_le_bytes(), usize::try_from(self.count.div_ceil(8)).unwrap_or_default())
    }
}

/// Writes ascending positions: the low bits of all gaps, then their high parts.
pub(crate) struct GapWriter<'a> {
    out: &'a mut Vec<u8>,
    low_bits: u8,
    /// The least that the next position can be.
    next: u64,
    /// Where the next low bits go.
    lows_at: usize,
    lows: Pending,
    highs: Pending,
}

impl<'a> GapWriter<'a> {
    /// Appends the code of exactly `count` positions.
    pub(crate) fn new(out: &'a mut Vec<u8>, low_bits: u8, count: usize) -> Self {
        let low_bits = low_bits.min(LOW_BITS_MAX);
        let lows_at = out.len();
        out.resize(lows_at.saturating_add(lows_len(count, low_bits).unwrap_or_default()), 0);
        Self { out, low_bits, next: 0, lows_at, lows: Pending::default(), highs: Pending::default() }
    }

    /// Writes a position that is greater than those before.
    pub(crate) fn put(&mut self, position: u64) {
        let gap = position.saturating_sub(self.next);
        self.next = position.saturating_add(1);
        let mut high = gap >> self.low_bits;
        while high >= 24 {
            self.high(0, 24);
            high = high.saturating_sub(24);
        }
        let high = u32::try_from(high).unwrap_or_default();
        // Zeros, then the stop bit.
        self.high(1 << high, high.saturating_add(1));
        let low = gap & (1_u64 << self.low_bits).wrapping_sub(1);
        if let Some(bytes) = self.lows.put(low, u32::from(self.low_bits)) {
            self.low_bytes(&bytes);
        }
    }

    #[inline]
    fn high(&mut self, bits: u64, count: u32) {
        if let Some(bytes) = self.highs.put(bits, count) {
            self.out.extend_from_slice(&bytes);
        }
    }

    #[inline]
    fn low_bytes(&mut self, bytes: &[u8]) {
        let end = self.lows_at.saturating_add(bytes.len());
        if let Some(place) = self.out.get_mut(self.lows_at..end) {
            place.copy_from_slice(bytes);
        }
        self.lows_at = end;
    }

    /// Writes what waits.
    pub(crate) fn finish(mut self) {
        let (bytes, len) = self.lows.rest();
        self.low_bytes(bytes.get(..len).unwrap_or_default());
        let (bytes, len) = self.highs.rest();
        self.out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    }
}

/// What is wrong with a code: what there should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongCode {
    LowBits,
    Count,
    Padding,
    /// A position that `each` refused, or one that cannot be counted.
    Position,
}

impl WrongCode {
    /// What was expected.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::LowBits => "at most 32 low bits",
            Self::Count => "as many places as counted",
            Self::Padding => "zeros behind the last place",
            Self::Position => "places within the value",
        }
    }
}

/// The low bits of gaps, one after the other; zeros behind the last byte.
struct Lows<'a> {
    rest: &'a [u8],
    low_bits: u32,
    pending: u64,
    pending_bits: u32,
}

impl Lows<'_> {
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "kept in registers by the loop around it, places are read in half the time"
    )]
    fn next(&mut self) -> u64 {
        if self.pending_bits < self.low_bits {
            self.fill();
        }
        let low = self.pending & (1_u64 << self.low_bits).wrapping_sub(1);
        self.pending >>= self.low_bits;
        self.pending_bits = self.pending_bits.wrapping_sub(self.low_bits);
        low
    }

    /// Makes at least 56 bits wait, if there are so many; never more than 63.
    #[inline]
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
}

/// Runs `each` for the `count` positions of a code, which is all of `code`; `None` from it refuses a position.
#[inline]
pub(crate) fn for_positions(
    code: &[u8],
    low_bits: u8,
    count: usize,
    mut each: impl FnMut(u64) -> Option<()>,
) -> Result<(), WrongCode> {
    if low_bits > LOW_BITS_MAX {
        return Err(WrongCode::LowBits);
    }
    let (lows, highs) =
        lows_len(count, low_bits).and_then(|len| code.split_at_checked(len)).ok_or(WrongCode::Count)?;
    // Only bits that fill the last byte follow the last stop bit, and the last low bits.
    let used = disk_len(count).wrapping_mul(low_bits.into()) % 8;
    let is_padded = used == 0 || lows.last().is_none_or(|last| last >> used == 0);
    if highs.last() == Some(&0) || !is_padded {
        return Err(WrongCode::Padding);
    }
    let shift = u32::from(low_bits);
    // So that no sum below leaves 64 bits: all high parts together are fewer than the bits, and so are the low parts, each
    // below 1 << shift.
    if disk_len(highs.len()) >> (59_u32.saturating_sub(shift)) != 0 {
        return Err(WrongCode::Position);
    }
    let mut lows = Lows { rest: lows, low_bits: shift, pending: 0, pending_bits: 0 };
    // The position that a stop bit at the beginning of the word would say: low parts and places of the gaps before, and
    // the high parts, which are the bits before that are no stop bits.
    let mut before = 0_u64;
    let of_stop = 1_u64.wrapping_sub(1 << shift);
    let (words, tail) = highs.as_chunks::<8>();
    let mut last = [0; 8];
    for (byte, from) in last.iter_mut().zip(tail) {
        *byte = *from;
    }
    let mut left = disk_len(count);
    for word in words.iter().chain([&last]) {
        let mut word = u64::from_le_bytes(*word);
        left = left.checked_sub(word.count_ones().into()).ok_or(WrongCode::Count)?;
        while word != 0 {
            let stop = u64::from(word.trailing_zeros());
            word &= word.wrapping_sub(1);
            before = before.wrapping_add(lows.next());
            each((stop << shift).wrapping_add(before)).ok_or(WrongCode::Position)?;
            before = before.wrapping_add(of_stop);
        }
        before = before.wrapping_add(64 << shift);
    }
    if left == 0 { Ok(()) } else { Err(WrongCode::Count) }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(positions: &[u64], low_bits: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = GapWriter::new(&mut out, low_bits, positions.len());
        positions.iter().for_each(|position| writer.put(*position));
        writer.finish();
        out
    }

    fn read(code: &[u8], count: usize, low_bits: u8) -> Result<Vec<u64>, WrongCode> {
        let mut positions = Vec::new();
        for_positions(code, low_bits, count, |position| {
            positions.push(position);
            Some(())
        })?;
        Ok(positions)
    }

    /// The reference: both parts of the code as texts of zeros and ones.
    fn reference(positions: &[u64], low_bits: u8) -> Vec<u8> {
        let (mut lows, mut highs, mut next) = (String::new(), String::new(), 0);
        for position in positions {
            let gap = position - next;
            next = position + 1;
            highs.extend((0..gap >> low_bits).map(|_| '0').chain(['1']));
            lows.extend((0..low_bits).map(|bit| if gap >> bit & 1 == 1 { '1' } else { '0' }));
        }
        let packed = |text: String| {
            let bits: Vec<u8> = text.bytes().map(|bit| bit - b'0').collect();
            bits.chunks(8)
                .map(|byte| byte.iter().rev().fold(0, |all, bit| all << 1 | bit))
                .collect::<Vec<_>>()
        };
        [packed(lows), packed(highs)].concat()
    }

    #[test]
    fn examples_bit_by_bit() {
        assert_eq!(write(&[0], 0), [0b1]);
        assert_eq!(write(&[3], 0), [0b1000]);
        assert_eq!(write(&[5], 1), [0b1, 0b100], "low bit 1; two zeros, stop");
        assert_eq!(write(&[0, 1, 2], 0), [0b111]);
        assert_eq!(read(&[0b1, 0b100], 1, 1), Ok(vec![5]));
        assert_eq!(
            read(&[0b1, 0b1100], 1, 1),
            Err(WrongCode::Count),
            "a stop bit that belongs to no position"
        );
        assert_eq!(read(&[0b1, 0b100, 0], 1, 1), Err(WrongCode::Padding), "a byte too many");
        assert_eq!(
            read(&[0b11, 0b100], 1, 1),
            Err(WrongCode::Padding),
            "a low bit that belongs to no position"
        );
        assert_eq!(read(&[0b1], 1, 8), Err(WrongCode::Count), "no stop bit");
        assert_eq!(read(&[0b1], 1, 9), Err(WrongCode::Count), "low bits that are not there");
        assert_eq!(read(&[], 1, 0), Err(WrongCode::Count));
        assert_eq!(read(&[], 0, 0), Ok(vec![]));
        assert_eq!(read(&[], usize::MAX, 2), Err(WrongCode::Count), "more than can be counted");
        assert_eq!(read(&[], 0, 33), Err(WrongCode::LowBits));
        let mut far = vec![0; 4 + (128 << 20)];
        far.push(1);
        assert_eq!(read(&far, 1, 32), Err(WrongCode::Position), "beyond what can be counted");
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
            prop_assert_eq!(read(&code, positions.len(), low_bits.max(4)), Ok(positions.clone()));
            let (best, most) = plan(positions.len(), usize::try_from(next).unwrap());
            let code = write(&positions, best);
            prop_assert!(code.len() <= most, "{} bytes, planned {}", code.len(), most);
            prop_assert_eq!(read(&code, positions.len(), best), Ok(positions.clone()));
            if let Some(cut) = code.split_last().map(|(_, cut)| cut) {
                prop_assert!(read(cut, positions.len(), best).is_err());
            }
        }
    }
}
