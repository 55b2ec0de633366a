//! Snapshots: one version, readable for as long as the handle lives.

use std::fmt;

use keepstone_types::{StoreId, Version};

use crate::branches::BranchPart;
use crate::catalog::{TABLE_PREFIX, TableId, parse_table_row};
use crate::database::Handle;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::memtable::FoundRow;
use crate::read::{Read, VersionedValue, sealed};
use crate::readers::Registration;
use crate::scan::{Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;

/// The store, or a branch of it, as it was at one version. Cloning is cheap; the store stays open while a snapshot of it lives, unless it is
/// closed, which ends the snapshot with [`ReadError::Closed`].
#[derive(Clone)]
pub struct Snapshot {
    held: Arc<HeldSnapshot>,
}

/// What the clones of a snapshot share: a version that is kept for them, and nothing else.
struct HeldSnapshot {
    inner: Arc<Handle>,
    held: Arc<Registration>,
    /// The branch that is read; `held` is then the version of its own rows.
    branch: Option<BranchPart>,
}

impl Drop for HeldSnapshot {
    fn drop(&mut self) {
        self.inner.shared.counters.open_snapshots.subtract(1);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.held.held.version()).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(inner: Arc<Handle>, held: Arc<Registration>) -> Self {
        Self::of(inner, held, None)
    }

    /// One of a branch.
    pub(crate) fn of(inner: Arc<Handle>, held: Arc<Registration>, branch: Option<BranchPart>) -> Self {
        inner.shared.counters.open_snapshots.add(1);
        Self { held: Arc::new(HeldSnapshot { inner, held, branch }) }
    }
}

/// Looks a row up, in whatever way the caller reads.
pub(crate) fn read_row(
    shared: &Shared,
    table: &str,
    look_up: impl FnOnce(TableId) -> Result<Option<FoundRow>, ReadError>,
) -> Result<Option<VersionedValue>, ReadError> {
    let _call = shared.enter()?;
    let Some(table) = shared.catalog.id(table) else { return Ok(None) };
    let row = look_up(table)?;
    Ok(row.and_then(|row| Some(VersionedValue { value: row.value?, version: Some(row.version) })))
}

/// Scans a version that is held.
pub(crate) fn scan_version(
    shared: &Arc<Shared>,
    held: Arc<Registration>,
    branch: Option<BranchPart>,
    table: &str,
    range: KeyRange,
) -> Result<Scan, ReadError> {
    shared.must_be_open()?;
    held.must_be_active()?;
    let (shared, table) = (Arc::clone(shared), shared.catalog.id(table));
    Ok(Scan::new(ScanSource { shared, held, branch, own: None, table, trace: None }, range))
}

/// The tables that exist at a version that is held.
pub(crate) fn tables_of_version(
    shared: &Arc<Shared>,
    held: &Arc<Registration>,
    branch: Option<&BranchPart>,
) -> Result<Vec<Arc<str>>, ReadError> {
    shared.must_be_open()?;
    held.must_be_active()?;
    let Some(branch) = branch else { return Ok(shared.catalog.names_at(held.version())) };
    let (held, table) = (Arc::clone(held), Some(TableId::SYSTEM));
    let (shared, branch) = (Arc::clone(shared), Some(branch.clone()));
    let source = ScanSource { shared, held, branch, own: None, table, trace: None };
    let mut names = Vec::new();
    for row in Scan::new(source, KeyRange::prefix([TABLE_PREFIX])) {
        let (key, value) = row?;
        names.extend(parse_table_row(&key, Some(&value)).map(|(name, _)| name));
    }
    Ok(names)
}

impl sealed::Sealed for Snapshot {}

impl Read for Snapshot {
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError> {
        let (shared, at) = (&self.held.inner.shared, self.held.held.version());
        let _reading = self.held.held.call()?;
        let key = key.as_ref();
        read_row(shared, table, |table| {
            shared.stack.with(|layers| match &self.held.branch {
                None => layers.get(table, key, at),
                Some(branch) => branch.get(layers, table, key, at),
            })
        })
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        let HeldSnapshot { inner, held, branch } = &*self.held;
        scan_version(&inner.shared, Arc::clone(held), branch.clone(), table, range.into())
    }

    fn version(&self) -> Version {
        self.held.held.version()
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let HeldSnapshot { inner, held, branch } = &*self.held;
        tables_of_version(&inner.shared, held, branch.as_ref())
    }

    fn store_id(&self) -> StoreId {
        self.held.inner.shared.store_id
    }
}
