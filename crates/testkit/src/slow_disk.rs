//! A disk whose syncs take at least a stated time, for measuring what group commit gains where syncs are dear.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keepstone_vfs::{DirEntry, IoError, LockError, OpenOptions, Vfs, VfsFile, VfsLock, Volume};

/// Passes everything on, and makes each data sync wait before it returns.
#[derive(Clone, Debug)]
pub struct SlowDisk {
    inner: Arc<dyn Vfs>,
    sync_time: Duration,
}

impl SlowDisk {
    /// A disk over `inner` whose data syncs take `sync_time` longer.
    pub fn new(inner: Arc<dyn Vfs>, sync_time: Duration) -> Self {
        Self { inner, sync_time }
    }
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn VfsFile>,
    sync_time: Duration,
    path: PathBuf,
}

impl Vfs for SlowDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let inner = self.inner.open(path, options)?;
        Ok(Arc::new(SlowFile { inner, sync_time: self.sync_time, path: path.to_path_buf() }))
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

impl VfsFile for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        self.inner.write_at(buf, offset)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        thread::sleep(self.sync_time); // tidy: sleep: this is the disk's stated slowness
        self.inner.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        thread::sleep(self.sync_time); // tidy: sleep: this is the disk's stated slowness
        self.inner.sync_all()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.inner.set_len(len)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
