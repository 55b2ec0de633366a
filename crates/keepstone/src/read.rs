//! Reading through any handle: store, snapshot or transaction. "Now" differs from "then" only by the handle.

use keepstone_mvcc_temporal::{self as mvcc, KeyRange, Read as _};
use keepstone_types::{Clock, Fingerprint, NodeId, StoreId, Timestamp, ValueRef, Version};

use crate::branches::Branch;
use crate::catalog::CollectionRecord;
use crate::error::ReadError;
use crate::error::map::read_error;
use crate::layout::{self, CollectionId, KeyEntry};
use crate::node::Node;
use crate::record::NodeRecord;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::txn::Txn;

pub(crate) use sealed::{Reader, Source};

/// What can be read from: a [`Store`] (each call sees the newest version), a [`Branch`] of it (likewise), a [`Snapshot`] of
/// either (one version for good) or a [`Txn`] (its view with its own writes). Sealed: only these four.
pub trait Read: Reader {
    /// The version that a read through this handle sees now.
    ///
    /// # Errors
    /// When the store is closed.
    fn version(&self) -> Result<Version, ReadError> {
        Ok(self.source()?.version())
    }
}

impl Read for Store {}
impl Read for Snapshot {}
impl Read for Txn {}
impl Read for Branch {}

mod sealed {
    //! What keeps [`Read`](super::Read) from being implemented elsewhere.
    use super::{Clock, ReadError, StoreId, Timestamp, mvcc};

    /// A handle that can be read from.
    pub trait Reader {
        /// One view for one call.
        #[doc(hidden)]
        fn source(&self) -> Result<Source<'_>, ReadError>;
    }

    /// One view: every read through it sees one version.
    #[derive(Debug)]
    pub struct Source<'a> {
        pub(crate) store_id: StoreId,
        pub(crate) view: View<'a>,
        pub(crate) as_of: AsOf<'a>,
    }

    /// Where the rows come from.
    #[derive(Debug)]
    pub(crate) enum View<'a> {
        Snapshot(mvcc::Snapshot),
        Txn(&'a mvcc::Txn),
    }

    /// The moment at which expiry is judged.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum AsOf<'a> {
        Now(&'a dyn Clock),
        At(Timestamp),
    }
}

pub(crate) use sealed::{AsOf, View};

/// The rows of a scan, in key order from both ends.
#[derive(Debug)]
pub(crate) struct Rows(mvcc::Scan);

/// A row as key and value.
pub(crate) type Row = Result<(ValueRef, ValueRef), ReadError>;

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.0.next().map(|row| row.map_err(read_error))
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Row> {
        self.0.next_back().map(|row| row.map_err(read_error))
    }
}

/// The error for a row that the store would not have written.
pub(crate) fn damaged(table: &'static str, row: &[u8], what: impl Into<String>) -> ReadError {
    ReadError::Damaged { table, row: row.escape_ascii().to_string(), what: what.into() }
}

impl Source<'_> {
    pub(crate) fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<ValueRef>, ReadError> {
        match &self.view {
            View::Snapshot(snapshot) => snapshot.get(table, key),
            View::Txn(txn) => txn.get(table, key),
        }
        .map_err(read_error)
    }

    pub(crate) fn scan(&self, table: &'static str, range: KeyRange) -> Result<Rows, ReadError> {
        match &self.view {
            View::Snapshot(snapshot) => snapshot.scan(table, range),
            View::Txn(txn) => txn.scan(table, range),
        }
        .map(Rows)
        .map_err(read_error)
    }

    pub(crate) fn version(&self) -> Version {
        match &self.view {
            View::Snapshot(snapshot) => snapshot.version(),
            View::Txn(txn) => txn.version(),
        }
    }

    /// The moment at which expiry is judged.
    pub(crate) fn now(&self) -> Timestamp {
        match self.as_of {
            AsOf::Now(clock) => clock.now(),
            AsOf::At(time) => time,
        }
    }

    /// The same view without a borrow; `None` for a transaction.
    pub(crate) fn detached(&self) -> Option<Source<'static>> {
        match &self.view {
            View::Snapshot(snapshot) => Some(Source {
                store_id: self.store_id,
                view: View::Snapshot(snapshot.clone()),
                as_of: AsOf::At(self.now()),
            }),
            View::Txn(_) => None,
        }
    }

    pub(crate) fn expect_store(&self, expected: StoreId) -> Result<(), ReadError> {
        if self.store_id == expected {
            return Ok(());
        }
        Err(ReadError::WrongStore { expected: self.store_id, found: expected })
    }

    /// What `keys` says of a key.
    pub(crate) fn key_entry(&self, id: CollectionId, key: &str) -> Result<Option<KeyEntry>, ReadError> {
        let row = layout::key_row(id, key);
        let Some(value) = self.get(layout::KEYS, &row)? else {
            return Ok(None);
        };
        let entry = KeyEntry::decode(&value);
        entry.map(Some).ok_or_else(|| damaged(layout::KEYS, &row, "it is not a state and an id"))
    }

    /// The id of a written node.
    pub(crate) fn live_id(&self, id: CollectionId, key: &str) -> Result<Option<NodeId>, ReadError> {
        Ok(self.key_entry(id, key)?.filter(|entry| !entry.reserved).map(|entry| entry.id))
    }

    /// The row of a node or of a reserved id.
    pub(crate) fn record(&self, id: NodeId) -> Result<Option<NodeRecord>, ReadError> {
        let row = id.to_bytes();
        let Some(value) = self.get(layout::NODES, &row)? else {
            return Ok(None);
        };
        NodeRecord::decode(&value).map(Some).map_err(|what| damaged(layout::NODES, &row, what))
    }

    /// The row of a node that another row says is there.
    pub(crate) fn expect_record(&self, id: NodeId) -> Result<NodeRecord, ReadError> {
        let missing = || damaged(layout::NODES, &id.to_bytes(), "it is missing and another row names it");
        self.record(id)?.ok_or_else(missing)
    }

    pub(crate) fn fingerprint(&self, id: NodeId) -> Result<Option<Fingerprint>, ReadError> {
        let row = id.to_bytes();
        let value = self.get(layout::FINGERPRINTS, &row)?;
        let parse = |value: ValueRef| Fingerprint::from_bytes(&*value);
        value.map(parse).transpose().map_err(|error| damaged(layout::FINGERPRINTS, &row, error.to_string()))
    }

    pub(crate) fn embedding(&self, id: NodeId) -> Result<Option<Vec<f32>>, ReadError> {
        let row = id.to_bytes();
        let Some(value) = self.get(layout::EMBEDDINGS, &row)? else {
            return Ok(None);
        };
        let embedding = layout::parse_embedding(&value);
        embedding.map(Some).ok_or_else(|| damaged(layout::EMBEDDINGS, &row, "it is not a list of f32"))
    }

    pub(crate) fn collection(&self, id: CollectionId) -> Result<Option<CollectionRecord>, ReadError> {
        let row = id.key();
        let Some(value) = self.get(layout::COLLECTIONS, &row)? else {
            return Ok(None);
        };
        let record =
            CollectionRecord::decode(&value).map_err(|what| damaged(layout::COLLECTIONS, &row, what))?;
        if CollectionId::of_name(&record.name) != id {
            let what = format!("it is the record of {:?}, which stands elsewhere", record.name);
            return Err(damaged(layout::COLLECTIONS, &row, what));
        }
        Ok(Some(record))
    }

    /// The name of a collection that a node names.
    pub(crate) fn collection_name(&self, id: CollectionId) -> Result<String, ReadError> {
        let missing = || damaged(layout::COLLECTIONS, &id.key(), "it is missing and a node names it");
        Ok(self.collection(id)?.ok_or_else(missing)?.name)
    }

    /// A whole node from its row and its vectors.
    pub(crate) fn node<T: serde::de::DeserializeOwned>(
        &self,
        collection: &str,
        id: NodeId,
        record: NodeRecord,
    ) -> Result<Node<T>, ReadError> {
        let decode = |body: ValueRef| crate::body::decode(collection, &record.key, &body);
        let body = record.body.clone().map(decode).transpose()?;
        Ok(Node {
            id,
            label: record.label,
            strength: record.strength,
            confidence: record.confidence,
            body,
            fingerprint: self.fingerprint(id)?,
            embedding: self.embedding(id)?,
            key: record.key,
        })
    }
}
