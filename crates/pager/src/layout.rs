//! The bytes of a page: a header that says what it is and where it belongs, then the payload.
//!
//! Invariants of a page:
//! * Its checksum covers everything behind it and is seeded with the store, and it is the checksum of its [`PageRef`].
//! * No page has kind 0, so a slot of zeros is no page.
//! * Reserved bytes are zero.
#![deny(clippy::arithmetic_side_effects)]

use std::path::PathBuf;
use std::sync::Arc;

use keepstone_types::checksum::{checksum_seeded, seed};
pub(crate) use keepstone_types::layout::{Field, disk_len, is_zero, memory_len};
use keepstone_types::{Generation, PageId, PageRef, StoreId, ValueRef};

use crate::error::PageError;
use crate::page::{Page, PageKind};

/// The stored form of a number of 48 bits; the largest there is when it has more.
pub(crate) fn to_u48(number: u64) -> [u8; 6] {
    PageId::new(number).unwrap_or(PageId::MAX).to_bytes()
}

/// What seeds are made of beside the store: apart from those of log segments (below 2^62) and side files (top bit).
const SPACE: u64 = 0b11 << 62;

/// The seed of the checksums of a store's pages.
pub(crate) fn page_seed(store: StoreId) -> u64 {
    seed(store, SPACE)
}

/// The seed of the checksums of a store's headers.
pub(crate) fn header_seed(store: StoreId) -> u64 {
    seed(store, SPACE | 1)
}

/// Bytes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    /// 4,096 bytes.
    pub const KIB_4: Self = Self(4_096);
    /// 8,192 bytes, the default.
    pub const KIB_8: Self = Self(8_192);
    /// 16,384 bytes.
    pub const KIB_16: Self = Self(16_384);
    /// All there are, ascending.
    pub const ALL: [Self; 3] = [Self::KIB_4, Self::KIB_8, Self::KIB_16];

    /// The size of so many bytes, if there is one.
    #[must_use]
    pub fn new(bytes: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.0 == bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The bytes as a length in memory.
    pub(crate) fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Bytes of payload in a page.
    pub(crate) fn payload_len(self) -> usize {
        self.len().saturating_sub(PAGE_HEADER_LEN)
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::KIB_8
    }
}

pub(crate) const CHECKSUM: Field =
    Field::first("checksum", 8, "of all behind it, seeded with the store; also in the reference");
pub(crate) const BIRTH: Field = CHECKSUM.then("generation", 6, "the one that wrote the page");
pub(crate) const KIND: Field = BIRTH.then("kind", 1, "what the page is; never 0");
pub(crate) const PAGE_FORMAT_FIELD: Field = KIND.then("format", 1, "0: unstable");
pub(crate) const PAGE: Field = PAGE_FORMAT_FIELD.then("page", 6, "the slot it belongs to");
pub(crate) const RESERVED: Field = PAGE.then("reserved", 2, "zero");
pub(crate) const CIPHER: Field = RESERVED.then("encryption", 16, "reserved, zero");
#[cfg(test)]
pub(crate) const PAGE_FIELDS: [Field; 7] = [CHECKSUM, BIRTH, KIND, PAGE_FORMAT_FIELD, PAGE, RESERVED, CIPHER];

/// Bytes of a page's header.
pub(crate) const PAGE_HEADER_LEN: usize = 40;
const _: () = assert!(CIPHER.end() == PAGE_HEADER_LEN);

/// Where the payload begins; it is as long as the slot lets it be.
const PAYLOAD: Field = CIPHER.then("payload", 0, "what the kind says");

/// The format of pages that this build writes, and the last it reads.
pub(crate) const PAGE_FORMAT: u8 = 0;

/// Where a page file is and how its pages are judged: what an error and a checksum need.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) page_size: PageSize,
    pub(crate) seed: u64,
}

impl Place {
    pub(crate) fn new(file: PathBuf, page_size: PageSize, store: StoreId) -> Self {
        Self { file, page_size, seed: page_seed(store) }
    }

    /// Where a slot begins. Slots have 48 bits and sizes 14, so nothing saturates.
    pub(crate) fn offset(&self, page: PageId) -> u64 {
        page.get().saturating_mul(self.page_size.bytes().into())
    }

    /// The bytes of a page, and the reference to it. A payload that is too long is cut, so the caller checks it.
    pub(crate) fn encode(
        &self,
        page: PageId,
        birth: Generation,
        kind: PageKind,
        payload: &[u8],
    ) -> (PageRef, ValueRef) {
        let mut slot = vec![0; self.page_size.len()];
        BIRTH.put(&mut slot, &birth.to_bytes());
        KIND.put(&mut slot, &[kind.get()]);
        PAGE_FORMAT_FIELD.put(&mut slot, &[PAGE_FORMAT]);
        PAGE.put(&mut slot, &page.to_bytes());
        let len = payload.len().min(self.page_size.payload_len());
        Field { len, ..PAYLOAD }.put(&mut slot, payload.get(..len).unwrap_or_default());
        let checksum = self.checksum_of(&slot);
        CHECKSUM.put(&mut slot, &checksum.to_le_bytes());
        (PageRef { page, birth, checksum }, ValueRef::from(slot))
    }

    /// The checksum that the bytes of a slot must have.
    fn checksum_of(&self, slot: &[u8]) -> u64 {
        checksum_seeded(self.seed, slot.get(CHECKSUM.end()..).unwrap_or_default())
    }

    /// The page that encoded bytes are.
    pub(crate) fn page_of(reference: PageRef, kind: PageKind, slot: &ValueRef) -> Page {
        Page::verified(reference, kind, slot.slice(PAGE_HEADER_LEN..).unwrap_or_default())
    }
}

/// Why the bytes of a slot are no sound page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotFault {
    /// The file ends within the slot or before it.
    Short(usize),
    /// Nothing was ever written.
    Zeros,
    /// The checksum is not that of the bytes.
    Checksum { stored: u64, computed: u64 },
    /// A field has a value that no writer gives it.
    Field(&'static str),
}

impl std::fmt::Display for SlotFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(0) => f.write_str("the end of the file"),
            Self::Short(len) => write!(f, "{len} bytes, then the end of the file"),
            Self::Zeros => f.write_str("nothing but zeros"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {stored:#018x} over bytes with checksum {computed:#018x}")
            }
            Self::Field(field) => write!(f, "a page whose field `{field}` has a value that is never written"),
        }
    }
}

/// The bytes of a slot, not judged yet.
#[derive(Clone, Debug)]
pub(crate) struct SlotBytes {
    pub(crate) place: Arc<Place>,
    pub(crate) page: PageId,
    pub(crate) bytes: ValueRef,
}

impl SlotBytes {
    /// What the bytes are by themselves: the reference that leads to such a page, and its kind.
    pub(crate) fn judge(&self) -> Result<(PageRef, PageKind), SlotFault> {
        let bytes = &self.bytes[..];
        if bytes.len() != self.place.page_size.len() {
            return Err(SlotFault::Short(bytes.len()));
        }
        let (stored, computed) = (CHECKSUM.u64(bytes), self.place.checksum_of(bytes));
        if stored != computed {
            let empty = stored == 0 && is_zero(bytes);
            return Err(if empty { SlotFault::Zeros } else { SlotFault::Checksum { stored, computed } });
        }
        let sane = [
            ("format", PAGE_FORMAT_FIELD.u8(bytes) == PAGE_FORMAT),
            ("kind", KIND.u8(bytes) != 0),
            ("reserved", is_zero(RESERVED.bytes(bytes))),
            ("encryption", is_zero(CIPHER.bytes(bytes))),
        ];
        if let Some((field, _)) = sane.iter().find(|(_, holds)| !holds) {
            return Err(SlotFault::Field(field));
        }
        let page = PageId::from_bytes(PAGE.array(bytes));
        let birth = Generation::from_bytes(BIRTH.array(bytes));
        Ok((PageRef { page, birth, checksum: stored }, PageKind::new(KIND.u8(bytes))))
    }

    /// The page in the slot, if it is the one that is referred to.
    pub(crate) fn verify(self, at: PageRef) -> Result<Page, PageError> {
        let found = match self.judge() {
            Ok((found, kind)) if found == at && self.page == at.page => {
                return Ok(Place::page_of(at, kind, &self.bytes));
            }
            Ok((found, _)) if found.page == at.page && found.birth > at.birth => {
                return Err(PageError::Superseded { at });
            }
            Ok((found, kind)) => format!("{found} of kind {kind}"),
            Err(fault) => fault.to_string(),
        };
        Err(PageError::Damaged {
            file: self.place.file.clone(),
            page: self.page,
            offset: self.place.offset(self.page),
            expected: at.to_string(),
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(store: u8) -> Arc<Place> {
        Arc::new(Place::new("file".into(), PageSize::KIB_4, StoreId::from_bytes([store; 16])))
    }

    fn id(page: u64) -> PageId {
        PageId::new(page).unwrap()
    }

    fn written(payload: &[u8], birth: u64) -> (PageRef, SlotBytes) {
        let place = place(1);
        let birth = Generation::new(birth).unwrap();
        let (at, bytes) = place.encode(id(9), birth, PageKind::FIRST_FREE, payload);
        (at, SlotBytes { place, page: id(9), bytes })
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let (at, slot) = written(b"payload", 3);
        assert_eq!(slot.clone().verify(at).unwrap().payload()[..8], *b"payload\0");
        for byte in 0..slot.bytes.len() {
            let mut bytes = slot.bytes.to_vec();
            bytes[byte] ^= 0x10;
            let changed = SlotBytes { bytes: bytes.into(), ..slot.clone() };
            let error = changed.verify(at).unwrap_err();
            assert!(matches!(error, PageError::Damaged { offset: 36_864, .. }), "byte {byte}: {error}");
        }
    }

    #[test]
    fn what_is_not_the_page_is_told_apart() {
        let (at, slot) = written(b"payload", 3);
        let (newer, newer_slot) = written(b"payload", 4);
        let other_store = SlotBytes { place: place(2), ..slot.clone() };
        let elsewhere = SlotBytes { page: id(8), ..slot.clone() };
        let short = SlotBytes { bytes: slot.bytes.slice(..4_000).unwrap(), ..slot.clone() };
        let zeros = SlotBytes { bytes: vec![0; 4_096].into(), ..slot.clone() };
        let found = |slot: SlotBytes, at| match slot.verify(at).unwrap_err() {
            PageError::Damaged { found, .. } => found,
            other => other.to_string(),
        };
        assert!(found(newer_slot, at).contains("was given to another page since generation 3"));
        assert!(found(slot.clone(), newer).contains("page 9 of generation 3"));
        assert!(found(other_store, at).contains("checksum"));
        assert!(found(elsewhere, at).contains("page 9 of generation 3"));
        assert_eq!(found(short, at), "4000 bytes, then the end of the file");
        assert_eq!(found(zeros, at), "nothing but zeros");
        assert!(found(slot, PageRef { checksum: 1, ..at }).contains("of kind 16"));
    }

    proptest! {
        #[test]
        fn pages_round_trip(page in 0_u64..1 << 48, birth in 1_u64..1 << 48, kind in 1_u8.., payload: Vec<u8>) {
            let place = place(1);
            let (page, birth) = (id(page), Generation::new(birth).unwrap());
            let (at, bytes) = place.encode(page, birth, PageKind::new(kind), &payload);
            let slot = SlotBytes { place, page, bytes };
            prop_assert_eq!(slot.judge(), Ok((at, PageKind::new(kind))));
            let read = slot.verify(at).unwrap();
            prop_assert_eq!(&read.payload()[..payload.len()], &payload[..]);
            prop_assert!(is_zero(&read.payload()[payload.len()..]));
        }
    }
}
