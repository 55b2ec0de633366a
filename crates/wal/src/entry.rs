//! Entries for the log used alone: a small vocabulary of writes, deletions, links and checkpoints, as MessagePack.
//!
//! The payload is an array of byte strings (`bin`; any `str` or `bin` is read). The kind stands in the record.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::CodecId;
use keepstone_types::wire::{Reader, Truncated};

use crate::record::{Record, RecordKind};
use crate::report::ReplayedRecord;

/// What a user of the log alone has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A key has a value now, under a label.
    Write {
        /// The key.
        key: Vec<u8>,
        /// What it is called; may be empty.
        label: String,
        /// The value.
        value: Vec<u8>,
    },
    /// A key is gone.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// A key is linked to another.
    Link {
        /// Where the link begins.
        from: Vec<u8>,
        /// What it says.
        verb: String,
        /// Where it ends.
        to: Vec<u8>,
    },
    /// The user's own state is saved, under this name.
    Checkpoint {
        /// Where it is saved.
        name: Vec<u8>,
    },
}

/// A record that is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The record is of another kind.
    #[error("a record of the kind `{found}`, expected write, delete, link or checkpoint")]
    Kind {
        /// Its kind.
        found: RecordKind,
    },
    /// The payload is encoded otherwise.
    #[error("a payload in {found}, expected MessagePack")]
    Codec {
        /// Its encoding.
        found: CodecId,
    },
    /// The payload is not what its kind promises.
    #[error("byte {offset} of the payload: expected {expected}, found {found}")]
    Payload {
        /// Where in the payload.
        offset: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl From<Truncated> for EntryError {
    fn from(truncated: Truncated) -> Self {
        let found = format!("{} bytes of {}", truncated.found, truncated.wanted);
        Self::Payload { offset: truncated.offset, expected: "more bytes", found }
    }
}

/// MessagePack's marker of a short array; its low four bits are the length.
const FIX_ARRAY: u8 = 0x90;
const BIN_8: u8 = 0xC4;
const BIN_16: u8 = 0xC5;
const BIN_32: u8 = 0xC6;
const FIX_STR: u8 = 0xA0;
const STR_8: u8 = 0xD9;
const STR_16: u8 = 0xDA;
const STR_32: u8 = 0xDB;

fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(len), _) => out.extend([BIN_8, len]),
        (_, Ok(len)) => {
            out.push(BIN_16);
            out.extend(len.to_be_bytes());
        }
        _ => {
            // A longer payload than 32 bits can say is refused when it is appended.
            out.push(BIN_32);
            out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend(bytes);
}

fn take_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], EntryError> {
    let offset = reader.offset();
    let marker = reader.u8()?;
    let len = match marker {
        BIN_8 | STR_8 => u32::from(reader.u8()?),
        BIN_16 | STR_16 => u32::from(u16::from_be_bytes(reader.array()?)),
        BIN_32 | STR_32 => u32::from_be_bytes(reader.array()?),
        short if short & 0xE0 == FIX_STR => u32::from(short & 0x1F),
        found => {
            let found = format!("{found:#04x}");
            return Err(EntryError::Payload { offset, expected: "a byte string", found });
        }
    };
    Ok(reader.bytes(usize::try_from(len).unwrap_or(usize::MAX))?)
}

fn take_text(reader: &mut Reader<'_>) -> Result<String, EntryError> {
    let offset = reader.offset();
    let text = std::str::from_utf8(take_bytes(reader)?);
    let text = text.map_err(|error| EntryError::Payload {
        offset,
        expected: "UTF-8 text",
        found: error.to_string(),
    })?;
    Ok(text.to_owned())
}

impl Entry {
    /// The entry as a record to append.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let (kind, parts): (RecordKind, Vec<&[u8]>) = match self {
            Self::Write { key, label, value } => (RecordKind::WRITE, vec![key, label.as_bytes(), value]),
            Self::Delete { key } => (RecordKind::DELETE, vec![key]),
            Self::Link { from, verb, to } => (RecordKind::LINK, vec![from, verb.as_bytes(), to]),
            Self::Checkpoint { name } => (RecordKind::CHECKPOINT, vec![name]),
        };
        let mut payload = vec![FIX_ARRAY | u8::try_from(parts.len()).unwrap_or(0)];
        for part in parts {
            put_bin(&mut payload, part);
        }
        Record::new(kind, payload)
    }

    /// The entry of a record that was read back.
    ///
    /// # Errors
    /// When the record is of another kind, or its payload is not what its kind promises.
    pub fn from_record(record: &ReplayedRecord) -> Result<Self, EntryError> {
        Self::decode(record.kind, record.codec, &record.payload)
    }

    fn decode(kind: RecordKind, codec: CodecId, payload: &[u8]) -> Result<Self, EntryError> {
        let parts = match kind {
            RecordKind::WRITE | RecordKind::LINK => 3,
            RecordKind::DELETE | RecordKind::CHECKPOINT => 1,
            found => return Err(EntryError::Kind { found }),
        };
        if codec != CodecId::MESSAGE_PACK {
            return Err(EntryError::Codec { found: codec });
        }
        let mut reader = Reader::new(payload);
        let marker = reader.u8()?;
        if marker != FIX_ARRAY | parts {
            let expected = if parts == 1 { "an array of 1" } else { "an array of 3" };
            return Err(EntryError::Payload { offset: 0, expected, found: format!("{marker:#04x}") });
        }
        let reader = &mut reader;
        let entry = match kind {
            RecordKind::WRITE => Self::Write {
                key: take_bytes(reader)?.to_vec(),
                label: take_text(reader)?,
                value: take_bytes(reader)?.to_vec(),
            },
            RecordKind::LINK => Self::Link {
                from: take_bytes(reader)?.to_vec(),
                verb: take_text(reader)?,
                to: take_bytes(reader)?.to_vec(),
            },
            RecordKind::DELETE => Self::Delete { key: take_bytes(reader)?.to_vec() },
            _ => Self::Checkpoint { name: take_bytes(reader)?.to_vec() },
        };
        if reader.is_empty() {
            return Ok(entry);
        }
        let found = format!("{} more bytes", reader.rest().len());
        Err(EntryError::Payload { offset: reader.offset(), expected: "the end", found })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Entry> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            (bytes(), ".{0,40}", prop::collection::vec(any::<u8>(), 0..70_000))
                .prop_map(|(key, label, value)| Entry::Write { key, label, value }),
            bytes().prop_map(|key| Entry::Delete { key }),
            (bytes(), ".{0,40}", bytes()).prop_map(|(from, verb, to)| Entry::Link { from, verb, to }),
            bytes().prop_map(|name| Entry::Checkpoint { name }),
        ]
    }

    /// Reads what `bin` or `str` holds, as any MessagePack library does.
    #[derive(Debug, PartialEq)]
    struct Bytes(Vec<u8>);

    impl<'de> serde::Deserialize<'de> for Bytes {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Bytes;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }
            deserializer.deserialize_bytes(Visitor)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn entries_round_trip_and_others_read_them(entry in entries()) {
            let record = entry.to_record();
            prop_assert_eq!(Entry::decode(record.kind, record.codec, &record.payload), Ok(entry.clone()));
            if let Entry::Write { key, label, value } = entry {
                let others: (Bytes, Bytes, Bytes) = rmp_serde::from_slice(&record.payload).unwrap();
                prop_assert_eq!(others, (Bytes(key), Bytes(label.into_bytes()), Bytes(value)));
            }
        }

        #[test]
        fn what_is_cut_or_arbitrary_is_refused(entry in entries(), at: prop::sample::Index, noise: Vec<u8>) {
            let record = entry.to_record();
            let cut = at.index(record.payload.len());
            prop_assert!(Entry::decode(record.kind, record.codec, &record.payload[..cut]).is_err());
            let longer = [record.payload.as_slice(), &[0]].concat();
            prop_assert!(Entry::decode(record.kind, record.codec, &longer).is_err());
            let found = Entry::decode(record.kind, record.codec, &noise);
            prop_assert!(found.is_err() || noise.len() > 1);
        }
    }

    #[test]
    fn an_absurd_length_takes_no_memory() {
        let payload = [&[FIX_ARRAY | 1, BIN_32][..], &u32::MAX.to_be_bytes(), b"x"].concat();
        let error = Entry::decode(RecordKind::DELETE, CodecId::MESSAGE_PACK, &payload).unwrap_err();
        assert_eq!(
            error.to_string(),
            "byte 6 of the payload: expected more bytes, found 1 bytes of 4294967295"
        );
        let error = Entry::decode(RecordKind::COMMIT, CodecId::MESSAGE_PACK, &payload).unwrap_err();
        assert_eq!(error, EntryError::Kind { found: RecordKind::COMMIT });
        let error = Entry::decode(RecordKind::DELETE, CodecId::RAW, &payload).unwrap_err();
        assert_eq!(error, EntryError::Codec { found: CodecId::RAW });
    }
}
