//! The directory of free space: a radix tree of pages whose leaves lead to the pages of regions.
//!
//! Invariants:
//! * Node `index` of level `l` covers regions `index × f^(l+1)` to `(index + 1) × f^(l+1) − 1`, `f` being the fan-out.
//! * An entry's count of free slots is that of all regions below it. Slots behind the end of the file are free.
//! * The root is node 0 of the highest level, which is the lowest on which one node covers every region.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::wire::Reader;
use keepstone_types::{PageId, PageRef};

use crate::layout::{Field, disk_len, is_zero, memory_len};

pub(crate) const LEVEL: Field = Field::first("level", 1, "0: a leaf");
pub(crate) const RESERVED: Field = LEVEL.then("reserved", 3, "zero");
pub(crate) const INDEX: Field = RESERVED.then("index", 4, "place of the node on its level");
pub(crate) const COUNT: Field = INDEX.then("count", 4, "entries that follow");
pub(crate) const RESERVED_2: Field = COUNT.then("reserved", 4, "zero");
#[cfg(test)]
pub(crate) const NODE_FIELDS: [Field; 5] = [LEVEL, RESERVED, INDEX, COUNT, RESERVED_2];
pub(crate) const NODE_HEADER_LEN: usize = 16;
const _: () = assert!(RESERVED_2.end() == NODE_HEADER_LEN);

pub(crate) const AT: Field =
    Field::first("reference", PageRef::LEN, "to a region's page (leaf) or a node of the level below");
pub(crate) const FREE: Field = AT.then("free", 8, "slots below it that are not in use");
pub(crate) const TWIN: Field = FREE.then("twin", 6, "slot of the second copy of that page; 0 for none");
#[cfg(test)]
pub(crate) const ENTRY_FIELDS: [Field; 3] = [AT, FREE, TWIN];
pub(crate) const ENTRY_LEN: usize = 34;
const _: () = assert!(TWIN.end() == ENTRY_LEN);

/// A node's name: level and index.
pub(crate) type NodeId = (u8, u32);

/// What a node leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeEntry {
    /// `None` only while the map is being changed: what the entry leads to has no place yet.
    pub(crate) at: Option<PageRef>,
    pub(crate) free: u64,
    /// Where the second copy is, when parity is kept.
    pub(crate) twin: Option<PageId>,
}

/// A node of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) entries: Vec<NodeEntry>,
}

/// The shape of a directory: what follows from the size of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Entries of a node. At least 2.
    pub(crate) fan_out: u32,
}

impl Shape {
    pub(crate) fn of(payload_len: usize) -> Self {
        let entries = payload_len.saturating_sub(NODE_HEADER_LEN).checked_div(ENTRY_LEN).unwrap_or(0);
        Self { fan_out: u32::try_from(entries).unwrap_or(u32::MAX).max(2) }
    }

    /// Levels that a directory of so many regions has.
    pub(crate) fn height(self, regions: u32) -> u8 {
        let (mut height, mut covered) = (1_u8, u64::from(self.fan_out));
        while covered < u64::from(regions) {
            height = height.saturating_add(1);
            covered = covered.saturating_mul(self.fan_out.into());
        }
        height
    }

    /// Things below one entry of a level: regions.
    fn regions_per_entry(self, level: u8) -> u64 {
        u64::from(self.fan_out).saturating_pow(level.into())
    }

    /// The node of a level that covers a region, and the place of its entry.
    pub(crate) fn node_of(self, level: u8, region: u32) -> (NodeId, usize) {
        let entry = u64::from(region).checked_div(self.regions_per_entry(level)).unwrap_or(0);
        let fan_out = u64::from(self.fan_out);
        let index = entry.checked_div(fan_out).unwrap_or(0);
        let place = entry.checked_rem(fan_out).unwrap_or(0);
        ((level, u32::try_from(index).unwrap_or(u32::MAX)), memory_len(place))
    }

    /// The first region below an entry of a node.
    pub(crate) fn first_region(self, (level, index): NodeId, place: usize) -> u64 {
        let entry = u64::from(index).saturating_mul(self.fan_out.into()).saturating_add(disk_len(place));
        entry.saturating_mul(self.regions_per_entry(level))
    }

    /// Entries that a node has in a directory of so many regions.
    pub(crate) fn entries(self, (level, index): NodeId, regions: u32) -> usize {
        let all = u64::from(regions).div_ceil(self.regions_per_entry(level));
        let before = u64::from(index).saturating_mul(self.fan_out.into());
        memory_len(all.saturating_sub(before).min(self.fan_out.into()))
    }
}

/// A slot that something may stand in: slot 0 is that of the prologue and stands for none.
pub(crate) fn some_slot(page: PageId) -> Option<PageId> {
    (page > PageId::ZERO).then_some(page)
}

impl Node {
    pub(crate) fn free(&self) -> u64 {
        self.entries.iter().map(|entry| entry.free).fold(0, u64::saturating_add)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = vec![0; NODE_HEADER_LEN];
        let (level, index) = self.id;
        LEVEL.put(&mut payload, &[level]);
        INDEX.put(&mut payload, &index.to_le_bytes());
        COUNT.put(&mut payload, &u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_le_bytes());
        for entry in &self.entries {
            payload.extend(PageRef::optional_to_bytes(entry.at));
            payload.extend(entry.free.to_le_bytes());
            payload.extend(entry.twin.unwrap_or_default().to_bytes());
        }
        payload
    }

    /// Decodes the payload of a page.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(payload: &[u8], shape: Shape) -> Result<Self, &'static str> {
        let header = payload.get(..NODE_HEADER_LEN).ok_or("it is too short")?;
        if !is_zero(RESERVED.bytes(header)) || !is_zero(RESERVED_2.bytes(header)) {
            return Err("its reserved bytes are not zero");
        }
        let count = COUNT.u32(header);
        if count == 0 || count > shape.fan_out {
            return Err("its count of entries is out of bounds");
        }
        let mut reader = Reader::new(payload.get(NODE_HEADER_LEN..).unwrap_or_default());
        let mut entries = Vec::with_capacity(memory_len(count.into()));
        for _ in 0..count {
            let at = PageRef::read(&mut reader).map_err(|_| "it ends within an entry")?;
            let free = reader.u64().map_err(|_| "it ends within an entry")?;
            if at.is_none() {
                return Err("an entry leads nowhere");
            }
            let twin = reader.array().map_err(|_| "it ends within an entry")?;
            entries.push(NodeEntry { at, free, twin: some_slot(PageId::from_bytes(twin)) });
        }
        if !is_zero(reader.rest()) {
            return Err("bytes behind its entries are not zero");
        }
        Ok(Self { id: (LEVEL.u8(header), INDEX.u32(header)), entries })
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use keepstone_types::{Generation, PageId};
    use proptest::prelude::*;

    use super::*;

    fn entry(page: u64, free: u64) -> NodeEntry {
        let at =
            PageRef { page: PageId::new(page).unwrap(), birth: Generation::new(1).unwrap(), checksum: 2 };
        NodeEntry { at: Some(at), free, twin: some_slot(PageId::new(page % 2 * (page + 9)).unwrap()) }
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let shape = Shape::of(4_056);
        let node = Node { id: (1, 7), entries: vec![entry(5, 1_000), entry(6, 3)] };
        let mut good = node.encode();
        good.resize(4_056, 0);
        assert_eq!(Node::decode(&good, shape), Ok(node.clone()));
        assert_eq!(node.free(), 1_003);
        let changes: [(usize, u8, &str); 5] = [
            (RESERVED.offset, 1, "reserved"),
            (COUNT.offset, 0, "out of bounds"),
            (COUNT.offset + 1, 9, "out of bounds"),
            (COUNT.offset, 3, "leads nowhere"),
            (COUNT.offset, 1, "behind"),
        ];
        for (byte, value, what) in changes {
            let mut changed = good.clone();
            changed[byte] = value;
            assert!(Node::decode(&changed, shape).unwrap_err().contains(what), "byte {byte}");
        }
        assert!(Node::decode(&good[..50], shape).unwrap_err().contains("ends"));
        assert!(Node::decode(&good[..5], shape).is_err());
    }

    proptest! {
        #[test]
        fn nodes_cover_the_regions(fan_out in 2_u32..400, regions in 1_u32..3_000_000, region: u32) {
            let (shape, region) = (Shape { fan_out }, region % regions);
            let height = shape.height(regions);
            prop_assert_eq!(shape.node_of(height - 1, region).0, (height - 1, 0));
            prop_assert!(height == 1 || shape.node_of(height - 2, regions - 1).0.1 > 0, "no level too many");
            for level in 0..height {
                let (node, place) = shape.node_of(level, region);
                prop_assert!(place < shape.entries(node, regions));
                let (first, after) = (shape.first_region(node, place), shape.first_region(node, place + 1));
                prop_assert!((first..after).contains(&u64::from(region)));
            }
        }
    }
}
