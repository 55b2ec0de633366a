//! Snapshot files: a version of a store as files that can be copied away and restored elsewhere.
//!
//! A [`SnapshotFolder`] holds them, one file for each. A full one has all rows of a version; a delta has those that changed
//! since another, its parent, and so on back to a full one: a chain. Not to be confused with [`Snapshot`](crate::Snapshot), which
//! is a handle to read one version of an open store by; a file is made through such a version and lives without the store.
//!
//! In a file is what the tables of the version had: not its history, its branches, the names of versions, nor the store's
//! settings. `FORMAT.md` draws the bytes.

mod blocks;
mod chain;
mod content;
mod create;
mod error;
mod file;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod head;
mod names;
mod restore;
mod restoring;
mod shrink;
pub(crate) mod trailer;

pub use error::SnapshotFileError;
pub use folder::{SnapshotEntry, SnapshotFileInfo, SnapshotFolder, VerifyReport};
pub use restore::RestoreReport;
pub use shrink::SnapshotPruneReport;
