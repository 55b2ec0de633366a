//! A small log whose every byte is known: the program that writes it, what it must read back, and what is in its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keepstone_types::{CodecId, Lsn, ManualClock, StoreId};
use keepstone_vfs::simulated::{Dice, Event, SimulatedDisk, Tearing};
use keepstone_vfs::{EntryKind, Vfs, VfsExt};
use keepstone_wal::{AppendError, Log, LogOptions, OpenError, Record, RecordKind, Replayed, Tending};

use crate::subject::DIR;

/// Records by number.
pub(crate) type Records = BTreeMap<u64, Vec<u8>>;

/// Bytes of both copies of a header.
pub(crate) const HEADERS: usize = 8_192;
/// The unit in which disks lose bytes.
pub(crate) const SECTOR: usize = 512;

/// What a log is put through. Lengths are bytes of payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Append(usize),
    Batch(&'static [usize]),
    /// Time goes by until the idle mark is due, then the chores.
    Idle,
    OwnerMark(u8),
    /// All but the last so many records may go; then the chores.
    Release(u64),
    /// Closed in order and opened again.
    Reopen,
    Close,
}

/// The same bytes for the same record of the same store.
fn payload(store: u8, lsn: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(lsn ^ (u64::from(store) << 32));
    std::iter::repeat_with(|| dice.draw().to_le_bytes()).flatten().take(len).collect()
}

fn record(payload: Vec<u8>) -> Record {
    Record::with_codec(RecordKind::WRITE, CodecId::RAW, payload)
}

/// Segments of 128 KiB; side files from 50,000 bytes.
pub(crate) fn options(sector: u32) -> LogOptions {
    LogOptions::default()
        .sector_size(sector)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(128 << 10)
        .side_file_threshold(50_000)
        .tending(Tending::Caller)
}

/// Opens and replays; time stands still.
pub(crate) fn replay(disk: &SimulatedDisk, options: &LogOptions) -> Result<(Log, Records), OpenError> {
    open_at(disk, options, &Arc::default())
}

fn open_at(
    disk: &SimulatedDisk,
    options: &LogOptions,
    clock: &Arc<ManualClock>,
) -> Result<(Log, Records), OpenError> {
    let mut found = Records::new();
    let mut take = |replayed: Replayed| {
        if let Replayed::Record(record) = replayed {
            found.insert(record.lsn.get(), record.payload.to_vec());
        }
        Ok(())
    };
    let clock = Arc::<ManualClock>::clone(clock);
    let log = Log::open_with(Arc::new(disk.clone()), clock, Path::new(DIR), options.clone(), &mut take)?;
    Ok((log, found))
}

/// Everything a log reads back.
pub(crate) fn read_all(log: &Log) -> Records {
    let entries = log.read_from(log.recovery().first_lsn).unwrap().map(Result::unwrap);
    let records = entries.filter_map(|entry| match entry {
        Replayed::Record(record) => Some((record.lsn.get(), record.payload.to_vec())),
        _ => None,
    });
    records.collect()
}

/// What was known when a call returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// In the trace of the disk.
    pub(crate) position: usize,
    /// All through it was acknowledged.
    pub(crate) through: u64,
    /// All through it may be gone.
    pub(crate) released: u64,
}

/// A log that was used, and how far it came.
pub(crate) struct Life {
    pub(crate) disk: SimulatedDisk,
    pub(crate) options: LogOptions,
    store: u8,
    /// Everything that was acknowledged.
    pub(crate) records: Records,
    released: u64,
    /// Each acknowledgement.
    pub(crate) moments: Vec<Moment>,
    log: Option<Log>,
    clock: Arc<ManualClock>,
}

impl Life {
    /// An empty log on `disk`.
    pub(crate) fn begin(disk: SimulatedDisk, options: LogOptions, store: u8) -> Self {
        let options = options.store_id(Some(StoreId::from_bytes([store; 16])));
        Self {
            disk,
            options,
            store,
            records: Records::new(),
            released: 0,
            moments: Vec::new(),
            log: None,
            clock: Arc::default(),
        }
    }

    /// A whole life on a new disk.
    pub(crate) fn of(options: LogOptions, store: u8, acts: &[Act]) -> Self {
        let mut life = Self::begin(SimulatedDisk::new(1), options, store);
        life.open().unwrap();
        acts.iter().for_each(|act| life.act(*act).unwrap());
        life
    }

    /// Opens the log, and holds what it replays against what was acknowledged.
    pub(crate) fn open(&mut self) -> Result<(), OpenError> {
        let (log, found) = open_at(&self.disk, &self.options, &self.clock)?;
        assert!(found.iter().all(|(lsn, found)| self.records[lsn] == *found));
        assert!(self.records.keys().all(|lsn| found.contains_key(lsn) || *lsn <= self.released));
        self.log = Some(log);
        Ok(())
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn append(&mut self, lens: &[usize]) -> Result<(), AppendError> {
        let next = self.records.keys().next_back().map_or(1, |last| last + 1);
        let contents: Vec<_> =
            (next..).zip(lens).map(|(lsn, len)| (lsn, payload(self.store, lsn, *len))).collect();
        let batch = contents.iter().map(|(_, payload)| record(payload.clone())).collect();
        let lsns = self.log().append_batch(batch)?;
        assert!(lsns.iter().map(|lsn| lsn.get()).eq(contents.iter().map(|(lsn, _)| *lsn)));
        self.records.extend(contents);
        self.moments.push(self.now());
        Ok(())
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Moment {
        let through = self.records.keys().next_back().copied().unwrap_or(0);
        Moment { position: self.disk.position(), through, released: self.released }
    }

    pub(crate) fn act(&mut self, act: Act) -> Result<(), AppendError> {
        match act {
            Act::Append(len) => self.append(&[len])?,
            Act::Batch(lens) => self.append(lens)?,
            Act::Idle => {
                self.clock.advance(Duration::from_millis(25));
                self.log().tend();
            }
            Act::OwnerMark(mark) => self.log().set_owner_mark([mark; 16]).unwrap(),
            Act::Release(keep) => {
                let last = self.log().durable_lsn().get();
                self.released = last.saturating_sub(keep);
                self.log().release(Lsn::new(self.released)).unwrap();
                self.log().tend();
            }
            Act::Reopen => {
                self.log().close().unwrap();
                self.open().unwrap();
            }
            Act::Close => self.log().close().unwrap(),
        }
        Ok(())
    }

    /// The disk that is found when the power fails now.
    pub(crate) fn found(&self) -> SimulatedDisk {
        self.disk.power_loss(Tearing::LoseAll, &mut Dice::new(0), 2)
    }
}

/// Whether nobody has written to the disk since it was made or copied: no byte, no length, no name.
pub(crate) fn is_untouched(disk: &SimulatedDisk) -> bool {
    let harmless = |event: &Event| {
        matches!(event, Event::Sync { .. } | Event::SyncDir { .. } | Event::Rot { .. } | Event::Note(_))
    };
    disk.trace().events().iter().all(harmless)
}

/// All bytes of a file.
pub(crate) fn bytes_of(disk: &SimulatedDisk, path: &Path) -> Vec<u8> {
    disk.read_file(path, 1 << 30).unwrap()
}

/// One file per path: what is in it.
pub(crate) fn folder(disk: &SimulatedDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::from(DIR)];
    while let Some(dir) = folders.pop() {
        for entry in disk.list(&dir).unwrap() {
            let path = dir.join(&entry.name);
            match entry.kind {
                EntryKind::File => {
                    files.insert(path.clone(), bytes_of(disk, &path));
                }
                _ => folders.push(path),
            }
        }
    }
    files
}

/// A group in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) sequence: u64,
    pub(crate) proven: u64,
    pub(crate) first_lsn: u64,
    pub(crate) records: u64,
}

impl Group {
    pub(crate) fn end(&self) -> usize {
        self.at + self.len
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

/// A segment as it stands on the disk.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) groups: Vec<Group>,
    /// The sequence with which its predecessor ends.
    pub(crate) predecessor_end: u64,
    /// What its header says was synced.
    pub(crate) proven: u64,
}

/// The segments of a log, taken apart by the tables of `FORMAT.md` alone.
pub(crate) fn segments(disk: &SimulatedDisk, sector: usize) -> Vec<Segment> {
    let files = folder(disk).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "wal"));
    let segment = |(path, bytes): (PathBuf, Vec<u8>)| {
        let mut groups = Vec::new();
        let mut at = HEADERS;
        while bytes[at..].starts_with(b"KSWALGRP") {
            let len = (number(&bytes, at + 60, 4) as usize + 64).next_multiple_of(sector) + sector;
            let [sequence, first_lsn, proven] = [24, 32, 48].map(|field| number(&bytes, at + field, 8));
            let records = number(&bytes, at + 56, 4);
            groups.push(Group { at, len, sequence, proven, first_lsn, records });
            at += len;
        }
        let (predecessor_end, proven) = (number(&bytes, 88, 8), number(&bytes, 120, 8));
        Segment { path, bytes, groups, predecessor_end, proven }
    };
    files.map(segment).collect()
}

/// The furthest group that anything in the log says was synced.
pub(crate) fn proven_sequence(segments: &[Segment]) -> u64 {
    let of_groups = segments.iter().flat_map(|segment| segment.groups.iter().map(|group| group.proven));
    of_groups.chain(segments.iter().map(|segment| segment.proven)).max().unwrap()
}
