//! Snapshot files: what goes in comes out, chains stay whole, and what is damaged or foreign is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use keepstone_mvcc_temporal::{
    Database, DatabaseOptions, Read, Retention, SnapshotFileError, SnapshotFolder, WriteError,
};
use keepstone_types::{Clock, ManualClock, Timestamp, Version};
use keepstone_vfs::simulated::Dice;
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

use crate::support::{MemoryStore, options};

pub(crate) const FOLDER: &str = "/snapshots";

/// Tables, their keys and values.
pub(crate) type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub(crate) fn content_of(reader: &impl Read) -> Content {
    let tables = reader.tables().unwrap().into_iter();
    tables
        .map(|table| {
            let rows = reader.scan(&table, ..).unwrap().map(Result::unwrap);
            (table.to_string(), rows.map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
        })
        .collect()
}

pub(crate) fn folder(vfs: &MemoryVfs) -> SnapshotFolder {
    SnapshotFolder::open_with(Arc::new(vfs.clone()), Path::new(FOLDER), SnapshotFolder::CHAIN_LENGTH).unwrap()
}

fn kind<T>(result: Result<T, SnapshotFileError>) -> Result<T, &'static str> {
    result.map_err(|error| {
        assert!(error.to_string().len() > 20, "{error}");
        error.kind().as_str()
    })
}

/// What a snapshot yields in a store of its own, read after that store was opened anew.
fn restored(folder: &SnapshotFolder, name: &str) -> Content {
    let vfs = match folder.dir().to_str() {
        Some(_) => VFS.with(|vfs| vfs.borrow().clone()),
        None => unreachable!(),
    };
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let dir = format!("/restored{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_micros(5)));
    let report = folder.restore_with(name, Path::new(&dir), Arc::clone(&clock), options()).unwrap();
    let database = Database::open_with(Arc::new(vfs), clock, Path::new(&dir), options()).unwrap();
    assert!(database.check().unwrap().is_sound());
    assert_eq!((database.store_id(), database.visible_version()), (report.store_id, report.version));
    let content = content_of(&database);
    assert_eq!(report.rows, content.values().map(|rows| rows.len() as u64).sum::<u64>());
    content
}

thread_local! {
    static VFS: std::cell::RefCell<MemoryVfs> = std::cell::RefCell::new(MemoryVfs::new());
}

fn store() -> MemoryStore {
    let store = MemoryStore::new();
    VFS.with(|vfs| *vfs.borrow_mut() = store.vfs.clone());
    store
}

/// One commit of a few random changes.
fn change(database: &Database, dice: &mut Dice) {
    database
        .write(|txn| -> Result<(), WriteError> {
            for _ in 0..=dice.draw() % 6 {
                let table = ["alpha", "beta", "gamma"][(dice.draw() % 3) as usize];
                let key = vec![b'a' + (dice.draw() % 12) as u8; (dice.draw() % 3) as usize + 1];
                match dice.draw() % 5 {
                    0 => txn.delete(table, &key)?,
                    1 => {
                        let old = txn.get(table, &key)?.map(|value| value.to_vec()).unwrap_or_default();
                        let mut value = old;
                        value.resize(200, 7);
                        value[(dice.draw() % 200) as usize] ^= 1;
                        txn.put(table, &key, value)?;
                    }
                    _ => {
                        let len = (dice.draw() % 300) as usize;
                        let value: Vec<u8> = (0..len).map(|_| dice.draw() as u8).collect();
                        txn.put(table, &key, value)?;
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_programs_restore_as_a_model_says() {
    let (mut restores, mut deltas) = (0, 0);
    for seed in 0..40 {
        let (store, mut dice) = (store(), Dice::new(seed));
        // In every other program the parents' versions are gone.
        let retention = if seed % 2 == 0 { Retention::Forever } else { Retention::None };
        let database = store.open_with(options().retention(retention)).unwrap();
        let folder = folder(&store.vfs);
        let mut made: BTreeMap<String, Content> = BTreeMap::new();
        for step in 0..25 {
            for _ in 0..dice.draw() % 4 {
                change(&database, &mut dice);
            }
            if dice.draw() % 4 == 0 {
                database.checkpoint().unwrap();
            }
            let name = format!("snapshot {step}");
            let parents: Vec<_> = made.keys().cloned().collect();
            let parent = parents.get((dice.draw() % 8) as usize);
            match dice.draw() % 6 {
                0 if !parents.is_empty() => {
                    let at = (dice.draw() % parents.len() as u64) as usize;
                    let info = folder.consolidate(&parents[at]).unwrap();
                    assert_eq!(info.parent, None);
                }
                1 if parents.len() > 3 => {
                    let kept: Vec<_> = parents.iter().filter(|_| dice.draw() % 2 == 0).cloned().collect();
                    let report = folder.prune(|info| kept.contains(&info.name)).unwrap();
                    assert_eq!(report.removed.len(), parents.len() - kept.len());
                    made.retain(|name, _| kept.contains(name));
                }
                _ => {
                    let info = match parent {
                        Some(parent) => folder.create_delta(&database, &name, parent, None),
                        None => folder.create_full(&database, &name, None),
                    };
                    let info = info.unwrap();
                    deltas += usize::from(info.parent.is_some());
                    assert_eq!(info.version, database.visible_version());
                    made.insert(name, content_of(&database));
                }
            }
            let listed: Vec<_> =
                folder.list().unwrap().into_iter().map(|entry| entry.info.unwrap().name).collect();
            assert_eq!(listed, made.keys().cloned().collect::<Vec<_>>());
        }
        for (name, content) in &made {
            let rows: usize = content.values().map(BTreeMap::len).sum();
            assert_eq!(folder.verify(name).unwrap().rows, rows as u64, "seed {seed}, {name}");
            assert_eq!(restored(&folder, name), *content, "seed {seed}, {name}");
            restores += 1;
        }
    }
    assert!(restores > 200 && deltas > 200, "{restores} restored, {deltas} deltas");
    println!("{restores} snapshots restored, {deltas} deltas made");
}

/// A full snapshot and two deltas, with values short and long, coded and plain, and a table that is empty.
pub(crate) fn small_chain(database: &Database, folder: &SnapshotFolder) -> Vec<(&'static str, Content)> {
    let mut made = Vec::new();
    let put = |table: &str, key: &str, value: Vec<u8>| {
        database.write(|txn| -> Result<(), WriteError> { Ok(txn.put(table, key, value.clone())?) }).unwrap();
    };
    put("a", "short", vec![1]);
    put("a", "text", b"many words of a text, ".repeat(20));
    put("b", "gone", vec![2; 40]);
    folder.create_full(database, "full", None).unwrap();
    made.push(("full", content_of(database)));
    put("a", "text", b"many words of a test, ".repeat(20));
    database.write(|txn| -> Result<(), WriteError> { Ok(txn.delete("b", "gone")?) }).unwrap();
    folder.create_delta(database, "first", "full", None).unwrap();
    made.push(("first", content_of(database)));
    put("c", "new", (0..=255).collect());
    put("a", "text", b"many words of a last, ".repeat(20));
    folder.create_delta(database, "second", "first", None).unwrap();
    made.push(("second", content_of(database)));
    made
}

fn rewrite(vfs: &MemoryVfs, path: &Path, bytes: &[u8]) {
    vfs.remove(path).unwrap();
    vfs.open(path, OpenOptions::CREATE_NEW).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_chain_is_found() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    small_chain(&database, &folder);
    let mut tried = 0;
    for name in ["full", "first", "second"] {
        let path = folder.dir().join(format!("{name}.keep-snapshot"));
        let good = store.vfs.read_file(&path, 1 << 20).unwrap();
        for at in 0..good.len() {
            for mask in [1, 0x80, 0xFF] {
                let mut bad = good.clone();
                bad[at] ^= mask;
                rewrite(&store.vfs, &path, &bad);
                let error = folder.verify("second").expect_err("a flip went unnoticed");
                assert!(
                    matches!(error.kind().as_str(), "damaged" | "newer-format"),
                    "{name}, byte {at}: {error}"
                );
                assert!(error.to_string().contains("keep-snapshot"), "{error}");
                tried += 1;
            }
            rewrite(&store.vfs, &path, &good[..at]);
            assert_eq!(kind(folder.verify("second")).unwrap_err(), "damaged", "{name}, cut to {at}");
            tried += 1;
        }
        let mut longer = good.clone();
        longer.push(0);
        rewrite(&store.vfs, &path, &longer);
        assert_eq!(kind(folder.verify("second")).unwrap_err(), "damaged");
        rewrite(&store.vfs, &path, &good);
    }
    folder.verify("second").unwrap();
    assert_eq!(
        tried,
        4 * folder
            .list()
            .unwrap()
            .iter()
            .map(|entry| entry.info.as_ref().unwrap().bytes as usize)
            .sum::<usize>()
    );
    println!("{tried} flips and cuts were found");
}

#[test]
fn nothing_is_restored_from_what_is_damaged_and_no_store_is_left() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    small_chain(&database, &folder);
    let path = folder.dir().join("first.keep-snapshot");
    let good = store.vfs.read_file(&path, 1 << 20).unwrap();
    let mut bad = good.clone();
    bad[700] ^= 4;
    rewrite(&store.vfs, &path, &bad);
    let target = Path::new("/target");
    assert_eq!(kind(folder.restore("second", target, options())).unwrap_err(), "damaged");
    assert!(!store.vfs.exists(target).unwrap(), "nothing was begun");
    rewrite(&store.vfs, &path, &good);
    folder.restore("second", target, options()).unwrap();
    assert_eq!(kind(folder.restore("full", target, options())).unwrap_err(), "already-exists");
    store.vfs.create_dir(Path::new("/other")).unwrap();
    store.vfs.open(Path::new("/other/file"), OpenOptions::CREATE_NEW).unwrap();
    assert_eq!(kind(folder.restore("full", "/other", options())).unwrap_err(), "not-a-store");
}

#[test]
fn foreign_and_swapped_parents_are_found() {
    let (store, other) = (store(), MemoryStore::new());
    let (database, folder_here) = (store.open(), folder(&store.vfs));
    small_chain(&database, &folder_here);
    let (other_database, folder_there) = (other.open(), folder(&other.vfs));
    small_chain(&other_database, &folder_there);
    let path = |name: &str| folder_here.dir().join(format!("{name}.keep-snapshot"));
    let (ours, theirs) = (
        |name: &str| store.vfs.read_file(&path(name), 1 << 20).unwrap(),
        |name: &str| other.vfs.read_file(&path(name), 1 << 20).unwrap(),
    );
    let (full, first) = (ours("full"), ours("first"));

    rewrite(&store.vfs, &path("full"), &theirs("full"));
    assert_eq!(kind(folder_here.verify("second")).unwrap_err(), "wrong-parent");
    rewrite(&store.vfs, &path("full"), &first);
    assert_eq!(kind(folder_here.verify("second")).unwrap_err(), "damaged", "the name within is another");
    store.vfs.remove(&path("full")).unwrap();
    assert_eq!(kind(folder_here.verify("second")).unwrap_err(), "parent-not-found");
    // Another snapshot under the parent's name.
    let spare = SnapshotFolder::open_with(Arc::new(store.vfs.clone()), Path::new("/spare"), 17).unwrap();
    spare.create_full(&database, "full", None).unwrap();
    let spared = store.vfs.read_file(Path::new("/spare/full.keep-snapshot"), 1 << 20).unwrap();
    store.vfs.open(&path("full"), OpenOptions::CREATE_NEW).unwrap().write_all_at(&spared, 0).unwrap();
    assert_eq!(kind(folder_here.verify("second")).unwrap_err(), "wrong-parent");
    rewrite(&store.vfs, &path("full"), &full);
    folder_here.verify("second").unwrap();

    // A store may not go on from another's snapshot, nor from a newer one.
    let error = folder_here.create_delta(&other_database, "theirs", "second", None);
    assert_eq!(kind(error).unwrap_err(), "wrong-parent");
    let older = folder_here.create_delta(&database, "older", "second", Some(Version::from_raw(2)));
    assert_eq!(kind(older).unwrap_err(), "wrong-parent");
    assert_eq!(
        kind(folder_here.create_delta(&database, "x", "nobody", None)).unwrap_err(),
        "parent-not-found"
    );
}

/// Two copies of a store's folder have the same id and count on alike: only time tells their versions apart.
#[test]
fn a_copy_of_the_store_that_went_another_way_is_told_apart() {
    let store = store();
    let database = store.open();
    database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("t", "k", vec![1; 50])?) }).unwrap();
    database.close().unwrap();
    let copy = store.killed();
    let (one, two) = (store.open(), copy.open());

    for (database, later) in [(&one, 10), (&two, 20)] {
        store.clock.advance(Duration::from_micros(later));
        database
            .write(|txn| -> Result<(), WriteError> { Ok(txn.put("t", "k", vec![later as u8; 50])?) })
            .unwrap();
    }
    let folder = folder(&store.vfs);
    folder.create_full(&one, "one", None).unwrap();
    assert_eq!(kind(folder.create_delta(&two, "two", "one", None)).unwrap_err(), "wrong-parent");
}

#[test]
fn a_chain_is_copied_away_and_restored_there() {
    let store = store();
    let (database, folder_here) = (store.open(), folder(&store.vfs));
    let made = small_chain(&database, &folder_here);
    let elsewhere = MemoryVfs::new();
    elsewhere.create_dir(Path::new("/copy")).unwrap();
    for entry in store.vfs.list(folder_here.dir()).unwrap() {
        let bytes = store.vfs.read_file(&folder_here.dir().join(&entry.name), 1 << 20).unwrap();
        let to = Path::new("/copy").join(&entry.name);
        elsewhere.open(&to, OpenOptions::CREATE_NEW).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    VFS.with(|vfs| *vfs.borrow_mut() = elsewhere.clone());
    let there = SnapshotFolder::open_to_read_with(Arc::new(elsewhere), Path::new("/copy"));
    for (name, content) in made {
        assert_eq!(restored(&there, name), content, "{name}");
    }
    assert_eq!(kind(there.create_full(&database, "x", None)).unwrap_err(), "read-only");
}

#[test]
fn an_empty_store_and_an_empty_table_come_back() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    folder.create_full(&database, "nothing", None).unwrap();
    assert_eq!(restored(&folder, "nothing"), Content::new());
    database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("t", "k", vec![1; 50])?) }).unwrap();
    database.write(|txn| -> Result<(), WriteError> { Ok(txn.delete("t", "k")?) }).unwrap();
    folder.create_delta(&database, "empty", "nothing", None).unwrap();
    assert_eq!(restored(&folder, "empty"), Content::from([("t".to_owned(), BTreeMap::new())]));
}

#[test]
fn large_values_span_blocks_and_deltas_of_them_are_small() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    let mut dice = Dice::new(3);
    let mut value: Vec<u8> = (0..3 << 20).map(|_| dice.draw() as u8).collect();
    let put = |value: &[u8]| {
        database
            .write(|txn| -> Result<(), WriteError> { Ok(txn.put("t", "large", value.to_vec())?) })
            .unwrap();
    };
    put(&value);
    let full = folder.create_full(&database, "full", None).unwrap();
    value[1 << 20] ^= 1;
    put(&value);
    let delta = folder.create_delta(&database, "delta", "full", None).unwrap();
    assert!(full.bytes > 3 << 20 && delta.bytes < 1_000, "{} {}", full.bytes, delta.bytes);
    assert_eq!(restored(&folder, "delta"), content_of(&database));
}

#[test]
fn names_are_taken_once_and_the_folder_is_locked() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    folder.create_full(&database, "Monday", None).unwrap();
    for name in ["Monday", "monday"] {
        assert_eq!(kind(folder.create_full(&database, name, None)).unwrap_err(), "name-taken");
    }
    assert_eq!(kind(folder.create_full(&database, "", None)).unwrap_err(), "snapshot-name");
    assert_eq!(kind(folder.verify("nobody")).unwrap_err(), "snapshot-not-found");
    let again = SnapshotFolder::open_with(Arc::new(store.vfs.clone()), Path::new(FOLDER), 17);
    assert_eq!(kind(again.map(drop)).unwrap_err(), "locked");
}

#[test]
fn a_limit_holds_over_reopening_and_consolidation_makes_room() {
    let store = store();
    let database = store.open();
    let open =
        |length| SnapshotFolder::open_with(Arc::new(store.vfs.clone()), Path::new(FOLDER), length).unwrap();
    let folder = open(3);
    folder.create_full(&database, "0", None).unwrap();
    folder.create_delta(&database, "1", "0", None).unwrap();
    folder.create_delta(&database, "2", "1", None).unwrap();
    drop(folder);
    for length in [3, 2] {
        let folder = open(length);
        match folder.create_delta(&database, "3", "2", None).unwrap_err() {
            SnapshotFileError::ChainTooLong { length: 4, max } => assert_eq!(max, usize::from(length)),
            other => panic!("{other}"),
        }
    }
    let folder = open(3);
    assert_eq!(folder.consolidate("1").unwrap().parent, None);
    folder.create_delta(&database, "3", "2", None).unwrap();
    assert_eq!(kind(folder.create_delta(&database, "4", "2", None)).unwrap_err(), "chain-too-long");
    folder.create_delta(&database, "4", "0", None).unwrap();
    for name in ["0", "1", "2", "3", "4"] {
        folder.verify(name).unwrap();
    }
}

#[test]
fn creators_at_once_never_make_a_chain_too_long() {
    let (mut refused, mut made) = (0, 0);
    for round in 0..6 {
        let store = store();
        let database = store.open();
        database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("t", "k", vec![1; 50])?) }).unwrap();
        let folder = SnapshotFolder::open_with(Arc::new(store.vfs.clone()), Path::new(FOLDER), 5).unwrap();
        folder.create_full(&database, "full", None).unwrap();
        thread::scope(|scope| {
            for thread in 0..6 {
                let (folder, database) = (folder.clone(), database.clone());
                scope.spawn(move || {
                    for turn in 0..4 {
                        // Some fail: at a name that cannot be, at one that is taken.
                        let name = match (thread + turn + round) % 4 {
                            0 => "full".to_owned(),
                            _ => format!("{thread} {turn}"),
                        };
                        match folder.create_delta(&database, &name, "full", None) {
                            Ok(_) => {}
                            Err(SnapshotFileError::ChainTooLong { length, max: 5 }) => assert_eq!(length, 6),
                            Err(error) => {
                                assert!(matches!(error.kind().as_str(), "name-taken" | "busy"), "{error}");
                            }
                        }
                    }
                });
            }
        });
        let found = folder.list().unwrap().len();
        assert!(found <= 5, "{found} snapshots of a chain of 5");
        made += found;
        // What was refused gave its place back: the chain fills up exactly.
        for number in found..5 {
            folder.create_delta(&database, &format!("late {number}"), "full", None).unwrap();
        }
        refused += usize::from(folder.create_delta(&database, "last", "full", None).is_err());
    }
    assert_eq!(refused, 6);
    println!("{made} of 30 places were filled at once");
}

#[test]
fn a_store_that_is_written_to_meanwhile_is_snapshot_at_one_version() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    let write = |number: u32| {
        database
            .write(|txn| -> Result<(), WriteError> {
                for key in 0..200_u32 {
                    txn.put("t", key.to_be_bytes(), number.to_le_bytes().to_vec())?;
                }
                Ok(())
            })
            .unwrap();
    };
    write(0);
    thread::scope(|scope| {
        scope.spawn(|| (1..150).for_each(write));
        let mut parent: Option<String> = None;
        for number in 0..12 {
            let name = format!("{number}");
            match &parent {
                None => folder.create_full(&database, &name, None).unwrap(),
                Some(parent) => folder.create_delta(&database, &name, parent, None).unwrap(),
            };
            parent = Some(name);
        }
    });
    for number in 0..12 {
        let content = restored(&folder, &format!("{number}"));
        let values: std::collections::BTreeSet<_> = content["t"].values().collect();
        assert_eq!((content["t"].len(), values.len()), (200, 1), "half a commit in snapshot {number}");
    }
}

#[test]
fn options_of_the_restored_store_are_the_callers() {
    let store = store();
    let (database, folder) = (store.open(), folder(&store.vfs));
    small_chain(&database, &folder);
    let restore =
        |dir: &str, options: DatabaseOptions| kind(folder.restore("second", dir, options).map(drop));
    restore("/small", options().page_size(4_096)).unwrap();
    assert_eq!(restore("/never", options().page_size(5)), Err("option"));
    assert!(!store.vfs.exists(Path::new("/never")).unwrap());
}
