//! Pages in memory: a scan-resistant cache with a bound in bytes, its index counted.
//!
//! Invariant: what is found was verified, and counts only when the whole reference is the one asked for; so an entry of a
//! slot's earlier life is a miss, never a wrong page.

use std::hash::{BuildHasherDefault, Hasher};

use keepstone_types::{PageId, PageRef};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Weighter};

use crate::layout::disk_len;
use crate::page::Page;
use crate::stats::{Counters, PageStats};
use crate::sync::Arc;

/// Bytes of memory that an entry takes beside the page: key, page handle, counts, links, its part of the hash table.
const ENTRY_BYTES: u64 = 192;

/// The bytes of an entry.
#[derive(Clone, Debug)]
struct Bytes {
    /// Bytes of a slot, whose memory a page keeps.
    page: u64,
}

impl Weighter<PageId, Page> for Bytes {
    fn weight(&self, _key: &PageId, _page: &Page) -> u64 {
        self.page.saturating_add(ENTRY_BYTES)
    }
}

/// Counts what leaves.
#[derive(Clone, Debug)]
struct Leaving(Arc<Counters>);

impl Lifecycle<PageId, Page> for Leaving {
    type RequestState = ();

    fn on_evict(&self, _state: &mut (), _key: PageId, _page: Page) {
        self.0.cache_evictions.add(1);
    }
}

/// Mixes the number of a slot (the finaliser of SplitMix64): slots are given away by us, so nobody can choose them to
/// collide.
#[derive(Clone, Debug, Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(32) ^ number;
    }
}

/// The cache of a page file.
pub(crate) struct PageCache {
    pages: Option<Cache<PageId, Page, Bytes, BuildHasherDefault<SlotHasher>, Leaving>>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache").field("entries", &self.pages.as_ref().map(Cache::len)).finish()
    }
}

impl PageCache {
    /// A cache of so many bytes for pages of so many; none when not even one page fits.
    pub(crate) fn new(bytes: u64, page_bytes: u64, counters: Arc<Counters>) -> Self {
        let entries = bytes.checked_div(page_bytes.saturating_add(ENTRY_BYTES)).unwrap_or(0);
        let make = || {
            let entries = usize::try_from(entries).unwrap_or(usize::MAX);
            let leaving = Leaving(Arc::clone(&counters));
            Cache::with(entries, bytes, Bytes { page: page_bytes }, BuildHasherDefault::default(), leaving)
        };
        Self { pages: (entries > 0).then(make), counters }
    }

    /// The page that a reference leads to, if it is here.
    pub(crate) fn get(&self, at: PageRef) -> Option<Page> {
        let found = self.pages.as_ref().and_then(|pages| pages.get(&at.page));
        let found = found.filter(|page| page.reference() == at);
        let counter = if found.is_some() { &self.counters.cache_hits } else { &self.counters.cache_misses };
        counter.add(1);
        found
    }

    /// The page of a slot that is here, whichever of its life that is. Counts as no look-up.
    pub(crate) fn peek(&self, slot: PageId) -> Option<Page> {
        self.pages.as_ref().and_then(|pages| pages.peek(&slot))
    }

    pub(crate) fn insert(&self, page: Page) {
        if let Some(pages) = &self.pages {
            pages.insert(page.reference().page, page);
        }
    }

    /// Adds what the cache holds now.
    pub(crate) fn count(&self, stats: &mut PageStats) {
        if let Some(pages) = &self.pages {
            stats.cache_entries = disk_len(pages.len());
            stats.cache_bytes = pages.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use keepstone_types::{Generation, ValueRef};

    use super::*;
    use crate::page::PageKind;

    fn page(slot: u64, birth: u64) -> Page {
        let (page, birth) = (PageId::new(slot).unwrap(), Generation::new(birth).unwrap());
        Page::verified(
            PageRef { page, birth, checksum: slot },
            PageKind::FIRST_FREE,
            ValueRef::from(vec![0; 4_096]),
        )
    }

    #[test]
    fn a_hit_needs_the_whole_reference_and_memory_has_a_bound() {
        let counters = Arc::<Counters>::default();
        let cache = PageCache::new(1 << 20, 4_096, Arc::clone(&counters));
        cache.insert(page(7, 1));
        assert!(cache.get(page(7, 1).reference()).is_some());
        assert!(cache.get(page(7, 2).reference()).is_none());
        assert_eq!((counters.cache_hits.get(), counters.cache_misses.get()), (1, 1));
        for slot in 0..2_000 {
            cache.insert(page(slot, 3));
        }
        let mut stats = counters.read(4_096);
        cache.count(&mut stats);
        assert!(stats.cache_bytes <= 1 << 20 && stats.cache_entries > 100, "{stats:?}");
        assert!(stats.cache_evictions > 1_000, "{stats:?}");
        let none = PageCache::new(0, 4_096, counters);
        none.insert(page(1, 1));
        assert!(none.get(page(1, 1).reference()).is_none());
    }
}
