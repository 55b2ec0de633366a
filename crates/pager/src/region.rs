//! The page of a region: which of its 1,024 slots are in use, and which its generation freed.
//!
//! Invariants:
//! * No slot is in use and pending at once; the counts are those of the bitmaps.
//! * What is pending was in use in the generation before the page's own, and is needed by that one's header.
//! * The members are those of the groups' masks. Without parity all of its fields are zero.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::PageId;

use crate::bitmap::{BITS, Bitmap};
use crate::layout::{Field, disk_len, is_zero, memory_len};
use crate::parity::RegionParity;
use crate::sync::Arc;

/// Slots of a region.
pub(crate) const REGION_SLOTS: u64 = 1_024;
/// The most regions of a file: their numbers have 32 bits.
pub(crate) const REGIONS_MAX: u64 = (1 << 32) - 1;
const _: () = assert!(REGION_SLOTS == 1_024 && BITS == 1_024);

pub(crate) const REGION: Field = Field::first("region", 4, "its number");
pub(crate) const USED_COUNT: Field = REGION.then("used count", 2, "slots in use");
pub(crate) const PENDING_COUNT: Field =
    USED_COUNT.then("pending count", 2, "slots freed by this page's generation");
pub(crate) const MEMBER_COUNT: Field = PENDING_COUNT.then("member count", 2, "slots that parity counts");
pub(crate) const RESERVED: Field = MEMBER_COUNT.then("reserved", 6, "zero");
pub(crate) const USED: Field =
    RESERVED.then("used", Bitmap::LEN, "bitmap; the lowest bit of a byte is the lowest slot");
pub(crate) const PENDING: Field = USED.then("pending", Bitmap::LEN, "bitmap");
pub(crate) const MEMBERS: Field = PENDING.then("members", Bitmap::LEN, "bitmap: what parity counts");
pub(crate) const PARITY: Field = MEMBERS.then("parity directory", 1_024, "32 groups, see below");
pub(crate) const TAGS: Field =
    PARITY.then("tags", 2_048, "of each member the low 2 bytes of its checksum; zero for other slots");
#[cfg(test)]
pub(crate) const REGION_FIELDS: [Field; 10] =
    [REGION, USED_COUNT, PENDING_COUNT, MEMBER_COUNT, RESERVED, USED, PENDING, MEMBERS, PARITY, TAGS];
/// Bytes of the payload that are used; the rest is zero.
pub(crate) const REGION_LEN: usize = 3_472;
const _: () = assert!(TAGS.end() == REGION_LEN);

/// The free slots of a region as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionPage {
    pub(crate) region: u32,
    pub(crate) used: Bitmap,
    pub(crate) pending: Bitmap,
    /// `None` when parity counts nothing here.
    pub(crate) parity: Option<Arc<RegionParity>>,
}

impl RegionPage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = vec![0; REGION_LEN];
        let count = |bits: &Bitmap| u16::try_from(bits.count()).unwrap_or(u16::MAX).to_le_bytes();
        REGION.put(&mut payload, &self.region.to_le_bytes());
        USED_COUNT.put(&mut payload, &count(&self.used));
        PENDING_COUNT.put(&mut payload, &count(&self.pending));
        USED.put(&mut payload, &self.used.to_bytes());
        PENDING.put(&mut payload, &self.pending.to_bytes());
        if let Some(parity) = &self.parity {
            let members = parity.members();
            MEMBER_COUNT.put(&mut payload, &count(&members));
            MEMBERS.put(&mut payload, &members.to_bytes());
            PARITY.put(&mut payload, &parity.encode_groups());
            TAGS.put(&mut payload, &parity.encode_tags());
        }
        payload
    }

    /// Decodes the payload of a page.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, &'static str> {
        let members = Bitmap::from_bytes(MEMBERS.array(payload));
        let parity = RegionParity::decode(PARITY.bytes(payload), TAGS.bytes(payload))?;
        let counted = parity.members();
        let page = Self {
            parity: (!members.is_empty()).then(|| Arc::new(parity)),
            region: REGION.u32(payload),
            used: Bitmap::from_bytes(USED.array(payload)),
            pending: Bitmap::from_bytes(PENDING.array(payload)),
        };
        let sane = [
            ("it is too short", payload.len() >= REGION_LEN),
            (
                "its count of used slots is not that of its bitmap",
                u64::from(USED_COUNT.u16(payload)) == page.used.count(),
            ),
            (
                "its count of pending slots is not that of its bitmap",
                u64::from(PENDING_COUNT.u16(payload)) == page.pending.count(),
            ),
            ("a slot is in use and pending at once", page.used.and(page.pending).is_empty()),
            ("its members are not those of its parity groups", members == counted),
            (
                "its count of members is not that of the bitmap of its parity groups",
                u64::from(MEMBER_COUNT.u16(payload)) == members.count(),
            ),
            ("its reserved bytes are not zero", is_zero(RESERVED.bytes(payload))),
            ("bytes behind its fields are not zero", is_zero(payload.get(REGION_LEN..).unwrap_or_default())),
        ];
        match sane.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(what),
            None => Ok(page),
        }
    }
}

/// The region that a slot is in.
pub(crate) fn region_of(page: PageId) -> u32 {
    u32::try_from(page.get() / REGION_SLOTS).unwrap_or(u32::MAX)
}

/// The place of a slot in its region.
pub(crate) fn place_of(page: PageId) -> usize {
    memory_len(page.get() % REGION_SLOTS)
}

/// The slot at a place of a region.
pub(crate) fn slot_at(region: u32, place: usize) -> PageId {
    let first = u64::from(region).saturating_mul(REGION_SLOTS);
    PageId::new(first.saturating_add(disk_len(place))).unwrap_or(PageId::MAX)
}

/// The slots of a region that come before slot `end` of the file.
pub(crate) fn part_below(region: u32, end: u64) -> Bitmap {
    let first = u64::from(region).saturating_mul(REGION_SLOTS);
    Bitmap::below(memory_len(end.saturating_sub(first).min(REGION_SLOTS)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &[usize]) -> Bitmap {
        let mut set = Bitmap::EMPTY;
        numbers.iter().for_each(|number| assert!(set.insert(*number)));
        set
    }

    fn some_parity() -> Option<Arc<RegionParity>> {
        let mut parity = RegionParity::default();
        let at = |place| keepstone_types::PageRef {
            page: PageId::new(place).unwrap(),
            birth: keepstone_types::Generation::new(7).unwrap(),
            checksum: place.wrapping_mul(0x1_0001),
        };
        let mut block = crate::parity::Block::zero(8);
        for place in [35, 67] {
            block.add(at(place), crate::PageKind::FIRST_FREE, &[1; 8]);
            parity.set_tag(usize::try_from(place).unwrap(), at(place).checksum);
        }
        let generation = at(1).birth;
        parity.set_group(3, block.group(0b110, PageId::new(40), generation));
        Some(Arc::new(parity))
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let page =
            RegionPage { region: 3, used: set(&[0, 5, 1_023]), pending: set(&[7]), parity: some_parity() };
        let good = page.encode();
        assert_eq!(RegionPage::decode(&good), Ok(page.clone()));
        let cases: [(usize, &str); 10] = [
            (USED_COUNT.offset, "count of used"),
            (USED.offset, "count of used"),
            (PENDING.offset + 9, "count of pending"),
            (RESERVED.offset, "reserved"),
            (MEMBERS.offset + 3, "parity"),
            (MEMBER_COUNT.offset, "parity"),
            (PARITY.offset + 1, "group of its parity"),
            (PARITY.offset + 6, "parity"),
            (TAGS.offset + 3, "tag"),
            (PARITY.offset + 23, "group of its parity"),
        ];
        for (byte, what) in cases {
            let mut changed = good.clone();
            changed[byte] ^= 2;
            assert!(RegionPage::decode(&changed).unwrap_err().contains(what), "byte {byte}");
        }
        let both = RegionPage { pending: set(&[5]), ..page.clone() };
        assert!(RegionPage::decode(&both.encode()).unwrap_err().contains("at once"));
        assert!(RegionPage::decode(&good[..900]).is_err());
        let longer = [&good[..], &[0, 1]].concat();
        assert!(RegionPage::decode(&longer).unwrap_err().contains("behind"));
    }

    #[test]
    fn slots_are_counted_through_regions() {
        for slot in [0, 1_023, 1_024, 5_000_000, (1 << 42) - 1] {
            let page = PageId::new(slot).unwrap();
            assert_eq!(slot_at(region_of(page), place_of(page)), page);
        }
        assert_eq!(part_below(1, 1_030).count(), 6);
        assert_eq!((part_below(1, 1_000).count(), part_below(0, 5_000).count()), (0, 1_024));
    }

    proptest! {
        #[test]
        fn pages_round_trip(region: u32, used in proptest::collection::btree_set(0_usize..1_024, 0..600), free in proptest::collection::btree_set(0_usize..1_024, 0..99)) {
            let pending: Vec<_> = free.difference(&used).copied().collect();
            let used: Vec<_> = used.into_iter().collect();
            let parity = if region % 3 == 0 { None } else { some_parity() };
            let page = RegionPage { region, used: set(&used), pending: set(&pending), parity };
            prop_assert_eq!(RegionPage::decode(&page.encode()), Ok(page));
        }
    }
}
