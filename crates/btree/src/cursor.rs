//! A place in a tree, and moving it row by row.
//!
//! Invariants:
//! * A cursor stands on a row, before the first or behind the last. What it shows of a row was taken from one leaf.
//! * Moving one way, keys and the separators that are passed ascend (or descend) strictly, or the tree is damaged. So no
//!   page, whatever refers to it, keeps a cursor going round.
//! * Moving takes no memory for a row: the key is put together in a buffer that is kept.

use std::cmp::Ordering;
use std::ops::Bound;

use keepstone_pager::{Page, PageRead};
use keepstone_types::{Generation, PageRef};

use crate::error::TreeError;
use crate::inner::Inner;
use crate::keys::Layout;
use crate::leaf::Leaf;
use crate::root::TreeRoot;
use crate::run::LeafRun;
use crate::value::{Body, Found, Stored};

/// A place in a tree. It keeps the pages on the way to it, and nothing else, alive.
///
/// After an error the cursor stands behind the last row and can be sought anew.
#[derive(Debug)]
pub struct Cursor<'a, P: PageRead + ?Sized> {
    pages: &'a P,
    root: TreeRoot,
    since: Option<Generation>,
    /// The inner pages from the top down to the leaf, each with the child that was taken.
    path: Vec<Step>,
    leaf: Option<Page>,
    place: Place,
    index: usize,
    /// The key of the row, if the cursor stands on one. It begins with the prefix of the leaf.
    key: Vec<u8>,
    /// How the leaf is laid out.
    layout: Layout,
    /// The stored length of the value, where the value or the reference to it stands in the leaf, and its bytes there.
    value: (u64, usize, usize),
    /// The separator that was passed last, and which way.
    passed: Vec<u8>,
    passing: Option<Direction>,
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Step {
    page: Page,
    child: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BeforeFirst,
    OnRow,
    BehindLast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// How what comes next must compare with what was before.
    const fn order(self) -> Ordering {
        match self {
            Self::Forward => Ordering::Greater,
            Self::Backward => Ordering::Less,
        }
    }
}

impl<'a, P: PageRead + ?Sized> Cursor<'a, P> {
    pub(crate) fn new(pages: &'a P, root: TreeRoot, since: Option<Generation>) -> Self {
        Self {
            pages,
            root,
            since,
            path: Vec::with_capacity(root.height().into()),
            leaf: None,
            place: Place::BeforeFirst,
            index: 0,
            key: Vec::new(),
            layout: Layout::default(),
            value: (0, 0, 0),
            passed: Vec::new(),
            passing: None,
            spare: Vec::new(),
        }
    }

    /// The key of the row that the cursor stands on; `None` before the first row and behind the last.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        (self.place == Place::OnRow).then_some(&self.key)
    }

    /// What the value begins with, without reading another page: all of a small one, the first 16 bytes of one that has
    /// pages of its own; empty when the cursor stands on no row.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.value().map_or(&[], |found| found.head())
    }

    /// Bytes of the value; 0 when the cursor stands on no row.
    #[must_use]
    pub fn value_len(&self) -> u64 {
        self.value().map_or(0, |found| found.len())
    }

    /// The value of the row, to keep; `None` when the cursor stands on no row.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.value()?.stored().ok()
    }

    /// The value of the row, where it stands; `None` when the cursor stands on no row.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<Found<'_>> {
        let leaf = self.leaf.as_ref().filter(|_| self.place == Place::OnRow)?;
        let (number, at, len) = self.value;
        let data = leaf.payload().get(at..at.saturating_add(len))?;
        Some(Found::new(leaf, at, Body::again(number, data)))
    }

    /// The rows of this leaf from the one that the cursor stands on, as far as their keys are within `to`, without looking at
    /// each; `None` when the cursor stands on no row or on one beyond, and when values of the leaf have pages of their own,
    /// which are only readable as long as the tree is.
    ///
    /// # Errors
    /// When the leaf is damaged.
    pub fn run(&self, to: Bound<&[u8]>) -> Result<Option<LeafRun>, TreeError> {
        let Some(page) = self.leaf.as_ref().filter(|_| self.place == Place::OnRow) else { return Ok(None) };
        let leaf = Leaf::again(page, self.layout)?;
        if leaf.chains() > 0 {
            return Ok(None);
        }
        let end = match to {
            Bound::Unbounded => leaf.len(),
            Bound::Included(key) => match leaf.search(key)? {
                Ok(last) => last + 1,
                Err(end) => end,
            },
            Bound::Excluded(key) => {
                let (Ok(end) | Err(end)) = leaf.search(key)?;
                end
            }
        };
        Ok((self.index < end).then(|| LeafRun::new(page.clone(), self.layout, self.index..end)))
    }

    /// Moves to the row behind a run that begins where the cursor stands.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    pub fn pass_run(&mut self, run: &LeafRun) -> Result<(), TreeError> {
        let rows = run.rows();
        let (Some(page), Some(last)) = (self.leaf.take(), rows.end.checked_sub(1)) else { return Ok(()) };
        self.moved(|this| {
            if last > this.index {
                this.show(page, last, Some(Direction::Forward))?;
            } else {
                this.leaf = Some(page);
            }
            this.step_forward()
        })
    }

    /// Moves to the first row.
    ///
    /// # Errors
    /// When a page on the way cannot be read or is damaged; so for every way of moving.
    pub fn seek_first(&mut self) -> Result<(), TreeError> {
        self.moved(|this| this.enter_top(Direction::Forward))
    }

    /// Moves to the last row.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    pub fn seek_last(&mut self) -> Result<(), TreeError> {
        self.moved(|this| this.enter_top(Direction::Backward))
    }

    /// Moves to the first row whose key is at least `key`; behind the last when there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    pub fn seek(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.moved(|this| this.enter_at(key, Direction::Forward))
    }

    /// Moves to the last row whose key is less than `key`; before the first when there is none.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    pub fn seek_before(&mut self, key: &[u8]) -> Result<(), TreeError> {
        self.moved(|this| this.enter_at(key, Direction::Backward))
    }

    /// Moves to the next row: the first one from before it, and nowhere from behind the last.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "what an iterator yields would borrow from the cursor")]
    pub fn next(&mut self) -> Result<(), TreeError> {
        match self.place {
            Place::OnRow => self.moved(Self::step_forward),
            Place::BeforeFirst => self.seek_first(),
            Place::BehindLast => Ok(()),
        }
    }

    /// Moves to the row before: the last one from behind it, and nowhere from before the first.
    ///
    /// # Errors
    /// As [`Cursor::seek_first`].
    #[inline]
    pub fn previous(&mut self) -> Result<(), TreeError> {
        match self.place {
            Place::OnRow => self.moved(Self::step_backward),
            Place::BehindLast => self.seek_last(),
            Place::BeforeFirst => Ok(()),
        }
    }

    /// Moves, and stands nowhere after an error.
    #[inline]
    fn moved(&mut self, go: impl FnOnce(&mut Self) -> Result<(), TreeError>) -> Result<(), TreeError> {
        let result = go(self);
        if result.is_err() {
            self.leave(Place::BehindLast);
        }
        result
    }

    fn leave(&mut self, place: Place) {
        self.path.clear();
        self.leaf = None;
        self.place = place;
        self.passing = None;
    }

    #[inline]
    fn step_forward(&mut self) -> Result<(), TreeError> {
        self.turn(Direction::Forward);
        if self.index + 1 < self.layout.len() {
            return self.show_beside(self.index + 1, Direction::Forward);
        }
        self.forward()
    }

    #[inline]
    fn step_backward(&mut self) -> Result<(), TreeError> {
        self.turn(Direction::Backward);
        match self.index.checked_sub(1) {
            Some(before) => self.show_beside(before, Direction::Backward),
            None => self.backward(),
        }
    }

    /// Forgets what was passed on the way back.
    #[inline]
    fn turn(&mut self, direction: Direction) {
        if self.passing.is_some_and(|passing| passing != direction) {
            self.passing = None;
        }
    }

    /// The level of the page below the last step of the path.
    fn level(&self) -> u8 {
        let steps = u8::try_from(self.path.len()).unwrap_or(u8::MAX);
        self.root.height().saturating_sub(1).saturating_sub(steps)
    }

    fn is_seen(&self, birth: Generation) -> bool {
        self.since.is_none_or(|since| birth > since)
    }

    /// From the top to the outermost row.
    fn enter_top(&mut self, direction: Direction) -> Result<(), TreeError> {
        self.leave(Place::BeforeFirst);
        match self.root.top().filter(|(top, _)| self.is_seen(top.birth)) {
            Some((top, _)) => self.enter(top, direction),
            None => {
                self.leave(if direction == Direction::Forward {
                    Place::BehindLast
                } else {
                    Place::BeforeFirst
                });
                Ok(())
            }
        }
    }

    /// From a page down to the outermost row below it, or further on when no child of it is to be seen.
    fn enter(&mut self, at: PageRef, direction: Direction) -> Result<(), TreeError> {
        if self.level() == 0 {
            return self.show_outermost(at, direction);
        }
        let page = self.pages.read(at)?;
        let len = Inner::parse(&page, self.level())?.len();
        match direction {
            Direction::Forward => {
                self.path.push(Step { page, child: 0 });
                self.forward_from(0)
            }
            Direction::Backward => {
                self.path.push(Step { page, child: len });
                self.backward()
            }
        }
    }

    /// From the top to the row at `key`, or beside it.
    fn enter_at(&mut self, key: &[u8], direction: Direction) -> Result<(), TreeError> {
        self.leave(Place::BeforeFirst);
        let Some((mut at, _)) = self.root.top().filter(|(top, _)| self.is_seen(top.birth)) else {
            return self.enter_top(direction);
        };
        while self.level() > 0 {
            let page = self.pages.read(at)?;
            let inner = Inner::parse(&page, self.level())?;
            let child = inner.child_for(key)?;
            at = inner.child(child)?;
            self.path.push(Step { page, child });
            if !self.is_seen(at.birth) {
                return self.go_on(direction);
            }
        }
        let page = self.pages.read(at)?;
        let leaf = Leaf::parse(&page)?;
        let (Ok(index) | Err(index)) = leaf.search(key)?;
        let index = match direction {
            Direction::Forward => Some(index).filter(|index| *index < leaf.len()),
            Direction::Backward => index.checked_sub(1),
        };
        match index {
            Some(index) => self.show(page, index, None),
            None => self.go_on(direction),
        }
    }

    fn go_on(&mut self, direction: Direction) -> Result<(), TreeError> {
        match direction {
            Direction::Forward => self.forward(),
            Direction::Backward => self.backward(),
        }
    }

    /// To the first row of the next leaf.
    fn forward(&mut self) -> Result<(), TreeError> {
        let from = self.path.last().map_or(0, |step| step.child + 1);
        self.forward_from(from)
    }

    fn forward_from(&mut self, from: usize) -> Result<(), TreeError> {
        let mut from = from;
        loop {
            let level = self.level() + 1;
            let since = self.since;
            let Some(step) = self.path.last_mut() else {
                self.leave(Place::BehindLast);
                return Ok(());
            };
            let inner = Inner::parse(&step.page, level)?;
            let is_seen = |child: &usize| since.is_none_or(|since| inner.birth(*child) > since);
            let Some(child) = (from..inner.len()).find(is_seen) else {
                self.path.pop();
                from = self.path.last().map_or(0, |step| step.child + 1);
                continue;
            };
            step.child = child;
            let at = inner.child(child)?;
            if inner.separator(child, &mut self.spare)? {
                self.pass(Direction::Forward)?;
            }
            if level == 1 {
                return self.show_outermost(at, Direction::Forward);
            }
            let page = self.pages.read(at)?;
            self.path.push(Step { page, child: 0 });
            from = 0;
        }
    }

    /// To the last row of the leaf before.
    fn backward(&mut self) -> Result<(), TreeError> {
        loop {
            let level = self.level() + 1;
            let since = self.since;
            let Some(step) = self.path.last_mut() else {
                self.leave(Place::BeforeFirst);
                return Ok(());
            };
            let inner = Inner::parse(&step.page, level)?;
            let is_seen = |child: &usize| since.is_none_or(|since| inner.birth(*child) > since);
            let Some(child) = (0..step.child.min(inner.len())).rev().find(is_seen) else {
                self.path.pop();
                continue;
            };
            let passes = inner.separator(child + 1, &mut self.spare)?;
            step.child = child;
            let at = inner.child(child)?;
            if passes {
                self.pass(Direction::Backward)?;
            }
            if level == 1 {
                return self.show_outermost(at, Direction::Backward);
            }
            let page = self.pages.read(at)?;
            let len = Inner::parse(&page, level - 1)?.len();
            self.path.push(Step { page, child: len });
        }
    }

    /// Passes the separator in `spare`: it must lie further on than the one before.
    fn pass(&mut self, direction: Direction) -> Result<(), TreeError> {
        let further = self.spare.cmp(&self.passed) == direction.order();
        if self.passing == Some(direction) && !further {
            return Err(self.out_of_order("order of the separators", &self.passed, &self.spare));
        }
        self.passing = Some(direction);
        std::mem::swap(&mut self.passed, &mut self.spare);
        Ok(())
    }

    #[cold]
    fn out_of_order(&self, what: &'static str, before: &[u8], found: &[u8]) -> TreeError {
        let page = self.path.last().map(|step| &step.page).or(self.leaf.as_ref());
        let page = page.map(|page| page.reference().page).unwrap_or_default();
        let (before, found) = (crate::error::printed(before), crate::error::printed(found));
        TreeError::damaged(page, what, format!("a key further on than {before}"), found)
    }

    /// Shows the first or last row of a leaf.
    fn show_outermost(&mut self, at: PageRef, direction: Direction) -> Result<(), TreeError> {
        let page = self.pages.read(at)?;
        let last = Leaf::parse(&page)?.len() - 1;
        let index = if direction == Direction::Forward { 0 } else { last };
        self.show(page, index, Some(direction))
    }

    /// Shows a row of another leaf, which must lie further on when the cursor came from a row.
    fn show(&mut self, page: Page, index: usize, moved: Option<Direction>) -> Result<(), TreeError> {
        let leaf = Leaf::parse(&page)?;
        leaf.assemble(index, &mut self.spare)?;
        let was_on_row = self.place == Place::OnRow;
        if let Some(direction) = moved.filter(|_| was_on_row)
            && self.spare.cmp(&self.key) != direction.order()
        {
            return Err(self.out_of_order("order of the keys", &self.key, &self.spare));
        }
        std::mem::swap(&mut self.key, &mut self.spare);
        let row = leaf.row(index)?;
        self.layout = leaf.layout();
        self.value = (row.body.number(), row.at, row.body.data().len());
        self.index = index;
        self.place = Place::OnRow;
        self.leaf = Some(page);
        Ok(())
    }

    /// Shows a row of the same leaf.
    #[inline]
    fn show_beside(&mut self, index: usize, direction: Direction) -> Result<(), TreeError> {
        let Some(page) = &self.leaf else { return Ok(()) };
        let row = Leaf::again(page, self.layout)?.row(index)?;
        let prefix_len = self.layout.prefix_len();
        if row.rest.cmp_with(self.key.get(prefix_len..).unwrap_or_default()) != direction.order() {
            return Err(self.out_of_order("order of the keys", &self.key, row.rest.front()));
        }
        self.key.truncate(prefix_len);
        self.key.extend_from_slice(row.rest.front());
        self.key.extend_from_slice(row.rest.tail());
        self.value = (row.body.number(), row.at, row.body.data().len());
        self.index = index;
        Ok(())
    }
}
