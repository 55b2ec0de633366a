//! How a row version stands in a tree: a few bytes that say which version wrote it, then the value.
//!
//! The prefix is one LEB128 number, `sequence * 4 + timeline follows * 2 + the value does not follow`, and the timeline in two
//! bytes when it is not the first. Rows of the newest version, whole rows of history, and rows whose value is in pages of
//! its own begin alike, so that a row moves from one tree to another as it is.
//!
//! Where the value does not follow, the row ends there and is a deletion; or a byte names the form that it is kept in. Only
//! history has such rows.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_btree::Prefix;
use keepstone_types::wire::{Reader, put_varint};
use keepstone_types::{Timeline, ValueRef, Version};

/// The form of an entry of a chain: how many deltas begin here, then the entry as `keepstone-xor-dag` codes it.
pub(crate) const ENTRY_FORM: u8 = 1;

/// The prefix of a row version, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowHead {
    pub(crate) version: Version,
    pub(crate) is_deletion: bool,
    /// Bytes of the prefix.
    pub(crate) len: usize,
}

/// How an older row has its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OlderForm {
    /// Behind the head, as it is.
    Whole,
    /// It has none.
    Deletion,
    /// As an entry of a chain.
    Entry {
        /// Deltas that stand here one behind the other, from this one to the last before a keyframe; none where this is a
        /// keyframe. It may be too high, never too low.
        deltas: u8,
    },
}

/// The head of an older row, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OlderHead {
    pub(crate) version: Version,
    pub(crate) form: OlderForm,
    /// Bytes before the value or entry.
    pub(crate) len: usize,
}

/// Why the head of an older row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongHead {
    #[error("a head that is cut or says no version")]
    Malformed,
    #[error("form {form}, which this build does not know (it knows {ENTRY_FORM})")]
    UnknownForm { form: u8 },
}

fn head_bytes(version: Version, follows: bool) -> Vec<u8> {
    let timeline = version.timeline();
    let has_timeline = timeline != Timeline::FIRST;
    // A sequence has 48 bits, so nothing is lost.
    let number = (version.sequence() << 2) | (u64::from(has_timeline) << 1) | u64::from(!follows);
    let mut bytes = Vec::with_capacity(12);
    put_varint(&mut bytes, number);
    if has_timeline {
        bytes.extend(timeline.get().to_le_bytes());
    }
    bytes
}

/// The first bytes of a row of this version.
pub(crate) fn prefix(version: Version, is_deletion: bool) -> Prefix {
    // At most eight bytes of number and two of timeline.
    Prefix::new(&head_bytes(version, !is_deletion)).unwrap_or_default()
}

/// What stands before an entry of a chain at which so many deltas begin.
pub(crate) fn entry_prefix(version: Version, deltas: u8) -> Prefix {
    let mut bytes = head_bytes(version, false);
    bytes.extend([ENTRY_FORM, deltas]);
    Prefix::new(&bytes).unwrap_or_default()
}

/// The version, whether the value follows, and what is left.
#[inline]
fn read(bytes: &[u8]) -> Option<(Version, bool, Reader<'_>)> {
    let mut reader = Reader::new(bytes);
    let number = reader.varint().ok()?;
    let timeline = match number & 2 {
        0 => Timeline::FIRST,
        _ => Timeline::new(reader.u16().ok()?),
    };
    let version = Version::from_parts(timeline, number >> 2).filter(|version| version.sequence() > 0)?;
    Some((version, number & 1 == 0, reader))
}

/// Reads the head of a row that has its value behind it or is a deletion; `None` for what no build of this format writes as a
/// newest row.
#[inline]
pub(crate) fn head(bytes: &[u8]) -> Option<RowHead> {
    let (version, follows, reader) = read(bytes)?;
    let len = reader.offset();
    (follows || len == bytes.len()).then_some(RowHead { version, is_deletion: !follows, len })
}

/// Reads the head of an older row, by what it begins with: all of it, or at least its first 16 bytes.
pub(crate) fn older_head(bytes: &[u8]) -> Result<OlderHead, WrongHead> {
    let (version, follows, mut reader) = read(bytes).ok_or(WrongHead::Malformed)?;
    let form = if follows {
        OlderForm::Whole
    } else if reader.is_empty() {
        OlderForm::Deletion
    } else {
        match reader.u8() {
            Ok(ENTRY_FORM) => OlderForm::Entry { deltas: reader.u8().map_err(|_| WrongHead::Malformed)? },
            Ok(form) => return Err(WrongHead::UnknownForm { form }),
            Err(_) => return Err(WrongHead::Malformed),
        }
    };
    Ok(OlderHead { version, form, len: reader.offset() })
}

/// The value behind the prefix; `None` for a deletion.
pub(crate) fn value(row: &ValueRef, head: RowHead) -> Option<ValueRef> {
    if head.is_deletion { None } else { row.slice(head.len..) }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
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
            if !is_deletion {
                bytes.extend(&rest);
            }
            let found = head(&bytes).unwrap();
            prop_assert_eq!(found, RowHead { version, is_deletion, len });
            let form = if is_deletion { OlderForm::Deletion } else { OlderForm::Whole };
            prop_assert_eq!(older_head(&bytes), Ok(OlderHead { version, form, len }));
            let found = value(&ValueRef::from(bytes), found).map(|value| value.to_vec());
            prop_assert_eq!(found, (!is_deletion).then_some(rest));
        }

        #[test]
        fn entries_stand_in_history_alone(timeline: u16, sequence in 1..=Version::SEQUENCE_MAX, deltas: u8, rest: Vec<u8>) {
            let version = Version::from_parts(Timeline::new(timeline), sequence).unwrap();
            let mut bytes = entry_prefix(version, deltas).as_bytes().to_vec();
            let len = bytes.len();
            prop_assert!(len >= 3);
            bytes.extend(&rest);
            prop_assert_eq!(older_head(&bytes), Ok(OlderHead { version, form: OlderForm::Entry { deltas }, len }));
            prop_assert_eq!(head(&bytes), None);
            prop_assert_eq!(older_head(&bytes[..len - 1]), Err(WrongHead::Malformed));
            for form in [0, 2, 200] {
                bytes[len - 2] = form;
                prop_assert_eq!(older_head(&bytes), Err(WrongHead::UnknownForm { form }));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            if let Some(found) = head(&bytes) {
                prop_assert!(found.len <= bytes.len());
            }
            if let Ok(found) = older_head(&bytes) {
                prop_assert!(found.len <= bytes.len());
            }
        }
    }
}
