//! Transactions: a view with writes of its own, committed as a whole or dropped without a trace.

use std::collections::HashMap;
use std::fmt;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{StoreId, Timestamp, ValueRef, Version};

use crate::catalog::CollectionRecord;
use crate::engine;
use crate::error::change::ChangeError;
use crate::error::map::{commit_error, named_commit_error};
use crate::error::{CommitError, ReadError};
use crate::layout::CollectionId;
use crate::options::Durability;
use crate::read::{AsOf, Reader, Source, View};
use crate::store::StoreInner;
use crate::sync::Arc;

/// How far a transaction is kept apart from others.
///
/// At both levels it reads one version, no phantoms within it, and links keep both their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// The first to commit wins on what both wrote. Two transactions that each read what the other writes may both
    /// commit (write skew).
    Snapshot,
    /// As if transactions ran one after another: who read what another changed, ranges and absent keys included, is
    /// refused.
    #[default]
    Serializable,
}

/// How a transaction is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a transaction is begun with them"]
pub struct TxnOptions {
    pub(crate) isolation: Isolation,
    pub(crate) durability: Option<Durability>,
}

impl TxnOptions {
    /// Serializable, with the store's durability.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far the transaction is kept apart from others.
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// What is on stable storage when the commit returns: the store's own durability or more, never less.
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }
}

/// What a commit made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The version it made; `None` when nothing was written.
    pub version: Option<Version>,
    /// Its commit time; when nothing was written, that of the version that was read.
    pub time: Timestamp,
}

/// What [`Store::write`](crate::Store::write) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// The version it made; `None` when nothing was written.
    pub version: Option<Version>,
    /// Its commit time; when nothing was written, that of the version that was read.
    pub time: Timestamp,
}

/// A transaction. It reads one version and its own writes; dropping it rolls back.
///
/// [`Store::write`](crate::Store::write) runs one and commits it, again when it conflicts. With
/// [`Store::begin`](crate::Store::begin) the caller commits, and retries, alone:
///
/// ```
/// use keepstone::Store;
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let counters = store.collection::<u64>("counters")?;
/// let mut txn = store.begin()?;
/// let visits = counters.get(&txn, "visits")?.unwrap_or(0);
/// counters.put(&mut txn, "visits", &(visits + 1))?;
/// assert_eq!(counters.get(&txn, "visits")?, Some(1)); // reads its own writes
/// assert_eq!(counters.get(&store, "visits")?, None); // nobody else does
/// let receipt = txn.commit()?;
/// assert_eq!(counters.get(&store, "visits")?, Some(1));
/// assert!(receipt.version.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a transaction rolls it back"]
pub struct Txn {
    inner: mvcc::Txn,
    store: Arc<StoreInner>,
    isolation: Isolation,
    /// The rows of the collections that were looked at, this transaction's changes included.
    pub(crate) catalog: HashMap<CollectionId, CollectionRecord>,
    /// Rows put or deleted, or tried to.
    writes: u64,
    /// A change failed after part of it was written.
    broken: bool,
}

impl Txn {
    pub(crate) fn new(inner: mvcc::Txn, store: Arc<StoreInner>, isolation: Isolation) -> Self {
        Self { inner, store, isolation, catalog: HashMap::new(), writes: 0, broken: false }
    }

    pub(crate) fn store_id(&self) -> StoreId {
        self.store.store_id
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Its view, for reading inside a change.
    pub(crate) fn view(&self) -> Source<'_> {
        Source {
            store_id: self.store.store_id,
            view: View::Txn(&self.inner),
            as_of: AsOf::Now(&*self.store.clock),
        }
    }

    pub(crate) fn put_row(
        &mut self,
        table: &'static str,
        key: &[u8],
        value: impl Into<ValueRef>,
    ) -> Result<(), ChangeError> {
        self.writes = self.writes.saturating_add(1);
        Ok(self.inner.put(table, key, value).map_err(commit_error)?)
    }

    pub(crate) fn delete_row(&mut self, table: &'static str, key: &[u8]) -> Result<(), ChangeError> {
        self.writes = self.writes.saturating_add(1);
        Ok(self.inner.delete(table, key).map_err(commit_error)?)
    }

    /// Runs a change of several rows. When it fails after a row was written, the transaction can no longer commit.
    pub(crate) fn change<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, ChangeError>,
    ) -> Result<R, ChangeError> {
        let before = self.writes;
        let result = change(self);
        self.broken |= result.is_err() && self.writes != before;
        result
    }

    /// Whether everything in it is whole.
    pub(crate) fn expect_whole(&self) -> Result<(), CommitError> {
        if self.broken { Err(CommitError::Incomplete) } else { Ok(()) }
    }

    /// What merges rows of a branch: they are looked at before anything is committed.
    pub(crate) const fn inner_mut(&mut self) -> &mut mvcc::Txn {
        &mut self.inner
    }

    pub(crate) fn into_inner(self) -> mvcc::Txn {
        self.inner
    }

    /// Makes its writes durable and visible as one version.
    ///
    /// # Errors
    /// See [`CommitError`]; unless the outcome is unknown, nothing of the transaction is stored.
    pub fn commit(self) -> Result<Receipt, CommitError> {
        self.expect_whole()?;
        let store = Arc::clone(&self.store);
        store.measure_commit(|| {
            self.inner.commit().map(engine::receipt).map_err(|error| named_commit_error(&store, error))
        })
    }

    /// Queues its writes and returns at once; [`PendingCommit::wait`] tells when they are durable and visible.
    ///
    /// # Errors
    /// As [`commit`](Txn::commit), for what is known before anything is written.
    pub fn submit(self) -> Result<PendingCommit, CommitError> {
        self.expect_whole()?;
        let store = Arc::clone(&self.store);
        let inner = self.inner.submit().map_err(|error| named_commit_error(&store, error))?;
        Ok(PendingCommit { inner, store })
    }

    /// Drops it: nothing of it is stored.
    pub fn rollback(self) {
        drop(self);
    }
}

impl Reader for Txn {
    fn source(&self) -> Result<Source<'_>, ReadError> {
        Ok(self.view())
    }
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn")
            .field("version", &self.view().version())
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

/// A commit that is under way.
#[must_use = "only waiting tells whether the commit is durable"]
pub struct PendingCommit {
    inner: mvcc::PendingCommit,
    store: Arc<StoreInner>,
}

impl PendingCommit {
    /// Waits until the commit is durable and visible.
    ///
    /// # Errors
    /// As [`Txn::commit`].
    pub fn wait(self) -> Result<Receipt, CommitError> {
        self.store.measure_commit(|| {
            self.inner.wait().map(engine::receipt).map_err(|error| named_commit_error(&self.store, error))
        })
    }
}

impl fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCommit").finish_non_exhaustive()
    }
}
