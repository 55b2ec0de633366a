//! The tests of `keepstone` from outside, one module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod addresses;
mod branches;
mod collections;
mod damage;
mod heals;
mod links;
mod maintenance;
mod model;
mod observing;
mod page_damage;
mod retention;
mod settings;
mod torn;
mod transactions;
mod versions;

use std::path::Path;
use std::sync::Arc;

use keepstone::{Clock, ManualClock, MemoryVfs, OpenError, Store, StoreOptions, SystemClock, Timestamp};

/// A disk in memory with a clock, on which a store can be opened again and again.
struct Disk {
    vfs: Arc<MemoryVfs>,
    clock: Arc<dyn Clock>,
}

impl Disk {
    /// A disk with the system's clock.
    fn new() -> Self {
        Self { vfs: Arc::new(MemoryVfs::new()), clock: Arc::new(SystemClock::default()) }
    }

    /// A disk with a clock that stands still until told otherwise.
    fn with_manual_clock() -> (Self, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_700_000_000_000_000)));
        (Self { vfs: Arc::new(MemoryVfs::new()), clock: Arc::clone(&clock) as Arc<dyn Clock> }, clock)
    }

    fn open(&self) -> Store {
        self.open_as(&StoreOptions::default()).unwrap()
    }

    fn open_as(&self, options: &StoreOptions) -> Result<Store, OpenError> {
        self.open_in("/store", options)
    }

    fn open_in(&self, dir: &str, options: &StoreOptions) -> Result<Store, OpenError> {
        let vfs = Arc::clone(&self.vfs);
        options.open_with(vfs, Arc::clone(&self.clock), Path::new(dir))
    }
}

/// A store in memory for a test that opens it once.
fn store() -> Store {
    Disk::new().open()
}

/// Holds that a check finds nothing.
fn assert_sound(store: &Store) {
    let report = store.check().unwrap();
    assert!(report.is_sound() && report.findings.is_empty(), "{:#?}", report.findings);
}
