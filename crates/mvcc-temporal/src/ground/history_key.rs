//! The key of an older row version: table, key, and the version, newest first.
//!
//! The key is escaped, so that no key's versions stand among another's and keys keep their order. Zero bytes that stand
//! together become `00` and one byte more, so the escaped key is at most half as long again as the key:
//!
//! * `00`, then 00 to 7E: so many zero bytes, and the key ends;
//! * `00 7F`: 127 zero bytes, and what follows goes on from there;
//! * `00`, then 81 to FF: 1 to 127 zero bytes, fewer the greater it is, and a byte that is not zero follows.
//!
//! That order is the order of the keys: of two keys that differ behind the same bytes, the one that ends there is less
//! than all that go on; and of those that go on, the one with more zero bytes is less. The version is stored as its
//! complement, big-endian.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::Version;
use keepstone_types::wire::Reader;

use crate::catalog::TableId;

/// Bytes of the table in front.
const TABLE_LEN: usize = 4;
/// What a run of zero bytes begins with, escaped.
const ZERO: u8 = 0;
/// So many zero bytes, written as themselves, and more may come.
const ZEROS_MAX: u8 = 0x7F;

/// The key of a version, written into `out`.
pub(crate) fn encode(out: &mut Vec<u8>, table: TableId, key: &[u8], version: Version) {
    before_key(out, table, key);
    out.extend((!version.to_raw()).to_be_bytes());
}

/// A place before all versions of a key and after those of every lesser key.
pub(crate) fn before_key(out: &mut Vec<u8>, table: TableId, key: &[u8]) {
    table_start(out, table);
    let mut zeros = 0_u8;
    for byte in key {
        if *byte != 0 {
            if zeros > 0 {
                out.extend([ZERO, 0_u8.wrapping_sub(zeros)]);
                zeros = 0;
            }
            out.push(*byte);
        } else if zeros < ZEROS_MAX.wrapping_sub(1) {
            zeros = zeros.wrapping_add(1);
        } else {
            out.extend([ZERO, ZEROS_MAX]);
            zeros = 0;
        }
    }
    out.extend([ZERO, zeros]);
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
            ZERO => {
                let code = reader.u8().ok()?;
                let (zeros, goes_on) = match code {
                    ..ZEROS_MAX => (code, false),
                    ZEROS_MAX => (ZEROS_MAX, true),
                    0x80 => return None,
                    // A run is as long as it can be, and a byte that is not zero comes after it.
                    _ if matches!(reader.rest().first(), None | Some(&ZERO)) => return None,
                    _ => (0_u8.wrapping_sub(code), true),
                };
                key.resize(key.len().checked_add(zeros.into())?, 0);
                if !goes_on {
                    break;
                }
            }
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

    /// Runs of zero bytes around the length at which they are cut, between few other bytes.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let zeros = prop_oneof![0_usize..4, 124_usize..131, 250_usize..258];
        let part = (zeros, proptest::collection::vec(0_u8..3, 0..3));
        proptest::collection::vec(part, 0..4).prop_map(|parts| {
            let part = |(zeros, rest): (usize, Vec<u8>)| std::iter::repeat_n(0, zeros).chain(rest);
            parts.into_iter().flat_map(part).collect()
        })
    }

    proptest! {
        #[test]
        fn keys_sort_by_table_key_and_newest_version_first(
            a in (0_u32..3, any_key(), 1_u64..9),
            b in (0_u32..3, any_key(), 1_u64..9),
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
        fn keys_round_trip(table: u32, key in any_key(), raw in 1..u64::MAX) {
            let bytes = encoded(table, &key, raw);
            let mut found = Vec::new();
            let decoded = decode(&bytes, &mut found);
            prop_assert_eq!(decoded, Some((TableId::new(table), Version::from_raw(raw))));
            let most = [TABLE_LEN, key.len(), key.len().div_ceil(2), 2, 8].into_iter().sum();
            prop_assert!(bytes.len() <= most);
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
