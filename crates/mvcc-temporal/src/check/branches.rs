//! The branches held against their rows: each is forked at a version that can be read, and no row is of none.

use std::collections::BTreeSet;

use keepstone_types::Version;

use super::CheckReport;
use crate::branches::{
    BRANCH_PREFIX, BranchNumber, DISCARDED_PREFIX, discarded, is_there, list, split_place, untagged,
};
use crate::catalog::TableId;
use crate::error::ReadError;
use crate::key_range::KeyRange;
use crate::merge::{Direction, Merge, system_rows};
use crate::shared::Shared;

/// What is wrong is a finding; only a disk that fails is an error.
pub(super) fn check(shared: &Shared, report: &mut CheckReport) -> Result<(), ReadError> {
    let view = shared.stack.view();
    let mut known: BTreeSet<BranchNumber> = discarded(&view)?.into_iter().collect();
    report.discarded_branches = u64::try_from(known.len()).unwrap_or(u64::MAX);
    let rows = system_rows(&view, BRANCH_PREFIX)?.len() + system_rows(&view, DISCARDED_PREFIX)?.len();
    let rows = u64::try_from(rows).unwrap_or(u64::MAX);
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
