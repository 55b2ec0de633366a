//! Rows that the store would never write: put there past the facade, each is found by `check`, and reading one is a typed
//! error, never a panic or a wrong answer.

use std::path::Path;
use std::sync::Arc;

use keepstone::{Direction, Fingerprint, NodeId, NodePatch, OpenError, ReadError, Store};
use keepstone_mvcc_temporal::{Database, DatabaseOptions, WriteError};

use crate::{Disk, assert_sound};

/// A row: its table, its key, and its value unless it is deleted.
type Row = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// A store with two nodes, a link, a reserved id, vectors and an address, and the ids of node `a` and of the reserved one.
fn made(disk: &Disk) -> (NodeId, NodeId) {
    let store = disk.open();
    let nodes = store.collection::<u8>("c").unwrap();
    let patch = NodePatch::body(1).embedding([1.0]).fingerprint(Fingerprint::from_bytes(vec![1; 8]).unwrap());
    let id = store
        .write(|txn| {
            let id = nodes.put_node(txn, "a", &patch)?;
            nodes.put(txn, "b", &2)?;
            nodes.link(txn, "a", "v", "b", 1.0)?;
            nodes.link(txn, "a", "v", "later", 1.0)?;
            store.address_put(txn, keepstone::Address::new(0x80, 0), id)?;
            Ok(id)
        })
        .unwrap()
        .value;
    let later = nodes.links(&store, "later", Direction::In).next().unwrap().unwrap();
    assert_eq!(later.id, id);
    let reserved = nodes.links(&store, "a", Direction::Out).map(Result::unwrap).find(|link| !link.written);
    assert_sound(&store);
    store.close().unwrap();
    (id, reserved.unwrap().id)
}

fn put(disk: &Disk, rows: &[Row]) {
    let (vfs, clock) = (Arc::clone(&disk.vfs), Arc::clone(&disk.clock));
    let database = Database::open_with(vfs, clock, Path::new("/store"), DatabaseOptions::default()).unwrap();
    database
        .write(|txn| -> Result<(), WriteError> {
            for (table, key, value) in rows {
                match value {
                    Some(value) => txn.put(table, key, value.clone())?,
                    None => txn.delete(table, key)?,
                }
            }
            Ok(())
        })
        .unwrap();
    database.close().unwrap();
}

/// The first row of a table, as it is stored.
fn first_row(disk: &Disk, table: &'static str) -> (Vec<u8>, Vec<u8>) {
    use keepstone_mvcc_temporal::{KeyRange, Read as _};
    let (vfs, clock) = (Arc::clone(&disk.vfs), Arc::clone(&disk.clock));
    let database = Database::open_with(vfs, clock, Path::new("/store"), DatabaseOptions::default()).unwrap();
    let (key, value) = database.scan(table, KeyRange::all()).unwrap().next().unwrap().unwrap();
    database.close().unwrap();
    (key.to_vec(), value.to_vec())
}

/// Opens the damaged store, holds that `check` finds something in the table, and that nothing panics.
fn check(disk: &Disk, table: &str) {
    let store = disk.open();
    let report = store.check().unwrap();
    assert!(!report.is_sound(), "{table}: nothing was found");
    let place = format!("of table {table}");
    assert!(
        report.findings.iter().any(|finding| finding.place.ends_with(&place)),
        "{table}: {:#?}",
        report.findings
    );
    read_everything(&store);
}

/// Reads all there is; errors are fine, panics are not.
fn read_everything(store: &Store) {
    let nodes = match store.collection::<u8>("c") {
        Ok(nodes) => nodes,
        Err(error) => {
            assert!(matches!(error, OpenError::Read(_)) && error.is_damage(), "{error}");
            return;
        }
    };
    let mut errors = Vec::new();
    for key in ["a", "b", "later"] {
        errors.extend(nodes.node(store, key).err());
        for direction in [Direction::In, Direction::Out] {
            errors.extend(nodes.links(store, key, direction).filter_map(Result::err));
        }
        errors.extend(nodes.history(store, key).filter_map(Result::err));
    }
    errors.extend(nodes.iter(store).filter_map(Result::err));
    errors.extend(store.addresses(store).err());
    errors.extend(store.diff(keepstone::Version::ZERO, store.visible_version()).err());
    for error in errors {
        assert!(error.is_damage() || matches!(error, ReadError::Body { .. }), "{error}");
    }
}

#[test]
fn every_kind_of_bad_row_is_found() {
    const TABLES: [&str; 9] = [
        "collections",
        "keys",
        "nodes",
        "fingerprints",
        "embeddings",
        "links.out",
        "links.in",
        "addresses",
        "addresses.of",
    ];
    for table in TABLES {
        let disk = Disk::new();
        made(&disk);
        let (key, value) = first_row(&disk, table);
        // Cut, foreign bytes, and a key that nothing can have.
        let bad_values: &[Option<Vec<u8>>] = match table {
            "addresses.of" => &[],
            "fingerprints" | "embeddings" => &[Some(vec![1, 2, 3]), Some(vec![0; 16])],
            _ => &[Some(Vec::new()), Some(vec![0xFF; 40]), Some(value[..value.len() - 1].to_vec())],
        };
        for bad in bad_values {
            put(&disk, &[(table, key.clone(), bad.clone())]);
            check(&disk, table);
            put(&disk, &[(table, key.clone(), Some(value.clone()))]);
            assert_sound(&disk.open());
        }
        let foreign = vec![0xFE; 5];
        put(&disk, &[(table, foreign.clone(), Some(value.clone()))]);
        check(&disk, table);
        put(&disk, &[(table, foreign, None)]);
        assert_sound(&disk.open());
    }
}

#[test]
fn rows_that_do_not_fit_each_other_are_found() {
    let disk = Disk::new();
    let (id, reserved) = made(&disk);
    let row = |table| first_row(&disk, table);
    let (links_out, links_in, node) = (row("links.out"), row("links.in"), row("nodes"));
    let bytes = |id: NodeId| id.to_bytes().to_vec();
    let missing = |table, key: &Vec<u8>| (table, key.clone(), None);
    let flagged = |byte: u8| {
        let mut value = node.1.clone();
        value[1] = byte;
        value
    };
    let cases: [(&str, Vec<Row>); 8] = [
        ("links.in", vec![missing("links.out", &links_out.0)]),
        ("links.out", vec![missing("links.in", &links_in.0)]),
        ("links.out", vec![("links.out", links_out.0.clone(), Some(2.0_f64.to_le_bytes().to_vec()))]),
        ("keys", vec![missing("nodes", &bytes(id))]),
        ("nodes", vec![missing("keys", &row("keys").0)]),
        ("keys", vec![("nodes", node.0.clone(), Some(flagged(node.1[1] | 1)))]),
        ("addresses", vec![missing("addresses.of", &row("addresses.of").0)]),
        ("nodes", vec![missing("links.in", &links_row_of(&disk, reserved))]),
    ];
    for (table, rows) in cases {
        let copy = Disk { vfs: Arc::new(disk.vfs.snapshot()), clock: Arc::clone(&disk.clock) };
        put(&copy, &rows);
        check(&copy, table);
    }
}

/// The key of the link that names the reserved id.
fn links_row_of(disk: &Disk, reserved: NodeId) -> Vec<u8> {
    use keepstone_mvcc_temporal::{KeyRange, Read as _};
    let (vfs, clock) = (Arc::clone(&disk.vfs), Arc::clone(&disk.clock));
    let database = Database::open_with(vfs, clock, Path::new("/store"), DatabaseOptions::default()).unwrap();
    let mut rows = database.scan("links.in", KeyRange::prefix(reserved.to_bytes())).unwrap();
    let (key, _) = rows.next().unwrap().unwrap();
    key.to_vec()
}
