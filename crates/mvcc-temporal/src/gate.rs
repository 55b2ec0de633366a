//! Counting who is inside without a shared hot line, and shutting the door: what `close` and the exclusive turn stand on.
//!
//! Invariants:
//! * Once the gate is shut, nobody enters; [`Gate::wait_empty`] returns only when everyone who had entered has left.
//!   Entering counts first and looks at the door second, shutting shuts first and counts second, both sequentially
//!   consistent, so one of the two sees the other.
//! * A turn has one holder. While it lasts, other commits wait, and others wait for the turn, but for a bounded time: a
//!   holder that itself waits for another thread gets its wish and may lose the race once more, instead of hanging.
//! * A panic of the holder gives the turn back, and a panic inside leaves the gate: both are drop guards.

use std::time::Duration;

use keepstone_types::lock_rank;

use crate::sync::thread::{self, ThreadId};
use crate::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, thread_number};

/// Counters that threads spread over; a model needs no more than two to find what goes wrong between them.
const STRIPE_COUNT: usize = if cfg!(feature = "model") { 2 } else { 16 };

/// The longest that one waits for another's exclusive turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// One of so many stripes for the calling thread.
pub(crate) fn thread_stripe(stripes: usize) -> usize {
    thread_number().checked_rem(stripes).unwrap_or(0)
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicUsize);

/// A door with a count of those inside.
#[derive(Debug)]
pub(crate) struct Gate {
    stripes: [Stripe; STRIPE_COUNT],
    shut: AtomicBool,
    waiting: Mutex<()>,
    left: Condvar,
}

/// Being inside; dropping it leaves.
#[derive(Debug)]
#[must_use = "the call is over when the pass is dropped"]
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    stripe: &'a Stripe,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            stripes: Default::default(),
            shut: AtomicBool::new(false),
            waiting: Mutex::new(lock_rank::MVCC_GATE, ()),
            left: Condvar::new(),
        }
    }

    /// Goes in, unless the gate is shut.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        let stripe = self.stripes.get(thread_stripe(STRIPE_COUNT))?;
        stripe.0.fetch_add(1, Ordering::SeqCst);
        let pass = Pass { gate: self, stripe };
        if self.shut.load(Ordering::SeqCst) { None } else { Some(pass) }
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Shuts the gate; false when it was shut before.
    pub(crate) fn shut(&self) -> bool {
        !self.shut.swap(true, Ordering::SeqCst)
    }

    /// Opens the gate again.
    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    fn is_empty(&self) -> bool {
        self.stripes.iter().all(|stripe| stripe.0.load(Ordering::SeqCst) == 0)
    }

    /// Waits until everyone who entered before the gate was shut has left.
    pub(crate) fn wait_empty(&self) {
        let mut waiting = self.waiting.lock();
        while !self.is_empty() {
            self.left.wait(&mut waiting);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.stripe.0.fetch_sub(1, Ordering::SeqCst);
        if self.gate.shut.load(Ordering::SeqCst) {
            let _order = self.gate.waiting.lock();
            self.gate.left.notify_all();
        }
    }
}

/// The exclusive turn of a transaction that lost too often.
#[derive(Debug)]
pub(crate) struct Turns {
    commits: Gate,
    holder: Mutex<Option<ThreadId>>,
    released: Condvar,
}

/// Holding the turn; dropping it gives it back.
#[derive(Debug)]
#[must_use = "the turn is given back when it is dropped"]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            commits: Gate::new(),
            holder: Mutex::new(lock_rank::MVCC_GATE, None),
            released: Condvar::new(),
        }
    }

    /// Waits for the turn and for the commits under way, and keeps others from committing until it is dropped. `None`
    /// when this thread has it already, or another keeps it for too long.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        let me = thread::current().id();
        {
            let mut holder = self.holder.lock();
            if !self.wait_free(&mut holder, me) || holder.is_some() {
                return None;
            }
            *holder = Some(me);
            self.commits.shut();
        }
        let turn = Turn(self);
        self.commits.wait_empty();
        Some(turn)
    }

    /// Waits until nobody else has the turn; false when that takes too long.
    fn wait_free(&self, holder: &mut MutexGuard<'_, Option<ThreadId>>, me: ThreadId) -> bool {
        while holder.is_some_and(|holder| holder != me) {
            if self.released.wait_for(holder, TURN_WAIT_MAX) {
                return false;
            }
        }
        true
    }

    /// Lets a commit pass: at once without a turn or within one's own; after another's, or when that takes too long.
    pub(crate) fn pass(&self) -> Option<Pass<'_>> {
        if let Some(pass) = self.commits.enter() {
            return Some(pass);
        }
        let mut holder = self.holder.lock();
        let _in_time = self.wait_free(&mut holder, thread::current().id());
        drop(holder);
        self.commits.enter()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut holder = self.0.holder.lock();
        *holder = None;
        self.0.commits.open();
        self.0.released.notify_all();
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_shut_gate_lets_nobody_in_and_waits_for_those_inside() {
        let gate = Gate::new();
        let inside = AtomicU64::new(0);
        let barrier = Barrier::new(9);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    while let Some(_pass) = gate.enter() {
                        inside.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            barrier.wait();
            assert!(gate.shut());
            gate.wait_empty();
            assert_eq!(inside.load(Ordering::SeqCst), 0, "someone is inside a shut gate");
            assert!(gate.enter().is_none());
        });
        assert!(!gate.shut(), "it is shut already");
    }

    #[test]
    fn a_turn_excludes_other_commits_and_lets_its_own_thread_through() {
        let turns = Turns::new();
        let turn = turns.take().unwrap();
        assert!(turns.take().is_none(), "it has it already");
        assert!(turns.pass().is_none(), "the holder's own commit goes on uncounted");
        let order = Mutex::new(lock_rank::TEST_OUTER, Vec::new());
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let _pass = turns.pass();
                order.lock().push("other");
            });
            order.lock().push("holder");
            drop(turn);
            other.join().unwrap();
        });
        assert_eq!(order.into_inner(), ["holder", "other"]);
        assert!(turns.pass().is_some());
    }

    #[test]
    fn turns_are_taken_one_at_a_time() {
        let turns = Turns::new();
        let inside = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = turns.take().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
