//! Snapshot files on disks that fail: at each step old snapshots stay, and there is no half of a new one.

use std::path::Path;
use std::sync::Arc;

use keepstone_mvcc_temporal::{
    Database, DatabaseOptions, SnapshotFileError, SnapshotFolder, Tending, WriteError,
};
use keepstone_testkit::crash::World;
use keepstone_types::Clock;
use keepstone_types::ManualClock;
use keepstone_vfs::Vfs;
use keepstone_vfs::simulated::{Dice, FailedSync, Fault, SimulatedDisk, Tearing};

use crate::snapshot_files::{Content, FOLDER, content_of, small_chain};
use crate::support::DIR;

const TARGET: &str = "/restored";

fn store_options() -> DatabaseOptions {
    let options = DatabaseOptions::default().page_size(4_096);
    let log = options
        .log
        .clone()
        .tending(Tending::Caller)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(256 << 10);
    options.log(log)
}

fn open_at(world: &World, dir: &str) -> Result<Database, keepstone_mvcc_temporal::OpenError> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
    let options = store_options().existence(keepstone_mvcc_temporal::Existence::MustExist);
    Database::open_with(Arc::new(world.disk.clone()), clock, Path::new(dir), options)
}

fn open_folder(world: &World, length: u16) -> Result<SnapshotFolder, SnapshotFileError> {
    SnapshotFolder::open_with(Arc::new(world.disk.clone()), Path::new(FOLDER), length)
}

/// A store with three snapshots and a change since.
struct Scene {
    world: World,
    database: Database,
    folder: SnapshotFolder,
    made: Vec<(&'static str, Content)>,
}

/// Room for one more delta.
const LENGTH: u16 = 4;

fn scene() -> Scene {
    let world = World::of(SimulatedDisk::new(11));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&world.clock);
    let database =
        Database::open_with(Arc::new(world.disk.clone()), clock, Path::new(DIR), store_options()).unwrap();
    let folder = open_folder(&world, LENGTH).unwrap();
    let made = small_chain(&database, &folder);
    let put = |txn: &mut keepstone_mvcc_temporal::Txn| -> Result<(), WriteError> {
        Ok(txn.put("a", "short", vec![9; 90])?)
    };
    database.write(put).unwrap();
    Scene { world, database, folder, made }
}

/// A thing that is done to a folder.
type Step = fn(&Scene) -> Result<(), SnapshotFileError>;

const STEPS: [(&str, Step); 5] = [
    ("full", |scene| scene.folder.create_full(&scene.database, "new", None).map(drop)),
    ("delta", |scene| scene.folder.create_delta(&scene.database, "new", "second", None).map(drop)),
    ("consolidate", |scene| scene.folder.consolidate("first").map(drop)),
    ("prune", |scene| scene.folder.prune(|info| info.name == "second").map(drop)),
    ("restore", |scene| {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&scene.world.clock);
        scene.folder.restore_with("second", Path::new(TARGET), clock, store_options()).map(drop)
    }),
];

/// How many changes of the disk a step makes.
fn changes_of(step: Step) -> u64 {
    let scene = scene();
    let before = scene.world.disk.changes();
    step(&scene).unwrap();
    scene.world.disk.changes() - before
}

/// Every snapshot that must be there is, yields its rows, and nothing else is listed but a whole new one.
fn must_be_whole(folder: &SnapshotFolder, scene: &Scene, name: &str, context: &str) {
    for (made, content) in &scene.made {
        // Pruning may have come so far.
        if name == "prune" && *made != "second" && folder.info(made).is_err() {
            continue;
        }
        let rows: usize = content.values().map(std::collections::BTreeMap::len).sum();
        let report = folder.verify(made).unwrap_or_else(|error| panic!("{context}, {made}: {error}"));
        assert_eq!(report.rows, rows as u64, "{context}, {made}");
    }
    for entry in folder.list().unwrap() {
        let info = entry.info.unwrap_or_else(|error| panic!("{context}: {error}"));
        folder.verify(&info.name).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

fn must_be_a_whole_store_or_none(world: &World, scene: &Scene, context: &str) -> bool {
    match open_at(world, TARGET) {
        Ok(database) => {
            assert_eq!(content_of(&database), scene.made[2].1, "{context}");
            true
        }
        Err(error) => {
            assert!(matches!(error.kind().as_str(), "not-found" | "not-a-store"), "{context}: {error}");
            false
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_step_leaves_every_old_snapshot_and_no_half_of_a_new_one() {
    let mut tried = 0;
    for (name, step) in STEPS {
        let steps = changes_of(step);
        assert!(steps > 3, "{name}: {steps} changes");
        for at in 0..steps {
            let faults: [fn(u64) -> Fault; 3] = [
                Fault::FailWrite,
                |at| Fault::FailSync(at, FailedSync { reads_back: false }),
                Fault::PowerOff,
            ];
            for (number, fault) in faults.into_iter().enumerate() {
                let context = format!("{name}, change {at} of {steps}, fault {number}");
                let scene = scene();
                scene.world.disk.inject(fault(scene.world.disk.changes() + at));
                let done = step(&scene);
                scene.world.disk.heal();
                must_be_whole(&scene.folder, &scene, name, &context);
                if name == "restore" {
                    let is_there = must_be_a_whole_store_or_none(&scene.world, &scene, &context);
                    if !is_there {
                        step(&scene).unwrap_or_else(|error| panic!("{context}, again: {error}"));
                        assert!(must_be_a_whole_store_or_none(&scene.world, &scene, &context));
                    }
                } else if done.is_err() && scene.folder.info("new").is_ok() {
                    // Its name could neither be made durable nor taken back: it is there, whole, and counts.
                    assert_eq!((number, at), (2, steps - 1), "{context}");
                } else if done.is_err() {
                    // The place went back: there is room for exactly what there was room for before.
                    step(&scene).unwrap_or_else(|error| panic!("{context}, again: {error}"));
                    must_be_whole(&scene.folder, &scene, name, &context);
                }
                if name == "delta" {
                    let more =
                        scene.folder.create_delta(&scene.database, "more", "second", None).unwrap_err();
                    assert_eq!(more.kind().as_str(), "chain-too-long", "{context}");
                }
                tried += 1;
            }
        }
    }
    println!("{tried} faults");
}

#[test]
fn a_full_disk_leaves_nothing_of_a_new_snapshot() {
    let mut refused = 0;
    for left in (0..4_000).step_by(100) {
        let scene = scene();
        scene.world.disk.set_capacity(Some(scene.world.disk.used() + left));
        match scene.folder.create_delta(&scene.database, "new", "second", None) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind().as_str(), "out-of-space", "{error}");
                refused += 1;
            }
        }
        must_be_whole(&scene.folder, &scene, "delta", "a full disk");
        scene.world.disk.set_capacity(None);
        let names: Vec<_> =
            scene.world.disk.list(Path::new(FOLDER)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert!(!names.iter().any(|name| name.ends_with(".new")), "{names:?}");
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn power_lost_at_any_change_leaves_every_old_snapshot_and_no_half_of_a_new_one() {
    let mut images = 0;
    for (name, step) in STEPS {
        let steps = changes_of(step);
        for at in 0..=steps {
            for seed in 0..4 {
                let context = format!("{name}, power lost at change {at} of {steps}, image {seed}");
                let scene = scene();
                scene.world.disk.inject(Fault::PowerOff(scene.world.disk.changes() + at));
                let done = step(&scene);
                let mut dice = Dice::new(seed);
                let tearing = Tearing::any(&mut dice);
                let disk = if seed == 0 {
                    scene.world.disk.kill(seed)
                } else {
                    scene.world.disk.power_loss(tearing, &mut dice, seed)
                };
                let after = World::of(disk);
                let folder = open_folder(&after, LENGTH).unwrap_or_else(|error| panic!("{context}: {error}"));
                must_be_whole(&folder, &scene, name, &context);
                let names: Vec<_> =
                    after.disk.list(Path::new(FOLDER)).unwrap().into_iter().map(|entry| entry.name).collect();
                assert!(!names.iter().any(|name| name.ends_with(".new")), "{context}: {names:?}");
                if done.is_ok() && matches!(name, "full" | "delta") {
                    folder.verify("new").unwrap_or_else(|error| panic!("{context}: {error}"));
                }
                if name == "restore" {
                    let is_there = must_be_a_whole_store_or_none(&after, &scene, &context);
                    assert!(is_there || done.is_err(), "{context}");
                    if !is_there {
                        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&after.clock);
                        folder
                            .restore_with("second", Path::new(TARGET), clock, store_options())
                            .unwrap_or_else(|error| panic!("{context}, again: {error}"));
                        assert!(must_be_a_whole_store_or_none(&after, &scene, &context));
                    }
                }
                images += 1;
            }
        }
    }
    println!("{images} images");
}
