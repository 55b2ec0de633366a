//! Why a store could not be opened.

use std::path::PathBuf;

use keepstone_types::Version;

use super::{ErrorKind, Source};

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
    /// The page file could not be opened.
    #[error("the page file of {} cannot be opened: {source}", dir.display())]
    Pages {
        /// The store's folder.
        dir: PathBuf,
        /// The page file's own error.
        source: Source,
        /// The page file's own kind of error.
        kind: ErrorKind,
    },
    /// The log ends before what the page file has of it.
    #[error(
        "the log of {} ends at version {found}, but the page file has rows through version {expected}; restore the log, \
         or the whole store, from a backup",
        dir.display()
    )]
    LogBehind {
        /// The store's folder.
        dir: PathBuf,
        /// The version that the page file has rows of.
        expected: Version,
        /// The last version in the log.
        found: Version,
    },
    /// The log begins after what the page file needs of it.
    #[error(
        "the log begins at record {found}, but the page file needs it from record {expected} on; restore the page file, \
         or the whole store, from a backup"
    )]
    MissingRecords {
        /// The record that is needed.
        expected: u64,
        /// The first record that is there.
        found: u64,
    },
    /// The page file is older than what the log says was completed.
    #[error(
        "the page file of {} is at generation {found}, but the log says that generation {expected} was completed; \
         restore the page file, or the whole store, from a backup",
        dir.display()
    )]
    PagesBehind {
        /// The store's folder.
        dir: PathBuf,
        /// The generation that the log names.
        expected: u64,
        /// The newest generation in the page file.
        found: u64,
    },
    /// A record that the log proved whole is not what the store would have written.
    #[error("the log's record {lsn} is not a valid commit: {what}; `keepstone check` tells more")]
    Record {
        /// The record's number.
        lsn: u64,
        /// What is wrong.
        what: String,
    },
    /// The file of a large commit that the log names is missing, damaged or another.
    #[error("the log's record {lsn} names {}, which cannot be opened: {source}; restore it, or the whole store, from a backup", file.display())]
    Run {
        /// The record's number.
        lsn: u64,
        /// The file.
        file: PathBuf,
        /// Why.
        source: Source,
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
            Self::Log { kind, .. } | Self::Pages { kind, .. } => return *kind,
            Self::PagesBehind { .. } => "pages-behind",
            Self::LogBehind { .. } => "log-behind",
            Self::MissingRecords { .. } => "missing-records",
            Self::Run { .. } => "run",
            Self::Io { .. } => "io",
            Self::Random { .. } => "random",
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Identity { .. }
            | Self::Record { .. }
            | Self::Run { .. }
            | Self::PagesBehind { .. }
            | Self::LogBehind { .. }
            | Self::MissingRecords { .. } => true,
            Self::Log { kind, .. } | Self::Pages { kind, .. } => {
                matches!(kind.0, "damaged" | "missing-segment" | "foreign-store" | "missing-pages")
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}
