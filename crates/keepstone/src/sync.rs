//! Where this crate's locks and atomics come from; a model checker replaces them here.

pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use keepstone_types::sync::{Arc, Condvar, Mutex, RwLock};
