//! What a crash leaves, at every point where one can happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use keepstone_types::{Lsn, Timeline};
use keepstone_vfs::{IoOperation, MemoryVfs};
use keepstone_wal::{Access, CommitError, Durability, LogOptions, Replayed};

use crate::support::{
    bytes_of, crashed, groups_of, long_payload, long_record, open, open_timeless, overwrite, read_all,
    record, replay, segments, small, texts,
};
use crate::unkind::{Unkind, Verdict};

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let disk = crashed(&["a", "b", "c"], &LogOptions::default());
    let (log, found, _) = replay(&disk, LogOptions::default()).unwrap();
    assert_eq!(texts(&found), ["a", "b", "c"]);
    let report = log.recovery();
    // The last group is past the mark, so it was copied; nothing was cut, so the timeline stays.
    assert_eq!((report.clean, report.proven, report.copied_groups), (false, Lsn::new(2), 1));
    assert_eq!((report.cut_bytes, report.timeline_changed), (0, false));
    assert_eq!(log.append(record("d")).unwrap(), Lsn::new(4));
    drop(log);
    let (log, found, _) = replay(&disk, LogOptions::default()).unwrap();
    assert_eq!(texts(&found), ["a", "b", "c", "d"]);
    assert!(log.recovery().clean);
    assert_eq!(log.verify().unwrap(), []);
}

#[test]
fn a_log_that_crashes_again_and_again_keeps_everything() {
    let mut disk = MemoryVfs::new();
    let mut model = Vec::new();
    for round in 0..12 {
        let log = open_timeless(Arc::new(disk.clone()), LogOptions::default()).unwrap();
        assert_eq!(texts(&read_all(&log)), model, "round {round}");
        for at in 0..round % 3 {
            let text = format!("{round}/{at}");
            log.append(record(&text)).unwrap();
            model.push(text);
        }
        disk = disk.snapshot();
    }
}

/// Reopens what is left and checks it against what was acknowledged and what was handed in.
fn check_image(
    image: &MemoryVfs,
    options: &LogOptions,
    acknowledged: usize,
    handed_in: &[Vec<u8>],
    what: &str,
) {
    let before = segments(image).len();
    let (log, found, _) = replay(image, options.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found.len() >= acknowledged, "{what}: {} of {acknowledged} acknowledged", found.len());
    assert!(found.len() <= handed_in.len(), "{what}: nothing is invented");
    for (at, (lsn, payload)) in found.iter().enumerate() {
        assert_eq!(lsn.get(), at as u64 + 1, "{what}");
        assert!(*payload == handed_in[at], "{what}: record {at}");
    }
    let next = log.append(record("after")).unwrap();
    assert_eq!(next, log.recovery().next_lsn, "{what}");
    assert_eq!(log.verify().unwrap(), [], "{what}");
    log.close().unwrap();
    let (again, after, _) =
        replay(image, options.clone()).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(after[..found.len()], found[..], "{what}");
    assert_eq!(after.last().unwrap().0, next, "{what}");
    assert!(again.recovery().clean && before <= segments(image).len());
}

#[test]
fn every_point_at_which_a_process_can_die_is_recovered_from() {
    let options = small().side_file_threshold(20_000);
    let disk = MemoryVfs::new();
    // Copies of the disk before each operation, with how many records were acknowledged by then.
    let (seen, images) = mpsc::channel();
    let done = Arc::new(AtomicUsize::new(0));
    let (progress, inner) = (Arc::clone(&done), disk.clone());
    let witness = Unkind::disk(&disk, move |operation| {
        let changes = !matches!(operation.what, IoOperation::Read | IoOperation::Open | IoOperation::List);
        // Zeros are written and synced by the background thread all the time; what it leaves is removed.
        if changes && !operation.is_on("tmp") || operation.what == IoOperation::Rename {
            let acknowledged = progress.load(Ordering::Acquire);
            seen.send((inner.snapshot(), acknowledged, format!("before {operation:?}"))).unwrap();
        }
        Verdict::Pass
    });
    let mut handed_in = Vec::new();
    {
        let log = open_timeless(witness, options.clone()).unwrap();
        for at in 0..30 {
            let len = if at % 10 == 9 { 25_000 } else { at * 600 };
            handed_in.push(long_payload(at, len));
            log.append(long_record(at, len)).unwrap();
            done.fetch_add(1, Ordering::AcqRel);
            if at == 20 {
                log.release(Lsn::ZERO).unwrap();
                log.set_owner_mark([9; 16]).unwrap();
            }
        }
        assert!(log.stats().rotations > 1);
        log.close().unwrap();
    }
    let images: Vec<_> = images.try_iter().collect();
    assert!(images.len() > 80, "{}", images.len());
    for (image, acknowledged, what) in &images {
        check_image(image, &options, *acknowledged, &handed_in, what);
    }
}

#[test]
fn every_point_at_which_recovery_itself_can_die_is_recovered_from() {
    let options = LogOptions::default();
    // A torn group, a whole one past the mark, a rotten sector before it: recovery heals, copies and cuts.
    let torn = crashed(&["a", "b", "c", "d"], &options);
    let path = segments(&torn)[0].clone();
    let groups = groups_of(&bytes_of(&torn, &path), 4_096);
    overwrite(&torn, &path, groups[0].0 as u64 + 70, b"rot");
    overwrite(&torn, &path, groups[3].0 as u64, &[1; 200]);
    overwrite(&torn, &path, groups[3].0 as u64 + 4_096, &[2; 200]);
    let (seen, images) = mpsc::channel();
    let inner = torn.clone();
    let witness = Unkind::disk(&torn, move |operation| {
        if !matches!(operation.what, IoOperation::Read | IoOperation::Open) {
            seen.send((inner.snapshot(), format!("before {operation:?}"))).unwrap();
        }
        Verdict::Pass
    });
    drop(open_timeless(witness, options.clone()).unwrap());
    let images: Vec<_> = images.try_iter().collect();
    assert!(images.len() > 10, "{}", images.len());
    for (image, what) in &images {
        let (log, found, all) =
            replay(image, options.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(texts(&found), ["a", "b", "c"], "{what}");
        let changes = all.iter().filter(|entry| matches!(entry, Replayed::Timeline(_))).count();
        assert_eq!((changes, log.recovery().timeline), (1, Timeline::new(1)), "{what}");
        let next = log.append(record("e")).unwrap();
        assert!(next > Lsn::new(4), "{what}: the number that was cut is not given again");
    }
}

#[test]
fn a_torn_tail_is_cut_or_healed_at_every_sector() {
    for (sector, options) in [(4_096, small()), (512, small().sector_size(512))] {
        let disk = MemoryVfs::new();
        let log = open_timeless(Arc::new(disk.clone()), options.clone()).unwrap();
        log.append(record("kept")).unwrap();
        let before = disk.snapshot();
        log.append(long_record(5, 3 * sector)).unwrap();
        let path = segments(&disk)[0].clone();
        let (at, total) = groups_of(&bytes_of(&disk, &path), sector)[1];
        let written = bytes_of(&disk, &path)[at..at + total].to_vec();
        // The disk tears at 512 bytes, whatever the sector of the format is.
        let pieces = total / 512;
        let mut cases: Vec<(String, Vec<bool>)> = Vec::new();
        for cut in 0..=pieces {
            cases.push((format!("first {cut}"), (0..pieces).map(|piece| piece < cut).collect()));
            cases.push((format!("last {cut}"), (0..pieces).map(|piece| piece >= pieces - cut).collect()));
            cases.push((format!("all but {cut}"), (0..pieces).map(|piece| piece != cut).collect()));
            cases.push((format!("only {cut}"), (0..pieces).map(|piece| piece == cut).collect()));
        }
        for (what, there) in cases {
            let image = before.snapshot();
            for piece in (0..pieces).filter(|piece| there[*piece]) {
                let bytes = &written[piece * 512..(piece + 1) * 512];
                overwrite(&image, &path, (at + piece * 512) as u64, bytes);
            }
            let sectors_hurt = there.chunks(sector / 512).filter(|part| part.contains(&false)).count();
            let nothing = !there.iter().enumerate().any(|(piece, there)| {
                *there && written[piece * 512..(piece + 1) * 512].iter().any(|byte| *byte != 0)
            });
            let (log, found, _) = replay(&image, options.clone()).unwrap();
            let report = log.recovery();
            let what = format!("{what} of {pieces} pieces, sectors of {sector}: {report:?}");
            if found.len() == 2 {
                assert!(
                    sectors_hurt <= 1
                        || *there == vec![true; pieces]
                        || hurt_by_zeros(&there, &written, sector) <= 1,
                    "{what}"
                );
                assert_eq!(found[1].1, long_payload(5, 3 * sector), "{what}");
                assert!(!report.timeline_changed, "{what}");
            } else {
                assert!(sectors_hurt > 1, "{what}");
                assert_eq!(texts(&found), ["kept"], "{what}");
                assert_eq!(report.timeline_changed, !nothing, "{what}");
                assert_eq!(report.cut_bytes > 0, !nothing, "{what}");
            }
        }
    }
}

/// Sectors whose missing pieces were not all zeros anyway.
fn hurt_by_zeros(there: &[bool], written: &[u8], sector: usize) -> usize {
    let hurt = |(index, part): (usize, &[bool])| {
        part.iter().enumerate().any(|(piece, there)| {
            let at = index * sector + piece * 512;
            !there && written[at..at + 512].iter().any(|byte| *byte != 0)
        })
    };
    there.chunks(sector / 512).enumerate().filter(|found| hurt(*found)).count()
}

#[test]
fn what_a_cut_took_is_a_new_timeline_and_its_numbers_are_not_given_again() {
    let disk = crashed(&["a", "b"], &LogOptions::default());
    let path = segments(&disk)[0].clone();
    let (at, _) = groups_of(&bytes_of(&disk, &path), 4_096)[1];
    overwrite(&disk, &path, at as u64, &[0; 4_200]);
    overwrite(&disk, &path, at as u64 + 4_100, &[7; 100]);
    let (log, found, all) = replay(&disk, LogOptions::default()).unwrap();
    assert_eq!(texts(&found), ["a"]);
    let Some(Replayed::Timeline(change)) = all.last() else { panic!("{all:?}") };
    assert_eq!((change.timeline, change.after), (Timeline::new(1), Lsn::new(1)));
    assert!(change.next > Lsn::new(2));
    assert_eq!(log.append(record("c")).unwrap(), change.next);
    assert_eq!(log.recovery().timeline, Timeline::new(1));
    drop(log);
    let (log, found, all) = replay(&disk, LogOptions::default()).unwrap();
    assert_eq!(texts(&found), ["a", "c"]);
    assert_eq!(all.len(), 3);
    assert_eq!((log.recovery().timeline, log.recovery().timeline_changed), (Timeline::new(1), false));
}

#[test]
fn relaxed_and_none_change_the_timeline_at_every_unclean_opening_only() {
    let relaxed =
        Durability::Relaxed { max_commits: 1_000, max_delay: std::time::Duration::from_secs(1_000) };
    for durability in [relaxed, Durability::None] {
        let options = LogOptions::default().durability(durability);
        let disk = MemoryVfs::new();
        let log = open_timeless(Arc::new(disk.clone()), options.clone()).unwrap();
        assert_eq!(log.append(record("a")).unwrap(), Lsn::new(1));
        assert_eq!((log.visible_lsn(), log.durable_lsn()), (Lsn::new(1), Lsn::ZERO), "{durability:?}");
        assert_eq!(read_all(&log), [], "only what is durable is read");
        assert_eq!(log.sync().unwrap(), Lsn::new(1));
        assert_eq!(texts(&read_all(&log)), ["a"]);
        log.append(record("b")).unwrap();
        let killed = disk.snapshot();
        log.close().unwrap();
        let (log, found, _) = replay(&disk, options.clone()).unwrap();
        assert_eq!((texts(&found), log.recovery().timeline_changed), (vec!["a".into(), "b".into()], false));
        drop(log);
        // Closed in order, the log may be used with another durability.
        let (log, _, _) = replay(&disk, LogOptions::default()).unwrap();
        assert!(!log.recovery().timeline_changed && log.recovery().relaxed_before);
        log.append(record("c")).unwrap();
        let normal_killed = disk.snapshot();
        drop(log);
        let (log, found, _) = replay(&normal_killed, options.clone()).unwrap();
        assert_eq!((texts(&found).len(), log.recovery().timeline_changed), (3, false));
        // Killed, what readers may have seen may be gone, even if nothing looks torn.
        let (log, found, _) = replay(&killed, options.clone()).unwrap();
        assert_eq!(texts(&found), ["a", "b"]);
        assert_eq!((log.recovery().timeline, log.recovery().timeline_changed), (Timeline::new(1), true));
        let next = log.append(record("d")).unwrap();
        assert!(next > Lsn::new(1 << 32));
    }
}

#[test]
fn a_tail_that_vanishes_after_a_clean_close_is_noticed_with_weak_durability() {
    let options = LogOptions::default().durability(Durability::None);
    let disk = MemoryVfs::new();
    let log = open(&disk, options.clone()).unwrap();
    log.append(record("a")).unwrap();
    log.close().unwrap();
    // Opened again, and seen by nobody but the system's cache: on the disk there is only what opening synced.
    let log = open_timeless(Arc::new(disk.clone()), options.clone()).unwrap();
    let lost = disk.snapshot();
    assert_eq!(log.append(record("b")).unwrap(), Lsn::new(2));
    let (log, found, _) = replay(&lost, options).unwrap();
    assert_eq!((texts(&found), log.recovery().timeline), (vec!["a".to_owned()], Timeline::new(1)));
    assert!(log.append(record("c")).unwrap() > Lsn::new(2));
}

#[test]
fn relaxed_syncs_after_so_many_commits() {
    let max_delay = std::time::Duration::from_secs(1_000);
    let options = LogOptions::default().durability(Durability::Relaxed { max_commits: 3, max_delay });
    let log = open_timeless(Arc::new(MemoryVfs::new()), options).unwrap();
    let durable: Vec<_> = (0..7)
        .map(|_| {
            log.append(record("x")).unwrap();
            log.durable_lsn().get()
        })
        .collect();
    assert_eq!(durable, [0, 0, 3, 3, 3, 6, 6]);
    // One commit may ask for more.
    log.commit(record("y"), (), Some(Durability::Full)).unwrap();
    assert_eq!(log.durable_lsn(), Lsn::new(8));
}

#[test]
fn reading_takes_no_lock_writes_nothing_and_shows_what_is_unproven() {
    let disk = crashed(&["a", "b"], &LogOptions::default());
    let before = disk.snapshot();
    let judge = |operation: &crate::unkind::Operation| match operation.what {
        IoOperation::Read | IoOperation::Open => Verdict::Pass,
        _ => panic!("a log opened for reading does {operation:?}"),
    };
    let options = LogOptions::default().access(Access::ReadOnly);
    let watched = Unkind::disk(&disk, judge);
    let mut all = Vec::new();
    let clock = Arc::new(keepstone_types::ManualClock::default());
    let log =
        keepstone_wal::Log::open_with(watched, clock, crate::support::dir(), options.clone(), &mut |entry| {
            all.push(entry);
            Ok(())
        })
        .unwrap();
    let unproven: Vec<_> = all
        .iter()
        .map(|entry| match entry {
            Replayed::Record(record) => record.unproven,
            _ => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(unproven, [false, true]);
    assert_eq!((log.recovery().unproven, log.recovery().proven), (Some(Lsn::new(2)), Lsn::new(1)));
    assert_eq!((log.durable_lsn(), log.visible_lsn()), (Lsn::new(1), Lsn::new(2)));
    assert!(matches!(log.append(record("c")), Err(CommitError::ReadOnly)));
    assert_eq!(log.release(Lsn::new(1)).unwrap_err().kind(), "read-only");
    assert_eq!(log.set_owner_mark([0; 16]).unwrap_err().kind(), "read-only");
    // A writer beside it is not in its way, and several readers are not in each other's.
    let second = open(&disk, options).unwrap();
    let writer = open(&disk, LogOptions::default()).unwrap();
    writer.append(record("c")).unwrap();
    assert_eq!(texts(&read_all(&second)), ["a", "b"]);
    drop((log, second, writer));
    let path = segments(&before)[0].clone();
    assert_eq!(bytes_of(&disk, &path)[..32_768], bytes_of(&before, &path)[..32_768]);
}

#[test]
fn reading_where_there_is_no_log_is_an_error_and_makes_none() {
    let disk = MemoryVfs::new();
    let error = open(&disk, LogOptions::default().access(Access::ReadOnly)).unwrap_err();
    assert_eq!(error.kind(), "not-found");
    assert_eq!(keepstone_vfs::Vfs::list(&disk, std::path::Path::new("/")).unwrap(), []);
}
