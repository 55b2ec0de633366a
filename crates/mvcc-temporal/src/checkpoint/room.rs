//! Room for a full disk: free slots in the page file, whose blocks are written, for everything that is committed and not
//! folded yet.
//!
//! So a store whose disk is full can be folded: its log goes, rows can be deleted, and the file can be made shorter. Room
//! is asked for before a commit that needs it: it doubles, so that is seldom, and a disk that has none refuses the commit
//! cleanly. Commits that only delete are accepted all the same.
//!
//! While a checkpoint is under way nobody asks for room: it is about to give some back, and asks itself when it is done.
//! When nothing waits any more, what a burst of commits needed is given back, but for a part of the file's size, if the disk
//! has so much beside that it can be had again. Right after a fold what the next one of that size will use up is no burst:
//! a store that changes steadily keeps it, and gives it back when it comes to rest.

use std::io::ErrorKind;

use keepstone_pager::{PageError, PageFile, Parity};
use keepstone_vfs::{IoError, IoOperation};

use super::ground;
use crate::database::Inner;
use crate::error::CheckpointError;
use crate::layers::Layers;
use crate::maintenance::{free_or_soon, trim};
use crate::sync::Ordering;

/// Pages of row versions for which room is kept at first.
const PAGES_MIN: u64 = 8;
/// Slots that are kept at most.
const SLOTS_MAX: u64 = 1 << 20;
/// Bytes of the disk that are left alone: for the small files that an opening writes.
const LEFT_BYTES: u64 = 128 << 10;
/// Slots for what a slice rewrites beside its rows: two slices of the smallest size, and the free-space map.
const SLOTS_FOR_SLICES: u64 = 16;

/// A store at rest keeps one slot for so many in use.
const USED_FOR_ONE_KEPT: u64 = 16;
/// Free slots beyond twice those that a store at rest keeps, from which on they are given back: it takes a few commits.
const SLOTS_WORTH_IT: u64 = 1_024;
/// Largest slices that a store which just folded keeps free slots for: one is built while what two before it freed is
/// held, and one more for what parity holds.
const SLICES_KEPT: u64 = 4;

/// What folding costs in a page file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    page_bytes: u64,
    /// Slots for each page that rows fill.
    slots: u64,
    /// Slots for what a slice rewrites beside its rows.
    beside: u64,
}

impl Cost {
    /// Twice as many slots as rows fill, because pages are seldom full and what a slice frees can be used by the next but one.
    /// With parity half as many again: where free slots are few and far between, each page that is written has a parity page
    /// written with it. Its map is written twice.
    pub(super) fn of(pages: &PageFile) -> Self {
        let page_bytes = pages.page_size().bytes().into();
        match pages.parity() {
            Parity::Xor => Self { page_bytes, slots: 3, beside: SLOTS_FOR_SLICES * 3 },
            _ => Self { page_bytes, slots: 2, beside: SLOTS_FOR_SLICES },
        }
    }

    /// Slots that fold so many bytes of row versions.
    pub(super) fn slots_for(self, bytes: u64) -> u64 {
        let filled = bytes.checked_div(self.page_bytes).unwrap_or(0);
        filled.saturating_mul(self.slots).saturating_add(self.beside)
    }

    /// Slots that are kept at least.
    const fn slots_min(self) -> u64 {
        PAGES_MIN.saturating_mul(self.slots).saturating_add(self.beside)
    }

    /// Bytes of row versions that so many slots fold.
    fn bytes_of(self, slots: u64) -> u64 {
        let filled = slots.saturating_sub(self.beside).checked_div(self.slots).unwrap_or(0);
        filled.saturating_mul(self.page_bytes)
    }
}

/// Slots that are kept free at least.
pub(crate) fn slots_min(pages: &PageFile) -> u64 {
    Cost::of(pages).slots_min()
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

/// Bytes to keep room for where there are so many: a fourth more, so that it is not asked for at every commit.
const fn ahead(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4)
}

/// Keeps room for so many bytes of row versions, and for a slice as large as the largest. The caller runs the checkpoint.
fn keep_for(inner: &Inner, bytes: u64) -> Result<(), CheckpointError> {
    let checkpointer = &inner.checkpointer;
    let pages = ground(inner)?.pages().clone();
    let cost = Cost::of(&pages);
    let slots = cost.slots_for(bytes).clamp(cost.slots_min(), SLOTS_MAX);
    let missing = slots.saturating_sub(pages.stats().free_slots).saturating_mul(cost.page_bytes);
    let reserved = if leaves_some(inner, missing) {
        pages.reserve(slots).map_err(CheckpointError::from_page)
    } else {
        let left = IoError::new(IoOperation::Write, pages.path(), ErrorKind::StorageFull.into());
        Err(CheckpointError::from_page(PageError::OutOfSpace { source: left }))
    };
    match reserved {
        Err(CheckpointError::OutOfSpace { .. }) => {
            let kept = cost.bytes_of(pages.stats().free_slots);
            checkpointer.room_bytes.store(kept, Ordering::Release);
        }
        kept => {
            kept?;
            checkpointer.room_bytes.store(cost.bytes_of(slots).max(bytes), Ordering::Release);
        }
    }
    Ok(())
}

/// How a store stands when room is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Something was folded just now: more may follow.
    Folded,
    /// There was nothing to fold.
    Still,
}

/// Keeps room for as much as there was room for before, once a checkpoint has used it; less when nothing waits.
pub(super) fn keep(inner: &Inner, pulse: Pulse) -> Result<(), CheckpointError> {
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    let before = inner.checkpointer.room_bytes.load(Ordering::Acquire);
    match at_rest(inner, pulse)?.filter(|_| waiting == 0) {
        Some(slots) => give_back(inner, slots),
        None => keep_for(inner, before.max(ahead(waiting))),
    }
}

/// Slots that a store at rest keeps free; `None` when it is not worth it to give back what is beyond, or the disk has not as
/// much that it could be had again.
fn at_rest(inner: &Inner, pulse: Pulse) -> Result<Option<u64>, CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    let (stats, cost) = (pages.stats(), Cost::of(&pages));
    let slots = (stats.used_slots / USED_FOR_ONE_KEPT).clamp(cost.slots_min(), SLOTS_MAX);
    let next = match pulse {
        Pulse::Folded => inner.checkpointer.slice_pages.load(Ordering::Relaxed).saturating_mul(SLICES_KEPT),
        Pulse::Still => 0,
    };
    let free = free_or_soon(&stats);
    let is_worth_it = free > slots.saturating_mul(2).saturating_add(SLOTS_WORTH_IT).saturating_add(next);
    let again = free.saturating_mul(cost.page_bytes);
    Ok((is_worth_it && leaves_some(inner, again)).then_some(slots))
}

/// Whether a store at which nothing happens has more room than it needs.
pub(super) fn is_too_much(inner: &Inner) -> bool {
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    waiting == 0 && at_rest(inner, Pulse::Still).is_ok_and(|slots| slots.is_some())
}

/// Promises less, and then cuts the end of the file.
fn give_back(inner: &Inner, slots: u64) -> Result<(), CheckpointError> {
    let cost = Cost::of(ground(inner)?.pages());
    let before = inner.checkpointer.room_bytes.load(Ordering::Acquire);
    let bytes = cost.bytes_of(slots).min(before);
    inner.checkpointer.room_bytes.store(bytes, Ordering::Release);
    match trim(inner, slots) {
        Ok(()) | Err(CheckpointError::OutOfSpace { .. }) => {}
        Err(error) => return Err(error),
    }
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    keep_for(inner, bytes.max(ahead(waiting)))
}

/// Counts the room anew once the file was made shorter or its map made anew: there is no more than for what waits.
pub(crate) fn begin_anew(inner: &Inner) -> Result<(), CheckpointError> {
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    keep_for(inner, ahead(waiting))
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
    keep_for(inner, ahead(needed))?;
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
        for (slots, beside) in [(2, SLOTS_FOR_SLICES), (3, SLOTS_FOR_SLICES * 3)] {
            let cost = Cost { page_bytes: 4_096, slots, beside };
            for bytes in [0, 1, 4_096, 1_000_000, 1 << 40] {
                let again = cost.bytes_of(cost.slots_for(bytes));
                assert!(again <= bytes && bytes - again < 4_096, "{bytes}");
            }
            assert_eq!(cost.bytes_of(3), 0);
        }
    }
}
