//! What is asked of each store.

use crate::harness::BenchError;
use crate::workload::Row;

/// A store with one table.
pub(crate) trait Engine {
    /// Writes rows in one commit that is on stable storage when it returns.
    fn put(&self, rows: &[Row]) -> Result<(), BenchError>;

    /// Removes rows in one commit that is on stable storage when it returns.
    fn remove(&self, rows: &[Row]) -> Result<(), BenchError>;

    /// Moves everything that waits to be moved to where it stays.
    fn settle(&self) -> Result<(), BenchError>;

    /// Makes the store small: what is left then is what it needs.
    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>, BenchError>;

    /// The rows as they are now.
    fn view(&self) -> Result<Box<dyn View>, BenchError>;

    /// Ends it, and reports what failed.
    fn close(self: Box<Self>) -> Result<(), BenchError>;
}

/// Rows at one point in time.
pub(crate) trait View {
    /// Bytes of the value of a key; `None` when there is none.
    fn get(&self, key: &[u8]) -> Result<Option<usize>, BenchError>;

    /// Bytes of keys and values of so many rows from a key on.
    fn range(&self, from: &[u8], rows: usize) -> Result<usize, BenchError>;
}
