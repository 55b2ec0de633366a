//! A node of the tree: a few slots, and the order in which they stand, which is one number.
//!
//! Invariants:
//! * A slot is written once, before an order names it; the order is stored last. Whoever loads it therefore sees what all
//!   slots that it names hold, then and later.
//! * One thread writes.

use std::ops::Range;

use super::super::TableId;
use super::super::place::Front;
use super::sync::{AtomicU64, CountU32, CountU64, Ordering};

/// Slots of a node: what one number can put in order, four bits for each and for how many there are.
pub(super) const SLOTS: usize = if cfg!(feature = "model") { 3 } else { 15 };

/// Bits of an order that name a slot.
const SLOT_BITS: u32 = 4;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// How many slots it names stands in the uppermost bits.
const LEN_SHIFT: u32 = u64::BITS - SLOT_BITS;
const LEN_ONE: u64 = 1 << LEN_SHIFT;

/// Which slots a node has, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order(u64);

impl Order {
    pub(super) const fn len(self) -> usize {
        // Four bits.
        (self.0 >> LEN_SHIFT) as usize
    }

    /// The slot at a place; any when there is none.
    pub(super) const fn slot(self, place: usize) -> usize {
        (self.0 >> shift(place) & SLOT_MASK) as usize
    }

    /// With a slot before what stands at a place.
    pub(super) const fn with(self, place: usize, slot: usize) -> Self {
        let below = (1 << shift(place)) - 1;
        let slots = self.0 & !(SLOT_MASK << LEN_SHIFT);
        let moved = (slots & !below) << SLOT_BITS;
        let named = (slot as u64 & SLOT_MASK) << shift(place);
        Self((slots & below) | named | moved | (self.0 & (SLOT_MASK << LEN_SHIFT)).wrapping_add(LEN_ONE))
    }

    /// With another slot at a place.
    pub(super) const fn replaced(self, place: usize, slot: usize) -> Self {
        let cleared = self.0 & !(SLOT_MASK << shift(place));
        Self(cleared | (slot as u64 & SLOT_MASK) << shift(place))
    }
}

/// Where a place stands in an order.
#[expect(clippy::cast_possible_truncation, reason = "a place is below sixteen")]
const fn shift(place: usize) -> u32 {
    place as u32 * SLOT_BITS
}

/// A row as nodes know it: what it is compared by, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) front: Front,
    pub(super) row: u32,
}

/// A number of each slot.
type Column<T> = [T; SLOTS];

/// Slots in order. What a search looks at is in two lines of memory that no other node shares, and all of it at once.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Node {
    order: AtomicU64,
    firsts: Column<CountU64>,
    /// The numbers of the rows, in a leaf; of the nodes below, in others.
    targets: Column<CountU32>,
    seconds: Column<CountU64>,
    thirds: Column<CountU64>,
}

#[inline]
fn load(column: &Column<CountU64>, slot: usize) -> u64 {
    column.get(slot).map_or(0, |number| number.load(Ordering::Relaxed))
}

fn store(column: &Column<CountU64>, slot: usize, number: u64) {
    if let Some(stored) = column.get(slot) {
        stored.store(number, Ordering::Relaxed);
    }
}

impl Node {
    pub(super) fn order(&self) -> Order {
        Order(self.order.load(Ordering::Acquire))
    }

    /// Lets others see what was written; called by the thread that writes.
    pub(super) fn publish(&self, order: Order) {
        self.order.store(order.0, Ordering::Release);
    }

    /// Writes a slot that no order names.
    pub(super) fn write(&self, slot: usize, front: Front, target: u32) {
        let Front { first, second, third } = front;
        store(&self.firsts, slot, first);
        store(&self.seconds, slot, second);
        store(&self.thirds, slot, third);
        if let Some(number) = self.targets.get(slot) {
            number.store(target, Ordering::Relaxed);
        }
    }

    /// The front of what a slot holds that an order names.
    pub(super) fn front(&self, slot: usize) -> Front {
        let (first, second, third) =
            (load(&self.firsts, slot), load(&self.seconds, slot), load(&self.thirds, slot));
        Front { first, second, third }
    }

    /// The number of a slot's row, or of the node below it.
    pub(super) fn target(&self, slot: usize) -> Option<u32> {
        Some(self.targets.get(slot)?.load(Ordering::Relaxed))
    }

    /// The table of a slot's row.
    pub(super) fn table(&self, slot: usize) -> TableId {
        Front::table(load(&self.firsts, slot))
    }

    /// The places from one on whose fronts begin with a number: all before them begin with a lower one. Nothing is decided
    /// on the way, so that a processor need not guess.
    #[inline]
    pub(super) fn range_of_first(&self, order: Order, from: usize, first: u64) -> Range<usize> {
        let (mut below, mut at) = (from, 0_usize);
        for place in from..order.len() {
            let found = load(&self.firsts, order.slot(place));
            below = below.wrapping_add(usize::from(found < first));
            at = at.wrapping_add(usize::from(found == first));
        }
        below..below.wrapping_add(at)
    }
}

/// A node whose slots have nodes below them.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) node: Node,
    /// The rows by which the slots are compared.
    rows: Column<CountU32>,
    /// Slots that were written, named by the order or not any more; used by the thread that writes.
    used: CountU64,
}

/// A node below another one: its number, and the mark of a row that is at or before the first it has, and behind all of the
/// node before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) mark: Mark,
    pub(super) number: u32,
}

impl Inner {
    /// The row by which a slot is compared.
    pub(super) fn row(&self, slot: usize) -> Option<u32> {
        Some(self.rows.get(slot)?.load(Ordering::Relaxed))
    }

    pub(super) fn child(&self, slot: usize) -> Option<Child> {
        let mark = Mark { front: self.node.front(slot), row: self.row(slot)? };
        Some(Child { mark, number: self.node.target(slot)? })
    }

    /// Slots that were never written.
    pub(super) fn free(&self) -> usize {
        SLOTS.saturating_sub(self.used())
    }

    fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(SLOTS)
    }

    /// Writes the next free slot and names it; `SLOTS` when none is free.
    pub(super) fn write(&self, child: Child) -> usize {
        let slot = self.used();
        self.node.write(slot, child.mark.front, child.number);
        if let Some(row) = self.rows.get(slot) {
            row.store(child.mark.row, Ordering::Relaxed);
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_order_is_a_list(steps in proptest::collection::vec((0_usize..16, 0_usize..15, any::<bool>()), 0..60)) {
            let (mut order, mut model) = (Order::default(), Vec::new());
            for (place, slot, is_replaced) in steps {
                let place = place.min(model.len());
                if is_replaced && place < model.len() {
                    (order, model[place]) = (order.replaced(place, slot), slot);
                } else if model.len() < 15 {
                    order = order.with(place, slot);
                    model.insert(place, slot);
                }
                let listed: Vec<_> = (0..order.len()).map(|place| order.slot(place)).collect();
                prop_assert_eq!(&listed, &model);
            }
        }
    }
}
