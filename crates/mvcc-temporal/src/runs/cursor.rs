//! A cursor over what a run wrote to a table, either way.

use std::ops::Bound;

use keepstone_btree::Cursor;
use keepstone_pager::PageFile;
use keepstone_types::ValueRef;

use super::{Run, TREE, place, split};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::{damaged, read_error, seek_down, seek_up};
use crate::key_range::KeyRange;
use crate::merge::Direction;

/// A place among the rows of a table, deletions included.
#[derive(Debug)]
pub(crate) struct RunCursor<'a> {
    run: &'a Run,
    cursor: Cursor<'a, PageFile>,
    table: TableId,
    direction: Direction,
}

impl<'a> RunCursor<'a> {
    /// On the first row of a range, on the way.
    pub(crate) fn new(
        run: &'a Run,
        table: TableId,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self, ReadError> {
        let mut cursor = run.tree().cursor();
        let bound = |of: &Bound<ValueRef>| of.as_ref().map(|key| ValueRef::from(place(table, key)));
        let start = |table| ValueRef::from(place(table, &[]));
        match direction {
            Direction::Up => match bound(&range.from) {
                Bound::Unbounded => seek_up(&mut cursor, &Bound::Included(start(table)))?,
                from => seek_up(&mut cursor, &from)?,
            },
            Direction::Down => match (bound(&range.to), table.next()) {
                (Bound::Unbounded, Some(next)) => seek_down(&mut cursor, &Bound::Excluded(start(next)))?,
                (to, _) => seek_down(&mut cursor, &to)?,
            },
        }
        Ok(Self { run, cursor, table, direction })
    }

    /// The key it stands on; `None` behind the last of the table.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        split(self.cursor.key()?).filter(|(table, _)| *table == self.table).map(|(_, key)| key)
    }

    /// The value of the row it stands on; `None` for a deletion.
    pub(crate) fn value(&self) -> Result<Option<ValueRef>, ReadError> {
        let Some((place, found)) = self.cursor.key().zip(self.cursor.value()) else {
            return Err(damaged(TREE, &[], "a row that a cursor stands on"));
        };
        self.run.value(place, found)
    }

    /// Moves to the next row on the way.
    pub(crate) fn advance(&mut self) -> Result<(), ReadError> {
        match self.direction {
            Direction::Up => self.cursor.next(),
            Direction::Down => self.cursor.previous(),
        }
        .map_err(read_error)
    }
}
