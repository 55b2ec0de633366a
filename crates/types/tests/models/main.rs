//! The checker's own locks and waits: what every other model stands on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keepstone_types::lock_rank::{TEST_INNER, TEST_OUTER};
use keepstone_types::sync::model::{self, Caught, drive, thread};
use keepstone_types::sync::{Arc, Condvar, Mutex};
use keepstone_types::{Clock, ManualClock};

/// A flag that one thread waits for and another sets.
struct Flag {
    set: Mutex<bool>,
    bell: Condvar,
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self { set: Mutex::new(TEST_OUTER, false), bell: Condvar::new() })
    }

    fn raise(&self) {
        *self.set.lock() = true;
        self.bell.notify_one();
    }
}

/// Sets a flag on another thread, while `wait` waits for it.
fn wait_for_flag(wait: impl FnOnce(&Flag)) {
    let flag = Flag::new();
    let other = Arc::clone(&flag);
    let raising = thread::spawn(move || other.raise());
    wait(&flag);
    raising.join().unwrap();
}

fn catch_waiting(name: &str, wait: fn(&Flag)) -> Caught {
    model::catch(name, move || wait_for_flag(wait))
}

#[test]
fn waiting_in_a_loop_under_the_lock_is_right() {
    model::check("waiting in a loop under the lock", || {
        wait_for_flag(|flag| {
            let mut set = flag.set.lock();
            while !*set {
                flag.bell.wait(&mut set);
            }
        });
    });
}

#[test]
fn a_lost_wake_up_is_caught() {
    let caught = catch_waiting("a lost wake-up", |flag| {
        if !*flag.set.lock() {
            flag.bell.wait(&mut flag.set.lock());
        }
    });
    assert!(caught.message.contains("deadlock"), "{caught}");
}

#[test]
fn a_wait_that_ends_without_reason_is_caught() {
    let caught = catch_waiting("a wait without a loop", |flag| {
        let mut set = flag.set.lock();
        if !*set {
            flag.bell.wait(&mut set);
        }
        assert!(*set, "woken without reason");
    });
    assert!(caught.message.contains("woken without reason"), "{caught}");
}

#[test]
fn an_end_that_never_comes_is_caught() {
    let caught = model::catch("a loop without end", || {
        let flag = Flag::new();
        while !*flag.set.lock() {}
    });
    assert!(caught.message.contains("max_steps"), "{caught}");
}

#[test]
fn timed_waits_end_both_ways_and_move_the_clock() {
    const TIMEOUT: Duration = Duration::from_millis(7);
    let (late, woken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (lates, wokens) = (Arc::clone(&late), Arc::clone(&woken));
    model::check("timed waits end both ways", move || {
        let clock = Arc::new(ManualClock::default());
        drive(&clock);
        wait_for_flag(|flag| {
            let mut set = flag.set.lock();
            if !*set {
                let timed_out = flag.bell.wait_for(&mut set, TIMEOUT);
                assert_eq!(clock.monotonic(), if timed_out { TIMEOUT } else { Duration::ZERO });
                if timed_out { &lates } else { &wokens }.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Nobody else is there to wake it: that is no deadlock, the time runs out.
        let flag = Flag::new();
        assert!(flag.bell.wait_for(&mut flag.set.lock(), TIMEOUT));
    });
    let counts = (late.load(Ordering::Relaxed), woken.load(Ordering::Relaxed));
    assert!(counts.0 > 0 && counts.1 > 0, "expected both ends, found {counts:?}");
}

#[test]
fn ranks_are_those_of_each_thread() {
    model::check("ranks are those of each thread", || {
        let locks = Arc::new((Mutex::new(TEST_OUTER, ()), Mutex::new(TEST_INNER, ())));
        let other = Arc::clone(&locks);
        let holding = thread::spawn(move || {
            let _inner = other.1.lock();
            model::switch();
        });
        let outer = locks.0.lock();
        let inner = locks.1.lock();
        drop((outer, inner));
        holding.join().unwrap();
    });
}

#[cfg(feature = "checks")]
#[test]
fn locks_out_of_order_are_caught() {
    let caught = model::catch("locks out of order", || {
        let locks = (Mutex::new(TEST_OUTER, ()), Mutex::new(TEST_INNER, ()));
        let _inner = locks.1.lock();
        let _outer = locks.0.lock();
    });
    assert!(caught.message.contains("lock order"), "{caught}");
}

#[test]
fn a_product_thread_that_panics_is_told_to_who_joins_it() {
    model::check("a product thread that panics", || {
        let other = thread::spawn(model::switch);
        let started = thread::Builder::new().spawn(|| std::panic::resume_unwind(Box::new("on purpose")));
        let thread: thread::JoinHandle<()> = started.unwrap();
        assert!(thread.join().is_err());
        other.join().unwrap();
    });
}
