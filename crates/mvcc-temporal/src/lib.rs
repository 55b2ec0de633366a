//! Transactions, isolation, versions and time travel over a write-ahead log and a page file.
//!
//! **Concept.** A [`Database`] holds tables of keys and values. [`write`](Database::write) runs a closure in a [`Txn`] and
//! commits it; each commit makes a [`Version`](keepstone_types::Version). What can be read, now or then, is read through one
//! trait, [`Read`]: the database, a [`Snapshot`], a transaction with its own writes, a [`Branch`] forked at a version, with
//! writes that nobody else sees until they are merged. A checkpoint folds what was committed into the page file, a slice at a
//! time, and lets the log go. Older versions are kept as long as retention says, and named or forked ones for good.
//!
//! **Guarantees.** What `commit` acknowledged is as durable as was asked, and visible to the next `begin`; nothing uncommitted
//! ever is. Queue order is version order, log order and publication order. Serializable by default, phantoms and reads of
//! what was absent included. Readers wait for nobody. Errors are typed; [`CommitError::CommitOutcomeUnknown`] is the only one
//! after which a commit may be there.
//!
//! **Limits.** What a transaction reads must fit in memory; what it writes goes to files beside the store when it is much.
//!
//! ```
//! use keepstone_mvcc_temporal::{Database, DatabaseOptions, Read, WriteError};
//!
//! let dir = tempfile::tempdir()?;
//! let database = Database::open(dir.path(), DatabaseOptions::default())?;
//! let first = database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("notes", "stone", b"grey".as_slice())?) })?;
//! database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("notes", "stone", b"green".as_slice())?) })?;
//! assert_eq!(database.get("notes", "stone")?.unwrap(), b"green");
//! let then = database.snapshot_at(first.version.unwrap())?;
//! assert_eq!(then.get("notes", "stone")?.unwrap(), b"grey");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod branches;
mod catalog;
mod check;
mod checkpoint;
mod commit;
mod database;
mod error;
#[cfg(test)]
mod format_doc;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod ground;
mod history;
mod identity;
mod key_range;
mod layers;
mod limits;
mod log;
mod maintenance;
mod memtable;
mod merge;
mod names;
mod open;
mod options;
mod portable;
mod read;
mod read_set;
mod readers;
mod runs;
mod scan;
mod shared;
mod snapshot;
mod stats;
mod sync;
mod txn;
mod write_set;
#[doc(hidden)]
pub mod wrong;

pub use branches::{Branch, BranchChange, BranchDiff, BranchInfo};
pub use branches::{MergeConflict, MergeConflicts, MergeReport, MergeStrategy, Resolution};
pub use check::{CheckReport, Finding};
pub use checkpoint::pace::{Recommendation, ReconcilerStats, simulation};
pub use database::{Committed, Database};
pub use error::{
    CheckpointError, CloseError, CommitError, ErrorKind, MergeError, OpenError, PageSource, ReadError,
    Source, WriteError,
};
pub use history::{Change, CommitInfo, Commits, Diff, History, HistoryEntry};
pub use keepstone_pager::{OpenReport as PagesReport, PageStats, ScrubFinding, SlotUsage};
pub use keepstone_wal::{Durability, LogOptions, LogStats, RecoveryReport, Tending};
pub use key_range::KeyRange;
pub use limits::{KEY_LEN_MAX, TABLE_NAME_LEN_MAX, TABLES_MAX, VALUE_LEN_MAX, VERSION_NAME_LEN_MAX};
pub use maintenance::{CompactReport, GcReport, ScrubOptions, ScrubProgress, ScrubReport};
pub use names::NamedVersion;
pub use options::{Access, CheckpointOptions, DatabaseOptions, Existence};
pub use options::{HistoryCoding, Recovery, Retention};
pub use portable::{RestoreReport, SnapshotEntry, SnapshotFileError, SnapshotFileInfo};
pub use portable::{SnapshotFolder, SnapshotPruneReport, VerifyReport};
pub use read::{Read, VersionedValue};
pub use readers::ReaderAllowance;
pub use scan::{KeyValue, Scan};
pub use snapshot::Snapshot;
pub use stats::{DatabaseStats, LatencyStats};
pub use txn::{Isolation, PendingCommit, Receipt, Txn, TxnOptions};
