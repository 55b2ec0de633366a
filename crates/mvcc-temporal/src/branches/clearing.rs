//! Discarding a branch: one commit after which it is not there, and then its rows, a bounded piece at a time.
//!
//! Whoever is stopped between two pieces leaves the note that the rows are still to go; the next checkpoint goes on from it.

use std::ops::Bound;

use keepstone_types::{ValueRef, Version};

use super::handle::Branch;
use super::part::BranchNumber;
use super::rows::{branch_key, discarded, discarded_key, parse_branch_row};
use crate::catalog::TableId;
use crate::commit::path::{Intent, commit};
use crate::database::Inner;
use crate::error::{CommitError, WriteError};
use crate::key_range::KeyRange;
use crate::merge::{Direction, Merge};
use crate::names::commit_only;
use crate::read_set::ReadSet;
use crate::sync::Ordering;
use crate::txn::{Isolation, Txn, TxnOptions};
use crate::write_set::WriteSet;
use crate::wrong::{self, Wrong};

/// Rows that go in one commit, at most; no more than a slice of a checkpoint folds.
const PIECE_ROWS_MAX: usize = 4_096;

impl Branch {
    /// Takes the branch away, and lets the version below it go if nothing else keeps it. When this returns, nobody sees the
    /// branch any more, across crashes as with any commit, and its name is free. Its own rows are then deleted in pieces;
    /// what a crash or a full disk leaves of them goes with the next checkpoint, and their history as retention says.
    ///
    /// # Errors
    /// When the branch was discarded already, or the commit fails.
    pub fn discard(&self) -> Result<(), CommitError> {
        let (info, number) = (self.info(), self.info().number());
        let key = branch_key(&info.name);
        let take_away = |txn: &mut Txn| -> Result<(), WriteError> {
            let found = txn.get_row(TableId::SYSTEM, &key)?;
            let made = found
                .and_then(|row| parse_branch_row(&key, &row.value, row.version?).map(|branch| branch.made));
            if made != Some(info.made) {
                return Err(self.not_found().into());
            }
            txn.set_system(&key, None)?;
            if wrong::is(Wrong::NoteForgotten) {
                return Ok(());
            }
            Ok(txn.set_system(&discarded_key(number), Some(ValueRef::empty()))?)
        };
        self.database().retry(TxnOptions::default(), take_away).map_err(commit_only)?;
        // The branch is gone. What is left of its rows is nobody's, and goes when there is a way.
        clear_discarded(self.inner()).unwrap_or_default();
        Ok(())
    }
}

/// Deletes the rows of all branches that were discarded.
pub(crate) fn clear_discarded(inner: &Inner) -> Result<(), CommitError> {
    if inner.shared.read_only {
        return Ok(());
    }
    for number in discarded(&inner.shared.stack.view())? {
        let mut from = Some(number.everything());
        while let Some(range) = from {
            from = clear_piece(inner, number, &range)?;
        }
    }
    Ok(())
}

/// Deletes the first rows of a range; gives the rest. With the last row goes the note.
fn clear_piece(
    inner: &Inner,
    number: BranchNumber,
    range: &KeyRange,
) -> Result<Option<KeyRange>, CommitError> {
    let shared = &inner.shared;
    let held = shared.hold_newest()?;
    let (mut writes, mut last) = (WriteSet::default(), None);
    {
        let _call = shared.enter()?;
        let view = shared.stack.view_at(held.version());
        let piece = inner.checkpointer.options.slice_keys.min(PIECE_ROWS_MAX);
        for row in Merge::new(&view, None, TableId::BRANCHES, range, Direction::Up)?.take(piece) {
            let (place, _) = row?;
            writes.set(TableId::BRANCHES, place.clone(), None)?;
            last = Some(place);
        }
    }
    let rest = last.map(|last| KeyRange { from: Bound::Excluded(last), to: range.to.clone() });
    if rest.is_none() {
        writes.set(TableId::SYSTEM, ValueRef::from(discarded_key(number)), None)?;
    }
    shared.counters.begun.add(1);
    let intent = Intent {
        txn: shared.next_txn.fetch_add(1, Ordering::Relaxed),
        // Nobody writes to these rows any more, and whoever else deletes them does the same.
        isolation: Isolation::ReadCommitted,
        durability: None,
        view: Version::ZERO,
        held,
        reads: ReadSet::default(),
        writes,
        everything: false,
    };
    commit(inner, intent)?;
    Ok(rest)
}
