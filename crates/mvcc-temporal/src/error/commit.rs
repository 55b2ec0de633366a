//! Why a write or a commit failed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use keepstone_types::Version;

use super::{ErrorKind, ReadError, Source};
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX, VERSION_NAME_LEN_MAX};

/// Why a write or a commit failed. Unless it is [`CommitOutcomeUnknown`](CommitError::CommitOutcomeUnknown), nothing
/// of the transaction is or will be in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A commit since this transaction's view wrote what this one read or wrote.
    #[error(
        "transaction {txn} conflicts with version {version}, which wrote key {} of table {table:?}; run it again",
        key.escape_ascii()
    )]
    Conflict {
        /// This transaction's number within the process.
        txn: u64,
        /// The table of the row.
        table: Arc<str>,
        /// The key of the row; the lowest of a range when the other commit was large.
        key: Vec<u8>,
        /// The other commit.
        version: Version,
    },
    /// The transaction began before the oldest commit that is still remembered, so it cannot be validated.
    #[error(
        "transaction {txn} began at version {began}, older than the commits remembered for validation (since \
         {oldest}); run it again, or raise window_bytes_max"
    )]
    ConflictWindowExceeded {
        /// This transaction's number within the process.
        txn: u64,
        /// The version it read.
        began: Version,
        /// The oldest version a transaction may have begun at.
        oldest: Version,
    },
    /// The commit queue stayed full.
    #[error("the commit queue was full for {waited:?}; try again when the disk has caught up")]
    Full {
        /// How long the call waited.
        waited: Duration,
    },
    /// The disk has no room; nothing was written. Work resumes when there is.
    #[error("no space on the disk: {source}")]
    OutOfSpace {
        /// The log's own error, with path and need.
        source: Source,
    },
    /// The disk failed while the commit was being written: only reopening tells whether it is there.
    #[error("whether the commit is stored is not known: {source}; reopen the store and look")]
    CommitOutcomeUnknown {
        /// The log's own error.
        source: Source,
    },
    /// An earlier commit met a failing disk; the store must be reopened.
    #[error("the store stopped accepting commits after a failure: {source}; reopen it")]
    Poisoned {
        /// The log's own error.
        source: Source,
    },
    /// The store is open read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The handle was made by another process, before a fork.
    #[error("the store was opened by process {opened_by} and cannot be used in process {here}; open it here")]
    Forked {
        /// The process that opened it.
        opened_by: u32,
        /// This process.
        here: u32,
    },
    /// A key is too long.
    #[error(
        "the key has {len} bytes; at most {max} are allowed, an eighth of a page and no more than {KEY_LEN_MAX}"
    )]
    KeyTooLong {
        /// Its length.
        len: usize,
        /// The most bytes that a key of this store may have.
        max: usize,
    },
    /// A value is too large.
    #[error("the value has {len} bytes; at most {VALUE_LEN_MAX} are allowed")]
    ValueTooLarge {
        /// Its length.
        len: usize,
    },
    /// A name cannot be a table's.
    #[error("{name:?} cannot be the name of a table: {reason}")]
    TableName {
        /// The name, cut after 64 characters.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The store has as many tables as it can.
    #[error("the store has {max} tables, which is the most it can have")]
    TooManyTables {
        /// The limit.
        max: usize,
    },
    /// A name cannot be a version's.
    #[error("{name:?} cannot name a version: a name has 1 to {VERSION_NAME_LEN_MAX} bytes")]
    VersionName {
        /// The name, cut after 64 characters.
        name: String,
    },
    /// The name stands for another version.
    #[error("the name {name:?} stands for version {version}; drop it first")]
    NameTaken {
        /// The name.
        name: String,
        /// The version it stands for.
        version: Version,
    },
    /// No version has this name.
    #[error("no version is named {name:?}")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// A name cannot be a branch's.
    #[error("{name:?} cannot name a branch: a name has 1 to {VERSION_NAME_LEN_MAX} bytes")]
    BranchName {
        /// The name, cut after 64 characters.
        name: String,
    },
    /// There is a branch of this name.
    #[error(
        "there is a branch {name:?} already, forked at version {base}; discard it first, or choose another name"
    )]
    BranchExists {
        /// The name.
        name: String,
        /// The version it was forked at.
        base: Version,
    },
    /// A branch was to be merged into a branch.
    #[error("a branch can only be merged into the store, and the transaction is on a branch")]
    OnBranch,
    /// The versions of this timeline are used up.
    #[error("the versions of this store are used up; export it into a new one (`keepstone export`)")]
    VersionsExhausted,
    /// What the commit needed to read could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The page file could not be asked for room to fold the commit into; nothing went to the log.
    #[error("no room was made for the commit: {source}")]
    Pages {
        /// The page file's own error.
        source: Source,
    },
    /// What the transaction wrote is too much for memory and could not be written to a file beside the store; nothing went
    /// to the log.
    #[error("the rows of the transaction could not be written to a file: {source}")]
    Runs {
        /// The file's own error.
        source: Source,
    },
    /// The log refused for a reason of its own.
    #[error("the log refused the commit: {source}")]
    Log {
        /// The log's own error.
        source: Source,
    },
}

impl CommitError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::Conflict { .. } => "conflict",
            Self::ConflictWindowExceeded { .. } => "conflict-window-exceeded",
            Self::Full { .. } => "full",
            Self::OutOfSpace { .. } => "out-of-space",
            Self::CommitOutcomeUnknown { .. } => "commit-outcome-unknown",
            Self::Poisoned { .. } => "poisoned",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
            Self::Forked { .. } => "forked",
            Self::KeyTooLong { .. } => "key-too-long",
            Self::ValueTooLarge { .. } => "value-too-large",
            Self::TableName { .. } => "table-name",
            Self::TooManyTables { .. } => "too-many-tables",
            Self::VersionName { .. } => "version-name",
            Self::NameTaken { .. } => "name-taken",
            Self::UnknownName { .. } => "unknown-name",
            Self::BranchName { .. } => "branch-name",
            Self::BranchExists { .. } => "branch-exists",
            Self::OnBranch => "on-branch",
            Self::VersionsExhausted => "versions-exhausted",
            Self::Read(error) => return error.kind(),
            Self::Pages { .. } => "pages",
            Self::Runs { .. } => "runs",
            Self::Log { .. } => "log",
        })
    }

    /// Whether the whole transaction, run again, may succeed. Never true when the outcome is unknown.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict { .. }
            | Self::ConflictWindowExceeded { .. }
            | Self::Full { .. }
            | Self::OutOfSpace { .. } => true,
            Self::Read(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether [`Database::write`](crate::Database::write) runs its closure again after this.
    pub(crate) const fn is_lost_race(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::ConflictWindowExceeded { .. })
    }
}

impl From<ReadError> for CommitError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            ReadError::Forked { opened_by, here } => Self::Forked { opened_by, here },
            other => Self::Read(other),
        }
    }
}

/// Why [`Database::write`](crate::Database::write) failed: the commit, a read inside, or the caller's own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E = Infallible> {
    /// The commit or a write failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A read inside the closure failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The closure ended with an error of its own; the transaction was rolled back.
    #[error("{0}")]
    Caller(E),
}

impl<E> WriteError<E> {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Commit(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Caller(_) => ErrorKind("caller"),
        }
    }

    /// Whether the same call may succeed later; conflicts were retried already.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Commit(error) => error.is_retryable(),
            Self::Read(error) => error.is_retryable(),
            Self::Caller(_) => false,
        }
    }
}
