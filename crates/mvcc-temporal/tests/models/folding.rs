//! Sealing, view swap and pruning, with the real code: a checkpoint beside those who commit and read, and a prune beside a
//! reader that registers.

use keepstone_mvcc_temporal::{Database, Isolation, Read, ReadError, Retention, Tending, TxnOptions};
use keepstone_types::Version;
use keepstone_types::sync::model;

use crate::world::{T, World};

/// Writes a number to two keys in one commit.
fn write_both(database: &Database, number: u8) -> Version {
    let blind = TxnOptions::default().isolation(Isolation::ReadCommitted);
    let mut txn = database.begin_with(blind).unwrap();
    txn.put(T, "a", [number].as_slice()).unwrap();
    txn.put(T, "b", [number].as_slice()).unwrap();
    txn.commit().unwrap().version
}

fn read_both(reader: &impl Read) -> [Option<u8>; 2] {
    ["a", "b"].map(|key| reader.get(T, key).unwrap().and_then(|value| value.first().copied()))
}

#[test]
fn a_checkpoint_beside_commits_loses_and_tears_nothing() {
    model::check("a checkpoint beside commits", || {
        let world = World::new(Tending::Caller);
        write_both(&world.database, 1);
        let held = world.database.snapshot().unwrap();
        let writer = world.spawn(|world| write_both(&world.database, 2));
        let folder = world.spawn(|world| world.database.checkpoint().unwrap());
        let now = world.database.snapshot().unwrap();
        let seen = read_both(&now);
        assert_eq!(seen[0], seen[1], "torn at {}", now.version());
        assert_eq!(read_both(&held), [Some(1), Some(1)]);
        let version = writer.join().unwrap();
        folder.join().unwrap();
        assert!(world.database.visible_version() >= version, "acknowledged and not visible");
        assert_eq!(read_both(&world.database), [Some(2), Some(2)]);
        assert_eq!(read_both(&now), seen, "changed at {}", now.version());
        world.database.checkpoint().unwrap();
        assert_eq!(read_both(&held), [Some(1), Some(1)]);
        let info = world.database.commit_info(version).unwrap();
        assert_eq!(info.map(|info| info.version), Some(version));
        world.database.clone().close().unwrap();
    });
}

#[test]
fn no_version_is_pruned_under_a_reader_that_registers() {
    model::check("pruning beside a reader that registers", || {
        let world = World::keeping(Retention::None);
        let first = write_both(&world.database, 1);
        write_both(&world.database, 2);
        world.database.checkpoint().unwrap();
        let pruner = world.spawn(|world| world.database.compact().unwrap());
        match world.database.snapshot_at(first) {
            Ok(held) => {
                assert_eq!(read_both(&held), [Some(1), Some(1)]);
                pruner.join().unwrap();
                assert_eq!(read_both(&held), [Some(1), Some(1)], "pruned under its reader");
            }
            Err(ReadError::HistoryGone { asked, oldest }) => {
                assert!(asked < oldest);
                pruner.join().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(read_both(&world.database), [Some(2), Some(2)]);
        world.database.clone().close().unwrap();
    });
}

#[test]
fn two_checkpoints_at_once_fold_once() {
    model::check("two checkpoints at once", || {
        let world = World::new(Tending::Caller);
        write_both(&world.database, 1);
        let other = world.spawn(|world| world.database.checkpoint().unwrap());
        world.database.checkpoint().unwrap();
        other.join().unwrap();
        assert_eq!(world.database.stats().checkpoints, 1);
        assert_eq!(world.database.stats().folded, world.database.visible_version());
        assert_eq!(read_both(&world.database), [Some(1), Some(1)]);
        world.database.clone().close().unwrap();
    });
}
