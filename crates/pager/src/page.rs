//! A page as it is read: its kind, its place, and its payload, shared with the cache that holds it.

use std::fmt;
use std::ops::Range;

use keepstone_types::{PageId, PageRef, ValueRef};

use crate::error::PageError;
use crate::sync::Arc;

/// What a page is. Kinds below 16 are the page file's own; what the others mean is for the layer above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKind(u8);

impl PageKind {
    /// The free slots of a region.
    pub const FREE_SPACE: Self = Self(1);
    /// Where the pages of free slots are.
    pub const FREE_SPACE_DIRECTORY: Self = Self(2);
    /// The parity of a group of slots.
    pub const PARITY: Self = Self(3);
    /// The first kind of the layer above.
    pub const FIRST_FREE: Self = Self(16);

    /// The kind with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page whose content is what its reference says. Cloning copies nothing.
#[derive(Clone)]
pub struct Page(Arc<Content>);

/// What clones of a page share.
#[derive(Debug)]
struct Content {
    reference: PageRef,
    kind: PageKind,
    payload: ValueRef,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Page {
    /// A page that was verified against `reference`.
    pub(crate) fn verified(reference: PageRef, kind: PageKind, payload: ValueRef) -> Self {
        Self(Arc::new(Content { reference, kind, payload }))
    }

    /// The reference that led here.
    #[inline]
    #[must_use]
    pub fn reference(&self) -> PageRef {
        self.0.reference
    }

    /// What it is.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> PageKind {
        self.0.kind
    }

    /// The content, as long as every payload of the file: what was written, then zeros.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// A part of the payload that stays valid after anything and shares this page's memory; `None` when `range` reaches
    /// past the end. Keeping it keeps the memory of the whole page.
    #[inline]
    #[must_use]
    pub fn share(&self, range: Range<usize>) -> Option<ValueRef> {
        self.0.payload.slice(range)
    }

    /// Fails unless the page is of the kind that the caller came for.
    ///
    /// # Errors
    /// [`PageError::UnexpectedKind`].
    pub fn expect_kind(self, expected: PageKind) -> Result<Self, PageError> {
        if self.kind() == expected {
            return Ok(self);
        }
        Err(PageError::UnexpectedKind { page: self.reference().page, expected, found: self.kind() })
    }
}

/// Slots that stand one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The first slot.
    pub first: PageId,
    /// How many; never 0.
    pub count: u32,
}

impl PageRun {
    /// The slot at a place in the run; `None` past its end.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<PageId> {
        if index < self.count { self.first.plus(index.into()) } else { None }
    }
}
