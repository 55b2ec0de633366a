//! Why a snapshot file was not written, read, restored or removed.

use std::path::{Path, PathBuf};

use keepstone_vfs::IoError;
use keepstone_xor_dag::chain::PlaceError;

use crate::error::{CheckpointError, CommitError, ErrorKind, OpenError, ReadError, Source};

/// Why something about snapshot files failed. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFileError {
    /// The disk failed.
    #[error("{source}")]
    Io {
        /// The disk's own error, with path and operation.
        source: Source,
    },
    /// The disk is full; nothing of the snapshot is left.
    #[error("there is no room for the snapshot: {source}")]
    OutOfSpace {
        /// The disk's own error, with path and operation.
        source: Source,
    },
    /// The bytes of a file are not those that were written.
    #[error(
        "{}, byte {offset}: {what} is damaged: expected {expected}, found {found}; copy the file again, or make another \
         snapshot", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The file is of a newer Keepstone.
    #[error(
        "{} has format {found} with features {features:#x}, expected at most format {supported}; use a newer Keepstone",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest that this build reads.
        supported: u32,
        /// The features that this build does not know.
        features: u64,
    },
    /// The name cannot be a snapshot's.
    #[error("{name:?} cannot be the name of a snapshot: {reason}")]
    Name {
        /// The name, its beginning.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A snapshot of that name is there.
    #[error("there is a snapshot named {name:?} already; choose another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Somebody else is writing or removing the snapshot.
    #[error("the snapshot {name:?} is being written or removed; try again later")]
    Busy {
        /// The name.
        name: String,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot named {name:?} in {}", dir.display())]
    NotFound {
        /// The folder.
        dir: PathBuf,
        /// The name.
        name: String,
    },
    /// A delta names a parent that is not in the folder.
    #[error(
        "the parent {parent:?} of the snapshot {name:?} was not found; copy it beside it, or make a full snapshot"
    )]
    ParentNotFound {
        /// The delta.
        name: String,
        /// Its parent.
        parent: String,
    },
    /// What is there under the parent's name is not what the delta was made against.
    #[error(
        "the parent {parent:?} of the snapshot {name:?} is another one: {what} is {found}, expected {expected}"
    )]
    WrongParent {
        /// The delta.
        name: String,
        /// Its parent.
        parent: String,
        /// What differs.
        what: &'static str,
        /// What the delta was made against.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The chain is full, with what others are writing.
    #[error(
        "the chain would have {length} snapshots, expected at most {max}; make a full one, or consolidate one of the chain"
    )]
    ChainTooLong {
        /// Snapshots with the one that was asked for.
        length: usize,
        /// Snapshots of a chain, at most.
        max: usize,
    },
    /// The snapshot cannot go before what hangs on it.
    #[error("{dependents} snapshots are being made on {name:?}, expected none; try again later")]
    HasDependents {
        /// The snapshot.
        name: String,
        /// How many hang on it.
        dependents: usize,
    },
    /// Another process, or another handle in this one, has the folder for writing.
    #[error("{} is locked by {holder}", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The folder was opened for reading.
    #[error("the snapshots in {} were opened only for reading", dir.display())]
    ReadOnly {
        /// The folder.
        dir: PathBuf,
    },
    /// A chain is whole, and yields something else than was snapshot.
    #[error(
        "the snapshot {name:?} does not yield what it was made of: {what} is {found}, expected {expected}"
    )]
    WrongContent {
        /// The snapshot.
        name: String,
        /// What differs.
        what: &'static str,
        /// As the snapshot says.
        expected: String,
        /// What came out.
        found: String,
    },
    /// Reading the store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Writing to the store failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Folding what was restored failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl SnapshotFileError {
    /// The stable name of the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::new(match self {
            Self::Io { .. } => "io",
            Self::OutOfSpace { .. } => "out-of-space",
            Self::Damaged { .. } => "damaged",
            Self::NewerFormat { .. } => "newer-format",
            Self::Name { .. } => "snapshot-name",
            Self::NameTaken { .. } => "name-taken",
            Self::Busy { .. } => "busy",
            Self::NotFound { .. } => "snapshot-not-found",
            Self::ParentNotFound { .. } => "parent-not-found",
            Self::WrongParent { .. } => "wrong-parent",
            Self::ChainTooLong { .. } => "chain-too-long",
            Self::HasDependents { .. } => "has-dependents",
            Self::Locked { .. } => "locked",
            Self::ReadOnly { .. } => "read-only",
            Self::WrongContent { .. } => "wrong-content",
            Self::Read(error) => return error.kind(),
            Self::Open(error) => return error.kind(),
            Self::Commit(error) => return error.kind(),
            Self::Checkpoint(error) => return error.kind(),
        })
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfSpace { .. }
            | Self::Busy { .. }
            | Self::HasDependents { .. }
            | Self::Locked { .. } => true,
            Self::Read(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<IoError> for SnapshotFileError {
    fn from(error: IoError) -> Self {
        if error.is_out_of_space() {
            Self::OutOfSpace { source: error.into() }
        } else {
            Self::Io { source: error.into() }
        }
    }
}

/// A place of a chain that cannot be claimed, or an entry that cannot go.
pub(super) fn place_error(error: PlaceError, name: &str, parent: &str) -> SnapshotFileError {
    let (name, parent) = (name.to_owned(), parent.to_owned());
    match error {
        PlaceError::ChainTooLong { length, max } => SnapshotFileError::ChainTooLong { length, max },
        PlaceError::NameTaken => SnapshotFileError::NameTaken { name },
        PlaceError::HasDependents { dependents } => SnapshotFileError::HasDependents { name, dependents },
        _ => SnapshotFileError::ParentNotFound { name, parent },
    }
}

/// Damage at a place of a file.
pub(super) fn damaged(
    path: &Path,
    offset: u64,
    what: &'static str,
    expected: impl ToString,
    found: impl ToString,
) -> SnapshotFileError {
    let (expected, found) = (expected.to_string(), found.to_string());
    SnapshotFileError::Damaged { path: path.to_path_buf(), offset, what, expected, found }
}
