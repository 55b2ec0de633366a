//! One thief at a time, what a panic leaves, and where things may be done from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use keepstone_epoch::{Deferred, Epochs};

/// Epochs with items 0, 1, 2... each in an epoch of its own, all due.
fn due(count: usize) -> Epochs<usize> {
    let epochs = Epochs::new();
    for item in 0..count {
        epochs.submit(item);
        epochs.advance();
    }
    epochs
}

fn items(epochs: &Epochs<usize>) -> Vec<usize> {
    epochs.try_steal().into_iter().flatten().map(|(_, item)| item).collect()
}

#[test]
fn only_one_thief_has_a_batch() {
    let epochs = due(1);
    let batch = epochs.try_steal().expect("one is due");
    epochs.submit(1);
    epochs.advance();
    assert!(epochs.try_steal().is_none());
    drop(batch);
    assert_eq!(items(&epochs), [0, 1]);
    assert!(epochs.try_steal().is_none());
    assert_eq!(epochs.waiting(), 0);
}

#[test]
fn what_a_batch_still_has_goes_to_the_next_thief_first() {
    let epochs = due(4);
    let mut batch = epochs.try_steal().expect("four are due");
    assert_eq!(batch.next().map(|(_, item)| item), Some(0));
    drop(batch);
    epochs.submit(4);
    epochs.advance();
    assert_eq!(items(&epochs), [1, 2, 3, 4]);
}

#[test]
fn a_panicking_item_loses_no_other_and_leaves_stealing_enabled() {
    let epochs = due(3);
    let ran = AtomicUsize::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        epochs.run_due(|item| {
            ran.fetch_add(1, Ordering::Relaxed);
            assert_ne!(item, 1, "on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!((ran.load(Ordering::Relaxed), epochs.waiting()), (2, 1));
    assert_eq!(items(&epochs), [2]);
}

#[test]
fn a_panicking_thief_on_another_thread_gives_everything_back() {
    let epochs = due(3);
    let thief = thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let _batch = epochs.try_steal();
            panic!("on purpose");
        });
        thief.join()
    });
    assert!(thief.is_err());
    assert_eq!(items(&epochs), [0, 1, 2]);
}

#[test]
fn a_panicking_reader_leaves() {
    let epochs = Epochs::new();
    let reader = catch_unwind(AssertUnwindSafe(|| {
        let _guard = epochs.enter();
        panic!("on purpose");
    }));
    assert!(reader.is_err());
    epochs.submit(7);
    epochs.advance();
    assert_eq!(items(&epochs), [7]);
}

#[test]
fn an_item_may_submit_advance_enter_and_try_to_steal() {
    let epochs = due(1);
    let mut seen = Vec::new();
    let count = epochs.run_due(|item| {
        seen.push(item);
        assert!(epochs.try_steal().is_none(), "the turn is taken");
        drop(epochs.enter());
        if item < 3 {
            epochs.submit(item + 1);
            epochs.advance();
        }
    });
    assert_eq!((count, seen), (4, vec![0, 1, 2, 3]));
}

#[test]
fn a_guard_may_be_dropped_by_another_thread() {
    let epochs = Epochs::new();
    let guard = epochs.enter();
    epochs.submit(1);
    epochs.advance();
    thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
    assert_eq!(items(&epochs), [1]);
}

#[test]
fn a_later_reader_holds_nothing_back() {
    let epochs = Epochs::new();
    epochs.submit(1);
    epochs.advance();
    let later = epochs.enter();
    epochs.submit(2);
    epochs.advance();
    assert_eq!(items(&epochs), [1]);
    drop(later);
    assert_eq!(items(&epochs), [2]);
}

#[test]
fn closures_run_when_they_are_due() {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    let epochs = Epochs::new();
    epochs.submit(Deferred::new(|| {
        RAN.fetch_add(1, Ordering::Relaxed);
    }));
    assert_eq!((epochs.run_due(Deferred::run), RAN.load(Ordering::Relaxed)), (0, 0));
    epochs.advance();
    assert_eq!((epochs.run_due(Deferred::run), RAN.load(Ordering::Relaxed)), (1, 1));
}
