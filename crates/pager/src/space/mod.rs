//! The free-space map as the newest committed generation has it: read from the disk as it is needed.
//!
//! Invariants:
//! * What is in memory of a region or a node is what the newest generation's pages say.
//! * A slot is *held* when it is not in use, and some header on disk or some living root still needs what is in it. Held
//!   are the slots that a generation N freed, until N + 1 is durable and no root older than N lives.
//! * Slots that this process's generations freed are in memory, region included; those that the last generation of the
//!   process before freed are found in the region's page (pending) when it is first read.
//! * No region below `hint` has a slot that can be given away.
//! * The blocks of all slots below `written` are the file's, but for as many as `holes` counts.

mod draft;
mod placing;

use std::collections::{BTreeMap, VecDeque};

use keepstone_types::{Generation, PageId, PageRef, ValueRef};

use crate::bitmap::Bitmap;
use crate::directory::{Node, NodeEntry, NodeId, Shape};
use crate::error::PageError;
use crate::header::{Header, is_fixed};
use crate::layout::{PAGE_HEADER_LEN, Place, disk_len};
use crate::page::{Page, PageKind};
use crate::parity::{Lately, Members, Mended, ParityState, RegionParity};
use crate::region::{REGION_SLOTS, RegionPage, part_below, slot_at};
use crate::slots::Slots;
use crate::sync::Arc;
use crate::wrong::{self, Wrong};

pub(crate) use draft::{Draft, TILE_ROOM_MIN};
pub(crate) use placing::Placed;

/// A page of the map, and the slot of its second copy.
pub(crate) type MapPage = (PageRef, Option<PageId>);

/// Pages of the map: of regions, of nodes.
pub(crate) type MapPages = (Vec<(u32, MapPage)>, Vec<(NodeId, MapPage)>);

/// A region in memory.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) used: Bitmap,
    pub(crate) held: Bitmap,
    /// What parity counts, used or not.
    pub(crate) members: Bitmap,
    at: PageRef,
    twin: Option<PageId>,
    pub(crate) parity: Option<Arc<RegionParity>>,
}

/// A node in memory, and where it is on disk.
#[derive(Clone, Debug)]
struct LoadedNode {
    at: PageRef,
    twin: Option<PageId>,
    node: Node,
}

/// What a generation freed.
#[derive(Debug)]
struct Freed {
    generation: Generation,
    slots: BTreeMap<u32, Bitmap>,
    /// Slots that stand in pages of regions that were not read yet.
    unread: u64,
}

impl Freed {
    fn count(&self) -> u64 {
        let read = self.slots.values().map(Bitmap::count).fold(0, u64::saturating_add);
        read.saturating_add(self.unread)
    }
}

/// The free-space map of the newest committed generation.
#[derive(Debug)]
pub(crate) struct Space {
    slots: Arc<Slots>,
    shape: Shape,
    generation: Generation,
    /// `None` before the first commit.
    directory: Option<PageRef>,
    directory_twin: Option<PageId>,
    height: u8,
    regions: u32,
    /// Slots of the file according to the newest header.
    end: u64,
    used: u64,
    /// Slots that are not in use and that parity counts.
    dead: u64,
    pub(crate) parity: ParityState,
    /// What the last generations wrote.
    pub(crate) lately: Lately,
    written: u64,
    /// Slots that the file has lost, or never had again after a fall back, and whose blocks are therefore not there.
    holes: u64,
    nodes: BTreeMap<NodeId, LoadedNode>,
    loaded: BTreeMap<u32, Region>,
    freed: VecDeque<Freed>,
    /// What generations through this one freed is held no more.
    released: Generation,
    hint: u32,
}

impl Space {
    /// No map at all: the next commit writes all of it.
    pub(crate) fn blank(slots: Arc<Slots>, generation: Generation) -> Self {
        Self {
            shape: Shape::of(slots.place.page_size.payload_len()),
            slots,
            generation,
            directory: None,
            directory_twin: None,
            height: 0,
            regions: 0,
            end: 0,
            used: 0,
            dead: 0,
            parity: ParityState::default(),
            lately: Lately::default(),
            written: 0,
            holes: 0,
            nodes: BTreeMap::new(),
            loaded: BTreeMap::new(),
            freed: VecDeque::new(),
            released: Generation::ZERO,
            hint: 0,
        }
    }

    /// The map that a header leads to; nothing is read yet. The file has `file_slots` whole slots.
    pub(crate) fn of(slots: Arc<Slots>, header: &Header, file_slots: u64) -> Self {
        let generation = header.generation;
        let pending = Freed { generation, slots: BTreeMap::new(), unread: header.pending };
        Self {
            directory: Some(header.directory),
            directory_twin: header.twin,
            dead: header.dead,
            parity: header.parity,
            height: header.height,
            regions: header.regions,
            end: header.slots,
            used: header.used,
            written: header.slots,
            holes: header.slots.saturating_sub(file_slots),
            freed: VecDeque::from([pending]),
            ..Self::blank(slots, generation)
        }
    }

    /// Whether parity is kept from now on. Nothing is counted yet.
    pub(crate) const fn set_parity(&mut self, parity: ParityState) {
        self.parity = parity;
    }

    pub(crate) const fn regions(&self) -> u32 {
        self.regions
    }

    pub(crate) const fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Regions in memory.
    pub(crate) fn loaded_regions(&self) -> Vec<u32> {
        self.loaded.keys().copied().collect()
    }

    /// A region, if it is in memory.
    pub(crate) fn loaded_region(&self, region: u32) -> Option<&Region> {
        self.loaded.get(&region)
    }

    /// Whether the page of a region has no second copy.
    pub(crate) fn lacks_twin(&mut self, region: u32) -> Result<bool, PageError> {
        Ok(self.region(region)?.twin.is_none())
    }

    /// Lets go of what generations freed that nobody needs any more. `oldest` is the oldest root that lives.
    pub(crate) fn release(&mut self, oldest: Generation) {
        let newest = self.generation.get();
        // The header of the newest generation may yet be lost, so what it freed is needed by the one before.
        let durable = if wrong::is(Wrong::EarlyReuse) { newest } else { newest.saturating_sub(1) };
        self.released = Generation::new(durable.min(oldest.get())).unwrap_or_default().max(self.released);
        while let Some(freed) = self.freed.pop_front_if(|freed| freed.generation <= self.released) {
            for (region, bits) in freed.slots {
                if let Some(region) = self.loaded.get_mut(&region) {
                    region.held = region.held.without(bits);
                }
                self.hint = self.hint.min(region);
            }
            // Regions that were not read say nothing of the hint.
            self.hint = if freed.unread > 0 { 0 } else { self.hint };
        }
    }

    /// Slots that are free and held.
    pub(crate) fn held(&self) -> u64 {
        self.freed.iter().map(Freed::count).fold(0, u64::saturating_add)
    }

    /// Slots below the end of what is written that can be given away now.
    pub(crate) fn available(&self) -> u64 {
        let taken = self.used.saturating_add(self.held()).saturating_add(self.dead_apart());
        self.written.saturating_sub(taken).saturating_sub(self.holes)
    }

    /// Slots that parity counts, and that nobody else needs any more.
    pub(crate) fn dead_apart(&self) -> u64 {
        let counted = |(region, bits): (&u32, &Bitmap)| {
            self.loaded.get(region).map_or(0, |region| region.members.and(*bits).count())
        };
        let held = self.freed.iter().flat_map(|freed| freed.slots.iter()).map(counted).sum();
        self.dead.saturating_sub(held)
    }

    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// The blocks of all slots below `end` are the file's now.
    pub(crate) fn note_written(&mut self, end: u64) {
        self.written = self.written.max(end);
    }

    /// The last slot that a root older than `generation`, or `generation` itself, keeps from being given away.
    pub(crate) fn last_held_since(&self, released: Generation) -> Option<u64> {
        let held = self.freed.iter().filter(|freed| freed.generation > released);
        let last = |freed: &Freed| {
            let (region, bits) = freed.slots.iter().next_back()?;
            Some(slot_at(*region, bits.last()?).get())
        };
        held.filter_map(last).max()
    }

    fn damaged(&self, at: PageRef, part: String, what: impl Into<String>) -> PageError {
        PageError::FreeSpace { file: self.slots.place.file.clone(), page: at.page, part, what: what.into() }
    }

    /// The payload of a page of the map.
    pub(crate) fn map_page(
        &self,
        (at, twin): MapPage,
        kind: PageKind,
        part: &dyn Fn() -> String,
    ) -> Result<Page, PageError> {
        let error = match self.slots.read(at).and_then(|page| page.expect_kind(kind)) {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        let Some(twin) = twin else {
            return Err(match error {
                PageError::Io(error) => PageError::Io(error),
                error => self.damaged(at, part(), error.to_string()),
            });
        };
        self.slots.counters.damaged_pages.add(1);
        let (page, bytes) = self.read_twin(at, twin, kind).map_err(|found| {
            self.slots.counters.unrepairable_pages.add(1);
            self.damaged(
                at,
                part(),
                format!("{error}; and its second copy, page {twin}, is lost too: {found}"),
            )
        })?;
        self.slots.repairs.push(Mended::Map, at, &bytes);
        Ok(page)
    }

    /// A page of the map from its second copy: the same payload in another slot, so the reference proves it.
    pub(crate) fn read_twin(
        &self,
        at: PageRef,
        twin: PageId,
        kind: PageKind,
    ) -> Result<(Page, ValueRef), String> {
        let slot = self.slots.read_slot(twin).map_err(|error| error.to_string())?;
        let (found, _) = slot.judge().map_err(|fault| fault.to_string())?;
        let payload = slot.bytes.get(PAGE_HEADER_LEN..).unwrap_or_default();
        let (again, bytes) = self.slots.place.encode(at.page, at.birth, kind, payload);
        if again != at || found.page != twin {
            return Err(found.to_string());
        }
        Ok((Place::page_of(at, kind, &bytes), bytes))
    }

    /// Whether the newest map has this page, in this copy. The payload says which of its pages it is.
    pub(crate) fn is_in_map(&mut self, at: PageRef, payload: &[u8]) -> Result<bool, PageError> {
        let is_here =
            |(first, twin): MapPage| at.birth == first.birth && (at == first || twin == Some(at.page));
        if let Ok(region) = RegionPage::decode(payload) {
            if region.region >= self.regions {
                return Ok(false);
            }
            let found = self.region(region.region)?;
            let page = (found.at, found.twin);
            return Ok(is_here(page) && found.used == region.used && found.parity == region.parity);
        }
        let Ok(node) = Node::decode(payload, self.shape) else { return Ok(false) };
        if node.id.0 >= self.height || self.shape.entries(node.id, self.regions) == 0 {
            return Ok(false);
        }
        self.node(node.id)?;
        let found = self.nodes.get(&node.id);
        Ok(found.is_some_and(|found| is_here((found.at, found.twin)) && found.node == node))
    }

    /// The members of a group; `None` when parity counts nothing in it.
    pub(crate) fn members(&mut self, region: u32, column: usize) -> Result<Option<Members>, PageError> {
        if region >= self.regions {
            return Ok(None);
        }
        let slots = Arc::clone(&self.slots);
        let parity = self.region(region)?.parity.clone();
        let parity = parity.filter(|parity| parity.group(column).mask != 0);
        Ok(parity.map(|parity| Members::new(slots, region, column, parity)))
    }

    /// Reads a node, and those above it, unless they are in memory.
    fn node(&mut self, id: NodeId) -> Result<&Node, PageError> {
        if !self.nodes.contains_key(&id) {
            let loaded = self.read_node(id)?;
            self.nodes.insert(id, loaded);
        }
        match self.nodes.get(&id) {
            Some(loaded) => Ok(&loaded.node),
            None => Err(self.no_place(id)),
        }
    }

    /// A node that the shape of the directory has and the directory has not.
    fn no_place(&self, (level, index): NodeId) -> PageError {
        let root = self.directory.unwrap_or(PageRef {
            page: Default::default(),
            birth: self.generation,
            checksum: 0,
        });
        self.damaged(
            root,
            format!("node {index} of level {level}"),
            "expected an entry that leads there, found none",
        )
    }

    fn read_node(&mut self, id: NodeId) -> Result<LoadedNode, PageError> {
        let (level, index) = id;
        let (at, twin, free) = if level.saturating_add(1) == self.height {
            (self.directory, self.directory_twin, None)
        } else {
            let first = u32::try_from(self.shape.first_region(id, 0)).unwrap_or(u32::MAX);
            let (parent, place) = self.shape.node_of(level.saturating_add(1), first);
            let entry = self.node(parent)?.entries.get(place).copied();
            (
                entry.and_then(|entry| entry.at),
                entry.and_then(|entry| entry.twin),
                entry.map(|entry| entry.free),
            )
        };
        let at = at.ok_or_else(|| self.no_place(id))?;
        let part = || format!("node {index} of level {level}");
        let page = self.map_page((at, twin), PageKind::FREE_SPACE_DIRECTORY, &part)?;
        let node = Node::decode(page.payload(), self.shape).map_err(|what| self.damaged(at, part(), what))?;
        let entries = self.shape.entries(id, self.regions);
        let what = if node.id != id {
            Some(format!("expected that node, found node {} of level {}", node.id.1, node.id.0))
        } else if node.entries.len() != entries {
            Some(format!("expected {entries} entries, found {}", node.entries.len()))
        } else if free.is_some_and(|free| free != node.free()) {
            Some(format!("expected {} free slots, found {}", free.unwrap_or(0), node.free()))
        } else {
            None
        };
        match what {
            Some(what) => Err(self.damaged(at, part(), what)),
            None => Ok(LoadedNode { at, twin, node }),
        }
    }

    /// What the directory says of a region.
    fn entry(&mut self, region: u32) -> Result<NodeEntry, PageError> {
        let (leaf, place) = self.shape.node_of(0, region);
        let entry = self.node(leaf)?.entries.get(place).copied();
        entry.ok_or_else(|| self.no_place(leaf))
    }

    /// The page of a region, by the directory.
    pub(crate) fn map_entry(&mut self, region: u32) -> Result<MapPage, PageError> {
        let entry = self.entry(region)?;
        let at = entry.at.ok_or_else(|| self.no_place((0, region)))?;
        Ok((at, entry.twin))
    }

    /// Whether a slot holds a page of the map or a parity page. Reads the whole map.
    pub(crate) fn is_own_slot(&mut self, page: PageId) -> Result<bool, PageError> {
        let (regions, nodes) = self.map_pages()?;
        let map = regions.iter().map(|(_, at)| at).chain(nodes.iter().map(|(_, at)| at));
        if map.into_iter().any(|(at, twin)| at.page == page || *twin == Some(page)) {
            return Ok(true);
        }
        for region in 0..self.regions {
            let parity = self.region(region)?.parity.clone();
            if parity.iter().flat_map(|parity| parity.groups()).any(|(_, group)| group.place == Some(page)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Free slots of a region, by the directory.
    pub(crate) fn free_of(&mut self, region: u32) -> Result<u64, PageError> {
        Ok(self.entry(region)?.free)
    }

    /// A region and all that is known of it, read unless it is in memory.
    pub(crate) fn region(&mut self, region: u32) -> Result<&Region, PageError> {
        if !self.loaded.contains_key(&region) {
            let found = self.read_region(region)?;
            self.loaded.insert(region, found);
        }
        match self.loaded.get(&region) {
            Some(found) => Ok(found),
            None => Err(self.no_place((0, region))),
        }
    }

    fn read_region(&mut self, region: u32) -> Result<Region, PageError> {
        let entry = self.entry(region)?;
        let at = entry.at.ok_or_else(|| self.no_place((0, region)))?;
        let page = self.region_page(region, (at, entry.twin), entry.free)?;
        let members = page.parity.as_ref().map_or(Bitmap::EMPTY, |parity| parity.members());
        let (used, parity) = (page.used, page.parity);
        let mut found = Region { used, held: Bitmap::EMPTY, members, at, twin: entry.twin, parity };
        if at.birth > self.released {
            found.held = page.pending;
            if let Some(freed) = self.freed.iter_mut().find(|freed| freed.generation == at.birth) {
                freed.unread = freed.unread.saturating_sub(page.pending.count());
                freed.slots.insert(region, page.pending);
            }
        }
        Ok(found)
    }

    /// The page of a region, held against what the directory and the header say.
    pub(crate) fn region_page(
        &self,
        region: u32,
        (at, twin): MapPage,
        free: u64,
    ) -> Result<RegionPage, PageError> {
        let part = || format!("region {region}");
        let page = self.map_page((at, twin), PageKind::FREE_SPACE, &part)?;
        let found = RegionPage::decode(page.payload()).map_err(|what| self.damaged(at, part(), what))?;
        let beyond = Bitmap::below(1_024).without(part_below(region, self.end));
        let fixed = (0..REGION_SLOTS).filter(|slot| region == 0 && is_fixed(*slot)).count();
        let fixed_used =
            (0_usize..64).filter(|slot| is_fixed(disk_len(*slot)) && found.used.has(*slot)).count();
        let what = if found.region != region {
            Some(format!("expected that region, found region {}", found.region))
        } else if REGION_SLOTS.saturating_sub(found.used.count()) != free {
            Some(format!(
                "expected {free} free slots, found {}",
                REGION_SLOTS.saturating_sub(found.used.count())
            ))
        } else if !found.used.and(beyond).is_empty() {
            Some(format!("expected no slot in use behind slot {}, found one", self.end))
        } else if found.parity.as_ref().is_some_and(|parity| !self.is_sane(region, parity)) {
            Some(
                "expected parity of slots of the file, in a slot outside the group, found another".to_owned(),
            )
        } else if fixed_used < fixed {
            Some("expected the slots of the headers in use, found one free".to_owned())
        } else {
            None
        };
        match what {
            Some(what) => Err(self.damaged(at, part(), what)),
            None => Ok(found),
        }
    }

    /// Whether a region's parity counts only what can be counted.
    fn is_sane(&self, region: u32, parity: &RegionParity) -> bool {
        let members = parity.members();
        let beyond = members.without(part_below(region, self.end));
        let fixed = region == 0 && (0..64).any(|slot| is_fixed(disk_len(slot)) && members.has(slot));
        let places = parity.groups().filter_map(|(_, group)| group.place);
        let is_place = |place: PageId| !is_fixed(place.get()) && place.get() < self.end;
        beyond.is_empty() && !fixed && parity.is_placed_outside(region) && places.into_iter().all(is_place)
    }

    /// Free slots of a region that is not in memory, by the directory, and the next region to look at if there are none.
    fn room_at(&mut self, region: u32) -> Result<(u64, u32), PageError> {
        for level in (0..self.height).rev() {
            let (id, place) = self.shape.node_of(level, region);
            let free = self.node(id)?.entries.get(place).map_or(0, |entry| entry.free);
            let next = self.shape.first_region(id, place.saturating_add(1));
            if free == 0 || level == 0 {
                return Ok((free, u32::try_from(next).unwrap_or(u32::MAX)));
            }
        }
        Ok((0, u32::MAX))
    }

    /// Holds the invariants above for what is in memory.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let mut held: BTreeMap<u32, Bitmap> = BTreeMap::new();
        for freed in &self.freed {
            assert!(freed.generation > self.released && freed.generation <= self.generation);
            for (region, bits) in &freed.slots {
                let before = held.entry(*region).or_default();
                assert!(before.and(*bits).is_empty(), "region {region}: a slot was freed twice");
                *before = before.or(*bits);
            }
        }
        for (number, region) in &self.loaded {
            assert!(region.used.and(region.held).is_empty(), "region {number}: a slot is in use and held");
            let held = held.get(number).copied().unwrap_or_default();
            assert_eq!(region.held, held, "region {number} holds what was freed");
            let counted = region.parity.as_ref().map_or(Bitmap::EMPTY, |parity| parity.members());
            assert_eq!(region.members, counted, "region {number} counts the members of its groups");
            let taken = region.used.or(region.held).or(region.members);
            let room = part_below(*number, self.end).without(taken);
            assert!(*number >= self.hint || room.is_empty(), "region {number} has room below {}", self.hint);
            assert!(region.used.without(part_below(*number, self.end)).is_empty());
        }
        let used = self.loaded.values().map(|region| region.used.count()).sum::<u64>();
        assert!(used <= self.used && self.used.saturating_add(self.held()) <= self.end.max(self.written));
        for (id, loaded) in &self.nodes {
            assert_eq!(
                (loaded.node.id, loaded.node.entries.len()),
                (*id, self.shape.entries(*id, self.regions))
            );
        }
    }

    /// Every page of the map: those of regions, then those of nodes, each with its region or node.
    pub(crate) fn map_pages(&mut self) -> Result<MapPages, PageError> {
        let (mut regions, mut nodes) = (Vec::new(), Vec::new());
        for level in 0..self.height {
            let (last, _) = self.shape.node_of(level, self.regions.saturating_sub(1));
            for index in 0..=last.1 {
                let id = (level, index);
                self.node(id)?;
                if let Some(loaded) = self.nodes.get(&id) {
                    nodes.push((id, (loaded.at, loaded.twin)));
                }
            }
        }
        for region in 0..self.regions {
            let entry = self.entry(region)?;
            regions.extend(entry.at.map(|at| (region, (at, entry.twin))));
        }
        Ok((regions, nodes))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keepstone_types::StoreId;
    use keepstone_vfs::simulated::{Choose, Dice};
    use keepstone_vfs::{MemoryVfs, Vfs};

    use super::*;
    use crate::{Access, PageFile, PageFileOptions, PageSize, PageWrite};

    fn options() -> PageFileOptions {
        PageFileOptions::default().page_size(PageSize::KIB_4)
    }

    /// Random generations over several regions, with held roots and reopenings: the invariants hold after each step.
    #[test]
    fn the_invariants_hold() {
        let (path, store) = (Path::new("/pages"), StoreId::from_bytes([7; 16]));
        for seed in 0..30 {
            let mut dice = Dice::new(seed);
            let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
            let mut file = PageFile::create(Arc::clone(&vfs), path, store, options()).unwrap();
            let (mut pages, mut held) = (Vec::<PageRef>::new(), Vec::new());
            for _ in 0..40 {
                let mut writer = file.begin().unwrap();
                writer.draft().unwrap().space().check_invariants();
                let mut after = pages.clone();
                for _ in 0..dice.choose(12) {
                    if dice.one_in(2) && !after.is_empty() {
                        let place = usize::try_from(dice.choose(after.len() as u64)).unwrap();
                        let at = after.swap_remove(place);
                        writer.free(at.page, at.birth).unwrap();
                    } else {
                        let run = writer.allocate(u32::try_from(1 + dice.choose(300)).unwrap()).unwrap();
                        for index in [0, run.count / 2, run.count - 1] {
                            let page = run.get(index).unwrap();
                            after.extend(writer.write(page, PageKind::FIRST_FREE, b"page").ok());
                        }
                    }
                }
                if dice.one_in(5) {
                    drop(writer);
                } else {
                    writer.commit(b"").unwrap();
                    pages = after;
                }
                match dice.choose(6) {
                    0 => held.push(file.root()),
                    1 => held.clear(),
                    2 => drop(file.shrink().unwrap()),
                    3 => {
                        held.clear();
                        let from = Generation::ZERO;
                        file = PageFile::open(Arc::clone(&vfs), path, store, options(), Access::Write, from)
                            .unwrap();
                    }
                    _ => {}
                }
                let (space, _) = file.inner.take_space(false).unwrap();
                space.check_invariants();
                file.inner.put_space(space, None);
            }
            let used = file.stats().used_slots;
            assert!(used >= pages.len() as u64 + 8, "seed {seed}: {used} slots for {} pages", pages.len());
        }
    }
}
