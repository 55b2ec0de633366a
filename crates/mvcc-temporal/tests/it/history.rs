//! Looking back: time travel, history, commits, diff, names, rollback.

use std::time::Duration;

use keepstone_mvcc_temporal::{CommitError, Read, ReadError};
use keepstone_types::{Timestamp, Version};

use crate::support::{MemoryStore, T, delete, get, keys, kind, memory, put, rows, version};

#[test]
fn every_version_can_be_read_again() {
    let store = MemoryStore::new();
    let database = store.open();
    let mut expected = vec![(Version::ZERO, Vec::new())];
    for number in 0..50_u32 {
        let made = match number % 4 {
            3 => delete(&database, &format!("k{}", number % 7)),
            _ => put(&database, &format!("k{}", number % 7), &number.to_string()),
        };
        expected.push((made.version, rows(&database, ..)));
    }
    let check = |database: &keepstone_mvcc_temporal::Database| {
        for (version, rows_then) in &expected {
            let then = database.snapshot_at(*version).unwrap();
            assert_eq!(&rows(&then, ..), rows_then, "version {version}");
            assert_eq!(then.version(), *version);
        }
    };
    check(&database);
    database.close().unwrap();
    check(&store.open());
    check(&store.killed().open());
}

#[test]
fn versions_are_dense_and_times_ascend_even_when_the_clock_does_not() {
    let store = MemoryStore::new();
    let database = store.open();
    let mut receipts = vec![put(&database, "a", "1"), put(&database, "a", "2")];
    store.clock.set_now(Timestamp::from_micros(5));
    receipts.push(put(&database, "a", "3"));
    store.clock.set_now(Timestamp::from_micros(2_000_000));
    receipts.push(put(&database, "a", "4"));
    database.close().unwrap();
    let database = store.open();
    store.clock.set_now(Timestamp::from_micros(7));
    receipts.push(put(&database, "a", "5"));
    let times: Vec<_> = receipts.iter().map(|receipt| receipt.time.as_micros()).collect();
    assert_eq!(times, [1_000_000, 1_000_001, 1_000_002, 2_000_000, 2_000_001]);
    let versions: Vec<_> = receipts.iter().map(|receipt| receipt.version.sequence()).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    for (micros, expected) in
        [(0, 0), (999_999, 0), (1_000_000, 1), (1_500_000, 3), (2_000_000, 4), (u64::MAX, 5)]
    {
        assert_eq!(
            database.version_at(Timestamp::from_micros(micros)).unwrap(),
            Version::from_raw(expected),
            "{micros}"
        );
    }
}

#[test]
fn unknown_and_future_versions_are_told_apart() {
    let database = memory();
    put(&database, "a", "1");
    let error = database.snapshot_at(version("2")).unwrap_err();
    assert_eq!(error, ReadError::VersionInFuture { asked: version("2"), newest: version("1") });
    let error = database.snapshot_at(version("1:1")).unwrap_err();
    assert!(matches!(error, ReadError::VersionInFuture { .. }));
    assert!(database.snapshot_at(Version::ZERO).is_ok());
    assert_eq!(database.commit_info(version("2")), Ok(None));
    assert_eq!(database.commit_info(Version::ZERO), Ok(None));
}

#[test]
fn history_is_newest_first_with_deletions() {
    let store = MemoryStore::new();
    let database = store.open();
    for number in 0..200 {
        store.clock.advance(Duration::from_secs(1));
        if number % 10 == 9 {
            delete(&database, "k")
        } else {
            put(&database, "k", &number.to_string())
        };
        put(&database, "other", "x");
    }
    let history: Vec<_> = database.history(T, "k").unwrap().map(Result::unwrap).collect();
    assert_eq!(history.len(), 200);
    for (entry, number) in history.iter().zip((0..200_u64).rev()) {
        assert_eq!(entry.version.to_raw(), number * 2 + 1);
        let value = (number % 10 != 9).then(|| number.to_string().into_bytes());
        assert_eq!(entry.value.as_ref().map(|value| value.to_vec()), value);
        assert_eq!(Some(entry.time), database.commit_info(entry.version).unwrap().map(|info| info.time));
    }
    assert_eq!(database.history(T, "none").unwrap().count(), 0);
    assert_eq!(database.history("none", "k").unwrap().count(), 0);
}

#[test]
fn commits_are_listed_from_either_end() {
    let database = memory();
    for number in 0..10 {
        put(&database, "k", &number.to_string());
    }
    let newest_first: Vec<_> =
        database.commits().unwrap().map(|commit| commit.unwrap().version.sequence()).collect();
    assert_eq!(newest_first, (1..=10).rev().collect::<Vec<_>>());
    let oldest_first: Vec<_> =
        database.commits().unwrap().rev().map(|commit| commit.unwrap().version.sequence()).collect();
    assert_eq!(oldest_first, (1..=10).collect::<Vec<_>>());
    let mut commits = database.commits().unwrap();
    assert_eq!(commits.size_hint(), (0, Some(10)));
    assert_eq!(
        commits.next_back().map(|commit| commit.unwrap().rows),
        Some(2),
        "the first wrote the catalog row too"
    );
    assert_eq!(commits.next().map(|commit| commit.unwrap().rows), Some(1));
    assert_eq!(commits.count(), 8);
}

#[test]
fn diff_lists_what_differs_either_way() {
    let database = memory();
    put(&database, "same", "1");
    put(&database, "changed", "1");
    put(&database, "gone", "1");
    let before = put(&database, "back", "1").version;
    put(&database, "changed", "2");
    delete(&database, "gone");
    put(&database, "new", "1");
    put(&database, "back", "2");
    put(&database, "back", "1");
    put(&database, "brief", "1");
    delete(&database, "brief");
    let mut txn = database.begin().unwrap();
    txn.put("another", "k", b"v".as_slice()).unwrap();
    let after = txn.commit().unwrap().version;
    let text = |value: &Option<keepstone_types::ValueRef>| {
        value.as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let diff = |from, to| -> Vec<_> {
        let changes = database.diff(from, to).unwrap().map(Result::unwrap);
        changes
            .map(|change| {
                let key = String::from_utf8(change.key.to_vec()).unwrap();
                (change.table.to_string(), key, text(&change.before), text(&change.after))
            })
            .collect()
    };
    let row = |table: &str, key: &str, before: Option<&str>, after: Option<&str>| {
        (table.to_owned(), key.to_owned(), before.map(str::to_owned), after.map(str::to_owned))
    };
    let expected = [
        row("t", "changed", Some("1"), Some("2")),
        row("t", "gone", Some("1"), None),
        row("t", "new", None, Some("1")),
        row("another", "k", None, Some("v")),
    ];
    assert_eq!(diff(before, after), expected);
    let turned: Vec<_> = expected.iter().cloned().map(|(table, key, a, b)| (table, key, b, a)).collect();
    assert_eq!(diff(after, before), turned);
    assert_eq!(diff(after, after), []);
    assert!(database.diff(after, version("99")).is_err());
}

#[test]
fn rollback_makes_a_new_version_with_the_old_content() {
    let store = MemoryStore::new();
    let database = store.open();
    put(&database, "a", "1");
    put(&database, "b", "1");
    let target = database.visible_version();
    let content = rows(&database, ..);
    database.name_version("good", target).unwrap();
    put(&database, "a", "2");
    delete(&database, "b");
    put(&database, "c", "3");
    let mut txn = database.begin().unwrap();
    txn.put("later", "k", b"v".as_slice()).unwrap();
    let spoiled = txn.commit().unwrap().version;
    let receipt = database.rollback_to(target).unwrap();
    assert_eq!(receipt.version, spoiled.next().unwrap());
    assert_eq!(rows(&database, ..), content);
    assert_eq!(database.get("later", "k").unwrap(), None);
    assert_eq!(database.diff(target, receipt.version).unwrap().count(), 0);
    assert_eq!(
        get(&database.snapshot_at(spoiled).unwrap(), "c").as_deref(),
        Some("3"),
        "nothing is forgotten"
    );
    assert_eq!(database.resolve_name("good").unwrap(), Some(target), "names stay");
    assert_eq!(database.tables(&database).unwrap().len(), 2, "tables stay");
    let again = database.rollback_to(receipt.version).unwrap();
    assert_eq!(
        (again.version, again.rows),
        (receipt.version.next().unwrap(), 0),
        "nothing to change is a version too"
    );
    database.close().unwrap();
    let database = store.open();
    assert_eq!(rows(&database, ..), content);
    let empty = database.rollback_to(Version::ZERO).unwrap();
    assert_eq!(keys(&database.snapshot_at(empty.version).unwrap(), ..), Vec::<String>::new());
    assert!(database.check().unwrap().is_sound());
    assert!(matches!(
        database.rollback_to(version("99")),
        Err(CommitError::Read(ReadError::VersionInFuture { .. }))
    ));
}

#[test]
fn names_are_given_kept_and_dropped() {
    let store = MemoryStore::new();
    let database = store.open();
    let (first, second) = (put(&database, "a", "1").version, put(&database, "a", "2").version);
    assert_eq!(kind(database.name_version("one", first)), Ok(()));
    assert_eq!(kind(database.name_version("two", second)), Ok(()));
    assert_eq!(kind(database.name_version("one", first)), Ok(()), "the same again is fine");
    assert_eq!(kind(database.name_version("one", second)), Err("name-taken"));
    assert_eq!(kind(database.name_version("", first)), Err("version-name"));
    assert_eq!(kind(database.name_version(&"x".repeat(256), first)), Err("version-name"));
    assert_eq!(kind(database.name_version("future", version("99"))), Err("version-in-future"));
    assert_eq!(kind(database.drop_name("none")), Err("unknown-name"));
    let names = |database: &keepstone_mvcc_temporal::Database| -> Vec<_> {
        database.names().unwrap().into_iter().map(|named| (named.name, named.version)).collect()
    };
    let expected = vec![("one".to_owned(), first), ("two".to_owned(), second)];
    assert_eq!(names(&database), expected);
    database.close().unwrap();
    let database = store.open();
    assert_eq!(names(&database), expected);
    assert_eq!(database.resolve_name("two").unwrap(), Some(second));
    assert_eq!(kind(database.drop_name("two")), Ok(()));
    assert_eq!(database.resolve_name("two").unwrap(), None);
    assert_eq!(kind(database.name_version("two", first)), Ok(()));
    assert_eq!(database.check().unwrap().names, 2);
}
