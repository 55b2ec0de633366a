//! The form `whole-lz4`: a value without a base, as a block of LZ4 where that pays.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::{DeltaError, Form};

/// Values shorter than this are not worth the time.
const LEN_MIN: usize = 64;

/// A block of LZ4 says at most so much more with each of its bytes.
const YIELD_MAX: usize = 255;

/// The tables of the compressor, kept between values.
#[derive(Default)]
pub(crate) struct Lz4 {
    small: Option<CompressTable>,
    large: Option<CompressTable>,
}

impl fmt::Debug for Lz4 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lz4").finish_non_exhaustive()
    }
}

impl Lz4 {
    /// Fills an empty `out` with the block, if that is shorter than `value` by more than a sixteenth; else leaves it empty.
    pub(crate) fn compress(&mut self, value: &[u8], out: &mut Vec<u8>) -> bool {
        if value.len() < LEN_MIN {
            return false;
        }
        // A table for large values would cost small ones its clearing, and grows to that by itself only one way.
        let table = if value.len() < usize::from(u16::MAX) {
            self.small.get_or_insert_with(CompressTable::small)
        } else {
            self.large.get_or_insert_with(CompressTable::large)
        };
        out.resize(get_maximum_output_size(value.len()), 0);
        let len = compress_into_with_table(value, out, table).unwrap_or(usize::MAX);
        let pays = len < value.len() - value.len() / 16;
        out.truncate(if pays { len } else { 0 });
        pays
    }
}

/// Appends the value of `len` bytes to an empty `out`.
pub(crate) fn decompress(block: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let malformed = |what| DeltaError::Malformed { form: Form::WholeLz4, what };
    if len > block.len().saturating_mul(YIELD_MAX) {
        return Err(malformed("a result no longer than LZ4 can yield"));
    }
    out.resize(len, 0);
    match decompress_into(block, out) {
        Ok(found) if found == len => Ok(()),
        Ok(_) => Err(malformed("as many bytes as the head says")),
        Err(_) => Err(malformed("a block of LZ4")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_sizes_come_back() {
        let mut lz4 = Lz4::default();
        for len in [64, 100, 65_534, 65_535, 65_536, 300_000, 64, 200_000] {
            let value: Vec<u8> = (0_u32..).map(|at| (at / 7 % 251).to_le_bytes()[0]).take(len).collect();
            let (mut block, mut out) = (Vec::new(), Vec::new());
            assert!(lz4.compress(&value, &mut block), "{len}");
            decompress(&block, len, &mut out).unwrap();
            assert_eq!(out, value);
        }
    }

    #[test]
    fn what_lz4_cannot_shorten_is_left_as_it_is() {
        let noise: Vec<u8> = (0_u64..4_000).map(|at| (at * at * 0x9E37_79B9).to_le_bytes()[3]).collect();
        let mut block = Vec::new();
        assert!(!Lz4::default().compress(&noise, &mut block) && block.is_empty());
        assert!(!Lz4::default().compress(&[0; 63], &mut block) && block.is_empty());
    }

    #[test]
    fn malformed_blocks_are_refused_and_take_no_memory() {
        let what = |block: &[u8], len, out: &mut Vec<u8>| match decompress(block, len, out) {
            Err(DeltaError::Malformed { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let mut out = Vec::new();
        assert_eq!(what(&[0x10, 7], 511, &mut out), "a result no longer than LZ4 can yield");
        assert_eq!(out.capacity(), 0);
        assert_eq!(what(&[0x10, 7], 3, &mut out), "as many bytes as the head says");
        out.clear();
        assert_eq!(what(&[0xF0], 1, &mut out), "a block of LZ4");
    }
}
