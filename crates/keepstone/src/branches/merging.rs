//! Merging a branch into the store: which rows conflict in the words of nodes and links, and that the nodes and links of
//! the store are whole afterwards.
//!
//! The layer below merges row by row. What does not fit together then ([`fitting`](super::fitting)) is a conflict that no
//! strategy decides.

use std::borrow::Cow;
use std::fmt;

use keepstone_mvcc_temporal as mvcc;
use keepstone_types::{NodeId, Timestamp, ValueRef, Version};
use serde::Serialize;

use super::Branch;
use super::error::MergeError;
use super::fitting::broken;
use crate::engine::{self, Place};
use crate::error::change::WriteError;
use crate::error::map::{commit_error, read_error};
use crate::error::{CommitError, ReadError};
use crate::layout::{self, CollectionId};
use crate::read::{Reader, Source, damaged};
use crate::snapshot::Snapshot;
use crate::stats::Operation;
use crate::txn::{Txn, TxnOptions};
use crate::versions::{Differences, NodeChange};

/// Conflicts that an error lists.
const CONFLICTS_LISTED_MAX: usize = 1_000;

/// What a merge does about what both sides changed, and not alike. The store's change counts as first and the branch's as
/// last: that is when they come to the store. A node that one side deleted and the other linked to, and a key that
/// both sides gave to a node of their own, are conflicts under every strategy.
#[derive(Default)]
#[non_exhaustive]
pub enum MergeStrategy<'a> {
    /// It is a conflict.
    #[default]
    Reject,
    /// It becomes as the branch has it.
    LastWins,
    /// It stays as the store has it.
    FirstWins,
    /// Of fingerprints of one width, the bits that either side changed are changed, where no bit was changed by both. All
    /// else is a conflict.
    ThreeWayXor,
    /// The closure says. It may be asked again when another commit was in the way.
    Custom(&'a mut dyn FnMut(&MergeConflict) -> Choice),
}

impl fmt::Debug for MergeStrategy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It stays as the store has it.
    Main,
    /// It becomes as the branch has it.
    Branch,
    /// It stays a conflict.
    Conflict,
}

/// What of a node both sides changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConflictKind {
    /// Its body, label or numbers, or that it is there.
    Node,
    /// Its fingerprint.
    Fingerprint,
    /// Its embedding.
    Embedding,
    /// A link from it; `detail` says which.
    Link,
    /// Which node has the key: each side made one of its own.
    Key,
    /// What an address in working memory names; `detail` says which.
    Address,
    /// Schema or widths of the collection.
    Collection,
    /// Both changes are whole and do not fit together; `detail` says what would be broken.
    Broken,
}

impl ConflictKind {
    /// The name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Fingerprint => "fingerprint",
            Self::Embedding => "embedding",
            Self::Link => "link",
            Self::Key => "key",
            Self::Address => "address",
            Self::Collection => "collection",
            Self::Broken => "broken",
        }
    }

    /// Whether a strategy may decide it.
    const fn may_be_decided(self) -> bool {
        matches!(self, Self::Node | Self::Fingerprint | Self::Embedding | Self::Link | Self::Address)
    }
}

/// Something that both sides changed since the fork, and not alike. What each side has is read through the branch, the
/// store, and [`Store::at`](crate::Store::at) of [`Branch::base`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct MergeConflict {
    /// The node's collection.
    pub collection: String,
    /// The node's key; empty for what is of the collection itself.
    pub key: String,
    /// What of it.
    pub kind: ConflictKind,
    /// Which, where there may be several.
    pub detail: String,
    /// Whether it was there when the branch was forked, is there on the store, and on the branch.
    pub there: [bool; 3],
}

impl fmt::Display for MergeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?} in collection {:?}", self.kind.as_str(), self.key, self.collection)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// The conflicts that kept a merge from being done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeConflicts {
    /// The first of them, at most 1,000, by collection and key.
    pub listed: Vec<MergeConflict>,
    /// How many there are.
    pub count: u64,
}

impl fmt::Display for MergeConflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in conflict", self.count)?;
        self.listed.first().map_or(Ok(()), |first| write!(f, ", the first is the {first}"))
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

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeReport {
    /// Rows that were written or deleted, in all tables.
    pub rows: u64,
    /// Rows that both sides had changed and the strategy decided.
    pub decided: u64,
    /// The version that was made; `None` when nothing had to be written.
    pub version: Option<Version>,
    /// Its commit time; when nothing was written, that of the version that was read.
    pub time: Timestamp,
}

impl Branch {
    /// The nodes that the branch has otherwise than what it was forked at, sorted by collection and key.
    ///
    /// # Errors
    /// When the branch was discarded, the store is closed, or a row is damaged.
    pub fn diff(&self) -> Result<Vec<NodeChange>, ReadError> {
        self.store.measure(Operation::Diff, || {
            let (before, after) = (self.below()?, self.snapshot()?);
            let mut differences = Differences::between(before.source()?, after.source()?);
            for change in self.inner.diff().map_err(read_error)? {
                let change = change.map_err(read_error)?;
                differences.add(&change.table, &change.key, change.base.as_ref(), change.branch.as_ref())?;
            }
            differences.into_changes()
        })
    }

    /// What both sides changed since the fork, and not alike: what a merge needs a strategy for, sorted by collection and
    /// key. Changes that only do not fit together are found by the merge.
    ///
    /// # Errors
    /// As [`diff`](Branch::diff).
    pub fn conflicts(&self) -> Result<Vec<MergeConflict>, ReadError> {
        let names = Names::of(self)?;
        let mut found = Vec::new();
        for change in self.inner.conflicts().map_err(read_error)? {
            let change = change.map_err(read_error)?;
            let there = [&change.base, &change.main, &change.branch].map(Option::is_some);
            found.extend(names.conflict(&change.table, &change.key, there)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Brings what the branch changed into the store, in one serializable transaction: all of it, or, when something is in
    /// conflict, nothing. The branch stays as it is, and merging it again does nothing more.
    ///
    /// # Errors
    /// [`MergeError::Conflicts`] with what is in conflict and no strategy decided; when the branch was discarded; or why the
    /// commit failed.
    pub fn merge(&self, mut strategy: MergeStrategy<'_>) -> Result<MergeReport, MergeError> {
        let options = TxnOptions::new();
        let mut work = |txn: &mut Txn| -> Result<MergeReport, WriteError<MergeError>> {
            self.merge_into(txn, &mut strategy).map_err(WriteError::Caller)
        };
        let merged =
            self.store.measure_commit(|| engine::write(&self.store, Place::Store, options, &mut work));
        let merged = merged.map_err(|error| match error {
            WriteError::Caller(error) => error,
            WriteError::Commit(error) => MergeError::Commit(error),
            WriteError::Change(error) => MergeError::Change(error),
        })?;
        Ok(MergeReport { version: merged.version, time: merged.time, ..merged.value })
    }

    fn merge_into(&self, txn: &mut Txn, strategy: &mut MergeStrategy<'_>) -> Result<MergeReport, MergeError> {
        let names = Names::of(self)?;
        let (mut conflicts, mut failed) = (MergeConflicts::default(), None);
        let mut written = Vec::new();
        let report = {
            let mut decide = |row: &mvcc::MergeConflict| match names.decide(row, strategy, &mut conflicts) {
                Ok(resolution) => resolution,
                Err(error) => {
                    failed = Some(error);
                    mvcc::Resolution::Conflict
                }
            };
            let mut below = mvcc::MergeStrategy::Custom(&mut decide);
            let note = |row: &mvcc::MergeConflict| written.push(row.clone());
            self.inner.merge_into(txn.inner_mut(), &mut below, note)
        };
        if let Some(error) = failed {
            return Err(error.into());
        }
        let report = match report {
            Ok(report) => report,
            Err(mvcc::MergeError::Commit(error)) => return Err(commit_error(error).into()),
            Err(mvcc::MergeError::Conflicts(below)) => {
                // In a store that is whole, each was told of above.
                conflicts.count = conflicts.count.max(u64::from(below.count > 0));
                return Err(MergeError::Conflicts(conflicts.sorted()));
            }
            Err(other) => {
                let kind = crate::error::ErrorKind(other.kind().as_str());
                return Err(CommitError::Engine { kind, source: Box::new(other) }.into());
            }
        };
        for row in &written {
            if let Some(detail) = broken(&txn.view(), row)? {
                let conflict = names.broken(row, detail)?;
                // Of rows that do not fit together, each may say the same.
                if !conflicts.listed.contains(&conflict) {
                    conflicts.add(conflict);
                }
            }
        }
        if conflicts.count > 0 {
            return Err(MergeError::Conflicts(conflicts.sorted()));
        }
        Ok(MergeReport { rows: report.written, decided: report.decided, ..MergeReport::default() })
    }
}

impl MergeConflicts {
    fn sorted(mut self) -> Self {
        self.listed.sort_unstable();
        self
    }
}

/// What rows are called: by the branch, else by the store as it is, else as it was.
struct Names {
    views: [Snapshot; 3],
}

impl Names {
    fn of(branch: &Branch) -> Result<Self, ReadError> {
        let now = branch.store.database.snapshot().map_err(read_error)?;
        let as_of = branch.forked();
        let now = Snapshot { view: now, store: branch.store.clone(), as_of };
        Ok(Self { views: [branch.snapshot()?, now, branch.below()?] })
    }

    fn first<T>(
        &self,
        look: impl Fn(&Source<'_>) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        for view in &self.views {
            if let Some(found) = look(&view.source()?)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn collection(&self, id: CollectionId) -> Result<String, ReadError> {
        let found = self.first(|source| source.collection(id))?;
        Ok(found.map_or_else(|| format!("(collection {:x})", id.0), |record| record.name))
    }

    /// Collection and key of a node.
    fn node(&self, id: NodeId) -> Result<(String, String), ReadError> {
        match self.first(|source| source.record(id))? {
            Some(record) => Ok((self.collection(record.collection)?, record.key)),
            None => Ok((String::new(), format!("(node {id})"))),
        }
    }

    /// What a row that both sides changed is; `None` for one that another tells of as well.
    fn conflict(
        &self,
        table: &str,
        row: &[u8],
        there: [bool; 3],
    ) -> Result<Option<MergeConflict>, ReadError> {
        let wrong = || damaged(layout::NODES, row, "it is no row of this store");
        let id = || layout::parse_id(row).ok_or_else(wrong);
        let mut detail = String::new();
        let ((collection, key), kind) = match table {
            layout::NODES => (self.node(id()?)?, ConflictKind::Node),
            layout::FINGERPRINTS => (self.node(id()?)?, ConflictKind::Fingerprint),
            layout::EMBEDDINGS => (self.node(id()?)?, ConflictKind::Embedding),
            layout::KEYS => {
                let (collection, key) = layout::parse_key_row(row).ok_or_else(wrong)?;
                ((self.collection(collection)?, key.to_owned()), ConflictKind::Key)
            }
            layout::LINKS_OUT => {
                let (from, verb, to) = layout::parse_link_row(row).ok_or_else(wrong)?;
                detail = format!("{verb:?} {:?}", self.node(to)?.1);
                (self.node(from)?, ConflictKind::Link)
            }
            layout::ADDRESSES => {
                let address = layout::parse_address_row(row).ok_or_else(wrong)?;
                detail = format!("address {address}");
                ((String::new(), String::new()), ConflictKind::Address)
            }
            layout::COLLECTIONS => {
                let found = row.try_into().ok().map(|id| CollectionId(u64::from_be_bytes(id)));
                let id = found.ok_or_else(wrong)?;
                ((self.collection(id)?, String::new()), ConflictKind::Collection)
            }
            _ => return Ok(None),
        };
        Ok(Some(MergeConflict { collection, key, kind, detail, there }))
    }

    /// What the layer below is told of a row that both sides changed.
    fn decide(
        &self,
        row: &mvcc::MergeConflict,
        strategy: &mut MergeStrategy<'_>,
        conflicts: &mut MergeConflicts,
    ) -> Result<mvcc::Resolution, ReadError> {
        let take = |value: &Option<ValueRef>| match value {
            Some(value) => mvcc::Resolution::Put(value.clone()),
            None => mvcc::Resolution::Delete,
        };
        // Mirrored rows are decided as those that they mirror: by the same question, asked of the same node.
        let (table, key) = mirrored(&row.table, row)?;
        let there = [&row.base, &row.main, &row.branch].map(Option::is_some);
        let Some(conflict) = self.conflict(table, &key, there)? else {
            return Ok(mvcc::Resolution::Conflict);
        };
        let decided = match strategy {
            _ if !conflict.kind.may_be_decided() => None,
            MergeStrategy::Reject => None,
            MergeStrategy::LastWins => Some(take(&row.branch)),
            MergeStrategy::FirstWins => Some(take(&row.main)),
            MergeStrategy::ThreeWayXor if table == layout::FINGERPRINTS => {
                row.three_way_xor().map(mvcc::Resolution::Put)
            }
            MergeStrategy::ThreeWayXor => None,
            MergeStrategy::Custom(closure) => match closure(&conflict) {
                Choice::Main => Some(take(&row.main)),
                Choice::Branch => Some(take(&row.branch)),
                Choice::Conflict => None,
            },
        };
        // A link stands at both its ends, and is one conflict.
        if decided.is_none() && *row.table != *layout::LINKS_IN {
            conflicts.add(conflict);
        }
        Ok(decided.unwrap_or(mvcc::Resolution::Conflict))
    }

    fn broken(&self, row: &mvcc::MergeConflict, detail: String) -> Result<MergeConflict, ReadError> {
        let (table, key) = mirrored(&row.table, row)?;
        let there = [&row.base, &row.main, &row.branch].map(Option::is_some);
        let found = self.conflict(table, &key, there)?;
        let (collection, key) = found.map(|found| (found.collection, found.key)).unwrap_or_default();
        Ok(MergeConflict { collection, key, kind: ConflictKind::Broken, detail, there })
    }
}

/// A row of a table that mirrors another as the row that it mirrors.
fn mirrored<'a>(
    table: &'a str,
    row: &mvcc::MergeConflict,
) -> Result<(&'a str, Cow<'static, [u8]>), ReadError> {
    let wrong = || damaged(layout::LINKS_IN, &row.key, "it is no row of this table");
    Ok(match table {
        layout::LINKS_IN => {
            let (to, verb, from) = layout::parse_link_row(&row.key).ok_or_else(wrong)?;
            (layout::LINKS_OUT, layout::link_row(from, &verb, to).into())
        }
        layout::ADDRESSES_OF => {
            let (_, address) = layout::parse_address_of_row(&row.key).ok_or_else(wrong)?;
            (layout::ADDRESSES, layout::address_row(address).to_vec().into())
        }
        _ => (table, row.key.to_vec().into()),
    })
}

impl From<ReadError> for MergeError {
    fn from(error: ReadError) -> Self {
        Self::Commit(CommitError::Read(error))
    }
}
