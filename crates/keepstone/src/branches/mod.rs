//! Branches: what if. A branch reads as the version it was forked at, with changes of its own that nobody else sees.

mod error;
mod fitting;
mod merging;

use std::fmt;
use std::time::Duration;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{Timestamp, Version};

use crate::engine::{self, Place};
use crate::error::change::{ChangeError, WriteError};
use crate::error::map::{commit_error, read_error};
use crate::error::{CommitError, ReadError};
use crate::read::{AsOf, Reader, Source, View};
use crate::snapshot::{At, Snapshot};
use crate::store::{Store, StoreInner};
use crate::sync::Arc;
use crate::txn::{Committed, Txn, TxnOptions};

pub use error::MergeError;
pub use merging::{Choice, ConflictKind, MergeConflict, MergeConflicts, MergeReport, MergeStrategy};

/// What is known of a branch, as [`Store::branches`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchInfo {
    /// Its name.
    pub name: String,
    /// The version it was forked at.
    pub base: Version,
    /// The version that made it.
    pub made: Version,
    /// When it was forked.
    pub forked: Timestamp,
}

impl BranchInfo {
    fn of(info: &mvcc::BranchInfo) -> Self {
        Self { name: info.name.clone(), base: info.base, made: info.made, forked: info.forked }
    }
}

/// A branch of a store. A handle: cheap to clone, to be sent anywhere. It is read as a [`Store`] is, each call sees it as it
/// is now, and written to by [`write`](Branch::write); once it is discarded, every call is
/// [`ReadError::BranchNotFound`].
///
/// ```
/// use keepstone::{MergeStrategy, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let prices = store.collection::<u32>("prices")?;
/// store.write(|txn| prices.put(txn, "granite", &7))?;
///
/// let branch = store.fork("cheaper", store.visible_version())?;
/// branch.write(|txn| prices.put(txn, "granite", &5))?;
/// assert_eq!(prices.get(&branch, "granite")?, Some(5));
/// assert_eq!(prices.get(&store, "granite")?, Some(7));
///
/// branch.merge(MergeStrategy::Reject)?;
/// assert_eq!(prices.get(&store, "granite")?, Some(5));
/// branch.discard()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Branch {
    pub(crate) inner: mvcc::Branch,
    pub(crate) store: Arc<StoreInner>,
}

impl Store {
    /// Forks a branch at a version, a name or a time. What it was forked at stays readable for as long as the branch is
    /// there, whatever retention says. It costs one small commit, whatever the store holds.
    ///
    /// # Errors
    /// When the name is empty, too long or taken, there is no such version, it is no longer kept, or the commit fails.
    pub fn fork(&self, name: &str, at: impl Into<At>) -> Result<Branch, CommitError> {
        let version = self.resolve(at).map_err(CommitError::Read)?;
        let inner = self.inner.database.fork(name, version).map_err(commit_error)?;
        Ok(Branch { inner, store: Arc::clone(&self.inner) })
    }

    /// The branch of a name.
    ///
    /// # Errors
    /// When there is none, or the store is closed.
    pub fn branch(&self, name: &str) -> Result<Branch, ReadError> {
        let inner = self.inner.database.branch(name).map_err(read_error)?;
        Ok(Branch { inner, store: Arc::clone(&self.inner) })
    }

    /// All branches, sorted by name.
    ///
    /// # Errors
    /// When the store is closed, or the disk fails.
    pub fn branches(&self) -> Result<Vec<BranchInfo>, ReadError> {
        let found = self.inner.database.branches().map_err(read_error)?;
        Ok(found.iter().map(BranchInfo::of).collect())
    }
}

impl Branch {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The version it was forked at.
    #[must_use]
    pub fn base(&self) -> Version {
        self.inner.base()
    }

    /// When it was forked.
    #[must_use]
    pub fn forked(&self) -> Timestamp {
        self.inner.forked()
    }

    /// All that [`Store::branches`] lists of it.
    #[must_use]
    pub fn info(&self) -> BranchInfo {
        BranchInfo::of(self.inner.info())
    }

    /// How long ago it was forked, by the store's clock.
    #[must_use]
    pub fn age(&self) -> Duration {
        let now = self.store.clock.now().as_micros();
        Duration::from_micros(now.saturating_sub(self.forked().as_micros()))
    }

    /// The branch as it is now, for as long as one likes: it reads the same when the branch was changed or discarded.
    ///
    /// # Errors
    /// When the branch was discarded, or the store is closed.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let as_of = self.store.clock.now();
        let view = self.inner.snapshot().map_err(read_error)?;
        Ok(Snapshot { view, store: Arc::clone(&self.store), as_of })
    }

    /// The branch as it was at an older version of the store.
    ///
    /// # Errors
    /// When the branch was not there yet, or was discarded; when the version is no longer kept, or the store is closed.
    pub fn at(&self, version: Version) -> Result<Snapshot, ReadError> {
        let view = self.inner.snapshot_at(version).map_err(read_error)?;
        let commit = self.store.database.commit_info(version).map_err(read_error)?;
        let as_of = commit.map_or(Timestamp::EPOCH, |commit| commit.time);
        Ok(Snapshot { view, store: Arc::clone(&self.store), as_of })
    }

    /// What the branch was forked at.
    pub(crate) fn below(&self) -> Result<Snapshot, ReadError> {
        let view = self.store.database.snapshot_at(self.base()).map_err(read_error)?;
        Ok(Snapshot { view, store: Arc::clone(&self.store), as_of: self.forked() })
    }

    /// Runs `work` in a serializable transaction on the branch and commits it, as [`Store::write`] does on the store.
    ///
    /// # Errors
    /// What `work` failed with, or why the commit did.
    pub fn write<T>(
        &self,
        mut work: impl FnMut(&mut Txn) -> Result<T, ChangeError>,
    ) -> Result<Committed<T>, WriteError> {
        self.try_write(TxnOptions::new(), |txn| Ok(work(txn)?))
    }

    /// As [`write`](Branch::write), with options, and for work that may fail with an error of its own; see
    /// [`Store::try_write`].
    ///
    /// # Errors
    /// As [`write`](Branch::write).
    pub fn try_write<T, E>(
        &self,
        options: TxnOptions,
        mut work: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        let place = Place::Branch(&self.inner);
        self.store.measure_commit(|| engine::write(&self.store, place, options, &mut work))
    }

    /// Begins a serializable transaction on the branch that the caller commits.
    ///
    /// # Errors
    /// When the branch was discarded, or the store is closed or was opened by another process.
    pub fn begin(&self) -> Result<Txn, ReadError> {
        self.begin_with(TxnOptions::new())
    }

    /// As [`begin`](Branch::begin), with options. It conflicts with others on the same branch, and with what discards it.
    ///
    /// # Errors
    /// As [`begin`](Branch::begin).
    pub fn begin_with(&self, options: TxnOptions) -> Result<Txn, ReadError> {
        let inner = self.inner.begin_with(engine::txn_options(options)).map_err(read_error)?;
        Ok(Txn::new(inner, Arc::clone(&self.store), options.isolation))
    }

    /// Takes the branch away, with all that was only there, and lets what it was forked at go if nothing else keeps it.
    ///
    /// # Errors
    /// When the branch was discarded already, or the commit fails.
    pub fn discard(&self) -> Result<(), CommitError> {
        self.inner.discard().map_err(commit_error)
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch")
            .field("name", &self.name())
            .field("base", &self.base())
            .finish_non_exhaustive()
    }
}

impl Reader for Branch {
    fn source(&self) -> Result<Source<'_>, ReadError> {
        Ok(Source {
            store_id: self.store.store_id,
            view: View::Snapshot(self.inner.snapshot().map_err(read_error)?),
            as_of: AsOf::Now(&*self.store.clock),
        })
    }
}
