//! What the layer above keeps of a tree: the reference to its topmost page.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::PageRef;
use keepstone_types::wire::Reader;

use crate::error::TreeError;
use crate::layout::Field;
use crate::limits::HEIGHT_MAX;

pub(crate) const PAGE: Field =
    Field::first("page", PageRef::LEN, "reference to the topmost page; zeros: none");
pub(crate) const HEIGHT: Field = PAGE.then("height", 1, "levels; 0: no rows, 1: a leaf alone");
pub(crate) const ROWS: Field = HEIGHT.then("rows", 8, "rows of the whole tree");
#[cfg(test)]
pub(crate) const ROOT_FIELDS: [Field; 3] = [PAGE, HEIGHT, ROWS];

/// A tree as it was when it was written. Nothing of it changes until its pages are freed and given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeRoot {
    page: Option<PageRef>,
    height: u8,
    rows: u64,
}

impl TreeRoot {
    /// A tree without rows; it has no page.
    pub const EMPTY: Self = Self { page: None, height: 0, rows: 0 };
    /// Bytes of the stored form.
    pub const LEN: usize = ROWS.end();

    /// A tree of `height` levels below `page`.
    pub(crate) const fn new(page: PageRef, height: u8, rows: u64) -> Self {
        Self { page: Some(page), height, rows }
    }

    /// The topmost page; `None` for a tree without rows.
    #[must_use]
    pub const fn page(&self) -> Option<PageRef> {
        self.page
    }

    /// Levels: 0 without rows, 1 for a leaf alone.
    #[must_use]
    pub const fn height(&self) -> u8 {
        self.height
    }

    /// Rows of the whole tree.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.page.is_none()
    }

    /// The topmost page and its level, counted from 0 for leaves.
    pub(crate) fn top(&self) -> Option<(PageRef, u8)> {
        Some((self.page?, self.height.checked_sub(1)?))
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        PAGE.put(&mut bytes, &PageRef::optional_to_bytes(self.page));
        HEIGHT.put(&mut bytes, &[self.height]);
        ROWS.put(&mut bytes, &self.rows.to_le_bytes());
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`TreeError::RootCut`] when fewer than [`TreeRoot::LEN`] bytes are left, [`TreeError::Root`] when the fields
    /// contradict each other.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, TreeError> {
        let page = PageRef::read(reader)?;
        let (height, rows) = (reader.u8()?, reader.u64()?);
        let wrong = |what, expected, found: String| Err(TreeError::Root { what, expected, found });
        if height > HEIGHT_MAX {
            return wrong("levels", "at most 64", height.to_string());
        }
        if page.is_some() != (height > 0) || page.is_some() != (rows > 0) {
            let found = format!(
                "{height} levels, {rows} rows, {}",
                if page.is_some() { "a page" } else { "no page" }
            );
            return wrong("emptiness", "all of page, levels and rows, or none", found);
        }
        Ok(Self { page, height, rows })
    }
}

#[cfg(test)]
mod tests {
    use keepstone_types::{Generation, PageId};

    use super::*;

    fn some_page() -> PageRef {
        PageRef { page: PageId::new(7).unwrap(), birth: Generation::new(3).unwrap(), checksum: 11 }
    }

    #[test]
    fn roots_round_trip() {
        assert_eq!(TreeRoot::LEN, 29);
        for root in [TreeRoot::EMPTY, TreeRoot::default(), TreeRoot::new(some_page(), 3, u64::MAX)] {
            assert_eq!(TreeRoot::read(&mut Reader::new(&root.to_bytes())).unwrap(), root);
        }
    }

    #[test]
    fn a_root_that_contradicts_itself_is_damage() {
        let good = TreeRoot::new(some_page(), 1, 1).to_bytes();
        for (field, value) in [(HEIGHT, &[0_u8][..]), (HEIGHT, &[65]), (ROWS, &[0; 8]), (PAGE, &[0; 20])] {
            let mut bytes = good;
            field.put(&mut bytes, value);
            let error = TreeRoot::read(&mut Reader::new(&bytes)).unwrap_err();
            assert!(error.is_damage(), "{}: {error}", field.name);
        }
        let error = TreeRoot::read(&mut Reader::new(&good[1..])).unwrap_err();
        assert!(matches!(error, TreeError::RootCut(_)) && error.is_damage(), "{error}");
    }
}
