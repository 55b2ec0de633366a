//! The store: opening, writing, snapshots, named versions, closing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{Clock, StoreId, Timestamp, Version};
use keepstone_vfs::Vfs;

use crate::engine::{self, Place};
use crate::error::change::{ChangeError, WriteError};
use crate::error::close::CloseError;
use crate::error::map::{close_error, open_error, read_error};
use crate::error::{CommitError, OpenError, ReadError};
use crate::events::{Event, Events, Hub};
use crate::ids::IdSource;
use crate::options::{Durability, StoreOptions};
use crate::read::{AsOf, Reader, Source, View};
use crate::settings::SettingWarning;
use crate::snapshot::Snapshot;
use crate::stats::{Meters, Operation};
use crate::sync::Arc;
use crate::txn::{Committed, Receipt, Txn, TxnOptions};

/// What all handles of one open store share.
pub(crate) struct StoreInner {
    pub(crate) database: mvcc::Database,
    pub(crate) store_id: StoreId,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: IdSource,
    pub(crate) hub: Arc<Hub>,
    pub(crate) meters: Meters,
    pub(crate) embedding_dimension: Option<u32>,
    pub(crate) fingerprint_bits: Option<u32>,
    pub(crate) events_max: usize,
    pub(crate) warnings: Vec<SettingWarning>,
}

/// An open store.
///
/// Handles are cheap to clone and can be sent anywhere; the store closes when the last one, the collections and
/// snapshots made from it included, is dropped or [`close`](Store::close) is called.
///
/// ```
/// use keepstone::Store;
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let notes = store.collection::<String>("notes")?;
/// let first = store.write(|txn| notes.put(txn, "greeting", &"hello".to_string()))?;
/// store.write(|txn| notes.put(txn, "greeting", &"good evening".to_string()))?;
///
/// assert_eq!(notes.get(&store, "greeting")?.as_deref(), Some("good evening"));
/// let then = store.at(first.version.unwrap())?;
/// assert_eq!(notes.get(&then, "greeting")?.as_deref(), Some("hello"));
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<StoreInner>,
}

impl Store {
    /// Opens the store in a folder, or makes one there, with the default options.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        StoreOptions::default().open(dir)
    }

    pub(crate) fn open_inner(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: &StoreOptions,
    ) -> Result<Self, OpenError> {
        let warnings = options.validate()?;
        let database = mvcc::Database::open_with(vfs, Arc::clone(&clock), dir, engine::options(options))
            .map_err(|error| open_error(dir, error))?;
        let ids = IdSource::new(Arc::clone(&clock)).map_err(|error| OpenError::Engine {
            dir: dir.to_path_buf(),
            kind: crate::error::ErrorKind("random"),
            source: Box::new(error),
        })?;
        let width = |width: Option<u64>| width.and_then(|width| u32::try_from(width).ok());
        let inner = StoreInner {
            store_id: engine::store_id(&database),
            database,
            dir: dir.to_path_buf(),
            ids,
            hub: Arc::new(Hub::new()),
            meters: Meters::new(options),
            embedding_dimension: width(options.embedding_dimension),
            fingerprint_bits: width(options.fingerprint_bits),
            events_max: usize::try_from(options.events_max).unwrap_or(usize::MAX),
            warnings,
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The id that the store got when it was made.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.inner.store_id
    }

    /// The least durability of a commit: what the store was opened with, else what it was made with.
    #[must_use]
    pub fn durability(&self) -> Durability {
        engine::durability_of(self.inner.database.durability())
    }

    /// Whether the store is open for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.database.is_read_only()
    }

    /// Settings that are legal and questionable.
    #[must_use]
    pub fn warnings(&self) -> &[SettingWarning] {
        &self.inner.warnings
    }

    /// Begins listening: the events from now on, until the listener is dropped.
    #[must_use]
    pub fn events(&self) -> Events {
        let events = self.inner.hub.listen(self.inner.events_max);
        // What happened before is no news.
        self.inner.meters.folding.news(&self.inner.database.stats());
        events
    }

    /// Runs `work` in a serializable transaction and commits it. When another commit was in the way it runs again, so
    /// `work` must not do what cannot be done twice; after eight losses it runs alone, so it always finishes. A failed
    /// `work` leaves nothing behind.
    ///
    /// # Errors
    /// What `work` failed with, or why the commit did. A commit whose outcome is unknown is never retried.
    pub fn write<T>(
        &self,
        mut work: impl FnMut(&mut Txn) -> Result<T, ChangeError>,
    ) -> Result<Committed<T>, WriteError> {
        self.try_write(TxnOptions::new(), |txn| Ok(work(txn)?))
    }

    /// As [`write`](Store::write), with options, and for work that may fail with an error of its own: it returns
    /// [`WriteError::Caller`] with it.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    ///
    /// ```
    /// use keepstone::{Store, TxnOptions, WriteError};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let money = store.collection::<u64>("accounts")?;
    /// store.write(|txn| money.put(txn, "ada", &5))?;
    /// let refused = store.try_write(TxnOptions::new(), |txn| match money.get(txn, "ada")? {
    ///     Some(amount) if amount >= 7 => Ok(money.put(txn, "ada", &(amount - 7))?),
    ///     _ => Err(WriteError::Caller("not enough money")),
    /// });
    /// assert!(matches!(refused, Err(WriteError::Caller("not enough money"))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_write<T, E>(
        &self,
        options: TxnOptions,
        mut work: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        self.inner.measure_commit(|| engine::write(&self.inner, Place::Store, options, &mut work))
    }

    /// Begins a serializable transaction that the caller commits.
    ///
    /// # Errors
    /// When the store is closed or was opened by another process.
    pub fn begin(&self) -> Result<Txn, ReadError> {
        self.begin_with(TxnOptions::new())
    }

    /// As [`begin`](Store::begin), with options.
    ///
    /// # Errors
    /// As [`begin`](Store::begin).
    pub fn begin_with(&self, options: TxnOptions) -> Result<Txn, ReadError> {
        let inner = self.inner.database.begin_with(engine::txn_options(options)).map_err(read_error)?;
        Ok(Txn::new(inner, Arc::clone(&self.inner), options.isolation))
    }

    /// The newest version, for as long as one likes.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let as_of = self.inner.clock.now();
        let view = self.inner.database.snapshot().map_err(read_error)?;
        Ok(Snapshot { view, store: Arc::clone(&self.inner), as_of })
    }

    /// Waits for the calls in progress, ends all snapshots and transactions, and closes the log cleanly. Other handles
    /// of the store get `Closed` from then on.
    ///
    /// # Errors
    /// When the clean close could not be written; nothing that was committed is lost then.
    pub fn close(self) -> Result<(), CloseError> {
        self.inner.database.clone().close().map_err(close_error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.inner.dir)
            .field("id", &self.inner.store_id)
            .finish_non_exhaustive()
    }
}

impl Reader for Store {
    fn source(&self) -> Result<Source<'_>, ReadError> {
        self.inner.view()
    }
}

/// What every outcome of a commit tells the meters.
pub(crate) trait CommitOutcome {
    /// The version made and its time; `None` when nothing was written.
    fn made(&self) -> Option<(Version, Timestamp)>;
}

impl CommitOutcome for Receipt {
    fn made(&self) -> Option<(Version, Timestamp)> {
        self.version.map(|version| (version, self.time))
    }
}

impl<T> CommitOutcome for Committed<T> {
    fn made(&self) -> Option<(Version, Timestamp)> {
        self.version.map(|version| (version, self.time))
    }
}

/// An error of a commit with the stable name of its kind.
pub(crate) trait CommitFailure {
    fn kind_name(&self) -> &'static str;
}

impl CommitFailure for CommitError {
    fn kind_name(&self) -> &'static str {
        self.kind().as_str()
    }
}

impl<E> CommitFailure for WriteError<E> {
    fn kind_name(&self) -> &'static str {
        self.kind().as_str()
    }
}

impl StoreInner {
    /// A view of the newest version.
    pub(crate) fn view(&self) -> Result<Source<'_>, ReadError> {
        Ok(Source {
            store_id: self.store_id,
            view: View::Snapshot(self.database.snapshot().map_err(read_error)?),
            as_of: AsOf::Now(&*self.clock),
        })
    }

    /// Runs a read and records how long it took.
    pub(crate) fn measure<R>(&self, operation: Operation, read: impl FnOnce() -> R) -> R {
        if !self.meters.is_on() && !self.hub.is_on() {
            return read();
        }
        let before = self.clock.monotonic();
        let result = read();
        let took = self.clock.monotonic().saturating_sub(before);
        self.meters.record(operation, took);
        if operation.is_query() {
            self.hub.emit(|| Event::Query { operation, took });
        }
        result
    }

    /// Runs a commit, records how long it took, and tells who listens.
    pub(crate) fn measure_commit<R: CommitOutcome, E: CommitFailure>(
        &self,
        commit: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        let before = self.clock.monotonic();
        let result = commit();
        let after = self.clock.monotonic();
        let took = after.saturating_sub(before);
        match result.as_ref().map(R::made) {
            Ok(None) => return result,
            Ok(Some((version, time))) => {
                self.meters.committed(took);
                self.hub.emit(|| Event::Committed { version, time, took });
                self.alert(took);
                if self.hub.is_on() && self.meters.is_due(after) {
                    let (commits, commits_failed) = self.meters.commits();
                    self.hub.emit(|| Event::Metrics { version, commits, commits_failed });
                    self.tell_of_checkpoints(None);
                }
            }
            Err(error) => {
                self.meters.commit_failed();
                let kind = error.kind_name();
                self.hub.emit(|| Event::CommitFailed { kind, took });
            }
        }
        result
    }

    /// Tells who listens of the checkpoints, and the pressure, since this was called last. The layer below counts both and
    /// calls nobody, so they are told when somebody looks.
    pub(crate) fn tell_of_checkpoints(&self, took: Option<Duration>) {
        if self.hub.is_on() {
            let found = self.database.stats();
            self.tell_of(&found, took);
        }
    }

    pub(crate) fn tell_of(&self, found: &mvcc::DatabaseStats, took: Option<Duration>) {
        let news = self.meters.folding.news(found);
        if news.failed > 0 || news.done > 0 {
            let (rows, bytes) = (news.rows, news.bytes);
            self.hub.emit(|| Event::Checkpoint { done: news.failed == 0, rows, bytes, took });
        }
        if news.pressed > 0 {
            self.hub.emit(|| Event::Pressure { reconciler: self.database.reconciler_stats().into() });
        }
    }

    fn alert(&self, took: Duration) {
        if let Some((begins, threshold_ms)) = self.meters.alert_crossed(took) {
            let value_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.hub.emit(|| Event::Alert { metric: "commit", begins, value_ms, threshold_ms });
        }
    }
}
