//! Where the gate's source, included here, finds its locks.

pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use keepstone_types::sync::model::thread_number;
pub(crate) use keepstone_types::sync::{Condvar, Mutex, MutexGuard, thread};
