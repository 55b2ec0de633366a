//! Reading one segment from its first group to its last, and telling rot from a torn tail.
//!
//! A place where no group can be found is *damage* when anything shows that a group there was durable: the successor's
//! header that names a later end, a later group that was written after a sync, what the layer above knows. It is a *torn
//! tail* when nothing does and the bytes are not all zero, and the *end* when all are.
#![deny(clippy::arithmetic_side_effects)]

use std::path::Path;

use keepstone_types::{Lsn, Timeline};

use super::heal::{Found, next_group};
use super::image::Image;
use crate::error::{Damage, OpenError};
use crate::group::{self, ChainEnd, GroupHeader, Proven, records_of};
use crate::layout::{disk_len, is_zero, memory_len};
use crate::record::{RecordKind, SideReference, StoredRecord, StoredRecords, TimelineRecord};
use crate::segment::{HEADER_BYTES, SegmentHeader};

/// A group that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSpan {
    /// Where in the file.
    pub(crate) offset: u64,
    pub(crate) total: usize,
    pub(crate) header: GroupHeader,
    /// It changes the timeline.
    pub(crate) timeline: Option<TimelineRecord>,
    pub(crate) clean_close: bool,
    pub(crate) seal: bool,
}

impl GroupSpan {
    /// Whether losing it would lose something.
    pub(crate) const fn has_content(&self) -> bool {
        self.header.records > 0 || self.timeline.is_some()
    }

    /// Where the chain stands after it.
    pub(crate) fn end(&self) -> ChainEnd {
        let end = ChainEnd::after(&self.header);
        self.timeline.map_or(end, |change| ChainEnd { next_lsn: change.next, ..end })
    }
}

/// How a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end that the successor names, or where only zeros follow.
    End,
    /// At bytes that were written and are no group.
    Torn {
        /// Bytes of the sectors that are not zero.
        bytes: u64,
    },
    /// At damage.
    Damaged(Damage),
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) groups: Vec<GroupSpan>,
    /// Where the chain stands after the last group.
    pub(crate) end: ChainEnd,
    /// Where the next group would be written.
    pub(crate) end_offset: u64,
    /// The furthest that header and groups say was synced.
    pub(crate) proven: Proven,
    /// Rebuilt sectors: where, and what they hold.
    pub(crate) rebuilt: Vec<(u64, Vec<u8>)>,
    /// Side files that records name, each with the index of its group.
    pub(crate) sides: Vec<(usize, SideReference)>,
    pub(crate) timeline: Timeline,
    pub(crate) stop: Stop,
}

impl Scan {
    /// Forgets the group at `index` and all after it.
    pub(crate) fn truncate(&mut self, index: usize, header: &SegmentHeader) {
        if let Some(first) = self.groups.get(index) {
            self.end_offset = first.offset;
        }
        self.groups.truncate(index);
        self.sides.retain(|(group, _)| *group < index);
        self.end = self.groups.last().map_or(header.start(), GroupSpan::end);
        let changed = self.groups.iter().rev().find_map(|group| group.timeline);
        self.timeline = changed.map_or(header.timeline, |change| Timeline::new(change.timeline));
        let here = Proven { lsn: self.end.next_lsn.saturating_sub(1), sequence: self.end.sequence };
        self.proven =
            Proven { lsn: self.proven.lsn.min(here.lsn), sequence: self.proven.sequence.min(here.sequence) };
    }

    /// The LSN of the last record in the segment, if it holds any. What a change of timeline skips is no record.
    pub(crate) fn last_lsn(&self) -> Option<u64> {
        let last = self.groups.iter().rev().find(|group| group.header.records > 0);
        last.map(|group| group.header.last_lsn())
    }

    /// Records that have an LSN.
    pub(crate) fn records(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.header.records)).sum()
    }
}

/// The highest LSN and timeline in whole groups after `from`, which nobody can reach through the chain any more.
pub(crate) fn beyond(image: &Image, header: &SegmentHeader, from: u64) -> (u64, Timeline) {
    let (mut lsn, mut timeline) = (0, header.timeline);
    for at in (memory_len(from)..image.bytes.len()).step_by(image.sector) {
        let bytes = image.bytes.get(at..).unwrap_or_default();
        let Some(group) = group::verify(bytes, header.seed(), image.sector) else { continue };
        lsn = lsn.max(group.last_lsn());
        for record in StoredRecords::new(records_of(bytes, group)).filter_map(Result::ok) {
            let change =
                TimelineRecord::decode(record.inline).filter(|_| record.kind == RecordKind::TIMELINE);
            if let Some(change) = change {
                lsn = lsn.max(change.next.saturating_sub(1));
                timeline = timeline.max(Timeline::new(change.timeline));
            }
        }
    }
    (lsn, timeline)
}

/// Where a segment must end, by its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedEnd {
    pub(crate) sequence: u64,
    /// Where the chain goes on; `None` while the segment is still written to.
    pub(crate) chain: Option<ChainEnd>,
}

impl NamedEnd {
    /// The end that the header of the successor names.
    pub(crate) fn of(next: &SegmentHeader) -> Self {
        Self { sequence: next.end_sequence, chain: Some(next.start()) }
    }
}

/// A segment about to be scanned.
pub(crate) struct Subject<'a> {
    pub(crate) path: &'a Path,
    pub(crate) header: &'a SegmentHeader,
    /// `None` for the last segment.
    pub(crate) named_end: Option<NamedEnd>,
    /// What came after it is known to be gone, so that a seal says nothing new.
    pub(crate) successor_gone: bool,
    /// The last LSN that the layer above knows to have been durable.
    pub(crate) known_durable: u64,
    /// Length of the file.
    pub(crate) file_len: u64,
}

/// What the records of a group, taken together, say.
#[derive(Default)]
struct Content {
    counted: u32,
    timeline: Option<TimelineRecord>,
    clean_close: bool,
    seal: bool,
    sides: Vec<SideReference>,
}

impl Subject<'_> {
    fn damage(&self, offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Damage {
        Damage::new(self.path.to_path_buf(), offset, expected, found)
    }

    /// Scans the segment. Healing happens in the image; nothing is written.
    pub(crate) fn scan(&self, image: &mut Image) -> Result<Scan, OpenError> {
        let start = self.header.start();
        let mut scan = Scan {
            groups: Vec::new(),
            end: start,
            end_offset: HEADER_BYTES,
            proven: self.header.proven,
            rebuilt: Vec::new(),
            sides: Vec::new(),
            timeline: self.header.timeline,
            stop: Stop::End,
        };
        let seed = self.header.seed();
        loop {
            if self.named_end.is_some_and(|end| scan.end.sequence >= end.sequence) {
                break;
            }
            let at = memory_len(scan.end_offset);
            let Some(found) = next_group(image, at, seed, scan.end) else { break };
            if let Some(damage) = self.take(image, at, found, &mut scan)? {
                scan.stop = Stop::Damaged(damage);
                return Ok(scan);
            }
        }
        scan.stop = self.judge_end(image, &scan);
        Ok(scan)
    }

    /// Takes a group into the scan.
    fn take(
        &self,
        image: &Image,
        at: usize,
        found: Found,
        scan: &mut Scan,
    ) -> Result<Option<Damage>, OpenError> {
        let offset = disk_len(at);
        let bytes = image.bytes.get(at..).unwrap_or_default();
        let content = match self.content(records_of(bytes, found.header), offset, found.header)? {
            Ok(content) => content,
            Err(damage) => return Ok(Some(damage)),
        };
        if let Some(index) = found.rebuilt {
            let from = index.saturating_mul(image.sector);
            let sector = bytes.get(from..from.saturating_add(image.sector)).unwrap_or_default();
            scan.rebuilt.push((offset.saturating_add(disk_len(from)), sector.to_vec()));
        }
        let span = GroupSpan {
            offset,
            total: found.total,
            header: found.header,
            timeline: content.timeline,
            clean_close: content.clean_close,
            seal: content.seal,
        };
        let header = &found.header;
        scan.proven = scan.proven.max(Proven { lsn: header.proven_lsn, sequence: header.proven_sequence });
        scan.timeline = content.timeline.map_or(scan.timeline, |change| Timeline::new(change.timeline));
        let index = scan.groups.len();
        scan.sides.extend(content.sides.into_iter().map(|side| (index, side)));
        scan.end = span.end();
        scan.end_offset = offset.saturating_add(disk_len(found.total));
        scan.groups.push(span);
        Ok(None)
    }

    /// Looks at the records of a group: the log's own are understood, all others only counted.
    fn content(
        &self,
        records: &[u8],
        offset: u64,
        header: GroupHeader,
    ) -> Result<Result<Content, Damage>, OpenError> {
        let mut content = Content::default();
        let (mut count, mut own) = (0_u64, false);
        for record in StoredRecords::new(records) {
            let record = match record {
                Ok(record) => record,
                Err(fault) => return Ok(Err(self.damage(offset, "records", fault.to_string()))),
            };
            self.must_know(&record, offset, header, content.counted)?;
            content.sides.extend(record.side);
            count = count.saturating_add(1);
            own |= record.kind.is_own();
            match record.kind {
                RecordKind::CLEAN_CLOSE => content.clean_close = true,
                RecordKind::SEAL => content.seal = true,
                RecordKind::TIMELINE => match TimelineRecord::decode(record.inline) {
                    Some(change) if change.after == header.last_lsn() => content.timeline = Some(change),
                    _ => return Ok(Err(self.damage(offset, "a change of timeline", "another payload"))),
                },
                kind if kind.is_own() => {}
                _ => content.counted = content.counted.saturating_add(1),
            }
        }
        // What is copied to a fresh segment are whole groups, so a seal must not travel with a commit.
        if own && count > 1 {
            let expected = "a record of the log's own alone in its group";
            return Ok(Err(self.damage(offset, expected, format!("{count} records"))));
        }
        if content.counted != header.records {
            let (expected, found) =
                (format!("{} records", header.records), format!("{} records", content.counted));
            return Ok(Err(self.damage(offset, expected, found)));
        }
        Ok(Ok(content))
    }

    fn must_know(
        &self,
        record: &StoredRecord<'_>,
        offset: u64,
        header: GroupHeader,
        before: u32,
    ) -> Result<(), OpenError> {
        if record.kind.is_known() {
            return Ok(());
        }
        let lsn = Lsn::new(header.first_lsn).plus(u64::from(before));
        Err(OpenError::UnknownRecord { file: self.path.to_path_buf(), offset, lsn, kind: record.kind })
    }

    /// What it means that no further group was found.
    fn judge_end(&self, image: &Image, scan: &Scan) -> Stop {
        let at = memory_len(scan.end_offset);
        if let Some(end) = self.named_end {
            let expected = end.chain.unwrap_or(ChainEnd { sequence: end.sequence, ..scan.end });
            return if scan.end == expected {
                Stop::End
            } else if scan.end.sequence < end.sequence {
                Stop::Damaged(self.lost_group(scan, &format!("{} groups", end.sequence), image))
            } else if scan.end.sequence > end.sequence {
                let expected = format!("group {} to be the last", end.sequence);
                Stop::Damaged(self.damage(scan.end_offset, expected, format!("group {}", scan.end.sequence)))
            } else if scan.end.checksum != expected.checksum {
                let expected = format!("checksum {:#018x} of the last group", expected.checksum);
                Stop::Damaged(self.damage(scan.end_offset, expected, format!("{:#018x}", scan.end.checksum)))
            } else {
                // No checksum covers the numbers that a segment without groups stands for.
                let expected = format!("LSN {} to come next", expected.next_lsn);
                Stop::Damaged(self.damage(scan.end_offset, expected, format!("LSN {}", scan.end.next_lsn)))
            };
        }
        if self.file_len != self.header.length {
            let expected = format!("a file of {} bytes", self.header.length);
            return Stop::Damaged(self.damage(self.file_len, expected, format!("{} bytes", self.file_len)));
        }
        let durable = scan.proven.lsn.max(self.known_durable);
        if durable >= scan.end.next_lsn || scan.proven.sequence > scan.end.sequence {
            return Stop::Damaged(self.lost_group(scan, &format!("records through LSN {durable}"), image));
        }
        let later = self.later_group(image, at, scan);
        if let Some(later) = later.filter(|later| later.proven_sequence > scan.end.sequence) {
            let expected = format!("records through LSN {}", later.proven_lsn);
            return Stop::Damaged(self.lost_group(scan, &expected, image));
        }
        let bytes: u64 = image
            .bytes
            .get(at..)
            .unwrap_or_default()
            .chunks(image.sector)
            .zip(image.lost.get(at.checked_div(image.sector).unwrap_or_default()..).unwrap_or_default())
            .filter(|(chunk, lost)| **lost || !is_zero(chunk))
            .map(|(chunk, _)| disk_len(chunk.len()))
            .sum();
        match scan.groups.last() {
            _ if bytes > 0 => Stop::Torn { bytes },
            // A seal is written when the successor has its name, so the successor was there.
            Some(last) if last.seal && !self.successor_gone => {
                Stop::Damaged(self.damage(last.offset, "a segment after the seal", "none"))
            }
            _ => Stop::End,
        }
    }

    fn lost_group(&self, scan: &Scan, expected: &str, image: &Image) -> Damage {
        let lost = image.any_lost(memory_len(scan.end_offset));
        let found = if lost { "sectors that cannot be read" } else { "bytes that are no group" };
        self.damage(
            scan.end_offset,
            format!("group {} (of {expected})", scan.end.sequence.saturating_add(1)),
            found,
        )
    }

    /// The first group after `at` that verifies and was written later than the last one found.
    fn later_group(&self, image: &Image, at: usize, scan: &Scan) -> Option<GroupHeader> {
        let seed = self.header.seed();
        let candidates = (at..image.bytes.len()).step_by(image.sector);
        let verified = |at: usize| group::verify(image.bytes.get(at..)?, seed, image.sector);
        // The last one knows most about what was synced before it.
        candidates
            .filter_map(verified)
            .filter(|header| header.sequence > scan.end.sequence.saturating_add(1))
            .max_by_key(|header| header.proven_sequence)
    }
}
