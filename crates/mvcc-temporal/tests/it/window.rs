//! The commit window: bounded in bytes, and whoever began before it is refused, not let through.

use keepstone_mvcc_temporal::{CommitError, DatabaseOptions, WriteError};

use crate::support::{MemoryStore, T, add, get, kind, options, put};

fn small_window() -> DatabaseOptions {
    options().window_bytes_max(64 << 10)
}

#[test]
fn an_old_transaction_is_refused_when_the_window_moved_on() {
    let database = MemoryStore::new().open_with(small_window()).unwrap();
    put(&database, "read", "1");
    let mut old = database.begin().unwrap();
    let id = old.id();
    let _read = get(&old, "read");
    for number in 0..1_000 {
        put(&database, &format!("{number:06}"), "v");
        assert!(database.stats().window_bytes <= 64 << 10);
    }
    old.put(T, "mine", b"v".as_slice()).unwrap();
    match old.commit().unwrap_err() {
        CommitError::ConflictWindowExceeded { txn, began, oldest } => {
            assert_eq!((txn, began.sequence()), (id, 1));
            assert!(oldest > began && oldest < database.visible_version());
        }
        other => panic!("{other}"),
    }
    assert_eq!(get(&database, "mine"), None);
    assert_eq!(database.stats().windows_exceeded, 1);
}

#[test]
fn old_readers_and_blind_writers_need_no_window() {
    let database = MemoryStore::new().open_with(small_window()).unwrap();
    put(&database, "read", "1");
    let reader = database.begin().unwrap();
    let mut blind =
        crate::support::with_isolation(&database, keepstone_mvcc_temporal::Isolation::ReadCommitted);
    for number in 0..1_000 {
        put(&database, &format!("{number:06}"), "v");
    }
    blind.put(T, "blind", b"v".as_slice()).unwrap();
    assert_eq!(kind(blind.commit()), Ok(()));
    assert_eq!(get(&reader, "read").as_deref(), Some("1"));
    assert_eq!(kind(reader.commit()), Ok(()));
}

#[test]
fn write_runs_again_when_the_window_moved_on() {
    let database = MemoryStore::new().open_with(small_window()).unwrap();
    let mut runs = 0;
    database
        .write(|txn| {
            runs += 1;
            let new = add(txn, "n", 1)?;
            for number in 0..if runs == 1 { 1_000 } else { 0 } {
                put(&database, &format!("{number:06}"), "v");
            }
            Ok::<_, WriteError>(new)
        })
        .unwrap();
    assert_eq!(runs, 2);
}

#[test]
fn a_commit_larger_than_the_window_is_still_validated_against() {
    let database = MemoryStore::new().open_with(small_window()).unwrap();
    put(&database, "a", "1");
    let begin = || database.begin().unwrap();
    let (mut hit, mut missed, mut phantom) = (begin(), begin(), begin());
    let _reads = (get(&hit, "bulk/000500"), get(&missed, "zebra"));
    let _scan = crate::support::keys(&phantom, "bulk/0009".."bulk/1");
    let mut bulk = begin();
    for number in 0..5_000 {
        bulk.put(T, format!("bulk/{number:06}"), b"v".as_slice()).unwrap();
    }
    bulk.commit().unwrap();
    assert!(database.stats().window_bytes <= 64 << 10);
    for txn in [&mut hit, &mut missed, &mut phantom] {
        txn.put(T, format!("result/{}", txn.id()), b"v".as_slice()).unwrap();
    }
    assert_eq!(kind(hit.commit()), Err("conflict"));
    assert_eq!(kind(phantom.commit()), Err("conflict"));
    assert_eq!(kind(missed.commit()), Ok(()));
}

#[test]
fn validation_in_chunks_outside_the_lock_finds_every_conflict() {
    for distance in [1, 7, 8, 9, 63, 64, 65, 200] {
        for hits in [None, Some(0), Some(distance / 2), Some(distance - 1)] {
            let database = MemoryStore::new().open();
            put(&database, "a", "1");
            let mut txn = database.begin().unwrap();
            for number in 0..100 {
                let _read = get(&txn, &format!("read/{number}"));
            }
            for number in 0..distance {
                let key = if hits == Some(number) { "read/50" } else { "other" };
                put(&database, key, "v");
            }
            txn.put(T, "result", b"v".as_slice()).unwrap();
            let expected = if hits.is_some() { Err("conflict") } else { Ok(()) };
            assert_eq!(kind(txn.commit()), expected, "{distance} commits, hit at {hits:?}");
        }
    }
}
