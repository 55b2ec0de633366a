//! Building a tree from rows that come in order: every page is written once.

use keepstone_pager::PageWrite;
use keepstone_types::PageRef;

use crate::error::{TreeError, check_key};
use crate::items::{Items, Room, Spread};
use crate::limits::{Fill, HEIGHT_MAX, check_payload_len};
use crate::root::TreeRoot;
use crate::value::NewValue;

/// Takes rows in ascending order of their keys and makes a tree of them, its pages full.
///
/// Memory is bounded by a few pages for each level. What was written is garbage when [`Builder::finish`] is not reached;
/// the generation that was being built must be given up then.
#[derive(Debug)]
#[must_use = "a tree is there when `finish` gives its root"]
pub struct Builder<'a, W: PageWrite + ?Sized> {
    pages: &'a mut W,
    room: Room,
    /// One for each level, leaves first; always at least one.
    levels: Vec<Level>,
    body: Vec<u8>,
    rows: u64,
}

/// What has gathered for the pages of a level.
#[derive(Debug)]
struct Level {
    items: Items,
    /// The lowest key of what has gathered.
    lowest: Vec<u8>,
}

impl<'a, W: PageWrite + ?Sized> Builder<'a, W> {
    /// Begins a tree.
    pub fn new(pages: &'a mut W, fill: Fill) -> Self {
        let room = Room::new(pages.payload_len(), fill);
        Self { pages, room, levels: vec![Level::new(0)], body: Vec::new(), rows: 0 }
    }

    /// Adds a row behind all others; [`NewValue::Delete`] adds nothing.
    ///
    /// # Errors
    /// When the key is not greater than the one before, key or value are too long, no tree can stand on pages of this size,
    /// or a page cannot be written.
    #[expect(clippy::needless_pass_by_value, reason = "pages of a stored value become those of the row")]
    pub fn push(&mut self, key: &[u8], value: NewValue) -> Result<(), TreeError> {
        check_payload_len(self.room.payload_len)?;
        check_key(self.pages, key)?;
        if let Some(leaves) = self.levels.first() {
            let last = leaves.items.len().checked_sub(1).map(|last| leaves.items.key(last));
            if let Some(last) = last.filter(|last| *last >= key) {
                return Err(TreeError::order(last, key));
            }
        }
        if !value.encode(self.pages, &mut self.body)? {
            return Ok(());
        }
        if let Some(leaves) = self.levels.first_mut() {
            leaves.items.push([key, &[], &[]], &self.body)?;
            self.rows += 1;
        }
        self.write_gathered()
    }

    /// Writes what has gathered on each level, as long as it is much.
    fn write_gathered(&mut self) -> Result<(), TreeError> {
        let mut level = 0;
        loop {
            let (below, above) = self.levels.split_at_mut(level + 1);
            let Some(this) = below.last_mut() else { return Ok(()) };
            let mut fresh = Level::new(next_level(this.items.level())?);
            let parents = above.first_mut().unwrap_or(&mut fresh);
            let before = parents.items.len();
            this.items.write_gathered(self.pages, self.room, &mut this.lowest, &mut parents.items)?;
            if parents.items.len() == before {
                return Ok(());
            }
            if !fresh.items.is_empty() {
                self.levels.push(fresh);
            }
            level += 1;
        }
    }

    /// Writes what is left, and gives the tree.
    ///
    /// # Errors
    /// When a page cannot be written.
    pub fn finish(self) -> Result<TreeRoot, TreeError> {
        let mut levels = self.levels.into_iter();
        let Some(mut this) = levels.next() else { return Ok(TreeRoot::EMPTY) };
        loop {
            let mut parents = match levels.next() {
                Some(parents) => parents,
                None => Level::new(next_level(this.items.level())?),
            };
            this.items.write(self.pages, self.room, Spread::Bulk, &this.lowest, &mut parents.items)?;
            if let Some(top) = only(&parents.items) {
                return Ok(TreeRoot::new(top, parents.items.level(), self.rows));
            }
            if parents.items.is_empty() {
                return Ok(TreeRoot::EMPTY);
            }
            this = parents;
        }
    }
}

impl Level {
    const fn new(level: u8) -> Self {
        Self { items: Items::new(level), lowest: Vec::new() }
    }
}

/// The only page of a level.
pub(crate) fn only(items: &Items) -> Option<PageRef> {
    if items.len() == 1 { items.child(0) } else { None }
}

/// The level above.
pub(crate) fn next_level(level: u8) -> Result<u8, TreeError> {
    if level < HEIGHT_MAX {
        return Ok(level + 1);
    }
    Err(TreeError::TooHigh { found: level.saturating_add(1), max: HEIGHT_MAX })
}
