//! Scans: owned, double-ended iterators over a range of one table at one version.
//!
//! Invariants:
//! * A scan reads one version, which is kept for it; between calls it holds nothing else. It fetches rows in batches that
//!   grow, each from the layers as they then are, and re-enters by key for the next.
//! * `rest` is what neither side has fetched yet, but for what their last batches have. The front yields its batch, then `rest`,
//!   then what the back fetched and did not yield; the back likewise. So each row comes once, whichever way it is asked for.
//! * After an error it ends.

pub(crate) mod batch;

use std::ops::Bound;

use keepstone_types::ValueRef;

use crate::branches::{BranchPart, BranchViews};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::merge::{Direction, Merge};
use crate::read_set::ScanTrace;
use crate::readers::Registration;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::write_set::OwnWrites;
use batch::Batch;

/// Rows of the first batch: a scan that takes a few rows fetches a few, in one go.
const BATCH_ROWS_FIRST: usize = 10;
/// Rows of a batch, at most.
const BATCH_ROWS_MAX: usize = 256;
/// Bytes that are copied for a batch, before its last row.
const BATCH_BYTES: usize = 32 << 10;

/// A key and its value.
pub type KeyValue = (ValueRef, ValueRef);

/// What a scan reads from.
pub(crate) struct ScanSource {
    pub(crate) shared: Arc<Shared>,
    /// The version that is read.
    pub(crate) held: Arc<Registration>,
    /// The branch that is read; `held` is then the version of its own rows.
    pub(crate) branch: Option<BranchPart>,
    /// The transaction's own writes as they were when the scan began.
    pub(crate) own: Option<OwnWrites>,
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
    front: Batch,
    back: Batch,
    batch_rows: usize,
    /// Nothing is left in `rest`.
    drained: bool,
    ended: bool,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Scan {
    pub(crate) fn new(source: ScanSource, range: KeyRange) -> Self {
        let drained = source.table.is_none() || range.is_empty();
        let (front, back) = (Batch::default(), Batch::default());
        Self { source, rest: range, front, back, batch_rows: BATCH_ROWS_FIRST, drained, ended: false }
    }

    /// Fetches the next rows of `rest` on one side.
    fn fetch(&mut self, direction: Direction) -> Result<(), ReadError> {
        self.leave_behind()?;
        let _call = self.source.shared.enter()?;
        let held = &self.source.held;
        let _reading = held.call()?;
        let Some(table) = self.source.table else { return Ok(()) };
        let limit = self.batch_rows;
        let batch = match direction {
            Direction::Up => &mut self.front,
            Direction::Down => &mut self.back,
        };
        batch.begin(limit);
        let own = self.source.own.as_ref();
        self.drained = match &self.source.branch {
            None => {
                let view = self.source.shared.stack.view_at(held.version());
                let mut rows = Merge::new(&view, own, table, &self.rest, direction)?;
                fill(batch, limit, held, |batch| rows.put_next(batch))?
            }
            Some(branch) => {
                let _below = branch.base.call()?;
                let layers = self.source.shared.stack.current();
                let versions = (held.version(), branch.base.version());
                let views = BranchViews::new(&layers, branch.number(), versions, table, &self.rest);
                let mut rows = views.rows(own, direction)?;
                fill(batch, limit, held, |batch| rows.put_next(batch))?
            }
        };
        batch.seal();
        self.batch_rows = limit.saturating_mul(2).min(BATCH_ROWS_MAX);
        Ok(())
    }

    /// Takes what both sides fetched out of `rest`. It is done when it matters, before the next is fetched: most scans end
    /// before.
    fn leave_behind(&mut self) -> Result<(), ReadError> {
        if let Some(last) = self.front.last_key()? {
            self.rest.from = Bound::Excluded(last);
        }
        if let Some(last) = self.back.last_key()? {
            self.rest.to = Bound::Excluded(last);
        }
        Ok(())
    }

    fn take(&mut self, direction: Direction) -> Option<Result<KeyValue, ReadError>> {
        if self.ended {
            return None;
        }
        let may_go_on = self.source.shared.must_be_open().and_then(|()| self.source.held.must_be_active());
        let below = self.source.branch.as_ref().map_or(Ok(()), |branch| branch.base.must_be_active());
        let may_go_on = may_go_on.and(below);
        if let Err(error) = may_go_on {
            self.ended = true;
            return Some(Err(error));
        }
        loop {
            let (near, far) = match direction {
                Direction::Up => (&mut self.front, &mut self.back),
                Direction::Down => (&mut self.back, &mut self.front),
            };
            let fetched = match near.pop_front() {
                Ok(None) if self.drained => match far.pop_back() {
                    Ok(None) => return self.end(),
                    left => left,
                },
                Ok(None) => match self.fetch(direction) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                found => found,
            };
            return match fetched {
                Ok(row) => {
                    self.note(row.as_ref(), direction);
                    row.map(Ok)
                }
                Err(error) => {
                    self.ended = true;
                    Some(Err(error))
                }
            };
        }
    }

    fn note(&self, row: Option<&KeyValue>, direction: Direction) {
        let (Some(trace), Some((key, _))) = (&self.source.trace, row) else { return };
        match direction {
            Direction::Up => trace.took_front(key),
            Direction::Down => trace.took_back(key),
        }
    }

    fn end(&mut self) -> Option<Result<KeyValue, ReadError>> {
        self.ended = true;
        if let Some(trace) = &self.source.trace {
            trace.exhausted();
        }
        None
    }
}

/// Fills a batch; true when nothing is left.
fn fill(
    batch: &mut Batch,
    limit: usize,
    held: &Registration,
    mut put_next: impl FnMut(&mut Batch) -> Result<bool, ReadError>,
) -> Result<bool, ReadError> {
    while batch.fetched_rows() < limit && batch.kept_len() < BATCH_BYTES {
        held.must_be_active()?;
        if !put_next(batch)? {
            return Ok(true);
        }
    }
    Ok(false)
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
