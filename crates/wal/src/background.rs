//! What the keeper's thread does, and what needs a turn on the way to the disk: marks, syncs, closing.

use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::Lsn;
use keepstone_vfs::IoError;

use crate::error::{CloseError, OpenError, PoisonCause};
use crate::group::Proven;
use crate::keeper::{Job, NoSpare, micros_of};
use crate::layout::disk_len;
use crate::leader::{IDLE, Lead, NoRoom};
use crate::options::Access;
use crate::queue::{take_turn, try_turn};
use crate::record::RecordKind;
use crate::recovery::repair::RESERVED_SECTORS;
use crate::sink::LogSink;
use crate::stats::LogStats;
use crate::sync::{Arc, MutexGuard, Ordering, thread};
use crate::tail::Tail;
use crate::writer::Writer;
use crate::zeroed::{Spare, make_spare, recycle};

/// When the keeper tries again what others were in the way of.
const RETRY_MICROS: u64 = 1_000;

/// Starts the keeper's thread.
pub(crate) fn start<S: LogSink>(writer: &Arc<Writer<S>>) -> Result<(), OpenError> {
    let shared = Arc::clone(writer);
    let thread = thread::Builder::new().name("keepstone-log".to_owned()).spawn(move || keep(&shared));
    writer.keeper.state.lock().thread = Some(thread.map_err(OpenError::Thread)?);
    Ok(())
}

/// Says that the keeper has ended, however it ended.
struct Ended<'a, S: LogSink>(&'a Writer<S>);

impl<S: LogSink> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        self.0.keeper.ended();
    }
}

fn keep<S: LogSink>(writer: &Writer<S>) {
    let _ended = Ended(writer);
    writer.keeper.begin();
    loop {
        match writer.keeper.next_job(&|| writer.clock.monotonic()) {
            Job::Stop => return,
            job => writer.do_job(job),
        }
    }
}

/// Makes a spare, of a file that was used before if there is one; calls `between` after each step.
fn make<S: LogSink>(
    writer: &Writer<S>,
    len: u64,
    from: Option<PathBuf>,
    between: &mut dyn FnMut(),
) -> Result<Spare, IoError> {
    if let Some(used) = from {
        match recycle(writer.vfs(), used.clone(), len, between) {
            Ok(spare) => return Ok(spare),
            Err(_) => writer.vfs().remove(&used).unwrap_or_default(),
        }
    }
    let shorter = writer.options.segment_bytes_min;
    match make_spare(writer.vfs(), writer.spare_path(), len, between) {
        // A short segment is better than none.
        Err(error) if error.is_out_of_space() && len > shorter => {
            make_spare(writer.vfs(), writer.spare_path(), shorter, between)
        }
        made => made,
    }
}

/// Ends the tending of a log, however it ends.
struct Tended<'a, S: LogSink>(&'a Writer<S>);

impl<S: LogSink> Drop for Tended<'_, S> {
    fn drop(&mut self) {
        self.0.keeper.end_tending();
    }
}

impl<S: LogSink> Writer<S> {
    /// Does every chore that is due, in place of a thread. False when that is not the caller's to do.
    pub(crate) fn tend(&self) -> bool {
        if self.options.access == Access::ReadOnly || !self.keeper.begin_tending() {
            return false;
        }
        let _tended = Tended(self);
        let now = || self.clock.monotonic();
        while let Some(job) = self.keeper.job(&now).filter(|job| !matches!(job, Job::Stop)) {
            self.do_job(job);
        }
        true
    }

    fn do_job(&self, job: Job) {
        match job {
            Job::Stop => {}
            Job::Lead => self.lead_for_others(),
            // A seal that is not synced only makes a missing segment harder to notice.
            Job::SyncSeal(file) => file.sync_data().unwrap_or_default(),
            Job::MakeSpare { attempt, len, from } => {
                let made = make(self, len, from, &mut || {
                    if let Some(urgent) = self.keeper.urgent_job(&|| self.clock.monotonic()) {
                        self.do_job(urgent);
                    }
                });
                self.keeper.answer(attempt, made);
            }
            Job::Remove(paths) => {
                for path in paths {
                    // What stays is removed at the next opening.
                    self.vfs().remove(&path).unwrap_or_default();
                }
            }
            Job::Tick => self.tick(),
        }
    }

    /// A segment for a leader: from the keeper, or made here if the keeper itself leads.
    pub(crate) fn spare(&self) -> Result<Spare, NoSpare> {
        if !self.keeper.is_keeper() {
            return self.keeper.take_spare();
        }
        match self.keeper.take_ready() {
            Some(spare) => Ok(spare),
            None => {
                let len = self.keeper.state.lock().spare_len;
                make(self, len, None, &mut || {}).map_err(NoSpare::Failed)
            }
        }
    }

    /// Looks at the clock: syncs what has waited long enough, and marks what has been quiet.
    fn tick(&self) {
        self.keeper.begin_tick();
        let now = self.micros();
        let later = |micros: u64| Some(now.saturating_add(micros));
        let since = self.unsynced_since_micros.load(Ordering::Acquire);
        let next = if since > 0 {
            let due = since.saturating_add(self.unsynced_delay_micros.load(Ordering::Acquire));
            if now < due {
                Some(due)
            } else if self.sync_aside(now) {
                later(micros_of(IDLE))
            } else {
                later(RETRY_MICROS)
            }
        } else {
            let quiet = self.last_group_micros.load(Ordering::Acquire).saturating_add(micros_of(IDLE));
            if now < quiet {
                Some(quiet)
            } else if self.mark() {
                None
            } else {
                later(micros_of(IDLE))
            }
        };
        if let Some(next) = next {
            self.keeper.tick_at(Duration::from_micros(next));
        }
    }

    /// Takes leadership if it is free soon, and does something with it. `None` when a leader is at work.
    fn soon(&self, act: impl FnOnce() -> Result<(), PoisonCause>) -> Option<()> {
        if !try_turn(&mut self.queue.lock(), &self.bells) {
            return None;
        }
        // A failure has poisoned the log, which the next commit reports.
        self.in_turn(act).unwrap_or_default();
        Some(())
    }

    /// Syncs what is written while others go on writing. False when others are in the way of saying so; `now` is when
    /// this began.
    fn sync_aside(&self, now: u64) -> bool {
        let (file, written) = self.tail.lock().begin_aside();
        let synced = file.sync_data();
        self.counters.syncs.add(1);
        if !self.end_aside(synced, written) {
            return true;
        }
        let told = self.soon(|| {
            let synced = self.tail.lock().synced;
            if self.now_durable(synced, self.read_side.visible.load(Ordering::Acquire)) {
                self.unsynced_since_micros.store(now, Ordering::Release);
            }
            Ok(())
        });
        told.is_some()
    }

    /// Writes the idle mark if everything is synced and not marked yet, and syncs it while others may write. False when
    /// others are in the way.
    fn mark(&self) -> bool {
        let mut marked = None;
        let had_turn = self.soon(|| {
            // After the clean close nothing may follow, or the next opening would find the log not closed in order.
            if self.queue.lock().closed {
                return Ok(());
            }
            let mut tail = self.tail.lock();
            let written = tail.written();
            let needed =
                tail.synced == written && written.sequence > self.marked_sequence.load(Ordering::Acquire);
            if needed && tail.write_own(RecordKind::MARK, &[], RESERVED_SECTORS).map_err(PoisonCause::Io)? {
                self.marked_sequence.store(tail.written().sequence, Ordering::Release);
                marked = Some(tail.begin_aside());
            }
            Ok(())
        });
        if let Some((file, written)) = marked {
            self.counters.marks.add(1);
            self.end_aside(file.sync_data(), written);
        }
        had_turn.is_some()
    }

    /// A sync beside the one who leads is over. False when it failed: what is on the disk is unknown then. Whoever
    /// leads finds out before it believes a sync of its own.
    fn end_aside(&self, synced: Result<(), IoError>, written: Proven) -> bool {
        let failure = {
            let mut tail = self.tail.lock();
            tail.asides.over = tail.asides.over.saturating_add(1);
            match synced {
                Ok(()) => {
                    tail.synced = tail.synced.max(written);
                    None
                }
                Err(error) => {
                    tail.asides.failure.get_or_insert(error.duplicate());
                    Some(error)
                }
            }
        };
        self.aside_over.notify_all();
        let Some(error) = failure else { return true };
        let since = Lsn::new(self.durable.load(Ordering::Acquire));
        self.queue.lock().poison.get_or_insert((since, Arc::new(PoisonCause::Io(error))));
        false
    }

    /// Makes everything written durable. Only who leads may call this: it waits for a sync beside it, which may have
    /// taken with it what this one was to write.
    pub(crate) fn sync_tail(&self, metadata: bool) -> Result<Proven, IoError> {
        let mut tail = self.tail.lock();
        let synced = tail.sync(metadata)?;
        self.await_asides(tail)?;
        Ok(synced)
    }

    /// Waits for a sync beside the one who leads; fails when one failed.
    fn await_asides(&self, mut tail: MutexGuard<'_, Tail>) -> Result<(), IoError> {
        let begun = tail.asides.begun;
        while tail.asides.over < begun {
            self.aside_over.wait(&mut tail);
        }
        tail.asides.failure.as_ref().map_or(Ok(()), |failure| Err(failure.duplicate()))
    }

    fn may_act(&self) -> Result<(), CloseError> {
        if self.options.access == Access::ReadOnly {
            return Err(CloseError::ReadOnly);
        }
        if self.queue.lock().closed { Err(CloseError::Closed) } else { Ok(()) }
    }

    /// Makes everything durable that was written, or queued when this began.
    pub(crate) fn sync(&self) -> Result<(), CloseError> {
        self.may_act()?;
        let last = self.queue.lock().last_ticket();
        self.take_turn_behind(last);
        self.in_turn(|| self.sync_written())
    }

    /// Takes the turn when nothing up to a ticket is queued any more. Having it, it leads what is: nobody else may as
    /// long as somebody waits for a turn, and waiting for them would be a race that it may lose for ever.
    fn take_turn_behind(&self, ticket: u64) {
        loop {
            let is_behind = {
                let mut queue = self.queue.lock();
                take_turn(&mut queue, &self.bells);
                queue.has_taken(ticket)
            };
            if is_behind {
                return;
            }
            Lead::begin(self).run();
        }
    }

    /// Does something while nobody is on the way to the disk. A segment with large side files ends there, so that they can go
    /// with what was there before.
    pub(crate) fn between_groups<T>(&self, act: impl FnOnce() -> T) -> Result<T, CloseError> {
        self.may_act()?;
        self.with_turn(|| {
            self.rotate_if_heavy()?;
            Ok(act())
        })
    }

    /// Rewrites the header of the current segment with another mark.
    pub(crate) fn set_owner_mark(&self, mark: [u8; 16]) -> Result<(), CloseError> {
        self.may_act()?;
        self.with_turn(|| {
            let mut tail = self.tail.lock();
            tail.set_owner_mark(mark).and_then(|()| self.await_asides(tail)).map_err(PoisonCause::Io)
        })
    }

    /// Ends the log in order and lets its folder go, in order or not.
    pub(crate) fn close(&self) -> Result<(), CloseError> {
        if self.options.access == Access::ReadOnly || std::mem::replace(&mut self.queue.lock().closed, true) {
            return Ok(());
        }
        let closed = self.drain().and_then(|()| self.write_clean_close());
        self.keeper.stop();
        let (thread, lock) = {
            let mut state = self.keeper.state.lock();
            (state.thread.take(), state.lock.take())
        };
        // The keeper's own thread cannot wait for itself; a panic in it has been reported to whoever needed it.
        if let Some(thread) = thread.filter(|keeper| keeper.thread().id() != thread::current().id()) {
            thread.join().unwrap_or_default();
        }
        self.read_side.catalog.wait_quiet();
        drop(lock);
        closed
    }

    /// Writes everything queued.
    fn drain(&self) -> Result<(), CloseError> {
        self.take_turn_behind(u64::MAX);
        self.in_turn(|| Ok(()))
    }

    fn write_clean_close(&self) -> Result<(), CloseError> {
        let full = self.with_turn(|| {
            self.sync_written()?;
            if self.try_clean_close()? {
                return Ok(None);
            }
            match self.secure_room(self.records_limit()) {
                Ok(()) => {}
                Err(NoRoom::Full(error)) => return Ok(Some(error)),
                Err(NoRoom::Broken(cause)) => return Err(cause),
            }
            self.try_clean_close().map(|_| None)
        })?;
        let needed = self.options.segment_bytes_min;
        full.map_or(Ok(()), |error| Err(CloseError::OutOfSpace { path: error.path, needed }))
    }

    fn try_clean_close(&self) -> Result<bool, PoisonCause> {
        {
            let mut tail = self.tail.lock();
            if tail.ends_clean {
                return Ok(true);
            }
            if !tail.write_own(RecordKind::CLEAN_CLOSE, &[], 0).map_err(PoisonCause::Io)? {
                return Ok(false);
            }
        }
        self.sync_tail(false).map_err(PoisonCause::Io)?;
        self.tail.lock().ends_clean = true;
        Ok(true)
    }

    /// What the log has done, and what is now.
    pub(crate) fn stats(&self) -> LogStats {
        let (segments, segment_bytes) = {
            let state = self.read_side.catalog.state.lock();
            (disk_len(state.segments.len()), state.segment_bytes())
        };
        let (queued, queued_bytes) = {
            let queue = self.queue.lock();
            (disk_len(queue.len()), disk_len(queue.bytes))
        };
        LogStats {
            healed: self.read_side.healed.get().saturating_add(self.counters.healed.get()),
            queued,
            queued_bytes,
            segments,
            segment_bytes,
            visible: Lsn::new(self.read_side.visible.load(Ordering::Acquire)),
            durable: self.durable_lsn(),
            ..self.counters.read()
        }
    }
}
