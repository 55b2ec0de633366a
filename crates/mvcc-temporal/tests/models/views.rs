//! Views and publication: what a reader sees is whole, durable, and stays as it is.
//!
//! Here there is one memtable; `folding.rs` seals it and folds it meanwhile.

use keepstone_mvcc_temporal::{Database, Isolation, KeyRange, Read, Tending, TxnOptions, WriteError};
use keepstone_types::Version;
use keepstone_types::sync::model;
use keepstone_wal::wrong::{self, Wrong};

use crate::world::{T, World};

/// Writes a number to two keys in one commit.
fn write_both(database: &Database, number: u8) -> Version {
    let blind = TxnOptions::default().isolation(Isolation::ReadCommitted);
    let mut txn = database.begin_with(blind).unwrap();
    txn.put(T, "a", [number].as_slice()).unwrap();
    txn.put(T, "b", [number].as_slice()).unwrap();
    txn.commit().unwrap().version
}

/// What a reader finds at both keys.
fn read_both(reader: &impl Read) -> [Option<u8>; 2] {
    ["a", "b"].map(|key| reader.get(T, key).unwrap().and_then(|value| value.first().copied()))
}

/// What a reader finds at both keys when it scans.
fn scan_both(reader: &impl Read) -> [Option<u8>; 2] {
    let rows: Vec<_> = reader.scan(T, KeyRange::from(..)).unwrap().map(Result::unwrap).collect();
    let at = |place: usize| rows.get(place).and_then(|(_, value)| value.first().copied());
    [at(0), at(1)]
}

/// What is visible must be durable, no less than before, and known as a commit.
fn look(database: &Database, before: Version) -> Version {
    let visible = database.visible_version();
    let durable = database.durable_version();
    assert!(durable >= visible, "{visible} is visible, and only {durable} durable");
    assert!(visible >= before, "{visible} is visible after {before}");
    if visible > Version::ZERO {
        let known = database.commit_info(visible).unwrap().map(|commit| commit.version);
        assert_eq!(known, Some(visible), "a visible version has its commit");
        assert_eq!(database.snapshot_at(visible).unwrap().version(), visible);
    }
    visible
}

/// Two write while a third looks.
fn write_and_look() {
    let world = World::new(Tending::Caller);
    let writers: Vec<_> =
        [1, 2].map(|number| world.spawn(move |world| write_both(&world.database, number))).into();
    let visible = look(&world.database, Version::ZERO);
    let snapshot = world.database.snapshot().unwrap();
    assert!(snapshot.version() >= visible);
    let found = read_both(&snapshot);
    assert_eq!(found[0], found[1], "torn at {}", snapshot.version());
    look(&world.database, visible);
    assert_eq!(scan_both(&snapshot), found, "changed at {}", snapshot.version());
    for writer in writers {
        let version = writer.join().unwrap();
        assert!(world.database.visible_version() >= version, "acknowledged and not visible");
    }
    assert_eq!(read_both(&snapshot), found, "changed at {}", snapshot.version());
    world.database.clone().close().unwrap();
}

#[test]
fn a_view_is_whole_durable_and_stays() {
    model::check("a view is whole, durable and stays", write_and_look);
}

#[test]
fn publication_before_the_sync_is_caught() {
    let caught = model::catch("publication before the sync", || {
        wrong::with(Wrong::PublishBeforeSync, write_and_look);
    });
    assert!(caught.message.contains("visible, and only"), "{caught}");
}

#[test]
fn reading_now_sees_what_was_acknowledged() {
    model::check("reading now sees what was acknowledged", || {
        let world = World::new(Tending::Caller);
        let other = world.spawn(|world| write_both(&world.database, 1));
        let version = write_both(&world.database, 2);
        let row = world.database.get_with_version(T, "a").unwrap().unwrap();
        assert!(row.version.unwrap() >= version, "{version} was acknowledged");
        let later = other.join().unwrap().max(version);
        let row = world.database.get_with_version(T, "b").unwrap().unwrap();
        assert_eq!(row.version, Some(later));
        world.database.clone().close().unwrap();
    });
}

#[test]
fn increments_are_never_lost() {
    model::check("increments are never lost", || {
        let world = World::new(Tending::Caller);
        let increment = |world: &World| {
            let added = world.database.write(|txn| {
                let before = txn.get(T, "n")?.map_or(0, |value| value[0]);
                txn.put(T, "n", [before + 1].as_slice())?;
                Ok::<_, WriteError>(())
            });
            added.unwrap();
        };
        let others: Vec<_> = [(); 2].map(|()| world.spawn(increment)).into();
        increment(&world);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(world.database.get(T, "n").unwrap().unwrap()[0], 3);
        world.database.clone().close().unwrap();
    });
}
