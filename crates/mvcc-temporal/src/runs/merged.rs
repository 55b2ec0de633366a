//! The rows of several runs in one order; of those with one key the newest.

use keepstone_btree::Cursor;
use keepstone_pager::PageFile;
use keepstone_types::ValueRef;

use super::{Run, TREE, place, split};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::{damaged, read_error};
use crate::sync::Arc;

/// A row of a run; no value is a deletion.
pub(crate) type RunRow = (TableId, ValueRef, Option<ValueRef>);

/// The rows of all tables, by table and key.
pub(crate) struct Merged<'a> {
    /// Newest first.
    runs: Vec<(&'a Run, Cursor<'a, PageFile>)>,
}

impl<'a> Merged<'a> {
    /// Before the first row behind a key, or before the first of all. `runs` are newest first.
    pub(crate) fn behind(runs: &'a [Arc<Run>], key: Option<(TableId, &[u8])>) -> Result<Self, ReadError> {
        let mut from = key.map_or(Vec::new(), |(table, key)| place(table, key));
        if !from.is_empty() {
            from.push(0);
        }
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs {
            let mut cursor = run.tree().cursor();
            cursor.seek(&from).map_err(read_error)?;
            cursors.push((&**run, cursor));
        }
        Ok(Self { runs: cursors })
    }

    /// The next row.
    pub(crate) fn next_row(&mut self) -> Result<Option<RunRow>, ReadError> {
        // The first of those with the least key: the newest.
        let places = self.runs.iter().enumerate().filter_map(|(at, (_, cursor))| Some((cursor.key()?, at)));
        let Some((_, first)) = places.min() else { return Ok(None) };
        let Some((run, cursor)) = self.runs.get(first) else { return Ok(None) };
        let wrong = || damaged(TREE, cursor.key().unwrap_or_default(), "a table and a key, with a value");
        let (place, found) = cursor.key().zip(cursor.value()).ok_or_else(wrong)?;
        let value = run.value(place, found)?;
        let (table, key) = split(place).ok_or_else(wrong)?;
        let row = (table, ValueRef::copy_from(key), value);
        let place = place.to_vec();
        for (_, cursor) in self.runs.iter_mut().skip(first) {
            if cursor.key() == Some(&place) {
                cursor.next().map_err(read_error)?;
            }
        }
        Ok(Some(row))
    }
}
