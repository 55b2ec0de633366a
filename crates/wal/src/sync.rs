//! Where this crate's locks, atomics and threads come from; a model checker replaces them here.

pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use keepstone_types::sync::{Arc, Condvar, CountU64, Mutex, MutexGuard, OnceLock, thread};
