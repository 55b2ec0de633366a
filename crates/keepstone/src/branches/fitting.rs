//! What a merge wrote, held against what it depends on, in the transaction that will commit it.
//!
//! Rows depend on each other (`layout` lists how), and two sides may each make a change that is whole and be broken together:
//! one deletes a node, the other links to it. Each dependency is between two rows, and holds on either side alone. So it is
//! enough to look at the rows that were written: each with what it names now, and with what it named before.

use std::collections::BTreeSet;

use keepstone_mvcc_temporal::{self as mvcc, KeyRange};
use keepstone_types::NodeId;

use crate::error::ReadError;
use crate::layout::{self, AddressRow, CollectionId, KeyEntry};
use crate::read::{Source, damaged};
use crate::record::NodeRecord;

/// What of the store a row that a merge wrote would break, if anything. Rows that it does not depend on are not read.
pub(super) fn broken(view: &Source<'_>, row: &mvcc::MergeConflict) -> Result<Option<String>, ReadError> {
    match &*row.table {
        layout::NODES => broken_node(view, row),
        layout::KEYS => broken_key(view, row),
        layout::FINGERPRINTS | layout::EMBEDDINGS => broken_vector(view, row),
        layout::LINKS_OUT => broken_link(view, row, layout::LINKS_IN),
        layout::LINKS_IN => broken_link(view, row, layout::LINKS_OUT),
        layout::ADDRESSES | layout::ADDRESSES_OF => broken_address(view, row),
        _ => Ok(None),
    }
}

fn node_of(row: &mvcc::MergeConflict) -> Result<NodeId, ReadError> {
    layout::parse_id(&row.key).ok_or_else(|| damaged(layout::NODES, &row.key, "it is not an id"))
}

fn has_rows(view: &Source<'_>, table: &'static str, prefix: &[u8]) -> Result<bool, ReadError> {
    Ok(view.scan(table, KeyRange::prefix(prefix))?.next().transpose()?.is_some())
}

fn broken_node(view: &Source<'_>, row: &mvcc::MergeConflict) -> Result<Option<String>, ReadError> {
    let id = node_of(row)?;
    let no = |what: &str| Ok(Some(what.to_owned()));
    let record = view.record(id)?;
    // The key that it had must not name it any more, unless it still has it.
    let before = row.main.as_ref().and_then(|value| NodeRecord::decode(value).ok());
    for known in before.iter().chain(&record) {
        let named = view.key_entry(known.collection, &known.key)?;
        let is_its = record.as_ref().filter(|record| is_of(record, known.collection, &known.key));
        let expected = is_its.map(|record| KeyEntry { id, reserved: record.reserved });
        if expected.is_some() && named != expected {
            return no("it would be there and its key name another node, or none");
        }
        if expected.is_none() && named.is_some_and(|named| named.id == id) {
            return no("its key would name it and it not be there");
        }
    }
    if record.as_ref().is_some_and(|record| !record.reserved) {
        return Ok(None);
    }
    let id = id.to_bytes();
    if has_rows(view, layout::LINKS_OUT, &id)? {
        return no("it would be gone and still link to another");
    }
    match (record, has_rows(view, layout::LINKS_IN, &id)?) {
        (None, true) => return no("it would be gone and another still link to it"),
        (Some(_), false) => return no("its key would stay reserved without a link to it"),
        _ => {}
    }
    for table in [layout::FINGERPRINTS, layout::EMBEDDINGS] {
        if view.get(table, &id)?.is_some() {
            return no("it would be gone and its fingerprint or embedding still be there");
        }
    }
    if has_rows(view, layout::ADDRESSES_OF, &id)? {
        return no("it would be gone and an address still name it");
    }
    Ok(None)
}

/// Whether a node has this key.
fn is_of(record: &NodeRecord, collection: CollectionId, key: &str) -> bool {
    record.collection == collection && record.key == key
}

fn broken_key(view: &Source<'_>, row: &mvcc::MergeConflict) -> Result<Option<String>, ReadError> {
    let wrong = || damaged(layout::KEYS, &row.key, "it is not a collection and a key");
    let (collection, key) = layout::parse_key_row(&row.key).ok_or_else(wrong)?;
    let entry = view.key_entry(collection, key)?;
    if let Some(entry) = entry {
        let record = view.record(entry.id)?;
        let fits = |record: NodeRecord| is_of(&record, collection, key) && record.reserved == entry.reserved;
        if !record.is_some_and(fits) {
            return Ok(Some("the key would name a node that is not there".to_owned()));
        }
    }
    // The node that it named must be gone, unless it is the same.
    let before = row.main.as_deref().and_then(KeyEntry::decode);
    let before = before.filter(|before| entry.is_none_or(|entry| entry.id != before.id));
    let left = match before {
        Some(before) => view.record(before.id)?.is_some_and(|record| is_of(&record, collection, key)),
        None => false,
    };
    Ok(left.then(|| "the key would be free, or another's, and the node still be there".to_owned()))
}

fn broken_vector(view: &Source<'_>, row: &mvcc::MergeConflict) -> Result<Option<String>, ReadError> {
    if row.branch.is_none() {
        return Ok(None);
    }
    let id = node_of(row)?;
    let Some(record) = view.record(id)?.filter(|record| !record.reserved) else {
        return Ok(Some("a fingerprint or embedding would be there without its node".to_owned()));
    };
    let collection = view.collection(record.collection)?;
    let (found, expected) = if *row.table == *layout::FINGERPRINTS {
        let bits = view.fingerprint(id)?.map(|found| found.bits());
        (bits, collection.and_then(|collection| collection.fingerprint_bits))
    } else {
        let numbers = view.embedding(id)?.map(|found| found.len());
        (numbers, collection.and_then(|collection| collection.embedding_dimension))
    };
    let fits = found.and_then(|found| u32::try_from(found).ok()) == expected;
    Ok((!fits).then(|| "its width would not be that of the collection".to_owned()))
}

fn broken_link(
    view: &Source<'_>,
    row: &mvcc::MergeConflict,
    other: &'static str,
) -> Result<Option<String>, ReadError> {
    let wrong = || damaged(layout::LINKS_OUT, &row.key, "it is not a link");
    let (near, verb, far) = layout::parse_link_row(&row.key).ok_or_else(wrong)?;
    let mirror = view.get(other, &layout::link_row(far, &verb, near))?;
    if mirror != row.branch {
        return Ok(Some(format!("the link {verb:?} would not be the same at both ends")));
    }
    let (from, to) = if other == layout::LINKS_IN { (near, far) } else { (far, near) };
    let to_record = view.record(to)?;
    if row.branch.is_some() {
        let from_is_there = view.record(from)?.is_some_and(|record| !record.reserved);
        let are_there = from_is_there && to_record.is_some();
        return Ok(
            (!are_there).then(|| format!("the link {verb:?} would lead from or to a node that is gone"))
        );
    }
    let is_left =
        to_record.is_some_and(|record| record.reserved) && !has_rows(view, layout::LINKS_IN, &to.to_bytes())?;
    Ok(is_left.then(|| "a key would stay reserved without a link to it".to_owned()))
}

fn broken_address(view: &Source<'_>, row: &mvcc::MergeConflict) -> Result<Option<String>, ReadError> {
    let wrong = || damaged(layout::ADDRESSES, &row.key, "it is not an address");
    let address = if *row.table == *layout::ADDRESSES {
        layout::parse_address_row(&row.key)
    } else {
        layout::parse_address_of_row(&row.key).map(|(_, address)| address)
    };
    let address = address.ok_or_else(wrong)?;
    let named = match view.get(layout::ADDRESSES, &layout::address_row(address))? {
        Some(value) => Some(AddressRow::decode(&value).ok_or_else(wrong)?.id),
        None => None,
    };
    let mut ids: BTreeSet<NodeId> = named.into_iter().collect();
    for value in [&row.main, &row.branch].into_iter().flatten() {
        if *row.table == *layout::ADDRESSES {
            ids.extend(AddressRow::decode(value).map(|found| found.id));
        }
    }
    if *row.table == *layout::ADDRESSES_OF {
        ids.extend(layout::parse_address_of_row(&row.key).map(|(id, _)| id));
    }
    for id in ids {
        let has_row = view.get(layout::ADDRESSES_OF, &layout::address_of_row(id, address))?.is_some();
        let is_there = view.record(id)?.is_some_and(|record| !record.reserved);
        let is_named = named == Some(id);
        if has_row != is_named || (is_named && !is_there) {
            return Ok(Some(format!("address {address} and its node would not name each other")));
        }
    }
    Ok(None)
}
