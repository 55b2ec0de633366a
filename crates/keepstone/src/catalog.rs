//! The row of a collection: its name, the schema and codec of its bodies, and the widths that its first fingerprint and
//! embedding fixed.
//!
//! | field | bytes |
//! |---|---|
//! | format, now 1 | 1 |
//! | codec of the bodies | 1 |
//! | fingerprint bits, 0 for not fixed yet | 4, little-endian |
//! | embedding dimension, 0 for not fixed yet | 4, little-endian |
//! | name | LEB128 length, then UTF-8 |
//! | schema | LEB128 length, then UTF-8 |
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::CodecId;
use keepstone_types::wire::{Reader, Truncated};

use crate::record::{put_text, text};

/// The format written.
const FORMAT: u8 = 1;

/// A collection's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectionRecord {
    pub(crate) codec: CodecId,
    pub(crate) fingerprint_bits: Option<u32>,
    pub(crate) embedding_dimension: Option<u32>,
    pub(crate) name: String,
    pub(crate) schema: String,
}

impl CollectionRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, self.codec.number()];
        out.extend_from_slice(&self.fingerprint_bits.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.embedding_dimension.unwrap_or(0).to_le_bytes());
        put_text(&mut out, &self.name);
        put_text(&mut out, &self.schema);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(value);
        let end = |error: Truncated| error.to_string();
        let format = reader.u8().map_err(end)?;
        if format != FORMAT {
            return Err(format!("expected format {FORMAT}, found {format}"));
        }
        let codec = CodecId::new(reader.u8().map_err(end)?);
        let fingerprint_bits = Some(reader.u32().map_err(end)?).filter(|bits| *bits != 0);
        let embedding_dimension = Some(reader.u32().map_err(end)?).filter(|dimension| *dimension != 0);
        let (name, schema) = (text(&mut reader)?, text(&mut reader)?);
        if !reader.is_empty() {
            return Err(format!("{} bytes follow the end", reader.rest().len()));
        }
        Ok(Self { codec, fingerprint_bits, embedding_dimension, name, schema })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(codec: u8, bits: u32, dimension: u32, name: String, schema: String) {
            let record = CollectionRecord {
                codec: CodecId::new(codec),
                fingerprint_bits: Some(bits).filter(|bits| *bits != 0),
                embedding_dimension: Some(dimension).filter(|dimension| *dimension != 0),
                name,
                schema,
            };
            let bytes = record.encode();
            prop_assert_eq!(CollectionRecord::decode(&bytes), Ok(record));
            for end in 0..bytes.len() {
                prop_assert!(CollectionRecord::decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            if let Ok(record) = CollectionRecord::decode(&bytes) {
                prop_assert_eq!(CollectionRecord::decode(&record.encode()), Ok(record));
            }
        }
    }
}
