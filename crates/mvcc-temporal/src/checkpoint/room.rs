//! Room for a full disk: free slots in the page file, whose blocks are written, for everything that is committed and not
//! folded yet.
//!
//! So a store whose disk is full can be folded: its log goes, rows can be deleted, and the file can be made shorter. Room
//! is asked for before a commit that needs it: it doubles, so that is seldom, and a disk that has none refuses the commit
//! cleanly. Commits that only delete are accepted all the same.
//!
//! While a checkpoint is under way nobody asks for room: it is about to give some back, and asks itself when it is done.
//! When nothing waits any more, what a burst of commits needed is given back, but for a part of the file's size, if the disk
//! has so much beside that it can be had again.

use std::io::ErrorKind;

use keepstone_pager::PageError;
use keepstone_vfs::{IoError, IoOperation};

use super::ground;
use crate::database::Inner;
use crate::error::CheckpointError;
use crate::layers::Layers;
use crate::maintenance::trim;
use crate::sync::Ordering;

/// Slots that are kept at first, and at most.
const SLOTS_MIN: u64 = 32;
const SLOTS_MAX: u64 = 1 << 20;
/// Bytes of the disk that are left alone: for the small files that an opening writes.
const LEFT_BYTES: u64 = 128 << 10;
/// Slots for what a slice rewrites beside its rows: two slices of the smallest size, and the free-space map.
const SLOTS_FOR_SLICES: u64 = 16;

/// A store at rest keeps one slot for so many in use.
const USED_FOR_ONE_KEPT: u64 = 16;
/// Free slots beyond twice those that a store at rest keeps, from which on they are given back: it takes a few commits.
const SLOTS_WORTH_IT: u64 = 1_024;

/// Slots that fold so many bytes of row versions: twice as many as they fill, because pages are seldom full and what a slice
/// frees can be used by the next but one.
pub(super) fn slots_for(bytes: u64, page_bytes: u64) -> u64 {
    let filled = bytes.checked_div(page_bytes).unwrap_or(0);
    filled.saturating_mul(2).saturating_add(SLOTS_FOR_SLICES)
}

/// Bytes of row versions that so many slots fold.
fn bytes_of(slots: u64, page_bytes: u64) -> u64 {
    (slots.saturating_sub(SLOTS_FOR_SLICES) / 2).saturating_mul(page_bytes)
}

/// Whether the disk has so many bytes, and some beside: who takes the last of them keeps the store from being opened again.
fn leaves_some(inner: &Inner, bytes: u64) -> bool {
    if bytes == 0 {
        return true;
    }
    let free = inner.vfs.volume(&inner.shared.dir).ok().and_then(|volume| volume.free_bytes);
    free.is_none_or(|free| free >= bytes.saturating_add(LEFT_BYTES))
}

/// Whether the disk has room for pages of so many bytes of row versions. A disk that does not tell is believed to.
pub(crate) fn disk_has(inner: &Inner, bytes: u64) -> bool {
    leaves_some(inner, bytes.saturating_add(bytes / 4))
}

/// Keeps room for so many bytes of row versions, and for a slice as large as the largest. The caller runs the checkpoint.
fn keep_for(inner: &Inner, bytes: u64) -> Result<(), CheckpointError> {
    let checkpointer = &inner.checkpointer;
    let pages = ground(inner)?.pages().clone();
    let page_bytes = u64::from(pages.page_size().bytes());
    let slots = slots_for(bytes, page_bytes).clamp(SLOTS_MIN, SLOTS_MAX);
    let missing = slots.saturating_sub(pages.stats().free_slots).saturating_mul(page_bytes);
    let reserved = if leaves_some(inner, missing) {
        pages.reserve(slots).map_err(CheckpointError::from_page)
    } else {
        let left = IoError::new(IoOperation::Write, pages.path(), ErrorKind::StorageFull.into());
        Err(CheckpointError::from_page(PageError::OutOfSpace { source: left }))
    };
    match reserved {
        Err(CheckpointError::OutOfSpace { .. }) => {
            let kept = bytes_of(pages.stats().free_slots, page_bytes);
            checkpointer.room_bytes.store(kept, Ordering::Release);
        }
        kept => {
            kept?;
            checkpointer.room_bytes.store(bytes_of(slots, page_bytes).max(bytes), Ordering::Release);
        }
    }
    Ok(())
}

/// Keeps room for as much as there was room for before, once a checkpoint has used it; less when nothing waits.
pub(super) fn keep(inner: &Inner) -> Result<(), CheckpointError> {
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    let before = inner.checkpointer.room_bytes.load(Ordering::Acquire);
    match at_rest(inner)?.filter(|_| waiting == 0) {
        Some(slots) => give_back(inner, slots),
        None => keep_for(inner, before.max(waiting.saturating_mul(2))),
    }
}

/// Slots that a store at rest keeps free; `None` when it is not worth it to give back what is beyond, or the disk has not as
/// much that it could be had again.
fn at_rest(inner: &Inner) -> Result<Option<u64>, CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    let (stats, page_bytes) = (pages.stats(), u64::from(pages.page_size().bytes()));
    let slots = (stats.used_slots / USED_FOR_ONE_KEPT).clamp(SLOTS_MIN, SLOTS_MAX);
    let is_worth_it = stats.free_slots > slots.saturating_mul(2).saturating_add(SLOTS_WORTH_IT);
    let again = stats.free_slots.saturating_mul(page_bytes);
    Ok((is_worth_it && leaves_some(inner, again)).then_some(slots))
}

/// Promises less, and then cuts the end of the file.
fn give_back(inner: &Inner, slots: u64) -> Result<(), CheckpointError> {
    let page_bytes = u64::from(ground(inner)?.pages().page_size().bytes());
    let before = inner.checkpointer.room_bytes.load(Ordering::Acquire);
    let bytes = bytes_of(slots, page_bytes).min(before);
    inner.checkpointer.room_bytes.store(bytes, Ordering::Release);
    match trim(inner, slots) {
        Ok(()) | Err(CheckpointError::OutOfSpace { .. }) => {}
        Err(error) => return Err(error),
    }
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    keep_for(inner, bytes.max(waiting.saturating_mul(2)))
}

/// Counts the room anew once the file was made shorter or its map made anew: there is no more than for what waits.
pub(crate) fn begin_anew(inner: &Inner) -> Result<(), CheckpointError> {
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    keep_for(inner, waiting.saturating_mul(2))
}

/// Whether there is room for so many bytes of row versions more; asks for it if need be.
pub(crate) fn is_there(inner: &Inner, more: u64) -> Result<bool, CheckpointError> {
    let checkpointer = &inner.checkpointer;
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    let needed = waiting.saturating_add(more);
    if needed <= checkpointer.room_bytes.load(Ordering::Acquire) {
        return Ok(true);
    }
    let Some(_running) = checkpointer.try_begin() else { return Ok(true) };
    keep_for(inner, needed.saturating_mul(2))?;
    if needed <= checkpointer.room_bytes.load(Ordering::Acquire) {
        return Ok(true);
    }
    // There is not twice as much; is there as much?
    keep_for(inner, needed)?;
    Ok(needed <= checkpointer.room_bytes.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_bytes_agree() {
        for bytes in [0, 1, 4_096, 1_000_000, 1 << 40] {
            let slots = slots_for(bytes, 4_096);
            assert!(bytes_of(slots, 4_096) <= bytes && bytes - bytes_of(slots, 4_096) < 4_096, "{bytes}");
        }
        assert_eq!(bytes_of(3, 4_096), 0);
    }
}
