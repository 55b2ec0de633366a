//! The errors, one enum per phase: opening, reading, committing, closing.
//!
//! Each has a stable [`ErrorKind`] and says whether trying again can help. An error of the log or the disk is kept as
//! the source.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keepstone_types::{StoreId, Version};

use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX, VERSION_NAME_LEN_MAX};

/// The cause below an error, whichever crate it came from.
pub type Source = Box<dyn Error + Send + Sync>;

/// What kind of error it is: a name that stays the same between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorKind(&'static str);

impl ErrorKind {
    /// The kind with this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name, in lower case with dashes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0)
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no store in the folder, and none was to be made.
    #[error("{} holds no store; open it with Existence::CreateIfMissing to make one", dir.display())]
    NotFound {
        /// The folder.
        dir: PathBuf,
    },
    /// There is a store already, and a new one was asked for.
    #[error("{} already holds a store; open it with Existence::MustExist", dir.display())]
    AlreadyExists {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has files but no identity file, so it is not a store and nothing in it is touched.
    #[error(
        "{} is not a store: it has no file KEEPSTONE but holds {found:?}; give an empty folder, or restore the file \
         from a backup",
        dir.display()
    )]
    NotAStore {
        /// The folder.
        dir: PathBuf,
        /// One of the entries found.
        found: String,
    },
    /// The identity file is damaged or foreign.
    #[error("{} is not a valid identity file: {what}: expected {expected}, found {found}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The store was written by a newer build.
    #[error(
        "{} was written in format {found} (features {features:#x}), this build understands format {supported}; \
         open it with the build that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The identity file.
        path: PathBuf,
        /// Format version found.
        found: u32,
        /// Format version understood.
        supported: u32,
        /// Feature bits that are not understood.
        features: u64,
    },
    /// Another opener holds the store for writing.
    #[error("{} is open for writing elsewhere, by {holder}; open it read-only, or close it there", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who, as the holder says itself.
        holder: String,
    },
    /// The folder is on a network file system, where locks and syncs cannot be trusted.
    #[error("{} is on a network file system ({protocol}); force_network opens it nevertheless", dir.display())]
    NetworkVolume {
        /// The folder.
        dir: PathBuf,
        /// The protocol.
        protocol: &'static str,
    },
    /// An option is out of its bounds.
    #[error("the option {field} is {value}; allowed is {range}")]
    Option {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// The option needs a part that the format does not have yet.
    #[error("{what} needs {needs}, which this format does not have yet")]
    NotYet {
        /// What was asked.
        what: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A record that the log proved whole is not what the store would have written.
    #[error("the log's record {lsn} is not a valid commit: {what}; `keepstone check` tells more")]
    Record {
        /// The record's number.
        lsn: u64,
        /// What is wrong.
        what: String,
    },
    /// The log could not be opened.
    #[error("the log of {} cannot be opened: {source}", dir.display())]
    Log {
        /// The store's folder.
        dir: PathBuf,
        /// The log's own error.
        source: Source,
        /// The log's own kind of error.
        kind: ErrorKind,
    },
    /// The disk.
    #[error("the store {} cannot be opened: {source}", dir.display())]
    Io {
        /// The store's folder.
        dir: PathBuf,
        /// The disk's own error, with path and operation.
        source: Source,
    },
    /// The system gave no random bytes for the id of a new store.
    #[error("the system gave no random bytes for the id of the new store: {source}")]
    Random {
        /// The system's own error.
        source: Source,
    },
}

impl OpenError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::NotFound { .. } => "not-found",
            Self::AlreadyExists { .. } => "already-exists",
            Self::NotAStore { .. } => "not-a-store",
            Self::Identity { .. } => "identity",
            Self::NewerFormat { .. } => "newer-format",
            Self::Locked { .. } => "locked",
            Self::NetworkVolume { .. } => "network-volume",
            Self::Option { .. } => "option",
            Self::NotYet { .. } => "not-yet",
            Self::Record { .. } => "record",
            Self::Log { kind, .. } => return *kind,
            Self::Io { .. } => "io",
            Self::Random { .. } => "random",
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Identity { .. } | Self::Record { .. } => true,
            Self::Log { kind, .. } => matches!(kind.0, "damaged" | "missing-segment" | "foreign-store"),
            _ => false,
        }
    }

    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}

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
    #[error("the key has {len} bytes; at most {KEY_LEN_MAX} are allowed")]
    KeyTooLong {
        /// Its length.
        len: usize,
    },
    /// A value is too large.
    #[error("the value has {len} bytes; at most {VALUE_LEN_MAX} are allowed")]
    ValueTooLarge {
        /// Its length.
        len: usize,
    },
    /// The transaction is too large.
    #[error(
        "the transaction has {rows} rows of {bytes} bytes; at most {rows_max} of {bytes_max} are allowed"
    )]
    TransactionTooLarge {
        /// Rows, the refused one included.
        rows: usize,
        /// Bytes of keys and values, the refused one included.
        bytes: usize,
        /// Rows allowed.
        rows_max: usize,
        /// Bytes allowed.
        bytes_max: usize,
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
    /// The versions of this timeline are used up.
    #[error("the versions of this store are used up; export it into a new one (`keepstone export`)")]
    VersionsExhausted,
    /// What the commit needed to read could not be read.
    #[error(transparent)]
    Read(ReadError),
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
            Self::TransactionTooLarge { .. } => "transaction-too-large",
            Self::TableName { .. } => "table-name",
            Self::TooManyTables { .. } => "too-many-tables",
            Self::VersionName { .. } => "version-name",
            Self::NameTaken { .. } => "name-taken",
            Self::UnknownName { .. } => "unknown-name",
            Self::VersionsExhausted => "versions-exhausted",
            Self::Read(error) => return error.kind(),
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

/// Why closing was not clean. The store is closed nevertheless, and what was committed is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Another handle closed it before.
    #[error("the store was already closed")]
    AlreadyClosed,
    /// The log could not write its clean close.
    #[error("the log did not close cleanly: {source}; the next open recovers")]
    Log {
        /// The log's own error.
        source: Source,
    },
    /// The handle was made by another process, before a fork.
    #[error("the store was opened by process {opened_by} and is left to it")]
    Forked {
        /// The process that opened it.
        opened_by: u32,
    },
}

impl CloseError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::AlreadyClosed => "already-closed",
            Self::Log { .. } => "log",
            Self::Forked { .. } => "forked",
        })
    }

    /// Closing is done once: never.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}
