//! The rows of a memtable in order: a tree of small nodes that one thread writes while any number read, without waiting.
//!
//! Nodes hold the fronts of keys side by side, so that a search looks at few lines of memory and at a row only to tell rows
//! apart whose keys begin alike. The order of a node's slots is one number that is stored last (as in Mao, Kohler, Morris:
//! "Cache craftiness for fast multicore key-value storage", 2012).
//!
//! Invariants:
//! * A node gains rows until it is full. Then it stays as it is, and new nodes with its rows take its place above it. Nothing
//!   is ever taken away, so whoever is on his way down reaches a node with all rows that the one he was sent to had then.
//! * A row is in the tree before anybody can ask for its version. What a reader asks for is therefore in every node that he
//!   can come to, whether it is the newest or one that was replaced, and what came after does not matter to him. That is
//!   why readers look at nothing twice and need no locks.
//! * The mark of a child is at or before its first row and behind all rows of the child before it. Of the first child it
//!   says nothing.

mod arena;
mod node;

use std::cmp::{Ordering as Order, Reverse};
use std::ops::Range;

use super::place::RowPlace;
use super::sync::{self, AtomicU64, Ordering, SlotOnce};
use super::{RowVersion, TableId};
use arena::Arena;
use node::{Child, Inner, Mark, Node, SLOTS};

/// A full inner node with at most so many children is written anew alone; one with more becomes two.
const CHILDREN_KEPT_MAX: usize = SLOTS * 3 / 4;

/// Rows in order.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Arena<SlotOnce<RowVersion>>,
    leaves: Arena<Node>,
    inners: Arena<Inner>,
    root: AtomicU64,
}

/// A node that others stand below, or the leaves: a number and how many levels are below it.
#[derive(Clone, Copy, Debug)]
struct Root {
    height: u32,
    number: u32,
}

impl Root {
    fn pack(self) -> u64 {
        u64::from(self.height) << 32 | u64::from(self.number)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let height = u32::try_from(packed >> 32).ok()?;
        Some(Self { height, number: u32::try_from(packed & u64::from(u32::MAX)).ok()? })
    }
}

/// What became of a node when a row was added below it.
enum Change {
    /// It has it, or one below it.
    None,
    /// It stays as it is, and another one stands behind it.
    Beside(Child),
    /// One or two others stand in its place.
    Instead(u32, Option<Child>),
}

/// A child that stands behind another one, and how to come to it.
#[derive(Clone, Copy, Debug)]
struct Next<'a> {
    parent: &'a Inner,
    order: node::Order,
    place: usize,
    height: u32,
}

/// A row that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    rows: &'a Rows,
    leaf: &'a Node,
    order: node::Order,
    place: usize,
    next: Option<Next<'a>>,
    table: TableId,
    row: &'a RowVersion,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let (rows, leaves, inners) = (Arena::new(), Arena::new(), Arena::new());
        // The first leaf has the number zero, and so has the root.
        leaves.add();
        Self { rows, leaves, inners, root: AtomicU64::new(0) }
    }

    fn root(&self) -> Option<Root> {
        Root::unpack(self.root.load(Ordering::Acquire))
    }

    fn row(&self, number: u32) -> Option<&RowVersion> {
        self.rows.get(number)?.get()
    }

    /// How many slots of a node, from a place in it on, stand before a row's place, or at it too. Which row a slot is
    /// compared by is asked for when it matters.
    #[inline]
    fn rank(
        &self,
        (node, order): (&Node, node::Order),
        row_of: impl Fn(usize) -> Option<u32>,
        from: usize,
        place: &RowPlace<'_>,
        with: Option<Order>,
    ) -> usize {
        let Range { start: mut low, end: mut high } = node.range_of_first(order, from, place.front.first);
        while low < high {
            let middle = low.midpoint(high);
            let slot = order.slot(middle);
            let found = node.front(slot).cmp(&place.front).then_with(|| {
                let row = row_of(slot).and_then(|number| self.row(number));
                row.map_or(Order::Less, |row| {
                    (&*row.key, Reverse(row.version)).cmp(&(place.key, place.version))
                })
            });
            if found == Order::Less || Some(found) == with {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    fn rank_in_leaf(&self, leaf: &Node, order: node::Order, place: &RowPlace<'_>) -> usize {
        self.rank((leaf, order), |slot| leaf.target(slot), 0, place, None)
    }

    /// The place of the child that a row belongs to, or, without `with`, of the last that has rows before its place.
    fn child_for(
        &self,
        parent: &Inner,
        order: node::Order,
        place: &RowPlace<'_>,
        with: Option<Order>,
    ) -> usize {
        self.rank((&parent.node, order), |slot| parent.row(slot), 1, place, with).saturating_sub(1)
    }

    /// The first row at or behind a place.
    pub(crate) fn first_from(&self, place: &RowPlace<'_>) -> Option<Entry<'_>> {
        let (mut at, mut next) = (self.root()?, None);
        while at.height > 0 {
            let parent = self.inners.get(at.number)?;
            let order = parent.node.order();
            let child = self.child_for(parent, order, place, Some(Order::Equal));
            if child.saturating_add(1) < order.len() {
                next = Some(Next { parent, order, place: child.saturating_add(1), height: at.height });
            }
            at = Root { height: at.height.saturating_sub(1), number: parent.node.target(order.slot(child))? };
        }
        let leaf = self.leaves.get(at.number)?;
        let order = leaf.order();
        match self.rank_in_leaf(leaf, order, place) {
            found if found < order.len() => self.entry(leaf, order, found, next),
            _ => self.first_of(next?),
        }
    }

    /// The last row before a place; of all when there is none.
    pub(crate) fn last_before(&self, place: Option<&RowPlace<'_>>) -> Option<Entry<'_>> {
        let mut at = self.root()?;
        while at.height > 0 {
            let parent = self.inners.get(at.number)?;
            let order = parent.node.order();
            let last = order.len().saturating_sub(1);
            let child = place.map_or(last, |place| self.child_for(parent, order, place, None));
            at = Root { height: at.height.saturating_sub(1), number: parent.node.target(order.slot(child))? };
        }
        let leaf = self.leaves.get(at.number)?;
        let order = leaf.order();
        // A child whose mark is before the place has that row.
        let rank = place.map_or(order.len(), |place| self.rank_in_leaf(leaf, order, place));
        self.entry(leaf, order, rank.checked_sub(1)?, None)
    }

    /// The first row of a child.
    fn first_of<'a>(&'a self, child: Next<'a>) -> Option<Entry<'a>> {
        let Next { parent, order, place, height } = child;
        let behind = Next { place: place.saturating_add(1), ..child };
        let next = (behind.place < order.len()).then_some(behind);
        let mut at =
            Root { height: height.saturating_sub(1), number: parent.node.target(order.slot(place))? };
        // Only the lowest level is gone along; further on is a search.
        let mut lowest = next.filter(|_| at.height == 0);
        while at.height > 0 {
            let parent = self.inners.get(at.number)?;
            let order = parent.node.order();
            let behind = Next { parent, order, place: 1, height: at.height };
            lowest = (at.height == 1 && order.len() > 1).then_some(behind);
            at = Root { height: at.height.saturating_sub(1), number: parent.node.target(order.slot(0))? };
        }
        let leaf = self.leaves.get(at.number)?;
        self.entry(leaf, leaf.order(), 0, lowest)
    }

    #[inline]
    fn entry<'a>(
        &'a self,
        leaf: &'a Node,
        order: node::Order,
        place: usize,
        next: Option<Next<'a>>,
    ) -> Option<Entry<'a>> {
        let slot = order.slot(place);
        let (table, row) = (leaf.table(slot), self.row(leaf.target(slot)?)?);
        Some(Entry { rows: self, leaf, order, place, next, table, row })
    }

    /// Adds a row; called by one thread at a time. False when no more rows can be numbered.
    #[must_use]
    pub(crate) fn insert(&self, table: TableId, row: RowVersion) -> bool {
        self.try_insert(table, row).is_some()
    }

    fn try_insert(&self, table: TableId, row: RowVersion) -> Option<()> {
        let (number, slot) = self.rows.add()?;
        let row = slot.get_or_init(|| row);
        let place = RowPlace::new(table, &row.key, row.version);
        let mark = Mark { front: place.front, row: number };
        let root = self.root()?;
        let (left, right) = match self.insert_below(root, mark, &place)? {
            Change::None => return Some(()),
            Change::Instead(number, None) => {
                self.root.store(Root { number, ..root }.pack(), Ordering::Release);
                return Some(());
            }
            Change::Beside(right) => (root.number, right),
            Change::Instead(left, Some(right)) => (left, right),
        };
        // Of the first child its mark says nothing.
        let number = self.inner(&[Child { mark, number: left }, right])?;
        let height = root.height.saturating_add(1);
        self.root.store(Root { height, number }.pack(), Ordering::Release);
        Some(())
    }

    fn insert_below(&self, at: Root, mark: Mark, place: &RowPlace<'_>) -> Option<Change> {
        let Some(below) = at.height.checked_sub(1) else {
            return self.insert_in_leaf(self.leaves.get(at.number)?, mark, place);
        };
        let parent = self.inners.get(at.number)?;
        let order = parent.node.order();
        let child = self.child_for(parent, order, place, Some(Order::Equal));
        let number = parent.node.target(order.slot(child))?;
        let change = self.insert_below(Root { height: below, number }, mark, place)?;
        self.change_child(parent, child, change)
    }

    /// A new leaf with these rows; gives its number.
    fn leaf(&self, marks: &[Mark]) -> Option<u32> {
        let (number, leaf) = self.leaves.add()?;
        let mut order = node::Order::default();
        for (slot, mark) in marks.iter().enumerate() {
            leaf.write(slot, mark.front, mark.row);
            order = order.with(slot, slot);
        }
        leaf.publish(order);
        Some(number)
    }

    /// A new inner node with these children; gives its number.
    fn inner(&self, children: &[Child]) -> Option<u32> {
        let (number, inner) = self.inners.add()?;
        let mut order = node::Order::default();
        for child in children {
            order = order.with(order.len(), inner.write(*child));
        }
        inner.node.publish(order);
        Some(number)
    }

    fn insert_in_leaf(&self, leaf: &Node, mark: Mark, place: &RowPlace<'_>) -> Option<Change> {
        let order = leaf.order();
        let rank = self.rank_in_leaf(leaf, order, place);
        if order.len() < SLOTS {
            leaf.write(order.len(), mark.front, mark.row);
            leaf.publish(order.with(rank, order.len()));
            return Some(Change::None);
        }
        if rank == SLOTS {
            // Rows that come in order fill their leaves.
            return Some(Change::Beside(Child { mark, number: self.leaf(&[mark])? }));
        }
        let mark_at = |place| {
            let slot = order.slot(place);
            Some(Mark { front: leaf.front(slot), row: leaf.target(slot)? })
        };
        let mut marks: Vec<Mark> = (0..SLOTS).map(mark_at).collect::<Option<_>>()?;
        marks.insert(rank, mark);
        let (left, right) = marks.split_at(marks.len() / 2);
        let (left, right) = (self.leaf(left)?, Child { mark: *right.first()?, number: self.leaf(right)? });
        Some(Change::Instead(left, Some(right)))
    }

    /// Has an inner node take note of what became of its child at a place.
    fn change_child(&self, parent: &Inner, place: usize, change: Change) -> Option<Change> {
        let order = parent.node.order();
        let child = |place| parent.child(order.slot(place));
        let (instead, beside) = match change {
            Change::None => return Some(Change::None),
            Change::Beside(beside) => (None, Some(beside)),
            Change::Instead(number, beside) => (Some(Child { number, ..child(place)? }), beside),
        };
        if usize::from(instead.is_some()) + usize::from(beside.is_some()) <= parent.free() {
            let mut order = order;
            if let Some(instead) = instead {
                order = order.replaced(place, parent.write(instead));
            }
            if let Some(beside) = beside {
                order = order.with(place.saturating_add(1), parent.write(beside));
            }
            parent.node.publish(order);
            return Some(Change::None);
        }
        if let (None, Some(beside)) = (instead, beside)
            && place.saturating_add(1) == SLOTS
        {
            return Some(Change::Beside(Child { number: self.inner(&[beside])?, ..beside }));
        }
        let mut children: Vec<Child> = (0..order.len()).map(child).collect::<Option<_>>()?;
        if let (Some(instead), Some(stands)) = (instead, children.get_mut(place)) {
            *stands = instead;
        }
        children.splice(place.saturating_add(1)..place.saturating_add(1), beside);
        if children.len() <= CHILDREN_KEPT_MAX {
            return Some(Change::Instead(self.inner(&children)?, None));
        }
        let (left, right) = children.split_at(children.len() / 2);
        let right = Child { number: self.inner(right)?, ..*right.first()? };
        Some(Change::Instead(self.inner(left)?, Some(right)))
    }
}

impl<'a> Entry<'a> {
    pub(crate) const fn table(&self) -> TableId {
        self.table
    }

    pub(crate) const fn row(&self) -> &'a RowVersion {
        self.row
    }

    /// The row behind it.
    pub(crate) fn next(&self) -> Option<Self> {
        let place = self.place.saturating_add(1);
        if place < self.order.len() {
            return self.rows.entry(self.leaf, self.order, place, self.next);
        }
        match self.next {
            Some(next) => self.rows.first_of(next),
            None => {
                let place = RowPlace::new(self.table, &self.row.key, self.row.version);
                self.rows.first_from(&place.behind())
            }
        }
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::collections::BTreeMap;

    use keepstone_types::{ValueRef, Version};
    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<(u32, Vec<u8>, Reverse<u64>), u32>;

    fn row(key: &[u8], version: u64) -> RowVersion {
        RowVersion { key: ValueRef::from(key), version: Version::from_raw(version), value: None }
    }

    fn listed(rows: &Rows) -> Vec<(u32, Vec<u8>, u64)> {
        let first = rows.first_from(&RowPlace::new(TableId::SYSTEM, &[], Version::MAX));
        std::iter::successors(first, Entry::next)
            .map(|entry| (entry.table().get(), entry.row().key.to_vec(), entry.row().version.to_raw()))
            .collect()
    }

    fn check(inserted: impl IntoIterator<Item = (u32, Vec<u8>, u64)>) {
        let (rows, mut model) = (Rows::new(), Model::new());
        for (table, key, version) in inserted {
            if model.insert((table, key.clone(), Reverse(version)), 0).is_none() {
                assert!(rows.insert(TableId::new(table), row(&key, version)));
            }
        }
        let expected: Vec<_> =
            model.keys().map(|(table, key, version)| (*table, key.clone(), version.0)).collect();
        assert_eq!(listed(&rows), expected);
        let places = expected.iter().flat_map(|(table, key, version)| {
            [version.saturating_sub(1), *version, version + 1].map(|version| (*table, key.clone(), version))
        });
        for (table, key, version) in places {
            let sought = (table, key.clone(), Reverse(version));
            let place = RowPlace::new(TableId::new(table), &key, Version::from_raw(version));
            let found = |entry: Option<Entry<'_>>| {
                entry.map(|entry| {
                    let row = entry.row();
                    (entry.table().get(), row.key.to_vec(), Reverse(row.version.to_raw()))
                })
            };
            let after = model.range(sought.clone()..).next().map(|(found, _)| found.clone());
            assert_eq!(found(rows.first_from(&place)), after);
            let before = model.range(..sought).next_back().map(|(found, _)| found.clone());
            assert_eq!(found(rows.last_before(Some(&place))), before);
        }
        let last = rows.last_before(None).map(|entry| entry.row().key.to_vec());
        assert_eq!(last, model.keys().next_back().map(|(_, key, _)| key.clone()));
    }

    proptest! {
        #[test]
        fn equals_an_ordered_map(
            inserted in proptest::collection::vec(
                (0_u32..3, proptest::collection::vec(0_u8..3, 0..20), 1_u64..5), 0..600),
        ) {
            check(inserted);
        }
    }

    #[test]
    fn many_rows_in_every_order_stand_in_order() {
        let key = |number: u32| number.to_be_bytes().to_vec();
        let scrambled = |number: u32| number.wrapping_mul(2_654_435_761);
        check((0..5_000).map(|number| (1, key(number), 1)));
        check((0..5_000).rev().map(|number| (1, key(number), 1)));
        check((0..5_000).map(|number| (1, key(scrambled(number)), 1)));
        // Two that grow side by side, and one key again and again.
        check((0..5_000).map(|number| (1, key(number / 2 + (number % 2) * 1_000_000), 1)));
        check((1..5_000).map(|version| (1, key(7), version)));
    }

    #[test]
    fn rows_that_come_in_order_fill_their_nodes() {
        let rows = Rows::new();
        for number in (0..3_375_u32).filter(|number| usize::try_from(*number).unwrap() < SLOTS.pow(3)) {
            assert!(rows.insert(TableId::FIRST_USER, row(&number.to_be_bytes(), 1)));
        }
        let leaves = (0..).map_while(|number| rows.leaves.get(number)).filter(|leaf| leaf.order().len() > 0);
        assert_eq!(leaves.map(|leaf| leaf.order().len()).collect::<Vec<_>>(), vec![SLOTS; SLOTS * SLOTS]);
        assert_eq!(rows.root().unwrap().height, 2);
    }
}
