//! What can go wrong at the disk: every error keeps the path, the operation and the system's own cause.

use std::io;
use std::path::{Path, PathBuf};

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoOperation {
    /// Opening or creating a file.
    Open,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Making bytes durable.
    Sync,
    /// Asking for or changing a length.
    Length,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Listing a directory.
    List,
    /// Creating a directory.
    CreateDir,
    /// Making names durable.
    SyncDir,
    /// Locking.
    Lock,
    /// Asking about the volume.
    Volume,
}

impl IoOperation {
    /// The operation as a verb phrase, as in "cannot {verb} FILE".
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Length => "get or set the length of",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
            Self::CreateDir => "create the directory",
            Self::SyncDir => "sync the directory",
            Self::Lock => "lock",
            Self::Volume => "ask for the volume of",
        }
    }
}

/// A failed operation on a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {}: {source}", operation.verb(), path.display())]
#[non_exhaustive]
pub struct IoError {
    /// What was attempted.
    pub operation: IoOperation,
    /// On which path.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl IoError {
    /// An error of `operation` on `path`.
    #[must_use]
    pub fn new(operation: IoOperation, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_path_buf(), source }
    }

    /// A read that met the end of the file too early.
    #[must_use]
    pub fn short_read(path: &Path, offset: u64, wanted: usize, got: usize) -> Self {
        let text = format!("the file ends early: wanted {wanted} bytes at offset {offset}, found {got}");
        Self::new(IoOperation::Read, path, io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }

    /// A write that the system accepted without taking a byte.
    #[must_use]
    pub fn no_progress(path: &Path, offset: u64) -> Self {
        let text = format!("the system took no bytes at offset {offset}");
        Self::new(IoOperation::Write, path, io::Error::new(io::ErrorKind::WriteZero, text))
    }

    /// A file larger than the reader allows.
    #[must_use]
    pub fn too_large(path: &Path, len: u64, limit: u64) -> Self {
        let text = format!("the file has {len} bytes, at most {limit} are expected");
        Self::new(IoOperation::Read, path, io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// The system's kind of error.
    #[must_use]
    pub fn io_kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the path was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk, a quota or a size limit is exhausted.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(
            self.io_kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }

    /// The same failure once more, for those who waited on the operation that failed.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let source = match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        Self { operation: self.operation, path: self.path.clone(), source }
    }
}

/// A lock that could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process, or another caller in this one, holds it.
    #[error("{} is locked by {holder}", path.display())]
    Held {
        /// The lock's path.
        path: PathBuf,
        /// The holder's own line, or a phrase that says it is unknown.
        holder: String,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}
