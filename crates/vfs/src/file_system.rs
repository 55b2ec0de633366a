//! The seam between Keepstone and any disk: the traits `Vfs` and `VfsFile`, their options, and the helpers on top of them.
//!
//! What an implementation must promise is what the safety arguments stand on, so it is said per method.
//! `keepstone-testkit` holds the conformance suite that every implementation passes.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{IoError, LockError};

/// How a file is opened: with or without writing, and what happens when it is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// The file must exist; every write is an error.
    Read,
    /// The file must exist; it can be read and written.
    Write,
    /// The file must not exist; it is created empty and can be read and written.
    CreateNew,
}

/// How writes travel to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteMode {
    /// Through the operating system's cache; durable after [`VfsFile::sync_data`].
    #[default]
    Cached,
    /// Past the operating system's cache (`O_DIRECT`): offset, length and memory address of each write are
    /// multiples of the logical sector. Still durable only after [`VfsFile::sync_data`].
    Direct,
    /// Each write returns only when its data is on stable storage (`O_DSYNC`).
    DataSync,
}

/// What [`Vfs::open`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Existence and access.
    pub mode: OpenMode,
    /// How writes travel.
    pub write: WriteMode,
}

impl OpenOptions {
    /// An existing file, for reading.
    pub const READ: Self = Self { mode: OpenMode::Read, write: WriteMode::Cached };
    /// An existing file, for reading and writing.
    pub const WRITE: Self = Self { mode: OpenMode::Write, write: WriteMode::Cached };
    /// A file that does not exist yet.
    pub const CREATE_NEW: Self = Self { mode: OpenMode::CreateNew, write: WriteMode::Cached };

    /// The same access with another way of writing.
    #[must_use]
    pub const fn with_write(self, write: WriteMode) -> Self {
        Self { mode: self.mode, write }
    }
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name within the directory. A name that is not UTF-8 is given with replacement characters.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes; 0 for anything but a file.
    pub len: u64,
}

/// What is known of the volume that holds a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// Bytes that an unprivileged writer may still use, if the system tells.
    pub free_bytes: Option<u64>,
    /// The name of the network protocol when the volume is known to be remote, such as `nfs`.
    pub network: Option<&'static str>,
}

impl Volume {
    /// A volume with the given free space and network protocol.
    #[must_use]
    pub const fn new(free_bytes: Option<u64>, network: Option<&'static str>) -> Self {
        Self { free_bytes, network }
    }
}

/// A held lock on a path. Dropping it releases the lock.
pub trait VfsLock: Send + Sync + Debug {}

/// A file system: eight methods, all the product needs of a disk.
///
/// Durability of names: [`create_dir`](Vfs::create_dir), [`open`](Vfs::open) with [`OpenMode::CreateNew`],
/// [`rename`](Vfs::rename) and [`remove`](Vfs::remove) are on stable storage only after [`sync_dir`](Vfs::sync_dir) of
/// the directory that holds the name.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file. Many handles on one file may be open at once; they see each other's writes.
    ///
    /// # Errors
    /// When the file is missing or already there against what `options` says, or access is refused.
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError>;

    /// Gives a file another name on the same volume, replacing a file of that name. Atomic: after a crash one of the
    /// two names holds the file.
    ///
    /// # Errors
    /// When `from` is missing or the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file. Open handles stay usable.
    ///
    /// # Errors
    /// When the file is missing or the system refuses.
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// When the directory is missing or cannot be read.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError>;

    /// Creates a directory whose parent exists; an existing directory is left as it is.
    ///
    /// # Errors
    /// When the parent is missing, the name is a file's, or the system refuses.
    fn create_dir(&self, path: &Path) -> Result<(), IoError>;

    /// Makes the names inside a directory durable.
    ///
    /// # Errors
    /// When the directory is missing or the system reports a failed sync.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Takes the exclusive lock of a path, creating the lock file if needed, and writes `holder` (one line for people)
    /// into it. Never waits. Excludes other processes and other callers in this one; released when the guard is
    /// dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's line, or the system's refusal.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError>;

    /// What is known of the volume that holds an existing path.
    ///
    /// # Errors
    /// When the path is missing.
    fn volume(&self, path: &Path) -> Result<Volume, IoError>;
}

/// An open file. Offsets are in bytes from its start; there is no cursor.
#[expect(
    clippy::len_without_is_empty,
    reason = "`is_empty` is in the extension trait, where all convenience is"
)]
pub trait VfsFile: Send + Sync + Debug {
    /// Reads into `buf` from `offset` and says how many bytes came; fewer than asked is legal, 0 means the end of the
    /// file (or an empty `buf`).
    ///
    /// # Errors
    /// When the system reports one; a bad sector is such an error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError>;

    /// Writes from `buf` at `offset`, growing the file when needed, and says how many bytes went; fewer than asked is
    /// legal, 0 only for an empty `buf`.
    ///
    /// # Errors
    /// When the system reports one; a full disk answers [`IoError::is_out_of_space`].
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError>;

    /// Makes the written bytes, and what is needed to read them back, durable (`fdatasync`; `F_FULLFSYNC` on macOS).
    ///
    /// # Errors
    /// After a failed sync nothing is known of any byte written since the last good one, and trying again proves
    /// nothing.
    fn sync_data(&self) -> Result<(), IoError>;

    /// As [`sync_data`](VfsFile::sync_data), and all metadata too (`fsync`).
    ///
    /// # Errors
    /// As [`sync_data`](VfsFile::sync_data).
    fn sync_all(&self) -> Result<(), IoError>;

    /// Length in bytes.
    ///
    /// # Errors
    /// When the system reports one.
    fn len(&self) -> Result<u64, IoError>;

    /// Cuts or extends the file; new bytes read as zero.
    ///
    /// # Errors
    /// When the system reports one.
    fn set_len(&self, len: u64) -> Result<(), IoError>;

    /// Takes room on the disk for the bytes from `from` to before `to`, so that writing them later needs no more of it; the
    /// file is at least `to` bytes long then. What those bytes are until they are written is what they were, or zeros.
    /// Durable after [`sync_data`](VfsFile::sync_data). Unless a file system knows better, zeros are written.
    ///
    /// # Errors
    /// As [`write_at`](VfsFile::write_at). The file may have grown by a part.
    fn allocate(&self, from: u64, to: u64) -> Result<(), IoError> {
        self.write_zeros(from, to)
    }

    /// The path under which the file was opened.
    fn path(&self) -> &Path;
}

/// Bytes of zeros that are written at once.
const ZEROS_LEN: u64 = 1 << 20;

/// Convenience on any [`VfsFile`].
pub trait VfsFileExt: VfsFile {
    /// Fills the whole of `buf` from `offset`.
    ///
    /// # Errors
    /// The file's own error, or `UnexpectedEof` naming the offset at which the file ended.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), IoError> {
        let wanted = buf.len();
        let got = self.read_up_to_at(buf, offset)?;
        if got == wanted { Ok(()) } else { Err(IoError::short_read(self.path(), offset, wanted, got)) }
    }

    /// Fills as much of `buf` from `offset` as the file holds, and says how much.
    ///
    /// # Errors
    /// The file's own error.
    fn read_up_to_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let got = self.read_at(rest, at)?;
            if got == 0 {
                break;
            }
            done = done.saturating_add(got);
        }
        Ok(done)
    }

    /// Writes the whole of `buf` at `offset`; one system call when the system takes it all at once.
    ///
    /// # Errors
    /// The file's own error, or `WriteZero` when no progress is made.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), IoError> {
        let mut done = 0_usize;
        while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let put = self.write_at(rest, at)?;
            if put == 0 {
                return Err(IoError::no_progress(self.path(), at));
            }
            done = done.saturating_add(put);
        }
        Ok(())
    }

    /// Overwrites the bytes from `from` to before `to` with zeros.
    ///
    /// # Errors
    /// As [`write_all_at`](VfsFileExt::write_all_at).
    fn write_zeros(&self, from: u64, to: u64) -> Result<(), IoError> {
        let step = ZEROS_LEN.min(to.saturating_sub(from));
        let zeros = vec![0; usize::try_from(step).unwrap_or_default()];
        let mut at = from;
        while at < to {
            let left = usize::try_from(to.saturating_sub(at)).unwrap_or(usize::MAX);
            self.write_all_at(zeros.get(..left).unwrap_or(&zeros), at)?;
            at = at.saturating_add(step);
        }
        Ok(())
    }

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The file's own error.
    fn is_empty(&self) -> Result<bool, IoError> {
        Ok(self.len()? == 0)
    }
}

impl<F: VfsFile + ?Sized> VfsFileExt for F {}

/// Convenience on any [`Vfs`].
pub trait VfsExt: Vfs {
    /// Whether a directory holds an entry of that name; false when the directory itself is missing.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        Ok(self.entry(path)?.is_some())
    }

    /// The directory entry of a path, if there is one.
    ///
    /// # Errors
    /// When the directory that would hold it cannot be read.
    fn entry(&self, path: &Path) -> Result<Option<DirEntry>, IoError> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match self.list(dir) {
            Ok(entries) => Ok(entries.into_iter().find(|entry| *entry.name == *name.to_string_lossy())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// The file system's own error, or one that names the length found and the limit.
    fn read_file(&self, path: &Path, limit: u64) -> Result<Vec<u8>, IoError> {
        let file = self.open(path, OpenOptions::READ)?;
        let len = file.len()?;
        let size = usize::try_from(len).ok().filter(|_| len <= limit);
        let Some(size) = size else {
            return Err(IoError::too_large(path, len, limit));
        };
        let mut bytes = vec![0_u8; size];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a small file so that after any crash either the old or the new content is there, whole: writes
    /// `NAME.new`, syncs it, renames it over the old one and syncs the directory.
    ///
    /// # Errors
    /// The file system's own error; the old content is then still in place.
    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), IoError> {
        let mut staged_name = path.file_name().unwrap_or_default().to_os_string();
        staged_name.push(".new");
        let staged: PathBuf = path.with_file_name(staged_name);
        if self.exists(&staged)? {
            self.remove(&staged)?;
        }
        let file = self.open(&staged, OpenOptions::CREATE_NEW)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        drop(file);
        self.rename(&staged, path)?;
        self.sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl<V: Vfs + ?Sized> VfsExt for V {}
