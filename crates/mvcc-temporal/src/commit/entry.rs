//! What the store remembers of a commit: its version, time, place in the log, and the keys it wrote.
//!
//! One allocation is shared by the committer (who learns the version from it), the commit window (which validates
//! others against its keys) and the commit index (which answers history and diff).

use keepstone_types::{Lsn, Timestamp, ValueRef, Version};

use crate::catalog::TableId;
use crate::sync::{Arc, AtomicU64, Ordering};

/// A key within a table.
pub(crate) type RowKey = (TableId, ValueRef);

/// A commit, numbered when it is admitted to the log's queue.
#[derive(Debug)]
pub(crate) struct CommitEntry {
    version: AtomicU64,
    time_micros: AtomicU64,
    lsn: AtomicU64,
    /// Sorted, each once; those of rows in runs left out.
    keys: Box<[RowKey]>,
    rows_in_runs: u64,
}

impl CommitEntry {
    /// A commit of these sorted keys that has no number yet.
    pub(crate) fn new(keys: Box<[RowKey]>) -> Arc<Self> {
        Self::on_runs(keys, 0)
    }

    /// A commit of these keys and so many rows in runs.
    pub(crate) fn on_runs(keys: Box<[RowKey]>, rows_in_runs: u64) -> Arc<Self> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "keys are sorted and distinct");
        Arc::new(Self {
            version: AtomicU64::new(0),
            time_micros: AtomicU64::new(0),
            lsn: AtomicU64::new(0),
            keys,
            rows_in_runs,
        })
    }

    /// Gives the commit its number; under the queue's lock, or in recovery.
    pub(crate) fn admit(&self, version: Version, time: Timestamp, lsn: Lsn) {
        self.time_micros.store(time.as_micros(), Ordering::Relaxed);
        self.lsn.store(lsn.get(), Ordering::Relaxed);
        self.version.store(version.to_raw(), Ordering::Release);
    }

    /// The version; [`Version::ZERO`] before the commit is admitted.
    pub(crate) fn version(&self) -> Version {
        Version::from_raw(self.version.load(Ordering::Acquire))
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.time_micros.load(Ordering::Relaxed))
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn.load(Ordering::Relaxed))
    }

    pub(crate) fn keys(&self) -> &[RowKey] {
        &self.keys
    }

    /// Rows written; a row that stands in several of its runs counts in each.
    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.keys.len()).unwrap_or(u64::MAX).saturating_add(self.rows_in_runs)
    }
}
