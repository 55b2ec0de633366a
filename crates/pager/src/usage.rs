//! Who has the slots of a file: counted from the map of its newest root.

use crate::error::PageError;
use crate::file::PageFile;
use crate::header::{FIXED_END, is_fixed};
use crate::layout::disk_len;
use crate::space::Space;
use crate::sync::Arc;

/// Who has the slots of a file. They add up to all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotUsage {
    /// Pages of the layer above.
    pub pages: u64,
    /// Prologue, headers, and pages of the free-space map.
    pub map: u64,
    /// Second copies of pages of the free-space map.
    pub twins: u64,
    /// Parity pages.
    pub parity: u64,
    /// Slots that are not in use and that parity counts: a generation that wants room takes them out.
    pub dead: u64,
    /// Slots that are not in use and are counted by nothing: free, or held for a header or a reader.
    pub free: u64,
}

impl SlotUsage {
    /// All slots of the file.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        let own = self.map.saturating_add(self.twins).saturating_add(self.parity);
        self.pages.saturating_add(own).saturating_add(self.dead).saturating_add(self.free)
    }
}

impl PageFile {
    /// Counts who has the slots of the newest root. Reads the whole free-space map: a page for each 1,024 slots.
    ///
    /// # Errors
    /// When a page of the map cannot be read.
    pub fn slot_usage(&self) -> Result<SlotUsage, PageError> {
        let root = self.root();
        let header = root.header();
        let mut space = Space::of(Arc::clone(&self.inner.slots), header, header.slots);
        let (regions, nodes) = space.map_pages()?;
        let entries = || regions.iter().map(|(_, at)| at).chain(nodes.iter().map(|(_, at)| at));
        let fixed = (0..FIXED_END.min(header.slots)).filter(|slot| is_fixed(*slot)).count();
        let map = disk_len(entries().count()).saturating_add(disk_len(fixed));
        let twins = disk_len(entries().filter(|(_, twin)| twin.is_some()).count());
        let mut parity = 0_u64;
        for region in 0..space.regions() {
            let groups = space.region(region)?.parity.clone();
            let placed =
                groups.iter().flat_map(|groups| groups.groups()).filter(|(_, group)| group.place.is_some());
            parity = parity.saturating_add(disk_len(placed.count()));
        }
        let own = map.saturating_add(twins).saturating_add(parity);
        let free = header.slots.saturating_sub(header.used).saturating_sub(header.dead);
        Ok(SlotUsage { pages: header.used.saturating_sub(own), map, twins, parity, dead: header.dead, free })
    }
}
