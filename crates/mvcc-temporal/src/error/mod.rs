//! The errors, one enum per phase: opening, reading, committing, merging, checkpoints, closing.
//!
//! Each has a stable [`ErrorKind`] and says whether trying again can help. An error of the log or the disk is kept as
//! the source.

mod checkpoint;
mod commit;
mod merge;
mod open;
mod read;

use std::error::Error;
use std::sync::Arc;

pub use checkpoint::CheckpointError;
pub use commit::{CommitError, WriteError};
pub use merge::MergeError;
pub use open::OpenError;
pub use read::ReadError;

/// The cause below an error, whichever crate it came from.
pub type Source = Box<dyn Error + Send + Sync>;

/// The cause of a failed read: shared, because one failure may be told to many, and compared by what it says.
#[derive(Clone, Debug)]
pub struct PageSource(Arc<dyn Error + Send + Sync>);

impl PageSource {
    pub(crate) fn new(source: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl std::fmt::Display for PageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for PageSource {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl PartialEq for PageSource {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for PageSource {}

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
