//! What every [`Vfs`] must do. Call [`run`] with a file system and an empty directory of it.

use std::io::ErrorKind;
use std::path::Path;

use keepstone_vfs::{EntryKind, LockError, OpenOptions, Vfs, VfsExt, VfsFileExt};

/// Runs the whole suite.
///
/// # Panics
/// When the file system breaks a promise of its traits.
pub fn run(vfs: &dyn Vfs, dir: &Path) {
    opening(vfs, dir);
    reading_and_writing(vfs, dir);
    lengths(vfs, dir);
    allocating(vfs, dir);
    names(vfs, dir);
    directories(vfs, dir);
    locking(vfs, dir);
    replacing(vfs, dir);
    assert!(vfs.volume(dir).is_ok());
    assert!(vfs.volume(&dir.join("absent")).unwrap_err().is_not_found());
}

fn opening(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("opening");
    for options in [OpenOptions::READ, OpenOptions::WRITE] {
        assert!(vfs.open(&path, options).unwrap_err().is_not_found(), "{options:?} of a missing file");
    }
    let file = vfs.open(&path, OpenOptions::CREATE_NEW).unwrap();
    assert_eq!(file.path(), path);
    assert_eq!(file.len().unwrap(), 0);
    let again = vfs.open(&path, OpenOptions::CREATE_NEW).unwrap_err();
    assert_eq!(again.io_kind(), ErrorKind::AlreadyExists);
    let orphan = vfs.open(&dir.join("no").join("file"), OpenOptions::CREATE_NEW).unwrap_err();
    assert!(orphan.is_not_found());
    assert!(orphan.to_string().contains("no"), "an error names its path: {orphan}");

    file.write_all_at(b"shared", 0).unwrap();
    let reader = vfs.open(&path, OpenOptions::READ).unwrap();
    let mut bytes = [0; 6];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"shared", "handles of one file see each other's writes");
    assert!(reader.write_at(b"x", 0).is_err(), "a file opened for reading was written");
}

fn reading_and_writing(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("bytes"), OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(b"keep", 6).unwrap();
    let mut bytes = [9; 10];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"\0\0\0\0\0\0keep", "a gap reads as zeros");
    assert_eq!(file.read_at(&mut bytes, 10).unwrap(), 0, "nothing is read at the end");
    assert_eq!(file.read_at(&mut bytes, 1_000).unwrap(), 0, "nothing is read past the end");
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    assert_eq!(file.read_up_to_at(&mut bytes, 8).unwrap(), 2);
    let short = file.read_exact_at(&mut bytes, 8).unwrap_err();
    assert_eq!(short.io_kind(), ErrorKind::UnexpectedEof);
    file.write_all_at(b"KE", 6).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    assert_eq!(vfs.read_file(&dir.join("bytes"), 10).unwrap(), b"\0\0\0\0\0\0KEep");
    assert_eq!(vfs.read_file(&dir.join("bytes"), 9).unwrap_err().io_kind(), ErrorKind::InvalidData);
}

fn lengths(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("length"), OpenOptions::CREATE_NEW).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_all_at(b"abc", 0).unwrap();
    file.set_len(1).unwrap();
    file.set_len(3).unwrap();
    assert_eq!(vfs.read_file(&dir.join("length"), 3).unwrap(), b"a\0\0", "what was cut is gone");
}

fn allocating(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("room"), OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    file.allocate(9_000, 9_000).unwrap();
    file.allocate(9_000, 6).unwrap();
    assert_eq!(file.len().unwrap(), 6, "an empty range needs no room");
    file.allocate(6, 3_000_007).unwrap();
    assert_eq!(file.len().unwrap(), 3_000_007);
    let mut bytes = vec![9; 3_000_001];
    file.read_exact_at(&mut bytes, 6).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "room that was never written reads as zeros");
    file.write_all_at(b"after", 3_000_007).unwrap();
    file.allocate(10, 2_000_000).unwrap();
    assert_eq!(file.len().unwrap(), 3_000_012, "taking room cuts nothing off");
    let mut ends = [0; 11];
    file.read_exact_at(&mut ends[..6], 0).unwrap();
    file.read_exact_at(&mut ends[6..], 3_000_007).unwrap();
    assert_eq!(&ends, b"beforeafter", "what is not of the range stays");
    file.write_all_at(b"here", 1_000_000).unwrap();
    file.sync_data().unwrap();
    file.read_exact_at(&mut ends[..4], 1_000_000).unwrap();
    assert_eq!(&ends[..4], b"here");
    let reader = vfs.open(&dir.join("room"), OpenOptions::READ).unwrap();
    assert!(reader.allocate(0, 4_000_000).is_err(), "a file opened for reading took room");
    assert_eq!(reader.len().unwrap(), 3_000_012);
}

fn names(vfs: &dyn Vfs, dir: &Path) {
    let (old, new) = (dir.join("name-1"), dir.join("name-2"));
    assert!(vfs.rename(&old, &new).unwrap_err().is_not_found());
    assert!(vfs.remove(&old).unwrap_err().is_not_found());
    let file = vfs.open(&old, OpenOptions::CREATE_NEW).unwrap();
    file.write_all_at(b"1", 0).unwrap();
    vfs.open(&new, OpenOptions::CREATE_NEW).unwrap().write_all_at(b"2", 0).unwrap();
    drop(file);
    vfs.rename(&old, &new).unwrap();
    vfs.sync_dir(dir).unwrap();
    assert!(!vfs.exists(&old).unwrap());
    assert_eq!(vfs.read_file(&new, 1).unwrap(), b"1", "renaming replaces");
    vfs.remove(&new).unwrap();
    assert!(!vfs.exists(&new).unwrap());
}

fn directories(vfs: &dyn Vfs, dir: &Path) {
    let inner = dir.join("inner");
    assert!(vfs.list(&inner).unwrap_err().is_not_found());
    assert!(vfs.sync_dir(&inner).unwrap_err().is_not_found());
    assert!(!vfs.exists(&inner.join("x")).unwrap());
    vfs.create_dir(&inner).unwrap();
    vfs.create_dir(&inner).unwrap();
    assert!(vfs.create_dir(&dir.join("no").join("deeper")).unwrap_err().is_not_found());
    for name in ["b", "a"] {
        vfs.open(&inner.join(name), OpenOptions::CREATE_NEW)
            .unwrap()
            .write_all_at(name.as_bytes(), 4)
            .unwrap();
    }
    assert!(vfs.create_dir(&inner.join("a")).is_err(), "a file's name became a directory");
    vfs.create_dir(&inner.join("c")).unwrap();
    let found: Vec<_> =
        vfs.list(&inner).unwrap().into_iter().map(|entry| (entry.name, entry.kind, entry.len)).collect();
    let expected = [("a", EntryKind::File, 5), ("b", EntryKind::File, 5), ("c", EntryKind::Directory, 0)];
    assert_eq!(found, expected.map(|(name, kind, len)| (name.to_owned(), kind, len)));
    vfs.sync_dir(&inner).unwrap();
}

fn locking(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("lock");
    let lock = vfs.lock(&path, "the first holder").unwrap();
    match vfs.lock(&path, "the second").unwrap_err() {
        LockError::Held { holder, .. } => assert_eq!(holder, "the first holder"),
        other => panic!("expected a held lock, found {other}"),
    }
    drop(lock);
    drop(vfs.lock(&path, "the third").unwrap());
}

fn replacing(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("replaced");
    for content in [&b"long content"[..], b"short"] {
        vfs.replace_file(&path, content).unwrap();
        assert_eq!(vfs.read_file(&path, 100).unwrap(), content);
    }
    assert!(!vfs.exists(&dir.join("replaced.new")).unwrap(), "the staged file is gone");
}
