//! What a store counts, as one snapshot that can be serialized.

use std::collections::BTreeMap;
use std::time::Duration;

use keepstone_mvcc_temporal as mvcc;
use serde::Serialize;

use crate::histogram::{Histogram, Latency};
use crate::options::StoreOptions;
use crate::store::Store;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Operation {
    /// Reading a body or a part of a node.
    Get,
    /// Reading a whole node.
    Node,
    /// Making an iterator over nodes or keys.
    Scan,
    /// Making an iterator over links.
    Links,
    /// Putting a node.
    Put,
    /// Deleting a node.
    Delete,
    /// Making or ending a link.
    Link,
    /// Committing, from the call to its return; of `write`, its closure included.
    Commit,
    /// Reading the history of a node.
    History,
    /// Comparing two versions.
    Diff,
    /// Reading or changing an address.
    Address,
}

impl Operation {
    const ALL: [Self; 11] = [
        Self::Get,
        Self::Node,
        Self::Scan,
        Self::Links,
        Self::Put,
        Self::Delete,
        Self::Link,
        Self::Commit,
        Self::History,
        Self::Diff,
        Self::Address,
    ];

    /// Its name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Node => "node",
            Self::Scan => "scan",
            Self::Links => "links",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Link => "link",
            Self::Commit => "commit",
            Self::History => "history",
            Self::Diff => "diff",
            Self::Address => "address",
        }
    }

    /// Whether it only reads.
    pub(crate) const fn is_query(self) -> bool {
        !matches!(self, Self::Put | Self::Delete | Self::Link | Self::Commit)
    }
}

/// What a store did since it was opened and what it holds, see [`Store::stats`](crate::Store::stats).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The newest version, printed as versions are.
    pub version: String,
    /// The newest version on stable storage.
    pub durable_version: String,
    /// The oldest version that everybody can read.
    pub oldest_version: String,
    /// Everything at or below this version is in the page file.
    pub folded_version: String,
    /// Versions made, those that are no longer kept included.
    pub versions: u64,
    /// Commits made through this store's handles since it was opened.
    pub commits: u64,
    /// Commits that failed, conflicts that `write` retried not counted.
    pub commits_failed: u64,
    /// Transactions begun.
    pub transactions_begun: u64,
    /// Transactions committed, those that wrote nothing included.
    pub transactions_committed: u64,
    /// Transactions dropped or refused.
    pub transactions_rolled_back: u64,
    /// Commits refused because another was first; `write` ran them again.
    pub conflicts: u64,
    /// Commits refused because the transaction was older than the conflict window.
    pub windows_exceeded: u64,
    /// Closures run again by `write`.
    pub retries: u64,
    /// Times that `write` lost so often that it took an exclusive turn.
    pub exclusive_turns: u64,
    /// Commits refused because the queue was full.
    pub refused_full: u64,
    /// Commits that waited because more was written than folded.
    pub slowed: u64,
    /// Readers that had used most of what they may hold.
    pub readers_warned: u64,
    /// Readers that were ended because they had used all of it.
    pub readers_aborted: u64,
    /// Snapshots open now.
    pub snapshots_open: u64,
    /// Transactions open now.
    pub transactions_open: u64,
    /// Row versions in memory.
    pub memory_rows: u64,
    /// Bytes in memory, estimated.
    pub memory_bytes: u64,
    /// Runs, files of large commits, that are not folded yet.
    pub runs: u64,
    /// Bytes of keys and values in them.
    pub run_bytes: u64,
    /// Commits of the conflict window.
    pub window_commits: u64,
    /// Bytes of the conflict window.
    pub window_bytes: u64,
    /// Checkpoints done.
    pub checkpoints: u64,
    /// Slices of checkpoints done.
    pub checkpoint_slices: u64,
    /// Checkpoints that failed.
    pub checkpoint_failures: u64,
    /// Row versions folded into the page file.
    pub rows_folded: u64,
    /// Rows in the page file, newest versions.
    pub page_rows: u64,
    /// Older row versions in the page file.
    pub history_rows: u64,
    /// Older row versions that went.
    pub pruned_rows: u64,
    /// Times that the memory for what is not folded was predicted to pass 70 %.
    pub pressure_warnings: u64,
    /// What the page file and its cache count, by name.
    pub pages: BTreeMap<&'static str, u64>,
    /// What the log counts, by name.
    pub log: BTreeMap<&'static str, u64>,
    /// How long commits took below the facade, whether or not histograms are on.
    pub commit_latency: Latency,
    /// How long each operation took; operations that never ran are left out.
    pub latencies: BTreeMap<&'static str, Latency>,
}

impl Store {
    /// What the store did since it was opened and what it holds. Cheap enough to be asked every second; numbers that
    /// change meanwhile may not fit each other exactly.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (meters, found) = (&self.inner.meters, self.inner.database.stats());
        if self.inner.hub.is_on() {
            self.inner.tell_of(&found, None);
        }
        let (commits, commits_failed) = meters.commits();
        let lent = meters.lent.load(Ordering::Relaxed);
        let log = &found.log;
        Stats {
            version: found.visible.to_string(),
            durable_version: found.durable.to_string(),
            oldest_version: found.oldest.to_string(),
            folded_version: found.folded.to_string(),
            versions: found.commits,
            commits,
            commits_failed,
            transactions_begun: found.begun.saturating_sub(lent),
            transactions_committed: found.committed,
            transactions_rolled_back: found.rolled_back.saturating_sub(lent),
            conflicts: found.conflicts,
            windows_exceeded: found.windows_exceeded,
            retries: found.retries,
            exclusive_turns: found.exclusive_turns,
            refused_full: found.refused_full,
            slowed: found.slowed,
            readers_warned: found.readers_warned,
            readers_aborted: found.readers_aborted,
            snapshots_open: found.open_snapshots,
            transactions_open: found.open_transactions,
            memory_rows: found.memtable_rows,
            memory_bytes: found.memtable_bytes,
            runs: found.runs,
            run_bytes: found.run_bytes,
            window_commits: found.window_commits,
            window_bytes: found.window_bytes,
            checkpoints: found.checkpoints,
            checkpoint_slices: found.checkpoint_slices,
            checkpoint_failures: found.checkpoint_failures,
            rows_folded: found.rows_folded,
            page_rows: found.folded_rows,
            history_rows: found.history_rows,
            pruned_rows: found.pruned_rows,
            pressure_warnings: found.pressure_warnings,
            pages: pages_by_name(&found.pages),
            log: log_by_name(log),
            commit_latency: latency(&found.commit_latency),
            latencies: meters.latencies(),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn latency(found: &mvcc::LatencyStats) -> Latency {
    Latency {
        count: found.count,
        p50_ns: nanos(found.p50),
        p95_ns: nanos(found.p95),
        p99_ns: nanos(found.p99),
        p999_ns: nanos(found.p999),
        max_ns: nanos(found.max),
    }
}

fn log_by_name(log: &mvcc::LogStats) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("records", log.records),
        ("groups", log.groups),
        ("group_records_max", log.group_records_max),
        ("payload_bytes", log.payload_bytes),
        ("written_bytes", log.written_bytes),
        ("syncs", log.syncs),
        ("sync_time_ns", nanos(log.sync_time)),
        ("segments", log.segments),
        ("segment_bytes", log.segment_bytes),
        ("side_files", log.side_files),
        ("healed_sectors", log.healed),
        ("out_of_space", log.out_of_space),
        ("queued", log.queued),
    ])
}

fn pages_by_name(pages: &mvcc::PageStats) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("cache_hits", pages.cache_hits),
        ("cache_misses", pages.cache_misses),
        ("cache_evictions", pages.cache_evictions),
        ("cache_entries", pages.cache_entries),
        ("cache_bytes", pages.cache_bytes),
        ("pages_read", pages.pages_read),
        ("pages_written", pages.pages_written),
        ("read_bytes", pages.read_bytes),
        ("written_bytes", pages.written_bytes),
        ("generations", pages.commits),
        ("syncs", pages.syncs),
        ("used_slots", pages.used_slots),
        ("pending_slots", pages.pending_slots),
        ("free_slots", pages.free_slots),
        ("file_bytes", pages.file_bytes),
        ("dead_slots", pages.dead_slots),
        ("damaged_pages", pages.damaged_pages),
        ("repaired_pages", pages.repaired_pages),
        ("unrepairable_pages", pages.unrepairable_pages),
        ("failed_repairs", pages.failed_repairs),
        ("scrubbed_pages", pages.scrubbed_pages),
        ("parity_pages_written", pages.parity_pages_written),
        ("parity_pages_read", pages.parity_pages_read),
    ])
}

/// What whoever operates a store should think of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Recommendation {
    /// Nothing to do.
    Good,
    /// More is written than is folded; commits will be slowed if it goes on.
    Warning,
    /// Commits are slowed: give the store more memory or a faster disk, or write less.
    Critical,
}

/// What the controller that paces checkpoints sees and does, see [`Store::reconciler_stats`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReconcilerStats {
    /// Bytes of row versions that are not in the page file yet.
    pub depth_bytes: u64,
    /// Part of the memory for them that is used, 1 for all of it.
    pub utilisation: f64,
    /// Bytes expected when the next slice is due.
    pub predicted_bytes: u64,
    /// Pause between two slices.
    pub interval: Duration,
    /// 1 when nothing waits, 0 when memory is used up.
    pub health: f64,
    /// What to think of it.
    pub recommendation: Recommendation,
    /// Change of depth, in bytes per second; below 0 while more is folded than written.
    pub rate_bytes_per_second: f64,
    /// Time until everything is folded at the pace of the last slices; zero while nothing waits.
    pub estimated_lag: Duration,
}

impl From<mvcc::ReconcilerStats> for ReconcilerStats {
    fn from(found: mvcc::ReconcilerStats) -> Self {
        Self {
            depth_bytes: found.depth_bytes,
            utilisation: found.utilisation,
            predicted_bytes: found.predicted_bytes,
            interval: found.interval,
            health: found.health,
            recommendation: match found.recommendation {
                mvcc::Recommendation::Good => Recommendation::Good,
                mvcc::Recommendation::Warning => Recommendation::Warning,
                // The enum below may grow; what is unknown here is better looked at.
                _ => Recommendation::Critical,
            },
            rate_bytes_per_second: found.rate_bytes_per_second,
            estimated_lag: found.estimated_lag,
        }
    }
}

impl Store {
    /// How the folding of what is in memory keeps up.
    #[must_use]
    pub fn reconciler_stats(&self) -> ReconcilerStats {
        self.inner.database.reconciler_stats().into()
    }
}

/// What of the folding was told to those who listen.
///
/// Invariant: each difference is handed out once, whoever asks: a counter only grows, and who raises it has the difference.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    done: AtomicU64,
    failed: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    pressed: AtomicU64,
}

/// What happened since it was asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoldingNews {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) pressed: u64,
}

impl Folding {
    pub(crate) fn news(&self, found: &mvcc::DatabaseStats) -> FoldingNews {
        let since = |told: &AtomicU64, now: u64| now.saturating_sub(told.fetch_max(now, Ordering::Relaxed));
        FoldingNews {
            done: since(&self.done, found.checkpoints),
            failed: since(&self.failed, found.checkpoint_failures),
            rows: since(&self.rows, found.rows_folded),
            bytes: since(&self.bytes, found.pages.written_bytes),
            pressed: since(&self.pressed, found.pressure_warnings),
        }
    }
}

/// What a store counts while it runs.
#[derive(Debug)]
pub(crate) struct Meters {
    histograms: Option<BTreeMap<Operation, Histogram>>,
    commits: AtomicU64,
    commits_failed: AtomicU64,
    /// Transactions that the layer below began for `write` and that were never used.
    lent: AtomicU64,
    interval: Duration,
    /// When the next metrics are due, in microseconds of the monotonic clock.
    next_metrics: AtomicU64,
    alert_ms: (u64, u64),
    alerting: AtomicBool,
    pub(crate) folding: Folding,
}

impl Meters {
    pub(crate) fn new(options: &StoreOptions) -> Self {
        let all = || Operation::ALL.map(|operation| (operation, Histogram::new())).into();
        Self {
            histograms: options.histograms.then(all),
            commits: AtomicU64::new(0),
            commits_failed: AtomicU64::new(0),
            lent: AtomicU64::new(0),
            interval: Duration::from_millis(options.interval_ms),
            next_metrics: AtomicU64::new(0),
            alert_ms: options.alert_commit_ms,
            alerting: AtomicBool::new(false),
            folding: Folding::default(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.histograms.is_some()
    }

    pub(crate) fn record(&self, operation: Operation, took: Duration) {
        if let Some(histogram) = self.histograms.as_ref().and_then(|all| all.get(&operation)) {
            histogram.record(took);
        }
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.record(Operation::Commit, took);
    }

    pub(crate) fn commit_failed(&self) {
        self.commits_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lent(&self) {
        self.lent.fetch_add(1, Ordering::Relaxed);
    }

    /// Commits made and failed.
    pub(crate) fn commits(&self) -> (u64, u64) {
        (self.commits.load(Ordering::Relaxed), self.commits_failed.load(Ordering::Relaxed))
    }

    /// Whether metrics are due at `now`; true for one caller per interval.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let due = self.next_metrics.load(Ordering::Relaxed);
        let next = micros(now.saturating_add(self.interval));
        micros(now) >= due
            && self.next_metrics.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether this commit begins (true) or ends (false) an alert, with the threshold it passed.
    pub(crate) fn alert_crossed(&self, took: Duration) -> Option<(bool, u64)> {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (low, high) = self.alert_ms;
        let (begins, threshold) = match millis {
            millis if millis > high => (true, high),
            millis if millis < low => (false, low),
            _ => return None,
        };
        // Only the commit that changes the state reports it; the usual one reads and does not write.
        let changes = self.alerting.load(Ordering::Relaxed) != begins
            && self.alerting.swap(begins, Ordering::Relaxed) != begins;
        changes.then_some((begins, threshold))
    }

    pub(crate) fn latencies(&self) -> BTreeMap<&'static str, Latency> {
        let all = self.histograms.iter().flatten();
        let named = all.map(|(operation, histogram)| (operation.as_str(), histogram.latency()));
        named.filter(|(_, latency)| latency.count != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_due_once_per_interval() {
        let meters = Meters::new(&StoreOptions::default());
        let at = Duration::from_millis;
        let found = [0, 1, 999, 1_000, 1_500, 2_100].map(|millis| meters.is_due(at(millis)));
        assert_eq!(found, [true, false, false, true, false, true]);
    }

    #[test]
    fn an_alert_begins_above_high_and_ends_below_low() {
        let meters = Meters::new(&StoreOptions::default());
        let found = [10, 1_000, 1_001, 5_000, 700, 500, 499, 1]
            .map(|millis| meters.alert_crossed(Duration::from_millis(millis)));
        let expected = [None, None, Some((true, 1_000)), None, None, None, Some((false, 500)), None];
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_recorded_when_histograms_are_off() {
        let meters = Meters::new(&StoreOptions::default().histograms(false));
        meters.committed(Duration::from_millis(1));
        assert_eq!((meters.commits(), meters.latencies().len(), meters.is_on()), ((1, 0), 0, false));
    }
}
