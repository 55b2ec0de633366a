//! The writing half of recovery.
//!
//! Invariants:
//! * Nothing is appended to a segment in which something was cut, or whose last groups may exist only in the system's
//!   cache: those are copied to a fresh segment, which gets its name after everything in it is synced. Until then the
//!   old tail rules and the copy is made again; from then on it is dead.
//! * Numbers of records that may have been seen before they were cut are not given again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keepstone_types::{CodecId, StoreId, Timeline};
use keepstone_vfs::{IoError, OpenOptions, Vfs, VfsFile, VfsFileExt};

use super::folder::QUARANTINE;
use super::scan::{GroupSpan, Stop};
use super::{Examined, Kept, Site};
use crate::catalog::{SegmentEnd, SegmentInfo};
use crate::error::{Damage, OpenError, Repair};
use crate::group::{ChainEnd, GroupBuilder, Proven, records_of, total_len};
use crate::layout::{disk_len, memory_len, round_up};
use crate::record::{RecordKind, TIMELINE_LEN, TimelineRecord, stored_len};
use crate::segment::{
    HEADER_BYTES, SEGMENT_BYTES_LIMIT, SegmentHeader, scratch_path, segment_path, side_path,
};
use crate::wrong::{self, Wrong};
use crate::zeroed::{give_name, make_spare, write_header};

/// How many LSNs are left out when the timeline changes: more than a tail that was seen and lost can have held.
pub(crate) const TIMELINE_LSN_GAP: u64 = 1 << 32;
/// Sectors at the end of a segment that only a seal or a clean close may use.
pub(crate) const RESERVED_SECTORS: usize = 4;

/// Where a log goes on.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// The segment that is appended to.
    pub(crate) header: SegmentHeader,
    pub(crate) end: ChainEnd,
    pub(crate) offset: u64,
    pub(crate) timeline: Timeline,
    pub(crate) timeline_changed: bool,
    pub(crate) copied_groups: u64,
    pub(crate) healed: Vec<Damage>,
    pub(crate) quarantined: Vec<PathBuf>,
    pub(crate) segments: Vec<SegmentInfo>,
    /// The highest number of a segment or side file so far.
    pub(crate) highest: u64,
    /// The last thing in the log is a clean close.
    pub(crate) ends_clean: bool,
}

/// What has to be done before the log goes on.
struct Plan {
    /// The timeline of new records, if it changes.
    timeline: Option<Timeline>,
    /// Groups of the last segment that stay where they are; the others go to the fresh segment.
    staying: usize,
    fresh: bool,
    /// Commits may be lost without a trace from now on, so the last thing in the log must not be a clean close.
    unclean_mark: bool,
}

fn plan(site: Site<'_>, examined: &Examined) -> Result<Plan, OpenError> {
    let Some(last) = examined.last() else {
        return Ok(Plan { timeline: Some(Timeline::FIRST), staying: 0, fresh: true, unclean_mark: false });
    };
    let header = &last.member.header;
    let cut = matches!(last.scan.stop, Stop::Torn { .. });
    let seen_and_lost = header.relaxed && !examined.is_clean() && !wrong::is(Wrong::VersionReuse);
    let cut = cut && !wrong::is(Wrong::VersionReuse);
    let timeline = if cut || seen_and_lost || examined.shortened {
        let exhausted = || OpenError::TimelinesExhausted { dir: site.dir.to_path_buf() };
        Some(last.scan.timeline.max(examined.lost_timeline).next().ok_or_else(exhausted)?)
    } else {
        None
    };
    let proven = examined.proven().sequence;
    let unproven = |group: &GroupSpan| group.header.sequence > proven;
    let staying = last.scan.groups.iter().take_while(|group| !unproven(group)).count();
    let must_copy = last.scan.groups.iter().skip(staying).any(GroupSpan::has_content);
    let relaxed = site.options.durability.may_lose_acknowledged();
    let unclean_mark = relaxed && examined.is_clean();
    let mark_len = if unclean_mark { mark_len(header) } else { 0 };
    let full = last.scan.end_offset.saturating_add(mark_len) > header.length;
    let fresh = timeline.is_some() || must_copy || examined.broken || relaxed != header.relaxed || full;
    let (timeline, fresh) = if wrong::is(Wrong::AppendAfterCut) { (None, false) } else { (timeline, fresh) };
    // Of a file that is moved away, nothing stays.
    let staying = if examined.broken { 0 } else { staying };
    Ok(Plan { timeline, staying, fresh, unclean_mark })
}

/// Bytes that a mark needs before the reserve.
fn mark_len(header: &SegmentHeader) -> u64 {
    let sector = usize::try_from(header.sector).unwrap_or(4_096);
    disk_len(total_len(stored_len(0), sector).saturating_add(sector.saturating_mul(RESERVED_SECTORS)))
}

/// Heals, copies and moves away, so that the log can go on.
pub(crate) fn resume(site: Site<'_>, examined: Examined) -> Result<Resumed, OpenError> {
    let plan = plan(site, &examined)?;
    // Names that were found may be in the system's cache only: a process may have been killed between giving a segment
    // its name and syncing the folder. Nothing is acknowledged in a segment whose name could still be lost.
    site.vfs.sync_dir(site.dir)?;
    // What is of no value is in the way when the disk is full.
    remove_all(site, &examined.listing.scratch)?;
    let healed = write_healed(site, &examined)?;
    let mut resumed = if plan.fresh {
        go_on_in_fresh(site, &examined, &plan)?
    } else {
        go_on_in_place(site, &examined, &plan)?
    };
    resumed.healed = healed;
    resumed.quarantined = clear_away(site, &examined, &resumed)?;
    Ok(resumed)
}

/// What was rebuilt in memory, as damage that was found.
pub(crate) fn rebuilt_sectors(examined: &Examined, repair: Repair) -> Vec<Damage> {
    let mut found = Vec::new();
    let staying = examined.kept.len().saturating_sub(usize::from(examined.broken));
    for (index, kept) in examined.kept.iter().enumerate() {
        let repair = if index < staying { repair } else { Repair::InMemory };
        let damage = |offset: u64, expected: &str| {
            Damage::new(kept.member.path.clone(), offset, expected, "other bytes").with_repair(repair)
        };
        let copies = kept.member.bad_copies.iter().map(|offset| damage(*offset, "a copy of the header"));
        let sectors = kept.scan.rebuilt.iter().map(|(offset, _)| damage(*offset, "a sector of a group"));
        found.extend(copies.chain(sectors));
    }
    found
}

/// Writes a rebuilt sector, or a copy of a header, back and syncs it.
pub(crate) fn write_back(vfs: &dyn Vfs, path: &Path, parts: &[(u64, Vec<u8>)]) -> Result<(), IoError> {
    if parts.is_empty() {
        return Ok(());
    }
    let file = vfs.open(path, OpenOptions::WRITE)?;
    // What the parts are rebuilt from may be in the system's cache only, if a process was killed while it wrote it; a power
    // loss now must not find both in flight.
    file.sync_data()?;
    for (offset, bytes) in parts {
        file.write_all_at(bytes, *offset)?;
        file.sync_data()?;
    }
    Ok(())
}

fn write_healed(site: Site<'_>, examined: &Examined) -> Result<Vec<Damage>, OpenError> {
    let staying = examined.kept.len().saturating_sub(usize::from(examined.broken));
    for kept in examined.kept.iter().take(staying) {
        let header = kept.member.header.encode();
        let copies = kept.member.bad_copies.iter().chain(&kept.member.stale_copies);
        let copies = copies.map(|offset| (*offset, header.clone()));
        let parts: Vec<_> = copies.chain(kept.scan.rebuilt.iter().cloned()).collect();
        write_back(site.vfs, &kept.member.path, &parts)?;
    }
    Ok(rebuilt_sectors(examined, Repair::Healed))
}

/// A segment that stays, as the catalog knows it.
pub(crate) fn info(kept: &Kept, end: Option<SegmentEnd>) -> SegmentInfo {
    SegmentInfo {
        header: kept.member.header,
        end,
        sides: kept.scan.sides.iter().map(|(_, side)| (side.number, side.length)).collect(),
    }
}

fn infos(kept: &[Kept]) -> Vec<SegmentInfo> {
    let count = kept.len();
    let end = |index: usize, kept: &Kept| {
        let last = index.saturating_add(1) == count;
        (!last).then_some(SegmentEnd { sequence: kept.scan.end.sequence, next_lsn: kept.scan.end.next_lsn })
    };
    kept.iter().enumerate().map(|(index, kept)| info(kept, end(index, kept))).collect()
}

/// Nothing past the mark holds anything: the last segment is appended to.
fn go_on_in_place(site: Site<'_>, examined: &Examined, plan: &Plan) -> Result<Resumed, OpenError> {
    let (Some(last), Some(image)) = (examined.last(), &examined.last_image) else {
        return Err(OpenError::NotFound { dir: site.dir.to_path_buf() });
    };
    // Groups past the mark hold no records, but the chain goes through them, and they may be in the system's cache only.
    let unproven = last.scan.groups.iter().skip(plan.staying);
    let part = |group: &GroupSpan| {
        let at = memory_len(group.offset);
        let bytes = image.bytes.get(at..at.saturating_add(group.total)).unwrap_or_default();
        (group.offset, bytes.to_vec())
    };
    let mut parts: Vec<_> = unproven.map(part).collect();
    let (mut end, mut offset) = (last.scan.end, last.scan.end_offset);
    if plan.unclean_mark {
        let header = &last.member.header;
        let sector = usize::try_from(header.sector).unwrap_or(4_096);
        let mut builder = GroupBuilder::new();
        builder.begin(stored_len(0), sector);
        builder.push(RecordKind::MARK, CodecId::RAW, &[], &[]);
        let (bytes, mark) = builder.finish(end, last.scan.proven, header.seed());
        parts.push((offset, bytes.to_vec()));
        offset = offset.saturating_add(disk_len(bytes.len()));
        end = ChainEnd::after(&mark);
    }
    write_back(site.vfs, &last.member.path, &parts)?;
    Ok(Resumed {
        header: last.member.header,
        end,
        offset,
        timeline: last.scan.timeline,
        timeline_changed: false,
        copied_groups: 0,
        healed: Vec::new(),
        quarantined: Vec::new(),
        segments: infos(&examined.kept),
        highest: examined.listing.highest,
        ends_clean: examined.is_clean() && !plan.unclean_mark,
    })
}

/// The groups that go to the fresh segment, as bytes of records and what the header says of them.
struct Cargo<'a> {
    groups: Vec<(&'a GroupSpan, &'a [u8])>,
    timeline: Option<TimelineRecord>,
}

impl Cargo<'_> {
    /// Bytes of the groups in sectors of the given size.
    fn len(&self, sector: usize) -> u64 {
        let copies = self.groups.iter().map(|(_, records)| disk_len(total_len(records.len(), sector)));
        let change = total_len(stored_len(TIMELINE_LEN), sector);
        copies.sum::<u64>().saturating_add(disk_len(change))
    }
}

fn go_on_in_fresh(site: Site<'_>, examined: &Examined, plan: &Plan) -> Result<Resumed, OpenError> {
    let last = examined.last();
    let groups = last.map(|last| last.scan.groups.as_slice()).unwrap_or_default();
    let start = last.map_or(ChainEnd::START, |last| last.member.header.start());
    let mark = groups.get(..plan.staying).and_then(|groups| groups.last()).map_or(start, GroupSpan::end);
    let bytes = examined.last_image.as_ref().map(|image| image.bytes.as_slice()).unwrap_or_default();
    let records = |group: &GroupSpan| {
        let rest = bytes.get(memory_len(group.offset)..).unwrap_or_default();
        records_of(rest, group.header)
    };
    let moving = groups.iter().skip(plan.staying).filter(|group| group.has_content());
    let next_lsn = last.map_or(1, |last| last.scan.end.next_lsn);
    let change = plan.timeline.filter(|_| last.is_some()).map(|timeline| TimelineRecord {
        timeline: timeline.get(),
        after: next_lsn.saturating_sub(1),
        next: next_lsn.max(examined.lost_lsn).saturating_add(TIMELINE_LSN_GAP),
    });
    let cargo = Cargo { groups: moving.map(|group| (group, records(group))).collect(), timeline: change };
    let header = fresh_header(site, examined, &cargo, (plan.staying, mark));
    let scratch = scratch_path(site.dir, "fresh", header.number);
    let built = build(site, &scratch, header, &cargo, mark).map_err(|error| {
        if error.is_out_of_space() {
            let (dir, needed) = (site.dir.to_path_buf(), header.length);
            return OpenError::NoRoom { dir, needed, source: error };
        }
        error.into()
    })?;
    let staying = examined.kept.len().saturating_sub(usize::from(examined.broken));
    let mut segments: Vec<_> = infos(examined.kept.get(..staying).unwrap_or_default());
    if let Some(before) = segments.last_mut() {
        let end = if examined.broken { header.start() } else { mark };
        before.end = Some(SegmentEnd { sequence: end.sequence, next_lsn: end.next_lsn });
    }
    segments.push(SegmentInfo { header: built.header, end: None, sides: moved_sides(examined, plan) });
    Ok(Resumed {
        header: built.header,
        end: built.end,
        offset: built.offset,
        timeline: plan.timeline.or(last.map(|last| last.scan.timeline)).unwrap_or_default(),
        timeline_changed: change.is_some(),
        copied_groups: disk_len(cargo.groups.len()),
        healed: Vec::new(),
        quarantined: Vec::new(),
        segments,
        highest: header.number,
        ends_clean: false,
    })
}

/// Side files named by records that go to the fresh segment. Naming them twice does no harm: a side file goes when the
/// last segment that names it goes.
fn moved_sides(examined: &Examined, plan: &Plan) -> Vec<(u64, u64)> {
    let sides = examined.last().map(|last| last.scan.sides.as_slice()).unwrap_or_default();
    let moved = sides.iter().filter(|(group, _)| *group >= plan.staying);
    moved.map(|(_, side)| (side.number, side.length)).collect()
}

fn fresh_header(
    site: Site<'_>,
    examined: &Examined,
    cargo: &Cargo<'_>,
    (staying, mark): (usize, ChainEnd),
) -> SegmentHeader {
    let last = examined.last().map(|last| &last.member.header);
    let sector = match last {
        Some(last) if !cargo.groups.is_empty() => last.sector,
        _ => site.options.sector_size,
    };
    let sector_len = usize::try_from(sector).unwrap_or(4_096);
    let reserve = disk_len(RESERVED_SECTORS.saturating_mul(sector_len));
    let needed = HEADER_BYTES.saturating_add(cargo.len(sector_len)).saturating_add(reserve);
    // What a longest segment holds fits another one: a timeline takes less than the reserve did.
    let needed = needed.max(site.options.segment_bytes_min).min(SEGMENT_BYTES_LIMIT);
    let length = disk_len(round_up(memory_len(needed), 4_096));
    // A file that is moved away is no predecessor: its own is, and the chain goes on from there.
    let predecessor = match last {
        Some(last) if examined.broken => last.predecessor,
        Some(last) => last.number,
        None => 0,
    };
    let groups = disk_len(cargo.groups.len()).saturating_add(u64::from(cargo.timeline.is_some()));
    let last_lsn = examined.last().map_or(0, |last| last.scan.end.next_lsn.saturating_sub(1));
    let timeline = examined.last().map(|last| {
        let before = last.scan.groups.iter().take(staying).rev().find_map(|group| group.timeline);
        before.map_or(last.member.header.timeline, |change| Timeline::new(change.timeline))
    });
    SegmentHeader {
        generation: 0,
        read_only_compat: 0,
        incompat: 0,
        store: examined.store,
        number: examined.listing.highest.saturating_add(1),
        length,
        first_lsn: mark.next_lsn,
        predecessor,
        end_sequence: mark.sequence,
        end_checksum: mark.checksum,
        end_lsn: mark.next_lsn.saturating_sub(1),
        // Everything that is copied is synced before the segment gets its name.
        proven: Proven { lsn: last_lsn, sequence: mark.sequence.saturating_add(groups) },
        owner_mark: last.map(|last| last.owner_mark).unwrap_or_default(),
        sector,
        relaxed: site.options.durability.may_lose_acknowledged(),
        timeline: timeline.unwrap_or_default(),
    }
}

/// A segment that has its name.
struct Built {
    header: SegmentHeader,
    end: ChainEnd,
    offset: u64,
}

fn build(
    site: Site<'_>,
    scratch: &Path,
    header: SegmentHeader,
    cargo: &Cargo<'_>,
    mark: ChainEnd,
) -> Result<Built, IoError> {
    let spare = make_spare(site.vfs, scratch.to_path_buf(), header.length, &mut || {})?;
    let file = site.vfs.open(&spare.path, OpenOptions::WRITE)?;
    if wrong::is(Wrong::HeaderBeforeCopy) {
        write_header(file.as_ref(), &header)?;
        give_name(site.vfs, site.dir, &spare.path, header.number)?;
    }
    let mut built = Built { header, end: mark, offset: HEADER_BYTES };
    let mut builder = GroupBuilder::new();
    let sector = usize::try_from(header.sector).unwrap_or(4_096);
    for (group, records) in &cargo.groups {
        builder.begin(records.len(), sector);
        builder.push_encoded(records, group.header.records);
        put(file.as_ref(), &mut builder, &mut built, header)?;
        if let Some(change) = group.timeline {
            built.end.next_lsn = change.next;
        }
    }
    if let Some(change) = cargo.timeline {
        builder.begin(stored_len(TIMELINE_LEN), sector);
        builder.push(RecordKind::TIMELINE, CodecId::RAW, &change.encode(), &[]);
        put(file.as_ref(), &mut builder, &mut built, header)?;
        built.end.next_lsn = change.next;
    }
    if wrong::is(Wrong::HeaderBeforeCopy) {
        file.sync_all()?;
        return Ok(built);
    }
    write_header(file.as_ref(), &header)?;
    give_name(site.vfs, site.dir, &spare.path, header.number)?;
    Ok(built)
}

fn put(
    file: &dyn VfsFile,
    builder: &mut GroupBuilder,
    built: &mut Built,
    header: SegmentHeader,
) -> Result<(), IoError> {
    let before = Proven { lsn: header.end_lsn, sequence: header.end_sequence };
    let (bytes, group) = builder.finish(built.end, before, header.seed());
    file.write_all_at(bytes, built.offset)?;
    built.offset = built.offset.saturating_add(disk_len(bytes.len()));
    built.end = ChainEnd::after(&group);
    Ok(())
}

fn remove_all(site: Site<'_>, paths: &[PathBuf]) -> Result<(), IoError> {
    for path in paths {
        match site.vfs.remove(path) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Moves away what cannot be healed, and removes what no longer counts: segments that were released, and side files that
/// no record names.
fn clear_away(site: Site<'_>, examined: &Examined, resumed: &Resumed) -> Result<Vec<PathBuf>, IoError> {
    let named: BTreeSet<u64> =
        resumed.segments.iter().flat_map(|info| info.sides.iter().map(|(number, _)| *number)).collect();
    let orphans = examined.listing.sides.keys().filter(|number| !named.contains(number));
    let orphans = orphans.map(|number| side_path(site.dir, *number));
    let path = |number: &u64| segment_path(site.dir, *number);
    let mut moves: Vec<PathBuf> = examined.quarantine.iter().map(path).collect();
    let mut removals: Vec<PathBuf> = examined.spent.iter().map(path).collect();
    // An earlier opening may have died before it moved anything: what is moved now takes its side files with it.
    if examined.shortened || !moves.is_empty() {
        moves.extend(orphans)
    } else {
        removals.extend(orphans)
    }
    remove_all(site, &removals)?;
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    let quarantine = site.dir.join(QUARANTINE);
    site.vfs.create_dir(&quarantine)?;
    let mut moved = Vec::new();
    for from in moves {
        let to = quarantine.join(from.file_name().unwrap_or_default());
        site.vfs.rename(&from, &to)?;
        moved.push(to);
    }
    site.vfs.sync_dir(&quarantine)?;
    site.vfs.sync_dir(site.dir)?;
    Ok(moved)
}

/// The first segment of a new log.
pub(crate) fn create(site: Site<'_>, store: StoreId) -> Result<Resumed, OpenError> {
    let examined = Examined {
        listing: super::folder::Listing::read(site.vfs, site.dir)?,
        store,
        kept: Vec::new(),
        last_image: None,
        broken: false,
        shortened: false,
        quarantine: Vec::new(),
        spent: Vec::new(),
        lost_lsn: 0,
        lost_timeline: Timeline::FIRST,
    };
    resume(site, examined)
}

#[cfg(test)]
mod tests {
    use keepstone_vfs::MemoryVfs;

    use super::*;
    use crate::group::GroupHeader;
    use crate::options::LogOptions;
    use crate::recovery::folder::{Listing, Member};
    use crate::recovery::scan::Scan;

    /// A longest segment of another timeline, full to its reserve, none of which is proven: all of it is copied.
    #[test]
    fn what_the_longest_segment_holds_fits_a_segment_that_can_be_opened() {
        let (vfs, options) = (MemoryVfs::new(), LogOptions::default());
        let site = Site { vfs: &vfs, dir: Path::new("/log"), options: &options };
        let mut examined = Examined {
            listing: Listing { highest: 1, ..Listing::default() },
            store: StoreId::from_bytes([1; 16]),
            kept: Vec::new(),
            last_image: None,
            broken: false,
            shortened: false,
            quarantine: Vec::new(),
            spent: Vec::new(),
            lost_lsn: 0,
            lost_timeline: Timeline::FIRST,
        };
        let none = Cargo { groups: Vec::new(), timeline: None };
        let first = fresh_header(site, &examined, &none, (0, ChainEnd::START));
        let header = SegmentHeader { length: SEGMENT_BYTES_LIMIT, number: 1, ..first };
        let span = GroupSpan {
            offset: HEADER_BYTES,
            total: 8_192,
            header: GroupHeader::default(),
            timeline: None,
            clean_close: false,
            seal: false,
        };
        let reserve = disk_len(RESERVED_SECTORS * 4_096);
        let count = memory_len((SEGMENT_BYTES_LIMIT - HEADER_BYTES - reserve) / disk_len(span.total));
        examined.kept.push(Kept {
            member: Member {
                path: segment_path(site.dir, 1),
                header,
                file_len: header.length,
                bad_copies: Vec::new(),
                stale_copies: Vec::new(),
            },
            scan: Scan {
                groups: Vec::new(),
                end: ChainEnd::START,
                end_offset: header.length - reserve,
                proven: Proven::default(),
                rebuilt: Vec::new(),
                sides: Vec::new(),
                timeline: Timeline::FIRST,
                stop: Stop::End,
            },
        });
        let change = TimelineRecord { timeline: 1, after: 0, next: 1 };
        let cargo = Cargo { groups: vec![(&span, &[][..]); count], timeline: Some(change) };
        let fresh = fresh_header(site, &examined, &cargo, (0, ChainEnd::START));
        assert_eq!(SegmentHeader::decode(&fresh.encode()), Ok(fresh));
        assert!(HEADER_BYTES + cargo.len(4_096) <= fresh.length);
    }
}
