//! Places at the ends of chains, claimed by many at once: snapshots, each a delta on its parent.
//!
//! Making an entry takes long and can fail; two who begin at once must not both take the last place. So a place is claimed
//! first, which counts it; it is kept when the entry is there, and given back when it is dropped instead, by an error, a panic or a
//! change of mind.
//!
//! Invariants:
//! * A chain's length is the number of its entries and of the places claimed in it, and never more than allowed.
//! * A parent stays as long as an entry or a place hangs on it.
//! * A place that hangs on a parent is counted in the chain that the parent is in now, also when that changes meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use keepstone_types::lock_rank::XOR_DAG_PLACES;

use super::ChainLength;
use crate::sync::{Arc, Mutex};

/// Why a place cannot be claimed, kept or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The chain is full, with what others are making.
    #[error("the chain would have {length} entries, expected at most {max}; begin another with a full one")]
    ChainTooLong {
        /// Entries with the one that was asked for.
        length: usize,
        /// Entries of a chain, at most.
        max: usize,
    },
    /// There is no such entry.
    #[error("the parent was not found; it was removed or never kept")]
    ParentNotFound,
    /// There is an entry of that name already.
    #[error("an entry of that name is kept already")]
    NameTaken,
    /// The entry cannot go before what hangs on it.
    #[error("{dependents} entries or places hang on the entry, expected none")]
    HasDependents {
        /// Entries and places that hang on it.
        dependents: usize,
    },
}

/// Which entries there are, in which chains, and how many places of each are taken.
#[derive(Debug)]
pub struct Places<K> {
    shared: Arc<Mutex<State<K>>>,
    max: usize,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), max: self.max }
    }
}

#[derive(Debug)]
struct State<K> {
    entries: HashMap<K, Member<K>>,
    /// Entries and claimed places of each chain, by the number of the chain.
    lengths: HashMap<u64, usize>,
    next_chain: u64,
}

#[derive(Debug)]
struct Member<K> {
    chain: u64,
    parent: Option<K>,
    dependents: usize,
}

/// A place in a chain that is counted and not yet filled. Dropping it gives it back.
#[must_use = "a place that is dropped is given back; keep it when the entry is there"]
pub struct Place<K: Clone + Eq + Hash> {
    places: Places<K>,
    parent: Option<K>,
    chain: u64,
    is_kept: bool,
}

impl<K: Clone + Eq + Hash> fmt::Debug for Place<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// No entries yet; chains have at most `length`, the full one included.
    #[must_use]
    pub fn new(length: ChainLength) -> Self {
        let state = State { entries: HashMap::new(), lengths: HashMap::new(), next_chain: 0 };
        Self { shared: Arc::new(Mutex::new(XOR_DAG_PLACES, state)), max: length.get().into() }
    }

    /// Claims a place behind `parent`, or the first of a new chain without one.
    ///
    /// # Errors
    /// [`PlaceError::ParentNotFound`], [`PlaceError::ChainTooLong`]; nothing is counted then.
    pub fn claim(&self, parent: Option<&K>) -> Result<Place<K>, PlaceError> {
        let mut state = self.shared.lock();
        let chain = state.join(parent)?;
        let length = state.lengths.get(&chain).copied().unwrap_or_default().saturating_add(1);
        if length > self.max {
            return Err(PlaceError::ChainTooLong { length, max: self.max });
        }
        state.take(chain, parent);
        drop(state);
        Ok(Place { places: self.clone(), parent: parent.cloned(), chain, is_kept: false })
    }

    /// Frees the place of an entry that is gone.
    ///
    /// # Errors
    /// [`PlaceError::HasDependents`], [`PlaceError::ParentNotFound`] when there is no such entry; nothing is freed then.
    pub fn remove(&self, key: &K) -> Result<(), PlaceError> {
        let mut state = self.shared.lock();
        let dependents = state.entries.get(key).ok_or(PlaceError::ParentNotFound)?.dependents;
        if dependents > 0 {
            return Err(PlaceError::HasDependents { dependents });
        }
        if let Some(Member { chain, parent, .. }) = state.entries.remove(key) {
            state.release(chain, parent.as_ref());
        }
        Ok(())
    }

    /// Takes over an entry that is there already, whatever the limit says: chains of an earlier life may be longer.
    ///
    /// # Errors
    /// [`PlaceError::NameTaken`], [`PlaceError::ParentNotFound`]; nothing is counted then.
    pub fn restore(&self, key: K, parent: Option<&K>) -> Result<(), PlaceError> {
        let mut state = self.shared.lock();
        if state.entries.contains_key(&key) {
            return Err(PlaceError::NameTaken);
        }
        let chain = state.join(parent)?;
        state.take(chain, parent);
        state.entries.insert(key, Member { chain, parent: parent.cloned(), dependents: 0 });
        Ok(())
    }

    /// Makes an entry the first of a chain of its own, with everything that hangs on it: it no longer needs its parent.
    ///
    /// # Errors
    /// [`PlaceError::ParentNotFound`] when there is no such entry.
    pub fn detach(&self, key: &K) -> Result<(), PlaceError> {
        let mut state = self.shared.lock();
        let member = state.entries.get_mut(key).ok_or(PlaceError::ParentNotFound)?;
        let Some(parent) = member.parent.take() else { return Ok(()) };
        let old = member.chain;
        let moved = state.descendants(key);
        let new = state.new_chain();
        // Each of the entries but the first is a dependent of another, and so is each place that is claimed behind them.
        let mut count = 1_usize;
        for key in &moved {
            if let Some(member) = state.entries.get_mut(key) {
                member.chain = new;
                count = count.saturating_add(member.dependents);
            }
        }
        state.lengths.insert(new, count);
        for _ in 1..count {
            state.release(old, None);
        }
        state.release(old, Some(&parent));
        Ok(())
    }

    /// Entries and claimed places of the chain that an entry is in; `None` without such an entry.
    #[must_use]
    pub fn length(&self, key: &K) -> Option<usize> {
        let state = self.shared.lock();
        let chain = state.entries.get(key)?.chain;
        state.lengths.get(&chain).copied()
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn new_chain(&mut self) -> u64 {
        let chain = self.next_chain;
        self.next_chain = chain.saturating_add(1);
        chain
    }

    /// The chain of what is to hang on `parent`; a new one for what hangs on nothing.
    fn join(&mut self, parent: Option<&K>) -> Result<u64, PlaceError> {
        match parent {
            None => Ok(self.new_chain()),
            Some(parent) => Ok(self.entries.get(parent).ok_or(PlaceError::ParentNotFound)?.chain),
        }
    }

    /// One place of a chain more, and one that hangs on `parent`.
    fn take(&mut self, chain: u64, parent: Option<&K>) {
        let length = self.lengths.entry(chain).or_default();
        *length = length.saturating_add(1);
        if let Some(member) = parent.and_then(|parent| self.entries.get_mut(parent)) {
            member.dependents = member.dependents.saturating_add(1);
        }
    }

    /// The chain of what hangs on `parent`, or the one that a place began.
    fn chain_of(&self, parent: Option<&K>, began: u64) -> u64 {
        parent.and_then(|parent| self.entries.get(parent)).map_or(began, |parent| parent.chain)
    }

    /// An entry and all that hang on it.
    fn descendants(&self, key: &K) -> Vec<K> {
        let mut found = vec![key.clone()];
        let mut next = 0;
        while let Some(above) = found.get(next).cloned() {
            let children = self.entries.iter().filter(|(_, member)| member.parent.as_ref() == Some(&above));
            found.extend(children.map(|(child, _)| child.clone()));
            next = next.saturating_add(1);
        }
        found
    }

    /// One place of a chain fewer, and one that hangs on `parent`.
    fn release(&mut self, chain: u64, parent: Option<&K>) {
        if let Some(length) = self.lengths.get_mut(&chain) {
            *length = length.saturating_sub(1);
            if *length == 0 {
                self.lengths.remove(&chain);
            }
        }
        if let Some(member) = parent.and_then(|parent| self.entries.get_mut(parent)) {
            member.dependents = member.dependents.saturating_sub(1);
        }
    }
}

impl<K: Clone + Eq + Hash> Place<K> {
    /// Fills the place: the entry is there, under this name.
    ///
    /// # Errors
    /// [`PlaceError::NameTaken`]; the place is given back.
    pub fn keep(mut self, key: K) -> Result<(), PlaceError> {
        let mut state = self.places.shared.lock();
        if state.entries.contains_key(&key) {
            drop(state);
            return Err(PlaceError::NameTaken);
        }
        let parent = self.parent.take();
        let chain = state.chain_of(parent.as_ref(), self.chain);
        state.entries.insert(key, Member { chain, parent, dependents: 0 });
        drop(state);
        self.is_kept = true;
        Ok(())
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if !self.is_kept {
            let mut state = self.places.shared.lock();
            let chain = state.chain_of(self.parent.as_ref(), self.chain);
            state.release(chain, self.parent.as_ref());
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "model"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    fn places(max: u16) -> Places<u32> {
        let places = Places::new(ChainLength::new(max).unwrap());
        places.claim(None).unwrap().keep(0).unwrap();
        places
    }

    #[test]
    fn every_way_out_gives_the_place_back() {
        let places = places(3);
        drop(places.claim(Some(&0)).unwrap());
        let panicking = catch_unwind(AssertUnwindSafe(|| {
            let _place = places.claim(Some(&0)).unwrap();
            panic!("on purpose");
        }));
        assert!(panicking.is_err());
        assert_eq!(places.claim(Some(&0)).unwrap().keep(0), Err(PlaceError::NameTaken));
        assert_eq!(places.claim(Some(&7)).unwrap_err(), PlaceError::ParentNotFound);
        assert_eq!(places.length(&0), Some(1));
        places.remove(&0).unwrap();
        assert!(places.shared.lock().lengths.is_empty(), "an empty chain leaves nothing");
    }

    #[test]
    fn a_chain_is_full_with_what_is_being_made() {
        let places = places(3);
        let first = places.claim(Some(&0)).unwrap();
        first.keep(1).unwrap();
        let second = places.claim(Some(&1)).unwrap();
        let full = PlaceError::ChainTooLong { length: 4, max: 3 };
        assert_eq!(places.claim(Some(&0)).unwrap_err(), full);
        assert_eq!(places.remove(&1), Err(PlaceError::HasDependents { dependents: 1 }));
        drop(second);
        places.claim(Some(&1)).unwrap().keep(2).unwrap();
        assert_eq!(places.claim(Some(&2)).unwrap_err(), full);
        assert_eq!((places.remove(&2), places.remove(&2)), (Ok(()), Err(PlaceError::ParentNotFound)));
        assert_eq!((places.length(&1), places.length(&2)), (Some(2), None));
        // Another chain has a length of its own.
        places.claim(None).unwrap().keep(9).unwrap();
        assert_eq!(places.length(&9), Some(1));
    }

    #[test]
    fn an_entry_that_is_detached_takes_along_what_hangs_on_it() {
        let places = places(8);
        for (key, parent) in [(1, 0), (2, 1), (3, 2), (4, 1)] {
            places.claim(Some(&parent)).unwrap().keep(key).unwrap();
        }
        let (kept, dropped) = (places.claim(Some(&3)).unwrap(), places.claim(Some(&2)).unwrap());
        assert_eq!(places.length(&0), Some(7));
        assert_eq!(places.detach(&9), Err(PlaceError::ParentNotFound));
        places.detach(&2).unwrap();
        assert_eq!((places.length(&0), places.length(&2), places.length(&3)), (Some(3), Some(4), Some(4)));
        places.detach(&2).unwrap();
        drop(dropped);
        kept.keep(5).unwrap();
        assert_eq!((places.length(&0), places.length(&5)), (Some(3), Some(3)));
        assert_eq!((places.remove(&4), places.remove(&1), places.remove(&0)), (Ok(()), Ok(()), Ok(())));
        for key in [5, 3, 2] {
            places.remove(&key).unwrap();
        }
        assert!(places.shared.lock().lengths.is_empty());
    }

    #[test]
    fn what_is_there_is_taken_over_whatever_the_limit_is() {
        let places = places(2);
        for key in 1..5 {
            places.restore(key, Some(&(key - 1))).unwrap();
        }
        assert_eq!(places.restore(4, None), Err(PlaceError::NameTaken));
        assert_eq!(places.restore(8, Some(&7)), Err(PlaceError::ParentNotFound));
        assert_eq!(places.length(&0), Some(5));
        assert_eq!(places.claim(Some(&4)).unwrap_err(), PlaceError::ChainTooLong { length: 6, max: 2 });
        places.detach(&4).unwrap();
        places.claim(Some(&4)).unwrap().keep(9).unwrap();
        assert_eq!((places.length(&0), places.length(&4)), (Some(4), Some(2)));
    }

    #[test]
    fn many_at_once_fill_a_chain_and_never_more() {
        for round in 0_u32..200 {
            let places = places(8);
            thread::scope(|scope| {
                for number in 1..=6 {
                    let places = places.clone();
                    scope.spawn(move || {
                        for turn in 0..10 {
                            let Ok(place) = places.claim(Some(&0)) else { continue };
                            assert!(places.length(&0).unwrap() <= 8);
                            if (turn + number + round) % 3 == 0 {
                                place.keep(number * 100 + turn).unwrap();
                            }
                        }
                    });
                }
            });
            let kept = places.shared.lock().entries.len();
            assert_eq!(places.length(&0), Some(kept));
            let free: Vec<_> = (kept..8).map(|_| places.claim(Some(&0)).unwrap()).collect();
            assert!(places.claim(Some(&0)).is_err() && free.len() == 8 - kept);
        }
    }
}
