//! A disk and a layer above that write down what the log does to them, and judge it.
//!
//! Both note what is wrong instead of panicking: a panic would be the log's to handle.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use keepstone_types::sync::Arc;
use keepstone_types::sync::model::{OneStep, swallow_notification, switch, thread};
use keepstone_types::{Lsn, ManualClock};
use keepstone_vfs::{
    DirEntry, IoError, IoOperation, LockError, MemoryVfs, OpenOptions, Vfs, VfsFile, VfsLock, Volume,
};
use keepstone_wal::LogSink;

/// What a sync takes on a slow disk: long enough for a leader to wait for company.
const SYNC_TIME: Duration = Duration::from_millis(1);

/// What is known of the log, from below and from above.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Writes to segments, and how many of them a sync that returned began after.
    writes: u64,
    synced: u64,
    /// Writes that a failed sync dropped.
    lost: Range<u64>,
    /// Records that may be published and not be synced.
    pub(crate) lag_max: u64,
    /// The last record admitted, applied, published, called durable.
    admitted: u64,
    applied: u64,
    published: u64,
    durable: u64,
    /// Items in the order of their records, from the first on, and the write that brought each.
    items: Vec<(u64, u64)>,
    /// Somebody is in `apply` or `publish`.
    inside: bool,
    wrong: Vec<String>,
}

/// A step of the log that goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Syncs of segments fail.
    Sync,
    /// The keeper's next sync of a segment fails, and drops what was written since the last good one.
    KeeperSync,
    /// Syncs return and have done nothing.
    SyncDoesNothing,
    /// The layer above panics when it admits, applies or publishes this item.
    Admit(u64),
    Apply(u64),
    Publish(u64),
    /// Syncs of segments fail, and the layer above panics when it revokes this item.
    SyncAndRevoke(u64),
}

/// What the disk and the layer above share.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) seen: OneStep<Seen>,
    fault: OneStep<Fault>,
    swallows: OneStep<bool>,
}

impl Seen {
    fn hold(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// Whether what carried a record was synced.
    fn is_synced(&self, lsn: u64) -> bool {
        let place = usize::try_from(lsn).unwrap().checked_sub(1);
        let reached = |write: &u64| *write < self.synced && !self.lost.contains(write);
        place.is_none_or(|place| self.items.get(place).is_some_and(|(_, write)| reached(write)))
    }

    /// The item of a record that was applied.
    pub(crate) fn item_at(&self, lsn: u64) -> Option<u64> {
        self.items.get(usize::try_from(lsn).unwrap().checked_sub(1)?).map(|(item, _)| *item)
    }

    pub(crate) fn was_applied(&self, item: u64) -> bool {
        self.items.iter().any(|(applied, _)| *applied == item)
    }

    /// Whether a record is published, and called durable unless it may lag.
    pub(crate) fn is_kept(&self, lsn: u64) -> bool {
        self.published >= lsn && self.durable.saturating_add(self.lag_max) >= lsn
    }
}

impl Witness {
    pub(crate) fn fail(&self, fault: Fault) {
        self.fault.peek(|now| *now = fault);
    }

    fn fault(&self) -> Fault {
        self.fault.peek(|fault| *fault)
    }

    /// The first who would be woken after a panic is not: what a leader without a drop guard comes to.
    pub(crate) fn swallow_at_panic(&self) {
        self.swallows.peek(|swallows| *swallows = true);
    }

    /// Panics without a message on the terminal: ten thousand schedules would print ten thousand.
    fn panic_quietly(&self) -> ! {
        if self.swallows.peek(|swallows| *swallows) {
            swallow_notification(1);
        }
        std::panic::resume_unwind(Box::new("on purpose"))
    }

    /// Notes something wrong that a test saw.
    pub(crate) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        self.seen.peek(|seen| seen.hold(holds, what));
    }

    /// Panics when anything was wrong.
    pub(crate) fn judge(&self) {
        let wrong = self.seen.peek(|seen| std::mem::take(&mut seen.wrong));
        assert!(wrong.is_empty(), "{}", wrong.join("; "));
    }
}

impl LogSink for Witness {
    /// Items admitted and not revoked.
    type Admission = Vec<u64>;
    type Item = u64;
    type Refusal = std::convert::Infallible;

    fn admit(
        &self,
        admission: &mut Vec<u64>,
        lsn: Lsn,
        _head: &mut [u8],
        item: &mut u64,
    ) -> Result<(), Self::Refusal> {
        if self.fault() == Fault::Admit(*item) {
            self.panic_quietly();
        }
        admission.push(*item);
        self.seen.step(|seen| {
            let expected = seen.admitted + 1;
            seen.hold(lsn.get() == expected, || format!("{lsn} is admitted, not {expected}"));
            seen.admitted = lsn.get();
        });
        Ok(())
    }

    fn apply(&self, lsn: Lsn, item: u64) {
        self.seen.step(|seen| {
            let expected = seen.applied + 1;
            seen.hold(lsn.get() == expected, || format!("{lsn} is applied, not {expected}"));
            seen.hold(!seen.inside, || format!("{lsn} is applied while another is, or is published"));
            (seen.inside, seen.applied) = (true, lsn.get());
            let write = seen.writes;
            seen.items.push((item, write));
        });
        if self.fault() == Fault::Apply(item) {
            self.panic_quietly();
        }
        self.seen.step(|seen| seen.inside = false);
    }

    fn publish(&self, lsn: Lsn) {
        self.seen.step(|seen| {
            seen.hold(lsn.get() <= seen.applied, || format!("{lsn} is published and not applied"));
            seen.hold(lsn.get() >= seen.published, || format!("{lsn} is published after a later one"));
            let first = lsn.get().saturating_sub(seen.lag_max);
            seen.hold(seen.is_synced(first), || format!("{lsn} is published before {first} is synced"));
            seen.hold(!seen.inside, || format!("{lsn} is published while another is applied"));
            seen.inside = true;
        });
        let item = self.seen.peek(|seen| seen.item_at(lsn.get()));
        if item.is_some_and(|item| self.fault() == Fault::Publish(item)) {
            self.panic_quietly();
        }
        self.seen.step(|seen| (seen.inside, seen.published) = (false, lsn.get()));
    }

    fn durable(&self, lsn: Lsn) {
        self.seen.step(|seen| {
            seen.hold(seen.is_synced(lsn.get()), || format!("{lsn} is called durable and not synced"));
            seen.hold(lsn.get() >= seen.durable, || format!("{lsn} is called durable after a later one"));
            seen.durable = lsn.get();
        });
    }

    fn revoke(&self, admission: &mut Vec<u64>, item: u64) {
        if self.fault() == Fault::SyncAndRevoke(item) {
            self.panic_quietly();
        }
        let newest = admission.pop();
        self.seen.step(|seen| {
            seen.hold(newest == Some(item), || format!("{item} is revoked before {newest:?}"));
            seen.admitted -= 1;
        });
    }
}

/// A disk in memory, watched.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) memory: MemoryVfs,
    pub(crate) witness: Arc<Witness>,
    /// What a sync moves, if time is to pass.
    pub(crate) slow: Option<Arc<ManualClock>>,
}

#[derive(Debug)]
struct File {
    inner: Arc<dyn VfsFile>,
    witness: Arc<Witness>,
    slow: Option<Arc<ManualClock>>,
    is_segment: bool,
}

impl Vfs for Disk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn VfsFile>, IoError> {
        let is_segment = path.extension().is_some_and(|extension| extension == "wal");
        let inner = self.memory.open(path, options)?;
        let (witness, slow) = (Arc::clone(&self.witness), self.slow.clone());
        Ok(Arc::new(File { inner, witness, slow, is_segment }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.memory.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.memory.list(dir)
    }

    fn create_dir(&self, path: &Path) -> Result<(), IoError> {
        self.memory.create_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.memory.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, LockError> {
        self.memory.lock(path, holder)
    }

    fn volume(&self, path: &Path) -> Result<Volume, IoError> {
        self.memory.volume(path)
    }
}

impl VfsFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, IoError> {
        let written = self.inner.write_at(buf, offset)?;
        if self.is_segment {
            self.witness.seen.peek(|seen| seen.writes += 1);
        }
        Ok(written)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        if !self.is_segment {
            return self.inner.sync_data();
        }
        let began = self.witness.seen.step(|seen| seen.writes);
        let fault = self.witness.fault();
        let is_keeper = || thread::current().name() == Some("keepstone-log");
        if fault == Fault::KeeperSync && is_keeper() {
            self.witness.fail(Fault::None);
            self.witness.seen.peek(|seen| seen.lost = seen.synced..seen.writes);
            return Err(IoError::new(IoOperation::Sync, self.path(), io::ErrorKind::Other.into()));
        }
        if matches!(fault, Fault::Sync | Fault::SyncAndRevoke(_)) {
            return Err(IoError::new(IoOperation::Sync, self.path(), io::ErrorKind::Other.into()));
        }
        if fault == Fault::SyncDoesNothing {
            return Ok(());
        }
        switch();
        if let Some(clock) = &self.slow {
            clock.advance(SYNC_TIME);
        }
        self.witness.seen.peek(|seen| seen.synced = seen.synced.max(began));
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync_data()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.inner.set_len(len)
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}
