//! The log as its user holds it.

use std::fmt;
use std::path::{Path, PathBuf};

use keepstone_types::{Clock, Lsn, SystemClock};
use keepstone_vfs::{OsVfs, Vfs};

use crate::error::{
    AppendError, CallerError, CloseError, CommitError, Damage, OpenError, PinError, ReadError,
};
use crate::open;
use crate::options::{Access, Durability, LogOptions};
use crate::pins::{Pin, PinInfo};
use crate::queue::Fate;
use crate::reader::LogReader;
use crate::record::Record;
use crate::report::{RecoveryReport, Replayed};
use crate::sink::{LogSink, NoSink};
use crate::stats::LogStats;
use crate::sync::{Arc, Ordering};
use crate::verify;
use crate::writer::Writer;

/// What a replay is: called with each record and each change of timeline, in order.
pub type Replay<'a> = &'a mut dyn FnMut(Replayed) -> Result<(), CallerError>;

/// A record that was handed in and is not waited for yet. It is written in any case.
#[derive(Debug)]
#[must_use = "whether the record is kept is known only after waiting"]
pub struct Ticket {
    ticket: u64,
    lsn: Lsn,
    fate: Arc<Fate>,
}

impl Ticket {
    /// The number that the record has if it is kept.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// A write-ahead log in a folder of its own.
///
/// Handles are cheap to clone and may be used from any thread. [`close`](Log::close) ends the log for all of them;
/// dropping the last handle does the same, but can report nothing.
pub struct Log<S: LogSink = NoSink> {
    handle: Arc<Handle<S>>,
}

/// Closes the log when the last handle goes.
struct Handle<S: LogSink> {
    writer: Arc<Writer<S>>,
    report: RecoveryReport,
}

impl<S: LogSink> Drop for Handle<S> {
    fn drop(&mut self) {
        // There is nobody to report to; an unclean close is found and reported by the next opening.
        self.writer.close().unwrap_or_default();
    }
}

impl<S: LogSink> Clone for Log<S> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<S: LogSink> fmt::Debug for Log<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir())
            .field("durable", &self.durable_lsn())
            .finish_non_exhaustive()
    }
}

impl Log<NoSink> {
    /// Opens, or creates, the log in `dir` on the operating system's file system. What it holds is read with
    /// [`read_from`](Log::read_from).
    ///
    /// # Errors
    /// Whatever keeps the log from being opened; nothing is written to what is not understood.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, OpenError> {
        let (vfs, clock) = (Arc::new(OsVfs::new()), Arc::new(SystemClock::default()));
        Self::open_with(vfs, clock, dir.as_ref(), options, &mut |_| Ok(()))
    }

    /// Opens, or creates, the log in `dir` of a file system, and replays it.
    ///
    /// # Errors
    /// Whatever keeps the log from being opened, and what `replay` refuses.
    pub fn open_with(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: LogOptions,
        replay: Replay<'_>,
    ) -> Result<Self, OpenError> {
        Self::open_sink(vfs, clock, dir, options, Arc::new(NoSink), |_| (), replay)
    }

    /// Appends a record and gives its number when it is as durable as the log promises.
    ///
    /// # Errors
    /// When the record is not kept, or that is not known.
    pub fn append(&self, record: Record) -> Result<Lsn, AppendError> {
        self.commit(record, (), None)
    }

    /// Appends records that stand one after the other, and gives their numbers when all are as durable as the log
    /// promises. They are one group, with one write and one sync, as long as they fit one (almost 1 MiB).
    ///
    /// # Errors
    /// When a record is not kept, or that is not known; those before it may be kept.
    pub fn append_batch(&self, records: Vec<Record>) -> Result<Vec<Lsn>, AppendError> {
        let writer = &self.handle.writer;
        let mut batch = Vec::with_capacity(records.len());
        for record in records {
            batch.push(writer.prepare(record)?);
        }
        let bytes = batch.iter().map(|prepared| prepared.stored_len()).sum();
        let durability = writer.durability(None);
        let mut placed = Vec::with_capacity(batch.len());
        let mut queue = writer.room_for(batch.len(), bytes)?;
        for prepared in batch {
            placed.push(writer.queue_one(&mut queue, prepared, (), durability, None)?);
        }
        drop(queue);
        // The last first: when it is decided, all are, and nobody leads a group of less.
        let mut failed = None;
        for (ticket, _) in placed.iter().rev() {
            let outcome = writer.await_ticket(writer.queue.lock(), *ticket, None);
            failed = outcome.err().or(failed);
        }
        match failed {
            Some(failure) => Err(failure.into_error()),
            None => Ok(placed.into_iter().map(|(_, lsn)| lsn).collect()),
        }
    }
}

impl<S: LogSink> Log<S> {
    /// Opens, or creates, the log below another layer.
    ///
    /// `replay` is called with everything in the log, in order, once recovery's own writes are durable; opened
    /// read-only, also with what is unproven, marked so. `admission` then makes the state that admission works on.
    ///
    /// # Errors
    /// Whatever keeps the log from being opened, and what `replay` refuses.
    pub fn open_sink(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: LogOptions,
        sink: Arc<S>,
        admission: impl FnOnce(&RecoveryReport) -> S::Admission,
        replay: Replay<'_>,
    ) -> Result<Self, OpenError> {
        let (writer, report) = open::open(vfs, clock, dir, options, sink, admission, replay)?;
        Ok(Self { handle: Arc::new(Handle { writer, report }) })
    }

    /// Hands in a record and waits until it is as durable as asked, or as the log promises if that is more.
    ///
    /// # Errors
    /// When the record is not kept, or that is not known.
    pub fn commit(
        &self,
        record: Record,
        item: S::Item,
        durability: Option<Durability>,
    ) -> Result<Lsn, CommitError<S::Refusal>> {
        let writer = &self.handle.writer;
        let prepared = writer.prepare(record)?;
        let mut queue = writer.room_for(1, prepared.stored_len())?;
        let durability = writer.durability(durability);
        let (ticket, lsn) = writer.queue_one(&mut queue, prepared, item, durability, None)?;
        match writer.await_ticket(queue, ticket, None) {
            Ok(()) => Ok(lsn),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Hands in a record without waiting for the disk.
    ///
    /// # Errors
    /// When the record is refused, or the queue stays full.
    pub fn submit(
        &self,
        record: Record,
        item: S::Item,
        durability: Option<Durability>,
    ) -> Result<Ticket, CommitError<S::Refusal>> {
        let writer = &self.handle.writer;
        let prepared = writer.prepare(record)?;
        let fate = Arc::new(Fate::default());
        let mut queue = writer.room_for(1, prepared.stored_len())?;
        let durability = writer.durability(durability);
        let (ticket, lsn) = writer.queue_one(&mut queue, prepared, item, durability, Some(&fate))?;
        let nobody_leads = !queue.leading;
        drop(queue);
        if nobody_leads {
            writer.keeper.ask_to_lead();
        }
        Ok(Ticket { ticket, lsn, fate })
    }

    /// Waits until a record that was handed in is as durable as asked.
    ///
    /// # Errors
    /// When the record is not kept, or that is not known.
    pub fn wait(&self, ticket: Ticket) -> Result<Lsn, CommitError<S::Refusal>> {
        let writer = &self.handle.writer;
        match writer.await_ticket(writer.queue.lock(), ticket.ticket, Some(&ticket.fate)) {
            Ok(()) => Ok(ticket.lsn),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Reads the log from a record on, up to what is durable; opened read-only, up to its end.
    ///
    /// # Errors
    /// [`ReadError::Released`] when the record is gone.
    pub fn read_from(&self, lsn: Lsn) -> Result<LogReader, ReadError> {
        LogReader::new(Arc::clone(&self.handle.writer.read_side), lsn)
    }

    /// Holds the log from a record on under a name, up to `max_bytes` of segments and side files. A pin of that name is
    /// replaced.
    ///
    /// # Errors
    /// When the record is gone, the name is not possible, or the disk refuses.
    pub fn pin(&self, name: &str, from: Lsn, max_bytes: u64) -> Result<Pin, PinError> {
        self.handle.writer.set_pin(name, from, max_bytes)?;
        Ok(Pin { name: name.to_owned(), keeper: Arc::clone(&self.handle.writer) as Arc<_> })
    }

    /// The handle of a pin that was set before, in this process or another.
    #[must_use]
    pub fn existing_pin(&self, name: &str) -> Option<Pin> {
        let known = self.pins().iter().any(|pin| pin.name == name);
        known.then(|| Pin { name: name.to_owned(), keeper: Arc::clone(&self.handle.writer) as Arc<_> })
    }

    /// All pins, by name.
    #[must_use]
    pub fn pins(&self) -> Vec<PinInfo> {
        self.handle.writer.read_side.catalog.state.lock().pin_infos()
    }

    /// Says that nobody needs the records through `up_to`. Whole segments that no pin and no reader holds, and their side
    /// files, are recycled. Pins that hold more than they may let go. Gives the first record that is left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn release(&self, up_to: Lsn) -> Result<Lsn, PinError> {
        self.handle.writer.release(up_to)
    }

    /// Leaves a mark in the log's newest header, durably: the layer above writes the newest generation it completed.
    ///
    /// # Errors
    /// When the disk refuses; the log is poisoned then.
    pub fn set_owner_mark(&self, mark: [u8; 16]) -> Result<(), CloseError> {
        self.handle.writer.set_owner_mark(mark)
    }

    /// The last record that is on stable storage.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.handle.writer.durable_lsn()
    }

    /// The last record that was published.
    #[must_use]
    pub fn visible_lsn(&self) -> Lsn {
        Lsn::new(self.handle.writer.read_side.visible.load(Ordering::Acquire))
    }

    /// What the log has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.handle.writer.stats()
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.handle.report
    }

    /// The log's folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.handle.writer.read_side.dir.clone()
    }

    /// Whether the log was opened read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.handle.writer.options.access == Access::ReadOnly
    }

    /// Works on the admission state under the queue's lock. `with` must be short and must not call the log.
    pub fn with_admission<T>(&self, with: impl FnOnce(&mut S::Admission) -> T) -> T {
        with(&mut self.handle.writer.queue.lock().admission)
    }

    /// Runs `act` between two groups: everything that was applied is published, and nothing is applied meanwhile. Committers
    /// wait, so `act` must be short, and it must not call the log. When the side files of the current segment are larger than
    /// it is, it ends there: they go with their segment, and it would take many more before it is full.
    ///
    /// # Errors
    /// When the log is poisoned or closed; `act` is not run then.
    pub fn between_groups<T>(&self, act: impl FnOnce() -> T) -> Result<T, CloseError> {
        self.handle.writer.between_groups(act)
    }

    /// Does the chores that are due, for a log opened with [`Tending::Caller`](crate::Tending::Caller): writes what was
    /// submitted, makes a spare segment ready, writes the idle mark, syncs what has waited long enough. False when there
    /// is nothing for the caller to do: a thread tends the log, or another caller does so now.
    ///
    /// What fails here is reported by the next commit.
    pub fn tend(&self) -> bool {
        self.handle.writer.tend()
    }

    /// Makes everything durable that was handed in, submitted records included, and gives its last number.
    ///
    /// # Errors
    /// When the disk refuses; the log is poisoned then.
    pub fn sync(&self) -> Result<Lsn, CloseError> {
        self.handle.writer.sync()?;
        Ok(self.durable_lsn())
    }

    /// Reads everything durable from the disk again and verifies it. What is damaged and can be healed is, on disk if the
    /// log is open for writing.
    ///
    /// # Errors
    /// When the disk refuses otherwise than by losing sectors.
    pub fn verify(&self) -> Result<Vec<Damage>, ReadError> {
        verify::verify(&self.handle.writer)
    }

    /// Writes what is queued, closes the log in order, for all handles, and lets its folder go.
    ///
    /// # Errors
    /// When the log is poisoned or its last record has no room; the folder is let go all the same. A second call does
    /// nothing.
    pub fn close(&self) -> Result<(), CloseError> {
        self.handle.writer.close()
    }
}
