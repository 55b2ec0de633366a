//! Readers, submitters and thieves in real threads, each item accounted for.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use keepstone_epoch::Epochs;

const SUBMITTERS: usize = 2;
const ITEMS: usize = 20_000;
const PLACES: usize = 64;

/// A shelf of places; one is linked, and what is put out of reach is given back when no reader can look at it. Each place says
/// how often it was given out and taken back: odd while it is in use.
struct Shelf {
    epochs: Epochs<usize>,
    linked: [AtomicUsize; SUBMITTERS],
    turns: [AtomicU64; PLACES],
    is_free: [AtomicBool; PLACES],
    returned: AtomicUsize,
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self {
            epochs: Epochs::new(),
            linked: [0; SUBMITTERS].map(AtomicUsize::new),
            turns: [0; PLACES].map(AtomicU64::new),
            is_free: [true; PLACES].map(AtomicBool::new),
            returned: AtomicUsize::new(0),
        };
        for linked in &shelf.linked {
            linked.store(shelf.give_out().expect("a free place"), Ordering::Release);
        }
        shelf
    }

    fn give_out(&self) -> Option<usize> {
        let place = (0..PLACES).find(|place| self.is_free[*place].swap(false, Ordering::AcqRel))?;
        assert_eq!(self.turns[place].fetch_add(1, Ordering::Relaxed) % 2, 0, "place {place} was in use");
        Some(place)
    }

    fn take_back(&self, place: usize) {
        assert_eq!(
            self.turns[place].fetch_add(1, Ordering::Relaxed) % 2,
            1,
            "place {place} was taken back twice"
        );
        assert!(!self.is_free[place].swap(true, Ordering::AcqRel), "place {place} was free");
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at a linked place twice: it must stay what it is.
    fn read(&self, number: usize) {
        let guard = self.epochs.enter();
        let place = self.linked[number % SUBMITTERS].load(Ordering::Acquire);
        let turn = self.turns[place].load(Ordering::Relaxed);
        assert_eq!(turn % 2, 1, "place {place} is linked and free");
        if number.is_multiple_of(16) {
            thread::yield_now();
        }
        assert_eq!(self.turns[place].load(Ordering::Relaxed), turn, "place {place} changed under a reader");
        drop(guard);
    }

    /// Replaces the linked place; by its one submitter.
    fn replace(&self, submitter: usize) {
        let place = loop {
            match self.give_out() {
                Some(place) => break place,
                None => {
                    self.epochs.advance();
                    self.epochs.run_due(|place| self.take_back(place));
                    thread::yield_now();
                }
            }
        };
        let before = self.linked[submitter].swap(place, Ordering::AcqRel);
        self.epochs.submit(before);
    }
}

#[test]
fn no_place_changes_under_a_reader_and_none_is_lost() {
    let shelf = Shelf::new();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (shelf, done) = (&shelf, &done);
            scope.spawn(move || {
                (0..ITEMS).for_each(|_| shelf.replace(submitter));
                done.fetch_add(1, Ordering::Release);
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0.. {
                    shelf.read(number);
                    if done.load(Ordering::Acquire) == SUBMITTERS {
                        break;
                    }
                }
            });
        }
    });
    shelf.epochs.advance();
    shelf.epochs.run_due(|place| shelf.take_back(place));
    assert_eq!(shelf.returned.load(Ordering::Relaxed), SUBMITTERS * ITEMS);
    assert_eq!(shelf.epochs.waiting(), 0);
}
