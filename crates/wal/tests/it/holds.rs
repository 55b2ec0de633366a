//! Releasing, pins, readers that hold, the keeper's marks, owner marks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keepstone_types::{Lsn, ManualClock, SystemClock};
use keepstone_vfs::{MemoryVfs, OsVfs, Vfs, VfsExt, WriteMode};
use keepstone_wal::{Durability, Log, LogOptions};

use crate::support::{
    bytes_of, dir, groups_of, long_record, open, open_timeless, read_all, record, replay, segments, small,
    texts,
};

fn filled(disk: &MemoryVfs, options: &LogOptions, count: usize) -> Log {
    let log = open(disk, options.clone()).unwrap();
    for at in 0..count {
        log.append(long_record(at, 9_000)).unwrap();
    }
    log
}

#[test]
fn released_segments_go_and_are_used_again() {
    let disk = MemoryVfs::new();
    let log = filled(&disk, &small(), 60);
    let before = segments(&disk).len();
    assert!(before > 3);
    let first = log.release(Lsn::new(40)).unwrap();
    assert!(first > Lsn::FIRST && first <= Lsn::new(41), "{first}");
    assert!(segments(&disk).len() < before);
    assert_eq!(log.read_from(Lsn::FIRST).unwrap_err().kind(), "released");
    assert_eq!(log.pin("late", Lsn::FIRST, u64::MAX).unwrap_err().kind(), "released");
    let read: Vec<_> = log.read_from(first).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len() as u64, 60 - first.get() + 1);
    for at in 0..60 {
        log.append(long_record(at, 9_000)).unwrap();
    }
    assert!(log.stats().recycled > 0);
    log.close().unwrap();
    let (log, found, _) = replay(&disk, small()).unwrap();
    assert_eq!(log.recovery().first_lsn, first);
    assert_eq!((found.first().unwrap().0, found.last().unwrap().0), (first, Lsn::new(120)));
    // Everything may go but the segment that is written to.
    assert!(log.release(Lsn::MAX).unwrap() <= Lsn::new(121));
    assert_eq!(segments(&disk).len(), 1);
    assert_eq!(log.append(record("x")).unwrap(), Lsn::new(121));
}

#[test]
fn released_side_files_go_with_their_segment() {
    let disk = MemoryVfs::new();
    let options = small().side_file_threshold(5_000);
    let log = open(&disk, options.clone()).unwrap();
    let sides = || disk.list(dir()).unwrap().iter().filter(|entry| entry.name.ends_with(".side")).count();
    for at in 0..100 {
        log.append(long_record(at, if at % 10 == 0 { 6_000 } else { 4_500 })).unwrap();
    }
    assert_eq!(sides(), 10);
    log.release(Lsn::new(60)).unwrap();
    let left = sides();
    assert!((4..10).contains(&left), "{left}");
    drop(log);
    let (log, found, _) = replay(&disk, options).unwrap();
    assert_eq!(found.len() as u64, 100 - log.recovery().first_lsn.get() + 1);
    assert_eq!(sides(), left);
}

/// Side files are large beside the records that name them: a segment could name any number of them before it is full.
#[test]
fn side_files_go_with_what_was_released_although_their_segment_is_not_full() {
    let disk = MemoryVfs::new();
    let options = small().side_file_threshold(5_000);
    let log = open(&disk, options.clone()).unwrap();
    let sides = || disk.list(dir()).unwrap().iter().filter(|entry| entry.name.ends_with(".side")).count();
    for at in 0..2 {
        log.append(long_record(at, 300_000)).unwrap();
    }
    assert_eq!((sides(), segments(&disk).len()), (2, 1));
    log.between_groups(|| ()).unwrap();
    assert_eq!(log.release(Lsn::new(2)).unwrap(), Lsn::new(3), "the segment ended between the groups");
    assert_eq!((sides(), segments(&disk).len()), (0, 1));
    // Without large records a segment is filled first.
    log.append(record("small")).unwrap();
    log.between_groups(|| ()).unwrap();
    assert_eq!(log.release(Lsn::new(3)).unwrap(), Lsn::new(3));
    drop(log);
    let (_, found, _) = replay(&disk, options).unwrap();
    assert_eq!(found.iter().map(|(lsn, _)| lsn.get()).collect::<Vec<_>>(), [3]);
}

#[test]
fn pins_hold_over_reopening_until_they_are_released_or_hold_too_much() {
    let disk = MemoryVfs::new();
    let log = filled(&disk, &small(), 60);
    let pin = log.pin("archive", Lsn::new(30), u64::MAX).unwrap();
    log.pin("small", Lsn::new(10), 300_000).unwrap();
    assert_eq!(log.pin("", Lsn::new(30), 1).unwrap_err().kind(), "name");
    let first = log.release(Lsn::new(55)).unwrap();
    assert!(first <= Lsn::new(30) && first > Lsn::new(10), "{first}: the small pin let go, the other holds");
    let infos = log.pins();
    assert_eq!(
        infos.iter().map(|info| (info.name.as_str(), info.lost)).collect::<Vec<_>>(),
        [("archive", false), ("small", true)]
    );
    assert!(infos[0].held_bytes > 0 && infos[1].held_bytes == 0);
    let small_pin = log.existing_pin("small").unwrap();
    assert_eq!(small_pin.advance(Lsn::new(50)).unwrap_err().kind(), "lost");
    small_pin.release().unwrap();
    drop(log);
    assert_eq!(pin.advance(Lsn::new(31)).unwrap_err().kind(), "closed");
    let (log, _, _) = replay(&disk, small()).unwrap();
    assert_eq!(log.pins().len(), 1);
    assert_eq!(log.release(Lsn::new(55)).unwrap(), first, "held by a pin of an earlier process");
    let pin = log.existing_pin("archive").unwrap();
    pin.advance(Lsn::new(50)).unwrap();
    assert!(log.release(Lsn::new(55)).unwrap() > first);
    pin.release().unwrap();
    assert!(log.existing_pin("archive").is_none());
}

#[test]
fn a_reader_holds_what_it_has_not_read_and_follows_the_log() {
    let disk = MemoryVfs::new();
    let log = filled(&disk, &small(), 40);
    let mut reader = log.read_from(Lsn::FIRST).unwrap();
    assert!(reader.next().is_some());
    assert_eq!(log.release(Lsn::new(40)).unwrap(), Lsn::FIRST, "the reader is in the first segment");
    assert_eq!(reader.by_ref().count(), 39);
    assert!(reader.next().is_none());
    for at in 0..40 {
        log.append(long_record(at, 9_000)).unwrap();
        assert!(reader.next().unwrap().is_ok(), "what is appended later is read later");
    }
    assert!(log.release(Lsn::new(80)).unwrap() > Lsn::new(40));
    let middle = log.read_from(log.durable_lsn()).unwrap();
    assert_eq!(middle.count(), 1);
}

#[test]
fn readers_see_only_what_is_durable_and_everything_of_it_while_others_append() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small()).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut reader = log.read_from(Lsn::FIRST).unwrap();
                let mut expected = 1;
                while expected <= 600 {
                    for entry in reader.by_ref() {
                        let keepstone_wal::Replayed::Record(entry) = entry.unwrap() else { panic!() };
                        assert_eq!(entry.lsn.get(), expected);
                        assert!(entry.lsn <= log.durable_lsn());
                        expected += 1;
                    }
                    thread::yield_now();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for at in 0..300 {
                    log.append(long_record(at, 2_000)).unwrap();
                }
            });
        }
    });
}

#[test]
fn the_idle_mark_proves_the_last_commit() {
    let disk = MemoryVfs::new();
    let clock = Arc::new(ManualClock::default());
    let log =
        Log::open_with(Arc::new(disk.clone()), clock.clone(), dir(), LogOptions::default(), &mut |_| Ok(()))
            .unwrap();
    log.append(record("a")).unwrap();
    assert_eq!(log.stats().marks, 0);
    clock.advance(Duration::from_millis(6));
    while log.stats().marks == 0 {
        thread::yield_now();
    }
    let disk = disk.snapshot();
    let path = segments(&disk)[0].clone();
    let groups = groups_of(&bytes_of(&disk, &path), 4_096);
    assert_eq!(groups.len(), 2);
    let (log, _, _) = replay(&disk, LogOptions::default()).unwrap();
    let report = log.recovery();
    assert_eq!((report.clean, report.proven, report.copied_groups), (false, Lsn::new(1), 0));
    assert_eq!(segments(&disk).len(), 1, "nothing is past the mark: the log goes on where it was");
    assert_eq!(log.append(record("b")).unwrap(), Lsn::new(2));
    drop(log);
    assert_eq!(texts(&replay(&disk, LogOptions::default()).unwrap().1), ["a", "b"]);
}

#[test]
fn relaxed_syncs_after_so_much_time() {
    let disk = MemoryVfs::new();
    let clock = Arc::new(ManualClock::default());
    let max_delay = Duration::from_millis(20);
    let options = LogOptions::default().durability(Durability::Relaxed { max_commits: 1_000_000, max_delay });
    let log = Log::open_with(Arc::new(disk), clock.clone(), dir(), options, &mut |_| Ok(())).unwrap();
    for round in 1..=3 {
        log.append(record("a")).unwrap();
        assert_eq!(log.durable_lsn(), Lsn::new(round - 1));
        clock.advance(Duration::from_millis(21));
        while log.durable_lsn() < Lsn::new(round) {
            thread::yield_now();
        }
    }
}

#[test]
fn the_owner_mark_is_in_the_newest_header() {
    let disk = MemoryVfs::new();
    let log = filled(&disk, &small(), 5);
    log.set_owner_mark([1; 16]).unwrap();
    log.set_owner_mark([2; 16]).unwrap();
    for at in 0..40 {
        log.append(long_record(at, 9_000)).unwrap();
    }
    let crashed = disk.snapshot();
    log.close().unwrap();
    for disk in [disk, crashed] {
        let (log, _, _) = replay(&disk, small()).unwrap();
        assert_eq!(log.recovery().owner_mark, [2; 16]);
        assert_eq!(log.verify().unwrap(), []);
    }
}

#[test]
fn closing_again_and_again_needs_no_more_than_its_room() {
    let disk = MemoryVfs::new();
    for round in 0..60 {
        let log = open(&disk, small()).unwrap();
        assert!(round == 0 || log.recovery().clean, "round {round}");
        assert!(!log.recovery().timeline_changed);
        log.close().unwrap();
        log.close().unwrap();
    }
    assert!(segments(&disk).len() <= 5);
}

#[test]
fn opening_and_closing_without_a_record_leaves_the_log_as_it_was() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small()).unwrap();
    log.append(long_record(1, 100)).unwrap();
    log.close().unwrap();
    let files = || -> Vec<_> {
        segments(&disk).into_iter().map(|path| disk.read_file(&path, 1 << 30).unwrap()).collect()
    };
    let before = files();
    for _ in 0..5 {
        let log = open(&disk, small()).unwrap();
        assert!(log.recovery().clean);
        log.close().unwrap();
    }
    assert!(files() == before, "a log grew although nothing was written");
}

#[test]
fn every_way_of_writing_keeps_a_log_on_real_files() {
    for mode in [WriteMode::Cached, WriteMode::Direct, WriteMode::DataSync] {
        // Direct writing needs a disk; the folder for temporary files may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = small().write_mode(mode);
        let reopen = || {
            let mut all = Vec::new();
            let clock = Arc::new(SystemClock::default());
            let log =
                Log::open_with(Arc::new(OsVfs::new()), clock, folder.path(), options.clone(), &mut |entry| {
                    all.push(entry);
                    Ok(())
                });
            log.map(|log| (log, all.len()))
        };
        let (log, _) = match reopen() {
            // A file system without direct writing says so at once, and nothing was acknowledged.
            Err(error) if mode == WriteMode::Direct && !cfg!(target_os = "linux") => {
                assert_eq!(error.kind(), "io", "{error}");
                continue;
            }
            opened => opened.unwrap(),
        };
        for at in 0..60 {
            log.append(long_record(at, 9_000)).unwrap();
        }
        log.set_owner_mark([3; 16]).unwrap();
        assert_eq!((read_all(&log).len(), log.verify().unwrap()), (60, Vec::new()), "{mode:?}");
        log.release(Lsn::new(30)).unwrap();
        log.close().unwrap();
        let (log, found) = reopen().unwrap();
        assert!(found < 60 && log.recovery().clean, "{mode:?}");
    }
}

#[test]
fn a_lone_commit_is_one_write_and_one_sync_and_no_growth() {
    use keepstone_testkit::fault_disk::FaultDisk;
    use std::sync::atomic::Ordering;
    let disk = FaultDisk::new(Arc::new(MemoryVfs::new()));
    let faults = Arc::clone(disk.faults());
    let log = open_timeless(Arc::new(disk.clone()), LogOptions::default()).unwrap();
    log.append(record("a")).unwrap();
    // The keeper has made the spare when it is whole.
    let whole = |entry: &keepstone_vfs::DirEntry| entry.name.starts_with("spare-") && entry.len == 1 << 20;
    while !disk.list(dir()).unwrap().iter().any(whole) {
        thread::yield_now();
    }
    let read =
        || [&faults.writes, &faults.syncs, &faults.grown].map(|counter| counter.load(Ordering::Acquire));
    // The spare's last syncs may still follow its last write.
    let mut before = read();
    loop {
        log.append(record("b")).unwrap();
        let after = read();
        if [after[0] - before[0], after[1] - before[1], after[2] - before[2]] == [1, 1, 0] {
            break;
        }
        before = after;
    }
    for _ in 0..50 {
        log.append(record("c")).unwrap();
    }
    let after = read();
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [51, 51, 0]);
}

#[test]
fn marks_and_rotations_do_not_wait_for_each_other() {
    let disk = MemoryVfs::new();
    let clock = Arc::new(ManualClock::default());
    let log = Log::open_with(Arc::new(disk.clone()), clock.clone(), dir(), small(), &mut |_| Ok(())).unwrap();
    for at in 0..1_500 {
        log.append(long_record(at, 9_000)).unwrap();
        clock.advance(Duration::from_millis(6));
    }
    // On a busy machine the keeper may not have had its turn yet; without one the test hangs, and that is its failure.
    while log.stats().marks == 0 {
        clock.advance(Duration::from_millis(6));
        thread::yield_now();
    }
    assert!(log.stats().rotations > 30, "{:?}", log.stats());
    log.close().unwrap();
    assert_eq!(replay(&disk, small()).unwrap().1.len(), 1_500);
}

#[test]
fn the_keeper_leads_over_many_segments_when_nobody_waits() {
    let disk = MemoryVfs::new();
    let log = open(&disk, small().queue_bytes_max(1 << 30)).unwrap();
    for at in 0..600 {
        let ticket = log.submit(long_record(at, 9_000), (), None).unwrap();
        assert_eq!(ticket.lsn().get(), at as u64 + 1);
    }
    while log.durable_lsn() < Lsn::new(600) {
        thread::yield_now();
    }
    assert!(log.stats().rotations > 10);
    log.close().unwrap();
    assert_eq!(replay(&disk, small()).unwrap().1.len(), 600);
}
