//! Opening a log: lock, examine, resume, replay, start.

use std::path::Path;

use keepstone_types::{Clock, Lsn, StoreId, lock_rank};
use keepstone_vfs::{LockError, OpenMode, OpenOptions, Vfs, VfsLock, WriteMode};

use crate::background;
use crate::catalog::Catalog;
use crate::error::{OpenError, ReadError, Repair};
use crate::group::Proven;
use crate::keeper::Keeper;
use crate::log::Replay;
use crate::options::{Access, LogOptions, Tending};
use crate::pins::{PinsFile, Reach};
use crate::queue::Queue;
use crate::reader::{LogReader, ReadSide};
use crate::recovery::repair::{self, Resumed, info, rebuilt_sectors};
use crate::recovery::scan::Stop;
use crate::recovery::{Examined, Site, examine};
use crate::report::{RecoveryReport, Replayed};
use crate::segment::segment_path;
use crate::sink::LogSink;
use crate::stats::{Counter, Counters};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex};
use crate::tail::{Place, Tail};
use crate::writer::Writer;

/// The name of the file whose lock keeps a second writer out.
const LOCK: &str = "LOCK";

/// A log on its way to being open: what was found, and where it goes on.
struct Opening {
    resumed: Resumed,
    report: RecoveryReport,
    pins: PinsFile,
    readable: Proven,
}

/// Opens a log.
pub(crate) fn open<S: LogSink>(
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: LogOptions,
    sink: Arc<S>,
    admission: impl FnOnce(&RecoveryReport) -> S::Admission,
    replay: Replay<'_>,
) -> Result<(Arc<Writer<S>>, RecoveryReport), OpenError> {
    let began = clock.monotonic();
    options.check()?;
    let site = Site { vfs: vfs.as_ref(), dir, options: &options };
    let (lock, opening) = match options.access {
        Access::Write => {
            let lock = take_lock(site)?;
            (Some(lock), open_for_writing(site)?)
        }
        Access::ReadOnly => (None, open_for_reading(site)?),
    };
    let Opening { resumed, mut report, pins, readable } = opening;
    let tail = open_tail(site, &resumed, clock.as_ref())?;
    let read_side = ReadSide {
        vfs: Arc::clone(&vfs),
        dir: dir.to_path_buf(),
        store: report.store_id,
        catalog: Catalog::new(resumed.segments, pins),
        readable_sequence: AtomicU64::new(readable.sequence),
        visible: AtomicU64::new(report.last_lsn.get()),
        proven_lsn: AtomicU64::new(readable.lsn),
        healed: Counter::default(),
    };
    let read_side = Arc::new(read_side);
    run_replay(&read_side, &report, replay)?;
    report.elapsed = clock.monotonic().saturating_sub(began);
    let durable = if options.access == Access::Write { report.last_lsn } else { report.proven };
    let writer = Arc::new(Writer {
        read_side,
        clock,
        sink,
        queue: Mutex::new(lock_rank::LOG_QUEUE, Queue::new(admission(&report), resumed.end.next_lsn)),
        bells: Default::default(),
        tail: Mutex::new(lock_rank::LOG_APPEND, tail),
        aside_over: Condvar::new(),
        keeper: Keeper::new(options.segment_bytes_min, lock, options.tending == Tending::Caller),
        counters: Counters::default(),
        durable: AtomicU64::new(durable.get()),
        next_number: AtomicU64::new(resumed.highest.saturating_add(1)),
        last_group_micros: AtomicU64::new(0),
        unsynced_since_micros: AtomicU64::new(0),
        unsynced_commits: AtomicU64::new(0),
        unsynced_delay_micros: AtomicU64::new(u64::MAX),
        marked_sequence: AtomicU64::new(resumed.end.sequence),
        options,
    });
    if writer.options.access == Access::Write && writer.options.tending == Tending::Thread {
        background::start(&writer)?;
    }
    Ok((writer, report))
}

fn take_lock(site: Site<'_>) -> Result<Box<dyn VfsLock>, OpenError> {
    site.vfs.create_dir(site.dir)?;
    let parent = site.dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match site.vfs.sync_dir(parent) {
        // Who may not even look into the folder above did not create this one just now.
        Err(error) if error.io_kind() != std::io::ErrorKind::PermissionDenied => return Err(error.into()),
        _ => {}
    }
    let holder = format!("keepstone-wal, process {}", std::process::id());
    site.vfs.lock(&site.dir.join(LOCK), &holder).map_err(|error| match error {
        LockError::Held { holder, .. } => OpenError::Locked { dir: site.dir.to_path_buf(), holder },
        LockError::Io(error) => error.into(),
        // The enum may grow; whatever it says, the lock was not taken.
        other => OpenError::Locked { dir: site.dir.to_path_buf(), holder: other.to_string() },
    })
}

fn open_for_writing(site: Site<'_>) -> Result<Opening, OpenError> {
    let pins = PinsFile::read(site.vfs, site.dir)?;
    let Some(examined) = examine(site, pins.as_ref())? else {
        return create(site);
    };
    let mut report = report_of(site, &examined);
    let store = examined.store;
    let resumed = repair::resume(site, examined)?;
    let mut pins = pins.unwrap_or_else(|| PinsFile::new(store));
    note_reach(site, &mut pins, &resumed)?;
    report.timeline = resumed.timeline;
    report.timeline_changed = resumed.timeline_changed;
    report.copied_groups = resumed.copied_groups;
    report.healed_sectors.clone_from(&resumed.healed);
    report.quarantined.clone_from(&resumed.quarantined);
    report.next_lsn = Lsn::new(resumed.end.next_lsn);
    report.unproven = None;
    let readable = Proven { lsn: u64::MAX, sequence: resumed.end.sequence };
    Ok(Opening { resumed, report, pins, readable })
}

/// Writes down in which segment and timeline the log goes on, unless that is known: should they be lost, that they were
/// there is known. Nothing else says it of a segment that recovery made, because what it cut takes no seal.
fn note_reach(site: Site<'_>, pins: &mut PinsFile, resumed: &Resumed) -> Result<(), OpenError> {
    let (segment, timeline) = (resumed.header.number, resumed.timeline);
    if (pins.reach.segment, pins.reach.timeline) != (segment, timeline) {
        pins.reach = Reach { segment, next_lsn: resumed.end.next_lsn, timeline };
        pins.write(site.vfs, site.dir)?;
    }
    Ok(())
}

fn create(site: Site<'_>) -> Result<Opening, OpenError> {
    let store = match site.options.store_id {
        Some(store) => store,
        None => {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|error| OpenError::Random(error.to_string()))?;
            StoreId::from_bytes(id)
        }
    };
    let resumed = repair::create(site, store)?;
    let mut pins = PinsFile::new(store);
    note_reach(site, &mut pins, &resumed)?;
    let report = RecoveryReport {
        timeline: resumed.timeline,
        timeline_changed: false,
        clean: true,
        records: 0,
        groups: 0,
        segments: 0,
        copied_groups: 0,
        cut_bytes: 0,
        healed_sectors: Vec::new(),
        quarantined: Vec::new(),
        unproven: None,
        proven: Lsn::ZERO,
        first_lsn: Lsn::FIRST,
        last_lsn: Lsn::ZERO,
        next_lsn: Lsn::FIRST,
        store_id: store,
        owner_mark: [0; 16],
        relaxed_before: false,
        elapsed: Default::default(),
    };
    let readable = Proven { lsn: u64::MAX, sequence: resumed.end.sequence };
    Ok(Opening { resumed, report, pins, readable })
}

/// Looks this often at a log that always looks different, at most.
const LOOKS_MAX: usize = 16;

/// Examines a log that somebody else may be writing to. A look takes time, so it may find a later group and not the one
/// before it, or a name and no longer the file: what looks torn or damaged is believed when it looks so twice.
fn examine_at_rest(site: Site<'_>) -> Result<Option<(Examined, Option<PinsFile>)>, OpenError> {
    let look = || -> Result<Option<(Examined, Option<PinsFile>)>, OpenError> {
        let pins = PinsFile::read(site.vfs, site.dir)?;
        Ok(examine(site, pins.as_ref())?.map(|examined| (examined, pins)))
    };
    let mut before = None;
    for _ in 1..LOOKS_MAX {
        let found = look();
        let last = found.as_ref().map(|found| found.as_ref().and_then(|(examined, _)| examined.last()));
        let doubt = match last {
            Ok(last) => last
                .filter(|last| last.scan.stop != Stop::End)
                .map(|last| format!("{:?} after {:?}", last.scan.stop, last.scan.end)),
            Err(error) => Some(error.to_string()),
        };
        if doubt.is_none() || doubt == before {
            return found;
        }
        before = doubt;
    }
    look()
}

fn open_for_reading(site: Site<'_>) -> Result<Opening, OpenError> {
    let not_found = || OpenError::NotFound { dir: site.dir.to_path_buf() };
    let (examined, pins) = match examine_at_rest(site) {
        Err(OpenError::Io(error)) if error.is_not_found() => return Err(not_found()),
        examined => examined?.ok_or_else(not_found)?,
    };
    let report = report_of(site, &examined);
    let pins = pins.unwrap_or_else(|| PinsFile::new(examined.store));
    let Some(last) = examined.last() else { return Err(not_found()) };
    let segments = examined.kept.iter().zip(examined.kept.iter().skip(1)).map(|(kept, _)| {
        let end = &kept.scan.end;
        info(kept, Some(crate::catalog::SegmentEnd { sequence: end.sequence, next_lsn: end.next_lsn }))
    });
    let resumed = Resumed {
        header: last.member.header,
        end: last.scan.end,
        offset: last.scan.end_offset,
        timeline: last.scan.timeline,
        timeline_changed: false,
        copied_groups: 0,
        healed: Vec::new(),
        quarantined: Vec::new(),
        segments: segments.chain([info(last, None)]).collect(),
        highest: examined.listing.highest,
        ends_clean: examined.is_clean(),
    };
    let readable = Proven { lsn: report.proven.get(), sequence: resumed.end.sequence };
    Ok(Opening { resumed, report, pins, readable })
}

/// What was found, before anything is written.
fn report_of(site: Site<'_>, examined: &Examined) -> RecoveryReport {
    let last = examined.last();
    let last_lsn = examined.last_lsn();
    let clean = examined.is_clean();
    let known = examined.proven().lsn.max(site.options.known_durable.get());
    let proven = if clean { last_lsn } else { known.min(last_lsn) };
    let cut = |stop: &Stop| if let Stop::Torn { bytes } = stop { *bytes } else { 0 };
    RecoveryReport {
        timeline: last.map_or_else(Default::default, |last| last.scan.timeline),
        timeline_changed: false,
        clean,
        records: examined.kept.iter().map(|kept| kept.scan.records()).sum(),
        groups: examined.kept.iter().map(|kept| crate::layout::disk_len(kept.scan.groups.len())).sum(),
        segments: examined.kept.len(),
        copied_groups: 0,
        cut_bytes: last.map_or(0, |last| cut(&last.scan.stop)),
        healed_sectors: rebuilt_sectors(examined, Repair::InMemory),
        quarantined: Vec::new(),
        unproven: (last_lsn > proven).then(|| Lsn::new(proven).next()),
        proven: Lsn::new(proven),
        first_lsn: Lsn::new(examined.kept.first().map_or(1, |first| first.member.header.first_lsn)),
        last_lsn: Lsn::new(last_lsn),
        next_lsn: Lsn::new(last.map_or(1, |last| last.scan.end.next_lsn)),
        store_id: examined.store,
        owner_mark: last.map_or([0; 16], |last| last.member.header.owner_mark),
        relaxed_before: last.is_some_and(|last| last.member.header.relaxed),
        elapsed: Default::default(),
    }
}

fn open_tail(site: Site<'_>, resumed: &Resumed, clock: &dyn Clock) -> Result<Tail, OpenError> {
    let (mode, write) = match site.options.access {
        Access::Write => (OpenMode::Write, site.options.write_mode),
        Access::ReadOnly => (OpenMode::Read, WriteMode::Cached),
    };
    let path = segment_path(site.dir, resumed.header.number);
    let file = site.vfs.open(&path, OpenOptions { mode, write })?;
    let place = Place { offset: resumed.offset, end: resumed.end, ends_clean: resumed.ends_clean };
    Ok(Tail::new(file, resumed.header, place, resumed.timeline, write, clock.monotonic()))
}

fn run_replay(
    read_side: &Arc<ReadSide>,
    report: &RecoveryReport,
    replay: Replay<'_>,
) -> Result<(), OpenError> {
    let opened = |error: ReadError| match error {
        ReadError::Io(error) => OpenError::Io(error),
        ReadError::Damaged(damage) => OpenError::Damaged { damage, next_lsn: report.first_lsn },
        ReadError::Released { asked, .. } => repair_gap(read_side, asked),
    };
    let reader = LogReader::new(Arc::clone(read_side), report.first_lsn).map_err(opened)?;
    for replayed in reader {
        let replayed = replayed.map_err(opened)?;
        let lsn = match &replayed {
            Replayed::Record(record) => record.lsn,
            Replayed::Timeline(change) => change.next,
        };
        replay(replayed).map_err(|source| OpenError::Replay { lsn, source })?;
    }
    Ok(())
}

/// The first record of a log that was just examined is gone: somebody else has removed it.
fn repair_gap(read_side: &ReadSide, asked: Lsn) -> OpenError {
    let number = read_side.catalog.state.lock().segments.front().map_or(1, |first| first.header.number);
    let expected = crate::segment::segment_name(number);
    OpenError::MissingSegment { dir: read_side.dir.clone(), number, expected, next_lsn: asked }
}
