//! What files begin with: segment headers, side files, pins.

use std::path::Path;

use arbitrary::{Result, Unstructured};
use keepstone_types::checksum::{checksum, checksum_seeded, seed};
use keepstone_types::{StoreId, Timeline};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

use crate::group::Proven;
use crate::layout::{Field, is_zero};
use crate::pins::{self, PinState, PinsFile, Reach};
use crate::record::SideReference;
use crate::segment::{self, FileRole, HEADER_BLOCK, HEADER_BYTES, HeaderFault, SegmentHeader, role_of};
use crate::side_file;

pub(super) fn segment_header(input: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(input) {
        assert!(input.len() == HEADER_BLOCK && header.number > 0);
    }
    forged_header(input);
    made_header(&mut Unstructured::new(input)).unwrap_or_default();
    if let Ok(name) = std::str::from_utf8(input) {
        match role_of(name) {
            Some(FileRole::Segment(number)) => assert_eq!(segment::segment_name(number), name),
            Some(FileRole::Side(number)) => {
                assert_eq!(segment::side_path(Path::new(""), number), Path::new(name));
            }
            Some(FileRole::Scratch) => assert!(name.ends_with(".tmp")),
            None => {}
        }
    }
}

/// A block with the right magic and checksum: what decodes is written again byte by byte.
fn forged_header(input: &[u8]) {
    let mut block = input.to_vec();
    block.resize(HEADER_BLOCK, 0);
    segment::MAGIC.put(&mut block, &segment::SEGMENT_MAGIC);
    let sum = checksum(&block[..segment::CHECKSUM.offset]);
    segment::CHECKSUM.put(&mut block, &sum.to_le_bytes());
    match SegmentHeader::decode(&block) {
        Ok(header) => {
            assert!(header.sector == 512 || header.sector == 4_096);
            assert!(header.length >= HEADER_BYTES && header.length <= segment::SEGMENT_BYTES_LIMIT);
            let kept = is_zero(segment::COMPAT.bytes(&block)) && is_zero(segment::RESERVED.bytes(&block));
            assert!(!kept || header.encode() == block, "a header has one form");
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
        Err(HeaderFault::Newer(format)) => assert!(format > segment::FORMAT),
        Err(HeaderFault::Field(field)) => assert!(!field.is_empty()),
        Err(fault) => panic!("magic and checksum are right: {fault:?}"),
    }
}

fn made_header(input: &mut Unstructured<'_>) -> Result<()> {
    let header = arbitrary_header(input)?;
    let mut block = header.encode();
    assert_eq!(SegmentHeader::decode(&block), Ok(header));
    let at = input.choose_index(block.len())?;
    let change = input.int_in_range(1..=u8::MAX)?;
    block[at] ^= change;
    assert!(SegmentHeader::decode(&block).is_err(), "byte {at} changed by {change:#04x}");
    Ok(())
}

/// A header that a writer could have written.
pub(super) fn arbitrary_header(input: &mut Unstructured<'_>) -> Result<SegmentHeader> {
    let number = input.int_in_range(1..=segment::NUMBERS_LIMIT - 1)?;
    let end_lsn = input.int_in_range(0..=segment::NUMBERS_LIMIT - 1)?;
    Ok(SegmentHeader {
        generation: input.arbitrary()?,
        read_only_compat: input.arbitrary()?,
        incompat: input.arbitrary()?,
        store: StoreId::from_bytes(input.arbitrary()?),
        number,
        length: input.int_in_range(HEADER_BYTES..=segment::SEGMENT_BYTES_LIMIT)?,
        first_lsn: end_lsn + 1,
        predecessor: input.int_in_range(0..=number - 1)?,
        end_sequence: input.int_in_range(0..=segment::NUMBERS_LIMIT - 1)?,
        end_checksum: input.arbitrary()?,
        end_lsn,
        proven: Proven { lsn: input.arbitrary()?, sequence: input.arbitrary()? },
        owner_mark: input.arbitrary()?,
        sector: if input.arbitrary()? { 512 } else { 4_096 },
        relaxed: input.arbitrary()?,
        timeline: Timeline::new(input.arbitrary()?),
    })
}

const DIR: &str = "/log";

/// A folder in memory with one file.
pub(super) fn folder_with(path: &Path, bytes: &[u8]) -> MemoryVfs {
    let disk = MemoryVfs::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.open(path, OpenOptions::CREATE_NEW).unwrap().write_all_at(bytes, 0).unwrap();
    disk
}

pub(super) fn side_file(input: &[u8]) {
    written_side_file(&mut Unstructured::new(input)).unwrap_or_default();
    any_side_file(Unstructured::new(input)).unwrap_or_default();
}

/// What is written is read back, and no changed byte is passed over.
fn written_side_file(input: &mut Unstructured<'_>) -> Result<()> {
    let (store, number): (_, u64) =
        (StoreId::from_bytes(input.arbitrary()?), input.int_in_range(1..=u64::MAX)?);
    let (head, body): (&[u8], &[u8]) = (input.arbitrary()?, input.arbitrary()?);
    let disk = MemoryVfs::new();
    let dir = Path::new(DIR);
    disk.create_dir(dir).unwrap();
    let reference = side_file::write(&disk, dir, store, number, body).unwrap();
    let read = |reference| side_file::read(&disk, dir, store, reference, head).unwrap();
    assert_eq!(read(reference).unwrap(), [head, body].concat());
    let other = SideReference { length: input.arbitrary()?, checksum: input.arbitrary()?, ..reference };
    assert!(other == reference || read(other).is_err());
    let path = segment::side_path(dir, number);
    let mut bytes = disk.read_file(&path, 1 << 20).unwrap();
    let at = input.choose_index(bytes.len())?;
    bytes[at] ^= input.int_in_range(1..=u8::MAX)?;
    disk.replace_file(&path, &bytes).unwrap();
    assert!(read(reference).is_err(), "byte {at} was changed");
    bytes.truncate(at);
    disk.replace_file(&path, &bytes).unwrap();
    assert!(read(reference).is_err(), "cut to {at} bytes");
    Ok(())
}

/// Any bytes, as they are and with checksums put right.
fn any_side_file(mut input: Unstructured<'_>) -> Result<()> {
    let (dir, store, number) = (Path::new(DIR), StoreId::from_bytes([7; 16]), 3);
    let right: bool = input.arbitrary()?;
    let mut reference = SideReference { number, length: input.arbitrary()?, checksum: input.arbitrary()? };
    let mut bytes = input.take_rest().to_vec();
    if right && bytes.len() >= side_file::SIDE_HEADER_LEN {
        let (header, body) = bytes.split_at_mut(side_file::SIDE_HEADER_LEN);
        reference.length = u64::try_from(body.len()).unwrap();
        reference.checksum = checksum_seeded(seed(store, number | 1 << 63), body);
        let sum = checksum(&header[..side_file::CHECKSUM.offset]);
        side_file::CHECKSUM.put(header, &sum.to_le_bytes());
    }
    let disk = folder_with(&segment::side_path(dir, number), &bytes);
    if let Ok(payload) = side_file::read(&disk, dir, store, reference, b"head").unwrap() {
        let (header, body) = bytes.split_at(side_file::SIDE_HEADER_LEN);
        assert_eq!(payload, [b"head", body].concat());
        let fields: [(Field, &[u8]); 6] = [
            (side_file::MAGIC, &side_file::SIDE_MAGIC),
            (side_file::STORE, &store.to_bytes()),
            (side_file::NUMBER, &number.to_le_bytes()),
            (side_file::LENGTH, &reference.length.to_le_bytes()),
            (side_file::BODY_CHECKSUM, &reference.checksum.to_le_bytes()),
            (side_file::RESERVED, &[0; 8]),
        ];
        for (field, expected) in fields {
            assert_eq!(field.bytes(header), expected);
        }
    }
    Ok(())
}

pub(super) fn pins(input: &[u8]) {
    if let Some(found) = read_pins(input) {
        assert_eq!(found.encode(), input, "a pins file has one form");
    }
    let mut forged = input.to_vec();
    forged.resize(forged.len().max(pins::PINS_HEADER_LEN), 0);
    pins::MAGIC.put(&mut forged, &pins::PINS_MAGIC);
    let sum = checksum(&forged[pins::CHECKSUM.end()..]);
    pins::CHECKSUM.put(&mut forged, &sum.to_le_bytes());
    if let Some(found) = read_pins(&forged) {
        assert_eq!(found.encode(), forged, "a pins file has one form");
    }
    made_pins(&mut Unstructured::new(input)).unwrap_or_default();
}

fn read_pins(bytes: &[u8]) -> Option<PinsFile> {
    let dir = Path::new(DIR);
    match PinsFile::read(&folder_with(&dir.join(pins::PINS), bytes), dir) {
        Ok(found) => found,
        Err(error) => {
            assert!(error.to_string().len() < 600);
            None
        }
    }
}

fn made_pins(input: &mut Unstructured<'_>) -> Result<()> {
    let mut file = PinsFile::new(StoreId::from_bytes(input.arbitrary()?));
    file.released = input.arbitrary()?;
    let (segment, next_lsn) = (input.arbitrary()?, input.arbitrary()?);
    file.reach = Reach { segment, next_lsn, timeline: Timeline::new(input.arbitrary()?) };
    for _ in 0..input.int_in_range(0..=8)? {
        let mut name: String = input.arbitrary()?;
        name.truncate((0..=pins::NAME_LEN_MAX).rev().find(|len| name.is_char_boundary(*len)).unwrap());
        let state =
            PinState { from: input.arbitrary()?, max_bytes: input.arbitrary()?, lost: input.arbitrary()? };
        if !name.is_empty() {
            file.pins.insert(name, state);
        }
    }
    let mut bytes = file.encode();
    assert_eq!(read_pins(&bytes), Some(file));
    let at = input.choose_index(bytes.len())?;
    bytes[at] ^= input.int_in_range(1..=u8::MAX)?;
    assert_eq!(read_pins(&bytes), None, "byte {at} was changed");
    Ok(())
}
