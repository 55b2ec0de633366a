//! A cursor over the rows of a table in one root, at one version, either way.
//!
//! At or above `folded` the tree has it all. Below, the tree is merged with history: a key that was deleted since is
//! there alone, and a row that was written since has its older version there.

use std::cmp::Ordering as Order;
use std::ops::Bound;

use keepstone_btree::{Cursor, LeafRun, RunRow};
use keepstone_pager::PageFile;
use keepstone_types::{ValueRef, Version};

use super::row::RowHead;
use super::{Ground, damaged, head_of, history_key, read_error, row};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::memtable::RowVersion;
use crate::merge::Direction;
use crate::scan::batch::{Batch, Part};

/// The keys of a table that have older versions, one after the other.
struct PastKeys<'a> {
    cursor: Cursor<'a, PageFile>,
    table: TableId,
    direction: Direction,
    /// The key it stands on.
    key: Option<Vec<u8>>,
    place: Vec<u8>,
}

/// Where a cursor stands.
enum At {
    /// On a row of the tree.
    Tree,
    /// On a row of history.
    Past(RowVersion),
    End,
}

/// A cursor over the rows of a table at one version: each key once, with its newest version at or below that one,
/// deletions included where they are known.
pub(crate) struct GroundCursor<'a> {
    ground: &'a Ground,
    table: TableId,
    direction: Direction,
    version: Version,
    tree: Cursor<'a, PageFile>,
    past: Option<PastKeys<'a>>,
    at: At,
}

impl Ground {
    /// A cursor over the rows of a range, beginning at its near end. The far end is for the caller to see.
    pub(crate) fn cursor<'a>(
        &'a self,
        table: TableId,
        range: &KeyRange,
        direction: Direction,
        version: Version,
    ) -> Result<GroundCursor<'a>, ReadError> {
        let mut tree = self.tree_of(table).cursor();
        match direction {
            Direction::Up => seek_up(&mut tree, &range.from)?,
            Direction::Down => seek_down(&mut tree, &range.to)?,
        }
        let past = if version < self.meta.folded {
            Some(PastKeys::new(self.history().cursor(), table, range, direction)?)
        } else {
            None
        };
        let mut cursor = GroundCursor { ground: self, table, direction, version, tree, past, at: At::End };
        cursor.settle()?;
        Ok(cursor)
    }
}

/// Moves a cursor over a tree to the first row behind a bound.
pub(crate) fn seek_up(tree: &mut Cursor<'_, PageFile>, from: &Bound<ValueRef>) -> Result<(), ReadError> {
    match from {
        Bound::Unbounded => tree.seek_first(),
        Bound::Included(key) => tree.seek(key),
        Bound::Excluded(key) => match tree.seek(key) {
            Ok(()) if tree.key() == Some(key) => tree.next(),
            sought => sought,
        },
    }
    .map_err(read_error)
}

/// Moves a cursor over a tree to the last row before a bound.
pub(crate) fn seek_down(tree: &mut Cursor<'_, PageFile>, to: &Bound<ValueRef>) -> Result<(), ReadError> {
    match to {
        Bound::Unbounded => tree.seek_last(),
        Bound::Excluded(key) => tree.seek_before(key),
        Bound::Included(key) => {
            let mut after = key.to_vec();
            after.push(0);
            tree.seek_before(&after)
        }
    }
    .map_err(read_error)
}

impl<'a> PastKeys<'a> {
    fn new(
        cursor: Cursor<'a, PageFile>,
        table: TableId,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self, ReadError> {
        let mut past = Self { cursor, table, direction, key: None, place: Vec::new() };
        let place = &mut past.place;
        match (direction, &range.from, &range.to) {
            (Direction::Up, Bound::Included(key), _) => history_key::before_key(place, table, key),
            (Direction::Up, Bound::Excluded(key), _) => history_key::after_key(place, table, key),
            (Direction::Up, Bound::Unbounded, _) => history_key::table_start(place, table),
            (Direction::Down, _, Bound::Included(key)) => history_key::after_key(place, table, key),
            (Direction::Down, _, Bound::Excluded(key)) => history_key::before_key(place, table, key),
            (Direction::Down, _, Bound::Unbounded) => match table.next() {
                Some(next) => history_key::table_start(place, next),
                None => {
                    past.cursor.seek_last().map_err(read_error)?;
                    past.settle()?;
                    return Ok(past);
                }
            },
        }
        past.seek()?;
        Ok(past)
    }

    /// Goes to the first key behind `place`, on the way.
    fn seek(&mut self) -> Result<(), ReadError> {
        match self.direction {
            Direction::Up => self.cursor.seek(&self.place),
            Direction::Down => self.cursor.seek_before(&self.place),
        }
        .map_err(read_error)?;
        self.settle()
    }

    fn settle(&mut self) -> Result<(), ReadError> {
        let mut key = self.key.take().unwrap_or_default();
        let Some(found) = self.cursor.key() else { return Ok(()) };
        let wrong = || damaged("the tree of older versions", found, "a table, a key and a version");
        let (table, _) = history_key::decode(found, &mut key).ok_or_else(wrong)?;
        self.key = (table == self.table).then_some(key);
        Ok(())
    }

    /// Goes past all versions of the key it stands on.
    fn advance(&mut self) -> Result<(), ReadError> {
        let Some(key) = &self.key else { return Ok(()) };
        match self.direction {
            Direction::Up => history_key::after_key(&mut self.place, self.table, key),
            Direction::Down => history_key::before_key(&mut self.place, self.table, key),
        }
        self.seek()
    }
}

/// A row of a run, with what its value begins with.
#[inline(always)]
pub(crate) fn run_row(run: &LeafRun, place: usize) -> Result<(RunRow<'_>, RowHead), ReadError> {
    let row = run.row(place).map_err(read_error)?;
    let wrong = || damaged("a tree of rows", &row.key_parts().concat(), "a row with its version");
    let head = row::head(row.value().head()).ok_or_else(wrong)?;
    Ok((row, head))
}

impl GroundCursor<'_> {
    /// The key the cursor stands on.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match &self.at {
            At::Tree => self.tree.key(),
            At::Past(row) => Some(&row.key),
            At::End => None,
        }
    }

    /// Adds the row the cursor stands on to a batch; false for a deletion.
    pub(crate) fn put(&self, batch: &mut Batch) -> Result<bool, ReadError> {
        match &self.at {
            At::End => Ok(false),
            At::Past(row) => {
                if let Some(value) = &row.value {
                    batch.push(Part::Copied(&row.key), Part::of(value));
                }
                Ok(row.value.is_some())
            }
            At::Tree => {
                let (Some(key), Some(found)) = (self.tree.key(), self.tree.value()) else {
                    return Ok(false);
                };
                let head = head_of(found.head(), key)?;
                if head.is_deletion {
                    return Ok(false);
                }
                let small = found.inline().and_then(|value| value.get(head.len..));
                let value = match (found.shared(head.len), small) {
                    (Some(shared), _) => Part::Shared(shared),
                    (None, Some(small)) => Part::Copied(small),
                    (None, None) => Part::Shared(self.ground.value(found, head)?.unwrap_or_default()),
                };
                batch.push(Part::Copied(key), value);
                Ok(true)
            }
        }
    }

    /// The rows from the one the cursor stands on to the end of its leaf, as far as they are within `to`, when all of them
    /// are as the tree has them: then nobody needs to look at each.
    pub(crate) fn run(&self, to: Bound<&[u8]>) -> Result<Option<LeafRun>, ReadError> {
        match (&self.at, &self.past, self.direction) {
            (At::Tree, None, Direction::Up) => self.tree.run(to).map_err(read_error),
            _ => Ok(None),
        }
    }

    /// Moves to the key behind a run that begins where the cursor stands.
    pub(crate) fn pass_run(&mut self, run: &LeafRun) -> Result<(), ReadError> {
        self.tree.pass_run(run).map_err(read_error)?;
        self.settle()
    }

    /// Moves to the next key.
    pub(crate) fn advance(&mut self) -> Result<(), ReadError> {
        match std::mem::replace(&mut self.at, At::End) {
            At::End => return Ok(()),
            At::Tree => {
                if let Some(past) = &mut self.past
                    && past.key.as_deref() == self.tree.key()
                {
                    past.advance()?;
                }
                self.step()?;
            }
            At::Past(row) => {
                if self.tree.key() == Some(&row.key) {
                    self.step()?;
                }
                if let Some(past) = &mut self.past
                    && past.key.as_deref() == Some(&row.key)
                {
                    past.advance()?;
                }
            }
        }
        self.settle()
    }

    fn step(&mut self) -> Result<(), ReadError> {
        match self.direction {
            Direction::Up => self.tree.next(),
            Direction::Down => self.tree.previous(),
        }
        .map_err(read_error)
    }

    /// Finds the next key that has a version at or below the one that is read, from where the parts stand.
    fn settle(&mut self) -> Result<(), ReadError> {
        let Some(past) = &mut self.past else {
            self.at = if self.tree.key().is_some() { At::Tree } else { At::End };
            return Ok(());
        };
        loop {
            let order = match (self.tree.key(), past.key.as_deref()) {
                (None, None) => {
                    self.at = At::End;
                    return Ok(());
                }
                (Some(_), None) => Order::Less,
                (None, Some(_)) => Order::Greater,
                (Some(tree), Some(past)) if self.direction == Direction::Up => tree.cmp(past),
                (Some(tree), Some(past)) => past.cmp(tree),
            };
            if order != Order::Greater
                && let Some(key) = self.tree.key()
            {
                let wrong = || damaged("a tree of rows", key, "a row with its version");
                if row::head(self.tree.head()).ok_or_else(wrong)?.version <= self.version {
                    self.at = At::Tree;
                    return Ok(());
                }
            }
            if order != Order::Less
                && let Some(key) = &past.key
                && let Some(row) = self.ground.past(self.table, key, self.version)?
            {
                self.at = At::Past(row);
                return Ok(());
            }
            // Neither has a version that is old enough.
            if order != Order::Less {
                past.advance()?;
            }
            if order != Order::Greater {
                match self.direction {
                    Direction::Up => self.tree.next(),
                    Direction::Down => self.tree.previous(),
                }
                .map_err(read_error)?;
            }
        }
    }
}
