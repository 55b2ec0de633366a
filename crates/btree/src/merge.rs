//! Making a new tree from an old one and sorted edits.
//!
//! Invariants:
//! * Only pages on the way to an edit that changes something are written anew; all others are used as they are.
//! * A page is written when everything below it is, because it holds the checksums of those below.
//! * What is replaced is freed, once; what an error leaves behind belongs to a generation that must be given up.
//! * The content of a page in the making is held in memory until it is known whether it stands alone: when it would use less
//!   than a quarter of a page, it is put together with a neighbour, if one page can hold both.
//! * Leaves that stand side by side and all change are cut anew together, a few at a time, so that edits in many places do not
//!   leave pages half full.
//! * Depth of recursion is the height of the tree.

use keepstone_pager::{Page, PageWrite};
use keepstone_types::PageRef;

use crate::builder::{next_level, only};
use crate::chain;
use crate::error::{TreeError, check_key};
use crate::inner::Inner;
use crate::items::{Items, Room, Spread};
use crate::leaf::Leaf;
use crate::limits::{Fill, check_payload_len, used_len_min};
use crate::root::TreeRoot;
use crate::value::{Decision, Edit, NewValue, Stored};

/// Makes a tree of `root` and `edits`, whose keys must ascend strictly. `decide` is called once for each edit, in order, with
/// what stands there. The pages that the new tree does without are freed; those of `root` can be read as long as the pages
/// of its generation are kept.
///
/// An edit that changes nothing (a deletion of what is not there, one that is skipped) writes nothing. After an error the
/// generation that is being built must be given up.
///
/// # Errors
/// When keys do not ascend, a key or value is too long (before anything is written), or a page cannot be read or written.
pub fn merge<W: PageWrite + ?Sized>(
    pages: &mut W,
    root: TreeRoot,
    edits: &[Edit],
    fill: Fill,
    decide: &mut dyn FnMut(&Edit, Option<&Stored>) -> Decision,
) -> Result<TreeRoot, TreeError> {
    check_payload_len(pages.payload_len())?;
    check_edits(pages, edits)?;
    let room = Room::new(pages.payload_len(), fill);
    let mut merge = Merge { pages, room, decide, body: Vec::new(), added: 0, removed: 0 };
    let mut content = Content::new(root.top().map_or(0, |(_, level)| level));
    // Pages that are written before their neighbours are known stand here; they are the children of the next level.
    let mut parents = Items::new(next_level(content.items.level())?);
    match root.page() {
        None => drop(merge.rows(None, edits, &mut content, &mut parents)?),
        Some(top) => {
            if !merge.page(top, &[], edits, &mut content, &mut parents)? {
                return Ok(root);
            }
            merge.pages.free(top.page, top.birth)?;
        }
    }
    let rows = root.rows().checked_add(merge.added).and_then(|rows| rows.checked_sub(merge.removed));
    let rows = rows.ok_or(TreeError::Root {
        what: "rows",
        expected: "as many as are found",
        found: format!("{} of which {} were removed", root.rows(), merge.removed),
    })?;
    merge.finish(content, parents, rows)
}

/// What can be said against edits before anything is done.
fn check_edits<W: PageWrite + ?Sized>(pages: &W, edits: &[Edit]) -> Result<(), TreeError> {
    let mut last: Option<&Edit> = None;
    for edit in edits {
        check_key(pages, &edit.key)?;
        edit.value.check_len()?;
        if let Some(last) = last.filter(|last| last.key >= edit.key) {
            return Err(TreeError::order(&last.key, &edit.key));
        }
        last = Some(edit);
    }
    Ok(())
}

/// A merge under way.
struct Merge<'a, W: PageWrite + ?Sized> {
    pages: &'a mut W,
    room: Room,
    decide: &'a mut dyn FnMut(&Edit, Option<&Stored>) -> Decision,
    body: Vec<u8>,
    added: u64,
    removed: u64,
}

/// What one page, or several neighbours put together, will become.
struct Content {
    items: Items,
    /// From where on it holds keys.
    lowest: Vec<u8>,
    /// Whether it grew nowhere but at its end.
    ascending: bool,
}

impl Content {
    const fn new(level: u8) -> Self {
        Self { items: Items::new(level), lowest: Vec::new(), ascending: true }
    }

    /// How it is spread, when it came from so many pages.
    const fn spread(&self, taken: usize) -> Spread {
        match taken {
            _ if self.ascending => Spread::Ascending,
            0 | 1 => Spread::Even,
            _ => Spread::Anew(taken),
        }
    }
}

/// An inner page whose children are being edited.
struct Parent<'p> {
    inner: Inner<'p>,
    lowest: &'p [u8],
    /// The first child that is not dealt with yet.
    next: usize,
    /// Children that the content at hand came from.
    taken: usize,
    /// Children that were there before the content at hand.
    before: usize,
}

impl<W: PageWrite + ?Sized> Merge<'_, W> {
    /// Adds to `content` what a page becomes, which holds keys from `lowest` on. Whether it changed: if not, nothing was
    /// written or freed. What gathers in large amounts is written to `parents`.
    fn page(
        &mut self,
        at: PageRef,
        lowest: &[u8],
        edits: &[Edit],
        content: &mut Content,
        parents: &mut Items,
    ) -> Result<bool, TreeError> {
        let page = self.pages.read(at)?;
        match content.items.level() {
            0 => self.rows(Some(&Leaf::parse(&page)?), edits, content, parents),
            level => self.children(&page, level, lowest, edits, content),
        }
    }

    /// Adds to `content` the rows of a leaf after the edits.
    fn rows(
        &mut self,
        leaf: Option<&Leaf<'_>>,
        edits: &[Edit],
        content: &mut Content,
        parents: &mut Items,
    ) -> Result<bool, TreeError> {
        let len = leaf.map_or(0, Leaf::len);
        let (mut from, mut changed) = (0, false);
        content.ascending &= content.items.is_empty();
        for edit in edits {
            let found = leaf.map_or(Ok(Err(0)), |leaf| leaf.search(&edit.key))?;
            let (Ok(index) | Err(index)) = found;
            if let Some(leaf) = leaf {
                content.items.push_rows(leaf, from..index)?;
            }
            from = index.max(from);
            let old = match leaf.filter(|_| found.is_ok()) {
                Some(leaf) => Some(leaf.found(&leaf.row(index)?).stored()?),
                None => None,
            };
            let decision = (self.decide)(edit, old.as_ref());
            if decision == Decision::Skip {
                continue;
            }
            from = index + usize::from(old.is_some());
            self.replace(old.as_ref(), &edit.value, decision)?;
            if edit.value.encode(self.pages, &mut self.body)? {
                content.items.push([&edit.key, &[], &[]], &self.body)?;
                content.ascending &= old.is_some() || index == len;
                self.added += u64::from(old.is_none());
                changed = true;
            } else if old.is_some() {
                self.removed += 1;
                changed = true;
            }
            // As long as nothing changed, the page may stay as it is.
            if changed {
                content.items.write_gathered(self.pages, self.room, &mut content.lowest, parents)?;
            }
        }
        if let Some(leaf) = leaf {
            content.items.push_rows(leaf, from..len)?;
        }
        Ok(changed)
    }

    /// Frees the pages of an old value, unless they are kept.
    fn replace(&mut self, old: Option<&Stored>, new: &NewValue, decision: Decision) -> Result<(), TreeError> {
        let Some(Stored::Chain(old)) = old.filter(|_| decision == Decision::Replace) else { return Ok(()) };
        if matches!(new, NewValue::Stored(Stored::Chain(new)) if new.first_page() == old.first_page()) {
            return Ok(());
        }
        chain::free(self.pages, old)
    }

    /// Adds to `out` the children of an inner page after the edits.
    fn children(
        &mut self,
        page: &Page,
        level: u8,
        lowest: &[u8],
        edits: &[Edit],
        out: &mut Content,
    ) -> Result<bool, TreeError> {
        let inner = Inner::parse(page, level)?;
        let mut parent = Parent { inner, lowest, next: 0, taken: 0, before: 0 };
        let mut content = Content::new(level - 1);
        let (mut rest, mut changed, mut separator) = (edits, false, Vec::new());
        out.ascending &= out.items.is_empty();
        while let Some(edit) = rest.first() {
            let child = inner.child_for(&edit.key)?;
            if child != parent.next {
                self.settle(&mut parent, &mut content, out)?;
                out.items.push_children(&inner, parent.next..child, lowest)?;
            }
            let count = if inner.separator(child + 1, &mut separator)? {
                rest.partition_point(|edit| edit.key[..] < separator[..])
            } else {
                rest.len()
            };
            let (mine, others) = rest.split_at(count.max(1));
            rest = others;
            parent.next = child + 1;
            changed |= self.child(&mut parent, child, mine, &mut content, out)?;
        }
        self.settle(&mut parent, &mut content, out)?;
        out.items.push_children(&inner, parent.next..inner.len(), lowest)?;
        Ok(changed)
    }

    /// Adds to `content` what a child becomes, and writes it unless there is too little of it. Whether it changed.
    fn child(
        &mut self,
        parent: &mut Parent<'_>,
        child: usize,
        edits: &[Edit],
        content: &mut Content,
        out: &mut Content,
    ) -> Result<bool, TreeError> {
        let at = parent.inner.child(child)?;
        let mut lowest = Vec::new();
        if !parent.inner.separator(child, &mut lowest)? {
            lowest.extend_from_slice(parent.lowest);
        }
        let is_alone = content.items.is_empty();
        if is_alone {
            content.lowest.clone_from(&lowest);
            content.ascending = true;
            (parent.taken, parent.before) = (0, out.items.len());
        }
        let (before, stays_apart) = (content.items.len(), !self.is_sparse(&content.items));
        let changed = self.page(at, &lowest, edits, content, &mut out.items)?;
        if !changed && (is_alone || stays_apart) {
            content.items.truncate(before);
            parent.next = child;
            self.settle(parent, content, out)?;
            parent.next = child + 1;
            out.items.push([&lowest, &[], &[]], &at.to_bytes())?;
            return Ok(!is_alone);
        }
        self.pages.free(at.page, at.birth)?;
        parent.taken += 1;
        let is_much = content.items.level() > 0 || content.items.is_much(self.room);
        if is_much && !self.is_sparse(&content.items) {
            self.settle(parent, content, out)?;
        }
        Ok(true)
    }

    /// Writes the content at hand, together with a neighbour if there is too little of it, and adds its pages to `out`.
    fn settle(
        &mut self,
        parent: &mut Parent<'_>,
        content: &mut Content,
        out: &mut Content,
    ) -> Result<(), TreeError> {
        if content.items.is_empty() {
            return Ok(());
        }
        if self.is_sparse(&content.items) && !self.join_left(parent, content, out)? {
            self.join_right(parent, content)?;
        }
        let spread = content.spread(parent.taken);
        content.items.write(self.pages, self.room, spread, &content.lowest, &mut out.items)?;
        let grew = out.items.len() > parent.before + parent.taken;
        out.ascending &= !grew || parent.next >= parent.inner.len();
        Ok(())
    }

    /// Whether items use so little of a page that they should be put together with others.
    fn is_sparse(&self, items: &Items) -> bool {
        let least = used_len_min(self.room.payload_len);
        items.bodies_len_below(least) && items.used_len(self.room).is_some_and(|len| len < least)
    }

    /// Puts the content together with the page before it, if one page can hold both.
    fn join_left(
        &mut self,
        parent: &mut Parent<'_>,
        content: &mut Content,
        out: &mut Content,
    ) -> Result<bool, TreeError> {
        let Some(last) = out.items.len().checked_sub(1) else { return Ok(false) };
        let Some(at) = out.items.child(last) else { return Ok(false) };
        let mut joined = Items::new(content.items.level());
        self.load(at, out.items.key(last), &mut joined)?;
        joined.append(&content.items)?;
        if joined.used_len(self.room).is_none() {
            return Ok(false);
        }
        content.lowest.clear();
        content.lowest.extend_from_slice(out.items.key(last));
        content.items = joined;
        out.items.truncate(last);
        parent.before = parent.before.min(last);
        parent.taken += 1;
        self.pages.free(at.page, at.birth)?;
        Ok(true)
    }

    /// Puts the content together with the page behind it, if one page can hold both.
    fn join_right(&mut self, parent: &mut Parent<'_>, content: &mut Content) -> Result<(), TreeError> {
        if parent.next >= parent.inner.len() {
            return Ok(());
        }
        let at = parent.inner.child(parent.next)?;
        let mut lowest = Vec::new();
        parent.inner.separator(parent.next, &mut lowest)?;
        let alone = content.items.len();
        self.load(at, &lowest, &mut content.items)?;
        if content.items.used_len(self.room).is_none() {
            content.items.truncate(alone);
            return Ok(());
        }
        parent.next += 1;
        parent.taken += 1;
        self.pages.free(at.page, at.birth)?;
        Ok(())
    }

    /// Adds all of a page, which holds keys from `lowest` on.
    fn load(&self, at: PageRef, lowest: &[u8], items: &mut Items) -> Result<(), TreeError> {
        let page = self.pages.read(at)?;
        if items.level() == 0 {
            let leaf = Leaf::parse(&page)?;
            return items.push_rows(&leaf, 0..leaf.len());
        }
        let inner = Inner::parse(&page, items.level())?;
        items.push_children(&inner, 0..inner.len(), lowest)
    }

    /// Makes the topmost page, and as many levels below it as there must be.
    fn finish(mut self, mut content: Content, mut parents: Items, rows: u64) -> Result<TreeRoot, TreeError> {
        loop {
            if let Some(child) =
                only(&content.items).filter(|_| parents.is_empty() && content.items.level() > 0)
            {
                return self.shrink(child, content.items.level(), rows);
            }
            let (level, spread) = (parents.level(), content.spread(1));
            content.items.write(self.pages, self.room, spread, &content.lowest, &mut parents)?;
            if (rows == 0) != parents.is_empty() {
                let found = format!("{} pages with them", parents.len());
                return Err(TreeError::Root { what: "rows", expected: "as many as are counted", found });
            }
            if parents.is_empty() {
                return Ok(TreeRoot::EMPTY);
            }
            if let Some(top) = only(&parents) {
                return Ok(TreeRoot::new(top, level, rows));
            }
            content.items = std::mem::replace(&mut parents, Items::new(next_level(level)?));
            content.lowest.clear();
        }
    }

    /// A tree without the pages at its top that have a single child. `child` is on the level below `height`.
    fn shrink(&mut self, child: PageRef, height: u8, rows: u64) -> Result<TreeRoot, TreeError> {
        let (mut top, mut height) = (child, height);
        while height > 1 {
            let page = self.pages.read(top)?;
            let inner = Inner::parse(&page, height - 1)?;
            if inner.len() > 1 {
                break;
            }
            self.pages.free(top.page, top.birth)?;
            top = inner.child(0)?;
            height -= 1;
        }
        Ok(TreeRoot::new(top, height, rows))
    }
}
