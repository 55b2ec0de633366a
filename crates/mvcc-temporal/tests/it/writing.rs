//! Writing: `write` with its retries, rollback, limits, submitted commits.

use std::cell::Cell;

use keepstone_mvcc_temporal::{
    CommitError, Durability, Isolation, KEY_LEN_MAX, Read, TABLE_NAME_LEN_MAX, TxnOptions, VALUE_LEN_MAX,
    WriteError,
};

use crate::support::{MemoryStore, T, add, get, keys, kind, memory, number, on_both, put, with_isolation};

#[test]
fn write_returns_the_closures_value_and_the_version() {
    on_both(|database| {
        let done = database.write(|txn| add(txn, "n", 5)).unwrap();
        assert_eq!((done.value, done.version), (5, Some(database.visible_version())));
        let read = database.write(|txn| Ok::<_, WriteError>(txn.get(T, "n")?.is_some())).unwrap();
        assert_eq!((read.value, read.version, read.time), (true, None, done.time));
        let options = TxnOptions::default().isolation(Isolation::Snapshot).durability(Durability::Full);
        let full = database.write_with(options, |txn| {
            assert_eq!(txn.isolation(), Isolation::Snapshot);
            add(txn, "n", 1)
        });
        assert_eq!(full.unwrap().value, 6);
    });
}

#[test]
fn the_callers_error_rolls_back_and_comes_out() {
    let database = memory();
    let error = database
        .write(|txn| {
            txn.put(T, "a", b"1".as_slice())?;
            Err::<(), _>(WriteError::Caller("no money"))
        })
        .unwrap_err();
    assert!(matches!(error, WriteError::Caller("no money")));
    assert_eq!((error.kind().as_str(), error.is_retryable()), ("caller", false));
    assert_eq!(keys(&database, ..), Vec::<String>::new());
    assert_eq!(database.stats().rolled_back, 1);
}

#[test]
fn write_runs_again_after_a_conflict_and_never_after_anything_else() {
    let database = memory();
    let runs = Cell::new(0);
    let done = database.write(|txn| {
        runs.set(runs.get() + 1);
        let new = add(txn, "n", 1)?;
        if runs.get() <= 3 {
            database.write(|other| add(other, "n", 10))?;
        }
        Ok::<_, WriteError>(new)
    });
    assert_eq!((runs.get(), done.unwrap().value), (4, 31));
    let stats = database.stats();
    assert_eq!((stats.retries, stats.conflicts, stats.exclusive_turns), (3, 3, 0));

    let runs = Cell::new(0);
    let refused = database.write(|txn| {
        runs.set(runs.get() + 1);
        Ok::<_, WriteError>(txn.put(T, [0; KEY_LEN_MAX + 1], b"".as_slice())?)
    });
    assert_eq!((runs.get(), refused.unwrap_err().kind().as_str()), (1, "key-too-long"));
}

#[test]
fn a_transaction_that_always_loses_gets_an_exclusive_turn() {
    let database = memory();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let losses = Cell::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                database.write(|txn| add(txn, "hot", 1)).unwrap();
            }
        });
        let done = database.write(|txn| {
            losses.set(losses.get() + 1);
            let seen = number(txn, "hot");
            // Not before somebody else was first, unless that is impossible because the turn is exclusive.
            for _ in 0..2_000_000 {
                if losses.get() > 8 || number(&database, "hot") != seen {
                    break;
                }
                std::hint::spin_loop();
            }
            add(txn, "hot", 0)
        });
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        done.unwrap();
    });
    assert!(losses.get() >= 9, "it lost only {} times", losses.get() - 1);
    assert!(database.stats().exclusive_turns >= 1);
}

#[test]
fn a_panicking_closure_rolls_back_and_leaves_the_store_usable() {
    let database = memory();
    put(&database, "a", "1");
    for losses in [0, 12] {
        let mut runs = 0;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            database.write(|txn| -> Result<(), WriteError> {
                let _read = get(txn, "a");
                txn.put(T, "a", b"panic".as_slice())?;
                runs += 1;
                assert!(runs <= losses, "on purpose");
                // Its own thread gets through its own exclusive turn, so it loses in there too.
                put(&database, "a", &runs.to_string());
                Ok(())
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(get(&database, "a"), Some(losses.max(1).to_string()));
        assert_eq!(database.stats().open_transactions, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| database.write(|txn| add(txn, "n", 1)).unwrap());
        });
    }
    assert_eq!((number(&database, "n"), database.stats().exclusive_turns), (2, 1));
}

#[test]
fn what_is_rolled_back_was_never_there() {
    let store = MemoryStore::new();
    let database = store.open();
    put(&database, "a", "1");
    let before = database.stats();
    let mut txn = database.begin().unwrap();
    txn.put(T, "a", b"2".as_slice()).unwrap();
    txn.put("new table", "b", b"2".as_slice()).unwrap();
    txn.delete(T, "a").unwrap();
    assert_eq!(database.tables(&database).unwrap().len(), 1);
    drop(txn);
    assert_eq!(get(&database, "a").as_deref(), Some("1"));
    assert_eq!(database.get("new table", "b").unwrap(), None);
    assert_eq!(database.tables(&database).unwrap().len(), 1);
    assert_eq!(database.history(T, "a").unwrap().count(), 1);
    let after = database.stats();
    assert_eq!((after.memtable_rows, after.window_commits), (before.memtable_rows, before.window_commits));
    assert_eq!((after.visible, after.rolled_back), (before.visible, before.rolled_back + 1));
    let killed = store.killed().open();
    assert_eq!(keys(&killed, ..), ["a"]);
    assert_eq!(killed.tables(&killed).unwrap().len(), 1);
}

#[test]
fn limits_are_errors_with_both_numbers() {
    let database = memory();
    let mut txn = database.begin().unwrap();
    assert_eq!(kind(txn.put(T, [1; KEY_LEN_MAX], b"".as_slice())), Ok(()));
    let error = txn.put(T, [1; KEY_LEN_MAX + 1], b"".as_slice()).unwrap_err();
    assert!(error.to_string().contains("1025") && error.to_string().contains("1024"), "{error}");
    assert_eq!(kind(txn.put(T, "k", vec![0; VALUE_LEN_MAX + 1])), Err("value-too-large"));
    for name in ["", "\0system", &"n".repeat(TABLE_NAME_LEN_MAX + 1)] {
        assert_eq!(kind(txn.put(name, "k", b"".as_slice())), Err("table-name"), "{name:?}");
    }
    let longest = "n".repeat(TABLE_NAME_LEN_MAX);
    assert_eq!(kind(txn.put(&longest, "", vec![])), Ok(()));
    txn.commit().unwrap();
    assert_eq!(database.get(&longest, "").unwrap().unwrap(), b"", "empty keys and values are fine");
}

#[test]
fn large_commits_survive_reopening() {
    let store = MemoryStore::new();
    let database = store.open();
    let large = vec![7_u8; 3 << 20];
    let mut txn = database.begin().unwrap();
    txn.put(T, "large", large.clone()).unwrap();
    for row in 0..20_000_u32 {
        txn.put("many", row.to_be_bytes(), row.to_le_bytes().as_slice()).unwrap();
    }
    let receipt = txn.commit().unwrap();
    assert_eq!(receipt.rows, 20_003);
    database.close().unwrap();
    let database = store.open();
    assert_eq!(database.get(T, "large").unwrap().unwrap(), large[..]);
    assert_eq!(database.scan("many", ..).unwrap().count(), 20_000);
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn submitted_commits_keep_their_order_and_are_waited_for() {
    on_both(|database| {
        let pending: Vec<_> = (0..50_u32)
            .map(|row| {
                let mut txn = with_isolation(&database, Isolation::Snapshot);
                txn.put(T, format!("{row:02}"), row.to_le_bytes().as_slice()).unwrap();
                txn.submit().unwrap()
            })
            .collect();
        let versions: Vec<_> =
            pending.into_iter().map(|pending| pending.wait().unwrap().version.sequence()).collect();
        assert_eq!(versions, (1..=50).collect::<Vec<_>>());
        assert_eq!(keys(&database, ..).len(), 50);
        let idle = database.begin().unwrap().submit().unwrap().wait().unwrap();
        assert_eq!((idle.rows, idle.version), (0, database.visible_version()));
    });
}

#[test]
fn submitted_commits_conflict_before_they_are_visible() {
    let database = memory();
    put(&database, "a", "0");
    let (mut one, mut two) = (database.begin().unwrap(), database.begin().unwrap());
    let _read = get(&two, "a");
    one.put(T, "a", b"1".as_slice()).unwrap();
    two.put(T, "b", b"2".as_slice()).unwrap();
    let first = one.submit().unwrap();
    assert_eq!(kind(two.commit()), Err("conflict"));
    first.wait().unwrap();
}

#[test]
fn errors_say_whether_trying_again_helps() {
    let waited = std::time::Duration::from_millis(1);
    let unknown = CommitError::CommitOutcomeUnknown { source: "the disk".into() };
    let poisoned = CommitError::Poisoned { source: "the disk".into() };
    let no_space = CommitError::OutOfSpace { source: "the disk".into() };
    for (error, kind, retryable) in [
        (CommitError::Full { waited }, "full", true),
        (no_space, "out-of-space", true),
        (unknown, "commit-outcome-unknown", false),
        (poisoned, "poisoned", false),
        (CommitError::ReadOnly, "read-only", false),
        (CommitError::Closed, "closed", false),
    ] {
        assert_eq!((error.kind().as_str(), error.is_retryable()), (kind, retryable));
        let write: WriteError = error.into();
        assert_eq!((write.kind().as_str(), write.is_retryable()), (kind, retryable));
    }
}

#[test]
fn stats_add_up() {
    let database = memory();
    put(&database, "a", "1");
    drop(database.begin().unwrap());
    database.begin().unwrap().commit().unwrap();
    let open = database.begin().unwrap();
    let snapshot = database.snapshot().unwrap();
    let stats = database.stats();
    assert_eq!((stats.begun, stats.committed, stats.rolled_back, stats.open_transactions), (4, 2, 1, 1));
    assert_eq!((stats.open_snapshots, stats.commits, stats.commit_latency.count), (1, 1, 1));
    assert_eq!((stats.memtable_rows, stats.window_commits), (2, 1));
    assert!(stats.memtable_bytes > 0 && stats.window_bytes > 0);
    drop((open, snapshot));
    let stats = database.stats();
    assert_eq!((stats.open_transactions, stats.open_snapshots, stats.rolled_back), (0, 0, 2));
}
