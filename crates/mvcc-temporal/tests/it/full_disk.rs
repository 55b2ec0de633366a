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

fn store_options() -> DatabaseOptions {
    let options = DatabaseOptions::default().page_size(4_096).retention(Retention::None);
    let log = options
        .log
        .clone()
        .tending(Tending::Caller)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(256 << 10);
    options.log(log).checkpoint(CheckpointOptions::default().slice_keys(50))
}

fn open(world: &World) -> Database {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
    Database::open_with(Arc::new(world.disk.clone()), clock, Path::new(DIR), store_options()).unwrap()
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
fn world() -> (World, Database) {
    let world = World::of(SimulatedDisk::new(7));
    let database = open(&world);
    fill(&database, 0);
    database.checkpoint().unwrap();
    fill(&database, 1);
    (world, database)
}

#[test]
fn a_disk_that_fills_up_at_any_step_of_a_checkpoint_loses_nothing() {
    let mut refused = 0;
    for left in (0..80).map(|pages| pages * 4_096) {
        let (world, database) = world();
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
    println!("{refused} checkpoints of 80 found no room");
}

#[test]
fn a_write_or_a_sync_that_fails_at_any_step_of_a_checkpoint_loses_nothing() {
    let steps = {
        let (world, database) = world();
        let before = world.disk.changes();
        database.checkpoint().unwrap();
        world.disk.changes() - before
    };
    assert!(steps > 10, "{steps} changes of the disk");
    for step in 0..steps {
        for fault in [|at| Fault::FailWrite(at), |at| Fault::FailSync(at, FailedSync { reads_back: false })] {
            let (world, database) = world();
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
    let (world, database) = world();
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
