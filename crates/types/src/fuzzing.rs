//! Fuzz targets of the vocabulary: fixed-width fields and LEB128, keys that sort, texts that are parsed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target reports by panicking"
)]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use arbitrary::{Result, Unstructured};

use crate::codec::KeyCodec;
use crate::wire::{Reader, put_varint};
use crate::{Address, Fingerprint, NodeId, StoreId, Version};

/// A target: name, function, most bytes of heap at once, fixed and per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// Fields of fixed width and LEB128 numbers, read in any order from any bytes.
pub const WIRE: Target = ("wire", |input| wire(Unstructured::new(input)).unwrap_or_default(), [4_096, 4]);
/// Keys of every kind, alone and one after the other.
pub const KEYS: Target = ("keys", |input| keys(input).unwrap_or_default(), [8_192, 40]);
/// Ids, versions, addresses and fingerprints as people type them.
pub const TEXTS: Target = ("texts", texts, [4_096, 16]);

/// Every target of the crate.
pub const TARGETS: [Target; 3] = [WIRE, KEYS, TEXTS];

fn wire(mut input: Unstructured<'_>) -> Result<()> {
    let steps = input.arbitrary::<[u8; 16]>()?;
    let bytes = input.take_rest();
    let mut reader = Reader::new(bytes);
    for step in steps {
        let before = reader.offset();
        assert_eq!(reader.rest(), &bytes[before..]);
        let read = match step % 8 {
            0 => reader.u8().map(|value| assert_eq!(bytes[before..][..1], value.to_le_bytes())),
            1 => reader.u16().map(|value| assert_eq!(bytes[before..][..2], value.to_le_bytes())),
            2 => reader.u32().map(|value| assert_eq!(bytes[before..][..4], value.to_le_bytes())),
            3 => reader.u64().map(|value| assert_eq!(bytes[before..][..8], value.to_le_bytes())),
            4 => reader.array::<16>().map(|value| assert_eq!(bytes[before..][..16], value)),
            5 => reader.varint().map(|value| check_varint(value, &bytes[before..reader.offset()])),
            6 => reader.bytes(usize::MAX - usize::from(step)).map(drop),
            _ => reader.bytes(usize::from(step)).map(|read| assert_eq!(read, &bytes[before..][..read.len()])),
        };
        match read {
            Ok(()) => assert!(reader.offset() <= bytes.len()),
            Err(truncated) => {
                assert_eq!((truncated.offset, reader.offset()), (before, before), "what fails moves nothing");
                assert_eq!(truncated.found, bytes.len() - before);
                // A number of more than 64 bits is refused although all its bytes are there.
                assert!(truncated.wanted > truncated.found || (step % 8 == 5 && truncated.wanted == 10));
            }
        }
    }
    Ok(())
}

/// What was read is written again; the shortest form is that of the writer.
fn check_varint(value: u64, read: &[u8]) {
    let mut written = Vec::new();
    put_varint(&mut written, value);
    assert!(written.len() <= read.len() && read.len() <= 10);
    let padded = read.len() > 1 && read.last() == Some(&0);
    assert_eq!(written == read, !padded, "{value} from {read:?}");
    assert_eq!(Reader::new(&written).varint(), Ok(value));
}

fn keys(input: &[u8]) -> Result<()> {
    check_bytes::<u8>(input);
    check_bytes::<u32>(input);
    check_bytes::<u128>(input);
    check_bytes::<i64>(input);
    check_bytes::<NodeId>(input);
    check_bytes::<Vec<u8>>(input);
    check_bytes::<String>(input);
    check_bytes::<(String, Vec<u8>, i16)>(input);
    check_bytes::<(NodeId, String, NodeId)>(input);
    let mut input = Unstructured::new(input);
    type Parts<'a> = (&'a [u8], i64, u16, String);
    let (a, b) = (input.arbitrary::<Parts<'_>>()?, input.arbitrary::<Parts<'_>>()?);
    check_order(&a.0.to_vec(), &b.0.to_vec());
    check_order(&a.1, &b.1);
    check_order(&a.3, &b.3);
    let key = |parts: Parts<'_>| (parts.0.to_vec(), parts.1, parts.2, parts.3);
    check_order(&key(a), &key(b));
    Ok(())
}

/// There is one encoding of a key: what decodes is what the encoder writes.
fn check_bytes<K: KeyCodec + PartialEq + Debug>(bytes: &[u8]) {
    let mut rest = bytes;
    if let Ok(key) = K::decode_key(&mut rest) {
        let read = &bytes[..bytes.len() - rest.len()];
        assert_eq!(key.to_key(), read, "{key:?}");
        assert_eq!(K::from_key(read).as_ref(), Ok(&key));
    }
    assert_eq!(K::from_key(bytes).is_ok(), K::decode_key(&mut &*bytes).is_ok() && rest.is_empty());
}

fn check_order<K: KeyCodec + Ord + Debug>(a: &K, b: &K) {
    let (left, right) = (a.to_key(), b.to_key());
    assert_eq!(a.cmp(b), left.cmp(&right), "{a:?} and {b:?} sort otherwise as bytes");
    assert_eq!(K::from_key(&left).as_ref(), Ok(a));
    assert!(a == b || !left.starts_with(&right), "{b:?} begins {a:?}");
}

fn texts(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_text::<NodeId>(text);
    check_text::<StoreId>(text);
    check_text::<Version>(text);
    check_text::<Address>(text);
    match Fingerprint::from_hex(text) {
        Ok(print) => {
            assert_eq!(print.to_hex(), text.to_ascii_lowercase());
            assert_eq!(Fingerprint::from_bytes(print.as_bytes()), Ok(print));
        }
        Err(error) => assert!(error.to_string().len() < 200, "a message has a bound"),
    }
    if let Ok(print) = Fingerprint::from_bytes(input) {
        assert_eq!(Fingerprint::from_hex(&print.to_hex()), Ok(print));
    }
}

/// What is parsed prints as a text that means the same.
fn check_text<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse().ok(), Some(value), "{text}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_hold_on_kept_and_made_inputs() {
        keepstone_testkit::fuzzing::run_all(env!("CARGO_MANIFEST_DIR"), &super::TARGETS, |_| 20_000);
    }
}
