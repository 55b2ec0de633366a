//! The checkpoint: what is in memory and in the log goes to the page file, a slice at a time, and then the log is let go.
//!
//! ```text
//! seal the memtable between two groups ─► sync the log through S
//!   ─► slice: rows into their trees, what they displace into history; flip the header; publish  (repeat)
//!   ─► last slice: the commits, P = S ─► the memtable leaves ─► owner mark ─► release the log
//! ```
//!
//! Invariants:
//! * One checkpoint at a time; who runs it is the only one that replaces layers.
//! * The log is on stable storage through S before any header says that a row of S is folded.
//! * The memtable leaves only when a root that has all of it is published; the log is released only through what both
//!   headers on disk have.
//! * A checkpoint that fails leaves everything as the last slice had it; the next goes on from there.

mod background;
mod displace;
pub(crate) mod fold;
mod likeness;
mod older_coder;
pub(crate) mod pace;
pub(crate) mod prune;
mod recode;
pub(crate) mod room;
mod slice;

use std::time::Duration;

use keepstone_types::{Lsn, Version, lock_rank};

use crate::branches::clear_discarded;
use crate::database::Inner;
use crate::error::CheckpointError;
use crate::ground::Ground;
use crate::ground::meta::Meta;
use crate::layers::Layers;
use crate::log::error::sync_error;
use crate::memtable::Memtable;
use crate::options::CheckpointOptions;
use crate::stats::Counter;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, thread};
use crate::wrong::{self, Wrong};
pub(crate) use background::{Alarm, start};
use fold::Building;
pub(crate) use fold::apply as apply_edits;
use pace::{Controller, ReconcilerStats, Throttle};

/// Why a checkpoint is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody waits for it.
    Asked,
    /// A trigger of its options; it is paced.
    Due,
}

/// Memory for what is not folded when no trigger says how much that is.
const BUDGET_BYTES_DEFAULT: u64 = 1 << 30;

/// What checkpoints did, and whether one is under way.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    pub(crate) options: CheckpointOptions,
    running: Mutex<bool>,
    over: Condvar,
    controller: Mutex<Controller>,
    throttle: Throttle,
    /// Use passed 70 % of the budget, by prediction, so often.
    pub(crate) warnings: Counter,
    /// Somebody waits for the checkpoint, so it is not paced.
    asked: AtomicU64,
    /// The log was released through this LSN, as far as this process did it.
    released: AtomicU64,
    pub(crate) checkpoints: Counter,
    pub(crate) slices: Counter,
    pub(crate) rows: Counter,
    pub(crate) failures: Counter,
    /// The most pages that a slice wrote lately.
    slice_pages: AtomicU64,
    /// Bytes of row versions that what is kept free for a full disk is enough for.
    room_bytes: AtomicU64,
    /// Older row versions that went.
    pub(crate) pruned: Counter,
    /// Bytes of pages that were free when they had gone.
    pub(crate) reclaimed_bytes: Counter,
    /// Memtables that are folded, until no reader has them: who drops the last handle frees all of it.
    leaving: Mutex<Vec<Arc<Memtable>>>,
    /// What was left when history was pruned last.
    left: Mutex<prune::Left>,
}

/// The one checkpoint that is under way; dropping it lets the next begin.
pub(crate) struct Running<'a>(&'a Checkpointer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = false;
        self.0.over.notify_one();
    }
}

impl Checkpointer {
    pub(crate) fn new(options: CheckpointOptions) -> Self {
        // One memtable fills while the one before it is folded.
        let budget = match options.memory_bytes {
            0 => BUDGET_BYTES_DEFAULT,
            bytes => bytes.saturating_mul(2),
        };
        Self {
            options,
            running: Mutex::new(lock_rank::MVCC_CHECKPOINT, false),
            over: Condvar::new(),
            controller: Mutex::new(lock_rank::MVCC_PACE, Controller::new(budget)),
            throttle: Throttle::new(budget),
            warnings: Counter::default(),
            asked: AtomicU64::new(0),
            released: AtomicU64::new(0),
            checkpoints: Counter::default(),
            slices: Counter::default(),
            rows: Counter::default(),
            failures: Counter::default(),
            slice_pages: AtomicU64::new(0),
            room_bytes: AtomicU64::new(0),
            pruned: Counter::default(),
            reclaimed_bytes: Counter::default(),
            leaving: Mutex::new(lock_rank::MVCC_LEAVING, Vec::new()),
            left: Mutex::new(lock_rank::MVCC_PRUNED, prune::Left::default()),
        }
    }

    /// Takes what is waiting into account.
    pub(crate) fn observe(&self, inner: &Inner, bytes: u64) {
        let now = inner.shared.clock.monotonic();
        let is_warning = self.controller.lock().observe(now, bytes);
        self.warnings.add(u64::from(is_warning));
    }

    /// Takes how much a slice folded, and how long that took.
    fn folded(&self, bytes: u64, took: Duration) {
        let rate = {
            let mut controller = self.controller.lock();
            controller.folded(bytes, took);
            controller.fold_rate()
        };
        self.throttle.set_fold_rate(rate);
    }

    /// The pause before the next slice, or the next look.
    pub(crate) fn pause(&self) -> Duration {
        self.controller.lock().pause()
    }

    /// What a committer of so many bytes waits before it goes to the queue.
    pub(crate) fn delay(&self, inner: &Inner, bytes: u64) -> Duration {
        let (_, waiting) = inner.shared.stack.with(Layers::size);
        self.throttle.delay(inner.shared.clock.monotonic(), waiting, bytes)
    }

    pub(crate) fn stats(&self) -> ReconcilerStats {
        self.controller.lock().stats()
    }

    /// Frees the memtables that no reader has any more; a reader that had to would stall for as long as that takes.
    pub(crate) fn let_go(&self, gone: Option<&Arc<Memtable>>) {
        let free: Vec<Arc<Memtable>> = {
            let mut leaving = self.leaving.lock();
            leaving.extend(gone.cloned());
            let (free, held) = std::mem::take(&mut *leaving)
                .into_iter()
                .partition(|memtable| Arc::strong_count(memtable) == 1);
            *leaving = held;
            free
        };
        drop(free);
    }

    /// Begins unless a checkpoint is under way.
    fn try_begin(&self) -> Option<Running<'_>> {
        let mut running = self.running.lock();
        let is_free = !std::mem::replace(&mut *running, true);
        is_free.then(|| Running(self))
    }

    pub(crate) fn begin(&self) -> Running<'_> {
        let mut running = self.running.lock();
        while *running {
            self.over.wait(&mut running);
        }
        *running = true;
        Running(self)
    }
}

/// Folds everything that is visible when it is called, lets the log go, and prunes when that is worth it. Nothing to fold
/// is no error, nor is a checkpoint that is no longer due.
pub(crate) fn run(inner: &Inner, reason: Reason) -> Result<(), CheckpointError> {
    let checkpointer = &inner.checkpointer;
    let asked = u64::from(reason == Reason::Asked);
    checkpointer.asked.fetch_add(asked, Ordering::AcqRel);
    let _running = checkpointer.begin();
    // What was due may have been done by the one that was waited for.
    if reason == Reason::Due && !background::is_due_now(inner) {
        return Ok(());
    }
    let before = checkpointer.checkpoints.get();
    let pulse =
        || if checkpointer.checkpoints.get() == before { room::Pulse::Still } else { room::Pulse::Folded };
    let done = fold_all(inner)
        .and_then(|()| release(inner))
        .and_then(|()| room::keep(inner, pulse()))
        .and_then(|()| prune::when_worth_it(inner));
    checkpointer.asked.fetch_sub(asked, Ordering::AcqRel);
    if done.is_err() {
        checkpointer.failures.add(1);
    }
    done
}

/// Gives back the room that a store does not need at which nothing happens.
fn settle(inner: &Inner) -> Result<(), CheckpointError> {
    let Some(_running) = inner.checkpointer.try_begin() else { return Ok(()) };
    room::keep(inner, room::Pulse::Still)
}

/// Somebody asked for a checkpoint: what is left of branches that were discarded goes first, when there is a way.
pub(crate) fn run_whole(inner: &Inner) -> Result<(), CheckpointError> {
    clear_discarded(inner).unwrap_or_default();
    run(inner, Reason::Asked)
}

/// What an earlier checkpoint left is folded before another memtable is sealed, so a disk that keeps failing does not
/// pile them up.
fn fold_all(inner: &Inner) -> Result<(), CheckpointError> {
    fold_sealed(inner)?;
    seal(inner)?;
    fold_sealed(inner)
}

fn fold_sealed(inner: &Inner) -> Result<(), CheckpointError> {
    loop {
        // The layers are not held while a memtable is folded: what a slice frees can be used by the next but one only as long
        // as nobody holds an older root.
        let oldest = |layers: &Layers| layers.memtables().iter().skip(1).next_back().cloned();
        let Some(sealed) = inner.shared.stack.with(oldest) else { break };
        slice::fold_memtable(inner, &sealed)?;
        inner.checkpointer.checkpoints.add(1);
    }
    Ok(())
}

/// Puts a fresh memtable above the active one, between two groups, when that has anything.
fn seal(inner: &Inner) -> Result<(), CheckpointError> {
    let stack = &inner.shared.stack;
    let sealed = inner.log.between_groups(|| {
        if stack.with_active(|active| active.commits().len() > 0) == Some(true) {
            stack.seal();
        }
    });
    sealed.map_err(|error| CheckpointError::Log { source: Box::new(sync_error(error)) })
}

/// The ground of the current layers.
pub(crate) fn ground(inner: &Inner) -> Result<Arc<Ground>, CheckpointError> {
    inner.shared.stack.current().ground().cloned().ok_or(CheckpointError::NoPages)
}

/// Between two slices: notes how fast folding goes, and waits unless somebody waits for the checkpoint.
fn pace(inner: &Inner, bytes: u64, started: Duration) -> Result<(), CheckpointError> {
    inner.shared.must_be_open()?;
    let checkpointer = &inner.checkpointer;
    let took = inner.shared.clock.monotonic().saturating_sub(started);
    checkpointer.folded(bytes, took);
    let (_, waiting) = inner.shared.stack.with(Layers::size);
    checkpointer.observe(inner, waiting);
    if checkpointer.asked.load(Ordering::Acquire) == 0 {
        thread::sleep(checkpointer.pause());
    }
    Ok(())
}

/// Begins a generation that will say that rows through a version are folded.
pub(crate) fn begin_slice(ground: &Ground, folded: Version, lsn: Lsn) -> Result<Building, CheckpointError> {
    let writer = ground.pages().begin().map_err(CheckpointError::from_page)?;
    let before = *ground.meta();
    let mut building = Building { writer, meta: before, tables: ground.tables().clone() };
    building.meta.folded = before.folded.max(folded);
    building.meta.folded_lsn = before.folded_lsn.max(lsn);
    if before.folded == before.through {
        building.meta.begun = building.generation();
    }
    Ok(building)
}

pub(crate) fn commit_slice(ground: &Ground, building: Building) -> Result<Ground, CheckpointError> {
    let Building { writer, meta, tables } = building;
    let root = writer.commit(&meta.encode()).map_err(CheckpointError::from_page)?;
    Ok(Ground::new(ground.pages().clone(), root, meta, tables))
}

/// Puts a newer ground below the memtables, and lets one go that the ground has whole.
pub(crate) fn publish(inner: &Inner, ground: &Arc<Ground>, gone: Option<&Arc<Memtable>>) {
    let stays = |memtable: &&Arc<Memtable>| gone.is_none_or(|gone| !Arc::ptr_eq(memtable, gone));
    let before = inner.shared.stack.replace(|layers| {
        let memtables = layers.memtables().iter().filter(stays).cloned().collect();
        Layers::new(memtables, Some(Arc::clone(ground)))
    });
    drop(before);
    if let Some(gone) = gone {
        inner.checkpointer.controller.lock().left(gone.byte_count());
    }
    inner.checkpointer.let_go(gone);
}

/// Lets a memtable go that has nothing.
fn retire(inner: &Inner, sealed: &Arc<Memtable>) -> Result<(), CheckpointError> {
    publish(inner, &ground(inner)?, Some(sealed));
    Ok(())
}

/// The generation that an owner mark of the log names.
pub(crate) fn completed(mark: [u8; 16]) -> u64 {
    mark.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Removes the runs of records through `lsn`.
fn release_runs(inner: &Inner, lsn: Lsn) -> Result<(), CheckpointError> {
    inner.runs.release(lsn).map_err(|error| CheckpointError::Runs { source: error.into() })
}

/// Tells the log which generation is complete, and lets go what every header on disk has.
fn release(inner: &Inner) -> Result<(), CheckpointError> {
    let ground = ground(inner)?;
    let meta: &Meta = ground.meta();
    if meta.through != meta.folded
        || meta.through_lsn.get() <= inner.checkpointer.released.load(Ordering::Acquire)
    {
        return Ok(());
    }
    let mut mark = [0_u8; 16];
    if let Some(place) = mark.first_chunk_mut() {
        *place = ground.generation().get().to_le_bytes();
    }
    // The header before this one may need the log from an older place on: write this one's place over it too.
    if !wrong::is(Wrong::ReleasePastFallback) {
        let again = begin_slice(&ground, meta.folded, meta.folded_lsn)?;
        let again = commit_slice(&ground, Building { meta: *meta, ..again })?;
        publish(inner, &Arc::new(again), None);
    }
    let marked = inner.log.set_owner_mark(mark);
    marked.map_err(|error| CheckpointError::Log { source: Box::new(sync_error(error)) })?;
    let released = inner.log.release(meta.through_lsn);
    released.map_err(|error| CheckpointError::Log { source: error.into() })?;
    release_runs(inner, meta.through_lsn)?;
    inner.checkpointer.released.store(meta.through_lsn.get(), Ordering::Release);
    Ok(())
}

#[cfg(test)]
#[cfg(not(feature = "model"))]
mod tests {
    use std::path::Path;

    use keepstone_types::ManualClock;
    use keepstone_vfs::MemoryVfs;

    use super::*;
    use crate::database::Database;
    use crate::options::{DatabaseOptions, Retention};

    fn store() -> Database {
        store_with(CheckpointOptions::default())
    }

    fn store_with(checkpoint: CheckpointOptions) -> Database {
        store_as(checkpoint, DatabaseOptions::default().parity)
    }

    fn store_as(checkpoint: CheckpointOptions, parity: bool) -> Database {
        let (vfs, clock) = (Arc::new(MemoryVfs::new()), Arc::new(ManualClock::default()));
        let options = DatabaseOptions::default();
        let log = options.log.clone().tending(keepstone_wal::Tending::Caller);
        let log = log.segment_bytes_min(256 << 10).segment_bytes_max(1 << 20);
        let options = options
            .log(log)
            .page_size(4_096)
            .retention(Retention::None)
            .checkpoint(checkpoint)
            .parity(parity);
        Database::open_with(vfs, clock, Path::new("/store"), options).unwrap()
    }

    fn put(database: &Database, key: &str, len: usize) {
        let mut txn = database.begin().unwrap();
        txn.put("t", key, vec![7; len]).unwrap();
        txn.commit().unwrap();
    }

    #[test]
    fn a_checkpoint_that_keeps_failing_seals_no_more_than_one_memtable() {
        let database = store();
        put(&database, "first", 10);
        database.checkpoint().unwrap();
        let pages = ground(&database.inner).unwrap().pages().clone();
        let in_the_way = pages.begin().unwrap();
        for number in 0..20 {
            put(&database, &number.to_string(), 10);
            assert!(database.checkpoint().is_err());
            let memtables = database.inner.shared.stack.with(|layers| layers.memtables().len());
            assert!(memtables <= 2, "{memtables} memtables after {} failures", number + 1);
        }
        drop(in_the_way);
        database.checkpoint().unwrap();
        let left = database.inner.shared.stack.with(|layers| (layers.memtables().len(), layers.size().0));
        assert_eq!(left, (1, 0), "everything that was visible is folded");
        assert!(database.check().unwrap().is_sound());
    }

    /// Slots that a slice frees are used by the next but one, so a checkpoint that writes everything anew needs room for two
    /// slices beside what there is.
    #[test]
    fn a_checkpoint_that_writes_everything_anew_needs_little_more_than_what_is_there() {
        let database = store_with(CheckpointOptions::default().slice_keys(100));
        let mut peak = 0;
        for round in 0..6_u8 {
            database
                .write(|txn| {
                    (0..4_000_u16).try_for_each(|key| txn.put("t", key.to_be_bytes(), vec![round; 300]))?;
                    Ok::<_, crate::WriteError>(())
                })
                .unwrap();
            database.checkpoint().unwrap();
            peak = ground(&database.inner).unwrap().pages().stats().file_bytes / 4_096;
        }
        let stats = ground(&database.inner).unwrap().pages().stats();
        let cost = room::Cost::of(ground(&database.inner).unwrap().pages());
        let room = cost.slots_for(database.inner.checkpointer.room_bytes.load(Ordering::Acquire));
        assert!(stats.used_slots > 300, "{stats:?}");
        assert!(peak < stats.used_slots * 5 / 4 + room + 64, "{peak} slots, {room} of them kept: {stats:?}");
    }

    #[test]
    fn a_store_at_rest_gives_back_what_a_burst_needed() {
        let database = store_with(CheckpointOptions::default().slice_keys(100));
        let mut high = 0;
        for round in 0..4_u8 {
            for part in 0..40_u16 {
                database
                    .write(|txn| {
                        (0..400_u16).try_for_each(|key| {
                            // In another order than that of the keys, so that what stays is all over the file.
                            txn.put("t", (key.wrapping_mul(257) ^ part << 4).to_be_bytes(), vec![round; 900])
                        })?;
                        Ok::<_, crate::WriteError>(())
                    })
                    .unwrap();
            }
            high = high.max(ground(&database.inner).unwrap().pages().stats().file_bytes);
            database.checkpoint().unwrap();
        }
        let stats = ground(&database.inner).unwrap().pages().stats();
        let (slots, used) = (stats.file_bytes / 4_096, stats.used_slots);
        assert!(high > stats.file_bytes / 4 * 5, "{high} bytes at most: {stats:?}");
        assert!(slots <= used + 2 * (used / 16).max(32) + 1_024 + 64, "{stats:?}");
        let promised = database.inner.checkpointer.room_bytes.load(Ordering::Acquire);
        let cost = room::Cost::of(ground(&database.inner).unwrap().pages());
        assert!(cost.slots_for(promised) <= stats.free_slots, "{promised} bytes: {stats:?}");
        assert!(database.check().unwrap().is_sound());
        put(&database, "more", 500_000);
        database.checkpoint().unwrap();
        assert!(database.check().unwrap().is_sound());
    }

    /// What the next fold of the size will use up is kept between folds, and given back when nothing is folded: by who asks for
    /// a checkpoint, or by the thread that looks.
    #[test]
    fn a_store_that_changes_steadily_keeps_its_room_until_it_rests() {
        for (parity, asked) in [(false, false), (true, false), (false, true), (true, true)] {
            let database = store_as(CheckpointOptions::default(), parity);
            let stats = || ground(&database.inner).unwrap().pages().stats();
            let mut slots = Vec::new();
            for round in 0..24_u8 {
                database
                    .write(|txn| {
                        (0..6_000_u16).try_for_each(|key| {
                            txn.put("t", key.wrapping_mul(257).to_be_bytes(), vec![round; 900])
                        })?;
                        Ok::<_, crate::WriteError>(())
                    })
                    .unwrap();
                database.checkpoint().unwrap();
                slots.push(stats().file_bytes / 4_096);
            }
            // It grew until there were older rows enough to be pruned, and nothing was cut that the next fold wanted back.
            assert!(slots[14..].windows(2).all(|two| two[0] == two[1]), "parity {parity}: {slots:?}");
            let mut settled = 0;
            if asked {
                database.checkpoint().unwrap();
            } else {
                background::look(&database.inner, &mut settled);
            }
            let rested = stats();
            let (now, used) = (rested.file_bytes / 4_096, rested.used_slots);
            assert!(
                now <= used + used / 8 + 64 && now < slots[23],
                "parity {parity}: {slots:?}, then {rested:?}"
            );
            background::look(&database.inner, &mut settled);
            assert_eq!(stats().commits, rested.commits, "once");
            assert!(database.check().unwrap().is_sound());
        }
    }

    /// The log may tell so late what is durable that it was folded before.
    #[test]
    fn what_is_folded_is_durable_whenever_that_is_told() {
        let database = store();
        put(&database, "key", 10);
        database.checkpoint().unwrap();
        let shared = &database.inner.shared;
        shared.durable.store(0, Ordering::Release);
        let sink = crate::commit::CommitSink { shared: Arc::clone(shared) };
        keepstone_wal::LogSink::durable(&sink, database.inner.log.durable_lsn());
        assert_eq!(database.durable_version(), database.visible_version());
    }

    /// Room that a commit counts on is there.
    #[test]
    fn compaction_gives_back_what_it_takes_of_the_room() {
        let database = store();
        for number in 0..200 {
            put(&database, &number.to_string(), 20_000);
        }
        database.checkpoint().unwrap();
        database
            .write(|txn| {
                for number in 0..200 {
                    txn.delete("t", number.to_string())?;
                }
                Ok::<_, crate::WriteError>(())
            })
            .unwrap();
        let report = database.compact().unwrap();
        assert!(report.bytes_after < report.bytes_before / 4, "{report:?}");
        let stats = ground(&database.inner).unwrap().pages().stats();
        let promised = database.inner.checkpointer.room_bytes.load(Ordering::Acquire);
        let there = stats.free_slots * 4_096;
        assert!(promised <= there, "room for {promised} bytes is promised, {there} bytes are free");
    }
}
