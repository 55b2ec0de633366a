//! Rows of one leaf that stand side by side, kept together with their page: what a scan takes along to look at later, when
//! it looks at all.
//!
//! Invariant: keys ascend strictly within a run, or the leaf is damaged; each row is held against the one before it when it
//! is looked at.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use keepstone_pager::Page;

use crate::error::{TreeError, printed};
use crate::keys::{Layout, Rest};
use crate::leaf::Leaf;
use crate::value::Found;

/// Rows of one leaf, at least one. It keeps the memory of its page, and nothing else.
#[derive(Clone, Debug)]
pub struct LeafRun {
    page: Page,
    layout: Layout,
    rows: Range<usize>,
}

/// A row of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunRow<'a> {
    prefix: &'a [u8],
    rest: Rest<'a>,
    found: Found<'a>,
}

impl<'a> RunRow<'a> {
    /// The key, in parts that stand one after the other.
    #[inline]
    #[must_use]
    pub fn key_parts(&self) -> [&[u8]; 3] {
        [self.prefix, self.rest.front(), self.rest.tail()]
    }

    /// The value, where it stands.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> Found<'a> {
        self.found
    }
}

impl LeafRun {
    /// Rows of a leaf that has them.
    pub(crate) const fn new(page: Page, layout: Layout, rows: Range<usize>) -> Self {
        Self { page, layout, rows }
    }

    /// The places of the rows in their leaf.
    #[inline]
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Bytes of memory that the run keeps.
    #[must_use]
    pub fn kept_len(&self) -> usize {
        self.page.payload().len()
    }

    /// The row at a place of its leaf.
    ///
    /// # Errors
    /// When the leaf is damaged: the row reaches past its end, or its key is not behind the one before.
    #[inline(always)]
    pub fn row(&self, place: usize) -> Result<RunRow<'_>, TreeError> {
        let leaf = Leaf::again(&self.page, self.layout)?;
        let row = leaf.row(place)?;
        if place > self.rows.start && !leaf.ascends_to(place)? {
            return Err(self.out_of_order(&row.rest));
        }
        Ok(RunRow { prefix: leaf.prefix(), rest: row.rest, found: leaf.found(&row) })
    }

    #[cold]
    fn out_of_order(&self, found: &Rest<'_>) -> TreeError {
        let found = printed(&[found.front(), found.tail()].concat());
        let (page, expected) = (self.page.reference().page, "a key further on than the one before");
        TreeError::damaged(page, "order of the keys", expected, found)
    }
}
