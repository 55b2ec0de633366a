//! Transactions that are too large for memory: their rows go to runs, and one record of the log makes these part of the store.

use std::path::Path;
use std::sync::Arc;

use keepstone_mvcc_temporal::{
    Database, DatabaseOptions, Durability, Isolation, Read, Retention, Tending, Txn, TxnOptions, WriteError,
};
use keepstone_types::Version;
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt};

use crate::support::{DIR, T, delete, get, keys, kind, open_on, options, put, version};

/// Rows of a transaction that goes to several runs: 400 bytes each, 64 KiB in memory.
const ROWS: u32 = 3_000;

fn small() -> DatabaseOptions {
    options().transaction_memory_bytes(64 << 10).retention(Retention::Forever)
}

/// Nothing is folded by itself.
fn unfolded() -> DatabaseOptions {
    let options = small();
    let log = options.log.clone().tending(Tending::Caller);
    options.log(log)
}

fn key(number: u32) -> String {
    // Not in order, so that the runs overlap.
    format!("{:05}", number.wrapping_mul(7_919) % 100_003)
}

fn value(number: u32, round: u8) -> Vec<u8> {
    let mut value = vec![round; 400];
    value[..4].copy_from_slice(&number.to_le_bytes());
    value
}

fn write_rows(txn: &mut Txn, rows: std::ops::Range<u32>, round: u8) {
    for number in rows {
        txn.put(T, key(number), value(number, round)).unwrap();
    }
}

fn bulk(database: &Database, rows: std::ops::Range<u32>, round: u8) -> Version {
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted)).unwrap();
    write_rows(&mut txn, rows, round);
    txn.commit().unwrap().version
}

fn run_files(disk: &MemoryVfs) -> usize {
    disk.list(&Path::new(DIR).join("runs")).map_or(0, |entries| entries.len())
}

fn reads(reader: &impl Read, rows: std::ops::Range<u32>, round: u8) {
    let mut expected: Vec<_> = rows.map(|number| (key(number), value(number, round))).collect();
    expected.sort();
    let found: Vec<_> = reader
        .scan(T, ..)
        .unwrap()
        .map(|row| row.unwrap())
        .map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.to_vec()))
        .collect();
    assert!(found == expected, "{} rows, expected {}", found.len(), expected.len());
    let mut down: Vec<_> = reader.scan(T, ..).unwrap().rev().map(|row| row.unwrap().1.to_vec()).collect();
    down.reverse();
    assert!(down.iter().eq(expected.iter().map(|(_, value)| value)));
    for (key, value) in expected.iter().step_by(97) {
        assert_eq!(reader.get(T, key).unwrap().unwrap()[..], value[..]);
    }
    assert!(reader.get(T, "none").unwrap().is_none());
}

#[test]
fn a_large_transaction_is_read_before_it_is_folded_after_it_and_when_opened_again() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk.clone()), unfolded()).unwrap();
    put(&database, "00001", "small");
    let before = database.snapshot().unwrap();
    let mut txn = database.begin().unwrap();
    write_rows(&mut txn, 0..ROWS, 1);
    assert!(run_files(&disk) > 1, "what is too much for memory is on disk before it is committed");
    reads_own(&txn);
    let receipt = txn.commit().unwrap();
    assert_eq!(receipt.version, version("2"));
    assert!(receipt.rows >= u64::from(ROWS));
    assert_eq!(keys(&before, ..), ["00001"], "what was begun before does not see it");
    let now = database.snapshot().unwrap();
    check_round(&now, 1);
    put(&database, "00001", "later");
    check_round(&now, 1);
    assert!(database.check().unwrap().is_sound());
    database.checkpoint().unwrap();
    assert_eq!((database.stats().runs, run_files(&disk)), (0, 0), "what is folded needs no runs");
    check_round(&now, 1);
    assert_eq!(get(&database, "00001").as_deref(), Some("later"));
    assert!(database.check().unwrap().is_sound());
    drop((before, now));
    database.close().unwrap();
    let database = open_on(Arc::new(disk), unfolded()).unwrap();
    check_round(&database.snapshot_at(receipt.version).unwrap(), 1);
    assert_eq!(get(&database, "00001").as_deref(), Some("later"));
}

fn reads_own(txn: &Txn) {
    let count = txn.scan(T, ..).unwrap().count();
    assert_eq!(count, ROWS as usize + 1, "its own rows, and the one that was there");
    assert_eq!(txn.get(T, key(7)).unwrap().unwrap()[..], value(7, 1)[..]);
}

/// The rows of a round, and the small one.
fn check_round(reader: &impl Read, round: u8) {
    assert_eq!(reader.scan(T, ..).unwrap().count(), ROWS as usize + 1);
    for number in (0..ROWS).step_by(31) {
        assert_eq!(reader.get(T, key(number)).unwrap().unwrap()[..], value(number, round)[..]);
    }
}

#[test]
fn a_store_that_was_not_closed_has_what_was_committed_and_no_file_of_what_was_not() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk.clone()), unfolded()).unwrap();
    let committed = bulk(&database, 0..ROWS, 1);
    let mut open = database.begin().unwrap();
    write_rows(&mut open, 0..ROWS, 2);
    // What is there when a process is killed.
    let copy = copied(&disk);
    drop(open);
    drop(database);
    let files = run_files(&copy);
    let database = open_on(Arc::new(copy.clone()), unfolded()).unwrap();
    assert_eq!(database.visible_version(), committed);
    reads(&database, 0..ROWS, 1);
    assert!(run_files(&copy) < files, "the runs of the transaction that was open are gone");
    assert!(database.check().unwrap().is_sound());
    database.checkpoint().unwrap();
    reads(&database, 0..ROWS, 1);
    assert_eq!(run_files(&copy), 0);
    bulk(&database, 0..ROWS, 3);
    reads(&database, 0..ROWS, 3);
}

/// The files as they are, on another disk.
fn copied(from: &MemoryVfs) -> MemoryVfs {
    fn copy(from: &MemoryVfs, to: &MemoryVfs, dir: &Path) {
        to.create_dir(dir).unwrap();
        for entry in from.list(dir).unwrap() {
            let path = dir.join(&entry.name);
            if from.list(&path).is_ok() {
                copy(from, to, &path);
            } else {
                let bytes = from.read_file(&path, u64::MAX).unwrap();
                let file = to.open(&path, OpenOptions::CREATE_NEW).unwrap();
                keepstone_vfs::VfsFileExt::write_all_at(&*file, &bytes, 0).unwrap();
            }
        }
    }
    let to = MemoryVfs::new();
    copy(from, &to, Path::new(DIR));
    to
}

#[test]
fn a_transaction_that_is_dropped_leaves_no_file() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk.clone()), small()).unwrap();
    put(&database, "kept", "1");
    let mut txn = database.begin().unwrap();
    write_rows(&mut txn, 0..ROWS, 1);
    let scan = txn.scan(T, ..).unwrap();
    assert!(run_files(&disk) > 0);
    drop(txn);
    drop(scan);
    assert_eq!(run_files(&disk), 0);
    assert_eq!(keys(&database, ..), ["kept"]);
}

#[test]
fn deletions_and_later_writes_win_over_earlier_ones_within_a_transaction_and_below_it() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk), unfolded()).unwrap();
    bulk(&database, 0..ROWS, 1);
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::Snapshot)).unwrap();
    write_rows(&mut txn, 0..ROWS, 2);
    for number in 0..ROWS {
        if number % 3 == 0 {
            txn.delete(T, key(number)).unwrap();
        }
    }
    write_rows(&mut txn, 0..30, 3);
    let own = txn.scan(T, ..).unwrap().count();
    txn.commit().unwrap();
    let expected = |number: u32| match number {
        0..30 => Some(3),
        number if number % 3 == 0 => None,
        _ => Some(2),
    };
    for when in ["attached", "folded"] {
        for number in 0..ROWS {
            let found = database.get(T, key(number)).unwrap().map(|value| value[10]);
            assert_eq!(found, expected(number), "{when}, row {number}");
        }
        assert_eq!(database.scan(T, ..).unwrap().count(), own, "{when}");
        reads(&database.snapshot_at(version("1")).unwrap(), 0..ROWS, 1);
        let history: Vec<_> = database
            .history(T, key(33))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.version.to_raw(), entry.value.map(|value| value[10])))
            .collect();
        assert_eq!(history, [(2, None), (1, Some(1))], "{when}");
        let changes = database.diff(version("1"), version("2")).unwrap().count();
        assert_eq!(changes, ROWS as usize, "{when}");
        database.checkpoint().unwrap();
    }
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn what_another_wrote_within_its_ranges_is_a_conflict_both_ways() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk), small()).unwrap();
    put(&database, "50000", "1");
    put(&database, "zz", "1");
    let mut large = database.begin().unwrap();
    let mut small = database.begin().unwrap();
    write_rows(&mut large, 0..ROWS, 1);
    small.put(T, "50000", b"2".as_slice()).unwrap();
    small.commit().unwrap();
    assert_eq!(kind(large.commit()), Err("conflict"));
    let mut large = database.begin().unwrap();
    let mut reader = database.begin().unwrap();
    let mut apart = database.begin().unwrap();
    assert_eq!(reader.get(T, key(3)).unwrap(), None);
    reader.put(T, "zzz", b"1".as_slice()).unwrap();
    apart.put(T, "zz", b"2".as_slice()).unwrap();
    write_rows(&mut large, 0..ROWS, 1);
    large.commit().unwrap();
    assert_eq!(kind(reader.commit()), Err("conflict"), "it read what the large one wrote");
    apart.commit().unwrap();
}

#[test]
fn a_missing_run_or_another_in_its_place_is_told() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk.clone()), unfolded()).unwrap();
    bulk(&database, 0..ROWS, 1);
    database.close().unwrap();
    let runs = Path::new(DIR).join("runs");
    let first = runs.join(&disk.list(&runs).unwrap()[0].name);
    let missing = copied(&disk);
    missing.remove(&first).unwrap();
    let error = open_on(Arc::new(missing), unfolded()).unwrap_err();
    assert_eq!(error.kind().as_str(), "run");
    assert!(error.to_string().contains(&first.display().to_string()), "{error}");
    let swapped = copied(&disk);
    let second = runs.join(&disk.list(&runs).unwrap()[1].name);
    swapped.rename(&second, &first).unwrap();
    assert_eq!(open_on(Arc::new(swapped), unfolded()).unwrap_err().kind().as_str(), "run");
    for damage in ["cut", "rotten"] {
        let damaged = copied(&disk);
        let file = damaged.open(&first, OpenOptions::WRITE).unwrap();
        match damage {
            "cut" => file.set_len(8_192 * 5).unwrap(),
            _ => keepstone_vfs::VfsFileExt::write_all_at(&*file, &[0xA5; 512], 8_192 * 5 + 700).unwrap(),
        }
        match open_on(Arc::new(damaged), unfolded()) {
            Err(error) => assert_eq!(error.kind().as_str(), "run"),
            Ok(database) => {
                let report = database.check().unwrap();
                assert!(!report.is_sound(), "{damage}");
                assert!(report.findings[0].place.contains("runs"), "{:?}", report.findings);
            }
        }
    }
}

#[test]
fn a_relaxed_store_has_a_large_transaction_on_stable_storage_when_it_returns() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk), small().durability(Durability::None)).unwrap();
    put(&database, "before", "1");
    let committed = bulk(&database, 0..ROWS, 1);
    assert_eq!(database.durable_version(), committed);
    let submitted = {
        let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted)).unwrap();
        write_rows(&mut txn, 0..ROWS, 2);
        txn.submit().unwrap()
    };
    assert_eq!(submitted.wait().unwrap().version, database.durable_version());
}

#[test]
fn commits_go_on_beside_large_ones_and_keep_their_order() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk.clone()), small()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..3_u32 {
            let database = &database;
            scope.spawn(move || {
                for round in 0..60_u32 {
                    put(database, &format!("w{writer}/{round:02}"), &round.to_string());
                    let snapshot = database.snapshot().unwrap();
                    let found = snapshot.get(T, format!("w{writer}/{round:02}")).unwrap().unwrap();
                    assert_eq!(found[..], *round.to_string().as_bytes());
                    let rows = snapshot.scan(T, ..="99999").unwrap().count();
                    assert!(rows == 0 || rows == 600, "{rows} rows of the large transactions");
                }
            });
        }
        scope.spawn(|| {
            for round in 1..8 {
                bulk(&database, 0..600, round);
                if round % 3 == 0 {
                    database.checkpoint().unwrap();
                }
            }
        });
    });
    let commits: Vec<_> =
        database.commits().unwrap().map(|commit| commit.unwrap().version.sequence()).collect();
    assert!(commits.iter().copied().eq((1..=187).rev()));
    delete(&database, "w0/00");
    assert!(database.check().unwrap().is_sound());
    database.close().unwrap();
    let database = open_on(Arc::new(disk), small()).unwrap();
    assert_eq!(database.scan(T, ..="99999").unwrap().count(), 600);
    assert_eq!(database.scan(T, "w"..).unwrap().count(), 179);
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn a_closure_of_any_size_is_one_commit() {
    let disk = MemoryVfs::new();
    let database = open_on(Arc::new(disk), small()).unwrap();
    let made = database
        .write(|txn| {
            for number in 0..ROWS {
                txn.put(T, key(number), value(number, 1))?;
            }
            Ok::<_, WriteError>(())
        })
        .unwrap();
    assert_eq!(made.version, Some(version("1")));
    reads(&database, 0..ROWS, 1);
    database.rollback_to(Version::ZERO).unwrap();
    assert_eq!(database.scan(T, ..).unwrap().count(), 0);
}
