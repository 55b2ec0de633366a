//! Where the crate's source, included here, finds `loom`'s locks and atomics.
//!
//! `loom` takes an operation of the order `SeqCst` for one that acquires and releases. So a `SeqCst` fence, which it knows,
//! stands before each; operations of weaker orders go through as they are.

use std::ops::{Deref, DerefMut};

use keepstone_types::lock_rank::LockRank;
use loom::sync::atomic::fence;

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use std::sync::OnceLock;

fn fence_before(order: Ordering) {
    if order == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
}

macro_rules! atomic_number {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "each number needs some of these")]
        impl $name {
            pub(crate) fn new(number: $number) -> Self {
                Self(loom::sync::atomic::$name::new(number))
            }

            pub(crate) fn load(&self, order: Ordering) -> $number {
                fence_before(order);
                self.0.load(order)
            }

            pub(crate) fn store(&self, number: $number, order: Ordering) {
                assert_ne!(order, Ordering::SeqCst, "one fence is not enough for such a store");
                self.0.store(number, order);
            }

            pub(crate) fn fetch_add(&self, number: $number, order: Ordering) -> $number {
                fence_before(order);
                self.0.fetch_add(number, order)
            }

            pub(crate) fn fetch_max(&self, number: $number, order: Ordering) -> $number {
                fence_before(order);
                self.0.fetch_max(number, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$number, $number> {
                fence_before(done);
                self.0.compare_exchange(from, to, done, failed)
            }
        }
    };
}

atomic_number!(AtomicU64, u64);
atomic_number!(AtomicUsize, usize);

pub(crate) use loom::sync::atomic::AtomicBool;

/// `loom`'s lock in the shape of the product's.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    pub(crate) fn new(_rank: LockRank, value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock().unwrap())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// All threads look at the same slot first, so that they come between each other.
pub(crate) fn thread_number() -> usize {
    0
}
