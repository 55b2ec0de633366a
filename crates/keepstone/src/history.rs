//! The history of a node: one entry for each version that changed its row, its fingerprint or its embedding.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::vec;

use keepstone_types::{NodeId, Timestamp, ValueRef, Version};
use serde::de::DeserializeOwned;

use crate::collection::Collection;
use crate::error::ReadError;
use crate::error::map::read_error;
use crate::layout::{self, KeyEntry};
use crate::node::Node;
use crate::read::damaged;
use crate::stats::Operation;
use crate::store::Store;

/// A node as a version made it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryEntry<T> {
    /// The version.
    pub version: Version,
    /// When it was committed; [`Timestamp::EPOCH`] when the version is below the oldest that is kept, whose times go.
    pub time: Timestamp,
    /// The node, all of it; `None` when the version deleted it.
    pub node: Option<Node<T>>,
}

/// A version that changed a row of a node.
#[derive(Debug, Clone, Copy)]
struct Change {
    version: Version,
    time: Timestamp,
    /// Whether the row of the key is among them. A deletion changes it, so a version that did not deleted nothing, even if
    /// the node is not there any more: what deleted it is no longer kept, and its id may have been given to another key.
    is_of_key: bool,
}

/// A node as a version left it.
#[derive(Debug)]
enum State<T> {
    There(Node<T>),
    Absent,
    /// What it was is no longer kept.
    Gone,
}

/// The versions of a node, newest first; see [`Collection::history`]. Ends after an error.
#[derive(Debug)]
pub struct History<T> {
    collection: Collection<T>,
    store: Store,
    key: String,
    versions: Peekable<vec::IntoIter<Change>>,
    /// The node at the version that comes next, when it was read already.
    ahead: Option<State<T>>,
    /// The version that came last.
    newer: Option<Version>,
    error: Option<ReadError>,
}

impl<T> Collection<T> {
    /// What the node with this key was, newest first, deletions included. A node that was deleted and made again has one
    /// history. Changes of links are not part of it; [`Store::diff`] shows them. It goes back as far as versions are kept:
    /// the oldest entry is what the node was at the oldest version that is kept, under the newest version before it that
    /// still has a row of the node.
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
            newer: None,
            error,
        }
    }
}

/// The versions that changed a row of any node that had this key, newest first.
fn versions_of<T>(collection: &Collection<T>, store: &Store, key: &str) -> Result<Vec<Change>, ReadError> {
    let (expected, found) = (store.id(), collection.inner.store.store_id);
    if expected != found {
        return Err(ReadError::WrongStore { expected, found });
    }
    let database = &store.inner.database;
    let row = layout::key_row(collection.inner.id, key);
    // Whose the key was from each of its versions on. An id given by the caller can have had another key before or since,
    // and its rows of then are not this key's.
    let mut owners: BTreeMap<Version, Option<NodeId>> = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for entry in database.history(layout::KEYS, &row).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let damage = || damaged(layout::KEYS, &row, "it is not a state and an id");
        let decode = |value: ValueRef| KeyEntry::decode(&value).map(|entry| entry.id).ok_or_else(damage);
        owners.insert(entry.version, entry.value.map(decode).transpose()?);
        versions.insert(entry.version, Change { version: entry.version, time: entry.time, is_of_key: true });
    }
    let ids: BTreeSet<NodeId> = owners.values().copied().flatten().collect();
    for id in ids {
        let is_owned =
            |version| owners.range(..=version).next_back().is_some_and(|(_, owner)| *owner == Some(id));
        for table in [layout::NODES, layout::FINGERPRINTS, layout::EMBEDDINGS] {
            for entry in database.history(table, id.to_bytes()).map_err(read_error)? {
                let entry = entry.map_err(read_error)?;
                if is_owned(entry.version) {
                    let change = Change { version: entry.version, time: entry.time, is_of_key: false };
                    versions.entry(entry.version).or_insert(change);
                }
            }
        }
    }
    Ok(versions.into_values().rev().collect())
}

impl<T: DeserializeOwned> History<T> {
    /// The node as a version left it. If that is no longer kept, and no version changed it between that one and the oldest
    /// that is kept, it was still so then, and is read there. `newer` is the version that changed it next.
    fn node_at(&self, version: Version, newer: Option<Version>) -> Result<State<T>, ReadError> {
        let mut at = version;
        loop {
            let then = match self.store.at(at) {
                Ok(then) => then,
                // The oldest that is kept may rise between two looks.
                Err(ReadError::HistoryGone { oldest, .. })
                    if oldest > at && newer.is_none_or(|newer| newer > oldest) =>
                {
                    at = oldest;
                    continue;
                }
                Err(ReadError::HistoryGone { .. }) => return Ok(State::Gone),
                Err(error) => return Err(error),
            };
            let node = self.collection.node(&then, &self.key)?;
            return Ok(node.map_or(State::Absent, State::There));
        }
    }

    /// The next entry. A version that changed nothing but a reservation leaves no node before and after: it is skipped.
    fn advance(&mut self) -> Result<Option<HistoryEntry<T>>, ReadError> {
        while let Some(Change { version, time, is_of_key }) = self.versions.next() {
            let newer = self.newer.replace(version);
            let state = match self.ahead.take() {
                Some(state) => state,
                None => self.node_at(version, newer)?,
            };
            match state {
                State::There(node) => return Ok(Some(HistoryEntry { version, time, node: Some(node) })),
                State::Absent if is_of_key => {}
                State::Gone | State::Absent => continue,
            }
            let Some(older) = self.versions.peek().copied() else { continue };
            // Below the oldest that is kept there may have been a deletion before this one, of which nothing is left.
            let before = older.version.max(self.store.inner.database.oldest_version());
            if before >= version {
                continue;
            }
            let state = self.node_at(before, Some(version))?;
            let was_there = matches!(state, State::There(_));
            self.ahead = (before == older.version).then_some(state);
            if was_there {
                return Ok(Some(HistoryEntry { version, time, node: None }));
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
