//! Closing with calls in progress: everybody gets an outcome, and what was acknowledged is there afterwards.

use keepstone_types::sync::model;
use keepstone_wal::{CommitError, LogOptions};

use crate::world::{World, options, record, without_keeper};

/// Three commit or submit while the log is closed, twice.
fn close_in_the_middle(options: LogOptions) {
    let world = World::new(options);
    let committers: Vec<_> = [1, 2]
        .map(|item| {
            world.spawn(move |world| match world.commit(item) {
                Ok(_) => Some(item),
                Err(CommitError::Closed) => None,
                Err(error) => panic!("{error}"),
            })
        })
        .into();
    let submitter = world.spawn(|world| match world.log.submit(record(3), 3, None) {
        Ok(ticket) => {
            let outcome = world.log.wait(ticket);
            world.check_outcome(3, &outcome);
            outcome.unwrap();
            Some(3)
        }
        Err(CommitError::Closed) => None,
        Err(error) => panic!("{error}"),
    });
    let closer = world.spawn(|world| world.log.close().unwrap());
    world.log.close().unwrap();
    let joined = committers.into_iter().chain([submitter]).map(|thread| thread.join().unwrap());
    let kept: Vec<u64> = joined.flatten().collect();
    closer.join().unwrap();
    assert!(matches!(world.commit(4), Err(CommitError::Closed)));
    let (report, mut found) = world.open_again();
    assert!(report.clean, "not closed in order");
    found.sort_unstable();
    assert_eq!(found, kept, "what was acknowledged is there, and nothing else");
    world.witness.judge();
}

#[test]
fn close_with_commits_in_progress() {
    model::check("close with commits in progress", || close_in_the_middle(without_keeper()));
}

#[test]
fn close_with_commits_in_progress_and_the_keeper() {
    model::check("close with commits in progress and the keeper", || close_in_the_middle(options()));
}

#[test]
fn a_keeper_that_is_not_told_to_stop_is_caught() {
    let caught = model::catch("a keeper that is not told to stop", || {
        let world = World::new(options());
        world.commit(1).unwrap();
        model::swallow_notification(1 + model::choose(3));
        world.end();
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}
