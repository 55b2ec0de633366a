//! The errors of opening, reading and committing, one enum per phase; those of closing, changing and merging have files of
//! their own.
//!
//! Each has a stable [`ErrorKind`] and says whether trying again can help. No error type of a crate below is public: an
//! error of the log or the disk is kept as the boxed source.

pub(crate) mod change;
pub(crate) mod close;
pub(crate) mod map;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::{StoreId, Version};

use crate::settings::SettingError;

/// The cause below an error, whichever crate it came from.
pub type Source = Box<dyn Error + Send + Sync>;

/// What kind of error it is: a name that stays the same between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorKind(pub(crate) &'static str);

impl ErrorKind {
    /// The name, in lower case with dashes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// Why a store or a collection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// There is no store in the folder, and none was to be made.
    #[error("{} holds no store; `keepstone -s {} init` makes one", dir.display(), dir.display())]
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
    /// The folder has files but no store; nothing in it is touched.
    #[error("{} is not a store: {source}", dir.display())]
    NotAStore {
        /// The folder.
        dir: PathBuf,
        /// What was found instead.
        source: Source,
    },
    /// The store was written by a newer build.
    #[error("{} was written by a newer build: {source}", dir.display())]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// What is not understood.
        source: Source,
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
    /// The page file could not be opened; the source says what was expected and what was found.
    #[error("the page file of {} cannot be opened: {source}; {}", dir.display(), pages_help(*kind))]
    Pages {
        /// The folder.
        dir: PathBuf,
        /// What the page file says.
        source: Source,
        /// Its kind.
        kind: ErrorKind,
    },
    /// The page file is older than what the log says was completed.
    #[error(
        "the page file of {} is at generation {found}, but its log says that generation {expected} was completed; put \
         back the page file that belongs to this log, or restore the whole store from a backup",
        dir.display()
    )]
    PagesBehind {
        /// The folder.
        dir: PathBuf,
        /// The generation that the log names.
        expected: u64,
        /// The newest generation in the page file.
        found: u64,
    },
    /// The log ends before what the page file has of it.
    #[error(
        "the log of {} ends at version {found}, but its page file has rows through version {expected}; put back the log \
         that belongs to this page file, or restore the whole store from a backup; Recovery::ReadOnlyAtCheckpoint reads \
         what the page file has",
        dir.display()
    )]
    LogBehind {
        /// The folder.
        dir: PathBuf,
        /// The version through which the page file has rows.
        expected: Version,
        /// The last version in the log.
        found: Version,
    },
    /// The log begins after what the page file needs of it.
    #[error(
        "the log of {} begins at record {found}, but its page file needs it from record {expected} on; restore the whole \
         store from a backup; Recovery::ReadOnlyAtCheckpoint reads what the page file has",
        dir.display()
    )]
    MissingRecords {
        /// The folder.
        dir: PathBuf,
        /// The record that is needed.
        expected: u64,
        /// The first record that is there.
        found: u64,
    },
    /// The store cannot be opened as it is; the source says which file, what was expected and what was found.
    #[error("{} cannot be opened: {source}", dir.display())]
    Engine {
        /// The folder.
        dir: PathBuf,
        /// What the layer below says.
        source: Source,
        /// Its kind.
        kind: ErrorKind,
    },
    /// The collection was made for bodies of another schema.
    #[error(
        "the collection {collection:?} holds bodies of schema {stored:?}, not {asked:?}; open it with that schema, or \
         as CollectionOptions::any_schema"
    )]
    SchemaMismatch {
        /// The collection.
        collection: String,
        /// The schema it was made with.
        stored: String,
        /// The schema asked for.
        asked: String,
    },
    /// The collection's bodies have another codec than this build writes.
    #[error("the bodies of collection {collection:?} are encoded as {stored}, expected {expected}")]
    CodecMismatch {
        /// The collection.
        collection: String,
        /// The codec it was made with.
        stored: String,
        /// The codec of this build.
        expected: String,
    },
    /// The collection's fingerprints or embeddings have another width than asked for.
    #[error("the collection {collection:?} has {what} of {stored}, not of {asked}")]
    WidthMismatch {
        /// The collection.
        collection: String,
        /// Which: fingerprint bits or embedding dimensions.
        what: &'static str,
        /// The width it has.
        stored: u32,
        /// The width asked for.
        asked: u32,
    },
    /// The name cannot be a collection's.
    #[error("{name:?} cannot be the name of a collection: {reason}")]
    CollectionName {
        /// The name, cut after 64 characters.
        name: String,
        /// Why.
        reason: String,
    },
    /// The collection's record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What helps when the page file does not open.
fn pages_help(kind: ErrorKind) -> &'static str {
    match kind.as_str() {
        "missing-pages" => {
            "put the file back, or restore the whole store from a backup: the log alone is not the store"
        }
        "foreign-store" => "put back the file that belongs to this store",
        "newer-format" => "open the store with the build that wrote it",
        "damaged" => "restore the whole store from a backup",
        _ => "see that the file can be read",
    }
}

impl OpenError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::Setting(_) => "setting",
            Self::NotFound { .. } => "not-found",
            Self::AlreadyExists { .. } => "already-exists",
            Self::NotAStore { .. } => "not-a-store",
            Self::NewerFormat { .. } => "newer-format",
            Self::Locked { .. } => "locked",
            Self::NetworkVolume { .. } => "network-volume",
            Self::PagesBehind { .. } => "pages-behind",
            Self::LogBehind { .. } => "log-behind",
            Self::MissingRecords { .. } => "missing-records",
            Self::SchemaMismatch { .. } => "schema-mismatch",
            Self::CodecMismatch { .. } => "codec-mismatch",
            Self::WidthMismatch { .. } => "width-mismatch",
            Self::CollectionName { .. } => "collection-name",
            Self::Engine { kind, .. } | Self::Pages { kind, .. } => return *kind,
            Self::Read(error) => return error.kind(),
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        const DAMAGE: [&str; 7] =
            ["damaged", "missing-segment", "missing-pages", "foreign-store", "replay", "record", "identity"];
        match self {
            Self::Engine { kind, .. } | Self::Pages { kind, .. } => DAMAGE.contains(&kind.as_str()),
            Self::PagesBehind { .. } | Self::LogBehind { .. } | Self::MissingRecords { .. } => true,
            Self::Read(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Whether the disk has no room for what opening for writing writes; opening read-only needs none.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let first: Option<&(dyn Error + 'static)> = Some(self);
        std::iter::successors(first, |error| (*error).source())
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .any(|error| error.kind() == std::io::ErrorKind::StorageFull)
    }

    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Read(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The reader was ended because it held too much for too long.
    #[error("the reader was ended by the store; take a new snapshot")]
    ReaderAborted,
    /// No commit made this version.
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
    /// The version was there, and is no longer kept.
    #[error(
        "version {asked} is no longer kept; the oldest that is kept is {oldest} (a version with a name is kept, and a \
         longer retention keeps more)"
    )]
    HistoryGone {
        /// What was asked for.
        asked: Version,
        /// The oldest version that is kept for everybody.
        oldest: Version,
    },
    /// More readers are open than can be told apart.
    #[error("too many readers are open; close snapshots, iterators and transactions that are not needed")]
    TooManyReaders,
    /// No version has this name.
    #[error("no version is named {name:?}; `keepstone tag` names one")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// No branch has this name, or the handle is of one that was discarded.
    #[error(
        "there is no branch {name:?}, or it was discarded; `keepstone branch list` shows those there are"
    )]
    BranchNotFound {
        /// The name.
        name: String,
    },
    /// The handle belongs to another store.
    #[error("the handle belongs to store {found}, this is store {expected}")]
    WrongStore {
        /// The store that was read.
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
    /// A body is not of the type that was asked for.
    #[error("the body of {key:?} in collection {collection:?} is not a {expected}: {source}")]
    Body {
        /// The collection.
        collection: String,
        /// The node's key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// What the decoder says.
        source: Source,
    },
    /// A row is not what the store would have written.
    #[error("damage in table {table}, row {row}: {what}; `keepstone check` tells more")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row's key, readable.
        row: String,
        /// What is wrong.
        what: String,
    },
    /// Bytes of a file are not what was written there; the source says which file, page and byte.
    #[error("{source}")]
    DamagedFile {
        /// Where, expected and found.
        source: Source,
    },
    /// The disk could not be read.
    #[error("the store cannot be read: {source}")]
    Disk {
        /// The disk's own error, with path and operation.
        source: Source,
    },
    /// Two collections have names with the same 64-bit hash.
    #[error(
        "the collections {name:?} and {other:?} cannot be in one store: their names hash alike; rename one"
    )]
    CollectionClash {
        /// The name asked for.
        name: String,
        /// The collection that is there.
        other: String,
    },
    /// The layer below refused for a reason of its own.
    #[error(transparent)]
    Engine(Source),
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
            Self::TooManyReaders => "too-many-readers",
            Self::UnknownName { .. } => "unknown-name",
            Self::BranchNotFound { .. } => "branch-not-found",
            Self::WrongStore { .. } => "wrong-store",
            Self::Forked { .. } => "forked",
            Self::Body { .. } => "body",
            Self::Damaged { .. } => "damaged",
            Self::DamagedFile { .. } => "damaged-file",
            Self::Disk { .. } => "io",
            Self::CollectionClash { .. } => "collection-clash",
            Self::Engine(_) => "engine",
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedFile { .. })
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::VersionInFuture { .. } | Self::ReaderAborted | Self::TooManyReaders)
    }
}

/// Why a commit failed. Unless it is [`CommitError::OutcomeUnknown`], nothing of the transaction is or will be in the
/// store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A commit since this transaction's view wrote what this one read or wrote.
    #[error(
        "transaction {txn} conflicts with version {version}, which changed {key} ({table}); run it again"
    )]
    Conflict {
        /// This transaction's number within the process.
        txn: u64,
        /// What kind of row.
        table: String,
        /// Which row, readable.
        key: String,
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
        /// The disk's own error, with path and need.
        source: Source,
    },
    /// The disk failed while the commit was being written: only reopening tells whether it is there.
    #[error("whether the commit is stored is not known: {source}; reopen the store and look")]
    OutcomeUnknown {
        /// The disk's own error.
        source: Source,
    },
    /// An earlier commit met a failing disk; the store must be reopened.
    #[error("the store stopped accepting commits after a failure: {source}; reopen it")]
    Poisoned {
        /// The disk's own error.
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
    /// A change inside the transaction failed after part of it was written, and the transaction was committed
    /// nevertheless.
    #[error("a change inside the transaction failed half-way, so it cannot be committed; run it again")]
    Incomplete,
    /// The transaction exceeds a limit.
    #[error("the transaction is refused: {source}")]
    TooLarge {
        /// What exceeds which limit.
        source: Source,
    },
    /// The name cannot be given: it is too long, or stands for another version.
    #[error("the version cannot be named: {source}")]
    Name {
        /// Why.
        source: Source,
    },
    /// No version has this name.
    #[error("no version is named {name:?}")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The name cannot be a branch's.
    #[error("the branch cannot be forked: {source}")]
    BranchName {
        /// Why.
        source: Source,
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
    /// What the commit needed to read could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The layer below refused for a reason of its own.
    #[error("the commit is refused: {source}")]
    Engine {
        /// Why.
        source: Source,
        /// Its kind.
        kind: ErrorKind,
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
            Self::OutcomeUnknown { .. } => "commit-outcome-unknown",
            Self::Poisoned { .. } => "poisoned",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
            Self::Forked { .. } => "forked",
            Self::Incomplete => "incomplete",
            Self::TooLarge { .. } => "too-large",
            Self::Name { .. } => "version-name",
            Self::UnknownName { .. } => "unknown-name",
            Self::BranchExists { .. } => "branch-exists",
            Self::BranchName { .. } => "branch-name",
            Self::Read(error) => return error.kind(),
            Self::Engine { kind, .. } => return *kind,
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_damage())
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
}
