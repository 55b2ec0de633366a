//! How long a committer waits: in proportion to what it writes, and to how far memory is filled above half.
//!
//! What a commit waits is what its bytes take to be folded, times twice the square of how far use is above half, 1 at the
//! budget; beyond that it grows as steeply as it does there. Committers that come together are booked one behind the other, so
//! all of them together write no faster than is folded, as long as they are no more than 64 of a size: memory settles near
//! its budget. Nobody is refused, nobody waits for a checkpoint, nor longer than it would take to fold all that is in memory
//! twice.

use std::time::Duration;

use super::{DELAY_MAX, USE_SLOWED, delay_at, to_bytes, to_float};
use crate::sync::{AtomicU64, Ordering};

/// Bytes per second that folding is taken to reach before the first slice tells.
const FOLD_RATE_FIRST: u64 = 32 << 20;
/// Bytes per second that folding is taken to reach at least, however slow a disk is for a moment.
const FOLD_RATE_MIN: f64 = 1_048_576.0;
/// A committer waits for so many others of its size at most: a small commit does not wait for a large one to be folded.
const OTHERS_MAX: u32 = 64;
/// Nobody waits longer than it would take to fold all that is in memory so many times: what is left then is of others.
const ALL_MAX: f64 = 2.0;
/// What a committer waits at the budget, in multiples of the time that folding its bytes takes.
const COST_AT_BUDGET: f64 = 2.0;
/// The same for each budget more.
const COST_BEYOND: f64 = 8.0;
/// The same at most, whatever the use.
const COST_MAX: f64 = 8.0;

/// What committers wait; they share no lock for it.
#[derive(Debug)]
pub(crate) struct Throttle {
    budget_bytes: u64,
    /// Bytes per second.
    fold_rate: AtomicU64,
    /// The time of the monotonic clock until which committers are booked, in microseconds.
    booked: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Throttle {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes: budget_bytes.max(1),
            fold_rate: AtomicU64::new(FOLD_RATE_FIRST),
            booked: AtomicU64::new(0),
        }
    }

    /// Takes how fast folding goes.
    pub(crate) fn set_fold_rate(&self, bytes_per_second: f64) {
        self.fold_rate.store(to_bytes(bytes_per_second), Ordering::Relaxed);
    }

    /// Books a commit of so many bytes, with so many in memory, and says how long it waits.
    pub(crate) fn delay(&self, now: Duration, waiting: u64, bytes: u64) -> Duration {
        let utilisation = to_float(waiting) / to_float(self.budget_bytes);
        if utilisation <= USE_SLOWED {
            if self.booked.load(Ordering::Relaxed) != 0 {
                self.booked.store(0, Ordering::Relaxed);
            }
            return Duration::ZERO;
        }
        let least = delay_at(utilisation);
        let rate = to_float(self.fold_rate.load(Ordering::Relaxed)).max(FOLD_RATE_MIN);
        let seconds = cost_at(utilisation) * to_float(bytes) / rate;
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(DELAY_MAX);
        let all = Duration::try_from_secs_f64(ALL_MAX * to_float(waiting) / rate).unwrap_or(DELAY_MAX);
        let most = cost.saturating_mul(OTHERS_MAX).saturating_add(DELAY_MAX).min(all.max(DELAY_MAX));
        let (now, cost) = (micros(now), micros(cost));
        let mut booked = self.booked.load(Ordering::Relaxed);
        loop {
            let until = booked.max(now).saturating_add(cost);
            let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.booked.compare_exchange(booked, until, set, failed) {
                Ok(_) => return least.max(Duration::from_micros(until.saturating_sub(now)).min(most)),
                Err(found) => booked = found,
            }
        }
    }
}

/// What a commit waits at a use, in multiples of the time that folding its bytes takes.
pub(crate) fn cost_at(utilisation: f64) -> f64 {
    let above = (utilisation - USE_SLOWED).max(0.0) / (1.0 - USE_SLOWED);
    let cost = if above <= 1.0 {
        COST_AT_BUDGET * above * above
    } else {
        COST_AT_BUDGET + COST_BEYOND * (utilisation - 1.0)
    };
    cost.min(COST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 100 << 20;
    const NOW: Duration = Duration::from_secs(1);

    fn folding(bytes_per_second: f64) -> Throttle {
        let throttle = Throttle::new(BUDGET);
        throttle.set_fold_rate(bytes_per_second);
        throttle
    }

    #[test]
    fn a_commit_waits_in_proportion_to_its_bytes_and_to_the_use() {
        let rate = to_float(10 << 20);
        let delay = |use_percent: u64, bytes| folding(rate).delay(NOW, BUDGET / 100 * use_percent, bytes);
        assert_eq!(delay(50, 1 << 20), Duration::ZERO, "half is no debt");
        let at_budget = delay(100, 1 << 20);
        assert!((0.19..=0.21).contains(&at_budget.as_secs_f64()), "{at_budget:?}");
        let twice = delay(100, 2 << 20);
        assert!((1.95..=2.05).contains(&twice.div_duration_f64(at_budget)), "{twice:?}");
        let mut before = Duration::ZERO;
        for percent in 0..400 {
            let now = delay(percent, 1 << 20);
            assert!(now >= before && now - before <= Duration::from_millis(12), "{percent} %: {now:?}");
            before = now;
        }
        assert_eq!(before, delay(10_000, 1 << 20), "bounded, whatever the use");
    }

    #[test]
    fn committers_that_come_together_are_booked_one_behind_the_other() {
        let throttle = folding(to_float(10 << 20));
        let one = throttle.delay(NOW, BUDGET, 100 << 10);
        let delays: Vec<_> = (2..=16_u32).map(|_| throttle.delay(NOW, BUDGET, 100 << 10)).collect();
        for (number, delay) in (2_u32..).zip(&delays) {
            let expected = one * number;
            assert!(delay.abs_diff(expected) < Duration::from_millis(1), "{number}: {delay:?}, {expected:?}");
        }
        assert_eq!(throttle.delay(NOW, 0, 1 << 20), Duration::ZERO, "nothing is booked while there is room");
        let later = NOW + one * 20;
        assert_eq!(throttle.delay(later, BUDGET, 100 << 10), one, "what is over is forgotten");
    }

    #[test]
    fn a_small_commit_does_not_wait_for_a_large_one() {
        let throttle = folding(to_float(10 << 20));
        let large = throttle.delay(NOW, BUDGET, 400 << 20);
        assert!((19.9..=20.1).contains(&large.as_secs_f64()), "no longer than folding all twice: {large:?}");
        let small = throttle.delay(NOW, BUDGET, 200);
        assert!(small <= DELAY_MAX + Duration::from_millis(3), "{small:?}");
        assert_eq!(throttle.delay(NOW, BUDGET / 2, 200), Duration::ZERO);
        assert!(throttle.delay(NOW, BUDGET, 200) <= Duration::from_millis(1), "what was booked is forgotten");
    }

    #[test]
    fn before_the_first_slice_a_rate_is_assumed() {
        let delay = Throttle::new(BUDGET).delay(NOW, BUDGET, 32 << 20);
        assert!((1.95..=2.05).contains(&delay.as_secs_f64()), "{delay:?}");
    }
}
