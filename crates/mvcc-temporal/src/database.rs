//! The store: beginning transactions, reading now and then, writing with retries, closing.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use keepstone_pager::OpenReport;
use keepstone_types::{Clock, StoreId, Timestamp, Version};
use keepstone_vfs::{OsVfs, Vfs, VfsLock};
use keepstone_wal::{Durability, Log, RecoveryReport, Tending};

use crate::checkpoint::Checkpointer;
use crate::checkpoint::pace::ReconcilerStats;
use crate::commit::CommitSink;
use crate::error::{CheckpointError, CloseError, CommitError, OpenError, ReadError, WriteError};
use crate::gate::Turn;
use crate::history::{CommitInfo, Commits, Diff, History};
use crate::key_range::KeyRange;
use crate::log::error::sync_error;
use crate::options::{DatabaseOptions, HistoryCoding, Retention};
use crate::read::{Read, VersionedValue, sealed};
use crate::readers::ReaderAllowance;
use crate::runs::RunFolder;
use crate::scan::Scan;
use crate::shared::Shared;
use crate::snapshot::{Snapshot, read_row, scan_version};
use crate::stats::DatabaseStats;
use crate::sync::{Arc, Mutex, thread};
use crate::txn::{Receipt, Txn, TxnOptions};

/// Races that `write` loses before it takes an exclusive turn.
const LOSSES_BEFORE_TURN: u32 = 8;
/// The first wait after a lost race; it doubles with each, and a random part of it is waited.
const JITTER_FIRST: Duration = Duration::from_micros(50);

/// An open store.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log<CommitSink>,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) window_bytes_max: usize,
    pub(crate) transaction_memory_bytes: usize,
    pub(crate) runs: Arc<RunFolder>,
    pub(crate) durability: Durability,
    pub(crate) retention: Retention,
    pub(crate) history: HistoryCoding,
    pub(crate) readers: ReaderAllowance,
    pub(crate) checkpointer: Checkpointer,
    /// The store's lock file, until it is closed.
    pub(crate) lock: Mutex<Option<Box<dyn VfsLock>>>,
}

impl Inner {
    /// Waits for calls in progress and closes the log; the folder is free afterwards, whoever still holds this.
    fn end(&self) -> Result<(), CloseError> {
        if !self.shared.calls.shut() {
            return Err(CloseError::AlreadyClosed);
        }
        self.shared.alarm.end();
        self.shared.calls.wait_empty();
        let closed = self.log.close();
        let lock = self.lock.lock().take();
        drop(lock);
        match closed {
            Err(_) if self.shared.read_only => Ok(()),
            closed => closed.map_err(|error| CloseError::Log { source: error.into() }),
        }
    }
}

/// What the caller's handles hold. The thread that checkpoints holds only what is in it, for as long as it works, so the
/// store is closed with the last handle and not some time later.
pub(crate) struct Handle(Arc<Inner>);

impl Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // In a child of the process that opened it, the threads that would have to leave do not run.
        if self.shared.must_be_same_process().is_ok() {
            // There is nobody to report to; an unclean close is found and reported by the next opening.
            self.end().unwrap_or_default();
        }
    }
}

/// An open store. Cloning is cheap, and all clones are one store; it closes when the last handle is dropped, or with
/// [`close`](Database::close).
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Handle>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Database");
        shown
            .field("dir", &self.inner.shared.dir)
            .field("visible", &self.visible_version())
            .finish_non_exhaustive()
    }
}

/// What [`Database::write`] returns: the closure's value, and what its commit made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// The version that was made; `None` when nothing was written.
    pub version: Option<Version>,
    /// When the version that was made, or else the one that was read, was committed.
    pub time: Timestamp,
}

impl<T> Committed<T> {
    pub(crate) fn of((value, receipt): (T, Receipt)) -> Self {
        let version = (receipt.rows > 0).then_some(receipt.version);
        Self { value, version, time: receipt.time }
    }
}

impl Database {
    /// Opens the store in a folder of the operating system's file system.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is written to what is not understood.
    pub fn open(dir: impl AsRef<Path>, options: DatabaseOptions) -> Result<Self, OpenError> {
        let clock = Arc::new(keepstone_types::SystemClock::default());
        Self::open_with(Arc::new(OsVfs::new()), clock, dir.as_ref(), options)
    }

    /// Opens a store on any file system, with any clock.
    ///
    /// # Errors
    /// As [`open`](Database::open).
    pub fn open_with(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: DatabaseOptions,
    ) -> Result<Self, OpenError> {
        let tending = options.log.tending;
        let inner = Arc::new(crate::open::open(vfs, clock, dir, options)?);
        // A model checker has threads enough.
        if tending == Tending::Thread && !inner.shared.read_only && !cfg!(feature = "model") {
            crate::checkpoint::start(&inner)
                .map_err(|source| OpenError::Io { dir: inner.shared.dir.clone(), source: source.into() })?;
        }
        Ok(Self { inner: Arc::new(Handle(inner)) })
    }

    /// A handle on a store that no thread checkpoints.
    pub(crate) fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(Handle(Arc::new(inner))) }
    }

    /// Begins a serializable transaction.
    ///
    /// # Errors
    /// When the store was closed, or opened by another process before a fork.
    pub fn begin(&self) -> Result<Txn, ReadError> {
        self.begin_with(TxnOptions::default())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`begin`](Database::begin).
    pub fn begin_with(&self, options: TxnOptions) -> Result<Txn, ReadError> {
        Txn::begin(&self.inner, options)
    }

    /// Runs a closure in a serializable transaction and commits it: the normal way to write. When another commit was
    /// first, the closure runs again on a new view; after eight losses it gets an exclusive turn, so it always finishes.
    /// Nothing else is retried. An error from the closure rolls back.
    ///
    /// # Errors
    /// The closure's own error, or why the commit failed.
    pub fn write<T, E>(
        &self,
        change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        self.write_with(TxnOptions::default(), change)
    }

    /// As [`write`](Database::write), with another isolation, or more durability.
    ///
    /// # Errors
    /// As [`write`](Database::write).
    pub fn write_with<T, E>(
        &self,
        options: TxnOptions,
        change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        self.retry(options, change).map(Committed::of)
    }

    /// As [`write`](Database::write), with the receipt.
    pub(crate) fn retry<T, E>(
        &self,
        options: TxnOptions,
        change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<(T, Receipt), WriteError<E>> {
        self.retry_from(|| self.begin_with(options), change)
    }

    /// As [`write`](Database::write), with a way to begin.
    pub(crate) fn retry_from<T, E>(
        &self,
        begin: impl Fn() -> Result<Txn, ReadError>,
        mut change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<(T, Receipt), WriteError<E>> {
        let shared = &self.inner.shared;
        let mut losses = 0_u32;
        let mut turn: Option<Turn<'_>> = None;
        loop {
            let mut txn = begin()?;
            let value = change(&mut txn)?;
            match txn.commit() {
                Ok(receipt) => return Ok((value, receipt)),
                Err(error) if error.is_lost_race() => losses = losses.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
            shared.counters.retries.add(1);
            if losses < LOSSES_BEFORE_TURN {
                thread::sleep(jitter(losses, shared.clock.monotonic()));
                continue;
            }
            if turn.is_none() {
                turn = shared.turns.take();
                shared.counters.exclusive_turns.add(u64::from(turn.is_some()));
            }
            // What is queued becomes visible, so that the next view has everything that was admitted.
            self.sync()?;
        }
    }

    /// A snapshot of the newest version.
    ///
    /// # Errors
    /// When the store was closed.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.inner.shared.must_be_open()?;
        Ok(Snapshot::new(Arc::clone(&self.inner), self.inner.shared.hold_newest()?))
    }

    /// A snapshot of an older version.
    ///
    /// # Errors
    /// When the version was never made, is not visible yet or is no longer retained, or the store was closed.
    pub fn snapshot_at(&self, version: Version) -> Result<Snapshot, ReadError> {
        self.inner.shared.must_be_open()?;
        let held = self.inner.shared.hold(version)?;
        Ok(Snapshot::new(Arc::clone(&self.inner), held))
    }

    /// The newest version that readers see.
    #[must_use]
    pub fn visible_version(&self) -> Version {
        self.inner.shared.visible()
    }

    /// The newest version on stable storage. Below the visible one only with `Durability::Relaxed` or `None`.
    #[must_use]
    pub fn durable_version(&self) -> Version {
        self.inner.shared.durable()
    }

    /// The oldest version that is kept, and every one from it on; those below it are gone but for named ones.
    #[must_use]
    pub fn oldest_version(&self) -> Version {
        self.inner.shared.readers.floor()
    }

    /// The newest visible version committed at or before a time; version 0 when there is none, or when it, or one that may
    /// have been it, is no longer retained.
    ///
    /// # Errors
    /// When the store was closed, or the disk fails.
    pub fn version_at(&self, time: Timestamp) -> Result<Version, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        let found = shared.stack.with(|layers| layers.commit_at_time(time, layers.visible()))?;
        Ok(found.map_or(Version::ZERO, |commit| commit.version))
    }

    /// The commit that made a visible version; `None` when there is none, or it is no longer retained.
    ///
    /// # Errors
    /// When the store was closed, or the disk fails.
    pub fn commit_info(&self, version: Version) -> Result<Option<CommitInfo>, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        if version > shared.visible() {
            return Ok(None);
        }
        shared.stack.with(|layers| layers.commit(version))
    }

    /// All commits that are visible and retained, newest first.
    ///
    /// # Errors
    /// When the store was closed, or the disk fails.
    pub fn commits(&self) -> Result<Commits, ReadError> {
        Commits::new(Arc::clone(&self.inner.shared))
    }

    /// All retained versions of a key, newest first, deletions included.
    ///
    /// # Errors
    /// When the store was closed.
    pub fn history(&self, table: &str, key: impl AsRef<[u8]>) -> Result<History, ReadError> {
        let shared = Arc::clone(&self.inner.shared);
        shared.must_be_open()?;
        let table = shared.catalog.id(table);
        let held = shared.hold_newest()?;
        Ok(History::new(shared, held, table, key.as_ref()))
    }

    /// The rows that differ between two versions, by table and key. The first need not be the older.
    ///
    /// # Errors
    /// When a version was never made, is not visible yet or is no longer retained, or the store was closed.
    pub fn diff(&self, from: Version, to: Version) -> Result<Diff, ReadError> {
        let shared = Arc::clone(&self.inner.shared);
        let (before, after) = (shared.hold(from)?, shared.hold(to)?);
        Diff::new(shared, before, after)
    }

    /// The names of the tables that a reader of this store sees, sorted.
    ///
    /// # Errors
    /// When the reader belongs to another store, or the store was closed.
    pub fn tables(&self, reader: &impl Read) -> Result<Vec<Arc<str>>, ReadError> {
        let (expected, found) = (self.store_id(), reader.store_id());
        if expected != found {
            return Err(ReadError::WrongStore { expected, found });
        }
        reader.tables()
    }

    /// Makes everything committed so far durable and visible; of use with `Durability::Relaxed`, `None` and `submit`.
    ///
    /// # Errors
    /// When the disk fails or the store was closed.
    pub fn sync(&self) -> Result<(), CommitError> {
        let _call = self.inner.shared.enter()?;
        self.inner.log.sync().map(drop).map_err(sync_error)
    }

    /// Folds everything committed so far into the page file, and lets the log go that held it. Writers and readers go on
    /// meanwhile.
    ///
    /// # Errors
    /// When the disk fails or is full, or the store is read-only or closed. What was done stands.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        if shared.read_only {
            return Err(CheckpointError::ReadOnly);
        }
        crate::checkpoint::run_whole(&self.inner)
    }

    /// Does the log's chores that are due, and aborts readers beyond their allowance, for a store whose log was opened with
    /// `Tending::Caller`, which starts no thread. Checkpoints are left to [`checkpoint`](Database::checkpoint). False when there is nothing for the caller to do.
    pub fn tend(&self) -> bool {
        self.inner.shared.enter().is_ok_and(|_call| {
            crate::checkpoint::prune::watch_readers(&self.inner).unwrap_or_default();
            self.inner.log.tend()
        })
    }

    /// What the store has done and holds.
    #[must_use]
    pub fn stats(&self) -> DatabaseStats {
        let (shared, log) = (&self.inner.shared, &self.inner.log);
        let counters = &shared.counters;
        let (window_commits, window_bytes) =
            log.with_admission(|admission| (admission.window.len(), admission.window.bytes()));
        let (memtable_rows, memtable_bytes) = shared.stack.with(crate::layers::Layers::size);
        let checkpointer = &self.inner.checkpointer;
        let layers = shared.stack.current();
        let (attached, runs, run_bytes) = layers.runs();
        let ground = layers.ground();
        let meta = ground.map(|ground| *ground.meta()).unwrap_or_default();
        let pages = ground.map(|ground| ground.pages().stats()).unwrap_or_default();
        let folded_rows = ground.map_or(0, |ground| ground.row_count());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        DatabaseStats {
            begun: counters.begun.get(),
            committed: counters.committed.get(),
            rolled_back: counters.rolled_back.get(),
            conflicts: counters.conflicts.get(),
            windows_exceeded: counters.windows_exceeded.get(),
            retries: counters.retries.get(),
            exclusive_turns: counters.exclusive_turns.get(),
            refused_full: counters.refused_full.get(),
            open_snapshots: counters.open_snapshots.get(),
            open_transactions: counters.open_transactions.get(),
            window_commits: number(window_commits),
            window_bytes: number(window_bytes),
            memtable_rows,
            memtable_bytes,
            attached,
            runs,
            run_bytes,
            commits: shared.visible().sequence(),
            visible: shared.visible(),
            durable: shared.durable(),
            slowed: counters.slowed.get(),
            readers_warned: counters.readers_warned.get(),
            readers_aborted: counters.readers_aborted.get(),
            oldest: shared.readers.floor(),
            checkpoints: checkpointer.checkpoints.get(),
            checkpoint_slices: checkpointer.slices.get(),
            checkpoint_failures: checkpointer.failures.get(),
            rows_folded: checkpointer.rows.get(),
            folded: meta.through,
            folded_rows,
            history_rows: meta.history.rows(),
            pruned_rows: checkpointer.pruned.get(),
            reclaimed_bytes: checkpointer.reclaimed_bytes.get(),
            pressure_warnings: checkpointer.warnings.get(),
            pages,
            commit_latency: counters.latency(),
            log: log.stats(),
        }
    }

    /// How the folding of what is in memory keeps up, by the controller that paces it.
    #[must_use]
    pub fn reconciler_stats(&self) -> ReconcilerStats {
        let (_, waiting) = self.inner.shared.stack.with(crate::layers::Layers::size);
        self.inner.checkpointer.observe(&self.inner, waiting);
        self.inner.checkpointer.stats()
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        self.inner.log.recovery()
    }

    /// What opening the page file found and did.
    #[must_use]
    pub fn pages_report(&self) -> OpenReport {
        let layers = self.inner.shared.stack.current();
        layers.ground().map(|ground| ground.pages().open_report().clone()).unwrap_or_default()
    }

    /// The least durability of a commit: what the store was opened with, else what it was made with.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.inner.durability
    }

    /// Whether the store was opened only for reading.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.shared.read_only
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.shared.dir
    }

    /// Waits for calls in progress, ends snapshots and iterators with [`ReadError::Closed`], and writes the clean close.
    /// All handles are closed with this one; the store can be opened again when it returns.
    ///
    /// # Errors
    /// When the clean close could not be written; the store is closed nevertheless, and the next open recovers.
    pub fn close(self) -> Result<(), CloseError> {
        let shared = &self.inner.shared;
        if shared.must_be_same_process().is_err() {
            return Err(CloseError::Forked { opened_by: shared.opened_by });
        }
        self.inner.end()
    }
}

/// A random part of a wait that doubles with each loss; the clock and the thread are random enough.
fn jitter(losses: u32, now: Duration) -> Duration {
    let most = JITTER_FIRST.saturating_mul(1_u32 << losses.min(LOSSES_BEFORE_TURN));
    let mut hash = u64::from(now.subsec_nanos())
        ^ (u64::try_from(crate::gate::thread_stripe(1 << 16)).unwrap_or(0) << 32);
    // The finalizer of MurmurHash3 spreads nearby inputs (Austin Appleby).
    for multiplier in [0xFF51_AFD7_ED55_8CCD_u64, 0xC4CE_B9FE_1A85_EC53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    let most_nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos((hash ^ (hash >> 33)) % most_nanos)
}

impl sealed::Sealed for Database {}

impl Read for Database {
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError> {
        let shared = &self.inner.shared;
        read_row(shared, table, |table| shared.stack.get(table, key.as_ref()))
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        let shared = &self.inner.shared;
        scan_version(shared, shared.hold_newest()?, None, table, range.into())
    }

    fn version(&self) -> Version {
        self.visible_version()
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let shared = &self.inner.shared;
        shared.must_be_open()?;
        Ok(shared.catalog.names_at(shared.visible()))
    }

    fn store_id(&self) -> StoreId {
        self.inner.shared.store_id
    }
}
