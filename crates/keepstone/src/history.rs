//! The history of a node: one entry for each version that changed its row, its fingerprint or its embedding.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::vec;

use keepstone_types::{NodeId, Timestamp, Version};
use serde::de::DeserializeOwned;

use crate::collection::Collection;
use crate::error::ReadError;
use crate::error_map::read_error;
use crate::layout::{self, CollectionId, KeyEntry};
use crate::node::Node;
use crate::read::damaged;
use crate::record::NodeRecord;
use crate::stats::Operation;
use crate::store::Store;

/// A node as a version made it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryEntry<T> {
    /// The version.
    pub version: Version,
    /// When it was committed.
    pub time: Timestamp,
    /// The node, all of it; `None` when the version deleted it.
    pub node: Option<Node<T>>,
}

/// The versions of a node, newest first; see [`Collection::history`]. Ends after an error.
#[derive(Debug)]
pub struct History<T> {
    collection: Collection<T>,
    store: Store,
    key: String,
    versions: Peekable<vec::IntoIter<(Version, Timestamp)>>,
    /// The node at the version that comes next, when it was read already.
    ahead: Option<Option<Node<T>>>,
    error: Option<ReadError>,
}

impl<T> Collection<T> {
    /// What the node with this key was, newest first, deletions included. A node that was deleted and made again has one
    /// history. Changes of links are not part of it; [`Store::diff`] shows them.
    pub fn history(&self, store: &Store, key: &str) -> History<T> {
        let found = self.inner.store.measure(Operation::History, || versions_of(self, store, key));
        let (versions, error) = match found {
            Ok(versions) => (versions, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        History {
            collection: self.clone(),
            store: store.clone(),
            key: key.to_owned(),
            versions: versions.into_iter().peekable(),
            ahead: None,
            error,
        }
    }
}

/// The versions that changed a row of any node that had this key, newest first.
fn versions_of<T>(
    collection: &Collection<T>,
    store: &Store,
    key: &str,
) -> Result<Vec<(Version, Timestamp)>, ReadError> {
    let (expected, found) = (store.id(), collection.inner.store.store_id);
    if expected != found {
        return Err(ReadError::WrongStore { expected, found });
    }
    let database = &store.inner.database;
    let row = layout::key_row(collection.inner.id, key);
    let mut ids = BTreeSet::<NodeId>::new();
    for entry in database.history(layout::KEYS, &row).map_err(read_error)? {
        let Some(value) = entry.map_err(read_error)?.value else { continue };
        let entry = KeyEntry::decode(&value);
        ids.insert(entry.ok_or_else(|| damaged(layout::KEYS, &row, "it is not a state and an id"))?.id);
    }
    let mut versions = BTreeMap::new();
    for id in ids {
        add_versions(store, (collection.inner.id, key), id, &mut versions)?;
    }
    Ok(versions.into_iter().rev().collect())
}

/// Adds the versions that changed a row of `id` while it had the key. An id given by the caller can have had another
/// key before or since.
fn add_versions(
    store: &Store,
    place: (CollectionId, &str),
    id: NodeId,
    versions: &mut BTreeMap<Version, Timestamp>,
) -> Result<(), ReadError> {
    let (database, row) = (&store.inner.database, id.to_bytes());
    let mut owned = BTreeMap::new();
    for entry in database.history(layout::NODES, row).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let record = entry.value.map(|value| NodeRecord::decode(&value)).transpose();
        let record = record.map_err(|what| damaged(layout::NODES, &row, what))?;
        let is_owned = record.is_some_and(|record| (record.collection, &*record.key) == place);
        owned.insert(entry.version, (entry.time, is_owned));
    }
    let mut was_owned = false;
    for (version, (time, is_owned)) in &owned {
        if was_owned || *is_owned {
            versions.insert(*version, *time);
        }
        was_owned = *is_owned;
    }
    for table in [layout::FINGERPRINTS, layout::EMBEDDINGS] {
        for entry in database.history(table, row).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            if owned.range(..=entry.version).next_back().is_some_and(|(_, (_, is_owned))| *is_owned) {
                versions.insert(entry.version, entry.time);
            }
        }
    }
    Ok(())
}

impl<T: DeserializeOwned> History<T> {
    fn node_at(&self, version: Version) -> Result<Option<Node<T>>, ReadError> {
        self.collection.node(&self.store.at(version)?, &self.key)
    }

    /// The next entry. A version that changed nothing but a reservation leaves no node before and after: it is skipped.
    fn advance(&mut self) -> Result<Option<HistoryEntry<T>>, ReadError> {
        while let Some((version, time)) = self.versions.next() {
            let node = match self.ahead.take() {
                Some(node) => node,
                None => self.node_at(version)?,
            };
            if node.is_some() {
                return Ok(Some(HistoryEntry { version, time, node }));
            }
            let older = match self.versions.peek().copied() {
                Some((older, _)) => self.node_at(older)?,
                None => None,
            };
            let was_there = older.is_some();
            self.ahead = Some(older);
            if was_there {
                return Ok(Some(HistoryEntry { version, time, node }));
            }
        }
        Ok(None)
    }
}

impl<T: DeserializeOwned> Iterator for History<T> {
    type Item = Result<HistoryEntry<T>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let entry = self.advance().transpose();
        if matches!(entry, Some(Err(_))) {
            self.versions = Vec::new().into_iter().peekable();
        }
        entry
    }
}

impl<T: DeserializeOwned> std::iter::FusedIterator for History<T> {}
