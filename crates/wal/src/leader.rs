//! The leader: the one thread on the way to the disk, and how it leaves it.
//!
//! Whoever finds nobody leading leads: it takes what is queued as one group, secures room, applies, writes once, syncs
//! once, publishes, hands leadership on and wakes the group with one broadcast.
//!
//! Invariant: a [`Lead`] that is dropped without having ended (a panic) poisons the log and wakes everybody, so nobody
//! waits for a leader that is gone.

use std::time::Duration;

use keepstone_types::Lsn;
use keepstone_vfs::IoError;

use crate::catalog::SegmentInfo;
use crate::error::PoisonCause;
use crate::group::Proven;
use crate::keeper::{NoSpare, micros_of};
use crate::layout::disk_len;
use crate::options::Durability;
use crate::queue::{Batch, Entry, Failure, Fate, gather};
use crate::sink::LogSink;
use crate::sync::{Arc, Ordering};
use crate::tail::{RotateError, Rotated};
use crate::writer::Writer;
use crate::wrong::{self, Wrong};

/// A leader waits for company only where syncs take longer.
const GATHER_SYNC_MIN: Duration = Duration::from_micros(150);
/// A leader waits at most this part of the usual sync.
const GATHER_PART: u32 = 8;
/// A new sync time counts so much in the average: one in so many.
const SYNC_AVERAGE: u64 = 8;
/// Quiet time after which everything is marked as synced.
pub(crate) const IDLE: Duration = Duration::from_millis(5);
/// A segment that was filled faster than this is followed by one twice as long.
const FILLED_FAST: Duration = Duration::from_secs(2);

/// Leadership, from taking it to handing it on.
pub(crate) struct Lead<'a, S: LogSink> {
    writer: &'a Writer<S>,
    ended: bool,
    /// What was taken out of the queue and is not decided.
    taken: Option<Batch>,
    fates: Vec<Arc<Fate>>,
}

/// No room for a group.
pub(crate) enum NoRoom {
    /// The disk is full; nothing has happened.
    Full(IoError),
    /// The log can take nothing more.
    Broken(PoisonCause),
}

impl<'a, S: LogSink> Lead<'a, S> {
    /// Begins to lead: the caller has set `leading`.
    pub(crate) const fn begin(writer: &'a Writer<S>) -> Self {
        Self { writer, ended: false, taken: None, fates: Vec::new() }
    }

    /// Leads one group.
    pub(crate) fn run(mut self) {
        let writer = self.writer;
        self.wait_for_company();
        let (poisoned, taken) = {
            let mut queue = writer.queue.lock();
            let poison = queue.poison.clone();
            (poison, queue.take(writer.records_limit()))
        };
        let Some((batch, mut entries)) = taken else { return self.end() };
        self.taken = Some(batch);
        self.fates.extend(entries.iter().filter_map(|entry| entry.fate.clone()));
        if let Some((since, cause)) = poisoned {
            // After a panic in the layer above, its state is not touched again.
            let revoking = !matches!(*cause, PoisonCause::Panicked { .. });
            return self.fail(entries, &Failure::Poisoned { since, cause }, revoking);
        }
        if let Err(no_room) = writer.secure_room(batch.length) {
            let failure = self.failure_of(no_room);
            return self.fail(entries, &failure, true);
        }
        let written = self.write(&mut entries, batch);
        let done = written.and_then(|began| self.complete(batch, began, entries));
        if let Err(error) = done {
            self.poison(PoisonCause::Io(error));
        }
    }

    /// Waits for those just woken, where that pays.
    fn wait_for_company(&self) {
        let writer = self.writer;
        let usual = Duration::from_micros(writer.counters.sync_micros.get());
        if usual <= GATHER_SYNC_MIN {
            return;
        }
        let mut queue = writer.queue.lock();
        let company = queue.last_group;
        if company > 1 {
            let limit = usual.checked_div(GATHER_PART).unwrap_or_default();
            let waited = gather(&mut queue, &writer.bells, writer.clock.as_ref(), company, limit);
            writer.counters.leader_waits.add(u64::from(waited));
        }
    }

    /// Applies a group and writes it. Gives when the write began.
    fn write(&mut self, entries: &mut Vec<Entry<S::Item>>, batch: Batch) -> Result<Duration, IoError> {
        let writer = self.writer;
        writer.tail.lock().encode(entries, batch.length);
        self.note_sides(entries);
        for entry in entries.drain(..) {
            writer.sink.apply(Lsn::new(entry.lsn), entry.item);
        }
        let began = writer.clock.monotonic();
        let written = writer.tail.lock().write_encoded()?;
        let counters = &writer.counters;
        counters.groups.add(1);
        counters.records.add(batch.records);
        counters.payload_bytes.add(disk_len(batch.length));
        counters.written_bytes.add(written);
        counters.group_records_max.at_least(batch.records);
        Ok(began)
    }

    fn note_sides(&self, entries: &[Entry<S::Item>]) {
        if entries.iter().all(|entry| entry.side.is_none()) {
            return;
        }
        let sides = entries.iter().filter_map(|entry| entry.side);
        let mut state = self.writer.read_side.catalog.state.lock();
        if let Some(last) = state.segments.back_mut() {
            last.sides.extend(sides.map(|side| (side.number, side.length)));
        }
    }

    /// Syncs as far as was asked for, publishes, hands leadership on, and wakes the group.
    fn complete(
        &mut self,
        batch: Batch,
        began: Duration,
        scratch: Vec<Entry<S::Item>>,
    ) -> Result<(), IoError> {
        let writer = self.writer;
        if wrong::is(Wrong::PublishBeforeSync) {
            writer.read_side.visible.store(batch.last_lsn, Ordering::Release);
            writer.sink.publish(Lsn::new(batch.last_lsn));
        }
        let synced = self.sync_for(batch.durability, batch.records)?;
        let now = writer.clock.monotonic();
        if let Some(synced) = synced {
            self.note_sync_time(now.saturating_sub(began));
            // First, or a reader could see what is not called durable yet.
            writer.now_durable(synced, batch.last_lsn);
        }
        writer.read_side.visible.store(batch.last_lsn, Ordering::Release);
        writer.sink.publish(Lsn::new(batch.last_lsn));
        for fate in self.fates.drain(..) {
            fate.0.set(Ok(())).unwrap_or_default();
        }
        writer.last_group_micros.store(writer.micros(), Ordering::Release);
        let wake = writer.queue.lock().finish(&batch, scratch);
        self.ended = true;
        writer.bells.ring(wake);
        if wake.keeper {
            writer.keeper.ask_to_lead();
        }
        self.have_keeper_look(now, batch.durability, synced.is_some());
        Ok(())
    }

    /// Syncs a group if its durability asks for it.
    fn sync_for(&self, durability: Durability, records: u64) -> Result<Option<Proven>, IoError> {
        let writer = self.writer;
        let metadata = match durability {
            Durability::Full => true,
            Durability::Normal => false,
            Durability::Relaxed { max_commits, max_delay } => {
                writer.unsynced_delay_micros.fetch_min(micros_of(max_delay), Ordering::AcqRel);
                let unsynced = writer.unsynced_commits.fetch_add(records, Ordering::AcqRel);
                let since = &writer.unsynced_since_micros;
                since
                    .compare_exchange(0, writer.micros(), Ordering::AcqRel, Ordering::Acquire)
                    .unwrap_or_default();
                if unsynced.saturating_add(records) < u64::from(max_commits.max(1)) {
                    return Ok(None);
                }
                false
            }
            Durability::None => return Ok(None),
        };
        writer.counters.syncs.add(1);
        writer.sync_tail(metadata).map(Some)
    }

    fn note_sync_time(&self, took: Duration) {
        let average = &self.writer.counters.sync_micros;
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = average.get();
        let rest = before.saturating_sub(before.checked_div(SYNC_AVERAGE).unwrap_or_default());
        average.set(if before == 0 {
            took
        } else {
            rest.saturating_add(took.checked_div(SYNC_AVERAGE).unwrap_or_default())
        });
    }

    /// After the last commit the keeper writes the idle mark; what is not synced it syncs in time.
    fn have_keeper_look(&self, now: Duration, durability: Durability, synced: bool) {
        let delay = match durability {
            Durability::None => return,
            Durability::Relaxed { max_delay, .. } if !synced => max_delay,
            _ => IDLE,
        };
        self.writer.keeper.tick_in(now, delay);
    }

    /// How a group fails that there is no room for; the log is poisoned if it can take nothing more.
    fn failure_of(&self, no_room: NoRoom) -> Failure {
        match no_room {
            NoRoom::Full(error) => {
                let needed = self.writer.keeper.state.lock().spare_len;
                Failure::OutOfSpace { path: error.path, needed }
            }
            NoRoom::Broken(cause) => {
                let cause = Arc::new(cause);
                let since = Lsn::new(self.writer.durable.load(Ordering::Acquire));
                self.writer.queue.lock().poison.get_or_insert((since, Arc::clone(&cause)));
                Failure::Poisoned { since, cause }
            }
        }
    }

    /// Nothing was written of these, or of what is queued behind them: they fail, newest first.
    fn fail(mut self, entries: Vec<Entry<S::Item>>, failure: &Failure, revoking: bool) {
        let writer = self.writer;
        self.fates.clear();
        writer.remove_sides(entries.iter().filter_map(|entry| entry.side));
        let (wake, behind) = {
            let mut queue = writer.queue.lock();
            self.taken = None;
            let (failed, behind) = queue.fail_from(&writer.sink, entries, revoking, failure);
            if matches!(failure, Failure::OutOfSpace { .. }) {
                writer.counters.out_of_space.add(disk_len(failed));
            }
            (queue.wake_all(), behind)
        };
        self.ended = true;
        writer.bells.ring(wake);
        writer.remove_sides(behind);
    }

    /// A write or sync failed: what was taken has an unknown outcome, what is queued fails, and nothing more is taken.
    pub(crate) fn poison(&mut self, cause: PoisonCause) -> Arc<PoisonCause> {
        let writer = self.writer;
        let revoking = !matches!(cause, PoisonCause::Panicked { .. });
        let cause = Arc::new(cause);
        let since = Lsn::new(writer.durable.load(Ordering::Acquire));
        let unknown = Failure::Unknown(Arc::clone(&cause));
        for fate in self.fates.drain(..) {
            fate.0.set(Err(unknown.clone())).unwrap_or_default();
        }
        let (wake, behind) = {
            let mut queue = writer.queue.lock();
            queue.poison.get_or_insert((since, Arc::clone(&cause)));
            let failure = Failure::Poisoned { since, cause: Arc::clone(&cause) };
            if let Some(batch) = self.taken.take() {
                queue.fail_tickets((batch.first_ticket, batch.last_ticket), batch.waiting, &unknown);
            }
            let (_, behind) = queue.fail_from(&writer.sink, Vec::new(), revoking, &failure);
            (queue.wake_all(), behind)
        };
        self.ended = true;
        writer.bells.ring(wake);
        writer.remove_sides(behind);
        cause
    }

    /// Hands leadership on without having written a group.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        let wake = self.writer.queue.lock().stop_leading();
        self.writer.bells.ring(wake);
        if wake.keeper {
            self.writer.keeper.ask_to_lead();
        }
    }
}

impl<S: LogSink> Writer<S> {
    /// Makes sure that the current segment, or a fresh one, has room for a group.
    pub(crate) fn secure_room(&self, length: usize) -> Result<(), NoRoom> {
        if self.tail.lock().has_room(length) { Ok(()) } else { self.rotate(true) }
    }

    /// Ends the current segment when the side files that it names are larger than it is, and it names them until it goes. On
    /// a full disk it stays. Only who leads may call this.
    pub(crate) fn rotate_if_heavy(&self) -> Result<(), PoisonCause> {
        let is_heavy = {
            let state = self.read_side.catalog.state.lock();
            state.segments.back().is_some_and(SegmentInfo::is_heavy)
        };
        match if is_heavy { self.rotate(false) } else { Ok(()) } {
            Ok(()) | Err(NoRoom::Full(_)) => Ok(()),
            Err(NoRoom::Broken(cause)) => Err(cause),
        }
    }

    /// Begins a fresh segment.
    fn rotate(&self, is_full: bool) -> Result<(), NoRoom> {
        let spare = self.spare().map_err(|none| match none {
            NoSpare::Failed(error) if error.is_out_of_space() => NoRoom::Full(error),
            NoSpare::Failed(error) => NoRoom::Broken(PoisonCause::Io(error)),
            NoSpare::KeeperEnded => NoRoom::Broken(PoisonCause::Panicked { doing: "made a segment ready" }),
        })?;
        let unsynced = {
            let tail = self.tail.lock();
            tail.synced != tail.written()
        };
        if unsynced {
            self.sync_tail(false).map_err(|error| NoRoom::Broken(PoisonCause::Io(error)))?;
        }
        let number = self.segment_number();
        let options = &self.options;
        let place = (number, options.sector_size, options.durability.may_lose_acknowledged());
        let now = self.clock.monotonic();
        let dir = &self.read_side.dir;
        let (rotated, filled_in) = {
            let mut tail = self.tail.lock();
            let filled_in = now.saturating_sub(tail.begun);
            (tail.rotate(self.vfs(), dir, &spare, place, now), filled_in)
        };
        match rotated {
            Ok(rotated) => {
                self.note_rotated(rotated, filled_in, is_full);
                Ok(())
            }
            Err(RotateError::NoRoom(error)) => {
                if let Some(second) = self.keeper.give_back(spare) {
                    // What stays is removed at the next opening.
                    self.vfs().remove(&second.path).unwrap_or_default();
                }
                Err(NoRoom::Full(error))
            }
            Err(RotateError::Unknown(error)) => Err(NoRoom::Broken(PoisonCause::Io(error))),
        }
    }

    fn note_rotated(&self, rotated: Rotated, filled_in: Duration, is_full: bool) {
        {
            let mut state = self.read_side.catalog.state.lock();
            if let Some(last) = state.segments.back_mut().filter(|last| last.header.number == rotated.ended) {
                last.end = Some(rotated.end);
            }
            let sides = Vec::new();
            state.segments.push_back(SegmentInfo { header: rotated.begun, end: None, sides });
        }
        self.now_durable(rotated.synced, self.read_side.visible.load(Ordering::Acquire));
        self.counters.rotations.add(1);
        {
            let mut state = self.keeper.state.lock();
            if is_full && filled_in < FILLED_FAST {
                let longer = state.spare_len.saturating_mul(2);
                state.spare_len = longer.min(self.options.segment_bytes_max);
            }
        }
        self.keeper.sync_seal(rotated.old_file);
    }
}

impl<S: LogSink> Drop for Lead<'_, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.poison(PoisonCause::Panicked { doing: "led a group" });
        }
    }
}
