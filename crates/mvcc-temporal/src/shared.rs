//! What every handle of an open store shares: memory, catalog, counters, and whether the store is still open.

use std::path::{Path, PathBuf};

use keepstone_types::{Clock, StoreId, Version};

use crate::catalog::Catalog;
use crate::commit_index::CommitIndex;
use crate::error::ReadError;
use crate::gate::{Gate, Pass, Turns};
use crate::memtable::Memtable;
use crate::stats::Counters;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::view::{Memtables, View};

/// The state of an open store, beside its log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) store_id: StoreId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) memtables: Memtables,
    pub(crate) commits: CommitIndex,
    pub(crate) catalog: Catalog,
    pub(crate) counters: Counters,
    /// Calls in progress; shut when the store closes.
    pub(crate) calls: Gate,
    pub(crate) turns: Turns,
    /// The newest version on stable storage, raw.
    pub(crate) durable: AtomicU64,
    /// The newest version given out, raw: a hint, read without the queue's lock.
    pub(crate) admitted: AtomicU64,
    pub(crate) next_txn: AtomicU64,
    /// The process that opened the store.
    pub(crate) opened_by: u32,
    pub(crate) read_only: bool,
}

impl Shared {
    /// An empty store, opened by this process.
    pub(crate) fn new(dir: &Path, store_id: StoreId, clock: Arc<dyn Clock>, read_only: bool) -> Self {
        Self {
            dir: dir.to_path_buf(),
            store_id,
            clock,
            memtables: Memtables::new(Memtable::new(Version::ZERO)),
            commits: CommitIndex::new(),
            catalog: Catalog::new(),
            counters: Counters::new(),
            calls: Gate::new(),
            turns: Turns::new(),
            durable: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            next_txn: AtomicU64::new(1),
            opened_by: std::process::id(),
            read_only,
        }
    }

    /// Counts a call in progress, until the pass is dropped.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, ReadError> {
        self.calls.enter().ok_or(ReadError::Closed)
    }

    /// Fails when the store was closed.
    pub(crate) fn must_be_open(&self) -> Result<(), ReadError> {
        if self.calls.is_shut() { Err(ReadError::Closed) } else { Ok(()) }
    }

    /// Fails in a child of the process that opened the store.
    pub(crate) fn must_be_same_process(&self) -> Result<(), ReadError> {
        let here = std::process::id();
        if here == self.opened_by {
            return Ok(());
        }
        Err(ReadError::Forked { opened_by: self.opened_by, here })
    }

    pub(crate) fn visible(&self) -> Version {
        self.memtables.visible()
    }

    /// The newest durable version, never past the visible one, which follows it.
    pub(crate) fn durable(&self) -> Version {
        let durable = Version::from_raw(self.durable.load(Ordering::Acquire));
        durable.min(self.visible())
    }

    /// A view of a version that must have been made and be visible.
    pub(crate) fn view_of(&self, version: Version) -> Result<View, ReadError> {
        let newest = self.visible();
        if version > newest {
            return Err(ReadError::VersionInFuture { asked: version, newest });
        }
        let nearest = self.commits.at_or_below(version).map_or(Version::ZERO, |commit| commit.version());
        if version != nearest {
            return Err(ReadError::UnknownVersion { asked: version, nearest });
        }
        Ok(self.memtables.view_at(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_after_fork_is_told_so() {
        let clock = Arc::new(keepstone_types::ManualClock::default());
        let mut shared = Shared::new(Path::new("/s"), StoreId::from_bytes([0; 16]), clock, false);
        assert_eq!(shared.must_be_same_process(), Ok(()));
        let here = shared.opened_by;
        shared.opened_by = here.wrapping_add(1);
        let expected = ReadError::Forked { opened_by: here.wrapping_add(1), here };
        assert_eq!(shared.must_be_same_process(), Err(expected));
    }
}
