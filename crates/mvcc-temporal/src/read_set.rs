//! What a serializable transaction has read: keys, found or absent, and the ranges that its scans really covered.
//!
//! A scan's coverage grows as its rows are taken: what a batch fetched ahead and nobody looked at is not covered, so it
//! causes no conflict.

use std::collections::BTreeSet;
use std::ops::Bound;

use keepstone_types::{ValueRef, lock_rank};

use crate::branches::BranchNumber;
use crate::catalog::TableId;
use crate::commit::entry::RowKey;
use crate::key_range::KeyRange;
use crate::sync::{Arc, Mutex};

/// How far a scan has come from either side.
#[derive(Debug)]
struct Progress {
    /// The last key taken from the front.
    front: Option<ValueRef>,
    /// The last key taken from the back.
    back: Option<ValueRef>,
    /// Whether the two sides met: the whole range was read.
    whole: bool,
}

/// The coverage of one scan, written by the scan and read by its transaction's commit.
#[derive(Debug)]
pub(crate) struct ScanTrace {
    table: TableId,
    range: KeyRange,
    /// The branch that is scanned: the rows that count are its own, which stand elsewhere; those below do not change.
    branch: Option<BranchNumber>,
    progress: Mutex<Progress>,
}

impl ScanTrace {
    pub(crate) fn new(table: TableId, range: KeyRange, branch: Option<BranchNumber>) -> Self {
        let progress = Progress { front: None, back: None, whole: false };
        Self { table, range, branch, progress: Mutex::new(lock_rank::MVCC_SCAN_TRACE, progress) }
    }

    /// What was covered, where the rows that count stand.
    fn covered_places(&self) -> Vec<(TableId, KeyRange)> {
        let covered = self.covered().into_iter();
        match self.branch {
            None => covered.map(|range| (self.table, range)).collect(),
            Some(number) => {
                covered.map(|range| (TableId::BRANCHES, number.range(self.table, &range))).collect()
            }
        }
    }

    /// A row was taken from the front.
    pub(crate) fn took_front(&self, key: &ValueRef) {
        self.progress.lock().front = Some(key.clone());
    }

    /// A row was taken from the back.
    pub(crate) fn took_back(&self, key: &ValueRef) {
        self.progress.lock().back = Some(key.clone());
    }

    /// The scan found nothing more.
    pub(crate) fn exhausted(&self) {
        self.progress.lock().whole = true;
    }

    /// The ranges covered so far.
    fn covered(&self) -> Vec<KeyRange> {
        let progress = self.progress.lock();
        if progress.whole {
            return vec![self.range.clone()];
        }
        let front = progress.front.clone();
        let front = front.map(|key| KeyRange { from: self.range.from.clone(), to: Bound::Included(key) });
        let back = progress.back.clone();
        let back = back.map(|key| KeyRange { from: Bound::Included(key), to: self.range.to.clone() });
        front.into_iter().chain(back).collect()
    }
}

/// What a transaction reads, while it runs.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    keys: BTreeSet<RowKey>,
    scans: Vec<Arc<ScanTrace>>,
}

impl ReadSet {
    /// A key was looked up, found or not.
    pub(crate) fn add_key(&mut self, table: TableId, key: &[u8]) {
        self.keys.insert((table, ValueRef::copy_from(key)));
    }

    /// A scan began.
    pub(crate) fn add_scan(&mut self, trace: Arc<ScanTrace>) {
        self.scans.push(trace);
    }

    /// The reads in the form that validation uses.
    pub(crate) fn finish(self) -> FinishedReads {
        let mut ranges = Vec::new();
        for trace in &self.scans {
            ranges.extend(trace.covered_places());
        }
        FinishedReads { keys: self.keys.into_iter().collect(), ranges: joined(ranges) }
    }
}

/// Ranges sorted and apart, so that a key is searched among them in a logarithm.
pub(crate) fn joined(mut ranges: Vec<(TableId, KeyRange)>) -> Vec<(TableId, KeyRange)> {
    ranges.retain(|(_, range)| !range.is_empty());
    ranges.sort_by(|(table, a), (other, b)| table.cmp(other).then_with(|| a.cmp_start(b)));
    let mut apart: Vec<(TableId, KeyRange)> = Vec::with_capacity(ranges.len());
    for (table, range) in ranges {
        let last = apart.last_mut().filter(|(of, _)| *of == table);
        match last.and_then(|(_, last)| Some((last.joined(&range)?, last))) {
            Some((both, last)) => *last = both,
            None => apart.push((table, range)),
        }
    }
    apart
}

/// What a transaction has read, when it commits.
#[derive(Debug, Default)]
pub(crate) struct FinishedReads {
    /// Sorted, each once.
    pub(crate) keys: Vec<RowKey>,
    /// Sorted by table and start, and apart from each other.
    pub(crate) ranges: Vec<(TableId, KeyRange)>,
}

impl FinishedReads {
    /// Ranges that count as read.
    pub(crate) fn add_ranges(&mut self, ranges: &[(TableId, KeyRange)]) {
        if !ranges.is_empty() {
            let mut all = std::mem::take(&mut self.ranges);
            all.extend_from_slice(ranges);
            self.ranges = joined(all);
        }
    }

    /// Whether nothing was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    /// Keys and ranges.
    pub(crate) fn len(&self) -> usize {
        self.keys.len().saturating_add(self.ranges.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ValueRef {
        ValueRef::from(text.as_bytes())
    }

    fn covers(reads: &FinishedReads, text: &str) -> bool {
        reads.ranges.iter().any(|(_, range)| range.contains(text.as_bytes()))
    }

    #[test]
    fn a_scan_covers_what_was_taken_and_no_more() {
        let trace = Arc::new(ScanTrace::new(TableId::FIRST_USER, KeyRange::from("b".."y"), None));
        let finished = |trace: &Arc<ScanTrace>| {
            let mut reads = ReadSet::default();
            reads.add_scan(Arc::clone(trace));
            reads.finish()
        };
        assert!(!covers(&finished(&trace), "b"), "nothing was taken yet");
        trace.took_front(&key("d"));
        trace.took_back(&key("w"));
        let reads = finished(&trace);
        for (text, covered) in
            [("a", false), ("b", true), ("c", true), ("d", true), ("da", false), ("m", false)]
        {
            assert_eq!(covers(&reads, text), covered, "{text}");
        }
        for (text, covered) in [("v", false), ("w", true), ("x", true), ("y", false)] {
            assert_eq!(covers(&reads, text), covered, "{text}");
        }
        trace.exhausted();
        assert!(covers(&finished(&trace), "m"));
    }

    #[test]
    fn ranges_are_sorted_and_joined_within_their_table() {
        let range = |from: &str, to: &str| KeyRange::from(from..to);
        let (one, two) = (TableId::FIRST_USER, TableId::new(2));
        let found = joined(vec![
            (two, range("a", "c")),
            (one, range("m", "p")),
            (one, range("a", "d")),
            (one, range("b", "c")),
            (one, range("d", "f")),
            (one, range("z", "a")),
            (one, KeyRange::from("n"..)),
        ]);
        assert_eq!(found, [(one, range("a", "f")), (one, KeyRange::from("m"..)), (two, range("a", "c"))]);
    }

    #[test]
    fn keys_are_kept_once_and_sorted() {
        let mut reads = ReadSet::default();
        for text in ["b", "a", "b"] {
            reads.add_key(TableId::FIRST_USER, text.as_bytes());
        }
        let keys: Vec<_> = reads.finish().keys.into_iter().map(|(_, key)| key.to_vec()).collect();
        assert_eq!(keys, [b"a", b"b"]);
    }
}
