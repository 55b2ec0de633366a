//! Keepstone: an embedded store of nodes, links, fingerprints and embeddings; every commit is a version to be read again.
//!
//! **Concept.** A [`Store`] holds [`Collection`]s of [`Node`]s: a body of any serde type under a key, with id, label, numbers,
//! [`Fingerprint`] and embedding, and [`Link`]s with a verb and a weight, readable from both ends. [`Store::write`] changes any
//! number in one transaction; [`Read`] reads through the store (now), a [`Snapshot`] (then), a [`Txn`] or a [`Branch`] (what if).
//!
//! **Guarantees.** When a commit returns it is on stable storage (at `Durability::Normal`, the default) and visible. It is
//! serializable unless told otherwise. Both ends of a link change, and end, in one commit. A reader sees one version, whole.
//!
//! **Limits.** Old versions stay as the [`Retention`] says; one process writes at a time; [`limits`] has what is refused.
//! ```
//! use keepstone::{NodePatch, Store};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path())?;
//! let stones = store.collection::<String>("stones")?;
//! let made = store.write(|txn| {
//!     stones.put_node(txn, "granite", &NodePatch::body("grey".to_string()).label("Granite").embedding([0.9, 0.1]))?;
//!     stones.link(txn, "granite", "contains", "quartz", 0.3)
//! })?;
//! assert_eq!(store.diff(Default::default(), made.version.unwrap())?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod address;
mod body;
mod branches;
mod catalog;
mod change;
mod check;
mod collection;
mod engine;
mod error;
mod events;
#[cfg(test)]
mod format_test;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod histogram;
mod history;
mod ids;
mod iter;
mod layout;
pub mod limits;
mod link;
mod linking;
mod maintenance;
mod node;
mod options;
mod read;
mod record;
mod recovery;
mod settings;
mod snapshot;
mod snapshot_files;
mod stats;
mod store;
mod sync;
mod txn;
mod versions;

pub use address::{AddressContent, SurfaceOperation};
pub use branches::{Branch, BranchInfo, Choice, ConflictKind};
pub use branches::{MergeConflict, MergeConflicts, MergeError, MergeReport, MergeStrategy};
pub use check::{CheckReport, Finding};
pub use collection::{Collection, CollectionInfo, CollectionOptions};
pub use error::change::{ChangeError, WriteError};
pub use error::close::CloseError;
pub use error::{CommitError, ErrorKind, OpenError, ReadError, Source};
pub use events::{Event, Events};
pub use histogram::Latency;
pub use history::{History, HistoryEntry};
pub use iter::{Keys, Links, Nodes};
pub use keepstone_types::{
    Address, AddressRegion, Clock, Fingerprint, FingerprintError, ManualClock, NodeId, ParseAddressError,
    ParseIdError, ParseVersionError, StoreId, SystemClock, Timeline, Timestamp, Version,
};
pub use keepstone_vfs::{MemoryVfs, OsVfs, Vfs};
pub use link::{Direction, Link};
pub use maintenance::{CheckpointReport, CompactReport, GcReport, MaintenanceError, RepairReport};
pub use maintenance::{ScrubOptions, ScrubProgress, ScrubReport};
pub use node::{Node, NodePatch};
pub use options::{Access, Durability, Existence, HistoryCoding, Parity};
pub use options::{ParseRetentionError, Recovery, Retention, StoreOptions};
pub use read::Read;
pub use recovery::RecoveryReport;
pub use settings::{Range, SettingError, SettingInfo, SettingWarning};
pub use snapshot::{At, Snapshot};
pub use snapshot_files::{RestoreReport, SnapshotEntry, SnapshotFileError, SnapshotFileInfo};
pub use snapshot_files::{SnapshotFolder, SnapshotPruneReport, SnapshotVerifyReport};
pub use stats::{Operation, Recommendation, ReconcilerStats, Stats};
pub use store::Store;
pub use txn::{Committed, Isolation, PendingCommit, Receipt, Txn, TxnOptions};
pub use versions::{ChangeKind, NodeChange, Tag, VersionInfo};
