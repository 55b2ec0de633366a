//! Scans: owned, double-ended iterators over a range of one table at one version.
//!
//! Invariants:
//! * A scan reads one view; between calls it holds counted references and nothing else. It fetches rows in batches that
//!   grow, and re-enters by key for the next.
//! * `rest` is what neither side has fetched yet. The front yields its batch, then `rest`, then what the back fetched and
//!   did not yield; the back likewise. So each row comes once, whichever way it is asked for.
//! * After an error it ends.

use std::collections::VecDeque;
use std::ops::Bound;

use keepstone_types::ValueRef;

use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::merge::{Direction, Merge};
use crate::read_set::ScanTrace;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::view::View;
use crate::write_set::WriteMap;

/// Rows of the first batch: a scan that takes a few rows fetches a few.
const BATCH_ROWS_FIRST: usize = 8;
/// Rows of a batch, at most.
const BATCH_ROWS_MAX: usize = 256;

/// A key and its value.
pub type KeyValue = (ValueRef, ValueRef);

/// What a scan reads from.
pub(crate) struct ScanSource {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: View,
    /// The transaction's own writes as they were when the scan began.
    pub(crate) own: Option<Arc<WriteMap>>,
    /// `None` when the table does not exist.
    pub(crate) table: Option<TableId>,
    /// Where a serializable transaction notes how far the scan came.
    pub(crate) trace: Option<Arc<ScanTrace>>,
}

/// The rows of a range in key order, from either end. Owned: it outlives the transaction or snapshot it came from, and
/// keeps reading the version it began at.
pub struct Scan {
    source: ScanSource,
    rest: KeyRange,
    front: VecDeque<KeyValue>,
    back: VecDeque<KeyValue>,
    batch_rows: usize,
    /// Nothing is left in `rest`.
    drained: bool,
    ended: bool,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fetched = self.front.len().saturating_add(self.back.len());
        f.debug_struct("Scan").field("rest", &self.rest).field("fetched", &fetched).finish_non_exhaustive()
    }
}

impl Scan {
    pub(crate) fn new(source: ScanSource, range: KeyRange) -> Self {
        let drained = source.table.is_none() || range.is_empty();
        let (front, back) = (VecDeque::new(), VecDeque::new());
        Self { source, rest: range, front, back, batch_rows: BATCH_ROWS_FIRST, drained, ended: false }
    }

    /// Fetches the next rows of `rest` on one side.
    fn fetch(&mut self, direction: Direction) -> Result<(), ReadError> {
        let _call = self.source.shared.enter()?;
        let Some(table) = self.source.table else { return Ok(()) };
        let limit = self.batch_rows;
        let rows = Merge::new(&self.source.view, self.source.own.as_deref(), table, &self.rest, direction);
        let batch = match direction {
            Direction::Up => &mut self.front,
            Direction::Down => &mut self.back,
        };
        batch.extend(rows.take(limit));
        self.batch_rows = limit.saturating_mul(2).min(BATCH_ROWS_MAX);
        self.drained = batch.len() < limit;
        if let Some((last, _)) = batch.back() {
            let beyond = Bound::Excluded(last.clone());
            match direction {
                Direction::Up => self.rest.from = beyond,
                Direction::Down => self.rest.to = beyond,
            }
        }
        Ok(())
    }

    fn take(&mut self, direction: Direction) -> Option<Result<KeyValue, ReadError>> {
        if self.ended {
            return None;
        }
        if let Err(error) = self.source.shared.must_be_open() {
            self.ended = true;
            return Some(Err(error));
        }
        loop {
            let (near, far) = match direction {
                Direction::Up => (&mut self.front, &mut self.back),
                Direction::Down => (&mut self.back, &mut self.front),
            };
            if let Some(row) = near.pop_front() {
                return Some(Ok(self.took(row, direction)));
            }
            if self.drained {
                let left = far.pop_back();
                return left.map(|row| Ok(self.took(row, direction))).or_else(|| self.end());
            }
            if let Err(error) = self.fetch(direction) {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    fn took(&self, row: KeyValue, direction: Direction) -> KeyValue {
        match (&self.source.trace, direction) {
            (Some(trace), Direction::Up) => trace.took_front(&row.0),
            (Some(trace), Direction::Down) => trace.took_back(&row.0),
            (None, _) => {}
        }
        row
    }

    fn end(&mut self) -> Option<Result<KeyValue, ReadError>> {
        self.ended = true;
        if let Some(trace) = &self.source.trace {
            trace.exhausted();
        }
        None
    }
}

impl Iterator for Scan {
    type Item = Result<KeyValue, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(Direction::Up)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(Direction::Down)
    }
}

impl std::iter::FusedIterator for Scan {}
