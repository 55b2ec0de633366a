//! The rows that are written: 24-byte keys in a scrambled order, 150-byte values that do not compress.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keepstone_mvcc_temporal::{CheckpointOptions, Database, DatabaseOptions};
use keepstone_types::SystemClock;
use keepstone_vfs::Vfs;

use crate::harness::BenchError;

/// The table that benchmarks write to.
pub(crate) const TABLE: &str = "rows";

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) const fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The key of a row.
pub(crate) fn key(number: u64) -> [u8; 24] {
    let mut key = [0_u8; 24];
    for (part, chunk) in (0..).zip(key.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&scramble(number.wrapping_mul(3).wrapping_add(part)).to_be_bytes());
    }
    key
}

/// The value of a row.
pub(crate) fn value(number: u64) -> Vec<u8> {
    (0_u64..19).flat_map(|part| scramble(number ^ (part << 48)).to_le_bytes()).take(150).collect()
}

/// A row to write.
#[cfg(feature = "peers")]
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: [u8; 24],
    pub(crate) value: Vec<u8>,
}

/// Rows by number.
#[cfg(feature = "peers")]
pub(crate) fn rows(numbers: std::ops::Range<u64>) -> Vec<Row> {
    numbers.map(|number| Row { key: key(number), value: value(number) }).collect()
}

/// A store in `dir` on the given file system.
pub(crate) fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: DatabaseOptions) -> Result<Database, BenchError> {
    Ok(Database::open_with(vfs, Arc::new(SystemClock::default()), dir, options)?)
}

/// Options under which nothing is folded unasked but for its size, so that what is measured stays as it is.
pub(crate) fn untimed_checkpoints() -> DatabaseOptions {
    let checkpoint = CheckpointOptions::default().age(Duration::ZERO).idle(Duration::ZERO);
    DatabaseOptions::default().checkpoint(checkpoint)
}

/// Commits rows `from .. from + count` in one transaction.
pub(crate) fn commit_rows(database: &Database, from: u64, count: u64) -> Result<(), BenchError> {
    let mut txn = database.begin()?;
    for number in from..from.saturating_add(count) {
        txn.put(TABLE, key(number), value(number))?;
    }
    txn.commit()?;
    Ok(())
}
