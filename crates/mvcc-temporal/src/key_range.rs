//! Ranges of keys, as scans are asked for and as transactions remember them.

use std::cmp::Ordering;
use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use keepstone_types::ValueRef;

/// A range of keys of one table. Made from any range expression over bytes, or with [`KeyRange::prefix`].
///
/// ```
/// use keepstone_mvcc_temporal::KeyRange;
///
/// let some: KeyRange = ("a".."c").into();
/// assert!(some.contains(b"b") && !some.contains(b"c"));
/// assert!(KeyRange::prefix("user/").contains(b"user/ada"));
/// assert!(KeyRange::from(..).contains(b""));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(crate) from: Bound<ValueRef>,
    pub(crate) to: Bound<ValueRef>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// The keys between two bounds; empty when they cross.
    #[must_use]
    pub fn between(from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        Self { from: from.map(ValueRef::copy_from), to: to.map(ValueRef::copy_from) }
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        let mut end = prefix.to_vec();
        // The first key after all that begin with the prefix: its last byte that can grow, grown.
        while let Some(last) = end.pop() {
            if let Some(grown) = last.checked_add(1) {
                end.push(grown);
                let to = Bound::Excluded(ValueRef::from(end));
                return Self { from: Bound::Included(ValueRef::copy_from(prefix)), to };
            }
        }
        Self { from: Bound::Included(ValueRef::copy_from(prefix)), to: Bound::Unbounded }
    }

    /// Whether a key is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.starts_at_or_before(key) && self.ends_at_or_after(key)
    }

    /// Whether the lower bound lets `key` in.
    pub(crate) fn starts_at_or_before(&self, key: &[u8]) -> bool {
        match &self.from {
            Bound::Included(from) => **from <= *key,
            Bound::Excluded(from) => **from < *key,
            Bound::Unbounded => true,
        }
    }

    /// Whether the upper bound lets `key` in.
    pub(crate) fn ends_at_or_after(&self, key: &[u8]) -> bool {
        match &self.to {
            Bound::Included(to) => *key <= **to,
            Bound::Excluded(to) => *key < **to,
            Bound::Unbounded => true,
        }
    }

    /// The order of two ranges by where they start.
    pub(crate) fn cmp_start(&self, other: &Self) -> Ordering {
        let place = |range: &Self| match &range.from {
            Bound::Unbounded => (None, false),
            Bound::Included(key) => (Some(key.clone()), false),
            Bound::Excluded(key) => (Some(key.clone()), true),
        };
        place(self).cmp(&place(other))
    }

    /// Both ranges as one, when the other starts in or right after this one; `self` starts first.
    pub(crate) fn joined(&self, other: &Self) -> Option<Self> {
        let reaches = match (&self.to, &other.from) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
            (Bound::Excluded(to), Bound::Excluded(from)) => from < to,
            (Bound::Included(to) | Bound::Excluded(to), Bound::Included(from) | Bound::Excluded(from)) => {
                from <= to
            }
        };
        let place = |range: &Self| match &range.to {
            Bound::Excluded(key) => (false, key.clone(), false),
            Bound::Included(key) => (false, key.clone(), true),
            Bound::Unbounded => (true, ValueRef::empty(), false),
        };
        let farther = if place(self) >= place(other) { self } else { other };
        reaches.then(|| Self { from: self.from.clone(), to: farther.to.clone() })
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Included(from), Bound::Included(to)) => **from > **to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
            | (Bound::Excluded(from), Bound::Included(to)) => **from >= **to,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }
}

/// A bound over owned bytes as one over borrowed bytes.
pub(crate) fn borrowed(bound: &Bound<ValueRef>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        Self::all()
    }
}

macro_rules! from_range {
    ($($range:ident),+) => {$(
        impl<K: AsRef<[u8]>> From<$range<K>> for KeyRange {
            fn from(range: $range<K>) -> Self {
                let bytes = |bound: Bound<&K>| bound.map(|key| ValueRef::copy_from(key.as_ref()));
                Self { from: bytes(range.start_bound()), to: bytes(range.end_bound()) }
            }
        }
    )+};
}

from_range!(Range, RangeInclusive, RangeFrom, RangeTo, RangeToInclusive);

impl<K: AsRef<[u8]>> From<(Bound<K>, Bound<K>)> for KeyRange {
    fn from((from, to): (Bound<K>, Bound<K>)) -> Self {
        let bytes = |bound: Bound<K>| bound.map(|key| ValueRef::copy_from(key.as_ref()));
        Self { from: bytes(from), to: bytes(to) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_end_where_the_next_prefix_begins() {
        let check = |prefix: &[u8], inside: &[&[u8]], outside: &[&[u8]]| {
            let range = KeyRange::prefix(prefix);
            assert!(inside.iter().all(|key| range.contains(key)), "{prefix:?}");
            assert!(!outside.iter().any(|key| range.contains(key)), "{prefix:?}");
        };
        check(b"", &[b"", b"\0", b"\xff\xff"], &[]);
        check(b"a", &[b"a", b"a\xff\xff"], &[b"b", b"", b"`"]);
        check(b"a\xff", &[b"a\xff", b"a\xff\xff"], &[b"b", b"a\xfe"]);
        check(b"\xff\xff", &[b"\xff\xff", b"\xff\xff\0"], &[b"\xff", b"\xff\xfe\xff"]);
    }

    proptest! {
        #[test]
        fn joined_ranges_have_the_keys_of_both(bounds in prop::array::uniform4((0_u8..3, 0_u8..5))) {
            let bound = |(kind, key): (u8, u8)| match kind {
                0 => Bound::Included(vec![key]),
                1 => Bound::Excluded(vec![key]),
                _ => Bound::Unbounded,
            };
            let [a, b, c, d] = bounds.map(bound);
            let (mut one, mut two) = (KeyRange::from((a, b)), KeyRange::from((c, d)));
            prop_assume!(!one.is_empty() && !two.is_empty());
            if one.cmp_start(&two) == Ordering::Greater {
                std::mem::swap(&mut one, &mut two);
            }
            let keys = || (0_u8..6).flat_map(|key| [vec![key], vec![key, 0]]);
            match one.joined(&two) {
                Some(both) => {
                    for key in keys() {
                        let expected = one.contains(&key) || two.contains(&key);
                        prop_assert_eq!(both.contains(&key), expected, "{:?} of {:?} and {:?}", key, one, two);
                    }
                }
                None => prop_assert!(!keys().any(|key| one.contains(&key) && two.contains(&key))),
            }
        }
    }

    #[test]
    fn crossed_bounds_are_empty() {
        assert!(KeyRange::from("b".."a").is_empty());
        assert!(KeyRange::from("a".."a").is_empty());
        assert!(!KeyRange::from("a"..="a").is_empty());
        assert!(KeyRange::between(Bound::Excluded(b"a"), Bound::Included(b"a")).is_empty());
        assert!(!KeyRange::from(..).is_empty());
        assert!(!KeyRange::from("a"..).is_empty());
    }
}
