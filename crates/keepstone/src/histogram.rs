//! Latencies of operations, recorded without a lock.
//!
//! A histogram has 16 buckets for each power of two of nanoseconds, so a percentile is at most 1/16 above the true one.
//! Threads are spread over a few copies of it; reading adds them up and may miss what is being recorded.

use std::time::Duration;

use serde::Serialize;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Buckets for each power of two.
const STEPS: u64 = 16;
const STEP_BITS: u32 = 4;
/// Latencies of 2^40 ns, 18 minutes, and more share the last bucket.
const BUCKETS: usize = 592;
/// Copies that threads are spread over.
const STRIPES: usize = 4;

/// The percentiles of an operation, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How often the operation ran.
    pub count: u64,
    /// Half were at most this long.
    pub p50_ns: u64,
    /// 95 of 100 were at most this long.
    pub p95_ns: u64,
    /// 99 of 100 were at most this long.
    pub p99_ns: u64,
    /// 999 of 1,000 were at most this long.
    pub p999_ns: u64,
    /// The upper bound of the longest.
    pub max_ns: u64,
}

/// The latencies of one operation.
#[derive(Debug)]
pub(crate) struct Histogram {
    stripes: [Box<[AtomicU64]>; STRIPES],
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { stripes: std::array::from_fn(|_| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect()) }
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.stripes.get(stripe()).and_then(|stripe| stripe.get(bucket_of(nanos)));
        if let Some(bucket) = bucket {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        let mut counts = vec![0_u64; BUCKETS];
        for stripe in &self.stripes {
            for (sum, count) in counts.iter_mut().zip(stripe) {
                *sum = sum.saturating_add(count.load(Ordering::Relaxed));
            }
        }
        let count = counts.iter().sum::<u64>();
        let at = |per_mille: u64| percentile(&counts, count, per_mille);
        Latency {
            count,
            p50_ns: at(500),
            p95_ns: at(950),
            p99_ns: at(990),
            p999_ns: at(999),
            max_ns: at(1_000),
        }
    }
}

/// The upper bound of the bucket in which the given share of all is reached.
fn percentile(counts: &[u64], total: u64, per_mille: u64) -> u64 {
    let wanted = total.saturating_mul(per_mille).div_ceil(1_000).max(1);
    let mut seen = 0_u64;
    for (bucket, count) in counts.iter().enumerate() {
        seen = seen.saturating_add(*count);
        if seen >= wanted {
            return upper_bound(bucket);
        }
    }
    0
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < STEPS {
        return usize::try_from(nanos).unwrap_or(0);
    }
    // The highest bit chooses the row, the four below it the bucket in the row.
    let row = u64::from(nanos.ilog2().saturating_sub(STEP_BITS));
    let step = (nanos >> row) & (STEPS - 1);
    let bucket = row.saturating_add(1).saturating_mul(STEPS).saturating_add(step);
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let (row, step) = (bucket / STEPS, bucket % STEPS);
    match row.checked_sub(1) {
        None => step,
        Some(row) => ((STEPS + step + 1) << row).saturating_sub(1),
    }
}

/// The copy that this thread records into.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    MINE.with(|mine| *mine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_number_in_order() {
        let mut numbers: Vec<u64> =
            (0..40).flat_map(|bit| [1_u64 << bit, (1 << bit) + 1, (2 << bit) - 1]).collect();
        numbers.extend(0..5_000);
        numbers.sort_unstable();
        let mut last = 0;
        for nanos in numbers {
            let bucket = bucket_of(nanos);
            assert!(bucket >= last && bucket < BUCKETS, "{nanos} is in bucket {bucket}");
            last = bucket;
            let bound = upper_bound(bucket);
            assert!(bound >= nanos && bound - nanos <= nanos / 16, "{nanos} is counted as {bound}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let histogram = Histogram::new();
        assert_eq!(histogram.latency(), Latency::default());
        for micros in 1..=1_000_u64 {
            histogram.record(Duration::from_micros(micros));
        }
        let latency = histogram.latency();
        assert_eq!(latency.count, 1_000);
        let percentiles =
            [(500, latency.p50_ns), (950, latency.p95_ns), (990, latency.p99_ns), (999, latency.p999_ns)];
        for (exact_micros, found) in percentiles {
            let exact = exact_micros * 1_000;
            assert!(found >= exact && found <= exact + exact / 16, "{exact} is reported as {found}");
        }
    }

    #[test]
    fn many_threads_lose_nothing() {
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..10_000_u64).for_each(|nanos| histogram.record(Duration::from_nanos(nanos)))
                });
            }
        });
        assert_eq!(histogram.latency().count, 80_000);
    }
}
