//! Reading: scans from both ends, own writes merged in, snapshots, tables.

use std::collections::{BTreeMap, VecDeque};

use keepstone_mvcc_temporal::{KeyRange, Read, ReadError, Snapshot, Txn};

use crate::support::{T, delete, get, keys, memory, on_both, put, rows};

#[test]
fn a_transaction_reads_its_own_writes_ranges_included() {
    on_both(|database| {
        for key in ["a", "c", "e", "g"] {
            put(&database, key, "stored");
        }
        let mut txn = database.begin().unwrap();
        txn.put(T, "b", b"own".as_slice()).unwrap();
        txn.put(T, "c", b"own".as_slice()).unwrap();
        txn.delete(T, "e").unwrap();
        txn.delete(T, "f").unwrap();
        txn.put(T, "h", b"own".as_slice()).unwrap();
        let expected = [("a", "stored"), ("b", "own"), ("c", "own"), ("g", "stored"), ("h", "own")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(rows(&txn, ..), expected);
        let back: Vec<_> = txn.scan(T, ..).unwrap().rev().map(|row| row.unwrap().0.to_vec()).collect();
        assert_eq!(back, [b"h", b"g", b"c", b"b", b"a"]);
        assert_eq!(keys(&txn, "b".."g"), ["b", "c"]);
        assert_eq!((get(&txn, "e"), get(&txn, "b").as_deref()), (None, Some("own")));
        assert_eq!(txn.get_with_version(T, "b").unwrap().unwrap().version, None);
        assert_eq!(keys(&database, ..), ["a", "c", "e", "g"], "nothing is visible before the commit");
        txn.commit().unwrap();
        assert_eq!(rows(&database, ..), expected);
    });
}

#[test]
fn a_scan_sees_what_was_there_when_it_began() {
    let database = memory();
    for number in 0..1_000 {
        put(&database, &format!("{number:04}"), "v");
    }
    let mut txn = database.begin().unwrap();
    let mut seen = 0;
    for row in txn.scan(T, ..).unwrap() {
        let (key, _) = row.unwrap();
        txn.delete(T, &*key).unwrap();
        txn.put(T, [&*key, b"x"].concat(), b"new".as_slice()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 1_000);
    assert_eq!(keys(&txn, ..).len(), 1_000);
    txn.commit().unwrap();
    assert!(keys(&database, ..).iter().all(|key| key.ends_with('x')));
}

#[test]
fn both_ends_meet_wherever_they_are_taken() {
    let database = memory();
    let all: Vec<String> = (0..700).map(|number| format!("{number:03}")).collect();
    let mut txn = database.begin().unwrap();
    for key in &all {
        txn.put(T, key, b"v".as_slice()).unwrap();
    }
    txn.commit().unwrap();
    // A pattern of steps from the front and the back, repeated until nothing is left.
    for pattern in [&[true][..], &[false], &[true, false], &[true, true, false], &[false, false, false, true]]
    {
        let mut scan = database.scan(T, ..).unwrap();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for up in pattern.iter().cycle() {
            let row = if *up { scan.next() } else { scan.next_back() };
            let Some(row) = row else { break };
            let key = String::from_utf8(row.unwrap().0.to_vec()).unwrap();
            if *up { front.push(key) } else { back.push(key) }
        }
        assert!(scan.next().is_none() && scan.next_back().is_none(), "a scan that ended stays ended");
        front.extend(back.into_iter().rev());
        assert_eq!(front, all, "{pattern:?}");
    }
}

#[test]
fn ranges_of_every_shape() {
    let database = memory();
    for key in ["", "a", "ab", "b", "c"] {
        put(&database, key, "v");
    }
    let check = |range: KeyRange, expected: &[&str]| assert_eq!(keys(&database, range), expected);
    check((..).into(), &["", "a", "ab", "b", "c"]);
    check(("a".."b").into(), &["a", "ab"]);
    check(("a"..="b").into(), &["a", "ab", "b"]);
    check(("b"..).into(), &["b", "c"]);
    check((.."b").into(), &["", "a", "ab"]);
    check((..="a").into(), &["", "a"]);
    check(KeyRange::prefix("a"), &["a", "ab"]);
    check(("c".."a").into(), &[]);
    check(("x"..).into(), &[]);
    assert_eq!(database.scan("no such table", ..).unwrap().count(), 0);
}

#[test]
fn iterators_and_snapshots_outlive_what_they_came_from() {
    let database = memory();
    put(&database, "a", "1");
    let txn = database.begin().unwrap();
    let scan = txn.scan(T, ..).unwrap();
    let snapshot = database.snapshot().unwrap();
    drop(txn);
    delete(&database, "a");
    put(&database, "b", "2");
    assert_eq!(scan.map(|row| row.unwrap().0.to_vec()).collect::<Vec<_>>(), [b"a"]);
    drop(database);
    assert_eq!(keys(&snapshot, ..), ["a"], "a snapshot keeps the store open");
    assert_eq!(get(&snapshot.clone(), "a").as_deref(), Some("1"));
}

#[test]
fn tables_exist_from_the_commit_that_wrote_to_them() {
    let database = memory();
    let names = |reader: &Snapshot| -> Vec<String> {
        database.tables(reader).unwrap().iter().map(ToString::to_string).collect()
    };
    let before = database.snapshot().unwrap();
    let mut txn = database.begin().unwrap();
    txn.put("b", "k", b"v".as_slice()).unwrap();
    txn.put("a", "k", b"v".as_slice()).unwrap();
    assert_eq!(txn.tables().unwrap().iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(names(&database.snapshot().unwrap()), Vec::<String>::new());
    txn.commit().unwrap();
    assert_eq!(names(&database.snapshot().unwrap()), ["a", "b"]);
    assert_eq!(names(&before), Vec::<String>::new());
    let mut dropped = database.begin().unwrap();
    dropped.put("c", "k", b"v".as_slice()).unwrap();
    drop(dropped);
    assert_eq!(names(&database.snapshot().unwrap()), ["a", "b"], "a rolled back table is none");
}

#[test]
fn tables_do_not_share_keys() {
    let database = memory();
    let mut txn = database.begin().unwrap();
    for table in ["one", "two", "three"] {
        txn.put(table, "k", table.as_bytes()).unwrap();
    }
    txn.commit().unwrap();
    for table in ["one", "two", "three"] {
        assert_eq!(database.get(table, "k").unwrap().unwrap(), *table.as_bytes());
        assert_eq!(database.scan(table, ..).unwrap().count(), 1);
    }
}

#[test]
fn another_stores_handle_is_refused() {
    let (one, two) = (memory(), memory());
    let error = one.tables(&two.snapshot().unwrap()).unwrap_err();
    assert_eq!(error, ReadError::WrongStore { expected: one.store_id(), found: two.store_id() });
}

#[test]
fn handles_are_owned_and_move_between_threads() {
    fn shared<T: Send + Sync + 'static>(handle: T) -> T {
        handle
    }
    fn moved<T: Send + 'static>(handle: T) -> T {
        handle
    }
    let database = shared(memory());
    put(&database, "a", "1");
    let snapshot = shared(database.snapshot().unwrap());
    let txn = moved(database.begin().unwrap());
    let scan = moved(txn.scan(T, ..).unwrap());
    let history = moved(database.history(T, "a").unwrap());
    let other = std::thread::spawn(move || {
        (scan.count(), history.count(), get(&snapshot, "a"), txn.commit().is_ok())
    });
    assert_eq!(other.join().unwrap(), (1, 1, Some("1".to_owned()), true));
    assert!(moved(database.begin().unwrap().submit().unwrap()).wait().is_ok());
}

#[test]
fn values_survive_everything() {
    let database = memory();
    put(&database, "k", "kept");
    let value = database.get(T, "k").unwrap().unwrap();
    delete(&database, "k");
    database.close().unwrap();
    assert_eq!(value, b"kept");
}

/// SplitMix64.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    usize::try_from((mixed ^ (mixed >> 27)) >> 40).unwrap()
}

/// Folded rows, rows in memory above them, and a transaction's own above those: short and long keys, values that are held,
/// that share their page, and that have pages of their own.
#[test]
fn scans_of_folded_rows_with_newer_ones_above_give_each_once_from_any_side() {
    let (database, mut state) = (memory(), 7);
    let mut model = BTreeMap::new();
    let mut change = |txn: &mut Txn, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, count: usize| {
        for _ in 0..count {
            let number = random(&mut state) % 3_000;
            let mut key = format!("{number:04}").into_bytes();
            key.resize(if number.is_multiple_of(7) { 60 } else { 4 + number % 30 }, b'.');
            let len = if number.is_multiple_of(500) { 9_000 } else { number % 90 };
            match random(&mut state) % 4 {
                0 => {
                    txn.delete(T, &key).unwrap();
                    model.remove(&key);
                }
                _ => {
                    let value = vec![u8::try_from(random(&mut state) % 250).unwrap(); len];
                    txn.put(T, &key, value.as_slice()).unwrap();
                    model.insert(key, value);
                }
            }
        }
    };
    for (folded, above) in [(4_000, 0), (500, 300), (100, 40), (50, 2_000)] {
        for count in [folded, above] {
            let mut txn = database.begin().unwrap();
            change(&mut txn, &mut model, count);
            txn.commit().unwrap();
            if count == folded {
                database.checkpoint().unwrap();
            }
        }
        let check = |read: &dyn Fn(KeyRange) -> keepstone_mvcc_temporal::Scan,
                     model: &BTreeMap<Vec<u8>, Vec<u8>>| {
            let mut state = folded as u64;
            for _ in 0..60 {
                let mut bounds = [random(&mut state) % 3_000, random(&mut state) % 3_300];
                bounds.sort_unstable();
                let [from, to] = bounds.map(|bound| format!("{bound:04}").into_bytes());
                let mut expected: VecDeque<_> = model.range(from.clone()..to.clone()).collect();
                let mut scan = read(KeyRange::from(&from[..]..&to[..]));
                let (turn, most) = (random(&mut state) % 4, random(&mut state) % 400);
                for step in 0..most {
                    let from_front = turn == 0 || turn > 1 && step / 7 % turn == 0;
                    let (found, wanted) = match from_front {
                        true => (scan.next(), expected.pop_front()),
                        false => (scan.next_back(), expected.pop_back()),
                    };
                    let found = found.map(Result::unwrap);
                    assert_eq!(
                        found.as_ref().map(|(key, value)| (&**key, &**value)),
                        wanted.map(|(k, v)| (&k[..], &v[..]))
                    );
                }
            }
        };
        let snapshot = database.snapshot().unwrap();
        check(&|range| snapshot.scan(T, range).unwrap(), &model);
        let (mut txn, mut own) = (database.begin().unwrap(), model.clone());
        change(&mut txn, &mut own, 200);
        check(&|range| txn.scan(T, range).unwrap(), &own);
        check(&|range| snapshot.scan(T, range).unwrap(), &model);
    }
}
