//! Snapshots: one version, readable for as long as the handle lives.

use std::fmt;

use keepstone_types::{StoreId, Version};

use crate::catalog::TableId;
use crate::database::Handle;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::memtable::FoundRow;
use crate::read::{Read, VersionedValue, sealed};
use crate::readers::Registration;
use crate::scan::{Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;

/// The store as it was at one version. Cloning is cheap; the store stays open while a snapshot of it lives, unless it is
/// closed, which ends the snapshot with [`ReadError::Closed`].
#[derive(Clone)]
pub struct Snapshot {
    held: Arc<HeldSnapshot>,
}

/// What the clones of a snapshot share: a version that is kept for them, and nothing else.
struct HeldSnapshot {
    inner: Arc<Handle>,
    held: Arc<Registration>,
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
        inner.shared.counters.open_snapshots.add(1);
        Self { held: Arc::new(HeldSnapshot { inner, held }) }
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
    table: &str,
    range: KeyRange,
) -> Result<Scan, ReadError> {
    shared.must_be_open()?;
    held.must_be_active()?;
    let table = shared.catalog.id(table);
    Ok(Scan::new(ScanSource { shared: Arc::clone(shared), held, own: None, table, trace: None }, range))
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
        read_row(shared, table, |table| shared.stack.with(|layers| layers.get(table, key.as_ref(), at)))
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        scan_version(&self.held.inner.shared, Arc::clone(&self.held.held), table, range.into())
    }

    fn version(&self) -> Version {
        self.held.held.version()
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let shared = &self.held.inner.shared;
        shared.must_be_open()?;
        self.held.held.must_be_active()?;
        Ok(shared.catalog.names_at(self.held.held.version()))
    }

    fn store_id(&self) -> StoreId {
        self.held.inner.shared.store_id
    }
}
