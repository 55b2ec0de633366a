//! The head of a snapshot file: what it is of, and what it hangs on. `FORMAT.md` draws it.
//!
//! A parent is named by what it says, not by how it is stored: store, name, version, time, and the sums over its rows. So
//! a delta stays valid when its parent is made a full snapshot under the same name.
#![deny(clippy::arithmetic_side_effects)]

use std::path::Path;

use keepstone_types::checksum::checksum;
use keepstone_types::layout::{Field, is_zero};
use keepstone_types::{StoreId, Timestamp, Version};

use super::content::Content;
use super::error::{SnapshotFileError, damaged};
use crate::limits::VERSION_NAME_LEN_MAX;

/// The first bytes: a line that people can read.
pub(super) const MAGIC: &[u8; 16] = b"KEEPSTONE SNAP.\n";
/// The format this build writes. Version 0 is unstable.
pub(super) const FORMAT_VERSION: u32 = 0;
/// Values are coded as keepstone-xor-dag's deltas, or stand as they are.
const CODEC: u8 = 1;
const FULL: u8 = 1;
const DELTA: u8 = 2;

const MAGIC_FIELD: Field = Field::first("magic", 16, "magic, the text `KEEPSTONE SNAP.` and a line feed");
const FORMAT: Field = MAGIC_FIELD.then("format", 4, "format version");
const KIND: Field = FORMAT.then("kind", 1, "kind: 1 full, 2 delta");
const CODEC_FIELD: Field = KIND.then("codec", 1, "codec of values: 1, deltas of keepstone-xor-dag");
const PADDING: Field = CODEC_FIELD.then("padding", 2, "reserved, zero");
const FEATURES: Field = PADDING.then("features", 8, "feature bits that must be understood; none yet");
const FILE_ID: Field = FEATURES.then("file id", 16, "file id, random; seeds the checksums of the blocks");
const STORE_ID: Field = FILE_ID.then("store id", 16, "store id of the store that it is of");
const VERSION: Field = STORE_ID.then("version", 8, "the version that it is of");
const TIME: Field =
    VERSION.then("time", 8, "when that was committed, microseconds since the Unix epoch; 0 if unknown");
const PARENT_VERSION: Field = TIME.then(
    "parent version",
    8,
    "version of the parent, as its head says; all of the parent is zero in a full one",
);
const PARENT_TIME: Field = PARENT_VERSION.then("parent time", 8, "time of the parent, as its head says");
const PARENT_ROWS: Field = PARENT_TIME.then("parent rows", 8, "rows of the parent, as its trailer says");
const PARENT_SUM: Field = PARENT_ROWS.then("parent sum", 8, "sum of the parent, as its trailer says");
const NAME_LEN: Field = PARENT_SUM.then("name length", 1, "bytes of the name, at least 1");
const PARENT_LEN: Field =
    NAME_LEN.then("parent name length", 1, "bytes of the parent's name; 0 in a full one");
const RESERVED: Field = PARENT_LEN.then("reserved", 6, "reserved, zero");
const NAME: Field = RESERVED.then("name", 256, "the snapshot's name in UTF-8, then zeros");
const PARENT: Field = NAME.then("parent name", 256, "the parent's name in UTF-8, then zeros");
const CHECKSUM: Field = PARENT.then("checksum", 8, "XXH3-64 of all bytes before");

/// Bytes of the head.
pub(super) const HEAD_LEN: usize = 640;
const _: () = assert!(CHECKSUM.end() == HEAD_LEN);
const _: () = assert!(VERSION_NAME_LEN_MAX < NAME.len);

#[cfg(test)]
pub(crate) const HEAD_FIELDS: [Field; 20] = [
    MAGIC_FIELD,
    FORMAT,
    KIND,
    CODEC_FIELD,
    PADDING,
    FEATURES,
    FILE_ID,
    STORE_ID,
    VERSION,
    TIME,
    PARENT_VERSION,
    PARENT_TIME,
    PARENT_ROWS,
    PARENT_SUM,
    NAME_LEN,
    PARENT_LEN,
    RESERVED,
    NAME,
    PARENT,
    CHECKSUM,
];

/// What a delta was made against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParentRef {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) time: Timestamp,
    pub(super) content: Content,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) file_id: [u8; 16],
    pub(super) store_id: StoreId,
    pub(super) version: Version,
    pub(super) time: Timestamp,
    /// `None` for a full snapshot.
    pub(super) parent: Option<ParentRef>,
}

impl Head {
    pub(super) fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0_u8; HEAD_LEN];
        MAGIC_FIELD.put(&mut out, MAGIC);
        FORMAT.put(&mut out, &FORMAT_VERSION.to_le_bytes());
        KIND.put(&mut out, &[if self.parent.is_some() { DELTA } else { FULL }]);
        CODEC_FIELD.put(&mut out, &[CODEC]);
        FILE_ID.put(&mut out, &self.file_id);
        STORE_ID.put(&mut out, &self.store_id.to_bytes());
        VERSION.put(&mut out, &self.version.to_raw().to_le_bytes());
        TIME.put(&mut out, &self.time.as_micros().to_le_bytes());
        put_name(&mut out, NAME_LEN, NAME, &self.name);
        if let Some(parent) = &self.parent {
            PARENT_VERSION.put(&mut out, &parent.version.to_raw().to_le_bytes());
            PARENT_TIME.put(&mut out, &parent.time.as_micros().to_le_bytes());
            PARENT_ROWS.put(&mut out, &parent.content.rows.to_le_bytes());
            PARENT_SUM.put(&mut out, &parent.content.sum.to_le_bytes());
            put_name(&mut out, PARENT_LEN, PARENT, &parent.name);
        }
        let sum = checksum(out.get(..CHECKSUM.offset).unwrap_or_default());
        CHECKSUM.put(&mut out, &sum.to_le_bytes());
        out
    }

    pub(super) fn decode(path: &Path, bytes: &[u8; HEAD_LEN]) -> Result<Self, SnapshotFileError> {
        let fail = |field: Field, expected: String, found: String| {
            damaged(path, u64::try_from(field.offset).unwrap_or_default(), field.name, expected, found)
        };
        if MAGIC_FIELD.bytes(bytes) != MAGIC {
            let found = MAGIC_FIELD.bytes(bytes).escape_ascii().to_string();
            return Err(fail(MAGIC_FIELD, MAGIC.escape_ascii().to_string(), found));
        }
        let (format, features) = (FORMAT.u32(bytes), FEATURES.u64(bytes));
        let newer = SnapshotFileError::NewerFormat {
            path: path.to_path_buf(),
            found: format,
            supported: FORMAT_VERSION,
            features,
        };
        if format != FORMAT_VERSION {
            return Err(newer);
        }
        let (expected, found) =
            (checksum(bytes.get(..CHECKSUM.offset).unwrap_or_default()), CHECKSUM.u64(bytes));
        if expected != found {
            return Err(fail(CHECKSUM, format!("{expected:016x}"), format!("{found:016x}")));
        }
        if features != 0 || CODEC_FIELD.u8(bytes) != CODEC {
            return Err(newer);
        }
        if !is_zero(PADDING.bytes(bytes)) || !is_zero(RESERVED.bytes(bytes)) {
            return Err(fail(RESERVED, "zeros".to_owned(), "others".to_owned()));
        }
        let name_of = |len, field: Field| {
            name(bytes, len, field)
                .ok_or_else(|| fail(field, "text and zeros".to_owned(), "others".to_owned()))
        };
        let own = name_of(NAME_LEN, NAME)?;
        let (kind, parent_name) = (KIND.u8(bytes), name_of(PARENT_LEN, PARENT)?);
        let parent = match kind {
            FULL => None,
            DELTA => Some(ParentRef {
                name: parent_name.clone(),
                version: Version::from_raw(PARENT_VERSION.u64(bytes)),
                time: Timestamp::from_micros(PARENT_TIME.u64(bytes)),
                content: Content { rows: PARENT_ROWS.u64(bytes), sum: PARENT_SUM.u64(bytes) },
            }),
            other => return Err(fail(KIND, "1 or 2".to_owned(), other.to_string())),
        };
        let head = Self {
            name: own,
            file_id: FILE_ID.array(bytes),
            store_id: StoreId::from_bytes(STORE_ID.array(bytes)),
            version: Version::from_raw(VERSION.u64(bytes)),
            time: Timestamp::from_micros(TIME.u64(bytes)),
            parent,
        };
        if head.name.is_empty() || parent_name.is_empty() != head.parent.is_none() || head.encode() != *bytes
        {
            return Err(fail(PARENT, "what belongs to the kind".to_owned(), "others".to_owned()));
        }
        Ok(head)
    }
}

fn put_name(out: &mut [u8], len: Field, field: Field, name: &str) {
    len.put(out, &[u8::try_from(name.len()).unwrap_or_default()]);
    let field = Field { len: name.len().min(field.len), ..field };
    field.put(out, name.as_bytes());
}

fn name(bytes: &[u8], len: Field, field: Field) -> Option<String> {
    let (name, rest) = field.bytes(bytes).split_at_checked(usize::from(len.u8(bytes)))?;
    let name = std::str::from_utf8(name).ok()?;
    is_zero(rest).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(is_delta: bool) -> Head {
        let parent = ParentRef {
            name: "p".repeat(255),
            version: Version::from_raw(3),
            time: Timestamp::from_micros(4),
            content: Content { rows: 5, sum: 6 },
        };
        Head {
            name: "älter".to_owned(),
            file_id: [1; 16],
            store_id: StoreId::from_bytes([2; 16]),
            version: Version::from_raw(7),
            time: Timestamp::from_micros(8),
            parent: is_delta.then_some(parent),
        }
    }

    #[test]
    fn heads_round_trip_and_every_flipped_bit_is_found() {
        for is_delta in [false, true] {
            let good = head(is_delta).encode();
            assert_eq!(Head::decode(Path::new("s"), &good).unwrap(), head(is_delta));
            for at in 0..HEAD_LEN {
                for bit in 0..8 {
                    let mut bad = good;
                    bad[at] ^= 1 << bit;
                    assert!(Head::decode(Path::new("s"), &bad).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn what_is_sealed_and_makes_no_sense_is_refused() {
        for (at, byte, kind) in [
            (KIND.offset, 3, "damaged"),
            (KIND.offset, DELTA, "damaged"),
            (CODEC_FIELD.offset, 2, "newer-format"),
            (FEATURES.offset, 1, "newer-format"),
            (PADDING.offset, 1, "damaged"),
            (NAME_LEN.offset, 0, "damaged"),
            (NAME_LEN.offset, 1, "damaged"),
            (NAME.offset, 0xFF, "damaged"),
            (PARENT_SUM.offset, 1, "damaged"),
        ] {
            let mut bytes = head(false).encode();
            bytes[at] = byte;
            let sum = checksum(&bytes[..CHECKSUM.offset]);
            CHECKSUM.put(&mut bytes, &sum.to_le_bytes());
            let error = Head::decode(Path::new("s"), &bytes).unwrap_err();
            assert_eq!(error.kind().as_str(), kind, "byte {at}: {error}");
        }
    }
}
