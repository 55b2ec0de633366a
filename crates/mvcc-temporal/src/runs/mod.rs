//! Runs: what a transaction that is too large for memory writes, sorted, in files of their own beside the page file.
//!
//! A run is a page file with one tree, built once and never changed: its keys are the number of the table, big-endian, and
//! the key; its values a byte that says whether the row is a deletion, and the value. The record that commits the
//! transaction names its runs with the roots of their trees, so another file in the place of one is found by whoever reads.
//!
//! Invariants:
//! * A run's file and its name are on stable storage before a record of the log names it.
//! * A number is given once: above those of all files and records that are there when the store is opened.
//! * A run that no record names goes with its last handle; what a crash leaves of such runs goes when the store is opened.
//! * A run that a record names stays until every header of the page file on disk has what is in it.

mod build;
mod cursor;
mod folder;
mod merged;

use std::path::{Path, PathBuf};

use keepstone_btree::{Found, Tree, TreeRoot};
use keepstone_pager::PageFile;
use keepstone_types::{Lsn, ValueRef};

use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::{damaged, read_error};
use crate::key_range::KeyRange;
use crate::sync::{Arc, AtomicBool, Ordering};

pub(crate) use build::RunError;
pub(crate) use cursor::RunCursor;
pub(crate) use folder::{RUNS_DIR, RunFolder, Unnamed};
pub(crate) use merged::Merged;

/// What a run's value begins with.
const LIVE: u8 = 1;
const DELETED: u8 = 0;
/// What damage is reported in.
const TREE: &str = "a run";

/// What a record of the log says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRef {
    pub(crate) number: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    pub(crate) root: TreeRoot,
}

/// Rows of some runs, each counted in every run it stands in.
pub(crate) fn rows_of(runs: &[RunRef]) -> u64 {
    runs.iter().map(|run| run.root.rows()).fold(0, u64::saturating_add)
}

/// Bytes of keys and values in some runs.
pub(crate) fn bytes_of(runs: &[Arc<Run>]) -> u64 {
    runs.iter().map(|run| run.reference.bytes).fold(0, u64::saturating_add)
}

/// A key and the number of its table in front.
fn place(table: TableId, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(key.len().saturating_add(4));
    place.extend(table.get().to_be_bytes());
    place.extend_from_slice(key);
    place
}

/// The table and the key of a place.
fn split(place: &[u8]) -> Option<(TableId, &[u8])> {
    let (table, key) = place.split_first_chunk()?;
    Some((TableId::new(u32::from_be_bytes(*table)), key))
}

/// A run that is open. Its file goes with its last handle unless it was attached.
#[derive(Debug)]
pub(crate) struct Run {
    folder: Arc<RunFolder>,
    path: PathBuf,
    pages: PageFile,
    reference: RunRef,
    /// The first and the last key of each table, as ranges; of a run that was found, of none.
    spans: Vec<(TableId, KeyRange)>,
    is_attached: AtomicBool,
}

impl Run {
    pub(crate) const fn reference(&self) -> &RunRef {
        &self.reference
    }

    /// What it wrote, as ranges.
    pub(crate) fn spans(&self) -> &[(TableId, KeyRange)] {
        &self.spans
    }

    /// A record of the log names it from now on.
    pub(crate) fn attach(&self, lsn: Lsn) {
        if !self.is_attached.swap(true, Ordering::AcqRel) {
            self.folder.note_attached(lsn, self.reference.number);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads everything; gives the number of rows.
    pub(crate) fn check(&self) -> Result<u64, ReadError> {
        let mut cursor = self.tree().cursor();
        cursor.seek_first().map_err(read_error)?;
        let mut rows = 0_u64;
        while let Some((place, found)) = cursor.key().zip(cursor.value()) {
            self.value(place, found)?;
            rows = rows.saturating_add(1);
            cursor.next().map_err(read_error)?;
        }
        Ok(rows)
    }

    fn tree(&self) -> Tree<'_, PageFile> {
        Tree::new(&self.pages, self.reference.root)
    }

    /// What it wrote to a key: `None` when nothing, `Some(None)` when a deletion.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Option<ValueRef>>, ReadError> {
        let place = place(table, key);
        let look = |found: Found<'_>| self.value(&place, found);
        self.tree().look_up(&place, look).map_err(read_error)?.transpose()
    }

    /// The value of a row: `None` for a deletion.
    fn value(&self, place: &[u8], found: Found<'_>) -> Result<Option<ValueRef>, ReadError> {
        let wrong = || damaged(TREE, place, "a value behind a byte that says whether it is one");
        match found.head().first() {
            Some(&DELETED) if found.len() == 1 => Ok(None),
            Some(&LIVE) => {
                let shared = found.shared(1);
                let copied = || found.inline().and_then(|value| value.get(1..)).map(ValueRef::copy_from);
                if let Some(value) = shared.or_else(copied) {
                    return Ok(Some(value));
                }
                let stored = found.stored().map_err(read_error)?;
                let whole = stored.load(&self.pages).map_err(read_error)?;
                whole.slice(1..).map(Some).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.is_attached.load(Ordering::Acquire) {
            self.folder.discard(&self.path);
        }
    }
}
