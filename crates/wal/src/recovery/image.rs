//! The bytes of a segment as far as they can be read: a sector that cannot be is lost, not an error.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_vfs::{IoError, VfsFile, VfsFileExt};

use crate::layout::{disk_len, memory_len};

/// A part of a file in memory, and which of its sectors were lost.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    /// One per sector of `bytes`.
    pub(crate) lost: Vec<bool>,
    pub(crate) sector: usize,
}

impl Image {
    /// Reads `len` bytes from `offset`, both multiples of `sector`. The caller has bounded `len`.
    ///
    /// What lies past the end of the file is lost; so is a sector whose reading fails. The file itself being gone is
    /// an error.
    pub(crate) fn read(file: &dyn VfsFile, offset: u64, len: u64, sector: usize) -> Result<Self, IoError> {
        let file_len = file.len()?;
        let mut bytes = vec![0; memory_len(len)];
        let mut lost = vec![false; bytes.len().div_ceil(sector.max(1))];
        let there = memory_len(file_len.saturating_sub(offset).min(len));
        let whole = bytes.get_mut(..there).is_some_and(|part| file.read_exact_at(part, offset).is_ok());
        if !whole || there < bytes.len() {
            for (index, (part, lost)) in bytes.chunks_mut(sector).zip(&mut lost).enumerate() {
                let at = offset.saturating_add(disk_len(index.saturating_mul(sector)));
                let read = file.read_exact_at(part, at).is_ok();
                if !read {
                    part.fill(0);
                    *lost = true;
                }
            }
        }
        Ok(Self { bytes, lost, sector })
    }

    /// Whether any sector from byte `from` on was lost.
    pub(crate) fn any_lost(&self, from: usize) -> bool {
        let first = from.checked_div(self.sector).unwrap_or_default();
        self.lost.get(first..).unwrap_or_default().contains(&true)
    }
}
