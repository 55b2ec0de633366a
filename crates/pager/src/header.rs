//! The header: what one commit made the file be. Two generations are on disk, an even one in slots 1 and 62 and an odd
//! one in slots 2 and 63, each in two copies.
//!
//! Invariants:
//! * Everything that a header leads to was synced before the header was written.
//! * A header is written over that of two generations before, never over the newest one.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::checksum::checksum_seeded;
use keepstone_types::wire::Reader;
use keepstone_types::{Generation, PageId, PageRef};

use crate::directory::some_slot;
use crate::layout::{Field, is_zero, to_u48};
use crate::parity::{ParityMode, ParityState};
use crate::region::REGION_SLOTS;

/// Bytes of a copy.
pub(crate) const HEADER_LEN: usize = 4_096;
/// The slots of the copies: of even generations, of odd ones.
pub(crate) const HEADER_SLOTS: [[u64; 2]; 2] = [[1, 62], [2, 63]];
/// Slots at the beginning of the file: those of prologue and headers are among them.
pub(crate) const FIXED_END: u64 = 64;
/// What a header begins with.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"KSPGHEAD";
/// The most bytes that a commit may carry for the layer above.
pub const META_LEN_MAX: usize = 1_024;
/// Levels that a directory can have: more than any file needs.
pub(crate) const HEIGHT_MAX: u8 = 6;

pub(crate) const MAGIC: Field = Field::first("magic", 8, "`KSPGHEAD`");
pub(crate) const GENERATION: Field = MAGIC.then("generation", 6, "the commit that wrote it");
pub(crate) const HEIGHT: Field = GENERATION.then("height", 1, "levels of the directory of free space");
pub(crate) const PARITY_MODE: Field = HEIGHT.then("parity mode", 1, "0: off, 1: XOR, 2: being taken away");
pub(crate) const DIRECTORY: Field =
    PARITY_MODE.then("directory", 20, "reference to the root of the directory of free space");
pub(crate) const REGIONS: Field =
    DIRECTORY.then("regions", 4, "regions of 1,024 slots, the last perhaps cut short");
pub(crate) const SLOTS: Field = REGIONS.then("slots", 6, "slots of the file; the blocks of all are written");
pub(crate) const USED: Field = SLOTS.then("used", 6, "slots in use");
pub(crate) const PENDING: Field = USED.then("pending", 6, "slots that this generation freed");
pub(crate) const META_LEN: Field = PENDING.then("meta length", 2, "bytes of meta");
pub(crate) const META: Field = META_LEN.then("meta", META_LEN_MAX, "of the layer above, then zeros");
pub(crate) const DIRECTORY_TWIN: Field =
    META.then("directory's twin", 6, "slot of the second copy of the directory's root; 0 for none");
pub(crate) const DEAD: Field = DIRECTORY_TWIN.then("dead", 6, "slots not in use that parity still counts");
pub(crate) const PARITY_CURSOR: Field =
    DEAD.then("parity cursor", 6, "groups that parity was put on, or taken from, since the mode changed");
pub(crate) const PARITY: Field = PARITY_CURSOR.then("parity", 110, "reserved, zero");
pub(crate) const CIPHER: Field = PARITY.then("encryption", 128, "reserved, zero");
pub(crate) const RESERVED: Field = CIPHER.then("reserved", 2_748, "zero");
pub(crate) const CHECKSUM: Field = RESERVED.then("checksum", 8, "of all before it, seeded with the store");
#[cfg(test)]
pub(crate) const HEADER_FIELDS: [Field; 18] = [
    MAGIC,
    GENERATION,
    HEIGHT,
    PARITY_MODE,
    DIRECTORY,
    REGIONS,
    SLOTS,
    USED,
    PENDING,
    META_LEN,
    META,
    DIRECTORY_TWIN,
    DEAD,
    PARITY_CURSOR,
    PARITY,
    CIPHER,
    RESERVED,
    CHECKSUM,
];
const _: () = assert!(CHECKSUM.end() == HEADER_LEN);
const _: () = assert!(DIRECTORY.len == PageRef::LEN);

/// What a commit made the file be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) generation: Generation,
    pub(crate) directory: PageRef,
    pub(crate) height: u8,
    pub(crate) regions: u32,
    pub(crate) slots: u64,
    pub(crate) used: u64,
    pub(crate) pending: u64,
    pub(crate) meta: Box<[u8]>,
    /// Where the second copy of the directory's root is.
    pub(crate) twin: Option<PageId>,
    /// Slots that are not in use and that parity still counts.
    pub(crate) dead: u64,
    pub(crate) parity: ParityState,
}

/// Why a block is no header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Nothing was ever written.
    Zeros,
    /// It does not begin as one.
    Magic,
    /// Its checksum is another one.
    Checksum { stored: u64, computed: u64 },
    /// A field has a value that no writer gives it.
    Field(&'static str),
    /// It cannot be read.
    Unreadable(String),
}

impl std::fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zeros => f.write_str("nothing but zeros"),
            Self::Magic => f.write_str("other bytes than a header begins with"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {stored:#018x} over bytes with checksum {computed:#018x}")
            }
            Self::Field(field) => write!(f, "a value in field `{field}` that is never written"),
            Self::Unreadable(error) => f.write_str(error),
        }
    }
}

impl Header {
    /// The slots of the two copies of a generation's header.
    pub(crate) const fn copies(generation: Generation) -> [u64; 2] {
        let [even, odd] = HEADER_SLOTS;
        if generation.get() & 1 == 0 { even } else { odd }
    }

    pub(crate) fn encode(&self, seed: u64) -> Vec<u8> {
        let mut block = vec![0; HEADER_LEN];
        MAGIC.put(&mut block, &HEADER_MAGIC);
        GENERATION.put(&mut block, &self.generation.to_bytes());
        HEIGHT.put(&mut block, &[self.height]);
        PARITY_MODE.put(&mut block, &[self.parity.mode.number()]);
        PARITY_CURSOR.put(&mut block, &to_u48(self.parity.cursor));
        DIRECTORY_TWIN.put(&mut block, &self.twin.unwrap_or_default().to_bytes());
        DEAD.put(&mut block, &to_u48(self.dead));
        DIRECTORY.put(&mut block, &self.directory.to_bytes());
        REGIONS.put(&mut block, &self.regions.to_le_bytes());
        SLOTS.put(&mut block, &to_u48(self.slots));
        USED.put(&mut block, &to_u48(self.used));
        PENDING.put(&mut block, &to_u48(self.pending));
        let len = u16::try_from(self.meta.len()).unwrap_or(u16::MAX);
        META_LEN.put(&mut block, &len.to_le_bytes());
        for (to, from) in block.iter_mut().skip(META.offset).take(META.len).zip(&*self.meta) {
            *to = *from;
        }
        let sum = checksum_seeded(seed, block.get(..CHECKSUM.offset).unwrap_or_default());
        CHECKSUM.put(&mut block, &sum.to_le_bytes());
        block
    }

    /// Decodes a copy that stands in a slot for generations that are even (`odd` false) or odd.
    pub(crate) fn decode(block: &[u8], seed: u64, odd: bool) -> Result<Self, HeaderFault> {
        if block.len() != HEADER_LEN || MAGIC.bytes(block) != HEADER_MAGIC {
            return Err(if is_zero(block) { HeaderFault::Zeros } else { HeaderFault::Magic });
        }
        let stored = CHECKSUM.u64(block);
        let computed = checksum_seeded(seed, block.get(..CHECKSUM.offset).unwrap_or_default());
        if stored != computed {
            return Err(HeaderFault::Checksum { stored, computed });
        }
        let directory = PageRef::read(&mut Reader::new(DIRECTORY.bytes(block))).ok().flatten();
        let directory = directory.ok_or(HeaderFault::Field("directory"))?;
        let meta_len = usize::from(META_LEN.u16(block));
        let (meta, rest) =
            META.bytes(block).split_at_checked(meta_len).ok_or(HeaderFault::Field("meta length"))?;
        let header = Self {
            generation: Generation::from_bytes(GENERATION.array(block)),
            directory,
            height: HEIGHT.u8(block),
            regions: REGIONS.u32(block),
            slots: SLOTS.u48(block),
            used: USED.u48(block),
            pending: PENDING.u48(block),
            meta: meta.into(),
            twin: some_slot(PageId::from_bytes(DIRECTORY_TWIN.array(block))),
            dead: DEAD.u48(block),
            parity: ParityState {
                mode: ParityMode::of_number(PARITY_MODE.u8(block))
                    .ok_or(HeaderFault::Field("parity mode"))?,
                cursor: PARITY_CURSOR.u48(block),
            },
        };
        let generation = header.generation;
        let busy = header.used.checked_add(header.pending);
        let sane = [
            ("generation", generation > Generation::ZERO && (generation.get() & 1 == 1) == odd),
            ("height", (1..=HEIGHT_MAX).contains(&header.height)),
            (
                "directory's twin",
                header.twin.is_none_or(|twin| (FIXED_END_MIN..header.slots).contains(&twin.get())),
            ),
            ("dead", header.used.checked_add(header.dead).is_some_and(|held| held <= header.slots)),
            (
                "parity mode",
                header.parity.mode != ParityMode::Off || (header.dead == 0 && header.parity.cursor == 0),
            ),
            (
                "directory",
                directory.birth <= generation
                    && (FIXED_END_MIN..header.slots).contains(&directory.page.get()),
            ),
            ("slots", header.slots >= FIXED_END),
            ("regions", header.slots.div_ceil(REGION_SLOTS) == u64::from(header.regions)),
            ("used", busy.is_some_and(|busy| busy <= header.slots)),
            ("meta", is_zero(rest)),
            ("parity", is_zero(PARITY.bytes(block))),
            ("encryption", is_zero(CIPHER.bytes(block))),
            ("reserved", is_zero(RESERVED.bytes(block))),
        ];
        match sane.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(HeaderFault::Field(field)),
            None => Ok(header),
        }
    }
}

/// The first slot that is none of the prologue's or the headers'.
const FIXED_END_MIN: u64 = 3;

/// Whether a slot is one of the prologue's or the headers'.
pub(crate) const fn is_fixed(slot: u64) -> bool {
    slot < FIXED_END_MIN || (slot >= 61 && slot < FIXED_END)
}

#[cfg(test)]
mod tests {
    use keepstone_types::PageId;
    use proptest::prelude::*;

    use super::*;
    use crate::prologue::PROLOGUE_SLOTS;

    fn header(generation: u64, meta: &[u8]) -> Header {
        let generation = Generation::new(generation).unwrap();
        Header {
            generation,
            directory: PageRef { page: PageId::new(4).unwrap(), birth: generation, checksum: 9 },
            height: 1,
            regions: 2,
            slots: 1_100,
            used: 70,
            pending: 5,
            meta: meta.into(),
            twin: PageId::new(9),
            dead: 3,
            parity: ParityState { mode: ParityMode::Xor, cursor: 64 },
        }
    }

    #[test]
    fn fixed_slots_are_those_of_prologue_and_headers() {
        let mut fixed: Vec<u64> =
            PROLOGUE_SLOTS.into_iter().chain(HEADER_SLOTS.into_iter().flatten()).collect();
        fixed.sort_unstable();
        assert_eq!((0..200).filter(|slot| is_fixed(*slot)).collect::<Vec<_>>(), fixed);
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let block = header(7, b"meta").encode(3);
        for byte in 0..block.len() {
            let mut changed = block.clone();
            changed[byte] ^= 4;
            assert!(Header::decode(&changed, 3, true).is_err(), "byte {byte}");
        }
        assert_eq!(Header::decode(&[0; HEADER_LEN], 3, true), Err(HeaderFault::Zeros));
        assert!(matches!(Header::decode(&block, 4, true), Err(HeaderFault::Checksum { .. })));
        assert_eq!(Header::decode(&block, 3, false), Err(HeaderFault::Field("generation")));
    }

    #[test]
    fn values_that_are_never_written_are_found() {
        type Change = fn(&mut Header);
        let cases: [(Change, &str); 8] = [
            (|header| header.height = 0, "height"),
            (|header| header.regions = 3, "regions"),
            (|header| header.used = 1_096, "used"),
            (|header| header.dead = 1_031, "dead"),
            (|header| header.twin = PageId::new(1_100), "directory's twin"),
            (|header| header.parity.mode = ParityMode::Off, "parity mode"),
            (|header| header.directory.birth = Generation::new(8).unwrap(), "directory"),
            (|header| header.directory.page = PageId::new(2).unwrap(), "directory"),
        ];
        for (change, field) in cases {
            let mut changed = header(7, b"");
            change(&mut changed);
            assert_eq!(Header::decode(&changed.encode(3), 3, true), Err(HeaderFault::Field(field)));
        }
    }

    proptest! {
        #[test]
        fn headers_round_trip(generation in 1_u64..1 << 48, meta in proptest::collection::vec(any::<u8>(), 0..=META_LEN_MAX)) {
            let header = header(generation, &meta);
            prop_assert_eq!(Header::decode(&header.encode(5), 5, generation % 2 == 1), Ok(header));
        }
    }
}
