//! A file that is read past the system's cache where the system can: what is judged is then what the disk has, not what
//! was written a moment ago.

use std::path::Path;

use keepstone_vfs::{AlignedBuffer, IoError, OpenOptions, Vfs, VfsFile, VfsFileExt, WriteMode};

use crate::layout::{disk_len, memory_len};
use crate::sync::Arc;

/// The largest unit that a disk or a system asks for.
const UNIT: u64 = 4_096;

/// Reads in whole units, to aligned memory.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: Arc<dyn VfsFile>,
}

impl DirectFile {
    /// The file past the cache, and true; or `fallback`, and false, where the system does not do that.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, fallback: &Arc<dyn VfsFile>) -> (Arc<dyn VfsFile>, bool) {
        let opened = vfs.open(path, OpenOptions::READ.with_write(WriteMode::Direct)).ok();
        let direct = opened.map(|file| Self { file });
        match direct.filter(|direct| direct.read_at(&mut [0; 512], 0).is_ok()) {
            Some(direct) => (Arc::new(direct), true),
            None => (Arc::clone(fallback), false),
        }
    }
}

impl VfsFile for DirectFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let from = offset - offset % UNIT;
        let before = memory_len(offset - from);
        let len = before.saturating_add(buf.len()).next_multiple_of(memory_len(UNIT));
        let mut aligned = AlignedBuffer::zeroed(len, memory_len(UNIT));
        let got = self.file.read_up_to_at(aligned.as_mut_slice(), from)?;
        let read = aligned.as_slice().get(before..got).unwrap_or_default();
        let len = read.len().min(buf.len());
        if let (Some(to), Some(read)) = (buf.get_mut(..len), read.get(..len)) {
            to.copy_from_slice(read);
        }
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.file.sync_all()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.file.set_len(len)
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Bytes of so many slots.
pub(super) fn bytes_of(slots: usize, page_bytes: u32) -> u64 {
    disk_len(slots).saturating_mul(page_bytes.into())
}
