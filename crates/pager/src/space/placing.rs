//! Placing the pages of the free-space map: every region that changed and every node above it is written anew.
//!
//! A new place changes the region it is in, and so does the place that is left; so the set of what changed grows until it
//! no longer does. It ends because each page gets a place once, and soon because places are sought in regions that have
//! changed already.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_types::{Generation, PageId, PageRef, ValueRef};

use super::draft::{Draft, DraftRegion};
use super::{Freed, LoadedNode, MapPage, Region, Space};
use crate::bitmap::{BITS, Bitmap};
use crate::directory::{Node, NodeEntry, NodeId};
use crate::error::PageError;
use crate::header::{FIXED_END, Header};
use crate::page::PageKind;
use crate::parity::{ParityMode, ParityState, RegionParity};
use crate::region::{REGION_SLOTS, RegionPage, place_of, region_of};
use crate::sync::Arc;

/// Slots between a page of the map and its second copy, if there is room.
const TWIN_APART: usize = 8;

/// The map of a generation, ready to be written.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The map's new pages.
    pub(crate) pages: Vec<(PageId, ValueRef)>,
    pub(crate) directory: PageRef,
    directory_twin: Option<PageId>,
    dead: u64,
    parity: ParityState,
    pub(crate) height: u8,
    pub(crate) regions: u32,
    /// Slots of the file.
    pub(crate) end: u64,
    pub(crate) used: u64,
    pub(crate) pending: u64,
    changed: BTreeMap<u32, Region>,
    freed: BTreeMap<u32, Bitmap>,
    nodes: BTreeMap<NodeId, LoadedNode>,
    /// No region below it has room.
    hint: u32,
}

impl DraftRegion {
    /// The region once the generation is durable.
    fn committed(&self, (at, twin): MapPage, parity: Option<Arc<RegionParity>>) -> Region {
        let held = self.held.or(self.freed);
        Region { used: self.used, held, members: self.members, at, twin, parity }
    }
}

/// The slot of a new page of the map, and that of its second copy.
type Slots = (PageId, Option<PageId>);

/// Where the new pages of the map go.
#[derive(Debug, Default)]
struct Places {
    regions: BTreeMap<u32, Slots>,
    nodes: BTreeMap<NodeId, Slots>,
}

impl Placed {
    /// The header of the generation.
    pub(crate) fn header(&self, generation: Generation, meta: &[u8]) -> Header {
        Header {
            generation,
            directory: self.directory,
            twin: self.directory_twin,
            height: self.height,
            regions: self.regions,
            slots: self.end,
            used: self.used,
            pending: self.pending,
            dead: self.dead,
            parity: self.parity,
            meta: meta.into(),
        }
    }
}

impl Draft {
    /// Gives every page of the map that must be written a place, and says what it holds.
    pub(crate) fn place_map(&mut self, least_end: u64) -> Result<Placed, PageError> {
        let mut hint = self.cursor;
        for (region, draft) in &mut self.drafted {
            if !draft.reserved.is_empty() {
                draft.reserved = Bitmap::EMPTY;
                hint = hint.min(*region);
            }
        }
        self.cursor = hint;
        if self.shrinking {
            self.leave_dropped()?;
        }
        let mut places = Places::default();
        let (end, regions) = loop {
            let (end, regions) = self.extent(least_end)?;
            let (new_regions, new_nodes) = self.unplaced(&places, regions)?;
            if new_regions.is_empty() && new_nodes.is_empty() {
                break (end, regions);
            }
            for region in new_regions {
                if region < self.space.regions {
                    let left = self.space.region(region)?;
                    let left = (left.at, left.twin);
                    self.free_map_page(left)?;
                }
                let place = self.place_twice(region)?;
                places.regions.insert(region, place);
            }
            for id in new_nodes {
                if let Some(left) = self.committed_node(id)? {
                    self.free_map_page(left)?;
                }
                let near = u32::try_from(self.space.shape.first_region(id, 0)).unwrap_or(u32::MAX);
                let place = self.place_twice(near)?;
                places.nodes.insert(id, place);
            }
        };
        self.encode(&places, end, regions)
    }

    /// The slots and the regions of the file.
    fn extent(&mut self, least_end: u64) -> Result<(u64, u32), PageError> {
        let end = if self.shrinking {
            self.end_needed(least_end.max(FIXED_END))?
        } else {
            self.top.max(self.space.written).max(self.space.end).max(least_end)
        };
        Ok((end, u32::try_from(end.div_ceil(REGION_SLOTS)).unwrap_or(u32::MAX)))
    }

    /// Where a node is in the committed directory.
    fn committed_node(&mut self, id: NodeId) -> Result<Option<MapPage>, PageError> {
        let (level, _) = id;
        if level >= self.space.height || self.space.shape.entries(id, self.space.regions) == 0 {
            return Ok(None);
        }
        self.space.node(id)?;
        Ok(self.space.nodes.get(&id).map(|loaded| (loaded.at, loaded.twin)))
    }

    /// This generation does without a page of the map and its second copy.
    fn free_map_page(&mut self, (at, twin): MapPage) -> Result<(), PageError> {
        self.free_old(at.page)?;
        twin.map_or(Ok(()), |twin| self.free_old(twin))
    }

    /// When the file shrinks: the map does without the pages of regions and nodes behind its end.
    fn leave_dropped(&mut self) -> Result<(), PageError> {
        let (map_regions, map_nodes) = self.space.map_pages()?;
        let kept = self.regions;
        let height = self.space.shape.height(kept);
        for (_, at) in map_regions.into_iter().filter(|(region, _)| *region >= kept) {
            self.free_map_page(at)?;
        }
        let is_kept = |(level, index): NodeId| {
            level < height && index <= self.space.shape.node_of(level, kept.saturating_sub(1)).0.1
        };
        let dropped: Vec<_> = map_nodes.into_iter().filter(|(id, _)| !is_kept(*id)).collect();
        for (_, at) in dropped {
            self.free_map_page(at)?;
        }
        Ok(())
    }

    /// What must be written and has no place yet.
    fn unplaced(&mut self, places: &Places, regions: u32) -> Result<(Vec<u32>, BTreeSet<NodeId>), PageError> {
        for region in self.space.regions..regions {
            self.region_mut(region)?;
        }
        let drafted: Vec<u32> = self.drafted.range(..regions).map(|(region, _)| *region).collect();
        let mut changed: BTreeSet<u32> =
            self.moving_regions.iter().filter(|region| **region < regions).copied().collect();
        for region in drafted {
            let fresh = region >= self.space.regions;
            let base = self.base(region)?.used;
            let draft = self.drafted.get(&region);
            let parity = self.parity.contains_key(&region);
            if fresh || parity || draft.is_some_and(|draft| draft.used != base) {
                changed.insert(region);
            }
        }
        let shape = self.space.shape;
        let height = shape.height(regions);
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        for level in 0..height {
            nodes.extend(changed.iter().map(|region| shape.node_of(level, *region).0));
            // The last node of each level ends where the regions do, and a node that moves is entered above it.
            let ends = (regions != self.space.regions).then_some(regions.saturating_sub(1));
            nodes.extend(ends.map(|last| shape.node_of(level, last).0));
            let moving = self.moving_nodes.iter().filter(|(moving, _)| *moving <= level);
            let first = moving.map(|id| u32::try_from(shape.first_region(*id, 0)).unwrap_or(u32::MAX));
            nodes.extend(first.filter(|first| *first < regions).map(|first| shape.node_of(level, first).0));
        }
        nodes.retain(|id| !places.nodes.contains_key(id));
        Ok((changed.into_iter().filter(|region| !places.regions.contains_key(region)).collect(), nodes))
    }

    /// Slots for a page of the map and, when parity is kept, for its second copy, which is not its neighbour if there is
    /// room elsewhere.
    fn place_twice(&mut self, near: u32) -> Result<Slots, PageError> {
        let page = self.place_near(near)?;
        if self.parity_state.mode == ParityMode::Off {
            return Ok((page, None));
        }
        let region = region_of(page);
        let apart = Bitmap::below(BITS).without(Bitmap::below(place_of(page).saturating_add(TWIN_APART)));
        let twin = if self.compact { None } else { self.allocate_in(region, apart)? };
        let twin = match twin {
            Some(twin) => {
                self.note_write(twin)?;
                twin
            }
            None => self.place_near(near)?,
        };
        Ok((page, Some(twin)))
    }

    /// A slot for a page of the map, in a region that changes anyway if there is room in one.
    fn place_near(&mut self, region: u32) -> Result<PageId, PageError> {
        let found = if self.compact { None } else { self.place_in_changed(region)? };
        let page = match found {
            Some(page) => page,
            None => self.allocate_run(1)?.first,
        };
        self.note_write(page)?;
        Ok(page)
    }

    fn place_in_changed(&mut self, near: u32) -> Result<Option<PageId>, PageError> {
        if self.drafted.contains_key(&near)
            && let Some(page) = self.allocate_in(near, Bitmap::below(BITS))?
        {
            return Ok(Some(page));
        }
        // What is freed now has no room, so a region that is full stays full.
        while let Some((region, _)) = self.drafted.range(self.map_cursor..).next() {
            let region = *region;
            if let Some(page) = self.allocate_in(region, Bitmap::below(BITS))? {
                return Ok(Some(page));
            }
            self.map_cursor = region.saturating_add(1);
        }
        Ok(None)
    }

    fn encode(&mut self, places: &Places, end: u64, regions: u32) -> Result<Placed, PageError> {
        let place = Arc::clone(&self.space.slots.place);
        let mut nodes = self.nodes_to_write(places, regions)?;
        let (mut pages, mut pending) = (std::mem::take(&mut self.parity_pages), 0_u64);
        let (mut changed, mut freed) = (BTreeMap::new(), BTreeMap::new());
        let (mut used, mut dead) = (self.space.used, self.space.dead);
        for (region, (page, twin)) in &places.regions {
            let draft = self.region_mut(*region).copied()?;
            let parity = self.parity_of(*region)?;
            let content = RegionPage { region: *region, used: draft.used, pending: draft.freed, parity };
            let payload = content.encode();
            let (at, bytes) = place.encode(*page, self.generation, PageKind::FREE_SPACE, &payload);
            pages.push((*page, bytes));
            pages.extend(
                twin.map(|twin| (twin, place.encode(twin, at.birth, PageKind::FREE_SPACE, &payload).1)),
            );
            let before = self.base(*region)?;
            pending = pending.saturating_add(draft.freed.count());
            used = used.saturating_add(draft.used.count()).saturating_sub(before.used.count());
            dead = dead.saturating_add(draft.dead().count()).saturating_sub(before.dead().count());
            let free = REGION_SLOTS.saturating_sub(draft.used.count());
            let leaf = self.space.shape.node_of(0, *region);
            enter(&mut nodes, leaf, NodeEntry { at: Some(at), free, twin: *twin });
            changed.insert(*region, draft.committed((at, *twin), content.parity));
            freed.insert(*region, draft.freed);
        }
        let (used_dropped, dead_dropped) = self.in_dropped(regions)?;
        (used, dead) = (used.saturating_sub(used_dropped), dead.saturating_sub(dead_dropped));
        let height = self.space.shape.height(regions);
        let mut written = BTreeMap::new();
        for (id, (page, twin)) in &places.nodes {
            let Some(node) = nodes.get(id).cloned() else { continue };
            let encode = |slot: PageId| {
                place.encode(slot, self.generation, PageKind::FREE_SPACE_DIRECTORY, &node.encode())
            };
            let (at, bytes) = encode(*page);
            pages.push((*page, bytes));
            pages.extend(twin.map(|twin| (twin, encode(twin).1)));
            let above = id.0.saturating_add(1);
            if above < height {
                let first = u32::try_from(self.space.shape.first_region(*id, 0)).unwrap_or(u32::MAX);
                let entry = NodeEntry { at: Some(at), free: node.free(), twin: *twin };
                enter(&mut nodes, self.space.shape.node_of(above, first), entry);
            }
            written.insert(*id, LoadedNode { at, twin: *twin, node });
        }
        let root = (height.saturating_sub(1), 0);
        let root_at = match written.get(&root) {
            Some(root) => Some((root.at, root.twin)),
            None => self.committed_node(root)?,
        };
        let (directory, directory_twin) = root_at.ok_or_else(|| self.space.no_place(root))?;
        Ok(Placed {
            pages,
            directory,
            directory_twin,
            dead,
            parity: self.parity_state,
            height,
            regions,
            end,
            used,
            pending,
            changed,
            freed,
            nodes: written,
            hint: self.cursor,
        })
    }

    /// The parity of a region as this generation has it.
    fn parity_of(&mut self, region: u32) -> Result<Option<Arc<RegionParity>>, PageError> {
        if let Some(parity) = self.parity.get(&region) {
            let any = !parity.members().is_empty();
            return Ok(any.then(|| Arc::new(parity.clone())));
        }
        if region >= self.space.regions {
            return Ok(None);
        }
        Ok(self.space.region(region)?.parity.clone())
    }

    /// Slots in use before, and dead ones, in regions that are no longer there.
    fn in_dropped(&mut self, regions: u32) -> Result<(u64, u64), PageError> {
        let (mut used, mut dead) = (0_u64, 0_u64);
        for region in regions..self.space.regions {
            let base = self.base(region)?;
            used = used.saturating_add(base.used.count());
            dead = dead.saturating_add(base.dead().count());
        }
        Ok((used, dead))
    }

    /// The nodes that have a new place, with the entries of before.
    fn nodes_to_write(&mut self, places: &Places, regions: u32) -> Result<BTreeMap<NodeId, Node>, PageError> {
        let mut nodes = BTreeMap::new();
        let shape = self.space.shape;
        for id in places.nodes.keys() {
            let mut entries = match self.committed_node(*id)? {
                Some(_) => self.space.node(*id)?.entries.clone(),
                None => Vec::new(),
            };
            entries.resize(shape.entries(*id, regions), NodeEntry { at: None, free: 0, twin: None });
            // A root of a new level leads to the root of before.
            if self.space.height > 0
                && *id == (self.space.height, 0)
                && let Some(first) = entries.first_mut()
            {
                let before = (self.space.height.saturating_sub(1), 0);
                *first = NodeEntry {
                    at: self.space.directory,
                    free: self.space.node(before)?.free(),
                    twin: self.space.directory_twin,
                };
            }
            nodes.insert(*id, Node { id: *id, entries });
        }
        Ok(nodes)
    }

    /// The map once the generation is durable.
    pub(crate) fn applied(self, placed: Placed) -> Space {
        let mut space = self.space;
        let mut freed = Freed { generation: self.generation, slots: BTreeMap::new(), unread: 0 };
        freed.slots.extend(placed.freed.into_iter().filter(|(_, freed)| !freed.is_empty()));
        space.loaded.extend(placed.changed);
        // What was freed behind the new end is needed until the next generation is durable, though no page says so.
        for (region, draft) in self.drafted.range(placed.regions..) {
            if !draft.freed.is_empty() {
                freed.slots.insert(*region, draft.freed);
            }
        }
        space.loaded.retain(|region, _| *region < placed.regions);
        space.nodes.extend(placed.nodes);
        let shape = space.shape;
        space.nodes.retain(|id, _| id.0 < placed.height && shape.entries(*id, placed.regions) > 0);
        // What was held already and is excluded now is held by this generation.
        for (region, bits) in &freed.slots {
            for older in space.freed.iter_mut().filter_map(|older| older.slots.get_mut(region)) {
                *older = older.without(*bits);
            }
        }
        space.freed.push_back(freed);
        space.directory_twin = placed.directory_twin;
        space.dead = placed.dead;
        space.parity = placed.parity;
        space.lately = self.lately;
        space.generation = self.generation;
        space.directory = Some(placed.directory);
        space.height = placed.height;
        space.regions = placed.regions;
        space.used = placed.used;
        space.written = if self.shrinking { placed.end } else { space.written.max(placed.end) };
        space.end = placed.end;
        space.hint = placed.hint.min(placed.regions);
        space
    }
}

/// Sets an entry of a node that is written.
fn enter(nodes: &mut BTreeMap<NodeId, Node>, (id, place): (NodeId, usize), entry: NodeEntry) {
    if let Some(to) = nodes.get_mut(&id).and_then(|node| node.entries.get_mut(place)) {
        *to = entry;
    }
}
