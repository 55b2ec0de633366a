//! Errors of the transaction layer as errors of this crate.

use std::path::Path;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::NodeId;

use crate::error::close::CloseError;
use crate::error::{CommitError, ErrorKind, OpenError, ReadError};
use crate::layout;
use crate::maintenance::MaintenanceError;
use crate::store::StoreInner;

const fn kind(kind: mvcc::ErrorKind) -> ErrorKind {
    ErrorKind(kind.as_str())
}

pub(crate) fn open_error(dir: &Path, error: mvcc::OpenError) -> OpenError {
    let dir = dir.to_path_buf();
    match error {
        mvcc::OpenError::NotFound { .. } => OpenError::NotFound { dir },
        mvcc::OpenError::AlreadyExists { .. } => OpenError::AlreadyExists { dir },
        mvcc::OpenError::NotAStore { .. } => OpenError::NotAStore { dir, source: Box::new(error) },
        mvcc::OpenError::NewerFormat { .. } => OpenError::NewerFormat { dir, source: Box::new(error) },
        mvcc::OpenError::Locked { holder, .. } => OpenError::Locked { dir, holder },
        mvcc::OpenError::NetworkVolume { protocol, .. } => OpenError::NetworkVolume { dir, protocol },
        mvcc::OpenError::NotYet { .. } => OpenError::NewerFormat { dir, source: Box::new(error) },
        mvcc::OpenError::Pages { source, kind: below, .. } => {
            OpenError::Pages { dir, source, kind: kind(below) }
        }
        mvcc::OpenError::PagesBehind { expected, found, .. } => {
            OpenError::PagesBehind { dir, expected, found }
        }
        mvcc::OpenError::LogBehind { expected, found, .. } => OpenError::LogBehind { dir, expected, found },
        mvcc::OpenError::MissingRecords { expected, found } => {
            OpenError::MissingRecords { dir, expected, found }
        }
        other => OpenError::Engine { dir, kind: kind(other.kind()), source: Box::new(other) },
    }
}

pub(crate) fn read_error(error: mvcc::ReadError) -> ReadError {
    match error {
        mvcc::ReadError::Closed => ReadError::Closed,
        mvcc::ReadError::ReaderAborted => ReadError::ReaderAborted,
        mvcc::ReadError::UnknownVersion { asked, nearest } => ReadError::UnknownVersion { asked, nearest },
        mvcc::ReadError::VersionInFuture { asked, newest } => ReadError::VersionInFuture { asked, newest },
        mvcc::ReadError::HistoryGone { asked, oldest } => ReadError::HistoryGone { asked, oldest },
        mvcc::ReadError::BranchNotFound { name } => ReadError::BranchNotFound { name },
        mvcc::ReadError::TooManyReaders => ReadError::TooManyReaders,
        mvcc::ReadError::Damaged { source } => ReadError::DamagedFile { source: Box::new(source) },
        mvcc::ReadError::Disk { source } => ReadError::Disk { source: Box::new(source) },
        mvcc::ReadError::WrongStore { expected, found } => ReadError::WrongStore { expected, found },
        mvcc::ReadError::Forked { opened_by, here } => ReadError::Forked { opened_by, here },
        other => ReadError::Engine(Box::new(other)),
    }
}

pub(crate) fn commit_error(error: mvcc::CommitError) -> CommitError {
    use mvcc::CommitError as E;
    match error {
        E::Conflict { txn, table, key, version } => {
            let key = readable(&table, &key, &|id| format!("node {id}"));
            CommitError::Conflict { txn, key, table: table.to_string(), version }
        }
        E::ConflictWindowExceeded { txn, began, oldest } => {
            CommitError::ConflictWindowExceeded { txn, began, oldest }
        }
        E::Full { waited } => CommitError::Full { waited },
        E::OutOfSpace { source } => CommitError::OutOfSpace { source },
        E::CommitOutcomeUnknown { source } => CommitError::OutcomeUnknown { source },
        E::Poisoned { source } => CommitError::Poisoned { source },
        E::ReadOnly => CommitError::ReadOnly,
        E::Closed => CommitError::Closed,
        E::Forked { opened_by, here } => CommitError::Forked { opened_by, here },
        error @ (E::ValueTooLarge { .. } | E::KeyTooLong { .. }) => {
            CommitError::TooLarge { source: Box::new(error) }
        }
        error @ (E::VersionName { .. } | E::NameTaken { .. }) => {
            CommitError::Name { source: Box::new(error) }
        }
        E::UnknownName { name } => CommitError::UnknownName { name },
        error @ E::BranchName { .. } => CommitError::BranchName { source: Box::new(error) },
        E::BranchExists { name, base } => CommitError::BranchExists { name, base },
        E::Read(error) => CommitError::Read(read_error(error)),
        other => CommitError::Engine { kind: kind(other.kind()), source: Box::new(other) },
    }
}

pub(crate) fn maintenance_error(error: mvcc::CheckpointError) -> MaintenanceError {
    use mvcc::CheckpointError as E;
    match error {
        E::OutOfSpace { source } => MaintenanceError::OutOfSpace { source },
        E::Poisoned { source } => MaintenanceError::Poisoned { source },
        E::Pages { source } => MaintenanceError::Pages { source },
        E::Log { source } => MaintenanceError::Log { source },
        E::ReadOnly => MaintenanceError::ReadOnly,
        E::Closed => MaintenanceError::Closed,
        other => MaintenanceError::Engine { kind: kind(other.kind()), source: Box::new(other) },
    }
}

pub(crate) fn close_error(error: mvcc::CloseError) -> CloseError {
    match error {
        mvcc::CloseError::AlreadyClosed => CloseError::AlreadyClosed,
        other => CloseError::Engine { kind: kind(other.kind()), source: Box::new(other) },
    }
}

/// As [`commit_error`], with the nodes of a conflict named by their keys where they still have one.
pub(crate) fn named_commit_error(store: &StoreInner, error: mvcc::CommitError) -> CommitError {
    let mvcc::CommitError::Conflict { txn, table, key, version } = error else {
        return commit_error(error);
    };
    let name = |id: NodeId| {
        let record = store.view().ok().and_then(|view| view.record(id).ok().flatten());
        record.map_or_else(|| format!("node {id}"), |record| format!("{:?}", record.key))
    };
    CommitError::Conflict { txn, key: readable(&table, &key, &name), table: table.to_string(), version }
}

/// The key of a row as a person can read it; `name` says what a node is called.
fn readable(table: &str, row: &[u8], name: &dyn Fn(NodeId) -> String) -> String {
    let link = |from, verb, to| format!("link {} {verb:?} {}", name(from), name(to));
    let parsed = match table {
        layout::KEYS => layout::parse_key_row(row).map(|(_, key)| format!("{key:?}")),
        layout::NODES | layout::FINGERPRINTS | layout::EMBEDDINGS => layout::parse_id(row).map(name),
        layout::LINKS_OUT => layout::parse_link_row(row).map(|(from, verb, to)| link(from, verb, to)),
        layout::LINKS_IN => layout::parse_link_row(row).map(|(to, verb, from)| link(from, verb, to)),
        layout::ADDRESSES => layout::parse_address_row(row).map(|address| format!("address {address}")),
        _ => None,
    };
    parsed.unwrap_or_else(|| row.escape_ascii().to_string())
}
