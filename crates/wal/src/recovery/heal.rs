//! Rebuilding a sector of a group from all others.
//!
//! The XOR of a whole group is zero. So if exactly one sector is wrong, the XOR of all sectors as they are is its
//! difference from what it was, and the group's checksum tells which sector that is: each place is tried. If the lost
//! sector is the one that says how long the group is, each length is tried instead, with a running XOR that is the lost
//! sector itself.
#![deny(clippy::arithmetic_side_effects)]

use super::image::Image;
use crate::group::{self, ChainEnd, GroupHeader, xor_into, xor_of};
use crate::layout::{is_zero, memory_len};

/// A group that was found at a place, with the sector that had to be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) header: GroupHeader,
    /// Bytes of the group.
    pub(crate) total: usize,
    /// Which of its sectors was rebuilt, counted from the group's first.
    pub(crate) rebuilt: Option<usize>,
}

/// The next group of a chain, at byte `at` of the image; what had to be rebuilt is rebuilt in the image.
pub(crate) fn next_group(image: &mut Image, at: usize, seed: u64, chain: ChainEnd) -> Option<Found> {
    let sector = image.sector;
    let rest = image.bytes.get(at..)?;
    if let Some(header) = group::verify(rest, seed, sector).filter(|header| chain.is_followed_by(header)) {
        let total = header.total_len(sector);
        let rebuilt = mend_xor_sector(image, at, total).or_else(|| lost_zeros(image, at, total));
        let found = Found { header, total, rebuilt };
        mark_found(image, at, found);
        return Some(found);
    }
    let found = heal_in_place(image, at, seed, chain).or_else(|| heal_header(image, at, seed, chain))?;
    mark_found(image, at, found);
    Some(found)
}

fn mark_found(image: &mut Image, at: usize, found: Found) {
    let first = at.checked_div(image.sector).unwrap_or_default();
    if let Some(lost) = found.rebuilt.and_then(|index| image.lost.get_mut(first.saturating_add(index))) {
        *lost = false;
    }
}

/// The group verifies although a sector of it was lost: it held zeros, which is what a lost one is taken for.
fn lost_zeros(image: &Image, at: usize, total: usize) -> Option<usize> {
    let first = at.checked_div(image.sector)?;
    let sectors = total.checked_div(image.sector)?;
    image.lost.iter().skip(first).take(sectors).position(|lost| *lost)
}

/// The group verifies, so all its data is right; if the XOR of the whole is not zero, its last sector is wrong.
fn mend_xor_sector(image: &mut Image, at: usize, total: usize) -> Option<usize> {
    let sector = image.sector;
    let end = at.checked_add(total)?;
    let difference = xor_of(image.bytes.get(at..end)?, sector);
    let last = total.checked_div(sector)?.checked_sub(1)?;
    let index = at.checked_div(sector)?.checked_add(last)?;
    let was_lost = image.lost.get(index).copied().unwrap_or_default();
    if is_zero(&difference) && !was_lost {
        return None;
    }
    xor_into(image.bytes.get_mut(end.checked_sub(sector)?..end)?, &difference);
    *image.lost.get_mut(index)? = false;
    Some(last)
}

/// The header says how long the group is; one sector of it is wrong.
fn heal_in_place(image: &mut Image, at: usize, seed: u64, chain: ChainEnd) -> Option<Found> {
    let sector = image.sector;
    let total = group::plausible(image.bytes.get(at..)?, sector)?.total_len(sector);
    let end = at.checked_add(total)?;
    let difference = xor_of(image.bytes.get(at..end)?, sector);
    if is_zero(&difference) {
        return None;
    }
    let sectors = total.checked_div(sector)?.checked_sub(1)?;
    let first = at.checked_div(sector)?;
    let lost: Vec<usize> = (0..sectors.saturating_add(1))
        .filter(|index| image.lost.get(first.saturating_add(*index)).copied().unwrap_or_default())
        .collect();
    let places = match lost.as_slice() {
        [] => 0..sectors,
        [one] => *one..one.saturating_add(1),
        // Two are lost: nothing can be rebuilt, and nothing is guessed.
        _ => return None,
    };
    for index in places {
        let from = at.checked_add(index.checked_mul(sector)?)?;
        let place = from..from.checked_add(sector)?;
        xor_into(image.bytes.get_mut(place.clone())?, &difference);
        let verified = group::verify(image.bytes.get(at..)?, seed, sector);
        let fits = |header: &GroupHeader| chain.is_followed_by(header) && header.total_len(sector) == total;
        if let Some(header) = verified.filter(fits) {
            return Some(Found { header, total, rebuilt: Some(index) });
        }
        xor_into(image.bytes.get_mut(place)?, &difference);
    }
    None
}

/// The first sector is wrong: for each length, the XOR of all other sectors is what it was.
fn heal_header(image: &mut Image, at: usize, seed: u64, chain: ChainEnd) -> Option<Found> {
    let sector = image.sector;
    let window = image.bytes.get(at..)?;
    let longest = group::GROUP_BYTES_MAX.min(window.len());
    let first_sector = at.checked_div(sector)?;
    let mut running = vec![0; sector];
    let original = window.get(..sector)?.to_vec();
    let mut total = sector;
    while total < longest {
        let next = at.checked_add(total)?;
        // A second lost sector: no longer group can be rebuilt.
        if image.lost.get(first_sector.checked_add(total.checked_div(sector)?)?).copied().unwrap_or(true) {
            break;
        }
        xor_into(&mut running, image.bytes.get(next..next.checked_add(sector)?)?);
        total = total.checked_add(sector)?;
        if group::MAGIC.bytes(&running) != group::GROUP_MAGIC {
            continue;
        }
        let length = memory_len(u64::from(group::LENGTH.u32(&running)));
        if group::total_len(length, sector) != total {
            continue;
        }
        let first = at..at.checked_add(sector)?;
        image.bytes.get_mut(first.clone())?.copy_from_slice(&running);
        let verified = group::verify(image.bytes.get(at..)?, seed, sector);
        if let Some(header) = verified.filter(|header| chain.is_followed_by(header)) {
            return Some(Found { header, total, rebuilt: Some(0) });
        }
        image.bytes.get_mut(first)?.copy_from_slice(&original);
    }
    None
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use keepstone_types::CodecId;

    use super::*;
    use crate::group::{GroupBuilder, Proven};
    use crate::record::RecordKind;

    const SEED: u64 = 77;

    /// A group of `sectors` data sectors, followed by noise that is no group.
    fn image(sectors: usize, sector: usize) -> Image {
        let length = sectors * sector - group::GROUP_HEADER_LEN;
        let payload: Vec<u8> = (0..length - 8).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        let mut builder = GroupBuilder::new();
        builder.begin(length, sector);
        builder.push(RecordKind::COMMIT, CodecId::RAW, &payload, &[]);
        let (bytes, _) = builder.finish(ChainEnd::START, Proven::default(), SEED);
        let mut bytes = bytes.to_vec();
        bytes.extend((0..4 * sector).map(|at| u8::try_from(at % 255).unwrap()));
        let lost = vec![false; bytes.len() / sector];
        Image { bytes, lost, sector }
    }

    #[test]
    fn any_one_sector_is_rebuilt_and_two_never() {
        for sector in [512, 4_096] {
            for sectors in 1..12 {
                let whole = image(sectors, sector);
                for one in 0..=sectors {
                    for lost in [false, true] {
                        let mut hurt = image(sectors, sector);
                        hurt.bytes[one * sector..(one + 1) * sector].fill(if lost { 0 } else { 0xA5 });
                        hurt.lost[one] = lost;
                        let found = next_group(&mut hurt, 0, SEED, ChainEnd::START);
                        let found =
                            found.unwrap_or_else(|| panic!("sector {one} of {sectors} of {sector} bytes"));
                        assert_eq!(found.rebuilt, Some(one));
                        assert_eq!(hurt.bytes, whole.bytes);
                        assert!(!hurt.any_lost(0));
                    }
                    for two in 0..one {
                        let mut hurt = image(sectors, sector);
                        for index in [one, two] {
                            hurt.bytes[index * sector + 100] ^= 0x11 + u8::try_from(index).unwrap();
                        }
                        let before = hurt.bytes.clone();
                        assert_eq!(next_group(&mut hurt, 0, SEED, ChainEnd::START), None, "{one} and {two}");
                        assert_eq!(hurt.bytes, before, "what cannot be rebuilt is left as it is");
                    }
                }
            }
        }
    }

    #[test]
    fn a_group_of_another_place_is_not_the_next() {
        let mut image = image(2, 512);
        let elsewhere = ChainEnd { checksum: 1, ..ChainEnd::START };
        assert_eq!(next_group(&mut image, 0, SEED, elsewhere), None);
        assert_eq!(next_group(&mut image, 0, SEED ^ 1, ChainEnd::START), None);
    }
}
