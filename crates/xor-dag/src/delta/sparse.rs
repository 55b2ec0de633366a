//! The forms `words` and `bits`: where something changed, as Rice codes, for values of one length with changes anywhere.
//!
//! `bits` holds the places of flipped bits and nothing else: binary fingerprints. `words` holds the places of changed words
//! of 1, 2, 4 or 8 bytes and the XOR of each: vectors of numbers of which a few were set anew.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};
use keepstone_types::wire::{Reader, put_varint};

use super::rice::{GapWriter, for_positions, plan};
use super::{DeltaError, Form};
use crate::parity::xor_into;

/// How much of a value changed, in units of every size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Bits.
    pub(crate) bits: usize,
    /// Words of 1, 2, 4 and 8 bytes; of a width that does not divide the length, more than there can be.
    pub(crate) words: [usize; 4],
}

/// The widths of words, in bytes.
const WIDTHS: [usize; 4] = [1, 2, 4, 8];

/// Every byte of a word that is not zero becomes 1.
fn changed_bytes(word: u64) -> u64 {
    let low = 0x7F7F_7F7F_7F7F_7F7F;
    // The sum of two numbers below 128 does not leave its byte.
    (((word & low).wrapping_add(low) | word) >> 7) & 0x0101_0101_0101_0101
}

/// Counts in one pass.
pub(crate) fn count(base: &[u8], result: &[u8]) -> Changed {
    let mut bits = 0_u64;
    let mut words = [0_u64; 4];
    let mut add = |word: u64| {
        let bytes = changed_bytes(word);
        // A sum of eight bytes by one multiplication: it ends up in the highest.
        let sum = |bytes: u64| bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56;
        let pairs = (bytes | bytes >> 8) & 0x0001_0001_0001_0001;
        let quads = (pairs | pairs >> 16) & 0x0000_0001_0000_0001;
        bits = bits.saturating_add(u64::from(word.count_ones()));
        let found = [sum(bytes), sum(pairs), sum(quads), u64::from(word != 0)];
        for (total, found) in words.iter_mut().zip(found) {
            *total = total.saturating_add(found);
        }
    };
    let (base_words, base_tail) = base.as_chunks::<8>();
    let (result_words, result_tail) = result.as_chunks::<8>();
    for (base, result) in base_words.iter().zip(result_words) {
        let word = u64::from_le_bytes(*base) ^ u64::from_le_bytes(*result);
        if word != 0 {
            add(word);
        }
    }
    let mut tail = [0_u8; 8];
    for (byte, (base, result)) in tail.iter_mut().zip(base_tail.iter().zip(result_tail)) {
        *byte = base ^ result;
    }
    add(u64::from_le_bytes(tail));
    let mut changed = Changed { bits: memory_len(bits), words: words.map(memory_len) };
    for (count, width) in changed.words.iter_mut().zip(WIDTHS) {
        if !result.len().is_multiple_of(width) {
            *count = usize::MAX;
        }
    }
    changed
}

/// The best width, with the bytes that the payload then has at most.
pub(crate) fn words_cost(changed: Changed, len: usize) -> (usize, usize) {
    let cost = |(count, width): (usize, usize)| {
        let places = plan(count, len.checked_div(width).unwrap_or_default()).1;
        (width, places.saturating_add(count.saturating_mul(width)).saturating_add(7))
    };
    let costs = changed.words.into_iter().zip(WIDTHS).map(cost);
    costs.min_by_key(|(_, cost)| *cost).unwrap_or((1, usize::MAX))
}

/// The bytes that the payload has at most.
pub(crate) fn bits_cost(changed: Changed, len: usize) -> usize {
    plan(changed.bits, len.saturating_mul(8)).1.saturating_add(6)
}

/// Appends the payload: width, low bits, count, the XOR of each word, the places.
pub(crate) fn encode_words(changed: Changed, width: usize, base: &[u8], result: &[u8], out: &mut Vec<u8>) {
    let width = if WIDTHS.contains(&width) { width } else { 1 };
    let index = WIDTHS.iter().position(|known| *known == width).unwrap_or_default();
    let count = changed.words.get(index).copied().unwrap_or_default();
    let low_bits = plan(count, result.len().checked_div(width).unwrap_or_default()).0;
    out.extend([u8::try_from(width).unwrap_or(1), low_bits]);
    put_varint(out, disk_len(count));
    let pairs = || base.chunks_exact(width).zip(result.chunks_exact(width)).enumerate();
    let different = || pairs().filter(|(_, (base, result))| base != result);
    for (_, (base, result)) in different() {
        out.extend(base.iter().zip(result).map(|(base, result)| base ^ result));
    }
    let mut places = GapWriter::new(out, low_bits, count);
    for (place, _) in different() {
        places.put(disk_len(place));
    }
    places.finish();
}

/// Appends the payload: low bits, count, the places.
pub(crate) fn encode_bits(changed: Changed, base: &[u8], result: &[u8], out: &mut Vec<u8>) {
    let low_bits = plan(changed.bits, result.len().saturating_mul(8)).0;
    out.push(low_bits);
    put_varint(out, disk_len(changed.bits));
    let mut places = GapWriter::new(out, low_bits, changed.bits);
    let mut put = |first: usize, mut word: u64| {
        while word != 0 {
            places.put(disk_len(first).saturating_mul(8).saturating_add(u64::from(word.trailing_zeros())));
            word &= word.wrapping_sub(1);
        }
    };
    let (base_words, base_tail) = base.as_chunks::<8>();
    let (result_words, result_tail) = result.as_chunks::<8>();
    for (index, (base, result)) in base_words.iter().zip(result_words).enumerate() {
        put(index.saturating_mul(8), u64::from_le_bytes(*base) ^ u64::from_le_bytes(*result));
    }
    let tail_at = base_words.len().saturating_mul(8);
    for (index, (base, result)) in base_tail.iter().zip(result_tail).enumerate() {
        put(tail_at.saturating_add(index), u64::from(base ^ result));
    }
    places.finish();
}

const fn malformed(form: Form, what: &'static str) -> DeltaError {
    DeltaError::Malformed { form, what }
}

/// The low bits and the count that places begin with.
fn places_head(reader: &mut Reader<'_>, form: Form) -> Result<(u8, usize), DeltaError> {
    let cut = |_| malformed(form, "low bits and a count");
    let (low_bits, count) = (reader.u8().map_err(cut)?, reader.varint().map_err(cut)?);
    Ok((low_bits, memory_len(count)))
}

/// Runs `change` at each of the places that `code` holds.
#[inline]
fn for_places(
    form: Form,
    code: &[u8],
    (low_bits, count): (u8, usize),
    mut change: impl FnMut(usize) -> Option<()>,
) -> Result<(), DeltaError> {
    for_positions(code, low_bits, count, |place| change(memory_len(place)))
        .map_err(|wrong| malformed(form, wrong.expected()))
}

/// Appends the result to an empty `out`.
pub(crate) fn decode_words(payload: &[u8], base: &[u8], out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let form = Form::Words;
    let mut reader = Reader::new(payload);
    let width = reader.u8().map_err(|_| malformed(form, "a width"))?.into();
    if !WIDTHS.contains(&width) || !base.len().is_multiple_of(width) {
        return Err(malformed(form, "a width of 1, 2, 4 or 8 that divides the length"));
    }
    let head = places_head(&mut reader, form)?;
    let words =
        reader.bytes(head.1.saturating_mul(width)).map_err(|_| malformed(form, "a word for each place"))?;
    let mut words = words.chunks_exact(width);
    out.extend_from_slice(base);
    for_places(form, reader.rest(), head, |place| {
        let at = place.checked_mul(width)?;
        xor_into(out.get_mut(at..at.checked_add(width)?)?, words.next()?);
        Some(())
    })
}

/// Appends the result to an empty `out`.
pub(crate) fn decode_bits(payload: &[u8], base: &[u8], out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let mut reader = Reader::new(payload);
    let head = places_head(&mut reader, Form::Bits)?;
    out.extend_from_slice(base);
    for_places(Form::Bits, reader.rest(), head, |place| {
        *out.get_mut(place / 8)? ^= 1 << (place % 8);
        Some(())
    })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reference: one bit, one word after the other.
    fn count_slowly(base: &[u8], result: &[u8]) -> Changed {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (at % 8) & 1;
        let bits = (0..base.len() * 8).filter(|at| bit(base, *at) != bit(result, *at)).count();
        let words = WIDTHS.map(|width| {
            let pairs = base.chunks_exact(width).zip(result.chunks_exact(width));
            if base.len().is_multiple_of(width) { pairs.filter(|(a, b)| a != b).count() } else { usize::MAX }
        });
        Changed { bits, words }
    }

    fn pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
        (prop::collection::vec(any::<u8>(), 1..200), flips).prop_map(|(base, flips)| {
            let mut result = base.clone();
            for (at, byte) in flips {
                let at = at.index(result.len());
                result[at] ^= byte;
            }
            (base, result)
        })
    }

    proptest! {
        #[test]
        fn both_forms_come_back_and_cost_no_more_than_said((base, result) in pair()) {
            let changed = count(&base, &result);
            prop_assert_eq!(changed, count_slowly(&base, &result));
            let (mut payload, mut out) = (Vec::new(), Vec::new());
            encode_bits(changed, &base, &result, &mut payload);
            prop_assert!(payload.len() <= bits_cost(changed, result.len()));
            decode_bits(&payload, &base, &mut out).unwrap();
            prop_assert_eq!(&out, &result);
            for width in WIDTHS.into_iter().filter(|width| result.len() % width == 0) {
                payload.clear();
                out.clear();
                encode_words(changed, width, &base, &result, &mut payload);
                decode_words(&payload, &base, &mut out).unwrap();
                prop_assert_eq!(&out, &result);
                if words_cost(changed, result.len()).0 == width {
                    prop_assert!(payload.len() <= words_cost(changed, result.len()).1);
                }
            }
        }
    }

    #[test]
    fn every_pattern_of_changed_bytes_in_a_word_is_counted() {
        for pattern in 0_u16..256 {
            for value in [1_u8, 0x80, 0xFF] {
                let result: Vec<u8> =
                    (0..8).map(|at| if pattern >> at & 1 == 1 { value } else { 0 }).collect();
                assert_eq!(count(&[0; 8], &result), count_slowly(&[0; 8], &result), "{result:?}");
                assert_eq!(count(&[0; 7], &result[..7]), count_slowly(&[0; 7], &result[..7]), "{result:?}");
            }
        }
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let what = |decoded: Result<(), DeltaError>| match decoded {
            Err(DeltaError::Malformed { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let bits = |payload: &[u8]| what(decode_bits(payload, &[0; 2], &mut Vec::new()));
        assert_eq!(bits(&[]), "low bits and a count");
        assert_eq!(bits(&[33, 0]), "at most 32 low bits");
        assert_eq!(bits(&[0, 2, 1]), "as many places as counted");
        assert_eq!(bits(&[4, 1, 1, 1, 0]), "zeros behind the last place");
        assert_eq!(bits(&[4, 1, 0, 0b10]), "places within the value");
        let words = |payload: &[u8]| what(decode_words(payload, &[0; 2], &mut Vec::new()));
        assert_eq!(words(&[]), "a width");
        assert_eq!(words(&[3, 0, 0]), "a width of 1, 2, 4 or 8 that divides the length");
        assert_eq!(words(&[4, 0, 0]), "a width of 1, 2, 4 or 8 that divides the length");
        assert_eq!(words(&[2, 0, 1, 7]), "a word for each place");
        assert_eq!(words(&[2, 0, 1, 7, 7, 0b10]), "places within the value");
        let mut huge = vec![1, 0];
        put_varint(&mut huge, u64::MAX);
        assert_eq!(words(&huge), "a word for each place");
        huge.remove(0);
        assert_eq!(bits(&huge), "as many places as counted");
    }
}
