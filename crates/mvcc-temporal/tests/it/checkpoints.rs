//! Checkpoints: what is folded reads as before, at every version, while it is folded, after it, and when it is opened
//! again; and the log goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keepstone_mvcc_temporal::{
    CheckpointOptions, CommitInfo, Database, DatabaseOptions, Isolation, KEY_LEN_MAX, Read, ReadError,
    ReaderAllowance, Recovery, Retention, TxnOptions,
};
use keepstone_types::{Timestamp, Version};

use keepstone_vfs::MemoryVfs;

use crate::support::{MemoryStore, T, delete, get, keys, on_both, open_on, options, put, rows, version};

fn small_slices() -> DatabaseOptions {
    options().checkpoint(CheckpointOptions::default().slice_keys(7))
}

/// Writes `count` rows in one commit, each with the number of the round.
fn write_round(database: &Database, count: u32, round: u32) -> Version {
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted)).unwrap();
    for number in 0..count {
        txn.put(T, format!("{number:05}"), format!("{round} of {number}").into_bytes()).unwrap();
    }
    txn.commit().unwrap().version
}

#[test]
fn what_is_folded_reads_as_before() {
    on_both(|database| {
        put(&database, "a", "1");
        put(&database, "b", "1");
        put(&database, "a", "2");
        delete(&database, "b");
        let before = database.snapshot_at(version("2")).unwrap();
        database.checkpoint().unwrap();
        assert_eq!(database.stats().memtable_rows, 0, "memory is empty");
        assert_eq!(database.stats().folded, version("4"));
        assert_eq!((get(&database, "a").as_deref(), get(&database, "b")), (Some("2"), None));
        assert_eq!(rows(&before, ..), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]);
        put(&database, "c", "3");
        assert_eq!(keys(&database, ..), ["a", "c"]);
        let history: Vec<_> = database
            .history(T, "b")
            .unwrap()
            .map(|entry| entry.map(|entry| (entry.version.to_raw(), entry.value.is_some())).unwrap())
            .collect();
        assert_eq!(history, [(4, false), (2, true)]);
        assert_eq!(database.commits().unwrap().count(), 5);
        assert!(database.check().unwrap().is_sound());
        database.checkpoint().unwrap();
        database.checkpoint().unwrap();
        assert_eq!(keys(&before, ..), ["a", "b"]);
    });
}

#[test]
fn what_is_folded_is_there_when_it_is_opened_again_without_its_log() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices()).unwrap();
    for round in 0..5 {
        write_round(&database, 50, round);
    }
    database.checkpoint().unwrap();
    put(&database, "z", "after");
    drop(database);
    let database = store.open();
    assert_eq!(database.stats().folded, version("5"));
    assert_eq!((database.visible_version(), database.durable_version()), (version("6"), version("6")));
    assert_eq!(database.stats().memtable_rows, 1, "only what is not folded is replayed");
    for (raw, round) in [(1_u64, 0), (3, 2), (5, 4)] {
        let then = database.snapshot_at(Version::from_raw(raw)).unwrap();
        assert_eq!(get(&then, "00049"), Some(format!("{round} of 49")));
        assert_eq!(keys(&then, ..).len(), 50);
    }
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn the_log_goes_when_what_it_holds_is_folded() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices()).unwrap();
    let grown = |database: &Database| database.stats().log.segment_bytes;
    for round in 0..8 {
        for part in 0..8 {
            let mut txn = database.begin().unwrap();
            txn.put(T, format!("{round} {part}"), vec![7; 60_000]).unwrap();
            txn.commit().unwrap();
        }
    }
    let before = grown(&database);
    database.checkpoint().unwrap();
    let after = grown(&database);
    assert!(after * 3 <= before, "{before} bytes of segments before, {after} after");
    assert_eq!(keys(&database, ..).len(), 64);
    assert!(database.check().unwrap().is_sound());
}

/// Commits, reads of everything, and checkpoints beside each other: every reader sees whole versions, and nothing that was
/// acknowledged is missing.
#[test]
fn checkpoint_race() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices()).unwrap();
    let first = write_round(&database, 60, 0);
    let (ended, looked) = (AtomicBool::new(false), AtomicBool::new(false));
    let oldest = database.snapshot_at(first).unwrap();
    let reader = || {
        let mut looks = 0_u64;
        while !ended.load(Ordering::Relaxed) {
            let snapshot = database.snapshot().unwrap();
            let rows = rows(&snapshot, ..);
            let rounds: BTreeMap<&str, usize> =
                rows.iter().fold(BTreeMap::new(), |mut rounds, (_, value)| {
                    *rounds.entry(value.split(' ').next().unwrap()).or_default() += 1;
                    rounds
                });
            assert_eq!((rows.len(), rounds.len()), (60, 1), "torn at {}: {rounds:?}", snapshot.version());
            assert_eq!(get(&oldest, "00030").as_deref(), Some("0 of 30"));
            looks += 1;
            looked.store(true, Ordering::Relaxed);
        }
        looks
    };
    let written = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(reader)).collect();
        let checkpoints = scope.spawn(|| {
            let mut count = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                database.checkpoint().unwrap();
                count += 1;
            }
            count
        });
        let last = (1..=60).map(|round| write_round(&database, 60, round)).fold(None, |_, made| Some(made));
        // Beside load the others may not have had a turn yet.
        while !looked.load(Ordering::Relaxed) || database.stats().checkpoints == 0 {
            std::thread::yield_now();
        }
        ended.store(true, Ordering::Relaxed);
        let looks: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(looks > 0 && checkpoints.join().unwrap() > 0);
        last.unwrap()
    });
    assert_eq!(database.visible_version(), written);
    for raw in 1..=61_u64 {
        let then = database.snapshot_at(Version::from_raw(raw)).unwrap();
        assert_eq!(get(&then, "00059"), Some(format!("{} of 59", raw - 1)));
    }
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn the_thread_folds_when_memory_is_used_up() {
    let (_dir, database) = {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = CheckpointOptions::default().memory_bytes(200_000);
        let database = Database::open(dir.path().join("store"), options().checkpoint(checkpoint)).unwrap();
        (dir, database)
    };
    let mut round = 0;
    while database.stats().checkpoints == 0 {
        write_round(&database, 200, round);
        round += 1;
        assert!(round < 100_000, "the thread never folds");
    }
    assert_eq!(keys(&database, ..).len(), 200);
    database.close().unwrap();
}

#[test]
fn ten_thousand_versions_of_a_key_are_found_in_history() {
    let store = MemoryStore::new();
    let database = store.open_with(options().durability(keepstone_mvcc_temporal::Durability::None)).unwrap();
    for number in 1..=10_000_u32 {
        put(&database, "hot", &number.to_string());
        if number % 2_500 == 0 {
            database.checkpoint().unwrap();
        }
    }
    for raw in [1_u64, 2, 2_500, 2_501, 5_000, 9_999, 10_000] {
        let then = database.snapshot_at(Version::from_raw(raw)).unwrap();
        assert_eq!(get(&then, "hot"), Some(raw.to_string()));
    }
    assert_eq!(database.history(T, "hot").unwrap().count(), 10_000);
}

/// What recovery copies names a file beside the log twice: in the segment that it copied from, and in the copy.
#[test]
fn a_file_beside_the_log_that_recovery_named_again_goes_once() {
    let store = MemoryStore::new();
    let database = store.open();
    let mut txn = database.begin().unwrap();
    txn.put(T, "large", vec![7; 2_000_000]).unwrap();
    txn.commit().unwrap();
    let killed = store.killed();
    let database = killed.open();
    assert_eq!(database.checkpoint().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(database.get(T, "large").unwrap().unwrap()[..], [7; 2_000_000][..]);
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn large_values_are_folded_displaced_and_freed() {
    let store = MemoryStore::new();
    let database = store.open_with(options().retention(Retention::None)).unwrap();
    let large = |seed: u8| -> Vec<u8> { (0..3_000_000_u32).map(|at| (at % 251) as u8 ^ seed).collect() };
    for seed in 0..3 {
        let mut txn = database.begin().unwrap();
        txn.put(T, "large", large(seed)).unwrap();
        txn.commit().unwrap();
        database.checkpoint().unwrap();
    }
    for raw in 1..=3_u64 {
        let then = database.snapshot_at(Version::from_raw(raw)).unwrap();
        assert_eq!(then.get(T, "large").unwrap().unwrap()[..], large(raw as u8 - 1)[..]);
    }
    assert!(database.check().unwrap().is_sound());
    let report = database.compact().unwrap();
    assert_eq!(report.pruned_rows, 2);
    assert!(report.bytes_after * 2 < report.bytes_before, "{report:?}");
    assert_eq!(database.get(T, "large").unwrap().unwrap()[..], large(2)[..]);
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn retention_keeps_what_it_says_and_names_and_readers_keep_the_rest() {
    let store = MemoryStore::new();
    let hour = Duration::from_secs(3_600);
    let database = store.open_with(small_slices().retention(Retention::For(hour))).unwrap();
    for number in 1..=10_u32 {
        put(&database, "k", &number.to_string());
        store.clock.advance(Duration::from_secs(600));
    }
    database.name_version("kept", version("2")).unwrap();
    let held = database.snapshot_at(version("3")).unwrap();
    let report = database.compact().unwrap();
    assert!(report.pruned_rows > 0 && report.pruned_commits > 0, "{report:?}");
    let oldest = database.stats().oldest;
    assert_eq!(oldest, version("5"), "current an hour ago");
    for raw in 1..=10_u64 {
        let asked = Version::from_raw(raw);
        match database.snapshot_at(asked) {
            Ok(then) => assert_eq!(get(&then, "k"), Some(raw.to_string()), "{raw}"),
            Err(error) => {
                assert_eq!(error, ReadError::HistoryGone { asked, oldest });
                assert!(raw < 5 && raw != 2, "{raw}");
            }
        }
    }
    for raw in 5..=10_u64 {
        let at = Timestamp::from_micros(1_000_000 + (raw - 1) * 600_000_000 + 7);
        assert_eq!(database.version_at(at), Ok(Version::from_raw(raw)), "a gap below is no answer");
    }
    assert_eq!(get(&held, "k").as_deref(), Some("3"));
    assert_eq!(database.commit_info(version("2")).unwrap().map(|info| info.version), Some(version("2")));
    assert_eq!(database.commit_info(version("1")), Ok(None));
    drop(held);
    database.drop_name("kept").unwrap();
    database.compact().unwrap();
    assert!(matches!(database.snapshot_at(version("2")), Err(ReadError::HistoryGone { .. })));
    drop(database);
    let database = store.open();
    assert!(
        matches!(database.snapshot_at(version("2")), Err(ReadError::HistoryGone { .. })),
        "also reopened"
    );
    assert_eq!(get(&database, "k").as_deref(), Some("10"));
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn reader_timeout() {
    let store = MemoryStore::new();
    let allowance = ReaderAllowance::STRICT;
    let options = small_slices().retention(Retention::None).readers(allowance);
    let log = options.log.clone().tending(keepstone_mvcc_temporal::Tending::Caller);
    let database = store.open_with(options.log(log)).unwrap();
    let first = write_round(&database, 40, 0);
    let held = database.snapshot_at(first).unwrap();
    let mut scan = held.scan(T, ..).unwrap();
    assert!(scan.next().unwrap().is_ok());
    for round in 1..=5 {
        write_round(&database, 40, round);
        database.compact().unwrap();
        assert_eq!(get(&held, "00007").as_deref(), Some("0 of 7"), "exact while it may be held");
    }
    // Idleness counts from the look that sees the last call.
    database.tend();
    store.clock.advance(Duration::from_secs(50));
    database.tend();
    assert_eq!((database.stats().readers_warned, database.stats().readers_aborted), (1, 0));
    store.clock.advance(Duration::from_secs(20));
    database.tend();
    assert_eq!((database.stats().readers_warned, database.stats().readers_aborted), (1, 1));
    assert_eq!(held.get(T, "00007"), Err(ReadError::ReaderAborted));
    assert_eq!(held.scan(T, ..).err(), Some(ReadError::ReaderAborted));
    assert_eq!(scan.next().map(|row| row.err()), Some(Some(ReadError::ReaderAborted)));
    assert!(scan.next().is_none(), "it ends after an error");
    let history = database.stats().history_rows;
    let report = database.compact().unwrap();
    assert!(report.pruned_rows > 0, "what it held goes: {report:?} of {history}");
    assert!(matches!(database.snapshot_at(first), Err(ReadError::HistoryGone { .. })));
    assert_eq!(get(&database, "00007").as_deref(), Some("5 of 7"), "others read on");
}

#[test]
fn the_newest_checkpoint_can_be_read_without_the_log() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices()).unwrap();
    write_round(&database, 30, 0);
    write_round(&database, 30, 1);
    database.checkpoint().unwrap();
    write_round(&database, 30, 2);
    drop(database);
    let at_checkpoint = options().recovery(Recovery::ReadOnlyAtCheckpoint);
    let database = store.open_with(at_checkpoint).unwrap();
    assert!(database.is_read_only());
    assert_eq!(database.visible_version(), version("2"));
    assert_eq!(get(&database, "00001").as_deref(), Some("1 of 1"));
    assert_eq!(get(&database.snapshot_at(version("1")).unwrap(), "00001").as_deref(), Some("0 of 1"));
    assert_eq!(
        database.begin().unwrap().put(T, "x", b"1".as_slice()).unwrap_err().kind().as_str(),
        "read-only"
    );
    drop(database);
    assert_eq!(get(&store.open(), "00001").as_deref(), Some("2 of 1"), "and the log is as it was");
}

#[test]
fn times_and_differences_reach_across_what_is_folded() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices()).unwrap();
    for number in 1..=9_u64 {
        store.clock.set_now(Timestamp::from_micros(number * 1_000_000));
        put(&database, &format!("k{}", number % 4), &number.to_string());
        if number == 4 || number == 7 {
            database.checkpoint().unwrap();
        }
    }
    for number in 1..=9_u64 {
        let at = Timestamp::from_micros(number * 1_000_000 + 5);
        assert_eq!(database.version_at(at), Ok(Version::from_raw(number)));
        let info = database.commit_info(Version::from_raw(number)).unwrap().unwrap();
        assert_eq!(info.time, Timestamp::from_micros(number * 1_000_000));
    }
    let changed = |from: u64, to: u64| -> Vec<(String, Option<String>, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let changes = database.diff(Version::from_raw(from), Version::from_raw(to)).unwrap();
        changes
            .map(Result::unwrap)
            .map(|change| {
                (
                    text(&change.key),
                    change.before.map(|value| text(&value)),
                    change.after.map(|value| text(&value)),
                )
            })
            .collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        changed(4, 6),
        [("k1".to_owned(), some("1"), some("5")), ("k2".to_owned(), some("2"), some("6")),]
    );
    assert_eq!(
        changed(8, 6),
        [("k0".to_owned(), some("8"), some("4")), ("k3".to_owned(), some("7"), some("3")),]
    );
    assert_eq!(changed(0, 2).len(), 2);
    assert_eq!(database.commits().unwrap().map(|commit| commit.unwrap().version.to_raw()).sum::<u64>(), 45);
}

#[test]
fn the_controller_says_how_folding_keeps_up() {
    let store = MemoryStore::new();
    let checkpoint = CheckpointOptions::default().memory_bytes(50_000);
    let database = store.open_with(options().checkpoint(checkpoint)).unwrap();
    let quiet = database.reconciler_stats();
    assert_eq!((quiet.depth_bytes, quiet.interval), (0, Duration::from_millis(100)));
    assert!((quiet.health - 1.0).abs() < f64::EPSILON);
    database.close().unwrap();
}

/// A name keeps one commit long after its neighbours went: what looks for commits by time or one after the other steps over
/// the gap.
#[test]
fn commits_are_found_on_both_sides_of_those_that_went() {
    let store = MemoryStore::new();
    let database = store.open_with(small_slices().retention(Retention::None)).unwrap();
    let mut times = BTreeMap::new();
    let write = |times: &mut BTreeMap<u64, Timestamp>, count: u32| {
        for number in 0..count {
            store.clock.advance(Duration::from_secs(1));
            let receipt = put(&database, "k", &number.to_string());
            times.insert(receipt.version.sequence(), receipt.time);
        }
    };
    write(&mut times, 100);
    database.name_version("kept", version("3")).unwrap();
    write(&mut times, 5);
    let listed = database.commits().unwrap().rev();
    database.compact().unwrap();
    let oldest = database.stats().oldest.sequence();
    assert_eq!(oldest, 106);
    write(&mut times, 4);
    let expected: Vec<u64> = std::iter::once(3).chain(106..=110).collect();
    let found = |commits: &mut dyn Iterator<Item = Result<CommitInfo, ReadError>>| -> Vec<u64> {
        commits.map(|commit| commit.unwrap().version.sequence()).collect()
    };
    assert_eq!(found(&mut database.commits().unwrap().rev()), expected);
    assert_eq!(found(&mut { listed }), [3, 106], "what went meanwhile is left out, and nothing else");
    let mut downwards = found(&mut database.commits().unwrap());
    downwards.reverse();
    assert_eq!(downwards, expected);
    let mut both = database.commits().unwrap();
    let ends: Vec<_> = [both.next(), both.next_back(), both.next_back()].into_iter().flatten().collect();
    assert_eq!(found(&mut ends.into_iter()), [110, 3, 106]);
    assert_eq!(found(&mut both), [109, 108, 107]);
    for sequence in &expected {
        let at = database.version_at(times[sequence]).unwrap();
        assert_eq!(at.sequence(), *sequence, "at the time of {sequence}");
    }
    for sequence in [2, 4, 50, 105] {
        assert_eq!(database.version_at(times[&sequence]), Ok(Version::ZERO), "{sequence} went");
    }
    // Retention looks for its floor by time too.
    drop(database);
    let hour = Duration::from_secs(3_600);
    let database = store.open_with(small_slices().retention(Retention::For(hour))).unwrap();
    store.clock.advance(hour * 2);
    put(&database, "k", "last");
    database.compact().unwrap();
    assert_eq!(database.stats().oldest.sequence(), 110, "current an hour ago");
}

/// The longest keys, whatever their bytes, have room in every tree that a checkpoint writes, on pages of every size.
#[test]
fn the_longest_keys_are_folded_on_pages_of_every_size() {
    for page_size in [4_096_u32, 8_192, 16_384] {
        let disk = MemoryVfs::new();
        let open = || open_on(Arc::new(disk.clone()), options().page_size(page_size)).unwrap();
        let database = open();
        let len = KEY_LEN_MAX.min(page_size as usize / 8);
        let mut longest = vec![vec![0; len], vec![0xFF; len], vec![1; len]];
        longest.push((0..len).map(|at| u8::from(at % 2 == 1)).collect());
        longest.push((0..len).map(|at| u8::from(at % 2 == 0)).collect());
        longest.sort();
        for round in 0..3_u8 {
            let mut txn = database.begin().unwrap();
            for key in &longest {
                txn.put(T, key, vec![round; 10]).unwrap();
            }
            txn.commit().unwrap();
            database.checkpoint().unwrap();
        }
        let mut txn = database.begin().unwrap();
        let refused = txn.put(T, vec![0; len + 1], b"1".as_slice()).unwrap_err();
        assert_eq!(refused.kind().as_str(), "key-too-long");
        assert!(refused.to_string().contains(&format!("at most {len} ")), "{refused}");
        drop(txn);
        database.close().unwrap();
        let database = open();
        for key in &longest {
            let values: Vec<_> =
                database.history(T, key).unwrap().map(|entry| entry.unwrap().value.unwrap()[0]).collect();
            assert_eq!(values, [2, 1, 0], "page size {page_size}, {}", key.escape_ascii());
        }
        let found: Vec<_> = database.scan(T, ..).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        assert_eq!(found, longest);
        assert!(database.check().unwrap().is_sound());
    }
}
