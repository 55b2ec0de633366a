//! Codecs: how typed keys become bytes that sort the same way, and which encoding a body has.
//!
//! Keys compare as bytes, always. A [`KeyCodec`] preserves order: `a < b` exactly when `encode(a) < encode(b)`.
//! Serde types are bodies, never keys, because their encodings do not sort.

use std::fmt;

/// The encoding of a body or record, stored beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodecId(u8);

impl CodecId {
    /// Bytes without a meaning to the store.
    pub const RAW: Self = Self(0);
    /// MessagePack; structs as maps with field names.
    pub const MESSAGE_PACK: Self = Self(1);

    /// The codec with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAW => f.write_str("raw"),
            Self::MESSAGE_PACK => f.write_str("MessagePack"),
            Self(number) => write!(f, "codec {number}"),
        }
    }
}

/// Bytes that are not a key of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of type {expected}: {reason} at byte {offset}")]
pub struct KeyError {
    /// The wanted type.
    pub expected: &'static str,
    /// Where decoding stopped.
    pub offset: usize,
    /// Why.
    pub reason: &'static str,
}

/// A type whose values can be keys.
///
/// Implementations preserve order and lose nothing; `keepstone-testkit` holds the property test.
pub trait KeyCodec: Sized {
    /// Appends the encoded key to `out`.
    fn encode_key(&self, out: &mut Vec<u8>);

    /// Reads a key from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// [`KeyError`] when the bytes are not what [`encode_key`](KeyCodec::encode_key) wrote.
    fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError>;

    /// The encoded key alone.
    fn to_key(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_key(&mut out);
        out
    }

    /// A key from exactly these bytes.
    ///
    /// # Errors
    /// [`KeyError`] when the bytes are not one whole key.
    fn from_key(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut rest = bytes;
        let key = Self::decode_key(&mut rest)?;
        if rest.is_empty() {
            return Ok(key);
        }
        let offset = bytes.len().saturating_sub(rest.len());
        Err(KeyError { expected: std::any::type_name::<Self>(), offset, reason: "bytes are left over" })
    }
}

fn take<const N: usize>(bytes: &mut &[u8], expected: &'static str) -> Result<[u8; N], KeyError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(KeyError {
        expected,
        offset: bytes.len(),
        reason: "the bytes end early",
    })?;
    *bytes = rest;
    Ok(*taken)
}

macro_rules! unsigned_key {
    ($($int:ty),+) => {$(
        /// Big-endian.
        impl KeyCodec for $int {
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
                take(bytes, stringify!($int)).map(Self::from_be_bytes)
            }
        }
    )+};
}

macro_rules! signed_key {
    ($($int:ty as $unsigned:ty),+) => {$(
        /// Big-endian with the sign bit flipped, so that negative numbers come first.
        impl KeyCodec for $int {
            fn encode_key(&self, out: &mut Vec<u8>) {
                (self.cast_unsigned() ^ (<$unsigned>::MAX / 2 + 1)).encode_key(out);
            }

            fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
                <$unsigned>::decode_key(bytes).map(|raw| (raw ^ (<$unsigned>::MAX / 2 + 1)).cast_signed())
            }
        }
    )+};
}

unsigned_key!(u8, u16, u32, u64, u128);
signed_key!(i16 as u16, i32 as u32, i64 as u64);

/// Sixteen bytes, most significant first.
impl KeyCodec for crate::NodeId {
    fn encode_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        take(bytes, "NodeId").map(Self::from_bytes)
    }
}

/// The bytes with each 0 written as `00 FF`, ended by `00 00`, so that a prefix sorts before what it begins and
/// several keys can stand one after another.
impl KeyCodec for Vec<u8> {
    fn encode_key(&self, out: &mut Vec<u8>) {
        encode_terminated(self, out);
    }

    fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        decode_terminated(bytes, "Vec<u8>")
    }
}

/// As the UTF-8 bytes; sorts by code point.
impl KeyCodec for String {
    fn encode_key(&self, out: &mut Vec<u8>) {
        encode_terminated(self.as_bytes(), out);
    }

    fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        let raw = decode_terminated(bytes, "String")?;
        Self::from_utf8(raw).map_err(|error| KeyError {
            expected: "String",
            offset: error.utf8_error().valid_up_to(),
            reason: "the bytes are not UTF-8",
        })
    }
}

fn encode_terminated(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn decode_terminated(bytes: &mut &[u8], expected: &'static str) -> Result<Vec<u8>, KeyError> {
    let mut decoded = Vec::new();
    let mut rest = *bytes;
    loop {
        let offset = bytes.len().saturating_sub(rest.len());
        match rest {
            [0, 0, after @ ..] => {
                *bytes = after;
                return Ok(decoded);
            }
            [0, 0xFF, after @ ..] => {
                decoded.push(0);
                rest = after;
            }
            [0, ..] | [] => return Err(KeyError { expected, offset, reason: "the end mark is missing" }),
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

macro_rules! tuple_key {
    ($($name:ident . $place:tt),+) => {
        /// One after another; sorts by the first, then the next.
        impl<$($name: KeyCodec),+> KeyCodec for ($($name,)+) {
            fn encode_key(&self, out: &mut Vec<u8>) {
                $(self.$place.encode_key(out);)+
            }

            fn decode_key(bytes: &mut &[u8]) -> Result<Self, KeyError> {
                Ok(($($name::decode_key(bytes)?,)+))
            }
        }
    };
}

tuple_key!(A.0, B.1);
tuple_key!(A.0, B.1, C.2);
tuple_key!(A.0, B.1, C.2, D.3);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    fn check<K: KeyCodec + Ord + Debug>(a: &K, b: &K) {
        let (left, right) = (a.to_key(), b.to_key());
        assert_eq!(a.cmp(b), left.cmp(&right), "{a:?} and {b:?} sort otherwise as bytes");
        assert_eq!(K::from_key(&left).as_ref(), Ok(a));
        assert!(K::from_key(&left[..left.len() - 1]).is_err(), "a cut key was read");
    }

    proptest! {
        #[test]
        fn keys_sort_as_values_and_round_trip(
            ints: [(u8, u16, u32, u64); 2],
            wide: [u128; 2],
            signed: [(i16, i32, i64); 2],
            bytes in proptest::array::uniform2(proptest::collection::vec(0_u8..3, 0..6)),
            text: [String; 2],
            ids: [[u8; 16]; 2],
        ) {
            check(&ints[0], &ints[1]);
            check(&wide[0], &wide[1]);
            check(&signed[0], &signed[1]);
            check(&bytes[0], &bytes[1]);
            check(&text[0], &text[1]);
            check(&(text[0].clone(), ints[0].3), &(text[1].clone(), ints[1].3));
            check(&(bytes[0].clone(), bytes[1].clone()), &(bytes[1].clone(), bytes[0].clone()));
            check(&crate::NodeId::from_bytes(ids[0]), &crate::NodeId::from_bytes(ids[1]));
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let decoded = <(String, Vec<u8>, i64)>::from_key(&bytes);
            prop_assert!(decoded.map_or(true, |key| key.to_key() == bytes));
        }
    }
}
