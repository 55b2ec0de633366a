//! What encoders, decoders and `FORMAT.md` share: fields, and lengths on disk and in memory.
#![deny(clippy::arithmetic_side_effects)]

pub(crate) use keepstone_types::layout::{Field, disk_len, is_zero, memory_len};

/// `len` rounded up to a multiple of `unit`, which is not zero.
pub(crate) const fn round_up(len: usize, unit: usize) -> usize {
    len.div_ceil(unit).saturating_mul(unit)
}
