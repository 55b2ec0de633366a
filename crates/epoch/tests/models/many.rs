//! The crate under `shuttle`: more threads and more steps than can be tried in every order.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use keepstone_epoch::wrong::{self, Wrong};
use keepstone_epoch::{Epoch, Epochs};
use keepstone_types::sync::Arc;
use keepstone_types::sync::model::{Caught, catch, check, choose, switch, thread};

const READERS: usize = 2;
const SUBMITTERS: usize = 2;
const THIEVES: usize = 2;
/// Items of each submitter.
const ITEMS: usize = 2;
/// Nobody is inside.
const NOBODY: u64 = u64::MAX;

/// What is counted: no place to change threads, so that it is as exact as the moment.
#[derive(Debug)]
struct World {
    epochs: Epochs<usize>,
    inside: [AtomicU64; READERS],
    runs: [AtomicU64; SUBMITTERS * ITEMS],
    landed_in: [AtomicU64; SUBMITTERS * ITEMS],
    thieves: AtomicU64,
    /// Epochs before this were handed out whole.
    handed_out: AtomicU64,
    /// An item that was handed out and came back, because a thief panicked.
    came_back: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(),
            inside: [NOBODY; READERS].map(AtomicU64::new),
            runs: [0; SUBMITTERS * ITEMS].map(AtomicU64::new),
            landed_in: [NOBODY; SUBMITTERS * ITEMS].map(AtomicU64::new),
            thieves: AtomicU64::new(0),
            handed_out: AtomicU64::new(0),
            came_back: AtomicU64::new(NOBODY),
        })
    }

    fn read(&self, reader: usize) {
        let guard = self.epochs.enter();
        self.inside[reader].store(guard.epoch().get(), Ordering::SeqCst);
        (0..4).for_each(|_| switch());
        self.inside[reader].store(NOBODY, Ordering::SeqCst);
        drop(guard);
    }

    fn submit(&self, item: usize) {
        let epoch = self.epochs.submit(item);
        self.landed_in[item].store(epoch.get(), Ordering::SeqCst);
        if choose(2) == 0 {
            self.epochs.advance();
        }
    }

    fn check_item(&self, epoch: Epoch, item: usize) {
        let inside = self.inside.iter().map(|inside| inside.load(Ordering::SeqCst)).min().unwrap();
        assert!(
            inside > epoch.get(),
            "an item of epoch {epoch} runs while a reader of epoch {inside} is inside"
        );
        let landed_in = self.landed_in[item].load(Ordering::SeqCst);
        assert!([NOBODY, epoch.get()].contains(&landed_in), "landed in {landed_in}, carries {epoch}");
        assert_eq!(self.runs[item].fetch_add(1, Ordering::SeqCst), 0, "item {item} runs twice");
    }

    /// Steals and runs; panics at an item now and then, when it may.
    fn steal(&self, may_panic: bool) {
        let Some(mut batch) = self.epochs.try_steal() else { return };
        assert_eq!(self.thieves.fetch_add(1, Ordering::SeqCst), 0, "two thieves at once");
        let whole = self.handed_out.fetch_max(batch.horizon().get(), Ordering::SeqCst);
        let came_back = self.came_back.load(Ordering::SeqCst);
        let mut newest = Epoch::FIRST;
        while let Some((epoch, item)) = batch.next() {
            assert!(epoch < batch.horizon() && epoch >= newest, "not due, or out of order");
            newest = epoch;
            assert!(epoch.get() >= whole.min(came_back), "epoch {epoch} was not handed out whole");
            switch();
            self.check_item(epoch, item);
            if may_panic && choose(2) == 0 {
                self.came_back.fetch_min(epoch.get(), Ordering::SeqCst);
                self.thieves.fetch_sub(1, Ordering::SeqCst);
                resume_unwind(Box::new("on purpose"));
            }
        }
        self.thieves.fetch_sub(1, Ordering::SeqCst);
    }

    fn check_end(&self) {
        self.epochs.advance();
        self.steal(false);
        let runs: Vec<u64> = self.runs.iter().map(|runs| runs.load(Ordering::SeqCst)).collect();
        assert!(runs.iter().all(|runs| *runs == 1), "runs of each item: {runs:?}");
        assert_eq!(self.epochs.waiting(), 0);
        assert_eq!(self.epochs.horizon(), self.epochs.current(), "the current epoch is over before it ends");
    }
}

/// Everybody at once.
fn everybody(may_panic: bool) {
    let world = World::new();
    let mut threads = Vec::new();
    let mut spawn = |act: Box<dyn FnOnce(&World) + Send>| {
        let world = Arc::clone(&world);
        threads.push(thread::spawn(move || act(&world)));
    };
    for reader in 0..READERS {
        spawn(Box::new(move |world| (0..2).for_each(|_| world.read(reader))));
    }
    for submitter in 0..SUBMITTERS {
        spawn(Box::new(move |world| {
            (0..ITEMS).for_each(|item| world.submit(submitter * ITEMS + item));
        }));
    }
    for _ in 0..THIEVES {
        spawn(Box::new(move |world| {
            for _ in 0..3 {
                let stolen = catch_unwind(AssertUnwindSafe(|| world.steal(may_panic)));
                if let Err(panic) = stolen
                    && panic.downcast_ref() != Some(&"on purpose")
                {
                    resume_unwind(panic);
                }
                switch();
            }
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.check_end();
}

#[test]
fn every_item_runs_once_and_none_early() {
    check("every item runs once and none early", || everybody(false));
}

#[test]
fn every_item_runs_once_though_thieves_panic() {
    check("every item runs once though thieves panic", || everybody(true));
}

#[test]
fn mistakes_are_caught() {
    let caught = |mistake: Wrong, may_panic: bool, expected: &[&str]| {
        let body = move || wrong::with(mistake, || everybody(may_panic));
        let found: Caught = catch(&format!("{mistake:?}"), body);
        let is_expected = expected.iter().any(|text| found.message.contains(text));
        assert!(is_expected, "{mistake:?}: expected one of {expected:?}, found {found}");
    };
    let (early, whole, runs) = ("while a reader of epoch", "was not handed out whole", "runs of each item");
    caught(Wrong::EnterWithoutLookingAgain, false, &[early]);
    caught(Wrong::CurrentEpochStolen, false, &[early, whole, "is over before it ends"]);
    caught(Wrong::SubmitterUncounted, false, &[whole, "out of order"]);
    caught(Wrong::TwoThieves, false, &["two thieves at once", whole]);
    caught(Wrong::FurtherBlockUnannounced, false, &[early, whole, runs]);
    caught(Wrong::TurnKeptByPanic, true, &[runs]);
    caught(Wrong::RestLostByPanic, true, &[runs]);
}
