//! The log's errors in the words of this crate.

use std::path::Path;

use keepstone_types::Version;
use keepstone_wal as wal;

use crate::branches::split_place;
use crate::catalog::TableId;
use crate::commit::window::Refusal;
use crate::error::{CommitError, ErrorKind, OpenError};
use crate::shared::Shared;

/// Why the log did not take a commit of a transaction that began at `began`.
pub(crate) fn commit_error(
    shared: &Shared,
    txn: u64,
    began: Version,
    error: wal::CommitError<Refusal>,
) -> CommitError {
    match error {
        wal::CommitError::Refused(refused) => refusal(shared, txn, began, refused),
        wal::CommitError::Full { waited } => CommitError::Full { waited },
        wal::CommitError::OutOfSpace { .. } => CommitError::OutOfSpace { source: error.to_string().into() },
        wal::CommitError::OutcomeUnknown { source } => {
            CommitError::CommitOutcomeUnknown { source: source.into() }
        }
        wal::CommitError::Poisoned { source, .. } => CommitError::Poisoned { source: source.into() },
        wal::CommitError::ReadOnly => CommitError::ReadOnly,
        wal::CommitError::Closed => CommitError::Closed,
        wal::CommitError::SideFile(source) if source.is_out_of_space() => {
            CommitError::OutOfSpace { source: source.into() }
        }
        wal::CommitError::SideFile(source) => CommitError::Log { source: source.into() },
        other => CommitError::Log { source: other.to_string().into() },
    }
}

/// Why a commit was not admitted.
pub(crate) fn refusal(shared: &Shared, txn: u64, began: Version, refused: Refusal) -> CommitError {
    match refused {
        Refusal::Conflict { key: (table, place), version } => {
            // A row of a branch is told by the table and key that it is of.
            let of_branch = split_place(&place).filter(|_| table == TableId::BRANCHES);
            let (table, key) = of_branch.map_or((table, &*place), |(_, table, key)| (table, key));
            let (table, key) = (shared.catalog.display_name(table), key.to_vec());
            CommitError::Conflict { txn, table, key, version }
        }
        Refusal::WindowExceeded { oldest } => CommitError::ConflictWindowExceeded { txn, began, oldest },
        Refusal::VersionsExhausted => CommitError::VersionsExhausted,
    }
}

/// Why the log could not be synced.
pub(crate) fn sync_error(error: wal::CloseError) -> CommitError {
    match error {
        wal::CloseError::Poisoned(source) => CommitError::Poisoned { source: source.into() },
        wal::CloseError::Closed => CommitError::Closed,
        wal::CloseError::ReadOnly => CommitError::ReadOnly,
        wal::CloseError::OutOfSpace { .. } => CommitError::OutOfSpace { source: error.into() },
        other => CommitError::Log { source: other.into() },
    }
}

/// Why the page file of the store in `dir` did not open.
pub(crate) fn pages_error(dir: &Path, error: keepstone_pager::OpenError) -> OpenError {
    use keepstone_pager::OpenError as E;
    let kind = match &error {
        E::Io(source) if source.is_not_found() => "missing-pages",
        E::Io(_) => "io",
        E::OtherStore { .. } => "foreign-store",
        E::NewerFormat { .. } | E::Features { .. } => "newer-format",
        _ => "damaged",
    };
    OpenError::Pages { dir: dir.to_path_buf(), kind: ErrorKind::new(kind), source: error.into() }
}

/// Why the log of the store in `dir` did not open. What the replay refused comes back as itself.
pub(crate) fn open_error(dir: &Path, error: wal::OpenError) -> OpenError {
    let dir = dir.to_path_buf();
    match error {
        wal::OpenError::Locked { holder, .. } => OpenError::Locked { dir, holder },
        wal::OpenError::Io(source) => OpenError::Io { dir, source: source.into() },
        wal::OpenError::Replay { lsn, source } => match source.downcast::<OpenError>() {
            Ok(own) => *own,
            Err(source) => OpenError::Record { lsn: lsn.get(), what: source.to_string() },
        },
        other => OpenError::Log { dir, kind: ErrorKind::new(other.kind()), source: other.into() },
    }
}
