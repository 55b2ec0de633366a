//! A set of the slots of a region.
#![deny(clippy::arithmetic_side_effects)]

/// Slots of a region.
pub(crate) const BITS: usize = 1_024;
const WORDS: usize = 16;
/// Columns, and rows, that the slots of a region stand in.
const COLUMNS: usize = 32;
const WORD: usize = 64;

/// A set of numbers below 1,024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bitmap([u64; WORDS]);

impl Bitmap {
    /// Bytes of the stored form.
    pub(crate) const LEN: usize = 128;

    /// None.
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// The set of all numbers below `end`.
    pub(crate) fn below(end: usize) -> Self {
        let mut set = Self::EMPTY;
        for (place, word) in set.0.iter_mut().enumerate() {
            let base = place.saturating_mul(WORD);
            *word = match end.saturating_sub(base) {
                0 => 0,
                bits if bits >= WORD => u64::MAX,
                bits => (1_u64 << bits).saturating_sub(1),
            };
        }
        set
    }

    const fn bit(index: usize) -> u64 {
        1_u64 << (index % WORD)
    }

    pub(crate) fn has(&self, index: usize) -> bool {
        self.0.get(index / WORD).is_some_and(|word| word & Self::bit(index) != 0)
    }

    /// Adds a number; false when it was there.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / WORD) else { return false };
        let fresh = *word & Self::bit(index) == 0;
        *word |= Self::bit(index);
        fresh
    }

    /// Takes a number out; false when it was not there.
    pub(crate) fn remove(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / WORD) else { return false };
        let there = *word & Self::bit(index) != 0;
        *word &= !Self::bit(index);
        there
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).fold(0, u64::saturating_add)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn zip(self, other: Self, act: impl Fn(u64, u64) -> u64) -> Self {
        let mut joined = Self::EMPTY;
        for ((to, left), right) in joined.0.iter_mut().zip(self.0).zip(other.0) {
            *to = act(left, right);
        }
        joined
    }

    /// What is in either.
    pub(crate) fn or(self, other: Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    /// What is in both.
    pub(crate) fn and(self, other: Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    /// What is here and not there.
    pub(crate) fn without(self, other: Self) -> Self {
        self.zip(other, |left, right| left & !right)
    }

    /// The lowest.
    pub(crate) fn first(&self) -> Option<usize> {
        let (place, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        let bit = usize::try_from(word.trailing_zeros()).ok()?;
        Some(place.saturating_mul(WORD).saturating_add(bit))
    }

    /// The highest.
    pub(crate) fn last(&self) -> Option<usize> {
        let (place, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        let bit = usize::try_from(word.ilog2()).ok()?;
        Some(place.saturating_mul(WORD).saturating_add(bit))
    }

    /// All numbers in the columns of a mask: column `c` holds the numbers that are `c` modulo 32.
    pub(crate) fn columns(mask: u32) -> Self {
        let row = u64::from(mask);
        Self([row | row << COLUMNS; WORDS])
    }

    /// The rows of a column: bit `r` stands for number `r × 32 + column`.
    pub(crate) fn column(&self, column: usize) -> u32 {
        let column = column % COLUMNS;
        let mut rows = 0_u32;
        for (place, word) in self.0.iter().enumerate() {
            let low = u32::from(word >> column & 1 == 1);
            let high = u32::from(word >> column >> COLUMNS & 1 == 1);
            rows |= (low | high << 1) << place.saturating_mul(2);
        }
        rows
    }

    /// Sets the rows of a column.
    pub(crate) fn set_column(&mut self, column: usize, rows: u32) {
        for row in 0..COLUMNS {
            let place = row.saturating_mul(COLUMNS).saturating_add(column);
            if rows >> row & 1 == 1 {
                self.insert(place);
            } else {
                self.remove(place);
            }
        }
    }

    /// All, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let first = rest.first()?;
            rest.remove(first);
            Some(first)
        })
    }

    /// The first run of `want` numbers one after the other, or else the longest run: where it begins and how long it
    /// is, at most `want`. `None` when the set is empty.
    pub(crate) fn run(&self, want: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        let mut index = self.first()?;
        while index < BITS {
            if !self.has(index) {
                // Whole words without any are passed in one step.
                let word = index / WORD;
                let empty = index % WORD == 0 && self.0.get(word) == Some(&0);
                index = index.saturating_add(if empty { WORD } else { 1 });
                continue;
            }
            let mut len = 1_usize;
            while len < want && self.has(index.saturating_add(len)) {
                len = len.saturating_add(1);
            }
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((index, len));
            }
            if len >= want {
                break;
            }
            index = index.saturating_add(len);
        }
        best
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let mut set = Self::EMPTY;
        let (chunks, _) = bytes.as_chunks::<8>();
        for (word, chunk) in set.0.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        set
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &BTreeSet<usize>) -> Bitmap {
        let mut set = Bitmap::EMPTY;
        for number in numbers {
            assert!(set.insert(*number));
        }
        set
    }

    fn naive_run(numbers: &BTreeSet<usize>, want: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        for start in numbers {
            let len = (0..want).take_while(|step| numbers.contains(&(start + step))).count();
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((*start, len));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(
            a in proptest::collection::btree_set(0..BITS, 0..900),
            b in proptest::collection::btree_set(0..BITS, 0..40),
            want in 1_usize..80,
            end in 0..=BITS,
        ) {
            let (left, right) = (of(&a), of(&b));
            prop_assert_eq!(left.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(left.count(), a.len() as u64);
            prop_assert_eq!((left.first(), left.last()), (a.first().copied(), a.last().copied()));
            prop_assert_eq!(left.or(right).iter().collect::<BTreeSet<_>>(), &a | &b);
            prop_assert_eq!(left.and(right).iter().collect::<BTreeSet<_>>(), &a & &b);
            prop_assert_eq!(left.without(right).iter().collect::<BTreeSet<_>>(), &a - &b);
            prop_assert_eq!(Bitmap::from_bytes(left.to_bytes()), left);
            prop_assert_eq!(Bitmap::below(end).iter().collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
            let mut columns = Bitmap::EMPTY;
            for column in 0..COLUMNS {
                let rows = (0..COLUMNS).filter(|row| a.contains(&(row * COLUMNS + column)));
                prop_assert_eq!(left.column(column), rows.fold(0, |rows, row| rows | 1 << row));
                columns.set_column(column, left.column(column));
                let expected: Vec<_> = (0..BITS).filter(|place| place % COLUMNS == column).collect();
                prop_assert_eq!(Bitmap::columns(1 << column).iter().collect::<Vec<_>>(), expected);
            }
            prop_assert_eq!(columns, left);
            prop_assert_eq!(left.run(want), naive_run(&a, want));
            prop_assert_eq!(right.run(want), naive_run(&b, want));
            let mut rest = left;
            for number in &b {
                prop_assert_eq!(rest.remove(*number), a.contains(number));
            }
            prop_assert_eq!(rest.is_empty(), a.is_subset(&b));
        }
    }
}
