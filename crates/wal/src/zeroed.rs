//! Files of zeros, and how one becomes a segment.
//!
//! A segment is written with zeros and synced before its first group, so that a commit overwrites blocks the file
//! system has already placed: no growth, no metadata. Syncing in steps keeps each sync short for everybody else.

use std::path::{Path, PathBuf};

use keepstone_vfs::{IoError, OpenOptions, Vfs, VfsExt, VfsFile, VfsFileExt, WriteMode};

use crate::layout::disk_len;
use crate::segment::{SegmentHeader, segment_path};
use crate::sync::Arc;

/// Bytes written between two syncs.
const STEP: usize = 256 << 10;
static ZEROS: [u8; STEP] = [0; STEP];

/// A file of zeros, written and synced, that is not a segment yet.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// Overwrites the first `len` bytes with zeros in synced steps, and calls `between` after each.
fn write_zeros(file: &dyn VfsFile, len: u64, between: &mut dyn FnMut()) -> Result<(), IoError> {
    let mut offset = 0;
    while offset < len {
        let step = len.saturating_sub(offset).min(disk_len(STEP));
        let zeros = usize::try_from(step).ok().and_then(|step| ZEROS.get(..step)).unwrap_or(&ZEROS);
        file.write_all_at(zeros, offset)?;
        file.sync_data()?;
        between();
        offset = offset.saturating_add(step);
    }
    file.sync_all()
}

/// Makes a file of zeros; what is half made when it fails is removed.
pub(crate) fn make_spare(
    vfs: &dyn Vfs,
    path: PathBuf,
    len: u64,
    between: &mut dyn FnMut(),
) -> Result<Spare, IoError> {
    if vfs.exists(&path)? {
        vfs.remove(&path)?;
    }
    let file = vfs.open(&path, OpenOptions::CREATE_NEW)?;
    match write_zeros(file.as_ref(), len, between) {
        Ok(()) => Ok(Spare { path, len }),
        Err(error) => {
            drop(file);
            // The first error is the one that matters; a file that stays is removed at the next opening.
            vfs.remove(&path).unwrap_or_default();
            Err(error)
        }
    }
}

/// Makes a used file into a file of zeros of its own length, or of `len` when that is more.
pub(crate) fn recycle(
    vfs: &dyn Vfs,
    path: PathBuf,
    len: u64,
    between: &mut dyn FnMut(),
) -> Result<Spare, IoError> {
    let file = vfs.open(&path, OpenOptions::WRITE)?;
    let len = file.len()?.max(len);
    write_zeros(file.as_ref(), len, between)?;
    Ok(Spare { path, len })
}

/// Writes both copies of a header into a file of zeros and syncs all of it.
pub(crate) fn write_header(file: &dyn VfsFile, header: &SegmentHeader) -> Result<(), IoError> {
    let block = header.encode();
    file.write_all_at(&[block.as_slice(), block.as_slice()].concat(), 0)?;
    file.sync_all()
}

/// Gives a file whose header and groups are synced the name of its segment, durably.
pub(crate) fn give_name(vfs: &dyn Vfs, dir: &Path, spare: &Path, number: u64) -> Result<(), IoError> {
    vfs.rename(spare, &segment_path(dir, number))?;
    vfs.sync_dir(dir)
}

/// Opens a segment for appending.
pub(crate) fn open_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    mode: WriteMode,
) -> Result<Arc<dyn VfsFile>, IoError> {
    vfs.open(&segment_path(dir, number), OpenOptions::WRITE.with_write(mode))
}
