//! What of a store stands in the write-ahead log: records of commits, reading them again, and its errors in this crate's words.

pub(crate) mod error;
pub(crate) mod record;
pub(crate) mod replay;
