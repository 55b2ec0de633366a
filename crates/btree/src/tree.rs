//! Reading a tree.

use keepstone_pager::PageRead;
use keepstone_types::Generation;

use crate::cursor::Cursor;
use crate::error::TreeError;
use crate::inner::Inner;
use crate::leaf::Leaf;
use crate::root::TreeRoot;
use crate::value::{Found, Stored};

/// A tree to read from: its root, and where its pages are.
#[derive(Debug)]
pub struct Tree<'a, P: PageRead + ?Sized> {
    pages: &'a P,
    root: TreeRoot,
}

impl<P: PageRead + ?Sized> Clone for Tree<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: PageRead + ?Sized> Copy for Tree<'_, P> {}

impl<'a, P: PageRead + ?Sized> Tree<'a, P> {
    /// The tree below `root`.
    #[must_use]
    pub const fn new(pages: &'a P, root: TreeRoot) -> Self {
        Self { pages, root }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When a page on the way cannot be read or is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Stored>, TreeError> {
        self.look_up(key, |found| found.stored())?.transpose()
    }

    /// Looks at the value of a key where it stands, so that only what is needed of it is copied.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn look_up<T>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> T) -> Result<Option<T>, TreeError> {
        let Some((mut at, top)) = self.root.top() else { return Ok(None) };
        for level in (1..=top).rev() {
            let page = self.pages.read(at)?;
            let inner = Inner::parse(&page, level)?;
            at = inner.child(inner.child_for(key)?)?;
        }
        let page = self.pages.read(at)?;
        let leaf = Leaf::parse(&page)?;
        match leaf.search(key)? {
            Ok(index) => Ok(Some(look(leaf.found(&leaf.row(index)?)))),
            Err(_) => Ok(None),
        }
    }

    /// A cursor over all rows, before the first.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'a, P> {
        Cursor::new(self.pages, self.root, None)
    }

    /// A cursor over the rows of leaves that were written after `since`, before the first. Pages that were written then or
    /// earlier are not read, with all below them.
    #[must_use]
    pub fn cursor_since(&self, since: Generation) -> Cursor<'a, P> {
        Cursor::new(self.pages, self.root, Some(since))
    }
}
