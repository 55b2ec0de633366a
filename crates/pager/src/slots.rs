//! The slots of the file on the disk: read one by one or in runs, written in runs as long as neighbours are there.

use keepstone_types::{PageId, PageRef, ValueRef};
use keepstone_vfs::{IoError, VfsFile, VfsFileExt};

use crate::error::PageError;
use crate::layout::{Place, SlotBytes, disk_len};
use crate::page::{Page, PageRun};
use crate::parity::Repairs;
use crate::region::REGION_SLOTS;
use crate::stats::Counters;
use crate::sync::Arc;

/// Most bytes of one write or of one read of a run.
const TRANSFER_MAX: usize = 1 << 20;

/// An open file as slots.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) place: Arc<Place>,
    pub(crate) counters: Arc<Counters>,
    /// Pages that were rebuilt and wait to be written again.
    pub(crate) repairs: Repairs,
}

impl Slots {
    /// The page that a reference leads to, from the disk, verified.
    pub(crate) fn read(&self, at: PageRef) -> Result<Page, PageError> {
        let run = PageRun { first: at.page, count: 1 };
        let slot = self.read_run(run)?.into_iter().next();
        slot.map_or_else(|| Err(PageError::missing(at)), |slot| slot.verify(at))
    }

    /// The bytes of one slot.
    pub(crate) fn read_slot(&self, page: PageId) -> Result<SlotBytes, IoError> {
        let slot = self.read_slots(PageRun { first: page, count: 1 })?.into_iter().next();
        let nothing =
            || SlotBytes { place: Arc::clone(&self.place), page, bytes: ValueRef::from(Vec::new()) };
        Ok(slot.unwrap_or_else(nothing))
    }

    /// Slots one after the other, at least one, perhaps fewer than asked for.
    pub(crate) fn read_run(&self, run: PageRun) -> Result<Vec<SlotBytes>, PageError> {
        Ok(self.read_slots(run)?)
    }

    fn read_slots(&self, run: PageRun) -> Result<Vec<SlotBytes>, IoError> {
        let size = self.place.page_size.len();
        let most = TRANSFER_MAX.checked_div(size).unwrap_or(1);
        let count = usize::try_from(run.count).unwrap_or(usize::MAX).clamp(1, most);
        let mut bytes = vec![0; size.saturating_mul(count)];
        let got = self.file.read_up_to_at(&mut bytes, self.place.offset(run.first))?;
        bytes.truncate(got);
        self.counters.pages_read.add(disk_len(count));
        self.counters.read_bytes.add(disk_len(got));
        let bytes = ValueRef::from(bytes);
        let slot = |index: usize| {
            let page = run.first.plus(disk_len(index))?;
            let from = index.saturating_mul(size).min(got);
            let to = from.saturating_add(size).min(got);
            let bytes = bytes.slice(from..to)?;
            Some(SlotBytes { place: Arc::clone(&self.place), page, bytes })
        };
        Ok((0..count).filter_map(slot).collect())
    }

    /// Writes pages, ascending by slot; neighbours travel together.
    pub(crate) fn write(&self, pages: &[(PageId, ValueRef)]) -> Result<(), IoError> {
        let size = self.place.page_size.len();
        let mut rest = pages;
        let mut joined = Vec::new();
        while let Some((first, bytes)) = rest.first() {
            let follows = |(index, (page, _)): (usize, &(PageId, ValueRef))| {
                first.plus(disk_len(index)) == Some(*page) && index.saturating_mul(size) < TRANSFER_MAX
            };
            let len = rest.iter().enumerate().take_while(|(index, page)| follows((*index, page))).count();
            let (run, after) = rest.split_at_checked(len.max(1)).unwrap_or((rest, &[]));
            let offset = self.place.offset(*first);
            if run.len() == 1 {
                self.file.write_all_at(bytes, offset)?;
            } else {
                joined.clear();
                run.iter().for_each(|(_, bytes)| joined.extend_from_slice(bytes));
                self.file.write_all_at(&joined, offset)?;
            }
            self.counters.pages_written.add(disk_len(run.len()));
            self.counters.written_bytes.add(disk_len(run.len().saturating_mul(size)));
            rest = after;
        }
        Ok(())
    }

    /// Whole slots that the file has.
    pub(crate) fn in_file(&self) -> Result<u64, IoError> {
        Ok(self.file.len()?.checked_div(self.place.page_size.bytes().into()).unwrap_or(0))
    }

    /// The slot before which a rebuilt page may be written: a region behind the end of the file. So a file that was cut
    /// gets back what can be rebuilt, and a header that says any length does not make the file grow to it.
    pub(crate) fn repairable_end(&self) -> u64 {
        self.in_file().unwrap_or(0).saturating_add(REGION_SLOTS)
    }

    /// Writes zeros to the slots from `from` to before `to`.
    pub(crate) fn write_zeros(&self, from: u64, to: u64) -> Result<(), IoError> {
        let size = u64::from(self.place.page_size.bytes());
        let (from, to) = (from.saturating_mul(size), to.saturating_mul(size));
        self.file.write_zeros(from, to)?;
        self.counters.written_bytes.add(to.saturating_sub(from));
        Ok(())
    }

    /// Takes room on the disk for the slots from `from` to before `to`; nobody needs what is in them.
    pub(crate) fn allocate(&self, from: u64, to: u64) -> Result<(), IoError> {
        let size = u64::from(self.place.page_size.bytes());
        self.file.allocate(from.saturating_mul(size), to.saturating_mul(size))
    }

    pub(crate) fn sync(&self) -> Result<(), IoError> {
        self.counters.syncs.add(1);
        self.file.sync_data()
    }
}
