//! The order of row versions: by table, by key, and of one key the newest first.

use std::cmp::Reverse;

use keepstone_types::Version;

use super::TableId;

/// The place of a row version among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowPlace<'a> {
    /// As long as fronts differ, the key itself is not looked at.
    pub(crate) front: Front,
    pub(crate) key: &'a [u8],
    pub(crate) version: Reverse<Version>,
}

impl<'a> RowPlace<'a> {
    pub(crate) fn new(table: TableId, key: &'a [u8], version: Version) -> Self {
        Self { front: Front::of(table, key), key, version: Reverse(version) }
    }

    /// The place that follows at once.
    pub(crate) fn behind(self) -> Self {
        // Version zero is never written, so nothing stands between it and the next key.
        let version = Version::from_raw(self.version.0.to_raw().saturating_sub(1));
        Self { version: Reverse(version), ..self }
    }
}

/// The table and the first twenty bytes of a key as three numbers, a shorter key filled up with zeros. Rows whose fronts
/// differ sort as their fronts do; equal fronts say nothing of the keys. Twenty, because keys of one collection begin with
/// eight bytes that are the same, and ids with those of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Front {
    /// The table above the first four bytes.
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) third: u64,
}

impl Front {
    fn of(table: TableId, key: &[u8]) -> Self {
        let (first, rest) = key.split_at(key.len().min(4));
        let (second, third) = rest.split_at(rest.len().min(8));
        let first = u64::from(table.get()) << 32 | number(first) >> 32;
        Self { first, second: number(second), third: number(third) }
    }

    /// The table of a row, by the first number of its front.
    pub(crate) fn table(first: u64) -> TableId {
        TableId::new(u32::try_from(first >> 32).unwrap_or(u32::MAX))
    }
}

/// The first eight bytes as a big-endian number, filled up with zeros.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    if let Some(number) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*number);
    }
    let mut number = [0_u8; 8];
    number.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(number)
}
