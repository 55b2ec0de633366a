//! The keys of a page, leaf and inner alike: what all have in front is stored once, the next four bytes stand in an array
//! of their own, and the rest is in cells.
//!
//! Invariants, of every page that a writer makes:
//! * Keys ascend strictly. The prefix is the longest that all keys have in common.
//! * A head is the first four bytes behind the prefix, filled up with zeros; as big-endian numbers heads ascend as the keys
//!   do. The stored length tells keys apart whose heads are equal only because one of them was filled up.
//! * Cells follow each other without gaps in the order of the keys, from the end of the prefix to the end of what is used.
#![deny(clippy::arithmetic_side_effects)]

use std::cmp::Ordering;

use crate::layout::{disk_len, memory_len, take_varint, varint_len};

/// Bytes of a head.
pub(crate) const HEAD_LEN: usize = 4;
/// Bytes of the offset of a cell.
pub(crate) const OFFSET_LEN: usize = 2;
/// Bytes of the header of a page with keys, which leaves and inner pages fill differently.
pub(crate) const HEADER_LEN: usize = 8;

/// Where the parts of a page with keys are; what is kept of a page between looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    count: usize,
    /// Heads stand before it, from the end of the header on.
    offsets_at: usize,
    between_at: usize,
    prefix_at: usize,
    /// The end of the prefix, where the first cell should begin.
    cells_at: usize,
    used_len: usize,
}

impl Layout {
    /// The layout of a page with `count` keys and `between` bytes before the prefix; `None` when it does not fit what is
    /// used.
    #[inline]
    pub(crate) fn new(count: usize, between: usize, prefix_len: usize, used_len: usize) -> Option<Self> {
        let offsets_at = count.checked_mul(HEAD_LEN)?.checked_add(HEADER_LEN)?;
        let between_at = count.checked_mul(OFFSET_LEN)?.checked_add(offsets_at)?;
        let prefix_at = between_at.checked_add(between)?;
        let cells_at = prefix_at.checked_add(prefix_len)?;
        (cells_at <= used_len).then_some(Self {
            count,
            offsets_at,
            between_at,
            prefix_at,
            cells_at,
            used_len,
        })
    }

    /// How many keys there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Bytes that all keys begin with.
    pub(crate) const fn prefix_len(&self) -> usize {
        self.cells_at.saturating_sub(self.prefix_at)
    }

    /// Bytes in use.
    pub(crate) const fn used_len(&self) -> usize {
        self.used_len
    }
}

/// The keys of a page, not copied out of it. Everything it gives is checked against the bytes in use; `None` says that a
/// cell reaches past them, or that a head is filled up with something else than zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    used: &'a [u8],
    layout: Layout,
}

/// The part of a key behind the page's prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest<'a> {
    head: [u8; HEAD_LEN],
    len: usize,
    tail: &'a [u8],
}

impl<'a> Rest<'a> {
    /// Bytes of it.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The bytes that stand in the array of heads, without filling.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        self.head.get(..self.len.min(HEAD_LEN)).unwrap_or(&self.head)
    }

    /// The bytes that stand in the cell.
    pub(crate) const fn tail(&self) -> &'a [u8] {
        self.tail
    }

    /// How it compares with `other`, which stands behind the same prefix.
    pub(crate) fn cmp_with(&self, other: &[u8]) -> Ordering {
        u32::from_be_bytes(self.head)
            .cmp(&u32::from_be_bytes(head_of(other)))
            .then_with(|| self.cmp_behind_head(other))
    }

    /// How it compares with `other`, whose head is the same.
    fn cmp_behind_head(&self, other: &[u8]) -> Ordering {
        #[cfg(test)]
        tests::COMPARISONS.with(|count| count.set(count.get().saturating_add(1)));
        let other_tail = other.get(HEAD_LEN..).unwrap_or_default();
        self.len.min(HEAD_LEN).cmp(&other.len().min(HEAD_LEN)).then_with(|| self.tail.cmp(other_tail))
    }
}

/// What is expected of a cell, and what is found when `None` says that it is not so.
pub(crate) const WELL_FORMED: (&str, &str) =
    ("to end within the bytes in use, its head filled up with zeros", "that it is not so");

/// The first bytes of a key behind the prefix, filled up with zeros.
#[inline]
pub(crate) fn head_of(rest: &[u8]) -> [u8; HEAD_LEN] {
    if let Some(head) = rest.first_chunk() {
        return *head;
    }
    let mut head = [0; HEAD_LEN];
    head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    head
}

/// Bytes that a key takes behind the prefix: head, offset, length and tail.
pub(crate) const fn stored_len(rest_len: usize) -> usize {
    let fixed = HEAD_LEN.saturating_add(OFFSET_LEN).saturating_add(varint_len(rest_len as u64));
    fixed.saturating_add(rest_len.saturating_sub(HEAD_LEN))
}

/// How many bytes two keys have in common at their beginning.
pub(crate) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<'a> Keys<'a> {
    /// The keys of a page with this layout; `None` when the page is shorter.
    #[inline]
    pub(crate) fn new(payload: &'a [u8], layout: Layout) -> Option<Self> {
        Some(Self { used: payload.get(..layout.used_len)?, layout })
    }

    /// Where everything is.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.layout.count
    }

    /// What all of them begin with.
    #[inline]
    pub(crate) fn prefix(&self) -> &'a [u8] {
        self.used.get(self.layout.prefix_at..self.layout.cells_at).unwrap_or_default()
    }

    /// What stands before the prefix.
    #[inline]
    pub(crate) fn between(&self) -> &'a [u8] {
        self.used.get(self.layout.between_at..self.layout.prefix_at).unwrap_or_default()
    }

    #[inline]
    fn heads(&self) -> &'a [[u8; HEAD_LEN]] {
        self.used.get(HEADER_LEN..self.layout.offsets_at).unwrap_or_default().as_chunks().0
    }

    #[inline]
    fn offsets(&self) -> &'a [[u8; OFFSET_LEN]] {
        self.used.get(self.layout.offsets_at..self.layout.between_at).unwrap_or_default().as_chunks().0
    }

    /// A key behind the prefix, and what its cell holds after it, to the end of what is used.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<(Rest<'a>, &'a [u8])> {
        let head = *self.heads().get(index)?;
        let offset = u16::from_le_bytes(*self.offsets().get(index)?);
        let (len, cell) = take_varint(self.used.get(usize::from(offset)..)?)?;
        let len = memory_len(len);
        let (tail, after) = cell.split_at_checked(len.saturating_sub(HEAD_LEN))?;
        if len < HEAD_LEN && head.get(len..).is_some_and(|filling| filling.iter().any(|byte| *byte != 0)) {
            return None;
        }
        Some((Rest { head, len, tail }, after))
    }

    /// Whether the key at a place is behind the one before it; most heads tell.
    #[inline]
    pub(crate) fn ascends_to(&self, index: usize) -> Option<bool> {
        let before = index.checked_sub(1)?;
        let [low, high] = self.heads().get(before..=index)? else { return None };
        if u32::from_be_bytes(*low) < u32::from_be_bytes(*high) {
            return Some(true);
        }
        let ((low, _), (high, _)) = (self.get(before)?, self.get(index)?);
        let lens = || low.len.min(HEAD_LEN).cmp(&high.len.min(HEAD_LEN));
        Some(low.head.cmp(&high.head).then_with(lens).then_with(|| low.tail.cmp(high.tail)) == Ordering::Less)
    }

    /// Where a part of the page that reaches to the end of what is used begins.
    pub(crate) fn offset_of(&self, suffix: &[u8]) -> usize {
        self.used.len().saturating_sub(suffix.len())
    }

    /// Where `key` is, or before which key it belongs: heads first, then whole keys among those whose heads are equal.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Option<Result<usize, usize>> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            return Some(Err(if key < prefix { 0 } else { self.len() }));
        };
        let (heads, head) = (self.heads(), u32::from_be_bytes(head_of(rest)));
        let mut low = heads.partition_point(|found| u32::from_be_bytes(*found) < head);
        let equal = heads.get(low..)?;
        let is_equal = |found: &[u8; HEAD_LEN]| u32::from_be_bytes(*found) == head;
        // Most heads stand alone; only others are worth a second search.
        let equal = match equal {
            [first, second, ..] if is_equal(first) && is_equal(second) => equal.partition_point(is_equal),
            [first, ..] => usize::from(is_equal(first)),
            [] => 0,
        };
        let mut high = low.saturating_add(equal);
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle)?.0.cmp_behind_head(rest) {
                Ordering::Equal => return Some(Ok(middle)),
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Greater => high = middle,
            }
        }
        Some(Err(low))
    }

    /// Puts a whole key into `key`.
    pub(crate) fn assemble(&self, index: usize, key: &mut Vec<u8>) -> Option<()> {
        let (rest, _) = self.get(index)?;
        key.clear();
        key.reserve(self.prefix().len().saturating_add(rest.len()));
        key.extend_from_slice(self.prefix());
        key.extend_from_slice(rest.front());
        key.extend_from_slice(rest.tail());
        Some(())
    }

    /// Checks what no search looks at. `cell_end` says how long a cell is behind its key, given what follows the key.
    /// Gives what is wrong: which part, what was expected, what was found.
    pub(crate) fn check(&self, cell_len: impl Fn(&[u8]) -> Option<usize>) -> Result<(), Wrong> {
        let mut at = self.layout.cells_at;
        let (mut last, mut key): (Option<Vec<u8>>, Vec<u8>) = (None, Vec::new());
        for (index, offset) in self.offsets().iter().enumerate() {
            let found = usize::from(u16::from_le_bytes(*offset));
            if found != at {
                return Err(("offset of a cell", at.to_string(), found.to_string()));
            }
            let cut = || ("cell", WELL_FORMED.0.to_owned(), WELL_FORMED.1.to_owned());
            let (rest, after) = self.get(index).ok_or_else(cut)?;
            at = self.offset_of(after).saturating_add(cell_len(after).ok_or_else(cut)?);
            if at > self.used.len() {
                return Err(cut());
            }
            let length_len = self.offset_of(after).saturating_sub(found).saturating_sub(rest.tail.len());
            if length_len != varint_len(disk_len(rest.len)) {
                return Err((
                    "length of a key",
                    "its shortest form".to_owned(),
                    format!("{length_len} bytes"),
                ));
            }
            self.assemble(index, &mut key).ok_or_else(cut)?;
            if let Some(last) = last.as_ref().filter(|last| **last >= key) {
                let (last, key) = (crate::error::printed(last), crate::error::printed(&key));
                return Err(("order of the keys", format!("a key after {last}"), key));
            }
            last.get_or_insert_default().clone_from(&key);
        }
        if at != self.used.len() {
            return Err(("end of the cells", self.used.len().to_string(), at.to_string()));
        }
        self.check_prefix()
    }

    /// The prefix is as long as it can be.
    fn check_prefix(&self) -> Result<(), Wrong> {
        let (Some((first, _)), Some((last, _))) = (self.get(0), self.get(self.len().saturating_sub(1)))
        else {
            let found = self.prefix().len();
            let wrong = ("prefix", "none without keys".to_owned(), format!("{found} bytes"));
            return if found == 0 { Ok(()) } else { Err(wrong) };
        };
        let front = common_len(first.front(), last.front());
        let more =
            front.saturating_add(if front == HEAD_LEN { common_len(first.tail, last.tail) } else { 0 });
        if more > 0 {
            let len = self.prefix().len();
            return Err(("prefix", format!("{} bytes", len.saturating_add(more)), format!("{len} bytes")));
        }
        Ok(())
    }
}

/// What is wrong with a page: which part, what was expected, what was found.
pub(crate) type Wrong = (&'static str, String, String);

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use keepstone_pager::{MemoryPages, PageRead};
    use keepstone_types::ValueRef;
    use proptest::prelude::*;

    use crate::leaf::Leaf;
    use crate::{Builder, Fill, NewValue};

    thread_local! {
        /// Comparisons of whole keys.
        pub(super) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    /// A leaf of these keys is searched for `wanted`: where it is, and how many whole keys were compared.
    fn search(keys: &BTreeSet<Vec<u8>>, wanted: &[u8]) -> (Result<usize, usize>, usize) {
        let mut pages = MemoryPages::new(65_535);
        let mut builder = Builder::new(&mut pages, Fill::FULL);
        for key in keys {
            builder.push(key, NewValue::bytes(ValueRef::empty())).unwrap();
        }
        let root = builder.finish().unwrap();
        assert_eq!(root.height(), 1, "one leaf");
        let page = pages.read(root.page().unwrap()).unwrap();
        let leaf = Leaf::parse(&page).unwrap();
        leaf.check().unwrap();
        COMPARISONS.set(0);
        let found = leaf.search(wanted).unwrap();
        (found, COMPARISONS.get())
    }

    fn check(keys: &BTreeSet<Vec<u8>>, wanted: &[u8]) {
        let (found, comparisons) = search(keys, wanted);
        let before = keys.iter().filter(|key| key[..] < *wanted).count();
        assert_eq!(found, if keys.contains(wanted) { Ok(before) } else { Err(before) }, "{wanted:?}");
        let most = usize::try_from(keys.len().ilog2()).unwrap() + 2;
        assert!(comparisons <= most, "{comparisons} comparisons among {} keys", keys.len());
    }

    #[test]
    fn short_keys_are_told_from_keys_that_end_in_zeros() {
        let keys: BTreeSet<Vec<u8>> =
            [&b""[..], b"\0", b"\0\0", b"\0\0\0\0", b"\0\0\0\0\0", b"a", b"a\0", b"a\0\0\0b", b"ab"]
                .iter()
                .map(|key| key.to_vec())
                .collect();
        for wanted in &keys {
            check(&keys, wanted);
            check(&keys, &[wanted, &[0][..]].concat());
            check(&keys, &[wanted, &[1][..]].concat());
        }
    }

    #[test]
    fn heads_that_are_equal_cost_a_search_and_others_one_comparison() {
        let equal: BTreeSet<Vec<u8>> = (0..1_000_u16)
            .map(|number| [b"a0000", &number.to_be_bytes()[..]].concat())
            .chain([b"b".to_vec()])
            .collect();
        let other: BTreeSet<Vec<u8>> =
            (0..1_000_u32).map(|number| (number << 20).to_be_bytes().to_vec()).collect();
        for keys in [&equal, &other] {
            keys.iter().for_each(|key| check(keys, key));
        }
        assert!(other.iter().all(|key| search(&other, key).1 == 1));
    }

    proptest! {
        #[test]
        fn keys_are_found_where_they_are(
            keys in prop::collection::btree_set(prop::collection::vec(0..3_u8, 0..12), 1..200),
            prefix in prop::collection::vec(any::<u8>(), 0..6),
            wanted in prop::collection::vec(0..3_u8, 0..12),
        ) {
            let keys = keys.into_iter().map(|key| [&prefix[..], &key].concat()).collect();
            check(&keys, &wanted);
            check(&keys, &[&prefix[..], &wanted].concat());
        }
    }
}
