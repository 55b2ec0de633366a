//! Counters of a page file, read at any time without stopping anyone.

use std::sync::atomic::Ordering;

use crate::sync::{CountU64, thread_number};

/// What a page file has done since it was opened, and how it stands now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageStats {
    /// Reads that the cache answered.
    pub cache_hits: u64,
    /// Reads that went to the disk because the cache did not have the page.
    pub cache_misses: u64,
    /// Pages that left the cache for others.
    pub cache_evictions: u64,
    /// Pages in the cache now.
    pub cache_entries: u64,
    /// Bytes of the cache now, its index included.
    pub cache_bytes: u64,
    /// Pages read from the disk.
    pub pages_read: u64,
    /// Pages written, those of the free-space map included.
    pub pages_written: u64,
    /// Bytes read from the disk.
    pub read_bytes: u64,
    /// Bytes written, headers and zeros included.
    pub written_bytes: u64,
    /// Generations committed.
    pub commits: u64,
    /// Syncs of the file.
    pub syncs: u64,
    /// Slots in use now.
    pub used_slots: u64,
    /// Slots that are free, but still needed by a header or a reader.
    pub pending_slots: u64,
    /// Slots that are neither in use nor needed, but whose bytes parity still counts; they become free as it is rewritten.
    pub dead_slots: u64,
    /// Slots of the file that can be given away now.
    pub free_slots: u64,
    /// Bytes of all slots of the file now.
    pub file_bytes: u64,
    /// How often a page was found damaged when it was read.
    pub damaged_pages: u64,
    /// Pages that were written again, and read back, from what their group or their second copy says.
    pub repaired_pages: u64,
    /// How often a damaged page could not be rebuilt.
    pub unrepairable_pages: u64,
    /// Repairs that the disk did not take.
    pub failed_repairs: u64,
    /// Pages that scrubbing has looked at.
    pub scrubbed_pages: u64,
    /// Parity pages written.
    pub parity_pages_written: u64,
    /// Pages read to keep parity.
    pub parity_pages_read: u64,
}

/// A number that nothing is decided by.
#[derive(Debug, Default)]
pub(crate) struct Counter(CountU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lines that threads spread over.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Counter);

/// A number that every read adds to: threads do so on lines of their own, and do not wait for each other's.
#[derive(Debug, Default)]
pub(crate) struct StripedCounter([Stripe; STRIPES]);

impl StripedCounter {
    pub(crate) fn add(&self, count: u64) {
        if let Some(stripe) = self.0.get(thread_number() % STRIPES) {
            stripe.0.add(count);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.get()).fold(0, u64::wrapping_add)
    }
}

/// The counters behind [`PageStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) cache_hits: StripedCounter,
    pub(crate) cache_misses: StripedCounter,
    pub(crate) cache_evictions: Counter,
    pub(crate) pages_read: Counter,
    pub(crate) pages_written: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) commits: Counter,
    pub(crate) syncs: Counter,
    pub(crate) used_slots: Counter,
    pub(crate) pending_slots: Counter,
    pub(crate) slots: Counter,
    pub(crate) dead_slots: Counter,
    pub(crate) damaged_pages: Counter,
    pub(crate) repaired_pages: Counter,
    pub(crate) unrepairable_pages: Counter,
    pub(crate) failed_repairs: Counter,
    pub(crate) scrubbed_pages: Counter,
    pub(crate) parity_pages_written: Counter,
    pub(crate) parity_pages_read: Counter,
}

impl Counters {
    /// The counted part of the statistics; what the cache holds, the caller adds.
    pub(crate) fn read(&self, page_bytes: u64) -> PageStats {
        let (slots, used, pending) = (self.slots.get(), self.used_slots.get(), self.pending_slots.get());
        let dead = self.dead_slots.get();
        PageStats {
            cache_hits: self.cache_hits.get(),
            cache_misses: self.cache_misses.get(),
            cache_evictions: self.cache_evictions.get(),
            pages_read: self.pages_read.get(),
            pages_written: self.pages_written.get(),
            read_bytes: self.read_bytes.get(),
            written_bytes: self.written_bytes.get(),
            commits: self.commits.get(),
            syncs: self.syncs.get(),
            used_slots: used,
            pending_slots: pending,
            dead_slots: dead,
            free_slots: slots.saturating_sub(used).saturating_sub(pending).saturating_sub(dead),
            file_bytes: slots.saturating_mul(page_bytes),
            damaged_pages: self.damaged_pages.get(),
            repaired_pages: self.repaired_pages.get(),
            unrepairable_pages: self.unrepairable_pages.get(),
            failed_repairs: self.failed_repairs.get(),
            scrubbed_pages: self.scrubbed_pages.get(),
            parity_pages_written: self.parity_pages_written.get(),
            parity_pages_read: self.parity_pages_read.get(),
            ..PageStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_add_up_over_threads() {
        let counter = StripedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| (1..=3).for_each(|count| counter.add(count)));
            }
        });
        assert_eq!(counter.get(), 12 * STRIPES as u64);
    }
}
