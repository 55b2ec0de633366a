//! Segments: files of one length, written with zeros beforehand, that begin with two copies of a header.
//!
//! Invariants:
//! * A file under a segment's name has a header that was synced before the name was given. So a header that does not
//!   verify is damage, never an interrupted step.
//! * The header names where the predecessor ends; what the predecessor holds after that is dead.
//! * Numbers ascend and are never given twice, so a checksum seeded with the number never verifies elsewhere.
#![deny(clippy::arithmetic_side_effects)]

use std::path::{Path, PathBuf};

use keepstone_types::checksum::{checksum, seed};
use keepstone_types::{StoreId, Timeline};

use crate::group::{ChainEnd, Proven};
use crate::layout::{Field, is_zero};
use crate::pins::PINS;
use crate::wrong::{self, UNPADDED, Wrong};

/// Bytes of one copy of the header.
pub(crate) const HEADER_BLOCK: usize = 4_096;
/// Bytes of both copies; groups begin here.
pub(crate) const HEADER_BYTES: u64 = 8_192;
/// The longest segment that is read.
pub(crate) const SEGMENT_BYTES_LIMIT: u64 = 256 << 20;
/// No segment, group or record has a number as high as this; after the last that 64 bits can say nothing could follow.
pub(crate) const NUMBERS_LIMIT: u64 = 1 << 62;
/// What every header begins with.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"KSWALSEG";
/// The format that this build writes, and the last it reads.
pub(crate) const FORMAT: u32 = 0;

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSWALSEG`");
pub(crate) const FORMAT_VERSION: Field = MAGIC.then("format", 4, "0: unstable");
pub(crate) const GENERATION: Field =
    FORMAT_VERSION.then("generation", 4, "counts rewritings of the header; the higher copy rules");
pub(crate) const COMPAT: Field = GENERATION.then("compat", 8, "features that may be ignored");
pub(crate) const READ_ONLY_COMPAT: Field =
    COMPAT.then("read-only compat", 8, "features without which the log can only be read");
pub(crate) const INCOMPAT: Field =
    READ_ONLY_COMPAT.then("incompat", 8, "features without which the log cannot be read");
pub(crate) const STORE: Field = INCOMPAT.then("store", 16, "id of the store");
pub(crate) const NUMBER: Field = STORE.then("number", 8, "number of the segment");
pub(crate) const SEGMENT_LENGTH: Field = NUMBER.then("length", 8, "bytes of the file");
pub(crate) const FIRST_LSN: Field = SEGMENT_LENGTH.then("first LSN", 8, "LSN of the first record");
pub(crate) const PREDECESSOR: Field = FIRST_LSN.then("predecessor", 8, "its number; 0: none");
pub(crate) const END_SEQUENCE: Field =
    PREDECESSOR.then("end sequence", 8, "sequence of the predecessor's last group");
pub(crate) const END_CHECKSUM: Field =
    END_SEQUENCE.then("end checksum", 8, "checksum of the predecessor's last group");
pub(crate) const END_LSN: Field = END_CHECKSUM.then("end LSN", 8, "last LSN of the predecessor");
pub(crate) const PROVEN_LSN: Field =
    END_LSN.then("proven LSN", 8, "all through it was synced before the segment got its name");
pub(crate) const PROVEN_SEQUENCE: Field =
    PROVEN_LSN.then("proven sequence", 8, "all groups through it were synced by then");
pub(crate) const OWNER_MARK: Field =
    PROVEN_SEQUENCE.then("owner mark", 16, "the newest completed generation of the layer above");
pub(crate) const SECTOR: Field = OWNER_MARK.then("sector", 4, "unit of groups: 512 or 4096");
pub(crate) const FLAGS: Field = SECTOR.then("flags", 4, "bit 0: Relaxed or None is in use; others zero");
pub(crate) const TIMELINE: Field = FLAGS.then("timeline", 2, "timeline of the first record");
pub(crate) const RESERVED: Field = TIMELINE.then("reserved", 3_934, "zero");
pub(crate) const CHECKSUM: Field = RESERVED.then("checksum", 8, "of all before it, no seed");
#[cfg(test)]
pub(crate) const SEGMENT_FIELDS: [Field; 22] = [
    MAGIC,
    FORMAT_VERSION,
    GENERATION,
    COMPAT,
    READ_ONLY_COMPAT,
    INCOMPAT,
    STORE,
    NUMBER,
    SEGMENT_LENGTH,
    FIRST_LSN,
    PREDECESSOR,
    END_SEQUENCE,
    END_CHECKSUM,
    END_LSN,
    PROVEN_LSN,
    PROVEN_SEQUENCE,
    OWNER_MARK,
    SECTOR,
    FLAGS,
    TIMELINE,
    RESERVED,
    CHECKSUM,
];

const _: () = assert!(CHECKSUM.end() == HEADER_BLOCK);

const FLAG_RELAXED: u32 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) generation: u32,
    pub(crate) read_only_compat: u64,
    pub(crate) incompat: u64,
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) first_lsn: u64,
    pub(crate) predecessor: u64,
    pub(crate) end_sequence: u64,
    pub(crate) end_checksum: u64,
    pub(crate) end_lsn: u64,
    pub(crate) proven: Proven,
    pub(crate) owner_mark: [u8; 16],
    pub(crate) sector: u32,
    pub(crate) relaxed: bool,
    pub(crate) timeline: Timeline,
}

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// It does not begin as one.
    Magic,
    /// Its checksum is another one.
    Checksum { expected: u64, found: u64 },
    /// It is of a later format.
    Newer(u32),
    /// A field has a value that no writer gives it.
    Field(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; HEADER_BLOCK];
        MAGIC.put(&mut block, &SEGMENT_MAGIC);
        FORMAT_VERSION.put(&mut block, &FORMAT.to_le_bytes());
        GENERATION.put(&mut block, &self.generation.to_le_bytes());
        READ_ONLY_COMPAT.put(&mut block, &self.read_only_compat.to_le_bytes());
        INCOMPAT.put(&mut block, &self.incompat.to_le_bytes());
        STORE.put(&mut block, &self.store.to_bytes());
        NUMBER.put(&mut block, &self.number.to_le_bytes());
        SEGMENT_LENGTH.put(&mut block, &self.length.to_le_bytes());
        FIRST_LSN.put(&mut block, &self.first_lsn.to_le_bytes());
        PREDECESSOR.put(&mut block, &self.predecessor.to_le_bytes());
        END_SEQUENCE.put(&mut block, &self.end_sequence.to_le_bytes());
        END_CHECKSUM.put(&mut block, &self.end_checksum.to_le_bytes());
        END_LSN.put(&mut block, &self.end_lsn.to_le_bytes());
        PROVEN_LSN.put(&mut block, &self.proven.lsn.to_le_bytes());
        PROVEN_SEQUENCE.put(&mut block, &self.proven.sequence.to_le_bytes());
        OWNER_MARK.put(&mut block, &self.owner_mark);
        SECTOR.put(&mut block, &self.sector.to_le_bytes());
        FLAGS.put(&mut block, &(if self.relaxed { FLAG_RELAXED } else { 0 }).to_le_bytes());
        TIMELINE.put(&mut block, &self.timeline.get().to_le_bytes());
        let sum = checksum(block.get(..CHECKSUM.offset).unwrap_or_default());
        CHECKSUM.put(&mut block, &sum.to_le_bytes());
        block
    }

    /// Decodes one copy. Magic and checksum come first, then the format, then everything else: a later format may have
    /// moved any other field.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        if block.len() != HEADER_BLOCK || MAGIC.bytes(block) != SEGMENT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        let expected = checksum(block.get(..CHECKSUM.offset).unwrap_or_default());
        let found = CHECKSUM.u64(block);
        if expected != found {
            return Err(HeaderFault::Checksum { expected, found });
        }
        if FORMAT_VERSION.u32(block) > FORMAT {
            return Err(HeaderFault::Newer(FORMAT_VERSION.u32(block)));
        }
        let header = Self {
            generation: GENERATION.u32(block),
            read_only_compat: READ_ONLY_COMPAT.u64(block),
            incompat: INCOMPAT.u64(block),
            store: StoreId::from_bytes(STORE.array(block)),
            number: NUMBER.u64(block),
            length: SEGMENT_LENGTH.u64(block),
            first_lsn: FIRST_LSN.u64(block),
            predecessor: PREDECESSOR.u64(block),
            end_sequence: END_SEQUENCE.u64(block),
            end_checksum: END_CHECKSUM.u64(block),
            end_lsn: END_LSN.u64(block),
            proven: Proven { lsn: PROVEN_LSN.u64(block), sequence: PROVEN_SEQUENCE.u64(block) },
            owner_mark: OWNER_MARK.array(block),
            sector: SECTOR.u32(block),
            relaxed: FLAGS.u32(block) & FLAG_RELAXED != 0,
            timeline: Timeline::new(TIMELINE.u16(block)),
        };
        // Features that are unknown are judged by the caller, who also knows whether the log is written to.
        let sane = [
            ("sector", is_sector(header.sector)),
            ("flags", FLAGS.u32(block) & !FLAG_RELAXED == 0),
            ("number", (1..NUMBERS_LIMIT).contains(&header.number) && header.predecessor < header.number),
            ("end sequence", header.end_sequence < NUMBERS_LIMIT),
            ("end LSN", header.end_lsn < NUMBERS_LIMIT),
            ("length", (HEADER_BYTES..=SEGMENT_BYTES_LIMIT).contains(&header.length)),
            // Also after a change of timeline: the gap lies before the end that is named.
            ("first LSN", Some(header.first_lsn) == header.end_lsn.checked_add(1)),
            ("reserved", header.incompat != 0 || is_zero(RESERVED.bytes(block))),
        ];
        match sane.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(HeaderFault::Field(field)),
            None => Ok(header),
        }
    }

    /// The seed of the checksums of the segment's groups.
    pub(crate) fn seed(&self) -> u64 {
        if wrong::is(Wrong::NoSeed) {
            return 0;
        }
        seed(self.store, self.number)
    }

    /// Where the chain stands before the segment's first group.
    pub(crate) fn start(&self) -> ChainEnd {
        ChainEnd { checksum: self.end_checksum, sequence: self.end_sequence, next_lsn: self.first_lsn }
    }
}

/// The digits of a number in a file name.
const DIGITS: usize = 20;

/// What a file of the log's folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileRole {
    /// A segment, with its number.
    Segment(u64),
    /// A side file, with its number.
    Side(u64),
    /// Half made, or to be made into a spare; of no value after the process that made it.
    Scratch,
}

/// The name of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(segment_name(number))
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The name of a side file.
pub(crate) fn side_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.side"))
}

/// The name of a file that is being made.
pub(crate) fn scratch_path(dir: &Path, what: &str, number: u64) -> PathBuf {
    dir.join(format!("{what}-{number}.tmp"))
}

/// Whether groups can be aligned to so many bytes.
pub(crate) fn is_sector(len: u32) -> bool {
    len == 512 || len == 4_096 || (len == UNPADDED && wrong::is(Wrong::UnpaddedGroups))
}

/// What a name means; `None` for a name that is not the log's.
pub(crate) fn role_of(name: &str) -> Option<FileRole> {
    let (stem, extension) = name.rsplit_once('.')?;
    if extension == "tmp" && ["spare-", "fresh-", "recycle-"].iter().any(|what| stem.starts_with(what)) {
        return Some(FileRole::Scratch);
    }
    if (stem, extension) == (PINS, "new") {
        // A pins file that did not come to replace the one before.
        return Some(FileRole::Scratch);
    }
    let digits = stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| stem.parse().ok()).flatten().filter(|number| *number > 0)?;
    match extension {
        "wal" => Some(FileRole::Segment(number)),
        "side" => Some(FileRole::Side(number)),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            generation: 3,
            read_only_compat: 0,
            incompat: 0,
            store: StoreId::from_bytes([7; 16]),
            number: 17,
            length: 1 << 20,
            first_lsn: 43,
            predecessor: 16,
            end_sequence: 9,
            end_checksum: 11,
            end_lsn: 42,
            proven: Proven { lsn: 42, sequence: 9 },
            owner_mark: [5; 16],
            sector: 512,
            relaxed: true,
            timeline: Timeline::new(2),
        }
    }

    #[test]
    fn headers_round_trip() {
        let header = header();
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        assert_eq!(SegmentHeader::decode(&block[1..]), Err(HeaderFault::Magic));
    }

    /// Sets a field and the checksum anew, as another program would.
    fn forged(field: Field, value: &[u8]) -> Vec<u8> {
        let mut block = header().encode();
        block[field.offset..field.offset + value.len()].copy_from_slice(value);
        let sum = checksum(&block[..CHECKSUM.offset]);
        CHECKSUM.put(&mut block, &sum.to_le_bytes());
        block
    }

    #[test]
    fn fields_that_no_writer_gives_are_refused() {
        for (field, value, expected) in [
            (FORMAT_VERSION, 1_u64, HeaderFault::Newer(1)),
            (SECTOR, 513, HeaderFault::Field("sector")),
            (FLAGS, 2, HeaderFault::Field("flags")),
            (NUMBER, 16, HeaderFault::Field("number")),
            (SEGMENT_LENGTH, u64::MAX, HeaderFault::Field("length")),
            (FIRST_LSN, 42, HeaderFault::Field("first LSN")),
            (FIRST_LSN, 44, HeaderFault::Field("first LSN")),
            (NUMBER, u64::MAX, HeaderFault::Field("number")),
            (END_SEQUENCE, u64::MAX, HeaderFault::Field("end sequence")),
            (END_LSN, u64::MAX, HeaderFault::Field("end LSN")),
            (RESERVED, 1, HeaderFault::Field("reserved")),
        ] {
            let bytes = value.to_le_bytes();
            let width = field.len.min(8);
            assert_eq!(
                SegmentHeader::decode(&forged(field, &bytes[..width])),
                Err(expected),
                "{}",
                field.name
            );
        }
        assert!(matches!(SegmentHeader::decode(&forged(MAGIC, b"other")), Err(HeaderFault::Magic)));
    }

    #[test]
    fn only_the_logs_own_names_mean_something() {
        for (name, expected) in [
            ("00000000000000000017.wal", Some(FileRole::Segment(17))),
            ("00000000000000000017.side", Some(FileRole::Side(17))),
            ("spare-3.tmp", Some(FileRole::Scratch)),
            ("00000000000000000000.wal", None),
            ("17.wal", None),
            ("99999999999999999999.wal", None),
            ("000000000000000000+7.wal", None),
            ("note.tmp", None),
            ("pins", None),
            ("pins.new", Some(FileRole::Scratch)),
        ] {
            assert_eq!(role_of(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0..HEADER_BLOCK, change in 1..=u8::MAX) {
            let mut block = header().encode();
            block[at] ^= change;
            prop_assert!(SegmentHeader::decode(&block).is_err());
        }
    }
}
