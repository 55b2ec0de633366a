//! Keeping room and giving it back: slots that are ready beforehand, and a file that ends where its pages do.

use std::collections::BTreeSet;

use keepstone_types::PageId;

use crate::directory::NodeId;
use crate::error::PageError;
use crate::file::PageFile;
use crate::header::FIXED_END;
use crate::layout::disk_len;
use crate::parity::ParityMode;
use crate::region::{REGION_SLOTS, place_of, region_of};
use crate::space::{Draft, MapPage, MapPages};

/// Commits that one call of [`PageFile::shrink`] makes at most.
const SHRINKING_COMMITS_MAX: u32 = 12;

impl PageFile {
    /// Makes sure that so many slots are free within the file whose blocks are taken and synced, so that the next
    /// commits need no room of the disk (with [`PageWriter::keep_within_file`](crate::PageWriter::keep_within_file)).
    /// Slots that are only held by headers or readers do not count. Holds until the file is opened again or shrinks; the
    /// next commit makes it part of the file for good. The free-space map itself writes a few pages in each commit: ask
    /// for some more than the pages that are to be written.
    ///
    /// # Errors
    /// [`PageError::OutOfSpace`], [`PageError::Full`], or as [`PageFile::begin`]. A failed sync poisons.
    pub fn reserve(&self, slots: u64) -> Result<(), PageError> {
        let mut writer = self.begin()?;
        let space = writer.draft()?.space_mut();
        space.lately.reserve(slots);
        let missing = slots.saturating_sub(space.available());
        let from = space.written();
        let to = from.saturating_add(missing);
        if to > self.inner.max_pages {
            return Err(PageError::Full { pages: self.inner.max_pages });
        }
        if missing > 0 {
            self.inner.slots.allocate(from, to).map_err(PageError::of_write)?;
            self.inner.slots.sync().inspect_err(|_| self.inner.poison())?;
            space.note_written(to);
        }
        Ok(())
    }

    /// Cuts free slots off the end of the file: those that no header on disk and no root that is held needs. Pages of the
    /// free-space map that stand in the way move down first. Takes a commit, or a few; the meta of the newest one stays.
    /// Pages of the layer above are not moved. Gives the number of slots by which the file is shorter.
    ///
    /// # Errors
    /// As a commit. What was cut before an error stays cut.
    pub fn shrink(&self) -> Result<u64, PageError> {
        let slots = || self.inner.counters().slots.get();
        let before = slots();
        for _ in 0..SHRINKING_COMMITS_MAX {
            if !self.shrink_once()? {
                break;
            }
        }
        Ok(before.saturating_sub(slots()))
    }

    /// A commit that moves pages of the map down, or cuts; false when there is nothing to do.
    fn shrink_once(&self) -> Result<bool, PageError> {
        let mut writer = self.begin()?;
        let meta = self.root().meta().to_vec();
        let needed_by_roots = {
            let oldest = self.inner.oldest_root();
            writer.draft()?.space().last_held_since(oldest).map_or(0, |last| last.saturating_add(1))
        };
        let draft = writer.draft()?;
        let map = draft.space_mut().map_pages()?;
        let last = last_used(draft, &map)?.max(needed_by_roots).max(FIXED_END);
        let map_slots = disk_len(map.0.len().saturating_add(map.1.len()));
        let before = draft.space().written();
        let all = last_used(draft, &MapPages::default())?.max(last);
        if draft.parity_state.mode != ParityMode::Off {
            let parity_slots = draft.parity_slots()?;
            let live = last_live(draft)?.max(needed_by_roots).max(FIXED_END);
            draft.move_down(BTreeSet::new(), BTreeSet::new());
            let behind = live.saturating_add(map_slots).saturating_add(parity_slots);
            if all > behind && draft.leave_behind(behind)? {
                let placed = draft.place_map(0)?;
                writer.commit_placed(placed, &meta)?;
                return Ok(true);
            }
        }
        if all > last.saturating_add(map_slots) && move_map_down(draft, map, last.saturating_add(map_slots)) {
            let placed = draft.place_map(0)?;
            writer.commit_placed(placed, &meta)?;
            return Ok(true);
        }
        if all >= before {
            return Ok(false);
        }
        draft.cut_to(u32::try_from(all.div_ceil(REGION_SLOTS)).unwrap_or(u32::MAX));
        let placed = draft.place_map(all)?;
        let end = placed.end;
        if end >= before {
            return Ok(false);
        }
        writer.commit_placed(placed, &meta)?;
        // The header is durable and needs nothing behind the end; the one before, in its place if this one is lost, neither.
        let len = end.saturating_mul(self.page_size().bytes().into());
        self.inner.slots.file.set_len(len)?;
        Ok(true)
    }
}

/// The slot behind the last in use, not counting pages of the map.
fn last_used(draft: &mut Draft, (regions, nodes): &MapPages) -> Result<u64, PageError> {
    let map: BTreeSet<_> =
        regions.iter().map(|(_, at)| at).chain(nodes.iter().map(|(_, at)| at)).flat_map(slots_of).collect();
    for region in (0..draft.regions()).rev() {
        let mut used = draft.used_in(region)?.or(draft.base(region)?.members);
        for page in map.iter().filter(|page| region_of(**page) == region) {
            used.remove(place_of(*page));
        }
        if let Some(last) = used.last() {
            let first = u64::from(region).saturating_mul(REGION_SLOTS);
            return Ok(first.saturating_add(disk_len(last)).saturating_add(1));
        }
    }
    Ok(0)
}

/// The slot behind the last page in use that parity counts: of the layer above.
fn last_live(draft: &mut Draft) -> Result<u64, PageError> {
    for region in (0..draft.regions()).rev() {
        let base = draft.base(region)?;
        if let Some(last) = base.members.and(base.used).last() {
            let first = u64::from(region).saturating_mul(REGION_SLOTS);
            return Ok(first.saturating_add(disk_len(last)).saturating_add(1));
        }
    }
    Ok(0)
}

/// The slots of a page of the map.
fn slots_of((at, twin): &MapPage) -> impl Iterator<Item = PageId> + use<> {
    std::iter::once(at.page).chain(*twin)
}

/// Has pages of the map that stand behind a slot move down; false when there is none.
fn move_map_down(draft: &mut Draft, (regions, nodes): MapPages, behind: u64) -> bool {
    let is_behind = |at: &MapPage| slots_of(at).any(|page| page.get() >= behind);
    let regions: BTreeSet<u32> =
        regions.into_iter().filter(|(_, at)| is_behind(at)).map(|(region, _)| region).collect();
    let nodes: BTreeSet<NodeId> =
        nodes.into_iter().filter(|(_, at)| is_behind(at)).map(|(id, _)| id).collect();
    let any = !regions.is_empty() || !nodes.is_empty();
    draft.move_down(regions, nodes);
    any
}
