//! Checkpoints, compaction, collecting pages, repair of a sound store, and what is told of them.

use std::time::Duration;

use keepstone::{
    Access, Event, MaintenanceError, OpenError, Recommendation, Recovery, Retention, Store, StoreOptions,
};

use crate::{Disk, assert_sound, store};

/// Puts so many nodes with bodies of so many bytes, a hundred a commit.
fn fill(store: &Store, count: usize, len: usize) {
    let nodes = store.collection::<String>("nodes").unwrap();
    let numbers: Vec<_> = (0..count).collect();
    for chunk in numbers.chunks(100) {
        store
            .write(|txn| {
                chunk.iter().try_for_each(|number| {
                    let body = format!("{number} {}", "x".repeat(len));
                    nodes.put(txn, &format!("key {number:06}"), &body).map(drop)
                })
            })
            .unwrap();
    }
}

/// All keys and bodies.
fn content(store: &Store) -> Vec<(String, String)> {
    let nodes = store.collection::<String>("nodes").unwrap();
    nodes.iter(store).map(Result::unwrap).map(|node| (node.key, node.body.unwrap())).collect()
}

/// Checkpoints only when they are asked for.
fn by_hand() -> StoreOptions {
    StoreOptions::new()
        .checkpoint_memory_bytes(0)
        .checkpoint_log_bytes(0)
        .checkpoint_age(Duration::ZERO)
        .checkpoint_idle(Duration::ZERO)
}

#[test]
fn a_checkpoint_empties_memory_and_log_and_opening_reads_what_is_left() {
    let disk = Disk::new();
    let store = disk.open_as(&by_hand()).unwrap();
    fill(&store, 1_000, 100);
    let before = content(&store);
    let waiting = store.stats();
    assert!(waiting.memory_rows >= 2_000 && waiting.checkpoints == 0 && waiting.page_rows == 0);
    let report = store.checkpoint().unwrap();
    assert_eq!(report.folded_version, store.visible_version().to_string());
    assert!(report.rows >= 2_000 && report.written_bytes > 100_000, "{report:?}");
    let stats = store.stats();
    assert_eq!((stats.memory_rows, stats.checkpoints, stats.checkpoint_failures), (0, 1, 0));
    assert!(stats.page_rows >= 2_000 && stats.rows_folded == report.rows && stats.checkpoint_slices >= 1);
    assert_eq!(stats.folded_version, report.folded_version);
    assert_eq!(stats.pages["file_bytes"], report.page_bytes);
    assert!(stats.log["segment_bytes"] == report.log_bytes && stats.pages["pages_written"] > 0);
    assert_eq!(content(&store), before);
    assert!(store.stats().pages["cache_hits"] > 0);
    let nodes = store.collection::<String>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "after", &"it".to_owned())).unwrap();
    store.close().unwrap();
    let store = disk.open();
    let again = store.stats();
    assert!(again.memory_rows <= 2, "what was folded is not replayed: {} rows", again.memory_rows);
    let mut expected = before;
    expected.insert(0, ("after".to_owned(), "it".to_owned()));
    assert_eq!(content(&store), expected);
    assert_sound(&store);
    assert_eq!(store.checkpoint().unwrap().rows, store.stats().rows_folded);
    assert_eq!(store.checkpoint().unwrap().rows, 0, "nothing is left to fold");
}

#[test]
fn a_full_memory_makes_a_checkpoint_by_itself() {
    let store = Disk::new().open_as(&by_hand().checkpoint_memory_bytes(64 << 10)).unwrap();
    let events = store.events();
    let mut rounds = 0;
    while store.stats().checkpoints == 0 {
        fill(&store, 100, 100);
        rounds += 1;
        assert!(rounds < 10_000, "no checkpoint after {rounds} times its memory");
    }
    let told = |event: &Event| match event {
        Event::Checkpoint { done, rows, bytes, took } => Some((*done, *rows > 0, *bytes > 0, *took)),
        _ => None,
    };
    let told: Vec<_> = events.drain().iter().filter_map(told).collect();
    assert!(events.dropped() > 0 || told.contains(&(true, true, true, None)), "{told:?}");
    assert_sound(&store);
}

#[test]
fn a_checkpoint_that_was_asked_for_is_an_event_with_its_numbers() {
    let store = Disk::new().open_as(&by_hand()).unwrap();
    fill(&store, 100, 10);
    store.checkpoint().unwrap();
    let events = store.events();
    assert_eq!(events.next_now(), None, "what was before is no news");
    fill(&store, 100, 11);
    drop(events.drain());
    let report = store.checkpoint().unwrap();
    let found = events.drain();
    let [Event::Checkpoint { done: true, rows, bytes, took: Some(took) }] = found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((rows, bytes), (report.rows, report.written_bytes));
    assert_eq!(took, report.elapsed);
    store.checkpoint().unwrap();
    assert!(events.drain().is_empty(), "nothing was folded");
}

#[test]
fn memory_that_fills_is_told_as_pressure() {
    let (disk, clock) = Disk::with_manual_clock();
    // The trigger is far away, and its memory small: use rises while nothing is folded.
    let store = disk.open_as(&by_hand().checkpoint_memory_bytes(1 << 20)).unwrap();
    let events = store.events();
    let mut pressure = None;
    for round in 0..10_000 {
        clock.advance(Duration::from_millis(1));
        fill(&store, 100, 1_000 + round % 7);
        let _looked = (store.reconciler_stats(), store.stats());
        let told = events.drain();
        pressure = told.into_iter().find(|event| matches!(event, Event::Pressure { .. }));
        if pressure.is_some() {
            break;
        }
    }
    let Some(Event::Pressure { reconciler }) = pressure else { panic!("no pressure was told") };
    assert!(store.stats().pressure_warnings >= 1);
    assert!((0.0..=1.0).contains(&reconciler.health) && reconciler.utilisation >= 0.0, "{reconciler:?}");
}

#[test]
fn an_idle_store_is_in_good_health() {
    let stats = store().reconciler_stats();
    assert_eq!(
        (stats.depth_bytes, stats.predicted_bytes, stats.recommendation),
        (0, 0, Recommendation::Good)
    );
    assert_eq!((stats.health.to_bits(), stats.estimated_lag), (1.0_f64.to_bits(), Duration::ZERO));
    let json = serde_json::to_value(stats).unwrap();
    assert_eq!(json["recommendation"], "good");
}

#[test]
fn compaction_gives_back_what_nothing_keeps() {
    let store = Disk::new().open_as(&by_hand().retention(Retention::None)).unwrap();
    fill(&store, 6_000, 1_000);
    store.checkpoint().unwrap();
    let nodes = store.collection::<String>("nodes").unwrap();
    for number in 0..5_700 {
        store.write(|txn| nodes.delete(txn, &format!("key {number:06}"))).unwrap();
    }
    let before = content(&store);
    let report = store.compact().unwrap();
    assert!(report.pruned_rows >= 5_700 && report.pruned_commits > 0, "{report:?}");
    assert!(report.bytes_after < report.bytes_before / 2, "{report:?}");
    assert_eq!(content(&store), before);
    assert_sound(&store);
    let again = store.compact().unwrap();
    assert!(again.bytes_after <= report.bytes_after && again.pruned_rows == 0, "{again:?}");
}

#[test]
fn nothing_is_collected_or_repaired_in_a_sound_store() {
    let store = store();
    fill(&store, 500, 50);
    store.checkpoint().unwrap();
    for dry_run in [true, false] {
        let report = store.gc(dry_run).unwrap();
        assert!(report.reachable > 0, "{report:?}");
        assert_eq!((report.findings, report.rebuilt, report.freed), (0, false, 0));
    }
    let report = store.repair().unwrap();
    assert!(report.before.is_sound() && report.after.is_sound() && report.gc.is_none());
    assert!(report.repaired().is_empty() && report.after.pages > 0);
}

#[test]
fn who_only_reads_changes_nothing() {
    let disk = Disk::new();
    let writer = disk.open();
    fill(&writer, 100, 10);
    writer.checkpoint().unwrap();
    writer.close().unwrap();
    let store = disk.open_as(&StoreOptions::new().access(Access::ReadOnly)).unwrap();
    let errors = [
        store.checkpoint().map(drop).unwrap_err(),
        store.compact().map(drop).unwrap_err(),
        store.gc(false).map(drop).unwrap_err(),
        store.repair().map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, MaintenanceError::ReadOnly), "{error}");
        assert_eq!((error.kind().as_str(), error.is_retryable()), ("read-only", false));
    }
    assert_eq!(store.gc(true).unwrap().findings, 0);
    assert_eq!(content(&store).len(), 100);
    assert_sound(&store);
}

#[test]
fn a_closed_store_is_told_as_such() {
    let store = store();
    store.clone().close().unwrap();
    for error in [
        store.checkpoint().map(drop).unwrap_err(),
        store.compact().map(drop).unwrap_err(),
        store.gc(true).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, MaintenanceError::Closed), "{error}");
    }
    assert_eq!(store.repair().unwrap_err().kind().as_str(), "closed");
    assert!(store.versions().is_err() && store.version_info(keepstone::Version::ZERO).is_err());
}

#[test]
fn stores_of_every_page_size_are_what_they_were_made_with() {
    for size in [4_096_u64, 8_192, 16_384] {
        let disk = Disk::new();
        let store = disk.open_as(&StoreOptions::new().page_size(size)).unwrap();
        fill(&store, 300, 300);
        store.checkpoint().unwrap();
        let before = content(&store);
        store.close().unwrap();
        // Another size asked for later changes nothing.
        let store = disk.open_as(&StoreOptions::new().page_size(8_192)).unwrap();
        assert_eq!(content(&store), before);
        let pages = store.stats().pages;
        let slots = pages["used_slots"] + pages["pending_slots"] + pages["free_slots"];
        assert!(
            pages["file_bytes"] >= slots * size && pages["file_bytes"] < (slots + 65) * size,
            "{pages:?}"
        );
        assert_sound(&store);
    }
}

#[test]
fn the_last_checkpoint_can_be_read_when_the_log_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let store = by_hand().open(&dir).unwrap();
    fill(&store, 300, 20);
    store.checkpoint().unwrap();
    let (expected, folded) = (content(&store), store.visible_version());
    fill(&store, 400, 21);
    store.close().unwrap();
    for entry in std::fs::read_dir(dir.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let noise = vec![0xA5; std::fs::read(&path).unwrap().len()];
        std::fs::write(&path, noise).unwrap();
    }
    let error = StoreOptions::new().open(&dir).unwrap_err();
    assert!(error.is_damage() && !matches!(error, OpenError::Pages { .. }), "{error}");
    let options = StoreOptions::new().recovery(Recovery::ReadOnlyAtCheckpoint);
    let store = options.open(&dir).unwrap();
    assert!(store.is_read_only());
    assert_eq!(store.visible_version(), folded);
    assert_eq!(content(&store), expected);
    let nodes = store.collection::<String>("nodes").unwrap();
    assert_eq!(
        store.write(|txn| nodes.put(txn, "k", &String::new())).unwrap_err().kind().as_str(),
        "read-only"
    );
    assert!(store.checkpoint().is_err());
    assert_sound(&store);
    drop((nodes, store));
    // Damage stays damage for those who did not ask.
    assert!(StoreOptions::new().open(&dir).unwrap_err().is_damage());
}

#[test]
fn a_store_without_a_checkpoint_is_read_as_empty() {
    let disk = Disk::new();
    let writer = disk.open_as(&by_hand()).unwrap();
    fill(&writer, 10, 10);
    writer.close().unwrap();
    let store = disk.open_as(&StoreOptions::new().recovery(Recovery::ReadOnlyAtCheckpoint)).unwrap();
    assert_eq!(store.visible_version(), keepstone::Version::ZERO);
    assert!(store.collections(&store).unwrap().is_empty());
    let error =
        Disk::new().open_as(&StoreOptions::new().recovery(Recovery::ReadOnlyAtCheckpoint)).unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}
