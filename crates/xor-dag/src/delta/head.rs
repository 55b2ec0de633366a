//! The head of a delta: seal, form, checksums and lengths, read and verified before anything else.
//!
//! Invariants:
//! * Whatever is behind the seal is under the seal, so a change of any byte is found without the base.
//! * The form is a whole byte of its own. Zero is no form, so zeros are no delta.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;

use keepstone_types::checksum::checksum;
use keepstone_types::layout::{Field, disk_len};
use keepstone_types::wire::{Reader, put_varint};

use super::error::DeltaError;

pub(crate) const SEAL: Field = Field::first("seal", 4, "low half of the XXH3 of all behind it");
pub(crate) const FORM: Field = SEAL.then("form", 1, "how the payload leads to the result");
pub(crate) const RESULT: Field = FORM.then("result", 8, "XXH3 of the result");
/// Bytes of the part that every delta has.
pub(crate) const HEAD_LEN: usize = 13;
const _: () = assert!(RESULT.end() == HEAD_LEN);
#[cfg(test)]
pub(crate) const HEAD_FIELDS: [Field; 3] = [SEAL, FORM, RESULT];
#[cfg(test)]
pub(crate) const FORMS: [(Form, u8, &str); 7] = Form::ALL;

/// How the payload leads to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The result as it is.
    Whole,
    /// The result as an LZ4 block.
    WholeLz4,
    /// Runs of bytes to skip and of bytes to put in their place.
    Runs,
    /// Words of 1, 2, 4 or 8 bytes: where they changed, and the XOR of each.
    Words,
    /// Where bits flipped.
    Bits,
    /// Parts of the base and of the result so far, with what is new between them, range-coded.
    Copies,
    /// The same in whole bytes.
    Parts,
}

impl Form {
    const ALL: [(Self, u8, &'static str); 7] = [
        (Self::Whole, 1, "whole"),
        (Self::WholeLz4, 2, "whole-lz4"),
        (Self::Runs, 3, "runs"),
        (Self::Words, 4, "words"),
        (Self::Bits, 5, "bits"),
        (Self::Copies, 6, "copies"),
        (Self::Parts, 7, "parts"),
    ];

    /// Whether the result is there without a base: the delta is a keyframe.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::WholeLz4)
    }

    /// The byte that names the form.
    #[must_use]
    pub fn tag(self) -> u8 {
        Self::ALL.iter().find(|(form, ..)| *form == self).map_or(0, |(_, tag, _)| *tag)
    }

    /// The form that a byte names.
    #[must_use]
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == tag).map(|(form, ..)| *form)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(form, ..)| form == self).map_or("none", |(.., name)| *name);
        formatter.pad(name)
    }
}

/// A value that a delta leads from or to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueInfo {
    /// Its length in bytes.
    pub length: u64,
    /// XXH3 of its bytes.
    pub checksum: u64,
}

impl ValueInfo {
    /// Length and checksum of a value.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        Self { length: disk_len(value.len()), checksum: checksum(value) }
    }
}

/// What a delta says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeltaInfo {
    /// How the payload leads to the result.
    pub form: Form,
    /// What it leads from; none if the result is there whole.
    pub base: Option<ValueInfo>,
    /// What it leads to.
    pub result: ValueInfo,
    /// Bytes of the payload.
    pub payload_length: usize,
}

/// Begins a delta in an empty `out`; the seal is still to be set, by [`seal`].
pub(crate) fn put_head(out: &mut Vec<u8>, form: Form, base: Option<ValueInfo>, result: ValueInfo) {
    let mut head = [0_u8; HEAD_LEN];
    FORM.put(&mut head, &[form.tag()]);
    RESULT.put(&mut head, &result.checksum.to_le_bytes());
    out.extend_from_slice(&head);
    put_varint(out, result.length);
    if let Some(base) = base {
        out.extend_from_slice(&base.checksum.to_le_bytes());
        put_varint(out, base.length);
    }
}

/// Seals a delta whose payload is complete.
pub(crate) fn seal(delta: &mut [u8]) {
    let seal = seal_of(delta);
    SEAL.put(delta, &seal.to_le_bytes());
}

fn seal_of(delta: &[u8]) -> u32 {
    let sealed = checksum(delta.get(SEAL.end()..).unwrap_or_default());
    u32::try_from(sealed & u64::from(u32::MAX)).unwrap_or_default()
}

/// What a sound delta says of itself, and its payload.
pub(crate) fn open(delta: &[u8]) -> Result<(DeltaInfo, &[u8]), DeltaError> {
    let mut reader = Reader::new(delta);
    let expected = reader.u32()?;
    let (tag, result_checksum) = (reader.u8()?, reader.u64()?);
    let (found, length) = (seal_of(delta), delta.len().saturating_sub(SEAL.end()));
    if found != expected {
        return Err(DeltaError::Damaged { expected, found, length });
    }
    let form = Form::from_tag(tag).ok_or(DeltaError::UnknownForm { tag })?;
    let result = ValueInfo { length: reader.varint()?, checksum: result_checksum };
    let base = if form.is_whole() {
        None
    } else {
        let checksum = reader.u64()?;
        Some(ValueInfo { length: reader.varint()?, checksum })
    };
    let payload = reader.rest();
    Ok((DeltaInfo { form, base, result, payload_length: payload.len() }, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_one_tag_and_zero_is_none() {
        for tag in 0..=u8::MAX {
            match Form::from_tag(tag) {
                Some(form) => assert_eq!(form.tag(), tag),
                None => assert!(!(1..=7).contains(&tag)),
            }
        }
        assert_eq!(format!("{:>9}", Form::WholeLz4), "whole-lz4");
        assert_eq!(open(&[0; 64]).map(|_| ()), Err(damaged_zeros()));
    }

    fn damaged_zeros() -> DeltaError {
        DeltaError::Damaged { expected: 0, found: seal_of(&[0; 64]), length: 60 }
    }

    #[test]
    fn a_head_that_is_cut_says_where() {
        let mut delta = Vec::new();
        put_head(&mut delta, Form::Runs, Some(ValueInfo::of(b"base")), ValueInfo::of(b"result"));
        seal(&mut delta);
        assert_eq!(open(&delta).unwrap().0.payload_length, 0);
        assert_eq!(open(&delta[..3]), Err(DeltaError::Short { offset: 0, wanted: 4, found: 3 }));
        assert_eq!(open(&delta[..9]), Err(DeltaError::Short { offset: 5, wanted: 8, found: 4 }));
        for end in HEAD_LEN..delta.len() {
            assert!(matches!(open(&delta[..end]), Err(DeltaError::Damaged { .. })), "cut to {end}");
            let mut cut = delta[..end].to_vec();
            seal(&mut cut);
            assert!(matches!(open(&cut), Err(DeltaError::Short { .. })), "sealed again at {end}");
        }
    }
}
