//! Inner pages: references to the pages below, and the keys that tell them apart.
//!
//! Invariants: those of [`crate::keys`]; child `i` holds the keys from separator `i` on and below separator `i + 1`; the
//! first child has no separator, what is below it is told by the page above. A separator is as short as it can be when it
//! is made. The level is one more than that of the children, 0 for leaves; a child is no younger than its parent.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_pager::{Page, PageKind};
use keepstone_types::{Generation, PageId, PageRef};

use crate::error::TreeError;
use crate::keys::{Keys, Layout};
use crate::layout::{Field, is_zero};
use crate::limits::key_len_max;

/// The kind of a page of references.
pub(crate) const INNER: PageKind = PageKind::new(17);

pub(crate) const COUNT: Field = Field::first("children", 2, "pages below");
pub(crate) const PREFIX_LEN: Field = COUNT.then("prefix", 2, "bytes that all separators begin with");
pub(crate) const USED: Field = PREFIX_LEN.then("used", 2, "bytes in use; zeros follow");
pub(crate) const LEVEL: Field = USED.then("level", 1, "levels below; at least 1");
pub(crate) const RESERVED: Field = LEVEL.then("reserved", 1, "zero");
#[cfg(test)]
pub(crate) const INNER_FIELDS: [Field; 5] = [COUNT, PREFIX_LEN, USED, LEVEL, RESERVED];
/// Bytes before the heads.
pub(crate) const HEADER_LEN: usize = RESERVED.end();
/// Bytes of a reference to a child.
pub(crate) const CHILD_LEN: usize = PageRef::LEN;

const _: () = assert!(HEADER_LEN == crate::keys::HEADER_LEN);

/// The children of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner<'a> {
    page: &'a Page,
    separators: Keys<'a>,
    children: &'a [[u8; CHILD_LEN]],
}

impl<'a> Inner<'a> {
    /// Looks at the head of a page that should be of this level; its cells are checked when they are reached.
    #[inline]
    pub(crate) fn parse(page: &'a Page, level: u8) -> Result<Self, TreeError> {
        let payload = page.payload();
        if page.kind() != INNER {
            page.clone().expect_kind(INNER)?;
        }
        let wrong = |what, expected: String, found: String| {
            Err(TreeError::damaged(page.reference().page, what, expected, found))
        };
        let [found] = LEVEL.array(payload);
        if found != level {
            return wrong("level", level.to_string(), u8::to_string(&found));
        }
        let [count, prefix_len, used_len] =
            [COUNT, PREFIX_LEN, USED].map(|field| usize::from(field.u16(payload)));
        let Some(separators) = count.checked_sub(1) else {
            return wrong("children of an inner page", "at least one".to_owned(), "none".to_owned());
        };
        let layout = Layout::new(separators, count.saturating_mul(CHILD_LEN), prefix_len, used_len);
        match layout.and_then(|layout| Keys::new(payload, layout)) {
            Some(separators) => Ok(Self { page, separators, children: separators.between().as_chunks().0 }),
            None => Err(TreeError::cut(page.reference().page, "head of an inner page")),
        }
    }

    /// How many children there are, at least one.
    pub(crate) const fn len(&self) -> usize {
        self.children.len()
    }

    /// Bytes in use.
    pub(crate) const fn used_len(&self) -> usize {
        self.separators.layout().used_len()
    }

    /// The reference to a child.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> Result<PageRef, TreeError> {
        let bytes = self.children.get(index).ok_or_else(|| self.cut())?;
        PageRef::from_bytes(*bytes)
            .ok_or_else(|| TreeError::damaged(self.id(), "reference to a child", "a page", "none"))
    }

    /// The generation that wrote a child; 0 for a child that is not there.
    pub(crate) fn birth(&self, index: usize) -> Generation {
        let birth = self.children.get(index).and_then(|bytes| bytes.get(PageId::LEN..));
        birth
            .and_then(|bytes| bytes.first_chunk())
            .map_or(Generation::ZERO, |bytes| Generation::from_bytes(*bytes))
    }

    /// The child that holds `key` if any does.
    #[inline]
    pub(crate) fn child_for(&self, key: &[u8]) -> Result<usize, TreeError> {
        Ok(match self.separators.search(key).ok_or_else(|| self.cut())? {
            Ok(equal) => equal.saturating_add(1),
            Err(before) => before,
        })
    }

    /// Puts the lowest key that a child may hold into `key`. The first child has none of its own: `false` then.
    pub(crate) fn separator(&self, child: usize, key: &mut Vec<u8>) -> Result<bool, TreeError> {
        let Some(index) = child.checked_sub(1).filter(|index| *index < self.separators.len()) else {
            return Ok(false);
        };
        self.separators.assemble(index, key).ok_or_else(|| self.cut())?;
        Ok(true)
    }

    /// Where the reference to a child stands in the payload.
    pub(crate) fn child_at(&self, index: usize) -> usize {
        let separator_len = crate::keys::HEAD_LEN.saturating_add(crate::keys::OFFSET_LEN);
        let before = self.separators.len().saturating_mul(separator_len);
        HEADER_LEN.saturating_add(before).saturating_add(index.saturating_mul(CHILD_LEN))
    }

    /// Holds every byte of the page against what a writer makes.
    pub(crate) fn check(&self) -> Result<(), TreeError> {
        let payload = self.page.payload();
        let wrong = |(what, expected, found): (_, String, String)| {
            TreeError::damaged(self.id(), what, expected, found)
        };
        self.separators.check(|_| Some(0)).map_err(wrong)?;
        let max = key_len_max(payload.len());
        let mut key = Vec::new();
        for child in 0..self.len() {
            if self.separator(child, &mut key)? && (key.is_empty() || key.len() > max) {
                let found = format!("{} bytes", key.len());
                return Err(wrong(("separator", format!("1 to {max} bytes"), found)));
            }
            let (birth, own) = (self.child(child)?.birth, self.page.reference().birth);
            if birth > own {
                return Err(wrong(("generation of a child", format!("at most {own}"), birth.to_string())));
            }
        }
        let reserved = is_zero(RESERVED.bytes(payload));
        if !reserved || !payload.get(self.used_len()..).is_some_and(is_zero) {
            return Err(wrong(("unused bytes", "zeros".to_owned(), "others".to_owned())));
        }
        Ok(())
    }

    fn id(&self) -> PageId {
        self.page.reference().page
    }

    #[cold]
    fn cut(&self) -> TreeError {
        TreeError::cut(self.id(), "child of an inner page")
    }
}
