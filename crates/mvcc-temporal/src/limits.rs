//! The limits of the store, each with an error of its own.

/// Bytes of a key, at most.
pub const KEY_LEN_MAX: usize = 1_024;
/// Bytes of a value, at most.
pub const VALUE_LEN_MAX: usize = 64 << 20;
/// Bytes of the keys and values of one transaction, at most.
pub const TRANSACTION_BYTES_MAX: usize = 256 << 20;
/// Row versions of one transaction, at most.
pub const TRANSACTION_ROWS_MAX: usize = 16 << 20;
/// Tables of a store, at most.
pub const TABLES_MAX: usize = 65_535;
/// Bytes of a table's name, at most.
pub const TABLE_NAME_LEN_MAX: usize = 255;
/// Bytes of the name of a version, at most.
pub const VERSION_NAME_LEN_MAX: usize = 255;
