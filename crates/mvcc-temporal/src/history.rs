//! Looking back: the versions of a key, the commits, and what changed between two versions.

use std::collections::BTreeSet;
use std::vec;

use keepstone_types::{Timestamp, ValueRef, Version};

use crate::catalog::TableId;
use crate::commit::entry::{CommitEntry, RowKey};
use crate::error::ReadError;
use crate::layers::Layers;
use crate::memtable::RowVersion;
use crate::readers::Registration;
use crate::runs::Merged;
use crate::shared::Shared;
use crate::sync::Arc;

/// Versions of a key that are fetched at a time.
const BATCH_VERSIONS: usize = 64;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The version that wrote it.
    pub version: Version,
    /// When that version was committed; the epoch when that is forgotten, because commits of its age are no longer retained
    /// and only the row itself still is.
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
    /// The newest version when the iterator was made; it and what is retained below it are kept for the iterator.
    held: Arc<Registration>,
    /// The newest version that was not fetched yet; `None` when all were.
    next: Option<Version>,
    batch: vec::IntoIter<HistoryEntry>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("key", &self.key).field("next", &self.next).finish_non_exhaustive()
    }
}

impl History {
    pub(crate) fn new(
        shared: Arc<Shared>,
        held: Arc<Registration>,
        table: Option<TableId>,
        key: &[u8],
    ) -> Self {
        let next = Some(held.version());
        Self { shared, table, key: ValueRef::copy_from(key), held, next, batch: Vec::new().into_iter() }
    }

    fn fetch(&mut self) -> Result<(), ReadError> {
        let (Some(table), Some(at)) = (self.table, self.next.take()) else { return Ok(()) };
        let _call = self.shared.enter()?;
        let held = Arc::clone(&self.held);
        let _reading = held.call()?;
        let layers = self.shared.stack.current();
        let rows = layers.versions(table, &self.key, at, BATCH_VERSIONS)?;
        if rows.len() == BATCH_VERSIONS {
            self.next = rows.last().and_then(|row| row.version.before());
        }
        let mut entries = Vec::with_capacity(rows.len());
        for RowVersion { version, value, .. } in rows {
            let time = layers.commit(version)?.map_or(Timestamp::EPOCH, |commit| commit.time);
            entries.push(HistoryEntry { version, time, value });
        }
        self.batch = entries.into_iter();
        Ok(())
    }

    fn end_with(&mut self, error: ReadError) -> Option<Result<HistoryEntry, ReadError>> {
        self.next = None;
        self.batch = Vec::new().into_iter();
        Some(Err(error))
    }
}

impl Iterator for History {
    type Item = Result<HistoryEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.shared.must_be_open().and_then(|()| self.held.must_be_active()) {
            let had_more = self.next.is_some() || !self.batch.as_slice().is_empty();
            let ended = self.end_with(error);
            return if had_more { ended } else { None };
        }
        debug_assert!(self.next.is_none_or(|next| next <= self.held.version()), "it only goes down");
        if self.batch.as_slice().is_empty()
            && let Err(error) = self.fetch()
        {
            return self.end_with(error);
        }
        self.batch.next().map(Ok)
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
    pub(crate) const fn new(version: Version, time: Timestamp, rows: u64) -> Self {
        Self { version, time, rows }
    }

    pub(crate) fn of(entry: &CommitEntry) -> Self {
        Self { version: entry.version(), time: entry.time(), rows: entry.row_count() }
    }
}

/// The commits that were visible when the iterator was made and are still retained when it comes to them, newest first,
/// or oldest first with `rev`. Ends after an error.
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct Commits {
    shared: Arc<Shared>,
    /// The sequences that are left: from the first to before the second.
    from: u64,
    to: u64,
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commits").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Commits {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, ReadError> {
        let span = {
            let _call = shared.enter()?;
            shared.stack.with(|layers| layers.commit_span(layers.visible()))?
        };
        let (from, to) = span.map_or((0, 0), |(first, last)| (first, last.saturating_add(1)));
        Ok(Self { shared, from, to })
    }

    /// The next commit that is retained, from one side; sequences between may have been pruned.
    fn get(
        &mut self,
        find: impl FnOnce(&Layers) -> Result<Option<CommitInfo>, ReadError>,
    ) -> Option<Result<CommitInfo, ReadError>> {
        if self.from >= self.to {
            return None;
        }
        let left = self.from..self.to;
        let found = self.shared.enter().and_then(|_call| self.shared.stack.with(find));
        let found = found.map(|commit| commit.filter(|commit| left.contains(&commit.version.sequence())));
        if !matches!(found, Ok(Some(_))) {
            self.to = self.from;
        }
        found.transpose()
    }
}

impl Iterator for Commits {
    type Item = Result<CommitInfo, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = self.to.saturating_sub(1);
        let found = self.get(|layers| layers.newest_commit_to(last))?;
        if let Ok(commit) = &found {
            self.to = commit.version.sequence();
        }
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.to.saturating_sub(self.from)).ok())
    }
}

impl DoubleEndedIterator for Commits {
    fn next_back(&mut self) -> Option<Self::Item> {
        let first = self.from;
        let found = self.get(|layers| layers.oldest_commit_from(first))?;
        if let Ok(commit) = &found {
            self.from = commit.version.sequence().saturating_add(1);
        }
        Some(found)
    }
}

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

/// The rows that differ between two versions, by table and key. Its cost is what the commits between them wrote. Ends
/// after an error.
#[must_use = "iterators are lazy"]
pub struct Diff {
    shared: Arc<Shared>,
    before: Arc<Registration>,
    after: Arc<Registration>,
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
    /// What differs between two versions that are held, the first not necessarily the older.
    pub(crate) fn new(
        shared: Arc<Shared>,
        before: Arc<Registration>,
        after: Arc<Registration>,
    ) -> Result<Self, ReadError> {
        let call = shared.enter()?;
        let (first, second) = (Arc::clone(&before), Arc::clone(&after));
        let _reading = (first.call()?, second.call()?);
        let low = before.version().min(after.version());
        let high = before.version().max(after.version());
        let mut keys = BTreeSet::new();
        let layers = shared.stack.current();
        for memtable in layers.memtables() {
            let (from, to) = (memtable.commits().count_through(low), memtable.commits().count_through(high));
            for commit in (from..to).filter_map(|index| memtable.commits().get(index)) {
                keys.extend(commit.keys().iter().cloned());
            }
            let (runs, version) = memtable.runs();
            if version > low && version <= high {
                let mut rows = Merged::behind(runs, None)?;
                while let Some((table, key, _)) = rows.next_row()? {
                    keys.insert((table, key));
                }
            }
        }
        if let Some(ground) = layers.ground() {
            ground.changed_keys(low, high, &mut |table, key| {
                keys.insert((table, ValueRef::copy_from(key)));
            })?;
        }
        keys.retain(|(table, _)| table.is_user());
        drop(call);
        let keys = keys.into_iter().collect::<Vec<_>>().into_iter();
        Ok(Self { shared, before, after, keys, ended: false })
    }

    /// The next row that differs.
    pub(crate) fn next_raw(&mut self) -> Result<Option<RawChange>, ReadError> {
        let (first, second) = (Arc::clone(&self.before), Arc::clone(&self.after));
        let _reading = (first.call()?, second.call()?);
        for (table, key) in self.keys.by_ref() {
            let value = |at: &Registration| {
                let found = self.shared.stack.with(|layers| layers.get(table, &key, at.version()));
                found.map(|row| row.and_then(|row| row.value))
            };
            let (before, after) = (value(&self.before)?, value(&self.after)?);
            if before != after {
                return Ok(Some(RawChange { table, key, before, after }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Diff {
    type Item = Result<Change, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.shared.must_be_open().and_then(|()| self.next_raw());
        self.ended = !matches!(next, Ok(Some(_)));
        let raw = next.transpose()?;
        Some(raw.map(|RawChange { table, key, before, after }| {
            let table = self.shared.catalog.display_name(table);
            Change { table, key, before, after }
        }))
    }
}

impl std::iter::FusedIterator for Diff {}
