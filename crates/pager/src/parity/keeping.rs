//! Parity of the generation that is being built: new pages are counted, dead ones taken out, each changed group gets a new
//! parity page in a slot of its own.
//!
//! A page that a generation frees can leave in that generation: the roots before it have parity of their own, which counts
//! the page and is held as long as they are. Dead members leave a group that gets new pages, because its parity page is
//! written anyway; they leave a group of which nothing is alive, which costs nothing; then the emptiest groups give them
//! up, as many as the generations to come need: a slot that is taken out now is held like one that is freed now, so what
//! is needed is found two generations ahead. A group that is nearly full of live pages is left alone, and the file grows
//! instead.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use keepstone_types::PageId;

use super::group::{Block, COLUMNS, Group, group_of, place_in, rows};
use super::members::{Loss, Members};
use super::{ParityMode, ParityState};
use crate::bitmap::{BITS, Bitmap};
use crate::error::PageError;
use crate::header::is_fixed;
use crate::layout::{Place, disk_len, memory_len};
use crate::page::{Page, PageKind};
use crate::region::{part_below, place_of, slot_at};
use crate::space::{Draft, TILE_ROOM_MIN};
use crate::wrong::{self, Wrong};

/// Dead slots that make it worth reading and writing a group's parity when nothing joins it.
const DEAD_MIN: u32 = 12;
/// Where the file must not grow, one of so many spare slots may go to a parity page of a group that only gives up dead ones:
/// what that frees can be used two generations later, and those between need room too.
const SPARE_SPENT: usize = 8;
/// Pages of the free-space map that a generation writes beside those of the regions it changed.
const MAP_BESIDE: usize = 4;
/// Groups that a generation counts for the first time when parity is turned on, at most.
const COVERED_AT_ONCE: u32 = 16;
/// Groups that are looked at for that, at most.
const LOOKED_AT: u32 = 4_096;
/// Groups that a generation gives up when parity is turned off, at most.
const LEFT_AT_ONCE: u32 = 1_024;

/// What the last generations wrote: how much room those to come will want.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lately {
    pages: u64,
    /// Slots that were asked to be kept ready.
    reserved: u64,
}

impl Lately {
    fn note(&mut self, pages: u64) {
        self.pages = pages.max(self.pages.saturating_mul(3) / 4);
    }

    /// So many slots shall be kept ready: dead ones are made free for it before the file grows.
    pub(crate) const fn reserve(&mut self, slots: u64) {
        self.reserved = slots;
    }

    /// Slots that shall be free or about to be.
    const fn wanted(self) -> u64 {
        self.pages.saturating_mul(2).saturating_add(64).saturating_add(self.reserved)
    }
}

/// What changes in a group.
#[derive(Debug, Default)]
struct Plan {
    joined: Vec<(usize, Page)>,
    leaving: u32,
}

/// The page that memory has of a slot.
pub(crate) type Known<'a> = dyn Fn(PageId) -> Option<Page> + 'a;

type Plans = BTreeMap<(u32, usize), Plan>;

impl Draft {
    /// Whether new pages are counted.
    pub(crate) const fn keeps_parity(&self) -> bool {
        matches!(self.parity_state.mode, ParityMode::Xor)
    }

    /// Brings parity up to date with the new pages of the layer above, before the map is placed.
    ///
    /// `known` is what memory has of a slot: verified when it was read or made when it was written, so a member that is
    /// there need not be read again to be taken out.
    pub(crate) fn keep_parity<'p>(
        &mut self,
        pages: impl Iterator<Item = &'p Page>,
        known: &Known<'_>,
    ) -> Result<(), PageError> {
        match self.parity_state.mode {
            ParityMode::Off => return Ok(()),
            ParityMode::Leaving => return self.give_up_groups(known),
            ParityMode::Xor => {}
        }
        let (mut plans, mut count) = (Plans::new(), 0_u64);
        for page in pages {
            let slot = page.reference().page;
            let plan = plans.entry(group_of(slot)).or_default();
            plan.joined.push((place_of(slot) / COLUMNS, page.clone()));
            count = count.saturating_add(1);
        }
        self.lately.note(count);
        self.cover(&mut plans)?;
        self.choose_leaving(&mut plans)?;
        for ((region, column), plan) in plans {
            self.regroup((region, column), plan, known)?;
        }
        Ok(())
    }

    /// Whether the change of the mode has reached every group.
    pub(super) fn is_switched(&self) -> bool {
        self.parity_state.has_reached_all(self.space().regions())
    }

    /// Counts pages that were there when parity was turned on, a few groups in each generation.
    fn cover(&mut self, plans: &mut Plans) -> Result<(), PageError> {
        let (mut covered, mut looked_at) = (0, 0);
        while !self.is_switched() && covered < COVERED_AT_ONCE && looked_at < LOOKED_AT {
            let at = self.parity_state.cursor;
            let region = u32::try_from(at / disk_len(COLUMNS)).unwrap_or(u32::MAX);
            let column = place_of(PageId::new(at).unwrap_or_default()) % COLUMNS;
            if column == 0 && self.space_mut().lacks_twin(region)? {
                self.moving_regions.insert(region);
            }
            covered += u32::from(self.cover_group(region, column, plans)?);
            looked_at += 1;
            self.parity_state.cursor = at.saturating_add(1);
        }
        Ok(())
    }

    /// True when something was read to be counted.
    fn cover_group(&mut self, region: u32, column: usize, plans: &mut Plans) -> Result<bool, PageError> {
        let base = self.base(region)?;
        let now = self.drafted.get(&region).copied().unwrap_or(base);
        let uncounted = base.used.and(now.used).without(base.members).column(column);
        let mut any = false;
        for row in rows(uncounted) {
            let page = slot_at(region, place_in(column, row));
            if is_fixed(page.get()) {
                continue;
            }
            any = true;
            self.space().slots().counters.parity_pages_read.add(1);
            // What is damaged cannot be counted; whoever reads it, or scrubs, says so.
            let Ok(slot) = self.space().slots().read_slot(page) else { continue };
            if let Ok((at, kind)) = slot.judge()
                && at.page == page
                && kind >= PageKind::FIRST_FREE
            {
                let plan = plans.entry((region, column)).or_default();
                plan.joined.push((row, Place::page_of(at, kind, &slot.bytes)));
            }
        }
        Ok(any)
    }

    /// Chooses the groups that dead pages are taken out of.
    fn choose_leaving(&mut self, plans: &mut Plans) -> Result<(), PageError> {
        let least = if self.is_within() { 1 } else { DEAD_MIN };
        let mut candidates = Vec::new();
        for region in self.space().loaded_regions() {
            let Some((dead, parity)) = self.dead_in(region) else { continue };
            for (column, group) in parity.groups().filter(|(_, group)| group.mask != 0) {
                let leaving = dead.column(column) & group.mask;
                let count = leaving.count_ones();
                let planned = plans.get_mut(&(region, column));
                if leaving == group.mask {
                    plans.entry((region, column)).or_default().leaving = leaving;
                } else if let Some(plan) = planned {
                    // Its parity page is written anyway.
                    plan.leaving = leaving;
                } else if count >= least {
                    candidates.push((Reverse(count), region, column, leaving));
                }
            }
        }
        let wanted = self.lately.wanted();
        let mut have = self.room_in_columns();
        have = have.saturating_add(plans.values().map(|plan| u64::from(plan.leaving.count_ones())).sum());
        candidates.sort_unstable();
        let most = if self.is_within() { self.spare_slots(plans.len()) / SPARE_SPENT } else { usize::MAX };
        for (Reverse(count), region, column, leaving) in candidates.into_iter().take(most) {
            if have >= wanted {
                break;
            }
            plans.entry((region, column)).or_default().leaving = leaving;
            have = have.saturating_add(count.into());
        }
        Ok(())
    }

    /// Slots of the file that can be given away now and that the pages of this generation do not need, when it writes so many
    /// parity pages.
    fn spare_slots(&self, parity_pages: usize) -> usize {
        let map = self.drafted.len().saturating_add(MAP_BESIDE).saturating_mul(2);
        let free = self.space().available().saturating_sub(self.taken);
        memory_len(free).saturating_sub(parity_pages).saturating_sub(map)
    }

    /// Slots of the file that are free, or will be when nobody needs what is in them, where a column has some of them:
    /// a slot alone is left to the pages of the map and of parity.
    fn room_in_columns(&self) -> u64 {
        let mut room = 0_u64;
        for region in self.space().loaded_regions() {
            let Some(base) = self.space().loaded_region(region) else { continue };
            let (used, members) = self
                .drafted
                .get(&region)
                .map_or((base.used, base.members), |draft| (draft.used.or(draft.reserved), draft.members));
            let free = part_below(region, self.space().written()).without(used).without(members);
            if free.count() >= u64::from(TILE_ROOM_MIN) {
                let columns = (0..COLUMNS).map(|column| free.column(column).count_ones());
                let some = columns.filter(|count| *count >= TILE_ROOM_MIN).map(u64::from);
                room = room.saturating_add(some.sum());
            }
        }
        room
    }

    /// What parity counts in a region in memory and this generation does not lead to, with the region's parity.
    fn dead_in(&self, region: u32) -> Option<(Bitmap, crate::sync::Arc<super::RegionParity>)> {
        let base = self.space().loaded_region(region)?;
        let parity = base.parity.clone()?;
        let used = self.drafted.get(&region).map_or(base.used, |draft| draft.used);
        let dead = base.members.without(used);
        (!dead.is_empty()).then_some((dead, parity))
    }

    /// What is left of a group's parity without some of its members, each of which is verified before it is taken out.
    fn remaining(&self, members: &Members, leaving: u32, known: &Known<'_>) -> Result<Block, Vec<Loss>> {
        let slots = self.space().slots();
        let kept = members.group().mask & !leaving;
        if kept == 0 {
            return Ok(Block::zero(slots.place.page_size.payload_len()));
        }
        let read = |pages: u32| slots.counters.parity_pages_read.add(pages.into());
        let in_memory: BTreeMap<usize, Page> = rows(members.group().mask)
            .filter_map(|row| Some((row, known(members.slot(row))?)))
            .filter(|(row, page)| members.is_member(*row, page.reference()))
            .collect();
        let known = |row: usize| in_memory.get(&row).cloned();
        let unknown =
            |mask: u32| (mask & !in_memory.keys().fold(0, |mask, row| mask | 1 << row)).count_ones();
        if unknown(kept) <= unknown(leaving) && !wrong::is(Wrong::Unverified) {
            read(unknown(kept));
            if let Ok(block) = members.sum_with(kept, &known) {
                return Ok(block);
            }
        }
        read(unknown(leaving).saturating_add(1));
        let mut block = members.block()?;
        for row in rows(if wrong::is(Wrong::Unverified) { 0 } else { leaving }) {
            let page = match known(row).map_or_else(|| members.member(row), Ok) {
                Ok(page) => page,
                Err(loss) => members
                    .rebuild(row)
                    .map_err(|losses| std::iter::once(loss).chain(losses).collect::<Vec<_>>())?
                    .page(),
            };
            block.add(page.reference(), page.kind(), page.payload());
        }
        Ok(block)
    }

    /// Gives a group its new members and its new parity page.
    fn regroup(
        &mut self,
        (region, column): (u32, usize),
        plan: Plan,
        known: &Known<'_>,
    ) -> Result<(), PageError> {
        let members = self.space_mut().members(region, column)?;
        let before = members.as_ref().map_or_else(Group::default, Members::group);
        let joined = plan.joined.iter().fold(0_u32, |mask, (row, _)| mask | 1 << row);
        let mut leaving = (plan.leaving | joined) & before.mask;
        let Some(members) = members else {
            let empty = Block::zero(self.space().slots().place.page_size.payload_len());
            return self.enter_group((region, column), before, 0, empty, plan);
        };
        let counted = if wrong::is(Wrong::WrongBlock) {
            self.space_mut().members(region, column ^ 1)?.unwrap_or(members)
        } else {
            members
        };
        let block = self.remaining(&counted, leaving, known).or_else(|_| {
            // A dead page cannot be had back: it stays counted, and its slot is not used.
            leaving = joined & before.mask;
            self.remaining(&counted, leaving, known)
        });
        match block {
            Ok(block) => self.enter_group((region, column), before, leaving, block, plan),
            Err(_) => {
                // Two losses: nothing can be counted any more in this group, and nothing is guessed.
                self.space().slots().counters.unrepairable_pages.add(1);
                Ok(())
            }
        }
    }

    fn enter_group(
        &mut self,
        (region, column): (u32, usize),
        before: Group,
        leaving: u32,
        mut block: Block,
        plan: Plan,
    ) -> Result<(), PageError> {
        let mut mask = before.mask & !leaving;
        for (row, page) in &plan.joined {
            block.add(page.reference(), page.kind(), page.payload());
            mask |= 1 << row;
        }
        if mask == before.mask && plan.joined.is_empty() {
            return Ok(());
        }
        if let Some(left) = before.place {
            self.free_old(left)?;
        }
        let group = if mask == 0 {
            Group::default()
        } else {
            let place = self.place_parity(region, column)?;
            let slots = self.space().slots();
            let (_, bytes) = slots.place.encode(place, self.generation, PageKind::PARITY, &block.payload);
            slots.counters.parity_pages_written.add(1);
            self.parity_pages.push((place, bytes));
            block.group(mask, Some(place), self.generation)
        };
        if !self.parity.contains_key(&region) {
            let base = if region < self.space().regions() {
                self.space_mut().region(region)?.parity.as_deref().cloned()
            } else {
                None
            };
            self.parity.insert(region, base.unwrap_or_default());
        }
        if let Some(parity) = self.parity.get_mut(&region) {
            rows(leaving).for_each(|row| parity.clear_tag(place_in(column, row)));
            for (row, page) in &plan.joined {
                parity.set_tag(place_in(column, *row), page.reference().checksum);
            }
            parity.set_group(column, group);
        }
        let draft = self.region_mut(region)?;
        for row in rows(leaving) {
            let place = place_in(column, row);
            draft.members.remove(place);
            if !draft.used.has(place) {
                draft.freed.insert(place);
            }
        }
        for (row, _) in &plan.joined {
            draft.members.insert(place_in(column, *row));
        }
        Ok(())
    }

    /// A slot for a parity page: outside its group, in a region that changes anyway if there is room in one.
    fn place_parity(&mut self, region: u32, column: usize) -> Result<PageId, PageError> {
        let all = Bitmap::below(BITS);
        let outside = all.without(Bitmap::columns(1 << column));
        let mut found = None;
        if !self.compact {
            if self.drafted.contains_key(&region) {
                found = self.allocate_scrap(region, outside)?;
            }
            let mut from = self.parity_cursor;
            while found.is_none()
                && let Some((next, _)) = self.drafted.range(from..).next()
            {
                let next = *next;
                found = self.allocate_scrap(next, if next == region { outside } else { all })?;
                from = next.saturating_add(1);
                if found.is_none() && next != region {
                    self.parity_cursor = self.parity_cursor.max(from.min(region));
                }
            }
        }
        while found.is_none() {
            // A slot of the group itself stays reserved until the generation ends, and is free again then.
            let page = self.allocate_run(1)?.first;
            found = (group_of(page) != (region, column)).then_some(page);
        }
        let page = found.unwrap_or_default();
        self.note_write(page)?;
        Ok(page)
    }

    /// Takes parity from some groups, when it is turned off.
    fn give_up_groups(&mut self, known: &Known<'_>) -> Result<(), PageError> {
        let mut left = 0;
        while !self.is_switched() && left < LEFT_AT_ONCE {
            let at = self.parity_state.cursor;
            let region = u32::try_from(at / disk_len(COLUMNS)).unwrap_or(u32::MAX);
            let column = place_of(PageId::new(at).unwrap_or_default()) % COLUMNS;
            if let Some(members) = self.space_mut().members(region, column)? {
                let leaving = members.group().mask;
                self.regroup((region, column), Plan { joined: Vec::new(), leaving }, known)?;
                left += 1;
            }
            self.parity_state.cursor = at.saturating_add(1);
        }
        if self.is_switched() {
            self.parity_state = ParityState::default();
        }
        Ok(())
    }

    /// Parity pages there are.
    pub(crate) fn parity_slots(&mut self) -> Result<u64, PageError> {
        let mut count = 0_u64;
        for region in 0..self.space().regions() {
            let parity = self.space_mut().region(region)?.parity.clone();
            let places =
                parity.iter().flat_map(|parity| parity.groups()).filter(|(_, group)| group.place.is_some());
            count = count.saturating_add(disk_len(places.count()));
        }
        Ok(count)
    }

    /// Has parity pages behind a slot move down, and dead members leave, so that the file can be cut there. False when there are
    /// none. Dead pages are taken out even while a root that is held leads to them: that root has parity of its own.
    pub(crate) fn leave_behind(&mut self, behind: u64) -> Result<bool, PageError> {
        let mut any = false;
        for region in 0..self.space().regions() {
            let (base, parity) = {
                let base = self.base(region)?;
                let Some(parity) = self.space_mut().region(region)?.parity.clone() else { continue };
                (base, parity)
            };
            for (column, group) in parity.groups().filter(|(_, group)| group.mask != 0) {
                let leaving = base.dead().column(column) & group.mask;
                if group.place.is_some_and(|place| place.get() < behind) && leaving == 0 {
                    continue;
                }
                any |= self.regroup_lower(region, column, leaving)?;
            }
        }
        Ok(any)
    }

    /// A group without its dead members, its parity page in the lowest slot there is; false when it cannot be read.
    fn regroup_lower(&mut self, region: u32, column: usize, leaving: u32) -> Result<bool, PageError> {
        let Some(members) = self.space_mut().members(region, column)? else { return Ok(false) };
        let before = members.group();
        let Ok(mut block) = self.remaining(&members, leaving, &|_| None) else { return Ok(false) };
        let mut plan = Plan::default();
        if leaving == 0 {
            // One member leaves and joins again, so that the group counts as changed.
            let Some(row) = rows(before.mask).next() else { return Ok(false) };
            let Ok(page) = members.member(row) else { return Ok(false) };
            block.add(page.reference(), page.kind(), page.payload());
            plan.joined.push((row, page));
        }
        self.enter_group((region, column), before, leaving, block, plan)?;
        Ok(true)
    }
}
