//! The memtable: every row version in memory, in one ordered tree that is read without locks.
//!
//! Invariants:
//! * The key is (table, key bytes, version), newest version first, so that one search finds the newest version at or
//!   below any other.
//! * One writer: the leader of the log's current group, or recovery before the store is open. Any number of readers.
//! * A row is inserted before its version becomes visible, and never changed after. Readers ask for versions at or
//!   below the visible one, so what is being inserted is never seen.
//! * Most comparisons are of a key's first sixteen bytes: keys of one collection begin with eight that are the same, and ids
//!   with those of their time.
//! * `visible` only grows. It is frozen when the memtable is sealed, so a view reads only its own.
//! * The filter knows a row's key before the row is inserted, so that it denies no row that may be seen.
//! * The commits are those whose rows are here, so that both leave memory together.
//! * A memtable with runs has one commit, whose rows they are, but for those of the store's own table, which are in memory.

mod key_filter;
mod place;
mod rows;

use std::ops::Bound;

use keepstone_types::{ValueRef, Version};

use crate::catalog::TableId;
use crate::commit::index::CommitIndex;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::runs::{Run, bytes_of};
use crate::sync::{self, Arc, AtomicU64, Ordering};
use key_filter::KeyFilter;
use place::{RowPlace, number};
use rows::{Entry, Rows};

/// One version of a row: `value` is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowVersion {
    pub(crate) key: ValueRef,
    pub(crate) version: Version,
    pub(crate) value: Option<ValueRef>,
}

impl RowVersion {
    /// Key and value; `None` for a deletion.
    fn live(&self) -> Option<(&ValueRef, &ValueRef)> {
        Some((&self.key, self.value.as_ref()?))
    }
}

/// What a look-up finds of a row, whose key the caller has: `value` is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRow {
    pub(crate) version: Version,
    pub(crate) value: Option<ValueRef>,
}

impl From<RowVersion> for FoundRow {
    fn from(row: RowVersion) -> Self {
        Self { version: row.version, value: row.value }
    }
}

/// Bytes that a row version takes beside its key and value: its place, lengths and counts, its part of nodes and of those
/// that were replaced, its part of the filter; on average, when rows come in no order. In order they take half of it.
const ROW_OVERHEAD_BYTES: u64 = 240;

/// Bytes that a row version takes in a memtable.
pub(crate) fn row_bytes(key: &ValueRef, value: Option<&ValueRef>) -> u64 {
    let payload = key.len().saturating_add(value.map_or(0, |value| value.len()));
    u64::try_from(payload).unwrap_or(u64::MAX).saturating_add(ROW_OVERHEAD_BYTES)
}

/// Older versions stepped over one by one before the next key is searched for instead.
const STEPS_BEFORE_SEARCH: usize = 4;

/// The commits of a span of versions, and the row versions they wrote.
#[derive(Debug)]
pub(crate) struct Memtable {
    rows: Rows,
    filter: KeyFilter,
    commits: CommitIndex,
    visible: AtomicU64,
    row_count: AtomicU64,
    byte_count: AtomicU64,
    /// Rows on disk, newest first, and the version of all of them.
    runs: Box<[Arc<Run>]>,
    runs_version: Version,
}

impl Memtable {
    pub(crate) fn new(visible: Version) -> Self {
        Self::on_runs(visible, Version::MAX, Box::default())
    }

    /// A memtable of the one commit that wrote these runs, newest first.
    pub(crate) fn on_runs(visible: Version, runs_version: Version, runs: Box<[Arc<Run>]>) -> Self {
        Self {
            runs,
            runs_version,
            rows: Rows::new(),
            filter: KeyFilter::new(),
            commits: CommitIndex::new(),
            visible: AtomicU64::new(visible.to_raw()),
            row_count: AtomicU64::new(0),
            byte_count: AtomicU64::new(0),
        }
    }

    /// The newest version that readers may see.
    pub(crate) fn visible(&self) -> Version {
        Version::from_raw(self.visible.load(Ordering::Acquire))
    }

    /// Lets readers see everything through `version`; called by the writer only.
    pub(crate) fn publish(&self, version: Version) {
        self.visible.fetch_max(version.to_raw(), Ordering::AcqRel);
    }

    /// Adds a row version; called by the writer only.
    pub(crate) fn insert(&self, table: TableId, key: ValueRef, version: Version, value: Option<ValueRef>) {
        let bytes = row_bytes(&key, value.as_ref());
        self.filter.add(table, number(&key), &key);
        let is_added = self.rows.insert(table, RowVersion { key, version, value });
        // Memory ends long before numbers do: a row takes more than a hundred bytes.
        assert!(is_added, "a memtable holds at most 4,294,967,295 rows");
        self.row_count.fetch_add(1, Ordering::Relaxed);
        self.byte_count.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The commits whose rows are here.
    pub(crate) const fn commits(&self) -> &CommitIndex {
        &self.commits
    }

    /// Row versions held.
    pub(crate) fn row_count(&self) -> u64 {
        self.row_count.load(Ordering::Relaxed)
    }

    /// Bytes held, keys and values counted and the rest estimated.
    pub(crate) fn byte_count(&self) -> u64 {
        self.byte_count.load(Ordering::Relaxed)
    }

    /// The runs that are part of it, newest first, and the version of their rows.
    pub(crate) fn runs(&self) -> (&[Arc<Run>], Version) {
        (&self.runs, self.runs_version)
    }

    /// Bytes of keys and values in runs.
    pub(crate) fn run_bytes(&self) -> u64 {
        bytes_of(&self.runs)
    }

    /// The version of a key in the runs, if they have it and it is at or below `at`.
    pub(crate) fn get_in_runs(
        &self,
        table: TableId,
        key: &[u8],
        at: Version,
    ) -> Result<Option<FoundRow>, ReadError> {
        if self.runs_version > at {
            return Ok(None);
        }
        for run in &self.runs {
            if let Some(value) = run.get(table, key)? {
                return Ok(Some(FoundRow { version: self.runs_version, value }));
            }
        }
        Ok(None)
    }

    /// The first row version at or after a place.
    fn seek(&self, place: RowPlace<'_>) -> Option<Entry<'_>> {
        self.rows.first_from(&place)
    }

    /// The newest version of a key at or below `at`. Most keys that are not here cost no search.
    pub(crate) fn get(&self, table: TableId, key: &[u8], at: Version) -> Option<FoundRow> {
        if !self.filter.may_have(table, number(key), key) {
            return None;
        }
        let row = self.newest(table, key, at)?.row();
        Some(FoundRow { version: row.version, value: row.value.clone() })
    }

    fn newest(&self, table: TableId, key: &[u8], at: Version) -> Option<Entry<'_>> {
        let entry = self.seek(RowPlace::new(table, key, at))?;
        (entry.table() == table && *entry.row().key == *key).then_some(entry)
    }

    /// Whether a key of a range may be here, as far as the bounds of the keys tell.
    pub(crate) fn may_meet(&self, table: TableId, range: &KeyRange) -> bool {
        let head = |bound: &Bound<ValueRef>, otherwise| match bound {
            Bound::Included(key) | Bound::Excluded(key) => number(key),
            Bound::Unbounded => otherwise,
        };
        self.filter.may_meet(table, head(&range.from, 0), head(&range.to, u64::MAX))
    }

    /// The newest visible version of the last key within the upper bound, in key order.
    fn last_in(&self, table: TableId, to: Bound<&[u8]>, at: Version) -> Option<&RowVersion> {
        let below = |place: RowPlace<'_>| self.rows.last_before(Some(&place));
        let mut entry = match to {
            Bound::Excluded(key) => below(RowPlace::new(table, key, Version::MAX)),
            Bound::Included(key) => below(RowPlace::new(table, key, Version::ZERO)),
            Bound::Unbounded => match table.next() {
                Some(next) => below(RowPlace::new(next, &[], Version::MAX)),
                None => self.rows.last_before(None),
            },
        };
        loop {
            let candidate = entry?;
            if candidate.table() != table {
                return None;
            }
            let key = &candidate.row().key;
            if let Some(found) = self.newest(table, key, at) {
                return Some(found.row());
            }
            entry = below(RowPlace::new(table, key, Version::MAX));
        }
    }

    /// All versions of a key at or below `at`, newest first, at most `limit`.
    pub(crate) fn versions(&self, table: TableId, key: &[u8], at: Version, limit: usize) -> Vec<RowVersion> {
        let first = self.seek(RowPlace::new(table, key, at));
        std::iter::successors(first, Entry::next)
            .take_while(|entry| entry.table() == table && *entry.row().key == *key)
            .take(limit)
            .map(|entry| entry.row().clone())
            .collect()
    }

    /// Walks all row versions of all tables, in order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(TableId, &RowVersion)) {
        let first = self.seek(RowPlace::new(TableId::SYSTEM, &[], Version::MAX));
        for entry in std::iter::successors(first, Entry::next) {
            visit(entry.table(), entry.row());
        }
    }

    /// All row versions of all tables behind a key, all its versions left out, in order: by table, key, newest first.
    pub(crate) fn rows_behind(
        &self,
        place: Option<(TableId, &[u8])>,
    ) -> impl Iterator<Item = (TableId, RowVersion)> {
        let first = match place {
            // Version zero is never written, so this place is after every version of the key.
            Some((table, key)) => self.seek(RowPlace::new(table, key, Version::ZERO)),
            None => self.seek(RowPlace::new(TableId::SYSTEM, &[], Version::MAX)),
        };
        std::iter::successors(first, Entry::next).map(|entry| (entry.table(), entry.row().clone()))
    }

    /// A cursor over the rows at one version, going up from the lower bound.
    pub(crate) fn ascending(&self, table: TableId, from: Bound<&[u8]>, at: Version) -> Ascending<'_> {
        let first = match from {
            // Version zero is never written, so this place is after every version of the key.
            Bound::Excluded(key) => self.seek(RowPlace::new(table, key, Version::ZERO)),
            Bound::Included(key) => self.seek(RowPlace::new(table, key, Version::MAX)),
            Bound::Unbounded => self.seek(RowPlace::new(table, &[], Version::MAX)),
        };
        let mut cursor = Ascending { memtable: self, table, at, entry: first };
        cursor.settle();
        cursor
    }

    /// A cursor over the rows at one version, going down from the upper bound.
    pub(crate) fn descending(&self, table: TableId, to: Bound<&[u8]>, at: Version) -> Descending<'_> {
        Descending { memtable: self, table, at, row: self.last_in(table, to, at) }
    }
}

/// A cursor over the rows of a memtable at one version: each key once, with its newest version at or below that one,
/// deletions included.
#[derive(Debug)]
pub(crate) struct Ascending<'a> {
    memtable: &'a Memtable,
    table: TableId,
    at: Version,
    entry: Option<Entry<'a>>,
}

impl<'a> Ascending<'a> {
    /// The key the cursor stands on.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.entry.as_ref().map(|entry| &*entry.row().key)
    }

    /// Key and value of the row it stands on; `None` for a deletion.
    pub(crate) fn live(&self) -> Option<(&'a ValueRef, &'a ValueRef)> {
        self.entry.as_ref().and_then(|entry| entry.row().live())
    }

    /// The row the cursor stands on.
    #[cfg(test)]
    fn row(&self) -> Option<RowVersion> {
        self.entry.as_ref().map(|entry| entry.row().clone())
    }

    /// Moves to the next key.
    pub(crate) fn advance(&mut self) {
        let Some(left) = self.entry.take() else { return };
        let key = &left.row().key;
        let is_beyond = |entry: &Entry<'_>| entry.row().key != *key || entry.table() != left.table();
        // Version zero is never written, so this place is after every version of the key.
        let beyond = || self.memtable.seek(RowPlace::new(self.table, key, Version::ZERO));
        self.entry = step_or_search(&left, is_beyond, beyond);
        self.settle();
    }

    /// Moves past versions above the one that is read, and past the end of the table.
    fn settle(&mut self) {
        let at = self.at;
        while let Some(entry) = self.entry.take() {
            let RowVersion { key, version, .. } = entry.row();
            if entry.table() != self.table {
                return;
            }
            if *version <= at {
                self.entry = Some(entry);
                return;
            }
            let is_settled = |next: &Entry<'_>| {
                let row = next.row();
                row.version <= at || row.key != *key || next.table() != self.table
            };
            let settled = || self.memtable.seek(RowPlace::new(self.table, key, at));
            self.entry = step_or_search(&entry, is_settled, settled);
        }
    }
}

/// A cursor over the rows of a memtable at one version, going down.
#[derive(Debug)]
pub(crate) struct Descending<'a> {
    memtable: &'a Memtable,
    table: TableId,
    at: Version,
    row: Option<&'a RowVersion>,
}

impl<'a> Descending<'a> {
    /// The key the cursor stands on.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.row.map(|row| &*row.key)
    }

    /// Key and value of the row it stands on; `None` for a deletion.
    pub(crate) fn live(&self) -> Option<(&'a ValueRef, &'a ValueRef)> {
        self.row.and_then(RowVersion::live)
    }

    /// The row the cursor stands on.
    #[cfg(test)]
    fn row(&self) -> Option<RowVersion> {
        self.row.cloned()
    }

    /// Moves to the next lower key.
    pub(crate) fn advance(&mut self) {
        if let Some(left) = self.row.take() {
            self.row = self.memtable.last_in(self.table, Bound::Excluded(&left.key), self.at);
        }
    }
}

/// The first entry after `from` that is `wanted`: a few steps, then a search, so that a key with ten thousand versions
/// costs a logarithm.
fn step_or_search<'a>(
    from: &Entry<'a>,
    wanted: impl Fn(&Entry<'a>) -> bool,
    search: impl FnOnce() -> Option<Entry<'a>>,
) -> Option<Entry<'a>> {
    let mut entry = from.next()?;
    for _ in 0..STEPS_BEFORE_SEARCH {
        if wanted(&entry) {
            return Some(entry);
        }
        entry = entry.next()?;
    }
    if wanted(&entry) { Some(entry) } else { search() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const TABLE: TableId = TableId::FIRST_USER;

    fn version(raw: u64) -> Version {
        Version::from_raw(raw)
    }

    fn keys_up(memtable: &Memtable, from: Bound<&[u8]>, at: Version) -> Vec<(Vec<u8>, u64)> {
        let mut cursor = memtable.ascending(TABLE, from, at);
        let mut keys = Vec::new();
        while let Some(row) = cursor.row() {
            keys.push((row.key.to_vec(), row.version.to_raw()));
            cursor.advance();
        }
        keys
    }

    fn keys_down(memtable: &Memtable, at: Version) -> Vec<(Vec<u8>, u64)> {
        let mut keys = Vec::new();
        let mut cursor = memtable.descending(TABLE, Bound::Unbounded, at);
        while let Some(row) = cursor.row() {
            keys.push((row.key.to_vec(), row.version.to_raw()));
            cursor.advance();
        }
        keys
    }

    proptest! {
        #[test]
        fn heads_change_no_order(
            a in proptest::collection::vec(0_u8..2, 0..12),
            b in proptest::collection::vec(0_u8..2, 0..12),
        ) {
            let place = |key| RowPlace::new(TABLE, key, Version::ZERO);
            prop_assert_eq!(place(&a).cmp(&place(&b)), a.cmp(&b));
        }

        #[test]
        fn heads_change_no_order_behind_what_keys_share(
            shared in 0_usize..20,
            a in proptest::collection::vec(0_u8..2, 0..12),
            b in proptest::collection::vec(0_u8..2, 0..12),
        ) {
            let (a, b) = ([vec![1; shared], a].concat(), [vec![1; shared], b].concat());
            let place = |key| RowPlace::new(TABLE, key, Version::ZERO);
            prop_assert_eq!(place(&a).cmp(&place(&b)), a.cmp(&b));
        }

        #[test]
        fn equals_a_naive_map(rows in proptest::collection::btree_set((0_u8..6, 1_u64..40), 0..120), at in 0_u64..42) {
            let memtable = Memtable::new(Version::ZERO);
            let mut model: BTreeMap<Vec<u8>, BTreeSet<u64>> = BTreeMap::new();
            for (key, raw) in &rows {
                for table in [TableId::SYSTEM, TABLE, TableId::new(2)] {
                    let value = (raw % 3 != 0).then(|| ValueRef::from(vec![*key]));
                    memtable.insert(table, ValueRef::from(vec![*key]), version(*raw), value);
                }
                model.entry(vec![*key]).or_default().insert(*raw);
            }
            let newest = |versions: &BTreeSet<u64>| versions.range(..=at).next_back().copied();
            let expected: Vec<_> =
                model.iter().filter_map(|(key, versions)| Some((key.clone(), newest(versions)?))).collect();
            prop_assert_eq!(&keys_up(&memtable, Bound::Unbounded, version(at)), &expected);
            let mut down = keys_down(&memtable, version(at));
            down.reverse();
            prop_assert_eq!(&down, &expected);
            for key in 0_u8..7 {
                let found = memtable.get(TABLE, &[key], version(at)).map(|row| row.version.to_raw());
                prop_assert_eq!(found, model.get(&vec![key]).and_then(newest));
                let after: Vec<_> = expected.iter().filter(|(found, _)| found[..] > [key][..]).cloned().collect();
                prop_assert_eq!(keys_up(&memtable, Bound::Excluded(&[key]), version(at)), after);
                let history: Vec<_> = memtable.versions(TABLE, &[key], version(at), 1_000);
                let history: Vec<_> = history.iter().map(|row| row.version.to_raw()).collect();
                let model: Vec<_> =
                    model.get(&vec![key]).map_or(Vec::new(), |all| all.range(..=at).rev().copied().collect());
                prop_assert_eq!(history, model);
            }
        }
    }

    #[test]
    fn ten_thousand_versions_of_a_key_are_stepped_over_by_search() {
        let memtable = Memtable::new(Version::ZERO);
        for raw in 1..=10_000 {
            memtable.insert(TABLE, ValueRef::from(b"hot".as_slice()), version(raw), None);
        }
        memtable.insert(TABLE, ValueRef::from(b"next".as_slice()), version(1), None);
        assert_eq!(
            keys_up(&memtable, Bound::Unbounded, version(5_000)),
            [(b"hot".to_vec(), 5_000), (b"next".to_vec(), 1)]
        );
        assert_eq!(memtable.row_count(), 10_001);
        assert!(memtable.byte_count() > 10_001 * 3);
    }

    #[test]
    fn the_visible_version_never_falls() {
        let memtable = Memtable::new(version(3));
        memtable.publish(version(5));
        memtable.publish(version(4));
        assert_eq!(memtable.visible(), version(5));
    }
}
