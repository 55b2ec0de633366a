//! The row of a node: all of it but fingerprint and embedding, which have tables of their own.
//!
//! | field | bytes |
//! |---|---|
//! | format, now 1 | 1 |
//! | flags: 1 reserved, 2 has a label, 4 has a body | 1 |
//! | collection | 8, little-endian |
//! | strength, confidence | 4 each, little-endian `f32` |
//! | key | LEB128 length, then UTF-8 |
//! | label, if any | LEB128 length, then UTF-8 |
//! | body, if any | codec id in 1 byte, then all the rest |
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::wire::{Reader, put_varint};
use keepstone_types::{CodecId, ValueRef};

use crate::layout::CollectionId;

/// The format written.
const FORMAT: u8 = 1;
const RESERVED: u8 = 1;
const LABEL: u8 = 2;
const BODY: u8 = 4;

/// A node's row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeRecord {
    /// The id stands for a key that links name and nobody has written yet.
    pub(crate) reserved: bool,
    pub(crate) collection: CollectionId,
    pub(crate) key: String,
    pub(crate) label: Option<String>,
    pub(crate) strength: f32,
    pub(crate) confidence: f32,
    /// MessagePack.
    pub(crate) body: Option<ValueRef>,
}

impl NodeRecord {
    /// A node that has a key and nothing else.
    pub(crate) fn new(collection: CollectionId, key: &str) -> Self {
        Self {
            reserved: false,
            collection,
            key: key.to_owned(),
            label: None,
            strength: 1.0,
            confidence: 1.0,
            body: None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let body_len = self.body.as_ref().map_or(0, |body| body.len());
        let label_len = self.label.as_ref().map_or(0, String::len);
        let len = body_len.saturating_add(label_len).saturating_add(self.key.len()).saturating_add(32);
        let mut out = Vec::with_capacity(len);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.reserved, RESERVED)
            | flag(self.label.is_some(), LABEL)
            | flag(self.body.is_some(), BODY);
        out.extend_from_slice(&[FORMAT, flags]);
        out.extend_from_slice(&self.collection.0.to_le_bytes());
        out.extend_from_slice(&self.strength.to_le_bytes());
        out.extend_from_slice(&self.confidence.to_le_bytes());
        put_text(&mut out, &self.key);
        if let Some(label) = &self.label {
            put_text(&mut out, label);
        }
        if let Some(body) = &self.body {
            out.push(CodecId::MESSAGE_PACK.number());
            out.extend_from_slice(body);
        }
        out
    }

    /// Reads a row; the body shares its memory.
    pub(crate) fn decode(value: &ValueRef) -> Result<Self, String> {
        let mut reader = Reader::new(value);
        let end = |error: keepstone_types::wire::Truncated| error.to_string();
        let (format, flags) = (reader.u8().map_err(end)?, reader.u8().map_err(end)?);
        if format != FORMAT {
            return Err(format!("expected format {FORMAT}, found {format}"));
        }
        if flags & !(RESERVED | LABEL | BODY) != 0 {
            return Err(format!("expected flags up to 7, found {flags}"));
        }
        let collection = CollectionId(reader.u64().map_err(end)?);
        let strength = f32::from_le_bytes(reader.array().map_err(end)?);
        let confidence = f32::from_le_bytes(reader.array().map_err(end)?);
        let key = text(&mut reader)?;
        let label = if flags & LABEL == 0 { None } else { Some(text(&mut reader)?) };
        let body = if flags & BODY == 0 {
            if !reader.is_empty() {
                return Err(format!("{} bytes follow the end", reader.rest().len()));
            }
            None
        } else {
            let codec = CodecId::new(reader.u8().map_err(end)?);
            if codec != CodecId::MESSAGE_PACK {
                return Err(format!("expected a body in {}, found {codec}", CodecId::MESSAGE_PACK));
            }
            value.slice(reader.offset()..)
        };
        let reserved = flags & RESERVED != 0;
        Ok(Self { reserved, collection, key, label, strength, confidence, body })
    }
}

/// Appends a text with its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, u64::try_from(text.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// Reads a text with its length; nothing is allocated before the bytes are known to be there.
pub(crate) fn text(reader: &mut Reader<'_>) -> Result<String, String> {
    let len = reader.varint().map_err(|error| error.to_string())?;
    let bytes =
        reader.bytes(usize::try_from(len).unwrap_or(usize::MAX)).map_err(|error| error.to_string())?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| format!("a text is not UTF-8: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(
            flags: (bool, Option<String>, Option<Vec<u8>>),
            collection: u64,
            key: String,
            numbers in (-1e30_f32..1e30, 0_f32..1.0),
        ) {
            let (reserved, label, body) = flags;
            let record = NodeRecord {
                reserved,
                collection: CollectionId(collection),
                key,
                label,
                strength: numbers.0,
                confidence: numbers.1,
                body: body.map(ValueRef::from),
            };
            let bytes = ValueRef::from(record.encode());
            prop_assert_eq!(NodeRecord::decode(&bytes), Ok(record.clone()));
            // Every cut of a row without a body is noticed; a body runs to the end.
            if record.body.is_none() {
                for end in 0..bytes.len() {
                    prop_assert!(NodeRecord::decode(&bytes.slice(..end).unwrap()).is_err());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let value = ValueRef::from([&[FORMAT, 6][..], &bytes].concat());
            if let Ok(record) = NodeRecord::decode(&value) {
                prop_assert_eq!(NodeRecord::decode(&ValueRef::from(record.encode())).map(|again| again.key), Ok(record.key));
            }
        }
    }

    #[test]
    fn an_absurd_length_is_an_error_before_memory_is_taken() {
        let mut bytes = NodeRecord::new(CollectionId(1), "").encode();
        bytes.pop();
        put_varint(&mut bytes, u64::MAX);
        let error = NodeRecord::decode(&ValueRef::from(bytes)).unwrap_err();
        assert!(error.contains("the bytes end early"), "{error}");
    }

    #[test]
    fn other_formats_flags_and_codecs_are_named() {
        let good =
            NodeRecord { body: Some(ValueRef::empty()), ..NodeRecord::new(CollectionId(1), "k") }.encode();
        for (place, byte, expected) in [
            (0, 2, "expected format 1, found 2"),
            (1, 8, "expected flags up to 7, found 8"),
            (20, 9, "found codec 9"),
        ] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            let error = NodeRecord::decode(&ValueRef::from(bytes)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
