//! The crate's source under `loom`: every order, and weak memory.
//!
//! A *place* is what is taken away: readers find it by a link, use it, and say that they left; an item takes it away. `loom`
//! itself finds a use of a place that is not ordered with its removal. The rest is said here: the numbers of the epochs, that
//! each item runs once, and that epochs are handed out whole.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize as Plain, Ordering as PlainOrdering};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use crate::epoch::Epoch;
use crate::epochs::Epochs;
use crate::wrong::{self, Wrong};

/// Nobody is inside, as `World::inside` says it.
const NOBODY: u64 = u64::MAX;
/// No epoch was handed out.
const NONE_YET: u64 = 0;

/// What the threads of a model share.
struct World {
    epochs: Epochs<usize>,
    /// The place that readers find.
    link: AtomicUsize,
    places: [UnsafeCell<()>; 2],
    is_gone: [AtomicBool; 2],
    /// The epoch of the one reader, while it is inside.
    inside: AtomicU64,
    /// Epochs before this were handed out.
    handed_out: AtomicU64,
    /// Thieves with a batch.
    thieves: AtomicUsize,
    runs: [AtomicUsize; 3],
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(),
            link: AtomicUsize::new(0),
            places: [(), ()].map(UnsafeCell::new),
            is_gone: [false, false].map(AtomicBool::new),
            inside: AtomicU64::new(NOBODY),
            handed_out: AtomicU64::new(NONE_YET),
            thieves: AtomicUsize::new(0),
            runs: [0, 0, 0].map(AtomicUsize::new),
        })
    }

    /// Enters, finds a place, and uses it.
    fn read(&self) {
        let guard = self.epochs.enter();
        self.inside.store(guard.epoch().get(), Ordering::Relaxed);
        let place = self.link.load(Ordering::Relaxed);
        self.places[place]
            .with(|_| assert!(!self.is_gone[place].load(Ordering::Relaxed), "used after it went"));
        self.inside.store(NOBODY, Ordering::Relaxed);
        drop(guard);
    }

    /// Puts the first place out of reach and hands in its removal.
    fn unlink(&self) -> Epoch {
        self.link.store(1, Ordering::Relaxed);
        self.epochs.submit(0)
    }

    /// Notes that an item of an epoch runs.
    fn run(&self, (epoch, item): (Epoch, usize)) {
        self.runs[item].fetch_add(1, Ordering::Relaxed);
        // Relaxed, so that nothing is ordered by it: that a reader left must be seen because of the epochs.
        let inside = self.inside.load(Ordering::Relaxed);
        assert!(
            inside > epoch.get(),
            "an item of epoch {epoch} runs while a reader of epoch {inside} is inside"
        );
        if let Some(place) = self.places.get(item) {
            place.with_mut(|_| self.is_gone[item].store(true, Ordering::Relaxed));
        }
    }

    /// Takes what is due and runs it, alone and by whole epochs.
    fn steal(&self) {
        let Some(mut batch) = self.epochs.try_steal() else { return };
        assert_eq!(self.thieves.fetch_add(1, Ordering::AcqRel), 0, "two thieves at once");
        let (before, horizon) = (self.handed_out.load(Ordering::Relaxed), batch.horizon().get());
        for (epoch, item) in batch.by_ref() {
            assert!(epoch.get() >= before, "epoch {epoch} was handed out before, but not whole");
            assert!(epoch.get() < horizon, "epoch {epoch} is not over");
            self.run((epoch, item));
        }
        self.handed_out.store(horizon, Ordering::Relaxed);
        self.thieves.fetch_sub(1, Ordering::AcqRel);
        drop(batch);
    }

    /// At the end, when all threads are done: runs what is left, and counts.
    fn check_runs(&self, items: usize) {
        self.epochs.advance();
        self.steal();
        let runs = || self.runs.iter().map(|runs| runs.load(Ordering::Relaxed));
        assert!(
            runs().take(items).all(|runs| runs == 1),
            "runs of each item: {:?}",
            runs().collect::<Vec<_>>()
        );
        assert_eq!(self.epochs.waiting(), 0, "items are left");
    }
}

/// Runs a model in all orders, or in those with so many changes of thread where nothing forces one; gives how many there
/// were.
fn explore(bound: Option<usize>, body: impl Fn() + Send + Sync + 'static) -> usize {
    let orders = std::sync::Arc::new(Plain::new(0));
    let counted = std::sync::Arc::clone(&orders);
    let mut builder = Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, PlainOrdering::Relaxed);
        body();
    });
    orders.load(PlainOrdering::Relaxed)
}

fn holds(name: &str, bound: Option<usize>, body: fn()) {
    let orders = explore(bound, body);
    println!("{name}: {orders} orders");
    assert!(orders > 10, "explored {orders}");
}

/// A mistake is found by a model, with this message.
fn caught(mistake: Wrong, expected: &[&str], bound: Option<usize>, body: fn()) {
    let found = catch_unwind(AssertUnwindSafe(|| wrong::with(mistake, || explore(bound, body))));
    let payload = found.expect_err(&format!("expected {mistake:?} to be caught"));
    let text = payload.downcast_ref::<String>().cloned();
    let message =
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    let is_expected = expected.iter().any(|text| message.contains(text));
    assert!(is_expected, "{mistake:?}: expected one of {expected:?}, found `{message}`");
    println!("{mistake:?}: {message}");
}

fn spawn(world: &Arc<World>, act: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || act(&world))
}

/// One reads while another unlinks, ends the epoch and steals.
fn thief_beside_reader() {
    let world = World::new();
    let reader = spawn(&world, World::read);
    world.unlink();
    world.epochs.advance();
    world.steal();
    reader.join().unwrap();
    world.check_runs(1);
}

/// One reads while another unlinks and steals, and nobody ends the epoch.
fn thief_in_the_same_epoch() {
    let world = World::new();
    let reader = spawn(&world, World::read);
    world.unlink();
    world.steal();
    reader.join().unwrap();
    world.check_runs(1);
}

/// As `thief_beside_reader`, and the one who unlinks is another than the thief.
fn thief_beside_reader_and_submitter() {
    let world = World::new();
    let reader = spawn(&world, World::read);
    let submitter = spawn(&world, |world| {
        world.unlink();
    });
    world.epochs.advance();
    world.steal();
    reader.join().unwrap();
    submitter.join().unwrap();
    world.check_runs(1);
}

/// A reader enters, leaves and enters again, in slots that others had.
fn reader_that_comes_again() {
    let world = World::new();
    let reader = spawn(&world, |world| {
        world.read();
        world.read();
    });
    world.unlink();
    world.epochs.advance();
    world.steal();
    reader.join().unwrap();
    world.check_runs(1);
}

/// A thief may go by what another thread found over.
fn thief_who_is_told() {
    let world = World::new();
    let reader = spawn(&world, World::read);
    let other = spawn(&world, |world| {
        let _over = world.epochs.horizon();
    });
    world.unlink();
    world.epochs.advance();
    world.steal();
    reader.join().unwrap();
    other.join().unwrap();
    world.check_runs(1);
}

/// One submits while another ends epochs and steals, twice.
fn thief_beside_submitter() {
    let world = World::new();
    world.epochs.submit(0);
    let submitter = spawn(&world, |world| {
        world.epochs.submit(1);
    });
    for _ in 0..2 {
        world.epochs.advance();
        world.steal();
    }
    submitter.join().unwrap();
    world.check_runs(2);
}

/// Two steal, and one of them ends an epoch meanwhile, so that both find something due.
fn two_thieves() {
    let world = World::new();
    world.epochs.submit(0);
    world.epochs.advance();
    world.epochs.submit(1);
    let other = spawn(&world, World::steal);
    world.epochs.advance();
    world.steal();
    other.join().unwrap();
    world.check_runs(2);
}

/// A reader is in a further block, because the first is full.
fn reader_in_a_further_block() {
    let world = World::new();
    let reader = spawn(&world, |world| {
        let first = [world.epochs.enter(), world.epochs.enter()];
        world.read();
        drop(first);
    });
    world.epochs.advance();
    // So far only `first` can hold back what is submitted here.
    world.unlink();
    world.epochs.advance();
    world.steal();
    reader.join().unwrap();
    world.check_runs(1);
}

/// A thief panics at the first of two items, beside another who submits and steals.
fn panicking_thief() {
    let world = World::new();
    world.epochs.submit(0);
    world.epochs.submit(1);
    world.epochs.advance();
    let other = spawn(&world, |world| {
        world.epochs.submit(2);
        world.steal();
    });
    let thief = AssertUnwindSafe(|| {
        let Some(mut batch) = world.epochs.try_steal() else { return };
        world.run(batch.next().unwrap());
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    drop(catch_unwind(thief));
    other.join().unwrap();
    world.check_runs(3);
}

#[test]
fn nothing_is_taken_away_under_a_reader() {
    holds("thief beside reader", None, thief_beside_reader);
    holds("thief in the same epoch", None, thief_in_the_same_epoch);
    holds("reader that comes again", Some(4), reader_that_comes_again);
    holds("reader in a further block", Some(3), reader_in_a_further_block);
}

#[test]
fn nothing_is_taken_away_under_a_reader_whoever_submits() {
    holds("thief beside reader and submitter", Some(3), thief_beside_reader_and_submitter);
}

#[test]
fn nothing_is_taken_away_under_a_reader_whoever_finds_it_over() {
    holds("thief who is told", Some(3), thief_who_is_told);
}

#[test]
fn epochs_are_handed_out_whole() {
    holds("thief beside submitter", None, thief_beside_submitter);
}

#[test]
fn one_thief_at_a_time() {
    holds("two thieves", None, two_thieves);
}

#[test]
fn a_panic_loses_nothing() {
    holds("panicking thief", None, panicking_thief);
}

#[test]
fn what_runs_under_a_reader_is_caught() {
    let early = "while a reader of epoch";
    // What is used while it is removed `loom` finds; what is used afterwards is found here.
    let used = [early, "Causality violation", "used after it went"];
    caught(Wrong::EnterWithoutLookingAgain, &[early], None, thief_beside_reader);
    caught(Wrong::CurrentEpochStolen, &[early], None, thief_in_the_same_epoch);
    caught(Wrong::WeakEnter, &used, None, thief_beside_reader);
    caught(Wrong::WeakLook, &used, None, thief_beside_reader);
    caught(Wrong::WeakLanding, &used, Some(3), thief_beside_reader_and_submitter);
    caught(Wrong::WeakOver, &used, Some(3), thief_who_is_told);
    caught(Wrong::WeakLeave, &used, None, thief_beside_reader);
    // What is submitted in such a block is not found either.
    let missed = [early, "runs of each item"];
    caught(Wrong::FurtherBlockUnannounced, &missed, Some(3), reader_in_a_further_block);
}

#[test]
fn what_is_not_whole_or_not_alone_is_caught() {
    caught(Wrong::SubmitterUncounted, &["but not whole"], None, thief_beside_submitter);
    caught(Wrong::TwoThieves, &["two thieves at once"], Some(3), two_thieves);
}

#[test]
fn what_a_panic_takes_with_it_is_caught() {
    caught(Wrong::TurnKeptByPanic, &["runs of each item"], Some(3), panicking_thief);
    caught(Wrong::RestLostByPanic, &["runs of each item"], Some(3), panicking_thief);
}
