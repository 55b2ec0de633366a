//! What a transaction writes, until it commits: sorted, one value per key, shared copy-on-write with its scans. When it is
//! too much for memory, it goes to runs; runs of about one size are merged, so that there are never many.

use std::collections::BTreeMap;

use keepstone_types::{Packer, ValueRef};

use crate::catalog::TableId;
use crate::error::{CommitError, ReadError};
use crate::key_range::{KeyRange, borrowed};
use crate::log::record::Row;
use crate::runs::{Merged, Run, RunFolder};
use crate::sync::Arc;

/// Rows by table and key; no value is a deletion.
pub(crate) type WriteMap = BTreeMap<TableId, BTreeMap<ValueRef, Option<ValueRef>>>;

/// Bytes that a row in memory takes beside its key and value.
const ROW_OVERHEAD_BYTES: usize = 96;
/// Runs of one size that are merged into one of the next.
const RUNS_MERGED: usize = 8;

/// The writes of a transaction as they were at one moment.
#[derive(Clone, Debug)]
pub(crate) struct OwnWrites {
    pub(crate) rows: Arc<WriteMap>,
    /// Newest first; what is in memory is newer than all of them.
    pub(crate) runs: Vec<Arc<Run>>,
}

/// The writes of a transaction.
#[derive(Debug, Default)]
pub(crate) struct WriteSet {
    /// A scan holds the map as it was when it began; a write after that copies the map once.
    rows: Arc<WriteMap>,
    row_count: usize,
    bytes: usize,
    /// What was too much for memory, oldest first, each with how often it was merged.
    runs: Vec<(u32, Arc<Run>)>,
    /// Where small keys and values are.
    packer: Packer,
}

/// What is committed.
pub(crate) struct FinishedWrites {
    /// The rows in the order of the record.
    pub(crate) rows: Vec<Row>,
    /// Newest first; then `rows` are those of the store's own table alone.
    pub(crate) runs: Box<[Arc<Run>]>,
}

/// Bytes of what was overwritten that blocks may hold beside as much as is still there.
const OVERWRITTEN_BYTES_MAX: usize = 1 << 20;

impl WriteSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.runs.is_empty()
    }

    fn newest_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.iter().rev().map(|(_, run)| run)
    }

    /// The writes as they are now, for a scan; `None` when there are none.
    pub(crate) fn share(&self) -> Option<OwnWrites> {
        let share =
            || OwnWrites { rows: Arc::clone(&self.rows), runs: self.newest_runs().cloned().collect() };
        (!self.is_empty()).then(share)
    }

    /// The write to a key, if there is one: the new value, or `None` for a deletion.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Option<ValueRef>>, ReadError> {
        if let Some(value) = self.rows.get(&table).and_then(|rows| rows.get(key)) {
            return Ok(Some(value.clone()));
        }
        for run in self.newest_runs() {
            if let Some(value) = run.get(table, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Writes or deletes a row.
    pub(crate) fn set(
        &mut self,
        table: TableId,
        key: ValueRef,
        value: Option<ValueRef>,
    ) -> Result<(), CommitError> {
        let value_len = value.as_ref().map_or(0, |value| value.len());
        let (key_len_max, value_len_max) = table.stored_len_max();
        if key.len() > key_len_max {
            return Err(CommitError::KeyTooLong { len: key.len(), max: key_len_max });
        }
        if value_len > value_len_max {
            return Err(CommitError::ValueTooLarge { len: value_len });
        }
        let key_len = key.len();
        let rows = self.row_count.saturating_add(1);
        let bytes = self.bytes.saturating_add(key_len).saturating_add(value_len);
        let (key, value) = (self.packer.pack(key), value.map(|value| self.packer.pack(value)));
        let replaced = Arc::make_mut(&mut self.rows).entry(table).or_default().insert(key, value);
        (self.row_count, self.bytes) = match replaced {
            Some(old) => {
                let freed = key_len.saturating_add(old.map_or(0, |old| old.len()));
                (self.row_count, bytes.saturating_sub(freed))
            }
            None => (rows, bytes),
        };
        if self.packer.packed_bytes() > self.bytes.saturating_mul(2).saturating_add(OVERWRITTEN_BYTES_MAX) {
            self.pack_again();
        }
        Ok(())
    }

    /// Lets go the blocks that hold mostly what was overwritten.
    fn pack_again(&mut self) {
        let packer = &mut self.packer;
        *packer = Packer::default();
        for rows in Arc::make_mut(&mut self.rows).values_mut() {
            let mut again = |bytes: ValueRef| packer.pack(ValueRef::copy_from(&bytes));
            let packed =
                std::mem::take(rows).into_iter().map(|(key, value)| (again(key), value.map(&mut again)));
            *rows = packed.collect();
        }
    }

    /// Writes what is in memory to a run when it takes more than `bytes_max`.
    pub(crate) fn spill_beyond(
        &mut self,
        bytes_max: usize,
        folder: &Arc<RunFolder>,
    ) -> Result<(), CommitError> {
        let overhead = self.row_count.saturating_mul(ROW_OVERHEAD_BYTES);
        if self.bytes.saturating_add(overhead) <= bytes_max {
            return Ok(());
        }
        self.spill(folder)
    }

    /// Writes what is in memory to a run, but for the rows of the store's own table, and merges runs when there are many.
    /// After an error everything that was written is still there.
    fn spill(&mut self, folder: &Arc<RunFolder>) -> Result<(), CommitError> {
        let is_own = |(table, _): &(&TableId, _)| **table != TableId::SYSTEM;
        let run = folder.build(|sink| {
            for (table, rows) in self.rows.iter().filter(is_own) {
                rows.iter().try_for_each(|(key, value)| sink.push(*table, key, value.as_ref()))?;
            }
            Ok(())
        })?;
        let system = self.rows.get(&TableId::SYSTEM).cloned();
        let len = |(key, value): (&ValueRef, &Option<ValueRef>)| {
            key.len().saturating_add(value.as_ref().map_or(0, |value| value.len()))
        };
        self.row_count = system.as_ref().map_or(0, BTreeMap::len);
        self.bytes = system.iter().flatten().map(len).fold(0, usize::saturating_add);
        self.rows = Arc::new(system.into_iter().map(|rows| (TableId::SYSTEM, rows)).collect());
        self.packer = Packer::default();
        self.runs.push((0, run));
        self.merge_runs(folder)
    }

    /// Merges the newest runs into one for as long as there are enough of one size.
    fn merge_runs(&mut self, folder: &Arc<RunFolder>) -> Result<(), CommitError> {
        while let Some((size, _)) = self.runs.last().cloned() {
            let alike = self.runs.iter().rev().take_while(|(of, _)| *of == size).count();
            if alike < RUNS_MERGED {
                break;
            }
            let newest: Vec<Arc<Run>> = self.newest_runs().take(alike).cloned().collect();
            let merged = folder.build(|sink| {
                let mut rows = Merged::behind(&newest, None)?;
                while let Some((table, key, value)) = rows.next_row()? {
                    sink.push(table, &key, value.as_ref())?;
                }
                Ok(())
            })?;
            self.runs.truncate(self.runs.len().saturating_sub(alike));
            self.runs.push((size.saturating_add(1), merged));
        }
        Ok(())
    }

    /// What is to be committed; with runs, everything that is not the store's own is in them.
    pub(crate) fn finish(mut self, folder: &Arc<RunFolder>) -> Result<FinishedWrites, CommitError> {
        if !self.runs.is_empty() && self.rows.keys().any(|table| *table != TableId::SYSTEM) {
            self.spill(folder)?;
        }
        let runs = self.newest_runs().cloned().collect();
        let tables = Arc::try_unwrap(self.rows).unwrap_or_else(|shared| (*shared).clone());
        let mut rows = Vec::with_capacity(self.row_count);
        for (table, of_table) in tables {
            rows.extend(of_table.into_iter().map(|(key, value)| Row { table, key, value }));
        }
        Ok(FinishedWrites { rows, runs })
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
    use std::path::Path;

    use keepstone_types::StoreId;
    use keepstone_vfs::{MemoryVfs, Vfs};

    use super::*;
    use crate::layers::{Layers, View};
    use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
    use crate::merge::{Direction, Merge};

    fn value(text: &str) -> ValueRef {
        ValueRef::from(text.as_bytes())
    }

    fn folder() -> Arc<RunFolder> {
        let vfs = MemoryVfs::new();
        vfs.create_dir(Path::new("/store")).unwrap();
        let size = keepstone_pager::PageSize::default();
        Arc::new(RunFolder::new(Arc::new(vfs), Path::new("/store"), StoreId::from_bytes([1; 16]), size))
    }

    /// Writes at random, spilled now and then, against a map: look-ups, ranges either way, and what is committed.
    #[test]
    fn what_is_spilled_reads_as_what_is_not() {
        let folder = folder();
        let mut writes = WriteSet::default();
        let mut model: BTreeMap<(TableId, Vec<u8>), Option<ValueRef>> = BTreeMap::new();
        let mut random = 7_u64;
        let mut draw = |bound: u64| {
            random = keepstone_types::checksum::checksum(&random.to_le_bytes());
            random % bound
        };
        for step in 0..6_000_u64 {
            let table = TableId::new(u32::try_from(draw(4)).unwrap());
            let key = draw(300).to_be_bytes()[6..].to_vec();
            let large = draw(500) == 0;
            let [tag, ..] = step.to_le_bytes();
            let new = (draw(4) > 0).then(|| ValueRef::from(vec![tag; if large { 30_000 } else { 9 }]));
            writes.set(table, ValueRef::copy_from(&key), new.clone()).unwrap();
            model.insert((table, key), new);
            if draw(30) == 0 {
                writes.spill(&folder).unwrap();
            }
            let (table, key) =
                (TableId::new(u32::try_from(draw(4)).unwrap()), draw(300).to_be_bytes()[6..].to_vec());
            assert_eq!(writes.get(table, &key).unwrap(), model.get(&(table, key)).cloned());
        }
        assert!(writes.runs.len() < 4 * RUNS_MERGED, "{} runs are left", writes.runs.len());
        let own = writes.share().unwrap();
        for direction in [Direction::Up, Direction::Down] {
            for (from, to) in [(0_u64, 300_u64), (20, 90), (150, 151)] {
                let bound = |number: u64| number.to_be_bytes()[6..].to_vec();
                let (range, table) = (KeyRange::from(bound(from)..bound(to)), TableId::new(2));
                let view = View::new(Arc::new(Layers::new(Vec::new(), None)), keepstone_types::Version::ZERO);
                let merge = Merge::new(&view, Some(&own), table, &range, direction).unwrap();
                let found: Vec<_> =
                    merge.map(|row| row.map(|(key, value)| (key.to_vec(), value)).unwrap()).collect();
                let rows = model.range((table, bound(from))..(table, bound(to)));
                let mut expected: Vec<_> =
                    rows.filter_map(|((_, key), value)| Some((key.clone(), value.clone()?))).collect();
                if direction == Direction::Down {
                    expected.reverse();
                }
                assert_eq!(found, expected);
            }
        }
        let FinishedWrites { rows, runs } = writes.finish(&folder).unwrap();
        assert!(rows.iter().all(|row| row.table == TableId::SYSTEM));
        let mut merged = Merged::behind(&runs, None).unwrap();
        let mut found: BTreeMap<_, _> =
            rows.into_iter().map(|row| ((row.table, row.key.to_vec()), row.value)).collect();
        let mut before = None;
        while let Some((table, key, value)) = merged.next_row().unwrap() {
            assert!(before < Some((table, key.to_vec())));
            before = Some((table, key.to_vec()));
            found.insert((table, key.to_vec()), value);
        }
        assert_eq!(found, model);
    }

    #[test]
    fn the_last_write_to_a_key_counts() {
        let mut writes = WriteSet::default();
        let table = TableId::FIRST_USER;
        writes.set(table, value("k"), Some(value("long value"))).unwrap();
        let seen_by_a_scan = writes.share().unwrap();
        writes.set(table, value("k"), None).unwrap();
        assert_eq!(writes.get(table, b"k").unwrap(), Some(None));
        assert_eq!(writes.bytes, 1);
        assert_eq!(seen_by_a_scan.rows[&table].values().next(), Some(&Some(value("long value"))));
        let finished = writes.finish(&folder()).unwrap();
        assert_eq!(finished.rows, [Row { table, key: value("k"), value: None }]);
        assert!(finished.runs.is_empty());
    }

    #[test]
    fn what_is_overwritten_again_and_again_does_not_pile_up() {
        let mut writes = WriteSet::default();
        let table = TableId::FIRST_USER;
        for number in 0..20_000_u32 {
            writes.set(table, ValueRef::copy_from(&number.to_be_bytes()), Some(value("small"))).unwrap();
            writes.set(table, value("counter"), Some(ValueRef::from(vec![7; 1_000]))).unwrap();
        }
        let most = 2 * writes.bytes + OVERWRITTEN_BYTES_MAX;
        assert!(
            writes.packer.packed_bytes() <= most,
            "{} bytes for {}",
            writes.packer.packed_bytes(),
            writes.bytes
        );
        assert_eq!((writes.row_count, writes.bytes), (20_001, 20_000 * 9 + 1_007));
        assert_eq!(writes.get(table, &77_u32.to_be_bytes()).unwrap(), Some(Some(value("small"))));
    }

    #[test]
    fn ranges_stay_within_their_table() {
        let mut writes = WriteSet::default();
        for table in [TableId::FIRST_USER, TableId::new(2), TableId::new(u32::MAX)] {
            for key in ["", "a", "b", "c"] {
                writes.set(table, value(key), Some(value(key))).unwrap();
            }
        }
        let rows = writes.share().unwrap().rows;
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
        assert_eq!(writes.row_count, 1);
    }
}
