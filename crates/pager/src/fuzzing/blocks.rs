//! The decoders one by one: what decodes is written again byte by byte, and no changed byte is passed over.

use std::path::PathBuf;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use keepstone_types::checksum::{checksum, checksum_seeded};
use keepstone_types::{Generation, PageId, PageRef, StoreId, ValueRef};

use crate::bitmap::Bitmap;
use crate::directory::{Node, Shape};
use crate::header::{self, HEADER_LEN, Header, HeaderFault};
use crate::layout::{self, PageSize, Place, SlotBytes, SlotFault, is_zero};
use crate::page::PageKind;
use crate::parity::{Block, RegionParity};
use crate::prologue::{self, PROLOGUE_LEN, Prologue, PrologueFault};
use crate::region::{self, RegionPage};

const SEED: u64 = 3;
/// Bytes of payload in the smallest page.
const PAYLOAD: usize = 4_056;

pub(super) fn prologue(input: &[u8]) {
    if let Ok(found) = Prologue::decode(input) {
        assert_eq!(found.encode(), input);
    }
    let mut block = input.to_vec();
    block.resize(PROLOGUE_LEN, 0);
    prologue::MAGIC.put(&mut block, &prologue::PROLOGUE_MAGIC);
    let sum = checksum(&block[..prologue::CHECKSUM.offset]);
    prologue::CHECKSUM.put(&mut block, &sum.to_le_bytes());
    match Prologue::decode(&block) {
        Ok(found) => assert_eq!(found.encode(), block, "a prologue has one form"),
        Err(fault @ (PrologueFault::Magic | PrologueFault::Checksum { .. })) => {
            panic!("both are right: {fault}")
        }
        Err(fault) => assert!(fault.is_understood() && !fault.to_string().is_empty()),
    }
    let made = |input: &mut Unstructured<'_>| -> Result<()> {
        let size = *input.choose(&PageSize::ALL)?;
        let mut block = Prologue::new(size, StoreId::from_bytes(input.arbitrary()?)).encode();
        block[input.choose_index(PROLOGUE_LEN)?] ^= input.int_in_range(1..=u8::MAX)?;
        assert!(Prologue::decode(&block).is_err());
        Ok(())
    };
    made(&mut Unstructured::new(input)).unwrap_or_default();
}

pub(super) fn header(input: &[u8]) {
    for odd in [false, true] {
        if let Ok(found) = Header::decode(input, SEED, odd) {
            assert_eq!(found.encode(SEED), input);
        }
        let mut block = input.to_vec();
        block.resize(HEADER_LEN, 0);
        header::MAGIC.put(&mut block, &header::HEADER_MAGIC);
        let sum = checksum_seeded(SEED, &block[..header::CHECKSUM.offset]);
        header::CHECKSUM.put(&mut block, &sum.to_le_bytes());
        match Header::decode(&block, SEED, odd) {
            Ok(found) => {
                assert_eq!(found.encode(SEED), block, "a header has one form");
                assert!(Header::copies(found.generation).iter().all(|slot| header::is_fixed(*slot)));
                let mut changed = block.clone();
                let at = input.len() % HEADER_LEN;
                changed[at] ^= 1;
                assert!(Header::decode(&changed, SEED, odd).is_err(), "byte {at} was changed");
            }
            Err(HeaderFault::Field(field)) => assert!(!field.is_empty()),
            Err(fault) => panic!("magic and checksum are right: {fault}"),
        }
    }
}

fn place() -> Arc<Place> {
    Arc::new(Place::new(PathBuf::from("file"), PageSize::KIB_4, StoreId::from_bytes([7; 16])))
}

pub(super) fn page(input: &[u8]) {
    let (place, page) = (place(), PageId::new(9).unwrap());
    let slot = |bytes: Vec<u8>| SlotBytes { place: Arc::clone(&place), page, bytes: ValueRef::from(bytes) };
    match slot(input.to_vec()).judge() {
        Ok((at, kind)) => assert!(input.len() == 4_096 && at.page <= PageId::MAX && kind.get() > 0),
        Err(fault) => assert!(fault.to_string().len() < 200),
    }
    let mut bytes = input.to_vec();
    bytes.resize(4_096, 0);
    let sum = checksum_seeded(place.seed, &bytes[layout::CHECKSUM.end()..]);
    layout::CHECKSUM.put(&mut bytes, &sum.to_le_bytes());
    match slot(bytes.clone()).judge() {
        Ok((at, kind)) => {
            assert_eq!(at.checksum, sum);
            assert_eq!(slot(bytes.clone()).verify(at).is_ok(), at.page == page);
            let (again, written) = place.encode(at.page, at.birth, kind, &bytes[layout::PAGE_HEADER_LEN..]);
            assert!(again == at && written[..] == bytes[..], "a page has one form");
        }
        Err(SlotFault::Field(field)) => assert!(!field.is_empty()),
        Err(fault) => panic!("length and checksum are right: {fault}"),
    }
    written_page(&mut Unstructured::new(input), &place).unwrap_or_default();
}

/// What is written is read back, and no changed byte is passed over.
fn written_page(input: &mut Unstructured<'_>, place: &Arc<Place>) -> Result<()> {
    let page = PageId::new(input.int_in_range(0..=PageId::MAX.get())?).unwrap();
    let birth = Generation::new(input.int_in_range(0..=Generation::MAX.get())?).unwrap();
    let kind = PageKind::new(input.int_in_range(1..=u8::MAX)?);
    let payload: &[u8] = input.arbitrary()?;
    let payload = &payload[..payload.len().min(PAYLOAD)];
    let (at, bytes) = place.encode(page, birth, kind, payload);
    let read = SlotBytes { place: Arc::clone(place), page, bytes: bytes.clone() }.verify(at).unwrap();
    assert!(read.kind() == kind && read.payload().starts_with(payload));
    let mut changed = bytes.to_vec();
    changed[input.choose_index(4_096)?] ^= input.int_in_range(1..=u8::MAX)?;
    assert!(SlotBytes { place: Arc::clone(place), page, bytes: changed.into() }.verify(at).is_err());
    Ok(())
}

pub(super) fn region(input: &[u8]) {
    let mut payload = input.to_vec();
    payload.resize(PAYLOAD, 0);
    let check = |payload: &[u8]| match RegionPage::decode(payload) {
        Ok(found) => {
            let mut again = found.encode();
            again.resize(PAYLOAD, 0);
            assert_eq!(again, payload, "a region has one form");
            assert!(found.used.and(found.pending).is_empty());
        }
        Err(what) => assert!(!what.is_empty()),
    };
    check(&payload);
    // The counts put right, no slot used and pending, and nothing behind.
    let used = Bitmap::from_bytes(region::USED.array(&payload));
    let pending = Bitmap::from_bytes(region::PENDING.array(&payload)).without(used);
    let number = region::REGION.u32(&payload);
    let members = Bitmap::from_bytes(region::MEMBERS.array(&payload));
    let whole = RegionPage { region: number, used, pending, parity: forged_parity(number, members) };
    let mut forged = whole.encode();
    forged.resize(PAYLOAD, 0);
    assert_eq!(RegionPage::decode(&forged), Ok(whole));
    if let Some(byte) = input.first() {
        let at = usize::from(*byte) * 4;
        forged[at.min(PAYLOAD - 1)] ^= 1;
        check(&forged);
    }
    assert!(input.len() >= region::REGION_LEN || RegionPage::decode(input).is_err());
}

/// Parity that counts the given slots.
fn forged_parity(region: u32, members: Bitmap) -> Option<Arc<RegionParity>> {
    let mut parity = RegionParity::default();
    let generation = Generation::new(9).unwrap();
    for column in 0..32 {
        let mut block = Block::zero(8);
        for row in (0..32_usize).filter(|row| members.column(column) >> row & 1 == 1) {
            let place = row * 32 + column;
            let page = region::slot_at(region, place);
            let checksum = page.get().wrapping_mul(0x9E37_79B9_7F4A_7C15);
            block.add(PageRef { page, birth: generation, checksum }, PageKind::FIRST_FREE, &[7; 8]);
            parity.set_tag(place, checksum);
        }
        let place = region::slot_at(region, (column + 1) % 32);
        let mask = members.column(column);
        if mask != 0 && place > PageId::ZERO {
            parity.set_group(column, block.group(mask, Some(place), generation));
        } else {
            (0..32).for_each(|row| parity.clear_tag(row * 32 + column));
        }
    }
    assert!(parity.is_placed_outside(region));
    (!parity.members().is_empty()).then(|| Arc::new(parity))
}

pub(super) fn directory(input: &[u8]) {
    let shape = Shape::of(PAYLOAD);
    let check = |payload: &[u8]| match Node::decode(payload, shape) {
        Ok(found) => {
            let mut again = found.encode();
            again.resize(payload.len().max(again.len()), 0);
            assert_eq!(again, payload, "a node has one form");
            assert!((1..=118).contains(&found.entries.len()));
            assert!(found.free() >= found.entries[0].free);
        }
        Err(what) => assert!(!what.is_empty()),
    };
    check(input);
    let mut payload = input.to_vec();
    payload.resize(PAYLOAD, 0);
    crate::directory::RESERVED.put(&mut payload, &[0; 3]);
    crate::directory::RESERVED_2.put(&mut payload, &[0; 4]);
    check(&payload);
    // As many entries as there are that lead somewhere.
    let entries = payload[crate::directory::NODE_HEADER_LEN..].chunks_exact(crate::directory::ENTRY_LEN);
    let count = entries.take_while(|entry| !is_zero(&entry[..PageRef::LEN])).count();
    crate::directory::COUNT.put(&mut payload, &u32::try_from(count).unwrap().to_le_bytes());
    let end = crate::directory::NODE_HEADER_LEN + count * crate::directory::ENTRY_LEN;
    payload[end..].fill(0);
    assert_eq!(Node::decode(&payload, shape).is_ok(), count > 0);
    check(&payload);
}
