//! Snapshot files: a version of a store as files that can be copied away and restored elsewhere.

mod error;

use std::path::Path;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{StoreId, Timestamp, Version};
use keepstone_vfs::Vfs;

use crate::engine;
use crate::options::StoreOptions;
use crate::snapshot::At;
use crate::store::Store;
use crate::sync::Arc;

pub use error::SnapshotFileError;

/// What a snapshot file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFileInfo {
    /// Its name.
    pub name: String,
    /// The snapshot that it hangs on; `None` for a full one.
    pub parent: Option<String>,
    /// The store that it is of.
    pub store_id: StoreId,
    /// The version that it is of.
    pub version: Version,
    /// When that version was committed; the epoch if that was forgotten.
    pub time: Timestamp,
    /// Rows of the version, the store's own included: a node is one and more.
    pub rows: u64,
    /// Rows in the file that have a value: all of a full one, what changed in a delta.
    pub written: u64,
    /// Rows in the file that are deletions.
    pub deleted: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl SnapshotFileInfo {
    fn of(info: mvcc::SnapshotFileInfo) -> Self {
        Self {
            name: info.name,
            parent: info.parent,
            store_id: info.store_id,
            version: info.version,
            time: info.time,
            rows: info.rows,
            written: info.written,
            deleted: info.deleted,
            bytes: info.bytes,
        }
    }
}

/// A file of a folder: what it is, or why that cannot be told.
#[derive(Debug)]
#[non_exhaustive]
pub struct SnapshotEntry {
    /// Its name.
    pub name: String,
    /// What it is. Its rows are not verified: [`SnapshotFolder::verify`] does that.
    pub info: Result<SnapshotFileInfo, SnapshotFileError>,
}

/// What was read to verify a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotVerifyReport {
    /// Files of the chain.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows that came out.
    pub rows: u64,
}

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotPruneReport {
    /// Snapshots that were removed, in that order.
    pub removed: Vec<String>,
    /// Snapshots that were made full ones, because what they hung on went.
    pub consolidated: Vec<String>,
    /// Bytes of all snapshots before.
    pub bytes_before: u64,
    /// Bytes of all snapshots after.
    pub bytes_after: u64,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The id of the new store.
    pub store_id: StoreId,
    /// The version of the new store that has the content.
    pub version: Version,
    /// The store that the snapshot is of.
    pub source_id: StoreId,
    /// The version of that store that was restored.
    pub source_version: Version,
    /// Rows.
    pub rows: u64,
}

/// A folder of snapshot files: one file for each, full or what changed since another, its parent. Not a
/// [`Snapshot`](crate::Snapshot), which reads a version of an open store: a file lives without the store, can be copied away
/// with those it hangs on, and becomes a store again elsewhere.
///
/// It has what the nodes, links and collections of the version were; not the history, branches or tags of the store, nor its
/// settings. A handle: cheap to clone, to be sent anywhere.
///
/// ```
/// use keepstone::{SnapshotFolder, Store, StoreOptions};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path().join("store"))?;
/// let notes = store.collection::<String>("notes")?;
/// store.write(|txn| notes.put(txn, "plan", &"walk".to_string()))?;
///
/// let folder = SnapshotFolder::open(dir.path().join("snapshots"))?;
/// folder.create_full(&store, "monday", store.visible_version())?;
/// store.write(|txn| notes.put(txn, "plan", &"sleep".to_string()))?;
/// folder.create_delta(&store, "tuesday", "monday", store.visible_version())?;
///
/// folder.restore("monday", dir.path().join("again"), &StoreOptions::default())?;
/// let again = Store::open(dir.path().join("again"))?;
/// let notes = again.collection::<String>("notes")?;
/// assert_eq!(notes.get(&again, "plan")?.as_deref(), Some("walk"));
///
/// // What hangs on what goes is made whole first.
/// let pruned = folder.prune(|snapshot| snapshot.name == "tuesday")?;
/// assert_eq!((pruned.consolidated, pruned.removed), (vec!["tuesday".to_string()], vec!["monday".to_string()]));
/// folder.verify("tuesday")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnapshotFolder {
    inner: mvcc::SnapshotFolder,
}

impl SnapshotFolder {
    /// Snapshots of a chain, unless told otherwise: a full one and sixteen deltas.
    pub const CHAIN_LENGTH: u16 = mvcc::SnapshotFolder::CHAIN_LENGTH;

    /// Opens a folder for writing, and makes it if there is none.
    ///
    /// # Errors
    /// [`SnapshotFileError::Locked`] while another handle has it for writing, or when the disk fails.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, SnapshotFileError> {
        Self::open_with(Arc::new(keepstone_vfs::OsVfs::new()), dir.as_ref(), Self::CHAIN_LENGTH)
    }

    /// As [`open`](Self::open), on any file system. `chain_length` is how many snapshots a chain has at most, a full one and
    /// all deltas that lead to it, at least 1.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(vfs: Arc<dyn Vfs>, dir: &Path, chain_length: u16) -> Result<Self, SnapshotFileError> {
        let inner = mvcc::SnapshotFolder::open_with(vfs, dir, chain_length);
        Ok(Self { inner: inner.map_err(SnapshotFileError::of)? })
    }

    /// Opens a folder for reading: takes no lock and writes nothing. It may be on a medium that cannot be written to.
    #[must_use]
    pub fn open_to_read(dir: impl AsRef<Path>) -> Self {
        Self { inner: mvcc::SnapshotFolder::open_to_read(dir) }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.inner.dir()
    }

    /// All snapshots, sorted by name, those that are damaged too.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<SnapshotEntry>, SnapshotFileError> {
        let entries = self.inner.list().map_err(SnapshotFileError::of)?.into_iter();
        let entry = |entry: mvcc::SnapshotEntry| SnapshotEntry {
            name: entry.name,
            info: entry.info.map(SnapshotFileInfo::of).map_err(SnapshotFileError::of),
        };
        Ok(entries.map(entry).collect())
    }

    /// What a snapshot is.
    ///
    /// # Errors
    /// When there is none of this name, or its head, index or trailer is damaged.
    pub fn info(&self, name: &str) -> Result<SnapshotFileInfo, SnapshotFileError> {
        self.inner.info(name).map(SnapshotFileInfo::of).map_err(SnapshotFileError::of)
    }

    /// Reads a snapshot and everything that it hangs on, and holds what comes out against what was put in.
    ///
    /// # Errors
    /// When anything is missing or damaged.
    pub fn verify(&self, name: &str) -> Result<SnapshotVerifyReport, SnapshotFileError> {
        let report = self.inner.verify(name).map_err(SnapshotFileError::of)?;
        Ok(SnapshotVerifyReport { files: report.files, bytes: report.bytes, rows: report.rows })
    }

    /// Writes a version of a store, whole. The store goes on meanwhile.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, there is no such version, or a disk fails or is full.
    pub fn create_full(
        &self,
        store: &Store,
        name: &str,
        at: impl Into<At>,
    ) -> Result<SnapshotFileInfo, SnapshotFileError> {
        let version = store.resolve(at)?;
        let made = self.inner.create_full(&store.inner.database, name, Some(version));
        made.map(SnapshotFileInfo::of).map_err(SnapshotFileError::of)
    }

    /// Writes what changed in a store between another snapshot, the parent, and a version. The store need not keep the parent's
    /// version any more; while it does, the cost is that of what changed.
    ///
    /// # Errors
    /// As [`create_full`](Self::create_full), and [`SnapshotFileError::NotFound`] or [`SnapshotFileError::Damaged`] when there is
    /// no such parent, or one of another store or of a newer version, [`SnapshotFileError::ChainTooLong`].
    pub fn create_delta(
        &self,
        store: &Store,
        name: &str,
        parent: &str,
        at: impl Into<At>,
    ) -> Result<SnapshotFileInfo, SnapshotFileError> {
        let version = store.resolve(at)?;
        let made = self.inner.create_delta(&store.inner.database, name, parent, Some(version));
        made.map(SnapshotFileInfo::of).map_err(SnapshotFileError::of)
    }

    /// Makes a delta a full snapshot of the same name and version, without the store. What hangs on it stays valid.
    ///
    /// # Errors
    /// When anything that it hangs on is missing or damaged, or the disk fails or is full. It stays as it was then.
    pub fn consolidate(&self, name: &str) -> Result<SnapshotFileInfo, SnapshotFileError> {
        self.inner.consolidate(name).map(SnapshotFileInfo::of).map_err(SnapshotFileError::of)
    }

    /// Removes the snapshots that are not to be kept. One that is kept and hangs on one that goes is consolidated first.
    ///
    /// # Errors
    /// When a snapshot of the folder is damaged, or the disk fails or is full. What was done stands; nothing that is kept is
    /// ever without what it needs.
    pub fn prune(
        &self,
        mut keep: impl FnMut(&SnapshotFileInfo) -> bool,
    ) -> Result<SnapshotPruneReport, SnapshotFileError> {
        let pruned = self.inner.prune(|info| keep(&SnapshotFileInfo::of(info.clone())));
        let report = pruned.map_err(SnapshotFileError::of)?;
        Ok(SnapshotPruneReport {
            removed: report.removed,
            consolidated: report.consolidated,
            bytes_before: report.bytes_before,
            bytes_after: report.bytes_after,
        })
    }

    /// Makes a new store, in a folder that must be empty or missing, with the content of a snapshot. Everything that is read
    /// is verified before anything is written, and the folder is no store before all of it is there. What a restoration
    /// left that did not end is taken up. Of the options those count that a store is made with.
    ///
    /// # Errors
    /// When anything is missing or damaged, the folder holds something, or the disk fails or is full.
    pub fn restore(
        &self,
        name: &str,
        dir: impl AsRef<Path>,
        options: &StoreOptions,
    ) -> Result<RestoreReport, SnapshotFileError> {
        options.validate().map_err(crate::error::OpenError::from)?;
        let dir = dir.as_ref();
        let restored = self.inner.restore(name, dir, engine::options(options));
        let report = restored.map_err(|error| SnapshotFileError::of_restoring(dir, error))?;
        Ok(RestoreReport {
            store_id: report.store_id,
            version: report.version,
            source_id: report.source_id,
            source_version: report.source_version,
            rows: report.rows,
        })
    }
}
