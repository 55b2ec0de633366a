//! What was attempted, seen and promised, and when: the naive model that a store is held against after a crash.
//!
//! Moments are positions in the trace of the disk. An entry is what one commit leaves: its number and everything that a
//! reader of it sees.
//!
//! The rules, for a crash at moment `at`:
//! * What is found ends with an entry that was attempted before `at`, or is what there was at first.
//! * It does not end before the last entry that was promised by `at`; if only the process died, also not before the
//!   last one that was written in that life, unless the disk failed in it.
//! * An entry that an opening has shown to be gone stays gone.
//! * A number that a reader may have seen never names another content.

use std::collections::BTreeMap;

use super::tally::{Failure, FailureKind};

/// When a run ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The position in the trace: this many events had happened.
    pub at: usize,
    /// Only the process died: what was written is still seen.
    pub killed: bool,
}

#[derive(Clone, Debug)]
struct Entry<C> {
    number: u64,
    content: C,
    attempted: usize,
    seen: Option<usize>,
    promised: Option<usize>,
    gone: Option<usize>,
    /// It may have been seen in an earlier life.
    seen_before: bool,
    /// The process died after it was written, and the system has it.
    cached: bool,
}

/// The model. `C` is what a reader sees at one number.
#[derive(Clone, Debug)]
pub struct Ledger<C> {
    first: C,
    entries: Vec<Entry<C>>,
    /// Numbers that may have been seen and are gone, and since when.
    spent: BTreeMap<u64, usize>,
    /// What was allowed to go, and since when.
    released: Vec<(u64, usize)>,
    /// The number of the next attempt, when whoever attempts does not learn it beforehand.
    next: u64,
    /// What told the contents apart so far.
    tags: u64,
    /// Since when what is not promised may be lost although the system goes on.
    doubtful: Option<usize>,
}

fn by(moment: Option<usize>, at: usize) -> bool {
    moment.is_some_and(|moment| moment <= at)
}

impl<C: Clone> Ledger<C> {
    /// Nothing was attempted; a reader sees `first`.
    pub const fn new(first: C) -> Self {
        Self {
            first,
            entries: Vec::new(),
            spent: BTreeMap::new(),
            released: Vec::new(),
            next: 1,
            tags: 0,
            doubtful: None,
        }
    }

    /// What a reader of the newest entry that is not gone sees.
    #[must_use]
    pub fn newest(&self) -> &C {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.gone.is_none())
            .map_or(&self.first, |entry| &entry.content)
    }

    /// The numbers that a reader may ask for, oldest first, each with what it sees.
    pub fn readable(&self) -> impl DoubleEndedIterator<Item = (u64, &C)> {
        let there = self.entries.iter().filter(|entry| entry.gone.is_none() && entry.seen.is_some());
        there.map(|entry| (entry.number, &entry.content))
    }

    /// Something is about to be committed that will have this number.
    ///
    /// # Errors
    /// When the number has named something that a reader may have seen.
    pub fn attempt(&mut self, number: u64, content: C, at: usize) -> Result<(), Failure> {
        let used = self.spent.contains_key(&number)
            || self.entries.iter().any(|entry| entry.number == number && entry.gone.is_none());
        if used {
            return Err(Failure::new(
                FailureKind::Invented,
                format!("number {number:#x} is used a second time"),
            ));
        }
        let entry = Entry {
            number,
            content,
            attempted: at,
            seen: None,
            promised: None,
            gone: None,
            seen_before: false,
            cached: false,
        };
        self.entries.push(entry);
        self.next = number.saturating_add(1);
        Ok(())
    }

    /// Everything through a number may be seen by readers from now on.
    pub fn seen(&mut self, through: u64, at: usize) {
        for entry in self.entries.iter_mut().filter(|entry| entry.number <= through && entry.gone.is_none()) {
            entry.seen.get_or_insert(at);
        }
    }

    /// Everything through a number is promised from now on: it was acknowledged as durable.
    pub fn promised(&mut self, through: u64, at: usize) {
        self.seen(through, at);
        for entry in self.entries.iter_mut().filter(|entry| entry.number <= through && entry.gone.is_none()) {
            entry.promised.get_or_insert(at);
        }
    }

    /// The disk fails from now on: what is not promised may be lost although the system goes on.
    pub fn doubt(&mut self, at: usize) {
        self.doubtful.get_or_insert(at);
    }

    /// The newest number up to `limit` that is not gone, 0 for none.
    #[must_use]
    pub fn newest_through(&self, limit: u64) -> u64 {
        let live = self.entries.iter().filter(|entry| entry.gone.is_none() && entry.number <= limit);
        live.map(|entry| entry.number).max().unwrap_or(0)
    }

    /// Everything through a number may go from now on.
    pub fn released(&mut self, through: u64, at: usize) {
        self.released.push((through, at));
    }

    /// The last number that may have gone because it was released; 0 when nothing was.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.released.iter().map(|(through, _)| *through).max().unwrap_or(0)
    }

    /// Everything from a number on failed and was never written.
    ///
    /// # Errors
    /// When some of it was seen.
    pub fn withdraw(&mut self, from: u64, at: usize) -> Result<(), Failure> {
        for entry in self.entries.iter_mut().filter(|entry| entry.number >= from && entry.gone.is_none()) {
            if entry.seen.is_some() {
                let what = format!("number {:#x} was seen, and then refused", entry.number);
                return Err(Failure::new(FailureKind::Lost, what));
            }
            entry.gone = Some(at);
            self.next = self.next.min(entry.number);
        }
        Ok(())
    }

    /// The number that the next attempt gets, if numbers follow each other.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// The next attempt gets this number: a store was opened and says so.
    pub const fn go_on_with(&mut self, next: u64) {
        self.next = next;
    }

    /// A number that grows with every content, so that no two are the same.
    #[must_use]
    pub const fn tags(&self) -> u64 {
        self.tags
    }

    /// Contents were told apart with numbers through this one.
    pub const fn note_tags(&mut self, through: u64) {
        self.tags = through;
    }

    /// What is known at the moment of a crash, for the life that comes after it.
    #[must_use]
    pub fn after(&self, crash: Crash) -> Self {
        let mut next = Self::new(self.first.clone());
        let spent = self.spent.iter().filter(|(_, at)| **at <= crash.at);
        next.spent = spent.map(|(number, _)| (*number, 0)).collect();
        (next.next, next.tags) = (self.next, self.tags);
        let released = self.released.iter().filter(|(_, at)| *at < crash.at || *at == 0);
        next.released = released.map(|(through, _)| (*through, 0)).collect();
        for entry in self.entries.iter().filter(|entry| entry.attempted < crash.at || entry.attempted == 0) {
            let seen = by(entry.seen, crash.at);
            let seen_before = seen || entry.seen_before;
            if by(entry.gone, crash.at) {
                next.spent.extend(seen_before.then_some((entry.number, 0)));
                continue;
            }
            next.entries.push(Entry {
                attempted: 0,
                seen: None,
                promised: by(entry.promised, crash.at).then_some(0),
                gone: None,
                seen_before,
                cached: crash.killed && !by(self.doubtful, crash.at) && (seen || entry.cached),
                ..entry.clone()
            });
        }
        next
    }

    /// A store was opened and its newest number is `found`, 0 for none: is that allowed? From now on what it holds is
    /// promised, and what it does not hold is gone.
    ///
    /// # Errors
    /// When something promised is gone, or something is there that was not attempted.
    pub fn opened(&mut self, found: u64, at: usize) -> Result<(), Failure> {
        let live = || self.entries.iter().filter(|entry| entry.gone.is_none());
        let kept = |entry: &&Entry<C>| entry.promised.is_some() || entry.cached;
        let last_promised = live().rev().find(kept).map_or(0, |entry| entry.number);
        if found < last_promised {
            let what = format!("the store ends with {found:#x}, promised was {last_promised:#x}");
            return Err(Failure::new(FailureKind::Lost, what));
        }
        if found != 0 && !live().any(|entry| entry.number == found) {
            let known: Vec<_> = live().map(|entry| format!("{:#x}", entry.number)).collect();
            let what = format!("the store ends with {found:#x}, attempted were {}", known.join(", "));
            return Err(Failure::new(FailureKind::Invented, what));
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.gone.is_none() && entry.number > found) {
            entry.gone = Some(at);
            let was_seen = entry.seen.is_some() || entry.seen_before;
            self.spent.extend(was_seen.then_some((entry.number, at)));
        }
        self.promised(found, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER: fn(usize) -> Crash = |at| Crash { at, killed: false };

    /// Three entries: one promised at 10, one seen at 12, one only attempted at 15.
    fn ledger() -> Ledger<&'static str> {
        let mut ledger = Ledger::new("");
        ledger.attempt(1, "a", 5).unwrap();
        ledger.promised(1, 10);
        ledger.attempt(2, "ab", 11).unwrap();
        ledger.seen(2, 12);
        ledger.attempt(3, "abc", 15).unwrap();
        ledger
    }

    fn verdict(crash: Crash, found: u64) -> Result<(), FailureKind> {
        ledger().after(crash).opened(found, 3).map_err(|failure| failure.kind)
    }

    #[test]
    fn what_may_be_found_depends_on_the_moment() {
        assert_eq!(verdict(POWER(4), 0), Ok(()));
        assert_eq!(verdict(POWER(5), 1), Err(FailureKind::Invented));
        assert_eq!(verdict(POWER(9), 0), Ok(()));
        assert_eq!(verdict(POWER(9), 1), Ok(()));
        assert_eq!(verdict(POWER(10), 0), Err(FailureKind::Lost));
        assert_eq!(verdict(POWER(13), 1), Ok(()));
        assert_eq!(verdict(Crash { at: 13, killed: true }, 1), Err(FailureKind::Lost));
        assert_eq!(verdict(POWER(13), 3), Err(FailureKind::Invented));
        assert_eq!(verdict(POWER(16), 3), Ok(()));
        assert_eq!(verdict(POWER(16), 7), Err(FailureKind::Invented));
    }

    #[test]
    fn what_an_opening_has_shown_is_promised_and_what_it_has_not_shown_is_gone() {
        let mut next = ledger().after(POWER(16));
        next.opened(2, 7).unwrap();
        assert_eq!(*next.newest(), "ab");
        assert_eq!(next.clone().after(POWER(8)).opened(1, 1).unwrap_err().kind, FailureKind::Lost);
        assert_eq!(next.clone().after(POWER(8)).opened(3, 1).unwrap_err().kind, FailureKind::Invented);
        // Before it was shown, either was possible.
        assert_eq!(next.clone().after(POWER(6)).opened(3, 1), Ok(()));
        assert_eq!(next.after(POWER(6)).opened(1, 1), Ok(()));
    }

    #[test]
    fn a_number_that_was_seen_is_spent_and_one_that_was_not_is_free() {
        let mut next = ledger().after(POWER(16));
        next.opened(1, 7).unwrap();
        assert_eq!(next.attempt(2, "ax", 9).unwrap_err().kind, FailureKind::Invented);
        next.attempt(3, "ax", 9).unwrap();
        let mut third = next.clone().after(POWER(20));
        third.opened(3, 1).unwrap();
        assert!(third.attempt(2, "ay", 2).is_err(), "also in the life after the next");
        // Before the opening that showed it to be gone, it may still be there, and may be lost once more.
        let mut other = next.after(POWER(6));
        other.opened(2, 1).unwrap();
        assert_eq!(*other.newest(), "ab");
    }

    #[test]
    fn what_was_refused_must_not_have_been_seen_and_must_not_come_back() {
        let mut ledger = ledger();
        assert_eq!(ledger.clone().withdraw(2, 20).unwrap_err().kind, FailureKind::Lost);
        ledger.withdraw(3, 20).unwrap();
        assert_eq!(ledger.after(POWER(21)).opened(3, 1).unwrap_err().kind, FailureKind::Invented);
        ledger.attempt(3, "abd", 22).unwrap();
        ledger.after(POWER(23)).opened(3, 1).unwrap();
    }
}
