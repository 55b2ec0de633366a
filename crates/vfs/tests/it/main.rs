//! The tests of `keepstone-vfs` from outside: both file systems pass the suite, and what only one of them can do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "a test fails by panicking"
)]

mod simulated;

use std::path::Path;
use std::process::Command;

use keepstone_testkit::vfs_suite;
use keepstone_vfs::{LockError, MemoryVfs, OpenOptions, OsVfs, Vfs, VfsExt, VfsFileExt};

#[test]
fn the_operating_system_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    vfs_suite::run(&OsVfs::new(), dir.path());
}

/// Blocks are the file's, not only its length: where the file system cannot say so, they are written.
#[cfg(unix)]
#[test]
fn room_that_is_taken_is_the_files() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("room");
    let file = OsVfs::new().open(&path, OpenOptions::CREATE_NEW).unwrap();
    let taken = || std::fs::metadata(&path).unwrap().blocks() * 512;
    file.set_len(8 << 20).unwrap();
    assert!(taken() < 1 << 20, "a length alone took {} bytes", taken());
    file.allocate(1 << 20, 7 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(taken() >= 6 << 20, "{} bytes", taken());
}

#[test]
fn memory_passes_the_suite() {
    vfs_suite::run(&MemoryVfs::new(), Path::new("/"));
}

#[test]
fn a_snapshot_of_memory_is_a_copy_without_locks() {
    let disk = MemoryVfs::new();
    let path = Path::new("/a");
    disk.open(path, OpenOptions::CREATE_NEW).unwrap().write_all_at(b"before", 0).unwrap();
    let _lock = disk.lock(Path::new("/lock"), "someone").unwrap();
    let copy = disk.snapshot();
    disk.open(path, OpenOptions::WRITE).unwrap().write_all_at(b"after!", 0).unwrap();
    assert_eq!(copy.read_file(path, 10).unwrap(), b"before");
    assert!(copy.lock(Path::new("/lock"), "another").is_ok());
}

/// Child half of the next test: holds the lock of the path in its environment until its input ends.
#[test]
fn hold_a_lock_when_asked_to() {
    let Some(path) = std::env::var_os("KEEPSTONE_TEST_LOCK") else {
        return;
    };
    let _lock = OsVfs::new().lock(Path::new(&path), "process of a test").unwrap();
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[cfg(unix)]
#[test]
fn a_lock_excludes_other_processes_and_ends_with_them() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["hold_a_lock_when_asked_to", "--exact", "--nocapture"])
        .env("KEEPSTONE_TEST_LOCK", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "the child never held the lock");
    match OsVfs::new().lock(&path, "the parent").unwrap_err() {
        LockError::Held { holder, .. } => assert_eq!(holder, "process of a test"),
        other => panic!("expected a held lock, found {other}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(OsVfs::new().lock(&path, "the parent").unwrap());
}

#[test]
fn errors_name_operation_and_path() {
    let error = OsVfs::new().open(Path::new("/nowhere/at all"), OpenOptions::READ).unwrap_err();
    assert!(error.to_string().starts_with("cannot open /nowhere/at all: "), "{error}");
}
