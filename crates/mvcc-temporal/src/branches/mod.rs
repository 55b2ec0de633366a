//! Branches: what if. A branch is a name, a version of the store, and rows of its own above that version.
//!
//! A branch reads as its version where it wrote nothing. What it writes, deletions included, are rows of one table of the
//! store's own ([`part`]), put there by commits like any other: they go through the log, are folded, have history, and are
//! lost or kept by a crash as a whole. Nobody else sees them, and the branch sees nobody else's.
//!
//! Invariants:
//! * A branch is there exactly when its row is ([`rows`]). Its number is the version that wrote that row, so a name that is
//!   given again is another branch, and handles of the first know it.
//! * The version below a branch stays readable for as long as the row is there, as that of a name does.
//! * A transaction on a branch conflicts with what discards it, whatever its isolation.
//! * Discarding is one commit that takes the row away and leaves a note of the number. The branch's own rows go afterwards, a
//!   bounded piece a commit; the note goes with the last. Whoever checkpoints finishes what was begun.
//! * Rows of a branch that is there are never deleted, only said to be: what has no row of its own reads as below.

mod clearing;
mod compare;
mod handle;
mod merging;
mod overlaid;
mod part;
mod rows;

use keepstone_types::Version;

use crate::catalog::{TABLE_PREFIX, TableId};
use crate::database::Database;
use crate::error::{CommitError, ReadError, WriteError};
use crate::names::{commit_only, may_be_name, shown};
use crate::sync::Arc;
use crate::txn::{Txn, TxnOptions};

pub(crate) use clearing::clear_discarded;
pub use compare::{BranchChange, BranchDiff};
pub use handle::Branch;
pub use merging::{MergeConflict, MergeConflicts, MergeReport, MergeStrategy, Resolution};
pub(crate) use overlaid::BranchViews;
pub(crate) use part::{
    BranchNumber, BranchPart, PLACE_LEN_MAX, TAGGED_LEN_MAX, split_place, tagged, untagged,
};
pub use rows::BranchInfo;
pub(crate) use rows::{
    BRANCH_PREFIX, DISCARDED_PREFIX, bases, branch_key, branch_value, discarded, is_there, list,
    parse_branch_row,
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use rows::{discarded_key, parse_discarded_row};

/// Whether the row at a place is a branch's own catalog row: every creator of a table in it writes the same.
pub(crate) fn is_catalog_of_branch(place: &[u8]) -> bool {
    let found = split_place(place);
    found.is_some_and(|(_, table, key)| table == TableId::SYSTEM && key.first() == Some(&TABLE_PREFIX))
}

impl Database {
    /// Forks a branch at a version, which stays readable for as long as the branch is there. It costs one small commit,
    /// whatever the store holds. The version is made durable first.
    ///
    /// # Errors
    /// When the name is empty, too long or taken, the version was never made or is no longer kept, or the commit fails.
    ///
    /// ```
    /// use keepstone_mvcc_temporal::{Database, DatabaseOptions, MergeStrategy, Read, WriteError};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let database = Database::open(dir.path(), DatabaseOptions::default())?;
    /// database.write(|txn| -> Result<(), WriteError> { Ok(txn.put("prices", "stone", b"7".as_slice())?) })?;
    ///
    /// let branch = database.fork("cheaper", database.visible_version())?;
    /// branch.write(|txn| -> Result<(), WriteError> { Ok(txn.put("prices", "stone", b"5".as_slice())?) })?;
    /// assert_eq!(branch.get("prices", "stone")?.unwrap(), b"5");
    /// assert_eq!(database.get("prices", "stone")?.unwrap(), b"7");
    ///
    /// assert_eq!(branch.merge(MergeStrategy::Reject)?.written, 1);
    /// assert_eq!(database.get("prices", "stone")?.unwrap(), b"5");
    /// branch.discard()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fork(&self, name: &str, version: Version) -> Result<Branch, CommitError> {
        if !may_be_name(name) {
            return Err(CommitError::BranchName { name: shown(name) });
        }
        let shared = &self.inner.shared;
        let _held = shared.hold(version)?;
        if version > self.durable_version() {
            self.sync()?;
        }
        let (key, forked) = (branch_key(name), shared.clock.now());
        let make = |txn: &mut Txn| -> Result<(), WriteError> {
            if let Some(taken) = txn.get_system(&key)? {
                let taken = parse_branch_row(&key, &taken, Version::ZERO);
                let base = taken.map_or(Version::ZERO, |taken| taken.base);
                return Err(CommitError::BranchExists { name: name.to_owned(), base }.into());
            }
            Ok(txn.set_system(&key, Some(branch_value(version, forked)))?)
        };
        let ((), receipt) = self.retry(TxnOptions::default(), make).map_err(commit_only)?;
        let (name, made) = (name.to_owned(), receipt.version);
        Ok(Branch::new(Arc::clone(&self.inner), BranchInfo { name, base: version, made, forked }))
    }

    /// The branch of a name.
    ///
    /// # Errors
    /// When there is none, or the store was closed.
    pub fn branch(&self, name: &str) -> Result<Branch, ReadError> {
        let _call = self.inner.shared.enter()?;
        let found = self.inner.shared.stack.with(|layers| rows::find(layers, name, layers.visible()))?;
        let info = found.ok_or_else(|| ReadError::BranchNotFound { name: name.to_owned() })?;
        Ok(Branch::new(Arc::clone(&self.inner), info))
    }

    /// All branches, by name.
    ///
    /// # Errors
    /// When the store was closed, or the disk fails.
    pub fn branches(&self) -> Result<Vec<BranchInfo>, ReadError> {
        let _call = self.inner.shared.enter()?;
        list(&self.inner.shared.stack.view())
    }
}
