//! Chains: the files that lead to a snapshot, and the rows that come out of them.
//!
//! The files are read side by side in the order of their rows; what a row is comes from the oldest file that has it, changed
//! by each newer one. Memory is a block for each file, and a few values. At the end the rows are held against what the
//! snapshot says they add up to.

use std::collections::BTreeSet;

use super::content::Content;
use super::error::SnapshotFileError;
use super::file::{OpenFile, RowReader};
use super::head::ParentRef;
use crate::catalog::TableId;
use crate::sync::Arc;

/// Opens the file of a name.
pub(super) trait FindFile {
    fn find(&self, name: &str) -> Result<OpenFile, SnapshotFileError>;
}

/// The files from a full snapshot to the one that is asked for, each held against what the next newer says of it.
pub(super) struct Chain {
    /// Those that the newest hangs on, oldest first.
    older: Vec<OpenFile>,
    newest: OpenFile,
}

/// Holds a parent against what its child says of it.
pub(super) fn must_be_parent(
    child: &OpenFile,
    wanted: &ParentRef,
    parent: &OpenFile,
) -> Result<(), SnapshotFileError> {
    let fail = |what, expected: String, found: String| {
        let (name, parent) = (child.head.name.clone(), wanted.name.clone());
        Err(SnapshotFileError::WrongParent { name, parent, what, expected, found })
    };
    let (head, content) = (&parent.head, parent.trailer.content);
    if head.store_id != child.head.store_id {
        return fail("the store", child.head.store_id.to_string(), head.store_id.to_string());
    }
    if head.version != wanted.version {
        return fail("the version", wanted.version.to_string(), head.version.to_string());
    }
    if head.time != wanted.time {
        return fail("the time", wanted.time.to_string(), head.time.to_string());
    }
    if content != wanted.content {
        return fail("the content", format!("{:?}", wanted.content), format!("{content:?}"));
    }
    for table in &parent.tables {
        let found = child.tables.binary_search_by_key(&table.number, |table| table.number).ok();
        let found = found.and_then(|at| child.tables.get(at)).map(|table| &table.name);
        if found != Some(&table.name) {
            let what = "a table";
            return fail(
                what,
                format!("{found:?}, number {}", table.number.get()),
                format!("{:?}", table.name),
            );
        }
    }
    Ok(())
}

impl Chain {
    pub(super) fn open(folder: &impl FindFile, name: &str) -> Result<Self, SnapshotFileError> {
        let newest = folder.find(name)?;
        let mut older = Vec::new();
        let mut seen = BTreeSet::from([name.to_owned()]);
        loop {
            let child = older.last().unwrap_or(&newest);
            let Some(wanted) = child.head.parent.clone() else { break };
            let name = child.head.name.clone();
            if !seen.insert(wanted.name.clone()) {
                let (expected, found) =
                    ("one that leads to a full snapshot".to_owned(), "in a circle".to_owned());
                return Err(SnapshotFileError::WrongParent {
                    name,
                    parent: wanted.name,
                    what: "the chain",
                    expected,
                    found,
                });
            }
            let parent = match folder.find(&wanted.name) {
                Err(SnapshotFileError::NotFound { .. }) => {
                    return Err(SnapshotFileError::ParentNotFound { name, parent: wanted.name });
                }
                found => found?,
            };
            must_be_parent(child, &wanted, &parent)?;
            older.push(parent);
        }
        older.reverse();
        Ok(Self { older, newest })
    }

    /// The snapshot that was asked for.
    pub(super) const fn newest(&self) -> &OpenFile {
        &self.newest
    }

    /// All files, oldest first.
    fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.older.iter().chain([&self.newest])
    }

    /// Files of the chain.
    pub(super) fn len(&self) -> usize {
        self.files().count()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files().map(|file| file.len).fold(0, u64::saturating_add)
    }

    /// The tables of the snapshot, ascending by number.
    pub(super) fn tables(&self) -> Vec<(TableId, Arc<str>)> {
        self.newest.tables.iter().map(|table| (table.number, Arc::clone(&table.name))).collect()
    }

    /// Reads everything, and holds it against what the snapshot says; gives how many rows came out.
    pub(super) fn verify(&self) -> Result<u64, SnapshotFileError> {
        let (mut rows, mut count) = (self.rows()?, 0_u64);
        while rows.next()?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    /// The rows of the snapshot, ascending by table number and key.
    pub(super) fn rows(&self) -> Result<ChainRows, SnapshotFileError> {
        let mut readers = Vec::with_capacity(self.len());
        for file in self.files() {
            let mut reader = file.rows();
            reader.advance()?;
            readers.push(reader);
        }
        Ok(ChainRows {
            readers,
            tables: self.tables(),
            name: self.newest.head.name.clone(),
            expected: self.newest.trailer.content,
            found: Content::default(),
            table: TableId::SYSTEM,
            key: Vec::new(),
            value: Vec::new(),
            spare: Vec::new(),
        })
    }
}

/// The rows that come out of a chain. Lends one at a time.
pub(super) struct ChainRows {
    /// Oldest first, each at its next row.
    readers: Vec<RowReader>,
    tables: Vec<(TableId, Arc<str>)>,
    name: String,
    expected: Content,
    found: Content,
    table: TableId,
    key: Vec<u8>,
    value: Vec<u8>,
    spare: Vec<u8>,
}

/// A row that is lent.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainRow<'a> {
    pub(super) table: TableId,
    pub(super) name: &'a str,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl ChainRows {
    /// The next row; `None` at the end, when everything that was read adds up.
    pub(super) fn next(&mut self) -> Result<Option<ChainRow<'_>>, SnapshotFileError> {
        loop {
            let least = self.readers.iter().filter_map(RowReader::at).min();
            let Some((table, key)) = least else {
                return self.end().map(|()| None);
            };
            self.table = table;
            self.key.clear();
            self.key.extend_from_slice(key);
            if self.resolve()? {
                break;
            }
        }
        let named = self.tables.binary_search_by_key(&self.table, |table| table.0).ok();
        // Every table of a file is one of the newest's, and every row is one of the file's tables.
        let name = named.and_then(|at| self.tables.get(at)).map_or("", |table| &*table.1);
        self.found.add(name, &self.key, &self.value);
        Ok(Some(ChainRow { table: self.table, name, key: &self.key, value: &self.value }))
    }

    /// Makes the value of the row that is next from every file that has it. False when it is deleted.
    fn resolve(&mut self) -> Result<bool, SnapshotFileError> {
        let mut is_there = false;
        for reader in &mut self.readers {
            if reader.at() != Some((self.table, self.key.as_slice())) {
                continue;
            }
            let before = is_there.then_some(self.value.as_slice());
            is_there = reader.take(before, &mut self.spare)?;
            std::mem::swap(&mut self.value, &mut self.spare);
        }
        Ok(is_there)
    }

    fn end(&self) -> Result<(), SnapshotFileError> {
        if self.found == self.expected {
            return Ok(());
        }
        let what =
            if self.found.rows == self.expected.rows { "the sum of the rows" } else { "the number of rows" };
        let shown = |content: Content| format!("{} rows with sum {:016x}", content.rows, content.sum);
        let (expected, found) = (shown(self.expected), shown(self.found));
        Err(SnapshotFileError::WrongContent { name: self.name.clone(), what, expected, found })
    }
}
