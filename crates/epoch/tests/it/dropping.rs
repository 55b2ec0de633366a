//! What becomes of items that are left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keepstone_epoch::{Deferred, Epochs};

/// Counts its drop, and panics in it if it is told to.
struct Item {
    dropped: Arc<AtomicUsize>,
    panics: bool,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "on purpose");
    }
}

#[test]
fn what_is_left_is_handed_back() {
    let epochs = Epochs::new();
    epochs.submit("a");
    epochs.advance();
    epochs.submit("b");
    drop(epochs.try_steal());
    epochs.submit("c");
    let left: Vec<_> = epochs.into_items().into_iter().map(|(epoch, item)| (epoch.get(), item)).collect();
    assert_eq!(left, [(0, "a"), (1, "b"), (1, "c")]);
}

#[test]
fn every_item_is_dropped_once_though_some_panic() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let epochs = Epochs::new();
    for number in 0..6 {
        epochs.submit(Item { dropped: Arc::clone(&dropped), panics: number % 2 == 0 });
        epochs.advance();
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(epochs))).expect_err("some panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(dropped.load(Ordering::Relaxed), 6);
}

#[test]
fn closures_that_are_left_run() {
    let ran = Arc::new(AtomicUsize::new(0));
    let epochs = Epochs::new();
    for _ in 0..3 {
        let ran = Arc::clone(&ran);
        epochs.submit(Deferred::new(move || {
            ran.fetch_add(1, Ordering::Relaxed);
        }));
    }
    drop(epochs);
    assert_eq!(ran.load(Ordering::Relaxed), 3);
}

#[test]
fn closures_that_are_left_run_when_the_owner_panics() {
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let owner = catch_unwind(move || {
        let epochs = Epochs::new();
        epochs.submit(Deferred::new(|| panic!("on purpose, while unwinding")));
        epochs.submit(Deferred::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        panic!("the owner");
    });
    assert_eq!(owner.expect_err("it panicked").downcast_ref::<&str>(), Some(&"the owner"));
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}
