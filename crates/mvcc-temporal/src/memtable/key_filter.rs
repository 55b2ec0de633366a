//! Which keys a memtable may have: a filter that one thread fills while any number look, so that a read of another key
//! passes the memtable by.
//!
//! It is a Bloom filter whose bits for a key are all in one word (Putze, Sanders, Singler: "Cache-, hash- and
//! space-efficient Bloom filters", 2007), with 16 bits for each key, in blocks that grow: about one look-up in 200 of a key
//! that was never added says "perhaps". Beside it stand the bounds of the keys, as far as a number tells.
//!
//! Invariants:
//! * One thread adds. Whoever has seen, directly or through others, that it went on after adding a key, is told "perhaps"
//!   for that key. A memtable adds a row before it makes its version visible, so nobody misses a row that may be seen.
//! * Bits are only set, bounds only widen, blocks are only added.
//!
//! A key that is added again takes no room.

use keepstone_types::checksum::checksum_seeded;

use crate::catalog::TableId;
use crate::sync::{AtomicU64, Ordering, SlotOnce};

/// Bits of the filter for each key that fits a block.
const BITS_PER_KEY: usize = 16;
/// Bits that are set for a key, all in one word.
const BITS_SET: u32 = 5;
/// Bits that choose one of those of a word.
const CHOICE_BITS: u32 = u64::BITS.ilog2();
/// Keys that fit each block; what comes after the last goes there too, at the price of more that "may be".
const BLOCK_KEYS: [usize; 6] = if cfg!(feature = "model") {
    [4, 8, 16, 32, 64, 128]
} else {
    [4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 128 << 20]
};

type Block = Box<[AtomicU64]>;

/// The filter and the bounds.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    blocks: [SlotOnce<Block>; BLOCK_KEYS.len()],
    /// Keys in all blocks; used by the thread that adds.
    len: AtomicU64,
    lowest: AtomicU64,
    highest: AtomicU64,
}

/// Table and key as a number that orders as they do, as far as it tells them apart.
fn order(table: TableId, key_head: u64) -> u64 {
    (u64::from(table.get()) << 32) | (key_head >> 32)
}

/// The place of a key's word in a block of so many, and its bits there.
fn place(hash: u64, words: usize) -> (usize, u64) {
    let bits = (0..BITS_SET).fold(0, |bits, choice| {
        let chosen = (hash >> choice.saturating_mul(CHOICE_BITS)) & u64::from(u64::BITS - 1);
        bits | (1 << chosen)
    });
    // The upper half of the hash, scaled to the words there are; the bits were chosen by the lower half.
    let scaled = u128::from(hash >> 32).saturating_mul(words as u128) >> 32;
    (usize::try_from(scaled).unwrap_or(0), bits)
}

fn hash(table: TableId, key: &[u8]) -> u64 {
    checksum_seeded(table.get().into(), key)
}

impl KeyFilter {
    pub(crate) fn new() -> Self {
        Self {
            blocks: [const { SlotOnce::new() }; BLOCK_KEYS.len()],
            len: AtomicU64::new(0),
            lowest: AtomicU64::new(u64::MAX),
            highest: AtomicU64::new(0),
        }
    }

    /// The block that the next key goes to.
    fn open_block(&self) -> Option<&Block> {
        let mut len = usize::try_from(self.len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let mut number = 0;
        for keys in BLOCK_KEYS.iter().take(BLOCK_KEYS.len().saturating_sub(1)) {
            match len.checked_sub(*keys) {
                Some(left) => len = left,
                None => break,
            }
            number += 1;
        }
        let words = BLOCK_KEYS.get(number)?.saturating_mul(BITS_PER_KEY).div_ceil(u64::BITS as usize);
        Some(self.blocks.get(number)?.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Adds a key; called by one thread at a time.
    pub(crate) fn add(&self, table: TableId, key_head: u64, key: &[u8]) {
        let order = order(table, key_head);
        if order < self.lowest.load(Ordering::Relaxed) {
            self.lowest.store(order, Ordering::Relaxed);
        }
        if order > self.highest.load(Ordering::Relaxed) {
            self.highest.store(order, Ordering::Relaxed);
        }
        let hash = hash(table, key);
        if self.has(hash) {
            return;
        }
        let Some(block) = self.open_block() else { return };
        let (word, bits) = place(hash, block.len());
        if let Some(word) = block.get(word) {
            // Only this thread writes.
            word.store(word.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
        }
        self.len.store(self.len.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }

    fn has(&self, hash: u64) -> bool {
        self.blocks.iter().map_while(SlotOnce::get).any(|block| {
            let (word, bits) = place(hash, block.len());
            block.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bits == bits)
        })
    }

    /// Whether a key may be among those that were added.
    pub(crate) fn may_have(&self, table: TableId, key_head: u64, key: &[u8]) -> bool {
        let order = order(table, key_head);
        self.lowest.load(Ordering::Relaxed) <= order
            && order <= self.highest.load(Ordering::Relaxed)
            && self.has(hash(table, key))
    }

    /// Whether a key between two, by their heads, may be among those that were added.
    pub(crate) fn may_meet(&self, table: TableId, from_head: u64, to_head: u64) -> bool {
        self.lowest.load(Ordering::Relaxed) <= order(table, to_head)
            && order(table, from_head) <= self.highest.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId::FIRST_USER;

    fn key(number: u64) -> ([u8; 8], u64) {
        let head = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (head.to_be_bytes(), head)
    }

    #[test]
    fn every_key_may_be_there_and_few_others_may() {
        let filter = KeyFilter::new();
        let (key, head) = key(1);
        assert!(!filter.may_have(TABLE, head, &key), "an empty one has none");
        let mut added = 0;
        for upto in [1_u64, 100, 4_096, 5_000, 37_000, 100_000] {
            for number in added..upto {
                let (key, head) = self::key(number);
                filter.add(TABLE, head, &key);
                filter.add(TABLE, head, &key);
            }
            added = upto;
            let may_have = |number: &u64| {
                let (key, head) = self::key(*number);
                filter.may_have(TABLE, head, &key)
            };
            assert_eq!((0..upto).find(|number| !may_have(number)), None, "among {upto}");
            let others = (1_000_000..1_020_000).filter(may_have).count();
            assert!(others < 400, "{others} of 20,000 among {upto}");
        }
        assert!(filter.blocks.iter().map_while(SlotOnce::get).count() >= 3);
        let (key, head) = self::key(7);
        assert!(!filter.may_have(TableId::new(2), head, &key), "of another table");
    }

    #[test]
    fn ranges_meet_what_lies_between_the_bounds() {
        let filter = KeyFilter::new();
        let head = |first: u64| first << 56;
        assert!(!filter.may_meet(TABLE, 0, u64::MAX));
        for first in [3, 5] {
            filter.add(TABLE, head(first), &head(first).to_be_bytes());
        }
        for (table, from, to, meets) in [
            (TABLE, 0, u64::MAX, true),
            (TABLE, head(3), head(3), true),
            (TABLE, head(4), head(4), true),
            (TABLE, 0, head(2), false),
            (TABLE, head(6), u64::MAX, false),
            (TableId::SYSTEM, 0, u64::MAX, false),
            (TableId::new(2), 0, u64::MAX, false),
        ] {
            assert_eq!(filter.may_meet(table, from, to), meets, "{table:?} {from:x} {to:x}");
        }
    }
}
