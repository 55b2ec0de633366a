//! Making and ending links. Both ends change in one commit; a reserved id lives as long as a link names it.

use keepstone_mvcc_temporal::KeyRange;
use keepstone_types::NodeId;

use crate::change::{check_key, check_len, hold};
use crate::collection::{Collection, CollectionInner};
use crate::error::change::ChangeError;
use crate::iter::{link_table, parse_link};
use crate::layout::{self, KeyEntry};
use crate::limits::VERB_BYTES_MAX;
use crate::link::Direction;
use crate::record::NodeRecord;
use crate::stats::Operation;
use crate::txn::Txn;

impl<T> Collection<T> {
    /// Links two nodes of the collection, or gives the link between them this weight. The target need not be written
    /// yet: its id is reserved for whoever writes the key. True when the link is new.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] when there is no node `from`; when a key or the verb is out of its limits or the weight
    /// is not finite; or when the transaction is of another store.
    pub fn link(
        &self,
        txn: &mut Txn,
        from: &str,
        verb: &str,
        to: &str,
        weight: f64,
    ) -> Result<bool, ChangeError> {
        self.link_to(txn, from, verb, self, to, weight)
    }

    /// As [`link`](Collection::link), to a node of another collection.
    ///
    /// # Errors
    /// As [`link`](Collection::link).
    pub fn link_to<U>(
        &self,
        txn: &mut Txn,
        from: &str,
        verb: &str,
        collection: &Collection<U>,
        to: &str,
        weight: f64,
    ) -> Result<bool, ChangeError> {
        self.inner.store.measure(Operation::Link, || {
            check_key(from)?;
            check_key(to)?;
            check_len("verb", verb.len(), "bytes", 1, VERB_BYTES_MAX)?;
            if !weight.is_finite() {
                let range = "any finite number";
                return Err(ChangeError::Number { what: "weight", found: weight, range });
            }
            txn.change(|txn| {
                let from = self.inner.expect_node(txn, from)?;
                let to = collection.inner.node_or_reserved(txn, to)?;
                let row = layout::link_row(from, verb, to);
                let is_new = txn.view().get(layout::LINKS_OUT, &row)?.is_none();
                put_link(txn, from, verb, to, weight)?;
                Ok(is_new)
            })
        })
    }

    /// Ends the link between two nodes of the collection. False when there is none.
    ///
    /// # Errors
    /// When the transaction is of another store or cannot take the change.
    pub fn unlink(&self, txn: &mut Txn, from: &str, verb: &str, to: &str) -> Result<bool, ChangeError> {
        self.unlink_from(txn, from, verb, self, to)
    }

    /// As [`unlink`](Collection::unlink), of a link to a node of another collection.
    ///
    /// # Errors
    /// As [`unlink`](Collection::unlink).
    pub fn unlink_from<U>(
        &self,
        txn: &mut Txn,
        from: &str,
        verb: &str,
        collection: &Collection<U>,
        to: &str,
    ) -> Result<bool, ChangeError> {
        self.inner.store.measure(Operation::Link, || {
            self.inner.expect_store(txn)?;
            collection.inner.expect_store(txn)?;
            txn.change(|txn| {
                let from = txn.view().live_id(self.inner.id, from)?;
                let to = txn.view().key_entry(collection.inner.id, to)?;
                let Some((from, to)) = from.zip(to) else {
                    return Ok(false);
                };
                if txn.view().get(layout::LINKS_OUT, &layout::link_row(from, verb, to.id))?.is_none() {
                    return Ok(false);
                }
                delete_link(txn, from, verb, to.id)?;
                if to.reserved {
                    release(txn, to.id)?;
                }
                Ok(true)
            })
        })
    }
}

impl CollectionInner {
    pub(crate) fn expect_store(&self, txn: &Txn) -> Result<(), ChangeError> {
        let (expected, found) = (txn.store_id(), self.store.store_id);
        if expected == found { Ok(()) } else { Err(ChangeError::WrongStore { expected, found }) }
    }

    /// The id of a node that must be there and stay there.
    fn expect_node(&self, txn: &mut Txn, key: &str) -> Result<NodeId, ChangeError> {
        self.expect_store(txn)?;
        let missing = || ChangeError::NotFound { collection: self.name.clone(), key: key.to_owned() };
        let entry = txn.view().key_entry(self.id, key)?.filter(|entry| !entry.reserved);
        let entry = entry.ok_or_else(missing)?;
        hold(txn, self.id, key, entry)?;
        Ok(entry.id)
    }

    /// The id of a key, reserved now if nobody has written or reserved it.
    fn node_or_reserved(&self, txn: &mut Txn, key: &str) -> Result<NodeId, ChangeError> {
        self.expect_store(txn)?;
        if let Some(entry) = txn.view().key_entry(self.id, key)? {
            hold(txn, self.id, key, entry)?;
            return Ok(entry.id);
        }
        self.enter(txn, None, None)?;
        let id = self.store.ids.next();
        let record = NodeRecord { reserved: true, ..NodeRecord::new(self.id, key) };
        txn.put_row(layout::NODES, &id.to_bytes(), record.encode())?;
        self.put_key(txn, key, KeyEntry { id, reserved: true })?;
        Ok(id)
    }
}

fn put_link(txn: &mut Txn, from: NodeId, verb: &str, to: NodeId, weight: f64) -> Result<(), ChangeError> {
    let value = layout::weight_value(weight);
    txn.put_row(layout::LINKS_OUT, &layout::link_row(from, verb, to), value.clone())?;
    txn.put_row(layout::LINKS_IN, &layout::link_row(to, verb, from), value)
}

fn delete_link(txn: &mut Txn, from: NodeId, verb: &str, to: NodeId) -> Result<(), ChangeError> {
    txn.delete_row(layout::LINKS_OUT, &layout::link_row(from, verb, to))?;
    txn.delete_row(layout::LINKS_IN, &layout::link_row(to, verb, from))
}

/// All links of a node in one direction: verb, far end, weight.
fn links_of(txn: &Txn, id: NodeId, direction: Direction) -> Result<Vec<(String, NodeId, f64)>, ChangeError> {
    let table = link_table(direction);
    let rows = txn.view().scan(table, KeyRange::prefix(id.to_bytes()))?;
    rows.map(|row| row.and_then(|(row, value)| parse_link(table, &row, &value)).map_err(ChangeError::from))
        .collect()
}

/// Ends all links of a node that is about to be deleted.
pub(crate) fn end_links(txn: &mut Txn, id: NodeId) -> Result<(), ChangeError> {
    let (outgoing, incoming) = (links_of(txn, id, Direction::Out)?, links_of(txn, id, Direction::In)?);
    for (verb, to, _) in outgoing {
        delete_link(txn, id, &verb, to)?;
        if to != id {
            release(txn, to)?;
        }
    }
    for (verb, from, _) in incoming.into_iter().filter(|(_, from, _)| *from != id) {
        delete_link(txn, from, &verb, id)?;
    }
    Ok(())
}

/// Gives a reserved id back when no link names it any more. When one still does, the id is held: two transactions that
/// each end one of its last two links must not both leave it to the other.
fn release(txn: &mut Txn, id: NodeId) -> Result<(), ChangeError> {
    let Some(record) = txn.view().record(id)?.filter(|record| record.reserved) else {
        return Ok(());
    };
    if txn.view().scan(layout::LINKS_IN, KeyRange::prefix(id.to_bytes()))?.next().transpose()?.is_some() {
        return hold(txn, record.collection, &record.key, KeyEntry { id, reserved: true });
    }
    txn.delete_row(layout::NODES, &id.to_bytes())?;
    txn.delete_row(layout::KEYS, &layout::key_row(record.collection, &record.key))
}

/// Moves the links that name a reserved id to the id that its key gets instead, and gives the reserved one back.
pub(crate) fn move_links(txn: &mut Txn, reserved: NodeId, id: NodeId) -> Result<(), ChangeError> {
    for (verb, from, weight) in links_of(txn, reserved, Direction::In)? {
        delete_link(txn, from, &verb, reserved)?;
        put_link(txn, from, &verb, id, weight)?;
    }
    txn.delete_row(layout::NODES, &reserved.to_bytes())
}
