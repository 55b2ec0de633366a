//! Pages by name: the slot they are in, the generation that wrote them, and the reference that proves their content.
//!
//! A [`PageRef`] is the only way to a page. It says where the page is, which generation wrote it and what its checksum
//! is, so a lost write, a write that landed elsewhere and an older page with a valid checksum of its own are all found
//! by whoever follows it.

use std::fmt;

use crate::wire::{Reader, Truncated};

/// Bits of a slot or a generation as it is stored.
const NUMBER_BITS: u32 = 48;
/// The largest slot and the largest generation.
const NUMBER_MAX: u64 = (1 << NUMBER_BITS) - 1;
/// Bytes of a slot or a generation as it is stored.
const NUMBER_LEN: usize = 6;

/// A slot of a page file, counted from 0. At most 2^48 − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(u64);

/// The number of a commit of a page file. The first is 1; 0 is "before every commit". At most 2^48 − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

macro_rules! stored_number {
    ($name:ident) => {
        impl $name {
            /// The smallest.
            pub const ZERO: Self = Self(0);
            /// The largest.
            pub const MAX: Self = Self(NUMBER_MAX);
            /// Bytes when stored, little-endian.
            pub const LEN: usize = NUMBER_LEN;

            /// The one with this number; `None` when it does not fit 48 bits.
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                if number > NUMBER_MAX { None } else { Some(Self(number)) }
            }

            /// The number.
            #[inline]
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one so many further on, unless the numbers end before.
            #[must_use]
            pub const fn plus(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(number) => Self::new(number),
                    None => None,
                }
            }

            /// The stored form.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; NUMBER_LEN] {
                let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
                [a, b, c, d, e, f]
            }

            /// From the stored form.
            #[inline]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; NUMBER_LEN]) -> Self {
                let [a, b, c, d, e, f] = bytes;
                Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

stored_number!(PageId);
stored_number!(Generation);

/// Where a page is, which generation wrote it, and the checksum that its content must have (64-bit XXH3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRef {
    /// The slot.
    pub page: PageId,
    /// The generation that wrote it.
    pub birth: Generation,
    /// The checksum of everything in the slot behind the checksum itself.
    pub checksum: u64,
}

impl PageRef {
    /// Bytes of a stored reference.
    pub const LEN: usize = NUMBER_LEN + NUMBER_LEN + 8;

    /// The stored form: slot, generation, checksum, each little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0_u8; Self::LEN];
        let (page, rest) = bytes.split_at_mut(NUMBER_LEN);
        let (birth, checksum) = rest.split_at_mut(NUMBER_LEN);
        page.copy_from_slice(&self.page.to_bytes());
        birth.copy_from_slice(&self.birth.to_bytes());
        checksum.copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// From the stored form; slot 0 with generation 0 and checksum 0 stands for none.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        if bytes == [0; Self::LEN] {
            return None;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, sum @ ..] = bytes;
        Some(Self {
            page: PageId::from_bytes([a, b, c, d, e, f]),
            birth: Generation::from_bytes([g, h, i, j, k, l]),
            checksum: u64::from_le_bytes(sum),
        })
    }

    /// Reads a stored reference; slot 0 with generation 0 and checksum 0 stands for none.
    ///
    /// # Errors
    /// [`Truncated`] when fewer than [`PageRef::LEN`] bytes are left.
    pub fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Truncated> {
        reader.array().map(Self::from_bytes)
    }

    /// The stored form of a reference that may be none.
    #[must_use]
    pub fn optional_to_bytes(reference: Option<Self>) -> [u8; Self::LEN] {
        reference.map_or([0; Self::LEN], Self::to_bytes)
    }
}

impl fmt::Display for PageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} of generation {} with checksum {:#018x}", self.page, self.birth, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_48_bits() {
        assert_eq!(PageId::new(NUMBER_MAX), Some(PageId::MAX));
        assert_eq!(PageId::new(NUMBER_MAX + 1), None);
        assert_eq!(Generation::MAX.plus(1), None);
        assert_eq!(Generation::ZERO.plus(7), Generation::new(7));
    }

    #[test]
    fn no_reference_is_all_zeros() {
        let bytes = PageRef::optional_to_bytes(None);
        assert_eq!(PageRef::read(&mut Reader::new(&bytes)), Ok(None));
        assert!(PageRef::read(&mut Reader::new(&bytes[1..])).is_err());
    }

    proptest! {
        #[test]
        fn references_round_trip(page in 0..=NUMBER_MAX, birth in 1..=NUMBER_MAX, checksum: u64) {
            let page = PageId::new(page).unwrap();
            let reference = PageRef { page, birth: Generation::new(birth).unwrap(), checksum };
            let bytes = PageRef::optional_to_bytes(Some(reference));
            prop_assert_eq!(PageRef::read(&mut Reader::new(&bytes)), Ok(Some(reference)));
        }
    }
}
