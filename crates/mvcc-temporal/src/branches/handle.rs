//! The handle of a branch: reading it, now or at one version, and writing to it.

use std::fmt;

use keepstone_types::{StoreId, Timestamp, Version};

use super::part::{BranchPart, get_over};
use super::rows::{self, BranchInfo};
use crate::database::{Committed, Database, Handle};
use crate::error::{ReadError, WriteError};
use crate::key_range::KeyRange;
use crate::layers::Layers;
use crate::read::{Read, VersionedValue, sealed};
use crate::readers::Registration;
use crate::scan::Scan;
use crate::snapshot::{Snapshot, scan_version, tables_of_version};
use crate::sync::Arc;
use crate::txn::{Txn, TxnOptions};

/// A branch of a store. Cloning is cheap; the store stays open while a handle lives. Read through it, each call sees the
/// branch as it is now; once the branch is discarded, every call is [`ReadError::BranchNotFound`], also when another has its
/// name.
#[derive(Clone)]
pub struct Branch {
    inner: Arc<Handle>,
    info: Arc<BranchInfo>,
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch")
            .field("name", &self.info.name)
            .field("base", &self.info.base)
            .finish_non_exhaustive()
    }
}

impl Branch {
    pub(crate) fn new(inner: Arc<Handle>, info: BranchInfo) -> Self {
        Self { inner, info: Arc::new(info) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// The version it was forked at.
    #[must_use]
    pub fn base(&self) -> Version {
        self.info.base
    }

    /// When it was forked.
    #[must_use]
    pub fn forked(&self) -> Timestamp {
        self.info.forked
    }

    /// All that [`Database::branches`] lists of it.
    #[must_use]
    pub fn info(&self) -> &BranchInfo {
        &self.info
    }

    /// The store that it is a branch of.
    pub(super) fn database(&self) -> Database {
        Database { inner: Arc::clone(&self.inner) }
    }

    pub(super) const fn inner(&self) -> &Arc<Handle> {
        &self.inner
    }

    pub(super) fn not_found(&self) -> ReadError {
        ReadError::BranchNotFound { name: self.info.name.clone() }
    }

    /// Fails when the branch is not there at a version.
    pub(super) fn must_exist(&self, layers: &Layers, at: Version) -> Result<(), ReadError> {
        rows::must_exist(layers, &self.info, at)
    }

    /// Fails when the branch is not there now.
    fn must_exist_now(&self) -> Result<(), ReadError> {
        self.inner.shared.stack.with(|layers| self.must_exist(layers, layers.visible()))
    }

    /// What it takes to read the branch at a version that is held: the version below it, held too.
    pub(super) fn part(&self, at: &Registration) -> Result<BranchPart, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        shared.stack.with(|layers| self.must_exist(layers, at.version()))?;
        let base = shared.hold_promised(self.info.base, || self.must_exist_now().map(|()| true))?;
        Ok(BranchPart { info: Arc::clone(&self.info), base: Arc::new(base) })
    }

    /// The branch as it is now, for as long as one likes: it reads the same after the branch is changed or discarded.
    ///
    /// # Errors
    /// When the branch was discarded, or the store was closed.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.inner.shared.must_be_open()?;
        self.snapshot_of(self.inner.shared.hold_newest()?)
    }

    /// The branch as it was at an older version of the store.
    ///
    /// # Errors
    /// When the branch was not there yet, or was discarded; when the version was never made, is not visible yet or is no
    /// longer kept; or when the store was closed.
    pub fn snapshot_at(&self, version: Version) -> Result<Snapshot, ReadError> {
        self.inner.shared.must_be_open()?;
        self.must_exist_now()?;
        self.snapshot_of(self.inner.shared.hold(version)?)
    }

    fn snapshot_of(&self, held: Arc<Registration>) -> Result<Snapshot, ReadError> {
        let part = self.part(&held)?;
        Ok(Snapshot::of(Arc::clone(&self.inner), held, Some(part)))
    }

    /// Begins a serializable transaction on the branch.
    ///
    /// # Errors
    /// When the branch was discarded, or the store was closed or opened by another process.
    pub fn begin(&self) -> Result<Txn, ReadError> {
        self.begin_with(TxnOptions::default())
    }

    /// Begins a transaction on the branch. It conflicts with others on the same branch as transactions on the store do with
    /// each other, and at every isolation with what discards the branch; with nothing else.
    ///
    /// # Errors
    /// As [`begin`](Branch::begin).
    pub fn begin_with(&self, options: TxnOptions) -> Result<Txn, ReadError> {
        self.inner.shared.must_be_open()?;
        let began = self.inner.shared.hold_newest()?;
        let part = self.part(&began)?;
        Txn::begin_on(&self.inner, options, began, part)
    }

    /// Runs a closure in a serializable transaction on the branch and commits it, as [`Database::write`] does on the store.
    ///
    /// # Errors
    /// The closure's own error, or why the commit failed; [`ReadError::BranchNotFound`] when the branch was discarded.
    pub fn write<T, E>(
        &self,
        change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        self.write_with(TxnOptions::default(), change)
    }

    /// As [`write`](Branch::write), with another isolation, or more durability.
    ///
    /// # Errors
    /// As [`write`](Branch::write).
    pub fn write_with<T, E>(
        &self,
        options: TxnOptions,
        change: impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
    ) -> Result<Committed<T>, WriteError<E>> {
        let committed = self.database().retry_from(|| self.begin_with(options), change)?;
        Ok(Committed::of(committed))
    }
}

impl sealed::Sealed for Branch {}

impl Read for Branch {
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError> {
        let shared = &self.inner.shared;
        let _call = shared.enter()?;
        // The row says that the version below is kept, and both are read from the same layers: nothing need be held.
        let row = shared.stack.with(|layers| {
            let at = layers.visible();
            self.must_exist(layers, at)?;
            let Some(table) = shared.catalog.id(table) else { return Ok(None) };
            get_over(layers, self.info.number(), self.info.base, table, key.as_ref(), at)
        })?;
        Ok(row.and_then(|row| Some(VersionedValue { value: row.value?, version: Some(row.version) })))
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        let shared = &self.inner.shared;
        shared.must_be_open()?;
        let held = shared.hold_newest()?;
        let part = self.part(&held)?;
        scan_version(shared, held, Some(part), table, range.into())
    }

    fn version(&self) -> Version {
        self.inner.shared.visible()
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let shared = &self.inner.shared;
        shared.must_be_open()?;
        let held = shared.hold_newest()?;
        let part = self.part(&held)?;
        tables_of_version(shared, &held, Some(&part))
    }

    fn store_id(&self) -> StoreId {
        self.inner.shared.store_id
    }
}
