//! Closing with calls in progress: each gets an outcome, and what was acknowledged is there when the store opens again.

use keepstone_mvcc_temporal::{CommitError, Database, Read, ReadError, Tending};
use keepstone_types::Version;
use keepstone_types::sync::model;

use crate::world::{T, World};

/// Commits one row; `None` when the store was closed first.
fn put(database: &Database, key: &str) -> Option<Version> {
    let mut txn = match database.begin() {
        Ok(txn) => txn,
        Err(ReadError::Closed) => return None,
        Err(error) => panic!("{error}"),
    };
    match txn.put(T, key, b"v".as_slice()).and_then(|()| txn.commit()) {
        Ok(receipt) => Some(receipt.version),
        Err(CommitError::Closed) => None,
        Err(error) => panic!("{error}"),
    }
}

fn close_in_the_middle(tending: Tending) {
    let world = World::new(tending);
    let before = put(&world.database, "before").unwrap();
    let writers: Vec<_> =
        ["a", "b"].map(|key| world.spawn(move |world| (key, put(&world.database, key)))).into();
    let reader = world.spawn(move |world| {
        let found = world.database.snapshot().and_then(|snapshot| snapshot.get(T, "before"));
        match found {
            Ok(value) => assert!(value.is_some(), "what {before} wrote is gone"),
            Err(error) => assert_eq!(error, ReadError::Closed),
        }
    });
    let database = world.database.clone();
    database.close().unwrap();
    // The folder is free and in order as soon as `close` returns, whatever the others still hold.
    let again = world.open_again();
    assert!(again.recovery().clean, "not closed in order");
    assert_eq!(world.database.begin().err(), Some(ReadError::Closed));
    let mut kept = 1;
    for writer in writers {
        let (key, version) = writer.join().unwrap();
        let found = again.get(T, key).unwrap();
        assert_eq!(found.is_some(), version.is_some(), "{key} was acknowledged as {version:?}");
        kept += u64::from(version.is_some());
    }
    assert_eq!(again.visible_version().sequence(), kept);
    reader.join().unwrap();
}

#[test]
fn close_with_calls_in_progress() {
    model::check("close with calls in progress", || close_in_the_middle(Tending::Caller));
}

#[test]
fn close_with_calls_in_progress_and_the_keeper() {
    model::check("close with calls in progress and the keeper", || close_in_the_middle(Tending::Thread));
}
