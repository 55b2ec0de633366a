//! Groups and their healing.

use arbitrary::{Result, Unstructured};
use keepstone_types::CodecId;
use keepstone_types::checksum::checksum_seeded;

use crate::group::{
    CHECKSUM, ChainEnd, GROUP_HEADER_LEN, GROUP_MAGIC, GroupBuilder, GroupHeader, LENGTH, MAGIC, Proven,
    plausible, records_of, total_len, verify, xor_of,
};
use crate::layout::is_zero;
use crate::record::{RecordKind, StoredRecords, stored_len};
use crate::recovery::heal::next_group;
use crate::recovery::image::Image;

pub(super) fn group(input: &[u8]) {
    for sector in [512, 4_096] {
        assert!(verify(input, 7, sector).is_none_or(|header| header.total_len(sector) <= input.len()));
    }
    forged(Unstructured::new(input)).unwrap_or_default();
    built(&mut Unstructured::new(input)).map(drop).unwrap_or_default();
}

fn sector(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(if input.arbitrary()? { 4_096 } else { 512 })
}

/// A group whose magic, length, checksum and XOR sector are right, and whose other bytes are the input.
fn forged(mut input: Unstructured<'_>) -> Result<()> {
    let (seed, sector, padding) = (input.arbitrary()?, sector(&mut input)?, input.arbitrary::<u8>()?);
    let rest = input.take_rest();
    let length = rest.len().saturating_sub(GROUP_HEADER_LEN);
    let total = total_len(length, sector);
    let mut bytes = rest.to_vec();
    bytes.resize(GROUP_HEADER_LEN.max(bytes.len()), 0);
    bytes.resize(total - sector, padding);
    MAGIC.put(&mut bytes, &GROUP_MAGIC);
    LENGTH.put(&mut bytes, &u32::try_from(length).unwrap().to_le_bytes());
    let sum = checksum_seeded(seed, &bytes[CHECKSUM.end()..]);
    CHECKSUM.put(&mut bytes, &sum.to_le_bytes());
    let xor = xor_of(&bytes, sector);
    bytes.extend(xor);
    let header = verify(&bytes, seed, sector).expect("a group that is right verifies");
    assert_eq!((header.checksum, header.total_len(sector)), (sum, bytes.len()));
    assert_eq!(records_of(&bytes, header), &rest[GROUP_HEADER_LEN.min(rest.len())..]);
    assert!(header.next_lsn() >= header.first_lsn && header.last_lsn() <= header.next_lsn());
    assert_eq!(verify(&bytes[..bytes.len() - 1], seed, sector), None, "a group that is cut is none");
    let place = ChainEnd {
        checksum: header.previous,
        sequence: header.sequence.wrapping_sub(1),
        next_lsn: header.first_lsn,
    };
    assert_eq!(place.is_followed_by(&header), header.sequence > 0);
    // What was read is written again; only what pads it may be different.
    if header.sequence > 0 && is_zero(&bytes[header.data_len()..total - sector]) {
        let mut builder = GroupBuilder::new();
        builder.begin(length, sector);
        builder.push_encoded(records_of(&bytes, header), header.records);
        let proven = Proven { lsn: header.proven_lsn, sequence: header.proven_sequence };
        let (written, again) = builder.finish(place, proven, seed);
        assert_eq!((written, again), (&bytes[..], header));
    }
    Ok(())
}

/// A group as the log writes it, with a place in the chain.
struct Made {
    bytes: Vec<u8>,
    header: GroupHeader,
    place: ChainEnd,
    seed: u64,
    sector: usize,
}

fn built(input: &mut Unstructured<'_>) -> Result<Made> {
    let (seed, sector) = (input.arbitrary()?, sector(input)?);
    let place = ChainEnd {
        checksum: input.arbitrary()?,
        sequence: input.int_in_range(0..=u64::MAX - 1)?,
        next_lsn: input.int_in_range(1..=u64::MAX >> 1)?,
    };
    let proven = Proven { lsn: input.arbitrary()?, sequence: input.arbitrary()? };
    let mut records: Vec<(RecordKind, CodecId, &[u8])> = Vec::new();
    for _ in 0..input.int_in_range(0..=12)? {
        let kind = RecordKind::from_raw(input.arbitrary()?);
        records.push((kind, CodecId::new(input.arbitrary()?), input.arbitrary()?));
    }
    let mut builder = GroupBuilder::new();
    builder.begin(records.iter().map(|(_, _, payload)| stored_len(payload.len())).sum(), sector);
    for (kind, codec, payload) in &records {
        builder.push(*kind, *codec, payload, &[]);
    }
    let (bytes, header) = builder.finish(place, proven, seed);
    assert_eq!(verify(bytes, seed, sector), Some(header));
    assert_eq!(plausible(bytes, sector), Some(header));
    assert!(place.is_followed_by(&header) && is_zero(&xor_of(bytes, sector)));
    assert_eq!((header.proven_lsn, header.proven_sequence), (proven.lsn, proven.sequence));
    let numbered = records.iter().filter(|(kind, ..)| !kind.is_own()).count();
    assert_eq!(usize::try_from(header.records), Ok(numbered));
    let found: Vec<_> = StoredRecords::new(records_of(bytes, header)).map(|record| record.unwrap()).collect();
    let found: Vec<_> = found.iter().map(|record| (record.kind, record.codec, record.inline)).collect();
    assert_eq!(found, records);
    Ok(Made { bytes: bytes.to_vec(), header, place, seed, sector })
}

pub(super) fn heal(input: &[u8]) {
    lost_sectors(&mut Unstructured::new(input)).unwrap_or_default();
    any_image(Unstructured::new(input)).unwrap_or_default();
}

/// One sector of a group is destroyed: it comes back as it was. Two are: nothing comes back, or what was there.
fn lost_sectors(input: &mut Unstructured<'_>) -> Result<()> {
    let made = built(input)?;
    let (sector, sectors) = (made.sector, made.bytes.len() / made.sector);
    let before = input.int_in_range(0..=2)? * sector;
    let mut whole = vec![0xB5; before];
    whole.extend(&made.bytes);
    whole.extend(input.arbitrary::<&[u8]>()?.iter().cycle().take(2 * sector));
    whole.resize(whole.len().next_multiple_of(sector), 0);
    let one = input.choose_index(sectors)?;
    let other = if input.arbitrary()? { Some(input.choose_index(sectors)?) } else { None };
    let mut image = Image { lost: vec![false; whole.len() / sector], bytes: whole.clone(), sector };
    for index in other.into_iter().chain([one]) {
        destroy(&mut image, before / sector + index, input)?;
    }
    let hurt = image.bytes.clone();
    let destroyed = [Some(one), other].into_iter().flatten();
    let wrong = destroyed.filter(|index| {
        let at = before + index * sector;
        image.lost[before / sector + index] || hurt[at..at + sector] != whole[at..at + sector]
    });
    let wrong: std::collections::BTreeSet<usize> = wrong.collect();
    let found = next_group(&mut image, before, made.seed, made.place);
    match (found, wrong.len()) {
        (Some(found), count) => {
            assert_eq!(image.bytes, whole, "what comes back is what was there");
            assert_eq!((found.header, found.total), (made.header, made.bytes.len()));
            assert_eq!(found.rebuilt.is_none(), count == 0);
            assert!(found.rebuilt.is_none_or(|index| wrong.contains(&index)));
        }
        (None, 0 | 1) => panic!("sector {one} of {sectors} of {sector} bytes does not come back"),
        (None, _) => assert_eq!(image.bytes, hurt, "what cannot be rebuilt is left as it is"),
    }
    Ok(())
}

/// Destroys a sector of an image: it cannot be read, or holds something else.
fn destroy(image: &mut Image, index: usize, input: &mut Unstructured<'_>) -> Result<()> {
    let place = index * image.sector..(index + 1) * image.sector;
    if input.arbitrary()? {
        image.lost[index] = true;
        image.bytes[place].fill(0);
        return Ok(());
    }
    let at: usize = input.choose_index(image.sector)?;
    let change: &[u8] = input.arbitrary()?;
    for (byte, change) in image.bytes[place].iter_mut().skip(at).zip(change) {
        *byte ^= change;
    }
    Ok(())
}

/// Bytes that nobody has written as a group: nothing is found, or something that verifies.
fn any_image(mut input: Unstructured<'_>) -> Result<()> {
    let (seed, sector) = (input.arbitrary()?, sector(&mut input)?);
    let (lost, length): (u32, u16) = (input.arbitrary()?, input.arbitrary()?);
    let magic: bool = input.arbitrary()?;
    let mut bytes = input.take_rest().to_vec();
    bytes.resize(bytes.len().next_multiple_of(sector).min(64 << 10), 0);
    if magic {
        MAGIC.put(&mut bytes, &GROUP_MAGIC);
        LENGTH.put(&mut bytes, &u32::from(length).to_le_bytes());
    }
    let lost =
        (0..bytes.len() / sector).map(|index| lost.rotate_right(u32::try_from(index).unwrap()) & 1 == 1);
    let mut image = Image { lost: lost.collect(), bytes, sector };
    let before = image.bytes.clone();
    for at in (0..=image.bytes.len()).step_by(sector) {
        match next_group(&mut image, at, seed, ChainEnd::START) {
            None => assert_eq!(image.bytes, before),
            Some(found) => {
                let header = verify(&image.bytes[at..], seed, sector);
                assert_eq!(header, Some(found.header), "what is found verifies");
                return Ok(());
            }
        }
    }
    Ok(())
}
