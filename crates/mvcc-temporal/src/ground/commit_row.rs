//! How a commit stands in the tree of commits: its sequence, big-endian, to its version, time, rows, and the checkpoint
//! that folded it.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::wire::{Reader, put_varint};
use keepstone_types::{Generation, Timeline, Timestamp, Version};

use crate::history::CommitInfo;

/// A commit that is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitRow {
    pub(crate) info: CommitInfo,
    /// The first generation of the checkpoint that folded it: its rows are in pages that are not older.
    pub(crate) begun: Generation,
}

pub(crate) fn key(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

impl CommitRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.extend(self.info.version.timeline().get().to_le_bytes());
        out.extend(self.info.time.as_micros().to_le_bytes());
        out.extend(self.begun.to_bytes());
        put_varint(&mut out, self.info.rows);
        out
    }

    /// `None` for what no build of this format writes.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let sequence = u64::from_be_bytes(key.try_into().ok()?);
        let mut reader = Reader::new(value);
        let timeline = Timeline::new(reader.u16().ok()?);
        let time = Timestamp::from_micros(reader.u64().ok()?);
        let begun = Generation::from_bytes(reader.array().ok()?);
        let rows = reader.varint().ok()?;
        let version = Version::from_parts(timeline, sequence).filter(|version| version.sequence() > 0)?;
        reader.is_empty().then_some(Self { info: CommitInfo::new(version, time, rows), begun })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_what_is_cut() {
        let version = Version::from_parts(Timeline::new(2), 300).unwrap();
        let info = CommitInfo::new(version, Timestamp::from_micros(5), 1_000);
        let row = CommitRow { info, begun: Generation::new(9).unwrap() };
        let bytes = row.encode();
        assert_eq!(CommitRow::decode(&key(300), &bytes), Some(row));
        assert_eq!(CommitRow::decode(&key(0), &bytes), None);
        assert_eq!(CommitRow::decode(&[0; 7], &bytes), None);
        for len in 0..bytes.len() {
            assert_eq!(CommitRow::decode(&key(300), &bytes[..len]), None, "{len}");
        }
    }
}
