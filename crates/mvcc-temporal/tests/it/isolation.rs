//! A test per line of the isolation tables in README.md and docs/guarantees.md: which anomaly each level allows and
//! refuses. Where it is allowed it is shown to happen; where it is not, the commit that would complete it is a conflict.

use keepstone_mvcc_temporal::{CommitError, Database, Isolation, Read, Receipt, Txn};

use crate::support::{T, delete, get, keys, kind, memory, number, on_both, put, rows, with_isolation};

use Isolation::{ReadCommitted, Serializable, Snapshot};

const LEVELS: [Isolation; 3] = [ReadCommitted, Snapshot, Serializable];

const CONFLICT: Result<(), &str> = Err("conflict");

/// What each level makes of an anomaly: 1 where it happens, 0 where it is refused or cannot be seen.
fn each_level(test: impl Fn(&Database, Isolation) -> bool, expected: [(Isolation, bool); 3]) {
    for (isolation, happens) in expected {
        let database = memory();
        assert_eq!(test(&database, isolation), happens, "{isolation:?}");
    }
}

#[test]
fn dirty_write_is_impossible_at_every_level() {
    // Two transactions write x and y interleaved: afterwards both rows are from one of them.
    each_level(
        |database, isolation| {
            let (mut one, mut two) =
                (with_isolation(database, isolation), with_isolation(database, isolation));
            one.put(T, "x", b"1".as_slice()).unwrap();
            two.put(T, "x", b"2".as_slice()).unwrap();
            two.put(T, "y", b"2".as_slice()).unwrap();
            one.put(T, "y", b"1".as_slice()).unwrap();
            let _both = (one.commit(), two.commit());
            get(database, "x") != get(database, "y")
        },
        [(ReadCommitted, false), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn dirty_read_is_impossible_at_every_level() {
    on_both(|database| {
        for isolation in LEVELS {
            put(&database, "x", "old");
            let mut writer = with_isolation(&database, isolation);
            writer.put(T, "x", b"uncommitted".as_slice()).unwrap();
            let reader = with_isolation(&database, isolation);
            assert_eq!(get(&reader, "x").as_deref(), Some("old"), "{isolation:?}");
            assert_eq!(keys(&reader, ..), ["x"]);
            drop(writer);
            assert_eq!(get(&reader, "x").as_deref(), Some("old"), "{isolation:?}: after the rollback");
            assert_eq!(get(&database, "x").as_deref(), Some("old"));
        }
    });
}

#[test]
fn intermediate_values_are_never_seen() {
    for isolation in LEVELS {
        let database = memory();
        let mut writer = with_isolation(&database, isolation);
        writer.put(T, "x", b"first".as_slice()).unwrap();
        writer.put(T, "x", b"second".as_slice()).unwrap();
        let version = writer.commit().unwrap().version;
        let values: Vec<_> = database.history(T, "x").unwrap().map(|entry| entry.unwrap().value).collect();
        assert_eq!(values.len(), 1);
        assert_eq!(get(&database.snapshot_at(version).unwrap(), "x").as_deref(), Some("second"));
    }
}

#[test]
fn lost_update_happens_at_read_committed_only() {
    each_level(
        |database, isolation| {
            put(database, "counter", "0");
            let (mut one, mut two) =
                (with_isolation(database, isolation), with_isolation(database, isolation));
            assert_eq!(get(&one, "counter"), get(&two, "counter"));
            one.put(T, "counter", b"1".as_slice()).unwrap();
            two.put(T, "counter", b"1".as_slice()).unwrap();
            one.commit().unwrap();
            let second = kind(two.commit());
            assert!(second == Ok(()) || second == CONFLICT);
            second.is_ok()
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn non_repeatable_read_happens_at_read_committed_only() {
    each_level(
        |database, isolation| {
            put(database, "x", "1");
            let reader = with_isolation(database, isolation);
            let first = get(&reader, "x");
            put(database, "x", "2");
            get(&reader, "x") != first
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn read_skew_happens_at_read_committed_only() {
    // x + y = 100 in every version; a reader that sees one before and one after sees another sum.
    each_level(
        |database, isolation| {
            put(database, "x", "50");
            put(database, "y", "50");
            let reader = with_isolation(database, isolation);
            let x = get(&reader, "x");
            let mut writer = database.begin().unwrap();
            writer.put(T, "x", b"25".as_slice()).unwrap();
            writer.put(T, "y", b"75".as_slice()).unwrap();
            writer.commit().unwrap();
            (x.as_deref(), get(&reader, "y").as_deref()) == (Some("50"), Some("75"))
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn a_phantom_is_seen_at_read_committed_only() {
    each_level(
        |database, isolation| {
            put(database, "a", "1");
            let reader = with_isolation(database, isolation);
            let before = keys(&reader, "a".."c");
            put(database, "b", "2");
            keys(&reader, "a".."c") != before
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn write_skew_happens_below_serializable() {
    // Two doctors are on call; each leaves when the other is there.
    each_level(
        |database, isolation| {
            put(database, "ada", "on");
            put(database, "bob", "on");
            let (mut one, mut two) =
                (with_isolation(database, isolation), with_isolation(database, isolation));
            assert_eq!((get(&one, "bob").as_deref(), get(&two, "ada").as_deref()), (Some("on"), Some("on")));
            one.put(T, "ada", b"off".as_slice()).unwrap();
            two.put(T, "bob", b"off".as_slice()).unwrap();
            one.commit().unwrap();
            let second = kind(two.commit());
            assert!(second == Ok(()) || second == CONFLICT);
            second.is_ok()
        },
        [(ReadCommitted, true), (Snapshot, true), (Serializable, false)],
    );
}

#[test]
fn write_skew_over_a_scanned_range_happens_below_serializable() {
    // Both insert what the other's scan did not find: a phantom decides.
    each_level(
        |database, isolation| {
            put(database, "room/1", "free");
            let (mut one, mut two) =
                (with_isolation(database, isolation), with_isolation(database, isolation));
            assert_eq!(keys(&one, "booking/".."booking0"), Vec::<String>::new());
            assert_eq!(keys(&two, "booking/".."booking0"), Vec::<String>::new());
            one.put(T, "booking/ada", b"".as_slice()).unwrap();
            two.put(T, "booking/bob", b"".as_slice()).unwrap();
            one.commit().unwrap();
            kind(two.commit()).is_ok()
        },
        [(ReadCommitted, true), (Snapshot, true), (Serializable, false)],
    );
}

#[test]
fn the_read_only_anomaly_happens_below_serializable() {
    // Fekete, O'Neil, O'Neil 2004: a withdrawal with a penalty, a deposit, and a report that fixes their order.
    each_level(
        |database, isolation| {
            put(database, "checking", "0");
            put(database, "savings", "0");
            let mut withdrawal = with_isolation(database, isolation);
            let _read = (get(&withdrawal, "checking"), get(&withdrawal, "savings"));
            put(database, "savings", "20");
            let report = with_isolation(database, isolation);
            let seen = (get(&report, "checking").unwrap(), get(&report, "savings").unwrap());
            assert_eq!(seen, ("0".to_owned(), "20".to_owned()));
            assert_eq!(report.commit().unwrap().rows, 0);
            withdrawal.put(T, "checking", b"-11".as_slice()).unwrap();
            // The penalty was charged as if the deposit had not come, yet the report shows that it had.
            kind(withdrawal.commit()).is_ok()
        },
        [(ReadCommitted, true), (Snapshot, true), (Serializable, false)],
    );
}

#[test]
fn what_was_read_as_absent_is_a_conflict_at_serializable_only() {
    for (isolation, expected) in [(ReadCommitted, Ok(())), (Snapshot, Ok(())), (Serializable, CONFLICT)] {
        for table_exists in [false, true] {
            let database = memory();
            if table_exists {
                put(&database, "other", "1");
            }
            let mut txn = with_isolation(&database, isolation);
            assert_eq!(get(&txn, "new"), None);
            put(&database, "new", "1");
            txn.put("elsewhere", "k", b"v".as_slice()).unwrap();
            assert_eq!(kind(txn.commit()), expected, "{isolation:?}, table there: {table_exists}");
            assert_eq!(database.get("elsewhere", "k").unwrap().is_some(), expected.is_ok());
        }
    }
}

/// Two transactions of one level, begun at the same version.
fn pair(database: &Database, isolation: Isolation) -> (Txn, Txn) {
    (with_isolation(database, isolation), with_isolation(database, isolation))
}

/// What the second of two commits comes to where the level refuses it, and where it does not.
fn refused_if(refused: bool) -> Result<(), &'static str> {
    if refused { CONFLICT } else { Ok(()) }
}

#[test]
fn aborted_reads_are_impossible_at_every_level() {
    // G1a: neither what was rolled back nor what was refused is ever read, before or after.
    for isolation in LEVELS {
        let database = memory();
        put(&database, "x", "kept");
        let reader = with_isolation(&database, isolation);
        let seen = |reader: &Txn| {
            assert_eq!(get(reader, "x").as_deref(), Some("kept"), "{isolation:?}");
            assert_eq!(keys(reader, ..), ["x"], "{isolation:?}");
        };
        let (mut given_up, mut refused) = (pair(&database, isolation).0, database.begin().unwrap());
        given_up.put(T, "x", b"given up".as_slice()).unwrap();
        given_up.put(T, "y", b"given up".as_slice()).unwrap();
        seen(&reader);
        drop(given_up);
        seen(&reader);
        assert_eq!(get(&refused, "x").as_deref(), Some("kept"));
        put(&database, "x", "kept");
        refused.put(T, "y", b"refused".as_slice()).unwrap();
        assert_eq!(kind(refused.commit()), CONFLICT);
        seen(&reader);
        seen(&with_isolation(&database, isolation));
        assert_eq!(database.history(T, "y").unwrap().count(), 0, "{isolation:?}: not in its history either");
    }
}

#[test]
fn intermediate_reads_are_impossible_at_every_level() {
    // G1b: a reader looks before, between and after the two writes of one transaction.
    for (isolation, last) in [(ReadCommitted, "second"), (Snapshot, "old"), (Serializable, "old")] {
        let database = memory();
        put(&database, "x", "old");
        let reader = with_isolation(&database, isolation);
        let mut writer = with_isolation(&database, isolation);
        let mut seen = vec![get(&reader, "x").unwrap()];
        for value in ["first", "second"] {
            writer.put(T, "x", value.as_bytes()).unwrap();
            seen.push(get(&reader, "x").unwrap());
        }
        writer.commit().unwrap();
        seen.push(get(&reader, "x").unwrap());
        assert_eq!(seen, ["old", "old", "old", last], "{isolation:?}");
    }
}

#[test]
fn circular_information_flow_is_impossible_at_every_level() {
    // G1c: each writes one key and looks for the other's write. None finds it, so none depends on the other's commit;
    // what is left is write skew, which each level allows or refuses as always.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, false), (Serializable, true)] {
        let database = memory();
        put(&database, "x", "old");
        put(&database, "y", "old");
        let (mut one, mut two) = pair(&database, isolation);
        one.put(T, "x", b"one".as_slice()).unwrap();
        two.put(T, "y", b"two".as_slice()).unwrap();
        assert_eq!(get(&one, "y").as_deref(), Some("old"), "{isolation:?}");
        assert_eq!(get(&two, "x").as_deref(), Some("old"), "{isolation:?}");
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), refused_if(refused), "{isolation:?}");
    }
}

#[test]
fn what_was_observed_never_vanishes() {
    // OTV: whoever has seen one write of a transaction does not see, later, what was there before another of its writes.
    each_level(
        |database, isolation| {
            let write_both = |value: &str| {
                let mut writer = with_isolation(database, isolation);
                writer.put(T, "x", value.as_bytes()).unwrap();
                writer.put(T, "y", value.as_bytes()).unwrap();
                writer.commit().unwrap();
            };
            write_both("1");
            let reader = with_isolation(database, isolation);
            assert_eq!(get(&reader, "x").as_deref(), Some("1"));
            write_both("2");
            let (y, x) = (get(&reader, "y"), get(&reader, "x"));
            assert!(y.is_some() && x.is_some());
            x != y
        },
        [(ReadCommitted, false), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn lost_update_to_a_blind_write_happens_at_read_committed_only() {
    // One reads and writes a key, the other only writes it in between: that write is lost.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, true), (Serializable, true)] {
        let database = memory();
        put(&database, "counter", "0");
        let (mut reading, mut blind) = pair(&database, isolation);
        let seen = get(&reading, "counter").unwrap();
        blind.put(T, "counter", b"100".as_slice()).unwrap();
        blind.commit().unwrap();
        reading.put(T, "counter", format!("{seen}+1").into_bytes()).unwrap();
        assert_eq!(kind(reading.commit()), refused_if(refused), "{isolation:?}");
        let expected = if refused { "100" } else { "0+1" };
        assert_eq!(get(&database, "counter").as_deref(), Some(expected), "{isolation:?}");
    }
}

#[test]
fn rows_come_go_and_change_under_a_scan_at_read_committed_only() {
    // Phantoms of every kind: a row that appears, one that disappears, one that changes, at either end of the range.
    let changes: [fn(&Database) -> Receipt; 4] = [
        |database| put(database, "b", "new"),
        |database| delete(database, "a"),
        |database| put(database, "a", "changed"),
        |database| put(database, "bz", "new"),
    ];
    for (isolation, happens) in [(ReadCommitted, true), (Snapshot, false), (Serializable, false)] {
        for (place, change) in changes.iter().enumerate() {
            let database = memory();
            put(&database, "a", "1");
            let reader = with_isolation(&database, isolation);
            let before = rows(&reader, "a".."c");
            assert_eq!(change(&database).rows, 1);
            assert_eq!(rows(&reader, "a".."c") != before, happens, "{isolation:?}, change {place}");
        }
    }
}

#[test]
fn a_transaction_that_scans_and_acts_conflicts_with_every_kind_of_phantom() {
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, false), (Serializable, true)] {
        for (key, value, inside) in
            [("b", Some("new"), true), ("a", None, true), ("a", Some("2"), true), ("c", Some("new"), false)]
        {
            let database = memory();
            put(&database, "a", "1");
            let mut txn = with_isolation(&database, isolation);
            let count = keys(&txn, "a".."c").len();
            match value {
                Some(value) => put(&database, key, value),
                None => delete(&database, key),
            };
            txn.put(T, "count", count.to_string().into_bytes()).unwrap();
            assert_eq!(kind(txn.commit()), refused_if(refused && inside), "{isolation:?}, {key} {value:?}");
        }
    }
}

#[test]
fn read_skew_over_a_range_happens_at_read_committed_only() {
    // G-single over a predicate: the rows of a list and their number, of which every version says the same.
    each_level(
        |database, isolation| {
            put(database, "item/1", "");
            put(database, "number", "1");
            let reader = with_isolation(database, isolation);
            let listed = keys(&reader, "item/".."item0").len().to_string();
            let mut writer = with_isolation(database, isolation);
            writer.put(T, "item/2", b"".as_slice()).unwrap();
            writer.put(T, "number", b"2".as_slice()).unwrap();
            writer.commit().unwrap();
            get(&reader, "number") != Some(listed)
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn the_long_fork_happens_at_read_committed_only() {
    // G-nonadjacent: two readers see two independent writes in opposite orders.
    each_level(
        |database, isolation| {
            put(database, "x", "0");
            put(database, "y", "0");
            let (one, two) = pair(database, isolation);
            let two_x = get(&two, "x").unwrap();
            put(database, "x", "1");
            // A reader that begins now sees x, and y never before it.
            let (one_x, one_y) = (get(&one, "x").unwrap(), get(&one, "y").unwrap());
            put(database, "y", "1");
            let two_y = get(&two, "y").unwrap();
            (one_x, one_y) == ("1".into(), "0".into()) && (two_x, two_y) == ("0".into(), "1".into())
        },
        [(ReadCommitted, true), (Snapshot, false), (Serializable, false)],
    );
}

#[test]
fn two_create_the_same_key_at_read_committed_only() {
    // Each finds the key absent and creates it; where both succeed, the first creation is overwritten unseen.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, true), (Serializable, true)] {
        for was_deleted in [false, true] {
            let database = memory();
            if was_deleted {
                put(&database, "name", "old");
                delete(&database, "name");
            }
            let (mut one, mut two) = pair(&database, isolation);
            assert_eq!((get(&one, "name"), get(&two, "name")), (None, None));
            one.put(T, "name", b"one".as_slice()).unwrap();
            two.put(T, "name", b"two".as_slice()).unwrap();
            one.commit().unwrap();
            assert_eq!(
                kind(two.commit()),
                refused_if(refused),
                "{isolation:?}, deleted before: {was_deleted}"
            );
            let expected = if refused { "one" } else { "two" };
            assert_eq!(get(&database, "name").as_deref(), Some(expected), "{isolation:?}");
        }
    }
}

#[test]
fn a_link_to_what_is_being_deleted_dangles_below_serializable() {
    // One links to a node that it found; the other deletes the node because it found no link. Whoever commits first.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, false), (Serializable, true)] {
        for linker_first in [true, false] {
            let database = memory();
            put(&database, "node", "here");
            let (mut linker, mut deleter) = pair(&database, isolation);
            assert!(get(&linker, "node").is_some());
            linker.put(T, "link/node", b"".as_slice()).unwrap();
            assert_eq!(keys(&deleter, "link/".."link0"), Vec::<String>::new());
            deleter.delete(T, "node").unwrap();
            let (first, second) = if linker_first { (linker, deleter) } else { (deleter, linker) };
            first.commit().unwrap();
            assert_eq!(kind(second.commit()), refused_if(refused), "{isolation:?}");
            let dangles = get(&database, "node").is_none() && get(&database, "link/node").is_some();
            assert_eq!(dangles, !refused, "{isolation:?}, linker first: {linker_first}");
        }
    }
}

#[test]
fn what_two_decide_on_something_absent_contradicts_below_serializable() {
    // Each writes because the other's key is absent: at most one of them may be there.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, false), (Serializable, true)] {
        let database = memory();
        put(&database, "other", "1");
        let (mut one, mut two) = pair(&database, isolation);
        assert_eq!((get(&one, "b"), get(&two, "a")), (None, None));
        one.put(T, "a", b"as b is absent".as_slice()).unwrap();
        two.put(T, "b", b"as a is absent".as_slice()).unwrap();
        one.commit().unwrap();
        assert_eq!(kind(two.commit()), refused_if(refused), "{isolation:?}");
        assert_eq!(get(&database, "b").is_some(), !refused, "{isolation:?}");
    }
}

#[test]
fn the_read_only_anomaly_shows_in_what_is_stored_and_what_was_reported() {
    // As above, to the end: below serializable the report and the final state fit no order of the three.
    for (isolation, refused) in [(ReadCommitted, false), (Snapshot, false), (Serializable, true)] {
        let database = memory();
        put(&database, "checking", "0");
        put(&database, "savings", "0");
        let mut withdrawal = with_isolation(&database, isolation);
        let seen = (get(&withdrawal, "checking").unwrap(), get(&withdrawal, "savings").unwrap());
        assert_eq!(seen, ("0".to_owned(), "0".to_owned()));
        let mut deposit = with_isolation(&database, isolation);
        assert_eq!(get(&deposit, "savings").as_deref(), Some("0"));
        deposit.put(T, "savings", b"20".as_slice()).unwrap();
        deposit.commit().unwrap();
        let report = with_isolation(&database, isolation);
        let reported = (get(&report, "checking").unwrap(), get(&report, "savings").unwrap());
        report.commit().unwrap();
        // 10 are taken and 1 is the penalty, as nothing was there. After the deposit there would be none.
        withdrawal.put(T, "checking", b"-11".as_slice()).unwrap();
        assert_eq!(kind(withdrawal.commit()), refused_if(refused), "{isolation:?}");
        assert_eq!(reported, ("0".to_owned(), "20".to_owned()), "the deposit came first, says the report");
        let checking = get(&database, "checking").unwrap();
        assert_eq!(checking == "-11", !refused, "{isolation:?}: the withdrawal came first, says the penalty");
    }
}

#[test]
fn a_scan_of_a_table_that_is_not_there_conflicts_with_its_making() {
    let database = memory();
    let mut txn = database.begin().unwrap();
    assert_eq!(keys(&txn, ..), Vec::<String>::new());
    assert_eq!(txn.tables().unwrap().len(), 0);
    put(&database, "a", "1");
    txn.put("elsewhere", "k", b"v".as_slice()).unwrap();
    assert_eq!(kind(txn.commit()), CONFLICT);
}

#[test]
fn deletions_conflict_as_writes_do() {
    for (isolation, expected) in [(Snapshot, Ok(())), (Serializable, CONFLICT)] {
        let database = memory();
        put(&database, "x", "1");
        let mut txn = with_isolation(&database, isolation);
        assert_eq!(get(&txn, "x").as_deref(), Some("1"));
        delete(&database, "x");
        txn.put(T, "y", b"because x was there".as_slice()).unwrap();
        assert_eq!(kind(txn.commit()), expected, "{isolation:?}");
    }
}

#[test]
fn a_conflict_names_transaction_key_and_version() {
    let database = memory();
    put(&database, "x", "1");
    let mut txn = database.begin().unwrap();
    let id = txn.id();
    let _read = get(&txn, "x");
    let winner = put(&database, "x", "2");
    txn.put(T, "y", b"3".as_slice()).unwrap();
    let error = txn.commit().unwrap_err();
    let text = error.to_string();
    match error {
        CommitError::Conflict { txn, table, key, version } => {
            assert_eq!((txn, &*table, &key[..], version), (id, T, &b"x"[..], winner.version));
        }
        other => panic!("{other:?}"),
    }
    assert!(text.contains("key x of table \"t\"") && text.contains("run it again"), "{text}");
    assert_eq!(get(&database, "y"), None, "a refused commit leaves nothing behind");
    assert_eq!(database.visible_version(), winner.version);
}

#[test]
fn what_nobody_else_touched_never_conflicts() {
    for isolation in LEVELS {
        let database = memory();
        put(&database, "a", "1");
        put(&database, "m", "1");
        let mut txn = with_isolation(&database, isolation);
        let _read = (get(&txn, "a"), keys(&txn, "k".."n"));
        put(&database, "b", "2");
        put(&database, "n", "2");
        txn.put(T, "c", b"3".as_slice()).unwrap();
        assert_eq!(kind(txn.commit()), Ok(()), "{isolation:?}");
    }
}

#[test]
fn only_the_rows_that_a_scan_yielded_are_read() {
    let database = memory();
    for key in ["a", "b", "c", "d", "e"] {
        put(&database, key, "1");
    }
    for (taken_front, taken_back, written, expected) in [
        (2, 0, "c", Ok(())),
        (2, 0, "b", CONFLICT),
        (2, 0, "aa", CONFLICT),
        (0, 2, "c", Ok(())),
        (0, 2, "d", CONFLICT),
        (0, 1, "zz", CONFLICT),
        (1, 1, "c", Ok(())),
        (3, 2, "c", CONFLICT),
        (0, 0, "a", Ok(())),
    ] {
        let mut txn = database.begin().unwrap();
        let mut scan = txn.scan(T, ..).unwrap();
        for _ in 0..taken_front {
            scan.next().unwrap().unwrap();
        }
        for _ in 0..taken_back {
            scan.next_back().unwrap().unwrap();
        }
        let row = put(&database, written, "2");
        txn.put("elsewhere", "k", row.version.to_raw().to_le_bytes().as_slice()).unwrap();
        assert_eq!(kind(txn.commit()), expected, "{taken_front} front, {taken_back} back, {written}");
        if written.len() == 2 {
            delete(&database, written);
        }
    }
}

#[test]
fn read_only_transactions_never_conflict_and_make_no_version() {
    on_both(|database| {
        put(&database, "x", "1");
        for isolation in LEVELS {
            let before = database.visible_version();
            let reader = with_isolation(&database, isolation);
            let _read = (get(&reader, "x"), keys(&reader, ..));
            let written = put(&database, "x", "2").version;
            let receipt = reader.commit().unwrap();
            let seen = if isolation == ReadCommitted { written } else { before };
            assert_eq!((receipt.version, receipt.rows), (seen, 0), "{isolation:?}");
            assert_eq!(database.visible_version(), written);
        }
    });
}

#[test]
fn own_writes_are_read_and_cause_no_conflict_by_themselves() {
    let database = memory();
    let mut txn = database.begin().unwrap();
    txn.put(T, "mine", b"1".as_slice()).unwrap();
    assert_eq!(get(&txn, "mine").as_deref(), Some("1"));
    put(&database, "yours", "2");
    txn.commit().unwrap();
    assert_eq!(keys(&database, ..), ["mine", "yours"]);
    assert_eq!(number(&database, "none"), 0);
}
