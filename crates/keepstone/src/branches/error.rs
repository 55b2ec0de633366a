//! Why a merge failed.

use super::merging::MergeConflicts;
use crate::error::change::ChangeError;
use crate::error::{CommitError, ErrorKind};

/// Why a branch was not merged. Unless the outcome of the commit is unknown, the store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Both sides changed something, not alike, and the strategy leaves it undecided, or may not decide it.
    #[error("the branch cannot be merged: {0}; change the branch, or choose a strategy that decides")]
    Conflicts(MergeConflicts),
    /// Reading or committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A change failed.
    #[error(transparent)]
    Change(ChangeError),
}

impl MergeError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflicts(_) => ErrorKind("merge-conflicts"),
            Self::Commit(error) => error.kind(),
            Self::Change(error) => error.kind(),
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Conflicts(_) => false,
            Self::Commit(error) => error.is_retryable(),
            Self::Change(error) => error.is_retryable(),
        }
    }
}
