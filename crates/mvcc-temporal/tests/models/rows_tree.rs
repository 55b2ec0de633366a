//! The memtable's rows on `loom`'s atomics, and what they find beside them. Included once as they are, and once with what is
//! published in no order.

use keepstone_types::{ValueRef, Version};

/// Whether this is the one that is wrong on purpose: its name says so.
const RELAXED: bool = matches!(module_path!().as_bytes(), [.., b'r', b'e', b'l', b'a', b'x', b'e', b'd']);

pub(crate) mod sync {
    use std::sync::OnceLock;

    use super::RELAXED;

    pub(crate) use loom::sync::atomic::{AtomicU32 as CountU32, AtomicU64 as CountU64, AtomicU64};

    /// Orderings as the source asks for them, and what it gets.
    #[derive(Debug)]
    pub(crate) struct Ordering;

    #[allow(non_upper_case_globals, reason = "they stand for variants")]
    impl Ordering {
        pub(crate) const Acquire: loom::sync::atomic::Ordering = loom::sync::atomic::Ordering::Acquire;
        pub(crate) const Relaxed: loom::sync::atomic::Ordering = loom::sync::atomic::Ordering::Relaxed;
        pub(crate) const Release: loom::sync::atomic::Ordering = if RELAXED {
            loom::sync::atomic::Ordering::Relaxed
        } else {
            loom::sync::atomic::Ordering::Release
        };
    }

    /// What is set once: whoever does not see that it is set finds nothing.
    #[derive(Debug)]
    pub(crate) struct SlotOnce<T> {
        is_set: loom::sync::atomic::AtomicBool,
        value: OnceLock<T>,
    }

    impl<T> Default for SlotOnce<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> SlotOnce<T> {
        pub(crate) fn new() -> Self {
            Self { is_set: loom::sync::atomic::AtomicBool::new(false), value: OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.value.get().filter(|_| self.is_set.load(Ordering::Acquire))
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            self.is_set.store(true, Ordering::Release);
            value
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableId(u32);

impl TableId {
    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct RowVersion {
    pub(crate) key: ValueRef,
    pub(crate) version: Version,
}

#[path = "../../src/memtable/place.rs"]
pub(super) mod place;
#[path = "../../src/memtable/rows/mod.rs"]
#[allow(dead_code, reason = "not all that the memtable asks for is asked for here")]
pub(super) mod rows;

const TABLE: TableId = TableId::new(1);

/// The rows, by the number of their key, and how far they are visible.
#[derive(Debug)]
pub(super) struct Written {
    rows: rows::Rows,
    visible: loom::sync::atomic::AtomicU64,
}

impl Written {
    pub(super) fn new() -> Self {
        Self { rows: rows::Rows::new(), visible: loom::sync::atomic::AtomicU64::new(0) }
    }

    /// Adds a row and makes its version visible.
    pub(super) fn write(&self, key: u8, version: u64) {
        let row = RowVersion { key: ValueRef::from(vec![key]), version: Version::from_raw(version) };
        assert!(self.rows.insert(TABLE, row));
        self.visible.store(version, loom::sync::atomic::Ordering::Release);
    }

    /// The visible version, and the keys of all rows that have it or an older one, in order.
    pub(super) fn read(&self) -> (u64, Vec<u8>) {
        let visible = self.visible.load(loom::sync::atomic::Ordering::Acquire);
        let first = self.rows.first_from(&place::RowPlace::new(TABLE, &[], Version::MAX));
        let keys = std::iter::successors(first, rows::Entry::next)
            .filter(|entry| entry.row().version.to_raw() <= visible)
            .map(|entry| entry.row().key[0])
            .collect();
        (visible, keys)
    }

    /// Whether a key is found, and whether it is found from behind.
    pub(super) fn finds(&self, key: u8) -> bool {
        let key = [key];
        let (from, to) =
            [Version::MAX, Version::ZERO].map(|version| place::RowPlace::new(TABLE, &key, version)).into();
        let is_it = |found: Option<rows::Entry<'_>>| found.is_some_and(|found| *found.row().key == key);
        is_it(self.rows.first_from(&from)) && is_it(self.rows.last_before(Some(&to)))
    }
}
