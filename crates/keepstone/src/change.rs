//! Changing nodes: put, with an id of one's own or from content, and delete.
//!
//! Everything that can refuse a change is looked at before the first row is written.

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::{Fingerprint, NodeId, ValueRef};
use serde::Serialize;

use crate::collection::{Collection, CollectionInner};
use crate::error::change::ChangeError;
use crate::layout::{self, CollectionId, KeyEntry};
use crate::limits::{EMBEDDING_DIMENSION_MAX, KEY_BYTES_MAX, LABEL_BYTES_MAX};
use crate::linking;
use crate::node::{Field, NodePatch};
use crate::read::damaged;
use crate::record::NodeRecord;
use crate::stats::Operation;
use crate::txn::{Isolation, Txn};

/// Whether a length is within its bounds.
pub(crate) fn check_len(
    what: &'static str,
    found: usize,
    unit: &'static str,
    min: usize,
    max: usize,
) -> Result<(), ChangeError> {
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(ChangeError::Limit { what, found, unit, min, max })
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), ChangeError> {
    check_len("key", key.len(), "bytes", 1, KEY_BYTES_MAX)
}

/// A patch that was looked at and encoded.
struct Checked {
    label: Field<String>,
    strength: Option<f32>,
    confidence: Option<f32>,
    body: Field<ValueRef>,
    fingerprint: Field<Fingerprint>,
    embedding: Field<Vec<f32>>,
}

impl Checked {
    fn new<T: Serialize>(key: &str, patch: &NodePatch<T>) -> Result<Self, ChangeError> {
        check_key(key)?;
        if let Field::Set(label) = &patch.label {
            check_len("label", label.len(), "bytes", 0, LABEL_BYTES_MAX)?;
        }
        let number = |what, found: Option<f32>, good: fn(f32) -> bool, range| match found {
            Some(found) if !good(found) => Err(ChangeError::Number { what, found: found.into(), range }),
            _ => Ok(()),
        };
        number("strength", patch.strength, f32::is_finite, "any finite number")?;
        number("confidence", patch.confidence, |found| (0.0..=1.0).contains(&found), "0 to 1")?;
        if let Field::Set(embedding) = &patch.embedding {
            check_len("embedding", embedding.len(), "numbers", 1, EMBEDDING_DIMENSION_MAX)?;
            let bad = embedding.iter().copied().find(|number| !number.is_finite());
            number("number in the embedding", bad, f32::is_finite, "any finite number")?;
        }
        let body = match &patch.body {
            Field::Keep => Field::Keep,
            Field::Clear => Field::Clear,
            Field::Set(body) => Field::Set(crate::body::encode(key, body)?),
        };
        Ok(Self {
            label: patch.label.clone(),
            strength: patch.strength,
            confidence: patch.confidence,
            body,
            fingerprint: patch.fingerprint.clone(),
            embedding: patch.embedding.clone(),
        })
    }

    fn apply(&self, record: &mut NodeRecord) {
        self.label.apply(&mut record.label);
        self.body.apply(&mut record.body);
        record.strength = self.strength.unwrap_or(record.strength);
        record.confidence = self.confidence.unwrap_or(record.confidence);
    }

    /// Whether a node that has this row and these vectors would stay as it is.
    fn changes_nothing(&self, txn: &Txn, id: NodeId, record: &NodeRecord) -> Result<bool, ChangeError> {
        let mut changed = record.clone();
        self.apply(&mut changed);
        let (mut fingerprint, mut embedding) = (txn.view().fingerprint(id)?, txn.view().embedding(id)?);
        let before = (fingerprint.clone(), embedding.clone());
        self.fingerprint.apply(&mut fingerprint);
        self.embedding.apply(&mut embedding);
        Ok(changed == *record && (fingerprint, embedding) == before)
    }
}

impl CollectionInner {
    /// Makes the collection's row if there is none, holds this handle against it, and fixes widths that are not fixed.
    pub(crate) fn enter(
        &self,
        txn: &mut Txn,
        fingerprint_bits: Option<u32>,
        embedding_dimension: Option<u32>,
    ) -> Result<(), ChangeError> {
        self.expect_store(txn)?;
        let found = match txn.catalog.get(&self.id) {
            Some(found) => Some(found.clone()),
            None => txn.view().collection(self.id)?,
        };
        let is_new = found.is_none();
        let mut record = found.unwrap_or_else(|| self.new_record());
        if record.name != self.name {
            let (name, other) = (self.name.clone(), record.name);
            return Err(crate::error::ReadError::CollectionClash { name, other }.into());
        }
        if let Some(asked) = self.schema.as_ref().filter(|asked| **asked != record.schema) {
            let (collection, stored, asked) = (self.name.clone(), record.schema, asked.clone());
            return Err(ChangeError::SchemaMismatch { collection, stored, asked });
        }
        let bits_fixed = self.fix("fingerprint", "bits", &mut record.fingerprint_bits, fingerprint_bits)?;
        let dimension_fixed =
            self.fix("embedding", "numbers", &mut record.embedding_dimension, embedding_dimension)?;
        if is_new || bits_fixed || dimension_fixed {
            txn.put_row(layout::COLLECTIONS, &self.id.key(), record.encode())?;
        }
        txn.catalog.insert(self.id, record);
        Ok(())
    }

    /// Holds a width against the collection's; true when it fixes it.
    fn fix(
        &self,
        what: &'static str,
        unit: &'static str,
        fixed: &mut Option<u32>,
        found: Option<u32>,
    ) -> Result<bool, ChangeError> {
        match (*fixed, found) {
            (Some(expected), Some(found)) if expected != found => {
                Err(ChangeError::Width { collection: self.name.clone(), what, unit, expected, found })
            }
            (None, Some(found)) => {
                *fixed = Some(found);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Writes the row of `keys`.
    pub(crate) fn put_key(&self, txn: &mut Txn, key: &str, entry: KeyEntry) -> Result<(), ChangeError> {
        txn.put_row(layout::KEYS, &layout::key_row(self.id, key), entry.encode())
    }
}

/// At `Snapshot`, makes a transaction that deletes this node conflict with this one, which counts on its being there:
/// both write the row of its key. `Serializable` finds that by what was read.
pub(crate) fn hold(txn: &mut Txn, id: CollectionId, key: &str, entry: KeyEntry) -> Result<(), ChangeError> {
    if txn.isolation() != Isolation::Snapshot {
        return Ok(());
    }
    txn.put_row(layout::KEYS, &layout::key_row(id, key), entry.encode())
}

fn width(len: usize) -> Option<u32> {
    u32::try_from(len).ok()
}

impl<T: Serialize> Collection<T> {
    /// Gives the node with this key this body; makes the node if there is none, keeps all else of it if there is.
    ///
    /// # Errors
    /// When the key or body is out of its limits, the body cannot be encoded, or the collection is of another schema or
    /// store.
    pub fn put(&self, txn: &mut Txn, key: &str, body: &T) -> Result<NodeId, ChangeError> {
        self.put_checked(txn, key, None, || {
            check_key(key)?;
            let mut checked = Checked::new::<()>(key, &NodePatch::new())?;
            checked.body = Field::Set(crate::body::encode(key, body)?);
            Ok(checked)
        })
    }

    /// Changes the node with this key as the patch says; makes the node if there is none.
    ///
    /// # Errors
    /// As [`put`](Collection::put), and when a number or width of the patch is not legal in this collection.
    pub fn put_node(&self, txn: &mut Txn, key: &str, patch: &NodePatch<T>) -> Result<NodeId, ChangeError> {
        self.put_checked(txn, key, None, || Checked::new(key, patch))
    }

    /// Makes a node with an id of the caller's own. When the very same node is there already, nothing changes.
    ///
    /// # Errors
    /// [`ChangeError::IdTaken`] when the id belongs to a node with other content, [`ChangeError::KeyTaken`] when the key
    /// belongs to another id; else as [`put_node`](Collection::put_node).
    pub fn put_with_id(
        &self,
        txn: &mut Txn,
        id: NodeId,
        key: &str,
        patch: &NodePatch<T>,
    ) -> Result<NodeId, ChangeError> {
        self.put_checked(txn, key, Some(id), || Checked::new(key, patch))
    }

    /// Makes a node whose id is that of its content: the BLAKE3 hash, cut to 128 bits, of collection, key and encoded
    /// body, the first two ended by a zero byte. The same content has the same id in every store; putting it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`ChangeError::KeyTaken`] when the key has other content already; else as [`put`](Collection::put).
    pub fn put_content(&self, txn: &mut Txn, key: &str, body: &T) -> Result<NodeId, ChangeError> {
        let encoded = crate::body::encode(key, body)?;
        let content = [self.inner.name.as_bytes(), &[0], key.as_bytes(), &[0], &encoded].concat();
        self.put_checked(txn, key, Some(NodeId::of_content(&content)), || {
            let mut checked = Checked::new::<()>(key, &NodePatch::new())?;
            checked.body = Field::Set(encoded);
            Ok(checked)
        })
    }

    fn put_checked(
        &self,
        txn: &mut Txn,
        key: &str,
        wanted: Option<NodeId>,
        check: impl FnOnce() -> Result<Checked, ChangeError>,
    ) -> Result<NodeId, ChangeError> {
        self.inner.store.measure(Operation::Put, || {
            let checked = check()?;
            txn.change(|txn| self.inner.put(txn, key, &checked, wanted))
        })
    }
}

impl CollectionInner {
    fn put(
        &self,
        txn: &mut Txn,
        key: &str,
        patch: &Checked,
        wanted: Option<NodeId>,
    ) -> Result<NodeId, ChangeError> {
        self.expect_store(txn)?;
        let entry = txn.view().key_entry(self.id, key)?;
        let (id, mut record) = match (entry, wanted) {
            (Some(KeyEntry { id, reserved: false }), wanted) => {
                let record = txn.view().expect_record(id)?;
                match wanted {
                    None => {}
                    Some(asked) if asked != id => {
                        return Err(ChangeError::KeyTaken { key: key.to_owned(), found: id, asked });
                    }
                    Some(_) if patch.changes_nothing(txn, id, &record)? => return Ok(id),
                    Some(_) => return Err(self.id_taken(id, &record, txn)?),
                }
                (id, record)
            }
            (entry, Some(wanted)) => {
                let reserved = entry.map(|entry| entry.id);
                if let Some(other) = txn.view().record(wanted)?.filter(|_| reserved != Some(wanted)) {
                    return Err(self.id_taken(wanted, &other, txn)?);
                }
                (wanted, NodeRecord::new(self.id, key))
            }
            (Some(entry), None) => (entry.id, NodeRecord::new(self.id, key)),
            (None, None) => (self.store.ids.next(), NodeRecord::new(self.id, key)),
        };
        let bits = match &patch.fingerprint {
            Field::Set(fingerprint) => width(fingerprint.bits()),
            _ => None,
        };
        let dimension = match &patch.embedding {
            Field::Set(embedding) => width(embedding.len()),
            _ => None,
        };
        self.enter(txn, bits, dimension)?;
        if let Some(reserved) = entry.filter(|entry| entry.reserved && entry.id != id) {
            linking::move_links(txn, reserved.id, id)?;
        }
        patch.apply(&mut record);
        txn.put_row(layout::NODES, &id.to_bytes(), record.encode())?;
        if entry.is_none_or(|entry| entry.reserved) {
            self.put_key(txn, key, KeyEntry { id, reserved: false })?;
        }
        put_vectors(txn, id, patch)?;
        Ok(id)
    }

    fn id_taken(&self, id: NodeId, holder: &NodeRecord, txn: &Txn) -> Result<ChangeError, ChangeError> {
        let collection = txn.view().collection_name(holder.collection)?;
        Ok(ChangeError::IdTaken { id, collection, key: holder.key.clone() })
    }
}

fn put_vectors(txn: &mut Txn, id: NodeId, patch: &Checked) -> Result<(), ChangeError> {
    let row = id.to_bytes();
    match &patch.fingerprint {
        Field::Keep => {}
        Field::Clear => delete_if_there(txn, layout::FINGERPRINTS, &row)?,
        Field::Set(fingerprint) => txn.put_row(layout::FINGERPRINTS, &row, fingerprint.as_bytes())?,
    }
    match &patch.embedding {
        Field::Keep => {}
        Field::Clear => delete_if_there(txn, layout::EMBEDDINGS, &row)?,
        Field::Set(embedding) => txn.put_row(layout::EMBEDDINGS, &row, layout::embedding_value(embedding))?,
    }
    Ok(())
}

/// Deletes a row that may be absent without leaving a deletion of nothing in its history.
fn delete_if_there(txn: &mut Txn, table: &'static str, row: &[u8]) -> Result<(), ChangeError> {
    match txn.view().get(table, row)? {
        Some(_) => txn.delete_row(table, row),
        None => Ok(()),
    }
}

impl<T> Collection<T> {
    /// Deletes the node with this key and ends its links, both ways, in the same commit; addresses that name it are
    /// emptied. False when there is no such node.
    ///
    /// # Errors
    /// When the transaction is of another store or cannot take the change.
    pub fn delete(&self, txn: &mut Txn, key: &str) -> Result<bool, ChangeError> {
        self.inner.store.measure(Operation::Delete, || txn.change(|txn| self.inner.delete(txn, key)))
    }
}

impl CollectionInner {
    fn delete(&self, txn: &mut Txn, key: &str) -> Result<bool, ChangeError> {
        self.expect_store(txn)?;
        let Some(id) = txn.view().live_id(self.id, key)? else {
            return Ok(false);
        };
        let addresses = addresses_of(txn, id)?;
        linking::end_links(txn, id)?;
        let row = id.to_bytes();
        txn.delete_row(layout::NODES, &row)?;
        txn.delete_row(layout::KEYS, &layout::key_row(self.id, key))?;
        delete_if_there(txn, layout::FINGERPRINTS, &row)?;
        delete_if_there(txn, layout::EMBEDDINGS, &row)?;
        for address in addresses {
            txn.delete_row(layout::ADDRESSES, &layout::address_row(address))?;
            txn.delete_row(layout::ADDRESSES_OF, &layout::address_of_row(id, address))?;
        }
        Ok(true)
    }
}

fn addresses_of(txn: &Txn, id: NodeId) -> Result<Vec<keepstone_types::Address>, ChangeError> {
    let mut found = Vec::new();
    for row in txn.view().scan(layout::ADDRESSES_OF, KeyRange::prefix(id.to_bytes()))? {
        let (row, _) = row?;
        let parsed = layout::parse_address_of_row(&row);
        let (_, address) =
            parsed.ok_or_else(|| damaged(layout::ADDRESSES_OF, &row, "it is not an id and an address"))?;
        found.push(address);
    }
    Ok(found)
}
