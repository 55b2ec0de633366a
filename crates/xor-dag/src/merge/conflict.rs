//! Why two changes cannot be merged.

/// Why two changes cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Both flipped the same bits. Bit 0 is the lowest of the first byte.
    #[error("both changes flip bit {first_bit}, {bits} bits in all; expected none that both flip")]
    Overlap {
        /// The first bit that both flipped.
        first_bit: u64,
        /// Bits that both flipped.
        bits: u64,
    },
    /// Values that are XORed have one length, in bytes.
    #[error("the base has {base} bytes, the first change {first}, the last {last}; expected one length")]
    LengthsDiffer {
        /// Bytes of the base.
        base: usize,
        /// Bytes of the first change.
        first: usize,
        /// Bytes of the last change.
        last: usize,
    },
    /// One side deleted what the other changed.
    #[error("one change deletes the value, the other changes it; expected that both do or neither")]
    DeletedAndChanged,
    /// Both sides created a value, and not the same.
    #[error("both changes create the value, and differ; expected one value")]
    BothCreated,
    /// The strategy takes no two changes.
    #[error("both changed the value, and differ; expected a change of one alone")]
    Rejected,
    /// The caller's own reason.
    #[error("{0}")]
    Custom(String),
}
