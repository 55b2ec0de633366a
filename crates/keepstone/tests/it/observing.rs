//! What a store tells of itself: events, statistics, checks, recovery.

use std::time::Duration;

use keepstone::{Direction, Event, Operation, StoreOptions};

use crate::{Disk, store};

#[test]
fn commits_queries_failures_and_metrics_are_events() {
    let (disk, clock) = Disk::with_manual_clock();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    let events = store.events();
    assert_eq!(events.next_now(), None, "only what happens from now on");
    let made = store.write(|txn| nodes.put(txn, "k", &2)).unwrap();
    let (first, second) = (events.next_now(), events.next_within(Duration::ZERO));
    assert!(
        matches!(first, Some(Event::Committed { version, .. }) if Some(version) == made.version),
        "{first:?}"
    );
    assert!(matches!(second, Some(Event::Metrics { commits: 2, .. })), "{second:?}");
    nodes.get(&store, "k").unwrap();
    let query = Event::Query { operation: Operation::Get, took: Duration::ZERO };
    assert_eq!(events.drain(), [query]);

    let (mut one, mut other) = (store.begin().unwrap(), store.begin().unwrap());
    nodes.put(&mut one, "k", &3).unwrap();
    nodes.put(&mut other, "k", &4).unwrap();
    one.commit().unwrap();
    other.commit().unwrap_err();
    let found = events.drain();
    assert!(
        matches!(found[..], [Event::Committed { .. }, Event::CommitFailed { kind: "conflict", .. }]),
        "{found:?}"
    );
    clock.advance(Duration::from_secs(1));
    store.write(|txn| nodes.put(txn, "k", &5)).unwrap();
    assert!(matches!(
        events.drain()[..],
        [Event::Committed { .. }, Event::Metrics { commits_failed: 1, .. }]
    ));
}

#[test]
fn a_slow_commit_begins_an_alert_and_a_fast_one_ends_it() {
    let (disk, clock) = Disk::with_manual_clock();
    let alerts = StoreOptions::new().alert_commit(Duration::from_millis(5), Duration::from_millis(50));
    let store = disk.open_as(&alerts).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let events = store.events();
    let commit_in = |millis| {
        store
            .write(|txn| {
                clock.advance(Duration::from_millis(millis));
                nodes.put(txn, "k", &1)
            })
            .unwrap();
    };
    [1, 60, 70, 20, 2, 2].into_iter().for_each(commit_in);
    let alert = |event: &Event| match event {
        Event::Alert { begins, value_ms, threshold_ms, .. } => Some((*begins, *value_ms, *threshold_ms)),
        _ => None,
    };
    assert_eq!(events.drain().iter().filter_map(alert).collect::<Vec<_>>(), [(true, 60, 50), (false, 2, 5)]);
}

#[test]
fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let store = Disk::new().open_as(&StoreOptions::new().events_max(16)).unwrap();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let events = store.events();
    (0..50).for_each(|_| assert_eq!(nodes.get(&store, "k").unwrap(), None));
    assert_eq!((events.drain().len(), events.dropped()), (16, 34));
}

#[test]
fn stats_count_what_was_done_and_serialize() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store
        .write(|txn| {
            nodes.put(txn, "a", &1)?;
            nodes.link(txn, "a", "v", "b", 1.0)
        })
        .unwrap();
    for _ in 0..10 {
        nodes.get(&store, "a").unwrap();
    }
    assert_eq!(nodes.links(&store, "a", Direction::Out).count(), 1);
    let stats = store.stats();
    assert_eq!((stats.commits, stats.commits_failed, stats.versions), (1, 0, 1));
    assert_eq!((&*stats.version, &*stats.durable_version), ("1", "1"));
    let counts: Vec<_> = stats.latencies.iter().map(|(name, latency)| (*name, latency.count)).collect();
    assert_eq!(counts, [("commit", 1), ("get", 10), ("link", 1), ("links", 1), ("put", 1)]);
    let get = stats.latencies["get"];
    assert!(
        0 < get.p50_ns && get.p50_ns <= get.p95_ns && get.p95_ns <= get.p99_ns && get.p999_ns <= get.max_ns
    );
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["latencies"]["put"]["count"], 1);
    assert!(json["log"]["records"].as_u64().unwrap() >= 1);
    let quiet = Disk::new().open_as(&StoreOptions::new().histograms(false)).unwrap();
    let nodes = quiet.collection::<u32>("nodes").unwrap();
    quiet.write(|txn| nodes.put(txn, "a", &1)).unwrap();
    assert!(quiet.stats().latencies.is_empty() && quiet.stats().commits == 1);
}

#[test]
fn check_counts_what_is_there() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let patch = keepstone::NodePatch::body(1)
        .embedding([1.0])
        .fingerprint(keepstone::Fingerprint::from_bytes(vec![1; 8]).unwrap());
    store
        .write(|txn| {
            nodes.put_node(txn, "a", &patch)?;
            nodes.put(txn, "b", &2)?;
            nodes.link(txn, "a", "v", "b", 1.0)?;
            nodes.link(txn, "a", "v", "later", 1.0)
        })
        .unwrap();
    store.tag("first", store.visible_version()).unwrap();
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    let counted = (report.collections, report.nodes, report.reserved, report.links);
    assert_eq!(counted, (1, 2, 1, 2));
    assert_eq!((report.fingerprints, report.embeddings, report.tags), (1, 1, 1));
    assert!(report.commits >= 1 && report.rows > 0);
    assert!(serde_json::to_value(&report).unwrap()["findings"].as_array().unwrap().is_empty());
}

#[test]
fn recovery_says_whether_the_close_was_clean() {
    let disk = Disk::new();
    let store = disk.open();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "a", &1)).unwrap();
    store.close().unwrap();
    let copy =
        Disk { vfs: std::sync::Arc::new(disk.vfs.snapshot()), clock: std::sync::Arc::clone(&disk.clock) };
    let again = copy.open();
    assert!(again.recovery().clean && again.recovery().cut_bytes == 0);
    let running = disk.open();
    running.write(|txn| running.collection::<u32>("nodes").unwrap().put(txn, "b", &2)).unwrap();
    // What is on the disk of a store that is still open is what a killed process leaves behind.
    let killed =
        Disk { vfs: std::sync::Arc::new(disk.vfs.snapshot()), clock: std::sync::Arc::clone(&disk.clock) };
    let store = killed.open();
    assert!(!store.recovery().clean);
    assert_eq!(store.collection::<u32>("nodes").unwrap().len(&store).unwrap(), 2);
    assert!(serde_json::to_value(store.recovery()).unwrap()["timeline"].is_u64());
}
