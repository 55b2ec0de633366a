//! Finds what a result has in common with its base and with its own beginning.
//!
//! Base and result stand in one window. Two tables remember where the last sequence of eight and of five bytes with a given
//! hash began; a third guess is that the text goes on as it did, at the same distance. The best guess at a place is taken
//! unless the next place has a better one. Time is linear and memory bounded: the tables have at most 2^17 places, and of a
//! longer base only every so-manieth position is kept; what is found is extended in both directions, so little is missed.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::layout::{disk_len, memory_len};

/// The most bytes of base and result together.
pub(crate) const WINDOW_MAX: usize = 64 << 20;

/// The shortest copy that is looked for.
const COPY_MIN: usize = 3;

/// Bits of the hash, by which the largest table is indexed.
const TABLE_BITS_MAX: u32 = 17;
const TABLE_BITS_MIN: u32 = 8;

/// What a byte of a literal is taken to cost, in bits.
const LITERAL_COST: i64 = 5;

/// Bytes without a match after which places are skipped.
const PATIENCE: u32 = 8;

/// Part of the window that stands again at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Where it begins in the result.
    pub(crate) at: usize,
    /// Where it stands: in the base, or behind it in the result.
    pub(crate) source: usize,
    /// Bytes.
    pub(crate) len: usize,
}

/// Tables and window, kept between values.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    window: Vec<u8>,
    base_len: usize,
    long: Table,
    short: Table,
}

/// Where a sequence with a hash began last; zero is nowhere, others are one more.
#[derive(Debug, Default)]
struct Table {
    places: Vec<u32>,
    bits: u32,
}

impl Table {
    fn reset(&mut self, bits: u32) {
        self.bits = bits;
        self.places.clear();
        self.places.resize(memory_len(1_u64 << bits), 0);
    }

    /// Puts `at` in its place and gives what was there.
    #[inline]
    fn replace(&mut self, product: u64, at: usize) -> Option<usize> {
        let index = memory_len(product >> 64_u32.saturating_sub(self.bits));
        let place = self.places.get_mut(index)?;
        let was = std::mem::replace(place, u32::try_from(at).ok()?.saturating_add(1));
        memory_len(u64::from(was)).checked_sub(1)
    }
}

/// A candidate with what it is thought to save.
#[derive(Clone, Copy, Debug)]
struct Found {
    copied: Copied,
    gain: i64,
}

/// Where the next copy is expected.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// The first place of the result that no copy covers.
    anchor: usize,
    /// How far back the last copy was taken from; at first, the same place of the base.
    distance: usize,
    /// Where the last copy from the base ended there.
    base_end: usize,
}

impl Matcher {
    /// Finds the copies of `result`, in order and without overlap, positions counted in the result.
    pub(crate) fn find(&mut self, base: &[u8], result: &[u8], found: &mut Vec<Copied>) {
        found.clear();
        self.load(base, result);
        let mut expected = Expected { anchor: base.len(), distance: base.len(), base_end: 0 };
        let mut at = base.len();
        while at < self.window.len() {
            let Some(mut best) = self.best_at(at, expected) else {
                let missed = at.saturating_sub(expected.anchor);
                at = at.saturating_add(1).saturating_add(missed >> PATIENCE);
                continue;
            };
            let next = at.saturating_add(1);
            if let Some(better) = self.best_at(next, expected).filter(|better| better.gain > best.gain) {
                best = better;
            }
            let Copied { at: begin, source, len } = best.copied;
            let end = begin.saturating_add(len);
            found.push(Copied { at: begin.saturating_sub(base.len()), source, len });
            expected.anchor = end;
            expected.distance = begin.saturating_sub(source);
            if source < base.len() {
                expected.base_end = source.saturating_add(len);
            }
            // The end of a copy is where the next edit begins, worth finding again.
            for inside in [begin.saturating_add(2), end.saturating_sub(2)] {
                self.remember(inside);
            }
            at = end;
        }
        self.shrink();
    }

    fn load(&mut self, base: &[u8], result: &[u8]) {
        self.window.clear();
        self.window.extend_from_slice(base);
        self.window.extend_from_slice(result);
        self.base_len = base.len();
        let bits = u64::BITS.saturating_sub(disk_len(self.window.len()).leading_zeros());
        let bits = bits.clamp(TABLE_BITS_MIN, TABLE_BITS_MAX);
        self.long.reset(bits);
        self.short.reset(bits);
        let stride = (base.len() >> TABLE_BITS_MAX).saturating_add(1);
        for at in (0..base.len()).step_by(stride) {
            self.remember(at);
        }
    }

    /// Gives memory back that only a large value needed.
    fn shrink(&mut self) {
        if self.window.capacity() > 1 << 20 {
            self.window = Vec::new();
        }
    }

    #[inline]
    fn word(&self, at: usize) -> Option<u64> {
        self.window.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Notes the sequences that begin at `at`, and gives where others with their hashes began.
    #[inline]
    fn remember(&mut self, at: usize) -> [Option<usize>; 2] {
        let Some(word) = self.word(at) else { return [None; 2] };
        let long = self.long.replace(word.wrapping_mul(0x9E37_79B1_85EB_CA87), at);
        let short = self.short.replace((word << 24).wrapping_mul(0xC2B2_AE3D_27D4_EB4F), at);
        [long, short]
    }

    /// The best copy that covers `at`, if any is worth it.
    fn best_at(&mut self, at: usize, expected: Expected) -> Option<Found> {
        let [long, short] = self.remember(at);
        let same = at.checked_sub(expected.distance);
        let mut best: Option<Found> = None;
        for source in [same, long, short].into_iter().flatten() {
            let copied = self.extend(at, source, expected.anchor);
            let gain = gain(copied, self.base_len, expected);
            if copied.len >= COPY_MIN && gain > best.map_or(0, |best| best.gain) {
                best = Some(Found { copied, gain });
            }
        }
        best
    }

    /// How far what stands at `source` and at `at` is the same, back to `anchor` and on to the end.
    fn extend(&self, at: usize, source: usize, anchor: usize) -> Copied {
        // What begins in the base ends in it.
        let source_end = if source < self.base_len { self.base_len } else { self.window.len() };
        let left = self.window.get(source..source_end).unwrap_or_default();
        let right = self.window.get(at..).unwrap_or_default();
        if source >= at {
            return Copied { at, source, len: 0 };
        }
        let len = common_prefix(left, right);
        // What begins in the result begins behind the base.
        let source_begin = if source < self.base_len { 0 } else { self.base_len };
        let left = self.window.get(source_begin..source).unwrap_or_default();
        let right = self.window.get(anchor..at).unwrap_or_default();
        let back =
            left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count();
        Copied {
            at: at.saturating_sub(back),
            source: source.saturating_sub(back),
            len: len.saturating_add(back),
        }
    }
}

/// What a copy is thought to save, in bits.
fn gain(copied: Copied, base_len: usize, expected: Expected) -> i64 {
    let width = |number: usize| i64::from(usize::BITS.saturating_sub(number.leading_zeros()));
    let place = if copied.at.saturating_sub(copied.source) == expected.distance
        || copied.source == expected.base_end
    {
        4
    } else if copied.source < base_len {
        width(copied.source.abs_diff(expected.base_end)).saturating_add(8)
    } else {
        width(copied.at.saturating_sub(copied.source)).saturating_add(8)
    };
    let saved = i64::try_from(copied.len).unwrap_or(i64::MAX).saturating_mul(LITERAL_COST);
    saved.saturating_sub(place).saturating_sub(6)
}

/// Bytes that both begin with.
fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let (left_words, right_words) = (left.as_chunks::<8>().0, right.as_chunks::<8>().0);
    let same = left_words.iter().zip(right_words).take_while(|(left, right)| left == right).count();
    let done = same.saturating_mul(8);
    let rest = left.iter().skip(done).zip(right.iter().skip(done));
    done.saturating_add(rest.take_while(|(left, right)| left == right).count())
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::edits::edits;

    fn check(base: &[u8], result: &[u8]) -> Vec<Copied> {
        let (mut matcher, mut found) = (Matcher::default(), Vec::new());
        matcher.find(base, result, &mut found);
        let window = [base, result].concat();
        let mut end = 0;
        for Copied { at, source, len } in &found {
            assert!(*at >= end && *len >= COPY_MIN, "copies in order, none too short");
            end = at + len;
            assert_eq!(window[*source..source + len], result[*at..end]);
            assert!(*source < base.len() + at, "only what is there before");
            assert!(*source >= base.len() || source + len <= base.len(), "within the base or behind it");
        }
        assert!(end <= result.len());
        found
    }

    proptest! {
        #[test]
        fn copies_are_true((base, result) in edits(0_u8..4)) {
            check(&base, &result);
        }
    }

    #[test]
    fn an_insertion_is_one_gap_between_two_copies() {
        let base: Vec<u8> = (0_u32..4_000).map(|at| (at.wrapping_mul(at) >> 5).to_le_bytes()[0]).collect();
        let mut result = base.clone();
        result.splice(1_000..1_000, *b"something else entirely");
        let found = check(&base, &result);
        assert_eq!(found.iter().map(|copied| copied.len).sum::<usize>(), 4_000);
        assert!(found.len() <= 3, "{found:?}");
    }

    #[test]
    fn a_long_run_is_one_copy_of_itself_and_nothing_is_found_in_noise() {
        let found = check(b"", &[7; 1_000]);
        assert_eq!(found, [Copied { at: 1, source: 0, len: 999 }]);
        let noise: Vec<u8> = (0_u64..4_000).map(|at| (at * at * 0x9E37_79B9).to_le_bytes()[3]).collect();
        assert!(check(&noise[..2_000], &noise[2_000..]).len() < 20);
        assert_eq!(check(b"", b""), []);
        assert_eq!(check(b"base", b""), []);
    }

    #[test]
    fn a_base_longer_than_the_tables_is_found_again() {
        let scramble = |at: u64| at.wrapping_mul(at).wrapping_mul(0x9E37_79B9).to_le_bytes()[4];
        let noise: Vec<u8> = (0_u64..400_000).map(scramble).collect();
        let mut result = noise.clone();
        result.drain(10_000..10_100);
        let found = check(&noise, &result);
        assert!(found.iter().map(|copied| copied.len).sum::<usize>() > 399_800);
        assert!(found.len() < 10, "{}", found.len());
    }
}
