//! Where this crate's locks and atomics come from; a model checker replaces them here.

pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use keepstone_types::sync::{Mutex, OnceLock};

#[cfg(feature = "model")]
pub(crate) use keepstone_types::sync::model::thread_number;

/// A small number for the calling thread.
#[cfg(not(feature = "model"))]
#[inline]
pub(crate) fn thread_number() -> usize {
    use std::cell::Cell;

    /// A thread that has no number yet.
    const NONE: usize = usize::MAX;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(NONE) };
    }
    MINE.with(|mine| {
        if mine.get() == NONE {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}
