//! Writes that are lost although a sync said otherwise, that land elsewhere, or land twice: each write of a small program
//! in turn. And groups of another store, put where ours were.

use std::collections::BTreeMap;

use keepstone_types::{CodecId, StoreId};
use keepstone_vfs::simulated::{Dice, Event, Fault, SimulatedDisk, Tearing, WriteFate};
use keepstone_vfs::{OpenOptions, Vfs, VfsFileExt};
use keepstone_wal::{Access, OpenError, Record, RecordKind, Recovery};

use crate::fixture::{Act, Life, Records, folder, options, proven_sequence, read_all, replay, segments};

/// Rotates three times, uses a released segment again, and is closed and opened on the way.
const ACTS: [Act; 25] = [
    Act::Append(10),
    Act::Batch(&[100, 700, 30]),
    Act::Idle,
    Act::Append(3_000),
    Act::OwnerMark(7),
    Act::Append(60_000),
    Act::Append(20_000),
    Act::Reopen,
    Act::Append(40_000),
    Act::Append(40_000),
    Act::Idle,
    Act::Append(1_000),
    Act::Append(45_000),
    Act::Append(30_000),
    Act::Release(2),
    Act::Append(9_000),
    Act::Append(45_000),
    Act::OwnerMark(8),
    Act::Append(44_000),
    Act::Idle,
    Act::Batch(&[5, 400]),
    Act::Reopen,
    Act::Append(200),
    Act::Append(6_000),
    Act::Append(20),
];

/// How the program ends before the power fails.
const ENDS: [&[Act]; 3] = [&[], &[Act::Idle], &[Act::Close]];

/// What became of it, and how often.
#[derive(Debug, Default)]
struct Counts {
    whole: u64,
    reported: u64,
    /// The last group was gone, and nothing on the disk said that it had been there.
    silent: u64,
}

/// The writes of the program: the number of the change, and the length.
fn writes(life: &Life) -> Vec<(u64, usize)> {
    let trace = life.disk.trace();
    let changes = trace.events().iter().filter(|event| !matches!(event, Event::Note(_)));
    let writes = (0..).zip(changes).filter_map(|(change, event)| match event {
        Event::Write { payload, .. } => {
            let len = match payload {
                keepstone_vfs::simulated::Payload::Bytes(bytes) => bytes.len(),
                keepstone_vfs::simulated::Payload::Zeros(len) => *len,
                _ => 0,
            };
            Some((change, len))
        }
        _ => None,
    });
    writes.collect()
}

fn run(sector: u32, end: &[Act], fault: Option<Fault>) -> Life {
    let disk = SimulatedDisk::new(1);
    if let Some(fault) = fault {
        disk.inject(fault);
    }
    let mut life = Life::begin(disk, options(sector), 1);
    // Until the power fails everybody sees every write as it was meant.
    life.open().unwrap();
    ACTS.iter().chain(end).for_each(|act| life.act(*act).unwrap());
    life
}

/// The records of the last group that has any, as the log stands without a fault.
fn last_group(life: &Life, sector: usize) -> (u64, u64) {
    let segments = segments(&life.found(), sector);
    let groups = segments.iter().flat_map(|segment| &segment.groups);
    let last = groups.filter(|group| group.records > 0).max_by_key(|group| group.sequence).unwrap();
    (last.first_lsn, last.sequence)
}

/// Holds what is found against what was acknowledged. Gives the last record that is there, or the error.
fn judge(life: &Life, disk: &SimulatedDisk, through: u64, what: &str) -> Result<u64, OpenError> {
    let reading = replay(disk, &life.options.clone().access(Access::ReadOnly));
    assert_eq!(disk.changes(), 0, "{what}");
    let before = folder(disk);
    let opened = replay(disk, &life.options);
    if let Err(error) = opened {
        assert!(reading.is_err(), "{what}: {error}");
        let named = match &error {
            OpenError::Damaged { damage, .. } => damage.file.exists_on(disk) || error.to_string().contains("no file"),
            error => matches!(error, OpenError::MissingSegment { .. }),
        };
        assert!(named, "{what}: {error}");
        assert!(folder(disk) == before, "{what}: nothing is written");
        if let Ok((log, found)) = replay(disk, &life.options.clone().recovery(Recovery::Prefix)) {
            only_what_was_written(life, &found, what);
            goes_on(life, &log, what);
        }
        return Err(error);
    }
    let (log, found) = opened?;
    assert!(reading.is_ok_and(|(_, reading)| reading == found), "{what}");
    only_what_was_written(life, &found, what);
    let last = found.keys().next_back().copied().unwrap_or(log.recovery().last_lsn.get());
    let missing = life.records.range(life.released + 1..=last.min(through)).find(|(lsn, _)| !found.contains_key(lsn));
    assert_eq!(missing.map(|(lsn, _)| lsn), None, "{what}: a gap");
    goes_on(life, &log, what);
    Ok(last)
}

trait ExistsOn {
    fn exists_on(&self, disk: &SimulatedDisk) -> bool;
}

impl ExistsOn for std::path::PathBuf {
    fn exists_on(&self, disk: &SimulatedDisk) -> bool {
        folder(disk).contains_key(self)
    }
}

fn only_what_was_written(life: &Life, found: &Records, what: &str) {
    for (lsn, found) in found {
        assert!(life.records.get(lsn) == Some(found), "{what}: record {lsn} reads otherwise");
    }
}

/// What was opened takes a record and reads it back.
fn goes_on(life: &Life, log: &keepstone_wal::Log, what: &str) {
    let more = Record::with_codec(RecordKind::WRITE, CodecId::RAW, b"more".to_vec());
    let lsn = log.append(more).unwrap();
    assert!(read_all(log)[&lsn.get()] == b"more", "{what}");
    assert!(lsn.get() > life.released, "{what}");
}

/// One run with one fault, and a power loss at its end.
fn check(sector: u32, end: &[Act], (change, fate): (u64, WriteFate), counts: &mut Counts) {
    let life = run(sector, end, Some(Fault::Divert(change, fate)));
    let what = format!("{fate:?} at change {change}, end {end:?}, sectors of {sector}");
    let promised = *life.records.keys().next_back().unwrap();
    match judge(&life, &life.found(), promised, &what) {
        Ok(last) if last == promised => counts.whole += 1,
        Ok(last) => {
            // Only of the last group, and only while nothing after it says that it was there.
            let (first, sequence) = last_group(&run(sector, end, None), sector as usize);
            assert!(end.is_empty(), "{what}: silently ends with {last} instead of {promised}");
            assert_eq!(last + 1, first, "{what}");
            let intact = segments(&run(sector, end, None).found(), sector as usize);
            assert!(sequence > proven_sequence(&intact), "{what}");
            counts.silent += 1;
        }
        Err(_) => counts.reported += 1,
    }
}

fn fates(len: usize) -> Vec<WriteFate> {
    let offsets = [512, 4_096, i64::try_from(len).unwrap(), 3 * 4_096, 65_536];
    let offsets = offsets.into_iter().flat_map(|offset| [offset, -offset]);
    let moved = offsets.flat_map(|by| [WriteFate::Misdirected(by), WriteFate::Duplicated(by)]);
    [WriteFate::Lost].into_iter().chain(moved).collect()
}

fn divert_every_write(sector: u32) {
    for end in ENDS {
        let plain = run(sector, end, None);
        assert!(folder(&plain.found()).len() > 3);
        let writes = writes(&plain);
        assert!(writes.len() > 40, "{}", writes.len());
        let mut counts = Counts::default();
        for (change, len) in &writes {
            fates(*len).into_iter().for_each(|fate| check(sector, end, (*change, fate), &mut counts));
        }
        println!("rot: sectors of {sector}, {} writes diverted, end {end:?}: {counts:?}", writes.len());
        assert!(counts.whole > 100 && counts.reported > 100);
        assert_eq!(counts.silent > 0, end.is_empty(), "{counts:?}");
    }
}

#[test]
fn a_diverted_write_is_never_read_as_something_else() {
    divert_every_write(4_096);
}

#[test]
fn a_diverted_write_is_never_read_as_something_else_with_small_sectors() {
    divert_every_write(512);
}

/// A lost write and a power loss after every later acknowledgement: only the group that was written last can go without a
/// word.
#[test]
fn a_lost_write_shows_at_every_later_moment() {
    for sector in [512, 4_096] {
        for (change, _) in writes(&run(sector, &[], None)) {
            let life = run(sector, &[], Some(Fault::Divert(change, WriteFate::Lost)));
            let trace = life.disk.trace();
            let mut silent = Vec::new();
            let mut replaying = trace.replay();
            for (position, through) in &life.acknowledged {
                while replaying.position() < *position {
                    replaying.step();
                }
                let lost_by_then = *position as u64 > change;
                let disk = replaying.power_loss(Tearing::LoseAll, &mut Dice::new(0), 2);
                let what = format!("lost at change {change} of {sector}, power loss at {position}");
                let known: BTreeMap<_, _> = life.records.range(..=*through).collect();
                match judge(&life, &disk, *through, &what) {
                    Ok(last) if last >= **known.last_key_value().unwrap().0 => {}
                    Ok(_) if lost_by_then => silent.push(*position),
                    other => assert!(other.is_err() && lost_by_then, "{what}: {other:?}"),
                }
            }
            assert!(silent.len() <= 1, "lost at change {change} of {sector}: silent at {silent:?}");
        }
    }
}

#[test]
fn groups_of_another_store_are_never_read_as_ours() {
    for sector in [512, 4_096] {
        for end in ENDS {
            let acts: Vec<Act> = ACTS[..13].iter().chain(end).copied().collect();
            let [ours, theirs] = [1, 2].map(|store| Life::of(options(sector), store, &acts));
            let (mine, foreign) = (ours.found(), theirs.found());
            let [segments, others] = [&mine, &foreign].map(|disk| segments(disk, sector as usize));
            assert_ne!(StoreId::from_bytes([1; 16]), StoreId::from_bytes([2; 16]));
            let promised = *ours.records.keys().next_back().unwrap();
            let last = segments.iter().flat_map(|segment| &segment.groups).map(|group| group.sequence).max();
            for (segment, other) in segments.iter().zip(&others) {
                assert_eq!((&segment.path, &segment.groups), (&other.path, &other.groups), "the same program");
                let headers = [(0, 4_096), (4_096, 4_096), (0, 8_192)];
                let groups = segment.groups.iter().map(|group| (group.at, group.len));
                for (at, len) in headers.into_iter().chain(groups).chain([(0, segment.bytes.len())]) {
                    let disk = mine.kill(5);
                    let file = disk.open(&segment.path, OpenOptions::WRITE).unwrap();
                    file.write_all_at(&other.bytes[at..at + len], at as u64).unwrap();
                    let what = format!("{len} bytes at {at} of {}", segment.path.display());
                    let group = segment.groups.iter().find(|group| group.at == at);
                    foreign_bytes(&ours, &disk.kill(6), promised, group.map(|group| Some(group.sequence) == last), &what);
                }
            }
        }
    }
}

/// Ours, or an error; `last` says whether it is the last group that is not ours.
fn foreign_bytes(life: &Life, disk: &SimulatedDisk, promised: u64, last: Option<bool>, what: &str) {
    let before = folder(disk);
    match replay(disk, &life.options) {
        Ok((_, found)) => {
            only_what_was_written(life, &found, what);
            let there = found.keys().next_back().copied().unwrap_or(0);
            assert!(there == promised || last == Some(true), "{what}: ends with {there}");
        }
        Err(error) => {
            assert!(["damaged", "foreign-store"].contains(&error.kind()), "{what}: {error}");
            assert!(folder(disk) == before, "{what}");
        }
    }
}
