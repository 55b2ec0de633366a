//! The commit queue: nobody waits for ever, order is LSN order, and every record has one outcome.

use std::time::Duration;

use keepstone_types::Lsn;
use keepstone_types::sync::model;
use keepstone_wal::CommitError;

use crate::world::{World, long_record, options, record, without_keeper};

/// Three threads commit `rounds` times each; all are kept, each under a number of its own.
fn three_commit(world: &World, rounds: u64) {
    let commit = move |world: &World, thread: u64| -> Vec<u64> {
        (0..rounds).map(|round| world.commit(10 * thread + round).unwrap().get()).collect()
    };
    let others: Vec<_> = [1, 2].map(|thread| world.spawn(move |world| commit(world, thread))).into();
    let mut lsns = commit(world, 3);
    for other in others {
        lsns.extend(other.join().unwrap());
    }
    lsns.sort_unstable();
    assert_eq!(lsns, (1..=3 * rounds).collect::<Vec<_>>());
}

#[test]
fn committers_hand_leadership_on() {
    model::check("committers hand leadership on", || {
        let world = World::new(without_keeper());
        three_commit(&world, 2);
        world.end();
    });
}

#[test]
fn committers_beside_the_keeper() {
    model::check("committers beside the keeper", || {
        let world = World::new(options());
        three_commit(&world, 1);
        world.end();
    });
}

#[test]
fn leaders_wait_for_company_on_a_slow_disk() {
    model::check("leaders wait for company on a slow disk", || {
        let world = World::slow(without_keeper());
        three_commit(&world, 3);
        world.end();
    });
}

#[test]
fn what_nobody_waits_for_is_written_by_the_keeper() {
    model::check("what nobody waits for is written by the keeper", || {
        let world = World::new(options());
        let waiting = world.spawn(|world| {
            let ticket = world.log.submit(record(1), 1, None).unwrap();
            let outcome = world.log.wait(ticket);
            world.check_outcome(1, &outcome);
            outcome.unwrap()
        });
        let ticket = world.log.submit(record(2), 2, None).unwrap();
        let unheard = world.log.submit(record(3), 3, None).unwrap();
        world.commit(4).unwrap();
        let last = waiting.join().unwrap().max(unheard.lsn());
        // Waiting here as long as somebody writes: if nobody did, the checker would find all threads waiting.
        while world.log.visible_lsn() < last {
            model::thread::yield_now();
        }
        drop(unheard);
        let outcome = world.log.wait(ticket);
        world.check_outcome(2, &outcome);
        outcome.unwrap();
        world.end();
    });
}

#[test]
fn what_is_submitted_behind_a_leader_is_written_by_the_keeper() {
    model::check("what is submitted behind a leader is written by the keeper", || {
        let world = World::new(options());
        let leading = world.spawn(|world| world.commit(1).unwrap());
        let ticket = world.log.submit(record(2), 2, None).unwrap();
        while world.log.visible_lsn() < ticket.lsn() {
            model::thread::yield_now();
        }
        drop(ticket);
        leading.join().unwrap();
        world.end();
    });
}

#[test]
fn a_full_queue_lets_in_or_refuses() {
    model::check("a full queue lets in or refuses", || {
        let world = World::new(without_keeper().queue_entries_max(1));
        let others: Vec<_> =
            [1, 2, 3].map(|item| world.spawn(move |world| world.commit(item))).into_iter().collect();
        let outcomes: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
        let kept = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let refused = |outcome: &&_| matches!(outcome, Err(CommitError::Full { .. }));
        assert_eq!(kept + outcomes.iter().filter(refused).count(), 3, "{outcomes:?}");
        assert!(kept >= 1, "{outcomes:?}");
        assert_eq!(world.log.visible_lsn(), Lsn::new(u64::try_from(kept).unwrap()));
        world.commit(4).unwrap();
        world.end();
    });
}

#[test]
fn turns_exclude_each_other_and_end() {
    model::check("turns exclude each other and end", || {
        let world = World::new(options());
        let syncing = world.spawn(|world| world.log.sync().unwrap());
        let marking = world.spawn(|world| {
            world.commit(1).unwrap();
            world.log.set_owner_mark([1; 16]).unwrap();
        });
        world.commit(2).unwrap();
        // The keeper finds it quiet, and takes a turn too.
        world.clock.advance(Duration::from_millis(10));
        world.commit(3).unwrap();
        syncing.join().unwrap();
        marking.join().unwrap();
        world.end();
    });
}

#[test]
fn those_behind_a_submitted_record_are_woken() {
    model::check("those behind a submitted record are woken", || {
        let world = World::new(without_keeper());
        let act = |world: &World, first: u64| {
            let ticket = world.log.submit(record(first), first, None).unwrap();
            world.commit(first + 1).unwrap();
            let outcome = world.log.wait(ticket);
            world.check_outcome(first, &outcome);
            outcome.unwrap();
        };
        let others: Vec<_> = [11, 21].map(|first| world.spawn(move |world| act(world, first))).into();
        act(&world, 1);
        for other in others {
            other.join().unwrap();
        }
        world.end();
    });
}

/// Commits a record of which two fill a segment.
fn commit_half_a_segment(world: &World, item: u64) {
    let outcome = world.log.commit(long_record(item, 48 << 10), item, None);
    world.check_outcome(item, &outcome);
    outcome.unwrap();
}

#[test]
fn leaders_wait_for_the_keepers_spares() {
    model::check("leaders wait for the keeper's spares", || {
        let world = World::new(options());
        let other = world.spawn(move |world| {
            commit_half_a_segment(world, 1);
            // The keeper finds it quiet, and wants a turn for its mark.
            world.clock.advance(Duration::from_millis(10));
            commit_half_a_segment(world, 2);
        });
        commit_half_a_segment(&world, 3);
        commit_half_a_segment(&world, 4);
        other.join().unwrap();
        world.end();
    });
}

#[test]
fn leaders_that_take_a_part_wake_the_rest() {
    model::check("leaders that take a part wake the rest", || {
        let world = World::new(without_keeper());
        let others: Vec<_> =
            [1, 2, 3].map(|item| world.spawn(move |world| commit_half_a_segment(world, item))).into();
        commit_half_a_segment(&world, 4);
        for other in others {
            other.join().unwrap();
        }
        world.end();
    });
}

#[test]
fn a_hand_off_that_wakes_nobody_is_caught() {
    let caught = model::catch("a hand-off that wakes nobody", || {
        let world = World::new(without_keeper());
        model::swallow_notification(1 + model::choose(4));
        three_commit(&world, 2);
        world.end();
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}

#[test]
fn a_spare_that_nobody_is_told_of_is_caught() {
    let caught = model::catch("a spare that nobody is told of", || {
        let world = World::new(options());
        model::swallow_notification(1 + model::choose(4));
        three_commit(&world, 1);
        let outcome = world.log.commit(long_record(7, 100 << 10), 7, None);
        world.check_outcome(7, &outcome);
        world.end();
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}
