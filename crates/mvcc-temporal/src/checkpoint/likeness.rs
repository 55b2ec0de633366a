//! Whether it is worth looking for what leads from one value to another.
//!
//! Looking takes fifteen microseconds for a short value, ten times what folding it takes, and finds nothing where values are
//! encrypted, compressed or drawn at random. So it is asked first, in a fraction of that, whether they have bytes in the same
//! places in common, or sequences of bytes anywhere, or whether the value is text, which is coded in fewer bits by itself.

/// Of the bytes at the same places, one in so many is equal: of noise, one in 256 is.
const EQUAL_ONE_IN: usize = 32;
/// Of the bytes of a text, one in so many is not ASCII at most: of noise, half are not.
const NOT_ASCII_ONE_IN: usize = 6;
/// Of the sequences of a value that are looked at, one in so many is in the other value.
const SHARED_ONE_IN: usize = 24;
/// Bytes of a sequence.
const SEQUENCE_LEN: usize = 4;
/// The other value's sequences are marked at every so many bytes, which finds a quarter of those that the value shares.
const STEP: usize = 4;
/// Sequences that are looked at, about; of longer values, those whose mixed bits begin with zeros, wherever they stand.
const LOOKED_AT: usize = 512;
/// Words of 64 bits in which they are marked: few of those that are not there are taken for such as are.
const MARKS: usize = 128;

/// Where a sequence is marked; `None` when it is not looked at.
#[inline]
fn place(sequence: &[u8], skipped: u32) -> Option<(usize, u64)> {
    let sequence: [u8; SEQUENCE_LEN] = *sequence.first_chunk()?;
    let mixed = u64::from(u32::from_le_bytes(sequence)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let [.., low, high, _] = mixed.to_le_bytes();
    let place = usize::from(u16::from_le_bytes([low, high]));
    (mixed.leading_zeros() >= skipped).then_some((place / 64 % MARKS, 1 << (place % 64)))
}

/// Whether `value` may be shorter as a delta against `newer`.
pub(super) fn may_be_shorter(value: &[u8], newer: &[u8]) -> bool {
    let equal = value.iter().zip(newer).map(|(a, b)| usize::from(a == b)).sum::<usize>();
    let not_ascii = value.iter().map(|byte| usize::from(byte >> 7)).sum::<usize>();
    if equal >= value.len() / EQUAL_ONE_IN || not_ascii <= value.len() / NOT_ASCII_ONE_IN {
        return true;
    }
    let longest = value.len().max(newer.len());
    let skipped = (longest / LOOKED_AT).checked_ilog2().map_or(0, |log| log.saturating_add(1));
    let mut marks = [0_u64; MARKS];
    for sequence in newer.windows(SEQUENCE_LEN).step_by(STEP) {
        if let Some((word, bit)) = place(sequence, skipped)
            && let Some(word) = marks.get_mut(word)
        {
            *word |= bit;
        }
    }
    let (mut looked_at, mut shared) = (0_usize, 0_usize);
    for sequence in value.windows(SEQUENCE_LEN) {
        if let Some((word, bit)) = place(sequence, skipped) {
            let is_marked = marks.get(word).is_some_and(|word| word & bit != 0);
            (looked_at, shared) =
                (looked_at.saturating_add(1), shared.saturating_add(usize::from(is_marked)));
        }
    }
    shared.saturating_mul(SHARED_ONE_IN) >= looked_at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        (0..len).map(|_| step()).collect()
    }

    #[test]
    fn noise_is_told_from_what_has_something_in_common() {
        for len in [40, 150, 511, 513, 1_000, 4_096, 20_000, 262_144] {
            for seed in 1..40 {
                let (value, newer) = (noise(seed, len), noise(seed + 100, len));
                assert!(!may_be_shorter(&value, &newer), "{len} of {seed}");
                assert!(may_be_shorter(&value, &value));
                let moved = [&noise(7, 9)[..], &value].concat();
                assert!(may_be_shorter(&value, &moved), "{len} of {seed} moved");
                let half = [&value[..len / 2], &newer[..len / 3]].concat();
                assert!(may_be_shorter(&value, &half) && may_be_shorter(&half, &value), "{len}");
            }
        }
    }

    #[test]
    fn texts_and_flipped_bits_are_worth_a_look() {
        let text = "Grüße und mehr davon, immer anders, und wieder Grüße: ".repeat(40).into_bytes();
        assert!(
            may_be_shorter(&text, &noise(1, 900)) && may_be_shorter(b"all of it is ascii", &noise(2, 30))
        );
        let (base, mut bits) = (noise(4, 2_048), noise(4, 2_048));
        for (place, chance) in noise(5, 2_048 * 8).iter().enumerate() {
            bits[place / 8] ^= u8::from(*chance < 37) << (place % 8);
        }
        assert!(may_be_shorter(&bits, &base), "a bit in seven");
    }
}
