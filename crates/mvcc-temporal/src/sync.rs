//! Where this crate's locks, atomics, published pointers and threads come from; a model checker replaces them
//! here.

#[cfg(feature = "model")]
mod model;

pub(crate) use keepstone_types::sync::OnceLock as SlotOnce;
pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use keepstone_types::sync::{Arc, Condvar, CountU32, CountU64, Mutex, MutexGuard, thread};
pub(crate) use std::sync::Weak;

#[cfg(not(feature = "model"))]
pub(crate) use arc_swap::ArcSwap;

#[cfg(feature = "model")]
pub(crate) use keepstone_types::sync::model::thread_number;
#[cfg(feature = "model")]
pub(crate) use model::ArcSwap;

/// A small number for the calling thread.
#[cfg(not(feature = "model"))]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.try_with(|mine| *mine).unwrap_or(0)
}
