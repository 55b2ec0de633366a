//! Which versions readers hold, so that what they may still ask for is not pruned; and for how long they may.
//!
//! A reader that lives longer than one call writes its version to a slot and then looks at the floor; who prunes raises
//! the floor and then looks at the slots. All four steps are sequentially consistent, so one of the two sees the other:
//! either the reader learns that its version may be gone, or the version is kept.
//!
//! A reader that holds more than its allowance is aborted: a bit in its state is set, every later call fails, and its
//! version counts as held only as long as calls are in progress. The state counts these calls, so one look at it tells;
//! nobody waits.
//!
//! Invariants:
//! * The floor only rises. A version at or above it is readable by whoever asks.
//! * A slot is free, or is being filled, or belongs to one registration, which alone writes its version. It holds that
//!   until the registration is dropped, or is aborted and no call of it is in progress.
//! * A state is never the same for two registrations of a slot, nor before and after a call. So who aborts sets the bit in
//!   the very state that was judged, or not at all.
//! * Blocks of slots are never given back; each is twice the one before.

use std::time::Duration;

use keepstone_types::Version;

use crate::error::ReadError;
use crate::gate::thread_stripe;
use crate::sync::{Arc, AtomicU64, Ordering, SlotOnce};

/// A free slot; no version has this number.
const FREE: u64 = u64::MAX;
/// A slot that somebody fills; it holds nothing yet.
const FILLING: u64 = u64::MAX - 1;
/// Slots in the first block.
const FIRST_BLOCK_LEN: usize = if cfg!(feature = "model") { 2 } else { 64 };
/// Blocks: enough for 2^28 readers and more.
const BLOCK_COUNT: usize = 24;

/// The bit of the state that is set when the reader is aborted.
const ABORTED: u64 = 1 << 63;
/// The bits of the state that count calls in progress.
const IN_PROGRESS: u64 = (1 << 20) - 1;
/// A call or a registration, counted among all there were.
const COUNTED: u64 = IN_PROGRESS + 1;
/// A call, counted among those in progress and among all there were.
const CALL: u64 = 1 + COUNTED;

/// How long, and at what price, a reader may hold a version. What a reader holds is its version: rows that retention would
/// let go stay for it. Zero stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderAllowance {
    /// Time since the reader began.
    pub age: Duration,
    /// Time since its last call.
    pub idle: Duration,
    /// Bytes of older row versions that came to be since it began, while it holds a version that retention lets go.
    pub kept_bytes: u64,
    /// A reader is warned of, once, when it has used so many percent of one of these.
    pub warn_percent: u8,
}

impl ReaderAllowance {
    /// No limit at all.
    pub const UNLIMITED: Self =
        Self { age: Duration::ZERO, idle: Duration::ZERO, kept_bytes: 0, warn_percent: 80 };
    /// A week, a day without a call, 64 GiB.
    pub const LENIENT: Self = Self {
        age: Duration::from_secs(7 * 24 * 3_600),
        idle: Duration::from_secs(24 * 3_600),
        kept_bytes: 64 << 30,
        warn_percent: 80,
    };
    /// A day, an hour without a call, 4 GiB.
    pub const NORMAL: Self = Self {
        age: Duration::from_secs(24 * 3_600),
        idle: Duration::from_secs(3_600),
        kept_bytes: 4 << 30,
        warn_percent: 80,
    };
    /// Five minutes, one minute without a call, 256 MiB.
    pub const STRICT: Self = Self {
        age: Duration::from_secs(300),
        idle: Duration::from_secs(60),
        kept_bytes: 256 << 20,
        warn_percent: 80,
    };

    /// The largest share of a limit that is used, in percent.
    fn used_percent(&self, age: Duration, idle: Duration, kept_bytes: u64) -> u64 {
        let share = |used: u128, limit: u128| match limit {
            0 => 0,
            limit => u64::try_from(used.saturating_mul(100) / limit).unwrap_or(u64::MAX),
        };
        share(age.as_millis(), self.age.as_millis())
            .max(share(idle.as_millis(), self.idle.as_millis()))
            .max(share(kept_bytes.into(), self.kept_bytes.into()))
    }
}

impl Default for ReaderAllowance {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// One place for a reader. Times are microseconds of the monotonic clock.
#[derive(Debug)]
struct Slot {
    version: AtomicU64,
    /// [`ABORTED`], and how many calls there were and are.
    state: AtomicU64,
    began: AtomicU64,
    /// Bytes of older row versions there had been when it began.
    kept_before: AtomicU64,
    /// What the watcher last saw of `state`, when that was new, and whether it warned.
    seen: AtomicU64,
    seen_at: AtomicU64,
    warned: AtomicU64,
}

impl Slot {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            version: AtomicU64::new(FREE),
            state: zero(),
            began: zero(),
            kept_before: zero(),
            seen: zero(),
            seen_at: zero(),
            warned: zero(),
        }
    }
}

type Block = Box<[Slot]>;

/// The registered readers of a store, and the floor.
#[derive(Debug)]
pub(crate) struct Readers {
    blocks: [SlotOnce<Block>; BLOCK_COUNT],
    floor: AtomicU64,
    /// How often somebody began or ended to collect what must be kept: odd while that goes on.
    collections: AtomicU64,
    /// Bytes of older row versions that came to be since the store was opened.
    kept_bytes: AtomicU64,
}

/// Holding a version; dropping it lets the version go.
#[derive(Debug)]
#[must_use = "the version may be pruned once this is dropped"]
pub(crate) struct Registration {
    readers: Arc<Readers>,
    block: usize,
    slot: usize,
    version: Version,
}

/// Collecting what must be kept.
#[derive(Debug)]
#[must_use = "nothing is collected any more when this is dropped"]
pub(crate) struct Collecting<'a>(&'a Readers);

/// A call of a reader that is in progress.
#[derive(Debug)]
#[must_use = "the call is over when this is dropped"]
pub(crate) struct ReaderCall<'a>(&'a Slot);

/// What a look at all readers found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) warned: u64,
    pub(crate) aborted: u64,
}

/// What the watcher did to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Warned,
    Aborted,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Readers {
    /// No readers; versions below `floor` are gone.
    pub(crate) fn new(floor: Version) -> Self {
        Self {
            blocks: [const { SlotOnce::new() }; BLOCK_COUNT],
            floor: AtomicU64::new(floor.to_raw()),
            collections: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
        }
    }

    /// Versions below it may be gone.
    pub(crate) fn floor(&self) -> Version {
        Version::from_raw(self.floor.load(Ordering::SeqCst))
    }

    /// Says that what must be kept is collected, until it is dropped: from slots and from elsewhere, one after the other, so
    /// whatever moves from one to the other meanwhile may be missed. One at a time.
    pub(crate) fn collect(&self) -> Collecting<'_> {
        self.collections.fetch_add(1, Ordering::SeqCst);
        Collecting(self)
    }

    /// How often somebody began or ended to collect: odd while that goes on.
    pub(crate) fn collections(&self) -> u64 {
        self.collections.load(Ordering::SeqCst)
    }

    /// So many bytes of older row versions came to be.
    pub(crate) fn keep(&self, bytes: u64) {
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn block(&self, number: usize) -> Option<&Block> {
        let len = FIRST_BLOCK_LEN.checked_shl(u32::try_from(number).ok()?)?;
        let block = self.blocks.get(number)?;
        Some(block.get_or_init(|| (0..len).map(|_| Slot::new()).collect()))
    }

    /// Writes a version to a free slot, whether it is readable or not; `None` when there are too many readers.
    pub(crate) fn hold(self: &Arc<Self>, version: Version, now: Duration) -> Option<Registration> {
        for number in 0..BLOCK_COUNT {
            let block = self.block(number)?;
            let start = thread_stripe(block.len());
            for step in 0..block.len() {
                let place = start.saturating_add(step).checked_rem(block.len())?;
                let slot = block.get(place)?;
                let is_free = slot.version.load(Ordering::Relaxed) == FREE;
                if is_free && slot.claim(version, micros(now), self.kept_bytes.load(Ordering::Relaxed)) {
                    return Some(Registration {
                        readers: Arc::clone(self),
                        block: number,
                        slot: place,
                        version,
                    });
                }
            }
        }
        None
    }

    /// Holds a version that is readable by whoever asks; `None` when it may be gone.
    pub(crate) fn register(self: &Arc<Self>, version: Version, now: Duration) -> Option<Registration> {
        let held = self.hold(version, now)?;
        if self.floor() > version { None } else { Some(held) }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.blocks.iter().filter_map(|block| block.get()).flat_map(|block| block.iter())
    }

    /// Raises the floor and gives the versions that are held, sorted: what is read at these, and at or above the floor, must
    /// be kept.
    pub(crate) fn raise_floor(&self, floor: Version) -> Vec<Version> {
        self.floor.fetch_max(floor.to_raw(), Ordering::SeqCst);
        let mut held: Vec<Version> = self.slots().filter_map(Slot::held).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// Warns of readers that have used most of their allowance and aborts those that have used all of it. What retention
    /// keeps from `retained` on is no reader's price.
    pub(crate) fn watch(&self, allowance: &ReaderAllowance, now: Duration, retained: Version) -> Watched {
        let mut watched = Watched::default();
        let kept = self.kept_bytes.load(Ordering::Relaxed);
        for slot in self.slots() {
            match slot.watch(allowance, micros(now), kept, retained) {
                Some(Met::Warned) => watched.warned = watched.warned.saturating_add(1),
                Some(Met::Aborted) => watched.aborted = watched.aborted.saturating_add(1),
                None => {}
            }
        }
        watched
    }
}

impl Slot {
    fn claim(&self, version: Version, now: u64, kept: u64) -> bool {
        let (set, failed) = (Ordering::SeqCst, Ordering::Relaxed);
        if self.version.compare_exchange(FREE, FILLING, set, failed).is_err() {
            return false;
        }
        let before = self.state.load(Ordering::SeqCst) & !(ABORTED | IN_PROGRESS);
        let state = before.wrapping_add(COUNTED) & !ABORTED;
        for (field, value) in [
            (&self.began, now),
            (&self.seen_at, now),
            (&self.kept_before, kept),
            (&self.warned, 0),
            (&self.seen, state),
        ] {
            field.store(value, Ordering::Relaxed);
        }
        self.state.store(state, Ordering::SeqCst);
        // Last: what the watcher judges by is of this registration as soon as it is seen to be one.
        self.version.store(version.to_raw(), Ordering::SeqCst);
        true
    }

    /// Holds the reader to its allowance.
    fn watch(&self, allowance: &ReaderAllowance, now: u64, kept: u64, retained: Version) -> Option<Met> {
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let held = self.held().filter(|_| state & ABORTED == 0)?;
            let kept_for_it = kept.saturating_sub(self.kept_before.load(Ordering::Relaxed));
            let used = self.used(allowance, now, state, if held < retained { kept_for_it } else { 0 });
            if used < 100 {
                let is_first = used >= u64::from(allowance.warn_percent.max(1))
                    && self.warned.swap(1, Ordering::Relaxed) == 0;
                return is_first.then_some(Met::Warned);
            }
            let (set, failed) = (Ordering::SeqCst, Ordering::Relaxed);
            if self.state.compare_exchange(state, state | ABORTED, set, failed).is_ok() {
                return Some(Met::Aborted);
            }
            // Another call or another reader began or ended meanwhile.
        }
    }

    /// The version that is held here.
    fn held(&self) -> Option<Version> {
        let raw = self.version.load(Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let is_let_go = state & ABORTED != 0 && state & IN_PROGRESS == 0;
        (raw != FREE && raw != FILLING && !is_let_go).then_some(Version::from_raw(raw))
    }

    /// The share of its allowance that the reader has used, in percent.
    fn used(&self, allowance: &ReaderAllowance, now: u64, state: u64, kept_bytes: u64) -> u64 {
        if self.seen.swap(state, Ordering::Relaxed) != state || state & IN_PROGRESS != 0 {
            self.seen_at.store(now, Ordering::Relaxed);
        }
        let since =
            |time: &AtomicU64| Duration::from_micros(now.saturating_sub(time.load(Ordering::Relaxed)));
        allowance.used_percent(since(&self.began), since(&self.seen_at), kept_bytes)
    }
}

impl Registration {
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    fn slot(&self) -> Option<&Slot> {
        self.readers
            .blocks
            .get(self.block)
            .and_then(|block| block.get())
            .and_then(|block| block.get(self.slot))
    }

    /// Begins a call; what the reader holds stays until it is over.
    pub(crate) fn call(&self) -> Result<ReaderCall<'_>, ReadError> {
        let slot = self.slot().ok_or(ReadError::ReaderAborted)?;
        let before = slot.state.fetch_add(CALL, Ordering::SeqCst);
        let call = ReaderCall(slot);
        if before & ABORTED == 0 { Ok(call) } else { Err(ReadError::ReaderAborted) }
    }

    /// Fails once the reader was aborted.
    pub(crate) fn must_be_active(&self) -> Result<(), ReadError> {
        let aborted = |slot: &Slot| slot.state.load(Ordering::Relaxed) & ABORTED != 0;
        if self.slot().is_none_or(aborted) { Err(ReadError::ReaderAborted) } else { Ok(()) }
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.0.collections.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for ReaderCall<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(slot) = self.slot() {
            slot.version.store(FREE, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn version(raw: u64) -> Version {
        Version::from_raw(raw)
    }

    fn readers() -> Arc<Readers> {
        Arc::new(Readers::new(Version::ZERO))
    }

    #[test]
    fn what_is_held_is_seen_and_what_is_below_the_floor_is_refused() {
        let readers = readers();
        let five = readers.register(version(5), START).unwrap();
        let seven = readers.register(version(7), START).unwrap();
        assert_eq!(readers.raise_floor(version(6)), [version(5), version(7)]);
        assert!(readers.register(version(5), START).is_none(), "the floor is above it");
        assert_eq!(readers.raise_floor(version(4)), [version(5), version(7)]);
        assert_eq!(readers.floor(), version(6), "the floor never falls");
        drop(five);
        assert_eq!((readers.raise_floor(version(6)), seven.version()), (vec![version(7)], version(7)));
        let kept = readers.hold(version(1), START).unwrap();
        assert_eq!(readers.raise_floor(version(6)), [version(1), version(7)]);
        drop((kept, seven));
        assert!(readers.raise_floor(version(6)).is_empty());
    }

    #[test]
    fn a_hundred_threads_hold_what_they_registered() {
        let readers = readers();
        std::thread::scope(|scope| {
            for thread in 1..=100_u64 {
                let readers = &readers;
                scope.spawn(move || {
                    for round in 0..200 {
                        let held = readers.register(version(thread * 1_000 + round), START).unwrap();
                        let more = readers.register(version(thread * 1_000), START).unwrap();
                        let seen = readers.raise_floor(Version::ZERO);
                        assert!(seen.binary_search(&held.version()).is_ok());
                        assert!(seen.binary_search(&more.version()).is_ok());
                    }
                });
            }
        });
        assert!(readers.raise_floor(Version::ZERO).is_empty(), "everybody let go");
    }

    /// What the watcher reads of a slot may be of the reader before. Whoever is not aborted holds its version all the same.
    #[test]
    fn who_registers_while_readers_are_aborted_holds_or_knows() {
        let slot = Slot::new();
        let allowance = ReaderAllowance { age: Duration::from_secs(1), ..ReaderAllowance::UNLIMITED };
        let ended = AtomicU64::new(0);
        let late = micros(START + Duration::from_secs(3_600));
        let (mut lost, mut aborted) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while ended.load(Ordering::Relaxed) == 0 {
                    slot.watch(&allowance, late, 0, Version::ZERO);
                }
            });
            for round in 0..2_000_000_u64 {
                // One in two is too old at once, and leaves that behind in its slot.
                let began = if round % 2 == 0 { micros(START) } else { late };
                let held = version(1 + round % 3);
                assert!(slot.claim(held, began, 0));
                for _ in 0..round % 16 {
                    std::hint::spin_loop();
                }
                let seen = slot.held();
                let is_aborted = slot.state.load(Ordering::SeqCst) & ABORTED != 0;
                lost += u64::from(seen != Some(held) && !is_aborted);
                aborted += u64::from(is_aborted);
                slot.version.store(FREE, Ordering::SeqCst);
            }
            ended.store(1, Ordering::Relaxed);
        });
        assert!(
            lost == 0 && aborted > 0,
            "{lost} lost their version and do not know it, {aborted} were aborted"
        );
    }

    #[test]
    fn a_reader_is_warned_of_once_and_then_aborted_by_each_limit() {
        let allowance = ReaderAllowance {
            age: Duration::from_secs(100),
            idle: Duration::from_secs(10),
            kept_bytes: 1_000,
            warn_percent: 80,
        };
        let at = |seconds: u64| START + Duration::from_secs(seconds);
        for (what, kept, retained, warned_at, aborted_at) in [
            ("age", 0, 0, 80, 100),
            ("bytes", 100, 9, 8, 10),
            ("bytes that retention keeps anyway", 100, 5, 80, 100),
        ] {
            let readers = readers();
            let held = readers.register(version(5), START).unwrap();
            let (mut warned, mut aborted) = (None, None);
            for second in 1..=120 {
                drop(held.call().ok());
                readers.keep(kept);
                let watched = readers.watch(&allowance, at(second), version(retained));
                warned = warned.or((watched.warned > 0).then_some(second));
                assert!(aborted.is_none() || watched.aborted == 0, "{what}: aborted once");
                aborted = aborted.or((watched.aborted > 0).then_some(second));
            }
            assert_eq!((warned, aborted), (Some(warned_at), Some(aborted_at)), "{what}");
            assert_eq!(held.call().err(), Some(ReadError::ReaderAborted), "{what}");
        }
    }

    #[test]
    fn a_reader_without_calls_is_idle() {
        let readers = readers();
        let held = readers.register(version(5), START).unwrap();
        drop(held.call().unwrap());
        let watch = |seconds| {
            readers.watch(&ReaderAllowance::STRICT, START + Duration::from_secs(seconds), Version::ZERO)
        };
        assert_eq!(watch(1), Watched::default());
        assert_eq!(watch(50), Watched { warned: 1, aborted: 0 });
        assert_eq!(watch(60), Watched::default(), "warned of once");
        assert_eq!(watch(61), Watched { warned: 0, aborted: 1 });
        assert_eq!(held.call().err(), Some(ReadError::ReaderAborted));
        assert_eq!(held.must_be_active(), Err(ReadError::ReaderAborted));
    }

    #[test]
    fn what_an_aborted_reader_holds_goes_when_its_calls_are_over() {
        let readers = readers();
        let held = readers.register(version(5), START).unwrap();
        let (one, two) = (held.call().unwrap(), held.call().unwrap());
        let late = START + Duration::from_secs(1_000);
        assert_eq!(readers.watch(&ReaderAllowance::STRICT, late, Version::ZERO).aborted, 1);
        assert_eq!(readers.raise_floor(version(9)), [version(5)]);
        drop(one);
        assert_eq!(readers.raise_floor(version(9)), [version(5)], "a call is in progress");
        drop(two);
        assert!(readers.raise_floor(version(9)).is_empty());
        assert_eq!(held.call().err(), Some(ReadError::ReaderAborted));
        assert!(readers.raise_floor(version(9)).is_empty(), "a refused call holds nothing");
        drop(held);
        let next = readers.hold(version(7), late).unwrap();
        assert!(next.call().is_ok(), "the slot serves another");
    }

    #[test]
    fn readers_without_a_limit_are_left_alone() {
        let readers = readers();
        let held = readers.register(version(5), START).unwrap();
        readers.keep(1 << 40);
        let watched =
            readers.watch(&ReaderAllowance::UNLIMITED, START + Duration::from_secs(1 << 30), version(9));
        assert_eq!(watched, Watched::default());
        assert!(held.call().is_ok());
    }
}
