//! Closing: calls in progress are waited for, handles end with `Closed`, and the store can be opened again.

use keepstone_mvcc_temporal::{CloseError, CommitError, OpenError, Read, ReadError};

use crate::support::{MemoryStore, T, get, keys, kind, on_disk, options, put};

#[test]
fn every_handle_ends_with_closed() {
    let store = MemoryStore::new();
    let database = store.open();
    for number in 0..2_000 {
        put(&database, &format!("{number:04}"), "v");
    }
    let snapshot = database.snapshot().unwrap();
    let mut scan = database.scan(T, ..).unwrap();
    scan.next().unwrap().unwrap();
    let mut history = database.history(T, "0000").unwrap();
    let mut diff = database.diff(keepstone_types::Version::ZERO, database.visible_version()).unwrap();
    let mut txn = database.begin().unwrap();
    txn.put(T, "late", b"v".as_slice()).unwrap();
    let clone = database.clone();
    database.close().unwrap();
    assert_eq!(snapshot.get(T, "0000"), Err(ReadError::Closed));
    assert_eq!(snapshot.scan(T, ..).err(), Some(ReadError::Closed));
    assert_eq!(scan.next(), Some(Err(ReadError::Closed)));
    assert_eq!((scan.next(), scan.next_back()), (None, None));
    assert_eq!(history.next(), Some(Err(ReadError::Closed)));
    assert_eq!(history.next(), None);
    assert_eq!(diff.next(), Some(Err(ReadError::Closed)));
    assert_eq!(diff.next(), None);
    assert_eq!(txn.get(T, "late"), Err(ReadError::Closed));
    assert!(matches!(txn.put(T, "later", b"v".as_slice()), Err(CommitError::Closed)));
    assert!(matches!(txn.commit(), Err(CommitError::Closed)));
    assert_eq!(clone.begin().err(), Some(ReadError::Closed));
    assert_eq!(clone.get(T, "0000"), Err(ReadError::Closed));
    assert_eq!(clone.snapshot().err(), Some(ReadError::Closed));
    assert!(
        matches!(clone.write(|_| Ok::<_, keepstone_mvcc_temporal::WriteError>(())), Err(error) if error.kind().as_str() == "closed")
    );
    assert_eq!(clone.check().err(), Some(ReadError::Closed));
    assert_eq!(kind(clone.sync()), Err("closed"));
    // The other handles are still there, and yet the store can be opened again.
    let again = store.open();
    assert!(again.recovery().clean);
    assert_eq!(keys(&again, ..).len(), 2_000);
    assert!(matches!(clone.close(), Err(CloseError::AlreadyClosed)));
}

#[test]
fn dropping_the_last_handle_closes() {
    let (dir, database) = on_disk();
    let path = dir.path().join("store");
    put(&database, "a", "1");
    let snapshot = database.snapshot().unwrap();
    let scan = database.scan(T, ..).unwrap();
    drop(database);
    let locked = keepstone_mvcc_temporal::Database::open(&path, options());
    assert!(matches!(locked, Err(OpenError::Locked { .. })), "the snapshot still holds the store");
    drop(snapshot);
    let again = keepstone_mvcc_temporal::Database::open(&path, options()).unwrap();
    assert!(again.recovery().clean);
    assert_eq!(get(&again, "a").as_deref(), Some("1"));
    assert_eq!(scan.last(), Some(Err(ReadError::Closed)));
}

#[test]
fn close_waits_for_commits_in_progress() {
    let store = MemoryStore::new();
    let database = store.open();
    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let database = database.clone();
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for number in 0.. {
                        let key = format!("{writer}/{number:06}");
                        let mut txn = match database.begin() {
                            Ok(txn) => txn,
                            Err(error) => {
                                assert_eq!(error, ReadError::Closed);
                                return done;
                            }
                        };
                        if txn.put(T, &key, b"v".as_slice()).is_err() {
                            return done;
                        }
                        match txn.commit() {
                            Ok(_) => done.push(key),
                            Err(CommitError::Closed) => return done,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    done
                })
            })
            .collect();
        while database.visible_version().sequence() < 100 {
            std::thread::yield_now();
        }
        database.clone().close().unwrap();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let mut acknowledged = acknowledged;
    acknowledged.sort();
    assert!(acknowledged.len() >= 100);
    drop(database);
    assert_eq!(keys(&store.open(), ..), acknowledged);
}

#[test]
fn a_closure_may_close_the_store_it_writes_to() {
    let store = MemoryStore::new();
    let database = store.open();
    let result = database.write(|txn| {
        txn.put(T, "a", b"1".as_slice())?;
        database.clone().close().unwrap();
        Ok::<_, keepstone_mvcc_temporal::WriteError>(())
    });
    assert_eq!(result.unwrap_err().kind().as_str(), "closed");
    drop(database);
    assert_eq!(keys(&store.open(), ..), Vec::<String>::new());
}

/// The thread that folds holds the store while it works, and is no handle: with the last of these the store is closed.
#[test]
fn dropping_the_last_handle_closes_while_the_thread_folds() {
    for keys_per_slice in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let checkpoint = keepstone_mvcc_temporal::CheckpointOptions::default();
        let options = options().checkpoint(checkpoint.memory_bytes(1 << 20).slice_keys(keys_per_slice));
        let open = || keepstone_mvcc_temporal::Database::open(&path, options.clone());
        let database = open().unwrap();
        let mut txn = database.begin().unwrap();
        for number in 0..8_000 {
            txn.put(T, format!("{number:05}"), b"value".as_slice()).unwrap();
        }
        txn.commit().unwrap();
        while database.stats().checkpoint_slices < 2 {
            std::thread::yield_now();
        }
        assert_eq!(database.stats().checkpoints, 0, "it is not done");
        drop(database);
        let again = open().unwrap();
        assert!(again.recovery().clean);
        assert_eq!(keys(&again, ..).len(), 8_000);
    }
}
