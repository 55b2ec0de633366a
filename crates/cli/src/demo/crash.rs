//! A process that is committing is killed hard, and every commit that it acknowledged is looked for afterwards.
//!
//! The child is this very program: `import - --batch 1 --writers 4 --ack`, fed without end, so that it is in the middle
//! of committing whenever it is killed.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher as _;
use std::io::{BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use keepstone::{Store, Version};
use serde_json::{Value, json};

use crate::exit::{Failure, Outcome};
use crate::json;
use crate::session;

/// The collection that the child writes to.
const JOURNAL: &str = "journal";

/// Acknowledgements before the kill, at least, and how many more chance may add.
const ACKS_MIN: u64 = 200;
const ACKS_SPREAD: u64 = 200;

/// How long the child may keep silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A commit that the child acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ack {
    version: Version,
    key: String,
}

/// What the child acknowledged before it was killed.
#[derive(Debug)]
pub(super) struct Killed {
    acks: Vec<Ack>,
    notes: Vec<String>,
    /// How the operating system says it ended.
    pub(super) status: ExitStatus,
}

/// What was found after recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) acked: u64,
    pub(super) recovered: u64,
    pub(super) lost: u64,
    /// Commits that reached the disk before their acknowledgement could be read.
    pub(super) unacknowledged: u64,
}

/// Starts the child on the store, kills it in the middle of committing, and returns what it had acknowledged. `notes`
/// are the texts it is given to store.
pub(super) fn kill_while_committing(dir: &Path, notes: Vec<String>) -> Outcome<Killed> {
    let mut child = start(dir)?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let feeder = input.map(|input| {
        let notes = notes.clone();
        thread::spawn(move || feed(input, &notes))
    });
    let acks = output.map(read_lines);
    let wanted = ACKS_MIN + RandomState::new().hash_one(std::process::id()) % ACKS_SPREAD;
    let mut heard = Vec::new();
    let waited = acks.as_ref().map_or(Ok(()), |acks| hear(acks, wanted, &mut heard));
    // Killed whatever happened: a child must not outlive the demo.
    let killed = child.kill();
    let status =
        child.wait().map_err(|error| Failure::io("the killed process cannot be waited for", &error))?;
    waited.map_err(|failure| failure.place(format!("the child ended with {status}")))?;
    killed.map_err(|error| Failure::io("the committing process cannot be killed", &error))?;
    // What it had written before it died was acknowledged too.
    heard.extend(acks.into_iter().flat_map(|acks| acks.into_iter()));
    if let Some(feeder) = feeder {
        // It ends by itself when nobody reads; what it could not deliver does not matter.
        feeder.join().unwrap_or_default();
    }
    let acks = heard.iter().map(|line| parse_ack(line)).collect::<Outcome<Vec<Ack>>>()?;
    Ok(Killed { acks, notes, status })
}

fn start(dir: &Path) -> Outcome<Child> {
    let cannot = |error: std::io::Error| Failure::io("the committing process cannot be started", &error);
    let program = env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command.arg("-s").arg(dir).args([
        "-C",
        JOURNAL,
        "import",
        "-",
        "--batch",
        "1",
        "--writers",
        "4",
        "--ack",
    ]);
    // What the person set for stores of their own must not make this one less durable.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEPSTONE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(cannot)
}

/// Writes lines until nobody reads them any more.
fn feed(input: impl Write, notes: &[String]) {
    let mut input = BufWriter::new(input);
    let mut number = 0;
    // The pipe breaks when the child dies: that is how this ends.
    while input.write_all(note_line(number, notes).as_bytes()).is_ok() {
        number += 1;
    }
}

/// The lines of the child as they come; a line that was cut off is none.
fn read_lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Waits for so many acknowledgements.
fn hear(acks: &Receiver<String>, wanted: u64, heard: &mut Vec<String>) -> Outcome {
    for _ in 0..wanted {
        let line = acks.recv_timeout(SILENCE_MAX).map_err(|_| {
            Failure::error("the committing process stopped acknowledging")
                .expected(format!("{wanted} acknowledgements"))
                .found(heard.len())
        })?;
        heard.push(line);
    }
    Ok(())
}

fn parse_ack(line: &str) -> Outcome<Ack> {
    let bad =
        || Failure::error("an acknowledgement cannot be read").expected("ack VERSION KEY").found(line.trim());
    let rest = line.trim_end_matches('\n').strip_prefix("ack ").ok_or_else(bad)?;
    let (version, key) = rest.split_once(' ').ok_or_else(bad)?;
    Ok(Ack { version: version.parse().map_err(|_| bad())?, key: key.to_owned() })
}

fn note_key(number: u64) -> String {
    format!("note-{number}")
}

fn note_body(number: u64, notes: &[String]) -> Value {
    let count = u64::try_from(notes.len()).unwrap_or(1).max(1);
    let text = usize::try_from(number % count).ok().and_then(|place| notes.get(place));
    json!({"number": number, "text": text})
}

fn note_line(number: u64, notes: &[String]) -> String {
    let body = json::text(&note_body(number, notes));
    format!("{{\"body\":{body},\"key\":{}}}\n", json::quoted(&note_key(number)))
}

impl Killed {
    /// Looks for every acknowledged commit in the recovered store: the very content, at the very version.
    pub(super) fn look_for(&self, store: &Store) -> Outcome<Found> {
        let journal = session::open_collection(store, JOURNAL)?;
        let mut recovered = 0;
        for ack in &self.acks {
            let number = ack.key.strip_prefix("note-").and_then(|number| number.parse().ok());
            let expected = number.map(|number| note_body(number, &self.notes));
            // A version that is not there is a lost commit, not an error of the demo.
            let stored =
                store.at(ack.version).ok().map(|then| journal.get(&then, &ack.key)).transpose()?.flatten();
            if expected.is_some() && stored == expected && journal.get(store, &ack.key)? == expected {
                recovered += 1;
            }
        }
        let acked = u64::try_from(self.acks.len()).unwrap_or(u64::MAX);
        let stored = journal.len(store)?;
        let (lost, unacknowledged) = (acked.saturating_sub(recovered), stored.saturating_sub(acked));
        Ok(Found { acked, recovered, lost, unacknowledged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_read_back() {
        let ack = parse_ack("ack 2:17 note-5\n").unwrap();
        assert_eq!((ack.version.to_string().as_str(), ack.key.as_str()), ("2:17", "note-5"));
        for line in ["ack 17\n", "nack 17 a\n", "ack x a\n"] {
            assert!(parse_ack(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_acknowledgement() {
        let lines: Vec<String> = read_lines(&b"ack 1 a\nack 2 b\nack 3"[..]).into_iter().collect();
        assert_eq!(lines, ["ack 1 a\n", "ack 2 b\n"]);
    }

    #[test]
    fn notes_are_the_same_whoever_asks() {
        let notes = ["one".to_owned(), "two".to_owned()];
        assert_eq!(note_line(3, &notes), "{\"body\":{\"number\":3,\"text\":\"two\"},\"key\":\"note-3\"}\n");
        assert_eq!(note_body(0, &[]), json!({"number": 0, "text": null}));
    }
}
