//! A store in a world of its own, made anew for every schedule.

use std::path::Path;

use keepstone_mvcc_temporal::{Database, DatabaseOptions, LogOptions, Retention, Tending};
use keepstone_types::ManualClock;
use keepstone_types::sync::Arc;
use keepstone_types::sync::model::{drive, thread};
use keepstone_vfs::MemoryVfs;

pub(crate) const T: &str = "t";

/// A store, its disk and its clock.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) memory: MemoryVfs,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn options(tending: Tending) -> DatabaseOptions {
    let log = LogOptions::default().segment_bytes_min(128 << 10).segment_bytes_max(128 << 10);
    DatabaseOptions::default().log(log.sector_size(512).tending(tending)).window_bytes_max(64 << 10)
}

fn open(memory: &MemoryVfs, clock: &Arc<ManualClock>, options: DatabaseOptions) -> Database {
    let (disk, time) = (Arc::new(memory.clone()), Arc::clone(clock));
    Database::open_with(disk, time, Path::new("/store"), options).unwrap()
}

impl World {
    pub(crate) fn new(tending: Tending) -> Self {
        Self::with(options(tending))
    }

    /// A store that keeps older versions for so long.
    pub(crate) fn keeping(retention: Retention) -> Self {
        Self::with(options(Tending::Caller).retention(retention))
    }

    fn with(options: DatabaseOptions) -> Self {
        let (memory, clock) = (MemoryVfs::new(), Arc::new(ManualClock::default()));
        drive(&clock);
        let database = open(&memory, &clock, options);
        Self { database, memory, clock }
    }

    /// Opens the store again.
    pub(crate) fn open_again(&self) -> Database {
        open(&self.memory, &self.clock, options(Tending::Caller))
    }

    /// Runs `act` on a thread of its own.
    pub(crate) fn spawn<R: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> R + Send + 'static,
    ) -> thread::TestHandle<R> {
        let world = self.clone();
        thread::spawn(move || act(&world))
    }
}
