//! Folding a memtable into the trees: a bounded batch of its row versions at a time, in key order.
//!
//! Invariants:
//! * What a row's tree held before goes to history in the same slice, and so do all but the newest version of a key in
//!   the memtable, and the newest too when it is a deletion. So no version is ever in neither place.
//! * Rows carry their version, so folding one twice changes nothing: a tree that has a version or a newer one is left as
//!   it is.
//! * The catalog's rows are kept as they were first written: every creator of a table writes the same row, and the first
//!   says since when the table exists.

use keepstone_btree::{Decision, Edit, Fill, NewValue, Prefix, Stored, TreeRoot, merge};
use keepstone_pager::{PageWrite, PageWriter};
use keepstone_types::{Generation, ValueRef, Version};

use super::displace::Displaced;
use super::older_coder::OlderCoder;
use crate::catalog::{TABLE_PREFIX, TableId};
use crate::commit::index::CommitIndex;
use crate::error::CheckpointError;
use crate::ground::commit_row::{self, CommitRow};
use crate::ground::meta::{CHAINS, Meta};
use crate::ground::{Ground, TableRoots, row};
use crate::history::CommitInfo;
use crate::memtable::{Memtable, RowVersion, row_bytes};
use crate::runs::Merged;
use crate::wrong::{self, Wrong};

/// A place between the keys of a memtable: after all versions of a key.
pub(crate) type Place = (TableId, ValueRef);

/// How much is folded in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceLimit {
    /// Keys: each dirties a leaf at most.
    pub(crate) keys: usize,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
}

/// The versions of a key in a memtable, newest first; never empty.
pub(super) struct Versions {
    pub(super) table: TableId,
    pub(super) key: ValueRef,
    pub(super) newest: (Version, Option<ValueRef>),
    pub(super) older: Vec<(Version, Option<ValueRef>)>,
}

impl Versions {
    fn of(table: TableId, first: RowVersion) -> Self {
        let RowVersion { key, version, value } = first;
        Self { table, key, newest: (version, value), older: Vec::new() }
    }

    /// Keeps only the first version of a catalog row.
    fn settle(&mut self) {
        let is_catalog = self.table == TableId::SYSTEM && self.key.first() == Some(&TABLE_PREFIX);
        if is_catalog && let Some(first) = self.older.pop() {
            self.newest = first;
            self.older.clear();
        }
    }

    pub(super) fn is_catalog(&self) -> bool {
        self.table == TableId::SYSTEM && self.key.first() == Some(&TABLE_PREFIX)
    }

    fn edit(&self) -> Edit {
        let (version, value) = &self.newest;
        let value = match value {
            Some(body) => put(row::prefix(*version, false), body.clone()),
            None => NewValue::Delete,
        };
        Edit { key: self.key.clone(), value }
    }
}

/// Row versions that are folded in one slice, by table and key.
pub(crate) struct Batch {
    rows: Vec<Versions>,
    bytes: usize,
    memory_bytes: u64,
    /// Where the next slice begins; `None` when the memtable ends here.
    pub(crate) next: Option<Place>,
}

impl Batch {
    /// The next keys of a memtable behind a place, all versions of each.
    pub(crate) fn collect(
        memtable: &Memtable,
        from: Option<&Place>,
        limit: SliceLimit,
    ) -> Result<Self, CheckpointError> {
        let mut rows: Vec<Versions> = Vec::new();
        let (mut bytes, mut memory_bytes) = (0_usize, 0_u64);
        let mut next = None;
        let from = from.map(|(table, key)| (*table, &**key));
        // In runs are only tables that come after those that are in memory beside them.
        let in_memory = memtable.rows_behind(from).map(Ok);
        let (runs, version) = memtable.runs();
        let mut merged = Merged::behind(runs, from)?;
        let in_runs = std::iter::from_fn(|| merged.next_row().transpose());
        let in_runs =
            in_runs.map(|row| row.map(|(table, key, value)| (table, RowVersion { key, version, value })));
        for row in in_memory.chain(in_runs) {
            let (table, version) = row?;
            let len = version.key.len().saturating_add(version.value.as_ref().map_or(0, |value| value.len()));
            let in_memory = row_bytes(&version.key, version.value.as_ref());
            match rows.last_mut().filter(|last| last.table == table && last.key == version.key) {
                Some(last) => last.older.push((version.version, version.value)),
                None => {
                    if rows.len() >= limit.keys || bytes >= limit.bytes {
                        next = rows.last().map(|last| (last.table, last.key.clone()));
                        break;
                    }
                    rows.push(Versions::of(table, version));
                }
            }
            bytes = bytes.saturating_add(len);
            memory_bytes = memory_bytes.saturating_add(in_memory);
        }
        rows.iter_mut().for_each(Versions::settle);
        Ok(Self { rows, bytes, memory_bytes, next })
    }

    /// Row versions.
    pub(crate) fn row_count(&self) -> u64 {
        let count = self.rows.iter().map(|rows| rows.older.len().saturating_add(1)).sum::<usize>();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// What is left of a limit.
    pub(crate) fn rest_of(&self, limit: SliceLimit) -> SliceLimit {
        SliceLimit {
            keys: limit.keys.saturating_sub(self.rows.len()),
            bytes: limit.bytes.saturating_sub(self.bytes),
        }
    }

    /// Bytes that its row versions take in memory: what folding is counted in.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// What a generation that is being built will say of the store.
pub(crate) struct Building {
    pub(crate) writer: PageWriter,
    pub(crate) meta: Meta,
    pub(crate) tables: TableRoots,
}

impl Building {
    /// Folds a batch: rows into the trees of their tables, what they displace into history. Gives the bytes of that.
    /// `ground` is what the slice begins with.
    pub(crate) fn fold(
        &mut self,
        ground: &Ground,
        coder: &mut OlderCoder,
        batch: &Batch,
    ) -> Result<u64, CheckpointError> {
        let mut displaced = Displaced::new(ground, coder);
        let mut changed = Vec::new();
        for rows in batch.rows.chunk_by(|a, b| a.table == b.table) {
            let Some(table) = rows.first().map(|first| first.table) else { continue };
            let before = self.tables.get(&table).copied().unwrap_or_default();
            let after = self.fold_table(before, rows, &mut displaced)?;
            if after != before {
                self.tables.insert(table, after);
                changed.push(table_edit(table, after));
            }
        }
        let (writer, meta) = (&mut self.writer, &mut self.meta);
        let Displaced { edits: mut past, has_entries, .. } = displaced;
        if has_entries {
            meta.forms |= CHAINS;
        }
        if wrong::is(Wrong::DisplacedForgotten) || wrong::is(Wrong::PruneDuringFold) {
            past.clear();
        }
        meta.history = apply(writer, meta.history, &past)?;
        meta.tables = apply(writer, meta.tables, &changed)?;
        let bytes = past
            .iter()
            .map(|edit| u64::try_from(edit.key.len()).unwrap_or(u64::MAX).saturating_add(edit.value.len()));
        Ok(bytes.fold(0, u64::saturating_add))
    }

    fn fold_table(
        &mut self,
        root: TreeRoot,
        rows: &[Versions],
        displaced: &mut Displaced<'_>,
    ) -> Result<TreeRoot, CheckpointError> {
        let edits: Vec<Edit> = rows.iter().map(Versions::edit).collect();
        let mut left = rows.iter();
        let mut failed = None;
        let mut decide = |edit: &Edit, old: Option<&Stored>| {
            let Some(versions) = left.next() else { return Decision::Skip };
            match displaced.displace(versions, old) {
                Ok(decision) => decision,
                Err(error) => {
                    failed = Some(error);
                    debug_assert!(edit.key == versions.key, "edits are decided in their order");
                    Decision::Skip
                }
            }
        };
        let merged = merge(&mut self.writer, root, &edits, Fill::default(), &mut decide);
        match failed {
            Some(error) => Err(error),
            None => merged.map_err(CheckpointError::from_tree),
        }
    }

    /// Notes commits that are folded now, all of them.
    pub(crate) fn fold_commits(&mut self, commits: &CommitIndex) -> Result<(), CheckpointError> {
        let begun = self.meta.begun;
        let row = |entry| CommitRow { info: CommitInfo::of(entry), begun };
        let rows = (0..commits.len()).filter_map(|index| commits.get(index)).map(|entry| row(entry));
        let edits: Vec<Edit> = rows
            .map(|row| {
                let key = commit_row::key(row.info.version.sequence());
                Edit {
                    key: ValueRef::from(key.as_slice()),
                    value: put(Prefix::EMPTY, ValueRef::from(row.encode())),
                }
            })
            .collect();
        self.meta.commits = apply(&mut self.writer, self.meta.commits, &edits)?;
        Ok(())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.writer.generation()
    }
}

/// Notes the root of a table's rows in the tree of tables.
pub(crate) fn table_edit(table: TableId, root: TreeRoot) -> Edit {
    let (key, body) = (table.get().to_be_bytes(), root.to_bytes());
    let value = put(Prefix::EMPTY, ValueRef::from(body.as_slice()));
    Edit { key: ValueRef::from(key.as_slice()), value }
}

pub(super) fn put(prefix: Prefix, body: ValueRef) -> NewValue {
    NewValue::Bytes { prefix, body }
}

/// Merges edits that replace whatever is there.
pub(crate) fn apply(
    writer: &mut PageWriter,
    root: TreeRoot,
    edits: &[Edit],
) -> Result<TreeRoot, CheckpointError> {
    if edits.is_empty() {
        return Ok(root);
    }
    merge(writer, root, edits, Fill::default(), &mut |_, _| Decision::Replace)
        .map_err(CheckpointError::from_tree)
}
