//! Snapshots: one version, readable for as long as the handle lives.

use std::fmt;

use keepstone_types::{StoreId, Version};

use crate::catalog::TableId;
use crate::database::Inner;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::memtable::RowVersion;
use crate::read::{Read, VersionedValue, sealed};
use crate::scan::{Scan, ScanSource};
use crate::shared::Shared;
use crate::sync::Arc;
use crate::view::View;

/// The store as it was at one version. Cloning is cheap; the store stays open while a snapshot of it lives, unless it is
/// closed, which ends the snapshot with [`ReadError::Closed`].
#[derive(Clone)]
pub struct Snapshot {
    held: Arc<HeldSnapshot>,
}

/// What the clones of a snapshot share.
struct HeldSnapshot {
    inner: Arc<Inner>,
    view: View,
}

impl Drop for HeldSnapshot {
    fn drop(&mut self) {
        self.inner.shared.counters.open_snapshots.subtract(1);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.held.view.version()).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(inner: Arc<Inner>, view: View) -> Self {
        inner.shared.counters.open_snapshots.add(1);
        Self { held: Arc::new(HeldSnapshot { inner, view }) }
    }
}

/// Looks a row up, in whatever way the caller reads.
pub(crate) fn read_row(
    shared: &Shared,
    table: &str,
    look_up: impl FnOnce(TableId) -> Option<RowVersion>,
) -> Result<Option<VersionedValue>, ReadError> {
    let _call = shared.enter()?;
    let Some(table) = shared.catalog.get(table) else { return Ok(None) };
    let row = look_up(table.id);
    Ok(row.and_then(|row| Some(VersionedValue { value: row.value?, version: Some(row.version) })))
}

/// Scans a view.
pub(crate) fn scan_view(
    shared: &Arc<Shared>,
    view: View,
    table: &str,
    range: KeyRange,
) -> Result<Scan, ReadError> {
    shared.must_be_open()?;
    let table = shared.catalog.get(table).map(|table| table.id);
    Ok(Scan::new(ScanSource { shared: Arc::clone(shared), view, own: None, table, trace: None }, range))
}

impl sealed::Sealed for Snapshot {}

impl Read for Snapshot {
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError> {
        read_row(&self.held.inner.shared, table, |table| self.held.view.get(table, key.as_ref()))
    }

    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError> {
        scan_view(&self.held.inner.shared, self.held.view.clone(), table, range.into())
    }

    fn version(&self) -> Version {
        self.held.view.version()
    }

    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let shared = &self.held.inner.shared;
        shared.must_be_open()?;
        Ok(shared.catalog.names_at(self.held.view.version()))
    }

    fn store_id(&self) -> StoreId {
        self.held.inner.shared.store_id
    }
}
