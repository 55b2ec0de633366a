//! Layouts as chains of fields: each field begins where the one before ends, so encoder, decoder and the page that describes
//! a format share one statement of where a byte is.
//!
//! A block that is shorter than its layout reads as zeros there; every caller checks the size of its block first.
#![deny(clippy::arithmetic_side_effects)]

use crate::PageId;

/// A fixed-width field of a block, little-endian when it is a number.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// What the format calls it.
    pub name: &'static str,
    /// Where it begins in its block, in bytes.
    pub offset: usize,
    /// Its width in bytes.
    pub len: usize,
    /// What it says, in a line.
    pub meaning: &'static str,
}

impl Field {
    /// The first field of a block.
    #[must_use]
    pub const fn first(name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: 0, len, meaning }
    }

    /// The field after this one.
    #[must_use]
    pub const fn then(self, name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: self.end(), len, meaning }
    }

    /// Where the next field begins.
    #[inline]
    #[must_use]
    pub const fn end(self) -> usize {
        self.offset.saturating_add(self.len)
    }

    /// The field's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(self, block: &[u8]) -> &[u8] {
        block.get(self.offset..self.end()).unwrap_or_default()
    }

    /// Writes the field.
    #[inline]
    pub fn put(self, block: &mut [u8], value: &[u8]) {
        if let Some(to) = block.get_mut(self.offset..self.end()).filter(|to| to.len() == value.len()) {
            to.copy_from_slice(value);
        }
    }

    /// The field as an array of its own width.
    #[inline]
    #[must_use]
    pub fn array<const N: usize>(self, block: &[u8]) -> [u8; N] {
        self.bytes(block).try_into().unwrap_or([0; N])
    }

    /// The field as a byte.
    #[inline]
    #[must_use]
    pub fn u8(self, block: &[u8]) -> u8 {
        u8::from_le_bytes(self.array(block))
    }

    /// The field as a number of 16 bits.
    #[inline]
    #[must_use]
    pub fn u16(self, block: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(block))
    }

    /// The field as a number of 32 bits.
    #[inline]
    #[must_use]
    pub fn u32(self, block: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(block))
    }

    /// The field as a number of 48 bits.
    #[inline]
    #[must_use]
    pub fn u48(self, block: &[u8]) -> u64 {
        PageId::from_bytes(self.array(block)).get()
    }

    /// The field as a number of 64 bits.
    #[inline]
    #[must_use]
    pub fn u64(self, block: &[u8]) -> u64 {
        u64::from_le_bytes(self.array(block))
    }
}

/// A length in memory as a length on disk.
#[inline]
#[must_use]
pub fn disk_len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length on disk as a length in memory; what memory cannot hold becomes a length that no slice has.
#[inline]
#[must_use]
pub fn memory_len(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// Whether every byte is zero; of no bytes, true.
#[inline]
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let or_of = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte);
    let (blocks, tail) = bytes.as_chunks::<64>();
    // One question per block: a loop that asks at every byte cannot be turned into vectors.
    blocks.iter().all(|block| or_of(block) == 0) && or_of(tail) == 0
}
