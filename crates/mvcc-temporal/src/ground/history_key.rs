//! The key of an older row version: table, key, and the version, newest first.
//!
//! The key is escaped, so that no key's versions stand among another's and keys keep their order: a zero byte becomes
//! `00 FF`, and `00 00` ends it. The version is stored as its complement, big-endian.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::Version;
use keepstone_types::wire::Reader;

use crate::catalog::TableId;

/// Bytes of the table in front.
const TABLE_LEN: usize = 4;
/// What ends an escaped key.
const END: [u8; 2] = [0, 0];
/// What stands for a zero byte.
const ZERO: [u8; 2] = [0, 0xFF];

/// The key of a version, written into `out`.
pub(crate) fn encode(out: &mut Vec<u8>, table: TableId, key: &[u8], version: Version) {
    before_key(out, table, key);
    out.extend(END);
    out.extend((!version.to_raw()).to_be_bytes());
}

/// A place before all versions of a key and after those of every lesser key.
pub(crate) fn before_key(out: &mut Vec<u8>, table: TableId, key: &[u8]) {
    table_start(out, table);
    for byte in key {
        match byte {
            0 => out.extend(ZERO),
            byte => out.push(*byte),
        }
    }
}

/// A place after all versions of a key and before those of every greater key.
pub(crate) fn after_key(out: &mut Vec<u8>, table: TableId, key: &[u8]) {
    // No commit makes version zero.
    encode(out, table, key, Version::ZERO);
}

/// A place before everything of a table.
pub(crate) fn table_start(out: &mut Vec<u8>, table: TableId) {
    out.clear();
    out.extend(table.get().to_be_bytes());
}

/// The table and version of a history key, and its key, unescaped into `key`; `None` for what no build of this format
/// writes.
pub(crate) fn decode(bytes: &[u8], key: &mut Vec<u8>) -> Option<(TableId, Version)> {
    key.clear();
    let mut reader = Reader::new(bytes);
    let table = TableId::new(u32::from_be_bytes(reader.array::<TABLE_LEN>().ok()?));
    loop {
        match reader.u8().ok()? {
            0 => match reader.u8().ok()? {
                0xFF => key.push(0),
                0 => break,
                _ => return None,
            },
            byte => key.push(byte),
        }
    }
    let version = Version::from_raw(!u64::from_be_bytes(reader.array().ok()?));
    (reader.is_empty() && version != Version::ZERO).then_some((table, version))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(table: u32, key: &[u8], version: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, TableId::new(table), key, Version::from_raw(version));
        out
    }

    proptest! {
        #[test]
        fn keys_sort_by_table_key_and_newest_version_first(
            a in (0_u32..3, proptest::collection::vec(0_u8..3, 0..5), 1_u64..9),
            b in (0_u32..3, proptest::collection::vec(0_u8..3, 0..5), 1_u64..9),
        ) {
            let place = |(table, key, version): &(u32, Vec<u8>, u64)| encoded(*table, key, *version);
            let expected = (a.0, &a.1, std::cmp::Reverse(a.2)).cmp(&(b.0, &b.1, std::cmp::Reverse(b.2)));
            prop_assert_eq!(place(&a).cmp(&place(&b)), expected);
            let mut bound = Vec::new();
            before_key(&mut bound, TableId::new(a.0), &a.1);
            prop_assert!(bound < place(&a));
            prop_assert_eq!(bound < place(&b), (a.0, &a.1) <= (b.0, &b.1));
            after_key(&mut bound, TableId::new(a.0), &a.1);
            prop_assert_eq!(bound > place(&b), (a.0, &a.1) >= (b.0, &b.1));
        }

        #[test]
        fn keys_round_trip(table: u32, key: Vec<u8>, raw in 1..u64::MAX) {
            let bytes = encoded(table, &key, raw);
            let mut found = Vec::new();
            let decoded = decode(&bytes, &mut found);
            prop_assert_eq!(decoded, Some((TableId::new(table), Version::from_raw(raw))));
            prop_assert_eq!(found, key);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let mut key = Vec::new();
            if let Some((table, version)) = decode(&bytes, &mut key) {
                let mut again = Vec::new();
                encode(&mut again, table, &key, version);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
