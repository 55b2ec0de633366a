//! What the keeper's thread does, and what needs a turn on the way to the disk: marks, syncs, closing.

use std::thread;
use std::time::Duration;

use keepstone_types::Lsn;
use keepstone_vfs::IoError;

use crate::error::{CloseError, OpenError, PoisonCause};
use crate::group::Proven;
use crate::keeper::Job;
use crate::layout::disk_len;
use crate::leader::{IDLE, NoRoom};
use crate::options::{Access, Durability};
use crate::record::RecordKind;
use crate::recovery::repair::RESERVED_SECTORS;
use crate::sink::LogSink;
use crate::stats::LogStats;
use crate::sync::{Arc, Ordering};
use crate::writer::Writer;
use crate::zeroed::{Spare, make_spare, recycle};

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
    loop {
        match writer.keeper.next_job(&|| writer.clock.monotonic()) {
            Job::Stop => return,
            Job::Lead => writer.lead_for_others(),
            // A seal that is not synced only makes a missing segment harder to notice.
            Job::SyncSeal(file) => file.sync_data().unwrap_or_default(),
            Job::MakeSpare { attempt, len, from } => {
                let made = make(writer, len, from);
                writer.keeper.answer(attempt, made);
            }
            Job::Remove(paths) => {
                for path in paths {
                    // What stays is removed at the next opening.
                    writer.vfs().remove(&path).unwrap_or_default();
                }
            }
            Job::Tick => writer.tick(),
        }
    }
}

fn make<S: LogSink>(
    writer: &Writer<S>,
    len: u64,
    from: Option<std::path::PathBuf>,
) -> Result<Spare, IoError> {
    if let Some(used) = from {
        match recycle(writer.vfs(), used.clone(), len) {
            Ok(spare) => return Ok(spare),
            Err(_) => writer.vfs().remove(&used).unwrap_or_default(),
        }
    }
    let shorter = writer.options.segment_bytes_min;
    match make_spare(writer.vfs(), writer.spare_path(), len) {
        // A short segment is better than none.
        Err(error) if error.is_out_of_space() && len > shorter => {
            make_spare(writer.vfs(), writer.spare_path(), shorter)
        }
        made => made,
    }
}

impl<S: LogSink> Writer<S> {
    /// Looks at the clock: syncs what has waited long enough, and marks what has been quiet.
    fn tick(&self) {
        self.keeper.begin_tick();
        let now = self.micros();
        let mut next = None;
        let since = self.unsynced_since_micros.load(Ordering::Acquire);
        if let (Durability::Relaxed { max_delay, .. }, true) = (self.options.durability, since > 0) {
            let due = since.saturating_add(micros_of(max_delay));
            if now >= due {
                self.sync_aside().unwrap_or_default();
                next = Some(now.saturating_add(micros_of(IDLE)));
            } else {
                next = Some(due);
            }
        } else {
            let quiet = self.last_group_micros.load(Ordering::Acquire).saturating_add(micros_of(IDLE));
            if now < quiet {
                next = Some(quiet);
            } else {
                // A failure has poisoned the log, which the next commit reports.
                self.mark().unwrap_or_default();
            }
        }
        if let Some(next) = next {
            self.keeper.tick_at(Duration::from_micros(next));
        }
    }

    /// Syncs what is written while others may go on writing.
    fn sync_aside(&self) -> Result<(), CloseError> {
        let began = self.micros();
        let (file, written) = self.with_turn(|| {
            let tail = self.tail.lock();
            Ok((Arc::clone(&tail.file), tail.written()))
        })?;
        let synced = file.sync_data();
        self.counters.syncs.add(1);
        self.with_turn(|| {
            synced.map_err(PoisonCause::Io)?;
            let more = self.note_synced(written);
            self.now_durable(written);
            if more {
                self.unsynced_since_micros.store(began, Ordering::Release);
            }
            Ok(())
        })
    }

    /// The tail is synced through `written` at least. Whether more is written.
    fn note_synced(&self, written: Proven) -> bool {
        let mut tail = self.tail.lock();
        tail.synced = tail.synced.max(written);
        tail.synced != tail.written()
    }

    /// Writes the idle mark if everything is synced and not marked yet; syncs it while others may write.
    fn mark(&self) -> Result<(), CloseError> {
        let marked = self.with_turn(|| {
            let mut tail = self.tail.lock();
            let written = tail.written();
            let needed =
                tail.synced == written && written.sequence > self.marked_sequence.load(Ordering::Acquire);
            if !needed || !tail.write_own(RecordKind::MARK, &[], RESERVED_SECTORS).map_err(PoisonCause::Io)? {
                return Ok(None);
            }
            let written = tail.written();
            self.marked_sequence.store(written.sequence, Ordering::Release);
            Ok(Some((Arc::clone(&tail.file), written)))
        })?;
        let Some((file, written)) = marked else { return Ok(()) };
        let synced = file.sync_data();
        self.counters.marks.add(1);
        self.with_turn(|| {
            synced.map_err(PoisonCause::Io)?;
            self.note_synced(written);
            Ok(())
        })
    }

    fn may_act(&self) -> Result<(), CloseError> {
        if self.options.access == Access::ReadOnly {
            return Err(CloseError::ReadOnly);
        }
        if self.queue.lock().closed { Err(CloseError::Closed) } else { Ok(()) }
    }

    /// Makes everything durable that was written.
    pub(crate) fn sync(&self) -> Result<(), CloseError> {
        self.may_act()?;
        self.with_turn(|| self.sync_written())
    }

    /// Rewrites the header of the current segment with another mark.
    pub(crate) fn set_owner_mark(&self, mark: [u8; 16]) -> Result<(), CloseError> {
        self.may_act()?;
        self.with_turn(|| self.tail.lock().set_owner_mark(mark).map_err(PoisonCause::Io))
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
        drop(lock);
        closed
    }

    /// Waits until everything queued is written.
    fn drain(&self) -> Result<(), CloseError> {
        loop {
            self.lead_for_others();
            if self.with_turn(|| Ok(self.queue.lock().len() == 0))? {
                return Ok(());
            }
        }
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
        let mut tail = self.tail.lock();
        let wrote = tail.write_own(RecordKind::CLEAN_CLOSE, &[], 0).map_err(PoisonCause::Io)?;
        if wrote {
            tail.sync(false).map_err(PoisonCause::Io)?;
        }
        Ok(wrote)
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
            visible: Lsn::new(self.visible.load(Ordering::Acquire)),
            durable: Lsn::new(self.durable.load(Ordering::Acquire)),
            ..self.counters.read()
        }
    }
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
