//! A file tree in memory: for tests, examples and stores that need not outlive the process.
//!
//! Clones share one tree. Syncs succeed and do nothing; a copy made with [`MemoryVfs::snapshot`] is what another
//! process would find at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use keepstone_types::lock_rank;

use crate::error::{IoError, IoOperation, LockError};
use crate::file_system::{DirEntry, EntryKind, OpenMode, OpenOptions, Vfs, VfsFile, VfsLock, Volume};
use crate::lock_registry::{Claim, LockRegistry};
use crate::sync::{Arc, Mutex, RwLock};

type Content = Arc<RwLock<Vec<u8>>>;

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, Content>,
    directories: BTreeSet<PathBuf>,
}

/// A file system in memory.
#[derive(Clone, Debug)]
pub struct MemoryVfs {
    tree: Arc<Mutex<Tree>>,
    locks: Arc<LockRegistry>,
}

impl Default for MemoryVfs {
    fn default() -> Self {
        Self::new()
    }
}

fn content(bytes: Vec<u8>) -> Content {
    Arc::new(RwLock::new(lock_rank::VFS_MEMORY_FILE, bytes))
}

fn error(operation: IoOperation, path: &Path, kind: io::ErrorKind) -> IoError {
    IoError::new(operation, path, kind.into())
}

impl MemoryVfs {
    /// An empty tree whose root directory is `/`.
    #[must_use]
    pub fn new() -> Self {
        let tree = Tree { files: BTreeMap::new(), directories: BTreeSet::from([PathBuf::from("/")]) };
        Self {
            tree: Arc::new(Mutex::new(lock_rank::VFS_MEMORY_TREE, tree)),
            locks: Arc::new(LockRegistry::new()),
        }
    }

    /// A tree of its own with the same content and no locks held: what would be found after the process was killed.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let copy = Self::new();
        {
            let tree = self.tree.lock();
            let mut to = Tree { files: BTreeMap::new(), directories: tree.directories.clone() };
            for (path, file) in &tree.files {
                to.files.insert(path.clone(), content(file.read().clone()));
            }
            drop(tree);
            *copy.tree.lock() = to;
        }
        copy
    }
}

impl Tree {
    fn has_parent(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| self.directories.contains(parent))
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let mut tree = self.tree.lock();
        let found = tree.files.get(path).cloned();
        let bytes = match (options.mode, found) {
            (OpenMode::Read | OpenMode::Write, Some(bytes)) => bytes,
            (OpenMode::CreateNew, None) if tree.has_parent(path) && !tree.directories.contains(path) => {
                let bytes = content(Vec::new());
                tree.files.insert(path.to_path_buf(), Arc::clone(&bytes));
                bytes
            }
            (OpenMode::CreateNew, None) if !tree.has_parent(path) => {
                return Err(error(IoOperation::Open, path, io::ErrorKind::NotFound));
            }
            (OpenMode::CreateNew, _) => {
                return Err(error(IoOperation::Open, path, io::ErrorKind::AlreadyExists));
            }
            (OpenMode::Read | OpenMode::Write, None) => {
                return Err(error(IoOperation::Open, path, io::ErrorKind::NotFound));
            }
        };
        let writable = options.mode != OpenMode::Read;
        Ok(Arc::new(MemoryFile { bytes, writable, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut tree = self.tree.lock();
        if !tree.has_parent(to) || !tree.files.contains_key(from) {
            return Err(error(IoOperation::Rename, from, io::ErrorKind::NotFound));
        }
        if tree.directories.contains(to) {
            return Err(error(IoOperation::Rename, from, io::ErrorKind::IsADirectory));
        }
        if let Some(file) = tree.files.remove(from) {
            tree.files.insert(to.to_path_buf(), file);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let removed = self.tree.lock().files.remove(path);
        removed.map(drop).ok_or_else(|| error(IoOperation::Remove, path, io::ErrorKind::NotFound))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let tree = self.tree.lock();
        if !tree.directories.contains(dir) {
            return Err(error(IoOperation::List, dir, io::ErrorKind::NotFound));
        }
        let inside = |path: &Path| path.parent() == Some(dir);
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut entries = Vec::new();
        for (path, file) in tree.files.iter().filter(|(path, _)| inside(path)) {
            let len = u64::try_from(file.read().len()).unwrap_or(u64::MAX);
            entries.push(DirEntry { name: name(path), kind: EntryKind::File, len });
        }
        for path in tree.directories.iter().filter(|path| inside(path)) {
            entries.push(DirEntry { name: name(path), kind: EntryKind::Directory, len: 0 });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        let mut tree = self.tree.lock();
        if tree.directories.contains(path) {
            return Ok(());
        }
        if tree.files.contains_key(path) {
            return Err(error(IoOperation::CreateDir, path, io::ErrorKind::AlreadyExists));
        }
        if !tree.has_parent(path) {
            return Err(error(IoOperation::CreateDir, path, io::ErrorKind::NotFound));
        }
        tree.directories.insert(path.to_path_buf());
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let known = self.tree.lock().directories.contains(dir);
        if known { Ok(()) } else { Err(error(IoOperation::SyncDir, dir, io::ErrorKind::NotFound)) }
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        {
            let mut tree = self.tree.lock();
            if !tree.has_parent(path) {
                return Err(error(IoOperation::Lock, path, io::ErrorKind::NotFound).into());
            }
            tree.files.entry(path.to_path_buf()).or_insert_with(|| content(Vec::new()));
        }
        let claim = self.locks.claim(path, holder)?;
        Ok(Box::new(MemoryLock { _claim: claim }))
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        let tree = self.tree.lock();
        if tree.files.contains_key(path) || tree.directories.contains(path) {
            return Ok(Volume::new(None, None));
        }
        Err(error(IoOperation::Volume, path, io::ErrorKind::NotFound))
    }
}

#[derive(Debug)]
struct MemoryLock {
    _claim: Claim,
}

impl VfsLock for MemoryLock {}

#[derive(Debug)]
struct MemoryFile {
    bytes: Content,
    writable: bool,
    path: PathBuf,
}

impl MemoryFile {
    fn must_be_writable(&self, operation: IoOperation) -> Result<(), IoError> {
        if self.writable {
            return Ok(());
        }
        Err(error(operation, &self.path, io::ErrorKind::PermissionDenied))
    }

    /// A place in the file as an index; memory ends long before 64 bits do.
    fn place(&self, operation: IoOperation, offset: u64, len: usize) -> Result<(usize, usize), IoError> {
        let too_large = || error(operation, &self.path, io::ErrorKind::FileTooLarge);
        let start = usize::try_from(offset).map_err(|_| too_large())?;
        let end = start.checked_add(len).filter(|end| isize::try_from(*end).is_ok()).ok_or_else(too_large)?;
        Ok((start, end))
    }
}

impl VfsFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let bytes = self.bytes.read();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let available = bytes.get(start..).unwrap_or_default();
        let count = available.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        self.must_be_writable(IoOperation::Write)?;
        let (start, end) = self.place(IoOperation::Write, offset, buf.len())?;
        let mut bytes = self.bytes.write();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(to) = bytes.get_mut(start..end) {
            to.copy_from_slice(buf);
        }
        Ok(buf.len())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn len(&self) -> Result<u64, IoError> {
        Ok(u64::try_from(self.bytes.read().len()).unwrap_or(u64::MAX))
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.must_be_writable(IoOperation::Length)?;
        let (len, _) = self.place(IoOperation::Length, len, 0)?;
        self.bytes.write().resize(len, 0);
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
