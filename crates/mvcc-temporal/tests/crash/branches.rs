//! What a sweep does with branches, and what it expects of them: each that is there reads as the model says, and of those
//! that were discarded nothing is left after the next checkpoint.

use std::collections::BTreeMap;

use keepstone_mvcc_temporal::{CommitError, MergeError, MergeStrategy, TxnOptions};
use keepstone_testkit::crash::{Failure, FailureKind};
use keepstone_types::Version;

use crate::program::{Change, OnBranch};
use crate::subject::{Content, Open, Outcome, Value, reads_as, unopenable, wrong};

/// A branch as the model knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BranchModel {
    pub(crate) base: u64,
    below: BTreeMap<(u8, u8), Value>,
    rows: BTreeMap<(u8, u8), Value>,
    /// What it wrote or deleted.
    touched: BTreeMap<(u8, u8), ()>,
}

/// Commits that clearing takes for one branch, at most: every row of three tables and their catalog rows, four at a time,
/// and the note.
const CLEARING_MAX: u64 = 10;

fn name(number: u8) -> String {
    format!("branch {number}")
}

impl Open<'_> {
    /// Every branch is there, and reads as it must.
    pub(crate) fn has_branches(&self, content: &Content) -> Result<(), Failure> {
        let listed = self.database.branches().map_err(|error| wrong(error.to_string()))?;
        let found: Vec<_> = listed.iter().map(|branch| (branch.name.clone(), branch.base.to_raw())).collect();
        let expected: Vec<_> =
            content.branches.iter().map(|(number, model)| (name(*number), model.base)).collect();
        if found != expected {
            return Err(wrong(format!("branches {found:?}, expected {expected:?}")));
        }
        for (number, model) in &content.branches {
            let branch = self.database.branch(&name(*number)).map_err(|error| wrong(error.to_string()))?;
            reads_as(&branch, name(*number), &model.rows)?;
        }
        Ok(())
    }

    /// A checkpoint deletes what is left of branches that were discarded: so many versions may be made by that.
    pub(crate) fn attempt_clearing(&mut self) -> Result<(), Failure> {
        let left = self.database.check().map_err(unopenable)?.discarded_branches;
        self.attempt_more(left * CLEARING_MAX)
    }

    /// Versions that change nothing that is seen.
    fn attempt_more(&mut self, count: u64) -> Result<(), Failure> {
        for _ in 0..count {
            self.attempt(Content::clone(self.ledger.newest()))?;
        }
        Ok(())
    }

    /// Nothing is left of branches that were discarded, unless the disk was in the way.
    pub(crate) fn has_nothing_left(&self) -> Result<(), Failure> {
        let report = self.is_sound()?;
        if report.discarded_branches > 0 && !self.faulty {
            return Err(Failure::unopenable(format!("{} branches are left", report.discarded_branches)));
        }
        Ok(())
    }

    pub(crate) fn branch(&mut self, number: u8, action: &OnBranch) -> Result<Outcome, Failure> {
        if !self.ledger.newest().branches.contains_key(&number) {
            return self.fork(number);
        }
        match action {
            OnBranch::Commit(changes) => self.commit_on(number, changes),
            OnBranch::Merge => self.merge(number),
            OnBranch::Discard => self.discard(number),
        }
    }

    fn fork(&mut self, number: u8) -> Result<Outcome, Failure> {
        let newest = self.database.visible_version();
        if newest > self.database.durable_version() {
            // What is forked at is made durable first.
            if self.database.sync().is_err() {
                return Ok(Outcome::Broken);
            }
            let at = self.at();
            self.ledger.promised(newest.to_raw(), at);
        }
        let mut content = Content::clone(self.ledger.newest());
        let (below, touched) = (content.rows.clone(), BTreeMap::new());
        let model = BranchModel { base: newest.to_raw(), rows: below.clone(), below, touched };
        content.branches.insert(number, model);
        let attempted = self.attempt(content)?;
        let result = self.database.fork(&name(number), newest).map(|branch| branch.info().made);
        self.ended(attempted, result, self.durable)
    }

    fn commit_on(&mut self, number: u8, changes: &[Change]) -> Result<Outcome, Failure> {
        let branch = self.database.branch(&name(number)).map_err(|error| wrong(error.to_string()))?;
        let mut txn = branch.begin_with(TxnOptions::default()).map_err(unopenable)?;
        let mut content = Content::clone(self.ledger.newest());
        let Some(mut model) = content.branches.remove(&number) else { return Ok(Outcome::Done) };
        if self.applied(&mut model.rows, &mut txn, changes).is_err() {
            return Ok(Outcome::Done);
        }
        model.touched.extend(changes.iter().map(|change| ((change.table, change.key), ())));
        content.branches.insert(number, model);
        let attempted = self.attempt(content)?;
        let result = txn.commit().map(|receipt| receipt.version);
        // One that was too large for memory is durable whatever the level.
        self.ended(attempted, result, self.durable)
    }

    fn merge(&mut self, number: u8) -> Result<Outcome, Failure> {
        let branch = self.database.branch(&name(number)).map_err(|error| wrong(error.to_string()))?;
        let mut content = Content::clone(self.ledger.newest());
        let Some(model) = content.branches.get(&number).cloned() else { return Ok(Outcome::Done) };
        // Empty values have the same bytes under every tag.
        let bytes =
            |rows: &BTreeMap<(u8, u8), Value>, place| rows.get(place).map(|value: &Value| value.bytes());
        let mut is_changed = false;
        for place in model.touched.keys() {
            let (own, below) = (bytes(&model.rows, place), bytes(&model.below, place));
            if own == below || own == bytes(&content.rows, place) {
                continue;
            }
            is_changed = true;
            match model.rows.get(place) {
                Some(value) => drop(content.rows.insert(*place, *value)),
                None => drop(content.rows.remove(place)),
            }
        }
        let merged = |result: Result<_, MergeError>| match result {
            Ok(report) => Ok(report),
            Err(MergeError::Commit(error)) => Err(error),
            Err(error) => panic!("{error}"),
        };
        if !is_changed {
            let report = merged(branch.merge(MergeStrategy::LastWins));
            let is_right = report.as_ref().map_or(true, |report| report.version.is_none());
            return if is_right { Ok(Outcome::Done) } else { Err(wrong(format!("{report:?}"))) };
        }
        let attempted = self.attempt(content)?;
        let made = merged(branch.merge(MergeStrategy::LastWins)).map(|report| report.version);
        let made = made.map(|made| made.unwrap_or(Version::ZERO));
        self.ended(attempted, made, self.durable)
    }

    fn discard(&mut self, number: u8) -> Result<Outcome, Failure> {
        let branch = self.database.branch(&name(number)).map_err(|error| wrong(error.to_string()))?;
        let mut content = Content::clone(self.ledger.newest());
        content.branches.remove(&number);
        let first = self.attempt(content)?;
        // Those that an earlier life or a full disk left go too.
        let left = self.database.check().map_err(unopenable)?.discarded_branches;
        self.attempt_more((left + 1) * CLEARING_MAX)?;
        match branch.discard() {
            Ok(()) => {}
            Err(CommitError::CommitOutcomeUnknown { .. }) => return Ok(Outcome::Broken),
            Err(error) => {
                let at = self.at();
                self.ledger.withdraw(first, at)?;
                let poisoned = matches!(error, CommitError::Poisoned { .. });
                return Ok(if poisoned { Outcome::Broken } else { Outcome::Done });
            }
        }
        let (visible, at) = (self.database.visible_version().to_raw(), self.at());
        self.ledger.seen(visible, at);
        if visible < first {
            return Err(Failure::new(FailureKind::Lost, "a branch was discarded, and nothing of it is seen"));
        }
        if self.durable {
            self.ledger.promised(first, at);
        }
        // What clears may have met a failing disk; then it is not known how far it came.
        if self.database.sync().is_err() {
            return Ok(Outcome::Broken);
        }
        let at = self.at();
        self.ledger.withdraw(visible + 1, at)?;
        self.ledger.promised(self.database.durable_version().to_raw(), at);
        Ok(Outcome::Done)
    }
}
