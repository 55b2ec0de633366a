//! Versions: snapshots, names, times, rollback, diff, history.

use std::time::Duration;

use keepstone::{At, ChangeKind, CommitError, NodePatch, Read, ReadError, Timestamp, Version};

use crate::{Disk, assert_sound, store};

#[test]
fn the_past_is_read_by_version_name_and_time() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let mut made = Vec::new();
    for number in 0..5_u32 {
        clock.advance(Duration::from_secs(10));
        made.push(store.write(|txn| nodes.put(txn, "k", &number)).unwrap());
    }
    let read = |at: At| nodes.get(&store.at(at).unwrap(), "k").unwrap();
    for (number, committed) in (0..).zip(&made) {
        let version = committed.version.unwrap();
        store.tag(&format!("tag {number}"), version).unwrap();
        assert_eq!(read(version.into()), Some(number));
        assert_eq!(read(format!("tag {number}").into()), Some(number));
        assert_eq!(read(committed.time.into()), Some(number));
        assert_eq!(read(committed.time.plus(Duration::from_secs(9)).into()), Some(number));
        assert_eq!(store.version_info(version).unwrap().unwrap().time, committed.time);
        assert_eq!(store.at(version).unwrap().version().unwrap(), version);
    }
    assert_eq!(read(Timestamp::EPOCH.into()), None);
    assert_eq!(read(Version::ZERO.into()), None);
    assert_eq!(store.at_time(Timestamp::MAX).unwrap().version().unwrap(), store.visible_version());
    let future = Version::from_raw(store.visible_version().to_raw() + 1);
    assert!(matches!(store.at(future).unwrap_err(), ReadError::VersionInFuture { .. }));
    assert!(matches!(store.at("nobody").unwrap_err(), ReadError::UnknownName { .. }));
    let versions: Vec<_> = store.versions().unwrap().map(|info| info.unwrap().version).collect();
    assert!(versions.is_sorted_by(|a, b| a > b) && versions.len() >= 5);
    assert_eq!(store.versions().unwrap().next_back().map(|info| info.unwrap().version), made[0].version);
}

#[test]
fn names_are_given_once_and_survive_reopening() {
    let disk = Disk::new();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let first = store.write(|txn| nodes.put(txn, "k", &1)).unwrap().version.unwrap();
    let second = store.write(|txn| nodes.put(txn, "k", &2)).unwrap().version.unwrap();
    store.tag("release", first).unwrap();
    store.tag("release", first).unwrap();
    assert!(matches!(store.tag("release", second).unwrap_err(), CommitError::Name { .. }));
    assert!(matches!(store.tag("", second).unwrap_err(), CommitError::Name { .. }));
    assert!(store.tag("later", Version::MAX).is_err());
    assert!(matches!(store.untag("nobody").unwrap_err(), CommitError::UnknownName { .. }));
    store.close().unwrap();
    let store = disk.open();
    let tags: Vec<_> = store.tags().unwrap().into_iter().map(|tag| (tag.name, tag.version)).collect();
    assert_eq!(tags, [("release".to_owned(), first)]);
    store.untag("release").unwrap();
    store.tag("release", second).unwrap();
    assert_eq!(store.resolve("release").unwrap(), second);
}

#[test]
fn rolling_back_makes_a_new_version_with_the_old_content() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let first = store
        .write(|txn| {
            nodes.put_node(txn, "a", &NodePatch::body(1).embedding([1.0, 2.0]))?;
            nodes.link(txn, "a", "v", "later", 1.0)
        })
        .unwrap()
        .version
        .unwrap();
    let second = store
        .write(|txn| {
            nodes.delete(txn, "a")?;
            nodes.put(txn, "b", &2)
        })
        .unwrap()
        .version
        .unwrap();
    let receipt = store.rollback_to(first).unwrap();
    assert!(receipt.version.unwrap() > second);
    assert_eq!(nodes.node(&store, "a").unwrap(), nodes.node(&store.at(first).unwrap(), "a").unwrap());
    assert_eq!(nodes.links(&store, "a", keepstone::Direction::Out).count(), 1);
    assert!(!nodes.contains(&store, "b").unwrap());
    assert!(store.diff(first, receipt.version.unwrap()).unwrap().is_empty());
    assert_eq!(nodes.get(&store.at(second).unwrap(), "b").unwrap(), Some(2));
    assert_sound(&store);
    // Before the collection existed, and then used again.
    store.rollback_to(Version::ZERO).unwrap();
    assert!(store.collections(&store).unwrap().is_empty());
    store.write(|txn| nodes.put_node(txn, "c", &NodePatch::new().embedding([1.0]))).unwrap();
    assert_sound(&store);
}

#[test]
fn diff_names_each_node_once_with_what_happened() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let before = store
        .write(|txn| {
            for key in ["gone", "same", "changed", "vector", "linked", "target", "anew"] {
                nodes.put(txn, key, &1)?;
            }
            Ok(())
        })
        .unwrap()
        .version
        .unwrap();
    let after = store
        .write(|txn| {
            nodes.delete(txn, "gone")?;
            nodes.put(txn, "same", &1)?;
            nodes.put(txn, "changed", &2)?;
            nodes.put_node(txn, "vector", &NodePatch::new().embedding([1.0]))?;
            nodes.link(txn, "linked", "v", "target", 1.0)?;
            nodes.link(txn, "linked", "v", "reserved", 1.0)?;
            nodes.delete(txn, "anew")?;
            nodes.put(txn, "anew", &1)?;
            nodes.put(txn, "new", &1)
        })
        .unwrap()
        .version
        .unwrap();
    let found: Vec<_> =
        store.diff(before, after).unwrap().into_iter().map(|change| (change.key, change.kind)).collect();
    let expected = [
        ("anew", ChangeKind::Updated),
        ("changed", ChangeKind::Updated),
        ("gone", ChangeKind::Deleted),
        ("linked", ChangeKind::LinksChanged),
        ("new", ChangeKind::Created),
        ("target", ChangeKind::LinksChanged),
        ("vector", ChangeKind::Updated),
    ];
    assert_eq!(found, expected.map(|(key, kind)| (key.to_owned(), kind)));
    let back = store.diff(after, before).unwrap();
    assert!(back.iter().any(|change| change.key == "gone" && change.kind == ChangeKind::Created));
    assert!(store.diff(after, after).unwrap().is_empty());
}

#[test]
fn history_shows_bodies_vectors_and_deletions_newest_first() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "other", &0)).unwrap();
    // Reserved first: that alone is no history.
    store.write(|txn| nodes.link(txn, "other", "v", "k", 1.0)).unwrap();
    assert_eq!(nodes.history(&store, "k").count(), 0);
    store.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    store.write(|txn| nodes.put_node(txn, "k", &NodePatch::new().embedding([0.5]))).unwrap();
    store.write(|txn| nodes.put(txn, "other", &1)).unwrap();
    store.write(|txn| nodes.delete(txn, "k")).unwrap();
    store.write(|txn| nodes.link(txn, "other", "w", "k", 1.0)).unwrap();
    store.write(|txn| nodes.put(txn, "k", &2)).unwrap();
    let entries: Vec<_> = nodes.history(&store, "k").map(Result::unwrap).collect();
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| entry.node.as_ref().map(|node| (node.body, node.embedding.clone())))
        .collect();
    let expected = [Some((Some(2), None)), None, Some((Some(1), Some(vec![0.5]))), Some((Some(1), None))];
    assert_eq!(shown, expected);
    assert!(entries.is_sorted_by(|a, b| a.version > b.version && a.time > b.time));
    assert_eq!(nodes.history(&store, "nobody").count(), 0);
}
