//! Holds `FORMAT.md` against the code: table names, and every example byte by byte.

use keepstone_types::{Address, CodecId, NodeId, Timestamp, ValueRef};

use crate::catalog::CollectionRecord;
use crate::layout::{self, AddressRow, CollectionId, KeyEntry};
use crate::record::NodeRecord;

const PAGE: &str = include_str!("../FORMAT.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn row(key: &[u8], value: &[u8]) -> Vec<String> {
    vec![format!("{} → {}", hex(key), hex(value))]
}

/// The examples of the page, in order.
fn examples() -> Vec<Vec<String>> {
    let collection = CollectionId::of_name("c");
    let id = |byte| NodeId::from_bytes([byte; 16]);
    let node = NodeRecord {
        label: Some("L".to_owned()),
        body: Some(ValueRef::copy_from(&[7])),
        ..NodeRecord::new(collection, "k")
    };
    let record = CollectionRecord {
        codec: CodecId::MESSAGE_PACK,
        fingerprint_bits: Some(64),
        embedding_dimension: None,
        name: "c".to_owned(),
        schema: "s".to_owned(),
    };
    let entry = KeyEntry { id: id(1), reserved: true };
    let address = Address::new(0x10, 2);
    let held = AddressRow { id: id(1), expires: Some(Timestamp::from_micros(1_000_000)) };
    vec![
        vec![hex(&node.encode())],
        vec![hex(&record.encode())],
        row(&layout::key_row(collection, "k"), &entry.encode()),
        row(&layout::link_row(id(1), "v", id(2)), &layout::weight_value(0.5)),
        row(&layout::address_row(address), &held.encode()),
    ]
}

#[test]
fn the_page_shows_what_the_code_writes() {
    let shown: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert_eq!(shown, examples().concat());
}

#[test]
fn the_page_names_every_table() {
    let tables = [
        layout::COLLECTIONS,
        layout::KEYS,
        layout::NODES,
        layout::FINGERPRINTS,
        layout::EMBEDDINGS,
        layout::LINKS_OUT,
        layout::LINKS_IN,
        layout::ADDRESSES,
        layout::ADDRESSES_OF,
    ];
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(table, _)| table).collect::<Vec<_>>(), tables);
}
