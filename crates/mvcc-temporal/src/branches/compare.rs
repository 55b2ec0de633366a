//! What a branch changed, beside what was there when it was forked and what is there now.

use std::fmt;

use keepstone_types::{ValueRef, Version};

use super::handle::Branch;
use super::part::{split_place, untagged};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::damaged;
use crate::key_range::KeyRange;
use crate::readers::Registration;
use crate::scan::{Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;

/// A row that a branch has otherwise than the version it was forked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchChange {
    /// The table.
    pub table: Arc<str>,
    /// The key.
    pub key: ValueRef,
    /// The value at the version the branch was forked at; `None` when the row was not there.
    pub base: Option<ValueRef>,
    /// The value on the branch; `None` when the row is not there.
    pub branch: Option<ValueRef>,
    /// The value of the store, outside of the branch, when the iterator was made; `None` when the row is not there.
    pub main: Option<ValueRef>,
}

impl BranchChange {
    /// Whether the store has changed the row too since the fork, and to something else: a merge needs a strategy for it.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.main != self.base && self.main != self.branch
    }
}

/// A row of a branch's own.
pub(super) struct OwnRow {
    pub(super) table: TableId,
    pub(super) key: ValueRef,
    pub(super) value: Option<ValueRef>,
}

/// What a row of the table of branches is; `None` for a row of a branch's own catalog.
pub(super) fn own_row(place: &ValueRef, value: &ValueRef) -> Result<Option<OwnRow>, ReadError> {
    let wrong = || damaged("the rows of branches", place, "a branch, a table and a key");
    let (_, table, key) = split_place(place).ok_or_else(wrong)?;
    if table == TableId::SYSTEM {
        return Ok(None);
    }
    let from = place.len().saturating_sub(key.len());
    let key = place.slice(from..).ok_or_else(wrong)?;
    Ok(Some(OwnRow { table, key, value: untagged(place, value)? }))
}

/// The rows that a branch has otherwise than the version it was forked at, by the numbers of the tables and by key. Its cost
/// is what the branch wrote. Ends after an error.
#[must_use = "iterators are lazy"]
pub struct BranchDiff {
    shared: Arc<Shared>,
    rows: Scan,
    /// The version that the branch's rows and the store are read at, and the one below the branch.
    now: Arc<Registration>,
    base: Arc<Registration>,
    ended: bool,
}

impl fmt::Debug for BranchDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchDiff").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Branch {
    /// What the branch changed, by table and key, each row with what was there when it was forked and with what the store has
    /// now. A row that was changed and changed back is left out.
    ///
    /// # Errors
    /// When the branch was discarded, or the store was closed.
    pub fn diff(&self) -> Result<BranchDiff, ReadError> {
        let shared = Arc::clone(&self.inner().shared);
        shared.must_be_open()?;
        let now = shared.hold_newest()?;
        let part = self.part(&now)?;
        let source = ScanSource {
            shared: Arc::clone(&shared),
            held: Arc::clone(&now),
            branch: None,
            own: None,
            table: Some(TableId::BRANCHES),
            trace: None,
        };
        let rows = Scan::new(source, part.number().everything());
        Ok(BranchDiff { shared, rows, now, base: part.base, ended: false })
    }

    /// The rows that a merge needs a strategy for: changed on the branch and, otherwise, in the store.
    ///
    /// # Errors
    /// As [`diff`](Branch::diff).
    pub fn conflicts(
        &self,
    ) -> Result<impl Iterator<Item = Result<BranchChange, ReadError>> + Send + 'static, ReadError> {
        let is_asked_for = |change: &Result<BranchChange, ReadError>| {
            change.as_ref().map_or(true, BranchChange::is_conflict)
        };
        Ok(self.diff()?.filter(is_asked_for))
    }
}

impl BranchDiff {
    fn value(&self, at: &Registration, row: &OwnRow) -> Result<Option<ValueRef>, ReadError> {
        let _reading = at.call()?;
        let found = self.shared.stack.with(|layers| layers.get(row.table, &row.key, at.version()))?;
        Ok(found.and_then(|found| found.value))
    }

    fn next_change(&mut self) -> Result<Option<BranchChange>, ReadError> {
        while let Some(row) = self.rows.next() {
            let (place, value) = row?;
            let Some(row) = own_row(&place, &value)? else { continue };
            let _call = self.shared.enter()?;
            let base = self.value(&self.base, &row)?;
            if base == row.value {
                continue;
            }
            let main = self.value(&self.now, &row)?;
            let table = self.shared.catalog.display_name(row.table);
            return Ok(Some(BranchChange { table, key: row.key, base, branch: row.value, main }));
        }
        Ok(None)
    }

    /// The version of the store that it reads.
    #[must_use]
    pub fn version(&self) -> Version {
        self.now.version()
    }
}

impl Iterator for BranchDiff {
    type Item = Result<BranchChange, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_change();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl std::iter::FusedIterator for BranchDiff {}

/// All own rows of a branch stand in this range of the table of branches.
pub(super) fn everything(branch: &Branch) -> KeyRange {
    branch.info().number().everything()
}
