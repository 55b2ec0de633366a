//! Layouts as chains of fields: each field begins where the one before ends, so encoder, decoder and `FORMAT.md` share
//! one statement of where a byte is.
//!
//! A block that is shorter than its layout reads as zeros there; every caller checks the size of its block first.
#![deny(clippy::arithmetic_side_effects)]

/// A fixed-width field of a block, little-endian when it is a number.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "names and meanings are what FORMAT.md is rendered from"))]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) meaning: &'static str,
}

impl Field {
    /// The first field of a block.
    pub(crate) const fn first(name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: 0, len, meaning }
    }

    /// The field after this one.
    pub(crate) const fn then(self, name: &'static str, len: usize, meaning: &'static str) -> Self {
        Self { name, offset: self.end(), len, meaning }
    }

    /// Where the next field begins.
    pub(crate) const fn end(self) -> usize {
        self.offset.saturating_add(self.len)
    }

    /// The field's bytes.
    pub(crate) fn bytes(self, block: &[u8]) -> &[u8] {
        block.get(self.offset..self.end()).unwrap_or_default()
    }

    /// Writes the field.
    pub(crate) fn put(self, block: &mut [u8], value: &[u8]) {
        if let Some(to) = block.get_mut(self.offset..self.end()).filter(|to| to.len() == value.len()) {
            to.copy_from_slice(value);
        }
    }

    /// The field as an array of its own width.
    pub(crate) fn array<const N: usize>(self, block: &[u8]) -> [u8; N] {
        let mut value = [0; N];
        if let Some(bytes) = Some(self.bytes(block)).filter(|bytes| bytes.len() == N) {
            value.copy_from_slice(bytes);
        }
        value
    }

    pub(crate) fn u16(self, block: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(block))
    }

    pub(crate) fn u32(self, block: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(block))
    }

    pub(crate) fn u64(self, block: &[u8]) -> u64 {
        u64::from_le_bytes(self.array(block))
    }
}

/// A length in memory as a length on disk.
pub(crate) fn disk_len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length on disk as a length in memory; what memory cannot hold becomes a length that no slice has.
pub(crate) fn memory_len(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// `len` rounded up to a multiple of `unit`, which is not zero.
pub(crate) const fn round_up(len: usize, unit: usize) -> usize {
    len.div_ceil(unit).saturating_mul(unit)
}

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
