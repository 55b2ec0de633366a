//! The seam to the transaction layer: its options, its receipts, and `write`.

use std::mem;
use std::time::Duration;

use keepstone_mvcc_temporal::{self as mvcc, Read as _};
use keepstone_types::StoreId;

use crate::error::change::WriteError;
use crate::error::map::{commit_error, read_error};
use crate::options::{
    Access, Durability, Existence, HistoryCoding, Parity, Recovery, Retention, StoreOptions,
};
use crate::store::StoreInner;
use crate::sync::Arc;
use crate::txn::{Committed, Isolation, Receipt, Txn, TxnOptions};

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const fn durability(durability: Durability) -> mvcc::Durability {
    match durability {
        Durability::Full => mvcc::Durability::Full,
        Durability::Normal => mvcc::Durability::Normal,
        Durability::Relaxed { max_commits, max_delay } => {
            mvcc::Durability::Relaxed { max_commits, max_delay }
        }
        Durability::None => mvcc::Durability::None,
    }
}

pub(crate) fn durability_of(durability: mvcc::Durability) -> Durability {
    match durability {
        mvcc::Durability::Full => Durability::Full,
        mvcc::Durability::Normal => Durability::Normal,
        mvcc::Durability::Relaxed { max_commits, max_delay } => {
            Durability::Relaxed { max_commits, max_delay }
        }
        // The enum below may grow; of what is unknown here nothing is promised.
        _ => Durability::None,
    }
}

pub(crate) fn options(options: &StoreOptions) -> mvcc::DatabaseOptions {
    let made = mvcc::DatabaseOptions::default()
        .existence(match options.existence {
            Existence::Create => mvcc::Existence::Create,
            Existence::MustExist => mvcc::Existence::MustExist,
            Existence::CreateIfMissing => mvcc::Existence::CreateIfMissing,
        })
        .access(match options.access {
            Access::Write => mvcc::Access::Write,
            Access::ReadOnly => mvcc::Access::ReadOnly,
            Access::WriteIfFree => mvcc::Access::WriteIfFree,
        })
        .recovery(match options.recovery {
            Recovery::Strict => mvcc::Recovery::Strict,
            Recovery::Prefix => mvcc::Recovery::Prefix,
            Recovery::ReadOnlyAtCheckpoint => mvcc::Recovery::ReadOnlyAtCheckpoint,
        })
        .window_bytes_max(size(options.window_bytes_max))
        .transaction_memory_bytes(size(options.transaction_memory_bytes))
        .queue_entries_max(size(options.memory_entries_max))
        .queue_bytes_max(size(options.memory_bytes_max))
        .history(match options.history {
            HistoryCoding::Chains => mvcc::HistoryCoding::Chains,
            HistoryCoding::Whole => mvcc::HistoryCoding::Whole,
        })
        .parity(options.parity == Parity::Xor)
        .page_size(u32::try_from(options.page_size).unwrap_or(u32::MAX))
        .cache_bytes(options.cache_bytes)
        .checkpoint(checkpoints(options))
        .force_network(options.force_network);
    let made = match options.durability {
        Some(asked) => made.durability(durability(asked)),
        None => made,
    };
    match options.retention {
        Some(asked) => made.retention(retention(asked)),
        None => made,
    }
}

const fn retention(retention: Retention) -> mvcc::Retention {
    match retention {
        Retention::Forever => mvcc::Retention::Forever,
        Retention::For(time) => mvcc::Retention::For(time),
        Retention::None => mvcc::Retention::None,
    }
}

fn checkpoints(options: &StoreOptions) -> mvcc::CheckpointOptions {
    mvcc::CheckpointOptions::default()
        .memory_bytes(options.checkpoint_memory_bytes)
        .log_bytes(options.checkpoint_log_bytes)
        .age(Duration::from_millis(options.checkpoint_age_ms))
        .idle(Duration::from_millis(options.checkpoint_idle_ms))
        .slice_keys(size(options.checkpoint_slice_keys))
}

pub(crate) fn txn_options(options: TxnOptions) -> mvcc::TxnOptions {
    let made = mvcc::TxnOptions::default().isolation(match options.isolation {
        Isolation::Snapshot => mvcc::Isolation::Snapshot,
        Isolation::Serializable => mvcc::Isolation::Serializable,
    });
    match options.durability {
        Some(asked) => made.durability(durability(asked)),
        None => made,
    }
}

pub(crate) fn receipt(receipt: mvcc::Receipt) -> Receipt {
    Receipt { version: (receipt.rows > 0).then_some(receipt.version), time: receipt.time }
}

pub(crate) fn store_id(database: &mvcc::Database) -> StoreId {
    database.store_id()
}

/// Where a transaction reads and writes.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Store,
    Branch(&'a mvcc::Branch),
}

/// Runs `work` in a transaction of the given options and commits it, again when it loses a race.
///
/// The layer below begins each attempt itself and lends it; this crate's transactions own theirs. So each attempt begins
/// one of its own and leaves it in the place of the one that was lent, which is the one that is then committed. The one
/// that was lent counts as rolled back: `stats` takes these off again.
pub(crate) fn write<T, E>(
    store: &Arc<StoreInner>,
    place: Place<'_>,
    options: TxnOptions,
    work: &mut impl FnMut(&mut Txn) -> Result<T, WriteError<E>>,
) -> Result<Committed<T>, WriteError<E>> {
    let attempt = |lent: &mut mvcc::Txn| -> Result<T, mvcc::WriteError<WriteError<E>>> {
        let own = match place {
            Place::Store => store.database.begin_with(txn_options(options))?,
            Place::Branch(branch) => branch.begin_with(txn_options(options))?,
        };
        store.meters.lent();
        let mut txn = Txn::new(own, Arc::clone(store), options.isolation);
        let value = work(&mut txn).map_err(mvcc::WriteError::Caller)?;
        txn.expect_whole().map_err(|error| mvcc::WriteError::Caller(WriteError::Commit(error)))?;
        drop(mem::replace(lent, txn.into_inner()));
        Ok(value)
    };
    let written = match place {
        Place::Store => store.database.write(attempt),
        Place::Branch(branch) => branch.write(attempt),
    };
    match written {
        Ok(committed) => {
            Ok(Committed { value: committed.value, version: committed.version, time: committed.time })
        }
        Err(mvcc::WriteError::Caller(error)) => Err(error),
        Err(mvcc::WriteError::Commit(error)) => Err(WriteError::Commit(commit_error(error))),
        Err(mvcc::WriteError::Read(error)) => Err(read_error(error).into()),
        Err(other) => {
            let kind = crate::error::ErrorKind(other.kind().as_str());
            let source = format!("an error of the kind {kind}").into();
            Err(WriteError::Commit(crate::error::CommitError::Engine { kind, source }))
        }
    }
}
