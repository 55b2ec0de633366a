//! What the tests share: models, random numbers, pages that count or scatter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use keepstone_btree::{Builder, Decision, Edit, Fill, NewValue, Tree, TreeRoot, TreeShape, merge, walk};
use keepstone_pager::{MemoryPages, Page, PageError, PageKind, PageRead, PageRun, PageWrite, UnverifiedPage};
use keepstone_types::{Generation, PageId, PageRef, ValueRef};

/// Payloads of pages of 4, 8 and 16 KiB behind a header of 40 bytes.
pub(crate) const PAYLOADS: [usize; 3] = [4_056, 8_152, 16_344];
/// The shortest payload, an odd one, and the usual ones.
pub(crate) const ALL_PAYLOADS: [usize; 5] = [320, 501, 4_056, 8_152, 16_344];

/// What a tree should hold.
pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

pub(crate) fn put(key: &[u8], value: &[u8]) -> Edit {
    Edit { key: ValueRef::copy_from(key), value: NewValue::bytes(ValueRef::copy_from(value)) }
}

pub(crate) fn delete(key: &[u8]) -> Edit {
    Edit { key: ValueRef::copy_from(key), value: NewValue::Delete }
}

/// Makes all edits.
pub(crate) fn apply<W: PageWrite>(pages: &mut W, root: TreeRoot, edits: &[Edit]) -> TreeRoot {
    merge(pages, root, edits, Fill::FULL, &mut |_, _| Decision::Replace).unwrap()
}

/// A tree with these rows.
pub(crate) fn build<W: PageWrite>(pages: &mut W, rows: &Model) -> TreeRoot {
    let mut builder = Builder::new(pages, Fill::FULL);
    for (key, value) in rows {
        builder.push(key, NewValue::bytes(ValueRef::copy_from(value))).unwrap();
    }
    builder.finish().unwrap()
}

/// Every page of a tree, with what it is.
pub(crate) fn pages_of<P: PageRead>(pages: &P, root: TreeRoot) -> (Vec<(PageRef, PageKind)>, TreeShape) {
    let mut found = Vec::new();
    let shape = walk(pages, root, &mut |at, kind| {
        found.push((at, kind));
        Ok(())
    });
    (found, shape.unwrap())
}

/// The pages in use are those of these trees, each once.
pub(crate) fn check_live(pages: &MemoryPages, roots: &[TreeRoot]) {
    let mut walked = BTreeSet::new();
    for root in roots {
        for (at, _) in pages_of(pages, *root).0 {
            assert!(walked.insert(at.page), "{at} is used twice");
        }
    }
    let live: BTreeSet<PageId> = pages.live().collect();
    assert_eq!(live, walked, "what is in use, and what trees are made of");
}

/// All rows, read forwards.
pub(crate) fn rows_of<P: PageRead>(pages: &P, root: TreeRoot) -> Model {
    let mut cursor = Tree::new(pages, root).cursor();
    let mut found = Model::new();
    loop {
        cursor.next().unwrap();
        let Some(key) = cursor.key() else { return found };
        let stored = cursor.stored().unwrap();
        let value = stored.load(pages).unwrap();
        assert_eq!(cursor.value_len(), value.len() as u64);
        assert_eq!(stored.len(), value.len() as u64);
        let head = value.len().min(16);
        assert_eq!(&cursor.head()[..head], &value[..head]);
        assert_eq!(&stored.head()[..head], &value[..head]);
        assert!(found.insert(key.to_vec(), value.into_owned()).is_none());
    }
}

/// A tree of one leaf.
pub(crate) fn leaf_alone(at: PageRef) -> TreeRoot {
    let mut bytes = TreeRoot::EMPTY.to_bytes();
    bytes[..PageRef::LEN].copy_from_slice(&at.to_bytes());
    bytes[PageRef::LEN] = 1;
    bytes[PageRef::LEN + 1] = 1;
    TreeRoot::read(&mut keepstone_types::wire::Reader::new(&bytes)).unwrap()
}

/// Pages that count how they are read, and that are given out in runs of bounded length.
pub(crate) struct Watched {
    pub(crate) inner: MemoryPages,
    pub(crate) run_max: u32,
    pub(crate) reads: AtomicUsize,
    pub(crate) run_reads: AtomicUsize,
    /// Slots that are damaged when they are read in a run.
    pub(crate) bad_in_runs: BTreeSet<PageId>,
}

impl Watched {
    pub(crate) fn new(payload_len: usize, run_max: u32) -> Self {
        Self {
            inner: MemoryPages::new(payload_len),
            run_max,
            reads: AtomicUsize::new(0),
            run_reads: AtomicUsize::new(0),
            bad_in_runs: BTreeSet::new(),
        }
    }

    /// Reads of single pages and of runs since the last time.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::Relaxed), self.run_reads.swap(0, Ordering::Relaxed))
    }
}

impl PageRead for Watched {
    fn payload_len(&self) -> usize {
        self.inner.payload_len()
    }

    fn read(&self, at: PageRef) -> Result<Page, PageError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(at)
    }

    fn read_run(&self, run: PageRun) -> Result<Vec<UnverifiedPage>, PageError> {
        self.run_reads.fetch_add(1, Ordering::Relaxed);
        let slots = (0..run.count).map(|index| run.get(index).unwrap());
        // A slot that was never used stands for one whose bytes are rotten.
        let read = |slot| if self.bad_in_runs.contains(&slot) { PageId::MAX } else { slot };
        slots
            .map(|slot| Ok(self.inner.read_run(PageRun { first: read(slot), count: 1 })?.remove(0)))
            .collect()
    }
}

impl PageWrite for Watched {
    fn generation(&self) -> Generation {
        self.inner.generation()
    }

    fn allocate(&mut self, want: u32) -> Result<PageRun, PageError> {
        self.inner.allocate(want.min(self.run_max))
    }

    fn write(&mut self, page: PageId, kind: PageKind, payload: &[u8]) -> Result<PageRef, PageError> {
        self.inner.write(page, kind, payload)
    }

    fn free(&mut self, page: PageId, birth: Generation) -> Result<(), PageError> {
        self.inner.free(page, birth)
    }
}
