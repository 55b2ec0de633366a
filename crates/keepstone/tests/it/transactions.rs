//! Transactions: own writes, isolation, retries, half-done changes, closing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use keepstone::{
    Access, ChangeError, CloseError, CommitError, Direction, Durability, Isolation, MemoryVfs, NodePatch,
    ReadError, StoreOptions, SystemClock, TxnOptions, WriteError,
};
use keepstone_testkit::fault_disk::FaultDisk;

use crate::{Disk, assert_sound, store};

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "old", &1)).unwrap();
    let mut txn = store.begin().unwrap();
    nodes.put_node(&mut txn, "new", &NodePatch::body(2).embedding([1.0])).unwrap();
    nodes.link(&mut txn, "new", "v", "old", 1.0).unwrap();
    nodes.delete(&mut txn, "old").unwrap();
    nodes.link(&mut txn, "new", "w", "other", 1.0).unwrap();
    assert_eq!(nodes.get(&txn, "new").unwrap(), Some(2));
    assert_eq!(nodes.embedding(&txn, "new").unwrap(), Some(vec![1.0]));
    assert_eq!(nodes.keys(&txn).map(Result::unwrap).collect::<Vec<_>>(), ["new"]);
    let links: Vec<_> = nodes.links(&txn, "new", Direction::Out).map(|link| link.unwrap().verb).collect();
    assert_eq!(links, ["w"]);
    assert_eq!(nodes.keys(&store).map(Result::unwrap).collect::<Vec<_>>(), ["old"]);
    // What an iterator of a transaction shows was read when it was made; the transaction goes on.
    let before = nodes.iter(&txn);
    nodes.put(&mut txn, "third", &3).unwrap();
    assert_eq!((before.count(), nodes.iter(&txn).count()), (1, 2));
    txn.rollback();
    assert_eq!(nodes.keys(&store).map(Result::unwrap).collect::<Vec<_>>(), ["old"]);
    assert_sound(&store);
}

#[test]
fn sixteen_threads_count_exactly() {
    let store = store();
    let counters = store.collection::<u64>("counters").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let add = |txn: &mut keepstone::Txn| {
                        let before = counters.get(txn, "hits")?.unwrap_or(0);
                        counters.put(txn, "hits", &(before + 1))
                    };
                    store.write(add).unwrap();
                }
            });
        }
    });
    assert_eq!(counters.get(&store, "hits").unwrap(), Some(400));
    assert_eq!(store.stats().transactions_open, 0);
}

/// Two doctors, at least one on call: each goes off call when the other is on.
fn write_skew(isolation: Isolation) -> (u32, Option<CommitError>) {
    let store = store();
    let on_call = store.collection::<bool>("on call").unwrap();
    store
        .write(|txn| {
            on_call.put(txn, "ada", &true)?;
            on_call.put(txn, "bob", &true)
        })
        .unwrap();
    let options = TxnOptions::new().isolation(isolation);
    let (mut first, mut second) = (store.begin_with(options).unwrap(), store.begin_with(options).unwrap());
    assert_eq!(on_call.get(&first, "bob").unwrap(), Some(true));
    on_call.put(&mut first, "ada", &false).unwrap();
    assert_eq!(on_call.get(&second, "ada").unwrap(), Some(true));
    on_call.put(&mut second, "bob", &false).unwrap();
    first.commit().unwrap();
    let error = second.commit().err();
    let on = on_call.iter(&store).filter(|node| node.as_ref().unwrap().body == Some(true)).count();
    (u32::try_from(on).unwrap(), error)
}

#[test]
fn write_skew_is_possible_at_snapshot_and_a_conflict_at_serializable() {
    assert!(matches!(write_skew(Isolation::Snapshot), (0, None)));
    let (on, error) = write_skew(Isolation::Serializable);
    let error = error.unwrap();
    assert!(on == 1 && matches!(error, CommitError::Conflict { .. }) && error.is_retryable(), "{error}");
    assert_eq!(error.kind().as_str(), "conflict");
    assert!(error.to_string().contains("which changed \"ada\" (nodes)"), "{error}");
}

#[test]
fn creating_the_same_key_twice_is_a_conflict_at_both_levels() {
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        let store = store();
        let nodes = store.collection::<u8>("nodes").unwrap();
        let options = TxnOptions::new().isolation(isolation);
        let (mut first, mut second) =
            (store.begin_with(options).unwrap(), store.begin_with(options).unwrap());
        nodes.put(&mut first, "k", &1).unwrap();
        nodes.put(&mut second, "k", &2).unwrap();
        first.commit().unwrap();
        assert!(matches!(second.commit().unwrap_err(), CommitError::Conflict { .. }));
        assert_sound(&store);
    }
}

#[test]
fn write_runs_again_after_a_conflict_and_only_then() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let runs = AtomicU32::new(0);
    let committed = store.write(|txn| {
        let seen = nodes.get(txn, "k")?.unwrap_or(0);
        if runs.fetch_add(1, Ordering::Relaxed) < 3 {
            store.write(|other| nodes.put(other, "k", &(seen + 10))).unwrap();
        }
        nodes.put(txn, "k", &(seen + 1))
    });
    assert!(committed.unwrap().version.is_some());
    assert_eq!((runs.load(Ordering::Relaxed), nodes.get(&store, "k").unwrap()), (4, Some(31)));
    let stats = store.stats();
    assert_eq!((stats.conflicts, stats.retries), (3, 3));

    runs.store(0, Ordering::Relaxed);
    let refused = store.try_write::<(), _>(TxnOptions::new(), |txn| {
        runs.fetch_add(1, Ordering::Relaxed);
        nodes.put(txn, "k", &0)?;
        Err(WriteError::Caller("no"))
    });
    assert!(matches!(refused, Err(WriteError::Caller("no"))));
    assert_eq!((runs.load(Ordering::Relaxed), nodes.get(&store, "k").unwrap()), (1, Some(31)));
}

#[test]
fn write_takes_its_options() {
    let store = store();
    let nodes = store.collection::<u8>("nodes").unwrap();
    let options = TxnOptions::new().isolation(Isolation::Snapshot).durability(Durability::Full);
    let committed = store.try_write::<_, ()>(options, |txn| {
        assert!(format!("{txn:?}").contains("Snapshot"));
        Ok(nodes.put(txn, "k", &1)?)
    });
    assert!(committed.unwrap().version.is_some());
    let read_only = store.write(|txn| Ok(nodes.get(txn, "k")?)).unwrap();
    assert_eq!((read_only.value, read_only.version), (Some(1), None));
    // The transactions that the layer below lends are not counted.
    let stats = store.stats();
    assert_eq!((stats.transactions_begun, stats.transactions_rolled_back, stats.commits), (2, 0, 1));
}

#[test]
fn a_transaction_with_half_a_change_cannot_commit() {
    let mut incomplete = 0;
    // A change writes several rows; which of them is the first too many depends on the length of all before.
    for len in 100..120 {
        let disk = FaultDisk::new(Arc::new(MemoryVfs::new()));
        let options = StoreOptions::new().transaction_memory_bytes(64 << 10);
        let (vfs, clock) = (Arc::new(disk.clone()), Arc::new(SystemClock::default()));
        let store = options.open_with(vfs, clock, Path::new("/store")).unwrap();
        let nodes = store.collection::<Vec<u8>>("nodes").unwrap();
        let mut txn = store.begin().unwrap();
        // What is too much for memory has no room on the disk.
        disk.faults().bytes_left.store(0, Ordering::Relaxed);
        let put = |number: usize| nodes.put(&mut txn, &format!("k{number:03}"), &vec![7; len]).err();
        let (whole, refused) =
            (0..500).map(put).enumerate().find_map(|(at, error)| Some((at, error?))).unwrap();
        assert!(matches!(refused, ChangeError::Commit(CommitError::OutOfSpace { .. })), "{refused:?}");
        disk.faults().bytes_left.store(u64::MAX, Ordering::Relaxed);
        match txn.commit() {
            Ok(_) => assert_eq!(nodes.keys(&store).count(), whole, "nothing of the last was written"),
            Err(error) => {
                assert!(matches!(error, CommitError::Incomplete), "{error}");
                assert!(nodes.is_empty(&store).unwrap());
                incomplete += 1;
            }
        }
        assert_sound(&store);
    }
    assert!(incomplete > 0, "all of them failed before their first row");
}

#[test]
fn submitted_commits_are_waited_for() {
    let store = store();
    let nodes = store.collection::<u32>("nodes").unwrap();
    let pending: Vec<_> = (0..20_u32)
        .map(|number| {
            let options = TxnOptions::new().isolation(Isolation::Snapshot);
            let mut txn = store.begin_with(options).unwrap();
            if number == 0 {
                nodes.put(&mut txn, "k", &0).unwrap();
                let receipt = txn.submit().unwrap().wait().unwrap();
                return Err(receipt.version.unwrap());
            }
            nodes.put(&mut txn, &format!("k{number}"), &number).unwrap();
            Ok(txn.submit().unwrap())
        })
        .collect();
    let versions: Vec<_> = pending
        .into_iter()
        .map(|pending| {
            pending.map_or_else(|version| version, |pending| pending.wait().unwrap().version.unwrap())
        })
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(nodes.len(&store).unwrap(), 20);
}

#[test]
fn closing_ends_every_handle_and_the_store_can_be_opened_again() {
    let disk = Disk::new();
    let store = disk.open();
    let nodes = store.collection::<u8>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    let (other, snapshot) = (store.clone(), store.snapshot().unwrap());
    let mut txn = store.begin().unwrap();
    let mut iterator = nodes.iter(&store);
    store.close().unwrap();
    assert!(matches!(other.clone().close().unwrap_err(), CloseError::AlreadyClosed));
    assert!(matches!(nodes.get(&snapshot, "k").unwrap_err(), ReadError::Closed));
    assert!(matches!(nodes.get(&other, "k").unwrap_err(), ReadError::Closed));
    assert!(matches!(iterator.next().unwrap().unwrap_err(), ReadError::Closed));
    assert!(iterator.next().is_none());
    assert!(nodes.put(&mut txn, "k", &2).is_err());
    assert!(matches!(other.write(|txn| nodes.put(txn, "k", &2)).unwrap_err().kind().as_str(), "closed"));
    let again = disk.open();
    assert!(again.recovery().clean);
    assert_eq!(again.collection::<u8>("nodes").unwrap().get(&again, "k").unwrap(), Some(1));
}

#[test]
fn a_read_only_store_reads_and_refuses_to_write() {
    let disk = Disk::new();
    let store = disk.open();
    let nodes = store.collection::<u8>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "k", &1)).unwrap();
    store.close().unwrap();
    let store = disk.open_as(&StoreOptions::new().access(Access::ReadOnly)).unwrap();
    assert!(store.is_read_only());
    let nodes = store.collection::<u8>("nodes").unwrap();
    let missing = store.collection::<u8>("missing").unwrap();
    assert_eq!((nodes.get(&store, "k").unwrap(), missing.get(&store, "k").unwrap()), (Some(1), None));
    let error = store.write(|txn| nodes.put(txn, "k", &2)).unwrap_err();
    assert_eq!(error.kind().as_str(), "read-only", "{error}");
    let writer = disk.open();
    let other = disk.open_as(&StoreOptions::new().access(Access::WriteIfFree)).unwrap();
    assert!(!writer.is_read_only() && other.is_read_only());
}
