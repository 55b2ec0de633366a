//! The commit queue: admission, numbering, who leads, who waits where.
//!
//! Invariants:
//! * Entries stand in the order of their tickets and of their LSNs; queue order is log order.
//! * `leading` is true while one thread owns the way to the disk: only that thread takes entries out.
//! * Every ticket up to `done` has its outcome: failed, if a range in `failed` holds it (or its fate says so), else kept.
//! * Whoever stops leading wakes one thread that will lead, if anything is queued.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use keepstone_types::{Clock, CodecId, Lsn};

use crate::error::{CommitError, PoisonCause};
use crate::options::{Durability, LogOptions};
use crate::record::{RecordKind, SIDE_REFERENCE_LEN, SideReference, stored_len};
use crate::sink::LogSink;
use crate::sync::{Arc, Condvar, MutexGuard, OnceLock};
use crate::wrong::{self, Wrong};

/// Why a queued record was not kept, or may not be.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    OutOfSpace { path: PathBuf, needed: u64 },
    Unknown(Arc<PoisonCause>),
    Poisoned { since: Lsn, cause: Arc<PoisonCause> },
}

impl Failure {
    pub(crate) fn into_error<R>(self) -> CommitError<R> {
        match self {
            Self::OutOfSpace { path, needed } => CommitError::OutOfSpace { path, needed },
            Self::Unknown(source) => CommitError::OutcomeUnknown { source },
            Self::Poisoned { since, cause } => CommitError::Poisoned { since, source: cause },
        }
    }
}

/// The outcome of a record that was handed in without waiting.
#[derive(Debug, Default)]
pub(crate) struct Fate(pub(crate) OnceLock<Result<(), Failure>>);

/// A record in the queue.
pub(crate) struct Entry<I> {
    pub(crate) ticket: u64,
    pub(crate) lsn: u64,
    pub(crate) kind: RecordKind,
    pub(crate) codec: CodecId,
    /// The payload, or its head when a side file holds the rest.
    pub(crate) inline: Vec<u8>,
    pub(crate) side: Option<SideReference>,
    pub(crate) item: I,
    pub(crate) durability: Durability,
    pub(crate) fate: Option<Arc<Fate>>,
}

impl<I> Entry<I> {
    /// Bytes that the record takes in a group.
    pub(crate) fn stored_len(&self) -> usize {
        stored_len(self.inline.len()).saturating_add(if self.side.is_some() { SIDE_REFERENCE_LEN } else { 0 })
    }
}

/// Tickets that failed together.
struct FailedRange {
    from: u64,
    to: u64,
    failure: Failure,
    /// Threads that have not asked yet.
    waiting: u64,
}

/// What a leader takes to the disk at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Bytes of records.
    pub(crate) length: usize,
    pub(crate) records: u64,
    pub(crate) first_ticket: u64,
    pub(crate) last_ticket: u64,
    pub(crate) last_lsn: u64,
    pub(crate) durability: Durability,
    /// Threads that wait for these tickets.
    pub(crate) waiting: u64,
}

/// What the queue's lock guards.
pub(crate) struct Queue<S: LogSink> {
    pub(crate) admission: S::Admission,
    entries: VecDeque<Entry<S::Item>>,
    /// Room for the entries of a group, kept from one to the next.
    scratch: Vec<Entry<S::Item>>,
    pub(crate) bytes: usize,
    next_lsn: u64,
    next_ticket: u64,
    done: u64,
    failed: Vec<FailedRange>,
    pub(crate) leading: bool,
    /// Groups taken; its parity says where those wait who are in the group now running.
    generation: u64,
    pub(crate) last_group: usize,
    /// How many queued entries end a leader's wait; 0 when none waits.
    gather: usize,
    waiting_heads: usize,
    waiting: [usize; 2],
    waiting_turn: usize,
    waiting_room: usize,
    pub(crate) poison: Option<(Lsn, Arc<PoisonCause>)>,
    pub(crate) closed: bool,
}

/// Where threads wait.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    /// Those in a group and those in the next, by the parity of the group.
    groups: [Condvar; 2],
    /// The head of the next group.
    head: Condvar,
    /// Those who wait for room.
    room: Condvar,
    /// A leader who waits for company.
    gather: Condvar,
    /// Those who need the way to the disk for something else than a group.
    turn: Condvar,
}

impl Bells {
    fn group(&self, generation: u64) -> &Condvar {
        let [even, odd] = &self.groups;
        if generation.is_multiple_of(2) { even } else { odd }
    }
}

/// Whom to wake after the lock is released.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wake {
    generation: Option<u64>,
    all: bool,
    head: bool,
    next: Option<u64>,
    turn: bool,
    room: bool,
    /// Nobody waits: the keeper has to lead.
    pub(crate) keeper: bool,
}

impl Bells {
    /// Hands leadership on, then wakes those who are done.
    pub(crate) fn ring(&self, wake: Wake) {
        if wake.turn {
            self.turn.notify_one();
        }
        if wake.head || wake.all {
            self.head.notify_all();
        }
        if let Some(next) = wake.next {
            self.group(next).notify_one();
        }
        if let Some(generation) = wake.generation {
            self.group(generation).notify_all();
        }
        if wake.all {
            self.groups.iter().for_each(|bell| {
                bell.notify_all();
            });
            self.turn.notify_all();
        }
        if wake.room || wake.all {
            self.room.notify_all();
        }
    }
}

impl<S: LogSink> Queue<S> {
    pub(crate) fn new(admission: S::Admission, next_lsn: u64) -> Self {
        Self {
            admission,
            entries: VecDeque::with_capacity(64),
            scratch: Vec::with_capacity(64),
            bytes: 0,
            next_lsn,
            next_ticket: 1,
            done: 0,
            failed: Vec::new(),
            leading: false,
            generation: 0,
            last_group: 0,
            gather: 0,
            waiting_heads: 0,
            waiting: [0; 2],
            waiting_turn: 0,
            waiting_room: 0,
            poison: None,
            closed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last ticket that was given.
    pub(crate) const fn last_ticket(&self) -> u64 {
        self.next_ticket.saturating_sub(1)
    }

    /// Whether nothing up to a ticket is queued any more.
    pub(crate) fn has_taken(&self, ticket: u64) -> bool {
        self.entries.front().is_none_or(|first| first.ticket > ticket)
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn refusal<R>(&self) -> Option<CommitError<R>> {
        if self.next_lsn == u64::MAX {
            let (since, source) = (Lsn::MAX.previous(), Arc::new(PoisonCause::Exhausted));
            return Some(CommitError::Poisoned { since, source });
        }
        if let Some((since, cause)) = &self.poison {
            return Some(CommitError::Poisoned { since: *since, source: Arc::clone(cause) });
        }
        self.closed.then_some(CommitError::Closed)
    }

    /// Whether entries of so many bytes may be queued. What is larger than the queue may be, alone.
    pub(crate) fn has_room(&self, options: &LogOptions, count: usize, bytes: usize) -> bool {
        let fits = self.entries.len().saturating_add(count) <= options.queue_entries_max
            && self.bytes.saturating_add(bytes) <= options.queue_bytes_max;
        fits || self.entries.is_empty()
    }

    /// Whether a thread may begin to lead.
    pub(crate) fn may_lead(&self) -> bool {
        !self.leading && self.waiting_turn == 0
    }

    /// Gives an entry its LSN and ticket and queues it, if the layer above admits it.
    pub(crate) fn admit(
        &mut self,
        sink: &S,
        mut entry: Entry<S::Item>,
        head_len: usize,
    ) -> Result<(u64, Lsn), S::Refusal> {
        let lsn = Lsn::new(self.next_lsn);
        let head = entry.inline.get_mut(..head_len).unwrap_or_default();
        let unwound = PoisonOnUnwind { poison: &mut self.poison, since: lsn.previous(), armed: true };
        let admitted = sink.admit(&mut self.admission, lsn, head, &mut entry.item);
        unwound.disarm();
        admitted?;
        let ticket = self.next_ticket;
        (entry.lsn, entry.ticket) = (self.next_lsn, ticket);
        self.next_lsn = self.next_lsn.saturating_add(1);
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.bytes = self.bytes.saturating_add(entry.stored_len());
        self.entries.push_back(entry);
        Ok((ticket, lsn))
    }

    /// Takes the entries of the next group: those that fit `limit` bytes of records. `None` when nothing is queued.
    pub(crate) fn take(&mut self, limit: usize) -> Option<(Batch, Vec<Entry<S::Item>>)> {
        let mut taken: Option<Batch> = None;
        let mut entries = std::mem::take(&mut self.scratch);
        while let Some(entry) = self.entries.front() {
            let stored = entry.stored_len();
            if taken.is_some_and(|batch| batch.length.saturating_add(stored) > limit) {
                break;
            }
            let Some(entry) = self.entries.pop_front() else { break };
            let batch = taken.get_or_insert(Batch {
                length: 0,
                records: 0,
                first_ticket: entry.ticket,
                last_ticket: entry.ticket,
                last_lsn: entry.lsn,
                durability: entry.durability,
                waiting: 0,
            });
            batch.length = batch.length.saturating_add(stored);
            batch.records = batch.records.saturating_add(1);
            (batch.last_ticket, batch.last_lsn) = (entry.ticket, entry.lsn);
            batch.durability = batch.durability.stronger(entry.durability);
            batch.waiting = batch.waiting.saturating_add(u64::from(entry.fate.is_none()));
            self.bytes = self.bytes.saturating_sub(stored);
            entries.push(entry);
        }
        self.generation = self.generation.wrapping_add(1);
        taken.map(|batch| (batch, entries))
    }

    /// Whom to wake when leadership ends: someone who will lead, if anything is queued.
    pub(crate) fn stop_leading(&mut self) -> Wake {
        self.leading = false;
        let mut wake = Wake { room: self.waiting_room > 0, ..Wake::default() };
        if self.waiting_turn > 0 {
            wake.turn = true;
        } else if !self.entries.is_empty() {
            let next = self.generation.wrapping_add(1);
            if self.waiting_heads > 0 {
                wake.head = true;
            } else if self.waiting_at(next) > 0 {
                wake.next = Some(next);
            } else {
                wake.keeper = true;
            }
        }
        wake
    }

    fn waiting_at(&mut self, generation: u64) -> usize {
        *self.waiting_slot(generation)
    }

    fn waiting_slot(&mut self, generation: u64) -> &mut usize {
        let [even, odd] = &mut self.waiting;
        if generation.is_multiple_of(2) { even } else { odd }
    }

    /// Everything through a ticket is decided; leadership ends.
    pub(crate) fn finish(&mut self, batch: &Batch, scratch: Vec<Entry<S::Item>>) -> Wake {
        self.done = self.done.max(batch.last_ticket);
        self.last_group = usize::try_from(batch.records).unwrap_or(usize::MAX);
        self.scratch = scratch;
        let generation = self.generation;
        let heads = self.waiting_heads > 0;
        let wake = self.stop_leading();
        Wake { generation: Some(generation), head: wake.head || heads, ..wake }
    }

    /// Fails the taken entries and everything queued behind them, newest first; their LSNs will be given again. Gives
    /// how many, and the side files of those that were still queued: they are to be removed.
    pub(crate) fn fail_from(
        &mut self,
        sink: &S,
        mut batch: Vec<Entry<S::Item>>,
        revoking: bool,
        failure: &Failure,
    ) -> (usize, Vec<SideReference>) {
        let behind = self.entries.iter().filter_map(|entry| entry.side).collect();
        batch.extend(self.entries.drain(..));
        self.bytes = 0;
        // Outcomes first: a panic in `revoke` must not leave a ticket that looks kept.
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return (0, behind) };
        let waiting = batch.iter().filter(|entry| entry.fate.is_none()).count();
        if !wrong::is(Wrong::KeptVersions) {
            self.next_lsn = first.lsn;
        }
        let tickets = (first.ticket, last.ticket);
        for fate in batch.iter().filter_map(|entry| entry.fate.as_ref()) {
            fate.0.set(Err(failure.clone())).unwrap_or_default();
        }
        self.fail_tickets(tickets, u64::try_from(waiting).unwrap_or(u64::MAX), failure);
        let failed = batch.len();
        let revoking = revoking && !wrong::is(Wrong::KeptVersions);
        for entry in batch.into_iter().rev().filter(|_| revoking) {
            sink.revoke(&mut self.admission, entry.item);
        }
        (failed, behind)
    }

    /// Tickets, first to last, have failed, and so many threads wait for them.
    pub(crate) fn fail_tickets(&mut self, (from, to): (u64, u64), waiting: u64, failure: &Failure) {
        self.done = self.done.max(to);
        if waiting > 0 {
            self.failed.push(FailedRange { from, to, failure: failure.clone(), waiting });
        }
    }

    /// Wakes everybody, and ends leadership.
    pub(crate) fn wake_all(&mut self) -> Wake {
        let wake = self.stop_leading();
        Wake { all: true, ..wake }
    }

    /// The outcome of a ticket, once it is decided. Each waiting thread asks until it gets one, and then never again.
    fn outcome(&mut self, ticket: u64, fate: Option<&Fate>) -> Option<Result<(), Failure>> {
        if self.done < ticket {
            return None;
        }
        if let Some(fate) = fate {
            return Some(fate.0.get().cloned().unwrap_or(Ok(())));
        }
        let place = self.failed.iter().position(|range| (range.from..=range.to).contains(&ticket));
        let Some(range) = place.and_then(|place| self.failed.get_mut(place)) else { return Some(Ok(())) };
        let failure = range.failure.clone();
        range.waiting = range.waiting.saturating_sub(1);
        if range.waiting == 0 {
            self.failed.retain(|range| range.waiting > 0);
        }
        Some(Err(failure))
    }

    /// How many must be queued for a leader to stop waiting, and the end of that wait when they are.
    pub(crate) fn notice_company(&self, bells: &Bells) {
        if self.gather > 0 && self.entries.len() >= self.gather {
            bells.gather.notify_one();
        }
    }
}

/// Poisons the queue when admission panics: what it left half done, nobody knows.
struct PoisonOnUnwind<'a> {
    poison: &'a mut Option<(Lsn, Arc<PoisonCause>)>,
    since: Lsn,
    armed: bool,
}

impl PoisonOnUnwind<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for PoisonOnUnwind<'_> {
    fn drop(&mut self) {
        if self.armed {
            let cause = PoisonCause::Panicked { doing: "admitted a record" };
            *self.poison = Some((self.since, Arc::new(cause)));
        }
    }
}

type Guard<'a, S> = MutexGuard<'a, Queue<S>>;

/// What a thread that waits for a ticket does next.
pub(crate) enum Next {
    Outcome(Result<(), Failure>),
    Lead,
}

/// Waits until a ticket's outcome is known, or the waiting thread is the one that has to lead.
pub(crate) fn wait_or_lead<S: LogSink>(
    guard: &mut Guard<'_, S>,
    bells: &Bells,
    ticket: u64,
    fate: Option<&Fate>,
) -> Next {
    loop {
        if let Some(outcome) = guard.outcome(ticket, fate) {
            return Next::Outcome(outcome);
        }
        let first = guard.entries.front().map(|entry| entry.ticket);
        let queued = first.is_some_and(|first| ticket >= first);
        if queued && guard.may_lead() {
            guard.leading = true;
            return Next::Lead;
        }
        if first == Some(ticket) {
            guard.waiting_heads = guard.waiting_heads.saturating_add(1);
            bells.head.wait(guard);
            guard.waiting_heads = guard.waiting_heads.saturating_sub(1);
        } else {
            let generation = guard.generation.wrapping_add(u64::from(queued));
            let slot = guard.waiting_slot(generation);
            *slot = slot.saturating_add(1);
            bells.group(generation).wait(guard);
            let slot = guard.waiting_slot(generation);
            *slot = slot.saturating_sub(1);
        }
    }
}

/// What a thread that needs room in the queue does next.
pub(crate) enum Room {
    Found,
    /// Nobody leads: it has to, or there would never be room.
    Lead,
    Full(Duration),
}

/// Waits until there is room, for at most the time that the options say from `started` on.
pub(crate) fn wait_for_room<S: LogSink>(
    guard: &mut Guard<'_, S>,
    bells: &Bells,
    clock: &dyn Clock,
    options: &LogOptions,
    (count, bytes): (usize, usize),
    started: &mut Option<Duration>,
) -> Room {
    loop {
        if guard.poison.is_some() || guard.closed || guard.has_room(options, count, bytes) {
            return Room::Found;
        }
        if guard.may_lead() {
            guard.leading = true;
            return Room::Lead;
        }
        let began = *started.get_or_insert_with(|| clock.monotonic());
        let waited = clock.monotonic().saturating_sub(began);
        let left = options.queue_wait.saturating_sub(waited);
        guard.waiting_room = guard.waiting_room.saturating_add(1);
        let timed_out = left.is_zero() || bells.room.wait_for(guard, left);
        guard.waiting_room = guard.waiting_room.saturating_sub(1);
        if timed_out && !guard.has_room(options, count, bytes) {
            return Room::Full(options.queue_wait.max(waited));
        }
    }
}

/// Waits until `count` entries are queued, for at most `limit`. True when it waited.
pub(crate) fn gather<S: LogSink>(
    guard: &mut Guard<'_, S>,
    bells: &Bells,
    clock: &dyn Clock,
    count: usize,
    limit: Duration,
) -> bool {
    if guard.entries.len() >= count || limit.is_zero() {
        return false;
    }
    let began = clock.monotonic();
    guard.gather = count;
    while guard.entries.len() < count {
        let left = limit.saturating_sub(clock.monotonic().saturating_sub(began));
        if left.is_zero() || bells.gather.wait_for(guard, left) {
            break;
        }
    }
    guard.gather = 0;
    true
}

/// How long the keeper waits for leadership. Never for good: a leader may be waiting for the keeper.
const KEEPER_PATIENCE: Duration = Duration::from_millis(1);

/// Takes leadership if it becomes free soon.
pub(crate) fn try_turn<S: LogSink>(guard: &mut Guard<'_, S>, bells: &Bells) -> bool {
    guard.waiting_turn = guard.waiting_turn.saturating_add(1);
    while guard.leading {
        if bells.turn.wait_for(guard, KEEPER_PATIENCE) && guard.leading {
            guard.waiting_turn = guard.waiting_turn.saturating_sub(1);
            // Whoever leads now wakes somebody when it ends; those who held back for this turn are among them.
            return false;
        }
    }
    guard.waiting_turn = guard.waiting_turn.saturating_sub(1);
    guard.leading = true;
    true
}

/// Waits for leadership and takes it.
pub(crate) fn take_turn<S: LogSink>(guard: &mut Guard<'_, S>, bells: &Bells) {
    guard.waiting_turn = guard.waiting_turn.saturating_add(1);
    while guard.leading {
        bells.turn.wait(guard);
    }
    guard.waiting_turn = guard.waiting_turn.saturating_sub(1);
    guard.leading = true;
}
