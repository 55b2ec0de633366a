//! Restoring: a store is made from a snapshot, whole or not at all.
//!
//! Everything that the snapshot hangs on is read and verified before anything is written. The rows are then one commit of a
//! new store, which has no identity until they are folded into its page file; until then its folder is no store to anybody.

use std::path::Path;

use keepstone_types::{Clock, StoreId, SystemClock, ValueRef, Version};

use super::chain::Chain;
use super::error::SnapshotFileError;
use super::folder::SnapshotFolder;
use super::restoring;
use crate::database::Database;
use crate::options::DatabaseOptions;
use crate::sync::Arc;
use crate::txn::{Isolation, TxnOptions};

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The id of the new store.
    pub store_id: StoreId,
    /// The version of the new store that has the content; 0 when there was none.
    pub version: Version,
    /// The store that the snapshot is of.
    pub source_id: StoreId,
    /// The version of that store that was restored.
    pub source_version: Version,
    /// Rows.
    pub rows: u64,
    /// Tables.
    pub tables: u64,
}

impl SnapshotFolder {
    /// Makes a new store in a folder that must be empty or missing, with the content of a snapshot. It has an id of its own
    /// and begins with that content as its first version. A folder that holds what a restoration left that did not end is
    /// taken up.
    ///
    /// # Errors
    /// When anything that the snapshot hangs on is missing or damaged, the folder holds something, or the disk fails or is
    /// full. Nothing opens the folder as a store then.
    pub fn restore(
        &self,
        name: &str,
        dir: impl AsRef<Path>,
        options: DatabaseOptions,
    ) -> Result<RestoreReport, SnapshotFileError> {
        self.restore_with(name, dir.as_ref(), Arc::new(SystemClock::default()), options)
    }

    /// As [`restore`](Self::restore), with any clock. The store is made on the file system of the snapshots.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_with(
        &self,
        name: &str,
        dir: &Path,
        clock: Arc<dyn Clock>,
        options: DatabaseOptions,
    ) -> Result<RestoreReport, SnapshotFileError> {
        let chain = Chain::open(&*self.inner, name)?;
        chain.verify()?;
        let inner = restoring::begin(&self.inner.vfs, clock, dir, &options)?;
        let database = Database::of(inner);
        let filled = fill(&database, &chain).and_then(|version| {
            restoring::publish(&self.inner.vfs, dir)?;
            Ok(version)
        });
        let store_id = database.inner.shared.store_id;
        let version = match filled {
            Ok(version) => version,
            Err(error) => {
                drop(database);
                // What cannot be removed is left to the next restoration; it is no store.
                restoring::clear(&self.inner.vfs, dir).unwrap_or_default();
                return Err(error);
            }
        };
        // Everything is folded and durable: an unclean close is made good by the next opening.
        drop(database);
        let newest = chain.newest();
        Ok(RestoreReport {
            store_id,
            version,
            source_id: newest.head.store_id,
            source_version: newest.head.version,
            rows: newest.trailer.content.rows,
            tables: newest.trailer.tables.into(),
        })
    }
}

/// Brings all rows into an empty store by one commit, and folds them.
fn fill(database: &Database, chain: &Chain) -> Result<Version, SnapshotFileError> {
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted))?;
    for (_, name) in chain.tables() {
        txn.create_table(&name)?;
    }
    let mut rows = chain.rows()?;
    while let Some(row) = rows.next()? {
        txn.put(row.name, row.key, ValueRef::copy_from(row.value))?;
    }
    let receipt = txn.commit()?;
    database.sync()?;
    database.checkpoint()?;
    Ok(receipt.version)
}
