//! fjall: a log-structured merge tree whose journal is synced at each commit.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};

use super::CACHE_BYTES;
use super::engine::{Engine, View};
use crate::harness::BenchError;
use crate::workload::{Row, TABLE};

/// A store of fjall.
pub(crate) struct Fjall {
    database: Database,
    rows: Keyspace,
    dir: PathBuf,
}

impl Fjall {
    /// A store, new unless there is one.
    pub(crate) fn create(dir: &Path) -> Result<Box<dyn Engine>, BenchError> {
        let database = Database::builder(dir.join("store")).cache_size(u64::try_from(CACHE_BYTES)?).open()?;
        let rows = database.keyspace(TABLE, KeyspaceCreateOptions::default)?;
        Ok(Box::new(Self { database, rows, dir: dir.to_path_buf() }))
    }
}

impl Engine for Fjall {
    fn put(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for row in rows {
            batch.insert(&self.rows, row.key, row.value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn remove(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for row in rows {
            batch.remove(&self.rows, row.key);
        }
        Ok(batch.commit()?)
    }

    fn settle(&self) -> Result<(), BenchError> {
        self.rows.rotate_memtable_and_wait()?;
        Ok(self.rows.major_compact()?)
    }

    /// Tables that compaction replaced stay for a while; opening removes them.
    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>, BenchError> {
        self.settle()?;
        let Self { database, rows, dir } = *self;
        database.persist(PersistMode::SyncAll)?;
        drop((rows, database));
        Self::create(&dir)
    }

    fn view(&self) -> Result<Box<dyn View>, BenchError> {
        Ok(Box::new(FjallView { snapshot: self.database.snapshot(), rows: self.rows.clone() }))
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

/// A snapshot of fjall.
struct FjallView {
    snapshot: Snapshot,
    rows: Keyspace,
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<usize>, BenchError> {
        Ok(self.snapshot.get(&self.rows, key)?.map(|value| black_box(&*value).len()))
    }

    fn range(&self, from: &[u8], rows: usize) -> Result<usize, BenchError> {
        let mut bytes = 0;
        for row in self.snapshot.range(&self.rows, from..).take(rows) {
            let (key, value) = row.into_inner()?;
            bytes += black_box(&*key).len() + black_box(&*value).len();
        }
        Ok(bytes)
    }
}
