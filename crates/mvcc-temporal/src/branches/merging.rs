//! Merging a branch into the store: three values of each row that the branch wrote, one decision, one transaction.
//!
//! For every row that the branch wrote, the value at the fork, the store's now and the branch's are compared. Where only
//! one side changed, it counts; where both changed alike, nothing is to be done; all else is a conflict, and the strategy
//! decides it or lists it. One that is listed leaves the store as it was.

use keepstone_types::{Timestamp, ValueRef, Version};
use keepstone_xor_dag::merge::{Strategy, merge};

use super::compare::{everything, own_row};
use super::handle::Branch;
use crate::catalog::TableId;
use crate::error::{CommitError, MergeError, ReadError, WriteError};
use crate::sync::Arc;
use crate::txn::{Txn, TxnOptions};

/// Conflicts that an error lists; [`Branch::conflicts`] has all of them.
const CONFLICTS_LISTED_MAX: usize = 1_000;

/// What is done about a row that both sides changed, and not alike.
///
/// The store's change came to the store first, whenever it was made, and the branch's comes with the merge: that is the
/// order that `LastWins` and `FirstWins` speak of.
#[derive(Default)]
#[non_exhaustive]
pub enum MergeStrategy<'a> {
    /// It is a conflict.
    #[default]
    Reject,
    /// The branch's value, or deletion, takes the place of the store's.
    LastWins,
    /// The store's value, or absence, stays.
    FirstWins,
    /// Where all three values are there and of one length, and no bit was changed by both sides, the bits that either
    /// changed are changed. All else is a conflict.
    ThreeWayXor,
    /// The closure says. It may be asked again about the same row when another commit was in the way.
    Custom(&'a mut dyn FnMut(&MergeConflict) -> Resolution),
}

impl std::fmt::Debug for MergeStrategy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reject => "Reject",
            Self::LastWins => "LastWins",
            Self::FirstWins => "FirstWins",
            Self::ThreeWayXor => "ThreeWayXor",
            Self::Custom(_) => "Custom",
        })
    }
}

/// What a closure says of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The row gets this value.
    Put(ValueRef),
    /// The row goes.
    Delete,
    /// It stays a conflict.
    Conflict,
}

/// A row that both sides changed since the fork, and not alike.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeConflict {
    /// The table.
    pub table: Arc<str>,
    /// The key.
    pub key: ValueRef,
    /// The value at the fork; `None` when the row was not there.
    pub base: Option<ValueRef>,
    /// The store's value now; `None` when the row is not there.
    pub main: Option<ValueRef>,
    /// The branch's value; `None` when the row is not there.
    pub branch: Option<ValueRef>,
}

/// The conflicts that kept a merge from being done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeConflicts {
    /// The first of them, at most 1,000, by table and key.
    pub listed: Vec<MergeConflict>,
    /// How many there are.
    pub count: u64,
}

impl std::fmt::Display for MergeConflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows were changed on both sides", self.count)?;
        match self.listed.first() {
            Some(first) => {
                write!(f, ", the first is key {} of table {:?}", first.key.escape_ascii(), first.table)
            }
            None => Ok(()),
        }
    }
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeReport {
    /// Rows that were written or deleted.
    pub written: u64,
    /// Rows that both sides had changed, and not alike, and the strategy decided.
    pub decided: u64,
    /// Rows that the store already had as the branch has them.
    pub alike: u64,
    /// The version that was made; `None` when nothing had to be written.
    pub version: Option<Version>,
    /// When the version that was made, or else the one that was read, was committed.
    pub time: Timestamp,
}

/// What becomes of a row of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// It stays as it is: it is as the branch has it, or the branch did not change it.
    Alike,
    /// Only the branch changed it.
    Take,
    /// The strategy said so.
    Decided(Option<ValueRef>),
    Conflict,
}

fn decide(row: &MergeConflict, strategy: &mut MergeStrategy<'_>) -> Decision {
    if row.branch == row.base || row.branch == row.main {
        return Decision::Alike;
    }
    if row.main == row.base {
        return Decision::Take;
    }
    match strategy {
        MergeStrategy::Reject => Decision::Conflict,
        MergeStrategy::LastWins => Decision::Decided(row.branch.clone()),
        MergeStrategy::FirstWins => Decision::Decided(row.main.clone()),
        MergeStrategy::ThreeWayXor => match row.three_way_xor() {
            Some(merged) => Decision::Decided(Some(merged)),
            None => Decision::Conflict,
        },
        MergeStrategy::Custom(closure) => match closure(row) {
            Resolution::Put(value) => Decision::Decided(Some(value)),
            Resolution::Delete => Decision::Decided(None),
            Resolution::Conflict => Decision::Conflict,
        },
    }
}

impl MergeConflict {
    /// The changes of both sides together: the bits that either changed, where all three values are there and of one length
    /// and no bit was changed by both.
    #[must_use]
    pub fn three_way_xor(&self) -> Option<ValueRef> {
        let [base, main, branch] = [&self.base, &self.main, &self.branch].map(Option::as_deref);
        let merged = merge(base, main, branch, Strategy::Xor).ok()??;
        Some(ValueRef::from(merged.into_owned()))
    }
}

impl Branch {
    /// Brings what the branch changed into the store, in one serializable transaction: all of it, or, when a row is in
    /// conflict, nothing. The branch stays as it is, and merging it again does nothing more. What is too large for memory is
    /// written as any large transaction; what was compared is remembered in memory until the commit, a key each.
    ///
    /// # Errors
    /// [`MergeError::Conflicts`] with the rows, when the strategy leaves some undecided; when the branch was discarded; or
    /// why the commit failed.
    pub fn merge(&self, mut strategy: MergeStrategy<'_>) -> Result<MergeReport, MergeError> {
        let work = |txn: &mut Txn| -> Result<MergeReport, WriteError<MergeConflicts>> {
            match self.merge_into(txn, &mut strategy, |_| {}) {
                Ok(report) => Ok(report),
                Err(MergeError::Conflicts(conflicts)) => Err(WriteError::Caller(conflicts)),
                Err(MergeError::Commit(error)) => Err(error.into()),
            }
        };
        let merged = self.database().retry(TxnOptions::default(), work);
        let (report, receipt) = merged.map_err(|error| match error {
            WriteError::Caller(conflicts) => MergeError::Conflicts(conflicts),
            WriteError::Commit(error) => MergeError::Commit(error),
            WriteError::Read(error) => MergeError::from(error),
        })?;
        let version = (receipt.rows > 0).then_some(receipt.version);
        Ok(MergeReport { version, time: receipt.time, ..report })
    }

    /// As [`merge`](Branch::merge), within a transaction on the store that the caller commits. `written` is told of each row
    /// that is written, with `main` as it was and `branch` as it will be.
    ///
    /// # Errors
    /// As [`merge`](Branch::merge), and when the transaction is of another store or on a branch. Then it may have some of the
    /// rows, and is to be dropped.
    pub fn merge_into(
        &self,
        txn: &mut Txn,
        strategy: &mut MergeStrategy<'_>,
        mut written: impl FnMut(&MergeConflict),
    ) -> Result<MergeReport, MergeError> {
        self.must_take(txn)?;
        let shared = Arc::clone(&self.inner().shared);
        let part = self.part(txn.began())?;
        txn.depend_on_branch(self.name());
        let mut report = MergeReport::default();
        let mut conflicts = MergeConflicts::default();
        for row in txn.rows(Some(TableId::BRANCHES), everything(self))? {
            let (place, value) = row?;
            let Some(own) = own_row(&place, &value)? else { continue };
            let base = {
                let _call = shared.enter()?;
                let _reading = part.base.call()?;
                shared.stack.with(|layers| layers.get(own.table, &own.key, part.base.version()))?
            };
            let main = txn.get_row(own.table, &own.key)?.map(|found| found.value);
            let table = shared.catalog.display_name(own.table);
            let base = base.and_then(|found| found.value);
            let mut row = MergeConflict { table, key: own.key, base, main, branch: own.value };
            let decision = decide(&row, strategy);
            match decision {
                Decision::Alike => {
                    report.alike = report.alike.saturating_add(1);
                    continue;
                }
                Decision::Conflict => {
                    conflicts.add(row);
                    continue;
                }
                Decision::Take => {}
                Decision::Decided(value) => {
                    report.decided = report.decided.saturating_add(1);
                    row.branch = value;
                }
            }
            if row.branch != row.main && conflicts.count == 0 {
                report.written = report.written.saturating_add(1);
                txn.set_row(own.table, &row.key, row.branch.clone())?;
                written(&row);
            }
        }
        if conflicts.count == 0 { Ok(report) } else { Err(MergeError::Conflicts(conflicts)) }
    }

    /// A transaction that a branch can be merged into is one on its store, and not on a branch.
    fn must_take(&self, txn: &Txn) -> Result<(), MergeError> {
        let (expected, found) = (self.inner().shared.store_id, txn.store().shared.store_id);
        if expected != found || !Arc::ptr_eq(self.inner(), txn.store()) {
            return Err(ReadError::WrongStore { expected, found }.into());
        }
        if txn.is_on_branch() {
            return Err(CommitError::OnBranch.into());
        }
        Ok(())
    }
}

impl MergeConflicts {
    fn add(&mut self, conflict: MergeConflict) {
        self.count = self.count.saturating_add(1);
        if self.listed.len() < CONFLICTS_LISTED_MAX {
            self.listed.push(conflict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(base: Option<&[u8]>, main: Option<&[u8]>, branch: Option<&[u8]>) -> MergeConflict {
        let value = |bytes: Option<&[u8]>| bytes.map(ValueRef::copy_from);
        let (table, key) = (Arc::from("t"), ValueRef::copy_from(b"k"));
        MergeConflict { table, key, base: value(base), main: value(main), branch: value(branch) }
    }

    #[test]
    fn what_one_side_changed_counts_under_every_strategy() {
        let mut never = |_: &MergeConflict| -> Resolution { panic!("there is nothing to decide") };
        let (a, b) = (Some(&b"a"[..]), Some(&b"b"[..]));
        for (base, main, branch, expected) in [
            (a, a, b, Decision::Take),
            (a, a, None, Decision::Take),
            (None, None, b, Decision::Take),
            (a, b, b, Decision::Alike),
            (a, None, None, Decision::Alike),
            (None, b, b, Decision::Alike),
            (a, b, a, Decision::Alike),
            (None, b, None, Decision::Alike),
        ] {
            let row = row(base, main, branch);
            for strategy in [
                MergeStrategy::Reject,
                MergeStrategy::LastWins,
                MergeStrategy::FirstWins,
                MergeStrategy::ThreeWayXor,
                MergeStrategy::Custom(&mut never),
            ] {
                let mut strategy = strategy;
                assert_eq!(decide(&row, &mut strategy), expected, "{row:?} {strategy:?}");
            }
        }
    }

    #[test]
    fn what_both_changed_is_decided_by_the_strategy() {
        let (a, b, c) = (Some(&b"a"[..]), Some(&b"b"[..]), Some(&b"c"[..]));
        let decided = |value: Option<&[u8]>| Decision::Decided(value.map(ValueRef::copy_from));
        for (base, main, branch) in [(a, b, c), (a, None, c), (a, b, None), (None, b, c)] {
            let row = row(base, main, branch);
            assert_eq!(decide(&row, &mut MergeStrategy::Reject), Decision::Conflict);
            assert_eq!(decide(&row, &mut MergeStrategy::LastWins), decided(branch));
            assert_eq!(decide(&row, &mut MergeStrategy::FirstWins), decided(main));
            for (said, expected) in [
                (Resolution::Put(ValueRef::copy_from(b"x")), decided(Some(b"x"))),
                (Resolution::Delete, decided(None)),
                (Resolution::Conflict, Decision::Conflict),
            ] {
                let mut closure = |_: &MergeConflict| said.clone();
                assert_eq!(decide(&row, &mut MergeStrategy::Custom(&mut closure)), expected);
            }
        }
    }

    #[test]
    fn bits_are_merged_where_they_do_not_overlap() {
        for (base, main, branch, expected) in [
            (&[0b0000_u8, 7][..], &[0b0001_u8, 7][..], &[0b0100_u8, 7][..], Some(&[0b0101_u8, 7][..])),
            (&[0b1111, 7], &[0b1110, 7], &[0b1111, 6], Some(&[0b1110, 6])),
            (&[0b0000], &[0b0011], &[0b0110], None),
            (&[0b0000], &[0b0001], &[0b0001, 1], None),
            (&[0, 0], &[1], &[2, 0], None),
        ] {
            let row = row(Some(base), Some(main), Some(branch));
            let found = decide(&row, &mut MergeStrategy::ThreeWayXor);
            let expected = expected
                .map_or(Decision::Conflict, |value| Decision::Decided(Some(ValueRef::copy_from(value))));
            assert_eq!(found, expected, "{row:?}");
        }
        for row in [row(None, Some(b"a"), Some(b"b")), row(Some(b"a"), None, Some(b"b"))] {
            assert_eq!(decide(&row, &mut MergeStrategy::ThreeWayXor), Decision::Conflict);
        }
    }
}
