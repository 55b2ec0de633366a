//! Writing rebuilt pages again: queued by whoever found them damaged, written by the file's only writer.
//!
//! This is the one case in which a slot in use is written. It is safe because the bytes are those that the durable header
//! leads to and that parity counts: whatever becomes of the write, nothing is there afterwards that was not meant to be,
//! or the page is damaged as it was before.

use std::collections::BTreeMap;

use keepstone_types::{PageId, PageRef, ValueRef, lock_rank};

use super::group::{COLUMNS, group_of};
use crate::error::PageError;
use crate::file::{Inner, PageFile};
use crate::layout::Place;
use crate::page::PageKind;
use crate::region::place_of;
use crate::space::Space;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::wrong::{self, Wrong};

/// The most pages that wait. More are found again when they are read.
const QUEUE_MAX: usize = 1_024;

/// What a rebuilt page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mended {
    /// A member of a group.
    Member,
    /// A copy of a page of the free-space map.
    Map,
    /// The parity page of a group.
    Parity(u32, usize),
}

/// A rebuilt page that waits.
#[derive(Clone, Debug)]
struct Waiting {
    what: Mended,
    at: PageRef,
    bytes: ValueRef,
}

/// Rebuilt pages that wait to be written again.
#[derive(Debug)]
pub(crate) struct Repairs {
    /// Whether the file may be written at all.
    writable: bool,
    any: AtomicBool,
    waiting: Mutex<BTreeMap<PageId, Waiting>>,
}

impl Repairs {
    pub(crate) fn new(writable: bool) -> Self {
        let waiting = Mutex::new(lock_rank::PAGER_REPAIRS, BTreeMap::new());
        Self { writable, any: AtomicBool::new(false), waiting }
    }

    pub(crate) fn push(&self, what: Mended, at: PageRef, bytes: &ValueRef) {
        if !self.writable {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < QUEUE_MAX {
            waiting.insert(at.page, Waiting { what, at, bytes: bytes.clone() });
        }
        self.any.store(true, Ordering::Release);
    }

    fn take(&self) -> BTreeMap<PageId, Waiting> {
        if !self.any.load(Ordering::Acquire) {
            return BTreeMap::new();
        }
        let mut waiting = self.waiting.lock();
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}

impl Inner {
    /// Writes what waits, with the map of the newest generation in hand, so nobody else writes.
    pub(crate) fn write_repairs(&self, space: &mut Space) {
        let waiting = self.slots.repairs.take();
        if waiting.is_empty() {
            return;
        }
        let mut written = Vec::new();
        let end = self.slots.repairable_end();
        for waiting in waiting.into_values() {
            if waiting.at.page.get() >= end {
                self.counters().failed_repairs.add(1);
                continue;
            }
            let live =
                wrong::is(Wrong::RepairDeadPage) || space.is_meant(&waiting.what, waiting.at, &waiting.bytes);
            if !live || self.is_there(&waiting) {
                continue;
            }
            match self.slots.write(&[(waiting.at.page, waiting.bytes.clone())]) {
                Ok(()) => written.push(waiting),
                Err(_) => self.counters().failed_repairs.add(1),
            }
        }
        if written.is_empty() {
            return;
        }
        if self.slots.sync().is_err() {
            self.poison();
            return;
        }
        for waiting in written {
            let counter = if self.is_there(&waiting) {
                &self.counters().repaired_pages
            } else {
                &self.counters().failed_repairs
            };
            counter.add(1);
        }
    }

    /// Whether a slot reads as it shall.
    fn is_there(&self, waiting: &Waiting) -> bool {
        self.slots.read_slot(waiting.at.page).is_ok_and(|slot| slot.bytes[..] == waiting.bytes[..])
    }
}

impl Space {
    /// Whether these bytes are what the newest generation means to be in the slot: looked up anew, because it may have
    /// been given away since they were rebuilt.
    fn is_meant(&mut self, what: &Mended, at: PageRef, bytes: &ValueRef) -> bool {
        match what {
            Mended::Member => self.is_counted(at, bytes).unwrap_or(false),
            Mended::Map => {
                let page = Place::page_of(at, PageKind::FREE_SPACE, bytes);
                self.is_in_map(at, page.payload()).unwrap_or(false)
            }
            Mended::Parity(region, column) => {
                let again =
                    self.members(*region, *column).ok().flatten().map(|members| members.parity_again());
                again.is_some_and(|again| {
                    again.is_ok_and(|again| again.at == at && again.bytes[..] == bytes[..])
                })
            }
        }
    }

    fn is_counted(&mut self, at: PageRef, bytes: &ValueRef) -> Result<bool, PageError> {
        let (region, column) = group_of(at.page);
        let Some(members) = self.members(region, column)? else { return Ok(false) };
        let row = place_of(at.page) / COLUMNS;
        if members.group().mask >> row & 1 == 0 {
            return Ok(false);
        }
        if members.member(row).is_ok_and(|page| page.reference() == at) {
            return Ok(true);
        }
        let again = members.rebuild(row);
        Ok(again.is_ok_and(|again| again.at == at && again.bytes[..] == bytes[..]))
    }
}

impl PageFile {
    /// Writes again what was found damaged and could be rebuilt, now and not only when the next generation is begun. Says
    /// how many pages that were.
    ///
    /// # Errors
    /// As [`PageFile::begin`].
    pub fn repair(&self) -> Result<u64, PageError> {
        let before = self.inner.counters().repaired_pages.get();
        drop(self.begin_briefly()?);
        Ok(self.inner.counters().repaired_pages.get().saturating_sub(before))
    }

    /// Puts a rebuilt page among those that wait.
    pub(super) fn queue_repair(&self, what: Mended, at: PageRef, bytes: &ValueRef) {
        self.inner.slots.repairs.push(what, at, bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keepstone_types::StoreId;
    use keepstone_vfs::{MemoryVfs, Vfs};

    use super::*;
    use crate::parity::Parity;
    use crate::sync::Arc;
    use crate::{PageFileOptions, PageRead, PageSize, PageWrite, PageWriteExt};

    /// A page that was rebuilt, and whose slot has another page by the time it would be written: the other page.
    fn overtaken() -> (PageFile, PageRef) {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let options =
            PageFileOptions::default().page_size(PageSize::KIB_4).cache_bytes(0).parity(Parity::Xor);
        let file = PageFile::create(vfs, Path::new("/pages"), StoreId::from_bytes([7; 16]), options).unwrap();
        let mut writer = file.begin().unwrap();
        let old = writer.put(PageKind::FIRST_FREE, b"old").unwrap();
        writer.commit(b"").unwrap();
        let bytes = file.inner.slots.read_slot(old.page).unwrap().bytes;
        let mut writer = file.begin().unwrap();
        writer.free(old.page, old.birth).unwrap();
        writer.commit(b"").unwrap();
        let new = loop {
            let mut writer = file.begin().unwrap();
            let pages: Vec<PageRef> =
                (0..400).map(|_| writer.put(PageKind::FIRST_FREE, b"new").unwrap()).collect();
            writer.commit(b"").unwrap();
            if let Some(new) = pages.iter().find(|at| at.page == old.page) {
                break *new;
            }
            let mut writer = file.begin().unwrap();
            pages.iter().for_each(|at| writer.free(at.page, at.birth).unwrap());
            writer.commit(b"").unwrap();
        };
        file.queue_repair(Mended::Member, old, &bytes);
        assert_eq!(file.repair().unwrap(), file.stats().repaired_pages);
        (file, new)
    }

    #[test]
    fn a_rebuilt_page_is_not_written_over_the_page_that_has_its_slot_now() {
        let (file, new) = overtaken();
        assert!(file.read(new).unwrap().payload().starts_with(b"new"));
        assert_eq!((file.stats().repaired_pages, file.stats().damaged_pages), (0, 0));
    }

    #[test]
    #[cfg(feature = "wrong-variants")]
    fn writing_it_without_looking_again_is_caught() {
        let (file, new) = wrong::with(Wrong::RepairDeadPage, overtaken);
        // The page is lost, and found: it is rebuilt from its group.
        assert!(file.read(new).unwrap().payload().starts_with(b"new"));
        assert_eq!((file.stats().repaired_pages, file.stats().damaged_pages), (1, 1));
    }
}
