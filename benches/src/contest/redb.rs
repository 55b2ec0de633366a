//! redb: a copy-on-write tree that is synced at each commit.

use std::hint::black_box;
use std::path::Path;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase as _, TableDefinition};

use super::CACHE_BYTES;
use super::engine::{Engine, View};
use crate::harness::BenchError;
use crate::workload::{Row, TABLE};

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const ROWS: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new(TABLE);

/// A store of redb.
pub(crate) struct Redb(Database);

impl Redb {
    /// A new store.
    pub(crate) fn create(dir: &Path) -> Result<Box<dyn Engine>, BenchError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("store.redb"))?;
        Ok(Box::new(Self(database)))
    }
}

impl Engine for Redb {
    fn put(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut table = txn.open_table(ROWS)?;
        for row in rows {
            table.insert(row.key.as_slice(), row.value.as_slice())?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn remove(&self, rows: &[Row]) -> Result<(), BenchError> {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut table = txn.open_table(ROWS)?;
        for row in rows {
            table.remove(row.key.as_slice())?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn settle(&self) -> Result<(), BenchError> {
        Ok(())
    }

    fn compact(mut self: Box<Self>) -> Result<Box<dyn Engine>, BenchError> {
        while self.0.compact()? {}
        Ok(self)
    }

    fn view(&self) -> Result<Box<dyn View>, BenchError> {
        Ok(Box::new(self.0.begin_read()?.open_table(ROWS)?))
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(self.0.close()?)
    }
}

impl View for Table {
    fn get(&self, key: &[u8]) -> Result<Option<usize>, BenchError> {
        Ok(Table::get(self, key)?.map(|value| black_box(value.value()).len()))
    }

    fn range(&self, from: &[u8], rows: usize) -> Result<usize, BenchError> {
        let mut bytes = 0;
        for row in Table::range(self, from..)?.take(rows) {
            let (key, value) = row?;
            bytes += black_box(key.value()).len() + black_box(value.value()).len();
        }
        Ok(bytes)
    }
}
