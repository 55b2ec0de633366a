//! `check` reads the disk again: what was damaged under an open store is found, and what can be healed is.

use std::path::{Path, PathBuf};

use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsFileExt};

use crate::support::{DIR, MemoryStore, keys, put};

fn segment(vfs: &MemoryVfs) -> PathBuf {
    let log = Path::new(DIR).join("log");
    let entries = vfs.list(&log).unwrap();
    log.join(&entries.iter().find(|entry| entry.name.ends_with(".wal")).unwrap().name)
}

fn overwrite(store: &MemoryStore, offset: u64, len: usize) {
    let file = store.vfs.open(&segment(&store.vfs), OpenOptions::WRITE).unwrap();
    file.write_all_at(&vec![0xA5; len], offset).unwrap();
}

fn filled() -> (MemoryStore, keepstone_mvcc_temporal::Database) {
    let store = MemoryStore::new();
    let database = store.open();
    for number in 0..20 {
        put(&database, &format!("{number:02}"), "v");
    }
    (store, database)
}

#[test]
fn a_sound_store_has_no_findings() {
    let (_store, database) = filled();
    let report = database.check().unwrap();
    assert!(report.is_sound() && report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.commits, report.rows, report.tables, report.names), (20, 21, 1, 0));
}

#[test]
fn one_lost_sector_is_healed_and_reported() {
    let (store, database) = filled();
    overwrite(&store, 8_192 + 6 * 4_096, 4_096);
    let report = database.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.healed), "{:?}", report.findings);
    assert_eq!(database.check().unwrap().findings, [], "it was healed on disk");
    assert_eq!(keys(&store.killed().open(), ..).len(), 20);
}

#[test]
fn more_than_can_be_healed_is_found_with_its_place() {
    let (store, database) = filled();
    overwrite(&store, 8_192 + 6 * 4_096, 4 * 4_096);
    let report = database.check().unwrap();
    assert!(!report.is_sound());
    let shown: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(shown.iter().any(|finding| finding.contains(".wal at byte ")), "{shown:?}");
    assert_eq!(keys(&database, ..).len(), 20, "memory still has everything");
}
