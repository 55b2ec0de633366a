//! The limits of the store, each with an error of its own.

/// Bytes of a key, at most; on pages of 4,096 bytes, an eighth of a page.
pub const KEY_LEN_MAX: usize = 1_024;
/// The longest key is that part of a page. As an older version it stands escaped in a key of the tree of history, which is at
/// most half as long again and 15 bytes: less than the fifth of a payload that a tree allows.
pub(crate) const KEYS_OF_A_PAGE: usize = 8;
/// Bytes of a value, at most.
pub const VALUE_LEN_MAX: usize = 64 << 20;
/// Tables of a store, at most.
pub const TABLES_MAX: usize = 65_535;
/// Bytes of a table's name, at most.
pub const TABLE_NAME_LEN_MAX: usize = 255;
/// Bytes of the name of a version, at most.
pub const VERSION_NAME_LEN_MAX: usize = 255;
