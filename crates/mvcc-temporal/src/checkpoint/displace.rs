//! What a fold displaces: the row that stood in the tree, and all versions of a key in memory but the newest.
//!
//! They are coded oldest first, as if each had been displaced by itself: each against the next newer one. What hangs on the
//! oldest of them is read from history, below it, so that folding a version twice gives the same rows.

use keepstone_btree::{Decision, Edit, NewValue, Stored};
use keepstone_types::{ValueRef, Version};

use super::fold::{Versions, put};
use super::older_coder::OlderCoder;
use crate::error::{CheckpointError, ReadError};
use crate::ground::row::RowHead;
use crate::ground::{Ground, history_key, read_error, row, row_head};

/// Rows that go to history.
pub(super) struct Displaced<'a> {
    /// What the slice begins with: it has each key that is folded as it was before.
    ground: &'a Ground,
    coder: &'a mut OlderCoder,
    /// In the order of their keys.
    pub(super) edits: Vec<Edit>,
    /// Whether any row is an entry of a chain.
    pub(super) has_entries: bool,
    place: Vec<u8>,
}

/// How many deltas hang on the version that is displaced next.
#[derive(Clone, Copy)]
enum Behind {
    /// As many as history says, below this version.
    Below(Version),
    Known(u8),
}

impl<'a> Displaced<'a> {
    pub(super) fn new(ground: &'a Ground, coder: &'a mut OlderCoder) -> Self {
        Self { ground, coder, edits: Vec::new(), has_entries: false, place: Vec::new() }
    }

    /// Decides what becomes of the row that stands where a newer one goes, and adds what goes to history.
    pub(super) fn displace(
        &mut self,
        versions: &Versions,
        old: Option<&Stored>,
    ) -> Result<Decision, CheckpointError> {
        let newest = versions.newest.0;
        let old = match old {
            Some(stored) => Some((row_head(stored, &versions.key)?, stored)),
            None => None,
        };
        let held = old.map(|(head, _)| head.version);
        if held.is_some_and(|held| held >= newest || versions.is_catalog()) {
            return Ok(Decision::Skip);
        }
        // While a fold is done again, the tree may hold one of them.
        let is_newer = |version: &&(Version, _)| held.is_none_or(|held| held < version.0);
        let older = versions.older.iter().take_while(is_newer).count();
        let older = versions.older.get(..older).unwrap_or_default();
        let first = self.edits.len();
        let oldest = held.or(older.last().map(|(version, _)| *version)).unwrap_or(newest);
        let mut behind = Behind::Below(oldest);
        let mut decision = Decision::Replace;
        if let Some((head, stored)) = old {
            let newer = older.last().unwrap_or(&versions.newest).1.as_ref();
            decision = self.stored(versions, (head, stored), newer, &mut behind)?;
        }
        for (index, (version, value)) in older.iter().enumerate().rev() {
            let newer = index.checked_sub(1).and_then(|newer| older.get(newer)).unwrap_or(&versions.newest);
            self.in_memory(versions, (*version, value.as_ref()), newer.1.as_ref(), &mut behind)?;
        }
        if versions.newest.1.is_none() {
            self.push(versions, newest, deletion(newest));
        }
        if let Some(added) = self.edits.get_mut(first..) {
            added.reverse();
        }
        Ok(decision)
    }

    fn push(&mut self, versions: &Versions, version: Version, value: NewValue) {
        history_key::encode(&mut self.place, versions.table, &versions.key, version);
        self.edits.push(Edit { key: ValueRef::copy_from(&self.place), value });
    }

    /// Adds an entry if that is worth it. Whatever becomes of the value, `behind` is then what hangs on the next newer one.
    fn entry(
        &mut self,
        versions: &Versions,
        (version, value): (Version, &[u8]),
        newer: Option<&ValueRef>,
        behind: &mut Behind,
    ) -> Result<bool, ReadError> {
        let asked = std::mem::replace(behind, Behind::Known(0));
        let ground = self.ground;
        let deltas = || match asked {
            Behind::Known(deltas) => Ok(deltas),
            Behind::Below(version) => ground.deltas_below(versions.table, &versions.key, version),
        };
        let coded = self.coder.code(version, value, newer.map(|newer| &**newer), deltas)?;
        let Some(entry) = coded else { return Ok(false) };
        *behind = Behind::Known(entry.deltas);
        self.has_entries = true;
        self.push(versions, version, entry.row);
        Ok(true)
    }

    /// Adds the row of the tree, and says whether its pages are still needed.
    fn stored(
        &mut self,
        versions: &Versions,
        (head, stored): (RowHead, &Stored),
        newer: Option<&ValueRef>,
        behind: &mut Behind,
    ) -> Result<Decision, ReadError> {
        let len = usize::try_from(stored.len()).unwrap_or(usize::MAX).saturating_sub(head.len);
        if self.coder.takes(len) {
            let row = stored.load(self.ground.pages()).map_err(read_error)?;
            let value = row.get(head.len..).unwrap_or_default();
            if self.entry(versions, (head.version, value), newer, behind)? {
                return Ok(Decision::Replace);
            }
        }
        *behind = Behind::Known(0);
        self.push(versions, head.version, NewValue::Stored(stored.clone()));
        Ok(Decision::ReplaceKeepingOld)
    }

    /// Adds a version that is in memory.
    fn in_memory(
        &mut self,
        versions: &Versions,
        (version, value): (Version, Option<&ValueRef>),
        newer: Option<&ValueRef>,
        behind: &mut Behind,
    ) -> Result<(), ReadError> {
        let row = match value {
            Some(value) if self.entry(versions, (version, value), newer, behind)? => return Ok(()),
            Some(value) => put(row::prefix(version, false), value.clone()),
            None => deletion(version),
        };
        *behind = Behind::Known(0);
        self.push(versions, version, row);
        Ok(())
    }
}

fn deletion(version: Version) -> NewValue {
    put(row::prefix(version, true), ValueRef::empty())
}
