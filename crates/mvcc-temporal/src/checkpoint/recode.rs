//! Making rows of history anew that hang on rows that go.
//!
//! A delta leads from the next newer version. When that goes, and others up to one that stays, the row is coded against the one
//! that stays, or becomes a keyframe where one of those that go is one. Its value is read and verified before: from history as
//! it is before anything goes.

use keepstone_btree::NewValue;
use keepstone_types::{ValueRef, Version};

use super::older_coder::OlderCoder;
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::ground::Ground;
use crate::ground::row::OlderForm;

/// A row of a key's history, and whether it stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct OlderRow {
    pub(super) version: Version,
    pub(super) form: OlderForm,
    pub(super) stays: bool,
}

impl OlderRow {
    /// Whether it needs no other row to be read.
    fn is_keyframe(&self) -> bool {
        !matches!(self.form, OlderForm::Entry { deltas: 1.. })
    }
}

/// What a row that stays becomes when those between it and the next newer one that stays go; `None` when it stays as it is. No
/// newer row is the row in the table's tree.
pub(super) fn recode(
    ground: &Ground,
    coder: &mut OlderCoder,
    (table, key): (TableId, &[u8]),
    (newer, gone, row): (Option<&OlderRow>, &[OlderRow], &OlderRow),
) -> Result<Option<NewValue>, ReadError> {
    let OlderForm::Entry { deltas: deltas @ 1.. } = row.form else { return Ok(None) };
    if gone.is_empty() {
        return Ok(None);
    }
    let value = value_of(ground, table, key, row.version)?;
    let gone_keyframe = gone.iter().any(OlderRow::is_keyframe);
    let newer = match newer {
        _ if gone_keyframe => None,
        Some(newer) => value_of(ground, table, key, newer.version)?,
        None => ground.newest_value(table, key)?,
    };
    // A deletion has no deltas, and so is no row that is made anew.
    let value = value.unwrap_or_else(ValueRef::empty);
    let entry = coder.recode(row.version, (&value, deltas), newer.as_deref(), gone_keyframe);
    Ok(Some(entry.row))
}

fn value_of(
    ground: &Ground,
    table: TableId,
    key: &[u8],
    version: Version,
) -> Result<Option<ValueRef>, ReadError> {
    Ok(ground.past(table, key, version)?.and_then(|row| row.value))
}
