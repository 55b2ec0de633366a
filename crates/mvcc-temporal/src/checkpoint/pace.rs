//! The adaptive controller: how fast slices follow each other, and how much committers are slowed as what is not folded
//! grows.
//!
//! *Use* is the bytes of row versions in memory against the budget for them. Its rate of change is followed by an
//! exponential moving average, and what it will be when the next slice is due is predicted from that. The pause between
//! two slices is 100 ms while use is low, 10 ms in between, and falls to 1 ms as use rises to the budget; use that was high
//! a moment ago counts with a half-life of a second, so the rest of a burst does not wait for ever longer pauses. It is
//! never so long that slices cannot keep up with what comes. A committer waits in proportion to what it writes and to how
//! far use is above half, so a store that is written faster than it can fold becomes slower, and never stands still.

#[doc(hidden)]
pub mod simulation;
mod throttle;

use std::time::Duration;

pub(crate) use throttle::Throttle;

/// Below this use there is no hurry.
const USE_LOW: f64 = 0.2;
/// Above this use the pause falls.
const USE_HIGH: f64 = 0.7;
/// Committers are slowed above this use.
const USE_SLOWED: f64 = 0.5;
const PAUSE_MAX: Duration = Duration::from_millis(100);
const PAUSE_MIDDLE: Duration = Duration::from_millis(10);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// How much of a new rate goes into the average.
const SMOOTHING: f64 = 0.3;
/// Folding goes so many times as fast as bytes come, where it can, so that what is behind is caught up with.
const CATCHING_UP: f64 = 1.5;
/// A rate over a shorter time says nothing.
const RATE_TIME_MIN: Duration = Duration::from_millis(1);
/// Use that is over counts half after so many seconds.
const USE_HALF_LIFE_SECONDS: f64 = 1.0;
/// What a committer waits when use is at the budget; it grows with the square of what is above.
const DELAY_AT_BUDGET: Duration = Duration::from_millis(1);
/// What a committer waits at most, whatever the use.
const DELAY_MAX: Duration = Duration::from_millis(50);

/// What whoever operates a store should think of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recommendation {
    /// Nothing to do.
    Good,
    /// More is written than is folded; committers will be slowed if it goes on.
    Warning,
    /// Committers are slowed: give the store more memory or a faster disk, or write less.
    Critical,
}

/// What the controller sees and does.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReconcilerStats {
    /// Bytes of row versions that are not folded.
    pub depth_bytes: u64,
    /// Of the budget, 1 for all of it.
    pub utilisation: f64,
    /// Bytes expected when the next slice is due.
    pub predicted_bytes: u64,
    /// Pause between two slices.
    pub interval: Duration,
    /// 1 when nothing is waiting, 0 at the budget and beyond.
    pub health: f64,
    /// What to think of it.
    pub recommendation: Recommendation,
    /// Change of depth, in bytes per second; below 0 while more is folded than written.
    pub rate_bytes_per_second: f64,
    /// Time until everything is folded at the pace of the last slices; zero while nothing waits.
    pub estimated_lag: Duration,
}

/// Follows what is not folded.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    budget_bytes: f64,
    depth_bytes: f64,
    rate: f64,
    /// Bytes that come per second, averaged.
    arrival_rate: f64,
    /// Bytes folded and seconds that took, the latest counted most, so that a small slice counts little.
    folded: (f64, f64),
    /// Bytes of the largest slice.
    slice_bytes_max: f64,
    /// The largest use, halved as time goes by.
    recent: f64,
    /// When rates were taken last, what was there then, and what left since.
    base: Option<(Duration, f64, f64)>,
    is_high: bool,
}

fn to_float(bytes: u64) -> f64 {
    // Beyond 2^53 bytes a few more or less make no difference here.
    #[expect(clippy::cast_precision_loss, reason = "a share of a budget needs no more digits")]
    let float = bytes as f64;
    float
}

fn to_bytes(float: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and what is below zero was cut"
    )]
    let bytes = float.max(0.0) as u64;
    bytes
}

impl Controller {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes: to_float(budget_bytes.max(1)),
            depth_bytes: 0.0,
            rate: 0.0,
            arrival_rate: 0.0,
            folded: (0.0, 0.0),
            slice_bytes_max: 0.0,
            recent: 0.0,
            base: None,
            is_high: false,
        }
    }

    /// Takes what is waiting at a time of a monotonic clock; true when it is predicted to pass 70 % of the budget and was
    /// not before.
    pub(crate) fn observe(&mut self, now: Duration, depth_bytes: u64) -> bool {
        self.depth_bytes = to_float(depth_bytes);
        match self.base {
            Some((last, before, left)) if now.saturating_sub(last) >= RATE_TIME_MIN => {
                let seconds = now.saturating_sub(last).as_secs_f64();
                let change = self.depth_bytes - before;
                self.rate += SMOOTHING * (change / seconds - self.rate);
                self.arrival_rate += SMOOTHING * ((change + left).max(0.0) / seconds - self.arrival_rate);
                self.recent *= 0.5_f64.powf(seconds / USE_HALF_LIFE_SECONDS);
                self.base = Some((now, self.depth_bytes, 0.0));
            }
            Some(_) => {}
            None => self.base = Some((now, self.depth_bytes, 0.0)),
        }
        self.recent = self.recent.max(self.utilisation());
        let is_high = self.predicted() > USE_HIGH * self.budget_bytes;
        let was_high = std::mem::replace(&mut self.is_high, is_high);
        is_high && !was_high
    }

    /// So many bytes are folded and are no longer waiting.
    pub(crate) fn left(&mut self, bytes: u64) {
        if let Some((_, _, left)) = &mut self.base {
            *left += to_float(bytes);
        }
    }

    /// Takes how much a slice folded, and how long that took.
    pub(crate) fn folded(&mut self, bytes: u64, took: Duration) {
        let (bytes, seconds) = (to_float(bytes), took.as_secs_f64());
        if seconds > 0.0 {
            let kept = 1.0 - SMOOTHING;
            self.folded = (self.folded.0 * kept + bytes, self.folded.1 * kept + seconds);
            self.slice_bytes_max = self.slice_bytes_max.max(bytes);
        }
    }

    /// Bytes folded per second, averaged; 0 before the first slice.
    pub(crate) fn fold_rate(&self) -> f64 {
        let (bytes, seconds) = self.folded;
        if seconds > 0.0 { bytes / seconds } else { 0.0 }
    }

    fn utilisation(&self) -> f64 {
        self.depth_bytes / self.budget_bytes
    }

    fn predicted(&self) -> f64 {
        let pause = pause_at(self.utilisation()).as_secs_f64();
        (self.depth_bytes + self.rate * pause).max(0.0)
    }

    /// The pause before the next slice: by what is there, was there or will be, whichever is most, and no longer than lets
    /// slices as large as the largest keep up with what comes.
    pub(crate) fn pause(&self) -> Duration {
        let by_use = pause_at(self.recent.max(self.predicted() / self.budget_bytes));
        let fold_rate = self.fold_rate();
        if fold_rate <= 0.0 || self.arrival_rate <= 0.0 {
            return by_use;
        }
        let each = self.slice_bytes_max / (CATCHING_UP * self.arrival_rate);
        let left = each - self.slice_bytes_max / fold_rate;
        let left = Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(PAUSE_MAX);
        by_use.min(left.max(PAUSE_MIN))
    }

    pub(crate) fn stats(&self) -> ReconcilerStats {
        let utilisation = self.utilisation();
        let predicted = self.predicted();
        let recommendation = match utilisation.max(predicted / self.budget_bytes) {
            high if high > 1.0 => Recommendation::Critical,
            high if high > USE_HIGH => Recommendation::Warning,
            _ => Recommendation::Good,
        };
        let fold_rate = self.fold_rate();
        let lag = if fold_rate > 0.0 { self.depth_bytes / fold_rate } else { 0.0 };
        ReconcilerStats {
            depth_bytes: to_bytes(self.depth_bytes),
            utilisation,
            predicted_bytes: to_bytes(predicted),
            interval: self.pause(),
            health: (1.0 - utilisation).clamp(0.0, 1.0),
            recommendation,
            rate_bytes_per_second: self.rate,
            estimated_lag: Duration::try_from_secs_f64(lag).unwrap_or(Duration::MAX),
        }
    }
}

fn pause_at(utilisation: f64) -> Duration {
    if utilisation < USE_LOW {
        return PAUSE_MAX;
    }
    if utilisation <= USE_HIGH {
        return PAUSE_MIDDLE;
    }
    // From the middle pause at 70 % to the shortest at the budget.
    let part = ((utilisation - USE_HIGH) / (1.0 - USE_HIGH)).clamp(0.0, 1.0);
    PAUSE_MIDDLE.saturating_sub(PAUSE_MIDDLE.saturating_sub(PAUSE_MIN).mul_f64(part))
}

/// What a committer waits at a use: nothing up to half, and then more with the square of what is above.
pub(crate) fn delay_at(utilisation: f64) -> Duration {
    let above = (utilisation - USE_SLOWED).max(0.0) / (1.0 - USE_SLOWED);
    let delay = DELAY_AT_BUDGET.as_secs_f64() * above * above;
    Duration::try_from_secs_f64(delay).map_or(DELAY_MAX, |delay| delay.min(DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1_000_000;

    fn at(share: f64) -> Controller {
        let mut controller = Controller::new(BUDGET);
        controller.observe(Duration::ZERO, to_bytes(share * to_float(BUDGET)));
        controller
    }

    #[test]
    fn the_pause_follows_the_use() {
        for (share, millis) in [(0.0, 100), (0.19, 100), (0.2, 10), (0.7, 10), (1.0, 1), (3.0, 1)] {
            assert_eq!(at(share).pause(), Duration::from_millis(millis), "{share}");
        }
        let middle = at(0.85).pause();
        assert!(middle > PAUSE_MIN && middle < PAUSE_MIDDLE, "{middle:?}");
    }

    #[test]
    fn committers_are_slowed_in_proportion_and_never_stopped() {
        let mut before = Duration::ZERO;
        for percent in 0..=1_000_u32 {
            let delay = delay_at(f64::from(percent) / 100.0);
            assert!(delay >= before && delay <= DELAY_MAX, "{percent} %: {delay:?} after {before:?}");
            let step = delay - before;
            assert!(step <= Duration::from_millis(2), "{percent} %: a wall of {step:?}");
            before = delay;
        }
        assert_eq!(delay_at(0.5), Duration::ZERO);
        assert_eq!(delay_at(1.0), DELAY_AT_BUDGET);
    }

    #[test]
    fn a_rise_is_predicted_once() {
        let mut controller = Controller::new(BUDGET);
        let mut told = Vec::new();
        for step in 0..60_u64 {
            if controller.observe(Duration::from_millis(step * 10), step * 12_500) {
                told.push(step);
            }
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0] * 12_500 <= 700_000, "told at {} before it is there", told[0] * 12_500);
        let stats = controller.stats();
        assert_eq!(stats.recommendation, Recommendation::Warning);
        assert!(stats.rate_bytes_per_second > 1_000_000.0 && stats.predicted_bytes > stats.depth_bytes);
    }

    #[test]
    fn the_lag_is_what_folding_takes() {
        let mut controller = at(0.5);
        controller.folded(100_000, Duration::from_secs(1));
        assert_eq!(controller.stats().estimated_lag, Duration::from_secs(5));
        assert_eq!(
            (controller.stats().health, controller.stats().recommendation),
            (0.5, Recommendation::Good)
        );
        assert_eq!(at(1.5).stats().recommendation, Recommendation::Critical);
    }
}
