//! Whole folders: segments, side files and pins that follow each other nearly as they should, and then are damaged.
//!
//! What is checked of every folder, whatever is in it:
//! * Opening it never panics, and opening it read-only writes nothing.
//! * Opening it for writing is refused without a trace, or shows the records that reading showed.
//! * What was opened for writing shows the same records when it is opened again, after a close or a crash.
//! * The prefix that an error promises is what `Recovery::Prefix` keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use keepstone_types::{CodecId, Lsn, ManualClock, StoreId, Timeline};
use keepstone_vfs::{EntryKind, MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

use crate::error::OpenError;
use crate::group::{ChainEnd, GroupBuilder, Proven};
use crate::log::Log;
use crate::options::{Access, LogOptions, Recovery};
use crate::pins::{PINS, PinState, PinsFile, Reach};
use crate::record::{Record, RecordKind, TimelineRecord, stored_len};
use crate::report::Replayed;
use crate::segment::{HEADER_BYTES, SEGMENT_BYTES_LIMIT, SegmentHeader, segment_path};
use crate::side_file;

const DIR: &str = "/log";
/// Numbers beyond this are as far away as the gap of a new timeline can reach.
const LSN_FAR: u64 = 1 << 62;

pub(super) fn folder(input: &[u8]) {
    let disk = MemoryVfs::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    // What is short of bytes is a shorter folder.
    made(&mut Unstructured::new(input), &disk).unwrap_or_default();
    check(&disk);
}

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn put(disk: &MemoryVfs, path: &Path, bytes: &[u8]) {
    disk.open(path, OpenOptions::CREATE_NEW).unwrap().write_all_at(bytes, 0).unwrap();
}

fn made(input: &mut Unstructured<'_>, disk: &MemoryVfs) -> Result<()> {
    let twists: u8 = input.arbitrary()?;
    let mut builder = FolderBuilder {
        disk,
        store: StoreId::from_bytes([7; 16]),
        sector: if input.arbitrary()? { 512 } else { 4_096 },
        chain: ChainEnd::START,
        number: 0,
        timeline: Timeline::FIRST,
        proven: Proven::default(),
    };
    for _ in 0..input.int_in_range(1..=3)? {
        builder.segment(input)?;
    }
    if input.arbitrary()? {
        let mut pins = PinsFile::new(builder.store);
        if input.arbitrary()? {
            let (segment, next_lsn) = (input.int_in_range(0..=12)?, input.arbitrary::<u8>()?.into());
            pins.reach =
                Reach { segment, next_lsn, timeline: Timeline::new(input.arbitrary::<u8>()?.into()) };
        }
        if input.arbitrary()? {
            pins.released = input.arbitrary()?;
            let state = PinState { from: input.arbitrary()?, max_bytes: input.arbitrary()?, lost: false };
            pins.pins.insert("p".to_owned(), state);
        }
        put(disk, &dir().join(PINS), &pins.encode());
    }
    for _ in 0..twists % 4 {
        damage(input, disk)?;
    }
    Ok(())
}

struct FolderBuilder<'a> {
    disk: &'a MemoryVfs,
    store: StoreId,
    sector: usize,
    chain: ChainEnd,
    number: u64,
    timeline: Timeline,
    proven: Proven,
}

impl FolderBuilder<'_> {
    fn segment(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let predecessor = self.number;
        self.number += u64::from(input.int_in_range(1..=3_u8)?);
        let room = input.int_in_range(1..=12_usize)? * 4_096;
        let mut header = SegmentHeader {
            generation: 1,
            read_only_compat: 0,
            incompat: 0,
            store: self.store,
            number: self.number,
            length: HEADER_BYTES + u64::try_from(room).unwrap(),
            first_lsn: self.chain.next_lsn,
            predecessor,
            end_sequence: self.chain.sequence,
            end_checksum: self.chain.checksum,
            end_lsn: self.chain.next_lsn - 1,
            proven: self.proven,
            owner_mark: [5; 16],
            sector: u32::try_from(self.sector).unwrap(),
            relaxed: input.ratio(1_u8, 8)?,
            timeline: self.timeline,
        };
        if input.ratio(1_u8, 6)? {
            twist(&mut header, input)?;
        }
        let mut bytes = [header.encode(), header.encode()].concat();
        let length = usize::try_from(HEADER_BYTES).unwrap() + room;
        for _ in 0..input.int_in_range(0..=4_u8)? {
            self.group(input, &header, &mut bytes)?;
        }
        bytes.resize(length.max(bytes.len()), 0);
        put(self.disk, &segment_path(dir(), header.number), &bytes);
        Ok(())
    }

    fn group(
        &mut self,
        input: &mut Unstructured<'_>,
        header: &SegmentHeader,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let mut change = None;
        let mut records: Vec<(RecordKind, Vec<u8>, Vec<u8>)> = Vec::new();
        for _ in 0..input.int_in_range(0..=3_u8)? {
            let payload = input.arbitrary::<&[u8]>()?.to_vec();
            let (kind, payload, reference) = match input.int_in_range(0..=9_u8)? {
                0 => (RecordKind::MARK, Vec::new(), Vec::new()),
                1 => (RecordKind::SEAL, (header.number + 1).to_le_bytes().to_vec(), Vec::new()),
                2 => (RecordKind::CLEAN_CLOSE, Vec::new(), Vec::new()),
                3 => {
                    let after = self.chain.next_lsn - 1;
                    let next = (after + 1).saturating_add(input.arbitrary::<u8>()?.into());
                    let timeline = self.timeline.get().saturating_add(1);
                    change = Some(TimelineRecord { timeline, after, next });
                    (
                        RecordKind::TIMELINE,
                        TimelineRecord { timeline, after, next }.encode().to_vec(),
                        Vec::new(),
                    )
                }
                4 => (RecordKind::from_raw(input.arbitrary()?), payload, Vec::new()),
                5 => {
                    self.number += 1;
                    let number = self.number;
                    let side = side_file::write(self.disk, dir(), self.store, number, &payload).unwrap();
                    (RecordKind::COMMIT, b"head".to_vec(), side.encode().to_vec())
                }
                _ => (RecordKind::COMMIT, payload, Vec::new()),
            };
            let alone = kind.is_own() && !input.ratio(1_u8, 16)?;
            if alone {
                records.clear();
            }
            records.push((kind, payload, reference));
            if alone {
                break;
            }
        }
        let length = records.iter().map(|(_, inline, side)| stored_len(inline.len() + side.len())).sum();
        let mut builder = GroupBuilder::new();
        builder.begin(length, self.sector);
        for (kind, inline, side) in &records {
            builder.push(*kind, CodecId::RAW, inline, side);
        }
        let (group, made) = builder.finish(self.chain, self.proven, header.seed());
        if u64::try_from(bytes.len() + group.len()).unwrap() > header.length {
            return Ok(());
        }
        bytes.extend(group);
        if input.ratio(3_u8, 4)? {
            self.proven = Proven { lsn: made.last_lsn(), sequence: made.sequence };
        }
        self.chain = ChainEnd::after(&made);
        if let Some(change) = change {
            self.chain.next_lsn = change.next;
            self.timeline = Timeline::new(change.timeline);
        }
        Ok(())
    }
}

/// Says something else than what follows from the segments before.
fn twist(header: &mut SegmentHeader, input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=10_u8)? {
        0 => {
            header.end_lsn = header.end_lsn.saturating_add(input.arbitrary::<u16>()?.into());
            header.first_lsn = header.end_lsn.saturating_add(1);
        }
        1 => header.predecessor = input.int_in_range(0..=header.number - 1)?,
        2 => header.end_sequence = input.arbitrary()?,
        3 => header.end_checksum = input.arbitrary()?,
        4 => header.end_lsn = input.int_in_range(0..=header.first_lsn)?,
        5 => header.proven = Proven { lsn: input.arbitrary()?, sequence: input.arbitrary()? },
        6 => header.timeline = Timeline::new(input.arbitrary()?),
        7 => header.incompat = input.arbitrary()?,
        8 => header.read_only_compat = input.arbitrary()?,
        9 => header.length = input.int_in_range(HEADER_BYTES..=SEGMENT_BYTES_LIMIT)?,
        _ => header.store = StoreId::from_bytes(input.arbitrary()?),
    }
    Ok(())
}

/// Damages a file: a sector of it, its end, its name, or the whole of it.
fn damage(input: &mut Unstructured<'_>, disk: &MemoryVfs) -> Result<()> {
    let names: Vec<String> = disk.list(dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let path = dir().join(&names[input.choose_index(names.len())?]);
    let mut bytes = disk.read_file(&path, 1 << 30).unwrap();
    let at = input.choose_index(bytes.len().max(1))?;
    match input.int_in_range(0..=6_u8)? {
        0 => disk.remove(&path).unwrap(),
        1 => bytes.truncate(at),
        2 => bytes.extend(input.arbitrary::<&[u8]>()?),
        3 => drop(disk.rename(&path, &dir().join(format!("{:020}.wal", input.arbitrary::<u8>()?)))),
        kind => {
            let sector = if kind == 4 { 4_096 } else { 512 };
            let from = at / sector * sector;
            let end = (from + sector).min(bytes.len());
            let noise: &[u8] = input.arbitrary()?;
            bytes[from..end].fill(0);
            for (byte, noise) in bytes[from..end].iter_mut().zip(noise) {
                *byte = *noise;
            }
        }
    }
    if disk.exists(&path).unwrap() {
        disk.replace_file(&path, &bytes).unwrap();
    }
    Ok(())
}

/// A record as it was found.
type Seen = (Lsn, RecordKind, Vec<u8>);

struct Opened {
    log: Log,
    records: Vec<Seen>,
}

fn open(disk: &MemoryVfs, access: Access, recovery: Recovery) -> std::result::Result<Opened, OpenError> {
    let options = LogOptions::default().segment_bytes_min(128 << 10).segment_bytes_max(128 << 10);
    let mut records = Vec::new();
    let log = Log::open_with(
        Arc::new(disk.clone()),
        Arc::new(ManualClock::default()),
        dir(),
        options.access(access).recovery(recovery),
        &mut |entry| {
            if let Replayed::Record(record) = entry {
                records.push((record.lsn, record.kind, record.payload.to_vec()));
            }
            Ok(())
        },
    )?;
    assert!(records.is_sorted_by(|a, b| a.0 < b.0), "numbers ascend");
    Ok(Opened { log, records })
}

/// Every file of the folder with its content, but the lock's.
fn files(disk: &MemoryVfs, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in disk.list(dir).unwrap().into_iter().filter(|entry| entry.name != "LOCK") {
        let path = dir.join(&entry.name);
        match entry.kind {
            EntryKind::File => drop(found.insert(path.clone(), disk.read_file(&path, 1 << 30).unwrap())),
            _ => found.extend(files(disk, &path)),
        }
    }
    found
}

fn check(disk: &MemoryVfs) {
    let before = files(disk, dir());
    let read = open(disk, Access::ReadOnly, Recovery::Strict);
    let read = read.map(|opened| {
        let again: Vec<_> = opened.log.read_from(opened.log.recovery().first_lsn).unwrap().collect();
        assert!(again.iter().all(std::result::Result::is_ok), "what was replayed can be read again");
        opened.records
    });
    assert_eq!(files(disk, dir()), before, "reading writes nothing");
    let strict = disk.snapshot();
    match open(&strict, Access::Write, Recovery::Strict) {
        Ok(opened) => {
            match read {
                Ok(read) => assert_eq!(opened.records, read, "writing shows what reading showed"),
                Err(OpenError::NotFound { .. }) => assert_eq!(opened.records, []),
                Err(error) => panic!("opens for writing and not for reading: {error}"),
            }
            goes_on(&strict, opened);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(files(&strict, dir()), before, "a log that is refused is left alone: {error}");
            check_prefix(disk, &error);
        }
    }
}

/// What is kept of a damaged log is what the error said, and stays.
fn check_prefix(disk: &MemoryVfs, error: &OpenError) {
    let (OpenError::Damaged { next_lsn, .. } | OpenError::MissingSegment { next_lsn, .. }) = error else {
        return;
    };
    let prefix = disk.snapshot();
    if let Ok(opened) = open(&prefix, Access::Write, Recovery::Prefix) {
        assert!(opened.records.iter().all(|(lsn, ..)| lsn < next_lsn), "{error}: {:?}", opened.records);
        goes_on(&prefix, opened);
    }
}

/// A log that was opened for writing: it takes a record, and all is there after a crash and after a close.
fn goes_on(disk: &MemoryVfs, opened: Opened) {
    let Opened { log, mut records } = opened;
    let crashed = disk.snapshot();
    assert_eq!(open(&crashed, Access::Write, Recovery::Strict).unwrap().records, records, "after a crash");
    if log.recovery().next_lsn.get() < LSN_FAR {
        let record = Record::with_codec(RecordKind::COMMIT, CodecId::RAW, b"new".to_vec());
        let lsn = log.append(record).unwrap();
        assert!(records.iter().all(|(before, ..)| *before < lsn));
        records.push((lsn, RecordKind::COMMIT, b"new".to_vec()));
    }
    log.close().unwrap();
    drop(log);
    let closed = open(disk, Access::Write, Recovery::Strict).unwrap();
    assert_eq!(closed.records, records, "after a close");
    assert!(closed.log.recovery().clean);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of the first segment of a log.
    fn first_header(length: u64) -> SegmentHeader {
        SegmentHeader {
            generation: 1,
            read_only_compat: 0,
            incompat: 0,
            store: StoreId::from_bytes([7; 16]),
            number: 1,
            length,
            first_lsn: 1,
            predecessor: 0,
            end_sequence: 0,
            end_checksum: 0,
            end_lsn: 0,
            proven: Proven::default(),
            owner_mark: [0; 16],
            sector: 512,
            relaxed: false,
            timeline: Timeline::FIRST,
        }
    }

    /// A folder with these segments, in their order.
    fn segments(all: &[(SegmentHeader, Vec<u8>)]) -> MemoryVfs {
        let disk = MemoryVfs::new();
        disk.create_dir(dir()).unwrap();
        for (header, groups) in all {
            let mut bytes = [header.encode(), header.encode(), groups.clone()].concat();
            bytes.resize(usize::try_from(header.length).unwrap(), 0);
            put(&disk, &segment_path(dir(), header.number), &bytes);
        }
        disk
    }

    fn refused(disk: &MemoryVfs) -> String {
        check(disk);
        let opened = open(disk, Access::Write, Recovery::Strict);
        opened.map(|opened| opened.records).unwrap_err().to_string()
    }

    #[test]
    fn numbers_that_do_not_go_on_after_a_segment_without_groups_are_damage() {
        let first = SegmentHeader { first_lsn: 8, end_lsn: 7, ..first_header(32 << 10) };
        let second = SegmentHeader { number: 2, predecessor: 1, ..first_header(32 << 10) };
        let found = refused(&segments(&[(first, Vec::new()), (second, Vec::new())]));
        assert!(found.contains("expected LSN 1 to come next, found LSN 8"), "{found}");
    }

    #[test]
    fn a_seal_beside_a_commit_is_damage() {
        let header = first_header(32 << 10);
        let mut builder = GroupBuilder::new();
        builder.begin(stored_len(1) + stored_len(8), 512);
        builder.push(RecordKind::COMMIT, CodecId::RAW, b"x", &[]);
        builder.push(RecordKind::SEAL, CodecId::RAW, &2_u64.to_le_bytes(), &[]);
        let (group, _) = builder.finish(ChainEnd::START, Proven::default(), header.seed());
        let found = refused(&segments(&[(header, group.to_vec())]));
        assert!(found.contains("alone in its group, found 2 records"), "{found}");
    }

    #[test]
    fn a_short_segment_that_says_it_is_long_takes_little_memory() {
        let short: fn(&[u8]) = |_| {
            let disk = segments(&[]);
            let header = first_header(SEGMENT_BYTES_LIMIT).encode();
            put(&disk, &segment_path(dir(), 1), &[header.clone(), header, vec![0; 4_096]].concat());
            let opened = open(&disk, Access::ReadOnly, Recovery::Strict);
            let error = opened.map(|opened| opened.records).unwrap_err();
            assert!(error.to_string().contains("a file of 268435456 bytes"), "{error}");
        };
        keepstone_testkit::fuzzing::run(&("segment", short, [4 << 20, 0]), &[]);
    }
}
