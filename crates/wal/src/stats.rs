//! Counters of a log, read at any time without stopping anyone.

use std::time::Duration;

use keepstone_types::Lsn;

use crate::sync::{CountU64, Ordering};

/// What a log has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Records written.
    pub records: u64,
    /// Groups written.
    pub groups: u64,
    /// Records of the largest group.
    pub group_records_max: u64,
    /// Bytes of payloads, side files included.
    pub payload_bytes: u64,
    /// Bytes of groups, padding and XOR sectors included.
    pub written_bytes: u64,
    /// Syncs of groups.
    pub syncs: u64,
    /// The usual time of a sync: a moving average with weight 1/8.
    pub sync_time: Duration,
    /// Times that a leader waited for those just woken.
    pub leader_waits: u64,
    /// Idle marks written.
    pub marks: u64,
    /// Segments begun.
    pub rotations: u64,
    /// Segments released.
    pub recycled: u64,
    /// Side files written.
    pub side_files: u64,
    /// Records refused because the queue stayed full.
    pub refused_full: u64,
    /// Records that failed because the disk was full.
    pub out_of_space: u64,
    /// Sectors rebuilt since the log was opened.
    pub healed: u64,
    /// Records queued now.
    pub queued: u64,
    /// Bytes queued now.
    pub queued_bytes: u64,
    /// Segments now.
    pub segments: u64,
    /// Bytes of all segments now.
    pub segment_bytes: u64,
    /// The last visible record.
    pub visible: Lsn,
    /// The last durable record.
    pub durable: Lsn,
}

/// A number that is only ever counted up.
#[derive(Debug, Default)]
pub(crate) struct Counter(CountU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn at_least(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`LogStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: Counter,
    pub(crate) groups: Counter,
    pub(crate) group_records_max: Counter,
    pub(crate) payload_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) syncs: Counter,
    pub(crate) sync_micros: Counter,
    pub(crate) leader_waits: Counter,
    pub(crate) marks: Counter,
    pub(crate) rotations: Counter,
    pub(crate) recycled: Counter,
    pub(crate) side_files: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) out_of_space: Counter,
    pub(crate) healed: Counter,
}

impl Counters {
    /// The counted part of the statistics; what is now, the caller adds.
    pub(crate) fn read(&self) -> LogStats {
        LogStats {
            records: self.records.get(),
            groups: self.groups.get(),
            group_records_max: self.group_records_max.get(),
            payload_bytes: self.payload_bytes.get(),
            written_bytes: self.written_bytes.get(),
            syncs: self.syncs.get(),
            sync_time: Duration::from_micros(self.sync_micros.get()),
            leader_waits: self.leader_waits.get(),
            marks: self.marks.get(),
            rotations: self.rotations.get(),
            recycled: self.recycled.get(),
            side_files: self.side_files.get(),
            refused_full: self.refused_full.get(),
            out_of_space: self.out_of_space.get(),
            healed: self.healed.get(),
            ..LogStats::default()
        }
    }
}
