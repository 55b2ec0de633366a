//! Parity held against its members, for an audit. What keeps parity, uses it and scrubs it is not used here: slots are read
//! one by one and added up anew, so that a mistake of theirs is no excuse for itself.

use keepstone_types::{PageId, PageRef};

use super::ParityMode;
use super::group::{Group, RegionParity, group_of, place_in, rows};
use super::members::Loss;
use crate::bitmap::Bitmap;
use crate::error::PageError;
use crate::header::Header;
use crate::layout::Place;
use crate::page::{Page, PageKind};
use crate::region::slot_at;
use crate::slots::Slots;
use crate::space::Space;

/// What holding a region's parity against its members found.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// Groups that were added up.
    pub(crate) groups: u64,
    /// Column of each group that is wrong; the page that is not what it must be, or the parity page where only the sum is wrong;
    /// and what is there.
    pub(crate) wrong: Vec<(usize, Loss)>,
    /// Slots in use that no parity counts, although all of the file is to be counted.
    pub(crate) uncounted: Vec<PageId>,
}

/// Adds up the groups of a region. `own` are the slots that parity never counts: prologue and headers, the map, parity pages.
pub(crate) fn verify_region(
    space: &mut Space,
    slots: &Slots,
    header: &Header,
    region: u32,
    own: Bitmap,
) -> Result<Verified, PageError> {
    let mut verified = Verified::default();
    // Damage of the region's own page is found by who holds it against what is reached.
    let Ok(found) = space.region(region) else { return Ok(verified) };
    if let Some(parity) = &found.parity {
        for (column, group) in parity.groups().filter(|(_, group)| group.mask != 0) {
            verified.groups = verified.groups.saturating_add(1);
            // A repair may be under way, so what is wrong is read once more.
            let add_up = || add_up(slots, (region, column), group, parity);
            verified.wrong.extend(add_up().or_else(|_| add_up()).err().map(|loss| (column, loss)));
        }
    }
    let state = header.parity;
    if state.mode == ParityMode::Xor && state.has_reached_all(header.regions) {
        let uncounted = found.used.without(found.members).without(own);
        verified.uncounted.extend(uncounted.iter().map(|place| slot_at(region, place)));
    }
    Ok(verified)
}

fn read(slots: &Slots, page: PageId) -> Result<(PageRef, Page), Loss> {
    let fault = |found: String| Loss { page, found };
    let slot = slots.read_slot(page).map_err(|error| fault(error.to_string()))?;
    let (at, kind) = slot.judge().map_err(|error| fault(error.to_string()))?;
    if at.page == page { Ok((at, Place::page_of(at, kind, &slot.bytes))) } else { Err(fault(at.to_string())) }
}

fn add_up(
    slots: &Slots,
    (region, column): (u32, usize),
    group: Group,
    parity: &RegionParity,
) -> Result<(), Loss> {
    let mut payload = vec![0_u8; slots.place.page_size.payload_len()];
    let (mut births, mut kinds, mut checksums) = (0, 0, 0);
    for row in rows(group.mask) {
        let place = place_in(column, row);
        let (at, page) = read(slots, slot_at(region, place))?;
        let [low, high, ..] = at.checksum.to_le_bytes();
        if u16::from_le_bytes([low, high]) != parity.tag(place) {
            let found = format!("{at}, which is another than was counted");
            return Err(Loss { page: at.page, found });
        }
        for (sum, byte) in payload.iter_mut().zip(page.payload()) {
            *sum ^= byte;
        }
        births ^= at.birth.get();
        kinds ^= page.kind().get();
        checksums ^= at.checksum;
    }
    let place = group.place.unwrap_or_default();
    let (at, page) = read(slots, place)?;
    let what = if page.kind() != PageKind::PARITY || at.birth != group.generation {
        "the parity page of the group"
    } else if group_of(place) == (region, column) {
        "a parity page outside of its group"
    } else if page.payload() != payload {
        "the XOR of its members"
    } else if (births, kinds, checksums) != (group.sum.births, group.sum.kinds, group.sum.checksums) {
        "the sums of its members' headers"
    } else {
        return Ok(());
    };
    Err(Loss { page: place, found: format!("{at} of kind {}, expected {what}", page.kind()) })
}
