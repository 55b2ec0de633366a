//! Scrubbing a store's page file: every page is read past the system's cache and held against its parity.

use std::ops::ControlFlow;
use std::time::Duration;

use keepstone_mvcc_temporal as mvcc;
use serde::Serialize;

use super::MaintenanceError;
use crate::error::map::maintenance_error;
use crate::options::Parity;
use crate::store::Store;

/// How a store is scrubbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "options do nothing by themselves"]
pub struct ScrubOptions {
    /// Bytes that are read in a second at most; 0, the default, for no limit.
    pub bytes_per_second: u64,
    /// Only looks; by default what can be rebuilt is written again.
    pub dry_run: bool,
}

impl ScrubOptions {
    /// Sets [`bytes_per_second`](Self#structfield.bytes_per_second).
    pub const fn bytes_per_second(self, bytes_per_second: u64) -> Self {
        Self { bytes_per_second, ..self }
    }

    /// Sets [`dry_run`](Self#structfield.dry_run).
    pub const fn dry_run(self, dry_run: bool) -> Self {
        Self { dry_run, ..self }
    }
}

/// How far [`Store::scrub`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Slots of the page file that were passed.
    pub slots: u64,
    /// Slots there are.
    pub of: u64,
    /// Things found so far.
    pub findings: u64,
}

/// What [`Store::scrub`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Pages that were judged.
    pub pages: u64,
    /// Bytes that were read for it.
    pub bytes: u64,
    /// What is wrong, a line each, at most the first 1,000: which page, and how it was found.
    pub findings: Vec<String>,
    /// How many things are wrong.
    pub finding_count: u64,
    /// Pages that were written again.
    pub repaired: u64,
    /// Findings that cannot be repaired: two losses in one group, or pages that no parity counts.
    pub unrepairable: u64,
    /// Whether the end of the file was reached.
    pub complete: bool,
    /// Whether the system's cache was passed by; where the system does not do that, what was judged may be its memory.
    pub past_cache: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl Store {
    /// Reads every page of the page file that is in use or counted by parity from the disk, holds it against all that is
    /// known of it, and writes again what can be rebuilt. Readers, commits and checkpoints go on meanwhile. `progress` is
    /// called after each read and can end the scrub; it must not call the store.
    ///
    /// Without parity damage is found, and nothing can be rebuilt; see [`StoreOptions::parity`](crate::StoreOptions::parity).
    /// Only what was folded into the page file is scrubbed: the log heals itself when the store is opened.
    ///
    /// # Errors
    /// When the store is closed, or the map of the page file cannot be read. Damage is in the report.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use keepstone::{Parity, ScrubOptions, StoreOptions};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = StoreOptions::default().parity(Parity::Xor).open(dir.path())?;
    /// let notes = store.collection::<String>("notes")?;
    /// store.write(|txn| notes.put(txn, "greeting", &"hello".to_string()))?;
    /// store.checkpoint()?;
    /// let report = store.scrub(&ScrubOptions::default(), |_| ControlFlow::Continue(()))?;
    /// assert!(report.complete && report.findings.is_empty(), "{report:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        mut progress: impl FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<ScrubReport, MaintenanceError> {
        let inner = &self.inner;
        let (began, before) = (inner.clock.monotonic(), inner.database.stats().pages.repaired_pages);
        let asked = mvcc::ScrubOptions::default()
            .bytes_per_second(options.bytes_per_second)
            .repair(!options.dry_run && !self.is_read_only());
        let found = inner.database.scrub(&asked, |at| {
            progress(&ScrubProgress { slots: at.slots, of: at.of, findings: at.findings })
        });
        let found = found.map_err(maintenance_error)?;
        // Readers and checkpoints beside it may have found damage, and written it again, before it came there.
        let repaired = inner.database.stats().pages.repaired_pages.saturating_sub(before);
        let repaired = repaired.min(found.finding_count.saturating_sub(found.unrepairable));
        Ok(ScrubReport {
            pages: found.pages,
            bytes: found.bytes,
            findings: found.findings.iter().map(ToString::to_string).collect(),
            finding_count: found.finding_count,
            repaired,
            unrepairable: found.unrepairable,
            complete: found.complete,
            past_cache: found.past_cache,
            elapsed: inner.clock.monotonic().saturating_sub(began),
        })
    }

    /// Keeps parity of the store's pages from now on, or no longer. Readers and commits go on meanwhile; a store that
    /// turns it on writes each of its pages' parity once.
    ///
    /// # Errors
    /// When the disk fails or is full, or the store is read-only or closed. What is left is done by the checkpoints to come.
    pub fn set_parity(&self, parity: Parity) -> Result<(), MaintenanceError> {
        self.inner.database.set_parity(parity == Parity::Xor).map_err(maintenance_error)
    }
}
