//! Scanning a branch: its own rows, merged over those of the version below it.
//!
//! Between two rows of the branch, the rows below come as they would without one: leaf by leaf where that can be.

use keepstone_types::{ValueRef, Version};

use super::part::{BranchNumber, PREFIX_LEN, untagged};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::layers::{Layers, View};
use crate::merge::{Direction, Merge};
use crate::scan::batch::{Batch, Part};
use crate::sync::Arc;
use crate::write_set::OwnWrites;

/// What a scan of a branch reads from for one batch.
pub(crate) struct BranchViews {
    number: BranchNumber,
    /// The branch's rows as they were then.
    own: View,
    /// The version below it.
    base: View,
    range: KeyRange,
    places: KeyRange,
    table: TableId,
}

impl BranchViews {
    pub(crate) fn new(
        layers: &Arc<Layers>,
        number: BranchNumber,
        (at, base): (Version, Version),
        table: TableId,
        range: &KeyRange,
    ) -> Self {
        Self {
            number,
            own: View::new(Arc::clone(layers), at),
            base: View::new(Arc::clone(layers), base),
            range: range.clone(),
            places: number.range(table, range),
            table,
        }
    }

    pub(crate) fn rows<'a>(
        &'a self,
        writes: Option<&'a OwnWrites>,
        direction: Direction,
    ) -> Result<Overlaid<'a>, ReadError> {
        debug_assert!(
            self.places.is_empty() || self.number.everything().contains(&self.number.place(self.table, b""))
        );
        let own = Merge::new(&self.own, writes, TableId::BRANCHES, &self.places, direction)?;
        let base = Merge::new(&self.base, None, self.table, &self.range, direction)?;
        Ok(Overlaid { direction, own, base, next: None, own_has_ended: false })
    }
}

/// The merged rows of a range.
pub(crate) struct Overlaid<'a> {
    direction: Direction,
    own: Merge<'a>,
    base: Merge<'a>,
    /// The branch's next row: where it stands, and what it says.
    next: Option<(ValueRef, Option<ValueRef>)>,
    own_has_ended: bool,
}

impl Overlaid<'_> {
    /// Adds the next row to a batch, and perhaps rows that stand beside it; false when there is none.
    pub(crate) fn put_next(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        loop {
            self.fill()?;
            let Some((place, value)) = &self.next else { return self.base.put_next(batch) };
            let key = place.get(PREFIX_LEN..).unwrap_or_default();
            let below = self.base.stored_key()?;
            let is_first = below.is_some_and(|below| match self.direction {
                Direction::Up => below < key,
                Direction::Down => below > key,
            });
            if is_first {
                if self.base.put_before(batch, key)? {
                    return Ok(true);
                }
                continue;
            }
            if below == Some(key) {
                self.base.pass(key)?;
            }
            if let Some(value) = value {
                batch.push(Part::Copied(key), Part::of(value));
            }
            let is_live = value.is_some();
            self.next = None;
            if is_live {
                return Ok(true);
            }
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        if self.next.is_some() || self.own_has_ended {
            return Ok(());
        }
        match self.own.next().transpose()? {
            Some((place, value)) => {
                let said = untagged(&place, &value)?;
                self.next = Some((place, said));
            }
            None => self.own_has_ended = true,
        }
        Ok(())
    }
}
