//! Simulated loads: the controller that paces folding, beside the same loop with a fixed interval, on a clock that steps by
//! a tenth of a millisecond. Nothing here depends on a machine, so its figures are always the same.
//!
//! Two models. In the *queue*, bytes arrive by themselves and each wake-up folds at most one slice of them: what lags behind
//! is the time from an arrival until it is folded. In the *store*, committers write as fast as they are let, a memtable is
//! sealed at half the budget and leaves when it is folded whole: what counts is how far memory fills.

use std::collections::VecDeque;
use std::time::Duration;

use super::throttle::{Throttle, cost_at};
use super::{Controller, delay_at, to_bytes, to_float};

/// A step of the clock.
const STEP: Duration = Duration::from_micros(100);
/// Bytes of a slice, and of the budget.
const SLICE_BYTES: u64 = 1_000_000;
const BUDGET_BYTES: u64 = 100 * SLICE_BYTES;

/// When the loop that folds is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interval {
    /// By the controller.
    Adaptive,
    /// Always after the same time.
    Fixed(Duration),
}

/// What arrives at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// Nothing, for ten seconds.
    Idle,
    /// Half of what a fixed interval of 10 ms folds, for ten seconds.
    Steady,
    /// Three times what a fixed interval of 10 ms folds, for two seconds, then nothing.
    Burst,
    /// Such bursts of half a second, one every five seconds.
    Bursts,
    /// Half the budget at once, then nothing.
    Lump,
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Steady, Self::Burst, Self::Bursts, Self::Lump];

    /// Bytes that arrive in the step that begins at a time.
    fn arriving(self, at: Duration) -> u64 {
        // What a fixed interval of 10 ms folds in a step, about.
        let one = SLICE_BYTES / 100;
        let since = |seconds: u64| {
            Duration::from_millis(u64::try_from(at.as_millis() % u128::from(seconds * 1_000)).unwrap_or(0))
        };
        match self {
            Self::Steady if at < Duration::from_secs(10) => one / 2,
            Self::Burst if at < Duration::from_secs(2) => 3 * one,
            Self::Bursts if at < Duration::from_secs(15) && since(5) < Duration::from_millis(500) => 3 * one,
            Self::Lump if at < STEP => BUDGET_BYTES / 2,
            _ => 0,
        }
    }

    const fn lasts(self) -> Duration {
        match self {
            Self::Idle | Self::Steady | Self::Lump => Duration::from_secs(10),
            Self::Burst => Duration::from_secs(2),
            Self::Bursts => Duration::from_secs(15),
        }
    }
}

/// What became of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The longest that a byte waited to be folded.
    pub lag_max: Duration,
    /// The mean of that over all bytes.
    pub lag_mean: Duration,
    /// The most that waited, as a share of the budget.
    pub utilisation_max: f64,
    /// How often the loop woke up while the load lasted, in a second.
    pub wakeups_per_second: f64,
}

/// Runs a load until everything is folded. A slice takes `slice_time` when it is full and a tenth of that when empty.
#[must_use]
pub fn queue(load: Load, interval: Interval, slice_time: Duration) -> Outcome {
    let mut controller = Controller::new(BUDGET_BYTES);
    let mut waiting: VecDeque<(Duration, u64)> = VecDeque::new();
    let (mut depth, mut deepest, mut folded, mut lag_bytes) = (0_u64, 0_u64, 0_u64, 0.0);
    let (mut wakeups, mut lag_max) = (0_u32, Duration::ZERO);
    let (mut now, mut wakes_at) = (Duration::ZERO, Duration::ZERO);
    while now < load.lasts() || depth > 0 {
        let arriving = load.arriving(now);
        if arriving > 0 {
            waiting.push_back((now, arriving));
            depth = depth.saturating_add(arriving);
            deepest = deepest.max(depth);
        }
        if now >= wakes_at {
            wakeups = wakeups.saturating_add(u32::from(now < load.lasts()));
            controller.observe(now, depth);
            let mut left = SLICE_BYTES;
            while let Some((arrived, bytes)) = waiting.front_mut() {
                let taken = left.min(*bytes);
                let lag = now.saturating_sub(*arrived);
                (lag_max, lag_bytes) = (lag_max.max(lag), lag_bytes + lag.as_secs_f64() * to_float(taken));
                (left, *bytes) = (left.saturating_sub(taken), bytes.saturating_sub(taken));
                if *bytes > 0 {
                    break;
                }
                waiting.pop_front();
            }
            let taken = SLICE_BYTES.saturating_sub(left);
            (depth, folded) = (depth.saturating_sub(taken), folded.saturating_add(taken));
            controller.left(taken);
            let took = slice_time.mul_f64(0.1 + 0.9 * to_float(taken) / to_float(SLICE_BYTES));
            controller.folded(taken, took);
            let pause = match interval {
                Interval::Adaptive => controller.pause(),
                Interval::Fixed(pause) => pause,
            };
            wakes_at = now.saturating_add(took).saturating_add(pause);
        }
        now = now.saturating_add(STEP);
    }
    let mean = if folded == 0 { 0.0 } else { lag_bytes / to_float(folded) };
    Outcome {
        lag_max,
        lag_mean: Duration::try_from_secs_f64(mean).unwrap_or_default(),
        utilisation_max: to_float(deepest) / to_float(BUDGET_BYTES),
        wakeups_per_second: f64::from(wakeups) / load.lasts().as_secs_f64(),
    }
}

/// What committers wait at a use: each of them at least, and in multiples of the time that folding their bytes takes.
#[must_use]
pub fn delay_curve(utilisation: f64) -> (Duration, f64) {
    (delay_at(utilisation), cost_at(utilisation))
}

/// How far memory fills, as a share of the budget, and how much of what could be folded is written, when so many committers
/// write commits of so many bytes as fast as they are let for a minute; a commit by itself takes a millisecond.
#[must_use]
pub fn store(committers: usize, commit_bytes: u64, fold_bytes_per_second: u64) -> (f64, f64) {
    let (mut controller, throttle) = (Controller::new(BUDGET_BYTES), Throttle::new(BUDGET_BYTES));
    let (mut active, mut sealed, mut left, mut deepest, mut written) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut commits_at = vec![Duration::ZERO; committers];
    let lasts = Duration::from_secs(60);
    let (mut now, mut slice_ends) = (Duration::ZERO, Duration::ZERO);
    while now < lasts {
        for commit in commits_at.iter_mut().filter(|at| **at <= now) {
            (active, written) = (active.saturating_add(commit_bytes), written.saturating_add(commit_bytes));
            let delay = throttle.delay(now, active.saturating_add(sealed), commit_bytes);
            *commit = now.saturating_add(delay).saturating_add(Duration::from_millis(1));
        }
        deepest = deepest.max(active.saturating_add(sealed));
        if now >= slice_ends {
            if sealed > 0 && left == 0 {
                controller.left(sealed);
                sealed = 0;
            }
            if sealed == 0 && active >= BUDGET_BYTES / 2 {
                (sealed, left, active) = (active, active, 0);
            }
            controller.observe(now, active.saturating_add(sealed));
            let taken = left.min(SLICE_BYTES);
            left = left.saturating_sub(taken);
            let took = Duration::try_from_secs_f64(to_float(taken) / to_float(fold_bytes_per_second.max(1)));
            let took = took.unwrap_or_default();
            controller.folded(taken, took);
            throttle.set_fold_rate(controller.fold_rate());
            slice_ends = now.saturating_add(took).saturating_add(controller.pause());
        }
        now = now.saturating_add(STEP);
    }
    let could = to_float(fold_bytes_per_second) * lasts.as_secs_f64();
    (to_float(deepest) / to_float(BUDGET_BYTES), to_float(written.min(to_bytes(could))) / could)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: Interval = Interval::Fixed(Duration::from_millis(10));
    const SLICE_TIME: Duration = Duration::from_micros(500);

    #[test]
    fn a_burst_lags_a_tenth_of_what_a_fixed_interval_does() {
        let (adaptive, fixed) =
            (queue(Load::Burst, Interval::Adaptive, SLICE_TIME), queue(Load::Burst, FIXED, SLICE_TIME));
        assert!(adaptive.lag_max * 10 <= fixed.lag_max, "{adaptive:?} beside {fixed:?}");
        assert!(adaptive.lag_mean * 10 <= fixed.lag_mean, "{adaptive:?} beside {fixed:?}");
        assert!(adaptive.utilisation_max <= 1.0, "{adaptive:?}");
    }

    #[test]
    fn an_idle_store_wakes_a_fifth_as_often_at_most() {
        let (adaptive, fixed) =
            (queue(Load::Idle, Interval::Adaptive, SLICE_TIME), queue(Load::Idle, FIXED, SLICE_TIME));
        assert!(adaptive.wakeups_per_second * 5.0 <= fixed.wakeups_per_second, "{adaptive:?} {fixed:?}");
    }

    #[test]
    fn memory_settles_near_its_budget_however_many_write_however_much() {
        for committers in [1, 4, 16, 64] {
            for commit_bytes in [1_000, 100_000, 1_000_000, 4_000_000] {
                let (deepest, written) = store(committers, commit_bytes, 20_000_000);
                // What all of them write at once, before the first of them waits, is beyond any pace.
                let at_once = to_float(commit_bytes) * f64::from(u32::try_from(committers).unwrap());
                let most = 1.3 + 1.5 * at_once / to_float(BUDGET_BYTES);
                assert!(deepest <= most, "{committers} × {commit_bytes}: {deepest}, at most {most}");
                let could = (at_once * 1_000.0 / 20e6).min(1.0);
                assert!(written >= 0.8 * could, "{committers} × {commit_bytes}: {written} of {could}");
            }
        }
    }
}
