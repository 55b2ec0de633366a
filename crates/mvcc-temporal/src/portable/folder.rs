//! A folder of snapshot files: making, listing and verifying them.
//!
//! Invariants:
//! * One handle at a time has a folder for writing, by a lock of the file system; its clones share which places of chains are
//!   taken. So the length of a chain holds across threads and processes.
//! * A file is written under a name that does not count, synced, renamed, and the folder synced. Whoever opens for writing
//!   removes what is left of files that were not finished: nobody else can be writing them.
//! * A name is reserved before its place is claimed, and that before anything is written. Both go back, and the file under
//!   the name that does not count goes, on every way out but the good one.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use keepstone_types::{StoreId, Timestamp, Version, lock_rank};
use keepstone_vfs::{LockError, OsVfs, Vfs, VfsExt as _, VfsLock};
use keepstone_xor_dag::chain::{ChainLength, Place as ChainPlace, Places};

use super::chain::{Chain, FindFile};
use super::create::{Source, write_delta, write_full};
use super::error::{SnapshotFileError, place_error};
use super::file::{FileWriter, OpenFile};
use super::head::{Head, ParentRef};
use super::names::{STAGED_SUFFIX, SUFFIX, file_stem, name_of};
use crate::database::Database;
use crate::error::{OpenError, Source as Cause};
use crate::open::Place;
use crate::sync::{Arc, Mutex};

/// The lock file of a folder.
const LOCK_NAME: &str = "LOCK";

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
    /// Tables of the version.
    pub tables: u64,
    /// Rows of the version.
    pub rows: u64,
    /// Rows in the file that have a value: all of a full one, what changed in a delta.
    pub written: u64,
    /// Rows in the file that are deletions.
    pub deleted: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl SnapshotFileInfo {
    pub(super) fn of(file: &OpenFile) -> Self {
        let (head, trailer) = (&file.head, &file.trailer);
        Self {
            name: head.name.clone(),
            parent: head.parent.as_ref().map(|parent| parent.name.clone()),
            store_id: head.store_id,
            version: head.version,
            time: head.time,
            tables: trailer.tables.into(),
            rows: trailer.content.rows,
            written: trailer.puts,
            deleted: trailer.deletions,
            bytes: file.len,
        }
    }
}

/// A file of a folder: what it is, or why that cannot be told.
#[derive(Debug)]
#[non_exhaustive]
pub struct SnapshotEntry {
    /// Its name.
    pub name: String,
    /// What it is. Head, index and trailer are verified, its rows are not.
    pub info: Result<SnapshotFileInfo, SnapshotFileError>,
}

/// What was read to verify a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files of the chain.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows that came out.
    pub rows: u64,
}

/// A folder of snapshot files. A handle: cheap to clone, to be sent anywhere.
#[derive(Clone)]
pub struct SnapshotFolder {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    writing: Option<Writing>,
}

/// What a folder has that was opened for writing.
pub(super) struct Writing {
    pub(super) places: Places<String>,
    /// Snapshots that are being written or removed.
    reserved: Mutex<BTreeSet<String>>,
    _lock: Box<dyn VfsLock>,
}

impl fmt::Debug for SnapshotFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_writable = self.inner.writing.is_some();
        f.debug_struct("SnapshotFolder")
            .field("dir", &self.inner.dir)
            .field("is_writable", &is_writable)
            .finish()
    }
}

/// A name that nobody else writes or removes until this is dropped.
pub(super) struct Reserved<'a> {
    writing: &'a Writing,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.writing.reserved.lock().remove(&self.name);
    }
}

impl Writing {
    pub(super) fn reserve(&self, name: &str) -> Result<Reserved<'_>, SnapshotFileError> {
        if self.reserved.lock().insert(name.to_owned()) {
            Ok(Reserved { writing: self, name: name.to_owned() })
        } else {
            Err(SnapshotFileError::Busy { name: name.to_owned() })
        }
    }
}

/// A file under the name that does not count; it goes when this is dropped.
pub(super) struct Staged<'a> {
    inner: &'a Inner,
    path: PathBuf,
    is_renamed: bool,
}

impl Staged<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the name that counts, replacing what has it.
    pub(super) fn rename(mut self, to: &Path) -> Result<(), SnapshotFileError> {
        self.inner.vfs.rename(&self.path, to)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            // What cannot be removed now is removed by whoever opens the folder next.
            self.inner.vfs.remove(&self.path).unwrap_or_default();
        }
    }
}

impl Inner {
    pub(super) fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(format!("{stem}{SUFFIX}"))
    }

    /// Where a file is written whose name is reserved; what an attempt before could not remove goes.
    pub(super) fn stage(&self, stem: &str) -> Result<Staged<'_>, SnapshotFileError> {
        let path = self.dir.join(format!("{stem}{STAGED_SUFFIX}"));
        if self.vfs.exists(&path)? {
            self.vfs.remove(&path)?;
        }
        Ok(Staged { inner: self, path, is_renamed: false })
    }

    pub(super) fn writing(&self) -> Result<&Writing, SnapshotFileError> {
        self.writing.as_ref().ok_or_else(|| SnapshotFileError::ReadOnly { dir: self.dir.clone() })
    }

    /// The names of all snapshots, sorted, with those of their files.
    fn names(&self) -> Result<Vec<(String, String)>, SnapshotFileError> {
        let entries = self.vfs.list(&self.dir)?.into_iter();
        let mut names: Vec<_> =
            entries.filter_map(|entry| Some((name_of(&entry.name)?, entry.name))).collect();
        names.sort();
        Ok(names)
    }

    /// Fails when a file has the name, or one that a file system might take for it.
    fn must_be_free(&self, stem: &str) -> Result<(), SnapshotFileError> {
        let wanted = format!("{stem}{SUFFIX}");
        match self.names()?.into_iter().find(|(_, file)| file.eq_ignore_ascii_case(&wanted)) {
            Some((name, _)) => Err(SnapshotFileError::NameTaken { name }),
            None => Ok(()),
        }
    }

    pub(super) fn entries(&self) -> Result<Vec<SnapshotEntry>, SnapshotFileError> {
        let mut entries = Vec::new();
        for (name, _) in self.names()? {
            let info = match self.find(&name) {
                // It was removed meanwhile.
                Err(SnapshotFileError::NotFound { .. }) => continue,
                found => found.map(|file| SnapshotFileInfo::of(&file)),
            };
            entries.push(SnapshotEntry { name, info });
        }
        Ok(entries)
    }

    /// Removes what was begun and not finished, and takes note of what is there.
    fn take_over(&self, places: &Places<String>) -> Result<(), SnapshotFileError> {
        let listed = self.vfs.list(&self.dir)?;
        let is_staged = |name: &str| name.strip_suffix(".new").is_some_and(|name| name_of(name).is_some());
        let mut removed = false;
        for entry in listed.iter().filter(|entry| is_staged(&entry.name)) {
            self.vfs.remove(&self.dir.join(&entry.name))?;
            removed = true;
        }
        if removed {
            self.vfs.sync_dir(&self.dir)?;
        }
        let infos = self.entries()?.into_iter().filter_map(|entry| entry.info.ok());
        let mut left: Vec<_> = infos.map(|info| (info.name, info.parent)).collect();
        loop {
            let before = left.len();
            left.retain(|(name, parent)| places.restore(name.clone(), parent.as_ref()).is_err());
            if left.len() == before {
                break;
            }
        }
        // What hangs on nothing that is there keeps its name; nothing can be made on it.
        for (name, _) in left {
            places.restore(name.clone(), None).map_err(|error| place_error(error, &name, ""))?;
        }
        Ok(())
    }
}

impl FindFile for Inner {
    fn find(&self, name: &str) -> Result<OpenFile, SnapshotFileError> {
        let path = self.path(&file_stem(name)?);
        let file = match OpenFile::open(&*self.vfs, &path) {
            Err(SnapshotFileError::Io { source }) if is_not_found(&source) => {
                return Err(SnapshotFileError::NotFound { dir: self.dir.clone(), name: name.to_owned() });
            }
            file => file?,
        };
        if file.head.name != name {
            // The head is under a checksum, the file's name is not.
            let (expected, found) = (format!("{:?}", file.head.name), format!("{name:?}"));
            return Err(super::error::damaged(&path, 0, "the name of the file", expected, found));
        }
        Ok(file)
    }
}

fn is_not_found(source: &Cause) -> bool {
    source.downcast_ref::<keepstone_vfs::IoError>().is_some_and(keepstone_vfs::IoError::is_not_found)
}

impl SnapshotFolder {
    /// Snapshots of a chain, unless told otherwise: a full one and sixteen deltas.
    pub const CHAIN_LENGTH: u16 = 17;

    /// Opens a folder for writing, and makes it if there is none.
    ///
    /// # Errors
    /// [`SnapshotFileError::Locked`] while another handle has it for writing, or when the disk fails.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, SnapshotFileError> {
        Self::open_with(Arc::new(OsVfs::new()), dir.as_ref(), Self::CHAIN_LENGTH)
    }

    /// As [`open`](Self::open), on any file system. `chain_length` is how many snapshots a chain has at most, a full one and
    /// all deltas that lead to it, at least 1.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(vfs: Arc<dyn Vfs>, dir: &Path, chain_length: u16) -> Result<Self, SnapshotFileError> {
        Place { vfs: &vfs, dir }.create_dirs()?;
        let holder = format!("process {}", std::process::id());
        let lock = vfs.lock(&dir.join(LOCK_NAME), &holder).map_err(|error| match error {
            LockError::Held { holder, .. } => SnapshotFileError::Locked { dir: dir.to_path_buf(), holder },
            LockError::Io(error) => error.into(),
            other => SnapshotFileError::Io { source: other.into() },
        })?;
        let length = ChainLength::new(chain_length.max(1)).unwrap_or_default();
        let writing = Writing {
            places: Places::new(length),
            reserved: Mutex::new(lock_rank::MVCC_SNAPSHOT_NAMES, BTreeSet::new()),
            _lock: lock,
        };
        let places = writing.places.clone();
        let inner = Inner { vfs, dir: dir.to_path_buf(), writing: Some(writing) };
        inner.take_over(&places)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens a folder for reading: takes no lock and writes nothing. It may be on a medium that cannot be written to.
    #[must_use]
    pub fn open_to_read(dir: impl AsRef<Path>) -> Self {
        Self::open_to_read_with(Arc::new(OsVfs::new()), dir.as_ref())
    }

    /// As [`open_to_read`](Self::open_to_read), on any file system.
    #[must_use]
    pub fn open_to_read_with(vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        Self { inner: Arc::new(Inner { vfs, dir: dir.to_path_buf(), writing: None }) }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// All snapshots, sorted by name, those that are damaged too.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<SnapshotEntry>, SnapshotFileError> {
        self.inner.entries()
    }

    /// What a snapshot is.
    ///
    /// # Errors
    /// When there is none of this name, or its head, index or trailer is damaged.
    pub fn info(&self, name: &str) -> Result<SnapshotFileInfo, SnapshotFileError> {
        Ok(SnapshotFileInfo::of(&self.inner.find(name)?))
    }

    /// Reads a snapshot and everything that it hangs on, and holds what comes out against what was snapshot.
    ///
    /// # Errors
    /// When anything is missing or damaged.
    pub fn verify(&self, name: &str) -> Result<VerifyReport, SnapshotFileError> {
        let chain = Chain::open(&*self.inner, name)?;
        Ok(VerifyReport { files: chain.len(), bytes: chain.bytes(), rows: chain.verify()? })
    }

    /// Writes all rows of a version of a store, or of its newest, as a snapshot. The store goes on meanwhile.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, there is no such version, or a disk fails or is full. Nothing is left then.
    pub fn create_full(
        &self,
        database: &Database,
        name: &str,
        version: Option<Version>,
    ) -> Result<SnapshotFileInfo, SnapshotFileError> {
        self.create(database, name, None, version)
    }

    /// Writes the rows that changed since another snapshot, which the new one then hangs on. That one's version need not be
    /// kept by the store any more; while it is, the cost is that of what changed.
    ///
    /// # Errors
    /// As [`create_full`](Self::create_full), and [`SnapshotFileError::ParentNotFound`], [`SnapshotFileError::WrongParent`]
    /// when it is not of this store or is newer, [`SnapshotFileError::ChainTooLong`].
    pub fn create_delta(
        &self,
        database: &Database,
        name: &str,
        parent: &str,
        version: Option<Version>,
    ) -> Result<SnapshotFileInfo, SnapshotFileError> {
        self.create(database, name, Some(parent), version)
    }

    fn create(
        &self,
        database: &Database,
        name: &str,
        parent: Option<&str>,
        version: Option<Version>,
    ) -> Result<SnapshotFileInfo, SnapshotFileError> {
        let (inner, writing, stem) = (&*self.inner, self.inner.writing()?, file_stem(name)?);
        let _reserved = writing.reserve(name)?;
        inner.must_be_free(&stem)?;
        let owned = parent.map(str::to_owned);
        let place = writing.places.claim(owned.as_ref());
        let place = place.map_err(|error| place_error(error, name, parent.unwrap_or_default()))?;
        // The place keeps the parent from being removed meanwhile.
        let chain = parent.map(|parent| Chain::open(inner, parent)).transpose()?;
        let source = Source::hold(database, version)?;
        let head = Head {
            name: name.to_owned(),
            file_id: random_id()?,
            store_id: database.inner.shared.store_id,
            version: source.version,
            time: source.time,
            parent: chain.as_ref().map(|chain| parent_ref(chain.newest())),
        };
        let staged = inner.stage(&stem)?;
        let mut writer = FileWriter::create(&*inner.vfs, staged.path(), head, &source.tables)?;
        let content = match &chain {
            None => write_full(&source, &mut writer)?,
            Some(chain) => write_delta(database, &source, chain, &mut writer)?,
        };
        writer.finish(content)?;
        let path = inner.path(&stem);
        staged.rename(&path)?;
        inner.keep(place, name, &path)?;
        self.info(name)
    }
}

impl Inner {
    /// Makes the name of a finished file durable and fills its place.
    fn keep(&self, place: ChainPlace<String>, name: &str, path: &Path) -> Result<(), SnapshotFileError> {
        let synced = self.vfs.sync_dir(&self.dir);
        if let Err(error) = synced {
            // Whether the name would last is not known. It goes; if it cannot, it is there and counts.
            if self.vfs.remove(path).is_err() {
                place.keep(name.to_owned()).map_err(|error| place_error(error, name, ""))?;
            }
            return Err(error.into());
        }
        place.keep(name.to_owned()).map_err(|error| place_error(error, name, ""))
    }
}

pub(super) fn parent_ref(file: &OpenFile) -> ParentRef {
    let head = &file.head;
    ParentRef {
        name: head.name.clone(),
        version: head.version,
        time: head.time,
        content: file.trailer.content,
    }
}

pub(super) fn random_id() -> Result<[u8; 16], SnapshotFileError> {
    let mut id = [0; 16];
    let random = getrandom::fill(&mut id);
    random.map_err(|error| OpenError::Random { source: error.to_string().into() })?;
    Ok(id)
}
