//! Repair on read: a page that is not what its reference says is rebuilt from its group, proved and served.
//!
//! Which parity? That of the newest root counts every page that an older root leads to as well, unless its slot was
//! excluded since; then the parity of that root does. All roots that are held are asked, newest first. As long as a root is
//! held, all that its parity counts is on the disk: members and parity pages that were given up since are held like any
//! freed slot.

use keepstone_types::PageRef;

use super::ParityMode;
use super::group::{COLUMNS, group_of};
use super::members::two_losses;
use super::repair::Mended;
use crate::error::PageError;
use crate::file::Inner;
use crate::page::Page;
use crate::region::place_of;
use crate::root::Root;
use crate::space::Space;
use crate::sync::Arc;

impl Inner {
    /// The page that a reference leads to, although it could not be read; the error of that if there is no help.
    pub(crate) fn rebuilt(&self, at: PageRef, error: PageError) -> Result<Page, PageError> {
        let lost = match &error {
            PageError::Damaged { found, .. } => found.clone(),
            PageError::Io(error) => error.to_string(),
            _ => return Err(error),
        };
        self.counters().damaged_pages.add(1);
        let mut two = None;
        for root in self.live_roots() {
            if root.generation() < at.birth || root.header().parity.mode == ParityMode::Off {
                continue;
            }
            match self.rebuilt_under(&root, at, &lost) {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => {}
                Err(error) => two = two.or(Some(error)),
            }
        }
        self.counters().unrepairable_pages.add(1);
        Err(two.unwrap_or(error))
    }

    /// `None` when the parity of a root does not count the page.
    fn rebuilt_under(&self, root: &Root, at: PageRef, lost: &str) -> Result<Option<Page>, PageError> {
        let header = root.header();
        let (region, column) = group_of(at.page);
        let row = place_of(at.page) / COLUMNS;
        let mut space = Space::of(Arc::clone(&self.slots), header, header.slots);
        let Some(members) = space.members(region, column)? else { return Ok(None) };
        if members.group().mask >> row & 1 == 0 || !members.is_member(row, at) {
            return Ok(None);
        }
        let rebuilt = members
            .rebuild(row)
            .map_err(|others| two_losses(&self.slots, at.page, lost.to_owned(), others))?;
        if rebuilt.at != at {
            return Ok(None);
        }
        self.slots.repairs.push(Mended::Member, at, &rebuilt.bytes);
        Ok(Some(rebuilt.page()))
    }
}
