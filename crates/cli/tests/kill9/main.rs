//! Kill -9 in the middle of `import --batch 1 --ack`: every acknowledged line is there afterwards, to the byte, nothing
//! is there that was not sent, and `check` finds nothing. Two of the ways keep little in memory, so that checkpoints follow
//! each other and kills land in them.
//!
//! `KEEPSTONE_KILL_ROUNDS` says how many kills (12 unless said otherwise), `KEEPSTONE_KILL_SEED` repeats the choice of
//! their moments. A kill comes after so many acknowledgements, while lines are still being fed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// Stores are used for so many kills, each time recovered and continued, before a fresh one is begun.
const KILLS_PER_STORE: u64 = 5;

const ROUNDS_DEFAULT: u64 = 12;

/// A process that says nothing for so long hangs, which is a failure.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One way to import.
#[derive(Clone, Copy, Debug)]
struct Way {
    body_bytes: usize,
    writers: u64,
    /// A kill comes after at most so many acknowledgements.
    acks_max: u64,
    /// Bytes in memory that make a checkpoint due, and keys that it folds in one go; `None` for what is usual.
    checkpoint: Option<(&'static str, &'static str)>,
}

const WAYS: [Way; 4] = [
    Way { body_bytes: 40, writers: 1, acks_max: 300, checkpoint: Some(("4096", "8")) },
    Way { body_bytes: 40, writers: 4, acks_max: 600, checkpoint: None },
    Way { body_bytes: 64 << 10, writers: 1, acks_max: 60, checkpoint: None },
    Way { body_bytes: 64 << 10, writers: 4, acks_max: 120, checkpoint: Some(("524288", "4")) },
];

/// A small generator of numbers (SplitMix64).
#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn up_to(&mut self, max: u64) -> u64 {
        1 + self.next() % max
    }
}

/// A temporary folder that stays when the test fails, to be looked at.
struct Kept(TempDir);

impl Kept {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.disable_cleanup(true);
            let kept = self.0.path().display();
            writeln!(std::io::stderr(), "the store is kept in {kept}").unwrap_or_default();
        }
    }
}

/// What a store has been through.
#[derive(Default)]
struct Account {
    acked: BTreeSet<String>,
    /// What is there beyond what was acknowledged: it reached the disk, and the kill came before its line was read.
    unread: usize,
}

fn keepstone(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstone"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEPSTONE_")) {
        command.env_remove(name);
    }
    command.arg("-s").arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The line of a key, exactly as `export` writes it.
fn line(key: &str, way: Way) -> String {
    let mut random = Random(key.bytes().fold(7, |hash, byte| hash * 31 % (1 << 40) + u64::from(byte)));
    let mut text = String::with_capacity(way.body_bytes + 16);
    while text.len() < way.body_bytes {
        text.push_str(&format!("{:016x}", random.next()));
    }
    format!(
        "{{\"body\":{{\"key\":\"{key}\",\"text\":\"{text}\"}},\"collection\":\"default\",\"key\":\"{key}\"}}"
    )
}

/// Imports until so many lines are acknowledged, then kills; returns the keys acknowledged.
fn import_and_kill(dir: &Path, way: Way, round: u64, acks: u64) -> Vec<String> {
    let writers = way.writers.to_string();
    let mut command = keepstone(dir);
    if let Some((bytes, keys)) = way.checkpoint {
        command.env("KEEPSTONE_CHECKPOINT_MEMORY_BYTES", bytes).env("KEEPSTONE_CHECKPOINT_SLICE_KEYS", keys);
    }
    let mut child = command
        .args(["import", "-", "--batch", "1", "--ack", "--writers", &writers])
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdin = BufWriter::new(child.stdin.take().unwrap());
    let feeder = thread::spawn(move || {
        // Ends when nobody reads any more: the pipe breaks.
        let mut number = 0_u64;
        while writeln!(stdin, "{}", line(&format!("r{round}-{number}"), way)).is_ok() {
            number += 1;
        }
        // What is left in the buffer has nowhere to go.
        drop(stdin.into_parts());
    });
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || read_lines(stdout, &sender));
    let mut keys = Vec::new();
    loop {
        match lines.recv_timeout(SILENCE_MAX) {
            Ok(ack) => keys.push(key_of(&ack)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("the import hangs after {} acknowledgements of round {round}, {way:?}", keys.len());
            }
        }
        if u64::try_from(keys.len()).unwrap() == acks {
            child.kill().unwrap();
        }
    }
    reader.join().unwrap();
    let status = child.wait().unwrap();
    feeder.join().unwrap();
    assert!(u64::try_from(keys.len()).unwrap() >= acks, "{status}: {} acknowledgements", keys.len());
    #[cfg(unix)]
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    keys
}

/// Hands over every whole line; one that the kill cut off acknowledges nothing.
fn read_lines(mut stdout: impl BufRead, lines: &Sender<String>) {
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        lines.send(std::mem::take(&mut line)).unwrap();
    }
}

/// The key in an acknowledgement.
fn key_of(ack: &str) -> String {
    let parts: Vec<&str> = ack.trim_end().split(' ').collect();
    assert!(parts.len() == 3 && parts[0] == "ack", "{ack:?}");
    parts[2].to_owned()
}

/// Runs a command that must succeed.
fn ok(dir: &Path, args: &[&str]) -> String {
    let mut command = keepstone(dir);
    command.args(args);
    let (sender, output) = mpsc::channel();
    thread::spawn(move || sender.send(command.output().unwrap()));
    let output = output.recv_timeout(SILENCE_MAX).unwrap_or_else(|_| panic!("{args:?} hangs"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Reopens the store and holds what is there against what was acknowledged.
fn verify(dir: &Path, way: Way, account: &mut Account, sample: &[String]) {
    let exported = ok(dir, &["export"]);
    let mut there = BTreeMap::new();
    for found in exported.lines() {
        let (_, key) = found.rsplit_once("\"key\":\"").unwrap();
        let key = key.strip_suffix("\"}").unwrap();
        // Neither torn, nor mixed, nor invented.
        assert!(found == line(key, way), "the content of {key} differs");
        there.insert(key.to_owned(), ());
    }
    let lost: Vec<_> = account.acked.iter().filter(|key| !there.contains_key(*key)).collect();
    assert!(lost.is_empty(), "{} acknowledged lines are lost: {lost:?}", lost.len());
    account.unread = there.len() - account.acked.len();
    for key in sample {
        assert!(ok(dir, &["get", key]) == format!("{}\n", line(key, way)), "get {key}");
    }
    ok(dir, &["check"]);
}

/// Whether a checkpoint was begun at least: rows are in the page file.
fn has_folded(dir: &Path) -> bool {
    let stats = ok(dir, &["stats", "--json"]);
    let (_, rows) = stats.split_once("\"page_rows\":").unwrap();
    !rows.starts_with("0,")
}

fn number_of(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: expected a number")))
}

#[test]
fn every_acknowledged_line_survives_kill_9() {
    let rounds = number_of("KEEPSTONE_KILL_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number_of("KEEPSTONE_KILL_SEED").unwrap_or_else(clock);
    println!("kill -9: {rounds} rounds, KEEPSTONE_KILL_SEED={seed}");
    let began = Instant::now();
    let mut random = Random(seed);
    let (mut acked_in_all, mut unread_in_all) = (0, 0);
    for (place, way) in (0_u64..).zip(WAYS) {
        // The rounds are split over the ways, the first ones taking what is left over.
        let ways = u64::try_from(WAYS.len()).unwrap();
        let rounds = rounds / ways + u64::from(place < rounds % ways);
        let (mut acked, mut unread, mut folded) = (0, 0, 0);
        let mut folder = Kept::new();
        let mut account = Account::default();
        for round in 0..rounds {
            if round % KILLS_PER_STORE == 0 {
                (acked, unread) = (acked + account.acked.len(), unread + account.unread);
                folder = Kept::new();
                account = Account::default();
            }
            let dir = folder.0.path().join("store");
            let keys = import_and_kill(&dir, way, round, random.up_to(way.acks_max));
            let sample = [keys[0].clone(), keys[keys.len() - 1].clone()];
            account.acked.extend(keys);
            folded += u64::from(has_folded(&dir));
            verify(&dir, way, &mut account, &sample);
        }
        (acked, unread) = (acked + account.acked.len(), unread + account.unread);
        println!(
            "  bodies of {} bytes, {} writers: {rounds} kills, {acked} lines acknowledged and there, {unread} more there, \
             {folded} with rows in the page file",
            way.body_bytes, way.writers
        );
        assert!(
            folded > 0 || way.checkpoint.is_none() || rounds == 0,
            "no checkpoint was made before any kill"
        );
        (acked_in_all, unread_in_all) = (acked_in_all + acked, unread_in_all + unread);
    }
    println!(
        "kill -9: {rounds} kills, {acked_in_all} lines acknowledged, 0 lost, {unread_in_all} more there, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(u64::try_from(acked_in_all).unwrap() >= rounds);
}
