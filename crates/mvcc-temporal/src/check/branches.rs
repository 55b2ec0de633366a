//! The branches held against their rows: each is forked at a version that can be read, and no row is of none.

use std::collections::BTreeSet;

use keepstone_types::Version;

use super::CheckReport;
use crate::branches::{BranchNumber, discarded, is_there, list, split_place, untagged};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::layers::View;
use crate::merge::{Direction, Merge};
use crate::shared::Shared;

/// What is wrong is a finding; only a disk that fails is an error.
pub(super) fn check(shared: &Shared, report: &mut CheckReport) -> Result<(), ReadError> {
    let view = shared.stack.view();
    let mut known: BTreeSet<BranchNumber> = discarded(&view)?.into_iter().collect();
    report.discarded_branches = u64::try_from(known.len()).unwrap_or(u64::MAX);
    let rows = view_rows(&view, b"b")?.saturating_add(view_rows(&view, b"d")?);
    for branch in list(&view)? {
        report.branches = report.branches.saturating_add(1);
        known.insert(branch.number());
        // It may be discarded meanwhile.
        let is_kept =
            branch.base == Version::ZERO || shared.stack.with(|layers| layers.commit(branch.base))?.is_some();
        if !is_kept && shared.stack.with(|layers| is_there(layers, &branch, layers.visible()))? {
            report.add(format!("the branch {:?}", branch.name), "a version that is kept", branch.base);
        }
    }
    let read = u64::try_from(known.len()).unwrap_or(u64::MAX);
    if read != rows {
        report.add("the branches", format!("{rows} rows that can be read"), read);
    }
    for row in Merge::new(&view, None, TableId::BRANCHES, &KeyRange::all(), Direction::Up)? {
        let (place, value) = row?;
        let of_branch = split_place(&place).is_some_and(|(number, _, _)| known.contains(&number));
        if !of_branch || untagged(&place, &value).is_err() {
            let place = format!("the rows of branches, key {}", place.escape_ascii());
            report.add(place, "a row of a branch", value.get(..1).unwrap_or_default().escape_ascii());
        }
    }
    Ok(())
}

/// Rows of the store's own table that begin with a prefix.
fn view_rows(view: &View, prefix: &[u8]) -> Result<u64, ReadError> {
    let range = KeyRange::prefix(prefix);
    let mut count = 0_u64;
    for row in Merge::new(view, None, TableId::SYSTEM, &range, Direction::Up)? {
        row?;
        count = count.saturating_add(1);
    }
    Ok(count)
}
