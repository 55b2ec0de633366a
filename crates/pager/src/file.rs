//! An open page file.
//!
//! Invariants:
//! * The published root is durable, and the space map beside it is its own.
//! * The space map is here, or with the one writer.
//! * No lock is held across I/O; reads take none but that of the cache's shard.

use std::collections::VecDeque;
use std::path::Path;

use keepstone_types::{Generation, PageRef, StoreId, lock_rank};

use keepstone_vfs::Vfs;

use crate::access::{PageRead, Unverified, UnverifiedPage};
use crate::cache::PageCache;
use crate::error::PageError;
use crate::layout::PageSize;
use crate::options::Access;
use crate::page::{Page, PageRun};
use crate::report::OpenReport;
use crate::root::Root;
use crate::slots::Slots;
use crate::space::{Draft, Space};
use crate::stats::{Counters, PageStats};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::writer::PageWriter;

/// How long is waited before the space map is asked for again that somebody has for a moment.
const BRIEFLY: std::time::Duration = std::time::Duration::from_micros(50);

/// A file of pages. Clones are handles on the same open file.
#[derive(Clone, Debug)]
pub struct PageFile {
    pub(crate) inner: Arc<Inner>,
}

/// What the handles share.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Where the file is opened once more, to be read past the system's cache.
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) store: StoreId,
    pub(crate) slots: Arc<Slots>,
    pub(crate) cache: PageCache,
    pub(crate) header_seed: u64,
    pub(crate) access: Access,
    pub(crate) max_pages: u64,
    poisoned: AtomicBool,
    pub(crate) report: OpenReport,
    state: Mutex<State>,
}

/// The newest root, who holds older ones, and the space map.
#[derive(Debug)]
struct State {
    root: Arc<Root>,
    /// Roots that may still be held, oldest first.
    roots: VecDeque<(Generation, std::sync::Weak<Root>)>,
    /// `None` while a writer has it.
    space: Option<Space>,
    /// Whether who has it repairs pages or looks at the headers, and will give it back in a moment.
    brief: bool,
}

impl Inner {
    pub(crate) fn new(
        (vfs, slots, store): (Arc<dyn Vfs>, Arc<Slots>, StoreId),
        header_seed: u64,
        root: Root,
        space: Space,
        options: (&crate::PageFileOptions, Access),
        report: OpenReport,
    ) -> Self {
        let (options, access) = options;
        let counters = Arc::clone(&slots.counters);
        let page_bytes = u64::from(slots.place.page_size.bytes());
        let root = Arc::new(root);
        let roots = VecDeque::from([(root.generation(), Arc::downgrade(&root))]);
        let inner = Self {
            cache: PageCache::new(options.cache_bytes, page_bytes, counters),
            vfs,
            store,
            slots,
            header_seed,
            access,
            max_pages: options.max_pages,
            poisoned: AtomicBool::new(false),
            report,
            state: Mutex::new(lock_rank::PAGER_SPACE, State { root, roots, space: None, brief: false }),
        };
        inner.note_space(&space);
        inner.state.lock().space = Some(space);
        inner
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.slots.counters
    }

    /// After a failed sync nothing is known of what was written: nothing more is.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    fn note_space(&self, space: &Space) {
        self.counters().used_slots.set(space.used());
        self.counters().pending_slots.set(space.held());
        self.counters().slots.set(space.written());
        self.counters().dead_slots.set(space.dead_apart());
    }

    /// Gives the space map to a writer, with what nobody needs any more released.
    pub(crate) fn take_space(&self, brief: bool) -> Result<(Space, Arc<Root>), PageError> {
        if self.access == Access::ReadOnly {
            return Err(PageError::ReadOnly { file: self.slots.place.file.clone() });
        }
        if self.poisoned.load(Ordering::Acquire) {
            return Err(PageError::Poisoned);
        }
        let mut state = loop {
            let state = self.state.lock();
            if state.space.is_some() || !state.brief {
                break state;
            }
            drop(state);
            std::thread::sleep(BRIEFLY);
        };
        let mut space = state.space.take().ok_or(PageError::WriterBusy)?;
        state.brief = brief;
        let oldest = state.oldest();
        let root = Arc::clone(&state.root);
        drop(state);
        space.release(oldest);
        self.note_space(&space);
        Ok((space, root))
    }

    /// Takes the space map back, with the root of a commit if there was one.
    pub(crate) fn put_space(&self, space: Space, root: Option<&Arc<Root>>) {
        self.note_space(&space);
        let mut state = self.state.lock();
        state.space = Some(space);
        state.brief = false;
        if let Some(root) = root {
            state.roots.push_back((root.generation(), Arc::downgrade(root)));
            let before = std::mem::replace(&mut state.root, Arc::clone(root));
            drop(state);
            // Dropped outside the lock: it may be the last.
            drop(before);
        }
    }

    pub(crate) fn root(&self) -> Arc<Root> {
        Arc::clone(&self.state.lock().root)
    }

    /// The oldest root that somebody holds.
    pub(crate) fn oldest_root(&self) -> Generation {
        self.state.lock().oldest()
    }

    /// Roots that somebody holds, newest first.
    pub(crate) fn live_roots(&self) -> Vec<Arc<Root>> {
        let state = self.state.lock();
        state.roots.iter().rev().filter_map(|(_, root)| root.upgrade()).collect()
    }

    /// A page from the cache or the disk.
    pub(crate) fn read(&self, at: PageRef) -> Result<Page, PageError> {
        if let Some(page) = self.cache.get(at) {
            return Ok(page);
        }
        let page = match self.slots.read(at) {
            Ok(page) => page,
            Err(error) => self.rebuilt(at, error)?,
        };
        self.cache.insert(page.clone());
        Ok(page)
    }

    pub(crate) fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        let slots = self.slots.read_run(run)?;
        Ok(slots.into_iter().map(|slot| UnverifiedPage { state: Unverified::Slot(slot) }).collect())
    }
}

impl State {
    /// The oldest root that somebody holds; the newest one always is.
    fn oldest(&mut self) -> Generation {
        self.roots.retain(|(_, root)| root.strong_count() > 0);
        self.roots.front().map_or(self.root.generation(), |(generation, _)| *generation)
    }
}

impl PageFile {
    pub(crate) fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The newest committed generation. As long as it is held, what can be reached from it stays as it is.
    #[must_use]
    pub fn root(&self) -> Arc<Root> {
        self.inner.root()
    }

    /// Begins to build the next generation. There is one writer at a time; dropping it takes back everything.
    ///
    /// # Errors
    /// [`PageError::WriterBusy`], [`PageError::ReadOnly`], [`PageError::Poisoned`], [`PageError::LastGeneration`].
    pub fn begin(&self) -> Result<PageWriter, PageError> {
        self.begin_as(false)
    }

    /// As [`begin`](Self::begin), for who commits nothing: others who begin wait for it instead of being refused.
    pub(crate) fn begin_briefly(&self) -> Result<PageWriter, PageError> {
        self.begin_as(true)
    }

    fn begin_as(&self, brief: bool) -> Result<PageWriter, PageError> {
        let (mut space, root) = self.inner.take_space(brief)?;
        self.inner.write_repairs(&mut space);
        let Some(generation) = root.generation().plus(1) else {
            self.inner.put_space(space, None);
            return Err(PageError::LastGeneration);
        };
        let draft = Draft::new(space, generation, self.inner.max_pages);
        Ok(PageWriter::new(Arc::clone(&self.inner), generation, draft))
    }

    /// What opening found and mended.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Counters since the file was opened, and how it stands now.
    #[must_use]
    pub fn stats(&self) -> PageStats {
        let mut stats = self.inner.counters().read(self.page_size().bytes().into());
        self.inner.cache.count(&mut stats);
        stats
    }

    /// Bytes of a slot.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.inner.slots.place.page_size
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.slots.place.file
    }

    /// Whether a sync failed, after which nothing more is written.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Acquire)
    }
}

impl PageRead for PageFile {
    fn payload_len(&self) -> usize {
        self.page_size().payload_len()
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        self.inner.read(at)
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        self.inner.read_run(run)
    }
}
