//! The commit index: the commits of a memtable in order, searched by version or by place in the log.
//!
//! Invariants:
//! * Versions and log places strictly ascend, so one order serves both searches. Sequences are dense, so a commit's
//!   place follows from its own.
//! * One writer (the log's leader, or recovery); readers take no lock and never wait. An entry is stored before the
//!   length that covers it, so whoever reads the length reads whole entries.

use keepstone_types::{Lsn, Version};

use crate::commit::entry::CommitEntry;
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

    /// The oldest commit.
    pub(crate) fn first(&self) -> Option<&Arc<CommitEntry>> {
        if self.len() == 0 { None } else { self.get(0) }
    }

    /// The newest commit, visible or not.
    pub(crate) fn last(&self) -> Option<&Arc<CommitEntry>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// The newest commit at or before a place in the order of all commits.
    pub(crate) fn newest_to(&self, sequence: u64) -> Option<&Arc<CommitEntry>> {
        let index = sequence.checked_sub(self.first()?.version().sequence())?;
        self.get(usize::try_from(index).unwrap_or(usize::MAX).min(self.len().checked_sub(1)?))
    }

    /// The oldest commit at or behind a place in the order of all commits.
    pub(crate) fn oldest_from(&self, sequence: u64) -> Option<&Arc<CommitEntry>> {
        let index = sequence.saturating_sub(self.first()?.version().sequence());
        self.get(usize::try_from(index).ok().filter(|index| *index < self.len())?)
    }

    /// The newest commit whose record is at or before `lsn`.
    pub(crate) fn at_lsn(&self, lsn: Lsn) -> Option<&Arc<CommitEntry>> {
        self.last()
            .filter(|entry| entry.lsn() <= lsn)
            .or_else(|| self.newest_where(|entry| entry.lsn() <= lsn))
    }
}

#[cfg(test)]
mod tests {
    use keepstone_types::Timestamp;

    use super::*;

    /// The sequence before the first commit of the index.
    const FIRST_SEQUENCE: u64 = 40;

    fn index_of(count: u64) -> CommitIndex {
        let index = CommitIndex::new();
        for number in 1..=count {
            let entry = CommitEntry::new(Box::default());
            entry.admit(
                Version::from_raw(FIRST_SEQUENCE + number),
                Timestamp::from_micros(number * 10),
                Lsn::new(number * 3),
            );
            index.push(entry);
        }
        index
    }

    #[test]
    fn finds_by_version_sequence_and_lsn() {
        for count in [0_u64, 1, 63, 64, 65, 191, 192, 193, 5_000] {
            let index = index_of(count);
            assert!(index.oldest_from(FIRST_SEQUENCE + count + 1).is_none());
            let beyond = index.newest_to(u64::MAX).map(|entry| entry.version().to_raw());
            assert_eq!(beyond, (count > 0).then_some(FIRST_SEQUENCE + count));
            let first = index.oldest_from(0).map(|entry| entry.version().to_raw());
            assert_eq!(first, (count > 0).then_some(FIRST_SEQUENCE + 1));
            let ends = index.first().zip(index.last()).map(|(first, last)| (first.lsn(), last.lsn()));
            assert_eq!(ends, (count > 0).then(|| (Lsn::new(3), Lsn::new(count * 3))));
            assert_eq!(index.len(), usize::try_from(count).unwrap());
            for number in 0..=count {
                let raw = FIRST_SEQUENCE + number;
                let expected = (number > 0).then_some(raw);
                let found = index.at_or_below(Version::from_raw(raw));
                assert_eq!(found.map(|entry| entry.version().to_raw()), expected);
                let found = index.newest_to(raw);
                assert_eq!(found.map(|entry| entry.version().to_raw()), expected);
                let found = index.oldest_from(raw).map(|entry| entry.version().to_raw());
                assert_eq!(found, (count > 0).then_some(raw.max(FIRST_SEQUENCE + 1)));
                assert_eq!(index.count_through(Version::from_raw(raw)), usize::try_from(number).unwrap());
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
