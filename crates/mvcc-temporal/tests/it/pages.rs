//! A page file that is damaged, missing, foreign, older or newer than the log: a clear error, nothing written, nothing
//! guessed, and the rest readable.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use keepstone_mvcc_temporal::{Database, Read, ReadError, Recovery, Retention, ScrubOptions};
use keepstone_vfs::{MemoryVfs, OpenOptions, Vfs, VfsExt, VfsFileExt};

use crate::support::{DIR, MemoryStore, T, get, options, put};

const PAGE: u64 = 4_096;

fn pages() -> PathBuf {
    Path::new(DIR).join("pages")
}

/// A store with a hundred rows folded, and one behind them.
fn folded() -> MemoryStore {
    let store = MemoryStore::new();
    let database = store.open_with(options().page_size(4_096)).unwrap();
    write_hundred(&database, "first");
    database.checkpoint().unwrap();
    put(&database, "late", "1");
    database.close().unwrap();
    store
}

fn write_hundred(database: &Database, what: &str) {
    let mut txn = database.begin().unwrap();
    for number in 0..100 {
        txn.put(T, format!("{number:03}"), format!("{what} {number} {}", "x".repeat(200)).into_bytes())
            .unwrap();
    }
    txn.commit().unwrap();
}

fn bytes(vfs: &MemoryVfs, path: &Path) -> Vec<u8> {
    vfs.read_file(path, 1 << 30).unwrap()
}

/// Every file of the store, but the lock.
fn files(vfs: &MemoryVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for dir in [Path::new(DIR).to_path_buf(), Path::new(DIR).join("log")] {
        let entries = vfs.list(&dir).unwrap_or_default();
        let names = entries.into_iter().filter(|entry| entry.name != "log" && !entry.name.contains("LOCK"));
        found.extend(names.map(|entry| {
            let path = dir.join(entry.name);
            let content = bytes(vfs, &path);
            (path, content)
        }));
    }
    found
}

fn overwrite(vfs: &MemoryVfs, path: &Path, offset: u64, with: &[u8]) {
    vfs.open(path, OpenOptions::WRITE).unwrap().write_all_at(with, offset).unwrap();
}

fn replace(vfs: &MemoryVfs, path: &Path, with: &[u8]) {
    vfs.remove(path).unwrap();
    vfs.open(path, OpenOptions::CREATE_NEW).unwrap().write_all_at(with, 0).unwrap();
}

/// Opening is refused with this kind of error, its text names something, and nothing is written.
fn is_refused(store: &MemoryStore, kind: &str, names: &str) {
    let before = files(&store.vfs);
    let error = store.open_with(options()).unwrap_err();
    assert_eq!(error.kind().as_str(), kind, "{error}");
    assert!(error.to_string().contains(names), "{error}");
    assert!(files(&store.vfs) == before, "{kind}: nothing is written");
}

#[test]
fn headers_that_are_gone() {
    let header = |slots: &[u64]| {
        let store = folded();
        slots.iter().for_each(|slot| overwrite(&store.vfs, &pages(), slot * PAGE, &[0; 4_096]));
        store
    };
    for slot in [1, 2, 62, 63] {
        let database = header(&[slot]).open();
        assert_eq!(get(&database, "late").as_deref(), Some("1"), "slot {slot}");
        assert!(database.check().unwrap().is_sound());
    }
    for slots in [[1, 62], [2, 63]] {
        let database = header(&slots).open();
        assert_eq!(get(&database, "late").as_deref(), Some("1"), "slots {slots:?}");
        assert_eq!(get(&database, "099").unwrap()[..8], *"first 99");
        assert!(database.check().unwrap().is_sound());
    }
    is_refused(&header(&[1, 2, 62, 63]), "damaged", "pages");
}

#[test]
fn a_page_file_that_is_missing_cut_foreign_or_something_else() {
    let store = folded();
    store.vfs.remove(&pages()).unwrap();
    is_refused(&store, "missing-pages", "pages");

    let store = folded();
    replace(&store.vfs, &pages(), b"something else altogether, and long enough to be read");
    is_refused(&store, "damaged", "pages");

    let (store, other) = (folded(), folded());
    replace(&store.vfs, &pages(), &bytes(&other.vfs, &pages()));
    is_refused(&store, "foreign-store", "store");

    let store = folded();
    let whole = bytes(&store.vfs, &pages());
    replace(&store.vfs, &pages(), &whole[..8 * 4_096]);
    match store.open_with(options()) {
        Err(error) => assert!(error.is_damage(), "{error}"),
        Ok(database) => {
            let read = database.get(T, "050");
            assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
        }
    }
}

#[test]
fn a_page_file_that_is_older_than_the_log_and_the_reverse() {
    // The page file of an earlier day.
    let store = folded();
    let old_pages = bytes(&store.vfs, &pages());
    let old_log =
        files(&store.vfs).into_iter().filter(|(path, _)| path.starts_with(Path::new(DIR).join("log")));
    let old_log: Vec<_> = old_log.collect();
    let database = store.open();
    for round in 0..30 {
        write_hundred(&database, &format!("round {round}"));
    }
    database.checkpoint().unwrap();
    put(&database, "later", "2");
    database.close().unwrap();
    let behind = store.killed();
    let new_pages = bytes(&behind.vfs, &pages());
    replace(&behind.vfs, &pages(), &old_pages);
    let error = behind.open_with(options()).unwrap_err();
    assert_eq!(error.kind().as_str(), "missing-records", "{error}");
    assert!(error.to_string().contains("restore"), "{error}");
    replace(&behind.vfs, &pages(), &new_pages);
    let restored = behind.open();
    assert_eq!(get(&restored, "later").as_deref(), Some("2"), "with the right page file all is there");
    assert!(restored.check().unwrap().is_sound());

    // The log of an earlier day.
    let ahead = store.killed();
    for (path, _) in
        files(&ahead.vfs).into_iter().filter(|(path, _)| path.starts_with(Path::new(DIR).join("log")))
    {
        ahead.vfs.remove(&path).unwrap();
    }
    for (path, content) in old_log {
        ahead.vfs.open(&path, OpenOptions::CREATE_NEW).unwrap().write_all_at(&content, 0).unwrap();
    }
    let error = ahead.open_with(options()).unwrap_err();
    assert!(error.is_damage(), "{error}");
    let at_checkpoint = ahead.open_with(options().recovery(Recovery::ReadOnlyAtCheckpoint)).unwrap();
    assert_eq!(get(&at_checkpoint, "000").unwrap()[..8], *"round 29");

    // No log at all.
    let alone = store.killed();
    for (path, _) in
        files(&alone.vfs).into_iter().filter(|(path, _)| path.starts_with(Path::new(DIR).join("log")))
    {
        alone.vfs.remove(&path).unwrap();
    }
    assert!(alone.open_with(options()).unwrap_err().is_damage());
}

/// The slots that a byte of is changed in turn; every read gives the right row or an error that names file and page.
#[test]
fn every_page_that_rots_is_found_by_who_reads_it() {
    let store = folded();
    let slots = bytes(&store.vfs, &pages()).len() as u64 / PAGE;
    let mut found = 0;
    for slot in (3..slots).filter(|slot| !(61..64).contains(slot)) {
        let store = store.killed();
        let at = slot * PAGE + 700;
        let before = bytes(&store.vfs, &pages())[at as usize];
        overwrite(&store.vfs, &pages(), at, &[before ^ 0x10]);
        let database = match store.open_with(options()) {
            Ok(database) => database,
            Err(error) => {
                assert!(error.is_damage(), "slot {slot}: {error}");
                found += 1;
                continue;
            }
        };
        let mut damaged = 0;
        for number in 0..100 {
            match database.get(T, format!("{number:03}")) {
                Ok(Some(value)) => assert!(value.starts_with(format!("first {number} ").as_bytes())),
                Ok(None) => panic!("slot {slot}: row {number} is gone without a word"),
                Err(error @ ReadError::Damaged { .. }) => {
                    let text = error.to_string();
                    assert!(text.contains("pages") && text.contains(&format!("page {slot}")), "{text}");
                    damaged += 1;
                }
                Err(error) => panic!("slot {slot}: {error}"),
            }
        }
        assert_eq!(get(&database, "late").as_deref(), Some("1"), "slot {slot}: the rest is readable");
        let report = database.check().unwrap();
        assert!(damaged == 0 || !report.is_sound(), "slot {slot}: check finds what reads find");
        found += i32::from(!report.is_sound());
    }
    assert!(found >= 8, "{found} of {slots} slots hold something");
}

#[test]
fn a_free_space_map_that_rots_is_made_anew() {
    let store = MemoryStore::new();
    let small = || options().page_size(4_096).retention(Retention::None);
    let database = store.open_with(small()).unwrap();
    write_hundred(&database, "first");
    database.checkpoint().unwrap();
    let sound = database.gc(true).unwrap();
    assert_eq!((sound.findings, sound.rebuilt), (0, false));
    drop(database);
    // A page of the map has kind 1 behind checksum and generation.
    let whole = bytes(&store.vfs, &pages());
    let kinds = whole.chunks(4_096).enumerate().filter(|(slot, _)| ![0, 1, 2, 61, 62, 63].contains(slot));
    let maps: Vec<u64> =
        kinds.filter(|(_, page)| page.get(14) == Some(&1)).map(|(slot, _)| slot as u64).collect();
    assert!(!maps.is_empty());
    maps.iter().for_each(|slot| overwrite(&store.vfs, &pages(), slot * PAGE + 100, &[0xFF; 64]));
    let database = store.open_with(small()).unwrap();
    assert_eq!(get(&database, "042").unwrap()[..8], *"first 42", "what is there is read");
    let report = database.check().unwrap();
    assert!(!report.is_sound());
    let dry = database.gc(true).unwrap();
    assert!(dry.findings > 0 && !dry.rebuilt, "{dry:?}");
    let done = database.gc(false).unwrap();
    assert!(done.rebuilt, "{done:?}");
    write_hundred(&database, "second");
    database.checkpoint().unwrap();
    assert!(database.check().unwrap().is_sound());
    assert_eq!(get(&database, "042").unwrap()[..9], *"second 42");
}

/// With parity every page of a real store, tables, history, values and map, is damaged in turn: the store reads as before,
/// and a scrub writes back what was there, byte for byte. Turned on by a store in use, and off again.
#[test]
fn with_parity_every_page_may_be_damaged() {
    let store = MemoryStore::new();
    let database = store.open_with(options().page_size(4_096).retention(Retention::Forever)).unwrap();
    for what in ["first", "second", "third"] {
        write_hundred(&database, what);
        let mut txn = database.begin().unwrap();
        txn.put(T, "large", what.repeat(5_000).into_bytes()).unwrap();
        txn.commit().unwrap();
        database.checkpoint().unwrap();
    }
    database.set_parity(true).unwrap();
    write_hundred(&database, "fourth");
    database.checkpoint().unwrap();
    database.close().unwrap();
    drop(store.open());
    let whole = bytes(&store.vfs, &pages());
    let scrub = |database: &Database| {
        let options = ScrubOptions::default().repair(true);
        database.scrub(&options, |_| ControlFlow::Continue(())).unwrap()
    };
    let mut kinds = std::collections::BTreeMap::<u8, u32>::new();
    for slot in 3..whole.len() as u64 / PAGE {
        let kind = whole[(slot * PAGE + 14) as usize];
        if (61..64).contains(&slot) || kind == 0 {
            continue;
        }
        overwrite(&store.vfs, &pages(), slot * PAGE + 90, &[0xA7; 200]);
        let database = store.open();
        assert_eq!(get(&database, "large").unwrap(), "third".repeat(5_000));
        assert_eq!(get(&database, "050").unwrap()[..9], *"fourth 50");
        let found = scrub(&database);
        assert_eq!(found.unrepairable, 0, "slot {slot} of kind {kind}: {found:?}");
        assert!(database.check().unwrap().is_sound(), "slot {slot} of kind {kind}");
        assert_eq!(scrub(&database).findings, [], "slot {slot} of kind {kind}");
        database.close().unwrap();
        if bytes(&store.vfs, &pages())[(slot * PAGE) as usize..][..4_096]
            == whole[(slot * PAGE) as usize..][..4_096]
        {
            *kinds.entry(kind).or_default() += 1;
        }
        replace(&store.vfs, &pages(), &whole);
    }
    println!("healed by kind: {kinds:?}");
    assert!(kinds.len() >= 6 && [1, 2, 3].iter().all(|kind| kinds.contains_key(kind)), "{kinds:?}");
    let database = store.open();
    database.set_parity(false).unwrap();
    assert!(database.check().unwrap().is_sound());
    assert_eq!(get(&database, "050").unwrap()[..9], *"fourth 50");
}
