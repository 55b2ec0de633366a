//! The writing side of a log: what its threads share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::{Clock, Lsn};
use keepstone_vfs::Vfs;

use crate::catalog::{FolderPass, SegmentInfo};
use crate::error::{CloseError, CommitError, PinError, PoisonCause};
use crate::group::{GROUP_BYTES_MAX, Proven, records_len_max};
use crate::keeper::Keeper;
use crate::layout::{disk_len, memory_len};
use crate::leader::Lead;
use crate::options::{Access, Durability, LogOptions};
use crate::pins::{NAME_LEN_MAX, PINS_MAX, PinKeeper, PinState, PinsFile};
use crate::queue::{Bells, Entry, Failure, Fate, Next, Queue, Room, take_turn, wait_for_room, wait_or_lead};
use crate::reader::ReadSide;
use crate::record::{Record, SIDE_REFERENCE_LEN, SideReference, fits_length_field, stored_len};
use crate::recovery::repair::RESERVED_SECTORS;
use crate::segment::{HEADER_BYTES, scratch_path, segment_path, side_path};
use crate::side_file::{self, BODY_BYTES_MAX};
use crate::sink::LogSink;
use crate::stats::Counters;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use crate::tail::Tail;

/// What the threads of an open log share.
pub(crate) struct Writer<S: LogSink> {
    pub(crate) read_side: Arc<ReadSide>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: LogOptions,
    pub(crate) sink: Arc<S>,
    pub(crate) queue: Mutex<Queue<S>>,
    pub(crate) bells: Bells,
    pub(crate) tail: Mutex<Tail>,
    /// A sync beside the one who leads is over.
    pub(crate) aside_over: Condvar,
    pub(crate) keeper: Keeper,
    pub(crate) counters: Counters,
    pub(crate) durable: AtomicU64,
    /// The next number of a segment or side file.
    pub(crate) next_number: AtomicU64,
    /// Monotonic microseconds of the last group, and of the first that is written and not synced (0: none).
    pub(crate) last_group_micros: AtomicU64,
    pub(crate) unsynced_since_micros: AtomicU64,
    pub(crate) unsynced_commits: AtomicU64,
    /// The shortest time that any of those written and not synced may wait.
    pub(crate) unsynced_delay_micros: AtomicU64,
    /// The last sequence that an idle mark covers.
    pub(crate) marked_sequence: AtomicU64,
}

/// A record whose large part is on the disk, ready for the queue.
pub(crate) struct Prepared {
    record: Record,
    side: Option<side_file_reference::Reference>,
}

mod side_file_reference {
    //! A side file that is removed again unless its record is queued.
    use std::path::PathBuf;

    use keepstone_vfs::Vfs;

    use crate::record::SideReference;
    use crate::sync::Arc;

    pub(crate) struct Reference {
        pub(crate) vfs: Arc<dyn Vfs>,
        pub(crate) path: PathBuf,
        pub(crate) side: SideReference,
        pub(crate) queued: bool,
    }

    impl Drop for Reference {
        fn drop(&mut self) {
            if !self.queued {
                // What stays is named by no record, and goes at the next opening.
                self.vfs.remove(&self.path).unwrap_or_default();
            }
        }
    }
}

impl<S: LogSink> Writer<S> {
    pub(crate) fn vfs(&self) -> &dyn Vfs {
        self.read_side.vfs.as_ref()
    }

    /// The most bytes of records in a group: what fits the shortest segment that is made.
    pub(crate) fn records_limit(&self) -> usize {
        let reserve = RESERVED_SECTORS.saturating_mul(4_096);
        let room =
            memory_len(self.options.segment_bytes_min.saturating_sub(HEADER_BYTES)).saturating_sub(reserve);
        records_len_max(room.min(GROUP_BYTES_MAX), 4_096)
    }

    fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::AcqRel)
    }

    /// A number and path for a spare.
    pub(crate) fn spare_path(&self) -> PathBuf {
        scratch_path(&self.read_side.dir, "spare", self.next_number())
    }

    pub(crate) fn segment_number(&self) -> u64 {
        self.next_number()
    }

    fn must_write<R>(&self) -> Result<(), CommitError<R>> {
        if self.options.access == Access::ReadOnly { Err(CommitError::ReadOnly) } else { Ok(()) }
    }

    /// Checks a record and writes its large part to a side file, before it needs a place in the queue.
    pub(crate) fn prepare<R>(&self, mut record: Record) -> Result<Prepared, CommitError<R>> {
        self.must_write()?;
        if record.kind.is_own() {
            return Err(CommitError::ReservedKind { kind: record.kind });
        }
        let (len, head_len) = (record.payload.len(), self.options.head_len);
        if len < head_len {
            return Err(CommitError::HeadMissing { len, head_len });
        }
        let limit = self.records_limit();
        if len < self.options.side_file_threshold && stored_len(len) <= limit && fits_length_field(len) {
            return Ok(Prepared { record, side: None });
        }
        let body = record.payload.get(head_len..).unwrap_or_default();
        if disk_len(body.len()) > BODY_BYTES_MAX {
            return Err(CommitError::TooLarge { len: disk_len(len), max: BODY_BYTES_MAX });
        }
        if let Some(refusal) = self.queue.lock().refusal() {
            return Err(refusal);
        }
        let number = self.next_number();
        let (dir, store) = (&self.read_side.dir, self.read_side.store);
        let path = side_path(dir, number);
        let side = side_file::write(self.vfs(), dir, store, number, body).map_err(|error| {
            if error.is_out_of_space() {
                return CommitError::OutOfSpace { path: path.clone(), needed: disk_len(len) };
            }
            CommitError::SideFile(error)
        })?;
        self.counters.side_files.add(1);
        record.payload.truncate(head_len);
        record.payload.shrink_to_fit();
        let vfs = Arc::clone(&self.read_side.vfs);
        let side = side_file_reference::Reference { vfs, path, side, queued: false };
        Ok(Prepared { record, side: Some(side) })
    }

    /// Removes side files whose records failed before anything of them was written.
    pub(crate) fn remove_sides(&self, sides: impl IntoIterator<Item = SideReference>) {
        for side in sides {
            // What stays is named by no record, and goes at the next opening.
            self.vfs().remove(&side_path(&self.read_side.dir, side.number)).unwrap_or_default();
        }
    }

    /// What a commit gets that asks for `asked`: never less than the log's own.
    pub(crate) fn durability(&self, asked: Option<Durability>) -> Durability {
        asked.map_or(self.options.durability, |asked| self.options.durability.stronger(asked))
    }

    /// Waits until the queue has room. The only step of a commit that waits or refuses for want of room.
    pub(crate) fn room_for(
        &self,
        count: usize,
        bytes: usize,
    ) -> Result<MutexGuard<'_, Queue<S>>, CommitError<S::Refusal>> {
        let mut started: Option<Duration> = None;
        let mut queue = self.queue.lock();
        loop {
            let clock = self.clock.as_ref();
            match wait_for_room(&mut queue, &self.bells, clock, &self.options, (count, bytes), &mut started) {
                Room::Found => break,
                Room::Full(waited) => {
                    self.counters.refused_full.add(disk_len(count));
                    return Err(CommitError::Full { waited });
                }
                Room::Lead => {
                    drop(queue);
                    Lead::begin(self).run();
                    queue = self.queue.lock();
                }
            }
        }
        match queue.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(queue),
        }
    }

    /// Admits and queues one record.
    pub(crate) fn queue_one(
        &self,
        queue: &mut Queue<S>,
        prepared: Prepared,
        item: S::Item,
        durability: Durability,
        fate: Option<&Arc<Fate>>,
    ) -> Result<(u64, Lsn), CommitError<S::Refusal>> {
        let Prepared { record, mut side } = prepared;
        let entry = Entry {
            ticket: 0,
            lsn: 0,
            kind: record.kind,
            codec: record.codec,
            inline: record.payload,
            side: side.as_ref().map(|reference| reference.side),
            item,
            durability,
            fate: fate.map(Arc::clone),
        };
        let placed = queue.admit(&self.sink, entry, self.options.head_len).map_err(CommitError::Refused)?;
        if let Some(reference) = &mut side {
            reference.queued = true;
        }
        queue.notice_company(&self.bells);
        Ok(placed)
    }

    /// Waits for a ticket's outcome, leading if nobody else does.
    pub(crate) fn await_ticket<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue<S>>,
        ticket: u64,
        fate: Option<&Fate>,
    ) -> Result<(), Failure> {
        loop {
            match wait_or_lead(&mut queue, &self.bells, ticket, fate) {
                Next::Outcome(outcome) => return outcome,
                Next::Lead => {
                    drop(queue);
                    Lead::begin(self).run();
                    queue = self.queue.lock();
                }
            }
        }
    }

    /// Leads for those who do not wait, if nobody else does.
    pub(crate) fn lead_for_others(&self) {
        let mut queue = self.queue.lock();
        let needed = queue.len() > 0 && queue.may_lead();
        queue.leading |= needed;
        drop(queue);
        if needed {
            Lead::begin(self).run();
        }
    }

    /// Does something as the only one on the way to the disk.
    pub(crate) fn with_turn<T>(&self, act: impl FnOnce() -> Result<T, PoisonCause>) -> Result<T, CloseError> {
        {
            let mut queue = self.queue.lock();
            take_turn(&mut queue, &self.bells);
        }
        self.in_turn(act)
    }

    /// Does something with leadership, which the caller has taken, and ends it.
    pub(crate) fn in_turn<T>(&self, act: impl FnOnce() -> Result<T, PoisonCause>) -> Result<T, CloseError> {
        let mut lead = Lead::begin(self);
        let poison = self.queue.lock().poison.clone();
        if let Some((_, cause)) = poison {
            lead.end();
            return Err(CloseError::Poisoned(cause));
        }
        match act() {
            Ok(done) => {
                lead.end();
                Ok(done)
            }
            Err(cause) => Err(CloseError::Poisoned(lead.poison(cause))),
        }
    }

    /// Everything through `synced` is durable now, and of that everything through `kept` is visible or will be next. Only
    /// who leads may call this. True when more is written.
    pub(crate) fn now_durable(&self, synced: Proven, kept: u64) -> bool {
        let more = {
            let tail = self.tail.lock();
            tail.synced != tail.written()
        };
        if !more {
            self.unsynced_since_micros.store(0, Ordering::Release);
            self.unsynced_commits.store(0, Ordering::Release);
            self.unsynced_delay_micros.store(u64::MAX, Ordering::Release);
        }
        let durable = kept.min(synced.lsn);
        self.read_side.proven_lsn.fetch_max(synced.lsn, Ordering::AcqRel);
        if self.durable.fetch_max(durable, Ordering::AcqRel) < durable {
            self.sink.durable(Lsn::new(durable));
        }
        // Behind `durable`, or a reader of the log could have a record before it is called durable.
        self.read_side.readable_sequence.fetch_max(synced.sequence, Ordering::AcqRel);
        more
    }

    /// The last record that is durable, never past the last that is visible.
    pub(crate) fn durable_lsn(&self) -> Lsn {
        let durable = self.durable.load(Ordering::Acquire);
        Lsn::new(durable.min(self.read_side.visible.load(Ordering::Acquire)))
    }

    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Syncs what is written and not durable. Only who leads may call this.
    pub(crate) fn sync_written(&self) -> Result<(), PoisonCause> {
        let (synced, written) = {
            let tail = self.tail.lock();
            (tail.synced, tail.written())
        };
        if synced != written {
            self.counters.syncs.add(1);
            self.sync_tail(false).map_err(PoisonCause::Io)?;
        }
        self.now_durable(written, self.read_side.visible.load(Ordering::Acquire));
        Ok(())
    }

    /// Writes the pins file, with what the catalog holds when it is this caller's turn, and gives what it wrote.
    pub(crate) fn save_pins(&self) -> Result<PinsFile, PinError> {
        let catalog = &self.read_side.catalog;
        let file = {
            let mut state = catalog.state.lock();
            while state.saving {
                catalog.saved.wait(&mut state);
            }
            state.saving = true;
            state.pins_file(self.read_side.store)
        };
        let written = file.write(self.vfs(), &self.read_side.dir);
        catalog.state.lock().saving = false;
        catalog.saved.notify_one();
        Ok(written.map(|()| file)?)
    }

    /// Lets a call change files in the folder; closing waits for it.
    pub(crate) fn enter_folder(&self) -> Result<FolderPass<'_>, PinError> {
        if self.options.access == Access::ReadOnly {
            return Err(PinError::ReadOnly);
        }
        let pass = self.read_side.catalog.enter();
        if self.queue.lock().closed { Err(PinError::Closed) } else { Ok(pass) }
    }

    /// Sets a pin.
    pub(crate) fn set_pin(&self, name: &str, from: Lsn, max_bytes: u64) -> Result<(), PinError> {
        let _pass = self.enter_folder()?;
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(PinError::Name { found: name.len() });
        }
        {
            let mut state = self.read_side.catalog.state.lock();
            let first = state.first_lsn();
            if from.get() < first {
                return Err(PinError::Released { asked: from, first: Lsn::new(first) });
            }
            if state.pins.len() >= PINS_MAX && !state.pins.contains_key(name) {
                return Err(PinError::TooMany { max: PINS_MAX });
            }
            state.pins.insert(name.to_owned(), PinState { from: from.get(), max_bytes, lost: false });
        }
        self.save_pins().map(drop)
    }

    /// Lets everything through `up_to` go that nobody holds. Gives the first record that is left.
    pub(crate) fn release(&self, up_to: Lsn) -> Result<Lsn, PinError> {
        let _pass = self.enter_folder()?;
        let durable = self.durable.load(Ordering::Acquire);
        {
            let mut state = self.read_side.catalog.state.lock();
            state.released = state.released.max(up_to.get().min(durable));
            state.drop_excessive_pins();
        }
        let saved = self.save_pins()?;
        let (free, first) = {
            let mut state = self.read_side.catalog.state.lock();
            let free = state.take_free(&saved);
            (free, Lsn::new(state.first_lsn()))
        };
        self.clear(&free)?;
        Ok(first)
    }

    /// Files that no longer count: segments become spares, side files go.
    fn clear(&self, free: &[SegmentInfo]) -> Result<(), PinError> {
        let dir = &self.read_side.dir;
        let mut recycled = Vec::new();
        for segment in free {
            let to = scratch_path(dir, "recycle", segment.header.number);
            self.vfs().rename(&segment_path(dir, segment.header.number), &to)?;
            recycled.push(to);
        }
        if free.is_empty() {
            return Ok(());
        }
        // Before a side file goes, the segments that name it must be gone for good.
        self.vfs().sync_dir(dir)?;
        self.counters.recycled.add(disk_len(free.len()));
        self.keeper.recycle(recycled);
        // Recovery copies groups, so two segments may name one side file.
        let mut gone: BTreeSet<u64> =
            free.iter().flat_map(|segment| segment.sides.iter()).map(|(number, _)| *number).collect();
        {
            let state = self.read_side.catalog.state.lock();
            for (number, _) in state.segments.iter().flat_map(|info| info.sides.iter()) {
                gone.remove(number);
            }
        }
        for number in gone {
            self.vfs().remove(&side_path(dir, number))?;
        }
        Ok(())
    }
}

impl Prepared {
    /// Bytes that the record takes in the queue and in a group.
    pub(crate) fn stored_len(&self) -> usize {
        let reference = if self.side.is_some() { SIDE_REFERENCE_LEN } else { 0 };
        stored_len(self.record.payload.len()).saturating_add(reference)
    }
}

impl<S: LogSink> PinKeeper for Writer<S> {
    fn advance_pin(&self, name: &str, to: Lsn) -> Result<(), PinError> {
        let _pass = self.enter_folder()?;
        {
            let mut state = self.read_side.catalog.state.lock();
            let pin = state.pins.get_mut(name).ok_or_else(|| PinError::Unknown { name: name.to_owned() })?;
            if pin.lost {
                return Err(PinError::Lost { name: name.to_owned(), max_bytes: pin.max_bytes });
            }
            pin.from = pin.from.max(to.get());
        }
        self.save_pins().map(drop)
    }

    fn remove_pin(&self, name: &str) -> Result<(), PinError> {
        let _pass = self.enter_folder()?;
        let removed = self.read_side.catalog.state.lock().pins.remove(name);
        removed.map(drop).ok_or_else(|| PinError::Unknown { name: name.to_owned() })?;
        self.save_pins().map(drop)
    }
}
