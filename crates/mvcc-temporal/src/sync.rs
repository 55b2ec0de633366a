//! Where this crate's locks, atomics, published pointers and skip lists come from; a model checker replaces them here.

pub(crate) use std::sync::OnceLock as SlotOnce;

pub(crate) use arc_swap::ArcSwap;
pub(crate) use crossbeam_skiplist::SkipMap;
pub(crate) use crossbeam_skiplist::map::Entry as SkipEntry;
pub(crate) use keepstone_types::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use keepstone_types::sync::{Arc, Condvar, Mutex, MutexGuard};
