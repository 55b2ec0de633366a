//! A page file that is damaged, missing, or another store's: each is a typed error that says where, what else can be read is
//! read, and nothing is written to what is not understood.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepstone::{Access, OpenError, Parity, ReadError, Store, StoreOptions};
use tempfile::TempDir;

use crate::assert_sound;

const PAGE: usize = 4_096;
const NODES: usize = 2_000;
/// Where a page says what it is.
const KIND_AT: usize = 14;
const KIND_REGION: u8 = 1;
const KIND_LEAF: u8 = 16;
/// The slots of the two copies of the two headers.
const HEADER_SLOTS: [usize; 4] = [1, 62, 2, 63];

fn options() -> StoreOptions {
    StoreOptions::new()
        .page_size(4_096)
        // What is damaged is not healed.
        .parity(Parity::Off)
        .checkpoint_memory_bytes(0)
        .checkpoint_log_bytes(0)
        .checkpoint_age(Duration::ZERO)
        .checkpoint_idle(Duration::ZERO)
}

fn body(number: usize) -> String {
    format!("<body of {number:06}> {}", "x".repeat(200))
}

/// A closed store on disk.
struct Made {
    _folder: TempDir,
    dir: PathBuf,
}

impl Made {
    /// All of it in the page file.
    fn new() -> Self {
        let made = Self::empty();
        made.fill(0..NODES);
        made
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("store");
        Self { _folder: folder, dir }
    }

    /// Puts nodes and folds them.
    fn fill(&self, numbers: std::ops::Range<usize>) {
        let store = options().open(&self.dir).unwrap();
        let nodes = store.collection::<String>("nodes").unwrap();
        let put =
            |txn: &mut _, number: usize| nodes.put(txn, &format!("key {number:06}"), &body(number)).map(drop);
        store.write(|txn| numbers.clone().try_for_each(|number| put(txn, number))).unwrap();
        store.checkpoint().unwrap();
        store.close().unwrap();
    }

    fn pages(&self) -> PathBuf {
        self.dir.join("pages")
    }

    /// Changes the page file.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.pages()).unwrap();
        change(&mut bytes);
        fs::write(self.pages(), bytes).unwrap();
    }

    fn open(&self) -> Result<Store, OpenError> {
        options().open(&self.dir)
    }

    /// Holds that the store does not open, that nothing is written, and gives the error.
    #[track_caller]
    fn refused(&self) -> OpenError {
        let before = files(&self.dir);
        let mut found = None;
        for access in [Access::Write, Access::ReadOnly, Access::WriteIfFree] {
            let error = options().access(access).open(&self.dir).unwrap_err();
            // Not compared as a whole: a difference would be printed byte by byte.
            let after = files(&self.dir);
            let is_same = |(path, bytes): (&PathBuf, &Vec<u8>)| before.get(path) == Some(bytes);
            let written: Vec<_> = after.iter().filter(|file| !is_same(*file)).map(|(path, _)| path).collect();
            let removed: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
            assert!(
                written.is_empty() && removed.is_empty(),
                "{access:?} wrote {written:?}, removed {removed:?}: {error}"
            );
            assert!(!error.is_retryable(), "{error}");
            found = Some(error);
        }
        found.unwrap()
    }
}

/// Every file below a folder with its content, but for the lock and the room that is prepared for the log.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") && !path.to_string_lossy().contains("log/spare-") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips a bit in every page of a kind that holds the text.
fn flip(bytes: &mut [u8], kind: u8, text: &[u8]) -> usize {
    let mut flipped = 0;
    for page in bytes.chunks_mut(PAGE).skip(3) {
        let has = text.is_empty() || page.windows(text.len()).any(|window| window == text);
        if page[KIND_AT] == kind && has {
            page[PAGE / 2] ^= 1;
            flipped += 1;
        }
    }
    flipped
}

/// Nodes that can be read, and the errors of the others.
fn read_all(store: &Store) -> (usize, Vec<ReadError>) {
    let nodes = store.collection::<String>("nodes").unwrap();
    let (mut right, mut errors) = (0, Vec::new());
    for number in 0..NODES {
        match nodes.get(store, &format!("key {number:06}")) {
            Ok(found) => {
                assert_eq!(found, Some(body(number)));
                right += 1;
            }
            Err(error) => errors.push(error),
        }
    }
    (right, errors)
}

#[test]
fn a_flipped_page_costs_its_rows_and_no_others() {
    let made = Made::new();
    let text = body(1_234);
    made.change(|bytes| assert!(flip(bytes, KIND_LEAF, &text.as_bytes()[..16]) >= 1));
    let store = made.open().unwrap();
    let (right, errors) = read_all(&store);
    assert!(right > NODES * 9 / 10 && !errors.is_empty(), "{right} of {NODES} can be read");
    for error in &errors {
        assert!(matches!(error, ReadError::DamagedFile { .. }) && error.is_damage(), "{error:?}");
        assert_eq!((error.kind().as_str(), error.is_retryable()), ("damaged-file", false));
        let text = error.to_string();
        for part in ["pages: page ", " at byte ", "expected ", "found ", "keepstone check"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
    let report = store.check().unwrap();
    assert!(!report.is_sound() && !report.loses_nothing(), "{report:?}");
    assert!(
        report.findings.iter().all(|finding| finding.to_string().contains("pages: page ")),
        "{:#?}",
        report.findings
    );
    assert!(report.rows_unchecked > 0);
    // What a page held cannot be made up: a repair says so and changes nothing.
    let before = fs::read(made.pages()).unwrap();
    let repair = store.repair().unwrap();
    assert!(repair.gc.is_none() && repair.repaired().is_empty() && !repair.after.is_sound());
    assert!(fs::read(made.pages()).unwrap() == before, "something was written");
    // Other rows can still be written.
    let nodes = store.collection::<String>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "key 000000", &"new".to_owned())).unwrap();
    assert_eq!(nodes.get(&store, "key 000000").unwrap().as_deref(), Some("new"));
}

#[test]
fn a_damaged_free_space_map_is_made_anew() {
    let made = Made::new();
    made.change(|bytes| assert!(flip(bytes, KIND_REGION, b"") >= 1));
    let store = made.open().unwrap();
    assert_eq!(read_all(&store).0, NODES, "everything is read without the map");
    let report = store.check().unwrap();
    assert!(!report.is_sound() && report.loses_nothing(), "{:#?}", report.findings);
    let dry = store.gc(true).unwrap();
    assert!(dry.findings > 0 && !dry.rebuilt, "{dry:?}");
    let repair = store.repair().unwrap();
    assert!(repair.gc.as_ref().is_some_and(|gc| gc.rebuilt), "{repair:?}");
    assert!(repair.after.is_sound() && !repair.repaired().is_empty(), "{:#?}", repair.after.findings);
    assert_sound(&store);
    let nodes = store.collection::<String>("nodes").unwrap();
    store.write(|txn| nodes.put(txn, "after", &"it".to_owned())).unwrap();
    store.checkpoint().unwrap();
    store.close().unwrap();
    let store = made.open().unwrap();
    assert_eq!(read_all(&store).0, NODES);
    assert_sound(&store);
}

#[test]
fn headers_may_be_lost_until_none_is_left() {
    let sound = Made::new();
    for lost in 1..16_u32 {
        let made = Made::empty();
        copy(&sound.dir, &made.dir);
        let slots: Vec<_> =
            (0..4).filter(|slot| lost & (1 << slot) != 0).map(|slot| HEADER_SLOTS[slot]).collect();
        made.change(|bytes| slots.iter().for_each(|slot| bytes[slot * PAGE..][..PAGE].fill(0)));
        if slots.len() == HEADER_SLOTS.len() {
            let error = made.refused();
            assert!(matches!(error, OpenError::Pages { .. }) && error.is_damage(), "{error:?}");
            assert_eq!(error.kind().as_str(), "damaged");
            assert!(error.to_string().contains("header"), "{error}");
            continue;
        }
        let store = made.open().unwrap_or_else(|error| panic!("without slots {slots:?}: {error}"));
        let (right, errors) = read_all(&store);
        assert!(right == NODES && errors.is_empty(), "without slots {slots:?}: {errors:?}");
        assert_sound(&store);
        let nodes = store.collection::<String>("nodes").unwrap();
        store.write(|txn| nodes.put(txn, "key 000000", &body(0))).unwrap();
        store.checkpoint().unwrap();
        store.close().unwrap();
        assert_eq!(read_all(&made.open().unwrap()).0, NODES);
    }
}

#[test]
fn a_missing_page_file_is_told() {
    let made = Made::new();
    fs::remove_file(made.pages()).unwrap();
    let error = made.refused();
    assert_eq!((error.kind().as_str(), error.is_damage()), ("missing-pages", true));
    let text = error.to_string();
    assert!(text.contains("pages") && text.contains("restore the whole store from a backup"), "{text}");
}

#[test]
fn a_missing_log_is_told() {
    let made = Made::new();
    fs::remove_dir_all(made.dir.join("log")).unwrap();
    let error = made.refused();
    assert!(error.is_damage(), "{error:?}");
    assert!(error.to_string().contains("log"), "{error}");
}

#[test]
fn the_page_file_of_another_store_is_told() {
    let (made, other) = (Made::new(), Made::new());
    fs::copy(other.pages(), made.pages()).unwrap();
    let error = made.refused();
    assert_eq!((error.kind().as_str(), error.is_damage()), ("foreign-store", true));
    assert!(error.to_string().contains("put back the file that belongs to this store"), "{error}");
}

#[test]
fn a_page_file_from_before_the_last_checkpoint_is_told() {
    let made = Made::new();
    let old = fs::read(made.pages()).unwrap();
    made.fill(0..NODES / 2);
    made.fill(0..NODES / 4);
    fs::write(made.pages(), old).unwrap();
    let error = made.refused();
    assert!(["pages-behind", "missing-records"].contains(&error.kind().as_str()), "{error:?}");
    assert!(error.is_damage() && error.to_string().contains("from a backup"), "{error}");
}

#[test]
fn a_log_from_before_the_last_checkpoint_is_told() {
    let made = Made::new();
    let old = tempfile::tempdir().unwrap();
    copy(&made.dir.join("log"), old.path());
    made.fill(0..NODES / 2);
    fs::remove_dir_all(made.dir.join("log")).unwrap();
    copy(old.path(), &made.dir.join("log"));
    let error = made.refused();
    // The page file knows how far the log was on disk.
    assert_eq!((error.kind().as_str(), error.is_damage()), ("damaged", true), "{error}");
    assert!(error.to_string().contains(".wal at byte"), "{error}");
}
