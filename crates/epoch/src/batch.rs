//! What a thief takes: the turn to steal, and items that are due.

use std::collections::VecDeque;
use std::iter::FusedIterator;

use crate::epoch::Epoch;
use crate::slots::Landed;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::wrong::{self, Wrong};

/// The one turn to steal, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    /// Takes the turn unless somebody has it.
    pub(crate) fn take(is_taken: &'a AtomicBool) -> Option<Self> {
        let taken = is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        let is_mine = taken.is_ok() || wrong::is(Wrong::TwoThieves);
        // Not `then_some`: a `Turn` that was made in vain would give back the other's.
        is_mine.then(|| Self(is_taken))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if wrong::is(Wrong::TurnKeptByPanic) && std::thread::panicking() {
            return;
        }
        self.0.store(false, Ordering::Release);
    }
}

/// Items that are due, each with the epoch it landed in, oldest epoch first; and the turn to steal, which nobody else has as
/// long as this lives.
///
/// An item that was taken out of here is the taker's. When the batch is dropped, in a panic too, what is left in it goes to
/// the next thief, before anything else. A batch that is leaked (`mem::forget`) keeps its items and the turn for ever.
#[derive(Debug)]
#[must_use = "items that are not taken out go back when this is dropped"]
pub struct Batch<'a, T> {
    items: VecDeque<Landed<T>>,
    horizon: Epoch,
    returned: &'a Mutex<VecDeque<Landed<T>>>,
    // Last, so that it is dropped when the items are back.
    _turn: Turn<'a>,
}

impl<'a, T> Batch<'a, T> {
    /// A batch of all items before `horizon`.
    pub(crate) const fn new(
        items: VecDeque<Landed<T>>,
        horizon: Epoch,
        returned: &'a Mutex<VecDeque<Landed<T>>>,
        turn: Turn<'a>,
    ) -> Self {
        Self { items, horizon, returned, _turn: turn }
    }

    /// Epochs before this one are in the batch whole, or were in one before: nothing lands in them any more.
    #[must_use]
    pub const fn horizon(&self) -> Epoch {
        self.horizon
    }
}

impl<T> Iterator for Batch<'_, T> {
    type Item = (Epoch, T);

    fn next(&mut self) -> Option<Self::Item> {
        self.items.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.items.len(), Some(self.items.len()))
    }
}

impl<T> ExactSizeIterator for Batch<'_, T> {}

impl<T> FusedIterator for Batch<'_, T> {}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.items);
        if rest.is_empty() || (wrong::is(Wrong::RestLostByPanic) && std::thread::panicking()) {
            return;
        }
        self.returned.lock().append(&mut rest);
    }
}
