//! The prologue: what a page file is. Two copies, in slots 0 and 61, never rewritten but to heal one from the other.
//!
//! Invariant: both copies are the same bytes, so that one can be lost.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::StoreId;
use keepstone_types::checksum::checksum;

use crate::layout::{Field, PageSize, is_zero};

/// Bytes of a copy.
pub(crate) const PROLOGUE_LEN: usize = 4_096;
/// The slots of the two copies.
pub(crate) const PROLOGUE_SLOTS: [u64; 2] = [0, 61];
/// What a page file begins with.
pub(crate) const PROLOGUE_MAGIC: [u8; 8] = *b"KSPAGES\0";
/// The format that this build writes, and the last it reads.
pub(crate) const FORMAT: u32 = 0;
/// The unit in which headers are written.
pub(crate) const SECTOR: u32 = 4_096;
/// 64-bit XXH3.
pub(crate) const CHECKSUM_XXH3: u16 = 1;
/// Pages are not encrypted.
pub(crate) const CIPHER_NONE: u16 = 0;
/// Member slots of a parity group.
pub(crate) const PARITY_MEMBERS: u16 = 32;
/// Parity slots of a parity group.
pub(crate) const PARITY_SLOTS: u8 = 1;
/// No parity is kept.
pub(crate) const PARITY_OFF: u8 = 0;
/// Features that may be missing in a reader, that must not be missing in a writer, that must not be missing at all.
pub(crate) const KNOWN_READ_ONLY_COMPAT: u64 = 0;
pub(crate) const KNOWN_INCOMPAT: u64 = 0;

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSPAGES` and a zero");
pub(crate) const FORMAT_VERSION: Field = MAGIC.then("format", 4, "0: unstable");
pub(crate) const PAGE_SIZE: Field = FORMAT_VERSION.then("page size", 4, "4096, 8192 or 16384");
pub(crate) const COMPAT: Field = PAGE_SIZE.then("compat", 8, "features that may be ignored");
pub(crate) const READ_ONLY_COMPAT: Field =
    COMPAT.then("read-only compat", 8, "features without which the file can only be read");
pub(crate) const INCOMPAT: Field =
    READ_ONLY_COMPAT.then("incompat", 8, "features without which the file cannot be read");
pub(crate) const STORE: Field = INCOMPAT.then("store", 16, "id of the store");
pub(crate) const SECTOR_SIZE: Field = STORE.then("sector", 4, "unit of header writes: 4096");
pub(crate) const CHECKSUM_ID: Field = SECTOR_SIZE.then("checksum id", 2, "1: 64-bit XXH3");
pub(crate) const CIPHER_ID: Field = CHECKSUM_ID.then("cipher id", 2, "0: none");
pub(crate) const PARITY_GROUP: Field = CIPHER_ID.then("parity members", 2, "members of a parity group: 32");
pub(crate) const PARITY_COUNT: Field = PARITY_GROUP.then("parity slots", 1, "parity slots of a group: 1");
pub(crate) const PARITY_MODE: Field = PARITY_COUNT.then("parity mode", 1, "0: off");
pub(crate) const CREATED_BY: Field = PARITY_MODE.then("created by", 64, "reserved, zero");
pub(crate) const RESERVED: Field = CREATED_BY.then("reserved", 3_956, "zero");
pub(crate) const CHECKSUM: Field = RESERVED.then("checksum", 8, "of all before it, no seed");
#[cfg(test)]
pub(crate) const PROLOGUE_FIELDS: [Field; 16] = [
    MAGIC,
    FORMAT_VERSION,
    PAGE_SIZE,
    COMPAT,
    READ_ONLY_COMPAT,
    INCOMPAT,
    STORE,
    SECTOR_SIZE,
    CHECKSUM_ID,
    CIPHER_ID,
    PARITY_GROUP,
    PARITY_COUNT,
    PARITY_MODE,
    CREATED_BY,
    RESERVED,
    CHECKSUM,
];
const _: () = assert!(CHECKSUM.end() == PROLOGUE_LEN);

/// What a page file says of itself, once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prologue {
    pub(crate) page_size: PageSize,
    pub(crate) store: StoreId,
    pub(crate) compat: u64,
    pub(crate) read_only_compat: u64,
}

/// Why a block is no prologue that this build can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrologueFault {
    /// It does not begin as one.
    Magic,
    /// Its checksum is another one.
    Checksum { stored: u64, computed: u64 },
    /// It is of a later format.
    Newer(u32),
    /// It needs features that are not known here.
    Features(u64),
    /// Its page size is none that there is.
    PageSize(u32),
    /// A field has a value that this build does not know.
    Field { field: &'static str, expected: u64, found: u64 },
    /// Bytes that must be zero are not.
    Reserved,
}

impl PrologueFault {
    /// Whether the block is a prologue, only not one for this build. Such a file is left alone.
    pub(crate) const fn is_understood(self) -> bool {
        !matches!(self, Self::Magic | Self::Checksum { .. })
    }
}

impl std::fmt::Display for PrologueFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => f.write_str("other bytes than a page file begins with"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {stored:#018x} over bytes with checksum {computed:#018x}")
            }
            Self::Newer(format) => write!(f, "format {format}"),
            Self::Features(bits) => write!(f, "features {bits:#x}"),
            Self::PageSize(bytes) => write!(f, "pages of {bytes} bytes"),
            Self::Field { field, expected, found } => write!(f, "{field} {found}, expected {expected}"),
            Self::Reserved => f.write_str("reserved bytes that are not zero"),
        }
    }
}

impl Prologue {
    pub(crate) const fn new(page_size: PageSize, store: StoreId) -> Self {
        Self { page_size, store, compat: 0, read_only_compat: 0 }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; PROLOGUE_LEN];
        MAGIC.put(&mut block, &PROLOGUE_MAGIC);
        FORMAT_VERSION.put(&mut block, &FORMAT.to_le_bytes());
        PAGE_SIZE.put(&mut block, &self.page_size.bytes().to_le_bytes());
        COMPAT.put(&mut block, &self.compat.to_le_bytes());
        READ_ONLY_COMPAT.put(&mut block, &self.read_only_compat.to_le_bytes());
        STORE.put(&mut block, &self.store.to_bytes());
        SECTOR_SIZE.put(&mut block, &SECTOR.to_le_bytes());
        CHECKSUM_ID.put(&mut block, &CHECKSUM_XXH3.to_le_bytes());
        CIPHER_ID.put(&mut block, &CIPHER_NONE.to_le_bytes());
        PARITY_GROUP.put(&mut block, &PARITY_MEMBERS.to_le_bytes());
        PARITY_COUNT.put(&mut block, &[PARITY_SLOTS]);
        PARITY_MODE.put(&mut block, &[PARITY_OFF]);
        let sum = checksum(block.get(..CHECKSUM.offset).unwrap_or_default());
        CHECKSUM.put(&mut block, &sum.to_le_bytes());
        block
    }

    /// Decodes one copy. Magic and checksum come first, then the format, then the features, then everything else: what
    /// is not understood may have moved any other field.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, PrologueFault> {
        if block.len() != PROLOGUE_LEN || MAGIC.bytes(block) != PROLOGUE_MAGIC {
            return Err(PrologueFault::Magic);
        }
        let stored = CHECKSUM.u64(block);
        let computed = checksum(block.get(..CHECKSUM.offset).unwrap_or_default());
        if stored != computed {
            return Err(PrologueFault::Checksum { stored, computed });
        }
        if FORMAT_VERSION.u32(block) > FORMAT {
            return Err(PrologueFault::Newer(FORMAT_VERSION.u32(block)));
        }
        if INCOMPAT.u64(block) & !KNOWN_INCOMPAT != 0 {
            return Err(PrologueFault::Features(INCOMPAT.u64(block) & !KNOWN_INCOMPAT));
        }
        let bytes = PAGE_SIZE.u32(block);
        let page_size = PageSize::new(bytes).ok_or(PrologueFault::PageSize(bytes))?;
        let fields: [(&'static str, u64, u64); 6] = [
            ("sector size", SECTOR.into(), SECTOR_SIZE.u32(block).into()),
            ("checksum id", CHECKSUM_XXH3.into(), CHECKSUM_ID.u16(block).into()),
            ("cipher id", CIPHER_NONE.into(), CIPHER_ID.u16(block).into()),
            ("parity members", PARITY_MEMBERS.into(), PARITY_GROUP.u16(block).into()),
            ("parity slots", PARITY_SLOTS.into(), PARITY_COUNT.u8(block).into()),
            ("parity mode", PARITY_OFF.into(), PARITY_MODE.u8(block).into()),
        ];
        if let Some((field, expected, found)) =
            fields.into_iter().find(|(_, expected, found)| expected != found)
        {
            return Err(PrologueFault::Field { field, expected, found });
        }
        if !is_zero(CREATED_BY.bytes(block)) || !is_zero(RESERVED.bytes(block)) {
            return Err(PrologueFault::Reserved);
        }
        Ok(Self {
            page_size,
            store: StoreId::from_bytes(STORE.array(block)),
            compat: COMPAT.u64(block),
            read_only_compat: READ_ONLY_COMPAT.u64(block),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forged(change: impl Fn(&mut [u8])) -> Result<Prologue, PrologueFault> {
        let mut block = Prologue::new(PageSize::KIB_8, StoreId::from_bytes([7; 16])).encode();
        change(&mut block);
        let sum = checksum(&block[..CHECKSUM.offset]);
        CHECKSUM.put(&mut block, &sum.to_le_bytes());
        Prologue::decode(&block)
    }

    #[test]
    fn round_trips_and_every_flipped_byte_is_found() {
        for page_size in PageSize::ALL {
            let prologue = Prologue::new(page_size, StoreId::from_bytes([7; 16]));
            let block = prologue.encode();
            assert_eq!(Prologue::decode(&block), Ok(prologue));
            for byte in 0..block.len() {
                let mut changed = block.clone();
                changed[byte] ^= 1;
                assert!(Prologue::decode(&changed).is_err(), "byte {byte}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_told_apart() {
        type Change = fn(&mut [u8]);
        let cases: [(Change, PrologueFault); 8] = [
            (|block| MAGIC.put(block, b"KSPAGES1"), PrologueFault::Magic),
            (|block| FORMAT_VERSION.put(block, &3_u32.to_le_bytes()), PrologueFault::Newer(3)),
            (|block| INCOMPAT.put(block, &5_u64.to_le_bytes()), PrologueFault::Features(5)),
            (|block| PAGE_SIZE.put(block, &2_048_u32.to_le_bytes()), PrologueFault::PageSize(2_048)),
            (
                |block| CIPHER_ID.put(block, &1_u16.to_le_bytes()),
                PrologueFault::Field { field: "cipher id", expected: 0, found: 1 },
            ),
            (
                |block| PARITY_MODE.put(block, &[1]),
                PrologueFault::Field { field: "parity mode", expected: 0, found: 1 },
            ),
            (|block| block[RESERVED.offset] = 1, PrologueFault::Reserved),
            (|block| block[CREATED_BY.offset] = 1, PrologueFault::Reserved),
        ];
        for (change, expected) in cases {
            assert_eq!(forged(change), Err(expected));
        }
        assert_eq!(
            forged(|block| READ_ONLY_COMPAT.put(block, &[1; 8])).unwrap().read_only_compat,
            0x0101_0101_0101_0101
        );
        assert_eq!(Prologue::decode(&[0; 10]), Err(PrologueFault::Magic));
    }
}
