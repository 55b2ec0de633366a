//! Leaves: the rows of a tree, sorted.
//!
//! Invariants: those of [`crate::keys`]; a leaf has at least one row; behind what is used there are only zeros.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_pager::{Page, PageKind};

use crate::chain::Chain;
use crate::error::TreeError;
use crate::keys::{Keys, Layout, Rest};
use crate::layout::{Field, is_zero};
use crate::limits::{inline_len_max, key_len_max};
use crate::value::{Body, Found};

/// The kind of a page of rows.
pub(crate) const LEAF: PageKind = PageKind::new(16);

pub(crate) const COUNT: Field = Field::first("rows", 2, "rows of the page");
pub(crate) const PREFIX_LEN: Field = COUNT.then("prefix", 2, "bytes that all keys begin with");
pub(crate) const USED: Field = PREFIX_LEN.then("used", 2, "bytes in use; zeros follow");
pub(crate) const CHAINS: Field = USED.then("chains", 2, "rows whose value has pages of its own");
#[cfg(test)]
pub(crate) const LEAF_FIELDS: [Field; 4] = [COUNT, PREFIX_LEN, USED, CHAINS];
/// Bytes before the heads.
pub(crate) const HEADER_LEN: usize = CHAINS.end();

const _: () = assert!(HEADER_LEN == crate::keys::HEADER_LEN);

/// The rows of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    page: &'a Page,
    keys: Keys<'a>,
}

/// A row: its key behind the page's prefix, and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) rest: Rest<'a>,
    pub(crate) body: Body<'a>,
    /// The body as it is stored, its length included.
    pub(crate) stored: &'a [u8],
    /// Where an inline value, or the reference to a chain, begins in the payload.
    pub(crate) at: usize,
}

impl<'a> Leaf<'a> {
    /// Looks at the head of a page; its cells are checked when they are reached.
    #[inline]
    pub(crate) fn parse(page: &'a Page) -> Result<Self, TreeError> {
        let payload = page.payload();
        if page.kind() != LEAF {
            page.clone().expect_kind(LEAF)?;
        }
        let [count, prefix_len, used_len] =
            [COUNT, PREFIX_LEN, USED].map(|field| usize::from(field.u16(payload)));
        let layout = Layout::new(count, 0, prefix_len, used_len);
        match layout.and_then(|layout| Keys::new(payload, layout)) {
            Some(keys) if count > 0 => Ok(Self { page, keys }),
            Some(_) => {
                Err(TreeError::damaged(page.reference().page, "rows of a leaf", "at least one", "none"))
            }
            None => Err(TreeError::cut(page.reference().page, "head of a leaf")),
        }
    }

    /// A page that was looked at before, and found to have this layout.
    #[inline]
    pub(crate) fn again(page: &'a Page, layout: Layout) -> Result<Self, TreeError> {
        match Keys::new(page.payload(), layout) {
            Some(keys) => Ok(Self { page, keys }),
            None => Err(TreeError::cut(page.reference().page, "head of a leaf")),
        }
    }

    /// Where everything is.
    pub(crate) const fn layout(&self) -> Layout {
        self.keys.layout()
    }

    /// How many rows there are, at least one.
    pub(crate) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes in use.
    pub(crate) const fn used_len(&self) -> usize {
        self.keys.layout().used_len()
    }

    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> &'a [u8] {
        self.keys.prefix()
    }

    /// How many rows say that their value has pages of its own.
    pub(crate) fn chains(&self) -> usize {
        usize::from(CHAINS.u16(self.page.payload()))
    }

    /// Where `key` is, or before which row it belongs.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Result<Result<usize, usize>, TreeError> {
        self.keys.search(key).ok_or_else(|| self.cut())
    }

    /// The row at a place.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> Result<Row<'a>, TreeError> {
        let (rest, after) = self.keys.get(index).ok_or_else(|| self.cut())?;
        let (body, len) = Body::parse(after).ok_or_else(|| self.cut())?;
        let at = self.keys.offset_of(after).saturating_add(len).saturating_sub(body.data().len());
        Ok(Row { rest, body, stored: after.get(..len).unwrap_or_default(), at })
    }

    /// Whether the key at a place is behind the one before it.
    #[inline]
    pub(crate) fn ascends_to(&self, index: usize) -> Result<bool, TreeError> {
        self.keys.ascends_to(index).ok_or_else(|| self.cut())
    }

    /// The value of a row, where it stands.
    #[inline]
    pub(crate) const fn found(&self, row: &Row<'a>) -> Found<'a> {
        Found::new(self.page, row.at, row.body)
    }

    /// Puts a whole key into `key`.
    pub(crate) fn assemble(&self, index: usize, key: &mut Vec<u8>) -> Result<(), TreeError> {
        self.keys.assemble(index, key).ok_or_else(|| self.cut())
    }

    /// Every chain of the page, with the place in the payload where the reference to it stands.
    pub(crate) fn each_chain(
        &self,
        visit: &mut dyn FnMut(usize, Chain) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        if self.chains() == 0 {
            return Ok(());
        }
        for index in 0..self.len() {
            let row = self.row(index)?;
            if row.body.is_chain() {
                visit(row.at, row.body.chain().ok_or_else(|| self.cut())?)?;
            }
        }
        Ok(())
    }

    /// Holds every byte of the page against what a writer makes.
    pub(crate) fn check(&self) -> Result<(), TreeError> {
        let page = self.page.reference().page;
        let payload = self.page.payload();
        let wrong =
            |(what, expected, found): (_, String, String)| TreeError::damaged(page, what, expected, found);
        self.keys.check(|after| Some(Body::parse(after)?.1)).map_err(wrong)?;
        let (key_max, inline_max) = (key_len_max(payload.len()), inline_len_max(payload.len()));
        let mut chains: usize = 0;
        for index in 0..self.len() {
            let row = self.row(index)?;
            let key_len = self.prefix().len().saturating_add(row.rest.len());
            if key_len > key_max {
                let found = format!("{key_len} bytes");
                return Err(wrong(("key", format!("at most {key_max} bytes"), found)));
            }
            row.body.check(row.stored, inline_max).map_err(wrong)?;
            chains = chains.saturating_add(usize::from(row.body.is_chain()));
        }
        if chains != self.chains() {
            return Err(wrong(("number of chains", chains.to_string(), self.chains().to_string())));
        }
        if !payload.get(self.used_len()..).is_some_and(is_zero) {
            return Err(wrong(("bytes behind the rows", "zeros".to_owned(), "others".to_owned())));
        }
        Ok(())
    }

    #[cold]
    fn cut(&self) -> TreeError {
        cut(self.page)
    }
}

/// A row that reaches past what is used of its page.
#[cold]
pub(crate) fn cut(page: &Page) -> TreeError {
    TreeError::cut(page.reference().page, "row of a leaf")
}
