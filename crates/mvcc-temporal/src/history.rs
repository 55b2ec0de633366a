//! Looking back: the versions of a key, the commits, and what changed between two versions.

use std::collections::BTreeSet;
use std::vec;

use keepstone_types::{Timestamp, ValueRef, Version};

use crate::catalog::TableId;
use crate::commit_entry::{CommitEntry, RowKey};
use crate::error::ReadError;
use crate::memtable::RowVersion;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::view::View;

/// Versions of a key that are fetched at a time.
const BATCH_VERSIONS: usize = 64;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The version that wrote it.
    pub version: Version,
    /// When that version was committed.
    pub time: Timestamp,
    /// The value; `None` for a deletion.
    pub value: Option<ValueRef>,
}

/// The versions of a key, newest first. Owned; ends after an error.
#[must_use = "iterators are lazy"]
pub struct History {
    shared: Arc<Shared>,
    table: Option<TableId>,
    key: ValueRef,
    view: View,
    /// The newest version that was not fetched yet; `None` when all were.
    next: Option<Version>,
    batch: vec::IntoIter<RowVersion>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("key", &self.key).field("next", &self.next).finish_non_exhaustive()
    }
}

impl History {
    pub(crate) fn new(shared: Arc<Shared>, view: View, table: Option<TableId>, key: &[u8]) -> Self {
        let next = Some(view.version());
        Self { shared, table, key: ValueRef::copy_from(key), view, next, batch: Vec::new().into_iter() }
    }

    fn fetch(&mut self) -> Result<(), ReadError> {
        let (Some(table), Some(at)) = (self.table, self.next.take()) else { return Ok(()) };
        let _call = self.shared.enter()?;
        let mut rows = Vec::new();
        for memtable in self.view.memtables() {
            let room = BATCH_VERSIONS.saturating_sub(rows.len());
            rows.extend(memtable.versions(table, &self.key, at, room));
        }
        if rows.len() == BATCH_VERSIONS {
            let oldest = rows.last().map(|row| row.version.to_raw());
            self.next = oldest.and_then(|raw| raw.checked_sub(1)).map(Version::from_raw);
        }
        self.batch = rows.into_iter();
        Ok(())
    }
}

impl Iterator for History {
    type Item = Result<HistoryEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.shared.must_be_open() {
            let had_more = self.next.take().is_some() || self.batch.next().is_some();
            self.batch = Vec::new().into_iter();
            return had_more.then_some(Err(error));
        }
        if self.batch.as_slice().is_empty()
            && let Err(error) = self.fetch()
        {
            return Some(Err(error));
        }
        let RowVersion { version, value, .. } = self.batch.next()?;
        let time = self.shared.commits.exact(version).map_or(Timestamp::EPOCH, |commit| commit.time());
        Some(Ok(HistoryEntry { version, time, value }))
    }
}

impl std::iter::FusedIterator for History {}

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitInfo {
    /// The version it made.
    pub version: Version,
    /// When.
    pub time: Timestamp,
    /// Rows written, the store's own included.
    pub rows: u64,
}

impl CommitInfo {
    pub(crate) fn of(entry: &CommitEntry) -> Self {
        Self { version: entry.version(), time: entry.time(), rows: entry.row_count() }
    }
}

/// The commits visible when the iterator was made, newest first, or oldest first with `rev`.
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct Commits {
    shared: Arc<Shared>,
    from: usize,
    to: usize,
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commits").field("left", &self.len()).finish_non_exhaustive()
    }
}

impl Commits {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let to = shared.commits.count_through(shared.visible());
        Self { shared, from: 0, to }
    }
}

impl Iterator for Commits {
    type Item = CommitInfo;

    fn next(&mut self) -> Option<CommitInfo> {
        self.to = self.to.checked_sub(1).filter(|to| *to >= self.from)?;
        self.shared.commits.get(self.to).map(|entry| CommitInfo::of(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.to.saturating_sub(self.from);
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Commits {
    fn next_back(&mut self) -> Option<CommitInfo> {
        let at = Some(self.from).filter(|from| *from < self.to)?;
        self.from = at.saturating_add(1);
        self.shared.commits.get(at).map(|entry| CommitInfo::of(entry))
    }
}

impl ExactSizeIterator for Commits {}

impl std::iter::FusedIterator for Commits {}

/// A row that differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The table.
    pub table: Arc<str>,
    /// The key.
    pub key: ValueRef,
    /// The value at the first version; `None` when the row was not there.
    pub before: Option<ValueRef>,
    /// The value at the second version; `None` when the row was not there.
    pub after: Option<ValueRef>,
}

/// The rows that differ between two versions, by table and key. Its cost is what the commits between them wrote.
#[must_use = "iterators are lazy"]
pub struct Diff {
    shared: Arc<Shared>,
    before: View,
    after: View,
    /// Every key that a commit between the two wrote.
    keys: vec::IntoIter<RowKey>,
    ended: bool,
}

impl std::fmt::Debug for Diff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diff").field("keys_left", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A row that differs between two versions, with its table's number.
pub(crate) struct RawChange {
    pub(crate) table: TableId,
    pub(crate) key: ValueRef,
    pub(crate) before: Option<ValueRef>,
    pub(crate) after: Option<ValueRef>,
}

impl Diff {
    /// What differs between two visible versions, the first not necessarily the older.
    pub(crate) fn new(shared: Arc<Shared>, before: View, after: View) -> Result<Self, ReadError> {
        let call = shared.enter()?;
        let low = before.version().min(after.version());
        let high = before.version().max(after.version());
        let (from, to) = (shared.commits.count_through(low), shared.commits.count_through(high));
        let mut keys = BTreeSet::new();
        for commit in (from..to).filter_map(|index| shared.commits.get(index)) {
            keys.extend(commit.keys().iter().filter(|(table, _)| *table != TableId::SYSTEM).cloned());
        }
        drop(call);
        let keys = keys.into_iter().collect::<Vec<_>>().into_iter();
        Ok(Self { shared, before, after, keys, ended: false })
    }

    /// The next row that differs.
    pub(crate) fn next_raw(&mut self) -> Option<RawChange> {
        loop {
            let (table, key) = self.keys.next()?;
            let value = |view: &View| view.get(table, &key).and_then(|row| row.value);
            let (before, after) = (value(&self.before), value(&self.after));
            if before != after {
                return Some(RawChange { table, key, before, after });
            }
        }
    }
}

impl Iterator for Diff {
    type Item = Result<Change, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Err(error) = self.shared.must_be_open() {
            self.ended = true;
            return Some(Err(error));
        }
        let RawChange { table, key, before, after } = self.next_raw()?;
        let table = self.shared.catalog.display_name(table);
        Some(Ok(Change { table, key, before, after }))
    }
}

impl std::iter::FusedIterator for Diff {}
