//! Branches: what they read, what they keep, what they conflict with, what a merge does, and that they go without a trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keepstone_mvcc_temporal::{
    Access, Branch, BranchChange, CheckpointOptions, CommitError, Database, Isolation, KEY_LEN_MAX, KeyRange,
    MergeConflict, MergeError, MergeStrategy, Read, ReadError, ReaderAllowance, Resolution, Retention, Txn,
    TxnOptions, VALUE_LEN_MAX, VERSION_NAME_LEN_MAX, WriteError,
};
use keepstone_types::{ValueRef, Version};

use crate::support::{
    MemoryStore, T, add, delete, get, keys, kind, memory, number, on_both, options, put, rows, version,
};

fn put_on(branch: &Branch, key: &str, value: &str) {
    branch.write(|txn| -> Result<(), WriteError> { Ok(txn.put(T, key, value.as_bytes())?) }).unwrap();
}

fn delete_on(branch: &Branch, key: &str) {
    branch.write(|txn| -> Result<(), WriteError> { Ok(txn.delete(T, key)?) }).unwrap();
}

fn text(value: Option<&ValueRef>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

type Shown = (String, Option<String>, Option<String>, Option<String>);

/// A change as key, base, branch and main.
fn shown(change: BranchChange) -> Shown {
    assert_eq!(&*change.table, T);
    let key = String::from_utf8(change.key.to_vec()).unwrap();
    (key, text(change.base.as_ref()), text(change.branch.as_ref()), text(change.main.as_ref()))
}

fn diff(branch: &Branch) -> Vec<Shown> {
    branch.diff().unwrap().map(|change| shown(change.unwrap())).collect()
}

fn row(key: &str, base: &str, branch: &str, main: &str) -> Shown {
    let value = |text: &str| (text != "-").then(|| text.to_owned());
    (key.to_owned(), value(base), value(branch), value(main))
}

fn merge_kind(result: Result<impl Sized, MergeError>) -> Result<(), &'static str> {
    result.map(drop).map_err(|error| error.kind().as_str())
}

/// `a`, `b` and `c` are 1, and folded or not.
fn three(database: &Database, folded: bool) -> Version {
    for key in ["a", "b", "c"] {
        put(database, key, "1");
    }
    if folded {
        database.checkpoint().unwrap();
    }
    database.visible_version()
}

#[test]
fn a_branch_reads_its_version_and_its_own_writes_and_nobody_else_sees_them() {
    on_both(|database| {
        for folded in [false, true] {
            let base = three(&database, folded);
            put(&database, "a", "later");
            let name = format!("what if {folded}");
            let branch = database.fork(&name, base).unwrap();
            assert_eq!((branch.name(), branch.base()), (&*name, base));
            put(&database, "b", "later");
            let own = || rows(&branch, ..);
            let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            assert_eq!(own(), pairs(&[("a", "1"), ("b", "1"), ("c", "1")]));
            put_on(&branch, "b", "branch");
            put_on(&branch, "bb", "new");
            put_on(&branch, "z", "new");
            delete_on(&branch, "c");
            delete_on(&branch, "never there");
            for checkpoint in [false, true] {
                if checkpoint {
                    database.checkpoint().unwrap();
                }
                let expected = pairs(&[("a", "1"), ("b", "branch"), ("bb", "new"), ("z", "new")]);
                assert_eq!(own(), expected);
                let mut down: Vec<_> = rows(&branch, ..);
                let back: Vec<_> =
                    branch.scan(T, ..).unwrap().rev().map(|row| row.unwrap().0.to_vec()).collect();
                down.reverse();
                assert_eq!(back, down.iter().map(|(key, _)| key.clone().into_bytes()).collect::<Vec<_>>());
                assert_eq!(keys(&branch, "aa".."c"), ["b", "bb"]);
                assert_eq!(keys(&branch, "b"..="bb"), ["b", "bb"]);
                assert_eq!(keys(&branch, .."b"), ["a"]);
                assert_eq!(keys(&branch, "c"..), ["z"]);
                assert_eq!((get(&branch, "c"), get(&branch, "b").as_deref()), (None, Some("branch")));
                assert_eq!(keys(&database, ..), ["a", "b", "c"]);
                assert_eq!(get(&database, "b").as_deref(), Some("later"));
                assert_eq!(get(&database.snapshot_at(base).unwrap(), "b").as_deref(), Some("1"));
            }
            assert!(database.check().unwrap().is_sound());
        }
        let report = database.check().unwrap();
        assert_eq!((report.branches, database.branches().unwrap().len()), (2, 2));
    });
}

/// Leaves of many rows below, and the branch's rows in between, at their edges and in runs: from both ends at once.
#[test]
fn scans_over_many_rows_equal_a_map() {
    let database = memory();
    let key = |number: u32| number.to_be_bytes();
    let fill = |txn: &mut Txn, from: u32, to: u32, step: usize, tag: u8| -> Result<(), WriteError> {
        (from..to).step_by(step).try_for_each(|number| Ok(txn.put(T, key(number), vec![tag; 30])?))
    };
    database.write(|txn| fill(txn, 0, 12_000, 2, 1)).unwrap();
    database.checkpoint().unwrap();
    let branch = database.fork("b", database.visible_version()).unwrap();
    database.write(|txn| fill(txn, 0, 12_000, 3, 2)).unwrap();
    let mut model: std::collections::BTreeMap<u32, u8> =
        (0..12_000).step_by(2).map(|number| (number, 1)).collect();
    let parts = [(0, 700, 1_usize), (1_500, 1_501, 1), (3_001, 9_000, 97), (11_990, 12_300, 1)];
    branch
        .write(|txn| -> Result<(), WriteError> {
            for (from, to, step) in parts {
                fill(txn, from, to, step, 3)?;
            }
            (500..6_000).step_by(31).try_for_each(|number| Ok(txn.delete(T, key(number))?))
        })
        .unwrap();
    for (from, to, step) in parts {
        model.extend((from..to).step_by(step).map(|number| (number, 3)));
    }
    for number in (500..6_000).step_by(31) {
        model.remove(&number);
    }
    for folded in [false, true] {
        if folded {
            database.checkpoint().unwrap();
        }
        for (from, to) in [(0_u32, 20_000), (650, 3_200), (2_999, 3_000), (11_000, 12_100)] {
            let row = |row: Result<(ValueRef, ValueRef), ReadError>| {
                let (key, value) = row.unwrap();
                (u32::from_be_bytes(key[..].try_into().unwrap()), value[0])
            };
            let expected: Vec<_> = model.range(from..to).map(|(key, tag)| (*key, *tag)).collect();
            let scan = || branch.scan(T, key(from)..key(to)).unwrap();
            assert_eq!(scan().map(row).collect::<Vec<_>>(), expected);
            let mut down: Vec<_> = scan().rev().map(row).collect();
            down.reverse();
            assert_eq!(down, expected);
            let (mut both, mut front, mut back) = (scan(), Vec::new(), Vec::new());
            for turn in 0.. {
                let next = if turn % 7 < 5 { both.next() } else { both.next_back() };
                let Some(found) = next else { break };
                if turn % 7 < 5 { front.push(row(found)) } else { back.push(row(found)) }
            }
            front.extend(back.into_iter().rev());
            assert_eq!(front, expected, "from both ends, {from}..{to}");
        }
    }
}

#[test]
fn a_transaction_on_a_branch_reads_its_own_writes_and_rolls_back() {
    let database = memory();
    let branch = database.fork("b", three(&database, true)).unwrap();
    let mut txn = branch.begin().unwrap();
    txn.put(T, "b", b"2".as_slice()).unwrap();
    txn.delete(T, "a").unwrap();
    txn.put(T, "ab", b"2".as_slice()).unwrap();
    assert_eq!((get(&txn, "a"), get(&txn, "b").as_deref()), (None, Some("2")));
    assert_eq!(keys(&txn, ..), ["ab", "b", "c"]);
    let back: Vec<_> = txn.scan(T, ..).unwrap().rev().map(|row| row.unwrap().0.to_vec()).collect();
    assert_eq!(back, [&b"c"[..], b"b", b"ab"]);
    let own = txn.get_with_version(T, "b").unwrap().unwrap();
    assert_eq!(own.version, None);
    drop(txn);
    assert_eq!(keys(&branch, ..), ["a", "b", "c"]);
    let mut txn = branch.begin().unwrap();
    txn.put(T, "b", b"2".as_slice()).unwrap();
    let receipt = txn.commit().unwrap();
    let found = branch.get_with_version(T, "b").unwrap().unwrap();
    assert_eq!((&found.value[..], found.version), (&b"2"[..], Some(receipt.version)));
    assert_eq!(branch.get_with_version(T, "a").unwrap().unwrap().version, Some(version("1")));
}

#[test]
fn names_are_held_to_their_rules_and_bases_to_what_is_kept() {
    let store = MemoryStore::new();
    let database = store.open_with(options().retention(Retention::None)).unwrap();
    let base = three(&database, false);
    let forked = |name: &str, version: Version| kind(database.fork(name, version));
    assert_eq!(forked("", base), Err("branch-name"));
    let longest = "x".repeat(VERSION_NAME_LEN_MAX);
    assert_eq!(forked(&format!("{longest}x"), base), Err("branch-name"));
    assert_eq!(forked(&longest, base), Ok(()));
    assert_eq!(forked("a", version("99")), Err("version-in-future"));
    assert_eq!(forked("a", Version::ZERO), Ok(()));
    assert_eq!(forked("a", base), Err("branch-exists"));
    let error = database.fork("a", base).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is a branch \"a\" already, forked at version 0; discard it first, or choose another name"
    );
    assert_eq!(database.branch("b").unwrap_err().kind().as_str(), "branch-not-found");
    let old = put(&database, "a", "2").version;
    put(&database, "a", "3");
    database.compact().unwrap();
    assert_eq!(forked("late", old), Err("history-gone"));
    assert_eq!(forked("from the base of another", base), Ok(()), "that stays");
    let listed = database.branches().unwrap();
    let listed: Vec<_> = listed.iter().map(|branch| (&*branch.name, branch.base)).collect();
    assert_eq!(listed, [("a", Version::ZERO), ("from the base of another", base), (&*longest, base)]);
    assert_eq!(database.branch("a").unwrap().info(), &database.branches().unwrap()[0]);
    assert_eq!(keys(&database.branch("a").unwrap(), ..), [""; 0], "version 0 is the empty store");
}

#[test]
fn a_version_below_a_branch_is_kept_until_the_branch_goes() {
    let store = MemoryStore::new();
    let small = CheckpointOptions::default().slice_keys(2);
    let database = store.open_with(options().retention(Retention::None).checkpoint(small)).unwrap();
    let base = three(&database, true);
    let branch = database.fork("keeps", base).unwrap();
    put_on(&branch, "c", "branch");
    for round in 0..5 {
        for key in ["a", "b", "d"] {
            put(&database, key, &format!("round {round}"));
        }
        delete(&database, "c");
        database.compact().unwrap();
        assert_eq!(get(&branch, "a").as_deref(), Some("1"));
        assert_eq!(keys(&branch, ..), ["a", "b", "c"]);
        assert_eq!(get(&branch, "c").as_deref(), Some("branch"));
        assert_eq!(keys(&database.snapshot_at(base).unwrap(), ..), ["a", "b", "c"]);
        assert_eq!(keys(&branch.snapshot().unwrap(), ..), ["a", "b", "c"]);
        assert!(database.check().unwrap().is_sound());
    }
    let database = {
        database.close().unwrap();
        store.open_with(options().retention(Retention::None)).unwrap()
    };
    let branch = database.branch("keeps").unwrap();
    assert_eq!(rows(&branch, ..).len(), 3);
    assert_eq!(diff(&branch), [row("c", "1", "branch", "-")]);
    branch.discard().unwrap();
    put(&database, "a", "last");
    database.compact().unwrap();
    let gone = database.snapshot_at(base).unwrap_err();
    assert!(matches!(gone, ReadError::HistoryGone { .. }), "{gone}");
    assert_eq!(database.stats().history_rows, 0, "nothing is left of the branch and what it kept");
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn a_handle_of_a_discarded_branch_says_so_also_when_its_name_is_given_again() {
    let database = memory();
    let base = three(&database, true);
    let branch = database.fork("b", base).unwrap();
    put_on(&branch, "a", "2");
    let snapshot = branch.snapshot().unwrap();
    let mut scan = branch.scan(T, ..).unwrap();
    let other = database.branch("b").unwrap();
    branch.discard().unwrap();
    for again in [false, true] {
        if again {
            database.fork("b", base).unwrap();
        }
        let not_found = ReadError::BranchNotFound { name: "b".to_owned() };
        assert_eq!(not_found.to_string(), "there is no branch \"b\", or it was discarded");
        assert_eq!(other.get(T, "a").unwrap_err(), not_found);
        assert_eq!(other.get("no such table", "a").unwrap_err(), not_found);
        assert_eq!(other.scan(T, ..).unwrap_err(), not_found);
        assert_eq!(other.tables().unwrap_err(), not_found);
        assert_eq!(other.snapshot().unwrap_err(), not_found);
        assert_eq!(other.snapshot_at(base).unwrap_err(), not_found);
        assert_eq!(other.begin().unwrap_err(), not_found);
        assert_eq!(other.diff().unwrap_err(), not_found);
        assert_eq!(merge_kind(other.merge(MergeStrategy::LastWins)), Err("branch-not-found"));
        assert_eq!(kind(other.discard()), Err("branch-not-found"));
        let written = other.write(|txn| -> Result<(), WriteError> { Ok(txn.put(T, "a", b"3".as_slice())?) });
        assert_eq!(written.unwrap_err().kind().as_str(), "branch-not-found");
    }
    assert_eq!(get(&snapshot, "a").as_deref(), Some("2"), "what was taken before stays");
    assert_eq!(scan.next().unwrap().unwrap().1, b"2");
    let new = database.branch("b").unwrap();
    assert_eq!(get(&new, "a").as_deref(), Some("1"), "another branch has nothing of the first");
    database.checkpoint().unwrap();
    assert_eq!(get(&new, "a").as_deref(), Some("1"));
    assert_eq!(get(&snapshot, "a").as_deref(), Some("2"));
}

#[test]
fn a_branch_is_read_at_its_older_versions() {
    let database = memory();
    let base = three(&database, false);
    let branch = database.fork("b", base).unwrap();
    let made = branch.info().made;
    put_on(&branch, "a", "2");
    let second = database.visible_version();
    put_on(&branch, "a", "3");
    database.checkpoint().unwrap();
    for (at, expected) in [(made, "1"), (second, "2"), (database.visible_version(), "3")] {
        assert_eq!(get(&branch.snapshot_at(at).unwrap(), "a").as_deref(), Some(expected));
    }
    assert_eq!(branch.snapshot_at(base).unwrap_err().kind().as_str(), "branch-not-found");
}

#[test]
fn a_table_that_only_a_branch_made_is_only_there() {
    let store = MemoryStore::new();
    let database = store.open();
    let base = three(&database, false);
    let branch = database.fork("b", base).unwrap();
    let write = |branch: &Branch, table: &str| {
        branch.write(|txn| -> Result<(), WriteError> { Ok(txn.put(table, "k", b"1".as_slice())?) }).unwrap();
    };
    write(&branch, "of the branch");
    write(&branch, "of the branch");
    write(&branch, "of both");
    put(&database, "d", "1");
    let made =
        database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("of both", "m", b"1".as_slice())?) });
    made.unwrap();
    let names = |reader: &dyn Fn() -> Vec<String>| reader();
    let of_main = |database: &Database| {
        database.tables(database).unwrap().iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let of_branch =
        |branch: &Branch| branch.tables().unwrap().iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let mut database = database;
    for life in 0..4 {
        let branch = database.branch("b").unwrap();
        assert_eq!(names(&|| of_main(&database)), ["of both", "t"]);
        assert_eq!(names(&|| of_branch(&branch)), ["of both", "of the branch", "t"]);
        assert_eq!(of_branch(&branch).len(), branch.snapshot().unwrap().tables().unwrap().len());
        assert_eq!(of_branch(&branch).len(), branch.begin().unwrap().tables().unwrap().len());
        assert_eq!(branch.get("of the branch", "k").unwrap().unwrap(), b"1");
        assert_eq!(database.get("of the branch", "k").unwrap(), None);
        assert_eq!(branch.get("of both", "m").unwrap(), None);
        assert!(database.check().unwrap().is_sound(), "{:?}", database.check());
        if life % 2 == 1 {
            database.checkpoint().unwrap();
        }
        database.close().unwrap();
        database = store.open();
    }
    // A new table of the store gets a number of its own.
    database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("new", "k", b"2".as_slice())?) }).unwrap();
    let branch = database.branch("b").unwrap();
    assert_eq!(branch.get("of the branch", "k").unwrap().unwrap(), b"1");
    assert_eq!(branch.get("new", "k").unwrap(), None);
    let report = branch.merge(MergeStrategy::Reject).unwrap();
    assert_eq!((report.written, report.decided), (2, 0));
    assert_eq!(of_main(&database), ["new", "of both", "of the branch", "t"]);
    assert_eq!(database.get("of the branch", "k").unwrap().unwrap(), b"1");
    branch.discard().unwrap();
    database.checkpoint().unwrap();
    drop(branch);
    database.close().unwrap();
    let database = store.open();
    assert_eq!(database.get("of the branch", "k").unwrap().unwrap(), b"1");
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn the_store_s_own_history_knows_nothing_of_branches() {
    let database = memory();
    let base = three(&database, true);
    let branch = database.fork("b", base).unwrap();
    put_on(&branch, "a", "branch");
    let before = database.visible_version();
    put(&database, "b", "2");
    let after = database.visible_version();
    put_on(&branch, "b", "branch");
    for folded in [false, true] {
        if folded {
            database.checkpoint().unwrap();
        }
        assert_eq!(database.diff(base, before).unwrap().count(), 0, "only the branch changed");
        let changes: Vec<_> = database.diff(base, database.visible_version()).unwrap().collect();
        assert_eq!(changes.len(), 1);
        assert_eq!(database.diff(before, after).unwrap().count(), 1);
        assert_eq!(database.history(T, "a").unwrap().count(), 1);
    }
    database.rollback_to(base).unwrap();
    assert_eq!(get(&database, "b").as_deref(), Some("1"));
    assert_eq!(get(&branch, "a").as_deref(), Some("branch"), "a rollback leaves branches alone");
    assert_eq!(get(&branch, "b").as_deref(), Some("branch"));
}

/// A store whose rows were changed by both sides in every way that there is.
fn changed_in_every_way(database: &Database) -> Branch {
    for key in [
        "both",
        "both alike",
        "branch",
        "del branch",
        "del both",
        "del branch, main",
        "main",
        "del main, branch",
    ] {
        put(database, key, "base");
    }
    database.checkpoint().unwrap();
    let branch = database.fork("b", database.visible_version()).unwrap();
    for (key, value) in [
        ("both", "of branch"),
        ("both alike", "alike"),
        ("branch", "of branch"),
        ("del main, branch", "of branch"),
        ("new both", "of branch"),
        ("new both alike", "alike"),
        ("new branch", "of branch"),
    ] {
        put_on(&branch, key, value);
    }
    for key in ["del branch", "del both", "del branch, main", "never there"] {
        delete_on(&branch, key);
    }
    put_on(&branch, "main", "changed");
    put_on(&branch, "main", "base");
    for (key, value) in [
        ("both", "of main"),
        ("both alike", "alike"),
        ("del branch, main", "of main"),
        ("main", "of main"),
        ("new both", "of main"),
        ("new both alike", "alike"),
        ("new main", "of main"),
    ] {
        put(database, key, value);
    }
    for key in ["del both", "del main, branch"] {
        delete(database, key);
    }
    branch
}

/// The rows that need a strategy, as key, base, branch, main.
fn in_conflict() -> Vec<Shown> {
    vec![
        row("both", "base", "of branch", "of main"),
        row("del branch, main", "base", "-", "of main"),
        row("del main, branch", "base", "of branch", "-"),
        row("new both", "-", "of branch", "of main"),
    ]
}

#[test]
fn a_diff_shows_what_the_branch_changed_and_conflicts_are_listed_key_by_key() {
    on_both(|database| {
        let branch = changed_in_every_way(&database);
        for folded in [false, true] {
            if folded {
                database.checkpoint().unwrap();
            }
            let expected = [
                row("both", "base", "of branch", "of main"),
                row("both alike", "base", "alike", "alike"),
                row("branch", "base", "of branch", "base"),
                row("del both", "base", "-", "-"),
                row("del branch", "base", "-", "base"),
                row("del branch, main", "base", "-", "of main"),
                row("del main, branch", "base", "of branch", "-"),
                row("new both", "-", "of branch", "of main"),
                row("new both alike", "-", "alike", "alike"),
                row("new branch", "-", "of branch", "-"),
            ];
            assert_eq!(diff(&branch), expected);
            let conflicts: Vec<_> =
                branch.conflicts().unwrap().map(|change| shown(change.unwrap())).collect();
            assert_eq!(conflicts, in_conflict());
            let before = (rows(&database, ..), database.visible_version());
            let Err(MergeError::Conflicts(found)) = branch.merge(MergeStrategy::Reject) else { panic!() };
            let listed = |conflict: &MergeConflict| {
                assert_eq!(&*conflict.table, T);
                let key = String::from_utf8(conflict.key.to_vec()).unwrap();
                let [base, branch, main] =
                    [&conflict.base, &conflict.branch, &conflict.main].map(|value| text(value.as_ref()));
                (key, base, branch, main)
            };
            assert_eq!(found.listed.iter().map(listed).collect::<Vec<_>>(), in_conflict());
            assert_eq!(found.count, 4);
            assert_eq!(
                found.to_string(),
                "4 rows were changed on both sides, the first is key both of table \"t\""
            );
            assert_eq!((rows(&database, ..), database.visible_version()), before, "nothing was changed");
        }
    });
}

#[test]
fn a_merge_brings_what_one_side_changed_and_decides_the_rest_by_its_strategy() {
    type Check<'a> =
        (&'a str, fn(&Branch) -> Result<keepstone_mvcc_temporal::MergeReport, MergeError>, [&'a str; 4], u64);
    let custom = |branch: &Branch| {
        let mut joined = |conflict: &MergeConflict| match (&conflict.main, &conflict.branch) {
            (Some(main), Some(branch)) => {
                Resolution::Put(ValueRef::from([&main[..], b"+", &branch[..]].concat()))
            }
            _ => Resolution::Delete,
        };
        branch.merge(MergeStrategy::Custom(&mut joined))
    };
    let checks: [Check<'_>; 3] = [
        // both, del branch main, del main branch, new both
        (
            "last",
            |branch| branch.merge(MergeStrategy::LastWins),
            ["of branch", "-", "of branch", "of branch"],
            7,
        ),
        ("first", |branch| branch.merge(MergeStrategy::FirstWins), ["of main", "of main", "-", "of main"], 3),
        ("custom", custom, ["of main+of branch", "-", "-", "of main+of branch"], 6),
    ];
    for (name, merge, decided, written) in checks {
        let database = memory();
        let branch = changed_in_every_way(&database);
        let report = merge(&branch).unwrap();
        assert_eq!((report.written, report.decided), (written, 4), "{name}");
        assert_eq!(report.version, Some(database.visible_version()));
        let value = |key: &str| get(&database, key).unwrap_or_else(|| "-".to_owned());
        let found = ["both", "del branch, main", "del main, branch", "new both"].map(value);
        assert_eq!(found, decided, "{name}");
        for (key, expected) in [
            ("both alike", "alike"),
            ("branch", "of branch"),
            ("del both", "-"),
            ("del branch", "-"),
            ("main", "of main"),
            ("new both alike", "alike"),
            ("new branch", "of branch"),
            ("new main", "of main"),
            ("never there", "-"),
        ] {
            assert_eq!(value(key), expected, "{name}: {key}");
        }
        if name == "last" {
            let again = branch.merge(MergeStrategy::Reject).unwrap();
            assert_eq!((again.written, again.version), (0, None), "what is merged is merged");
        }
        assert!(database.check().unwrap().is_sound());
    }
}

#[test]
fn bits_that_do_not_overlap_are_merged_and_others_are_conflicts() {
    let database = memory();
    let put_bits =
        |txn: &mut Txn, key: &str, bits: &[u8]| -> Result<(), WriteError> { Ok(txn.put(T, key, bits)?) };
    for key in ["apart", "overlap"] {
        database.write(|txn| put_bits(txn, key, &[0b1111_0000, 0, 7])).unwrap();
    }
    let branch = database.fork("b", database.visible_version()).unwrap();
    branch.write(|txn| put_bits(txn, "apart", &[0b1111_0011, 0, 7])).unwrap();
    database.write(|txn| put_bits(txn, "apart", &[0b0111_0000, 9, 7])).unwrap();
    assert_eq!(merge_kind(branch.merge(MergeStrategy::Reject)), Err("merge-conflicts"));
    let report = branch.merge(MergeStrategy::ThreeWayXor).unwrap();
    assert_eq!((report.written, report.decided), (1, 1));
    assert_eq!(&database.get(T, "apart").unwrap().unwrap()[..], [0b0111_0011, 9, 7]);
    branch.write(|txn| put_bits(txn, "overlap", &[0b1111_0011, 0, 7])).unwrap();
    database.write(|txn| put_bits(txn, "overlap", &[0b1111_0001, 0, 7])).unwrap();
    let Err(MergeError::Conflicts(found)) = branch.merge(MergeStrategy::ThreeWayXor) else { panic!() };
    assert_eq!(
        (found.count, &found.listed[0].key[..]),
        (2, &b"apart"[..]),
        "merged once, it is main's change now"
    );
    assert_eq!(&found.listed[1].key[..], b"overlap");
}

#[test]
fn a_merge_within_a_transaction_of_the_caller_is_part_of_it() {
    let database = memory();
    let branch = database.fork("b", three(&database, false)).unwrap();
    put_on(&branch, "a", "branch");
    put_on(&branch, "n", "branch");
    let mut seen = Vec::new();
    let mut txn = database.begin().unwrap();
    txn.put(T, "z", b"own".as_slice()).unwrap();
    let merged = branch.merge_into(&mut txn, &mut MergeStrategy::Reject, |row| seen.push(row.key.to_vec()));
    assert_eq!(merged.unwrap().written, 2);
    assert_eq!(seen, [&b"a"[..], b"n"]);
    assert_eq!(get(&txn, "a").as_deref(), Some("branch"));
    assert_eq!(get(&database, "a").as_deref(), Some("1"));
    txn.commit().unwrap();
    assert_eq!(keys(&database, ..), ["a", "b", "c", "n", "z"]);
    let mut on_branch = branch.begin().unwrap();
    assert_eq!(
        merge_kind(branch.merge_into(&mut on_branch, &mut MergeStrategy::Reject, |_| {})),
        Err("on-branch")
    );
    let mut elsewhere = memory().begin().unwrap();
    assert_eq!(
        merge_kind(branch.merge_into(&mut elsewhere, &mut MergeStrategy::Reject, |_| {})),
        Err("wrong-store")
    );
}

#[test]
fn a_merge_conflicts_with_what_is_committed_meanwhile() {
    let database = memory();
    let branch = database.fork("b", three(&database, false)).unwrap();
    put_on(&branch, "a", "branch");
    let begin = || {
        let mut txn = database.begin().unwrap();
        branch.merge_into(&mut txn, &mut MergeStrategy::Reject, |_| {}).unwrap();
        txn
    };
    let txn = begin();
    put_on(&branch, "q", "branch");
    let error = txn.commit().unwrap_err();
    let CommitError::Conflict { table, key, .. } = &error else { panic!("{error}") };
    assert_eq!((&**table, &key[..]), (T, &b"q"[..]), "a row of a branch is named as its own");
    let txn = begin();
    put(&database, "a", "main");
    assert_eq!(kind(txn.commit()), Err("conflict"));
    let mut txn = database.begin().unwrap();
    branch.merge_into(&mut txn, &mut MergeStrategy::LastWins, |_| {}).unwrap();
    branch.discard().unwrap();
    assert_eq!(kind(txn.commit()), Err("conflict"));
    assert_eq!(get(&database, "a").as_deref(), Some("main"));
}

fn begin_on(branch: &Branch, isolation: Isolation) -> Txn {
    branch.begin_with(TxnOptions::default().isolation(isolation)).unwrap()
}

#[test]
fn transactions_on_one_branch_are_as_isolated_as_those_on_the_store() {
    for (isolation, lost_update, skew) in [
        (Isolation::ReadCommitted, Ok(()), Ok(())),
        (Isolation::Snapshot, Err("conflict"), Ok(())),
        (Isolation::Serializable, Err("conflict"), Err("conflict")),
    ] {
        let database = memory();
        let branch = database.fork("b", three(&database, true)).unwrap();
        // Both write one row.
        let (mut one, mut two) = (begin_on(&branch, isolation), begin_on(&branch, isolation));
        one.put(T, "a", b"one".as_slice()).unwrap();
        two.put(T, "a", b"two".as_slice()).unwrap();
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), lost_update, "{isolation:?}");
        // Each writes what the other read; the rows stand below the branch.
        let (mut one, mut two) = (begin_on(&branch, isolation), begin_on(&branch, isolation));
        for txn in [&one, &two] {
            assert_eq!((get(txn, "b").as_deref(), get(txn, "c").as_deref()), (Some("1"), Some("1")));
        }
        one.delete(T, "b").unwrap();
        two.delete(T, "c").unwrap();
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), skew, "write skew, {isolation:?}");
        // Each adds a row to a range that both have read.
        let (mut one, mut two) = (begin_on(&branch, isolation), begin_on(&branch, isolation));
        assert_eq!((keys(&one, "m".."n").len(), keys(&two, "m".."n").len()), (0, 0));
        one.put(T, "ma", b"1".as_slice()).unwrap();
        two.put(T, "mb", b"1".as_slice()).unwrap();
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), skew, "a phantom, {isolation:?}");
        // A table that is not there is read as absent.
        let (mut one, mut two) = (begin_on(&branch, isolation), begin_on(&branch, isolation));
        let table = format!("new {isolation:?}");
        assert_eq!(one.get(&table, "k").unwrap(), None);
        one.put(T, "x", b"1".as_slice()).unwrap();
        two.put(&table, "k", b"1".as_slice()).unwrap();
        two.commit().unwrap();
        assert_eq!(kind(one.commit()), skew, "a table that was absent, {isolation:?}");
        // Creators of one table do not conflict with each other.
        let (mut one, mut two) = (begin_on(&branch, isolation), begin_on(&branch, isolation));
        one.put("another", "1", b"1".as_slice()).unwrap();
        two.put("another", "2", b"1".as_slice()).unwrap();
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), Ok(()), "{isolation:?}");
        // A read that is repeated.
        let txn = begin_on(&branch, isolation);
        let first = get(&txn, "a");
        put_on(&branch, "a", "again");
        assert_eq!(get(&txn, "a") == first, isolation != Isolation::ReadCommitted, "{isolation:?}");
    }
}

#[test]
fn a_branch_conflicts_with_nobody_else_but_who_discards_it() {
    for isolation in [Isolation::ReadCommitted, Isolation::Snapshot, Isolation::Serializable] {
        let database = memory();
        let base = three(&database, true);
        let branch = database.fork("b", base).unwrap();
        let other = database.fork("other", base).unwrap();
        let mut txn = begin_on(&branch, isolation);
        assert_eq!(keys(&txn, ..), ["a", "b", "c"]);
        let mut on_main = database.begin().unwrap();
        assert_eq!(keys(&on_main, ..), ["a", "b", "c"]);
        on_main.put(T, "a", b"main".as_slice()).unwrap();
        put_on(&other, "a", "other");
        txn.put(T, "a", b"branch".as_slice()).unwrap();
        txn.commit().unwrap();
        on_main.commit().unwrap();
        let mut late = begin_on(&branch, isolation);
        late.put(T, "b", b"too late".as_slice()).unwrap();
        branch.discard().unwrap();
        // Its view is the branch as it was; without one, the branch is gone.
        let read = (late.get(T, "a"), late.scan(T, ..).map(|rows| rows.count()));
        if isolation == Isolation::ReadCommitted {
            let gone = ReadError::BranchNotFound { name: "b".to_owned() };
            assert_eq!((read.0.unwrap_err(), read.1.unwrap_err()), (gone.clone(), gone));
        } else {
            assert_eq!((text(read.0.unwrap().as_ref()).as_deref(), read.1), (Some("branch"), Ok(3)));
        }
        let error = late.commit();
        assert_eq!(kind(error), Err("conflict"), "{isolation:?}");
        database.checkpoint().unwrap();
        assert!(database.check().unwrap().is_sound(), "no row of it is left");
        assert_eq!(
            (get(&database, "a").as_deref(), get(&other, "a").as_deref()),
            (Some("main"), Some("other"))
        );
    }
}

#[test]
fn keys_and_values_have_the_same_limits_on_a_branch() {
    for page_size in [4_096, 8_192, 16_384] {
        let store = MemoryStore::new();
        let database = store.open_with(options().page_size(page_size)).unwrap();
        let longest = KEY_LEN_MAX.min(page_size as usize / 8);
        let branch = database.fork("b", Version::ZERO).unwrap();
        // Zero bytes one by one are what takes the most room in history.
        let key: Vec<u8> = (0..longest).map(|place| (place % 2) as u8).collect();
        let write = |key: &[u8], value: &[u8]| {
            branch.write(|txn| -> Result<(), WriteError> { Ok(txn.put(T, key, value)?) })
        };
        for round in 0..4_u8 {
            write(&key, &[round; 3]).unwrap();
            database.checkpoint().unwrap();
            assert_eq!(&branch.get(T, &key).unwrap().unwrap()[..], [round; 3]);
        }
        let too_long = write(&[0; 1_025][..longest + 1], b"").unwrap_err();
        assert_eq!(too_long.kind().as_str(), "key-too-long");
        let branch_only = branch.scan(T, KeyRange::all()).unwrap().count();
        assert_eq!(branch_only, 1);
        branch.discard().unwrap();
        database.checkpoint().unwrap();
        assert!(database.check().unwrap().is_sound());
    }
    let database = memory();
    let branch = database.fork("b", Version::ZERO).unwrap();
    let mut txn = branch.begin().unwrap();
    let value = ValueRef::from(vec![7; VALUE_LEN_MAX + 1]);
    assert_eq!(kind(txn.put(T, "k", value.clone())), Err("value-too-large"));
    txn.put(T, "k", value.slice(1..).unwrap()).unwrap();
    txn.commit().unwrap();
    assert_eq!(branch.get(T, "k").unwrap().unwrap().len(), VALUE_LEN_MAX);
    assert_eq!(branch.merge(MergeStrategy::Reject).unwrap().written, 1);
    database.checkpoint().unwrap();
    assert_eq!(database.get(T, "k").unwrap(), branch.get(T, "k").unwrap());
}

#[test]
fn transactions_too_large_for_memory_work_on_branches_and_in_merges() {
    let store = MemoryStore::new();
    let open = || {
        let options = options().transaction_memory_bytes(64 << 10);
        // Without a thread that folds, so that it can be seen where a commit went.
        let log = options.log.clone().tending(keepstone_mvcc_temporal::Tending::Caller);
        store.open_with(options.log(log)).unwrap()
    };
    let database = open();
    let many = 3_000_u32;
    let fill = |txn: &mut Txn, tag: u8| -> Result<(), WriteError> {
        (0..many).try_for_each(|key| Ok(txn.put(T, key.to_be_bytes(), vec![tag; 100])?))
    };
    database.write(|txn| fill(txn, 1)).unwrap();
    let branch = database.fork("b", database.visible_version()).unwrap();
    let attached = database.stats().attached;
    branch.write(|txn| fill(txn, 2)).unwrap();
    assert_eq!(database.stats().attached, attached + 1, "it went to runs");
    let all_are = |reader: &dyn Fn(u32) -> Option<ValueRef>, tag: u8| {
        assert!((0..many).all(|key| reader(key).is_some_and(|value| *value == [tag; 100])));
    };
    all_are(&|key| branch.get(T, key.to_be_bytes()).unwrap(), 2);
    all_are(&|key| database.get(T, key.to_be_bytes()).unwrap(), 1);
    database.close().unwrap();
    let database = open();
    let branch = database.branch("b").unwrap();
    let scanned = branch.scan(T, ..).unwrap().map(|row| row.unwrap().1);
    assert!(scanned.map(|value| *value == [2; 100]).eq(std::iter::repeat_n(true, many as usize)));
    let attached = database.stats().attached;
    let report = branch.merge(MergeStrategy::Reject).unwrap();
    assert_eq!(report.written, u64::from(many));
    assert_eq!(database.stats().attached, attached + 1, "the merge went to runs");
    all_are(&|key| database.get(T, key.to_be_bytes()).unwrap(), 2);
    branch.discard().unwrap();
    database.checkpoint().unwrap();
    assert!(database.check().unwrap().is_sound());
    assert!(database.stats().folded_rows < u64::from(many) + 10, "{}", database.stats().folded_rows);
}

#[test]
fn any_number_of_branches_is_alive() {
    const BRANCHES: u32 = 10_000;
    let store = MemoryStore::new();
    let database = store.open_with(options().retention(Retention::None)).unwrap();
    for key in 0..50_u32 {
        put(&database, &key.to_string(), "base");
    }
    let base = database.visible_version();
    for number in 0..BRANCHES {
        let branch = database.fork(&format!("{number:05}"), base).unwrap();
        if number % 100 == 0 {
            put_on(&branch, "0", &number.to_string());
        }
        put(&database, "1", &number.to_string());
    }
    database.compact().unwrap();
    let stats = database.stats();
    assert!(stats.folded_rows < u64::from(BRANCHES) * 12 / 10, "a branch costs a row: {}", stats.folded_rows);
    assert_eq!(database.branches().unwrap().len(), BRANCHES as usize);
    for number in (0..BRANCHES).step_by(50) {
        let branch = database.branch(&format!("{number:05}")).unwrap();
        let own = if number % 100 == 0 { number.to_string() } else { "base".to_owned() };
        assert_eq!((get(&branch, "0"), get(&branch, "1").as_deref()), (Some(own), Some("base")));
        assert_eq!(branch.scan(T, ..).unwrap().count(), 50);
    }
    database.close().unwrap();
    let database = store.open_with(options().retention(Retention::None)).unwrap();
    for branch in database.branches().unwrap() {
        database.branch(&branch.name).unwrap().discard().unwrap();
    }
    put(&database, "1", "last");
    database.compact().unwrap();
    let stats = database.stats();
    assert_eq!((stats.folded_rows, stats.history_rows), (51, 0), "50 rows and the catalog's");
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn writers_on_the_store_and_on_many_branches_do_not_disturb_each_other() {
    let store = MemoryStore::new();
    let database = store.open();
    put(&database, "t", "made");
    database.write(|txn| add(txn, "sum", 0)).unwrap();
    let base = database.visible_version();
    let branches: Vec<_> = (0..3).map(|number| database.fork(&format!("{number}"), base).unwrap()).collect();
    let (rounds, stop) = (150, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for branch in &branches {
            for _ in 0..2 {
                writers.push(scope.spawn(move || {
                    for _ in 0..rounds {
                        branch.write(|txn| add(txn, "sum", 1)).unwrap();
                    }
                }));
            }
        }
        writers.push(
            scope.spawn(|| {
                (0..rounds).for_each(|_| assert!(database.write(|txn| add(txn, "sum", 1)).is_ok()))
            }),
        );
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                database.checkpoint().unwrap();
                let extra = database.fork("extra", base).unwrap();
                extra.write(|txn| add(txn, "sum", 7)).unwrap();
                assert_eq!(number(&extra, "sum"), 7);
                extra.discard().unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(number(&database, "sum"), rounds);
    for branch in &branches {
        assert_eq!(number(branch, "sum"), 2 * rounds);
    }
    assert!(database.check().unwrap().is_sound());
    let mut sum = |conflict: &MergeConflict| {
        let number =
            |value: &Option<ValueRef>| i64::from_le_bytes(value.as_ref().unwrap()[..].try_into().unwrap());
        let sum = number(&conflict.main) + number(&conflict.branch) - number(&conflict.base);
        Resolution::Put(ValueRef::copy_from(&sum.to_le_bytes()))
    };
    for branch in &branches {
        branch.merge(MergeStrategy::Custom(&mut sum)).unwrap();
    }
    assert_eq!(number(&database, "sum"), 7 * rounds);
}

#[test]
fn a_branch_can_be_read_where_nothing_can_be_written() {
    let store = MemoryStore::new();
    let database = store.open();
    let branch = database.fork("b", three(&database, false)).unwrap();
    put_on(&branch, "a", "branch");
    drop((branch, database));
    let database = store.open_with(options().access(Access::ReadOnly)).unwrap();
    let branch = database.branch("b").unwrap();
    assert_eq!((get(&branch, "a").as_deref(), get(&branch, "b").as_deref()), (Some("branch"), Some("1")));
    assert_eq!(diff(&branch), [row("a", "1", "branch", "1")]);
    let mut txn = branch.begin().unwrap();
    assert_eq!(kind(txn.put(T, "a", b"2".as_slice())), Err("read-only"));
    assert_eq!(kind(branch.discard()), Err("read-only"));
    assert_eq!(merge_kind(branch.merge(MergeStrategy::Reject)), Err("read-only"));
    assert_eq!(kind(database.fork("c", version("1"))), Err("read-only"));
}

#[test]
fn a_reader_of_a_branch_is_held_to_its_allowance() {
    let store = MemoryStore::new();
    let tending = options();
    let log = tending.log.clone().tending(keepstone_mvcc_temporal::Tending::Caller);
    let mut allowance = ReaderAllowance::UNLIMITED;
    allowance.age = Duration::from_secs(10);
    let database = store.open_with(tending.log(log).readers(allowance)).unwrap();
    let branch = database.fork("b", three(&database, false)).unwrap();
    let snapshot = branch.snapshot().unwrap();
    let txn = branch.begin().unwrap();
    let mut scan = branch.scan(T, ..).unwrap();
    scan.next().unwrap().unwrap();
    store.clock.advance(Duration::from_secs(11));
    database.tend();
    assert_eq!(snapshot.get(T, "a").unwrap_err(), ReadError::ReaderAborted);
    assert_eq!(txn.get(T, "a").unwrap_err(), ReadError::ReaderAborted);
    assert_eq!(scan.next().unwrap().unwrap_err(), ReadError::ReaderAborted);
    assert_eq!(get(&branch, "a").as_deref(), Some("1"), "the handle itself holds nothing");
}

#[test]
fn calls_on_a_branch_of_a_closed_store_say_so() {
    let database = memory();
    let branch = database.fork("b", three(&database, false)).unwrap();
    database.close().unwrap();
    assert_eq!(branch.get(T, "a").unwrap_err(), ReadError::Closed);
    assert_eq!(branch.scan(T, ..).unwrap_err(), ReadError::Closed);
    assert_eq!(branch.begin().unwrap_err(), ReadError::Closed);
    assert_eq!(branch.diff().unwrap_err(), ReadError::Closed);
    assert_eq!(merge_kind(branch.merge(MergeStrategy::Reject)), Err("closed"));
    assert_eq!(kind(branch.discard()), Err("closed"));
}
