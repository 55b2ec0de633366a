//! Writes that are lost although a sync said otherwise, that land elsewhere, or land twice: each write of a small program
//! in turn. And groups of another store, put where ours were.

use keepstone_types::CodecId;
use keepstone_vfs::simulated::{Dice, Event, Fault, SimulatedDisk, Tearing, WriteFate};
use keepstone_vfs::{OpenOptions, Vfs, VfsFileExt};
use keepstone_wal::{Access, Log, OpenError, Record, RecordKind, Recovery};

use crate::fixture::{
    Act, HEADERS, Life, Moment, Records, bytes_of, folder, is_untouched, options, proven_sequence, read_all,
    replay, segments,
};
use crate::subject::DIR;

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
    silent: Vec<WriteFate>,
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
fn judge(life: &Life, disk: &SimulatedDisk, moment: Moment, what: &str) -> Result<u64, OpenError> {
    let reading = replay(disk, &life.options.clone().access(Access::ReadOnly));
    assert_eq!(disk.changes(), 0, "{what}");
    let opened = replay(disk, &life.options);
    if let Err(error) = opened {
        assert!(reading.is_err(), "{what}: {error}");
        let named = match &error {
            OpenError::Damaged { damage, .. } => damage.file.starts_with(DIR),
            error => matches!(error, OpenError::MissingSegment { .. }),
        };
        assert!(named, "{what}: {error}");
        assert!(is_untouched(disk), "{what}: nothing is written");
        if let Ok((log, found)) = replay(disk, &life.options.clone().recovery(Recovery::Prefix)) {
            only_what_was_written(life, &found, what);
            goes_on(&log, moment, what);
        }
        return Err(error);
    }
    let (log, found) = opened?;
    assert!(reading.is_ok_and(|(_, reading)| reading == found), "{what}");
    only_what_was_written(life, &found, what);
    let last = found.keys().next_back().copied().unwrap_or(log.recovery().last_lsn.get());
    let gap = (moment.released + 1..=last).find(|lsn| !found.contains_key(lsn));
    assert_eq!(gap, None, "{what}: a gap");
    goes_on(&log, moment, what);
    Ok(last)
}

fn only_what_was_written(life: &Life, found: &Records, what: &str) {
    for (lsn, found) in found {
        assert!(life.records.get(lsn) == Some(found), "{what}: record {lsn} reads otherwise");
    }
}

/// What was opened takes a record and reads it back.
fn goes_on(log: &Log, moment: Moment, what: &str) {
    let more = Record::with_codec(RecordKind::WRITE, CodecId::RAW, b"more".to_vec());
    let lsn = log.append(more).unwrap();
    assert!(read_all(log)[&lsn.get()] == b"more", "{what}");
    assert!(lsn.get() > moment.released, "{what}");
}

/// One run with one fault, and a power loss at its end.
fn check(sector: u32, end: &[Act], (change, fate): (u64, WriteFate), counts: &mut Counts) {
    let life = run(sector, end, Some(Fault::Divert(change, fate)));
    let what = format!("{fate:?} at change {change}, end {end:?}, sectors of {sector}");
    let promised = life.now().through;
    match judge(&life, &life.found(), life.now(), &what) {
        Ok(last) if last == promised => counts.whole += 1,
        Ok(last) => {
            // Only of the last group, and only while nothing after it says that it was there.
            let (first, sequence) = last_group(&run(sector, end, None), sector as usize);
            assert!(end.is_empty(), "{what}: silently ends with {last} instead of {promised}");
            let intact = run(sector, end, None);
            assert_eq!(last + 1, first, "{what}");
            assert_eq!(writes(&intact).last().map(|(change, _)| *change), Some(change), "{what}");
            assert!(sequence > proven_sequence(&segments(&intact.found(), sector as usize)), "{what}");
            counts.silent.push(fate);
        }
        Err(_) => counts.reported += 1,
    }
}

/// Writes land twice only where the end is open: elsewhere it adds nothing but time.
fn fates(len: usize, end: &[Act]) -> Vec<WriteFate> {
    let group = i64::try_from(len).unwrap();
    let moved = [512, 4_096, group, 65_536].into_iter().flat_map(|by| [by, -by]).map(WriteFate::Misdirected);
    let doubled = [512, group]
        .into_iter()
        .flat_map(|by| [by, -by])
        .map(WriteFate::Duplicated)
        .filter(|_| end.is_empty());
    [WriteFate::Lost].into_iter().chain(moved).chain(doubled).collect()
}

fn divert_every_write(sector: u32) {
    for end in ENDS {
        let plain = run(sector, end, None);
        assert!(folder(&plain.found()).len() > 3);
        let writes = writes(&plain);
        assert!(writes.len() > 40, "{}", writes.len());
        let mut counts = Counts::default();
        for (change, len) in &writes {
            fates(*len, end).into_iter().for_each(|fate| check(sector, end, (*change, fate), &mut counts));
        }
        println!("rot: sectors of {sector}, {} writes diverted, end {end:?}: {counts:?}", writes.len());
        assert!(counts.whole > 100 && counts.reported > 100);
        assert_eq!(!counts.silent.is_empty(), end.is_empty(), "{counts:?}");
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
            for moment in &life.moments {
                while replaying.position() < moment.position {
                    replaying.step();
                }
                let lost_by_then = moment.position as u64 > change;
                let disk = replaying.power_loss(Tearing::LoseAll, &mut Dice::new(0), 2);
                let what = format!("lost at change {change} of {sector}, power loss at {}", moment.position);
                match judge(&life, &disk, *moment, &what) {
                    Ok(last) if last >= moment.through => {}
                    Ok(_) if lost_by_then => silent.push(moment.position),
                    other => assert!(other.is_err() && lost_by_then, "{what}: {other:?}"),
                }
            }
            assert!(silent.len() <= 1, "lost at change {change} of {sector}: silent at {silent:?}");
        }
    }
}

/// Puts bytes of another store's log over ours, at the same places of the same program: each header, each group, each group
/// with all behind it, whole segments.
fn put_foreign_bytes(sector: u32, acts: &[Act]) {
    let [ours, theirs] = [1, 2].map(|store| Life::of(options(sector), store, acts));
    let (mine, foreign) = (ours.found(), theirs.found());
    let [segments, others] = [&mine, &foreign].map(|disk| segments(disk, sector as usize));
    for (index, (segment, other)) in segments.iter().zip(&others).enumerate() {
        assert_eq!((&segment.path, &segment.groups), (&other.path, &other.groups), "the same program");
        let headers = [(0, 4_096), (4_096, 8_192), (0, 8_192)];
        let groups = segment.groups.iter().map(|group| (group.at, group.end()));
        let tails = segment.groups.iter().map(|group| (group.at, segment.bytes.len()));
        let whole = [(0, segment.bytes.len())];
        for (at, end) in headers.into_iter().chain(groups).chain(tails).chain(whole) {
            let disk = mine.kill(5);
            let file = disk.open(&segment.path, OpenOptions::WRITE).unwrap();
            file.write_all_at(&other.bytes[at..end], at as u64).unwrap();
            let is_last = index + 1 == segments.len();
            let from = segment.groups.iter().find(|group| group.at == at && is_last);
            let to_the_end = segment.groups.iter().all(|group| group.end() <= end);
            let may_end_with = from.filter(|_| to_the_end).map(|group| group.first_lsn - 1);
            let what = format!("bytes {at} to {end} of {}, sectors of {sector}", segment.path.display());
            judge_foreign(&ours, &disk.kill(6), may_end_with, &what);
        }
    }
}

/// Ours and whole, or an error; or ours up to what was put over the end and all that proved it.
fn judge_foreign(life: &Life, disk: &SimulatedDisk, may_end_with: Option<u64>, what: &str) {
    for store in [life.options.store_id, None] {
        let disk = disk.kill(7);
        match replay(&disk, &life.options.clone().store_id(store)) {
            Ok((log, found)) => {
                only_what_was_written(life, &found, what);
                let there = found.keys().next_back().copied().unwrap_or(0);
                let whole = there == life.now().through;
                assert!(whole || Some(there) == may_end_with, "{what}: ends with {there}");
                assert!(whole || log.recovery().timeline_changed, "{what}");
            }
            Err(error) => {
                assert!(["damaged", "foreign-store"].contains(&error.kind()), "{what}: {error}");
                assert!(is_untouched(&disk), "{what}");
            }
        }
    }
}

#[test]
fn groups_of_another_store_are_never_read_as_ours() {
    for sector in [512, 4_096] {
        for end in ENDS {
            for acts in [&ACTS[..5], &ACTS[..13]] {
                put_foreign_bytes(sector, &[acts, end].concat());
            }
        }
    }
}

/// A copy of the header of another segment, in place of one of the two copies of ours: the other copy tells which it is.
#[test]
fn a_header_that_landed_in_another_segment_is_healed_from_the_other_copy() {
    let life = Life::of(options(512), 1, &ACTS[..13]);
    let found = life.found();
    let segments = segments(&found, 512);
    assert!(segments.len() >= 2);
    for (one, other) in [(0, 1), (1, 0)] {
        for copy in [0_u64, 4_096] {
            let disk = found.kill(5);
            let (path, bytes) = (&segments[one].path, &segments[one].bytes);
            let file = disk.open(path, OpenOptions::WRITE).unwrap();
            file.write_all_at(&segments[other].bytes[..4_096], copy).unwrap();
            let (log, found) = replay(&disk, &life.options).unwrap();
            assert!(found == life.records);
            let healed: Vec<_> =
                log.recovery().healed_sectors.iter().map(|one| (&one.file, one.offset)).collect();
            assert_eq!(healed, [(path, copy)]);
            assert!(bytes_of(&disk, path)[..HEADERS] == bytes[..HEADERS]);
        }
    }
}

/// The seed of the checksums is what tells stores apart: without it this is noticed here.
#[cfg(feature = "wrong-variants")]
#[test]
fn without_a_seed_groups_of_another_store_are_read_as_ours() {
    use keepstone_wal::wrong::{Wrong, with};
    let read = std::panic::catch_unwind(|| with(Wrong::NoSeed, || put_foreign_bytes(512, &ACTS[..5])));
    let said = read.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("reads otherwise"), "{said}");
}
