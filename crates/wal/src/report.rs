//! What opening a log found, did, and hands on.

use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::{CodecId, Lsn, StoreId, Timeline, ValueRef};

use crate::error::Damage;
use crate::record::RecordKind;

/// A record as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayedRecord {
    /// Its number.
    pub lsn: Lsn,
    /// What it is.
    pub kind: RecordKind,
    /// How its payload is encoded.
    pub codec: CodecId,
    /// The content, joined with what a side file holds of it.
    pub payload: ValueRef,
    /// Past the proven mark, in a log opened for reading: the next writer may find that it was not durable.
    pub unproven: bool,
}

/// The log went on on another timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimelineChange {
    /// The timeline of later records.
    pub timeline: Timeline,
    /// The last record before the change.
    pub after: Lsn,
    /// The number of the next record. Numbers between the two may have been given to records that were cut.
    pub next: Lsn,
}

/// What a replay is handed, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replayed {
    /// A record.
    Record(ReplayedRecord),
    /// A change of timeline.
    Timeline(TimelineChange),
}

/// What opening a log found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The timeline of new records.
    pub timeline: Timeline,
    /// Whether this opening began it.
    pub timeline_changed: bool,
    /// Whether the log had been closed in order (or is new).
    pub clean: bool,
    /// Records found.
    pub records: u64,
    /// Groups found.
    pub groups: u64,
    /// Segments found.
    pub segments: usize,
    /// Groups past the proven mark that were copied to a fresh segment.
    pub copied_groups: u64,
    /// Bytes, in whole sectors, that were written but are no group: a torn write, which was cut.
    pub cut_bytes: u64,
    /// Sectors that were rebuilt.
    pub healed_sectors: Vec<Damage>,
    /// Where files went that could not be healed.
    pub quarantined: Vec<PathBuf>,
    /// The first record past the proven mark, in a log opened for reading.
    pub unproven: Option<Lsn>,
    /// Everything through it was proven to have been durable when the log was found.
    pub proven: Lsn,
    /// The first record that the log still has, or would give next.
    pub first_lsn: Lsn,
    /// The last record.
    pub last_lsn: Lsn,
    /// The number of the next record.
    pub next_lsn: Lsn,
    /// The store.
    pub store_id: StoreId,
    /// The mark that the layer above left in the log.
    pub owner_mark: [u8; 16],
    /// Whether the log was last used with `Relaxed` or `None`.
    pub relaxed_before: bool,
    /// Time from the call until the log could be used, the replay included.
    pub elapsed: Duration,
}
