//! A disk that is really full: a small file system of memory, filled by the command until nothing more fits.
//!
//! Mounting one takes rights that not everybody has; without them the test says that it was left out. What the log does
//! on a full disk is held everywhere by `wal/tests/crash/failing.rs`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Run, json, json_lines, keepstone, run_with};

/// Bytes of the whole disk.
const DISK_BYTES: usize = 16 << 20;

/// A small disk that goes when it is dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `Err` with what `mount` says when it may not.
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "keepstone-test"]).arg(folder.path()).stdin(Stdio::null());
        let output = mount.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self { folder })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Runs the command on the store of this disk.
    fn run(&self, args: &[&str], input: &str) -> Run {
        let mut command = keepstone();
        command.arg("-s").arg(self.folder.path().join("store")).args(args);
        run_with(command, input.as_bytes())
    }

    #[track_caller]
    fn ok(&self, args: &[&str], input: &str) -> String {
        let run = self.run(args, input);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
        run.stdout
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.folder.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A disk, or `None` where nobody may mount one.
fn small_disk() -> Option<SmallDisk> {
    match SmallDisk::mount() {
        Ok(disk) => Some(disk),
        Err(said) => {
            // Past the capture of a test that passes, so that it is seen.
            writeln!(std::io::stderr(), "left out: a small tmpfs needs root").unwrap_or_default();
            let refused = ["ermission denied", "superuser", "not permitted", "ermission", "No such file"];
            assert!(refused.iter().any(|part| said.contains(part)), "{said}");
            None
        }
    }
}

fn line(round: usize, number: usize, len: usize) -> String {
    let key = format!("k{round}-{number}");
    let text = format!("{key} ").repeat(len / 6);
    format!("{{\"key\":\"{key}\",\"body\":\"{text}\"}}\n")
}

/// Imports until the disk is full; gives the acknowledged keys with their bodies.
fn fill(disk: &SmallDisk, round: usize, len: usize) -> BTreeMap<String, Value> {
    let input: String = (0..2 * DISK_BYTES / len).map(|number| line(round, number, len)).collect();
    let run = disk.run(&["import", "-", "--batch", "1", "--ack"], &input);
    assert!(says_full(&run).contains("make room"), "{}", run.stderr);
    let acked: Vec<_> = run.stdout.lines().map(|ack| ack.rsplit(' ').next().unwrap().to_owned()).collect();
    let sent = json_lines(&input);
    let is_acked = |node: &&Value| acked.iter().any(|key| node["key"] == **key);
    let kept: BTreeMap<_, _> = sent
        .iter()
        .filter(is_acked)
        .map(|node| (node["key"].as_str().unwrap().to_owned(), node["body"].clone()))
        .collect();
    assert_eq!(kept.len(), acked.len());
    kept
}

/// One line that says what is wrong, and of which file.
#[track_caller]
fn says_full(run: &Run) -> &str {
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("keepstone: no space"), "{}", run.stderr);
    let names = |part: &str| run.stderr.contains(part);
    assert!(names("/store/log/") || names("the page file has no room"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    &run.stderr
}

/// Everything acknowledged is there, to the byte; what is there beside it was sent.
#[track_caller]
fn holds(disk: &SmallDisk, kept: &BTreeMap<String, Value>) {
    let exported = disk.ok(&["export"], "");
    let there: BTreeMap<_, _> = json_lines(&exported)
        .into_iter()
        .map(|node| (node["key"].as_str().unwrap().to_owned(), node["body"].clone()))
        .collect();
    assert!(there == *kept, "{} nodes there, {} acknowledged", there.len(), kept.len());
    let (key, body) = kept.first_key_value().unwrap();
    assert_eq!(json(&disk.ok(&["get", key], ""))["body"], *body);
}

/// Fills the disk with nodes of a length, twice, with room in between.
fn check(len: usize) {
    let Some(disk) = small_disk() else { return };
    std::fs::write(disk.filler(), vec![7; DISK_BYTES / 3]).unwrap();
    disk.ok(&["init"], "");
    let mut kept = fill(&disk, 0, len);
    holds(&disk, &kept);
    // Full: a second command is told the same, and takes nothing away.
    let bulk = line(1, 0, DISK_BYTES / 2);
    says_full(&disk.run(&["import", "-"], &bulk));
    holds(&disk, &kept);
    std::fs::remove_file(disk.filler()).unwrap();
    disk.ok(&["import", "-"], &line(2, 0, len));
    disk.ok(&["import", "-"], &line(2, 1, len));
    for number in 0..2 {
        let node = json(&line(2, number, len));
        kept.insert(node["key"].as_str().unwrap().to_owned(), node["body"].clone());
    }
    holds(&disk, &kept);
    kept.extend(fill(&disk, 3, len));
    holds(&disk, &kept);
    disk.ok(&["check"], "");
}

#[test]
fn a_disk_filled_with_small_nodes_loses_nothing_and_goes_on_when_there_is_room() {
    check(20_000);
}

#[test]
fn a_disk_filled_with_large_bodies_loses_nothing_and_goes_on_when_there_is_room() {
    check(600_000);
}
