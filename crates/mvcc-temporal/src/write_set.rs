//! What a transaction writes, until it commits: sorted, one value per key, shared copy-on-write with its scans.

use std::collections::BTreeMap;

use keepstone_types::ValueRef;

use crate::catalog::TableId;
use crate::error::CommitError;
use crate::key_range::{KeyRange, borrowed};
use crate::limits::{KEY_LEN_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_ROWS_MAX, VALUE_LEN_MAX};
use crate::record::Row;
use crate::sync::Arc;

/// Rows by table and key; no value is a deletion.
pub(crate) type WriteMap = BTreeMap<TableId, BTreeMap<ValueRef, Option<ValueRef>>>;

/// The writes of a transaction.
#[derive(Debug, Default)]
pub(crate) struct WriteSet {
    /// A scan holds the map as it was when it began; a write after that copies the map once.
    rows: Arc<WriteMap>,
    row_count: usize,
    bytes: usize,
}

impl WriteSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The map as it is now, for a scan; `None` when it is empty.
    pub(crate) fn share(&self) -> Option<Arc<WriteMap>> {
        (!self.rows.is_empty()).then(|| Arc::clone(&self.rows))
    }

    /// The write to a key, if there is one: the new value, or `None` for a deletion.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Option<&Option<ValueRef>> {
        self.rows.get(&table)?.get(key)
    }

    /// Writes or deletes a row.
    pub(crate) fn set(
        &mut self,
        table: TableId,
        key: ValueRef,
        value: Option<ValueRef>,
    ) -> Result<(), CommitError> {
        let value_len = value.as_ref().map_or(0, |value| value.len());
        if key.len() > KEY_LEN_MAX {
            return Err(CommitError::KeyTooLong { len: key.len(), max: KEY_LEN_MAX });
        }
        if value_len > VALUE_LEN_MAX {
            return Err(CommitError::ValueTooLarge { len: value_len });
        }
        let key_len = key.len();
        let rows = self.row_count.saturating_add(1);
        let bytes = self.bytes.saturating_add(key_len).saturating_add(value_len);
        if rows > TRANSACTION_ROWS_MAX || bytes > TRANSACTION_BYTES_MAX {
            let (rows_max, bytes_max) = (TRANSACTION_ROWS_MAX, TRANSACTION_BYTES_MAX);
            return Err(CommitError::TransactionTooLarge { rows, bytes, rows_max, bytes_max });
        }
        let replaced = Arc::make_mut(&mut self.rows).entry(table).or_default().insert(key, value);
        (self.row_count, self.bytes) = match replaced {
            Some(old) => {
                let freed = key_len.saturating_add(old.map_or(0, |old| old.len()));
                (self.row_count, bytes.saturating_sub(freed))
            }
            None => (rows, bytes),
        };
        Ok(())
    }

    /// The rows in the order of the record.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        let tables = Arc::try_unwrap(self.rows).unwrap_or_else(|shared| (*shared).clone());
        let mut rows = Vec::with_capacity(self.row_count);
        for (table, of_table) in tables {
            rows.extend(of_table.into_iter().map(|(key, value)| Row { table, key, value }));
        }
        rows
    }
}

/// The writes to a range of one table.
pub(crate) fn range_of<'a>(
    rows: &'a WriteMap,
    table: TableId,
    range: &KeyRange,
) -> impl DoubleEndedIterator<Item = (&'a ValueRef, &'a Option<ValueRef>)> + use<'a> {
    // The standard map panics when bounds cross.
    let of_table = rows.get(&table).filter(|_| !range.is_empty());
    let found = of_table.map(|rows| rows.range::<[u8], _>((borrowed(&range.from), borrowed(&range.to))));
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> ValueRef {
        ValueRef::from(text.as_bytes())
    }

    #[test]
    fn the_last_write_to_a_key_counts() {
        let mut writes = WriteSet::default();
        let table = TableId::FIRST_USER;
        writes.set(table, value("k"), Some(value("long value"))).unwrap();
        let seen_by_a_scan = writes.share().unwrap();
        writes.set(table, value("k"), None).unwrap();
        assert_eq!(writes.get(table, b"k"), Some(&None));
        assert_eq!(writes.bytes, 1);
        assert_eq!(seen_by_a_scan[&table].values().next(), Some(&Some(value("long value"))));
        assert_eq!(writes.into_rows(), [Row { table, key: value("k"), value: None }]);
    }

    #[test]
    fn ranges_stay_within_their_table() {
        let mut writes = WriteSet::default();
        for table in [TableId::FIRST_USER, TableId::new(2), TableId::new(u32::MAX)] {
            for key in ["", "a", "b", "c"] {
                writes.set(table, value(key), Some(value(key))).unwrap();
            }
        }
        let rows = writes.share().unwrap();
        let keys = |table, range: KeyRange| -> Vec<String> {
            let text = |key: &ValueRef| String::from_utf8(key.to_vec()).unwrap();
            range_of(&rows, table, &range).map(|(key, _)| text(key)).collect()
        };
        for table in [TableId::FIRST_USER, TableId::new(2), TableId::new(u32::MAX)] {
            assert_eq!(keys(table, KeyRange::all()), ["", "a", "b", "c"]);
            assert_eq!(keys(table, KeyRange::from("a".."c")), ["a", "b"]);
            assert_eq!(keys(table, KeyRange::from("b"..)), ["b", "c"]);
            assert_eq!(keys(table, KeyRange::from("c".."a")), Vec::<String>::new());
        }
        assert_eq!(keys(TableId::new(3), KeyRange::all()), Vec::<String>::new());
    }

    #[test]
    fn limits_have_errors_and_leave_the_set_as_it_was() {
        let mut writes = WriteSet::default();
        let table = TableId::FIRST_USER;
        let long = |len: usize| ValueRef::from(vec![0; len]);
        let kind = |result: Result<(), CommitError>| result.map_err(|error| error.kind().as_str());
        assert_eq!(kind(writes.set(table, long(KEY_LEN_MAX), None)), Ok(()));
        assert_eq!(kind(writes.set(table, long(KEY_LEN_MAX + 1), None)), Err("key-too-long"));
        assert_eq!(
            kind(writes.set(table, value("v"), Some(long(VALUE_LEN_MAX + 1)))),
            Err("value-too-large")
        );
        let large = long(VALUE_LEN_MAX);
        for key in ["a", "b", "c"] {
            assert_eq!(kind(writes.set(table, value(key), Some(large.clone()))), Ok(()));
        }
        assert_eq!(kind(writes.set(table, value("d"), Some(large))), Err("transaction-too-large"));
        assert_eq!(writes.row_count, 4);
    }
}
