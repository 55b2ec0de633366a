//! Looking at every page of a tree, and at everything that must be true of it.

use keepstone_pager::{Page, PageKind, PageRead};
use keepstone_types::PageRef;

use crate::chain::{self, OVERFLOW};
use crate::error::{TreeError, printed};
use crate::inner::{INNER, Inner};
use crate::layout::disk_len;
use crate::leaf::{LEAF, Leaf};
use crate::root::TreeRoot;

/// What a tree is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeShape {
    /// Rows.
    pub rows: u64,
    /// Levels; 0 without rows.
    pub height: u8,
    /// Pages of rows.
    pub leaf_pages: u64,
    /// Pages of references.
    pub inner_pages: u64,
    /// Pages of large values.
    pub overflow_pages: u64,
    /// Bytes of payload in use in pages of rows.
    pub leaf_used_bytes: u64,
    /// Bytes of payload in use in pages of references.
    pub inner_used_bytes: u64,
    /// Bytes of large values.
    pub overflow_used_bytes: u64,
    /// Bytes of keys.
    pub key_bytes: u64,
    /// Bytes of values, large ones included.
    pub value_bytes: u64,
    /// Bytes of payload in every page.
    pub payload_len: u64,
}

impl TreeShape {
    /// Pages of every kind.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.leaf_pages + self.inner_pages + self.overflow_pages
    }

    /// How full pages of rows are, in tenths of a percent; 0 without any.
    #[must_use]
    pub fn leaf_fill_permille(&self) -> u64 {
        permille(self.leaf_used_bytes, self.leaf_pages, self.payload_len)
    }

    /// How full pages of references are, in tenths of a percent; 0 without any.
    #[must_use]
    pub fn inner_fill_permille(&self) -> u64 {
        permille(self.inner_used_bytes, self.inner_pages, self.payload_len)
    }
}

fn permille(used: u64, pages: u64, payload_len: u64) -> u64 {
    used.saturating_mul(1_000).checked_div(pages.saturating_mul(payload_len)).unwrap_or(0)
}

/// Visits every page of a tree once, parents before children, large values included, and holds each against everything that
/// must be true of it: order, prefixes, heads, separators, levels, generations, lengths, counts.
///
/// Memory is bounded by the height of the tree.
///
/// # Errors
/// What `visit` returns, or the first damage.
pub fn walk<P: PageRead + ?Sized>(
    pages: &P,
    root: TreeRoot,
    visit: &mut dyn FnMut(PageRef, PageKind) -> Result<(), TreeError>,
) -> Result<TreeShape, TreeError> {
    let shape = TreeShape {
        height: root.height(),
        payload_len: disk_len(pages.payload_len()),
        ..TreeShape::default()
    };
    let mut walk = Walk { pages, visit, shape, last: None, key: Vec::new() };
    if let Some((top, level)) = root.top() {
        walk.page(top, level, None, None)?;
    }
    if walk.shape.rows != root.rows() {
        let found = format!("{} of {}", walk.shape.rows, root.rows());
        return Err(TreeError::Root { what: "rows", expected: "all that are counted", found });
    }
    Ok(walk.shape)
}

struct Walk<'a, P: PageRead + ?Sized> {
    pages: &'a P,
    visit: &'a mut dyn FnMut(PageRef, PageKind) -> Result<(), TreeError>,
    shape: TreeShape,
    /// The last key that was seen.
    last: Option<Vec<u8>>,
    key: Vec<u8>,
}

impl<P: PageRead + ?Sized> Walk<'_, P> {
    /// A page that may hold keys from `low` on and below `high`.
    fn page(
        &mut self,
        at: PageRef,
        level: u8,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(), TreeError> {
        let page = self.pages.read(at)?;
        if level == 0 { self.leaf(&page, low, high) } else { self.inner(&page, level, low, high) }
    }

    fn inner(
        &mut self,
        page: &Page,
        level: u8,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(), TreeError> {
        let inner = Inner::parse(page, level)?;
        (self.visit)(page.reference(), INNER)?;
        inner.check()?;
        self.shape.inner_pages += 1;
        self.shape.inner_used_bytes += disk_len(inner.used_len());
        if level + 1 == self.shape.height && inner.len() < 2 {
            return Err(TreeError::damaged(
                page.reference().page,
                "topmost page",
                "at least two children",
                "one",
            ));
        }
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for child in 0..inner.len() {
            let has_low = inner.separator(child, &mut from)?;
            let has_high = inner.separator(child + 1, &mut to)?;
            if has_low {
                self.check_bounds(page, &from, low, high)?;
            }
            let (low, high) =
                (if has_low { Some(&from[..]) } else { low }, if has_high { Some(&to[..]) } else { high });
            self.page(inner.child(child)?, level - 1, low, high)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), TreeError> {
        let leaf = Leaf::parse(page)?;
        (self.visit)(page.reference(), LEAF)?;
        leaf.check()?;
        self.shape.leaf_pages += 1;
        self.shape.leaf_used_bytes += disk_len(leaf.used_len());
        let mut key = std::mem::take(&mut self.key);
        for index in 0..leaf.len() {
            leaf.assemble(index, &mut key)?;
            self.check_bounds(page, &key, low, high)?;
            if let Some(last) = self.last.as_ref().filter(|last| **last >= key) {
                let expected = format!("a key after {}", printed(last));
                return Err(TreeError::damaged(
                    page.reference().page,
                    "order of the keys",
                    expected,
                    printed(&key),
                ));
            }
            self.last.get_or_insert_default().clone_from(&key);
            self.shape.rows += 1;
            self.shape.key_bytes += disk_len(key.len());
            self.shape.value_bytes += leaf.row(index)?.body.value_len();
        }
        self.key = key;
        leaf.each_chain(&mut |_, chain| {
            let mut head = Vec::new();
            let own = page.reference().birth;
            chain::each_page(self.pages, &chain, &mut |at, data| {
                (self.visit)(at, OVERFLOW)?;
                self.shape.overflow_pages += 1;
                self.shape.overflow_used_bytes += disk_len(data.len());
                if head.len() < chain.head().len() {
                    head.extend(data.iter().take(chain.head().len() - head.len()));
                }
                if at.birth > own {
                    let (expected, found) = (format!("at most {own}"), at.birth.to_string());
                    return Err(TreeError::damaged(at.page, "generation of a large value", expected, found));
                }
                Ok(())
            })?;
            if head != chain.head() {
                let (expected, found) = (printed(chain.head()), printed(&head));
                return Err(TreeError::damaged(page.reference().page, "head of a value", expected, found));
            }
            Ok(())
        })
    }

    fn check_bounds(
        &self,
        page: &Page,
        key: &[u8],
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(), TreeError> {
        if low.is_some_and(|low| key < low) || high.is_some_and(|high| key >= high) {
            let (low, high) = (low.map_or_else(|| "the lowest".to_owned(), printed), high.map(printed));
            let high = high.map_or_else(|| "the end".to_owned(), |high| format!("before {high}"));
            let expected = format!("from {low} to {high}");
            return Err(TreeError::damaged(
                page.reference().page,
                "key outside of its page",
                expected,
                printed(key),
            ));
        }
        Ok(())
    }
}
