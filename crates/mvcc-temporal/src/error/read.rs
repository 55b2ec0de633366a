//! Why a read failed.

use keepstone_types::{StoreId, Version};

use super::{ErrorKind, PageSource};

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The reader was ended because it held too much for too long.
    #[error("the reader was ended by the store; take a new snapshot")]
    ReaderAborted,
    /// No commit made this version: it was never there, or recovery cut it and later versions are on another timeline.
    #[error("version {asked} is not a version of this store; the nearest one before it is {nearest}")]
    UnknownVersion {
        /// What was asked for.
        asked: Version,
        /// The newest version below it.
        nearest: Version,
    },
    /// The version is above the newest visible one.
    #[error("version {asked} is not there yet; the newest is {newest}")]
    VersionInFuture {
        /// What was asked for.
        asked: Version,
        /// The newest visible version.
        newest: Version,
    },
    /// The version was there, and is no longer retained.
    #[error(
        "version {asked} is no longer kept; the oldest that is kept is {oldest} (name a version, or retain more, to keep it)"
    )]
    HistoryGone {
        /// What was asked for.
        asked: Version,
        /// The oldest version that is kept for everybody.
        oldest: Version,
    },
    /// No branch has this name, or the handle is of one that was discarded.
    #[error("there is no branch {name:?}, or it was discarded")]
    BranchNotFound {
        /// The name.
        name: String,
    },
    /// More readers are open than can be told apart.
    #[error("too many readers are open; close snapshots and transactions that are not needed")]
    TooManyReaders,
    /// Bytes on disk are not what was written there.
    #[error("the store is damaged: {source}")]
    Damaged {
        /// Where, expected and found.
        source: PageSource,
    },
    /// The process that writes the store gave pages of the version that is read to others: a reader in another process
    /// cannot hold any.
    #[error("what is read is gone; open it again to read a newer version: {source}")]
    SnapshotGone {
        /// Which page.
        source: PageSource,
    },
    /// The disk could not be read.
    #[error("the store cannot be read: {source}")]
    Disk {
        /// The disk's own error, with path and operation.
        source: PageSource,
    },
    /// The handle belongs to another store.
    #[error("the handle belongs to store {found}, this is store {expected}")]
    WrongStore {
        /// The store asked.
        expected: StoreId,
        /// The store of the handle.
        found: StoreId,
    },
    /// The handle was made by another process, before a fork.
    #[error("the store was opened by process {opened_by} and cannot be used in process {here}; open it here")]
    Forked {
        /// The process that opened it.
        opened_by: u32,
        /// This process.
        here: u32,
    },
}

impl ReadError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::Closed => "closed",
            Self::ReaderAborted => "reader-aborted",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::VersionInFuture { .. } => "version-in-future",
            Self::HistoryGone { .. } => "history-gone",
            Self::BranchNotFound { .. } => "branch-not-found",
            Self::TooManyReaders => "too-many-readers",
            Self::Damaged { .. } => "damaged",
            Self::SnapshotGone { .. } => "snapshot-gone",
            Self::Disk { .. } => "io",
            Self::WrongStore { .. } => "wrong-store",
            Self::Forked { .. } => "forked",
        })
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::VersionInFuture { .. } | Self::ReaderAborted)
    }
}
