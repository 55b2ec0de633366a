//! A branch as a reader of one version of it sees it: where its own rows stand, and the version below them.
//!
//! Its rows stand in one table of the store's own, [`TableId::BRANCHES`], under the number of the branch, the number of the
//! table, and the key, so that all of a branch stand together, those of a table within it, and keys keep their order.
//! A value begins with a byte that says whether the branch has the row or deleted it.

use std::ops::Bound;

use keepstone_types::{ValueRef, Version};

use super::rows::{BranchInfo, must_exist};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::damaged;
use crate::key_range::KeyRange;
use crate::layers::Layers;
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::memtable::FoundRow;
use crate::readers::Registration;
use crate::sync::Arc;

/// Bytes of a branch's number, which every key of its rows begins with.
const NUMBER_LEN: usize = 8;
/// Bytes of the table's number behind it.
const TABLE_LEN: usize = 4;
/// Bytes in front of the key.
pub(crate) const PREFIX_LEN: usize = NUMBER_LEN + TABLE_LEN;
/// The longest key of a branch's row.
pub(crate) const PLACE_LEN_MAX: usize = KEY_LEN_MAX + PREFIX_LEN;
/// The longest value of a branch's row.
pub(crate) const TAGGED_LEN_MAX: usize = VALUE_LEN_MAX + 1;

/// What a value of a branch begins with when the row is there.
const LIVE: u8 = 1;
/// All of a value of a branch that says that the row is not there.
const DELETED: u8 = 0;

// As an older version a key is at most half as long again and 15 bytes. On the smallest pages, whose payload is at least
// 4,000 bytes, it must stay below a fifth of that; see `limits::KEYS_OF_A_PAGE`.
const _: () = assert!((4_096 / crate::limits::KEYS_OF_A_PAGE + PREFIX_LEN) * 3 / 2 + 15 <= 4_040 / 5);

/// The number of a branch: the version that made it, so no two have the same, whenever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BranchNumber(u64);

impl BranchNumber {
    pub(crate) const fn of(made: Version) -> Self {
        Self(made.to_raw())
    }

    pub(crate) const fn to_bytes(self) -> [u8; NUMBER_LEN] {
        self.0.to_be_bytes()
    }

    pub(crate) const fn from_bytes(bytes: [u8; NUMBER_LEN]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// What keys of a table begin with.
    fn prefix(self, table: TableId) -> Vec<u8> {
        [&self.to_bytes()[..], &table.get().to_be_bytes()].concat()
    }

    /// Where the row of a key stands.
    pub(crate) fn place(self, table: TableId, key: &[u8]) -> ValueRef {
        let mut place = Vec::with_capacity(PREFIX_LEN.saturating_add(key.len()));
        place.extend(self.to_bytes());
        place.extend(table.get().to_be_bytes());
        place.extend_from_slice(key);
        ValueRef::from(place)
    }

    /// Where the rows of a range of keys stand.
    pub(crate) fn range(self, table: TableId, keys: &KeyRange) -> KeyRange {
        let prefix = self.prefix(table);
        let whole = KeyRange::prefix(&prefix);
        let place = |bound: &Bound<ValueRef>| match bound {
            Bound::Included(key) => Some(Bound::Included(self.place(table, key))),
            Bound::Excluded(key) => Some(Bound::Excluded(self.place(table, key))),
            Bound::Unbounded => None,
        };
        KeyRange { from: place(&keys.from).unwrap_or(whole.from), to: place(&keys.to).unwrap_or(whole.to) }
    }

    /// Where all rows of the branch stand.
    pub(crate) fn everything(self) -> KeyRange {
        KeyRange::prefix(self.to_bytes())
    }
}

/// The branch, the table and the key that a place is of; `None` for what no build of this format writes.
pub(crate) fn split_place(place: &[u8]) -> Option<(BranchNumber, TableId, &[u8])> {
    let (number, rest) = place.split_first_chunk()?;
    let (table, key) = rest.split_first_chunk()?;
    Some((BranchNumber::from_bytes(*number), TableId::new(u32::from_be_bytes(*table)), key))
}

/// The value of a branch's row: that the row is there, with this value, or that it is not.
pub(crate) fn tagged(value: Option<&[u8]>) -> ValueRef {
    let Some(value) = value else { return ValueRef::copy_from(&[DELETED]) };
    let mut out = Vec::with_capacity(value.len().saturating_add(1));
    out.push(LIVE);
    out.extend_from_slice(value);
    ValueRef::from(out)
}

/// What the value of a branch's row says.
pub(crate) fn untagged(place: &[u8], value: &ValueRef) -> Result<Option<ValueRef>, ReadError> {
    let said = match value.split_first() {
        Some((&LIVE, _)) => value.slice(1..).map(Some),
        Some((&DELETED, [])) => Some(None),
        _ => None,
    };
    said.ok_or_else(|| {
        damaged("the rows of branches", place, "a value behind a byte that says whether it is one")
    })
}

/// A branch that is read, and the version below it, which is held.
#[derive(Clone, Debug)]
pub(crate) struct BranchPart {
    pub(crate) info: Arc<BranchInfo>,
    pub(crate) base: Arc<Registration>,
}

impl BranchPart {
    pub(crate) fn number(&self) -> BranchNumber {
        self.info.number()
    }

    /// Fails when the branch is not there at a version: whoever reads what is newest must look each time.
    pub(crate) fn must_exist(&self, layers: &Layers, at: Version) -> Result<(), ReadError> {
        must_exist(layers, &self.info, at)
    }

    /// The row of a key: the branch's own as it was at `at`, else that of the version below it.
    pub(crate) fn get(
        &self,
        layers: &Layers,
        table: TableId,
        key: &[u8],
        at: Version,
    ) -> Result<Option<FoundRow>, ReadError> {
        let _reading = self.base.call()?;
        get_over(layers, self.number(), self.base.version(), table, key, at)
    }
}

/// As [`BranchPart::get`], of layers that have the version below the branch.
pub(crate) fn get_over(
    layers: &Layers,
    number: BranchNumber,
    base: Version,
    table: TableId,
    key: &[u8],
    at: Version,
) -> Result<Option<FoundRow>, ReadError> {
    let place = number.place(table, key);
    match layers.get(TableId::BRANCHES, &place, at)? {
        Some(FoundRow { version, value: Some(value) }) => {
            Ok(Some(FoundRow { version, value: untagged(&place, &value)? }))
        }
        _ => layers.get(table, key, base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_the_order_of_keys_and_come_apart_again() {
        let number = BranchNumber::of(Version::from_raw(7));
        let keys: [&[u8]; 5] = [b"", b"\0", b"a", b"a\0", b"\xff\xff"];
        let mut before = None;
        for table in [TableId::SYSTEM, TableId::FIRST_USER, TableId::new(65_535)] {
            for key in keys {
                let place = number.place(table, key);
                assert_eq!(split_place(&place), Some((number, table, key)));
                assert!(before.is_none_or(|before| before < place), "{table:?} {key:?}");
                assert!(number.everything().contains(&place));
                assert!(!BranchNumber::of(Version::from_raw(8)).everything().contains(&place));
                for range in
                    [KeyRange::all(), KeyRange::from("a"..), KeyRange::from(.."a"), KeyRange::from(..="a")]
                {
                    let places = number.range(table, &range);
                    assert_eq!(places.contains(&place), range.contains(key), "{range:?} {key:?}");
                    assert!(!places.contains(&number.place(TableId::new(9), key)));
                }
                before = Some(place);
            }
        }
        assert_eq!(split_place(&[0; PREFIX_LEN - 1]), None);
    }

    #[test]
    fn values_say_whether_the_row_is_there() {
        for value in [None, Some(&b""[..]), Some(b"x"), Some(&[7; 600])] {
            assert_eq!(untagged(b"", &tagged(value)).unwrap().as_deref(), value);
        }
        for wrong in [&b""[..], b"\0x", b"\x02x", b"\x02"] {
            assert!(untagged(b"", &ValueRef::copy_from(wrong)).is_err(), "{wrong:?}");
        }
    }
}
