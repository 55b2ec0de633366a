//! The free-space map of the generation that is being built: what it takes and frees, over the committed map.
//!
//! Invariants:
//! * The committed map is not changed before the generation is durable, but for what is read of it; so dropping a draft
//!   takes everything back.
//! * Given away is only what is not in use, not held, not given away, and not freed by this generation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use keepstone_types::{Generation, PageId, ValueRef};

use super::Space;
use crate::bitmap::{BITS, Bitmap};
use crate::directory::NodeId;
use crate::error::PageError;
use crate::header::is_fixed;
use crate::layout::{disk_len, memory_len};
use crate::page::PageRun;
use crate::parity::{COLUMNS, Lately, ParityMode, ParityState, RegionParity};
use crate::region::{REGION_SLOTS, part_below, place_of, region_of, slot_at};
use crate::wrong::{self, Wrong};

/// Regions that are looked at for a run.
const REGIONS_LOOKED_AT: u32 = 16;
/// Regions that are read from the disk for a generation that looks for room, when parity is kept.
const REGIONS_LOADED: u32 = 16;
/// Columns that are filled side by side, at most, unless there are many pages.
const TILE_COLUMNS: usize = 8;
/// Free slots that a column must have to be filled up with single pages.
pub(crate) const TILE_ROOM_MIN: u32 = 4;
/// Free slots of a column that is as good as empty.
const TILE_ROOM_FRESH: u32 = 24;
/// Single pages of a generation for which a column more is filled side by side.
const TILE_WIDENED_EACH: u32 = 16;
/// Single pages of a generation after which empty regions are filled by rows.
const TILE_BULK: u32 = 512;

/// A region as the generation being built has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DraftRegion {
    pub(crate) used: Bitmap,
    pub(crate) held: Bitmap,
    pub(crate) reserved: Bitmap,
    /// Freed by this generation, or excluded from parity by it.
    pub(crate) freed: Bitmap,
    /// What parity counts.
    pub(crate) members: Bitmap,
}

impl DraftRegion {
    /// What parity counts and is not in use.
    pub(crate) fn dead(&self) -> Bitmap {
        self.members.without(self.used)
    }

    fn room(&self) -> Bitmap {
        let counted = if wrong::is(Wrong::MemberReuse) { Bitmap::EMPTY } else { self.members };
        let taken = self.used.or(self.held).or(self.reserved).or(self.freed).or(counted);
        Bitmap::below(BITS).without(taken)
    }
}

/// Columns of a region that are filled side by side, and how many free slots each has about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tile {
    /// Free slots of the fullest of the columns, in units of [`TILE_ROOM_MIN`]; reversed, so that the emptiest come first.
    class: Reverse<u32>,
    region: u32,
    columns: u32,
}

/// The columns of a region with so much room that have enough of it.
fn tiles_of(region: u32, room: Bitmap, tiles: &mut Vec<Tile>) {
    let mut by_class: BTreeMap<u32, u32> = BTreeMap::new();
    for column in 0..COLUMNS {
        let class = room.column(column).count_ones().min(TILE_ROOM_FRESH) / TILE_ROOM_MIN;
        if class > 0 {
            *by_class.entry(class).or_default() |= 1 << column;
        }
    }
    let of = |(class, columns)| Tile { class: Reverse(class), region, columns };
    tiles.extend(by_class.into_iter().map(of));
}

/// The free-space map of the generation being built.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) space: Space,
    pub(crate) generation: Generation,
    pub(crate) drafted: BTreeMap<u32, DraftRegion>,
    /// Regions there are, those included that this generation adds.
    pub(crate) regions: u32,
    /// No region below it has room.
    pub(crate) cursor: u32,
    /// The slot behind the last that is written.
    pub(crate) top: u64,
    /// The most slots.
    limit: u64,
    /// Whether slots below the end of what is written are used up first, in runs of any length.
    within: bool,
    /// Single pages go below this slot as long as there is room.
    below: u64,
    /// Pages of the map that shall move down.
    pub(crate) moving_regions: BTreeSet<u32>,
    pub(crate) moving_nodes: BTreeSet<NodeId>,
    /// Whether pages of the map go to the lowest slots there are, whatever changes.
    pub(crate) compact: bool,
    /// Whether the file shall end with the last slot that is needed.
    pub(crate) shrinking: bool,
    /// No drafted region below it has room for a page of the map.
    pub(crate) map_cursor: u32,
    /// Parity as this generation has it, of the regions in which it changed.
    pub(crate) parity: BTreeMap<u32, RegionParity>,
    pub(crate) parity_pages: Vec<(PageId, ValueRef)>,
    pub(crate) parity_state: ParityState,
    /// No drafted region below it has room for a parity page.
    pub(crate) parity_cursor: u32,
    /// Where single pages go: a region, columns of it that are filled before others, and the slot that ends them.
    tile: Option<(u32, u32, u64)>,
    /// Those that are filled next, the last first; `None` before they were looked for.
    tiles: Option<Vec<Tile>>,
    /// The first region that was not looked at for tiles because it is not in memory.
    tile_cursor: u32,
    /// Single pages given away.
    singles: u32,
    /// Regions that may yet be read from the disk to look for room.
    loads_left: u32,
    /// The region at which that ended the search.
    stopped: Option<u32>,
    /// Slots given away that were written before.
    pub(crate) taken: u64,
    pub(crate) lately: Lately,
}

impl Draft {
    pub(crate) fn new(space: Space, generation: Generation, limit: u64) -> Self {
        Self {
            generation,
            drafted: BTreeMap::new(),
            regions: space.regions,
            cursor: space.hint,
            top: 0,
            limit: limit.max(space.written),
            within: false,
            below: u64::MAX,
            moving_regions: BTreeSet::new(),
            moving_nodes: BTreeSet::new(),
            compact: false,
            shrinking: false,
            map_cursor: 0,
            parity: BTreeMap::new(),
            parity_pages: Vec::new(),
            parity_state: space.parity,
            parity_cursor: 0,
            tile: None,
            tiles: None,
            tile_cursor: 0,
            singles: 0,
            loads_left: if space.parity.mode == ParityMode::Off { u32::MAX } else { REGIONS_LOADED },
            stopped: None,
            taken: 0,
            lately: space.lately,
            space,
        }
    }

    /// Takes everything back.
    pub(crate) fn roll_back(self) -> Space {
        self.space
    }

    /// Whether the file must not grow.
    pub(crate) const fn is_within(&self) -> bool {
        self.within
    }

    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) const fn space_mut(&mut self) -> &mut Space {
        &mut self.space
    }

    pub(crate) const fn keep_within(&mut self, within: bool) {
        self.within = within;
    }

    pub(crate) const fn keep_below(&mut self, slot: u64) {
        self.below = slot;
    }

    /// What can be given away of a region below slot `ceiling`.
    fn room(&mut self, region: u32, ceiling: u64) -> Result<Bitmap, PageError> {
        let room = match self.drafted.get(&region) {
            Some(draft) => draft.room(),
            None => self.base(region)?.room(),
        };
        Ok(room.and(part_below(region, ceiling)))
    }

    /// A region as it was before this generation.
    pub(crate) fn base(&mut self, region: u32) -> Result<DraftRegion, PageError> {
        if region >= self.space.regions {
            return Ok(DraftRegion::default());
        }
        let base = self.space.region(region)?;
        Ok(DraftRegion { used: base.used, held: base.held, members: base.members, ..DraftRegion::default() })
    }

    pub(crate) fn region_mut(&mut self, region: u32) -> Result<&mut DraftRegion, PageError> {
        let base = match self.drafted.get(&region) {
            Some(draft) => *draft,
            None => self.base(region)?,
        };
        Ok(self.drafted.entry(region).or_insert(base))
    }

    /// The first region from `from` on that has room below slot `ceiling`.
    fn next_with_room(&mut self, from: u32, ceiling: u64) -> Result<Option<u32>, PageError> {
        let mut region = from;
        while region < self.regions && u64::from(region).saturating_mul(REGION_SLOTS) < ceiling {
            let known = self.drafted.contains_key(&region)
                || self.space.loaded.contains_key(&region)
                || region >= self.space.regions;
            if !known {
                let (free, next) = self.space.room_at(region)?;
                if free == 0 {
                    region = next;
                    continue;
                }
                if !self.within {
                    // What is not in use may be dead and counted: with parity a region must be read to know.
                    if self.loads_left == 0 {
                        self.stopped = Some(region);
                        return Ok(None);
                    }
                    self.loads_left = self.loads_left.saturating_sub(1);
                }
            }
            if !self.room(region, ceiling)?.is_empty() {
                return Ok(Some(region));
            }
            region = region.saturating_add(1);
        }
        Ok(None)
    }

    /// Reserves slots one after the other: `want`, or the longest run that is near.
    pub(crate) fn allocate(&mut self, want: u32) -> Result<PageRun, PageError> {
        let want = usize::try_from(want).unwrap_or(BITS).clamp(1, BITS);
        if want == 1
            && self.parity_state.mode == ParityMode::Xor
            && !self.compact
            && let Some(run) = self.single()?
        {
            return Ok(run);
        }
        self.allocate_run(want)
    }

    /// Reserves the lowest slots that stand one after the other.
    pub(crate) fn allocate_run(&mut self, want: usize) -> Result<PageRun, PageError> {
        let within = self.space.written.min(self.limit);
        if self.within
            && let Some(run) = self.find_run(want, within, false)?
        {
            return self.reserve(run);
        }
        match self.find_run(want, self.limit, true)? {
            Some(run) => self.reserve(run),
            None => Err(PageError::Full { pages: self.limit }),
        }
    }

    /// Reserves a slot so that few groups get many pages: each group that gets any has its parity page written anew.
    /// Groups with much room are filled up, those of an empty region in blocks of columns, so that neighbours in a
    /// generation are neighbours on the disk; many pages fill whole rows.
    fn single(&mut self) -> Result<Option<PageRun>, PageError> {
        let ceiling = if self.within { self.space.written.min(self.limit) } else { self.limit };
        let ceiling = ceiling.min(self.below);
        self.singles = self.singles.saturating_add(1);
        for fresh in [false, true] {
            if fresh {
                self.tile = self.next_tile(ceiling)?;
            }
            let Some((region, open, end)) = self.tile else { continue };
            if let Some(place) = self.room(region, end)?.and(Bitmap::columns(open)).first() {
                return self.reserve((region, place, 1)).map(Some);
            }
        }
        Ok(None)
    }

    /// The next columns to be filled, and the slot that ends them: those with the most room within the file of the regions in
    /// memory, then of others; then the file grows, by several columns side by side, so that it grows by few slots.
    fn next_tile(&mut self, ceiling: u64) -> Result<Option<(u32, u32, u64)>, PageError> {
        let width = match self.singles {
            singles if singles > TILE_BULK => COLUMNS,
            singles => memory_len((singles / TILE_WIDENED_EACH).into()).next_power_of_two().min(TILE_COLUMNS),
        };
        let within = self.space.written.min(ceiling);
        if self.tiles.is_none() {
            let known: Vec<u32> = self.space.loaded.range(self.cursor..).map(|(region, _)| *region).collect();
            self.set_tiles(known, within)?;
        }
        if let Some((region, open)) = self.next_known_tile(width, within)? {
            return Ok(Some((region, open, within)));
        }
        while let Some(region) = self.next_with_room(self.tile_cursor.max(self.cursor), ceiling)? {
            self.tile_cursor = region.saturating_add(1);
            for (width, end) in [(width, within), (width.max(TILE_COLUMNS), ceiling)] {
                self.set_tiles(vec![region], end)?;
                if let Some((region, open)) = self.next_known_tile(width, end)? {
                    // It is looked at again when these columns are full.
                    self.tile_cursor = region;
                    return Ok(Some((region, open, end)));
                }
            }
        }
        if self.within || self.below < u64::MAX || part_below(self.regions, ceiling).is_empty() {
            return Ok(None);
        }
        self.tile_cursor = self.regions;
        let columns = if width == COLUMNS { u32::MAX } else { (1 << TILE_COLUMNS) - 1 };
        Ok(Some((self.regions, columns, ceiling)))
    }

    /// Sets what is filled next to the columns of regions that have room before a slot.
    fn set_tiles(&mut self, regions: Vec<u32>, end: u64) -> Result<(), PageError> {
        let mut tiles = Vec::new();
        for region in regions {
            tiles_of(region, self.room(region, end)?, &mut tiles);
        }
        tiles.sort_unstable_by(|a, b| b.cmp(a));
        self.tiles = Some(tiles);
        Ok(())
    }

    /// So many columns of the first tile that still has room.
    fn next_known_tile(&mut self, width: usize, ceiling: u64) -> Result<Option<(u32, u32)>, PageError> {
        while let Some(tile) = self.tiles.as_mut().and_then(Vec::pop) {
            let mut open = 0_u32;
            for column in (0..COLUMNS).filter(|column| tile.columns >> column & 1 == 1).take(width) {
                open |= 1 << column;
            }
            let rest = tile.columns & !open;
            if rest != 0
                && let Some(tiles) = &mut self.tiles
            {
                tiles.push(Tile { columns: rest, ..tile });
            }
            let room = self.room(tile.region, ceiling)?;
            if (0..COLUMNS)
                .any(|column| open >> column & 1 == 1 && room.column(column).count_ones() >= TILE_ROOM_MIN)
            {
                return Ok(Some((tile.region, open)));
            }
        }
        Ok(None)
    }

    /// The first region in which there are `want` slots one after the other, or the longest run of those looked at.
    fn find_run(
        &mut self,
        want: usize,
        ceiling: u64,
        grow: bool,
    ) -> Result<Option<(u32, usize, usize)>, PageError> {
        let first = self.next_with_room(self.cursor, ceiling)?;
        // Below a ceiling too: what it leaves out is behind every region that it leaves in.
        match first {
            Some(first) => self.cursor = first,
            None if ceiling == self.limit => self.cursor = self.stopped.take().unwrap_or(self.regions),
            None => {}
        }
        let mut best: Option<(u32, usize, usize)> = None;
        let mut next = first;
        let mut looked_at = 0;
        while let Some(region) = next {
            if let Some((start, len)) = self.room(region, ceiling)?.run(want)
                && best.is_none_or(|(.., longest)| len > longest)
            {
                best = Some((region, start, len));
            }
            looked_at = u32::saturating_add(looked_at, 1);
            if best.is_some_and(|(.., len)| len >= want) || looked_at >= REGIONS_LOOKED_AT {
                break;
            }
            next = self.next_with_room(region.saturating_add(1), ceiling)?;
        }
        // Half of what was wanted is better than a longer file.
        let long_enough = |len: usize| len.saturating_mul(2) >= want;
        if grow && best.is_none_or(|(.., len)| !long_enough(len)) {
            best = self
                .at_the_end(want, ceiling)?
                .filter(|(.., len)| best.is_none_or(|(.., longest)| *len > longest))
                .or(best);
        }
        Ok(best)
    }

    /// A run in the last region, or in a new one.
    fn at_the_end(&mut self, want: usize, ceiling: u64) -> Result<Option<(u32, usize, usize)>, PageError> {
        let last = self.regions.saturating_sub(1);
        if self.regions > 0
            && let Some((start, len)) = self.room(last, ceiling)?.run(want).filter(|(_, len)| *len >= want)
        {
            return Ok(Some((last, start, len)));
        }
        let room = part_below(self.regions, ceiling).count();
        let len = memory_len(room).min(want);
        Ok((len > 0).then_some((self.regions, 0, len)))
    }

    fn reserve(&mut self, (region, start, len): (u32, usize, usize)) -> Result<PageRun, PageError> {
        self.regions = self.regions.max(region.saturating_add(1));
        let draft = self.region_mut(region)?;
        for place in start..start.saturating_add(len) {
            draft.reserved.insert(place);
        }
        let begins = slot_at(region, start).get();
        let written = self.space.written.saturating_sub(begins).min(disk_len(len));
        self.taken = self.taken.saturating_add(written);
        Ok(PageRun { first: slot_at(region, start), count: u32::try_from(len).unwrap_or(u32::MAX) })
    }

    /// Reserves the first slot with room in a region, without making the file longer.
    pub(crate) fn allocate_in(&mut self, region: u32, among: Bitmap) -> Result<Option<PageId>, PageError> {
        let within = self.space.written.min(self.limit);
        let Some(place) = self.room(region, within)?.and(among).first() else { return Ok(None) };
        Ok(Some(self.reserve((region, place, 1))?.first))
    }

    /// As [`allocate_in`](Self::allocate_in), in a column with too little room for a tile if there is one.
    pub(crate) fn allocate_scrap(&mut self, region: u32, among: Bitmap) -> Result<Option<PageId>, PageError> {
        let room = self.room(region, self.space.written.min(self.limit))?.and(among);
        let scraps =
            (0..COLUMNS).filter(|column| (1..TILE_ROOM_MIN).contains(&room.column(*column).count_ones()));
        let scraps = Bitmap::columns(scraps.fold(0, |mask, column| mask | 1 << column));
        let among = if room.and(scraps).is_empty() { room } else { room.and(scraps) };
        self.allocate_in(region, among)
    }

    /// Pages of the map at these places move to the lowest slots there are.
    pub(crate) fn move_down(&mut self, regions: BTreeSet<u32>, nodes: BTreeSet<NodeId>) {
        (self.moving_regions, self.moving_nodes, self.compact) = (regions, nodes, true);
    }

    /// The file ends with the last slot that is needed, and has at most so many regions.
    pub(crate) fn cut_to(&mut self, regions: u32) {
        self.regions = regions.min(self.regions);
        self.limit = self.limit.min(u64::from(self.regions).saturating_mul(REGION_SLOTS));
        self.cursor = self.cursor.min(self.regions);
        (self.compact, self.shrinking) = (true, true);
    }

    /// A reserved slot gets its content.
    pub(crate) fn note_write(&mut self, page: PageId) -> Result<(), PageError> {
        let unreserved = PageError::Misuse { page, what: "it is written without being reserved" };
        let Some(draft) = self.drafted.get_mut(&region_of(page)) else { return Err(unreserved) };
        if !draft.reserved.remove(place_of(page)) {
            return Err(unreserved);
        }
        draft.used.insert(place_of(page));
        self.top = self.top.max(page.get().saturating_add(1));
        Ok(())
    }

    /// A page of this generation is gone.
    pub(crate) fn free_new(&mut self, page: PageId) {
        let region = region_of(page);
        if let Some(draft) = self.drafted.get_mut(&region) {
            draft.used.remove(place_of(page));
            self.cursor = self.cursor.min(region);
        }
    }

    /// This generation does without a page of an older one.
    pub(crate) fn free_old(&mut self, page: PageId) -> Result<(), PageError> {
        let (region, place) = (region_of(page), place_of(page));
        let unused = PageError::Misuse { page, what: "it is freed without being in use" };
        if is_fixed(page.get()) || region >= self.space.regions {
            return Err(unused);
        }
        if !self.base(region)?.used.has(place) {
            return Err(unused);
        }
        let draft = self.region_mut(region)?;
        if !draft.used.remove(place) {
            return Err(unused);
        }
        draft.freed.insert(place);
        Ok(())
    }

    /// Fills a region of a map that is made anew: `used` is in use, and everything else below `end` is needed by others.
    pub(crate) fn fill(&mut self, region: u32, used: Bitmap, end: u64) -> Result<(), PageError> {
        self.regions = self.regions.max(region.saturating_add(1));
        let below = part_below(region, end);
        let draft = self.region_mut(region)?;
        draft.used = used;
        draft.freed = below.without(used);
        self.top = self.top.max(end);
        Ok(())
    }

    /// Regions there are.
    pub(crate) const fn regions(&self) -> u32 {
        self.regions
    }

    /// Slots in use in a region, as this generation has it.
    pub(crate) fn used_in(&mut self, region: u32) -> Result<Bitmap, PageError> {
        match self.drafted.get(&region) {
            Some(draft) => Ok(draft.used),
            None => Ok(self.base(region)?.used),
        }
    }

    /// The slot behind the last that the file needs as this generation has it: in use, or in use in the one before.
    pub(crate) fn end_needed(&mut self, least: u64) -> Result<u64, PageError> {
        for region in (0..self.regions).rev() {
            let draft = match self.drafted.get(&region) {
                Some(draft) => *draft,
                None => self.base(region)?,
            };
            if let Some(last) = draft.used.or(draft.freed).or(draft.members).last() {
                return Ok(slot_at(region, last).get().saturating_add(1).max(least));
            }
        }
        Ok(least)
    }
}
