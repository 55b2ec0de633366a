//! Why maintenance was not done.

use keepstone_btree::TreeError;
use keepstone_pager::PageError;

use super::{ErrorKind, ReadError, Source};

/// Why a checkpoint, or another piece of maintenance, was not done. What it had done stands, and the next goes on from
/// there; nothing is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk has no room for new pages. Room is needed for what changes even to delete.
    #[error("no room for a checkpoint: {source}")]
    OutOfSpace {
        /// The page file's own error.
        source: Source,
    },
    /// The page file takes no more writes after a failed sync; the store must be reopened.
    #[error("the store stopped writing pages after a failure: {source}; reopen it")]
    Poisoned {
        /// The page file's own error.
        source: Source,
    },
    /// The page file could not be read or written.
    #[error("the page file refused: {source}")]
    Pages {
        /// The page file's own error.
        source: Source,
    },
    /// The log could not be synced, marked or released.
    #[error("the log refused: {source}")]
    Log {
        /// The log's own error.
        source: Source,
    },
    /// The file of a large commit, all of it folded, could not be removed; the next checkpoint tries again.
    #[error("a run that is folded could not be removed: {source}")]
    Runs {
        /// The disk's own error.
        source: Source,
    },
    /// The store was opened without a page file.
    #[error("the store has no page file")]
    NoPages,
    /// The store is open read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl CheckpointError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind(match self {
            Self::OutOfSpace { .. } => "out-of-space",
            Self::Poisoned { .. } => "poisoned",
            Self::Pages { .. } => "pages",
            Self::Log { .. } => "log",
            Self::Runs { .. } => "runs",
            Self::NoPages => "no-pages",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
        })
    }

    /// Whether bytes on disk are not what was written there.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let Self::Pages { source } = self else { return false };
        let pages = source.downcast_ref::<PageError>().is_some_and(PageError::is_damage);
        let trees = source.downcast_ref::<TreeError>().is_some_and(TreeError::is_damage);
        let reads = source.downcast_ref::<ReadError>();
        pages || trees || reads.is_some_and(|error| matches!(error, ReadError::Damaged { .. }))
    }

    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::OutOfSpace { .. })
    }

    pub(crate) fn from_page(error: PageError) -> Self {
        match error {
            PageError::OutOfSpace { .. } => Self::OutOfSpace { source: error.into() },
            PageError::Poisoned => Self::Poisoned { source: error.into() },
            other => Self::Pages { source: other.into() },
        }
    }

    pub(crate) fn from_tree(error: TreeError) -> Self {
        match error {
            TreeError::Page(error) => Self::from_page(error),
            other => Self::Pages { source: other.into() },
        }
    }
}

impl From<ReadError> for CheckpointError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            other => Self::Pages { source: other.into() },
        }
    }
}
