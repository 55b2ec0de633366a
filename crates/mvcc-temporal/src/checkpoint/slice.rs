//! Slices: a memtable is folded a bounded part at a time, and readers see each part as a whole.
//!
//! A slice ends when it has so many keys, so many bytes, or so many pages to write, whichever comes first. It takes its rows
//! in batches, so that what it holds in memory beside its pages stays small.

use std::time::Duration;

use keepstone_types::{Lsn, Version};

use super::fold::{Batch, Building, Place, SliceLimit};
use super::older_coder::OlderCoder;
use super::{begin_slice, commit_slice, ground, pace, publish, release_runs, retire};
use crate::database::Inner;
use crate::error::CheckpointError;
use crate::log::error::sync_error;
use crate::memtable::Memtable;
use crate::options::CheckpointOptions;
use crate::sync::{Arc, Ordering};
use crate::wrong::{self, Wrong};

/// Bytes of keys and values that a slice folds, at most, beyond its last key.
const SLICE_BYTES: usize = 16 << 20;
/// Bytes of new pages at which a slice ends.
const SLICE_DIRTY_BYTES: u64 = 16 << 20;
/// Keys of a batch.
const BATCH_KEYS: usize = 2_048;
/// Keys and bytes of a slice on a full disk.
const SLICE_KEYS_KEPT: usize = 16;
const SLICE_BYTES_KEPT: usize = 64 << 10;

/// Folds a memtable that takes no more rows, and lets it go.
pub(super) fn fold_memtable(inner: &Inner, sealed: &Arc<Memtable>) -> Result<(), CheckpointError> {
    let Some(last) = sealed.commits().last().cloned() else { return retire(inner, sealed) };
    let upto = (last.version(), last.lsn());
    if inner.log.durable_lsn() < last.lsn() && !wrong::is(Wrong::FlipBeforeLogSync) {
        inner.log.sync().map_err(|error| CheckpointError::Log { source: Box::new(sync_error(error)) })?;
    }
    let mut from: Option<Place> = None;
    let mut room = Room::Any;
    let mut coder = OlderCoder::new(inner.history);
    loop {
        let started = inner.shared.clock.monotonic();
        let slice = match Slice::fold(inner, sealed, upto, (from.as_ref(), room), &mut coder) {
            Ok(slice) => slice,
            // What was kept for a full disk is enough for small slices.
            Err(CheckpointError::OutOfSpace { .. }) if room == Room::Any => {
                room = Room::Kept;
                continue;
            }
            Err(error) => return Err(error),
        };
        from = slice.finish(inner, sealed, started)?;
        if from.is_none() {
            break;
        }
    }
    if wrong::is(Wrong::RunRemovedEarly) {
        release_runs(inner, upto.1)?;
    }
    Ok(())
}

/// Where new pages may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The file may grow.
    Any,
    /// The disk is full: only into what was kept for that.
    Kept,
}

impl Room {
    fn limit(self, options: &CheckpointOptions) -> SliceLimit {
        match self {
            Self::Any => SliceLimit { keys: options.slice_keys, bytes: SLICE_BYTES },
            Self::Kept => {
                SliceLimit { keys: options.slice_keys.min(SLICE_KEYS_KEPT), bytes: SLICE_BYTES_KEPT }
            }
        }
    }
}

/// A slice that is committed and not published yet.
struct Slice {
    folded: crate::ground::Ground,
    /// Where the next begins; `None` after the last.
    next: Option<Place>,
    rows: u64,
    bytes: u64,
    displaced: u64,
    pages: u64,
}

impl Slice {
    /// Folds the next part of a memtable; the last one with everything that ends a checkpoint.
    fn fold(
        inner: &Inner,
        sealed: &Memtable,
        (through, lsn): (Version, Lsn),
        (from, room): (Option<&Place>, Room),
        coder: &mut OlderCoder,
    ) -> Result<Self, CheckpointError> {
        let ground = ground(inner)?;
        let mut building = begin_slice(&ground, through, lsn)?;
        building.writer.keep_within_file(room == Room::Kept);
        let mut left = room.limit(&inner.checkpointer.options);
        let (mut rows, mut bytes, mut displaced) = (0_u64, 0_u64, 0_u64);
        let mut next = from.cloned();
        loop {
            let limit = SliceLimit { keys: left.keys.min(BATCH_KEYS), ..left };
            let batch = Batch::collect(sealed, next.as_ref(), limit)?;
            displaced = displaced.saturating_add(building.fold(&ground, coder, &batch)?);
            rows = rows.saturating_add(batch.row_count());
            bytes = bytes.saturating_add(batch.memory_bytes());
            left = batch.rest_of(left);
            next = batch.next;
            let is_full = left.keys == 0 || left.bytes == 0 || is_dirty(&building);
            if next.is_none() || is_full {
                break;
            }
        }
        if next.is_none() {
            end_checkpoint(&mut building, sealed, (through, lsn))?;
        }
        let page_bytes = u64::from(ground.pages().page_size().bytes());
        let pages = building.writer.dirty_bytes().checked_div(page_bytes).unwrap_or(0);
        let folded = commit_slice(&ground, building)?;
        Ok(Self { folded, next, rows, bytes, displaced, pages })
    }

    /// Publishes the slice, and waits for the next one's turn; gives where that begins.
    fn finish(
        self,
        inner: &Inner,
        sealed: &Arc<Memtable>,
        started: Duration,
    ) -> Result<Option<Place>, CheckpointError> {
        inner.shared.readers.keep(self.displaced);
        publish(inner, &Arc::new(self.folded), self.next.is_none().then_some(sealed));
        wrong::published();
        let checkpointer = &inner.checkpointer;
        checkpointer.slices.add(1);
        checkpointer.rows.add(self.rows);
        let lately = checkpointer.slice_pages.load(Ordering::Relaxed);
        checkpointer.slice_pages.store(self.pages.max(lately - lately / 8), Ordering::Relaxed);
        if self.next.is_some() {
            pace(inner, self.bytes, started)?;
        }
        Ok(self.next)
    }
}

fn is_dirty(building: &Building) -> bool {
    building.writer.dirty_bytes() >= SLICE_DIRTY_BYTES
}

/// Notes the commits, and that everything through the last of them is folded.
fn end_checkpoint(
    building: &mut Building,
    sealed: &Memtable,
    (through, lsn): (Version, Lsn),
) -> Result<(), CheckpointError> {
    building.fold_commits(sealed.commits())?;
    let meta = &mut building.meta;
    if let Some(last) = sealed.commits().last() {
        meta.through_time = last.time();
    }
    (meta.through, meta.through_lsn) = (through, lsn);
    meta.timeline = through.timeline();
    Ok(())
}
