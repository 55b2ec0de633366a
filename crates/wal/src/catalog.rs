//! The segments and side files of a log, who holds them, and which may go.
//!
//! Invariants:
//! * Segments stand in order; every one but the last knows where it ends.
//! * A segment goes only when everything in it is released and nobody holds it: no pin, no reader.
//! * What is released is on disk before the first file goes.

use std::collections::{BTreeMap, VecDeque};

use keepstone_types::{Lsn, lock_rank};

use crate::pins::{self, PinInfo, PinState, PinsFile, Reach};
use crate::segment::SegmentHeader;
use crate::sync::{Condvar, Mutex};

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Sequence of its last group.
    pub(crate) sequence: u64,
    /// LSN after its last record.
    pub(crate) next_lsn: u64,
}

/// A segment of the log.
#[derive(Clone, Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) header: SegmentHeader,
    /// `None` for the last.
    pub(crate) end: Option<SegmentEnd>,
    /// Numbers and body lengths of the side files that its records name.
    pub(crate) sides: Vec<(u64, u64)>,
}

impl SegmentInfo {
    fn side_bytes(&self) -> u64 {
        self.sides.iter().map(|(_, length)| *length).sum()
    }

    fn bytes(&self) -> u64 {
        self.header.length.saturating_add(self.side_bytes())
    }

    /// Whether its side files are larger than it is.
    pub(crate) fn is_heavy(&self) -> bool {
        self.side_bytes() > self.header.length
    }
}

/// What is guarded by the catalog's lock.
#[derive(Debug, Default)]
pub(crate) struct CatalogState {
    pub(crate) segments: VecDeque<SegmentInfo>,
    pub(crate) pins: BTreeMap<String, PinState>,
    /// Readers, by a number of their own, and the segment each is in.
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
    /// Everything through it was released.
    pub(crate) released: u64,
    /// What the pins file says of how far the log had come when it was opened.
    reach: Reach,
    /// Somebody is writing the pins file.
    pub(crate) saving: bool,
    /// Calls in progress that change files in the folder beside the way to the disk.
    pub(crate) calls: usize,
}

impl CatalogState {
    /// The first record that is still there, or would be next.
    pub(crate) fn first_lsn(&self) -> u64 {
        self.segments.front().map_or(1, |first| first.header.first_lsn)
    }

    /// The segment that holds a record, or would.
    pub(crate) fn segment_of(&self, lsn: u64) -> Option<&SegmentInfo> {
        self.segments.iter().rev().find(|segment| segment.header.first_lsn <= lsn)
    }

    /// The segment with this number and the one after it.
    pub(crate) fn segment(&self, number: u64) -> Option<&SegmentInfo> {
        self.segments.iter().find(|segment| segment.header.number == number)
    }

    /// The segment that follows.
    pub(crate) fn after(&self, number: u64) -> Option<&SegmentInfo> {
        self.segments.iter().find(|segment| segment.header.number > number)
    }

    /// Bytes of everything from the segment that holds `lsn` on.
    fn held_from(&self, lsn: u64) -> u64 {
        let holds = |segment: &&SegmentInfo| segment.end.is_none_or(|end| end.next_lsn > lsn);
        self.segments.iter().filter(holds).map(SegmentInfo::bytes).sum()
    }

    /// Bytes of all segments, side files left out.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.header.length).sum()
    }

    /// Registers a reader at a segment.
    pub(crate) fn add_reader(&mut self, number: u64) -> u64 {
        let id = self.next_reader;
        self.next_reader = self.next_reader.wrapping_add(1);
        self.readers.insert(id, number);
        id
    }

    /// A reader has gone on to another segment.
    pub(crate) fn move_reader(&mut self, id: u64, number: u64) {
        self.readers.insert(id, number);
    }

    /// A reader is gone.
    pub(crate) fn remove_reader(&mut self, id: u64) {
        self.readers.remove(&id);
    }

    /// What is known of each pin.
    pub(crate) fn pin_infos(&self) -> Vec<PinInfo> {
        self.pins
            .iter()
            .map(|(name, pin)| PinInfo {
                name: name.clone(),
                from: Lsn::new(pin.from),
                max_bytes: pin.max_bytes,
                held_bytes: if pin.lost { 0 } else { self.held_from(pin.from) },
                lost: pin.lost,
            })
            .collect()
    }

    /// Lets go of pins that hold more than they may.
    pub(crate) fn drop_excessive_pins(&mut self) -> bool {
        let excessive: Vec<String> = self
            .pins
            .iter()
            .filter(|(_, pin)| !pin.lost && self.held_from(pin.from) > pin.max_bytes)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &excessive {
            if let Some(pin) = self.pins.get_mut(name) {
                pin.lost = true;
            }
        }
        !excessive.is_empty()
    }

    /// Takes out the segments that may go: all released and none held, now and by what was `saved`. Others may have
    /// changed the catalog since and not saved it yet.
    pub(crate) fn take_free(&mut self, saved: &PinsFile) -> Vec<SegmentInfo> {
        let limit = pins::held_from(&self.pins).min(saved.gone().saturating_add(1));
        let read = self.readers.values().copied().min().unwrap_or(u64::MAX);
        let mut free = Vec::new();
        while let Some(first) = self.segments.front() {
            let goes = first.end.is_some_and(|end| end.next_lsn <= limit) && first.header.number < read;
            if !goes {
                break;
            }
            free.extend(self.segments.pop_front());
        }
        free
    }

    /// What is written to the pins file.
    pub(crate) fn pins_file(&self, store: keepstone_types::StoreId) -> PinsFile {
        PinsFile { store, released: self.released, reach: self.reach, pins: self.pins.clone() }
    }
}

/// The catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) state: Mutex<CatalogState>,
    /// The pins file is written.
    pub(crate) saved: Condvar,
    /// No call is in progress.
    pub(crate) quiet: Condvar,
}

/// A call that changes files in the folder; closing waits until it is dropped.
#[derive(Debug)]
#[must_use = "the folder may be let go when the pass is dropped"]
pub(crate) struct FolderPass<'a>(&'a Catalog);

impl Drop for FolderPass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.calls = state.calls.saturating_sub(1);
        if state.calls == 0 {
            self.0.quiet.notify_all();
        }
    }
}

impl Catalog {
    pub(crate) fn new(segments: Vec<SegmentInfo>, pins: PinsFile) -> Self {
        let state = CatalogState {
            segments: segments.into(),
            pins: pins.pins,
            released: pins.released,
            reach: pins.reach,
            ..CatalogState::default()
        };
        Self { state: Mutex::new(lock_rank::LOG_PINS, state), saved: Condvar::new(), quiet: Condvar::new() }
    }

    /// Counts a call that changes files in the folder. Whether the log was closed is looked at after that: who closes
    /// says so first and counts then, so one of the two sees the other.
    pub(crate) fn enter(&self) -> FolderPass<'_> {
        let mut state = self.state.lock();
        state.calls = state.calls.saturating_add(1);
        FolderPass(self)
    }

    /// Waits until no call changes files in the folder.
    pub(crate) fn wait_quiet(&self) {
        let mut state = self.state.lock();
        while state.calls > 0 {
            self.quiet.wait(&mut state);
        }
    }
}
