//! Why something about snapshot files failed.

use keepstone_mvcc_temporal as mvcc;

use crate::error::map::{commit_error, open_error, read_error};
use crate::error::{CommitError, ErrorKind, OpenError, ReadError, Source};

/// Why something about snapshot files failed. What was there before is as it was; nothing of a new snapshot is left, and no
/// folder is a store that was not restored whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFileError {
    /// A file is damaged, or is not what another was made against, or a chain yields something else than was put in.
    #[error("{source}")]
    Damaged {
        /// Which, where, expected and found, and what helps.
        source: Source,
        /// The stable name of the kind.
        kind: ErrorKind,
    },
    /// There is no such snapshot, or one that it hangs on is missing.
    #[error("{source}")]
    NotFound {
        /// Which.
        source: Source,
        /// The stable name of the kind.
        kind: ErrorKind,
    },
    /// The chain is full, with what others are making.
    #[error(
        "the chain would have {length} snapshots, expected at most {max}; make a full one, or consolidate one of the chain"
    )]
    ChainTooLong {
        /// Snapshots with the one that was asked for.
        length: usize,
        /// Snapshots of a chain, at most.
        max: usize,
    },
    /// Another process, or another handle in this one, has the folder for writing.
    #[error("{source}")]
    Locked {
        /// Which folder, and who.
        source: Source,
    },
    /// Reading the store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store to restore into could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Writing to the store failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A disk failed or is full, or what was asked for makes no sense.
    #[error("{source}")]
    Other {
        /// What happened.
        source: Source,
        /// The stable name of the kind.
        kind: ErrorKind,
        /// Whether the same call may succeed later.
        is_retryable: bool,
    },
}

impl SnapshotFileError {
    pub(super) fn of(error: mvcc::SnapshotFileError) -> Self {
        use mvcc::SnapshotFileError as E;
        let kind = ErrorKind(error.kind().as_str());
        match error {
            E::ChainTooLong { length, max } => Self::ChainTooLong { length, max },
            E::Read(error) => Self::Read(read_error(error)),
            E::Commit(error) => Self::Commit(commit_error(error)),
            E::Locked { .. } => Self::Locked { source: Box::new(error) },
            E::Damaged { .. } | E::WrongParent { .. } | E::WrongContent { .. } => {
                Self::Damaged { source: Box::new(error), kind }
            }
            E::NotFound { .. } | E::ParentNotFound { .. } => Self::NotFound { source: Box::new(error), kind },
            other => Self::Other { kind, is_retryable: other.is_retryable(), source: Box::new(other) },
        }
    }

    /// An error of restoring into a folder.
    pub(super) fn of_restoring(dir: &std::path::Path, error: mvcc::SnapshotFileError) -> Self {
        match error {
            mvcc::SnapshotFileError::Open(error) => Self::Open(open_error(dir, error)),
            other => Self::of(other),
        }
    }

    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged { kind, .. } | Self::NotFound { kind, .. } | Self::Other { kind, .. } => *kind,
            Self::ChainTooLong { .. } => ErrorKind("chain-too-long"),
            Self::Locked { .. } => ErrorKind("locked"),
            Self::Read(error) => error.kind(),
            Self::Open(error) => error.kind(),
            Self::Commit(error) => error.kind(),
        }
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Read(error) => error.is_damage(),
            Self::Open(error) => error.is_damage(),
            Self::Commit(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Other { is_retryable, .. } => *is_retryable,
            Self::Read(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}
