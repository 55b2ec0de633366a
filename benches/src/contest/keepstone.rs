//! Our store.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use keepstone_mvcc_temporal::{Database, Durability, KeyRange, Read as _, Retention, Snapshot};
use keepstone_vfs::OsVfs;

use super::CACHE_BYTES;
use super::engine::{Engine, View};
use crate::harness::BenchError;
use crate::workload::{Row, TABLE, open, untimed_checkpoints};

/// A store of ours.
pub(crate) struct Keepstone(Database);

impl Keepstone {
    /// A new store that keeps older versions for so long.
    pub(crate) fn create(dir: &Path, retention: Retention) -> Result<Box<dyn Engine>, BenchError> {
        let options = untimed_checkpoints()
            .durability(Durability::Normal)
            .retention(retention)
            .cache_bytes(u64::try_from(CACHE_BYTES)?);
        Ok(Box::new(Self(open(Arc::new(OsVfs::new()), &dir.join("store"), options)?)))
    }
}

impl Engine for Keepstone {
    fn put(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut txn = self.0.begin()?;
        for row in rows {
            txn.put(TABLE, row.key, row.value.as_slice())?;
        }
        txn.commit()?;
        Ok(())
    }

    fn remove(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut txn = self.0.begin()?;
        for row in rows {
            txn.delete(TABLE, row.key)?;
        }
        txn.commit()?;
        Ok(())
    }

    fn settle(&self) -> Result<(), BenchError> {
        Ok(self.0.checkpoint()?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>, BenchError> {
        self.0.compact()?;
        Ok(self)
    }

    fn view(&self) -> Result<Box<dyn View>, BenchError> {
        Ok(Box::new(self.0.snapshot()?))
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(self.0.close()?)
    }
}

impl View for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<usize>, BenchError> {
        let found = keepstone_mvcc_temporal::Read::get(self, TABLE, key)?;
        Ok(found.map(|value| black_box(&*value).len()))
    }

    fn range(&self, from: &[u8], rows: usize) -> Result<usize, BenchError> {
        let mut bytes = 0;
        for row in self.scan(TABLE, KeyRange::from(from..))?.take(rows) {
            let (key, value) = row?;
            bytes += black_box(&*key).len() + black_box(&*value).len();
        }
        Ok(bytes)
    }
}
