//! How long versions are kept: by time, for ever, not at all, by a name, by a snapshot.

use std::time::Duration;

use keepstone::{
    Collection, CommitError, HistoryCoding, NodeId, NodePatch, Read, ReadError, Retention, Store,
    StoreOptions, Version,
};

use crate::{Disk, assert_sound};

const HOUR: Duration = Duration::from_secs(3_600);

/// Puts the numbers under one key, a commit each.
fn put_all(store: &Store, nodes: &Collection<u32>, numbers: std::ops::Range<u32>) -> Vec<Version> {
    numbers.map(|number| store.write(|txn| nodes.put(txn, "k", &number)).unwrap().version.unwrap()).collect()
}

/// Holds that a version is told as gone, with what helps.
#[track_caller]
fn assert_gone(store: &Store, version: Version) {
    let error = store.at(version).unwrap_err();
    assert!(matches!(error, ReadError::HistoryGone { asked, .. } if asked == version), "{error}");
    assert_eq!(
        (error.kind().as_str(), error.is_retryable(), error.is_damage()),
        ("history-gone", false, false)
    );
    let text = error.to_string();
    assert!(text.contains("the oldest that is kept is") && text.contains("name"), "{text}");
}

#[test]
fn without_retention_only_the_newest_and_what_has_a_name_or_a_reader_stays() {
    let disk = Disk::new();
    let store = disk.open_as(&StoreOptions::new().retention(Retention::None)).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let made = put_all(&store, &nodes, 0..10);
    store.tag("kept", made[3]).unwrap();
    let held = store.at(made[5]).unwrap();
    let report = store.compact().unwrap();
    assert!(report.pruned_rows > 0, "{report:?}");
    assert_gone(&store, made[2]);
    assert_gone(&store, Version::ZERO);
    assert_eq!(nodes.get(&store.at("kept").unwrap(), "k").unwrap(), Some(3));
    assert_eq!(nodes.get(&held, "k").unwrap(), Some(5));
    assert_eq!(held.version().unwrap(), made[5]);
    assert_eq!(nodes.get(&store, "k").unwrap(), Some(9));
    let refused = store.rollback_to(made[2]).unwrap_err();
    assert!(matches!(refused, CommitError::Read(ReadError::HistoryGone { .. })), "{refused}");
    let newest = store.visible_version();
    assert!(matches!(store.diff(made[1], newest).unwrap_err(), ReadError::HistoryGone { .. }));
    assert_eq!(store.diff(made[3], newest).unwrap().len(), 1);
    drop(held);
    store.untag("kept").unwrap();
    store.compact().unwrap();
    assert_gone(&store, made[3]);
    assert_gone(&store, made[5]);
    assert_sound(&store);
    assert_eq!(store.stats().oldest_version, store.stats().version);
    let history: Vec<_> = nodes.history(&store, "k").map(|entry| entry.unwrap().node.unwrap().body).collect();
    assert_eq!(history, [Some(9)], "what it was at the oldest version that is kept");
}

#[test]
fn a_deletion_that_is_gone_is_not_told_at_a_version_that_gave_the_id_to_another_key() {
    let disk = Disk::new();
    let store = disk.open_as(&StoreOptions::new().retention(Retention::None)).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let id = NodeId::from_bytes([7; 16]);
    let put = |key, body: u32| {
        store.write(|txn| nodes.put_with_id(txn, id, key, &NodePatch::body(body))).unwrap().version.unwrap()
    };
    let made = put("k", 1);
    store.tag("kept", made).unwrap();
    store.write(|txn| nodes.delete(txn, "k")).unwrap();
    put("other", 2);
    store.compact().unwrap();
    let history: Vec<_> = nodes.history(&store, "k").map(Result::unwrap).collect();
    assert_eq!(
        history.iter().map(|entry| (entry.version, entry.node.is_some())).collect::<Vec<_>>(),
        [(made, true)]
    );
}

#[test]
fn versions_are_kept_for_the_time_that_was_asked_for() {
    let (disk, clock) = Disk::with_manual_clock();
    let options = StoreOptions::new().retention(Retention::For(HOUR));
    let store = disk.open_as(&options).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let old = put_all(&store, &nodes, 0..5);
    clock.advance(HOUR / 2);
    let younger = put_all(&store, &nodes, 5..10);
    store.compact().unwrap();
    assert_eq!(nodes.get(&store.at(old[0]).unwrap(), "k").unwrap(), Some(0), "nothing is an hour old");
    clock.advance(HOUR * 3 / 4);
    store.compact().unwrap();
    assert_gone(&store, old[0]);
    for (number, version) in (5..).zip(&younger) {
        assert_eq!(nodes.get(&store.at(*version).unwrap(), "k").unwrap(), Some(number));
    }
    store.close().unwrap();
    // The store knows its retention.
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    assert_gone(&store, old[0]);
    clock.advance(HOUR * 2);
    store.compact().unwrap();
    assert_gone(&store, younger[0]);
    assert_eq!(nodes.get(&store, "k").unwrap(), Some(9));
    assert_sound(&store);
}

#[test]
fn for_ever_is_for_ever_and_the_default_is_a_week() {
    for (retention, is_kept) in [(Some(Retention::Forever), true), (None, false)] {
        let (disk, clock) = Disk::with_manual_clock();
        let options = StoreOptions::new();
        let options = match retention {
            Some(retention) => options.retention(retention),
            None => options,
        };
        let store = disk.open_as(&options).unwrap();
        let nodes = store.collection::<u32>("nodes").unwrap();
        let made = put_all(&store, &nodes, 0..5);
        clock.advance(HOUR * 24 * 6);
        store.compact().unwrap();
        assert_eq!(nodes.get(&store.at(made[0]).unwrap(), "k").unwrap(), Some(0));
        clock.advance(HOUR * 24 * 2);
        store.compact().unwrap();
        if is_kept {
            assert_eq!(nodes.get(&store.at(made[0]).unwrap(), "k").unwrap(), Some(0));
            assert_eq!(nodes.history(&store, "k").count(), 5);
        } else {
            assert_gone(&store, made[0]);
        }
    }
}

#[test]
fn times_before_what_is_kept_are_gone_too() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open_as(&StoreOptions::new().retention(Retention::None)).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let first = store.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    clock.advance(HOUR);
    let last = store.write(|txn| nodes.put(txn, "k", &2)).unwrap();
    store.compact().unwrap();
    assert!(matches!(store.at_time(first.time).unwrap_err(), ReadError::HistoryGone { .. }));
    assert_eq!(nodes.get(&store.at_time(last.time).unwrap(), "k").unwrap(), Some(2));
    let kept: Vec<_> = store.versions().unwrap().map(|info| info.unwrap().version).collect();
    assert_eq!(kept.first(), Some(&last.version.unwrap()));
}

/// A text of some KB of which one line is another each time.
fn edited(number: usize) -> String {
    let line = |line: usize| format!("{line} {:x}\n", line * 0x9E37 + usize::from(line == number) * number);
    (0..400).map(line).collect()
}

#[test]
fn how_older_versions_are_kept_may_be_another_each_time_and_all_are_read() {
    let mut slots = Vec::new();
    for order in [
        [HistoryCoding::Whole, HistoryCoding::Whole],
        [HistoryCoding::Chains, HistoryCoding::Chains],
        [HistoryCoding::Whole, HistoryCoding::Chains],
        [HistoryCoding::Chains, HistoryCoding::Whole],
    ] {
        let disk = Disk::new();
        let mut made = Vec::new();
        for (half, history) in order.into_iter().enumerate() {
            let store = disk.open_as(&StoreOptions::new().history(history)).unwrap();
            let nodes = store.collection::<String>("nodes").unwrap();
            for number in half * 20..half * 20 + 20 {
                made.push(store.write(|txn| nodes.put(txn, "k", &edited(number))).unwrap().version.unwrap());
                store.checkpoint().unwrap();
            }
            store.compact().unwrap();
            for (number, version) in made.iter().enumerate() {
                let then = store.at(*version).unwrap();
                assert_eq!(nodes.get(&then, "k").unwrap(), Some(edited(number)), "{order:?}");
            }
            assert_sound(&store);
            slots.push(store.stats().pages["used_slots"]);
            store.close().unwrap();
        }
    }
    let [_, whole, _, chains, ..] = slots[..] else { panic!("{slots:?}") };
    assert!(chains * 2 < whole, "{slots:?}");
}
