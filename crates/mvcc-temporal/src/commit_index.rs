//! The commit index: every commit in order, searched by version, by time or by place in the log.
//!
//! Invariants:
//! * Versions, times and log places strictly ascend, so one order serves all three searches.
//! * One writer (the log's leader, or recovery); readers take no lock and never wait. An entry is stored before the
//!   length that covers it, so whoever reads the length reads whole entries.

use keepstone_types::{Lsn, Timestamp, Version};

use crate::commit_entry::CommitEntry;
use crate::sync::{Arc, AtomicUsize, Ordering, SlotOnce};

/// Entries in the first block; each block is twice the one before, so that nothing ever moves.
const FIRST_BLOCK_LEN: usize = 64;
/// Blocks: enough for 2^48 entries.
const BLOCK_COUNT: usize = 42;

type Block = Box<[SlotOnce<Arc<CommitEntry>>]>;

/// All commits, oldest first.
#[derive(Debug)]
pub(crate) struct CommitIndex {
    blocks: [SlotOnce<Block>; BLOCK_COUNT],
    len: AtomicUsize,
}

/// The block and the place within it of the entry at `index`.
fn place(index: usize) -> (usize, usize) {
    // Block b begins at FIRST_BLOCK_LEN * (2^b - 1).
    let shifted = (index / FIRST_BLOCK_LEN).saturating_add(1);
    let block = shifted.ilog2();
    let start = FIRST_BLOCK_LEN.saturating_mul((1_usize << block).saturating_sub(1));
    (usize::try_from(block).unwrap_or(usize::MAX), index.saturating_sub(start))
}

impl CommitIndex {
    pub(crate) fn new() -> Self {
        Self { blocks: [const { SlotOnce::new() }; BLOCK_COUNT], len: AtomicUsize::new(0) }
    }

    /// Adds the newest commit; called by the writer only.
    pub(crate) fn push(&self, entry: Arc<CommitEntry>) {
        let index = self.len.load(Ordering::Relaxed);
        let (block, offset) = place(index);
        let block_len = FIRST_BLOCK_LEN.saturating_mul(1_usize << block.min(BLOCK_COUNT));
        if let Some(slots) = self.blocks.get(block) {
            let slots = slots.get_or_init(|| (0..block_len).map(|_| SlotOnce::new()).collect());
            if let Some(slot) = slots.get(offset) {
                let _kept = slot.set(entry);
                self.len.store(index.saturating_add(1), Ordering::Release);
            }
        }
    }

    /// Commits held, those that are not visible yet included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The commit at a place in the order.
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<CommitEntry>> {
        let (block, offset) = place(index);
        self.blocks.get(block)?.get()?.get(offset)?.get()
    }

    /// How many commits at the front satisfy a condition that holds for a prefix of the order.
    fn partition_point(&self, holds: impl Fn(&CommitEntry) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(|entry| holds(entry)) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    fn newest_where(&self, holds: impl Fn(&CommitEntry) -> bool) -> Option<&Arc<CommitEntry>> {
        self.get(self.partition_point(holds).checked_sub(1)?)
    }

    /// How many commits have a version at or below `version`.
    pub(crate) fn count_through(&self, version: Version) -> usize {
        self.partition_point(|entry| entry.version() <= version)
    }

    /// The newest commit at or below `version`.
    pub(crate) fn at_or_below(&self, version: Version) -> Option<&Arc<CommitEntry>> {
        self.newest_where(|entry| entry.version() <= version)
    }

    /// The commit that made exactly `version`.
    pub(crate) fn exact(&self, version: Version) -> Option<&Arc<CommitEntry>> {
        self.at_or_below(version).filter(|entry| entry.version() == version)
    }

    /// The newest commit at or before `time`, among those at or below `visible`.
    pub(crate) fn at_time(&self, time: Timestamp, visible: Version) -> Option<&Arc<CommitEntry>> {
        self.newest_where(|entry| entry.time() <= time && entry.version() <= visible)
    }

    /// The newest commit whose record is at or before `lsn`.
    pub(crate) fn at_lsn(&self, lsn: Lsn) -> Option<&Arc<CommitEntry>> {
        let last = self.len().checked_sub(1).and_then(|last| self.get(last));
        last.filter(|entry| entry.lsn() <= lsn).or_else(|| self.newest_where(|entry| entry.lsn() <= lsn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(count: u64) -> CommitIndex {
        let index = CommitIndex::new();
        for number in 1..=count {
            let entry = CommitEntry::new(Box::default());
            entry.admit(
                Version::from_raw(number * 2),
                Timestamp::from_micros(number * 10),
                Lsn::new(number * 3),
            );
            index.push(entry);
        }
        index
    }

    #[test]
    fn finds_by_version_time_and_lsn() {
        for count in [0_u64, 1, 63, 64, 65, 191, 192, 193, 5_000] {
            let index = index_of(count);
            assert_eq!(index.len(), usize::try_from(count).unwrap());
            for number in 0..=count {
                let version =
                    |raw| index.at_or_below(Version::from_raw(raw)).map(|entry| entry.version().to_raw());
                let expected = (number > 0).then_some(number * 2);
                assert_eq!(version(number * 2), expected);
                assert_eq!(version(number * 2 + 1), expected);
                assert_eq!(index.exact(Version::from_raw(number * 2 + 1)).map(|entry| entry.lsn()), None);
                let at = |micros, visible| {
                    let found = index.at_time(Timestamp::from_micros(micros), Version::from_raw(visible));
                    found.map(|entry| entry.version().to_raw())
                };
                assert_eq!(at(number * 10 + 9, u64::MAX), expected);
                assert_eq!(at(u64::MAX, number * 2), expected);
                let lsn = index.at_lsn(Lsn::new(number * 3 + 2)).map(|entry| entry.version().to_raw());
                assert_eq!(lsn, expected);
            }
        }
    }

    #[test]
    fn blocks_double_and_leave_no_gap() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(place(index), expected, "index {index}");
            expected.1 += 1;
            if expected.1 == FIRST_BLOCK_LEN << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }
}
