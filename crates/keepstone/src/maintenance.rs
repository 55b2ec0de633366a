//! Looking after a store: checkpoints, compaction, collecting pages, repair.

mod scrub;

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use crate::check::CheckReport;
use crate::error::map::maintenance_error;
use crate::error::{ErrorKind, ReadError, Source};
use crate::store::Store;

pub use scrub::{ScrubOptions, ScrubProgress, ScrubReport};

/// Why maintenance was not done, or not to its end. What it had done stands and the next goes on from there; nothing that
/// was committed is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The disk has no room for new pages.
    #[error("no room for new pages: {source}; make room, maintenance itself needs some before it frees any")]
    OutOfSpace {
        /// The page file's own error, with path and operation.
        source: Source,
    },
    /// The page file takes no more writes after a failed sync.
    #[error("the store stopped writing pages after a failure: {source}; reopen it")]
    Poisoned {
        /// The page file's own error.
        source: Source,
    },
    /// The page file could not be read or written.
    #[error("the page file refused: {source}")]
    Pages {
        /// What the page file says: which page, expected and found.
        source: Source,
    },
    /// The log could not be synced, marked or released.
    #[error("the log refused: {source}")]
    Log {
        /// The log's own error.
        source: Source,
    },
    /// The store is open read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// What had to be read could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The layer below refused for a reason of its own.
    #[error("maintenance is refused: {source}")]
    Engine {
        /// Why.
        source: Source,
        /// Its kind.
        kind: ErrorKind,
    },
}

impl MaintenanceError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::OutOfSpace { .. } => "out-of-space",
            Self::Poisoned { .. } => "poisoned",
            Self::Pages { .. } => "pages",
            Self::Log { .. } => "log",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
            Self::Read(error) => return error.kind(),
            Self::Engine { kind, .. } => return *kind,
        })
    }

    /// Whether it is known that bytes on disk are not what was written there. Of [`MaintenanceError::Pages`] only
    /// [`Store::check`](crate::Store::check) tells.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_damage())
    }

    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfSpace { .. } => true,
            Self::Read(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// What [`Store::checkpoint`] did, what others folded meanwhile included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Everything at or below this version is in the page file, printed as versions are.
    pub folded_version: String,
    /// Row versions that were folded.
    pub rows: u64,
    /// Bytes written to the page file.
    pub written_bytes: u64,
    /// Bytes of the log's segments after it.
    pub log_bytes: u64,
    /// Bytes of the page file after it.
    pub page_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// What [`Store::compact`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CompactReport {
    /// Older row versions that went because nothing keeps them.
    pub pruned_rows: u64,
    /// Commits that went with them.
    pub pruned_commits: u64,
    /// Bytes of pages that were in use for them and no longer are.
    pub reclaimed_bytes: u64,
    /// Bytes of the page file before.
    pub bytes_before: u64,
    /// Bytes of the page file after.
    pub bytes_after: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// What [`Store::gc`] found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GcReport {
    /// Pages that something leads to.
    pub reachable: u64,
    /// Where the free-space map differs from what can be reached: pages in use that nothing leads to, pages that are
    /// reached and count as free, wrong counts, damaged pages of the map itself.
    pub findings: u64,
    /// Whether the free-space map was made anew.
    pub rebuilt: bool,
    /// Pages that became free by that.
    pub freed: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// What [`Store::repair`] found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// What a scrub found and rebuilt, before all else.
    pub scrub: ScrubReport,
    /// What a check found after that, before anything else was done.
    pub before: CheckReport,
    /// What making the free-space map anew did; `None` when it was not the only thing wrong, or nothing was.
    pub gc: Option<GcReport>,
    /// What a check found afterwards.
    pub after: CheckReport,
}

impl RepairReport {
    /// What was wrong and is not any more, one line each.
    #[must_use]
    pub fn repaired(&self) -> Vec<String> {
        let gone = self.before.findings.iter().filter(|finding| !self.after.findings.contains(finding));
        let rebuilt = Some(self.scrub.repaired).filter(|pages| *pages > 0);
        let rebuilt = rebuilt.map(|pages| format!("{pages} pages were rebuilt from their parity"));
        rebuilt.into_iter().chain(gone.map(ToString::to_string)).collect()
    }
}

impl Store {
    /// Folds everything committed so far into the page file, and lets the log go that held it. Readers and writers go on
    /// meanwhile. Checkpoints also happen by themselves, see
    /// [`StoreOptions::checkpoint_memory_bytes`](crate::StoreOptions::checkpoint_memory_bytes) and its neighbours.
    ///
    /// # Errors
    /// When the disk fails or is full, or the store is read-only or closed. What was folded stands.
    ///
    /// ```
    /// use keepstone::Store;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let notes = store.collection::<String>("notes")?;
    /// let first = store.write(|txn| notes.put(txn, "greeting", &"hello".to_string()))?;
    /// store.write(|txn| notes.put(txn, "greeting", &"good evening".to_string()))?;
    /// let report = store.checkpoint()?;
    /// assert_eq!(report.folded_version, store.visible_version().to_string());
    /// assert_eq!(notes.get(&store.at(first.version.unwrap())?, "greeting")?.as_deref(), Some("hello"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self) -> Result<CheckpointReport, MaintenanceError> {
        let inner = &self.inner;
        inner.tell_of_checkpoints(None);
        let (before, began) = (inner.database.stats(), inner.clock.monotonic());
        let done = inner.database.checkpoint().map_err(maintenance_error);
        let elapsed = inner.clock.monotonic().saturating_sub(began);
        inner.tell_of_checkpoints(Some(elapsed));
        done?;
        let after = inner.database.stats();
        Ok(CheckpointReport {
            folded_version: after.folded.to_string(),
            rows: after.rows_folded.saturating_sub(before.rows_folded),
            written_bytes: after.pages.written_bytes.saturating_sub(before.pages.written_bytes),
            log_bytes: after.log.segment_bytes,
            page_bytes: after.pages.file_bytes,
            elapsed,
        })
    }

    /// Folds everything, drops older versions that nothing keeps, and makes the page file as short as its content. Readers
    /// and writers go on meanwhile.
    ///
    /// # Errors
    /// When the disk fails or is full, or the store is read-only or closed. What was done stands.
    pub fn compact(&self) -> Result<CompactReport, MaintenanceError> {
        let inner = &self.inner;
        let began = inner.clock.monotonic();
        let done = inner.database.compact().map_err(maintenance_error);
        let elapsed = inner.clock.monotonic().saturating_sub(began);
        inner.tell_of_checkpoints(Some(elapsed));
        let found = done?;
        Ok(CompactReport {
            pruned_rows: found.pruned_rows,
            pruned_commits: found.pruned_commits,
            reclaimed_bytes: found.reclaimed_bytes,
            bytes_before: found.bytes_before,
            bytes_after: found.bytes_after,
            elapsed,
        })
    }

    /// Looks for pages that nothing leads to, and for pages that count as free although something does. With `dry_run`
    /// that is all; otherwise the free-space map is made anew if anything was found.
    ///
    /// # Errors
    /// When the disk fails, a page that must be read is damaged, or the store is closed or (unless it is a dry run)
    /// read-only. Nothing was changed then.
    pub fn gc(&self, dry_run: bool) -> Result<GcReport, MaintenanceError> {
        let inner = &self.inner;
        let began = inner.clock.monotonic();
        let found = inner.database.gc(dry_run).map_err(maintenance_error)?;
        Ok(GcReport {
            reachable: found.reachable,
            findings: found.findings,
            rebuilt: found.rebuilt,
            freed: found.freed,
            elapsed: inner.clock.monotonic().saturating_sub(began),
        })
    }

    /// Scrubs the store, which rebuilds what parity can, and checks it; when all that is wrong then is the free-space map,
    /// makes that anew and checks again. Damage of anything else is only reported: what a damaged page held cannot be made
    /// up. What the log can heal of itself was healed when the store was opened for writing, see [`Store::recovery`].
    ///
    /// # Errors
    /// When the disk fails, or the store is read-only or closed.
    pub fn repair(&self) -> Result<RepairReport, MaintenanceError> {
        if self.is_read_only() {
            return Err(MaintenanceError::ReadOnly);
        }
        let scrub = self.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(()))?;
        let before = self.check()?;
        if !before.loses_nothing() {
            return Ok(RepairReport { scrub, after: before.clone(), before, gc: None });
        }
        let gc = self.gc(false)?;
        Ok(RepairReport { scrub, before, gc: Some(gc), after: self.check()? })
    }
}
