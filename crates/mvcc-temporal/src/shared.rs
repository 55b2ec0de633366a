//! What every handle of an open store shares: memory, catalog, counters, and whether the store is still open.

use std::path::{Path, PathBuf};

use keepstone_types::{Clock, StoreId, Version};

use crate::catalog::Catalog;
use crate::checkpoint::Alarm;
use crate::error::ReadError;
use crate::gate::{Gate, Pass, Turns};
use crate::ground::Ground;
use crate::layers::{Layers, Stack};
use crate::limits::{KEY_LEN_MAX, KEYS_OF_A_PAGE};
use crate::memtable::Memtable;
use crate::readers::{Readers, Registration};
use crate::stats::Counters;
use crate::sync::{Arc, AtomicU64, Ordering, thread};

/// The state of an open store, beside its log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) store_id: StoreId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stack: Stack,
    /// Who holds which version.
    pub(crate) readers: Arc<Readers>,
    pub(crate) catalog: Catalog,
    pub(crate) counters: Counters,
    /// Calls in progress; shut when the store closes.
    pub(crate) calls: Gate,
    pub(crate) turns: Turns,
    /// Wakes the thread that checkpoints.
    pub(crate) alarm: Arc<Alarm>,
    /// The newest version on stable storage, raw.
    pub(crate) durable: AtomicU64,
    /// The newest version given out, raw: a hint, read without the queue's lock.
    pub(crate) admitted: AtomicU64,
    pub(crate) next_txn: AtomicU64,
    /// The process that opened the store.
    pub(crate) opened_by: u32,
    pub(crate) read_only: bool,
    /// The most bytes of a key: an eighth of a page, for it must fit into the trees, and no more than [`KEY_LEN_MAX`].
    pub(crate) key_len_max: usize,
}

impl Shared {
    /// An empty store, opened by this process.
    pub(crate) fn new(dir: &Path, store_id: StoreId, clock: Arc<dyn Clock>, read_only: bool) -> Self {
        Self {
            dir: dir.to_path_buf(),
            store_id,
            clock,
            stack: Stack::new(Memtable::new(Version::ZERO)),
            readers: Arc::new(Readers::new(Version::ZERO)),
            catalog: Catalog::new(),
            counters: Counters::new(),
            calls: Gate::new(),
            turns: Turns::new(),
            alarm: Arc::new(Alarm::new()),
            durable: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            next_txn: AtomicU64::new(1),
            opened_by: std::process::id(),
            read_only,
            key_len_max: KEY_LEN_MAX,
        }
    }

    /// The same store on its page file: what is folded is visible, and so are the tables it has.
    pub(crate) fn on(mut self, ground: Ground) -> Self {
        let meta = *ground.meta();
        let active = Memtable::new(meta.through);
        let page_bytes = usize::try_from(ground.pages().page_size().bytes()).unwrap_or(usize::MAX);
        self.key_len_max = KEY_LEN_MAX.min(page_bytes / KEYS_OF_A_PAGE);
        self.readers = Arc::new(Readers::new(meta.floor));
        let ground = Some(Arc::new(ground));
        self.stack.replace(|_nothing| Layers::new(vec![Arc::new(active)], ground));
        self
    }

    /// Counts a call in progress, until the pass is dropped.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, ReadError> {
        self.calls.enter().ok_or(ReadError::Closed)
    }

    /// Fails when the store was closed.
    pub(crate) fn must_be_open(&self) -> Result<(), ReadError> {
        if self.calls.is_shut() { Err(ReadError::Closed) } else { Ok(()) }
    }

    /// Fails in a child of the process that opened the store.
    pub(crate) fn must_be_same_process(&self) -> Result<(), ReadError> {
        let here = std::process::id();
        if here == self.opened_by {
            return Ok(());
        }
        Err(ReadError::Forked { opened_by: self.opened_by, here })
    }

    pub(crate) fn visible(&self) -> Version {
        self.stack.visible()
    }

    /// The newest durable version, never past the visible one, which follows it.
    pub(crate) fn durable(&self) -> Version {
        let durable = Version::from_raw(self.durable.load(Ordering::Acquire));
        durable.min(self.visible())
    }

    /// Holds the newest visible version.
    pub(crate) fn hold_newest(&self) -> Result<Arc<Registration>, ReadError> {
        loop {
            let newest = self.visible();
            if let Some(held) = self.readers.register(newest, self.clock.monotonic()) {
                return Ok(Arc::new(held));
            }
            // The floor passes a visible version only when a newer one is visible.
            if self.readers.floor() <= newest {
                return Err(ReadError::TooManyReaders);
            }
        }
    }

    /// Holds a version that everybody may read, or that is promised to stay: by a name, or by a branch. Who prunes looks at
    /// the slots first and at the promises afterwards: a version whose promise was found while that goes on may have lost
    /// it before the second look, and was not held yet at the first. So it is looked for again.
    pub(crate) fn hold_promised(
        &self,
        version: Version,
        is_promised: impl Fn() -> Result<bool, ReadError>,
    ) -> Result<Registration, ReadError> {
        loop {
            let before = self.readers.collections();
            let now = self.clock.monotonic();
            let held = self.readers.hold(version, now).ok_or(ReadError::TooManyReaders)?;
            let oldest = self.readers.floor();
            if version >= oldest {
                return Ok(held);
            }
            if !is_promised()? {
                return Err(ReadError::HistoryGone { asked: version, oldest });
            }
            if before.is_multiple_of(2) && self.readers.collections() == before {
                return Ok(held);
            }
            drop(held);
            thread::yield_now();
        }
    }

    /// Holds a version that must have been made, be visible and be retained.
    pub(crate) fn hold(&self, version: Version) -> Result<Arc<Registration>, ReadError> {
        let newest = self.visible();
        if version > newest {
            return Err(ReadError::VersionInFuture { asked: version, newest });
        }
        let held = self.hold_promised(version, || crate::names::is_promised(self, version))?;
        let nearest = self.stack.with(|layers| layers.commit_at_or_below(version))?;
        let nearest = nearest.map_or(Version::ZERO, |commit| commit.version);
        if version != nearest {
            return Err(ReadError::UnknownVersion { asked: version, nearest });
        }
        Ok(Arc::new(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_after_fork_is_told_so() {
        let clock = Arc::new(keepstone_types::ManualClock::default());
        let mut shared = Shared::new(Path::new("/s"), StoreId::from_bytes([0; 16]), clock, false);
        assert_eq!(shared.must_be_same_process(), Ok(()));
        let here = shared.opened_by;
        shared.opened_by = here.wrapping_add(1);
        let expected = ReadError::Forked { opened_by: here.wrapping_add(1), here };
        assert_eq!(shared.must_be_same_process(), Err(expected));
    }
}
