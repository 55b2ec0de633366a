//! The ground below the memtables: one root of the page file, with the newest folded version of every row, older versions
//! in history, and the commits.
//!
//! How a version is read (the argument that a slice may be published before the checkpoint is done): a row in its tree
//! carries the version that wrote it. If that is at or below the version that is read, it is the answer, for the tree
//! holds no older one, and a newer one at or below would be in a memtable or in its place. Otherwise the answer is in
//! history, whose entry for a version stays valid until the next newer one; a deletion is such an entry. A key that is
//! not in its tree was deleted or never there: at or above `folded` that is final, below it history decides.
//!
//! What an entry hangs on: the next newer version of its key, as this same root has it, in history or in the table's tree.
//! A slice that puts another value into the tree puts the one before into history in its place, and a slice that removes
//! a row of history makes the one that hung on it anew. So each root has all that its entries need.

pub(crate) mod commit_row;
mod cursor;
pub(crate) mod history_key;
pub(crate) mod meta;
pub(crate) mod older;
pub(crate) mod row;

use imbl::OrdMap;
use keepstone_btree::{Cursor, Found, Stored, Tree, TreeError, TreeRoot};
use keepstone_pager::{PageError, PageFile, Root};
use keepstone_types::wire::Reader;
use keepstone_types::{Generation, ValueRef, Version};

use crate::catalog::TableId;
use crate::error::{PageSource, ReadError};
use crate::history::CommitInfo;
use crate::memtable::{FoundRow, RowVersion};
use crate::sync::Arc;
use commit_row::CommitRow;
pub(crate) use cursor::{GroundCursor, run_row, seek_down, seek_up};
use meta::Meta;
use row::RowHead;

/// The roots of the trees of rows.
pub(crate) type TableRoots = OrdMap<TableId, TreeRoot>;

/// One root of the page file. While it is held, none of its pages is given to another.
#[derive(Debug)]
pub(crate) struct Ground {
    pages: PageFile,
    root: Arc<Root>,
    meta: Meta,
    tables: TableRoots,
}

/// Bytes that a tree holds and no build of this format writes there.
#[derive(Debug, thiserror::Error)]
#[error("{tree}, key {}: expected {expected}", key.escape_ascii())]
pub(crate) struct RowDamage {
    pub(crate) tree: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) expected: &'static str,
}

/// A failure below as one of reading.
pub(crate) fn read_error(error: TreeError) -> ReadError {
    let is_damage = error.is_damage();
    let is_gone = matches!(error, TreeError::Page(PageError::Superseded { .. }));
    let source = PageSource::new(error);
    match (is_damage, is_gone) {
        (true, _) => ReadError::Damaged { source },
        (false, true) => ReadError::SnapshotGone { source },
        (false, false) => ReadError::Disk { source },
    }
}

pub(crate) fn damaged(tree: &'static str, key: &[u8], expected: &'static str) -> ReadError {
    ReadError::Damaged { source: PageSource::new(RowDamage { tree, key: key.to_vec(), expected }) }
}

impl Ground {
    /// The ground on a root, with its table of trees read from the root itself.
    pub(crate) fn load(pages: PageFile, root: Arc<Root>) -> Result<Self, ReadError> {
        let meta = Meta::decode(root.meta());
        let meta = meta.map_err(|found| ReadError::Damaged {
            source: PageSource::new(std::io::Error::other(format!(
                "the meta data of the page file: {found}"
            ))),
        })?;
        let mut tables = TableRoots::new();
        let tree = Tree::new(&pages, meta.tables);
        let mut cursor = tree.cursor();
        cursor.seek_first().map_err(read_error)?;
        while let Some(key) = cursor.key() {
            let wrong = || damaged("the tree of tables", key, "a table's number and its root");
            let number = u32::from_be_bytes(key.try_into().map_err(|_| wrong())?);
            let stored = cursor.stored().ok_or_else(wrong)?;
            let value = stored.load(&pages).map_err(read_error)?;
            let root = TreeRoot::read(&mut Reader::new(&value)).map_err(read_error)?;
            tables.insert(TableId::new(number), root);
            cursor.next().map_err(read_error)?;
        }
        drop(cursor);
        Ok(Self { pages, root, meta, tables })
    }

    /// The ground on a root whose trees are known already.
    pub(crate) const fn new(pages: PageFile, root: Arc<Root>, meta: Meta, tables: TableRoots) -> Self {
        Self { pages, root, meta, tables }
    }

    pub(crate) const fn pages(&self) -> &PageFile {
        &self.pages
    }

    pub(crate) const fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) const fn tables(&self) -> &TableRoots {
        &self.tables
    }

    /// Rows of all tables, newest versions.
    pub(crate) fn row_count(&self) -> u64 {
        self.tables.values().map(TreeRoot::rows).fold(0, u64::saturating_add)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.root.generation()
    }

    pub(crate) fn tree_of(&self, table: TableId) -> Tree<'_, PageFile> {
        Tree::new(&self.pages, self.tables.get(&table).copied().unwrap_or_default())
    }

    pub(crate) fn history(&self) -> Tree<'_, PageFile> {
        Tree::new(&self.pages, self.meta.history)
    }

    pub(crate) fn commits(&self) -> Tree<'_, PageFile> {
        Tree::new(&self.pages, self.meta.commits)
    }

    /// The value of a row, copied once or sharing its page; `None` for a deletion.
    fn value(&self, found: Found<'_>, head: RowHead) -> Result<Option<ValueRef>, ReadError> {
        if head.is_deletion {
            return Ok(None);
        }
        match found.inline() {
            Some(row) => Ok(found.shared(head.len).or_else(|| row.get(head.len..).map(ValueRef::copy_from))),
            None => {
                let stored = found.stored().map_err(read_error)?;
                Ok(row::value(&stored.load(&self.pages).map_err(read_error)?, head))
            }
        }
    }

    /// The row in its tree: `None` when it is not there, `Some(None)` when it is newer than `at`.
    fn folded(&self, table: TableId, key: &[u8], at: Version) -> Result<Option<Option<FoundRow>>, ReadError> {
        let look = |found: Found<'_>| -> Result<Option<FoundRow>, ReadError> {
            let head = head_of(found.head(), key)?;
            if head.version > at {
                return Ok(None);
            }
            Ok(Some(FoundRow { version: head.version, value: self.value(found, head)? }))
        };
        self.tree_of(table).look_up(key, look).map_err(read_error)?.transpose()
    }

    /// The newest version of a row at or below `at`, a deletion included where one is known.
    pub(crate) fn get(&self, table: TableId, key: &[u8], at: Version) -> Result<Option<FoundRow>, ReadError> {
        match self.folded(table, key, at)? {
            Some(Some(row)) => return Ok(Some(row)),
            None if at >= self.meta.folded => return Ok(None),
            Some(None) | None => {}
        }
        Ok(self.past(table, key, at)?.map(FoundRow::from))
    }

    /// The versions of a key at or below `at`, newest first, at most `limit`.
    pub(crate) fn versions(
        &self,
        table: TableId,
        key: &[u8],
        at: Version,
        limit: usize,
    ) -> Result<Vec<RowVersion>, ReadError> {
        let mut rows = Vec::new();
        if limit > 0
            && let Some(FoundRow { version, value }) = self.folded(table, key, at)?.flatten()
        {
            rows.push(RowVersion { key: ValueRef::copy_from(key), version, value });
        }
        rows.extend(self.past_versions(table, key, at, limit.saturating_sub(rows.len()))?);
        Ok(rows)
    }

    /// The keys that a commit above `low` and at or below `high` wrote, as far as they are folded and retained. Pages that
    /// are older than those commits are not read.
    pub(crate) fn changed_keys(
        &self,
        low: Version,
        high: Version,
        visit: &mut dyn FnMut(TableId, &[u8]),
    ) -> Result<(), ReadError> {
        if low >= self.meta.folded {
            return Ok(());
        }
        let begun = if low >= self.meta.through {
            self.meta.begun
        } else {
            // The commit after an old version that is still held may be pruned; then any page may have changed since.
            let next = self.commit_row(low.sequence().saturating_add(1))?;
            next.map_or(Generation::ZERO, |commit| commit.begun)
        };
        let since = Generation::new(begun.get().saturating_sub(1)).unwrap_or_default();
        for (table, root) in self.tables.iter().filter(|(table, _)| table.is_user()) {
            let tree = Tree::new(&self.pages, *root);
            let mut cursor = tree.cursor_since(since);
            cursor.seek_first().map_err(read_error)?;
            while let Some(key) = cursor.key() {
                let wrong = || damaged("a tree of rows", key, "a row with its version");
                let head = row::head(cursor.head()).ok_or_else(wrong)?;
                if head.version > low && head.version <= high {
                    visit(*table, key);
                }
                cursor.next().map_err(read_error)?;
            }
        }
        let tree = self.history();
        let mut cursor = tree.cursor_since(since);
        cursor.seek_first().map_err(read_error)?;
        let mut user_key = Vec::new();
        while let Some(key) = cursor.key() {
            let wrong = || damaged("the tree of older versions", key, "a table, a key and a version");
            let (table, version) = history_key::decode(key, &mut user_key).ok_or_else(wrong)?;
            if version > low && version <= high {
                visit(table, &user_key);
            }
            cursor.next().map_err(read_error)?;
        }
        Ok(())
    }

    fn commit_row(&self, sequence: u64) -> Result<Option<CommitRow>, ReadError> {
        let key = commit_row::key(sequence);
        let Some(stored) = self.commits().get(&key).map_err(read_error)? else { return Ok(None) };
        let value = stored.load(&self.pages).map_err(read_error)?;
        let row = CommitRow::decode(&key, &value);
        row.map(Some).ok_or_else(|| damaged("the tree of commits", &key, "a commit"))
    }

    /// The commit of a place in the order.
    pub(crate) fn commit_by_sequence(&self, sequence: u64) -> Result<Option<CommitInfo>, ReadError> {
        Ok(self.commit_row(sequence)?.map(|row| row.info))
    }

    /// The newest commit at or below a version.
    pub(crate) fn commit_at_or_below(&self, version: Version) -> Result<Option<CommitInfo>, ReadError> {
        // Versions ascend with their sequences, but a timeline that was left ends at a lower one.
        let newest = version.sequence().min(self.meta.through.sequence());
        match self.commit_by_sequence(newest)? {
            Some(commit) if commit.version <= version => return Ok(Some(commit)),
            _ => {}
        }
        let tree = self.commits();
        let mut cursor = tree.cursor();
        cursor.seek_before(&commit_row::key(newest)).map_err(read_error)?;
        while let Some(commit) = self.commit_at(&cursor)? {
            if commit.version <= version {
                return Ok(Some(commit));
            }
            cursor.previous().map_err(read_error)?;
        }
        Ok(None)
    }

    /// The newest commit at or before a place in the order.
    pub(crate) fn newest_commit_to(&self, sequence: u64) -> Result<Option<CommitInfo>, ReadError> {
        let tree = self.commits();
        let mut cursor = tree.cursor();
        match sequence.checked_add(1) {
            Some(after) => cursor.seek_before(&commit_row::key(after)),
            None => cursor.seek_last(),
        }
        .map_err(read_error)?;
        self.commit_at(&cursor)
    }

    /// The oldest commit at or behind a place in the order.
    pub(crate) fn oldest_commit_from(&self, sequence: u64) -> Result<Option<CommitInfo>, ReadError> {
        let tree = self.commits();
        let mut cursor = tree.cursor();
        cursor.seek(&commit_row::key(sequence)).map_err(read_error)?;
        self.commit_at(&cursor)
    }

    /// The commit that a cursor over the tree of commits stands on.
    fn commit_at(&self, cursor: &Cursor<'_, PageFile>) -> Result<Option<CommitInfo>, ReadError> {
        let Some(key) = cursor.key() else { return Ok(None) };
        let wrong = || damaged("the tree of commits", key, "a commit");
        let value = cursor.stored().ok_or_else(wrong)?.load(&self.pages).map_err(read_error)?;
        CommitRow::decode(key, &value).map(|row| Some(row.info)).ok_or_else(wrong)
    }
}

/// The version that wrote a row of a tree, and whether the row is a deletion.
pub(crate) fn row_head(stored: &Stored, key: &[u8]) -> Result<RowHead, ReadError> {
    head_of(stored.head(), key)
}

/// As [`row_head`], by what the row's value begins with.
fn head_of(value: &[u8], key: &[u8]) -> Result<RowHead, ReadError> {
    row::head(value).ok_or_else(|| damaged("a tree of rows", key, "a row with its version"))
}
