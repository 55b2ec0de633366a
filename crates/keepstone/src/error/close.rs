//! Why closing was not clean.

use crate::error::{ErrorKind, Source};

/// Why closing was not clean. The store is closed nevertheless, and what was committed is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Another handle closed it before.
    #[error("the store was already closed")]
    AlreadyClosed,
    /// The clean close could not be written; the next open recovers.
    #[error("the store did not close cleanly: {source}")]
    Engine {
        /// Why.
        source: Source,
        /// Its kind.
        kind: ErrorKind,
    },
}

impl CloseError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyClosed => ErrorKind("already-closed"),
            Self::Engine { kind, .. } => *kind,
        }
    }

    /// Closing is done once: never.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}
