//! What the tests share: stores in memory and on disk, and short ways to write and read.

use std::path::Path;
use std::sync::Arc;

use keepstone_mvcc_temporal::{
    CommitError, Database, DatabaseOptions, Isolation, KeyRange, OpenError, Read, Receipt, Txn, TxnOptions,
    WriteError,
};
use keepstone_types::{Clock, ManualClock, Timestamp, Version};
use keepstone_vfs::{MemoryVfs, OsVfs, Vfs};

/// The table that most tests use.
pub(crate) const T: &str = "t";

pub(crate) const DIR: &str = "/store";

/// Options with a small log, so that tests do not zero megabytes.
pub(crate) fn options() -> DatabaseOptions {
    let options = DatabaseOptions::default();
    let log = options.log.clone().segment_bytes_min(256 << 10).segment_bytes_max(1 << 20);
    options.log(log)
}

/// A store in memory with a clock that stands still.
pub(crate) struct MemoryStore {
    pub(crate) vfs: MemoryVfs,
    pub(crate) clock: Arc<ManualClock>,
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
        Self { vfs: MemoryVfs::new(), clock }
    }

    pub(crate) fn open_with(&self, options: DatabaseOptions) -> Result<Database, OpenError> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Database::open_with(Arc::new(self.vfs.clone()), clock, Path::new(DIR), options)
    }

    pub(crate) fn open(&self) -> Database {
        self.open_with(options()).unwrap()
    }

    /// What another process would find if this one were killed now.
    pub(crate) fn killed(&self) -> Self {
        Self { vfs: self.vfs.snapshot(), clock: Arc::clone(&self.clock) }
    }
}

pub(crate) fn memory() -> Database {
    MemoryStore::new().open()
}

/// A store on disk, in a folder that goes with the guard.
pub(crate) fn on_disk() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("store"), options()).unwrap();
    (dir, database)
}

/// The same test on files and in memory.
pub(crate) fn on_both(test: impl Fn(Database)) {
    test(memory());
    let (_dir, database) = on_disk();
    test(database);
}

pub(crate) fn open_on(vfs: Arc<dyn Vfs>, options: DatabaseOptions) -> Result<Database, OpenError> {
    Database::open_with(vfs, Arc::new(keepstone_types::SystemClock::default()), Path::new(DIR), options)
}

#[expect(dead_code, reason = "kept beside its sibling for tests on real files")]
pub(crate) fn os() -> Arc<dyn Vfs> {
    Arc::new(OsVfs::new())
}

pub(crate) fn with_isolation(database: &Database, isolation: Isolation) -> Txn {
    database.begin_with(TxnOptions::default().isolation(isolation)).unwrap()
}

pub(crate) fn put(database: &Database, key: &str, value: &str) -> Receipt {
    let mut txn = database.begin().unwrap();
    txn.put(T, key, value.as_bytes()).unwrap();
    txn.commit().unwrap()
}

pub(crate) fn delete(database: &Database, key: &str) -> Receipt {
    let mut txn = database.begin().unwrap();
    txn.delete(T, key).unwrap();
    txn.commit().unwrap()
}

/// The value of a key as text.
pub(crate) fn get(reader: &impl Read, key: &str) -> Option<String> {
    reader.get(T, key).unwrap().map(|value| String::from_utf8(value.into_owned()).unwrap())
}

/// The rows of a range as text.
pub(crate) fn rows(reader: &impl Read, range: impl Into<KeyRange>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    reader
        .scan(T, range)
        .unwrap()
        .map(|row| row.map(|(key, value)| (text(&key), text(&value))).unwrap())
        .collect()
}

/// The keys of a range.
pub(crate) fn keys(reader: &impl Read, range: impl Into<KeyRange>) -> Vec<String> {
    rows(reader, range).into_iter().map(|(key, _)| key).collect()
}

pub(crate) fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub(crate) fn kind<T>(result: Result<T, CommitError>) -> Result<(), &'static str> {
    result.map(drop).map_err(|error| error.kind().as_str())
}

/// Adds to a number in a row, within a transaction.
pub(crate) fn add(txn: &mut Txn, key: &str, by: i64) -> Result<i64, WriteError> {
    let old = txn.get(T, key)?.map_or(0, |value| i64::from_le_bytes(value[..].try_into().unwrap()));
    let new = old + by;
    txn.put(T, key, new.to_le_bytes().as_slice())?;
    Ok(new)
}

pub(crate) fn number(reader: &impl Read, key: &str) -> i64 {
    reader.get(T, key).unwrap().map_or(0, |value| i64::from_le_bytes(value[..].try_into().unwrap()))
}
