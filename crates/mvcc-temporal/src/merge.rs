//! Merging what a scan reads from: the memtables of its view, newest first, under the transaction's own writes.

use std::cmp::Ordering as Order;
use std::iter::Peekable;

use keepstone_types::ValueRef;

use crate::catalog::TableId;
use crate::key_range::{KeyRange, borrowed};
use crate::memtable::{Ascending, Descending, RowVersion};
use crate::view::View;
use crate::write_set::{WriteMap, range_of};

/// Which way a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// A memtable's rows, either way.
enum Cursor<'a> {
    Up(Ascending<'a>),
    Down(Descending<'a>),
}

impl Cursor<'_> {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Up(cursor) => cursor.key(),
            Self::Down(cursor) => cursor.key(),
        }
    }

    fn row(&self) -> Option<RowVersion> {
        match self {
            Self::Up(cursor) => cursor.row(),
            Self::Down(cursor) => cursor.row(),
        }
    }

    fn advance(&mut self) {
        match self {
            Self::Up(cursor) => cursor.advance(),
            Self::Down(cursor) => cursor.advance(),
        }
    }
}

/// Whether `a` comes before `b` on the way.
fn is_before(direction: Direction, a: &[u8], b: &[u8]) -> bool {
    match direction {
        Direction::Up => a.cmp(b) == Order::Less,
        Direction::Down => a.cmp(b) == Order::Greater,
    }
}

type OwnWrites<'a> = Box<dyn Iterator<Item = (&'a ValueRef, &'a Option<ValueRef>)> + 'a>;

/// The merged rows of a range, deletions left out.
pub(crate) struct Merge<'a> {
    direction: Direction,
    range: &'a KeyRange,
    /// Newest first: of two rows with one key the first is the newer.
    cursors: Vec<Cursor<'a>>,
    own: Option<Peekable<OwnWrites<'a>>>,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        view: &'a View,
        own: Option<&'a WriteMap>,
        table: TableId,
        range: &'a KeyRange,
        direction: Direction,
    ) -> Self {
        let at = view.version();
        let cursors = match direction {
            Direction::Up => view
                .memtables()
                .map(|rows| Cursor::Up(rows.ascending(table, borrowed(&range.from), at)))
                .collect(),
            Direction::Down => view
                .memtables()
                .map(|rows| Cursor::Down(rows.descending(table, borrowed(&range.to), at)))
                .collect(),
        };
        let own = own.map(|rows| {
            let found = range_of(rows, table, range);
            let found: OwnWrites<'a> = match direction {
                Direction::Up => Box::new(found),
                Direction::Down => Box::new(found.rev()),
            };
            found.peekable()
        });
        Self { direction, range, cursors, own }
    }

    /// The next row that the memtables have, deletions included, without moving on.
    fn stored(&self) -> Option<RowVersion> {
        let mut first: Option<(&Cursor<'a>, &[u8])> = None;
        for cursor in &self.cursors {
            if let Some(key) = cursor.key()
                && first.is_none_or(|(_, found)| is_before(self.direction, key, found))
            {
                first = Some((cursor, key));
            }
        }
        let within = |key: &[u8]| match self.direction {
            Direction::Up => self.range.ends_at_or_after(key),
            Direction::Down => self.range.starts_at_or_before(key),
        };
        first.filter(|(_, key)| within(key)).and_then(|(cursor, _)| cursor.row())
    }

    fn advance_past(&mut self, key: &[u8]) {
        for cursor in &mut self.cursors {
            if cursor.key() == Some(key) {
                cursor.advance();
            }
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = (ValueRef, ValueRef);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stored = self.stored();
            let own = self.own.as_mut().and_then(|own| own.peek().copied());
            let (key, value) = match (stored, own) {
                (Some(stored), Some((own, _))) if is_before(self.direction, &stored.key, own) => {
                    self.advance_past(&stored.key);
                    (stored.key, stored.value)
                }
                (_, Some((key, value))) => {
                    self.own.as_mut().and_then(Iterator::next);
                    self.advance_past(key);
                    (key.clone(), value.clone())
                }
                (Some(stored), None) => {
                    self.advance_past(&stored.key);
                    (stored.key, stored.value)
                }
                (None, None) => return None,
            };
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    }
}
