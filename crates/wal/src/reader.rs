//! Reading a log in order, group by group, while it is written.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

use keepstone_types::{Lsn, StoreId, Timeline, ValueRef};
use keepstone_vfs::{OpenOptions, Vfs, VfsFile, VfsFileExt};

use crate::catalog::{Catalog, SegmentEnd, SegmentInfo};
use crate::error::{Damage, ReadError};
use crate::group::{self, ChainEnd, GROUP_BYTES_MAX, records_of};
use crate::layout::{disk_len, memory_len};
use crate::record::{RecordKind, StoredRecords, TimelineRecord};
use crate::recovery::heal::next_group;
use crate::recovery::image::Image;
use crate::report::{Replayed, ReplayedRecord, TimelineChange};
use crate::segment::{HEADER_BYTES, segment_path};
use crate::side_file;
use crate::stats::Counter;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Bytes read at a time.
const READ_AHEAD: usize = 256 << 10;

/// What a reader needs of a log.
#[derive(Debug)]
pub(crate) struct ReadSide {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) catalog: Catalog,
    /// Groups through this sequence may be read.
    pub(crate) readable_sequence: AtomicU64,
    /// The last record that is visible. Groups become readable a moment before their records do, so that a reader finds
    /// whatever is visible; what it finds is given out when it is.
    pub(crate) visible: AtomicU64,
    /// Records after this LSN are unproven.
    pub(crate) proven_lsn: AtomicU64,
    pub(crate) healed: Counter,
}

/// A segment that is being read.
#[derive(Debug)]
struct Place {
    number: u64,
    file: Arc<dyn VfsFile>,
    seed: u64,
    sector: usize,
    length: u64,
    offset: u64,
    chain: ChainEnd,
    window: Vec<u8>,
    window_at: u64,
}

impl Place {
    fn open(vfs: &dyn Vfs, dir: &Path, segment: &SegmentInfo) -> Result<Self, ReadError> {
        let header = &segment.header;
        Ok(Self {
            number: header.number,
            file: vfs.open(&segment_path(dir, header.number), OpenOptions::READ)?,
            seed: header.seed(),
            sector: usize::try_from(header.sector).unwrap_or(4_096),
            length: header.length,
            offset: HEADER_BYTES,
            chain: header.start(),
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// The bytes from the current offset on that are in memory.
    fn ahead(&self) -> &[u8] {
        let skip = self.offset.checked_sub(self.window_at).map_or(usize::MAX, memory_len);
        self.window.get(skip..).unwrap_or_default()
    }

    /// Reads ahead from the current offset. What cannot be read is left to healing.
    fn refill(&mut self) {
        let len = self.length.saturating_sub(self.offset).min(disk_len(READ_AHEAD.max(GROUP_BYTES_MAX)));
        self.window.resize(memory_len(len), 0);
        self.window_at = self.offset;
        let there = self.file.read_up_to_at(&mut self.window, self.offset).unwrap_or(0);
        self.window.truncate(there);
    }

    /// The next group's bytes in the window, verified, and its header.
    fn try_group(&self) -> Option<group::GroupHeader> {
        let header = group::verify(self.ahead(), self.seed, self.sector)?;
        self.chain.is_followed_by(&header).then_some(header)
    }

    /// Finds the next group, which is known to be there. True when it had to be rebuilt.
    fn find_group(&mut self, path: &Path) -> Result<(group::GroupHeader, bool), ReadError> {
        if let Some(header) = self.try_group() {
            return Ok((header, false));
        }
        self.refill();
        if let Some(header) = self.try_group() {
            return Ok((header, false));
        }
        let len = self.length.saturating_sub(self.offset).min(disk_len(GROUP_BYTES_MAX));
        let mut image = Image::read(self.file.as_ref(), self.offset, len, self.sector)?;
        match next_group(&mut image, 0, self.seed, self.chain) {
            Some(found) => {
                self.window = image.bytes;
                self.window_at = self.offset;
                Ok((found.header, true))
            }
            None => {
                let expected = format!("group {}", self.chain.sequence.saturating_add(1));
                let found = "bytes that are no group";
                Err(ReadError::Damaged(Box::new(Damage::new(
                    path.to_path_buf(),
                    self.offset,
                    expected,
                    found,
                ))))
            }
        }
    }
}

/// Reads a log in order, from a record on, up to what is durable.
///
/// `next` gives `None` when it has caught up; later calls give what has become durable since. It ends after an error.
/// While it lives, it holds the segment it is in and all later ones.
pub struct LogReader {
    read_side: Arc<ReadSide>,
    hold: u64,
    place: Option<Place>,
    next_segment: u64,
    from: u64,
    ready: VecDeque<Replayed>,
    failed: bool,
}

impl LogReader {
    pub(crate) fn new(read_side: Arc<ReadSide>, from: Lsn) -> Result<Self, ReadError> {
        let from = from.get().max(1);
        let (hold, number) = {
            let mut catalog = read_side.catalog.state.lock();
            let first = catalog.first_lsn();
            let Some(number) = catalog.segment_of(from).map(|segment| segment.header.number) else {
                return Err(ReadError::Released { asked: Lsn::new(from), first: Lsn::new(first) });
            };
            (catalog.add_reader(number), number)
        };
        Ok(Self {
            read_side,
            hold,
            place: None,
            next_segment: number,
            from,
            ready: VecDeque::new(),
            failed: false,
        })
    }

    /// Whether a record of a readable group, which is durable, may be seen.
    fn is_visible(&self, lsn: Lsn) -> bool {
        lsn.get() <= self.read_side.visible.load(Ordering::Acquire)
    }

    /// Opens the segment that is next. False when there is none.
    fn enter_segment(&mut self) -> Result<bool, ReadError> {
        let segment = {
            let mut catalog = self.read_side.catalog.state.lock();
            let Some(segment) = catalog.segment(self.next_segment).cloned() else { return Ok(false) };
            catalog.move_reader(self.hold, segment.header.number);
            segment
        };
        self.place = Some(Place::open(self.read_side.vfs.as_ref(), &self.read_side.dir, &segment)?);
        Ok(true)
    }

    /// Reads the next group into `ready`. False when there is none yet.
    fn read_group(&mut self) -> Result<bool, ReadError> {
        let readable = self.read_side.readable_sequence.load(Ordering::Acquire);
        if self.place.is_none() && !self.enter_segment()? {
            return Ok(false);
        }
        let Some(place) = &mut self.place else { return Ok(false) };
        let (end, after) = {
            let catalog = self.read_side.catalog.state.lock();
            let end: Option<SegmentEnd> = catalog.segment(place.number).and_then(|segment| segment.end);
            (end, catalog.after(place.number).map(|segment| segment.header.number))
        };
        if let (true, Some(after)) = (end.is_some_and(|end| place.chain.sequence >= end.sequence), after) {
            self.next_segment = after;
            self.place = None;
            return Ok(true);
        }
        if place.chain.sequence >= readable {
            return Ok(false);
        }
        let path = segment_path(&self.read_side.dir, place.number);
        let (header, rebuilt) = place.find_group(&path)?;
        self.read_side.healed.add(u64::from(rebuilt));
        let offset = place.offset;
        let records = ValueRef::copy_from(records_of(place.ahead(), header));
        place.offset = offset.saturating_add(disk_len(header.total_len(place.sector)));
        place.chain = ChainEnd::after(&header);
        self.take_records(&path, offset, header, &records)?;
        Ok(true)
    }

    fn take_records(
        &mut self,
        path: &Path,
        offset: u64,
        header: group::GroupHeader,
        records: &ValueRef,
    ) -> Result<(), ReadError> {
        let damaged = |expected: &str, found: String| {
            ReadError::Damaged(Box::new(Damage::new(path.to_path_buf(), offset, expected, found)))
        };
        let proven = self.read_side.proven_lsn.load(Ordering::Acquire);
        let mut lsn = header.first_lsn;
        for record in StoredRecords::new(records) {
            let record = record.map_err(|fault| damaged("records", fault.to_string()))?;
            if record.kind == RecordKind::TIMELINE {
                let change = TimelineRecord::decode(record.inline)
                    .ok_or_else(|| damaged("a change of timeline", "another payload".to_owned()))?;
                if let Some(place) = &mut self.place {
                    place.chain.next_lsn = change.next;
                }
                if change.next >= self.from {
                    self.ready.push_back(Replayed::Timeline(TimelineChange {
                        timeline: Timeline::new(change.timeline),
                        after: Lsn::new(change.after),
                        next: Lsn::new(change.next),
                    }));
                }
            }
            if record.kind.is_own() {
                continue;
            }
            if lsn >= self.from {
                let payload = match record.side {
                    None => slice_of(records, record.inline),
                    Some(side) => {
                        let side_file = &self.read_side;
                        let read = side_file::read(
                            side_file.vfs.as_ref(),
                            &side_file.dir,
                            side_file.store,
                            side,
                            record.inline,
                        )?;
                        read.map_err(|damage| ReadError::Damaged(Box::new(damage)))?.into()
                    }
                };
                let (kind, codec, unproven) = (record.kind, record.codec, lsn > proven);
                let lsn = Lsn::new(lsn);
                self.ready.push_back(Replayed::Record(ReplayedRecord {
                    lsn,
                    kind,
                    codec,
                    payload,
                    unproven,
                }));
            }
            lsn = lsn.saturating_add(1);
        }
        Ok(())
    }
}

/// The part of `whole` that `part` borrows, sharing its memory.
fn slice_of(whole: &ValueRef, part: &[u8]) -> ValueRef {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    whole.slice(start..start.saturating_add(part.len())).unwrap_or_else(|| ValueRef::copy_from(part))
}

impl Iterator for LogReader {
    type Item = Result<Replayed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.ready.front() {
                Some(Replayed::Record(record)) if !self.is_visible(record.lsn) => return None,
                Some(_) => return self.ready.pop_front().map(Ok),
                None => {}
            }
            match self.read_group() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.read_side.catalog.state.lock().remove_reader(self.hold);
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("from", &self.from).finish_non_exhaustive()
    }
}
