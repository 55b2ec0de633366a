//! Records: what a caller hands in, and how it lies in a group.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;

use keepstone_types::CodecId;
use keepstone_types::wire::{Reader, Truncated};

use crate::layout::{Field, disk_len};

/// What a record is. The top bit says that a reader who does not know the kind must refuse the log.
///
/// Kinds 1 to 15 are the log's own and cannot be appended; 16 to 255 are Keepstone's; from 256 on they are the caller's,
/// and whether the caller knows them is decided in its replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(u16);

/// Set in kinds that must be understood.
const MUST_UNDERSTAND: u16 = 0x8000;
/// The last kind that is the log's own.
const OWN_LAST: u16 = 15;
/// The last kind that is Keepstone's.
const KEEPSTONE_LAST: u16 = 255;

impl RecordKind {
    /// Own kind: everything so far is synced. Optional: it only narrows what could be mistaken for a torn write.
    pub const MARK: Self = Self(1);
    /// Own kind: the log goes on in a later segment. Optional: it only makes that segment's absence noticed.
    pub const SEAL: Self = Self(2);
    /// Own kind: the log was closed in order.
    pub const CLEAN_CLOSE: Self = Self(3 | MUST_UNDERSTAND);
    /// Own kind: recovery cut something; later records are on a new timeline.
    pub const TIMELINE: Self = Self(4 | MUST_UNDERSTAND);
    /// A commit of the transaction layer.
    pub const COMMIT: Self = Self(16 | MUST_UNDERSTAND);
    /// A bulk run or large value beside the log becomes part of the store.
    pub const ATTACH: Self = Self(17 | MUST_UNDERSTAND);
    /// A checkpoint has been completed.
    pub const CHECKPOINT_DONE: Self = Self(18 | MUST_UNDERSTAND);
    /// The first step of a commit over several logs.
    pub const PREPARE: Self = Self(19 | MUST_UNDERSTAND);
    /// The outcome of a commit over several logs.
    pub const DECIDE: Self = Self(20 | MUST_UNDERSTAND);
    /// For the log used alone: a key and its value, with a label.
    pub const WRITE: Self = Self(24 | MUST_UNDERSTAND);
    /// For the log used alone: a key that is gone.
    pub const DELETE: Self = Self(25 | MUST_UNDERSTAND);
    /// For the log used alone: from, verb, to.
    pub const LINK: Self = Self(26 | MUST_UNDERSTAND);
    /// For the log used alone: the caller's own state is saved up to here.
    pub const CHECKPOINT: Self = Self(27 | MUST_UNDERSTAND);

    /// A kind of the caller's that every reader must understand; `None` unless 256 ≤ `number` < 32,768.
    #[must_use]
    pub const fn custom(number: u16) -> Option<Self> {
        if number > KEEPSTONE_LAST && number < MUST_UNDERSTAND {
            return Some(Self(number | MUST_UNDERSTAND));
        }
        None
    }

    /// A kind of the caller's that a reader may skip; `None` unless 256 ≤ `number` < 32,768.
    #[must_use]
    pub const fn custom_optional(number: u16) -> Option<Self> {
        if number > KEEPSTONE_LAST && number < MUST_UNDERSTAND { Some(Self(number)) } else { None }
    }

    /// The kind as stored.
    #[must_use]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The stored form: the number, and the top bit when it must be understood.
    #[must_use]
    pub const fn to_raw(self) -> u16 {
        self.0
    }

    /// The number without the top bit.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 & !MUST_UNDERSTAND
    }

    /// Whether a reader who does not know the kind must refuse the log.
    #[must_use]
    pub const fn must_be_understood(self) -> bool {
        self.0 & MUST_UNDERSTAND != 0
    }

    /// Whether the kind is the log's own: such records have no LSN.
    #[must_use]
    pub const fn is_own(self) -> bool {
        self.number() <= OWN_LAST
    }

    /// Whether this build knows the kind or leaves it to the caller. An optional kind is never unknown.
    pub(crate) const fn is_known(self) -> bool {
        !self.must_be_understood()
            || self.number() > KEEPSTONE_LAST
            || matches!(self.number(), 3 | 4 | 16..=20 | 24..=27)
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::MARK => "mark",
            Self::SEAL => "seal",
            Self::CLEAN_CLOSE => "clean close",
            Self::TIMELINE => "timeline",
            Self::COMMIT => "commit",
            Self::ATTACH => "attach",
            Self::CHECKPOINT_DONE => "checkpoint done",
            Self::PREPARE => "prepare",
            Self::DECIDE => "decide",
            Self::WRITE => "write",
            Self::DELETE => "delete",
            Self::LINK => "link",
            Self::CHECKPOINT => "checkpoint",
            Self(raw) => return write!(f, "kind {raw:#06x}"),
        };
        f.pad(name)
    }
}

/// What a caller appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// How its payload is encoded; the log does not look inside.
    pub codec: CodecId,
    /// The content.
    pub payload: Vec<u8>,
}

impl Record {
    /// A record whose payload is MessagePack, as Keepstone's own are.
    #[must_use]
    pub const fn new(kind: RecordKind, payload: Vec<u8>) -> Self {
        Self { kind, codec: CodecId::MESSAGE_PACK, payload }
    }

    /// A record with another encoding.
    #[must_use]
    pub const fn with_codec(kind: RecordKind, codec: CodecId, payload: Vec<u8>) -> Self {
        Self { kind, codec, payload }
    }
}

pub(crate) const KIND: Field = Field::first("kind", 2, "what it is; bit 15: must be understood");
pub(crate) const CODEC: Field = KIND.then("codec", 1, "encoding of the payload: 0 raw, 1 MessagePack");
pub(crate) const FLAGS: Field = CODEC.then("flags", 1, "bit 0: a side file holds the body; others zero");
pub(crate) const LENGTH: Field = FLAGS.then("length", 4, "bytes of the payload here, a reference included");
#[cfg(test)]
pub(crate) const RECORD_FIELDS: [Field; 4] = [KIND, CODEC, FLAGS, LENGTH];
/// Bytes before each payload.
pub(crate) const RECORD_HEADER_LEN: usize = LENGTH.end();

/// The body is in a side file; the payload ends in a reference to it.
const FLAG_SIDE_FILE: u8 = 1;

pub(crate) const SIDE_NUMBER: Field = Field::first("number", 8, "number of the side file");
pub(crate) const SIDE_LENGTH: Field = SIDE_NUMBER.then("length", 8, "bytes of the body");
pub(crate) const SIDE_CHECKSUM: Field = SIDE_LENGTH.then("checksum", 8, "checksum of the body");
#[cfg(test)]
pub(crate) const SIDE_FIELDS: [Field; 3] = [SIDE_NUMBER, SIDE_LENGTH, SIDE_CHECKSUM];
/// Bytes of a reference to a side file.
pub(crate) const SIDE_REFERENCE_LEN: usize = SIDE_CHECKSUM.end();

const _: () = assert!(RECORD_HEADER_LEN == 8 && SIDE_REFERENCE_LEN == 24);

pub(crate) const TIMELINE_NUMBER: Field = Field::first("timeline", 2, "the timeline of later records");
pub(crate) const TIMELINE_RESERVED: Field = TIMELINE_NUMBER.then("reserved", 6, "zero");
pub(crate) const TIMELINE_AFTER: Field =
    TIMELINE_RESERVED.then("after", 8, "LSN of the last record of the timeline before");
pub(crate) const TIMELINE_NEXT: Field = TIMELINE_AFTER.then("next", 8, "LSN of the next record");
#[cfg(test)]
pub(crate) const TIMELINE_FIELDS: [Field; 4] =
    [TIMELINE_NUMBER, TIMELINE_RESERVED, TIMELINE_AFTER, TIMELINE_NEXT];
/// Bytes of the payload of a TIMELINE record.
pub(crate) const TIMELINE_LEN: usize = TIMELINE_NEXT.end();

/// Names the side file that holds a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SideReference {
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u64,
}

impl SideReference {
    pub(crate) fn encode(self) -> [u8; SIDE_REFERENCE_LEN] {
        let mut bytes = [0; SIDE_REFERENCE_LEN];
        SIDE_NUMBER.put(&mut bytes, &self.number.to_le_bytes());
        SIDE_LENGTH.put(&mut bytes, &self.length.to_le_bytes());
        SIDE_CHECKSUM.put(&mut bytes, &self.checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            number: SIDE_NUMBER.u64(bytes),
            length: SIDE_LENGTH.u64(bytes),
            checksum: SIDE_CHECKSUM.u64(bytes),
        }
    }
}

/// A record's eight bytes before its payload.
pub(crate) fn record_header(
    kind: RecordKind,
    codec: CodecId,
    in_side_file: bool,
    length: usize,
) -> [u8; RECORD_HEADER_LEN] {
    let mut bytes = [0; RECORD_HEADER_LEN];
    KIND.put(&mut bytes, &kind.to_raw().to_le_bytes());
    CODEC.put(&mut bytes, &[codec.number()]);
    FLAGS.put(&mut bytes, &[if in_side_file { FLAG_SIDE_FILE } else { 0 }]);
    LENGTH.put(&mut bytes, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

/// A record as it lies in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) codec: CodecId,
    /// What is in the group, without the reference.
    pub(crate) inline: &'a [u8],
    pub(crate) side: Option<SideReference>,
}

/// Why the bytes of a group are no records, although their checksum is right: another program wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordFault {
    #[error(transparent)]
    Truncated(#[from] Truncated),
    #[error("record flags {found:#04x} at offset {offset} of the records, expected 0 or 1")]
    Flags { offset: usize, found: u8 },
    #[error("a reference to a side file of {found} bytes at offset {offset} of the records, expected 24")]
    Reference { offset: usize, found: usize },
}

/// Decodes the records of a group, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct StoredRecords<'a> {
    reader: Reader<'a>,
}

impl<'a> StoredRecords<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes) }
    }

    fn decode(&mut self) -> Result<StoredRecord<'a>, RecordFault> {
        let offset = self.reader.offset();
        let kind = RecordKind::from_raw(self.reader.u16()?);
        let codec = CodecId::new(self.reader.u8()?);
        let flags = self.reader.u8()?;
        let length = usize::try_from(self.reader.u32()?).unwrap_or(usize::MAX);
        let payload = self.reader.bytes(length)?;
        match flags {
            0 => Ok(StoredRecord { kind, codec, inline: payload, side: None }),
            FLAG_SIDE_FILE => {
                let at = payload.len().checked_sub(SIDE_REFERENCE_LEN);
                let (inline, reference) = at
                    .and_then(|at| payload.split_at_checked(at))
                    .ok_or(RecordFault::Reference { offset, found: payload.len() })?;
                Ok(StoredRecord { kind, codec, inline, side: Some(SideReference::decode(reference)) })
            }
            found => Err(RecordFault::Flags { offset, found }),
        }
    }
}

impl<'a> Iterator for StoredRecords<'a> {
    type Item = Result<StoredRecord<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let record = self.decode();
        if record.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}

/// What a TIMELINE record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimelineRecord {
    pub(crate) timeline: u16,
    pub(crate) after: u64,
    pub(crate) next: u64,
}

impl TimelineRecord {
    pub(crate) fn encode(self) -> [u8; TIMELINE_LEN] {
        let mut bytes = [0; TIMELINE_LEN];
        TIMELINE_NUMBER.put(&mut bytes, &self.timeline.to_le_bytes());
        TIMELINE_AFTER.put(&mut bytes, &self.after.to_le_bytes());
        TIMELINE_NEXT.put(&mut bytes, &self.next.to_le_bytes());
        bytes
    }

    /// `None` when the payload is not one, or leads backwards.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let found = Self {
            timeline: TIMELINE_NUMBER.u16(bytes),
            after: TIMELINE_AFTER.u64(bytes),
            next: TIMELINE_NEXT.u64(bytes),
        };
        let sane = bytes.len() == TIMELINE_LEN
            && crate::layout::is_zero(TIMELINE_RESERVED.bytes(bytes))
            && found.next > found.after;
        sane.then_some(found)
    }
}

/// Bytes that a payload of `inline` bytes (a reference included) takes in a group.
pub(crate) const fn stored_len(inline: usize) -> usize {
    inline.saturating_add(RECORD_HEADER_LEN)
}

/// The longest payload that a length field can say.
pub(crate) fn fits_length_field(len: usize) -> bool {
    u32::try_from(disk_len(len)).is_ok()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_have_their_ranges() {
        for (kind, own, known) in [
            (RecordKind::MARK, true, true),
            (RecordKind::TIMELINE, true, true),
            (RecordKind::COMMIT, false, true),
            (RecordKind::from_raw(5 | MUST_UNDERSTAND), true, false),
            (RecordKind::from_raw(5), true, true),
            (RecordKind::from_raw(99 | MUST_UNDERSTAND), false, false),
            (RecordKind::custom(256).unwrap(), false, true),
            (RecordKind::custom_optional(32_767).unwrap(), false, true),
        ] {
            assert_eq!((kind.is_own(), kind.is_known()), (own, known), "{kind}");
        }
        assert_eq!(RecordKind::custom(255), None);
        assert_eq!(RecordKind::custom_optional(32_768), None);
    }

    #[test]
    fn what_is_no_record_is_refused_and_ends_the_iteration() {
        let header = |flags: u8, length: u32| {
            let [a, b, c, d] = length.to_le_bytes();
            vec![16, 0x80, 1, flags, a, b, c, d]
        };
        for (bytes, expected) in [
            (vec![1, 2, 3], "the bytes end early: wanted 4 at offset 4, found"),
            (header(0, 1), "wanted 1 at offset 8, found 0"),
            (header(0, u32::MAX), "wanted 4294967295 at offset 8, found 0"),
            (header(2, 0), "record flags 0x02"),
            (header(1, 0), "a reference to a side file of 0 bytes"),
        ] {
            let mut records = StoredRecords::new(&bytes);
            let fault = records.next().unwrap().unwrap_err().to_string();
            let wanted = if bytes.len() == 3 { "the bytes end early" } else { expected };
            assert!(fault.contains(wanted), "{fault}");
            assert_eq!(records.next(), None);
        }
    }

    proptest! {
        #[test]
        fn records_round_trip(
            kind: u16, codec: u8, inline: Vec<u8>, side in proptest::option::of((any::<u64>(), any::<u64>(), any::<u64>()))
        ) {
            let side = side.map(|(number, length, checksum)| SideReference { number, length, checksum });
            let reference = side.map(SideReference::encode);
            let length = inline.len() + reference.map_or(0, |bytes| bytes.len());
            let (kind, codec) = (RecordKind::from_raw(kind), CodecId::new(codec));
            let mut bytes = record_header(kind, codec, side.is_some(), length).to_vec();
            bytes.extend(&inline);
            bytes.extend(reference.into_iter().flatten());
            let found: Vec<_> = StoredRecords::new(&bytes).collect();
            prop_assert_eq!(found, vec![Ok(StoredRecord { kind, codec, inline: &inline, side })]);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let taken: usize = StoredRecords::new(&bytes)
                .filter_map(Result::ok)
                .map(|record| stored_len(record.inline.len()))
                .sum();
            prop_assert!(taken <= bytes.len());
            let timeline = TimelineRecord::decode(&bytes);
            prop_assert!(timeline.is_none_or(|timeline| timeline.encode().to_vec() == bytes));
        }
    }
}
