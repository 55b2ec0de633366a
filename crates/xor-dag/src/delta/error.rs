//! Why a delta cannot be decoded.

use keepstone_types::wire::Truncated;

use super::Form;

/// Why bytes are no delta, or do not lead from a base to a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The bytes end within the head.
    #[error("the delta ends within its head: at byte {offset} expected {wanted} more, found {found}")]
    Short {
        /// Where the field begins, in bytes.
        offset: usize,
        /// Bytes of the field.
        wanted: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// The bytes are not those that were written.
    #[error("the delta is damaged: expected the seal {expected:08x}, found {found:08x} over {length} bytes")]
    Damaged {
        /// The seal that the delta carries.
        expected: u32,
        /// The seal of what is there.
        found: u32,
        /// Bytes under the seal.
        length: usize,
    },
    /// Written by another program or a later version of this one.
    #[error("the delta is of form {tag}, expected one of 1 to 6; a newer Keepstone may know it")]
    UnknownForm {
        /// The byte that names the form.
        tag: u8,
    },
    /// The delta leads from a base, and none was given.
    #[error("the delta needs its base of {length} bytes with checksum {checksum:016x}, found none")]
    BaseMissing {
        /// Bytes of the base.
        length: u64,
        /// XXH3 of the base.
        checksum: u64,
    },
    /// The base that was given is not the one that the delta was made against.
    #[error(
        "the delta needs a base of {expected_length} bytes with checksum {expected_checksum:016x}, found \
         {found_length} bytes with checksum {found_checksum:016x}"
    )]
    WrongBase {
        /// Bytes of the base.
        expected_length: u64,
        /// XXH3 of the base.
        expected_checksum: u64,
        /// Bytes of what was given.
        found_length: u64,
        /// XXH3 of what was given.
        found_checksum: u64,
    },
    /// The result is longer than the caller allows.
    #[error("the result has {length} bytes, expected at most {max}")]
    TooLong {
        /// Bytes of the result.
        length: u64,
        /// What the caller allows, in bytes.
        max: usize,
    },
    /// The seal is right, and what it seals makes no sense: not written by this program, or by a defect of it.
    #[error("the payload of form {form} is malformed: {what}")]
    Malformed {
        /// The form.
        form: Form,
        /// What was expected and not found.
        what: &'static str,
    },
    /// What was decoded is not what was encoded. Nothing of it is handed out.
    #[error("the result has the checksum {found:016x}, expected {expected:016x}")]
    WrongResult {
        /// XXH3 of the value that was encoded.
        expected: u64,
        /// XXH3 of what came out.
        found: u64,
    },
}

impl From<Truncated> for DeltaError {
    fn from(Truncated { offset, wanted, found }: Truncated) -> Self {
        Self::Short { offset, wanted, found }
    }
}
