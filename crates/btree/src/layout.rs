//! What encoders, decoders and `FORMAT.md` share: fields, and the variable-length numbers of cells.
#![deny(clippy::arithmetic_side_effects)]

pub(crate) use keepstone_types::layout::{Field, disk_len, is_zero, memory_len};
pub(crate) use keepstone_types::wire::varint_len;

/// A length or an offset within a page as it is stored. Pages have fewer than 2^16 bytes.
pub(crate) fn page_len(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
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
