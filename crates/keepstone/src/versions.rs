//! Versions: going back to one, naming them, rolling back, and what differs between two.

use std::collections::BTreeMap;

use keepstone_types::{NodeId, Timestamp, ValueRef, Version};
use serde::Serialize;

use crate::error::map::{commit_error, read_error};
use crate::error::{CommitError, ReadError};
use crate::layout::{self, CollectionId};
use crate::read::{Reader, Source, damaged};
use crate::record::NodeRecord;
use crate::snapshot::{At, Snapshot};
use crate::stats::Operation;
use crate::store::Store;
use crate::sync::Arc;
use crate::txn::Receipt;

/// A commit, as [`Store::versions`] lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionInfo {
    /// The version it made.
    pub version: Version,
    /// When.
    pub time: Timestamp,
    /// Rows it wrote, in all tables.
    pub rows: u64,
}

impl VersionInfo {
    fn of(info: keepstone_mvcc_temporal::CommitInfo) -> Self {
        Self { version: info.version, time: info.time, rows: info.rows }
    }
}

/// A version with a name, as [`Store::tags`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tag {
    /// The name.
    pub name: String,
    /// The version it stands for.
    pub version: Version,
    /// When it was named.
    pub named: Timestamp,
}

/// What happened to a node between two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is there at the second version only.
    Created,
    /// It is there at both, and its body, a field, a vector or its id differs.
    Updated,
    /// It is there at the first version only.
    Deleted,
    /// It is there at both, and only its links differ.
    LinksChanged,
}

/// A node that differs between two versions, as [`Store::diff`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeChange {
    /// The node's collection.
    pub collection: String,
    /// The node's key.
    pub key: String,
    /// What happened.
    pub kind: ChangeKind,
}

impl Store {
    /// The store as it was at a version, under a name, or at a time.
    ///
    /// # Errors
    /// When there is no such version or name, the version is no longer kept, or the store is closed.
    pub fn at(&self, at: impl Into<At>) -> Result<Snapshot, ReadError> {
        let version = self.resolve(at)?;
        // What the view keeps is not pruned before its time is asked for.
        let view = self.inner.database.snapshot_at(version).map_err(read_error)?;
        let as_of = self.version_info(version)?.map_or(Timestamp::EPOCH, |info| info.time);
        Ok(Snapshot { view, store: Arc::clone(&self.inner), as_of })
    }

    /// The store as it was at a time; the empty store before the first commit.
    ///
    /// # Errors
    /// When what was current then is no longer kept, or the store is closed.
    pub fn at_time(&self, time: Timestamp) -> Result<Snapshot, ReadError> {
        Ok(Snapshot { as_of: time, ..self.at(time)? })
    }

    /// The version that is meant.
    ///
    /// # Errors
    /// When no version has the name, or the store is closed. A version is not looked up; [`at`](Store::at) does.
    pub fn resolve(&self, at: impl Into<At>) -> Result<Version, ReadError> {
        match at.into() {
            At::Version(version) => Ok(version),
            At::Time(time) => self.inner.database.version_at(time).map_err(read_error),
            At::Name(name) => {
                let found = self.inner.database.resolve_name(&name).map_err(read_error)?;
                found.ok_or(ReadError::UnknownName { name })
            }
        }
    }

    /// The newest version that readers see.
    #[must_use]
    pub fn visible_version(&self) -> Version {
        self.inner.database.visible_version()
    }

    /// The newest version on stable storage; below the visible one only with `Relaxed` or `None`.
    #[must_use]
    pub fn durable_version(&self) -> Version {
        self.inner.database.durable_version()
    }

    /// Makes everything committed so far durable; of use with `Relaxed`, `None` and `submit`.
    ///
    /// # Errors
    /// When the disk fails or the store is closed.
    pub fn sync(&self) -> Result<(), CommitError> {
        self.inner.database.sync().map_err(commit_error)
    }

    /// The commit that made a version; `None` when none did, or it is no longer kept.
    ///
    /// # Errors
    /// When the store is closed, or its files are damaged or cannot be read.
    pub fn version_info(&self, version: Version) -> Result<Option<VersionInfo>, ReadError> {
        Ok(self.inner.database.commit_info(version).map_err(read_error)?.map(VersionInfo::of))
    }

    /// All versions that are kept, newest first; oldest first from the back. Ends after an error.
    ///
    /// # Errors
    /// When the store is closed, or its files are damaged or cannot be read; so is each version.
    pub fn versions(
        &self,
    ) -> Result<impl DoubleEndedIterator<Item = Result<VersionInfo, ReadError>> + Send + 'static, ReadError>
    {
        let commits = self.inner.database.commits().map_err(read_error)?;
        Ok(commits.map(|info| info.map(VersionInfo::of).map_err(read_error)))
    }

    /// Gives a version a name that lasts until it is taken away, by a commit of its own. Naming it again the same is
    /// fine.
    ///
    /// # Errors
    /// When the name is empty, too long or stands for another version, there is no such version, or the commit fails.
    ///
    /// ```
    /// use keepstone::Store;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let notes = store.collection::<String>("notes")?;
    /// store.write(|txn| notes.put(txn, "plan", &"walk".to_string()))?;
    /// store.tag("before lunch", store.visible_version())?;
    /// store.write(|txn| notes.put(txn, "plan", &"sleep".to_string()))?;
    ///
    /// let then = store.at("before lunch")?;
    /// assert_eq!(notes.get(&then, "plan")?.as_deref(), Some("walk"));
    /// store.rollback_to(store.resolve("before lunch")?)?;
    /// assert_eq!(notes.get(&store, "plan")?.as_deref(), Some("walk"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tag(&self, name: &str, version: Version) -> Result<(), CommitError> {
        self.inner.database.name_version(name, version).map_err(commit_error)
    }

    /// Takes a name away; the version stays.
    ///
    /// # Errors
    /// When there is no such name or the commit fails.
    pub fn untag(&self, name: &str) -> Result<(), CommitError> {
        self.inner.database.drop_name(name).map_err(commit_error)
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn tags(&self) -> Result<Vec<Tag>, ReadError> {
        let names = self.inner.database.names().map_err(read_error)?;
        let tags = names.into_iter();
        Ok(tags.map(|tag| Tag { name: tag.name, version: tag.version, named: tag.named }).collect())
    }

    /// Brings the content of an older version back as a new version: nothing is forgotten, and the versions between stay
    /// readable. Names stay.
    ///
    /// # Errors
    /// When there is no such version or the commit fails.
    pub fn rollback_to(&self, version: Version) -> Result<Receipt, CommitError> {
        self.inner.measure_commit(|| {
            self.inner.database.rollback_to(version).map(crate::engine::receipt).map_err(commit_error)
        })
    }

    /// The nodes that differ between two versions, sorted by collection and key. The first need not be the older.
    ///
    /// # Errors
    /// When there is no such version, the store is closed, or a row is damaged.
    pub fn diff(&self, from: Version, to: Version) -> Result<Vec<NodeChange>, ReadError> {
        self.inner.measure(Operation::Diff, || {
            let (before, after) = (self.at(from)?, self.at(to)?);
            let mut differences = Differences::between(before.source()?, after.source()?);
            for change in self.inner.database.diff(from, to).map_err(read_error)? {
                let change = change.map_err(read_error)?;
                differences.add(&change.table, &change.key, change.before.as_ref(), change.after.as_ref())?;
            }
            differences.into_changes()
        })
    }
}

/// What is known of a node that differs.
#[derive(Clone, Copy, Debug, Default)]
struct Difference {
    there_before: bool,
    there_after: bool,
    updated: bool,
}

/// Collects the rows that differ by node.
pub(crate) struct Differences<'a> {
    before: Source<'a>,
    after: Source<'a>,
    found: BTreeMap<(CollectionId, String), Difference>,
}

impl<'a> Differences<'a> {
    pub(crate) const fn between(before: Source<'a>, after: Source<'a>) -> Self {
        Self { before, after, found: BTreeMap::new() }
    }

    pub(crate) fn add(
        &mut self,
        table: &str,
        row: &[u8],
        before: Option<&ValueRef>,
        after: Option<&ValueRef>,
    ) -> Result<(), ReadError> {
        match table {
            layout::NODES => {
                let decode = |value: &ValueRef| {
                    NodeRecord::decode(value).map_err(|what| damaged(layout::NODES, row, what))
                };
                let before = before.map(decode).transpose()?.filter(|record| !record.reserved);
                let after = after.map(decode).transpose()?.filter(|record| !record.reserved);
                self.mark(before.as_ref(), after.as_ref(), true);
                Ok(())
            }
            layout::FINGERPRINTS => self.touch(layout::FINGERPRINTS, row, true),
            layout::EMBEDDINGS => self.touch(layout::EMBEDDINGS, row, true),
            layout::LINKS_OUT => self.touch(layout::LINKS_OUT, row, false),
            layout::LINKS_IN => self.touch(layout::LINKS_IN, row, false),
            _ => Ok(()),
        }
    }

    /// A node's row before and after. The two may have different keys, when the caller gave an id to another node, and
    /// a node that was made again under its key has two ids: so each side is marked at its own key.
    fn mark(&mut self, before: Option<&NodeRecord>, after: Option<&NodeRecord>, updated: bool) {
        let place = |record: &NodeRecord| (record.collection, record.key.clone());
        if let Some(record) = before {
            let difference = self.found.entry(place(record)).or_default();
            difference.there_before = true;
            difference.updated |= updated;
        }
        if let Some(record) = after {
            let difference = self.found.entry(place(record)).or_default();
            difference.there_after = true;
            difference.updated |= updated;
        }
    }

    /// A row that begins with the id of its node differs.
    fn touch(&mut self, table: &'static str, row: &[u8], updated: bool) -> Result<(), ReadError> {
        let id = row.first_chunk::<16>().map(|id| NodeId::from_bytes(*id));
        let id = id.ok_or_else(|| damaged(table, row, "it does not begin with an id"))?;
        let live = |record: Option<NodeRecord>| record.filter(|record| !record.reserved);
        let (before, after) = (live(self.before.record(id)?), live(self.after.record(id)?));
        self.mark(before.as_ref(), after.as_ref(), updated);
        Ok(())
    }

    pub(crate) fn into_changes(self) -> Result<Vec<NodeChange>, ReadError> {
        let mut names = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.found.len());
        for ((id, key), difference) in self.found {
            let collection = match names.get(&id) {
                Some(name) => String::clone(name),
                None => {
                    let found = match self.after.collection(id)? {
                        Some(record) => record.name,
                        None => self.before.collection_name(id)?,
                    };
                    names.entry(id).or_insert(found).clone()
                }
            };
            let kind = match (difference.there_before, difference.there_after) {
                (false, true) => ChangeKind::Created,
                (true, false) => ChangeKind::Deleted,
                (true, true) if difference.updated => ChangeKind::Updated,
                _ => ChangeKind::LinksChanged,
            };
            changes.push(NodeChange { collection, key, kind });
        }
        changes.sort_by(|a, b| (&a.collection, &a.key).cmp(&(&b.collection, &b.key)));
        Ok(changes)
    }
}
