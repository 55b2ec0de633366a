//! Time: commit times in microseconds since the Unix epoch, and the clock that tests and simulations replace.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// After every moment.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment this many microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The time so much earlier; stays at the epoch when it would be before.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds and microseconds since the epoch, as `1700000000.000001s`; calendars are for those who talk to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day. May jump, backwards too.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never runs backwards.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_micros: AtomicU64,
    monotonic_micros: AtomicU64,
}

impl ManualClock {
    /// A clock at the given time of day.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now_micros: AtomicU64::new(now.as_micros()), monotonic_micros: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.now_micros.fetch_add(micros, Ordering::AcqRel);
        self.monotonic_micros.fetch_add(micros, Ordering::AcqRel);
    }

    /// Sets the time of day, backwards too; the monotonic clock is left alone.
    pub fn set_now(&self, now: Timestamp) {
        self.now_micros.store(now.as_micros(), Ordering::Release);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_micros.load(Ordering::Acquire))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_micros.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(Timestamp::from_micros(5));
        assert_eq!(clock.now(), Timestamp::from_micros(5));
        clock.advance(Duration::from_micros(2));
        assert_eq!((clock.now().as_micros(), clock.monotonic()), (7, Duration::from_micros(2)));
        clock.set_now(Timestamp::from_micros(1));
        assert_eq!((clock.now().as_micros(), clock.monotonic()), (1, Duration::from_micros(2)));
    }

    #[test]
    fn the_system_clock_is_past_2020_and_never_runs_backwards() {
        let clock = SystemClock::default();
        assert!(clock.now() > Timestamp::from_micros(1_577_836_800_000_000));
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
