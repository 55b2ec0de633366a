//! A disk in memory with a will of its own: each operation is shown to a judge first, who lets it pass, fails it, or
//! lets a part of it pass.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepstone_vfs::{
    DirEntry, IoError, IoOperation, LockError, MemoryVfs, OpenOptions, Vfs, VfsFile, VfsLock, Volume,
};

/// An operation that changes the disk, or reads from it.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) what: IoOperation,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Operation {
    pub(crate) fn is_on(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Pass,
    Fail(io::ErrorKind),
    /// So many bytes are written, and the rest fails; or so many are read.
    Part(usize),
}

type Judge = dyn Fn(&Operation) -> Verdict + Send + Sync;

#[derive(Clone)]
pub(crate) struct Unkind {
    inner: MemoryVfs,
    judge: Arc<Judge>,
}

impl std::fmt::Debug for Unkind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unkind")
    }
}

impl Unkind {
    pub(crate) fn disk(
        inner: &MemoryVfs,
        judge: impl Fn(&Operation) -> Verdict + Send + Sync + 'static,
    ) -> Arc<dyn Vfs> {
        Arc::new(Self { inner: inner.clone(), judge: Arc::new(judge) })
    }

    fn ask(&self, what: IoOperation, path: &Path) -> Result<(), IoError> {
        verdict(&self.judge, &Operation { what, path: path.to_path_buf(), offset: 0, len: 0 }).map(drop)
    }
}

/// How much of an operation passes; `None` is all.
fn verdict(judge: &Arc<Judge>, operation: &Operation) -> Result<Option<usize>, IoError> {
    match judge(operation) {
        Verdict::Pass => Ok(None),
        Verdict::Part(len) => Ok(Some(len)),
        Verdict::Fail(kind) => Err(IoError::new(operation.what, &operation.path, kind.into())),
    }
}

impl Vfs for Unkind {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        self.ask(IoOperation::Open, path)?;
        let inner = self.inner.open(path, options)?;
        Ok(Arc::new(UnkindFile { inner, judge: Arc::clone(&self.judge) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.ask(IoOperation::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.ask(IoOperation::Remove, path)?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.inner.list(dir)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.ask(IoOperation::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.ask(IoOperation::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        self.inner.lock(path, holder)
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        self.inner.volume(path)
    }
}

struct UnkindFile {
    inner: Arc<dyn VfsFile>,
    judge: Arc<Judge>,
}

impl std::fmt::Debug for UnkindFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnkindFile")
    }
}

impl UnkindFile {
    fn ask(&self, what: IoOperation, offset: u64, len: usize) -> Result<Option<usize>, IoError> {
        verdict(&self.judge, &Operation { what, path: self.inner.path().to_path_buf(), offset, len })
    }
}

impl VfsFile for UnkindFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        match self.ask(IoOperation::Read, offset, buf.len())? {
            None => self.inner.read_at(buf, offset),
            // A short read is legal.
            Some(len) => {
                let len = len.min(buf.len());
                self.inner.read_at(&mut buf[..len], offset)
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        match self.ask(IoOperation::Write, offset, buf.len())? {
            None => self.inner.write_at(buf, offset),
            Some(len) => {
                self.inner.write_at(&buf[..len.min(buf.len())], offset)?;
                Err(IoError::new(IoOperation::Write, self.inner.path(), io::ErrorKind::Other.into()))
            }
        }
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.ask(IoOperation::Sync, 0, 0)?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.ask(IoOperation::Sync, 0, 0)?;
        self.inner.sync_all()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.ask(IoOperation::Length, len, 0)?;
        self.inner.set_len(len)
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}
