//! A disk that is full, or fails, at every step of a checkpoint; and a store that can still be deleted from.

use std::path::Path;
use std::sync::Arc;

use keepstone_mvcc_temporal::{
    CheckpointError, CheckpointOptions, Database, DatabaseOptions, Isolation, Read, Retention, Tending,
    TxnOptions,
};
use keepstone_testkit::crash::World;
use keepstone_types::{Clock, ManualClock};
use keepstone_vfs::simulated::{FailedSync, Fault, SimulatedDisk};

use crate::support::{DIR, T, kind};

const ROWS: u32 = 120;
/// Commits after which a disk that is nearly full is full enough.
const COMMITS_ON_A_FULL_DISK: u32 = 400;

/// Every test runs with parity and without.
const PARITY: [bool; 2] = [false, true];

fn store_options(parity: bool) -> DatabaseOptions {
    let options = DatabaseOptions::default().page_size(4_096).retention(Retention::None).parity(parity);
    let log = options
        .log
        .clone()
        .tending(Tending::Caller)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(256 << 10);
    options.log(log).checkpoint(CheckpointOptions::default().slice_keys(50))
}

fn open(world: &World) -> Database {
    open_with(world, true)
}

/// `parity` is for a store that is new.
fn open_with(world: &World, parity: bool) -> Database {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
    Database::open_with(Arc::new(world.disk.clone()), clock, Path::new(DIR), store_options(parity)).unwrap()
}

fn fill(database: &Database, round: u32) {
    let mut txn = database.begin_with(TxnOptions::default().isolation(Isolation::ReadCommitted)).unwrap();
    for number in 0..ROWS {
        txn.put(T, format!("{number:04}"), vec![round as u8; 100]).unwrap();
    }
    txn.commit().unwrap();
}

fn reads(database: &Database, round: u32) {
    let rows: Vec<_> = database.scan(T, ..).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), ROWS as usize);
    assert!(rows.iter().all(|(_, value)| value[..] == [round as u8; 100]));
}

/// A store with a round folded and another that waits.
fn world(parity: bool) -> (World, Database) {
    let world = World::of(SimulatedDisk::new(7));
    let database = open_with(&world, parity);
    fill(&database, 0);
    database.checkpoint().unwrap();
    fill(&database, 1);
    (world, database)
}

#[test]
fn a_disk_that_fills_up_at_any_step_of_a_checkpoint_loses_nothing() {
    let mut refused = 0;
    let cases = PARITY.into_iter().flat_map(|parity| (0..80).map(move |pages| (parity, pages * 4_096)));
    for (parity, left) in cases {
        let (world, database) = world(parity);
        world.disk.set_capacity(Some(world.disk.used() + left));
        match database.checkpoint() {
            Ok(()) => {}
            Err(error @ (CheckpointError::OutOfSpace { .. } | CheckpointError::Log { .. })) => {
                refused += 1;
                assert!(error.to_string().contains("space") || error.to_string().contains("full"), "{error}");
            }
            Err(error) => panic!("{left} bytes left: {error}"),
        }
        reads(&database, 1);
        world.disk.set_capacity(None);
        database.checkpoint().unwrap();
        reads(&database, 1);
        assert!(database.check().unwrap().is_sound(), "{left} bytes left");
        drop(database);
        let database = open(&world);
        reads(&database, 1);
        assert!(database.check().unwrap().is_sound(), "{left} bytes left, opened again");
    }
    println!("{refused} checkpoints of 160 found no room");
}

#[test]
fn a_write_or_a_sync_that_fails_at_any_step_of_a_checkpoint_loses_nothing() {
    PARITY.into_iter().for_each(fails_at_any_step);
}

fn fails_at_any_step(parity: bool) {
    let steps = {
        let (world, database) = world(parity);
        let before = world.disk.changes();
        database.checkpoint().unwrap();
        world.disk.changes() - before
    };
    assert!(steps > 10, "{steps} changes of the disk");
    for step in 0..steps {
        for fault in [|at| Fault::FailWrite(at), |at| Fault::FailSync(at, FailedSync { reads_back: false })] {
            let (world, database) = world(parity);
            world.disk.inject(fault(world.disk.changes() + step));
            let done = database.checkpoint();
            reads(&database, 1);
            world.disk.heal();
            drop(database);
            let database = open(&world);
            reads(&database, 1);
            database.checkpoint().unwrap();
            reads(&database, 1);
            let report = database.check().unwrap();
            assert!(report.is_sound(), "step {step}, {done:?}: {:#?}", report.findings);
        }
    }
}

/// Rows are written until the disk is full. Then the store is folded into what was kept, rows are deleted, and the file
/// becomes shorter.
#[test]
fn a_full_store_can_be_deleted_from_and_shrinks() {
    PARITY.into_iter().for_each(fills_and_shrinks);
}

fn fills_and_shrinks(parity: bool) {
    let (world, database) = world(parity);
    world.disk.set_capacity(Some(world.disk.used() + (12 << 20)));
    let mut written = 0_u32;
    let refused = loop {
        let mut txn = database.begin().unwrap();
        txn.put(T, format!("more {written:06}"), vec![9; 2_000]).unwrap();
        match txn.commit() {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        if written.is_multiple_of(300) {
            database.checkpoint().unwrap();
        }
        assert!(written < 100_000, "the disk never fills");
    };
    assert_eq!(refused.kind().as_str(), "out-of-space", "{refused}");
    assert!(written > 300, "{written}");
    database.checkpoint().unwrap();
    database.tend();
    for from in (0..written).step_by(50) {
        let mut txn = database.begin().unwrap();
        for number in from..(from + 50).min(written) {
            txn.delete(T, format!("more {number:06}")).unwrap();
        }
        assert_eq!(kind(txn.commit()), Ok(()), "deleting works on a full disk");
        database.tend();
    }
    let full = world.disk.used();
    let report = database.compact().unwrap();
    assert!(report.bytes_after * 2 < report.bytes_before, "{report:?}");
    assert!(world.disk.used() < full, "{} of {full} bytes", world.disk.used());
    reads(&database, 1);
    assert!(database.check().unwrap().is_sound());
}

/// Neighbouring rows are changed, here and there, until the disk refuses; then, as often as it is asked, what was accepted is
/// folded: commits are refused before a checkpoint can fail for room.
#[test]
fn what_a_full_disk_accepted_is_folded_whatever_it_changes() {
    for (parity, seed) in PARITY.into_iter().flat_map(|parity| (0..3_u32).map(move |seed| (parity, seed))) {
        let (world, database) = world(parity);
        let key = |number: u32| format!("{number:06}");
        for from in (0..4_000).step_by(200) {
            let mut txn = database.begin().unwrap();
            (from..from + 200).for_each(|number| txn.put(T, key(number), vec![0; 400]).unwrap());
            txn.commit().unwrap();
        }
        database.checkpoint().unwrap();
        world.disk.set_capacity(Some(world.disk.used() + (u64::from(seed) << 17) + (256 << 10)));
        let (mut refused, mut accepted, mut at) = (0, 0, seed);
        while refused < 12 {
            let mut txn = database.begin().unwrap();
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let first = (at >> 8) % 3_960;
            (first..first + 40).for_each(|number| txn.put(T, key(number), vec![at as u8; 400]).unwrap());
            match txn.commit() {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert_eq!(error.kind().as_str(), "out-of-space", "{error}");
                    refused += 1;
                    // The log's own small files may find no room; pages must.
                    match database.checkpoint() {
                        Ok(()) | Err(CheckpointError::Log { .. }) => {}
                        Err(error) => panic!(
                            "parity {parity}, seed {seed}, {accepted} commits: {error}; {:?}",
                            database.stats().pages
                        ),
                    }
                    database.tend();
                }
            }
            if accepted == COMMITS_ON_A_FULL_DISK {
                break;
            }
        }
        println!("parity {parity}, seed {seed}: {accepted} commits, {refused} refused");
        assert!(database.check().unwrap().is_sound());
    }
}
