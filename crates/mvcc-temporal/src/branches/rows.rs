//! How branches stand in the store's own table: `b` + name → the version below it and when it was forked; `d` + number for
//! one that was discarded and whose rows are still to go.

use keepstone_types::wire::Reader;
use keepstone_types::{Timestamp, ValueRef, Version};

use super::part::BranchNumber;
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::layers::{Layers, View};
use crate::merge::system_rows;
use crate::scan::KeyValue;

/// The first byte of the key of a branch.
pub(crate) const BRANCH_PREFIX: u8 = b'b';
/// The first byte of the key of a branch that was discarded.
pub(crate) const DISCARDED_PREFIX: u8 = b'd';

/// A branch, as [`Database::branches`](crate::Database::branches) lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchInfo {
    /// Its name.
    pub name: String,
    /// The version it was forked at: what it reads as where it wrote nothing.
    pub base: Version,
    /// The version that made it. No two branches have the same, though they may have one name, one after the other.
    pub made: Version,
    /// When it was forked.
    pub forked: Timestamp,
}

impl BranchInfo {
    pub(crate) const fn number(&self) -> BranchNumber {
        BranchNumber::of(self.made)
    }
}

/// The key of a branch's row.
pub(crate) fn branch_key(name: &str) -> Vec<u8> {
    [&[BRANCH_PREFIX][..], name.as_bytes()].concat()
}

/// The value of a branch's row.
pub(crate) fn branch_value(base: Version, forked: Timestamp) -> ValueRef {
    let mut value = base.to_raw().to_le_bytes().to_vec();
    value.extend(forked.as_micros().to_le_bytes());
    ValueRef::from(value)
}

/// What a branch's row says, and the version that wrote it; `None` for what no build of this format writes.
pub(crate) fn parse_branch_row(key: &[u8], value: &[u8], made: Version) -> Option<BranchInfo> {
    let (prefix, name) = key.split_first()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let mut reader = Reader::new(value);
    let base = Version::from_raw(reader.u64().ok()?);
    let forked = Timestamp::from_micros(reader.u64().ok()?);
    let whole = *prefix == BRANCH_PREFIX && reader.is_empty();
    whole.then_some(BranchInfo { name, base, made, forked })
}

/// The key of the row of a branch that was discarded; its value is empty.
pub(crate) fn discarded_key(number: BranchNumber) -> Vec<u8> {
    [&[DISCARDED_PREFIX][..], &number.to_bytes()].concat()
}

/// The branch that such a row is of; `None` for what no build of this format writes.
pub(crate) fn parse_discarded_row(key: &[u8], value: &[u8]) -> Option<BranchNumber> {
    let (prefix, number) = key.split_first()?;
    let number = BranchNumber::from_bytes(number.try_into().ok()?);
    (*prefix == DISCARDED_PREFIX && value.is_empty()).then_some(number)
}

/// The branch of a name at a version.
pub(crate) fn find(layers: &Layers, name: &str, at: Version) -> Result<Option<BranchInfo>, ReadError> {
    let key = branch_key(name);
    let row = layers.get(TableId::SYSTEM, &key, at)?;
    Ok(row.and_then(|row| parse_branch_row(&key, &row.value?, row.version)))
}

/// Whether a branch is there at a version.
pub(crate) fn is_there(layers: &Layers, branch: &BranchInfo, at: Version) -> Result<bool, ReadError> {
    let found = find(layers, &branch.name, at)?;
    Ok(found.is_some_and(|found| found.made == branch.made))
}

/// Fails when a branch is not there at a version.
pub(crate) fn must_exist(layers: &Layers, branch: &BranchInfo, at: Version) -> Result<(), ReadError> {
    if is_there(layers, branch, at)? {
        Ok(())
    } else {
        Err(ReadError::BranchNotFound { name: branch.name.clone() })
    }
}

/// All branches at the version of a view, by name.
pub(crate) fn list(view: &View) -> Result<Vec<BranchInfo>, ReadError> {
    let mut branches = Vec::new();
    for (key, value) in system_rows(view, BRANCH_PREFIX)? {
        let made = view.get(TableId::SYSTEM, &key)?.map(|row| row.version);
        branches.extend(made.and_then(|made| parse_branch_row(&key, &value, made)));
    }
    Ok(branches)
}

/// The versions below the branches at the version of a view.
pub(crate) fn bases(view: &View) -> Result<Vec<Version>, ReadError> {
    let parse = |(key, value): &KeyValue| parse_branch_row(key, value, Version::ZERO);
    Ok(system_rows(view, BRANCH_PREFIX)?.iter().filter_map(parse).map(|branch| branch.base).collect())
}

/// The branches at the version of a view that were discarded and still have rows, or may have.
pub(crate) fn discarded(view: &View) -> Result<Vec<BranchNumber>, ReadError> {
    let parse = |(key, value): &KeyValue| parse_discarded_row(key, value);
    Ok(system_rows(view, DISCARDED_PREFIX)?.iter().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_branches_round_trip_and_foreign_rows_are_refused() {
        let (base, made) = (Version::from_raw(7), Version::from_raw(9));
        let value = branch_value(base, Timestamp::from_micros(5));
        let expected =
            BranchInfo { name: "try ä".to_owned(), base, made, forked: Timestamp::from_micros(5) };
        assert_eq!(parse_branch_row(&branch_key("try ä"), &value, made), Some(expected));
        for (key, value) in
            [(&b""[..], &value[..]), (b"tx", &value), (b"b\xff", &value), (b"bx", &value[..15])]
        {
            assert_eq!(parse_branch_row(key, value, made), None, "{key:?}");
        }
        let number = BranchNumber::of(made);
        assert_eq!(parse_discarded_row(&discarded_key(number), b""), Some(number));
        for (key, value) in
            [(&b""[..], &b""[..]), (b"d1234567", b""), (b"n12345678", b""), (b"d12345678", b"x")]
        {
            assert_eq!(parse_discarded_row(key, value), None, "{key:?}");
        }
    }
}
