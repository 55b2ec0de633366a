//! A disk that does as it is told to: fails the next syncs, runs full after a number of bytes, refuses reads.
//!
//! Faults are switched on and off while the disk is in use; everything else is passed on. It counts what passed, so that
//! a test can hold "one write, one sync".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keepstone_vfs::{DirEntry, IoError, IoOperation, LockError, OpenOptions, Vfs, VfsFile, VfsLock, Volume};

/// The switches and counters of a [`FaultDisk`].
#[derive(Debug)]
pub struct Faults {
    /// Syncs of data that fail from now on.
    pub failing_syncs: AtomicU64,
    /// Bytes that may still be written before the disk is full. `u64::MAX`: no limit. A write that does not fit writes
    /// what fits; the next one fails.
    pub bytes_left: AtomicU64,
    /// Whether only writes that would grow a file count against `bytes_left` (as on a real disk).
    pub growth_only: std::sync::atomic::AtomicBool,
    /// Calls of `write_at`.
    pub writes: AtomicU64,
    /// Calls of `sync_data` and `sync_all`.
    pub syncs: AtomicU64,
    /// Bytes by which files grew.
    pub grown: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            failing_syncs: AtomicU64::new(0),
            bytes_left: AtomicU64::new(u64::MAX),
            growth_only: std::sync::atomic::AtomicBool::new(true),
            writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            grown: AtomicU64::new(0),
        }
    }
}

/// A disk over another one, with [`Faults`].
#[derive(Clone, Debug)]
pub struct FaultDisk {
    inner: Arc<dyn Vfs>,
    faults: Arc<Faults>,
}

impl FaultDisk {
    /// A disk over `inner` that has no fault yet.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// The switches.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn VfsFile>,
    faults: Arc<Faults>,
    path: PathBuf,
}

impl FaultFile {
    /// How many of `wanted` bytes the disk still takes.
    fn take_room(&self, wanted: u64) -> u64 {
        let left = &self.faults.bytes_left;
        let taken = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| match left {
            u64::MAX => None,
            left => Some(left.saturating_sub(wanted)),
        });
        taken.map_or(wanted, |before| before.min(wanted))
    }

    fn sync(&self, sync: impl FnOnce() -> Result<(), IoError>) -> Result<(), IoError> {
        self.faults.syncs.fetch_add(1, Ordering::AcqRel);
        let failing = &self.faults.failing_syncs;
        let fails = failing.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(IoError::new(
                IoOperation::Sync,
                &self.path,
                io::Error::other("a sync failed on demand"),
            ));
        }
        sync()
    }
}

impl Vfs for FaultDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let inner = self.inner.open(path, options)?;
        Ok(Arc::new(FaultFile { inner, faults: Arc::clone(&self.faults), path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.inner.list(dir)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        self.inner.lock(path, holder)
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        self.inner.volume(path)
    }
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        self.faults.writes.fetch_add(1, Ordering::AcqRel);
        let wanted = u64::try_from(buf.len()).unwrap();
        let len = self.inner.len()?;
        let growth = (offset + wanted).saturating_sub(len);
        self.faults.grown.fetch_add(growth, Ordering::AcqRel);
        let charged = if self.faults.growth_only.load(Ordering::Acquire) { growth } else { wanted };
        let missing = charged - self.take_room(charged);
        let fits = usize::try_from(wanted.saturating_sub(missing)).unwrap();
        if fits == 0 && wanted > 0 {
            return Err(IoError::new(IoOperation::Write, &self.path, io::ErrorKind::StorageFull.into()));
        }
        self.inner.write_at(&buf[..fits], offset)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync(|| self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync(|| self.inner.sync_all())
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        let growth = len.saturating_sub(self.inner.len()?);
        if self.take_room(growth) < growth {
            return Err(IoError::new(IoOperation::Length, &self.path, io::ErrorKind::StorageFull.into()));
        }
        self.inner.set_len(len)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
