//! Layouts as chains of fields, and the variable-length numbers of cells: what encoders, decoders and `FORMAT.md` share.
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
        self.bytes(block).try_into().unwrap_or([0; N])
    }

    pub(crate) fn u16(self, block: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(block))
    }

    pub(crate) fn u32(self, block: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(block))
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

/// A length or an offset within a page as it is stored. Pages have fewer than 2^16 bytes.
pub(crate) fn page_len(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The LEB128 number that `bytes` begin with, and what follows it.
#[inline]
pub(crate) fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((u64::from(*first), rest));
    }
    let (second, after) = rest.split_first()?;
    if *second < 0x80 {
        return Some((u64::from(*first & 0x7F) | (u64::from(*second) << 7), after));
    }
    let mut reader = keepstone_types::wire::Reader::new(bytes);
    let value = reader.varint().ok()?;
    Some((value, reader.rest()))
}

/// Bytes of a number in LEB128 form.
pub(crate) const fn varint_len(value: u64) -> usize {
    let mut rest = value >> 7;
    let mut len: usize = 1;
    while rest > 0 {
        rest >>= 7;
        len = len.saturating_add(1);
    }
    len
}

#[cfg(test)]
mod tests {
    use keepstone_types::wire::put_varint;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip_and_have_the_length_they_say(value: u64, short in 0..70_000_u64) {
            for value in [value, short] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                prop_assert_eq!(bytes.len(), varint_len(value));
                bytes.push(7);
                prop_assert_eq!(take_varint(&bytes), Some((value, &[7_u8][..])));
            }
        }
    }

    #[test]
    fn a_number_that_is_cut_is_none() {
        for bytes in [&[][..], &[0x80], &[0xFF, 0x80], &[0xFF; 11]] {
            assert_eq!(take_varint(bytes), None, "{bytes:?}");
        }
    }
}
