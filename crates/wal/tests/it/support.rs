//! What the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepstone_types::{CodecId, Lsn, ManualClock, SystemClock};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};
use keepstone_wal::{Log, LogOptions, OpenError, Record, RecordKind, Replayed};

/// Records that were found: number and payload.
pub(crate) type Found = Vec<(Lsn, Vec<u8>)>;

/// The folder of the log in tests.
pub(crate) const DIR: &str = "/log";

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

/// A record with this text.
pub(crate) fn record(text: &str) -> Record {
    Record::with_codec(RecordKind::WRITE, CodecId::RAW, text.as_bytes().to_vec())
}

/// A record of `len` bytes that tell which one it is.
pub(crate) fn long_record(seed: usize, len: usize) -> Record {
    Record::with_codec(RecordKind::WRITE, CodecId::RAW, long_payload(seed, len))
}

pub(crate) fn long_payload(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31 + seed * 17) % 253) as u8).collect()
}

pub(crate) fn small() -> LogOptions {
    LogOptions::default().segment_bytes_min(128 << 10).segment_bytes_max(256 << 10)
}

pub(crate) fn open(disk: &MemoryVfs, options: LogOptions) -> Result<Log, OpenError> {
    open_on(Arc::new(disk.clone()), options)
}

pub(crate) fn open_on(disk: Arc<dyn Vfs>, options: LogOptions) -> Result<Log, OpenError> {
    Log::open_with(disk, Arc::new(SystemClock::default()), dir(), options, &mut |_| Ok(()))
}

/// Everything a log replays: LSN and payload of records.
pub(crate) fn replay(
    disk: &MemoryVfs,
    options: LogOptions,
) -> Result<(Log, Found, Vec<Replayed>), OpenError> {
    let mut all = Vec::new();
    let log = Log::open_with(
        Arc::new(disk.clone()),
        Arc::new(SystemClock::default()),
        dir(),
        options,
        &mut |entry| {
            all.push(entry);
            Ok(())
        },
    )?;
    Ok((log, records(&all), all))
}

pub(crate) fn records(all: &[Replayed]) -> Vec<(Lsn, Vec<u8>)> {
    all.iter()
        .filter_map(|entry| match entry {
            Replayed::Record(record) => Some((record.lsn, record.payload.to_vec())),
            _ => None,
        })
        .collect()
}

/// What a log reads back.
pub(crate) fn read_all(log: &Log) -> Vec<(Lsn, Vec<u8>)> {
    let all: Vec<_> = log.read_from(log.recovery().first_lsn).unwrap().map(Result::unwrap).collect();
    records(&all)
}

/// The segments on the disk, by number.
pub(crate) fn segments(disk: &dyn Vfs) -> Vec<PathBuf> {
    let entries = disk.list(dir()).unwrap_or_default();
    entries.iter().filter(|entry| entry.name.ends_with(".wal")).map(|entry| dir().join(&entry.name)).collect()
}

pub(crate) fn bytes_of(disk: &dyn Vfs, path: &Path) -> Vec<u8> {
    disk.read_file(path, 1 << 30).unwrap()
}

pub(crate) fn overwrite(disk: &dyn Vfs, path: &Path, offset: u64, bytes: &[u8]) {
    disk.open(path, OpenOptions::WRITE).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Opens with a clock that stands still, so that the keeper writes no mark.
pub(crate) fn open_timeless(disk: Arc<dyn Vfs>, options: LogOptions) -> Result<Log, OpenError> {
    Log::open_with(disk, Arc::new(ManualClock::default()), dir(), options, &mut |_| Ok(()))
}

/// Where each group of a segment begins and how long it is, found by its magic and its length field.
pub(crate) fn groups_of(bytes: &[u8], sector: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 8_192;
    while at + 64 <= bytes.len() && bytes[at..].starts_with(b"KSWALGRP") {
        let length = u32::from_le_bytes(bytes[at + 60..at + 64].try_into().unwrap()) as usize;
        let total = (length + 64).div_ceil(sector) * sector + sector;
        found.push((at, total));
        at += total;
    }
    found
}

/// A log in memory of so many records, each in a group of its own, as a crash would leave it.
pub(crate) fn crashed(texts: &[&str], options: &LogOptions) -> MemoryVfs {
    let disk = MemoryVfs::new();
    let log = open_timeless(Arc::new(disk.clone()), options.clone()).unwrap();
    for text in texts {
        log.append(record(text)).unwrap();
    }
    disk.snapshot()
}

pub(crate) fn texts(found: &[(Lsn, Vec<u8>)]) -> Vec<String> {
    found.iter().map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()).collect()
}
