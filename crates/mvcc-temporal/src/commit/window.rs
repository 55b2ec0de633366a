//! The commit window: what recent commits wrote, to validate others against, bounded in bytes.
//!
//! Invariants:
//! * It holds every commit above `floor`, what is queued and not yet durable included, in version order. A transaction
//!   whose view is below the floor cannot be validated and is refused, never let through.
//! * It is guarded by the log's queue lock. Long validations run outside of it on copies of a bounded number of
//!   entries; under the lock only what came since is looked at.
//! * A revoked commit leaves the window newest first. `revocations` counts them, because its number is given again:
//!   whoever validated outside the lock across a revocation starts over.

use std::collections::VecDeque;
use std::ops::Bound;

use keepstone_types::{ValueRef, Version};

use crate::branches::is_catalog_of_branch;
use crate::catalog::{TableId, is_of_catalog};
use crate::commit::entry::{CommitEntry, RowKey};
use crate::key_range::KeyRange;
use crate::read_set::FinishedReads;
use crate::sync::Arc;

/// Bytes that a remembered key takes beside its own.
const KEY_OVERHEAD_BYTES: usize = 56;
/// Bytes that a remembered commit takes beside its keys.
const ENTRY_OVERHEAD_BYTES: usize = 96;
/// A commit that would fill more than this part of the window is remembered as ranges.
const COARSE_PART: usize = 8;
/// Ranges that such a commit is remembered as.
const COARSE_RANGES: usize = 256;

/// What validation has to know of a commit.
#[derive(Clone, Debug)]
pub(crate) enum Footprint {
    /// Each key.
    Keys(Arc<CommitEntry>),
    /// A large commit: first and last key of pieces within one table, sorted.
    Ranges(Arc<[(RowKey, RowKey)]>),
}

impl Footprint {
    /// The footprint of a commit in a window of `window_bytes`, with its size.
    pub(crate) fn of(entry: &Arc<CommitEntry>, window_bytes: usize) -> (Self, usize) {
        let keys = entry.keys();
        let bytes = keys.iter().map(|(_, key)| key.len().saturating_add(KEY_OVERHEAD_BYTES));
        let bytes = bytes.fold(ENTRY_OVERHEAD_BYTES, usize::saturating_add);
        if bytes <= window_bytes / COARSE_PART {
            return (Self::Keys(Arc::clone(entry)), bytes);
        }
        let piece_len = keys.len().div_ceil(COARSE_RANGES).max(1);
        let by_table = keys.chunk_by(|(a, _), (b, _)| a == b);
        let pieces = by_table.flat_map(|keys| keys.chunks(piece_len));
        let ranges: Arc<[_]> =
            pieces.filter_map(|piece| Some((piece.first()?.clone(), piece.last()?.clone()))).collect();
        let bytes = Self::bytes_of(&ranges);
        (Self::Ranges(ranges), bytes)
    }

    /// The footprint of a commit with runs, of which ranges are known; sorted, within one table each.
    pub(crate) fn of_runs(entry: &CommitEntry, spans: &[(TableId, KeyRange)]) -> (Self, usize) {
        let keys = entry.keys().iter().map(|key| (key.clone(), key.clone()));
        let span = |(table, range): &(TableId, KeyRange)| match (&range.from, &range.to) {
            (Bound::Included(from), Bound::Included(to)) => {
                Some(((*table, from.clone()), (*table, to.clone())))
            }
            _ => None,
        };
        // Rows of the store's own table, which are not in runs, stand before all others.
        let ranges: Arc<[_]> = keys.chain(spans.iter().filter_map(span)).collect();
        let bytes = Self::bytes_of(&ranges);
        (Self::Ranges(ranges), bytes)
    }

    fn bytes_of(ranges: &[(RowKey, RowKey)]) -> usize {
        let bytes = ranges
            .iter()
            .map(|((_, a), (_, b))| a.len().saturating_add(b.len()).saturating_add(2 * KEY_OVERHEAD_BYTES));
        bytes.fold(ENTRY_OVERHEAD_BYTES, usize::saturating_add)
    }

    /// Whether the commit wrote `key`, as far as is known.
    fn touches(&self, key: &RowKey) -> bool {
        match self {
            Self::Keys(entry) => entry.keys().binary_search(key).is_ok(),
            Self::Ranges(ranges) => {
                let at = ranges.partition_point(|(_, last)| last < key);
                ranges.get(at).is_some_and(|(first, _)| first <= key)
            }
        }
    }

    /// A key within a range that the commit wrote, as far as is known.
    fn touched_in(&self, table: TableId, range: &KeyRange) -> Option<RowKey> {
        let before = |(of, key): &RowKey| *of < table || (*of == table && !range.starts_at_or_before(key));
        let ends_after = |(of, key): &RowKey| *of == table && range.ends_at_or_after(key);
        match self {
            Self::Keys(entry) => {
                let keys = entry.keys();
                keys.get(keys.partition_point(before)).filter(|key| ends_after(key)).cloned()
            }
            Self::Ranges(ranges) => {
                let at = ranges.partition_point(|(_, last)| before(last));
                ranges.get(at).map(|(first, _)| first).filter(|first| ends_after(first)).cloned()
            }
        }
    }

    /// A key within one of some sorted ranges, apart from each other, that the commit wrote; walks the shorter side.
    fn touched_in_any(&self, ranges: &[(TableId, KeyRange)]) -> Option<RowKey> {
        match self {
            Self::Keys(entry) if entry.keys().len() < ranges.len() => {
                let covers = |(table, key): &&RowKey| {
                    let before = |(of, range): &(TableId, KeyRange)| {
                        of < table || (of == table && !range.ends_at_or_after(key))
                    };
                    let at = ranges.get(ranges.partition_point(before));
                    at.is_some_and(|(of, range)| of == table && range.starts_at_or_before(key))
                };
                entry.keys().iter().find(covers).cloned()
            }
            _ => ranges.iter().find_map(|(table, range)| self.touched_in(*table, range)),
        }
    }

    /// The first of some sorted keys that the commit wrote; walks the shorter side.
    fn touched_of(&self, keys: &[RowKey], counts: impl Fn(&RowKey) -> bool) -> Option<RowKey> {
        let found = match self {
            Self::Keys(entry) if entry.keys().len() < keys.len() => {
                entry.keys().iter().find(|key| counts(key) && keys.binary_search(key).is_ok())
            }
            _ => keys.iter().find(|key| counts(key) && self.touches(key)),
        };
        found.cloned()
    }

    /// A key of the commit that another transaction depends on.
    fn clash(&self, basis: &Basis) -> Option<RowKey> {
        if basis.everything {
            return Some(self.first_key());
        }
        let reads = &basis.reads;
        let by_range = self.touched_in_any(&reads.ranges);
        let by_key = || self.touched_of(&reads.keys, |_| true);
        let by_write = || {
            // Creators of one table write the same catalog row, so it is nothing to fight about.
            let counts = |(table, key): &RowKey| match *table {
                TableId::SYSTEM => !is_of_catalog(key),
                TableId::BRANCHES => !is_catalog_of_branch(key),
                _ => true,
            };
            self.touched_of(basis.writes.as_ref()?.keys(), counts)
        };
        by_range.or_else(by_key).or_else(by_write)
    }

    fn first_key(&self) -> RowKey {
        let first = match self {
            Self::Keys(entry) => entry.keys().first(),
            Self::Ranges(ranges) => ranges.first().map(|(first, _)| first),
        };
        first.cloned().unwrap_or((TableId::SYSTEM, ValueRef::empty()))
    }
}

/// What a transaction's right to commit rests on, and how far that is already validated.
#[derive(Debug)]
pub(crate) struct Basis {
    /// The version the transaction read.
    pub(crate) view: Version,
    /// The keys and ranges it read.
    pub(crate) reads: FinishedReads,
    /// What it writes, when the first committer wins on written keys.
    pub(crate) writes: Option<Arc<CommitEntry>>,
    /// Whether any other commit at all is a conflict.
    pub(crate) everything: bool,
    /// Validated against all commits through this one …
    pub(crate) validated: Version,
    /// … provided that no more than this many were revoked.
    pub(crate) revocations: u64,
}

/// Why a commit is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Conflict { key: RowKey, version: Version },
    WindowExceeded { oldest: Version },
    VersionsExhausted,
}

impl Basis {
    /// Whether a commit is one that this transaction does not depend on.
    pub(crate) fn validate(&self, commit: &Remembered) -> Result<(), Refusal> {
        match commit.footprint.clash(self) {
            Some(key) => Err(Refusal::Conflict { key, version: commit.version }),
            None => Ok(()),
        }
    }
}

/// A commit in the window.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) version: Version,
    pub(crate) footprint: Footprint,
    bytes: usize,
}

/// The recent commits.
#[derive(Debug)]
pub(crate) struct CommitWindow {
    commits: VecDeque<Remembered>,
    bytes: usize,
    bytes_max: usize,
    floor: Version,
    revocations: u64,
}

impl CommitWindow {
    /// An empty window; transactions that began at `floor` or later can be validated.
    pub(crate) const fn new(floor: Version, bytes_max: usize) -> Self {
        Self { commits: VecDeque::new(), bytes: 0, bytes_max, floor, revocations: 0 }
    }

    /// Bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Commits held.
    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }

    /// Remembers the newest commit and forgets the oldest ones that no longer fit.
    pub(crate) fn push(&mut self, version: Version, (footprint, bytes): (Footprint, usize)) {
        self.commits.push_back(Remembered { version, footprint, bytes });
        self.bytes = self.bytes.saturating_add(bytes);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.floor = oldest.version;
        }
    }

    /// Takes the newest commit back.
    pub(crate) fn revoke(&mut self, version: Version) {
        self.revocations = self.revocations.saturating_add(1);
        if let Some(newest) = self.commits.pop_back_if(|newest| newest.version == version) {
            self.bytes = self.bytes.saturating_sub(newest.bytes);
        }
    }

    fn must_reach(&self, view: Version) -> Result<(), Refusal> {
        if view < self.floor { Err(Refusal::WindowExceeded { oldest: self.floor }) } else { Ok(()) }
    }

    fn index_after(&self, version: Version) -> usize {
        self.commits.partition_point(|commit| commit.version <= version)
    }

    /// The next commits that a transaction must be validated against outside the lock, at most `limit`; and how many
    /// were revoked when they were taken.
    pub(crate) fn next_chunk(
        &self,
        view: Version,
        after: Version,
        limit: usize,
    ) -> Result<(Vec<Remembered>, u64), Refusal> {
        self.must_reach(view)?;
        let from = self.index_after(after.max(view));
        Ok((self.commits.range(from..).take(limit).cloned().collect(), self.revocations))
    }

    /// Validates a transaction against what is left: everything since it was validated outside the lock, or since its
    /// view when a commit was revoked meanwhile.
    pub(crate) fn validate_rest(&self, basis: &Basis) -> Result<(), Refusal> {
        self.must_reach(basis.view)?;
        let start =
            if basis.revocations == self.revocations { basis.validated.max(basis.view) } else { basis.view };
        self.commits.range(self.index_after(start)..).try_for_each(|commit| basis.validate(commit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId::FIRST_USER;
    const WINDOW_BYTES: usize = 64 << 10;

    fn version(raw: u64) -> Version {
        Version::from_raw(raw)
    }

    fn key(text: &str) -> RowKey {
        (TABLE, ValueRef::from(text.as_bytes()))
    }

    fn entry(keys: &[&str]) -> Arc<CommitEntry> {
        CommitEntry::new(keys.iter().map(|text| key(text)).collect())
    }

    fn basis(view: u64, reads: &[&str], ranges: &[KeyRange], writes: Option<&[&str]>) -> Basis {
        let ranges = ranges.iter().map(|range| (TABLE, range.clone())).collect();
        let reads = FinishedReads { keys: reads.iter().map(|text| key(text)).collect(), ranges };
        let (validated, revocations) = (version(view), 0);
        Basis {
            view: version(view),
            reads,
            writes: writes.map(entry),
            everything: false,
            validated,
            revocations,
        }
    }

    fn window(commits: &[(u64, &[&str])]) -> CommitWindow {
        let mut window = CommitWindow::new(Version::ZERO, WINDOW_BYTES);
        for (raw, keys) in commits {
            window.push(version(*raw), Footprint::of(&entry(keys), WINDOW_BYTES));
        }
        window
    }

    #[test]
    fn what_was_read_or_written_since_the_view_clashes() {
        let window = window(&[(1, &["a"]), (2, &["c", "m"]), (3, &["x"])]);
        let range = |text: &str| KeyRange::prefix(text);
        let clash = |basis: Basis| match window.validate_rest(&basis) {
            Ok(()) => None,
            Err(Refusal::Conflict { key: (_, key), version }) => {
                Some((String::from_utf8(key.to_vec()).unwrap(), version.to_raw()))
            }
            Err(other) => panic!("{other:?}"),
        };
        let found = |text: &str, version| Some((text.to_owned(), version));
        assert_eq!(clash(basis(0, &["a"], &[], None)), found("a", 1));
        assert_eq!(clash(basis(1, &["a"], &[], None)), None, "committed before the view");
        assert_eq!(clash(basis(0, &["b", "d"], &[], None)), None);
        assert_eq!(clash(basis(1, &["b", "m", "z"], &[], None)), found("m", 2));
        assert_eq!(clash(basis(1, &[], &[range("m")], None)), found("m", 2));
        assert_eq!(clash(basis(0, &[], &[KeyRange::from("b"..="c")], None)), found("c", 2));
        assert_eq!(clash(basis(0, &[], &[KeyRange::from("b".."c")], None)), None);
        assert_eq!(clash(basis(2, &[], &[KeyRange::all()], None)), found("x", 3));
        assert_eq!(clash(basis(3, &["a", "c", "x"], &[KeyRange::all()], Some(&["a"]))), None);
        assert_eq!(clash(basis(0, &[], &[], Some(&["m"]))), found("m", 2));
        assert_eq!(clash(basis(0, &[], &[], None)), None, "a blind writer");
    }

    #[test]
    fn many_ranges_find_what_one_by_one_would() {
        let ranges: Vec<_> =
            (0..100).map(|number| KeyRange::from(format!("{number:03}")..format!("{number:03}5"))).collect();
        let basis = basis(0, &[], &ranges, None);
        for (text, clashes) in
            [("0004", true), ("0005", false), ("050", true), ("0996", false), ("0990", true), ("1", false)]
        {
            assert_eq!(window(&[(1, &[text])]).validate_rest(&basis).is_err(), clashes, "{text}");
        }
    }

    #[test]
    fn old_views_are_refused_when_the_window_moved_on() {
        let mut window = CommitWindow::new(Version::ZERO, 1_000);
        for raw in 1..=50 {
            window.push(version(raw), Footprint::of(&entry(&["k"]), 100_000));
            assert!(window.bytes() <= 1_000);
        }
        let floor = window.floor;
        assert!(floor > version(40));
        let fail = window.validate_rest(&basis(floor.to_raw() - 1, &["z"], &[], None));
        assert_eq!(fail, Err(Refusal::WindowExceeded { oldest: floor }));
        assert_eq!(window.validate_rest(&basis(floor.to_raw(), &["z"], &[], None)), Ok(()));
        assert!(window.next_chunk(version(1), version(1), 8).is_err());
    }

    #[test]
    fn large_commits_are_remembered_as_ranges_and_miss_nothing() {
        let keys: Vec<String> = (0..5_000).map(|number| format!("k{:06}", number * 2)).collect();
        let entry = CommitEntry::new(keys.iter().map(|text| key(text)).collect());
        let (footprint, bytes) = Footprint::of(&entry, WINDOW_BYTES);
        assert!(matches!(footprint, Footprint::Ranges(_)));
        assert!(bytes < WINDOW_BYTES);
        let mut window = CommitWindow::new(Version::ZERO, WINDOW_BYTES);
        window.push(version(1), (footprint, bytes));
        for text in &keys {
            assert!(window.validate_rest(&basis(0, &[text], &[], None)).is_err(), "{text}");
            assert!(
                window.validate_rest(&basis(0, &[], &[KeyRange::from(&**text..=text)], None)).is_err(),
                "{text}"
            );
        }
        for text in ["j", "l", "k1"] {
            assert!(window.validate_rest(&basis(0, &[text], &[], None)).is_ok(), "{text}");
        }
        assert!(window.validate_rest(&basis(0, &[], &[KeyRange::from("l"..)], None)).is_ok());
    }

    #[test]
    fn a_revoked_number_is_validated_again() {
        let mut window = window(&[(1, &["a"]), (2, &["b"])]);
        let mut basis = basis(0, &["c"], &[], None);
        basis.validated = version(2);
        window.revoke(version(2));
        window.push(version(2), Footprint::of(&entry(&["c"]), WINDOW_BYTES));
        assert!(window.validate_rest(&basis).is_err(), "another commit now has the number 2");
        assert_eq!((window.len(), window.revocations), (2, 1));
    }

    #[test]
    fn chunks_cover_the_window_once() {
        let commits: Vec<(u64, &[&str])> = (1..=10).map(|raw| (raw, &["k"][..])).collect();
        let window = window(&commits);
        let mut after = version(2);
        let mut seen = Vec::new();
        loop {
            let (chunk, _) = window.next_chunk(version(2), after, 3).unwrap();
            let Some(last) = chunk.last() else { break };
            after = last.version;
            seen.extend(chunk.iter().map(|commit| commit.version.to_raw()));
        }
        assert_eq!(seen, (3..=10).collect::<Vec<_>>());
    }

    #[test]
    fn creators_of_one_table_do_not_clash_but_its_absence_read_does() {
        let row = (TableId::SYSTEM, ValueRef::from(b"tnew".as_slice()));
        let creator = CommitEntry::new(Box::new([row.clone()]));
        let mut window = CommitWindow::new(Version::ZERO, WINDOW_BYTES);
        window.push(version(1), Footprint::of(&creator, WINDOW_BYTES));
        let mut other = basis(0, &[], &[], None);
        other.writes = Some(creator);
        assert_eq!(window.validate_rest(&other), Ok(()));
        other.reads.keys.push(row);
        assert!(window.validate_rest(&other).is_err());
    }
}
