//! How a row version stands in a tree: a few bytes that say which version wrote it, then the value.
//!
//! The prefix is one LEB128 number, `sequence * 4 + timeline follows * 2 + deletion`, and the timeline in two bytes when
//! it is not the first. Rows of the newest version, rows of history, and rows whose value is in pages of its own begin
//! alike, so that a row moves from one tree to another as it is.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_btree::Prefix;
use keepstone_types::wire::{Reader, put_varint};
use keepstone_types::{Timeline, ValueRef, Version};

/// The prefix of a row version, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowHead {
    pub(crate) version: Version,
    pub(crate) is_deletion: bool,
    /// Bytes of the prefix.
    pub(crate) len: usize,
}

/// The first bytes of a row of this version.
pub(crate) fn prefix(version: Version, is_deletion: bool) -> Prefix {
    let timeline = version.timeline();
    let has_timeline = timeline != Timeline::FIRST;
    // A sequence has 48 bits, so nothing is lost.
    let number = (version.sequence() << 2) | (u64::from(has_timeline) << 1) | u64::from(is_deletion);
    let mut bytes = Vec::with_capacity(10);
    put_varint(&mut bytes, number);
    if has_timeline {
        bytes.extend(timeline.get().to_le_bytes());
    }
    // At most eight bytes of number and two of timeline.
    Prefix::new(&bytes).unwrap_or_default()
}

/// Reads the prefix; `None` for what no build of this format writes.
#[inline]
pub(crate) fn head(bytes: &[u8]) -> Option<RowHead> {
    let mut reader = Reader::new(bytes);
    let number = reader.varint().ok()?;
    let timeline = match number & 2 {
        0 => Timeline::FIRST,
        _ => Timeline::new(reader.u16().ok()?),
    };
    let version = Version::from_parts(timeline, number >> 2).filter(|version| version.sequence() > 0)?;
    Some(RowHead { version, is_deletion: number & 1 != 0, len: reader.offset() })
}

/// The value behind the prefix; `None` for a deletion.
pub(crate) fn value(row: &ValueRef, head: RowHead) -> Option<ValueRef> {
    if head.is_deletion { None } else { row.slice(head.len..) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_take_few_bytes_and_zero_is_none() {
        for (raw, len) in [(1, 1), (31, 1), (32, 2), (1 << 20, 4), ((1 << 26) - 1, 4), (1 << 26, 5)] {
            let bytes = prefix(Version::from_raw(raw), false);
            assert_eq!(bytes.as_bytes().len(), len, "{raw}");
        }
        for bytes in [&[][..], &[0], &[1], &[0x80], &[6, 1]] {
            assert_eq!(head(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn prefixes_round_trip(timeline: u16, sequence in 1..=Version::SEQUENCE_MAX, is_deletion: bool, rest: Vec<u8>) {
            let version = Version::from_parts(Timeline::new(timeline), sequence).unwrap();
            let mut bytes = prefix(version, is_deletion).as_bytes().to_vec();
            let len = bytes.len();
            bytes.extend(&rest);
            let found = head(&bytes).unwrap();
            prop_assert_eq!(found, RowHead { version, is_deletion, len });
            let found = value(&ValueRef::from(bytes), found).map(|value| value.to_vec());
            prop_assert_eq!(found, (!is_deletion).then_some(rest));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            if let Some(found) = head(&bytes) {
                prop_assert!(found.len <= bytes.len());
            }
        }
    }
}
