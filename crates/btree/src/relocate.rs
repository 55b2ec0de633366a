//! Moving a tree's pages elsewhere, and giving them back.
//!
//! Invariants: a page that moves is written anew before it is freed, and its parents after it, because they hold its
//! checksum; the rows do not change. Depth of recursion is the height of the tree.

use keepstone_pager::{PageRun, PageWrite, PageWriteExt};
use keepstone_types::{PageId, PageRef};

use crate::chain::{self, CELL_FIRST, CELL_LEN, CELL_PAGES, Chain};
use crate::error::TreeError;
use crate::inner::{CHILD_LEN, INNER, Inner};
use crate::leaf::{LEAF, Leaf};
use crate::root::TreeRoot;

/// Frees every page of a tree, those of large values included.
///
/// # Errors
/// When a page cannot be read or is damaged; the generation that is being built must be given up then.
pub fn free_tree<W: PageWrite + ?Sized>(pages: &mut W, root: TreeRoot) -> Result<(), TreeError> {
    match root.top() {
        Some((top, level)) => free_below(pages, top, level),
        None => Ok(()),
    }
}

fn free_below<W: PageWrite + ?Sized>(pages: &mut W, at: PageRef, level: u8) -> Result<(), TreeError> {
    let page = pages.read(at)?;
    if level == 0 {
        Leaf::parse(&page)?.each_chain(&mut |_, chain| chain::free(pages, &chain))?;
    } else {
        let inner = Inner::parse(&page, level)?;
        for child in 0..inner.len() {
            free_below(pages, inner.child(child)?, level - 1)?;
        }
    }
    Ok(pages.free(at.page, at.birth)?)
}

/// Writes anew the pages that must move, and so all above them. A large value moves as a whole when a page of it must.
/// Every page of rows and references is read. Memory is bounded by the height of the tree and the largest value that moves.
///
/// # Errors
/// When a page cannot be read or written; the generation that is being built must be given up then.
pub fn relocate<W: PageWrite + ?Sized>(
    pages: &mut W,
    root: TreeRoot,
    must_move: &dyn Fn(PageId) -> bool,
) -> Result<TreeRoot, TreeError> {
    relocate_with(pages, root, Moving { must_move, values: true })
}

/// As [`relocate`], but large values stay where they are. So of the pages of rows only those that move are read.
///
/// # Errors
/// As [`relocate`].
pub fn relocate_without_values<W: PageWrite + ?Sized>(
    pages: &mut W,
    root: TreeRoot,
    must_move: &dyn Fn(PageId) -> bool,
) -> Result<TreeRoot, TreeError> {
    relocate_with(pages, root, Moving { must_move, values: false })
}

/// What moves.
#[derive(Clone, Copy)]
struct Moving<'a> {
    must_move: &'a dyn Fn(PageId) -> bool,
    /// Large values do too.
    values: bool,
}

fn relocate_with<W: PageWrite + ?Sized>(
    pages: &mut W,
    root: TreeRoot,
    moving: Moving<'_>,
) -> Result<TreeRoot, TreeError> {
    let Some((top, level)) = root.top() else { return Ok(root) };
    let moved = move_below(pages, top, level, moving, &mut None)?;
    Ok(moved.map_or(root, |top| TreeRoot::new(top, root.height(), root.rows())))
}

/// Where a page is now; `None` when it and all below it stayed. `last` is the last key that was passed: keys ascend, so no
/// page is visited twice, whatever refers to it.
fn move_below<W: PageWrite + ?Sized>(
    pages: &mut W,
    at: PageRef,
    level: u8,
    moving: Moving<'_>,
    last: &mut Option<Vec<u8>>,
) -> Result<Option<PageRef>, TreeError> {
    let must_move = moving.must_move;
    if level == 0 && !moving.values && !must_move(at.page) {
        return Ok(None);
    }
    let page = pages.read(at)?;
    let mut payload = page.payload().to_vec();
    let mut changed = must_move(at.page);
    if level == 0 {
        let leaf = Leaf::parse(&page)?;
        let mut key = Vec::new();
        leaf.assemble(0, &mut key)?;
        if let Some(last) = last.as_ref().filter(|last| **last >= key) {
            return Err(TreeError::order(last, &key));
        }
        leaf.assemble(leaf.len() - 1, last.insert(key))?;
        leaf.each_chain(&mut |cell_at, chain| {
            if !moving.values {
                return Ok(());
            }
            if let Some(moved) = move_chain(pages, &chain, must_move)? {
                changed = true;
                if let Some(cell) = payload.get_mut(cell_at..cell_at + CELL_LEN) {
                    CELL_FIRST.put(cell, &moved.run.first.to_bytes());
                    CELL_PAGES.put(cell, &moved.run.pages.to_le_bytes());
                }
            }
            Ok(())
        })?;
    } else {
        let inner = Inner::parse(&page, level)?;
        for index in 0..inner.len() {
            let child_at = inner.child_at(index);
            if let Some(moved) = move_below(pages, inner.child(index)?, level - 1, moving, last)? {
                changed = true;
                if let Some(child) = payload.get_mut(child_at..child_at + CHILD_LEN) {
                    child.copy_from_slice(&moved.to_bytes());
                }
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    let moved = pages.put(if level == 0 { LEAF } else { INNER }, &payload)?;
    pages.free(at.page, at.birth)?;
    Ok(Some(moved))
}

fn move_chain<W: PageWrite + ?Sized>(
    pages: &mut W,
    chain: &Chain,
    must_move: &dyn Fn(PageId) -> bool,
) -> Result<Option<Chain>, TreeError> {
    let mut moves = false;
    chain::each_run(pages, chain, &mut |run| {
        let slots = PageRun { first: run.first.page, count: run.pages };
        moves |= (0..run.pages).filter_map(|index| slots.get(index)).any(must_move);
        Ok(())
    })?;
    if !moves {
        return Ok(None);
    }
    let value = chain::load(pages, chain)?;
    let moved = chain::write(pages, &[], &value)?;
    chain::free(pages, chain)?;
    Ok(Some(moved))
}
