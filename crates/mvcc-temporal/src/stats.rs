//! What the store counts, and how long commits take.
//!
//! Counters are relaxed atomics. Latencies go to one of several histograms, chosen by thread, so that committers do not
//! meet on one lock; asking merges them.

use std::time::Duration;

use hdrhistogram::Histogram;
use keepstone_pager::PageStats;
use keepstone_types::{Version, lock_rank};
use keepstone_wal::LogStats;

use crate::gate::thread_stripe;
use crate::sync::{CountU64, Mutex, Ordering};

/// Histograms that committers spread over.
const STRIPE_COUNT: usize = 8;
/// Latencies above this are counted as this: a minute, in nanoseconds.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
/// Digits that a histogram keeps.
const SIGNIFICANT_DIGITS: u8 = 2;

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(CountU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything counted.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) begun: Counter,
    pub(crate) committed: Counter,
    pub(crate) rolled_back: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) windows_exceeded: Counter,
    pub(crate) retries: Counter,
    pub(crate) exclusive_turns: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) slowed: Counter,
    pub(crate) readers_warned: Counter,
    pub(crate) readers_aborted: Counter,
    pub(crate) open_snapshots: Counter,
    pub(crate) open_transactions: Counter,
    latencies: Vec<Mutex<Histogram<u32>>>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS);
        let stripes = (0..STRIPE_COUNT).filter_map(|_| histogram().ok());
        Self {
            begun: Counter::default(),
            committed: Counter::default(),
            rolled_back: Counter::default(),
            conflicts: Counter::default(),
            windows_exceeded: Counter::default(),
            retries: Counter::default(),
            exclusive_turns: Counter::default(),
            refused_full: Counter::default(),
            slowed: Counter::default(),
            readers_warned: Counter::default(),
            readers_aborted: Counter::default(),
            open_snapshots: Counter::default(),
            open_transactions: Counter::default(),
            latencies: stripes.map(|stripe| Mutex::new(lock_rank::MVCC_LATENCY, stripe)).collect(),
        }
    }

    /// A commit took this long, from the call to its return.
    pub(crate) fn commit_took(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(stripe) = self.latencies.get(thread_stripe(STRIPE_COUNT)) {
            stripe.lock().saturating_record(nanos.clamp(1, LATENCY_NANOS_MAX));
        }
    }

    /// The latencies of all commits so far.
    pub(crate) fn latency(&self) -> LatencyStats {
        let Ok(mut all) = Histogram::<u64>::new_with_bounds(1, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS) else {
            return LatencyStats::default();
        };
        for stripe in &self.latencies {
            for step in stripe.lock().iter_recorded() {
                all.saturating_record_n(step.value_iterated_to(), step.count_at_value().into());
            }
        }
        let at = |quantile| Duration::from_nanos(all.value_at_quantile(quantile));
        LatencyStats {
            count: all.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(all.max()),
        }
    }
}

/// How long commits took, from the call to its return. Each within one percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// Commits measured.
    pub count: u64,
    /// Half of them took at most this.
    pub p50: Duration,
    /// 95 of 100 took at most this.
    pub p95: Duration,
    /// 99 of 100 took at most this.
    pub p99: Duration,
    /// 999 of 1,000 took at most this.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

/// What a store has done since it was opened, and what it holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatabaseStats {
    /// Transactions begun.
    pub begun: u64,
    /// Transactions committed, those that wrote nothing included; a submitted one counts when it is waited for.
    pub committed: u64,
    /// Transactions dropped or refused.
    pub rolled_back: u64,
    /// Commits refused because another was first.
    pub conflicts: u64,
    /// Commits refused because the transaction was older than the commit window.
    pub windows_exceeded: u64,
    /// Closures run again by `write`.
    pub retries: u64,
    /// Times that `write` lost so often that it took an exclusive turn.
    pub exclusive_turns: u64,
    /// Commits refused because the queue was full.
    pub refused_full: u64,
    /// Snapshots open now.
    pub open_snapshots: u64,
    /// Transactions open now.
    pub open_transactions: u64,
    /// Commits in the conflict window.
    pub window_commits: u64,
    /// Bytes in the conflict window.
    pub window_bytes: u64,
    /// Row versions in memory.
    pub memtable_rows: u64,
    /// Bytes in memory, keys and values counted and the rest estimated.
    pub memtable_bytes: u64,
    /// Commits with runs, files of sorted rows beside the page file, that are not folded; and the runs of them.
    pub attached: u64,
    /// Runs of these.
    pub runs: u64,
    /// Bytes of keys and values in them.
    pub run_bytes: u64,
    /// Commits known.
    pub commits: u64,
    /// The newest version that readers see.
    pub visible: Version,
    /// The newest version on stable storage.
    pub durable: Version,
    /// Commits that waited because more was written than folded.
    pub slowed: u64,
    /// Readers that had used most of their allowance.
    pub readers_warned: u64,
    /// Readers that were aborted because they had used all of it.
    pub readers_aborted: u64,
    /// What readers that hold versions, and retention, keep: the oldest version that everybody can read.
    pub oldest: Version,
    /// Checkpoints done.
    pub checkpoints: u64,
    /// Slices of checkpoints done.
    pub checkpoint_slices: u64,
    /// Checkpoints that failed.
    pub checkpoint_failures: u64,
    /// Row versions folded.
    pub rows_folded: u64,
    /// Everything at or below it is in the page file.
    pub folded: Version,
    /// Rows in the page file, newest versions.
    pub folded_rows: u64,
    /// Older row versions in the page file.
    pub history_rows: u64,
    /// Older row versions pruned since the store was opened.
    pub pruned_rows: u64,
    /// Bytes of pages that pruning freed since the store was opened: the page file has so many fewer in use.
    pub reclaimed_bytes: u64,
    /// Times that the memory for what is not folded was predicted to pass 70 %.
    pub pressure_warnings: u64,
    /// What the page file counted.
    pub pages: PageStats,
    /// How long commits took.
    pub commit_latency: LatencyStats,
    /// What the log counted.
    pub log: LogStats,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_all_threads_are_merged() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (1..=1_000).for_each(|micros| counters.commit_took(Duration::from_micros(micros)))
                });
            }
        });
        let latency = counters.latency();
        let near = |found: Duration, micros: u64| {
            found.as_micros().abs_diff(u128::from(micros)) <= u128::from(micros / 50)
        };
        assert_eq!(latency.count, 4_000);
        assert!(near(latency.p50, 500) && near(latency.p95, 950) && near(latency.p99, 990), "{latency:?}");
        assert!(near(latency.max, 1_000), "{latency:?}");
    }

    #[test]
    fn absurd_latencies_are_counted_at_the_bound() {
        let counters = Counters::new();
        counters.commit_took(Duration::ZERO);
        counters.commit_took(Duration::MAX);
        assert_eq!(counters.latency().count, 2);
    }
}
