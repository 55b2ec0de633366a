//! Disks that run full and syncs that fail: what is refused leaves nothing, what is unknown is said to be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keepstone_mvcc_temporal::{CommitError, Read, WriteError};
use keepstone_testkit::fault_disk::FaultDisk;
use keepstone_types::Version;
use keepstone_types::lock_rank::TEST_OUTER;
use keepstone_types::sync::Mutex;
use keepstone_vfs::MemoryVfs;

use crate::support::{T, get, keys, kind, open_on, options, put};

fn faulty() -> (MemoryVfs, FaultDisk) {
    let memory = MemoryVfs::new();
    let disk = FaultDisk::new(Arc::new(memory.clone()));
    (memory, disk)
}

#[test]
fn a_full_disk_refuses_cleanly_and_work_resumes() {
    let (_memory, disk) = faulty();
    let database = open_on(Arc::new(disk.clone()), options()).unwrap();
    put(&database, "first", "1");
    disk.faults().bytes_left.store(0, Ordering::SeqCst);
    // Large values need side files or segments: growth, which the disk refuses.
    let mut refused = 0;
    let mut acknowledged = vec!["first".to_owned()];
    for number in 0..200 {
        let key = format!("{number:03}");
        let before = (database.visible_version(), database.stats().window_commits);
        let mut txn = database.begin().unwrap();
        txn.put(T, &key, vec![7; 64 << 10]).unwrap();
        match txn.commit() {
            Ok(_) => acknowledged.push(key),
            Err(error @ CommitError::OutOfSpace { .. }) => {
                refused += 1;
                assert!(error.is_retryable());
                assert_eq!(database.visible_version(), before.0, "its version was taken back");
                assert_eq!(database.stats().window_commits, before.1, "and its entry in the window");
                assert_eq!(get(&database, &key), None);
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "the disk never ran full");
    disk.faults().bytes_left.store(u64::MAX, Ordering::SeqCst);
    let mut resumed = None;
    for _ in 0..1_000 {
        let mut txn = database.begin().unwrap();
        txn.put(T, "resumed", b"1".as_slice()).unwrap();
        match txn.commit() {
            Ok(receipt) => {
                resumed = Some(receipt.version);
                break;
            }
            Err(CommitError::OutOfSpace { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged.push("resumed".to_owned());
    acknowledged.sort();
    let dense = Version::from_raw(u64::try_from(acknowledged.len()).unwrap());
    assert_eq!(resumed, Some(dense), "no number was lost with those refused");
    let versions: Vec<_> =
        database.commits().unwrap().map(|commit| commit.unwrap().version.sequence()).collect();
    assert!(versions.iter().copied().eq((1..=dense.sequence()).rev()));
    let found: Vec<_> = database
        .scan(T, ..)
        .unwrap()
        .map(|row| String::from_utf8(row.unwrap().0.to_vec()).unwrap())
        .collect();
    assert_eq!(found, acknowledged);
    assert!(database.check().unwrap().is_sound());
    database.close().unwrap();
    let again = open_on(Arc::new(disk), options()).unwrap();
    let found: Vec<_> =
        again.scan(T, ..).unwrap().map(|row| String::from_utf8(row.unwrap().0.to_vec()).unwrap()).collect();
    assert_eq!(found, acknowledged);
}

#[test]
fn many_writers_on_a_full_disk_leave_no_gap() {
    let (_memory, disk) = faulty();
    let database = open_on(Arc::new(disk.clone()), options()).unwrap();
    let acknowledged = Mutex::new(TEST_OUTER, Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (database, disk, acknowledged) = (&database, &disk, &acknowledged);
            scope.spawn(move || {
                for number in 0..40 {
                    if writer == 0 {
                        let left = if number % 8 < 4 { 0 } else { u64::MAX };
                        disk.faults().bytes_left.store(left, Ordering::SeqCst);
                    }
                    let key = format!("{writer}/{number:02}");
                    let mut txn = database.begin().unwrap();
                    txn.put(T, &key, vec![3; 40 << 10]).unwrap();
                    match txn.commit() {
                        Ok(receipt) => acknowledged.lock().push((receipt.version, key)),
                        Err(CommitError::OutOfSpace { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    disk.faults().bytes_left.store(u64::MAX, Ordering::SeqCst);
    let mut acknowledged = acknowledged.into_inner();
    acknowledged.sort();
    let versions: Vec<_> = acknowledged.iter().map(|(version, _)| version.sequence()).collect();
    assert!(versions.iter().copied().eq(1..=u64::try_from(versions.len()).unwrap()), "{versions:?}");
    for (version, key) in &acknowledged {
        assert_eq!(database.get_with_version(T, key).unwrap().unwrap().version, Some(*version));
    }
    assert_eq!(database.scan(T, ..).unwrap().count(), acknowledged.len());
    assert!(database.check().unwrap().is_sound());
}

#[test]
fn a_failed_sync_poisons_and_reopening_tells() {
    let (memory, disk) = faulty();
    let database = open_on(Arc::new(disk.clone()), options()).unwrap();
    put(&database, "kept", "1");
    let before = database.visible_version();
    disk.faults().failing_syncs.store(u64::MAX / 2, Ordering::SeqCst);
    let mut runs = 0;
    let failed = database.write(|txn| {
        runs += 1;
        txn.put(T, "unknown", b"1".as_slice())?;
        Ok::<_, WriteError>(())
    });
    let error = failed.unwrap_err();
    assert_eq!((error.kind().as_str(), error.is_retryable(), runs), ("commit-outcome-unknown", false, 1));
    disk.faults().failing_syncs.store(0, Ordering::SeqCst);
    let mut later = database.begin().unwrap();
    later.put(T, "later", b"1".as_slice()).unwrap();
    assert_eq!(kind(later.commit()), Err("poisoned"), "a sync that works again proves nothing");
    assert_eq!(database.visible_version(), before);
    assert_eq!(keys(&database, ..), ["kept"], "reading goes on");
    assert_eq!(keys(&database.snapshot_at(before).unwrap(), ..), ["kept"]);
    assert!(database.clone().close().is_err());
    drop(database);
    let again = open_on(Arc::new(memory), options()).unwrap();
    let found = keys(&again, ..);
    assert!(found == ["kept"] || found == ["kept", "unknown"], "{found:?}");
    put(&again, "later", "2");
    assert!(again.check().unwrap().is_sound());
}

#[test]
fn a_failed_sync_of_room_for_pages_refuses_the_commit_and_poisons() {
    let (memory, disk) = faulty();
    let database = open_on(Arc::new(disk.clone()), options()).unwrap();
    put(&database, "kept", "1");
    let before = database.visible_version();
    disk.faults().failing_syncs.store(u64::MAX / 2, Ordering::SeqCst);
    let large = |key: &str| {
        let mut txn = database.begin().unwrap();
        txn.put(T, key, vec![7; 4 << 20]).unwrap();
        txn.commit()
    };
    // Nothing of it went to the log, so it is known not to be there.
    assert_eq!(kind(large("refused")), Err("poisoned"));
    disk.faults().failing_syncs.store(0, Ordering::SeqCst);
    assert_eq!(kind(large("later")), Err("poisoned"), "a sync that works again proves nothing");
    assert_eq!(database.visible_version(), before);
    drop(database);
    let again = open_on(Arc::new(memory), options()).unwrap();
    assert_eq!(keys(&again, ..), ["kept"]);
    put(&again, "later", "2");
    assert!(again.check().unwrap().is_sound());
}
