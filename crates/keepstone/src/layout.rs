//! Which tables there are and how their keys are built and read. `FORMAT.md` draws them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `collections` | collection | see [`crate::catalog`] |
//! | `keys` | collection, key | state (0 live, 1 reserved), id |
//! | `nodes` | id | see [`crate::record`] |
//! | `fingerprints` | id | the bytes |
//! | `embeddings` | id | numbers as little-endian `f32` |
//! | `links.out` | from, verb, to | weight as little-endian `f64` |
//! | `links.in` | to, verb, from | the same weight |
//! | `addresses` | address | id, expiry in microseconds (0 never) |
//! | `addresses.of` | id, address | nothing |
//!
//! Invariants (`check` looks at all of them):
//! * `keys` and `nodes` name each other: one row each for every node and every reserved id.
//! * Every row of `links.out` has its mirror in `links.in` with the same weight, and the other way round; both ends have
//!   a row in `nodes`, and the `from` end is not reserved.
//! * A reserved id is the target of at least one link and has no fingerprint, embedding, outgoing link or address.
#![deny(clippy::arithmetic_side_effects)]

use keepstone_types::wire::Reader;
use keepstone_types::{Address, KeyCodec, NodeId, Timestamp, ValueRef};

pub(crate) const COLLECTIONS: &str = "collections";
pub(crate) const KEYS: &str = "keys";
pub(crate) const NODES: &str = "nodes";
pub(crate) const FINGERPRINTS: &str = "fingerprints";
pub(crate) const EMBEDDINGS: &str = "embeddings";
pub(crate) const LINKS_OUT: &str = "links.out";
pub(crate) const LINKS_IN: &str = "links.in";
pub(crate) const ADDRESSES: &str = "addresses";
pub(crate) const ADDRESSES_OF: &str = "addresses.of";

/// Bytes of an id.
const ID_LEN: usize = 16;

/// A collection within the store: the first 64 bits of the BLAKE3 hash of its name, so that it needs no counter and is
/// the same in every store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CollectionId(pub(crate) u64);

impl CollectionId {
    pub(crate) fn of_name(name: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = NodeId::of_content(name.as_bytes()).to_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    pub(crate) fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// The row of `keys` for a key.
pub(crate) fn key_row(collection: CollectionId, key: &str) -> Vec<u8> {
    [&collection.key()[..], key.as_bytes()].concat()
}

/// A key of `keys` taken apart.
pub(crate) fn parse_key_row(row: &[u8]) -> Option<(CollectionId, &str)> {
    let (collection, key) = row.split_first_chunk::<8>()?;
    Some((CollectionId(u64::from_be_bytes(*collection)), std::str::from_utf8(key).ok()?))
}

/// What a row of `keys` says: the id, and whether the node is there or only reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    pub(crate) id: NodeId,
    pub(crate) reserved: bool,
}

impl KeyEntry {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_usize.saturating_add(ID_LEN));
        out.push(u8::from(self.reserved));
        out.extend_from_slice(&self.id.to_bytes());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let (state, id) = value.split_first()?;
        let reserved = match state {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { id: parse_id(id)?, reserved })
    }
}

/// Exactly one id.
pub(crate) fn parse_id(bytes: &[u8]) -> Option<NodeId> {
    bytes.try_into().ok().map(NodeId::from_bytes)
}

/// The key of a link, seen from one end.
pub(crate) fn link_row(near: NodeId, verb: &str, far: NodeId) -> Vec<u8> {
    let mut row = link_prefix(near, Some(verb));
    far.encode_key(&mut row);
    row
}

/// What the keys of a node's links begin with, of one verb or of all.
pub(crate) fn link_prefix(near: NodeId, verb: Option<&str>) -> Vec<u8> {
    let mut row = near.to_key();
    if let Some(verb) = verb {
        verb.to_owned().encode_key(&mut row);
    }
    row
}

/// A key of a link table taken apart: near end, verb, far end.
pub(crate) fn parse_link_row(row: &[u8]) -> Option<(NodeId, String, NodeId)> {
    <(NodeId, String, NodeId)>::from_key(row).ok()
}

pub(crate) fn weight_value(weight: f64) -> ValueRef {
    ValueRef::copy_from(&weight.to_le_bytes())
}

pub(crate) fn parse_weight(value: &[u8]) -> Option<f64> {
    value.try_into().ok().map(f64::from_le_bytes)
}

pub(crate) fn embedding_value(embedding: &[f32]) -> ValueRef {
    embedding.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into()
}

pub(crate) fn parse_embedding(value: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = value.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// What stands at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRow {
    pub(crate) id: NodeId,
    /// When it expires; `None` is never.
    pub(crate) expires: Option<Timestamp>,
}

impl AddressRow {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = self.id.to_bytes().to_vec();
        let expires = self.expires.map_or(0, |expires| expires.as_micros().max(1));
        out.extend_from_slice(&expires.to_le_bytes());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let id = NodeId::from_bytes(reader.array().ok()?);
        let expires = Some(reader.u64().ok()?).filter(|micros| *micros != 0).map(Timestamp::from_micros);
        reader.is_empty().then_some(Self { id, expires })
    }
}

pub(crate) fn address_row(address: Address) -> [u8; 2] {
    address.number().to_be_bytes()
}

pub(crate) fn parse_address_row(row: &[u8]) -> Option<Address> {
    row.try_into().ok().map(|number| Address::from_number(u16::from_be_bytes(number)))
}

/// The row of `addresses.of` for an address of a node.
pub(crate) fn address_of_row(id: NodeId, address: Address) -> Vec<u8> {
    [&id.to_bytes()[..], &address_row(address)[..]].concat()
}

pub(crate) fn parse_address_of_row(row: &[u8]) -> Option<(NodeId, Address)> {
    let (id, address) = row.split_at_checked(ID_LEN)?;
    Some((parse_id(id)?, parse_address_row(address)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(a: [u8; 16], b: [u8; 16], key: String, number: u64, address: u16, weight: f64) {
            let (near, far) = (NodeId::from_bytes(a), NodeId::from_bytes(b));
            let row = link_row(near, &key, far);
            prop_assert!(row.starts_with(&link_prefix(near, Some(&key))));
            prop_assert_eq!(parse_link_row(&row), Some((near, key.clone(), far)));
            let collection = CollectionId(number);
            let row = key_row(collection, &key);
            prop_assert_eq!(parse_key_row(&row), Some((collection, &*key)));
            for reserved in [false, true] {
                let entry = KeyEntry { id: near, reserved };
                prop_assert_eq!(KeyEntry::decode(&entry.encode()), Some(entry));
            }
            let address = Address::from_number(address);
            prop_assert_eq!(parse_address_of_row(&address_of_row(far, address)), Some((far, address)));
            let entry = AddressRow { id: far, expires: Some(Timestamp::from_micros(number.max(1))) };
            prop_assert_eq!(AddressRow::decode(&entry.encode()), Some(entry));
            let forever = AddressRow { id: far, expires: None };
            prop_assert_eq!(AddressRow::decode(&forever.encode()), Some(forever));
            prop_assert_eq!(parse_weight(&weight_value(weight)).map(f64::to_bits), Some(weight.to_bits()));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
            if let Some((near, verb, far)) = parse_link_row(&bytes) {
                prop_assert_eq!(link_row(near, &verb, far), bytes.clone());
            }
            if let Some((collection, key)) = parse_key_row(&bytes) {
                prop_assert_eq!(key_row(collection, key), bytes.clone());
            }
            if let Some(entry) = KeyEntry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes.clone());
            }
            if let Some(entry) = AddressRow::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes.clone());
            }
            if let Some(embedding) = parse_embedding(&bytes) {
                prop_assert_eq!(&*embedding_value(&embedding), &bytes[..]);
            }
        }
    }

    #[test]
    fn one_verb_is_no_prefix_of_another() {
        let id = NodeId::from_bytes([7; 16]);
        assert!(!link_row(id, "knows well", id).starts_with(&link_prefix(id, Some("knows"))));
        assert!(link_row(id, "knows well", id).starts_with(&link_prefix(id, None)));
    }
}
