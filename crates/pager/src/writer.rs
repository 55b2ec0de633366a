//! The writer: builds the next generation in memory and commits it.
//!
//! Commit, in order: parity of the new pages, which are written by a thread beside it when they are many; places for the
//! pages of the free-space map; all pages that are not written yet, ascending; a sync; both copies of the header over that
//! of two generations before; a sync; the root is published. Until the header is written everything can be taken back, so
//! an error before it leaves the file as it was. After a failed sync, or a header that may be half written, nothing more
//! is written.

use std::collections::BTreeMap;

use keepstone_types::{Generation, PageId, PageRef, ValueRef};
use keepstone_vfs::VfsFileExt;

use crate::access::{PageRead, PageWrite, Unverified, UnverifiedPage};
use crate::error::PageError;
use crate::file::Inner;
use crate::header::{Header, META_LEN_MAX};
use crate::layout::{Place, disk_len};
use crate::page::{Page, PageKind, PageRun};
use crate::root::Root;
use crate::space::{Draft, Placed, Space};
use crate::sync::{Arc, beside};

/// Builds one generation. Owned: it can be sent to another thread. Dropping it takes back everything.
#[derive(Debug)]
#[must_use = "dropping a writer takes back what it wrote"]
pub struct PageWriter {
    inner: Arc<Inner>,
    generation: Generation,
    /// `None` only once the draft was given back.
    draft: Option<Draft>,
    /// The map to go back to when the draft is not made of it.
    before: Option<Space>,
    pages: BTreeMap<PageId, NewPage>,
    /// New pages below this slot are written already.
    written_below: u64,
}

/// Pages from which on they are written while their parity is made: what that saves is more than a thread costs.
const BESIDE_MIN: usize = 64;

/// A page that is not on disk yet.
#[derive(Debug)]
struct NewPage {
    page: Page,
    slot: ValueRef,
}

impl PageWriter {
    pub(crate) fn new(inner: Arc<Inner>, generation: Generation, draft: Draft) -> Self {
        Self { inner, generation, draft: Some(draft), before: None, pages: BTreeMap::new(), written_below: 0 }
    }

    /// Bytes of new pages that are held in memory until the commit.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        disk_len(self.pages.len()).saturating_mul(self.inner.slots.place.page_size.bytes().into())
    }

    /// Whether slots of the file as it is are used up, in runs of any length, before it is made longer: so a commit needs
    /// no room of the disk while there are free slots (see [`PageFile::reserve`](crate::PageFile::reserve)). Off at first:
    /// longer runs are then preferred to a shorter file.
    pub fn keep_within_file(&mut self, within: bool) {
        if let Some(draft) = &mut self.draft {
            draft.keep_within(within);
        }
    }

    /// Pages are written below this slot as long as there is room, so that the file can be cut there.
    pub fn keep_below(&mut self, slot: u64) {
        if let Some(draft) = &mut self.draft {
            draft.keep_below(slot);
        }
    }

    pub(crate) fn draft(&mut self) -> Result<&mut Draft, PageError> {
        self.draft.as_mut().ok_or(PageError::WriterBusy)
    }

    pub(crate) const fn generation_number(&self) -> Generation {
        self.generation
    }

    /// Commits another map than one made of what there was; if that fails, what there was stays.
    pub(crate) fn replace_draft(&mut self, draft: Draft) {
        if let Some(before) = self.draft.replace(draft) {
            self.before = Some(before.roll_back());
        }
    }

    /// Makes the generation durable, with up to 1,024 bytes for the layer above, and publishes its root.
    ///
    /// # Errors
    /// [`PageError::OutOfSpace`] and every other error but a failed sync or header: nothing is committed, everything is as
    /// before, and a new writer can begin. After a failed sync or header write it is not known whether the generation is
    /// there, and the file takes no more writes until it is opened again.
    pub fn commit(mut self, meta: &[u8]) -> Result<Arc<Root>, PageError> {
        if meta.len() > META_LEN_MAX {
            return Err(PageError::MetaTooLong { len: meta.len(), max: META_LEN_MAX });
        }
        self.keep_parity()?;
        let placed = self.draft()?.place_map(0)?;
        self.commit_placed(placed, meta)
    }

    /// Brings parity up to date. It only reads slots that are members already, so new pages are written meanwhile: they go to
    /// free slots, and where the file does not grow by them.
    fn keep_parity(&mut self) -> Result<(), PageError> {
        let draft = self.draft.as_mut().ok_or(PageError::WriterBusy)?;
        let Inner { cache, slots, .. } = &*self.inner;
        let written = if draft.keeps_parity() { draft.space().written() } else { 0 };
        let end = PageId::new(written).unwrap_or(PageId::MAX);
        let within: Vec<(PageId, ValueRef)> =
            self.pages.range(..end).map(|(page, new)| (*page, new.slot.clone())).collect();
        let pages = self.pages.values().map(|new| &new.page);
        let keep = || draft.keep_parity(pages, &|slot| cache.peek(slot));
        if within.len() < BESIDE_MIN {
            return keep();
        }
        let (kept, done) = beside(keep, || slots.write(&within));
        done.map_err(PageError::of_write)?;
        self.written_below = written;
        kept
    }

    pub(crate) fn commit_placed(mut self, placed: Placed, meta: &[u8]) -> Result<Arc<Root>, PageError> {
        let header = placed.header(self.generation, meta);
        self.write_pages(&placed)?;
        self.inner.slots.sync().inspect_err(|_| self.inner.poison())?;
        write_header(&self.inner, &header).inspect_err(|_| self.inner.poison())?;
        let root = Arc::new(Root::new(header));
        if let Some(draft) = self.draft.take() {
            self.inner.put_space(draft.applied(placed), Some(&root));
        }
        for new in std::mem::take(&mut self.pages).into_values() {
            self.inner.cache.insert(new.page);
        }
        self.inner.counters().commits.add(1);
        Ok(root)
    }

    /// Writes what is new, and zeros where the file grows past slots that nothing is written to.
    fn write_pages(&mut self, placed: &Placed) -> Result<(), PageError> {
        let written = self.draft()?.space().written();
        let from = PageId::new(self.written_below).unwrap_or_default();
        let mut pages: Vec<(PageId, ValueRef)> =
            self.pages.range(from..).map(|(page, new)| (*page, new.slot.clone())).collect();
        pages.extend(placed.pages.iter().cloned());
        pages.sort_unstable_by_key(|(page, _)| *page);
        let slots = &self.inner.slots;
        let (within, beyond) = pages.split_at(pages.partition_point(|(page, _)| page.get() < written));
        slots.write(within).map_err(PageError::of_write)?;
        let mut rest = beyond;
        let mut end = written;
        while let Some((first, _)) = rest.first() {
            slots.write_zeros(end, first.get()).map_err(PageError::of_write)?;
            let follow = |(index, (page, _)): &(usize, &(PageId, ValueRef))| {
                first.plus(disk_len(*index)) == Some(*page)
            };
            let len = rest.iter().enumerate().take_while(follow).count();
            let (run, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            slots.write(run).map_err(PageError::of_write)?;
            end = first.get().saturating_add(disk_len(len));
            rest = after;
        }
        slots.write_zeros(end, placed.end).map_err(PageError::of_write)?;
        Ok(())
    }
}

/// Writes and syncs both copies of a header.
fn write_header(inner: &Inner, header: &Header) -> Result<(), PageError> {
    let block = header.encode(inner.header_seed);
    for slot in Header::copies(header.generation) {
        let offset = slot.saturating_mul(inner.slots.place.page_size.bytes().into());
        inner.slots.file.write_all_at(&block, offset)?;
        inner.counters().written_bytes.add(disk_len(block.len()));
    }
    inner.slots.sync()?;
    Ok(())
}

impl Drop for PageWriter {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            let before = self.before.take().unwrap_or_else(|| draft.roll_back());
            self.inner.put_space(before, None);
        }
    }
}

impl PageRead for PageWriter {
    fn payload_len(&self) -> usize {
        self.inner.slots.place.page_size.payload_len()
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        if at.birth == self.generation {
            return match self.pages.get(&at.page) {
                Some(new) if new.page.reference() == at => Ok(new.page.clone()),
                Some(new) => Err(PageError::not_as_referenced(at, new.page.reference())),
                None => Err(PageError::missing(at)),
            };
        }
        self.inner.read(at)
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        let is_new = |index: u32| run.get(index).and_then(|page| self.pages.get(&page));
        if is_new(0).is_some() {
            let new = (0..run.count).map_while(is_new);
            return Ok(new.map(|new| UnverifiedPage { state: Unverified::Page(new.page.clone()) }).collect());
        }
        // What is on disk, up to the first slot that has a new page.
        let end = run.first.plus(run.count.into()).unwrap_or(PageId::MAX);
        let next = self.pages.range(run.first..end).next().map(|(page, _)| page.get());
        let on_disk = next.map_or(run.count, |next| {
            u32::try_from(next.saturating_sub(run.first.get())).unwrap_or(run.count)
        });
        self.inner.read_run(PageRun { first: run.first, count: on_disk })
    }
}

impl PageWrite for PageWriter {
    fn generation(&self) -> Generation {
        self.generation
    }

    fn allocate(&mut self, want: u32) -> Result<PageRun, PageError> {
        self.draft()?.allocate(want)
    }

    fn write(&mut self, page: PageId, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        if payload.len() > self.payload_len() {
            return Err(PageError::Misuse { page, what: "its payload is longer than a page" });
        }
        if kind < PageKind::FIRST_FREE {
            return Err(PageError::Misuse { page, what: "its kind is one of the page file's own" });
        }
        let generation = self.generation;
        self.draft()?.note_write(page)?;
        let (at, slot) = self.inner.slots.place.encode(page, generation, kind, payload);
        self.pages.insert(page, NewPage { page: Place::page_of(at, kind, &slot), slot });
        Ok(at)
    }

    fn free(&mut self, page: PageId, birth: Generation) -> Result<(), PageError> {
        if birth > self.generation {
            return Err(PageError::Misuse { page, what: "it is of a generation that is still to come" });
        }
        if birth < self.generation {
            let is_new = self.pages.contains_key(&page);
            return if is_new {
                Err(PageError::Misuse { page, what: "it is freed under another generation than its own" })
            } else {
                self.draft()?.free_old(page)
            };
        }
        if self.pages.remove(&page).is_none() {
            return Err(PageError::Misuse { page, what: "it is freed without being in use" });
        }
        self.draft()?.free_new(page);
        Ok(())
    }
}
