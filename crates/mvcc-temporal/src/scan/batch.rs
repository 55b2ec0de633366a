//! The rows that a scan fetched and did not yield yet, without memory of their own for each.
//!
//! Invariants:
//! * What was copied lies one after the other in chunks. Chunks are filled first, then sealed; from then on rows are handed
//!   out as parts of them. A part keeps its chunk, and nothing else of the batch.
//! * Large values that somebody counts already are shared, not copied. A small one is copied: that costs less than to count
//!   it, and a row in memory gets no count that it did not need.
//! * The first few rows that come from memory are counted all the same: for those a chunk would cost more.
//! * Rows that stand side by side in a leaf are kept as a run: its page, and their places. They are looked at when they are
//!   asked for, so those that nobody asks for cost nothing. A value of a run keeps the page: no more than a chunk is.

use std::collections::VecDeque;
use std::ops::Range;

use keepstone_btree::LeafRun;
use keepstone_types::{ValueChunk, ValueRef};

use super::KeyValue;
use crate::error::ReadError;
use crate::ground::run_row;

/// From this length on, bytes that are counted already are shared.
const SHARED_LEN_MIN: usize = 512;
/// Small values that are counted before others are copied to a chunk.
const COUNTED_SMALL_MAX: usize = 4;
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
    /// Kept as it is or copied, whichever costs less.
    InMemory(&'a ValueRef),
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

/// What was fetched.
#[derive(Debug)]
enum Fetched {
    Row(Kept, Kept),
    /// Rows of the run with this place in the list, by their places in the leaf.
    Run(usize, Range<usize>),
}

/// The row that was fetched last.
#[derive(Clone, Debug)]
enum Last {
    /// Its key is a part of a chunk, or shared.
    Copied(usize, Range<usize>),
    Shared(ValueRef),
    /// The last row of the last run.
    OfRun,
}

/// Rows in the order in which they were fetched.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The chunk that is filled now, behind all sealed ones.
    filling: Vec<u8>,
    sealed: Vec<ValueRef>,
    rows: VecDeque<Fetched>,
    runs: Vec<LeafRun>,
    /// Where keys of runs are put together.
    keys: ValueChunk,
    last: Option<Last>,
    expected_rows: usize,
    fetched_rows: usize,
    counted_small: usize,
    chunk_bytes: usize,
    kept_len: usize,
}

impl Batch {
    /// Begins anew, for about so many rows.
    pub(crate) fn begin(&mut self, rows: usize) {
        self.rows.clear();
        self.filling = Vec::new();
        self.sealed.clear();
        self.runs.clear();
        self.last = None;
        self.kept_len = 0;
        (self.expected_rows, self.fetched_rows, self.counted_small) = (rows, 0, 0);
        self.chunk_bytes = rows.saturating_mul(CHUNK_BYTES_PER_ROW).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, key: Part<'_>, value: Part<'_>) {
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve(self.expected_rows);
        }
        let (key, value) = (self.keep(key), self.keep(value));
        self.last = Some(match &key {
            Kept::Copied(chunk, range) => Last::Copied(*chunk, range.clone()),
            Kept::Shared(key) => Last::Shared(key.clone()),
        });
        self.rows.push_back(Fetched::Row(key, value));
        self.fetched_rows = self.fetched_rows.saturating_add(1);
    }

    /// Adds rows that stand side by side.
    pub(crate) fn push_run(&mut self, run: LeafRun) {
        let rows = run.rows();
        self.fetched_rows = self.fetched_rows.saturating_add(rows.len());
        self.kept_len = self.kept_len.saturating_add(run.kept_len());
        self.rows.push_back(Fetched::Run(self.runs.len(), rows));
        self.runs.push(run);
        self.last = Some(Last::OfRun);
    }

    fn keep(&mut self, part: Part<'_>) -> Kept {
        let bytes = match part {
            Part::Shared(bytes) => return Kept::Shared(bytes),
            Part::Copied(bytes) => bytes,
            // It holds its bytes itself.
            Part::InMemory(bytes) if bytes.len() <= ValueRef::HELD_LEN_MAX => {
                return Kept::Shared(bytes.clone());
            }
            Part::InMemory(bytes) => match Part::of(bytes) {
                Part::Copied(_) if self.counted_small < COUNTED_SMALL_MAX => {
                    self.counted_small = self.counted_small.saturating_add(1);
                    return Kept::Shared(bytes.clone());
                }
                part => return self.keep(part),
            },
        };
        let free = self.filling.capacity().saturating_sub(self.filling.len());
        if free < bytes.len() {
            self.seal();
            self.filling.reserve_exact(self.chunk_bytes.max(bytes.len()));
        }
        let from = self.filling.len();
        self.filling.extend_from_slice(bytes);
        self.kept_len = self.kept_len.saturating_add(bytes.len());
        Kept::Copied(self.sealed.len(), from..self.filling.len())
    }

    /// Bytes that were copied, and those of pages that are kept.
    pub(crate) const fn kept_len(&self) -> usize {
        self.kept_len
    }

    /// Rows that were fetched since it began, yielded or not.
    pub(crate) const fn fetched_rows(&self) -> usize {
        self.fetched_rows
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

    /// The key that was added last, whether its row was yielded or not; `None` when nothing was added.
    pub(crate) fn last_key(&self) -> Result<Option<ValueRef>, ReadError> {
        match (&self.last, self.runs.last()) {
            (Some(Last::Copied(chunk, range)), _) => Ok(Some(self.copied(*chunk, range.clone()))),
            (Some(Last::Shared(key)), _) => Ok(Some(key.clone())),
            (Some(Last::OfRun), Some(run)) => {
                let (row, _) = run_row(run, run.rows().end.saturating_sub(1))?;
                Ok(Some(ValueRef::from(row.key_parts().concat())))
            }
            (Some(Last::OfRun) | None, _) => Ok(None),
        }
    }

    /// A row of a run; `None` for a deletion.
    #[inline(always)]
    fn run_row(&mut self, run: usize, place: usize) -> Result<Option<KeyValue>, ReadError> {
        let Some(run) = self.runs.get(run) else { return Ok(None) };
        let (row, head) = run_row(run, place)?;
        if head.is_deletion {
            return Ok(None);
        }
        let parts = row.key_parts();
        let key_len = parts.iter().fold(0, |len: usize, part| len.saturating_add(part.len()));
        if key_len > ValueRef::HELD_LEN_MAX && self.keys.free() < key_len {
            self.keys = ValueChunk::with_capacity(self.chunk_bytes.max(key_len));
        }
        let (key, found) = (self.keys.push(&parts), row.value());
        // A run has no value with pages of its own.
        let value = found.inline().and_then(|value| value.get(head.len..)).unwrap_or_default();
        let counted = if value.len() > ValueRef::HELD_LEN_MAX { found.part(head.len) } else { None };
        Ok(Some((key, counted.unwrap_or_else(|| ValueRef::copy_from(value)))))
    }

    /// Takes the row that was added first.
    pub(crate) fn pop_front(&mut self) -> Result<Option<KeyValue>, ReadError> {
        while let Some(first) = self.rows.front_mut() {
            let Fetched::Run(run, places) = first else {
                let Some(Fetched::Row(key, value)) = self.rows.pop_front() else { break };
                return Ok(Some((self.part(key), self.part(value))));
            };
            let (run, place) = (*run, places.next());
            if places.start >= places.end {
                self.rows.pop_front();
            }
            if let Some(place) = place
                && let Some(row) = self.run_row(run, place)?
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Takes the row that was added last.
    pub(crate) fn pop_back(&mut self) -> Result<Option<KeyValue>, ReadError> {
        while let Some(last) = self.rows.back_mut() {
            let Fetched::Run(run, places) = last else {
                let Some(Fetched::Row(key, value)) = self.rows.pop_back() else { break };
                return Ok(Some((self.part(key), self.part(value))));
            };
            let (run, place) = (*run, places.next_back());
            if places.start >= places.end {
                self.rows.pop_back();
            }
            if let Some(place) = place
                && let Some(row) = self.run_row(run, place)?
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
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
            assert_eq!((batch.fetched_rows(), batch.kept_len()), (3, 3));
            batch.seal();
            assert_eq!(batch.last_key(), Ok(Some(shared.clone())));
            let (first, last) = (batch.pop_front().unwrap().unwrap(), batch.pop_back().unwrap().unwrap());
            let (_, kept) = batch.pop_back().unwrap().unwrap();
            assert_eq!(kept.as_ptr(), shared.as_ptr());
            assert_eq!((batch.pop_front(), batch.pop_back()), (Ok(None), Ok(None)));
            assert_eq!(batch.last_key(), Ok(Some(shared.clone())), "known though it was yielded");
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
            let (copied, kept) = batch.pop_front().unwrap().unwrap();
            assert_eq!((&copied, &kept), (value, value));
            let is_shared = !value.is_empty() && kept.as_ptr() == value.as_ptr();
            assert_eq!(is_shared, value.len() >= SHARED_LEN_MIN);
        }
    }
}
