//! Leaders that fail: a panic of the layer above or a failed sync gives everybody an outcome, and poisons the log.

use std::time::Duration;

use keepstone_types::sync::model;
use keepstone_wal::{CommitError, LogOptions};

use crate::witness::Fault;
use crate::world::{Outcome, World, options, without_keeper};

/// Whether a commit was refused because the log is poisoned.
fn is_poisoned(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Err(CommitError::Poisoned { .. })))
}

/// Three commit, each twice, and the step goes wrong.
fn commit_through(world: &World, fault: Fault) {
    world.fail(fault);
    let commit = |world: &World, first: u64| [world.try_commit(first), world.try_commit(first + 1)];
    let others: Vec<_> = [11, 21].map(|first| world.spawn(move |world| commit(world, first))).into();
    let mut outcomes: Vec<_> = commit(world, 1).into();
    for other in others {
        outcomes.extend(other.join().unwrap());
    }
    assert!(
        outcomes.iter().any(|outcome| !matches!(outcome, Some(Ok(_)))),
        "expected {fault:?} to be noticed, found {outcomes:?}"
    );
    world.fail(Fault::None);
    let late = world.try_commit(99);
    assert!(is_poisoned(&late), "expected a poisoned log, found {late:?}");
    assert!(world.log.sync().is_err());
    assert!(world.log.close().is_err());
    world.witness.judge();
}

/// One of the six panics where the checker chooses.
fn any_panic() -> Fault {
    let item = [1, 2, 11, 12, 21, 22][usize::try_from(model::choose(6)).unwrap()];
    match model::choose(2) {
        0 => Fault::Admit(item),
        _ => Fault::Apply(item),
    }
}

fn panics(options: LogOptions) {
    let world = World::new(options);
    commit_through(&world, any_panic());
}

#[test]
fn a_panic_poisons_and_leaves_nobody_waiting() {
    model::check("a panic poisons and leaves nobody waiting", || panics(without_keeper()));
}

#[test]
fn a_panic_beside_the_keeper() {
    model::check("a panic beside the keeper", || panics(options()));
}

#[test]
fn a_failed_sync_poisons_and_what_is_queued_is_revoked() {
    model::check("a failed sync poisons and what is queued is revoked", || {
        let world = World::new(without_keeper());
        commit_through(&world, Fault::Sync);
    });
}

#[test]
fn a_sync_that_fails_beside_the_leader_is_believed_by_nobody() {
    model::check("a sync that fails beside the leader is believed by nobody", || {
        let world = World::new(options());
        world.commit(1).unwrap();
        world.fail(Fault::KeeperSync);
        // The keeper finds it quiet, writes its mark, and syncs it beside the next.
        world.clock.advance(Duration::from_millis(10));
        let others: Vec<_> = [11, 21].map(|item| world.spawn(move |world| world.try_commit(item))).into();
        for outcome in
            [world.try_commit(2)].into_iter().chain(others.into_iter().map(|other| other.join().unwrap()))
        {
            assert!(outcome.is_some(), "a commit panicked");
        }
        world.log.close().unwrap_or_default();
        world.witness.judge();
    });
}

#[test]
fn a_panic_while_revoking_leaves_nobody_waiting() {
    model::check("a panic while revoking leaves nobody waiting", || {
        let world = World::new(without_keeper());
        let item = [1, 11, 21][usize::try_from(model::choose(3)).unwrap()];
        commit_through(&world, Fault::SyncAndRevoke(item));
    });
}

#[test]
fn a_panic_while_publishing_leaves_nobody_waiting() {
    model::check("a panic while publishing leaves nobody waiting", || {
        let world = World::new(without_keeper());
        // The last of its thread, so that it is published, alone or as the end of a group, or followed in its group.
        world.fail(Fault::Publish(12));
        let others: Vec<_> = [11, 12].map(|item| world.spawn(move |world| world.try_commit(item))).into();
        world.try_commit(1);
        others.into_iter().for_each(|other| drop(other.join().unwrap()));
        let late = world.try_commit(99);
        let followed = matches!(late, Some(Ok(_)));
        assert!(followed || is_poisoned(&late), "{late:?}");
        assert_eq!(world.log.close().is_ok(), followed);
        world.witness.judge();
    });
}

#[test]
fn a_panicking_keeper_leaves_nobody_waiting() {
    model::check("a panicking keeper leaves nobody waiting", || {
        let world = World::new(options());
        world.fail(Fault::Apply(1));
        let ticket = world.log.submit(crate::world::record(1), 1, None).unwrap();
        let other = world.spawn(|world| world.try_commit(2));
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.log.wait(ticket)));
        assert!(!matches!(waited, Ok(Ok(_))), "{waited:?}");
        other.join().unwrap();
        let late = world.try_commit(99);
        assert!(is_poisoned(&late), "{late:?}");
        assert!(world.log.close().is_err());
        world.witness.judge();
    });
}

#[test]
fn a_leader_that_dies_and_wakes_nobody_is_caught() {
    let caught = model::catch("a leader that dies and wakes nobody", || {
        let world = World::new(without_keeper());
        world.witness.swallow_at_panic();
        commit_through(&world, Fault::Apply(1));
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}
