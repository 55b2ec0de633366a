//! Reading: one sealed trait for the store, a snapshot and a transaction, so that "now" differs from "then" only by the
//! handle.

use keepstone_types::{StoreId, ValueRef, Version};

use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::scan::Scan;
use crate::sync::Arc;

pub(crate) mod sealed {
    //! Keeps the trait from being implemented elsewhere, so that it can grow.

    /// Implemented by the handles of this crate.
    pub trait Sealed {}
}

/// A value and the version that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value.
    pub value: ValueRef,
    /// The version; `None` for what the reading transaction wrote itself and did not commit yet.
    pub version: Option<Version>,
}

/// What can be read from: [`Database`](crate::Database) (each call sees the newest), [`Snapshot`](crate::Snapshot) (all
/// calls see one version) and [`Txn`](crate::Txn) (its view and its own writes).
pub trait Read: sealed::Sealed {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store was closed.
    fn get(&self, table: &str, key: impl AsRef<[u8]>) -> Result<Option<ValueRef>, ReadError> {
        Ok(self.get_with_version(table, key)?.map(|found| found.value))
    }

    /// The value of a key and the version that wrote it.
    ///
    /// # Errors
    /// When the store was closed.
    fn get_with_version(
        &self,
        table: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<VersionedValue>, ReadError>;

    /// The rows of a range in key order, from either end. The iterator is owned and reads one version, whatever is
    /// written meanwhile.
    ///
    /// # Errors
    /// When the store was closed.
    fn scan(&self, table: &str, range: impl Into<KeyRange>) -> Result<Scan, ReadError>;

    /// The version that is read: of a store or a `ReadCommitted` transaction the newest visible now.
    fn version(&self) -> Version;

    /// The names of the tables that exist at the version that is read, sorted.
    ///
    /// # Errors
    /// When the store was closed.
    fn tables(&self) -> Result<Vec<Arc<str>>, ReadError>;

    /// The store that is read.
    fn store_id(&self) -> StoreId;
}
