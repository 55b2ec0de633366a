//! The identity file `KEEPSTONE`: what makes a folder a store. `FORMAT.md` draws it.
//!
//! It is written once, when everything else of a new store is there, and renamed in last. Nothing is opened, and nothing
//! written, when it is missing, damaged or from a newer build.
#![deny(clippy::arithmetic_side_effects)]

use std::path::Path;
use std::time::Duration;

use keepstone_types::checksum::checksum;
use keepstone_types::wire::{Reader, Truncated};
use keepstone_types::{StoreId, Timestamp};
use keepstone_wal::Durability;

use crate::error::OpenError;
use crate::options::Retention;

/// The name of the file within the store's folder.
pub(crate) const FILE_NAME: &str = "KEEPSTONE";
/// The name it has while the store is being made.
pub(crate) const STAGED_NAME: &str = "KEEPSTONE.new";
/// The name it has while a store is being restored: nobody opens or takes up such a folder but who restores.
pub(crate) const RESTORING_NAME: &str = "KEEPSTONE.restoring";
/// The first bytes: a line that people can read.
pub(crate) const MAGIC: &[u8; 16] = b"KEEPSTONE STORE\n";
/// The format this build writes. Version 0 is unstable.
pub(crate) const FORMAT_VERSION: u32 = 0;
/// Feature bits that an older build may ignore; none yet.
pub(crate) const COMPATIBLE_FEATURES: u64 = 0;
/// Feature bits that an older build may ignore when it only reads; none yet.
pub(crate) const READ_COMPATIBLE_FEATURES: u64 = 0;
/// The feature bit of a store that has a page file; every store of this build has one.
pub(crate) const PAGES_FEATURE: u64 = 1;
/// Feature bits that must be understood.
pub(crate) const INCOMPATIBLE_FEATURES: u64 = PAGES_FEATURE;

/// The fields in order, each with its length and meaning: what `FORMAT.md` is rendered from.
#[cfg(test)]
pub(crate) const FIELDS: &[(usize, &str)] = &[
    (16, "magic, the text `KEEPSTONE STORE` and a line feed"),
    (4, "format version"),
    (4, "reserved, zero"),
    (8, "feature bits that an older build may ignore"),
    (8, "feature bits that an older build may ignore when it only reads"),
    (8, "feature bits that must be understood: 1 for a page file"),
    (16, "store id"),
    (8, "created, microseconds since the Unix epoch"),
    (1, "default durability: 0 Full, 1 Normal, 2 Relaxed, 3 None"),
    (3, "reserved, zero"),
    (4, "Relaxed: commits that a crash may take, at most"),
    (8, "Relaxed: microseconds that a crash may take, at most"),
    (1, "retention: 0 seven days by default, 1 for ever, 2 so long, 3 none"),
    (7, "reserved, zero"),
    (8, "retention: microseconds that versions are kept"),
    (16, "reserved, zero"),
    (8, "XXH3-64 of all bytes before"),
];

/// Bytes of the file.
pub(crate) const FILE_LEN: usize = 128;
/// Bytes before the checksum.
const SUMMED_LEN: usize = 120;
const _: () = assert!(SUMMED_LEN == FILE_LEN - size_of::<u64>());

/// What the identity file says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) store_id: StoreId,
    pub(crate) created: Timestamp,
    pub(crate) durability: Durability,
    pub(crate) retention: Retention,
    /// Feature bits that forbid writing with this build.
    pub(crate) unknown_read_features: u64,
}

fn durability_fields(durability: Durability) -> (u8, u32, u64) {
    match durability {
        Durability::Full => (0, 0, 0),
        Durability::Normal => (1, 0, 0),
        Durability::Relaxed { max_commits, max_delay } => {
            (2, max_commits, u64::try_from(max_delay.as_micros()).unwrap_or(u64::MAX))
        }
        Durability::None => (3, 0, 0),
        // A level that this format has no number for: the safe default is recorded.
        _ => (1, 0, 0),
    }
}

fn retention_fields(retention: Retention) -> (u8, u64) {
    match retention {
        Retention::Forever => (1, 0),
        Retention::For(time) => (2, u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        Retention::None => (3, 0),
    }
}

impl Identity {
    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (level, max_commits, max_delay_micros) = durability_fields(self.durability);
        let mut out = Vec::with_capacity(FILE_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&COMPATIBLE_FEATURES.to_le_bytes());
        out.extend_from_slice(&READ_COMPATIBLE_FEATURES.to_le_bytes());
        out.extend_from_slice(&INCOMPATIBLE_FEATURES.to_le_bytes());
        out.extend_from_slice(&self.store_id.to_bytes());
        out.extend_from_slice(&self.created.as_micros().to_le_bytes());
        out.push(level);
        out.extend_from_slice(&[0; 3]);
        out.extend_from_slice(&max_commits.to_le_bytes());
        out.extend_from_slice(&max_delay_micros.to_le_bytes());
        let (retention, retention_micros) = retention_fields(self.retention);
        out.push(retention);
        out.extend_from_slice(&[0; 7]);
        out.extend_from_slice(&retention_micros.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        debug_assert_eq!(out.len(), SUMMED_LEN, "the fields fill the file");
        out.extend_from_slice(&checksum(&out).to_le_bytes());
        out
    }

    /// Reads the bytes of the file at `path`.
    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, OpenError> {
        let fail = |what: &'static str, expected: String, found: String| OpenError::Identity {
            path: path.to_path_buf(),
            what,
            expected,
            found,
        };
        let short = |error: Truncated| fail("the length", format!("{FILE_LEN} bytes"), error.to_string());
        let mut reader = Reader::new(bytes);
        let magic = reader.bytes(MAGIC.len()).map_err(short)?;
        if magic != MAGIC {
            let (expected, found) = (MAGIC.escape_ascii().to_string(), magic.escape_ascii().to_string());
            return Err(fail("the first line", expected, found));
        }
        let format = reader.u32().map_err(short)?;
        let newer = |features| OpenError::NewerFormat {
            path: path.to_path_buf(),
            found: format,
            supported: FORMAT_VERSION,
            features,
        };
        if format != FORMAT_VERSION {
            return Err(newer(0));
        }
        let (summed, sum) = bytes.split_at_checked(SUMMED_LEN).unwrap_or((bytes, &[]));
        let expected = checksum(summed).to_le_bytes();
        if sum != expected {
            return Err(fail("the checksum", format!("{expected:02x?}"), format!("{sum:02x?}")));
        }
        let reserved = reader.u32().map_err(short)?;
        let _compatible = reader.u64().map_err(short)?;
        let read_features = reader.u64().map_err(short)? & !READ_COMPATIBLE_FEATURES;
        let features = reader.u64().map_err(short)?;
        if features & !INCOMPATIBLE_FEATURES != 0 {
            return Err(newer(features & !INCOMPATIBLE_FEATURES));
        }
        if features & PAGES_FEATURE == 0 {
            let expected = "a store with a page file".to_owned();
            let found = "one of an earlier build; export it with that build and import it here".to_owned();
            return Err(fail("the features", expected, found));
        }
        let store_id = StoreId::from_bytes(reader.array().map_err(short)?);
        let created = Timestamp::from_micros(reader.u64().map_err(short)?);
        let level = reader.u8().map_err(short)?;
        let padding: [u8; 3] = reader.array().map_err(short)?;
        let max_commits = reader.u32().map_err(short)?;
        let max_delay = Duration::from_micros(reader.u64().map_err(short)?);
        let retention = reader.u8().map_err(short)?;
        let more_padding: [u8; 7] = reader.array().map_err(short)?;
        let retention_micros = reader.u64().map_err(short)?;
        let rest: [u8; 16] = reader.array().map_err(short)?;
        if reserved != 0 || padding != [0; 3] || more_padding != [0; 7] || rest != [0; 16] {
            return Err(fail("the reserved bytes", "zeros".to_owned(), "others".to_owned()));
        }
        let durability = match level {
            0 => Durability::Full,
            1 => Durability::Normal,
            2 => Durability::Relaxed { max_commits, max_delay },
            3 => Durability::None,
            other => return Err(fail("the default durability", "0 to 3".to_owned(), other.to_string())),
        };
        let retention = match retention {
            0 => Retention::default(),
            1 => Retention::Forever,
            2 => Retention::For(Duration::from_micros(retention_micros)),
            3 => Retention::None,
            other => return Err(fail("the retention", "0 to 3".to_owned(), other.to_string())),
        };
        Ok(Self { store_id, created, durability, retention, unknown_read_features: read_features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(durability: Durability) -> Identity {
        let (store_id, created) = (StoreId::from_bytes([7; 16]), Timestamp::from_micros(5));
        Identity { store_id, created, durability, retention: Retention::default(), unknown_read_features: 0 }
    }

    /// `bytes` with a change, and a checksum that fits again.
    fn changed(at: usize, to: u8) -> Vec<u8> {
        let mut bytes = identity(Durability::Normal).encode();
        bytes[at] = to;
        let sum = checksum(&bytes[..SUMMED_LEN]);
        bytes[SUMMED_LEN..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Identity, OpenError> {
        Identity::decode(Path::new("/s/KEEPSTONE"), bytes)
    }

    #[test]
    fn every_durability_round_trips() {
        let relaxed = Durability::Relaxed { max_commits: 7, max_delay: Duration::from_millis(3) };
        for durability in [Durability::Full, Durability::Normal, relaxed, Durability::None] {
            let identity = identity(durability);
            assert_eq!(identity.encode().len(), FILE_LEN);
            assert_eq!(decode(&identity.encode()).unwrap(), identity);
        }
        assert_eq!(FIELDS.iter().map(|(len, _)| len).sum::<usize>(), FILE_LEN);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let good = identity(Durability::Normal).encode();
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "cut to {len}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(decode(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let kind = |bytes: Vec<u8>| decode(&bytes).map_err(|error| error.kind().as_str());
        assert_eq!(kind(changed(16, 1)), Err("newer-format"));
        assert_eq!(kind(changed(40, 3)), Err("newer-format"), "a feature that must be understood");
        assert_eq!(kind(changed(40, 0)), Err("identity"), "a store without a page file");
        assert_eq!(kind(changed(24, 1)).map(|id| id.unknown_read_features), Ok(0));
        assert_eq!(kind(changed(32, 4)).map(|id| id.unknown_read_features), Ok(4));
        assert_eq!(kind(changed(20, 1)), Err("identity"), "reserved bytes");
        assert_eq!(kind(changed(110, 1)), Err("identity"), "reserved bytes");
        assert_eq!(kind(changed(88, 4)), Err("identity"), "an unknown retention");
        assert_eq!(kind(changed(72, 9)), Err("identity"), "an unknown durability");
        assert!(
            decode(b"something else, longer than a magic").unwrap_err().to_string().contains("first line")
        );
    }
}
