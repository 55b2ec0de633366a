//! What a region's page says of its parity: 32 groups by column, and a tag of each member.
//!
//! Invariants:
//! * A group is empty, and all of it zero, or it has members and a parity page; that page is outside the group.
//! * A group's sums are the XOR of the generations, kinds and checksums of its members, its parity page's payload that of
//!   their payloads. So a page of which nothing is known can be rebuilt, and proved by its own checksum.
//! * The tag of a member is the low 16 bits of its checksum; that of another slot is zero.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::{Generation, PageId, PageRef};
use keepstone_xor_dag::parity::xor_into;

use crate::bitmap::{BITS, Bitmap};
use crate::directory::some_slot;
use crate::layout::{Field, to_u48};
use crate::page::PageKind;
use crate::region::{place_of, region_of};

/// Groups of a region, and slots of a group.
pub(crate) const COLUMNS: usize = 32;
const _: () = assert!(COLUMNS * COLUMNS == BITS);

pub(crate) const PLACE: Field = Field::first("place", 6, "slot of the parity page; 0 for none");
pub(crate) const MASK: Field =
    PLACE.then("mask", 4, "which of its slots it counts; the lowest bit is the lowest slot");
pub(crate) const GENERATION: Field = MASK.then("generation", 6, "the one that wrote the parity page");
pub(crate) const BIRTHS: Field = GENERATION.then("births", 6, "XOR of the generations of its members");
pub(crate) const KINDS: Field = BIRTHS.then("kinds", 1, "XOR of their kinds");
pub(crate) const RESERVED: Field = KINDS.then("reserved", 1, "zero");
pub(crate) const CHECKSUMS: Field = RESERVED.then("checksums", 8, "XOR of their checksums");
#[cfg(test)]
pub(crate) const GROUP_FIELDS: [Field; 7] = [PLACE, MASK, GENERATION, BIRTHS, KINDS, RESERVED, CHECKSUMS];
pub(crate) const GROUP_LEN: usize = 32;
const _: () = assert!(CHECKSUMS.end() == GROUP_LEN);

/// The region and the column of a slot.
pub(crate) fn group_of(page: PageId) -> (u32, usize) {
    (region_of(page), place_of(page) % COLUMNS)
}

/// The place in its region of a slot of a group.
pub(crate) const fn place_in(column: usize, row: usize) -> usize {
    row.saturating_mul(COLUMNS).saturating_add(column)
}

/// The rows of a mask, ascending.
pub(crate) fn rows(mask: u32) -> impl Iterator<Item = usize> {
    (0..COLUMNS).filter(move |row| mask >> row & 1 == 1)
}

/// What the headers of a group's members come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) births: u64,
    pub(crate) kinds: u8,
    pub(crate) checksums: u64,
}

impl Sum {
    /// Counts a member, or no longer.
    pub(crate) const fn add(&mut self, at: PageRef, kind: PageKind) {
        self.births ^= at.birth.get();
        self.kinds ^= kind.get();
        self.checksums ^= at.checksum;
    }

    /// What is in one and not in the other.
    pub(crate) const fn and_not(self, other: Self) -> Self {
        Self {
            births: self.births ^ other.births,
            kinds: self.kinds ^ other.kinds,
            checksums: self.checksums ^ other.checksums,
        }
    }
}

/// The XOR of members: their payloads, and what stands in their headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) payload: Vec<u8>,
    pub(crate) sum: Sum,
}

impl Block {
    pub(crate) fn zero(payload_len: usize) -> Self {
        Self { payload: vec![0; payload_len], sum: Sum::default() }
    }

    /// Counts a member, or no longer. `payload` is as long as that of every page.
    pub(crate) fn add(&mut self, at: PageRef, kind: PageKind, payload: &[u8]) {
        xor_into(&mut self.payload, payload);
        self.sum.add(at, kind);
    }

    /// The group of which this is the XOR.
    pub(crate) const fn group(&self, mask: u32, place: Option<PageId>, generation: Generation) -> Group {
        Group { place, mask, generation, sum: self.sum }
    }
}

/// A parity group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) place: Option<PageId>,
    pub(crate) mask: u32,
    pub(crate) generation: Generation,
    pub(crate) sum: Sum,
}

/// The groups of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionParity {
    groups: [Group; COLUMNS],
    tags: [u16; BITS],
}

impl Default for RegionParity {
    fn default() -> Self {
        Self { groups: [Group::default(); COLUMNS], tags: [0; BITS] }
    }
}

/// The low 16 bits of a checksum.
pub(crate) const fn tag(checksum: u64) -> u16 {
    let [low, next, ..] = checksum.to_le_bytes();
    u16::from_le_bytes([low, next])
}

impl RegionParity {
    pub(crate) fn group(&self, column: usize) -> Group {
        self.groups.get(column).copied().unwrap_or_default()
    }

    pub(crate) fn set_group(&mut self, column: usize, group: Group) {
        if let Some(to) = self.groups.get_mut(column) {
            *to = group;
        }
    }

    pub(crate) fn tag(&self, place: usize) -> u16 {
        self.tags.get(place).copied().unwrap_or(0)
    }

    pub(crate) fn set_tag(&mut self, place: usize, checksum: u64) {
        if let Some(to) = self.tags.get_mut(place) {
            *to = tag(checksum);
        }
    }

    pub(crate) fn clear_tag(&mut self, place: usize) {
        self.set_tag(place, 0);
    }

    /// All groups, each with its column.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, Group)> + '_ {
        self.groups.iter().copied().enumerate()
    }

    /// The slots that are counted.
    pub(crate) fn members(&self) -> Bitmap {
        let mut members = Bitmap::EMPTY;
        for (column, group) in self.groups() {
            if group.mask != 0 {
                members.set_column(column, group.mask);
            }
        }
        members
    }

    pub(crate) fn encode_groups(&self) -> Vec<u8> {
        let mut bytes = vec![0; GROUP_LEN.saturating_mul(COLUMNS)];
        let (blocks, _) = bytes.as_chunks_mut::<GROUP_LEN>();
        for (to, group) in blocks.iter_mut().zip(&self.groups) {
            PLACE.put(to, &group.place.unwrap_or_default().to_bytes());
            MASK.put(to, &group.mask.to_le_bytes());
            GENERATION.put(to, &group.generation.to_bytes());
            BIRTHS.put(to, &to_u48(group.sum.births));
            KINDS.put(to, &[group.sum.kinds]);
            CHECKSUMS.put(to, &group.sum.checksums.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn encode_tags(&self) -> Vec<u8> {
        self.tags.iter().flat_map(|tag| tag.to_le_bytes()).collect()
    }

    /// Decodes the parity directory and the tags of a region's page.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn decode(groups: &[u8], tags: &[u8]) -> Result<Self, &'static str> {
        let mut found = Self::default();
        let (blocks, _) = groups.as_chunks::<GROUP_LEN>();
        for (to, block) in found.groups.iter_mut().zip(blocks) {
            *to = Group {
                place: some_slot(PageId::from_bytes(PLACE.array(block))),
                mask: MASK.u32(block),
                generation: Generation::from_bytes(GENERATION.array(block)),
                sum: Sum {
                    births: BIRTHS.u48(block),
                    kinds: KINDS.u8(block),
                    checksums: CHECKSUMS.u64(block),
                },
            };
            let whole = to.mask != 0 && to.place.is_some() && to.generation > Generation::ZERO;
            if RESERVED.u8(block) != 0 || !(whole || *to == Group::default()) {
                return Err("a group of its parity is neither whole nor empty");
            }
        }
        for (to, bytes) in found.tags.iter_mut().zip(tags.as_chunks::<2>().0) {
            *to = u16::from_le_bytes(*bytes);
        }
        let members = found.members();
        if found.tags.iter().enumerate().any(|(place, tag)| *tag != 0 && !members.has(place)) {
            return Err("a slot that parity does not count has a tag");
        }
        Ok(found)
    }

    /// Fails when a parity page would be within its own group.
    pub(crate) fn is_placed_outside(&self, region: u32) -> bool {
        self.groups()
            .all(|(column, group)| group.place.is_none_or(|place| group_of(place) != (region, column)))
    }
}
