//! Where this crate's locks, atomics and threads come from.

use std::thread;

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

/// Does two things at once: the first here, the second on a thread of its own, or after the first where none is to be had.
pub(crate) fn beside<A, B: Send>(here: impl FnOnce() -> A, there: impl Fn() -> B + Sync) -> (A, B) {
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("keepstone-pages".to_owned()).spawn_scoped(scope, &there);
        let done = here();
        let beside = match spawned.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(beside)) => beside,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => there(),
        };
        (done, beside)
    })
}
