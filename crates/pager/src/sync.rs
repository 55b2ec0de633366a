//! Where this crate's locks and atomics come from.

pub(crate) use keepstone_types::sync::atomic::{AtomicBool, Ordering};
pub(crate) use keepstone_types::sync::{Arc, CountU64, Mutex};

/// A small number for the calling thread. Not of a model's atomics: nothing is decided by it.
pub(crate) fn thread_number() -> usize {
    static NEXT: CountU64 = CountU64::new(0);
    thread_local! {
        static MINE: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.try_with(|mine| usize::try_from(*mine).unwrap_or(0)).unwrap_or(0)
}
