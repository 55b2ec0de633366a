//! The product's locks: `parking_lot` with a rank, checked under the feature `checks`.
//!
//! Invariant: a thread takes locks in strictly ascending rank. Releasing may happen in any order. A panicking holder
//! does not poison the lock; whoever guards data that a panic can leave half changed says so beside it and repairs it
//! in a drop guard.
//!
//! A crate with atomics, locks or threads reaches them through its own `sync.rs`, which takes them from here; under the
//! feature `model` a model checker replaces them in this one place.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::lock_rank::LockRank;

#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "model")]
use model as unranked;
#[cfg(not(feature = "model"))]
use parking_lot as unranked;

pub use std::sync::Arc;
/// Numbers that nothing is decided by, and those that are written before others can come to them: never a place where a
/// model checker changes threads.
pub use std::sync::atomic::{AtomicU32 as CountU32, AtomicU64 as CountU64};
#[cfg(not(feature = "model"))]
pub use std::sync::{OnceLock, atomic};
#[cfg(not(feature = "model"))]
pub use std::thread;

#[cfg(feature = "model")]
pub use model::{OnceLock, atomic, thread};

/// A lock around what no change of threads can come between: what models keep their own state in.
#[cfg(feature = "model")]
#[expect(clippy::disallowed_types, reason = "it is never waited for")]
type Unswitched<T> = parking_lot::Mutex<T>;

#[cfg(all(feature = "checks", not(feature = "model")))]
mod held {
    //! The ranks this thread holds.
    use std::cell::RefCell;

    use crate::lock_rank::LockRank;

    thread_local! {
        static HELD: RefCell<Vec<LockRank>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn with<T>(act: impl FnOnce(&mut Vec<LockRank>) -> T) -> T {
        HELD.with_borrow_mut(act)
    }
}

#[cfg(all(feature = "checks", feature = "model"))]
use model::held;

#[cfg(feature = "checks")]
mod order {
    //! Ranks are taken in ascending order.
    use super::held;
    use crate::lock_rank::LockRank;

    #[expect(
        clippy::panic,
        reason = "a wrong lock order is a defect of the product, found in checked builds only"
    )]
    pub(super) fn enter(rank: LockRank) {
        let highest = held::with(|held| held.iter().copied().max_by_key(|held| held.rank()));
        if let Some(highest) = highest.filter(|highest| highest.rank() >= rank.rank()) {
            panic!(
                "lock order: `{}` (rank {}) must not be taken while `{}` (rank {}) is held",
                rank.name(),
                rank.rank(),
                highest.name(),
                highest.rank()
            );
        }
        held::with(|held| held.push(rank));
    }

    pub(super) fn leave(rank: LockRank) {
        held::with(|held| {
            if let Some(place) = held.iter().rposition(|entry| *entry == rank) {
                held.remove(place);
            }
        });
    }
}

#[cfg(not(feature = "checks"))]
mod order {
    //! Nothing is recorded in an unchecked build.
    use crate::lock_rank::LockRank;

    pub(super) const fn enter(_rank: LockRank) {}
    pub(super) const fn leave(_rank: LockRank) {}
}

/// Remembers that a rank is held, until dropped.
#[derive(Debug)]
struct Held(LockRank);

impl Held {
    fn enter(rank: LockRank) -> Self {
        order::enter(rank);
        Self(rank)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        order::leave(self.0);
    }
}

/// A mutual exclusion lock with a rank.
#[derive(Debug)]
#[cfg_attr(not(feature = "model"), expect(clippy::disallowed_types, reason = "this is the ranked wrapper"))]
pub struct Mutex<T: ?Sized> {
    rank: LockRank,
    inner: unranked::Mutex<T>,
}

/// Holds a [`Mutex`] until dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    inner: unranked::MutexGuard<'a, T>,
    _held: Held,
}

#[cfg_attr(not(feature = "model"), expect(clippy::disallowed_types, reason = "this is the ranked wrapper"))]
impl<T> Mutex<T> {
    /// A lock of the given rank around `value`.
    pub const fn new(rank: LockRank, value: T) -> Self {
        Self { rank, inner: unranked::Mutex::new(value) }
    }

    /// The value, when nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it.
    ///
    /// # Panics
    /// In builds with the feature `checks`, when a lock of the same or a higher rank is held.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::enter(self.rank);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }

    /// Takes the lock if it is free.
    ///
    /// # Panics
    /// As [`lock`](Mutex::lock).
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = Held::enter(self.rank);
        Some(MutexGuard { inner: self.inner.try_lock()?, _held: held })
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock of many readers or one writer, with a rank.
#[derive(Debug)]
#[cfg_attr(not(feature = "model"), expect(clippy::disallowed_types, reason = "this is the ranked wrapper"))]
pub struct RwLock<T: ?Sized> {
    rank: LockRank,
    inner: unranked::RwLock<T>,
}

/// Holds a [`RwLock`] for reading until dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    inner: unranked::RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Holds a [`RwLock`] for writing until dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    inner: unranked::RwLockWriteGuard<'a, T>,
    _held: Held,
}

#[cfg_attr(not(feature = "model"), expect(clippy::disallowed_types, reason = "this is the ranked wrapper"))]
impl<T> RwLock<T> {
    /// A lock of the given rank around `value`.
    pub const fn new(rank: LockRank, value: T) -> Self {
        Self { rank, inner: unranked::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer holds the lock and takes it for reading.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let held = Held::enter(self.rank);
        RwLockReadGuard { inner: self.inner.read(), _held: held }
    }

    /// Waits until nobody holds the lock and takes it for writing.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let held = Held::enter(self.rank);
        RwLockWriteGuard { inner: self.inner.write(), _held: held }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A condition that holders of a [`Mutex`] wait for.
#[derive(Debug, Default)]
#[cfg_attr(
    not(feature = "model"),
    expect(clippy::disallowed_types, reason = "this is the wrapper that fits the ranked mutex")
)]
pub struct Condvar {
    inner: unranked::Condvar,
}

#[cfg_attr(
    not(feature = "model"),
    expect(clippy::disallowed_types, reason = "this is the wrapper that fits the ranked mutex")
)]
impl Condvar {
    /// A condition nobody waits for yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { inner: unranked::Condvar::new() }
    }

    /// Releases the lock, waits to be woken, and takes the lock again. May wake without reason.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.inner.wait(&mut guard.inner);
    }

    /// As [`wait`](Condvar::wait), for at most `timeout`; true when the time ran out.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        self.inner.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one waiter; true when there was one.
    pub fn notify_one(&self) -> bool {
        self.inner.notify_one()
    }

    /// Wakes all waiters and says how many.
    pub fn notify_all(&self) -> usize {
        self.inner.notify_all()
    }
}

#[cfg(all(test, feature = "checks", not(feature = "model")))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::lock_rank::{TEST_INNER, TEST_OUTER};

    fn panics(action: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(action)).is_err()
    }

    #[test]
    fn ascending_is_fine_and_descending_panics() {
        let outer = Mutex::new(TEST_OUTER, 1);
        let inner = RwLock::new(TEST_INNER, 2);
        {
            let first = outer.lock();
            let second = inner.read();
            assert_eq!(*first + *second, 3);
        }
        assert!(panics(|| {
            let _second = inner.write();
            let _first = outer.lock();
        }));
        // The panic released everything: the legal order works again.
        let _first = outer.lock();
        let _second = inner.read();
    }

    #[test]
    fn the_same_rank_twice_panics() {
        let one = Mutex::new(TEST_OUTER, ());
        let two = Mutex::new(TEST_OUTER, ());
        let _one = one.lock();
        assert!(panics(|| drop(two.lock())));
        assert!(panics(|| drop(two.try_lock())));
    }

    #[test]
    fn a_panicking_holder_leaves_the_value_usable() {
        let lock = Mutex::new(TEST_OUTER, 7);
        assert!(panics(|| {
            let mut value = lock.lock();
            *value = 8;
            panic!("on purpose");
        }));
        assert_eq!(*lock.lock(), 8);
    }
}
