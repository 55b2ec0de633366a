//! Locks, atomics and threads under a model checker: `shuttle` runs all threads of a test as coroutines of one thread
//! and chooses, before every operation here, which of them goes on.
//!
//! What is modelled: every order of these operations; timed waits that run out early, late, or only when nothing else
//! can happen; waits that end without reason; the choice of whom [`Condvar::notify_one`] wakes.
//!
//! What is left out: weaker memory orders (every atomic is sequentially consistent), [`Arc`](super::Arc)'s counts,
//! fairness, and time but for the [`ManualClock`] of a test, which a wait that runs out moves to its end.
//!
//! The types have the shape of `parking_lot`'s, so that `sync.rs` wraps the ones or the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};
use shuttle::rand::RngCore;
use shuttle::scheduler::TaskId;

use super::{Arc, Unswitched};
use crate::time::{Clock, ManualClock};

mod explore;
pub mod thread;

pub use explore::{Caught, catch, check, replay};
pub use shuttle::sync::atomic;

/// One in so many waits ends without reason.
const SPURIOUS_ONE_IN: u64 = 64;

thread_local! {
    /// Tasks in a timed wait that nobody has ended, and when their time runs out.
    static TIMED: RefCell<BTreeMap<usize, Duration>> = const { RefCell::new(BTreeMap::new()) };
    /// The clock that waits move.
    static CLOCK: RefCell<Option<Arc<ManualClock>>> = const { RefCell::new(None) };
    /// The notification that is swallowed, counted from now on; 0: none.
    static SWALLOWED: Cell<u64> = const { Cell::new(0) };
}

/// Forgets what the execution before left.
fn begin_execution() {
    TIMED.with_borrow_mut(BTreeMap::clear);
    CLOCK.set(None);
    SWALLOWED.set(0);
    #[cfg(feature = "checks")]
    held::clear();
}

/// Has timed waits of this execution move `clock` when they run out.
pub fn drive(clock: &Arc<ManualClock>) {
    CLOCK.set(Some(Arc::clone(clock)));
}

/// Has one notification of this execution wake nobody: the `number`th from now on. What a model of a hand-off must catch.
pub fn swallow_notification(number: u64) {
    SWALLOWED.set(number);
}

/// A number below `bound` that the checker chooses, and chooses again when a schedule is replayed.
#[must_use]
pub fn choose(bound: u64) -> u64 {
    shuttle::rand::thread_rng().next_u64().checked_rem(bound).unwrap_or(0)
}

/// A place where the checker may change threads.
pub fn switch() {
    thread::sleep(Duration::ZERO);
}

/// A small number for the calling thread.
#[must_use]
pub fn thread_number() -> usize {
    usize::from(shuttle::current::me())
}

fn monotonic() -> Duration {
    CLOCK.with_borrow(|clock| clock.as_ref().map_or(Duration::ZERO, |clock| clock.monotonic()))
}

fn advance_to(moment: Duration) {
    CLOCK.with_borrow(|clock| {
        if let Some(clock) = clock {
            clock.advance(moment.saturating_sub(clock.monotonic()));
        }
    });
}

#[cfg(feature = "checks")]
pub(super) mod held {
    //! The ranks that each task holds: all tasks run on one thread.
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use crate::lock_rank::LockRank;

    thread_local! {
        static HELD: RefCell<BTreeMap<Option<usize>, Vec<LockRank>>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(in crate::sync) fn with<T>(act: impl FnOnce(&mut Vec<LockRank>) -> T) -> T {
        let task = shuttle::current::try_get_current_task().map(usize::from);
        HELD.with_borrow_mut(|held| act(held.entry(task).or_default()))
    }

    pub(super) fn clear() {
        HELD.with_borrow_mut(BTreeMap::clear);
    }
}

/// A value that is looked at and changed in one step: what a lock-free structure is modelled with.
#[derive(Debug, Default)]
pub struct OneStep<T>(Unswitched<T>);

impl<T> OneStep<T> {
    /// A value.
    pub const fn new(value: T) -> Self {
        Self(Unswitched::new(value))
    }

    /// Does something with the value, which must not switch threads, after the checker had the chance to.
    pub fn step<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        switch();
        self.peek(act)
    }

    /// As [`step`](OneStep::step), without the chance.
    pub fn peek<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock())
    }
}

/// [`std::sync::OnceLock`]; what is initialised is so in one step.
#[derive(Debug)]
pub struct OnceLock<T>(std::sync::OnceLock<T>);

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        switch();
        self.0.get()
    }

    /// Sets the value, if there is none.
    ///
    /// # Errors
    /// The value given, when there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        switch();
        self.0.set(value)
    }

    /// The value, made by `make` if there is none; `make` must not switch threads.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        switch();
        self.0.get_or_init(make)
    }
}

/// A lock that a panicking holder does not poison.
#[derive(Debug)]
pub(super) struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

/// Holds a [`Mutex`]; nothing while its holder waits for a condition.
#[derive(Debug)]
pub(super) struct MutexGuard<'a, T: ?Sized> {
    of: &'a Mutex<T>,
    inner: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    #[track_caller]
    pub(super) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    fn lock_inner(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { of: self, inner: Some(self.lock_inner()) }
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        use shuttle::sync::TryLockError;
        let inner = match self.0.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { of: self, inner: Some(inner) })
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "the guard is borrowed as long as its holder waits")]
    fn deref(&self) -> &T {
        self.inner.as_ref().expect("the lock is held")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[expect(clippy::expect_used, reason = "the guard is borrowed as long as its holder waits")]
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("the lock is held")
    }
}

/// A lock of many readers or one writer that a panicking holder does not poison.
#[derive(Debug)]
pub(super) struct RwLock<T: ?Sized>(shuttle::sync::RwLock<T>);

macro_rules! rw_guards {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name<'a, T: ?Sized>(shuttle::sync::$name<'a, T>);

            impl<T: ?Sized> fmt::Debug for $name<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name)).finish_non_exhaustive()
                }
            }

            impl<T: ?Sized> Deref for $name<'_, T> {
                type Target = T;

                fn deref(&self) -> &T {
                    &self.0
                }
            }
        )*
    };
}

rw_guards! {
    /// Holds a [`RwLock`] for reading.
    RwLockReadGuard,
    /// Holds a [`RwLock`] for writing.
    RwLockWriteGuard,
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> RwLock<T> {
    #[track_caller]
    pub(super) const fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard(self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard(self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// One thread in a wait.
struct Waiter {
    task: TaskId,
    woken: AtomicBool,
    /// What a wait without end blocks on; a timed one stays runnable and is held back by the scheduler.
    bell: Option<BatchSemaphore>,
}

/// A condition.
#[derive(Default)]
pub(super) struct Condvar {
    waiters: Unswitched<Vec<Arc<Waiter>>>,
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// How a timed wait ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(super) const fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(super) const fn new() -> Self {
        Self { waiters: Unswitched::new(Vec::new()) }
    }

    fn enlist(&self, bell: Option<BatchSemaphore>) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter { task: shuttle::current::me(), woken: AtomicBool::new(false), bell });
        self.waiters.lock().push(Arc::clone(&waiter));
        waiter
    }

    fn delist(&self, waiter: &Arc<Waiter>) {
        self.waiters.lock().retain(|other| !Arc::ptr_eq(other, waiter));
    }

    pub(super) fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        if choose(SPURIOUS_ONE_IN) == 0 {
            drop(guard.inner.take());
        } else {
            let waiter = self.enlist(Some(BatchSemaphore::new(0, Fairness::Unfair)));
            drop(guard.inner.take());
            if let Some(bell) = &waiter.bell {
                bell.acquire_blocking(1).unwrap_or_default();
            }
            self.delist(&waiter);
        }
        guard.inner = Some(guard.of.lock_inner());
    }

    pub(super) fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        let deadline = monotonic().saturating_add(timeout);
        let waiter = self.enlist(None);
        let task = usize::from(waiter.task);
        drop(guard.inner.take());
        if !waiter.woken.load(Ordering::Relaxed) {
            TIMED.with_borrow_mut(|timed| timed.insert(task, deadline));
            thread::yield_now();
            TIMED.with_borrow_mut(|timed| timed.remove(&task));
        }
        let timed_out = !waiter.woken.load(Ordering::Relaxed);
        if timed_out {
            self.delist(&waiter);
            advance_to(deadline);
        }
        guard.inner = Some(guard.of.lock_inner());
        WaitTimeoutResult(timed_out)
    }

    fn wake(waiter: &Waiter) {
        waiter.woken.store(true, Ordering::Relaxed);
        TIMED.with_borrow_mut(|timed| timed.remove(&usize::from(waiter.task)));
        if let Some(bell) = &waiter.bell {
            bell.release(1);
        }
    }

    /// Whether this notification is the one that is swallowed.
    fn is_swallowed() -> bool {
        let number = SWALLOWED.get();
        SWALLOWED.set(number.saturating_sub(1));
        number == 1
    }

    pub(super) fn notify_one(&self) -> bool {
        switch();
        if self.waiters.lock().is_empty() || Self::is_swallowed() {
            return false;
        }
        let count = self.waiters.lock().len();
        let chosen = if count > 1 { choose(u64::try_from(count).unwrap_or(1)) } else { 0 };
        let waiter = self.waiters.lock().swap_remove(usize::try_from(chosen).unwrap_or(0));
        Self::wake(&waiter);
        true
    }

    pub(super) fn notify_all(&self) -> usize {
        switch();
        if self.waiters.lock().is_empty() || Self::is_swallowed() {
            return 0;
        }
        let woken = std::mem::take(&mut *self.waiters.lock());
        woken.iter().for_each(|waiter| Self::wake(waiter));
        woken.len()
    }
}
