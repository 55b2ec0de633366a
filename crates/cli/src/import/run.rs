//! The import: lines into batches, batches into durable commits, one writer or several, each commit acknowledged.
//!
//! * Lines of one key go to one writer, in their order.
//! * A bad line ends the import; every line before it is committed first.
//! * Memory does not grow with the input: a batch ends at so many lines or bytes, whichever comes first, and what was read
//!   and is not committed is at most [`WAITING_BYTES_MAX`] and one line. What is committed and fills the store's memory is
//!   folded before more is read.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Instant;

use keepstone::{Store, Version};

use super::apply::{BatchError, Target};
use super::input::{Input, Numbered};
use crate::args::ImportArgs;
use crate::exit::{Failure, Outcome};
use crate::json;
use crate::output::{self, count, duration};
use crate::session::Session;

/// What helps whoever mends a bad line.
const BEFORE: &str = "every line before it is in the store";

/// Bytes of text in one commit, beyond its last line.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// Bytes of text that were read and are not committed, all writers together, beyond one line.
const WAITING_BYTES_MAX: u64 = 32 << 20;

/// Bytes of text that a writer commits before it looks again whether the store keeps up.
const LOOK_BYTES: u64 = 1 << 20;

/// Batches that wait for a writer.
const WAITING_BATCHES_MAX: usize = 16;

/// Runs the command.
pub(crate) fn run(session: &Session, args: &ImportArgs) -> Outcome {
    let started = Instant::now();
    let mut input = Input::open(&args.file, args.format)?;
    let store = session.open_or_create()?;
    let job = Job {
        store: &store,
        collection: session.collection_name(),
        input_name: input.name().to_owned(),
        batch: usize::try_from(args.batch).unwrap_or(usize::MAX),
        ack: args.ack,
    };
    let done = match args.writers {
        0 | 1 => job.alone(&mut input),
        writers => job.shared(&mut input, usize::from(writers)),
    };
    drop(input);
    let version = store.visible_version();
    let closed = store.close();
    // What stopped the import matters more than what closing says.
    let done = done?;
    closed?;
    if !args.ack {
        let (lines, commits) = (count(done.lines, "line", "lines"), count(done.commits, "commit", "commits"));
        output::say(format_args!(
            "imported {lines} in {commits}, version {version} ({})",
            duration(started.elapsed())
        ))?;
    }
    Ok(())
}

/// What was committed.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    lines: u64,
    commits: u64,
}

/// What every writer needs to know.
struct Job<'a> {
    store: &'a Store,
    collection: &'a str,
    input_name: String,
    batch: usize,
    ack: bool,
}

impl Job<'_> {
    /// One writer: this thread.
    fn alone(&self, input: &mut Input) -> Outcome<Done> {
        let mut writer = Writer::new(self);
        let mut batch = Batch::default();
        loop {
            let next = input.next();
            let is_over = !matches!(next, Ok(Some(_)));
            if let Ok(Some(numbered)) = next {
                batch.push(numbered);
            } else if let Err(bad) = next {
                writer.commit(&batch.lines)?;
                return Err(bad.help(BEFORE));
            }
            if is_over || batch.is_full(self.batch) {
                writer.commit(&mem::take(&mut batch).lines)?;
            }
            if is_over {
                return Ok(writer.done);
            }
        }
    }

    /// Several writers, fed by this thread.
    fn shared(&self, input: &mut Input, writers: usize) -> Outcome<Done> {
        thread::scope(|scope| {
            let (senders, threads): (Vec<_>, Vec<_>) = (0..writers)
                .map(|_| {
                    let (sender, receiver) = sync_channel(WAITING_BATCHES_MAX);
                    (sender, scope.spawn(|| self.write_all(receiver)))
                })
                .unzip();
            let fed = self.feed(input, Feeder::new(senders, self.batch));
            let mut done = Done::default();
            let mut failed = None;
            for thread in threads {
                match thread.join() {
                    Ok(Ok(part)) => {
                        done.lines = done.lines.saturating_add(part.lines);
                        done.commits = done.commits.saturating_add(part.commits);
                    }
                    Ok(Err(failure)) => failed = failed.or(Some(failure)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failed.map_or_else(|| fed.map(|()| done).map_err(|bad| bad.help(BEFORE)), Err)
        })
    }

    /// Hands each line to the writer of its key. Ends early when a writer has stopped.
    fn feed(&self, input: &mut Input, mut feeder: Feeder) -> Outcome {
        let mut fed = Ok(());
        loop {
            match input.next() {
                Ok(Some(numbered)) => {
                    let writer = self.writer_of(&numbered, feeder.senders.len());
                    if !feeder.take(writer, numbered) {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(bad) => {
                    fed = Err(bad);
                    break;
                }
            }
        }
        feeder.hand_over_all();
        fed
    }

    fn writer_of(&self, numbered: &Numbered, writers: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        numbered.line.collection.as_deref().unwrap_or(self.collection).hash(&mut hasher);
        numbered.line.key.hash(&mut hasher);
        let writers = u64::try_from(writers).unwrap_or(1).max(1);
        usize::try_from(hasher.finish() % writers).unwrap_or(0)
    }

    /// The life of one of several writers: until there are no more batches, or one cannot be written.
    fn write_all(&self, receiver: Receiver<Handed>) -> Outcome<Done> {
        let mut writer = Writer::new(self);
        for handed in receiver {
            writer.commit(&handed.batch.lines)?;
        }
        Ok(writer.done)
    }
}

/// Lines that go into one commit.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<Numbered>,
    bytes: u64,
}

impl Batch {
    fn push(&mut self, numbered: Numbered) {
        self.bytes = self.bytes.saturating_add(numbered.bytes);
        self.lines.push(numbered);
    }

    fn is_full(&self, lines_max: usize) -> bool {
        self.lines.len() >= lines_max || self.bytes >= BATCH_BYTES_MAX
    }
}

/// A batch on its way to a writer. Dropping it, committed or not, gives its bytes back.
struct Handed {
    batch: Batch,
    gone: Sender<u64>,
}

impl Drop for Handed {
    fn drop(&mut self) {
        // Nobody counts any more when the input is at its end.
        self.gone.send(self.batch.bytes).unwrap_or_default();
    }
}

/// Gathers the lines of each writer into batches.
struct Feeder {
    senders: Vec<SyncSender<Handed>>,
    batches: Vec<Batch>,
    batch_lines: usize,
    /// Bytes that were read and are not committed.
    waiting: u64,
    gone: (Sender<u64>, Receiver<u64>),
}

impl Feeder {
    fn new(senders: Vec<SyncSender<Handed>>, batch_lines: usize) -> Self {
        let batches = senders.iter().map(|_| Batch::default()).collect();
        Self { senders, batches, batch_lines, waiting: 0, gone: channel() }
    }

    /// Takes a line for a writer; false when a writer has stopped.
    fn take(&mut self, writer: usize, numbered: Numbered) -> bool {
        while let Ok(bytes) = self.gone.1.try_recv() {
            self.waiting = self.waiting.saturating_sub(bytes);
        }
        if self.waiting >= WAITING_BYTES_MAX {
            // What was not handed over will never be given back, so nothing may be held here.
            if !self.hand_over_all() {
                return false;
            }
            while self.waiting >= WAITING_BYTES_MAX {
                let Ok(bytes) = self.gone.1.recv() else { return false };
                self.waiting = self.waiting.saturating_sub(bytes);
            }
        }
        self.waiting = self.waiting.saturating_add(numbered.bytes);
        let Some(batch) = self.batches.get_mut(writer) else { return false };
        batch.push(numbered);
        !batch.is_full(self.batch_lines) || self.hand_over(writer)
    }

    /// Hands what was gathered to a writer; false when it has stopped.
    fn hand_over(&mut self, writer: usize) -> bool {
        let Some((sender, batch)) = self.senders.get(writer).zip(self.batches.get_mut(writer)) else {
            return false;
        };
        let batch = mem::take(batch);
        batch.lines.is_empty() || sender.send(Handed { batch, gone: self.gone.0.clone() }).is_ok()
    }

    fn hand_over_all(&mut self) -> bool {
        // Every writer gets its lines, also when one before it has stopped.
        let mut all = true;
        for writer in 0..self.senders.len() {
            all &= self.hand_over(writer);
        }
        all
    }
}

/// Commits batches.
struct Writer<'a> {
    job: &'a Job<'a>,
    target: Target,
    done: Done,
    /// Bytes of text committed since it was looked last whether the store keeps up.
    unlooked: u64,
}

impl<'a> Writer<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        let target = Target::new(job.store.clone(), job.collection);
        Self { job, target, done: Done::default(), unlooked: 0 }
    }

    /// Folds what is in memory when that is more than the store wants there: it slows commits, and does not stop them.
    fn keep_up(&mut self, batch: &[Numbered]) -> Outcome {
        let bytes = batch.iter().fold(0, |sum: u64, numbered| sum.saturating_add(numbered.bytes));
        self.unlooked = self.unlooked.saturating_add(bytes);
        if self.unlooked < LOOK_BYTES {
            return Ok(());
        }
        self.unlooked = 0;
        let store = self.job.store;
        if store.reconciler_stats().utilisation > 1.0 {
            store.checkpoint()?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: &[Numbered]) -> Outcome {
        match self.target.commit(batch) {
            Ok(version) => self.committed(version, batch).and_then(|()| self.keep_up(batch)),
            Err(BatchError::Line { place, reason }) => {
                let (good, bad) = batch.split_at(place);
                let failure = Failure::error(reason).place(&self.job.input_name);
                let failure =
                    bad.iter().take(1).fold(failure, |f, bad| f.place(format!("line {}", bad.number)));
                let version = self.target.commit(good)?;
                self.committed(version, good)?;
                Err(failure)
            }
            Err(error) => {
                let is_too_large = error.is_too_large();
                let failure = Failure::from(error);
                Err(if is_too_large {
                    failure.help("a smaller --batch makes smaller commits")
                } else {
                    failure
                })
            }
        }
    }

    fn committed(&mut self, version: Version, batch: &[Numbered]) -> Outcome {
        let Some(last) = batch.last() else { return Ok(()) };
        self.done.commits = self.done.commits.saturating_add(1);
        self.done.lines = self.done.lines.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        if self.job.ack { acknowledge(version, &last.line.key) } else { Ok(()) }
    }
}

/// Says on a line of its own that a commit is durable.
fn acknowledge(version: Version, key: &str) -> Outcome {
    let line = format!("ack {version} {}\n", quoted_if_needed(key));
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    // Unlike the reader of an export, one who asked for acknowledgements and has gone does not have all it wanted.
    written.map_err(|error| Failure::io("an acknowledgement cannot be written; the import stopped", &error))
}

/// A key as it stands in an acknowledgement.
fn quoted_if_needed(key: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\'';
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { json::quoted(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(key: &str, bytes: u64) -> Numbered {
        let line = crate::import::line::Line::parse(format!("{{\"key\":{key:?}}}").as_bytes()).unwrap();
        Numbered { number: 1, line, bytes }
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_given_back() {
        let (sender, receiver) = sync_channel(WAITING_BATCHES_MAX);
        let mut feeder = Feeder::new(vec![sender], 1_000_000);
        let (line, lines) = (WAITING_BYTES_MAX / 40, 200_u64);
        let writer = thread::spawn(move || {
            let (mut lines, mut bytes_max) = (0_usize, 0);
            for handed in receiver {
                lines += handed.batch.lines.len();
                bytes_max = bytes_max.max(handed.batch.bytes);
            }
            (lines, bytes_max)
        });
        for _ in 0..lines {
            assert!(feeder.take(0, numbered("k", line)));
            assert!(feeder.waiting <= WAITING_BYTES_MAX + line, "{} bytes wait", feeder.waiting);
        }
        assert!(feeder.hand_over_all());
        drop(feeder);
        let (found, bytes_max) = writer.join().unwrap();
        assert_eq!(found, 200);
        assert!(bytes_max <= BATCH_BYTES_MAX + line, "a batch of {bytes_max} bytes");
    }

    #[test]
    fn a_writer_that_stopped_ends_the_feeding() {
        let (sender, receiver) = sync_channel(WAITING_BATCHES_MAX);
        let mut feeder = Feeder::new(vec![sender], 1);
        drop(receiver);
        assert!(!feeder.take(0, numbered("k", WAITING_BYTES_MAX)));
        // What could not be handed over is no longer waited for.
        assert_eq!(feeder.gone.1.recv().unwrap(), WAITING_BYTES_MAX);
    }

    #[test]
    fn a_key_is_quoted_when_it_could_be_misread() {
        for (key, expected) in [
            ("serde@1.0.0", "serde@1.0.0"),
            ("größe", "größe"),
            ("a b", "\"a b\""),
            ("a\u{a0}b", "\"a\u{a0}b\""),
            ("a\"b", r#""a\"b""#),
            ("it's", "\"it's\""),
            ("a\nb", r#""a\nb""#),
            ("\u{7f}", "\"\u{7f}\""),
            ("back\\slash", "back\\slash"),
            ("", "\"\""),
        ] {
            assert_eq!(quoted_if_needed(key), expected);
        }
    }
}
