//! A log in a world of its own, made anew for every schedule.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use keepstone_types::sync::Arc;
use keepstone_types::sync::model::{drive, thread};
use keepstone_types::{CodecId, Lsn, ManualClock, StoreId};
use keepstone_vfs::MemoryVfs;
use keepstone_wal::{CommitError, Log, LogOptions, Record, RecordKind, RecoveryReport, Replayed, Tending};

use crate::witness::{Disk, Fault, Witness};

pub(crate) type Outcome = Result<Lsn, CommitError<Infallible>>;

/// A log, what watches it, and its clock.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) log: Log<Witness>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) clock: Arc<ManualClock>,
    memory: MemoryVfs,
}

/// Small segments, one store id; the log's own thread tends it.
pub(crate) fn options() -> LogOptions {
    LogOptions::default()
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(128 << 10)
        .sector_size(512)
        .store_id(Some(StoreId::from_bytes([7; 16])))
}

/// No thread of the log's own: what is left are the committers.
pub(crate) fn without_keeper() -> LogOptions {
    options().tending(Tending::Caller)
}

impl World {
    pub(crate) fn new(options: LogOptions) -> Self {
        Self::on(&MemoryVfs::new(), options, false, &mut |_| {})
    }

    /// As [`new`](World::new), on a disk whose syncs take time.
    pub(crate) fn slow(options: LogOptions) -> Self {
        Self::on(&MemoryVfs::new(), options, true, &mut |_| {})
    }

    fn on(memory: &MemoryVfs, options: LogOptions, is_slow: bool, found: &mut dyn FnMut(u64)) -> Self {
        let (witness, clock) = (Arc::new(Witness::default()), Arc::new(ManualClock::default()));
        drive(&clock);
        let slow = is_slow.then(|| Arc::clone(&clock));
        let disk = Arc::new(Disk { memory: memory.clone(), witness: Arc::clone(&witness), slow });
        let (time, sink) = (Arc::clone(&clock), Arc::clone(&witness));
        let mut replay = |replayed| {
            if let Replayed::Record(record) = replayed {
                found(item_of(&record.payload));
            }
            Ok(())
        };
        let dir = Path::new("/log");
        let log = Log::open_sink(disk, time, dir, options, sink, |_| Vec::new(), &mut replay).unwrap();
        Self { log, witness, clock, memory: memory.clone() }
    }

    /// Opens the log again, which must have let its folder go: what recovery says, and the items it finds.
    pub(crate) fn open_again(&self) -> (RecoveryReport, Vec<u64>) {
        let mut items = Vec::new();
        let again = Self::on(&self.memory, without_keeper(), false, &mut |item| items.push(item));
        (again.log.recovery().clone(), items)
    }

    /// Commits and holds the outcome against what the disk and the layer above saw.
    pub(crate) fn commit(&self, item: u64) -> Outcome {
        let outcome = self.log.commit(record(item), item, None);
        self.check_outcome(item, &outcome);
        outcome
    }

    /// As [`commit`](World::commit); `None` when the commit panicked.
    pub(crate) fn try_commit(&self, item: u64) -> Option<Outcome> {
        catch_unwind(AssertUnwindSafe(|| self.commit(item))).ok()
    }

    /// What is acknowledged is in its place, published and durable; what was refused was never applied.
    pub(crate) fn check_outcome(&self, item: u64, outcome: &Outcome) {
        match outcome {
            Ok(lsn) => {
                let (found, kept) =
                    self.witness.seen.peek(|seen| (seen.item_at(lsn.get()), seen.is_kept(lsn.get())));
                self.witness.hold(found == Some(item), || format!("{item} became {lsn}, where {found:?} is"));
                self.witness.hold(kept, || format!("{lsn} is acknowledged, and not published and durable"));
            }
            Err(CommitError::OutcomeUnknown { .. }) => {}
            Err(error) => {
                let applied = self.witness.seen.peek(|seen| seen.was_applied(item));
                self.witness.hold(!applied, || format!("{item} failed with \"{error}\", and was applied"));
            }
        }
    }

    /// From now on a step goes wrong.
    pub(crate) fn fail(&self, fault: Fault) {
        self.witness.fail(fault);
    }

    /// Runs `act` on a thread of its own.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> thread::TestHandle<T> {
        let world = self.clone();
        thread::spawn(move || act(&world))
    }

    /// Closes the log, and ends the schedule well if nothing was wrong in it.
    pub(crate) fn end(&self) {
        self.log.close().unwrap();
        self.witness.judge();
    }
}

pub(crate) fn record(item: u64) -> Record {
    long_record(item, 8)
}

/// A record of `len` bytes that begin with its item.
pub(crate) fn long_record(item: u64, len: usize) -> Record {
    let mut payload = item.to_le_bytes().to_vec();
    payload.resize(len, 0);
    Record::with_codec(RecordKind::WRITE, CodecId::RAW, payload)
}

pub(crate) fn item_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}
