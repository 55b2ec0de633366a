//! Where readers and submitters are counted: one slot for each that is inside, and in it what was submitted from there.
//!
//! Invariants:
//! * A slot is free or belongs to one holder, which alone writes to it until it frees it.
//! * What a slot holds is not above the epoch that its holder goes by, and never falls while it is held.
//! * What landed in a slot ascends: its holders come one after the other, and each takes its epoch while it holds the slot.
//! * Blocks of slots are never given back; each is twice the one before. A block is announced before a slot of it is taken.

use std::collections::VecDeque;
use std::{array, iter};

use keepstone_types::lock_rank;

use crate::epoch::Epoch;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering, thread_number};
use crate::wrong::{self, Wrong};

/// A slot that nobody holds; above every epoch.
const FREE: u64 = u64::MAX;
/// Slots in the first block: enough for a thread each on most machines.
const FIRST_BLOCK_LEN: usize = if cfg!(feature = "model") { 2 } else { 64 };
/// Blocks behind the first: more slots than memory has room for.
const FURTHER_BLOCK_COUNT: usize = if cfg!(feature = "model") { 2 } else { 32 };

/// An item and the epoch that it landed in.
pub(crate) type Landed<T> = (Epoch, T);

/// One place to be counted at, on cache lines of its own: processors fetch lines of 64 bytes in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Slot<T> {
    /// The epoch of the holder, or [`FREE`].
    held: AtomicU64,
    /// Whether anything landed that was not taken: changed under the lock of what landed, and looked at without it. A thief that
    /// has seen who landed leave sees this, too.
    has_landed: AtomicBool,
    landed: Mutex<VecDeque<Landed<T>>>,
}

type Block<T> = Box<[Slot<T>]>;

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    first: Block<T>,
    further: [OnceLock<Block<T>>; FURTHER_BLOCK_COUNT],
    /// How many of the further blocks are announced.
    announced: AtomicUsize,
}

/// A slot that is held, until this is dropped.
#[derive(Debug)]
#[must_use = "the slot is free as soon as this is dropped"]
pub(crate) struct Held<'a, T>(&'a Slot<T>);

/// The order of what a thief looks at.
fn look_order() -> Ordering {
    if wrong::is(Wrong::WeakLook) { Ordering::Acquire } else { Ordering::SeqCst }
}

impl<T> Slot<T> {
    fn new() -> Self {
        let landed = Mutex::new(lock_rank::EPOCH_ITEMS, VecDeque::new());
        Self { held: AtomicU64::new(FREE), has_landed: AtomicBool::new(false), landed }
    }

    /// Takes the slot if it is free.
    #[inline]
    fn claim(&self, epoch: u64, order: Ordering) -> Option<Held<'_, T>> {
        let is_free = self.held.load(Ordering::Relaxed) == FREE;
        let is_taken = is_free && self.held.compare_exchange(FREE, epoch, order, Ordering::Relaxed).is_ok();
        // Not `then_some`: a `Held` that was made in vain would free the slot of whoever holds it.
        is_taken.then(|| Held(self))
    }

    /// Lets an item land, by who holds the slot.
    pub(crate) fn land(&self, epoch: Epoch, item: T) {
        let mut landed = self.landed.lock();
        landed.push_back((epoch, item));
        self.has_landed.store(true, Ordering::Relaxed);
    }

    /// Takes what landed before an epoch.
    fn take_before(&self, horizon: Epoch) -> VecDeque<Landed<T>> {
        if !self.has_landed.load(Ordering::Relaxed) {
            return VecDeque::new();
        }
        let mut landed = self.landed.lock();
        // All of it is usual, and costs nothing but the exchange.
        if landed.back().is_none_or(|(newest, _)| *newest < horizon) {
            self.has_landed.store(false, Ordering::Relaxed);
            return std::mem::take(&mut *landed);
        }
        let len = landed.partition_point(|(epoch, _)| *epoch < horizon);
        let rest = landed.split_off(len);
        std::mem::replace(&mut *landed, rest)
    }
}

impl<T> Held<'_, T> {
    /// Goes by a later epoch than when the slot was taken.
    #[inline]
    pub(crate) fn raise(&self, from: u64, to: u64) {
        if from != to {
            self.0.held.store(to, Ordering::Release);
        }
    }

    /// Lets an item land.
    pub(crate) fn land(&self, epoch: Epoch, item: T) {
        self.0.land(epoch, item);
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let order = if wrong::is(Wrong::WeakLeave) { Ordering::Relaxed } else { Ordering::Release };
        self.0.held.store(FREE, order);
    }
}

fn block<T>(number: usize) -> Block<T> {
    let len = u32::try_from(number).ok().and_then(|number| FIRST_BLOCK_LEN.checked_shl(number));
    (0..len.unwrap_or(FIRST_BLOCK_LEN)).map(|_| Slot::new()).collect()
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        let further = array::from_fn(|_| OnceLock::new());
        Self { first: block(0), further, announced: AtomicUsize::new(0) }
    }

    /// Where the calling thread looks first.
    #[inline]
    fn usual(&self) -> usize {
        thread_number() % FIRST_BLOCK_LEN
    }

    /// Takes a free slot for an epoch, by an operation of this order.
    #[inline]
    pub(crate) fn claim(&self, epoch: u64, order: Ordering) -> Held<'_, T> {
        let usual = self.first.get(self.usual()).and_then(|slot| slot.claim(epoch, order));
        usual.unwrap_or_else(|| self.claim_any(epoch, order))
    }

    #[cold]
    fn claim_any(&self, epoch: u64, order: Ordering) -> Held<'_, T> {
        let announced = || (1..=FURTHER_BLOCK_COUNT).filter_map(|number| self.announce(number));
        loop {
            let mut all = self.first.iter().chain(announced().flatten());
            if let Some(held) = all.find_map(|slot| slot.claim(epoch, order)) {
                return held;
            }
            // As many are inside as there can be slots: one leaves some time.
            std::hint::spin_loop();
        }
    }

    /// A further block, which is made and announced if it was not.
    fn announce(&self, number: usize) -> Option<&Block<T>> {
        let found = self.further.get(number.checked_sub(1)?)?.get_or_init(|| block(number));
        let is_announced = self.announced.load(Ordering::SeqCst) >= number;
        if !is_announced && !wrong::is(Wrong::FurtherBlockUnannounced) {
            self.announced.fetch_max(number, Ordering::SeqCst);
        }
        Some(found)
    }

    /// Any slot, without taking it.
    pub(crate) fn unclaimed(&self) -> Option<&Slot<T>> {
        self.first.first()
    }

    /// The slots that are announced.
    fn all(&self) -> impl Iterator<Item = &Slot<T>> {
        let announced = self.announced.load(look_order());
        let further = self.further.iter().take(announced).filter_map(|block| block.get());
        iter::once(&self.first).chain(further).flat_map(|block| block.iter())
    }

    /// Every epoch before this one is over; `current` is looked at first.
    pub(crate) fn horizon(&self, current: &AtomicU64) -> Epoch {
        let current = current.load(look_order());
        let current = if wrong::is(Wrong::CurrentEpochStolen) { current.saturating_add(1) } else { current };
        Epoch::new(self.all().map(|slot| slot.held.load(look_order())).fold(current, u64::min))
    }

    /// Takes what landed before an epoch, in no order.
    pub(crate) fn take_before(&self, horizon: Epoch) -> impl Iterator<Item = Landed<T>> {
        self.all().flat_map(move |slot| slot.take_before(horizon))
    }

    /// How many items have landed and were not taken.
    pub(crate) fn landed(&self) -> usize {
        self.all().map(|slot| slot.landed.lock().len()).fold(0, usize::saturating_add)
    }
}
