//! Merging what a scan reads from: the layers of its view, newest first, under the transaction's own writes.

use std::cmp::Ordering as Order;
use std::iter::Peekable;
use std::ops::Bound;

use keepstone_btree::LeafRun;
use keepstone_types::ValueRef;

use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::GroundCursor;
use crate::key_range::{KeyRange, borrowed};
use crate::layers::View;
use crate::memtable::{Ascending, Descending};
use crate::runs::RunCursor;
use crate::scan::KeyValue;
use crate::scan::batch::{Batch, Part};
use crate::write_set::{OwnWrites, range_of};

/// Which way a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// A memtable's rows, or a run's, either way.
enum Cursor<'a> {
    Up(Ascending<'a>),
    Down(Descending<'a>),
    /// Rows of a run, either way.
    Run(RunCursor<'a>),
}

impl Cursor<'_> {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Up(cursor) => cursor.key(),
            Self::Down(cursor) => cursor.key(),
            Self::Run(cursor) => cursor.key(),
        }
    }

    /// Adds the row it stands on to a batch; false for a deletion.
    fn put(&self, batch: &mut Batch) -> Result<bool, ReadError> {
        let row = match self {
            Self::Up(cursor) => cursor.live(),
            Self::Down(cursor) => cursor.live(),
            Self::Run(cursor) => {
                let row = cursor.key().zip(cursor.value()?);
                if let Some((key, value)) = &row {
                    batch.push(Part::Copied(key), Part::of(value));
                }
                return Ok(row.is_some());
            }
        };
        if let Some((key, value)) = row {
            batch.push(Part::InMemory(key), Part::InMemory(value));
        }
        Ok(row.is_some())
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        match self {
            Self::Up(cursor) => cursor.advance(),
            Self::Down(cursor) => cursor.advance(),
            Self::Run(cursor) => cursor.advance()?,
        }
        Ok(())
    }
}

/// Where the next row stands.
#[derive(Clone, Copy)]
enum Layer {
    /// The memtable with this place in the list.
    Memtable(usize),
    Ground,
}

/// Whether `a` comes before `b` on the way.
fn is_before(direction: Direction, a: &[u8], b: &[u8]) -> bool {
    match direction {
        Direction::Up => a.cmp(b) == Order::Less,
        Direction::Down => a.cmp(b) == Order::Greater,
    }
}

type OwnRows<'a> = Box<dyn Iterator<Item = (&'a ValueRef, &'a Option<ValueRef>)> + 'a>;

/// The merged rows of a range, deletions left out. As an iterator it ends after an error.
pub(crate) struct Merge<'a> {
    direction: Direction,
    range: &'a KeyRange,
    /// Memtables and runs that have rows of the range, newest first: of two rows with one key the first is the newer. A
    /// settled store has none, and takes no memory for the list.
    memtables: Vec<Cursor<'a>>,
    /// Below all memtables.
    ground: Option<GroundCursor<'a>>,
    own: Option<Peekable<OwnRows<'a>>>,
    /// Rows of the ground that were added, and are still to be passed.
    passing: Option<LeafRun>,
    ended: bool,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        view: &'a View,
        own: Option<&'a OwnWrites>,
        table: TableId,
        range: &'a KeyRange,
        direction: Direction,
    ) -> Result<Self, ReadError> {
        let (at, layers) = (view.version(), view.layers());
        let mut memtables = Vec::new();
        let mut add = |cursor: Cursor<'a>| {
            if cursor.key().is_some() {
                memtables.push(cursor);
            }
        };
        // What the transaction wrote to runs is newer than all that is stored, and older than what it holds in memory.
        for run in own.iter().flat_map(|own| &own.runs) {
            add(Cursor::Run(RunCursor::new(run, table, range, direction)?));
        }
        for rows in layers.memtables() {
            if rows.may_meet(table, range) {
                add(match direction {
                    Direction::Up => Cursor::Up(rows.ascending(table, borrowed(&range.from), at)),
                    Direction::Down => Cursor::Down(rows.descending(table, borrowed(&range.to), at)),
                });
            }
            let (runs, version) = rows.runs();
            for run in runs.iter().filter(|_| version <= at) {
                add(Cursor::Run(RunCursor::new(run, table, range, direction)?));
            }
        }
        let ground = match layers.ground() {
            Some(ground) => Some(ground.cursor(table, range, direction, at)?),
            None => None,
        };
        let own = own.map(|own| {
            let found = range_of(&own.rows, table, range);
            let found: OwnRows<'a> = match direction {
                Direction::Up => Box::new(found),
                Direction::Down => Box::new(found.rev()),
            };
            found.peekable()
        });
        Ok(Self { direction, range, memtables, ground, own, passing: None, ended: false })
    }

    /// Where the next row that the layers have stands, deletions included, and its key.
    fn first(&self) -> Option<(Layer, &[u8])> {
        let mut first = None;
        let memtables = self.memtables.iter().enumerate();
        let keys = memtables.map(|(index, cursor)| (Layer::Memtable(index), cursor.key()));
        let ground = (Layer::Ground, self.ground.as_ref().and_then(GroundCursor::key));
        for (layer, key) in keys.chain([ground]) {
            if let Some(key) = key
                && first.is_none_or(|(_, found)| is_before(self.direction, key, found))
            {
                first = Some((layer, key));
            }
        }
        let within = |key: &[u8]| match self.direction {
            Direction::Up => self.range.ends_at_or_after(key),
            Direction::Down => self.range.starts_at_or_before(key),
        };
        first.filter(|(_, key)| within(key))
    }

    /// Moves all cursors on that stand on a key.
    fn advance_past(&mut self, key: &[u8]) -> Result<(), ReadError> {
        for cursor in &mut self.memtables {
            if cursor.key() == Some(key) {
                cursor.advance()?;
            }
        }
        match &mut self.ground {
            Some(ground) if ground.key() == Some(key) => ground.advance(),
            _ => Ok(()),
        }
    }

    /// Adds the row that stands first to a batch and goes past its key; false for a deletion.
    fn put_stored(&mut self, first: Layer, batch: &mut Batch) -> Result<bool, ReadError> {
        let Layer::Memtable(first) = first else {
            // No memtable stands on this key: it would be first.
            let Some(ground) = &mut self.ground else { return Ok(false) };
            let is_live = ground.put(batch)?;
            ground.advance()?;
            return Ok(is_live);
        };
        let Some((leading, others)) = self.memtables.get_mut(first..).and_then(|from| from.split_first_mut())
        else {
            return Ok(false);
        };
        let is_live = leading.put(batch)?;
        // Of those with one key the first leads, so all others are below it.
        for cursor in others {
            if cursor.key() == leading.key() {
                cursor.advance()?;
            }
        }
        if let Some(ground) = &mut self.ground
            && ground.key() == leading.key()
        {
            ground.advance()?;
        }
        leading.advance()?;
        Ok(is_live)
    }

    /// Adds the rows of the ground's leaf that come before all others and before `limit`, without looking at each; false
    /// when the ground is not first, or has none that can be taken so. It goes past them before it looks for the next row.
    fn put_run(&mut self, batch: &mut Batch, limit: Option<&[u8]>) -> Result<bool, ReadError> {
        let Some(ground) = self.ground.as_ref().filter(|_| self.direction == Direction::Up) else {
            return Ok(false);
        };
        let own = self.own.as_mut().and_then(|own| own.peek()).map(|(key, _)| &***key);
        let above = self.memtables.iter().filter_map(Cursor::key).chain(own).chain(limit).min();
        if above.is_some_and(|above| ground.key().is_none_or(|key| key >= above)) {
            return Ok(false);
        }
        let to = match above {
            Some(key) if self.range.ends_at_or_after(key) => Bound::Excluded(key),
            _ => borrowed(&self.range.to),
        };
        let Some(run) = ground.run(to)? else { return Ok(false) };
        self.passing = Some(run.clone());
        batch.push_run(run);
        Ok(true)
    }

    /// Adds the next row to a batch, and rows that stand beside it in the ground with it; false when there is none.
    pub(crate) fn put_next(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        self.pass_run()?;
        if self.put_run(batch, None)? {
            return Ok(true);
        }
        self.put_row(batch)
    }

    /// Goes past rows that were added.
    fn pass_run(&mut self) -> Result<(), ReadError> {
        match (self.passing.take(), &mut self.ground) {
            (Some(run), Some(ground)) => ground.pass_run(&run),
            _ => Ok(()),
        }
    }

    fn put_row(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        while let Some(is_live) = self.put_one(batch)? {
            if is_live {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the row that stands next, and says whether it was one: a deletion is passed. `None` at the end.
    fn put_one(&mut self, batch: &mut Batch) -> Result<Option<bool>, ReadError> {
        let own = self.own.as_mut().and_then(|own| own.peek().copied());
        let is_live = match (self.first(), own) {
            (Some((first, key)), Some((own, _))) if is_before(self.direction, key, own) => {
                self.put_stored(first, batch)?
            }
            (_, Some((key, value))) => {
                self.own.as_mut().and_then(Iterator::next);
                if let Some(value) = value {
                    batch.push(Part::Copied(key), Part::of(value));
                }
                self.advance_past(key)?;
                value.is_some()
            }
            (Some((first, _)), None) => self.put_stored(first, batch)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(is_live))
    }

    /// The key that stands next among what is stored, deletions included.
    pub(crate) fn stored_key(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.pass_run()?;
        Ok(self.first().map(|(_, key)| key))
    }

    /// Adds what stands next: one row, or rows that stand beside each other in the ground and come before `limit`. What is
    /// next comes before `limit`. False when it was a deletion.
    pub(crate) fn put_before(&mut self, batch: &mut Batch, limit: &[u8]) -> Result<bool, ReadError> {
        self.pass_run()?;
        if self.put_run(batch, Some(limit))? {
            return Ok(true);
        }
        Ok(self.put_one(batch)?.unwrap_or(false))
    }

    /// Goes past the row of a key, when that is what stands next.
    pub(crate) fn pass(&mut self, key: &[u8]) -> Result<(), ReadError> {
        self.pass_run()?;
        self.advance_past(key)
    }

    fn next_row(&mut self) -> Result<Option<KeyValue>, ReadError> {
        let mut batch = Batch::default();
        self.put_row(&mut batch)?;
        batch.seal();
        batch.pop_front()
    }
}

/// The rows of the store's own table whose keys begin with a byte.
pub(crate) fn system_rows(view: &View, first: u8) -> Result<Vec<KeyValue>, ReadError> {
    let range = KeyRange::prefix([first]);
    Merge::new(view, None, TableId::SYSTEM, &range, Direction::Up)?.collect()
}

impl Iterator for Merge<'_> {
    type Item = Result<KeyValue, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_row().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
