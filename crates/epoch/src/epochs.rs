//! The epochs: entering and leaving, submitting, advancing, stealing; and why nothing runs early.
//!
//! `current` is a counter. Who enters or submits takes a *slot*, which holds an epoch while that lasts. A thief reads
//! `current`, then all slots, and calls the smallest of these numbers the *horizon*: epochs before it are *over*.
//!
//! # The steps
//!
//! | step | does, in this order |
//! |---|---|
//! | enter | E0 read `current`, `Relaxed`: *c*; E1 slot: free → *c*, `SeqCst`; E2 read `current`, `SeqCst`: *e*, the guard's epoch; E3 slot ← *e* if it is not *c*, `Release` |
//! | leave | L1 slot ← free, `Release` |
//! | submit | S1 as E0 and E1, but `AcqRel`; S2 `fetch_add(0)` on `current`, `AcqRel`: *e*, where the item lands; S3 push it to the slot's queue, under its lock; S4 as L1 |
//! | advance | A1 `fetch_add(1)` on `current`, `AcqRel` |
//! | steal | T0 take the turn; T1 read `current`, `SeqCst`: *g*; T2 read every slot, `SeqCst`; *h* = the smallest; T3 take what landed before *h* from every queue, under its lock |
//!
//! # None runs early
//!
//! *Claim: when a thief has looked, no guard and no submitter of an epoch before h is inside, and none ever will be.*
//!
//! A slot never holds more than the epoch *e* of its holder: *c* ≤ *e*, because both are read from one counter that only
//! rises, one after the other. So a holder that T2 sees has *e* ≥ *h*. Let T2 miss a holder because it reads the slot as it was
//! before E1 or S1. What is wanted is that this holder's *e* is *g* at least, and so *h* at least.
//!
//! * A reader: E1, E2, T1 and T2 are sequentially consistent. All such operations have one order that agrees with each thread's
//!   own and with which write of a place comes before which. In it T1 is before T2, T2 before E1 because it missed it, and E1
//!   before E2. If E2 read less than T1, it would be before T1: a circle. So *e* ≥ *g*. This is why the epoch is read *again*
//!   behind E1, and why that needs no loop: *c* may be old, which holds back more than it must until E3, never less.
//! * A submitter: if S2 took less than *g*, the advance that made *g* would have read from S2 or from what followed it, and T1 from
//!   that. These acquire and release, so S1 would happen before T2, which would not have missed it.
//!
//! From the claim: no guard of an epoch up to *f* is alive when an item that landed in *f* is handed out, because *f* < *h*.
//! And an epoch is handed out whole: who landed in it has left its slot, so S3 happened before S4, which T2 or a later holder's
//! E1 acquired, and T3 finds it: whether a queue has anything is written under its lock, so T3 reads what S3 wrote there, or
//! what a thief wrote who has taken it since. Slots of a further block are missed as little: that the block is there is announced before E1,
//! and T2 reads how many are announced behind T1, all sequentially consistent; so the same order holds.
//!
//! # What is seen
//!
//! *Everything before a submit that landed in f happens before everything behind an enter of a later epoch.* S2 writes
//! `current` (that is why it adds nothing instead of reading), the A1 that ends *f* reads from S2 or from what follows it, and an
//! E2 that reads a later epoch reads from that A1 or what follows. All of these acquire and release, and an unbroken chain of
//! them keeps what the first released. So who has unlinked something, and then submits its removal, can be sure that a reader of
//! a later epoch finds it unlinked, whatever orderings the links are read with.
//!
//! *Everything before a leave happens before an item runs that waited for it.* L1 releases and T2 acquires; a slot that was
//! taken again meanwhile passes it on, because E1 acquires, and E3 and L1 release. What another thread found over comes with `over`,
//! which it changed by an operation that releases, and the thief by one that acquires.
//!
//! # Nothing waits without end
//!
//! Entering, leaving, submitting and advancing never wait for a reader; nothing here is tried a limited number of times and then done
//! without. The lock of a queue is held for one push or one cut, never while an item runs. What was found over stays
//! over, whoever enters later (that is what `over` is for: *h* can be less for the moment from E1 to E3, which would put what a
//! thief gave back at or behind it), and a thief that has the turn takes *all* that is due. `None` says that there is nothing due, or that
//! another thief has the turn; so what becomes due while one thief works is the matter of whoever steals next. The turn and
//! what is left of a batch go back in destructors, so they go back in a panic.
//!
//! # What the models cannot see
//!
//! `loom` takes operations of the order `SeqCst` for acquire and release; the models put a `SeqCst` fence before each, which
//! gives them the one order that is argued with here. A fence is stronger: what is behind it is released by any store that
//! follows, so the models cannot show that E3 must release (it was tried), nor that something relies on an order between a
//! sequentially consistent operation and one that is not. `loom` lets no load see a store that comes later in its thread's
//! program. `OnceLock` is taken by its contract.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use keepstone_types::lock_rank;

use crate::batch::{Batch, Turn};
use crate::epoch::Epoch;
use crate::slots::{Held, Landed, Slots};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::wrong::{self, Wrong};

/// Something on cache lines of its own, so that who changes it disturbs nobody who reads something else.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<V>(V);

/// What thieves share, and nobody else looks at.
#[derive(Debug)]
struct Thieving<T> {
    /// The greatest horizon that was found.
    over: AtomicU64,
    is_taken: AtomicBool,
    /// What thieves took and did not come to; all of it is due.
    returned: Mutex<VecDeque<Landed<T>>>,
}

/// Items that wait until nobody is left who entered in their epoch or before it.
///
/// What the items are is the caller's matter: a place that becomes free, a file to remove, a [`Deferred`](crate::Deferred).
///
/// Dropping this drops the items that are left, each even if another panics while it is dropped; then the first panic goes
/// on, unless one is under way already. Work that must be done whatever happens is done by the item's own destructor (as that of [`Deferred`](crate::Deferred)
/// does), or what is left is taken with [`into_items`](Epochs::into_items).
#[derive(Debug)]
#[must_use = "items that are left are dropped with this"]
pub struct Epochs<T> {
    current: Alone<AtomicU64>,
    slots: Slots<T>,
    thieving: Alone<Thieving<T>>,
}

/// Being inside, until this is dropped: nothing that lands in this guard's epoch or later is handed out.
///
/// A guard may be dropped by another thread than the one that entered. One that is leaked (`mem::forget`) stays inside for ever.
#[derive(Debug)]
#[must_use = "this is left as soon as it is dropped"]
pub struct Guard<'a, T> {
    _held: Held<'a, T>,
    epoch: Epoch,
}

impl<T> Guard<'_, T> {
    /// The epoch that was current when this was entered.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl<T> Default for Epochs<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Epochs<T> {
    /// The first epoch, with nobody inside and nothing submitted.
    pub fn new() -> Self {
        let first = || AtomicU64::new(Epoch::FIRST.get());
        let returned = Mutex::new(lock_rank::EPOCH_ITEMS, VecDeque::new());
        let thieving = Thieving { over: first(), is_taken: AtomicBool::new(false), returned };
        Self { current: Alone(first()), slots: Slots::new(), thieving: Alone(thieving) }
    }

    /// Enters the current epoch. Never waits; costs one atomic exchange, and a store when the guard is dropped, on memory that
    /// a thread usually has for itself.
    #[inline]
    pub fn enter(&self) -> Guard<'_, T> {
        let strict = |order, weaker| if wrong::is(Wrong::WeakEnter) { weaker } else { order };
        let before = self.current.0.load(Ordering::Relaxed);
        let held = self.slots.claim(before, strict(Ordering::SeqCst, Ordering::AcqRel));
        let now = self.current.0.load(strict(Ordering::SeqCst, Ordering::Acquire));
        let now = if wrong::is(Wrong::EnterWithoutLookingAgain) { before } else { now };
        held.raise(before, now);
        Guard { _held: held, epoch: Epoch::new(now) }
    }

    /// Hands in an item and says which epoch it landed in: the current one. It is due when that epoch is over.
    ///
    /// What the item takes away must be out of reach for readers that enter from now on.
    pub fn submit(&self, item: T) -> Epoch {
        let order = if wrong::is(Wrong::WeakLanding) { Ordering::Relaxed } else { Ordering::AcqRel };
        let landing = || Epoch::new(self.current.0.fetch_add(0, order));
        if wrong::is(Wrong::SubmitterUncounted) {
            let epoch = landing();
            if let Some(slot) = self.slots.unclaimed() {
                slot.land(epoch, item);
            }
            return epoch;
        }
        let held = self.slots.claim(self.current.0.load(Ordering::Relaxed), Ordering::AcqRel);
        let epoch = landing();
        held.land(epoch, item);
        epoch
    }

    /// Ends the current epoch and says which begins. What was submitted is due once the readers of the time have left.
    pub fn advance(&self) -> Epoch {
        Epoch::new(self.current.0.fetch_add(1, Ordering::AcqRel).saturating_add(1))
    }

    /// The current epoch.
    #[must_use]
    pub fn current(&self) -> Epoch {
        Epoch::new(self.current.0.load(Ordering::Acquire))
    }

    /// Every epoch before this one is over: it has ended, all who entered or submitted in it are done, and nobody will again.
    /// At most the current epoch; never falls. Looks at every slot.
    #[must_use]
    pub fn horizon(&self) -> Epoch {
        let found = self.slots.horizon(&self.current.0);
        // What is over stays so, although a slot may hold an older epoch for a moment (E1 to E3).
        let order = if wrong::is(Wrong::WeakOver) { Ordering::Relaxed } else { Ordering::AcqRel };
        let before = Epoch::new(self.thieving.0.over.fetch_max(found.get(), order));
        found.max(before)
    }

    /// Takes everything that is due, and the turn to steal, until the batch is dropped. `None` when nothing is due or another
    /// thief has the turn. Never waits for readers or thieves.
    pub fn try_steal(&self) -> Option<Batch<'_, T>> {
        let turn = Turn::take(&self.thieving.0.is_taken)?;
        let horizon = self.horizon();
        let mut items = std::mem::take(&mut *self.thieving.0.returned.lock());
        items.extend(self.slots.take_before(horizon));
        if items.is_empty() {
            return None;
        }
        items.make_contiguous().sort_by_key(|(epoch, _)| *epoch);
        Some(Batch::new(items, horizon, &self.thieving.0.returned, turn))
    }

    /// Steals until nothing is due, and gives each item to `run`, oldest epoch first; gives how many there were.
    ///
    /// When `run` panics, that item is gone, and those behind it are the next thief's.
    pub fn run_due(&self, mut run: impl FnMut(T)) -> usize {
        let mut count = 0_usize;
        while let Some(batch) = self.try_steal() {
            for (_, item) in batch {
                run(item);
                count = count.saturating_add(1);
            }
        }
        count
    }

    /// How many items wait, due or not; those in a batch are not among them. Looks at every slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let returned = self.thieving.0.returned.lock().len();
        returned.saturating_add(self.slots.landed())
    }

    /// All items, oldest epoch first: nobody can be inside any more.
    #[must_use = "the items are dropped with what this gives"]
    pub fn into_items(self) -> Vec<(Epoch, T)> {
        self.take_all()
    }

    fn take_all(&self) -> Vec<(Epoch, T)> {
        let mut items = Vec::from(std::mem::take(&mut *self.thieving.0.returned.lock()));
        items.extend(self.slots.take_before(Epoch::new(u64::MAX)));
        items.sort_by_key(|(epoch, _)| *epoch);
        items
    }
}

impl<T> Drop for Epochs<T> {
    fn drop(&mut self) {
        let mut panicked = None;
        for item in self.take_all() {
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(item)));
            panicked = panicked.or(dropped.err());
        }
        if let Some(panicked) = panicked
            && !std::thread::panicking()
        {
            resume_unwind(panicked);
        }
    }
}
