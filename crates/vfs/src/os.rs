//! The operating system's file system.
//!
//! `sync_data` is `fdatasync` on Linux, `F_FULLFSYNC` on macOS and `FlushFileBuffers` on Windows, which is what the
//! standard library calls there. Names are made durable by syncing the directory on Unix; Windows offers no such call and
//! journals names itself. Room is taken with `fallocate` on Linux, where the file system has it, and with zeros elsewhere.
//! The lock is `flock` on Unix and `LockFileEx` on Windows, beside a registry in the process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{IoError, IoOperation, LockError};
use crate::file_system::{
    DirEntry, EntryKind, OpenMode, OpenOptions, Vfs, VfsFile, VfsFileExt as _, VfsLock, Volume, WriteMode,
};
use crate::lock_registry::{Claim, LockRegistry};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

impl OsVfs {
    /// The operating system's file system.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Longest holder line that is read back for a message, in bytes.
const HOLDER_LEN_MAX: u64 = 256;

/// The locks this process holds, whichever `OsVfs` took them.
fn process_locks() -> &'static Arc<LockRegistry> {
    static REGISTRY: OnceLock<Arc<LockRegistry>> = OnceLock::new();
    REGISTRY.get_or_init(|| Arc::new(LockRegistry::new()))
}

impl Vfs for OsVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let mut how = fs::OpenOptions::new();
        how.read(true);
        match options.mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                how.write(true);
            }
            OpenMode::CreateNew => {
                how.write(true).create_new(true);
            }
        }
        write_flags(&mut how, options.write);
        let file = how.open(path).map_err(|error| IoError::new(IoOperation::Open, path, error))?;
        Ok(Arc::new(OsFile { file, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        fs::rename(from, to).map_err(|error| IoError::new(IoOperation::Rename, from, error))
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        fs::remove_file(path).map_err(|error| IoError::new(IoOperation::Remove, path, error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        let failed = |error| IoError::new(IoOperation::List, dir, error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // An entry that vanishes between the listing and the question for its length is no longer listed.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            let len = if kind == EntryKind::File { metadata.len() } else { 0 };
            entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind, len });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            done => done.map_err(|error| IoError::new(IoOperation::CreateDir, path, error)),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        sync_names(dir).map_err(|error| IoError::new(IoOperation::SyncDir, dir, error))
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        let failed = |error| LockError::Io(IoError::new(IoOperation::Lock, path, error));
        let mut how = fs::OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false);
        let file = how.open(path).map_err(failed)?;
        let canonical = fs::canonicalize(path).map_err(failed)?;
        let claim = process_locks().claim(&canonical, holder)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(LockError::Held { path: path.to_path_buf(), holder: read_holder(path) });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let line = format!("{}\n", holder.replace(['\n', '\r'], " "));
        let lock = OsLock { file, _claim: claim };
        lock.file.set_len(0).map_err(failed)?;
        write_once(&lock.file, line.as_bytes(), 0).map_err(failed)?;
        Ok(Box::new(lock))
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        volume_of(path).map_err(|error| IoError::new(IoOperation::Volume, path, error))
    }
}

/// The line a holder left in a lock file, for a message only.
fn read_holder(path: &Path) -> String {
    use io::Read as _;
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(HOLDER_LEN_MAX).read_to_string(&mut text));
    match (read, text.lines().next()) {
        (Ok(_), Some(line)) if !line.trim().is_empty() => line.trim().to_owned(),
        _ => "another process that left no name".to_owned(),
    }
}

/// A held file lock. The system releases it when the file is closed, so also when the process dies.
#[derive(Debug)]
struct OsLock {
    file: File,
    _claim: Claim,
}

impl VfsLock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Closing releases the lock in any case; the line is taken away so that no dead holder is ever named.
        self.file.set_len(0).unwrap_or_default();
        self.file.unlock().unwrap_or_default();
    }
}

/// An open file of the operating system.
#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl OsFile {
    fn failed(&self, operation: IoOperation) -> impl Fn(io::Error) -> IoError + '_ {
        move |error| IoError::new(operation, &self.path, error)
    }
}

/// Runs a call again while the system says it was interrupted.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        retry_interrupted(|| read_once(&self.file, buf, offset)).map_err(self.failed(IoOperation::Read))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        retry_interrupted(|| write_once(&self.file, buf, offset)).map_err(self.failed(IoOperation::Write))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        // Not retried when interrupted: what a sync that did not return success has done is unknown.
        self.file.sync_data().map_err(self.failed(IoOperation::Sync))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.file.sync_all().map_err(self.failed(IoOperation::Sync))
    }

    fn len(&self) -> Result<u64, IoError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(self.failed(IoOperation::Length))
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        retry_interrupted(|| self.file.set_len(len)).map_err(self.failed(IoOperation::Length))
    }

    fn allocate(&self, from: u64, to: u64) -> Result<(), IoError> {
        let len = to.saturating_sub(from);
        if len == 0 {
            return Ok(());
        }
        match retry_interrupted(|| take_blocks(&self.file, from, len)) {
            // This file system, or this system, cannot take blocks without writing them.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeros(from, to),
            done => done.map_err(self.failed(IoOperation::Write)),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes blocks of the disk, where the system has a call for it that keeps what is there and grows the file.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn take_blocks(file: &File, from: u64, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, len)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn take_blocks(_file: &File, _from: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
use unix::{read_once, sync_names, volume_of, write_flags, write_once};

#[cfg(unix)]
mod unix {
    //! The calls of Unix systems.
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    use super::{Volume, WriteMode};

    /// Not by the standard library, which lets threads be cancelled while they read: that costs a fortieth of a page.
    pub(super) fn read_once(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(file, buf, offset)?)
    }

    pub(super) fn write_once(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(buf, offset)
    }

    pub(super) fn write_flags(how: &mut fs::OpenOptions, write: WriteMode) {
        let flags = match write {
            WriteMode::Cached => OFlags::empty(),
            #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
            WriteMode::Direct => OFlags::DIRECT,
            #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
            WriteMode::Direct => OFlags::empty(),
            WriteMode::DataSync => OFlags::DSYNC,
        };
        how.custom_flags(flags.bits().cast_signed());
    }

    pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    pub(super) fn volume_of(path: &Path) -> io::Result<Volume> {
        let space = rustix::fs::statvfs(path)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(Volume::new(Some(free), network_of(path)?))
    }

    /// The protocol of a remote file system, by the magic numbers of `linux/magic.h` and the systems' own headers.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn network_of(path: &Path) -> io::Result<Option<&'static str>> {
        let magic = u64::try_from(rustix::fs::statfs(path)?.f_type).unwrap_or_default() & 0xFFFF_FFFF;
        Ok(match magic {
            0x6969 => Some("nfs"),
            0x517B => Some("smb"),
            0xFE53_4D42 => Some("smb2"),
            0xFF53_4D42 => Some("cifs"),
            0x0102_1997 => Some("9p"),
            0x00C3_6400 => Some("ceph"),
            0x5346_414F | 0x6B41_4653 => Some("afs"),
            0x7375_7245 => Some("coda"),
            0x0BD0_0BD0 => Some("lustre"),
            _ => None,
        })
    }

    /// Not told apart on other Unix systems yet; `docs/limits.md` of the workspace says so.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn network_of(_path: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}

#[cfg(windows)]
use windows::{read_once, sync_names, volume_of, write_flags, write_once};

#[cfg(windows)]
mod windows {
    //! The calls of Windows.
    use std::fs::{self, File};
    use std::io;
    use std::os::windows::fs::{FileExt, OpenOptionsExt};
    use std::path::{Component, Path, Prefix};

    use super::{Volume, WriteMode};

    const FILE_FLAG_NO_BUFFERING: u32 = 0x2000_0000;
    const FILE_FLAG_WRITE_THROUGH: u32 = 0x8000_0000;

    pub(super) fn read_once(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buf, offset)
    }

    pub(super) fn write_once(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(buf, offset)
    }

    pub(super) fn write_flags(how: &mut fs::OpenOptions, write: WriteMode) {
        how.custom_flags(match write {
            WriteMode::Cached => 0,
            WriteMode::Direct => FILE_FLAG_NO_BUFFERING,
            WriteMode::DataSync => FILE_FLAG_WRITE_THROUGH,
        });
    }

    /// NTFS journals names; there is no call to wait for.
    pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
        fs::metadata(dir).map(drop)
    }

    /// Free space is not asked for; a UNC path is known to be remote.
    pub(super) fn volume_of(path: &Path) -> io::Result<Volume> {
        let full = fs::canonicalize(path)?;
        let remote = full.components().next().is_some_and(|first| {
            matches!(first, Component::Prefix(prefix) if matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..)))
        });
        Ok(Volume::new(None, remote.then_some("smb")))
    }
}
