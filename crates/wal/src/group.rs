//! Groups: the records of one write and one sync, whole sectors of them, with a checksum and a sector to heal from.
//!
//! Invariants:
//! * A group begins and ends on a sector, so unsynced bytes never share a sector with synced ones.
//! * Its checksum covers everything but magic, checksum and XOR sector, and is seeded with store and segment: a group of
//!   an earlier life of the file never verifies.
//! * Its last sector is the XOR of all others, so the XOR of the whole group is zero.
//! * It names the checksum of the group before, so a group that was lost or swapped breaks the chain.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::CodecId;
use keepstone_types::checksum::checksum_seeded;
use keepstone_vfs::AlignedBuffer;

use crate::layout::{Field, disk_len, memory_len, round_up};
use crate::record::{RecordKind, record_header};
use crate::wrong::{self, Wrong};

/// The longest group, padding and XOR sector included, in bytes.
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 20;

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSWALGRP`");
pub(crate) const CHECKSUM: Field =
    MAGIC.then("checksum", 8, "of all that follows up to the XOR sector, seeded with store and segment");
pub(crate) const PREVIOUS: Field = CHECKSUM.then("previous", 8, "checksum of the group before");
pub(crate) const SEQUENCE: Field = PREVIOUS.then("sequence", 8, "number of the group in the log");
pub(crate) const FIRST_LSN: Field =
    SEQUENCE.then("first LSN", 8, "LSN of the first record, or the next one's");
pub(crate) const PROVEN_LSN: Field = FIRST_LSN.then("proven LSN", 8, "all through it was synced before this");
pub(crate) const PROVEN_SEQUENCE: Field =
    PROVEN_LSN.then("proven sequence", 8, "all groups through it were synced before this");
pub(crate) const RECORDS: Field = PROVEN_SEQUENCE.then("records", 4, "records that have an LSN");
pub(crate) const LENGTH: Field = RECORDS.then("length", 4, "bytes of records; padding with zeros follows");
#[cfg(test)]
pub(crate) const GROUP_FIELDS: [Field; 9] =
    [MAGIC, CHECKSUM, PREVIOUS, SEQUENCE, FIRST_LSN, PROVEN_LSN, PROVEN_SEQUENCE, RECORDS, LENGTH];
/// Bytes before the records.
pub(crate) const GROUP_HEADER_LEN: usize = LENGTH.end();
/// What every group begins with.
pub(crate) const GROUP_MAGIC: [u8; 8] = *b"KSWALGRP";

const _: () = assert!(GROUP_HEADER_LEN == 64);

/// What a group says of itself and of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) checksum: u64,
    pub(crate) previous: u64,
    pub(crate) sequence: u64,
    pub(crate) first_lsn: u64,
    pub(crate) proven_lsn: u64,
    pub(crate) proven_sequence: u64,
    pub(crate) records: u32,
    pub(crate) length: u32,
}

impl GroupHeader {
    fn decode(block: &[u8]) -> Self {
        Self {
            checksum: CHECKSUM.u64(block),
            previous: PREVIOUS.u64(block),
            sequence: SEQUENCE.u64(block),
            first_lsn: FIRST_LSN.u64(block),
            proven_lsn: PROVEN_LSN.u64(block),
            proven_sequence: PROVEN_SEQUENCE.u64(block),
            records: RECORDS.u32(block),
            length: LENGTH.u32(block),
        }
    }

    /// The LSN of the last record, or the one before the first when there is none.
    pub(crate) fn last_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(u64::from(self.records)).saturating_sub(1)
    }

    /// The LSN that the next group begins with, timeline changes aside.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(u64::from(self.records))
    }

    /// Bytes of header and records.
    pub(crate) fn data_len(&self) -> usize {
        memory_len(u64::from(self.length)).saturating_add(GROUP_HEADER_LEN)
    }

    /// Bytes of the whole group.
    pub(crate) fn total_len(&self, sector: usize) -> usize {
        total_len(memory_len(u64::from(self.length)), sector)
    }
}

/// Bytes of a group with `length` bytes of records: header and records in whole sectors, and the XOR sector.
pub(crate) const fn total_len(length: usize, sector: usize) -> usize {
    round_up(length.saturating_add(GROUP_HEADER_LEN), sector).saturating_add(sector)
}

/// The most bytes of records that fit a group of `limit` bytes.
pub(crate) const fn records_len_max(limit: usize, sector: usize) -> usize {
    let sectors = match limit.checked_div(sector) {
        Some(sectors) => sectors,
        None => 0,
    };
    sectors.saturating_sub(1).saturating_mul(sector).saturating_sub(GROUP_HEADER_LEN)
}

/// The place of a group in the log: what must match before it is believed to be the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    /// Checksum of the last group; 0 before the first.
    pub(crate) checksum: u64,
    /// Its sequence; 0 before the first.
    pub(crate) sequence: u64,
    /// The LSN the next record gets.
    pub(crate) next_lsn: u64,
}

impl ChainEnd {
    /// Before the first group of a log.
    pub(crate) const START: Self = Self { checksum: 0, sequence: 0, next_lsn: 1 };

    /// Whether `group` is the next one.
    pub(crate) fn is_followed_by(&self, group: &GroupHeader) -> bool {
        (group.previous == self.checksum || wrong::is(Wrong::NoChain))
            && Some(group.sequence) == self.sequence.checked_add(1)
            && group.first_lsn == self.next_lsn
    }

    /// The end after `group`.
    pub(crate) fn after(group: &GroupHeader) -> Self {
        Self { checksum: group.checksum, sequence: group.sequence, next_lsn: group.next_lsn() }
    }
}

/// The checksum of a group, from the bytes of its data sectors.
fn compute(data: &[u8], seed: u64) -> u64 {
    checksum_seeded(seed, data.get(CHECKSUM.end()..).unwrap_or_default())
}

/// The header of the group that `bytes` begin with, if its magic and length are plausible. Nothing else is believed yet.
pub(crate) fn plausible(bytes: &[u8], sector: usize) -> Option<GroupHeader> {
    if bytes.len() < GROUP_HEADER_LEN || MAGIC.bytes(bytes) != GROUP_MAGIC {
        return None;
    }
    let header = GroupHeader::decode(bytes);
    let total = header.total_len(sector);
    (total <= GROUP_BYTES_MAX && total <= bytes.len()).then_some(header)
}

/// The header of the group that `bytes` begin with, if its checksum is right.
pub(crate) fn verify(bytes: &[u8], seed: u64, sector: usize) -> Option<GroupHeader> {
    let header = plausible(bytes, sector)?;
    let data = bytes.get(..header.total_len(sector).checked_sub(sector)?)?;
    (compute(data, seed) == header.checksum).then_some(header)
}

/// The records of a verified group.
pub(crate) fn records_of(bytes: &[u8], header: GroupHeader) -> &[u8] {
    bytes.get(GROUP_HEADER_LEN..header.data_len()).unwrap_or_default()
}

/// XORs `from` into `to`, as far as both go.
pub(crate) fn xor_into(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= *from);
}

/// The XOR of all sectors of `bytes`, into a sector of its own.
pub(crate) fn xor_of(bytes: &[u8], sector: usize) -> Vec<u8> {
    let mut sum = vec![0; sector];
    bytes.chunks(sector).for_each(|chunk| xor_into(&mut sum, chunk));
    sum
}

/// Builds one group after another in a buffer that is kept.
#[derive(Debug)]
pub(crate) struct GroupBuilder {
    buffer: AlignedBuffer,
    at: usize,
    sector: usize,
    records: u32,
}

impl GroupBuilder {
    pub(crate) fn new() -> Self {
        Self { buffer: AlignedBuffer::zeroed(0, 4_096), at: 0, sector: 4_096, records: 0 }
    }

    /// Starts a group that will hold `length` bytes of records.
    pub(crate) fn begin(&mut self, length: usize, sector: usize) {
        self.buffer.resize(0);
        self.buffer.resize(total_len(length, sector));
        (self.at, self.sector, self.records) = (GROUP_HEADER_LEN, sector, 0);
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(to) = self.buffer.as_mut_slice().get_mut(self.at..end) {
            to.copy_from_slice(bytes);
        }
        self.at = end;
    }

    /// Adds a record, its payload in two parts.
    pub(crate) fn push(&mut self, kind: RecordKind, codec: CodecId, inline: &[u8], reference: &[u8]) {
        let length = inline.len().saturating_add(reference.len());
        self.put(&record_header(kind, codec, !reference.is_empty(), length));
        self.put(inline);
        self.put(reference);
        self.records = self.records.saturating_add(u32::from(!kind.is_own()));
    }

    /// Adds records that are already encoded, `count` of which have an LSN.
    pub(crate) fn push_encoded(&mut self, bytes: &[u8], count: u32) {
        self.put(bytes);
        self.records = self.records.saturating_add(count);
    }

    /// Completes the group: header, checksum, XOR sector. Gives the whole group and its header.
    pub(crate) fn finish(&mut self, place: ChainEnd, proven: Proven, seed: u64) -> (&[u8], GroupHeader) {
        let mut header = GroupHeader {
            checksum: 0,
            previous: place.checksum,
            sequence: place.sequence.saturating_add(1),
            first_lsn: place.next_lsn,
            proven_lsn: proven.lsn,
            proven_sequence: proven.sequence,
            records: self.records,
            length: u32::try_from(disk_len(self.at.saturating_sub(GROUP_HEADER_LEN))).unwrap_or(u32::MAX),
        };
        let data_len = self.buffer.as_slice().len().saturating_sub(self.sector);
        let (data, xor) = self.buffer.as_mut_slice().split_at_mut(data_len);
        MAGIC.put(data, &GROUP_MAGIC);
        PREVIOUS.put(data, &header.previous.to_le_bytes());
        SEQUENCE.put(data, &header.sequence.to_le_bytes());
        FIRST_LSN.put(data, &header.first_lsn.to_le_bytes());
        PROVEN_LSN.put(data, &header.proven_lsn.to_le_bytes());
        PROVEN_SEQUENCE.put(data, &header.proven_sequence.to_le_bytes());
        RECORDS.put(data, &header.records.to_le_bytes());
        LENGTH.put(data, &header.length.to_le_bytes());
        header.checksum = compute(data, seed);
        CHECKSUM.put(data, &header.checksum.to_le_bytes());
        for chunk in data.chunks(self.sector) {
            xor_into(xor, chunk);
        }
        (self.buffer.as_slice(), header)
    }
}

/// Through where the log is known to have been synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) lsn: u64,
    pub(crate) sequence: u64,
}

impl Proven {
    /// The further of two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { lsn: self.lsn.max(other.lsn), sequence: self.sequence.max(other.sequence) }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::is_zero;
    use crate::record::StoredRecords;

    fn build(payloads: &[Vec<u8>], sector: usize, place: ChainEnd, seed: u64) -> (Vec<u8>, GroupHeader) {
        let mut builder = GroupBuilder::new();
        builder.begin(payloads.iter().map(|payload| payload.len() + 8).sum(), sector);
        for payload in payloads {
            builder.push(RecordKind::COMMIT, CodecId::RAW, payload, &[]);
        }
        let (bytes, header) = builder.finish(place, Proven { lsn: 3, sequence: 2 }, seed);
        (bytes.to_vec(), header)
    }

    #[test]
    fn the_longest_records_fill_the_longest_group() {
        for sector in [512, 4_096] {
            let longest = records_len_max(GROUP_BYTES_MAX, sector);
            assert_eq!(total_len(longest, sector), GROUP_BYTES_MAX);
            assert_eq!(total_len(longest + 1, sector), GROUP_BYTES_MAX + sector);
        }
    }

    proptest! {
        #[test]
        fn groups_round_trip(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..20),
            large_sectors: bool, seed: u64, checksum: u64, sequence in 0..u64::MAX, next_lsn in 1..u64::MAX / 2,
        ) {
            let sector = if large_sectors { 4_096 } else { 512 };
            let place = ChainEnd { checksum, sequence, next_lsn };
            let (bytes, header) = build(&payloads, sector, place, seed);
            prop_assert_eq!(bytes.len() % sector, 0);
            prop_assert!(is_zero(&xor_of(&bytes, sector)), "the XOR of the whole is zero");
            prop_assert_eq!(verify(&bytes, seed, sector), Some(header));
            prop_assert_eq!(verify(&bytes, seed ^ 1, sector), None);
            prop_assert!(place.is_followed_by(&header));
            let found: Vec<Vec<u8>> = StoredRecords::new(records_of(&bytes, header))
                .map(|record| record.unwrap().inline.to_vec())
                .collect();
            prop_assert_eq!(found, payloads);
        }

        #[test]
        fn a_changed_bit_never_verifies(
            payload in prop::collection::vec(any::<u8>(), 0..2_000), at: prop::sample::Index, bit in 0..8_u8
        ) {
            let (mut bytes, _) = build(&[payload], 512, ChainEnd::START, 7);
            let data = bytes.len() - 512;
            let at = at.index(data);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(verify(&bytes, 7, 512), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_group(mut bytes in prop::collection::vec(any::<u8>(), 0..4_096), magic: bool) {
            if magic && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&GROUP_MAGIC);
            }
            prop_assert_eq!(verify(&bytes, 1, 512), None);
        }
    }
}
