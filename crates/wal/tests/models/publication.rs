//! Publication: what is visible is synced, as far as the durability promises, and what is read is whole.

use std::time::Duration;

use keepstone_types::Lsn;
use keepstone_types::sync::model;
use keepstone_wal::wrong::{self, Wrong};
use keepstone_wal::{Durability, Replayed};

use crate::witness::Fault;
use crate::world::{World, item_of, options, without_keeper};

/// Two commit while a third looks at the marks and reads the log.
fn commit_and_look(world: &World) {
    let writers: Vec<_> = [1, 2].map(|item| world.spawn(move |world| world.commit(item).unwrap())).into();
    let mut before = Lsn::ZERO;
    for _ in 0..3 {
        let visible = world.log.visible_lsn();
        let durable = world.log.durable_lsn();
        assert!(visible >= before, "{visible} is visible after {before}");
        assert!(durable >= visible, "{visible} is visible, and only {durable} durable");
        before = visible;
    }
    let mut found = Vec::new();
    for replayed in world.log.read_from(Lsn::FIRST).unwrap() {
        if let Replayed::Record(record) = replayed.unwrap() {
            found.push((record.lsn.get(), item_of(&record.payload)));
        }
    }
    assert!(found.len() >= usize::try_from(before.get()).unwrap(), "{before} was visible, found {found:?}");
    for (number, (lsn, item)) in (1..).zip(&found) {
        assert_eq!(*lsn, number);
        assert_eq!(world.witness.seen.peek(|seen| seen.item_at(number)), Some(*item));
    }
    for writer in writers {
        let lsn = writer.join().unwrap();
        assert!(world.log.visible_lsn() >= lsn && world.log.durable_lsn() >= lsn);
    }
    world.end();
}

#[test]
fn what_is_visible_is_durable_and_whole() {
    model::check("what is visible is durable and whole", || commit_and_look(&World::new(without_keeper())));
}

#[test]
fn a_relaxed_log_lags_no_further_than_it_says() {
    let (max_commits, max_delay) = (3, Duration::from_millis(5));
    model::check("a relaxed log lags no further than it says", move || {
        let world = World::new(options().durability(Durability::Relaxed { max_commits, max_delay }));
        world.witness.seen.peek(|seen| seen.lag_max = u64::from(max_commits) - 1);
        let others: Vec<_> = [10, 20]
            .map(|first| {
                world.spawn(move |world| {
                    for item in first..first + 2 {
                        world.commit(item).unwrap();
                    }
                })
            })
            .into();
        world.commit(1).unwrap();
        // What waits for its sync is due, and the keeper finds out while the others go on.
        world.clock.advance(max_delay);
        world.commit(2).unwrap();
        assert!(world.log.durable_lsn() <= world.log.visible_lsn());
        for other in others {
            other.join().unwrap();
        }
        world.log.sync().unwrap();
        assert_eq!(world.log.durable_lsn(), Lsn::new(6));
        world.end();
    });
}

#[test]
fn publication_before_the_sync_is_caught() {
    let caught = model::catch("publication before the sync", || {
        wrong::with(Wrong::PublishBeforeSync, || commit_and_look(&World::new(without_keeper())));
    });
    let seen = ["published before", "visible, and only"].map(|what| caught.message.contains(what));
    assert!(seen.contains(&true), "{caught}");
}

#[test]
fn a_sync_that_does_nothing_is_caught() {
    let caught = model::catch("a sync that does nothing", || {
        let world = World::new(without_keeper());
        world.fail(Fault::SyncDoesNothing);
        commit_and_look(&world);
    });
    assert!(caught.message.contains("not synced"), "{caught}");
}
