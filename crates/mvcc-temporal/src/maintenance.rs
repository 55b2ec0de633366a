//! Maintenance that somebody asks for: compaction, and collecting pages that nothing leads to.

use std::ops::ControlFlow;

use keepstone_btree::{TreeRoot, relocate, relocate_without_values};
use keepstone_pager::{Audit, AuditReport, PageStats, Parity, SlotUsage};
pub use keepstone_pager::{ScrubOptions, ScrubProgress, ScrubReport};
use keepstone_types::PageId;

use crate::check::pages::mark_tree;
use crate::checkpoint::fold::{Building, table_edit};
use crate::checkpoint::{apply_edits, begin_slice, commit_slice, ground, prune, publish, room, run_whole};
use crate::database::{Database, Inner};
use crate::error::CheckpointError;
use crate::ground::Ground;
use crate::sync::Arc;

/// Slots that are cleared at the end of the file in one go: as many pages are held in memory at most, and those above them.
const CLEARED_SLOTS_MAX: u64 = 8_192;

/// How often what is at the end of the file is moved in one go.
const TRIMS_MAX: u32 = 2;

/// How often the end of the file is cut in one go.
const CUTS_MAX: u32 = 6;

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Older row versions that went.
    pub pruned_rows: u64,
    /// Commits that went.
    pub pruned_commits: u64,
    /// Bytes of pages that were in use for them and no longer are.
    pub reclaimed_bytes: u64,
    /// Bytes of the page file before.
    pub bytes_before: u64,
    /// Bytes of the page file after.
    pub bytes_after: u64,
}

/// What collecting pages found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Pages that something leads to.
    pub reachable: u64,
    /// Differences between what can be reached and what the free-space map says: pages in use that nothing leads to, pages
    /// that are reached and count as free, wrong counts.
    pub findings: u64,
    /// Whether the free-space map was made anew.
    pub rebuilt: bool,
    /// Pages that became free by that.
    pub freed: u64,
}

impl Database {
    /// Folds everything, drops older versions that need not stay, and makes the page file as short as its content.
    /// Writers and readers go on meanwhile.
    ///
    /// # Errors
    /// When the disk fails or is full, or the store is read-only or closed. What was done stands.
    pub fn compact(&self) -> Result<CompactReport, CheckpointError> {
        let inner = &self.inner;
        let _call = inner.shared.enter()?;
        if inner.shared.read_only {
            return Err(CheckpointError::ReadOnly);
        }
        let pages = ground(inner)?.pages().clone();
        // A checkpoint may give room back too.
        let bytes_before = pages.stats().file_bytes;
        run_whole(inner)?;
        let _running = inner.checkpointer.begin();
        let bytes_before = bytes_before.max(pages.stats().file_bytes);
        let pruned = prune::prune(inner)?;
        let shortened = shorten(inner);
        room::begin_anew(inner)?;
        shortened?;
        let bytes_after = pages.stats().file_bytes;
        let prune::Pruned { rows: pruned_rows, commits: pruned_commits, reclaimed_bytes } = pruned;
        Ok(CompactReport { pruned_rows, pruned_commits, reclaimed_bytes, bytes_before, bytes_after })
    }

    /// Looks for pages that nothing leads to, and for pages that count as free although something does. With `dry_run` that
    /// is all; otherwise the free-space map is made anew if anything was found. A page of a kind that this build does not
    /// know ends it before anything is changed.
    ///
    /// # Errors
    /// When the disk fails, a page that must be read is damaged, or the store is read-only (unless it is a dry run) or
    /// closed.
    pub fn gc(&self, dry_run: bool) -> Result<GcReport, CheckpointError> {
        let inner = &self.inner;
        let _call = inner.shared.enter()?;
        if inner.shared.read_only && !dry_run {
            return Err(CheckpointError::ReadOnly);
        }
        let _running = inner.checkpointer.begin();
        let pages = ground(inner)?.pages().clone();
        let audited: AuditReport = pages.audit(|audit| mark_all(inner, audit))?;
        let mut report =
            GcReport { reachable: audited.reachable, findings: audited.finding_count, ..GcReport::default() };
        if dry_run || audited.finding_count == 0 {
            return Ok(report);
        }
        let rebuilt = pages.rebuild_free_space(|audit| mark_all(inner, audit))?;
        let ground = Ground::load(pages.clone(), pages.root())?;
        publish(inner, &Arc::new(ground), None);
        room::begin_anew(inner)?;
        report.rebuilt = true;
        report.freed = rebuilt.freed;
        Ok(report)
    }
}

impl Database {
    /// Who has the slots of the page file. Reads the whole free-space map: a page for each 1,024 slots.
    ///
    /// # Errors
    /// When the store is closed, has no page file yet, or a page of the map cannot be read.
    pub fn slot_usage(&self) -> Result<SlotUsage, CheckpointError> {
        let _call = self.inner.shared.enter()?;
        ground(&self.inner)?.pages().slot_usage().map_err(CheckpointError::from_page)
    }

    /// Turns parity of pages on or off, in commits of the page file alone; readers and writers go on meanwhile. What is left
    /// after an error is done by the checkpoints to come.
    ///
    /// # Errors
    /// As a checkpoint.
    pub fn set_parity(&self, on: bool) -> Result<(), CheckpointError> {
        let inner = &self.inner;
        let _call = inner.shared.enter()?;
        if inner.shared.read_only {
            return Err(CheckpointError::ReadOnly);
        }
        let _running = inner.checkpointer.begin();
        let pages = ground(inner)?.pages().clone();
        let parity = if on { Parity::Xor } else { Parity::Off };
        let done = pages.set_parity(parity).map_err(CheckpointError::from_page);
        // It committed by itself.
        reload(inner)?;
        done
    }

    /// Reads every page past the system's cache, holds it against all that is known of it, and repairs it if asked for.
    /// Readers, writers and checkpoints go on meanwhile. `progress` is called after each read and can end it.
    ///
    /// # Errors
    /// When the store is closed, or the free-space map cannot be read; damage is in the report.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        progress: impl FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<ScrubReport, CheckpointError> {
        let inner = &self.inner;
        let _call = inner.shared.enter()?;
        let pages = ground(inner)?.pages().clone();
        pages.scrub(options, progress).map_err(CheckpointError::from_page)
    }
}

/// Marks every page that the audit's root leads to.
fn mark_all(inner: &Inner, audit: &mut Audit) -> Result<(), CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    let ground = Ground::load(pages, Arc::clone(audit.root()))?;
    let meta = *ground.meta();
    let roots = [meta.tables, meta.history, meta.commits].into_iter();
    for root in roots.chain(ground.tables().values().copied()) {
        mark_tree(&ground, root, audit).map_err(CheckpointError::from_tree)?;
    }
    Ok(())
}

/// Moves pages from the end of the file into free slots before it, and cuts the file. The caller runs the checkpoint.
fn shorten(inner: &Inner) -> Result<(), CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    let (mut shortest, mut is_last) = (u64::MAX, false);
    loop {
        // What a generation frees can be used when the one after it is durable.
        flip(inner)?;
        flip(inner)?;
        let stats = pages.stats();
        let (used, free) = (stats.used_slots, free_or_soon(&stats));
        let slots = used.saturating_add(free);
        // A large value that fits nowhere below goes behind the end, and the next time to where it was.
        if slots >= shortest && std::mem::replace(&mut is_last, true) {
            break;
        }
        shortest = shortest.min(slots);
        // A little room stays: the pages above those that move, and the free-space map, move too; and what is kept in any case.
        if free <= used / 16 + 32 + room::slots_min(&pages) {
            break;
        }
        let clear_from = slots.saturating_sub((free / 2).min(CLEARED_SLOTS_MAX));
        clear(inner, clear_from, Values::Move)?;
        flip(inner)?;
        let cut = cut_end(inner)?;
        // A page of the free-space map in the way of this cut is moved for the next, so a short one is not the last.
        if cut == 0 {
            break;
        }
    }
    Ok(())
}

/// Slots that are free, held until nobody needs what is in them, or counted by parity and needed by nobody.
pub(crate) const fn free_or_soon(stats: &PageStats) -> u64 {
    stats.free_slots.saturating_add(stats.pending_slots).saturating_add(stats.dead_slots)
}

/// Commits a generation in which nothing is different.
fn flip(inner: &Inner) -> Result<(), CheckpointError> {
    let ground = ground(inner)?;
    let meta = *ground.meta();
    let building = begin_slice(&ground, meta.folded, meta.folded_lsn)?;
    let flipped = commit_slice(&ground, Building { meta, ..building })?;
    publish(inner, &Arc::new(flipped), None);
    Ok(())
}

/// The page file committed by itself: its newest root has the same trees.
fn reload(inner: &Inner) -> Result<(), CheckpointError> {
    let before = ground(inner)?;
    let pages = before.pages().clone();
    let root = pages.root();
    let ground = Ground::new(pages, root, *before.meta(), before.tables().clone());
    publish(inner, &Arc::new(ground), None);
    Ok(())
}

/// Cuts the end of the file off, down to as many slots as are in use and so many more. What is in use there moves, if it is
/// not more than is moved in one go; large values stay. The caller runs the checkpoint.
pub(crate) fn trim(inner: &Inner, kept: u64) -> Result<(), CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    cut_end(inner)?;
    // Groups become fewer when pages move together, so that fewer slots are in use afterwards than were counted before.
    for _ in 0..TRIMS_MAX {
        let stats = pages.stats();
        let end = stats.used_slots.saturating_add(kept);
        let slots = stats.used_slots.saturating_add(free_or_soon(&stats));
        // Not for less than it costs.
        if slots.saturating_sub(end) <= kept / 4 {
            break;
        }
        clear(inner, end.max(slots.saturating_sub(CLEARED_SLOTS_MAX)), Values::Stay)?;
        flip(inner)?;
        cut_end(inner)?;
    }
    Ok(())
}

/// Cuts free slots off the end of the file, as many as there are; gives how many. It commits by itself, and what its commits
/// move stays as long as the store has the root of before: so it is done again with the root that it leaves.
fn cut_end(inner: &Inner) -> Result<u64, CheckpointError> {
    let pages = ground(inner)?.pages().clone();
    let mut all = 0_u64;
    for _ in 0..CUTS_MAX {
        let commits = pages.stats().commits;
        let cut = pages.shrink().map_err(CheckpointError::from_page);
        reload(inner)?;
        all = all.saturating_add(cut?);
        if pages.stats().commits == commits {
            break;
        }
    }
    Ok(all)
}

/// What becomes of large values when pages move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    Move,
    Stay,
}

/// Moves every page at or behind a slot.
fn clear(inner: &Inner, from: u64, values: Values) -> Result<(), CheckpointError> {
    let ground = ground(inner)?;
    let meta = *ground.meta();
    let mut building = begin_slice(&ground, meta.folded, meta.folded_lsn)?;
    building.meta = meta;
    building.writer.keep_within_file(true);
    building.writer.keep_below(from);
    let must_move = |page: PageId| page.get() >= from;
    let mut changed = Vec::new();
    for (table, root) in ground.tables() {
        let after = move_tree(&mut building, *root, &must_move, values)?;
        if after != *root {
            building.tables.insert(*table, after);
            changed.push(table_edit(*table, after));
        }
    }
    for which in [Which::History, Which::Commits] {
        let before = *which.of(&mut building);
        *which.of(&mut building) = move_tree(&mut building, before, &must_move, values)?;
    }
    let tables = apply_edits(&mut building.writer, building.meta.tables, &changed)?;
    building.meta.tables = move_tree(&mut building, tables, &must_move, values)?;
    let cleared = commit_slice(&ground, building)?;
    publish(inner, &Arc::new(cleared), None);
    Ok(())
}

/// A tree that stands in the meta data itself.
#[derive(Clone, Copy)]
enum Which {
    History,
    Commits,
}

impl Which {
    const fn of(self, building: &mut Building) -> &mut TreeRoot {
        match self {
            Self::History => &mut building.meta.history,
            Self::Commits => &mut building.meta.commits,
        }
    }
}

fn move_tree(
    building: &mut Building,
    root: TreeRoot,
    must_move: &dyn Fn(PageId) -> bool,
    values: Values,
) -> Result<TreeRoot, CheckpointError> {
    match values {
        Values::Move => relocate(&mut building.writer, root, must_move),
        Values::Stay => relocate_without_values(&mut building.writer, root, must_move),
    }
    .map_err(CheckpointError::from_tree)
}

impl From<keepstone_pager::PageError> for CheckpointError {
    fn from(error: keepstone_pager::PageError) -> Self {
        Self::from_page(error)
    }
}
