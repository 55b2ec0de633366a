//! From a finished transaction to a commit: encode, validate outside the lock, hand to the log, wait.

use std::time::Duration;

use keepstone_types::{Timestamp, Version};
use keepstone_wal::{Durability, Record, RecordKind, Ticket};

use crate::checkpoint::{Reason, ground, room, run};
use crate::commit::CommitItem;
use crate::commit::entry::CommitEntry;
use crate::commit::window::{Basis, Footprint, Refusal};
use crate::database::Inner;
use crate::error::{CheckpointError, CommitError};
use crate::log::error::{commit_error, refusal};
use crate::log::record::{self, Row};
use crate::memtable::row_bytes;
use crate::read_set::{ReadSet, joined};
use crate::readers::Registration;
use crate::runs::{Run, RunRef, bytes_of, rows_of};
use crate::sync::{Arc, Ordering, thread};
use crate::txn::{Isolation, Receipt};
use crate::write_set::{FinishedWrites, WriteSet};

/// Commits copied from the window at a time, to be validated outside the queue's lock.
const CHUNK_COMMITS: usize = 64;
/// Up to this many commits since the view …
const CHEAP_COMMITS: u64 = 8;
/// … and this many keys and ranges are left to the queue's lock altogether.
const CHEAP_WORK: usize = 64;

/// A transaction that wants to commit.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) txn: u64,
    pub(crate) isolation: Isolation,
    pub(crate) durability: Option<Durability>,
    /// The version its last call saw: what a transaction without writes reports.
    pub(crate) view: Version,
    /// The version it is validated from.
    pub(crate) held: Arc<Registration>,
    pub(crate) reads: ReadSet,
    pub(crate) writes: WriteSet,
    pub(crate) everything: bool,
}

/// What goes to the log.
struct Prepared {
    record: Record,
    item: CommitItem,
    entry: Arc<CommitEntry>,
    durability: Option<Durability>,
    /// Held until the log has answered: the files of a commit that is refused go with the last handles, and not under a lock
    /// of the log.
    runs: Box<[Arc<Run>]>,
}

/// A commit that was handed to the log, or a transaction that wrote nothing.
pub(crate) enum Submitted {
    Nothing(Receipt),
    Queued { txn: u64, began: Version, started: Duration, ticket: Ticket, entry: Arc<CommitEntry> },
}

fn receipt(entry: &CommitEntry) -> Receipt {
    Receipt { version: entry.version(), time: entry.time(), rows: entry.row_count() }
}

/// The receipt of a transaction that wrote nothing.
fn read_receipt(inner: &Inner, view: Version) -> Result<Receipt, CommitError> {
    let commit = inner.shared.stack.with(|layers| layers.commit_at_or_below(view))?;
    let time = commit.map_or(Timestamp::EPOCH, |commit| commit.time);
    Ok(Receipt { version: view, time, rows: 0 })
}

/// Commits and waits.
pub(crate) fn commit(inner: &Inner, intent: Intent) -> Result<Receipt, CommitError> {
    let (txn, began) = (intent.txn, intent.held.version());
    let view = intent.view;
    let started = inner.shared.clock.monotonic();
    let result = (|| {
        let _call = inner.shared.enter()?;
        let Some(prepared) = prepare(inner, intent)? else {
            return read_receipt(inner, view);
        };
        slow_down(inner, &prepared.item.rows);
        let _turn = inner.shared.turns.pass();
        let done = inner.log.commit(prepared.record, prepared.item, prepared.durability);
        drop(prepared.runs);
        done.map_err(|error| commit_error(&inner.shared, txn, began, error))?;
        Ok(receipt(&prepared.entry))
    })();
    count(inner, started, &result);
    result
}

/// Waits as long as the checkpoint asks of a committer, in proportion to what it writes and to what waits to be folded.
fn slow_down(inner: &Inner, rows: &[Row]) {
    let bytes = rows.iter().map(|row| row_bytes(&row.key, row.value.as_ref())).fold(0, u64::saturating_add);
    let delay = inner.checkpointer.delay(inner, bytes);
    if !delay.is_zero() {
        inner.shared.counters.slowed.add(1);
        thread::sleep(delay);
    }
}

/// Hands the commit to the log.
pub(crate) fn submit(inner: &Inner, intent: Intent) -> Result<Submitted, CommitError> {
    let (txn, began) = (intent.txn, intent.held.version());
    let view = intent.view;
    let started = inner.shared.clock.monotonic();
    let result = (|| {
        let _call = inner.shared.enter()?;
        let Some(prepared) = prepare(inner, intent)? else {
            return Ok(Submitted::Nothing(read_receipt(inner, view)?));
        };
        slow_down(inner, &prepared.item.rows);
        let _turn = inner.shared.turns.pass();
        let ticket = inner.log.submit(prepared.record, prepared.item, prepared.durability);
        drop(prepared.runs);
        let ticket = ticket.map_err(|error| commit_error(&inner.shared, txn, began, error))?;
        Ok(Submitted::Queued { txn, began, started, ticket, entry: prepared.entry })
    })();
    match result {
        Ok(submitted) => Ok(submitted),
        Err(error) => {
            let result = Err(error);
            count(inner, started, &result);
            result.map(Submitted::Nothing)
        }
    }
}

impl Submitted {
    /// Waits for the log.
    pub(crate) fn wait(self, inner: &Inner) -> Result<Receipt, CommitError> {
        match self {
            Self::Nothing(receipt) => {
                inner.shared.counters.committed.add(1);
                Ok(receipt)
            }
            Self::Queued { txn, began, started, ticket, entry } => {
                let done = inner.log.wait(ticket);
                let result = done.map_err(|error| commit_error(&inner.shared, txn, began, error));
                let result = result.map(|_lsn| receipt(&entry));
                count(inner, started, &result);
                result
            }
        }
    }
}

/// Counts how a transaction ended.
fn count(inner: &Inner, started: Duration, result: &Result<Receipt, CommitError>) {
    let counters = &inner.shared.counters;
    match result {
        Ok(receipt) => {
            counters.committed.add(1);
            if receipt.rows > 0 {
                counters.commit_took(inner.shared.clock.monotonic().saturating_sub(started));
            }
        }
        Err(error) => {
            counters.rolled_back.add(1);
            match error {
                CommitError::Conflict { .. } => counters.conflicts.add(1),
                CommitError::ConflictWindowExceeded { .. } => counters.windows_exceeded.add(1),
                CommitError::Full { .. } => counters.refused_full.add(1),
                _ => {}
            }
        }
    }
}

/// Encodes a transaction and validates most of it; `None` when there is nothing to commit.
fn prepare(inner: &Inner, intent: Intent) -> Result<Option<Prepared>, CommitError> {
    inner.shared.must_be_same_process()?;
    if intent.writes.is_empty() && !intent.everything {
        return Ok(None);
    }
    if inner.shared.read_only {
        return Err(CommitError::ReadOnly);
    }
    let FinishedWrites { rows, runs } = intent.writes.finish(&inner.runs)?;
    must_have_room(inner, &rows)?;
    let keys = rows.iter().map(|row| (row.table, row.key.clone())).collect();
    let (record, entry, durability) = if runs.is_empty() {
        let record = Record::new(RecordKind::COMMIT, record::encode(&rows));
        (record, CommitEntry::new(keys), intent.durability)
    } else {
        must_have_room_for_runs(inner, &runs)?;
        let references: Vec<RunRef> = runs.iter().map(|run| *run.reference()).collect();
        let record = Record::new(RecordKind::ATTACH, record::encode_attach(&references, &rows));
        (record, CommitEntry::on_runs(keys, rows_of(&references)), of_attached(intent.durability))
    };
    let spans = joined(runs.iter().flat_map(|run| run.spans().iter().cloned()).collect());
    let mut reads = intent.reads.finish();
    let writes = match intent.isolation {
        Isolation::ReadCommitted => None,
        Isolation::Snapshot | Isolation::Serializable => {
            // The first to commit wins on written keys; of runs only the ranges of them are known.
            reads.add_ranges(&spans);
            Some(Arc::clone(&entry))
        }
    };
    // `ReadCommitted` reads nothing that counts but the branch that it writes to.
    let basis = if writes.is_none() && reads.is_empty() {
        None
    } else {
        let (view, everything) = (intent.held.version(), intent.everything);
        let basis = Basis { view, reads, writes, everything, validated: view, revocations: 0 };
        let validated = validate_outside(inner, basis);
        Some(Arc::new(validated.map_err(|refused| refusal(&inner.shared, intent.txn, view, refused))?))
    };
    let footprint = Some(match spans.is_empty() {
        true => Footprint::of(&entry, inner.window_bytes_max),
        false => Footprint::of_runs(&entry, &spans),
    });
    let before = (Version::ZERO, Timestamp::EPOCH);
    let item = CommitItem { entry: Arc::clone(&entry), rows, runs: runs.clone(), basis, footprint, before };
    Ok(Some(Prepared { record, item, entry, durability, runs }))
}

/// Refuses a commit with runs when the disk has no room to fold them into. That room is looked for and not written ahead:
/// it would be written twice. Where it is taken by somebody else before they are folded, nothing is lost; they are folded
/// when there is room.
fn must_have_room_for_runs(inner: &Inner, runs: &[Arc<Run>]) -> Result<(), CommitError> {
    let bytes = bytes_of(runs);
    if room::disk_has(inner, bytes) {
        return Ok(());
    }
    let what = format!("the disk has no room to fold {bytes} bytes of the transaction into the page file");
    Err(CommitError::OutOfSpace { source: what.into() })
}

/// The durability of a record that names runs: they are part of the store once it is on stable storage.
fn of_attached(durability: Option<Durability>) -> Option<Durability> {
    match durability {
        Some(Durability::Full) => Some(Durability::Full),
        _ => Some(Durability::Normal),
    }
}

/// Refuses a commit that adds something when the page file has no room to fold it into.
fn must_have_room(inner: &Inner, rows: &[Row]) -> Result<(), CommitError> {
    let bytes = rows.iter().filter_map(|row| Some(row.key.len().saturating_add(row.value.as_ref()?.len())));
    let bytes = bytes.map(|len| u64::try_from(len).unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
    if bytes == 0 {
        return Ok(());
    }
    let mut there = room::is_there(inner, bytes);
    if matches!(there, Ok(false)) {
        // What is folded needs no more room, and gives back what its log took.
        if let Err(CheckpointError::Poisoned { source }) = run(inner, Reason::Asked) {
            return Err(CommitError::Poisoned { source });
        }
        there = room::is_there(inner, bytes);
    }
    match there {
        Ok(true) => Ok(()),
        Ok(false) => {
            let what =
                "the page file has no room to fold more into; delete something, or make room on the disk";
            Err(CommitError::OutOfSpace { source: what.into() })
        }
        Err(error) => Err(refused_by_pages(inner, error)),
    }
}

/// Why the page file refused a commit that has not gone to the log. The failure that stopped the page file is told as those
/// after it are: from then on no commit that adds something is taken.
fn refused_by_pages(inner: &Inner, error: CheckpointError) -> CommitError {
    let stopped = || ground(inner).is_ok_and(|ground| ground.pages().is_poisoned());
    match error {
        CheckpointError::Poisoned { source } => CommitError::Poisoned { source },
        error if stopped() => CommitError::Poisoned { source: error.into() },
        error => CommitError::Pages { source: error.into() },
    }
}

/// Validates against the commits since the view, a bounded number at a time, so that little is left for the queue's
/// lock. What is cheap is left to it whole.
fn validate_outside(inner: &Inner, mut basis: Basis) -> Result<Basis, Refusal> {
    let admitted = Version::from_raw(inner.shared.admitted.load(Ordering::Acquire));
    let behind = admitted.sequence().saturating_sub(basis.view.sequence());
    let work =
        basis.reads.len().saturating_add(basis.writes.as_ref().map_or(0, |writes| writes.keys().len()));
    if behind <= CHEAP_COMMITS && work <= CHEAP_WORK {
        return Ok(basis);
    }
    loop {
        let (view, after) = (basis.view, basis.validated);
        let next =
            inner.log.with_admission(|admission| admission.window.next_chunk(view, after, CHUNK_COMMITS));
        let (chunk, revocations) = next?;
        if revocations != basis.revocations {
            // A number was given twice since: what was validated may be another commit now.
            basis.revocations = revocations;
            if basis.validated != view {
                basis.validated = view;
                continue;
            }
        }
        chunk.iter().try_for_each(|commit| basis.validate(commit))?;
        if let Some(last) = chunk.last() {
            basis.validated = last.version;
        }
        if chunk.len() < CHUNK_COMMITS {
            return Ok(basis);
        }
    }
}
