//! The rows that a scan fetched and did not yield yet, without memory of their own for each.
//!
//! Invariants:
//! * What was copied lies one after the other in chunks. Chunks are filled first, then sealed; from then on rows are handed
//!   out as parts of them. A part keeps its chunk, and nothing else of the batch.
//! * Large values that somebody counts already are shared, not copied. A small one is copied: that costs less than to count
//!   it, and a row in memory gets no count that it did not need.

use std::collections::VecDeque;
use std::ops::Range;

use keepstone_types::ValueRef;

use super::KeyValue;

/// From this length on, bytes that are counted already are shared.
const SHARED_LEN_MIN: usize = 512;
/// Bytes of the chunks of a small batch: what an allocator has at hand.
const CHUNK_BYTES_MIN: usize = 1 << 10;
/// Bytes of a chunk, at most, but for one part that is longer: what a row that is kept may hold beside itself.
const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Bytes of a chunk for each row that is expected.
const CHUNK_BYTES_PER_ROW: usize = 64;

/// A key or a value on its way into a batch.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// Copied into a chunk.
    Copied(&'a [u8]),
    /// Counted, and kept as it is.
    Shared(ValueRef),
}

impl<'a> Part<'a> {
    /// Bytes that are counted: shared when they are many.
    pub(crate) fn of(bytes: &'a ValueRef) -> Self {
        if bytes.len() < SHARED_LEN_MIN { Self::Copied(bytes) } else { Self::Shared(bytes.clone()) }
    }
}

/// A key or a value in a batch.
#[derive(Debug)]
enum Kept {
    /// A part of a chunk, counted from the first.
    Copied(usize, Range<usize>),
    Shared(ValueRef),
}

/// Rows in the order in which they were fetched.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The chunk that is filled now, behind all sealed ones.
    filling: Vec<u8>,
    sealed: Vec<ValueRef>,
    rows: VecDeque<(Kept, Kept)>,
    chunk_bytes: usize,
    copied_len: usize,
}

impl Batch {
    /// Begins anew, for about so many rows.
    pub(crate) fn begin(&mut self, rows: usize) {
        self.rows.clear();
        self.rows.reserve(rows);
        self.filling = Vec::new();
        self.sealed.clear();
        self.copied_len = 0;
        self.chunk_bytes = rows.saturating_mul(CHUNK_BYTES_PER_ROW).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, key: Part<'_>, value: Part<'_>) {
        let row = (self.keep(key), self.keep(value));
        self.rows.push_back(row);
    }

    fn keep(&mut self, part: Part<'_>) -> Kept {
        let bytes = match part {
            Part::Shared(bytes) => return Kept::Shared(bytes),
            Part::Copied(bytes) => bytes,
        };
        let free = self.filling.capacity().saturating_sub(self.filling.len());
        if free < bytes.len() {
            self.seal();
            self.filling.reserve_exact(self.chunk_bytes.max(bytes.len()));
        }
        let from = self.filling.len();
        self.filling.extend_from_slice(bytes);
        self.copied_len = self.copied_len.saturating_add(bytes.len());
        Kept::Copied(self.sealed.len(), from..self.filling.len())
    }

    /// Bytes that were copied.
    pub(crate) const fn copied_len(&self) -> usize {
        self.copied_len
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Seals the chunk that was filled: when it is full, and when nothing more is added.
    pub(crate) fn seal(&mut self) {
        if !self.filling.is_empty() {
            self.sealed.push(ValueRef::from(std::mem::take(&mut self.filling)));
        }
    }

    fn part(&self, kept: Kept) -> ValueRef {
        match kept {
            Kept::Shared(bytes) => bytes,
            Kept::Copied(chunk, range) => self.copied(chunk, range),
        }
    }

    fn copied(&self, chunk: usize, range: Range<usize>) -> ValueRef {
        // Its bounds were taken from the chunk itself; no bytes may stand where there is no chunk.
        self.sealed.get(chunk).and_then(|chunk| chunk.slice(range)).unwrap_or_default()
    }

    fn row(&self, (key, value): (Kept, Kept)) -> KeyValue {
        (self.part(key), self.part(value))
    }

    /// The key that was added last, without taking it.
    pub(crate) fn last_key(&self) -> Option<ValueRef> {
        self.rows.back().map(|(key, _)| match key {
            Kept::Shared(bytes) => bytes.clone(),
            Kept::Copied(chunk, range) => self.copied(*chunk, range.clone()),
        })
    }

    /// Takes the row that was added first.
    pub(crate) fn pop_front(&mut self) -> Option<KeyValue> {
        let row = self.rows.pop_front()?;
        Some(self.row(row))
    }

    /// Takes the row that was added last.
    pub(crate) fn pop_back(&mut self) -> Option<KeyValue> {
        let row = self.rows.pop_back()?;
        Some(self.row(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_from_either_end_and_outlive_the_batch() {
        let mut batch = Batch::default();
        for round in 0..2_u8 {
            batch.begin(3);
            let shared = ValueRef::from(vec![round; 5]);
            batch.push(Part::Copied(b"a"), Part::Copied(b"1"));
            batch.push(Part::Copied(b"b"), Part::Shared(shared.clone()));
            batch.push(Part::Shared(shared.clone()), Part::Copied(b""));
            assert_eq!((batch.len(), batch.copied_len()), (3, 3));
            batch.seal();
            assert_eq!(batch.last_key(), Some(shared.clone()));
            let (first, last) = (batch.pop_front().unwrap(), batch.pop_back().unwrap());
            let (_, kept) = batch.pop_back().unwrap();
            assert_eq!(kept.as_ptr(), shared.as_ptr());
            assert_eq!((batch.pop_front(), batch.pop_back(), batch.last_key()), (None, None, None));
            batch.begin(1);
            assert_eq!((&*first.0, &*first.1), (&b"a"[..], &b"1"[..]));
            assert_eq!((&*last.0, &*last.1), (&*shared, &b""[..]));
        }
    }

    #[test]
    fn parts_of_every_length_come_back_from_their_chunks() {
        let lens = [0, 1, 500, 511, 512, 513, 1_000, 1_024, 1_025, 0, 40_000, 3];
        let values: Vec<ValueRef> = lens.iter().map(|len| ValueRef::from(vec![7; *len])).collect();
        let mut batch = Batch::default();
        batch.begin(1);
        for value in &values {
            batch.push(Part::Copied(value), Part::of(value));
        }
        batch.seal();
        assert!(batch.sealed.len() > 3, "more than one chunk");
        for value in &values {
            let (copied, kept) = batch.pop_front().unwrap();
            assert_eq!((&copied, &kept), (value, value));
            let is_shared = !value.is_empty() && kept.as_ptr() == value.as_ptr();
            assert_eq!(is_shared, value.len() >= SHARED_LEN_MIN);
        }
    }
}
