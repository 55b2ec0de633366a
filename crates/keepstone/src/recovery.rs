//! What opening a store found and did.

use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::Timeline;
use serde::Serialize;

use crate::store::Store;

/// What opening a store found and did, see [`Store::recovery`](crate::Store::recovery).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the store had been closed in order, or is new.
    pub clean: bool,
    /// The timeline of new versions.
    #[serde(serialize_with = "timeline_number")]
    pub timeline: Timeline,
    /// Whether this opening began the timeline, because something was cut or may have been lost.
    pub timeline_changed: bool,
    /// Records of the log that were read.
    pub records: u64,
    /// Segments of the log that were read.
    pub segments: u64,
    /// Groups of commits that were copied because nothing proved yet that they were durable.
    pub copied_groups: u64,
    /// Bytes of a torn write that were cut. Nothing of them was ever acknowledged at `Normal` or `Full`.
    pub cut_bytes: u64,
    /// Sectors that were rebuilt, one line each.
    pub healed: Vec<String>,
    /// Where files went that could not be healed.
    pub quarantined: Vec<PathBuf>,
    /// Whether the log has commits past the proven mark that a read-only opening cannot prove durable.
    pub unproven: bool,
    /// Whether the store was last used with `Relaxed` or `None`, so that acknowledged commits may be missing.
    pub relaxed_before: bool,
    /// How long it took.
    pub elapsed: Duration,
}

fn timeline_number<S: serde::Serializer>(timeline: &Timeline, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(timeline.get())
}

impl Store {
    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> RecoveryReport {
        let found = self.inner.database.recovery();
        RecoveryReport {
            clean: found.clean,
            timeline: found.timeline,
            timeline_changed: found.timeline_changed,
            records: found.records,
            segments: u64::try_from(found.segments).unwrap_or(u64::MAX),
            copied_groups: found.copied_groups,
            cut_bytes: found.cut_bytes,
            healed: found.healed_sectors.iter().map(ToString::to_string).collect(),
            quarantined: found.quarantined.clone(),
            unproven: found.unproven.is_some(),
            relaxed_before: found.relaxed_before,
            elapsed: found.elapsed,
        }
    }
}
