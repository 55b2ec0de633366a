//! Items that one thread adds and any number look at: never moved, never removed, found by their number.
//!
//! They lie in blocks of one size, and the blocks in lists each twice as long as the one before, so that adding copies
//! nothing and what is not used yet is less than a block.

use super::sync::{CountU64, Ordering, SlotOnce};

/// Items of a block.
const BLOCK_ITEMS: usize = if cfg!(feature = "model") { 2 } else { 128 };
/// Blocks of the first list.
const FIRST_LIST_BLOCKS: usize = if cfg!(feature = "model") { 1 } else { 8 };
/// Lists: enough for all numbers there are.
const LISTS: usize = if cfg!(feature = "model") { 8 } else { 23 };

type Block<T> = SlotOnce<Box<[T]>>;

/// A growing list of items.
#[derive(Debug)]
pub(super) struct Arena<T> {
    lists: [SlotOnce<Box<[Block<T>]>>; LISTS],
    /// Items that were added; used by the thread that adds.
    len: CountU64,
}

/// List, block in the list and item in the block of a number.
fn place(number: u32) -> (usize, usize, usize) {
    let number = number as usize;
    let (block, item) = (number / BLOCK_ITEMS, number % BLOCK_ITEMS);
    // List k holds the blocks from FIRST × (2^k − 1) on.
    let list = (block / FIRST_LIST_BLOCKS).saturating_add(1).ilog2();
    let before = FIRST_LIST_BLOCKS.saturating_mul((1_usize << list).saturating_sub(1));
    (list as usize, block.saturating_sub(before), item)
}

fn defaults<T: Default>(count: usize) -> Box<[T]> {
    (0..count).map(|_| T::default()).collect()
}

impl<T: Default> Arena<T> {
    pub(super) fn new() -> Self {
        Self { lists: std::array::from_fn(|_| SlotOnce::new()), len: CountU64::new(0) }
    }

    /// The item with a number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (list, block, item) = place(number);
        self.lists.get(list)?.get()?.get(block)?.get()?.get(item)
    }

    /// Adds an item and gives it with its number, as it is by default; called by one thread at a time. `None` when all
    /// numbers are taken.
    pub(super) fn add(&self) -> Option<(u32, &T)> {
        let number = u32::try_from(self.len.load(Ordering::Relaxed)).ok()?;
        let (list, block, item) = place(number);
        let blocks =
            self.lists.get(list)?.get_or_init(|| defaults(FIRST_LIST_BLOCKS.saturating_mul(1 << list)));
        let added = blocks.get(block)?.get_or_init(|| defaults(BLOCK_ITEMS)).get(item)?;
        self.len.store(u64::from(number).saturating_add(1), Ordering::Relaxed);
        Some((number, added))
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own_and_the_places_follow_each_other() {
        let mut expected = (0, 0, 0);
        for number in 0..200_000 {
            assert_eq!(place(number), expected, "{number}");
            expected.2 += 1;
            if expected.2 == BLOCK_ITEMS {
                expected = (expected.0, expected.1 + 1, 0);
            }
            if expected.1 == FIRST_LIST_BLOCKS << expected.0 {
                expected = (expected.0 + 1, 0, 0);
            }
        }
        assert_eq!(place(u32::MAX).0, LISTS - 1);
    }

    #[test]
    fn an_item_is_found_by_the_number_it_was_added_under() {
        let arena = Arena::<SlotOnce<u32>>::new();
        assert!(arena.get(0).is_none());
        for expected in 0..5_000 {
            let (number, item) = arena.add().unwrap();
            assert_eq!(number, expected);
            item.set(number).unwrap();
        }
        assert!((0..5_000).all(|number| arena.get(number).unwrap().get() == Some(&number)));
        assert!(arena.get(1 << 20).is_none());
    }
}
